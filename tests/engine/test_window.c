/* test_window.c - the bookkeeping of the streaming rule against its definition.
 *
 * The definition here is a list of the stream positions that are in the cache, from which tokens
 * are taken one at a time, or one turn at a time, until there is room: what a window does with
 * arithmetic alone.  Random operations on windows of all sizes, modes and policies must give the
 * same rows.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/window.h"

#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_SIZE = 40, MAX_MARKS = 4096, OPERATIONS = 400 };

typedef struct naive { /* what is in the cache, in words anyone can check */
    int size, sinks, max_pins;
    weir_mode mode;
    weir_policy policy;
    uint64_t start, pos;
    int pins;
    uint64_t recent[2 * MAX_SIZE]; /* [n_recent] positions, ascending */
    int n_recent;
    uint64_t marks[MAX_MARKS]; /* [n_marks] positions where turns began, each once */
    int n_marks;
    uint64_t evicted_tokens;
} naive;

/* The number of the turn a position lies in; 0: before the first mark. */
static int turn_of(const naive *n, uint64_t pos) {
    int turn = 0;
    while (turn < n->n_marks && n->marks[turn] <= pos) turn++;
    return turn;
}

static void drop_oldest(naive *n, int count) {
    memmove(n->recent, n->recent + count, (size_t)(n->n_recent - count) * sizeof *n->recent);
    n->n_recent -= count;
    n->evicted_tokens += (uint64_t)count;
}

static void make_room(naive *n, int most) {
    while (n->pins + n->n_recent > most) {
        int count = 1;
        const int oldest = turn_of(n, n->recent[0]);
        if (n->policy == WEIR_EVICT_TURN && oldest != turn_of(n, n->pos)) {
            while (count < n->n_recent && turn_of(n, n->recent[count]) == oldest) count++;
        }
        drop_oldest(n, count);
    }
}

static void naive_push(naive *n, batch_row *row) {
    *row = (batch_row){.pos = n->pos};
    if (n->pos - n->start < (uint64_t)n->sinks) {
        row->is_pin = true;
        row->p = (uint32_t)n->pins;
        row->pins = ++n->pins;
        n->pos++;
        return;
    }
    make_room(n, n->size - 1);
    n->recent[n->n_recent++] = n->pos++;
    row->recent = n->n_recent;
    row->pins = n->pins;
    row->p = (uint32_t)(n->pins + n->n_recent - 1);
}

static void naive_mark(naive *n) {
    if (n->n_marks && n->marks[n->n_marks - 1] == n->pos) return;
    assert_in_range(n->n_marks, 0, MAX_MARKS - 1);
    n->marks[n->n_marks++] = n->pos;
}

/* Turns that began and of which nothing is left; those of sinks alone never leave. */
static uint64_t turns_gone(const naive *n) {
    const uint64_t first = n->n_recent ? n->recent[0] : n->pos;
    uint64_t gone = 0;
    for (int i = 0; i + 1 < n->n_marks; i++) {
        const uint64_t end = n->marks[i + 1];
        gone += end <= first && end - n->start > (uint64_t)n->sinks;
    }
    return gone;
}

static void check_same(const window *w, const naive *n) {
    assert_int_equal(w->pos, n->pos);
    assert_int_equal(w->pins, n->pins);
    assert_int_equal(w->first, n->n_recent ? n->recent[0] : n->pos);
    assert_int_equal(window_in_use(w), n->pins + n->n_recent);
    assert_int_equal(w->evicted_tokens, n->evicted_tokens);
    assert_int_equal(w->evicted_turns, turns_gone(n));
    assert_true(window_in_use(w) <= w->size);
}

static void push_both(window *w, naive *n) {
    batch_row got, wanted;
    const int32_t token = (int32_t)(n->pos % 1000);
    naive_push(n, &wanted);
    window_push(w, token, 3, &got);
    assert_int_equal(got.token, token);
    assert_int_equal(got.slot, 3);
    assert_int_equal(got.pos, wanted.pos);
    assert_int_equal(got.p, wanted.p);
    assert_int_equal(got.pins, wanted.pins);
    assert_int_equal(got.recent, wanted.recent);
    assert_int_equal(got.is_pin, wanted.is_pin);
}

static void pin_both(window *w, naive *n, rng *r) {
    const int most = MIN_OF(n->max_pins - n->pins, n->n_recent);
    if (n->mode != WEIR_STREAMING || most < 1) return;
    const int count = 1 + (int)(rng_next(r) % (uint64_t)most);
    n->pins += count;
    make_room(n, n->size);
    window_add_pins(w, count);
}

static void operate(window *w, naive *n, rng *r) {
    for (int i = 0; i < OPERATIONS; i++) {
        const uint64_t what = rng_next(r) % 16;
        if (what == 0) {
            pin_both(w, n, r);
        } else if (what <= 2) {
            naive_mark(n);
            window_mark_turn(w);
        } else if (window_room(w) > 0) {
            push_both(w, n);
        }
        check_same(w, n);
    }
}

