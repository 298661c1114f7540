/* filters_sequence.c - filters over lists, dicts and text as sequences.
 *
 * Sorting is a stable merge sort by keys that were looked up once; keys of text are folded to lower
 * case unless the filter is told to be case sensitive.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

#include <string.h>

/* ---- sorting */

j_value j_ignore_case(j_run *r, j_value v) {
    return v.kind == J_TEXT ? j_recase(r, v.as.text, J_LOWER) : v;
}

typedef struct keyed {
    j_value key, item;
} keyed;

/* Merges two sorted runs; an item of the right goes first only when it has to. */
static void merge(j_run *r, keyed *out, const keyed *left, int n, const keyed *right, int m,
                  bool reverse) {
    while (n > 0 && m > 0 && !r->failed) {
        const bool swap =
            reverse ? j_less(r, left->key, right->key) : j_less(r, right->key, left->key);
        if (swap)
            *out++ = *right++, m--;
        else
            *out++ = *left++, n--;
    }
    memcpy(out, left, (size_t)n * sizeof(*out));
    memcpy(out + n, right, (size_t)m * sizeof(*out));
}

void j_sort(j_run *r, j_value *items, j_value *keys, int n, bool reverse) {
    keyed *from = j_alloc(r, (size_t)n + 1, sizeof(*from));
    keyed *to = j_alloc(r, (size_t)n + 1, sizeof(*to));
    if (!from || !to) return;
    for (int i = 0; i < n; i++) from[i] = (keyed){keys[i], items[i]};
    for (int width = 1; width < n && !r->failed; width *= 2) {
        for (int at = 0; at < n; at += 2 * width) {
            const int middle = MIN_OF(at + width, n), end = MIN_OF(at + 2 * width, n);
            merge(r, to + at, from + at, middle - at, from + middle, end - middle, reverse);
        }
        keyed *other = from;
        from = to;
        to = other;
        if (width > n / 2) break;
    }
    for (int i = 0; i < n; i++) {
        keys[i] = from[i].key;
        items[i] = from[i].item;
    }
}

/* "a,b.c": a list of what each path leads to. */
static j_value multi_key(j_run *r, j_value item, j_value paths, bool fold) {
    j_list *keys = j_list_new(r, 0);
    const j_text *t = paths.kind == J_TEXT ? paths.as.text : NULL;
    for (size_t at = 0; !r->failed;) {
        j_value path = paths;
        size_t end = 0;
        if (t) {
            const char *comma = memchr(t->data + at, ',', t->size - at);
            end = comma ? (size_t)(comma - t->data) : t->size;
            path = j_part_of(r, t, at, end);
        }
        const j_value key = j_lookup_path(r, item, path, j_missing());
        j_push(r, keys, fold ? j_ignore_case(r, key) : key);
        at = end + 1;
        if (!t || at > t->size) break;
    }
    return j_list_value(keys);
}

/* Stable; by the items themselves, or by what `attribute` names in them. */
static j_value sort(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const bool reverse = j_arg_truth(r, a[0], false), exact = j_arg_truth(r, a[1], false);
    j_list *l = j_collect(r, self);
    j_value *keys = l ? j_alloc(r, (size_t)l->n, sizeof(*keys)) : NULL;
    for (int i = 0; keys && i < l->n && !r->failed; i++) {
        keys[i] = multi_key(r, l->items[i], a[2], !exact);
    }
    if (keys) j_sort(r, l->items, keys, l->n, reverse);
    return j_list_value(l);
}

/* Pairs of key and value by the key or the value, cases alike unless told otherwise. */
static j_value dictsort(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const bool exact = j_arg_truth(r, a[0], false), reverse = j_arg_truth(r, a[2], false);
    const j_text *by = j_arg_text(r, a[1], "key");
    if (self.kind == J_UNDEFINED) return j_fail_undefined(r, self);
    if (self.kind != J_DICT) return j_fail(r, "'%s' object has no items", j_type_name(self));
    if (r->failed) return j_none();
    const bool by_value = j_text_is(by, "value");
    if (!by_value && !j_text_is(by, "key")) {
        return j_fail(r, "You can only sort by either \"key\" or \"value\"");
    }
    const j_dict *d = self.as.dict;
    j_list *l = j_list_new(r, d->n);
    j_value *keys = j_alloc(r, (size_t)d->n, sizeof(*keys));
    for (int i = 0; keys && i < d->n && !r->failed; i++) {
        j_push(r, l, j_pair(r, d->entries[i].key, d->entries[i].value));
        const j_value key = by_value ? d->entries[i].value : d->entries[i].key;
        keys[i] = exact ? key : j_ignore_case(r, key);
    }
    if (keys && !r->failed) j_sort(r, l->items, keys, d->n, reverse);
    return j_list_value(l);
}

