/* text.c - text: building it, cutting it, and what str() and repr() make of any value.
 *
 * Text is valid UTF-8 throughout: templates are checked when compiled, jansson checks its strings,
 * and everything here cuts between code points.  So decoding needs no error path.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/value.h"

#include "text/jinja/run.h"

#include <stdio.h>
#include <string.h>

/* ---- UTF-8 */

size_t j_decode(const char *at, uint32_t *c) {
    const unsigned char *u = (const unsigned char *)at;
    if (u[0] < 0x80) return *c = u[0], 1;
    if (u[0] < 0xe0) return *c = (u[0] & 0x1fu) << 6 | (u[1] & 0x3fu), 2;
    if (u[0] < 0xf0) {
        *c = (u[0] & 0x0fu) << 12 | (u[1] & 0x3fu) << 6 | (u[2] & 0x3fu);
        return 3;
    }
    *c = (u[0] & 7u) << 18 | (u[1] & 0x3fu) << 12 | (u[2] & 0x3fu) << 6 | (u[3] & 0x3fu);
    return 4;
}

size_t j_encode(uint32_t c, char out[4]) {
    if (c < 0x80) return out[0] = (char)c, 1;
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

static size_t count_chars(const char *data, size_t size) {
    size_t n = 0;
    for (size_t i = 0; i < size; i++) n += ((unsigned char)data[i] & 0xc0) != 0x80;
    return n;
}

size_t j_offset(const j_text *t, size_t index) {
    if (index >= t->chars) return t->size;
    if (t->chars == t->size) return index;
    size_t at = 0;
    for (uint32_t c; index > 0; index--) at += j_decode(t->data + at, &c);
    return at;
}

size_t j_find(const char *in, size_t in_size, const char *what, size_t size) {
    if (size == 0) return 0;
    const char *at = in, *end = in + in_size;
    while ((size_t)(end - at) >= size) {
        at = memchr(at, what[0], (size_t)(end - at) - size + 1);
        if (!at) return SIZE_MAX;
        if (memcmp(at, what, size) == 0) return (size_t)(at - in);
        at++;
    }
    return SIZE_MAX;
}

/* ---- values */

static j_value text_new(j_run *r, j_text text) {
    j_text *t = j_alloc(r, 1, sizeof(*t));
    if (!t) return (j_value){.kind = J_UNDEFINED};
    *t = text;
    return (j_value){.kind = J_TEXT, .as.text = t};
}

j_value j_text_of(j_run *r, const char *data, size_t size) {
    if (!j_step(r, size)) return (j_value){.kind = J_UNDEFINED};
    return text_new(r, (j_text){.data = data, .size = size, .chars = count_chars(data, size)});
}

j_value j_text_copy(j_run *r, const char *data, size_t size) {
    char *copy = j_alloc(r, size, 1);
    if (!copy) return (j_value){.kind = J_UNDEFINED};
    if (size) memcpy(copy, data, size);
    return j_text_of(r, copy, size);
}

j_value j_text_literal(j_run *r, const char *text) {
    return j_text_of(r, text, strlen(text));
}

j_value j_mark_safe(j_run *r, j_value v, bool safe) {
    if (v.kind != J_TEXT || v.as.text->safe == safe) return v;
    j_text copy = *v.as.text;
    copy.safe = safe;
    return text_new(r, copy);
}

j_value j_fixed(j_run *r, j_value v) {
    if (v.kind != J_TEXT || !v.as.text->room) return v;
    j_text copy = *v.as.text;
    copy.room = NULL;
    return text_new(r, copy);
}

j_value j_part_of(j_run *r, const j_text *t, size_t from, size_t to) {
    if (from >= to) return text_new(r, (j_text){.data = "", .safe = t->safe});
    const size_t size = to - from;
    const bool ascii = t->chars == t->size;
    if (!j_step(r, ascii ? 0 : size)) return (j_value){.kind = J_UNDEFINED};
    return text_new(r, (j_text){.data = t->data + from,
                                .size = size,
                                .chars = ascii ? size : count_chars(t->data + from, size),
                                .safe = t->safe});
}

j_value j_concat(j_run *r, const j_text *a, const j_text *b) {
    const size_t size = a->size + b->size;
    if (size > MAX_OUTPUT) return j_fail(r, "text is longer than %d MiB", MAX_OUTPUT >> 20);
    if (!j_step(r, b->size)) return (j_value){.kind = J_UNDEFINED};
    j_room *room = a->room;
    if (!room || a->data + a->size != room->data + room->used ||
        room->capacity - room->used < b->size) {
        if (!j_step(r, a->size)) return (j_value){.kind = J_UNDEFINED};
        room = j_alloc(r, 1, sizeof(*room));
        if (!room) return (j_value){.kind = J_UNDEFINED};
        room->capacity = size < 256 ? size : 2 * size;
        room->data = j_alloc(r, room->capacity, 1);
        if (!room->data) return (j_value){.kind = J_UNDEFINED};
        if (a->size) memcpy(room->data, a->data, a->size);
        room->used = a->size;
    }
    if (b->size) memcpy(room->data + room->used, b->data, b->size);
    room->used += b->size;
    return text_new(r, (j_text){.data = room->data + room->used - size,
                                .size = size,
                                .chars = a->chars + b->chars,
                                .room = room});
}

bool j_text_is(const j_text *t, const char *literal) {
    return strlen(literal) == t->size && memcmp(t->data, literal, t->size) == 0;
}

bool j_is_text(j_value v, const char *literal) {
    return v.kind == J_TEXT && j_text_is(v.as.text, literal);
}

bool j_text_equal(const j_text *a, const j_text *b) {
    return a == b || (a->size == b->size && memcmp(a->data, b->data, a->size) == 0);
}

int j_text_compare(const j_text *a, const j_text *b) {
    const int order = memcmp(a->data, b->data, MIN_OF(a->size, b->size));
    if (order) return order;
    return (a->size > b->size) - (a->size < b->size);
}

/* ---- building */

void j_put(j_run *r, j_builder *b, const char *data, size_t size) {
    if (r->failed || size == 0) return;
    if (size > MAX_OUTPUT - b->size) {
        j_fail(r, "text is longer than %d MiB", MAX_OUTPUT >> 20);
        return;
    }
    if (size > b->capacity - b->size) {
        const size_t capacity = MAX_OF(2 * b->capacity, b->size + size + 32);
        char *grown = j_alloc(r, capacity, 1);
        if (!grown) return;
        if (b->size) memcpy(grown, b->data, b->size);
        b->data = grown;
        b->capacity = capacity;
    }
    memcpy(b->data + b->size, data, size);
    b->size += size;
}

void j_puts(j_run *r, j_builder *b, const char *text) {
    j_put(r, b, text, strlen(text));
}

void j_put_char(j_run *r, j_builder *b, uint32_t c) {
    char bytes[4];
    j_put(r, b, bytes, j_encode(c, bytes));
}

void j_put_text(j_run *r, j_builder *b, const j_text *t) {
    j_put(r, b, t->data, t->size);
}

j_value j_finish(j_run *r, j_builder *b) {
    const j_value v = j_text_of(r, b->data ? b->data : "", b->size);
    *b = (j_builder){0};
    return v;
}

/* ---- str() and repr() */

void j_put_escape(j_run *r, j_builder *b, uint32_t c) {
    char code[16];
    switch (c) {
    case '\n': j_puts(r, b, "\\n"); return;
    case '\r': j_puts(r, b, "\\r"); return;
    case '\t': j_puts(r, b, "\\t"); return;
    default: break;
    }
    if (c < 0x100)
        snprintf(code, sizeof(code), "\\x%02x", (unsigned)c);
    else if (c < 0x10000)
        snprintf(code, sizeof(code), "\\u%04x", (unsigned)c);
    else
        snprintf(code, sizeof(code), "\\U%08x", (unsigned)c);
    j_puts(r, b, code);
}

/* In single quotes, unless the text has some and no double ones. */
static void put_quoted(j_run *r, j_builder *b, const j_text *t) {
    const bool has_single = t->size && memchr(t->data, '\'', t->size);
    const bool has_double = t->size && memchr(t->data, '"', t->size);
    const char quote = has_single && !has_double ? '"' : '\'';
    j_put(r, b, &quote, 1);
    for (size_t at = 0; at < t->size && !r->failed;) {
        uint32_t c;
        const size_t n = j_decode(t->data + at, &c);
        if (c == (uint32_t)quote || c == '\\') j_puts(r, b, "\\");
        if (j_is_printable(c))
            j_put(r, b, t->data + at, n);
        else
            j_put_escape(r, b, c);
        at += n;
    }
    j_put(r, b, &quote, 1);
}

static void put_items(j_run *r, j_builder *b, const j_list *l, const char *open,
                      const char *close) {
    j_puts(r, b, open);
    for (int i = 0; i < l->n && !r->failed; i++) {
        if (i) j_puts(r, b, ", ");
        j_put_repr(r, b, l->items[i]);
    }
    j_puts(r, b, close);
}

static void put_dict(j_run *r, j_builder *b, const j_dict *d) {
    j_puts(r, b, "{");
    for (int i = 0; i < d->n && !r->failed; i++) {
        if (i) j_puts(r, b, ", ");
        j_put_repr(r, b, d->entries[i].key);
        j_puts(r, b, ": ");
        j_put_repr(r, b, d->entries[i].value);
    }
    j_puts(r, b, "}");
}

static void put_view(j_run *r, j_builder *b, j_value v) {
    j_puts(r, b, j_type_name(v));
    j_puts(r, b, "([");
    for (int i = 0; i < v.as.view->dict->n && !r->failed; i++) {
        if (i) j_puts(r, b, ", ");
        j_put_repr(r, b, j_view_at(r, v.as.view, i));
    }
    j_puts(r, b, "])");
}

static void put_range(j_run *r, j_builder *b, const j_range *range) {
    j_puts(r, b, "range(");
    j_put_int(r, b, range->start);
    j_puts(r, b, ", ");
    j_put_int(r, b, range->stop);
    if (range->step != 1) {
        j_puts(r, b, ", ");
        j_put_int(r, b, range->step);
    }
    j_puts(r, b, ")");
}

/* What has no text of its own: Python prints an address, which no template can rely on. */
static void put_object(j_run *r, j_builder *b, j_value v) {
    j_puts(r, b, "<");
    j_puts(r, b, j_type_name(v));
    if (v.kind == J_MACRO) {
        j_puts(r, b, " ");
        j_put_repr(r, b, j_macro_name(r, v.as.macro));
    } else if (v.kind == J_LOOP) {
        j_puts(r, b, " ");
        j_put_int(r, b, j_loop_index(v.as.loop) + 1);
        j_puts(r, b, "/");
        j_put_int(r, b, j_loop_length(r, v.as.loop));
    } else if (v.kind == J_NAMESPACE) {
        j_puts(r, b, " ");
        put_dict(r, b, v.as.dict);
    } else {
        j_puts(r, b, " object");
    }
    j_puts(r, b, ">");
}

static void put_repr(j_run *r, j_builder *b, j_value v) {
    switch (v.kind) {
    case J_MISSING: break;
    case J_UNDEFINED: j_puts(r, b, "Undefined"); break;
    case J_NONE: j_puts(r, b, "None"); break;
    case J_BOOL: j_puts(r, b, v.as.truth ? "True" : "False"); break;
    case J_INT: j_put_int(r, b, v.as.integer); break;
    case J_FLOAT: j_put_float(r, b, v.as.real); break;
    case J_TEXT:
        if (v.as.text->safe) j_puts(r, b, "Markup(");
        put_quoted(r, b, v.as.text);
        if (v.as.text->safe) j_puts(r, b, ")");
        break;
    case J_LIST: put_items(r, b, v.as.list, "[", "]"); break;
    case J_TUPLE: put_items(r, b, v.as.list, "(", v.as.list->n == 1 ? ",)" : ")"); break;
    case J_DICT: put_dict(r, b, v.as.dict); break;
    case J_VIEW: put_view(r, b, v); break;
    case J_RANGE: put_range(r, b, v.as.range); break;
    case J_ITER:
    case J_SLICE:
    case J_NAMESPACE:
    case J_LOOP:
    case J_MACRO:
    case J_METHOD:
    case J_FUNCTION:
    case J_CYCLER:
    case J_JOINER: put_object(r, b, v); break;
    }
}

void j_put_repr(j_run *r, j_builder *b, j_value v) {
    if (!j_step(r, 0) || !j_enter(r)) return;
    put_repr(r, b, v);
    j_leave(r);
}

void j_put_str(j_run *r, j_builder *b, j_value v) {
    if (v.kind == J_TEXT)
        j_put_text(r, b, v.as.text);
    else if (v.kind != J_UNDEFINED)
        j_put_repr(r, b, v);
}

j_value j_str(j_run *r, j_value v) {
    if (v.kind == J_TEXT) return j_mark_safe(r, v, false);
    j_builder b = {0};
    j_put_str(r, &b, v);
    return j_finish(r, &b);
}

j_value j_soft(j_run *r, j_value v) {
    return v.kind == J_TEXT ? v : j_str(r, v);
}

j_value j_escape(j_run *r, j_value v) {
    if (v.kind == J_TEXT && v.as.text->safe) return v;
    const j_value plain = j_str(r, v);
    if (r->failed) return plain;
    j_builder b = {0};
    for (size_t i = 0; i < plain.as.text->size && !r->failed; i++) {
        const char c = plain.as.text->data[i];
        switch (c) {
        case '&': j_puts(r, &b, "&amp;"); break;
        case '<': j_puts(r, &b, "&lt;"); break;
        case '>': j_puts(r, &b, "&gt;"); break;
        case '\'': j_puts(r, &b, "&#39;"); break;
        case '"': j_puts(r, &b, "&#34;"); break;
        default: j_put(r, &b, &c, 1); break;
        }
    }
    return j_mark_safe(r, j_finish(r, &b), true);
}
