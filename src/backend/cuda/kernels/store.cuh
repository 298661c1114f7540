/* store.cuh - keys and values of the sessions on the device, laid out as kv.h draws it.
 *
 * Elements come in pairs, so that a lane loads at least two bytes; head_dim is even.  INT8 and
 * FP8 have a scale for each head and row: x = scale * q, scale = max |x| / 127 or 448, as kv.c
 * makes it.
 *
 * CPU twin: kv.c.  Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#ifndef WEIR_HEAD_DIM
    #define WEIR_HEAD_DIM(w) ((w)->head_dim)
    #define WEIR_KV_TYPE(w)  ((w)->kv_type)
    #define WEIR_PIN_TYPE(w) ((w)->pin_type)
    #define WEIR_LANE_PAIRS  CUDA_MAX_PAIRS
#endif

typedef struct store_rows { /* rows of one head: keys or values, pins or ring */
    char *at;               /* [..][head_dim] of type */
    float *scales;          /* [..], INT8 and FP8 */
    int type;
} store_rows;

DEVICE bool store_is_scaled(int type) {
    return type == CUDA_KV_INT8 || type == CUDA_KV_FP8;
}

DEVICE int store_type_bytes(int type) {
    return type == CUDA_KV_F32 ? 4 : store_is_scaled(type) ? 1 : 2;
}

WALK int type_of_pin(const world_of *w, bool is_pin) {
    return is_pin ? WEIR_PIN_TYPE(w) : WEIR_KV_TYPE(w);
}

WALK store_rows store_of(const world_of *w, int slot, int layer, bool is_pin, int is_v, int head) {
    char *at = (char *)w->kv + (u64)slot * w->slot_bytes + (u64)layer * w->layer_bytes;
    const int part = is_v * w->n_kv_heads + head;
    store_rows out;
    out.scales = (float *)(at + w->scale_at) + (u64)part * (u64)w->ring;
    out.type = type_of_pin(w, is_pin);
    out.at = is_pin ? at + (u64)part * w->pin_head_bytes
                    : at + w->ring_at + (u64)part * w->ring_head_bytes;
    return out;
}

/* Pair i of a row as it lies there. */
DEVICE void load_pair(const store_rows *s, u64 row_at, int i, u32 raw[2]) {
    const u64 at = row_at + 2 * (u64)i;
    raw[1] = 0;
    if (s->type == CUDA_KV_F32) {
        load_8(raw, s->at + at * 4);
    } else if (store_is_scaled(s->type)) {
        raw[0] = *(const u16 *)(s->at + at);
    } else {
        raw[0] = *(const u32 *)(s->at + at * 2);
    }
}

/* The two numbers of a pair, before their scale. */
DEVICE void read_pair(int type, const u32 raw[2], float out[2]) {
    const u32 low = raw[0] & 0xffff, high = raw[0] >> 16;
    if (type == CUDA_KV_F32) {
        out[0] = float_of_bits(raw[0]);
        out[1] = float_of_bits(raw[1]);
    } else if (type == CUDA_KV_INT8) {
        out[0] = (float)(s8)(raw[0] & 255);
        out[1] = (float)(s8)(raw[0] >> 8 & 255);
    } else if (type == CUDA_KV_FP8) {
        const u32 both = f16_of_e4m3(low);
        out[0] = float_of_f16(both & 0xffff);
        out[1] = float_of_f16(both >> 16);
    } else {
        out[0] = type == CUDA_KV_BF16 ? float_of_bf16(low) : float_of_f16(low);
        out[1] = type == CUDA_KV_BF16 ? float_of_bf16(high) : float_of_f16(high);
    }
}

DEVICE void store_put(const store_rows *s, u64 at, float x, float inverse) {
    if (s->type == CUDA_KV_F32) {
        ((float *)s->at)[at] = x;
    } else if (s->type == CUDA_KV_INT8) {
        ((s8 *)s->at)[at] = (s8)rintf(x * inverse);
    } else if (s->type == CUDA_KV_FP8) {
        ((u8 *)s->at)[at] = (u8)e4m3_of_float(x * inverse);
    } else {
        ((u16 *)s->at)[at] = (u16)(s->type == CUDA_KV_BF16 ? bf16_of_float(x) : f16_of_float(x));
    }
}

