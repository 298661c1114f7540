/* input.cuh - what a product reads: prologue(x), as halves in the order of the matrix units.
 *
 *   v = x | norm(x) | act(g) * u | act(x)                    [tokens, cols], zeros up to depth
 *   words [depth / 16][stride][16]                           of token t at [k16][t]; scale * v is
 *       F16, FP8   hi + lo in f16: hi [16] then lo [16]; scale is the power of two that brings the
 *                  largest |v| of the row to 2^14
 *       BF16       the same in bf16, scale 1
 *       F32        16 floats
 *       levels     of 32 k, s * (256 hi + lo): at the first k16 bytes hi [32] then lo [32], words
 *                  in the order 0 4 1 5 2 6 3 7 (of nibbles also bytes 0 2 1 3); at the second s,
 *                  and s times the sum of what they stand for
 *
 * What a norm can give is bounded by sqrt(cols) and its largest weight, so its f16 scale is known
 * when the model opens.  The factor of an RMS norm is 1 / scale of bf16 and levels: outputs are
 * multiplied by it, so values are read, turned and stored in one go, and the sum of their squares
 * is wanted when the product is done.  Others take two: values go to their place as floats, then
 * each group is turned where it lies.
 *
 * A block makes one token at a time, many loads in flight.  Sums of a row are made in a fixed
 * order, so a token's input has the same bits whoever makes it and whatever n is.
 *
 * CPU twin: cpu/project.c (prologues).  Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

/* Warps of a block that work, and their threads: in `walk` one behind them copies (ring.cuh). */
#define WORKERS(w)      (N_WARPS - (w)->feeders)
#define WORK_THREADS(w) (32 * WORKERS(w))

WALK void work_sync(const world_of *w) {
    some_sync(WORK_THREADS(w));
}

/* Rows of a tensor in this step. */
WALK int rows_of(const world_of *w, const cuda_tensor *t) {
    return t->selected ? w->n_wanted : w->n;
}

DEVICE float *row_of(const cuda_tensor *t, int r) {
    return (float *)t->at + (u64)r * (u64)t->stride;
}

/* ---- tagged values: in a step of one row the lowest bit of a value that goes from block to block
 * is the step's tag, and the step before left the other one there.  Who reads asks until all have
 * it: one trip to the second-level cache where a barrier and what is read behind it take three.
 * Everywhere else that bit is zero, so that a row has the same bits in any step. */

DEVICE float without_tag(float x) {
    return float_of_bits(bits_of_float(x) & ~1u);
}

WALK bool has_tag(const world_of *w, float x) {
    return ((bits_of_float(x) ^ w->tag) & 1) == 0;
}

/* Where feature i of row r is read. */
WALK const float *value_at(const world_of *w, const cuda_tensor *t, int r, int i) {
    return (w->tagged && t->tagged ? (const float *)t->tagged : row_of(t, r)) + i;
}

/* x was loaded from p, of tensor t. */
WALK float settle_value(const world_of *w, const cuda_tensor *t, const float *p, float x) {
    if (!t->tagged || !w->tagged) return x;
    for (; !has_tag(w, x); x = load_relaxed(p)) spin();
    return without_tag(x);
}

WALK void put_value(const world_of *w, const cuda_tensor *t, int r, int i, float x) {
    if (t->tagged) x = without_tag(x);
    if (t->tagged && w->tagged) {
        store_relaxed((float *)t->tagged + i, float_of_bits(bits_of_float(x) | w->tag));
    } else {
        row_of(t, r)[i] = x;
    }
}

#ifndef WEIR_ACT
    #define WEIR_ACT(act) (act)
#endif

DEVICE float act_of(int act, float x) {
    switch (WEIR_ACT(act)) {
    case CUDA_SILU: return quotient(x, 1 + exponential(-x));
    case CUDA_GELU: return 0.5f * x * (1 + erff(x * 0.70710678f));
    case CUDA_GELU_TANH: return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    default: return x > 0 ? x : 0;
    }
}

/* Cycles since the last mark, added up at place `mark`, when times are taken. */
WALK void take_mark(const world_of *w, int mark) {
    u64 *marks = (u64 *)(shared_bytes + w->shared.marks);
    if (!w->times || THREAD != 0) return;
    const u64 now = clock_now();
    marks[mark] += now - marks[CUDA_MARKS];
    marks[CUDA_MARKS] = now;
}

