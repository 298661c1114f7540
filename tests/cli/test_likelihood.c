/* test_likelihood.c - the likelihood of a token against libm in double, and what is not finite.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/likelihood.h"

#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static double by_libm(const float *x, int n, int target) {
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) max = fmax(max, (double)x[i]);
    for (int i = 0; i < n; i++) sum += exp((double)x[i] - max);
    return log(sum) - ((double)x[target] - max);
}

/* The sum is of float terms, each exact to some 1e-7. */
static void check_against_libm(int n, double spread, double offset) {
    rng r = {.state = (uint64_t)n};
    float *x = malloc((size_t)n * sizeof *x);
    for (int i = 0; i < n; i++) x[i] = (float)(offset + spread * (rng_uniform(&r) - 0.5));
    for (int k = 0; k < 5; k++) {
        const int target = (int)(rng_next(&r) % (uint64_t)n);
        const double want = by_libm(x, n, target);
        assert_true(fabs(likelihood_nll(x, n, target) - want) <= 2e-6 * (1 + fabs(want)));
    }
    free(x);
}

static void any_vocabulary_and_spread_agree_with_libm(void **state) {
    (void)state;
    static const int sizes[] = {1, 2, 15, 16, 17, 512, 1023, 1024, 1025, 32000, 151936};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        check_against_libm(sizes[i], 0, 3);
        check_against_libm(sizes[i], 2, 0);
        check_against_libm(sizes[i], 20, -50);
        check_against_libm(sizes[i], 300, 1000);
    }
}

static void tokens_far_below_the_best_cost_their_distance(void **state) {
    (void)state;
    float x[40] = {0};
    x[3] = 1e4f;
    assert_true(fabs(likelihood_nll(x, 40, 3)) < 1e-6);
    assert_true(fabs(likelihood_nll(x, 40, 4) - 1e4) < 1e-2);
}

static void minus_infinity_is_a_token_that_cannot_come(void **state) {
    (void)state;
    float x[20];
    for (int i = 0; i < 20; i++) x[i] = -INFINITY;
    assert_true(isnan(likelihood_nll(x, 20, 0)));
    x[7] = 2;
    assert_true(fabs(likelihood_nll(x, 20, 7)) < 1e-6);
    assert_true(isinf(likelihood_nll(x, 20, 0)));
}

static void what_is_not_a_number_is_not_hidden(void **state) {
    (void)state;
    static const int sizes[] = {1, 5, 16, 33, 2000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int n = sizes[i];
        float *x = calloc((size_t)n, sizeof *x);
        x[n - 1] = INFINITY;
        assert_false(isfinite(likelihood_nll(x, n, 0)));
        x[n - 1] = NAN;
        assert_false(isfinite(likelihood_nll(x, n, 0)));
        assert_false(isfinite(likelihood_nll(x, n, n - 1)));
        free(x);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_vocabulary_and_spread_agree_with_libm),
        cmocka_unit_test(tokens_far_below_the_best_cost_their_distance),
        cmocka_unit_test(minus_infinity_is_a_token_that_cannot_come),
        cmocka_unit_test(what_is_not_a_number_is_not_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
