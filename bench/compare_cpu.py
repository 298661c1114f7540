#!/usr/bin/env python3
"""compare_cpu.py - weir beside llama.cpp on this machine's processor, in one run.

    bench/compare_cpu.py --weir build/weir            table, and bench/results/compare_cpu.json

For each weight type a random model of a real shape (tools/make_model.py; kept in --models) is run
by both engines in turn, --rounds times: the machine's bandwidth changes from minute to minute, so
only figures taken side by side are compared, and a ratio is the median over the rounds of the
ratio within a round.

    prefill   512 tokens from an empty context, tokens per second; the fastest of a round
    decode    one token at a time: weir with its ring full at --window; llama.cpp, which has no
              ring, over the last 64 positions before --window, which is a little less work
    share     bytes weir must read for one token, times tokens per second, over the read bandwidth
              that `weir bench` measures in the same round

Needs numpy and llama-cpp-python (tools/requirements.txt).  llama.cpp runs in a process of its own
that stays up between rounds and sleeps while weir runs.

SPDX-License-Identifier: MIT
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
PREFILL = 512
DECODE = 64

# ---------------------------------------------------------------------- llama.cpp, in a child


class Llama:
    """A model in llama.cpp through its C API: one context for prefill, one kept at depth."""

    def __init__(self, args):
        import llama_cpp

        self.api = api = llama_cpp
        self.silence = api.llama_log_callback(lambda level, text, user: None)
        api.llama_log_set(self.silence, None)
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(
            args.model.encode(), api.llama_model_default_params()
        )
        if not self.model:
            raise SystemExit(f"{args.model}: llama.cpp cannot load it")
        self.vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        self.depth = args.window - DECODE
        self.prompt = self.context(args, PREFILL)
        self.chat = self.context(args, 2 * args.window)
        for at in range(0, self.depth, PREFILL):
            self.decode(self.chat, at, min(PREFILL, self.depth - at))

    def context(self, args, size):
        api = self.api
        params = api.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = size, PREFILL, PREFILL
        params.n_threads = params.n_threads_batch = args.threads
        params.flash_attn_type = {"auto": -1, "off": 0, "on": 1}[args.flash]
        context = api.llama_init_from_model(self.model, params)
        if not context:
            raise SystemExit(f"{args.model}: llama.cpp cannot make a context of {size} tokens")
        return context

    def decode(self, context, at, n):
        """Reads n arbitrary tokens at positions at..; returns seconds, with the last logits."""
        api = self.api
        batch = api.llama_batch_init(n, 0, 1)
        batch.n_tokens = n
        for i in range(n):
            batch.token[i] = (at + i) * 7919 % self.vocab
            batch.pos[i] = at + i
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
            batch.logits[i] = i == n - 1
        began = time.perf_counter()
        status = api.llama_decode(context, batch)
        api.llama_get_logits_ith(context, -1)
        seconds = time.perf_counter() - began
        api.llama_batch_free(batch)
        if status != 0:
            raise SystemExit(f"llama_decode: status {status} at position {at}")
        return seconds

    def round(self):
        memory = self.api.llama_get_memory
        prefill = []
        for _ in range(2):
            self.api.llama_memory_clear(memory(self.prompt), True)
            prefill.append(self.decode(self.prompt, 0, PREFILL))
        self.api.llama_memory_seq_rm(memory(self.chat), 0, self.depth, -1)
        decode = [self.decode(self.chat, self.depth + i, 1) for i in range(DECODE)]
        return {
            "prefill_tok_s": PREFILL / min(prefill),
            "decode_tok_s": 1 / statistics.median(decode[8:]),
        }


def llama_child(args):
    """One JSON line once ready, then one for each line read."""
    llama = Llama(args)
    print(json.dumps({"system": llama.api.llama_print_system_info().decode()}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(llama.round()), flush=True)


class LlamaProcess:
    def __init__(self, args, model):
        command = [
            sys.executable,
            __file__,
            "--child",
            "--model",
            str(model),
            "--threads",
            str(args.threads),
        ]
        command += ["--window", str(args.window), "--flash", args.flash]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.system = self.read()["system"]

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the llama.cpp process ended")
        return json.loads(line)

    def round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


# ---------------------------------------------------------------------- weir


def weir_round(args, model):
    """One run of `weir bench`: the fastest prefill, as of llama.cpp, and the median decode."""
    command = [args.weir, "bench", str(model), "--json", "--quiet", "--prefill", str(PREFILL)]
    command += ["--threads", str(args.threads), "--window", str(args.window)]
    command += ["--tokens", str(DECODE)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
    out = json.loads(done.stdout)
    figures = {f["name"].split()[0]: f for f in out["figures"]}
    prefill, decode = figures["prefill"], figures["decode"]
    bandwidth = max(out["bandwidth_before"], out["bandwidth_after"])
    bytes_s = decode["bytes_per_step"] * decode["tokens_per_second"]
    return {
        "kernels": out["model"]["kernels"],
        "prefill_tok_s": prefill["tokens"] / prefill["seconds_fastest"],
        "decode_tok_s": decode["tokens_per_second"],
        "bytes_per_token": decode["bytes_per_step"],
        "bandwidth_bytes_s": bandwidth,
        "decode_bandwidth_share": bytes_s / bandwidth,
    }


# ---------------------------------------------------------------------- comparison


def model_file(args, weights):
    import make_model

    path = pathlib.Path(args.models) / f"{args.shape}-{weights}.gguf"
    if not path.exists():
        print(f"making {path}", file=sys.stderr)
        make_model.make(args.shape, path, weights)
    return path


def compare(args, weights):
    """Returns one row of the table: medians over the rounds."""
    model = model_file(args, weights)
    theirs = LlamaProcess(args, model)
    rounds = []
    for i in range(args.rounds):
        print(f"{weights}: round {i + 1} of {args.rounds}", file=sys.stderr)
        rounds.append((weir_round(args, model) if args.weir else None, theirs.round()))
    theirs.close()

    row = {"weights": weights, "llama_system": theirs.system, "rounds": rounds}
    for what in ("prefill_tok_s", "decode_tok_s"):
        row[f"llama_{what}"] = statistics.median(t[what] for _, t in rounds)
        if args.weir:
            row[f"weir_{what}"] = statistics.median(w[what] for w, _ in rounds)
            row[f"ratio_{what}"] = statistics.median(w[what] / t[what] for w, t in rounds)
    if args.weir:
        row["bandwidth_bytes_s"] = statistics.median(w["bandwidth_bytes_s"] for w, _ in rounds)
        row["bytes_per_token"] = rounds[0][0]["bytes_per_token"]
        row["weir_share"] = statistics.median(w["decode_bandwidth_share"] for w, _ in rounds)
        row["llama_share"] = statistics.median(
            w["bytes_per_token"] * t["decode_tok_s"] / w["bandwidth_bytes_s"] for w, t in rounds
        )
    return row


COLUMNS = [  # heading, key, format
    ("weights", "weights", "{:<8}"),
    ("prefill weir", "weir_prefill_tok_s", "{:12.1f}"),
    ("llama.cpp", "llama_prefill_tok_s", "{:9.1f}"),
    ("ratio", "ratio_prefill_tok_s", "{:5.2f}"),
    ("decode weir", "weir_decode_tok_s", "{:11.2f}"),
    ("llama.cpp", "llama_decode_tok_s", "{:9.2f}"),
    ("ratio", "ratio_decode_tok_s", "{:5.2f}"),
    ("share weir", "weir_share", "{:10.0%}"),
    ("llama.cpp", "llama_share", "{:9.0%}"),
    ("GB/s", "bandwidth_gb_s", "{:5.1f}"),
]


def print_table(rows):
    print("  ".join(heading for heading, _, _ in COLUMNS).replace("weights", "weights ", 1))
    for row in rows:
        if "bandwidth_bytes_s" in row:
            row = {**row, "bandwidth_gb_s": row["bandwidth_bytes_s"] / 1e9}
        cells = []
        for heading, key, form in COLUMNS:
            width = max(len(heading), len(form.format("" if key == "weights" else 0)))
            cells.append(form.format(row[key]) if key in row else "-".rjust(width))
        print("  ".join(cells))


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def commit():
    done = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True
    )
    return done.stdout.strip()


def parse():
    parser = argparse.ArgumentParser(description="weir beside llama.cpp on the processor")
    parser.add_argument("--weir", help="the weir program; without it llama.cpp runs alone")
    parser.add_argument(
        "--models",
        default=str(ROOT / "build/bench"),
        help="folder of the GGUF files, made if missing",
    )
    parser.add_argument("--shape", default="llama-1b")
    parser.add_argument("--types", default="f16,bf16,q8_0,q4_0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--flash", choices=["auto", "on", "off"], default="auto", help="llama.cpp's flash attention"
    )
    parser.add_argument(
        "--json", default=str(ROOT / "bench/results/compare_cpu.json"), help="where figures go"
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = parse()
    if args.child:
        llama_child(args)
        return
    result = {
        "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": args.threads,
        "shape": args.shape,
        "window": args.window,
        "flash_attention": args.flash,
        "rows": [],
    }
    out = pathlib.Path(args.json)
    out.parent.mkdir(parents=True, exist_ok=True)
    for weights in args.types.split(","):
        result["rows"].append(compare(args, weights))
        out.write_text(json.dumps(result, indent=1) + "\n")  # what is measured is kept
    print_table(result["rows"])


if __name__ == "__main__":
    main()
