/* module.c - the nouns of weir/nn.h: names in the checkpoint become parameters.
 *
 * A scope is a path ("model", "layers.7", "self_attn"); a module asks for path + name + ".weight".
 * What is missing or of the wrong shape is kept in the loader as its first error, with the full
 * name, what was found and what was wanted.
 *
 * Test: tests/nn/test_graph.c.
 *
 * SPDX-License-Identifier: MIT */
#include "nn/graph.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 256, SHAPE_BYTES = 48, SCALE_BLOCK = 128 };

nn_scope nn_sub(const nn_scope *parent, const char *name) {
    return (nn_scope){parent->loader, parent, name, -1};
}

nn_scope nn_at(const nn_scope *parent, const char *name, int index) {
    return (nn_scope){parent->loader, parent, name, index};
}

/* Appends "name." or "name.7." of s and everything above it; returns the length so far. */
static size_t write_path(const nn_scope *s, char *out, size_t at) {
    if (s->parent) at = write_path(s->parent, out, at);
    if (!s->name || at >= NAME_BYTES) return at;
    const int n = s->index < 0 ? snprintf(out + at, NAME_BYTES - at, "%s.", s->name)
                               : snprintf(out + at, NAME_BYTES - at, "%s.%d.", s->name, s->index);
    return at + (size_t)n;
}

/* path + name + suffix; cut names find nothing and are reported as they are. */
static void full_name(const nn_scope *s, const char *name, const char *suffix,
                      char out[NAME_BYTES]) {
    const size_t at = write_path(s, out, 0);
    if (at < NAME_BYTES) snprintf(out + at, NAME_BYTES - at, "%s%s", name, suffix);
}

static const tensor_view *find(const nn_scope *s, const char *name, const char *suffix) {
    char full[NAME_BYTES] = "";
    full_name(s, name, suffix, full);
    return checkpoint_find(s->loader->checkpoint, full);
}

bool nn_has(const nn_scope *s, const char *name) {
    return find(s, name, "") || find(s, name, ".weight");
}

/* "[rows, cols]", or "[cols]" when rows is 0. */
static const char *shape(char out[SHAPE_BYTES], int64_t rows, int64_t cols) {
    if (rows) {
        snprintf(out, SHAPE_BYTES, "[%" PRId64 ", %" PRId64 "]", rows, cols);
    } else {
        snprintf(out, SHAPE_BYTES, "[%" PRId64 "]", cols);
    }
    return out;
}

static int64_t blocks_of(int64_t n) {
    return (n + SCALE_BLOCK - 1) / SCALE_BLOCK;
}

/* How the scales of an FP8 matrix are shared out; false: not in any way that is known. */
static bool share_scales(nn_param *p) {
    const tensor_view *v = p->scale;
    const int64_t rows = v->dims[0], cols = v->n_dims == 2 ? v->dims[1] : 1;
    if (v->n_dims > 2) return false;
    if (rows == 1 && cols == 1) {
        p->scale_rows = p->n_rows, p->scale_cols = p->n_cols;
    } else if (rows == p->n_rows && cols == 1) {
        p->scale_rows = 1, p->scale_cols = p->n_cols;
    } else {
        p->scale_rows = p->scale_cols = SCALE_BLOCK;
        return rows == blocks_of(p->n_rows) && cols == blocks_of(p->n_cols);
    }
    return true;
}

/* Scales whose weights are numbers of 16 bits: back ends may keep them so. */
static bool are_scales_sound(const tensor_view *v) {
    const size_t bytes = tensor_row_bytes(v->type, 1);
    for (uint64_t i = 0; i < v->bytes / bytes; i++) {
        float x;
        tensor_row_to_float(v->type, (const char *)v->data + i * bytes, &x, 1);
        if (!(x >= 0 && x <= 65504.0f / 448)) return false;
    }
    return true;
}

/* The scales of an FP8 matrix: name.weight_scale of one or of each row (compressed-tensors,
 * FBGEMM), name.weight_scale_inv of each 128 x 128 (DeepSeek); both are multiplied by. */
static void bind_scales(const nn_scope *s, const char *name, nn_param *p) {
    nn_loader *l = s->loader;
    char full[NAME_BYTES] = "", found[SHAPE_BYTES];
    p->scale = find(s, name, ".weight_scale_inv");
    full_name(s, name, p->scale ? ".weight_scale_inv" : ".weight_scale", full);
    if (!p->scale) p->scale = find(s, name, ".weight_scale");
    if (l->error.status != WEIR_OK) return;
    if (!p->scale || p->view->n_dims != 2) {
        weir_fail(&l->error, WEIR_ERR_MODEL, "%s: is missing, FP8 weights want scales", full);
    } else if (!tensor_type_is_float(p->scale->type) || p->scale->type == TENSOR_FP8) {
        weir_fail(&l->error, WEIR_ERR_MODEL, "%s: is %s, wanted are F32, F16 or BF16", full,
                  tensor_type_name(p->scale->type));
    } else if (!share_scales(p)) {
        weir_fail(&l->error, WEIR_ERR_MODEL,
                  "%s: is %s, FP8 weights want [1], [%d, 1] or [%" PRId64 ", %" PRId64 "]", full,
                  shape(found, p->scale->n_dims > 1 ? p->scale->dims[0] : 0,
                        p->scale->dims[p->scale->n_dims > 1]),
                  p->n_rows, blocks_of(p->n_rows), blocks_of(p->n_cols));
    } else if (!are_scales_sound(p->scale)) {
        weir_fail(&l->error, WEIR_ERR_MODEL, "%s: has numbers out of [0, 146]", full);
    }
}

