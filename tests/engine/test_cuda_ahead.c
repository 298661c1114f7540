/* test_cuda_ahead.c - a host that runs ahead of its GPU leaves no trace.
 *
 * Sessions reply on the emulated GPU of cuda_fake.c, which draws the tokens; their twins sample on
 * the host, one token at a time.  Tokens, logits, window and generator are the same to the bit,
 * whatever is done in between: interrupts, messages, snapshots, forks, other sessions.
 *
 * SPDX-License-Identifier: MIT */
#include "support/sessions.h"
#include "support/tiny.h"

#include "base/rng.h"

#include <dlfcn.h>
#include <stdio.h>

enum { WINDOW = 12, CHUNK = 8, PROMPT = 9 };

static int (*calls)(const char *name);

typedef struct pair {
    weir_engine *e, *apart;
    weir_session *s, *twin;
} pair;

static weir_engine *open_engine(const char *path) {
    const weir_engine_options o = {
        .backend = "cuda", .threads = 1, .window = WINDOW, .chunk = CHUNK, .sessions = 3};
    return engine_of(path, &o);
}

static pair pair_open(const char *path, const weir_session_options *o) {
    pair p = {.e = open_engine(path), .apart = open_engine(path)};
    int32_t ids[PROMPT];
    random_ids(ids, PROMPT, 256, 5);
    p.s = session_of(p.e, o);
    p.twin = session_of(p.apart, o);
    feed(p.s, ids, PROMPT);
    feed(p.twin, ids, PROMPT);
    return p;
}

static void pair_close(pair *p) {
    weir_session_close(p->s);
    weir_session_close(p->twin);
    weir_engine_close(p->e);
    weir_engine_close(p->apart);
}

/* Replies until n tokens more are read; returns how many were. */
static int reply_some(weir_session *s, int n) {
    int tokens = 0;
    while (tokens < n) {
        weir_text text;
        OK(weir_session_next(s, &text, &err));
        tokens += text.tokens;
    }
    return tokens;
}

/* The same number of tokens, by the host. */
static void follow(weir_session *twin, int n) {
    for (int i = 0; i < n; i++) {
        int32_t id;
        OK(weir_session_sample(twin, &id, &err));
        feed(twin, &id, 1);
    }
}

static void assert_same(weir_session *a, weir_session *b) {
    assert_int_equal(a->window.pos, b->window.pos);
    assert_memory_equal(&a->window, &b->window, sizeof a->window);
    for (uint64_t pos = a->window.first; pos < a->window.pos; pos++) {
        assert_int_equal(a->history[pos % WINDOW], b->history[pos % WINDOW]);
    }
    assert_memory_equal(a->sampler.state.recent, b->sampler.state.recent,
                        sizeof a->sampler.state.recent);
    assert_int_equal(a->sampler.state.n_seen, b->sampler.state.n_seen);
    assert_int_equal(a->sampler.state.rng.state, b->sampler.state.rng.state);
    assert_same_logits(a, b);
}

static const int32_t bias_ids[] = {3, 40, 41};
static const float bias_values[] = {-5, 2, 1};
static const weir_session_options ways[] = {
    {.sampling = {.no_loop_guard = true}},
    {.sampling = {.temperature = 1, .top_p = 0.9f, .top_k = 60, .seed = 2}},
    {.mode = WEIR_WINDOW,
     .sampling = {.temperature = 1.3f, .min_p = 0.02f, .repeat_penalty = 1.2f, .seed = 3}},
    {.policy = WEIR_EVICT_TURN,
     .sinks = WEIR_NO_SINKS,
     .sampling = {.temperature = 2,
                  .frequency_penalty = 0.4f,
                  .penalty_last = 9,
                  .bias_ids = bias_ids,
                  .bias_values = bias_values,
                  .n_bias = 3,
                  .seed = 4}},
    {.sampling = {.temperature = 1, .typical_p = 0.8f, .seed = 6}}, /* the host samples */
};

static void a_reply_drawn_on_the_gpu_is_the_one_the_host_draws(void **state) {
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        pair p = pair_open(*state, &ways[i]);
        for (int part = 0; part < 2; part++) { /* past the window */
            const int n = reply_some(p.s, 4);
            follow(p.twin, n);
            if (part == 0) weir_session_interrupt(p.s);
            if (part == 1) assert_same(p.s, p.twin); /* before, nobody asked for the logits */
        }
        pair_close(&p);
    }
}

