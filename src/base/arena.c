/* arena.c - the only malloc in the library; arena.h has the picture.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "base/arena.h"

#include "base/compiler.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static atomic_uint_fast64_t count; /* a statistic, not state: see mem_count */

size_t size_mul(size_t a, size_t b) {
    return b != 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

size_t size_add(size_t a, size_t b) {
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

uint64_t mem_count(void) {
    return atomic_load_explicit(&count, memory_order_relaxed);
}

void *mem_alloc(size_t bytes) {
    if (bytes == SIZE_MAX) return NULL;
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    return calloc(1, bytes ? bytes : 1);
}

void *mem_array(size_t n, size_t size) {
    return mem_alloc(size_mul(n, size));
}

void *mem_grow(void *p, size_t n, size_t size) {
    const size_t bytes = size_mul(n, size);
    if (bytes == SIZE_MAX) return NULL;
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    return realloc(p, bytes ? bytes : 1);
}

void mem_free(void *p) {
    free(p);
}

/* ---- pages */

enum { HUGE = 2 << 20 };

/* Maps HUGE bytes more than asked for and gives back what sticks out on both sides. */
void *mem_map(size_t bytes) {
    const size_t size = size_add(size_mul(size_add(bytes, HUGE - 1) / HUGE, HUGE), HUGE);
    if (size == SIZE_MAX) return NULL;
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) return NULL;
    const size_t head = (HUGE - (uintptr_t)p % HUGE) % HUGE;
    if (head) munmap(p, head);
    if (HUGE - head) munmap(p + size - (HUGE - head), HUGE - head);
#ifdef MADV_HUGEPAGE
    madvise(p + head, size - HUGE, MADV_HUGEPAGE);
#endif
    return p + head;
}

void mem_unmap(void *p, size_t bytes) {
    if (p) munmap(p, (bytes + HUGE - 1) / HUGE * HUGE);
}

/* ---- arena: a chain of blocks, the newest first */

typedef struct block {
    struct block *next;
    size_t size, used; /* of the bytes behind this header */
} block;

struct arena {
    block *head;
};

enum { BLOCK_BYTES = 64 << 10 };

arena *arena_new(void) {
    return mem_alloc(sizeof(arena));
}

void arena_free(arena *a) {
    if (!a) return;
    for (block *b = a->head, *next; b; b = next) {
        next = b->next;
        mem_free(b);
    }
    mem_free(a);
}

void *arena_alloc(arena *a, size_t bytes, size_t align) {
    assert(align && (align & (align - 1)) == 0);
    if (bytes == SIZE_MAX) return NULL;
    block *b = a->head;
    if (b) {
        const uintptr_t base = (uintptr_t)(b + 1);
        const size_t at = ((base + b->used + align - 1) & ~(uintptr_t)(align - 1)) - base;
        if (at <= b->size && bytes <= b->size - at) {
            b->used = at + bytes;
            return (char *)(b + 1) + at;
        }
    }
    const size_t size = MAX_OF(size_add(bytes, align), (size_t)BLOCK_BYTES);
    b = mem_alloc(size_add(size, sizeof(block)));
    if (!b) return NULL;
    b->size = size;
    b->next = a->head;
    a->head = b;
    return arena_alloc(a, bytes, align); /* fits now */
}

void *arena_array(arena *a, size_t n, size_t size) {
    return arena_alloc(a, size_mul(n, size), 16);
}

char *arena_copy(arena *a, const char *text, size_t size) {
    char *p = arena_alloc(a, size_add(size, 1), 1);
    if (p && size) memcpy(p, text, size);
    return p;
}

/* ---- buffer */

bool buffer_reserve(buffer *b, size_t more) {
    const size_t want = size_add(size_add(b->size, more), 1);
    if (want == SIZE_MAX) return false;
    if (want <= b->capacity) return true;
    const size_t capacity = MAX_OF(want, b->capacity * 2);
    char *p = mem_grow(b->data, capacity, 1);
    if (!p) return false;
    b->data = p;
    b->capacity = capacity;
    return true;
}

bool buffer_append(buffer *b, const void *data, size_t size) {
    if (!buffer_reserve(b, size)) return false;
    if (size) memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = 0;
    return true;
}

void buffer_clear(buffer *b) {
    mem_free(b->data);
    *b = (buffer){0};
}
