/* json.c - the tojson filter, as transformers defines it: Python's json.dumps.
 *
 *     {"a": [1, 2.5, "x"]}            indent is none: separators ", " and ": "
 *     {\n  "a": [\n    1, ...         indent is a number or text: separators "," and ": "
 *
 * Nothing is escaped for HTML, and by default nothing beyond ASCII is escaped at all.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

#include <math.h>
#include <stdio.h>

typedef struct writer {
    j_run *r;
    j_builder *b;
    bool ascii, sort_keys;
    const j_text *indent; /* one level of it, NULL: all on one line */
    const j_text *between, *behind_key;
    int level;
} writer;

static void put(const writer *w, const char *text) {
    j_puts(w->r, w->b, text);
}

static void put_unit(const writer *w, uint32_t unit) {
    char code[8];
    snprintf(code, sizeof(code), "\\u%04x", (unsigned)unit & 0xffff);
    put(w, code);
}

static void put_escaped(const writer *w, uint32_t c) {
    static const char from[] = "\"\\\n\r\t\f\b";
    static const char *const to[] = {"\\\"", "\\\\", "\\n", "\\r", "\\t", "\\f", "\\b"};
    for (size_t i = 0; i < COUNT_OF(to); i++) {
        if (c != (uint32_t)from[i]) continue;
        put(w, to[i]);
        return;
    }
    if (c < 0x20 || (w->ascii && c >= 0x7f && c < 0x10000)) {
        put_unit(w, c);
    } else if (w->ascii && c >= 0x10000) {
        put_unit(w, 0xd800 + ((c - 0x10000) >> 10));
        put_unit(w, 0xdc00 + ((c - 0x10000) & 0x3ff));
    } else {
        j_put_char(w->r, w->b, c);
    }
}

static void put_string(const writer *w, const j_text *t) {
    if (!j_step(w->r, t->size)) return;
    put(w, "\"");
    for (size_t at = 0; at < t->size && !w->r->failed;) {
        uint32_t c;
        at += j_decode(t->data + at, &c);
        put_escaped(w, c);
    }
    put(w, "\"");
}

static void put_number(const writer *w, j_value v) {
    if (v.kind == J_INT)
        j_put_int(w->r, w->b, v.as.integer);
    else if (isnan(v.as.real))
        put(w, "NaN");
    else if (isinf(v.as.real))
        put(w, v.as.real < 0 ? "-Infinity" : "Infinity");
    else
        j_put_float(w->r, w->b, v.as.real);
}

static bool put_simple(const writer *w, j_value v) {
    switch ((int)v.kind) {
    case J_NONE: put(w, "null"); return true;
    case J_BOOL: put(w, v.as.truth ? "true" : "false"); return true;
    case J_INT:
    case J_FLOAT: put_number(w, v); return true;
    case J_TEXT: put_string(w, v.as.text); return true;
    default: return false;
    }
}

static void put_key(const writer *w, j_value key) {
    if (key.kind == J_TEXT) {
        put_string(w, key.as.text);
        return;
    }
    put(w, "\"");
    if (!put_simple(w, key)) {
        j_fail(w->r, "keys must be str, int, float, bool or None, not %s", j_type_name(key));
    }
    put(w, "\"");
}

static void put_newline(const writer *w) {
    if (!w->indent) return;
    put(w, "\n");
    for (int i = 0; i < w->level; i++) j_put_text(w->r, w->b, w->indent);
}

static void put_value(writer *w, j_value v);

static void put_list(writer *w, const j_list *l) {
    if (l->n == 0) {
        put(w, "[]");
        return;
    }
    put(w, "[");
    w->level++;
    for (int i = 0; i < l->n && !w->r->failed; i++) {
        if (i) j_put_text(w->r, w->b, w->between);
        put_newline(w);
        put_value(w, l->items[i]);
    }
    w->level--;
    put_newline(w);
    put(w, "]");
}

/* The entries of a dict by key; NULL when failed. */
static const j_value *sorted_pairs(j_run *r, const j_dict *d) {
    j_value *pairs = j_alloc(r, (size_t)d->n, sizeof(*pairs));
    j_value *keys = j_alloc(r, (size_t)d->n, sizeof(*keys));
    for (int i = 0; i < d->n && keys; i++) {
        keys[i] = d->entries[i].key;
        pairs[i] = j_pair(r, keys[i], d->entries[i].value);
    }
    if (keys) j_sort(r, pairs, keys, d->n, false);
    return r->failed ? NULL : pairs;
}

static void put_dict(writer *w, const j_dict *d) {
    if (d->n == 0) {
        put(w, "{}");
        return;
    }
    const j_value *pairs = w->sort_keys ? sorted_pairs(w->r, d) : NULL;
    put(w, "{");
    w->level++;
    for (int i = 0; i < d->n && !w->r->failed; i++) {
        if (i) j_put_text(w->r, w->b, w->between);
        put_newline(w);
        const j_value *pair = pairs ? pairs[i].as.list->items : NULL;
        put_key(w, pair ? pair[0] : d->entries[i].key);
        j_put_text(w->r, w->b, w->behind_key);
        put_value(w, pair ? pair[1] : d->entries[i].value);
    }
    w->level--;
    put_newline(w);
    put(w, "}");
}

static void put_value(writer *w, j_value v) {
    if (!j_step(w->r, 0) || !j_enter(w->r)) return;
    if (j_is_sequence(v)) {
        put_list(w, v.as.list);
    } else if (v.kind == J_DICT) {
        put_dict(w, v.as.dict);
    } else if (!put_simple(w, v)) {
        j_fail(w->r, "Object of type %s is not JSON serializable", j_type_name(v));
    }
    j_leave(w->r);
}

static const j_text *indent_of(j_run *r, j_value indent) {
    if (indent.kind == J_TEXT) return indent.as.text;
    const int64_t n = j_arg_int(r, indent, 0);
    j_value spaces = j_text_literal(r, " ");
    if (!r->failed) spaces = j_multiply(r, spaces, j_int(n));
    return r->failed ? NULL : spaces.as.text;
}

static bool take_separators(writer *w, j_value v) {
    const bool pair = j_is_sequence(v) && v.as.list->n == 2;
    if (!pair || v.as.list->items[0].kind != J_TEXT || v.as.list->items[1].kind != J_TEXT) {
        j_fail(w->r, "tojson: separators must be two strings");
        return false;
    }
    w->between = v.as.list->items[0].as.text;
    w->behind_key = v.as.list->items[1].as.text;
    return true;
}

void j_put_json(j_run *r, j_builder *b, j_value v, bool ascii, j_value indent, j_value separators,
                bool sort_keys) {
    static const j_text wide = {.data = ", ", .size = 2, .chars = 2};
    static const j_text narrow = {.data = ",", .size = 1, .chars = 1};
    static const j_text colon = {.data = ": ", .size = 2, .chars = 2};
    writer w = {.r = r, .b = b, .ascii = ascii, .sort_keys = sort_keys};
    const bool lines = indent.kind != J_MISSING && indent.kind != J_NONE;
    w.indent = lines ? indent_of(r, indent) : NULL;
    w.between = lines ? &narrow : &wide;
    w.behind_key = &colon;
    const bool given = separators.kind != J_MISSING && separators.kind != J_NONE;
    if (r->failed || (given && !take_separators(&w, separators))) return;
    put_value(&w, v);
}