static void logits_stay_on_the_gpu_until_somebody_asks(void **state) {
    if (!calls) {
        print_message("skipped: libcuda.so.1 is not the emulated one\n");
        skip();
    }
    pair p = pair_open(*state, &(weir_session_options){.sampling.temperature = 1});
    reply_some(p.s, 2);
    const int reads = calls("cuMemcpyDtoHAsync_v2"), waits = calls("cuStreamSynchronize");
    reply_some(p.s, 6);
    assert_int_equal(calls("cuMemcpyDtoHAsync_v2"), reads);
    assert_int_equal(calls("cuStreamSynchronize"), waits);
    assert_non_null(weir_session_logits(p.s));
    assert_int_equal(calls("cuMemcpyDtoHAsync_v2"), reads + 1);
    pair_close(&p);
}

static void what_comes_in_between_finds_the_state_of_the_last_token(void **state) {
    const weir_sampling cold = {.temperature = 0.5f, .seed = 9, .repeat_penalty = 1.1f};
    const int32_t ids[] = {7, 8, 9};
    char path[] = BINARY_DIR "/ahead.session";
    pair p = pair_open(*state, &(weir_session_options){.sampling.temperature = 1});
    weir_session *other = session_of(p.e, NULL), *fork;
    feed(other, ids, 3);
    for (int round = 0; round < 6; round++) {
        follow(p.twin, reply_some(p.s, 1 + round % 3));
        switch (round % 6) {
        case 0: reply_some(other, 2); break; /* its steps overwrite the logits */
        case 1:
            feed(p.s, ids, 3);
            feed(p.twin, ids, 3);
            break;
        case 2:
            OK(weir_session_set_sampling(p.s, &cold, &err));
            OK(weir_session_set_sampling(p.twin, &cold, &err));
            break;
        case 3:
            OK(weir_session_fork(&fork, p.s, &err));
            assert_same(fork, p.twin);
            reply_some(fork, 3);
            weir_session_close(fork);
            break;
        case 4:
            OK(weir_session_save(p.s, path, &err));
            reply_some(p.s, 4);
            OK(weir_session_restore(p.s, path, &err));
            break;
        default: break;
        }
        if (round % 2) assert_same(p.s, p.twin);
    }
    assert_same(p.s, p.twin);
    weir_session_close(other);
    pair_close(&p);
    remove(path);
}

static void a_full_window_ends_a_reply_and_loses_nothing(void **state) {
    pair p = pair_open(*state, &(weir_session_options){.mode = WEIR_DENSE});
    follow(p.twin, reply_some(p.s, 1));
    weir_text text;
    while (weir_session_next(p.s, &text, NULL) == WEIR_OK) follow(p.twin, text.tokens);
    follow(p.twin, (int)(p.s->window.pos - p.twin->window.pos));
    REFUSED(weir_session_next(p.s, &text, &err), WEIR_ERR_FULL, "has room for 0 more");
    assert_same(p.s, p.twin);
    pair_close(&p);
}

/* Streams without ids in steps of many: tokens and logits are those of the twin, sampled by the
 * host. In f32 they are so whatever the number of rows. */
typedef struct crowd {
    weir_engine *e, *apart;
    weir_session *s[COUNT_OF(ways)], *twins[COUNT_OF(ways)];
} crowd;

static crowd crowd_open(const char *path) {
    const weir_engine_options o = {.backend = "cuda",
                                   .threads = 1,
                                   .window = WINDOW,
                                   .chunk = CHUNK,
                                   .sessions = COUNT_OF(ways),
                                   .kv_type = WEIR_F32};
    crowd c = {.e = engine_of(path, &o), .apart = engine_of(path, &o)};
    int32_t ids[PROMPT];
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        random_ids(ids, PROMPT, 256, 5 + i);
        c.s[i] = session_of(c.e, &ways[i]);
        c.twins[i] = session_of(c.apart, &ways[i]);
        feed(c.s[i], ids, PROMPT);
        feed(c.twins[i], ids, PROMPT);
    }
    return c;
}

