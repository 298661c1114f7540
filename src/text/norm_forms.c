/* norm_forms.c - the Unicode normal forms NFC, NFD, NFKC, NFKD over utf8proc's tables.
 *
 *     text   a  e  ́  b  ſ  ̣  ̇  c        ASCII is a starter and never the second half of a pair,
 *     runs  |a| |e  ́| |b  ...|              so text falls apart before every ASCII character
 *
 * A run is decomposed character by character, its combining marks are put into canonical order, and
 * it is composed again.  utf8proc_decompose would do all that, but it sorts marks by swapping
 * neighbours: quadratic on text that is nothing but marks.
 *
 * SPDX-License-Identifier: MIT */
#include "base/unicode.h"
#include "text/norm.h"

#include <string.h>

#include <utf8proc.h>

typedef struct codes { /* code points; all-zero is empty */
    utf8proc_int32_t *data;
    size_t n, capacity;
} codes;

static bool codes_reserve(codes *c, size_t more) {
    const size_t want = size_add(c->n, more);
    if (want <= c->capacity) return true;
    const size_t capacity = want * 2;
    utf8proc_int32_t *data = mem_grow(c->data, capacity, sizeof *data);
    if (!data) return false;
    c->data = data;
    c->capacity = capacity;
    return true;
}

static unsigned combining_class(utf8proc_int32_t code) {
    return (unsigned)utf8proc_get_property(code)->combining_class & 0xff;
}

/* Sorts marks[0 .. n) by class, equal ones in place: by insertion when few, else by counting. */
static bool sort_marks(utf8proc_int32_t *marks, size_t n) {
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            const utf8proc_int32_t m = marks[i];
            const unsigned class = combining_class(m);
            size_t at = i;
            for (; at > 0 && combining_class(marks[at - 1]) > class; at--)
                marks[at] = marks[at - 1];
            marks[at] = m;
        }
        return true;
    }
    utf8proc_int32_t *copy = mem_array(n, sizeof *copy);
    if (!copy) return false;
    memcpy(copy, marks, n * sizeof *copy);
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++) start[combining_class(copy[i]) + 1]++;
    for (int c = 1; c < 257; c++) start[c] += start[c - 1];
    for (size_t i = 0; i < n; i++) marks[start[combining_class(copy[i])]++] = copy[i];
    mem_free(copy);
    return true;
}

static bool decompose(codes *c, bool compatible, const char *text, size_t size) {
    const int options = UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
    for (size_t i = 0; i < size;) {
        uint32_t code;
        i += utf8_decode(&code, text + i, size - i);
        if (!codes_reserve(c, 32)) return false; /* the longest decomposition has 18 */
        const utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)code, c->data + c->n,
                                                           (utf8proc_ssize_t)(c->capacity - c->n),
                                                           (utf8proc_option_t)options, NULL);
        if (n < 0 || (size_t)n > c->capacity - c->n) return false;
        c->n += (size_t)n;
    }
    for (size_t i = 0, to; i < c->n; i = to) {
        to = i + 1;
        if (combining_class(c->data[i]) == 0) continue;
        while (to < c->n && combining_class(c->data[to]) != 0) to++;
        if (!sort_marks(c->data + i, to - i)) return false;
    }
    return true;
}

static bool form_run(buffer *out, codes *c, norm_kind form, const char *text, size_t size) {
    c->n = 0;
    if (!decompose(c, form == NORM_NFKC || form == NORM_NFKD, text, size)) return false;
    if (form == NORM_NFC || form == NORM_NFKC) {
        const utf8proc_ssize_t n =
            utf8proc_normalize_utf32(c->data, (utf8proc_ssize_t)c->n,
                                     (utf8proc_option_t)(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
        if (n < 0) return false;
        c->n = (size_t)n;
    }
    if (!buffer_reserve(out, size_mul(c->n, UTF8_MAX))) return false;
    for (size_t i = 0; i < c->n; i++) {
        out->size += utf8_encode(out->data + out->size, (uint32_t)c->data[i]);
    }
    out->data[out->size] = 0;
    return true;
}

bool norm_form(buffer *out, norm_kind form, const char *text, size_t size) {
    codes c = {0};
    bool ok = true;
    for (size_t i = 0, to; ok && i < size; i = to) {
        to = i;
        while (to < size && (uint8_t)text[to] < 0x80) to++;
        if (to == size || to == i) { /* ASCII to the end, or none: the run starts here */
            if (to > i) {
                ok = buffer_append(out, text + i, to - i);
                continue;
            }
        } else { /* all but the last ASCII character, which marks may follow */
            to--;
            ok = buffer_append(out, text + i, to - i);
            i = to++;
        }
        while (to < size && (uint8_t)text[to] >= 0x80) to++;
        ok = ok && form_run(out, &c, form, text + i, to - i);
    }
    mem_free(c.data);
    return ok;
}
