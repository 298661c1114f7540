/* lexer.c - a template's source as tokens.
 *
 *     text {%- if x %} more {# note #} {{ y }} ...
 *     DATA BLOCK_BEGIN NAME NAME BLOCK_END DATA DATA PRINT_BEGIN NAME PRINT_END
 *
 * White space around tags follows jinja2 with trim_blocks and lstrip_blocks:
 *
 *   {%- {{- {#-   the text before loses all white space at its end
 *   {%+ {#+       the text before stays as it is
 *   {%  {#        blanks between the line's start and the tag go
 *   -%} -}} -#}   the text behind loses all white space at its start
 *   +%} +#}       the text behind stays as it is
 *   %}  #}        one newline behind goes
 *
 * A tag ends only outside of brackets, so {{ {'a': {}} }} is what it looks like.  Newlines of
 * every kind become \n first, and one at the very end is dropped.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/ast.h"

#include "base/unicode.h"
#include "text/jinja/run.h"

#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    j_run *run;
    const char *source;
    size_t size, at;
    j_tokens *out;
    bool line_starting; /* what was read last ended in a newline */
    char brackets[MAX_BRACKETS];
    int depth;
} lexer;

static bool add(lexer *l, j_token token) {
    j_tokens *t = l->out;
    if (l->run->failed) return false;
    if (t->n == t->capacity) {
        const int capacity = t->n ? 2 * t->n : 256;
        j_token *items = j_alloc(l->run, (size_t)capacity, sizeof(*items));
        if (!items) return false;
        if (t->n) memcpy(items, t->items, (size_t)t->n * sizeof(*items));
        t->items = items;
        t->capacity = capacity;
    }
    token.line = l->run->line;
    t->items[t->n++] = token;
    return true;
}

static bool looking_at(const lexer *l, const char *text) {
    const size_t n = strlen(text);
    return l->size - l->at >= n && memcmp(l->source + l->at, text, n) == 0;
}

/* Moves on, counting lines. */
static void advance(lexer *l, size_t n) {
    for (size_t i = 0; i < n; i++) l->run->line += l->source[l->at + i] == '\n';
    l->line_starting = n ? l->source[l->at + n - 1] == '\n' : l->line_starting;
    l->at += n;
}

/* Bytes of white space from `at`. */
static size_t blanks(const lexer *l, size_t at) {
    size_t n = 0;
    while (at + n < l->size) {
        uint32_t c;
        const size_t step = j_decode(l->source + at + n, &c);
        if (!j_is_space(c)) break;
        n += step;
    }
    return n;
}

static size_t without_blanks_behind(const char *text, size_t size) {
    while (size > 0) {
        size_t at = size - 1;
        while (at > 0 && ((unsigned char)text[at] & 0xc0) == 0x80) at--;
        uint32_t c;
        j_decode(text + at, &c);
        if (!j_is_space(c)) break;
        size = at;
    }
    return size;
}

/* The text before a tag, cut as its sign wants; `blocks` when the tag is no {{. */
static bool add_data(lexer *l, size_t from, size_t to, char sign, bool blocks, bool starting) {
    const char *text = l->source + from;
    size_t size = to - from;
    if (sign == '-') {
        size = without_blanks_behind(text, size);
    } else if (sign != '+' && blocks) {
        size_t line = size;
        while (line > 0 && text[line - 1] != '\n') line--;
        /* only blanks since the newline, or since the start of the template */
        const size_t solid = without_blanks_behind(text + line, size - line);
        if ((line > 0 || starting) && solid == 0) size = line;
    }
    if (size == 0) return true;
    const j_value value = j_text_of(l->run, text, size);
    return add(l, (j_token){.kind = T_DATA, .value = value});
}

/* ---- inside tags */

