/* peak_simd.c - multiply-adds that touch no memory, compiled once for each level (see simd.h).
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/simd_levels.h"

#include "backend/cpu/simd.h"

enum { CHAINS = VF_REGISTERS * 3 / 4 }; /* enough to hide the latency of any unit there is */

static float multiply(long rounds) {
    vf x[CHAINS];
    const vf a = vf_all(0.999f), b = vf_all(0.001f);
    WEIR_UNROLL for (int i = 0; i < CHAINS; i++) x[i] = vf_all((float)i);
    for (long r = 0; r < rounds; r++) {
        WEIR_UNROLL for (int i = 0; i < CHAINS; i++) x[i] = vf_fma(x[i], a, b);
    }
    vf sum = vf_zero();
    WEIR_UNROLL for (int i = 0; i < CHAINS; i++) sum = vf_add(sum, x[i]);
    return vf_sum(sum);
}

const peak_kernel SIMD_NAME(cpu_peak) = {.multiply = multiply, .flops = CHAINS * VF_WIDTH * 2};
