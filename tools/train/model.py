"""model.py - a plain Llama, with the parameter names of Hugging Face's.

Written out here because training wants one attention call (fused) and
evaluation another (explicit, with sinks and a window: see streaming.py).

SPDX-License-Identifier: MIT
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Config:
    vocab: int = 6144
    dim: int = 512
    layers: int = 8
    heads: int = 8
    kv_heads: int = 2
    ffn: int = 1408
    context: int = 1024
    theta: float = 10000.0
    eps: float = 1e-5

    @property
    def head_dim(self):
        return self.dim // self.heads


def rope_tables(config, positions):
    """cos and sin, [positions, head_dim], for integer positions; the angle is
    formed in float64 so that large positions stay exact."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float64,
                        device=positions.device)
    frequency = config.theta ** (-half / config.head_dim)
    angle = positions.double()[:, None] * frequency
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos().float(), angle.sin().float()


def rotate(x, cos, sin):
    """x is [..., positions, head_dim]."""
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


class RMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + self.eps)
        return (x.float() * scale).to(x.dtype) * self.weight.to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        kv = config.kv_heads * config.head_dim
        self.q_proj = nn.Linear(config.dim, config.dim, bias=False)
        self.k_proj = nn.Linear(config.dim, kv, bias=False)
        self.v_proj = nn.Linear(config.dim, kv, bias=False)
        self.o_proj = nn.Linear(config.dim, config.dim, bias=False)

    def project(self, x):
        """q, k, v as [batch, heads, positions, head_dim], not yet rotated."""
        batch, count, _ = x.shape
        shape = (batch, count, -1, self.config.head_dim)
        return tuple(p(x).view(shape).transpose(1, 2)
                     for p in (self.q_proj, self.k_proj, self.v_proj))

    def forward(self, x, cos, sin):
        q, k, v = self.project(x)
        q, k = rotate(q, cos, sin).to(v.dtype), rotate(k, cos, sin).to(v.dtype)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True,
                                           enable_gqa=True)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.dim, config.ffn, bias=False)
        self.up_proj = nn.Linear(config.dim, config.ffn, bias=False)
        self.down_proj = nn.Linear(config.ffn, config.dim, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.input_layernorm = RMSNorm(config.dim, config.eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.dim, config.eps)
        self.mlp = MLP(config)

    def forward(self, x, *attention_arguments):
        x = x + self.self_attn(self.input_layernorm(x), *attention_arguments)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.stream_dtype = torch.float32  # of the residual stream
        self.embed_tokens = nn.Embedding(config.vocab, config.dim)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.dim, config.eps)
        cos, sin = rope_tables(config, torch.arange(config.context))
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.reset()

    def reset(self):
        """Small embeddings (they are the output matrix too), and branches
        that start at zero: the network begins as the identity."""
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.zeros_(parameter)
            elif name.startswith("embed"):
                nn.init.normal_(parameter, std=0.02)
            else:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5 * 0.6)

    def hidden(self, ids):
        x = self.embed_tokens(ids).to(self.stream_dtype)
        count = ids.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:count], self.sin[:count])
        return self.norm(x)

    def forward(self, ids):
        return F.linear(self.hidden(ids), self.embed_tokens.weight)

    def loss(self, ids, targets):
        """Mean cross-entropy in nats; targets of -100 do not count."""
        logits = self(ids).float()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(),
                               ignore_index=-100)


def load(path, device="cpu"):
    """A model from a checkpoint or weights file of train.py, in float32."""
    state = torch.load(path, map_location="cpu", weights_only=False)
    model = Llama(Config(**state["config"]))
    weights = {k: v.float() for k, v in state["model"].items()}
    model.load_state_dict(weights)
    model.variant = state.get("variant", "plain")
    model.tokens = state.get("tokens", 0)
    return model.to(device).eval()
