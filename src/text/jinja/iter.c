/* iter.c - walking over values, one item at a time.
 *
 * Everything that can be iterated becomes a j_iter with a next function.  Generators (map, select
 * and their kin, in lazy.c) are j_iters too, and values: they make each item when it is asked
 * for, because a template can tell the difference.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/value.h"

#include "text/jinja/run.h"

static bool next_of_list(j_run *r, j_iter *it, j_value *item) {
    (void)r;
    const j_list *l = it->over.as.list;
    if (it->at >= l->n) return false;
    *item = l->items[it->at++];
    return true;
}

/* at is the byte offset; each item is one code point, and plain text even out of safe text */
static bool next_of_text(j_run *r, j_iter *it, j_value *item) {
    const j_text *t = it->over.as.text;
    if ((size_t)it->at >= t->size) return false;
    uint32_t c;
    const size_t n = j_decode(t->data + it->at, &c);
    *item = j_mark_safe(r, j_part_of(r, t, (size_t)it->at, (size_t)it->at + n), false);
    it->at += (int64_t)n;
    return !r->failed;
}

static bool next_of_dict(j_run *r, j_iter *it, j_value *item) {
    (void)r;
    const j_dict *d = it->over.as.dict;
    if (it->at >= d->n) return false;
    *item = d->entries[it->at++].key;
    return true;
}

static bool next_of_view(j_run *r, j_iter *it, j_value *item) {
    const j_view *v = it->over.as.view;
    if (it->at >= v->dict->n) return false;
    *item = j_view_at(r, v, (int)it->at++);
    return !r->failed;
}

static bool next_of_range(j_run *r, j_iter *it, j_value *item) {
    (void)r;
    const j_range *range = it->over.as.range;
    if (it->at >= range->n) return false;
    *item = j_int(range->start + it->at++ * range->step);
    return true;
}

static bool next_of_nothing(j_run *r, j_iter *it, j_value *item) {
    (void)r, (void)it, (void)item;
    return false;
}

static bool next_of_loop(j_run *r, j_iter *it, j_value *item) {
    if (!j_loop_next(r, it->over.as.loop, item)) return false;
    *item = j_pair(r, *item, it->over); /* LoopContext yields (item, loop) */
    return !r->failed;
}

bool j_iterable(j_value v) {
    switch ((int)v.kind) {
    case J_UNDEFINED:
    case J_TEXT:
    case J_LIST:
    case J_TUPLE:
    case J_DICT:
    case J_VIEW:
    case J_RANGE:
    case J_ITER:
    case J_LOOP: return true;
    default: return false;
    }
}

j_iter *j_iter_new(j_run *r, j_value over) {
    if (over.kind == J_ITER) return over.as.iter;
    if (!j_iterable(over)) {
        j_fail(r, "'%s' object is not iterable", j_type_name(over));
        return NULL;
    }
    j_iter *it = j_alloc(r, 1, sizeof(*it));
    if (!it) return NULL;
    it->over = over;
    it->type = "iterator";
    switch ((int)over.kind) {
    case J_TEXT: it->next = next_of_text; break;
    case J_LIST:
    case J_TUPLE: it->next = next_of_list; break;
    case J_DICT: it->next = next_of_dict; break;
    case J_VIEW: it->next = next_of_view; break;
    case J_RANGE: it->next = next_of_range; break;
    case J_LOOP: it->next = next_of_loop; break;
    default: it->next = next_of_nothing; break;
    }
    return it;
}

/* Generators call the iterators they draw from, so depth is counted here. */
bool j_next(j_run *r, j_iter *it, j_value *item) {
    if (!j_step(r, 0) || !j_enter(r)) return false;
    const bool more = it->next(r, it, item);
    j_leave(r);
    return more && !r->failed;
}

j_value j_iter_value(j_iter *it) {
    return it ? (j_value){.kind = J_ITER, .as.iter = it} : (j_value){.kind = J_UNDEFINED};
}

j_list *j_collect(j_run *r, j_value over) {
    j_iter *it = j_iter_new(r, over);
    if (!it) return NULL;
    j_list *l = j_list_new(r, 0);
    for (j_value item; j_next(r, it, &item);) {
        if (!j_push(r, l, item)) return NULL;
    }
    return r->failed ? NULL : l;
}
