#!/usr/bin/env python3
"""torch_stream.py - what streams in PyTorch, for compare_gpu.py: Llama shapes, random weights.

    Published   the loop of StreamingLLM as its authors published it: a module for every operation,
                keys kept un-rotated; each token cuts the oldest key out of the cache (one
                concatenation for each tensor and layer), appends its own (another), and rotates all
                keys at their index; the host picks the token.  One thing is kinder than there:
                attention is F.scaled_dot_product_attention, not softmax(q k) v.
    Ring        what someone who knows PyTorch well would write: fused matrices, a static ring, all
                of a step in one CUDA graph, the token picked on the device.  A recent key is
                rotated once, at its stream position; pinned keys, of which there are few, are
                turned after the query each step (docs/streaming.md (6) holds for both ways).
                Query heads of a group are rows of one attention, so keys are read once.

Both attend the same keys at the same distances, which --check shows on the CPU, with the float64
definition of tools/reference.py as the judge:

    torch_stream.py --check
    torch_stream.py 1b 7b --type bf16            one line of JSON for each shape

SPDX-License-Identifier: MIT
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

SHAPES = {  # dim, ffn_dim, n_layers, n_heads, n_kv_heads, head_dim, vocab, tied, theta
    "1b": (2048, 8192, 16, 32, 8, 64, 128256, True, 500000.0),
    "7b": (4096, 11008, 32, 32, 32, 128, 32000, False, 10000.0),
    "8b": (4096, 14336, 32, 32, 8, 128, 128256, False, 500000.0),
    "tiny": (64, 96, 2, 4, 2, 16, 96, True, 10000.0),
}
TYPES = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}
EPS = 1e-5
SINKS = 4

# ---------------------------------------------------------------------- the model


class Shape:
    def __init__(self, name):
        (self.dim, self.ffn_dim, self.n_layers, self.n_heads, self.n_kv_heads, self.head_dim,
         self.vocab, self.tied, self.theta) = SHAPES[name]
        self.q_dim, self.kv_dim = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim

    def frequencies(self, device):
        i = torch.arange(0, self.head_dim, 2, device=device, dtype=torch.float32)
        return self.theta ** (-i / self.head_dim)  # [head_dim / 2]


class Weights:
    """Random matrices; q, k, v lie in one, and so do gate and up, so that both peers share them."""

    def __init__(self, shape, dtype, device, seed=1):
        self.shape, self.dtype, self.device = shape, dtype, device
        torch.manual_seed(seed)
        s = shape
        self.embed = self.random(s.vocab, s.dim)
        self.layers = [
            dict(qkv=self.random(s.q_dim + 2 * s.kv_dim, s.dim), o=self.random(s.dim, s.q_dim),
                 gate_up=self.random(2 * s.ffn_dim, s.dim), down=self.random(s.dim, s.ffn_dim),
                 attn_norm=self.ones(s.dim), mlp_norm=self.ones(s.dim))
            for _ in range(s.n_layers)
        ]
        self.norm = self.ones(s.dim)
        self.head = self.embed if s.tied else self.random(s.vocab, s.dim)

    def random(self, rows, cols):
        out = torch.empty(rows, cols, dtype=self.dtype, device=self.device)
        return out.normal_(0, cols**-0.5)

    def ones(self, dim):
        return torch.ones(dim, dtype=self.dtype, device=self.device)

    def step_bytes(self, streams, window):
        """What one step must read: matrices, a row of the embedding each, keys and values."""
        s, element = self.shape, self.embed.element_size()
        per_layer = sum(w.numel() for w in self.layers[0].values())
        weights = s.n_layers * per_layer + self.head.numel() + streams * s.dim
        return (weights + streams * 2 * s.n_layers * s.kv_dim * window) * element


def turn(x, cos, sin):
    """Rotates pairs (i, i + d/2) of the last axis; cos, sin [..., d] with both halves alike."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


# ---------------------------------------------------------------------- StreamingLLM as published


class RMSNorm(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x):
        dtype = x.dtype
        x = x.to(torch.float32)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS)
        return self.weight * x.to(dtype)


class Linear(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x):
        return F.linear(x, self.weight)


