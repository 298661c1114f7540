/* spread.cu - a stage of many rows that is neither product nor attention, by all threads that the
 * GPU holds.
 *
 * What waits for memory here is a chain of loads, so threads count: `walk` has 8 warps on a
 * multiprocessor, these kernels 32.  Keys and values go to the store by fours:
 *
 *     item   a row, K or V, up to STORE_HEADS heads; a warp
 *     lane   features 4 q .. 4 q + 3 of each of them: loads of all are under way together, and
 *            their angles are the same
 *
 * Bytes moved: keys and values of the step read in f32, written in the store's type.
 * CPU twin: kv.c.  Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WEIR_EMULATED
    #include "machine.cuh"
#endif
#include "stage.h"

#include "weights.cuh"

#include "input.cuh"
#include "store.cuh"

#include "rows.cuh"

enum {
    STORE_HEADS = 4,
    STORE_TURNS = CUDA_MANY_DIM / 128 /* quads of a head that a lane has, at most */
};

/* x[d] * c + x[d's partner] * s is feature d, rotated. */
typedef struct quad_angles {
    float c[4], s[4];
} quad_angles;

DEVICE quad_angles load_angles(const cuda_world *w, int r, bool is_pin, int q) {
    const u64 phase = (u64)r * (u64)w->pairs;
    const float *cosines = (const float *)(is_pin ? w->cos_pin : w->cos_pos) + phase;
    const float *sines = (const float *)(is_pin ? w->sin_pin : w->sin_pos) + phase;
    quad_angles out = {{1, 1, 1, 1}, {0, 0, 0, 0}};
    if (4 * q >= 2 * w->pairs) return out;
    const bool is_second = 4 * q >= w->pairs;
    const int from = w->interleaved ? 2 * q : 4 * q - (is_second ? w->pairs : 0);
    UNROLL for (int i = 0; i < 4; i++) {
        const int at = from + (w->interleaved ? i / 2 : i);
        const float s = load_float(sines + at);
        out.c[i] = load_float(cosines + at);
        out.s[i] = (w->interleaved ? i % 2 : is_second) ? s : -s;
    }
    return out;
}

/* Quad q of a head's key, not turned yet, and the partners of its features. */
DEVICE void load_with_partners(const cuda_world *w, const float *x, int q, float v[4],
                               float other[4]) {
    const int apart = w->interleaved || 4 * q >= 2 * w->pairs ? 0
                      : 4 * q >= w->pairs                     ? -w->pairs
                                                              : w->pairs;
    load_floats_4(v, x + 4 * q);
    if (apart) {
        load_floats_4(other, x + 4 * q + apart);
    } else {
        UNROLL for (int i = 0; i < 4; i++) other[i] = v[i ^ 1];
    }
}

/* Quad q of row `at`. */
DEVICE void store_quad(const cuda_world *w, const store_rows *to, int at, int q, const float v[4],
                       float inverse) {
    const u64 first = (u64)at * (u64)WEIR_HEAD_DIM(w) + 4 * (u64)q;
    u32 words[4];
    if (to->type == CUDA_KV_F32) {
        UNROLL for (int i = 0; i < 4; i++) words[i] = bits_of_float(v[i]);
        store_16(to->at + 4 * first, words);
    } else if (store_is_scaled(to->type)) {
        UNROLL for (int i = 0; i < 4; i++) store_put(to, first + (u64)i, v[i], inverse);
    } else {
        const bool is_bf16 = to->type == CUDA_KV_BF16;
        UNROLL for (int i = 0; i < 2; i++) {
            const float a = v[2 * i], b = v[2 * i + 1];
            words[i] = is_bf16 ? bf16_of_floats(a, b) : f16_of_floats(a, b);
        }
        store_8(to->at + 2 * first, words);
    }
}

