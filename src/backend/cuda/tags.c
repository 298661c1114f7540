/* tags.c - which values of a step of one row say by themselves that they are there.
 *
 *     project q|k|v      attend          project o       project gate|up     project down
 *        values ----------> values ---------> values ---------> values ----------> values
 *        tagged             tagged            tagged            tagged             tagged
 *
 * A result is tagged where all that read it ask for the tag (kernels/input.cuh): products that read
 * a row by fours, residuals, attention.  Each has memory of its own, [features] float, written once
 * in every such step, and `wanted`, which would copy the one row, is left out.  Before a stage that
 * reads nothing else blocks meet loosely
 * (kernels/grid.cuh).  What else is written in such a step is written by stages behind which all
 * meet as always, and it is not read any more by those before: all that a stage leaves is made of
 * all that it read.
 *
 * Test: tests/backend/test_cuda_host.c, tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/layout.h"

#include <assert.h>

static int base_of(const plan *p, int t) {
    return t < 0 ? -1 : p->tensors[t].base;
}

/* The last operation before op i that writes what tensor t lies in; -1: none. */
static int writer_of(const plan *p, int i, int t) {
    assert(i >= 0 && i <= p->n_ops);
    while (--i >= 0 && (t < 0 || base_of(p, p->ops[i].out) != base_of(p, t))) continue;
    return i;
}

/* As kernels/input.cuh has it. */
static bool reads_by_fours(const cuda_layout *l, const plan_op *op) {
    const plan_tensor *x = &l->plan->tensors[op->in[0]], *base = &l->plan->tensors[x->base];
    const cuda_format format = (cuda_format)l->weights[op->matrix].matrix.format;
    const bool is_even = base->offset % 16 == 0 && x->column % 4 == 0 && base->stride % 4 == 0 &&
                         x->features % 4 == 0;
    const bool is_plain = op->prologue == PLAN_PLAIN || cuda_gated_product(l->plan, op) >= 0;
    return is_even && format > CUDA_F16 && format != CUDA_FP8 &&
           (is_plain || (op->prologue == PLAN_NORM && !op->norm.is_layer));
}

static bool read_well(const cuda_layout *l, int i);

/* Whether operation k reads memory `base`; *well: only where tags are asked for. */
static bool reads(const cuda_layout *l, int k, int base, bool *well) {
    const plan *p = l->plan;
    const plan_op *op = &p->ops[k];
    bool found = op->kind == NN_PROJECT && base_of(p, op->residual) == base;
    if (op->kind == NN_ATTEND && base_of(p, op->v) == base) found = true;
    for (int i = 0; i < op->n_in; i++) {
        if (base_of(p, op->in[i]) != base) continue;
        found = true;
        if (op->kind == NN_WANTED) {
            *well = *well && read_well(l, k);
        } else if (op->kind != NN_ATTEND && !(op->kind == NN_PROJECT && reads_by_fours(l, op))) {
            *well = false;
        }
    }
    return found;
}

/* Whether all that read the result of operation i ask for tags. */
static bool read_well(const cuda_layout *l, int i) {
    const plan *p = l->plan;
    const int base = base_of(p, p->ops[i].out);
    bool found = false, well = true;
    for (int k = i + 1; k < p->n_ops; k++) {
        if (reads(l, k, base, &well)) found = true;
        if (base_of(p, p->ops[k].out) == base) return found && well;
    }
    return found && well && base != base_of(p, p->logits);
}

static bool is_tagged(const cuda_layout *l, int i) {
    const nn_op kind = l->plan->ops[i].kind;
    return (kind == NN_PROJECT || kind == NN_ATTEND) && read_well(l, i);
}

size_t cuda_choose_tagged(cuda_layout *l, cuda_address at) {
    size_t bytes = 0;
    assert(at % 128 == 0 && l->tagged);
    for (int i = 0; i < l->plan->n_ops; i++) {
        l->tagged[i] = 0;
        if (!is_tagged(l, i)) continue;
        const size_t row = (size_t)l->plan->tensors[l->plan->ops[i].out].features * sizeof(float);
        l->tagged[i] = at + bytes;
        bytes = size_add(bytes, (row + 127) / 128 * 128);
    }
    return bytes;
}

cuda_address cuda_tagged_of(const cuda_layout *l, int i, int t) {
    const plan *p = l->plan;
    const int from = writer_of(p, i, t);
    if (from < 0) return 0;
    const plan_op *op = &p->ops[from];
    const cuda_address at =
        op->kind == NN_WANTED ? cuda_tagged_of(l, from, op->in[0]) : l->tagged[from];
    const int column = p->tensors[t].column - p->tensors[op->out].column;
    assert(column >= 0);
    return at ? at + (cuda_address)column * sizeof(float) : 0;
}

bool cuda_reads_untagged(const cuda_layout *l, int i, int since) {
    assert(i >= 0 && i < l->plan->n_ops && since < i);
    const plan_op *op = &l->plan->ops[i];
    const int read[4] = {op->n_in > 0 ? op->in[0] : -1, op->n_in > 1 ? op->in[1] : -1, op->v,
                         op->residual};
    if (op->kind == NN_ATTEND && since < 0) return true; /* phases */
    for (int k = 0; k < 4; k++) {
        const int from = writer_of(l->plan, i, read[k]);
        if (from >= since && from >= 0 && !cuda_tagged_of(l, i, read[k])) return true;
    }
    return false;
}
