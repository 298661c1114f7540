/* project.cuh - y = [residual +] pre(x) W^T [+ b], weights at the speed of memory.
 *
 *   x [n, cols] f32   W packed [rows, cols]   y [n, rows] f32
 *
 * Blocks take tiles of 16 rows in turn.  k is cut into CUDA_SLICES slices, one a warp; a warp
 * multiplies its slice on the matrix units as its chunks of weights come in (ring.cuh), and the
 * sums of the slices are added in their order.  A pass takes up to CUDA_TOKENS tokens and reads
 * all weights once: rows * cols * (bytes of a weight) from memory, which is the roof.  Inputs are
 * made by every block for itself in shared memory.
 *
 * More tokens are the business of wide.cuh, but for F32 weights.  A token's sums do not depend on
 * the other tokens, bit for bit.
 * CPU twin: cpu/project.c.  Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

/* Sum of a slice of a tile to parts [tokens][CUDA_TILE]: hi and lo columns of token lane % 4, or
 * the sums of four groups of levels, of rows lane / 4 and + 8. */
DEVICE void put_part(int format, float all[][4], float *parts, int tokens) {
    const int t = LANE % 4;
    float sums[2];
    UNROLL for (int i = 0; i < 2; i++) {
        if (format == CUDA_F16 || format == CUDA_BF16 || format == CUDA_FP8) {
            sums[i] = all[0][2 * i] + all[0][2 * i + 1];
        } else if (tokens > 1) {
            sums[i] = (all[0][i] + all[1][i]) + (all[2][i] + all[3][i]);
        } else {
            sums[i] = all[0][i] + shuffle_xor(all[0][i], 1);
            sums[i] += shuffle_xor(sums[i], 2);
        }
    }
    if (t >= tokens) return;
    parts[t * CUDA_TILE + LANE / 4] = sums[0];
    parts[t * CUDA_TILE + LANE / 4 + 8] = sums[1];
}

/* The same of F32: all is [CUDA_TOKENS][rows 4 * (lane % 4) .. + 3], of this lane's k. */
DEVICE void put_part_of_floats(float all[][4], float *parts, int tokens) {
    UNROLL for (int t = 0; t < CUDA_TOKENS; t++) {
        UNROLL for (int j = 0; j < 4; j++) {
            float sum = all[t][j];
            UNROLL for (int mask = 4; mask < 32; mask *= 2) sum += shuffle_xor(sum, mask);
            if (LANE < 4 && t < tokens) parts[t * CUDA_TILE + LANE * 4 + j] = sum;
        }
    }
}

/* Of F32 a row of `all` is a token's, of others as multiply_blocks has it. */
DEVICE void multiply_slice(const cuda_world *w, const cuda_matrix *m, int slice, ring *weights,
                           const input_view *x, float *parts) {
    float all[CUDA_TOKENS][4];
    const bool is_f32 = HAS_FORMAT(CUDA_F32) && FORMAT_OF(m) == CUDA_F32;
    UNROLL for (int i = 0; i < 4 * CUDA_TOKENS; i++) all[i / 4][i % 4] = 0;
    const int end = slice_from(m->n_blocks, slice + 1);
    for (int block = slice_from(m->n_blocks, slice); block < end;) {
        const int n = end - block < m->chunk_blocks ? end - block : m->chunk_blocks;
        const char *chunk = ring_read(weights);
        if (is_f32) {
            multiply_floats(chunk, block, n, x, all);
        } else {
            multiply_blocks(FORMAT_OF(m), chunk, block, n, x, all);
        }
        ring_done(w, weights);
        block += n;
    }
    if (is_f32) {
        put_part_of_floats(all, parts, x->tokens);
    } else {
        put_part(FORMAT_OF(m), all, parts, x->tokens);
    }
}

/* What comes on top of a product: bias and residual. */
typedef struct addend {
    float bias, residual;
} addend;

DEVICE addend addend_of(const cuda_stage *s, int packed, int r) {
    const int row = CUDA_ROW_OF(s->matrix.gated, packed);
    addend a = {0, 0};
    if (packed >= s->matrix.rows) return a;
    if (s->matrix.bias) a.bias = ((const float *)s->matrix.bias)[row];
    if (s->residual.at) a.residual = load_float(row_of(&s->residual, r) + row);
    return a;
}

/* parts [CUDA_SLICES][tokens][CUDA_TILE] to outputs: sums in order, scaled back, folded where that
 * is meant; a warp.  `early` is what this lane's first output adds. */
DEVICE void finish_tile(const cuda_stage *s, int tile, const float *parts, const float *scales,
                        int first, int tokens, addend early, bool is_folded) {
    for (int from = 0; from < tokens * CUDA_TILE; from += 32) { /* whole warps */
        const int i = from + LANE, t = i / CUDA_TILE, packed = tile * CUDA_TILE + i % CUDA_TILE;
        const bool is_in = t < tokens && packed < s->matrix.rows;
        float sum = 0;
        if (is_in) {
            const addend a = from == 0 ? early : addend_of(s, packed, first + t);
            UNROLL for (int slice = 0; slice < CUDA_SLICES; slice++) {
                sum += parts[slice * tokens * CUDA_TILE + i];
            }
            sum = sum * scales[t] + a.bias + a.residual;
        }
        if (is_folded) {
            const float up = shuffle_xor(sum, 8);
            sum = act_of(s->act, sum) * up;
        }
        if (is_in && !(is_folded && i % CUDA_TILE >= 8)) {
            row_of(&s->out, first + t)[CUDA_ROW_OF(s->matrix.gated, packed)] = sum;
        }
    }
}

