/* lazy.c - filters that are generators: map, select and its kin, unique, batch, slice.
 *
 * Each is a j_iter that draws from another one and works only when asked for an item, because a
 * template can tell: an error in the middle comes after the items before it, and each item comes
 * out once.
 *
 *     source --j_next--> item --function, test or path--> item or nothing
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

#include <string.h>

typedef struct lazy {
    const j_function *function; /* a filter or a test; NULL: none */
    j_args args;                /* of it */
    j_value path, otherwise;    /* missing: none */
    bool wanted;                /* select (true) or reject (false) */
    j_dict *seen;               /* of unique */
    bool exact;
    int64_t count; /* of batch and slice */
} lazy;

static j_value generator(j_run *r, j_value over, lazy how,
                         bool (*next)(j_run *, j_iter *, j_value *)) {
    j_iter *source = j_iter_new(r, over), *it = j_alloc(r, 1, sizeof(*it));
    lazy *state = j_alloc(r, 1, sizeof(*state));
    if (!source || !it || !state) return j_none();
    *state = how;
    *it = (j_iter){.next = next, .source = source, .more = state, .type = "generator"};
    return j_iter_value(it);
}

/* `if value:` stands in front of map and select: what is false has no items, whatever is asked. */
static j_value nothing(j_run *r) {
    j_iter *it = j_iter_new(r, j_list_value(j_list_new(r, 0)));
    if (it) it->type = "generator";
    return j_iter_value(it);
}

static j_args args_from(const j_args *all, int skip) {
    if (skip >= all->n) return (j_args){NULL, 0, all->named};
    return (j_args){all->items + skip, all->n - skip, all->named};
}

static j_value named(const j_args *all, const char *name) {
    const j_text key = {.data = name, .size = strlen(name), .chars = strlen(name)};
    const j_value *v = all->named ? j_dict_find(all->named, &key) : NULL;
    return v ? *v : j_missing();
}

/* ---- map */

static bool next_of_map(j_run *r, j_iter *it, j_value *item) {
    const lazy *how = it->more;
    if (!j_next(r, it->source, item)) return false;
    if (how->function) {
        *item = j_apply(r, how->function, *item, &how->args);
    } else {
        *item = j_lookup_path(r, *item, how->path, how->otherwise);
    }
    return !r->failed;
}

static const j_function *named_function(j_run *r, j_value name, bool test) {
    const j_text *t = j_arg_text(r, name, NULL);
    const j_function *f = !t ? NULL : test ? j_find_test(t) : j_find_filter(t);
    if (t && !f) {
        j_fail(r, "no %s named '%.*s'", test ? "test" : "filter", (int)MIN_OF(t->size, (size_t)60),
               t->data);
    }
    return f;
}

static j_value map(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a;
    lazy how = {.path = j_missing(), .otherwise = j_missing()};
    if (!j_truth(r, self)) return nothing(r);
    if (all->n) {
        how.function = named_function(r, all->items[0], false);
        how.args = args_from(all, 1);
    } else {
        how.path = named(all, "attribute");
        how.otherwise = named(all, "default");
        const int known = (how.path.kind != J_MISSING) + (how.otherwise.kind != J_MISSING);
        if (how.path.kind == J_MISSING) return j_fail(r, "map requires a filter argument");
        if (all->named->n > known) return j_fail(r, "map got an unexpected keyword argument");
    }
    return r->failed ? j_none() : generator(r, self, how, next_of_map);
}

/* ---- select, reject, selectattr, rejectattr */

static bool next_of_select(j_run *r, j_iter *it, j_value *item) {
    const lazy *how = it->more;
    while (j_next(r, it->source, item)) {
        j_value v = j_lookup_path(r, *item, how->path, j_missing());
        if (how->function) v = j_apply(r, how->function, v, &how->args);
        if (j_truth(r, v) == how->wanted) return !r->failed;
    }
    return false;
}

