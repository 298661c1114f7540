#!/usr/bin/env python3
"""make_format_golden.py - writes tests/data/format: what other programs say model files contain.

    quant/TYPE.blocks, TYPE.f32   random blocks, and the floats the `gguf` package makes of them
    quant/encode.f32, TYPE.row    floats, and the blocks the `gguf` package makes of them
    gguf/NAME.gguf                tiny models of every architecture, by gguf.GGUFWriter
    folder/, sharded/             tiny Llamas, by the `safetensors` package

The files are checked in; run this again only to change them. Needs numpy, gguf, safetensors.

SPDX-License-Identifier: MIT
"""

import json
import pathlib

import gguf
import numpy as np
import safetensors
from gguf import GGMLQuantizationType as T

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/format"
TYPES = [T.F32, T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q4_K, T.Q5_K, T.Q6_K]
# Where the f16 scales lie in a block: random bytes there would make most of them huge or NaN.
SCALES = {
    T.Q8_0: [0],
    T.Q4_0: [0],
    T.Q4_1: [0, 2],
    T.Q5_0: [0],
    T.Q5_1: [0, 2],
    T.Q4_K: [0, 2],
    T.Q5_K: [0, 2],
    T.Q6_K: [208],
}
rng = np.random.default_rng(1)


def random_blocks(kind: T, n: int) -> np.ndarray:
    """n blocks of a type, [n, bytes]: random bits with sane scales; floats for the plain types."""
    if kind == T.F32:
        return rng.standard_normal((n, 1)).astype("<f4").view(np.uint8)
    if kind == T.F16:
        x = rng.standard_normal((n, 1)).astype("<f2")
        x[:4, 0] = [0.0, -0.0, 6e-8, 65504.0]  # a zero of each sign, a subnormal, the largest
        return x.view(np.uint8)
    if kind == T.BF16:
        return (
            (rng.standard_normal((n, 1)).astype("<f4").view("<u4") >> 16)
            .astype("<u2")
            .view(np.uint8)
        )
    blocks = rng.integers(0, 256, (n, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    for at in SCALES[kind]:
        blocks[:, at : at + 2] = rng.standard_normal((n, 1)).astype("<f2").view(np.uint8)
    return blocks


def write_quant() -> None:
    folder = OUT / "quant"
    folder.mkdir(parents=True, exist_ok=True)
    for kind in TYPES:
        size = gguf.GGML_QUANT_SIZES[kind][0]
        blocks = random_blocks(kind, 512 // size)
        floats = gguf.dequantize(blocks.reshape(1, -1), kind).astype("<f4")
        (folder / f"{kind.name}.blocks").write_bytes(blocks.tobytes())
        (folder / f"{kind.name}.f32").write_bytes(floats.tobytes())
    x = rng.standard_normal(1024).astype("<f4")
    x[:32] = 0.0
    x[32:64] = np.arange(-16, 16) / 2  # ties for both types
    x[64:96] *= 1e-9  # scales that vanish in f16
    x[96:128] = -1.0
    x[128:160:2] = -x[129:161:2]  # several of the largest magnitude, of both signs
    (folder / "encode.f32").write_bytes(x.tobytes())
    for kind in (T.Q8_0, T.Q4_0):
        (folder / f"{kind.name}.row").write_bytes(gguf.quantize(x.reshape(1, -1), kind).tobytes())


class Model:
    """A tiny GGUF in the making; tensors of any type hold random blocks."""

    def __init__(self, name: str, arch: str) -> None:
        (OUT / "gguf").mkdir(parents=True, exist_ok=True)
        self.writer = gguf.GGUFWriter(OUT / "gguf" / f"{name}.gguf", arch)
        w = self.writer
        w.add_name(f"tiny {name}")
        w.add_context_length(64)
        w.add_embedding_length(256)
        w.add_feed_forward_length(512)
        w.add_block_count(1)
        w.add_head_count(8)

    def tensor(self, name: str, shape: tuple, kind: T = T.F32) -> None:
        n = int(np.prod(shape))
        size = gguf.GGML_QUANT_SIZES[kind][0]
        data = random_blocks(kind, n // size).reshape(*shape[:-1], -1)
        if kind == T.F32:
            self.writer.add_tensor(name, data.view("<f4"))
        elif kind == T.F16:
            self.writer.add_tensor(name, data.view("<f2"))
        else:
            self.writer.add_tensor(name, data, raw_dtype=kind)

    def close(self) -> None:
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()


def write_gguf() -> None:
    # Not every matrix has its real number of rows: these files test names, types and places.
    m = Model("llama", "llama")
    m.writer.add_head_count_kv(4)
    m.writer.add_layer_norm_rms_eps(1e-5)
    m.writer.add_rope_dimension_count(32)
    m.writer.add_rope_freq_base(500000.0)
    m.writer.add_token_list(["<unk>", "<s>", "</s>", "a", "b"])
    m.writer.add_token_scores([0.0, 0.0, 0.0, -1.0, -2.0])
    m.writer.add_token_types([2, 3, 3, 1, 1])
    m.tensor("token_embd.weight", (5, 256), T.Q6_K)
    m.tensor("rope_freqs.weight", (16,))
    m.writer.tensors[-1]["rope_freqs.weight"].tensor[...] = np.linspace(1, 8, 16, dtype="<f4")
    m.tensor("output_norm.weight", (256,))
    m.tensor("output.weight", (5, 256), T.Q8_0)
    m.tensor("blk.0.attn_norm.weight", (256,))
    m.tensor("blk.0.attn_q.weight", (2, 256), T.Q4_0)
    m.tensor("blk.0.attn_k.weight", (2, 256), T.Q4_1)
    m.tensor("blk.0.attn_v.weight", (2, 256), T.Q5_0)
    m.tensor("blk.0.attn_output.weight", (2, 256), T.Q5_1)
    m.tensor("blk.0.ffn_norm.weight", (256,))
    m.tensor("blk.0.ffn_gate.weight", (2, 256), T.Q4_K)
    m.tensor("blk.0.ffn_up.weight", (2, 256), T.Q5_K)
    m.tensor("blk.0.ffn_down.weight", (2, 512), T.BF16)
    m.close()

    m = Model("qwen3", "qwen3")
    m.writer.add_head_count_kv(2)
    m.writer.add_key_length(128)
    m.writer.add_value_length(128)
    m.writer.add_layer_norm_rms_eps(1e-6)
    m.writer.add_rope_freq_base(1e6)
    m.writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    m.writer.add_rope_scaling_factor(4.0)
    m.writer.add_rope_scaling_orig_ctx_len(16)
    m.tensor("token_embd.weight", (7, 256), T.F16)
    m.tensor("blk.0.attn_q_norm.weight", (128,))
    m.tensor("blk.0.attn_k_norm.weight", (128,))
    m.close()

    m = Model("qwen2", "qwen2")
    m.writer.add_layer_norm_rms_eps(1e-6)
    m.tensor("token_embd.weight", (7, 256), T.F16)
    m.tensor("blk.0.attn_q.bias", (256,))
    m.close()

    m = Model("gptneox", "gptneox")
    m.writer.add_rope_dimension_count(8)
    m.writer.add_parallel_residual(False)
    m.writer.add_layer_norm_eps(1e-5)
    m.tensor("token_embd.weight", (6, 256), T.F16)
    m.tensor("output_norm.bias", (256,))
    m.tensor("output.weight", (6, 256), T.F16)
    for name in ("attn_norm", "attn_qkv", "attn_output", "ffn_norm", "ffn_up", "ffn_down"):
        m.tensor(f"blk.0.{name}.bias", (256,))
    m.close()

    m = Model("mpt", "mpt")
    m.writer.add_layer_norm_eps(1e-5)
    m.writer.add_clamp_kqv(6.0)
    m.writer.add_max_alibi_bias(8.0)
    m.tensor("token_embd.weight", (6, 256), T.F16)
    m.tensor("output_norm.weight", (256,))
    for name in ("attn_norm", "attn_qkv", "attn_output", "ffn_norm", "ffn_up", "ffn_down"):
        m.tensor(f"blk.0.{name}.weight", (256,))
    m.close()

    for name, kv_heads in (("falcon7", 1), ("falcon40", 2)):
        m = Model(name, "falcon")
        m.writer.add_tensor_data_layout("jploski")
        m.writer.add_head_count_kv(kv_heads)
        m.writer.add_layer_norm_eps(1e-5)
        m.tensor("token_embd.weight", (6, 256), T.F16)
        m.tensor("output_norm.weight", (256,))
        norms = ("attn_norm",) if kv_heads == 1 else ("attn_norm", "attn_norm_2")
        for part in norms + ("attn_qkv", "attn_output", "ffn_up", "ffn_down"):
            m.tensor(f"blk.0.{part}.weight", (256,))
        m.close()


CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 4,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
DTYPES = {"<f4": "float32", "<f2": "float16", "<u2": "bfloat16"}


def tensor(shape: tuple, dtype: str) -> np.ndarray:
    """A tensor of 1, 2, 3, ...; "<u2" stands for bfloat16."""
    x = np.arange(1, np.prod(shape) + 1, dtype="<f4").reshape(shape)
    return (x.view("<u4") >> 16).astype("<u2") if dtype == "<u2" else x.astype(dtype)


def serialize(tensors: dict) -> bytes:
    specs = {
        name: safetensors.TensorSpec(
            dtype=DTYPES[x.dtype.str],
            shape=list(x.shape),
            data_ptr=x.ctypes.data,
            data_len=x.nbytes,
        )
        for name, x in tensors.items()
    }
    return bytes(safetensors.serialize(specs, {"format": "pt"}))


def write_folder(name: str, shards: list) -> None:
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    weight_map = {}
    for i, tensors in enumerate(shards):
        file = (
            f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
            if len(shards) > 1
            else "model.safetensors"
        )
        (folder / file).write_bytes(serialize(tensors))
        weight_map.update({key: file for key in tensors})
    if len(shards) > 1:
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def write_folders() -> None:
    first = {
        "model.embed_tokens.weight": tensor((4, 8), "<f4"),
        "model.norm.weight": tensor((8,), "<f2"),
    }
    second = {
        "model.layers.0.self_attn.q_proj.weight": tensor((8, 8), "<u2"),
        "model.layers.0.self_attn.rotary_emb.inv_freq": tensor((2,), "<f4"),
    }
    write_folder("folder", [{**first, **second}])
    write_folder("sharded", [first, second])


if __name__ == "__main__":
    write_quant()
    write_gguf()
    write_folders()
