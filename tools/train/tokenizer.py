"""tokenizer.py - train the tokenizer: byte-level BPE, split as SmolLM splits.

    python tokenizer.py --data DIR --out FOLDER

Writes tokenizer.json and tokenizer_config.json (with the chat template) as
Hugging Face reads them. In GGUF its pre-tokenizer is called "smollm".

SPDX-License-Identifier: MIT
"""

import argparse
import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import corpus

VOCABULARY = 6144

# Ids 0 to 3. BOS is the first token of every window; it also ends a document.
# The sink token stands in front of every window in one of the two variants
# (notes.md); no text holds it.
BOS, START, END, SINK = SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|sink|>"]
BOS_ID, START_ID, END_ID, SINK_ID = range(4)

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content']"
    " + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def sample(data, megabytes):
    """Text that stands for the mixture: books, textbooks, stories, chat."""
    shares = {"books_a": 0.50, "books_b": 0.24, "textbooks": 0.08,
              "tinystories": 0.05, "storybooks": 0.02}
    for stream, share in shares.items():
        left = int(share * megabytes * 1e6)
        documents = corpus.documents(data, stream)
        # A slice of every book is a better sample than a few whole books.
        per_document = max(1, left // len(documents))
        for document in documents:
            middle = max(0, len(document) - per_document) // 2
            yield document[middle:middle + per_document]
    for stream in corpus.DIALOGUES:
        for index, messages in enumerate(corpus.dialogues(data, stream)):
            if stream == "sgd" and index % 2:
                continue
            for message in messages:
                yield message["content"]


def train(texts, size=VOCABULARY):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def config(bos=BOS):
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": True,
        "add_prefix_space": False,
        "bos_token": bos,
        "eos_token": END,
        "pad_token": BOS,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "additional_special_tokens": [START, END, SINK],
        "chat_template": CHAT_TEMPLATE,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0].split(" - ")[1])
    parser.add_argument("--data", required=True, help="folder of the texts")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--megabytes", type=float, default=60)
    arguments = parser.parse_args()

    tokenizer = train(sample(arguments.data, arguments.megabytes))
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(
        json.dumps(config(), indent=2) + "\n")
    print(f"{tokenizer.get_vocab_size()} entries -> {out}")


if __name__ == "__main__":
    main()
