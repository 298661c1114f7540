/* ast.h - a template as a tree, and the three passes that make one.
 *
 *     source --lexer.c--> tokens --parser.c, expression.c--> tree
 *            --scope.c--> the same tree, names hoisted and filters found
 *
 * All nodes have one shape; the table says which fields an operation uses.  Lists are chained by
 * `next`.  Everything lies in the arena of the compiling run, which the template keeps.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "text/jinja/value.h"

/* clang-format off */
typedef enum j_op {
    /* expressions */
    OP_CONST,     /* value                                                                   */
    OP_NAME,      /* name                                                                    */
    OP_LIST,      /* list                                                                    */
    OP_TUPLE,     /* list; also a target of assignment                                       */
    OP_DICT,      /* list of OP_PAIR                                                         */
    OP_PAIR,      /* a: b                                                                    */
    OP_ATTRIBUTE, /* a.name; as a target: a is an OP_NAME, of a namespace                    */
    OP_ITEM,      /* a[b]                                                                    */
    OP_SLICE,     /* a:b:c, each may be NULL; only as the b of an OP_ITEM                    */
    OP_CALL,      /* a(list)                                                                 */
    OP_NAMED,     /* name=a, in an argument list                                             */
    OP_SPREAD,    /* *a, in an argument list                                                 */
    OP_SPREAD_NAMED, /* **a, in an argument list                                             */
    OP_FILTER,    /* a|name(list); a is NULL in a filter or set block                        */
    OP_TEST,      /* a is name(list)                                                         */
    OP_NOT, OP_NEGATE, OP_PLUS,                                                   /* a       */
    OP_AND, OP_OR,                                                                /* a, b    */
    OP_ADD, OP_SUBTRACT, OP_MULTIPLY, OP_DIVIDE, OP_FLOOR_DIVIDE, OP_MODULO, OP_POWER, /* a, b */
    OP_CONCAT,    /* list, joined as text                                                    */
    OP_COMPARE,   /* a, then list of the ones below                                          */
    OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NOT_IN, /* ... <op> a                */
    OP_CHOICE,    /* b if a else c; c may be NULL                                            */
    /* statements */
    OP_DATA,      /* value, text written as it is                                            */
    OP_PRINT,     /* a                                                                       */
    OP_SET,       /* target a = b                                                            */
    OP_SET_BLOCK, /* target a = the output of list through the filter b (or NULL)            */
    OP_FOR,       /* target a, in b, if c; list; other is the else; flag: recursive          */
    OP_IF,        /* a; list; other is the else                                              */
    OP_MACRO,     /* name; params are OP_PARAM in c; list                                    */
    OP_PARAM,     /* name, default a or NULL                                                 */
    OP_CALL_BLOCK, /* call a; c and list as in OP_MACRO                                      */
    OP_FILTER_BLOCK, /* filter b over list                                                   */
    OP_WITH,      /* c: list of OP_SET; list                                                 */
    OP_GENERATION, /* list                                                                   */
    OP_BREAK, OP_CONTINUE,
    OP_HOIST,     /* name is known to this scope from its start, and has no value yet        */
} j_op;
/* clang-format on */

enum { /* flags */
       USES_CALLER = 1,
       USES_KWARGS = 2,
       USES_VARARGS = 4, /* of macros: the body reads these names */
       RECURSIVE = 8,    /* of loops */
};

typedef struct j_node {
    j_op op;
    int line, flags;
    const j_text *name;
    j_value value;
    struct j_node *a, *b, *c, *list, *other, *next;
    const struct j_function *function; /* a filter's or test's; NULL when jinja has no such */
} j_node;

/* ---- tokens */

typedef enum j_token_kind {
    T_END,
    T_DATA,
    T_PRINT_BEGIN,
    T_PRINT_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_TEXT,
    T_NUMBER,
    T_OPERATOR
} j_token_kind;

typedef struct j_token {
    j_token_kind kind;
    int line;
    j_value value; /* of data, names, text, numbers */
    char op[2];    /* of an operator, the second is 0 when it is one character */
} j_token;

typedef struct j_tokens {
    j_token *items; /* ends in T_END */
    int n, capacity;
} j_tokens;

bool j_lex(j_run *r, const char *source, size_t size, j_tokens *out);

/* ---- the parser's inside: shared by parser.c and expression.c */

typedef struct j_parser {
    j_run *run;
    const j_token *at;
    int loops; /* loops around the current place, within the same macro */
} j_parser;

typedef struct j_chain { /* a list of nodes being built */
    j_node *first, **last;
} j_chain;

j_node *j_node_new(j_parser *p, j_op op);
void j_chain_add(j_chain *c, j_node *n);
bool j_is_op(const j_parser *p, const char *op);
bool j_is_name(const j_parser *p, const char *name);
bool j_skip_op(j_parser *p, const char *op);
bool j_skip_name(j_parser *p, const char *name);
bool j_expect_op(j_parser *p, const char *op);
j_node *j_unexpected(j_parser *p); /* fails, naming the current token */
const j_text *j_expect_name(j_parser *p);
void j_advance(j_parser *p);

j_node *j_parse_expression(j_parser *p);
/* Without the `x if y else z` form, for places where `if` means something else. */
j_node *j_parse_simple(j_parser *p);
/* One expression or several with commas; stop is a name that may follow, or NULL. */
j_node *j_parse_tuple(j_parser *p, bool choice, const char *stop);
j_node *j_parse_target(j_parser *p, bool namespaces, const char *stop);
j_node *j_parse_filters(j_parser *p, j_node *input, bool inline_first);

/* ---- passes */

j_node *j_parse(j_run *r,
                const j_token *tokens); /* the statements; NULL also when there are none */
/* Hoists names and finds filters and tests.  Returns the list, new at its front. */
j_node *j_resolve(j_run *r, j_node *body);
