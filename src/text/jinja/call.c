/* call.c - calling things: finding built-in functions, binding arguments, macros.
 *
 * A built-in function lists its parameters in one string, "old new count"; bind() puts positional
 * and named arguments into an array in that order, so that no function parses its own arguments.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/run.h"

#include <string.h>

/* ---- finding */

const j_function *j_find_function(const j_function *table, const j_text *name) {
    for (; table->name; table++) {
        if (j_text_is(name, table->name)) return table;
    }
    return NULL;
}

const j_function *j_find_filter(const j_text *name) {
    static const j_function *const tables[] = {j_filters_text, j_filters_number, j_filters_sequence,
                                               j_filters_lazy};
    for (size_t i = 0; i < COUNT_OF(tables); i++) {
        const j_function *f = j_find_function(tables[i], name);
        if (f) return f;
    }
    return NULL;
}

const j_function *j_find_test(const j_text *name) {
    return j_find_function(j_tests, name);
}

const j_function *j_find_global(const j_text *name) {
    return j_find_function(j_globals, name);
}

const j_function *j_find_method(j_value of, const j_text *name) {
    const j_function *f;
    switch ((int)of.kind) {
    case J_TEXT:
        f = j_find_function(j_methods_text, name);
        return f ? f : j_find_function(j_methods_search, name);
    case J_DICT: return j_find_function(j_methods_dict, name);
    case J_LIST: return j_find_function(j_methods_list, name);
    case J_TUPLE: return j_find_function(j_methods_tuple, name);
    case J_LOOP: return j_find_function(j_methods_loop, name);
    case J_CYCLER: return j_find_function(j_methods_cycler, name);
    default: return NULL;
    }
}

/* ---- binding */

/* The words of a parameter list, one after the other; false behind the last. */
static bool next_word(const char **at, const char **word, size_t *size) {
    while (**at == ' ') ++*at;
    *word = *at;
    *size = strcspn(*at, " ");
    *at += *size;
    return *size > 0;
}

static int count_words(const char *params) {
    int n = 0;
    const char *word;
    for (size_t size; next_word(&params, &word, &size);) n++;
    return n;
}

static int find_word(const char *params, const j_text *name) {
    const char *word;
    size_t size;
    for (int i = 0; next_word(&params, &word, &size); i++) {
        if (size == name->size && memcmp(word, name->data, size) == 0) return i;
    }
    return -1;
}

static void bind_named(j_run *r, const j_function *f, const char *params, const j_dict *named,
                       j_value *out) {
    for (int i = 0; named && i < named->n; i++) {
        const j_text *name = named->entries[i].key.as.text;
        const int at = find_word(params, name);
        const int size = (int)MIN_OF(name->size, (size_t)60);
        if (at < 0) {
            j_fail(r, "%s got an unexpected keyword argument '%.*s'", f->name, size, name->data);
        } else if (out[at].kind != J_MISSING) {
            j_fail(r, "%s got multiple values for argument '%.*s'", f->name, size, name->data);
        } else {
            out[at] = named->entries[i].value;
        }
    }
}

static bool bind(j_run *r, const j_function *f, const j_args *args, j_value out[MAX_PARAMS]) {
    const bool by_position = f->params[0] == '/';
    const char *params = f->params + by_position;
    for (int i = 0; i < MAX_PARAMS; i++) out[i] = j_missing();
    if (strcmp(params, "*") == 0) return true;
    const int most = count_words(params);
    if (args->n > most) {
        j_fail(r, "%s takes at most %d arguments, %d were given", f->name, most, args->n);
        return false;
    }
    for (int i = 0; i < args->n; i++) out[i] = args->items[i];
    if (by_position && args->named && args->named->n) {
        j_fail(r, "%s takes no keyword arguments", f->name);
        return false;
    }
    bind_named(r, f, params, args->named, out);
    for (int i = 0; i < f->required && !r->failed; i++) {
        if (out[i].kind == J_MISSING) j_fail(r, "%s lacks its argument %d", f->name, i + 1);
    }
    return !r->failed;
}