/* Reads up to `most` hexadecimal digits; -1 when there are fewer than asked for. */
static int64_t hex(const char *text, size_t size, size_t most) {
    int64_t value = 0;
    for (size_t i = 0; i < most; i++) {
        const char c = i < size ? text[i] : 0;
        const int digit = c >= '0' && c <= '9'   ? c - '0'
                          : c >= 'a' && c <= 'f' ? c - 'a' + 10
                          : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                 : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static bool put_code(j_run *r, j_builder *b, int64_t code) {
    if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        j_fail(r, "a string escape that is no character");
        return false;
    }
    j_put_char(r, b, (uint32_t)code);
    return true;
}

/* One escape behind a backslash; returns the bytes used, 0 on failure. */
static size_t unescape(j_run *r, j_builder *b, const char *text, size_t size) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char c = text[0];
    const char *simple = c ? strchr(from, c) : NULL;
    if (c == '\n') return 1;
    if (simple) {
        j_put(r, b, &to[simple - from], 1);
        return 1;
    }
    if (c >= '0' && c <= '7') {
        int64_t code = 0;
        size_t n = 0;
        while (n < 3 && n < size && text[n] >= '0' && text[n] <= '7') {
            code = code * 8 + (text[n++] - '0');
        }
        return put_code(r, b, code) ? n : 0;
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits) return put_code(r, b, hex(text + 1, size - 1, digits)) ? 1 + digits : 0;
    if (c == 'N') {
        j_fail(r, "the string escape \\N{...} is not supported");
        return 0;
    }
    /* an unknown escape stays; jinja2 spells a character beyond ASCII out before it looks */
    if ((unsigned char)c < 0x80) {
        j_puts(r, b, "\\");
        j_put(r, b, &c, 1);
        return 1;
    }
    uint32_t code;
    const size_t n = j_decode(text, &code);
    j_put_escape(r, b, code);
    return n;
}

static bool add_string(lexer *l) {
    const char quote = l->source[l->at];
    size_t end = l->at + 1;
    bool escaped = false;
    while (end < l->size && l->source[end] != quote) {
        escaped |= l->source[end] == '\\';
        end += l->source[end] == '\\' ? 2 : 1;
    }
    if (end >= l->size) {
        j_fail(l->run, "a string is not closed");
        return false;
    }
    const char *text = l->source + l->at + 1;
    const size_t size = end - l->at - 1;
    j_value value;
    if (escaped) {
        j_builder b = {0};
        for (size_t i = 0; i < size;) {
            if (text[i] == '\\') {
                const size_t n = unescape(l->run, &b, text + i + 1, size - i - 1);
                if (n == 0) return false;
                i += 1 + n;
            } else {
                j_put(l->run, &b, &text[i++], 1);
            }
        }
        value = j_finish(l->run, &b);
    } else {
        value = j_text_of(l->run, text, size);
    }
    const bool added = add(l, (j_token){.kind = T_TEXT, .value = value});
    advance(l, size + 2);
    return added;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* The end of digits with single underscores between them, from `at`; `at` when there are none. */
static size_t digits_end(const lexer *l, size_t at) {
    size_t end = at;
    while (end < l->size && is_digit(l->source[end])) {
        end++;
        if (end + 1 < l->size && l->source[end] == '_' && is_digit(l->source[end + 1])) end++;
    }
    return end;
}

/* The end of a float, or `at` when what stands there is an integer. */
static size_t float_end(const lexer *l, size_t at) {
    if (at > 0 && l->source[at - 1] == '.') return at;
    size_t end = digits_end(l, at);
    bool is_float = false;
    if (end + 1 < l->size && l->source[end] == '.' && is_digit(l->source[end + 1])) {
        end = digits_end(l, end + 1);
        is_float = true;
    }
    if (end < l->size && (l->source[end] | 32) == 'e') {
        size_t power = end + 1;
        if (power < l->size && (l->source[power] == '+' || l->source[power] == '-')) power++;
        if (power < l->size && is_digit(l->source[power])) {
            end = digits_end(l, power);
            is_float = true;
        }
    }
    return is_float ? end : at;
}

static size_t integer_end(const lexer *l, size_t at) {
    const char mark = at + 1 < l->size ? (char)(l->source[at + 1] | 32) : 0;
    if (l->source[at] == '0' && (mark == 'x' || mark == 'o' || mark == 'b')) {
        size_t end = at + 2;
        for (;;) {
            const size_t digit = end + (end < l->size && l->source[end] == '_');
            const char c = digit < l->size ? l->source[digit] : 0;
            const bool fits = mark == 'x'   ? hex(&c, 1, 1) >= 0
                              : mark == 'o' ? c >= '0' && c <= '7'
                                            : c == '0' || c == '1';
            if (!fits) break;
            end = digit + 1;
        }
        if (end > at + 2) return end;
    }
    if (l->source[at] != '0') return digits_end(l, at);
    size_t end = at + 1; /* zero is written with zeros only */
    while (end < l->size && l->source[end] == '0') end++;
    return end;
}

static bool add_number(lexer *l) {
    size_t end = float_end(l, l->at);
    const bool is_float = end > l->at;
    if (!is_float) end = integer_end(l, l->at);
    const j_text text = {.data = l->source + l->at, .size = end - l->at};
    j_value value = j_int(0);
    const bool read =
        is_float ? j_read_float(&text, &value.as.real) : j_read_int(&text, 0, &value.as.integer);
    if (!read) {
        j_fail(l->run, "the number %.*s is too large", (int)MIN_OF(text.size, (size_t)40),
               text.data);
        return false;
    }
    if (is_float) value.kind = J_FLOAT;
    advance(l, text.size);
    return add(l, (j_token){.kind = T_NUMBER, .value = value});
}

static bool starts_name(const char *at) {
    uint32_t c;
    j_decode(at, &c);
    return j_is_alpha(c) || c == '_';
}

static bool add_name(lexer *l) {
    size_t end = l->at;
    while (end < l->size) {
        uint32_t c;
        const size_t n = j_decode(l->source + end, &c);
        if (!j_is_word(c)) break;
        end += n;
    }
    const j_value value = j_text_of(l->run, l->source + l->at, end - l->at);
    advance(l, end - l->at);
    return add(l, (j_token){.kind = T_NAME, .value = value});
}

/* Keeps track of brackets; false, failed, when they do not match. */
static bool balance(lexer *l, char c) {
    const char *opens = "([{", *closes = ")]}";
    const char *open = strchr(opens, c), *close = strchr(closes, c);
    if (open) {
        if (l->depth == MAX_BRACKETS) {
            j_fail(l->run, "brackets nest deeper than %d", MAX_BRACKETS);
            return false;
        }
        l->brackets[l->depth++] = closes[open - opens];
    } else if (close) {
        if (l->depth == 0 || l->brackets[l->depth - 1] != c) {
            j_fail(l->run, "unexpected '%c'", c);
            return false;
        }
        l->depth--;
    }
    return true;
}

static bool add_operator(lexer *l) {
    static const char *const pairs[] = {"//", "**", "==", "!=", ">=", "<="};
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        if (!looking_at(l, pairs[i])) continue;
        advance(l, 2);
        return add(l, (j_token){.kind = T_OPERATOR, .op = {pairs[i][0], pairs[i][1]}});
    }
    const char c = l->source[l->at];
    if (!c || !strchr("+-/*%~[](){}<>=.:|,;", c)) {
        uint32_t code;
        j_decode(l->source + l->at, &code);
        j_fail(l->run, "unexpected character U+%04X", (unsigned)code);
        return false;
    }
    if (!balance(l, c)) return false;
    advance(l, 1);
    return add(l, (j_token){.kind = T_OPERATOR, .op = {c, 0}});
}

