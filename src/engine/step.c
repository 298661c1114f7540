/* step.c - tokens through the model: the only place where batches are made.
 *
 *     tokens --window_push--> rows --backend step--> logits of the wanted rows
 *
 * A step has a group of rows for each session in it: a chunk of a prompt, or one token of a running
 * stream.  In recompute mode a token is only noted, and the whole window is read again, from an
 * empty cache, for every token whose logits are wanted.
 *
 * Test: tests/engine/test_golden.c, test_session.c, test_many.c.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include "base/machine.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* ---- one step */

static const float *logits_of(const weir_engine *e, int i) {
    return e->backend->api->logits(e->backend, i);
}

static void keep_logits(weir_session *s, const float *logits) {
    memcpy(s->logits, logits, (size_t)s->engine->plan->vocab * sizeof *logits);
    s->has_logits = true;
}

/* Wanted row i of a step that drew. */
static weir_status fetch_logits(weir_session *s, int i, weir_error *err) {
    weir_engine *e = s->engine;
    const weir_status status = e->backend->api->fetch(e->backend, i, err);
    if (status != WEIR_OK) e->is_lost = true;
    WEIR_TRY(status);
    keep_logits(s, logits_of(e, i));
    return WEIR_OK;
}

weir_status session_fetch(const weir_session *s, weir_error *err) {
    if (!s->is_ahead || s->has_logits) return WEIR_OK;
    return fetch_logits(s->engine->slots[s->slot], s->ahead_row, err);
}

weir_status session_settle(const weir_session *s, weir_error *err) {
    WEIR_TRY(session_fetch(s, err));
    s->engine->slots[s->slot]->is_ahead = false;
    return WEIR_OK;
}

/* One step.  It overwrites the logits of the last one: sessions that are not in it keep theirs. */
static weir_status run(weir_engine *e, const batch *step, weir_error *err) {
    for (int i = 0; i < e->options.sessions; i++) {
        if (e->slots[i]) WEIR_TRY(session_settle(e->slots[i], err));
    }
    const weir_status status = e->backend->api->step(e->backend, step, err);
    if (status != WEIR_OK) e->is_lost = true;
    return status;
}

/* Notes a token, whose row this is, in everything but window and cache. */
static void note_token(weir_session *s, const batch_row *row, int32_t id, bool is_generated) {
    s->history[row->pos % (uint64_t)s->window.size] = id;
    if (row->is_pin) s->pinned[row->p] = id;
    sampler_accept(&s->sampler, id, is_generated);
    s->chat.last_token = id;
}

/* Notes a token in everything but the cache. */
static void take(weir_session *s, int32_t id, bool is_generated, batch_row *row) {
    window_push(&s->window, id, s->slot, row);
    note_token(s, row, id, is_generated);
}

static batch empty_step(const weir_engine *e) {
    return (batch){.rows = e->rows, .groups = e->groups, .wanted = e->wanted};
}

/* Adds a group of n rows that may still be filled, the last n_wanted of which show their logits. */
static batch_row *add_group(weir_engine *e, batch *step, int slot, int n, int n_wanted) {
    assert(n > 0 && step->n + n <= e->plan->max_rows && n_wanted <= n);
    assert(step->n_wanted + n_wanted <= e->plan->max_wanted);
    const int first = step->n;
    e->groups[step->n_groups++] = (batch_group){.slot = slot, .first = first, .n = n};
    for (int i = n - n_wanted; i < n; i++) e->wanted[step->n_wanted++] = first + i;
    step->n += n;
    return e->rows + first;
}

static void add_tokens(batch *step, weir_session *s, const int32_t *ids, int n, int n_wanted,
                       bool is_generated) {
    batch_row *rows = add_group(s->engine, step, s->slot, n, n_wanted);
    for (int i = 0; i < n; i++) take(s, ids[i], is_generated, &rows[i]);
    s->has_logits = false;
    s->is_ahead = false;
}

