/* wide.cuh - y = [residual +] pre(x) W^T [+ b] for many tokens, at the speed of the tensor cores.
 * (few.cuh: of few.)
 *
 *   x [n, cols] f32   W packed [rows, cols]   y [n, rows] f32
 *
 *                tokens of a tile (128, 256)
 *             +---------------------------+
 *     warp 0  | 16 rows    sums of a tile in registers;  weights: registers <- the warp's own ring
 *     ...     |            k in chunks of 128 (halves) or 256 (levels);  inputs: stages of 64 k
 *     warp 7  |            in shared memory, for all warps, which the warp behind them copies
 *             +---------------------------+
 *
 * Inputs come as the image that prepare.cuh draws, 16 bits each.  Levels become f16 in registers:
 * level * d + low, rounded once.  So products of 16 bits are as good as their types: 1e-3.
 *
 * As many tiles as fill whole rounds of blocks are made by one block each.  The rest, chunks laid
 * end to end, is cut into equal stretches, one a block; a tile that several made is summed in
 * their order by the warp that ends last.  So a row's bits depend on n alone, not on other rows.
 *
 * Bytes moved: weights once for each tile of tokens, inputs from the second-level cache once for
 * each 128 rows.  CPU twin: cpu/project.c.  Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#define N_MULTIPLIERS (N_WARPS - WIDE_COPIERS)

enum { FEW_SCALES_AT = 512 /* behind the gates */ };
enum { WIDE_STAGE_K = 64, WIDE_PARTS = 2 /* of tiles that a block's stretch may cut */ };

/* The chunks that a block takes, in order: [chunk, end) of tile, and so on. */
typedef struct course {
    int n_chunks; /* of a tile */
    int n_tiles, n_whole;
    int n_blocks; /* that share the rest */
    int tile, chunk, end, left;
} course;

DEVICE int course_cut(const course *c, int block) {
    return (int)((long long)(c->n_tiles - c->n_whole) * c->n_chunks * block / c->n_blocks);
}

/* This block's stretch of the rest; tile n_tiles when it has none. */
DEVICE void course_rest(course *c) {
    c->tile = c->n_tiles;
    c->left = 0;
    if (BLOCK >= c->n_blocks) return;
    const int from = course_cut(c, BLOCK);
    c->left = course_cut(c, BLOCK + 1) - from;
    c->tile = c->n_whole + from / c->n_chunks;
    c->chunk = from % c->n_chunks;
    c->end = c->chunk + c->left < c->n_chunks ? c->chunk + c->left : c->n_chunks;
    c->left -= c->end - c->chunk;
}

/* The block that has a step of the rest. */
DEVICE int block_of_step(const course *c, int step) {
    const long long all = (long long)(c->n_tiles - c->n_whole) * c->n_chunks;
    int block = (int)((long long)step * c->n_blocks / all);
    while (course_cut(c, block + 1) <= step) block++;
    return block;
}

DEVICE void course_next(course *c) {
    if (c->tile < c->n_whole && c->tile + N_BLOCKS < c->n_whole) {
        c->tile += N_BLOCKS;
        c->chunk = 0;
    } else if (c->tile < c->n_whole) {
        course_rest(c);
    } else if (c->left > 0) {
        c->tile++;
        c->chunk = 0;
        c->end = c->left;
        c->left = 0;
    } else {
        c->tile = c->n_tiles;
    }
}

DEVICE bool course_is_on(const course *c) {
    return c->tile < c->n_tiles;
}

DEVICE int token_tiles(const cuda_world *w, const cuda_stage *s, int tokens) {
    return (rows_of(w, &s->out) + tokens - 1) / tokens;
}