/* Heads [head, head + n) of row r; a warp. */
DEVICE void store_heads(const cuda_world *w, const cuda_stage *s, int r, int head, int n,
                        bool is_v) {
    const cuda_row *row = batch_row_at(w, r);
    const int hd = WEIR_HEAD_DIM(w), quads = hd / 4;
    const float *x = row_of(is_v ? &s->v : &s->in2, r) + head * hd;
    float v[STORE_TURNS][STORE_HEADS][4], most[STORE_HEADS] = {0, 0, 0, 0};
    UNROLL for (int turn = 0; turn < STORE_TURNS; turn++) {
        const int q = LANE + 32 * turn;
        if (q >= quads) break;
        if (is_v) {
            UNROLL for (int h = 0; h < STORE_HEADS; h++) {
                if (h < n) load_floats_4(v[turn][h], x + h * hd + 4 * q);
            }
            continue;
        }
        float other[STORE_HEADS][4];
        UNROLL for (int h = 0; h < STORE_HEADS; h++) {
            if (h < n) load_with_partners(w, x + h * hd, q, v[turn][h], other[h]);
        }
        const quad_angles angles = load_angles(w, r, row->is_pin, q);
        UNROLL for (int i = 0; i < 4 * STORE_HEADS; i++) {
            if (i / 4 >= n) continue;
            float *to = &v[turn][i / 4][i % 4];
            *to = turned_by(*to, other[i / 4][i % 4], angles.c[i % 4], angles.s[i % 4]);
        }
    }
    UNROLL for (int h = 0; h < STORE_HEADS; h++) {
        if (h >= n) continue; /* the whole warp */
        const store_rows to = store_of(w, row->slot, s->layer, row->is_pin, is_v, head + h);
        float inverse = 0;
        if (store_is_scaled(to.type)) {
            const float top = to.type == CUDA_KV_INT8 ? 127 : 448;
            UNROLL for (int i = 0; i < 4 * STORE_TURNS; i++) {
                if (LANE + 32 * (i / 4) < quads)
                    most[h] = fmaxf(most[h], fabsf(v[i / 4][h][i % 4]));
            }
            most[h] = warp_max(most[h]);
            if (LANE == 0) to.scales[row->at] = most[h] / top;
            inverse = most[h] > 0x1p-100f ? top / most[h] : 0;
        }
        UNROLL for (int turn = 0; turn < STORE_TURNS; turn++) {
            const int q = LANE + 32 * turn;
            if (q < quads) store_quad(w, &to, row->at, q, v[turn][h], inverse);
        }
    }
}

/* Features come by fours, and none of a four is turned unless all are. */
DEVICE bool goes_by_quads(const cuda_world *w, const cuda_stage *s) {
    const bool is_even =
        ((s->in2.at | s->v.at) & 15) == 0 && (s->in2.stride | s->v.stride) % 4 == 0;
    return is_even && WEIR_HEAD_DIM(w) % 4 == 0 && WEIR_HEAD_DIM(w) <= CUDA_MANY_DIM &&
           w->pairs % (w->interleaved ? 2 : 4) == 0;
}

DEVICE void spread_store(const cuda_world *w, const cuda_stage *s) {
    const int n_heads = w->n_kv_heads, groups = (n_heads + STORE_HEADS - 1) / STORE_HEADS;
    for (int i = BLOCK * N_WARPS + WARP; i < w->n * 2 * groups; i += N_BLOCKS * N_WARPS) {
        const int head = i % groups * STORE_HEADS, left = n_heads - head;
        store_heads(w, s, i / groups / 2, head, left < STORE_HEADS ? left : STORE_HEADS,
                    i / groups % 2);
    }
}

KERNEL_SPREAD spread(PARAM cuda_world world) {
    const cuda_world *w = &world;
    const cuda_stage *s = stage_at(w, w->first);
    launch_next();
    launch_wait();
    switch (s->kind) {
    case CUDA_PHASES: tabulate(w); break;
    case NN_NORMALIZE: normalize(w, s); break;
    case CUDA_STORE:
        if (goes_by_quads(w, s)) {
            spread_store(w, s);
        } else {
            store_all(w, s);
        }
        break;
    default: each_element(w, s); break;
    }
}
