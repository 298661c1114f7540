/* gpt_neox.c - GPT-NeoX: Pythia, GPT-NeoX-20B, Dolly, StableLM alpha.
 *
 * LayerNorm blocks whose attention and MLP read the same input, each through a norm of its own
 * (or one after the other when parallel_residual is off); q, k and v lie in one matrix, head by
 * head, or one after the other in GGUF files.
 *
 * Black et al. 2022, arXiv 2204.06745.  Tensor names are Hugging Face's.
 *
 * SPDX-License-Identifier: MIT */
#include "weir/nn.h"

typedef struct block {
    nn_norm attn_norm, mlp_norm;
    nn_linear q, k, v, o;
    nn_attention attn;
    nn_linear up, down;
} block;

typedef struct gpt_neox {
    nn_embedding embed;
    block layers[NN_MAX_LAYERS];
    int n_layers;
    bool is_parallel;
    nn_act act;
    nn_norm norm;
    nn_linear head;
} gpt_neox;

/* Rows of part 0 (q), 1 (k) or 2 (v) in query_key_value. */
static nn_rows qkv_rows(const nn_config *c, int part) {
    const int hd = c->head_dim;
    if (c->qkv_concatenated) return (nn_rows){part * c->dim, c->dim, c->dim, 1};
    return (nn_rows){part * hd, hd, 3 * hd, c->n_heads};
}

static block make_block(const nn_scope *up, int i, const nn_config *c) {
    const nn_scope s = nn_at(up, "layers", i), a = nn_sub(&s, "attention"), f = nn_sub(&s, "mlp");
    const char *qkv = "query_key_value";
    const int dim = c->dim, stored = 3 * dim;
    return (block){
        .attn_norm = nn_make_layer_norm(&s, "input_layernorm", dim, c->norm_eps),
        .q = nn_make_linear_rows(&a, qkv, dim, stored, qkv_rows(c, 0)),
        .k = nn_make_linear_rows(&a, qkv, dim, stored, qkv_rows(c, 1)),
        .v = nn_make_linear_rows(&a, qkv, dim, stored, qkv_rows(c, 2)),
        .o = nn_make_linear(&a, "dense", dim, dim),
        .attn = nn_make_attention(&a, c),
        .mlp_norm = nn_make_layer_norm(&s, "post_attention_layernorm", dim, c->norm_eps),
        .up = nn_make_linear(&f, "dense_h_to_4h", dim, c->ffn_dim),
        .down = nn_make_linear(&f, "dense_4h_to_h", c->ffn_dim, dim),
    };
}

static void make(void *model, const nn_scope *root, const nn_config *c) {
    gpt_neox *m = model;
    const nn_scope s = nn_sub(root, "gpt_neox");
    m->embed = nn_make_embedding(&s, "embed_in", c->vocab, c->dim);
    m->n_layers = c->n_layers;
    m->is_parallel = c->parallel_residual;
    m->act = c->act;
    for (int i = 0; i < m->n_layers; i++) m->layers[i] = make_block(&s, i, c);
    m->norm = nn_make_layer_norm(&s, "final_layer_norm", c->dim, c->norm_eps);
    m->head = nn_make_head(root, "embed_out", m->embed, c->dim, c->vocab);
}

static nn_tensor *attention(nn_graph *g, const block *b, nn_tensor *x) {
    nn_tensor *q = nn_project(g, &b->q, x);
    nn_tensor *k = nn_project(g, &b->k, x);
    nn_tensor *v = nn_project(g, &b->v, x);
    return nn_project(g, &b->o, nn_attend(g, &b->attn, q, k, v));
}

static nn_tensor *mlp(nn_graph *g, const gpt_neox *m, const block *b, nn_tensor *x) {
    return nn_project(g, &b->down, nn_activate(g, m->act, nn_project(g, &b->up, x)));
}

static nn_tensor *forward(const void *model, nn_graph *g, nn_tensor *ids) {
    const gpt_neox *m = model;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    for (int i = 0; i < m->n_layers; i++) {
        const block *b = &m->layers[i];
        nn_tensor *y = nn_add(g, x, attention(g, b, nn_normalize(g, &b->attn_norm, x)));
        nn_tensor *from = m->is_parallel ? x : y;
        x = nn_add(g, y, mlp(g, m, b, nn_normalize(g, &b->mlp_norm, from)));
    }
    return nn_project(g, &m->head, nn_normalize(g, &m->norm, nn_wanted(g, x)));
}

extern const nn_arch model_gpt_neox;
const nn_arch model_gpt_neox = {"GPTNeoXForCausalLM", sizeof(gpt_neox), make, forward};
