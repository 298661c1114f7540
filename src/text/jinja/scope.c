/* scope.c - the pass behind the parser: which names a scope owns, and which filters exist.
 *
 * jinja2 decides when it compiles where a name lives.  Running on chained scopes gives the same
 * result but for one case: a name that a scope sets, unconditionally and before it reads it, and
 * that no scope around knows, belongs to the scope from its start.  Until it is set it is
 * undefined, even if the caller passed a variable of that name:
 *
 *     {% for x in y %}{{ tools }}{% endfor %}{% set tools = 1 %}       prints nothing
 *
 * Such names get an OP_HOIST at the front of the scope's statements.  A scope is analysed as a
 * whole before those inside it.
 *
 * Unknown filters and tests fail here, unless an if stands in front of them: then only when they
 * are reached.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

typedef struct known { /* a name this scope has read, set or been given */
    const j_text *name;
    struct known *next;
} known;

typedef struct frame {
    struct frame *parent;
    known *names;
    j_node *hoists;
    int branches; /* ifs around the current place, within this scope */
} frame;

static bool knows(const frame *f, const j_text *name) {
    for (const known *k = f->names; k; k = k->next) {
        if (j_text_equal(k->name, name)) return true;
    }
    return false;
}

static bool any_knows(const frame *f, const j_text *name) {
    for (; f; f = f->parent) {
        if (knows(f, name)) return true;
    }
    return false;
}

static void learn(j_run *r, frame *f, const j_text *name) {
    known *k = j_alloc(r, 1, sizeof(*k));
    if (!k) return;
    *k = (known){name, f->names};
    f->names = k;
}

static void load(j_run *r, frame *f, const j_text *name) {
    if (j_step(r, 64) && !any_knows(f, name)) learn(r, f, name);
}

static void store(j_run *r, frame *f, const j_text *name) {
    if (!j_step(r, 64) || knows(f, name)) return;
    if (f->branches == 0 && !any_knows(f->parent, name)) {
        j_node *n = j_alloc(r, 1, sizeof(*n));
        if (!n) return;
        *n = (j_node){.op = OP_HOIST, .name = name, .next = f->hoists};
        f->hoists = n;
    }
    learn(r, f, name);
}

/* ---- what a scope reads and sets, without the scopes inside it */

static void read_names(j_run *r, frame *f, const j_node *n);

static void read_list(j_run *r, frame *f, const j_node *list) {
    for (; list; list = list->next) read_names(r, f, list);
}

static void set_target(j_run *r, frame *f, const j_node *n) {
    if (!n) return;
    if (n->op == OP_NAME) store(r, f, n->name);
    if (n->op == OP_ATTRIBUTE) load(r, f, n->a->name);
    if (n->op != OP_TUPLE || !j_enter(r)) return;
    for (const j_node *item = n->list; item; item = item->next) set_target(r, f, item);
    j_leave(r);
}

static void read_if(j_run *r, frame *f, const j_node *n) {
    int outer = f->branches;
    for (; n; n = n->other) {
        read_names(r, f, n->a);
        f->branches++;
        read_list(r, f, n->list);
        if (!n->other || n->other->op != OP_IF || n->other->next) {
            read_list(r, f, n->other);
            break;
        }
    }
    f->branches = outer;
}

static void read_inside(j_run *r, frame *f, const j_node *n) {
    switch ((int)n->op) {
    case OP_NAME: load(r, f, n->name); break;
    case OP_IF: read_if(r, f, n); break;
    case OP_SET:
        read_names(r, f, n->b);
        set_target(r, f, n->a);
        break;
    case OP_SET_BLOCK: set_target(r, f, n->a); break;
    case OP_FOR: read_names(r, f, n->b); break;
    case OP_MACRO: store(r, f, n->name); break;
    case OP_CALL_BLOCK: read_names(r, f, n->a); break;
    case OP_FILTER_BLOCK: read_names(r, f, n->b); break;
    case OP_WITH:
        for (const j_node *set = n->c; set; set = set->next) read_names(r, f, set->b);
        break;
    case OP_GENERATION: break;
    default:
        read_names(r, f, n->a);
        read_names(r, f, n->b);
        read_names(r, f, n->c);
        read_list(r, f, n->list);
        break;
    }
}

static void read_names(j_run *r, frame *f, const j_node *n) {
    if (!n || !j_enter(r)) return;
    read_inside(r, f, n);
    j_leave(r);
}

/* ---- filters and tests */

static void find_functions(j_run *r, j_node *n, bool soft);

static void find_in_list(j_run *r, j_node *list, bool soft) {
    for (; list; list = list->next) find_functions(r, list, soft);
}

