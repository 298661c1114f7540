/* test_session.c - properties of one timeline: how it is fed, what it keeps, what it refuses.
 *
 * A model of one layer has keys that depend on their own token only, so what a stream gives after
 * any number of evictions must be what a fresh one gives that was fed exactly the kept tokens:
 * each is at the position that its index in the cache says.  Deeper models are compared with a
 * float64 implementation in test_golden.c.
 *
 * SPDX-License-Identifier: MIT */
#include "support/sessions.h"
#include "support/tiny.h"

#include <inttypes.h>

enum { N = 150, WINDOW = 24 };

/* float32 sums in another order; with 16-bit keys a last bit may round the other way. */
static const double TOLERANCE = 1e-5, TOLERANCE_16_BIT = 5e-3, TOLERANCE_INT8 = 5e-2,
                    TOLERANCE_FP8 = 2e-1;

typedef struct models { /* made once for all tests */
    char *deep, *flat;  /* two layers; one */
    int32_t ids[N];
} models;

static weir_engine *open_small(const char *path, int size, int chunk, weir_type kv_type) {
    const weir_engine_options o = {.threads = 1,
                                   .sessions = 2,
                                   .window = size,
                                   .max_sinks = size / 2,
                                   .chunk = chunk,
                                   .kv_type = kv_type};
    return engine_of(path, &o);
}

static double error_between(const weir_session *a, const weir_session *b) {
    return row_error(weir_session_logits(a), weir_session_logits(b), TINY_VOCAB);
}

/* ---- feeding */

static void check_chunks(const models *m, weir_type type, const weir_session_options *o,
                         double tolerance) {
    weir_engine *by_one = open_small(m->deep, WINDOW, 1, type);
    weir_session *one = session_of(by_one, o);
    const int n = o->mode == WEIR_DENSE ? WINDOW : N;
    feed(one, m->ids, n);
    static const int chunks[] = {2, 7, 64, 256};
    for (size_t i = 0; i < COUNT_OF(chunks); i++) {
        weir_engine *e = open_small(m->deep, WINDOW, chunks[i], type);
        weir_session *s = session_of(e, o);
        feed(s, m->ids, n);
        const double error = error_between(s, one);
        if (error > tolerance) {
            fail_msg("mode %d, KV type %d, chunk %d: error %.2e", (int)o->mode, (int)type,
                     chunks[i], error);
        }
        assert_int_equal(stats_of(s).evicted_tokens, stats_of(one).evicted_tokens);
        assert_int_equal(stats_of(s).prompt_tokens, n);
        weir_session_close(s);
        weir_engine_close(e);
    }
    weir_session_close(one);
    weir_engine_close(by_one);
}

static void a_prompt_fed_in_chunks_gives_the_logits_of_one_token_at_a_time(void **state) {
    const models *m = *state;
    for (int mode = WEIR_STREAMING; mode <= WEIR_RECOMPUTE; mode++) {
        const weir_session_options o = {.mode = (weir_mode)mode};
        check_chunks(m, WEIR_F32, &o, TOLERANCE);
        check_chunks(m, WEIR_F16, &o, TOLERANCE_16_BIT);
        check_chunks(m, WEIR_BF16, &o, 8 * TOLERANCE_16_BIT);
        check_chunks(m, WEIR_INT8, &o, TOLERANCE_INT8);
        check_chunks(m, WEIR_FP8, &o, TOLERANCE_FP8);
    }
}

typedef struct rows { /* logits as eval shows them */
    float (*at)[TINY_VOCAB];
    size_t n;
    size_t cancel_at; /* SIZE_MAX: never */
} rows;

static int keep_row(void *user, size_t i, const float *logits) {
    rows *r = user;
    assert_in_range(i, 0, N - 1);
    memcpy(r->at[i], logits, sizeof r->at[i]);
    r->n++;
    return i == r->cancel_at;
}

