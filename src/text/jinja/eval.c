/* eval.c - evaluating expressions, and names.
 *
 * A tree walk.  Every node costs a step and a level of depth.  Names are looked up from the scope
 * they stand in outwards, then among the caller's variables, then among the global functions.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

/* ---- names */

void j_bind(j_run *r, j_scope *s, const j_text *name, j_value value) {
    for (j_binding *b = s->first; b; b = b->next) {
        if (!j_text_equal(b->name, name)) continue;
        b->value = value;
        return;
    }
    j_binding *b = r->spare;
    if (b)
        r->spare = b->next;
    else
        b = j_alloc(r, 1, sizeof(*b));
    if (!b) return;
    *b = (j_binding){name, value, s->first};
    s->first = b;
}

void j_scope_clear(j_run *r, j_scope *s) {
    while (s->first) {
        j_binding *b = s->first;
        s->first = b->next;
        b->next = r->spare;
        r->spare = b;
    }
}

j_value j_resolve_name(j_run *r, const j_scope *s, const j_text *name) {
    for (; s; s = s->parent) {
        for (const j_binding *b = s->first; b; b = b->next) {
            if (!j_text_equal(b->name, name)) continue;
            return b->value.kind == J_MISSING ? j_undefined_name(r, NULL, name) : b->value;
        }
    }
    const j_value *given = j_dict_find(r->context, name);
    if (given) return *given;
    const j_function *global = j_find_global(name);
    if (global) return (j_value){.kind = J_FUNCTION, .as.function = global};
    return j_undefined_name(r, NULL, name);
}

/* ---- arguments */

typedef struct arguments {
    j_list *items;
    j_dict *named;
} arguments;

static void name_argument(j_run *r, arguments *a, j_value name, j_value value) {
    if (!a->named) a->named = j_dict_new(r, 4);
    if (!a->named) return;
    if (name.kind != J_TEXT) {
        j_fail(r, "keywords must be strings");
    } else if (j_dict_get(r, a->named, name)) {
        j_fail(r, "got multiple values for keyword argument '%.*s'",
               (int)MIN_OF(name.as.text->size, (size_t)60), name.as.text->data);
    } else {
        j_dict_set(r, a->named, name, value);
    }
}

static void spread(j_run *r, arguments *a, const j_node *n, j_value value) {
    if (n->op == OP_SPREAD) {
        const j_list *items = j_collect(r, value);
        for (int i = 0; items && i < items->n; i++) j_push(r, a->items, items->items[i]);
    } else if (value.kind != J_DICT) {
        j_fail(r, "argument after ** must be a mapping, not %s", j_type_name(value));
    } else {
        for (int i = 0; i < value.as.dict->n; i++) {
            name_argument(r, a, value.as.dict->entries[i].key, value.as.dict->entries[i].value);
        }
    }
}

static j_args evaluate_arguments(j_run *r, j_scope *s, const j_node *list) {
    arguments a = {.items = j_list_new(r, 0)};
    for (; list && !r->failed; list = list->next) {
        if (list->op == OP_SPREAD || list->op == OP_SPREAD_NAMED) {
            spread(r, &a, list, j_eval(r, s, list->a));
        } else if (list->op == OP_NAMED) {
            const j_value name = {.kind = J_TEXT, .as.text = list->name};
            name_argument(r, &a, name, j_eval(r, s, list->a));
        } else {
            j_push(r, a.items, j_eval(r, s, list));
        }
    }
    if (!a.items) return (j_args){0};
    return (j_args){a.items->items, a.items->n, a.named};
}

j_value j_eval_call(j_run *r, j_scope *s, const j_node *n, j_value caller) {
    const j_value callee = j_eval(r, s, n->a);
    j_args args = evaluate_arguments(r, s, n->list);
    if (r->failed) return j_none();
    r->line = n->line;
    if (caller.kind != J_MISSING) {
        static const j_text name = {.data = "caller", .size = 6, .chars = 6};
        arguments with = {NULL, j_dict_new(r, 4)};
        for (int i = 0; with.named && args.named && i < args.named->n; i++) {
            name_argument(r, &with, args.named->entries[i].key, args.named->entries[i].value);
        }
        name_argument(r, &with, (j_value){.kind = J_TEXT, .as.text = &name}, caller);
        args.named = with.named;
        if (r->failed) return j_none();
    }
    return j_call(r, callee, &args);
}

