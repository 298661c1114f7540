#!/bin/sh
# test_install.sh - what `make install` puts down is what a stranger's program needs, and no more.
#
#     tests/test_install.sh BUILD-FOLDER
#
# Installs into a temporary prefix, compares the libraries' symbols with include/weir/exports.txt,
# builds examples/ against it with pkg-config, shared and static, as C and C++, and runs them.
#
# SPDX-License-Identifier: MIT
build=$(cd "${1:?usage: tests/test_install.sh BUILD-FOLDER}" && pwd) || exit 1
cd "$(dirname "$0")/.." || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
failed=0
checks=0

# check WHAT COMMAND...: the command must succeed
check() {
    what=$1
    shift
    checks=$((checks + 1))
    "$@" >"$work/output" 2>&1 && return 0
    echo "FAILED: $what"
    sed 's/^/    /' "$work/output" | head -20
    failed=1
    return 1
}

contains() { grep -q -e "$2" "$1" || { cat "$1"; false; }; }

check "cmake --install" cmake --install "$build" --prefix "$prefix" || exit 1
library=$(dirname "$(find "$prefix" -name libweir.so)")
export PKG_CONFIG_PATH="$library/pkgconfig" LD_LIBRARY_PATH="$library"
for file in include/weir/weir.h include/weir/nn.h; do
    check "$file is installed" cmp "$file" "$prefix/$file"
done
check "weir.pc is found" pkg-config --exists --print-errors weir
check "no other headers" test "$(find "$prefix/include" -type f | wc -l)" -eq 2

# symbols
nm -D --defined-only "$library/libweir.so" | awk '{print $3}' | sort >"$work/shared"
nm -g --defined-only "$library/libweir.a" | awk 'NF == 3 {print $3}' | sort >"$work/static"
LC_ALL=C sort include/weir/exports.txt >"$work/wanted"
for kind in shared static; do
    LC_ALL=C sort -o "$work/$kind" "$work/$kind"
    check "names of the $kind library are those of include/weir/exports.txt" \
        diff "$work/wanted" "$work/$kind"
done
readelf -d "$library/libweir.so" >"$work/dynamic"
check "libweir.so has a version in its name" contains "$work/dynamic" 'SONAME.*libweir\.so\.[0-9]'

# examples
warnings="-std=c11 -Wall -Wextra -Wpedantic -Werror"
flags=$(pkg-config --cflags --libs weir)
static=$(pkg-config --cflags --libs --static weir | sed "s/-lweir/-l:libweir.a/")
for example in examples/*.c; do
    name=$(basename "$example" .c)
    # shellcheck disable=SC2086
    check "$example builds" cc $warnings "$example" $flags -o "$work/$name"
    # shellcheck disable=SC2086
    check "$example builds with the static library" \
        cc $warnings "$example" $static -o "$work/$name.static"
done
if command -v c++ >/dev/null; then
    printf '%s\n' '#include <weir/nn.h>' '#include <cstdio>' '#include <cstring>' \
        'int main() { std::puts(weir_version()); return std::strcmp(weir_version(), VERSION); }' \
        >"$work/version.cc"
    # shellcheck disable=SC2086
    check "a C++ program builds" c++ -std=c++17 -Wall -Wextra -Werror "$work/version.cc" $flags \
        "-DVERSION=\"$(pkg-config --modversion weir)\"" -o "$work/version"
    check "weir_version is weir.pc's" "$work/version"
else
    echo "C++ skipped: no compiler c++"
fi

# a model of the user's own, held against transformers: ids equal, logits to 1e-4
for variant in own_model own_model.static; do
    "$work/$variant" tests/data/olmo2 <tests/data/olmo2/ids.txt >"$work/logits" 2>"$work/errors"
    expected=tests/data/olmo2/expected.txt
    paste "$work/logits" $expected >"$work/pairs"
    check "$variant gives the logits of transformers" awk '
        { d = $2 - $4 }
        $1 != $3 || d > 1e-4 || d < -1e-4 { print "line " NR ": " $0; bad = 1 }
        END { if (NR != 48) print NR " lines, wanted 48"; exit bad || NR != 48 }' "$work/pairs"
done
"$work/own_model" tests/data/golden/llama <tests/data/olmo2/ids.txt >"$work/logits" 2>"$work/errors"
check "a model of another family is refused with the name of what is missing" \
    contains "$work/errors" 'q_norm.weight: is missing'

# a chat, many windows long; the sixth word of a status line says how many tokens are seen
python3 tools/make_demo_model.py "$work/model" || failed=1
for variant in hello hello.static; do
    check "$variant answers" sh -c '"$1" "$2" >"$3" && test -s "$3"' - "$work/$variant" \
        "$work/model" "$work/answer"
done
check "hello says what is wrong with a model that is not there" sh -c \
    '! "$1" /nowhere/model 2>"$2" && grep -q "hello: /nowhere/model: " "$2"' - "$work/hello" \
    "$work/errors"
yes "and then?" | head -20 | "$work/endless_chat" "$work/model" 128 >"$work/answer" 2>"$work/status"
check "endless_chat answers 20 times, never sees more than its window, drops whole turns" awk '
    /^\[token/ { n++; if ($3 > 128 || $5 != 128) bad = 1; turns = $(NF - 2); at = $2 + 0 }
    !/^\[token/ { bad = 1 }
    END { if (bad || n != 20 || turns < 5 || at < 128 * 4) { print n, turns, at; exit 1 } }' \
    "$work/status"

yes "Once upon a time there was a" | head -12 |
    "$work/many_streams" "$work/model" 20 >"$work/answer"
check "many_streams goes on with 8 texts, 20 tokens each" sh -c \
    'test "$(grep -c "^\[20 tokens\]" "$1")" = 8' - "$work/answer"

# the command
if [ -x "$prefix/bin/weir" ]; then
    check "weir --version" sh -c '"$1" --version | grep -q "$2"' - "$prefix/bin/weir" \
        "$(pkg-config --modversion weir)"
    for file in share/man/man1/weir.1 share/bash-completion/completions/weir \
        share/zsh/vendor-completions/_weir share/fish/vendor_completions.d/weir.fish; do
        check "$file is installed" test -s "$prefix/$file"
    done
fi

[ $failed -ne 0 ] || echo "install: $checks checks passed"
exit $failed
