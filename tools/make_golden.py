#!/usr/bin/env python3
"""make_golden.py - tiny random models of every family and the logits they must give.

Writes tests/data/golden/ (its README.md has the file formats):

    <family>/config.json, *.safetensors    the model, 2 layers or so, made by transformers
    <family>/<case>.f32                    rows of logits, float32, little-endian
    ids.txt                                the tokens every case reads
    cases.txt                              one line per case

Dense cases are what transformers computes from the folder as written; all others are what
tools/reference.py computes in float64.  Before anything is written the two are held against each
other, and the reference against identities that need no second implementation:

    dense(reference) == transformers
    streaming with a window that never fills == dense
    a model cut to one layer: streaming row t == dense on the S pinned and W - S recent tokens
    start 2^40 == start 0
    the rule == two-query rotation with 64-bit fixed-point phases, from start 2^40
    the settings tell each other apart (a golden file that cannot fail proves nothing)

    make_golden.py [OUT]        needs torch, transformers, safetensors

SPDX-License-Identifier: MIT
"""

import json
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers

import make_fp8_golden
import reference

VOCAB = 97
N_TOKENS = 150
N_DENSE = 56
FULL = (4, 24)  # the setting of which every row is stored
SETTINGS = [(s, w) for s in (0, 1, 4, 37) for w in (8, 24, 48) if s < w]
START = 1 << 40

# ---------------------------------------------------------------------- models
#
# config.json as released models have it, mostly in the words of transformers 4 (rope_theta,
# rope_scaling); qwen3 in those of transformers 5 (rope_parameters).  Sizes are odd on purpose.

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 40,
    "intermediate_size": 52,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "num_key_value_heads": 5,
    "vocab_size": VOCAB,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
NEOX = {
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "hidden_size": 32,
    "intermediate_size": 72,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": VOCAB,
    "rotary_pct": 0.25,
    "rotary_emb_base": 10000,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
    "use_parallel_residual": True,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}
FALCON = {
    "architectures": ["FalconForCausalLM"],
    "model_type": "falcon",
    "hidden_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "vocab_size": VOCAB,
    "layer_norm_epsilon": 1e-5,
    "alibi": False,
    "bias": False,
    "multi_query": True,
    "new_decoder_architecture": False,
    "parallel_attn": True,
    "rope_theta": 10000.0,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}
MODELS = {
    "llama": LLAMA,
    "llama3": {
        **LLAMA,
        "hidden_size": 36,  # head_dim is its own: 6 * 8 = 48
        "head_dim": 8,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "num_hidden_layers": 3,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        "tie_word_embeddings": True,
    },
    "llama_linear": {
        **LLAMA,
        "num_key_value_heads": 1,
        "rope_scaling": {"type": "linear", "factor": 3.0},
        "attention_bias": True,
        "mlp_bias": True,
    },
    "mistral": {
        **LLAMA,
        "architectures": ["MistralForCausalLM"],
        "model_type": "mistral",
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "sliding_window": 40,
    },
    "qwen2": {
        **LLAMA,
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": 48,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "rope_theta": 1000000.0,
        "rope_scaling": {
            "type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 128,
            "beta_fast": 8.0,
        },
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "sliding_window": 16,
    },
    "qwen3": {
        **{k: v for k, v in LLAMA.items() if k != "rope_theta"},
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0},
        "tie_word_embeddings": True,
    },
    "neox": NEOX,
    "neox_sequential": {
        **NEOX,
        "num_attention_heads": 4,
        "rotary_pct": 0.5,
        "use_parallel_residual": False,
        "hidden_act": "gelu_new",
    },
    "mpt": {
        "architectures": ["MPTForCausalLM"],
        "model_type": "mpt",
        "d_model": 36,
        "n_heads": 6,
        "n_layers": 2,
        "expansion_ratio": 4,
        "vocab_size": VOCAB,
        "max_seq_len": 256,
        "no_bias": True,
        "layer_norm_epsilon": 1e-5,
        "learned_pos_emb": True,
        "attn_config": {
            "alibi": True,
            "alibi_bias_max": 8,
            "attn_type": "multihead_attention",
            "clip_qkv": 2.0,
        },
        "tie_word_embeddings": True,
    },
    "falcon": FALCON,
    "falcon_two_norms": {
        **FALCON,
        "hidden_size": 48,
        "num_attention_heads": 6,
        "new_decoder_architecture": True,
        "num_kv_heads": 2,
        "ffn_hidden_size": 76,
    },
    "falcon_one_norm": {
        **FALCON,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "new_decoder_architecture": True,
        "num_kv_heads": 1,
        "num_ln_in_parallel_attn": 1,
        "ffn_hidden_size": 100,
    },
    "falcon_alibi": {
        **FALCON,
        "hidden_size": 36,
        "num_attention_heads": 6,
        "alibi": True,
        "bias": True,
        "multi_query": False,
        "parallel_attn": False,
    },
    "llama_bf16": {**LLAMA, "num_key_value_heads": 1, "torch_dtype": "bfloat16"},
    "neox_f16": {**NEOX, "torch_dtype": "float16"},
}
SHARDED = {"qwen2"}
# Half-precision folders test reading, not the rule: fewer cases.
FEW_CASES = {"llama_bf16", "neox_f16"}


