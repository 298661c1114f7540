/* few.cuh - y = [residual +] pre(x) W^T [+ b] for 5 to 64 tokens, at the speed of memory.
 *
 *   x, W, y and the image as in wide.cuh; tiles of 16 to 64 tokens by 16 rows a warp
 *
 *                     one ring of stages a block, which the warp behind those that multiply fills
 *
 *     stage   | inputs of a chunk of k [span / 64][tokens][128] | weights [warps][blocks of k] |
 *
 * Where tiles are few, each is made by a cluster of blocks, a stretch of k each, who then sum their
 * parts through each other's shared memory, everyone some of the tokens.  Elsewhere all chunks,
 * tile by tile, are cut into equal stretches, one a block, so that all end together, and a tile
 * that several blocks made is summed in their order by the warp that ends last.  So a row's bits
 * depend on n alone, not on other rows.  Rings fill with weights before the launch before has
 * ended, and with inputs then.
 *
 * Norms are folded into the products about them where step.c says so: who makes a row leaves it
 * times the norm's weights as the next input, and the sums of squares of 16 features; who reads it
 * scales outputs by the inverse root of their mean, which warps that multiply nothing work out.
 *
 * Bytes moved: weights once, inputs from the second-level cache once for each tile of rows.  Twin:
 * wide.cuh.  Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

enum { FEED_WEIGHTS = 1, FEED_INPUTS = 2 };
#define FEW_SCALERS (WIDE_COPIERS > 1 ? 2 : 1)

/* ---- norms */

DEVICE u64 *few_scales_gate(const cuda_world *w) {
    return (u64 *)(shared_bytes + w->wide.gates) + 2 * w->wide.n_stages;
}

/* A lane a row, the warp's first is `first`. */
DEVICE void make_scales(const cuda_world *w, const cuda_stage *s, int first, int rows) {
    enum { TOGETHER = 32 }; /* on their way */
    const int n = s->matrix.cols / CUDA_TILE, t = first + LANE;
    const float *from = (const float *)w->squares + t;
    float sum = 0;
    for (int i = 0; t < rows && i < n; i += TOGETHER) {
        float v[TOGETHER];
        UNROLL for (int k = 0; k < TOGETHER; k++) {
            v[k] = i + k < n ? load_float(from + (i + k) * CUDA_FEW) : 0;
        }
        UNROLL for (int k = 0; k < TOGETHER; k++) sum += v[k];
    }
    if (t < rows) {
        few_scales(w)[t] = 1 / sqrtf(sum / (float)s->matrix.cols + s->norm.eps);
    }
}

/* Sums of a tile to outputs, to the next product's input, and their squares; whole warps.  Lanes
 * swap values until each has 8 bytes of one token: image.cuh draws them. */
DEVICE void put_unnormed(const cuda_world *w, const cuda_stage *s, const float *all, int tile,
                         int first, int tokens) {
    const cuda_stage *next = stage_at(w, w->first + 1);
    const int row[2] = {tile * CUDA_TILE + LANE / 4, tile * CUDA_TILE + LANE / 4 + 8};
    const int left = rows_of(w, &s->out) - first, depth = next->matrix.cols;
    const bool is_odd = LANE / 4 % 2, is_high = LANE / 16;
    const lane_rows more = lane_rows_of(&s->residual, first, row);
    const lane_rows out = lane_rows_of(&s->out, first, row);
    float *squares = (float *)w->squares_out + tile * CUDA_FEW + first;
    float residual[32], factor[2], bias[2] = {0, 0};
    if (tile >= s->matrix.n_tiles) return;
    UNROLL for (int r = 0; r < 2; r++) {
        factor[r] = ((const float *)next->norm.weight)[row[r]];
        if (s->matrix.bias) bias[r] = ((const float *)s->matrix.bias)[row[r]];
    }
    UNROLL for (int i = 0; i < tokens / 2; i++) {
        const int t = i / 4 * 8 + i % 2 + LANE % 4 * 2;
        residual[i] = 0;
        if (more.at[0] && t < left) {
            residual[i] = load_float(lane_value(&more, i % 4 / 2, i / 4, i % 2));
        }
    }
    UNROLL for (int j = 0; j < tokens / 8; j++) {
        float x[4], square[2];
        UNROLL for (int i = 0; i < 4; i++) {
            x[i] = all[4 * j + i] + bias[i / 2] + residual[4 * j + i];
            if (j * 8 + LANE % 4 * 2 + i % 2 < left) *lane_value(&out, i / 2, j, i % 2) = x[i];
        }
        UNROLL for (int i = 0; i < 2; i++) {
            square[i] = x[i] * x[i] + x[i + 2] * x[i + 2];
            UNROLL for (int mask = 4; mask < 32; mask *= 2) {
                square[i] += shuffle_xor(square[i], mask);
            }
            if (LANE < 4) squares[j * 8 + LANE * 2 + i] = square[i];
        }
        u32 words[2]; /* two features of one token, and the two 8 further */
        UNROLL for (int i = 0; i < 2; i++) {
            const float a = x[2 * i] * factor[i], b = x[2 * i + 1] * factor[i];
            const float other = shuffle_xor(is_odd ? a : b, 4);
            words[i] = is_odd ? bf16_of_floats(other, b) : bf16_of_floats(a, other);
        }
        u32 pair[2];
        swap_words(pair, words, is_high, 16);
        const int t = j * 8 + LANE % 4 * 2 + is_odd;
        if (t < left) {
            store_8(image_part(w, w->image_out, depth, first + t, tile, LANE / 8 % 2) + is_high * 8,
                    pair);
        }
    }
}

