/* input.h - whole files and standard input, as bytes and as token ids.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/status.h"

/* Appends all of a file, or of standard input when path is "-", to out; a signal cancels. */
weir_status input_read(buffer *out, const char *path, weir_error *err);

typedef struct id_list {
    int32_t *ids; /* [n] heap */
    size_t n, capacity;
} id_list;

/* Reads ids separated by white space.  A word that is none is refused with its place.  vocab: ids
 * are less than it; 0: not known. */
weir_status input_ids(id_list *out, const char *path, int vocab, weir_error *err);
bool id_list_add(id_list *l, int32_t id); /* false: out of memory */
void id_list_clear(id_list *l);
