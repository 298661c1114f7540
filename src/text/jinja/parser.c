/* parser.c - parsing statements, and the parser's small tools.
 *
 *     body := (text | {{ tuple }} | {% statement %})...
 *
 * A statement that has a body ends in its own tag ({% endfor %}); body() stops in front of any
 * name in its list of ends and leaves it for the caller.  Tags that need other templates (block,
 * extends, include, import) or change escaping are refused by name.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#include "text/jinja/ast.h"

#include <string.h>

/* ---- tools */

j_node *j_node_new(j_parser *p, j_op op) {
    j_node *n = j_alloc(p->run, 1, sizeof(*n));
    if (!n) return NULL;
    n->op = op;
    n->line = p->at->line;
    return n;
}

void j_chain_add(j_chain *c, j_node *n) {
    if (!n) return;
    if (!c->first) c->first = n;
    *c->last = n;
    c->last = &n->next;
}

bool j_is_op(const j_parser *p, const char *op) {
    return p->at->kind == T_OPERATOR && p->at->op[0] == op[0] && p->at->op[1] == op[1];
}

bool j_is_name(const j_parser *p, const char *name) {
    return p->at->kind == T_NAME && j_text_is(p->at->value.as.text, name);
}

void j_advance(j_parser *p) {
    if (p->at->kind != T_END) p->at++;
    p->run->line = p->at->line;
}

bool j_skip_op(j_parser *p, const char *op) {
    if (p->run->failed || !j_is_op(p, op)) return false;
    j_advance(p);
    return true;
}

bool j_skip_name(j_parser *p, const char *name) {
    if (p->run->failed || !j_is_name(p, name)) return false;
    j_advance(p);
    return true;
}

static const char *describe(const j_token *t) {
    switch (t->kind) {
    case T_END: return "end of template";
    case T_DATA: return "text";
    case T_PRINT_BEGIN: return "{{";
    case T_PRINT_END: return "}}";
    case T_BLOCK_BEGIN: return "{%";
    case T_BLOCK_END: return "%}";
    case T_NAME: return "a name";
    case T_TEXT: return "a string";
    case T_NUMBER: return "a number";
    case T_OPERATOR: break;
    }
    return "an operator";
}

static void fail_token(j_parser *p, const char *wanted) {
    const j_token *t = p->at;
    p->run->line = t->line;
    if (t->kind == T_OPERATOR || t->kind == T_NAME) {
        const bool name = t->kind == T_NAME;
        const size_t size = name ? t->value.as.text->size : t->op[1] ? 2 : 1;
        j_fail(p->run, "unexpected '%.*s'%s%s", (int)MIN_OF(size, (size_t)60),
               name ? t->value.as.text->data : t->op, *wanted ? ", expected " : "", wanted);
    } else {
        j_fail(p->run, "unexpected %s%s%s", describe(t), *wanted ? ", expected " : "", wanted);
    }
}

j_node *j_unexpected(j_parser *p) {
    fail_token(p, "");
    return NULL;
}

bool j_expect_op(j_parser *p, const char *op) {
    if (j_skip_op(p, op)) return true;
    fail_token(p, op);
    return false;
}

const j_text *j_expect_name(j_parser *p) {
    if (p->run->failed || p->at->kind != T_NAME) {
        fail_token(p, "a name");
        return NULL;
    }
    const j_text *name = p->at->value.as.text;
    j_advance(p);
    return name;
}

static bool expect_name(j_parser *p, const char *name) {
    if (j_skip_name(p, name)) return true;
    fail_token(p, name);
    return false;
}

static bool expect_kind(j_parser *p, j_token_kind kind) {
    if (!p->run->failed && p->at->kind == kind) {
        j_advance(p);
        return true;
    }
    fail_token(p, describe(&(j_token){.kind = kind}));
    return false;
}

/* ---- bodies */

static j_node *statement(j_parser *p);

static bool at_end_tag(const j_parser *p, const char *const *ends) {
    for (; *ends; ends++) {
        if (j_is_name(p, *ends)) return true;
    }
    return false;
}

/* Statements up to a tag named in ends, whose name is then the current token.  The template itself
 * has no such tag (an empty list) and ends with the tokens. */
