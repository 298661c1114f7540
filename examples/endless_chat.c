/* endless_chat.c - a conversation that never fills up: lines in, replies out, for ever.
 *
 *     ./endless_chat MODEL [WINDOW] < questions.txt
 *
 * The system prompt is pinned; of the rest, the oldest whole turn leaves when the window is full.
 * After each reply a line on stderr says where the stream is, what is still seen and what has gone.
 * Memory and time per token stay what they were after the first window.
 *
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

static int fail(const weir_error *err) {
    fprintf(stderr, "endless_chat: %s\n", err->message);
    return 1;
}

static void print_status(const weir_session *chat) {
    weir_session_stats s;
    weir_session_get_stats(chat, &s);
    fprintf(stderr, "[token %llu, %d of %d seen, %d pinned, %llu tokens and %llu turns gone]\n",
            (unsigned long long)s.position, s.in_window, s.window, s.pinned,
            (unsigned long long)s.evicted_tokens, (unsigned long long)s.evicted_turns);
}

static weir_status answer(weir_session *chat, const char *line, weir_error *err) {
    weir_status status = weir_session_say(chat, WEIR_USER, line, err);
    for (weir_text t = {.size = 1}; status == WEIR_OK && t.size > 0;) {
        status = weir_session_next(chat, &t, err);
        if (status == WEIR_OK) fwrite(t.data, 1, t.size, stdout);
        fflush(stdout);
    }
    puts("");
    return status;
}

static weir_status talk(weir_session *chat, weir_error *err) {
    char line[4096];
    weir_status status = weir_session_say(chat, WEIR_SYSTEM, "You are brief and kind.", err);
    while (status == WEIR_OK && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        status = answer(chat, line, err);
        print_status(chat);
    }
    return status;
}

int main(int argc, char **argv) {
    const char *model = argc > 1 && *argv[1] ? argv[1] : NULL;
    const weir_engine_options size = {.window = argc > 2 ? atoi(argv[2]) : 0};
    const weir_session_options options = {.policy = WEIR_EVICT_TURN,
                                          .sampling = {.temperature = 0.7f, .min_p = 0.05f}};
    weir_engine *engine = NULL;
    weir_session *chat = NULL;
    weir_error err;
    if (weir_engine_open(&engine, model, &size, &err) != WEIR_OK) return fail(&err);
    weir_status status = weir_session_open(&chat, engine, &options, &err);
    if (status == WEIR_OK) status = talk(chat, &err);
    weir_session_close(chat);
    weir_engine_close(engine);
    return status == WEIR_OK ? 0 : fail(&err);
}
