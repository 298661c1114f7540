/* rows.h - what happens to a row at a time on the CPU: norms, activations, additions.
 *
 *   norm   RMSNorm or LayerNorm, by groups of features     gate   y = act(g) * u
 *   act    SiLU, GELU (exact or by tanh), ReLU             add, clamp
 *
 * One source, rows_simd.c, is compiled for every level; sums run in a fixed order of lanes, so a
 * row gives the same bits whatever stands beside it.  Activations are within 1e-6 of their exact
 * values, relative.  Twin: ref/rows.c.  Test: tests/backend/test_rows.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/cpu/features.h"
#include "backend/host.h"

typedef struct row_kernels { /* of one level; y may be any of the inputs */
    void (*norm)(float *y, const float *x, const plan_norm *m, int n);
    void (*act)(nn_act act, float *y, const float *x, int n);
    void (*gate)(nn_act act, float *y, const float *g, const float *u, int n);
    void (*add)(float *y, const float *a, const float *b, int n);
    void (*clamp)(float bound, float *y, const float *x, int n); /* NaN stays NaN */
} row_kernels;

/* The kernels of a level that runs on this processor. */
const row_kernels *cpu_rows(cpu_level level);

/* The level a back end was opened at.  Implemented in cpu.c. */
cpu_level cpu_host_level(const host *h);

/* y = norm(x) over n features, a multiple of m->group. */
static inline void cpu_norm_row(cpu_level level, float *y, const float *x, const plan_norm *m,
                                int n) {
    cpu_rows(level)->norm(y, x, m, n);
}

static inline void cpu_act_row(cpu_level level, nn_act act, float *y, const float *x, int n) {
    cpu_rows(level)->act(act, y, x, n);
}

static inline void cpu_gate_row(cpu_level level, nn_act act, float *y, const float *g,
                                const float *u, int n) {
    cpu_rows(level)->gate(act, y, g, u, n);
}

/* The operations of a plan that only touch rows. */
void cpu_normalize(host *h, const plan_op *op, int ith, int nth);
void cpu_gate(host *h, const plan_op *op, int ith, int nth);
void cpu_activate(host *h, const plan_op *op, int ith, int nth);
void cpu_clamp(host *h, const plan_op *op, int ith, int nth);
void cpu_add(host *h, const plan_op *op, int ith, int nth);
void cpu_wanted(host *h, const plan_op *op, int ith, int nth);