/* Reads n tokens, at most a chunk, in one step that shows the last n_wanted of them. */
static weir_status read_chunk(weir_session *s, const int32_t *ids, int n, int n_wanted,
                              weir_error *err) {
    batch step = empty_step(s->engine);
    add_tokens(&step, s, ids, n, n_wanted, false);
    WEIR_TRY(run(s->engine, &step, err));
    if (n_wanted) keep_logits(s, logits_of(s->engine, n_wanted - 1));
    return WEIR_OK;
}

/* ---- recompute */

/* Token i of those the next query sees, pinned ones first. */
static int32_t seen_token(const weir_session *s, int i) {
    const window *w = &s->window;
    if (i < w->pins) return s->pinned[i];
    return s->history[(w->first + (uint64_t)(i - w->pins)) % (uint64_t)w->size];
}

/* Reads everything in the window again, as a stream of its own, for the logits of its end. */
static weir_status recompute(weir_session *s, weir_error *err) {
    weir_engine *e = s->engine;
    const int n = window_in_use(&s->window);
    assert(n > 0 && n <= s->window.size);
    window fresh;
    window_init(&fresh, s->window.size, e->options.max_sinks,
                &(weir_session_options){.mode = WEIR_DENSE});
    for (int at = 0; at < n;) {
        const int m = MIN_OF(e->options.chunk, n - at);
        batch step = empty_step(e);
        batch_row *rows = add_group(e, &step, s->slot, m, at + m == n);
        for (int i = 0; i < m; i++) window_push(&fresh, seen_token(s, at + i), s->slot, &rows[i]);
        at += m;
        WEIR_TRY(run(e, &step, err));
    }
    keep_logits(s, logits_of(e, 0));
    return WEIR_OK;
}

static void note(weir_session *s, int32_t id, bool is_generated) {
    batch_row row;
    take(s, id, is_generated, &row);
    s->has_logits = false;
}

/* ---- checks */

static weir_status check_room(const weir_session *s, size_t n, weir_error *err) {
    const uint64_t room = window_room(&s->window);
    if (n <= room) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_FULL,
                     "the window of %d tokens has room for %" PRIu64 " more, not %zu: dense mode "
                     "keeps everything, streaming mode never fills up",
                     s->window.size, room, n);
}

/* A session can go on by itself. */
static weir_status check_next(const weir_session *s, weir_error *err) {
    if (s->has_logits || s->is_ahead) return check_room(s, 1, err);
    return weir_fail(err, WEIR_ERR_ARGUMENT,
                     "there are no logits yet: feed, append or say something first");
}

static weir_status check_ids(const weir_session *s, const int32_t *ids, size_t n, weir_error *err) {
    const int vocab = s->engine->plan->vocab;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= 0 && ids[i] < vocab) continue;
        return weir_fail(err, WEIR_ERR_ARGUMENT, "token %zu: is %" PRId32 ", wanted 0 to %d", i,
                         ids[i], vocab - 1);
    }
    return check_room(s, n, err);
}

static weir_status report(const weir_session *s, uint64_t done, uint64_t total, weir_error *err) {
    const weir_engine_options *o = &s->engine->options;
    if (total <= (uint64_t)o->chunk || !o->progress) return WEIR_OK;
    if (!o->progress(o->progress_user, "reading", done, total)) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_CANCELED, "stopped after %" PRIu64 " of %" PRIu64 " tokens",
                     done, total);
}

/* ---- reading */

weir_status session_read(weir_session *s, const int32_t *ids, size_t n, weir_error *err) {
    WEIR_TRY(engine_check(s->engine, err));
    WEIR_TRY(check_ids(s, ids, n, err));
    if (n == 0) return WEIR_OK;
    if (s->window.mode == WEIR_RECOMPUTE) {
        for (size_t i = 0; i < n; i++) note(s, ids[i], false);
        return recompute(s, err);
    }
    for (size_t at = 0; at < n;) {
        const size_t m = MIN_OF((size_t)s->engine->options.chunk, n - at);
        WEIR_TRY(read_chunk(s, ids + at, (int)m, at + m == n, err));
        at += m;
        WEIR_TRY(report(s, at, n, err));
    }
    return WEIR_OK;
}

