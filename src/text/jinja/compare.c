/* compare.c - what Python's operators ask of two values: ==, <, in, len() and truth.
 *
 * Numbers of all kinds compare with each other; text compares by code points, which in UTF-8 is the
 * order of bytes; lists and tuples item by item; dicts by content; everything else is equal to
 * itself only.  Where Python raises TypeError these fail with its words.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/value.h"

#include "text/jinja/run.h"

#include <string.h>

bool j_is_number(j_value v) {
    return v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT;
}

bool j_is_sequence(j_value v) {
    return v.kind == J_LIST || v.kind == J_TUPLE;
}

/* A bool or an int as an integer. */
static int64_t whole(j_value v) {
    return v.kind == J_BOOL ? v.as.truth : v.as.integer;
}

double j_as_float(j_value v) {
    return v.kind == J_FLOAT ? v.as.real : (double)whole(v);
}

const char *j_type_name(j_value v) {
    static const char *const names[] = {
        [J_MISSING] = "missing",
        [J_UNDEFINED] = "Undefined",
        [J_NONE] = "NoneType",
        [J_BOOL] = "bool",
        [J_INT] = "int",
        [J_FLOAT] = "float",
        [J_TEXT] = "str",
        [J_LIST] = "list",
        [J_TUPLE] = "tuple",
        [J_DICT] = "dict",
        [J_VIEW] = "dict_keys",
        [J_RANGE] = "range",
        [J_ITER] = "generator",
        [J_SLICE] = "slice",
        [J_NAMESPACE] = "Namespace",
        [J_LOOP] = "LoopContext",
        [J_MACRO] = "Macro",
        [J_METHOD] = "builtin_function_or_method",
        [J_FUNCTION] = "function",
        [J_CYCLER] = "Cycler",
        [J_JOINER] = "Joiner",
    };
    if (v.kind == J_TEXT && v.as.text->safe) return "Markup";
    if (v.kind == J_ITER) return v.as.iter->type;
    if (v.kind == J_VIEW && v.as.view->part != J_KEYS) {
        return v.as.view->part == J_VALUES ? "dict_values" : "dict_items";
    }
    return names[v.kind];
}

bool j_length(j_run *r, j_value v, int64_t *length) {
    switch ((int)v.kind) {
    case J_UNDEFINED: *length = 0; return true;
    case J_TEXT: *length = (int64_t)v.as.text->chars; return true;
    case J_LIST:
    case J_TUPLE: *length = v.as.list->n; return true;
    case J_DICT: *length = v.as.dict->n; return true;
    case J_VIEW: *length = v.as.view->dict->n; return true;
    case J_RANGE: *length = v.as.range->n; return true;
    case J_LOOP: *length = j_loop_length(r, v.as.loop); return true;
    default: return false;
    }
}

bool j_truth(j_run *r, j_value v) {
    int64_t length;
    switch ((int)v.kind) {
    case J_MISSING:
    case J_NONE: return false;
    case J_BOOL: return v.as.truth;
    case J_INT: return v.as.integer != 0;
    case J_FLOAT: return v.as.real != 0;
    default: return j_length(r, v, &length) ? length != 0 : true;
    }
}

/* ---- equality */

static bool same_text(const j_text *a, const j_text *b) {
    return a == b || (a->size == b->size && memcmp(a->data, b->data, a->size) == 0);
}

bool j_same(j_value a, j_value b) {
    if (a.kind != b.kind) return false;
    switch ((int)a.kind) {
    case J_UNDEFINED:
    case J_NONE: return true;
    case J_BOOL: return a.as.truth == b.as.truth;
    case J_INT: return a.as.integer == b.as.integer;
    case J_FLOAT: return a.as.real == b.as.real;
    default: return a.as.list == b.as.list; /* any pointer */
    }
}

static bool equal_lists(j_run *r, const j_list *a, const j_list *b) {
    if (a->n != b->n) return false;
    for (int i = 0; i < a->n; i++) {
        if (!j_equal(r, a->items[i], b->items[i])) return false;
    }
    return true;
}

static bool equal_dicts(j_run *r, const j_dict *a, const j_dict *b) {
    if (a->n != b->n) return false;
    for (int i = 0; i < a->n; i++) {
        const j_value *other = j_dict_get(r, b, a->entries[i].key);
        if (!other || !j_equal(r, a->entries[i].value, *other)) return false;
    }
    return true;
}

static bool equal_ranges(const j_range *a, const j_range *b) {
    if (a->n != b->n) return false;
    return a->n == 0 || (a->start == b->start && (a->n == 1 || a->step == b->step));
}

