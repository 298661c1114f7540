/* config.c - config.json of a Hugging Face folder to an nn_config.
 *
 * One function per family reads the keys its configuration class has in transformers, with the
 * defaults that class has; what the families share (rotary embedding, window) is read once.  The
 * reader is sticky: the first value that is missing, of the wrong kind or not supported is kept as
 * the error, later reads are harmless, so families read like tables.
 *
 * What would change the arithmetic and is not implemented is refused by name, never ignored.  An
 * architecture that is not known is read by Llama's keys, which most newer families share: the
 * caller may bring a family of its own for it, and refuses it otherwise.
 * Fuzz: fuzz/fuzz_config.c; test: tests/format/test_config.c.
 *
 * SPDX-License-Identifier: MIT */
#include "format/config.h"

#include "base/arena.h"
#include "format/checkpoint.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

typedef struct reader {
    const json_t *root;
    const char *path;
    weir_error *err;
    weir_status status; /* of the first failure; WEIR_OK so far */
} reader;

typedef struct family {
    const char *architecture; /* what nn_config says      */
    const char *alias;        /* an older name, or NULL   */
    const char *model_type;   /* for files that name no architecture */
    void (*read)(reader *r, nn_config *c);
} family;

/* ---- values: absent and null give the fallback */

static void refuse(reader *r, const char *what, const char *wanted) {
    if (r->status != WEIR_OK) return;
    r->status = weir_fail(r->err, WEIR_ERR_MODEL, "%s: %s, %s", r->path, what, wanted);
}

static void wrong_kind(reader *r, const char *key, const char *wanted) {
    if (r->status != WEIR_OK) return;
    r->status = weir_fail(r->err, WEIR_ERR_FORMAT, "%s: %s is not %s", r->path, key, wanted);
}

static const json_t *value_of(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return json_is_null(v) ? NULL : v;
}

static int get_int(reader *r, const json_t *object, const char *key, int fallback) {
    const json_t *v = value_of(object, key);
    if (!v) return fallback;
    const double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= INT_MIN && x <= INT_MAX) || x != (double)(int)x) {
        wrong_kind(r, key, "a 32-bit integer");
        return fallback;
    }
    return (int)x;
}

/* The integer under the first of two names; one of them must be there. */
static int need_int(reader *r, const char *key, const char *older) {
    if (!value_of(r->root, key) && older && value_of(r->root, older)) key = older;
    if (!value_of(r->root, key)) refuse(r, key, "which the model needs, is missing");
    return get_int(r, r->root, key, 0);
}

static double get_double(reader *r, const json_t *object, const char *key, double fallback) {
    const json_t *v = value_of(object, key);
    if (!v) return fallback;
    if (json_is_number(v)) return json_number_value(v);
    wrong_kind(r, key, "a number");
    return fallback;
}

static bool get_bool(reader *r, const json_t *object, const char *key, bool fallback) {
    const json_t *v = value_of(object, key);
    if (!v) return fallback;
    if (json_is_boolean(v)) return json_is_true(v);
    wrong_kind(r, key, "true or false");
    return fallback;
}

/* Valid as long as the JSON. */
static const char *get_string(reader *r, const json_t *object, const char *key,
                              const char *fallback) {
    const json_t *v = value_of(object, key);
    if (!v) return fallback;
    if (json_is_string(v)) return json_string_value(v);
    wrong_kind(r, key, "a string");
    return fallback;
}

/* An object, or NULL when absent. */
static const json_t *get_object(reader *r, const char *key) {
    const json_t *v = value_of(r->root, key);
    if (!v || json_is_object(v)) return v;
    wrong_kind(r, key, "an object");
    return NULL;
}

/* ---- what families share */

static nn_act get_act(reader *r, const char *key, const char *fallback) {
    static const struct {
        const char *name;
        nn_act act;
    } acts[] = {
        {"silu", NN_SILU},           {"swish", NN_SILU},
        {"gelu", NN_GELU},           {"gelu_python", NN_GELU},
        {"gelu_new", NN_GELU_TANH},  {"gelu_pytorch_tanh", NN_GELU_TANH},
        {"gelu_fast", NN_GELU_TANH}, {"relu", NN_RELU},
    };
    const char *name = get_string(r, r->root, key, fallback);
    for (size_t i = 0; i < COUNT_OF(acts); i++) {
        if (strcmp(acts[i].name, name) == 0) return acts[i].act;
    }
    if (r->status == WEIR_OK) {
        r->status = weir_fail(r->err, WEIR_ERR_MODEL,
                              "%s: activation %.40s is not supported; supported are silu, gelu, "
                              "gelu_new, gelu_pytorch_tanh, gelu_fast, relu",
                              r->path, name);
    }
    return NN_SILU;
}

