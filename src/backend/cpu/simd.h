/* simd.h - vectors of floats, one spelling for every instruction set.
 *
 * A source that includes this is compiled once for each level, with SIMD_LEVEL naming it; vf is
 * the widest vector of floats the level has.  The names below are the whole vocabulary, and every
 * simd_<level>.h defines all of them:
 *
 *   VF_WIDTH, VF_REGISTERS            floats in a vf: 16, 8, 4, 4; how many vf fit the registers
 *   vf_zero() vf_all(x) vf_iota()     0 0 0 ..., x x x ..., 0 1 2 ...
 *   vf_load(p) vf_store(p, x)         any alignment
 *   vf_load_part(p, n)                the first n < VF_WIDTH, zeros behind; vf_store_part(p, x, n)
 *   vf_add vf_sub vf_mul vf_div       lane by lane
 *   vf_fma(a, b, c) vf_fnma(a, b, c)  c + a b, c - a b, rounded once (portable: perhaps twice)
 *   vf_max(a, b) vf_min(a, b)         b where one is NaN (neon: NaN)
 *   vf_abs(x) vf_round(x)             magnitude; to the nearest integer, even when tied
 *   vf_scale(x, n)                    x * 2^n for integral n in [-300, 300], denormals and all
 *   vf_pick_less(a, b, x, y)          x where a < b, else y
 *   vf_sum(x) vf_most(x)              over the lanes, to a float, in a fixed order
 *   vf_sums(x)                        x[VF_WIDTH] -> lane i is the sum of x[i]; the same order for
 *                                     all lanes; x is destroyed
 *   vf_transpose(x)                   x[VF_WIDTH], in place
 *   vf_load_f16 vf_load_bf16 vf_load_i8 (p), their _part (p, n)
 *   vf_store_f16 vf_store_bf16 vf_store_i8 (p, x), rounded to nearest even
 *
 * Test: tests/backend/test_rows.c, test_attend.c, at every level the processor runs.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/compiler.h"
#include "base/half.h"

#include <stddef.h>

#if defined(SIMD_AVX512)
    #include "backend/cpu/simd_avx512.h"
#elif defined(SIMD_AVX2)
    #include "backend/cpu/simd_avx2.h"
#elif defined(SIMD_NEON)
    #include "backend/cpu/simd_neon.h"
#else
    #include "backend/cpu/simd_portable.h"
#endif

/* SIMD_NAME(rows) is rows_avx512 in the AVX-512 build of a source. */
#define SIMD_JOIN_(name, level) name##_##level
#define SIMD_JOIN(name, level)  SIMD_JOIN_(name, level)
#define SIMD_NAME(name)         SIMD_JOIN(name, SIMD_LEVEL)
