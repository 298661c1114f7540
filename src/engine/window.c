/* window.c - the bookkeeping of window.h.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/window.h"

#include <assert.h>
#include <string.h>

enum { DEFAULT_SINKS = 4 };

void window_init(window *w, int size, int max_pins, const weir_session_options *o) {
    *w = (window){.size = size,
                  .max_pins = max_pins,
                  .mode = o->mode,
                  .policy = o->policy,
                  .start = o->start,
                  .pos = o->start,
                  .first = o->start};
    if (o->sinks > 0 && (o->mode == WEIR_STREAMING || o->mode == WEIR_RECOMPUTE)) {
        w->sinks = o->sinks;
    } else if (o->sinks == 0 && o->mode == WEIR_STREAMING) {
        w->sinks = MIN_OF(DEFAULT_SINKS, max_pins);
    }
}

uint64_t window_room(const window *w) {
    if (w->mode != WEIR_DENSE) return UINT64_MAX;
    return (uint64_t)w->size - (w->pos - w->start);
}

int window_in_use(const window *w) {
    return w->pins + (int)(w->pos - w->first);
}

void window_mark_turn(window *w) {
    const bool is_pinned = w->pos - w->start <= (uint64_t)w->sinks; /* all before, whole */
    if (w->n_turns && (is_pinned || w->turns[w->n_turns - 1] == w->pos)) w->n_turns--;
    if (w->n_turns == WINDOW_TURNS) { /* the two oldest become one */
        memmove(w->turns + 1, w->turns + 2, (WINDOW_TURNS - 2) * sizeof *w->turns);
        w->n_turns--;
        w->melted++;
    }
    assert(w->n_turns == 0 || w->turns[w->n_turns - 1] <= w->pos);
    w->turns[w->n_turns++] = w->pos;
}

/* Moves first forward; turns whose last token has gone are forgotten and counted. */
static void evict_to(window *w, uint64_t first) {
    assert(first >= w->first);
    w->evicted_tokens += first - w->first;
    w->first = first;
    int gone = 0;
    while (gone + 1 < w->n_turns && w->turns[gone + 1] <= first) gone++;
    if (!gone) return;
    w->evicted_turns += (uint64_t)gone + w->melted;
    w->melted = 0;
    w->n_turns -= gone;
    memmove(w->turns, w->turns + gone, (size_t)w->n_turns * sizeof *w->turns);
}

/* Where the window begins once it holds nothing before `least`: at the start of a turn, if the
 * policy says so.  The turn of the next token is never dropped whole: one longer than the window
 * loses its own oldest tokens, one at a time. */
static uint64_t evict_at(const window *w, uint64_t least) {
    if (w->policy == WEIR_EVICT_TOKEN) return least;
    for (int i = 0; i < w->n_turns; i++) {
        if (w->turns[i] >= least && w->turns[i] <= w->pos) return w->turns[i];
    }
    return least;
}

void window_push(window *w, int32_t token, int slot, batch_row *row) {
    *row = (batch_row){.token = token, .slot = slot, .pos = w->pos};
    if (w->pos - w->start < (uint64_t)w->sinks) {
        row->is_pin = true;
        row->p = (uint32_t)w->pins;
        row->pins = ++w->pins;
        w->first = ++w->pos;
        return;
    }
    const int limit = w->size - w->pins;
    if (w->pos - w->first + 1 > (uint64_t)limit) {
        assert(w->mode != WEIR_DENSE);
        evict_to(w, evict_at(w, w->pos - (uint64_t)limit + 1));
    }
    row->recent = (int)(w->pos - w->first) + 1;
    row->pins = w->pins;
    row->p = (uint32_t)(w->pins + row->recent - 1);
    assert(row->recent > 0 && row->pins + row->recent <= w->size);
    w->pos++;
}

void window_add_pins(window *w, int n) {
    assert(n >= 0 && w->pins + n <= w->max_pins);
    assert(w->first <= w->pos);
    w->pins += n;
    const int limit = w->size - w->pins;
    if (w->pos - w->first <= (uint64_t)limit) return;
    evict_to(w, evict_at(w, w->pos - (uint64_t)limit));
}
