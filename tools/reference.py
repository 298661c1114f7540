#!/usr/bin/env python3
"""reference.py - the streaming rule in its definition form, float64, for every model family.

The oracle of the golden tests.  It shares nothing with the engine: keys are cached un-rotated,
and for each query every cached key is rotated at its index in the cache, as the paper defines it
(Xiao et al. 2023, arXiv 2309.17453, section 3.2).  Slow on purpose: O(W) per token, one token
at a time.

    cache      [ pinned 0 .. S-1 | recent S .. count-1 ]      position of an entry = its index
    query      at index count-1 <= W-1, itself the last entry
    ALiBi      score -= slope * (count-1 - index); nothing is rotated

When the cache is full the oldest recent entry goes (policy `token`), or all recent entries of the
oldest turn (policy `turn`; a turn too long for the window loses its own oldest tokens).

Modes: streaming; window (S = 0); dense (nothing is evicted, at most W tokens); recompute (a fresh
dense pass over the last W tokens for each row).  A model trained with sliding-window attention
(Mistral 7B v0.1) never attends more keys than that: its dense mode is window at that size.

    reference.py MODEL --ids FILE --sinks 4 --window 64 --out logits.npy

writes float32 [tokens, vocab], row i after token i, as `weir perplexity --logits` does.
Needs numpy only.

SPDX-License-Identifier: MIT
"""
import argparse
import bisect
import json
import math
import pathlib
from types import SimpleNamespace

import numpy as np

# ---------------------------------------------------------------------- files


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
    return config, tensors


# ---------------------------------------------------------------------- rotation


def rope_of(config, head_dim):
    """Returns (dims, frequencies [dims / 2], attention factor), radians per position."""
    new = config.get("rope_parameters") or {}  # transformers 5 keeps everything in one place
    old = config.get("rope_scaling") or {}
    said = {**old, **new}
    theta = said.get("rope_theta") or config.get("rope_theta") or config.get("rotary_emb_base") or 10000.0
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
#
# Each returns a namespace: embed, norm, head, blocks, and the sizes of attention.  A block has
# attn_norm, q, k, v, o, mlp_norm, mlp, parallel and, for Qwen3, q_norm and k_norm over each head.


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
            SimpleNamespace(
                attn_norm=w.rms_norm(f"{s}.input_layernorm", eps),
                q=w.linear(f"{a}.q_proj"),
                k=w.linear(f"{a}.k_proj"),
                v=w.linear(f"{a}.v_proj"),
                o=w.linear(f"{a}.o_proj"),
                q_norm=head_norm(f"{a}.q_norm"),
                k_norm=head_norm(f"{a}.k_norm"),
                mlp_norm=w.rms_norm(f"{s}.post_attention_layernorm", eps),
                mlp=mlp_of(s),
                parallel=False,
            )
        )
    embed = w["model.embed_tokens.weight"]
    head = w.get("lm_head.weight")
    sliding = config.get("sliding_window")
    if config["architectures"][0].startswith("Qwen") and not config.get("use_sliding_window"):
        sliding = None
    return SimpleNamespace(
        embed=embed,
        blocks=blocks,
        norm=w.rms_norm("model.norm", eps),
        head=make_linear(embed if head is None else head),
        n_heads=n_heads,
        n_kv_heads=config.get("num_key_value_heads") or n_heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        rope=rope_of(config, head_dim),
        slopes=None,
        clip=None,
        sliding_window=sliding,
    )


def neox(config, w):
    """GPT-NeoX, Pythia.  The fused matrix holds q, k, v of head 0, then of head 1, ..."""
    dim, n_heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = dim // n_heads
    act, eps = ACTIVATIONS[config["hidden_act"]], config["layer_norm_eps"]
    of_head = np.arange(3 * dim).reshape(n_heads, 3, head_dim)

    def mlp_of(s):
        up, down = w.linear(f"{s}.mlp.dense_h_to_4h"), w.linear(f"{s}.mlp.dense_4h_to_h")
        return lambda x: down(act(up(x)))

    blocks = []
    for i in range(config["num_hidden_layers"]):
        s = f"gpt_neox.layers.{i}"
        fused = f"{s}.attention.query_key_value"
        blocks.append(
            SimpleNamespace(
                attn_norm=w.layer_norm(f"{s}.input_layernorm", eps),
                q=w.rows(fused, of_head[:, 0].ravel()),
                k=w.rows(fused, of_head[:, 1].ravel()),
                v=w.rows(fused, of_head[:, 2].ravel()),
                o=w.linear(f"{s}.attention.dense"),
                q_norm=None,
                k_norm=None,
                mlp_norm=w.layer_norm(f"{s}.post_attention_layernorm", eps),
                mlp=mlp_of(s),
                parallel=config.get("use_parallel_residual", True),
            )
        )
    return SimpleNamespace(
        embed=w["gpt_neox.embed_in.weight"],
        blocks=blocks,
        norm=w.layer_norm("gpt_neox.final_layer_norm", eps),
        head=w.linear("embed_out"),
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        rope=rope_of({"rotary_pct": 0.25, **config}, head_dim),
        slopes=None,
        clip=None,
        sliding_window=None,
    )


