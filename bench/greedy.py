#!/usr/bin/env python3
"""greedy.py - the text that weir generates is the text that the float64 reference generates.

    bench/greedy.py MODEL [--prompt TEXT] [--tokens 1000] [--window 128] [--weir build/release/weir]

MODEL is a Hugging Face folder.  tools/reference.py, which shares nothing with the engine, takes the
likeliest token again and again, several windows long; `weir generate --greedy` must write the same
text.  Prints one table and records it under --out.  Exit status 1 when the texts differ.

SPDX-License-Identifier: MIT
"""
import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
from reference import Stream, logits  # noqa: E402
from reference_models import load  # noqa: E402


def run(*command, text=""):
    done = subprocess.run(list(map(str, command)), input=text, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def refer(args, ids):
    """Greedy ids after the prompt's, and the least by which a token was ahead of the next."""
    model = load(args.model)
    stream = Stream(model, args.sinks, args.window)
    for token in ids:
        hidden = stream.step(token)
    out, margin = [], np.inf
    for _ in range(args.tokens):
        scores = logits(model, hidden)
        second, best = np.argsort(scores)[-2:]
        margin = min(margin, scores[best] - scores[second])
        out.append(int(best))
        hidden = stream.step(int(best))
    return out, margin


def decode(args, ids):
    return run(args.weir, "tokenize", args.model, "--decode", text=" ".join(map(str, ids)))


def main():
    parser = argparse.ArgumentParser(description="greedy text against a float64 reference")
    parser.add_argument("model")
    parser.add_argument("--prompt", default="Once upon a time")
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--sinks", type=int, default=4)
    parser.add_argument("--weir", default="build/release/weir")
    parser.add_argument("--out", default="bench/results/greedy.json")
    args = parser.parse_args()

    ids = [int(word) for word in run(args.weir, "tokenize", args.model, text=args.prompt).split()]
    wanted_ids, margin = refer(args, ids)
    config = json.loads(pathlib.Path(args.model, "config.json").read_text())
    silent = {config.get("bos_token_id"), config.get("eos_token_id")}  # special tokens do not show
    shown = [i for i in wanted_ids if i not in silent]
    wanted = decode(args, ids + shown)[len(decode(args, ids).rstrip("\n")):].rstrip("\n")
    got = run(args.weir, "generate", args.model, "--prompt", args.prompt, "--tokens", args.tokens,
              "--greedy", "--window", args.window, "--sinks", args.sinks, "--kv-type", "f32",
              "--ignore-eos", "--no-loop-guard", "--quiet").rstrip("\n")
    pairs = zip(got, wanted)
    shorter = min(len(got), len(wanted))
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
    is_same = got == wanted
    print(f"{'tokens':>10}{'windows':>10}{'characters':>12}{'equal':>10}{'least margin':>14}")
    print(f"{args.tokens:10,}{args.tokens / args.window:10.1f}{len(wanted):12,}{same:10,}"
          f"{margin:14.2e}")
    print("the texts are the same" if is_same else f"wanted ...{wanted[same:same + 60]!r}\n"
          f"got    ...{got[same:same + 60]!r}")
    out = pathlib.Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    figures = {"bench": "greedy", "commit": commit.stdout.strip(), "tokens": args.tokens,
               "window": args.window, "sinks": args.sinks, "characters": len(wanted),
               "equal_characters": same, "least_margin": float(margin), "is_same": is_same}
    out.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(not is_same)


if __name__ == "__main__":
    main()
