/* prepare.cuh - inputs of a product of many tokens, as the image that wide.cuh multiplies.
 *
 *   v = x | norm(x) | act(g) * u | act(x)     [tokens, cols] f32, zeros up to depth
 *
 *   image as image.cuh draws it
 *
 * F16: v times the row's power of two (input.cuh); BF16: v.
 *
 * A block makes a row at a time and looks at it once to write it, before that once for its mean
 * (layer norm) and once for its squares or its largest.  The first look loads, many values at a
 * time; rows of up to QUADS * 4 values a thread stay in registers.
 *
 * Bytes moved: a row read (of more features than stay: read again, from the second-level cache),
 * half of one written.  CPU twin: cpu/project.c (prologues).  Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

enum { LOOK_FOR_MEAN, LOOK_FOR_SIZE, LOOK_TO_WRITE };

/* Values 4q .. 4q + 3 of a vector of the model, which no kernel writes. */
DEVICE void load_constants(float v[4], const float *x, int q, int n) {
    if (4 * q + 4 > n) {
        load_quad(v, x, q, n, true);
        return;
    }
    u32 bits[4];
    load_16(bits, x + 4 * q);
    UNROLL for (int i = 0; i < 4; i++) v[i] = float_of_bits(bits[i]);
}

/* Quads first + i * N_THREADS of row r, before its norm. */
DEVICE void load_values(float v[QUADS][4], const cuda_stage *s, int r, int first, bool is_folded) {
    const bool is_gate = s->prologue == CUDA_GATE && !is_folded;
    const int cols = s->matrix.cols;
    const float *x = row_of(&s->in, r);
    UNROLL for (int i = 0; i < QUADS; i++) load_quad(v[i], x, first + i * N_THREADS, cols, true);
    if (!is_gate && s->prologue != CUDA_ACT) return;
    UNROLL for (int i = 0; i < 4 * QUADS; i++) v[i / 4][i % 4] = act_of(s->act, v[i / 4][i % 4]);
    if (!is_gate) return;
    UNROLL for (int i = 0; i < QUADS; i++) {
        float up[4];
        load_quad(up, row_of(&s->in2, r), first + i * N_THREADS, cols, true);
        UNROLL for (int j = 0; j < 4; j++) v[i][j] *= up[j];
    }
}

/* This thread's part of what a row is looked at for: a sum, of squares about the mean, or the
 * largest. */
DEVICE float look_at(const cuda_stage *s, int pass, float v[QUADS][4], int first, float mean) {
    float found = 0;
    UNROLL for (int i = 0; i < 4 * QUADS; i++) {
        const float x = v[i / 4][i % 4], d = x - mean;
        if ((first + i / 4 * N_THREADS) * 4 + i % 4 >= s->matrix.cols) continue;
        if (pass == LOOK_FOR_MEAN) {
            found += x;
        } else {
            found = s->prologue == CUDA_NORM ? found + d * d : fmaxf(found, fabsf(x));
        }
    }
    return found;
}

/* Four values, normed, to their places in the row's part of the image; whole warps.  Neighbours
 * swap halves, so that each stores the 8 bytes of one part. */
DEVICE void put_quad(const cuda_world *w, const cuda_stage *s, const float v[4], int r, int q,
                     int depth, row_norm norm, float scale) {
    const int k16 = q / 4, half = q % 2;
    const bool is_bf16 = FORMAT_OF(&s->matrix) == CUDA_BF16;
    float y[4], factor[4], more[4] = {0, 0, 0, 0};
    UNROLL for (int j = 0; j < 4; j++) y[j] = v[j];
    if (s->prologue == CUDA_NORM) {
        load_constants(factor, (const float *)s->norm.weight, q, s->matrix.cols);
        if (s->norm.bias) load_constants(more, (const float *)s->norm.bias, q, s->matrix.cols);
        UNROLL for (int j = 0; j < 4; j++) {
            y[j] = (y[j] - norm.mean) * norm.scale * factor[j] + more[j];
        }
    }
    u32 words[2];
    UNROLL for (int i = 0; i < 2; i++) {
        const float a = y[2 * i] * scale, b = y[2 * i + 1] * scale;
        words[i] = is_bf16 ? bf16_of_floats(a, b) : f16_of_floats(a, b);
    }
    u32 pair[2];
    swap_words(pair, words, half, 1);
    store_8(image_part(w, w->image, depth, r, k16, half) + q % 4 / 2 * 8, pair);
}

/* scratch [warps] */
DEVICE void prepare_row(const cuda_world *w, const cuda_stage *s, int r, float *scratch) {
    const cuda_matrix *m = &s->matrix;
    const int format = FORMAT_OF(m), span = CUDA_WIDE_SPAN(format);
    const int depth = (m->n_blocks * m->block_span + span - 1) / span * span, quads = depth / 4;
    const bool is_norm = s->prologue == CUDA_NORM, stays = quads <= QUADS * N_THREADS;
    const int first = is_norm && s->norm.is_layer      ? LOOK_FOR_MEAN
                      : is_norm || format != CUDA_BF16 ? LOOK_FOR_SIZE
                                                       : LOOK_TO_WRITE;
    float v[QUADS][4], scale = format != CUDA_BF16 && is_norm ? scale_of(s->norm.most) : 1;
    row_norm norm = {0, 1};
    for (int pass = first; pass <= LOOK_TO_WRITE; pass++) {
        float found = 0;
        for (int turn = WARP * 32; turn < quads; turn += QUADS * N_THREADS) { /* whole warps */
            const int at = turn + LANE;
            if (pass == first || !stays) load_values(v, s, r, at, s->folded && w->folds);
            if (pass < LOOK_TO_WRITE) {
                const float part = look_at(s, pass, v, at, norm.mean);
                found = is_norm ? found + part : fmaxf(found, part);
                continue;
            }
            UNROLL for (int i = 0; i < QUADS; i++) {
                if (turn + i * N_THREADS >= quads) continue; /* the whole warp */
                put_quad(w, s, v[i], r, at + i * N_THREADS, depth, norm, scale);
            }
        }
        if (pass == LOOK_TO_WRITE) continue;
        const float all = block_reduce(found, scratch, !is_norm, N_WARPS);
        if (pass == LOOK_FOR_MEAN) {
            norm.mean = all / (float)m->cols;
        } else if (is_norm) {
            norm.scale = 1 / sqrtf(all / (float)m->cols + s->norm.eps);
        } else {
            scale = scale_of(all);
        }
    }
    if (THREAD == 0) ((float *)w->scales)[r] = 1 / scale; /* a power of two */
}

DEVICE void prepare_wide(const cuda_world *w) {
    const cuda_stage *s = stage_at(w, w->first);
    const int n = rows_of(w, &s->out);
    launch_next();
    launch_wait();
    for (int r = BLOCK; r < n; r += N_BLOCKS) prepare_row(w, s, r, (float *)shared_bytes);
}