/* Reads the tokens of one tag and its end; at the end of the source it just stops. */
static bool lex_tag(lexer *l, bool print) {
    const char *end = print ? "}}" : "%}", *cut = print ? "-}}" : "-%}";
    const j_token_kind kind = print ? T_PRINT_END : T_BLOCK_END;
    l->depth = 0;
    while (l->at < l->size && !l->run->failed) {
        const size_t space = blanks(l, l->at);
        if (space) {
            advance(l, space);
            continue;
        }
        const bool plus = !print && looking_at(l, "+%}");
        if (l->depth == 0 && (looking_at(l, cut) || plus || looking_at(l, end))) {
            const bool cuts = looking_at(l, cut);
            if (!add(l, (j_token){.kind = kind})) return false;
            advance(l, cuts || plus ? 3 : 2);
            if (cuts)
                advance(l, blanks(l, l->at));
            else if (!print && !plus && looking_at(l, "\n"))
                advance(l, 1);
            return true;
        }
        const char c = l->source[l->at];
        const bool ok = is_digit(c)                      ? add_number(l)
                        : c == '\'' || c == '"'          ? add_string(l)
                        : starts_name(l->source + l->at) ? add_name(l)
                                                         : add_operator(l);
        if (!ok) return false;
    }
    return !l->run->failed;
}

/* ---- around tags */

/* Behind {#: skips to the end of the comment. */
static bool skip_comment(lexer *l) {
    if (l->at == l->size) return true; /* jinja2 lets this one pass, too */
    const size_t n = j_find(l->source + l->at, l->size - l->at, "#}", 2);
    if (n == SIZE_MAX) {
        j_fail(l->run, "missing end of comment tag");
        return false;
    }
    const char before = n ? l->source[l->at + n - 1] : 0;
    advance(l, n + 2);
    if (before == '-')
        advance(l, blanks(l, l->at));
    else if (before != '+' && looking_at(l, "\n"))
        advance(l, 1);
    return true;
}

