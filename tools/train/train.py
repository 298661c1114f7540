"""train.py - train, or go on training, the model.

    python train.py --tokens-dir TOKENS --out RUN --mix books_a=1,books_b=0.7 \
        --budget 300e6 --decay 0.2

The schedule is warm-up, constant, linear decay to zero (WSD). A run without
decay ends with a checkpoint that any number of later runs go on from with
--resume: a decayed branch to measure it, a longer run, the final anneal on
another mixture. RUN gets checkpoint.pt (everything, to go on from),
weights.pt (the weights in float16), and loss.csv.

SPDX-License-Identifier: MIT
"""

import argparse
import csv
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from data import Mixture
from model import Config, Llama
from muon import Muon
from tokenizer import BOS_ID, SINK_ID

FIRST = {"plain": BOS_ID, "sink": SINK_ID}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0].split(" - ")[1])
    add = parser.add_argument
    add("--tokens-dir", required=True, help="folder that data.py wrote")
    add("--out", required=True, help="folder of this run")
    add("--resume", help="checkpoint.pt (or weights.pt) to go on from")
    add("--variant", choices=FIRST, default="plain",
        help="what stands in front of every window: BOS, or the sink token")
    add("--mix", required=True, help="stream=weight,stream=weight,...")
    add("--budget", type=float, help="tokens of this run")
    add("--seconds", type=float, help="or its length in time")
    add("--decay", type=float, default=0.0,
        help="share of the run, at its end, over which the rate falls to 0")
    add("--warmup", type=int, default=100, help="steps")
    add("--rows", type=int, default=128, help="windows in a batch")
    add("--micro", type=int, default=128, help="windows in one pass")
    add("--lr", type=float, default=4e-3, help="of the matrices (Muon)")
    add("--lr-adam", type=float, default=3e-3, help="of all else (AdamW)")
    add("--adam-qk", type=float, default=0.0,
        help="rate of AdamW for q_proj and k_proj; 0: they are Muon's")
    add("--optimizer", choices=("muon", "adamw"), default="muon")
    add("--first-scale", type=float, default=1.0,
        help="times the first token's embedding at the start: see notes.md")
    add("--save-every", type=float, default=1e9, help="seconds")
    add("--seed", type=int, default=1)
    add("--layers", type=int, default=8)
    add("--dim", type=int, default=512)
    add("--ffn", type=int, default=1408)
    add("--context", type=int, default=1024)
    add("--no-compile", action="store_true")
    arguments = parser.parse_args()
    if not arguments.budget and not arguments.seconds:
        parser.error("give --budget or --seconds")
    return arguments


def make_optimizers(model, arguments):
    """Muon for the matrices of the layers; AdamW for embeddings and norms, and
    with --adam-qk for the query and key matrices."""
    groups = {"matrices": [], "qk": [], "rest": []}
    for name, parameter in model.named_parameters():
        if parameter.dim() != 2 or not name.startswith("layers"):
            groups["rest"].append(parameter)
        elif arguments.adam_qk and ("q_proj" in name or "k_proj" in name):
            groups["qk"].append(parameter)
        else:
            groups["matrices"].append(parameter)
    adam = dict(betas=(0.9, 0.95), eps=1e-10,
                fused=torch.cuda.is_available())
    if arguments.optimizer == "muon":
        first = Muon([dict(params=groups["matrices"], kind="matrices")])
    else:
        first = torch.optim.AdamW(
            [dict(params=groups["matrices"], kind="matrices")],
            weight_decay=0.1, **adam)
    rest = [dict(params=groups["rest"], kind="rest", weight_decay=0.0)]
    if groups["qk"]:
        rest.append(dict(params=groups["qk"], kind="qk", weight_decay=0.1))
    return [first, torch.optim.AdamW(rest, **adam)]


def set_rates(optimizers, arguments, factor):
    peak = {"matrices": arguments.lr, "rest": arguments.lr_adam,
            "qk": arguments.adam_qk}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = peak[group["kind"]] * factor


def rate(progress, step, arguments):
    """The factor on the peak rate."""
    factor = 1.0
    if not arguments.resume and arguments.warmup:
        factor = min(1.0, (step + 1) / arguments.warmup)
    if arguments.decay:
        factor = min(factor, (1 - progress) / arguments.decay)
    return max(factor, 0.0)


