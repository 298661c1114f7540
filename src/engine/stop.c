/* stop.c - one Knuth-Morris-Pratt automaton per stop string.
 *
 * After each byte, matched[j] is the length of the longest beginning of stop j that is an ending of
 * the text so far.  The longest of these over all stops is exactly what must be held back: any
 * shorter hold could leak, any longer one would hold text that can no longer become a stop.  The
 * cost is O(1) amortised per byte and stop, whatever the stops look like.
 *
 * held is the text not shown yet; a push appends to it, and the next call first drops the front
 * part that was lent out, so the pieces a caller sees are contiguous.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/stop.h"

#include "base/arena.h"

#include <assert.h>
#include <string.h>

typedef struct stop_matcher {
    const char *stop;
    size_t length, matched;
    size_t *fallback; /* [length] of the match ending here, the next shorter one */
} matcher;

/* Follows the fallbacks until the byte fits: the automaton's only step. */
static size_t advance(const matcher *m, size_t matched, char byte) {
    assert(matched < m->length);
    while (matched && m->stop[matched] != byte) matched = m->fallback[matched - 1];
    return matched + (m->stop[matched] == byte);
}

static bool matcher_init(matcher *m, const char *stop) {
    const size_t length = strlen(stop);
    *m = (matcher){.stop = stop, .length = length, .fallback = mem_array(length, sizeof(size_t))};
    if (!m->fallback) return false;
    for (size_t i = 1; i < length; i++) {
        m->fallback[i] = advance(m, m->fallback[i - 1], stop[i]);
    }
    return true;
}

static weir_status check(const char *stop, int i, weir_error *err) {
    if (!stop[0]) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "stop %d: is empty, wanted text", i + 1);
    }
    if (((unsigned char)stop[0] & 0xc0) == 0x80) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "stop %d: begins inside a UTF-8 character (byte 0x%02x)", i + 1,
                         (unsigned char)stop[0]);
    }
    return WEIR_OK;
}

weir_status stop_init(stop_filter *f, const char *const *stops, int n, weir_error *err) {
    *f = (stop_filter){0};
    size_t longest = 0;
    for (int i = 0; i < n; i++) {
        if (!stops[i]) continue;
        WEIR_TRY(check(stops[i], i, err));
        const size_t length = strlen(stops[i]);
        if (length > longest) longest = length;
    }
    if (!longest) return WEIR_OK;
    f->stops = stops;
    f->n = n;
    f->capacity = size_add(longest, STOP_ROOM);
    f->held = mem_alloc(f->capacity);
    f->matchers = mem_array((size_t)n, sizeof(matcher));
    bool ok = f->held && f->matchers;
    for (int i = 0; i < n && ok; i++) {
        if (stops[i]) ok = matcher_init(&f->matchers[i], stops[i]);
    }
    if (ok) return WEIR_OK;
    stop_clear(f);
    return weir_fail(err, WEIR_ERR_MEMORY, "stops: out of memory");
}

void stop_clear(stop_filter *f) {
    for (int i = 0; i < f->n && f->matchers; i++) mem_free(f->matchers[i].fallback);
    mem_free(f->matchers);
    mem_free(f->held);
    *f = (stop_filter){0};
}

void stop_reset(stop_filter *f) {
    f->n_held = f->n_shown = 0;
    f->met = f->out_of_memory = false;
    for (int i = 0; i < f->n; i++) f->matchers[i].matched = 0;
}

/* Drops what the last call lent out; what is left was held back. */
static void drop_shown(stop_filter *f) {
    f->n_held -= f->n_shown;
    if (f->n_shown) memmove(f->held, f->held + f->n_shown, f->n_held);
    f->n_shown = 0;
}

static bool append(stop_filter *f, const char *data, size_t size) {
    if (size > f->capacity - f->n_held) {
        const size_t capacity = size_add(f->n_held, size);
        char *grown = mem_grow(f->held, capacity, 1);
        if (!grown) return false;
        f->held = grown;
        f->capacity = capacity;
    }
    memcpy(f->held + f->n_held, data, size);
    f->n_held += size;
    return true;
}

/* Feeds one byte to every automaton.  Returns the length of the longest stop it completes, 0 when
 * none; *partial is what may still become one. */
static size_t match_byte(stop_filter *f, char byte, size_t *partial) {
    size_t complete = 0;
    *partial = 0;
    for (int i = 0; i < f->n; i++) {
        matcher *m = &f->matchers[i];
        if (!m->stop) continue;
        m->matched = advance(m, m->matched, byte);
        if (m->matched == m->length && m->length > complete) complete = m->length;
        if (m->matched > *partial) *partial = m->matched;
    }
    return complete;
}

static void lend(stop_filter *f, size_t size, const char **out, size_t *out_size) {
    f->n_shown = size;
    *out = f->held;
    *out_size = size;
}

bool stop_keep(stop_filter *f, const char *text, size_t size) {
    stop_reset(f);
    if (!size) return true;
    if (size_add(size, STOP_ROOM) > f->capacity) {
        char *grown = mem_grow(f->held, size_add(size, STOP_ROOM), 1);
        if (!grown) return false;
        f->held = grown;
        f->capacity = size + STOP_ROOM;
    }
    memcpy(f->held, text, size);
    f->n_held = size;
    size_t partial;
    for (size_t i = 0; i < size; i++) {
        if (!match_byte(f, text[i], &partial)) continue;
        for (int k = 0; k < f->n; k++) f->matchers[k].matched = 0;
    }
    return true;
}

bool stop_push(stop_filter *f, const char *data, size_t size, const char **out, size_t *out_size) {
    *out = data;
    *out_size = f->met ? 0 : size;
    const bool is_clear = f->n == 0 && f->n_held == f->n_shown; /* no stops, nothing kept */
    if (is_clear || f->met || size == 0) return f->met;
    drop_shown(f);
    const size_t start = f->n_held;
    if (!append(f, data, size)) {
        f->met = f->out_of_memory = true;
        *out_size = 0;
        return true;
    }
    size_t partial = 0;
    for (size_t i = start; i < f->n_held; i++) {
        const size_t complete = match_byte(f, f->held[i], &partial);
        if (complete) {
            assert(complete <= i + 1); /* the beginning of a match was held back */
            f->met = true;
            lend(f, i + 1 - complete, out, out_size);
            return true;
        }
    }
    lend(f, f->n_held - partial, out, out_size);
    return false;
}

void stop_flush(stop_filter *f, const char **out, size_t *out_size) {
    drop_shown(f);
    lend(f, f->met ? 0 : f->n_held, out, out_size);
    for (int i = 0; i < f->n; i++) f->matchers[i].matched = 0;
}
