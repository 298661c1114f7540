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

/* A stage that is neither attention nor a product the fast way. */
WALK void run_plainly(const world_of *w, const cuda_stage *s) {
    switch (s->kind) {
    case CUDA_PHASES: tabulate(w); break;
    case CUDA_STORE:
        if (!w->alone) store_all(w, s);
        break;
    case NN_NORMALIZE: normalize(w, s); break;
    case NN_PROJECT:
        if (w->plain) project_plainly(w, s);
        break;
    default: each_element(w, s); break;
    }
}

/* What seldom runs is a function of its own for `walk`, whose code it would get in the way of.  Not
 * for `walk_one`: what is wanted behind a call lies in local memory, far away. */
COLD void run_apart(const cuda_world *w, const cuda_stage *s) {
    run_plainly(w, s);
}

/* Stage i, which is s. */
WALK void run_stage(const world_of *w, const cuda_stage *s, int i, ring *weights, grid_wait wait) {
    if (s->kind == NN_ATTEND) {
        if (w->fast) {
            attend_one(w, s, weights, wait);
        } else {
            attend_some(w, s, i, weights, wait);
        }
    } else if (s->kind == NN_PROJECT && !w->plain) {
        project(w, s, weights, wait);
    } else {
        grid_await(w, wait);
        if (w->fast) {
            run_plainly(w, s);
        } else {
            run_apart(w, s);
        }
    }
}

/* Stage i begins, or with i the number of stages the last one has ended. */
WALK void take_time(const world_of *w, int i) {
    if (w->times && BLOCK == 0 && THREAD == 0) ((u64 *)w->times)[i] = clock_now();
}

WALK cuda_stage *stage_place(const world_of *w, int turn) {
    return (cuda_stage *)(shared_bytes + w->shared.stages) + turn;
}

/* Stage i on its way to a place, while the one before it runs. */
WALK void fetch_stage(const world_of *w, int i, int turn) {
    const int at = fresh(THREAD) * 16;
    if (at < (int)sizeof(cuda_stage) && i < w->last) {
        copy_16((char *)stage_place(w, turn) + at, (const char *)stage_at(w, i) + at, true);
    }
    copies_commit();
}

/* The warps that work. */
WALK void walk_stages(const world_of *w) {
    unsigned count = 0;
    int turn = 0;
    ring weights = {0, 0};
    grid_wait wait = {0, 0, 0};
    launch_next();
    launch_wait();
    if (w->n <= CUDA_TOKENS) {
        const u64 *rows = (const u64 *)w->rows;
        for (int i = THREAD; i < w->n * (int)(sizeof(cuda_row) / 8); i += WORK_THREADS(w)) {
            ((u64 *)(shared_bytes + w->shared.rows))[i] = rows[i];
        }
        work_sync(w);
    }
    if (!w->plain && WARP == WORKERS(w) - 1) ring_know_rows(w);
    fetch_stage(w, w->first, 0);
    for (int i = THREAD; i <= CUDA_MARKS; i += WORK_THREADS(w)) {
        ((u64 *)(shared_bytes + w->shared.marks))[i] = i < CUDA_MARKS ? 0 : clock_now();
    }
    copies_wait(0);
    work_sync(w);
    if (has_keys(w) && WARP == 0) ring_allow(w, w->last);
    for (int i = w->first; i < w->last;) {
        const cuda_stage *s = stage_place(w, turn);
        const bool skips = (s->store_next && w->alone) || (s->wanted_next && w->tagged);
        const int next = i + 1 + skips;
        fetch_stage(w, next, turn ^ 1);
        if (s->kind != CUDA_STORE || !w->alone) {
            take_time(w, i);
            run_stage(w, s, i, &weights, wait);
        } else {
            grid_await(w, wait);
        }
        copies_wait(0);
        take_mark(w, 0);
        turn ^= 1;
        i = next;
        work_sync(w);
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

enum { WORKER_REGISTERS = CUDA_WORKERS > 8 ? 112 : 208 }; /* of a thread; machine_wide.cuh */

/* Most warps work; of those behind them the first copies. */
WALK void walk_with_feeder(const world_of *w) {
    if (WARP == WORKERS(w)) ring_open(w);
    block_sync();
    if (WARP >= WORKERS(w)) {
        wide_give_registers(WORKER_REGISTERS);
        if (WARP == WORKERS(w) && !w->plain) feed_block(w);
        return;
    }
    wide_take_registers(WORKER_REGISTERS);
    walk_stages(w);
}

#ifdef __cplusplus
/* What is known of every step, and of a tagged step of one row whose blocks have a unit of
 * attention each.  Names hide those of the same values that come from the host. */
struct fed : cuda_world {
    static constexpr int feeders = WALK_FEEDERS, fast = 0;
};
struct one_row : fed {
    static constexpr int n = 1, n_wanted = 1, alone = 1, tagged = 1, folds = 1, fast = 1, pass = 1;
    static constexpr int plain = 0;
    static constexpr cuda_address times = 0;
};
#else
typedef cuda_world fed, one_row;
#endif

KERNEL_WALK walk(PARAM cuda_world world) {
    walk_with_feeder((const fed *)&world);
}

/* Such a step, with less code and less to ask; it takes no times. */
KERNEL_WALK walk_one(PARAM cuda_world world) {
    know_threads(32 * (WALK_WORKERS + WALK_FEEDERS));
    walk_with_feeder((const one_row *)&world);
}
