/* loading.h - how the readers of containers fill a checkpoint; internal to this layer.
 *
 *     checkpoint.c   opens, closes, sorts; hands a path or an image to
 *     folder.c       config.json and one or many .safetensors
 *     safetensors.c  one .safetensors image
 *     (gguf.c        one .gguf image)
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "format/checkpoint.h"

/* Adds a tensor: copies *t, whose name must live as long as the checkpoint.  Refuses
 * data that is not aligned to its elements. */
weir_status loading_add(checkpoint *c, const tensor_view *t, const char *path, weir_error *err);

/* Maps a file that lives as long as the checkpoint; *out is a copy of its place. */
weir_status loading_map(checkpoint *c, mapped_file *out, const char *path, weir_error *err);

/* Sorts the tensors by name, so that checkpoint_find works; refuses a name that is there twice. */
weir_status loading_sort(checkpoint *c, weir_error *err);

/* Adds all tensors of a .safetensors image. */
weir_status safetensors_read(checkpoint *c, const uint8_t *data, size_t size, const char *path,
                             weir_error *err);

/* Buffers of old checkpoints that whoever needs them computes: masks, rotary tables.  Not added. */
bool safetensors_is_ignored(const char *name);

/* Fills a checkpoint from a folder, or from a lone .safetensors file (file not NULL) in it. */
weir_status folder_read(checkpoint *c, const char *folder, const char *file, weir_error *err);
