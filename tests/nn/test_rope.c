/* test_rope.c - phases are exact wherever in the stream, and frequencies are those of the papers.
 *
 * The references here are long double and share no formula with rope.c: phases are multiplied out
 * in parts of 32 bits, scalings follow the words of their papers.  A few frequencies of released
 * models were computed by transformers.
 *
 * SPDX-License-Identifier: MIT */
#include "nn/rope.h"

#include "base/compiler.h"
#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const long double TAU = 6.283185307179586476925286766559005768L;

static const nn_rope plain = {.dims = 128, .theta = 10000},
                     linear = {.dims = 64, .theta = 10000, .scaling = NN_ROPE_LINEAR, .factor = 3},
                     llama3 = {.dims = 128,
                               .theta = 500000,
                               .scaling = NN_ROPE_LLAMA3,
                               .factor = 8,
                               .low_freq_factor = 1,
                               .high_freq_factor = 4,
                               .original_context = 8192},
                     yarn = {.dims = 128,
                             .theta = 1000000,
                             .scaling = NN_ROPE_YARN,
                             .factor = 4,
                             .beta_fast = 32,
                             .beta_slow = 1,
                             .attention_factor = 1.1386294361119891,
                             .original_context = 32768};

/* ---- frequencies */

/* Radians a token of pair i, before any scaling. */
static long double base_frequency(const nn_rope *r, int i) {
    return expl(-logl((long double)r->theta) * 2 * i / r->dims);
}

/* Llama 3.1's rule, by wavelengths. */
static long double frequency_llama3(const nn_rope *r, int i) {
    const long double f = base_frequency(r, i), wavelength = TAU / f;
    const long double longest = r->original_context / (long double)r->low_freq_factor;
    const long double shortest = r->original_context / (long double)r->high_freq_factor;
    if (wavelength < shortest) return f;
    if (wavelength > longest) return f / r->factor;
    const long double mix = (r->original_context / wavelength - r->low_freq_factor) /
                            ((long double)r->high_freq_factor - r->low_freq_factor);
    return f * (mix + (1 - mix) / r->factor);
}

/* YaRN: pairs that turn often are kept, those that turn less than once are divided. */
static long double frequency_yarn(const nn_rope *r, int i) {
    const long double per_pair = logl((long double)r->theta) * 2 / r->dims;
    long double low = logl(r->original_context / (r->beta_fast * TAU)) / per_pair;
    long double high = logl(r->original_context / (r->beta_slow * TAU)) / per_pair;
    if (!r->exact_ramp) {
        low = floorl(low);
        high = ceill(high);
    }
    if (low < 0) low = 0;
    if (high > r->dims - 1) high = r->dims - 1;
    long double divided = (i - low) / (high - low);
    if (divided < 0) divided = 0;
    if (divided > 1) divided = 1;
    return base_frequency(r, i) * (1 - divided + divided / r->factor);
}

static long double frequency(const nn_rope *r, int i) {
    switch (r->scaling) {
    case NN_ROPE_PLAIN: break;
    case NN_ROPE_LINEAR: return base_frequency(r, i) / r->factor;
    case NN_ROPE_LLAMA3: return frequency_llama3(r, i);
    case NN_ROPE_YARN: return frequency_yarn(r, i);
    }
    return base_frequency(r, i);
}

static rope_table make(const nn_rope *r) {
    rope_table table;
    assert_true(rope_make(&table, r));
    assert_int_equal(table.pairs, r->dims / 2);
    return table;
}

/* Doubles are computed with, and what is below 2^-64 turns is cut off. */
static void check_frequencies(const nn_rope *r) {
    const rope_table table = make(r);
    for (int i = 0; i < table.pairs; i++) {
        const long double got = ldexpl((long double)table.turns[i], -64) * TAU;
        const long double wanted = frequency(r, i);
        assert_true(fabsl(got - wanted) <= 0x1p-47L * wanted + 0x1p-64L * TAU);
    }
}

static void frequencies_are_those_of_the_papers(void **state) {
    (void)state;
    check_frequencies(&plain);
    check_frequencies(&linear);
    check_frequencies(&llama3);
    check_frequencies(&yarn);
    nn_rope other = llama3; /* Llama 3.2 1B */
    other.dims = 64;
    other.factor = 32;
    check_frequencies(&other);
    other = yarn; /* gpt-oss */
    other.exact_ramp = true;
    other.theta = 150000;
    other.dims = 64;
    other.factor = 32;
    other.original_context = 4096;
    check_frequencies(&other);
}

