/* test_cmd_generate.c - weir generate: text and ids, sessions on disk, signals, and what it
 * refuses.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tiny_model.h"

#include <jansson.h>
#include <signal.h>

#define GOLDEN TEST_DATA "/golden"

static char folder[256], tiny[300], plain[300]; /* plain: without BOS */

static json_t *parse(const ran *r) {
    json_t *j = json_loads(r->out, JSON_ALLOW_NUL, NULL);
    if (!j) fail_msg("not JSON: %s", r->out);
    return j;
}

static long long stat_of(json_t *j, const char *key) {
    return json_integer_value(json_object_get(json_object_get(j, "stats"), key));
}

/* ------------------------------------------------------------------ text */

static void the_same_seed_gives_the_same_text(void **state) {
    (void)state;
    ran a = weir("", "generate", tiny, "-p", "abc", "-n", "40", "--seed", "5", NULL);
    ran b = weir("abc", "generate", "--seed=5", "-n40", tiny, NULL);
    ran c = weir("abc", "generate", "--seed=6", "-n40", tiny, NULL);
    assert_status(&a, 0);
    assert_status(&b, 0);
    assert_string_equal(a.out, b.out);
    assert_string_not_equal(a.out, c.out);
    ran_clear(&a);
    ran_clear(&b);
    ran_clear(&c);
}

static void statistics_go_to_standard_error_unless_quiet(void **state) {
    (void)state;
    ran a = weir("abc", "generate", tiny, "-n", "40", "-s5", "--ignore-eos", NULL);
    ran b = weir("abc", "generate", tiny, "-n", "40", "-s5", "--ignore-eos", "--quiet", NULL);
    assert_non_null(strstr(a.err, "prompt 4 tokens")); /* BOS and three bytes */
    assert_non_null(strstr(a.err, "generated 4"));
    assert_non_null(strstr(a.err, "of 128 (4 pinned)"));
    assert_non_null(strstr(a.err, "evicted 0 tokens"));
    assert_non_null(strstr(a.err, "seed 5"));
    assert_string_equal(b.err, "");
    assert_string_equal(a.out, b.out);
    assert_null(strchr(a.err, '\033')); /* no colours, no progress: it is no terminal */
    ran_clear(&a);
    ran_clear(&b);
}

static void json_holds_the_text_and_the_counts(void **state) {
    (void)state;
    ran text = weir("abc", "generate", tiny, "-n", "300", "--seed", "9", "-q", "--ignore-eos",
                    "--no-loop-guard", NULL);
    ran r = weir("abc", "generate", tiny, "-n", "300", "--seed", "9", "--ignore-eos",
                 "--no-loop-guard", "--json", NULL);
    json_t *j = parse(&r);
    json_t *got = json_object_get(j, "text");
    assert_int_equal(json_string_length(got) + 1, text.out_size);
    assert_memory_equal(json_string_value(got), text.out, text.out_size - 1);
    assert_string_equal(json_string_value(json_object_get(j, "end")), "length");
    assert_in_range(json_integer_value(json_object_get(j, "tokens")), 300, 304);
    assert_int_equal(stat_of(j, "generated_tokens"),
                     json_integer_value(json_object_get(j, "tokens")));
    assert_int_equal(stat_of(j, "in_window"), TINY_CONTEXT);
    assert_int_equal(stat_of(j, "evicted_tokens"), stat_of(j, "position") - TINY_CONTEXT);
    assert_int_equal(stat_of(j, "seed"), 9);
    assert_string_equal(r.err, "");
    json_decref(j);
    ran_clear(&text);
    ran_clear(&r);
}

