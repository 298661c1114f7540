/* sessions.h - engines and sessions for tests: opened or the test ends, with the message.
 *
 *     OK(weir_session_feed(s, ids, n, &err));
 *     REFUSED(weir_session_feed(s, ids, n, &err), WEIR_ERR_FULL, "room for 0 more");
 *
 * Both declare the err that the call names.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "engine/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                        \
    do {                                                                \
        weir_error err = {0};                                           \
        const weir_status status_ = (call);                             \
        sessions_check(status_, WEIR_OK, &err, "", __FILE__, __LINE__); \
    } while (0)
#define REFUSED(call, wanted, words)                                          \
    do {                                                                      \
        weir_error err = {0};                                                 \
        const weir_status status_ = (call);                                   \
        sessions_check(status_, (wanted), &err, (words), __FILE__, __LINE__); \
    } while (0)

/* Ends the test unless status is the wanted one and the message holds the words. */
void sessions_check(weir_status status, weir_status wanted, const weir_error *err,
                    const char *words, const char *file, int line);

weir_engine *engine_of(const char *path, const weir_engine_options *options);
weir_session *session_of(weir_engine *engine, const weir_session_options *options);

void feed(weir_session *s, const int32_t *ids, int n);
void random_ids(int32_t *ids, int n, int vocab, uint64_t seed);

/* max |a - b| / max |b|; infinite when a number is none. */
double row_error(const float *got, const float *wanted, int n);

/* Ends the test unless the logits of both are the same bits. */
void assert_same_logits(const weir_session *a, const weir_session *b);

/* Adds the likeliest token n times; ids [n] says which. */
void generate_greedy(weir_session *s, int32_t *ids, int n);

weir_session_stats stats_of(const weir_session *s);
