/* test_half.c - float16 and bfloat16 are what IEEE 754 says, e4m3 what OCP's FP8 says, to the bit.
 *
 * The definition here works on the number line instead of on bits: value() computes a 16-bit
 * pattern's number with ldexp, and nearest() finds the closest pattern to a float by bisection over
 * all of them, ties to the even one.
 *
 * SPDX-License-Identifier: MIT */
#include "base/half.h"

#include "base/compiler.h"
#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

typedef struct kind {
    int exponent_bits, fraction_bits;
    uint32_t end; /* the pattern behind the largest number, without sign: infinity, or e4m3's NaN */
    float (*to_float)(uint16_t);
    uint16_t (*from_float)(float);
} kind;

static const kind kinds[] = {
    {5, 10, 0x7c00, f16_to_float, float_to_f16},
    {8, 7, 0x7f80, bf16_to_float, float_to_bf16},
};

/* The number of a pattern without sign; beyond the largest number as if exponents went on, which
 * makes "rounds to infinity" the same as any other rounding. */
static double value(const kind *k, uint32_t pattern) {
    const int bias = (1 << (k->exponent_bits - 1)) - 1;
    const int exponent = (int)(pattern >> k->fraction_bits);
    const int fraction = (int)(pattern & ((1u << k->fraction_bits) - 1));
    const int one = 1 << k->fraction_bits;
    if (exponent == 0) return ldexp(fraction, 1 - bias - k->fraction_bits);
    return ldexp(one + fraction, exponent - bias - k->fraction_bits);
}

static uint16_t nearest(const kind *k, float x) {
    const uint32_t sign = signbit(x) ? 0x8000 : 0, infinite = k->end;
    const double magnitude = fabs((double)x);
    uint32_t low = 0, high = infinite; /* value(low) <= magnitude, unless above: < value(high) */
    if (magnitude >= value(k, infinite)) return (uint16_t)(sign | infinite);
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (value(k, middle) <= magnitude) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const double below = magnitude - value(k, low), above = value(k, high) - magnitude;
    const bool up = above < below || (above == below && low % 2 == 1);
    return (uint16_t)(sign | (up ? high : low));
}

static bool is_nan_pattern(const kind *k, uint16_t pattern) {
    return (pattern & 0x7fffu) > k->end;
}

static void every_pattern_is_the_number_of_its_definition(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        const kind *k = &kinds[i];
        for (uint32_t pattern = 0; pattern < 0x10000; pattern++) {
            const float x = k->to_float((uint16_t)pattern);
            const uint32_t magnitude = pattern & 0x7fff;
            assert_int_equal(signbit(x) != 0, pattern >> 15);
            if (is_nan_pattern(k, (uint16_t)pattern)) {
                assert_true(isnan(x));
            } else if (magnitude == k->end) {
                assert_true(isinf(x));
            } else {
                assert_true(fabs((double)x) == value(k, magnitude));
            }
        }
    }
}

static void every_pattern_survives_a_round_trip(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        const kind *k = &kinds[i];
        for (uint32_t pattern = 0; pattern < 0x10000; pattern++) {
            const uint16_t back = k->from_float(k->to_float((uint16_t)pattern));
            if (is_nan_pattern(k, (uint16_t)pattern)) {
                assert_true(is_nan_pattern(k, back)); /* quiet, but still one */
                assert_int_equal(back >> 15, pattern >> 15);
            } else {
                assert_int_equal(back, pattern);
            }
        }
    }
}

static void assert_rounds(const kind *k, float x) {
    const uint16_t got = k->from_float(x);
    if (isnan(x)) {
        assert_true(is_nan_pattern(k, got));
    } else {
        assert_int_equal(got, nearest(k, x));
    }
}

static void any_float_rounds_to_the_nearest_and_ties_to_even(void **state) {
    (void)state;
    rng r = {2024};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        for (int n = 0; n < 300000; n++)
            assert_rounds(&kinds[i], bits_float((uint32_t)rng_next(&r)));
    }
}

/* Where rounding can go wrong: exactly half way between neighbours, and one float to either side,
 * for every pair of neighbours, infinity as the largest included. */
static void half_way_cases_round_to_even(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        const kind *k = &kinds[i];
        for (uint32_t pattern = 0; pattern < k->end; pattern++) {
            const float middle = (float)((value(k, pattern) + value(k, pattern + 1)) / 2);
            if (isinf(middle)) continue; /* bfloat16's last: not a float */
            const float cases[] = {middle, nextafterf(middle, 0), nextafterf(middle, INFINITY)};
            for (int j = 0; j < 3; j++) {
                assert_rounds(k, cases[j]);
                assert_rounds(k, -cases[j]);
            }
        }
    }
}

