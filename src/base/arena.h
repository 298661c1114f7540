/* arena.h - where all heap memory of the library comes from.
 *
 * Two shapes.  An arena is memory that is released as a whole: a chain of blocks, bump-allocated,
 *
 *     arena *a = arena_new();
 *     my_thing *t = ARENA_NEW(a, my_thing);          zeroed
 *     float *x = ARENA_ARRAY(a, float, n);           zeroed
 *     arena_free(a);
 *
 * and mem_* is plain heap for what must grow or be handed to the user.  arena.c is the only file
 * that calls malloc, so one counter (mem_count) sees every allocation: tests assert it stands
 * still while tokens flow.  Running out returns NULL; callers turn that into WEIR_ERR_MEMORY.
 *
 * Memory that is large and laid out once (weights, KV, activations) comes from mem_map: whole
 * pages, zeroed, 2 MiB-aligned so that the kernel may use huge pages.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct arena arena;

arena *arena_new(void);
void arena_free(arena *a);                                 /* accepts NULL */
void *arena_alloc(arena *a, size_t bytes, size_t align);   /* zeroed; NULL when out of memory */
void *arena_array(arena *a, size_t count, size_t size);    /* zeroed, overflow-checked       */
char *arena_copy(arena *a, const char *text, size_t size); /* terminated copy of size bytes  */

#define ARENA_NEW(a, type)          ((type *)arena_alloc((a), sizeof(type), _Alignof(type)))
#define ARENA_ARRAY(a, type, count) ((type *)arena_array((a), (count), sizeof(type)))

void *mem_alloc(size_t bytes);                      /* zeroed                           */
void *mem_array(size_t count, size_t size);         /* zeroed, overflow-checked         */
void *mem_grow(void *p, size_t count, size_t size); /* realloc; p is kept when NULL     */
void mem_free(void *p);                             /* accepts NULL                     */
uint64_t mem_count(void);                           /* allocations so far, all threads  */

void *mem_map(size_t bytes);           /* zeroed pages, 2 MiB-aligned; NULL when out of memory */
void mem_unmap(void *p, size_t bytes); /* accepts NULL */

/* a * b, or SIZE_MAX when it does not fit: SIZE_MAX bytes are never allocated, so an overflow
 * becomes a clean out-of-memory. */
size_t size_mul(size_t a, size_t b);
size_t size_add(size_t a, size_t b);

/* A growing byte string.  All-zero is empty.  Appending returns false when out of memory. */
typedef struct buffer {
    char *data; /* [size], terminated once something was appended */
    size_t size, capacity;
} buffer;

#include <stdbool.h>
bool buffer_append(buffer *b, const void *data, size_t size);
bool buffer_reserve(buffer *b, size_t more);
void buffer_clear(buffer *b); /* frees; all-zero again */