/* The tensor as [rows, cols]; rows 0: a vector of cols.  Absent: an error unless optional. */
static const nn_param *bind(const nn_scope *s, const char *name, const char *suffix, int rows,
                            int cols, bool optional) {
    nn_loader *l = s->loader;
    char full[NAME_BYTES] = "", found[SHAPE_BYTES], wanted[SHAPE_BYTES];
    full_name(s, name, suffix, full);
    const tensor_view *v = checkpoint_find(l->checkpoint, full);
    if (!v) {
        if (!optional && l->error.status == WEIR_OK) {
            weir_fail(&l->error, WEIR_ERR_MODEL, "%s: is missing, model wants %s", full,
                      shape(wanted, rows, cols));
        }
        return NULL;
    }
    const bool is_vector = rows == 0;
    const int64_t found_rows = v->n_dims == 2 ? v->dims[0] : 0;
    const int64_t found_cols = v->n_dims == 2 ? v->dims[1] : v->n_dims == 1 ? v->dims[0] : -1;
    if (found_cols != cols || found_rows != rows || (is_vector && v->n_dims != 1)) {
        if (l->error.status == WEIR_OK) {
            weir_fail(&l->error, WEIR_ERR_MODEL, "%s: is %s, model wants %s", full,
                      shape(found, found_rows, found_cols), shape(wanted, rows, cols));
        }
        return NULL;
    }
    nn_param *p = ARENA_NEW(l->arena, nn_param);
    if (!p) {
        weir_fail(&l->error, WEIR_ERR_MEMORY, "%s: out of memory", full);
        return NULL;
    }
    const int n = is_vector ? 1 : rows;
    *p = (nn_param){.view = v, .rows = {0, n, n, 1}, .n_rows = n, .n_cols = cols};
    if (v->type == TENSOR_FP8) bind_scales(s, name, p);
    return p;
}

/* Narrows a bound matrix, or the vector of its bias, to some of its rows. */
static const nn_param *narrow(nn_loader *l, const nn_param *whole, nn_rows rows) {
    if (!whole) return NULL;
    nn_param *p = ARENA_NEW(l->arena, nn_param);
    const int stored = whole->view->n_dims == 2 ? whole->n_rows : whole->n_cols;
    const int64_t end = rows.first + (int64_t)rows.stride * (rows.n_blocks - 1) + rows.block;
    const bool inside = rows.first >= 0 && rows.block > 0 && rows.n_blocks > 0 &&
                        rows.stride >= rows.block && end <= stored;
    if (!p || !inside) {
        if (l->error.status == WEIR_OK) {
            weir_fail(&l->error, WEIR_ERR_MODEL, "%s: has %d rows, model takes rows up to %lld",
                      whole->view->name, stored, (long long)end);
        }
        return NULL;
    }
    const int n = rows.block * rows.n_blocks;
    *p = *whole;
    p->rows = rows;
    if (whole->view->n_dims == 2) {
        p->n_rows = n;
    } else {
        p->n_cols = n;
    }
    return p;
}

nn_linear nn_make_linear(const nn_scope *s, const char *name, int in, int out) {
    return (nn_linear){.weight = bind(s, name, ".weight", out, in, false),
                       .bias = bind(s, name, ".bias", 0, out, true)};
}

nn_linear nn_make_linear_rows(const nn_scope *s, const char *name, int in, int out_stored,
                              nn_rows rows) {
    const nn_linear whole = nn_make_linear(s, name, in, out_stored);
    return (nn_linear){.weight = narrow(s->loader, whole.weight, rows),
                       .bias = narrow(s->loader, whole.bias, rows)};
}

nn_linear nn_make_head(const nn_scope *s, const char *name, nn_embedding tied, int in, int out) {
    if (nn_has(s, name)) return nn_make_linear(s, name, in, out);
    return (nn_linear){.weight = tied.weight};
}

nn_embedding nn_make_embedding(const nn_scope *s, const char *name, int vocab, int dim) {
    return (nn_embedding){.weight = bind(s, name, ".weight", vocab, dim, false)};
}

nn_norm nn_make_norm(const nn_scope *s, const char *name, int dim, float eps) {
    return (nn_norm){.weight = bind(s, name, ".weight", 0, dim, false), .eps = eps, .group = dim};
}

nn_norm nn_make_layer_norm(const nn_scope *s, const char *name, int dim, float eps) {
    return (nn_norm){.weight = bind(s, name, ".weight", 0, dim, false),
                     .bias = bind(s, name, ".bias", 0, dim, true),
                     .eps = eps,
                     .group = dim,
                     .is_layer = true};
}

/* The number of the layer a scope lies in: the nearest index on the way up. */
static int layer_of(const nn_scope *s) {
    while (s && s->index < 0) s = s->parent;
    return s ? s->index : 0;
}

nn_attention nn_make_attention(const nn_scope *s, const nn_config *c) {
    const float scale =
        c->attention_scale != 0 ? c->attention_scale : 1.0f / sqrtf((float)c->head_dim);
    return (nn_attention){.layer = layer_of(s),
                          .n_heads = c->n_heads,
                          .n_kv_heads = c->n_kv_heads,
                          .head_dim = c->head_dim,
                          .scale = scale,
                          .rope = c->rope,
                          .alibi = c->alibi,
                          .alibi_max_bias = c->alibi_max_bias,
                          .alibi_scale = 1};
}
