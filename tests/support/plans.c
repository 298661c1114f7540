/* plans.c - the loops of plans.h.
 *
 * SPDX-License-Identifier: MIT */
#include "support/plans.h"

#include "support/check.h"

#include <math.h>

enum { MAX_FEATURES = 4096, ROWS = 5, N_WANTED = 2 };

/* ---- arithmetic, in double */

static double activate(nn_act act, double x) {
    switch (act) {
    case NN_SILU: return x / (1 + exp(-x));
    case NN_GELU: return x * erfc(-x / sqrt(2)) / 2;
    case NN_GELU_TANH: return x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))) / 2;
    case NN_RELU: return x > 0 ? x : 0;
    case NN_N_ACTS: break;
    }
    fail_msg("activation %d", (int)act);
    return 0;
}

/* y [n] of x [n]; weight and bias [group]. */
static void normalize(const float *x, float *y, int n, int group, bool is_layer, float eps,
                      const float *weight, const float *bias) {
    for (int at = 0; at < n; at += group) {
        double mean = 0, square = 0;
        for (int i = 0; i < group && is_layer; i++) mean += (double)x[at + i] / group;
        for (int i = 0; i < group; i++)
            square += ((double)x[at + i] - mean) * (double)(x[at + i]) / group;
        const double scale = 1 / sqrt(square + (double)eps);
        for (int i = 0; i < group; i++) {
            y[at + i] = (float)(((double)x[at + i] - mean) * scale * (double)weight[i] +
                                (bias ? (double)bias[i] : 0));
        }
    }
}

