/* simd_avx512.h - the vocabulary of simd.h in AVX-512 F, BW, VL, DQ.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/compiler.h"
#include "base/half.h"

#include <immintrin.h>

enum { VF_WIDTH = 16, VF_REGISTERS = 32 };

typedef __m512 vf;

WEIR_INLINE __mmask16 vf_first(int n) { /* the first n lanes */
    return (__mmask16)((1u << n) - 1);
}

WEIR_INLINE vf vf_zero(void) {
    return _mm512_setzero_ps();
}
WEIR_INLINE vf vf_all(float x) {
    return _mm512_set1_ps(x);
}
WEIR_INLINE vf vf_iota(void) {
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
WEIR_INLINE vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
WEIR_INLINE void vf_store(float *p, vf x) {
    _mm512_storeu_ps(p, x);
}
WEIR_INLINE vf vf_load_part(const float *p, int n) {
    return _mm512_maskz_loadu_ps(vf_first(n), p);
}
WEIR_INLINE void vf_store_part(float *p, vf x, int n) {
    _mm512_mask_storeu_ps(p, vf_first(n), x);
}

WEIR_INLINE vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
WEIR_INLINE vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
WEIR_INLINE vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
WEIR_INLINE vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
WEIR_INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
WEIR_INLINE vf vf_fnma(vf a, vf b, vf c) {
    return _mm512_fnmadd_ps(a, b, c);
}
WEIR_INLINE vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
WEIR_INLINE vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
WEIR_INLINE vf vf_abs(vf a) {
    return _mm512_abs_ps(a);
}
WEIR_INLINE vf vf_round(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
WEIR_INLINE vf vf_scale(vf x, vf n) {
    return _mm512_scalef_ps(x, n);
}
WEIR_INLINE vf vf_pick_less(vf a, vf b, vf x, vf y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}

WEIR_INLINE float vf_sum(vf x) {
    return _mm512_reduce_add_ps(x);
}
WEIR_INLINE float vf_most(vf x) {
    return _mm512_reduce_max_ps(x);
}

/* Four rounds; each adds the two halves of a pair's lanes and packs the pair into one vector. */
WEIR_INLINE vf vf_sums(vf x[16]) {
    for (int i = 0; i < 8; i++) {
        const vf a = x[2 * i], b = x[2 * i + 1];
        x[i] = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    }
    for (int i = 0; i < 4; i++) {
        const __m512d a = _mm512_castps_pd(x[2 * i]), b = _mm512_castps_pd(x[2 * i + 1]);
        x[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    for (int i = 0; i < 2; i++) {
        const vf a = x[2 * i], b = x[2 * i + 1];
        x[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    }
    return _mm512_add_ps(_mm512_shuffle_f32x4(x[0], x[1], 0x88),
                         _mm512_shuffle_f32x4(x[0], x[1], 0xdd));
}

/* 4 x 4 blocks inside the 128-bit lanes first, then the lanes themselves. */
WEIR_INLINE void vf_transpose(vf x[16]) {
    vf t[16];
    for (int i = 0; i < 16; i += 4) {
        const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(x[i], x[i + 1]));
        const __m512d b = _mm512_castps_pd(_mm512_unpackhi_ps(x[i], x[i + 1]));
        const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(x[i + 2], x[i + 3]));
        const __m512d d = _mm512_castps_pd(_mm512_unpackhi_ps(x[i + 2], x[i + 3]));
        t[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        t[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        t[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        t[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; i++) {
        const vf a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
        const vf b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
        const vf c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
        const vf d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
        x[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        x[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        x[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        x[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}

/* ---- stored types */

WEIR_INLINE vf vf_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
WEIR_INLINE vf vf_load_f16_part(const uint16_t *p, int n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vf_first(n), p));
}
WEIR_INLINE vf vf_of_bf16(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}
WEIR_INLINE vf vf_load_bf16(const uint16_t *p) {
    return vf_of_bf16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
WEIR_INLINE vf vf_load_bf16_part(const uint16_t *p, int n) {
    return vf_of_bf16(_mm256_maskz_loadu_epi16(vf_first(n), p));
}
WEIR_INLINE vf vf_of_i8(__m128i x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(x));
}
WEIR_INLINE vf vf_load_i8(const int8_t *p) {
    return vf_of_i8(_mm_loadu_si128((const __m128i *)(const void *)p));
}
WEIR_INLINE vf vf_load_i8_part(const int8_t *p, int n) {
    return vf_of_i8(_mm_maskz_loadu_epi8(vf_first(n), p));
}
WEIR_INLINE vf vf_of_e4m3(__m128i x) { /* sign, exponent, fraction where f16 has them */
    const __m256i h = _mm256_slli_epi16(_mm256_cvtepi8_epi16(x), 7);
    return _mm512_cvtph_ps(_mm256_and_si256(h, _mm256_set1_epi16((short)0xbfff)));
}
WEIR_INLINE vf vf_load_e4m3(const uint8_t *p) {
    return vf_of_e4m3(_mm_loadu_si128((const __m128i *)(const void *)p));
}
WEIR_INLINE vf vf_load_e4m3_part(const uint8_t *p, int n) {
    return vf_of_e4m3(_mm_maskz_loadu_epi8(vf_first(n), p));
}

WEIR_INLINE void vf_store_f16(uint16_t *p, vf x) {
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
WEIR_INLINE void vf_store_bf16(uint16_t *p, vf x) {
    const __m512i u = _mm512_castps_si512(x), one = _mm512_set1_epi32(1);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), one);
    const __m512i even = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i y = _mm512_srli_epi32(_mm512_mask_mov_epi32(even, nan, quiet), 16);
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(y));
}
WEIR_INLINE void vf_store_i8(int8_t *p, vf x) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
}
