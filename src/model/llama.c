/* llama.c - Llama 1 to 3, Mistral, Qwen2, Qwen3, SmolLM, TinyLlama, Yi.
 *
 * Pre-norm blocks of grouped-query attention and SwiGLU.  What the family's members differ in is in
 * the checkpoint: biases of q, k, v (Qwen2), norms of each head of q and k (Qwen3), a tied head.
 *
 * Touvron et al. 2023, arXiv 2302.13971.  Tensor names are Hugging Face's.
 *
 * SPDX-License-Identifier: MIT */
#include "weir/nn.h"

typedef struct block {
    nn_norm attn_norm, mlp_norm;
    nn_linear q, k, v, o;
    nn_norm q_norm, k_norm; /* Qwen3 only */
    nn_attention attn;
    nn_linear gate, up, down;
    nn_act act;
} block;

typedef struct llama {
    nn_embedding embed;
    block layers[NN_MAX_LAYERS];
    int n_layers;
    nn_norm norm;
    nn_linear head;
} llama;

static block make_block(const nn_scope *up, int i, const nn_config *c) {
    const nn_scope s = nn_at(up, "layers", i), a = nn_sub(&s, "self_attn"), f = nn_sub(&s, "mlp");
    const int q_dim = c->n_heads * c->head_dim, kv_dim = c->n_kv_heads * c->head_dim;
    block b = {
        .attn_norm = nn_make_norm(&s, "input_layernorm", c->dim, c->norm_eps),
        .q = nn_make_linear(&a, "q_proj", c->dim, q_dim),
        .k = nn_make_linear(&a, "k_proj", c->dim, kv_dim),
        .v = nn_make_linear(&a, "v_proj", c->dim, kv_dim),
        .o = nn_make_linear(&a, "o_proj", q_dim, c->dim),
        .attn = nn_make_attention(&a, c),
        .mlp_norm = nn_make_norm(&s, "post_attention_layernorm", c->dim, c->norm_eps),
        .gate = nn_make_linear(&f, "gate_proj", c->dim, c->ffn_dim),
        .up = nn_make_linear(&f, "up_proj", c->dim, c->ffn_dim),
        .down = nn_make_linear(&f, "down_proj", c->ffn_dim, c->dim),
        .act = c->act,
    };
    if (nn_has(&a, "q_norm")) {
        b.q_norm = nn_make_norm(&a, "q_norm", c->head_dim, c->norm_eps);
        b.k_norm = nn_make_norm(&a, "k_norm", c->head_dim, c->norm_eps);
    }
    return b;
}

static void make(void *model, const nn_scope *root, const nn_config *c) {
    llama *m = model;
    const nn_scope s = nn_sub(root, "model");
    m->embed = nn_make_embedding(&s, "embed_tokens", c->vocab, c->dim);
    m->n_layers = c->n_layers;
    for (int i = 0; i < m->n_layers; i++) m->layers[i] = make_block(&s, i, c);
    m->norm = nn_make_norm(&s, "norm", c->dim, c->norm_eps);
    m->head = nn_make_head(root, "lm_head", m->embed, c->dim, c->vocab);
}

static nn_tensor *attention(nn_graph *g, const block *b, nn_tensor *x) {
    nn_tensor *q = nn_project(g, &b->q, x);
    nn_tensor *k = nn_project(g, &b->k, x);
    nn_tensor *v = nn_project(g, &b->v, x);
    if (b->q_norm.weight) {
        q = nn_normalize(g, &b->q_norm, q);
        k = nn_normalize(g, &b->k_norm, k);
    }
    return nn_project(g, &b->o, nn_attend(g, &b->attn, q, k, v));
}

static nn_tensor *mlp(nn_graph *g, const block *b, nn_tensor *x) {
    nn_tensor *gate = nn_project(g, &b->gate, x);
    nn_tensor *up = nn_project(g, &b->up, x);
    return nn_project(g, &b->down, nn_gate(g, b->act, gate, up));
}

static nn_tensor *forward(const void *model, nn_graph *g, nn_tensor *ids) {
    const llama *m = model;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    for (int i = 0; i < m->n_layers; i++) {
        const block *b = &m->layers[i];
        x = nn_add(g, x, attention(g, b, nn_normalize(g, &b->attn_norm, x)));
        x = nn_add(g, x, mlp(g, b, nn_normalize(g, &b->mlp_norm, x)));
    }
    return nn_project(g, &m->head, nn_normalize(g, &m->norm, nn_wanted(g, x)));
}

extern const nn_arch model_llama;
const nn_arch model_llama = {"LlamaForCausalLM", sizeof(llama), make, forward};
