#!/bin/sh
# check_headers.sh - every header compiles alone: what it needs, it includes.
#
#     tests/check_headers.sh [CC [CXX]]        from anywhere; cc and c++ by default
#
# Headers under src are compiled as C17, the public ones as C11, C17 and C++17, without warnings.
# Headers for one instruction set get its flags and are skipped, saying so, on other machines.
# Prints one line for each header that fails, and the compiler's first error; exit 1 if any did.
#
# SPDX-License-Identifier: MIT
cd "$(dirname "$0")/.." || exit 1
cc=${1:-cc}
cxx=${2:-c++}
warnings="-Wall -Wextra -Wpedantic -Wshadow -Wundef -Werror"
failed=0
checked=0
command -v "$cc" >/dev/null || { echo "check_headers.sh: no C compiler $cc" && exit 1; }
command -v "$cxx" >/dev/null || { echo "C++ checks skipped: no compiler $cxx" && cxx=; }

# Sets flags to what the compiler needs for a header's instruction set; 1: not on this machine.
flags_for() {
    flags=
    case $1 in
    *_avx512.h) flags="-mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq" ;;
    *_avx2.h) flags="-mavx2 -mfma -mf16c" ;;
    *_neon.h) flags="-march=armv8.2-a+dotprod" ;;
    esac
    [ -z "$flags" ] || echo | $cc $flags -x c -c -o /dev/null - 2>/dev/null
}

# compile HEADER COMPILER LANGUAGE STANDARD
compile() {
    checked=$((checked + 1))
    # Twice: a header that is not guarded against it fails.
    if ! message=$(printf '#include "%s"\n#include "%s"\nextern int not_empty;\n' "$1" "$1" |
        $2 -x "$3" "-std=$4" $warnings -Wno-unused-function $flags -Isrc -Iinclude \
            -fsyntax-only - 2>&1); then
        echo "$1: does not compile alone as $4: $(echo "$message" | grep -m1 'error')"
        failed=1
    fi
}

for header in $(find src include -name '*.h' | sort); do
    if ! flags_for "$header"; then
        echo "$header: skipped, not for this machine"
        continue
    fi
    compile "$header" "$cc" c c17
    case $header in
    include/*)
        compile "$header" "$cc" c c11
        [ -z "$cxx" ] || compile "$header" "$cxx" c++ c++17
        ;;
    esac
done
[ $failed -ne 0 ] || echo "headers: $checked checks passed"
exit $failed
