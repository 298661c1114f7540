/* sampler.h - from logits to the next token.
 *
 *     logits -> bias -> penalties -> temperature -> top-k -> typical -> top-p -> min-p -> draw
 *
 * One sampler belongs to one session.  All memory is taken when it is made (the vocabulary's size
 * decides, 14 bytes a token), none per token; its state (generator, recent tokens) is a plain
 * struct that snapshots copy, and any bits in it are safe.
 *
 * The same seed, options and logits give the same tokens on every machine: draw.h says how.
 * Test: tests/engine/test_sampler.c, test_loop_guard.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/backend.h"
#include "base/rng.h"
#include "base/status.h"
#include "engine/stop.h"

enum { SAMPLER_RECENT = 1024 }; /* tokens remembered for penalties and the loop guard */

typedef struct sampler_state { /* what a snapshot keeps */
    rng rng;
    int32_t recent[SAMPLER_RECENT]; /* ring of all tokens of the stream, prompt too              */
    uint64_t n_seen;                /* tokens ever accepted; the last is recent[(n_seen - 1) % ] */
    uint64_t n_reply;               /* generated tokens since sampler_begin_reply                */
} sampler_state;

typedef struct sampler {
    weir_sampling options; /* what it points to is copied: stops stay valid until sampler_set    */
    int vocab;
    sampler_state state;
    struct sampler_work *work; /* heap: candidates, counts, the copies */
} sampler;

/* Checks the options (the message names range and value), copies what they point to. */
weir_status sampler_init(sampler *s, const weir_sampling *options, int vocab, weir_error *err);
void sampler_clear(sampler *s); /* accepts an all-zero one */

/* Replaces the options and restarts the generator from the seed; recent tokens stay.  On failure
 * nothing changes.  The stops of s->options are new ones: make the stop_filter anew. */
weir_status sampler_set(sampler *s, const weir_sampling *options, weir_error *err);

/* The next token; logits [vocab] are read only.  NaNs count as -infinity, +infinity as the largest
 * float.  Takes one number from the generator, none when greedy.  Fails with WEIR_ERR_DEVICE when
 * every logit is NaN or -infinity. */
weir_status sampler_pick(sampler *s, const float *logits, int32_t *id, weir_error *err);

/* What a back end that draws needs to choose the next token as sampler_pick would.  With is_ahead
 * it is the token behind one that the back end has drawn and the sampler does not know yet.
 * *after is what the generator is when the token is taken; the list goes to recent.  False: these
 * options want what only sampler_pick does. */
bool sampler_can_defer(const sampler *s);
batch_draw sampler_defer(const sampler *s, bool is_ahead, rng *after,
                         int32_t recent[SAMPLER_RECENT]);

/* Tells the sampler what was added to the stream (prompt and generated alike). */
void sampler_accept(sampler *s, int32_t id, bool generated);
void sampler_begin_reply(sampler *s);

/* True when the reply's tokens are a loop: the same run of 1 to 128 tokens again and again.
 * loop_guard.c states the exact rule and why ordinary text (tables, "ha ha ha", rows of digits)
 * does not trip it.  Ask after every accepted token: it looks at every 16th. */
bool sampler_is_looping(const sampler *s);
