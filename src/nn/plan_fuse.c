/* plan_fuse.c - the short rule table that turns a recorded graph into few, large operations.
 *
 *     merge     x -> q, x -> k, x -> v                 =>  x -> [q|k|v]
 *     prologue  x -> norm -> project                   =>  x -> project(norm)
 *               g, u -> gate -> project                =>  g, u -> project(gate)
 *     residual  add(r, project(x))                     =>  project(x) + r
 *     in place  project + r, r read no more            =>  the result takes r's memory
 *
 * Every rule leaves a plan that computes the same values; none needs another to have run.
 *
 * Test: tests/nn/test_plan.c.
 *
 * SPDX-License-Identifier: MIT */
#include "nn/plan_fuse.h"

#include <assert.h>

bool plan_op_reads(const plan_op *op, int t) {
    for (int i = 0; i < op->n_in; i++) {
        if (op->in[i] == t) return true;
    }
    return op->residual == t || (op->kind == NN_ATTEND && op->v == t);
}

static bool is_gone(const plan_op *op) {
    return op->kind == NN_N_OPS;
}

static void remove_op(plan_op *op) {
    op->kind = NN_N_OPS;
    op->n_in = 0;
    op->residual = op->out = -1;
}

/* How many operations read t; the logits are read by the engine. */
static int count_readers(const plan *p, int t) {
    int n = t == p->logits;
    for (int i = 0; i < p->n_ops; i++) n += !is_gone(&p->ops[i]) && plan_op_reads(&p->ops[i], t);
    return n;
}

static plan_op *maker_of(const plan *p, int t) {
    for (int i = 0; i < p->n_ops; i++) {
        if (!is_gone(&p->ops[i]) && p->ops[i].out == t) return &p->ops[i];
    }
    return NULL;
}

/* ---- merge */

/* Weights used twice are packed once, as they are: they stay whole. */
static bool is_shared(const plan *p, int matrix) {
    for (int i = 0; i < p->n_matrices; i++) {
        if (p->matrices[i].shared_with == matrix) return true;
    }
    return p->matrices[matrix].shared_with >= 0;
}

static bool can_merge(const plan *p, const plan_op *a, const plan_op *b) {
    if (b->kind != NN_PROJECT || b->in[0] != a->in[0]) return false;
    const plan_matrix *m = &p->matrices[a->matrix], *n = &p->matrices[b->matrix];
    return m->type == n->type && m->cols == n->cols && m->n_parts + n->n_parts <= PLAN_MAX_PARTS &&
           !is_shared(p, a->matrix) && !is_shared(p, b->matrix);
}

/* Makes the result of op, whole so far, a view of a new tensor that further parts can join. */
static void open_base(plan *p, plan_op *op) {
    assert(p->tensors[op->out].base == op->out); /* nobody's view yet */
    const int base = p->n_tensors++;
    p->tensors[base] = p->tensors[op->out];
    p->tensors[base].base = base;
    p->tensors[op->out].base = base;
    op->out = base;
}

static void merge_into(plan *p, plan_op *a, plan_op *b) {
    plan_matrix *m = &p->matrices[a->matrix], *n = &p->matrices[b->matrix];
    if (m->n_parts == 1) open_base(p, a);
    assert(n->n_parts == 1 && m->n_parts < PLAN_MAX_PARTS && m->cols == n->cols);
    plan_tensor *base = &p->tensors[a->out], *view = &p->tensors[b->out];
    view->base = a->out;
    view->column = base->features;
    base->features += view->features;
    m->parts[m->n_parts] = n->parts[0];
    m->parts[m->n_parts++].first_row = m->rows;
    m->rows += n->rows;
    n->n_parts = 0; /* nobody's any more */
    remove_op(b);
}

static void merge(plan *p) {
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != NN_PROJECT) continue;
        for (int j = i + 1; j < p->n_ops; j++) {
            if (can_merge(p, &p->ops[i], &p->ops[j])) merge_into(p, &p->ops[i], &p->ops[j]);
        }
    }
}

/* ---- prologue */

static void take_prologue(plan *p, plan_op *op) {
    plan_op *maker = maker_of(p, op->in[0]);
    if (!maker || count_readers(p, op->in[0]) != 1) return;
    if (maker->kind == NN_NORMALIZE) {
        if (maker->norm.group != p->tensors[maker->out].features) return;
        op->prologue = PLAN_NORM;
        op->norm = maker->norm;
    } else if (maker->kind == NN_GATE) {
        op->prologue = PLAN_GATE;
        op->act = maker->act;
    } else if (maker->kind == NN_ACTIVATE) {
        op->prologue = PLAN_ACT;
        op->act = maker->act;
    } else {
        return;
    }
    op->n_in = maker->n_in;
    op->in[0] = maker->in[0];
    op->in[1] = maker->in[1];
    remove_op(maker);
}

/* ---- residual */

/* The projection that makes t, if t is read here only and it is free to take a residual. */
static plan_op *free_projection(const plan *p, int t) {
    plan_op *maker = maker_of(p, t);
    if (!maker || maker->kind != NN_PROJECT || maker->residual >= 0) return NULL;
    if (p->matrices[maker->matrix].n_parts != 1 || count_readers(p, t) != 1) return NULL;
    return maker;
}

/* The projection moves down to where the addition stood: its other operand exists by then. */
static void take_residual(plan *p, plan_op *add) {
    const int a = add->in[0], b = add->in[1];
    if (a == b) return;
    plan_op *project = free_projection(p, b);
    const int other = project ? a : b;
    if (!project) project = free_projection(p, a);
    if (!project) return;
    assert(p->tensors[other].features == p->tensors[add->out].features);
    const int out = add->out;
    *add = *project;
    add->residual = other;
    add->out = out;
    remove_op(project);
}

/* ---- in place */

static bool is_read_after(const plan *p, int op, int t) {
    for (int i = op + 1; i < p->n_ops; i++) {
        if (!is_gone(&p->ops[i]) && plan_op_reads(&p->ops[i], t)) return true;
    }
    return t == p->logits;
}

/* Members write results while others may still read inputs, so inputs must lie elsewhere. */
static void place_on_residual(plan *p, int i) {
    const plan_op *op = &p->ops[i];
    const plan_tensor *out = &p->tensors[op->out], *r = &p->tensors[op->residual];
    if (r->features != out->features || p->tensors[r->base].features != r->features) return;
    assert(out->base == op->out); /* parts of a merged matrix take no residual */
    if (is_read_after(p, i, op->residual)) return;
    for (int k = 0; k < op->n_in; k++) {
        if (p->tensors[op->in[k]].base == r->base) return;
    }
    p->tensors[op->out].base = r->base;
}

void plan_fuse(plan *p) {
    merge(p);
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == NN_PROJECT) take_prologue(p, &p->ops[i]);
    }
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == NN_ADD) take_residual(p, &p->ops[i]);
    }
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind == NN_PROJECT && p->ops[i].residual >= 0) place_on_residual(p, i);
    }
}