static void eval_shows_what_feeding_one_by_one_gives(void **state) {
    const models *m = *state;
    static float shown[N][TINY_VOCAB];
    weir_engine *e = open_small(m->deep, WINDOW, 16, WEIR_F32);
    weir_session *a = session_of(e, NULL), *b = session_of(e, NULL);
    rows r = {.at = shown, .cancel_at = SIZE_MAX};
    OK(weir_session_eval(a, m->ids, N, 0, keep_row, &r, &err));
    assert_int_equal(r.n, N);
    for (int i = 0; i < N; i++) {
        feed(b, &m->ids[i], 1);
        assert_true(row_error(shown[i], weir_session_logits(b), TINY_VOCAB) < TOLERANCE);
    }
    assert_memory_equal(shown[N - 1], weir_session_logits(a), sizeof shown[0]);
    assert_int_equal(stats_of(a).position, N);
    weir_session_close(a);
    weir_session_close(b);
    weir_engine_close(e);
}

static void eval_in_recompute_mode_shows_every_stride_th(void **state) {
    const models *m = *state;
    static float shown[N][TINY_VOCAB];
    weir_engine *e = open_small(m->deep, WINDOW, 16, WEIR_F32);
    const weir_session_options o = {.mode = WEIR_RECOMPUTE};
    weir_session *a = session_of(e, &o), *b = session_of(e, &o);
    rows r = {.at = shown, .cancel_at = SIZE_MAX};
    OK(weir_session_eval(a, m->ids, N, 40, keep_row, &r, &err));
    assert_int_equal(r.n, (N + 39) / 40);
    for (int i = 0; i < N; i++) {
        feed(b, &m->ids[i], 1);
        if (i % 40 == 0) assert_memory_equal(shown[i], weir_session_logits(b), sizeof shown[i]);
    }
    assert_same_logits(a, b);
    weir_session_close(a);
    weir_session_close(b);
    weir_engine_close(e);
}

static void an_eval_that_was_canceled_can_go_on(void **state) {
    const models *m = *state;
    static float shown[N][TINY_VOCAB];
    weir_engine *e = open_small(m->deep, WINDOW, 8, WEIR_F32);
    weir_session *a = session_of(e, NULL), *b = session_of(e, NULL);
    rows r = {.at = shown, .cancel_at = 19};
    REFUSED(weir_session_eval(a, m->ids, 100, 1, keep_row, &r, &err), WEIR_ERR_CANCELED,
            "stopped after 24 of 100 tokens");
    assert_int_equal(r.n, 20);
    assert_int_equal(stats_of(a).position, 24); /* the chunk that was read is read */
    feed(b, m->ids, 24);
    assert_same_logits(a, b);
    feed(a, m->ids + 24, 50);
    feed(b, m->ids + 24, 50);
    assert_same_logits(a, b);
    weir_session_close(a);
    weir_session_close(b);
    weir_engine_close(e);
}

static int stop_at_second(void *user, const char *what, uint64_t done, uint64_t total) {
    int *calls = user;
    if (strcmp(what, "reading") != 0) return 0; /* the weights may load */
    assert_true(done <= total && total == 60);
    return ++*calls == 2;
}

static void a_prompt_that_was_canceled_can_go_on(void **state) {
    const models *m = *state;
    int calls = 0;
    weir_engine_options o = {.threads = 1, .sessions = 2, .window = WINDOW, .chunk = 16};
    weir_engine *plain = engine_of(m->deep, &o);
    o.progress = stop_at_second;
    o.progress_user = &calls;
    weir_engine *e = engine_of(m->deep, &o);
    weir_session *a = session_of(e, NULL), *b = session_of(plain, NULL);
    REFUSED(weir_session_feed(a, m->ids, 60, &err), WEIR_ERR_CANCELED,
            "stopped after 32 of 60 tokens");
    assert_int_equal(stats_of(a).position, 32);
    assert_int_equal(stats_of(a).prompt_tokens, 32);
    assert_null(weir_session_logits(a)); /* of a prompt's middle there are none */
    feed(a, m->ids + 32, 16);
    feed(b, m->ids, 48);
    assert_same_logits(a, b);
    weir_session_close(a);
    weir_session_close(b);
    weir_engine_close(e);
    weir_engine_close(plain);
}

