"""quality_talks.py - the two measurements of quality.py that talk with the model.

Both give `weir chat --json` a message a line, and read the replies.

SPDX-License-Identifier: MIT
"""

import json
import random
import subprocess
import sys
from pathlib import Path

import quality_plots as plots

FILLERS = ["What colour is the sky?", "How many legs does a dog have?", "What does a cow say?",
           "What is the opposite of hot?", "Where do fish live?", "What is your name?",
           "What is ice?", "What do bees make?", "How are you?", "What comes after Monday?",
           "What is a weir?", "What does a duck say?", "Do you like books?", "What is rain?"]
THINGS = [f"{colour} {thing}" for colour in "red blue green black white golden".split()
          for thing in "box door key chest house gate".split()]
DISTANCES = [0, 2, 5, 10, 20, 40, 60]
TRIALS = 8

TURNS = 200
ASKS = ["Hello!", "What is your name?", "How are you?", "Tell me a story about a {}.",
        "Tell me a story.", "Go on.", "What happened next?", "Thank you!", "I am tired.",
        "What colour is the sky?", "Can you tell me a story about a {}?", "What can you do?",
        "My name is Peter.", "What is my name?", "I am bored.", "How long can we talk?",
        "What is the capital of France?", "I like the {}.", "What do you think of a {}?", "Yes.",
        "Why?", "I do not understand.", "Good night.", "What is a weir?", "Are you a robot?"]
ABOUT = ["dog", "king", "fox", "princess", "ship", "mountain", "clock", "river", "teacher",
         "dragon", "bird", "garden", "baker", "moon", "horse"]


def hold(bench, name, messages, *options):
    """The replies to the messages, as weir reports them; kept in --work."""
    table = bench.work / f"{name}.jsonl"
    if not table.exists():
        print(f"    {name} ...", flush=True)
        part = table.with_suffix(".part")
        line = [bench.weir, "chat", bench.model, "--json", "-q", *options]
        with open(part, "w") as file:
            done = subprocess.run(line, input="\n".join(messages) + "\n", stdout=file,
                                  stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(f"quality.py: {' '.join(line)}: {done.stderr.strip()}")
        Path(part).rename(table)
    lines = table.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def recall(bench):
    """StreamEval in small: told a number, then other talk, then asked for it.  One chat a distance,
    trial after trial, as a stream would go."""
    rows = []
    for turns in DISTANCES:
        rng = random.Random(turns)
        messages, answers = [], {}
        told = {}
        for thing in rng.sample(THINGS, TRIALS):
            number = str(rng.randint(100, 999))
            told[thing] = len(messages)
            messages.append(f"The number of the {thing} is {number}.")
            messages += [rng.choice(FILLERS) for _ in range(turns)]
            answers[len(messages)] = (told[thing], number)
            messages.append(f"What is the number of the {thing}?")
        replies = hold(bench, f"recall_{turns}", messages, "--temp", "0", "-n", "60")
        assert len(replies) == len(messages)
        gaps, right = [], 0
        for asked, (begin, number) in answers.items():
            gaps.append(replies[asked]["stats"]["position"] - replies[begin]["stats"]["position"])
            right += number in replies[asked]["content"]
        rows.append([turns, round(sum(gaps) / len(gaps)), len(answers), right / len(answers)])
    bench.table("recall", ["turns between", "tokens between", "trials", "answered right"], rows)
    plots.recall(bench.out)


def chat(bench):
    """200 turns in one window after the other; every way to fail is counted."""
    rng = random.Random(4)
    messages = [rng.choice(ASKS).format(rng.choice(ABOUT)) for _ in range(TURNS)]
    replies = hold(bench, "chat", messages, "--temp", "0.7", "--seed", "4", "-n", "300")
    stats = replies[-1]["stats"]
    texts = [r["content"] for r in replies]
    named = [t for m, t in zip(messages, texts) if m == "What is your name?"]
    count = lambda end: sum(r["end"] == end for r in replies)
    bench.table("chat", ["what", "count"], [
        ["turns", len(replies)],
        ["tokens of the whole conversation", stats["position"]],
        ["windows of it", round(stats["position"] / stats["window"], 1)],
        ["replies the model ended itself", count("turn")],
        ["replies the loop guard ended", count("loop")],
        ["loops it saw", stats["loops"]],
        ["replies cut off after 300 tokens", count("length")],
        ["empty replies", sum(not t.strip() for t in texts)],
        ["replies with marks of the template", sum("<|" in t for t in texts)],
        ["different replies", len(set(texts))],
        ["mean tokens of a reply", round(sum(r["tokens"] for r in replies) / len(replies), 1)],
        ["asked its name", len(named)],
        ["said Weir", sum("Weir" in t for t in named)]])
