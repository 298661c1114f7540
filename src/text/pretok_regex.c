/* pretok_regex.c - Oniguruma patterns on PCRE2.
 *
 * The two dialects agree on nearly everything tokenizers use.  Translated are
 *
 *   \s \S        Unicode white space; PCRE2 also counts U+180E, so \s is spelled out
 *   \w \b        letters, marks, decimal and letter numbers, connectors; PCRE2 differs
 *   \h           a hex digit there, horizontal space here
 *   \uHHHH       \x{HHHH}
 *   (?m)         there: the dot matches newlines, (?s) here; ^ and $ always match at lines
 *   [a[bc]]      a set inside a set is a union; PCRE2 has none, so it is flattened
 *
 * and refused are {n,m}+ (possessive here, not there), && inside sets, and negated sets in sets.
 *
 * Text is known to be well-formed, so matching skips PCRE2's own check of the whole subject, which
 * would make a scan quadratic.
 *
 * SPDX-License-Identifier: MIT */
#include "text/pretok.h"

#include "base/unicode.h"

#include <stdio.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

struct pcre2_regex {
    pcre2_code *code;
};

struct pretok_match {
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; /* made when a pattern first needs more than the default 32 KiB */
};

enum { STACK_FIRST = 64 << 10, STACK_MOST = 64 << 20 };

/* ---- translation */

#define SPACES                                                                         \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}" \
    "\\x{202f}\\x{205f}\\x{3000}"
#define WORDS                                                                   \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}" \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define WORD "[" WORDS "]"

typedef struct translation {
    const char *p, *end; /* what is still to be read */
    buffer out;
    const char *refused; /* the construct that is not known */
} translation;

static bool put(translation *t, const char *text) {
    return buffer_append(&t->out, text, strlen(text));
}

static bool refuse(translation *t, const char *construct) {
    t->refused = construct;
    return false;
}

static bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* \uHHHH, the p at the u. */
static bool code_escape(translation *t) {
    if (t->end - t->p < 5) return refuse(t, "\\u without four digits");
    char text[16] = "\\x{";
    for (int i = 0; i < 4; i++) {
        if (!is_hex(t->p[i + 1])) return refuse(t, "\\u without four digits");
        text[i + 3] = t->p[i + 1];
    }
    text[7] = '}';
    t->p += 5;
    return put(t, text);
}

/* One escape, the p behind the backslash. */
static bool escape(translation *t, bool in_set) {
    if (t->p == t->end) return refuse(t, "a backslash at the end");
    const char c = *t->p;
    const char *text = NULL;
    switch (c) {
    case 'u': return code_escape(t);
    case 's': text = in_set ? SPACES : "[" SPACES "]"; break;
    case 'w': text = in_set ? WORDS : WORD; break;
    case 'h': text = in_set ? "0-9a-fA-F" : "[0-9a-fA-F]"; break;
    case 'S': text = in_set ? "\\S" : "[^" SPACES "]"; break;
    case 'b':
        text = "(?:(?<=" WORD ")(?!" WORD ")|(?<!" WORD ")(?=" WORD "))";
        if (in_set) text = "\\x{8}";
        break;
    case 'B':
        if (in_set) return refuse(t, "\\B in a set");
        text = "(?:(?<=" WORD ")(?=" WORD ")|(?<!" WORD ")(?!" WORD "))";
        break;
    case 'W':
        if (in_set) return refuse(t, "\\W in a set");
        text = "[^" WORDS "]";
        break;
    case 'H':
        if (in_set) return refuse(t, "\\H in a set");
        text = "[^0-9a-fA-F]";
        break;
    case 'g':
    case 'k':
    case 'K':
    case 'R':
    case 'X':
    case 'C':
    case 'Q':
    case 'E': return refuse(t, "an escape that means something else in PCRE2");
    default: break;
    }
    t->p++;
    if (text) return put(t, text);
    const char *from = t->p - 2;
    if (strchr("pPx", c) && t->p < t->end && *t->p == '{') { /* \p{L}, \x{41} */
        while (t->p < t->end && *t->p != '}') t->p++;
        if (t->p == t->end) return refuse(t, "a brace without end");
        t->p++;
    }
    return buffer_append(&t->out, from, (size_t)(t->p - from));
}

