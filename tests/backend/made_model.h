/* made_model.h - random models of any shape and weight type in memory, for back ends to agree on.
 *
 *     made *t = made_new(&(made_shape){.type = TENSOR_Q4_K, .dim = 256, ...}, rows, wanted);
 *     t->plan ...
 *     made_free(t);
 *
 * The model is a Llama by default; switches bring in what other families have: layer norms, biases,
 * an MLP without gate, clamped and normed q and k, and `loose`, which uses results twice so that
 * nothing can be fused and every operation of ops.h runs by itself.  With `pool` all tensors share
 * one buffer of random bytes of that size: large shapes at no cost.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/half.h"
#include "base/rng.h"
#include "nn/plan.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct made_shape {
    tensor_type type; /* of matrices */
    int dim, ffn_dim, n_layers, n_heads, n_kv_heads, head_dim, vocab;
    int rope_dims;
    bool interleaved, alibi, layer_norm, bias, no_gate, clamp, qk_norm, tied, loose;
    nn_act act;
    size_t pool;
} made_shape;

typedef struct made {
    made_shape shape;
    checkpoint checkpoint;
    plan *plan;
    rng random;
    int capacity;
} made;

/* ---- weights */

static inline void made_put_f16(char *p, double x) {
    const uint16_t h = float_to_f16((float)x);
    memcpy(p, &h, 2);
}

/* One stored block; the values of a row of n have a variance of about 1 / n. */
static inline void made_block(rng *r, tensor_type type, char *block, int n) {
    const double x = (2 * rng_uniform(r) - 1) * 1.7 / sqrt((double)n);
    const size_t bytes = tensor_type_block_bytes(type);
    const float single = (float)x;
    const uint16_t bf16 = float_to_bf16(single);
    for (size_t b = 0; b < bytes; b++) block[b] = (char)rng_next(r);
    switch (type) {
    case TENSOR_F32: memcpy(block, &single, 4); break;
    case TENSOR_F16: made_put_f16(block, x); break;
    case TENSOR_BF16: memcpy(block, &bf16, 2); break;
    case TENSOR_Q8_0: made_put_f16(block, x / 64); break;
    case TENSOR_Q4_0: made_put_f16(block, x / 4); break;
    case TENSOR_Q5_0: made_put_f16(block, x / 8); break;
    case TENSOR_Q4_1:
        made_put_f16(block, x / 4);
        made_put_f16(block + 2, -2 * x);
        break;
    case TENSOR_Q5_1:
        made_put_f16(block, x / 8);
        made_put_f16(block + 2, -2 * x);
        break;
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        made_put_f16(block, x / (type == TENSOR_Q4_K ? 128 : 256));
        made_put_f16(block + 2, x / 16);
        break;
    case TENSOR_Q6_K: made_put_f16(block + 208, x / 512); break;
    case TENSOR_FP8:
        block[0] = (char)((block[0] & 0x7f) == 0x7f ? 0x40 : block[0]);
        break; /* no NaN */
    case TENSOR_N_TYPES: break;
    }
}

static inline void made_add(made *t, const char *name, tensor_type type, int rows, int cols) {
    checkpoint *c = &t->checkpoint;
    assert(c->n_tensors < t->capacity);
    const size_t row = tensor_row_bytes(type, cols), bytes = (size_t)(rows ? rows : 1) * row;
    char *data = (char *)(uintptr_t)(t->shape.pool ? c->tensors[0].data : NULL);
    if (!t->shape.pool || !rows) {
        data = arena_alloc(c->arena, bytes, 64);
        for (size_t at = 0; at < bytes; at += tensor_type_block_bytes(type)) {
            if (rows) {
                made_block(&t->random, type, data + at, cols);
            } else {
                const float x = (float)(0.75 + 0.5 * rng_uniform(&t->random));
                memcpy(data + at, &x, 4);
            }
        }
    }
    assert(!t->shape.pool || !rows || bytes <= t->shape.pool);
    c->tensors[c->n_tensors++] = (tensor_view){.name = arena_copy(c->arena, name, strlen(name)),
                                               .type = type,
                                               .n_dims = rows ? 2 : 1,
                                               .dims = {rows ? rows : cols, cols},
                                               .data = data,
                                               .bytes = bytes};
}

