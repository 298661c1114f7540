/* test_stop.c - a stop string ends the text and never shows, however the text is cut into pieces.
 *
 * expect() is the definition: the text up to the first stop that is complete, by plain search.
 * Every scenario is pushed in pieces of every size, and at every single cut, and what was shown is
 * compared after each piece: no byte of the stop, no byte too late.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/stop.h"

#include "base/arena.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Bytes to show of the first n bytes of text; *met when a stop is complete within them. */
static size_t expect(const char *const *stops, int n_stops, const char *text, size_t n, bool *met) {
    *met = true;
    for (size_t end = 1; end <= n; end++) {
        size_t longest = 0;
        for (int i = 0; i < n_stops; i++) {
            const size_t length = stops[i] ? strlen(stops[i]) : 0;
            if (!length || length > end || memcmp(text + end - length, stops[i], length)) continue;
            if (length > longest) longest = length;
        }
        if (longest) return end - longest;
    }
    *met = false;
    for (size_t held = n; held > 0; held--) { /* the longest ending that begins a stop */
        for (int i = 0; i < n_stops; i++) {
            if (!stops[i] || held > strlen(stops[i])) continue;
            if (memcmp(text + n - held, stops[i], held) == 0) return n - held;
        }
    }
    return n;
}

/* Pushes text[at, to) from a copy that is gone afterwards; true when a stop was met. */
static bool push(stop_filter *f, const char *text, size_t at, size_t to, buffer *shown) {
    char *piece = malloc(to - at + 1);
    const char *out;
    size_t size;
    memcpy(piece, text + at, to - at);
    const bool met = stop_push(f, piece, to - at, &out, &size);
    assert_true(buffer_append(shown, out, size));
    free(piece);
    return met;
}

/* Pieces of the given sizes in turn; whatever is left over is the last piece. */
static void check_pieces(const char *const *stops, int n_stops, const char *text, size_t n,
                         size_t first, size_t then) {
    stop_filter f;
    buffer shown = {0};
    bool met = false;
    assert_int_equal(stop_init(&f, stops, n_stops, NULL), WEIR_OK);
    for (size_t at = 0, to; at < n; at = to) {
        const size_t size = at == 0 ? first : then;
        to = size < n - at ? at + size : n;
        bool want_met;
        const size_t want = expect(stops, n_stops, text, to, &want_met);
        met = push(&f, text, at, to, &shown);
        assert_int_equal(met, want_met);
        assert_int_equal(shown.size, want);
        assert_memory_equal(shown.data, text, want);
    }
    const char *rest;
    size_t n_rest;
    stop_flush(&f, &rest, &n_rest);
    assert_true(buffer_append(&shown, rest, n_rest));
    if (!met) assert_int_equal(shown.size, n);
    assert_memory_equal(shown.data, text, shown.size);
    buffer_clear(&shown);
    stop_clear(&f);
}

static void check(const char *const *stops, int n_stops, const char *text) {
    const size_t n = strlen(text);
    for (size_t first = 1; first <= n; first++) {
        check_pieces(stops, n_stops, text, n, first, n);     /* cut once, at every byte */
        check_pieces(stops, n_stops, text, n, first, first); /* pieces of every size    */
        check_pieces(stops, n_stops, text, n, first, 1);
    }
}

#define CHECK(text, ...)                                                \
    do {                                                                \
        const char *const stops_[] = {__VA_ARGS__};                     \
        check(stops_, (int)(sizeof stops_ / sizeof stops_[0]), (text)); \
    } while (0)

static void a_stop_cut_at_any_byte_never_shows(void **state) {
    (void)state;
    CHECK("Hello </s> world", "</s>");
    CHECK("</s>", "</s>");
    CHECK("no stop here < / s >", "</s>");
    CHECK("ends in the middle </", "</s>");
}

