/* test_wrap.c - lines end between words, and however the text is cut into pieces, nothing changes.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/wrap.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static buffer shown; /* by the callback, which has no user pointer */

static bool keep(const char *data, size_t size) {
    return buffer_append(&shown, data, size);
}

static const struct {
    int width;
    const char *text, *want;
} cases[] = {
    {20, "one line", "one line"},
    {10, "one two three four", "one two\nthree four"},
    {10, "exactly te and", "exactly te\nand"},
    {10, "a  b   c    dddddd", "a  b   c\ndddddd"},
    {10, "  indented", "  indented"},
    {10, "one\n\n two\n", "one\n\n two\n"},
    {5, "abcdefghijkl mn", "abcde\nfghij\nkl mn"},
    {6, "\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xbd\xa0\xe5\xa5\xbd", /* four characters, two columns each */
     "\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xbd\xa0\n\xe5\xa5\xbd"},
    {6,
     "gr\xc3\xbc\xc3\x9f"
     "e dich",
     "gr\xc3\xbc\xc3\x9f"
     "e\ndich"},
    {40, "a\tb", "a       b"},
    {10, "trailing   ", "trailing"},
};

static void check(int width, const char *text, const char *want, size_t piece) {
    wrapper w = wrap_begin(width, keep);
    shown.size = 0;
    for (size_t at = 0, n = strlen(text); at < n; at += piece) {
        assert_true(wrap_text(&w, text + at, n - at < piece ? n - at : piece));
    }
    wrap_end(&w);
    assert_int_equal(shown.size, strlen(want));
    assert_memory_equal(shown.data, want, shown.size);
}

static bool is_ascii(const char *text) {
    for (; *text; text++) {
        if (*text & 0x80) return false;
    }
    return true;
}

static void lines_end_between_words(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t n = strlen(cases[i].text);
        /* pieces are whole characters: the engine gives no others */
        for (size_t piece = is_ascii(cases[i].text) ? 1 : n; piece <= n; piece++) {
            check(cases[i].width, cases[i].text, cases[i].want, piece);
        }
    }
    buffer_clear(&shown);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines_end_between_words)};
    if (!setlocale(LC_CTYPE, "C.UTF-8")) return 77; /* widths of characters are the locale's */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
