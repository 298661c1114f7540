/* test_status.c - a failure is one terminated line, whatever was put into it.
 *
 * SPDX-License-Identifier: MIT */
#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void every_status_has_its_text(void **state) {
    (void)state;
    assert_string_equal(weir_status_text(WEIR_OK), "success");
    assert_string_equal(weir_status_text(WEIR_ERR_FULL), "window is full");
#define X(name, text) assert_string_equal(weir_status_text(WEIR_##name), text);
    WEIR_STATUS_MAP(X)
#undef X
    assert_string_equal(weir_status_text((weir_status)99), "unknown status");
    assert_string_equal(weir_status_text((weir_status)-1), "unknown status");
}

static void the_version_is_that_of_the_header(void **state) {
    (void)state;
    char want[32];
    snprintf(want, sizeof want, "%d.%d.%d", WEIR_VERSION_MAJOR, WEIR_VERSION_MINOR,
             WEIR_VERSION_PATCH);
    assert_string_equal(weir_version(), want);
}

static void a_failure_fills_the_error_and_is_the_status(void **state) {
    (void)state;
    weir_error err = {0};
    assert_int_equal(weir_fail(&err, WEIR_ERR_MODEL, "%s: is %d, wanted %d", "q_proj", 3, 4),
                     WEIR_ERR_MODEL);
    assert_int_equal(err.status, WEIR_ERR_MODEL);
    assert_string_equal(err.message, "q_proj: is 3, wanted 4");
    assert_int_equal(weir_fail(NULL, WEIR_ERR_IO, "ignored %d", 1), WEIR_ERR_IO);
}

static void a_long_message_is_cut_and_terminated(void **state) {
    (void)state;
    weir_error err;
    char name[2000];
    memset(&err, 'x', sizeof err);
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    assert_int_equal(weir_fail(&err, WEIR_ERR_IO, "%s: too long", name), WEIR_ERR_IO);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void control_characters_do_not_reach_a_terminal(void **state) {
    (void)state;
    weir_error err;
    char all[256];
    for (int i = 1; i < 256; i++) all[i - 1] = (char)i;
    all[255] = 0;
    assert_int_equal(weir_fail(&err, WEIR_ERR_IO, "%s", all), WEIR_ERR_IO);
    assert_int_equal(strlen(err.message), 255);
    for (int i = 0; i < 255; i++) {
        const unsigned char c = (unsigned char)err.message[i];
        assert_true(c >= 0x20 && c != 0x7f);
        if ((unsigned char)all[i] >= 0x20 && all[i] != 0x7f)
            assert_int_equal(err.message[i], all[i]);
    }
}

/* ---- WEIR_TRY */

static int evaluations;

static weir_status give(weir_status status) {
    evaluations++;
    return status;
}

static weir_status try_twice(weir_status first, weir_status second) {
    WEIR_TRY(give(first));
    WEIR_TRY(give(second));
    return WEIR_OK;
}

static void try_forwards_the_first_failure_and_evaluates_once(void **state) {
    (void)state;
    evaluations = 0;
    assert_int_equal(try_twice(WEIR_ERR_IO, WEIR_ERR_FULL), WEIR_ERR_IO);
    assert_int_equal(evaluations, 1);
    assert_int_equal(try_twice(WEIR_OK, WEIR_ERR_FULL), WEIR_ERR_FULL);
    assert_int_equal(try_twice(WEIR_OK, WEIR_OK), WEIR_OK);
    assert_int_equal(evaluations, 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_text),
        cmocka_unit_test(the_version_is_that_of_the_header),
        cmocka_unit_test(a_failure_fills_the_error_and_is_the_status),
        cmocka_unit_test(a_long_message_is_cut_and_terminated),
        cmocka_unit_test(control_characters_do_not_reach_a_terminal),
        cmocka_unit_test(try_forwards_the_first_failure_and_evaluates_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
