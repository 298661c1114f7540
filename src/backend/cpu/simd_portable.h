/* simd_portable.h - the vocabulary of simd.h in plain C: four floats and loops over them, which
 * compilers turn into whatever short vectors the target has.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/compiler.h"
#include "base/half.h"

#include <math.h>
#include <string.h>

enum { VF_WIDTH = 4, VF_REGISTERS = 16 };

typedef struct vf {
    float at[4];
} vf;

#define VF_LANES(expression)                            \
    vf y;                                               \
    for (int i = 0; i < 4; i++) y.at[i] = (expression); \
    return y

WEIR_INLINE vf vf_all(float x) {
    VF_LANES(x);
}
WEIR_INLINE vf vf_zero(void) {
    return vf_all(0);
}
WEIR_INLINE vf vf_iota(void) {
    VF_LANES((float)i);
}
WEIR_INLINE vf vf_load(const float *p) {
    VF_LANES(p[i]);
}
WEIR_INLINE void vf_store(float *p, vf x) {
    memcpy(p, x.at, sizeof x.at);
}
WEIR_INLINE vf vf_load_part(const float *p, int n) {
    VF_LANES(i < n ? p[i] : 0);
}
WEIR_INLINE void vf_store_part(float *p, vf x, int n) {
    memcpy(p, x.at, (size_t)n * sizeof *p);
}

WEIR_INLINE vf vf_add(vf a, vf b) {
    VF_LANES(a.at[i] + b.at[i]);
}
WEIR_INLINE vf vf_sub(vf a, vf b) {
    VF_LANES(a.at[i] - b.at[i]);
}
WEIR_INLINE vf vf_mul(vf a, vf b) {
    VF_LANES(a.at[i] * b.at[i]);
}
WEIR_INLINE vf vf_div(vf a, vf b) {
    VF_LANES(a.at[i] / b.at[i]);
}
WEIR_INLINE vf vf_fma(vf a, vf b, vf c) {
    VF_LANES(c.at[i] + a.at[i] * b.at[i]);
}
WEIR_INLINE vf vf_fnma(vf a, vf b, vf c) {
    VF_LANES(c.at[i] - a.at[i] * b.at[i]);
}
WEIR_INLINE vf vf_max(vf a, vf b) {
    VF_LANES(a.at[i] > b.at[i] ? a.at[i] : b.at[i]);
}
WEIR_INLINE vf vf_min(vf a, vf b) {
    VF_LANES(a.at[i] < b.at[i] ? a.at[i] : b.at[i]);
}
WEIR_INLINE vf vf_abs(vf a) {
    VF_LANES(fabsf(a.at[i]));
}
WEIR_INLINE vf vf_round(vf a) { /* adding 1.5 * 2^23 drops the fraction; larger ones have none */
    VF_LANES(fabsf(a.at[i]) < 0x1p22f ? (a.at[i] + 0x1.8p23f) - 0x1.8p23f : a.at[i]);
}
WEIR_INLINE float vf_power(int n) { /* 2^n, n in [-126, 127] */
    return bits_float((uint32_t)(n + 127) << 23);
}
WEIR_INLINE float vf_scale_one(float x, int n) { /* in steps: 2^n itself need not be a float */
    const int quarter = n / 4, rest = n - 3 * quarter;
    const float by = vf_power(quarter);
    return x * by * by * by * vf_power(rest);
}
WEIR_INLINE vf vf_scale(vf x, vf n) {
    VF_LANES(vf_scale_one(x.at[i], (int)n.at[i]));
}
WEIR_INLINE vf vf_pick_less(vf a, vf b, vf x, vf y_) {
    VF_LANES(a.at[i] < b.at[i] ? x.at[i] : y_.at[i]);
}

WEIR_INLINE float vf_sum(vf x) {
    return (x.at[0] + x.at[2]) + (x.at[1] + x.at[3]);
}
WEIR_INLINE float vf_most(vf x) {
    return fmaxf(fmaxf(x.at[0], x.at[2]), fmaxf(x.at[1], x.at[3]));
}
WEIR_INLINE vf vf_sums(vf x[4]) {
    VF_LANES(vf_sum(x[i]));
}
WEIR_INLINE void vf_transpose(vf x[4]) {
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < i; j++) {
            const float t = x[i].at[j];
            x[i].at[j] = x[j].at[i];
            x[j].at[i] = t;
        }
    }
}

/* ---- stored types */

WEIR_INLINE vf vf_load_f16_part(const uint16_t *p, int n) {
    VF_LANES(i < n ? f16_to_float(p[i]) : 0);
}
WEIR_INLINE vf vf_load_bf16_part(const uint16_t *p, int n) {
    VF_LANES(i < n ? bf16_to_float(p[i]) : 0);
}
WEIR_INLINE vf vf_load_i8_part(const int8_t *p, int n) {
    VF_LANES(i < n ? (float)p[i] : 0);
}
WEIR_INLINE vf vf_load_e4m3_part(const uint8_t *p, int n) {
    VF_LANES(i < n ? e4m3_to_float(p[i]) * 0x1p-8f : 0);
}
WEIR_INLINE vf vf_load_f16(const uint16_t *p) {
    return vf_load_f16_part(p, 4);
}
WEIR_INLINE vf vf_load_bf16(const uint16_t *p) {
    return vf_load_bf16_part(p, 4);
}
WEIR_INLINE vf vf_load_i8(const int8_t *p) {
    return vf_load_i8_part(p, 4);
}
WEIR_INLINE vf vf_load_e4m3(const uint8_t *p) {
    return vf_load_e4m3_part(p, 4);
}

WEIR_INLINE void vf_store_f16(uint16_t *p, vf x) {
    for (int i = 0; i < 4; i++) p[i] = float_to_f16(x.at[i]);
}
WEIR_INLINE void vf_store_bf16(uint16_t *p, vf x) {
    for (int i = 0; i < 4; i++) p[i] = float_to_bf16(x.at[i]);
}
WEIR_INLINE void vf_store_i8(int8_t *p, vf x) {
    for (int i = 0; i < 4; i++) p[i] = (int8_t)vf_round(vf_all(x.at[i])).at[0];
}
