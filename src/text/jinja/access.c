/* access.c - attributes, subscripts and slices.
 *
 *     of.name    a method or attribute, else the item of that key
 *     of[key]    an item, else, for text keys, a method or attribute
 *
 * What is not there is undefined, not an error.  As in jinja2's sandbox a method that would change
 * its object is undefined too, and says so when it is called.  What Python has and this subset does
 * not is an error, never a silent "undefined".
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

#include <string.h>

/* ---- attributes */

/* Methods the sandbox forbids, and those of Python that are not written here; words. */
typedef struct more_methods {
    j_kind kind;
    const char *forbidden, *missing;
} more_methods;

static const more_methods more[] = {
    {J_TEXT, "", "encode format_map isidentifier isnumeric maketrans translate"},
    {J_LIST, "append clear extend insert pop remove reverse sort", ""},
    {J_DICT, "clear pop popitem setdefault update", "fromkeys"},
    {J_BOOL, "",
     "as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag "
     "numerator real to_bytes"},
    {J_INT, "",
     "as_integer_ratio bit_count bit_length conjugate denominator from_bytes imag "
     "numerator real to_bytes"},
    {J_FLOAT, "", "as_integer_ratio conjugate fromhex hex imag is_integer real"},
    {J_VIEW, "", "isdisjoint mapping"},
    {J_RANGE, "", "count index start step stop"},
    {J_ITER, "", "close send throw gi_code gi_frame gi_running gi_yieldfrom"},
};

static bool has_word(const char *words, const j_text *name) {
    for (const char *at = words; *at;) {
        const size_t size = strcspn(at, " ");
        if (size == name->size && memcmp(at, name->data, size) == 0) return true;
        at += size + (at[size] == ' ');
    }
    return false;
}

static j_value unsafe(j_run *r, j_value of, const j_text *name) {
    j_builder b = {0};
    j_puts(r, &b, "access to attribute '");
    j_put(r, &b, name->data, MIN_OF(name->size, (size_t)60));
    j_puts(r, &b, "' of '");
    j_puts(r, &b, j_type_name(of));
    j_puts(r, &b, "' object is unsafe");
    j_put(r, &b, "", 1);
    return r->failed ? j_none() : j_undefined_hint(r, b.data);
}

/* __class__ and its like: there is one on everything, and none may be touched. */
static bool is_internal(const j_text *name) {
    return name->size > 4 && memcmp(name->data, "__", 2) == 0 &&
           memcmp(name->data + name->size - 2, "__", 2) == 0;
}

static j_value namespace_attribute(j_run *r, j_value of, const j_text *name) {
    const j_value *v = j_dict_find(of.as.dict, name);
    if (!v) return j_missing();
    return name->size && name->data[0] == '_' ? unsafe(r, of, name) : *v;
}

static j_value cycler_current(const j_cycler *c, const j_text *name) {
    return j_text_is(name, "current") ? c->items->items[c->at] : j_missing();
}

/* getattr(of, name) in the sandbox; missing when Python has no such attribute. */
static j_value own_attribute(j_run *r, j_value of, const j_text *name) {
    const j_function *f = j_find_method(of, name);
    if (f) {
        j_method *m = j_alloc(r, 1, sizeof(*m));
        if (m) *m = (j_method){of, f};
        return (j_value){.kind = J_METHOD, .as.method = m};
    }
    for (size_t i = 0; i < COUNT_OF(more); i++) {
        if (more[i].kind != of.kind) continue;
        if (has_word(more[i].forbidden, name)) return unsafe(r, of, name);
        if (!has_word(more[i].missing, name)) continue;
        return j_fail(r, "the method '%.*s' of '%s' is not supported",
                      (int)MIN_OF(name->size, (size_t)60), name->data, j_type_name(of));
    }
    if (is_internal(name)) return unsafe(r, of, name);
    switch ((int)of.kind) {
    case J_NAMESPACE: return namespace_attribute(r, of, name);
    case J_LOOP: return j_loop_attribute(r, of.as.loop, name);
    case J_MACRO: return j_macro_attribute(r, of.as.macro, name);
    case J_CYCLER: return cycler_current(of.as.cycler, name);
    default: return j_missing();
    }
}

static const char *owner_name(j_value of) {
    if (of.kind == J_NONE) return "None";
    return of.kind == J_NAMESPACE ? "jinja2.utils.Namespace object" : j_type_name(of);
}

