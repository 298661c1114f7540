/* tokenizer.c - encoding, and what can be asked of a tokenizer.
 *
 * One encoder per call holds all scratch, so a tokenizer can serve many threads.  Words repeat: a
 * small cache from a word's bytes to the place in the output where its ids were written first saves
 * nine merges of ten on ordinary text.
 *
 * SPDX-License-Identifier: MIT */
#include "text/tokenizer.h"

#include "base/unicode.h"
#include "text/tokenizer_parts.h"

#include <string.h>

enum { CACHE_KEY = 23, CACHE_MOST = 1 << 14 };

typedef struct cached { /* a word and where its ids are in the output */
    uint8_t size;       /* 0: an empty entry */
    char key[CACHE_KEY];
    uint32_t n;
    size_t at;
} cached;

typedef struct encoder {
    const weir_tokenizer *t;
    bool specials;
    int32_t *ids; /* [capacity] the output */
    size_t n, capacity;
    int32_t *symbols; /* [n_symbols] of one word */
    size_t n_symbols;
    cached *cache; /* [cache_mask + 1]; NULL: text too short to care */
    size_t cache_mask;
    buffer spelled;
    bpe_work merge;
    pretok_work pretok;
    norm_work norm;
} encoder;

weir_status tokenizer_no_memory(weir_error *err, const char *path) {
    return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", path);
}

static bool grow(int32_t **data, size_t *capacity, size_t want) {
    if (want <= *capacity) return true;
    const size_t more = MAX_OF(want, *capacity * 2);
    int32_t *p = mem_grow(*data, more, sizeof **data);
    if (!p) return false;
    *data = p;
    *capacity = more;
    return true;
}

static bool emit(encoder *e, int32_t id) {
    if (!grow(&e->ids, &e->capacity, e->n + 1)) return false;
    e->ids[e->n++] = id;
    return true;
}

/* ---- one word */

/* The symbols of one character that is no piece: its bytes, or unk, or nothing.  Returns how many.
 */
static size_t fall_back(const weir_tokenizer *t, int32_t *out, const char *text, size_t size,
                        bool after_unk) {
    bool known = t->byte_fallback;
    for (size_t i = 0; known && i < size; i++) known = t->byte_ids[(uint8_t)text[i]] >= 0;
    if (known) {
        for (size_t i = 0; i < size; i++) out[i] = t->byte_ids[(uint8_t)text[i]];
        return size;
    }
    if (t->unk < 0 || (after_unk && t->fuse_unk)) return 0;
    out[0] = t->unk;
    return 1;
}

static size_t byte_symbols(const weir_tokenizer *t, int32_t *out, const char *text, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        const int32_t id = t->byte_ids[(uint8_t)text[i]];
        if (id >= 0) {
            out[n++] = id;
        } else {
            n += fall_back(t, out + n, text + i, 1, n > 0 && out[n - 1] == t->unk);
        }
    }
    return n;
}

static size_t character_symbols(const weir_tokenizer *t, int32_t *out, const char *text,
                                size_t size) {
    size_t n = 0;
    for (size_t i = 0, length; i < size; i += length) {
        uint32_t code;
        length = utf8_decode(&code, text + i, size - i);
        const int32_t id =
            code < SMALL_CODES ? t->small_ids[code] : vocab_find(&t->vocab, text + i, length);
        if (id >= 0) {
            out[n++] = id;
        } else {
            n += fall_back(t, out + n, text + i, length, n > 0 && out[n - 1] == t->unk);
        }
    }
    return n;
}

/* A symbol that is no piece of the vocabulary is spelled by its characters. */
static bool emit_internal(encoder *e, int32_t symbol) {
    const weir_tokenizer *t = e->t;
    const piece *p = &t->vocab.pieces[symbol];
    for (size_t i = 0, length; i < p->size; i += length) {
        length = utf8_length(p->text[i]);
        const int32_t id = vocab_find(&t->vocab, p->text + i, length);
        int32_t out[UTF8_MAX];
        const size_t n = id >= 0 && id < t->vocab.n_ids
                             ? (out[0] = id, 1)
                             : fall_back(t, out, p->text + i, length, false);
        for (size_t k = 0; k < n; k++) {
            if (!emit(e, out[k])) return false;
        }
    }
    return true;
}

/* The piece that is the whole word, when merges are to be ignored for such words. */
static bool whole_word(encoder *e, const char *text, size_t size, int32_t *id) {
    const weir_tokenizer *t = e->t;
    *id = VOCAB_NONE;
    if (!t->ignore_merges) return true;
    if (t->bytes) {
        e->spelled.size = 0;
        if (!bytes_to_text(&e->spelled, text, size)) return false;
        text = e->spelled.data;
        size = e->spelled.size;
    }
    *id = vocab_find(&t->vocab, text, size);
    if (*id >= t->vocab.n_ids || (*id >= 0 && t->vocab.pieces[*id].flags & PIECE_ADDED)) {
        *id = VOCAB_NONE;
    }
    return true;
}

