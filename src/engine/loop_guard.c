/* loop_guard.c - ends a reply that has become the same words again and again.
 *
 * The rule.  A reply is looping when, for some period p of 1 to 128 tokens, its last
 *
 *     span(p) = max(6 p, 256) tokens
 *
 * are one run of p tokens repeated exactly: token i equals token i - p all through the span.  Only
 * tokens generated in this reply count, so a prompt that is itself repetitive trips nothing.
 *
 *     p          1     8    32    43    64    96   128
 *     span     256   256   256   258   384   576   768
 *
 * Why so long.  A model that has fallen into a loop stays in it for ever (the loop feeds its own
 * next turn), so waiting costs little, while a false alarm cuts a good answer short.  What people
 * do ask for stays below the span: a line of 80 dashes or 100 times "ha" has fewer than 256 tokens,
 * a 10 x 10 table of zeros about 210, a separator row, an indentation or an empty table cell much
 * fewer, and verses differ between their refrains.  Lists, counting and code change a number or a
 * name in each turn, which an exact comparison sees.
 *
 * The guard has no state: it reads sampler_state.recent, so a restored session behaves like the
 * uninterrupted one.  It looks after every 16th token of a reply.  Most periods fail at the first
 * comparison; the worst case, a loop that is one token short, costs some 50 000 comparisons in 16
 * tokens.
 *
 * Test: tests/engine/test_loop_guard.c.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/sampler.h"

#include "base/compiler.h"

enum { MAX_PERIOD = 128, MIN_TURNS = 6, MIN_SPAN = 256, LOOK_EVERY = 16 };
_Static_assert(MAX_PERIOD *MIN_TURNS <= SAMPLER_RECENT, "the longest span is remembered");

/* The token added back tokens ago; 0 is the last one. */
static int32_t token(const sampler_state *s, uint64_t back) {
    return s->recent[(s->n_seen - 1 - back) % SAMPLER_RECENT];
}

static bool has_period(const sampler_state *s, uint64_t period, uint64_t span) {
    for (uint64_t back = 0; back + period < span; back++) {
        if (token(s, back) != token(s, back + period)) return false;
    }
    return true;
}

bool sampler_is_looping(const sampler *s) {
    const sampler_state *state = &s->state;
    if (state->n_reply % LOOK_EVERY != 0) return false;
    const uint64_t known = MIN_OF(MIN_OF(state->n_reply, state->n_seen), (uint64_t)SAMPLER_RECENT);
    for (uint64_t period = 1; period <= MAX_PERIOD; period++) {
        const uint64_t span = MAX_OF(period * MIN_TURNS, (uint64_t)MIN_SPAN);
        if (span > known) return false; /* spans only grow from here */
        if (has_period(state, period, span)) return true;
    }
    return false;
}
