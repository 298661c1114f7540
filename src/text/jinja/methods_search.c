/* methods_search.c - methods of text that search, split, join and replace.
 *
 * Positions are counted in code points, as Python counts them; inside all is bytes.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

#include <string.h>

static const j_text *part(j_run *r, j_value self, j_value v) {
    if (!j_arg_text(r, v, NULL)) return NULL;
    if (self.as.text->safe) v = j_escape(r, v);
    return r->failed ? NULL : v.as.text;
}

/* The last place of what in t, or SIZE_MAX. */
static size_t find_last(const char *in, size_t in_size, const char *what, size_t size) {
    if (size > in_size) return SIZE_MAX;
    for (size_t at = in_size - size + 1; at-- > 0;) {
        if (memcmp(in + at, what, size) == 0) return at;
    }
    return SIZE_MAX;
}

/* ---- finding */

typedef struct span { /* the bytes [from, to) that optional start and end arguments leave */
    size_t from, to;
    bool empty; /* start lies behind the end: not even "" is found */
} span;

static int64_t position(j_run *r, j_value v, int64_t chars, int64_t otherwise) {
    if (v.kind == J_NONE) return otherwise;
    int64_t at = j_arg_int(r, v, otherwise);
    if (at < 0) at = at < -chars ? 0 : at + chars;
    return at;
}

static span span_of(j_run *r, const j_text *t, j_value start, j_value end) {
    const int64_t n = (int64_t)t->chars;
    const int64_t from = position(r, start, n, 0), to = MIN_OF(position(r, end, n, n), n);
    if (from > to || !j_step(r, 2 * t->size)) return (span){.empty = true};
    return (span){j_offset(t, (size_t)from), j_offset(t, (size_t)to), false};
}

static int64_t chars_before(j_run *r, const j_text *t, size_t at) {
    const j_value head = j_part_of(r, t, 0, at);
    return r->failed ? 0 : (int64_t)head.as.text->chars;
}

/* -1 when it is not there */
static int64_t find_in(j_run *r, j_value self, const j_value *a, bool last) {
    const j_text *t = self.as.text, *what = part(r, self, a[0]);
    if (!what) return -1;
    const span s = span_of(r, t, a[1], a[2]);
    if (s.empty || r->failed) return -1;
    const char *in = t->data + s.from;
    const size_t size = s.to - s.from;
    size_t at;
    if (!last)
        at = j_find(in, size, what->data, what->size);
    else
        at = find_last(in, size, what->data, what->size);
    return at == SIZE_MAX ? -1 : chars_before(r, t, s.from + at);
}

static j_value find(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return j_int(find_in(r, self, a, false));
}

static j_value rfind(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return j_int(find_in(r, self, a, true));
}

static j_value index_of(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const int64_t at = find_in(r, self, a, false);
    return at < 0 ? j_fail(r, "substring not found") : j_int(at);
}

static j_value rindex(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const int64_t at = find_in(r, self, a, true);
    return at < 0 ? j_fail(r, "substring not found") : j_int(at);
}

static j_value count(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const j_text *t = self.as.text, *what = part(r, self, a[0]);
    if (!what) return j_none();
    const span s = span_of(r, t, a[1], a[2]);
    if (s.empty || r->failed) return j_int(0);
    if (what->size == 0) return j_int(chars_before(r, t, s.to) - chars_before(r, t, s.from) + 1);
    int64_t n = 0;
    for (size_t at = s.from; j_step(r, 0); n++) {
        const size_t next = j_find(t->data + at, s.to - at, what->data, what->size);
        if (next == SIZE_MAX) break;
        at += next + what->size;
    }
    return j_int(n);
}

static bool one_matches(j_run *r, j_value self, j_value what, const span *s, bool at_end) {
    const j_text *w = part(r, self, what);
    if (!w || s->empty || w->size > s->to - s->from) return false;
    const size_t at = at_end ? s->to - w->size : s->from;
    return memcmp(self.as.text->data + at, w->data, w->size) == 0;
}

/* One text, or a tuple of several. */
static j_value matches(j_run *r, j_value self, const j_value *a, bool at_end) {
    const span s = span_of(r, self.as.text, a[1], a[2]);
    if (a[0].kind != J_TUPLE) return j_bool(one_matches(r, self, a[0], &s, at_end));
    for (int i = 0; i < a[0].as.list->n && j_step(r, 0); i++) {
        if (one_matches(r, self, a[0].as.list->items[i], &s, at_end)) return j_bool(true);
    }
    return j_bool(false);
}

