/* status.c - status texts and the one place that formats an error message.
 *
 * SPDX-License-Identifier: MIT */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

const char *weir_version(void) {
    return TEXT(WEIR_VERSION_MAJOR) "." TEXT(WEIR_VERSION_MINOR) "." TEXT(WEIR_VERSION_PATCH);
}

const char *weir_status_text(weir_status status) {
    static const char *const texts[] = {
#define X(name, text) text,
        WEIR_STATUS_MAP(X)
#undef X
    };
    return (size_t)status < COUNT_OF(texts) ? texts[status] : "unknown status";
}

weir_status weir_fail(weir_error *err, weir_status status, const char *format, ...) {
    if (!err) return status;
    err->status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    for (char *c = err->message; *c; c++) { /* one line, whatever a file name contains */
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
    }
    return status;
}