static void a_bias_chooses_and_the_loop_guard_ends(void **state) {
    (void)state;
    ran r = weir("abc", "generate", tiny, "--logit-bias", "65=200", "--json", NULL);
    json_t *j = parse(&r);
    assert_string_equal(json_string_value(json_object_get(j, "end")), "loop");
    assert_int_equal(stat_of(j, "loops"), 1);
    json_decref(j);
    ran_clear(&r);
    r = weir("abc", "generate", tiny, "--logit-bias", "65=200", "--no-loop-guard", "-n", "20",
             NULL);
    assert_string_equal(r.out, "AAAAAAAAAAAAAAAAAAAA\n");
    ran_clear(&r);
    r = weir("abc", "generate", tiny, "--logit-bias", "257=200", "--json", NULL);
    j = parse(&r);
    assert_string_equal(json_string_value(json_object_get(j, "end")), "turn");
    assert_string_equal(json_string_value(json_object_get(j, "text")), "");
    json_decref(j);
    ran_clear(&r);
}

static void a_stop_text_never_shows(void **state) {
    (void)state;
    ran all = weir("abc", "generate", tiny, "--greedy", "-n", "60", "-q", NULL);
    assert_true(all.out_size > 20);
    char stop[8] = "";
    memcpy(stop, all.out + 10, 3); /* the tiny model's greedy text is plain bytes */
    char *at = strstr(all.out, stop);
    assert_non_null(at);
    ran r = weir("abc", "generate", tiny, "--greedy", "--stop", "\x01\x01", "--stop", stop, "-n",
                 "60", "--json", NULL);
    json_t *j = parse(&r);
    assert_string_equal(json_string_value(json_object_get(j, "end")), "stop");
    const size_t n = json_string_length(json_object_get(j, "text"));
    assert_int_equal(n, at - all.out);
    json_decref(j);
    ran_clear(&r);
    ran_clear(&all);
}

static void the_prompt_comes_from_one_place(void **state) {
    (void)state;
    char path[300];
    snprintf(path, sizeof path, "%s/prompt.txt", folder);
    FILE *f = fopen(path, "w");
    fputs("abc", f);
    fclose(f);
    ran a = weir("ignored", "generate", tiny, "--file", path, "-n", "9", "-s1", "--echo", NULL);
    ran b = weir("abc", "generate", tiny, "-f", "-", "-n", "9", "-s1", "--echo", NULL);
    assert_status(&a, 0);
    assert_string_equal(a.out, b.out);
    assert_int_equal(strncmp(a.out, "abc", 3), 0);
    ran_clear(&a);
    ran_clear(&b);
}

static void stories_go_on_as_known(void **state) {
    (void)state;
    char path[512];
    if (!shared_data(path, sizeof path, "models/stories260K")) {
        print_message("no %s: skipped\n", path);
        skip();
    }
    ran r = weir("", "generate", path, "-p", "Once upon a time", "--greedy", "-n", "60", "--echo",
                 NULL);
    assert_status(&r, 0);
    assert_non_null(strstr(r.out, "Once upon a time, there was a little girl named Lily. She loved "
                                  "to play outside in the park."));
    ran_clear(&r);
}

/* ------------------------------------------------------------------ ids */

static void greedy_ids_are_the_likeliest(void **state) {
    (void)state;
    char path[300], all[2048] = "5 6 7";
    snprintf(path, sizeof path, "%s/greedy.npy", folder);
    ran r = weir("5 6 7", "generate", GOLDEN "/llama", "--token-ids", "-", "--greedy", "-n", "30",
                 "--window", "24", NULL);
    assert_status(&r, 0);
    strcat(strcat(all, " "), r.out);
    ran p = weir(all, "perplexity", GOLDEN "/llama", "--token-ids", "-", "--window", "24",
                 "--logits", path, NULL);
    assert_status(&p, 0);
    float *logits = (float *)(void *)(slurp_file(path, NULL));
    const float *row = logits + 32 + 2 * 97; /* after the header and two rows */
    char *at = r.out;
    for (int i = 0; i < 30; i++, row += 97) {
        int best = 0;
        for (int k = 1; k < 97; k++) best = row[k] > row[best] ? k : best;
        assert_int_equal(strtol(at, &at, 10), best);
    }
    assert_string_equal(at, "\n");
    free(logits);
    ran_clear(&p);
    ran_clear(&r);
}

