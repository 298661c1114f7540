/* tiny_model.h - makes a folder with a tiny random Llama that has a tokenizer and a chat template.
 *
 * The tokenizer is byte-level BPE without merges: every byte is a token, <s> begins a text, </s>
 * ends a turn.  The template is
 *
 *     <s>SYSTEM\n[USER]REPLY</s>[USER]REPLY</s>...
 *
 * Weights are random, so replies are noise that no end token need ever end.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/rng.h"
#include "weir_run.h"

enum { TINY_VOCAB = 258, TINY_DIM = 32, TINY_FFN = 48, TINY_LAYERS = 2, TINY_CONTEXT = 128 };

static inline FILE *tiny_file(const char *folder, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f) fail_msg("%s: cannot be written", path);
    return f;
}

/* The character that stands for a byte in a byte-level vocabulary, as a JSON escape. */
static inline unsigned tiny_letter(int byte) {
    int beyond = 0;
    for (int b = 0; b <= byte; b++) {
        const bool is_shown = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte) return is_shown ? (unsigned)b : 256u + (unsigned)beyond;
        beyond += !is_shown;
    }
    return 0;
}

static inline void tiny_tokenizer(const char *folder, const char *chat_template) {
    FILE *f = tiny_file(folder, "tokenizer.json");
    fputs("{\"version\":\"1.0\",\"added_tokens\":["
          "{\"id\":256,\"content\":\"<s>\",\"special\":true,\"single_word\":false,"
          "\"lstrip\":false,\"rstrip\":false,\"normalized\":false},"
          "{\"id\":257,\"content\":\"</s>\",\"special\":true,\"single_word\":false,"
          "\"lstrip\":false,\"rstrip\":false,\"normalized\":false}],"
          "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
          "false,\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":{\"type\":"
          "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
          "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{\"<s>\":"
          "{\"id\":\"<s>\",\"ids\":[256],\"tokens\":[\"<s>\"]}}},\"decoder\":{\"type\":"
          "\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
          "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"merges\":[],"
          "\"vocab\":{",
          f);
    for (int i = 0; i < 256; i++) fprintf(f, "\"\\u%04x\":%d,", tiny_letter(i), i);
    fputs("\"<s>\":256,\"</s>\":257}}}", f);
    fclose(f);
    f = tiny_file(folder, "tokenizer_config.json");
    fprintf(f, "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"%s%s%s}",
            chat_template ? ",\"chat_template\":\"" : "", chat_template ? chat_template : "",
            chat_template ? "\"" : "");
    fclose(f);
}

#define TINY_TEMPLATE                                                                           \
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}\\n" \
    "{% elif m['role'] == 'user' %}[{{ m['content'] }}]{% else %}{{ m['content'] }}"            \
    "{{ eos_token }}{% endif %}{% endfor %}"

typedef struct tiny_tensor {
    char name[80];
    int rows, columns; /* columns 0: a vector of ones */
} tiny_tensor;

enum { TINY_TENSORS = 3 + 9 * TINY_LAYERS };

static inline int tiny_list(tiny_tensor out[TINY_TENSORS]) {
    static const tiny_tensor layer[] = {
        {"input_layernorm", TINY_DIM, 0},
        {"post_attention_layernorm", TINY_DIM, 0},
        {"self_attn.q_proj", TINY_DIM, TINY_DIM},
        {"self_attn.k_proj", TINY_DIM / 2, TINY_DIM},
        {"self_attn.v_proj", TINY_DIM / 2, TINY_DIM},
        {"self_attn.o_proj", TINY_DIM, TINY_DIM},
        {"mlp.gate_proj", TINY_FFN, TINY_DIM},
        {"mlp.up_proj", TINY_FFN, TINY_DIM},
        {"mlp.down_proj", TINY_DIM, TINY_FFN},
    };
    int n = 0;
    out[n++] = (tiny_tensor){"model.embed_tokens.weight", TINY_VOCAB, TINY_DIM};
    out[n++] = (tiny_tensor){"model.norm.weight", TINY_DIM, 0};
    out[n++] = (tiny_tensor){"lm_head.weight", TINY_VOCAB, TINY_DIM};
    for (int i = 0; i < TINY_LAYERS; i++) {
        for (size_t k = 0; k < COUNT_OF(layer); k++) {
            out[n] = layer[k];
            snprintf(out[n].name, sizeof out[n].name, "model.layers.%d.%.40s.weight", i,
                     layer[k].name);
            n++;
        }
    }
    return n;
}

static inline void tiny_weights(const char *folder) {
    tiny_tensor t[TINY_TENSORS];
    char header[8192];
    size_t at = 0, used = 0;
    const int n = tiny_list(t);
    for (int i = 0; i < n; i++) {
        const size_t values = (size_t)t[i].rows * (size_t)(t[i].columns ? t[i].columns : 1);
        char shape[32];
        snprintf(shape, sizeof shape, t[i].columns ? "%d,%d" : "%d", t[i].rows, t[i].columns);
        used += (size_t)snprintf(header + used, sizeof header - used,
                                 "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%s],\"data_offsets\":"
                                 "[%zu,%zu]}",
                                 i ? "," : "{", t[i].name, shape, at, at + 4 * values);
        at += 4 * values;
    }
    used += (size_t)snprintf(header + used, sizeof header - used, "}");
    while (used % 8) header[used++] = ' ';
    FILE *f = tiny_file(folder, "model.safetensors");
    const uint64_t size = used;
    fwrite(&size, sizeof size, 1, f);
    fwrite(header, 1, used, f);
    rng r = {.state = 7};
    for (int i = 0; i < n; i++) {
        const int values = t[i].rows * (t[i].columns ? t[i].columns : 1);
        for (int k = 0; k < values; k++) {
            const float x = t[i].columns ? (float)(rng_uniform(&r) - 0.5) : 1.0f;
            fwrite(&x, sizeof x, 1, f);
        }
    }
    fclose(f);
}

/* chat_template as a JSON string without its quotes; NULL: a model without one. */
static inline void tiny_model_make(const char *folder, const char *chat_template) {
    FILE *f = tiny_file(folder, "config.json");
    fprintf(f,
            "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":"
            "%d,\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":4,"
            "\"num_key_value_heads\":2,\"vocab_size\":%d,\"rope_theta\":10000.0,"
            "\"rms_norm_eps\":1e-5,\"hidden_act\":\"silu\",\"max_position_embeddings\":%d,"
            "\"tie_word_embeddings\":false,\"bos_token_id\":256,\"eos_token_id\":257}",
            TINY_DIM, TINY_FFN, TINY_LAYERS, TINY_VOCAB, TINY_CONTEXT);
    fclose(f);
    tiny_tokenizer(folder, chat_template);
    tiny_weights(folder);
}
