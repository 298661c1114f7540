/* hello.c - one question, one answer.
 *
 *     cc hello.c $(pkg-config --cflags --libs weir) -o hello
 *     ./hello [MODEL] [QUESTION]        a folder, .safetensors or .gguf file; none: the built-in
 * model
 *
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <weir/weir.h>

int main(int argc, char **argv) {
    const char *model = argc > 1 && *argv[1] ? argv[1] : NULL;
    const char *question = argc > 2 ? argv[2] : "Hello! Who are you?";
    const weir_session_options options = {.sampling = {.temperature = 0.7f, .seed = 1}};
    weir_engine *engine = NULL;
    weir_session *chat = NULL;
    weir_error err;

    weir_status status = weir_engine_open(&engine, model, NULL, &err);
    if (status == WEIR_OK) status = weir_session_open(&chat, engine, &options, &err);
    if (status == WEIR_OK) status = weir_session_say(chat, WEIR_USER, question, &err);
    for (weir_text t = {.size = 1}; status == WEIR_OK && t.size > 0;) {
        status = weir_session_next(chat, &t, &err);
        if (status == WEIR_OK) fwrite(t.data, 1, t.size, stdout);
    }
    if (status == WEIR_OK) puts("");
    if (status != WEIR_OK) fprintf(stderr, "hello: %s\n", err.message);
    weir_session_close(chat);
    weir_engine_close(engine);
    return status == WEIR_OK ? 0 : 1;
}
