/* walk.cu - the plan on the device: every block walks its stages, with grid barriers between.
 *
 *     for each stage in [first, last):  barrier; the block's share of the stage
 *
 * Launched over all stages it is the whole decode step of up to CUDA_TOKENS tokens as one kernel,
 * one block on every multiprocessor, weights streaming ahead of the barriers (ring.cuh).  Launched
 * one stage at a time it is the op-by-op twin: the same code, no barrier.  host.c does the same
 * with threads.
 *
 * A grid barrier counts arrivals on one word that only grows; the host knows where it stands.
 * Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WEIR_EMULATED
    #include "machine.cuh"
#endif
#include "stage.h"

#include "weights.cuh"

#include "input.cuh"
#include "ring.cuh"

#include "project.cuh"
#include "rows.cuh"
#include "store.cuh"

#include "attend.cuh"

/* All blocks have come here `count` times since barrier_base. */
DEVICE void grid_barrier(const cuda_world *w, unsigned count) {
    unsigned *word = (unsigned *)w->barrier;
    block_sync();
    if (THREAD == 0) {
        const unsigned target = w->barrier_base + count * (unsigned)N_BLOCKS;
        add_release(word, 1);
        while ((int)(load_acquire(word) - target) < 0) spin();
    }
    block_sync();
}

DEVICE void run_stage(const cuda_world *w, const cuda_stage *s, ring *weights) {
    switch (s->kind) {
    case CUDA_PHASES: tabulate(w); break;
    case CUDA_STORE: store_all(w, s); break;
    case NN_NORMALIZE: normalize(w, s); break;
    case NN_ATTEND: attend(w, s); break;
    case NN_PROJECT:
        if (w->plain) {
            project_plainly(w, s);
        } else {
            project(w, s, weights);
        }
        break;
    default: each_element(w, s); break;
    }
}

KERNEL walk(PARAM cuda_world world) {
    const cuda_world *w = &world;
    unsigned count = 0;
    ring weights;
    if (!w->plain) ring_open(w, &weights);
    for (int i = w->first; i < w->last; i++) {
        const cuda_stage *s = stage_at(w, i);
        if (s->kind == CUDA_STORE && w->alone) continue;
        if (s->barrier && i > w->first) grid_barrier(w, ++count);
        run_stage(w, s, &weights);
    }
}
