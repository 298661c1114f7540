/* run.h - what the parts of the interpreter know of each other.
 *
 *     template.c -> exec (statements) <-> eval (expressions) -> call (arguments, macros)
 *                                                            -> filters, tests, methods (tables)
 *
 *   making the tree   ast.h         lexer, expression, parser, scope
 *   values            value.h       value, text, unicode, number, compare, iter
 *   running           this file     exec, loop, eval, access, call
 *   what is built in  tables        filters_text, filters_sequence, filters_number, lazy, json,
 * tests, methods, methods_text, methods_search, format, globals
 *
 * A new filter is a function and a line in one of the tables; nothing else has to know of it.
 * Python is right: where this differs from jinja2 and is no error, it is a bug.
 * tests/text/test_template.c has the files that jinja2 itself rendered.
 *
 * Filters, tests, methods and global functions are all j_functions: a name, a C function and the
 * names of the parameters, to which call binds positional and named arguments.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "text/jinja/ast.h"

enum {
    MAX_BRACKETS = 100,   /* open at one place */
    MAX_SOURCE = 4 << 20, /* bytes of template */
    MAX_PARAMS = 6,       /* of a built-in function */
};

/* ---- arguments and functions */

typedef struct j_args {
    const j_value *items; /* [n] positional */
    int n;
    const j_dict *named; /* or NULL */
} j_args;

/* self is what a filter, test or method is applied to; a[i] belongs to the i-th name in params and
 * is J_MISSING when not given; all are the arguments as they came. */
typedef j_value j_function_fn(j_run *r, j_value self, const j_value *a, const j_args *all);

typedef struct j_function {
    const char *name;
    j_function_fn *call;
    const char *params; /* "old new count"; "/" in front: by position only; "*": takes any */
    int required;       /* so many of them must be given */
} j_function;

typedef struct j_method {
    j_value self;
    const j_function *function;
} j_method;

const j_function *j_find_function(const j_function *table, const j_text *name); /* or NULL */
const j_function *j_find_filter(const j_text *name);
const j_function *j_find_test(const j_text *name);
const j_function *j_find_global(const j_text *name);
const j_function *j_find_method(j_value of, const j_text *name);

/* The tables end in a NULL name. */
extern const j_function j_filters_text[], j_filters_number[], j_filters_sequence[],
    j_filters_lazy[], j_tests[], j_globals[];
extern const j_function j_methods_text[], j_methods_search[], j_methods_dict[], j_methods_list[],
    j_methods_tuple[], j_methods_loop[], j_methods_cycler[];

j_value j_apply(j_run *r, const j_function *f, j_value self, const j_args *args);
j_value j_call(j_run *r, j_value callee, const j_args *args);

/* Reading optional arguments: `otherwise` when missing; a failure when of another type. */
bool j_arg_truth(j_run *r, j_value v, bool otherwise);
int64_t j_arg_int(j_run *r, j_value v, int64_t otherwise);
const j_text *j_arg_text(j_run *r, j_value v, const char *otherwise); /* NULL when failed */

/* ---- names */

typedef struct j_binding {
    const j_text *name;
    j_value value;
    struct j_binding *next;
} j_binding;

typedef struct j_scope {
    struct j_scope *parent;
    j_binding *first;
    bool captured; /* a macro may outlive it: keep the bindings */
} j_scope;

void j_bind(j_run *r, j_scope *s, const j_text *name, j_value value);
j_value j_resolve_name(j_run *r, const j_scope *s, const j_text *name);
void j_scope_clear(j_run *r, j_scope *s);
j_scope *j_scope_new(j_run *r, j_scope *parent); /* NULL when failed */

/* ---- running */

typedef enum j_flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } j_flow;

j_value j_eval(j_run *r, j_scope *s, const j_node *n);
j_flow j_exec(j_run *r, j_scope *s, const j_node *list);
j_value j_capture(j_run *r, j_scope *s, const j_node *list); /* the output of list, as text */
void j_assign(j_run *r, j_scope *s, const j_node *target, j_value value);
j_value j_eval_call(j_run *r, j_scope *s, const j_node *call, j_value caller);
j_value j_eval_filter(j_run *r, j_scope *s, const j_node *filter, j_value input);

/* ---- macros */

typedef struct j_macro {
    const j_node *node; /* OP_MACRO or OP_CALL_BLOCK */
    j_scope *scope;     /* where it was defined */
} j_macro;

j_value j_macro_new(j_run *r, j_scope *s, const j_node *n);
j_value j_macro_call(j_run *r, const j_macro *m, const j_args *args);
j_value j_macro_name(j_run *r, const j_macro *m);
j_value j_macro_attribute(j_run *r, const j_macro *m, const j_text *name); /* missing: none such */

/* ---- loops: loop.c */

typedef struct j_loop j_loop;

j_flow j_loop_run(j_run *r, j_scope *s, const j_node *n);
j_value j_loop_recurse(j_run *r, j_loop *loop, j_value over);
int64_t j_loop_length(j_run *r, j_loop *loop);
int64_t j_loop_index(const j_loop *loop); /* from 0 */
bool j_loop_next(j_run *r, j_loop *loop, j_value *item);
j_value j_loop_attribute(j_run *r, j_loop *loop, const j_text *name); /* missing: none such */

/* ---- text from values */

j_value j_format_percent(j_run *r, const j_text *format, j_value values);    /* format % values */
j_value j_format_braces(j_run *r, const j_text *format, const j_args *args); /* .format(...) */
void j_put_escape(j_run *r, j_builder *b, uint32_t c); /* \n, \xe9, \u20ac, \U0001f600 */

/* item.a.b.0: the path of an attribute argument, as map, selectattr and sort take it.  What is
 * undefined on the way becomes `otherwise`, unless that is missing or none. */
j_value j_lookup_path(j_run *r, j_value item, j_value path, j_value otherwise);
/* A stable sort of items by keys; both are permuted. */
void j_sort(j_run *r, j_value *items, j_value *keys, int n, bool reverse);
j_value j_ignore_case(j_run *r, j_value v);
