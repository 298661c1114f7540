#!/usr/bin/env python3
"""compare_gpu.py - weir beside PyTorch on one GPU, in one run.

    cmake --build build/release --target bench_gpu
    bench/compare_gpu.py --bench build/release/tests/bench_gpu       table, JSON, CSV and a picture

Both engines run the same shapes with random weights, the ring full at --window with 4 pinned
tokens; medians of at least 50 steps after a warm-up, by the host's clock.  Both take the likeliest
token on the device and bring it to the host; logits stay.  What PyTorch runs is torch_stream.py:
the StreamingLLM loop as published, and a static ring in a CUDA graph.  Each engine runs in a
process of its own, one after the other.

    decode    one stream, one token at a time
    streams   one token for each of many streams in a step, all rings full; PyTorch with its graph
    prefill   a prompt of --prefill tokens read from nothing

    share     bytes a step must read, times steps per second, over the best rate at which anything
              here read memory: PyTorch's sum over 4 GiB, weir's yardstick, or a step itself

Without --bench PyTorch runs alone.  Needs torch with CUDA; the picture needs gnuplot.

SPDX-License-Identifier: MIT
"""

import argparse
import csv
import datetime
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
STREAMS = {"1b": 64, "7b": 16, "8b": 16}
NAMES = {"1b": "Llama-3.2-1B", "7b": "Llama-2-7B", "8b": "Llama-3-8B"}


