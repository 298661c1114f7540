/* falcon.c - Falcon: 7B (one K/V head, parallel block), 40B and 180B (grouped heads, two norms),
 * RW-1B (ALiBi, one after the other).
 *
 * query_key_value holds, for each K/V head, its query heads, its key and its value (RW: q, k, v of
 * each head); GGUF files hold all queries, then keys, then values.
 *
 *     old, parallel      y = norm(x);          x + attn(y) + mlp(y)
 *     old, sequential    h = x + attn(norm(x)); h + mlp(norm'(h))
 *     new, two norms     x + attn(ln_attn(x)) + mlp(ln_mlp(x))
 *     new, one norm      as old, parallel
 *
 * Almazrouei et al. 2023, arXiv 2311.16867.  Tensor names are Hugging Face's.
 *
 * SPDX-License-Identifier: MIT */
#include "weir/nn.h"

#include <math.h>

typedef struct block {
    nn_norm attn_norm, mlp_norm; /* mlp_norm.weight NULL: the MLP reads attn_norm's result */
    nn_linear q, k, v, o;
    nn_attention attn;
    nn_linear up, down;
} block;

typedef struct falcon {
    nn_embedding embed;
    block layers[NN_MAX_LAYERS];
    int n_layers;
    bool is_parallel;
    nn_act act;
    nn_norm norm;
    nn_linear head;
} falcon;

/* Rows of part 0 (q), 1 (k) or 2 (v) in query_key_value. */
static nn_rows qkv_rows(const nn_config *c, int part) {
    const int hd = c->head_dim, groups = c->n_kv_heads, per_group = c->n_heads / groups;
    const int q_dim = c->n_heads * hd, kv_dim = groups * hd;
    if (c->qkv_concatenated) {
        if (part == 0) return (nn_rows){0, q_dim, q_dim, 1};
        return (nn_rows){q_dim + (part - 1) * kv_dim, kv_dim, kv_dim, 1};
    }
    const int stride = (per_group + 2) * hd;
    if (part == 0) return (nn_rows){0, per_group * hd, stride, groups};
    return (nn_rows){(per_group + part - 1) * hd, hd, stride, groups};
}

static void make_norms(block *b, const nn_scope *s, const nn_config *c) {
    const bool has_two = c->new_decoder && nn_has(s, "ln_attn");
    b->attn_norm =
        nn_make_layer_norm(s, has_two ? "ln_attn" : "input_layernorm", c->dim, c->norm_eps);
    if (has_two) {
        b->mlp_norm = nn_make_layer_norm(s, "ln_mlp", c->dim, c->norm_eps);
    } else if (!c->parallel_residual) {
        b->mlp_norm = nn_make_layer_norm(s, "post_attention_layernorm", c->dim, c->norm_eps);
    }
}

static block make_block(const nn_scope *up, int i, const nn_config *c) {
    const nn_scope s = nn_at(up, "h", i), a = nn_sub(&s, "self_attention"), f = nn_sub(&s, "mlp");
    const char *qkv = "query_key_value";
    const int dim = c->dim, stored = (c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
    block b = {
        .q = nn_make_linear_rows(&a, qkv, dim, stored, qkv_rows(c, 0)),
        .k = nn_make_linear_rows(&a, qkv, dim, stored, qkv_rows(c, 1)),
        .v = nn_make_linear_rows(&a, qkv, dim, stored, qkv_rows(c, 2)),
        .o = nn_make_linear(&a, "dense", c->n_heads * c->head_dim, dim),
        .attn = nn_make_attention(&a, c),
        .up = nn_make_linear(&f, "dense_h_to_4h", dim, c->ffn_dim),
        .down = nn_make_linear(&f, "dense_4h_to_h", c->ffn_dim, dim),
    };
    b.attn.alibi_scale = b.attn.scale; /* Falcon scales scores and bias together */
    make_norms(&b, &s, c);
    return b;
}

static void make(void *model, const nn_scope *root, const nn_config *c) {
    falcon *m = model;
    const nn_scope s = nn_sub(root, "transformer");
    m->embed = nn_make_embedding(&s, "word_embeddings", c->vocab, c->dim);
    m->n_layers = c->n_layers;
    m->is_parallel = c->parallel_residual || c->new_decoder;
    m->act = c->act;
    for (int i = 0; i < m->n_layers; i++) m->layers[i] = make_block(&s, i, c);
    m->norm = nn_make_layer_norm(&s, "ln_f", c->dim, c->norm_eps);
    m->head = nn_make_head(root, "lm_head", m->embed, c->dim, c->vocab);
}

static nn_tensor *attention(nn_graph *g, const block *b, nn_tensor *x) {
    nn_tensor *q = nn_project(g, &b->q, x);
    nn_tensor *k = nn_project(g, &b->k, x);
    nn_tensor *v = nn_project(g, &b->v, x);
    return nn_project(g, &b->o, nn_attend(g, &b->attn, q, k, v));
}

static nn_tensor *mlp(nn_graph *g, const falcon *m, const block *b, nn_tensor *x) {
    return nn_project(g, &b->down, nn_activate(g, m->act, nn_project(g, &b->up, x)));
}

static nn_tensor *forward(const void *model, nn_graph *g, nn_tensor *ids) {
    const falcon *m = model;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    for (int i = 0; i < m->n_layers; i++) {
        const block *b = &m->layers[i];
        nn_tensor *y = nn_normalize(g, &b->attn_norm, x);
        nn_tensor *h = nn_add(g, x, attention(g, b, y));
        if (b->mlp_norm.weight) y = nn_normalize(g, &b->mlp_norm, m->is_parallel ? x : h);
        x = nn_add(g, h, mlp(g, m, b, y));
    }
    return nn_project(g, &m->head, nn_normalize(g, &m->norm, nn_wanted(g, x)));
}

extern const nn_arch model_falcon;
const nn_arch model_falcon = {"FalconForCausalLM", sizeof(falcon), make, forward};