/* ---- the rest */

static j_value count(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    int64_t n;
    if (j_length(r, self, &n)) return j_int(n);
    return j_fail(r, "object of type '%s' has no len()", j_type_name(self));
}

static j_value first(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    j_iter *it = j_iter_new(r, self);
    j_value item;
    if (it && j_next(r, it, &item)) return item;
    return j_undefined_hint(r, "No first item, sequence was empty.");
}

static bool is_reversible(j_value v) {
    return j_iterable(v) && v.kind != J_ITER && v.kind != J_LOOP;
}

static j_value last(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    if (!is_reversible(self)) {
        return j_fail(r, "'%s' object is not reversible", j_type_name(self));
    }
    const j_list *l = j_collect(r, self);
    if (l && l->n) return l->items[l->n - 1];
    return j_undefined_hint(r, "No last item, sequence was empty.");
}

static j_value to_list(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    return j_list_value(j_collect(r, self));
}

static j_value items(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    if (self.kind != J_DICT && self.kind != J_UNDEFINED) {
        return j_fail(r, "Can only get item pairs from a mapping.");
    }
    j_list *pairs = j_list_new(r, 0);
    for (int i = 0; self.kind == J_DICT && i < self.as.dict->n && !r->failed; i++) {
        j_push(r, pairs, j_pair(r, self.as.dict->entries[i].key, self.as.dict->entries[i].value));
    }
    j_iter *it = r->failed ? NULL : j_iter_new(r, j_list_value(pairs));
    if (it) it->type = "generator";
    return j_iter_value(it);
}

static j_value reverse(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    if (self.kind == J_TEXT) {
        const j_slice whole = {j_none(), j_none(), j_int(-1)};
        return j_item(r, self, (j_value){.kind = J_SLICE, .as.slice = &whole});
    }
    if (!j_iterable(self)) return j_fail(r, "argument must be iterable");
    j_list *l = j_collect(r, self);
    for (int i = 0; l && i < l->n / 2; i++) {
        const j_value other = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = other;
    }
    if (!l || !is_reversible(self)) return j_list_value(l);
    j_iter *it = j_iter_new(r, j_list_value(l)); /* Python's reversed(): an iterator */
    if (it) it->type = "reversed";
    return j_iter_value(it);
}

static j_value extreme(j_run *r, j_value self, const j_value *a, bool largest) {
    const bool exact = j_arg_truth(r, a[0], false);
    j_iter *it = j_iter_new(r, self);
    j_value item, best, best_key;
    if (!it || !j_next(r, it, &best)) {
        return j_undefined_hint(r, "No aggregated item, sequence was empty.");
    }
    best_key = j_lookup_path(r, best, a[1], j_missing());
    if (!exact) best_key = j_ignore_case(r, best_key);
    while (j_next(r, it, &item)) {
        j_value key = j_lookup_path(r, item, a[1], j_missing());
        if (!exact) key = j_ignore_case(r, key);
        if (!(largest ? j_less(r, best_key, key) : j_less(r, key, best_key))) continue;
        best = item;
        best_key = key;
    }
    return best;
}

static j_value maximum(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return extreme(r, self, a, true);
}

static j_value minimum(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    return extreme(r, self, a, false);
}

static j_value attr(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const j_value name = j_str(r, a[0]);
    return r->failed ? j_none() : j_get_attribute(r, self, name.as.text);
}

const j_function j_filters_sequence[] = {
    {"attr", attr, "name", 1},
    {"count", count, "", 0},
    {"dictsort", dictsort, "case_sensitive by reverse", 0},
    {"first", first, "", 0},
    {"items", items, "", 0},
    {"last", last, "", 0},
    {"length", count, "", 0},
    {"list", to_list, "", 0},
    {"max", maximum, "case_sensitive attribute", 0},
    {"min", minimum, "case_sensitive attribute", 0},
    {"reverse", reverse, "", 0},
    {"sort", sort, "reverse case_sensitive attribute", 0},
    {0},
};
