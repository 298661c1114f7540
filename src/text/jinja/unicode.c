/* unicode.c - what Python knows of single characters, and changing the case of text.
 *
 * Categories and one-to-one mappings are utf8proc's.  Where a character becomes several (sharp s in
 * capitals is SS) the table below is Unicode's SpecialCasing, without the Greek letters that carry
 * an iota subscript: those keep their one-to-one mapping.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/value.h"

#include <utf8proc.h>

bool j_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

bool j_is_line_end(uint32_t c) {
    return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

bool j_is_printable(uint32_t c) {
    if (c < 0x7f) return c >= 0x20;
    switch ((int)utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

bool j_is_alpha(uint32_t c) {
    const int category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool j_is_decimal(uint32_t c) {
    return c < 0x80 ? c >= '0' && c <= '9'
                    : utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}

bool j_is_word(uint32_t c) {
    const int category = utf8proc_category((utf8proc_int32_t)c);
    return c == '_' || j_is_alpha(c) ||
           (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO);
}

/* ---- case */

typedef struct special {
    uint32_t c;
    const char *upper, *title;
} special;

static const special specials[] = {
    {0x00df, "SS", "Ss"},
    {0x0149, "\xca\xbcN", "\xca\xbcN"},
    {0x01f0, "J\xcc\x8c", "J\xcc\x8c"},
    {0x0390, "\xce\x99\xcc\x88\xcc\x81", "\xce\x99\xcc\x88\xcc\x81"},
    {0x03b0, "\xce\xa5\xcc\x88\xcc\x81", "\xce\xa5\xcc\x88\xcc\x81"},
    {0x0587, "\xd4\xb5\xd5\x92", "\xd4\xb5\xd6\x82"},
    {0x1e96, "H\xcc\xb1", "H\xcc\xb1"},
    {0x1e97, "T\xcc\x88", "T\xcc\x88"},
    {0x1e98, "W\xcc\x8a", "W\xcc\x8a"},
    {0x1e99, "Y\xcc\x8a", "Y\xcc\x8a"},
    {0x1e9a, "A\xca\xbe", "A\xca\xbe"},
    {0xfb00, "FF", "Ff"},
    {0xfb01, "FI", "Fi"},
    {0xfb02, "FL", "Fl"},
    {0xfb03, "FFI", "Ffi"},
    {0xfb04, "FFL", "Ffl"},
    {0xfb05, "ST", "St"},
    {0xfb06, "ST", "St"},
};

static const special *find_special(uint32_t c) {
    for (size_t i = 0; c >= 0xdf && i < COUNT_OF(specials); i++) {
        if (specials[i].c == c) return &specials[i];
    }
    return NULL;
}

static uint32_t to_lower(uint32_t c) {
    if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
}

static uint32_t to_upper(uint32_t c) {
    if (c < 0x80) return c >= 'a' && c <= 'z' ? c - 32 : c;
    return (uint32_t)utf8proc_toupper((utf8proc_int32_t)c);
}

static bool is_upper(uint32_t c) {
    return c < 0x80 ? c >= 'A' && c <= 'Z'
                    : utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_LU;
}

static bool is_lower(uint32_t c) {
    return c < 0x80 ? c >= 'a' && c <= 'z'
                    : utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_LL;
}

static bool is_title(uint32_t c) {
    return c >= 0x80 && utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_LT;
}

static bool is_cased(uint32_t c) {
    return is_upper(c) || is_lower(c) || is_title(c);
}

/* A capital sigma at the end of a word has a small form of its own. */
static bool is_final_sigma(const j_text *t, size_t at, bool after_cased) {
    uint32_t next = ' ';
    if (at + 2 < t->size) j_decode(t->data + at + 2, &next);
    return after_cased && !is_cased(next);
}

static void put_lower(j_run *r, j_builder *b, const j_text *t, size_t at, uint32_t c, bool after) {
    if (c == 0x130)
        j_puts(r, b, "i\xcc\x87");
    else if (c == 0x3a3 && is_final_sigma(t, at, after))
        j_put_char(r, b, 0x3c2);
    else
        j_put_char(r, b, to_lower(c));
}

static void put_upper(j_run *r, j_builder *b, uint32_t c) {
    const special *s = find_special(c);
    if (s)
        j_puts(r, b, s->upper);
    else
        j_put_char(r, b, to_upper(c));
}

static void put_title(j_run *r, j_builder *b, uint32_t c) {
    const special *s = find_special(c);
    if (s)
        j_puts(r, b, s->title);
    else
        j_put_char(r, b, c < 0x80 ? to_upper(c) : (uint32_t)utf8proc_totitle((int)c));
}

static void put_fold(j_run *r, j_builder *b, uint32_t c) {
    utf8proc_int32_t folded[8];
    int last = 0;
    const utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)c, folded, 8, UTF8PROC_CASEFOLD, &last);
    if (n < 1 || n > 8)
        j_put_char(r, b, c);
    else
        for (int i = 0; i < n; i++) j_put_char(r, b, (uint32_t)folded[i]);
}

j_value j_recase(j_run *r, const j_text *t, j_case how) {
    j_builder b = {0};
    bool after_cased = false; /* the character before has case: we are inside a word */
    for (size_t at = 0; at < t->size && !r->failed;) {
        uint32_t c;
        const size_t n = j_decode(t->data + at, &c);
        const bool lower = how == J_LOWER || (how == J_TITLE && after_cased) ||
                           (how == J_CAPITAL && at > 0) || (how == J_SWAP && is_upper(c));
        if (how == J_FOLD)
            put_fold(r, &b, c);
        else if (lower)
            put_lower(r, &b, t, at, c, after_cased);
        else if (how == J_TITLE || how == J_CAPITAL)
            put_title(r, &b, c);
        else if (how == J_UPPER || is_lower(c))
            put_upper(r, &b, c);
        else
            j_put_char(r, &b, c);
        after_cased = is_cased(c);
        at += n;
    }
    return j_mark_safe(r, j_finish(r, &b), t->safe);
}

bool j_is_cased_as(const j_text *t, j_case how) {
    bool any = false, after_cased = false;
    for (size_t at = 0; at < t->size;) {
        uint32_t c;
        at += j_decode(t->data + at, &c);
        const bool upper = is_upper(c) || is_title(c), lower = is_lower(c);
        if (how == J_UPPER && (lower || is_title(c))) return false;
        if (how == J_LOWER && upper) return false;
        if (how == J_TITLE && ((upper && after_cased) || (lower && !after_cased))) return false;
        any |= upper || lower;
        after_cased = upper || lower;
    }
    return any;
}