DEVICE course course_begin(const cuda_world *w, const cuda_stage *s, int tokens) {
    const cuda_matrix *m = &s->matrix;
    const int consumers = N_MULTIPLIERS, span = CUDA_WIDE_SPAN(FORMAT_OF(m));
    course c;
    c.n_chunks = (m->n_blocks * m->block_span + span - 1) / span;
    c.n_tiles = (m->n_tiles + consumers - 1) / consumers * token_tiles(w, s, tokens);
    c.n_whole = c.n_tiles / N_BLOCKS * N_BLOCKS;
    /* a round that is nearly full is not worth cutting: sums of parts of 256 tokens take as long as
     * 10 chunks (H100) */
    const long long idle = (long long)(c.n_whole + N_BLOCKS - c.n_tiles) * c.n_chunks;
    if (c.n_tiles > c.n_whole && idle < (long long)N_BLOCKS * (2 + tokens / 32)) {
        c.n_whole = c.n_tiles;
    }
    const long long rest = (long long)(c.n_tiles - c.n_whole) * c.n_chunks;
    c.n_blocks = rest < N_BLOCKS ? (int)rest : N_BLOCKS;
    if (BLOCK < c.n_whole) {
        c.tile = BLOCK;
        c.chunk = c.left = 0;
        c.end = c.n_chunks;
    } else {
        course_rest(&c);
    }
    return c;
}

/* ---- inputs: the first warp behind those that multiply */

DEVICE void copy_inputs(const cuda_world *w, const cuda_stage *s, int tokens) {
    const cuda_wide *p = &w->wide;
    const int bytes = tokens * 2 * WIDE_STAGE_K;
    const int stages = CUDA_WIDE_SPAN(FORMAT_OF(&s->matrix)) / WIDE_STAGE_K;
    u64 *full = (u64 *)(shared_bytes + p->gates), *empty = full + p->n_stages;
    const int columns = token_tiles(w, s, tokens);
    int at = 0;
    unsigned round = 0;
    for (course c = course_begin(w, s, tokens); course_is_on(&c); course_next(&c)) {
        const char *from = (const char *)w->image +
                           (u64)(c.tile % columns) * (u64)(c.n_chunks * stages) * (u64)bytes;
        for (int i = c.chunk * stages; i < c.end * stages; i++) {
            if (round > 0) gate_pass(empty + at, round - 1);
            copy_through(shared_bytes + at * bytes, from + (u64)i * (u64)bytes, bytes, full + at);
            if (++at == p->n_stages) at = 0, round++;
        }
    }
}

/* ---- weights: a ring for each warp that multiplies */

typedef struct wide_ring {
    course next; /* to be copied */
    char *slots;
    u64 *gates;
    int columns, read, fill;
    unsigned round;
} wide_ring;

/* Starts the copy of the next chunk; a warp without rows in this tile copies the last ones. */
DEVICE void wide_feed(const cuda_world *w, const cuda_matrix *m, wide_ring *r) {
    course *c = &r->next;
    if (!course_is_on(c)) {
        copy_nothing();
        return;
    }
    const int each = CUDA_WIDE_SPAN(FORMAT_OF(m)) / m->block_span;
    const int first = c->chunk * each, left = m->n_blocks - first;
    int tile = c->tile / r->columns * N_MULTIPLIERS + WARP;
    if (tile >= m->n_tiles) tile = m->n_tiles - 1;
    copy_start(r->slots + r->fill * w->wide.slot_bytes,
               (const char *)m->tiles + (u64)tile * m->tile_bytes +
                   (u64)first * (u64)m->block_bytes,
               (left < each ? left : each) * m->block_bytes, r->gates + r->fill);
    r->fill = r->fill + 1 == w->wide.n_slots ? 0 : r->fill + 1;
    if (++c->chunk == c->end) course_next(c);
}

DEVICE void wide_ring_open(const cuda_world *w, const cuda_stage *s, int tokens, wide_ring *r) {
    const cuda_wide *p = &w->wide;
    r->next = course_begin(w, s, tokens);
    r->columns = token_tiles(w, s, tokens);
    r->slots = shared_bytes + p->slots + WARP * p->n_slots * p->slot_bytes;
    r->gates = (u64 *)(shared_bytes + p->gates) + 2 * p->n_stages + WARP * p->n_slots;
    r->read = r->fill = 0;
    r->round = 0;
    for (int i = 0; i < p->n_slots; i++) gate_open(r->gates + i);
    for (int i = 0; i < p->n_slots; i++) wide_feed(w, &s->matrix, r);
}

