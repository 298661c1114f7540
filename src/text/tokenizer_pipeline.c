/* tokenizer_pipeline.c - the normalizer, pre_tokenizer, decoder and post_processor of
 * tokenizer.json.
 *
 * Each is an object {"type": NAME, ...}; a Sequence holds a list of them.  Everything becomes steps
 * of norm.h and stages of pretok.h; a NAME that is not in the tables below is an error.
 *
 * Reference: the serialised form of the Hugging Face tokenizers library.
 *
 * SPDX-License-Identifier: MIT */
#include "text/tokenizer_parts.h"

#include "base/unicode.h"

#include <string.h>

enum { MAX_DEPTH = 8 };

static bool is(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

bool json_flag(const json_t *object, const char *key, bool absent) {
    const json_t *v = json_object_get(object, key);
    return json_is_boolean(v) ? json_is_true(v) : absent;
}

const char *json_text(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

static weir_status unknown(weir_error *err, const char *path, const char *what, const char *type) {
    return weir_fail(err, WEIR_ERR_MODEL, "%s: %s \"%.100s\" is not known", path, what,
                     type ? type : "(no type)");
}

static weir_status malformed(weir_error *err, const char *path, const char *what) {
    return weir_fail(err, WEIR_ERR_FORMAT, "%s: %s is malformed", path, what);
}

/* The name of a node, NULL when it is no object or has none. */
static const char *type_of(const json_t *node) {
    return json_text(node, "type");
}

typedef weir_status node_fn(weir_tokenizer *t, const json_t *node, void *more, int depth,
                            const char *path, weir_error *err);

/* Runs fn over the list of a Sequence, or once over anything else.  more is passed through. */
static weir_status each(weir_tokenizer *t, const json_t *node, const char *list, node_fn *fn,
                        void *more, int depth, const char *path, weir_error *err) {
    if (!node || json_is_null(node)) return WEIR_OK;
    if (depth > MAX_DEPTH) return malformed(err, path, list);
    const char *type = type_of(node);
    if (!type || !is(type, "Sequence")) return fn(t, node, more, depth, path, err);
    const json_t *items = json_object_get(node, list);
    if (!json_is_array(items)) return malformed(err, path, list);
    for (size_t i = 0; i < json_array_size(items); i++) {
        WEIR_TRY(each(t, json_array_get(items, i), list, fn, more, depth + 1, path, err));
    }
    return WEIR_OK;
}

/* ---- normalizer */

static const struct {
    const char *type;
    norm_kind kind;
} plain_norms[] = {
    {"NFC", NORM_NFC},
    {"NFD", NORM_NFD},
    {"NFKC", NORM_NFKC},
    {"NFKD", NORM_NFKD},
    {"Lowercase", NORM_LOWERCASE},
    {"StripAccents", NORM_STRIP_ACCENTS},
    {"ByteLevel", NORM_BYTES},
};

/* Copies a string of the file into the tokenizer. */
static const char *keep(weir_tokenizer *t, const json_t *string) {
    return arena_copy(t->arena, json_string_value(string), json_string_length(string));
}

/* {"pattern": {"String": ...} or {"Regex": ...}, "content": ...} */
static weir_status replace_step(weir_tokenizer *t, norm *to, const json_t *node, const char *path,
                                weir_error *err) {
    const json_t *pattern = json_object_get(node, "pattern");
    const json_t *content = json_object_get(node, "content");
    const json_t *string = json_object_get(pattern, "String");
    const json_t *regex = json_object_get(pattern, "Regex");
    if (!json_is_string(content)) return malformed(err, path, "Replace");
    norm_step step = {.with_size = json_string_length(content), .with = keep(t, content)};
    if (!step.with) return tokenizer_no_memory(err, path);
    if (json_is_string(string)) {
        step.kind = NORM_REPLACE;
        step.what_size = json_string_length(string);
        if (step.what_size == 0) return malformed(err, path, "Replace of an empty string");
        step.what = keep(t, string);
        if (!step.what) return tokenizer_no_memory(err, path);
    } else if (json_is_string(regex)) {
        step.kind = NORM_REPLACE_REGEX;
        WEIR_TRY(regex_compile(&step.regex, json_string_value(regex), json_string_length(regex),
                               path, err));
    } else {
        return malformed(err, path, "Replace");
    }
    const weir_status status = norm_add(to, &step, path, err);
    if (status != WEIR_OK) regex_free(step.regex);
    return status;
}

static weir_status normalizer(weir_tokenizer *t, const json_t *node, void *more, int depth,
                              const char *path, weir_error *err) {
    (void)more, (void)depth;
    const char *type = type_of(node);
    if (!type) return unknown(err, path, "normalizer", type);
    for (size_t i = 0; i < COUNT_OF(plain_norms); i++) {
        if (is(type, plain_norms[i].type)) {
            return norm_add(&t->norm, &(norm_step){.kind = plain_norms[i].kind}, path, err);
        }
    }
    if (is(type, "Replace")) return replace_step(t, &t->norm, node, path, err);
    if (is(type, "Prepend")) {
        const json_t *text = json_object_get(node, "prepend");
        if (!json_is_string(text)) return malformed(err, path, "Prepend");
        norm_step step = {.kind = NORM_PREPEND, .with_size = json_string_length(text)};
        step.with = keep(t, text);
        return step.with ? norm_add(&t->norm, &step, path, err) : tokenizer_no_memory(err, path);
    }
    if (is(type, "Strip")) {
        const norm_step step = {.kind = NORM_STRIP,
                                .left = json_flag(node, "strip_left", true),
                                .right = json_flag(node, "strip_right", true)};
        return norm_add(&t->norm, &step, path, err);
    }
    return unknown(err, path, "normalizer", type);
}

weir_status json_normalizer(weir_tokenizer *t, const json_t *node, const char *path,
                            weir_error *err) {
    return each(t, node, "normalizers", normalizer, NULL, 0, path, err);
}

/* ---- pre-tokenizer */

static weir_status behavior_of(split_behavior *out, const json_t *node, split_behavior absent,
                               const char *path, weir_error *err) {
    static const char *const names[] = {"Isolated", "Removed", "Contiguous", "MergedWithPrevious",
                                        "MergedWithNext"};
    const char *name = json_text(node, "behavior");
    *out = absent;
    if (!name) return WEIR_OK;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        if (is(name, names[i])) {
            *out = (split_behavior)i;
            return WEIR_OK;
        }
    }
    return unknown(err, path, "split behavior", name);
}

/* A pattern that matches text as it stands. */
static bool quote(buffer *out, const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        const uint8_t c = (uint8_t)text[i];
        const bool plain = c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                           (c >= 'A' && c <= 'Z') || c <= ' ';
        if (!plain && !buffer_append(out, "\\", 1)) return false;
        if (!buffer_append(out, text + i, 1)) return false;
    }
    return true;
}