/* Scales of an FP8 matrix, shared in one of the three ways; codes have a variance of about 10^4. */
static inline void made_scales(made *t, const char *name, int rows, int cols) {
    char full[72];
    snprintf(full, sizeof full, "%s_scale", name);
    const int way = t->shape.pool ? 0 : t->checkpoint.n_tensors % 3;
    const int n_rows = way == 0 ? 1 : way == 1 ? rows : (rows + 127) / 128;
    const int n_cols = way == 2 ? (cols + 127) / 128 : 1, n = n_rows * n_cols;
    float *data = arena_alloc(t->checkpoint.arena, (size_t)n * sizeof *data, 64);
    for (int i = 0; i < n; i++) {
        data[i] = (float)((0.5 + rng_uniform(&t->random)) / 100 / sqrt((double)cols));
    }
    t->checkpoint.tensors[t->checkpoint.n_tensors++] =
        (tensor_view){.name = arena_copy(t->checkpoint.arena, full, strlen(full)),
                      .type = TENSOR_F32,
                      .n_dims = 2,
                      .dims = {n_rows, n_cols},
                      .data = data,
                      .bytes = (size_t)n * sizeof *data};
}

static inline void made_matrix(made *t, const char *name, int rows, int cols) {
    made_add(t, name, t->shape.type, rows, cols);
    if (t->shape.type == TENSOR_FP8) made_scales(t, name, rows, cols);
}

static inline void made_linear(made *t, int layer, const char *name, int rows, int cols) {
    char full[64];
    snprintf(full, sizeof full, "l.%d.%s.weight", layer, name);
    made_matrix(t, full, rows, cols);
    snprintf(full, sizeof full, "l.%d.%s.bias", layer, name);
    if (t->shape.bias) made_add(t, full, TENSOR_F32, 0, rows);
}

static inline void made_norm(made *t, int layer, const char *name, int n) {
    char full[64];
    snprintf(full, sizeof full, "l.%d.%s.weight", layer, name);
    made_add(t, full, TENSOR_F32, 0, n);
    snprintf(full, sizeof full, "l.%d.%s.bias", layer, name);
    if (t->shape.layer_norm) made_add(t, full, TENSOR_F32, 0, n);
}

static inline int made_compare(const void *a, const void *b) {
    return strcmp(((const tensor_view *)a)->name, ((const tensor_view *)b)->name);
}

static inline void made_weights(made *t) {
    const made_shape *s = &t->shape;
    const int q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    if (s->pool) { /* the first tensor holds the pool */
        char *pool = mem_map(s->pool);
        const size_t block = tensor_type_block_bytes(s->type);
        size_t done = 0; /* some are made, the rest are copies */
        for (; done + block <= s->pool && done < (4 << 20); done += block) {
            made_block(&t->random, s->type, pool + done, s->dim);
        }
        for (size_t n; done < s->pool; done += n) {
            n = done < s->pool - done ? done : s->pool - done;
            memcpy(pool + done, pool, n);
        }
        t->checkpoint.tensors[t->checkpoint.n_tensors++] =
            (tensor_view){.name = "!", .data = pool, .bytes = s->pool};
    }
    made_matrix(t, "embed.weight", s->vocab, s->dim);
    if (!s->tied) made_matrix(t, "head.weight", s->vocab, s->dim);
    made_norm(t, s->n_layers, "n", s->dim);
    for (int l = 0; l < s->n_layers; l++) {
        made_linear(t, l, "q", q, s->dim);
        made_linear(t, l, "k", kv, s->dim);
        made_linear(t, l, "v", kv, s->dim);
        made_linear(t, l, "o", s->dim, q);
        made_linear(t, l, "gate", s->ffn_dim, s->dim);
        made_linear(t, l, "up", s->ffn_dim, s->dim);
        made_linear(t, l, "down", s->dim, s->ffn_dim);
        made_norm(t, l, "n", s->dim);
        made_norm(t, l, "m", s->dim);
        made_norm(t, l, "qn", s->head_dim);
        made_norm(t, l, "kn", s->head_dim);
    }
    qsort(t->checkpoint.tensors, (size_t)t->checkpoint.n_tensors, sizeof(tensor_view),
          made_compare);
}

/* ---- the model; the shape travels behind the configuration */

typedef struct made_layer {
    nn_norm n, m, qn, kn;
    nn_linear q, k, v, o, gate, up, down;
    nn_attention attention;
} made_layer;

typedef struct made_nn {
    const made_shape *shape;
    nn_embedding embed;
    made_layer layers[NN_MAX_LAYERS];
    nn_norm norm;
    nn_linear head;
} made_nn;

static inline nn_norm made_make_norm(const made_shape *t, const nn_scope *s, const char *name,
                                     int n) {
    return t->layer_norm ? nn_make_layer_norm(s, name, n, 1e-5f) : nn_make_norm(s, name, n, 1e-5f);
}