DEVICE void wide_done(const cuda_world *w, const cuda_matrix *m, wide_ring *r) {
    warp_sync();
    if (++r->read == w->wide.n_slots) r->read = 0, r->round++;
    wide_feed(w, m, r);
}

/* ---- levels to f16 */

DEVICE u32 both_halves(u32 half) {
    return half | half << 16;
}

/* a [steps of 16 k][4] levels of rows r, r + 8, times d plus low of 32 k; p [2][16] as load_scale.
 */
DEVICE void scale_levels(u32 a[2][4], const char *p, int group, bool has_low) {
    UNROLL for (int i = 0; i < 2; i++) {
        const char *at = p + group * 32 + (LANE / 4 + 8 * i) * 2;
        const u32 d = both_halves(*(const u16 *)at);
        const u32 low = has_low ? both_halves(*(const u16 *)(at + 64)) : 0;
        UNROLL for (int j = 0; j < 4; j++) {
            a[j / 2][j % 2 * 2 + i] = f16_scaled(a[j / 2][j % 2 * 2 + i], d, low);
        }
    }
}

DEVICE void halves_of_groups(u32 a[4][4], const char *block, int format) {
    const bool is_byte = format == CUDA_Q8 || format == CUDA_Q8M;
    const bool has_low = format == CUDA_Q8M || format == CUDA_Q4M;
    const int bias = format == CUDA_Q8 ? 128 : format == CUDA_Q4 ? 8 : 0;
    u32 words[4];
    if (!is_byte) load_16(words, block + LANE * 16);
    UNROLL for (int group = 0; group < 2; group++) {
        if (is_byte) {
            load_16(words, block + group * UNIT + LANE * 16);
            levels_of_bytes(a + 2 * group, words, bias);
        } else {
            levels_of_nibbles(a + 2 * group, words, group, bias);
        }
        scale_levels(a + 2 * group, block + (is_byte ? 2 * UNIT : UNIT), group, has_low);
    }
}

/* FP8.  A scale may be too small for an f16, but 256 times it is not: weights are a 256th first. */
DEVICE void halves_of_scaled(u32 a[4][4], const char *block) {
    u32 words[4];
    UNROLL for (int half = 0; half < 2; half++) {
        load_16(words, block + half * UNIT + LANE * 16);
        halves_of_fp8(a + 2 * half, words);
    }
    UNROLL for (int i = 0; i < 2; i++) {
        const float d = 256 * ((const float *)(block + 2 * UNIT))[LANE / 4 + 8 * i];
        const u32 both = both_halves(f16_of_float(d)), down = 0x1c001c00u; /* 2^-8 */
        UNROLL for (int j = 0; j < 8; j++) {
            u32 *at = &a[j / 2][j % 2 * 2 + i];
            *at = f16_scaled(f16_scaled(*at, down, 0), both, 0);
        }
    }
}

/* 64 k from group 2 * stage of 32 on.  Levels are taken from their middle, so that what is rounded
 * to f16 is small. */
