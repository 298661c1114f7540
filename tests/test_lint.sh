#!/bin/sh
# test_lint.sh - tools/lint.py sees each violation it promises to see, and nothing in good code.
#
#     tests/test_lint.sh
#
# Each case is a small repository of one good file and one bad one, made in a temporary folder.
#
# SPDX-License-Identifier: MIT
cd "$(dirname "$0")/.." || exit 1
lint=$PWD/tools/lint.py
format=$PWD/.clang-format
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
cases=0

# Starts a fresh repository with a header and a source that break no rule.
begin() {
    rm -rf "$work/repo"
    mkdir -p "$work/repo/tools" "$work/repo/src/base" "$work/repo/src/model" "$work/repo/build"
    cd "$work/repo" || exit 1
    git init -q .
    cp "$lint" tools/lint.py
    cp "$format" .clang-format
    head='- a test.\n *\n * SPDX-License-Identifier: MIT */\n'
    printf '/* good.h %b#pragma once\n\nint good_one(int x);\n' "$head" >src/base/good.h
    printf '/* good.c %b#include "base/good.h"\n\nint good_one(int x) {\n    return x;\n}\n' \
        "$head" >src/base/good.c
}

# expect MESSAGE: the linter must fail and print it; "" for no violation at all
expect() {
    cases=$((cases + 1))
    output=$(python3 tools/lint.py --all --build build 2>&1)
    status=$?
    if [ -z "$1" ]; then
        [ $status -eq 0 ] && return
        echo "good code is refused: $output"
    else
        [ $status -eq 1 ] && echo "$output" | grep -qF -- "$1" && return
        echo "not seen: $1"
        echo "$output" | sed 's/^/    /'
    fi
    failed=1
}

# bad PATH TEXT MESSAGE: a file with the standard header comment and this text
bad() {
    begin
    mkdir -p "$(dirname "$1")"
    printf '/* %s %b%b' "$(basename "$1")" "$head" "$2" >"$1"
    expect "$3"
}

# object TEXT MESSAGE: an archive of the layer base with one object, bad.c
object() {
    begin
    printf '%b' "$1" >build/bad.c
    cc -O1 -fPIC -fno-builtin -w -c build/bad.c -o build/bad.c.o
    ar rc build/libweir_base.a build/bad.c.o
    expect "$2"
}

# repeat COUNT LINE
repeat() {
    i=0
    while [ $i -lt "$1" ]; do
        printf '%s\\n' "$2"
        i=$((i + 1))
    done
}

begin && expect ""
long=$(printf '%0101d' 0)
bad src/base/bad.c "/* $long */\n" "107 columns, at most 100"
bad src/base/bad.c '\tint x;\n' "a tab"
bad src/base/bad.c 'int x; \n' "space at the end of the line"
bad src/base/bad.c 'int x;' "must end with one newline"
bad src/base/bad.c "$(repeat 801 'int x;')" "lines, at most 800"
# A warning alone fails nothing, so the last line has no newline.
bad src/base/bad.c "$(repeat 650 'int x;')int y;" "warning: 654 lines, better 600"
bad src/base/bad.c "int bad_f(int x) {\n$(repeat 99 '    x++;')}\n" \
    "bad_f has 101 lines, at most 100"
bad src/base/bad.c "int bad_f(int x,\n          int y) {\n$(repeat 98 '    x++;')}\n" \
    "bad_f has 101 lines"
bad src/base/bad.c 'int  x;\n' "not as clang-format writes it"
bad src/base/bad.c '// a comment\n' "comments are written /* */"
bad src/base/bad.c '/* TODO: later */\n' "a TODO needs the number of an issue"
bad src/base/bad.c 'int x; /* NOLINT */\n' "NOLINT must name its check"
bad src/base/bad.c 'typedef int bad_t;\n' "bad_t: names that end in _t belong to POSIX"
bad src/base/bad.c '#include "text/tokenizer.h"\n' \
    'base includes "text/tokenizer.h", which lies above'
bad src/base/bad.c '#include "elsewhere/x.h"\n' '"elsewhere/x.h" is in no layer'
bad src/model/bad.c '#include "nn/graph.h"\n' "may see weir/nn.h only"
bad src/base/bad.h 'int bad(void);\n' "no #pragma once"
bad include/weir/bad.h "#pragma once\n$(repeat 450 'int x;')" "lines, a public header has 450"
bad include/weir/bad.h '#pragma once\nWEIR_API int other_name(int x);\n' \
    "other_name: public names begin"

begin && printf 'int x;\n' >src/base/bad.c && expect "no header comment"
begin && printf '/* good.c - a test. */\nint x;\n' >src/base/bad.c &&
    expect 'wanted "bad.c - what it is"'
begin && printf '/* bad.c - a test. */\nint x;\n' >src/base/bad.c &&
    expect "does not end with its SPDX line"
begin && printf '"""bad.py - a test.\n"""\n' >tools/bad.py &&
    expect "does not end with its SPDX line"
begin && sed -i 's/^#include.*/#include <stdio.h>\n&/' src/base/good.c &&
    expect 'includes "stdio.h" before its own "base/good.h"'
begin && printf 'weir_gone\n' >include.txt && mkdir -p include/weir &&
    mv include.txt include/weir/exports.txt && expect "weir_gone is listed and not public"
bad src/nn/bad.c "$(repeat 400 'int x;')" "0.7 % of the lines have comments, wanted 10 to 40"
bad src/nn/bad.c "$(repeat 400 'int x; /* x */')" "0 asserts in 400 lines of code, wanted 4"

object 'static const char *const t[] = {"a"};\nconst char *good_t(int i) { return t[i]; }\n' ""
object 'void exit(int);\nvoid bad_f(void) { exit(1); }\n' "calls exit"
object 'int printf(const char *, ...);\nvoid bad_f(void) { printf("x %%d", 1); }\n' "calls printf"
object 'void *malloc(unsigned long);\nvoid *bad_f(void) { return malloc(3); }\n' "calls malloc"
object 'static int counter;\nint bad_f(void) { return counter++; }\n' \
    "counter is a mutable global (.bss"
object 'int bad_f(void) { static int n = 4; return n++; }\n' "n is a mutable global (.data"
object 'int bad(void) { return 1; }\n' "bad is global and has no prefix"

begin
printf 'int other_f(void) { return 1; }\n' >build/bad.c
cc -c build/bad.c -o build/bad.o && ar rc build/libweir.a build/bad.o
expect "other_f is visible, wanted weir_ and nn_ names only"

[ $failed -ne 0 ] || echo "lint: $cases cases passed"
exit $failed
