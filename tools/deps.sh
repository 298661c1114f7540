#!/bin/sh
# deps.sh - installs the Debian packages that are missing, and does nothing when none is.
#
#     tools/deps.sh GROUP...        groups: build, check, demo, cross, fuzz
#
# What is looked for is the command or the library itself, so other systems may bring theirs.
# Without apt-get, or without the right to use it, prints what to install and exits 1.
#
# SPDX-License-Identifier: MIT
set -e

# group  what is looked for      the package of Debian 12 that has it
needs() {
    cat <<'END'
build    command gcc             gcc
build    file    stdio.h         libc6-dev
build    command cmake           cmake
build    command ninja           ninja-build
build    command pkg-config      pkg-config
build    library jansson         libjansson-dev
build    library libpcre2-8      libpcre2-dev
build    library libutf8proc     libutf8proc-dev
build    library libedit         libedit-dev
check    command python3         python3
demo     command python3         python3
check    library cmocka          libcmocka-dev
check    command g++             g++
check    command git             git
check    command clang-format    clang-format
cross    command aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu
cross    path    /usr/aarch64-linux-gnu/include/stdio.h libc6-dev-arm64-cross
cross    command qemu-aarch64    qemu-user
fuzz     command clang           clang
fuzz     file    stddef.h        libclang-rt-14-dev
END
}

is_there() {
    case $1 in
    command) command -v "$2" >/dev/null ;;
    library) pkg-config --exists "$2" 2>/dev/null ;;
    path) [ -e "$2" ] ;;
    file) echo "#include <$2>" | cc -E - >/dev/null 2>&1 ;;
    esac
}

missing=$(needs | while read -r group kind name package; do
    case " $* " in *" $group "*) is_there "$kind" "$name" || echo "$package" ;; esac
done | sort -u | tr '\n' ' ')
[ -n "$missing" ] || exit 0

echo "deps: missing: $missing"
if ! command -v apt-get >/dev/null; then
    echo "deps: no apt-get here; install what these Debian packages have, then try again" >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=
elif command -v sudo >/dev/null; then
    as_root=sudo
else
    echo "deps: not root and no sudo; as root run: apt-get install -y $missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
install="$as_root apt-get install -y -q --no-install-recommends $missing"
$install || { $as_root apt-get update -q && $install; }