class Attention(nn.Module):
    def __init__(self, shape, layer, tables):
        super().__init__()
        q, k, v = layer["qkv"].split((shape.q_dim, shape.kv_dim, shape.kv_dim))
        self.shape, self.tables = shape, tables
        self.q_proj, self.k_proj, self.v_proj = Linear(q), Linear(k), Linear(v)
        self.o_proj = Linear(layer["o"])

    def heads(self, x, n_heads):
        batch, n, _ = x.shape
        return x.view(batch, n, n_heads, self.shape.head_dim).transpose(1, 2)

    def forward(self, x, past):
        s = self.shape
        q = self.heads(self.q_proj(x), s.n_heads)
        k = self.heads(self.k_proj(x), s.n_kv_heads)
        v = self.heads(self.v_proj(x), s.n_kv_heads)
        if past is not None:
            k = torch.cat((past[0], k), dim=2)
            v = torch.cat((past[1], v), dim=2)
        past = (k, v)  # un-rotated
        count, n = k.shape[2], q.shape[2]
        cos, sin = self.tables[0][:count], self.tables[1][:count]
        q = turn(q, cos[count - n :], sin[count - n :])
        k = turn(k, cos, sin)  # every key, at its index in the cache
        group = s.n_heads // s.n_kv_heads
        if group > 1:
            k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=n > 1)
        return self.o_proj(y.transpose(1, 2).reshape(x.shape[0], n, s.q_dim)), past


class MLP(nn.Module):
    def __init__(self, layer):
        super().__init__()
        gate, up = layer["gate_up"].chunk(2)
        self.gate_proj, self.up_proj = Linear(gate), Linear(up)
        self.down_proj, self.act = Linear(layer["down"]), nn.SiLU()

    def forward(self, x):
        return self.down_proj(self.act(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, shape, layer, tables):
        super().__init__()
        self.input_layernorm = RMSNorm(layer["attn_norm"])
        self.self_attn = Attention(shape, layer, tables)
        self.post_attention_layernorm = RMSNorm(layer["mlp_norm"])
        self.mlp = MLP(layer)

    def forward(self, x, past):
        attended, past = self.self_attn(self.input_layernorm(x), past)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), past


class Published:
    def __init__(self, weights, window):
        shape, device = weights.shape, weights.device
        at = torch.arange(window, device=device, dtype=torch.float32)
        angles = at[:, None] * shape.frequencies(device)
        angles = torch.cat((angles, angles), dim=-1)
        tables = angles.cos().to(weights.dtype), angles.sin().to(weights.dtype)
        self.blocks = nn.ModuleList(Block(shape, layer, tables) for layer in weights.layers)
        self.norm, self.head = RMSNorm(weights.norm), Linear(weights.head)
        self.embed, self.window = weights.embed, window
        self.past = [None] * shape.n_layers

    def fill(self, k, v):
        """k, v [n_kv_heads, window - 1, head_dim]: what every layer has cached."""
        self.past = [(k[None], v[None]) for _ in self.past]

    def evict_for_space(self, coming):
        if self.past[0] is None or self.past[0][0].shape[2] + coming <= self.window:
            return
        recent = self.window - SINKS - coming
        self.past = [
            tuple(torch.cat((x[:, :, :SINKS], x[:, :, -recent:]), dim=2) for x in pair)
            for pair in self.past
        ]

    def step(self, ids):
        """ids [1, n] -> logits [1, 1, vocab] of the last."""
        self.evict_for_space(ids.shape[1])
        x = F.embedding(ids, self.embed)
        for i, block in enumerate(self.blocks):
            x, self.past[i] = block(x, self.past[i])
        return self.head(self.norm(x[:, -1:]))


# ---------------------------------------------------------------------- static ring, one graph


class Ring:
    def __init__(self, weights, window, streams):
        s, device = weights.shape, weights.device
        self.weights, self.window, self.streams = weights, window, streams
        size = (s.n_layers, streams, s.n_kv_heads, window, s.head_dim)
        self.k = torch.zeros(size, dtype=weights.dtype, device=device)  # rotated
        self.v = torch.zeros_like(self.k)
        self.pins = torch.zeros(size[:3] + (SINKS, s.head_dim), dtype=weights.dtype, device=device)
        self.pos = torch.zeros(1, dtype=torch.int64, device=device)  # of the token in ids
        self.ids = torch.zeros(streams, dtype=torch.int64, device=device)
        self.frequencies = s.frequencies(device)
        self.row = torch.arange(window, device=device)
        self.graph = self.logits = None

    def angles(self, pos):
        """pos [n] -> cos, sin [n, head_dim]."""
        a = pos.to(torch.float32)[:, None] * self.frequencies
        a = torch.cat((a, a), dim=-1)
        return a.cos().to(self.weights.dtype), a.sin().to(self.weights.dtype)

    def step(self, full):
        """One token of each stream, all of it on the device.  full: every row is seen."""
        w, s, window = self.weights, self.weights.shape, self.window
        pos, group = self.pos, s.n_heads // s.n_kv_heads
        index = torch.clamp(pos, max=window - 1)  # the token's index in the cache
        at = torch.where(pos < window, pos, SINKS + (pos - SINKS) % (window - SINKS))
        pin_cos, pin_sin = self.angles(self.row[:SINKS] + pos - index)
        cos, sin = self.angles(pos)
        mask = None if full else (self.row <= pos)[None, None, None]
        x = F.embedding(self.ids, w.embed)
        for i, layer in enumerate(w.layers):
            y = F.linear(F.rms_norm(x, (s.dim,), layer["attn_norm"], EPS), layer["qkv"])
            q, k, v = y.split((s.q_dim, s.kv_dim, s.kv_dim), dim=-1)
            q = turn(q.view(-1, s.n_kv_heads, group, s.head_dim), cos, sin)
            k = k.view(-1, s.n_kv_heads, 1, s.head_dim)
            self.k[i].index_copy_(2, at, turn(k, cos, sin))
            self.v[i].index_copy_(2, at, v.view(-1, s.n_kv_heads, 1, s.head_dim))
            if not full:  # the first tokens are the pinned ones
                pin = torch.clamp(pos, max=SINKS - 1)
                kept = self.pins[i].index_select(2, pin)
                self.pins[i].index_copy_(2, pin, torch.where(pos < SINKS, k, kept))
            self.k[i][:, :, :SINKS] = turn(self.pins[i], pin_cos, pin_sin)
            y = F.scaled_dot_product_attention(q, self.k[i], self.v[i], attn_mask=mask)
            x = x + F.linear(y.reshape(-1, s.q_dim), layer["o"])
            y = F.linear(F.rms_norm(x, (s.dim,), layer["mlp_norm"], EPS), layer["gate_up"])
            gate, up = y.chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, layer["down"])
        logits = F.linear(F.rms_norm(x, (s.dim,), w.norm, EPS), w.head)
        self.ids.copy_(logits.argmax(dim=-1))
        self.pos += 1
        return logits

    def capture(self):
        self.graph = capture(lambda: self.step(True))


