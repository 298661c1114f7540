/* gguf_names.h - GGUF's names of tensors to Hugging Face's.
 *
 *     blk.7.attn_q.weight   ->   model.layers.7.self_attn.q_proj.weight     (architecture llama)
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "format/gguf.h"

typedef struct gguf_naming {    /* what a file's names are translated with */
    const struct naming *table; /* NULL: an architecture without one, names stay as they are */
    bool has_two_norms;         /* Falcon: blocks have ln_attn and ln_mlp                    */
} gguf_naming;

gguf_naming gguf_naming_make(const gguf *g);

/* The Hugging Face name in the arena, NULL when out of memory.  A name that the table does not
 * have is copied as it is. */
const char *gguf_translate_name(arena *a, const gguf_naming *naming, gguf_string name);