static double dot(const float *a, const float *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static void attend(const nn_attention *a, const float *q, const float *k, const float *v,
                   float *y) {
    const int group = a->n_heads / a->n_kv_heads;
    for (int i = 0; i < a->n_heads * a->head_dim; i++) {
        const int j = i / a->head_dim / group * a->head_dim + i % a->head_dim;
        y[i] = q[i] * k[j] - v[j];
    }
}

/* ---- the graph */

/* Row r of a parameter, or the whole vector. */
static void param_row(const nn_param *p, int r, float *out) {
    const tensor_view *v = p->view;
    if (v->n_dims == 2) {
        const int64_t stored =
            p->rows.first + (int64_t)(r / p->rows.block) * p->rows.stride + r % p->rows.block;
        const char *data = v->data;
        tensor_row_to_float(v->type, data + (size_t)stored * tensor_row_bytes(v->type, p->n_cols),
                            out, p->n_cols);
        return;
    }
    static float all[MAX_FEATURES];
    assert_in_range(v->dims[0], 1, MAX_FEATURES);
    tensor_row_to_float(v->type, v->data, all, v->dims[0]);
    for (int i = 0; i < p->n_cols; i++) {
        const bool is_whole = p->n_cols == v->dims[0];
        out[i] =
            all[is_whole ? i
                         : p->rows.first + i / p->rows.block * p->rows.stride + i % p->rows.block];
    }
}

static void vector_of(const nn_param *p, float *out) {
    if (p) param_row(p, 0, out);
}

typedef struct graph_state { /* of a graph */
    float **tensors;         /* [n_tensors][n, features] */
    const int32_t *ids;
    int n;
    const int *wanted;
} graph_state;

static void project_row(const nn_linear *l, const float *x, float *y) {
    static float weights[MAX_FEATURES], bias[MAX_FEATURES];
    vector_of(l->bias, bias);
    for (int i = 0; i < l->weight->n_rows; i++) {
        param_row(l->weight, i, weights);
        y[i] = (float)(dot(weights, x, l->weight->n_cols) + (l->bias ? (double)bias[i] : 0));
    }
}

static void graph_row(const nn_graph *g, const graph_op *op, const graph_state *s, int r) {
    static float weight[MAX_FEATURES], bias[MAX_FEATURES];
    const int n = g->tensors[op->out].features;
    float *y = s->tensors[op->out] + r * n;
    const float *in[3] = {NULL};
    for (int i = 0; i < op->n_in; i++) {
        if (op->in[i] == g->ids) continue;
        const int row = op->kind == NN_WANTED ? s->wanted[r] : r;
        in[i] = s->tensors[op->in[i]] + row * g->tensors[op->in[i]].features;
    }
    switch (op->kind) {
    case NN_LOOKUP: param_row(op->u.embedding.weight, s->ids[r], y); break;
    case NN_PROJECT: project_row(&op->u.linear, in[0], y); break;
    case NN_NORMALIZE:
        vector_of(op->u.norm.weight, weight);
        vector_of(op->u.norm.bias, bias);
        normalize(in[0], y, n, op->u.norm.group, op->u.norm.is_layer, op->u.norm.eps, weight,
                  op->u.norm.bias ? bias : NULL);
        break;
    case NN_ATTEND: attend(&op->u.attention, in[0], in[1], in[2], y); break;
    case NN_GATE:
        for (int i = 0; i < n; i++) {
            y[i] = (float)(activate(op->u.act, (double)in[0][i]) * (double)in[1][i]);
        }
        break;
    case NN_ACTIVATE:
        for (int i = 0; i < n; i++) y[i] = (float)activate(op->u.act, (double)in[0][i]);
        break;
    case NN_CLAMP:
        for (int i = 0; i < n; i++) y[i] = fminf(fmaxf(in[0][i], -op->u.bound), op->u.bound);
        break;
    case NN_ADD:
        for (int i = 0; i < n; i++) y[i] = in[0][i] + in[1][i];
        break;
    case NN_WANTED: memcpy(y, in[0], (size_t)n * sizeof *y); break;
    case NN_N_OPS: fail_msg("no operation"); break;
    }
}

float *graph_run(const nn_graph *g, const int32_t *ids, int n, const int *wanted, int n_wanted) {
    graph_state s = {.ids = ids, .n = n, .wanted = wanted};
    s.tensors = mem_array((size_t)g->n_tensors, sizeof *s.tensors);
    for (int i = 0; i < g->n_tensors; i++) {
        s.tensors[i] = mem_array((size_t)n * (size_t)g->tensors[i].features, sizeof(float));
    }
    for (int i = 0; i < g->n_ops; i++) {
        const int rows = g->tensors[g->ops[i].out].selected ? n_wanted : n;
        for (int r = 0; r < rows; r++) graph_row(g, &g->ops[i], &s, r);
    }
    float *logits = s.tensors[g->logits];
    s.tensors[g->logits] = NULL;
    for (int i = 0; i < g->n_tensors; i++) mem_free(s.tensors[i]);
    mem_free(s.tensors);
    return logits;
}

/* ---- the plan */

typedef struct plan_state {
    const plan *p;
    char *memory; /* [arena_bytes] */
    const int32_t *ids;
    const int *wanted;
} plan_state;

static float *row_of(const plan_state *s, int t, int r) {
    return plan_row(s->p, s->memory, t, r);
}

/* What a projection multiplies, [cols]. */
static void prologue(const plan_state *s, const plan_op *op, int r, float *x) {
    const float *in = row_of(s, op->in[0], r);
    const int n = s->p->matrices[op->matrix].cols;
    switch (op->prologue) {
    case PLAN_PLAIN: memcpy(x, in, (size_t)n * sizeof *x); break;
    case PLAN_NORM:
        normalize(in, x, n, op->norm.group, op->norm.is_layer, op->norm.eps, op->norm.weight,
                  op->norm.bias);
        break;
    case PLAN_GATE:
        for (int i = 0; i < n; i++) {
            x[i] = (float)(activate(op->act, (double)in[i]) * (double)row_of(s, op->in[1], r)[i]);
        }
        break;
    case PLAN_ACT:
        for (int i = 0; i < n; i++) x[i] = (float)activate(op->act, (double)in[i]);
        break;
    }
}

static void plan_project(const plan_state *s, const plan_op *op, int rows) {
    static float x[MAX_FEATURES], weights[MAX_FEATURES];
    const plan_matrix *m = &s->p->matrices[op->matrix];
    for (int i = 0; i < m->rows; i++) {
        plan_matrix_row(m, i, weights);
        for (int r = 0; r < rows; r++) {
            prologue(s, op, r, x);
            double y = dot(weights, x, m->cols) + (m->bias ? (double)m->bias[i] : 0);
            if (op->residual >= 0) y += (double)row_of(s, op->residual, r)[i];
            row_of(s, op->out, r)[i] = (float)y;
        }
    }
}

static void plan_row_op(const plan_state *s, const plan_op *op, int r) {
    const int n = s->p->tensors[op->out].features;
    float *y = row_of(s, op->out, r);
    const float *a = op->in[0] == s->p->ids ? NULL : row_of(s, op->in[0], r);
    const float *b = op->n_in > 1 ? row_of(s, op->in[1], r) : NULL;
    switch (op->kind) {
    case NN_LOOKUP: plan_matrix_row(&s->p->matrices[op->matrix], s->ids[r], y); break;
    case NN_NORMALIZE:
        normalize(a, y, n, op->norm.group, op->norm.is_layer, op->norm.eps, op->norm.weight,
                  op->norm.bias);
        break;
    case NN_ATTEND: attend(&op->attention, a, b, row_of(s, op->v, r), y); break;
    case NN_GATE:
        for (int i = 0; i < n; i++) y[i] = (float)(activate(op->act, (double)a[i]) * (double)b[i]);
        break;
    case NN_ACTIVATE:
        for (int i = 0; i < n; i++) y[i] = (float)activate(op->act, (double)a[i]);
        break;
    case NN_CLAMP:
        for (int i = 0; i < n; i++) y[i] = fminf(fmaxf(a[i], -op->bound), op->bound);
        break;
    case NN_ADD:
        for (int i = 0; i < n; i++) y[i] = a[i] + b[i];
        break;
    case NN_WANTED: memcpy(y, row_of(s, op->in[0], s->wanted[r]), (size_t)n * sizeof *y); break;
    case NN_PROJECT:
    case NN_N_OPS: fail_msg("operation %d by rows", (int)op->kind); break;
    }
}

float *plan_run(const plan *p, const int32_t *ids, int n, const int *wanted, int n_wanted) {
    plan_state s = {.p = p, .ids = ids, .wanted = wanted};
    assert_true(n <= p->max_rows && n_wanted <= p->max_wanted);
    s.memory = mem_alloc(p->arena_bytes);
    assert_non_null(s.memory);
    memset(s.memory, 0xff, p->arena_bytes); /* not-a-number everywhere */
    for (int i = 0; i < p->n_ops; i++) {
        const plan_op *op = &p->ops[i];
        const int rows = p->tensors[op->out].selected ? n_wanted : n;
        if (op->kind == NN_PROJECT) {
            plan_project(&s, op, rows);
            continue;
        }
        for (int r = 0; r < rows; r++) plan_row_op(&s, op, r);
    }
    float *logits = mem_array((size_t)n_wanted * (size_t)p->vocab, sizeof *logits);
    for (int r = 0; r < n_wanted; r++) {
        memcpy(logits + r * p->vocab, row_of(&s, p->logits, r), (size_t)p->vocab * sizeof *logits);
    }
    mem_free(s.memory);
    return logits;
}

/* ---- memory */

typedef struct life {  /* of an owner, found here anew */
    int written, read; /* first operation that writes, last that reads; -1: none */
} life;

static void note_read(const plan *p, life *lives, int t, int op) {
    if (t < 0 || t == p->ids) return;
    life *l = &lives[p->tensors[t].base];
    assert_true(l->written >= 0 && l->written < op); /* written before */
    l->read = op;
}

static void find_lives(const plan *p, life *lives) {
    for (int i = 0; i < p->n_tensors; i++) lives[i] = (life){-1, -1};
    for (int i = 0; i < p->n_ops; i++) {
        const plan_op *op = &p->ops[i];
        const int out = p->tensors[op->out].base;
        for (int k = 0; k < op->n_in; k++) {
            note_read(p, lives, op->in[k], i);
            if (op->in[k] != p->ids) assert_int_not_equal(p->tensors[op->in[k]].base, out);
        }
        note_read(p, lives, op->residual, i);
        if (op->kind == NN_ATTEND) {
            note_read(p, lives, op->v, i);
            assert_int_not_equal(p->tensors[op->v].base, out);
        }
        if (lives[out].written < 0) lives[out].written = i;
        if (lives[out].read < i) lives[out].read = i;
    }
    note_read(p, lives, p->logits, p->n_ops);
}

static void check_place(const plan *p, int i) {
    const plan_tensor *t = &p->tensors[i], *base = &p->tensors[t->base];
    assert_int_equal(base->base, t->base); /* an owner owns itself */
    assert_in_range(t->column + t->features, 1, base->stride);
    if (t->base != i) return;
    const int rows = t->selected ? p->max_wanted : p->max_rows;
    assert_int_equal(t->stride % 16, 0);
    assert_true(t->stride >= t->features);
    if (t->first < 0) return; /* nobody's any more */
    assert_true(t->bytes >= (size_t)rows * (size_t)t->stride * sizeof(float));
    assert_true(t->offset + t->bytes <= p->arena_bytes);
    assert_int_equal(t->offset % 64, 0);
}

void check_memory(const plan *p) {
    life *lives = mem_array((size_t)p->n_tensors, sizeof *lives);
    find_lives(p, lives);
    for (int i = 0; i < p->n_tensors; i++) {
        if (i == p->ids) continue;
        check_place(p, i);
        const plan_tensor *a = &p->tensors[i];
        if (a->base != i || lives[i].written < 0) continue;
        for (int k = 0; k < i; k++) {
            const plan_tensor *b = &p->tensors[k];
            if (k == p->ids || b->base != k || lives[k].written < 0) continue;
            const bool together =
                lives[i].written <= lives[k].read && lives[k].written <= lives[i].read;
            const bool apart =
                a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset;
            if (together && !apart) fail_msg("tensors %d and %d lie on each other", k, i);
        }
    }
    mem_free(lives);
}

/* A matrix that shares its packed weights has exactly those of the other. */
static void check_shared(const plan *p) {
    for (int i = 0; i < p->n_matrices; i++) {
        const plan_matrix *m = &p->matrices[i];
        if (m->shared_with < 0) continue;
        assert_in_range(m->shared_with, 0, i - 1);
        const plan_matrix *of = &p->matrices[m->shared_with];
        assert_true(m->n_parts == 1 && of->n_parts == 1 && of->shared_with < 0);
        assert_ptr_equal(m->parts[0].weight, of->parts[0].weight);
    }
}

plan *check_plan(arena *a, const nn_arch *arch, const checkpoint *c) {
    static const int wanted[N_WANTED] = {1, ROWS - 1};
    nn_graph *g;
    plan *p;
    OK(graph_record(&g, a, arch, c, &err));
    OK(plan_make(&p, g, c, ROWS, N_WANTED, &err));
    check_memory(p);
    check_shared(p);
    int32_t ids[ROWS];
    random_ids(ids, ROWS, c->config.vocab, 11);
    float *from_graph = graph_run(g, ids, ROWS, wanted, N_WANTED);
    float *from_plan = plan_run(p, ids, ROWS, wanted, N_WANTED);
    /* Both keep activations as floats, but not the same ones. */
    assert_true(row_error(from_plan, from_graph, N_WANTED * c->config.vocab) < 1e-5);
    mem_free(from_graph);
    mem_free(from_plan);
    return p;
}
