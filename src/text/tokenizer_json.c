/* tokenizer_json.c - tokenizer.json, the format of the Hugging Face tokenizers library.
 *
 *   {"added_tokens": [{"id", "content", "special", "lstrip", "rstrip", "normalized", ...}],
 *    "normalizer": NODE, "pre_tokenizer": NODE, "post_processor": NODE, "decoder": NODE,
 *    "model": {"type": "BPE", "vocab": {SPELLING: ID}, "merges": ["a b", ...] or [["a","b"], ...],
 *              "unk_token", "fuse_unk", "byte_fallback", "ignore_merges", ...}}
 *
 * Only BPE models exist here: byte-level ones and SentencePiece's with byte fallback.
 *
 * SPDX-License-Identifier: MIT */
#include "text/tokenizer_parts.h"

#include "base/file.h"

#include <string.h>

enum {
    SPARE_IDS = 1 << 20, /* gaps in the numbering of a file, in all */
    MERGE_BYTES = 4096,  /* the longest spelling a merge can make   */
};

weir_status json_read(json_t **out, const char *path, bool reals, weir_error *err) {
    *out = NULL;
    mapped_file file;
    WEIR_TRY(file_map(&file, path, err));
    json_error_t problem = {0};
    if (file.size > 0) {
        const size_t flags = JSON_ALLOW_NUL | (reals ? JSON_DECODE_INT_AS_REAL : 0);
        *out = json_loadb((const char *)file.data, file.size, flags, &problem);
    }
    const bool empty = file.size == 0;
    file_unmap(&file);
    if (*out) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_FORMAT, "%s: line %d: %s", path, empty ? 1 : problem.line,
                     empty ? "the file is empty" : problem.text);
}

/* ---- vocabulary */

/* The highest id of the vocabulary and the added tokens; -1: some id is no id. */
static json_int_t highest_id(json_t *pieces, const json_t *added) {
    json_int_t high = 0;
    const char *key;
    json_t *value;
    json_object_foreach(pieces, key, value) {
        const json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0) return -1;
        high = MAX_OF(high, id);
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *id = json_object_get(json_array_get(added, i), "id");
        if (!json_is_integer(id) || json_integer_value(id) < 0) return -1;
        high = MAX_OF(high, json_integer_value(id));
    }
    return high;
}

weir_status json_vocab(weir_tokenizer **out, const json_t *model, const json_t *added,
                       const char *path, weir_error *err) {
    json_t *object = json_object_get(model, "vocab");
    if (!json_is_object(object)) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: model.vocab is missing or no object", path);
    }
    const json_int_t high = highest_id(object, added);
    const size_t n = json_object_size(object) + json_array_size(added);
    if (high < 0 || high >= VOCAB_MAX || (size_t)high > n + SPARE_IDS) {
        return weir_fail(err, WEIR_ERR_FORMAT,
                         "%s: an id of the vocabulary is negative or far beyond its %zu entries",
                         path, n);
    }
    weir_tokenizer *t = *out = tokenizer_new((int)high + 1);
    if (!t) return tokenizer_no_memory(err, path);
    for (void *i = json_object_iter(object); i; i = json_object_iter_next(object, i)) {
        const int32_t id = (int32_t)json_integer_value(json_object_iter_value(i));
        if (!vocab_put(&t->vocab, id, json_object_iter_key(i), json_object_iter_key_len(i))) {
            return tokenizer_no_memory(err, path);
        }
    }
    return WEIR_OK;
}

/* ---- merges */

weir_status json_merge(weir_tokenizer *t, const char *left, size_t left_size, const char *right,
                       size_t right_size, uint32_t rank, const char *path, weir_error *err) {
    const int32_t l = vocab_find(&t->vocab, left, left_size);
    const int32_t r = vocab_find(&t->vocab, right, right_size);
    char text[MERGE_BYTES];
    const size_t size = left_size + right_size;
    int32_t made = VOCAB_NONE;
    if (l >= 0 && r >= 0 && size <= sizeof text) {
        memcpy(text, left, left_size);
        memcpy(text + left_size, right, right_size);
        made = vocab_find(&t->vocab, text, size);
    }
    if (made < 0) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: merge %u: \"%.60s\" is not in the vocabulary",
                         path, (unsigned)rank,
                         l < 0   ? left
                         : r < 0 ? right
                                 : "the merged piece");
    }
    return bpe_add(&t->bpe, &t->vocab, l, r, made, rank, false) ? WEIR_OK
                                                                : tokenizer_no_memory(err, path);
}

static weir_status merge_node(weir_tokenizer *t, const json_t *node, uint32_t rank,
                              const char *path, weir_error *err) {
    const json_t *left = json_array_get(node, 0), *right = json_array_get(node, 1);
    if (json_array_size(node) == 2 && json_is_string(left) && json_is_string(right)) {
        return json_merge(t, json_string_value(left), json_string_length(left),
                          json_string_value(right), json_string_length(right), rank, path, err);
    }
    const char *text = json_string_value(node), *space = NULL;
    const size_t size = json_string_length(node);
    for (size_t i = 0; i < size; i++) {
        if (text[i] != ' ') continue;
        space = text + i;
        /* Pieces may have spaces in them: then the right one is the one between two pieces. */
        if (vocab_find(&t->vocab, text, i) >= 0 &&
            vocab_find(&t->vocab, space + 1, size - i - 1) >= 0) {
            break;
        }
    }
    if (!space) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: merge %u is not a pair of pieces", path,
                         (unsigned)rank);
    }
    const size_t left_size = (size_t)(space - text);
    return json_merge(t, text, left_size, space + 1, size - left_size - 1, rank, path, err);
}

