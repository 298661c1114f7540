/* rope.h - rotary phases that never lose precision.
 *
 * A frequency is kept as a 64-bit fixed-point fraction of a turn per token.  The phase of stream
 * position t is t * f mod 2^64 in integer arithmetic, exact for 2^64 tokens; only its sine and
 * cosine are floats.  Differences of phases are therefore exact, and only differences reach the
 * scores.  docs/streaming.md, section 3.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "weir/nn.h"

enum { ROPE_MAX_PAIRS = 256 };

typedef struct rope_table {
    int pairs; /* dims / 2; 0: nothing is rotated            */
    bool interleaved;
    float magnitude;                /* cos and sin are scaled by this (YaRN)      */
    uint64_t turns[ROPE_MAX_PAIRS]; /* per token, in 2^-64 turns                  */
} rope_table;

/* False when dims is odd, out of bounds, or a scaling has parameters it cannot have. */
bool rope_make(rope_table *out, const nn_rope *rope);

/* cos and sin, [pairs], of position t, times the magnitude. */
void rope_phases(const rope_table *r, uint64_t t, float *cos_out, float *sin_out);

/* Rotates one head in place by precomputed cosines and sines. */
void rope_rotate(const rope_table *r, float *x, const float *cos_in, const float *sin_in);