j_value j_get_attribute(j_run *r, j_value of, const j_text *name) {
    if (of.kind == J_UNDEFINED) return j_fail_undefined(r, of);
    const j_value own = own_attribute(r, of, name);
    return own.kind != J_MISSING ? own : j_undefined_name(r, owner_name(of), name);
}

j_value j_attribute(j_run *r, j_value of, const j_text *name) {
    if (!j_step(r, 0)) return j_none();
    if (of.kind == J_UNDEFINED) return j_fail_undefined(r, of);
    const j_value own = own_attribute(r, of, name);
    if (own.kind != J_MISSING || r->failed) return own;
    const j_value *item = of.kind == J_DICT ? j_dict_find(of.as.dict, name) : NULL;
    return item ? *item : j_undefined_name(r, owner_name(of), name);
}

/* ---- slices */

typedef struct cut { /* which of n things: start, start + step, ..., count of them */
    int64_t start, step, count;
} cut;

static bool slice_part(j_run *r, j_value v, int64_t otherwise, int64_t *out) {
    if (v.kind == J_NONE)
        *out = otherwise;
    else if (v.kind == J_INT)
        *out = v.as.integer;
    else if (v.kind == J_BOOL)
        *out = v.as.truth;
    else
        j_fail(r, "slice indices must be integers or none, not %s", j_type_name(v));
    return !r->failed;
}

/* Where a start or stop lands among n things: counted from the end when negative, then clamped. */
static int64_t clamp(int64_t at, int64_t n, bool backwards) {
    if (at < 0) at = at < -n ? -1 : at + n;
    if (backwards) return at >= n ? n - 1 : at;
    return at < 0 ? 0 : MIN_OF(at, n);
}

static bool cut_of(j_run *r, const j_slice *s, int64_t n, cut *out) {
    int64_t start = 0, stop = 0, step = 1;
    if (!slice_part(r, s->step, 1, &step)) return false;
    if (step == 0) {
        j_fail(r, "slice step cannot be zero");
        return false;
    }
    const bool backwards = step < 0;
    if (step < -MAX_BYTES) step = -MAX_BYTES; /* longer than anything: the same cut */
    if (step > MAX_BYTES) step = MAX_BYTES;
    if (!slice_part(r, s->start, backwards ? n - 1 : 0, &start)) return false;
    if (!slice_part(r, s->stop, backwards ? -n - 1 : n, &stop)) return false;
    start = clamp(start, n, backwards);
    stop = clamp(stop, n, backwards);
    const int64_t far = backwards ? start - stop : stop - start, stride = backwards ? -step : step;
    *out = (cut){start, step, far > 0 ? (far - 1) / stride + 1 : 0};
    return true;
}

static j_value slice_list(j_run *r, j_value of, const cut *c) {
    j_list *l = j_list_new(r, (int)c->count);
    for (int64_t i = 0; i < c->count && j_step(r, 0); i++) {
        j_push(r, l, of.as.list->items[c->start + i * c->step]);
    }
    return of.kind == J_LIST ? j_list_value(l) : j_tuple_value(l);
}

static j_value slice_text(j_run *r, const j_text *t, const cut *c) {
    if (!j_step(r, t->chars == t->size ? 0 : t->size)) return j_none();
    if (c->step == 1) {
        const size_t from = j_offset(t, (size_t)c->start);
        return j_part_of(r, t, from, j_offset(t, (size_t)(c->start + c->count)));
    }
    if (!j_step(r, t->size)) return j_none();
    size_t *offsets = j_alloc(r, t->chars + 1, sizeof(*offsets));
    j_builder b = {0};
    size_t at = 0;
    for (size_t i = 0; offsets && i < t->chars; i++) {
        uint32_t code;
        offsets[i] = at;
        at += j_decode(t->data + at, &code);
    }
    if (offsets) offsets[t->chars] = at;
    for (int64_t i = 0; offsets && i < c->count && !r->failed; i++) {
        const size_t *o = offsets + c->start + i * c->step;
        j_put(r, &b, t->data + o[0], o[1] - o[0]);
    }
    return j_mark_safe(r, j_finish(r, &b), t->safe);
}

static j_value slice_range(j_run *r, const j_range *range, const cut *c) {
    j_range *part = j_alloc(r, 1, sizeof(*part));
    if (!part) return j_none();
    /* the items lie within the range, what is computed behind the last one may not */
    const uint64_t step = (uint64_t)range->step * (uint64_t)c->step;
    const uint64_t start = (uint64_t)range->start + (uint64_t)c->start * (uint64_t)range->step;
    const uint64_t stop = start + (uint64_t)c->count * step;
    *part = (j_range){(int64_t)start, (int64_t)stop, (int64_t)step, c->count};
    return (j_value){.kind = J_RANGE, .as.range = part};
}

