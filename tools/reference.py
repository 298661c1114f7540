#!/usr/bin/env python3
"""reference.py - the streaming rule in its definition form, float64, for every model family.

The oracle of the golden tests.  It shares nothing with the engine: keys are cached un-rotated,
and for each query every cached key is rotated at its index in the cache, as the paper defines it
(Xiao et al. 2023, arXiv 2309.17453, section 3.2).  Slow on purpose: O(W) per token, one token
at a time.

    cache      [ pinned 0 .. S-1 | recent S .. count-1 ]      position of an entry = its index
    query      at index count-1 <= W-1, itself the last entry
    ALiBi      score -= slope * (count-1 - index); nothing is rotated

When the cache is full the oldest recent entry goes (policy `token`), or all recent entries of the
oldest turn (policy `turn`; a turn too long for the window loses its own oldest tokens).

Modes: streaming; window (S = 0); dense (nothing is evicted, at most W tokens); recompute (a fresh
dense pass over the last W tokens for each row).  A model trained with sliding-window attention
(Mistral 7B v0.1) never attends more keys than that: its dense mode is window at that size.

    reference.py MODEL --ids FILE --sinks 4 --window 64 --out logits.npy

writes float32 [tokens, vocab], row i after token i, as `weir perplexity --logits` does.
Needs numpy only.

SPDX-License-Identifier: MIT
"""

import argparse
import bisect
import pathlib

import numpy as np

from reference_models import load, rotate

# ---------------------------------------------------------------------- the streaming rule


class Cache:
    """Un-rotated keys and values in cache order: the pinned entries, then the recent ones."""

    def __init__(self, model, capacity):
        shape = (len(model.blocks), capacity, model.n_kv_heads, model.head_dim)
        self.k, self.v = np.zeros(shape), np.zeros(shape)
        self.stream = []  # stream position of each entry, in cache order
        self.pinned = 0

    def insert(self, index, k, v, positions):
        """Entries move up from `index` to make room; k, v [layers, n, kv_heads, head_dim]."""
        count, n = len(self.stream), len(positions)
        for kept, new in ((self.k, k), (self.v, v)):
            kept[:, index + n : count + n] = kept[:, index:count].copy()
            kept[:, index : index + n] = new
        self.stream[index:index] = positions

    def remove(self, index, n):
        count = len(self.stream)
        for kept in (self.k, self.v):
            kept[:, index : count - n] = kept[:, index + n : count].copy()
        del self.stream[index : index + n]


class Stream:
    """One timeline of tokens.  turns: stream positions at which turns start, or None."""

    def __init__(self, model, sinks, window, mode="streaming", start=0, turns=None):
        if mode == "window" or mode == "dense":
            sinks = 0
        if mode == "dense" and model.sliding_window and model.sliding_window < window:
            mode, window = "window", model.sliding_window
        if not 0 <= sinks < window:
            raise ValueError(f"sinks {sinks} must be fewer than the window {window}")
        self.model, self.sinks, self.window, self.mode = model, sinks, window, mode
        self.start, self.position, self.turns = start, start, turns
        self.evicted_tokens = 0
        self.cache = Cache(model, 2 * window)  # room for a pinned copy before eviction
        if model.rope:
            _, freqs, factor = model.rope
            angles = np.arange(window)[:, None] * freqs
            self.cos, self.sin = np.cos(angles) * factor, np.sin(angles) * factor

    def turn_of(self, position):
        return bisect.bisect_right(self.turns, position)

    def evict(self, most):
        """Drops recent entries until at most `most` are left in all."""
        cache = self.cache
        while len(cache.stream) > most:
            if self.mode == "dense":
                raise ValueError(f"window is full: {self.window} tokens")
            n = 1
            if self.turns is not None:
                recent = [self.turn_of(p) for p in cache.stream[cache.pinned :]]
                if recent[0] != self.turn_of(self.position):
                    n = recent.count(recent[0])
            cache.remove(cache.pinned, n)
            self.evicted_tokens += n

    def pin(self, first, end):
        """Copies the recent entries of stream positions [first, end) behind the pinned ones."""
        cache = self.cache
        recent = cache.stream[cache.pinned :]
        if first not in recent or end - 1 not in recent:
            raise ValueError(f"positions [{first}, {end}) are not in the window")
        at = slice(cache.pinned + recent.index(first), cache.pinned + recent.index(end - 1) + 1)
        n = end - first
        if cache.pinned + n >= self.window:
            raise ValueError(f"{cache.pinned + n} pinned tokens fill the window {self.window}")
        cache.insert(cache.pinned, cache.k[:, at].copy(), cache.v[:, at].copy(), cache.stream[at])
        cache.pinned += n
        self.evict(self.window)

    def step(self, token):
        """Adds a token; returns its last hidden state [dim], see logits()."""
        m, cache = self.model, self.cache
        self.evict(self.window - 1)
        nothing = np.zeros((len(m.blocks), 1, m.n_kv_heads, m.head_dim))
        cache.insert(len(cache.stream), nothing, nothing, [self.position])
        if self.position - self.start < self.sinks:
            cache.pinned += 1
        x = m.embed[token]
        for i, block in enumerate(m.blocks):
            attended = block.o(self.attend(i, block, block.attn_norm(x)))
            if block.parallel:
                x = x + attended + block.mlp(block.mlp_norm(x))
            else:
                x = x + attended
                x = x + block.mlp(block.mlp_norm(x))
        self.position += 1
        return x

    def attend(self, layer, block, x):
        """Caches this token's key and value as the last entry and attends all entries."""
        m, cache = self.model, self.cache
        count = len(cache.stream)
        q = block.q(x).reshape(m.n_heads, m.head_dim)
        k = block.k(x).reshape(m.n_kv_heads, m.head_dim)
        v = block.v(x).reshape(m.n_kv_heads, m.head_dim)
        if m.clip:
            q, k, v = (np.clip(a, -m.clip, m.clip) for a in (q, k, v))
        if block.q_norm:
            q, k = block.q_norm(q), block.k_norm(k)
        cache.k[layer, count - 1], cache.v[layer, count - 1] = k, v
        keys, values = cache.k[layer, :count], cache.v[layer, :count]  # [count, kv_heads, head_dim]
        if m.rope:
            cos, sin = self.cos[:count, None], self.sin[:count, None]
            q = rotate(q, self.cos[count - 1], self.sin[count - 1])
            keys = rotate(keys, cos, sin)
        group = m.n_heads // m.n_kv_heads
        q = q.reshape(m.n_kv_heads, group, m.head_dim)
        scores = np.einsum("ngd,tnd->ngt", q, keys) * m.scale
        if m.slopes is not None:
            distance = count - 1 - np.arange(count)
            scores -= m.slopes.reshape(m.n_kv_heads, group, 1) * distance
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return np.einsum("ngt,tnd->ngd", weights, values).ravel()