/* YaRN's own numbers; p is the rope_scaling or rope_parameters object. */
static void read_yarn(reader *r, nn_rope *rope, const json_t *p, int context) {
    const int original = MAX_OF(rope->original_context, 1);
    rope->factor = get_double(r, p, "factor", (double)context / original);
    rope->beta_fast = get_double(r, p, "beta_fast", 32.0);
    rope->beta_slow = get_double(r, p, "beta_slow", 1.0);
    if (rope->beta_fast == 0.0) rope->beta_fast = 32.0; /* transformers takes 0 for "not given" */
    if (rope->beta_slow == 0.0) rope->beta_slow = 1.0;
    const double mscale = get_double(r, p, "mscale", 0.0);
    const double all = get_double(r, p, "mscale_all_dim", 0.0);
    rope->attention_factor =
        get_double(r, p, "attention_factor", config_yarn_attention(rope->factor, mscale, all));
    rope->exact_ramp = !get_bool(r, p, "truncate", true);
}

static void read_scaling(reader *r, nn_rope *rope, const json_t *p, int context) {
    const char *type = get_string(r, p, "rope_type", get_string(r, p, "type", "default"));
    rope->original_context = get_int(r, r->root, "original_max_position_embeddings",
                                     get_int(r, p, "original_max_position_embeddings", context));
    if (strcmp(type, "default") == 0) {
        rope->scaling = NN_ROPE_PLAIN;
    } else if (strcmp(type, "linear") == 0) {
        rope->scaling = NN_ROPE_LINEAR;
        rope->factor = get_double(r, p, "factor", 0.0);
    } else if (strcmp(type, "llama3") == 0) {
        rope->scaling = NN_ROPE_LLAMA3;
        rope->factor = get_double(r, p, "factor", 0.0);
        rope->low_freq_factor = get_double(r, p, "low_freq_factor", 0.0);
        rope->high_freq_factor = get_double(r, p, "high_freq_factor", 0.0);
    } else if (strcmp(type, "yarn") == 0) {
        rope->scaling = NN_ROPE_YARN;
        read_yarn(r, rope, p, context);
    } else if (r->status == WEIR_OK) {
        r->status =
            weir_fail(r->err, WEIR_ERR_MODEL,
                      "%s: rope type %.40s is not supported; supported are default, linear, "
                      "llama3, yarn",
                      r->path, type);
    }
}

/* The rotary embedding; theta and part are what the model has when the file is silent. */
static void read_rope(reader *r, nn_config *c, double theta, double part) {
    const json_t *p = get_object(r, "rope_scaling");
    if (!p) p = get_object(r, "rope_parameters");
    if (json_is_object(json_object_get(p, "full_attention")) ||
        json_is_object(json_object_get(p, "sliding_attention"))) {
        refuse(r, "rope parameters differ by layer type", "wanted is one set for all layers");
    }
    nn_rope *rope = &c->rope;
    rope->theta = get_double(r, p, "rope_theta", get_double(r, r->root, "rope_theta", theta));
    rope->attention_factor = 1.0;
    if (p) read_scaling(r, rope, p, c->context);
    const json_t *partial = p && value_of(p, "partial_rotary_factor") ? p : r->root;
    const double share = get_double(r, partial, "partial_rotary_factor", part);
    if (!(share > 0.0 && share <= 1.0)) {
        refuse(r, "partial rotary factor is out of bounds", "wanted is above 0 and at most 1");
        return;
    }
    rope->dims = (int)(share * c->head_dim);
}

/* The number of layers that layer_types calls sliding; -1 when the key is absent. */
static int count_sliding(reader *r) {
    const json_t *types = value_of(r->root, "layer_types");
    if (!types) return -1;
    int n = 0;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (type && strcmp(type, "sliding_attention") == 0) {
            n++;
        } else if (!type || strcmp(type, "full_attention") != 0) {
            refuse(r, "layer_types names an attention that is neither full nor sliding",
                   "which is not supported");
        }
    }
    return n;
}

/* A window that all layers have, or none has; a mixture is refused. */
static void read_window(reader *r, nn_config *c, bool is_used, int fallback, int first_layer) {
    int sliding = count_sliding(r);
    if (!is_used) return;
    const json_t *said = json_object_get(r->root, "sliding_window");
    const int window = json_is_null(said) ? 0 : get_int(r, r->root, "sliding_window", fallback);
    if (sliding < 0) sliding = first_layer >= c->n_layers ? 0 : c->n_layers - first_layer;
    if (window == 0 || sliding == 0) return;
    if (sliding != c->n_layers) {
        refuse(r, "some layers have a sliding window and some have not", "which is not supported");
    }
    c->sliding_window = window;
}