def randomize(model, generator):
    """Weights under which attention is neither flat nor saturated and every bias counts."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        with torch.no_grad():
            if p.ndim == 1 and name.endswith("weight"):  # norms
                p.copy_(1.0 + 0.2 * noise)
            elif p.ndim == 1:
                p.copy_(0.2 * noise)
            elif any(part in name for part in ("embed", "wte")):
                p.copy_(noise)
            else:
                p.copy_(1.2 * noise / p.shape[1] ** 0.5)


def write_model(folder, config, seed, sharded):
    """Makes the HF folder: weights by transformers, config.json in our words."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    made = transformers.AutoConfig.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_config(made, dtype=torch.float32)
    randomize(model, torch.Generator().manual_seed(seed))
    model.to(getattr(torch, config.get("torch_dtype", "float32")))
    model.save_pretrained(folder, max_shard_size="30KB" if sharded else "1GB")
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "generation_config.json").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o644)


def transformers_logits(folder, ids):
    # sdpa: the eager path of Falcon in transformers 5.24 adds the ALiBi bias twice.
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager" if "mpt" in folder.name else "sdpa"
    ).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double().numpy()


# ---------------------------------------------------------------------- checks


def error(a, b):
    """The largest relative error of a row: max |a - b| / max |b|."""
    return float(np.max(np.max(np.abs(a - b), axis=-1) / np.max(np.abs(b), axis=-1)))


def check(what, value, bound):
    print(f"    {what:48s} {value:.2e}")
    if not value <= bound:
        raise SystemExit(f"{what}: {value:.3e}, wanted at most {bound:.0e}")


class TwoQueryStream(reference.Stream):
    """The theorem of docs/streaming.md: keys rotated once, at their stream position (pinned ones
    at their index), and two rotations of the query.  Phases are 64-bit fractions of a turn."""

    def phase(self, position):
        return np.array([position * f % 2**64 / 2**64 * 2 * np.pi for f in self.fixed])

    def rotated(self, x, position):
        angles, factor = self.phase(position), self.model.rope[2]
        return reference.rotate(x, np.cos(angles) * factor, np.sin(angles) * factor)

    def attend(self, layer, block, x):
        m, cache = self.model, self.cache
        self.fixed = [round(f / (2 * np.pi) * 2**64) for f in m.rope[1]]
        count, pinned = len(cache.stream), cache.pinned
        q = block.q(x).reshape(m.n_heads, m.head_dim)
        k = block.k(x).reshape(m.n_kv_heads, m.head_dim)
        if block.q_norm:
            q, k = block.q_norm(q), block.k_norm(k)
        mine = count - 1 if count == pinned else self.position
        cache.k[layer, count - 1] = self.rotated(k, mine)
        cache.v[layer, count - 1] = block.v(x).reshape(m.n_kv_heads, m.head_dim)
        group = m.n_heads // m.n_kv_heads
        of_head = np.arange(m.n_heads) // group
        keys, values = cache.k[layer, :count, of_head], cache.v[layer, :count, of_head]
        near, far = self.rotated(q, self.position), self.rotated(q, count - 1)
        scores = np.einsum("hd,htd->ht", near, keys)
        scores[:, :pinned] = np.einsum("hd,htd->ht", far, keys[:, :pinned])
        weights = np.exp(scores * m.scale)
        weights /= weights.sum(axis=-1, keepdims=True)
        return np.einsum("ht,htd->hd", weights, values).ravel()


