/* tokenizer_gguf.c - the vocabulary in a GGUF.
 *
 *   tokenizer.ggml.model       "llama": SentencePiece BPE by scores
 *                              "gpt2": byte-level BPE by merges
 *   tokenizer.ggml.tokens      spellings by id
 *   tokenizer.ggml.token_type  1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
 *   tokenizer.ggml.scores      "llama": the higher, the earlier a piece is formed
 *   tokenizer.ggml.merges      "gpt2": "left right", in order of rank
 *   tokenizer.ggml.pre         "gpt2": the name of the pre-tokenizer
 *
 * Scores become merges: any two pieces whose sum is a piece may be joined, and all ways to form a
 * piece share its rank.  A character that is part of pieces but none itself gets an internal id.
 *
 * Control tokens are cut out of text when special tokens are asked for, user-defined ones always.
 *
 * SPDX-License-Identifier: MIT */
#include "text/tokenizer_parts.h"

#include "base/unicode.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, BYTE = 6 };
enum { LONGEST_SPM = 1024 }; /* bytes of a piece that can be formed by joining */

typedef struct source { /* what the file says */
    const gguf *g;
    const char *path;
    const gguf_string *tokens;
    size_t n;
    const int32_t *types; /* [n]; NULL: all normal */
    bool spm;
} source;

static bool equals(gguf_string a, const char *b) {
    return a.size == strlen(b) && memcmp(a.data, b, a.size) == 0;
}

static weir_status read_source(source *s, weir_error *err) {
    gguf_string model;
    if (!gguf_get_string(s->g, "tokenizer.ggml.model", &model)) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: holds no tokenizer (no tokenizer.ggml.model)",
                         s->path);
    }
    s->spm = equals(model, "llama");
    if (!s->spm && !equals(model, "gpt2")) {
        return weir_fail(err, WEIR_ERR_MODEL, "%s: tokenizer model \"%.*s\" is not known", s->path,
                         (int)MIN_OF(model.size, (size_t)60), model.data);
    }
    size_t n_types;
    if (!gguf_get_strings(s->g, "tokenizer.ggml.tokens", &s->tokens, &s->n) || s->n == 0 ||
        s->n > VOCAB_MAX) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: tokenizer.ggml.tokens is missing or empty",
                         s->path);
    }
    if (gguf_get_i32s(s->g, "tokenizer.ggml.token_type", &s->types, &n_types)) {
        if (n_types >= s->n) return WEIR_OK;
        return weir_fail(err, WEIR_ERR_FORMAT,
                         "%s: tokenizer.ggml.token_type has %zu entries for %zu tokens", s->path,
                         n_types, s->n);
    }
    s->types = NULL;
    return WEIR_OK;
}

static int32_t type_of(const source *s, size_t id) {
    return s->types ? s->types[id] : 1;
}

/* ---- pieces */

static weir_status put_pieces(weir_tokenizer *t, const source *s, weir_error *err) {
    for (size_t i = 0; i < s->n; i++) {
        const gguf_string text = s->tokens[i];
        if (text.size == 0) continue;
        if (!vocab_put(&t->vocab, (int32_t)i, text.data, text.size)) {
            return tokenizer_no_memory(err, s->path);
        }
        const int32_t type = type_of(s, i);
        if (type == UNKNOWN || type == CONTROL || type == USER_DEFINED) {
            t->vocab.pieces[i].flags |= PIECE_LITERAL;
        }
    }
    return WEIR_OK;
}

/* Phi-3's converter lost which tokens swallow the white space behind them. */
static bool swallows_space(const source *s, gguf_string token) {
    static const char *const not_these[] = {"<unk>", "<s>", "<|endoftext|>"};
    gguf_string name;
    if (!gguf_get_string(s->g, "general.name", &name)) return false;
    char lower[64];
    size_t n = 0;
    for (; n < name.size && n < sizeof lower - 1; n++) {
        lower[n] = (char)tolower((unsigned char)name.data[n]);
    }
    lower[n] = 0;
    if (!strstr(lower, "phi-3") && !strstr(lower, "phi3")) return false;
    for (size_t i = 0; i < COUNT_OF(not_these); i++) {
        if (equals(token, not_these[i])) return false;
    }
    return true;
}

static weir_status put_special(weir_tokenizer *t, const source *s, weir_error *err) {
    for (size_t i = 0; i < s->n; i++) {
        const int32_t type = type_of(s, i);
        if (type != UNKNOWN && type != CONTROL && type != USER_DEFINED) continue;
        if (s->tokens[i].size == 0) continue;
        const added_token token = {.id = (int32_t)i,
                                   .special = type != USER_DEFINED,
                                   .rstrip = swallows_space(s, s->tokens[i])};
        WEIR_TRY(tokenizer_add_token(t, &token, s->tokens[i].data, s->tokens[i].size, false, err));
    }
    return WEIR_OK;
}

/* ---- "gpt2": merges as listed */

