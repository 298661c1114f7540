/* pretok.c - running the stages; pretok.h has the picture.
 *
 * Depth first: a piece that a stage cuts off goes through all later stages at once.  Merging
 * behaviours hold one piece back until the next one is known.
 *
 * SPDX-License-Identifier: MIT */
#include "text/pretok.h"

#include "base/unicode.h"
#include "text/bpe_vocab.h"

#include <string.h>

void pretok_clear(pretok *p) {
    for (int i = 0; i < p->n_stages; i++) regex_free(p->stages[i].regex);
    *p = (pretok){0};
}

weir_status pretok_add(pretok *p, const pretok_stage *stage, const char *what, weir_error *err) {
    if (p->n_stages == PRETOK_STAGES) {
        return weir_fail(err, WEIR_ERR_MODEL, "%s: more than %d pre-tokenizer stages", what,
                         PRETOK_STAGES);
    }
    p->stages[p->n_stages++] = *stage;
    return WEIR_OK;
}

weir_status pretok_add_split(pretok *p, const char *pattern, size_t size, split_behavior behavior,
                             bool invert, const char *what, weir_error *err) {
    pretok_stage stage = {.kind = STAGE_SPLIT, .behavior = behavior, .invert = invert};
    WEIR_TRY(regex_compile(&stage.regex, pattern, size, what, err));
    const weir_status status = pretok_add(p, &stage, what, err);
    if (status != WEIR_OK) regex_free(stage.regex);
    return status;
}

void pretok_work_clear(pretok_work *w) {
    regex_match_free(w->match);
    for (int i = 0; i < PRETOK_STAGES; i++) buffer_clear(&w->rewritten[i]);
    *w = (pretok_work){0};
}

/* ---- one run */

typedef struct run {
    const pretok *pretok;
    pretok_work *work;
    pretok_word *fn;
    void *user;
    weir_error *err;
} run;

static weir_status pass(run *r, int stage, const char *text, size_t size, bool first);

/* A stage's cutter: the piece that may still grow, and what kind of piece came last. */
typedef struct cutter {
    run *run;
    const pretok_stage *stage;
    int next;         /* the stage that gets the pieces */
    const char *text; /* of the whole piece being cut   */
    size_t from, to;  /* held back: text[from, to)      */
    bool held, match; /* something is held; it ended with a match */
    bool first;
} cutter;

static weir_status release(cutter *c) {
    if (!c->held) return WEIR_OK;
    c->held = false;
    return pass(c->run, c->next, c->text + c->from, c->to - c->from, c->first && c->from == 0);
}

/* Takes the next piece [from, to), a match or what lies between two. */
static weir_status take(cutter *c, size_t from, size_t to, bool match) {
    match ^= c->stage->invert;
    bool join = false;
    switch (c->stage->behavior) {
    case SPLIT_ISOLATED: break;
    case SPLIT_REMOVED:
        if (match) return release(c);
        break;
    case SPLIT_CONTIGUOUS: join = match == c->match; break;
    case SPLIT_WITH_PREVIOUS: join = match && !c->match; break;
    case SPLIT_WITH_NEXT: join = !match && c->match; break;
    }
    join &= c->held;
    if (!join) {
        WEIR_TRY(release(c));
        c->from = from;
        c->held = true;
    }
    c->to = to;
    c->match = match;
    return WEIR_OK;
}

static weir_status split(run *r, int index, const char *text, size_t size, bool first) {
    const pretok_stage *stage = &r->pretok->stages[index];
    cutter c = {.run = r, .stage = stage, .next = index + 1, .text = text, .first = first};
    size_t done = 0, search = 0;
    bool any = false; /* a match ended at `done` */
    while (search <= size) {
        bool found;
        size_t start, end;
        WEIR_TRY(regex_find(stage->regex, r->work->match, text, size, search, &found, &start, &end,
                            r->err));
        if (!found) break;
        if (start == end && any && end == done) { /* no empty match right behind a match */
            search = done < size ? done + utf8_length(text[done]) : size + 1;
            any = false;
            continue;
        }
        if (start > done) WEIR_TRY(take(&c, done, start, false));
        WEIR_TRY(take(&c, start, end, true));
        done = search = end;
        any = true;
    }
    if (done < size) WEIR_TRY(take(&c, done, size, false));
    return release(&c);
}

static weir_status metaspace(const pretok_stage *s, buffer *out, const char *text, size_t size,
                             bool first, weir_error *err) {
    const size_t n = strlen(s->mark);
    const bool has_mark = text[0] == ' ' || (size >= n && memcmp(text, s->mark, n) == 0);
    const bool wanted = s->prepend == PREPEND_ALWAYS || (s->prepend == PREPEND_FIRST && first);
    bool ok = buffer_reserve(out, size_mul(size_add(size, 1), n));
    if (ok && wanted && !has_mark) ok = buffer_append(out, s->mark, n);
    for (size_t i = 0, to; ok && i < size; i = to) {
        to = i;
        while (to < size && text[to] != ' ') to++;
        ok = buffer_append(out, text + i, to - i);
        for (; ok && to < size && text[to] == ' '; to++) ok = buffer_append(out, s->mark, n);
    }
    return ok ? WEIR_OK : weir_fail(err, WEIR_ERR_MEMORY, "pre-tokenizer: out of memory");
}

/* Rewrites the piece into the stage's own buffer and passes that on.  The buffer may not move while
 * later stages read it, and does not: a stage is entered again only when they are done. */
static weir_status rewrite(run *r, int index, const char *text, size_t size, bool first) {
    const pretok_stage *stage = &r->pretok->stages[index];
    buffer *out = &r->work->rewritten[index];
    out->size = 0;
    bool ok = true;
    if (stage->kind == STAGE_PREFIX) {
        if (text[0] == ' ') return pass(r, index + 1, text, size, first);
        ok = buffer_append(out, " ", 1) && buffer_append(out, text, size);
    } else if (stage->kind == STAGE_BYTES) {
        ok = bytes_to_text(out, text, size);
    } else {
        WEIR_TRY(metaspace(stage, out, text, size, first, r->err));
    }
    if (!ok) return weir_fail(r->err, WEIR_ERR_MEMORY, "pre-tokenizer: out of memory");
    return pass(r, index + 1, out->data, out->size, first);
}

static weir_status pass(run *r, int stage, const char *text, size_t size, bool first) {
    if (size == 0) return WEIR_OK;
    if (stage == r->pretok->n_stages) return r->fn(r->user, text, size, r->err);
    if (r->pretok->stages[stage].kind == STAGE_SPLIT) return split(r, stage, text, size, first);
    return rewrite(r, stage, text, size, first);
}

weir_status pretok_run(const pretok *p, pretok_work *w, const char *text, size_t size, bool first,
                       pretok_word *fn, void *user, weir_error *err) {
    if (!w->match) w->match = regex_match_new();
    if (!w->match) return weir_fail(err, WEIR_ERR_MEMORY, "pre-tokenizer: out of memory");
    run r = {.pretok = p, .work = w, .fn = fn, .user = user, .err = err};
    return pass(&r, 0, text, size, first);
}
