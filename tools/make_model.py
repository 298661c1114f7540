#!/usr/bin/env python3
"""make_model.py - models of real shapes with random weights, for measuring speed and size.

    make_model.py llama-1b build/llama-1b.gguf --type q8_0     one GGUF file
    make_model.py tiny build/tiny --type bf16                  an HF folder

Values come from a small pool of random blocks that is written over and over from random offsets:
speed does not depend on them, and a 7B model takes seconds and little memory.  Their scale keeps
activations sane (variance 1 / inputs).  The tokenizer is real but plain: byte-level BPE, the 256
bytes, BOS, EOS, and filler words " w0", " w1", ... that no text encodes to but any id decodes to.
Runs in llama.cpp, transformers and weir.  Needs numpy only.

SPDX-License-Identifier: MIT
"""

import argparse
import json
import pathlib
import struct

import numpy as np

SHAPES = {
    "tiny": dict(
        dim=64,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        head_dim=16,
        ffn_dim=192,
        vocab=512,
        context=256,
        theta=10000.0,
        tied=True,
    ),
    "llama-1b": dict(
        dim=2048,
        n_layers=16,
        n_heads=32,
        n_kv_heads=8,
        head_dim=64,
        ffn_dim=8192,
        vocab=128256,
        context=131072,
        theta=500000.0,
        tied=True,
    ),
    "llama-7b": dict(
        dim=4096,
        n_layers=32,
        n_heads=32,
        n_kv_heads=32,
        head_dim=128,
        ffn_dim=11008,
        vocab=32000,
        context=4096,
        theta=10000.0,
        tied=False,
    ),
    "llama-8b": dict(
        dim=4096,
        n_layers=32,
        n_heads=32,
        n_kv_heads=8,
        head_dim=128,
        ffn_dim=14336,
        vocab=128256,
        context=131072,
        theta=500000.0,
        tied=False,
    ),
}
BOS, EOS = 256, 257
NORM_EPS = 1e-5
POOL_VALUES = 32 * 131071  # a prime number of blocks: repeats do not line up with rows

# ---------------------------------------------------------------------- element types


def encode_f32(x):
    return x


def encode_f16(x):
    return x.astype(np.float16)


