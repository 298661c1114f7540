/* test_cmd_chat.c - weir chat through a pipe and on a pseudo-terminal, as a person types.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tiny_model.h"

#include <jansson.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <time.h>

static char folder[256], talker[300], mute[300];

/* The lines of text that begin with this. */
static int count_lines(const char *text, const char *begin) {
    int n = 0;
    for (const char *p = text; p; p = strchr(p, '\n')) {
        p += *p == '\n';
        n += strncmp(p, begin, strlen(begin)) == 0;
    }
    return n;
}

/* Replies are noise, which may hold NUL bytes; what is searched is a C string. */
static void hide_noise(ran *r) {
    for (size_t i = 0; i < r->out_size; i++) {
        if (!r->out[i]) r->out[i] = '?';
    }
}

/* ------------------------------------------------------------------ pipes and scripts */

static void each_line_of_a_pipe_is_a_message(void **state) {
    (void)state;
    ran r = weir("one\n\n  \ntwo\nthree", "chat", talker, "-n", "5", "--ignore-eos", "--seed", "1",
                 "--json", NULL);
    assert_status(&r, 0);
    char *line = strtok(r.out, "\n");
    long long position = 0;
    for (int i = 0; i < 3; i++, line = strtok(NULL, "\n")) {
        assert_non_null(line);
        json_t *j = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(j);
        assert_string_equal(json_string_value(json_object_get(j, "role")), "assistant");
        assert_string_equal(json_string_value(json_object_get(j, "end")), "length");
        json_t *stats = json_object_get(j, "stats");
        const long long now = json_integer_value(json_object_get(stats, "position"));
        assert_true(now > position);
        position = now;
        json_decref(j);
    }
    assert_null(line);
    ran_clear(&r);
}

static void lines_join_and_blocks_hold_many(void **state) {
    (void)state;
    /* <s>[a NEWLINE b] is six tokens; the reply's one token ends the count */
    static const struct {
        const char *input;
        int position;
    } cases[] = {
        {"a\\\nb\n", 6 + 1},
        {"\"\"\"a\nb\"\"\"\n", 6 + 1},
        {"\"\"\"\na\nb\n\"\"\"\n", 6 + 2},
        {"\"\"\"a\"\"\"\n", 4 + 1},
        {"//a\n", 5 + 1},
        {"a\r\n", 4 + 1},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        ran r = weir(cases[i].input, "chat", talker, "-n", "1", "--ignore-eos", "--logit-bias",
                     "65=200", "--json", NULL);
        assert_status(&r, 0);
        json_t *j = json_loads(r.out, 0, NULL);
        assert_non_null(j);
        json_t *stats = json_object_get(j, "stats");
        const long long at = json_integer_value(json_object_get(stats, "position"));
        if (at != cases[i].position) {
            fail_msg("case %zu: position %lld, wanted %d", i, at, cases[i].position);
        }
        json_decref(j);
        ran_clear(&r);
    }
}

static void a_script_shows_messages_replies_and_what_flowed_out(void **state) {
    (void)state;
    char path[300];
    snprintf(path, sizeof path, "%s/script.txt", folder);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 8; i++) fprintf(f, "message %d\n", i);
    fputs("/stats\n", f);
    fclose(f);
    ran r = weir("", "chat", talker, "--script", path, "-n", "40", "--ignore-eos",
                 "--no-loop-guard", "--system", "Be brief.", NULL);
    assert_status(&r, 0);
    hide_noise(&r);
    assert_int_equal(count_lines(r.out, "> message"), 8);
    assert_int_equal(count_lines(r.err, "4"), 8); /* 40 to 43 tokens, the status lines */
    assert_non_null(strstr(r.out, "window 128 of 128 (11 pinned)")); /* <s>Be brief.NEWLINE */
    assert_null(strstr(r.out, "evicted 0 tokens"));
    assert_null(strchr(r.err, '\033'));
    ran_clear(&r);
}

static void a_system_prompt_that_is_not_utf8_is_repaired(void **state) {
    (void)state;
    ran r = weir("a\n", "chat", talker, "-n", "1", "--ignore-eos", "--system", "caf\xe9", NULL);
    assert_status(&r, 0);
    assert_non_null(strstr(r.err, "(8 pinned)")); /* <s>caf, the three bytes of U+FFFD, NEWLINE */
    assert_int_equal(strncmp(r.err, "1 token, ", 9), 0);
    ran_clear(&r);
}

static void turns_leave_whole_and_are_counted(void **state) {
    (void)state;
    ran r = weir("one\ntwo\nthree\nfour\nfive\n/stats\n", "chat", talker, "-n", "40",
                 "--ignore-eos", "--no-loop-guard", "--evict", "turn", NULL);
    assert_status(&r, 0);
    hide_noise(&r);
    assert_non_null(strstr(r.out, " turn"));
    ran_clear(&r);
}

