/* bpe_merge.c - the merge table and the two loops that use it; bpe_merge.h has the picture.
 *
 * Up to SHORT symbols the best pair is found by looking at all of them: nothing beats that for a
 * word.  Longer runs (hostile text, scripts without spaces) keep their candidates in a binary heap
 * over a linked list, so a megabyte of one letter costs n log n, not n squared.
 *
 * SPDX-License-Identifier: MIT */
#include "text/bpe_merge.h"

#include "base/unicode.h"

#include <assert.h>
#include <string.h>

enum { SHORT = 32, SEAM_BITS = 18, SEAM_WORDS = (1 << SEAM_BITS) / 64 };

struct bpe_node { /* a symbol in the list; dead ones have id DEAD */
    int32_t id, prev, next;
};

struct bpe_candidate { /* order = rank << 32 | position: smallest first */
    uint64_t order;
    const bpe_pair *pair;
};

enum { DEAD = -2, END = -1 };

static uint64_t key_of(int32_t left, int32_t right) {
    return ((uint64_t)(uint32_t)left + 1) << 32 | (uint32_t)right;
}

static uint32_t hash_key(uint64_t key) {
    key *= 0x9e3779b97f4a7c15u;
    return (uint32_t)(key >> 32) ^ (uint32_t)(key >> 13);
}

bool bpe_init(bpe *b, size_t n_pairs, int32_t unk) {
    *b = (bpe){.unk = unk};
    if (n_pairs > (1u << 28)) return false;
    uint32_t n_slots = 64;
    while (n_slots < n_pairs * 2) n_slots *= 2;
    b->pairs = mem_array(n_slots, sizeof(bpe_pair));
    b->seams = mem_array(SEAM_WORDS, sizeof(uint64_t));
    b->mask = n_slots - 1;
    return b->pairs && b->seams;
}

void bpe_clear(bpe *b) {
    mem_free(b->pairs);
    mem_free(b->seams);
    *b = (bpe){0};
}

static uint32_t slot_of(const bpe_pair *pairs, uint32_t mask, uint64_t key) {
    uint32_t s = hash_key(key) & mask;
    while (pairs[s].key != 0 && pairs[s].key != key) s = (s + 1) & mask;
    return s;
}

static const bpe_pair *find(const bpe *b, int32_t left, int32_t right) {
    const bpe_pair *p = &b->pairs[slot_of(b->pairs, b->mask, key_of(left, right))];
    return p->key ? p : NULL;
}

static bool grow(bpe *b) {
    if (b->mask >= (1u << 29)) return false;
    const uint32_t n_old = b->mask + 1, mask = n_old * 2 - 1;
    bpe_pair *pairs = mem_array((size_t)n_old * 2, sizeof(bpe_pair));
    if (!pairs) return false;
    for (uint32_t i = 0; i < n_old; i++) {
        if (b->pairs[i].key) pairs[slot_of(pairs, mask, b->pairs[i].key)] = b->pairs[i];
    }
    mem_free(b->pairs);
    b->pairs = pairs;
    b->mask = mask;
    return true;
}

/* ---- seams */

static uint32_t seam_bit(int32_t left, int32_t right) {
    return hash_key(key_of(left, right)) >> (32 - SEAM_BITS);
}

/* The symbols a piece may end (or begin) with: its last character, and the byte piece its spelling
 * may end with.  VOCAB_NONE stands for none. */
static void edges(const vocab *v, int32_t id, bool last, int32_t out[2]) {
    const char *text = v->pieces[id].text;
    const size_t size = v->pieces[id].size;
    out[0] = out[1] = VOCAB_NONE;
    if (!text || size == 0) return;
    size_t at = 0;
    if (last) {
        at = size - 1;
        while (at > 0 && ((uint8_t)text[at] & 0xc0) == 0x80) at--;
    }
    uint32_t code;
    const size_t length = utf8_decode(&code, text + at, size - at);
    out[0] = vocab_find(v, text + at, length);
    const char *byte = last && size > 6 ? text + size - 6 : text;
    if (size >= 6 && byte_piece(byte, 6) >= 0) out[1] = vocab_find(v, byte, 6);
}

static void mark_seam(bpe *b, const vocab *v, int32_t left, int32_t right) {
    int32_t ends[2], starts[2];
    edges(v, left, true, ends);
    edges(v, right, false, starts);
    for (int i = 0; i < 4; i++) {
        const int32_t x = ends[i / 2], y = starts[i % 2];
        if (x < 0 || y < 0) continue;
        const uint32_t bit = seam_bit(x, y);
        b->seams[bit / 64] |= 1ull << bit % 64;
    }
}

static bool is_seam(const bpe *b, int32_t left, int32_t right) {
    const uint32_t bit = seam_bit(left, right);
    return !(b->seams[bit / 64] >> bit % 64 & 1);
}

bool bpe_add(bpe *b, const vocab *v, int32_t left, int32_t right, int32_t made, uint32_t rank,
             bool keep_first) {
    assert(left >= 0 && right >= 0 && made >= 0);
    if ((uint64_t)(b->n_pairs + 1) * 2 > b->mask && !grow(b)) return false;
    bpe_pair *p = &b->pairs[slot_of(b->pairs, b->mask, key_of(left, right))];
    if (p->key && keep_first) return true;
    b->n_pairs += p->key == 0;
    *p = (bpe_pair){.key = key_of(left, right), .rank = rank, .made = made};
    if (left == b->unk || right == b->unk) b->uncut = true;
    mark_seam(b, v, left, right);
    return true;
}