static j_value startswith(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return matches(r, self, a, false);
}

static j_value endswith(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return matches(r, self, a, true);
}

/* ---- splitting */

static size_t step_back(const j_text *t, size_t at, uint32_t *c) {
    do at--;
    while (at > 0 && ((unsigned char)t->data[at] & 0xc0) == 0x80);
    j_decode(t->data + at, c);
    return at;
}

static bool space_at(const j_text *t, size_t at, size_t *n) {
    uint32_t c;
    *n = j_decode(t->data + at, &c);
    return j_is_space(c);
}

static void split_blanks(j_run *r, const j_text *t, int64_t most, j_list *out) {
    size_t at = 0, n;
    for (;;) {
        while (at < t->size && space_at(t, at, &n)) at += n;
        if (at == t->size || !j_step(r, 0)) return;
        const size_t word = at;
        if (most-- == 0) { /* the rest, as it is */
            j_push(r, out, j_part_of(r, t, word, t->size));
            return;
        }
        while (at < t->size && !space_at(t, at, &n)) at += n;
        j_push(r, out, j_part_of(r, t, word, at));
    }
}

static void rsplit_blanks(j_run *r, const j_text *t, int64_t most, j_list *out) {
    size_t at = t->size;
    uint32_t c = 0;
    for (;;) {
        while (at > 0) {
            const size_t before = step_back(t, at, &c);
            if (!j_is_space(c)) break;
            at = before;
        }
        if (at == 0 || !j_step(r, 0)) return;
        const size_t end = at;
        if (most-- == 0) {
            j_push(r, out, j_part_of(r, t, 0, end));
            return;
        }
        while (at > 0) {
            const size_t before = step_back(t, at, &c);
            if (j_is_space(c)) break;
            at = before;
        }
        j_push(r, out, j_part_of(r, t, at, end));
    }
}

static void split_at(j_run *r, const j_text *t, const j_text *by, int64_t most, j_list *out) {
    size_t at = 0;
    while (most-- != 0 && j_step(r, 0)) {
        const size_t next = j_find(t->data + at, t->size - at, by->data, by->size);
        if (next == SIZE_MAX) break;
        j_push(r, out, j_part_of(r, t, at, at + next));
        at += next + by->size;
    }
    j_push(r, out, j_part_of(r, t, at, t->size));
}

static void rsplit_at(j_run *r, const j_text *t, const j_text *by, int64_t most, j_list *out) {
    size_t end = t->size;
    while (most-- != 0 && j_step(r, 0)) {
        const size_t next = find_last(t->data, end, by->data, by->size);
        if (next == SIZE_MAX) break;
        j_push(r, out, j_part_of(r, t, next + by->size, end));
        end = next;
    }
    j_push(r, out, j_part_of(r, t, 0, end));
}

static void turn_around(j_list *l) {
    for (int i = 0; i < l->n / 2; i++) {
        const j_value other = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = other;
    }
}

static j_value split_by(j_run *r, j_value self, const j_value *a, bool from_right) {
    const bool blanks = a[0].kind == J_MISSING || a[0].kind == J_NONE;
    const j_text *by = blanks ? NULL : part(r, self, a[0]), *t = self.as.text;
    int64_t most = j_arg_int(r, a[1], -1);
    if (most < 0) most = -1;
    j_list *out = j_list_new(r, 0);
    if (!out || !j_step(r, 2 * t->size)) return j_none();
    if (by && by->size == 0) return j_fail(r, "empty separator");
    if (from_right) {
        if (by)
            rsplit_at(r, t, by, most, out);
        else
            rsplit_blanks(r, t, most, out);
        turn_around(out);
    } else if (by) {
        split_at(r, t, by, most, out);
    } else {
        split_blanks(r, t, most, out);
    }
    return j_list_value(out);
}

static j_value split(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return split_by(r, self, a, false);
}

static j_value rsplit(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return split_by(r, self, a, true);
}

static j_value splitlines(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const bool keep = j_arg_truth(r, a[0], false);
    const j_text *t = self.as.text;
    j_list *out = j_list_new(r, 0);
    size_t line = 0;
    for (size_t at = 0; at < t->size && j_step(r, 0);) {
        uint32_t c;
        size_t n = j_decode(t->data + at, &c);
        if (!j_is_line_end(c)) {
            at += n;
            continue;
        }
        if (c == '\r' && at + 1 < t->size && t->data[at + 1] == '\n') n = 2;
        j_push(r, out, j_part_of(r, t, line, keep ? at + n : at));
        at += n;
        line = at;
    }
    if (line < t->size) j_push(r, out, j_part_of(r, t, line, t->size));
    return j_list_value(out);
}

