/* draw.h - a set of candidate tokens that filters make smaller until one is drawn.
 *
 *     draw_load(d, logits)              every token is a candidate
 *     draw_weigh(d, best, 0.8f)         temperature: logits become probabilities
 *     draw_keep_best(d, 40)             top-k
 *     draw_keep_typical(d, 0.9f)        typical
 *     draw_keep_mass(d, 0.95f)          top-p
 *     draw_keep_likely(d, 0.05f)        min-p
 *     id = draw_token(d, &rng)
 *
 * Probabilities are integers.  A candidate's logit becomes its distance below the best one in
 * octaves (factors of two), a 28-bit fixed-point number, and its weight is 2^(42 - octaves) as a
 * 64-bit integer.  Integer sums are exact in any order, so which tokens a filter keeps and which
 * one is drawn are the same on every machine, whatever its libm, vector width or use of fused
 * multiply-add.  22 fractional bits make a weight exact to 2^-22, much as a float32 softmax is;
 * tokens 2^43 times less likely than the best are never drawn.
 *
 * Of candidates that a filter cannot tell apart, the lower id is better.  At least one is kept.
 *
 * No filter sorts.  Each is a cut, "the best candidates that together have this much", and a
 * radix select finds the cut in at most three passes.
 *
 * Test: tests/engine/test_draw.c, test_sampler.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/octave.h"
#include "base/rng.h"

#include <stdbool.h>

enum { DRAW_MAX_VOCAB = 1 << 20 };

typedef struct draw {
    int vocab, n;                   /* n candidates are left                                     */
    const float *logits;            /* [vocab] by id: the caller's, or copy                      */
    int32_t *ids;                   /* [n] of [vocab] ascending; not written while n is vocab    */
    uint32_t *keys;                 /* [n] of [vocab] small is good: octaves below the best      */
    float *copy;                    /* [vocab]                                                   */
    uint64_t mass[OCTAVE_DIGITS];   /* of the candidates with each value of a digit of their key */
    uint32_t coarse[OCTAVE_DIGITS]; /* 2^(31 - i / 2^11): the high half of a fraction ...        */
    uint32_t fine[OCTAVE_DIGITS];   /* 2^(31 - i / 2^22): ... and the low half                   */
} draw;

bool draw_init(draw *d, int vocab); /* false: out of memory */
void draw_clear(draw *d);           /* accepts an all-zero one */

/* Makes every token a candidate.  The logits are borrowed until the token is drawn; NaN counts as
 * -infinity, +infinity must not occur. */
void draw_load(draw *d, const float *logits);

/* The same with a copy, in which +infinity has become the largest float and draw_set may change
 * single logits before the first filter. */
void draw_load_copy(draw *d, const float *logits);
void draw_set(draw *d, int32_t id, double logit);

/* The first of the largest logits, -1 when none is above -infinity.  NaNs are skipped. */
int32_t draw_argmax(const float *logits, int n);

/* best is the largest logit; 0 < temperature <= 100. */
void draw_weigh(draw *d, float best, float temperature);

void draw_keep_best(draw *d, int k);         /* the k likeliest                           */
void draw_keep_typical(draw *d, float p);    /* closest to the entropy, with mass p       */
void draw_keep_mass(draw *d, float p);       /* the likeliest, with mass p                */
void draw_keep_likely(draw *d, float p);     /* at least p times the likeliest            */
int32_t draw_token(draw *d, rng *generator); /* takes one number from the generator       */
