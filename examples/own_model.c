/* own_model.c - a family of models that weir does not have, added from outside: OLMo 2.
 *
 *     ./own_model FOLDER < ids.txt
 *
 * Token ids in; after each, the likeliest next id and its logit.
 *
 * Like Llama, but the norms stand behind attention and feed-forward layers instead of in front, and
 * all of q and all of k are normalised as one.  docs/adding_a_model.md goes through this file; the
 * tests hold what it prints against transformers.
 *
 * Groeneveld et al. 2024, arXiv 2501.00656.  Tensor names are Hugging Face's.
 *
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <weir/nn.h>

typedef struct block {
    nn_linear q, k, v, o;
    nn_norm q_norm, k_norm;
    nn_attention attn;
    nn_linear gate, up, down;
    nn_norm attn_norm, mlp_norm;
} block;

typedef struct olmo {
    nn_embedding embed;
    block layers[NN_MAX_LAYERS];
    int n_layers;
    nn_norm norm;
    nn_linear head;
} olmo;

static block make_block(const nn_scope *up, int i, const nn_config *c) {
    const nn_scope s = nn_at(up, "layers", i), a = nn_sub(&s, "self_attn"), f = nn_sub(&s, "mlp");
    const int q_dim = c->n_heads * c->head_dim, kv_dim = c->n_kv_heads * c->head_dim;
    return (block){
        .q = nn_make_linear(&a, "q_proj", c->dim, q_dim),
        .k = nn_make_linear(&a, "k_proj", c->dim, kv_dim),
        .v = nn_make_linear(&a, "v_proj", c->dim, kv_dim),
        .o = nn_make_linear(&a, "o_proj", q_dim, c->dim),
        .q_norm = nn_make_norm(&a, "q_norm", q_dim, c->norm_eps),
        .k_norm = nn_make_norm(&a, "k_norm", kv_dim, c->norm_eps),
        .attn = nn_make_attention(&a, c),
        .gate = nn_make_linear(&f, "gate_proj", c->dim, c->ffn_dim),
        .up = nn_make_linear(&f, "up_proj", c->dim, c->ffn_dim),
        .down = nn_make_linear(&f, "down_proj", c->ffn_dim, c->dim),
        .attn_norm = nn_make_norm(&s, "post_attention_layernorm", c->dim, c->norm_eps),
        .mlp_norm = nn_make_norm(&s, "post_feedforward_layernorm", c->dim, c->norm_eps),
    };
}

static void make(void *model, const nn_scope *root, const nn_config *c) {
    olmo *m = model;
    const nn_scope s = nn_sub(root, "model");
    m->embed = nn_make_embedding(&s, "embed_tokens", c->vocab, c->dim);
    m->n_layers = c->n_layers;
    for (int i = 0; i < m->n_layers; i++) m->layers[i] = make_block(&s, i, c);
    m->norm = nn_make_norm(&s, "norm", c->dim, c->norm_eps);
    m->head = nn_make_head(root, "lm_head", m->embed, c->dim, c->vocab);
}

static nn_tensor *attention(nn_graph *g, const block *b, nn_tensor *x) {
    nn_tensor *q = nn_normalize(g, &b->q_norm, nn_project(g, &b->q, x));
    nn_tensor *k = nn_normalize(g, &b->k_norm, nn_project(g, &b->k, x));
    nn_tensor *v = nn_project(g, &b->v, x);
    return nn_project(g, &b->o, nn_attend(g, &b->attn, q, k, v));
}

static nn_tensor *mlp(nn_graph *g, const block *b, nn_tensor *x) {
    nn_tensor *gate = nn_project(g, &b->gate, x);
    nn_tensor *up = nn_project(g, &b->up, x);
    return nn_project(g, &b->down, nn_gate(g, NN_SILU, gate, up));
}

static nn_tensor *forward(const void *model, nn_graph *g, nn_tensor *ids) {
    const olmo *m = model;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    for (int i = 0; i < m->n_layers; i++) {
        const block *b = &m->layers[i];
        x = nn_add(g, x, nn_normalize(g, &b->attn_norm, attention(g, b, x)));
        x = nn_add(g, x, nn_normalize(g, &b->mlp_norm, mlp(g, b, x)));
    }
    return nn_project(g, &m->head, nn_normalize(g, &m->norm, nn_wanted(g, x)));
}

static const nn_arch olmo2 = {"Olmo2ForCausalLM", sizeof(olmo), make, forward};

static weir_status run(weir_session *s, int vocab, weir_error *err) {
    for (int32_t id; scanf("%d", &id) == 1;) {
        const weir_status status = weir_session_feed(s, &id, 1, err);
        if (status != WEIR_OK) return status;
        const float *logits = weir_session_logits(s); /* [vocab] */
        int best = 0;
        for (int i = 1; i < vocab; i++) best = logits[i] > logits[best] ? i : best;
        printf("%d %.5f\n", best, (double)logits[best]);
    }
    return WEIR_OK;
}

int main(int argc, char **argv) {
    const weir_engine_options options = {.arch = &olmo2, .kv_type = WEIR_F32};
    weir_engine *engine = NULL;
    weir_session *session = NULL;
    weir_engine_info info;
    weir_error err;
    if (argc != 2) {
        fprintf(stderr, "usage: own_model FOLDER < ids.txt\n");
        return 2;
    }
    weir_status status = weir_engine_open(&engine, argv[1], &options, &err);
    if (status == WEIR_OK) status = weir_session_open(&session, engine, NULL, &err);
    if (status == WEIR_OK) {
        weir_engine_get_info(engine, &info);
        status = run(session, info.vocab, &err);
    }
    if (status != WEIR_OK) fprintf(stderr, "own_model: %s\n", err.message);
    weir_session_close(session);
    weir_engine_close(engine);
    return status == WEIR_OK ? 0 : 1;
}
