#!/usr/bin/env python3
"""make_olmo2_golden.py - the model that the test of examples/own_model.c runs, and its answers.

    tools/make_olmo2_golden.py [OUT]        needs torch and transformers

Writes to tests/data/olmo2: a tiny random OLMo 2 as transformers stores it; ids.txt, the tokens it
reads; expected.txt, after each of them the likeliest next token and its logit in float64.

SPDX-License-Identifier: MIT
"""

import pathlib
import sys

import torch
from transformers import Olmo2Config, Olmo2ForCausalLM


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else root / "tests/data/olmo2")
    torch.manual_seed(1)
    config = Olmo2Config(
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=89,
        max_position_embeddings=64,
    )
    model = Olmo2ForCausalLM(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.rand_like(p) + 0.5 if "norm" in name else torch.randn_like(p) * 0.3)
    model.save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    ids = torch.randint(0, config.vocab_size, (1, 48))
    with torch.no_grad():
        logits = model.double()(ids).logits[0]
    best, where = logits.max(-1)
    (out / "ids.txt").write_text(" ".join(map(str, ids[0].tolist())) + "\n")
    rows = zip(where.tolist(), best.tolist())
    (out / "expected.txt").write_text("".join(f"{i} {x:.5f}\n" for i, x in rows))


if __name__ == "__main__":
    main()
