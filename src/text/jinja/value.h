/* value.h - the values a template computes with: Python's objects, as far as templates see
 * them.
 *
 * A j_value is sixteen bytes: a kind and a number or a pointer.  What it points to lives in the
 * arena of the run that made it and never moves, so values are copied freely and nothing is freed:
 *
 *     run (one compilation or one rendering)
 *      +- arena      every byte of it, charged against MAX_BYTES
 *      +- steps      every node, iteration and 64 bytes of text, charged against MAX_STEPS
 *      +- depth      every recursion, against MAX_DEPTH
 *      +- message    the first failure; sticky
 *
 * Failures are sticky: j_fail keeps the first message with the line it happened on, and every
 * function returns something harmless from then on, so that calls nest; loops ask r->failed.
 *
 * Text is UTF-8 and counted in code points, as Python counts.  Lists, tuples and dicts are filled
 * by whoever makes them and constant afterwards (the sandbox forbids mutation); the one thing that
 * changes is a namespace.  Names that cross files start with j_.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/status.h"

#include <jansson.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum j_kind {
    J_MISSING, /* no value at all: an argument not given, a name not yet set */
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_TEXT,
    J_LIST,
    J_TUPLE,
    J_DICT,
    J_VIEW, /* dict.keys(), .values(), .items() */
    J_RANGE,
    J_ITER,  /* generators and iterators: each item comes out once */
    J_SLICE, /* a[b:c:d]'s subscript */
    J_NAMESPACE,
    J_LOOP,
    J_MACRO,
    J_METHOD,   /* a method bound to its object: "x".upper */
    J_FUNCTION, /* range, dict, namespace, raise_exception, ... */
    J_CYCLER,
    J_JOINER,
} j_kind;

typedef struct j_value {
    j_kind kind;
    union {
        bool truth;
        int64_t integer;
        double real;
        const struct j_text *text;
        const struct j_undefined *undefined; /* NULL: nothing is known about it */
        struct j_list *list;                 /* of a list or a tuple */
        struct j_dict *dict;                 /* of a dict or a namespace */
        const struct j_view *view;
        const struct j_range *range;
        struct j_iter *iter;
        const struct j_slice *slice;
        struct j_loop *loop;
        const struct j_macro *macro;
        const struct j_method *method;
        const struct j_function *function;
        struct j_cycler *cycler;
        struct j_joiner *joiner;
    } as;
} j_value;

/* Text that grew by concatenation keeps room behind it: a + b extends a in place when a is still
 * the end of its room, so that building a prompt piece by piece is linear. */
typedef struct j_room {
    char *data;
    size_t used, capacity;
} j_room;

typedef struct j_text {
    const char *data; /* [size], valid UTF-8, not terminated */
    size_t size, chars;
    bool safe;    /* markupsafe.Markup: concatenation escapes the other side */
    j_room *room; /* or NULL */
} j_text;

typedef struct j_undefined { /* why, for the message when it is used */
    const char *hint;        /* the whole message, or NULL: made from the two below */
    const char *owner;       /* the Python type it was looked up on, or NULL: a variable */
    const j_text *name;      /* or NULL: an element, not an attribute */
} j_undefined;

/* Like text, a list that grew by a + b keeps room behind it for the next sum. */
typedef struct j_list {
    j_value *items;
    int n, capacity;
    int *used; /* how many items of the room are taken, by all lists in it; NULL: not shared */
} j_list;

typedef struct j_entry {
    j_value key, value;
    uint64_t hash;
} j_entry;

typedef struct j_dict { /* in order of insertion */
    j_entry *entries;
    int n, capacity;
    int *table; /* [table_size] 1 + index into entries, 0 is empty; NULL while n is small */
    int table_size;
} j_dict;

typedef enum j_part { J_KEYS, J_VALUES, J_ITEMS } j_part;

typedef struct j_view {
    const j_dict *dict;
    j_part part;
} j_view;

typedef struct j_range {
    int64_t start, stop, step, n;
} j_range;

typedef struct j_slice {
    j_value start, stop, step; /* none where left out */
} j_slice;

typedef struct j_cycler {
    const j_list *items;
    int at;
} j_cycler;

typedef struct j_joiner {
    j_value separator;
    bool used;
} j_joiner;

