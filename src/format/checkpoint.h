/* checkpoint.h - a model on disk, whatever its container: named tensors and a configuration.
 *
 *     folder with config.json + *.safetensors (single or sharded)   folder.c, safetensors.c
 *     one .safetensors file, config.json beside it                   folder.c, safetensors.c
 *     one .gguf file, not split                                      checkpoint.c, gguf.c
 *
 * Tensors keep their bytes where they are, in mapped files.  Names are Hugging Face's for every
 * container: gguf_names.c translates, so that models know one naming only.  GGUF files of the llama
 * family store q and k rows for interleaved rotation; that is said in config.rope.interleaved and
 * nothing is moved.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/file.h"
#include "format/quant.h"
#include "weir/nn.h"

typedef struct tensor_view {
    const char *name; /* Hugging Face's name */
    tensor_type type;
    int n_dims;       /* 1 or 2 (higher ranks are refused at use)       */
    int64_t dims[4];  /* outermost first: a matrix is [out, in]         */
    const void *data; /* [product of dims], in a mapped file; bounds were checked */
    uint64_t bytes;
} tensor_view;

typedef struct gguf gguf; /* format/gguf.h */

typedef struct checkpoint {
    arena *arena;       /* names, tables, strings */
    const char *path;   /* as given, for messages */
    const char *folder; /* where tokenizer files lie; NULL for a GGUF */
    const gguf *gguf;   /* NULL for safetensors */
    nn_config config;
    tensor_view *tensors; /* [n_tensors], sorted by name; heap */
    int n_tensors;
    mapped_file *files; /* [n_files]; heap */
    int n_files;
    uint64_t parameters; /* weights in all tensors */
} checkpoint;

/* Opens and checks a model: every tensor's bytes lie inside its file.  On failure *out is NULL.
 * A GGUF without tensors opens, with n_tensors 0 and the config it has. */
weir_status checkpoint_open(checkpoint **out, const char *path, weir_error *err);
void checkpoint_close(checkpoint *c); /* accepts NULL */

/* The same for a GGUF image in memory (the embedded model); bytes stay the caller's and must be
 * aligned to 32. */
weir_status checkpoint_open_memory(checkpoint **out, const void *data, size_t size,
                                   weir_error *err);

const tensor_view *checkpoint_find(const checkpoint *c, const char *name); /* NULL: absent */

/* config.json's text to a configuration.  Unknown rope types, architectures without the fields
 * they need and sizes out of bounds are refused by name.  format/config.c */
weir_status config_from_json(nn_config *out, arena *a, const char *json, size_t size,
                             const char *path, weir_error *err);
/* A GGUF's keys to the same; format/config_gguf.c */
weir_status config_from_gguf(nn_config *out, arena *a, const gguf *g, const char *path,
                             weir_error *err);