static j_node *body(j_parser *p, const char *const *ends) {
    j_node *first = NULL;
    j_chain list = {NULL, &first};
    while (!p->run->failed && p->at->kind != T_END) {
        j_node *n = NULL;
        if (p->at->kind == T_DATA) {
            n = j_node_new(p, OP_DATA);
            if (n) n->value = p->at->value;
            j_advance(p);
        } else if (p->at->kind == T_PRINT_BEGIN) {
            j_advance(p);
            n = j_node_new(p, OP_PRINT);
            if (n) n->a = j_parse_tuple(p, true, NULL);
            expect_kind(p, T_PRINT_END);
        } else {
            expect_kind(p, T_BLOCK_BEGIN);
            if (at_end_tag(p, ends)) return first;
            n = statement(p);
            expect_kind(p, T_BLOCK_END);
        }
        j_chain_add(&list, n);
    }
    if (!p->run->failed && *ends) {
        j_fail(p->run, "unexpected end of template, expected %s", *ends);
    }
    return p->run->failed ? NULL : first;
}

/* The body behind a tag, and its end tag; the innermost `loops` are those inside it. */
static j_node *body_until(j_parser *p, const char *end, int loops) {
    const int outer = p->loops;
    p->loops = loops;
    j_skip_op(p, ":");
    expect_kind(p, T_BLOCK_END);
    j_node *list = body(p, (const char *const[]){end, NULL});
    p->loops = outer;
    expect_name(p, end);
    return list;
}

/* ---- statements, each behind its own name */

static j_node *parse_set(j_parser *p, j_node *n) {
    n->a = j_parse_target(p, true, NULL);
    if (j_skip_op(p, "=")) {
        n->op = OP_SET;
        n->b = j_parse_tuple(p, true, NULL);
        return n;
    }
    n->op = OP_SET_BLOCK;
    n->b = j_parse_filters(p, NULL, false);
    n->list = body_until(p, "endset", p->loops);
    return n;
}

static j_node *parse_for(j_parser *p, j_node *n) {
    n->op = OP_FOR;
    n->a = j_parse_target(p, false, "in");
    expect_name(p, "in");
    n->b = j_parse_tuple(p, false, "recursive");
    if (j_skip_name(p, "if")) n->c = j_parse_expression(p);
    if (j_skip_name(p, "recursive")) n->flags = RECURSIVE;
    p->loops++;
    j_skip_op(p, ":");
    expect_kind(p, T_BLOCK_END);
    n->list = body(p, (const char *const[]){"endfor", "else", NULL});
    p->loops--;
    if (j_skip_name(p, "else"))
        n->other = body_until(p, "endfor", p->loops);
    else
        expect_name(p, "endfor");
    return n;
}

/* elif is an if inside the else; the chain is built without recursion. */
static j_node *parse_if(j_parser *p, j_node *n) {
    for (j_node *branch = n; !p->run->failed;) {
        branch->op = OP_IF;
        branch->a = j_parse_tuple(p, false, NULL);
        j_skip_op(p, ":");
        expect_kind(p, T_BLOCK_END);
        branch->list = body(p, (const char *const[]){"elif", "else", "endif", NULL});
        if (j_skip_name(p, "elif")) {
            branch->other = j_node_new(p, OP_IF);
            if (!branch->other) break;
            branch = branch->other;
            continue;
        }
        if (j_skip_name(p, "else"))
            branch->other = body_until(p, "endif", p->loops);
        else
            expect_name(p, "endif");
        break;
    }
    return n;
}

/* (name, name=default, ...) of a macro or call block */
static j_node *parse_parameters(j_parser *p) {
    j_node *first = NULL;
    j_chain list = {NULL, &first};
    bool defaults = false;
    if (!j_expect_op(p, "(")) return NULL;
    while (!p->run->failed && !j_is_op(p, ")")) {
        if (first && !j_expect_op(p, ",")) return NULL;
        j_node *n = j_node_new(p, OP_PARAM);
        if (!n) return NULL;
        n->name = j_expect_name(p);
        if (j_skip_op(p, "=")) {
            n->a = j_parse_expression(p);
            defaults = true;
        } else if (defaults) {
            j_fail(p->run, "a parameter without default follows one with default");
        }
        for (const j_node *other = first; other && !p->run->failed; other = other->next) {
            if (j_text_equal(other->name, n->name)) j_fail(p->run, "two parameters of one name");
        }
        j_chain_add(&list, n);
    }
    j_expect_op(p, ")");
    return first;
}

