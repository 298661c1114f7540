#!/usr/bin/env python3
"""quality.py - what the model in the box shows of the claims, on books it never saw.

    bench/quality.py --books DIR              everything: CSV and SVG in bench/results/quality
    bench/quality.py --only modes sinks       some of the measurements

    modes      streaming, window, dense and recompute over the same --windows windows of one book
    sinks      0, 1, 2, 4 and 8 pinned tokens
    window     64 tokens to the trained context, streaming and window attention
    kv         how keys and values are stored
    weights    how the matrices are stored
    long       streaming over --long tokens of all books in a row
    recall     a number told, and asked for after more and more turns
    chat       200 scripted turns: replies that loop, break the template or say nothing
    cost       time and memory of a token against its position, in each mode
    attention  how much falls on the first tokens: figures of tools/train/evaluate.py

Books are *.txt or *.txt.xz in DIR.  Without --books the text is the project's own documents, and
the figures are of a kind of text the model never met.  Every run of weir leaves its raw output in
--work and is not run again while that is there.  gnuplot draws; without it there are CSVs only.

Needs numpy; `weights` needs the gguf package.

SPDX-License-Identifier: MIT
"""

import argparse
import csv
import json
import lzma
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import quality_plots as plots
import quality_talks as talks

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = ["modes", "sinks", "window", "kv", "weights", "long", "recall", "chat", "cost",
            "attention"]
RECOMPUTE_STRIDE = 64  # every 64th token is predicted from its window read again
LONG_BINS = 200