/* head_dim is what the family has when the file is silent; 0: hidden size / heads. */
static void read_common(reader *r, nn_config *c, int head_dim) {
    c->dim = need_int(r, "hidden_size", "n_embed");
    c->n_layers = need_int(r, "num_hidden_layers", "n_layer");
    c->n_heads = need_int(r, "num_attention_heads", "n_head");
    c->vocab = need_int(r, "vocab_size", NULL);
    if (head_dim == 0 && c->n_heads > 0) {
        head_dim = c->dim / c->n_heads;
        if (c->dim % c->n_heads != 0 && !value_of(r->root, "head_dim")) {
            refuse(r, "hidden_size is not a multiple of num_attention_heads",
                   "and head_dim is missing");
        }
    }
    c->head_dim = get_int(r, r->root, "head_dim", head_dim);
}

/* ---- families */

typedef struct defaults {              /* of a family with gated feed-forward layers */
    int context, head_dim, n_kv_heads; /* 0: from hidden size and heads */
} defaults;

static void read_gated(reader *r, nn_config *c, defaults d) {
    read_common(r, c, d.head_dim);
    c->ffn_dim = need_int(r, "intermediate_size", NULL);
    if (!json_object_get(r->root, "num_key_value_heads")) c->n_kv_heads = d.n_kv_heads;
    if (c->n_kv_heads == 0) c->n_kv_heads = get_int(r, r->root, "num_key_value_heads", c->n_heads);
    c->context = get_int(r, r->root, "max_position_embeddings", d.context);
    c->norm_eps = (float)get_double(r, r->root, "rms_norm_eps", 1e-6);
    c->act = get_act(r, "hidden_act", "silu");
    c->tied_embeddings = get_bool(r, r->root, "tie_word_embeddings", false);
    read_rope(r, c, 10000.0, 1.0);
}

static void read_llama(reader *r, nn_config *c) {
    read_gated(r, c, (defaults){.context = 2048});
}

static void read_mistral(reader *r, nn_config *c) {
    read_gated(r, c, (defaults){.context = 4096 * 32, .n_kv_heads = 8});
    read_window(r, c, true, 4096, 0);
}

/* Layers from max_window_layers on have the window, when it is used at all. */
static void read_qwen_window(reader *r, nn_config *c) {
    const bool is_used = get_bool(r, r->root, "use_sliding_window", false);
    read_window(r, c, is_used, 4096, MAX_OF(0, get_int(r, r->root, "max_window_layers", 28)));
}

static void read_qwen2(reader *r, nn_config *c) {
    read_gated(r, c, (defaults){.context = 32768});
    read_qwen_window(r, c);
}

static void read_qwen3(reader *r, nn_config *c) {
    read_gated(r, c, (defaults){.context = 32768, .head_dim = 128});
    read_qwen_window(r, c);
}

static void read_neox(reader *r, nn_config *c) {
    read_common(r, c, 0);
    c->ffn_dim = need_int(r, "intermediate_size", NULL);
    c->n_kv_heads = c->n_heads;
    c->context = get_int(r, r->root, "max_position_embeddings", 2048);
    c->norm_eps = (float)get_double(r, r->root, "layer_norm_eps", 1e-5);
    c->act = get_act(r, "hidden_act", "gelu");
    c->parallel_residual = get_bool(r, r->root, "use_parallel_residual", true);
    c->tied_embeddings = get_bool(r, r->root, "tie_word_embeddings", false);
    read_rope(r, c, get_double(r, r->root, "rotary_emb_base", 10000.0),
              get_double(r, r->root, "rotary_pct", 0.25));
}

/* Falcon 7B and 40B came out with keys of their own ("RefinedWeb"), read here as the older names:
 * there n_head_kv is what tells the new decoder. */
