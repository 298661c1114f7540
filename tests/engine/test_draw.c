/* test_draw.c - each filter keeps what its definition in float64 says, on any vocabulary.
 *
 * A filter is run alone and what it kept is held against a predicate: kept tokens rank before
 * dropped ones, have the mass, and are not one too many.  The predicates allow for rounding at the
 * edge only (weights are exact to 2^-22).  test_sampler.c compares the frequencies of drawn tokens.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/draw.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 70000 };

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

static void softmax(const float *logits, int n, double temperature, double *p) {
    double best = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) best = fmax(best, (double)logits[i]); /* fmax skips NaN */
    for (int i = 0; i < n; i++) {
        p[i] = isnan(logits[i]) ? 0 : exp(((double)logits[i] - best) / temperature);
        sum += p[i];
    }
    for (int i = 0; i < n; i++) p[i] /= sum;
}

static double entropy(const double *p, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum -= p[i] > 0 ? p[i] * log(p[i]) : 0;
    return sum;
}

typedef struct filtered { /* a vocabulary after one filter */
    int n, n_kept;
    double p[MOST];
    bool kept[MOST];
} filtered;
static filtered f; /* too large for the stack */

static void run_filter(draw *d, const float *logits, void (*filter)(draw *, float),
                       float argument) {
    draw_load(d, logits);
    draw_weigh(d, logits[draw_argmax(logits, d->vocab)], 0.7f);
    filter(d, argument);
    softmax(logits, d->vocab, (double)0.7f, f.p);
    f.n = d->vocab;
    f.n_kept = d->n;
    memset(f.kept, 0, sizeof f.kept);
    for (int i = 0; i < d->n; i++) f.kept[d->n == d->vocab ? i : d->ids[i]] = true;
}

/* Kept tokens rank before dropped ones, are enough to have the mass, and not one too many. */
static void assert_cut(const double *rank, double mass) {
    double sum = 0, last = -INFINITY, last_p = 1, first_dropped = INFINITY;
    for (int i = 0; i < f.n; i++) {
        if (!f.kept[i]) {
            first_dropped = fmin(first_dropped, rank[i]);
            continue;
        }
        sum += f.p[i];
        if (rank[i] >= last) last_p = f.p[i];
        last = fmax(last, rank[i]);
    }
    assert_true(last <= first_dropped + 2e-6 * (1 + fabs(last)));
    assert_true(sum >= mass * (1 - 1e-6));
    assert_true(sum - last_p < mass * (1 + 1e-6));
}

static void best_of(draw *d, float k) {
    draw_keep_best(d, (int)k);
}

/* Each filter at each kind of logits and each of these vocabularies. */
static void for_each_case(void (*check)(draw *d, const float *logits)) {
    static const int vocabs[] = {1, 2, 17, 1000, 2049, MOST};
    static float logits[MOST];
    for (size_t v = 0; v < sizeof vocabs / sizeof vocabs[0]; v++) {
        draw d;
        assert_true(draw_init(&d, vocabs[v]));
        for (int kind = 0; kind < KINDS; kind++) {
            fill_logits(logits, vocabs[v], kind, v * KINDS + (uint64_t)kind);
            if (vocabs[v] > 3) logits[0] = NAN, logits[3] = -INFINITY;
            check(&d, logits);
        }
        draw_clear(&d);
    }
}

static void check_top_k(draw *d, const float *logits) {
    static double rank[MOST];
    const float ks[] = {1, 2, 40, 1000, MOST};
    for (int k = 0; k < 5; k++) {
        run_filter(d, logits, best_of, ks[k]);
        assert_int_equal(f.n_kept, ks[k] < f.n ? (int)ks[k] : f.n);
        double sum = 0;
        for (int i = 0; i < f.n; i++) {
            rank[i] = -f.p[i];
            sum += f.kept[i] ? f.p[i] : 0;
        }
        assert_cut(rank, sum);
    }
}