DEVICE void halves_of_super(u32 a[4][4], const char *block, int format, int stage) {
    const int middle = format == CUDA_K4 ? 8 : format == CUDA_K5 ? 16 : 32;
    u32 words[4];
    UNROLL for (int half = 0; half < 2; half++) {
        const int group = 2 * stage + half;
        u32 *to = a[2 * half];
        if (format != CUDA_K4) {
            load_16(words, block + K_LEVELS + group * UNIT + LANE * 16);
            levels_of_bytes(a + 2 * half, words, middle);
        } else {
            if (half == 0) load_16(words, block + K_LEVELS + stage * UNIT + LANE * 16);
            levels_of_nibbles(a + 2 * half, words, half, middle);
        }
        UNROLL for (int step = 0; step < 2; step++) {
            const group_scale s =
                load_super_scale(block, format, format == CUDA_K6 ? 2 * group + step : group);
            UNROLL for (int i = 0; i < 2; i++) {
                const u32 d = both_halves(f16_of_float(s.d[i]));
                const float least = format == CUDA_K6 ? 0 : (float)middle * s.d[i] - s.low[i];
                const u32 low = both_halves(f16_of_float(least));
                to[step * 4 + i] = f16_scaled(to[step * 4 + i], d, low);
                to[step * 4 + 2 + i] = f16_scaled(to[step * 4 + 2 + i], d, low);
            }
        }
    }
}

/* The 64 k of stage `stage` of a chunk of `n` blocks as A; zeros behind its end. */
DEVICE void load_weights(u32 a[4][4], int format, const char *chunk, int n, int stage) {
    if (format == CUDA_F16 || format == CUDA_BF16) {
        UNROLL for (int i = 0; i < 4; i++) {
            const int block = stage * 4 + i;
            UNROLL for (int j = 0; j < 4; j++) a[i][j] = 0;
            if (block < n) load_16(a[i], chunk + block * UNIT + LANE * 16);
        }
        return;
    }
    const bool is_super = format == CUDA_K4 || format == CUDA_K5 || format == CUDA_K6;
    if (!is_super && stage >= n) {
        UNROLL for (int i = 0; i < 16; i++) a[i / 4][i % 4] = 0;
        return;
    }
    switch (format) {
#define HALVES_OF(FORMAT, call)       \
    case FORMAT:                      \
        if (HAS_FORMAT(FORMAT)) call; \
        break
        HALVES_OF(CUDA_Q8, halves_of_groups(a, chunk + stage * 1088, CUDA_Q8));
        HALVES_OF(CUDA_Q8M, halves_of_groups(a, chunk + stage * 1152, CUDA_Q8M));
        HALVES_OF(CUDA_Q4, halves_of_groups(a, chunk + stage * 576, CUDA_Q4));
        HALVES_OF(CUDA_Q4M, halves_of_groups(a, chunk + stage * 640, CUDA_Q4M));
        HALVES_OF(CUDA_K4, halves_of_super(a, chunk, CUDA_K4, stage));
        HALVES_OF(CUDA_K5, halves_of_super(a, chunk, CUDA_K5, stage));
        HALVES_OF(CUDA_K6, halves_of_super(a, chunk, CUDA_K6, stage));
        HALVES_OF(CUDA_FP8, halves_of_scaled(a, chunk + stage * 1088));
    default: break;
    }
}

/* ---- sums of a tile to outputs */

/* act(gate) * up of a warp's 8 features as their part of the next product's input, of BF16
 * (prepare.cuh draws the image).  Lanes swap values until each has 8 bytes of one token.  The
 * `tokens` may be some of a tile's. */
DEVICE void put_image(const cuda_world *w, const cuda_stage *s, const float *all, int tile,
                      int first, int tokens, const float bias[2], const float *scales) {
    const int left = rows_of(w, &s->out) - first, depth = s->matrix.gated, feature = tile * 8;
    const bool is_odd = LANE / 4 % 2, is_high = LANE / 16;
    const int offset = first & (w->wide.tokens - 1); /* in the tile */
    char *stage =
        (char *)w->image_out +
        ((u64)(first - offset) * (u64)depth + (u64)(feature / 64 * w->wide.tokens * 64)) * 2 +
        offset * 128;
    const int part = feature % 64 / 16 * 2 + LANE / 8 % 2, act = s->act;
    if (tile >= s->matrix.n_tiles) return;
    UNROLL for (int j = 0; j < tokens / 8; j += 2) {
        u32 words[2];
        UNROLL for (int i = 0; i < 2; i++) { /* two features of one token */
            const float *x = all + 4 * (j + i);
            float scale[2] = {1, 1};
            UNROLL for (int k = 0; k < 2; k++) {
                const int t = (j + i) * 8 + LANE % 4 * 2 + k;
                if (scales && t < left) scale[k] = load_any(scales + t);
            }
            const float a = act_of(act, x[0] * scale[0] + bias[0]) * (x[2] * scale[0] + bias[1]);
            const float b = act_of(act, x[1] * scale[1] + bias[0]) * (x[3] * scale[1] + bias[1]);
            const float other = shuffle_xor(is_odd ? a : b, 4);
            words[i] = is_odd ? bf16_of_floats(other, b) : bf16_of_floats(a, other);
        }
        u32 pair[2];
        swap_words(pair, words, is_high, 16);
        const int t = (j + is_high) * 8 + LANE % 4 * 2 + is_odd;
        if (t < left) store_8(stage + t * 128 + (part ^ t % 8) * 16 + feature % 16, pair);
    }
}

