/* norm.c - the steps of norm.h, one small function each.
 *
 * SPDX-License-Identifier: MIT */
#include "text/norm.h"

#include "base/unicode.h"
#include "text/bpe_vocab.h"

#include <string.h>

#include <utf8proc.h>

void norm_clear(norm *n) {
    for (int i = 0; i < n->n_steps; i++) regex_free(n->steps[i].regex);
    *n = (norm){0};
}

weir_status norm_add(norm *n, const norm_step *step, const char *path, weir_error *err) {
    if (n->n_steps == NORM_STEPS) {
        return weir_fail(err, WEIR_ERR_MODEL, "%s: more than %d normalizers", path, NORM_STEPS);
    }
    n->steps[n->n_steps++] = *step;
    return WEIR_OK;
}

void norm_work_clear(norm_work *w) {
    buffer_clear(&w->text[0]);
    buffer_clear(&w->text[1]);
    regex_match_free(w->match);
    *w = (norm_work){0};
}

bool char_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

bool char_is_word(uint32_t c) {
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_ND) || k == UTF8PROC_CATEGORY_PC;
}

/* ---- steps */

static bool replace(const norm_step *s, buffer *out, const char *text, size_t size) {
    size_t done = 0;
    for (size_t i = 0; i + s->what_size <= size;) {
        const char *hit = memchr(text + i, s->what[0], size - i - s->what_size + 1);
        if (!hit) break;
        i = (size_t)(hit - text);
        if (memcmp(hit, s->what, s->what_size) != 0) {
            i++;
            continue;
        }
        if (!buffer_append(out, text + done, i - done)) return false;
        if (!buffer_append(out, s->with, s->with_size)) return false;
        done = i += s->what_size;
    }
    return buffer_append(out, text + done, size - done);
}

static weir_status replace_regex(const norm_step *s, norm_work *w, buffer *out, const char *text,
                                 size_t size, weir_error *err) {
    if (!w->match) w->match = regex_match_new();
    bool ok = w->match != NULL;
    size_t done = 0;
    for (size_t search = 0; ok && search <= size;) {
        bool found;
        size_t start, end;
        WEIR_TRY(regex_find(s->regex, w->match, text, size, search, &found, &start, &end, err));
        if (!found) break;
        ok = buffer_append(out, text + done, start - done) &&
             buffer_append(out, s->with, s->with_size);
        done = search = end;
        if (start == end) { /* step over one character, or the empty match comes again */
            const size_t n = end < size ? utf8_length(text[end]) : 1;
            if (ok && end < size) ok = buffer_append(out, text + end, n);
            search = end + n;
            done = end < size ? search : size;
        }
    }
    ok = ok && buffer_append(out, text + done, size - done);
    return ok ? WEIR_OK : weir_fail(err, WEIR_ERR_MEMORY, "normalizer: out of memory");
}

static bool lowercase(buffer *out, const char *text, size_t size) {
    for (size_t i = 0; i < size;) {
        uint32_t code;
        i += utf8_decode(&code, text + i, size - i);
        if (!buffer_reserve(out, UTF8_MAX)) return false;
        if (code == 0x130) { /* the one capital whose full lower case is two characters */
            out->size += utf8_encode(out->data + out->size, 'i');
            code = 0x307;
            if (!buffer_reserve(out, UTF8_MAX)) return false;
        }
        out->size +=
            utf8_encode(out->data + out->size, (uint32_t)utf8proc_tolower((utf8proc_int32_t)code));
    }
    return true;
}

static bool strip_accents(buffer *out, const char *text, size_t size) {
    for (size_t i = 0, n; i < size; i += n) {
        uint32_t code;
        n = utf8_decode(&code, text + i, size - i);
        if (utf8proc_category((utf8proc_int32_t)code) == UTF8PROC_CATEGORY_MN) continue;
        if (!buffer_append(out, text + i, n)) return false;
    }
    return true;
}

static bool strip(const norm_step *s, buffer *out, const char *text, size_t size) {
    uint32_t code;
    while (s->left && size > 0) {
        const size_t n = utf8_decode(&code, text, size);
        if (!char_is_space(code)) break;
        text += n;
        size -= n;
    }
    while (s->right && size > 0) {
        size_t at = size - 1;
        while (at > 0 && ((uint8_t)text[at] & 0xc0) == 0x80) at--;
        utf8_decode(&code, text + at, size - at);
        if (!char_is_space(code)) break;
        size = at;
    }
    return buffer_append(out, text, size);
}

static weir_status apply(const norm_step *s, norm_work *w, buffer *out, const char *text,
                         size_t size, weir_error *err) {
    bool ok = true;
    switch (s->kind) {
    case NORM_NFC:
    case NORM_NFD:
    case NORM_NFKC:
    case NORM_NFKD: ok = norm_form(out, s->kind, text, size); break;
    case NORM_PREPEND:
        if (size > 0) ok = buffer_append(out, s->with, s->with_size);
        ok = ok && buffer_append(out, text, size);
        break;
    case NORM_REPLACE: ok = replace(s, out, text, size); break;
    case NORM_REPLACE_REGEX: return replace_regex(s, w, out, text, size, err);
    case NORM_LOWERCASE: ok = lowercase(out, text, size); break;
    case NORM_STRIP: ok = strip(s, out, text, size); break;
    case NORM_STRIP_ACCENTS: ok = strip_accents(out, text, size); break;
    case NORM_BYTES: ok = bytes_to_text(out, text, size); break;
    }
    return ok ? WEIR_OK : weir_fail(err, WEIR_ERR_MEMORY, "normalizer: out of memory");
}

weir_status norm_run(const norm *n, norm_work *w, const char *text, size_t size, const char **out,
                     size_t *out_size, weir_error *err) {
    for (int i = 0; i < n->n_steps; i++) {
        buffer *to = &w->text[i % 2];
        to->size = 0;
        WEIR_TRY(apply(&n->steps[i], w, to, text, size, err));
        text = to->data;
        size = to->size;
    }
    *out = text;
    *out_size = size;
    return WEIR_OK;
}
