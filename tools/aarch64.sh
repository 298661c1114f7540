#!/bin/sh
# aarch64.sh - libraries for the cross build, in build/aarch64-libs, from Debian's own packages.
#
#     tools/aarch64.sh         1, saying why, when this machine cannot cross-compile
#
# The packages are fetched with lists and a cache of their own and unpacked, not installed: the
# system keeps its architectures and its packages as they are, and root is not needed.
#
# SPDX-License-Identifier: MIT
cd "$(dirname "$0")/.." || exit 1
packages="libjansson4 libjansson-dev libpcre2-8-0 libpcre2-dev libutf8proc2 libutf8proc-dev
    libcmocka0 libcmocka-dev libedit2 libedit-dev libbsd0 libbsd-dev libmd0 libmd-dev libtinfo6
    libncurses6 libncurses-dev"

skip() {
    echo "NEON: skipped: $*"
    exit 1
}

case $(uname -m) in aarch64 | arm64) skip "this machine has NEON itself" ;; esac
for command in aarch64-linux-gnu-gcc qemu-aarch64 apt-get dpkg-deb; do
    command -v $command >/dev/null || skip "no $command"
done

libs=$PWD/build/aarch64-libs
[ ! -e "$libs/complete" ] || exit 0
rm -rf "$libs"
mkdir -p "$libs/apt/lists/partial" "$libs/apt/cache/archives/partial" "$libs/debs"
apt() {
    apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$libs/apt" \
        -o Dir::State::status=/dev/null -o Dir::Cache="$libs/apt/cache" \
        -o Debug::NoLocking=1 -o APT::Sandbox::User=root "$@" >>"$libs/log" 2>&1
}
apt update || skip "the lists of packages for arm64 cannot be fetched, see $libs/log"
(cd "$libs/debs" && apt download $packages) || skip "packages cannot be fetched, see $libs/log"
for deb in "$libs"/debs/*.deb; do
    dpkg-deb -x "$deb" "$libs" || skip "$deb cannot be unpacked"
done
rm -rf "$libs/apt" "$libs/debs"
touch "$libs/complete"
