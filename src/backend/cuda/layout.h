/* layout.h - everything on the device: one allocation, laid out once, and the table of stages.
 *
 *     | stages | vectors (norms, biases, turns) | matrices | store | activations | work |
 *
 *     cuda_layout_make(&l, plan, &shape, &device, options, 0, err);      measures
 *     cuda_layout_make(&l, plan, &shape, &device, options, base, err);   places
 *
 * The same code measures and places, so what was measured is what is needed.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/backend.h"
#include "backend/cuda/driver.h"
#include "backend/cuda/pack.h"

enum { CUDA_TURNS = 2 }; /* steps on their way: one runs, one is made */

typedef struct cuda_region { /* for people and tests */
    const char *name;
    cuda_address at;
    size_t bytes;
} cuda_region;

typedef struct cuda_upload { /* a vector that is copied as it is */
    cuda_address to;
    const void *from;
    size_t bytes;
} cuda_upload;

typedef struct cuda_weights { /* a matrix of the plan */
    cuda_matrix matrix;
    tensor_type type; /* packed from: as stored, or what it is quantised to */
    bool is_owner;    /* false: it shares its tiles with an earlier one */
} cuda_weights;

typedef struct cuda_layout {
    arena *arena; /* owns what follows */
    const plan *plan;
    cuda_address base;
    size_t bytes;
    cuda_region *regions;  /* [n_regions], in order of their addresses */
    cuda_upload *uploads;  /* [n_uploads] */
    cuda_stage *stages;    /* [n_stages] */
    cuda_feed *feeds;      /* [n_feeds] */
    cuda_weights *weights; /* [plan->n_matrices] */
    cuda_address *tagged;  /* [plan->n_ops]: results that are tagged; 0: not this one */
    size_t tagged_bytes;   /* 0: none is */
    int n_regions, n_uploads, n_stages, n_feeds;
    int most_regions, most_uploads;
    int n_warps, n_feeders;        /* of a block of `walk`: that work, and others */
    int acts;                      /* bits of nn_act that some stage has */
    int formats;                   /* bits of cuda_format that some stage has */
    cuda_wide wide[CUDA_WIDTHS];   /* that fit; of 16 << i tokens */
    int wide_threads;              /* of a block of `wide` */
    int multipliers;               /* of its warps, those that multiply: tiles of 16 rows */
    size_t wide_depth;             /* of its widest input */
    cuda_world world;              /* what is the same in every step */
    cuda_address times;            /* of stages, when they are measured */
    cuda_address arena_at, record; /* activations; a row of the store on its way */
    size_t record_bytes;
    cuda_address step; /* [CUDA_TURNS][step_bytes]: rows, wanted and draws of a step, packed */
    size_t step_bytes;
    kv_store kv; /* sizes; no data */
} cuda_layout;

/* Fails when rows are too wide for a block's shared memory. */
weir_status cuda_layout_make(cuda_layout *out, const plan *p, const kv_shape *kv,
                             const cuda_device *device, const backend_options *o, cuda_address base,
                             weir_error *err);

/* The product whose result, [gate | up], is read as act(gate) * up and nowhere else; -1: op has
 * other inputs. */
int cuda_gated_product(const plan *p, const plan_op *op);

/* Query heads of a K/V head that look at its keys together, at most. */
int cuda_heads_at_once(const cuda_layout *l);

/* blocks.c.  Fails when rows are too wide for a block's shared memory.  Then those of kernels for
 * many rows, as many as fit. */
weir_status cuda_arrange_walk(cuda_layout *l, const cuda_device *device, weir_error *err);
void cuda_arrange_many(cuda_layout *l, const kv_shape *kv, const cuda_device *device);

/* tags.c.  Gives every result that is tagged its place from `at` on; returns the bytes of all. */
size_t cuda_choose_tagged(cuda_layout *l, cuda_address at);
/* Where tensor t lies, as operation i reads it, in a tagged step; 0: where it always does. */
cuda_address cuda_tagged_of(const cuda_layout *l, int i, int t);
/* Whether operation i reads what operation `since` or a later one left untagged; since -1: blocks
 * have not met yet. */
bool cuda_reads_untagged(const cuda_layout *l, int i, int since);

void cuda_layout_clear(cuda_layout *l); /* accepts an all-zero one */
