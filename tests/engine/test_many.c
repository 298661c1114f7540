/* test_many.c - many sessions in one step: what one gets never depends on the others, to the bit.
 *
 * Every session of a crowd has a twin in an engine of its own that reads the same tokens alone.
 * Steps pick sessions at random, in random order, and give each one token, a slice of a prompt, or
 * the token it chooses itself; longer prompts and pins come in between.
 *
 * SPDX-License-Identifier: MIT */
#include "support/sessions.h"
#include "support/tiny.h"

#include "base/rng.h"

enum { SESSIONS = 6, STEPS = 120, WINDOW = 20, CHUNK = 8 };

static const weir_session_options kinds[SESSIONS] = {
    {0},
    {.mode = WEIR_WINDOW, .sampling = {.temperature = 1, .top_p = 0.9f, .seed = 2}},
    {.sinks = 1, .start = (uint64_t)1 << 40, .sampling.repeat_penalty = 1.2f},
    {.policy = WEIR_EVICT_TURN, .sampling = {.temperature = 1, .typical_p = 0.8f}},
    {.mode = WEIR_RECOMPUTE, .sampling = {.temperature = 2, .seed = 5}},
    {.sinks = WEIR_NO_SINKS, .start = 12345},
};

typedef struct crowd {
    weir_engine *together;
    weir_session *many[SESSIONS];
    weir_engine *apart[SESSIONS];
    weir_session *twins[SESSIONS];
    rng rng;
} crowd;

static void open_crowd(crowd *c, const char *path, weir_engine_options o) {
    o.window = WINDOW;
    o.chunk = CHUNK;
    o.sessions = SESSIONS;
    c->together = engine_of(path, &o);
    o.sessions = 1;
    for (int i = 0; i < SESSIONS; i++) {
        c->apart[i] = engine_of(path, &o);
        c->many[i] = session_of(c->together, &kinds[i]);
        c->twins[i] = session_of(c->apart[i], &kinds[i]);
    }
}

static void close_crowd(crowd *c) {
    for (int i = 0; i < SESSIONS; i++) {
        weir_session_close(c->many[i]);
        weir_session_close(c->twins[i]);
        weir_engine_close(c->apart[i]);
    }
    weir_engine_close(c->together);
}

static int below(crowd *c, int n) {
    return (int)(rng_next(&c->rng) % (uint64_t)n);
}

/* A prompt of its own for one session, as long as a few chunks. */
static void feed_one(crowd *c, int i) {
    int32_t ids[3 * CHUNK];
    const int n = 1 + below(c, 3 * CHUNK);
    random_ids(ids, n, TINY_VOCAB, rng_next(&c->rng));
    feed(c->many[i], ids, n);
    feed(c->twins[i], ids, n);
    if (kinds[i].policy == WEIR_EVICT_TURN) {
        window_mark_turn(&c->many[i]->window);
        window_mark_turn(&c->twins[i]->window);
    }
}

static void pin_one(crowd *c, int i) {
    const window *w = &c->many[i]->window;
    if (w->mode != WEIR_STREAMING || w->pins == w->max_pins || w->first == w->pos) return;
    OK(weir_session_pin(c->many[i], w->pos - 1, w->pos, &err));
    OK(weir_session_pin(c->twins[i], w->pos - 1, w->pos, &err));
}

static void step_some(crowd *c) {
    int order[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) order[i] = i;
    for (int i = SESSIONS - 1; i > 0; i--) {
        const int k = below(c, i + 1), swapped = order[i];
        order[i] = order[k];
        order[k] = swapped;
    }
    const int n = 1 + below(c, SESSIONS);
    int32_t ids[SESSIONS][CHUNK];
    weir_feed feeds[SESSIONS];
    for (int i = 0, left = CHUNK - n; i < n; i++) {
        const int extra = below(c, 2) * below(c, left + 1);
        random_ids(ids[i], 1 + extra, TINY_VOCAB, rng_next(&c->rng));
        left -= extra;
        feeds[i] = (weir_feed){.session = c->many[order[i]],
                               .ids = ids[i],
                               .n = 1 + extra,
                               .is_prompt = extra > 0,
                               .has_more = below(c, 8) == 0};
        if (!below(c, 3) && weir_session_logits(c->many[order[i]])) {
            feeds[i] = (weir_feed){.session = c->many[order[i]]};
        }
    }
    OK(weir_engine_step(c->together, feeds, n, &err));
    for (int i = 0; i < n; i++) {
        const int who = order[i];
        weir_feed alone = feeds[i];
        alone.session = c->twins[who];
        alone.has_more = false;
        if (!alone.ids && i % 2) {
            OK(weir_session_sample(c->twins[who], &ids[i][0], &err));
            alone.ids = ids[i], alone.n = 1;
        }
        if (i % 2) {
            feed(c->twins[who], alone.ids, alone.n);
        } else {
            OK(weir_engine_step(c->apart[who], &alone, 1, &err));
        }
        assert_int_equal(feeds[i].token, i % 2 ? alone.ids[alone.n - 1] : alone.token);
        if (feeds[i].has_more) {
            assert_null(weir_session_logits(c->many[who]));
        } else {
            assert_same_logits(c->many[who], c->twins[who]);
        }
    }
}

