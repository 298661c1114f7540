#!/bin/bash
# gpu_check.sh - all that has to hold on a real GPU, in one go, as one table.
#
#     tools/gpu_check.sh                     in a built checkout
#     WEIR=path BUILD=path tools/gpu_check.sh    with binaries from elsewhere: the command, and the
#                                            folder that has tests/test_cuda and others
#
# Back end cuda beside back end ref with the model MODEL (models/weir.gguf): logits, perplexity,
# greedy text; sessions that go from the CPU to the GPU and back; an engine file; the tests of the
# back end, and, where compute-sanitizer is installed, some of them under it.  What is said: ok,
# FAILED or skipped.
# Back end cpu is no judge: it rounds activations to 8 or 16 bits; how far that takes it is said.
#
# SPDX-License-Identifier: MIT
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
build=${BUILD:-$root/build/release}
weir=${WEIR:-$build/weir}
model=${MODEL:-$root/models/weir.gguf}
rows=${ROWS:-128} limit=${LIMIT:-1024}      # tokens whose logits are compared, of the perplexity
window=${WINDOW:-512} tokens=${TOKENS:-100} # of the greedy texts
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT
failed=0
exec 3>&1 # the table, wherever standard output goes

say() { printf '%-50s %-8s %s\n' "$1" "$2" "$3" >&3; }

verdict() { # name, exit status, detail
    if [ "$2" -eq 0 ]; then
        say "$1" ok "$3"
    else
        say "$1" FAILED "$3"
        failed=1
    fi
}

on() { # back end, command, arguments: quiet, and what it says goes to $tmp/log.BACKEND
    local backend=$1 command=$2
    shift 2
    "$weir" "$command" "$model" --backend "$backend" --window "$window" --quiet "$@" \
        2>"$tmp/log.$backend"
}

continued() { # back end, arguments: greedy text
    on "$1" generate --greedy --ignore-eos --no-loop-guard "${@:2}" ||
        verdict "generate on $1" 1 "$(log "$1")"
}

log() { tail -n 1 "$tmp/log.$1" | cut -c 1-100; } # of a back end

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
    verdict "back end cuda opens" 1 "$(log cuda)"
    exit 1
fi
verdict "back end cuda opens" 0 "$(python3 -c 'import json, sys
i = json.load(open(sys.argv[1]))
print(i["backend"], i["kernels"], i["weight_type"], sep=", ")' "$tmp/info")"

# ---- beside the CPU

cat "$root"/docs/*.md >"$tmp/text"
measured() { # back end: its logits, its perplexity, its text
    on "$1" perplexity --text "$tmp/text" --limit "$rows" --logits "$tmp/$1.npy" >/dev/null ||
        verdict "logits on $1" 1 "$(log "$1")"
    on "$1" perplexity --text "$tmp/text" --limit "$limit" --json >"$tmp/$1.json" ||
        verdict "perplexity on $1" 1 "$(log "$1")"
    continued "$1" -p "Once upon a time" -n "$tokens" >"$tmp/$1.txt"
}
measured ref &
measured cuda
measured cpu
wait
far=$(python3 - "$tmp/ref.npy" "$tmp/cuda.npy" "$tmp/cpu.npy" <<'PYTHON'
import array, ast, sys


def rows(path):
    data = open(path, "rb").read()
    begin = 10 + int.from_bytes(data[8:10], "little")
    n, width = ast.literal_eval(data[10:begin].decode())["shape"]
    x = array.array("f", data[begin:])
    return [x[i * width : (i + 1) * width] for i in range(n)]


def apart(judge, other):
    worst = 0.0
    for a, b in zip(judge, other, strict=True):
        far = max(abs(x - y) for x, y in zip(a, b, strict=True)) / max(map(abs, a))
        worst = far if not far <= worst else worst
    return worst


judge, gpu, cpu = map(rows, sys.argv[1:])
far = apart(judge, gpu)
print(f"{len(judge)} rows, at most {far:.1e} of the largest logit (2e-2; the CPU: "
      f"{apart(judge, cpu):.1e})")
sys.exit(not far < 2e-2)
PYTHON
)
verdict "logits are those of ref" $? "$far"
ppl=$(python3 - "$tmp/ref.json" "$tmp/cuda.json" "$tmp/cpu.json" <<'PYTHON'
import json, sys

a, b, c = (json.load(open(path))["perplexity"] for path in sys.argv[1:])
print(f"{a:.6g}; on the GPU {b:.6g}, on the CPU {c:.6g}")
sys.exit(not abs(a - b) < 5e-4 * a)
PYTHON
)
verdict "perplexity is that of ref to three digits" $? "$ppl"
same "greedy text is that of ref" "$tmp/ref.txt" "$tmp/cuda.txt"

# ---- sessions change places

# The window has gone round.  A session read and written again is the same file.
for saved in cpu cuda; do
    restored=cuda
    [ $saved = cuda ] && restored=cpu
    continued $saved -p "The old house" -n $((window + 99)) --save "$tmp/$saved.weir" >/dev/null
    continued $restored --load "$tmp/$saved.weir" -n 0 --save "$tmp/$restored.again" >/dev/null
    same "saved on $saved, restored on $restored, saved again" "$tmp/$saved.weir" \
        "$tmp/$restored.again"
    for backend in ref cuda; do
        continued $backend --load "$tmp/$saved.weir" -n "$tokens" >"$tmp/$saved.$backend"
    done
    same "saved on $saved: ref and cuda continue alike" "$tmp/$saved.ref" "$tmp/$saved.cuda"
done

# ---- kernels compiled beforehand

if "$weir" build "$model" -o "$tmp/engine" --quiet >"$tmp/which" 2>"$tmp/log.cuda"; then
    continued cuda --engine "$tmp/engine" -p "Once upon a time" -n "$tokens" >"$tmp/engine.txt"
    same "an engine file gives the same text" "$tmp/cuda.txt" "$tmp/engine.txt"
else
    verdict "weir build" 1 "$(log cuda)"
fi

# ---- the tests, and the tests under compute-sanitizer

for test in test_cuda test_cuda_attend test_cuda_ahead; do
    run_test $test 400 "$build/tests/$test"
done
run_test "test_golden --on cuda" 300 "$build/tests/test_golden" --on cuda
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
while read -r tool tests; do
    [ -x "$build/tests/test_cuda" ] || sanitizer=$build/tests/test_cuda # is what is missing
    run_test "$tool" "${SANITIZER_SECONDS:-40}" "$sanitizer" --tool "$tool" --error-exitcode 9 \
        "$build/tests/test_cuda" "$tests"
done <<'END'
memcheck *whole_step*
synccheck *whole_step*
memcheck *clusters*
racecheck *clusters*
racecheck *image*
racecheck *whole_step*
END
exit $failed