/* ---- reductions; every lane, every thread gets the result */

DEVICE float warp_sum(float x) {
    UNROLL for (int mask = 16; mask; mask /= 2) x += shuffle_xor(x, mask);
    return x;
}

DEVICE float warp_max(float x) {
    UNROLL for (int mask = 16; mask; mask /= 2) x = fmaxf(x, shuffle_xor(x, mask));
    return x;
}

/* scratch [warps]; all threads of the first `warps` of the block. */
DEVICE float block_reduce(float x, float *scratch, bool is_max, int warps) {
    x = is_max ? warp_max(x) : warp_sum(x);
    some_sync(32 * warps); /* scratch is free */
    if (LANE == 0) scratch[WARP] = x;
    some_sync(32 * warps);
    float all = scratch[0];
    for (int i = 1; i < warps; i++) all = is_max ? fmaxf(all, scratch[i]) : all + scratch[i];
    return all;
}

/* ---- */

typedef struct row_norm {
    float mean, scale;
} row_norm;

DEVICE float normed(const cuda_norm *norm, row_norm row, float x, int k) {
    const float y = (x - row.mean) * row.scale * ((const float *)norm->weight)[k];
    return norm->bias ? y + ((const float *)norm->bias)[k] : y;
}

/* The largest power of two s with s * most <= 2^14; 1 for a row of zeros. */
DEVICE float scale_of(float most) {
    const u32 exponent = bits_of_float(most) >> 23 & 255;
    if (exponent < 20 || exponent > 250) return exponent < 20 ? 1.0f : 7.52316385e-37f; /* 2^-120 */
    return float_of_bits((127 + 14 + 126 - exponent) << 23); /* most < 2^(exponent - 126) */
}

/* Four values as hi and lo halves, two words each. */
DEVICE void split_values(const float v[4], bool is_bf16, u32 hi[2], u32 lo[2]) {
    UNROLL for (int i = 0; i < 2; i++) {
        u32 h[2], l[2];
        UNROLL for (int j = 0; j < 2; j++) {
            const float x = v[2 * i + j];
            h[j] = is_bf16 ? bf16_of_float(x) : f16_of_float(x);
            const float rest = x - (is_bf16 ? float_of_bf16(h[j]) : float_of_f16(h[j]));
            l[j] = is_bf16 ? bf16_of_float(rest) : f16_of_float(rest);
        }
        hi[i] = h[0] | h[1] << 16;
        lo[i] = l[0] | l[1] << 16;
    }
}

typedef struct input_place { /* of one token */
    u32 *words;              /* its first 16; the next k16 is stride * 16 on */
    float *scale;            /* 1 / scale: what its sums are multiplied by */
    float *squares;          /* [warps] of an RMS norm that is made in one go */
    int stride;
} input_place;

typedef struct float4_of {
    float x[4];
} float4_of;

enum { QUADS = 6 }; /* of four neighbouring values each, that a thread loads together */

/* A quad that is not aligned or does not lie in the row as a whole. */
DEVICE float4_of load_odd_quad(const float *x, int left) {
    float4_of v;
    for (int i = 0; i < 4; i++) v.x[i] = i < left ? load_float(x + i) : 0;
    return v;
}

COLD float4_of load_odd_quad_apart(const float *x, int left) {
    return load_odd_quad(x, left);
}

/* Values 4q .. 4q + 3 of a row of n; zeros behind its end.  is_apart: what seldom runs is called.
 */
DEVICE void load_quad(float v[4], const float *x, int q, int n, bool is_apart) {
    if (4 * q >= n) {
        UNROLL for (int i = 0; i < 4; i++) v[i] = 0;
    } else if (4 * q + 4 <= n && ((u64)x & 15) == 0) {
        load_floats_4(v, x + 4 * q);
    } else {
        const int left = n - 4 * q;
        const float4_of odd =
            is_apart ? load_odd_quad_apart(x + 4 * q, left) : load_odd_quad(x + 4 * q, left);
        UNROLL for (int i = 0; i < 4; i++) v[i] = odd.x[i];
    }
}

DEVICE u32 *quad_of(const input_place *to, int q) {
    return to->words + ((u32)q >> 2) * (u32)to->stride * 16 + ((u32)q & 3) * 4;
}