/* Where token t of a pass goes in shared memory. */
DEVICE input_place place_of(const cuda_world *w, int t, int tokens) {
    float *scales = (float *)(shared_bytes + w->shared.scales);
    const input_place to = {(u32 *)(shared_bytes + w->shared.input) + t * 16, scales + t,
                            scales + CUDA_TOKENS + (t + 1) * CUDA_SLICES, tokens};
    return to;
}

/* Inputs of a pass; its scales are there when the threads of the block have met once more. */
DEVICE void make_inputs(const cuda_world *w, const cuda_stage *s, int format, int first, int tokens,
                        float norm[FEW_QUADS][4]) {
    float *scratch = (float *)(shared_bytes + w->shared.scales) + CUDA_TOKENS;
    for (int t = 0; t < tokens; t++) {
        const input_place to = place_of(w, t, tokens);
        make_input(s, format, first + t, &to, scratch, s->folded && w->folds, norm);
    }
    block_sync();
    for (int t = N_WARPS - 1 - WARP; t < tokens; t += N_WARPS) {
        const input_place to = place_of(w, t, tokens);
        settle_scale(s, &to);
    }
}

/* Tiles are taken as many at a time as there are warps: each warp makes its slice of all of them,
 * then each finishes one, while those of the next group go to the other half of parts. */
DEVICE void project(const cuda_world *w, const cuda_stage *s, ring *weights, grid_wait wait) {
    const int n = rows_of(w, &s->out);
    float norm[FEW_QUADS][4];
    load_norm(s, FORMAT_OF(&s->matrix), 0, norm);
    grid_await(w, wait);
    for (int first = 0; first < n; first += w->pass) {
        const int tokens = n - first < w->pass ? n - first : w->pass;
        const int step = CUDA_SLICES * tokens * CUDA_TILE;
        if (first > 0) block_sync(); /* the pass before is done with inputs and parts */
        make_inputs(w, s, FORMAT_OF(&s->matrix), first, tokens, norm);
        take_mark(w, 2);
        input_view x;
        x.words = (const u32 *)(shared_bytes + w->shared.input);
        x.tokens = x.stride = tokens;
        float *parts = (float *)(shared_bytes + w->shared.parts);
        float *other = parts + N_WARPS * step;
        for (int tile = BLOCK; tile < s->matrix.n_tiles; tile += N_BLOCKS * N_WARPS) {
            const int mine = tile + WARP * N_BLOCKS; /* that this warp finishes */
            addend early = {0, 0};
            if (mine < s->matrix.n_tiles && LANE < tokens * CUDA_TILE) {
                early = addend_of(s, mine * CUDA_TILE + LANE % CUDA_TILE, first + LANE / CUDA_TILE);
            }
            for (int i = 0; i < N_WARPS && tile + i * N_BLOCKS < s->matrix.n_tiles; i++) {
                for (int slice = WARP; slice < CUDA_SLICES; slice += N_WARPS) {
                    float *part = parts + i * step + slice * tokens * CUDA_TILE;
                    if (tokens == 1) { /* addresses are constants then */
                        const input_view one = {x.words, 1, 1};
                        multiply_slice(w, &s->matrix, slice, weights, &one, part);
                    } else {
                        multiply_slice(w, &s->matrix, slice, weights, &x, part);
                    }
                }
            }
            take_mark(w, 3);
            block_sync();
            take_mark(w, 4);
            if (mine < s->matrix.n_tiles) {
                finish_tile(s, mine, parts + WARP * step,
                            (const float *)(shared_bytes + w->shared.scales), first, tokens, early,
                            s->folded && s->matrix.gated && w->folds);
            }
            take_mark(w, 5);
            float *const swap = parts;
            parts = other;
            other = swap;
        }
    }
}

/* The readable twin: a warp an output, a weight at a time. */
COLD void project_plainly(const cuda_world *w, const cuda_stage *s) {
    float norm[FEW_QUADS][4];
    load_norm(s, CUDA_F32, 0, norm);
    for (int r = 0; r < rows_of(w, &s->out); r++) {
        block_sync();
        make_inputs(w, s, CUDA_F32, r, 1, norm); /* floats */
        const float *x = (const float *)(shared_bytes + w->shared.input);
        for (int row = BLOCK * N_WARPS + WARP; row < s->matrix.rows; row += N_BLOCKS * N_WARPS) {
            float sum = 0;
            for (int k = LANE; k < s->matrix.cols; k += 32)
                sum += weight_at(&s->matrix, row, k) * x[k];
            sum = warp_sum(sum);
            const addend a = addend_of(s, row, r);
            if (LANE == 0) row_of(&s->out, r)[row] = sum + a.bias + a.residual;
        }
    }
}
