/* tokenizer_config.c - what the files beside tokenizer.json add to it.
 *
 *   tokenizer_config.json     BOS and EOS by name, chat template, added tokens, add_bos_token
 *   special_tokens_map.json   names of BOS and EOS, where the former has none
 *   chat_template.jinja       the chat template, stronger than the one in tokenizer_config.json
 *   chat_template.json        the chat template, where neither of these has one
 *   generation_config.json    all ids that end a text
 *   config.json               BOS and EOS ids, where nothing else names them
 *
 * Each may be missing; one that is there and is no JSON is an error.
 *
 * SPDX-License-Identifier: MIT */
#include "text/tokenizer_parts.h"

#include "base/file.h"
#include "base/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

static weir_status path_of(char out[PATH_BYTES], const char *folder, const char *name,
                           weir_error *err) {
    const int n = snprintf(out, PATH_BYTES, "%s/%s", folder, name);
    if (n >= 0 && n < PATH_BYTES) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_ARGUMENT, "%.200s...: path is too long", folder);
}

/* An optional file: *out is NULL when it is absent.  reals: see json_read; tokenizer_config.json
 * likes to state a model_max_length of 10^30. */
static weir_status read_optional(json_t **out, const char *folder, const char *name, bool reals,
                                 weir_error *err) {
    char path[PATH_BYTES];
    *out = NULL;
    WEIR_TRY(path_of(path, folder, name, err));
    return file_exists(path) ? json_read(out, path, reals, err) : WEIR_OK;
}

/* A special token is given as a string or as {"content": string}; -1: absent or no token. */
static int32_t named_token(const weir_tokenizer *t, const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    const char *name = json_is_object(v) ? json_text(v, "content") : json_string_value(v);
    return name ? tokenizer_find(t, name) : -1;
}

static void name_ends(weir_tokenizer *t, const json_t *object) {
    if (t->bos < 0) t->bos = named_token(t, object, "bos_token");
    if (t->eos < 0) t->eos = named_token(t, object, "eos_token");
}

/* "bos_token_id": 1, "eos_token_id": 2 or [2, 3]; the first names EOS, all end a text. */
static void number_ends(weir_tokenizer *t, const json_t *object) {
    const json_t *bos = json_object_get(object, "bos_token_id");
    const json_t *eos = json_object_get(object, "eos_token_id");
    if (t->bos < 0 && json_is_integer(bos) && json_integer_value(bos) < t->vocab.n_ids) {
        t->bos = (int32_t)MAX_OF(json_integer_value(bos), -1);
    }
    const size_t n = json_is_array(eos) ? json_array_size(eos) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(eos) ? json_array_get(eos, i) : eos;
        if (!json_is_integer(id)) continue;
        tokenizer_mark_end(t, json_integer_value(id));
        if (t->eos < 0 && json_integer_value(id) < t->vocab.n_ids) {
            t->eos = (int32_t)MAX_OF(json_integer_value(id), -1);
        }
    }
}

/* Takes a string, or of a list of {"name", "template"} the one named "default", else the first. */
static weir_status take_template(weir_tokenizer *t, const json_t *v, const char *folder,
                                 weir_error *err) {
    const json_t *list = v;
    if (json_is_array(list)) v = json_object_get(json_array_get(list, 0), "template");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const char *name = json_text(item, "name");
        if (name && strcmp(name, "default") == 0) v = json_object_get(item, "template");
    }
    if (!json_is_string(v)) return WEIR_OK;
    t->chat_template = arena_copy(t->arena, json_string_value(v), json_string_length(v));
    return t->chat_template ? WEIR_OK : tokenizer_no_memory(err, folder);
}

/* chat_template.json holds the template of models whose processor has it; {"chat_template": ...} */
static weir_status processor_template(weir_tokenizer *t, const char *folder, weir_error *err) {
    json_t *file;
    WEIR_TRY(read_optional(&file, folder, "chat_template.json", false, err));
    const weir_status status =
        take_template(t, json_object_get(file, "chat_template"), folder, err);
    json_decref(file);
    return status;
}