/* Two rows of a tensor's features for this lane's tokens of a tile, whose first is `first`: a value
 * is at [8 * (group of tokens) + 0 or 1] of `stride` floats. */
typedef struct lane_rows {
    float *at[2];
    u64 stride;
} lane_rows;

DEVICE lane_rows lane_rows_of(const cuda_tensor *t, int first, const int row[2]) {
    lane_rows out;
    float *const from = row_of(t, first + LANE % 4 * 2);
    out.stride = (u64)t->stride;
    UNROLL for (int i = 0; i < 2; i++) out.at[i] = t->at ? from + row[i] : (float *)0;
    return out;
}

DEVICE float *lane_value(const lane_rows *r, int i, int group, int second) {
    return r->at[i] + (u64)(8 * group + second) * r->stride;
}

/* What outputs of a row are scaled by, in shared memory, of few rows whose norm is folded. [rows]
 */
DEVICE float *few_scales(const cuda_world *w) {
    return (float *)(shared_bytes + w->wide.gates + FEW_SCALES_AT);
}

/* What outputs of rows from `first` on are scaled by; 0: nothing. */
DEVICE const float *scales_of(const cuda_world *w, const cuda_stage *s, int first, int tokens) {
    if (tokens <= CUDA_FEW && w->squares) return few_scales(w) + first;
    return FORMAT_OF(&s->matrix) == CUDA_BF16 ? (const float *)0 : (const float *)w->scales + first;
}

/* A value that all lanes have, so that the compiler does not split a warp where it decides. */
DEVICE int same_in_warp(int value) {
    return (int)bits_of_float(shuffle_from(float_of_bits((u32)value), 0));
}

/* Bias, residual, the row's scale back, and act(gate) * up where that is meant; what is loaded is
 * loaded many at a time.  What a stage says is read once: stores might change it, for all that a
 * compiler knows. */