static j_value choose(j_run *r, j_value self, const j_args *all, bool by_path, bool wanted) {
    lazy how = {.path = j_missing(), .wanted = wanted};
    if (!j_truth(r, self)) return nothing(r);
    if (by_path) {
        if (all->n == 0) return j_fail(r, "Missing parameter for attribute name");
        how.path = all->items[0];
    }
    if (all->n > by_path) how.function = named_function(r, all->items[by_path], true);
    how.args = args_from(all, by_path + 1);
    return r->failed ? j_none() : generator(r, self, how, next_of_select);
}

static j_value select_items(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a;
    return choose(r, self, all, false, true);
}

static j_value reject_items(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a;
    return choose(r, self, all, false, false);
}

static j_value selectattr(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a;
    return choose(r, self, all, true, true);
}

static j_value rejectattr(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a;
    return choose(r, self, all, true, false);
}

/* ---- unique, batch, slice */

static bool next_of_unique(j_run *r, j_iter *it, j_value *item) {
    const lazy *how = it->more;
    while (j_next(r, it->source, item)) {
        j_value key = j_lookup_path(r, *item, how->path, j_missing());
        if (!how->exact) key = j_ignore_case(r, key);
        if (j_dict_get(r, how->seen, key)) continue;
        return j_dict_set(r, how->seen, key, j_none());
    }
    return false;
}

static j_value unique(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const bool exact = j_arg_truth(r, a[0], false);
    const lazy how = {.path = a[1], .exact = exact, .seen = j_dict_new(r, 0)};
    return r->failed ? j_none() : generator(r, self, how, next_of_unique);
}

static bool next_of_batch(j_run *r, j_iter *it, j_value *item) {
    const lazy *how = it->more;
    j_list *l = j_list_new(r, 0);
    j_value one;
    while (l && l->n < how->count && j_next(r, it->source, &one)) j_push(r, l, one);
    if (!l || l->n == 0 || r->failed) return false;
    const bool fill = how->otherwise.kind != J_MISSING && how->otherwise.kind != J_NONE;
    while (fill && l->n < how->count && j_step(r, 0)) j_push(r, l, how->otherwise);
    *item = j_list_value(l);
    return !r->failed;
}

static j_value batch(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const lazy how = {.count = j_arg_int(r, a[0], 0), .otherwise = a[1]};
    if (!r->failed && how.count < 1) return j_fail(r, "batch: the size must be 1 or more");
    return r->failed ? j_none() : generator(r, self, how, next_of_batch);
}

/* n items in `slices` columns, the first ones longer by one where it does not divide; the others
 * are filled up whether it does or not. */
static j_value slice(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const int64_t slices = j_arg_int(r, a[0], 0);
    const j_list *l = j_collect(r, self);
    if (!l) return j_none();
    if (slices < 1 || slices > MAX_RANGE) return j_fail(r, "slice: the count must be 1 or more");
    const int64_t each = l->n / slices, longer = l->n % slices;
    const bool fill = a[1].kind != J_MISSING && a[1].kind != J_NONE;
    j_list *columns = j_list_new(r, 0);
    int64_t at = 0;
    for (int64_t i = 0; i < slices && j_step(r, 0); i++) {
        j_list *column = j_list_new(r, 0);
        const int64_t end = at + each + (i < longer);
        while (at < end && j_push(r, column, l->items[at])) at++;
        if (fill && i >= longer) j_push(r, column, a[1]);
        j_push(r, columns, j_list_value(column));
    }
    j_iter *it = r->failed ? NULL : j_iter_new(r, j_list_value(columns));
    if (it) it->type = "generator";
    return j_iter_value(it);
}

const j_function j_filters_lazy[] = {
    {"batch", batch, "linecount fill_with", 1},
    {"map", map, "*", 0},
    {"reject", reject_items, "*", 0},
    {"rejectattr", rejectattr, "*", 0},
    {"select", select_items, "*", 0},
    {"selectattr", selectattr, "*", 0},
    {"slice", slice, "slices fill_with", 1},
    {"unique", unique, "case_sensitive attribute", 0},
    {0},
};