static weir_status split_literal(weir_tokenizer *t, const char *text, size_t size,
                                 split_behavior behavior, bool invert, const char *path,
                                 weir_error *err) {
    buffer pattern = {0};
    weir_status status =
        size == 0 ? malformed(err, path, "Split by an empty string")
        : quote(&pattern, text, size)
            ? pretok_add_split(&t->pretok, pattern.data, pattern.size, behavior, invert, path, err)
            : tokenizer_no_memory(err, path);
    buffer_clear(&pattern);
    return status;
}

static weir_status split_stage(weir_tokenizer *t, const json_t *node, const char *path,
                               weir_error *err) {
    const json_t *pattern = json_object_get(node, "pattern");
    const json_t *string = json_object_get(pattern, "String");
    const json_t *regex = json_object_get(pattern, "Regex");
    const bool invert = json_flag(node, "invert", false);
    split_behavior behavior;
    WEIR_TRY(behavior_of(&behavior, node, SPLIT_ISOLATED, path, err));
    if (json_is_string(string)) {
        return split_literal(t, json_string_value(string), json_string_length(string), behavior,
                             invert, path, err);
    }
    if (!json_is_string(regex)) return malformed(err, path, "Split");
    return pretok_add_split(&t->pretok, json_string_value(regex), json_string_length(regex),
                            behavior, invert, path, err);
}

