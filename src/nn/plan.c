/* plan.c - from graph to plan: copy, fuse, compact, convert vectors, place tensors.
 *
 * Test: tests/nn/test_plan.c.
 *
 * SPDX-License-Identifier: MIT */
#include "nn/plan.h"

#include "nn/plan_fuse.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { ALIGN = 64 };

static weir_status out_of_memory(const checkpoint *c, weir_error *err) {
    return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory for the plan", c->path);
}

/* A vector parameter as floats, gathered by its rows; NULL when p is. */
static const float *vector(plan *p, const nn_param *param) {
    if (!param) return NULL;
    const tensor_view *v = param->view;
    float *all = ARENA_ARRAY(p->arena, float, (size_t)v->dims[0]);
    float *some = ARENA_ARRAY(p->arena, float, (size_t)param->n_cols);
    if (!all || !some) return NULL;
    tensor_row_to_float(v->type, v->data, all, v->dims[0]);
    if (param->n_cols == v->dims[0]) return all;
    const nn_rows r = param->rows;
    for (int b = 0, at = 0; b < r.n_blocks; b++, at += r.block) {
        assert(at + r.block <= param->n_cols);
        memcpy(some + at, all + r.first + (size_t)b * (size_t)r.stride,
               (size_t)r.block * sizeof *some);
    }
    return some;
}

static plan_norm make_norm(plan *p, const nn_norm *n) {
    return (plan_norm){.weight = vector(p, n->weight),
                       .bias = vector(p, n->bias),
                       .eps = n->eps,
                       .group = n->group,
                       .is_layer = n->is_layer};
}

static int find_matrix(const plan *p, const nn_param *weight) {
    for (int i = 0; i < p->n_matrices; i++) {
        const plan_matrix *m = &p->matrices[i];
        if (m->n_parts == 1 && m->parts[0].weight == weight) return i;
    }
    return -1;
}

static int add_matrix(plan *p, const nn_param *weight, const nn_param *bias) {
    assert(weight->n_rows > 0 && weight->n_cols > 0);
    plan_matrix *m = &p->matrices[p->n_matrices];
    *m = (plan_matrix){.rows = weight->n_rows,
                       .cols = weight->n_cols,
                       .type = weight->view->type,
                       .n_parts = 1,
                       .parts[0].weight = weight,
                       .bias = vector(p, bias),
                       .shared_with = find_matrix(p, weight),
                       .name = weight->view->name};
    return p->n_matrices++;
}

/* One plan operation per graph operation; tensors keep their numbers. */
static void copy_op(plan *p, const graph_op *g) {
    plan_op *op = &p->ops[p->n_ops++];
    *op = (plan_op){.kind = g->kind,
                    .in = {g->in[0], g->in[1]},
                    .n_in = g->n_in > 2 ? 2 : g->n_in,
                    .residual = -1,
                    .out = g->out,
                    .matrix = -1,
                    .v = -1};
    switch (g->kind) {
    case NN_LOOKUP: op->matrix = add_matrix(p, g->u.embedding.weight, NULL); break;
    case NN_PROJECT: op->matrix = add_matrix(p, g->u.linear.weight, g->u.linear.bias); break;
    case NN_NORMALIZE: op->norm = make_norm(p, &g->u.norm); break;
    case NN_ATTEND:
        op->attention = g->u.attention;
        op->v = g->in[2];
        break;
    case NN_GATE:
    case NN_ACTIVATE: op->act = g->u.act; break;
    case NN_CLAMP: op->bound = g->u.bound; break;
    case NN_ADD:
    case NN_WANTED:
    case NN_N_OPS: break;
    }
}

static void copy_graph(plan *p, const nn_graph *g) {
    p->n_tensors = g->n_tensors;
    p->ids = g->ids;
    p->logits = g->logits;
    for (int i = 0; i < g->n_tensors; i++) {
        const nn_tensor *t = &g->tensors[i];
        p->tensors[i] = (plan_tensor){.features = t->features, .base = i, .selected = t->selected};
    }
    for (int i = 0; i < g->n_ops; i++) copy_op(p, &g->ops[i]);
}

/* Biases of merged projections become one vector, zeros where a part has none. */
static bool join_biases(plan *p, const nn_graph *g) {
    for (int i = 0; i < p->n_matrices; i++) {
        plan_matrix *m = &p->matrices[i];
        if (m->n_parts < 2) continue;
        float *bias = ARENA_ARRAY(p->arena, float, (size_t)m->rows);
        if (!bias) return false;
        bool any = false;
        for (int k = 0; k < g->n_ops; k++) {
            if (g->ops[k].kind != NN_PROJECT || !g->ops[k].u.linear.bias) continue;
            for (int part = 0; part < m->n_parts; part++) {
                if (m->parts[part].weight != g->ops[k].u.linear.weight) continue;
                const float *v = vector(p, g->ops[k].u.linear.bias);
                if (!v) return false;
                assert(m->parts[part].first_row + m->parts[part].weight->n_rows <= m->rows);
                memcpy(bias + m->parts[part].first_row, v,
                       (size_t)m->parts[part].weight->n_rows * sizeof *v);
                any = true;
            }
        }
        m->bias = any ? bias : NULL;
    }
    return true;
}

