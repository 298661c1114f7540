"""compare.py - check that PyTorch, llama.cpp and weir say the same of one model.

    python compare.py --gguf models/weir.gguf --weights RUN/weights.pt \\
        --tokenizer tokenizer --weir build/release/weir --text book.txt

Token ids, perplexity of the text's first --tokens tokens in one window, and 60
tokens of greedy text. Exits with 1 where ids differ or perplexity differs by more
than 0.5 %. PyTorch reads --weights rounded to Q8_0, as the file holds them;
llama.cpp and weir round activations to 8 bits too. llama.cpp's AMX kernels are
left out (they crash in machines that forbid AMX). Needs llama-cpp-python.

SPDX-License-Identifier: MIT
"""

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch

import model as networks
from data import load_tokenizer
from streaming import Streamer, losses
from train import FIRST

GREEDY = 60
PROMPT = "Once upon a time there was a fox who"
Q8 = gguf.GGMLQuantizationType.Q8_0


def rounded(weights):
    """The model of train.py with its matrices rounded as the GGUF's are."""
    network = networks.load(weights)
    for parameter in network.parameters():
        if parameter.dim() == 2:
            packed = gguf.quants.quantize(parameter.detach().numpy(), Q8)
            parameter.data = torch.from_numpy(gguf.quants.dequantize(packed, Q8))
    return network


class PyTorch:
    def __init__(self, arguments):
        self.network = rounded(arguments.weights)
        self.tokenizer = load_tokenizer(arguments.tokenizer)

    def ids(self, text):
        return [FIRST[self.network.variant]] + self.tokenizer.encode(
            text, add_special_tokens=False).ids

    def perplexity(self, ids):
        nats = losses(self.network, torch.tensor([ids]), 0, None)
        return math.exp(float(nats.double().mean()))

    def greedy(self, ids):
        stream, out = Streamer(self.network, 4, 1024), []
        hidden = stream.feed(torch.tensor([ids]))
        for _ in range(GREEDY):
            logits = hidden[0, -1] @ self.network.embed_tokens.weight.T
            out.append(int(logits.argmax()))
            hidden = stream.feed(torch.tensor([out[-1:]]))
        return self.tokenizer.decode(out, skip_special_tokens=False)


class LlamaCpp:
    def __init__(self, arguments):
        import llama_cpp
        from llama_cpp import llama
        defaults = llama_cpp.llama_model_default_params

        def without_amx():
            parameters = defaults()
            parameters.use_extra_bufts = False
            return parameters
        llama.llama_cpp.llama_model_default_params = without_amx
        self.llama = llama.Llama(str(arguments.gguf), n_ctx=1024, logits_all=True,
                                 n_threads=2, verbose=False)

    def ids(self, text):
        return self.llama.tokenize(text.encode(), add_bos=True, special=True)

    def perplexity(self, ids):
        self.llama.reset()
        self.llama.eval(ids)
        logits = torch.from_numpy(np.array(self.llama.scores[:len(ids) - 1]))
        nats = torch.nn.functional.cross_entropy(
            logits.double(), torch.tensor(ids[1:]), reduction="mean")
        return math.exp(float(nats))

    def greedy(self, ids):
        self.llama.reset()
        self.llama.eval(ids)
        out = []
        for _ in range(GREEDY):
            out.append(int(np.argmax(self.llama.scores[self.llama.n_tokens - 1])))
            self.llama.eval(out[-1:])
        return self.llama.detokenize(out, special=True).decode("utf-8", "replace")


class Weir:
    def __init__(self, arguments):
        self.command, self.gguf = arguments.weir, str(arguments.gguf)

    def run(self, *options, text=None):
        done = subprocess.run([self.command, *options], input=text, text=True,
                              capture_output=True)
        if done.returncode:
            sys.exit(f"{self.command} {' '.join(options)}: {done.stderr}")
        return done.stdout

    def ids(self, text):
        return [int(i) for i in self.run("tokenize", self.gguf, text=text).split()]

    def perplexity(self, ids):
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder, "nll.csv")
            self.run("perplexity", self.gguf, "--token-ids", "-", "--csv", str(table),
                     text=" ".join(map(str, ids)))
            nats = np.loadtxt(table, delimiter=",", skiprows=1)[:, 1]
        return math.exp(nats.mean())

    def greedy(self, ids):
        return self.run("generate", self.gguf, "-p", PROMPT, "-n", str(GREEDY),
                        "--temp", "0")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0].split(" - ")[1])
    add = parser.add_argument
    add("--gguf", type=Path, required=True)
    add("--weights", required=True)
    add("--tokenizer", required=True)
    add("--weir", required=True, help="the command")
    add("--text", type=Path, required=True)
    add("--tokens", type=int, default=1000)
    arguments = parser.parse_args()
    text = arguments.text.read_text(encoding="utf-8")[20000:20000 + 8 * arguments.tokens]
    reference, failed = None, False
    for engine in (PyTorch(arguments), LlamaCpp(arguments), Weir(arguments)):
        ids = engine.ids(text)
        reference = reference or (ids, engine.perplexity(ids[:arguments.tokens]))
        same = ids == reference[0]
        perplexity = engine.perplexity(reference[0][:arguments.tokens])
        off = perplexity / reference[1] - 1
        failed = failed or not same or abs(off) > 0.005
        print(f"== {type(engine).__name__}: {'same' if same else 'OTHER'} ids, "
              f"perplexity {perplexity:.4f} ({off:+.3%})\n"
              f"{PROMPT}{engine.greedy(engine.ids(PROMPT))}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
