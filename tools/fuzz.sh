#!/bin/sh
# fuzz.sh - builds the fuzzers and runs each for some time, two at once; 1 when one found something.
#
#     tools/fuzz.sh SECONDS [NAME...]        all, or fuzz_NAME only
#
# What is found lies in build/fuzz/found; new inputs that reach new code are kept in build/fuzz/new,
# so that a later run goes on from there.
#
# SPDX-License-Identifier: MIT
cd "$(dirname "$0")/.." || exit 1
seconds=${1:?usage: tools/fuzz.sh SECONDS [NAME...]}
shift
cmake --preset fuzz -G Ninja >/dev/null && cmake --build build/fuzz || exit 1
mkdir -p build/fuzz/found build/fuzz/new
for name in ${*:-$(ls fuzz/fuzz_*.c | sed 's/.*fuzz_\(.*\)\.c/\1/')}; do echo "$name"; done |
    xargs -P 2 -I NAME sh -c '
        mkdir -p build/fuzz/new/NAME build/fuzz/seed/NAME
        xargs -I PATH find PATH -type f <build/fuzz/fuzz/fuzz_NAME.corpus |
            while read -r file; do
                cp "$file" "build/fuzz/seed/NAME/$(cksum <"$file" | tr -d " ")"
            done
        build/fuzz/fuzz/fuzz_NAME -max_total_time='"$seconds"' -timeout=20 -rss_limit_mb=3000 \
            -artifact_prefix=build/fuzz/found/NAME- \
            build/fuzz/new/NAME build/fuzz/seed/NAME >build/fuzz/NAME.log 2>&1
        status=$?
        echo "fuzz_NAME: $(grep -c "" build/fuzz/NAME.log) lines in build/fuzz/NAME.log, $(
            grep -E "^Done|ERROR" build/fuzz/NAME.log | head -1)"
        exit $status'