static weir_status merges(weir_tokenizer *t, const json_t *model, const char *path,
                          weir_error *err) {
    const json_t *list = json_object_get(model, "merges");
    const size_t n = json_array_size(list);
    if (!json_is_array(list)) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: model.merges is missing or no array", path);
    }
    if (!bpe_init(&t->bpe, n, t->unk)) return tokenizer_no_memory(err, path);
    for (size_t i = 0; i < n; i++) {
        WEIR_TRY(merge_node(t, json_array_get(list, i), (uint32_t)i, path, err));
    }
    return WEIR_OK;
}

/* ---- model */

/* Refuses what would change the result and is not done here. */
static weir_status check_model(const json_t *model, const char *path, weir_error *err) {
    const char *type = json_text(model, "type");
    if (!json_is_object(model) || (!type && !json_object_get(model, "merges"))) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: model is missing", path);
    }
    if (type && strcmp(type, "BPE") != 0) {
        return weir_fail(err, WEIR_ERR_MODEL, "%s: model type \"%.60s\" is not known, only BPE is",
                         path, type);
    }
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < COUNT_OF(affixes); i++) {
        const char *affix = json_text(model, affixes[i]);
        if (affix && *affix) {
            return weir_fail(err, WEIR_ERR_MODEL, "%s: model.%s \"%.20s\" is not known", path,
                             affixes[i], affix);
        }
    }
    if (json_number_value(json_object_get(model, "dropout")) > 0) {
        return weir_fail(err, WEIR_ERR_MODEL, "%s: model.dropout is for training only", path);
    }
    return WEIR_OK;
}

static weir_status model_options(weir_tokenizer *t, const json_t *model, const char *path,
                                 weir_error *err) {
    t->byte_fallback = json_flag(model, "byte_fallback", false);
    t->fuse_unk = json_flag(model, "fuse_unk", false);
    t->ignore_merges = json_flag(model, "ignore_merges", false);
    const json_t *unk = json_object_get(model, "unk_token");
    if (!json_is_string(unk)) return WEIR_OK;
    t->unk = vocab_find(&t->vocab, json_string_value(unk), json_string_length(unk));
    if (t->unk >= 0) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_FORMAT, "%s: unk_token \"%.60s\" is not in the vocabulary", path,
                     json_string_value(unk));
}

weir_status json_added_token(weir_tokenizer *t, int64_t id, const json_t *token, const char *path,
                             weir_error *err) {
    const json_t *content = json_object_get(token, "content");
    if (!json_is_string(content) || id < 0 || id >= t->vocab.n_ids) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: an added token has no content or no valid id",
                         path);
    }
    const char *text = json_string_value(content);
    const size_t size = json_string_length(content);
    if (size == 0) return WEIR_OK;
    const piece *p = &t->vocab.pieces[id];
    const bool same = p->text && p->size == size && memcmp(p->text, text, size) == 0;
    if (!same && !vocab_put(&t->vocab, (int32_t)id, text, size)) {
        return tokenizer_no_memory(err, path);
    }
    const bool special = json_flag(token, "special", false);
    const added_token added = {.id = (int32_t)id,
                               .special = special,
                               .lstrip = json_flag(token, "lstrip", false),
                               .rstrip = json_flag(token, "rstrip", false),
                               .single_word = json_flag(token, "single_word", false)};
    return tokenizer_add_token(t, &added, text, size, json_flag(token, "normalized", !special),
                               err);
}

static weir_status build(weir_tokenizer **out, const json_t *root, const char *path,
                         weir_error *err) {
    const json_t *model = json_object_get(root, "model");
    const json_t *added = json_object_get(root, "added_tokens");
    WEIR_TRY(check_model(model, path, err));
    WEIR_TRY(json_vocab(out, model, added, path, err));
    weir_tokenizer *t = *out;
    WEIR_TRY(model_options(t, model, path, err));
    WEIR_TRY(merges(t, model, path, err));
    WEIR_TRY(json_normalizer(t, json_object_get(root, "normalizer"), path, err));
    WEIR_TRY(json_pre_tokenizer(t, json_object_get(root, "pre_tokenizer"), path, err));
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *token = json_array_get(added, i);
        const int64_t id = json_integer_value(json_object_get(token, "id"));
        WEIR_TRY(json_added_token(t, id, token, path, err));
    }
    WEIR_TRY(json_post_processor(t, json_object_get(root, "post_processor"), path, err));
    output_rules rules = {0};
    weir_status status = json_decoder(t, &rules, json_object_get(root, "decoder"), path, err);
    if (status == WEIR_OK) status = tokenizer_make_outputs(t, &rules, err);
    norm_clear(&rules.replace);
    return status;
}

weir_status tokenizer_parse_json(weir_tokenizer **out, const json_t *root, const char *path,
                                 const char *folder, weir_error *err) {
    *out = NULL;
    weir_status status = build(out, root, path, err);
    if (status == WEIR_OK && folder) status = config_apply(*out, folder, err);
    if (status == WEIR_OK) {
        tokenizer_finish(*out);
        return WEIR_OK;
    }
    weir_tokenizer_close(*out);
    *out = NULL;
    return status;
}