/* ---- what is kept */

/* After each token: the same tokens that the window keeps, fed to nothing, give the same logits. */
static void check_kept(const models *m, const weir_session_options *o, bool pins) {
    weir_engine *e = open_small(m->flat, WINDOW, 16, WEIR_F32);
    weir_session *s = session_of(e, o);
    weir_session *fresh = session_of(e, &(weir_session_options){.mode = WEIR_DENSE});
    for (int i = 0; i < N; i++) {
        if (pins && i % 37 == 36) {
            const uint64_t first = s->window.first;
            OK(weir_session_pin(s, first + 2, first + 4, &err));
        }
        if (o->policy == WEIR_EVICT_TURN && i % 6 == 5) window_mark_turn(&s->window);
        feed(s, &m->ids[i], 1);
        int32_t kept[WINDOW];
        const window *w = &s->window;
        int n = 0;
        for (int k = 0; k < w->pins; k++) kept[n++] = s->pinned[k];
        for (uint64_t pos = w->first; pos < w->pos; pos++) kept[n++] = m->ids[pos - w->start];
        assert_int_equal(stats_of(s).in_window, n);
        assert_true(n <= WINDOW);
        if (o->policy == WEIR_EVICT_TOKEN) assert_int_equal(n, MIN_OF(i + 1, WINDOW));
        weir_session_reset(fresh);
        feed(fresh, kept, n);
        const double error = error_between(s, fresh);
        if (error > TOLERANCE) fail_msg("mode %d, token %d: %.2e", (int)o->mode, i, error);
    }
    if (o->mode != WEIR_DENSE) assert_true(stats_of(s).evicted_tokens >= N - 3 * WINDOW);
    assert_int_equal(stats_of(s).evicted_turns > 0, o->policy == WEIR_EVICT_TURN);
    weir_session_close(s);
    weir_session_close(fresh);
    weir_engine_close(e);
}

static void after_evictions_a_stream_is_a_fresh_one_of_the_kept_tokens(void **state) {
    static const int sinks[] = {WEIR_NO_SINKS, 1, 4, 11};
    static const uint64_t starts[] = {0, 1000003, (uint64_t)1 << 40};
    for (size_t i = 0; i < COUNT_OF(sinks); i++) {
        weir_session_options o = {.sinks = sinks[i], .start = starts[i % COUNT_OF(starts)]};
        check_kept(*state, &o, false);
        o.policy = WEIR_EVICT_TURN;
        check_kept(*state, &o, false);
        o.policy = WEIR_EVICT_TOKEN;
        o.mode = WEIR_RECOMPUTE;
        check_kept(*state, &o, false);
    }
    check_kept(*state, &(weir_session_options){.mode = WEIR_WINDOW}, false);
}

static void after_pinning_a_stream_is_a_fresh_one_of_the_kept_tokens(void **state) {
    static const uint64_t starts[] = {0, 1000003, (uint64_t)1 << 40, ((uint64_t)1 << 62) - 1};
    for (size_t i = 0; i < COUNT_OF(starts); i++) {
        weir_session_options o = {.sinks = i % 2 ? WEIR_NO_SINKS : 0, .start = starts[i]};
        check_kept(*state, &o, true);
        o.policy = WEIR_EVICT_TURN;
        check_kept(*state, &o, true);
    }
}

static void window_mode_is_streaming_without_sinks(void **state) {
    const models *m = *state;
    weir_engine *e = open_small(m->deep, WINDOW, 16, WEIR_F16);
    weir_session *a = session_of(e, &(weir_session_options){.mode = WEIR_WINDOW});
    weir_session *b = session_of(e, &(weir_session_options){.sinks = WEIR_NO_SINKS});
    feed(a, m->ids, N);
    feed(b, m->ids, N);
    assert_same_logits(a, b);
    weir_session_close(a);
    weir_session_close(b);
    weir_engine_close(e);
}

