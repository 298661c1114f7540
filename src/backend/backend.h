/* backend.h - what every back end is to the engine.
 *
 *     backend *b;
 *     backend_open(&b, plan, &kv_shape, &options, err);   packs weights, lays out all memory
 *     backend_step(b, &batch, err);                        runs the plan once
 *     backend_logits(b, i)                                 [vocab] of the i-th wanted row
 *
 * A batch is n rows (tokens) of any sessions.  Everything a kernel must know about streaming is in
 * the row: where the token stands in the stream, how many pinned and recent rows it sees.  What a
 * row gets does not depend on the other rows of other slots, bit for bit.
 *
 * Back ends: ref (scalar, the definition), cpu (SIMD and threads).  Both run in host memory and
 * share host.c, which walks the plan; see host.h.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/kv.h"
#include "nn/plan.h"

/* The row's own key is stored before anything is attended.
 *
 *   pinned row (is_pin):  key and query rotated at p, key stored in pin p; sees pins [0, p]
 *   ring row:             key rotated at pos, stored in ring row pos mod ring; sees pins [0, pins)
 *                         with its query rotated at p, and the `recent` stream positions
 *                         (pos - recent, pos] with its query rotated at pos
 *
 * For ALiBi the distance to a pinned row s is p - s, to a recent one pos - j. */
typedef struct batch_row {
    int32_t token;
    int slot;
    uint64_t pos; /* stream position */
    uint32_t p;   /* index in the cache: pins + recent - 1; a pinned row: its pin */
    int pins;     /* pinned rows it sees; a pinned row: p + 1, its own included */
    int recent;   /* recent rows it sees, itself included; a pinned row: 0 */
    bool is_pin;
} batch_row;

typedef struct batch_group { /* consecutive rows of one slot, positions ascending */
    int slot, first, n;
} batch_group;

typedef struct batch {
    const batch_row *rows;     /* [n] */
    const batch_group *groups; /* [n_groups], covering all rows */
    const int *wanted;         /* [n_wanted] rows whose logits are computed, ascending */
    int n, n_groups, n_wanted;
} batch;

typedef struct backend_options {
    int threads;       /* 0: all */
    const char *level; /* cpu: "avx512", "avx2", "neon", "portable"; NULL: the best there is */
    weir_type weights; /* DEFAULT, Q8, Q4 */
    weir_progress progress;
    void *progress_user;
} backend_options;

typedef struct backend backend;

typedef struct backend_sizes {
    size_t weight_bytes, activation_bytes, kv_bytes;
    size_t step_weight_bytes; /* read by one step of one row: all matrices but the embedding, plus a
                                 row of it */
} backend_sizes;

typedef struct backend_api { /* one const instance per back end */
    const char *name;
    weir_status (*open)(backend **out, const plan *p, const kv_shape *kv, const backend_options *o,
                        weir_error *err);
    void (*close)(backend *b);
    weir_status (*step)(backend *b, const batch *batch, weir_error *err);
    const float *(*logits)(const backend *b, int i);
    const char *(*kernels)(const backend *b); /* "avx512 vnni bf16", for people */
    const char *(*weight_type)(const backend *b);
    int (*threads)(const backend *b);
    void (*sizes)(const backend *b, backend_sizes *out);
    kv_store *(*kv)(backend *b); /* host memory; NULL when the store is elsewhere */
} backend_api;

struct backend {
    const backend_api *api;
};

extern const backend_api backend_ref, backend_cpu;

/* "auto" or NULL, "cpu", "cpu-avx2", "cpu-portable", ..., "ref".  NULL: no such name. */
const backend_api *backend_find(const char *name, const char **level);
