/* test_cuda_draw.c - a GPU draws the token that the sampler draws, from the same logits and number.
 *
 * On the emulated GPU of cuda_fake.c, whose memory tests can write to; with another libcuda.so.1
 * these tests skip.  Logits are like a model's, flat, full of ties, with NaNs and infinities.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"
#include "engine/sampler.h"

#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "backend/made_model.h"

enum { ROWS = 3 };

typedef struct rig {
    made *model;
    backend *b;
    int vocab;
    rng rng;
} rig;

static rig rig_open(int vocab) {
    const made_shape shape = {.type = TENSOR_F16,
                              .dim = 32,
                              .ffn_dim = 32,
                              .n_layers = 1,
                              .n_heads = 2,
                              .n_kv_heads = 2,
                              .head_dim = 16,
                              .vocab = vocab,
                              .rope_dims = 16};
    rig g = {.model = made_new(&shape, 4, ROWS), .vocab = vocab, .rng = {(uint64_t)vocab}};
    const kv_shape store = {.type = WEIR_F16,
                            .n_layers = 1,
                            .n_kv_heads = 2,
                            .head_dim = 16,
                            .slots = ROWS,
                            .pins = 1,
                            .ring = 8};
    const backend_options o = {.threads = 1};
    weir_error err = {0};
    char reason[BACKEND_REASON];
    if (backend_open(&g.b, "cuda", g.model->plan, &store, &o, reason, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    return g;
}

static void rig_close(rig *g) {
    g->b->api->close(g->b);
    made_free(g->model);
}

static int below(rig *g, int n) {
    return (int)(rng_next(&g->rng) % (uint64_t)n);
}

static float uniform(rig *g) {
    return (float)rng_uniform(&g->rng);
}

static void fill_logits(rig *g, float *x) {
    const int kind = below(g, 6);
    for (int i = 0; i < g->vocab; i++) {
        const float z = uniform(g) + uniform(g) + uniform(g) + uniform(g) - 2;
        const float kinds[] = {6 * z, 0.01f * z, -7, floorf(4 * z), 40 * z, i == 5 ? 90 : z};
        x[i] = kinds[kind];
    }
    static const uint32_t odd[] = {0x7fc00000, 0xff800000, 0x7f800000, 0x80000000, 0x7f7fffff};
    for (int i = below(g, 8); i > 4; i--) {
        memcpy(&x[below(g, g->vocab)], &odd[below(g, kind == 4 ? 5 : 2)], sizeof *x);
    }
}

static weir_sampling random_options(rig *g, int32_t *ids, float *values) {
    weir_sampling o = {.seed = rng_next(&g->rng)};
    if (below(g, 8)) o.temperature = 0.1f + 2 * uniform(g);
    if (below(g, 2)) o.top_k = 1 + below(g, below(g, 2) ? 40 : g->vocab);
    if (below(g, 2)) o.top_p = uniform(g);
    if (below(g, 3) == 0) o.min_p = 0.2f * uniform(g);
    if (below(g, 3) == 0) o.repeat_penalty = 0.5f + uniform(g);
    if (below(g, 3) == 0) o.presence_penalty = uniform(g);
    if (below(g, 3) == 0) o.frequency_penalty = uniform(g) - 0.5f;
    o.penalty_last = below(g, 100);
    if (below(g, 3)) return o;
    o.n_bias = 1 + below(g, 20);
    o.bias_ids = ids;
    o.bias_values = values;
    for (int i = 0; i < o.n_bias; i++) {
        ids[i] = below(g, MIN_OF(g->vocab, 40)); /* some twice */
        values[i] = below(g, 5) ? 10 * uniform(g) - 5 : -INFINITY;
    }
    return o;
}

/* Row 1 of three is drawn for, behind a row that is not and before one that is; or it is the only
 * one, and blocks share it. */