/* ---- short words */

static size_t merge_short(const bpe *b, int32_t *ids, size_t n) {
    const bpe_pair *pairs[SHORT];
    for (size_t i = 0; i + 1 < n; i++) pairs[i] = find(b, ids[i], ids[i + 1]);
    for (;;) {
        size_t best = n;
        uint32_t rank = UINT32_MAX;
        for (size_t i = 0; i + 1 < n; i++) {
            if (pairs[i] && (pairs[i]->rank < rank || best == n)) {
                rank = pairs[i]->rank;
                best = i;
            }
        }
        if (best == n) return n;
        ids[best] = pairs[best]->made;
        n--;
        const size_t tail = n - best - 1; /* symbols behind the merged one */
        memmove(ids + best + 1, ids + best + 2, tail * sizeof *ids);
        if (tail > 0) {
            memmove(pairs + best, pairs + best + 1, tail * sizeof(bpe_pair *));
            pairs[best] = find(b, ids[best], ids[best + 1]);
        }
        if (best > 0) pairs[best - 1] = find(b, ids[best - 1], ids[best]);
    }
}

/* ---- long runs */

void bpe_work_clear(bpe_work *w) {
    mem_free(w->nodes);
    mem_free(w->heap);
    *w = (bpe_work){0};
}

/* Looks the pair up that starts at node i and, if it is known, puts it into the heap. */
static bool push(const bpe *b, bpe_work *w, int32_t i) {
    if (i == END || w->nodes[i].next == END) return true;
    const bpe_pair *pair = find(b, w->nodes[i].id, w->nodes[w->nodes[i].next].id);
    if (!pair) return true;
    if (w->n_heap == w->heap_capacity) {
        const size_t capacity = w->heap_capacity ? w->heap_capacity * 2 : 256;
        struct bpe_candidate *heap = mem_grow(w->heap, capacity, sizeof *heap);
        if (!heap) return false;
        w->heap = heap;
        w->heap_capacity = capacity;
    }
    const struct bpe_candidate c = {(uint64_t)pair->rank << 32 | (uint32_t)i, pair};
    size_t at = w->n_heap++;
    for (; at > 0 && w->heap[(at - 1) / 2].order > c.order; at = (at - 1) / 2) {
        w->heap[at] = w->heap[(at - 1) / 2];
    }
    w->heap[at] = c;
    return true;
}

static struct bpe_candidate pop(bpe_work *w) {
    const struct bpe_candidate top = w->heap[0], last = w->heap[--w->n_heap];
    size_t at = 0;
    for (size_t child; (child = at * 2 + 1) < w->n_heap; at = child) {
        if (child + 1 < w->n_heap && w->heap[child + 1].order < w->heap[child].order) child++;
        if (w->heap[child].order >= last.order) break;
        w->heap[at] = w->heap[child];
    }
    if (w->n_heap > 0) w->heap[at] = last;
    return top;
}

static bool load(const bpe *b, bpe_work *w, const int32_t *ids, size_t n) {
    if (n > INT32_MAX) return false;
    if (n > w->n_nodes) {
        struct bpe_node *nodes = mem_grow(w->nodes, n, sizeof *nodes);
        if (!nodes) return false;
        w->nodes = nodes;
        w->n_nodes = n;
    }
    for (size_t i = 0; i < n; i++) {
        w->nodes[i] = (struct bpe_node){ids[i], (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : END};
    }
    w->n_heap = 0;
    for (size_t i = 0; i + 1 < n; i++) {
        if (!push(b, w, (int32_t)i)) return false;
    }
    return true;
}

static size_t merge_long(const bpe *b, bpe_work *w, int32_t *ids, size_t n) {
    if (!load(b, w, ids, n)) return SIZE_MAX;
    struct bpe_node *nodes = w->nodes;
    while (w->n_heap > 0) {
        const struct bpe_candidate c = pop(w);
        const int32_t at = (int32_t)(uint32_t)c.order,
                      right = nodes[at].id == DEAD ? END : nodes[at].next;
        if (right == END || key_of(nodes[at].id, nodes[right].id) != c.pair->key)
            continue; /* stale */
        nodes[at].id = c.pair->made;
        nodes[at].next = nodes[right].next;
        nodes[right].id = DEAD;
        if (nodes[at].next != END) nodes[nodes[at].next].prev = at;
        if (!push(b, w, at) || !push(b, w, nodes[at].prev)) return SIZE_MAX;
    }
    size_t left = 0;
    for (int32_t i = 0; i != END; i = nodes[i].next) ids[left++] = nodes[i].id;
    return left;
}

size_t bpe_merge(const bpe *b, bpe_work *w, int32_t *symbols, size_t n) {
    size_t made = 0;
    for (size_t from = 0, to; from < n; from = to) {
        to = from + 1;
        while (to < n && (b->uncut || !is_seam(b, symbols[to - 1], symbols[to]))) to++;
        int32_t *run = symbols + from;
        const size_t left =
            to - from <= SHORT ? merge_short(b, run, to - from) : merge_long(b, w, run, to - from);
        if (left == SIZE_MAX) return SIZE_MAX;
        memmove(symbols + made, run, left * sizeof *symbols);
        made += left;
    }
    return made;
}
