#!/usr/bin/env python3
"""kernel_report.py - what a GPU kernel is made of, by the functions that are inlined in it.

    tools/kernel_report.py walk_one 32 1 64 2 2 4              1B in q4_0
    tools/kernel_report.py --depth 4 --samples ncu.csv walk 4 1 128 2 2 1

The numbers are those that kernels are compiled for (compile.h): bits of formats and of activations,
features of a head, types of keys and values and of pinned ones, query heads at once.  Needs NVRTC,
and nvdisasm (in the toolkit, or `pip install nvidia-cuda-nvdisasm`); no GPU.

For each path of functions: instructions, how many of them are loads and stores of local memory,
and with --samples the share of the time and of the instructions executed, and what warps waited
for.  --samples is what a GPU's profiler saw:

    ncu --section SourceCounters -k regex:'^walk_one$' -s 3 -c 1 -o report bench_gpu -n 10 1b:q4_0
    ncu -i report.ncu-rep --page source --csv --print-source sass >ncu.csv

Local memory is far away where a block takes all shared memory: what always runs has none.

SPDX-License-Identifier: MIT
"""

import argparse
import bisect
import collections
import csv
import ctypes
import glob
import pathlib
import re
import subprocess
import tempfile

CUDA = pathlib.Path(__file__).resolve().parent.parent / "src/backend/cuda"
UNITS = ["walk", "rows", "spread", "wide", "draw", "measure", "attend_many"]
FUNCTION = re.compile(r"(?:DEVICE|WALK|COLD|KERNEL)\w*\b.*?(\w+)\(")
PLACE = re.compile(r'"([^"]+)", line (\d+)')


def nvrtc():
    for name in ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so",
                 *glob.glob("/usr/local/cuda*/lib*/libnvrtc.so")):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise SystemExit("kernel_report.py: libnvrtc.so.13 or .12 not found")


def source_of(options):
    """As write_source of compile.c has it."""
    formats, acts, head_dim, kv, pin, heads = options
    lines = []
    if acts.bit_count() == 1:
        lines.append(f"#define WEIR_ACT(act) {acts.bit_length() - 1}")
    if formats.bit_count() == 1:
        lines.append(f"#define WEIR_ONE_FORMAT {formats.bit_length() - 1}")
    lines += [f"#define WEIR_FORMATS {formats}", f"#define WEIR_HEAD_DIM(w) {head_dim}",
              f"#define WEIR_KV_TYPE(w) {kv}", f"#define WEIR_PIN_TYPE(w) {pin}",
              f"#define WEIR_LANE_PAIRS {(head_dim + 63) // 64}",
              f"#define WEIR_HEADS {max(1, heads)}"]
    return "\n".join(lines + [f'#include "{unit}.cu"' for unit in UNITS])


def compile_kernels(options, target):
    """The cubin, with the lines that its instructions are of."""
    files = [*(CUDA / "kernels").iterdir(), CUDA / "stage.h", CUDA.parent.parent / "nn/ops.h"]
    names = [("nn/ops.h" if f.name == "ops.h" else f.name).encode() for f in files]
    texts = [f.read_bytes() for f in files]
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    array = ctypes.c_char_p * len(files)
    library.nvrtcCreateProgram(ctypes.byref(program), source_of(options).encode(), b"weir.cu",
                               len(files), array(*texts), array(*names))
    flags = [f"--gpu-architecture={target}".encode(), b"--std=c++17", b"-lineinfo"]
    if library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags)):
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, log)
        raise SystemExit(f"kernel_report.py: kernels do not compile for {target}:\n"
                         + log.value.decode())
    library.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    library.nvrtcGetCUBIN(program, code)
    return code.raw


def disassemble(code, program):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        try:
            done = subprocess.run([program, "-gi", "-c", file.name], capture_output=True, text=True)
        except OSError as error:
            raise SystemExit(f"kernel_report.py: {program}: {error.strerror}; name it "
                             "with --nvdisasm") from None
    if done.returncode:
        raise SystemExit(f"kernel_report.py: {done.stderr.strip()}")
    return done.stdout.splitlines()