static void commands_act_and_explain_what_is_wrong(void **state) {
    (void)state;
    char input[2048];
    snprintf(
        input, sizeof input,
        "/help\n/nonsense\n/save\n/pin\n/temp x\n/temp 0\n/greedy off\n/greedy maybe\n/seed 7\n"
        "/logit-bias 1=1\nhello\n/pin\n/pin reply\n/pin x\n/save %s/talk.weir\n/reset\n"
        "/stats\n/load %s/talk.weir\n/stats\n/load /no/such\n/reset\n/system Be kind.\n/reset\n"
        "/stop END\n/quit\nnever read\n",
        folder, folder);
    ran r = weir(input, "chat", talker, "-n", "3", "--ignore-eos", "-q", NULL);
    assert_status(&r, 0);
    hide_noise(&r);
    static const char *const said[] = {
        "/save FILE",
        "temp: 0\n",
        "seed: 7\n",
        "Your last message stays",
        "Your last reply stays",
        "Saved to",
        "A new conversation",
        "position 0 ",
        "Loaded",
        "that of a loaded one is not known",
        "with this system prompt",
        "with the same system prompt",
        "stop: END\n",
    };
    for (size_t i = 0; i < COUNT_OF(said); i++) {
        if (!strstr(r.out, said[i])) fail_msg("\"%s\" is not in: %s", said[i], r.out);
    }
    static const char *const wrong[] = {
        "no /nonsense",   "/save wants a FILE", "no message to pin", "/temp: \"x\"",
        "no /logit-bias", "/pin takes",         "/no/such",          "/greedy: \"maybe\"",
    };
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        if (!strstr(r.err, wrong[i])) fail_msg("\"%s\" is not in: %s", wrong[i], r.err);
    }
    assert_int_equal(count_lines(r.err, "weir chat: "), COUNT_OF(wrong));
    ran_clear(&r);
}

static void a_saved_chat_goes_on(void **state) {
    (void)state;
    char path[300];
    snprintf(path, sizeof path, "%s/chat.weir", folder);
    ran whole = weir("one\ntwo\n", "chat", talker, "-n", "20", "--greedy", "-q", NULL);
    ran a = weir("one\n", "chat", talker, "-n", "20", "--greedy", "-q", "--save", path, NULL);
    ran b = weir("two\n", "chat", talker, "-n", "20", "--greedy", "-q", "--load", path, NULL);
    assert_status(&a, 0);
    assert_status(&b, 0);
    assert_int_equal(a.out_size + b.out_size, whole.out_size);
    assert_memory_equal(whole.out, a.out, a.out_size);
    assert_memory_equal(whole.out + a.out_size, b.out, b.out_size);
    ran_clear(&whole);
    ran_clear(&a);
    ran_clear(&b);
}

