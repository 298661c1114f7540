/* methods.c - methods of dicts, lists and tuples that do not change them.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

static j_value get(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const j_value *v = j_dict_get(r, self.as.dict, a[0]);
    if (v) return *v;
    return a[1].kind == J_MISSING ? j_none() : a[1];
}

static j_value view(j_run *r, j_value self, j_part part) {
    j_view *v = j_alloc(r, 1, sizeof(*v));
    if (v) *v = (j_view){self.as.dict, part};
    return (j_value){.kind = J_VIEW, .as.view = v};
}

static j_value keys(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    return view(r, self, J_KEYS);
}

static j_value values(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    return view(r, self, J_VALUES);
}

static j_value items(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    return view(r, self, J_ITEMS);
}

static j_value copy_dict(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    return j_dict_value(j_dict_copy(r, self.as.dict));
}

static j_value count(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    int64_t n = 0;
    for (int i = 0; i < self.as.list->n && j_step(r, 0); i++) {
        n += j_equal(r, self.as.list->items[i], a[0]);
    }
    return j_int(n);
}

/* Counted from the end when negative; never before the start. */
static int64_t place(j_run *r, j_value v, int64_t n, int64_t otherwise) {
    const int64_t at = j_arg_int(r, v, otherwise);
    return at >= 0 ? at : at < -n ? 0 : at + n;
}

static j_value find_index(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)all;
    const int64_t n = self.as.list->n, end = MIN_OF(place(r, a[2], n, n), n);
    for (int64_t i = place(r, a[1], n, 0); i < end && j_step(r, 0); i++) {
        if (j_equal(r, self.as.list->items[i], a[0])) return j_int(i);
    }
    return j_fail(r, "the item is not in the list");
}

static j_value copy_list(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a, (void)all;
    return j_list_value(j_collect(r, self));
}

const j_function j_methods_dict[] = {
    {"copy", copy_dict, "", 0}, {"get", get, "/key default", 1}, {"items", items, "", 0},
    {"keys", keys, "", 0},      {"values", values, "", 0},       {0},
};

const j_function j_methods_list[] = {
    {"copy", copy_list, "", 0},
    {"count", count, "/value", 1},
    {"index", find_index, "/value start stop", 1},
    {0},
};

const j_function j_methods_tuple[] = {
    {"count", count, "/value", 1},
    {"index", find_index, "/value start stop", 1},
    {0},
};
