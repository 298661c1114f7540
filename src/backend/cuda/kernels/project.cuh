/* project.cuh - y = [residual +] pre(x) W^T [+ b], weights at the speed of memory.
 *
 *   x [n, cols] f32   W packed [rows, cols]   y [n, rows] f32
 *
 * Blocks take tiles of 16 rows in turn.  A warp multiplies its share of each chunk of a tile on the
 * matrix units as chunks come in (ring.cuh), and the sums of the warps are added in their order.  A
 * pass takes up to CUDA_TOKENS tokens and reads all weights once: rows * cols * (bytes of a weight)
 * from memory, which is the roof.  Inputs are made by every block for itself in shared memory.
 *
 * More tokens are the business of wide.cuh, but for F32 weights.  A token's sums do not depend on
 * the other tokens, bit for bit.
 * CPU twin: cpu/project.c.  Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

/* A warp's sums of a tile to parts [tokens][CUDA_TILE]: hi and lo columns of token lane % 4, or
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

/* A warp's shares of a tile to parts.  Of F32 a row of `all` is a token's, of others as
 * multiply_parts has it.  What m says is read once: stores hide that it does not change. */
WALK void multiply_shares(const world_of *w, const cuda_matrix *m, ring *weights,
                          const input_view *x, float *parts) {
    float all[CUDA_TOKENS][4];
    const bool is_f32 = HAS_FORMAT(CUDA_F32) && FORMAT_OF(m) == CUDA_F32;
    const int n_blocks = m->n_blocks, most = m->chunk_blocks, share = m->share;
    const int parts_of_block = CUDA_PARTS_OF_BLOCK(FORMAT_OF(m)), first = WARP * share;
    UNROLL for (int i = 0; i < 4 * CUDA_TOKENS; i++) all[i / 4][i % 4] = 0;
    for (int block = 0; block < n_blocks; block += most) {
        const int left = n_blocks - block, end = (left < most ? left : most) * parts_of_block;
        const int n = end - first < share ? end - first : share;
        const char *chunk = ring_read(w, weights);
        if (is_f32) {
            multiply_floats(chunk, block, first, n, x, all);
        } else {
            multiply_parts(FORMAT_OF(m), chunk, block, first, n, x, all);
        }
        ring_done(w, weights);
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

/* parts [warps][..][CUDA_TILE], `step` apart. */
WALK float sum_of_warps(const world_of *w, const float *parts, int step) {
    float sum[4] = {0, 0, 0, 0};
    UNROLL for (int i = 0; i < CUDA_WORKERS; i++) {
        if (i < WORKERS(w)) sum[i % 4] += parts[i * step];
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* parts [warps][tokens][CUDA_TILE] to outputs: sums in order, scaled back, folded where that
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
            sum = sum_of_warps(w, parts + i, tokens * CUDA_TILE);
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
                            scales + CUDA_TOKENS + (t + 1) * CUDA_WORKERS, tokens};
    return to;
}

/* Inputs of a pass; its scales are there when the threads of the block have met once more. */
WALK void make_inputs(const world_of *w, const cuda_stage *s, int format, bool by_fours, int first,
                      int tokens, float norm[FEW_QUADS / 2][4]) {
    float *scratch = (float *)(shared_bytes + w->shared.scales) + CUDA_TOKENS;
    for (int t = 0; t < tokens; t++) {
        const input_place to = place_of(w, t, tokens);
        make_input(w, s, format, by_fours, first + t, &to, scratch, norm);
    }
    work_sync(w);
    for (int t = WORKERS(w) - 1 - WARP; t < tokens; t += WORKERS(w)) {
        const input_place to = place_of(w, t, tokens);
        settle_scale(w, s, &to);
    }
}

/* What this lane's output of a tile adds; tokens [first, first + tokens). */
WALK addend early_addend(const world_of *w, const cuda_stage *s, int tile, int first, int tokens) {
    addend none = {0, 0};
    if (tile >= s->matrix.n_tiles || LANE >= tokens * CUDA_TILE) return none;
    return addend_of(w, s, tile * CUDA_TILE + LANE % CUDA_TILE, first + LANE / CUDA_TILE);
}

/* Tiles whose sums lie in shared memory together, each to be finished by a warp. */
WALK int tiles_of_group(const world_of *w) {
    return WORKERS(w) < CUDA_GROUP ? WORKERS(w) : CUDA_GROUP;
}

/* Tokens of a pass, whose inputs are made.  Tiles are taken some at a time: all warps multiply
 * their shares of them, then some finish one each, while those of the next group go to the other
 * half of parts.  early: early_addend of this warp's first. */
WALK void project_pass(const world_of *w, const cuda_stage *s, ring *weights, int first, int tokens,
                       addend early) {
    const int part = tokens * CUDA_TILE, step = WORKERS(w) * part, n_tiles = s->matrix.n_tiles;
    const int group = tiles_of_group(w);
    input_view x;
    x.words = (const u32 *)(shared_bytes + w->shared.input);
    x.tokens = x.stride = tokens;
    float *parts = (float *)(shared_bytes + w->shared.parts);
    float *other = parts + group * step;
    for (int tile = BLOCK; tile < n_tiles; tile += N_BLOCKS * group) {
        const int mine =
            WARP < group ? tile + WARP * N_BLOCKS : n_tiles; /* this warp's to finish */
        if (tile != BLOCK) early = early_addend(w, s, mine, first, tokens);
        for (int i = 0; i < group && tile + i * N_BLOCKS < n_tiles; i++) {
            multiply_shares(w, &s->matrix, weights, &x, parts + i * step + WARP * part);
        }
        take_mark(w, 3);
        work_sync(w);
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
WALK void project_rows(const world_of *w, const cuda_stage *s, ring *weights, grid_wait wait,
                       bool by_fours) {
    const int n = rows_of(w, &s->out), format = FORMAT_OF(&s->matrix);
    const int mine = WARP < tiles_of_group(w) ? BLOCK + WARP * N_BLOCKS : s->matrix.n_tiles;
    float norm[FEW_QUADS / 2][4];
    load_early_norm(w, s, format, norm);
    addend early = {0, 0};
    if (wait.is_loose) early = early_addend(w, s, mine, 0, 1);
    grid_await(w, wait);
    if (BLOCK >= s->matrix.n_tiles) return; /* nobody reads inputs */
    for (int first = 0; first < n; first += w->pass) {
        const int tokens = n - first < w->pass ? n - first : w->pass;
        if (first > 0) work_sync(w); /* the pass before is done with inputs and parts */
        if (tokens == 1) {
            make_inputs(w, s, format, by_fours, first, 1, norm);
        } else {
            make_inputs(w, s, format, by_fours, first, tokens, norm);
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

COLD ring project_apart(const cuda_world *w, const cuda_stage *s, ring weights, grid_wait wait) {
    project_rows(w, s, &weights, wait, false);
    return weights;
}

WALK void project(const world_of *w, const cuda_stage *s, ring *weights, grid_wait wait) {
    if (is_read_by_fours(s, FORMAT_OF(&s->matrix), s->folded && w->folds)) {
        project_rows(w, s, weights, wait, true);
    } else if (w->fast) {
        project_rows(w, s, weights, wait, false);
    } else {
        *weights = project_apart(w, s, *weights, wait);
    }
}

/* The readable twin: a warp an output, a weight at a time. */
WALK void project_plainly(const world_of *w, const cuda_stage *s) {
    const int warps = WORKERS(w);
    float norm[FEW_QUADS / 2][4]; /* of no odd input */
    for (int r = 0; r < rows_of(w, &s->out); r++) {
        work_sync(w);
        make_inputs(w, s, CUDA_F32, false, r, 1, norm); /* floats */
        const float *x = (const float *)(shared_bytes + w->shared.input);
        for (int row = BLOCK * warps + WARP; row < s->matrix.rows; row += N_BLOCKS * warps) {
            float sum = 0;
            for (int k = LANE; k < s->matrix.cols; k += 32)
                sum += weight_at(&s->matrix, row, k) * x[k];
            sum = warp_sum(sum);
            const addend a = addend_of(w, s, row, r);
            if (LANE == 0) row_of(&s->out, r)[row] = sum + a.bias + a.residual;
        }
    }
}
