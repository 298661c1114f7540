/* sampler.h - from logits to the next token.
 *
 *     logits -> bias -> penalties -> temperature -> top-k -> typical -> top-p -> min-p -> draw
 *
 * One sampler belongs to one session.  All memory is taken when it is made (the vocabulary's size
 * decides), none per token; its state (generator, recent tokens, loop guard) is a plain struct that
 * snapshots copy.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/rng.h"
#include "base/status.h"

enum { SAMPLER_RECENT = 1024 }; /* tokens remembered for penalties and the loop guard */

typedef struct sampler_state { /* what a snapshot keeps */
    rng rng;
    int32_t recent[SAMPLER_RECENT]; /* ring of all tokens of the stream, prompt too */
    uint64_t n_seen;                /* tokens ever accepted; recent[(n_seen - 1) % SAMPLER_RECENT] is the last */
    uint64_t n_reply;               /* generated tokens since sampler_begin_reply */
} sampler_state;

typedef struct sampler {
    weir_sampling options; /* bias arrays and stops copied */
    int vocab;
    sampler_state state;
    struct sampler_work *work; /* heap: candidates, counts, bias, stop strings */
} sampler;

/* Checks the options (ranges named in the message), copies what they point to. */
weir_status sampler_init(sampler *s, const weir_sampling *options, int vocab, weir_error *err);
void sampler_clear(sampler *s);

/* Replaces options and restarts the generator from the seed; recent tokens stay. */
weir_status sampler_set(sampler *s, const weir_sampling *options, weir_error *err);

/* The next token; logits [vocab] are read only.  NaNs count as -infinity.  Fails with
 * WEIR_ERR_DEVICE when no logit is finite. */
weir_status sampler_pick(sampler *s, const float *logits, int32_t *id, weir_error *err);

/* Tells the sampler what was added to the stream (prompt and generated alike). */
void sampler_accept(sampler *s, int32_t id, bool generated);
void sampler_begin_reply(sampler *s);

/* True when the reply's tokens are a loop: the same run of 1 to 128 tokens again and again.
 * sampler.c states the exact rule and why ordinary text (tables, "ha ha ha", rows of digits)
 * does not trip it. */
bool sampler_is_looping(const sampler *s);

/* Stop strings over a stream of text.  Text that may be the beginning of a stop string is held
 * back until it is or is not one, so a stop never leaks, not even partly.  All-zero is empty. */
typedef struct stop_filter {
    const char *const *stops; /* [n], borrowed */
    int n;
    char *held;               /* heap; at most the longest stop */
    size_t n_held, capacity;
} stop_filter;

weir_status stop_init(stop_filter *f, const char *const *stops, int n, weir_error *err);
void stop_clear(stop_filter *f);
void stop_reset(stop_filter *f);
/* Takes size bytes, gives what may be shown in *out (valid until the next call); true: a stop was
 * met, *out ends before it. */
bool stop_push(stop_filter *f, const char *data, size_t size, const char **out, size_t *out_size);
void stop_flush(stop_filter *f, const char **out, size_t *out_size); /* what is held, at the end */