/* The last warps of a block, which multiply nothing. */
DEVICE void few_scale(const cuda_world *w, const cuda_stage *s) {
    const int me = N_WARPS - 1 - WARP, rows = rows_of(w, &s->out);
    if (!w->squares || me >= FEW_SCALERS) return;
    launch_wait();
    for (int t = 32 * me; t < rows; t += 32 * FEW_SCALERS) make_scales(w, s, t, rows);
    gate_arrive(few_scales_gate(w));
}

DEVICE void put_few(const cuda_world *w, const cuda_stage *s, const float *all, int tile, int first,
                    int tokens) {
    if (w->squares) gate_pass(few_scales_gate(w), 0);
    if (w->squares_out) {
        put_unnormed(w, s, all, tile, first, tokens);
    } else {
        put_tile(w, s, all, tile, first, tokens);
    }
}

/* ---- products */

typedef struct few_place {
    cuda_matrix m;         /* what the stage says of it, read once */
    int n_chunks, columns; /* of a tile; tiles beside each other */
    int total, chunk, end; /* of all tiles; this block's */
    int rows, column, k;   /* where the chunk is: in which rows of tiles, which tile, its k */
    int blocks;            /* that have any */
    int at;                /* the chunk's stage */
    unsigned round;
} few_place;

DEVICE int few_cut(const few_place *p, int block) {
    if (block > p->blocks) block = p->blocks;
    return (int)((u32)p->total * (u32)block / (u32)p->blocks); /* < 2^22 chunks of any model */
}

/* The block that has a chunk. */
DEVICE int few_block_of(const few_place *p, int chunk) {
    int block = (int)((u32)chunk * (u32)p->blocks / (u32)p->total);
    while (few_cut(p, block + 1) <= chunk) block++;
    return block;
}

DEVICE few_place few_begin(const cuda_world *w, const cuda_stage *s, int tokens) {
    few_place p;
    p.m = s->matrix;
    const cuda_matrix *m = &p.m;
    const int span = CUDA_WIDE_SPAN(FORMAT_OF(m));
    p.columns = token_tiles(w, s, tokens);
    p.n_chunks = (m->n_blocks * m->block_span + span - 1) / span;
    p.total = (m->n_tiles + N_MULTIPLIERS - 1) / N_MULTIPLIERS * p.columns * p.n_chunks;
    p.blocks = p.total < N_BLOCKS ? p.total : N_BLOCKS;
    p.at = 0;
    p.round = 0;
    const int cluster = w->wide.cluster;
    if (cluster) {
        const int from = (u32)BLOCK / (u32)cluster * p.n_chunks, rank = (u32)BLOCK % (u32)cluster;
        p.chunk = from + (u32)(p.n_chunks * rank) / (u32)cluster;
        p.end = from + (u32)(p.n_chunks * (rank + 1)) / (u32)cluster;
    } else {
        p.chunk = few_cut(&p, BLOCK);
        p.end = few_cut(&p, BLOCK + 1);
    }
    p.k = p.chunk % p.n_chunks;
    p.rows = p.chunk / p.n_chunks / p.columns;
    p.column = p.chunk / p.n_chunks % p.columns;
    return p;
}

DEVICE void few_step(const cuda_world *w, few_place *p) {
    p->chunk++;
    if (++p->at == w->wide.n_stages) p->at = 0, p->round++;
    if (++p->k < p->n_chunks) return;
    p->k = 0;
    if (++p->column == p->columns) p->column = 0, p->rows++;
}

DEVICE char *few_stage(const cuda_world *w, const few_place *p) {
    return shared_bytes + p->at * w->wide.stage_bytes;
}