static void a_false_start_is_shown_at_once(void **state) {
    (void)state;
    CHECK("aab", "ab");
    CHECK("aaaaaaaab", "aaab");
    CHECK("abababac abacabab", "ababaca", "abac");
    CHECK("ABCDABD ABCDABCDABDE", "ABCDABDE");
    CHECK("##-###", "###");
}

static void of_several_stops_the_first_complete_one_wins(void **state) {
    (void)state;
    CHECK("one two three", "three", "two", "one two t");
    CHECK("xabcdx", "abcd", "bc");
    CHECK("xabcx", "bc", "abc", "c"); /* all at once: the longest */
    CHECK("xbcdx", "abcd", "bcde", "cd");
    CHECK("aXbXc", "X", "XX", NULL, "bX");
}

static void stops_of_many_bytes_per_character_work(void **state) {
    (void)state;
    CHECK("caf\xc3\xa8 caf\xc3\xa9!", "\xc3\xa9!");
    CHECK("\xe6\xbc\xa2\xe5\xad\x97\xe3\x80\x82 next", "\xe3\x80\x82");
    CHECK("\xf0\x9f\x99\x82\xf0\x9f\x99\x83", "\xf0\x9f\x99\x83");
}

/* Whole characters in, whole characters out: what is held begins like a stop, so it begins where a
 * character begins. */
static void characters_are_not_cut_in_two(void **state) {
    (void)state;
    const char *const stops[] = {"\xc3\xa9\xc3\xa9", "\xf0\x9f\x99\x83"};
    const char *const characters[] = {"\xc3\xa9", "\xc3\xa8", "\xf0\x9f\x99\x82", "a"};
    stop_filter f;
    rng r = {6};
    assert_int_equal(stop_init(&f, stops, 2, NULL), WEIR_OK);
    for (int i = 0; i < 5000; i++) {
        const char *c = characters[rng_next(&r) % 4], *out;
        size_t size;
        if (stop_push(&f, c, strlen(c), &out, &size)) stop_reset(&f);
        assert_false(size && ((unsigned char)out[0] & 0xc0) == 0x80);
    }
    stop_clear(&f);
}

static void random_texts_agree_with_plain_search(void **state) {
    (void)state;
    rng r = {42};
    for (int round = 0; round < 3000; round++) {
        char text[40], words[4][8];
        const char *stops[4];
        const int n = 1 + (int)(rng_next(&r) % 4);
        for (int i = 0; i < n; i++) {
            const size_t length = 1 + rng_next(&r) % 7;
            for (size_t j = 0; j < length; j++) words[i][j] = (char)('a' + rng_next(&r) % 2);
            words[i][length] = 0;
            stops[i] = words[i];
        }
        const size_t length = rng_next(&r) % 39;
        for (size_t j = 0; j < length; j++) text[j] = (char)('a' + rng_next(&r) % 3 % 2);
        check_pieces(stops, n, text, length, 1 + rng_next(&r) % 5, 1 + rng_next(&r) % 5);
    }
}

static void bytes_of_zero_are_text(void **state) {
    (void)state;
    const char *const stops[] = {"ab"};
    check_pieces(stops, 1, "a\0b\0\0ab", 7, 1, 1);
    check_pieces(stops, 1, "a\0b\0\0a", 6, 2, 3);
}

static void without_stops_text_passes_untouched(void **state) {
    (void)state;
    const char *const none[WEIR_MAX_STOPS] = {0}, *out;
    const char *text = "text";
    stop_filter f;
    size_t size;
    assert_int_equal(stop_init(&f, none, WEIR_MAX_STOPS, NULL), WEIR_OK);
    for (int i = 0; i < 2; i++) {
        assert_false(stop_push(&f, text, 4, &out, &size));
        assert_ptr_equal(out, text);
        assert_int_equal(size, 4);
        stop_flush(&f, &out, &size);
        assert_int_equal(size, 0);
        f = (stop_filter){0}; /* all-zero is a filter, too */
    }
    stop_clear(&f);
}

