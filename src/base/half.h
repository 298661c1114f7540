/* half.h - float16, bfloat16 and float8 to float and back, in portable C, round to nearest even.
 *
 * float8 is e4m3 as checkpoints and GPUs have it: bias 7, no infinities, +-448 the largest, 0x7f
 * NaN.
 *
 * The SIMD files use the instructions instead; these are for tables, tails and the reference.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>
#include <string.h>

static inline uint32_t float_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}

static inline float bits_float(uint32_t u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}

static inline float bf16_to_float(uint16_t h) {
    return bits_float((uint32_t)h << 16);
}

static inline uint16_t float_to_bf16(float x) {
    const uint32_t u = float_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40); /* quiet NaN */
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

static inline float f16_to_float(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, em = h & 0x7fffu;
    if (em >= 0x7c00) return bits_float(sign | 0x7f800000u | (em & 0x3ff) << 13);
    if (em >= 0x0400) return bits_float(sign | ((em << 13) + (112u << 23)));
    const float tiny = (float)em * 5.9604644775390625e-8f; /* subnormal: em * 2^-24 */
    return bits_float(sign | float_bits(tiny));
}

static inline uint16_t float_to_f16(float x) {
    const uint32_t u = float_bits(x), sign = u >> 16 & 0x8000, em = u & 0x7fffffffu;
    if (em > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
    if (em >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* rounds past 65504 */
    if (em >= 0x38800000u) {
        return (uint16_t)(sign | ((em + 0xfffu + (em >> 13 & 1) - (112u << 23)) >> 13));
    }
    const float scaled = bits_float(em) + 0.5f; /* the float adder rounds the 2^-24 steps */
    return (uint16_t)(sign | (float_bits(scaled) - 0x3f000000u));
}

static inline float e4m3_to_float(uint8_t x) {
    const uint32_t sign = (uint32_t)(x & 0x80) << 24, em = x & 0x7fu;
    if (em == 0x7f) return bits_float(sign | 0x7fc00000u);
    return bits_float(sign | em << 20) * 0x1p120f; /* the bias of a float, subnormals too */
}

/* What is larger than 448 becomes 448. */
static inline uint8_t float_to_e4m3(float x) {
    const uint32_t u = float_bits(x), sign = u >> 24 & 0x80, em = u & 0x7fffffffu;
    if (em > 0x7f800000u) return (uint8_t)(sign | 0x7f);
    if (em >= 0x43e00000u) return (uint8_t)(sign | 0x7e);
    if (em >= 0x3c800000u) {
        return (uint8_t)(sign | ((em + 0x7ffffu + (em >> 20 & 1) - (120u << 23)) >> 20));
    }
    const float scaled = bits_float(em) + 0x1p14f; /* the float adder rounds the 2^-9 steps */
    return (uint8_t)(sign | (float_bits(scaled) - 0x46800000u));
}
