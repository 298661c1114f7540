/* unicode.c - the UTF-8 decoder behind unicode.h.
 *
 * One table-free rule decides everything: the first byte gives the length and the range the second
 * byte must lie in (which is how overlong forms and surrogates are kept out); all further bytes are
 * 80..BF.  Reference: The Unicode Standard, table 3-7.
 *
 * SPDX-License-Identifier: MIT */
#include "base/unicode.h"

#include <string.h>

/* The length a first byte promises, 0 when none, and the range of the second byte. */
static size_t promise(uint8_t first, uint8_t *low, uint8_t *high) {
    *low = 0x80;
    *high = 0xbf;
    if (first < 0xc2) return 0;
    if (first < 0xe0) return 2;
    if (first < 0xf0) {
        if (first == 0xe0) *low = 0xa0;  /* below: overlong  */
        if (first == 0xed) *high = 0x9f; /* above: surrogate */
        return 3;
    }
    if (first > 0xf4) return 0;
    if (first == 0xf0) *low = 0x90;  /* below: overlong   */
    if (first == 0xf4) *high = 0x8f; /* above: > U+10FFFF */
    return 4;
}

size_t utf8_decode(uint32_t *code, const char *text, size_t size) {
    const uint8_t *p = (const uint8_t *)text;
    if (p[0] < 0x80) {
        *code = p[0];
        return 1;
    }
    uint8_t low, high;
    const size_t length = promise(p[0], &low, &high);
    if (length == 0) {
        *code = UTF8_INVALID;
        return 1;
    }
    uint32_t c = p[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if (i == size || p[i] < low || p[i] > high) {
            *code = i == size ? UTF8_PARTIAL : UTF8_INVALID;
            return i;
        }
        c = c << 6 | (p[i] & 0x3fu);
        low = 0x80;
        high = 0xbf;
    }
    *code = c;
    return length;
}

size_t utf8_encode(char out[UTF8_MAX], uint32_t code) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    out[0] = (char)(0xf00u >> length | code);
    return length;
}

/* How many bytes from the start are ASCII, eight at a time. */
static size_t ascii_prefix(const char *text, size_t size) {
    size_t i = 0;
    for (uint64_t word; i + 8 <= size; i += 8) {
        memcpy(&word, text + i, 8);
        if (word & 0x8080808080808080u) break;
    }
    while (i < size && !((uint8_t)text[i] & 0x80)) i++;
    return i;
}

/* The length of the well-formed start of a text. */
static size_t valid_prefix(const char *text, size_t size) {
    size_t i = 0;
    while (i < size) {
        i += ascii_prefix(text + i, size - i);
        if (i == size) break;
        uint32_t code;
        const size_t n = utf8_decode(&code, text + i, size - i);
        if (code >= UTF8_INVALID) break;
        i += n;
    }
    return i;
}

bool utf8_is_valid(const char *text, size_t size) {
    return valid_prefix(text, size) == size;
}

bool utf8_repair(buffer *out, const char *text, size_t size) {
    while (size > 0) {
        const size_t good = valid_prefix(text, size);
        if (good > 0 && !buffer_append(out, text, good)) return false;
        text += good;
        size -= good;
        if (size == 0) break;
        uint32_t code;
        const size_t bad = utf8_decode(&code, text, size);
        if (!buffer_append(out, "\xef\xbf\xbd", 3)) return false;
        text += bad;
        size -= bad;
    }
    return true;
}