def instructions_of(lines, kernel):
    """[(instruction, [(file, line) it is of, where that is inlined, ...])] of a kernel, in order,
    and {label: number of the instruction behind it}."""
    out, labels, places, following, is_in = [], {}, [], [], False
    for line in lines:
        if line.startswith((".text.", "//---")):
            is_in = line.startswith(f".text.{kernel}:")
        elif is_in and "//## File" in line:
            found = [(pathlib.Path(f).name, int(n)) for f, n in PLACE.findall(line)]
            following += found if not following else found[1:]
        elif is_in and (label := re.match(r"(\.L_x_\d+):", line)):
            labels[label[1]] = len(out)
        elif is_in and (code := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*)", line)):
            places, following = following or places, []
            out.append((code[1], places))
    if not out:
        raise SystemExit(f"kernel_report.py: there is no kernel {kernel}")
    return out, labels


class Functions:
    """Which function a line of a kernel file is in."""

    def __init__(self):
        self.of_file = {}

    def name(self, place):
        file, line = place
        if file not in self.of_file:
            path = CUDA / "kernels" / file
            text = path.read_text().splitlines() if path.exists() else []
            self.of_file[file] = [(i, m[1]) for i, code in enumerate(text, 1)
                                  if (m := FUNCTION.match(code))]
        known = self.of_file[file]
        i = bisect.bisect(known, (line, "~")) - 1
        return known[i][1] if i >= 0 else file


def samples_of(path, n):
    """[(samples, executed, {what it waited for: samples})] of each instruction."""
    with open(path, newline="") as file:
        rows = [row for row in csv.reader(file) if len(row) > 10]
    head, rows = rows[0], rows[1:]
    if "# Samples" not in head or len(rows) != n:
        raise SystemExit(f"kernel_report.py: {path}: {len(rows)} instructions where the kernel has "
                         f"{n}; was another version profiled?")
    at = {name: i for i, name in enumerate(head)}
    waits = [c for c in head if c.startswith("stall_") and "Not Issued" not in c]
    return [(int(r[at["# Samples"]]), int(r[at["Instructions Executed"]]),
             {c[6:]: int(r[at[c]]) for c in waits}) for r in rows]


def arguments(description, depth, most):
    """A parser of what names a kernel and how much is said of it."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("kernel")
    parser.add_argument("options", type=int, nargs=6)
    parser.add_argument("--target", default="sm_90a")
    parser.add_argument("--depth", type=int, default=depth, help="functions of a path")
    parser.add_argument("--most", type=int, default=most, help="paths that are said")
    parser.add_argument("--nvdisasm", default="nvdisasm")
    return parser


def kernel_of(args):
    """What instructions_of says of the kernel that arguments name."""
    code = compile_kernels(args.options, args.target)
    return instructions_of(disassemble(code, args.nvdisasm), args.kernel)


def main():
    parser = arguments("what a GPU kernel is made of, by function", depth=4, most=40)
    parser.add_argument("--samples", help="CSV of ncu")
    args = parser.parse_args()
    found, _ = kernel_of(args)
    samples = samples_of(args.samples, len(found)) if args.samples else [(0, 0, {})] * len(found)
    functions, count, local = Functions(), collections.Counter(), collections.Counter()
    time, executed = collections.Counter(), collections.Counter()
    waits = collections.defaultdict(collections.Counter)
    for (text, places), (seen, runs, why) in zip(found, samples, strict=True):
        path = [functions.name(place) for place in reversed(places)]
        key = " > ".join(path[: args.depth]) or "?"
        count[key] += 1
        local[key] += bool(re.search(r"\b(LDL|STL)\b", text))
        time[key] += seen
        executed[key] += runs
        waits[key].update(why)
    all_time, all_runs = max(1, sum(time.values())), max(1, sum(executed.values()))
    print(f"{args.kernel}: {len(found)} instructions, {sum(local.values())} of local memory")
    for key, _ in (time if args.samples else count).most_common(args.most):
        line = f"{count[key]:6} {local[key]:4}"
        if args.samples:
            line += f"{time[key] / all_time:7.1%} {executed[key] / all_runs:6.1%}"
        worst = [f"{name} {n / all_time:.1%}" for name, n in waits[key].most_common(4)
                 if n > all_time / 500]
        print(f"{line}  {key}   {', '.join(worst)}".rstrip())


if __name__ == "__main__":
    main()