/* The chain of filters of a block ends in one without input: there the block's text goes in. */
j_value j_eval_filter(j_run *r, j_scope *s, const j_node *n, j_value input) {
    if (!n || !j_enter(r)) return input;
    if (n->a) input = n->a->op == OP_FILTER ? j_eval_filter(r, s, n->a, input) : j_eval(r, s, n->a);
    const j_args args = evaluate_arguments(r, s, n->list);
    r->line = n->line;
    j_value result = j_none();
    if (n->function)
        result = r->failed ? result : j_apply(r, n->function, input, &args);
    else
        j_fail(r, "no filter named '%.*s'", (int)MIN_OF(n->name->size, (size_t)60), n->name->data);
    j_leave(r);
    return result;
}

static j_value evaluate_test(j_run *r, j_scope *s, const j_node *n) {
    const j_value of = j_eval(r, s, n->a);
    const j_args args = evaluate_arguments(r, s, n->list);
    if (r->failed) return j_none();
    r->line = n->line;
    if (n->function) return j_apply(r, n->function, of, &args);
    return j_fail(r, "no test named '%.*s'", (int)MIN_OF(n->name->size, (size_t)60), n->name->data);
}

/* ---- operators */

static j_value evaluate_list(j_run *r, j_scope *s, const j_node *n) {
    j_list *l = j_list_new(r, 0);
    for (const j_node *item = n->list; item && !r->failed; item = item->next) {
        j_push(r, l, j_eval(r, s, item));
    }
    return n->op == OP_LIST ? j_list_value(l) : j_tuple_value(l);
}

static j_value evaluate_dict(j_run *r, j_scope *s, const j_node *n) {
    j_dict *d = j_dict_new(r, 0);
    for (const j_node *pair = n->list; pair && !r->failed; pair = pair->next) {
        const j_value key = j_eval(r, s, pair->a), value = j_eval(r, s, pair->b);
        j_dict_set(r, d, key, value);
    }
    return j_dict_value(d);
}

static j_value evaluate_slice(j_run *r, j_scope *s, const j_node *n) {
    j_slice *slice = j_alloc(r, 1, sizeof(*slice));
    if (!slice) return j_none();
    slice->start = n->a ? j_eval(r, s, n->a) : j_none();
    slice->stop = n->b ? j_eval(r, s, n->b) : j_none();
    slice->step = n->c ? j_eval(r, s, n->c) : j_none();
    return (j_value){.kind = J_SLICE, .as.slice = slice};
}

static j_value evaluate_concat(j_run *r, j_scope *s, const j_node *n) {
    j_builder b = {0};
    for (const j_node *part = n->list; part && !r->failed; part = part->next) {
        j_put_str(r, &b, j_eval(r, s, part));
    }
    return j_finish(r, &b);
}

static bool compare(j_run *r, j_op op, j_value a, j_value b) {
    switch ((int)op) {
    case OP_EQ: return j_equal(r, a, b);
    case OP_NE: return !j_equal(r, a, b);
    case OP_LT: return j_less(r, a, b);
    case OP_GT: return j_less(r, b, a);
    case OP_IN: return j_contains(r, b, a);
    case OP_NOT_IN: return !j_contains(r, b, a);
    default: break;
    }
    /* <= is not "not >" where a NaN is around */
    const bool less = op == OP_LE ? j_less(r, a, b) : j_less(r, b, a);
    return less || j_equal(r, a, b);
}

