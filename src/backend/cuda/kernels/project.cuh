/* project.cuh - y = [residual +] pre(x) W^T [+ b] for few tokens, at the speed of memory.
 *
 *   x [n, cols] f32   W packed [rows, cols]   y [n, rows] f32
 *
 * Blocks take tiles of 16 rows in turn.  k is cut into CUDA_SLICES slices, one a warp; a warp
 * multiplies its slice on the matrix units as its chunks of weights come in (ring.cuh), and the
 * sums of the slices are added in their order.  A pass takes up to CUDA_TOKENS tokens and reads
 * all weights once: rows * cols * (bytes of a weight) from memory, which is the roof.  Inputs are
 * made by every block for itself in shared memory.
 *
 * A token's sums do not depend on the other tokens, bit for bit.
 * CPU twin: cpu/project.c.  Test: tests/backend/test_cuda_project.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

/* Sum of a slice of a tile to parts [CUDA_TOKENS][CUDA_TILE]. */
DEVICE void put_part(const float all[CUDA_TOKENS][4], bool is_f32, float *parts) {
    if (!is_f32) { /* hi and lo columns of token lane % 4; rows lane / 4 and + 8 */
        float *to = parts + LANE % 4 * CUDA_TILE + LANE / 4;
        to[0] = all[0][0] + all[0][1];
        to[8] = all[0][2] + all[0][3];
        return;
    }
    UNROLL for (int t = 0; t < CUDA_TOKENS; t++) {
        UNROLL for (int j = 0; j < 4; j++) {
            float sum = all[t][j];
            UNROLL for (int mask = 4; mask < 32; mask *= 2) sum += shuffle_xor(sum, mask);
            if (LANE < 4) parts[t * CUDA_TILE + LANE * 4 + j] = sum;
        }
    }
}

DEVICE void multiply_slice(const cuda_world *w, const cuda_matrix *m, int slice, ring *weights,
                           const input_view *x, float *parts) {
    float all[CUDA_TOKENS][4];
    UNROLL for (int i = 0; i < CUDA_TOKENS * 4; i++) all[i / 4][i % 4] = 0;
    const int end = slice_from(m->n_blocks, slice + 1);
    for (int block = slice_from(m->n_blocks, slice); block < end;) {
        const int n = end - block < m->chunk_blocks ? end - block : m->chunk_blocks;
        const char *chunk = ring_read(weights);
        if (m->format == CUDA_F32) {
            multiply_floats(chunk, block, n, x, all);
        } else {
            multiply_blocks(m->format, chunk, block, n, x, 1, all);
        }
        ring_done(w, weights);
        block += n;
    }
    put_part(all, m->format == CUDA_F32, parts);
}

/* One output: the slices' sums in order, scaled back, with bias and residual. */
DEVICE float finish(const cuda_stage *s, float sum, float scale, int row, int r) {
    sum /= scale; /* a power of two */
    if (s->matrix.bias) sum += ((const float *)s->matrix.bias)[row];
    return s->residual.at ? sum + load_float(row_of(&s->residual, r) + row) : sum;
}

DEVICE void finish_tile(const cuda_stage *s, int tile, const float *parts, const float *scales,
                        int first, int tokens) {
    for (int i = THREAD; i < tokens * CUDA_TILE; i += N_THREADS) {
        const int t = i / CUDA_TILE, row = tile * CUDA_TILE + i % CUDA_TILE;
        if (row >= s->matrix.rows) continue;
        float sum = 0;
        for (int slice = 0; slice < CUDA_SLICES; slice++) {
            sum += parts[slice * CUDA_TOKENS * CUDA_TILE + i];
        }
        row_of(&s->out, first + t)[row] = finish(s, sum, scales[t], row, first + t);
    }
}

DEVICE void make_inputs(const cuda_world *w, const cuda_stage *s, int first, int tokens) {
    float *scratch = (float *)(shared_bytes + w->shared.scales) + CUDA_TOKENS;
    for (int t = 0; t < tokens; t++) {
        input_place to;
        to.words = (u32 *)(shared_bytes + w->shared.input) + t * 16;
        to.sums = (float *)(shared_bytes + w->shared.sums) + t;
        to.scale = (float *)(shared_bytes + w->shared.scales) + t;
        to.stride = tokens;
        make_input(s, first + t, &to, scratch);
    }
    block_sync();
}

DEVICE void project(const cuda_world *w, const cuda_stage *s, ring *weights) {
    const int n = rows_of(w, &s->out), step = CUDA_SLICES * CUDA_TOKENS * CUDA_TILE;
    float *parts = (float *)(shared_bytes + w->shared.parts);
    for (int first = 0; first < n; first += w->shared.pass) {
        const int tokens = n - first < w->shared.pass ? n - first : w->shared.pass;
        block_sync(); /* the pass before is done with inputs and parts */
        make_inputs(w, s, first, tokens);
        input_view x;
        x.words = (const u32 *)(shared_bytes + w->shared.input);
        x.sums = (const float *)(shared_bytes + w->shared.sums);
        x.tokens = x.stride = x.sum_stride = tokens;
        int half = 0; /* parts of one tile are added while those of the next are made */
        for (int tile = BLOCK; tile < s->matrix.n_tiles; tile += N_BLOCKS, half ^= 1) {
            for (int slice = WARP; slice < CUDA_SLICES; slice += N_WARPS) {
                multiply_slice(w, &s->matrix, slice, weights, &x,
                               parts + half * step + slice * CUDA_TOKENS * CUDA_TILE);
            }
            block_sync();
            finish_tile(s, tile, parts + half * step,
                        (const float *)(shared_bytes + w->shared.scales), first, tokens);
        }
    }
}

/* The readable twin: a warp an output, a weight at a time. */
DEVICE void project_plainly(const cuda_world *w, const cuda_stage *s) {
    cuda_stage plain = *s;
    plain.matrix.format = CUDA_F32; /* of the input: floats */
    for (int r = 0; r < rows_of(w, &s->out); r++) {
        block_sync();
        make_inputs(w, &plain, r, 1);
        const float *x = (const float *)(shared_bytes + w->shared.input);
        for (int row = BLOCK * N_WARPS + WARP; row < s->matrix.rows; row += N_BLOCKS * N_WARPS) {
            float sum = 0;
            for (int k = LANE; k < s->matrix.cols; k += 32)
                sum += weight_at(&s->matrix, row, k) * x[k];
            sum = warp_sum(sum);
            if (LANE == 0) row_of(&s->out, r)[row] = finish(s, sum, 1, row, r);
        }
    }
}
