/* sessions.c - the helpers of sessions.h.
 *
 * SPDX-License-Identifier: MIT */
#include "support/sessions.h"

#include "engine/draw.h"

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