/* A model trained with a sliding window attends no more, even where everything is to be kept. */
static void a_trained_sliding_window_is_respected(void **state) {
    const models *m = *state;
    char *path = tiny_make(&(tiny_model){.seed = 4, .sliding_window = 16});
    weir_engine *wide = open_small(path, WINDOW, 8, WEIR_F32);
    weir_engine *exact = open_small(path, 16, 8, WEIR_F32);
    weir_session *none = NULL;
    REFUSED(weir_session_open(&none, wide, NULL, &err), WEIR_ERR_ARGUMENT,
            "window: is 24, this model attends at most 16 keys (sliding_window)");
    weir_session *a = session_of(wide, &(weir_session_options){.mode = WEIR_DENSE});
    weir_session *b = session_of(exact, &(weir_session_options){.mode = WEIR_WINDOW});
    feed(a, m->ids, N);
    feed(b, m->ids, N);
    assert_true(error_between(a, b) < TOLERANCE);
    assert_int_equal(stats_of(a).in_window, 16);
    weir_session_close(a);
    weir_session_close(b);
    weir_engine_close(wide);
    weir_engine_close(exact);
    tiny_remove(path);
}

/* ---- reset */

static void a_reset_session_is_a_fresh_one(void **state) {
    const models *m = *state;
    weir_engine *e = open_small(m->deep, WINDOW, 16, WEIR_INT8);
    const weir_session_options o = {
        .policy = WEIR_EVICT_TURN,
        .sampling = {.temperature = 1, .seed = 5, .presence_penalty = 1}};
    weir_session *used = session_of(e, &o), *fresh = session_of(e, &o);
    feed(used, m->ids, N);
    OK(weir_session_pin(used, N - 5, N - 2, &err));
    for (int i = 0; i < 20; i++) {
        weir_text text;
        OK(weir_session_next(used, &text, &err));
    }
    weir_session_reset(used);
    const weir_session_stats a = stats_of(used), b = stats_of(fresh);
    assert_memory_equal(&a, &b, sizeof a);
    assert_null(weir_session_logits(used));
    feed(used, m->ids + 9, 100);
    feed(fresh, m->ids + 9, 100);
    for (int i = 0; i < 50; i++) {
        int32_t x, y;
        assert_same_logits(used, fresh);
        OK(weir_session_sample(used, &x, &err));
        OK(weir_session_sample(fresh, &y, &err));
        assert_int_equal(x, y);
        feed(used, &x, 1);
        feed(fresh, &y, 1);
    }
    weir_session_close(used);
    weir_session_close(fresh);
    weir_engine_close(e);
}

/* ---- refusals, which change nothing */

static void check_untouched(weir_session *s, const weir_session_stats *before,
                            const float *logits) {
    const weir_session_stats now = stats_of(s);
    assert_int_equal(now.position, before->position);
    assert_int_equal(now.in_window, before->in_window);
    assert_int_equal(now.pinned, before->pinned);
    assert_int_equal(now.prompt_tokens, before->prompt_tokens);
    assert_int_equal(now.evicted_tokens, before->evicted_tokens);
    assert_memory_equal(weir_session_logits(s), logits, TINY_VOCAB * sizeof *logits);
}

static void a_full_dense_session_says_so_and_loses_nothing(void **state) {
    const models *m = *state;
    float logits[TINY_VOCAB];
    weir_engine *e = open_small(m->deep, WINDOW, 16, WEIR_F32);
    const weir_session_options o = {.mode = WEIR_DENSE};
    weir_session *a = session_of(e, &o), *b = session_of(e, &o);
    feed(a, m->ids, 20);
    feed(b, m->ids, 20);
    memcpy(logits, weir_session_logits(a), sizeof logits);
    const weir_session_stats before = stats_of(a);
    REFUSED(weir_session_feed(a, m->ids, 5, &err), WEIR_ERR_FULL,
            "the window of 24 tokens has room for 4 more, not 5");
    rows r = {0};
    REFUSED(weir_session_eval(a, m->ids, 5, 1, keep_row, &r, &err), WEIR_ERR_FULL, "room for 4");
    check_untouched(a, &before, logits);
    feed(a, m->ids + 20, 4);
    feed(b, m->ids + 20, 4);
    REFUSED(weir_engine_step(e, &(weir_feed){.session = a, .ids = m->ids, .n = 1}, 1, &err),
            WEIR_ERR_FULL, "has room for 0 more");
    weir_text text;
    REFUSED(weir_session_next(a, &text, &err), WEIR_ERR_FULL, "streaming mode never fills up");
    assert_same_logits(a, b);
    assert_int_equal(stats_of(a).evicted_tokens, 0);
    weir_session_close(a);
    weir_session_close(b);
    weir_engine_close(e);
}

