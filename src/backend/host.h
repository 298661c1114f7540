/* host.h - the frame of back ends that run in host memory: a team of threads walks the plan.
 *
 *     for each op of the plan:  before[op.kind](h, op, ith, nth);  everybody is done
 *                               ops[op.kind](h, op, ith, nth);     everybody is done
 *
 * An op function computes share ith of nth of the rows or columns, on whichever thread.  What all
 * shares need first (keys stored, inputs made ready) is a phase before it.  ref/ and cpu/ give
 * their tables of op functions, made from nn/ops.h, and their way to pack a matrix.
 *
 * Before the first op, the phases of every row are tabulated once for all layers.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/backend.h"
#include "base/thread.h"

typedef struct host host;

typedef void host_op(host *h, const plan_op *op, int ith, int nth);

typedef struct host_phase { /* a phase of a step: one function of one op */
    host_op *run;
    const plan_op *op;
} host_phase;

typedef struct host_kind { /* what ref and cpu differ in */
    const backend_api *api;
    host_op *const *ops; /* [NN_N_OPS] */
    /* What comes before op in this step; NULL: nothing. */
    host_op *(*before)(const host *h, const plan_op *op);
    /* Packs all matrices of h->plan into memory it owns (h->packed and h->private), reporting
     * progress; may use h->team.  Fills h->sizes' weight bytes, h->workspace_bytes. */
    weir_status (*pack)(host *h, const backend_options *o, weir_error *err);
    void (*unpack)(host *h); /* frees what pack made; accepts a half-made h */
} host_kind;

struct host {
    backend base;
    const host_kind *kind;
    const plan *plan;
    team *team;
    kv_store kv;
    char *arena;     /* [plan->arena_bytes] activations */
    char *workspace; /* [workspace_bytes], pages, for the ops of this kind; pack asks for it */
    size_t workspace_bytes;
    void *private;                     /* of the kind: packed weights, kernel tables */
    const char *kernels, *weight_type; /* for people; set by pack */
    backend_sizes sizes;
    size_t row_products; /* multiplications one row of a step takes, attention aside */

    const batch *batch; /* of the running step; NULL between steps */
    int n_shown;        /* rows of logits that the last step left */
    host_phase *phases; /* [2 * n_ops + 1] of the running step */
    int n_phases;
    /* [max_rows][pairs] each, rows of the running step: phases at pos (recent) and p (pinned) */
    float *cos_pos, *sin_pos, *cos_pin, *sin_pin;
};

weir_status host_open(backend **out, const host_kind *kind, const plan *p, const kv_shape *kv,
                      const backend_options *o, weir_error *err);
void host_close(backend *b);
weir_status host_step(backend *b, const batch *batch, weir_error *err);
const float *host_logits(const backend *b, int i);
const char *host_kernels(const backend *b);
const char *host_weight_type(const backend *b);
int host_threads(const backend *b);
void host_sizes(const backend *b, backend_sizes *out);
weir_status host_measure(backend *b, weir_rates *out, weir_error *err);
weir_status host_pin_row(backend *b, int slot, uint64_t pos, int pin, weir_error *err);
size_t host_row_bytes(const backend *b, bool is_pin);
weir_status host_export_rows(backend *b, int slot, bool is_pin, int row, int n, void *out,
                             weir_error *err);
weir_status host_import_rows(backend *b, int slot, bool is_pin, int row, int n, const void *in,
                             weir_error *err);

/* The functions that are the same for all of them, in a backend_api. */
#define HOST_API                                                                            \
    .close = host_close, .step = host_step, .logits = host_logits, .kernels = host_kernels, \
    .weight_type = host_weight_type, .threads = host_threads, .sizes = host_sizes,          \
    .measure = host_measure, .pin_row = host_pin_row, .row_bytes = host_row_bytes,          \
    .export_rows = host_export_rows, .import_rows = host_import_rows

/* Rows of tensor t in this step: n or n_wanted. */
static inline int host_rows(const host *h, int t) {
    return h->plan->tensors[t].selected ? h->batch->n_wanted : h->batch->n;
}

static inline float *host_row(const host *h, int t, int r) {
    return plan_row(h->plan, h->arena, t, r);
}

/* Share ith of nth of n things: [*from, *to). */
static inline void host_share(int n, int ith, int nth, int *from, int *to) {
    *from = (int)((long long)n * ith / nth);
    *to = (int)((long long)n * (ith + 1) / nth);
}
