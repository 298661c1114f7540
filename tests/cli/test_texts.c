/* test_texts.c - the man page and the completions are well-formed and know every flag.
 *
 * Shells and man are asked where they are installed; a test says so when it skips one.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/options.h"
#include "weir_run.h"

static ran shell(const char *input, const char *line) {
    char program[] = "sh", option[] = "-c", text[512];
    char *args[] = {program, option, text, NULL};
    snprintf(text, sizeof text, "%s", line);
    return run_program(program, input, -1, args);
}

static bool is_installed(const char *name) {
    char line[64];
    snprintf(line, sizeof line, "command -v %s", name);
    ran r = shell("", line);
    const bool is = r.status == 0;
    if (!is) print_message("%s is not installed: not asked\n", name);
    ran_clear(&r);
    return is;
}

static void every_flag_is_in_every_text(void **state) {
    (void)state;
    static const char *const shells[] = {"bash", "zsh", "fish"};
    ran man = weir("", "help", "--man", NULL);
    assert_status(&man, 0);
    for (size_t s = 0; s < COUNT_OF(shells); s++) {
        ran r = weir("", "help", "--completion", shells[s], NULL);
        assert_status(&r, 0);
        for (int i = 0; i < N_FLAGS; i++) {
            char in_shell[64], in_man[128];
            snprintf(in_shell, sizeof in_shell, s == 2 ? "-l %s" : "--%s", FLAGS[i].name);
            assert_non_null(strstr(r.out, in_shell));
            int n = snprintf(in_man, sizeof in_man, "\\-\\-");
            for (const char *p = FLAGS[i].name; *p; p++) {
                n += snprintf(in_man + n, sizeof in_man - (size_t)n, *p == '-' ? "\\-" : "%c", *p);
            }
            assert_non_null(strstr(man.out, in_man));
        }
        ran_clear(&r);
    }
    ran_clear(&man);
}

static void completions_parse(void **state) {
    (void)state;
    static const char *const shells[] = {"bash", "zsh", "fish"};
    for (size_t i = 0; i < COUNT_OF(shells); i++) {
        if (!is_installed(shells[i])) continue;
        char line[64];
        snprintf(line, sizeof line, "%s -n /dev/stdin", shells[i]);
        ran text = weir("", "help", "--completion", shells[i], NULL);
        ran r = shell(text.out, line);
        assert_status(&r, 0);
        assert_string_equal(r.err, "");
        ran_clear(&r);
        ran_clear(&text);
    }
}

/* What bash offers behind a line; words end in a newline each. */
static ran complete(const char *words, int at) {
    char line[512];
    snprintf(line, sizeof line,
             "exec bash -c 'eval \"$(%s/weir help --completion bash)\"; compopt() { :; }; "
             "COMP_WORDS=(%s); COMP_CWORD=%d; _weir; printf \"%%s\\n\" \"${COMPREPLY[@]}\"'",
             BINARY_DIR, words, at);
    return shell("", line);
}

static void bash_completes_commands_flags_and_words(void **state) {
    (void)state;
    if (!is_installed("bash")) skip();
    static const struct {
        const char *words;
        int at;
        const char *want;
    } cases[] = {
        {"weir perp", 1, "perplexity\n"},
        {"weir generate --temp", 2, "--temp\n"},
        {"weir perplexity --mo", 2, "--mode\n"},
        {"weir perplexity m --mode rec", 4, "recompute\n"},
        {"weir help --completion z", 3, "zsh\n"},
        {"weir help tok", 2, "tokenize\n"},
        {"weir chat /etc/host", 2, "/etc/host"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        ran r = complete(cases[i].words, cases[i].at);
        assert_status(&r, 0);
        if (strncmp(r.out, cases[i].want, strlen(cases[i].want)) != 0) {
            fail_msg("\"%s\" completes to \"%s\", wanted \"%s\": %s", cases[i].words, r.out,
                     cases[i].want, r.err);
        }
        ran_clear(&r);
    }
}

static void the_man_page_renders_without_warnings(void **state) {
    (void)state;
    ran man = weir("", "help", "--man", NULL);
    if (is_installed("groff")) {
        ran r = shell(man.out, "groff -ww -man -Tutf8 -z");
        assert_status(&r, 0);
        assert_string_equal(r.err, "");
        ran_clear(&r);
    }
    if (is_installed("mandoc")) {
        ran r = shell(man.out, "mandoc -T lint -W warning");
        assert_status(&r, 0);
        ran_clear(&r);
    }
    ran_clear(&man);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flag_is_in_every_text),
        cmocka_unit_test(completions_parse),
        cmocka_unit_test(bash_completes_commands_flags_and_words),
        cmocka_unit_test(the_man_page_renders_without_warnings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