static bool encode_word(encoder *e, const char *text, size_t size) {
    const weir_tokenizer *t = e->t;
    int32_t whole;
    if (!whole_word(e, text, size, &whole)) return false;
    if (whole >= 0) return emit(e, whole);
    if (!grow(&e->symbols, &e->n_symbols, size)) return false;
    size_t n = t->bytes ? byte_symbols(t, e->symbols, text, size)
                        : character_symbols(t, e->symbols, text, size);
    n = bpe_merge(&t->bpe, &e->merge, e->symbols, n);
    if (n == SIZE_MAX || !grow(&e->ids, &e->capacity, size_add(e->n, n))) return false;
    for (size_t i = 0; i < n; i++) {
        const int32_t id = e->symbols[i];
        if (!(id < t->vocab.n_ids ? emit(e, id) : emit_internal(e, id))) return false;
    }
    return true;
}

/* A word through the cache. */
static weir_status word(void *user, const char *text, size_t size, weir_error *err) {
    encoder *e = user;
    cached *c = NULL;
    if (e->cache && size <= CACHE_KEY) {
        c = &e->cache[hash_bytes(text, size) & e->cache_mask];
        if (c->size == size && memcmp(c->key, text, size) == 0) {
            if (!grow(&e->ids, &e->capacity, e->n + c->n)) goto memory;
            for (uint32_t i = 0; i < c->n; i++) e->ids[e->n++] = e->ids[c->at + i];
            return WEIR_OK;
        }
    }
    const size_t at = e->n;
    if (!encode_word(e, text, size)) goto memory;
    if (c) {
        c->size = (uint8_t)size;
        memcpy(c->key, text, size);
        c->n = (uint32_t)(e->n - at);
        c->at = at;
    }
    return WEIR_OK;
memory:
    return tokenizer_no_memory(err, "tokenizer");
}

/* ---- the whole text */

/* Text without tokens matched as written: normalized, then cut at the tokens matched there. */
static weir_status encode_plain(encoder *e, const char *text, size_t size, bool first,
                                weir_error *err) {
    const weir_tokenizer *t = e->t;
    WEIR_TRY(norm_run(&t->norm, &e->norm, text, size, &text, &size, err));
    for (size_t at = 0; at < size;) {
        const added_token *hit;
        size_t start, end;
        added_next(&t->normalized, text, size, at, e->specials, &hit, &start, &end);
        WEIR_TRY(pretok_run(&t->pretok, &e->pretok, text + at, start - at, first && at == 0, word,
                            e, err));
        if (hit && !emit(e, hit->id)) return tokenizer_no_memory(err, "tokenizer");
        at = end;
    }
    return WEIR_OK;
}

static weir_status encode(encoder *e, const char *text, size_t size, weir_error *err) {
    for (size_t at = 0; at < size;) {
        const added_token *hit;
        size_t start, end;
        added_next(&e->t->raw, text, size, at, e->specials, &hit, &start, &end);
        if (start > at) WEIR_TRY(encode_plain(e, text + at, start - at, at == 0, err));
        if (hit && !emit(e, hit->id)) return tokenizer_no_memory(err, "tokenizer");
        at = end;
    }
    return WEIR_OK;
}

weir_status tokenizer_encode(const weir_tokenizer *t, const char *text, size_t size, int flags,
                             int32_t **ids, size_t *n, weir_error *err) {
    *ids = NULL;
    *n = 0;
    encoder e = {.t = t, .specials = flags & WEIR_PARSE_SPECIAL};
    buffer repaired = {0};
    weir_status status = WEIR_OK;
    bool ok = grow(&e.ids, &e.capacity, TOKENIZER_PREFIX + size / 4);
    for (int i = 0; ok && flags & WEIR_ADD_BOS && i < t->n_prefix; i++) ok = emit(&e, t->prefix[i]);
    if (ok && size > 1024) {
        size_t entries = 256;
        while (entries < size / 32 && entries < CACHE_MOST) entries *= 2;
        e.cache = mem_array(entries, sizeof *e.cache); /* without it, it is only slower */
        e.cache_mask = entries - 1;
    }
    if (ok && !utf8_is_valid(text, size)) {
        ok = utf8_repair(&repaired, text, size);
        text = repaired.data;
        size = repaired.size;
    }
    status = ok ? encode(&e, text, size, err) : tokenizer_no_memory(err, "tokenizer");
    if (status == WEIR_OK) {
        *ids = e.ids;
        *n = e.n;
    } else {
        mem_free(e.ids);
    }
    mem_free(e.symbols);
    mem_free(e.cache);
    buffer_clear(&e.spelled);
    buffer_clear(&repaired);
    bpe_work_clear(&e.merge);
    pretok_work_clear(&e.pretok);
    norm_work_clear(&e.norm);
    return status;
}

/* ---- questions */

int tokenizer_vocab(const weir_tokenizer *t) {
    return t->vocab.n_ids;
}

int32_t tokenizer_bos(const weir_tokenizer *t) {
    return t->bos;
}

int32_t tokenizer_eos(const weir_tokenizer *t) {
    return t->eos;
}

bool tokenizer_adds_bos(const weir_tokenizer *t) {
    return t->n_prefix > 0;
}

bool tokenizer_is_end(const weir_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocab.n_ids && t->vocab.pieces[id].flags & PIECE_END;
}

const char *tokenizer_chat_template(const weir_tokenizer *t) {
    return t->chat_template;
}

const char *tokenizer_token_text(const weir_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocab.n_ids ? t->vocab.pieces[id].text : NULL;
}

int32_t tokenizer_find(const weir_tokenizer *t, const char *token) {
    const int32_t id = vocab_find(&t->vocab, token, strlen(token));
    return id < t->vocab.n_ids ? id : -1;
}