static void ids_come_as_json_too(void **state) {
    (void)state;
    ran r =
        weir("5 6 7", "generate", GOLDEN "/mpt", "--token-ids", "-", "-n", "30", "--json", NULL);
    json_t *j = parse(&r);
    assert_int_equal(json_array_size(json_object_get(j, "ids")), 30);
    assert_int_equal(stat_of(j, "position"), 33);
    assert_int_equal(stat_of(j, "prompt_tokens"), 3);
    assert_int_equal(stat_of(j, "generated_tokens"), 30);
    json_decref(j);
    ran_clear(&r);
}

/* ------------------------------------------------------------------ sessions */

static void a_saved_session_goes_on_as_if_never_stopped(void **state) {
    (void)state;
    char path[300];
    snprintf(path, sizeof path, "%s/session.weir", folder);
    ran whole = weir("5 6 7", "generate", GOLDEN "/llama", "--token-ids", "-", "--greedy", "-n",
                     "200", "-w", "24", NULL);
    ran first = weir("5 6 7", "generate", GOLDEN "/llama", "--token-ids", "-", "--greedy", "-n",
                     "90", "-w", "24", "--save", path, NULL);
    ran second = weir("", "generate", GOLDEN "/llama", "--token-ids", "-", "--greedy", "-n", "110",
                      "-w", "24", "--load", path, NULL);
    assert_status(&first, 0);
    assert_status(&second, 0);
    first.out[first.out_size - 1] = ' ';
    char *joined = malloc(first.out_size + second.out_size + 1);
    strcat(strcpy(joined, first.out), second.out);
    assert_string_equal(joined, whole.out);
    free(joined);
    ran_clear(&whole);
    ran_clear(&first);
    ran_clear(&second);
    ran r = weir("", "generate", tiny, "--load", path, NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir generate: ", path);
    ran_clear(&r);
}

static ran load_with_seed(const char *path, const char *seed) {
    return weir("", "generate", tiny, "--load", path, "-n", "40", "--ignore-eos", "--json",
                seed ? "--seed" : NULL, seed, NULL);
}

/* Without --seed the generator of the saved session goes on, and no seed is claimed. */
static void a_seed_counts_for_a_session_that_was_saved(void **state) {
    (void)state;
    char path[300];
    snprintf(path, sizeof path, "%s/seeded.weir", folder);
    ran made = weir("abc", "generate", tiny, "-n", "5", "--ignore-eos", "--save", path, NULL);
    static const char *const seeds[] = {"5", "5", "6", NULL, NULL};
    json_t *j[COUNT_OF(seeds)];
    const char *text[COUNT_OF(seeds)];
    assert_status(&made, 0);
    for (size_t i = 0; i < COUNT_OF(seeds); i++) {
        ran r = load_with_seed(path, seeds[i]);
        assert_status(&r, 0);
        j[i] = parse(&r);
        text[i] = json_string_value(json_object_get(j[i], "text"));
        ran_clear(&r);
    }
    assert_string_equal(text[0], text[1]);
    assert_string_not_equal(text[0], text[2]);
    assert_string_equal(text[3], text[4]);
    assert_int_equal(stat_of(j[2], "seed"), 6);
    assert_true(json_is_null(json_object_get(json_object_get(j[3], "stats"), "seed")));
    for (size_t i = 0; i < COUNT_OF(seeds); i++) json_decref(j[i]);
    ran_clear(&made);
    ran r = weir("", "generate", tiny, "--load", path, "-n", "5", NULL);
    assert_null(strstr(r.err, "seed"));
    ran_clear(&r);
}

static void what_is_no_session_is_refused(void **state) {
    (void)state;
    char path[400];
    snprintf(path, sizeof path, "%s/config.json", tiny);
    ran r = weir("", "generate", tiny, "--load", path, NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir generate: ", path);
    ran_clear(&r);
    r = weir("x", "generate", tiny, "--save", "/no/such/folder/s.weir", NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir generate: ", "/no/such/folder/s.weir");
    assert_int_equal(r.out_size, 0); /* said before the work, not after it */
    ran_clear(&r);
}

/* ------------------------------------------------------------------ signals */

/* Starts an endless text, waits until some of it is there, then sends the signal. */
static ran endless(int number, const char *save) {
    char out[300], err[300];
    snprintf(out, sizeof out, "%s/endless.out", folder);
    snprintf(err, sizeof err, "%s/endless.err", folder);
    unlink(out);
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen(out, "w", stdout) || !freopen(err, "w", stderr)) _exit(127);
        execl(BINARY_DIR "/weir", "weir", "generate", tiny, "-p", "a", "-n", "-1", "--ignore-eos",
              "--no-loop-guard", save ? "--save" : NULL, save, NULL);
        _exit(127);
    }
    struct stat st = {0};
    for (int i = 0; i < 3000 && (stat(out, &st) != 0 || st.st_size < 100); i++) usleep(10000);
    assert_true(st.st_size >= 100);
    kill(child, number); /* twice, as timeout(1) does */
    usleep(2000);
    kill(child, number);
    int status = 0;
    waitpid(child, &status, 0);
    ran r = {.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1};
    r.out = slurp_file(out, &r.out_size);
    r.err = slurp_file(err, NULL);
    return r;
}

static void signals_end_it_cleanly_and_save(void **state) {
    (void)state;
    char path[300];
    snprintf(path, sizeof path, "%s/endless.weir", folder);
    ran r = endless(SIGINT, path);
    assert_int_equal(r.status, 130);
    assert_non_null(strstr(r.err, "ended: interrupted"));
    assert_int_equal(r.out[r.out_size - 1], '\n');
    ran again = weir("", "generate", tiny, "--load", path, "-n", "5", NULL);
    assert_status(&again, 0);
    ran_clear(&again);
    ran_clear(&r);
    r = endless(SIGTERM, NULL);
    assert_int_equal(r.status, 143);
    assert_non_null(strstr(r.err, "ended: interrupted"));
    ran_clear(&r);
}

/* <s> shows nothing: no text ever gives the command a chance to look. */
static void a_signal_ends_a_text_that_shows_nothing(void **state) {
    (void)state;
    char err[300];
    snprintf(err, sizeof err, "%s/silent.err", folder);
    const pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stdout) || !freopen(err, "w", stderr)) _exit(127);
        execl(BINARY_DIR "/weir", "weir", "generate", tiny, "-p", "a", "-n", "-1", "--ignore-eos",
              "--no-loop-guard", "--logit-bias", "256=1000", NULL);
        _exit(127);
    }
    int status = 0;
    usleep(500000);
    assert_int_equal(waitpid(child, &status, WNOHANG), 0);
    kill(child, SIGINT);
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 130);
    char *text = slurp_file(err, NULL);
    assert_non_null(strstr(text, "ended: interrupted"));
    free(text);
}