weir_status weir_session_feed(weir_session *s, const int32_t *ids, size_t n, weir_error *err) {
    const double start = machine_clock();
    const uint64_t from = s->window.pos;
    reply_close(&s->reply);
    const weir_status status = session_read(s, ids, n, err);
    s->counts.prompt_tokens += s->window.pos - from;
    s->counts.prompt_seconds += machine_clock() - start;
    return status;
}

/* ---- eval */

static weir_status canceled(size_t at, size_t n, weir_error *err) {
    return weir_fail(err, WEIR_ERR_CANCELED, "stopped after %zu of %zu tokens", at, n);
}

static weir_status eval_recompute(weir_session *s, const int32_t *ids, size_t n, size_t stride,
                                  weir_logits_fn fn, void *user, weir_error *err) {
    for (size_t i = 0; i < n; i++) {
        note(s, ids[i], false);
        if (i % stride != 0 && i + 1 < n) continue;
        WEIR_TRY(recompute(s, err));
        if (i % stride == 0 && fn(user, i, s->logits)) return canceled(i + 1, n, err);
    }
    return WEIR_OK;
}

static weir_status eval_chunks(weir_session *s, const int32_t *ids, size_t n, weir_logits_fn fn,
                               void *user, weir_error *err) {
    const weir_engine *e = s->engine;
    const size_t most = (size_t)MIN_OF(e->options.chunk, e->plan->max_wanted);
    for (size_t at = 0; at < n;) {
        const size_t m = MIN_OF(most, n - at);
        WEIR_TRY(read_chunk(s, ids + at, (int)m, (int)m, err));
        for (size_t i = 0; i < m; i++) {
            if (fn(user, at + i, logits_of(e, (int)i))) return canceled(at + m, n, err);
        }
        at += m;
    }
    return WEIR_OK;
}

weir_status weir_session_eval(weir_session *s, const int32_t *ids, size_t n, size_t stride,
                              weir_logits_fn fn, void *user, weir_error *err) {
    WEIR_TRY(engine_check(s->engine, err));
    WEIR_TRY(check_ids(s, ids, n, err));
    const double start = machine_clock();
    const uint64_t from = s->window.pos;
    reply_close(&s->reply);
    const weir_status status =
        s->window.mode == WEIR_RECOMPUTE
            ? eval_recompute(s, ids, n, MAX_OF(stride, (size_t)1), fn, user, err)
            : eval_chunks(s, ids, n, fn, user, err);
    s->counts.prompt_tokens += s->window.pos - from;
    s->counts.prompt_seconds += machine_clock() - start;
    return status;
}

/* ---- many sessions */

static weir_status check_feed(const weir_engine *e, const weir_feed *feeds, int i,
                              weir_error *err) {
    const weir_feed *f = &feeds[i];
    if (!f->session || f->session->engine != e) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "session %d of the step: not of this engine", i);
    }
    for (int k = 0; k < i; k++) {
        if (feeds[k].session != f->session) continue;
        return weir_fail(err, WEIR_ERR_ARGUMENT, "sessions %d and %d of the step are the same", k,
                         i);
    }
    if (!f->ids && (f->n || f->is_prompt || f->has_more)) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "session %d of the step: has no ids, which is one generated token, but "
                         "n %d, is_prompt %d, has_more %d",
                         i, f->n, f->is_prompt, f->has_more);
    }
    if (f->ids && (f->n < 1 || f->n > e->options.chunk)) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "session %d of the step: %d tokens, wanted 1 to %d", i, f->n,
                         e->options.chunk);
    }
    weir_error why;
    const weir_status status =
        f->ids ? check_ids(f->session, f->ids, (size_t)f->n, &why) : check_next(f->session, &why);
    if (status == WEIR_OK) return WEIR_OK;
    return weir_fail(err, status, "session %d of the step: %.400s", i, why.message);
}

