/* tiny.c - the model files of tiny.h, written as Hugging Face lays them out.
 *
 * SPDX-License-Identifier: MIT */
#define _XOPEN_SOURCE 700
#include "support/tiny.h"

#include "base/arena.h"
#include "base/rng.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const specials[] = {
    "<|bos|>",           "<|eos|>",          "<|im_start|>", "<|im_end|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eot_id|>",       "<s>",          "</s>",       "[INST]",
    "[/INST]",           "<|begin_of_text|>"};
static const char *const merges[] = {"t h", "h e", "i n",  "e r",   "o u", "Ġ t", "Ġt he",
                                     "Ġ a", "s t", "u s",  "us er", "Ċ Ċ", "Ġ w", "o r",
                                     "l l", "Ġ h", "y st", "s yst", "Ġ ]", "Ġ ["};
enum { N_SPECIALS = sizeof specials / sizeof *specials, N_MERGES = sizeof merges / sizeof *merges };
_Static_assert(256 + N_SPECIALS + N_MERGES == TINY_VOCAB, "every id has a spelling");

/* ---- files */

char *tiny_path(void) {
    static int n; /* tests run one at a time */
    char *path = NULL;
    size_t size;
    FILE *file = open_memstream(&path, &size);
    assert_non_null(file);
    fprintf(file, "%s/tiny.%ld.%d", BINARY_DIR, (long)getpid(), n++);
    fclose(file);
    return path;
}

static FILE *create(const char *folder, const char *name) {
    char path[4096];
    assert_in_range(snprintf(path, sizeof path, "%s/%s", folder, name), 1, (int)sizeof path - 1);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    return file;
}

static void write_json(const char *folder, const char *name, json_t *value) {
    FILE *file = create(folder, name);
    assert_non_null(value);
    assert_int_equal(json_dumpf(value, file, JSON_INDENT(1)), 0);
    fclose(file);
    json_decref(value);
}

void tiny_remove(char *path) {
    static const char *const names[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                                        "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[4096];
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        unlink(file);
    }
    if (rmdir(path) != 0) unlink(path);
    free(path);
}

/* ---- tokenizer */

/* The letter that byte-level BPE writes for a byte, UTF-8, terminated. */
static void byte_letter(int byte, char out[3]) {
    int code = byte;
    const bool is_printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    if (!is_printable) {
        code = 256;
        for (int b = 0; b < byte; b++) {
            code += !((b >= 33 && b <= 126) || (b >= 161 && b != 173));
        }
    }
    out[0] = (char)(code < 128 ? code : 0xc0 | code >> 6);
    out[1] = (char)(code < 128 ? 0 : 0x80 | (code & 0x3f));
    out[2] = 0;
}

static json_t *vocabulary(void) {
    json_t *vocab = json_object();
    int id = 0;
    for (; id < 256; id++) {
        char letter[3];
        byte_letter(id, letter);
        json_object_set_new(vocab, letter, json_integer(id));
    }
    for (int i = 0; i < N_SPECIALS; i++) {
        json_object_set_new(vocab, specials[i], json_integer(id++));
    }
    for (int i = 0; i < N_MERGES; i++) {
        char merged[32];
        const size_t left = strcspn(merges[i], " ");
        snprintf(merged, sizeof merged, "%.*s%s", (int)left, merges[i], merges[i] + left + 1);
        json_object_set_new(vocab, merged, json_integer(id++));
    }
    assert_int_equal(json_object_size(vocab), TINY_VOCAB);
    return vocab;
}

static json_t *added_tokens(void) {
    json_t *list = json_array();
    for (int i = 0; i < N_SPECIALS; i++) {
        json_array_append_new(
            list, json_pack("{s:i,s:s,s:b}", "id", 256 + i, "content", specials[i], "special", 1));
    }
    return list;
}

static json_t *post_processor(void) {
    return json_pack("{s:s,s:[{s:{s:s,s:i}},{s:{s:s,s:i}}],s:[],s:{s:{s:s,s:[i],s:[s]}}}", "type",
                     "TemplateProcessing", "single", "SpecialToken", "id", "<|bos|>", "type_id", 0,
                     "Sequence", "id", "A", "type_id", 0, "pair", "special_tokens", "<|bos|>", "id",
                     "<|bos|>", "ids", TINY_BOS, "tokens", "<|bos|>");
}

static json_t *byte_level(void) {
    return json_pack("{s:s,s:b,s:b,s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", 0);
}

static void write_tokenizer(const tiny_model *m, const char *folder) {
    json_t *list = json_array();
    for (int i = 0; i < N_MERGES; i++) json_array_append_new(list, json_string(merges[i]));
    json_t *model =
        json_pack("{s:s,s:o,s:o}", "type", "BPE", "vocab", vocabulary(), "merges", list);
    write_json(folder, "tokenizer.json",
               json_pack("{s:o,s:n,s:o,s:o,s:o,s:o}", "added_tokens", added_tokens(), "normalizer",
                         "pre_tokenizer", byte_level(), "post_processor",
                         m->no_bos ? json_null() : post_processor(), "decoder", byte_level(),
                         "model", model));
    json_t *config = json_pack("{s:s,s:s}", "bos_token", "<|bos|>", "eos_token", "<|eos|>");
    if (m->chat_template) {
        json_object_set_new(config, "chat_template", json_string(m->chat_template));
    }
    write_json(folder, "tokenizer_config.json", config);
}

/* ---- weights */

typedef struct writer { /* the header and the data of a safetensors file */
    const tiny_model *model;
    json_t *header;
    buffer data;
    rng rng;
} writer;

/* Uniform with deviation 1: no logarithms, the same everywhere. */
static float next_weight(rng *r) {
    return (float)((2 * rng_uniform(r) - 1) * 1.7320508);
}