static void crowd_close(crowd *c) {
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        weir_session_close(c->s[i]);
        weir_session_close(c->twins[i]);
    }
    weir_engine_close(c->e);
    weir_engine_close(c->apart);
}

/* One step in which sessions from to end go on; `prompted` gets a prompt instead, -1: none. */
static void crowd_step(crowd *c, int from, int end, int prompted) {
    static const int32_t prompt[] = {7, 8, 9};
    weir_feed feeds[COUNT_OF(ways)];
    int n = 0;
    for (int i = from; i < end; i++, n++) {
        feeds[n] = (weir_feed){.session = c->s[i]};
        if (i != prompted) continue;
        feeds[n].ids = prompt;
        feeds[n].n = 3;
        feeds[n].is_prompt = true;
    }
    OK(weir_engine_step(c->e, feeds, n, &err));
    for (int i = from, k = 0; i < end; i++, k++) {
        int32_t id = 9;
        if (i != prompted) OK(weir_session_sample(c->twins[i], &id, &err));
        assert_int_equal(feeds[k].token, id);
        feed(c->twins[i], i == prompted ? prompt : &id, i == prompted ? 3 : 1);
    }
}

static void streams_of_one_step_draw_what_each_draws_alone(void **state) {
    crowd c = crowd_open(*state);
    const int all = COUNT_OF(ways);
    for (int round = 0; round < 3; round++) {
        crowd_step(&c, 0, all, -1); /* more than CUDA_TOKENS rows */
        crowd_step(&c, 0, all, -1);
        crowd_step(&c, 1, 3, round == 1 ? 1 : -1); /* a few; the others keep their logits */
        if (round == 1) assert_same(c.s[2], c.twins[2]);
        crowd_step(&c, 0, all, round);
        if (round == 2) OK(weir_session_set_sampling(c.s[1], &ways[2].sampling, &err));
        if (round == 2) OK(weir_session_set_sampling(c.twins[1], &ways[2].sampling, &err));
    }
    crowd_step(&c, 0, all, -1);
    for (int i = 0; i < all; i++) assert_same(c.s[i], c.twins[i]);
    crowd_close(&c);
}

static void a_step_of_streams_brings_nobodys_logits_to_the_host(void **state) {
    if (!calls) {
        print_message("skipped: libcuda.so.1 is not the emulated one\n");
        skip();
    }
    crowd c = crowd_open(*state);
    weir_feed feeds[4];
    for (int i = 0; i < 4; i++) feeds[i] = (weir_feed){.session = c.s[i]};
    OK(weir_engine_step(c.e, feeds, 4, &err));
    const int reads = calls("cuMemcpyDtoHAsync_v2"), waits = calls("cuStreamSynchronize");
    for (int i = 0; i < 3; i++) OK(weir_engine_step(c.e, feeds, 4, &err));
    assert_int_equal(calls("cuMemcpyDtoHAsync_v2"), reads);
    assert_int_equal(calls("cuStreamSynchronize"), waits);
    assert_non_null(weir_session_logits(c.s[2])); /* one row, and its draw still counts */
    OK(weir_engine_step(c.e, feeds, 4, &err));
    assert_int_equal(calls("cuMemcpyDtoHAsync_v2"), reads + 1);
    OK(weir_engine_step(c.e, feeds, 3, &err)); /* who is left out keeps his */
    assert_int_equal(calls("cuMemcpyDtoHAsync_v2"), reads + 2);
    crowd_close(&c);
}

static int make_model(void **state) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    void *found = library ? dlsym(library, "fake_calls") : NULL;
    memcpy(&calls, &found, sizeof calls);
    *state = tiny_make(&(tiny_model){.seed = 3, .dim = 32, .n_heads = 4, .ffn_dim = 32});
    return 0;
}

static int remove_model(void **state) {
    tiny_remove(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reply_drawn_on_the_gpu_is_the_one_the_host_draws),
        cmocka_unit_test(logits_stay_on_the_gpu_until_somebody_asks),
        cmocka_unit_test(what_comes_in_between_finds_the_state_of_the_last_token),
        cmocka_unit_test(a_full_window_ends_a_reply_and_loses_nothing),
        cmocka_unit_test(streams_of_one_step_draw_what_each_draws_alone),
        cmocka_unit_test(a_step_of_streams_brings_nobodys_logits_to_the_host),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
