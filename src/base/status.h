/* status.h - how a failure travels: a status up the stack, one line of text with it.
 *
 *     if (t->offset > size) return weir_fail(err, WEIR_ERR_FORMAT, "%s: ends at %zu", path, size);
 *     WEIR_TRY(kv_reserve(kv, n, err));
 *
 * The message is written once, where the failure is found, into the caller's weir_error; everyone
 * above only forwards.  Test: tests/base/test_status.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/compiler.h"
#include "weir/weir.h"

/* Fills err (which may be NULL) and returns status. */
weir_status weir_fail(weir_error *err, weir_status status, const char *format, ...)
    WEIR_PRINTF(3, 4);

/* Returns from the caller when an expression fails; the message is already in err. */
#define WEIR_TRY(expression)                            \
    do {                                                \
        const weir_status try_status_ = (expression);   \
        if (try_status_ != WEIR_OK) return try_status_; \
    } while (0)
