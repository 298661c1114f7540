"""data.py - from texts to token streams, and from streams to training windows.

    python data.py --data DIR --tokenizer tokenizer --out TOKENS [STREAM ...]

writes one TOKENS/<stream>.npy (int16 token ids, documents parted by BOS) for
each stream; a stream of dialogues also gets <stream>.mask.npy (uint8), which
is 1 where a token is part of a reply and so counts in the loss.

SPDX-License-Identifier: MIT
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import corpus
import persona
from tokenizer import BOS_ID

PIECE = 200_000  # characters that one task of the pool encodes


# -- encoding --------------------------------------------------------------

def load_tokenizer(folder):
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.encode_special_tokens = False
    return tokenizer


def pieces(text):
    """Cut a long text at paragraph ends; joining the pieces restores it."""
    start = 0
    while len(text) - start > PIECE:
        cut = text.rfind("\n\n", start, start + PIECE)
        cut = cut if cut > start else start + PIECE
        yield text[start:cut]
        start = cut
    yield text[start:]


_tokenizer = None


def _start(folder):
    global _tokenizer
    _tokenizer = load_tokenizer(folder)


def _encode(text):
    ids = _tokenizer.encode(text, add_special_tokens=False).ids
    return np.asarray(ids, dtype=np.int16)


def chat_segments(messages):
    """The chat template, as (text, is it part of a reply) segments. Exactly
    tokenizer.CHAT_TEMPLATE without its BOS."""
    for message in messages:
        reply = message["role"] == "assistant"
        yield f"<|im_start|>{message['role']}\n", False
        yield message["content"] + "<|im_end|>", reply
        yield "\n", False


def _encode_chat(messages):
    ids, mask = [], []
    for text, reply in chat_segments(messages):
        piece = _tokenizer.encode(text, add_special_tokens=False).ids
        ids += piece
        mask += [int(reply)] * len(piece)
    return np.asarray(ids, np.int16), np.asarray(mask, np.uint8)


def encode_texts(documents, pool):
    """One stream: BOS, document, BOS, document, ..."""
    parts, first = [], []
    for document in documents:
        for index, piece in enumerate(pieces(document)):
            parts.append(piece)
            first.append(index == 0)
    bos = np.array([BOS_ID], np.int16)
    out = []
    for ids, begins in zip(pool.map(_encode, parts, chunksize=4), first):
        out += [bos, ids] if begins else [ids]
    return np.concatenate(out)


def encode_dialogues(dialogues, pool, join):
    """One stream of dialogues and its mask. A share `join` of them goes on
    where the one before stopped, without BOS: long talk changes its subject."""
    rng = np.random.default_rng(0)
    bos = np.array([BOS_ID], np.int16)
    none = np.zeros(1, np.uint8)
    out, masks = [], []
    for ids, mask in pool.map(_encode_chat, dialogues, chunksize=256):
        if rng.random() >= join:
            out.append(bos)
            masks.append(none)
        out.append(ids)
        masks.append(mask)
    return np.concatenate(out), np.concatenate(masks)


def prepare(data, stream, pool, out):
    started = time.time()
    mask = None
    if stream in corpus.TEXTS:
        documents = corpus.documents(data, stream)
        if stream in ("storybooks", "tinystories", "books_a", "books_b"):
            np.random.default_rng(0).shuffle(documents)
        ids = encode_texts(documents, pool)
        size = sum(len(d.encode()) for d in documents)
        note = f"{size / len(ids):.3f} bytes per token"
    else:
        if stream == "persona":
            talks = list(persona.dialogues(data))
        else:
            talks = list(corpus.dialogues(data, stream))
            np.random.default_rng(0).shuffle(talks)
        ids, mask = encode_dialogues(talks, pool, 0.5)
        np.save(out / f"{stream}.mask.npy", mask)
        note = f"{len(talks)} dialogues, {mask.mean():.0%} in replies"
    np.save(out / f"{stream}.npy", ids)
    print(f"{stream}: {len(ids) / 1e6:.2f} M tokens, {note}, "
          f"{time.time() - started:.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0].split(" - ")[1])
    parser.add_argument("--data", required=True, help="folder of the texts")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("streams", nargs="*", help="default: all of them")
    arguments = parser.parse_args()
    streams = arguments.streams or [*corpus.TEXTS, *corpus.DIALOGUES, "persona"]
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.workers, initializer=_start,
                             initargs=(arguments.tokenizer,)) as pool:
        for stream in streams:
            prepare(arguments.data, stream, pool, out)


# -- windows ---------------------------------------------------------------

class Stream:
    """A token stream on the device, cut into windows of `length` tokens. Each
    pass cuts at a new random phase and visits the windows in a new order, so
    every token is seen once a pass, at another distance from the window's
    start. Dialogue windows are moved, half the time, to begin at a dialogue's
    first token, as real conversations do."""

    def __init__(self, folder, name, length, device, seed):
        import torch
        ids = np.load(Path(folder) / f"{name}.npy")
        path = Path(folder) / f"{name}.mask.npy"
        self.starts = None
        self.mask = None
        if path.exists():
            self.mask = torch.from_numpy(np.load(path)).to(device)
            self.starts = np.flatnonzero(ids == BOS_ID) + 1
            self.starts = self.starts[self.starts < len(ids) - length]
        self.ids = torch.from_numpy(ids).to(device)
        self.size, self.length = len(ids), length
        self.rng = np.random.default_rng(seed)
        self.order, self.cursor, self.passes = np.empty(0, np.int64), 0, 0

    def next(self, count):
        """The first positions of `count` windows."""
        chosen = []
        while count:
            if self.cursor == len(self.order):
                phase = self.rng.integers(min(self.length,
                                              self.size - self.length))
                self.order = np.arange(phase, self.size - self.length + 1,
                                       self.length)
                self.rng.shuffle(self.order)
                self.cursor = 0
                self.passes += 1
            take = min(count, len(self.order) - self.cursor)
            chosen.append(self.order[self.cursor:self.cursor + take])
            self.cursor += take
            count -= take
        chosen = np.concatenate(chosen)
        if self.starts is not None and len(self.starts):
            snap = self.rng.random(len(chosen)) < 0.5
            index = np.searchsorted(self.starts, chosen[snap])
            chosen[snap] = self.starts[np.minimum(index, len(self.starts) - 1)]
        return chosen


class Mixture:
    """Batches of windows drawn from several streams by weight. The layout of
    a window: `first` (BOS, or the sink token) and then length - 1 tokens of
    the stream; the targets are the stream's `length` tokens."""

    def __init__(self, folder, weights, length, device, seed, first):
        self.names = list(weights)
        total = sum(weights.values())
        self.shares = np.array([weights[n] / total for n in self.names])
        self.streams = [Stream(folder, name, length, device, seed + index)
                        for index, name in enumerate(self.names)]
        self.rng = np.random.default_rng(seed)
        self.length, self.device, self.first = length, device, first

    def batch(self, rows):
        import torch
        counts = self.rng.multinomial(rows, self.shares)
        offsets = torch.arange(self.length, device=self.device)
        targets, masks = [], []
        for stream, count in zip(self.streams, counts):
            if not count:
                continue
            begin = torch.from_numpy(stream.next(int(count))).to(self.device)
            index = begin[:, None] + offsets
            ids = stream.ids[index].long()
            targets.append(ids)
            masks.append(stream.mask[index] if stream.mask is not None
                         else torch.ones_like(ids, dtype=torch.uint8))
        targets, masks = torch.cat(targets), torch.cat(masks)
        inputs = torch.roll(targets, 1, dims=1)
        inputs[:, 0] = self.first
        return inputs, targets.masked_fill(masks == 0, -100)


if __name__ == "__main__":
    main()