/* Known where kernels are made for formats of levels alone. */
DEVICE bool is_of_levels(int format) {
    const bool is_known = !HAS_FORMAT(CUDA_F32) && !HAS_FORMAT(CUDA_F16) &&
                          !HAS_FORMAT(CUDA_BF16) && !HAS_FORMAT(CUDA_FP8);
    return is_known || format > CUDA_BF16;
}

DEVICE bool is_of_nibbles(int format) {
    return format == CUDA_Q4 || format == CUDA_Q4M || format == CUDA_K4;
}

/* Four values of a row as halves. */
DEVICE void store_halves(int format, const input_place *to, int q, const float v[4]) {
    u32 hi[2], lo[2], *block = quad_of(to, q) - q % 4 * 4;
    split_values(v, format == CUDA_BF16, hi, lo);
    store_8(block + q % 4 * 2, hi);
    store_8(block + 8 + q % 4 * 2, lo);
}

/* Four values as levels: the bits of 1.5 * 2^23 more than a number are the number and a constant.
 */
DEVICE void bytes_of_values(int format, const float v[4], float to_levels, u32 *hi, u32 *lo,
                            int *sum) {
    const bool crosses = is_of_nibbles(format); /* bytes 0 2 1 3 */
    u32 bits[4], up[4];
    UNROLL for (int i = 0; i < 4; i++) {
        bits[i] = bits_of_float(v[i] * to_levels + 12582912.0f);
        up[i] = bits[i] + 128;
    }
    *sum += (int)(bits[0] + bits[1] + bits[2] + bits[3] - 4 * 0x4b400000u);
    *lo = pick_bytes(pick_bytes(bits[0], crosses ? bits[2] : bits[1], 0x40),
                     pick_bytes(crosses ? bits[1] : bits[2], bits[3], 0x40), 0x5410);
    *hi = pick_bytes(pick_bytes(up[0], crosses ? up[2] : up[1], 0x51),
                     pick_bytes(crosses ? up[1] : up[2], up[3], 0x51), 0x5410);
}

DEVICE float levels_of_most(float most) {
    return most > 1e-30f ? quotient(32512.0f, most) : 0;
}

/* Where bytes of quad q go, hi; lo is 8 words on, and those of quad q + 1 (q even) two. */
DEVICE u32 *bytes_at(const input_place *to, int q) {
    const u32 at = (u32)q;
    return to->words + (at >> 3) * (u32)to->stride * 32 + (at & 3) * 2 + (at >> 2 & 1);
}

/* Of the 32 k from quad q on. */
DEVICE void put_scale(int format, const input_place *to, int q, float most, int sum) {
    const float scale = most * (1 / 32512.0f);
    const float bias = format == CUDA_Q8 ? 128.0f : format == CUDA_Q4 ? 8.0f : 1.0f;
    const u32 pair[2] = {bits_of_float(scale), bits_of_float(scale * (float)sum * bias)};
    store_8(to->words + ((u32)q >> 2) * (u32)to->stride * 16 + to->stride * 16, pair);
}

/* Quads q .. q + n - 1, n 1 or 2 and q a multiple of it, as words of bytes; whole warps, of which
 * each 8 / n lanes hold 32 k. */
DEVICE void store_bytes(int format, const input_place *to, int q, int n, bool is_in, float v[][4]) {
    float most = 0;
    int sum = 0;
    u32 hi[2], lo[2];
    UNROLL for (int i = 0; i < 4 * n; i++) most = fmaxf(most, fabsf(v[i / 4][i % 4]));
    UNROLL for (int mask = 1; mask < 8 / n; mask *= 2) most = fmaxf(most, shuffle_xor(most, mask));
    const float to_levels = levels_of_most(most);
    UNROLL for (int i = 0; i < n; i++) {
        bytes_of_values(format, v[i], to_levels, &hi[i], &lo[i], &sum);
    }
    UNROLL for (int mask = 1; mask < 8 / n; mask *= 2) sum += shuffle_int(sum, LANE ^ mask);
    if (!is_in) return;
    u32 *at = bytes_at(to, q);
    UNROLL for (int i = 0; i < n; i++) {
        at[2 * i] = hi[i];
        at[2 * i + 8] = lo[i];
    }
    if (q % 8 == 0) put_scale(format, to, q, most, sum);
}