static void what_cannot_talk_says_so(void **state) {
    (void)state;
    ran r = weir("hello\n", "chat", mute, NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir chat: ", "`weir generate`");
    ran_clear(&r);
    r = weir("hello\n", "chat", TEST_DATA "/golden/llama", NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir chat: ", "golden/llama");
    ran_clear(&r);
    r = weir("hello\n", "chat", talker, "--mode", "dense", "-w", "16", "--ignore-eos", NULL);
    assert_status(&r, 1); /* without a terminal nobody could /reset */
    assert_non_null(strstr(r.err, "--window"));
    ran_clear(&r);
}

/* ------------------------------------------------------------------ a terminal */

typedef struct terminal {
    pid_t child;
    int fd;
    char seen[1 << 20];
    size_t n, from; /* from: where the next wait begins to look */
} terminal;

/* Reads what the terminal shows until it holds the text; false after ten seconds or at the end. */
static bool wait_for(terminal *t, const char *text) {
    const time_t end = time(NULL) + 10;
    while (time(NULL) <= end) {
        char *at = strstr(t->seen + t->from, text);
        if (at) {
            t->from = (size_t)(at - t->seen) + strlen(text);
            return true;
        }
        struct pollfd p = {.fd = t->fd, .events = POLLIN};
        if (poll(&p, 1, 1000) <= 0) continue;
        if (t->n > sizeof t->seen / 2) { /* an endless reply: forget the older half */
            memmove(t->seen, t->seen + t->n / 2, t->n - t->n / 2 + 1);
            t->n -= t->n / 2;
            t->from = 0;
        }
        const ssize_t n = read(t->fd, t->seen + t->n, sizeof t->seen - 1 - t->n);
        if (n <= 0) return false;
        for (ssize_t i = 0; i < n; i++) {
            if (!t->seen[t->n + (size_t)i]) t->seen[t->n + (size_t)i] = '?';
        }
        t->n += (size_t)n;
        t->seen[t->n] = 0;
    }
    return false;
}

static void expect(terminal *t, const char *text) {
    if (!wait_for(t, text))
        fail_msg("\"%s\" never came; the end is: %.400s", text,
                 t->seen + (t->n > 400 ? t->n - 400 : 0));
}

static void type(terminal *t, const char *keys) {
    assert_int_equal(write(t->fd, keys, strlen(keys)), strlen(keys));
}

static terminal *open_chat(const char *no_color, const char *limit) {
    terminal *t = calloc(1, sizeof *t);
    const struct winsize size = {.ws_row = 24, .ws_col = 80};
    t->child = forkpty(&t->fd, NULL, NULL, &size);
    assert_true(t->child >= 0);
    if (t->child == 0) {
        setenv("TERM", "xterm", 1);
        setenv("NO_COLOR", no_color, 1);
        setenv("HOME", folder, 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        unsetenv("XDG_STATE_HOME");
        execl(BINARY_DIR "/weir", "weir", "chat", talker, "--ignore-eos", "--no-loop-guard", "-n",
              limit, NULL);
        _exit(127);
    }
    return t;
}

static void close_chat(terminal *t, int want) {
    int status = 0;
    wait_for(t, "\001never"); /* until the program ends and the terminal with it */
    if (waitpid(t->child, &status, WNOHANG) == 0) {
        usleep(500000);
        kill(t->child, SIGKILL); /* does nothing to one that has ended */
        assert_int_equal(waitpid(t->child, &status, 0), t->child);
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), want);
    close(t->fd);
    free(t);
}

static void ctrl_c_stops_the_reply_and_keeps_the_session(void **state) {
    (void)state;
    terminal *t = open_chat("", "-1");
    expect(t, "Ctrl-D quits");
    expect(t, "> ");
    type(t, "hello\r");
    usleep(400000); /* an endless reply runs */
    type(t, "\003");
    expect(t, "evicted ");
    expect(t, "stopped");
    expect(t, "> ");
    type(t, "/stats\r");
    expect(t, "window 128 of 128");
    expect(t, "> ");
    type(t, "abc");
    expect(t, "abc");
    type(t, "\003"); /* gives the line up */
    expect(t, "> ");
    type(t, "\003");
    expect(t, "Ctrl-D or /quit leaves");
    expect(t, "> ");
    type(t, "again\r");
    usleep(200000);
    type(t, "\003");
    expect(t, "stopped");
    expect(t, "> ");
    type(t, "\004");
    close_chat(t, 0);
}

static void colours_are_for_terminals_that_want_them(void **state) {
    (void)state;
    terminal *t = open_chat("", "5");
    expect(t, "> ");
    type(t, "hello\r");
    expect(t, "\033[2m");
    expect(t, "cut off by -n");
    expect(t, "> ");
    type(t, "\004");
    close_chat(t, 0);
    t = open_chat("1", "5");
    expect(t, "> ");
    type(t, "hello\r");
    expect(t, "cut off by -n");
    assert_null(strstr(t->seen, "\033[2m"));
    expect(t, "> ");
    type(t, "\004");
    close_chat(t, 0);
}

static void a_pasted_text_is_one_message(void **state) {
    (void)state;
    terminal *t = open_chat("", "5");
    expect(t, "> ");
    type(t, "\033[200~one\ntwo\033[201~ three\r");
    expect(t, "cut off by -n");
    expect(t, "> ");
    type(t, "/stats\r");
    /* <s>[one NEWLINE two three] is 16 tokens; two messages would have made two replies */
    expect(t, "read 16 tokens");
    expect(t, "> ");
    type(t, "\033[A\033[A"); /* the history has it */
    expect(t, "three");
    type(t, "\003");
    expect(t, "> ");
    type(t, "/st\t"); /* /stats and /stop */
    expect(t, "/st");
    type(t, "a\t");
    expect(t, "ts "); /* libedit draws what is new */
    type(t, "\025/q\t\r");
    close_chat(t, 0);
}

static int setup(void **state) {
    (void)state;
    temporary_make(folder);
    snprintf(talker, sizeof talker, "%s/talker", folder);
    snprintf(mute, sizeof mute, "%s/mute", folder);
    assert_int_equal(mkdir(talker, 0700), 0);
    assert_int_equal(mkdir(mute, 0700), 0);
    tiny_model_make(talker, TINY_TEMPLATE);
    tiny_model_make(mute, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    temporary_clear(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_line_of_a_pipe_is_a_message),
        cmocka_unit_test(lines_join_and_blocks_hold_many),
        cmocka_unit_test(a_script_shows_messages_replies_and_what_flowed_out),
        cmocka_unit_test(a_system_prompt_that_is_not_utf8_is_repaired),
        cmocka_unit_test(turns_leave_whole_and_are_counted),
        cmocka_unit_test(commands_act_and_explain_what_is_wrong),
        cmocka_unit_test(a_saved_chat_goes_on),
        cmocka_unit_test(what_cannot_talk_says_so),
        cmocka_unit_test(ctrl_c_stops_the_reply_and_keeps_the_session),
        cmocka_unit_test(colours_are_for_terminals_that_want_them),
        cmocka_unit_test(a_pasted_text_is_one_message),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
