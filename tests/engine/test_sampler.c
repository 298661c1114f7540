/* test_sampler.c - tokens are drawn from the distribution the options describe.
 *
 * The options have a definition in float64 (define below) that shares no code and no trick with
 * draw.c: softmax by exp, sorted by qsort.  Drawn frequencies are compared with it by a chi-square
 * test; seeds are fixed, so a pass is a pass for ever.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/sampler.h"

#include "base/arena.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SMALL = 48 }; /* tokens of the vocabularies drawn from */
static const uint64_t GOLDEN_1 = 0xbfcddb7cb0e896afu, GOLDEN_MAX = 0x7d56f6cb680ed2c2u;

/* ---- test data */

static float normal(rng *r) {
    const double u = 1.0 - rng_uniform(r), v = rng_uniform(r);
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* Five kinds of logits: like a model's, flat, all equal, many ties, one far ahead. */
enum { KINDS = 5 };
static void fill_logits(float *x, int n, int kind, uint64_t seed) {
    rng r = {seed};
    for (int i = 0; i < n; i++) {
        const float z = normal(&r);
        const float kinds[KINDS] = {3 * z, 0.01f * z, -7, floorf(2 * z), i == n / 2 ? 90 : z};
        x[i] = kinds[kind];
    }
}

/* ---- float64 definitions */

typedef struct token {
    int id;
    double rank, p;
} token;

static int by_rank(const void *a, const void *b) {
    const token *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void softmax(const float *logits, int n, double temperature, double *p) {
    double best = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) best = fmax(best, (double)logits[i]); /* fmax skips NaN */
    for (int i = 0; i < n; i++) {
        p[i] = isnan(logits[i]) ? 0 : exp(((double)logits[i] - best) / temperature);
        sum += p[i];
    }
    for (int i = 0; i < n; i++) p[i] /= sum;
}

static void normalize(double *p, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += p[i];
    for (int i = 0; i < n; i++) p[i] /= sum;
}

static double entropy(const double *p, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum -= p[i] > 0 ? p[i] * log(p[i]) : 0;
    return sum;
}

/* Zeroes all but the first tokens by rank: count of them, or as many as have the mass. */
static void keep_first(double *p, int n, const double *rank, int count, double mass) {
    static token order[SMALL];
    for (int i = 0; i < n; i++) order[i] = (token){i, p[i] > 0 ? rank[i] : DBL_MAX, p[i]};
    qsort(order, (size_t)n, sizeof order[0], by_rank);
    double sum = 0;
    for (int i = 0; i < n; i++) {
        if (i >= count || sum >= mass) p[order[i].id] = 0;
        sum += order[i].p;
    }
    normalize(p, n);
}

/* The distribution that options, recent tokens and logits mean; n at most SMALL. */
static void define(const weir_sampling *o, const int32_t *recent, int n_recent, const float *logits,
                   int n, double *p) {
    float x[SMALL];
    const int first =
        o->penalty_last && o->penalty_last < n_recent ? n_recent - o->penalty_last : 0;
    double rank[SMALL];
    for (int i = 0; i < n; i++) x[i] = logits[i];
    for (int i = 0; i < o->n_bias; i++) x[o->bias_ids[i]] += o->bias_values[i];
    for (int i = 0; i < n; i++) {
        int count = 0;
        for (int j = first; j < n_recent; j++) count += recent[j] == i;
        if (!count) continue;
        if (o->repeat_penalty != 0.0f) {
            x[i] = x[i] > 0 ? x[i] / o->repeat_penalty : x[i] * o->repeat_penalty;
        }
        x[i] -= o->presence_penalty + o->frequency_penalty * (float)count;
    }
    softmax(x, n, (double)o->temperature, p);
    for (int i = 0; i < n; i++) rank[i] = -p[i];
    if (o->top_k) keep_first(p, n, rank, o->top_k, 2);
    if (o->typical_p > 0) {
        const double h = entropy(p, n);
        for (int i = 0; i < n; i++) rank[i] = fabs(-log(p[i]) - h);
        keep_first(p, n, rank, n, (double)o->typical_p);
    }
    for (int i = 0; i < n; i++) rank[i] = -p[i];
    if (o->top_p > 0) keep_first(p, n, rank, n, (double)o->top_p);
    double best = 0;
    for (int i = 0; i < n; i++) best = fmax(best, p[i]);
    for (int i = 0; i < n; i++) p[i] = p[i] < (double)o->min_p * best ? 0 : p[i];
    normalize(p, n);
}

/* Draws and compares: nothing of probability 0 comes, the rest as often as it should. */
static void assert_drawn_from(sampler *s, const float *logits, const double *p) {
    enum { DRAWS = 20000 };
    int counts[SMALL] = {0};
    for (int i = 0; i < DRAWS; i++) {
        int32_t id;
        assert_int_equal(sampler_pick(s, logits, &id, NULL), WEIR_OK);
        counts[id]++;
    }
    double chi2 = 0, rare_expected = 0, rare_seen = 0;
    int freedom = 0;
    for (int i = 0; i < s->vocab; i++) {
        const double expected = p[i] * DRAWS;
        if (p[i] <= 0) assert_int_equal(counts[i], 0);
        if (expected < 10) { /* too few for the statistic: taken together */
            rare_expected += expected;
            rare_seen += counts[i];
            continue;
        }
        chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
        freedom++;
    }
    assert_true(fabs(rare_seen - rare_expected) <= 5 * sqrt(rare_expected) + 3);
    assert_true(chi2 < freedom + 4 * sqrt(2.0 * freedom)); /* four sigma */
}

static void check_distribution(weir_sampling o, const int32_t *recent, int n_recent) {
    for (int kind = 0; kind < KINDS; kind++) {
        float logits[SMALL];
        double p[SMALL];
        fill_logits(logits, SMALL, kind, 77 + (uint64_t)kind);
        sampler s;
        assert_int_equal(sampler_init(&s, &o, SMALL, NULL), WEIR_OK);
        for (int i = 0; i < n_recent; i++) sampler_accept(&s, recent[i], i % 2);
        define(&o, recent, n_recent, logits, SMALL, p);
        assert_drawn_from(&s, logits, p);
        sampler_clear(&s);
    }
}

/* ---- distributions */

static void temperature_draws_from_the_softmax(void **state) {
    (void)state;
    check_distribution((weir_sampling){.temperature = 1, .seed = 1}, NULL, 0);
    check_distribution((weir_sampling){.temperature = 0.3f, .seed = 2}, NULL, 0);
    check_distribution((weir_sampling){.temperature = 5, .seed = 3}, NULL, 0);
}

static void each_filter_draws_from_its_definition(void **state) {
    (void)state;
    check_distribution((weir_sampling){.temperature = 1, .top_k = 5, .seed = 4}, NULL, 0);
    check_distribution((weir_sampling){.temperature = 1, .top_p = 0.8f, .seed = 5}, NULL, 0);
    check_distribution((weir_sampling){.temperature = 1, .min_p = 0.1f, .seed = 6}, NULL, 0);
    check_distribution((weir_sampling){.temperature = 1, .typical_p = 0.7f, .seed = 7}, NULL, 0);
}

static void all_filters_together_apply_in_the_stated_order(void **state) {
    (void)state;
    const int32_t ids[] = {3, 24, 40, 3};
    const float values[] = {2, -1, 4, 0.5f};
    const weir_sampling o = {.temperature = 1.3f,
                             .top_k = 30,
                             .typical_p = 0.95f,
                             .top_p = 0.9f,
                             .min_p = 0.02f,
                             .bias_ids = ids,
                             .bias_values = values,
                             .n_bias = 4,
                             .seed = 8};
    check_distribution(o, NULL, 0);
}

static void penalties_follow_their_definition(void **state) {
    (void)state;
    const int32_t recent[] = {0, 1, 2, 3, 4, 5, 24, 24, 24, 1, 0, 1};
    const int n = sizeof recent / sizeof recent[0];
    check_distribution((weir_sampling){.temperature = 1, .repeat_penalty = 1.4f, .seed = 9}, recent,
                       n);
    check_distribution((weir_sampling){.temperature = 1, .presence_penalty = 0.9f, .seed = 10},
                       recent, n);
    check_distribution((weir_sampling){.temperature = 1, .frequency_penalty = -0.4f, .seed = 11},
                       recent, n);
    const weir_sampling all = {.temperature = 0.8f,
                               .repeat_penalty = 1.1f,
                               .presence_penalty = -0.5f,
                               .frequency_penalty = 0.7f,
                               .penalty_last = 7,
                               .seed = 12};
    check_distribution(all, recent, n);
}

/* ---- greedy */

static void temperature_zero_is_greedy_with_bias_and_penalties(void **state) {
    (void)state;
    const int32_t ids[] = {2};
    const float values[] = {-INFINITY};
    const weir_sampling o = {
        .repeat_penalty = 2, .bias_ids = ids, .bias_values = values, .n_bias = 1};
    const float logits[] = {1, 3, 9, 2};
    sampler s;
    int32_t id;
    assert_int_equal(sampler_init(&s, &o, 4, NULL), WEIR_OK);
    assert_int_equal(sampler_pick(&s, logits, &id, NULL), WEIR_OK);
    assert_int_equal(id, 1); /* 2 is banned */
    sampler_accept(&s, 1, true);
    assert_int_equal(sampler_pick(&s, logits, &id, NULL), WEIR_OK);
    assert_int_equal(id, 3); /* 3 / 2 < 2 */
    assert_int_equal(s.state.rng.state, 0);
    sampler_clear(&s);
}

static void penalties_look_back_so_far_and_no_further(void **state) {
    (void)state;
    const float logits[] = {1, 0.5f};
    sampler s;
    int32_t id;
    const weir_sampling o = {.presence_penalty = 50, .penalty_last = 3};
    assert_int_equal(sampler_init(&s, &o, 2, NULL), WEIR_OK);
    sampler_accept(&s, 0, false); /* the prompt counts */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sampler_pick(&s, logits, &id, NULL), WEIR_OK);
        assert_int_equal(id, 1);
        sampler_accept(&s, 0x7fffffff, false); /* no token of this vocabulary: no matter */
    }
    assert_int_equal(sampler_pick(&s, logits, &id, NULL), WEIR_OK);
    assert_int_equal(id, 0);
    sampler_clear(&s);
}

