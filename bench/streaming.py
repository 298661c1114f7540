#!/usr/bin/env python3
"""streaming.py - a model reads a book far beyond its training: who still reads well, at what cost.

    bench/streaming.py MODEL TEXT [--weir build/release/weir] [--out bench/results/streaming]

Runs `weir perplexity` over the same tokens in every mode and prints one table: perplexity by tenth
of the text, over the same sampled positions in each.

    streaming   sinks and the most recent tokens
    window      the most recent tokens alone
    recompute   the window read anew at each sampled position: what streaming is measured against
    dense       everything kept, positions beyond what the model was trained on

and then what reading in parallel saves: tokens a second in chunks, and one token at a time.

Verdicts: streaming within 3 % of recompute in every tenth; dense worse than streaming by half in
the last tenth; chunks 20 times as fast as single tokens.  OUT.csv and OUT.json get the figures.
Exit status 1 when a verdict fails.

SPDX-License-Identifier: MIT
"""
import argparse
import csv
import json
import math
import pathlib
import subprocess
import sys
import tempfile

TENTHS = 10


def perplexity(args, mode, window, limit, extra=()):
    """Returns {position: nll} and the tokens per second of a run."""
    with tempfile.TemporaryDirectory() as folder:
        rows = pathlib.Path(folder, "rows.csv")
        command = [args.weir, "perplexity", args.model, "--text", args.text, "--mode", mode,
                   "--window", str(window), "--limit", str(limit), "--csv", str(rows), "--json",
                   "--threads", str(args.threads), "--quiet", *map(str, extra)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
        with rows.open() as file:
            next(file)
            nll = {int(position): float(x) for position, x in csv.reader(file)}
    return nll, json.loads(done.stdout)


def by_tenth(nll, positions, limit):
    """Perplexity of each tenth over the positions given."""
    sums = [[0.0, 0] for _ in range(TENTHS)]
    for p in positions:
        tenth = sums[p * TENTHS // limit]
        tenth[0] += nll[p]
        tenth[1] += 1
    return [math.exp(total / n) for total, n in sums]


def tokens_per_second(result):
    for key in ("tokens_per_second", "tok_per_s"):
        if key in result:
            return result[key]
    return result["tokens"] / result["seconds"]


def measure(args):
    runs = {
        "recompute": perplexity(args, "recompute", args.window, args.tokens,
                                ("--stride", args.stride))[0],
        "streaming": perplexity(args, "streaming", args.window, args.tokens)[0],
        "window": perplexity(args, "window", args.window, args.tokens)[0],
        "dense": perplexity(args, "dense", args.dense, args.dense)[0],
    }
    positions = sorted(runs["recompute"])
    table = {mode: by_tenth(runs[mode], positions, args.tokens)
             for mode in ("recompute", "streaming", "window")}
    dense = [p for p in positions if p < args.dense]
    table["dense"] = by_tenth(runs["dense"], dense, args.dense)
    table["streaming beside it"] = by_tenth(runs["streaming"], dense, args.dense)
    chunks = perplexity(args, "streaming", args.window, args.tokens)[1]
    single = perplexity(args, "streaming", args.window, min(args.tokens, 10000),
                        ("--chunk", 1))[1]
    return table, tokens_per_second(chunks), tokens_per_second(single), len(positions)


def verdicts(table, chunks, single):
    apart = [s / r - 1 for s, r in zip(table["streaming"], table["recompute"])]
    drift = table["dense"][-1] / table["streaming beside it"][-1]
    return {
        "streaming within 3 % of recompute in every tenth":
            (max(map(abs, apart)) <= 0.03, f"{100 * max(apart, key=abs):+.2f} % at most"),
        "dense drifts away": (drift >= 1.5, f"{drift:.2f} times the perplexity of streaming"),
        "reading in chunks 20 x as fast as single tokens":
            (chunks >= 20 * single,
             f"{chunks:,.0f} and {single:,.0f} tok/s, {chunks / single:.1f} x"),
    }


def show(args, table, judged):
    columns = ("recompute", "streaming", "window")
    print(f"{args.model}, {args.tokens:,} tokens of {args.text}, window {args.window}\n")
    print(f"{'tokens':>20}" + "".join(f"{c:>12}" for c in columns) + f"{'apart':>9}")
    for i in range(TENTHS):
        end = (i + 1) * args.tokens // TENTHS
        ppl = [table[c][i] for c in columns]
        print(f"{'to ' + format(end, ','):>20}" + "".join(f"{x:12.3f}" for x in ppl) +
              f"{100 * (ppl[1] / ppl[0] - 1):+8.2f}%")
    print(f"\n{'tokens':>20}{'dense':>12}{'streaming':>12}")
    for i in range(TENTHS):
        end = (i + 1) * args.dense // TENTHS
        print(f"{'to ' + format(end, ','):>20}{table['dense'][i]:12.3f}"
              f"{table['streaming beside it'][i]:12.3f}")
    print()
    for what, (is_so, how) in judged.items():
        print(f"{'yes' if is_so else 'NO':>4}  {what}: {how}")


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def record(args, table, judged, chunks, single, sampled):
    out = pathlib.Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["tenth", *table])
        for i in range(TENTHS):
            writer.writerow([i + 1, *(f"{table[mode][i]:.4f}" for mode in table)])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    figures = {
        "bench": "streaming", "commit": commit.stdout.strip(),
        "cpu": cpu_name(), "threads": args.threads,
        "text": pathlib.Path(args.text).stem,
        "tokens": args.tokens, "window": args.window, "sampled_positions": sampled,
        "dense_tokens": args.dense, "chunks_tokens_per_second": chunks,
        "single_tokens_per_second": single,
        "verdicts": {what: {"holds": is_so, "figure": how}
                     for what, (is_so, how) in judged.items()},
    }
    out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description="perplexity over a long text, by mode")
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--weir", default="build/release/weir")
    parser.add_argument("--tokens", type=int, default=100000)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--stride", type=int, default=41, help="recompute every n-th position")
    parser.add_argument("--dense", type=int, default=20000, help="tokens that dense mode reads")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default="bench/results/streaming")
    args = parser.parse_args()
    table, chunks, single, sampled = measure(args)
    judged = verdicts(table, chunks, single)
    show(args, table, judged)
    record(args, table, judged, chunks, single, sampled)
    sys.exit(0 if all(is_so for is_so, _ in judged.values()) else 1)


if __name__ == "__main__":
    main()
