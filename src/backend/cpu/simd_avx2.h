/* simd_avx2.h - the vocabulary of simd.h in AVX2, FMA and F16C.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/compiler.h"
#include "base/half.h"

#include <immintrin.h>
#include <string.h>

enum { VF_WIDTH = 8, VF_REGISTERS = 16 };

typedef __m256 vf;

WEIR_INLINE __m256i vf_first(int n) { /* the first n lanes */
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

WEIR_INLINE vf vf_zero(void) {
    return _mm256_setzero_ps();
}
WEIR_INLINE vf vf_all(float x) {
    return _mm256_set1_ps(x);
}
WEIR_INLINE vf vf_iota(void) {
    return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
}
WEIR_INLINE vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
WEIR_INLINE void vf_store(float *p, vf x) {
    _mm256_storeu_ps(p, x);
}
WEIR_INLINE vf vf_load_part(const float *p, int n) {
    return _mm256_maskload_ps(p, vf_first(n));
}
WEIR_INLINE void vf_store_part(float *p, vf x, int n) {
    _mm256_maskstore_ps(p, vf_first(n), x);
}

WEIR_INLINE vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
WEIR_INLINE vf vf_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
WEIR_INLINE vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
WEIR_INLINE vf vf_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
WEIR_INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
WEIR_INLINE vf vf_fnma(vf a, vf b, vf c) {
    return _mm256_fnmadd_ps(a, b, c);
}
WEIR_INLINE vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
WEIR_INLINE vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
WEIR_INLINE vf vf_abs(vf a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
WEIR_INLINE vf vf_round(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
WEIR_INLINE vf vf_power(__m256i n) { /* 2^n, n in [-126, 127] */
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
WEIR_INLINE vf vf_scale(vf x, vf n) { /* in three steps, so that 2^n itself need not be a float */
    const __m256i i = _mm256_cvtps_epi32(n), a = _mm256_srai_epi32(i, 2);
    const __m256i b = _mm256_sub_epi32(i, _mm256_add_epi32(a, a));
    const vf third = _mm256_mul_ps(_mm256_mul_ps(x, vf_power(a)), vf_power(a));
    const __m256i half = _mm256_srai_epi32(b, 1);
    return _mm256_mul_ps(_mm256_mul_ps(third, vf_power(half)), vf_power(_mm256_sub_epi32(b, half)));
}
WEIR_INLINE vf vf_pick_less(vf a, vf b, vf x, vf y) {
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

WEIR_INLINE float vf_sum(vf x) {
    const __m128 a = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 b = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
WEIR_INLINE float vf_most(vf x) {
    const __m128 a = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 b = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}

/* Three rounds; each adds the two halves of a pair's lanes and packs the pair into one vector. */
WEIR_INLINE vf vf_sums(vf x[8]) {
    for (int i = 0; i < 4; i++) {
        const vf a = x[2 * i], b = x[2 * i + 1];
        x[i] = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    }
    for (int i = 0; i < 2; i++) {
        const __m256d a = _mm256_castps_pd(x[2 * i]), b = _mm256_castps_pd(x[2 * i + 1]);
        x[i] = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)),
                             _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
    }
    return _mm256_add_ps(_mm256_permute2f128_ps(x[0], x[1], 0x20),
                         _mm256_permute2f128_ps(x[0], x[1], 0x31));
}

/* 4 x 4 blocks inside the 128-bit lanes first, then the lanes themselves. */
WEIR_INLINE void vf_transpose(vf x[8]) {
    vf t[8];
    for (int i = 0; i < 8; i += 4) {
        const __m256d a = _mm256_castps_pd(_mm256_unpacklo_ps(x[i], x[i + 1]));
        const __m256d b = _mm256_castps_pd(_mm256_unpackhi_ps(x[i], x[i + 1]));
        const __m256d c = _mm256_castps_pd(_mm256_unpacklo_ps(x[i + 2], x[i + 3]));
        const __m256d d = _mm256_castps_pd(_mm256_unpackhi_ps(x[i + 2], x[i + 3]));
        t[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
        t[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
        t[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
        t[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
        x[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
}

/* ---- stored types */

WEIR_INLINE vf vf_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
WEIR_INLINE vf vf_load_bf16(const uint16_t *p) {
    const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
WEIR_INLINE vf vf_load_i8(const int8_t *p) {
    const __m128i x = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x));
}
WEIR_INLINE vf vf_load_e4m3(const uint8_t *p) { /* sign, exponent, fraction where f16 has them */
    const __m128i x = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)p));
    return _mm256_cvtph_ps(_mm_and_si128(_mm_slli_epi16(x, 7), _mm_set1_epi16((short)0xbfff)));
}
WEIR_INLINE vf vf_load_f16_part(const uint16_t *p, int n) {
    uint16_t part[8] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return vf_load_f16(part);
}
WEIR_INLINE vf vf_load_bf16_part(const uint16_t *p, int n) {
    uint16_t part[8] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return vf_load_bf16(part);
}
WEIR_INLINE vf vf_load_i8_part(const int8_t *p, int n) {
    int8_t part[8] = {0};
    memcpy(part, p, (size_t)n);
    return vf_load_i8(part);
}
WEIR_INLINE vf vf_load_e4m3_part(const uint8_t *p, int n) {
    uint8_t part[8] = {0};
    memcpy(part, p, (size_t)n);
    return vf_load_e4m3(part);
}

WEIR_INLINE void vf_store_f16(uint16_t *p, vf x) {
    _mm_storeu_si128((__m128i *)(void *)p,
                     _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
WEIR_INLINE __m128i vf_low_halves(__m256i x) { /* 32 -> 16 bits, values in [0, 0xffff] */
    const __m256i y = _mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0x08);
    return _mm256_castsi256_si128(y);
}
WEIR_INLINE void vf_store_bf16(uint16_t *p, vf x) {
    const __m256i u = _mm256_castps_si256(x), one = _mm256_set1_epi32(1);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), one);
    const __m256i even = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    const vf y = _mm256_blendv_ps(_mm256_castsi256_ps(even), _mm256_castsi256_ps(quiet),
                                  _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    _mm_storeu_si128((__m128i *)(void *)p,
                     vf_low_halves(_mm256_srli_epi32(_mm256_castps_si256(y), 16)));
}
WEIR_INLINE void vf_store_i8(int8_t *p, vf x) {
    const __m256i i = _mm256_cvtps_epi32(x);
    const __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(h, h));
}