def save(run, model, optimizers, step, tokens, variant):
    common = dict(config=asdict(model.config), variant=variant, step=step,
                  tokens=tokens)
    weights = {k: v.half() for k, v in model.state_dict().items()}
    torch.save(dict(common, model=weights), run / "weights.pt")
    part = run / "checkpoint.part"
    torch.save(dict(common, model=model.state_dict(),
                    optimizers=[o.state_dict() for o in optimizers]), part)
    os.replace(part, run / "checkpoint.pt")


def main():
    arguments = parse()
    started = time.time()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    run = Path(arguments.out)
    run.mkdir(parents=True, exist_ok=True)

    config = Config(layers=arguments.layers, dim=arguments.dim,
                    heads=arguments.dim // 64, ffn=arguments.ffn,
                    kv_heads=2, context=arguments.context)
    step, tokens, variant, state = 0, 0, arguments.variant, None
    if arguments.resume:
        state = torch.load(arguments.resume, map_location=device,
                           weights_only=False)
        config = Config(**state["config"])
        step, tokens, variant = state["step"], state["tokens"], state["variant"]
    model = Llama(config).to(device)
    if not state:
        with torch.no_grad():
            model.embed_tokens.weight[FIRST[variant]] *= arguments.first_scale
    optimizers = make_optimizers(model, arguments)
    if state:
        model.load_state_dict({k: v.float() for k, v in state["model"].items()})
        for optimizer, saved in zip(optimizers, state.get("optimizers", [])):
            optimizer.load_state_dict(saved)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {variant}, "
          f"from step {step}, {tokens / 1e6:.0f} M tokens", flush=True)

    model.stream_dtype = torch.bfloat16
    loss_of = model.loss
    if not arguments.no_compile:
        loss_of = torch.compile(model.loss, dynamic=False)
    mix = {name: float(weight) for name, weight in
           (pair.split("=") for pair in arguments.mix.split(","))}
    mixture = Mixture(arguments.tokens_dir, mix, config.context, device,
                      arguments.seed * 1000 + step, FIRST[variant])

    log = open(run / "loss.csv", "a", newline="")
    table = csv.writer(log)
    if log.tell() == 0:
        table.writerow(["step", "tokens", "seconds", "loss", "gradient_norm",
                        "rate"])
    micro = min(arguments.micro, arguments.rows)
    passes = arguments.rows // micro
    per_step = arguments.rows * config.context
    first_tokens, sums, norms, count = tokens, 0.0, 0.0, 0
    clock, mark, mark_tokens, saved = None, None, None, started

    while True:
        # The clock of --seconds starts after the first step has compiled.
        elapsed = time.time() - clock if clock else 0.0
        progress = (elapsed / arguments.seconds if arguments.seconds
                    else (tokens - first_tokens) / arguments.budget)
        if progress >= 1:
            break
        factor = rate(progress, step, arguments)
        set_rates(optimizers, arguments, factor)
        for _ in range(passes):
            inputs, targets = mixture.batch(micro)
            with torch.autocast(device, dtype=torch.bfloat16):
                loss = loss_of(inputs, targets)
            (loss / passes).backward()
            sums = sums + loss.detach() / passes
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        norms = norms + norm
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, tokens, count = step + 1, tokens + per_step, count + 1
        if clock is None:
            float(loss.detach())
            clock = mark = time.time()
            mark_tokens = tokens
            print(f"first step after {clock - started:.0f} s", flush=True)
        if count == 50 or step == 1:
            mean, now = float(sums) / count, time.time()
            speed = (tokens - mark_tokens) / max(now - mark, 1e-9)
            table.writerow([step, tokens, f"{now - started:.1f}", f"{mean:.4f}",
                            f"{float(norms) / count:.3f}", f"{factor:.4f}"])
            log.flush()
            print(f"step {step}  {tokens / 1e6:.0f} M tokens  loss {mean:.4f}  "
                  f"norm {float(norms) / count:.2f}  rate x{factor:.3f}  "
                  f"{speed / 1e6:.2f} M/s", flush=True)
            sums, norms, count = 0.0, 0.0, 0
            if now - saved > arguments.save_every:
                save(run, model, optimizers, step, tokens, variant)
                saved = now
            mark, mark_tokens = now, tokens
            if mean != mean:
                sys.exit("the loss is not a number")
    log.close()
    save(run, model, optimizers, step, tokens, variant)
    passes_seen = {s: stream.passes for s, stream
                   in zip(mixture.names, mixture.streams)}
    print(f"done: {tokens / 1e6:.0f} M tokens in all, passes over the streams "
          f"begun {passes_seen}, {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
