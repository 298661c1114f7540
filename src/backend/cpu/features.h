/* features.h - what the processor can do, asked once, and the levels kernels are written for.
 *
 *   level      needs                        files           beside it, when the processor has it
 *   portable   C17                          *_portable.c
 *   neon       aarch64 with dot products    *_neon.c
 *   avx2       AVX2, FMA, F16C              *_avx2.c
 *   avx512     AVX-512 F, BW, VL, DQ        *_avx512.c      *_avx512_vnni.c, *_avx512_bf16.c,
 * *_amx.c
 *
 * A kernel a level lacks is taken, by table, from the next lower one that runs here.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

typedef enum cpu_level { CPU_PORTABLE, CPU_NEON, CPU_AVX2, CPU_AVX512, CPU_N_LEVELS } cpu_level;

typedef struct cpu_features {
    cpu_level level;
    bool vnni, bf16;  /* AVX-512 only: integer dot products, bfloat16 dot products */
    bool amx;         /* with both of them: the tile unit, which the system lets this process use */
    const char *text; /* "avx512 vnni bf16 amx" */
} cpu_features;

/* The best level of this processor.  Cheap: no trap, no system call on x86. */
cpu_level cpu_level_best(void);

bool cpu_level_runs(cpu_level level); /* on this processor */

/* A level by name, "avx512", "avx2", "neon", "portable"; NULL is the best.  -1: no such name, or
 * it does not run here. */
int cpu_level_find(const char *name);

/* Features of this processor as seen by `level`, which must run here.  Asks the system to let this
 * process use the tile unit, where there is one. */
cpu_features cpu_features_of(cpu_level level);
