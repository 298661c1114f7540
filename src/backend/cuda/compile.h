/* compile.h - kernels from their embedded source to code for one GPU, by NVRTC, once.
 *
 *     source:  #define WEIR_HEAD_DIM(w) 128 ...     what this model fixes
 *              #include "walk.cu"                   src/backend/cuda/kernels, embedded
 *     cache:   <folder>/weir-<hash>.cubin           hash of all source text, options and the GPU
 *
 * A machine with the driver only runs what is in its cache.  NVRTC is opened at run time.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/status.h"

typedef struct cuda_source { /* an embedded file, under the name it is included by */
    const char *name, *text;
} cuda_source;

extern const cuda_source cuda_sources[]; /* made at build time; ends with a NULL name */

typedef struct cuda_options {
    const char *target; /* "sm_90a" */
    int formats;        /* bits: 1 << cuda_format */
    int acts;           /* bits: 1 << nn_act */
    int head_dim, kv_type, pin_type;
    int share; /* query heads of a K/V head */
} cuda_options;

typedef struct cuda_image {
    buffer code; /* a cubin */
    bool cached; /* it was taken from the cache */
} cuda_image;

/* The target of a GPU of this compute capability: sm_90a where that pays. */
void cuda_target(char out[16], int major, int minor);

/* folder: of the cache; NULL: none.  A cache that cannot be written is not an error. */
weir_status cuda_compile(cuda_image *out, const cuda_options *o, const char *folder,
                         weir_error *err);
void cuda_image_clear(cuda_image *image);

/* Where NVRTC cannot be opened: false and the reason.  *newest: the newest sm it compiles for. */
bool cuda_nvrtc_is_here(int *newest, weir_error *err);