/* Drops removed operations and orphaned matrices, renumbering the latter. */
static void compact(plan *p, int *number /* [n_matrices] */) {
    int n = 0;
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != NN_N_OPS) p->ops[n++] = p->ops[i];
    }
    p->n_ops = n;
    n = 0;
    for (int i = 0; i < p->n_matrices; i++) {
        if (!p->matrices[i].n_parts) continue;
        number[i] = n;
        p->matrices[n] = p->matrices[i];
        if (p->matrices[n].shared_with >= 0) {
            assert(p->matrices[n].shared_with < i); /* so it has its new number */
            p->matrices[n].shared_with = number[p->matrices[n].shared_with];
        }
        n++;
    }
    p->n_matrices = n;
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].matrix >= 0) p->ops[i].matrix = number[p->ops[i].matrix];
    }
}

/* ---- memory */

static void live(plan *p, int t, int op, bool writes) {
    plan_tensor *base = &p->tensors[p->tensors[t].base];
    if (base->first < 0 && writes) base->first = op;
    base->last = MAX_OF(base->last, op);
}

static void find_lives(plan *p) {
    for (int i = 0; i < p->n_tensors; i++) p->tensors[i].first = p->tensors[i].last = -1;
    for (int i = 0; i < p->n_ops; i++) {
        const plan_op *op = &p->ops[i];
        live(p, op->out, i, true);
        for (int k = 0; k < op->n_in; k++) {
            if (op->in[k] != p->ids) live(p, op->in[k], i, false);
        }
        if (op->residual >= 0) live(p, op->residual, i, false);
        if (op->v >= 0) live(p, op->v, i, false);
    }
    live(p, p->logits, p->n_ops, false);
}

static bool overlap(const plan_tensor *a, const plan_tensor *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* The lowest offset where t fits among the tensors placed before it that live at the same time. */
static size_t first_fit(const plan *p, int t) {
    const plan_tensor *x = &p->tensors[t];
    size_t at = 0;
    for (bool moved = true; moved;) {
        moved = false;
        for (int i = 0; i < p->n_tensors; i++) {
            const plan_tensor *y = &p->tensors[i];
            if (i == t || y->base != i || y->first < 0 || y->bytes == 0 || !overlap(x, y)) continue;
            if (y->offset == SIZE_MAX || at + x->bytes <= y->offset) continue;
            if (y->offset + y->bytes <= at) continue;
            at = y->offset + y->bytes;
            moved = true;
        }
    }
    return at;
}

static weir_status place(plan *p, weir_error *err) {
    for (int i = 0; i < p->n_tensors; i++) {
        plan_tensor *t = &p->tensors[i];
        t->stride = (t->features + 15) / 16 * 16;
        const int rows = t->selected ? p->max_wanted : p->max_rows;
        t->bytes = t->base == i && t->first >= 0
                       ? size_mul(size_mul((size_t)t->stride, sizeof(float)), (size_t)rows)
                       : 0;
        if (t->bytes >= SIZE_MAX / 4) {
            return weir_fail(err, WEIR_ERR_MEMORY, "activations of %d x %d do not fit", rows,
                             t->features);
        }
        t->offset = SIZE_MAX; /* not placed */
    }
    for (int i = 0; i < p->n_tensors; i++) {
        plan_tensor *t = &p->tensors[i];
        if (t->bytes == 0) continue;
        assert(t->bytes % ALIGN == 0 && t->last >= t->first);
        t->offset = first_fit(p, i);
        p->arena_bytes = MAX_OF(p->arena_bytes, t->offset + t->bytes);
    }
    p->arena_bytes = (p->arena_bytes + ALIGN - 1) / ALIGN * ALIGN;
    return WEIR_OK;
}

/* ---- attention, shared by all layers */

/* Slopes of Press et al. 2021, arXiv 2108.12409, for any number of heads: the ladder of the next
 * power of two, its even rungs first. */
static const float *make_slopes(plan *p, const nn_attention *a) {
    float *slopes = ARENA_ARRAY(p->arena, float, (size_t)a->n_heads);
    int power = 1;
    while (power < a->n_heads) power *= 2;
    for (int h = 0; slopes && h < a->n_heads; h++) {
        int rung = h + 1;
        if (power != a->n_heads) rung = h < power / 2 ? 2 * h + 2 : 2 * (h - power / 2) + 1;
        slopes[h] =
            (float)(exp2(-(double)a->alibi_max_bias * rung / power) * (double)a->alibi_scale);
    }
    return slopes;
}

static weir_status make_attention(plan *p, const checkpoint *c, weir_error *err) {
    bool seen = false;
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != NN_ATTEND) continue;
        const nn_attention *a = &p->ops[i].attention;
        if (!seen) p->attention = *a;
        if (seen && (a->n_heads != p->attention.n_heads || a->head_dim != p->attention.head_dim ||
                     a->n_kv_heads != p->attention.n_kv_heads)) {
            return weir_fail(err, WEIR_ERR_MODEL, "%s: attention differs between layers", c->path);
        }
        if (a->layer != p->n_layers) {
            return weir_fail(err, WEIR_ERR_MODEL, "%s: attention of layer %d comes as number %d",
                             c->path, a->layer, p->n_layers);
        }
        seen = true;
        p->n_layers++;
    }
    if (!seen) return weir_fail(err, WEIR_ERR_MODEL, "%s: has no attention", c->path);
    const nn_attention *a = &p->attention;
    if (a->n_kv_heads <= 0 || a->n_heads % a->n_kv_heads || a->rope.dims > a->head_dim ||
        !rope_make(&p->rope, &a->rope)) {
        return weir_fail(err, WEIR_ERR_MODEL,
                         "%s: attention of %d heads, %d K/V heads, %d rotated of %d features "
                         "cannot be",
                         c->path, a->n_heads, a->n_kv_heads, a->rope.dims, a->head_dim);
    }
    p->alibi = a->alibi ? make_slopes(p, a) : NULL;
    return WEIR_OK;
}