/* The largest level of a scaled type. */
DEVICE float top_of_type(int type) {
    return type == CUDA_KV_INT8 ? 127 : 448;
}

/* v * c + other * s, rounded in one way wherever it is made. */
DEVICE float turned_by(float v, float other, float c, float s) {
    return fmaf(other, s, v * c);
}

/* Feature d of a head whose features are x, rotated. */
WALK float rotated(const world_of *w, const float *x, int d, const float *cosines,
                   const float *sines) {
    const int pairs = w->pairs;
    const float v = load_float(x + d);
    if (d >= 2 * pairs) return v;
    const int i = w->interleaved ? d / 2 : d % pairs;
    const bool is_second = w->interleaved ? d % 2 : d >= pairs;
    const float other = load_float(x + (w->interleaved ? d ^ 1
                                        : is_second    ? d - pairs
                                                       : d + pairs));
    return turned_by(v, is_second ? other : -other, load_float(cosines + i), load_float(sines + i));
}

/* Puts a head's key, rotated, or value into row `at`; a warp. */
WALK void store_head(const world_of *w, const store_rows *to, int at, const float *x,
                     const float *cosines, const float *sines) {
    const int hd = WEIR_HEAD_DIM(w);
    const float top = top_of_type(to->type);
    float most = 0;
    if (store_is_scaled(to->type)) {
        for (int d = LANE; d < hd; d += 32) {
            const float v = cosines ? rotated(w, x, d, cosines, sines) : load_float(x + d);
            most = fmaxf(most, fabsf(v));
        }
        most = warp_max(most);
        if (LANE == 0) to->scales[at] = most / top;
    }
    const float inverse = most > 0x1p-100f ? top / most : 0;
    UNROLL_4 for (int d = LANE; d < hd; d += 32) {
        const float v = cosines ? rotated(w, x, d, cosines, sines) : load_float(x + d);
        store_put(to, (u64)at * (u64)hd + (u64)d, v, inverse);
    }
}

/* A head's row as it is stored, or its scale; a warp.  Bytes and addresses are even. */
DEVICE void copy_row(char *to, const char *from, int bytes) {
    for (int i = 2 * LANE; i < bytes; i += 64) *(u16 *)(to + i) = *(const u16 *)(from + i);
}

/* Key (is_v 0) or value (1) of batch row r, one head, into row `at` of `to`; a warp. */
WALK void put_row(const world_of *w, const cuda_stage *s, int r, int head, int is_v,
                  const store_rows *to, int at) {
    const bool is_pin = ((const cuda_row *)w->rows)[r].is_pin;
    const u64 phase = (u64)r * (u64)w->pairs;
    const float *cosines = (const float *)(is_pin ? w->cos_pin : w->cos_pos) + phase;
    const float *sines = (const float *)(is_pin ? w->sin_pin : w->sin_pos) + phase;
    const float *x = row_of(is_v ? &s->v : &s->in2, r) + head * WEIR_HEAD_DIM(w);
    store_head(w, to, at, x, is_v ? (const float *)0 : cosines, sines);
}

/* The same into its place in the store. */
WALK void store_row(const world_of *w, const cuda_stage *s, int r, int head, int is_v) {
    const cuda_row *row = (const cuda_row *)w->rows + r;
    const store_rows to = store_of(w, row->slot, s->layer, row->is_pin, is_v, head);
    put_row(w, s, r, head, is_v, &to, row->at);
}

WALK void store_all(const world_of *w, const cuda_stage *s) {
    const int parts = 2 * w->n_kv_heads, warps = WORKERS(w);
    for (int i = BLOCK * warps + WARP; i < w->n * parts; i += N_BLOCKS * warps) {
        store_row(w, s, i / parts, i % parts / 2, i % 2);
    }
}