enum {
    MAX_STEPS = 10 * 1000 * 1000,
    MAX_DEPTH = 600,        /* nested evaluations; a macro call takes about six */
    MAX_BYTES = 512 << 20,  /* of arena */
    MAX_OUTPUT = 64 << 20,  /* of any one text */
    MAX_RANGE = 100 * 1000, /* items of a range(), as in jinja2's sandbox */
};

typedef struct j_run {
    arena *arena;
    size_t bytes;
    int64_t steps;
    int depth, line;
    bool failed;
    weir_status status;
    char message[232];

    /* rendering only */
    struct j_builder *out;   /* where output goes now: the result, or a block being captured */
    const j_dict *context;   /* the caller's variables */
    struct j_binding *spare; /* bindings of finished scopes, for reuse */
    int64_t now;             /* seconds since 1970 */
} j_run;

/* ---- the run */

void *j_alloc(j_run *r, size_t count, size_t size); /* zeroed; NULL when failed */
bool j_step(j_run *r, size_t bytes); /* counts one step and bytes of text; false when failed */
bool j_enter(j_run *r);              /* one recursion deeper; false when too deep or failed */
void j_leave(j_run *r);
/* Keeps the first message, with the line; returns an undefined value. */
j_value j_fail(j_run *r, const char *format, ...) WEIR_PRINTF(2, 3);
j_value j_fail_memory(j_run *r);
j_value j_fail_undefined(j_run *r, j_value v); /* what using an undefined value says */

/* ---- making values */

j_value j_none(void);
j_value j_bool(bool truth);
j_value j_int(int64_t integer);
j_value j_float(double real);
j_value j_missing(void);
j_value j_undefined_hint(j_run *r, const char *hint); /* literal */
j_value j_undefined_name(j_run *r, const char *owner, const j_text *name);
j_value j_from_json(j_run *r, const json_t *json); /* text is borrowed from json */

/* ---- text: text.c */

typedef struct j_builder { /* all-zero is empty */
    char *data;
    size_t size, capacity;
} j_builder;

void j_put(j_run *r, j_builder *b, const char *data, size_t size);
void j_puts(j_run *r, j_builder *b, const char *text);
void j_put_char(j_run *r, j_builder *b, uint32_t c);
void j_put_text(j_run *r, j_builder *b, const j_text *t);
void j_put_str(j_run *r, j_builder *b, j_value v);  /* str(v) */
void j_put_repr(j_run *r, j_builder *b, j_value v); /* repr(v) */
j_value j_finish(j_run *r, j_builder *b);           /* the text built; b is empty again */

j_value j_text_of(j_run *r, const char *data, size_t size); /* borrows data */
j_value j_text_copy(j_run *r, const char *data, size_t size);
j_value j_text_literal(j_run *r, const char *text); /* borrows */
j_value j_mark_safe(j_run *r, j_value text, bool safe);
j_value j_fixed(j_run *r, j_value text); /* without room: never grown in place */
j_value j_str(j_run *r, j_value v);      /* str(v): plain text */
j_value j_soft(j_run *r, j_value v);     /* text as it is, anything else by j_str */
j_value j_escape(j_run *r, j_value v);   /* HTML-escaped and safe; safe text as it is */
j_value j_concat(j_run *r, const j_text *a, const j_text *b);
bool j_text_is(const j_text *t, const char *literal);
bool j_text_equal(const j_text *a, const j_text *b);
int j_text_compare(const j_text *a, const j_text *b); /* by code points */
bool j_is_text(j_value v, const char *literal);
size_t j_decode(const char *at, uint32_t *c); /* bytes of the code point at `at` */
size_t j_encode(uint32_t c, char out[4]);
size_t j_offset(const j_text *t, size_t index); /* byte offset of code point `index` */
j_value j_part_of(j_run *r, const j_text *t, size_t from, size_t to); /* bytes; shares data */
size_t j_find(const char *in, size_t in_size, const char *what, size_t size); /* or SIZE_MAX */

/* ---- lists and dicts: value.c */