static inline void made_make(void *model, const nn_scope *root, const nn_config *c) {
    made_nn *m = model;
    const made_shape *t = (const made_shape *)(const void *)c->rope.divisors; /* a borrowed field */
    m->shape = t;
    m->embed = nn_make_embedding(root, "embed", t->vocab, t->dim);
    for (int i = 0; i <= t->n_layers; i++) {
        const nn_scope s = nn_at(root, "l", i);
        const int q = t->n_heads * t->head_dim, kv = t->n_kv_heads * t->head_dim;
        if (i == t->n_layers) {
            m->norm = made_make_norm(t, &s, "n", t->dim);
            break;
        }
        nn_config config = *c;
        config.rope.divisors = NULL;
        m->layers[i] = (made_layer){.n = made_make_norm(t, &s, "n", t->dim),
                                    .m = made_make_norm(t, &s, "m", t->dim),
                                    .qn = made_make_norm(t, &s, "qn", t->head_dim),
                                    .kn = made_make_norm(t, &s, "kn", t->head_dim),
                                    .q = nn_make_linear(&s, "q", t->dim, q),
                                    .k = nn_make_linear(&s, "k", t->dim, kv),
                                    .v = nn_make_linear(&s, "v", t->dim, kv),
                                    .o = nn_make_linear(&s, "o", q, t->dim),
                                    .gate = nn_make_linear(&s, "gate", t->dim, t->ffn_dim),
                                    .up = nn_make_linear(&s, "up", t->dim, t->ffn_dim),
                                    .down = nn_make_linear(&s, "down", t->ffn_dim, t->dim),
                                    .attention = nn_make_attention(&s, &config)};
    }
    m->head = nn_make_head(root, "head", m->embed, t->dim, t->vocab);
}

static inline nn_tensor *made_mlp(const made_shape *t, nn_graph *g, const made_layer *l,
                                  nn_tensor *x) {
    nn_tensor *h = nn_project(g, &l->gate, x);
    if (t->no_gate) {
        h = nn_activate(g, t->act, h);
    } else {
        h = nn_gate(g, t->act, h, nn_project(g, &l->up, x));
    }
    nn_tensor *y = nn_project(g, &l->down, h);
    return t->loose ? nn_add(g, y, nn_project(g, &l->down, h)) : y;
}

static inline nn_tensor *made_forward(const void *model, nn_graph *g, nn_tensor *ids) {
    const made_nn *m = model;
    const made_shape *t = m->shape;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    for (int i = 0; i < t->n_layers; i++) {
        const made_layer *l = &m->layers[i];
        nn_tensor *h = nn_normalize(g, &l->n, x);
        const float bound = t->clamp ? 0.8f : 0;
        nn_tensor *q = nn_clamp(g, bound, nn_project(g, &l->q, h));
        nn_tensor *k = nn_clamp(g, bound, nn_project(g, &l->k, h));
        nn_tensor *v = nn_clamp(g, bound, nn_project(g, &l->v, h));
        if (t->qk_norm) {
            q = nn_normalize(g, &l->qn, q);
            k = nn_normalize(g, &l->kn, k);
        }
        if (t->loose) x = nn_add(g, x, h);
        x = nn_add(g, x, nn_project(g, &l->o, nn_attend(g, &l->attention, q, k, v)));
        x = nn_add(g, x, made_mlp(t, g, l, nn_normalize(g, &l->m, x)));
    }
    return nn_project(g, &m->head, nn_normalize(g, &m->norm, nn_wanted(g, x)));
}

static inline made *made_new(const made_shape *shape, int max_rows, int max_wanted) {
    static const nn_arch arch = {"Tiny", sizeof(made_nn), made_make, made_forward};
    made *t = mem_alloc(sizeof *t);
    t->shape = *shape;
    t->random.state = 1234 + (uint64_t)shape->type;
    t->capacity = 8 + 32 * (shape->n_layers + 1);
    checkpoint *c = &t->checkpoint;
    c->arena = arena_new();
    c->path = "made";
    c->tensors = ARENA_ARRAY(c->arena, tensor_view, (size_t)t->capacity);
    c->config = (nn_config){.dim = shape->dim,
                            .n_layers = shape->n_layers,
                            .n_heads = shape->n_heads,
                            .n_kv_heads = shape->n_kv_heads,
                            .head_dim = shape->head_dim,
                            .vocab = shape->vocab,
                            .alibi = shape->alibi,
                            .alibi_max_bias = 8};
    c->config.rope = (nn_rope){.dims = shape->rope_dims,
                               .interleaved = shape->interleaved,
                               .theta = 10000,
                               .divisors = (const float *)(const void *)&t->shape};
    made_weights(t);
    nn_graph *g;
    weir_error err;
    weir_status status = graph_record(&g, c->arena, &arch, c, &err);
    if (status == WEIR_OK) status = plan_make(&t->plan, g, c, max_rows, max_wanted, &err);
    if (status != WEIR_OK) {
        fprintf(stderr, "made model: %s\n", err.message);
        abort();
    }
    return t;
}

static inline void made_free(made *t) {
    plan_free(t->plan);
    if (t->shape.pool) {
        mem_unmap((void *)(uintptr_t)t->checkpoint.tensors[0].data, t->shape.pool);
    }
    arena_free(t->checkpoint.arena);
    mem_free(t);
}