/* ---- logits no model should give */

static void logits_that_are_not_numbers_are_never_drawn(void **state) {
    (void)state;
    float logits[40];
    for (int i = 0; i < 40; i++) logits[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? -INFINITY : 1;
    for (int filter = 0; filter < 4; filter++) {
        const weir_sampling o = {.temperature = 2,
                                 .top_k = filter == 1 ? 39 : 0,
                                 .top_p = filter == 2 ? 0.999f : 0,
                                 .presence_penalty = filter == 3 ? 1 : 0};
        sampler s;
        assert_int_equal(sampler_init(&s, &o, 40, NULL), WEIR_OK);
        for (int i = 0; i < 2000; i++) {
            int32_t id;
            assert_int_equal(sampler_pick(&s, logits, &id, NULL), WEIR_OK);
            assert_int_equal(id % 3, 2);
        }
        sampler_clear(&s);
    }
}

static void infinite_logits_share_all_the_mass(void **state) {
    (void)state;
    float logits[20] = {0};
    logits[4] = logits[11] = INFINITY;
    sampler s;
    int seen[20] = {0};
    assert_int_equal(sampler_init(&s, &(weir_sampling){.temperature = 1}, 20, NULL), WEIR_OK);
    for (int i = 0; i < 2000; i++) {
        int32_t id;
        assert_int_equal(sampler_pick(&s, logits, &id, NULL), WEIR_OK);
        seen[id]++;
    }
    assert_int_equal(seen[4] + seen[11], 2000);
    assert_in_range(seen[4], 900, 1100);
    sampler_clear(&s);
}

static void logits_without_a_number_are_a_device_error(void **state) {
    (void)state;
    const float logits[] = {NAN, -INFINITY, NAN};
    for (int hot = 0; hot < 2; hot++) {
        sampler s;
        weir_error err;
        int32_t id;
        assert_int_equal(sampler_init(&s, &(weir_sampling){.temperature = (float)hot}, 3, NULL), 0);
        assert_int_equal(sampler_pick(&s, logits, &id, &err), WEIR_ERR_DEVICE);
        assert_string_equal(err.message, "logits: none of 3 is a number above -infinity");
        sampler_clear(&s);
    }
}

/* ---- seeds and state */

/* A thousand draws with everything on, as one number. */
static uint64_t digest(uint64_t seed) {
    static float logits[3000];
    const weir_sampling o = {.temperature = 0.9f,
                             .top_k = 200,
                             .typical_p = 0.97f,
                             .top_p = 0.95f,
                             .min_p = 0.01f,
                             .repeat_penalty = 1.1f,
                             .frequency_penalty = 0.1f,
                             .seed = seed};
    rng r = {5}; /* logits without libm: sums of uniforms, exact in float */
    for (int i = 0; i < 3000; i++) {
        int sum = 0;
        for (int j = 0; j < 8; j++) sum += (int)(rng_next(&r) >> 56);
        logits[i] = (float)(sum - 1020) / 64;
    }
    sampler s;
    assert_int_equal(sampler_init(&s, &o, 3000, NULL), WEIR_OK);
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0; i < 1000; i++) {
        int32_t id;
        assert_int_equal(sampler_pick(&s, logits, &id, NULL), WEIR_OK);
        sampler_accept(&s, id, true);
        hash = (hash ^ (uint64_t)id) * 0x100000001b3u;
    }
    sampler_clear(&s);
    return hash;
}

