/* bpe_merge.h - byte pair encoding: join neighbours, best pair first, until no pair is known.
 *
 *     l o w e r     rank 3: "lo"     rank 7: "er"     rank 9: "lo"+"w"
 *     lo w e r  ->  lo w er  ->  low er
 *
 * The pair with the lowest rank goes first, the leftmost among equals.  Both families come down to
 * this: byte-level BPE has a list of merges (rank = place in the list); SentencePiece's BPE may
 * join any two pieces whose sum is a piece (rank = place of the sum when sorted by falling score).
 *
 * Seams.  Where the last symbol x of every known left part and the first symbol y of every known
 * right part never meet as (x, y), no merge can ever cross that place, so a word may be cut there
 * without changing the result.  A small Bloom-like bitmap of the (x, y) that do meet turns a whole
 * book without pre-tokenizer into words.  What lies between two seams costs O(n log n).
 *
 * A bpe is immutable once built; a bpe_work belongs to one call.  Test:
 * tests/text/test_tokenizer_merge.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "text/bpe_vocab.h"

typedef struct bpe_pair {
    uint64_t key; /* (left + 1) << 32 | right; 0: an empty slot */
    uint32_t rank;
    int32_t made;
} bpe_pair;

typedef struct bpe { /* all-zero has no merges; bpe_clear releases */
    bpe_pair *pairs; /* [mask + 1] open addressing */
    uint32_t mask;
    uint32_t n_pairs;
    uint64_t *seams; /* [SEAM_WORDS] a set bit: some merge may cross here */
    int32_t unk;     /* a symbol that is no text; a merge with it forbids all cuts */
    bool uncut;
} bpe;

bool bpe_init(bpe *b, size_t n_pairs, int32_t unk);
void bpe_clear(bpe *b);

/* Adds the merge left + right = made.  Of two merges of the same pair the later one counts, or with
 * keep_first the earlier.  False: out of memory. */
bool bpe_add(bpe *b, const vocab *v, int32_t left, int32_t right, int32_t made, uint32_t rank,
             bool keep_first);

typedef struct bpe_work { /* scratch of one call; all-zero is empty */
    struct bpe_node *nodes;
    struct bpe_candidate *heap;
    size_t n_nodes, n_heap, heap_capacity;
} bpe_work;

void bpe_work_clear(bpe_work *w);

/* Merges symbols[0 .. n) in place and returns how many are left; SIZE_MAX: out of memory. */
size_t bpe_merge(const bpe *b, bpe_work *w, int32_t *symbols, size_t n);