/* Starts copies of the next n chunks; a warp without rows in a tile gets the last ones. */
DEVICE void few_feed(const cuda_world *w, few_place *p, int tokens, int what, int n) {
    const cuda_matrix *m = &p->m;
    const int span = CUDA_WIDE_SPAN(FORMAT_OF(m)), each = span / m->block_span;
    const int bytes = tokens * 2 * span, slot = each * m->block_bytes;
    u64 *full = (u64 *)(shared_bytes + w->wide.gates), *empty = full + w->wide.n_stages;
    for (; n > 0 && p->chunk < p->end; n--, few_step(w, p)) {
        const int left = m->n_blocks - p->k * each, row = p->rows * N_MULTIPLIERS;
        char *to = few_stage(w, p);
        if (p->round > 0) gate_pass(empty + p->at, p->round - 1);
        if (what & FEED_WEIGHTS) {
            const char *from =
                (const char *)m->tiles + (u64)row * m->tile_bytes + (u64)p->k * (u64)slot;
            copy_all_once(to + bytes, slot, from, m->tile_bytes, m->n_tiles - row, N_MULTIPLIERS,
                          (left < each ? left : each) * m->block_bytes, full + p->at);
        }
        if (what & FEED_INPUTS) {
            const u64 at = (u64)(p->column * p->n_chunks + p->k);
            copy_through(to, (const char *)w->image + at * (u64)bytes, bytes, full + p->at);
        }
    }
}

/* Chunks of a tile, the next n. */
DEVICE void few_multiply(const cuda_world *w, few_place *p, float *all, int tokens, int n) {
    const cuda_matrix *m = &p->m;
    const int format = FORMAT_OF(m), span = CUDA_WIDE_SPAN(format), each = span / m->block_span;
    u64 *full = (u64 *)(shared_bytes + w->wide.gates), *empty = full + w->wide.n_stages;
    for (; n > 0; n--, few_step(w, p)) {
        const int left = m->n_blocks - p->k * each;
        const char *inputs = few_stage(w, p);
        const char *weights = inputs + tokens * 2 * span + WARP * each * m->block_bytes;
        gate_pass(full + p->at, p->round);
        for (int part = 0; part < span / WIDE_STAGE_K; part += 2) {
            u32 a[2][4][4];
            UNROLL for (int i = 0; i < 2; i++) {
                const char *stage = inputs + (part + i) * tokens * 2 * WIDE_STAGE_K;
                load_weights(a[i], format, weights, left, part + i);
                wide_begin();
                UNROLL for (int j = 0; j < 4; j++) {
                    wide_multiply(all, tokens, a[i][j], stage, j, format == CUDA_BF16);
                }
                wide_end();
                wide_wait(1);
            }
        }
        wide_wait(0);
        gate_arrive(empty + p->at);
    }
    wide_settle(all, tokens);
}

/* While blocks that are done wait for others, memory has time: every fourth chunk of a product that
 * is cut evenly is brought to the second-level cache before its launch; a warp of each block. */
DEVICE void fetch_weights_ahead(const cuda_world *w) {
    enum { EVERY = 4 };
    if (!w->ahead) return;
    const cuda_matrix *m = &stage_at(w, w->ahead)->matrix;
    const int each = CUDA_WIDE_SPAN(FORMAT_OF(m)) / m->block_span, bytes = each * m->block_bytes;
    const int chunks = m->n_blocks / each / EVERY; /* whole ones */
    for (int i = BLOCK * 32 + LANE; i < m->n_tiles * chunks; i += N_BLOCKS * 32) {
        const u64 tile = (u64)(i / chunks), chunk = (u64)((i % chunks + 1) * EVERY - 1);
        fetch_bytes_ahead((const char *)m->tiles + tile * m->tile_bytes + chunk * (u64)bytes,
                          bytes);
    }
}

DEVICE void few_copy(const cuda_world *w, const cuda_stage *s, few_place p, int tokens) {
    few_place inputs = p;
    few_feed(w, &p, tokens, FEED_WEIGHTS, w->wide.n_stages);
    launch_wait();
    few_feed(w, &inputs, tokens, FEED_INPUTS, w->wide.n_stages);
    if (WIDE_COPIERS == 1) few_scale(w, s);
    few_feed(w, &inputs, tokens, FEED_WEIGHTS | FEED_INPUTS, p.end);
    fetch_weights_ahead(w);
}

/* The sums of this block's shares of a tile: of `groups` groups of 8 tokens, from its rank-th on,
 * one share a cluster further, and so on.  A lane has 4 values of a group. */