static weir_status chat_template_of(weir_tokenizer *t, const json_t *config, const char *folder,
                                    weir_error *err) {
    WEIR_TRY(take_template(t, json_object_get(config, "chat_template"), folder, err));
    if (!t->chat_template) WEIR_TRY(processor_template(t, folder, err));
    char path[PATH_BYTES];
    WEIR_TRY(path_of(path, folder, "chat_template.jinja", err));
    if (!file_exists(path)) return WEIR_OK;
    mapped_file file;
    WEIR_TRY(file_map(&file, path, err));
    t->chat_template = arena_copy(t->arena, (const char *)file.data, file.size);
    file_unmap(&file);
    return t->chat_template ? WEIR_OK : tokenizer_no_memory(err, path);
}

/* "added_tokens_decoder": {"32000": {"content": ...}}: tokens tokenizer.json may lack. */
static weir_status added_later(weir_tokenizer *t, const json_t *config, const char *folder,
                               weir_error *err) {
    json_t *list = json_object_get(config, "added_tokens_decoder");
    const char *key;
    json_t *token;
    json_object_foreach(list, key, token) {
        char *end;
        const long id = strtol(key, &end, 10);
        if (*end || id < 0 || id >= t->vocab.n_ids) continue; /* beyond the model's vocabulary */
        if (t->vocab.pieces[id].flags & PIECE_ADDED) continue;
        WEIR_TRY(json_added_token(t, id, token, folder, err));
        const char *text = t->vocab.pieces[id].text;
        if (text && !vocab_set_output(&t->vocab, (int32_t)id, text, t->vocab.pieces[id].size)) {
            return tokenizer_no_memory(err, folder);
        }
    }
    return WEIR_OK;
}

/* Some tokenizer classes build their post-processor from add_bos_token, whatever the file says. */
static void bos_by_class(weir_tokenizer *t, const json_t *config) {
    const char *class = json_text(config, "tokenizer_class");
    const json_t *add = json_object_get(config, "add_bos_token");
    if (!class || !json_is_boolean(add)) return;
    if (!strstr(class, "Llama") && !strstr(class, "Gemma")) return;
    if (json_is_false(add)) {
        t->n_prefix = 0;
    } else if (t->n_prefix == 0 && t->bos >= 0) {
        t->prefix[t->n_prefix++] = t->bos;
    }
}

/* Without any file that names them: what released models call them. */
static void guess_ends(weir_tokenizer *t) {
    static const char *const bos[] = {"<s>", "<|begin_of_text|>", "<bos>", "<|endoftext|>"};
    static const char *const eos[] = {"</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>"};
    if (t->bos < 0 && t->n_prefix > 0) t->bos = t->prefix[0];
    for (size_t i = 0; t->bos < 0 && i < COUNT_OF(bos); i++) t->bos = tokenizer_find(t, bos[i]);
    for (size_t i = 0; t->eos < 0 && i < COUNT_OF(eos); i++) t->eos = tokenizer_find(t, eos[i]);
}

static weir_status apply(weir_tokenizer *t, const json_t *config, const char *folder,
                         weir_error *err) {
    WEIR_TRY(added_later(t, config, folder, err));
    name_ends(t, config);
    bos_by_class(t, config);
    return chat_template_of(t, config, folder, err);
}

weir_status config_apply(weir_tokenizer *t, const char *folder, weir_error *err) {
    static const char *const numbered[] = {"generation_config.json", "config.json"};
    json_t *file;
    WEIR_TRY(read_optional(&file, folder, "tokenizer_config.json", true, err));
    const bool known = file != NULL; /* a null bos_token there says that there is none */
    weir_status status = apply(t, file, folder, err);
    json_decref(file);
    WEIR_TRY(status);
    WEIR_TRY(read_optional(&file, folder, "special_tokens_map.json", true, err));
    name_ends(t, file);
    json_decref(file);
    for (size_t i = 0; i < COUNT_OF(numbered); i++) {
        if (i == 1 && t->eos >= 0) break;
        WEIR_TRY(read_optional(&file, folder, numbered[i], false, err));
        number_ends(t, file);
        json_decref(file);
    }
    if (!known) guess_ends(t);
    return WEIR_OK;
}

/* ---- vocab.json and merges.txt */