/* Everything is checked before anything moves. */
static weir_status check_step(const weir_engine *e, const weir_feed *feeds, int n,
                              weir_error *err) {
    WEIR_TRY(engine_check(e, err));
    if (n < 1 || n > e->options.sessions) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "a step of %d sessions, this engine has %d", n,
                         e->options.sessions);
    }
    int64_t rows = 0;
    for (int i = 0; i < n; i++) {
        WEIR_TRY(check_feed(e, feeds, i, err));
        rows += MAX_OF(feeds[i].n, 1);
    }
    if (rows <= e->plan->max_rows) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_ARGUMENT, "a step of %" PRId64 " tokens, wanted at most %d",
                     rows, e->plan->max_rows);
}

static void count_feed(const weir_feed *f, double took) {
    weir_session_stats *c = &f->session->counts;
    *(f->is_prompt ? &c->prompt_tokens : &c->generated_tokens) += (uint64_t)MAX_OF(f->n, 1);
    *(f->is_prompt ? &c->prompt_seconds : &c->generate_seconds) += took;
}

/* ---- steps of generated tokens
 *
 * A back end that draws is never waited for: the step that reads a token draws the next one, and
 * only when the one after that is asked for does anybody look at it, with the step that reads it
 * under way.  What ends a stream is a token that was read, so nothing has to be taken back but that
 * draw, whose number the generator gives again. */

static bool can_draw(const weir_session *s) {
    return s->engine->backend->api->drawn && sampler_can_defer(&s->sampler);
}

/* The last token of each feed, BATCH_DRAWN where only the device knows it. */
static weir_status choose_tokens(weir_feed *feeds, int n, weir_error *err) {
    for (int i = 0; i < n; i++) {
        weir_feed *f = &feeds[i];
        weir_session *s = f->session;
        s->rng_before = s->sampler.state.rng;
        f->token = f->ids ? f->ids[f->n - 1] : BATCH_DRAWN;
        if (f->ids || s->is_ahead) continue;
        const weir_status status = weir_session_sample(s, &f->token, err);
        if (status == WEIR_OK) continue;
        for (int k = 0; k <= i; k++) { /* what is not read was never drawn */
            feeds[k].session->sampler.state.rng = feeds[k].session->rng_before;
        }
        return status;
    }
    return WEIR_OK;
}

static void add_feed(batch *step, const weir_feed *f) {
    weir_session *s = f->session;
    weir_engine *e = s->engine;
    const bool is_drawn = f->token == BATCH_DRAWN;
    s->window_before = s->window;
    if (is_drawn) {
        window_push(&s->window, BATCH_DRAWN, s->slot, add_group(e, step, s->slot, 1, 1));
        s->sampler.state.rng = s->after;
        s->has_logits = false;
        s->is_ahead = false;
    } else {
        add_tokens(step, s, f->ids ? f->ids : &f->token, f->ids ? f->n : 1, !f->has_more,
                   !f->is_prompt);
    }
    if (f->has_more) return;
    batch_draw *how = &e->draws[step->n_wanted - 1];
    *how = (batch_draw){0};
    if (!can_draw(s)) return;
    *how = sampler_defer(&s->sampler, is_drawn, &s->after, s->recent);
    step->draws = e->draws;
}

/* Row `row` read what the step before drew for this session, which now learns what it was. */
static weir_status learn_token(weir_feed *f, const batch_row *row, weir_error *err) {
    weir_session *s = f->session;
    f->token = s->engine->drawn[s->ahead_row];
    if (f->token >= 0) {
        note_token(s, row, f->token, true);
        return WEIR_OK;
    }
    s->window = s->window_before;
    s->sampler.state.rng = s->rng_before;
    return weir_fail(err, WEIR_ERR_DEVICE, "logits: none of %d is a number above -infinity",
                     s->engine->plan->vocab);
}

