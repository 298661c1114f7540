/* compile.h - kernels from their embedded source to code for one GPU, by NVRTC, once.
 *
 *     source:  #define WEIR_HEAD_DIM(w) 128 ...     what this model fixes
 *              #include "walk.cu"                   src/backend/cuda/kernels, embedded
 *     cache:   <folder>/weir-<hash>.cubin           hash of all source text, options and the GPU
 *
 * A machine with the driver only runs what is in its cache, or in an engine file (engine_file.h).
 * NVRTC is opened at run time.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/status.h"
#include "weir/weir.h"

typedef struct cuda_source { /* an embedded file, under the name it is included by */
    const char *name, *text;
} cuda_source;

extern const cuda_source cuda_sources[]; /* made at build time; ends with a NULL name */

/* What kernels are compiled for.  X(name, the words before and behind its value): engine files keep
 * these numbers and name the one that differs.
 *     formats    bits: 1 << cuda_format       kv_type, pin_type   weir_type
 *     acts       bits: 1 << nn_act            heads               queries of a K/V head: 1, 2, 4 */
#define CUDA_OPTIONS(X)                          \
    X(formats, "weights in", "")                 \
    X(acts, "activations", "")                   \
    X(head_dim, "heads of", " features")         \
    X(kv_type, "keys and values in", "")         \
    X(pin_type, "pinned keys and values in", "") \
    X(heads, "", " query heads of a K/V head at once")

typedef struct cuda_options {
    const char *target; /* "sm_90a" */
#define X(name, before, behind) int name;
    CUDA_OPTIONS(X)
#undef X
} cuda_options;

typedef struct cuda_image {
    buffer code;  /* a cubin */
    bool cached;  /* it was taken from the cache */
    int nvrtc[2]; /* version of what compiled it; 0: not known */
} cuda_image;

/* The target of a GPU of this compute capability: sm_90a where that pays. */
void cuda_target(char out[16], int major, int minor);

/* Hashes of all that the code is made from, and of the kernels' source text alone. */
uint64_t cuda_key(const cuda_options *o);
uint64_t cuda_sources_key(void);
/* FNV-1a, goes on from h. */
uint64_t cuda_hash(uint64_t h, const void *data, size_t size);

typedef struct cuda_watch { /* who is told that kernels are compiled, and may cancel that */
    weir_progress progress; /* NULL: nobody; called from any thread, one at a time */
    void *user;
    uint64_t done, total; /* images */
} cuda_watch;

/* folder: of the cache; NULL: none.  A cache that cannot be written is not an error.  watch is
 * asked before a compilation and, where NVRTC can be canceled (12.8 and later), all the time. */
weir_status cuda_compile(cuda_image *out, const cuda_options *o, const char *folder,
                         const cuda_watch *watch, weir_error *err);
void cuda_image_clear(cuda_image *image);

typedef struct cuda_compiler { /* the NVRTC of this machine */
    int version[2];
    int targets[64], n_targets; /* compute capabilities it compiles for: 80, 90, ..., ascending */
} cuda_compiler;

weir_status cuda_compiler_find(cuda_compiler *out, weir_error *err);
