/* expression.c - parsing expressions: recursive descent with jinja2's precedence.
 *
 *     choice   := or [if or [else choice]]...
 *     or, and  := left to right        not := "not" not | compare
 *     compare  := sum [(== != < <= > >= in "not in") sum]...
 *     sum      := concat [(+ -) concat]...
 *     concat   := product [~ product]...
 *     product  := power [(* / // %) power]...
 *     power    := unary [** unary]...            (from the left, as jinja2 does)
 *     unary    := [- +] unary | primary postfix... filter...
 *     postfix  := .name | .0 | [subscript] | (arguments)
 *     filter   := |name(arguments) | is [not] name(arguments) | (arguments)
 *
 * Every function returns NULL once the run has failed.  Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/ast.h"

#include <string.h>

static j_node *binary(j_parser *p, j_op op, j_node *left, j_node *right, int line) {
    j_node *n = j_node_new(p, op);
    if (!n) return NULL;
    n->line = line;
    n->a = left;
    n->b = right;
    return n;
}

static j_node *unary(j_parser *p, bool filters);

/* ---- lists, dicts, names, numbers */

static j_node *parse_list(j_parser *p) {
    j_node *n = j_node_new(p, OP_LIST);
    if (!n || !j_expect_op(p, "[")) return NULL;
    j_chain items = {NULL, &n->list};
    while (!p->run->failed && !j_is_op(p, "]")) {
        if (n->list && !j_expect_op(p, ",")) return NULL;
        if (j_is_op(p, "]")) break;
        j_chain_add(&items, j_parse_expression(p));
    }
    return j_expect_op(p, "]") ? n : NULL;
}

static j_node *parse_dict(j_parser *p) {
    j_node *n = j_node_new(p, OP_DICT);
    if (!n || !j_expect_op(p, "{")) return NULL;
    j_chain items = {NULL, &n->list};
    while (!p->run->failed && !j_is_op(p, "}")) {
        if (n->list && !j_expect_op(p, ",")) return NULL;
        if (j_is_op(p, "}")) break;
        j_node *pair = j_node_new(p, OP_PAIR);
        if (!pair) return NULL;
        pair->a = j_parse_expression(p);
        if (!j_expect_op(p, ":")) return NULL;
        pair->b = j_parse_expression(p);
        j_chain_add(&items, pair);
    }
    return j_expect_op(p, "}") ? n : NULL;
}

/* Strings beside each other are one. */
static j_node *parse_strings(j_parser *p) {
    j_node *n = j_node_new(p, OP_CONST);
    if (!n) return NULL;
    n->value = p->at->value;
    j_advance(p);
    while (p->at->kind == T_TEXT) {
        n->value = j_concat(p->run, n->value.as.text, p->at->value.as.text);
        if (p->run->failed) return NULL;
        j_advance(p);
    }
    /* renderings only read the tree: they must not grow a constant in place */
    n->value = j_fixed(p->run, n->value);
    return n;
}

static j_node *constant(j_parser *p, j_value value) {
    j_node *n = j_node_new(p, OP_CONST);
    if (n) n->value = value;
    j_advance(p);
    return n;
}

static j_node *parse_name(j_parser *p) {
    if (j_is_name(p, "true") || j_is_name(p, "True")) return constant(p, j_bool(true));
    if (j_is_name(p, "false") || j_is_name(p, "False")) return constant(p, j_bool(false));
    if (j_is_name(p, "none") || j_is_name(p, "None")) return constant(p, j_none());
    j_node *n = j_node_new(p, OP_NAME);
    if (n) n->name = p->at->value.as.text;
    j_advance(p);
    return n;
}

static j_node *primary(j_parser *p) {
    if (p->at->kind == T_NAME) return parse_name(p);
    if (p->at->kind == T_TEXT) return parse_strings(p);
    if (p->at->kind == T_NUMBER) return constant(p, p->at->value);
    if (j_is_op(p, "[")) return parse_list(p);
    if (j_is_op(p, "{")) return parse_dict(p);
    if (!j_is_op(p, "(")) return j_unexpected(p);
    j_advance(p);
    if (j_is_op(p, ")")) { /* the empty tuple */
        j_advance(p);
        return j_node_new(p, OP_TUPLE);
    }
    j_node *n = j_parse_tuple(p, true, NULL);
    return j_expect_op(p, ")") ? n : NULL;
}

/* ---- what follows a primary */