/* At {%: the bytes of `{%[-+]? *word *` when `word` stands there, else 0; sign is its sign. */
static size_t tag_head(const lexer *l, size_t at, const char *word, char *sign) {
    size_t n = at + 2;
    *sign = n < l->size && (l->source[n] == '-' || l->source[n] == '+') ? l->source[n++] : 0;
    n += blanks(l, n);
    const size_t size = strlen(word);
    if (n > l->size || l->size - n < size || memcmp(l->source + n, word, size) != 0) return 0;
    n += size;
    return n + blanks(l, n) - at;
}

/* At {%: when this is a raw tag, moves behind its end and returns true. */
static bool skip_raw_tag(lexer *l) {
    char sign;
    size_t n = tag_head(l, l->at, "raw", &sign);
    if (!n) return false;
    n += l->at;
    if (l->size - n >= 3 && memcmp(l->source + n, "-%}", 3) == 0)
        n += 3 + blanks(l, n + 3);
    else if (l->size - n >= 2 && memcmp(l->source + n, "%}", 2) == 0)
        n += 2;
    else
        return false;
    advance(l, n - l->at);
    return true;
}

/* Behind a raw tag: everything up to its end tag is data. */
static bool lex_raw(lexer *l) {
    if (l->at == l->size) return true;
    for (size_t at = l->at; at + 2 <= l->size; at++) {
        if (l->source[at] != '{' || l->source[at + 1] != '%') continue;
        char sign;
        size_t n = tag_head(l, at, "endraw", &sign);
        if (!n) continue;
        n += at;
        const size_t left = l->size - n;
        const bool signed_end = left >= 3 && memcmp(l->source + n + 1, "%}", 2) == 0;
        const char end = signed_end ? l->source[n] : 0;
        if (end != '-' && end != '+' && (left < 2 || memcmp(l->source + n, "%}", 2) != 0)) continue;
        if (!add_data(l, l->at, at, sign, true, l->line_starting)) return false;
        n += end == '-' || end == '+' ? 3 : 2;
        advance(l, n - l->at);
        if (end == '-')
            advance(l, blanks(l, l->at));
        else if (end != '+' && looking_at(l, "\n"))
            advance(l, 1);
        return true;
    }
    j_fail(l->run, "missing end of raw directive");
    return false;
}

/* The next tag from here on, or the end of the source. */
static size_t next_tag(const lexer *l) {
    for (size_t at = l->at; at + 1 < l->size; at++) {
        const char c = l->source[at + 1];
        if (l->source[at] == '{' && (c == '{' || c == '%' || c == '#')) return at;
    }
    return l->size;
}

static bool lex_root(lexer *l) {
    while (l->at < l->size && !l->run->failed) {
        const size_t tag = next_tag(l), from = l->at;
        if (tag == l->size) {
            add_data(l, from, tag, '+', false, false);
            break;
        }
        const char kind = l->source[tag + 1];
        const char next = tag + 2 < l->size ? l->source[tag + 2] : 0;
        const char sign = next == '-' || next == '+' ? next : 0;
        if (!add_data(l, from, tag, sign, kind != '{', l->line_starting)) return false;
        advance(l, tag - from);
        if (kind == '%' && skip_raw_tag(l)) {
            if (!lex_raw(l)) return false;
            continue;
        }
        if (kind != '#') {
            if (!add(l, (j_token){.kind = kind == '{' ? T_PRINT_BEGIN : T_BLOCK_BEGIN})) break;
        }
        advance(l, sign ? 3 : 2);
        if (!(kind == '#' ? skip_comment(l) : lex_tag(l, kind == '{'))) return false;
    }
    return !l->run->failed;
}

/* Every kind of newline becomes \n; one at the end goes. */
static size_t normalize(char *text, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\r' && i + 1 < size && text[i + 1] == '\n') continue;
        text[n++] = text[i] == '\r' ? '\n' : text[i];
    }
    return n && text[n - 1] == '\n' ? n - 1 : n;
}

bool j_lex(j_run *r, const char *source, size_t size, j_tokens *out) {
    r->line = 1;
    *out = (j_tokens){0};
    if (size > MAX_SOURCE) {
        j_fail(r, "the template is longer than %d bytes", MAX_SOURCE);
        return false;
    }
    if (!utf8_is_valid(source, size)) {
        j_fail(r, "the template is not valid UTF-8");
        return false;
    }
    char *copy = j_alloc(r, size, 1);
    if (!copy) return false;
    if (size) memcpy(copy, source, size);
    lexer l = {.run = r, .source = copy, .size = normalize(copy, size), .out = out};
    l.line_starting = true;
    return lex_root(&l) && add(&l, (j_token){.kind = T_END});
}
