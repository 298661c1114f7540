/* tokenizer_detok.c - ids to text, one at a time, never half a character.
 *
 *     pieces   "caf" | C3 | A9 | " au"      output   "caf" | | "é" | " au"
 *
 * Bytes are held while they can still become a character, which is at most three of them.
 *
 * SPDX-License-Identifier: MIT */
#include "text/tokenizer_parts.h"

#include "base/unicode.h"

#include <assert.h>
#include <string.h>

static const char replacement[] = "\xef\xbf\xbd";

/* Moves what is decided from held to out: whole characters, and U+FFFD for each broken one. */
static bool settle(detokenizer *d, buffer *out) {
    while (d->n_held > 0) {
        uint32_t code;
        const size_t n = utf8_decode(&code, (const char *)d->held, (size_t)d->n_held);
        if (code == UTF8_PARTIAL) return true;
        const bool ok = code == UTF8_INVALID ? buffer_append(out, replacement, 3)
                                             : buffer_append(out, d->held, n);
        if (!ok) return false;
        d->n_held -= (int)n;
        memmove(d->held, d->held + n, (size_t)d->n_held);
    }
    return true;
}

bool detokenizer_push(detokenizer *d, const weir_tokenizer *t, int32_t id, bool show_special,
                      buffer *out) {
    if (id < 0 || id >= t->vocab.n_ids) return true;
    const piece *p = &t->vocab.pieces[id];
    if (!p->text || (p->flags & PIECE_SPECIAL && !show_special)) return true;
    const char *text = p->output;
    size_t size = p->output_size;
    if (!d->started && t->strip_space && size > 0 && text[0] == ' ') {
        text++;
        size--;
        d->started = true;
    }
    d->started |= size > 0;
    if (d->n_held == 0 && utf8_is_valid(text, size)) return buffer_append(out, text, size);
    for (size_t i = 0; i < size; i++) {
        assert(d->n_held >= 0 && d->n_held < UTF8_MAX);
        d->held[d->n_held++] = (uint8_t)text[i];
        if (!settle(d, out)) return false;
    }
    return true;
}

bool detokenizer_flush(detokenizer *d, buffer *out) {
    const bool held = d->n_held > 0;
    d->n_held = 0;
    return !held || buffer_append(out, replacement, 3);
}
