"""reference_models.py - HF folders as numpy functions, float64: the models of reference.py.

A model is a namespace of plain functions over one token's features [dim]: embed, norm, head and
blocks, and what attention must know.  It has no state and computes no attention; reference.py does.

    model      embed [vocab, dim], blocks, norm, head, n_heads, n_kv_heads, head_dim, scale,
               rope (dims, frequencies, attention factor) or None, slopes [n_heads] or None,
               clip (bound of q, k, v) or None, sliding_window or None
    block      attn_norm, q, k, v, o, q_norm, k_norm (over each head, or None), mlp_norm, mlp,
               parallel: x + attn(norm(x)) + mlp(norm'(x)) instead of one after the other

References: the modeling files of transformers; tensor names are Hugging Face's.

SPDX-License-Identifier: MIT
"""

import json
import math
import pathlib
from types import SimpleNamespace

import numpy as np

# ---------------------------------------------------------------------- files


def e4m3_numbers():
    """The number of each code of e4m3: sign, 4 bits of exponent (bias 7), 3 of fraction."""
    code = np.arange(256)
    exponent, fraction = code >> 3 & 15, code & 7
    small, large = fraction / 512.0, (1 + fraction / 8.0) * 2.0 ** (exponent - 7.0)
    numbers = np.where(exponent == 0, small, large) * np.where(code > 127, -1.0, 1.0)
    return np.where(code & 127 == 127, np.nan, numbers)


E4M3 = e4m3_numbers()


def read_safetensors(path):
    """Returns {name: float64 array}.  A file is: u64 header size, JSON header, data."""
    raw = np.memmap(path, dtype=np.uint8, mode="r")
    size = int(raw[:8].view("<u8")[0])
    header = json.loads(bytes(raw[8 : 8 + size]))
    data = raw[8 + size :]
    tensors = {}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        begin, end = info["data_offsets"]
        part = np.array(data[begin:end])  # a copy: offsets need not be aligned
        if info["dtype"] == "BF16":  # the upper half of a float32
            values = (part.view("<u2").astype(np.uint32) << 16).view(np.float32)
        elif info["dtype"] == "F8_E4M3":
            values = E4M3[part]
        else:
            values = part.view({"F32": "<f4", "F16": "<f2", "F64": "<f8"}[info["dtype"]])
        tensors[name] = values.astype(np.float64).reshape(info["shape"])
    return tensors


def read_folder(folder):
    """Returns (config, tensors) of an HF folder, sharded or not."""
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise SystemExit(f"{folder}: no .safetensors file")
    tensors = {}
    for file in files:
        tensors.update(read_safetensors(file))
    apply_scales(tensors)
    return config, tensors


def apply_scales(tensors):
    """Multiplies fp8 weights by the scales that lie beside them, each of which serves as many rows
    and columns as there are; of blocks 128, of which the last may be cut."""
    for name in [n for n in tensors if n.endswith((".weight_scale", ".weight_scale_inv"))]:
        weight, scale = name[: name.rindex("_scale")], tensors.pop(name)
        rows, cols = tensors[weight].shape
        if name.endswith("_inv"):
            scale = scale.repeat(128, axis=0).repeat(128, axis=1)[:rows, :cols]
        tensors[weight] = tensors[weight] * scale


# ---------------------------------------------------------------------- rotation


def rope_of(config, head_dim):
    """Returns (dims, frequencies [dims / 2], attention factor), radians per position."""
    new = config.get("rope_parameters") or {}  # transformers 5 keeps everything in one place
    old = config.get("rope_scaling") or {}
    said = {**old, **new}
    theta = (
        said.get("rope_theta")
        or config.get("rope_theta")
        or config.get("rotary_emb_base")
        or 10000.0
    )
    part = said.get("partial_rotary_factor") or config.get("partial_rotary_factor")
    part = part or config.get("rotary_pct") or 1.0
    dims = int(head_dim * part)
    freqs = float(theta) ** (-np.arange(0, dims, 2) / dims)
    kind = said.get("rope_type") or said.get("type") or "default"
    if kind == "default":
        return dims, freqs, 1.0
    factor = said["factor"]
    if kind == "linear":
        return dims, freqs / factor, 1.0
    trained = said.get("original_max_position_embeddings") or config["max_position_embeddings"]
    if kind == "llama3":
        return dims, llama3_freqs(freqs, factor, trained, said), 1.0
    if kind == "yarn":
        attention = said.get("attention_factor") or 0.1 * math.log(factor) + 1.0
        return dims, yarn_freqs(freqs, factor, trained, said, dims, theta), attention
    raise SystemExit(f"rope type {kind} is not implemented")


