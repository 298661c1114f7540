/* bpe_vocab.c - spelling tables and the byte alphabet; bpe_vocab.h has the picture.
 *
 * SPDX-License-Identifier: MIT */
#include "text/bpe_vocab.h"

#include "base/unicode.h"

#include <assert.h>
#include <string.h>

/* ---- hashing: 8 bytes a step, multiply and fold; keyed by nothing, so a hostile file can make
 * its own table slow, but never anybody else's */

static uint64_t mix(uint64_t h) {
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

uint64_t hash_bytes(const void *data, size_t size) {
    const char *p = data;
    uint64_t h = size * 0xd6e8feb86659fd93u;
    for (uint64_t word; size >= 8; p += 8, size -= 8) {
        memcpy(&word, p, 8);
        h = mix(h ^ word);
    }
    if (size > 0) {
        uint64_t word = 0;
        memcpy(&word, p, size);
        h = mix(h ^ word);
    }
    return mix(h);
}

/* ---- the table */

/* The slot of a spelling: where it is, or the empty one where it belongs. */
static uint32_t slot_of(const vocab *v, const char *text, size_t size) {
    uint32_t s = (uint32_t)hash_bytes(text, size) & v->mask;
    for (;; s = (s + 1) & v->mask) {
        if (v->slots[s] == 0) return s;
        const piece *p = &v->pieces[v->slots[s] - 1];
        if (p->size == size && memcmp(p->text, text, size) == 0) return s;
    }
}

/* Room for `capacity` pieces, at most half of the slots in use. */
static bool reserve(vocab *v, int capacity) {
    uint32_t n_slots = 64;
    while (n_slots < (uint32_t)capacity * 2u) n_slots *= 2;
    piece *pieces = mem_grow(v->pieces, (size_t)capacity, sizeof(piece));
    if (!pieces) return false;
    v->pieces = pieces;
    int32_t *slots = mem_array(n_slots, sizeof(int32_t));
    if (!slots) return false;
    mem_free(v->slots);
    memset(pieces + v->capacity, 0, sizeof(piece) * (size_t)(capacity - v->capacity));
    v->slots = slots;
    v->mask = n_slots - 1;
    v->capacity = capacity;
    for (int i = 0; i < v->n_all; i++) {
        if (pieces[i].text) v->slots[slot_of(v, pieces[i].text, pieces[i].size)] = i + 1;
    }
    return true;
}

bool vocab_init(vocab *v, arena *a, int n_ids) {
    assert(n_ids >= 0 && n_ids <= VOCAB_MAX);
    *v = (vocab){.arena = a};
    if (!reserve(v, n_ids + 64)) return false;
    v->n_ids = v->n_all = n_ids;
    return true;
}

void vocab_clear(vocab *v) {
    mem_free(v->pieces);
    mem_free(v->slots);
    *v = (vocab){0};
}

bool vocab_put(vocab *v, int32_t id, const char *text, size_t size) {
    assert(id >= 0 && id < v->n_all);
    if (size > UINT32_MAX / 2) return false;
    piece *p = &v->pieces[id];
    p->text = arena_copy(v->arena, text, size);
    if (!p->text) return false;
    p->size = (uint32_t)size;
    v->slots[slot_of(v, text, size)] = id + 1;
    return true;
}

int32_t vocab_find(const vocab *v, const char *text, size_t size) {
    return v->slots[slot_of(v, text, size)] - 1;
}

int32_t vocab_intern(vocab *v, const char *text, size_t size) {
    const int32_t found = vocab_find(v, text, size);
    if (found != VOCAB_NONE) return found;
    if (v->n_all == VOCAB_MAX) return VOCAB_NONE;
    if (v->n_all == v->capacity && !reserve(v, v->capacity * 2)) return VOCAB_NONE;
    const int32_t id = v->n_all++;
    if (vocab_put(v, id, text, size)) return id;
    v->n_all--;
    return VOCAB_NONE;
}

bool vocab_set_output(vocab *v, int32_t id, const char *output, size_t size) {
    char *copy = arena_copy(v->arena, output, size);
    if (!copy) return false;
    v->pieces[id].output = copy;
    v->pieces[id].output_size = (uint32_t)size;
    return true;
}

/* ---- the byte alphabet */

/* Printable Latin-1 without the space, the no-break space and the soft hyphen. */
static bool stands_for_itself(uint32_t code) {
    return (code >= 0x21 && code <= 0x7e) || (code >= 0xa1 && code <= 0xff && code != 0xad);
}

/* The others in order: 00..20 are U+0100..0120, 7F..A0 are U+0121..0142, AD is U+0143. */
uint32_t byte_to_code(uint8_t byte) {
    if (stands_for_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte <= 0xa0) return 0x121u + (byte - 0x7fu);
    return 0x143;
}

int code_to_byte(uint32_t code) {
    if (stands_for_itself(code)) return (int)code;
    if (code >= 0x100 && code <= 0x120) return (int)code - 0x100;
    if (code >= 0x121 && code <= 0x142) return (int)code - 0x121 + 0x7f;
    return code == 0x143 ? 0xad : -1;
}

bool bytes_to_text(buffer *out, const char *bytes, size_t size) {
    if (!buffer_reserve(out, size_mul(size, 2))) return false;
    for (size_t i = 0; i < size; i++) {
        out->size += utf8_encode(out->data + out->size, byte_to_code((uint8_t)bytes[i]));
    }
    out->data[out->size] = 0;
    return true;
}

bool text_to_bytes(buffer *out, const char *text, size_t size) {
    const size_t start = out->size;
    if (!buffer_reserve(out, size)) return false;
    for (size_t i = 0; i < size;) {
        uint32_t code;
        i += utf8_decode(&code, text + i, size - i);
        const int byte = code_to_byte(code);
        if (byte < 0) {
            out->size = start;
            return false;
        }
        out->data[out->size++] = (char)byte;
    }
    out->data[out->size] = 0;
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

int byte_piece(const char *text, size_t size) {
    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    const int high = hex_digit(text[3]), low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}
