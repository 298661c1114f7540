/* session.c - a timeline's life: open, reset, plain text, pins, counters.
 *
 * A session takes one slot of its engine and allocates, when it opens, all it will ever need.
 *
 * Test: tests/engine/test_session.c.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include <assert.h>
#include <inttypes.h>

static const uint64_t MAX_START = (uint64_t)1 << 62;

/* ---- open and close */

static weir_status check_options(const weir_engine *e, const weir_session_options *o,
                                 weir_error *err) {
    if ((unsigned)o->mode > WEIR_RECOMPUTE || (unsigned)o->policy > WEIR_EVICT_TURN) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "mode %d, policy %d: not known", (int)o->mode,
                         (int)o->policy);
    }
    if (o->sinks < WEIR_NO_SINKS || o->sinks > e->options.max_sinks) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "sinks: is %d, this engine keeps room for %d (max_sinks)", o->sinks,
                         e->options.max_sinks);
    }
    if (o->sinks > 0 && (o->mode == WEIR_DENSE || o->mode == WEIR_WINDOW)) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "sinks: is %d, but dense and window mode pin nothing", o->sinks);
    }
    if (o->start > MAX_START) { /* positions never wrap: 2^62 tokens are more than anyone reads */
        return weir_fail(err, WEIR_ERR_ARGUMENT, "start: is %" PRIu64 ", wanted 0 to %" PRIu64,
                         o->start, MAX_START);
    }
    const int most = e->checkpoint->config.sliding_window;
    if (most > 0 && e->options.window > most && o->mode != WEIR_DENSE) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "window: is %d, this model attends at most %d keys (sliding_window)",
                         e->options.window, most);
    }
    return WEIR_OK;
}

static int free_slot(const weir_engine *e) {
    for (int i = 0; i < e->options.sessions; i++) {
        if (!e->slots[i]) return i;
    }
    return -1;
}

static weir_status allocate(weir_session *s, weir_error *err) {
    const weir_engine *e = s->engine;
    s->history = mem_array((size_t)e->options.window, sizeof *s->history);
    s->pinned = mem_array((size_t)e->options.max_sinks + 1, sizeof *s->pinned);
    s->logits = mem_array((size_t)e->plan->vocab, sizeof *s->logits);
    if (!s->history || !s->pinned || !s->logits) {
        return weir_fail(err, WEIR_ERR_MEMORY, "no memory for a session of window %d",
                         e->options.window);
    }
    WEIR_TRY(sampler_init(&s->sampler, &s->options.sampling, e->plan->vocab, err));
    return reply_init(&s->reply, &s->sampler, err);
}

weir_status weir_session_open(weir_session **out, weir_engine *e,
                              const weir_session_options *options, weir_error *err) {
    *out = NULL;
    const weir_session_options o = options ? *options : (weir_session_options){0};
    WEIR_TRY(engine_check(e, err));
    WEIR_TRY(check_options(e, &o, err));
    const int slot = free_slot(e);
    if (slot < 0) {
        return weir_fail(err, WEIR_ERR_MEMORY,
                         "all %d sessions of this engine are open: close one, or open the engine "
                         "for more",
                         e->options.sessions);
    }
    weir_session *s = mem_alloc(sizeof *s);
    if (!s) return weir_fail(err, WEIR_ERR_MEMORY, "no memory for a session");
    s->engine = e;
    s->slot = slot;
    s->options = o;
    const weir_status status = allocate(s, err);
    if (status != WEIR_OK) {
        weir_session_close(s);
        return status;
    }
    s->options.sampling = (weir_sampling){0}; /* the sampler has copied what the caller owns */
    e->slots[slot] = s;
    weir_session_reset(s);
    *out = s;
    return WEIR_OK;
}

void weir_session_close(weir_session *s) {
    if (!s) return;
    if (s->engine->slots[s->slot] == s) s->engine->slots[s->slot] = NULL;
    reply_clear(&s->reply);
    sampler_clear(&s->sampler);
    chat_clear(&s->chat);
    mem_free(s->history);
    mem_free(s->pinned);
    mem_free(s->logits);
    mem_free(s);
}

/* A model trained with a sliding window attends no more than that: to keep everything is to slide
 * there. */