def prefill(weights, ids):
    """ids [n] -> logits [vocab] of the last: a prompt read at once from nothing."""
    s, n, group = weights.shape, ids.shape[0], weights.shape.n_heads // weights.shape.n_kv_heads
    a = torch.arange(n, device=ids.device, dtype=torch.float32)[:, None]
    a = a * s.frequencies(ids.device)
    a = torch.cat((a, a), dim=-1)
    cos, sin = a.cos().to(weights.dtype), a.sin().to(weights.dtype)
    x = F.embedding(ids, weights.embed)
    for layer in weights.layers:
        y = F.linear(F.rms_norm(x, (s.dim,), layer["attn_norm"], EPS), layer["qkv"])
        q, k, v = (
            part.view(1, n, -1, s.head_dim).transpose(1, 2)
            for part in y.split((s.q_dim, s.kv_dim, s.kv_dim), dim=-1)
        )
        y = F.scaled_dot_product_attention(
            turn(q, cos, sin), turn(k, cos, sin), v, is_causal=True, enable_gqa=group > 1)
        x = x + F.linear(y.transpose(1, 2).reshape(n, s.q_dim), layer["o"])
        y = F.linear(F.rms_norm(x, (s.dim,), layer["mlp_norm"], EPS), layer["gate_up"])
        gate, up = y.chunk(2, dim=-1)
        x = x + F.linear(F.silu(gate) * up, layer["down"])
    return F.linear(F.rms_norm(x[-1], (s.dim,), weights.norm, EPS), weights.head)


# ---------------------------------------------------------------------- timing


def capture(run):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph


def time_steps(step, steps, warm_up=10):
    """Seconds of a step by the host's clock, each up to where the host has its tokens."""
    for _ in range(warm_up):
        step()
    took = []
    for _ in range(steps):
        began = time.perf_counter()
        step()
        took.append(time.perf_counter() - began)
    return sorted(took)


