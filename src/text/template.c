/* template.c - compiling a chat template once, rendering it many times.
 *
 * A compiled template is an arena with a tree that nothing changes any more, so threads may render
 * it at the same time.  A rendering has an arena of its own, which goes when it ends.
 *
 * Test: tests/text/test_template.c.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L /* uselocale */

#include "text/template.h"

#include "text/jinja/run.h"

#include <locale.h>
#include <time.h>

struct chat_template {
    arena *arena;
    const j_node *body;
};

/* Numbers are read and written in the C locale whatever the host program has set. */
typedef struct locale_guard {
    locale_t ours, theirs;
} locale_guard;

static bool enter_c_locale(locale_guard *g) {
    g->ours = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (g->ours == (locale_t)0) return false;
    g->theirs = uselocale(g->ours);
    return true;
}

static void leave_c_locale(const locale_guard *g) {
    uselocale(g->theirs);
    freelocale(g->ours);
}

static weir_status failure(const j_run *r, weir_error *err) {
    return weir_fail(err, r->status, "%s", r->message);
}

static weir_status compile(chat_template *t, const char *source, size_t size, weir_error *err) {
    j_run run = {.arena = t->arena};
    j_tokens tokens;
    if (j_lex(&run, source, size, &tokens)) {
        t->body = j_resolve(&run, j_parse(&run, tokens.items));
    }
    return run.failed ? failure(&run, err) : WEIR_OK;
}

weir_status template_compile(chat_template **out, const char *source, size_t size,
                             weir_error *err) {
    locale_guard guard;
    *out = NULL;
    arena *a = arena_new();
    chat_template *t = a ? ARENA_NEW(a, chat_template) : NULL;
    if (!t || !enter_c_locale(&guard)) {
        arena_free(a);
        return weir_fail(err, WEIR_ERR_MEMORY, "chat template: out of memory");
    }
    t->arena = a;
    const weir_status status = compile(t, source, size, err);
    leave_c_locale(&guard);
    if (status == WEIR_OK)
        *out = t;
    else
        arena_free(a);
    return status;
}

void template_free(chat_template *t) {
    if (t) arena_free(t->arena);
}

/* The time strftime_now tells: what the caller fixed, else the clock. */
static int64_t now(const json_t *context) {
    const json_t *fixed = json_object_get(context, TEMPLATE_NOW);
    return json_is_integer(fixed) ? json_integer_value(fixed) : (int64_t)time(NULL);
}

static weir_status render(const chat_template *t, const json_t *context, arena *a, buffer *out,
                          weir_error *err) {
    j_builder text = {0};
    j_run run = {.arena = a, .out = &text, .now = now(context)};
    const j_value variables = j_from_json(&run, context);
    if (!run.failed) run.context = variables.as.dict;
    j_scope *scope = j_scope_new(&run, NULL);
    if (scope) j_exec(&run, scope, t->body);
    if (run.failed) return failure(&run, err);
    if (text.size && !buffer_append(out, text.data, text.size)) {
        return weir_fail(err, WEIR_ERR_MEMORY, "chat template: out of memory");
    }
    return WEIR_OK;
}

weir_status template_render(const chat_template *t, const json_t *context, buffer *out,
                            weir_error *err) {
    locale_guard guard;
    if (!json_is_object(context)) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "chat template: the context is no JSON object");
    }
    arena *a = arena_new();
    if (!a || !enter_c_locale(&guard)) {
        arena_free(a);
        return weir_fail(err, WEIR_ERR_MEMORY, "chat template: out of memory");
    }
    const weir_status status = render(t, context, a, out, err);
    leave_c_locale(&guard);
    arena_free(a);
    return status;
}