static weir_status check_matrices(const plan *p, weir_error *err) {
    for (int i = 0; i < p->n_matrices; i++) {
        const plan_matrix *m = &p->matrices[i];
        const int block = tensor_type_block(m->type);
        if (m->cols % block) {
            return weir_fail(err, WEIR_ERR_MODEL,
                             "%s: rows of %d weights, %s wants multiples of %d", m->name, m->cols,
                             tensor_type_name(m->type), block);
        }
    }
    return WEIR_OK;
}

static weir_status build(plan *p, const nn_graph *g, const checkpoint *c, weir_error *err) {
    const size_t n = (size_t)g->n_ops;
    p->ops = ARENA_ARRAY(p->arena, plan_op, n);
    p->matrices = ARENA_ARRAY(p->arena, plan_matrix, n);
    p->tensors = ARENA_ARRAY(p->arena, plan_tensor, (size_t)g->n_tensors + n);
    int *numbers = ARENA_ARRAY(p->arena, int, n);
    if (!p->ops || !p->matrices || !p->tensors || !numbers) return out_of_memory(c, err);
    copy_graph(p, g);
    plan_fuse(p);
    if (!join_biases(p, g)) return out_of_memory(c, err);
    compact(p, numbers);
    WEIR_TRY(check_matrices(p, err));
    WEIR_TRY(make_attention(p, c, err));
    find_lives(p);
    p->vocab = p->tensors[p->logits].features;
    return place(p, err);
}

weir_status plan_make(plan **out, const nn_graph *g, const checkpoint *c, int max_rows,
                      int max_wanted, weir_error *err) {
    assert(max_rows > 0 && max_wanted > 0 && max_wanted <= max_rows);
    *out = NULL;
    arena *a = arena_new();
    plan *p = a ? ARENA_NEW(a, plan) : NULL;
    if (!p) {
        arena_free(a);
        return out_of_memory(c, err);
    }
    p->arena = a;
    p->checkpoint = c;
    p->max_rows = max_rows;
    p->max_wanted = max_wanted;
    const weir_status status = build(p, g, c, err);
    if (status != WEIR_OK) {
        plan_free(p);
        return status;
    }
    *out = p;
    return WEIR_OK;
}

void plan_free(plan *p) {
    if (p) arena_free(p->arena);
}

/* The part of a row, and the row of the stored matrix. */
static const nn_param *stored_row(const plan_matrix *m, int row, size_t *stored) {
    assert(row >= 0 && row < m->rows);
    int part = m->n_parts - 1;
    while (m->parts[part].first_row > row) part--;
    const nn_param *w = m->parts[part].weight;
    const int r = row - m->parts[part].first_row;
    *stored = (size_t)w->rows.first + (size_t)(r / w->rows.block) * (size_t)w->rows.stride +
              (size_t)(r % w->rows.block);
    return w;
}

const void *plan_matrix_bytes(const plan_matrix *m, int row) {
    size_t stored;
    const nn_param *w = stored_row(m, row, &stored);
    return (const char *)w->view->data + stored * tensor_row_bytes(m->type, m->cols);
}

float plan_matrix_scale(const plan_matrix *m, int row, int k) {
    size_t stored;
    float scale;
    const nn_param *w = stored_row(m, row, &stored);
    assert(m->type == TENSOR_FP8 && k >= 0 && k < m->cols);
    const size_t per_row = (size_t)(m->cols - 1) / (size_t)w->scale_cols + 1;
    const size_t at = stored / (size_t)w->scale_rows * per_row + (size_t)(k / w->scale_cols);
    const tensor_type type = w->scale->type;
    tensor_row_to_float(type, (const char *)w->scale->data + at * tensor_row_bytes(type, 1), &scale,
                        1);
    return scale;
}

void plan_matrix_row(const plan_matrix *m, int row, float *out) {
    tensor_row_to_float(m->type, plan_matrix_bytes(m, row), out, m->cols);
    if (m->type != TENSOR_FP8) return;
    for (int k = 0; k < m->cols;) {
        const float scale = plan_matrix_scale(m, row, k);
        for (const int end = MIN_OF(k + PLAN_SCALED, m->cols); k < end; k++) out[k] *= scale;
    }
}
