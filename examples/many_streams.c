/* many_streams.c - a server's loop in small: every line is a text to go on with, all in one step.
 *
 *     ./many_streams MODEL [TOKENS] < story.txt
 *
 * A step has a token for every stream that talks and slices, as long as there is room, of the texts
 * that are still being read: nobody waits for longer than one such step.  What streams say is
 * printed when all are done.
 *
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <weir/weir.h>

enum { STREAMS = 8, CHUNK = 32, MOST_TOKENS = 1024 };

typedef struct stream {
    weir_session *session;
    int32_t *text; /* [n], of which n_read are read */
    size_t n, n_read;
    int32_t said[MOST_TOKENS];
    int n_said;
} stream;

static weir_status open_stream(stream *s, weir_engine *e, const char *line, weir_error *err) {
    const weir_session_options options = {.sampling = {.temperature = 0.7f, .min_p = 0.05f}};
    const weir_status status = weir_session_open(&s->session, e, &options, err);
    if (status != WEIR_OK) return status;
    return weir_tokenize(weir_engine_tokenizer(e), line, strlen(line), WEIR_ADD_BOS, &s->text,
                         &s->n, err);
}

/* What a stream gets with so much room in the step; session NULL: nothing. */
static weir_feed next_feed(const stream *s, int tokens, int room) {
    const size_t left = s->n - s->n_read;
    const int n = left < (size_t)room ? (int)left : room;
    if (left == 0 && s->n_said < tokens) return (weir_feed){.session = s->session};
    if (n == 0) return (weir_feed){.session = NULL};
    return (weir_feed){.session = s->session,
                       .ids = s->text + s->n_read,
                       .n = n,
                       .is_prompt = true,
                       .has_more = (size_t)n < left};
}

static weir_status run(weir_engine *e, stream *streams, int n, int tokens, weir_error *err) {
    for (;;) {
        weir_feed feeds[STREAMS];
        stream *who[STREAMS];
        int n_feeds = 0, room = CHUNK - n;
        for (int i = 0; i < n; i++) {
            const weir_feed f = next_feed(&streams[i], tokens, room);
            if (!f.session) continue;
            room -= f.n;
            who[n_feeds] = &streams[i];
            feeds[n_feeds++] = f;
        }
        if (n_feeds == 0) return WEIR_OK;
        const weir_status status = weir_engine_step(e, feeds, n_feeds, err);
        if (status != WEIR_OK) return status;
        for (int i = 0; i < n_feeds; i++) {
            who[i]->n_read += (size_t)feeds[i].n;
            if (!feeds[i].ids) who[i]->said[who[i]->n_said++] = feeds[i].token;
        }
    }
}

static weir_status print(const weir_engine *e, const stream *s, weir_error *err) {
    char *text;
    size_t size;
    const weir_status status =
        weir_detokenize(weir_engine_tokenizer(e), s->said, (size_t)s->n_said, &text, &size, err);
    if (status != WEIR_OK) return status;
    printf("[%d tokens]%s%s\n", s->n_said, *text == ' ' ? "" : " ", text);
    weir_free(text);
    return WEIR_OK;
}

int main(int argc, char **argv) {
    static stream streams[STREAMS];
    const char *model = argc > 1 && *argv[1] ? argv[1] : NULL;
    const int tokens = argc > 2 ? atoi(argv[2]) : 64;
    const weir_engine_options size = {.sessions = STREAMS, .chunk = CHUNK};
    weir_engine *engine = NULL;
    weir_error err;
    char line[4096];
    int n = 0;
    if (tokens < 1 || tokens > MOST_TOKENS) {
        fprintf(stderr, "many_streams: TOKENS is %d, wanted 1 to %d\n", tokens, MOST_TOKENS);
        return 2;
    }
    weir_status status = weir_engine_open(&engine, model, &size, &err);
    while (status == WEIR_OK && n < STREAMS && fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        status = open_stream(&streams[n++], engine, line, &err);
    }
    if (status == WEIR_OK) status = run(engine, streams, n, tokens, &err);
    for (int i = 0; i < n; i++) {
        if (status == WEIR_OK) status = print(engine, &streams[i], &err);
        weir_session_close(streams[i].session);
        weir_free(streams[i].text);
    }
    weir_engine_close(engine);
    if (status != WEIR_OK) fprintf(stderr, "many_streams: %s\n", err.message);
    return status == WEIR_OK ? 0 : 1;
}