static j_node *parse_macro(j_parser *p, j_node *n) {
    n->op = OP_MACRO;
    n->name = j_expect_name(p);
    n->c = parse_parameters(p);
    n->list = body_until(p, "endmacro", 0);
    return n;
}

static j_node *parse_call_block(j_parser *p, j_node *n) {
    n->op = OP_CALL_BLOCK;
    if (j_is_op(p, "(")) n->c = parse_parameters(p);
    n->a = j_parse_expression(p);
    if (n->a && n->a->op != OP_CALL) j_fail(p->run, "expected call");
    n->list = body_until(p, "endcall", 0);
    return n;
}

static j_node *parse_filter_block(j_parser *p, j_node *n) {
    n->op = OP_FILTER_BLOCK;
    n->b = j_parse_filters(p, NULL, true);
    n->list = body_until(p, "endfilter", p->loops);
    return n;
}

static j_node *parse_with(j_parser *p, j_node *n) {
    n->op = OP_WITH;
    j_chain list = {NULL, &n->c};
    while (!p->run->failed && p->at->kind != T_BLOCK_END) {
        if (n->c && !j_expect_op(p, ",")) return NULL;
        j_node *set = j_node_new(p, OP_SET);
        if (!set) return NULL;
        set->a = j_parse_target(p, false, NULL);
        if (!j_expect_op(p, "=")) return NULL;
        set->b = j_parse_expression(p);
        j_chain_add(&list, set);
    }
    n->list = body_until(p, "endwith", p->loops);
    return n;
}

static j_node *parse_print(j_parser *p, j_node *n) {
    n->op = OP_PRINT;
    n->a = j_node_new(p, OP_CONCAT); /* several values print one after the other */
    if (!n->a) return NULL;
    j_chain list = {NULL, &n->a->list};
    while (!p->run->failed && p->at->kind != T_BLOCK_END) {
        if (n->a->list && !j_expect_op(p, ",")) return NULL;
        j_chain_add(&list, j_parse_expression(p));
    }
    return n;
}

static j_node *parse_generation(j_parser *p, j_node *n) {
    n->op = OP_GENERATION;
    n->list = body_until(p, "endgeneration", 0);
    return n;
}

static j_node *parse_loop_control(j_parser *p, j_node *n, j_op op) {
    n->op = op;
    if (p->loops == 0)
        j_fail(p->run, "%s outside of a loop", op == OP_BREAK ? "break" : "continue");
    return n;
}

static j_node *known_statement(j_parser *p, const j_text *name) {
    j_node *n = j_node_new(p, OP_DATA);
    if (!n) return NULL;
    if (j_text_is(name, "set")) return parse_set(p, n);
    if (j_text_is(name, "for")) return parse_for(p, n);
    if (j_text_is(name, "if")) return parse_if(p, n);
    if (j_text_is(name, "macro")) return parse_macro(p, n);
    if (j_text_is(name, "call")) return parse_call_block(p, n);
    if (j_text_is(name, "filter")) return parse_filter_block(p, n);
    if (j_text_is(name, "with")) return parse_with(p, n);
    if (j_text_is(name, "print")) return parse_print(p, n);
    if (j_text_is(name, "generation")) return parse_generation(p, n);
    if (j_text_is(name, "break")) return parse_loop_control(p, n, OP_BREAK);
    if (j_text_is(name, "continue")) return parse_loop_control(p, n, OP_CONTINUE);
    j_fail(p->run, "the tag {%% %.*s %%} is unknown or not supported here",
           (int)MIN_OF(name->size, (size_t)60), name->data);
    return NULL;
}

static j_node *statement(j_parser *p) {
    const int line = p->at->line;
    const j_text *name = j_expect_name(p);
    if (!name || !j_enter(p->run)) return NULL;
    p->run->line = line;
    j_node *n = known_statement(p, name);
    if (n) n->line = line;
    j_leave(p->run);
    return p->run->failed ? NULL : n;
}

j_node *j_parse(j_run *r, const j_token *tokens) {
    j_parser p = {.run = r, .at = tokens};
    r->line = 1;
    return body(&p, (const char *const[]){NULL});
}
