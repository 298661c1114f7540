/* nn.h - define a transformer in C the way one does in PyTorch.
 *
 * A model is a struct of modules and two functions.  `make` binds the modules to the checkpoint,
 * each under the name its weights have there; `forward` says how activations flow through them.
 * Neither computes anything: `forward` runs once, recording a graph that the engine then plans
 * into one arena and runs on any back end.
 *
 * Every activation is a matrix [n, features].  n, the tokens of one step, is the only size not
 * known at load.  Positions, masks, rotation and eviction live inside nn_attend, so every model
 * written here can stream.
 *
 * Modules are nouns, operations are verbs.  Errors are sticky: a bad call is recorded with the
 * module's path and yields a harmless value; the compiler of the graph reports the first.  Model
 * code has no error checks and frees nothing: the graph owns all tensors, the checkpoint owns all
 * weights.
 *
 * docs/adding_a_model.md writes one from nothing; src/model/llama.c is the model to read.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "weir/weir.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { NN_MAX_LAYERS = 256 };

/* ------------------------------------------------------------------ configuration */

typedef enum nn_act { NN_SILU, NN_GELU, NN_GELU_TANH, NN_RELU, NN_N_ACTS } nn_act;

typedef enum nn_rope_scaling {
    NN_ROPE_PLAIN,
    NN_ROPE_LINEAR,
    NN_ROPE_LLAMA3,
    NN_ROPE_YARN
} nn_rope_scaling;

typedef struct nn_rope { /* rotary embedding; dims 0: the model rotates nothing */
    int dims;            /* leading features of each head that are rotated                    */
    bool interleaved;    /* pairs (0,1), (2,3), ... instead of (0,d/2), (1,d/2+1), ...        */
    double theta;
    nn_rope_scaling scaling;
    double factor;                            /* linear, llama3, yarn                  */
    double low_freq_factor, high_freq_factor; /* llama3                                */
    double beta_fast, beta_slow;              /* yarn                                  */
    bool exact_ramp;                          /* yarn: ends of the ramp not rounded to
                                                 whole pairs ("truncate": false)       */
    double attention_factor;                  /* yarn: scales rotated q and k; 1: none */
    int original_context;                     /* llama3, yarn                          */
    const float
        *divisors; /* [dims / 2] each frequency is divided by this (GGUF rope_freqs); NULL */
} nn_rope;

/* What config.json or the GGUF keys say, under one name per idea.  Zero: not said. */
typedef struct nn_config {
    char architecture[64]; /* "LlamaForCausalLM"                                              */
    char name[128];        /* for people; may be empty                                        */
    int dim, ffn_dim, n_layers, n_heads, n_kv_heads, head_dim, vocab, context;
    int sliding_window; /* Mistral 7B v0.1: keys a query attends at most; 0: no bound        */
    float norm_eps;
    nn_act act;
    nn_rope rope;
    bool alibi; /* score -= slope(head) * distance                                            */
    float alibi_max_bias;
    float clip_qkv;         /* MPT: clamp of q, k, v; 0: none                             */
    float attention_scale;  /* 0: 1 / sqrt(head_dim)                                      */
    bool parallel_residual; /* NeoX, Falcon: x + attn(norm(x)) + mlp(norm'(x))            */
    bool multi_query;       /* Falcon 7B: one K/V head                                    */
    bool new_decoder;       /* Falcon 40B/180B: two norms, grouped K/V                    */
    int n_layer_norms;      /* Falcon new decoder: norms in parallel blocks, 1 or 2       */
    bool qkv_concatenated;  /* fused q/k/v weights are [q; k; v] whole, as GGUF stores them;
                               false: the family's own order (NeoX [head][q k v], Falcon
                               [group][q.. k v])                                          */
    bool tied_embeddings;
} nn_config;

/* ------------------------------------------------------------------ recording */

typedef struct nn_graph nn_graph;   /* records operations; owns every tensor      */
typedef struct nn_tensor nn_tensor; /* one activation, [n, features]              */
typedef struct nn_param nn_param;   /* one checkpoint tensor, or some rows of it  */
typedef struct nn_loader nn_loader; /* finds tensors by name, keeps the first error */

/* A place in the checkpoint's tree of names; lives on the caller's stack. */
typedef struct nn_scope {
    nn_loader *loader;
    const struct nn_scope *parent;
    const char *name;
    int index; /* -1: none */
} nn_scope;

