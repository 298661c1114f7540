/* filters_text.c - filters that make text: jinja2's names, parameters and results.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

#include <string.h>

/* The method of that name, called on str(self): many filters are no more than that. */
static j_value by_method(j_run *r, j_value self, const char *name, const j_args *args) {
    const j_value text = j_soft(r, self);
    const j_value key = j_text_literal(r, name);
    if (r->failed) return j_none();
    return j_apply(r, j_find_method(text, key.as.text), text, args);
}

static j_value upper(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a;
    return by_method(r, self, "upper", all);
}

static j_value lower(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a;
    return by_method(r, self, "lower", all);
}

static j_value capitalize(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a;
    return by_method(r, self, "capitalize", all);
}

static bool begins_word_behind(uint32_t c) {
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || j_is_space(c);
}

/* Not str.title(): words begin behind blanks, dashes and brackets only. */
static j_value title(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    const j_value text = j_soft(r, self);
    if (r->failed) return j_none();
    const j_text *t = text.as.text;
    j_builder b = {0};
    size_t word = 0;
    for (size_t at = 0; at <= t->size && !r->failed;) {
        uint32_t c = ' ';
        const size_t n = at < t->size ? j_decode(t->data + at, &c) : 1;
        if (at < t->size && !begins_word_behind(c)) {
            at += n;
            continue;
        }
        if (at > word) {
            const size_t first = word + j_decode(t->data + word, &(uint32_t){0});
            const j_value head = j_part_of(r, t, word, first), rest = j_part_of(r, t, first, at);
            if (r->failed) break;
            j_put_str(r, &b, j_recase(r, head.as.text, J_UPPER));
            j_put_str(r, &b, j_recase(r, rest.as.text, J_LOWER));
        }
        if (at < t->size) j_put(r, &b, t->data + at, n);
        at += n;
        word = at;
    }
    return j_finish(r, &b);
}

static j_value trim(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const j_args args = {a, a[0].kind != J_MISSING, NULL};
    return by_method(r, self, "strip", &args);
}

static j_value replace(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const bool counted = a[2].kind != J_MISSING && a[2].kind != J_NONE;
    const j_value arguments[] = {j_str(r, a[0]), j_str(r, a[1]), a[2]};
    const j_args args = {arguments, counted ? 3 : 2, NULL};
    return r->failed ? j_none() : by_method(r, j_str(r, self), "replace", &args);
}

static j_value string(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    return j_soft(r, self);
}

static j_value safe(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    return j_mark_safe(r, j_str(r, self), true);
}

static j_value escape(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    return j_escape(r, self);
}

static j_value forceescape(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    return j_escape(r, j_str(r, self));
}

/* So many blanks, or the text itself: jinja2 takes both. */
static j_value indent_width(j_run *r, j_value width) {
    if (width.kind == J_TEXT) return width;
    const int64_t n = j_arg_int(r, width, 4);
    const j_value space = j_text_literal(r, " ");
    return r->failed ? j_none() : j_multiply(r, space, j_int(n));
}

/* The first line and empty lines stay as they are unless asked for. */
static j_value indent(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    j_value space = indent_width(r, a[0]);
    const bool first = j_arg_truth(r, a[1], false), blank = j_arg_truth(r, a[2], false);
    j_value text = j_add(r, self, j_text_literal(r, "\n")); /* fails as Python does on no text */
    if (r->failed) return j_none();
    if (text.as.text->safe) space = j_escape(r, space);
    const j_value none[] = {j_missing()};
    const j_value key = j_text_literal(r, "splitlines");
    if (r->failed) return j_none();
    const j_function *split = j_find_method(text, key.as.text);
    const j_value lines = j_apply(r, split, text, &(j_args){none, 0, NULL});
    if (r->failed) return j_none();
    j_builder b = {0};
    for (int i = 0; i < lines.as.list->n && j_step(r, 0); i++) {
        const j_text *line = lines.as.list->items[i].as.text;
        if (i) j_puts(r, &b, "\n");
        if (i ? blank || line->size : first) j_put_text(r, &b, space.as.text);
        j_put_text(r, &b, line);
    }
    return j_mark_safe(r, j_finish(r, &b), text.as.text->safe);
}

