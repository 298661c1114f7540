/* wide.cu - a product of many tokens: its inputs, and the product by tiles of 16 to 256 tokens.
 *
 * Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WEIR_EMULATED
    #include "machine.cuh"
#endif
#include "stage.h"

#include "weights.cuh"

#include "image.cuh"
#include "input.cuh"
#include "store.cuh"

#include "grid.cuh"
#include "keys.cuh"

#include "ring.cuh"

#include "project.cuh"

#include "prepare.cuh"
#include "wide.cuh"

#include "few.cuh"

KERNEL_SPREAD prepare(PARAM cuda_world world) {
    prepare_wide(&world);
}

KERNEL_WIDE wide_16(PARAM cuda_world world) {
    multiply_few(&world, 16);
}

KERNEL_WIDE wide_32(PARAM cuda_world world) {
    multiply_few(&world, 32);
}

KERNEL_WIDE wide_64(PARAM cuda_world world) {
    multiply_few(&world, 64);
}

KERNEL_WIDE wide_128(PARAM cuda_world world) {
    multiply_wide(&world, 128);
}

KERNEL_WIDE wide_256(PARAM cuda_world world) {
    multiply_wide(&world, 256);
}