static void n_is_exact_and_text_that_was_held_comes_with_it(void **state) {
    (void)state;
    const struct {
        const char *bias, *text;
    } cases[] = {{"97=1000", "aaaaa"}, {"256=1000", ""}, {"226=1000", "\xef\xbf\xbd"}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        ran r = weir("", "generate", tiny, "-p", "x", "-n", "5", "--ignore-eos", "--logit-bias",
                     cases[i].bias, "--stop", "aaaaaaX", "--json", NULL);
        assert_status(&r, 0);
        json_t *j = json_loads(r.out, 0, NULL);
        assert_int_equal(json_integer_value(json_object_get(j, "tokens")), 5);
        assert_string_equal(json_string_value(json_object_get(j, "end")), "length");
        const char *text = json_string_value(json_object_get(j, "text"));
        assert_int_equal(strncmp(text, cases[i].text, strlen(cases[i].text)), 0);
        if (i < 2) assert_string_equal(text, cases[i].text);
        json_decref(j);
        ran_clear(&r);
    }
}

static void a_reader_that_goes_away_ends_an_endless_text(void **state) {
    (void)state;
    char program[] = "sh", option[] = "-c", line[1024];
    char *args[] = {program, option, line, NULL};
    snprintf(line, sizeof line,
             "%s/weir generate %s -p a -n -1 --ignore-eos --no-loop-guard -q | head -c 100 | wc -c",
             BINARY_DIR, tiny);
    ran r = run_program(program, "", -1, args);
    assert_int_equal(strtol(r.out, NULL, 10), 100);
    assert_string_equal(r.err, "");
    ran_clear(&r);
}

