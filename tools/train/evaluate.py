"""evaluate.py - measure a model on books it never saw.

    python evaluate.py --weights RUN/weights.pt --tokenizer tokenizer \
        --data DIR --out figures.json [--quick]

Bits per byte of each book under streaming; the four attention modes side by
side; how much attention falls on the first tokens.

SPDX-License-Identifier: MIT
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch

import corpus
from data import load_tokenizer
from model import load
from streaming import losses, recomputed_losses
from train import FIRST


def read_books(data, tokenizer):
    books = {}
    for path in sorted(Path(data, "books").glob("*.txt.xz")):
        text = corpus.read_text(path).replace(corpus.SEPARATOR, "").strip()
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        # The bytes that each token stands for, to give bits per byte of a part.
        books[path.name.split(".")[0]] = (ids, len(text.encode()))
    return books


def bits_per_byte(model, books, first, device, window, most=None):
    """Every book as one stream, all in one batch; sinks = 4."""
    names = list(books)
    length = min(max(len(books[n][0]) for n in names), most or 1 << 60)
    ids = torch.zeros(len(names), length + 1, dtype=torch.long, device=device)
    ids[:, 0] = first
    for row, name in enumerate(names):
        tokens = books[name][0][:length]
        ids[row, 1:1 + len(tokens)] = torch.tensor(tokens)
    nats = losses(model, ids, 4, window, chunk=1024)
    out = {}
    for row, name in enumerate(names):
        tokens, size = books[name]
        seen = min(len(tokens), length)
        total = float(nats[row, :seen].double().sum())
        size = size * seen / len(tokens)
        out[name] = {"bits_per_byte": total / math.log(2) / size,
                     "perplexity": math.exp(total / seen), "tokens": seen}
    return out


def head(books, length, first, device):
    rows = [[first] + ids[2000:2000 + length] for ids, _ in books.values()
            if len(ids) >= 2000 + length]
    return torch.tensor(rows, device=device)


def modes(model, books, first, device, window, length, every):
    """Perplexity of the same tokens, all further from the start than the
    training length, in the four modes."""
    ids = head(books, length, first, device)
    begin = max(window, model.config.context)
    spots = list(range(begin, ids.shape[1] - 1, every))
    out = {"window": window, "tokens": ids.shape[0] * len(spots)}

    def put(name, nats):
        out[name] = math.exp(float(nats.double().mean()))

    for sinks in (0, 1, 2, 4, 8):
        nats = losses(model, ids, sinks, window)
        put("window" if not sinks else f"streaming_{sinks}", nats[:, spots])
    out["window_attention"] = out.pop("window")
    out["window"] = window
    # The model's own tables reach to its context; both fit for windows <= it.
    put("recompute_with_first",
        recomputed_losses(model, ids, spots, window, first))
    put("recompute_without", recomputed_losses(model, ids, spots, window))
    return out


def dense(model, books, first, device, length):
    """Perplexity of dense attention by distance from the start."""
    ids = head(books, length, first, device)
    nats = losses(model, ids, 0, None)
    stream = losses(model, ids, 4, model.config.context)
    edges, out = [0], []
    edge = model.config.context // 2
    while edge < length:
        edges.append(edge)
        edge *= 2
    edges.append(length)
    for low, high in zip(edges, edges[1:]):
        out.append({"from": low, "to": high,
                    "dense": math.exp(float(nats[:, low:high].mean())),
                    "streaming": math.exp(float(stream[:, low:high].mean()))})
    return out


def attention_mass(model, books, first, device, tokens=8):
    """Per layer, the mean share of attention on each of the first tokens, of
    queries in the second half of a training window."""
    context = model.config.context
    ids = head(books, context, first, device)
    table = [None] * model.config.layers

    def probe(index, at_q, pinned):
        late = at_q >= context // 2
        if late.any():
            mean = pinned[:, :, late].float().mean((0, 1, 2)).tolist()
            heads = pinned[:, :, late, 0].float().mean((0, 2)).tolist()
            table[index] = {"tokens": mean, "heads_on_token_0": heads}

    losses(model, ids, tokens, context, chunk=context // 2, probe=probe)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0].split(" - ")[1])
    add = parser.add_argument
    add("--weights", required=True)
    add("--tokenizer", required=True)
    add("--data", required=True)
    add("--out", required=True, help="JSON file to write")
    add("--quick", action="store_true", help="parts of the books, one window")
    add("--most", type=int, help="tokens of each book that count")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    started, device = time.time(), arguments.device
    model = load(arguments.weights, device)
    first, context = FIRST[model.variant], model.config.context
    books = read_books(arguments.data, load_tokenizer(arguments.tokenizer))
    quick = arguments.quick
    most = arguments.most or (30_000 if quick else None)
    length, every = (4 * context, 32) if quick else (8 * context, 32)

    figures = {"variant": model.variant, "tokens_seen": model.tokens}
    figures["books"] = bits_per_byte(model, books, first, device, context,
                                     most)
    for name, row in figures["books"].items():
        print(f"{name:28s} {row['bits_per_byte']:.4f} bits per byte   "
              f"perplexity {row['perplexity']:.2f}   {row['tokens']} tokens")
    figures["modes"] = []
    for window in ([context] if quick else
                   [context, context // 4]):
        row = modes(model, books, first, device, window, length, every)
        figures["modes"].append(row)
        print("  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    figures["dense"] = dense(model, books, first, device, length)
    for row in figures["dense"]:
        print("  ".join(f"{k} {v:.5g}" for k, v in row.items()))
    figures["attention"] = attention_mass(model, books, first, device)
    for index, row in enumerate(figures["attention"]):
        print(f"layer {index}: " + " ".join(f"{v:.3f}" for v in row["tokens"]))
    Path(arguments.out).write_text(json.dumps(figures, indent=1) + "\n")
    print(f"{time.time() - started:.0f} s -> {arguments.out}")


if __name__ == "__main__":
    main()