def encode_bf16(x):
    return ((x.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)


def random_q8_0(rng, n, std):
    """Blocks of 32: f16 scale, 32 int8.  Uniform in [-127, 127] has deviation 73.3."""
    blocks = np.empty(n // 32, dtype=[("d", "<f2"), ("q", "i1", 32)])
    blocks["d"] = std / 73.3
    blocks["q"] = rng.integers(-127, 128, (n // 32, 32), dtype=np.int8)
    return blocks


def random_q4_0(rng, n, std):
    """Blocks of 32: f16 scale, 16 bytes of nibbles, each minus 8; 1..15 has deviation 4.32."""
    blocks = np.empty(n // 32, dtype=[("d", "<f2"), ("q", "u1", 16)])
    blocks["d"] = std / 4.32
    low, high = rng.integers(1, 16, (2, n // 32, 16), dtype=np.uint8)
    blocks["q"] = low | high << 4
    return blocks


def random_floats(encode):
    return lambda rng, n, std: encode(rng.standard_normal(n, dtype=np.float32) * np.float32(std))


class Type:
    def __init__(self, ggml, file_type, block, block_bytes, random, safetensors=None):
        self.ggml, self.file_type = ggml, file_type
        self.block, self.block_bytes = block, block_bytes
        self.random, self.safetensors = random, safetensors

    def bytes(self, n):
        return n // self.block * self.block_bytes


TYPES = {
    "f32": Type(0, 0, 1, 4, random_floats(encode_f32), "F32"),
    "f16": Type(1, 1, 1, 2, random_floats(encode_f16), "F16"),
    "bf16": Type(30, 32, 1, 2, random_floats(encode_bf16), "BF16"),
    "q8_0": Type(8, 7, 32, 34, random_q8_0),
    "q4_0": Type(2, 2, 32, 18, random_q4_0),
}


class Pool:
    """Endless random values of one type; one block of them per deviation."""

    def __init__(self, kind, seed):
        self.kind, self.rng, self.pools = kind, np.random.default_rng(seed), {}

    def write(self, file, shape):
        n, std = int(np.prod(shape)), shape[-1] ** -0.5
        assert shape[-1] % self.kind.block == 0, f"rows of {shape[-1]} are not whole blocks"
        if std not in self.pools:
            blocks = self.kind.random(self.rng, POOL_VALUES, std)
            self.pools[std] = blocks.view(np.uint8).reshape(-1)
        pool, left = self.pools[std], self.kind.bytes(n)
        at = int(self.rng.integers(POOL_VALUES // self.kind.block)) * self.kind.block_bytes
        while left > 0:
            part = pool[at : at + left]
            file.write(part.data)
            left, at = left - len(part), 0


# ---------------------------------------------------------------------- tensors and vocabulary


def tensors_of(c):
    """Yields (HF name, GGUF name, shape), outermost dimension first."""
    q_dim, kv_dim = c["n_heads"] * c["head_dim"], c["n_kv_heads"] * c["head_dim"]
    yield "model.embed_tokens.weight", "token_embd.weight", (c["vocab"], c["dim"])
    for i in range(c["n_layers"]):
        for hf, gguf, shape in (
            ("input_layernorm", "attn_norm", (c["dim"],)),
            ("self_attn.q_proj", "attn_q", (q_dim, c["dim"])),
            ("self_attn.k_proj", "attn_k", (kv_dim, c["dim"])),
            ("self_attn.v_proj", "attn_v", (kv_dim, c["dim"])),
            ("self_attn.o_proj", "attn_output", (c["dim"], q_dim)),
            ("post_attention_layernorm", "ffn_norm", (c["dim"],)),
            ("mlp.gate_proj", "ffn_gate", (c["ffn_dim"], c["dim"])),
            ("mlp.up_proj", "ffn_up", (c["ffn_dim"], c["dim"])),
            ("mlp.down_proj", "ffn_down", (c["dim"], c["ffn_dim"])),
        ):
            yield f"model.layers.{i}.{hf}.weight", f"blk.{i}.{gguf}.weight", shape
    yield "model.norm.weight", "output_norm.weight", (c["dim"],)
    if not c["tied"]:
        yield "lm_head.weight", "output.weight", (c["vocab"], c["dim"])


def byte_letters():
    """The visible letter that byte-level BPE writes for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def vocabulary(n):
    letters = byte_letters()
    space = letters[ord(" ")]
    words = [*letters, "<|bos|>", "<|eos|>", space + "w"]
    return words + [f"{space}w{i}" for i in range(n - len(words))], [f"{space} w"]


# ---------------------------------------------------------------------- GGUF


def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(value):
    """u32, f32, bool, string, or a list of i32 or of strings, with its type in front."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + gguf_string(value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(gguf_string, value))
    return struct.pack("<IIQ", 9, 5, len(value)) + np.array(value, "<i4").tobytes()


def gguf_keys(name, c, kind):
    words, merges = vocabulary(c["vocab"])
    return {
        "general.architecture": "llama",
        "general.name": f"random {name}",
        "general.file_type": kind.file_type,
        "general.quantization_version": 2,
        "llama.context_length": c["context"],
        "llama.embedding_length": c["dim"],
        "llama.block_count": c["n_layers"],
        "llama.feed_forward_length": c["ffn_dim"],
        "llama.attention.head_count": c["n_heads"],
        "llama.attention.head_count_kv": c["n_kv_heads"],
        "llama.attention.key_length": c["head_dim"],
        "llama.attention.value_length": c["head_dim"],
        "llama.attention.layer_norm_rms_epsilon": NORM_EPS,
        "llama.rope.dimension_count": c["head_dim"],
        "llama.rope.freq_base": c["theta"],
        "llama.vocab_size": c["vocab"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [3 if i in (BOS, EOS) else 1 for i in range(c["vocab"])],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
        "tokenizer.ggml.add_bos_token": True,
    }


def pad(file, to=32):
    file.write(bytes(-file.tell() % to))


def write_gguf(path, name, c, kind, seed):
    tensors = [(gguf, shape) for _, gguf, shape in tensors_of(c)]
    keys = gguf_keys(name, c, kind)
    pool = Pool(kind, seed)
    with open(path, "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)))
        for key, value in keys.items():
            file.write(gguf_string(key) + gguf_value(value))
        offset = 0
        for gguf, shape in tensors:
            of = TYPES["f32"] if len(shape) == 1 else kind  # norms stay f32, as everywhere
            file.write(gguf_string(gguf) + struct.pack("<I", len(shape)))
            file.write(struct.pack(f"<{len(shape)}QIQ", *reversed(shape), of.ggml, offset))
            offset += (of.bytes(int(np.prod(shape))) + 31) // 32 * 32
        for _, shape in tensors:
            pad(file)
            if len(shape) == 1:
                file.write(np.ones(shape, np.float32).tobytes())
            else:
                pool.write(file, shape)


# ---------------------------------------------------------------------- HF folder


def config_json(c, type_name):
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": c["dim"],
        "intermediate_size": c["ffn_dim"],
        "num_hidden_layers": c["n_layers"],
        "num_attention_heads": c["n_heads"],
        "num_key_value_heads": c["n_kv_heads"],
        "head_dim": c["head_dim"],
        "vocab_size": c["vocab"],
        "max_position_embeddings": c["context"],
        "rope_theta": c["theta"],
        "rms_norm_eps": NORM_EPS,
        "hidden_act": "silu",
        "tie_word_embeddings": c["tied"],
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "torch_dtype": {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}[type_name],
    }


def tokenizer_json(vocab):
    words, merges = vocabulary(vocab)
    plain = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    bos = [{"SpecialToken": {"id": words[BOS], "type_id": 0}}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": words[i], **plain} for i in (BOS, EOS)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": bos + [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": bos + [{"Sequence": {"id": s, "type_id": 0}} for s in "AB"],
            "special_tokens": {
                words[BOS]: {"id": words[BOS], "ids": [BOS], "tokens": [words[BOS]]}
            },
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {word: i for i, word in enumerate(words)},
            "merges": merges,
        },
    }


def write_folder(folder, c, type_name, seed):
    kind = TYPES[type_name]
    if kind.safetensors is None:
        raise SystemExit(
            f"an HF folder holds f32, f16 or bf16, not {type_name}; name the file .gguf"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json(c, type_name), indent=1) + "\n")
    (folder / "tokenizer.json").write_text(
        json.dumps(tokenizer_json(c["vocab"]), ensure_ascii=False)
    )
    said = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|eos|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(said, indent=1) + "\n")
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    tensors = [(hf, shape) for hf, _, shape in tensors_of(c)]
    for hf, shape in tensors:
        end = offset + kind.bytes(int(np.prod(shape)))
        header[hf] = {"dtype": kind.safetensors, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    encode = {"f32": encode_f32, "f16": encode_f16, "bf16": encode_bf16}[type_name]
    pool = Pool(kind, seed)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape in tensors:
            if len(shape) == 1:
                file.write(encode(np.ones(shape, np.float32)).tobytes())
            else:
                pool.write(file, shape)


def make(shape, out, type_name, seed=0, layers=None):
    """Writes a model; out ends in .gguf for one file, else is a folder."""
    c = dict(SHAPES[shape])
    c["n_layers"] = layers or c["n_layers"]
    out = pathlib.Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".gguf":
        half = out.with_name(out.name + ".part")  # an interrupted run leaves no half model behind
        write_gguf(half, shape, c, TYPES[type_name], seed)
        half.rename(out)
    else:
        write_folder(out, c, type_name, seed)


def main():
    parser = argparse.ArgumentParser(description="random weights in real shapes")
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("out", help="FILE.gguf or a folder")
    parser.add_argument("--type", choices=TYPES, default="bf16")
    parser.add_argument("--layers", type=int, help="fewer or more layers than the shape has")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make(args.shape, args.out, args.type, args.seed, args.layers)


if __name__ == "__main__":
    main()
