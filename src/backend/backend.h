/* backend.h - what every back end is to the engine.
 *
 *     backend *b;
 *     backend_open(&b, "auto", plan, &kv_shape, &options, reason, err);
 *                                       packs weights, lays out all memory
 *     b->api->step(b, &batch, err);     runs the plan once
 *     b->api->logits(b, i)              [vocab] of the i-th wanted row
 *
 * A back end that can draw takes a step with draws and returns at once: the next one may be made of
 * tokens that nobody but the device has seen (BATCH_DRAWN), so that the device never waits.
 *
 * A batch is n rows (tokens) of any sessions.  Everything a kernel must know about streaming is in
 * the row: where the token stands in the stream, how many pinned and recent rows it sees.  What a
 * row gets does not depend on the other rows of other slots, bit for bit; on cuda it does on how
 * many rows there are, once they are more than CUDA_TOKENS and weights are not f32
 * (kernels/wide.cuh).
 *
 * Back ends: ref (scalar, the definition) and cpu (SIMD and threads) run in host memory and share
 * host.c, which walks the plan; see host.h.  cuda keeps its store on the device.  The engine moves
 * rows of the store only through the functions here; the bytes of a row are the same everywhere
 * (kv.h), so that a session saved by one back end is restored by any other.
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
    int32_t token; /* BATCH_DRAWN: the one last drawn for this slot */
    int slot;
    uint64_t pos; /* stream position */
    uint32_t p;   /* index in the cache: pins + recent - 1; a pinned row: its pin */
    int pins;     /* pinned rows it sees; a pinned row: p + 1, its own included */
    int recent;   /* recent rows it sees, itself included; a pinned row: 0 */
    bool is_pin;
} batch_row;

enum { BATCH_DRAWN = -1, BATCH_RECENT = 1024, BATCH_BIASES = 256 };

/* How the token behind a wanted row is chosen on the device: as engine/sampler.c would, to the bit.
 * Of the options those of the loop, the stops and typical_p do not count. */
typedef struct batch_draw {
    const weir_sampling *how; /* at most BATCH_BIASES; NULL: nothing is drawn */
    double uniform;           /* from [0, 1); unused when greedy */
    const int32_t *recent;    /* [n_recent] what penalties look back on; BATCH_DRAWN as in a row;
                                 what is no token counts for nothing */
    int n_recent;             /* at most BATCH_RECENT; 0 without penalties */
} batch_draw;

typedef struct batch_group { /* consecutive rows of one slot, positions ascending */
    int slot, first, n;
} batch_group;

typedef struct batch {
    const batch_row *rows;     /* [n] */
    const batch_group *groups; /* [n_groups], covering all rows */
    const int *wanted;         /* [n_wanted] rows whose logits are computed, ascending */
    const batch_draw *draws;   /* [n_wanted]; NULL: none */
    int n, n_groups, n_wanted;
} batch;

typedef struct backend_options {
    int threads;       /* 0: all */
    const char *level; /* cpu: "avx512", "avx2", "neon", "portable"; NULL: the best there is */
    const char *cache; /* folder where compiled GPU kernels are kept; NULL: they are not */
    const char *engine_file; /* GPU kernels compiled beforehand; NULL: none */
    weir_type weights;       /* DEFAULT, Q8, Q4 */
    weir_progress progress;
    void *progress_user;
} backend_options;

typedef struct backend backend;

typedef struct backend_sizes {
    size_t weight_bytes, activation_bytes, kv_bytes;
    size_t step_weight_bytes; /* read by one step of one row: all matrices but the embedding, plus a
                                 row of it */
    size_t memory_bytes; /* free on the device before it opened; 0: it computes in host memory */
} backend_sizes;

typedef struct backend_api { /* one const instance per back end */
    const char *name;
    weir_status (*open)(backend **out, const plan *p, const kv_shape *kv, const backend_options *o,
                        weir_error *err);
    void (*close)(backend *b);
    weir_status (*step)(backend *b, const batch *batch, weir_error *err);
    /* [vocab] of wanted row i of the last step, in host memory; valid until the next step. */
    const float *(*logits)(const backend *b, int i);
    /* The tokens [n] that the step before the last `back` ones (0 or 1) drew for its wanted rows;
     * negative: no logit was above -infinity.  NULL: this back end draws nothing. */
    weir_status (*drawn)(backend *b, int back, int32_t *tokens, int n, weir_error *err);
    /* After a step with draws the logits are on the device: this brings those of wanted row i to
     * logits(). */
    weir_status (*fetch)(backend *b, int i, weir_error *err);
    const char *(*kernels)(const backend *b); /* "avx512 vnni bf16", for people */
    const char *(*weight_type)(const backend *b);
    int (*threads)(const backend *b);
    void (*sizes)(const backend *b, backend_sizes *out);
    weir_status (*measure)(backend *b, weir_rates *out, weir_error *err);
    /* Copies the ring row of stream position pos, all layers, to pin `pin`, re-rotating its keys.
     */
    weir_status (*pin_row)(backend *b, int slot, uint64_t pos, int pin, weir_error *err);
    /* One row, all layers, as kv_export_row writes it: bytes, out, in.  n rows from `row` on lie
     * one after the other in memory; ring rows go on at 0 after the last of the ring. */
    size_t (*row_bytes)(const backend *b, bool is_pin);
    weir_status (*export_rows)(backend *b, int slot, bool is_pin, int row, int n, void *out,
                               weir_error *err);
    weir_status (*import_rows)(backend *b, int slot, bool is_pin, int row, int n, const void *in,
                               weir_error *err);
} backend_api;

struct backend {
    const backend_api *api;
};

extern const backend_api backend_ref, backend_cpu, backend_cuda;

enum { BACKEND_REASON = 256 };

/* Opens the back end `name`; auto takes the first that this machine can open.  `reason` tells why
 * auto did not take a faster kind ("no GPU: libcuda.so.1 not found"); empty when there is nothing
 * to tell.  o->level is taken from the name.  An engine file is for a GPU: with one, auto is cuda,
 * and the others refuse. */
weir_status backend_open(backend **out, const char *name, const plan *p, const kv_shape *kv,
                         const backend_options *o, char reason[BACKEND_REASON], weir_error *err);

/* The name to open the GPU by that `name` would try first; NULL: there is none, or none is meant.
 */
const char *backend_gpu(const char *name);
bool cuda_is_here(void);

/* Engine files (cuda/engine_file.h): writes one with the kernels of a plan for the targets, a list
 * like "sm_80,sm_90a" (NULL: of the GPU here); model: a name for people.  Says what is in one. */
weir_status cuda_engine_build(const char *file, const plan *p, const char *model,
                              const char *targets, const kv_shape *kv, const backend_options *o,
                              weir_error *err);
weir_status cuda_engine_info(weir_engine_file_info *out, const char *path, weir_error *err);
bool cuda_engine_is(const char *path); /* it may be damaged */

/* "auto" or NULL, "cuda", "cpu", "cpu-avx2", "cpu-portable", ..., "ref".  NULL: no such name. */
const backend_api *backend_find(const char *name, const char **level);
