"""pair.py - train a plain and a sink-token model side by side, and measure both.

    python pair.py --tokens-dir TOKENS --data DIR --tokenizer tokenizer \\
        --out RUNS [--resume] [--quick] -- TRAINING OPTIONS

Each variant has a GPU of its own, the same options and the same time. RUNS/plain
and RUNS/sink get what train.py writes, figures.json of evaluate.py, sample.txt of
sample.py and a log of each. With --resume each goes on from its own checkpoint.pt.

SPDX-License-Identifier: MIT
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
VARIANTS = ("plain", "sink")


def start(script, log, gpu, *options):
    """A script of this folder, on one GPU (None: on the CPU), logging to a file."""
    environment = dict(os.environ, PYTHONUNBUFFERED="1",
                       CUDA_VISIBLE_DEVICES="" if gpu is None else str(gpu))
    command = [sys.executable, str(HERE / script), *map(str, options)]
    with open(log, "w") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT,
                                env=environment)


def finish(jobs, logs, what):
    """Wait for all; on failure show the end of the log and stop."""
    failed = False
    for job, log in zip(jobs, logs):
        if job.wait():
            failed = True
            print(f"{what} failed, from {log}:\n" + log.read_text()[-3000:])
    if failed:
        sys.exit(1)


def train(arguments, runs):
    jobs, logs = [], []
    for gpu, run in enumerate(runs):
        run.mkdir(parents=True, exist_ok=True)
        options = ["--tokens-dir", arguments.tokens_dir, "--out", run,
                   *arguments.options]
        if arguments.resume:
            options += ["--resume", run / "checkpoint.pt"]
        else:
            options += ["--variant", run.name]
        logs.append(run / "train.log")
        jobs.append(start("train.py", logs[-1], gpu, *options))
    finish(jobs, logs, "training")


def measure(arguments, runs):
    """Figures on the GPUs and samples on the CPU, all at once."""
    jobs, logs = [], []
    for gpu, run in enumerate(runs):
        common = ["--weights", run / "weights.pt", "--tokenizer",
                  arguments.tokenizer]
        logs += [run / "evaluate.log", run / "sample.txt"]
        jobs.append(start("evaluate.py", logs[-2], gpu, *common, "--data",
                          arguments.data, "--out", run / "figures.json",
                          *(["--quick"] if arguments.quick else []),
                          *(["--most", arguments.most] if arguments.most else [])))
        jobs.append(start("sample.py", logs[-1], None, *common))
    finish(jobs, logs, "measuring")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0].split(" - ")[1])
    add = parser.add_argument
    add("--tokens-dir", required=True)
    add("--data", required=True, help="folder whose books/ are measured on")
    add("--tokenizer", required=True)
    add("--out", type=Path, required=True)
    add("--resume", action="store_true")
    add("--quick", action="store_true", help="short measurements")
    add("--only", choices=("train", "measure"), help="one half of the work")
    add("--most", type=int, help="tokens of each book that count")
    add("options", nargs="*", help="options of train.py, after --")
    arguments = parser.parse_args()
    runs = [arguments.out / variant for variant in VARIANTS]
    started = time.time()
    if arguments.only != "measure":
        train(arguments, runs)
        for run in runs:
            print(run.name, (run / "train.log").read_text().splitlines()[-1])
        print(f"trained after {time.time() - started:.0f} s", flush=True)
    if arguments.only != "train":
        measure(arguments, runs)
        for run in runs:
            print(f"== {run.name}\n" + (run / "evaluate.log").read_text())
        print(f"measured after {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
