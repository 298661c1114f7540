/* mpt.c - MPT: pre-norm blocks, ALiBi instead of rotation, one matrix for q, k and v.
 *
 * Wqkv holds q, k and v one after the other and may be clamped (clip_qkv); norms usually have no
 * bias; the head is tied to the embedding.
 *
 * MosaicML 2023.  Tensor names are Hugging Face's.
 *
 * SPDX-License-Identifier: MIT */
#include "weir/nn.h"

typedef struct block {
    nn_norm attn_norm, mlp_norm;
    nn_linear q, k, v, o;
    nn_attention attn;
    nn_linear up, down;
} block;

typedef struct mpt {
    nn_embedding embed;
    block layers[NN_MAX_LAYERS];
    int n_layers;
    float clip;
    nn_act act;
    nn_norm norm;
    nn_linear head;
} mpt;

static block make_block(const nn_scope *up, int i, const nn_config *c) {
    const nn_scope s = nn_at(up, "blocks", i), a = nn_sub(&s, "attn"), f = nn_sub(&s, "ffn");
    const int dim = c->dim, kv_dim = c->n_kv_heads * c->head_dim, stored = dim + 2 * kv_dim;
    return (block){
        .attn_norm = nn_make_layer_norm(&s, "norm_1", dim, c->norm_eps),
        .q = nn_make_linear_rows(&a, "Wqkv", dim, stored, (nn_rows){0, dim, dim, 1}),
        .k = nn_make_linear_rows(&a, "Wqkv", dim, stored, (nn_rows){dim, kv_dim, kv_dim, 1}),
        .v = nn_make_linear_rows(&a, "Wqkv", dim, stored,
                                 (nn_rows){dim + kv_dim, kv_dim, kv_dim, 1}),
        .o = nn_make_linear(&a, "out_proj", dim, dim),
        .attn = nn_make_attention(&a, c),
        .mlp_norm = nn_make_layer_norm(&s, "norm_2", dim, c->norm_eps),
        .up = nn_make_linear(&f, "up_proj", dim, c->ffn_dim),
        .down = nn_make_linear(&f, "down_proj", c->ffn_dim, dim),
    };
}

static void make(void *model, const nn_scope *root, const nn_config *c) {
    mpt *m = model;
    const nn_scope s = nn_sub(root, "transformer");
    m->embed = nn_make_embedding(&s, "wte", c->vocab, c->dim);
    m->n_layers = c->n_layers;
    m->clip = c->clip_qkv;
    m->act = c->act;
    for (int i = 0; i < m->n_layers; i++) m->layers[i] = make_block(&s, i, c);
    m->norm = nn_make_layer_norm(&s, "norm_f", c->dim, c->norm_eps);
    m->head = nn_make_head(root, "lm_head", m->embed, c->dim, c->vocab);
}

static nn_tensor *attention(nn_graph *g, const mpt *m, const block *b, nn_tensor *x) {
    nn_tensor *q = nn_clamp(g, m->clip, nn_project(g, &b->q, x));
    nn_tensor *k = nn_clamp(g, m->clip, nn_project(g, &b->k, x));
    nn_tensor *v = nn_clamp(g, m->clip, nn_project(g, &b->v, x));
    return nn_project(g, &b->o, nn_attend(g, &b->attn, q, k, v));
}

static nn_tensor *mlp(nn_graph *g, const mpt *m, const block *b, nn_tensor *x) {
    return nn_project(g, &b->down, nn_activate(g, m->act, nn_project(g, &b->up, x)));
}

static nn_tensor *forward(const void *model, nn_graph *g, nn_tensor *ids) {
    const mpt *m = model;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    for (int i = 0; i < m->n_layers; i++) {
        const block *b = &m->layers[i];
        x = nn_add(g, x, attention(g, m, b, nn_normalize(g, &b->attn_norm, x)));
        x = nn_add(g, x, mlp(g, m, b, nn_normalize(g, &b->mlp_norm, x)));
    }
    return nn_project(g, &m->head, nn_normalize(g, &m->norm, nn_wanted(g, x)));
}

extern const nn_arch model_mpt;
const nn_arch model_mpt = {"MPTForCausalLM", sizeof(mpt), make, forward};