def check_two_queries(model, ids, sinks, window, wanted):
    stream = TwoQueryStream(model, sinks, window, start=START)
    rows = np.array([reference.logits(model, stream.step(token)) for token in ids])
    check("two-query rotation from 2^40 == the rule", error(rows, wanted), 1e-9)


def check_one_layer(model, ids, sinks, window):
    """Keys of the first layer depend on their token only, so evicting equals never having read."""
    blocks, model.blocks = model.blocks, model.blocks[:1]
    rows = range(0, len(ids), 13)
    got = reference.evaluate(model, ids, sinks, window, rows=rows)
    kept = [
        ids[: r + 1] if r < window else ids[:sinks] + ids[r + 1 - window + sinks : r + 1]
        for r in rows
    ]
    wanted = np.array([reference.recompute(model, k) for k in kept])
    model.blocks = blocks
    check("one layer: evicted == never read", error(got, wanted), 1e-12)


def check_identities(model, ids, full, dense):
    sinks, window = FULL
    never_full = reference.evaluate(model, ids[:N_DENSE], sinks, N_DENSE)
    if not model.sliding_window:
        check("a window that never fills == dense", error(never_full, dense), 1e-12)
    shifted = reference.evaluate(model, ids, sinks, window, start=START)
    check("start 2^40 == start 0", error(shifted, full), 0.0)
    check_one_layer(model, ids, sinks, window)
    if model.rope:
        check_two_queries(model, ids, sinks, window, full)


# ---------------------------------------------------------------------- cases


def some_rows(n):
    """Every 11th row and the last five."""
    return sorted({*range(0, n, 11), *range(n - 5, n)})


def case(name, mode, sinks, window, n=N_TOKENS, rows=None, pins=(), turns=None):
    rows = some_rows(n) if rows is None else rows
    return dict(
        name=name,
        mode=mode,
        sinks=sinks,
        window=window,
        n=n,
        rows=list(rows),
        pins=pins,
        turns=turns,
    )


def cases_of(family, config):
    """Dense comes first and full second; make_family() relies on it."""
    dense = case("dense", "dense", 0, N_DENSE, N_DENSE, range(N_DENSE))
    if family in FEW_CASES:
        return [dense, case("s4_w24", "streaming", 4, 24)]
    settings = [(s, w) for s, w in SETTINGS if (s, w) != FULL]
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        # A window beyond the one it was trained with is not a promise: the largest is that one.
        settings = [(s, min(w, config["sliding_window"])) for s, w in settings]
    cases = [dense, case(f"s{FULL[0]}_w{FULL[1]}", "streaming", *FULL, rows=range(N_TOKENS))]
    cases += [case(f"s{s}_w{w}", "streaming", s, w) for s, w in settings]
    cases += [
        case("window", "window", 0, 24),
        case("recompute", "recompute", 0, 24),
        # before the window is full, when it is, and again
        case("pin", "streaming", 4, 24, pins=((15, 7, 10), (60, 44, 49), (100, 95, 97))),
        case(
            "turns",
            "streaming",
            4,
            24,
            turns=(4, 11, 13, 22, 30, 33, 40, 55, 66, 80, 81, 95, 104, 118, 131, 140),
        ),
        case(
            "long_turn", "streaming", 2, 24, turns=(2, 9, 20, 60, 66, 100)
        ),  # 40 tokens > 22 places
        case(  # each span needs more room than there is
            "turns_pin",
            "streaming",
            4,
            24,
            pins=((47, 41, 44), (67, 61, 63)),
            turns=(4, 16, 27, 38, 49, 60, 71, 95, 120),
        ),
    ]
    return cases


