/* stop.h - stop strings over a stream of text: they end it and never show, not even partly.
 *
 *     stops "###", "</s>"        pushed     shown        held
 *                                "Hi <"     "Hi "        "<"
 *                                "/b> #"    "</b> "      "#"
 *                                "##"       ""           stop
 *
 * Text that may be the beginning of a stop is held back until it is or is not one.  Of two stops
 * the one that is complete first wins; of those complete at the same byte, the longer.
 *
 * All-zero is a filter without stops: it passes everything on.  Test: tests/engine/test_stop.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/status.h"

typedef struct stop_filter {
    const char *const *stops; /* [n], borrowed; NULL entries are skipped                         */
    int n;
    struct stop_matcher *matchers; /* [n] heap: how far each stop has matched                    */
    char *held;                    /* [capacity] heap; the first n_held bytes are held back      */
    size_t n_held, capacity;
    size_t n_shown; /* bytes at the front of held that the last call lent out                   */
    bool met;       /* a stop was met: nothing comes out any more until stop_reset              */
    bool out_of_memory; /* a push was too long for held and held could not grow; counts as met   */
} stop_filter;

/* Takes the stops as they are: they must stay until stop_clear.  An empty one, or one that begins
 * inside a UTF-8 character and so could cut a character in two, is refused. */
weir_status stop_init(stop_filter *f, const char *const *stops, int n, weir_error *err);
void stop_clear(stop_filter *f); /* accepts an all-zero filter */
void stop_reset(stop_filter *f); /* forgets what is held: a new reply begins */

/* Forgets what is held and holds this instead, all of it, as another filter did; a stop that lies
 * in it whole comes too late.  False: no memory. */
bool stop_keep(stop_filter *f, const char *text, size_t size);

/* Takes size bytes, gives what may be shown in *out (valid until the next call, or until data is
 * gone); true: a stop was met, *out ends before it.  Whole characters in, whole characters out.
 * Allocates only when size is more than STOP_ROOM. */
bool stop_push(stop_filter *f, const char *data, size_t size, const char **out, size_t *out_size);

/* What is held when the text ends without a stop. */
void stop_flush(stop_filter *f, const char **out, size_t *out_size);

enum { STOP_ROOM = 4096 };
