/* likelihood.c - negative log-likelihood of one token, fast enough for tiny models.
 *
 *     nll = log(sum_j exp(x_j - max)) - (x_target - max)
 *
 * A model of 260 K parameters reads a token in some ten microseconds, so 512 calls of expf would
 * cost as much as the model.  The loops here are written in LANES independent lanes, which
 * compilers turn into vectors; exp is a polynomial.  Sums are float within a block, double over
 * blocks.  Test: tests/cli/test_likelihood.c.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/likelihood.h"

#include "base/compiler.h"
#include "base/half.h"

#include <math.h>

enum { LANES = 16, BLOCK = 1024 };

/* The largest logit; NaN when there is one.  A comparison of floats would skip it. */
static float max_of(const float *x, int n) {
    float lane[LANES], best = -INFINITY;
    uint32_t nans[LANES] = {0}, any = 0;
    int i = 0;
    for (int l = 0; l < LANES; l++) lane[l] = -INFINITY;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            const uint32_t u = float_bits(x[i + l]) & 0x7fffffffu;
            lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
            nans[l] |= (uint32_t)(u > 0x7f800000u);
        }
    }
    for (; i < n; i++) {
        best = x[i] > best ? x[i] : best;
        any |= (uint32_t)isnan(x[i]);
    }
    for (int l = 0; l < LANES; l++) {
        best = lane[l] > best ? lane[l] : best;
        any |= nans[l];
    }
    return any ? NAN : best;
}

/* exp(x) for x <= 0, relative error below 1e-7; what is below e^-87 gives about e^-87.
 *
 * x = (k + f) ln 2 with |f| <= 1/2; adding 1.5 * 2^23 rounds to k and leaves it in the low bits.
 * The polynomial is 2^f, its Taylor series. */
WEIR_INLINE float exp_negative(float x) {
    const float magic = 12582912.0f;
    const float t = (x > -87.0f ? x : -87.0f) * 1.44269504f;
    const float z = t + magic;
    const float f = t - (z - magic);
    float p = 1.54035304e-4f;
    p = p * f + 1.33335581e-3f;
    p = p * f + 9.61812911e-3f;
    p = p * f + 5.55041087e-2f;
    p = p * f + 2.40226507e-1f;
    p = p * f + 6.93147181e-1f;
    p = p * f + 1.0f;
    return bits_float(float_bits(p) + (float_bits(z) << 23));
}

static float sum_block(const float *x, int n, float max) {
    float lane[LANES] = {0}, sum = 0;
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) lane[l] += exp_negative(x[i + l] - max);
    }
    for (; i < n; i++) sum += exp_negative(x[i] - max);
    for (int l = 0; l < LANES; l++) sum += lane[l];
    return sum;
}

double likelihood_nll(const float *logits, int vocab, int32_t target) {
    const float max = max_of(logits, vocab);
    if (!isfinite(max)) return (double)NAN;
    double sum = 0;
    for (int i = 0; i < vocab; i += BLOCK) {
        sum += (double)sum_block(logits + i, MIN_OF(BLOCK, vocab - i), max);
    }
    return log(sum) - ((double)logits[target] - (double)max);
}