def lines_of(command, what):
    """Runs a program that prints JSON lines; None when it fails, having said why."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"{what}: exit {done.returncode}: {last}", file=sys.stderr)
        return None
    return [json.loads(line) for line in done.stdout.splitlines()]


def torch_side(args, shape):
    command = [sys.executable, HERE / "torch_stream.py", shape, "--type", args.type]
    command += ["--window", args.window, "--prefill", args.prefill, "--steps", args.steps]
    command += ["--streams", json.dumps(STREAMS)]
    lines = lines_of(command, f"PyTorch {shape}")
    return lines[0] if lines else None


def weir_side(args, shape):
    """One process for each figure; a figure that cannot be had is absent."""
    base = [args.bench, "-j", "-w", args.window]
    steps, slow = args.steps, max(10, args.steps // 5)
    runs = [(f"decode {t}", ["-n", steps, "-d", 0, f"{shape}:{t}"])
            for t in args.weights.split(",")]
    runs.append(("streams", ["-n", steps, "-s", STREAMS[shape], f"{shape}:{args.type}"]))
    runs.append(("prefill", ["-n", slow, "-c", args.chunk, "-p", args.prefill,
                             f"{shape}:{args.type}"]))
    out = {}
    for name, words in runs:
        lines = lines_of(base + words, f"weir {shape} {name}")
        if lines:
            out[name] = lines[0]
    return out


# ---------------------------------------------------------------------- what is said


def rows_of(result):
    """(shape, what, who, figure) of everything that was measured."""
    rows = []
    for shape, both in result["shapes"].items():
        theirs, ours = both["torch"] or {}, both["weir"]
        for name, figure in ours.items():
            what, _, weights = name.partition(" ")
            rows.append((shape, what, f"weir {weights or result['type']}", figure))
        for key, what, who in (
            ("published", "decode", "PyTorch StreamingLLM"), ("graph", "decode", "PyTorch graph"),
            ("streams", "streams", "PyTorch graph"), ("prefill", "prefill", "PyTorch"),
        ):
            if key in theirs:
                rows.append((shape, what, who, theirs[key]))
    order = ["decode", "streams", "prefill"]
    return sorted(rows, key=lambda row: (row[0], order.index(row[1])))


def best_read(rows, result):
    rates = [both["torch"]["read_bytes_s"] for both in result["shapes"].values() if both["torch"]]
    rates += [f["read_bytes_s"] for *_, f in rows if "read_bytes_s" in f]
    return max(rates + [f["bytes_s"] for *_, f in rows if "bytes_s" in f], default=0)


def say(result):
    rows = rows_of(result)
    best = result["read_bytes_s"] = best_read(rows, result)
    print(f"{result['device']}, {result['type']}, window {result['window']}, 4 sinks, "
          f"best read {best / 1e12:.2f} TB/s")
    print(f"{'':5}{'':9}{'':22}{'tok/s':>10}{'ms/step':>9}{'p99':>9}{'TB/s':>6}{'share':>7}"
          f"{'weir is':>9}")
    for shape, what, who, f in rows:
        weir = next((g for s, w, x, g in rows
                     if s == shape and w == what and x == f"weir {result['type']}"), None)
        f["share"] = f["bytes_s"] / best if best and "bytes_s" in f else None
        f["weir_ratio"] = weir["tok_s"] / f["tok_s"] if weir and "PyTorch" in who else None
        read = f"{f['bytes_s'] / 1e12:6.2f}{f['share']:7.0%}" if f["share"] else f"{'':13}"
        ratio = f"{f['weir_ratio']:7.2f} x" if f["weir_ratio"] else ""
        streams = f"{f['streams']} " if what == "streams" else ""
        print(f"{shape:5}{streams + what:12}{who:19}{f['tok_s']:13.1f}{1e3 * f['step_s']:9.3f}"
              f"{1e3 * f['p99_s']:9.3f}{read}{ratio:>9}")
    for shape, what, who, f in rows:
        if what == "decode" and "StreamingLLM" in who and f["weir_ratio"]:
            weir = f["tok_s"] * f["weir_ratio"]
            print(f"{NAMES[shape]}: weir {weir:.0f}, {who} {f['tok_s']:.0f}: "
                  f"{f['weir_ratio']:.1f} x")
    return rows


def draw(out, rows, result):
    """A panel for each shape: tokens per second of one stream."""
    import quality_plots

    colours = {"weir": 0, "PyTorch": 1}
    script, shapes = "", [s for s in result["shapes"]]
    for shape in shapes:
        bars = [(who, f["tok_s"]) for s, what, who, f in rows if s == shape and what == "decode"]
        data = "\n".join(f"{i},{y:.2f},{quality_plots.COLOURS[colours[who.split()[0]]]},{who}"
                         for i, (who, y) in enumerate(bars)).replace("#", "0x")
        script += (f"$bars_{shape} << EOD\n{data}\nEOD\n"
                   f"set title '{NAMES[shape]}, one stream, tokens per second'\n"
                   f"plot $bars_{shape} using 1:2:3:xtic(4) with boxes linecolor rgb variable, "
                   f"'' using 1:2:(sprintf('%.0f', $2)) with labels offset 0,0.7\n")
    style = ("set key noautotitle\nunset key\nset style fill solid 0.9\nset boxwidth 0.7\n"
             "set yrange [0:*]\nset offsets 0.5,0.5,0,0\nset grid noxtics\n"
             "set xtics rotate by 25 right noenhanced\n")
    script = f"{style}set multiplot layout 1,{len(shapes)}\n{script}unset multiplot\n"
    quality_plots.draw(out, "compare_gpu", script, 500 * len(shapes))


def write(args, result, rows):
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare_gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    with open(out / "compare_gpu.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["shape", "what", "who", "tokens_per_second", "median_ms", "p99_ms",
                        "bytes_per_second", "share_of_best_read", "weir_is_times_faster"])
        for shape, what, who, f in rows:
            figures = [f["tok_s"], 1e3 * f["step_s"], 1e3 * f["p99_s"], f.get("bytes_s"),
                       f["share"], f["weir_ratio"]]
            table.writerow([shape, what, who] + ["" if x is None else f"{x:.6g}" for x in figures])
    draw(out, rows, result)


def commit():
    done = subprocess.run(["git", "-C", str(HERE), "describe", "--always", "--dirty"],
                          capture_output=True, text=True)
    return done.stdout.strip()


def parse():
    parser = argparse.ArgumentParser(description="weir beside PyTorch on a GPU")
    parser.add_argument("--bench", help="the program bench_gpu; without it PyTorch runs alone")
    parser.add_argument("--shapes", default="1b,7b")
    parser.add_argument("--type", choices=["bf16", "f16"], default="bf16", help="of both engines")
    parser.add_argument("--weights", help="types weir decodes with; default: --type,q8_0,q4_0")
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--prefill", type=int, default=2048)
    parser.add_argument("--chunk", type=int, default=2048, help="of weir's prefill")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="50 steps, --type only")
    parser.add_argument("--out", default=str(HERE / "results"), help="folder of what is written")
    parser.add_argument("--redraw", action="store_true", help="from the JSON that is there")
    args = parser.parse_args()
    if args.quick:
        args.steps = 50
    if not args.weights:
        args.weights = args.type if args.quick else f"{args.type},q8_0,q4_0"
    return args


def main():
    args = parse()
    if args.redraw:
        result = json.loads((pathlib.Path(args.out) / "compare_gpu.json").read_text())
        write(args, result, say(result))
        return
    result = {
        "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(), "device": None, "type": args.type, "window": args.window,
        "prefill": args.prefill, "chunk": args.chunk, "steps": args.steps, "shapes": {},
    }
    for shape in args.shapes.split(","):
        ours = weir_side(args, shape) if args.bench else {}
        theirs = torch_side(args, shape)
        if theirs:
            result["device"], result["torch"] = theirs["device"], theirs["torch"]
        elif ours:
            result["device"] = next(iter(ours.values()))["device"]
        result["shapes"][shape] = {"torch": theirs, "weir": ours}
    if any(both["torch"] or both["weir"] for both in result["shapes"].values()):
        write(args, result, say(result))
    else:
        raise SystemExit("nothing could be measured")


if __name__ == "__main__":
    main()
