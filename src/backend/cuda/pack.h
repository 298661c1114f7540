/* pack.h - weights laid out for the matrix units: tiles of 16 output rows.
 *
 * kernels/weights.cuh draws the blocks.  A tile is made from a panel of cpu/pack.h, which takes
 * every stored type apart without loss: scales stay, levels change their order, rows of halves
 * and floats are filled up with zeros to whole blocks.  FP8 has no panel: rows come as blocks of 64
 * weights, their scale (f32) in front.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/cpu/pack.h"
#include "backend/cuda/stage.h"

enum { CUDA_FP8_SPAN = 64, CUDA_FP8_BYTES = 4 + CUDA_FP8_SPAN }; /* of a block of a row */

cuda_format cuda_format_of(tensor_type type);
const char *cuda_format_name(cuda_format format);

/* Bytes of a row that cuda_pack_tile takes. */
size_t cuda_pack_row_bytes(tensor_type type, int cols);

/* The sizes of a matrix of n_rows x cols of a format; tiles and bias are left alone. */
void cuda_shape(cuda_matrix *out, cuda_format format, int rows, int cols);

/* n_rows <= 16 stored rows of `type`, [cols] each, to one tile of tile_bytes of m; scratch has as
 * many bytes. */
void cuda_pack_tile(const cuda_matrix *m, tensor_type type, const void *const rows[CUDA_TILE],
                    int n_rows, char *scratch, char *tile);
