/* test_loop_guard.c - degenerate repetition is seen, ordinary text is not taken for it.
 *
 * Ordinary text is fed twice: as bytes (the worst tokenizer: rows of dashes and spaces are long
 * runs) and as words.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L /* popen */
#include "engine/sampler.h"

#include "base/arena.h"
#include "base/compiler.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The guard needs the sampler's state only. */
static void start(sampler *s) {
    *s = (sampler){.vocab = 1 << 20};
}

/* Accepts a generated token; true when the guard trips. */
static bool trips(sampler *s, int32_t id) {
    sampler_accept(s, id, true);
    return sampler_is_looping(s);
}

/* The length of the reply at which a loop of this period trips, -1 for never. */
static int trip_length(sampler *s, int period) {
    for (int i = 0; i < 3000; i++) {
        if (trips(s, 1000 + i % period)) return i + 1;
    }
    return -1;
}

static void every_period_up_to_128_trips_after_its_span(void **state) {
    (void)state;
    for (int period = 1; period <= 128; period++) {
        sampler s;
        start(&s);
        const int span = MAX_OF(6 * period, 256);
        assert_int_equal(trip_length(&s, period), (span + 15) / 16 * 16);
    }
}

static void longer_periods_do_not_trip(void **state) {
    (void)state;
    for (int period = 129; period <= 300; period += 19) {
        sampler s;
        start(&s);
        assert_int_equal(trip_length(&s, period), -1);
    }
}

static void a_loop_trips_wherever_the_ring_wraps(void **state) {
    (void)state;
    for (int before = 1; before < 1100; before += 61) {
        sampler s;
        start(&s);
        for (int i = 0; i < before; i++) assert_false(trips(&s, i));
        const int length = trip_length(&s, 100);
        assert_in_range(length, 600, 600 + 15);
    }
}

static void a_repetitive_prompt_does_not_count(void **state) {
    (void)state;
    sampler s;
    start(&s);
    for (int i = 0; i < 5000; i++) sampler_accept(&s, 7, false);
    assert_false(sampler_is_looping(&s));
    sampler_begin_reply(&s);
    for (int i = 0; i < 255; i++) assert_false(trips(&s, 7));
    assert_true(trips(&s, 7));
    sampler_begin_reply(&s); /* the next reply has its own count */
    assert_false(sampler_is_looping(&s));
    assert_false(trips(&s, 7));
}

static void one_different_token_ends_the_evidence(void **state) {
    (void)state;
    sampler s;
    start(&s);
    for (int i = 0; i < 5000; i++) assert_false(trips(&s, i % 250 == 0 ? 1 : 2));
}

static void counting_is_not_a_loop(void **state) {
    (void)state;
    sampler s;
    start(&s);
    for (int i = 0; i < 1000; i++) { /* "Item <i>: nothing.\n" for a thousand items */
        const int32_t line[] = {10, 2000 + i, 11, 12, 13};
        for (int j = 0; j < 5; j++) assert_false(trips(&s, line[j]));
    }
}

static void a_copied_state_trips_at_the_same_token(void **state) {
    (void)state;
    sampler a, b;
    start(&a);
    for (int i = 0; i < 200; i++) assert_false(trips(&a, i % 20));
    start(&b);
    b.state = a.state;
    int at_a = 0, at_b = 0;
    for (int i = 200; i < 500; i++) {
        if (trips(&a, i % 20) && !at_a) at_a = i;
        if (trips(&b, i % 20) && !at_b) at_b = i;
    }
    assert_int_equal(at_a, 255);
    assert_int_equal(at_b, at_a);
}

/* ---- ordinary text */

static bool text_trips(const char *text, size_t n) {
    sampler bytes, words;
    start(&bytes);
    start(&words);
    for (size_t i = 0; i < n; i++) {
        if (trips(&bytes, (unsigned char)text[i])) return true;
    }
    for (size_t i = 0, end; i < n; i = end) { /* a word with the space before it, or one byte */
        uint32_t hash = (unsigned char)text[i];
        end = i + 1;
        while (end < n && isalpha((unsigned char)text[end])) {
            hash = hash * 31 + (unsigned char)text[end++];
        }
        if (trips(&words, (int32_t)(hash & 0xfffff))) return true;
    }
    return false;
}

static void append(buffer *b, const char *text, int times) {
    for (int i = 0; i < times; i++) assert_true(buffer_append(b, text, strlen(text)));
}