DEVICE void sum_shares(const cuda_world *w, float *sums, int tokens, int groups) {
    const int cluster = w->wide.cluster, rank = (u32)BLOCK % (u32)cluster;
    UNROLL for (int i = 0; i < 16; i++) sums[i] = 0;
    UNROLL for (int share = 0; share < (tokens / 8 / groups + 1) / 2; share++) {
        const int j = (share * cluster + rank) * groups;
        if (j >= tokens / 8) break;
        UNROLL for (int k = 0; k < groups; k++) {
            const char *at = shared_bytes + ((j + k) * N_MULTIPLIERS + WARP) * 512 + LANE * 16;
            float v[CUDA_CLUSTER][4];
            UNROLL for (int r = 0; r < CUDA_CLUSTER; r++) {
                if (r < cluster) cluster_load_4(v[r], at, r);
            }
            UNROLL for (int r = 0; r < CUDA_CLUSTER; r++) {
                if (r >= cluster) break;
                UNROLL for (int i = 0; i < 4; i++) sums[(share * groups + k) * 4 + i] += v[r][i];
            }
        }
    }
}

DEVICE void put_shares(const cuda_world *w, const cuda_stage *s, const float *sums, int tile,
                       int first, int tokens, int groups) {
    const int cluster = w->wide.cluster, rank = (u32)BLOCK % (u32)cluster;
    UNROLL for (int share = 0; share < (tokens / 8 / groups + 1) / 2; share++) {
        const int j = (share * cluster + rank) * groups;
        if (j >= tokens / 8) break;
        put_few(w, s, sums + share * groups * 4, tile, first + 8 * j, 8 * groups);
    }
}

/* This block's part of a tile of its cluster, to outputs: parts lie where stages were. */
DEVICE void share_tile(const cuda_world *w, const cuda_stage *s, const float *all, int tile,
                       int first, int tokens) {
    float sums[16];
    some_sync(32 * N_MULTIPLIERS); /* nobody multiplies any more */
    UNROLL for (int j = 0; j < tokens / 8; j++) {
        u32 bits[4];
        UNROLL for (int i = 0; i < 4; i++) bits[i] = bits_of_float(all[4 * j + i]);
        store_16(shared_bytes + (j * N_MULTIPLIERS + WARP) * 512 + LANE * 16, bits);
    }
    cluster_arrive();
    cluster_wait();
    const bool by_pairs = w->image_out && !w->squares_out; /* of groups */
    if (by_pairs) {
        sum_shares(w, sums, tokens, 2);
    } else {
        sum_shares(w, sums, tokens, 1);
    }
    cluster_arrive();
    if (by_pairs) {
        put_shares(w, s, sums, tile, first, tokens, 2);
    } else {
        put_shares(w, s, sums, tile, first, tokens, 1);
    }
    cluster_wait(); /* nobody reads parts of this block any more */
}

DEVICE void multiply_few(const cuda_world *w, int tokens) {
    const cuda_stage *s = stage_at(w, w->first);
    u64 *full = (u64 *)(shared_bytes + w->wide.gates), *empty = full + w->wide.n_stages;
    few_place p = few_begin(w, s, tokens);
    for (int i = 0; WARP == N_MULTIPLIERS && i < w->wide.n_stages; i++) {
        gate_open_for(full + i, 2 * COPY_ARRIVALS); /* weights and inputs */
        gate_open_for(empty + i, N_MULTIPLIERS);
    }
    if (WARP == N_MULTIPLIERS) gate_open_for(few_scales_gate(w), FEW_SCALERS);
    block_sync();
    launch_next();
    if (WARP == N_MULTIPLIERS) few_copy(w, s, p, tokens);
    if (WARP > N_MULTIPLIERS) few_scale(w, s);
    if (WARP >= N_MULTIPLIERS) return;
    launch_wait();
    float all[32];
    while (p.chunk < p.end) {
        const int from = p.chunk - p.k, first = p.column * tokens;
        const int tile = p.rows * N_MULTIPLIERS + WARP; /* of matrix rows */
        const int end = from + p.n_chunks < p.end ? from + p.n_chunks : p.end, n = end - p.chunk;
        UNROLL for (int i = 0; i < tokens / 2; i++) all[i] = 0;
        few_multiply(w, &p, all, tokens, n);
        if (w->wide.cluster > 1) {
            share_tile(w, s, all, tile, first, tokens);
            return;
        }
        if (n < p.n_chunks && !sum_parts(w, all, tokens, few_block_of(&p, from),
                                         few_block_of(&p, from + p.n_chunks - 1))) {
            continue;
        }
        put_few(w, s, all, tile, first, tokens);
    }
}
