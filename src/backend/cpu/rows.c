/* rows.c - operations of a plan that only touch rows, shared out among the team.
 *
 *   normalize   a unit of work is one group of one row
 *   gate, activate, clamp, add
 *               a unit is 512 columns of one row, so that one long row feeds several threads
 *   wanted      a unit is one row
 *
 * The arithmetic is in rows_simd.c.  Twin: ref/rows.c.  Test: tests/backend/test_rows.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/rows.h"

#include "backend/cpu/simd_levels.h"

#include <assert.h>
#include <string.h>

enum { CHUNK = 512 };

const row_kernels *cpu_rows(cpu_level level) {
    static const row_kernels *const tables[CPU_N_LEVELS] = SIMD_TABLES(cpu_rows);
    return tables[level] ? tables[level] : tables[CPU_PORTABLE];
}

void cpu_normalize(host *h, const plan_op *op, int ith, int nth) {
    const row_kernels *k = cpu_rows(cpu_host_level(h));
    const plan_norm *m = &op->norm;
    const int groups = h->plan->tensors[op->out].features / m->group;
    int from, to;
    assert(h->plan->tensors[op->out].features % m->group == 0);
    host_share(host_rows(h, op->out) * groups, ith, nth, &from, &to);
    for (int i = from; i < to; i++) {
        const int r = i / groups, at = i % groups * m->group;
        k->norm(host_row(h, op->out, r) + at, host_row(h, op->in[0], r) + at, m, m->group);
    }
}

typedef struct piece { /* up to CHUNK columns of a row */
    float *y;
    const float *a, *b; /* b: of the second input, or NULL */
    int n;
} piece;

static int count_pieces(const host *h, const plan_op *op) {
    const int per_row = (h->plan->tensors[op->out].features + CHUNK - 1) / CHUNK;
    return host_rows(h, op->out) * per_row;
}

static piece piece_at(const host *h, const plan_op *op, int i) {
    const int features = h->plan->tensors[op->out].features;
    const int per_row = (features + CHUNK - 1) / CHUNK, r = i / per_row, at = i % per_row * CHUNK;
    return (piece){.y = host_row(h, op->out, r) + at,
                   .a = host_row(h, op->in[0], r) + at,
                   .b = op->n_in > 1 ? host_row(h, op->in[1], r) + at : NULL,
                   .n = MIN_OF(CHUNK, features - at)};
}

void cpu_gate(host *h, const plan_op *op, int ith, int nth) {
    const row_kernels *k = cpu_rows(cpu_host_level(h));
    int from, to;
    host_share(count_pieces(h, op), ith, nth, &from, &to);
    for (int i = from; i < to; i++) {
        const piece p = piece_at(h, op, i);
        k->gate(op->act, p.y, p.a, p.b, p.n);
    }
}

void cpu_activate(host *h, const plan_op *op, int ith, int nth) {
    const row_kernels *k = cpu_rows(cpu_host_level(h));
    int from, to;
    host_share(count_pieces(h, op), ith, nth, &from, &to);
    for (int i = from; i < to; i++) {
        const piece p = piece_at(h, op, i);
        k->act(op->act, p.y, p.a, p.n);
    }
}

void cpu_clamp(host *h, const plan_op *op, int ith, int nth) {
    const row_kernels *k = cpu_rows(cpu_host_level(h));
    int from, to;
    host_share(count_pieces(h, op), ith, nth, &from, &to);
    for (int i = from; i < to; i++) {
        const piece p = piece_at(h, op, i);
        k->clamp(op->bound, p.y, p.a, p.n);
    }
}

void cpu_add(host *h, const plan_op *op, int ith, int nth) {
    const row_kernels *k = cpu_rows(cpu_host_level(h));
    int from, to;
    host_share(count_pieces(h, op), ith, nth, &from, &to);
    for (int i = from; i < to; i++) {
        const piece p = piece_at(h, op, i);
        k->add(p.y, p.a, p.b, p.n);
    }
}

void cpu_wanted(host *h, const plan_op *op, int ith, int nth) {
    const size_t bytes = (size_t)h->plan->tensors[op->out].features * sizeof(float);
    int from, to;
    host_share(h->batch->n_wanted, ith, nth, &from, &to);
    for (int i = from; i < to; i++) {
        memcpy(host_row(h, op->out, i), host_row(h, op->in[0], h->batch->wanted[i]), bytes);
    }
}
