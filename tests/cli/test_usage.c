/* test_usage.c - wrong command lines: one line that says what, where, what to do; exit 2.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "weir_run.h"

typedef struct wrong {
    const char *args[8];
    const char *begin, *what;
    int status;
} wrong;

static const wrong wrongs[] = {
    {{"tokenise"}, "weir: ", "did you mean `weir tokenize`", 2},
    {{"perpelxity"}, "weir: ", "did you mean `weir perplexity`", 2},
    {{"xyz"}, "weir: ", "`weir help` lists", 2},
    {{"--json", "chat"}, "weir: ", "before the command", 2},
    {{""}, "weir: ", "there is no command", 2},
    {{"generate", "--temperature", "1"}, "weir generate: ", "did you mean --temp?", 2},
    {{"generate", "--tmep=1"}, "weir generate: ", "did you mean --temp?", 2},
    {{"generate", "--zzzzzz"}, "weir generate: ", "--help", 2},
    {{"generate", "-Z"}, "weir generate: ", "-Z", 2},
    {{"perplexity", "m", "--temp", "1"}, "weir perplexity: ", "`weir generate`", 2},
    {{"generate", "m", "--tokens"}, "weir generate: ", "wants a value", 2},
    {{"generate", "m", "-n"}, "weir generate: ", "wants a value", 2},
    {{"generate", "m", "-n", "x"}, "weir generate: ", "\"x\" is not a whole number", 2},
    {{"generate", "m", "-n", "5x"}, "weir generate: ", "not a whole number", 2},
    {{"generate", "m", "-n", ""}, "weir generate: ", "not a whole number", 2},
    {{"generate", "m", "-n", "-2"}, "weir generate: ", "out of range", 2},
    {{"generate", "m", "-n", "99999999999999999999"}, "weir generate: ", "out of range", 2},
    {{"generate", "m", "--temp", "nan"}, "weir generate: ", "not a number", 2},
    {{"generate", "m", "--temp", "inf"}, "weir generate: ", "not a number", 2},
    {{"generate", "m", "--top-p", "1.5"}, "weir generate: ", "out of range", 2},
    {{"generate", "m", "--chunk", "16385"}, "weir generate: ", "1 to 16384", 2},
    {{"generate", "m", "--penalty-last", "1025"}, "weir generate: ", "1 to 1024", 2},
    {{"generate", "m", "--seed", "-1"}, "weir generate: ", "out of range", 2},
    {{"generate", "m", "--mode", "dens"}, "weir generate: ", "streaming|dense", 2},
    {{"generate", "m", "--json=yes"}, "weir generate: ", "takes no value", 2},
    {{"generate", "m", "--logit-bias", "3"}, "weir generate: ", "ID=X", 2},
    {{"generate", "m", "--logit-bias", "-3=1"}, "weir generate: ", "ID=X", 2},
    {{"generate", "m", "--logit-bias", "3=x"}, "weir generate: ", "not a number", 2},
    {{"generate", "m", "--stop", ""}, "weir generate: ", "empty", 2},
    {{"generate", "m", "-p", "x", "--file", "y"}, "weir generate: ", "one of", 2},
    {{"generate", "m", "n", "-p", "x"}, "weir generate: ", "two MODELs", 2},
    {{"generate", "", "-p", "x"}, "weir generate: ", "empty", 2},
    {{"perplexity"}, "weir perplexity: ", "--text FILE", 2},
    {{"tokenize"}, "weir tokenize: ", "FILE is missing", 2},
    {{"perplexity", "m"}, "weir perplexity: ", "--text FILE or --token-ids FILE", 2},
    {{"perplexity", "m", "--text", "a", "--token-ids", "b"}, "weir perplexity: ", "not both", 2},
    {{"perplexity", "m", "--text", "a", "--stride", "4"}, "weir perplexity: ", "recompute", 2},
    {{"build", "m"}, "weir build: ", "-o FILE", 2},
    {{"build", "m", "-o", "x", "--window", "9"}, "weir build: ", "--window", 2},
    {{"build", "/no/such/file", "-o", "x"}, "weir build: ", "/no/such/file", 1},
    {{"bench", "--repeat", "0"}, "weir bench: ", "out of range", 2},
    {{"bench", "--prefill", "2147483647", "-n", "1"}, "weir bench: ", "out of range", 2},
    {{"bench", "-n", "2147483647"}, "weir bench: ", "out of range", 2},
    {{"chat", "m", "--load", "a", "--system", "b"}, "weir chat: ", "--load", 2},
    {{"help", "chatt"}, "weir: ", "did you mean `weir chat`", 2},
    {{"help", "--completion", "tcsh"}, "weir help: ", "bash|zsh|fish", 2},
    {{"tokenize", "/no/such/file"}, "weir tokenize: ", "/no/such/file", 1},
    {{"info", "/no/such/file"}, "weir info: ", "/no/such/file", 1},
    {{"bench", "/dev/null"}, "weir bench: ", "/dev/null", 1},
    {{"perplexity", "m", "--text", "/no/such/text"}, "weir perplexity: ", "/no/such/text", 1},
    {{"generate", "m", "--file", "/"}, "weir generate: ", "/: ", 1},
    {{"chat", "m", "--script", "/no/such/script"}, "weir chat: ", "/no/such/script", 1},
};

static void a_wrong_line_is_one_clear_line(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(wrongs); i++) {
        const wrong *w = &wrongs[i];
        ran r = weir("", w->args[0], w->args[1], w->args[2], w->args[3], w->args[4], w->args[5],
                     w->args[6], w->args[7], NULL);
        assert_status(&r, w->status);
        assert_one_line(&r, w->begin, w->what);
        assert_int_equal(r.out_size, 0);
        ran_clear(&r);
    }
}

static void no_command_prints_the_overview_and_fails(void **state) {
    (void)state;
    ran r = weir("", NULL);
    assert_status(&r, 2);
    assert_non_null(strstr(r.err, "weir COMMAND --help"));
    ran_clear(&r);
}

static void every_command_explains_itself(void **state) {
    (void)state;
    static const char *const names[] = {"chat", "generate", "perplexity", "bench",
                                        "info", "build",    "tokenize",   "help"};
    ran overview = weir("", "--help", NULL);
    assert_status(&overview, 0);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        ran a = weir("", names[i], "--help", NULL), b = weir("", "help", names[i], NULL);
        assert_status(&a, 0);
        assert_status(&b, 0);
        assert_string_equal(a.out, b.out);
        assert_non_null(strstr(a.out, "Examples"));
        assert_non_null(strstr(overview.out, names[i]));
        assert_string_equal(a.err, "");
        ran_clear(&a);
        ran_clear(&b);
    }
    assert_null(strstr(overview.out, "serve")); /* what is not there is not listed */
    ran_clear(&overview);
}