static j_node *subscript(j_parser *p) {
    j_node *first = j_is_op(p, ":") ? NULL : j_parse_expression(p);
    if (!j_is_op(p, ":")) return first;
    j_node *n = j_node_new(p, OP_SLICE);
    if (!n) return NULL;
    j_advance(p);
    n->a = first;
    if (!j_is_op(p, ":") && !j_is_op(p, "]") && !j_is_op(p, ",")) n->b = j_parse_expression(p);
    if (j_skip_op(p, ":") && !j_is_op(p, "]") && !j_is_op(p, ",")) n->c = j_parse_expression(p);
    return n;
}

static j_node *parse_subscript(j_parser *p, j_node *of) {
    j_node *n = j_node_new(p, OP_ITEM);
    if (!n) return NULL;
    n->a = of;
    if (j_skip_op(p, ".")) {
        if (p->at->kind == T_NAME) {
            n->op = OP_ATTRIBUTE;
            n->name = p->at->value.as.text;
        } else if (p->at->kind == T_NUMBER && p->at->value.kind == J_INT) {
            n->b = constant(p, p->at->value);
            return n;
        } else {
            return j_unexpected(p);
        }
        j_advance(p);
        return n;
    }
    if (!j_expect_op(p, "[")) return NULL;
    j_node *key = subscript(p);
    if (j_is_op(p, ",")) { /* several: a tuple as key */
        n->b = j_node_new(p, OP_TUPLE);
        if (!n->b) return NULL;
        j_chain keys = {NULL, &n->b->list};
        j_chain_add(&keys, key);
        while (j_skip_op(p, ",")) j_chain_add(&keys, subscript(p));
    } else {
        n->b = key;
    }
    return j_expect_op(p, "]") ? n : NULL;
}

/* (a, *b, name=c, **d): positional before named, as in Python. */
static j_node *parse_arguments(j_parser *p) {
    j_node *first = NULL;
    j_chain list = {NULL, &first};
    j_op latest = OP_CONST;
    if (!j_expect_op(p, "(")) return NULL;
    while (!p->run->failed && !j_is_op(p, ")")) {
        if (first && !j_expect_op(p, ",")) return NULL;
        if (j_is_op(p, ")")) break;
        j_node *n = NULL;
        j_op op = OP_CONST;
        if (j_is_op(p, "*") || j_is_op(p, "**")) {
            op = j_is_op(p, "*") ? OP_SPREAD : OP_SPREAD_NAMED;
            n = j_node_new(p, op);
            j_advance(p);
        } else if (p->at->kind == T_NAME && p->at[1].kind == T_OPERATOR && p->at[1].op[0] == '=' &&
                   !p->at[1].op[1]) {
            op = OP_NAMED;
            n = j_node_new(p, op);
            if (n) n->name = p->at->value.as.text;
            p->at += 2;
        }
        j_node *value = j_parse_expression(p);
        if (p->run->failed) return NULL;
        /* each kind only behind those that may come before it */
        if (latest == OP_SPREAD_NAMED || (op == OP_CONST && latest != OP_CONST) ||
            (op == OP_SPREAD && latest == OP_SPREAD)) {
            j_fail(p->run, "invalid syntax for function call expression");
            return NULL;
        }
        latest = op == OP_NAMED && latest == OP_SPREAD ? OP_NAMED : op;
        if (n) n->a = value;
        j_chain_add(&list, n ? n : value);
    }
    j_expect_op(p, ")");
    return p->run->failed ? NULL : first;
}

static j_node *parse_call(j_parser *p, j_node *callee) {
    j_node *n = j_node_new(p, OP_CALL);
    if (!n) return NULL;
    n->a = callee;
    n->list = parse_arguments(p);
    return n;
}

