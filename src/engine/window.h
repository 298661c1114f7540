/* window.h - which tokens a session still sees: the streaming rule as bookkeeping.
 *
 *     stream   start ........ first ........ pos - 1 | pos
 *              [pins)   gone  [    recent           ]  next
 *
 * A window never touches keys: it says, for the next token, where its row goes and what its query
 * sees (a batch_row).  One rule covers every mode and policy:
 *
 *     recent = pos - first + 1        pins + recent <= W        p = pins + recent - 1
 *
 * and eviction is nothing but moving `first` forward: by one token, or to the start of a turn.
 *
 * Test: tests/engine/test_window.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/backend.h"

enum { WINDOW_TURNS = 256 }; /* turn starts remembered; older ones melt into one */

typedef struct window { /* plain data: snapshots copy it whole */
    int size;           /* W */
    int sinks;          /* tokens pinned from the start of the stream */
    int max_pins;
    weir_mode mode;
    weir_policy policy;
    uint64_t start, pos, first;
    int pins;
    uint64_t evicted_tokens, evicted_turns;
    uint64_t turns[WINDOW_TURNS]; /* positions where the turns in the window began, ascending */
    int n_turns;
    uint64_t melted; /* turns that became part of turns[0] */
} window;

void window_init(window *w, int size, int max_pins, const weir_session_options *options);

/* How many tokens may still come: W - pos in dense mode, else more than anyone has. */
uint64_t window_room(const window *w);

/* Takes the next token of a slot: fills row and moves on.  In dense mode there must be room. */
void window_push(window *w, int32_t token, int slot, batch_row *row);

/* A turn begins at the next token.  One before it that has no tokens, or none but sinks, is never
 * evicted and so is forgotten. */
void window_mark_turn(window *w);

/* Keys the next query sees, itself not counted. */
int window_in_use(const window *w);

/* Counts pin rows that were just filled behind the pinned ones. */
void window_add_pins(window *w, int n);
