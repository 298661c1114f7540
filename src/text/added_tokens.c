/* added_tokens.c - the trie and the rules of added_tokens.h.
 *
 * A node keeps its children in a list (first child, next sibling); tokens are few and short, and
 * the `starts` table rejects most positions before the trie is touched.
 *
 * SPDX-License-Identifier: MIT */
#include "text/added_tokens.h"

#include "base/unicode.h"
#include "text/norm.h"

#include <string.h>

struct added_node {
    uint32_t child, sibling; /* 0: none (the root is nobody's child) */
    int32_t token;           /* index + 1; 0: no token ends here     */
    uint8_t byte;
};

void added_clear(added_tokens *a) {
    mem_free(a->tokens);
    mem_free(a->nodes);
    *a = (added_tokens){0};
}

static uint32_t child_of(const added_tokens *a, uint32_t node, uint8_t byte) {
    uint32_t c = a->nodes[node].child;
    while (c != 0 && a->nodes[c].byte != byte) c = a->nodes[c].sibling;
    return c;
}

static bool reserve(added_tokens *a, size_t size) {
    if (a->n == a->capacity) {
        const int32_t capacity = a->capacity ? a->capacity * 2 : 16;
        added_token *tokens = mem_grow(a->tokens, (size_t)capacity, sizeof *tokens);
        if (!tokens) return false;
        a->tokens = tokens;
        a->capacity = capacity;
    }
    const size_t want = size_add(a->n_nodes + 1, size);
    if (want > UINT32_MAX / 2) return false;
    if (want > a->node_capacity) {
        struct added_node *nodes = mem_grow(a->nodes, want * 2, sizeof *nodes);
        if (!nodes) return false;
        a->nodes = nodes;
        a->node_capacity = (uint32_t)want * 2;
    }
    if (a->n_nodes == 0) a->nodes[a->n_nodes++] = (struct added_node){0};
    return true;
}

bool added_put(added_tokens *a, const added_token *token, const char *text, size_t size) {
    if (!reserve(a, size)) return false;
    uint32_t node = 0;
    for (size_t i = 0; i < size; i++) {
        const uint8_t byte = (uint8_t)text[i];
        uint32_t child = child_of(a, node, byte);
        if (child == 0) {
            child = a->n_nodes++;
            a->nodes[child] = (struct added_node){.sibling = a->nodes[node].child, .byte = byte};
            a->nodes[node].child = child;
        }
        node = child;
    }
    if (a->nodes[node].token != 0) return true;
    a->tokens[a->n] = *token;
    a->nodes[node].token = ++a->n;
    a->starts[(uint8_t)text[0]] = true;
    return true;
}

/* The longest token at the start of text; specials are passed over unless wanted. */
static const added_token *longest(const added_tokens *a, const char *text, size_t size,
                                  bool specials, size_t *length) {
    const added_token *best = NULL;
    uint32_t node = 0;
    for (size_t i = 0; i < size; i++) {
        node = child_of(a, node, (uint8_t)text[i]);
        if (node == 0) break;
        if (a->nodes[node].token == 0) continue;
        const added_token *t = &a->tokens[a->nodes[node].token - 1];
        if (t->special && !specials) continue;
        best = t;
        *length = i + 1;
    }
    return best;
}

/* The character that ends before text[at]. */
static uint32_t code_before(const char *text, size_t at, size_t *start) {
    size_t i = at - 1;
    while (i > 0 && ((uint8_t)text[i] & 0xc0) == 0x80) i--;
    uint32_t code;
    utf8_decode(&code, text + i, at - i);
    *start = i;
    return code;
}

static bool stands_alone(const char *text, size_t size, size_t start, size_t end) {
    size_t before;
    uint32_t code;
    if (start > 0 && char_is_word(code_before(text, start, &before))) return false;
    if (end == size) return true;
    utf8_decode(&code, text + end, size - end);
    return !char_is_word(code);
}

void added_next(const added_tokens *a, const char *text, size_t size, size_t at, bool specials,
                const added_token **hit, size_t *start, size_t *end) {
    const size_t from = at;
    *hit = NULL;
    *start = *end = size;
    for (size_t length = 0; a->n > 0 && at < size; at++) {
        if (!a->starts[(uint8_t)text[at]]) continue;
        const added_token *t = longest(a, text + at, size - at, specials, &length);
        if (!t) continue;
        size_t s = at, e = at + length;
        if (t->single_word && !stands_alone(text, size, s, e)) {
            at = e - 1; /* matches do not overlap, refused ones neither */
            continue;
        }
        for (size_t before;
             t->lstrip && s > from && char_is_space(code_before(text, s, &before));) {
            s = before;
        }
        while (t->rstrip && e < size) {
            uint32_t code;
            const size_t n = utf8_decode(&code, text + e, size - e);
            if (!char_is_space(code)) break;
            e += n;
        }
        *hit = t;
        *start = s;
        *end = e;
        return;
    }
}