static weir_status metaspace_stage(weir_tokenizer *t, const json_t *node, const char *path,
                                   weir_error *err) {
    pretok_stage stage = {.kind = STAGE_METASPACE};
    const char *mark = json_text(node, "replacement");
    const char *scheme = json_text(node, "prepend_scheme");
    uint32_t code;
    const size_t size = mark ? strlen(mark) : 0;
    if (size == 0 || utf8_decode(&code, mark, size) != size) {
        return malformed(err, path, "Metaspace");
    }
    memcpy(stage.mark, mark, size);
    stage.prepend = json_flag(node, "add_prefix_space", true) ? PREPEND_ALWAYS : PREPEND_NEVER;
    if (scheme) {
        if (is(scheme, "always"))
            stage.prepend = PREPEND_ALWAYS;
        else if (is(scheme, "first"))
            stage.prepend = PREPEND_FIRST;
        else if (is(scheme, "never"))
            stage.prepend = PREPEND_NEVER;
        else
            return unknown(err, path, "prepend_scheme", scheme);
    }
    WEIR_TRY(pretok_add(&t->pretok, &stage, path, err));
    if (!json_flag(node, "split", true)) return WEIR_OK;
    return split_literal(t, mark, size, SPLIT_WITH_NEXT, false, path, err);
}

static weir_status byte_level_stages(weir_tokenizer *t, const json_t *node, const char *path,
                                     weir_error *err) {
    if (json_flag(node, "add_prefix_space", true)) {
        WEIR_TRY(pretok_add(&t->pretok, &(pretok_stage){.kind = STAGE_PREFIX}, path, err));
    }
    if (json_flag(node, "use_regex", true)) {
        WEIR_TRY(pretok_add_split(&t->pretok, PRETOK_GPT2, sizeof PRETOK_GPT2 - 1, SPLIT_ISOLATED,
                                  false, path, err));
    }
    return pretok_add(&t->pretok, &(pretok_stage){.kind = STAGE_BYTES}, path, err);
}

/* Pre-tokenizers that are one pattern under another name. */
static const struct {
    const char *type, *pattern;
    split_behavior behavior;
    bool invert;
} plain_splits[] = {
    {"Whitespace", "\\w+|[^\\w\\s]+", SPLIT_REMOVED, true},
    {"WhitespaceSplit", "\\s", SPLIT_REMOVED, false},
    {"Punctuation", "[!-/:-@\\[-`{-~\\p{P}]", SPLIT_ISOLATED, false},
};

static weir_status pre_tokenizer(weir_tokenizer *t, const json_t *node, void *more, int depth,
                                 const char *path, weir_error *err) {
    (void)more, (void)depth;
    const char *type = type_of(node);
    if (!type) return unknown(err, path, "pre-tokenizer", type);
    if (is(type, "ByteLevel")) return byte_level_stages(t, node, path, err);
    if (is(type, "Split")) return split_stage(t, node, path, err);
    if (is(type, "Metaspace")) return metaspace_stage(t, node, path, err);
    if (is(type, "Digits")) {
        const bool single = json_flag(node, "individual_digits", false);
        return pretok_add_split(&t->pretok, "\\p{N}", 5, single ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS,
                                false, path, err);
    }
    for (size_t i = 0; i < COUNT_OF(plain_splits); i++) {
        if (!is(type, plain_splits[i].type)) continue;
        split_behavior behavior;
        WEIR_TRY(behavior_of(&behavior, node, plain_splits[i].behavior, path, err));
        return pretok_add_split(&t->pretok, plain_splits[i].pattern,
                                strlen(plain_splits[i].pattern), behavior, plain_splits[i].invert,
                                path, err);
    }
    return unknown(err, path, "pre-tokenizer", type);
}

/* A STAGE_BYTES at the very end is left out: words stay bytes, which spares spelling them. */
weir_status json_pre_tokenizer(weir_tokenizer *t, const json_t *node, const char *path,
                               weir_error *err) {
    WEIR_TRY(each(t, node, "pretokenizers", pre_tokenizer, NULL, 0, path, err));
    pretok *p = &t->pretok;
    if (p->n_stages > 0 && p->stages[p->n_stages - 1].kind == STAGE_BYTES) {
        p->n_stages--;
        t->bytes = true;
    }
    return WEIR_OK;
}

/* ---- decoder */

static weir_status metaspace_rule(weir_tokenizer *t, output_rules *rules, const json_t *node,
                                  const char *path, weir_error *err) {
    const json_t *mark = json_object_get(node, "replacement");
    const char *scheme = json_text(node, "prepend_scheme");
    if (!json_is_string(mark) || json_string_length(mark) == 0) {
        return malformed(err, path, "Metaspace");
    }
    norm_step step = {.kind = NORM_REPLACE, .with = " ", .with_size = 1, .what = keep(t, mark)};
    step.what_size = json_string_length(mark);
    if (!step.what) return tokenizer_no_memory(err, path);
    t->strip_space = scheme ? !is(scheme, "never") : json_flag(node, "add_prefix_space", true);
    return norm_add(&rules->replace, &step, path, err);
}