static void a_window_is_what_the_definition_says(void **state) {
    (void)state;
    static const uint64_t starts[] = {0, 1000000, (uint64_t)1 << 40};
    rng r = {7};
    for (int round = 0; round < 3000; round++) {
        weir_session_options o = {.mode = (weir_mode)(round % 4),
                                  .policy = (weir_policy)(round / 4 % 2),
                                  .start = starts[round % 3],
                                  .sinks = WEIR_NO_SINKS};
        const int size = 1 + (int)(rng_next(&r) % MAX_SIZE);
        const int max_pins = (int)(rng_next(&r) % (uint64_t)size);
        const bool can_sink = o.mode == WEIR_STREAMING || o.mode == WEIR_RECOMPUTE;
        if (can_sink && max_pins) o.sinks = 1 + (int)(rng_next(&r) % (uint64_t)max_pins);
        if (round % 5 == 0) o.sinks = WEIR_NO_SINKS;
        static naive n;
        n = (naive){.size = size,
                    .sinks = o.sinks > 0 ? o.sinks : 0,
                    .max_pins = max_pins,
                    .mode = o.mode,
                    .policy = o.policy,
                    .start = o.start,
                    .pos = o.start};
        window w;
        window_init(&w, size, max_pins, &o);
        operate(&w, &n, &r);
    }
}

static window make(int size, const weir_session_options *o) {
    window w;
    window_init(&w, size, size - 1, o);
    return w;
}

static void push(window *w, int n) {
    batch_row row;
    for (int i = 0; i < n; i++) window_push(w, 0, 0, &row);
}

static void four_tokens_are_sinks_unless_something_else_is_said(void **state) {
    (void)state;
    window w = make(16, &(weir_session_options){0});
    assert_int_equal(w.sinks, 4);
    w = make(3, &(weir_session_options){0});
    assert_int_equal(w.sinks, 2); /* as many as can be pinned */
    w = make(16, &(weir_session_options){.sinks = WEIR_NO_SINKS});
    assert_int_equal(w.sinks, 0);
    w = make(16, &(weir_session_options){.mode = WEIR_WINDOW});
    assert_int_equal(w.sinks, 0);
    w = make(16, &(weir_session_options){.mode = WEIR_RECOMPUTE});
    assert_int_equal(w.sinks, 0);
    w = make(16, &(weir_session_options){.mode = WEIR_RECOMPUTE, .sinks = 2});
    assert_int_equal(w.sinks, 2);
}

static void only_dense_mode_runs_out_of_room(void **state) {
    (void)state;
    window w = make(8, &(weir_session_options){.mode = WEIR_DENSE, .start = 5});
    assert_int_equal(window_room(&w), 8);
    push(&w, 3);
    assert_int_equal(window_room(&w), 5);
    push(&w, 5);
    assert_int_equal(window_room(&w), 0);
    w = make(8, &(weir_session_options){0});
    push(&w, 100);
    assert_true(window_room(&w) == UINT64_MAX);
}

static void a_turn_marked_twice_is_one(void **state) {
    (void)state;
    window w = make(8, &(weir_session_options){.policy = WEIR_EVICT_TURN, .sinks = WEIR_NO_SINKS});
    window_mark_turn(&w);
    window_mark_turn(&w);
    push(&w, 4);
    window_mark_turn(&w);
    push(&w, 5);
    assert_int_equal(w.evicted_tokens, 4);
    assert_int_equal(w.evicted_turns, 1);
}

/* More turns than are remembered: the oldest melt, and leave together. */
static void turns_without_number_keep_the_window_within_bounds(void **state) {
    (void)state;
    enum { SIZE = 700 };
    window w = make(SIZE, &(weir_session_options){.policy = WEIR_EVICT_TURN});
    batch_row row;
    for (int i = 0; i < 5000; i++) {
        window_mark_turn(&w);
        const uint64_t first = w.first;
        window_push(&w, 0, 0, &row);
        assert_true(w.n_turns <= WINDOW_TURNS);
        assert_true(window_in_use(&w) <= SIZE && row.pins + row.recent == window_in_use(&w));
        assert_true(w.first >= first);
        assert_int_equal(w.evicted_tokens, w.first > 4 ? w.first - 4 : 0);
    }
    assert_int_equal(w.evicted_turns + w.melted + (uint64_t)w.n_turns, 4996);
    assert_true(w.evicted_turns > 4000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_is_what_the_definition_says),
        cmocka_unit_test(four_tokens_are_sinks_unless_something_else_is_said),
        cmocka_unit_test(only_dense_mode_runs_out_of_room),
        cmocka_unit_test(a_turn_marked_twice_is_one),
        cmocka_unit_test(turns_without_number_keep_the_window_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