static void a_seed_gives_the_same_text_on_every_machine(void **state) {
    (void)state;
    assert_true(digest(1) == digest(1));
    assert_true(digest(1) != digest(2));
    assert_true(digest(1) == GOLDEN_1);
    assert_true(digest(UINT64_MAX) == GOLDEN_MAX);
}

static void a_copied_state_continues_with_the_same_text(void **state) {
    (void)state;
    const weir_sampling o = {.temperature = 1, .repeat_penalty = 1.3f, .seed = 3};
    float logits[SMALL];
    fill_logits(logits, SMALL, 1, 4);
    sampler a, b;
    assert_int_equal(sampler_init(&a, &o, SMALL, NULL), WEIR_OK);
    assert_int_equal(sampler_init(&b, &o, SMALL, NULL), WEIR_OK);
    for (int i = 0; i < 3000; i++) {
        int32_t x, y;
        if (i == 1500) b.state = a.state;
        assert_int_equal(sampler_pick(&a, logits, &x, NULL), WEIR_OK);
        sampler_accept(&a, x, true);
        if (i < 1500) continue;
        assert_int_equal(sampler_pick(&b, logits, &y, NULL), WEIR_OK);
        sampler_accept(&b, y, true);
        assert_int_equal(x, y);
    }
    sampler_clear(&a);
    sampler_clear(&b);
}

