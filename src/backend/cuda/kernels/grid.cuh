/* grid.cuh - the grid barrier: a block arrives when its stage is done, and waits when it has
 * nothing left to do that does not depend on the others.
 *
 * Arrivals are counted on one word that only grows; the host knows where it stands.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

typedef struct grid_wait {
    int is_on;
    unsigned target; /* arrivals */
} grid_wait;

/* The threads of the block have met.  The count-th barrier since barrier_base. */
DEVICE void grid_arrive(const cuda_world *w, unsigned count, grid_wait *wait) {
    wait->target = w->barrier_base + count * (unsigned)N_BLOCKS;
    if (THREAD == 0) add_release((unsigned *)w->barrier, 1);
}

DEVICE void grid_await(const cuda_world *w, grid_wait wait) {
    if (wait.is_on) {
        if (THREAD == 0) {
            while ((int)(load_acquire((const unsigned *)w->barrier) - wait.target) < 0) spin();
        }
        block_sync();
    }
    take_mark(w, 1);
}
