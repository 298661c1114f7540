/* cuda.h - the CUDA back end: one GPU, one plan, everything laid out when it opens.
 *
 *   driver.c    libcuda by dlopen, the device            layout.c   memory, stages
 *   compile.c   kernels by NVRTC, cached                 pack.c     weights into tiles
 *   build.c     kernels into an engine file              engine_file.c    and out of it
 *   upload.c    weights to the device                    store.c    rows out, in and into the pins
 *   cuda.c      opening and closing                      step.c     one step
 *   graph.c     its launches, recorded                   draw.c     tokens drawn on the device
 *   measure.c   the yardsticks of bench                  tags.c     values that need no barrier
 *   blocks.c    what a block of each kernel has          kernels/   what runs there
 *
 * A step of up to CUDA_TOKENS rows is one cooperative launch of `walk` over all stages, or, of a
 * row alone, mostly of `walk_one`, the same that knows it is one.  A larger step launches it stage
 * by stage, products by `prepare` and `wide`, attention by `attend_tiles` or `attend_parts`, all
 * else by `spread`, as one graph.  Levels (cuda-LEVEL) for tests and comparison:
 *
 *   ops     stage by stage always: the readable twin of the whole step
 *   plain   the same with products weight by weight
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/cuda/compile.h"
#include "backend/cuda/layout.h"
#include "base/thread.h"

enum {
    CUDA_THREADS = 256 /* of a block of spread, prepare and what is small, at most */,
    CUDA_STAGINGS = 2,
    CUDA_STAGING_BYTES = 32 << 20,
    CUDA_GRAPHS = 8 * CUDA_TURNS /* of shapes, in each turn */
};

typedef struct cuda_graph { /* the launches of steps of one shape; graph.c */
    cuda_world world;       /* their argument, but for what each of them sets itself */
    cuda_handle launches;   /* NULL: not recorded */
    bool failed;            /* cannot be recorded */
    uint64_t used;          /* when last; 0: never */
} cuda_graph;

typedef struct cuda {
    backend base;
    cuda_driver driver;
    cuda_device device;
    cuda_layout layout;
    cuda_address memory; /* [layout.bytes] */
    cuda_handle module, walk, walk_one, spread, prepare, draw, copy_rows, pin_row;
    cuda_handle wide[CUDA_WIDTHS], attend_tiles, attend_parts;
    int clusters[CUDA_WIDTHS][CUDA_CLUSTER + 1]; /* of so many blocks that run at once */
    int n_threads, n_draw_threads;               /* of a block of spread and others, of draw */
    bool by_stage, plain;
    unsigned barrier_count; /* arrivals at the grid barrier so far */
    unsigned tagged_steps;
    /* Pinned.  Steps take turns, so that one is made while the one before it runs:
     *     [CUDA_TURNS][layout.step_bytes] as upload_step packs a step
     *     [CUDA_TURNS][max_wanted] int    tokens, written by `draw`
     *     [max_wanted][stride] float      logits */
    char *host;
    size_t tokens_at, logits_at, host_bytes;
    cuda_handle done[CUDA_TURNS]; /* events: a step has ended ... */
    cuda_handle here[CUDA_TURNS]; /* ... and one is on the device */
    int turn, n_wanted;           /* of the last step */
    cuda_graph graphs[CUDA_GRAPHS];
    uint64_t n_replays; /* steps that asked for a graph */
    size_t staging_bytes;
    char *staging[CUDA_STAGINGS];      /* pinned; of weights, then of rows of the store */
    cuda_handle staged[CUDA_STAGINGS]; /* events: the copy out of it is done */
    backend_sizes sizes;
    char kernels[128], weight_type[48];
} cuda;

/* Packs all matrices and copies them to their places. upload.c */
weir_status cuda_upload_weights(cuda *c, const backend_options *o, weir_error *err);

/* Has whole steps take the clock at every stage from now on.  cuda_stage_times gives the cycles of
 * each stage of the last one, [layout.n_stages], and of every block the cycles up to each mark and
 * its multiprocessor, [device.n_blocks][CUDA_MARKS + 1]; for bench/gpu.c. */
void cuda_take_times(backend *b);
weir_status cuda_stage_times(backend *b, uint64_t *out, uint64_t *marks, weir_error *err);

/* What the kernels of a layout are compiled for. */
cuda_options cuda_options_of(const cuda_layout *l, const char *target);

/* Finds a kernel, which blocks with so many bytes of shared memory of their own will run. */
weir_status cuda_load(cuda *c, cuda_handle *out, const char *name, int shared_bytes,
                      weir_error *err);

/* One launch of a kernel.  It may begin, and load what no kernel writes, while the one before it
 * ends: kernels say where they wait. */
weir_status cuda_launch(cuda *c, cuda_handle kernel, int n_blocks, int n_threads, int shared_bytes,
                        void **arguments, weir_error *err);

/* The same in clusters of so many blocks (n_blocks is a multiple); 0 or 1: blocks by themselves. */
weir_status cuda_launch_clusters(cuda *c, cuda_handle kernel, int n_blocks, int cluster,
                                 int n_threads, int shared_bytes, void **arguments,
                                 weir_error *err);

/* How many clusters of so many blocks run at once. */
weir_status cuda_count_clusters(cuda *c, int *out, cuda_handle kernel, int cluster, int n_threads,
                                int shared_bytes, weir_error *err);

/* draw.c: writes the draws of a step behind what is packed at `to` already, *at bytes, and adds to
 * it; launches them; hands out what they gave. */
void cuda_pack_draws(const cuda *c, const batch *b, char *to, size_t *at, cuda_world *w);
weir_status cuda_launch_draws(cuda *c, cuda_world *w, weir_error *err);
weir_status cuda_drawn(backend *b, int back, int32_t *tokens, int n, weir_error *err);
int *cuda_tokens(const cuda *c, int turn); /* [max_wanted] */

/* step.c; run_stages launches an uploaded step stage by stage. */
weir_status cuda_run_stages(cuda *c, const batch *b, cuda_world *w, weir_error *err);
weir_status cuda_fetch(backend *b, int i, weir_error *err);
weir_status cuda_step(backend *b, const batch *rows, weir_error *err);
const float *cuda_logits(const backend *b, int i);

/* graph.c: the same as a graph, once its shape has come again. */
weir_status cuda_replay(cuda *c, const batch *b, cuda_world *w, weir_error *err);
void cuda_forget_graphs(cuda *c);

/* measure.c */
weir_status cuda_measure_rates(backend *b, weir_rates *out, weir_error *err);

/* store.c */
weir_status cuda_pin_row(backend *b, int slot, uint64_t pos, int pin, weir_error *err);
size_t cuda_row_bytes(const backend *b, bool is_pin);
weir_status cuda_export_rows(backend *b, int slot, bool is_pin, int row, int n, void *out,
                             weir_error *err);
weir_status cuda_import_rows(backend *b, int slot, bool is_pin, int row, int n, const void *in,
                             weir_error *err);

static inline cuda_address cuda_step_at(const cuda *c) { /* the block of this turn */
    return c->layout.step + (cuda_address)c->turn * c->layout.step_bytes;
}

static inline cuda *cuda_of(backend *b) {
    return (cuda *)(void *)b;
}

static inline const cuda *cuda_of_const(const backend *b) {
    return (const cuda *)(const void *)b;
}