def figure(took, tokens, bytes_read=None):
    median = statistics.median(took)
    out = {"tok_s": tokens / median, "step_s": median, "p99_s": took[len(took) * 99 // 100],
           "steps": len(took)}
    if bytes_read:
        out["bytes"], out["bytes_s"] = bytes_read, bytes_read / median
    return out


def read_rate(gib=4):
    """The best rate at which PyTorch reads: a sum over a large tensor; bytes/s."""
    x = torch.ones(gib << 28, dtype=torch.float32, device="cuda")
    took = time_steps(lambda: x.sum().item(), 10, 3)
    return x.numel() * 4 / took[0]


def measure_published(weights, window, steps):
    s = weights.shape
    model = Published(weights, window)
    k = torch.randn(s.n_kv_heads, window - 1, s.head_dim, dtype=weights.dtype, device="cuda")
    model.fill(k, k)
    ids = torch.zeros(1, 1, dtype=torch.int64, device="cuda")

    def step():
        nonlocal ids
        ids = model.step(ids)[:, -1].argmax(dim=-1, keepdim=True)
        return ids.item()

    return figure(time_steps(step, steps), 1, weights.step_bytes(1, window))


def measure_ring(weights, window, streams, steps):
    ring = Ring(weights, window, streams)
    ring.k.normal_()
    ring.v.normal_()
    ring.pins.normal_()
    ring.pos.fill_(10000)
    ring.capture()

    def step():
        ring.graph.replay()
        return ring.ids.tolist()

    return figure(time_steps(step, steps), streams, weights.step_bytes(streams, window))


def measure_prefill(weights, n, steps):
    ids = torch.randint(weights.shape.vocab, (n,), device="cuda")
    graph = capture(lambda: prefill(weights, ids))

    def step():
        graph.replay()
        torch.cuda.synchronize()

    return figure(time_steps(step, steps, 3), n)


def measure(name, args):
    weights = Weights(Shape(name), TYPES[args.type], "cuda")
    out = {"shape": name, "type": args.type, "window": args.window, "torch": torch.__version__,
           "device": torch.cuda.get_device_name(), "read_bytes_s": read_rate()}
    out["published"] = measure_published(weights, args.window, args.steps)
    out["graph"] = measure_ring(weights, args.window, 1, args.steps)
    out["streams"] = {**measure_ring(weights, args.window, args.streams[name], args.steps),
                      "streams": args.streams[name]}
    out["prefill"] = measure_prefill(weights, args.prefill, max(10, args.steps // 5))
    return out


# ---------------------------------------------------------------------- correctness


def reference_logits(weights, ids, window):
    """The float64 definition (tools/reference.py) on the same weights."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tools"))
    import reference
    import reference_models

    s = weights.shape
    tensors = {"model.embed_tokens.weight": weights.embed, "model.norm.weight": weights.norm}
    for i, layer in enumerate(weights.layers):
        at = f"model.layers.{i}."
        q, k, v = layer["qkv"].split((s.q_dim, s.kv_dim, s.kv_dim))
        gate, up = layer["gate_up"].chunk(2)
        for name, x in (
            ("self_attn.q_proj", q), ("self_attn.k_proj", k), ("self_attn.v_proj", v),
            ("self_attn.o_proj", layer["o"]), ("mlp.gate_proj", gate), ("mlp.up_proj", up),
            ("mlp.down_proj", layer["down"]), ("input_layernorm", layer["attn_norm"]),
            ("post_attention_layernorm", layer["mlp_norm"]),
        ):
            tensors[f"{at}{name}.weight"] = x
    config = dict(architectures=["LlamaForCausalLM"], hidden_size=s.dim, vocab_size=s.vocab,
                  intermediate_size=s.ffn_dim, num_hidden_layers=s.n_layers, rms_norm_eps=EPS,
                  num_attention_heads=s.n_heads, num_key_value_heads=s.n_kv_heads,
                  head_dim=s.head_dim, rope_theta=s.theta, tie_word_embeddings=s.tied,
                  hidden_act="silu", max_position_embeddings=4096)
    arrays = {name: x.double().numpy() for name, x in tensors.items()}
    model = reference_models.FAMILIES["LlamaForCausalLM"](config, reference_models.Weights(arrays))
    return torch.from_numpy(reference.evaluate(model, ids, SINKS, window))


def check():
    """Both peers, a token at a time over several windows, beside the definition."""
    window, n = 24, 80
    weights = Weights(Shape("tiny"), torch.float32, "cpu")
    ids = [(i * 7919 + 3) % weights.shape.vocab for i in range(n)]
    wanted = reference_logits(weights, ids, window)
    published, ring = Published(weights, window), Ring(weights, window, 2)
    worst = {"published": 0.0, "ring": 0.0, "prefill": 0.0}
    for i, id in enumerate(ids):
        ring.ids.fill_(id)
        got = {"published": published.step(torch.tensor([[id]]))[0, 0],
               "ring": ring.step(i >= window)[1]}
        if i < window:
            got["prefill"] = prefill(weights, torch.tensor(ids[: i + 1]))
        for name, x in got.items():
            apart = (x - wanted[i]).abs().max() / wanted[i].abs().max()
            worst[name] = max(worst[name], apart.item())
    print("farthest from the definition, relative:",
          ", ".join(f"{name} {x:.1e}" for name, x in worst.items()))
    return 0 if max(worst.values()) < 1e-5 else 1


def main():
    parser = argparse.ArgumentParser(description="streaming decode in PyTorch")
    parser.add_argument("shapes", nargs="*", choices=[*SHAPES, []])
    parser.add_argument("--type", choices=TYPES, default="bf16")
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--prefill", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--streams", type=json.loads, default={"1b": 64, "7b": 16, "8b": 16})
    parser.add_argument("--check", action="store_true", help="logits beside the definition's")
    args = parser.parse_args()
    with torch.inference_mode():
        if args.check:
            return check()
        for name in args.shapes:
            print(json.dumps(measure(name, args)), flush=True)
            torch.cuda.empty_cache()
    return 0


if __name__ == "__main__":
    sys.exit(main())