static void read_falcon(reader *r, nn_config *c) {
    read_common(r, c, 0);
    const int kv_heads =
        get_int(r, r->root, "num_kv_heads", get_int(r, r->root, "n_head_kv", c->n_heads));
    c->new_decoder =
        get_bool(r, r->root, "new_decoder_architecture", value_of(r->root, "n_head_kv") != NULL);
    c->multi_query = !c->new_decoder && get_bool(r, r->root, "multi_query", true);
    c->n_kv_heads = c->new_decoder ? kv_heads : c->multi_query ? 1 : c->n_heads;
    c->parallel_residual = c->new_decoder || get_bool(r, r->root, "parallel_attn", true);
    c->n_layer_norms = c->new_decoder ? get_int(r, r->root, "num_ln_in_parallel_attn", 2) : 1;
    if (c->n_layer_norms < 1 || c->n_layer_norms > 2) {
        refuse(r, "num_ln_in_parallel_attn is out of bounds", "wanted is 1 or 2");
    }
    const int wide = c->dim <= CONFIG_MAX_SIZE ? 4 * c->dim : 0;
    c->ffn_dim = get_int(r, r->root, "ffn_hidden_size", wide);
    c->context = get_int(r, r->root, "max_position_embeddings", 2048);
    c->norm_eps = (float)get_double(r, r->root, "layer_norm_epsilon", 1e-5);
    c->act = get_act(r, "activation", "gelu");
    c->tied_embeddings = get_bool(r, r->root, "tie_word_embeddings", true);
    c->alibi = get_bool(r, r->root, "alibi", false);
    c->alibi_max_bias = c->alibi ? 8.0f : 0.0f;
    if (!c->alibi) read_rope(r, c, 10000.0, 1.0);
}

/* The attn_config object of MPT; keys that only llm-foundry knows are refused when they are on. */
static void read_mpt_attention(reader *r, nn_config *c) {
    const json_t *a = get_object(r, "attn_config");
    const char *type = get_string(r, a, "attn_type", "multihead_attention");
    const int fallback = strcmp(type, "multiquery_attention") == 0 ? 1 : c->n_heads;
    c->n_kv_heads = get_int(r, a, "kv_n_heads", fallback);
    c->clip_qkv = (float)get_double(r, a, "clip_qkv", 0.0);
    c->attention_scale = (float)get_double(r, a, "softmax_scale", 0.0);
    c->alibi = get_bool(r, a, "alibi", true);
    c->alibi_max_bias = (float)get_double(r, a, "alibi_bias_max", 8.0);
    if (get_bool(r, a, "qk_ln", false) || get_bool(r, a, "qk_gn", false)) {
        refuse(r, "attn_config normalises queries and keys (qk_ln)", "which is not supported");
    }
    if (get_bool(r, a, "rope", false)) {
        refuse(r, "attn_config rotates (rope)", "wanted is an MPT with alibi");
    }
    if (get_bool(r, a, "prefix_lm", false)) {
        refuse(r, "attn_config is not causal (prefix_lm)", "which is not supported");
    }
    if (get_int(r, a, "sliding_window_size", -1) > 0) {
        refuse(r, "attn_config has a sliding window", "which is not supported");
    }
    if (!c->alibi) {
        refuse(r, "positions are learned embeddings", "wanted is an MPT with alibi");
    }
}

static void read_mpt(reader *r, nn_config *c) {
    c->dim = need_int(r, "d_model", "hidden_size");
    c->n_heads = need_int(r, "n_heads", "num_attention_heads");
    c->n_layers = need_int(r, "n_layers", "num_hidden_layers");
    c->vocab = need_int(r, "vocab_size", NULL);
    c->head_dim = c->n_heads > 0 ? c->dim / c->n_heads : 0;
    if (c->n_heads > 0 && c->dim % c->n_heads != 0) {
        refuse(r, "d_model is not a multiple of n_heads", "which it must be");
    }
    const double wide = get_double(r, r->root, "expansion_ratio", 4.0) * c->dim;
    c->ffn_dim = wide >= 1.0 && wide <= CONFIG_MAX_SIZE ? (int)wide : 0;
    c->context = get_int(r, r->root, "max_seq_len", 2048);
    c->norm_eps = (float)get_double(r, r->root, "layer_norm_epsilon", 1e-5);
    c->act = NN_GELU;
    c->tied_embeddings = get_bool(r, r->root, "tie_word_embeddings", true);
    read_mpt_attention(r, c);
    if (value_of(r->root, "logit_scale")) {
        refuse(r, "logits are scaled (logit_scale)", "which is not supported");
    }
    if (!strstr(get_string(r, r->root, "norm_type", "layernorm"), "layernorm")) {
        refuse(r, "norm_type is not a layer norm", "which is not supported");
    }
    const char *ffn = get_string(r, get_object(r, "ffn_config"), "ffn_type", "mptmlp");
    if (strcmp(ffn, "mptmlp") != 0) {
        refuse(r, "ffn_type is not mptmlp", "which is not supported");
    }
}

/* For families that come from outside (weir_engine_options.arch). */
static void read_unknown(reader *r, nn_config *c) {
    read_gated(r, c, (defaults){.context = 2048});
    read_window(r, c, true, 0, 0);
}

