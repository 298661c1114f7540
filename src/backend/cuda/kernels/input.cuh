/* input.cuh - what a product reads: prologue(x), as halves in the order of the matrix units.
 *
 *   v = x | norm(x) | act(g) * u | act(x)                    [tokens, cols], zeros up to depth
 *   words [depth / 16][stride][16]                           of token t at [k16][t]:
 *       F16 and integer levels   scale * v = hi + lo in f16: hi [16] then lo [16]; scale is the
 *                                power of two that brings the largest |v| of the row to 2^14
 *       BF16                     v = hi + lo in bf16, scale 1
 *       F32                      v as 16 floats
 *   sums [depth / 32][stride]    of scale * v over 32 k, for formats with minima
 *
 * A block makes one token at a time: values go to their place as floats, then each group of 16 is
 * turned into halves where it lies.  Sums of a row are made in a fixed order, so a token's input
 * has the same bits whoever makes it and whatever n is.
 *
 * CPU twin: cpu/project.c (prologues).  Test: tests/backend/test_cuda_project.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

/* Rows of a tensor in this step. */
DEVICE int rows_of(const cuda_world *w, const cuda_tensor *t) {
    return t->selected ? w->n_wanted : w->n;
}

DEVICE float *row_of(const cuda_tensor *t, int r) {
    return (float *)t->at + (u64)r * (u64)t->stride;
}

DEVICE float act_of(int act, float x) {
    switch (act) {
    case CUDA_SILU: return x / (1 + expf(-x));
    case CUDA_GELU: return 0.5f * x * (1 + erff(x * 0.70710678f));
    case CUDA_GELU_TANH: return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    default: return x > 0 ? x : 0;
    }
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

/* scratch [warps]; all threads of the block. */
DEVICE float block_reduce(float x, float *scratch, bool is_max) {
    x = is_max ? warp_max(x) : warp_sum(x);
    block_sync(); /* scratch is free */
    if (LANE == 0) scratch[WARP] = x;
    block_sync();
    float all = scratch[0];
    for (int i = 1; i < N_WARPS; i++) all = is_max ? fmaxf(all, scratch[i]) : all + scratch[i];
    return all;
}

/* ---- */

typedef struct row_norm {
    float mean, scale;
} row_norm;

/* Statistics of one row by the whole block. */
DEVICE row_norm norm_of_row(const cuda_norm *norm, const float *x, int n, float *scratch) {
    row_norm out;
    float sum = 0, squares = 0;
    out.mean = 0;
    if (norm->is_layer) {
        for (int k = THREAD; k < n; k += N_THREADS) sum += load_float(x + k);
        out.mean = block_reduce(sum, scratch, false) / (float)n;
    }
    for (int k = THREAD; k < n; k += N_THREADS) {
        const float d = load_float(x + k) - out.mean;
        squares += d * d;
    }
    out.scale = 1 / sqrtf(block_reduce(squares, scratch, false) / (float)n + norm->eps);
    return out;
}

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
    float *sums, *scale;     /* the next 32 k are stride on; sums may be NULL */
    int stride;
} input_place;

DEVICE void turn_into_halves(const cuda_matrix *m, const input_place *to, int depth, float scale) {
    const bool is_bf16 = m->format == CUDA_BF16;
    const int quads = (depth / 4 + 31) / 32 * 32; /* whole warps; a warp holds 8 times 16 k */
    for (int q = THREAD; q < quads; q += N_THREADS) {
        const bool is_in = q < depth / 4;
        u32 *block = to->words + (u64)(q / 4) * (u64)to->stride * 16;
        float v[4] = {0, 0, 0, 0}, sum;
        u32 hi[2], lo[2];
        UNROLL for (int i = 0; i < 4; i++) {
            if (is_in) v[i] = scale * float_of_bits(block[q % 4 * 4 + i]);
        }
        warp_sync(); /* the lanes of a group have read before one writes */
        sum = v[0] + v[1] + v[2] + v[3];
        split_values(v, is_bf16, hi, lo);
        UNROLL for (int i = 0; i < 2; i++) {
            if (is_in) block[q % 4 * 2 + i] = hi[i];
            if (is_in) block[8 + q % 4 * 2 + i] = lo[i];
        }
        UNROLL for (int mask = 1; mask < 8; mask *= 2) sum += shuffle_xor(sum, mask);
        if (to->sums && is_in && q % 8 == 0) to->sums[(u64)(q / 8) * (u64)to->stride] = sum;
    }
}

/* Row r of the input of stage s; all threads of a block.  Sync before what is made is read. */
DEVICE void make_input(const cuda_stage *s, int r, const input_place *to, float *scratch) {
    const cuda_matrix *m = &s->matrix;
    const float *x = row_of(&s->in, r), *up = row_of(&s->in2, r);
    const int depth = m->n_blocks * m->block_span;
    row_norm norm = {0, 0};
    if (s->prologue == CUDA_NORM) norm = norm_of_row(&s->norm, x, m->cols, scratch);
    float most = 0;
    for (int k = THREAD; k < depth; k += N_THREADS) {
        float v = k < m->cols ? load_float(x + k) : 0;
        if (s->prologue == CUDA_NORM && k < m->cols) v = normed(&s->norm, norm, v, k);
        if (s->prologue == CUDA_GATE) v = k < m->cols ? act_of(s->act, v) * load_float(up + k) : 0;
        if (s->prologue == CUDA_ACT) v = act_of(s->act, v);
        to->words[(u64)(k / 16) * (u64)to->stride * 16 + (u64)(k % 16)] = bits_of_float(v);
        most = fmaxf(most, fabsf(v));
    }
    if (m->format == CUDA_F32) {
        if (THREAD == 0) *to->scale = 1;
        return;
    }
    most = block_reduce(most, scratch, true);
    const float scale = m->format == CUDA_BF16 ? 1 : scale_of(most);
    if (THREAD == 0) *to->scale = scale;
    block_sync();
    turn_into_halves(m, to, depth, scale);
}