/* ------------------------------------------------------------------ what is refused */

static void what_is_wrong_is_one_line(void **state) {
    (void)state;
    const struct {
        const char *args[10], *what;
    } cases[] = {
        {{"generate", GOLDEN "/llama", "-p", "x"}, "tokenizer"},
        {{"generate", GOLDEN "/llama", "--token-ids", "/no/ids"}, "/no/ids"},
        {{"generate", tiny, "-p", "x", "--mode", "dense", "-n-1", "--ignore-eos",
          "--no-loop-guard"},
         "--window"},
        {{"generate", tiny, "-p", "x", "--sinks", "1000"}, "sinks"},
        {{"generate", tiny, "--token-ids", "/dev/null"}, "/dev/null: holds no token ids"},
        {{"generate", plain, "-p", ""}, "the prompt is empty"},
        {{"generate", tiny, "-p", "x", "--logit-bias", "258=1"}, "258"},
        {{"generate", folder, "-p", "x"}, folder},
        {{"generate", "/dev/null", "-p", "x"}, "/dev/null"},
        {{"generate", TEST_DATA "/tokenizer_llama.gguf", "-p", "x"}, "tokenizer_llama.gguf"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *const *a = cases[i].args;
        ran r = weir("", a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], NULL);
        if (r.status != 1) fail_msg("case %zu: exit %d: %s", i, r.status, r.err);
        const char *last = r.err; /* statistics may stand before */
        for (const char *p = r.err; *p; p++) last = *p == '\n' && p[1] ? p + 1 : last;
        if (strncmp(last, "weir generate: ", 15) != 0 || !strstr(last, cases[i].what)) {
            fail_msg("case %zu: %s", i, r.err);
        }
        ran_clear(&r);
    }
}

/* Leaves the post-processor, which puts BOS in front of a text, out of tokenizer.json. */
static void drop_bos(const char *model) {
    char path[400];
    snprintf(path, sizeof path, "%s/tokenizer.json", model);
    json_t *j = json_load_file(path, 0, NULL);
    assert_non_null(j);
    assert_int_equal(json_object_del(j, "post_processor"), 0);
    assert_int_equal(json_dump_file(j, path, 0), 0);
    json_decref(j);
}

static int setup(void **state) {
    (void)state;
    temporary_make(folder);
    snprintf(tiny, sizeof tiny, "%s/tiny", folder);
    assert_int_equal(mkdir(tiny, 0700), 0);
    tiny_model_make(tiny, NULL);
    snprintf(plain, sizeof plain, "%s/plain", folder);
    assert_int_equal(mkdir(plain, 0700), 0);
    tiny_model_make(plain, NULL);
    drop_bos(plain);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    temporary_clear(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_gives_the_same_text),
        cmocka_unit_test(statistics_go_to_standard_error_unless_quiet),
        cmocka_unit_test(json_holds_the_text_and_the_counts),
        cmocka_unit_test(a_bias_chooses_and_the_loop_guard_ends),
        cmocka_unit_test(a_stop_text_never_shows),
        cmocka_unit_test(the_prompt_comes_from_one_place),
        cmocka_unit_test(stories_go_on_as_known),
        cmocka_unit_test(greedy_ids_are_the_likeliest),
        cmocka_unit_test(ids_come_as_json_too),
        cmocka_unit_test(a_saved_session_goes_on_as_if_never_stopped),
        cmocka_unit_test(a_seed_counts_for_a_session_that_was_saved),
        cmocka_unit_test(what_is_no_session_is_refused),
        cmocka_unit_test(signals_end_it_cleanly_and_save),
        cmocka_unit_test(a_signal_ends_a_text_that_shows_nothing),
        cmocka_unit_test(n_is_exact_and_text_that_was_held_comes_with_it),
        cmocka_unit_test(a_reader_that_goes_away_ends_an_endless_text),
        cmocka_unit_test(what_is_wrong_is_one_line),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
