/* config_gguf.c - the keys of a GGUF to an nn_config.
 *
 *   general.architecture = "llama"      then      llama.block_count, llama.attention.head_count ...
 *
 * llama.cpp's converter changes three things that the configuration must tell the models: q and k
 * rows of the llama architecture are permuted so that rotation pairs lie side by side
 * (rope.interleaved); fused q/k/v matrices of NeoX and Falcon are sorted into [q; k; v]
 * (qkv_concatenated; MPT's are so from the start); and the frequencies of llama3 scaling are a
 * tensor of divisors, rope_freqs.weight.  The activation is not stored: it is the family's.
 *
 * Reading is sticky, as in config.c.  Test: tests/format/test_config_gguf.c.
 *
 * SPDX-License-Identifier: MIT */
#include "format/checkpoint.h"
#include "format/config.h"
#include "format/gguf.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct reader {
    const gguf *g;
    const char *arch; /* prefix of the keys: "llama" */
    const char *path;
    weir_error *err;
    weir_status status; /* of the first failure; WEIR_OK so far */
} reader;

typedef struct family {
    const char *arch, *architecture; /* GGUF's name, Hugging Face's name */
    void (*read)(reader *r, nn_config *c);
} family;

enum { KEY_SIZE = 96 }; /* of the longest key with its prefix, terminated */

/* ---- values: an absent key gives the fallback */

static void refuse(reader *r, const char *what, const char *wanted) {
    if (r->status != WEIR_OK) return;
    r->status = weir_fail(r->err, WEIR_ERR_MODEL, "%s: %s, %s", r->path, what, wanted);
}

static const char *full_key(const reader *r, char key[KEY_SIZE], const char *name) {
    snprintf(key, KEY_SIZE, "%s.%s", r->arch, name);
    return key;
}

static bool has(const reader *r, const char *name) {
    char key[KEY_SIZE];
    return gguf_has(r->g, full_key(r, key, name));
}

static void wrong_kind(reader *r, const char *name, const char *wanted) {
    if (r->status != WEIR_OK) return;
    r->status =
        weir_fail(r->err, WEIR_ERR_FORMAT, "%s: %s.%s is not %s", r->path, r->arch, name, wanted);
}

static int get_int(reader *r, const char *name, int fallback) {
    char key[KEY_SIZE];
    uint64_t x;
    if (!has(r, name)) return fallback;
    if (gguf_get_u64(r->g, full_key(r, key, name), &x) && x <= INT_MAX) return (int)x;
    wrong_kind(r, name, "one 32-bit integer");
    return fallback;
}

static int need_int(reader *r, const char *name) {
    char key[KEY_SIZE];
    if (!has(r, name)) refuse(r, full_key(r, key, name), "which the model needs, is missing");
    return get_int(r, name, 0);
}

static double get_double(reader *r, const char *name, double fallback) {
    char key[KEY_SIZE];
    double x;
    if (!has(r, name)) return fallback;
    if (gguf_get_f64(r->g, full_key(r, key, name), &x)) return x;
    wrong_kind(r, name, "a number");
    return fallback;
}

static bool get_bool(reader *r, const char *name, bool fallback) {
    char key[KEY_SIZE];
    bool x;
    if (!has(r, name)) return fallback;
    if (gguf_get_bool(r->g, full_key(r, key, name), &x)) return x;
    wrong_kind(r, name, "true or false");
    return fallback;
}

static bool same(gguf_string s, const char *text) {
    return s.size == strlen(text) && memcmp(s.data, text, s.size) == 0;
}

/* A string key that equals text; false when it is absent. */
static bool is_string(const reader *r, const char *name, const char *text) {
    char key[KEY_SIZE];
    gguf_string s;
    return gguf_get_string(r->g, full_key(r, key, name), &s) && same(s, text);
}

static const gguf_tensor *find_tensor(const gguf *g, const char *name) {
    for (int i = 0; i < gguf_n_tensors(g); i++) {
        if (same(gguf_tensor_at(g, i)->name, name)) return gguf_tensor_at(g, i);
    }
    return NULL;
}

/* ---- rotary embedding */