def mpt(config, w):
    """MPT with ALiBi.  The fused matrix holds all q, all k, all v."""
    dim, n_heads = config["d_model"], config["n_heads"]
    head_dim = dim // n_heads
    attn = config.get("attn_config") or {}
    if not attn.get("alibi", True):
        raise SystemExit("MPT without ALiBi is not implemented")
    eps = config.get("layer_norm_epsilon", 1e-5)

    def mlp_of(s):
        up, down = w.linear(f"{s}.ffn.up_proj"), w.linear(f"{s}.ffn.down_proj")
        return lambda x: down(gelu(up(x)))

    blocks = []
    for i in range(config["n_layers"]):
        s = f"transformer.blocks.{i}"
        blocks.append(
            SimpleNamespace(
                attn_norm=w.layer_norm(f"{s}.norm_1", eps),
                q=w.rows(f"{s}.attn.Wqkv", slice(0, dim)),
                k=w.rows(f"{s}.attn.Wqkv", slice(dim, 2 * dim)),
                v=w.rows(f"{s}.attn.Wqkv", slice(2 * dim, 3 * dim)),
                o=w.linear(f"{s}.attn.out_proj"),
                q_norm=None,
                k_norm=None,
                mlp_norm=w.layer_norm(f"{s}.norm_2", eps),
                mlp=mlp_of(s),
                parallel=False,
            )
        )
    embed = w["transformer.wte.weight"]
    head = w.get("lm_head.weight")
    return SimpleNamespace(
        embed=embed,
        blocks=blocks,
        norm=w.layer_norm("transformer.norm_f", eps),
        head=make_linear(embed if head is None else head),
        n_heads=n_heads,
        n_kv_heads=n_heads,
        head_dim=head_dim,
        scale=attn.get("softmax_scale") or head_dim**-0.5,
        rope=None,
        slopes=alibi_slopes(n_heads, attn.get("alibi_bias_max", 8)),
        clip=attn.get("clip_qkv"),
        sliding_window=None,
    )