/* Reads a row and puts it to its place: as floats, or with is_last as what weights of the format
 * want; of an RMS norm all but its factor, of a layer norm what it is to norm.  Returns this
 * thread's sum of squares (RMS norm), sum (layer norm), or largest size. */
DEVICE float gather(const cuda_stage *s, int format, bool is_last, int r, const input_place *to,
                    int quads, bool is_folded, int threads) {
    const float *x = row_of(&s->in, r);
    const bool is_gate = s->prologue == CUDA_GATE && !is_folded, is_norm = s->prologue == CUDA_NORM;
    const bool is_rms = is_norm && !s->norm.is_layer;
    const float *factor = is_gate ? row_of(&s->in2, r) : (const float *)s->norm.weight;
    const int cols = s->matrix.cols;
    float found = 0;
    for (int turn = WARP * 32; turn < quads; turn += QUADS * threads) { /* whole warps */
        const int first = turn + LANE;
        float v[QUADS][4], f[QUADS][4];
        UNROLL for (int i = 0; i < QUADS; i++) load_quad(v[i], x, first + i * threads, cols, false);
        if (is_gate || is_rms) {
            UNROLL for (int i = 0; i < QUADS; i++) {
                load_quad(f[i], factor, first + i * threads, cols, false);
            }
        } else { /* what is not set on every way is kept in registers all the time */
            UNROLL for (int i = 0; i < 4 * QUADS; i++) f[i / 4][i % 4] = 1;
        }
        UNROLL for (int i = 0; i < QUADS; i++) {
            const int q = first + i * threads;
            if (turn + i * threads >= quads) continue; /* the whole warp */
            u32 bits[4];
            UNROLL for (int j = 0; j < 4; j++) {
                float y = v[i][j];
                if (is_norm) found += is_rms ? y * y : y;
                if (is_gate || s->prologue == CUDA_ACT) y = act_of(s->act, y);
                if (is_gate || is_rms) y *= f[i][j];
                if (!is_norm) found = fmaxf(found, fabsf(y));
                v[i][j] = y;
                bits[j] = bits_of_float(y);
            }
            if (is_last && is_of_levels(format)) {
                store_bytes(format, to, q, 1, q < quads, v + i);
            } else if (q < quads && is_last) {
                store_halves(format, to, q, v[i]);
            } else if (q < quads) {
                store_16(quad_of(to, q), bits);
            }
        }
    }
    return found;
}

/* Norms gathered values where they lie; the whole block. */
DEVICE void layer_norm(const cuda_stage *s, const input_place *to, float found, float *scratch,
                       int warps) {
    const int cols = s->matrix.cols;
    row_norm norm;
    float squares = 0;
    norm.mean = block_reduce(found, scratch, false, warps) / (float)cols;
    for (int k = THREAD; k < cols; k += 32 * warps) {
        const float d = float_of_bits(quad_of(to, k / 4)[k % 4]) - norm.mean;
        squares += d * d;
    }
    norm.scale =
        1 / sqrtf(block_reduce(squares, scratch, false, warps) / (float)cols + s->norm.eps);
    for (int k = THREAD; k < cols; k += 32 * warps) {
        u32 *at = quad_of(to, k / 4) + k % 4;
        *at = bits_of_float(normed(&s->norm, norm, float_of_bits(*at), k));
    }
    some_sync(32 * warps);
}

/* Gathered values times factor become what weights of the format want, where they lie. */
DEVICE void turn_values(int format, const input_place *to, int quads, float factor, int warps) {
    const int rounded = (quads + 31) / 32 * 32; /* whole warps; a warp holds 8 times 16 k */
    for (int q = THREAD; q < rounded; q += 32 * warps) {
        const bool is_in = q < quads;
        u32 bits[4] = {0, 0, 0, 0};
        float v[1][4];
        if (is_in) load_16(bits, quad_of(to, q));
        UNROLL for (int i = 0; i < 4; i++) {
            v[0][i] = float_of_bits(bits[i]) * factor;
            bits[i] = bits_of_float(v[0][i]);
        }
        warp_sync(); /* the lanes of a group have read before one writes */
        if (is_of_levels(format)) {
            store_bytes(format, to, q, 1, is_in, v);
        } else if (is_in && format == CUDA_F32) {
            store_16(quad_of(to, q), bits);
        } else if (is_in) {
            store_halves(format, to, q, v[0]);
        }
    }
}