static void frequencies_are_those_that_transformers_computes(void **state) {
    (void)state;
    static const struct {
        const nn_rope *rope;
        int pair;
        double wanted; /* inv_freq of ROPE_INIT_FUNCTIONS, float32 */
    } cases[] = {
        {&llama3, 1, 0.814617217},     {&llama3, 24, 0.00729266508},  {&llama3, 32, 0.000524846022},
        {&llama3, 40, 3.42810235e-05}, {&llama3, 63, 3.06892588e-07}, {&yarn, 1, 0.805842221},
        {&yarn, 24, 0.00537532149},    {&yarn, 32, 0.000602941145},   {&yarn, 40, 4.44569851e-05},
        {&yarn, 63, 3.10234441e-07},   {&linear, 1, 0.249964729},     {&linear, 20, 0.00105409266},
        {&linear, 31, 4.44507168e-05},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const rope_table table = make(cases[i].rope);
        const double got = ldexp((double)table.turns[cases[i].pair], -64) * (double)TAU;
        assert_true(fabs(got - cases[i].wanted) <= 1e-6 * cases[i].wanted);
    }
}

static void divisors_divide_each_frequency(void **state) {
    (void)state;
    static const float divisors[] = {1, 2, 4, 8};
    const nn_rope r = {.dims = 8, .theta = 100, .divisors = divisors};
    const nn_rope undivided = {.dims = 8, .theta = 100};
    const rope_table table = make(&r), whole = make(&undivided);
    for (int i = 0; i < 4; i++) {
        const double ratio = (double)whole.turns[i] / (double)table.turns[i];
        assert_true(fabs(ratio - (double)divisors[i]) < 1e-12);
    }
}

/* ---- phases */

/* t * f mod 2^64, by parts of 32 bits. */
static uint64_t product(uint64_t t, uint64_t f) {
    const uint64_t t0 = t & 0xffffffff, t1 = t >> 32, f0 = f & 0xffffffff, f1 = f >> 32;
    const uint64_t middle = (t0 * f1 & 0xffffffff) + (t1 * f0 & 0xffffffff) + (t0 * f0 >> 32);
    return (middle & 0xffffffff) << 32 | (t0 * f0 & 0xffffffff);
}

static const uint64_t positions[] = {0,
                                     1,
                                     2,
                                     4095,
                                     1000003,
                                     (uint64_t)1 << 40,
                                     ((uint64_t)1 << 40) + 12345,
                                     ((uint64_t)1 << 62) - 1,
                                     (uint64_t)1 << 63,
                                     UINT64_MAX};

static void phases_are_exact_at_any_position(void **state) {
    (void)state;
    const nn_rope *const ropes[] = {&plain, &linear, &llama3, &yarn};
    for (size_t k = 0; k < COUNT_OF(ropes); k++) {
        const rope_table table = make(ropes[k]);
        float c[ROPE_MAX_PAIRS], s[ROPE_MAX_PAIRS];
        for (size_t i = 0; i < COUNT_OF(positions); i++) {
            rope_phases(&table, positions[i], c, s);
            for (int pair = 0; pair < table.pairs; pair++) {
                const uint64_t turns = product(positions[i], table.turns[pair]);
                const long double angle = ldexpl((long double)turns, -64) * TAU;
                const long double magnitude = (long double)table.magnitude;
                assert_true(fabsl((long double)c[pair] - cosl(angle) * magnitude) < 1.5e-7L);
                assert_true(fabsl((long double)s[pair] - sinl(angle) * magnitude) < 1.5e-7L);
            }
        }
    }
}

/* Where floats still can: the angle is t times the frequency. */
static void phases_near_the_start_are_the_plain_angles(void **state) {
    (void)state;
    const rope_table table = make(&plain);
    float c[ROPE_MAX_PAIRS], s[ROPE_MAX_PAIRS];
    for (uint64_t t = 0; t < 5000; t += 37) {
        rope_phases(&table, t, c, s);
        for (int i = 0; i < table.pairs; i++) {
            const long double angle = (long double)t * base_frequency(&plain, i);
            assert_true(fabsl((long double)c[i] - cosl(angle)) < 1.5e-7L);
            assert_true(fabsl((long double)s[i] - sinl(angle)) < 1.5e-7L);
        }
    }
}

static void fill(float *x, int n, rng *r) {
    for (int i = 0; i < n; i++) x[i] = (float)(2 * rng_uniform(r) - 1);
}

