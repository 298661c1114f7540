/* sessions.c - the helpers of sessions.h.
 *
 * SPDX-License-Identifier: MIT */
#include "support/sessions.h"

#include "engine/draw.h"

#include <math.h>

void sessions_check(weir_status status, weir_status wanted, const weir_error *err,
                    const char *words, const char *file, int line) {
    const bool has_words = wanted == WEIR_OK || strstr(err->message, words);
    if (status == wanted && has_words) return;
    print_error("%s:%d: status \"%s\", wanted \"%s\"; message \"%s\", wanted \"...%s...\"\n", file,
                line, weir_status_text(status), weir_status_text(wanted), err->message, words);
    _fail(file, line);
}

weir_engine *engine_of(const char *path, const weir_engine_options *options) {
    weir_engine *engine;
    OK(weir_engine_open(&engine, path, options, &err));
    return engine;
}

weir_session *session_of(weir_engine *engine, const weir_session_options *options) {
    weir_session *s;
    OK(weir_session_open(&s, engine, options, &err));
    return s;
}

void feed(weir_session *s, const int32_t *ids, int n) {
    OK(weir_session_feed(s, ids, (size_t)n, &err));
}

void random_ids(int32_t *ids, int n, int vocab, uint64_t seed) {
    rng r = {seed};
    for (int i = 0; i < n; i++) ids[i] = (int32_t)(rng_next(&r) % (uint64_t)vocab);
}

double row_error(const float *got, const float *wanted, int n) {
    double difference = 0, largest = 0;
    for (int i = 0; i < n; i++) {
        if (!isfinite(got[i])) return INFINITY;
        difference = fmax(difference, fabs((double)got[i] - (double)wanted[i]));
        largest = fmax(largest, fabs((double)wanted[i]));
    }
    return difference / largest;
}

void assert_same_logits(const weir_session *a, const weir_session *b) {
    const float *x = weir_session_logits(a), *y = weir_session_logits(b);
    assert_non_null(x);
    assert_non_null(y);
    assert_memory_equal(x, y, (size_t)a->engine->plan->vocab * sizeof *x);
}

void generate_greedy(weir_session *s, int32_t *ids, int n) {
    for (int i = 0; i < n; i++) {
        ids[i] = draw_argmax(weir_session_logits(s), s->engine->plan->vocab);
        feed(s, &ids[i], 1);
    }
}

weir_session_stats stats_of(const weir_session *s) {
    weir_session_stats stats;
    weir_session_get_stats(s, &stats);
    return stats;
}