/* Values of row r of the input of stage s to their places as floats, all but the factor that is
 * returned; all threads that work.  Sync before they are read. */
DEVICE float gather_normed(const cuda_stage *s, int format, int r, const input_place *to, int quads,
                           float *scratch, bool is_folded, int warps) {
    const float found = gather(s, format, false, r, to, quads, is_folded, 32 * warps);
    float factor = 1, scale = 1;
    if (s->prologue != CUDA_NORM) {
        if (format == CUDA_F16) scale = scale_of(block_reduce(found, scratch, true, warps));
    } else {
        if (format == CUDA_F16) scale = scale_of(s->norm.most);
        if (s->norm.is_layer) {
            layer_norm(s, to, found, scratch, warps);
        } else {
            const float squares = block_reduce(found, scratch, false, warps);
            factor = 1 / sqrtf(squares / (float)s->matrix.cols + s->norm.eps);
        }
    }
    if (THREAD == 0) *to->scale = 1 / scale; /* a power of two */
    some_sync(32 * warps);
    return factor * scale;
}

/* Row r of the input of stage s the long way round. */
DEVICE void make_odd_input(const cuda_stage *s, int format, int r, const input_place *to,
                           float *scratch, bool is_folded, int warps) {
    const int quads = s->matrix.n_blocks * s->matrix.block_span / 4;
    const bool is_layer = s->prologue == CUDA_NORM && s->norm.is_layer;
    if (format == CUDA_F32 || format == CUDA_F16 || is_layer) {
        const float factor = gather_normed(s, format, r, to, quads, scratch, is_folded, warps);
        turn_values(format, to, quads, factor, warps);
        if (LANE == 0) to->squares[WARP] = -1; /* the scale is known */
        return;
    }
    const float squares = warp_sum(gather(s, format, true, r, to, quads, is_folded, 32 * warps));
    if (LANE == 0) to->squares[WARP] = squares;
}

enum { FEW_QUADS = 4 }; /* that a thread loads together where code is to be short */

/* Whether a stage reads its rows by fours, as they are or as an RMS norm. */
DEVICE bool is_read_by_fours(const cuda_stage *s, int format, bool is_folded) {
    const bool is_plain = s->prologue == CUDA_PLAIN || is_folded;
    return s->is_even && format > CUDA_F16 && format != CUDA_FP8 &&
           (is_plain || (s->prologue == CUDA_NORM && !s->norm.is_layer));
}

/* How a row is dealt: `most` quads a thread in a turn, `each` of them side by side. */
typedef struct deal {
    int most, each;
} deal;

/* Rows that are short have code of their own, in which no thread has much. */
WALK bool is_short_row(const world_of *w, const cuda_stage *s) {
    return s->matrix.cols <= 4 * FEW_QUADS / 2 * WORK_THREADS(w);
}

/* Of others two quads make 8 bytes of levels. */
DEVICE deal deal_of(int format, bool is_short) {
    const deal out = {is_short ? FEW_QUADS / 2 : FEW_QUADS,
                      is_of_levels(format) && !is_short ? 2 : 1};
    return out;
}

/* The i-th quad of this thread in a turn. */
WALK int quad_of_turn(const world_of *w, deal d, int turn, int i) {
    const int groups = turn * (d.most / d.each) + i / d.each;
    return d.each * (groups * WORK_THREADS(w) + THREAD) + i % d.each;
}

/* Weights of a norm for quads [q, q + n), ones where there is none. */
DEVICE void load_norm(const cuda_stage *s, int q, int n, float f[][4]) {
    const float *weight = s->prologue == CUDA_NORM ? (const float *)s->norm.weight : (float *)0;
    UNROLL for (int i = 0; i < n; i++) {
        UNROLL for (int j = 0; j < 4; j++) f[i][j] = 1;
        if (weight && 4 * (q + i) < s->matrix.cols) load_floats_4(f[i], weight + 4 * (q + i));
    }
}

/* This thread's of a short row, which do not depend on the stage before, so they can be loaded
 * while that one ends.  Zeros of others: what is never set would be kept in registers all the time.
 */
WALK void load_early_norm(const world_of *w, const cuda_stage *s, int format,
                          float f[FEW_QUADS / 2][4]) {
    const deal d = deal_of(format, true);
    UNROLL for (int i = 0; i < 4 * d.most; i++) f[i / 4][i % 4] = 0;
    if (!is_short_row(w, s)) return;
    UNROLL for (int i = 0; i < d.most; i++) load_norm(s, quad_of_turn(w, d, 0, i), 1, f + i);
}