def falcon(config, w):
    """Falcon: 7B (one K/V head, parallel), 40B/180B and 11B (grouped K/V, two norms or one),
    RW (ALiBi, sequential).  The fused matrix is grouped: the queries of a K/V head, its k, its v.
    """
    dim, n_heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = dim // n_heads
    new = config.get("new_decoder_architecture", False)
    act, eps = ACTIVATIONS[config.get("activation") or "gelu"], config.get("layer_norm_epsilon", 1e-5)
    n_kv_heads = config.get("num_kv_heads") or n_heads
    if not new and config.get("multi_query", True):
        n_kv_heads = 1
    elif not new:
        n_kv_heads = n_heads
    group = n_heads // n_kv_heads
    rows = np.arange((n_heads + 2 * n_kv_heads) * head_dim).reshape(n_kv_heads, group + 2, head_dim)
    parallel = new or config.get("parallel_attn", True)
    norms = config.get("num_ln_in_parallel_attn") or (2 if new else 1)

    def mlp_of(s):
        up, down = w.linear(f"{s}.mlp.dense_h_to_4h"), w.linear(f"{s}.mlp.dense_4h_to_h")
        return lambda x: down(act(up(x)))

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
            SimpleNamespace(
                attn_norm=attn_norm,
                q=w.rows(fused, rows[:, :group].ravel()),
                k=w.rows(fused, rows[:, group].ravel()),
                v=w.rows(fused, rows[:, group + 1].ravel()),
                o=w.linear(f"{s}.self_attention.dense"),
                q_norm=None,
                k_norm=None,
                mlp_norm=mlp_norm,
                mlp=mlp_of(s),
                parallel=parallel,
            )
        )
    embed = w["transformer.word_embeddings.weight"]
    head = w.get("lm_head.weight")
    alibi = config.get("alibi", False)
    # Falcon divides the bias by sqrt(head_dim) along with the scores.
    slopes = alibi_slopes(n_heads) * head_dim**-0.5 if alibi else None
    return SimpleNamespace(
        embed=embed,
        blocks=blocks,
        norm=w.layer_norm("transformer.ln_f", eps),
        head=make_linear(embed if head is None else head),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        scale=head_dim**-0.5,
        rope=None if alibi else rope_of(config, head_dim),
        slopes=slopes,
        clip=None,
        sliding_window=None,
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


# ---------------------------------------------------------------------- the streaming rule


class Cache:
    """Un-rotated keys and values in cache order: the pinned entries, then the recent ones."""

    def __init__(self, model, capacity):
        shape = (len(model.blocks), capacity, model.n_kv_heads, model.head_dim)
        self.k, self.v = np.zeros(shape), np.zeros(shape)
        self.stream = []  # stream position of each entry, in cache order
        self.pinned = 0

    def insert(self, index, k, v, positions):
        """Entries move up from `index` to make room; k, v [layers, n, kv_heads, head_dim]."""
        count, n = len(self.stream), len(positions)
        for kept, new in ((self.k, k), (self.v, v)):
            kept[:, index + n : count + n] = kept[:, index:count].copy()
            kept[:, index : index + n] = new
        self.stream[index:index] = positions

    def remove(self, index, n):
        count = len(self.stream)
        for kept in (self.k, self.v):
            kept[:, index : count - n] = kept[:, index + n : count].copy()
        del self.stream[index : index + n]


class Stream:
    """One timeline of tokens.  turns: stream positions at which turns start, or None."""

    def __init__(self, model, sinks, window, mode="streaming", start=0, turns=None):
        if mode == "window" or mode == "dense":
            sinks = 0
        if mode == "dense" and model.sliding_window and model.sliding_window < window:
            mode, window = "window", model.sliding_window
        if not 0 <= sinks < window:
            raise ValueError(f"sinks {sinks} must be fewer than the window {window}")
        self.model, self.sinks, self.window, self.mode = model, sinks, window, mode
        self.start, self.position, self.turns = start, start, turns
        self.evicted_tokens = 0
        self.cache = Cache(model, 2 * window)  # room for a pinned copy before eviction
        if model.rope:
            _, freqs, factor = model.rope
            angles = np.arange(window)[:, None] * freqs
            self.cos, self.sin = np.cos(angles) * factor, np.sin(angles) * factor

    def turn_of(self, position):
        return bisect.bisect_right(self.turns, position)

    def evict(self, most):
        """Drops recent entries until at most `most` are left in all."""
        cache = self.cache
        while len(cache.stream) > most:
            if self.mode == "dense":
                raise ValueError(f"window is full: {self.window} tokens")
            n = 1
            if self.turns is not None:
                recent = [self.turn_of(p) for p in cache.stream[cache.pinned :]]
                if recent[0] != self.turn_of(self.position):
                    n = recent.count(recent[0])
            cache.remove(cache.pinned, n)
            self.evicted_tokens += n

    def pin(self, first, end):
        """Copies the recent entries of stream positions [first, end) behind the pinned ones."""
        cache = self.cache
        recent = cache.stream[cache.pinned :]
        if first not in recent or end - 1 not in recent:
            raise ValueError(f"positions [{first}, {end}) are not in the window")
        at = slice(cache.pinned + recent.index(first), cache.pinned + recent.index(end - 1) + 1)
        n = end - first
        if cache.pinned + n >= self.window:
            raise ValueError(f"{cache.pinned + n} pinned tokens fill the window {self.window}")
        cache.insert(cache.pinned, cache.k[:, at].copy(), cache.v[:, at].copy(), cache.stream[at])
        cache.pinned += n
        self.evict(self.window)

    def step(self, token):
        """Adds a token; returns its last hidden state [dim], see logits()."""
        m, cache = self.model, self.cache
        self.evict(self.window - 1)
        nothing = np.zeros((len(m.blocks), 1, m.n_kv_heads, m.head_dim))
        cache.insert(len(cache.stream), nothing, nothing, [self.position])
        if self.position - self.start < self.sinks:
            cache.pinned += 1
        x = m.embed[token]
        for i, block in enumerate(m.blocks):
            attended = block.o(self.attend(i, block, block.attn_norm(x)))
            if block.parallel:
                x = x + attended + block.mlp(block.mlp_norm(x))
            else:
                x = x + attended
                x = x + block.mlp(block.mlp_norm(x))
        self.position += 1
        return x

    def attend(self, layer, block, x):
        """Caches this token's key and value as the last entry and attends all entries."""
        m, cache = self.model, self.cache
        count = len(cache.stream)
        q = block.q(x).reshape(m.n_heads, m.head_dim)
        k = block.k(x).reshape(m.n_kv_heads, m.head_dim)
        v = block.v(x).reshape(m.n_kv_heads, m.head_dim)
        if m.clip:
            q, k, v = (np.clip(a, -m.clip, m.clip) for a in (q, k, v))
        if block.q_norm:
            q, k = block.q_norm(q), block.k_norm(k)
        cache.k[layer, count - 1], cache.v[layer, count - 1] = k, v
        keys, values = cache.k[layer, :count], cache.v[layer, :count]  # [count, kv_heads, head_dim]
        if m.rope:
            cos, sin = self.cos[:count, None], self.sin[:count, None]
            q = rotate(q, self.cos[count - 1], self.sin[count - 1])
            keys = rotate(keys, cos, sin)
        group = m.n_heads // m.n_kv_heads
        q = q.reshape(m.n_kv_heads, group, m.head_dim)
        scores = np.einsum("ngd,tnd->ngt", q, keys) * m.scale
        if m.slopes is not None:
            distance = count - 1 - np.arange(count)
            scores -= m.slopes.reshape(m.n_kv_heads, group, 1) * distance
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return np.einsum("ngt,tnd->ngd", weights, values).ravel()


def logits(model, hidden):
    return model.head(model.norm(hidden))


def evaluate(model, ids, sinks, window, mode="streaming", start=0, pins=(), turns=None, rows=None):
    """Returns logits float64 [len(rows), vocab]; rows defaults to all tokens.

    pins: (at, first, end) each: when `at` tokens have been read, pin tokens [first, end).
    turns: indices of tokens at which turns start; not None chooses the policy `turn`.
    All are counted from the first token of ids, whatever the start.
    """
    rows = range(len(ids)) if rows is None else rows
    if mode == "recompute":
        return np.array([recompute(model, ids[max(0, r + 1 - window) : r + 1]) for r in rows])
    turns = None if turns is None else [start + t for t in turns]
    stream = Stream(model, sinks, window, mode, start, turns)
    wanted, out = set(rows), {}
    for i, token in enumerate(ids):
        for at, first, end in pins:
            if at == i:
                stream.pin(start + first, start + end)
        hidden = stream.step(token)
        if i in wanted:
            out[i] = logits(model, hidden)
    return np.array([out[r] for r in rows])


def recompute(model, ids):
    """Logits after the last of ids, read from nothing."""
    stream = Stream(model, 0, len(ids), "dense")
    for token in ids:
        hidden = stream.step(token)
    return logits(model, hidden)


# ---------------------------------------------------------------------- command line


def main():
    parser = argparse.ArgumentParser(description="float64 logits under the streaming rule")
    parser.add_argument("model", help="HF folder")
    parser.add_argument("--ids", required=True, help="file of token ids separated by white space")
    parser.add_argument("--sinks", type=int, default=4)
    parser.add_argument("--window", type=int, required=True)
    parser.add_argument("--mode", default="streaming", choices=["streaming", "dense", "window", "recompute"])
    parser.add_argument("--start", type=int, default=0, help="stream position of the first token")
    parser.add_argument("--pin", action="append", default=[], metavar="AT:FROM:TO")
    parser.add_argument("--turns", help="indices of tokens that start a turn, separated by commas")
    parser.add_argument("--every", type=int, default=1, help="store each n-th row only")
    parser.add_argument("--out", required=True, help=".npy file, float32 [rows, vocab]")
    args = parser.parse_args()

    ids = [int(word) for word in pathlib.Path(args.ids).read_text().split()]
    pins = [tuple(int(n) for n in p.split(":")) for p in args.pin]
    turns = None if args.turns is None else [int(n) for n in args.turns.split(",")]
    rows = range(0, len(ids), args.every)
    try:
        out = evaluate(load(args.model), ids, args.sinks, args.window, args.mode, args.start, pins, turns, rows)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    np.save(args.out, out.astype(np.float32))


if __name__ == "__main__":
    main()
