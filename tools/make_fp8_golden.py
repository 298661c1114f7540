#!/usr/bin/env python3
"""make_fp8_golden.py - tiny Llamas with fp8 weights, scales by each convention, and their logits.

    make_fp8_golden.py [OUT]        needs numpy; adds to what make_golden.py wrote, which calls it

    fp8_tensor     name.weight_scale, a scalar          input_scale beside it, which nobody reads
    fp8_channel    name.weight_scale [rows, 1] in bf16  quant_method compressed-tensors
    fp8_block      name.weight_scale_inv [rows / 128, cols / 128], rounded up; quant_method fp8

Embeddings and head stay in bf16, norms in f32.  Logits are those of tools/reference.py, float64,
which makes its own floats of codes and scales.

SPDX-License-Identifier: MIT
"""

import json
import pathlib
import sys

import numpy as np

import reference
from reference_models import E4M3

VOCAB, N_TOKENS, N_DENSE = 97, 150, 56
SMALL = {"hidden_size": 40, "intermediate_size": 52, "num_attention_heads": 5}
LARGE = {"hidden_size": 136, "intermediate_size": 140, "num_attention_heads": 4}
METHODS = {
    "fp8_tensor": (SMALL, {"quant_method": "fp8", "activation_scheme": "static"}),
    "fp8_channel": (
        SMALL,
        {"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"]},
    ),
    "fp8_block": (LARGE, {"quant_method": "fp8", "weight_block_size": [128, 128]}),
}


def bf16(x):
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def of_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def encode(x):
    """The nearest e4m3 of each number."""
    numbers = E4M3[:127]
    codes = np.searchsorted((numbers[1:] + numbers[:-1]) / 2, np.abs(x))
    return (codes | np.where(x < 0, 0x80, 0)).astype(np.uint8)


def quantize(out, name, x, method):
    """Codes and scales of a matrix into out: name -> (dtype, array)."""
    rows, cols = x.shape
    if method == "fp8_tensor":
        scale = np.float32(np.abs(x).max() / 448)
        spread = scale
        out[f"{name}_scale"] = ("F32", np.array(scale, "<f4"))
        out[name.replace("weight", "input_scale")] = ("F32", np.array(0.01, "<f4"))
    elif method == "fp8_channel":
        bits = bf16(np.abs(x).max(axis=1, keepdims=True) / 448)
        spread = of_bf16(bits)
        out[f"{name}_scale"] = ("BF16", bits)
    else:
        shape = -(-rows // 128), -(-cols // 128)
        scale = np.empty(shape, "<f4")
        for i, j in np.ndindex(shape):
            block = x[i * 128 : i * 128 + 128, j * 128 : j * 128 + 128]
            scale[i, j] = np.abs(block).max() / 448
        spread = np.kron(scale, np.ones((128, 128)))[:rows, :cols]
        out[f"{name}_scale_inv"] = ("F32", scale)
    out[name] = ("F8_E4M3", encode(x / spread))


def make_tensors(config, method, rng):
    dim, ffn = config["hidden_size"], config["intermediate_size"]
    kv = dim // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes = {
        "self_attn.q_proj": (dim, dim),
        "self_attn.k_proj": (kv, dim),
        "self_attn.v_proj": (kv, dim),
        "self_attn.o_proj": (dim, dim),
        "mlp.gate_proj": (ffn, dim),
        "mlp.up_proj": (ffn, dim),
        "mlp.down_proj": (dim, ffn),
    }
    out = {}
    for i in range(config["num_hidden_layers"]):
        at = f"model.layers.{i}"
        for name, (rows, cols) in shapes.items():
            # rows and blocks of different sizes, so that a scale in the wrong place shows
            sizes = np.exp(rng.normal(0, 0.5, (rows, 1))) * np.where(np.arange(cols) < 128, 1, 3)
            x = rng.normal(0, 1.2 / cols**0.5, (rows, cols)) * sizes
            quantize(out, f"{at}.{name}.weight", x, method)
        for name in ("input_layernorm", "post_attention_layernorm"):
            out[f"{at}.{name}.weight"] = ("F32", rng.normal(1, 0.2, dim).astype("<f4"))
    out["model.norm.weight"] = ("F32", rng.normal(1, 0.2, dim).astype("<f4"))
    out["model.embed_tokens.weight"] = ("BF16", bf16(rng.normal(0, 1, (VOCAB, dim))))
    out["lm_head.weight"] = ("BF16", bf16(rng.normal(0, 1.2 / dim**0.5, (VOCAB, dim))))
    return out


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, x) in sorted(tensors.items(), key=lambda t: (-t[1][1].itemsize, t[0])):
        end = len(data) + x.nbytes
        header[name] = {"dtype": dtype, "shape": list(x.shape), "data_offsets": [len(data), end]}
        data += x.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def make_model(folder, method):
    sizes, quantization = METHODS[method]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **sizes,
        "num_hidden_layers": 1 if sizes is LARGE else 2,
        "num_key_value_heads": 1,
        "vocab_size": VOCAB,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "quantization_config": quantization,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    rng = np.random.default_rng(list(METHODS).index(method) + 100)
    write_safetensors(folder / "model.safetensors", make_tensors(config, method, rng))


def make_fp8(out):
    """Adds the models to out, a folder of make_golden.py; returns their lines of cases.txt."""
    ids = [int(i) for i in (out / "ids.txt").read_text().split()]
    cases = [("dense", "dense", 0, N_DENSE, N_DENSE), ("s4_w24", "streaming", 4, 24, N_TOKENS)]
    lines = []
    for method in METHODS:
        make_model(out / method, method)
        model = reference.load(out / method)
        for name, mode, sinks, window, n in cases:
            rows = sorted({*range(0, n, 11), *range(n - 5, n)})
            logits = reference.evaluate(model, ids[:n], sinks, window, mode, rows=rows)
            logits.astype("<f4").tofile(out / method / f"{name}.f32")
            where = " ".join(map(str, rows))
            lines.append(f"{method} {name} {mode} {sinks} {window} {n} 0 -1 {len(rows)} {where}\n")
    return lines


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else root / "tests/data/golden")
    cases = out / "cases.txt"
    kept = [line for line in cases.read_text().splitlines(True) if not line.startswith("fp8_")]
    cases.write_text("".join(kept + make_fp8(out)))


if __name__ == "__main__":
    main()