DEVICE void put_tile(const cuda_world *w, const cuda_stage *s, const float *all, int tile,
                     int first, int tokens) {
    enum { MOST = 8 }; /* groups of 8 tokens at a time */
    tile = same_in_warp(tile);
    const int packed = tile * CUDA_TILE + LANE / 4, rows = s->matrix.rows;
    const int left = rows_of(w, &s->out) - first - LANE % 4 * 2;
    const int row[2] = {CUDA_ROW_OF(s->matrix.gated, packed),
                        CUDA_ROW_OF(s->matrix.gated, packed + 8)};
    const bool is_folded = s->folded && s->matrix.gated && w->folds;
    const float *scales = scales_of(w, s, first, tokens);
    const bool is_scaled = FORMAT_OF(&s->matrix) != CUDA_BF16 || tokens <= CUDA_FEW;
    const int most = is_scaled ? MOST / 2 : MOST, n = tokens / 8 < most ? tokens / 8 : most;
    const int act = s->act;
    const bool is_in[2] = {packed < rows, packed + 8 < rows};
    float bias[2] = {0, 0};
    UNROLL for (int i = 0; i < 2; i++) {
        if (s->matrix.bias && is_in[i]) bias[i] = ((const float *)s->matrix.bias)[row[i]];
    }
    if (w->image_out) {
        put_image(w, s, all, tile, first, tokens, bias, scales);
        return;
    }
    const lane_rows more = lane_rows_of(&s->residual, first, row);
    const lane_rows out = lane_rows_of(&s->out, first, row);
    UNROLL for (int j = 0; j < tokens / 8; j += most) {
        float residual[4 * MOST], scale[2 * MOST], gate[2];
        UNROLL for (int i = 0; i < 4 * n; i++) {
            const int group = j + i / 4, t = group * 8 + i % 2, r = i % 4 / 2;
            residual[i] = 0;
            if (r == 0) scale[i / 4 * 2 + i % 2] = 1;
            if (t >= left) continue;
            if (r == 0 && is_scaled && scales)
                scale[i / 4 * 2 + i % 2] = load_any(scales + LANE % 4 * 2 + t);
            if (more.at[0] && is_in[r])
                residual[i] = load_float(lane_value(&more, r, group, i % 2));
        }
        UNROLL for (int i = 0; i < 4 * n; i++) {
            const int group = j + i / 4, t = group * 8 + i % 2, r = i % 4 / 2;
            const float x = all[4 * j + i] * scale[i / 4 * 2 + i % 2] + bias[r] + residual[i];
            if (is_folded && r == 0) gate[i % 2] = act_of(act, x);
            if (t >= left || !is_in[r] || (is_folded && r == 0)) continue;
            *lane_value(&out, is_folded ? 0 : r, group, i % 2) = is_folded ? gate[i % 2] * x : x;
        }
    }
}

/* Where a warp of block `block` leaves its part of the tile that starts in block `first`:
 * [tokens / 8][32][4] float. */
DEVICE float *part_of(const cuda_world *w, int block, int first, int tokens) {
    return (float *)w->parts +
           (u64)((block * WIDE_PARTS + (block == first)) * N_MULTIPLIERS + WARP) *
               (u64)(tokens * 16);
}

/* Leaves this warp's part of a tile that blocks first .. last make; true for the one that comes
 * last, which then has the whole sum. */
DEVICE bool sum_parts(const cuda_world *w, float *all, int tokens, int first, int last) {
    enum { MOST = 96 }; /* values on their way, of several blocks where tiles are small */
    const int n = tokens < 128 ? tokens / 2 : 64, together = MOST / n;
    float *mine = part_of(w, BLOCK, first, tokens);
    UNROLL for (int i = 0; i < tokens / 2; i += 4) {
        u32 bits[4];
        UNROLL for (int j = 0; j < 4; j++) bits[j] = bits_of_float(all[i + j]);
        store_16(mine + (i / 4 * 32 + LANE) * 4, bits);
    }
    unsigned *ticket = (unsigned *)w->tile_tickets + first * N_MULTIPLIERS + WARP;
    unsigned came = 0;
    warp_sync();
    if (LANE == 0) came = take_ticket(ticket);
    came = bits_of_float(shuffle_from(float_of_bits(came), 0));
    if ((int)came != last - first) return false;
    if (LANE == 0) *ticket = 0; /* for the next launch */
    UNROLL for (int i = 0; i < tokens / 2; i++) all[i] = 0;
    for (int block = first; block <= last; block += together) {
        UNROLL for (int i = 0; i < tokens / 2; i += n) {
            float v[MOST];
            UNROLL for (int k = 0; k < together; k++) {
                const float *part = part_of(w, block + k < last ? block + k : last, first, tokens);
                UNROLL for (int j = 0; j < n; j += 4) {
                    load_floats_4(v + k * n + j, part + ((i + j) / 4 * 32 + LANE) * 4);
                }
            }
            UNROLL for (int k = 0; k < together; k++) {
                if (block + k > last) break;
                UNROLL for (int j = 0; j < n; j++) all[i + j] += v[k * n + j];
            }
        }
    }
    return true;
}