static void after_a_stop_nothing_shows_until_reset(void **state) {
    (void)state;
    const char *const stops[] = {"END"}, *out;
    stop_filter f;
    size_t size;
    assert_int_equal(stop_init(&f, stops, 1, NULL), WEIR_OK);
    assert_true(stop_push(&f, "ok ENDmore", 10, &out, &size));
    assert_int_equal(size, 3);
    assert_true(stop_push(&f, "more", 4, &out, &size));
    assert_int_equal(size, 0);
    stop_flush(&f, &out, &size);
    assert_int_equal(size, 0);
    stop_reset(&f);
    assert_false(stop_push(&f, "moreEN", 6, &out, &size));
    assert_int_equal(size, 4);
    stop_reset(&f); /* forgets "EN" */
    assert_false(stop_push(&f, "D", 1, &out, &size));
    assert_int_equal(size, 1);
    stop_clear(&f);
}

static void pieces_of_ordinary_size_allocate_nothing(void **state) {
    (void)state;
    const char *const stops[] = {"aaaaaaab", "never"}, *out;
    static char piece[STOP_ROOM];
    stop_filter f;
    size_t size;
    memset(piece, 'a', sizeof piece);
    assert_int_equal(stop_init(&f, stops, 2, NULL), WEIR_OK);
    const uint64_t before = mem_count();
    for (size_t i = 0; i < 1000; i++) {
        assert_false(stop_push(&f, piece, 1 + i * 37 % STOP_ROOM, &out, &size));
    }
    assert_int_equal(mem_count(), before);
    stop_clear(&f);
}

static void a_huge_piece_passes_whole(void **state) {
    (void)state;
    const char *const stops[] = {"aab"}, *out;
    const size_t n = 100 * STOP_ROOM;
    char *piece = malloc(n);
    stop_filter f;
    size_t size;
    memset(piece, 'a', n);
    assert_int_equal(stop_init(&f, stops, 1, NULL), WEIR_OK);
    assert_false(stop_push(&f, piece, n, &out, &size));
    assert_int_equal(size, n - 2);
    assert_false(stop_push(&f, piece, n, &out, &size));
    assert_int_equal(size, n);
    assert_true(stop_push(&f, "b", 1, &out, &size));
    assert_int_equal(size, 0);
    stop_clear(&f);
    free(piece);
}

static void stops_that_cannot_work_are_refused(void **state) {
    (void)state;
    const char *const empty[] = {"a", ""}, *const inside[] = {"\xa9x"};
    stop_filter f;
    weir_error err;
    assert_int_equal(stop_init(&f, empty, 2, &err), WEIR_ERR_ARGUMENT);
    assert_string_equal(err.message, "stop 2: is empty, wanted text");
    assert_int_equal(stop_init(&f, inside, 1, &err), WEIR_ERR_ARGUMENT);
    assert_string_equal(err.message, "stop 1: begins inside a UTF-8 character (byte 0xa9)");
    stop_clear(&f); /* what failed needs no clearing but takes it */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_cut_at_any_byte_never_shows),
        cmocka_unit_test(a_false_start_is_shown_at_once),
        cmocka_unit_test(of_several_stops_the_first_complete_one_wins),
        cmocka_unit_test(stops_of_many_bytes_per_character_work),
        cmocka_unit_test(characters_are_not_cut_in_two),
        cmocka_unit_test(random_texts_agree_with_plain_search),
        cmocka_unit_test(bytes_of_zero_are_text),
        cmocka_unit_test(without_stops_text_passes_untouched),
        cmocka_unit_test(after_a_stop_nothing_shows_until_reset),
        cmocka_unit_test(pieces_of_ordinary_size_allocate_nothing),
        cmocka_unit_test(a_huge_piece_passes_whole),
        cmocka_unit_test(stops_that_cannot_work_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