/* What the step before drew for those of its wanted rows that some feed goes on from. */
static weir_status look_at_drawn(weir_engine *e, const weir_feed *feeds, int n, weir_error *err) {
    int rows = 0;
    for (int i = 0; i < n; i++) {
        if (feeds[i].token == BATCH_DRAWN) rows = MAX_OF(rows, feeds[i].session->ahead_row + 1);
    }
    if (rows == 0) return WEIR_OK;
    const weir_status status = e->backend->api->drawn(e->backend, 1, e->drawn, rows, err);
    if (status != WEIR_OK) e->is_lost = true;
    return status;
}

/* After a step: every session gets its token and its logits, or knows where they are.  One that
 * fails holds up no other. */
static weir_status take_step(const batch *step, weir_feed *feeds, int n, weir_error *err) {
    weir_status all = WEIR_OK;
    for (int i = 0, group = 0, shown = 0; i < n; i++) {
        weir_feed *f = &feeds[i];
        weir_session *s = f->session;
        if (s->window.mode == WEIR_RECOMPUTE) continue;
        const batch_row *row = &step->rows[step->groups[group++].first];
        const int at = shown;
        shown += !f->has_more;
        weir_status status = WEIR_OK;
        if (f->token == BATCH_DRAWN) status = learn_token(f, row, all == WEIR_OK ? err : NULL);
        if (status == WEIR_OK && !f->has_more) {
            s->is_ahead = step->draws && step->draws[at].how;
            s->ahead_row = at;
            if (step->draws && !s->is_ahead) {
                status = fetch_logits(s, at, all == WEIR_OK ? err : NULL);
            } else if (!step->draws) {
                keep_logits(s, logits_of(s->engine, at));
            }
        }
        if (all == WEIR_OK) all = status;
    }
    return all;
}

static weir_status recompute_feed(const weir_feed *f, weir_error *err) {
    const int n = f->ids ? f->n : 1;
    for (int i = 0; i < n; i++) note(f->session, f->ids ? f->ids[i] : f->token, !f->is_prompt);
    return f->has_more ? WEIR_OK : recompute(f->session, err);
}

static weir_status step_feeds(weir_engine *e, weir_feed *feeds, int n, weir_error *err) {
    WEIR_TRY(choose_tokens(feeds, n, err));
    batch step = empty_step(e);
    for (int i = 0; i < n; i++) {
        if (feeds[i].session->window.mode != WEIR_RECOMPUTE) add_feed(&step, &feeds[i]);
    }
    if (step.n) WEIR_TRY(run(e, &step, err));
    WEIR_TRY(look_at_drawn(e, feeds, n, err));
    WEIR_TRY(take_step(&step, feeds, n, err));
    for (int i = 0; i < n; i++) {
        if (feeds[i].session->window.mode != WEIR_RECOMPUTE) continue;
        WEIR_TRY(recompute_feed(&feeds[i], err));
    }
    return WEIR_OK;
}

weir_status session_generate(weir_session *s, int32_t *id, weir_error *err) {
    weir_feed f = {.session = s};
    WEIR_TRY(engine_check(s->engine, err));
    WEIR_TRY(check_room(s, 1, err));
    WEIR_TRY(step_feeds(s->engine, &f, 1, err));
    *id = f.token;
    return WEIR_OK;
}

weir_status weir_engine_step(weir_engine *e, weir_feed *feeds, int n, weir_error *err) {
    WEIR_TRY(check_step(e, feeds, n, err));
    const double start = machine_clock();
    for (int i = 0; i < n; i++) reply_close(&feeds[i].session->reply);
    WEIR_TRY(step_feeds(e, feeds, n, err));
    const double took = machine_clock() - start;
    for (int i = 0; i < n; i++) count_feed(&feeds[i], took);
    return WEIR_OK;
}