static j_value slice(j_run *r, j_value of, const j_slice *s) {
    int64_t n;
    cut c;
    const bool can = j_is_sequence(of) || of.kind == J_TEXT || of.kind == J_RANGE;
    if (!can || !j_length(r, of, &n)) return j_fail(r, "'%s' has no slices", j_type_name(of));
    if (!cut_of(r, s, n, &c)) return j_none();
    if (of.kind == J_TEXT) return slice_text(r, of.as.text, &c);
    return of.kind == J_RANGE ? slice_range(r, of.as.range, &c) : slice_list(r, of, &c);
}

/* ---- items */

static j_value at_index(j_run *r, j_value of, int64_t i) {
    int64_t n;
    if (!j_length(r, of, &n)) return j_missing();
    if (i < 0) i += n;
    if (i < 0 || i >= n) return j_missing();
    if (of.kind == J_RANGE) return j_int(of.as.range->start + i * of.as.range->step);
    if (j_is_sequence(of)) return of.as.list->items[i];
    const j_text *t = of.as.text;
    if (!j_step(r, t->chars == t->size ? 0 : t->size)) return j_none();
    const size_t from = j_offset(t, (size_t)i);
    uint32_t c;
    return j_part_of(r, t, from, from + j_decode(t->data + from, &c));
}

static bool is_hashable(j_run *r, j_value v) {
    if (v.kind == J_LIST || v.kind == J_DICT || v.kind == J_SLICE) return false;
    if (v.kind != J_TUPLE || !j_enter(r)) return true;
    bool all = true;
    for (int i = 0; i < v.as.list->n; i++) all &= is_hashable(r, v.as.list->items[i]);
    j_leave(r);
    return all;
}

/* of[key] in Python; missing where that raises. */
static j_value own_item(j_run *r, j_value of, j_value key) {
    if (key.kind == J_SLICE) return slice(r, of, key.as.slice);
    if (of.kind == J_DICT) {
        if (!is_hashable(r, key) || r->failed) return j_missing();
        const j_value *v = j_dict_get(r, of.as.dict, key);
        return v ? *v : j_missing();
    }
    const bool indexed = j_is_sequence(of) || of.kind == J_TEXT || of.kind == J_RANGE;
    if (!indexed || (key.kind != J_INT && key.kind != J_BOOL)) return j_missing();
    return at_index(r, of, key.kind == J_INT ? key.as.integer : key.as.truth);
}

j_value j_item(j_run *r, j_value of, j_value key) {
    if (!j_step(r, 0)) return j_none();
    if (of.kind == J_UNDEFINED) return j_fail_undefined(r, of);
    const j_value own = own_item(r, of, key);
    if (own.kind != J_MISSING || r->failed) return own;
    if (key.kind != J_TEXT) return j_undefined_name(r, owner_name(of), NULL);
    const j_value attribute = own_attribute(r, of, key.as.text);
    if (attribute.kind != J_MISSING) return attribute;
    return j_undefined_name(r, owner_name(of), key.as.text);
}

/* ---- paths */

/* "a.b.0" step by step; items first, as for of[key].  Digits are indices. */
j_value j_lookup_path(j_run *r, j_value item, j_value path, j_value otherwise) {
    const bool fall_back = otherwise.kind != J_MISSING && otherwise.kind != J_NONE;
    if (path.kind == J_NONE || path.kind == J_MISSING) return item;
    if (path.kind != J_TEXT) {
        item = j_item(r, item, path);
        return fall_back && item.kind == J_UNDEFINED ? otherwise : item;
    }
    const j_text *t = path.as.text;
    for (size_t at = 0; at <= t->size && !r->failed;) {
        size_t end = at;
        bool digits = true;
        for (; end < t->size && t->data[end] != '.'; end++) {
            digits &= t->data[end] >= '0' && t->data[end] <= '9';
        }
        j_value part = j_part_of(r, t, at, end);
        int64_t index;
        if (r->failed) break;
        if (digits && end > at && j_read_int(part.as.text, 10, &index)) part = j_int(index);
        item = j_item(r, item, part);
        if (fall_back && item.kind == J_UNDEFINED) item = otherwise;
        at = end + 1;
    }
    return item;
}
