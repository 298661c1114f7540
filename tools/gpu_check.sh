#!/bin/bash
# gpu_check.sh - all that has to hold on a real GPU, in one go, as one table.
#
#     tools/gpu_check.sh                     in a built checkout
#     WEIR=path BUILD=path tools/gpu_check.sh    with binaries from elsewhere: the command, and the
#                                            folder that has tests/test_cuda and tests/test_golden
#
# Back end cuda beside back end cpu with the model MODEL (models/weir.gguf): logits, perplexity,
# greedy text, sessions saved by one and continued by the other; the tests of the back end; and,
# where compute-sanitizer is installed, those tests under it.  What is said: ok, FAILED or skipped.
# Texts are compared with cpu-portable: the CPU's matrix units round activations to 8 or 16 bits,
# which turns a near tie now and then.
#
# SPDX-License-Identifier: MIT
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$root/build/release}
weir=${WEIR:-$build/weir}
model=${MODEL:-$root/models/weir.gguf}
limit=${LIMIT:-8192}                       # tokens of the perplexity
window=${WINDOW:-512} tokens=${TOKENS:-300} # of what is generated and compared
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
failed=0
exec 3>&1 # the table, wherever standard output goes

say() { printf '%-44s %-8s %s\n' "$1" "$2" "$3" >&3; }

verdict() { # name, exit status, detail
    if [ "$2" -eq 0 ]; then
        say "$1" ok "$3"
    else
        say "$1" FAILED "$3"
        failed=1
    fi
}

on() { # back end, command, arguments: quiet, and what it says goes to $tmp/log
    local backend=$1 command=$2
    shift 2
    "$weir" "$command" "$model" --backend "$backend" --window "$window" --quiet "$@" 2>"$tmp/log"
}

continued() { # back end, arguments: greedy text
    on "$1" generate --greedy --ignore-eos --no-loop-guard "${@:2}" ||
        verdict "generate on $1" 1 "$(log)"
}

log() { tail -n 1 "$tmp/log" | cut -c 1-100; }

# Runs a test; its promises are counted.
run_test() { # name, seconds, command...
    local name=$1 seconds=$2
    shift 2
    if [ ! -x "$1" ] && ! command -v "$1" >"$tmp/which"; then
        say "$name" skipped "no $1"
        return
    fi
    timeout "$seconds" "$@" >"$tmp/test" 2>&1
    local status=$?
    if [ $status -eq 124 ]; then
        say "$name" skipped "not done after $seconds s"
        return
    fi
    verdict "$name" $status "$(grep -c '  OK ' "$tmp/test") promises$(
        grep -E 'FAILED|ERROR SUMMARY' "$tmp/test" | head -n 1 | cut -c 1-100 | sed 's/^/; /')"
}

same() { # name, file, file
    if cmp -s "$2" "$3"; then
        verdict "$1" 0 "$(wc -c <"$2") bytes"
    else
        verdict "$1" 1 "differ: $(cmp "$2" "$3" 2>&1 | cut -d: -f2 | cut -c 1-80)"
    fi
}

# ---- the command

if ! on cuda info --json >"$tmp/info"; then
    verdict "back end cuda opens" 1 "$(log)"
    exit 1
fi
verdict "back end cuda opens" 0 "$(python3 -c 'import json, sys
i = json.load(open(sys.argv[1]))
print(i["backend"], i["kernels"], i["weight_type"], sep=", ")' "$tmp/info")"

# ---- beside the CPU

cat "$root"/docs/*.md >"$tmp/text"
for backend in cpu cuda; do
    on $backend perplexity --text "$tmp/text" --limit "$tokens" --logits "$tmp/$backend.npy" \
        >/dev/null || verdict "logits on $backend" 1 "$(log)"
    on $backend perplexity --text "$tmp/text" --limit "$limit" --json >"$tmp/$backend.json" ||
        verdict "perplexity on $backend" 1 "$(log)"
done
for backend in cpu-portable cuda; do
    continued $backend -p "Once upon a time" -n "$tokens" >"$tmp/$backend.txt"
    continued $backend -p "The old house" -n "$tokens" --save "$tmp/$backend.weir" >/dev/null
done
far=$(python3 - "$tmp/cpu.npy" "$tmp/cuda.npy" <<'PYTHON'
import array, ast, sys


def rows(path):
    data = open(path, "rb").read()
    begin = 10 + int.from_bytes(data[8:10], "little")
    n, width = ast.literal_eval(data[10:begin].decode())["shape"]
    x = array.array("f", data[begin:])
    return [x[i * width : (i + 1) * width] for i in range(n)]


worst, n = 0.0, 0
for a, b in zip(rows(sys.argv[1]), rows(sys.argv[2]), strict=True):
    apart = max(abs(x - y) for x, y in zip(a, b, strict=True)) / max(map(abs, a))
    n += 1
    worst = apart if not apart <= worst else worst
print(f"farthest of {n} rows: {worst:.1e} of the largest logit, at most 2e-2")
sys.exit(not worst < 2e-2)
PYTHON
)
verdict "logits are the CPU's" $? "$far"
ppl=$(python3 - "$tmp/cpu.json" "$tmp/cuda.json" <<'PYTHON'
import json, sys

a, b = (json.load(open(path))["perplexity"] for path in sys.argv[1:])
print(f"{a:.6g} on the CPU, {b:.6g} on the GPU")
sys.exit(not abs(a - b) < 5e-4 * a)
PYTHON
)
verdict "perplexity is the CPU's to three digits" $? "$ppl"
same "greedy text is the CPU's" "$tmp/cpu-portable.txt" "$tmp/cuda.txt"

# ---- sessions change places

for saved in cpu-portable cuda; do
    for backend in cpu-portable cuda; do
        continued $backend --load "$tmp/$saved.weir" -n $((tokens / 2)) >"$tmp/$saved.$backend"
    done
    same "saved by $saved: both continue alike" "$tmp/$saved.cpu-portable" "$tmp/$saved.cuda"
done

# ---- the tests, and the tests under compute-sanitizer

run_test "test_cuda" 300 "$build/tests/test_cuda"
run_test "test_golden --on cuda" 300 "$build/tests/test_golden" --on cuda
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
while read -r tool tests; do
    run_test "$tool" "${SANITIZER_SECONDS:-150}" "$sanitizer" --tool "$tool" --error-exitcode 9 \
        "$build/tests/test_cuda" "$tests"
done <<'END'
memcheck *
racecheck *whole_step*
synccheck *whole_step*
END
exit $failed
