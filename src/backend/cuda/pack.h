/* pack.h - weights laid out for the matrix units: tiles of 16 output rows.
 *
 * kernels/weights.cuh draws the blocks.  A tile is made from a panel of cpu/pack.h, which takes
 * every stored type apart without loss: scales stay, levels change their order, rows of halves
 * and floats are filled up with zeros to whole blocks.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/cpu/pack.h"
#include "backend/cuda/stage.h"

/* The sizes of a matrix of n_rows x cols of a format; tiles and bias are left alone. */
void cuda_shape(cuda_matrix *out, pack_format format, int rows, int cols);

/* n_rows <= 16 stored rows of `type`, [cols] each, to one tile of tile_bytes of m; scratch has as
 * many bytes. */
void cuda_pack_tile(const cuda_matrix *m, tensor_type type, const void *const rows[CUDA_TILE],
                    int n_rows, char *scratch, char *tile);
