/* unicode.h - UTF-8 in and out, hostile bytes included.
 *
 * A well-formed character is what the Unicode standard's table 3-7 allows: no surrogates, nothing
 * above U+10FFFF, no overlong forms.  Bytes that break the rules are taken in "maximal subparts":
 * the longest start of a well-formed character counts as one error, so that
 *
 *     E2 82 41   is   U+FFFD 'A'          (E2 82 began a character that never came)
 *     FF FE      is   U+FFFD U+FFFD
 *
 * which is what Rust's lossy conversion and the WHATWG decoder do.
 *
 * Test: tests/base/test_unicode.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    UTF8_MAX = 4,              /* bytes of the longest character                             */
    UTF8_REPLACEMENT = 0xfffd, /* what stands for bytes that are no character                */
    UTF8_INVALID = 0x110000,   /* utf8_decode: these bytes can never become a character      */
    UTF8_PARTIAL = 0x110001,   /* utf8_decode: the text ends inside a character              */
};

/* Reads one character from size >= 1 bytes: its code point, or UTF8_INVALID or UTF8_PARTIAL.
 * Returns how many bytes that takes, always at least 1. */
size_t utf8_decode(uint32_t *code, const char *text, size_t size);

/* Writes a code point <= U+10FFFF and returns the number of bytes. */
size_t utf8_encode(char out[UTF8_MAX], uint32_t code);

/* Bytes of the character that starts with this byte; the text is known to be well-formed. */
static inline size_t utf8_length(char first) {
    const uint8_t b = (uint8_t)first;
    return b < 0x80 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
}

/* True when all of it is well-formed. */
bool utf8_is_valid(const char *text, size_t size);

/* Appends text to out with U+FFFD for each maximal subpart that is no character. */
bool utf8_repair(buffer *out, const char *text, size_t size);