def case_line(family, c):
    pins = " ".join(f"{a} {f} {t}" for a, f, t in c["pins"])
    turns = "-1" if c["turns"] is None else " ".join(map(str, (len(c["turns"]), *c["turns"])))
    rows = " ".join(map(str, c["rows"]))
    head = f"{family} {c['name']} {c['mode']} {c['sinks']} {c['window']} {c['n']}"
    return (
        " ".join(f"{head} {len(c['pins'])} {pins} {turns} {len(c['rows'])} {rows}".split()) + "\n"
    )


def reference_rows(model, ids, c):
    ids = ids[: c["n"]]
    return reference.evaluate(
        model,
        ids,
        c["sinks"],
        c["window"],
        c["mode"],
        pins=c["pins"],
        turns=c["turns"],
        rows=c["rows"],
    )


def check_distinct(rows, cases, sliding):
    """Settings that should differ do, on the last row, by far more than any tolerance."""
    last = {c["name"]: rows[c["name"]][-1:] for c in cases if c["n"] == N_TOKENS}
    names = [n for n in last if n != "window"]  # the same as s0_w24, by definition
    check("window == s0_w24", error(last["window"], last["s0_w24"]), 0.0)
    closest, pair = min(
        (error(last[a], last[b]), (a, b)) for i, a in enumerate(names) for b in names[:i]
    )
    print(f"    {'closest settings: ' + ' and '.join(pair):48s} {closest:.2e}")
    if closest < 1e-3 and not sliding:
        raise SystemExit(f"settings {pair} can hardly be told apart: {closest:.1e}")


def make_family(out, family, config, ids, seed):
    print(family)
    folder = out / family
    write_model(folder, config, seed, family in SHARDED)
    model = reference.load(folder)
    cases = cases_of(family, config)
    rows = {c["name"]: reference_rows(model, ids, c) for c in cases}
    truth = transformers_logits(folder, ids[:N_DENSE])
    check("dense == transformers (float32)", error(rows["dense"], truth), 1e-5)
    if family not in FEW_CASES:
        check_identities(model, ids, rows[cases[1]["name"]], rows["dense"])
        check_distinct(rows, cases, model.sliding_window)
    rows["dense"] = truth
    for c in cases:
        rows[c["name"]].astype("<f4").tofile(folder / f"{c['name']}.f32")
    return [case_line(family, c) for c in cases]


README = """# Golden logits

Made by tools/make_golden.py; do not edit.  Every folder is a tiny random model as Hugging Face
stores it.  Dense logits come from transformers, all others from tools/reference.py (float64),
and so do those of fp8_*, made by tools/make_fp8_golden.py.

* `ids.txt`: token ids separated by white space; every case reads the first of them.
* `<model>/<case>.f32`: float32, little-endian, [stored rows, vocab]; no header.
* `cases.txt`: one case a line, words separated by one space:

      model case mode sinks window n_tokens
      n_pins (at from to)...    when `at` tokens have been read, pin tokens [from, to)
      n_turns start...          -1: policy token; else policy turn, and where turns start
      n_rows row...             row r is the logits after token r

  `dense` has a window of n_tokens.  Positions count from the first token, whatever the start.
  Tokens between the sinks and the first turn are a turn of their own.  When the cache is full the
  oldest turn leaves the recent part whole; when that is the turn being read (long_turn), it loses
  its oldest tokens one by one.
"""


def make_all(out):
    """Returns the size of all files, in bytes."""
    ids = np.random.default_rng(7).integers(3, VOCAB, N_TOKENS).tolist()
    ids[0] = 1
    (out / "ids.txt").write_text(" ".join(map(str, ids)) + "\n")
    (out / "README.md").write_text(README)
    lines = []
    for seed, (family, config) in enumerate(MODELS.items()):
        lines += make_family(out, family, config, ids, seed)
    lines += make_fp8_golden.make_fp8(out)
    (out / "cases.txt").write_text("".join(lines))
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{len(lines)} cases, {size / 1e6:.2f} MB")
    return size


def main():
    here = pathlib.Path(__file__).resolve().parent
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here.parent / "tests/data/golden"
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:  # old files stay until every check has passed
        made = pathlib.Path(folder) / "golden"
        made.mkdir()
        size = make_all(made)
        if size > 5e6:
            raise SystemExit(f"golden files take {size / 1e6:.2f} MB, wanted at most 5")
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)


if __name__ == "__main__":
    main()