/* rows 0: a vector of ones, as norms have it.  Scale 0 gives zeros. */
static void put(writer *w, const char *name, int rows, int cols, double scale) {
    if (w->model->missing && !strcmp(name, w->model->missing)) return;
    if (w->model->narrow && !strcmp(name, w->model->narrow)) cols--;
    const size_t from = w->data.size;
    for (int i = 0; i < (rows ? rows : 1) * cols; i++) {
        const float x = rows ? (float)scale * next_weight(&w->rng) : 1;
        assert_true(buffer_append(&w->data, &x, sizeof x));
    }
    json_t *shape = rows ? json_pack("[i,i]", rows, cols) : json_pack("[i]", cols);
    json_object_set_new(w->header, name,
                        json_pack("{s:s,s:o,s:[I,I]}", "dtype", "F32", "shape", shape,
                                  "data_offsets", (json_int_t)from, (json_int_t)w->data.size));
}

static void put_layer(writer *w, int layer, double scale) {
    const tiny_model *m = w->model;
    const int head_dim = m->dim / m->n_heads, kv_dim = m->n_kv_heads * head_dim;
    const struct {
        const char *name;
        int rows, cols;
        double scale;
    } tensors[] = {
        {"input_layernorm", 0, m->dim, 0},
        {"self_attn.q_proj", m->dim, m->dim, 1},
        {"self_attn.k_proj", kv_dim, m->dim, 1},
        {"self_attn.v_proj", kv_dim, m->dim, 1},
        {"self_attn.o_proj", m->dim, m->dim, scale},
        {"post_attention_layernorm", 0, m->dim, 0},
        {"mlp.gate_proj", m->ffn_dim, m->dim, 1},
        {"mlp.up_proj", m->ffn_dim, m->dim, 1},
        {"mlp.down_proj", m->dim, m->ffn_dim, scale},
    };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, tensors[i].name);
        put(w, name, tensors[i].rows, tensors[i].cols, tensors[i].scale / sqrt(tensors[i].cols));
    }
}

/* Row `next` of the head gets the embedding of a token before it. */
static void follow(const tiny_model *m, float *head, const float *embed, int token, int next) {
    for (int i = 0; i < m->dim; i++) head[next * m->dim + i] += embed[token * m->dim + i];
}

/* embed is at the front of the data, head at its end: both [TINY_VOCAB, dim]. */
static void put_script(writer *w) {
    const tiny_model *m = w->model;
    const unsigned char *script = (const unsigned char *)m->script;
    const size_t bytes = (size_t)TINY_VOCAB * (size_t)m->dim * sizeof(float);
    const float *embed = (const float *)(void *)w->data.data;
    float *head = (float *)(void *)(w->data.data + w->data.size - bytes);
    memset(head, 0, bytes);
    for (size_t i = 0; script[i]; i++) {
        follow(m, head, embed, script[i], script[i + 1] ? script[i + 1] : m->end);
    }
    follow(m, head, embed, m->after, script[0]);
}

static void write_weights(const tiny_model *m, const char *folder) {
    writer w = {.model = m, .header = json_object(), .rng = {m->seed}};
    const double scale = m->script ? 0 : 1;
    put(&w, "model.embed_tokens.weight", TINY_VOCAB, m->dim, 1);
    for (int i = 0; i < m->n_layers; i++) put_layer(&w, i, scale);
    put(&w, "model.norm.weight", 0, m->dim, 0);
    put(&w, "lm_head.weight", TINY_VOCAB, m->dim, 4 / sqrt(m->dim));
    if (m->script) put_script(&w);
    char *header = json_dumps(w.header, JSON_COMPACT);
    const int used = (int)strlen(header);
    const uint64_t size = (uint64_t)(used + 7) / 8 * 8;
    FILE *file = create(folder, "model.safetensors");
    fwrite(&size, sizeof size, 1, file);
    fprintf(file, "%-*s", (int)size, header);
    assert_int_equal(fwrite(w.data.data, 1, w.data.size, file), w.data.size);
    fclose(file);
    free(header);
    json_decref(w.header);
    buffer_clear(&w.data);
}

static void write_config(const tiny_model *m, const char *folder) {
    json_t *c = json_pack("{s:[s],s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:f,s:b}", "architectures",
                          m->sliding_window ? "MistralForCausalLM" : "LlamaForCausalLM",
                          "model_type", m->sliding_window ? "mistral" : "llama", "hidden_size",
                          m->dim, "intermediate_size", m->ffn_dim, "num_hidden_layers", m->n_layers,
                          "num_attention_heads", m->n_heads, "num_key_value_heads", m->n_kv_heads,
                          "vocab_size", TINY_VOCAB, "max_position_embeddings", 256, "rms_norm_eps",
                          1e-5, "tie_word_embeddings", 0);
    json_object_set_new(c, "eos_token_id", json_integer(TINY_EOS));
    if (m->sliding_window) {
        json_object_set_new(c, "sliding_window", json_integer(m->sliding_window));
    }
    write_json(folder, "config.json", c);
}

static void set_default(int *x, int value) {
    if (!*x) *x = value;
}

char *tiny_make(const tiny_model *model) {
    tiny_model m = *model;
    set_default(&m.dim, 32);
    set_default(&m.n_layers, 2);
    set_default(&m.n_heads, 4);
    set_default(&m.n_kv_heads, 2);
    set_default(&m.ffn_dim, 48);
    set_default(&m.after, TINY_EOS);
    set_default(&m.end, TINY_EOS);
    char *path = tiny_path();
    assert_int_equal(mkdir(path, 0777), 0);
    write_config(&m, path);
    write_weights(&m, path);
    if (!m.no_tokenizer) write_tokenizer(&m, path);
    return path;
}