j_value j_apply(j_run *r, const j_function *f, j_value self, const j_args *args) {
    j_value bound[MAX_PARAMS];
    if (!j_step(r, 0) || !bind(r, f, args, bound) || !j_enter(r)) return j_none();
    const j_value v = f->call(r, self, bound, args);
    j_leave(r);
    return v;
}

static j_value call_joiner(j_run *r, j_joiner *j) {
    if (j->used) return j->separator;
    j->used = true;
    return j_text_literal(r, "");
}

static j_value call_loop(j_run *r, j_loop *loop, const j_args *args) {
    if (args->n != 1 || args->named) return j_fail(r, "loop() takes exactly one argument");
    return j_loop_recurse(r, loop, args->items[0]);
}

j_value j_call(j_run *r, j_value callee, const j_args *args) {
    switch ((int)callee.kind) {
    case J_FUNCTION: return j_apply(r, callee.as.function, j_missing(), args);
    case J_METHOD: return j_apply(r, callee.as.method->function, callee.as.method->self, args);
    case J_MACRO: return j_macro_call(r, callee.as.macro, args);
    case J_LOOP: return call_loop(r, callee.as.loop, args);
    case J_JOINER: return call_joiner(r, callee.as.joiner);
    case J_UNDEFINED: return j_fail_undefined(r, callee);
    default: return j_fail(r, "'%s' object is not callable", j_type_name(callee));
    }
}

/* ---- reading arguments */

bool j_arg_truth(j_run *r, j_value v, bool otherwise) {
    return v.kind == J_MISSING ? otherwise : j_truth(r, v);
}

int64_t j_arg_int(j_run *r, j_value v, int64_t otherwise) {
    if (v.kind == J_MISSING) return otherwise;
    if (v.kind == J_INT) return v.as.integer;
    if (v.kind == J_BOOL) return v.as.truth;
    if (v.kind == J_UNDEFINED)
        j_fail_undefined(r, v);
    else
        j_fail(r, "'%s' object cannot be interpreted as an integer", j_type_name(v));
    return otherwise;
}

const j_text *j_arg_text(j_run *r, j_value v, const char *otherwise) {
    if (v.kind == J_MISSING && otherwise) v = j_text_literal(r, otherwise);
    if (r->failed) return NULL;
    if (v.kind == J_TEXT) return v.as.text;
    if (v.kind == J_UNDEFINED)
        j_fail_undefined(r, v);
    else
        j_fail(r, "expected a string, not %s", j_type_name(v));
    return NULL;
}

/* ---- macros */

j_value j_macro_new(j_run *r, j_scope *s, const j_node *n) {
    j_macro *m = j_alloc(r, 1, sizeof(*m));
    if (!m) return j_none();
    *m = (j_macro){n, s};
    for (; s && !s->captured; s = s->parent) s->captured = true;
    return (j_value){.kind = J_MACRO, .as.macro = m};
}

j_value j_macro_name(j_run *r, const j_macro *m) {
    (void)r;
    if (m->node->op != OP_MACRO) return j_none();
    return (j_value){.kind = J_TEXT, .as.text = m->node->name};
}

static const j_node *find_parameter(const j_macro *m, const char *name) {
    const j_node *p = m->node->c;
    while (p && !j_text_is(p->name, name)) p = p->next;
    return p;
}

j_value j_macro_attribute(j_run *r, const j_macro *m, const j_text *name) {
    if (j_text_is(name, "name")) return j_macro_name(r, m);
    if (j_text_is(name, "caller")) return j_bool(m->node->flags & USES_CALLER);
    if (j_text_is(name, "catch_kwargs")) return j_bool(m->node->flags & USES_KWARGS);
    if (j_text_is(name, "catch_varargs")) return j_bool(m->node->flags & USES_VARARGS);
    if (!j_text_is(name, "arguments")) return j_missing();
    j_list *names = j_list_new(r, 0);
    for (const j_node *p = m->node->c; p; p = p->next) {
        j_push(r, names, (j_value){.kind = J_TEXT, .as.text = p->name});
    }
    return j_tuple_value(names);
}