static void edges_are_where_the_formats_put_them(void **state) {
    (void)state;
    assert_int_equal(float_to_f16(65504), 0x7bff);
    assert_int_equal(float_to_f16(65519.996f), 0x7bff);
    assert_int_equal(float_to_f16(65520), 0x7c00); /* half way to what would be 65536 */
    assert_int_equal(float_to_f16(0x1p-24f), 0x0001);
    assert_int_equal(float_to_f16(0x1p-25f), 0x0000); /* half of the smallest: to even */
    assert_int_equal(float_to_f16(0x1.000002p-25f), 0x0001);
    assert_int_equal(float_to_f16(-0.0f), 0x8000);
    assert_int_equal(float_to_bf16(3.3895314e38f), 0x7f7f);
    assert_int_equal(float_to_bf16(3.4028235e38f), 0x7f80);
    assert_int_equal(float_to_bf16(-0.0f), 0x8000);
    assert_int_equal(float_to_bf16(bits_float(0x7f800001)), 0x7fc0); /* a NaN, not infinity */
}

/* e4m3 has no infinities: its last pattern is NaN, and 448, the one before it, is where all stops.
 */
static const kind e4m3 = {4, 3, 0x7f, NULL, NULL};
enum { E4M3_NAN = 0x7f, E4M3_MOST = 0x7e };

static uint8_t nearest_e4m3(float x) {
    const uint16_t most = E4M3_MOST | (signbit(x) ? 0x80 : 0);
    if (fabsf(x) >= 448) return (uint8_t)most;
    const uint16_t y = nearest(&e4m3, x); /* with its sign at bit 15 */
    return (uint8_t)(y | y >> 8);
}

static void every_e4m3_code_is_the_number_of_its_definition_and_survives(void **state) {
    (void)state;
    for (uint32_t code = 0; code < 256; code++) {
        const float x = e4m3_to_float((uint8_t)code);
        assert_int_equal(signbit(x) != 0, code >> 7);
        if ((code & 0x7f) == E4M3_NAN) {
            assert_true(isnan(x));
        } else {
            assert_true(fabs((double)x) == value(&e4m3, code & 0x7f));
        }
        assert_int_equal(float_to_e4m3(x), code);
    }
    assert_true(e4m3_to_float(E4M3_MOST) == 448);
    assert_true(e4m3_to_float(0x01) == 0x1p-9f);
}

static void any_float_rounds_to_the_nearest_e4m3_and_saturates(void **state) {
    (void)state;
    rng r = {2025};
    for (int n = 0; n < 300000; n++) { /* exponents from 2^-15 to 2^16, where it happens */
        const float x = bits_float(((uint32_t)rng_next(&r) & 0x8fffffffu) + 0x38000000u);
        assert_int_equal(float_to_e4m3(x), nearest_e4m3(x));
    }
    for (uint32_t code = 0; code < E4M3_MOST; code++) {
        const float middle = (float)((value(&e4m3, code) + value(&e4m3, code + 1)) / 2);
        const float cases[] = {middle, nextafterf(middle, 0), nextafterf(middle, INFINITY)};
        for (int j = 0; j < 3; j++) {
            assert_int_equal(float_to_e4m3(cases[j]), nearest_e4m3(cases[j]));
            assert_int_equal(float_to_e4m3(-cases[j]), nearest_e4m3(-cases[j]));
        }
    }
    assert_int_equal(float_to_e4m3(INFINITY), 0x7e);
    assert_int_equal(float_to_e4m3(-1e30f), 0xfe);
    assert_int_equal(float_to_e4m3(0x1p-10f), 0x00); /* half of the smallest: to even */
    assert_int_equal(float_to_e4m3(0x1.8p-9f), 0x02);
    assert_int_equal(float_to_e4m3(NAN) & 0x7f, E4M3_NAN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pattern_is_the_number_of_its_definition),
        cmocka_unit_test(every_pattern_survives_a_round_trip),
        cmocka_unit_test(any_float_rounds_to_the_nearest_and_ties_to_even),
        cmocka_unit_test(half_way_cases_round_to_even),
        cmocka_unit_test(edges_are_where_the_formats_put_them),
        cmocka_unit_test(every_e4m3_code_is_the_number_of_its_definition_and_survives),
        cmocka_unit_test(any_float_rounds_to_the_nearest_e4m3_and_saturates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
