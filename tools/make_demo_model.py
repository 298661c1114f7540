#!/usr/bin/env python3
"""make_demo_model.py - a tiny model with a tokenizer and a chat template, and RANDOM weights.

    tools/make_demo_model.py OUT        a Hugging Face folder, about 400 KB

For trying the plumbing where no real model is at hand: what it says is words in random order.
Needs nothing but Python; the same file every time.

SPDX-License-Identifier: MIT
"""

import array
import json
import pathlib
import random
import struct
import sys

DIM, FFN, LAYERS, HEADS, KV_HEADS, CONTEXT = 64, 128, 2, 4, 2, 256
SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
WORDS = (
    "the a river weir water stone bank mill wheel bridge rain spring winter summer night morning "
    "boat fish heron reed willow path field village house door window lamp fire bread letter "
    "child friend mother miller ferryman old young quiet cold warm deep slow bright dark long "
    "runs holds falls carries remembers forgets returns waits sings turns and then but while "
    "because under over beside through again never always still here there"
).split()
TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def byte_letters():
    """GPT-2's letter for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in plain]
    letters = {b: chr(b) for b in plain}
    letters.update({b: chr(256 + i) for i, b in enumerate(other)})
    return [letters[b] for b in range(256)]


def vocabulary():
    space = byte_letters()[32]
    return byte_letters() + [space + w for w in WORDS] + SPECIAL


def tokenizer(tokens):
    first = len(tokens) - len(SPECIAL)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": first + i, "content": s, "special": True, **flags} for i, s in enumerate(SPECIAL)
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel"},
        "model": {
            "type": "BPE",
            "vocab": {t: i for i, t in enumerate(tokens)},
            "merges": [],
        },
    }


def config(n_tokens):
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "_name_or_path": "random words (no training)",
        "hidden_size": DIM,
        "intermediate_size": FFN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": n_tokens,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "eos_token_id": n_tokens - len(SPECIAL),
    }


def shapes(n_tokens):
    """(name, rows, columns); a vector has no rows."""
    yield "model.embed_tokens.weight", n_tokens, DIM
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        kv = KV_HEADS * (DIM // HEADS)
        yield layer + "input_layernorm.weight", 0, DIM
        yield layer + "self_attn.q_proj.weight", DIM, DIM
        yield layer + "self_attn.k_proj.weight", kv, DIM
        yield layer + "self_attn.v_proj.weight", kv, DIM
        yield layer + "self_attn.o_proj.weight", DIM, DIM
        yield layer + "post_attention_layernorm.weight", 0, DIM
        yield layer + "mlp.gate_proj.weight", FFN, DIM
        yield layer + "mlp.up_proj.weight", FFN, DIM
        yield layer + "mlp.down_proj.weight", DIM, FFN
    yield "model.norm.weight", 0, DIM
    yield "lm_head.weight", n_tokens, DIM


def head(rng, n_tokens):
    """Rows of the words are random, those of bytes and roles zero: it speaks in whole words.  The
    end of a reply is likelier than a word."""
    rows = []
    for i in range(n_tokens):
        end = n_tokens - len(SPECIAL)
        spread = 0.45 if i == end else 0.35 if 256 <= i < end else 0.0
        rows += [rng.gauss(0, spread) for _ in range(DIM)]
    return rows


def weights(n_tokens):
    rng = random.Random(2024)
    for name, rows, columns in shapes(n_tokens):
        if rows == 0:
            values, shape = [1.0] * columns, [columns]
        elif name == "lm_head.weight":
            values, shape = head(rng, n_tokens), [rows, columns]
        else:
            values = [rng.gauss(0, columns**-0.5) for _ in range(rows * columns)]
            shape = [rows, columns]
        data = array.array("f", values)
        if sys.byteorder == "big":
            data.byteswap()
        yield name, shape, data.tobytes()


def write_safetensors(path, tensors):
    header, blobs, at = {}, [], 0
    for name, shape, data in tensors:
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(data)]}
        blobs.append(data)
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: tools/make_demo_model.py OUT")
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    tokens = vocabulary()
    chat = {"chat_template": TEMPLATE, "eos_token": SPECIAL[0], "add_bos_token": False}
    files = {
        "config.json": config(len(tokens)),
        "tokenizer.json": tokenizer(tokens),
        "tokenizer_config.json": chat,
    }
    for name, value in files.items():
        (out / name).write_text(json.dumps(value, indent=1) + "\n")
    write_safetensors(out / "model.safetensors", weights(len(tokens)))


if __name__ == "__main__":
    main()
