/* octave.h - probabilities as integers: a distance in octaves, and the weight it stands for.
 *
 *     o = | whole : 6 | high : 11 | low : 11 |     weight = coarse[high] * fine[low] >> 20 + whole
 *
 * A distance below the likeliest candidate is a 28-bit fixed-point number of octaves (factors of
 * two), a weight is 2^(42 - octaves).  Sums of integers are exact in any order, so whoever draws
 * from them, engine/draw.c on the host or kernels/draw.cu on a GPU, draws the same.
 *
 * Test: tests/engine/test_draw.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

enum {
    OCTAVE_DIGIT_BITS = 11,
    OCTAVE_DIGITS = 1 << OCTAVE_DIGIT_BITS,
    OCTAVE_FRACTION_BITS = 2 * OCTAVE_DIGIT_BITS,
    OCTAVE_BITS = OCTAVE_FRACTION_BITS + 6,
    OCTAVE_MAX_WHOLE = 43, /* weighs nothing */
    OCTAVE_WEIGHT_BITS = 42
};

/* Octaves of 2^-22 for one unit of a logit at this temperature. */
double octave_scale(float temperature);

/* coarse[i] = 2^(31 - i / 2^11), fine[i] = 2^(31 - i / 2^22), the same bits on every machine. */
void octave_tables(uint32_t coarse[OCTAVE_DIGITS], uint32_t fine[OCTAVE_DIGITS]);