static void rules_and_laughter_do_not_trip(void **state) {
    (void)state;
    buffer b = {0};
    append(&b, "He laughed: ", 1);
    append(&b, "ha ", 80);
    append(&b, "\n", 1);
    append(&b, "-", 100);
    append(&b, "\n", 1);
    append(&b, "no ", 60);
    append(&b, "\nN", 1);
    append(&b, "o", 200);
    append(&b, "!\n", 1);
    append(&b, " ", 160); /* a deep indentation */
    append(&b, "}\n", 1);
    append(&b, "0", 100); /* a googol */
    append(&b, "\n", 1);
    assert_false(text_trips(b.data, b.size));
    buffer_clear(&b);
}

static void tables_do_not_trip(void **state) {
    (void)state;
    buffer b = {0};
    char line[80];
    append(&b, "| name  | first | second |\n", 1);
    append(&b, "|-------|-------|--------|\n", 1);
    for (int i = 0; i < 60; i++) {
        snprintf(line, sizeof line, "| %5d |     0 |      0 |\n", i);
        append(&b, line, 1);
    }
    append(&b, "0 0 0 0 0 0 0 0 0 0\n", 10); /* a matrix of zeros */
    append(&b, "|       |       |        |\n", 8);
    assert_false(text_trips(b.data, b.size));
    buffer_clear(&b);
}

static void code_does_not_trip(void **state) {
    (void)state;
    buffer b = {0};
    char line[120];
    for (int i = 0; i < 100; i++) {
        snprintf(line, sizeof line, "        case %d:\n            return \"%d\";\n", i, i);
        append(&b, line, 1);
    }
    append(&b, "                    }\n                }\n            }\n        }\n    }\n}\n", 4);
    append(&b, "static const unsigned char zeros[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};",
           1);
    assert_false(text_trips(b.data, b.size));
    buffer_clear(&b);
}

static void songs_with_refrains_do_not_trip(void **state) {
    (void)state;
    static const char *const verses[] = {"one day", "the second day", "three days", "at last"};
    buffer b = {0};
    for (int i = 0; i < 4; i++) {
        append(&b, verses[i], 1);
        append(&b, " she went down to the water's side\n", 1);
        append(&b, "Row, row, row your boat, gently down the stream,\n", 2);
        append(&b, "merrily, merrily, merrily, merrily, life is but a dream.\n", 2);
        append(&b, "La la la la la la la la la la la la la la la la!\n", 3);
    }
    assert_false(text_trips(b.data, b.size));
    buffer_clear(&b);
}

static void a_sentence_again_and_again_trips(void **state) {
    (void)state;
    buffer b = {0};
    append(&b, "Once upon a time there was a loop. ", 1);
    append(&b, "The cat sat on the mat and the dog sat on the cat. ", 40);
    assert_true(text_trips(b.data, b.size));
    buffer_clear(&b);
}

/* Reads the output of xz -dc; false when there is no such book or no xz. */
static bool read_book(const char *name, buffer *b) {
    char command[1024], piece[4096];
    snprintf(command, sizeof command, "xz -dc '%s/books/%s.txt.xz' 2>/dev/null", SHARED_DATA, name);
    FILE *pipe = popen(command, "r");
    if (!pipe) return false;
    for (size_t n; (n = fread(piece, 1, sizeof piece, pipe)) > 0;) {
        assert_true(buffer_append(b, piece, n));
    }
    return pclose(pipe) == 0;
}

static void whole_books_do_not_trip(void **state) {
    (void)state;
    static const char *const names[] = {"moby_dick", "huckleberry_finn", "origin_of_species_6th"};
    int n_read = 0;
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        buffer b = {0};
        if (read_book(names[i], &b)) {
            assert_false(text_trips(b.data, b.size));
            n_read++;
        }
        buffer_clear(&b);
    }
    if (n_read) return;
    print_message("skipped: no books in %s\n", SHARED_DATA);
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_period_up_to_128_trips_after_its_span),
        cmocka_unit_test(longer_periods_do_not_trip),
        cmocka_unit_test(a_loop_trips_wherever_the_ring_wraps),
        cmocka_unit_test(a_repetitive_prompt_does_not_count),
        cmocka_unit_test(one_different_token_ends_the_evidence),
        cmocka_unit_test(counting_is_not_a_loop),
        cmocka_unit_test(a_copied_state_trips_at_the_same_token),
        cmocka_unit_test(rules_and_laughter_do_not_trip),
        cmocka_unit_test(tables_do_not_trip),
        cmocka_unit_test(code_does_not_trip),
        cmocka_unit_test(songs_with_refrains_do_not_trip),
        cmocka_unit_test(a_sentence_again_and_again_trips),
        cmocka_unit_test(whole_books_do_not_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
