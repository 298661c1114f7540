"""sample.py - talk with a model, or let it go on from a text.

    python sample.py --weights RUN/weights.pt --tokenizer tokenizer

SPDX-License-Identifier: MIT
"""

import argparse

import torch
from torch.nn import functional as F

from data import chat_segments, load_tokenizer
from model import load
from streaming import Streamer
from tokenizer import BOS_ID, END_ID
from train import FIRST

PROMPTS = ["Once upon a time there was a fox who",
           "The old man opened the door and"]
TALK = ["Hello!", "What is your name?", "How are you?",
        "Tell me a story about a dog.", "Thank you!", "What are you?",
        "My name is Peter.", "Tell me a story about a king.", "Go on.",
        "What is my name?", "What colour is the sky?",
        "I want to book a table in a restaurant.", "Goodbye!"]


class Generator:
    def __init__(self, model, tokenizer, temperature=0.0, top_p=0.9, seed=1):
        self.model, self.tokenizer = model, tokenizer
        self.temperature, self.top_p = temperature, top_p
        self.generator = torch.Generator().manual_seed(seed)
        self.stream = Streamer(model, 4, model.config.context)
        self.feed([FIRST[model.variant]])

    def feed(self, ids):
        hidden = self.stream.feed(torch.tensor([ids]))[0, -1]
        self.logits = F.linear(hidden, self.model.embed_tokens.weight).float()

    def feed_text(self, text):
        self.feed(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def choose(self):
        if not self.temperature:
            return int(self.logits.argmax())
        p, ids = (self.logits / self.temperature).softmax(-1).sort(descending=True)
        p[p.cumsum(-1) - p > self.top_p] = 0
        return int(ids[torch.multinomial(p, 1, generator=self.generator)])

    def write(self, most):
        """Up to `most` tokens, until the end of the reply or document."""
        out = []
        for _ in range(most):
            token = self.choose()
            self.feed([token])
            if token in (END_ID, BOS_ID):
                break
            out.append(token)
        return self.tokenizer.decode(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0].split(" - ")[1])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--most", type=int, default=250)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    model = load(arguments.weights)
    tokenizer = load_tokenizer(arguments.tokenizer)

    def start():
        return Generator(model, tokenizer, arguments.temperature,
                         seed=arguments.seed)

    for prompt in PROMPTS:
        talk = start()
        talk.feed_text(prompt)
        print(f"{prompt}{talk.write(arguments.most)}\n-----", flush=True)
    talk = start()
    for said in TALK:
        segments = chat_segments([{"role": "user", "content": said}])
        talk.feed_text("".join(text for text, _ in segments))
        talk.feed_text("<|im_start|>assistant\n")
        print(f"> {said}\n{talk.write(arguments.most)}", flush=True)
        talk.feed_text("\n")


if __name__ == "__main__":
    main()
