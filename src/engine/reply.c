/* reply.c - logits to text: sample, read back, detokenize, watch for the end.
 *
 *     logits -> sampler -> id -> model (its logits wait for the next call)
 *                          id -> detokenizer -> stop filter -> what may be shown
 *
 * A reply ends at a token that ends a turn, at a stop string or in a loop.  It is cut after
 * max_tokens and by an interrupt, and goes on from there if it is asked to.  The piece that was
 * held back comes first, then a piece of size 0 that says why; half a character waits for its other
 * half when a reply is cut.  No call allocates: a token's text fits into what was reserved when the
 * session opened.
 *
 * Test: tests/engine/test_reply.c.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include "base/machine.h"

#include <limits.h>

enum { TEXT_ROOM = 4096 }; /* bytes; the longest token of any vocabulary has fewer */

/* Text that was held back for the stops before is held back for these. */
weir_status reply_set_stops(reply *r, const sampler *s, weir_error *err) {
    stop_filter old = r->stop;
    weir_status status = stop_init(&r->stop, s->options.stops, WEIR_MAX_STOPS, err);
    const size_t n = old.met ? 0 : old.n_held - old.n_shown;
    if (status == WEIR_OK && n && !stop_keep(&r->stop, old.held + old.n_shown, n)) {
        status = weir_fail(err, WEIR_ERR_MEMORY, "stops: out of memory");
    }
    stop_clear(&old);
    return status;
}

weir_status reply_init(reply *r, const sampler *s, weir_error *err) {
    if (!buffer_reserve(&r->text, TEXT_ROOM)) {
        return weir_fail(err, WEIR_ERR_MEMORY, "no memory for a reply");
    }
    return reply_set_stops(r, s, err);
}

void reply_clear(reply *r) {
    stop_clear(&r->stop);
    buffer_clear(&r->text);
}

static void reset(reply *r) {
    r->is_open = false;
    r->end = WEIR_END_NONE;
    r->n_tokens = 0;
    r->detokenizer = (detokenizer){0};
    stop_reset(&r->stop);
}

void reply_close(reply *r) {
    reset(r);
    atomic_store(&r->is_interrupted, false);
}

/* An interrupt may have come before it. */
static void begin(weir_session *s) {
    reset(&s->reply);
    s->reply.is_open = true;
    sampler_begin_reply(&s->sampler);
}

static bool is_cut(const reply *r) {
    return r->end == WEIR_END_LENGTH || r->end == WEIR_END_INTERRUPT;
}

/* Gives out, once, what detokenizer and stop filter still hold. */
static void flush(reply *r, weir_text *out) {
    r->text.size = 0;
    if (!is_cut(r)) detokenizer_flush(&r->detokenizer, &r->text);
    size_t size = 0;
    const char *text = NULL;
    if (r->text.size && stop_push(&r->stop, r->text.data, r->text.size, &text, &size)) {
        r->end = WEIR_END_STOP;
    }
    if (!size) stop_flush(&r->stop, &text, &size);
    out->data = text;
    out->size = size;
}

static weir_status show(weir_session *s, int32_t id, weir_text *out, weir_error *err) {
    reply *r = &s->reply;
    r->text.size = 0;
    if (!detokenizer_push(&r->detokenizer, s->engine->tokenizer, id, false, &r->text)) {
        return weir_fail(err, WEIR_ERR_MEMORY, "no memory for the text of token %d", (int)id);
    }
    if (r->text.size && stop_push(&r->stop, r->text.data, r->text.size, &out->data, &out->size)) {
        r->end = WEIR_END_STOP;
    }
    return WEIR_OK;
}

/* Generates one token; its text, if any can be shown yet, is in out. */
static weir_status advance(weir_session *s, weir_text *out, weir_error *err) {
    reply *r = &s->reply;
    const weir_sampling *o = &s->sampler.options;
    int32_t id;
    WEIR_TRY(session_generate(s, &id, err));
    s->counts.generated_tokens++;
    out->tokens++;
    if (!o->ignore_eos && tokenizer_is_end(s->engine->tokenizer, id)) {
        r->end = WEIR_END_TURN;
    } else {
        WEIR_TRY(show(s, id, out, err));
    }
    if (r->end == WEIR_END_NONE && !o->no_loop_guard && sampler_is_looping(&s->sampler)) {
        r->end = WEIR_END_LOOP;
        s->counts.loops++;
    }
    r->n_tokens += r->n_tokens < INT_MAX; /* a reply without max_tokens may be endless */
    if (r->end == WEIR_END_NONE && o->max_tokens && r->n_tokens >= o->max_tokens) {
        r->end = WEIR_END_LENGTH;
    }
    return WEIR_OK;
}

static weir_status next(weir_session *s, weir_text *out, weir_error *err) {
    reply *r = &s->reply;
    if (!r->is_open) begin(s);
    while (r->end == WEIR_END_NONE && !out->size) {
        if (atomic_exchange(&r->is_interrupted, false)) {
            r->end = WEIR_END_INTERRUPT;
        } else {
            WEIR_TRY(advance(s, out, err));
        }
    }
    if (r->end != WEIR_END_NONE && !out->size && r->end != WEIR_END_STOP) flush(r, out);
    out->end = r->end;
    if (out->size) return WEIR_OK;
    if (is_cut(r)) {
        r->end = WEIR_END_NONE;
        r->n_tokens = 0;
        atomic_store(&r->is_interrupted, false); /* one that came meanwhile */
    } else {
        reply_close(r);
    }
    return WEIR_OK;
}

weir_status weir_session_next(weir_session *s, weir_text *out, weir_error *err) {
    *out = (weir_text){0};
    WEIR_TRY(engine_check_text(s->engine, err));
    const double start = machine_clock();
    const weir_status status = next(s, out, err);
    s->counts.generate_seconds += machine_clock() - start;
    return status;
}

void weir_session_interrupt(weir_session *s) {
    atomic_store(&s->reply.is_interrupted, true);
}
