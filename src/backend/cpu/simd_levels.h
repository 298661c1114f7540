/* simd_levels.h - tables by level of what the files built once per level export.
 *
 * X_simd.c exports one symbol, X_<level>, in each build; SIMD_TABLES(X) is the initialiser of an
 * array [CPU_N_LEVELS] of pointers to them, NULL for levels this architecture does not have.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/cpu/attend_kernels.h"
#include "backend/cpu/peak.h"
#include "backend/cpu/rows.h"

#if defined(__x86_64__)
    #define SIMD_TABLES(name)                                             \
        {                                                                 \
            [CPU_PORTABLE] = &name##_portable, [CPU_AVX2] = &name##_avx2, \
            [CPU_AVX512] = &name##_avx512,                                \
        }
#elif defined(__aarch64__)
    #define SIMD_TABLES(name) \
        { [CPU_PORTABLE] = &name##_portable, [CPU_NEON] = &name##_neon }
#else
    #define SIMD_TABLES(name) \
        { [CPU_PORTABLE] = &name##_portable }
#endif

extern const row_kernels cpu_rows_portable, cpu_rows_neon, cpu_rows_avx2, cpu_rows_avx512;
extern const attend_kernels cpu_attend_portable, cpu_attend_neon, cpu_attend_avx2,
    cpu_attend_avx512;
extern const peak_kernel cpu_peak_portable, cpu_peak_neon, cpu_peak_avx2, cpu_peak_avx512;
