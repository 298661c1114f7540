/* wrap.c - a greedy line breaker for a stream of characters.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/wrap.h"

#include "base/unicode.h"

#include <wchar.h>

wrapper wrap_begin(int width, bool (*write)(const char *data, size_t size)) {
    return (wrapper){.write = write, .width = width};
}

static void newline(wrapper *w) {
    w->write("\n", 1);
    w->column = 0;
    w->spaces = 0;
}

/* Shows the word that is complete, on the next line if it does not fit on this one. */
static void show_word(wrapper *w) {
    if (!w->word.size) return;
    if (w->column && w->column + w->spaces + w->word_width > w->width) newline(w);
    for (; w->spaces; w->spaces--, w->column++) w->write(" ", 1);
    w->write(w->word.data, w->word.size);
    w->column += w->word_width;
    w->word.size = 0;
    w->word_width = 0;
}

/* One character, or bytes that are none, which a terminal shows as one. */
static bool take(wrapper *w, const char *text, size_t n, uint32_t code) {
    const int known = code <= 0x10ffff ? wcwidth((wchar_t)code) : 1;
    const int width = known < 0 ? 2 : known;            /* a control character is shown as ^X */
    if (w->word_width + width > w->width) show_word(w); /* longer than a line */
    if (!buffer_append(&w->word, text, n)) return false;
    w->word_width += width;
    if (known == 2) show_word(w); /* Chinese, Japanese: a line may end after any of them */
    return true;
}

bool wrap_text(wrapper *w, const char *text, size_t size) {
    while (size) {
        uint32_t code;
        const size_t n = utf8_decode(&code, text, size);
        if (code == '\n') {
            show_word(w);
            newline(w);
        } else if (code == ' ') {
            show_word(w);
            w->spaces++;
        } else if (code == '\t') {
            show_word(w);
            w->spaces += 8 - (w->column + w->spaces) % 8;
        } else if (!take(w, text, n, code)) {
            return false;
        }
        text += n;
        size -= n;
    }
    return true;
}

void wrap_end(wrapper *w) {
    show_word(w);
    buffer_clear(&w->word);
}