static void a_damaged_state_is_safe(void **state) {
    (void)state;
    const weir_sampling o = {.temperature = 1, .presence_penalty = 1, .penalty_last = 1024};
    float logits[SMALL] = {0};
    rng r = {123};
    for (int round = 0; round < 200; round++) {
        sampler s;
        int32_t id;
        assert_int_equal(sampler_init(&s, &o, SMALL, NULL), WEIR_OK);
        uint8_t *bytes = (uint8_t *)&s.state;
        for (size_t i = 0; i < sizeof s.state; i++) bytes[i] = (uint8_t)rng_next(&r);
        assert_int_equal(sampler_pick(&s, logits, &id, NULL), WEIR_OK);
        assert_in_range(id, 0, SMALL - 1);
        sampler_accept(&s, id, true);
        (void)sampler_is_looping(&s);
        sampler_clear(&s);
    }
}

static void picking_allocates_nothing(void **state) {
    (void)state;
    const int32_t ids[] = {5};
    const float values[] = {1};
    const weir_sampling o = {.temperature = 1,
                             .top_k = 100,
                             .top_p = 0.9f,
                             .typical_p = 0.9f,
                             .min_p = 0.01f,
                             .repeat_penalty = 1.2f,
                             .bias_ids = ids,
                             .bias_values = values,
                             .n_bias = 1};
    static float logits[5000];
    fill_logits(logits, 5000, 0, 1);
    sampler s;
    assert_int_equal(sampler_init(&s, &o, 5000, NULL), WEIR_OK);
    const uint64_t before = mem_count();
    for (int i = 0; i < 1000; i++) {
        int32_t id;
        assert_int_equal(sampler_pick(&s, logits, &id, NULL), WEIR_OK);
        sampler_accept(&s, id, true);
        (void)sampler_is_looping(&s);
    }
    assert_int_equal(mem_count(), before);
    sampler_clear(&s);
}

/* ---- options */