/* [:name:] in a set, the p behind its first bracket.  Only the names that mean the same set of
 * characters in every version of Unicode. */
static bool named_class(translation *t) {
    static const char *const names[][2] = {{":digit:]", "\\p{Nd}"},
                                           {":space:]", SPACES},
                                           {":word:]", WORDS},
                                           {":xdigit:]", "0-9a-fA-F"}};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const size_t n = strlen(names[i][0]);
        if ((size_t)(t->end - t->p) < n || memcmp(t->p, names[i][0], n) != 0) continue;
        t->p += n;
        return put(t, names[i][1]);
    }
    return refuse(t, "a named class");
}

/* A set, the p at its '['; sets inside it are flattened, so depth only counts brackets. */
static bool set(translation *t) {
    int depth = 0;
    do {
        if (t->p == t->end) return refuse(t, "a set without end");
        const char c = *t->p++;
        const char next = t->p < t->end ? *t->p : 0;
        if (c == '\\') {
            if (!escape(t, true)) return false;
        } else if (c == '[' && next == ':') {
            if (!named_class(t)) return false;
        } else if (c == '[') {
            if (depth > 0 && next == '^') return refuse(t, "a negated set inside a set");
            if (depth++ == 0 && !put(t, "[")) return false;
            if (next == '^') {
                if (!put(t, "^")) return false;
                t->p++;
            }
            if (t->p < t->end && *t->p == ']') { /* a ] in first place is itself */
                if (!put(t, "\\]")) return false;
                t->p++;
            }
        } else if (c == ']') {
            if (--depth == 0 && !put(t, "]")) return false;
        } else if (c == '&' && next == '&') {
            return refuse(t, "&& in a set");
        } else if (!buffer_append(&t->out, &c, 1)) {
            return false;
        }
    } while (depth > 0);
    return true;
}

/* "(?": flags and group kinds, the p behind them; m becomes s. */
static bool group(translation *t) {
    if (!put(t, "(?")) return false;
    bool off = false;
    while (t->p < t->end && strchr("imx-", *t->p) && *t->p) {
        off |= *t->p == '-';
        if (!buffer_append(&t->out, *t->p == 'm' ? "s" : t->p, 1)) return false;
        t->p++;
    }
    if (t->p == t->end) return refuse(t, "a group without end");
    if (strchr(":=!<>)#", *t->p)) return true; /* the rest reads the same in both dialects */
    return refuse(t, off ? "an unknown option" : "an unknown kind of group");
}

static bool translate(translation *t) {
    while (t->p < t->end) {
        const char c = *t->p;
        if (c == '[') {
            if (!set(t)) return false;
            continue;
        }
        t->p++;
        const char next = t->p < t->end ? *t->p : 0;
        if (c == '\\') {
            if (!escape(t, false)) return false;
        } else if (c == '(' && next == '?') {
            t->p++;
            if (!group(t)) return false;
        } else if (c == '(' && next == '*') {
            return refuse(t, "(*");
        } else if (c == '}' && next == '+') {
            return refuse(t, "{n,m}+");
        } else if (!buffer_append(&t->out, &c, 1)) {
            return false;
        }
    }
    return true;
}

/* ---- compiling */

static void *allocate(size_t size, void *user) {
    (void)user;
    return mem_alloc(size);
}

static void release(void *p, void *user) {
    (void)user;
    mem_free(p);
}

