/* grid.cuh - the grid barrier: a block arrives when its stage is done, and waits when it has
 * nothing left to do that does not depend on the others.
 *
 * Arrivals are counted on one word that only grows; the host knows where it stands.
 *
 * Where values are tagged (input.cuh) a barrier is loose: arriving does not wait until what was
 * written is there, and blocks go on when nearly all have arrived.  It keeps blocks from asking for
 * values that cannot be there yet, which would slow down the copies of weights; it orders nothing.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

typedef struct grid_wait {
    int is_on, is_loose;
    unsigned target; /* arrivals */
} grid_wait;

enum { LATE_BLOCKS = 40 }; /* that are not waited for at a loose barrier */

/* The threads that work have met.  The count-th barrier since barrier_base. */
WALK void grid_arrive(const world_of *w, unsigned count, grid_wait *wait) {
    wait->target = w->barrier_base + count * (unsigned)N_BLOCKS;
    if (THREAD != 0) return;
    if (wait->is_loose) {
        add_relaxed((unsigned *)w->barrier, 1);
    } else {
        add_release((unsigned *)w->barrier, 1);
    }
}

WALK void grid_await(const world_of *w, grid_wait wait) {
    if (wait.is_on) {
        const unsigned *arrived = (const unsigned *)w->barrier;
        if (THREAD == 0 && wait.is_loose) {
            while ((int)(load_counter(arrived) + LATE_BLOCKS - wait.target) < 0) spin();
        } else if (THREAD == 0) {
            while ((int)(load_acquire(arrived) - wait.target) < 0) spin();
        }
        work_sync(w);
    }
    take_mark(w, 1);
}
