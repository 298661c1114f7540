/* sessions.h - engines and sessions for tests: opened or the test ends, with the message.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "engine/engine.h"
#include "support/check.h"

weir_engine *engine_of(const char *path, const weir_engine_options *options);
weir_session *session_of(weir_engine *engine, const weir_session_options *options);

void feed(weir_session *s, const int32_t *ids, int n);

/* Ends the test unless the logits of both are the same bits. */
void assert_same_logits(const weir_session *a, const weir_session *b);

/* Adds the likeliest token n times; ids [n] says which. */
void generate_greedy(weir_session *s, int32_t *ids, int n);

weir_session_stats stats_of(const weir_session *s);