static void find_inside(j_run *r, j_node *n, bool soft) {
    if (n->op == OP_FILTER || n->op == OP_TEST) {
        if (!n->name) return;
        n->function = n->op == OP_FILTER ? j_find_filter(n->name) : j_find_test(n->name);
        r->line = n->line;
        if (!n->function && !soft) {
            j_fail(r, "no %s named '%.*s'", n->op == OP_FILTER ? "filter" : "test",
                   (int)MIN_OF(n->name->size, (size_t)60), n->name->data);
        }
    }
    soft |= n->op == OP_CHOICE;
    find_functions(r, n->a, soft);
    find_functions(r, n->b, soft);
    find_functions(r, n->c, soft);
    find_in_list(r, n->list, soft);
}

/* Expressions only: the statements of a body are visited by the scopes that own them. */
static void find_functions(j_run *r, j_node *n, bool soft) {
    if (!n || !j_enter(r)) return;
    find_inside(r, n, soft);
    j_leave(r);
}

/* ---- the scopes inside a scope */

static j_node *new_scope(j_run *r, frame *f, j_node *body);
static void inner_scopes(j_run *r, frame *f, j_node *list, bool soft);

static j_node *for_scope(j_run *r, frame *outer, const j_node *n) {
    static const j_text loop = {.data = "loop", .size = 4, .chars = 4};
    frame f = {.parent = outer};
    f.branches = 1; /* given names are known, not hoisted */
    set_target(r, &f, n->a);
    f.branches = 0;
    learn(r, &f, &loop);
    return new_scope(r, &f, n->list);
}

static int special_names(j_run *r, const j_node *list);

/* Which of caller, kwargs and varargs does a macro's body read? */
static int special_name(j_run *r, const j_node *n) {
    if (!n || !j_enter(r)) return 0;
    int flags = 0;
    if (n->op == OP_NAME) {
        if (j_text_is(n->name, "caller")) flags |= USES_CALLER;
        if (j_text_is(n->name, "kwargs")) flags |= USES_KWARGS;
        if (j_text_is(n->name, "varargs")) flags |= USES_VARARGS;
    }
    j_step(r, 0);
    flags |= special_name(r, n->a) | special_name(r, n->b);
    flags |= special_names(r, n->c) | special_names(r, n->list) | special_names(r, n->other);
    j_leave(r);
    return flags;
}

static int special_names(j_run *r, const j_node *list) {
    int flags = 0;
    for (; list; list = list->next) flags |= special_name(r, list);
    return flags;
}

static void macro_scope(j_run *r, frame *outer, j_node *n) {
    frame f = {.parent = outer};
    n->flags = special_names(r, n->list);
    for (j_node *param = n->c; param; param = param->next) {
        learn(r, &f, param->name);
        if (j_text_is(param->name, "caller") && !param->a && n->flags & USES_CALLER) {
            j_fail(r, "the special argument caller must be omitted or have a default");
        }
    }
    for (j_node *param = n->c; param; param = param->next) {
        read_names(r, &f, param->a);
        find_functions(r, param->a, false);
    }
    n->list = new_scope(r, &f, n->list);
}

static void with_scope(j_run *r, frame *outer, j_node *n, bool soft) {
    frame f = {.parent = outer};
    f.branches = 1;
    for (j_node *set = n->c; set; set = set->next) {
        find_functions(r, set->b, soft);
        set_target(r, &f, set->a);
    }
    f.branches = 0;
    n->list = new_scope(r, &f, n->list);
}

static void inner_scope(j_run *r, frame *f, j_node *n, bool soft) {
    frame plain = {.parent = f};
    switch ((int)n->op) {
    case OP_IF:
        for (; n; n = n->other) {
            find_functions(r, n->a, true);
            inner_scopes(r, f, n->list, true);
            if (n->other && n->other->op == OP_IF && !n->other->next) continue;
            inner_scopes(r, f, n->other, true);
            break;
        }
        break;
    case OP_FOR:
        find_functions(r, n->b, soft);
        find_functions(r, n->c, false);
        n->list = for_scope(r, f, n);
        n->other = new_scope(r, &plain, n->other);
        break;
    case OP_MACRO: macro_scope(r, f, n); break;
    case OP_CALL_BLOCK:
        find_functions(r, n->a, soft);
        macro_scope(r, f, n);
        break;
    case OP_WITH: with_scope(r, f, n, soft); break;
    case OP_SET_BLOCK:
    case OP_FILTER_BLOCK:
    case OP_GENERATION:
        find_functions(r, n->b, false);
        n->list = new_scope(r, &plain, n->list);
        break;
    default: find_functions(r, n, soft); break;
    }
}

static void inner_scopes(j_run *r, frame *f, j_node *list, bool soft) {
    for (; list && !r->failed; list = list->next) {
        if (!j_enter(r)) return;
        r->line = list->line;
        inner_scope(r, f, list, soft);
        j_leave(r);
    }
}

static j_node *new_scope(j_run *r, frame *f, j_node *body) {
    read_list(r, f, body);
    inner_scopes(r, f, body, false);
    j_node **last = &f->hoists;
    while (*last) last = &(*last)->next;
    *last = body;
    return f->hoists;
}

j_node *j_resolve(j_run *r, j_node *body) {
    frame root = {0};
    return new_scope(r, &root, body);
}