static double dot(const float *a, const float *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

static void rotate_at(const rope_table *table, uint64_t t, const float *x, float *out, int n) {
    float c[ROPE_MAX_PAIRS], s[ROPE_MAX_PAIRS];
    memcpy(out, x, (size_t)n * sizeof *x);
    rope_phases(table, t, c, s);
    rope_rotate(table, out, c, s);
}

/* The promise of the whole design: a score depends on the distance alone, for 2^64 tokens. */
static void scores_depend_on_distances_only(void **state) {
    (void)state;
    const nn_rope *const ropes[] = {&plain, &linear, &llama3, &yarn};
    static const uint64_t distances[] = {0, 1, 7, 255, 4095, 100000};
    rng random = {3};
    for (size_t k = 0; k < COUNT_OF(ropes); k++) {
        const int n = ropes[k]->dims;
        const rope_table table = make(ropes[k]);
        float q[128], key[128], a[128], b[128];
        fill(q, n, &random);
        fill(key, n, &random);
        for (size_t d = 0; d < COUNT_OF(distances); d++) {
            rotate_at(&table, distances[d], q, a, n);
            rotate_at(&table, 0, key, b, n);
            const double wanted = dot(a, b, n);
            for (size_t i = 0; i < COUNT_OF(positions); i++) {
                rotate_at(&table, positions[i], q, a, n);
                rotate_at(&table, positions[i] - distances[d], key, b, n);
                assert_true(fabs(dot(a, b, n) - wanted) < 2e-5); /* 128 products of floats */
            }
        }
    }
}

/* ---- rotation */

static void interleaved_pairs_are_the_halves_in_another_order(void **state) {
    (void)state;
    nn_rope r = {.dims = 16, .theta = 10000};
    const rope_table halves = make(&r);
    r.interleaved = true;
    const rope_table pairs = make(&r);
    float x[20], a[20], b[20], mixed[20];
    rng random = {4};
    fill(x, 20, &random);
    memcpy(mixed, x, sizeof x);
    for (int i = 0; i < 8; i++) {
        mixed[2 * i] = x[i];
        mixed[2 * i + 1] = x[i + 8];
    }
    rotate_at(&halves, 12345, x, a, 20);
    rotate_at(&pairs, 12345, mixed, b, 20);
    for (int i = 0; i < 8; i++) {
        assert_memory_equal(&a[i], &b[2 * i], sizeof(float));
        assert_memory_equal(&a[i + 8], &b[2 * i + 1], sizeof(float));
    }
    assert_memory_equal(a + 16, x + 16, 4 * sizeof(float)); /* beyond dims nothing turns */
    assert_memory_equal(b + 16, x + 16, 4 * sizeof(float));
}

static void only_yarn_scales_what_it_rotates(void **state) {
    (void)state;
    assert_true(make(&yarn).magnitude == (float)yarn.attention_factor);
    nn_rope r = yarn;
    r.attention_factor = 0; /* not said */
    assert_true(make(&r).magnitude == 1.0f);
    r = llama3;
    r.attention_factor = 3;
    assert_true(make(&r).magnitude == 1.0f);
}

static void refuse(nn_rope r) {
    rope_table table;
    assert_false(rope_make(&table, &r));
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    static const float bad_divisors[] = {1, 0}, negative[] = {1, -1};
    refuse((nn_rope){.dims = 7, .theta = 10000});
    refuse((nn_rope){.dims = -2, .theta = 10000});
    refuse((nn_rope){.dims = 2 * ROPE_MAX_PAIRS + 2, .theta = 10000});
    refuse((nn_rope){.dims = 8, .theta = 1});
    refuse((nn_rope){.dims = 8, .theta = 0});
    refuse((nn_rope){.dims = 8, .theta = NAN});
    refuse((nn_rope){.dims = 8, .theta = INFINITY});
    refuse((nn_rope){.dims = 8, .theta = 10000, .scaling = NN_ROPE_LINEAR});
    refuse((nn_rope){.dims = 8, .theta = 10000, .scaling = NN_ROPE_LINEAR, .factor = -1});
    refuse((nn_rope){.dims = 8, .theta = 10000, .scaling = NN_ROPE_LINEAR, .factor = NAN});
    refuse((nn_rope){.dims = 4, .theta = 10000, .divisors = bad_divisors});
    refuse((nn_rope){.dims = 4, .theta = 10000, .divisors = negative});
    nn_rope r = llama3;
    r.original_context = 0;
    refuse(r);
    r = llama3;
    r.low_freq_factor = r.high_freq_factor;
    refuse(r);
    r = yarn;
    r.original_context = 0;
    refuse(r);
    r = yarn;
    r.beta_slow = 0;
    refuse(r);
    rope_table table;
    assert_true(rope_make(&table, &(nn_rope){0})); /* a model that rotates nothing */
    assert_int_equal(table.pairs, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_are_those_of_the_papers),
        cmocka_unit_test(frequencies_are_those_that_transformers_computes),
        cmocka_unit_test(divisors_divide_each_frequency),
        cmocka_unit_test(phases_are_exact_at_any_position),
        cmocka_unit_test(phases_near_the_start_are_the_plain_angles),
        cmocka_unit_test(scores_depend_on_distances_only),
        cmocka_unit_test(interleaved_pairs_are_the_halves_in_another_order),
        cmocka_unit_test(only_yarn_scales_what_it_rotates),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