class Bench:
    """The command, the model, the text and where results go."""

    def __init__(self, options):
        self.options = options
        self.weir, self.model = options.weir, str(options.model)
        self.work, self.out = options.work, options.out
        self.work.mkdir(parents=True, exist_ok=True)
        self.out.mkdir(parents=True, exist_ok=True)
        self.info = json.loads(self.run("info", "--json"))
        self.context = self.info["context"]
        self.text = "books" if options.books else "documents"

    def run(self, command, *arguments, stdin=None, model=None):
        line = [self.weir, command, model or self.model, *map(str, arguments)]
        done = subprocess.run(line, input=stdin, text=True, capture_output=True)
        if done.returncode:
            sys.exit(f"quality.py: {' '.join(line)}: {done.stderr.strip()}")
        return done.stdout

    # ---- texts

    def documents(self):
        """Name and text of each book, or of the project's documents as one."""
        if not self.options.books:
            names = sorted(p for p in ROOT.rglob("*.md") if "build" not in p.parts)
            return {"documents": "\n\n".join(p.read_text(encoding="utf-8") for p in names)}
        found = {}
        for path in sorted(self.options.books.glob("*.txt*")):
            opener = lzma.open if path.suffix == ".xz" else open
            with opener(path, "rt", encoding="utf-8") as file:
                found[path.name.split(".")[0]] = file.read()
        if not found:
            sys.exit(f"quality.py: {self.options.books}: no *.txt or *.txt.xz there")
        return found

    def ids(self):
        """The file of the ids that the short measurements read: BOS and --windows windows."""
        path = self.work / f"{self.text}.ids"
        want = self.options.windows * self.context + 1
        if not path.exists():
            found = self.documents()
            text = found.get(self.options.book) or "\n\n".join(found.values())
            ids = self.run("tokenize", stdin=text[:want * 8]).split()[:want]
            path.write_text(" ".join(ids) + "\n")
        return path

    # ---- one reading of a text

    def nll(self, name, *arguments, model=None, source=None):
        """Nats of each token predicted, [tokens], NaN where none was; kept in --work."""
        table = self.work / f"{self.text}.{name}.csv"
        if not table.exists():
            print(f"    {name} ...", flush=True)
            part = table.with_suffix(".part")
            source = source or ["--token-ids", self.ids()]
            self.run("perplexity", *source, "--csv", part, "-q", *arguments, model=model)
            part.rename(table)
        rows = np.loadtxt(table, delimiter=",", skiprows=1, ndmin=2)
        positions = rows[:, 0].astype(int)
        nll = np.full(positions.max() + 1, np.nan)
        nll[positions] = rows[:, 1]
        return nll

    # ---- results

    def table(self, name, header, rows):
        path = self.out / f"{name}.csv"
        with open(path, "w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)
        print(f"{name}: {', '.join(header)}")
        for row in rows[:24]:
            print("    " + ", ".join(map(str, row)))
        if len(rows) > 24:
            print(f"    ... {len(rows) - 24} rows more in {path}")


def perplexity(nll, begin=0):
    return math.exp(np.nanmean(nll[begin:]))


def shown(value, digits=3):
    return f"{value:.{digits}f}"


# ---------------------------------------------------------------- measurements

def modes(bench):
    """The four modes, by window and beyond the first window, at the tokens that all predicted."""
    window, stride = bench.context, RECOMPUTE_STRIDE
    every = {
        "streaming": bench.nll("streaming"),
        "window": bench.nll("window", "--mode", "window"),
        "dense": bench.nll("dense", "--mode", "dense", "--window",
                           bench.options.windows * window + 1),
        "recompute": bench.nll("recompute", "--mode", "recompute", "--stride", stride),
        "recompute, first token in front": bench.nll("recompute_first", "--mode", "recompute",
                                                     "--sinks", 1, "--stride", stride)}
    full = list(every)[:3]  # recompute has too few tokens for a figure of each window
    length = min(map(len, every.values()))
    rows = []
    for begin in range(1, length - window // 2, window):
        part = slice(begin, begin + window)
        rows.append([begin // window + 1] + [shown(perplexity(every[name][part]))
                                             for name in full])
    bench.table("modes_by_window", ["window", *full], rows)
    common = np.all([~np.isnan(n[:length]) for n in every.values()], axis=0)
    common[:window + 1] = False
    summary, best = [], None
    for name, nll in every.items():
        at_common = perplexity(nll[:length][common])
        best = best or at_common
        summary.append([name, shown(perplexity(nll, window + 1)),
                        int(np.sum(~np.isnan(nll[window + 1:]))), shown(at_common),
                        f"{at_common / best - 1:+.2%}"])
    bench.table("modes", ["mode", "perplexity beyond the first window", "tokens",
                          f"at the {int(common.sum())} tokens of recompute",
                          "against streaming"], summary)
    plots.modes(bench.out, rows, full)


def streaming_runs(bench, name, runs, window=None):
    """Perplexity beyond the first window of each run, against the last column's base."""
    rows, base = [], None
    for label, key, arguments, model in runs:
        value = perplexity(bench.nll(key, *arguments, model=model), (window or bench.context) + 1)
        base = base or value
        rows.append([label, shown(value, 4), f"{value / base - 1:+.3%}"])
    bench.table(name, [name, "perplexity beyond the first window", "against the first"], rows)
    return rows


def sinks(bench):
    runs = [("4 (default)", "streaming", [], None)]
    for count in (0, 1, 2, 8):
        arguments = ["--sinks", count] if count else ["--mode", "window"]
        runs.append((count, f"sinks_{count}" if count else "window", arguments, None))
    streaming_runs(bench, "sinks", runs)


def windows(bench):
    rows, sizes = [], []
    size = 64
    while size <= bench.context:
        sizes.append(size)
        size *= 2
    for size in sizes:
        row = [size]
        for mode in ("streaming", "window"):
            whole = size == bench.context
            nll = bench.nll(mode if whole else f"{mode}_{size}", "--mode", mode, "--window", size)
            row.append(shown(perplexity(nll, bench.context + 1)))
        rows.append(row + [f"{float(row[2]) / float(row[1]) - 1:+.1%}"])
    bench.table("window", ["window", "streaming, 4 sinks", "window attention", "difference"], rows)
    plots.windows(bench.out, rows)


def kv_types(bench):
    streaming_runs(bench, "kv", [(kind, "streaming" if kind == "f16" else f"kv_{kind}",
                                  ["--kv-type", kind], None)
                                 for kind in ("f32", "f16", "bf16", "int8", "fp8")])


def sixteen_bit(bench):
    """The model with its matrices in F16, made from the shipped file."""
    import gguf
    path = bench.work / "model-f16.gguf"
    if path.exists():
        return str(path)
    reader = gguf.GGUFReader(bench.model)
    writer = gguf.GGUFWriter(str(path), "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, inner)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(np.float16 if values.ndim > 1
                                                     else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def weight_types(bench):
    try:
        model = sixteen_bit(bench)
    except ImportError:
        print("weights: skipped, python3 has no gguf package (pip install gguf)")
        return
    streaming_runs(bench, "weights", [
        ("q8, as shipped", "streaming", [], None),
        ("f16, from the q8 file", "weights_f16", [], model),
        ("q4, packed while loading", "weights_q4", ["--quantize", "q4"], model)])


def long(bench):
    """All books in a row, again and again until there are --long tokens."""
    name, limit = f"long_{bench.options.long}", bench.options.long
    source = bench.work / f"{bench.text}.long.txt"
    if not source.exists():
        text = "\n".join(bench.documents().values()) + "\n"
        source.write_text(text * (1 + int(limit * 4.5) // len(text)), encoding="utf-8")
    nll = bench.nll(name, "--limit", limit, source=["--text", source])
    size = max(1, -(-len(nll) // LONG_BINS))
    rows = [[begin, shown(perplexity(nll[begin:begin + size]))]
            for begin in range(0, len(nll), size)]
    bench.table("long", ["token", "perplexity"], rows)
    tenth = -(-len(nll) // 10)
    bench.table("long_by_tenth", ["from token", "perplexity"],
                [[begin, shown(perplexity(nll[begin:begin + tenth]))]
                 for begin in range(0, len(nll), tenth)])
    plots.long(bench.out, len(nll))
    whole_books(bench, nll)


def whole_books(bench, nll):
    """Each book the long measurement read to its end, as part of the stream; those read again
    later are the same text at another position, and should read the same."""
    books = [(name, len(bench.run("tokenize", "--no-bos", stdin=text + "\n").split()),
              len((text + "\n").encode())) for name, text in bench.documents().items()]
    rows, begin, reading = [], 1, 1  # token 0 stands for no text
    while begin + min(count for _, count, _ in books) <= len(nll):
        for name, count, size in books:
            if begin + count > len(nll):
                break
            part = nll[begin:begin + count]
            rows.append([name, reading, begin, count, shown(perplexity(part), 2),
                         shown(part.sum() / math.log(2) / size, 4)])
            begin += count
        else:
            reading += 1
            continue
        break
    if rows:
        bench.table("books", ["book", "reading", "from token", "tokens", "perplexity",
                              "bits per byte"], rows)


def decode_seconds(bench, mode, depth, tokens):
    """Seconds for one token with `depth` tokens behind it, and bytes of the session: one thread,
    the fastest of five, since the neighbours of a shared machine only ever add time."""
    window = depth + 64 if mode == "dense" else bench.context
    held = min(depth, window)
    table = bench.work / f"cost.{mode}.{depth}.json"
    if not table.exists():
        table.write_text(bench.run("bench", "--json", "-q", "--mode", mode, "--window", window,
                                   "--depth", held, "--prefill", 16, "-n", tokens, "-r", 5,
                                   "--threads", 1))
    found = json.loads(table.read_text())
    decode = next(f for f in found["figures"] if f["name"] == "decode")
    info = json.loads(bench.run("info", "--json", "--window", window))
    return decode["seconds_fastest"] / decode["tokens"], info["session_bytes"]


def cost(bench):
    rows = []
    for depth in [2 ** n for n in range(8, 14)]:
        row = [depth]
        for mode, tokens in (("streaming", 32), ("dense", 32), ("recompute", 4)):
            at = depth if mode == "dense" else min(depth, bench.context)
            seconds, size = decode_seconds(bench, mode, at, tokens)
            row += [shown(seconds * 1000, 2), shown(size / 1e6, 2)]
        rows.append(row)
    bench.table("cost", ["tokens so far", "streaming, ms", "streaming, MB", "dense, ms",
                         "dense, MB", "recompute, ms", "recompute, MB"], rows)
    plots.cost(bench.out)


def attention(bench):
    for variant in ("plain", "sink"):
        path = ROOT / "tools" / "train" / "results" / f"figures_{variant}.json"
        table = json.loads(path.read_text())["attention"]
        rows = [[layer] + [shown(v, 4) for v in row["tokens"]] for layer, row in enumerate(table)]
        bench.table(f"attention_{variant}",
                    ["layer", *(f"token {t}" for t in range(len(rows[0]) - 1))], rows)
        heads = [[layer] + [shown(v, 4) for v in row["heads_on_token_0"]]
                 for layer, row in enumerate(table)]
        bench.table(f"attention_heads_{variant}",
                    ["layer", *(f"head {h}" for h in range(len(heads[0]) - 1))], heads)
        plots.attention(bench.out, variant, len(rows[0]) - 1, len(heads[0]) - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0].split(" - ")[1])
    add = parser.add_argument
    add("--weir", default=str(ROOT / "build" / "release" / "weir"), help="the command")
    add("--model", type=Path, default=ROOT / "models" / "weir.gguf")
    add("--books", type=Path, help="folder of *.txt or *.txt.xz")
    add("--book", default="moby_dick", help="the one the short measurements read")
    add("--windows", type=int, default=20, help="its length in windows")
    add("--long", type=int, default=4_000_000, help="tokens of the long measurement")
    add("--work", type=Path, default=ROOT / "build" / "quality")
    add("--out", type=Path, default=ROOT / "bench" / "results" / "quality")
    add("--only", nargs="*", choices=SECTIONS, default=SECTIONS, metavar="SECTION")
    options = parser.parse_args()
    if options.books and not options.books.is_dir():
        sys.exit(f"quality.py: {options.books}: no such folder; without --books the project's "
                 "own documents are read")
    if not options.books:
        print("no --books: reading the project's own documents")
        options.windows = min(options.windows, 8)
        options.long = min(options.long, 100_000)
    if not shutil.which("gnuplot"):
        print("no gnuplot: CSVs only")
    bench = Bench(options)
    named = {"modes": modes, "sinks": sinks, "window": windows, "kv": kv_types,
             "weights": weight_types, "long": long, "recall": talks.recall, "chat": talks.chat,
             "cost": cost, "attention": attention}
    for section in options.only:
        named[section](bench)


if __name__ == "__main__":
    main()
