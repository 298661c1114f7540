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

/* Whether chunks of a format are multiplied two at a time; a super-block is enough by itself. */
DEVICE bool has_pairs(int format) {
    return format != CUDA_F32 && format != CUDA_K4 && format != CUDA_K5 && format != CUDA_K6;
}

/* Sum of a slice of a tile to parts [tokens][CUDA_TILE]: hi and lo columns of token lane % 4, or
 * the sums of four groups of levels, of rows lane / 4 and + 8. */
DEVICE void put_part(int format, float all[][4], float *parts, int tokens) {
    const int t = LANE % 4;
    float sums[2];
    UNROLL for (int i = 0; i < 2; i++) {
        if (format == CUDA_F16 || format == CUDA_BF16 || format == CUDA_FP8) {
            float pair[2];
            UNROLL for (int k = 0; k < 2; k++) {
                const int j = 2 * i + k;
                pair[k] = (all[0][j] + all[1][j]) + (all[2][j] + all[3][j]);
            }
            sums[i] = pair[0] + pair[1];
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

/* A warp's slice of a tile to parts.  Of F32 a row of `all` is a token's, of others as
 * multiply_blocks has it. */
WALK void multiply_slice(const world_of *w, const cuda_matrix *m, int slice, ring *weights,
                         const input_view *x, float *parts) {
    float all[CUDA_TOKENS][4];
    const bool is_f32 = HAS_FORMAT(CUDA_F32) && FORMAT_OF(m) == CUDA_F32;
    const int end = slice_from(m->n_blocks, slice + 1), most = m->chunk_blocks;
    int block = slice_from(m->n_blocks, slice);
    UNROLL for (int i = 0; i < 4 * CUDA_TOKENS; i++) all[i / 4][i % 4] = 0;
    while (block < end) {
        const int n = end - block < most ? end - block : most;
        const weight_chunk c = {ring_read(weights), block};
        if (is_f32) {
            multiply_floats(c.at, block, n, x, all);
        } else {
            multiply_blocks(FORMAT_OF(m), &c, 1, n, x, all);
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

/* The same slice of two tiles that are a chunk each, to parts and `step` behind.  (Two chunks of
 * one slice at a time are slower than one: it has too few slots left on their way.) */
WALK void multiply_two(const world_of *w, const cuda_matrix *m, int first, int n, ring *weights,
                       const input_view *x, float *parts, int step) {
    float all[2 * CUDA_TOKENS][4];
    UNROLL for (int i = 0; i < 8 * CUDA_TOKENS; i++) all[i / 4][i % 4] = 0;
    const weight_chunk c[2] = {{ring_read(weights), first}, {ring_read_second(weights), first}};
    multiply_blocks(FORMAT_OF(m), c, 2, n, x, all);
    ring_done_two(w, weights);
    put_part(FORMAT_OF(m), all, parts, x->tokens);
    put_part(FORMAT_OF(m), all + CUDA_TOKENS, parts + step, x->tokens);
}

/* This warp's slices of up to a tile a warp, n_tiles of which are left from `tile` on. */
WALK void multiply_tiles(const world_of *w, const cuda_matrix *m, int tile, ring *weights,
                         const input_view *x, float *parts) {
    const int step = CUDA_SLICES * x->tokens * CUDA_TILE, part = x->tokens * CUDA_TILE;
    int i = 0;
    if (has_pairs(FORMAT_OF(m)) && x->tokens == 1 && N_WARPS == CUDA_SLICES &&
        weights->n_slots > 2) {
        const int first = slice_from(m->n_blocks, WARP), n_tiles = m->n_tiles;
        const int n = slice_from(m->n_blocks, WARP + 1) - first;
        if (n > 0 && n <= m->chunk_blocks) {
            for (; i + 1 < N_WARPS && tile + (i + 1) * N_BLOCKS < n_tiles; i += 2) {
                multiply_two(w, m, first, n, weights, x, parts + i * step + WARP * part, step);
            }
        }
    }
    for (; i < N_WARPS && tile + i * N_BLOCKS < m->n_tiles; i++) {
        for (int slice = WARP; slice < CUDA_SLICES; slice += N_WARPS) {
            multiply_slice(w, m, slice, weights, x, parts + i * step + slice * part);
        }
    }
}

/* What comes on top of a product: bias and residual. */
typedef struct addend {
    float bias, residual;
} addend;

DEVICE int row_of_packed(const cuda_stage *s, int packed) {
    return CUDA_ROW_OF((u32)s->matrix.gated, (u32)packed);
}

WALK addend addend_of(const world_of *w, const cuda_stage *s, int packed, int r) {
    const int row = row_of_packed(s, packed);
    addend a = {0, 0};
    if (packed >= s->matrix.rows) return a;
    if (s->matrix.bias) a.bias = ((const float *)s->matrix.bias)[row];
    if (s->residual.at) a.residual = load_relaxed(value_at(w, &s->residual, r, row));
    return a;
}

/* parts [CUDA_SLICES][..][CUDA_TILE], `step` apart. */
DEVICE float sum_of_slices(const float *parts, int step) {
    float sum[CUDA_SLICES];
    UNROLL for (int i = 0; i < CUDA_SLICES; i++) sum[i] = parts[i * step];
    UNROLL for (int n = CUDA_SLICES / 2; n > 0; n /= 2) {
        UNROLL for (int i = 0; i < n; i++) sum[i] += sum[i + n];
    }
    return sum[0];
}

/* parts [CUDA_SLICES][tokens][CUDA_TILE] to outputs: sums in order, scaled back, folded where that
 * is meant; a warp.  `early` is what this lane's first output adds. */
WALK void finish_tile(const world_of *w, const cuda_stage *s, int tile, const float *parts,
                      const float *scales, int first, int tokens, addend early, bool is_folded) {
    for (int from = 0; from < tokens * CUDA_TILE; from += 32) { /* whole warps */
        const int i = from + LANE, t = (u32)i / CUDA_TILE, k = (u32)i % CUDA_TILE;
        const int packed = tile * CUDA_TILE + k, row = row_of_packed(s, packed);
        const bool is_in = t < tokens && packed < s->matrix.rows;
        float sum = 0;
        if (is_in) {
            const addend a = from == 0 ? early : addend_of(w, s, packed, first + t);
            const float *at = value_at(w, &s->residual, first + t, row);
            sum = sum_of_slices(parts + i, tokens * CUDA_TILE);
            sum = sum * scales[t] + a.bias + settle_value(w, &s->residual, at, a.residual);
        }
        if (is_folded) {
            const float up = shuffle_xor(sum, 8);
            sum = act_of(s->act, sum) * up;
        }
        if (is_in && !(is_folded && k >= 8)) put_value(w, &s->out, first + t, row, sum);
    }
}

/* Where token t of a pass goes in shared memory. */
WALK input_place place_of(const world_of *w, int t, int tokens) {
    float *scales = (float *)(shared_bytes + w->shared.scales);
    const input_place to = {(u32 *)(shared_bytes + w->shared.input) + t * 16, scales + t,
                            scales + CUDA_TOKENS + (t + 1) * CUDA_SLICES, tokens};
    return to;
}

/* Inputs of a pass; its scales are there when the threads of the block have met once more. */
WALK void make_inputs(const world_of *w, const cuda_stage *s, int format, int first, int tokens,
                      float norm[FEW_QUADS][4]) {
    float *scratch = (float *)(shared_bytes + w->shared.scales) + CUDA_TOKENS;
    for (int t = 0; t < tokens; t++) {
        const input_place to = place_of(w, t, tokens);
        const bool is_long = s->matrix.cols > 4 * FEW_QUADS * N_THREADS; /* norm: its last turn's */
        if (is_long && first + t > 0) load_norm(s, format, 0, FEW_QUADS, norm);
        make_input(w, s, format, first + t, &to, scratch, s->folded && w->folds, norm);
    }
    block_sync();
    for (int t = N_WARPS - 1 - WARP; t < tokens; t += N_WARPS) {
        const input_place to = place_of(w, t, tokens);
        settle_scale(s, &to);
    }
}

/* What this lane's output of a tile adds; tokens [first, first + tokens). */
WALK addend early_addend(const world_of *w, const cuda_stage *s, int tile, int first, int tokens) {
    addend none = {0, 0};
    if (tile >= s->matrix.n_tiles || LANE >= tokens * CUDA_TILE) return none;
    return addend_of(w, s, tile * CUDA_TILE + LANE % CUDA_TILE, first + LANE / CUDA_TILE);
}

/* Tokens of a pass, whose inputs are made.  Tiles are taken as many at a time as there are warps:
 * each warp makes its slice of all of them, then each finishes one, while those of the next group
 * go to the other half of parts.  early: early_addend of this warp's first. */
WALK void project_pass(const world_of *w, const cuda_stage *s, ring *weights, int first, int tokens,
                       addend early) {
    const int step = CUDA_SLICES * tokens * CUDA_TILE, n_tiles = s->matrix.n_tiles;
    input_view x;
    x.words = (const u32 *)(shared_bytes + w->shared.input);
    x.tokens = x.stride = tokens;
    float *parts = (float *)(shared_bytes + w->shared.parts);
    float *other = parts + N_WARPS * step;
    for (int tile = BLOCK; tile < n_tiles; tile += N_BLOCKS * N_WARPS) {
        const int mine = tile + WARP * N_BLOCKS; /* that this warp finishes */
        if (tile != BLOCK) early = early_addend(w, s, mine, first, tokens);
        multiply_tiles(w, &s->matrix, tile, weights, &x, parts);
        take_mark(w, 3);
        block_sync();
        take_mark(w, 4);
        if (mine < n_tiles) {
            finish_tile(w, s, mine, parts + WARP * step,
                        (const float *)(shared_bytes + w->shared.scales), first, tokens, early,
                        s->folded && s->matrix.gated && w->folds);
        }
        take_mark(w, 5);
        float *const swap = parts;
        parts = other;
        other = swap;
    }
}

/* A row alone has code of its own, in which addresses are constants; before a loose barrier what is
 * added to it is there, or soon will be. */
WALK void project(const world_of *w, const cuda_stage *s, ring *weights, grid_wait wait) {
    const int n = rows_of(w, &s->out), mine = BLOCK + WARP * N_BLOCKS;
    float norm[FEW_QUADS][4];
    if (is_short_row(w, s)) {
        load_norm(s, FORMAT_OF(&s->matrix), 0, FEW_QUADS / 2, norm);
    } else {
        load_norm(s, FORMAT_OF(&s->matrix), 0, FEW_QUADS, norm);
    }
    addend early = {0, 0};
    if (wait.is_loose) early = early_addend(w, s, mine, 0, 1);
    grid_await(w, wait);
    if (BLOCK >= s->matrix.n_tiles) return; /* nobody reads inputs */
    for (int first = 0; first < n; first += w->pass) {
        const int tokens = n - first < w->pass ? n - first : w->pass;
        if (first > 0) block_sync(); /* the pass before is done with inputs and parts */
        if (tokens == 1) {
            make_inputs(w, s, FORMAT_OF(&s->matrix), first, 1, norm);
        } else {
            make_inputs(w, s, FORMAT_OF(&s->matrix), first, tokens, norm);
        }
        take_mark(w, 2);
        if (!wait.is_loose) early = early_addend(w, s, mine, first, tokens);
        if (tokens == 1) {
            project_pass(w, s, weights, first, 1, early);
        } else {
            project_pass(w, s, weights, first, tokens, early);
        }
    }
}

/* The readable twin: a warp an output, a weight at a time. */
COLD void project_plainly(const cuda_world *w, const cuda_stage *s) {
    float norm[FEW_QUADS][4];
    load_norm(s, CUDA_F32, 0, FEW_QUADS, norm);
    for (int r = 0; r < rows_of(w, &s->out); r++) {
        block_sync();
        make_inputs(w, s, CUDA_F32, r, 1, norm); /* floats */
        const float *x = (const float *)(shared_bytes + w->shared.input);
        for (int row = BLOCK * N_WARPS + WARP; row < s->matrix.rows; row += N_BLOCKS * N_WARPS) {
            float sum = 0;
            for (int k = LANE; k < s->matrix.cols; k += 32)
                sum += weight_at(&s->matrix, row, k) * x[k];
            sum = warp_sum(sum);
            const addend a = addend_of(w, s, row, r);
            if (LANE == 0) row_of(&s->out, r)[row] = sum + a.bias + a.residual;
        }
    }
}