bool j_equal(j_run *r, j_value a, j_value b) {
    if (j_is_number(a) && j_is_number(b)) {
        if (a.kind == J_FLOAT || b.kind == J_FLOAT) return j_as_float(a) == j_as_float(b);
        return whole(a) == whole(b);
    }
    if (a.kind != b.kind) return false;
    if (a.kind == J_TEXT) return j_step(r, a.as.text->size / 8) && same_text(a.as.text, b.as.text);
    if (!j_is_sequence(a) && a.kind != J_DICT && a.kind != J_RANGE) return j_same(a, b);
    if (a.as.list == b.as.list) return true;
    if (!j_step(r, 0) || !j_enter(r)) return false;
    const bool equal = a.kind == J_DICT    ? equal_dicts(r, a.as.dict, b.as.dict)
                       : a.kind == J_RANGE ? equal_ranges(a.as.range, b.as.range)
                                           : equal_lists(r, a.as.list, b.as.list);
    j_leave(r);
    return equal;
}

/* ---- order */

static bool less_lists(j_run *r, const j_list *a, const j_list *b) {
    for (int i = 0; i < a->n && i < b->n; i++) {
        if (j_equal(r, a->items[i], b->items[i])) continue;
        return j_less(r, a->items[i], b->items[i]);
    }
    return a->n < b->n;
}

bool j_less(j_run *r, j_value a, j_value b) {
    if (!j_step(r, 0)) return false;
    if (j_is_number(a) && j_is_number(b)) {
        if (a.kind == J_FLOAT || b.kind == J_FLOAT) return j_as_float(a) < j_as_float(b);
        return whole(a) < whole(b);
    }
    if (a.kind == J_TEXT && b.kind == J_TEXT) return j_text_compare(a.as.text, b.as.text) < 0;
    if (a.kind == b.kind && j_is_sequence(a)) {
        if (!j_enter(r)) return false;
        const bool less = less_lists(r, a.as.list, b.as.list);
        j_leave(r);
        return less;
    }
    if (a.kind == J_UNDEFINED) return j_fail_undefined(r, a), false;
    if (b.kind == J_UNDEFINED) return j_fail_undefined(r, b), false;
    j_fail(r, "'<' not supported between instances of '%s' and '%s'", j_type_name(a),
           j_type_name(b));
    return false;
}

/* ---- membership */

static bool range_contains(const j_range *range, j_value what) {
    if (!j_is_number(what)) return false;
    int64_t i;
    if (what.kind == J_FLOAT) {
        if (!j_int_of_float(what.as.real, &i) || (double)i != what.as.real) return false;
    } else {
        i = whole(what);
    }
    if (range->n == 0 || (range->step > 0 ? i < range->start : i > range->start)) return false;
    /* the distance fits unsigned, whichever way the range runs */
    const uint64_t far = range->step > 0 ? (uint64_t)i - (uint64_t)range->start
                                         : (uint64_t)range->start - (uint64_t)i;
    const uint64_t step = range->step > 0 ? (uint64_t)range->step : 0 - (uint64_t)range->step;
    return far % step == 0 && far / step < (uint64_t)range->n;
}

/* Walks whatever can be iterated; a generator is used up to the item found. */
static bool found_in(j_run *r, j_value in, j_value what) {
    j_iter *it = j_iter_new(r, in);
    for (j_value item; it && j_next(r, it, &item);) {
        if (j_same(item, what) || j_equal(r, item, what)) return true;
    }
    return false;
}

bool j_contains(j_run *r, j_value in, j_value what) {
    if (in.kind == J_TEXT) {
        if (what.kind != J_TEXT) {
            j_fail(r, "'in <string>' requires string as left operand, not %s", j_type_name(what));
            return false;
        }
        const j_text *t = in.as.text, *w = what.as.text;
        return j_step(r, t->size) && j_find(t->data, t->size, w->data, w->size) != SIZE_MAX;
    }
    if (in.kind == J_DICT) return j_dict_get(r, in.as.dict, what) != NULL;
    if (in.kind == J_VIEW && in.as.view->part == J_KEYS) {
        return j_dict_get(r, in.as.view->dict, what) != NULL;
    }
    if (in.kind == J_RANGE) return range_contains(in.as.range, what);
    if (j_iterable(in)) return found_in(r, in, what);
    j_fail(r, "argument of type '%s' is not iterable", j_type_name(in));
    return false;
}