static void tokens_that_are_none_are_refused_before_anything_is_read(void **state) {
    const models *m = *state;
    float logits[TINY_VOCAB];
    weir_engine *e = open_small(m->deep, WINDOW, 4, WEIR_F32);
    weir_session *s = session_of(e, NULL);
    feed(s, m->ids, 10);
    memcpy(logits, weir_session_logits(s), sizeof logits);
    const weir_session_stats before = stats_of(s);
    const int32_t high[] = {1, 2, 3, 4, 5, 6, 7, TINY_VOCAB}, low[] = {-1};
    REFUSED(weir_session_feed(s, high, 8, &err), WEIR_ERR_ARGUMENT,
            "token 7: is 288, wanted 0 to 287");
    REFUSED(weir_session_feed(s, low, 1, &err), WEIR_ERR_ARGUMENT, "token 0: is -1, wanted");
    REFUSED(weir_engine_step(e, &(weir_feed){.session = s, .ids = high + 4, .n = 4}, 1, &err),
            WEIR_ERR_ARGUMENT, "session 0 of the step: token 3: is 288, wanted 0 to 287");
    OK(weir_session_feed(s, NULL, 0, &err));
    check_untouched(s, &before, logits);
    weir_session_close(s);
    weir_engine_close(e);
}

static void nothing_is_sampled_from_nothing(void **state) {
    const models *m = *state;
    weir_engine *e = open_small(m->deep, WINDOW, 4, WEIR_F32);
    weir_session *s = session_of(e, NULL);
    int32_t id;
    weir_text text;
    assert_null(weir_session_logits(s));
    REFUSED(weir_session_sample(s, &id, &err), WEIR_ERR_ARGUMENT, "there are no logits yet");
    REFUSED(weir_session_next(s, &text, &err), WEIR_ERR_ARGUMENT, "there are no logits yet");
    assert_int_equal(text.size, 0);
    weir_session_close(s);
    weir_engine_close(e);
}

static void refuse_options(weir_engine *e, const weir_session_options *o, const char *words) {
    weir_session *s = (weir_session *)&s;
    REFUSED(weir_session_open(&s, e, o, &err), WEIR_ERR_ARGUMENT, words);
    assert_null(s);
}

static void session_options_that_cannot_be_are_refused(void **state) {
    const models *m = *state;
    weir_engine *e = open_small(m->deep, WINDOW, 4, WEIR_F32);
    refuse_options(e, &(weir_session_options){.sinks = 13}, "sinks: is 13, this engine keeps room");
    refuse_options(e, &(weir_session_options){.sinks = -2}, "sinks: is -2");
    refuse_options(e, &(weir_session_options){.sinks = 2, .mode = WEIR_DENSE},
                   "dense and window mode pin nothing");
    refuse_options(e, &(weir_session_options){.sinks = 2, .mode = WEIR_WINDOW},
                   "dense and window mode pin nothing");
    refuse_options(e, &(weir_session_options){.mode = (weir_mode)9}, "mode 9, policy 0: not known");
    refuse_options(e, &(weir_session_options){.policy = (weir_policy)2},
                   "mode 0, policy 2: not known");
    refuse_options(e, &(weir_session_options){.start = UINT64_MAX},
                   "start: is 18446744073709551615");
    refuse_options(e, &(weir_session_options){.sampling = {.temperature = -1}}, "temperature");
    refuse_options(e, &(weir_session_options){.sampling = {.stops = {""}}}, "stop 1: is empty");
    weir_session *s = session_of(e, NULL);
    REFUSED(weir_session_set_sampling(s, &(weir_sampling){.top_p = 2}, &err), WEIR_ERR_ARGUMENT,
            "top_p");
    weir_session_close(s);
    weir_engine_close(e);
}

