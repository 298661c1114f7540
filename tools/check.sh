#!/bin/sh
# check.sh - builds the project in every way it is tested and runs all tests at once.
#
#     tools/check.sh [CTEST-OPTION...]
#
#     release   as it is used
#     asan      with assertions, the address and the undefined-behaviour sanitizers
#     neon      for 64-bit ARM, under qemu: back ends and engine; skipped, saying so, where the
#               cross compiler or Debian's packages for arm64 cannot be had
#
# The summary of ctest comes last; exit 0 when every test passed.
#
# SPDX-License-Identifier: MIT
cd "$(dirname "$0")/.." || exit 1
builds="release asan"
! tools/aarch64.sh || builds="$builds neon"
for build in $builds; do
    cmake --preset $build -G Ninja >build/$build.log || { cat build/$build.log; exit 1; }
    echo "check: building $build"
    cmake --build build/$build >build/$build.log || { cat build/$build.log; exit 1; }
done
echo "subdirs($builds)" >build/CTestTestfile.cmake
exec ctest --test-dir build -j"$(nproc)" --output-on-failure "$@"
