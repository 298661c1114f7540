/* gguf_names.c - one table per family: what a tensor is called in a GGUF and in Hugging Face's
 * checkpoints.
 *
 *   name := stem suffix                  stem of the whole model: "output_norm"
 *         | "blk." N "." stem suffix     stem of a layer: "attn_q"
 *   suffix := ".weight" | ".bias"
 *
 * Falcon has one stem with two meanings: attn_norm is ln_mlp in blocks that also have attn_norm_2
 * (ln_attn), and input_layernorm in the others.
 *
 * SPDX-License-Identifier: MIT */
#include "format/gguf_names.h"

#include <stdio.h>
#include <string.h>

enum { NAME_SIZE = 160 };

typedef struct rename_rule {
    const char *from, *to; /* of a stem */
} rename_rule;

struct naming {
    const char *arch;
    const char *layers;    /* "model.layers" */
    rename_rule model[4];  /* stems of the whole model, up to a NULL */
    rename_rule layer[13]; /* stems of a layer, up to a NULL         */
};

#define GATED_NAMES                                                                          \
    .layers = "model.layers",                                                                \
    .model = {{"token_embd", "model.embed_tokens"},                                          \
              {"output_norm", "model.norm"},                                                 \
              {"output", "lm_head"}},                                                        \
    .layer = {{"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},           \
              {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},           \
              {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},      \
              {"attn_k_norm", "self_attn.k_norm"}, {"ffn_norm", "post_attention_layernorm"}, \
              {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},                \
              {"ffn_down", "mlp.down_proj"}}

static const struct naming namings[] = {
    {.arch = "llama", GATED_NAMES},
    {.arch = "mistral", GATED_NAMES},
    {.arch = "qwen2", GATED_NAMES},
    {.arch = "qwen3", GATED_NAMES},
    {.arch = "gptneox",
     .layers = "gpt_neox.layers",
     .model = {{"token_embd", "gpt_neox.embed_in"},
               {"output_norm", "gpt_neox.final_layer_norm"},
               {"output", "embed_out"}},
     .layer = {{"attn_norm", "input_layernorm"},
               {"attn_qkv", "attention.query_key_value"},
               {"attn_output", "attention.dense"},
               {"ffn_norm", "post_attention_layernorm"},
               {"ffn_up", "mlp.dense_h_to_4h"},
               {"ffn_down", "mlp.dense_4h_to_h"}}},
    {.arch = "mpt",
     .layers = "transformer.blocks",
     .model = {{"token_embd", "transformer.wte"},
               {"output_norm", "transformer.norm_f"},
               {"output", "lm_head"}},
     .layer = {{"attn_norm", "norm_1"},
               {"attn_qkv", "attn.Wqkv"},
               {"attn_output", "attn.out_proj"},
               {"ffn_norm", "norm_2"},
               {"ffn_up", "ffn.up_proj"},
               {"ffn_down", "ffn.down_proj"}}},
    {.arch = "falcon",
     .layers = "transformer.h",
     .model = {{"token_embd", "transformer.word_embeddings"},
               {"output_norm", "transformer.ln_f"},
               {"output", "lm_head"}},
     .layer = {{"attn_norm", "input_layernorm"},
               {"attn_norm_2", "ln_attn"},
               {"attn_qkv", "self_attention.query_key_value"},
               {"attn_output", "self_attention.dense"},
               {"ffn_up", "mlp.dense_h_to_4h"},
               {"ffn_down", "mlp.dense_4h_to_h"}}},
};

static const struct naming *find_naming(const gguf *g) {
    gguf_string arch;
    if (!gguf_get_string(g, "general.architecture", &arch)) return NULL;
    for (size_t i = 0; i < COUNT_OF(namings); i++) {
        const size_t size = strlen(namings[i].arch);
        if (arch.size == size && memcmp(arch.data, namings[i].arch, size) == 0) return &namings[i];
    }
    return NULL;
}

static const char *apply(const rename_rule *rules, const char *stem) {
    for (; rules->from; rules++) {
        if (strcmp(rules->from, stem) == 0) return rules->to;
    }
    return NULL;
}

gguf_naming gguf_naming_make(const gguf *g) {
    static const char second[] = "blk.0.attn_norm_2.weight";
    gguf_naming naming = {.table = find_naming(g)};
    for (int i = 0; i < gguf_n_tensors(g); i++) {
        const gguf_string name = gguf_tensor_at(g, i)->name;
        if (name.size == sizeof second - 1 && memcmp(name.data, second, name.size) == 0) {
            naming.has_two_norms = true;
        }
    }
    return naming;
}

/* Parses "blk.N."; returns what follows and the number, or NULL. */
static const char *after_block(const char *name, int *block) {
    *block = 0;
    if (strncmp(name, "blk.", 4) != 0) return NULL;
    const char *p = name + 4;
    int n = 0;
    if (*p < '0' || *p > '9') return NULL;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (n > 99999) return NULL;
        n = 10 * n + (*p - '0');
    }
    *block = n;
    return *p == '.' ? p + 1 : NULL;
}

/* Writes the translation of a terminated name, which it cuts; false when there is none. */
static bool translate(char out[NAME_SIZE], const gguf_naming *naming, char *name) {
    const struct naming *n = naming->table;
    char *dot = strrchr(name, '.');
    if (!dot || (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0)) return false;
    *dot = 0; /* name is the stem, dot + 1 the suffix */
    int block;
    const char *stem = after_block(name, &block);
    const char *to = stem ? apply(n->layer, stem) : apply(n->model, name);
    if (!to) return false;
    if (!stem) {
        snprintf(out, NAME_SIZE, "%s.%s", to, dot + 1);
        return true;
    }
    if (naming->has_two_norms && strcmp(stem, "attn_norm") == 0) to = "ln_mlp";
    snprintf(out, NAME_SIZE, "%s.%d.%s.%s", n->layers, block, to, dot + 1);
    return true;
}

const char *gguf_translate_name(arena *a, const gguf_naming *naming, gguf_string name) {
    char copy[NAME_SIZE], out[NAME_SIZE];
    if (naming->table && name.size < sizeof copy) {
        memcpy(copy, name.data, name.size);
        copy[name.size] = 0;
        if (translate(out, naming, copy)) return arena_copy(a, out, strlen(out));
    }
    return arena_copy(a, name.data, name.size);
}
