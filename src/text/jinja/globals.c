/* globals.c - the functions every template knows: jinja2's and those transformers adds.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L /* localtime_r */

#include "text/jinja/run.h"

#include <string.h>
#include <time.h>

static j_value range(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)self;
    const int64_t start = all->n > 1 ? j_arg_int(r, a[0], 0) : 0;
    const int64_t stop = j_arg_int(r, a[all->n > 1], 0), step = j_arg_int(r, a[2], 1);
    if (r->failed) return j_none();
    if (step == 0) return j_fail(r, "range() arg 3 must not be zero");
    /* the distance in unsigned numbers, which cannot overflow */
    const bool any = step > 0 ? start < stop : start > stop;
    const uint64_t far =
        step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    const uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    const uint64_t n = any ? (far - 1) / stride + 1 : 0;
    if (n > MAX_RANGE) {
        return j_fail(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                      MAX_RANGE);
    }
    j_range *v = j_alloc(r, 1, sizeof(*v));
    if (v) *v = (j_range){start, stop, step, (int64_t)n};
    return (j_value){.kind = J_RANGE, .as.range = v};
}

static void add_pair(j_run *r, j_dict *d, j_value item) {
    const j_list *pair = j_collect(r, item);
    if (!pair) return;
    if (pair->n != 2) {
        j_fail(r, "a dict is made of pairs, and one has %d items", pair->n);
        return;
    }
    j_dict_set(r, d, pair->items[0], pair->items[1]);
}

/* dict(mapping or pairs, name=value, ...) */
static j_dict *make_dict(j_run *r, const j_args *all) {
    if (all->n > 1) j_fail(r, "dict expected at most 1 argument, got %d", all->n);
    j_dict *d = j_dict_new(r, 0);
    if (all->n == 1 && (all->items[0].kind == J_DICT || all->items[0].kind == J_NAMESPACE)) {
        if (all->items[0].kind == J_NAMESPACE)
            j_fail(r, "'Namespace' object is not iterable");
        else
            d = j_dict_copy(r, all->items[0].as.dict);
    } else if (all->n == 1) {
        j_iter *it = j_iter_new(r, all->items[0]);
        for (j_value item; it && j_next(r, it, &item);) add_pair(r, d, item);
    }
    for (int i = 0; all->named && i < all->named->n; i++) {
        j_dict_set(r, d, all->named->entries[i].key, all->named->entries[i].value);
    }
    return r->failed ? NULL : d;
}

static j_value dict(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)self, (void)a;
    return j_dict_value(make_dict(r, all));
}

static j_value namespace(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)self, (void)a;
    j_dict *d = make_dict(r, all);
    return d ? (j_value){.kind = J_NAMESPACE, .as.dict = d} : j_none();
}

static j_value cycler(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)self, (void)a;
    if (all->n == 0) return j_fail(r, "at least one item has to be provided");
    j_list *items = j_list_new(r, all->n);
    for (int i = 0; i < all->n; i++) j_push(r, items, all->items[i]);
    j_cycler *c = j_alloc(r, 1, sizeof(*c));
    if (c) c->items = items;
    return (j_value){.kind = J_CYCLER, .as.cycler = c};
}

static j_value cycler_next(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)r, (void)a, (void)all;
    j_cycler *c = self.as.cycler;
    const j_value v = c->items->items[c->at];
    c->at = (c->at + 1) % c->items->n;
    return v;
}

static j_value cycler_reset(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)r, (void)a, (void)all;
    self.as.cycler->at = 0;
    return j_none();
}

static j_value joiner(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)self, (void)all;
    j_joiner *j = j_alloc(r, 1, sizeof(*j));
    if (j) j->separator = a[0].kind == J_MISSING ? j_text_literal(r, ", ") : a[0];
    return (j_value){.kind = J_JOINER, .as.joiner = j};
}

static j_value lipsum(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)self, (void)a, (void)all;
    return j_fail(r, "the function lipsum is not supported");
}

/* ---- what transformers adds */

static j_value raise_exception(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)self, (void)all;
    j_builder b = {0};
    j_put_str(r, &b, a[0]);
    const int size = (int)MIN_OF(b.size, (size_t)200);
    return j_fail(r, "%.*s", size, b.data ? b.data : "");
}

static j_value strftime_now(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)self, (void)all;
    const j_text *format = j_arg_text(r, a[0], NULL);
    if (!format) return j_none();
    if (format->size > 256) return j_fail(r, "strftime_now: the format is too long");
    /* a byte in front tells an empty result from one that does not fit */
    char pattern[260] = "|", text[4096];
    if (format->size) memcpy(pattern + 1, format->data, format->size);
    pattern[1 + format->size] = 0;
    const time_t now = (time_t)r->now;
    struct tm local;
    if (!localtime_r(&now, &local)) return j_fail(r, "strftime_now: no such time");
#if defined(__GNUC__)
    #pragma GCC diagnostic push
    #pragma GCC diagnostic ignored "-Wformat-nonliteral"
#endif
    const size_t size = strftime(text, sizeof(text), pattern, &local);
#if defined(__GNUC__)
    #pragma GCC diagnostic pop
#endif
    if (size == 0) return j_fail(r, "strftime_now: the result is too long");
    return j_text_copy(r, text + 1, size - 1);
}

const j_function j_methods_cycler[] = {
    {"next", cycler_next, "", 0},
    {"reset", cycler_reset, "", 0},
    {0},
};

const j_function j_globals[] = {
    {"cycler", cycler, "*", 0},
    {"dict", dict, "*", 0},
    {"joiner", joiner, "sep", 0},
    {"lipsum", lipsum, "*", 0},
    {"namespace", namespace, "*", 0},
    {"raise_exception", raise_exception, "message", 1},
    {"range", range, "/start stop step", 1},
    {"strftime_now", strftime_now, "format", 1},
    {0},
};