/* a < b < c is a < b and b < c, each evaluated once and only as far as needed. */
static j_value evaluate_compare(j_run *r, j_scope *s, const j_node *n) {
    j_value left = j_eval(r, s, n->a);
    for (const j_node *operand = n->list; operand && !r->failed; operand = operand->next) {
        const j_value right = j_eval(r, s, operand->a);
        r->line = n->line;
        if (r->failed || !compare(r, operand->op, left, right)) return j_bool(false);
        left = right;
    }
    return j_bool(true);
}

static j_value evaluate_choice(j_run *r, j_scope *s, const j_node *n) {
    if (j_truth(r, j_eval(r, s, n->a))) return j_eval(r, s, n->b);
    if (n->c) return j_eval(r, s, n->c);
    return j_undefined_hint(r, "the inline if-expression evaluated to false and has no else");
}

static j_value arithmetic(j_run *r, j_scope *s, const j_node *n) {
    const j_value a = j_eval(r, s, n->a), b = j_eval(r, s, n->b);
    if (r->failed) return j_none();
    r->line = n->line;
    switch ((int)n->op) {
    case OP_ADD: return j_add(r, a, b);
    case OP_SUBTRACT: return j_subtract(r, a, b);
    case OP_MULTIPLY: return j_multiply(r, a, b);
    case OP_DIVIDE: return j_divide(r, a, b);
    case OP_FLOOR_DIVIDE: return j_floor_divide(r, a, b);
    case OP_MODULO: return j_modulo(r, a, b);
    default: return j_power(r, a, b);
    }
}

static j_value plus(j_run *r, j_value v) {
    if (v.kind == J_BOOL) return j_int(v.as.truth);
    if (j_is_number(v)) return v;
    if (v.kind == J_UNDEFINED) return j_fail_undefined(r, v);
    return j_fail(r, "bad operand type for unary +: '%s'", j_type_name(v));
}

static j_value subscript(j_run *r, j_scope *s, const j_node *n) {
    const j_value of = j_eval(r, s, n->a), key = j_eval(r, s, n->b);
    if (r->failed) return j_none();
    r->line = n->line;
    return j_item(r, of, key);
}

static j_value attribute(j_run *r, j_scope *s, const j_node *n) {
    const j_value of = j_eval(r, s, n->a);
    if (r->failed) return j_none();
    r->line = n->line;
    return j_attribute(r, of, n->name);
}

static j_value evaluate(j_run *r, j_scope *s, const j_node *n) {
    j_value left;
    switch ((int)n->op) {
    case OP_CONST: return n->value;
    case OP_NAME: return j_resolve_name(r, s, n->name);
    case OP_LIST:
    case OP_TUPLE: return evaluate_list(r, s, n);
    case OP_DICT: return evaluate_dict(r, s, n);
    case OP_ATTRIBUTE: return attribute(r, s, n);
    case OP_ITEM: return subscript(r, s, n);
    case OP_SLICE: return evaluate_slice(r, s, n);
    case OP_CALL: return j_eval_call(r, s, n, j_missing());
    case OP_FILTER: return j_eval_filter(r, s, n, j_none());
    case OP_TEST: return evaluate_test(r, s, n);
    case OP_NOT: return j_bool(!j_truth(r, j_eval(r, s, n->a)));
    case OP_NEGATE: return j_negate(r, j_eval(r, s, n->a));
    case OP_PLUS: return plus(r, j_eval(r, s, n->a));
    case OP_AND: left = j_eval(r, s, n->a); return j_truth(r, left) ? j_eval(r, s, n->b) : left;
    case OP_OR: left = j_eval(r, s, n->a); return j_truth(r, left) ? left : j_eval(r, s, n->b);
    case OP_CONCAT: return evaluate_concat(r, s, n);
    case OP_COMPARE: return evaluate_compare(r, s, n);
    case OP_CHOICE: return evaluate_choice(r, s, n);
    default: return arithmetic(r, s, n);
    }
}

j_value j_eval(j_run *r, j_scope *s, const j_node *n) {
    if (!j_step(r, 0) || !j_enter(r)) return j_none();
    r->line = n->line;
    const j_value v = evaluate(r, s, n);
    j_leave(r);
    return v;
}
