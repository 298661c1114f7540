"""corpus.py - reading the raw texts: books, stories and dialogues as plain Python strings.

Nothing here knows about tokens; data.py turns what these functions yield into
token streams.

SPDX-License-Identifier: MIT
"""

import json
import lzma
import re
from collections import Counter
from pathlib import Path

SEPARATOR = "<|endoftext|>"

# The folder layout of --data, and the name each text stream gets.
TEXTS = {
    "books_a": "text/train_a_simple.txt.xz",
    "books_b": "text/train_b_medium.txt.xz",
    "textbooks": "text/openstax.txt.xz",
    "storybooks": "text/storybooks_en_ccby.txt.xz",
    "tinystories": "text/tinystories_lower_4MB.txt.xz",
}
DIALOGUES = {
    "sgd": ["chat/sgd_train.jsonl.xz", "chat/sgd_dev.jsonl.xz"],
    "taskmaster": ["chat/taskmaster3_bc.jsonl.xz", "chat/taskmaster4.jsonl.xz"],
    "smalltalk": ["chat/ms_personality_chat.jsonl.xz",
                  "chat/chatterbot_english.jsonl.xz"],
    "gsm8k": ["chat/gsm8k_train.jsonl.xz"],
}


def read_text(path):
    """The whole of an .xz (or plain) UTF-8 file."""
    opener = lzma.open if str(path).endswith(".xz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        return file.read()


def documents(data, stream):
    """The documents of one text stream, without the separator lines."""
    text = read_text(Path(data) / TEXTS[stream])
    if stream == "tinystories":
        return [true_case(story) for story in split_tinystories(text)
                if whole(story)]
    parts = (part.strip() for part in text.split(SEPARATOR))
    return [part for part in parts if part]


# -- stories ---------------------------------------------------------------

def split_tinystories(text):
    """Paragraphs are parted by blank lines; a line right below another line
    begins the next story."""
    stories, current, previous = [], [], ""
    for line in text.split("\n"):
        line = line.strip()
        if line and previous and current:
            stories.append("\n\n".join(current))
            current = []
        if line:
            current.append(line)
        previous = line
    if current:
        stories.append("\n\n".join(current))
    return stories


FRAGMENT = re.compile(r"[\"'(]|(but|and|then|so|or|he|she|they|it|as|after|when|"
                      r"suddenly|finally|however|but,|\w+:)\b|\w+:")


def whole(story):
    """False for what is cut off in the middle or badly decoded."""
    return (len(story) >= 250 and not FRAGMENT.match(story)
            and story[-1] in '.!?"' and "\u00e2" not in story
            and "\u00c2" not in story)


# Names that the stories use without introducing them; words after "named" or
# "called" are found in each story by true_case itself.
NAMES = set("""
lily tim tom sue max ben mia sam anna lucy jack sara sarah timmy benny bob
jane john jill mary molly emma amy ann anne billy bobby daisy ella fin jim
joe kate kim kitty leo lila lisa lola mandy mark mike nick nina peter polly
ron rosie ruby sally sammy sophie susie teddy tommy tony zoe zoey jen jenny
jimmy johnny katie becky freddy jake jay lilly lulu maya mittens nemo spot
tina toby vicky rex buddy bella bingo
monday tuesday wednesday thursday friday saturday sunday
january february april june july august september october november december
christmas halloween easter english african
""".split())
NOT_NAMES = set("""
a an the it that this him her his them then and or out upon after in to by
mr mrs over up off from on for with my your our their names me you one so
mom dad mommy daddy grandma grandpa doctor girl boy bird dog cat
""".split())


def true_case(story):
    """Give a lower-cased story its capitals back: sentence starts, "I" and
    proper names. A quotation that goes on in the middle of a sentence gets a
    capital too; that is the usual style for speech."""
    names = set(re.findall(r"\b(?:named|called) ([a-z]+)\b", story)) - NOT_NAMES
    names |= NAMES

    def name(match):
        word = match.group(0)
        return word.capitalize() if word in names else word

    story = re.sub(r"\b[a-z]+\b", name, story)
    story = re.sub(r"\bi\b", "I", story)
    story = re.sub(r"\b(mr|mrs|ms|dr)\b", lambda m: m.group(1).title(), story)

    # A quote mark opens speech if white space or nothing stands before it.
    out, start = [], True
    for index, char in enumerate(story):
        if char.isalpha():
            out.append(char.upper() if start else char)
            start = False
            continue
        out.append(char)
        if char in ".!?\n":
            start = True
        elif char in ",;:" or char.isdigit():
            start = False
        elif char == '"':
            before = story[index - 1] if index else " "
            if before.isspace():
                start = True
    return soften("".join(out))


SAID = re.compile(r"([!?]\" )(He|She|They|It|The|Said|Asked|His|Her|Mom)\b"
                  r"(?= (?:said|asked|cried|shouted|replied|yelled|exclaimed|"
                  r"called|answered|whispered|mom|dad)\b)")


def soften(story):
    """'"Hello!" She said' reads '"Hello!" she said'."""
    return SAID.sub(lambda m: m.group(1) + m.group(2).lower(), story)


FAIRY = re.compile(r"^[\"']?(Once upon a time|Once there was|Once there were|"
                   r"There was once|There were once|There once was|"
                   r"There once lived|Once, |Long ago|Long, long ago|"
                   r"A long time ago|In olden times)\b")


def book_openings(documents_, most=1500):
    """Passages of the books that begin as stories do, cut at a paragraph's
    end, 500 to `most` characters long."""
    found = []
    for book in documents_:
        paragraphs = [p.strip() for p in book.split("\n\n")]
        for index, paragraph in enumerate(paragraphs):
            if not FAIRY.match(paragraph):
                continue
            passage = ""
            for following in paragraphs[index:]:
                longer = (passage + "\n\n" + following).strip()
                if len(longer) > most:
                    break
                passage = longer
            if len(passage) >= 500 and passage[-1] in '.!?"':
                found.append(" ".join(passage.split(" ")))
    return found


# -- dialogues -------------------------------------------------------------

# What would contradict the persona, or what no small model should repeat.
SKIP_IDS = ("botprofile", "politics", "tech_support", "coding", "gossip",
            "ai.yml", "computers", "money")
SKIP_WORDS = re.compile(
    r"\b(your|a|no|my) names?\b|call you|who are you|what are you|"
    r"you go by|created you|made you|sex|drunk|kill|damn|hell|stupid|"
    r"idiot|bitch|hitler|gay|marry|naked|suicide|personality_chat", re.I)


def dialogues(data, stream):
    """Lists of {"role", "content"} messages that end with an assistant."""
    for name in DIALOGUES[stream]:
        for line in read_text(Path(data) / name).split("\n"):
            if not line:
                continue
            record = json.loads(line)
            messages = record["messages"]
            if stream == "smalltalk" and not acceptable(record):
                continue
            messages = [{"role": m["role"], "content": m["content"].strip()}
                        for m in messages if m["content"].strip()]
            while messages and messages[-1]["role"] != "assistant":
                messages.pop()
            while messages and messages[0]["role"] == "assistant":
                messages.pop(0)
            if messages:
                yield messages


def acceptable(record):
    """False for small talk that another persona would say. Of the three
    styles of personality chat one, the friendly one, is kept."""
    if record["id"].startswith(SKIP_IDS):
        return False
    if record["id"].startswith("personality_chat/") \
            and not record["id"].endswith("/friend"):
        return False
    words = " ".join(m["content"] for m in record["messages"])
    return not SKIP_WORDS.search(words)


def common_words(texts, least):
    """Lower-case words that occur at least `least` times in `texts`."""
    counts = Counter()
    for text in texts:
        counts.update(re.findall(r"\b[a-z]{3,}\b", text))
    return {word for word, count in counts.items() if count >= least}