/* The classes whose pre-tokenizer is a fact; anything else wants its tokenizer.json. */
static weir_status pair_pre_tokenizer(weir_tokenizer *t, const json_t *config, const char *folder,
                                      weir_error *err) {
    static const char *const gpt2[] = {"GPT2", "CodeGen", "GPTNeoX"};
    const char *class = json_text(config, "tokenizer_class");
    t->bytes = true;
    pretok_named also;
    if (class && strstr(class, "Qwen2")) {
        WEIR_TRY(norm_add(&t->norm, &(norm_step){.kind = NORM_NFC}, folder, err));
        return pretok_open_named(&t->pretok, &also, "qwen2", 5, folder, err);
    }
    for (size_t i = 0; i < COUNT_OF(gpt2); i++) {
        if (!class || strstr(class, gpt2[i])) {
            return pretok_open_named(&t->pretok, &also, "gpt-2", 5, folder, err);
        }
    }
    return weir_fail(
        err, WEIR_ERR_MODEL,
        "%s: tokenizer_class \"%.60s\" with vocab.json is not known; save the tokenizer "
        "as tokenizer.json",
        folder, class);
}

/* merges.txt: a "#version" line, then "left right" lines in order of rank. */
static weir_status pair_merges(weir_tokenizer *t, const char *path, weir_error *err) {
    mapped_file file;
    WEIR_TRY(file_map(&file, path, err));
    const char *p = (const char *)file.data, *end = p ? p + file.size : p;
    weir_status status =
        bpe_init(&t->bpe, file.size / 8, -1) ? WEIR_OK : tokenizer_no_memory(err, path);
    uint32_t rank = 0;
    for (const char *line = p, *next; status == WEIR_OK && line < end; line = next) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        next = stop ? stop + 1 : end;
        if (!stop) stop = end;
        if (stop > line && stop[-1] == '\r') stop--;
        const char *space = memchr(line, ' ', (size_t)(stop - line));
        if (stop == line || (line == p && *line == '#')) continue;
        if (!space) {
            status = weir_fail(err, WEIR_ERR_FORMAT, "%s: merge %u is not a pair of pieces", path,
                               (unsigned)rank);
            break;
        }
        status = json_merge(t, line, (size_t)(space - line), space + 1, (size_t)(stop - space - 1),
                            rank++, path, err);
    }
    file_unmap(&file);
    return status;
}

static weir_status open_pair(weir_tokenizer **out, const json_t *pieces, const json_t *config,
                             const char *folder, weir_error *err) {
    char path[PATH_BYTES];
    json_t *wrapped = json_pack("{sO}", "vocab", pieces); /* as in a tokenizer.json */
    json_t *added = json_array();
    const char *key;
    json_t *token;
    bool ok = wrapped && added;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, token) {
        ok =
            ok && json_array_append_new(added, json_pack("{sI}", "id", (json_int_t)atol(key))) == 0;
    }
    weir_status status =
        ok ? json_vocab(out, wrapped, added, folder, err) : tokenizer_no_memory(err, folder);
    json_decref(wrapped);
    json_decref(added);
    WEIR_TRY(status);
    weir_tokenizer *t = *out;
    WEIR_TRY(path_of(path, folder, "merges.txt", err));
    WEIR_TRY(pair_merges(t, path, err));
    WEIR_TRY(pair_pre_tokenizer(t, config, folder, err));
    const added_token text_end = {.id = tokenizer_find(t, "<|endoftext|>"), .special = true};
    if (text_end.id >= 0) {
        WEIR_TRY(tokenizer_add_token(t, &text_end, "<|endoftext|>", 13, false, err));
    }
    const output_rules rules = {.bytes = true};
    WEIR_TRY(tokenizer_make_outputs(t, &rules, err));
    return config_apply(t, folder, err);
}

weir_status tokenizer_open_pair(weir_tokenizer **out, const char *folder, weir_error *err) {
    char path[PATH_BYTES];
    json_t *pieces, *config;
    *out = NULL;
    WEIR_TRY(path_of(path, folder, "vocab.json", err));
    WEIR_TRY(json_read(&pieces, path, false, err));
    weir_status status = read_optional(&config, folder, "tokenizer_config.json", true, err);
    if (status == WEIR_OK) status = open_pair(out, pieces, config, folder, err);
    json_decref(pieces);
    json_decref(config);
    if (status == WEIR_OK) {
        tokenizer_finish(*out);
        return WEIR_OK;
    }
    weir_tokenizer_close(*out);
    *out = NULL;
    return status;
}