static weir_status listed_merges(weir_tokenizer *t, const source *s, weir_error *err) {
    const gguf_string *merges;
    size_t n;
    if (!gguf_get_strings(s->g, "tokenizer.ggml.merges", &merges, &n)) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: tokenizer.ggml.merges is missing", s->path);
    }
    if (!bpe_init(&t->bpe, n, -1)) return tokenizer_no_memory(err, s->path);
    buffer text = {0};
    weir_status status = WEIR_OK;
    for (size_t i = 0; status == WEIR_OK && i < n; i++) {
        const char *p = merges[i].data;
        const size_t size = merges[i].size;
        const char *space = size > 1 ? memchr(p + 1, ' ', size - 1) : NULL;
        if (!space) continue; /* no pair: can never apply */
        const size_t left = (size_t)(space - p), right = size - left - 1;
        text.size = 0;
        int32_t ids[3] = {-1, -1, -1};
        if (buffer_append(&text, p, left) && buffer_append(&text, space + 1, right)) {
            ids[0] = vocab_intern(&t->vocab, p, left);
            ids[1] = vocab_intern(&t->vocab, space + 1, right);
            ids[2] = vocab_intern(&t->vocab, text.data, text.size);
        }
        if (ids[0] < 0 || ids[1] < 0 || ids[2] < 0 ||
            !bpe_add(&t->bpe, &t->vocab, ids[0], ids[1], ids[2], (uint32_t)i, true)) {
            status = tokenizer_no_memory(err, s->path);
        }
    }
    buffer_clear(&text);
    return status;
}

/* Old files name no pre-tokenizer, but some architectures only ever had one. */
static gguf_string pre_tokenizer_name(const source *s) {
    static const char *const by_architecture[][2] = {
        {"gptneox", "gpt-2"}, {"gpt2", "gpt-2"},  {"mpt", "mpt"},
        {"falcon", "falcon"}, {"bloom", "bloom"}, {"starcoder", "starcoder"},
    };
    gguf_string name, architecture;
    if (gguf_get_string(s->g, "tokenizer.ggml.pre", &name)) return name;
    if (gguf_get_string(s->g, "general.architecture", &architecture)) {
        for (size_t i = 0; i < COUNT_OF(by_architecture); i++) {
            const char *pre = by_architecture[i][1];
            if (equals(architecture, by_architecture[i][0])) return (gguf_string){pre, strlen(pre)};
        }
    }
    return (gguf_string){"default", 7};
}

static weir_status open_listed(weir_tokenizer *t, const source *s, bool *adds_bos,
                               weir_error *err) {
    const gguf_string pre = pre_tokenizer_name(s);
    pretok_named also;
    WEIR_TRY(pretok_open_named(&t->pretok, &also, pre.data, pre.size, s->path, err));
    WEIR_TRY(listed_merges(t, s, err));
    t->bytes = true;
    t->ignore_merges = also.ignore_merges;
    *adds_bos = also.adds_bos;
    const output_rules rules = {.bytes = true};
    return tokenizer_make_outputs(t, &rules, err);
}

/* ---- "llama": merges from scores */

typedef struct scored {
    float score;
    int32_t id;
} scored;

static int by_falling_score(const void *a, const void *b) {
    const scored *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score;
}

/* The symbol of a part: a piece, or any single character; -1: neither. -2: out of memory. */
static int32_t part(vocab *v, const char *text, size_t size) {
    const int32_t id = vocab_find(v, text, size);
    if (id >= 0 || utf8_length(text[0]) < size) return id;
    const int32_t made = vocab_intern(v, text, size);
    return made < 0 ? -2 : made;
}

/* All ways to form one piece from two. */
static weir_status split_piece(weir_tokenizer *t, int32_t id, uint32_t rank, const char *path,
                               weir_error *err) {
    const char *text = t->vocab.pieces[id].text;
    const size_t size = t->vocab.pieces[id].size;
    for (size_t cut = utf8_length(text[0]); cut < size; cut += utf8_length(text[cut])) {
        const int32_t left = part(&t->vocab, text, cut);
        const int32_t right = left < 0 ? left : part(&t->vocab, text + cut, size - cut);
        if (left == -2 || right == -2) return tokenizer_no_memory(err, path);
        if (right < 0) continue;
        if (!bpe_add(&t->bpe, &t->vocab, left, right, id, rank, true)) {
            return tokenizer_no_memory(err, path);
        }
    }
    return WEIR_OK;
}

