/* check.h - small helpers of many tests: calls that must succeed or fail, random ids, errors.
 *
 *     OK(weir_session_feed(s, ids, n, &err));
 *     REFUSED(weir_session_feed(s, ids, n, &err), WEIR_ERR_FULL, "room for 0 more");
 *
 * Both declare the err that the call names.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call)                                                      \
    do {                                                              \
        weir_error err = {0};                                         \
        const weir_status status_ = (call);                           \
        check_status(status_, WEIR_OK, &err, "", __FILE__, __LINE__); \
    } while (0)
#define REFUSED(call, wanted, words)                                        \
    do {                                                                    \
        weir_error err = {0};                                               \
        const weir_status status_ = (call);                                 \
        check_status(status_, (wanted), &err, (words), __FILE__, __LINE__); \
    } while (0)

/* Ends the test unless status is the wanted one and the message holds the words. */
void check_status(weir_status status, weir_status wanted, const weir_error *err, const char *words,
                  const char *file, int line);

void random_ids(int32_t *ids, int n, int vocab, uint64_t seed);

/* max |a - b| / max |b|; infinite when a number is none. */
double row_error(const float *got, const float *wanted, int n);