static void bad_options_are_refused_in_one_line(void **state) {
    (void)state;
    static const int32_t low[] = {-1}, high[] = {7}, fine[] = {6};
    static const float one[] = {1}, nan_value[] = {NAN}, inf_value[] = {INFINITY};
    static const struct {
        weir_sampling options;
        const char *message;
    } cases[] = {
        {{.temperature = NAN}, "temperature: is nan, wanted 0 to 100"},
        {{.temperature = -1}, "temperature: is -1, wanted 0 to 100"},
        {{.temperature = INFINITY}, "temperature: is inf, wanted 0 to 100"},
        {{.top_k = -1}, "top_k: is -1, wanted 0 (off) or more"},
        {{.top_p = 1.5f}, "top_p: is 1.5, wanted 0 to 1"},
        {{.top_p = -0.5f}, "top_p: is -0.5, wanted 0 to 1"},
        {{.min_p = 2}, "min_p: is 2, wanted 0 to 1"},
        {{.typical_p = NAN}, "typical_p: is nan, wanted 0 to 1"},
        {{.repeat_penalty = -2}, "repeat_penalty: is -2, wanted 0 to 100"},
        {{.presence_penalty = 101}, "presence_penalty: is 101, wanted -100 to 100"},
        {{.frequency_penalty = NAN}, "frequency_penalty: is nan, wanted -100 to 100"},
        {{.penalty_last = 1025}, "penalty_last: is 1025, wanted 0 (64) to 1024"},
        {{.penalty_last = -1}, "penalty_last: is -1, wanted 0 (64) to 1024"},
        {{.n_bias = 1}, "n_bias: is 1, wanted as many ids and values"},
        {{.n_bias = -1}, "n_bias: is -1, wanted as many ids and values"},
        {{.bias_ids = low, .bias_values = one, .n_bias = 1}, "bias: token -1, wanted 0 to 6"},
        {{.bias_ids = high, .bias_values = one, .n_bias = 1}, "bias: token 7, wanted 0 to 6"},
        {{.bias_ids = fine, .bias_values = nan_value, .n_bias = 1},
         "bias: token 6 gets nan, wanted a number or -inf"},
        {{.bias_ids = fine, .bias_values = inf_value, .n_bias = 1},
         "bias: token 6 gets inf, wanted a number or -inf"},
        {{.stops = {"a", NULL, ""}}, "stop 3: is empty, wanted text"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sampler s;
        weir_error err;
        assert_int_equal(sampler_init(&s, &cases[i].options, 7, &err), WEIR_ERR_ARGUMENT);
        assert_string_equal(err.message, cases[i].message);
        assert_null(s.work);
    }
    sampler s;
    assert_int_equal(sampler_init(&s, NULL, 0, NULL), WEIR_ERR_ARGUMENT);
    assert_int_equal(sampler_init(&s, NULL, INT32_MAX, NULL), WEIR_ERR_ARGUMENT);
}

static void a_refused_change_changes_nothing(void **state) {
    (void)state;
    sampler s;
    assert_int_equal(sampler_init(&s, &(weir_sampling){.temperature = 1, .seed = 5}, 9, NULL), 0);
    (void)rng_next(&s.state.rng);
    const sampler before = s;
    const weir_sampling bad = {.temperature = 2, .top_p = 7, .seed = 6};
    assert_int_equal(sampler_set(&s, &bad, NULL), WEIR_ERR_ARGUMENT);
    assert_memory_equal(&s, &before, sizeof s);
    sampler_clear(&s);
}

static void what_options_point_to_is_copied(void **state) {
    (void)state;
    int32_t ids[] = {1};
    float values[] = {10};
    char stop[] = "###";
    const weir_sampling o = {.bias_ids = ids, .bias_values = values, .n_bias = 1, .stops = {stop}};
    sampler s;
    int32_t id;
    const float logits[] = {1, 0, 2};
    assert_int_equal(sampler_init(&s, &o, 3, NULL), WEIR_OK);
    ids[0] = 999;
    values[0] = -10;
    memset(stop, 'x', sizeof stop - 1);
    assert_int_equal(sampler_pick(&s, logits, &id, NULL), WEIR_OK);
    assert_int_equal(id, 1);
    assert_string_equal(s.options.stops[0], "###");
    assert_int_equal(sampler_set(&s, NULL, NULL), WEIR_OK);
    assert_null(s.options.stops[0]);
    sampler_clear(&s);
    sampler_clear(&s); /* twice is fine */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(temperature_draws_from_the_softmax),
        cmocka_unit_test(each_filter_draws_from_its_definition),
        cmocka_unit_test(all_filters_together_apply_in_the_stated_order),
        cmocka_unit_test(penalties_follow_their_definition),
        cmocka_unit_test(temperature_zero_is_greedy_with_bias_and_penalties),
        cmocka_unit_test(penalties_look_back_so_far_and_no_further),
        cmocka_unit_test(logits_that_are_not_numbers_are_never_drawn),
        cmocka_unit_test(infinite_logits_share_all_the_mass),
        cmocka_unit_test(logits_without_a_number_are_a_device_error),
        cmocka_unit_test(a_seed_gives_the_same_text_on_every_machine),
        cmocka_unit_test(a_copied_state_continues_with_the_same_text),
        cmocka_unit_test(a_damaged_state_is_safe),
        cmocka_unit_test(picking_allocates_nothing),
        cmocka_unit_test(bad_options_are_refused_in_one_line),
        cmocka_unit_test(a_refused_change_changes_nothing),
        cmocka_unit_test(what_options_point_to_is_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
