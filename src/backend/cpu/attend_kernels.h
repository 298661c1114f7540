/* attend_kernels.h - what attention is made of: a few queries, a span of keys, a partial result.
 *
 *   keys of a head:   ... | span | span | span ...      256 positions each, at multiples of 256
 *                            |
 *   queries [n]  ------->  scores [n][256]  -> softmax of the span ->  most, sum, acc [n]
 *
 * A kernel call computes, for n queries of one KV head against one span of its keys,
 *
 *   most = max_j s_j     sum = sum_j 2^(s_j - most)     acc = sum_j 2^(s_j - most) v_j
 *
 * over the keys each query sees; scores are in octaves (log2 e is in the queries).  Spans are
 * merged one after the other, oldest first, whoever computed them; they lie at fixed stream
 * positions, so neither threads nor neighbours change a bit of a row.
 *
 * Two kernels do this: `few` reads keys and values as they lie (bound by memory: decode), `many`
 * turns tiles of 64 keys into float matrices and multiplies (bound by arithmetic: prefill).
 *
 * attend_simd.c is compiled once for each level.  Test: tests/backend/test_attend.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/kv.h"

#include <stddef.h>

enum {
    ATTEND_SPAN = 256,   /* keys of a kernel call                                   */
    ATTEND_TILE = 64,    /* keys of a tile of `many`                                */
    ATTEND_QUERIES = 96, /* of a kernel call, at most                               */
    ATTEND_FEW = 8,      /* queries for which `few` is the faster                   */
    ATTEND_STRIDE = 272, /* floats of a row of scores: a span, and room to overshoot */
};

typedef struct attend_keys { /* those of a span that any of the queries sees */
    weir_type type;
    int head_dim;
    size_t row_bytes;
    int first, last; /* key c of the span, first <= c < last <= ATTEND_SPAN */
    /* The keys lie in one or two pieces (the ring wraps): piece 0 is [first, wrap), piece 1 is
     * [wrap, last).  Pointers are to a piece's first row; scales are INT8's and FP8's, or NULL. */
    int wrap;
    const char *k[2], *v[2];
    const float *k_scale[2], *v_scale[2];
} attend_keys;

typedef struct attend_queries {
    int n;                /* 1 .. ATTEND_QUERIES                                                  */
    int stride;           /* of q and acc: head_dim rounded up to 16 floats                       */
    const float *q;       /* [n][stride] rotated, times scale * log2 e; zeros behind  */
    const int *from, *to; /* [n] keys of the span it sees: from <= c < to; may be none */
    const float *slope;   /* [n] ALiBi, times log2 e; or NULL                         */
    const float *distance;   /* [n] from the query back to key 0; used with slope        */
    float *most, *sum, *acc; /* [n], [n], [n][stride]: overwritten.  Nothing seen: -1e30, 0, 0 */
} attend_queries;

typedef struct attend_kernels { /* of one level */
    /* scratch: attend_scratch(stride) floats, 64-byte aligned */
    void (*few)(const attend_queries *q, const attend_keys *k, float *scratch);
    void (*many)(const attend_queries *q, const attend_keys *k, float *scratch);
    /* Adds partial results b of n queries into a. */
    void (*merge)(const attend_queries *a, const attend_queries *b);
    /* y = x of one head, rotated, times factor; pairs 0 only multiplies. */
    void (*rotate)(const rope_table *rope, float *y, const float *x, const float *cosines,
                   const float *sines, float factor, int head_dim);
    /* Stores a row as kv_put_* does; scale is INT8's and FP8's. */
    void (*store)(weir_type type, void *row, const float *x, int n, float *scale);
    /* y = x * factor */
    void (*scale)(float *y, const float *x, float factor, int n);
} attend_kernels;

static inline int attend_stride(int head_dim) {
    return (head_dim + 15) & ~15;
}

/* Floats of scratch: scores, and a tile of keys and one of values as floats. */
static inline size_t attend_scratch(int stride) {
    return (size_t)ATTEND_QUERIES * ATTEND_STRIDE + 2 * (size_t)ATTEND_TILE * (size_t)stride;
}

/* The kernels of a level that runs on this processor. */
const attend_kernels *cpu_attend_kernels(int level);