static void check_crowd(const char *path, const weir_engine_options *o) {
    crowd c = {.rng = {(uint64_t)o->kv_type + 10}};
    open_crowd(&c, path, *o);
    for (int i = 0; i < STEPS; i++) {
        const int what = below(&c, 16);
        if (what == 0) feed_one(&c, below(&c, SESSIONS));
        if (what == 1) pin_one(&c, below(&c, SESSIONS));
        step_some(&c);
    }
    for (int i = 0; i < SESSIONS; i++) { /* those not in the last steps still have theirs */
        if (weir_session_logits(c.many[i])) assert_same_logits(c.many[i], c.twins[i]);
        assert_int_equal(stats_of(c.many[i]).position, stats_of(c.twins[i]).position);
    }
    close_crowd(&c);
}

static void a_session_gets_the_same_bits_alone_and_in_a_crowd(void **state) {
    static const struct {
        const char *backend;
        weir_type weights, kv_type;
    } cases[] = {
        {"cpu", WEIR_TYPE_DEFAULT, WEIR_F32},  {"cpu", WEIR_Q8, WEIR_F16},
        {"cpu", WEIR_Q4, WEIR_INT8},           {"cpu-portable", WEIR_TYPE_DEFAULT, WEIR_BF16},
        {"ref", WEIR_TYPE_DEFAULT, WEIR_INT8}, {"cpu", WEIR_Q8, WEIR_FP8},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        check_crowd(*state, &(weir_engine_options){.backend = cases[i].backend,
                                                   .threads = 1 + (int)(i == 0),
                                                   .weights = cases[i].weights,
                                                   .kv_type = cases[i].kv_type});
    }
}

/* The bound a server keeps: every step has a token for every stream, and no step is longer than a
 * chunk, however long the prompt that is read meanwhile. */
static void streams_wait_for_one_chunk_while_a_long_prompt_is_read(void **state) {
    enum { STREAMS = 3, PROMPT = 5 * CHUNK + 3, SLICE = CHUNK - STREAMS };
    weir_engine_options o = {.threads = 1, .sessions = STREAMS + 1, .window = 64, .chunk = CHUNK};
    weir_engine *e = engine_of(*state, &o), *apart = engine_of(*state, &o);
    weir_session *s[STREAMS + 1], *twins[STREAMS + 1];
    int32_t prompt[PROMPT];
    random_ids(prompt, PROMPT, TINY_VOCAB, 12);
    for (int i = 0; i <= STREAMS; i++) {
        s[i] = session_of(e, NULL);
        twins[i] = session_of(apart, NULL);
        if (i == STREAMS) continue;
        feed(s[i], prompt + i, 2);
        feed(twins[i], prompt + i, 2);
    }
    int steps = 0;
    for (int at = 0; at < PROMPT; steps++) {
        int32_t ids[STREAMS];
        weir_feed feeds[STREAMS + 1];
        for (int i = 0; i < STREAMS; i++) {
            OK(weir_session_sample(s[i], &ids[i], &err));
            feeds[i] = (weir_feed){.session = s[i], .ids = &ids[i], .n = 1};
        }
        const int n = MIN_OF(SLICE, PROMPT - at);
        feeds[STREAMS] = (weir_feed){.session = s[STREAMS],
                                     .ids = prompt + at,
                                     .n = n,
                                     .is_prompt = true,
                                     .has_more = at + n < PROMPT};
        OK(weir_engine_step(e, feeds, STREAMS + 1, &err));
        at += n;
    }
    feed(twins[STREAMS], prompt, PROMPT);
    assert_int_equal(stats_of(s[STREAMS]).prompt_tokens, PROMPT);
    for (int i = 0; i <= STREAMS; i++) {
        int32_t ids[PROMPT];
        if (i < STREAMS) generate_greedy(twins[i], ids, steps);
        if (i < STREAMS) assert_int_equal(stats_of(s[i]).generated_tokens, steps);
        assert_same_logits(s[i], twins[i]);
        weir_session_close(s[i]);
        weir_session_close(twins[i]);
    }
    assert_int_equal(steps, (PROMPT + SLICE - 1) / SLICE);
    weir_engine_close(e);
    weir_engine_close(apart);
}