static weir_status decoder(weir_tokenizer *t, const json_t *node, void *more, int depth,
                           const char *path, weir_error *err) {
    (void)depth;
    output_rules *rules = more;
    const char *type = type_of(node);
    if (!type) return unknown(err, path, "decoder", type);
    if (is(type, "Fuse")) return WEIR_OK;
    if (is(type, "ByteLevel")) {
        rules->bytes = true;
        return WEIR_OK;
    }
    if (is(type, "ByteFallback")) {
        rules->byte_fallback = true;
        return WEIR_OK;
    }
    if (is(type, "Replace")) return replace_step(t, &rules->replace, node, path, err);
    if (is(type, "Metaspace")) return metaspace_rule(t, rules, node, path, err);
    if (is(type, "Strip")) {
        const char *content = json_text(node, "content");
        const json_int_t start = json_integer_value(json_object_get(node, "start"));
        const json_int_t stop = json_integer_value(json_object_get(node, "stop"));
        if (!content || !is(content, " ") || start < 0 || start > 1 || stop != 0) {
            return weir_fail(err, WEIR_ERR_MODEL,
                             "%s: decoder Strip of anything but one leading space is not known",
                             path);
        }
        t->strip_space = start == 1;
        return WEIR_OK;
    }
    return unknown(err, path, "decoder", type);
}

weir_status json_decoder(weir_tokenizer *t, output_rules *rules, const json_t *node,
                         const char *path, weir_error *err) {
    if (!node || json_is_null(node)) {
        rules->joined = t->strip_space = true;
        return WEIR_OK;
    }
    return each(t, node, "decoders", decoder, rules, 0, path, err);
}

/* ---- post-processor */

static weir_status prefix_token(weir_tokenizer *t, json_int_t id, const char *path,
                                weir_error *err) {
    if (id < 0 || id >= t->vocab.n_ids || t->n_prefix == TOKENIZER_PREFIX) {
        return malformed(err, path, "post_processor");
    }
    t->prefix[t->n_prefix++] = (int32_t)id;
    return WEIR_OK;
}

/* What "single" has before the text: [{"SpecialToken": {"id": NAME}}, ..., {"Sequence": ...}] */
static weir_status template_prefix(weir_tokenizer *t, const json_t *node, const char *path,
                                   weir_error *err) {
    const json_t *single = json_object_get(node, "single");
    const json_t *tokens = json_object_get(node, "special_tokens");
    if (!json_is_array(single)) return malformed(err, path, "TemplateProcessing");
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *item = json_array_get(single, i);
        if (json_object_get(item, "Sequence")) return WEIR_OK;
        const char *name = json_text(json_object_get(item, "SpecialToken"), "id");
        const json_t *ids = name ? json_object_get(json_object_get(tokens, name), "ids") : NULL;
        if (!json_is_array(ids)) return malformed(err, path, "TemplateProcessing");
        for (size_t k = 0; k < json_array_size(ids); k++) {
            const json_t *id = json_array_get(ids, k);
            WEIR_TRY(prefix_token(t, json_is_integer(id) ? json_integer_value(id) : -1, path, err));
        }
    }
    return WEIR_OK;
}

static weir_status post_processor(weir_tokenizer *t, const json_t *node, void *more, int depth,
                                  const char *path, weir_error *err) {
    (void)more, (void)depth;
    const char *type = type_of(node);
    if (!type) return unknown(err, path, "post-processor", type);
    if (is(type, "ByteLevel")) return WEIR_OK; /* moves offsets only */
    if (is(type, "TemplateProcessing")) return template_prefix(t, node, path, err);
    if (is(type, "RobertaProcessing") || is(type, "BertProcessing")) { /* "cls": [NAME, ID] */
        const json_t *id = json_array_get(json_object_get(node, "cls"), 1);
        return prefix_token(t, json_is_integer(id) ? json_integer_value(id) : -1, path, err);
    }
    return unknown(err, path, "post-processor", type);
}

weir_status json_post_processor(weir_tokenizer *t, const json_t *node, const char *path,
                                weir_error *err) {
    return each(t, node, "processors", post_processor, NULL, 0, path, err);
}
