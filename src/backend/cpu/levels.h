/* levels.h - the quantised formats of pack.h as constants for the kernels.
 *
 * Kernels are written once over `levels` and compiled for every format: LEVELS_MAP names them all,
 * so that a table and its functions cannot fall out of step.  Positions are bytes in a block.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

typedef struct levels {
    int bits;        /* of a level: 8 or 4                              */
    int top;         /* largest level                                   */
    int per_block;   /* groups in a block                               */
    int block_bytes; /* of all 16 rows                                  */
    int first;       /* where the first group's levels are              */
    bool has_min;    /* Q8M, Q4M, K4, K5: something is added per group  */
    bool is_k;       /* scales are d times a small integer              */
    bool has_halves; /* K6: 16 weights per scale                        */
} levels;

enum {
    LEVELS_QUADS = 8,  /* of a group                                            */
    LEVELS_UNIT = 64,  /* bytes of a quad (of two, as nibbles) of 16 rows       */
    LEVELS_D8 = 1024,  /* d [2][16] f16 of a Q8 block; m [2][16] is 64 bytes on */
    LEVELS_D4 = 512,   /* ... of a Q4 block                                     */
    LEVELS_DMIN = 32,  /* dmin [16] f16 of a K block; d is at 0                 */
    LEVELS_SC = 64,    /* scales [8][16], K6: [16][16]                          */
    LEVELS_MN = 192,   /* minima [8][16]                                        */
    LEVELS_HEAD = 320, /* levels                                                */
};

/* X(FORMAT, name, initialiser of levels) */
#define LEVELS_MAP(X)                                                                           \
    X(Q8, q8, .bits = 8, .top = 255, .per_block = 2, .block_bytes = LEVELS_D8 + 64)             \
    X(Q8M, q8m, .bits = 8, .top = 31, .per_block = 2, .block_bytes = LEVELS_D8 + 128,           \
      .has_min = true)                                                                          \
    X(Q4, q4, .bits = 4, .top = 15, .per_block = 2, .block_bytes = LEVELS_D4 + 64)              \
    X(Q4M, q4m, .bits = 4, .top = 15, .per_block = 2, .block_bytes = LEVELS_D4 + 128,           \
      .has_min = true)                                                                          \
    X(K4, k4, .bits = 4, .top = 15, .per_block = 8, .block_bytes = LEVELS_HEAD + 4 * LEVELS_D4, \
      .first = LEVELS_HEAD, .has_min = true, .is_k = true)                                      \
    X(K5, k5, .bits = 8, .top = 31, .per_block = 8, .block_bytes = LEVELS_HEAD + 4 * LEVELS_D8, \
      .first = LEVELS_HEAD, .has_min = true, .is_k = true)                                      \
    X(K6, k6, .bits = 8, .top = 63, .per_block = 8, .block_bytes = LEVELS_HEAD + 4 * LEVELS_D8, \
      .first = LEVELS_HEAD, .is_k = true, .has_halves = true)
