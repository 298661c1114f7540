/* quant_encode.c - floats to Q8_0 and Q4_0 blocks, rounding as GGML's reference does.
 *
 *   Q8_0  d = max|x| / 127       q = round(x / d), halves away from zero
 *   Q4_0  d = x* / -8, x* the first x of largest magnitude, with its sign; q = floor(x / d + 8.5),
 *         at most 15.  x* itself becomes level 0 or, seen from 8, exactly -8 d.
 *
 * x / d is computed as x * (1 / d), from the d that is not yet rounded to f16, as the reference
 * does: the blocks are bit for bit those of llama.cpp's quantiser.  Values that are not finite
 * give some block, never undefined behaviour.  Layouts: quant.c.  Test: tests/format/test_quant.c.
 *
 * SPDX-License-Identifier: MIT */
#include "base/half.h"
#include "format/quant.h"

#include <assert.h>
#include <math.h>

enum { BLOCK = 32, Q8_BYTES = 34, Q4_BYTES = 18 };

static void store_f16(uint8_t *p, float x) {
    const uint16_t h = float_to_f16(x);
    memcpy(p, &h, 2);
}

/* The first of 32 values whose magnitude no other exceeds. */
static float extreme(const float *x) {
    float best = 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        if (fabsf(x[i]) > fabsf(best)) best = x[i];
    }
    return best;
}

/* To an integer in [low, high]; not-a-number gives low. */
static int clamp_level(float x, int low, int high) {
    if (!(x > (float)low)) return low;
    return x < (float)high ? (int)x : high;
}

void quantize_row_q8_0(const float *x, void *row, int64_t n) {
    assert(n % BLOCK == 0);
    uint8_t *p = row;
    for (int64_t at = 0; at < n; at += BLOCK, p += Q8_BYTES) {
        const float d = fabsf(extreme(x + at)) / 127.0f;
        const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
        store_f16(p, d);
        for (int i = 0; i < BLOCK; i++) {
            p[2 + i] = (uint8_t)clamp_level(roundf(x[at + i] * inverse), -127, 127);
        }
    }
}

void quantize_row_q4_0(const float *x, void *row, int64_t n) {
    assert(n % BLOCK == 0);
    uint8_t *p = row;
    for (int64_t at = 0; at < n; at += BLOCK, p += Q4_BYTES) {
        const float d = extreme(x + at) / -8.0f;
        const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
        store_f16(p, d);
        for (int i = 0; i < BLOCK / 2; i++) {
            const int low = clamp_level(x[at + i] * inverse + 8.5f, 0, 15);
            const int high = clamp_level(x[at + i + BLOCK / 2] * inverse + 8.5f, 0, 15);
            p[2 + i] = (uint8_t)(low | high << 4);
        }
    }
}
