/* walk.cu - the plan on the device: every block walks its stages, with grid barriers between.
 *
 *     for each stage in [first, last):  barrier; the block's share of the stage
 *
 * Launched over all stages it is the whole decode step of up to CUDA_TOKENS tokens as one kernel,
 * one block on every multiprocessor, weights streaming ahead of the barriers (ring.cuh).  Launched
 * one stage at a time it is the op-by-op twin: the same code, no barrier.  host.c does the same
 * with threads.  A product of more tokens takes two launches of wide.cu: one makes the inputs.
 *
 * Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WEIR_EMULATED
    #include "machine.cuh"
#endif
#include "stage.h"

#include "weights.cuh"

#include "input.cuh"
#include "store.cuh"

#include "grid.cuh"
#include "keys.cuh"

#include "ring.cuh"

#include "project.cuh"
#include "rows.cuh"

#include "look.cuh"

#include "attend.cuh"

/* Stage i, which is s. */
WALK void run_stage(const world_of *w, const cuda_stage *s, int i, ring *weights, grid_wait wait) {
    if (s->kind == NN_ATTEND) {
        attend(w, s, i, weights, wait);
        return;
    }
    if (s->kind == NN_PROJECT && !w->plain) {
        project(w, s, weights, wait);
        return;
    }
    grid_await(w, wait);
    switch (s->kind) {
    case CUDA_PHASES: tabulate(w); break;
    case CUDA_STORE: store_all(w, s); break;
    case NN_NORMALIZE: normalize(w, s); break;
    case NN_PROJECT: project_plainly(w, s); break;
    default: each_element(w, s); break;
    }
}

/* Stage i begins, or with i the number of stages the last one has ended. */
WALK void take_time(const world_of *w, int i) {
    if (w->times && BLOCK == 0 && THREAD == 0) ((u64 *)w->times)[i] = clock_now();
}

/* This thread's 16 bytes of stage i, on their way while the stage before runs. */
WALK bool fetch_stage(const world_of *w, int i, u32 part[4]) {
    if (THREAD * 16 >= (int)sizeof(cuda_stage) || i >= w->last) return false;
    load_16(part, (const char *)stage_at(w, i) + THREAD * 16);
    return true;
}

WALK cuda_stage *stage_place(const world_of *w, int turn) {
    return (cuda_stage *)(shared_bytes + w->shared.stages) + turn;
}

WALK void walk_stages(const world_of *w) {
    unsigned count = 0;
    int turn = 0;
    ring weights = {0};
    grid_wait wait = {0, 0, 0};
    u32 part[4];
    if (!w->plain) ring_open(w, &weights);
    launch_next();
    launch_wait();
    const bool has_keys = w->alone || w->last - w->first == 1; /* all that the step looks at */
    if (w->n <= CUDA_TOKENS) {
        const u64 *rows = (const u64 *)w->rows;
        for (int i = THREAD; i < w->n * (int)(sizeof(cuda_row) / 8); i += N_THREADS) {
            ((u64 *)(shared_bytes + w->shared.rows))[i] = rows[i];
        }
        block_sync();
    }
    if (!w->plain) ring_know_rows(w);
    if (!w->plain && has_keys) ring_allow(w, &weights, w->last);
    if (fetch_stage(w, w->first, part)) store_16((char *)stage_place(w, 0) + THREAD * 16, part);
    for (int i = THREAD; i <= CUDA_MARKS; i += N_THREADS) {
        ((u64 *)(shared_bytes + w->shared.marks))[i] = i < CUDA_MARKS ? 0 : clock_now();
    }
    block_sync();
    for (int i = w->first; i < w->last;) {
        const cuda_stage *s = stage_place(w, turn);
        const bool skips = (s->store_next && w->alone) || (s->wanted_next && w->tagged);
        const int next = i + 1 + skips;
        const bool fetched = fetch_stage(w, next, part);
        if (s->kind != CUDA_STORE || !w->alone) {
            take_time(w, i);
            run_stage(w, s, i, &weights, wait);
        } else {
            grid_await(w, wait);
        }
        if (fetched) store_16((char *)stage_place(w, turn ^ 1) + THREAD * 16, part);
        take_mark(w, 0);
        turn ^= 1;
        i = next;
        block_sync();
        s = stage_place(w, turn);
        wait.is_on = i < w->last && s->barrier;
        wait.is_loose = w->tagged && !s->meets;
        if (wait.is_on) grid_arrive(w, ++count, &wait);
    }
    take_time(w, w->last);
    if (w->times && THREAD <= CUDA_MARKS) {
        u64 *to = (u64 *)w->times + w->last + 1 + BLOCK * (CUDA_MARKS + 1);
        const u64 *marks = (const u64 *)(shared_bytes + w->shared.marks);
        to[THREAD] = THREAD < CUDA_MARKS ? marks[THREAD] : processor_now();
    }
}

KERNEL walk(PARAM cuda_world world) {
    walk_stages(&world);
}

#ifdef __cplusplus
/* What is known of a tagged step of one row whose blocks have a unit of attention each.  Its names
 * hide those of the same values that come from the host. */
struct one_row : cuda_world {
    static constexpr int n = 1, n_wanted = 1, alone = 1, tagged = 1, folds = 1, fast = 1, pass = 1;
    static constexpr int plain = 0;
    static constexpr cuda_address times = 0;
};
#else
typedef cuda_world one_row;
#endif

/* Such a step, with less code and less to ask; it takes no times. */
KERNEL walk_one(PARAM cuda_world world) {
    know_threads(32 * CUDA_SLICES);
    walk_stages((const one_row *)&world);
}
