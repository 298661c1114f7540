/* simd_neon.h - the vocabulary of simd.h in aarch64 NEON.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/compiler.h"
#include "base/half.h"

#include <arm_neon.h>
#include <string.h>

enum { VF_WIDTH = 4, VF_REGISTERS = 32 };

typedef float32x4_t vf;

WEIR_INLINE vf vf_zero(void) {
    return vdupq_n_f32(0);
}
WEIR_INLINE vf vf_all(float x) {
    return vdupq_n_f32(x);
}
WEIR_INLINE vf vf_load(const float *p) {
    return vld1q_f32(p);
}
WEIR_INLINE void vf_store(float *p, vf x) {
    vst1q_f32(p, x);
}
WEIR_INLINE vf vf_iota(void) {
    static const float iota[4] = {0, 1, 2, 3};
    return vld1q_f32(iota);
}
WEIR_INLINE vf vf_load_part(const float *p, int n) {
    float part[4] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return vld1q_f32(part);
}
WEIR_INLINE void vf_store_part(float *p, vf x, int n) {
    float part[4];
    vst1q_f32(part, x);
    memcpy(p, part, (size_t)n * sizeof *p);
}

WEIR_INLINE vf vf_add(vf a, vf b) {
    return vaddq_f32(a, b);
}
WEIR_INLINE vf vf_sub(vf a, vf b) {
    return vsubq_f32(a, b);
}
WEIR_INLINE vf vf_mul(vf a, vf b) {
    return vmulq_f32(a, b);
}
WEIR_INLINE vf vf_div(vf a, vf b) {
    return vdivq_f32(a, b);
}
WEIR_INLINE vf vf_fma(vf a, vf b, vf c) {
    return vfmaq_f32(c, a, b);
}
WEIR_INLINE vf vf_fnma(vf a, vf b, vf c) {
    return vfmsq_f32(c, a, b);
}
WEIR_INLINE vf vf_max(vf a, vf b) {
    return vmaxq_f32(a, b);
}
WEIR_INLINE vf vf_min(vf a, vf b) {
    return vminq_f32(a, b);
}
WEIR_INLINE vf vf_abs(vf a) {
    return vabsq_f32(a);
}
WEIR_INLINE vf vf_round(vf a) {
    return vrndnq_f32(a);
}
WEIR_INLINE vf vf_power(int32x4_t n) { /* 2^n, n in [-126, 127] */
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}
WEIR_INLINE vf vf_scale(vf x, vf n) { /* in four steps, so that 2^n itself need not be a float */
    const int32x4_t i = vcvtnq_s32_f32(n), a = vshrq_n_s32(i, 2);
    const int32x4_t b = vsubq_s32(i, vaddq_s32(a, a)), half = vshrq_n_s32(b, 1);
    const vf y = vmulq_f32(vmulq_f32(x, vf_power(a)), vf_power(a));
    return vmulq_f32(vmulq_f32(y, vf_power(half)), vf_power(vsubq_s32(b, half)));
}
WEIR_INLINE vf vf_pick_less(vf a, vf b, vf x, vf y) {
    return vbslq_f32(vcltq_f32(a, b), x, y);
}

WEIR_INLINE float vf_sum(vf x) {
    return vaddvq_f32(x);
}
WEIR_INLINE float vf_most(vf x) {
    return vmaxvq_f32(x);
}
WEIR_INLINE vf vf_sums(vf x[4]) {
    return vpaddq_f32(vpaddq_f32(x[0], x[1]), vpaddq_f32(x[2], x[3]));
}
WEIR_INLINE void vf_transpose(vf x[4]) {
    const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(x[0], x[1]));
    const float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(x[0], x[1]));
    const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(x[2], x[3]));
    const float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(x[2], x[3]));
    x[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    x[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    x[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    x[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

/* ---- stored types */

WEIR_INLINE vf vf_load_f16(const uint16_t *p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
WEIR_INLINE vf vf_load_bf16(const uint16_t *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
WEIR_INLINE vf vf_load_i8(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    const int8x8_t x = vreinterpret_s8_s32(vdup_n_s32(four));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(x))));
}
WEIR_INLINE vf vf_load_e4m3(const uint8_t *p) { /* sign, exponent, fraction where f16 has them */
    uint32_t four;
    memcpy(&four, p, sizeof four);
    const int16x4_t x = vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(four))));
    const uint16x4_t h = vand_u16(vreinterpret_u16_s16(vshl_n_s16(x, 7)), vdup_n_u16(0xbfff));
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
}
WEIR_INLINE vf vf_load_f16_part(const uint16_t *p, int n) {
    uint16_t part[4] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return vf_load_f16(part);
}
WEIR_INLINE vf vf_load_bf16_part(const uint16_t *p, int n) {
    uint16_t part[4] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return vf_load_bf16(part);
}
WEIR_INLINE vf vf_load_i8_part(const int8_t *p, int n) {
    int8_t part[4] = {0};
    memcpy(part, p, (size_t)n);
    return vf_load_i8(part);
}
WEIR_INLINE vf vf_load_e4m3_part(const uint8_t *p, int n) {
    uint8_t part[4] = {0};
    memcpy(part, p, (size_t)n);
    return vf_load_e4m3(part);
}

WEIR_INLINE void vf_store_f16(uint16_t *p, vf x) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}
WEIR_INLINE void vf_store_bf16(uint16_t *p, vf x) {
    const uint32x4_t u = vreinterpretq_u32_f32(x);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
    const uint32x4_t even = vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    const uint32x4_t quiet = vorrq_u32(u, vdupq_n_u32(0x400000));
    vst1_u16(p, vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), even, quiet), 16));
}
WEIR_INLINE void vf_store_i8(int8_t *p, vf x) {
    const int16x4_t h = vqmovn_s32(vcvtnq_s32_f32(x));
    const int8x8_t b = vqmovn_s16(vcombine_s16(h, h));
    const int32_t four = vget_lane_s32(vreinterpret_s32_s8(b), 0);
    memcpy(p, &four, sizeof four);
}