static weir_status compile(pcre2_code **out, const char *pattern, size_t size, const char *what,
                           weir_error *err) {
    pcre2_general_context *general = pcre2_general_context_create(allocate, release, NULL);
    pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
    weir_status status = WEIR_OK;
    int code = 0;
    PCRE2_SIZE at = 0;
    *out = NULL;
    if (context) {
        pcre2_set_newline(context, PCRE2_NEWLINE_LF);
        pcre2_set_parens_nest_limit(context, 50);
        *out = pcre2_compile((PCRE2_SPTR)pattern, size,
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_UTF_CHECK, &code,
                             &at, context);
        if (*out) {
            pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* without it, it is only slower */
        } else {
            PCRE2_UCHAR text[120] = "";
            pcre2_get_error_message(code, text, sizeof text);
            status = weir_fail(err, WEIR_ERR_MODEL, "%s: pattern at byte %zu: %s", what, at,
                               (const char *)text);
        }
    } else {
        status = weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", what);
    }
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    return status;
}

weir_status regex_compile(pcre2_regex **out, const char *pattern, size_t size, const char *what,
                          weir_error *err) {
    *out = NULL;
    if (size > (1 << 16) || !utf8_is_valid(pattern, size)) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: pattern of %zu bytes is %s", what, size,
                         size > (1 << 16) ? "too long" : "no UTF-8");
    }
    translation t = {.p = pattern, .end = pattern + size};
    pcre2_code *code = NULL;
    weir_status status;
    if (!translate(&t) || !put(&t, "")) {
        status = t.refused ? weir_fail(err, WEIR_ERR_MODEL, "%s: pattern has %s, which is unknown",
                                       what, t.refused)
                           : weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", what);
    } else {
        status = compile(&code, t.out.data, t.out.size, what, err);
    }
    buffer_clear(&t.out);
    if (status != WEIR_OK) return status;
    *out = mem_alloc(sizeof **out);
    if (!*out) {
        pcre2_code_free(code);
        return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", what);
    }
    (*out)->code = code;
    return WEIR_OK;
}

void regex_free(pcre2_regex *regex) {
    if (!regex) return;
    pcre2_code_free(regex->code);
    mem_free(regex);
}

/* ---- matching */

struct pretok_match *regex_match_new(void) {
    struct pretok_match *m = mem_alloc(sizeof *m);
    pcre2_general_context *general = pcre2_general_context_create(allocate, release, NULL);
    if (m && general) {
        m->data = pcre2_match_data_create(1, general);
        m->context = pcre2_match_context_create(general);
        if (m->context) pcre2_set_heap_limit(m->context, STACK_MOST / 1024);
    }
    pcre2_general_context_free(general);
    if (m && m->data && m->context) return m;
    regex_match_free(m);
    return NULL;
}

void regex_match_free(struct pretok_match *m) {
    if (!m) return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    mem_free(m);
}

weir_status regex_find(const pcre2_regex *regex, struct pretok_match *m, const char *text,
                       size_t size, size_t from, bool *found, size_t *start, size_t *end,
                       weir_error *err) {
    int n = pcre2_match(regex->code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK, m->data,
                        m->context);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT && !m->stack) {
        m->stack = pcre2_jit_stack_create(STACK_FIRST, STACK_MOST, NULL);
        if (!m->stack) return weir_fail(err, WEIR_ERR_MEMORY, "pre-tokenizer: out of memory");
        pcre2_jit_stack_assign(m->context, NULL, m->stack);
        n = pcre2_match(regex->code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK, m->data,
                        m->context);
    }
    *found = n >= 0;
    if (n == PCRE2_ERROR_NOMATCH) return WEIR_OK;
    if (n < 0) {
        return weir_fail(err, WEIR_ERR_FORMAT,
                         "pre-tokenizer: its pattern gave up on %zu bytes of text (PCRE2 error %d)",
                         size, n);
    }
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m->data);
    if (at[0] < from || at[1] < at[0]) { /* \K and the like */
        return weir_fail(err, WEIR_ERR_MODEL, "pre-tokenizer: its pattern matches backwards");
    }
    *start = at[0];
    *end = at[1];
    return WEIR_OK;
}