static void draw_there(rig *g, const float *logits, const batch_draw *how, int32_t *id) {
    cuda *c = cuda_of(g->b);
    const int n = below(g, 2) ? 1 : ROWS, at = n == 1 ? 0 : 1;
    const batch_row rows[ROWS] = {{.slot = 2}, {.slot = 1}, {.slot = 0}};
    const int wanted[ROWS] = {0, 1, 2};
    const weir_sampling greedy = {0};
    const batch_draw draws[ROWS] = {{0}, *how, {.how = &greedy}};
    const batch b = {
        .rows = rows + 1 - at, .wanted = wanted, .draws = draws + 1 - at, .n = n, .n_wanted = n};
    cuda_world w = c->layout.world;
    float *to = (float *)(uintptr_t)w.logits;
    w.n_wanted = n;
    for (int i = 0; i < n; i++) {
        memcpy(to + i * w.logits_stride, logits, (size_t)g->vocab * sizeof *to);
    }
    size_t bytes = 8;
    cuda_pack_draws(c, &b, c->host, &bytes, &w);
    assert_true(bytes <= c->layout.step_bytes);
    memcpy((void *)(uintptr_t)c->layout.step, c->host, bytes);
    assert_int_equal(cuda_launch_draws(c, &w, NULL), WEIR_OK);
    assert_int_equal(w.shares, n == 1 ? c->device.n_blocks : 1);
    int32_t ids[ROWS];
    assert_int_equal(c->base.api->drawn(&c->base, 0, ids, n, NULL), WEIR_OK);
    *id = ids[at];
    assert_int_equal(((int *)(uintptr_t)w.drawn)[1], ids[at]);
    for (int i = 0; i < n; i++) {
        assert_memory_equal(to + i * w.logits_stride, logits, (size_t)g->vocab * sizeof *to);
    }
}

/* A token that is on the device only must count in penalties as one that the host has told. */
static void draw_both(rig *g, const float *logits, bool is_ahead) {
    sampler s;
    int32_t ids[32], recent[SAMPLER_RECENT], id, there;
    float values[32];
    weir_error err = {0};
    const weir_sampling o = random_options(g, ids, values);
    assert_int_equal(sampler_init(&s, &o, g->vocab, &err), WEIR_OK);
    assert_true(sampler_can_defer(&s));
    for (int i = below(g, 200); i > 0; i--)
        sampler_accept(&s, below(g, MIN_OF(g->vocab, 60)), true);
    const int32_t last = below(g, g->vocab);
    ((int *)(uintptr_t)cuda_of(g->b)->layout.world.drawn)[1] = last;
    rng after;
    const batch_draw how = sampler_defer(&s, is_ahead, &after, recent);
    if (is_ahead) sampler_accept(&s, last, true);
    const weir_status status = sampler_pick(&s, logits, &id, &err);
    draw_there(g, logits, &how, &there);
    if (status != WEIR_OK) id = -1;
    if (id != there) {
        fail_msg("vocabulary %d: %d on the host, %d on the GPU; temperature %g, top_k %d, top_p "
                 "%g, min_p %g, %d biases, %d recent",
                 g->vocab, (int)id, (int)there, (double)o.temperature, o.top_k, (double)o.top_p,
                 (double)o.min_p, o.n_bias, how.n_recent);
    }
    if (status == WEIR_OK) assert_int_equal(after.state, s.state.rng.state);
    sampler_clear(&s);
}

static void need_fake(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library && dlsym(library, "fake_calls")) return;
    print_message("skipped: libcuda.so.1 is not the emulated one\n");
    skip();
}

static void the_gpu_draws_what_the_sampler_draws(void **state) {
    (void)state;
    need_fake();
    static const struct {
        int vocab, draws;
    } cases[] = {{7, 300}, {72, 1500}, {1003, 700}, {9001, 120}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        rig g = rig_open(cases[i].vocab);
        float logits[9001];
        for (int k = 0; k < cases[i].draws; k++) {
            fill_logits(&g, logits);
            draw_both(&g, logits, k % 2);
        }
        rig_close(&g);
    }
}

static void logits_that_are_no_numbers_give_no_token(void **state) {
    (void)state;
    need_fake();
    rig g = rig_open(72);
    float logits[72];
    for (int i = 0; i < 72; i++) logits[i] = i % 2 ? NAN : -INFINITY;
    const weir_sampling greedy = {0}, warm = {.temperature = 1, .top_k = 3};
    int32_t id = 0;
    draw_there(&g, logits, &(batch_draw){.how = &greedy}, &id);
    assert_true(id < 0);
    draw_there(&g, logits, &(batch_draw){.how = &warm, .uniform = 0.5}, &id);
    assert_true(id < 0);
    rig_close(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gpu_draws_what_the_sampler_draws),
        cmocka_unit_test(logits_that_are_no_numbers_give_no_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