static j_node *postfix(j_parser *p, j_node *n) {
    while (!p->run->failed) {
        if (j_is_op(p, ".") || j_is_op(p, "["))
            n = parse_subscript(p, n);
        else if (j_is_op(p, "("))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* name or name.name, as filters and tests may be called */
static const j_text *dotted_name(j_parser *p) {
    const j_text *name = j_expect_name(p);
    while (name && j_skip_op(p, ".")) {
        const j_text *more = j_expect_name(p);
        if (!more) return NULL;
        const j_text dot = {.data = ".", .size = 1, .chars = 1};
        j_value joined = j_concat(p->run, name, &dot);
        if (!p->run->failed) joined = j_concat(p->run, joined.as.text, more);
        name = p->run->failed ? NULL : joined.as.text;
    }
    return name;
}

j_node *j_parse_filters(j_parser *p, j_node *input, bool inline_first) {
    while (!p->run->failed && (inline_first || j_is_op(p, "|"))) {
        if (!inline_first) j_advance(p);
        inline_first = false;
        j_node *n = j_node_new(p, OP_FILTER);
        if (!n) return NULL;
        n->a = input;
        n->name = dotted_name(p);
        if (j_is_op(p, "(")) n->list = parse_arguments(p);
        input = n;
    }
    return p->run->failed ? NULL : input;
}

/* Can the current token begin the bare argument of a test: `x is divisibleby 3`? */
static bool begins_argument(const j_parser *p) {
    if (p->at->kind == T_NAME) {
        return !j_is_name(p, "else") && !j_is_name(p, "or") && !j_is_name(p, "and");
    }
    return p->at->kind == T_TEXT || p->at->kind == T_NUMBER || j_is_op(p, "[") || j_is_op(p, "{");
}

static j_node *parse_test(j_parser *p, j_node *of) {
    j_advance(p); /* is */
    const bool negated = j_skip_name(p, "not");
    j_node *n = j_node_new(p, OP_TEST);
    if (!n) return NULL;
    n->a = of;
    n->name = dotted_name(p);
    if (j_is_op(p, "(")) {
        n->list = parse_arguments(p);
    } else if (begins_argument(p)) {
        if (j_is_name(p, "is")) {
            j_fail(p->run, "tests with `is` cannot be chained");
            return NULL;
        }
        n->list = postfix(p, primary(p));
    }
    return negated ? binary(p, OP_NOT, n, NULL, n->line) : n;
}

static j_node *unary_inside(j_parser *p, bool filters) {
    const int line = p->at->line;
    j_node *n;
    if (j_skip_op(p, "-"))
        n = binary(p, OP_NEGATE, unary(p, false), NULL, line);
    else if (j_skip_op(p, "+"))
        n = binary(p, OP_PLUS, unary(p, false), NULL, line);
    else
        n = primary(p);
    n = postfix(p, n);
    while (filters && !p->run->failed) {
        if (j_is_op(p, "|"))
            n = j_parse_filters(p, n, false);
        else if (j_is_name(p, "is"))
            n = parse_test(p, n);
        else if (j_is_op(p, "("))
            n = parse_call(p, n);
        else
            break;
    }
    return p->run->failed ? NULL : n;
}

static j_node *unary(j_parser *p, bool filters) {
    if (!j_enter(p->run)) return NULL;
    j_node *n = unary_inside(p, filters);
    j_leave(p->run);
    return n;
}

/* ---- the ladder of precedence */

static j_node *power(j_parser *p) {
    const int line = p->at->line;
    j_node *left = unary(p, true);
    while (j_skip_op(p, "**")) left = binary(p, OP_POWER, left, unary(p, true), line);
    return left;
}

static j_node *product(j_parser *p) {
    const int line = p->at->line;
    j_node *left = power(p);
    for (;;) {
        if (j_skip_op(p, "*"))
            left = binary(p, OP_MULTIPLY, left, power(p), line);
        else if (j_skip_op(p, "/"))
            left = binary(p, OP_DIVIDE, left, power(p), line);
        else if (j_skip_op(p, "//"))
            left = binary(p, OP_FLOOR_DIVIDE, left, power(p), line);
        else if (j_skip_op(p, "%"))
            left = binary(p, OP_MODULO, left, power(p), line);
        else
            return left;
    }
}

static j_node *concat(j_parser *p) {
    j_node *left = product(p);
    if (!j_is_op(p, "~")) return left;
    j_node *n = j_node_new(p, OP_CONCAT);
    if (!n) return NULL;
    j_chain parts = {NULL, &n->list};
    j_chain_add(&parts, left);
    while (j_skip_op(p, "~")) j_chain_add(&parts, product(p));
    return n;
}

static j_node *sum(j_parser *p) {
    const int line = p->at->line;
    j_node *left = concat(p);
    for (;;) {
        if (j_skip_op(p, "+"))
            left = binary(p, OP_ADD, left, concat(p), line);
        else if (j_skip_op(p, "-"))
            left = binary(p, OP_SUBTRACT, left, concat(p), line);
        else
            return left;
    }
}

/* Takes a comparison operator; OP_CONST when there is none. */
static j_op comparison(j_parser *p) {
    static const struct {
        const char *text;
        j_op op;
    } ops[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<", OP_LT},
               {"<=", OP_LE}, {">", OP_GT},  {">=", OP_GE}};
    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        if (j_skip_op(p, ops[i].text)) return ops[i].op;
    }
    if (j_skip_name(p, "in")) return OP_IN;
    if (!j_is_name(p, "not") || p->at[1].kind != T_NAME ||
        !j_text_is(p->at[1].value.as.text, "in")) {
        return OP_CONST;
    }
    p->at += 2;
    return OP_NOT_IN;
}

static j_node *compare(j_parser *p) {
    j_node *left = sum(p), *n = NULL;
    j_chain operands = {0};
    for (j_op op; !p->run->failed && (op = comparison(p)) != OP_CONST;) {
        if (!n) {
            n = j_node_new(p, OP_COMPARE);
            if (!n) return NULL;
            n->a = left;
            operands.last = &n->list;
        }
        j_chain_add(&operands, binary(p, op, sum(p), NULL, p->at->line));
    }
    return n ? n : left;
}

static j_node *negation(j_parser *p) {
    const int line = p->at->line;
    if (!j_skip_name(p, "not")) return compare(p);
    if (!j_enter(p->run)) return NULL;
    j_node *n = binary(p, OP_NOT, negation(p), NULL, line);
    j_leave(p->run);
    return n;
}

static j_node *conjunction(j_parser *p) {
    const int line = p->at->line;
    j_node *left = negation(p);
    while (j_skip_name(p, "and")) left = binary(p, OP_AND, left, negation(p), line);
    return left;
}

j_node *j_parse_simple(j_parser *p) {
    const int line = p->at->line;
    j_node *left = conjunction(p);
    while (j_skip_name(p, "or")) left = binary(p, OP_OR, left, conjunction(p), line);
    return p->run->failed ? NULL : left;
}

j_node *j_parse_expression(j_parser *p) {
    if (!j_enter(p->run)) return NULL;
    const int line = p->at->line;
    j_node *n = j_parse_simple(p);
    while (!p->run->failed && j_skip_name(p, "if")) {
        j_node *test = j_parse_simple(p);
        j_node *other = j_skip_name(p, "else") ? j_parse_expression(p) : NULL;
        n = binary(p, OP_CHOICE, test, n, line);
        if (n) n->c = other;
    }
    j_leave(p->run);
    return p->run->failed ? NULL : n;
}

/* ---- several with commas, and targets */

static bool tuple_ends(const j_parser *p, const char *stop) {
    return p->at->kind == T_PRINT_END || p->at->kind == T_BLOCK_END || j_is_op(p, ")") ||
           (stop && j_is_name(p, stop));
}

j_node *j_parse_tuple(j_parser *p, bool choice, const char *stop) {
    if (tuple_ends(p, stop)) return j_unexpected(p);
    j_node *first = choice ? j_parse_expression(p) : j_parse_simple(p);
    if (p->run->failed || !j_is_op(p, ",")) return first;
    j_node *n = j_node_new(p, OP_TUPLE);
    if (!n) return NULL;
    j_chain items = {NULL, &n->list};
    j_chain_add(&items, first);
    while (!p->run->failed && j_skip_op(p, ",") && !tuple_ends(p, stop)) {
        j_chain_add(&items, choice ? j_parse_expression(p) : j_parse_simple(p));
    }
    return p->run->failed ? NULL : n;
}

/* A target is read as primaries; names, tuples and lists of names, and a.b where allowed. */
static bool is_target(const j_node *n) {
    if (!n) return false;
    if (n->op == OP_NAME || n->op == OP_ATTRIBUTE) return true;
    if (n->op != OP_TUPLE) return false;
    for (const j_node *item = n->list; item; item = item->next) {
        if (!is_target(item)) return false;
    }
    return true;
}

static j_node *one_target(j_parser *p, bool namespaces) {
    j_node *n = primary(p);
    if (!n || n->op != OP_NAME || !namespaces || !j_is_op(p, ".")) return n;
    j_node *attribute = j_node_new(p, OP_ATTRIBUTE);
    if (!attribute) return NULL;
    j_advance(p);
    attribute->a = n;
    attribute->name = j_expect_name(p);
    return attribute;
}

j_node *j_parse_target(j_parser *p, bool namespaces, const char *stop) {
    j_node *n = one_target(p, namespaces);
    if (j_is_op(p, ",")) {
        j_node *tuple = j_node_new(p, OP_TUPLE);
        if (!tuple) return NULL;
        j_chain items = {NULL, &tuple->list};
        j_chain_add(&items, n);
        while (!p->run->failed && j_skip_op(p, ",") && !tuple_ends(p, stop) && !j_is_op(p, "=")) {
            j_chain_add(&items, one_target(p, namespaces));
        }
        n = tuple;
    }
    if (p->run->failed) return NULL;
    if (!is_target(n)) {
        j_fail(p->run, "cannot assign to this");
        return NULL;
    }
    return n;
}