static weir_status merges_from_scores(weir_tokenizer *t, const source *s, weir_error *err) {
    const float *scores = NULL;
    size_t n_scores = 0;
    const bool has = gguf_get_f32s(s->g, "tokenizer.ggml.scores", &scores, &n_scores);
    if (!has || n_scores < s->n) {
        return weir_fail(err, WEIR_ERR_FORMAT,
                         "%s: tokenizer.ggml.scores has %zu entries for %zu tokens", s->path,
                         n_scores, s->n);
    }
    scored *order = mem_array(s->n, sizeof *order);
    if (!order || !bpe_init(&t->bpe, s->n * 2, t->unk)) {
        mem_free(order);
        return tokenizer_no_memory(err, s->path);
    }
    for (size_t i = 0; i < s->n; i++) {
        order[i] = (scored){isnan(scores[i]) ? -INFINITY : scores[i], (int32_t)i};
    }
    qsort(order, s->n, sizeof *order, by_falling_score);
    weir_status status = WEIR_OK;
    uint32_t rank = 0;
    for (size_t i = 0; status == WEIR_OK && i < s->n; i++) {
        rank += i > 0 && order[i].score < order[i - 1].score;
        const piece *p = &t->vocab.pieces[order[i].id];
        if (!p->text || !utf8_is_valid(p->text, p->size) || p->size > LONGEST_SPM) continue;
        if (vocab_find(&t->vocab, p->text, p->size) != order[i].id) continue; /* has a namesake */
        status = split_piece(t, order[i].id, rank, s->path, err);
    }
    mem_free(order);
    return status;
}

static weir_status open_scored(weir_tokenizer *t, const source *s, weir_error *err) {
    static const char mark[] = "\xe2\x96\x81";
    const norm_step prepend = {.kind = NORM_PREPEND, .with = mark, .with_size = 3};
    const norm_step spaces = {
        .kind = NORM_REPLACE, .what = " ", .what_size = 1, .with = mark, .with_size = 3};
    const norm_step marks = {
        .kind = NORM_REPLACE, .what = mark, .what_size = 3, .with = " ", .with_size = 1};
    bool prefix = true;
    gguf_get_bool(s->g, "tokenizer.ggml.add_space_prefix", &prefix);
    t->strip_space = prefix;
    t->byte_fallback = true;
    if (prefix) WEIR_TRY(norm_add(&t->norm, &prepend, s->path, err));
    WEIR_TRY(norm_add(&t->norm, &spaces, s->path, err));
    WEIR_TRY(merges_from_scores(t, s, err));
    output_rules rules = {.byte_fallback = true};
    WEIR_TRY(norm_add(&rules.replace, &marks, s->path, err));
    return tokenizer_make_outputs(t, &rules, err);
}

/* ---- the whole */

static int32_t id_of(const source *s, const char *key, int32_t absent) {
    uint64_t id;
    if (!gguf_get_u64(s->g, key, &id)) return absent;
    return id < s->n ? (int32_t)id : -1;
}

/* The ids the file names; the numbers are what its format means when it does not. */
static void read_ids(weir_tokenizer *t, const source *s) {
    const bool llama = s->spm && s->n > 2;
    t->bos = id_of(s, "tokenizer.ggml.bos_token_id", llama ? 1 : -1);
    t->eos = id_of(s, "tokenizer.ggml.eos_token_id", llama ? 2 : -1);
    t->unk = id_of(s, "tokenizer.ggml.unknown_token_id", llama ? 0 : -1);
    tokenizer_mark_end(t, id_of(s, "tokenizer.ggml.eot_token_id", -1));
    tokenizer_mark_end(t, id_of(s, "tokenizer.ggml.eom_token_id", -1));
}

static weir_status read_template(weir_tokenizer *t, const source *s, weir_error *err) {
    gguf_string text;
    if (!gguf_get_string(s->g, "tokenizer.chat_template", &text)) return WEIR_OK;
    t->chat_template = arena_copy(t->arena, text.data, text.size);
    return t->chat_template ? WEIR_OK : tokenizer_no_memory(err, s->path);
}

static weir_status build(weir_tokenizer **out, source *s, weir_error *err) {
    WEIR_TRY(read_source(s, err));
    weir_tokenizer *t = *out = tokenizer_new((int)s->n);
    if (!t) return tokenizer_no_memory(err, s->path);
    WEIR_TRY(put_pieces(t, s, err));
    read_ids(t, s);
    bool adds_bos = s->spm;
    if (s->spm) {
        WEIR_TRY(open_scored(t, s, err));
    } else {
        WEIR_TRY(open_listed(t, s, &adds_bos, err));
        t->unk = -1; /* every byte is a piece; what is none is left out */
    }
    WEIR_TRY(put_special(t, s, err));
    WEIR_TRY(read_template(t, s, err));
    gguf_get_bool(s->g, "tokenizer.ggml.add_bos_token", &adds_bos);
    if (adds_bos && t->bos >= 0) t->prefix[t->n_prefix++] = t->bos;
    tokenizer_finish(t);
    return WEIR_OK;
}

weir_status tokenizer_open_gguf(weir_tokenizer **out, const gguf *g, const char *path,
                                weir_error *err) {
    *out = NULL;
    source s = {.g = g, .path = path};
    const weir_status status = build(out, &s, err);
    if (status == WEIR_OK) return WEIR_OK;
    weir_tokenizer_close(*out);
    *out = NULL;
    return status;
}