static void a_step_that_cannot_be_moves_nothing(void **state) {
    const weir_engine_options o = {.threads = 1, .sessions = 3, .window = WINDOW, .chunk = CHUNK};
    weir_engine *e = engine_of(*state, &o), *other = engine_of(*state, &o);
    weir_session *s[4];
    for (int i = 0; i < 3; i++) s[i] = session_of(e, &(weir_session_options){.mode = WEIR_DENSE});
    s[3] = session_of(other, NULL);
    const int32_t ids[] = {1, 2, 3, 4};
    for (int i = 0; i < 3; i++) feed(s[i], ids, 3);
    weir_feed feeds[4];
    for (int i = 0; i < 4; i++) feeds[i] = (weir_feed){.session = s[i], .ids = ids, .n = 1};
    weir_feed twice[] = {feeds[0], feeds[1], feeds[0]}, foreign[] = {feeds[0], feeds[3]};
    weir_feed none[] = {feeds[0], {0}}, unsaid = {.session = s[0], .is_prompt = true};
    REFUSED(weir_engine_step(e, twice, 3, &err), WEIR_ERR_ARGUMENT,
            "sessions 0 and 2 of the step are the same");
    REFUSED(weir_engine_step(e, foreign, 2, &err), WEIR_ERR_ARGUMENT,
            "session 1 of the step: not of this engine");
    REFUSED(weir_engine_step(e, none, 2, &err), WEIR_ERR_ARGUMENT, "session 1 of the step");
    REFUSED(weir_engine_step(e, &unsaid, 1, &err), WEIR_ERR_ARGUMENT, "n 0, is_prompt 1");
    REFUSED(weir_engine_step(e, feeds, 0, &err), WEIR_ERR_ARGUMENT, "a step of 0 sessions");
    REFUSED(weir_engine_step(e, feeds, 4, &err), WEIR_ERR_ARGUMENT,
            "a step of 4 sessions, this engine has 3");
    const int32_t wrong[] = {1, 999};
    feeds[2] = (weir_feed){.session = s[2], .ids = wrong, .n = 2};
    REFUSED(weir_engine_step(e, feeds, 3, &err), WEIR_ERR_ARGUMENT,
            "session 2 of the step: token 1: is 999, wanted 0 to 287");
    int32_t rest[WINDOW] = {0};
    feeds[2] = (weir_feed){.session = s[2], .ids = rest, .n = CHUNK - 1};
    REFUSED(weir_engine_step(e, feeds, 3, &err), WEIR_ERR_ARGUMENT,
            "a step of 9 tokens, wanted at most 8");
    feeds[2].n = CHUNK + 1;
    REFUSED(weir_engine_step(e, feeds, 3, &err), WEIR_ERR_ARGUMENT,
            "session 2 of the step: 9 tokens, wanted 1 to 8");
    feed(s[2], rest, WINDOW - 3);
    feeds[2].n = 1;
    REFUSED(weir_engine_step(e, feeds, 3, &err), WEIR_ERR_FULL,
            "session 2 of the step: the window of 20 tokens has room for 0 more");
    assert_int_equal(stats_of(s[0]).position, 3);
    assert_int_equal(stats_of(s[1]).position, 3);
    assert_same_logits(s[0], s[1]);
    for (int i = 0; i < 4; i++) weir_session_close(s[i]);
    weir_engine_close(e);
    weir_engine_close(other);
}

static void a_slot_that_was_used_before_gives_what_a_new_one_gives(void **state) {
    const weir_engine_options o = {.threads = 1, .window = WINDOW, .chunk = CHUNK};
    int32_t ids[100];
    random_ids(ids, 100, TINY_VOCAB, 8);
    weir_engine *used = engine_of(*state, &o), *fresh = engine_of(*state, &o);
    weir_session *s = session_of(used, NULL);
    feed(s, ids, 100);
    weir_session_close(s);
    s = session_of(used, NULL);
    weir_session *t = session_of(fresh, NULL);
    for (int i = 99; i >= 0; i--) {
        feed(s, &ids[i], 1);
        feed(t, &ids[i], 1);
        assert_same_logits(s, t);
    }
    weir_session_close(s);
    weir_session_close(t);
    weir_engine_close(used);
    weir_engine_close(fresh);
}

static int make_model(void **state) {
    *state = tiny_make(&(tiny_model){.seed = 3, .dim = 64, .n_heads = 8, .ffn_dim = 96});
    return 0;
}

static int remove_model(void **state) {
    tiny_remove(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_gets_the_same_bits_alone_and_in_a_crowd),
        cmocka_unit_test(streams_wait_for_one_chunk_while_a_long_prompt_is_read),
        cmocka_unit_test(a_step_that_cannot_be_moves_nothing),
        cmocka_unit_test(a_slot_that_was_used_before_gives_what_a_new_one_gives),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
