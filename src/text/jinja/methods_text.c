/* methods_text.c - methods of text that change it or ask what it is made of.
 *
 * Those that search and split are in methods_search.c.  What comes out of safe text is safe,
 * and text that goes into it is escaped, as markupsafe has it.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

#include <string.h>

/* An argument that becomes part of self. */
static const j_text *part(j_run *r, j_value self, j_value v) {
    if (!j_arg_text(r, v, NULL)) return NULL;
    if (self.as.text->safe) v = j_escape(r, v);
    return r->failed ? NULL : v.as.text;
}

/* ---- case */

#define RECASE(name, how)                                                                   \
    static j_value name(j_run *r, j_value self, const j_value *a, const j_args *all) {      \
        (void)a, (void)all;                                                                 \
        return j_step(r, self.as.text->size) ? j_recase(r, self.as.text, (how)) : j_none(); \
    }

RECASE(upper, J_UPPER)
RECASE(lower, J_LOWER)
RECASE(title, J_TITLE)
RECASE(capitalize, J_CAPITAL)
RECASE(swapcase, J_SWAP)
RECASE(casefold, J_FOLD)

#define IS_CASED(name, how)                                                            \
    static j_value name(j_run *r, j_value self, const j_value *a, const j_args *all) { \
        (void)a, (void)all;                                                            \
        j_step(r, self.as.text->size);                                                 \
        return j_bool(j_is_cased_as(self.as.text, (how)));                             \
    }

IS_CASED(asks_upper, J_UPPER)
IS_CASED(asks_lower, J_LOWER)
IS_CASED(asks_title, J_TITLE)

/* ---- kinds of characters */

static bool is_alphanumeric(uint32_t c) {
    return c != '_' && j_is_word(c);
}

/* Decimal digits, and those written above and below a line. */
static bool is_digit(uint32_t c) {
    return j_is_decimal(c) || c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 ||
           (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089);
}

static bool is_ascii(uint32_t c) {
    return c < 0x80;
}

/* Is there a character, or else `empty`, and are all of this kind? */
static j_value all_of(j_run *r, j_value self, bool (*is)(uint32_t), bool empty) {
    const j_text *t = self.as.text;
    if (!j_step(r, t->size)) return j_none();
    for (size_t at = 0; at < t->size;) {
        uint32_t c;
        at += j_decode(t->data + at, &c);
        if (!is(c)) return j_bool(false);
    }
    return j_bool(t->size > 0 || empty);
}

#define ALL_OF(name, is, empty)                                                        \
    static j_value name(j_run *r, j_value self, const j_value *a, const j_args *all) { \
        (void)a, (void)all;                                                            \
        return all_of(r, self, (is), (empty));                                         \
    }

ALL_OF(asks_alnum, is_alphanumeric, false)
ALL_OF(asks_alpha, j_is_alpha, false)
ALL_OF(asks_ascii, is_ascii, true)
ALL_OF(asks_decimal, j_is_decimal, false)
ALL_OF(asks_digit, is_digit, false)
ALL_OF(asks_printable, j_is_printable, true)
ALL_OF(asks_space, j_is_space, false)

/* ---- stripping */

static bool is_among(const j_text *set, uint32_t c) {
    if (!set) return j_is_space(c);
    for (size_t at = 0; at < set->size;) {
        uint32_t other;
        at += j_decode(set->data + at, &other);
        if (other == c) return true;
    }
    return false;
}

static size_t char_before(const j_text *t, size_t at) {
    do at--;
    while (at > 0 && ((unsigned char)t->data[at] & 0xc0) == 0x80);
    return at;
}

static j_value strip_sides(j_run *r, j_value self, j_value chars, bool left, bool right) {
    const bool given = chars.kind != J_MISSING && chars.kind != J_NONE;
    const j_text *set = given ? part(r, self, chars) : NULL, *t = self.as.text;
    if (r->failed || !j_step(r, t->size + (set ? set->size : 0))) return j_none();
    size_t from = 0, to = t->size;
    uint32_t c;
    while (left && from < to && j_step(r, set ? set->size : 0)) {
        const size_t n = j_decode(t->data + from, &c);
        if (!is_among(set, c)) break;
        from += n;
    }
    while (right && to > from && j_step(r, set ? set->size : 0)) {
        const size_t before = char_before(t, to);
        j_decode(t->data + before, &c);
        if (!is_among(set, c)) break;
        to = before;
    }
    return j_part_of(r, t, from, to);
}

static j_value strip(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return strip_sides(r, self, a[0], true, true);
}

static j_value lstrip(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return strip_sides(r, self, a[0], true, false);
}

static j_value rstrip(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return strip_sides(r, self, a[0], false, true);
}

static bool starts(const j_text *t, const j_text *with) {
    return t->size >= with->size && memcmp(t->data, with->data, with->size) == 0;
}

static bool ends(const j_text *t, const j_text *with) {
    return t->size >= with->size &&
           memcmp(t->data + t->size - with->size, with->data, with->size) == 0;
}

static j_value removeprefix(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const j_text *prefix = part(r, self, a[0]), *t = self.as.text;
    if (!prefix) return j_none();
    return starts(t, prefix) ? j_part_of(r, t, prefix->size, t->size) : self;
}

