"""ngram.py - a 5-gram of the training texts: the yardstick that makes bits per byte mean something.

    python ngram.py --tokens-dir TOKENS --tokenizer tokenizer --data DIR --out figures.csv

Interpolated Kneser-Ney, one discount an order, over the same tokens, read on the first --most
tokens of each book. n-grams are 64-bit hashes in sorted arrays: 100 M tokens need about 8 GB.

SPDX-License-Identifier: MIT
"""

import argparse
import csv
import math
from pathlib import Path

import numpy as np

import corpus
from data import load_tokenizer

ORDER = 5
VOCABULARY = 6144
STREAMS = ["books_a", "books_b", "textbooks", "storybooks", "tinystories"]
MIX = np.uint64(0x9E3779B97F4A7C15)


def hashes(ids, n):
    """Hash of the n tokens that end at each position (from n - 1 on), [len - n + 1]."""
    out = np.zeros(len(ids) - n + 1, np.uint64)
    for back in range(n - 1, -1, -1):
        out += ids[n - 1 - back:len(ids) - back].astype(np.uint64) + np.uint64(1)
        out *= MIX
        out ^= out >> np.uint64(29)
    return out


class Order:
    """Counts of n-grams, and of their contexts: the sum and the kinds of what follows."""

    def __init__(self, grams, contexts):
        order = np.argsort(grams, kind="stable")
        grams = grams[order]
        begins = np.flatnonzero(np.append(True, grams[1:] != grams[:-1]))
        self.grams, self.first = grams[begins], order[begins]
        self.counts = np.diff(np.append(begins, len(grams))).astype(np.int32)
        once, twice = (int((self.counts == c).sum()) for c in (1, 2))
        self.discount = once / max(1, once + 2 * twice) or 0.5
        contexts = contexts[self.first]
        order = np.argsort(contexts, kind="stable")
        contexts = contexts[order]
        begins = np.flatnonzero(np.append(True, contexts[1:] != contexts[:-1]))
        self.contexts = contexts[begins]
        self.kinds = np.diff(np.append(begins, len(contexts)))
        self.sums = np.add.reduceat(self.counts[order].astype(np.int64), begins)

    def probability(self, grams, contexts, lower):
        count = look_up(self.grams, self.counts, grams)
        total = look_up(self.contexts, self.sums, contexts)
        kinds = look_up(self.contexts, self.kinds, contexts)
        seen = total > 0
        total = np.where(seen, total, 1)
        known = (np.maximum(count - self.discount, 0) + self.discount * kinds * lower) / total
        return np.where(seen, known, lower)


def look_up(keys, values, wanted):
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0).astype(np.float64)


def train(ids):
    """Order 5 counts what occurs; a lower order counts in how many ways it is preceded."""
    orders, ends = {}, np.arange(ORDER - 1, len(ids))  # where each counted n-gram ends
    for n in range(ORDER, 0, -1):
        contexts = (hashes(ids, n - 1)[ends - 1 - (n - 2)] if n > 1
                    else np.zeros(len(ends), np.uint64))
        orders[n] = Order(hashes(ids, n)[ends - (n - 1)], contexts)
        ends = ends[orders[n].first]
        print(f"{len(ends) / 1e6:.1f} M different {n}-grams", flush=True)
    return orders


def nats(orders, ids):
    """Of ids[ORDER:], each given the four before it."""
    ends = np.arange(ORDER, len(ids))
    p = np.full(len(ends), 1 / VOCABULARY)
    for n in range(1, ORDER + 1):
        contexts = (hashes(ids, n - 1)[ends - 1 - (n - 2)] if n > 1
                    else np.zeros(len(ends), np.uint64))
        p = orders[n].probability(hashes(ids, n)[ends - (n - 1)], contexts, p)
    return -np.log(p)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0].split(" - ")[1])
    parser.add_argument("--tokens-dir", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--most", type=int, default=100_000)
    arguments = parser.parse_args()
    orders = train(np.concatenate([np.load(arguments.tokens_dir / f"{name}.npy")
                                   for name in STREAMS]))
    tokenizer, rows = load_tokenizer(arguments.tokenizer), []
    for path in sorted(Path(arguments.data, "books").glob("*.txt.xz")):
        text = corpus.read_text(path).replace(corpus.SEPARATOR, "").strip()
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        size = len(text.encode()) / len(ids)
        found = nats(orders, np.asarray(ids[:arguments.most]))
        rows.append([path.name.split(".")[0], f"{found.mean() / math.log(2) / size:.4f}",
                     f"{math.exp(found.mean()):.2f}"])
        print(*rows[-1], flush=True)
    with open(arguments.out, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [["book", "bits_per_byte", "perplexity"], *rows])


if __name__ == "__main__":
    main()