static void help_wins_over_what_is_missing(void **state) {
    (void)state;
    ran r = weir("", "perplexity", "-h", "--nonsense", NULL);
    assert_status(&r, 0);
    ran_clear(&r);
}

static void version_is_one_line(void **state) {
    (void)state;
    ran r = weir("", "--version", NULL);
    assert_status(&r, 0);
    assert_int_equal(strncmp(r.out, "weir 0.", 7), 0);
    assert_ptr_equal(strchr(r.out, '\n'), r.out + r.out_size - 1);
    ran_clear(&r);
}

static void messages_hold_no_control_characters(void **state) {
    (void)state;
    ran r = weir("", "generate", "--temp", "a\033[31m\n\r\x07\xff\xc2\x9b", NULL);
    assert_status(&r, 2);
    assert_one_line(&r, "weir generate: ", "\"a^[[31m ^M^G??\"");
    for (const char *p = r.err; p[1]; p++) assert_true((unsigned char)*p >= 0x20);
    ran_clear(&r);
}

static void a_full_disk_is_an_error(void **state) {
    (void)state;
    if (access("/dev/full", W_OK) != 0) skip();
    char program[] = BINARY_DIR "/weir", word[] = "help", option[] = "--man";
    char *args[] = {program, word, option, NULL};
    const int full = open("/dev/full", O_WRONLY);
    ran r = run_program(program, "", full, args);
    close(full);
    assert_status(&r, 1);
    assert_one_line(&r, "weir help: ", "standard output cannot be written");
    ran_clear(&r);
}

static void a_reader_that_goes_away_ends_it_quietly(void **state) {
    (void)state;
    int ends[2];
    char program[] = BINARY_DIR "/weir", word[] = "help", option[] = "--man";
    char *args[] = {program, word, option, NULL};
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    ran r = run_program(program, "", ends[1], args);
    close(ends[1]);
    assert_int_equal(r.status, 128 + 13); /* died by SIGPIPE, as cat would */
    assert_string_equal(r.err, "");
    ran_clear(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_line_is_one_clear_line),
        cmocka_unit_test(no_command_prints_the_overview_and_fails),
        cmocka_unit_test(every_command_explains_itself),
        cmocka_unit_test(help_wins_over_what_is_missing),
        cmocka_unit_test(version_is_one_line),
        cmocka_unit_test(messages_hold_no_control_characters),
        cmocka_unit_test(a_full_disk_is_an_error),
        cmocka_unit_test(a_reader_that_goes_away_ends_it_quietly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