static j_value three(j_run *r, j_value a, j_value b, j_value c) {
    j_list *l = j_list_new(r, 3);
    j_push(r, l, a);
    j_push(r, l, b);
    j_push(r, l, c);
    return j_tuple_value(l);
}

static j_value part_at(j_run *r, j_value self, const j_value *a, bool last) {
    const j_text *t = self.as.text, *by = part(r, self, a[0]);
    if (!by || !j_step(r, t->size)) return j_none();
    if (by->size == 0) return j_fail(r, "empty separator");
    const size_t at = last ? find_last(t->data, t->size, by->data, by->size)
                           : j_find(t->data, t->size, by->data, by->size);
    const j_value nothing = j_part_of(r, t, 0, 0);
    if (at == SIZE_MAX) {
        return last ? three(r, nothing, nothing, self) : three(r, self, nothing, nothing);
    }
    return three(r, j_part_of(r, t, 0, at), j_part_of(r, t, at, at + by->size),
                 j_part_of(r, t, at + by->size, t->size));
}

static j_value partition(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return part_at(r, self, a, false);
}

static j_value rpartition(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return part_at(r, self, a, true);
}

/* ---- putting together */

static j_value join(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const j_text *glue = self.as.text;
    j_iter *it = j_iter_new(r, a[0]);
    j_builder b = {0};
    int i = 0;
    for (j_value item; it && j_next(r, it, &item); i++) {
        if (item.kind != J_TEXT && !glue->safe) {
            return j_fail(r, "sequence item %d: expected str instance, %s found", i,
                          j_type_name(item));
        }
        if (i) j_put_text(r, &b, glue);
        const j_value text = glue->safe ? j_escape(r, item) : item;
        if (r->failed || !j_step(r, glue->size + text.as.text->size)) break;
        j_put_text(r, &b, text.as.text);
    }
    return j_mark_safe(r, j_finish(r, &b), glue->safe);
}

/* Between all characters when there is nothing to look for. */
static void replace_nothing(j_run *r, j_builder *b, const j_text *t, const j_text *with,
                            int64_t most) {
    size_t at = 0;
    while (most-- != 0 && j_step(r, with->size)) {
        j_put_text(r, b, with);
        if (at == t->size) return;
        uint32_t c;
        const size_t n = j_decode(t->data + at, &c);
        j_put(r, b, t->data + at, n);
        at += n;
    }
    j_put(r, b, t->data + at, t->size - at);
}

static j_value replace(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const j_text *t = self.as.text, *what = part(r, self, a[0]), *with = part(r, self, a[1]);
    int64_t most = j_arg_int(r, a[2], -1);
    if (most < 0) most = -1;
    if (r->failed || !j_step(r, t->size)) return j_none();
    j_builder b = {0};
    if (what->size == 0) {
        replace_nothing(r, &b, t, with, most);
        return j_mark_safe(r, j_finish(r, &b), t->safe);
    }
    size_t at = 0;
    while (most-- != 0) {
        const size_t next = j_find(t->data + at, t->size - at, what->data, what->size);
        if (next == SIZE_MAX || !j_step(r, with->size)) break;
        j_put(r, &b, t->data + at, next);
        j_put_text(r, &b, with);
        at += next + what->size;
    }
    if (at == 0) return self;
    j_put(r, &b, t->data + at, t->size - at);
    return j_mark_safe(r, j_finish(r, &b), t->safe);
}

const j_function j_methods_search[] = {
    {"count", count, "/sub start end", 1},
    {"endswith", endswith, "/suffix start end", 1},
    {"find", find, "/sub start end", 1},
    {"index", index_of, "/sub start end", 1},
    {"join", join, "/iterable", 1},
    {"partition", partition, "/sep", 1},
    {"replace", replace, "/old new count", 2},
    {"rfind", rfind, "/sub start end", 1},
    {"rindex", rindex, "/sub start end", 1},
    {"rpartition", rpartition, "/sep", 1},
    {"rsplit", rsplit, "sep maxsplit", 0},
    {"split", split, "sep maxsplit", 0},
    {"splitlines", splitlines, "keepends", 0},
    {"startswith", startswith, "/prefix start end", 1},
    {0},
};