static j_value removesuffix(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const j_text *suffix = part(r, self, a[0]), *t = self.as.text;
    if (!suffix) return j_none();
    return ends(t, suffix) ? j_part_of(r, t, 0, t->size - suffix->size) : self;
}

/* ---- padding */

static j_value padded(j_run *r, j_value self, int64_t before, int64_t behind, const j_text *fill) {
    j_builder b = {0};
    const size_t bytes = fill->size * (size_t)(before + behind);
    if (!j_step(r, bytes)) return j_none();
    while (before-- > 0 && !r->failed) j_put_text(r, &b, fill);
    j_put_text(r, &b, self.as.text);
    while (behind-- > 0 && !r->failed) j_put_text(r, &b, fill);
    return j_mark_safe(r, j_finish(r, &b), self.as.text->safe);
}

/* How much self lacks to width; fill is one character. */
static bool take_padding(j_run *r, j_value self, const j_value *a, int64_t *lack,
                         const j_text **fill) {
    const int64_t width = j_arg_int(r, a[0], 0), size = (int64_t)self.as.text->chars;
    *fill = j_arg_text(r, a[1], " ");
    if (*fill && (*fill)->chars != 1) {
        j_fail(r, "The fill character must be exactly one character long");
    }
    if (width > MAX_OUTPUT) j_fail(r, "text is longer than %d MiB", MAX_OUTPUT >> 20);
    *lack = width > size ? width - size : 0;
    return !r->failed;
}

static j_value center(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    int64_t lack;
    const j_text *fill;
    if (!take_padding(r, self, a, &lack, &fill)) return j_none();
    const int64_t width = lack + (int64_t)self.as.text->chars;
    const int64_t before = lack / 2 + (lack & width & 1); /* CPython's way to halve an odd rest */
    return padded(r, self, before, lack - before, fill);
}

static j_value ljust(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    int64_t lack;
    const j_text *fill;
    return take_padding(r, self, a, &lack, &fill) ? padded(r, self, 0, lack, fill) : j_none();
}

static j_value rjust(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    int64_t lack;
    const j_text *fill;
    return take_padding(r, self, a, &lack, &fill) ? padded(r, self, lack, 0, fill) : j_none();
}

static j_value zfill(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const j_text *t = self.as.text;
    const bool sign = t->size && (t->data[0] == '-' || t->data[0] == '+');
    const int64_t width = j_arg_int(r, a[0], 0), lack = width - (int64_t)t->chars;
    if (width > MAX_OUTPUT) return j_fail(r, "text is longer than %d MiB", MAX_OUTPUT >> 20);
    j_builder b = {0};
    if (r->failed || !j_step(r, (size_t)MAX_OF(lack, 0))) return j_none();
    j_put(r, &b, t->data, sign);
    for (int64_t i = 0; i < lack && !r->failed; i++) j_puts(r, &b, "0");
    j_put(r, &b, t->data + sign, t->size - sign);
    return j_mark_safe(r, j_finish(r, &b), t->safe);
}

static j_value expandtabs(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const int64_t size = j_arg_int(r, a[0], 8);
    const j_text *t = self.as.text;
    if (size > MAX_RANGE) return j_fail(r, "expandtabs: the tab size is too large");
    j_builder b = {0};
    int64_t column = 0;
    for (size_t at = 0; at < t->size && j_step(r, 0);) {
        uint32_t c;
        const size_t n = j_decode(t->data + at, &c);
        if (c == '\t') {
            const int64_t gap = size > 0 ? size - column % size : 0;
            if (!j_step(r, (size_t)gap)) break;
            for (int64_t i = 0; i < gap; i++) j_puts(r, &b, " ");
            column += gap;
        } else {
            j_put(r, &b, t->data + at, n);
            column = c == '\n' || c == '\r' ? 0 : column + 1;
        }
        at += n;
    }
    return j_mark_safe(r, j_finish(r, &b), t->safe);
}

static j_value format(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a;
    return j_format_braces(r, self.as.text, all);
}

const j_function j_methods_text[] = {
    {"capitalize", capitalize, "", 0},
    {"casefold", casefold, "", 0},
    {"center", center, "/width fillchar", 1},
    {"expandtabs", expandtabs, "tabsize", 0},
    {"format", format, "*", 0},
    {"isalnum", asks_alnum, "", 0},
    {"isalpha", asks_alpha, "", 0},
    {"isascii", asks_ascii, "", 0},
    {"isdecimal", asks_decimal, "", 0},
    {"isdigit", asks_digit, "", 0},
    {"islower", asks_lower, "", 0},
    {"isprintable", asks_printable, "", 0},
    {"isspace", asks_space, "", 0},
    {"istitle", asks_title, "", 0},
    {"isupper", asks_upper, "", 0},
    {"ljust", ljust, "/width fillchar", 1},
    {"lower", lower, "", 0},
    {"lstrip", lstrip, "/chars", 0},
    {"removeprefix", removeprefix, "/prefix", 1},
    {"removesuffix", removesuffix, "/suffix", 1},
    {"rjust", rjust, "/width fillchar", 1},
    {"rstrip", rstrip, "/chars", 0},
    {"strip", strip, "/chars", 0},
    {"swapcase", swapcase, "", 0},
    {"title", title, "", 0},
    {"upper", upper, "", 0},
    {"zfill", zfill, "/width", 1},
    {0},
};