def llama3_freqs(freqs, factor, trained, said):
    """Slow frequencies are divided by factor, fast ones kept, those between blended."""
    low, high = said["low_freq_factor"], said["high_freq_factor"]
    turns = trained * freqs / (2 * math.pi)  # full turns over the trained context
    blend = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return freqs * blend + freqs / factor * (1.0 - blend)


def yarn_freqs(freqs, factor, trained, said, dims, theta):
    """YaRN (Peng et al. 2023, arXiv 2309.00071), section 3.2; bounds in feature pairs."""

    def pair_with(turns):
        return dims * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair_with(said.get("beta_fast") or 32)), 0)
    high = min(math.ceil(pair_with(said.get("beta_slow") or 1)), dims - 1)
    slow = np.clip((np.arange(dims // 2) - low) / max(high - low, 0.001), 0.0, 1.0)
    return freqs * (1.0 - slow) + freqs / factor * slow


def alibi_slopes(n_heads, max_bias=8.0):
    """Press et al. 2021, arXiv 2108.12409; the odd ones of the next power of two come last."""
    power = 1 << (n_heads - 1).bit_length()
    slopes = 2.0 ** (-np.arange(1, power + 1) * max_bias / power)
    if power != n_heads:
        slopes = np.concatenate([slopes[1::2], slopes[::2]])[:n_heads]
    return slopes


def rotate(x, cos, sin):
    """x [..., head_dim]; cos, sin broadcast to [..., dims / 2]; pairs are (i, i + dims / 2)."""
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)


# ---------------------------------------------------------------------- modules


def silu(x):
    return x / (1.0 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1.0 + np.array([math.erf(v) for v in x / math.sqrt(2.0)]))


def gelu_tanh(x):
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def relu(x):
    return np.maximum(x, 0.0)


ACTIVATIONS = {
    "silu": silu,
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": relu,
}


def make_linear(weight, bias=None):
    return (lambda x: weight @ x) if bias is None else (lambda x: weight @ x + bias)


def make_rms_norm(weight, eps):
    return lambda x: x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def make_layer_norm(weight, bias, eps):
    def norm(x):
        centred = x - np.mean(x, axis=-1, keepdims=True)
        y = centred / np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + eps) * weight
        return y if bias is None else y + bias

    return norm


class Weights:
    """Tensors under a prefix, as modules."""

    def __init__(self, tensors):
        self.tensors = tensors

    def __getitem__(self, name):
        return self.tensors[name]

    def get(self, name):
        return self.tensors.get(name)

    def linear(self, name):
        return make_linear(self[name + ".weight"], self.get(name + ".bias"))

    def rms_norm(self, name, eps):
        return make_rms_norm(self[name + ".weight"], eps)

    def layer_norm(self, name, eps):
        return make_layer_norm(self[name + ".weight"], self.get(name + ".bias"), eps)

    def rows(self, name, chosen):
        """A linear of some rows of a fused matrix."""
        bias = self.get(name + ".bias")
        return make_linear(self[name + ".weight"][chosen], None if bias is None else bias[chosen])


# ---------------------------------------------------------------------- families


def make_block(**fields):
    return SimpleNamespace(**{"q_norm": None, "k_norm": None, "parallel": False, **fields})


def make_model(head_dim, **fields):
    plain = dict(scale=head_dim**-0.5, rope=None, slopes=None, clip=None, sliding_window=None)
    return SimpleNamespace(**{**plain, "head_dim": head_dim, **fields})


def make_head(w, embed):
    """The embedding serves as the head where the folder has none."""
    return w.linear("lm_head") if w.get("lm_head.weight") is not None else make_linear(embed)


def make_mlp(w, name, up, act, down):
    up, down = w.linear(f"{name}.{up}"), w.linear(f"{name}.{down}")
    return lambda x: down(act(up(x)))


def llama(config, w):
    """Llama, Mistral, Qwen2, Qwen3."""
    n_heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // n_heads
    act, eps = ACTIVATIONS[config["hidden_act"]], config["rms_norm_eps"]

    def mlp_of(s):
        gate, up, down = (w.linear(f"{s}.mlp.{n}_proj") for n in ("gate", "up", "down"))
        return lambda x: down(act(gate(x)) * up(x))

    def head_norm(name):
        return w.rms_norm(name, eps) if w.get(name + ".weight") is not None else None

    blocks = []
    for i in range(config["num_hidden_layers"]):
        s = f"model.layers.{i}"
        a = f"{s}.self_attn"
        blocks.append(
            make_block(
                attn_norm=w.rms_norm(f"{s}.input_layernorm", eps),
                q=w.linear(f"{a}.q_proj"),
                k=w.linear(f"{a}.k_proj"),
                v=w.linear(f"{a}.v_proj"),
                o=w.linear(f"{a}.o_proj"),
                q_norm=head_norm(f"{a}.q_norm"),
                k_norm=head_norm(f"{a}.k_norm"),
                mlp_norm=w.rms_norm(f"{s}.post_attention_layernorm", eps),
                mlp=mlp_of(s),
            )
        )
    embed = w["model.embed_tokens.weight"]
    sliding = config.get("sliding_window")
    if config["architectures"][0].startswith("Qwen") and not config.get("use_sliding_window"):
        sliding = None
    return make_model(
        embed=embed,
        blocks=blocks,
        norm=w.rms_norm("model.norm", eps),
        head=make_head(w, embed),
        n_heads=n_heads,
        n_kv_heads=config.get("num_key_value_heads") or n_heads,
        head_dim=head_dim,
        rope=rope_of(config, head_dim),
        sliding_window=sliding,
    )


def neox(config, w):
    """GPT-NeoX, Pythia.  The fused matrix holds q, k, v of head 0, then of head 1, ..."""
    dim, n_heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = dim // n_heads
    act, eps = ACTIVATIONS[config["hidden_act"]], config["layer_norm_eps"]
    of_head = np.arange(3 * dim).reshape(n_heads, 3, head_dim)

    blocks = []
    for i in range(config["num_hidden_layers"]):
        s = f"gpt_neox.layers.{i}"
        fused = f"{s}.attention.query_key_value"
        blocks.append(
            make_block(
                attn_norm=w.layer_norm(f"{s}.input_layernorm", eps),
                q=w.rows(fused, of_head[:, 0].ravel()),
                k=w.rows(fused, of_head[:, 1].ravel()),
                v=w.rows(fused, of_head[:, 2].ravel()),
                o=w.linear(f"{s}.attention.dense"),
                mlp_norm=w.layer_norm(f"{s}.post_attention_layernorm", eps),
                mlp=make_mlp(w, f"{s}.mlp", "dense_h_to_4h", act, "dense_4h_to_h"),
                parallel=config.get("use_parallel_residual", True),
            )
        )
    return make_model(
        embed=w["gpt_neox.embed_in.weight"],
        blocks=blocks,
        norm=w.layer_norm("gpt_neox.final_layer_norm", eps),
        head=w.linear("embed_out"),
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=head_dim,
        rope=rope_of({"rotary_pct": 0.25, **config}, head_dim),
    )


def mpt(config, w):
    """MPT with ALiBi.  The fused matrix holds all q, all k, all v."""
    dim, n_heads = config["d_model"], config["n_heads"]
    head_dim = dim // n_heads
    attn = config.get("attn_config") or {}
    if not attn.get("alibi", True):
        raise SystemExit("MPT without ALiBi is not implemented")
    eps = config.get("layer_norm_epsilon", 1e-5)

    blocks = []
    for i in range(config["n_layers"]):
        s = f"transformer.blocks.{i}"
        blocks.append(
            make_block(
                attn_norm=w.layer_norm(f"{s}.norm_1", eps),
                q=w.rows(f"{s}.attn.Wqkv", slice(0, dim)),
                k=w.rows(f"{s}.attn.Wqkv", slice(dim, 2 * dim)),
                v=w.rows(f"{s}.attn.Wqkv", slice(2 * dim, 3 * dim)),
                o=w.linear(f"{s}.attn.out_proj"),
                mlp_norm=w.layer_norm(f"{s}.norm_2", eps),
                mlp=make_mlp(w, f"{s}.ffn", "up_proj", gelu, "down_proj"),
            )
        )
    embed = w["transformer.wte.weight"]
    return make_model(
        embed=embed,
        blocks=blocks,
        norm=w.layer_norm("transformer.norm_f", eps),
        head=make_head(w, embed),
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=head_dim,
        scale=attn.get("softmax_scale") or head_dim**-0.5,
        slopes=alibi_slopes(n_heads, attn.get("alibi_bias_max", 8)),
        clip=attn.get("clip_qkv"),
    )


def falcon(config, w):
    """Falcon: 7B (one K/V head, parallel), 40B/180B and 11B (grouped K/V, two norms or one),
    RW (ALiBi, sequential).  The fused matrix is grouped: the queries of a K/V head, its k, its v.
    """
    dim, n_heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = dim // n_heads
    new = config.get("new_decoder_architecture", False)
    act, eps = ACTIVATIONS[config.get("activation") or "gelu"], config.get(
        "layer_norm_epsilon", 1e-5
    )
    n_kv_heads = config.get("num_kv_heads") or n_heads
    if not new and config.get("multi_query", True):
        n_kv_heads = 1
    elif not new:
        n_kv_heads = n_heads
    group = n_heads // n_kv_heads
    rows = np.arange((n_heads + 2 * n_kv_heads) * head_dim).reshape(n_kv_heads, group + 2, head_dim)
    parallel = new or config.get("parallel_attn", True)
    norms = config.get("num_ln_in_parallel_attn") or (2 if new else 1)

    def norms_of(s):
        if new and norms == 2:
            return w.layer_norm(f"{s}.ln_attn", eps), w.layer_norm(f"{s}.ln_mlp", eps)
        first = w.layer_norm(f"{s}.input_layernorm", eps)
        return first, first if parallel else w.layer_norm(f"{s}.post_attention_layernorm", eps)

    blocks = []
    for i in range(config["num_hidden_layers"]):
        s = f"transformer.h.{i}"
        fused = f"{s}.self_attention.query_key_value"
        attn_norm, mlp_norm = norms_of(s)
        blocks.append(
            make_block(
                attn_norm=attn_norm,
                q=w.rows(fused, rows[:, :group].ravel()),
                k=w.rows(fused, rows[:, group].ravel()),
                v=w.rows(fused, rows[:, group + 1].ravel()),
                o=w.linear(f"{s}.self_attention.dense"),
                mlp_norm=mlp_norm,
                mlp=make_mlp(w, f"{s}.mlp", "dense_h_to_4h", act, "dense_4h_to_h"),
                parallel=parallel,
            )
        )
    embed = w["transformer.word_embeddings.weight"]
    alibi = config.get("alibi", False)
    # Falcon divides the bias by sqrt(head_dim) along with the scores.
    slopes = alibi_slopes(n_heads) * head_dim**-0.5 if alibi else None
    return make_model(
        embed=embed,
        blocks=blocks,
        norm=w.layer_norm("transformer.ln_f", eps),
        head=make_head(w, embed),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        rope=None if alibi else rope_of(config, head_dim),
        slopes=slopes,
    )


FAMILIES = {
    "LlamaForCausalLM": llama,
    "MistralForCausalLM": llama,
    "Qwen2ForCausalLM": llama,
    "Qwen3ForCausalLM": llama,
    "GPTNeoXForCausalLM": neox,
    "MptForCausalLM": mpt,
    "MPTForCausalLM": mpt,
    "FalconForCausalLM": falcon,
    "RWForCausalLM": falcon,
}


def load(folder):
    config, tensors = read_folder(folder)
    name = config["architectures"][0]
    if name not in FAMILIES:
        raise SystemExit(f"{folder}: architecture {name} is not implemented")
    return FAMILIES[name](config, Weights(tensors))