/* llama.cpp multiplies attn_factor into YaRN's own 0.1 ln(factor) + 1. */
static void read_yarn(reader *r, nn_rope *rope) {
    rope->scaling = NN_ROPE_YARN;
    rope->beta_fast = get_double(r, "rope.scaling.yarn_beta_fast", 32.0);
    rope->beta_slow = get_double(r, "rope.scaling.yarn_beta_slow", 1.0);
    rope->attention_factor = get_double(r, "rope.scaling.attn_factor", 1.0) *
                             config_yarn_attention(rope->factor, 0.0, 0.0);
}

static void read_rope(reader *r, nn_config *c) {
    nn_rope *rope = &c->rope;
    rope->dims = get_int(r, "rope.dimension_count", c->head_dim);
    rope->theta = get_double(r, "rope.freq_base", 10000.0);
    rope->attention_factor = 1.0;
    rope->factor = get_double(r, "rope.scaling.factor", get_double(r, "rope.scale_linear", 1.0));
    rope->original_context = get_int(r, "rope.scaling.original_context_length", c->context);
    if (is_string(r, "rope.scaling.type", "yarn")) {
        read_yarn(r, rope);
    } else if (is_string(r, "rope.scaling.type", "linear") ||
               (!has(r, "rope.scaling.type") && rope->factor != 1.0)) {
        rope->scaling = NN_ROPE_LINEAR;
    } else if (has(r, "rope.scaling.type") && !is_string(r, "rope.scaling.type", "none")) {
        refuse(r, "rope.scaling.type is not supported", "supported are none, linear, yarn");
    }
}

/* rope_freqs.weight, checked and copied: the file need not align it. */
static void read_divisors(reader *r, nn_config *c, arena *a) {
    const gguf_tensor *t = find_tensor(r->g, "rope_freqs.weight");
    if (!t || c->rope.dims == 0 || r->status != WEIR_OK) return;
    tensor_type type;
    if (!gguf_tensor_type(t->ggml_type, &type) || type != TENSOR_F32 || t->n_dims != 1 ||
        t->dims[0] != (uint64_t)c->rope.dims / 2) {
        r->status = weir_fail(r->err, WEIR_ERR_FORMAT,
                              "%s: rope_freqs.weight is %s [%" PRIu64 "], wanted is F32 [%d]",
                              r->path, gguf_type_name(t->ggml_type), t->dims[0], c->rope.dims / 2);
        return;
    }
    float *divisors = ARENA_ARRAY(a, float, (size_t)t->dims[0]);
    if (!divisors) {
        r->status = weir_fail(r->err, WEIR_ERR_MEMORY, "%s: out of memory", r->path);
        return;
    }
    memcpy(divisors, t->data, t->bytes);
    for (uint64_t i = 0; i < t->dims[0]; i++) {
        if (!(divisors[i] > 1e-6f && divisors[i] < 1e9f)) {
            refuse(r, "rope_freqs.weight divides by a number out of bounds",
                   "wanted is about 1 up");
        }
    }
    c->rope.divisors = divisors;
}

/* ---- families */

static int read_vocab(reader *r) {
    const gguf_tensor *embedding = find_tensor(r->g, "token_embd.weight");
    const gguf_string *tokens;
    size_t n;
    if (embedding && embedding->n_dims == 2 && embedding->dims[1] <= INT_MAX) {
        return (int)embedding->dims[1];
    }
    if (has(r, "vocab_size")) return get_int(r, "vocab_size", 0);
    if (gguf_get_strings(r->g, "tokenizer.ggml.tokens", &tokens, &n) && n <= INT_MAX) return (int)n;
    return 0;
}

static void read_common(reader *r, nn_config *c) {
    c->dim = need_int(r, "embedding_length");
    c->ffn_dim = need_int(r, "feed_forward_length");
    c->n_layers = need_int(r, "block_count");
    c->n_heads = need_int(r, "attention.head_count");
    c->n_kv_heads = get_int(r, "attention.head_count_kv", c->n_heads);
    c->head_dim = get_int(r, "attention.key_length", c->n_heads > 0 ? c->dim / c->n_heads : 0);
    c->context = need_int(r, "context_length");
    c->vocab = read_vocab(r);
    c->attention_scale = (float)get_double(r, "attention.scale", 0.0);
    c->tied_embeddings = !find_tensor(r->g, "output.weight");
    if (get_int(r, "attention.value_length", c->head_dim) != c->head_dim) {
        refuse(r, "values have another length than keys", "which is not supported");
    }
    if (get_int(r, "expert_count", 0) > 0) {
        refuse(r, "feed-forward layers are mixtures of experts", "which is not supported");
    }
}