static void refuse_pin(weir_session *s, uint64_t from, uint64_t to, const char *words) {
    REFUSED(weir_session_pin(s, from, to, &err), WEIR_ERR_ARGUMENT, words);
}

static void only_what_is_there_and_fits_can_be_pinned(void **state) {
    const models *m = *state;
    float logits[TINY_VOCAB];
    weir_engine *e = open_small(m->deep, WINDOW, 16, WEIR_F32);
    weir_session *s = session_of(e, NULL);
    feed(s, m->ids, 100); /* 4 pinned, recent are 80 to 99 */
    memcpy(logits, weir_session_logits(s), sizeof logits);
    const weir_session_stats before = stats_of(s);
    refuse_pin(s, 79, 81, "positions 79 to 81 cannot be pinned: the window holds 80 to 100");
    refuse_pin(s, 99, 101, "positions 99 to 101 cannot be pinned");
    refuse_pin(s, 90, 90, "positions 90 to 90 cannot be pinned");
    refuse_pin(s, 95, 85, "positions 95 to 85 cannot be pinned");
    refuse_pin(s, 0, 2, "positions 0 to 2 cannot be pinned");
    refuse_pin(s, 80, 89, "9 tokens to pin, room for 8 (max_sinks 12, 4 pinned)");
    check_untouched(s, &before, logits);
    OK(weir_session_pin(s, 80, 88, &err));
    assert_int_equal(stats_of(s).pinned, 12);
    assert_int_equal(stats_of(s).in_window, WINDOW);
    assert_int_equal(stats_of(s).evicted_tokens, before.evicted_tokens + 8);
    refuse_pin(s, 98, 99, "1 tokens to pin, room for 0 (max_sinks 12, 12 pinned)");
    weir_session_close(s);
    for (int mode = WEIR_DENSE; mode <= WEIR_RECOMPUTE; mode++) {
        s = session_of(e, &(weir_session_options){.mode = (weir_mode)mode});
        feed(s, m->ids, 10);
        refuse_pin(s, 2, 3, "only streaming mode pins tokens");
        weir_session_close(s);
    }
    weir_engine_close(e);
}

static int make_models(void **state) {
    static models m;
    m.deep = tiny_make(&(tiny_model){.seed = 1});
    m.flat = tiny_make(&(tiny_model){.seed = 2, .n_layers = 1});
    random_ids(m.ids, N, TINY_VOCAB, 1);
    *state = &m;
    return 0;
}

static int remove_models(void **state) {
    models *m = *state;
    tiny_remove(m->deep);
    tiny_remove(m->flat);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_fed_in_chunks_gives_the_logits_of_one_token_at_a_time),
        cmocka_unit_test(eval_shows_what_feeding_one_by_one_gives),
        cmocka_unit_test(eval_in_recompute_mode_shows_every_stride_th),
        cmocka_unit_test(an_eval_that_was_canceled_can_go_on),
        cmocka_unit_test(a_prompt_that_was_canceled_can_go_on),
        cmocka_unit_test(after_evictions_a_stream_is_a_fresh_one_of_the_kept_tokens),
        cmocka_unit_test(after_pinning_a_stream_is_a_fresh_one_of_the_kept_tokens),
        cmocka_unit_test(window_mode_is_streaming_without_sinks),
        cmocka_unit_test(a_trained_sliding_window_is_respected),
        cmocka_unit_test(a_reset_session_is_a_fresh_one),
        cmocka_unit_test(a_full_dense_session_says_so_and_loses_nothing),
        cmocka_unit_test(tokens_that_are_none_are_refused_before_anything_is_read),
        cmocka_unit_test(nothing_is_sampled_from_nothing),
        cmocka_unit_test(session_options_that_cannot_be_are_refused),
        cmocka_unit_test(only_what_is_there_and_fits_can_be_pinned),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
