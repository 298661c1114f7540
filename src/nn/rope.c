/* rope.c - frequencies as fixed-point turns, phases in integer arithmetic.  rope.h has the idea.
 *
 * Scalings: linear (Chen et al. 2023, arXiv 2306.15595) divides every frequency; llama3 divides
 * the low ones, with a smooth step between; YaRN (Peng et al. 2023, arXiv 2309.00071) blends
 * interpolation and extrapolation by how often a pair turns within the original context, and
 * scales q and k by its attention factor.
 *
 * Test: tests/nn/test_rope.c.
 *
 * SPDX-License-Identifier: MIT */
#include "nn/rope.h"

#include <assert.h>
#include <math.h>

static const double TAU = 6.283185307179586476925286766559;

/* Llama 3: wavelengths beyond original_context / low_freq_factor are divided by factor, those
 * below original_context / high_freq_factor are kept. */
static double scale_llama3(const nn_rope *r, double radians) {
    const double wavelength = TAU / radians;
    const double turns = r->original_context / wavelength;
    if (turns < r->low_freq_factor) return radians / r->factor;
    if (turns > r->high_freq_factor) return radians;
    const double smooth = (turns - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
    return (1 - smooth) * radians / r->factor + smooth * radians;
}

/* The pair index (a real number) that turns `turns` times within the original context. */
static double yarn_pair(const nn_rope *r, double turns) {
    return r->dims * log(r->original_context / (turns * TAU)) / (2 * log(r->theta));
}

static double scale_yarn(const nn_rope *r, int pair, double radians) {
    const double from = yarn_pair(r, r->beta_fast), to = yarn_pair(r, r->beta_slow);
    const double low = fmax(r->exact_ramp ? from : floor(from), 0);
    double high = fmin(r->exact_ramp ? to : ceil(to), r->dims - 1);
    if (high == low) high += 0.001;
    const double ramp = fmin(fmax((pair - low) / (high - low), 0), 1);
    return radians / r->factor * ramp + radians * (1 - ramp);
}

static bool can_be(const nn_rope *r) {
    if (r->dims < 0 || r->dims % 2 || r->dims / 2 > ROPE_MAX_PAIRS) return false;
    if (r->dims == 0) return true;
    if (!(r->theta > 1) || !isfinite(r->theta)) return false;
    if (r->scaling == NN_ROPE_PLAIN) return true;
    if (!(r->factor > 0) || !isfinite(r->factor)) return false;
    if (r->scaling == NN_ROPE_LLAMA3) {
        return r->original_context > 0 && r->high_freq_factor > r->low_freq_factor;
    }
    if (r->scaling == NN_ROPE_YARN) {
        return r->original_context > 0 && r->beta_fast > 0 && r->beta_slow > 0;
    }
    return true;
}

bool rope_make(rope_table *out, const nn_rope *r) {
    *out = (rope_table){0};
    if (!can_be(r)) return false;
    out->pairs = r->dims / 2;
    out->interleaved = r->interleaved;
    out->magnitude =
        r->scaling == NN_ROPE_YARN && r->attention_factor > 0 ? (float)r->attention_factor : 1.0f;
    for (int i = 0; i < out->pairs; i++) {
        double radians = pow(r->theta, -2.0 * i / r->dims);
        switch (r->scaling) {
        case NN_ROPE_PLAIN: break;
        case NN_ROPE_LINEAR: radians /= r->factor; break;
        case NN_ROPE_LLAMA3: radians = scale_llama3(r, radians); break;
        case NN_ROPE_YARN: radians = scale_yarn(r, i, radians); break;
        }
        if (r->divisors) radians /= (double)r->divisors[i];
        if (!(radians > 0) || radians / TAU >= 1) return false;
        out->turns[i] = (uint64_t)ldexp(radians / TAU, 64);
    }
    return true;
}

void rope_phases(const rope_table *r, uint64_t t, float *cos_out, float *sin_out) {
    assert(r->pairs <= ROPE_MAX_PAIRS);
    for (int i = 0; i < r->pairs; i++) {
        const int64_t phase = (int64_t)(t * r->turns[i]); /* mod one turn, in (-1/2, 1/2] of it */
        const double angle = ldexp((double)phase, -64) * TAU;
        cos_out[i] = (float)cos(angle) * r->magnitude;
        sin_out[i] = (float)sin(angle) * r->magnitude;
    }
}

void rope_rotate(const rope_table *r, float *x, const float *cos_in, const float *sin_in) {
    const int pairs = r->pairs;
    for (int i = 0; i < pairs; i++) {
        float *a = r->interleaved ? x + 2 * i : x + i;
        float *b = r->interleaved ? a + 1 : a + pairs;
        const float u = *a, v = *b;
        *a = u * cos_in[i] - v * sin_in[i];
        *b = v * cos_in[i] + u * sin_in[i];
    }
}
