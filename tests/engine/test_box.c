/* test_box.c - the model in the box: what models/weir.gguf says, opened without a path.
 *
 * The greedy text is that of PyTorch on the same weights, token by token (tools/train/compare.py),
 * so a change of the file, of its tokenizer or of the arithmetic shows here.  Skips in a build
 * without the model.
 *
 * SPDX-License-Identifier: MIT */
#include "support/sessions.h"

#include "model/embedded.h"

#include <string.h>

#define PROMPT "Once upon a time there was a fox who"
#define STORY                                                                                     \
    " loved to swing. The fox could be seen in the park each day, enjoying the feel of the wind " \
    "blowing in its fur.\n\nOne day, a bad wolf appeared and said, \"Hey fox, why are you here "  \
    "all "                                                                                        \
    "alone?\"\n\nThe fox"

enum { ROOM = 4096 };

static weir_engine *open_box(int size_of_window) {
    size_t size;
    if (!model_embedded(&size)) {
        print_message("skipped: no models/weir.gguf in this build\n");
        skip();
    }
    assert_true(size > 1 << 20);
    return engine_of(NULL, &(weir_engine_options){.threads = 2, .window = size_of_window});
}

static weir_session *open_session(weir_engine *e) {
    return session_of(e, &(weir_session_options){.sampling = {.temperature = 0}});
}

/* The reply, at most `most` tokens of it; returns why it ended. */
static weir_end hear(weir_session *s, int most, char text[static ROOM]) {
    size_t size = 0;
    for (int tokens = 0; tokens < most;) {
        weir_text t;
        OK(weir_session_next(s, &t, &err));
        assert_in_range(size + t.size, 0, ROOM - 1);
        if (t.size) memcpy(text + size, t.data, t.size);
        size += t.size;
        text[size] = 0;
        if (!t.size) return t.end;
        tokens += t.tokens;
    }
    return WEIR_END_NONE;
}

static void it_tells_the_story_that_pytorch_tells(void **state) {
    (void)state;
    weir_engine *e = open_box(0);
    weir_session *s = open_session(e);
    char text[ROOM] = "";
    OK(weir_session_append(s, PROMPT, strlen(PROMPT), &err));
    hear(s, 60, text);
    assert_memory_equal(text, STORY, strlen(STORY));
    weir_session_close(s);
    weir_engine_close(e);
}

/* Asked again and again, several windows long: the sinks stay, the template holds. */
static void it_knows_its_name_however_long_the_talk(void **state) {
    (void)state;
    enum { WINDOW = 96, TURNS = 16 };
    static const char *const others[] = {"Hello!", "What colour is the sky?", "Thank you!"};
    weir_engine *e = open_box(WINDOW);
    weir_session *s = open_session(e);
    char text[ROOM];
    for (int turn = 0; turn < TURNS; turn++) {
        const char *ask = turn % 4 ? others[turn % 4 - 1] : "What is your name?";
        OK(weir_session_say(s, WEIR_USER, ask, &err));
        text[0] = 0;
        assert_int_equal(hear(s, 100, text), WEIR_END_TURN);
        assert_true(strlen(text) > 0 && !strstr(text, "<|"));
        if (turn % 4 == 0) assert_non_null(strstr(text, "Weir"));
    }
    assert_true(stats_of(s).evicted_tokens > 2 * WINDOW);
    weir_session_close(s);
    weir_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_tells_the_story_that_pytorch_tells),
        cmocka_unit_test(it_knows_its_name_however_long_the_talk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
