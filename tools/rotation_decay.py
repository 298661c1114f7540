#!/usr/bin/env python3
"""rotation_decay.py - what becomes of keys that are rotated in the cache, token after token.

    tools/rotation_decay.py        needs numpy

Turns 200 random keys of 128 features back by one position again and again, rounding them to their
storage type each time, and compares them with keys rotated once in float64.  docs/streaming.md
quotes what it prints.

SPDX-License-Identifier: MIT
"""

import numpy as np

DIM, KEYS, THETA, STEPS = 128, 200, 10000.0, (1, 10, 100, 1000, 4000)


def to_bf16(x):
    """Rounds float32 to nearest, ties to even."""
    bits = x.astype(np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


def to_f16(x):
    return x.astype(np.float16).astype(np.float32)


def main():
    half = DIM // 2
    theta = THETA ** (-np.arange(half) * 2 / DIM)
    c, s = np.cos(theta).astype(np.float32), np.sin(theta).astype(np.float32)
    for name, rounded in (("bf16", to_bf16), ("f16", to_f16)):
        keys = np.random.default_rng(0).standard_normal((KEYS, DIM))
        a, b = rounded(keys[:, :half]), rounded(keys[:, half:])
        for step in range(1, max(STEPS) + 1):
            a, b = rounded(a * c + b * s), rounded(b * c - a * s)
            if step not in STEPS:
                continue
            turn = np.exp(-1j * theta * step)
            exact = (keys[:, :half] + 1j * keys[:, half:]) * turn
            stored = a.astype(np.float64) + 1j * b
            size = np.linalg.norm(exact, axis=1)
            error = np.linalg.norm(stored - exact, axis=1) / size
            cosine = (stored * exact.conj()).real.sum(1) / size / np.linalg.norm(stored, axis=1)
            print(f"{name:4}  {step:5} turns  cosine {cosine.mean():.3f}  error {error.mean():.3f}")


if __name__ == "__main__":
    main()
