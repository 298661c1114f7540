/* project.c - y = [residual +] pre(x) W^T [+ b], and rows of embeddings.
 *
 *   x [n, cols] f32   W [rows, cols] as stored   y [n, rows] f32
 *
 * Sums are double, in order of the columns.  CPU twin: cpu/project.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"

#include <string.h>

void ref_lookup(host *h, const plan_op *op, int ith, int nth) {
    (void)ith, (void)nth;
    const plan_matrix *m = &h->plan->matrices[op->matrix];
    for (int r = 0; r < h->batch->n; r++) {
        plan_matrix_row(m, h->batch->rows[r].token, host_row(h, op->out, r));
    }
}

static void prologue(const host *h, const plan_op *op, int r, float *x, int n) {
    const float *a = host_row(h, op->in[0], r);
    switch (op->prologue) {
    case PLAN_PLAIN: memcpy(x, a, (size_t)n * sizeof *x); break;
    case PLAN_NORM: ref_norm_row(x, a, &op->norm, n); break;
    case PLAN_GATE: {
        const float *up = host_row(h, op->in[1], r);
        for (int i = 0; i < n; i++) x[i] = ref_act(op->act, a[i]) * up[i];
        break;
    }
    case PLAN_ACT:
        for (int i = 0; i < n; i++) x[i] = ref_act(op->act, a[i]);
        break;
    }
}

void ref_project(host *h, const plan_op *op, int ith, int nth) {
    (void)ith, (void)nth;
    const plan_matrix *m = &h->plan->matrices[op->matrix];
    float *w = (float *)(void *)h->workspace, *x = w + m->cols;
    for (int r = 0; r < host_rows(h, op->out); r++) {
        float *y = host_row(h, op->out, r);
        const float *residual = op->residual >= 0 ? host_row(h, op->residual, r) : NULL;
        prologue(h, op, r, x, m->cols);
        for (int i = 0; i < m->rows; i++) {
            double sum = m->bias ? (double)m->bias[i] : 0;
            plan_matrix_row(m, i, w);
            for (int k = 0; k < m->cols; k++) sum += (double)w[k] * (double)x[k];
            y[i] = (float)(residual ? sum + (double)residual[i] : sum);
        }
    }
}
