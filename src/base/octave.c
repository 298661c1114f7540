/* octave.c - the tables of octave.h, by square roots and products that IEEE 754 rounds in one way.
 *
 * SPDX-License-Identifier: MIT */
#include "base/octave.h"

#include <math.h>

double octave_scale(float temperature) {
    const double log2_e = 1.4426950408889634;
    return log2_e / (double)temperature * (1 << OCTAVE_FRACTION_BITS);
}

/* table[i] = 2^(31 - i / 2^places).  Each set bit of i is a factor, 2^(-1 / 2^place), made by as
 * many square roots as its place behind the binary point. */
static void fill(uint32_t *table, int places) {
    double factor[OCTAVE_DIGIT_BITS]; /* of bit 0, 1, ... */
    double root = 0.5;
    for (int place = 1; place <= places; place++) {
        root = sqrt(root);
        if (places - place < OCTAVE_DIGIT_BITS) factor[places - place] = root;
    }
    for (int i = 0; i < OCTAVE_DIGITS; i++) {
        double x = 0x1p31;
        for (int bit = 0; bit < OCTAVE_DIGIT_BITS; bit++) {
            if (i >> bit & 1) x *= factor[bit];
        }
        table[i] = (uint32_t)x;
    }
}

void octave_tables(uint32_t coarse[OCTAVE_DIGITS], uint32_t fine[OCTAVE_DIGITS]) {
    fill(coarse, OCTAVE_DIGIT_BITS);
    fill(fine, OCTAVE_FRACTION_BITS);
}