static bool is_parameter(const j_macro *m, const j_text *name, int from) {
    int i = 0;
    for (const j_node *p = m->node->c; p; p = p->next, i++) {
        if (i >= from && j_text_equal(p->name, name)) return true;
    }
    return false;
}

/* The named arguments that no parameter takes: kwargs. */
static j_dict *left_over(j_run *r, const j_macro *m, const j_args *args, bool takes_caller) {
    j_dict *rest = j_dict_new(r, 0);
    for (int i = 0; args->named && i < args->named->n && !r->failed; i++) {
        const j_entry *e = &args->named->entries[i];
        if (is_parameter(m, e->key.as.text, args->n)) continue;
        if (takes_caller && j_text_is(e->key.as.text, "caller")) continue;
        j_dict_set(r, rest, e->key, e->value);
    }
    return rest;
}

static void bind_special(j_run *r, j_scope *s, const j_macro *m, const j_args *args, int count) {
    static const j_text caller = {.data = "caller", .size = 6, .chars = 6};
    static const j_text kwargs = {.data = "kwargs", .size = 6, .chars = 6};
    static const j_text varargs = {.data = "varargs", .size = 7, .chars = 7};
    const int flags = m->node->flags;
    const bool takes_caller = flags & USES_CALLER && !find_parameter(m, "caller");
    if (takes_caller) {
        const j_value *given = args->named ? j_dict_find(args->named, &caller) : NULL;
        j_bind(r, s, &caller, given ? *given : j_undefined_hint(r, "No caller defined"));
    }
    j_dict *rest = left_over(r, m, args, takes_caller);
    if (flags & USES_KWARGS && !find_parameter(m, "kwargs")) {
        j_bind(r, s, &kwargs, j_dict_value(rest));
    } else if (rest && rest->n) {
        const j_text *name = rest->entries[0].key.as.text;
        j_fail(r, "the macro takes no keyword argument '%.*s'", (int)MIN_OF(name->size, (size_t)60),
               name->data);
    }
    if (flags & USES_VARARGS && !find_parameter(m, "varargs")) {
        j_list *l = j_list_new(r, 0);
        for (int i = count; i < args->n; i++) j_push(r, l, args->items[i]);
        j_bind(r, s, &varargs, j_tuple_value(l));
    } else if (args->n > count) {
        j_fail(r, "the macro takes not more than %d argument(s), %d were given", count, args->n);
    }
}

/* Defaults are evaluated inside the macro, from left to right, once all that was given is bound. */
static void bind_parameters(j_run *r, j_scope *s, const j_macro *m, const j_args *args) {
    int i = 0;
    for (const j_node *p = m->node->c; p && !r->failed; p = p->next, i++) {
        const j_value *named = args->named ? j_dict_find(args->named, p->name) : NULL;
        j_bind(r, s, p->name, i < args->n ? args->items[i] : named ? *named : j_missing());
    }
    i = 0;
    for (const j_node *p = m->node->c; p && !r->failed; p = p->next, i++) {
        if (i < args->n || (args->named && j_dict_find(args->named, p->name))) continue;
        const j_value v = p->a ? j_eval(r, s, p->a)
                               : j_undefined_hint(r, "a parameter of a macro was not provided");
        j_bind(r, s, p->name, v);
    }
}

j_value j_macro_call(j_run *r, const j_macro *m, const j_args *args) {
    if (!j_step(r, 0) || !j_enter(r)) return j_none();
    j_scope *s = j_scope_new(r, m->scope);
    j_value text = j_none();
    if (s) {
        int count = 0;
        for (const j_node *p = m->node->c; p; p = p->next) count++;
        bind_special(r, s, m, args, count);
        bind_parameters(r, s, m, args);
        if (!r->failed) text = j_capture(r, s, m->node->list);
        if (!s->captured) j_scope_clear(r, s);
    }
    j_leave(r);
    return text;
}