def logits(model, hidden):
    return model.head(model.norm(hidden))


def evaluate(model, ids, sinks, window, mode="streaming", start=0, pins=(), turns=None, rows=None):
    """Returns logits float64 [len(rows), vocab]; rows defaults to all tokens.

    pins: (at, first, end) each: when `at` tokens have been read, pin tokens [first, end).
    turns: indices of tokens at which turns start; not None chooses the policy `turn`.
    All are counted from the first token of ids, whatever the start.
    """
    rows = range(len(ids)) if rows is None else rows
    if mode == "recompute":
        return np.array([recompute(model, ids[max(0, r + 1 - window) : r + 1]) for r in rows])
    turns = None if turns is None else [start + t for t in turns]
    stream = Stream(model, sinks, window, mode, start, turns)
    wanted, out = set(rows), {}
    for i, token in enumerate(ids):
        for at, first, end in pins:
            if at == i:
                stream.pin(start + first, start + end)
        hidden = stream.step(token)
        if i in wanted:
            out[i] = logits(model, hidden)
    return np.array([out[r] for r in rows])


def recompute(model, ids):
    """Logits after the last of ids, read from nothing."""
    stream = Stream(model, 0, len(ids), "dense")
    for token in ids:
        hidden = stream.step(token)
    return logits(model, hidden)


# ---------------------------------------------------------------------- command line


def main():
    parser = argparse.ArgumentParser(description="float64 logits under the streaming rule")
    parser.add_argument("model", help="HF folder")
    parser.add_argument("--ids", required=True, help="file of token ids separated by white space")
    parser.add_argument("--sinks", type=int, default=4)
    parser.add_argument("--window", type=int, required=True)
    parser.add_argument(
        "--mode", default="streaming", choices=["streaming", "dense", "window", "recompute"]
    )
    parser.add_argument("--start", type=int, default=0, help="stream position of the first token")
    parser.add_argument("--pin", action="append", default=[], metavar="AT:FROM:TO")
    parser.add_argument("--turns", help="indices of tokens that start a turn, separated by commas")
    parser.add_argument("--every", type=int, default=1, help="store each n-th row only")
    parser.add_argument("--out", required=True, help=".npy file, float32 [rows, vocab]")
    args = parser.parse_args()

    ids = [int(word) for word in pathlib.Path(args.ids).read_text().split()]
    pins = [tuple(int(n) for n in p.split(":")) for p in args.pin]
    turns = None if args.turns is None else [int(n) for n in args.turns.split(",")]
    rows = range(0, len(ids), args.every)
    try:
        out = evaluate(
            load(args.model), ids, args.sinks, args.window, args.mode, args.start, pins, turns, rows
        )
    except ValueError as error:
        raise SystemExit(str(error)) from None
    np.save(args.out, out.astype(np.float32))


if __name__ == "__main__":
    main()
