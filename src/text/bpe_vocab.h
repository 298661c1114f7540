/* bpe_vocab.h - the pieces of a vocabulary: id to spelling, spelling to id, id to output bytes.
 *
 *   spelling   the piece as the file writes it, e.g. "Ġthe", "▁the", "<0x0A>", "<|im_end|>"
 *   output     the bytes it stands for,           " the", " the", "\n",     "<|im_end|>"
 *
 * Pieces that only exist between two merges (a merge whose result is not in the vocabulary, a
 * character that is part of pieces but none itself) get ids from `n_ids` up; they never leave the
 * tokenizer.
 *
 * The byte alphabet of byte-level BPE: printable Latin-1 stands for itself, the other 68 bytes for
 * U+0100..U+0143 in order, so that any byte string can be written as visible text (GPT-2, 2019).
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/status.h"

enum {
    PIECE_SPECIAL = 1, /* not text: hidden when decoded, cut out of input only when asked for  */
    PIECE_ADDED = 2,   /* cut out of the text before anything else sees it                     */
    PIECE_LITERAL = 4, /* its output is its spelling                                           */
    PIECE_END = 8,     /* ends a turn or a text                                                */
};

enum { VOCAB_NONE = -1, VOCAB_MAX = 1 << 24 };

typedef struct piece {
    const char *text; /* [size] the spelling, terminated; NULL: no piece has this id */
    const char *output;
    uint32_t size, output_size;
    uint32_t flags;
} piece;

typedef struct vocab { /* all-zero is empty; vocab_clear releases */
    arena *arena;      /* borrowed: spellings and outputs live here */
    piece *pieces;     /* [n_all] heap */
    int n_ids, n_all, capacity;
    int32_t *slots; /* [mask + 1] open addressing by spelling: id + 1, 0: empty */
    uint32_t mask;
} vocab;

/* Makes room for ids 0 .. n_ids - 1, all absent. */
bool vocab_init(vocab *v, arena *a, int n_ids);
void vocab_clear(vocab *v);

/* Gives an id its spelling, which is copied.  Where two ids share one, the later call is found. */
bool vocab_put(vocab *v, int32_t id, const char *text, size_t size);

int32_t vocab_find(const vocab *v, const char *text, size_t size); /* VOCAB_NONE: absent */

/* The id of a spelling, a new internal one when the vocabulary has none.  VOCAB_NONE: memory. */
int32_t vocab_intern(vocab *v, const char *text, size_t size);

/* Copies the bytes an id decodes to. */
bool vocab_set_output(vocab *v, int32_t id, const char *output, size_t size);

/* The byte alphabet: byte to code point, and back; -1 when a code point is not in it. */
uint32_t byte_to_code(uint8_t byte);
int code_to_byte(uint32_t code);

/* Appends bytes in the alphabet, two bytes of UTF-8 at most for each. */
bool bytes_to_text(buffer *out, const char *bytes, size_t size);

/* The reverse: false, and out as it was, when a character is outside the alphabet. */
bool text_to_bytes(buffer *out, const char *text, size_t size);

/* "<0x41>" is 0x41; -1 when the spelling is not of that form. */
int byte_piece(const char *text, size_t size);

uint64_t hash_bytes(const void *data, size_t size);
