/* rows.c - what happens to a row at a time: norms, activations, additions.
 *
 *   RMSNorm    y = x / sqrt(mean(x^2) + eps) * w
 *   LayerNorm  y = (x - mean(x)) / sqrt(var(x) + eps) * w [+ b]
 *
 * CPU twin: cpu/rows.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"

#include <math.h>
#include <string.h>

void ref_norm_row(float *y, const float *x, const plan_norm *m, int n) {
    for (int g = 0; g < n; g += m->group) {
        double mean = 0, squares = 0;
        for (int i = 0; m->is_layer && i < m->group; i++) mean += (double)x[g + i];
        mean /= m->group;
        for (int i = 0; i < m->group; i++) {
            const double d = (double)x[g + i] - mean;
            squares += d * d;
        }
        const double scale = 1 / sqrt(squares / m->group + (double)m->eps);
        for (int i = 0; i < m->group; i++) {
            double v = ((double)x[g + i] - mean) * scale * (double)m->weight[i];
            if (m->bias) v += (double)m->bias[i];
            y[g + i] = (float)v;
        }
    }
}

float ref_act(nn_act act, float x) {
    const double v = (double)x;
    switch (act) {
    case NN_SILU: return (float)(v / (1 + exp(-v)));
    case NN_GELU: return (float)(0.5 * v * (1 + erf(v * 0.70710678118654752440)));
    case NN_GELU_TANH:
        return (float)(0.5 * v * (1 + tanh(0.79788456080286535588 * (v + 0.044715 * v * v * v))));
    case NN_RELU: return x > 0 ? x : 0;
    case NN_N_ACTS: break;
    }
    return x;
}

void ref_normalize(host *h, const plan_op *op, int ith, int nth) {
    (void)ith, (void)nth;
    const int n = h->plan->tensors[op->out].features;
    for (int r = 0; r < host_rows(h, op->out); r++) {
        ref_norm_row(host_row(h, op->out, r), host_row(h, op->in[0], r), &op->norm, n);
    }
}

void ref_gate(host *h, const plan_op *op, int ith, int nth) {
    (void)ith, (void)nth;
    for (int r = 0; r < host_rows(h, op->out); r++) {
        const float *g = host_row(h, op->in[0], r), *u = host_row(h, op->in[1], r);
        float *y = host_row(h, op->out, r);
        for (int i = 0; i < h->plan->tensors[op->out].features; i++) {
            y[i] = ref_act(op->act, g[i]) * u[i];
        }
    }
}

void ref_activate(host *h, const plan_op *op, int ith, int nth) {
    (void)ith, (void)nth;
    for (int r = 0; r < host_rows(h, op->out); r++) {
        const float *x = host_row(h, op->in[0], r);
        float *y = host_row(h, op->out, r);
        for (int i = 0; i < h->plan->tensors[op->out].features; i++) y[i] = ref_act(op->act, x[i]);
    }
}

void ref_clamp(host *h, const plan_op *op, int ith, int nth) {
    (void)ith, (void)nth;
    for (int r = 0; r < host_rows(h, op->out); r++) {
        const float *x = host_row(h, op->in[0], r);
        float *y = host_row(h, op->out, r);
        for (int i = 0; i < h->plan->tensors[op->out].features; i++) {
            y[i] = fminf(fmaxf(x[i], -op->bound), op->bound);
        }
    }
}

void ref_add(host *h, const plan_op *op, int ith, int nth) {
    (void)ith, (void)nth;
    for (int r = 0; r < host_rows(h, op->out); r++) {
        const float *a = host_row(h, op->in[0], r), *b = host_row(h, op->in[1], r);
        float *y = host_row(h, op->out, r);
        for (int i = 0; i < h->plan->tensors[op->out].features; i++) y[i] = a[i] + b[i];
    }
}

void ref_wanted(host *h, const plan_op *op, int ith, int nth) {
    (void)ith, (void)nth;
    const size_t bytes = (size_t)h->plan->tensors[op->out].features * sizeof(float);
    for (int i = 0; i < h->batch->n_wanted; i++) {
        memcpy(host_row(h, op->out, i), host_row(h, op->in[0], h->batch->wanted[i]), bytes);
    }
}