static void check_top_p(draw *d, const float *logits) {
    static double rank[MOST];
    const float ps[] = {1e-9f, 0.1f, 0.5f, 0.95f, 0.9999f};
    for (int k = 0; k < 5; k++) {
        run_filter(d, logits, draw_keep_mass, ps[k]);
        for (int i = 0; i < f.n; i++) rank[i] = -f.p[i];
        assert_cut(rank, (double)ps[k]);
    }
}

static void check_typical(draw *d, const float *logits) {
    static double rank[MOST];
    const float ps[] = {1e-9f, 0.2f, 0.9f};
    for (int k = 0; k < 3; k++) {
        run_filter(d, logits, draw_keep_typical, ps[k]);
        const double h = entropy(f.p, f.n);
        for (int i = 0; i < f.n; i++) rank[i] = f.p[i] > 0 ? fabs(-log(f.p[i]) - h) : 1e9;
        assert_cut(rank, (double)ps[k]);
    }
}

static void check_min_p(draw *d, const float *logits) {
    const float ps[] = {1e-6f, 0.05f, 0.5f, 1};
    for (int k = 0; k < 4; k++) {
        run_filter(d, logits, draw_keep_likely, ps[k]);
        double best = 0;
        for (int i = 0; i < f.n; i++) best = fmax(best, f.p[i]);
        for (int i = 0; i < f.n; i++) {
            const double ratio = f.p[i] / best / (double)ps[k];
            if (ratio > 1 + 1e-6) assert_true(f.kept[i]);
            if (ratio < 1 - 1e-6) assert_false(f.kept[i]);
        }
    }
}

static void top_k_keeps_the_k_likeliest(void **state) {
    (void)state;
    for_each_case(check_top_k);
}

static void top_p_keeps_the_fewest_tokens_with_that_mass(void **state) {
    (void)state;
    for_each_case(check_top_p);
}

static void typical_keeps_what_is_closest_to_the_entropy(void **state) {
    (void)state;
    for_each_case(check_typical);
}

static void min_p_keeps_what_is_likely_enough_beside_the_best(void **state) {
    (void)state;
    for_each_case(check_min_p);
}

static void of_equal_tokens_the_lower_ids_are_kept(void **state) {
    (void)state;
    float logits[100] = {0};
    for (int i = 0; i < 100; i++) logits[i] = i % 2 ? 1 : -1;
    draw d;
    assert_true(draw_init(&d, 100));
    run_filter(&d, logits, best_of, 10);
    for (int i = 0; i < 10; i++) assert_int_equal(d.ids[i], 2 * i + 1);
    run_filter(&d, logits, draw_keep_mass, 0.1f);
    for (int i = 0; i < d.n; i++) assert_int_equal(d.ids[i], 2 * i + 1);
    draw_clear(&d);
}

/* ---- greedy */

static void greedy_takes_the_first_of_the_largest_logits(void **state) {
    (void)state;
    static float x[5000];
    rng r = {99};
    for (int round = 0; round < 400; round++) {
        const int n = 1 + (int)(rng_next(&r) % 5000);
        for (int i = 0; i < n; i++) x[i] = floorf(normal(&r) * 3); /* many ties at the top */
        x[rng_next(&r) % (uint64_t)n] = NAN;
        x[rng_next(&r) % (uint64_t)n] = -INFINITY;
        int want = -1;
        for (int i = 0; i < n; i++) {
            if (x[i] > -INFINITY && (want < 0 || x[i] > x[want])) want = i;
        }
        assert_int_equal(draw_argmax(x, n), want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(top_k_keeps_the_k_likeliest),
        cmocka_unit_test(top_p_keeps_the_fewest_tokens_with_that_mass),
        cmocka_unit_test(typical_keeps_what_is_closest_to_the_entropy),
        cmocka_unit_test(min_p_keeps_what_is_likely_enough_beside_the_best),
        cmocka_unit_test(of_equal_tokens_the_lower_ids_are_kept),
        cmocka_unit_test(greedy_takes_the_first_of_the_largest_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