/* ---- products: the warps that multiply */

typedef struct stage_queue { /* of inputs: the one to be multiplied next */
    u64 *full, *empty;
    int at, before;
    unsigned round;
} stage_queue;

/* A stage of inputs times 64 k of weights; gives back the stage before. */
DEVICE void multiply_stage(const cuda_world *w, stage_queue *q, float *all, int tokens,
                           const u32 a[4][4], bool is_bf16) {
    gate_pass(q->full + q->at, q->round);
    const char *stage = shared_bytes + q->at * tokens * 2 * WIDE_STAGE_K;
    wide_begin();
    UNROLL for (int i = 0; i < 4; i++) wide_multiply(all, tokens, a[i], stage, i, is_bf16);
    wide_end();
    wide_wait(1);
    if (q->before >= 0) gate_arrive(q->empty + q->before);
    q->before = q->at;
    if (++q->at == w->wide.n_stages) q->at = 0, q->round++;
}

/* Chunks [chunk, end) of a tile. */
DEVICE void multiply_chunks(const cuda_world *w, const cuda_stage *s, const course *c,
                            wide_ring *weights, stage_queue *q, float *all, int tokens) {
    const cuda_matrix *m = &s->matrix;
    const int format = FORMAT_OF(m), span = CUDA_WIDE_SPAN(format), each = span / m->block_span;
    for (int chunk = c->chunk; chunk < c->end; chunk++) {
        const int n = m->n_blocks - chunk * each; /* or more than there are in a chunk */
        copy_wait(weights->gates + weights->read, weights->round, w->wide.n_slots);
        const char *slot = weights->slots + weights->read * w->wide.slot_bytes;
        for (int stage = 0; stage < span / WIDE_STAGE_K; stage += 2) {
            u32 a[2][4][4];
            UNROLL for (int i = 0; i < 2; i++) {
                load_weights(a[i], format, slot, n, stage + i);
                multiply_stage(w, q, all, tokens, a[i], format == CUDA_BF16);
            }
        }
        wide_done(w, m, weights);
    }
    wide_wait(0);
    wide_settle(all, tokens);
    gate_arrive(q->empty + q->before);
    q->before = -1;
}

DEVICE void multiply_wide(const cuda_world *w, int tokens) {
    const cuda_stage *s = stage_at(w, w->first);
    const cuda_wide *p = &w->wide;
    u64 *full = (u64 *)(shared_bytes + p->gates), *empty = full + p->n_stages;
    const bool is_copier = WARP == N_MULTIPLIERS;
    for (int i = 0; is_copier && i < p->n_stages; i++) {
        gate_open_for(full + i, COPY_ARRIVALS);
        gate_open_for(empty + i, N_MULTIPLIERS);
    }
    block_sync();
    launch_next();
    if (WARP >= N_MULTIPLIERS) {
        wide_give_registers(232);
        launch_wait();
        if (is_copier) copy_inputs(w, s, tokens);
        return;
    }
    wide_take_registers(232);
    wide_ring weights;
    stage_queue q = {full, empty, 0, -1, 0};
    float all[128];
    wide_ring_open(w, s, tokens, &weights);
    launch_wait(); /* weights are on their way */
    const int columns = token_tiles(w, s, tokens);
    for (course c = course_begin(w, s, tokens); course_is_on(&c); course_next(&c)) {
        UNROLL for (int i = 0; i < tokens / 2; i++) all[i] = 0;
        multiply_chunks(w, s, &c, &weights, &q, all, tokens);
        const int from = (c.tile - c.n_whole) * c.n_chunks;
        if (c.end - c.chunk < c.n_chunks && !sum_parts(w, all, tokens, block_of_step(&c, from),
                                                       block_of_step(&c, from + c.n_chunks - 1))) {
            continue;
        }
        put_tile(w, s, all, c.tile / columns * N_MULTIPLIERS + WARP, c.tile % columns * tokens,
                 tokens);
    }
}