static void reset_window(weir_session *s) {
    const weir_engine *e = s->engine;
    const int most = e->checkpoint->config.sliding_window;
    weir_session_options o = s->options;
    int size = e->options.window;
    if (most > 0 && size > most) {
        assert(o.mode == WEIR_DENSE);
        o.mode = WEIR_WINDOW;
        size = most;
    }
    window_init(&s->window, size, e->options.max_sinks, &o);
}

void weir_session_reset(weir_session *s) {
    reset_window(s);
    s->sampler.state = (sampler_state){.rng.state = s->sampler.options.seed};
    s->has_logits = false;
    s->is_ahead = false;
    s->counts = (weir_session_stats){0};
    chat_clear(&s->chat);
    reply_close(&s->reply);
}

weir_status weir_session_set_sampling(weir_session *s, const weir_sampling *sampling,
                                      weir_error *err) {
    WEIR_TRY(session_settle(s, err));
    WEIR_TRY(sampler_set(&s->sampler, sampling, err));
    return reply_set_stops(&s->reply, &s->sampler, err);
}

/* ---- plain text */

weir_status weir_session_append(weir_session *s, const char *text, size_t size, weir_error *err) {
    const weir_engine *e = s->engine;
    WEIR_TRY(engine_check_text(e, err));
    const bool is_empty = s->window.pos == s->window.start;
    const int flags = is_empty && tokenizer_adds_bos(e->tokenizer) ? WEIR_ADD_BOS : 0;
    int32_t *ids;
    size_t n;
    WEIR_TRY(tokenizer_encode(e->tokenizer, text, size, flags, &ids, &n, err));
    const weir_status status = weir_session_feed(s, ids, n, err);
    mem_free(ids);
    return status;
}

/* ---- logits */

const float *weir_session_logits(const weir_session *s) {
    if (session_fetch(s, NULL) != WEIR_OK) return NULL;
    return s->has_logits ? s->logits : NULL;
}

weir_status weir_session_sample(weir_session *s, int32_t *id, weir_error *err) {
    WEIR_TRY(session_settle(s, err));
    if (s->has_logits) return sampler_pick(&s->sampler, s->logits, id, err);
    return weir_fail(err, WEIR_ERR_ARGUMENT,
                     "there are no logits yet: feed, append or say something first");
}

/* ---- pins */

static weir_status check_pin(const weir_session *s, uint64_t from, uint64_t to, weir_error *err) {
    const window *w = &s->window;
    WEIR_TRY(engine_check(s->engine, err));
    if (w->mode != WEIR_STREAMING) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "only streaming mode pins tokens");
    }
    if (from >= to || from < w->first || to > w->pos) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "positions %" PRIu64 " to %" PRIu64 " cannot be pinned: the window holds "
                         "%" PRIu64 " to %" PRIu64,
                         from, to, w->first, w->pos);
    }
    const uint64_t room = (uint64_t)(w->max_pins - w->pins);
    if (to - from <= room) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_ARGUMENT,
                     "%" PRIu64 " tokens to pin, room for %" PRIu64 " (max_sinks %d, %d pinned)",
                     to - from, room, w->max_pins, w->pins);
}

weir_status weir_session_pin(weir_session *s, uint64_t from, uint64_t to, weir_error *err) {
    WEIR_TRY(check_pin(s, from, to, err));
    weir_engine *e = s->engine;
    for (uint64_t pos = from; pos < to; pos++) {
        const int pin = s->window.pins + (int)(pos - from);
        s->pinned[pin] = s->history[pos % (uint64_t)s->window.size];
        WEIR_TRY(e->backend->api->pin_row(e->backend, s->slot, pos, pin, err));
    }
    window_add_pins(&s->window, (int)(to - from));
    return WEIR_OK;
}

/* ---- counters */

void weir_session_get_stats(const weir_session *s, weir_session_stats *out) {
    const window *w = &s->window;
    *out = s->counts;
    out->position = w->pos;
    out->window = w->size;
    out->in_window = window_in_use(w);
    out->pinned = w->pins;
    out->max_pinned = w->max_pins;
    out->evicted_tokens = w->evicted_tokens;
    out->evicted_turns = w->evicted_turns;
}