static const family families[] = {
    {"LlamaForCausalLM", NULL, "llama", read_llama},
    {"MistralForCausalLM", NULL, "mistral", read_mistral},
    {"Qwen2ForCausalLM", NULL, "qwen2", read_qwen2},
    {"Qwen3ForCausalLM", NULL, "qwen3", read_qwen3},
    {"GPTNeoXForCausalLM", NULL, "gpt_neox", read_neox},
    {"MPTForCausalLM", "MptForCausalLM", "mpt", read_mpt},
    {"FalconForCausalLM", "RWForCausalLM", "falcon", read_falcon},
};

/* ---- the file */

static const char *architecture_of(const reader *r) {
    return json_string_value(json_array_get(value_of(r->root, "architectures"), 0));
}

/* The family of architectures[0], or of model_type where no architecture is named; NULL: none. */
static const family *find_family(reader *r) {
    const char *name = architecture_of(r);
    const char *type = get_string(r, r->root, "model_type", "");
    for (size_t i = 0; i < COUNT_OF(families); i++) {
        const family *f = &families[i];
        if (name ? strcmp(name, f->architecture) == 0 || (f->alias && strcmp(name, f->alias) == 0)
                 : strcmp(type, f->model_type) == 0) {
            return f;
        }
    }
    return NULL;
}

/* Reads an architecture that is not known; what stands in the way is said after that. */
static weir_status read_foreign(reader *r, nn_config *c) {
    const char *name = architecture_of(r);
    const char *type = get_string(r, r->root, "model_type", "");
    weir_error why = {.message = "config.json names none"};
    reader quiet = {.root = r->root, .path = "as one of your own", .err = &why};
    if (name) {
        snprintf(c->architecture, sizeof c->architecture, "%s", name);
        read_unknown(&quiet, c);
        if (quiet.status == WEIR_OK) quiet.status = config_check(c, quiet.path, &why);
        if (quiet.status == WEIR_OK) return WEIR_OK;
    }
    return weir_fail(r->err, WEIR_ERR_MODEL,
                     "%.200s: architecture %.60s is not known; known are LlamaForCausalLM, "
                     "MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, "
                     "GPTNeoXForCausalLM, MPTForCausalLM, FalconForCausalLM; %.100s",
                     r->path,
                     name    ? name
                     : *type ? type
                             : "(none given)",
                     why.message);
}

/* Methods whose weights are e4m3 with scales beside them; what is in the file decides the rest. */
static bool is_fp8(reader *r, const json_t *q, const char *method) {
    if (strcmp(method, "fp8") == 0 || strcmp(method, "fbgemm_fp8") == 0) return true;
    return strcmp(method, "compressed-tensors") == 0 &&
           strcmp(get_string(r, q, "format", ""), "float-quantized") == 0;
}

static void refuse_quantised(reader *r) {
    const json_t *q = get_object(r, "quantization_config");
    if (!q || r->status != WEIR_OK) return;
    const char *method = get_string(r, q, "quant_method", "an unnamed method");
    if (r->status != WEIR_OK || is_fp8(r, q, method)) return;
    r->status = weir_fail(r->err, WEIR_ERR_MODEL,
                          "%s: weights are quantised by %.40s, wanted are F32, F16, BF16 or FP8 "
                          "weights or a GGUF",
                          r->path, method);
}

weir_status config_from_json(nn_config *out, arena *a, const char *json, size_t size,
                             const char *path, weir_error *err) {
    (void)a; /* a JSON configuration points to nothing */
    *out = (nn_config){0};
    json_error_t bad;
    json_t *root = json_loadb(size ? json : "", size, JSON_REJECT_DUPLICATES, &bad);
    if (!root) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: line %d: %s", path, bad.line, bad.text);
    }
    reader r = {.root = root, .path = path, .err = err};
    if (!json_is_object(root)) wrong_kind(&r, "the file", "a JSON object");
    const family *f = r.status == WEIR_OK ? find_family(&r) : NULL;
    if (r.status == WEIR_OK) {
        refuse_quantised(&r);
        snprintf(out->name, sizeof out->name, "%s", get_string(&r, root, "_name_or_path", ""));
    }
    if (f) {
        snprintf(out->architecture, sizeof out->architecture, "%s", f->architecture);
        f->read(&r, out);
    } else if (r.status == WEIR_OK) {
        r.status = read_foreign(&r, out);
    }
    json_decref(root);
    if (r.status == WEIR_OK) r.status = config_check(out, path, err);
    if (r.status != WEIR_OK) *out = (nn_config){0};
    return r.status;
}
