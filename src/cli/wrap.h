/* wrap.h - text that arrives in pieces, broken between words at the terminal's edge.
 *
 *     wrapper w = wrap_begin(term_width(stdout));
 *     wrap_text(&w, "Once upon a ti", 14);      shows "Once upon a "
 *     wrap_text(&w, "me", 2);                   "time" waits for its end
 *     wrap_end(&w);                             shows "time"
 *
 * A word longer than a line is broken anywhere; so is text without spaces in wide characters.
 * Test: tests/cli/test_wrap.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"

typedef struct wrapper {
    bool (*write)(const char *data, size_t size); /* out_text */
    int width, column;                            /* column: where the next character goes */
    int word_width;
    int spaces; /* after the last word, not yet shown: at the edge they vanish */
    buffer word;
} wrapper;

wrapper wrap_begin(int width, bool (*write)(const char *data, size_t size));
bool wrap_text(wrapper *w, const char *text, size_t size); /* false: out of memory */
void wrap_end(wrapper *w);                                 /* shows what waits; frees */
