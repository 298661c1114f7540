/* loop.c - for loops, and the `loop` object a body sees.
 *
 *     over --(filter: for x in y if z)--> items --one ahead when asked--> before, current, after
 *
 * Items come out lazily, as in jinja2: loop.last and loop.nextitem fetch one ahead, loop.length
 * takes all that is left when the iterable has no length of its own.
 *
 * The else branch runs unless some iteration reached its end: jinja2 marks a loop as used behind
 * the body, so a loop that left every iteration by continue or break still runs its else.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

struct j_loop {
    const j_node *node;
    j_scope *outer; /* the scope the loop stands in */
    j_value over;
    j_iter *items;
    int64_t index, length; /* from 0, -1 before the first; -1: not known yet */
    int depth;
    j_value before, current, after; /* missing where there is none */
    j_value changed;                /* what loop.changed() was last given */
};

/* ---- items */

typedef struct sieve { /* for x in y if z: z is asked in a scope of its own */
    const j_node *node;
    j_scope *outer;
} sieve;

static bool next_of_sieve(j_run *r, j_iter *it, j_value *item) {
    const sieve *f = it->more;
    j_scope *s = j_scope_new(r, f->outer);
    while (s && j_next(r, it->source, item)) {
        j_assign(r, s, f->node->a, *item);
        const bool wanted = j_truth(r, j_eval(r, s, f->node->c));
        j_scope_clear(r, s);
        if (wanted) return !r->failed;
    }
    return false;
}

static j_iter *sieve_new(j_run *r, j_iter *source, const j_node *n, j_scope *outer) {
    j_iter *it = j_alloc(r, 1, sizeof(*it));
    sieve *f = j_alloc(r, 1, sizeof(*f));
    if (!it || !f) return NULL;
    *f = (sieve){n, outer};
    *it = (j_iter){.next = next_of_sieve, .source = source, .more = f, .type = "generator"};
    return it;
}

static j_loop *loop_new(j_run *r, const j_node *n, j_scope *outer, j_value over, int depth) {
    j_loop *l = j_alloc(r, 1, sizeof(*l));
    if (!l) return NULL;
    *l = (j_loop){.node = n, .outer = outer, .over = over, .index = -1, .length = -1};
    l->depth = depth;
    l->before = l->current = l->after = l->changed = j_missing();
    l->items = j_iter_new(r, over);
    if (l->items && n->c) {
        l->items = sieve_new(r, l->items, n, outer);
        l->over = j_iter_value(l->items); /* without a length */
    }
    return l->items ? l : NULL;
}

bool j_loop_next(j_run *r, j_loop *l, j_value *item) {
    if (l->after.kind != J_MISSING) {
        *item = l->after;
        l->after = j_missing();
    } else if (!j_next(r, l->items, item)) {
        return false;
    }
    l->index++;
    l->before = l->current;
    l->current = *item;
    return true;
}

static j_value peek(j_run *r, j_loop *l) {
    j_value item;
    if (l->after.kind == J_MISSING && j_next(r, l->items, &item)) l->after = item;
    return l->after;
}

int64_t j_loop_index(const j_loop *l) {
    return l->index;
}

int64_t j_loop_length(j_run *r, j_loop *l) {
    if (l->length >= 0 || j_length(r, l->over, &l->length)) return l->length;
    j_list *rest = j_list_new(r, 0);
    for (j_value item; j_next(r, l->items, &item);) j_push(r, rest, item);
    j_iter *it = r->failed ? NULL : j_iter_new(r, j_list_value(rest));
    if (!it) return 0;
    l->items = it;
    l->length = rest->n + l->index + 1 + (l->after.kind != J_MISSING);
    return l->length;
}

j_value j_loop_attribute(j_run *r, j_loop *l, const j_text *name) {
    if (j_text_is(name, "index")) return j_int(l->index + 1);
    if (j_text_is(name, "index0")) return j_int(l->index);
    if (j_text_is(name, "first")) return j_bool(l->index == 0);
    if (j_text_is(name, "last")) return j_bool(peek(r, l).kind == J_MISSING);
    if (j_text_is(name, "length")) return j_int(j_loop_length(r, l));
    if (j_text_is(name, "revindex")) return j_int(j_loop_length(r, l) - l->index);
    if (j_text_is(name, "revindex0")) return j_int(j_loop_length(r, l) - l->index - 1);
    if (j_text_is(name, "depth")) return j_int(l->depth + 1);
    if (j_text_is(name, "depth0")) return j_int(l->depth);
    if (j_text_is(name, "previtem")) {
        if (l->index == 0) return j_undefined_hint(r, "there is no previous item");
        return l->before;
    }
    if (j_text_is(name, "nextitem")) {
        const j_value next = peek(r, l);
        return next.kind != J_MISSING ? next : j_undefined_hint(r, "there is no next item");
    }
    return j_missing();
}

/* ---- methods */

static j_value cycle(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a;
    if (all->n == 0) return j_fail(r, "no items for cycling given");
    return all->items[self.as.loop->index % all->n];
}

static j_value changed(j_run *r, j_value self, const j_value *a, const j_args *all) {
    (void)a;
    j_list *now = j_list_new(r, all->n);
    for (int i = 0; i < all->n; i++) j_push(r, now, all->items[i]);
    const j_value values = j_tuple_value(now);
    j_value *last = &self.as.loop->changed;
    if (last->kind != J_MISSING && j_equal(r, *last, values)) return j_bool(false);
    *last = values;
    return j_bool(true);
}

const j_function j_methods_loop[] = {
    {"cycle", cycle, "*", 0},
    {"changed", changed, "*", 0},
    {0},
};

/* ---- running */

static j_flow iterate(j_run *r, j_loop *l) {
    static const j_text name = {.data = "loop", .size = 4, .chars = 4};
    const j_node *n = l->node;
    j_scope *s = j_scope_new(r, l->outer);
    bool completed = false;
    for (j_value item; s && j_loop_next(r, l, &item);) {
        j_bind(r, s, &name, (j_value){.kind = J_LOOP, .as.loop = l});
        j_assign(r, s, n->a, item);
        const j_flow flow = j_exec(r, s, n->list);
        /* even when a macro saw it: in jinja2, too, all iterations share their variables */
        j_scope_clear(r, s);
        if (flow == FLOW_BREAK) break;
        completed |= flow == FLOW_ON;
    }
    if (completed || !n->other || r->failed) return FLOW_ON;
    s = j_scope_new(r, l->outer);
    return s ? j_exec(r, s, n->other) : FLOW_ON;
}

j_flow j_loop_run(j_run *r, j_scope *s, const j_node *n) {
    const j_value over = j_eval(r, s, n->b);
    r->line = n->line;
    j_loop *l = r->failed ? NULL : loop_new(r, n, s, over, 0);
    return l ? iterate(r, l) : FLOW_ON;
}

j_value j_loop_recurse(j_run *r, j_loop *outer, j_value over) {
    if (!(outer->node->flags & RECURSIVE)) {
        return j_fail(r, "the loop must have the 'recursive' marker to be called recursively");
    }
    j_loop *l = loop_new(r, outer->node, outer->outer, over, outer->depth + 1);
    if (!l || !j_enter(r)) return j_none();
    j_builder text = {0}, *out = r->out;
    r->out = &text;
    iterate(r, l);
    r->out = out;
    j_leave(r);
    return r->failed ? j_none() : j_finish(r, &text);
}
