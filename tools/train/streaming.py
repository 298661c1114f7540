"""streaming.py - StreamingLLM in PyTorch: the readable definition the figures rest on.

A query at stream position t attends the first `sinks` tokens and the most
recent `window` - `sinks`, itself included. Its position is its index in that
cache, min(t, window - 1): keys are kept unrotated; for the recent ones stream
differences are rotated, for the pinned ones the cache index of the query.
With sinks = 0 this is window attention; with window = None it is dense.

SPDX-License-Identifier: MIT
"""

import torch
from torch.nn import functional as F

from model import rope_tables, rotate

EVER = 1 << 60


class Streamer:
    def __init__(self, model, sinks=4, window=1024, probe=None):
        self.model, self.probe = model, probe
        self.sinks, self.window = sinks, window or EVER
        self.count = 0  # tokens fed
        self.caches = [None] * model.config.layers

    @torch.no_grad()
    def feed(self, ids):
        """The final hidden states of the next tokens, [batch, n, dim]."""
        model, count = self.model, ids.shape[1]
        x = model.embed_tokens(ids)
        for index, layer in enumerate(model.layers):
            y = self.attend(index, layer.self_attn, layer.input_layernorm(x))
            x = x + y
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        self.count += count
        return model.norm(x)

    def attend(self, index, attention, x):
        config, sinks = self.model.config, self.sinks
        device, count = x.device, x.shape[1]
        q, k, v = attention.project(x)
        if self.caches[index] is None:
            self.caches[index] = [k[:, :, :0], v[:, :, :0]] * 2
        pinned_k, pinned_v, recent_k, recent_v = self.caches[index]

        missing = sinks - pinned_k.shape[2]
        if missing > 0:
            pinned_k = torch.cat([pinned_k, k[:, :, :missing]], 2)
            pinned_v = torch.cat([pinned_v, v[:, :, :missing]], 2)
        all_k, all_v = torch.cat([recent_k, k], 2), torch.cat([recent_v, v], 2)
        begin = self.count - recent_k.shape[2]  # stream position of all_k[0]
        at_q = torch.arange(self.count, self.count + count, device=device)
        at_k = torch.arange(begin, self.count + count, device=device)

        groups = config.heads // config.kv_heads
        repeat = lambda y: y.repeat_interleave(groups, dim=1)
        scale = config.head_dim ** -0.5

        # Recent keys: only differences count, so positions may start at begin.
        near_q = rotate(q, *rope_tables(config, at_q - begin))
        near_k = rotate(all_k, *rope_tables(config, at_k - begin))
        scores = near_q @ repeat(near_k).mT * scale
        distance = at_q[:, None] - at_k
        seen = (distance >= 0) & (distance < self.window - sinks)
        seen &= at_k >= sinks
        scores = scores.masked_fill(~seen, float("-inf"))
        values = repeat(all_v)
        if sinks:
            cached_at = at_q.clamp(max=self.window - 1)
            at_s = torch.arange(pinned_k.shape[2], device=device)
            far_q = rotate(q, *rope_tables(config, cached_at))
            far_k = rotate(pinned_k, *rope_tables(config, at_s))
            far = far_q @ repeat(far_k).mT * scale
            far = far.masked_fill(at_s > at_q[:, None], float("-inf"))
            scores = torch.cat([far, scores], -1)
            values = torch.cat([repeat(pinned_v), values], 2)
        weights = scores.softmax(-1)
        if self.probe:
            self.probe(index, at_q, weights[..., :pinned_k.shape[2]])
        y = weights @ values

        keep = min(all_k.shape[2], self.window - 1)
        drop = all_k.shape[2] - keep
        self.caches[index] = [pinned_k, pinned_v,
                              all_k[:, :, drop:], all_v[:, :, drop:]]
        return attention.o_proj(y.transpose(1, 2).flatten(2))


@torch.no_grad()
def losses(model, ids, sinks, window, chunk=512, probe=None):
    """Nats of ids[:, 1:], each given all before it under the rule."""
    streamer = Streamer(model, sinks, window, probe)
    out = []
    for start in range(0, ids.shape[1] - 1, chunk):
        end = min(start + chunk, ids.shape[1] - 1)
        hidden = streamer.feed(ids[:, start:end])
        logits = F.linear(hidden, model.embed_tokens.weight).float()
        out.append(F.cross_entropy(
            logits.flatten(0, 1), ids[:, start + 1:end + 1].flatten(),
            reduction="none").view(ids.shape[0], -1))
    return torch.cat(out, 1)


@torch.no_grad()
def recomputed_losses(model, ids, positions, window, first=None, rows=256):
    """Nats of ids[:, p + 1] for p in positions, when each time the last
    `window` tokens are encoded afresh; with `first`, that token stands in
    front and one token fewer of the stream is seen."""
    out = []
    length = window - (first is not None)
    starts = [(row, p) for p in positions for row in range(ids.shape[0])]
    for begin in range(0, len(starts), rows):
        part = starts[begin:begin + rows]
        batch = torch.stack([ids[r, p + 1 - length:p + 1] for r, p in part])
        if first is not None:
            batch = F.pad(batch, (1, 0), value=first)
        hidden = model.hidden(batch)[:, -1]
        logits = F.linear(hidden, model.embed_tokens.weight).float()
        want = torch.stack([ids[r, p + 1] for r, p in part])
        out.append(F.cross_entropy(logits, want, reduction="none"))
    return torch.cat(out).view(len(positions), ids.shape[0]).T