j_list *j_list_new(j_run *r, int capacity);
bool j_push(j_run *r, j_list *l, j_value v);
j_value j_list_value(j_list *l);
j_value j_tuple_value(j_list *l);
j_value j_pair(j_run *r, j_value a, j_value b); /* a tuple */
j_dict *j_dict_new(j_run *r, int capacity);
bool j_dict_set(j_run *r, j_dict *d, j_value key, j_value value);
const j_value *j_dict_get(j_run *r, const j_dict *d, j_value key); /* NULL: absent */
const j_value *j_dict_find(const j_dict *d, const j_text *key);
j_dict *j_dict_copy(j_run *r, const j_dict *d);
j_value j_dict_value(j_dict *d);
j_value j_view_at(j_run *r, const j_view *v, int i);
bool j_hash(j_run *r, j_value v, uint64_t *hash); /* false, failed: unhashable */

/* ---- what Python's operators ask: value.c */

bool j_is_number(j_value v);   /* bool, int or float */
bool j_is_sequence(j_value v); /* list or tuple */
double j_as_float(j_value v);
const char *j_type_name(j_value v);
bool j_truth(j_run *r, j_value v);
bool j_equal(j_run *r, j_value a, j_value b);
bool j_same(j_value a, j_value b); /* `is` */
/* a < b; fails where Python has no order. */
bool j_less(j_run *r, j_value a, j_value b);
bool j_contains(j_run *r, j_value in, j_value what);
bool j_length(j_run *r, j_value v, int64_t *length); /* false: has none (not failed) */

/* ---- iteration: iter.c */

/* One place in an iteration.  next() writes an item or returns false at the end or on failure. */
typedef struct j_iter {
    bool (*next)(j_run *r, struct j_iter *it, j_value *item);
    j_value over;          /* what is walked over */
    struct j_iter *source; /* of a generator */
    int64_t at;
    void *more;       /* a generator's own state */
    const char *type; /* its Python type */
} j_iter;

j_iter *j_iter_new(j_run *r, j_value over); /* NULL, failed: not iterable */
bool j_iterable(j_value v);
bool j_next(j_run *r, j_iter *it, j_value *item);
j_value j_iter_value(j_iter *it);
j_list *j_collect(j_run *r, j_value over); /* list(over); NULL when failed */

/* ---- attributes and subscripts: access.c */

j_value j_attribute(j_run *r, j_value of, const j_text *name);     /* of.name */
j_value j_get_attribute(j_run *r, j_value of, const j_text *name); /* never an item */
j_value j_item(j_run *r, j_value of, j_value key);                 /* of[key] */

/* ---- numbers: number.c */

j_value j_add(j_run *r, j_value a, j_value b);
j_value j_subtract(j_run *r, j_value a, j_value b);
j_value j_multiply(j_run *r, j_value a, j_value b);
j_value j_divide(j_run *r, j_value a, j_value b);
j_value j_floor_divide(j_run *r, j_value a, j_value b);
j_value j_modulo(j_run *r, j_value a, j_value b);
j_value j_power(j_run *r, j_value a, j_value b);
j_value j_negate(j_run *r, j_value a);
void j_put_int(j_run *r, j_builder *b, int64_t i);
void j_put_float(j_run *r, j_builder *b, double x); /* repr: the shortest that reads back */
bool j_read_int(const j_text *t, int base, int64_t *out);
bool j_read_float(const j_text *t, double *out);
bool j_int_of_float(double x, int64_t *out); /* truncates; false when it does not fit */
j_value j_round(j_run *r, j_value v, int64_t digits);

/* ---- characters: unicode.c */

bool j_is_space(uint32_t c);
bool j_is_printable(uint32_t c);
bool j_is_alpha(uint32_t c);
bool j_is_word(uint32_t c); /* letters, digits, underscore: \w */
bool j_is_decimal(uint32_t c);
bool j_is_line_end(uint32_t c);
typedef enum j_case { J_UPPER, J_LOWER, J_TITLE, J_CAPITAL, J_SWAP, J_FOLD } j_case;
j_value j_recase(j_run *r, const j_text *t, j_case how);
bool j_is_cased_as(const j_text *t, j_case how); /* islower, isupper, istitle */

/* ---- text from values */

void j_put_json(j_run *r, j_builder *b, j_value v, bool ascii, j_value indent, j_value separators,
                bool sort_keys);