/* Until what was loaded of a tagged row is there. */
WALK void await_quads(const world_of *w, deal d, const float *x, int turn, int cols,
                      float v[FEW_QUADS][4]) {
    for (;;) {
        u32 unlike = 0;
        UNROLL for (int i = 0; i < 4 * d.most; i++) {
            unlike = also_unlike(unlike, bits_of_float(v[i / 4][i % 4]), w->tag);
        }
        if ((unlike & 1) == 0) return;
        spin();
        UNROLL for (int i = 0; i < d.most; i++) {
            const int q = quad_of_turn(w, d, turn, i);
            if (4 * q < cols) load_relaxed_4(v[i], x + 4 * q);
        }
    }
}

/* A row by fours: code that runs once a stage is short, since the machine fetches all of it every
 * time.  early: load_early_norm of a short row. */
WALK float gather_even(const world_of *w, const cuda_stage *s, int format, bool is_short, int r,
                       const input_place *to, float early[FEW_QUADS / 2][4]) {
    const deal d = deal_of(format, is_short);
    const int quads = s->matrix.n_blocks * s->matrix.block_span / 4, cols = s->matrix.cols;
    const bool is_tagged = w->tagged && s->in.tagged;
    const u32 tag = is_tagged ? w->tag : 0;
    const float *x = value_at(w, &s->in, r, 0);
    float squares = 0;
    for (int turn = 0; turn * d.most * WORK_THREADS(w) < quads; turn++) {
        float v[FEW_QUADS][4];
        UNROLL for (int i = 0; i < d.most; i++) {
            const int q = quad_of_turn(w, d, turn, i);
            UNROLL for (int j = 0; j < 4; j++) v[i][j] = float_of_bits(tag);
            if (4 * q < cols) load_relaxed_4(v[i], x + 4 * q);
        }
        if (is_tagged) await_quads(w, d, x, turn, cols, v);
        UNROLL for (int i = 0; i < d.most; i += d.each) {
            const int q = quad_of_turn(w, d, turn, i);
            if (q - LANE * d.each >= quads) continue; /* the whole warp */
            float part[4] = {0, 0, 0, 0}, norm[2][4];
            if (!is_short) load_norm(s, q, d.each, norm);
            UNROLL for (int k = 0; k < 4 * d.each; k++) {
                float *y = &v[i + k / 4][k % 4];
                *y = float_of_bits(bits_of_float(*y) & ~tag);
                part[k % 4] += *y * *y;
                *y *= is_short ? early[i][k % 4] : norm[k / 4][k % 4];
            }
            squares += (part[0] + part[1]) + (part[2] + part[3]);
            if (is_of_levels(format)) {
                store_bytes(format, to, q, d.each, q < quads, v + i);
            } else if (q < quads) {
                store_halves(format, to, q, v[i]);
            }
        }
    }
    return squares;
}

/* Row r of the input of stage s, for weights of a format; all threads that work.  Sync before what
 * is made is read, then have a warp call settle_scale. */
WALK void make_input(const world_of *w, const cuda_stage *s, int of, bool by_fours, int r,
                     const input_place *to, float *scratch, float early[FEW_QUADS / 2][4]) {
    if (!by_fours) {
        make_odd_input(s, of == CUDA_FP8 ? CUDA_F16 : of, r, to, scratch, s->folded && w->folds,
                       WORKERS(w));
        return;
    }
    float squares;
    if (is_short_row(w, s)) {
        squares = gather_even(w, s, of, true, r, to, early);
    } else {
        squares = gather_even(w, s, of, false, r, to, early);
    }
    squares = warp_sum(squares);
    if (LANE == 0) to->squares[WARP] = squares;
}

/* The scale of a row that was made in one go; a warp. */
WALK void settle_scale(const world_of *w, const cuda_stage *s, const input_place *to) {
    if (to->squares[0] < 0) return;
    const float sum = warp_sum(LANE < WORKERS(w) ? to->squares[LANE] : 0);
    const float square = quotient(sum, (float)s->matrix.cols) + s->norm.eps;
    if (LANE == 0) *to->scale = s->prologue == CUDA_NORM ? inverse_root(square) : 1;
}
