/* rows_simd.c - norms, activations and sums of rows, compiled once for each level (see simd.h).
 *
 *   RMSNorm    y = x / sqrt(mean(x^2) + eps) * w
 *   LayerNorm  y = (x - mean(x)) / sqrt(var(x) + eps) * w [+ b]
 *
 * A sum runs in 4 x VF_WIDTH lanes, added up in a fixed tree at the end: short chains keep the
 * rounding error small, and the order does not depend on anything but n.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/rows.h"

#include "backend/cpu/simd_levels.h"
#include "backend/cpu/vmath.h"

#include <math.h>

/* Sum of (x - mean), or of its square, over n floats. */
WEIR_INLINE float sum_of(const float *x, int n, float mean, bool square) {
    const vf centre = vf_all(mean);
    vf sums[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int i = 0;
    for (; i + 4 * VF_WIDTH <= n; i += 4 * VF_WIDTH) {
        for (int k = 0; k < 4; k++) {
            const vf d = vf_sub(vf_load(x + i + k * VF_WIDTH), centre);
            sums[k] = square ? vf_fma(d, d, sums[k]) : vf_add(sums[k], d);
        }
    }
    for (; i < n; i += VF_WIDTH) {
        const int part = MIN_OF(n - i, VF_WIDTH);
        vf d = vf_sub(part < VF_WIDTH ? vf_load_part(x + i, part) : vf_load(x + i), centre);
        d = vf_pick_less(vf_iota(), vf_all((float)part), d, vf_zero());
        sums[0] = square ? vf_fma(d, d, sums[0]) : vf_add(sums[0], d);
    }
    return vf_sum(vf_add(vf_add(sums[0], sums[1]), vf_add(sums[2], sums[3])));
}

/* One group. */
static void norm_group(float *y, const float *x, const plan_norm *m) {
    const int n = m->group;
    const float mean = m->is_layer ? sum_of(x, n, 0, false) / (float)n : 0;
    const float squares = sum_of(x, n, mean, true) / (float)n;
    const vf centre = vf_all(mean), scale = vf_all(1 / sqrtf(squares + m->eps));
    int i = 0;
    for (; i + VF_WIDTH <= n; i += VF_WIDTH) {
        const vf d = vf_mul(vf_sub(vf_load(x + i), centre), scale);
        const vf b = m->bias ? vf_load(m->bias + i) : vf_zero();
        vf_store(y + i, vf_fma(d, vf_load(m->weight + i), b));
    }
    if (i < n) {
        const vf d = vf_mul(vf_sub(vf_load_part(x + i, n - i), centre), scale);
        const vf b = m->bias ? vf_load_part(m->bias + i, n - i) : vf_zero();
        vf_store_part(y + i, vf_fma(d, vf_load_part(m->weight + i, n - i), b), n - i);
    }
}

static void norm(float *y, const float *x, const plan_norm *m, int n) {
    for (int g = 0; g < n; g += m->group) norm_group(y + g, x + g, m);
}

/* act is a constant where this is used, so the switch vanishes. */
WEIR_INLINE vf act_of(nn_act act, vf x) {
    switch (act) {
    case NN_SILU: return vf_mul(x, vm_sigmoid(x));
    case NN_GELU: return vf_mul(x, vm_phi(x));
    case NN_GELU_TANH: { /* (1 + tanh u) / 2 = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3) */
        const vf by = vf_fma(vf_mul(x, x), vf_all(0.0713548163f), vf_all(1.59576912f));
        return vf_mul(x, vm_sigmoid(vf_mul(x, by)));
    }
    case NN_RELU: return vf_max(vf_zero(), x);
    case NN_N_ACTS: break;
    }
    return x;
}

/* y = act(x) [* u] */
WEIR_INLINE void map(nn_act act, float *y, const float *x, const float *u, int n) {
    int i = 0;
    for (; i + VF_WIDTH <= n; i += VF_WIDTH) {
        const vf a = act_of(act, vf_load(x + i));
        vf_store(y + i, u ? vf_mul(a, vf_load(u + i)) : a);
    }
    if (i < n) {
        const vf a = act_of(act, vf_load_part(x + i, n - i));
        vf_store_part(y + i, u ? vf_mul(a, vf_load_part(u + i, n - i)) : a, n - i);
    }
}

static void gate(nn_act act, float *y, const float *g, const float *u, int n) {
    switch (act) {
    case NN_SILU: map(NN_SILU, y, g, u, n); break;
    case NN_GELU: map(NN_GELU, y, g, u, n); break;
    case NN_GELU_TANH: map(NN_GELU_TANH, y, g, u, n); break;
    case NN_RELU: map(NN_RELU, y, g, u, n); break;
    case NN_N_ACTS: break;
    }
}

static void activate(nn_act act, float *y, const float *x, int n) {
    gate(act, y, x, NULL, n);
}

static void add(float *y, const float *a, const float *b, int n) {
    for (int i = 0; i < n; i++) y[i] = a[i] + b[i];
}

static void clamp(float bound, float *y, const float *x, int n) {
    const vf lo = vf_all(-bound), hi = vf_all(bound);
    int i = 0;
    for (; i + VF_WIDTH <= n; i += VF_WIDTH) {
        vf_store(y + i, vf_min(hi, vf_max(lo, vf_load(x + i))));
    }
    if (i < n) {
        vf_store_part(y + i, vf_min(hi, vf_max(lo, vf_load_part(x + i, n - i))), n - i);
    }
}

const row_kernels
    SIMD_NAME(cpu_rows) = {.norm = norm, .act = activate, .gate = gate, .add = add, .clamp = clamp};
