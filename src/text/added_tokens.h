/* added_tokens.h - tokens that are cut out of the text before anything else: special markers, runs
 * of spaces, whatever was added to a vocabulary after its training.
 *
 *     "<|user|>hi  there<|end|>"   ->   <|user|>  "hi"  <two spaces>  "there"  <|end|>
 *
 * Leftmost match, longest token first, from a trie of bytes.  A token may swallow the white space
 * beside it (lstrip, rstrip) or demand that no word character touches it (single_word).
 *
 * Immutable once built.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"

#include <stdint.h>

typedef struct added_token {
    int32_t id;
    bool special; /* found only when the caller asks for special tokens */
    bool lstrip, rstrip, single_word;
} added_token;

typedef struct added_tokens { /* all-zero finds nothing; added_clear releases */
    added_token *tokens;      /* [n] heap */
    int32_t n, capacity;
    struct added_node *nodes; /* the trie; node 0 is the root */
    uint32_t n_nodes, node_capacity;
    bool starts[256]; /* some token starts with this byte */
} added_tokens;

/* Adds a token, not empty; of two with the same text the first counts.  False: out of memory. */
bool added_put(added_tokens *a, const added_token *token, const char *text, size_t size);
void added_clear(added_tokens *a);

/* What comes next in text from `at`: plain text [at, *start) and then the token *hit that covers
 * [*start, *end); without a hit the plain text goes to the end of the text. */
void added_next(const added_tokens *a, const char *text, size_t size, size_t at, bool specials,
                const added_token **hit, size_t *start, size_t *end);
