/* quant.h - the element types checkpoints store and how their bytes become floats.
 *
 *   type   weights per block   bytes per block   x =
 *   F32    1                   4
 *   F16    1                   2
 *   BF16   1                   2
 *   Q8_0   32                  34                d * q            d f16, q int8
 *   Q4_0   32                  18                d * (q - 8)      low nibbles are weights 0..15
 *   Q4_1   32                  20                d * q + m
 *   Q5_0   32                  22                d * (q - 16)
 *   Q5_1   32                  24                d * q + m
 *   Q4_K   256                 144               d * sc * q - dmin * m, eight groups of 32
 *   Q5_K   256                 176               the same with a fifth bit
 *   Q6_K   256                 210               d * sc * (q - 32), sixteen groups of 16
 *
 *   F8_E4M3 1                 1                 e4m3, before the scales that lie beside it
 *
 * Block layouts are GGML's; quant.c draws each.  Fuzz: fuzz/fuzz_gguf.c; test:
 * tests/format/test_quant.c against golden files of the `gguf` package.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/status.h"

typedef enum tensor_type {
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_Q8_0,
    TENSOR_Q4_0,
    TENSOR_Q4_1,
    TENSOR_Q5_0,
    TENSOR_Q5_1,
    TENSOR_Q4_K,
    TENSOR_Q5_K,
    TENSOR_Q6_K,
    TENSOR_FP8,
    TENSOR_N_TYPES,
} tensor_type;

const char *tensor_type_name(tensor_type type); /* "Q4_K" */
int tensor_type_block(tensor_type type);        /* weights per block */
size_t tensor_type_block_bytes(tensor_type type);

/* Every weight is a number of its own, no block of levels with a scale. */
static inline bool tensor_type_is_float(tensor_type type) {
    return tensor_type_block(type) == 1;
}

/* Bytes of one row of n weights; n must be a multiple of the block. */
size_t tensor_row_bytes(tensor_type type, int64_t n);

/* One row of n weights to floats, exactly; FP8 without scales (plan_matrix_row has them).  n is a
 * multiple of the block. */
void tensor_row_to_float(tensor_type type, const void *row, float *out, int64_t n);

/* n floats to n / 32 blocks, the way GGML's reference quantiser does; n % 32 == 0. */
void quantize_row_q8_0(const float *x, void *row, int64_t n);
void quantize_row_q4_0(const float *x, void *row, int64_t n);