WEIR_API nn_scope nn_sub(const nn_scope *parent, const char *name); /* model -> model.norm */
WEIR_API nn_scope nn_at(const nn_scope *parent, const char *name,
                        int index);                        /* -> model.layers.7   */
WEIR_API bool nn_has(const nn_scope *s, const char *name); /* the checkpoint has s.name */

/* ------------------------------------------------------------------ modules */

/* A bias is used when, and only when, the checkpoint has one. */
typedef struct nn_linear {
    const nn_param *weight; /* [out, in] */
    const nn_param *bias;   /* [out] or NULL */
} nn_linear;

typedef struct nn_embedding {
    const nn_param *weight; /* [vocab, dim] */
} nn_embedding;

typedef struct nn_norm {
    const nn_param *weight, *bias; /* [group]; bias only for layer norms, may be NULL         */
    float eps;
    int group;     /* features normalised together: the whole row, or a head                 */
    bool is_layer; /* subtracts the mean (LayerNorm); otherwise RMSNorm                      */
} nn_norm;

typedef struct nn_attention {
    int layer, n_heads, n_kv_heads, head_dim;
    float scale;
    nn_rope rope;
    bool alibi;
    float alibi_max_bias;
    float alibi_scale; /* of the slopes; 1 unless the family scales them (Falcon)             */
} nn_attention;

/* Which rows of a fused checkpoint matrix a linear takes: n_blocks blocks of `block` rows, the
 * first at row `first`, each `stride` rows after the one before. */
typedef struct nn_rows {
    int first, block, stride, n_blocks;
} nn_rows;

WEIR_API nn_linear nn_make_linear(const nn_scope *s, const char *name, int in, int out);
WEIR_API nn_linear nn_make_linear_rows(const nn_scope *s, const char *name, int in, int out_stored,
                                       nn_rows rows);
WEIR_API nn_linear nn_make_head(const nn_scope *s, const char *name, nn_embedding tied, int in,
                                int out); /* the tied embedding when s.name.weight is absent */
WEIR_API nn_embedding nn_make_embedding(const nn_scope *s, const char *name, int vocab, int dim);
WEIR_API nn_norm nn_make_norm(const nn_scope *s, const char *name, int dim, float eps);
WEIR_API nn_norm nn_make_layer_norm(const nn_scope *s, const char *name, int dim, float eps);
WEIR_API nn_attention nn_make_attention(const nn_scope *s, const nn_config *c);

/* ------------------------------------------------------------------ operations    in -> out */

WEIR_API nn_tensor *nn_lookup(nn_graph *g, const nn_embedding *e,
                              nn_tensor *ids); /* [n] -> [n, dim] */
WEIR_API nn_tensor *nn_project(nn_graph *g, const nn_linear *l,
                               nn_tensor *x); /* [n, in] -> [n, out] */
WEIR_API nn_tensor *nn_normalize(nn_graph *g, const nn_norm *m,
                                 nn_tensor *x); /* [n, d] -> [n, d], by groups */
WEIR_API nn_tensor *
nn_attend(nn_graph *g, const nn_attention *a, nn_tensor *q, nn_tensor *k,
          nn_tensor *v); /* [n, heads * hd], [n, kv * hd] x 2 -> [n, heads * hd] */
WEIR_API nn_tensor *nn_gate(nn_graph *g, nn_act act, nn_tensor *gate,
                            nn_tensor *up); /* act(gate) * up */
WEIR_API nn_tensor *nn_activate(nn_graph *g, nn_act act, nn_tensor *x);
WEIR_API nn_tensor *nn_clamp(nn_graph *g, float bound,
                             nn_tensor *x); /* to [-bound, bound]; 0: x itself */
WEIR_API nn_tensor *nn_add(nn_graph *g, nn_tensor *a, nn_tensor *b);
WEIR_API nn_tensor *nn_wanted(nn_graph *g,
                              nn_tensor *x); /* only the rows whose logits someone will read */

/* ------------------------------------------------------------------ registration */

/* What a model file exports; src/model/registry.c lists the built-in ones. */
typedef struct nn_arch {
    const char *name; /* config.json "architectures"[0]                                    */
    size_t size;      /* of the model struct, allocated zeroed by the engine               */
    void (*make)(void *model, const nn_scope *root, const nn_config *c);
    nn_tensor *(*forward)(const void *model, nn_graph *g, nn_tensor *ids); /* -> logits       */
} nn_arch;

#ifdef __cplusplus
}
#endif