static j_value join(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const j_value glue = j_str(r, a[0].kind == J_MISSING ? j_text_literal(r, "") : a[0]);
    j_iter *it = r->failed ? NULL : j_iter_new(r, self);
    j_builder b = {0};
    bool later = false;
    for (j_value item; it && j_next(r, it, &item); later = true) {
        if (later) j_put_str(r, &b, glue);
        const size_t before = b.size;
        j_put_str(r, &b, j_lookup_path(r, item, a[1], j_missing()));
        j_step(r, b.size - before);
    }
    return j_finish(r, &b);
}

static j_value center(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const j_value width = j_int(j_arg_int(r, a[0], 80));
    return by_method(r, self, "center", &(j_args){&width, 1, NULL});
}

static j_value format(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a;
    const bool named = all->named && all->named->n;
    if (named && all->n) {
        return j_fail(r, "can't handle positional and keyword arguments at the same time");
    }
    const j_value text = j_soft(r, self);
    if (r->failed) return j_none();
    if (named) {
        return j_format_percent(r, text.as.text, j_dict_value(j_dict_copy(r, all->named)));
    }
    j_list *items = j_list_new(r, all->n);
    for (int i = 0; i < all->n; i++) j_push(r, items, all->items[i]);
    const j_value tuple = j_tuple_value(items);
    return r->failed ? j_none() : j_format_percent(r, text.as.text, tuple);
}

/* The text up to its last space, or all of it. */
static size_t last_word(const j_text *t, size_t size) {
    for (size_t at = size; at > 0; at--) {
        if (t->data[at - 1] == ' ') return at - 1;
    }
    return size;
}

/* Text that is too long by more than `leeway`, cut behind a word unless told otherwise. */
static j_value truncate(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const int64_t length = j_arg_int(r, a[0], 255);
    const bool kill_words = j_arg_truth(r, a[1], false);
    const j_text *end = j_arg_text(r, a[2], "...");
    const int64_t leeway = a[3].kind == J_NONE ? 5 : j_arg_int(r, a[3], 5);
    int64_t chars;
    if (r->failed) return j_none();
    if (length < (int64_t)end->chars) return j_fail(r, "truncate: the end is longer than the text");
    if (leeway < 0) return j_fail(r, "truncate: leeway is negative");
    if (!j_length(r, self, &chars)) {
        return j_fail(r, "object of type '%s' has no len()", j_type_name(self));
    }
    /* neither sum can be longer than text ever is */
    if (length >= MAX_OUTPUT || leeway >= MAX_OUTPUT || chars <= length + leeway) return self;
    const j_text *t = j_arg_text(r, self, NULL);
    if (!t) return j_none();
    if (!j_step(r, t->size)) return j_none();
    size_t cut = j_offset(t, (size_t)length - end->chars);
    if (!kill_words) cut = last_word(t, cut);
    const j_value head = j_part_of(r, t, 0, cut);
    return r->failed ? j_none() : j_add(r, head, (j_value){.kind = J_TEXT, .as.text = end});
}

static j_value wordcount(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    const j_value text = j_soft(r, self);
    if (r->failed || !j_step(r, text.as.text->size)) return j_none();
    int64_t words = 0;
    bool inside = false;
    for (size_t at = 0; at < text.as.text->size;) {
        uint32_t c;
        at += j_decode(text.as.text->data + at, &c);
        words += j_is_word(c) && !inside;
        inside = j_is_word(c);
    }
    return j_int(words);
}

static j_value tojson(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    j_builder b = {0};
    j_put_json(r, &b, self, j_arg_truth(r, a[0], false), a[1], a[2], j_arg_truth(r, a[3], false));
    return j_finish(r, &b);
}

const j_function j_filters_text[] = {
    {"capitalize", capitalize, "", 0},
    {"center", center, "width", 0},
    {"e", escape, "", 0},
    {"escape", escape, "", 0},
    {"forceescape", forceescape, "", 0},
    {"format", format, "*", 0},
    {"indent", indent, "width first blank", 0},
    {"join", join, "d attribute", 0},
    {"lower", lower, "", 0},
    {"replace", replace, "old new count", 2},
    {"safe", safe, "", 0},
    {"string", string, "", 0},
    {"title", title, "", 0},
    {"tojson", tojson, "ensure_ascii indent separators sort_keys", 0},
    {"trim", trim, "chars", 0},
    {"truncate", truncate, "length killwords end leeway", 0},
    {"upper", upper, "", 0},
    {"wordcount", wordcount, "", 0},
    {0},
};
