/* attend_many.cu - attention of steps of many rows: tiles of rows, or rows alone in their slots.
 *
 * Test: tests/backend/test_cuda_attend.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WEIR_EMULATED
    #include "machine.cuh"
    #include "machine_look.cuh"
#endif
#include "stage.h"

#include "weights.cuh"

#include "image.cuh"
#include "input.cuh"
#include "store.cuh"

#include "grid.cuh"
#include "keys.cuh"

#include "ring.cuh"
#include "rows.cuh"

#include "look.cuh"

#include "attend.cuh"

#include "attend_many.cuh"
#include "attend_tiles.cuh"

/* Whether these are for this model; layout.c asks the same. */
#define IS_FOR_MANY(w)                                                  \
    (WEIR_HEAD_DIM(w) % 16 == 0 && WEIR_HEAD_DIM(w) <= CUDA_MANY_DIM && \
     WEIR_KV_TYPE(w) != CUDA_KV_F32)

KERNEL_WIDE attend_tiles(PARAM cuda_world world) {
    if (IS_FOR_MANY(&world)) attend_all_tiles(&world, stage_at(&world, world.first));
}

/* Of up to 4, 8 and 16 query heads of a K/V head. */
#define PARTS_OF(lines, w)                                            \
    if (IS_FOR_MANY(w) && (lines == 4 || WEIR_HEADS == CUDA_HEADS) && \
        lines * WEIR_HEAD_DIM(w) <= CUDA_PART_SUMS)                   \
    attend_all_parts(w, stage_at(w, (w)->first), lines / 4)

KERNEL_PART attend_parts_4(PARAM cuda_world world) {
    PARTS_OF(4, &world);
}

KERNEL_PART attend_parts_8(PARAM cuda_world world) {
    PARTS_OF(8, &world);
}

KERNEL_PART attend_parts_16(PARAM cuda_world world) {
    PARTS_OF(16, &world);
}
