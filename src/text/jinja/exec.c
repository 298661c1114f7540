/* exec.c - running statements.
 *
 *     j_exec(list)  writes to r->out     { {% if %} stays in the scope it stands in; the bodies of
 *     j_capture(list)  to a text         {  everything else that has a body get one of their own }
 *
 * break and continue travel up as a j_flow until the loop they belong to.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

/* ---- scopes */

j_scope *j_scope_new(j_run *r, j_scope *parent) {
    j_scope *s = j_alloc(r, 1, sizeof(*s));
    if (s) s->parent = parent;
    return s;
}

/* ---- assignment */

static void assign_attribute(j_run *r, j_scope *s, const j_node *target, j_value value) {
    const j_value of = j_resolve_name(r, s, target->a->name);
    if (of.kind != J_NAMESPACE) {
        j_fail(r, "cannot assign an attribute of what is no namespace");
        return;
    }
    j_dict_set(r, of.as.dict, (j_value){.kind = J_TEXT, .as.text = target->name}, value);
}

static void unpack(j_run *r, j_scope *s, const j_node *target, j_value value) {
    int wanted = 0;
    for (const j_node *n = target->list; n; n = n->next) wanted++;
    if (value.kind == J_UNDEFINED) value = j_list_value(j_list_new(r, 0));
    if (!r->failed && !j_iterable(value)) {
        j_fail(r, "cannot unpack non-iterable %s object", j_type_name(value));
    }
    const j_list *items = j_collect(r, value);
    if (!items || !j_enter(r)) return;
    if (items->n < wanted) {
        j_fail(r, "not enough values to unpack (expected %d, got %d)", wanted, items->n);
    } else if (items->n > wanted) {
        j_fail(r, "too many values to unpack (expected %d)", wanted);
    }
    int i = 0;
    for (const j_node *n = target->list; n && !r->failed; n = n->next) {
        j_assign(r, s, n, items->items[i++]);
    }
    j_leave(r);
}

void j_assign(j_run *r, j_scope *s, const j_node *target, j_value value) {
    if (r->failed) return;
    r->line = target->line;
    if (target->op == OP_NAME)
        j_bind(r, s, target->name, value);
    else if (target->op == OP_ATTRIBUTE)
        assign_attribute(r, s, target, value);
    else
        unpack(r, s, target, value);
}

/* ---- output */

j_value j_capture(j_run *r, j_scope *s, const j_node *list) {
    j_builder text = {0}, *outer = r->out;
    r->out = &text;
    j_exec(r, s, list);
    r->out = outer;
    return r->failed ? j_none() : j_finish(r, &text);
}

static void print(j_run *r, j_value v) {
    const size_t before = r->out->size;
    j_put_str(r, r->out, v);
    j_step(r, r->out->size - before);
}

/* ---- statements */

static j_flow run_if(j_run *r, j_scope *s, const j_node *n) {
    for (;;) {
        if (j_truth(r, j_eval(r, s, n->a))) return j_exec(r, s, n->list);
        if (r->failed || !n->other) return FLOW_ON;
        const bool chained = n->other->op == OP_IF && !n->other->next;
        if (!chained) return j_exec(r, s, n->other);
        n = n->other;
    }
}

static void run_set_block(j_run *r, j_scope *s, const j_node *n) {
    j_scope *inner = j_scope_new(r, s);
    if (!inner) return;
    const j_value text = j_capture(r, inner, n->list);
    j_assign(r, s, n->a, j_eval_filter(r, inner, n->b, text));
}

static void run_filter_block(j_run *r, j_scope *s, const j_node *n) {
    j_scope *inner = j_scope_new(r, s);
    if (!inner) return;
    const j_value text = j_capture(r, inner, n->list);
    print(r, j_eval_filter(r, inner, n->b, text));
}

static j_flow run_with(j_run *r, j_scope *s, const j_node *n) {
    j_scope *inner = j_scope_new(r, s);
    if (!inner) return FLOW_ON;
    for (const j_node *set = n->c; set && !r->failed; set = set->next) {
        j_assign(r, inner, set->a, j_eval(r, s, set->b)); /* values see the scope outside */
    }
    return j_exec(r, inner, n->list);
}

static j_flow run_generation(j_run *r, j_scope *s, const j_node *n) {
    j_scope *inner = j_scope_new(r, s);
    return inner ? j_exec(r, inner, n->list) : FLOW_ON;
}

static j_flow run(j_run *r, j_scope *s, const j_node *n) {
    r->line = n->line;
    switch ((int)n->op) {
    case OP_DATA: print(r, n->value); break;
    case OP_PRINT: print(r, j_eval(r, s, n->a)); break;
    case OP_SET: j_assign(r, s, n->a, j_eval(r, s, n->b)); break;
    case OP_SET_BLOCK: run_set_block(r, s, n); break;
    case OP_FOR: return j_loop_run(r, s, n);
    case OP_IF: return run_if(r, s, n);
    case OP_MACRO: j_bind(r, s, n->name, j_macro_new(r, s, n)); break;
    case OP_CALL_BLOCK: print(r, j_eval_call(r, s, n->a, j_macro_new(r, s, n))); break;
    case OP_FILTER_BLOCK: run_filter_block(r, s, n); break;
    case OP_WITH: return run_with(r, s, n);
    case OP_GENERATION: return run_generation(r, s, n);
    case OP_BREAK: return FLOW_BREAK;
    case OP_CONTINUE: return FLOW_CONTINUE;
    case OP_HOIST: j_bind(r, s, n->name, j_missing()); break;
    default: j_fail(r, "a statement of unknown kind %d", (int)n->op); break;
    }
    return FLOW_ON;
}

j_flow j_exec(j_run *r, j_scope *s, const j_node *list) {
    if (!j_enter(r)) return FLOW_ON;
    j_flow flow = FLOW_ON;
    for (; list && flow == FLOW_ON && j_step(r, 0); list = list->next) flow = run(r, s, list);
    j_leave(r);
    return r->failed ? FLOW_ON : flow;
}