static void read_gated(reader *r, nn_config *c) {
    read_common(r, c);
    c->norm_eps = (float)get_double(r, "attention.layer_norm_rms_epsilon", 1e-5);
    c->act = NN_SILU;
    read_rope(r, c);
}

static void read_llama(reader *r, nn_config *c) {
    read_gated(r, c);
    c->rope.interleaved = true;
    c->sliding_window = get_int(r, "attention.sliding_window", 0);
}

static void read_neox(reader *r, nn_config *c) {
    read_common(r, c);
    c->norm_eps = (float)get_double(r, "attention.layer_norm_epsilon", 1e-5);
    c->act = NN_GELU;
    c->parallel_residual = get_bool(r, "use_parallel_residual", true);
    c->qkv_concatenated = true;
    read_rope(r, c);
}

/* One K/V head is Falcon 7B; more are the new decoder, with one or two norms in a block. */
static void read_falcon(reader *r, nn_config *c) {
    read_common(r, c);
    c->norm_eps = (float)get_double(r, "attention.layer_norm_epsilon", 1e-5);
    c->act = NN_GELU;
    c->parallel_residual = true;
    c->qkv_concatenated = true;
    c->multi_query = c->n_kv_heads == 1;
    c->new_decoder = !c->multi_query;
    c->n_layer_norms = find_tensor(r->g, "blk.0.attn_norm_2.weight") ? 2 : 1;
    read_rope(r, c);
}

static void read_mpt(reader *r, nn_config *c) {
    read_common(r, c);
    c->norm_eps = (float)get_double(r, "attention.layer_norm_epsilon", 1e-5);
    c->act = NN_GELU;
    c->qkv_concatenated = true;
    c->clip_qkv = (float)get_double(r, "attention.clamp_kqv", 0.0);
    c->alibi_max_bias = (float)get_double(r, "attention.max_alibi_bias", 0.0);
    c->alibi = c->alibi_max_bias > 0.0f;
    if (!c->alibi || find_tensor(r->g, "position_embd.weight")) {
        refuse(r, "positions are learned embeddings", "wanted is an MPT with alibi");
    }
    if (find_tensor(r->g, "blk.0.attn_q_norm.weight")) {
        refuse(r, "queries and keys are normalised", "which is not supported");
    }
}

static const family families[] = {
    {"llama", "LlamaForCausalLM", read_llama},    {"mistral", "MistralForCausalLM", read_llama},
    {"qwen2", "Qwen2ForCausalLM", read_gated},    {"qwen3", "Qwen3ForCausalLM", read_gated},
    {"gptneox", "GPTNeoXForCausalLM", read_neox}, {"mpt", "MPTForCausalLM", read_mpt},
    {"falcon", "FalconForCausalLM", read_falcon},
};

weir_status config_from_gguf(nn_config *out, arena *a, const gguf *g, const char *path,
                             weir_error *err) {
    *out = (nn_config){0};
    gguf_string arch = {"(none given)", 12}, name;
    const bool is_named = gguf_get_string(g, "general.architecture", &arch);
    const family *f = NULL;
    for (size_t i = 0; is_named && i < COUNT_OF(families); i++) {
        if (same(arch, families[i].arch)) f = &families[i];
    }
    if (!f) {
        return weir_fail(err, WEIR_ERR_MODEL,
                         "%s: architecture %.*s is not known; known are llama, mistral, qwen2, "
                         "qwen3, gptneox, mpt, falcon",
                         path, (int)MIN_OF(arch.size, (size_t)60), arch.data);
    }
    reader r = {.g = g, .arch = f->arch, .path = path, .err = err};
    snprintf(out->architecture, sizeof out->architecture, "%s", f->architecture);
    if (gguf_get_string(g, "general.name", &name)) {
        snprintf(out->name, sizeof out->name, "%.*s", (int)MIN_OF(name.size, (size_t)127),
                 name.data);
    }
    f->read(&r, out);
    read_divisors(&r, out, a);
    if (r.status == WEIR_OK) r.status = config_check(out, path, err);
    if (r.status != WEIR_OK) *out = (nn_config){0};
    return r.status;
}
