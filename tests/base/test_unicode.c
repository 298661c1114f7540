/* test_unicode.c - what counts as a character, and what becomes of everything else.
 *
 * SPDX-License-Identifier: MIT */
#include "base/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void expect_repaired(const char *text, size_t size, const char *wanted) {
    buffer out = {0};
    assert_true(utf8_repair(&out, text, size));
    assert_int_equal(out.size, strlen(wanted));
    assert_memory_equal(out.data, wanted, out.size);
    buffer_clear(&out);
}

#define REPAIRED(text, wanted) expect_repaired(text, sizeof(text) - 1, wanted)
#define R                      "\xef\xbf\xbd"

static void every_code_point_survives_a_round_trip(void **state) {
    (void)state;
    for (uint32_t code = 0; code < 0x110000; code++) {
        if (code >= 0xd800 && code < 0xe000) continue;
        char text[UTF8_MAX];
        uint32_t back;
        const size_t n = utf8_encode(text, code);
        assert_int_equal(utf8_decode(&back, text, n), n);
        assert_int_equal(back, code);
        assert_int_equal(utf8_length(text[0]), n);
        assert_true(utf8_is_valid(text, n));
    }
}

static void ill_formed_bytes_are_replaced_by_maximal_subparts(void **state) {
    (void)state;
    REPAIRED("plain ascii, long enough for words of eight",
             "plain ascii, long enough for words of eight");
    REPAIRED("\xe2\x82\x41", R "A");
    REPAIRED("\xff\xfe", R R);
    REPAIRED("\xc0\xaf", R R);             /* overlong */
    REPAIRED("\xe0\x80\xaf", R R R);       /* overlong */
    REPAIRED("\xed\xa0\x80", R R R);       /* surrogate */
    REPAIRED("\xf4\x90\x80\x80", R R R R); /* above U+10FFFF */
    REPAIRED("\xf0\x9f\x98", R);           /* cut off */
    REPAIRED("a\xf0\x9f\x98\xf0\x9f\x98\x80z", "a" R "\xf0\x9f\x98\x80z");
    REPAIRED("caf\xc3\xa9", "caf\xc3\xa9");
}

static void an_unfinished_character_is_told_from_a_broken_one(void **state) {
    (void)state;
    uint32_t code;
    assert_int_equal(utf8_decode(&code, "\xe2\x82", 2), 2);
    assert_int_equal(code, UTF8_PARTIAL);
    assert_int_equal(utf8_decode(&code, "\xe2\x41", 2), 1);
    assert_int_equal(code, UTF8_INVALID);
    assert_int_equal(utf8_decode(&code, "\x80", 1), 1);
    assert_int_equal(code, UTF8_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_survives_a_round_trip),
        cmocka_unit_test(ill_formed_bytes_are_replaced_by_maximal_subparts),
        cmocka_unit_test(an_unfinished_character_is_told_from_a_broken_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
