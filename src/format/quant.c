/* quant.c - blocks of quantised weights to floats, one function per type.
 *
 *   Q8_0  | d f16 | 32 x int8 |
 *   Q4_0  | d f16 | 16 bytes: low nibbles are weights 0..15, high nibbles 16..31 |
 *   Q4_1  | d f16 | m f16 | 16 bytes of nibbles |
 *   Q5_0  | d f16 | fifth bits, u32: bit i is weight i's | 16 bytes of nibbles |
 *   Q5_1  | d f16 | m f16 | fifth bits | 16 bytes of nibbles |
 *
 *   Q4_K  | d f16 | dmin f16 | 12 bytes: 8 scales, 8 minima | 128 bytes of nibbles |
 *   Q5_K  | d f16 | dmin f16 | the same 12 | 32 bytes of fifth bits | 128 bytes of nibbles |
 *         32 bytes of nibbles hold two groups: low nibbles group 2i, high nibbles group 2i + 1.
 *         Byte j of the fifth bits serves weight j of each group: bit g is group g's.
 *         Scales and minima are 6 bits wide.  Groups 0..3: the low 6 bits of bytes 0..3 and 4..7.
 *         Groups 4..7: low 4 bits from the nibbles of bytes 8..11 (scale low, minimum high), top
 *         2 bits from the top of bytes 0..3 and 4..7.
 *
 *   Q6_K  | 128 bytes of low nibbles | 64 bytes of top bit pairs | 16 x int8 scale | d f16 |
 *         In halves of 128 weights: weight j + 32 k (k = 0..3) takes nibble k / 2 of byte
 *         j + 32 (k % 2), and bits 2k, 2k + 1 of pair byte j.
 *
 * Products and sums are rounded separately and in this order (the build forbids contraction for
 * this file), so the floats are bit for bit those of GGML.  Golden files: test_quant.c.
 *
 * SPDX-License-Identifier: MIT */
#include "format/quant.h"

#include "base/arena.h"
#include "base/half.h"

#include <assert.h>

enum { SMALL = 32, SUPER = 256 }; /* weights per block of the plain and of the K types */

static const struct {
    const char *name;
    int block;
    size_t bytes;
} types[TENSOR_N_TYPES] = {
    [TENSOR_F32] = {"F32", 1, 4},         [TENSOR_F16] = {"F16", 1, 2},
    [TENSOR_BF16] = {"BF16", 1, 2},       [TENSOR_Q8_0] = {"Q8_0", SMALL, 34},
    [TENSOR_Q4_0] = {"Q4_0", SMALL, 18},  [TENSOR_Q4_1] = {"Q4_1", SMALL, 20},
    [TENSOR_Q5_0] = {"Q5_0", SMALL, 22},  [TENSOR_Q5_1] = {"Q5_1", SMALL, 24},
    [TENSOR_Q4_K] = {"Q4_K", SUPER, 144}, [TENSOR_Q5_K] = {"Q5_K", SUPER, 176},
    [TENSOR_Q6_K] = {"Q6_K", SUPER, 210}, [TENSOR_FP8] = {"F8_E4M3", 1, 1},
};

const char *tensor_type_name(tensor_type type) {
    assert(type < TENSOR_N_TYPES);
    return types[type].name;
}

int tensor_type_block(tensor_type type) {
    assert(type < TENSOR_N_TYPES);
    return types[type].block;
}

size_t tensor_type_block_bytes(tensor_type type) {
    assert(type < TENSOR_N_TYPES);
    return types[type].bytes;
}

size_t tensor_row_bytes(tensor_type type, int64_t n) {
    assert(n >= 0 && n % types[type].block == 0);
    return size_mul((size_t)n / (size_t)types[type].block, types[type].bytes);
}

/* Rows lie in files at any address, so numbers are copied out, never cast. */
static float load_f16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return f16_to_float(h);
}

static uint32_t load_u32(const uint8_t *p) {
    uint32_t u;
    memcpy(&u, p, 4);
    return u;
}

static void f16_row(const uint8_t *p, float *out, int64_t n) {
    for (int64_t i = 0; i < n; i++) out[i] = load_f16(p + 2 * i);
}

static void bf16_row(const uint8_t *p, float *out, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, 2);
        out[i] = bf16_to_float(h);
    }
}

/* ---- blocks of 32 */

static void q8_0_block(const uint8_t *p, float *out) {
    const float d = load_f16(p);
    const int8_t *q = (const int8_t *)p + 2;
    for (int i = 0; i < SMALL; i++) out[i] = d * (float)q[i];
}

static void q4_0_block(const uint8_t *p, float *out) {
    const float d = load_f16(p);
    const uint8_t *q = p + 2;
    for (int i = 0; i < SMALL / 2; i++) {
        out[i] = d * (float)((q[i] & 15) - 8);
        out[i + SMALL / 2] = d * (float)((q[i] >> 4) - 8);
    }
}

static void q4_1_block(const uint8_t *p, float *out) {
    const float d = load_f16(p), m = load_f16(p + 2);
    const uint8_t *q = p + 4;
    for (int i = 0; i < SMALL / 2; i++) {
        out[i] = d * (float)(q[i] & 15) + m;
        out[i + SMALL / 2] = d * (float)(q[i] >> 4) + m;
    }
}

/* Weight i of 32 from 16 bytes of nibbles and a word of fifth bits: 0..31. */
static int five_bits(const uint8_t *nibbles, uint32_t fifth, int i) {
    const int low = i < SMALL / 2 ? nibbles[i] & 15 : nibbles[i - SMALL / 2] >> 4;
    return low | (int)(fifth >> i & 1) << 4;
}

static void q5_0_block(const uint8_t *p, float *out) {
    const float d = load_f16(p);
    const uint32_t fifth = load_u32(p + 2);
    for (int i = 0; i < SMALL; i++) out[i] = d * (float)(five_bits(p + 6, fifth, i) - 16);
}

static void q5_1_block(const uint8_t *p, float *out) {
    const float d = load_f16(p), m = load_f16(p + 2);
    const uint32_t fifth = load_u32(p + 4);
    for (int i = 0; i < SMALL; i++) out[i] = d * (float)five_bits(p + 8, fifth, i) + m;
}

/* ---- blocks of 256 */

typedef struct scale_min {
    float scale, min; /* x = scale * q - min */
} scale_min;

/* Group g's scale and minimum from the head of a Q4_K or Q5_K block. */
static scale_min group_scale(const uint8_t *p, int g) {
    const uint8_t *s = p + 4;
    int scale, min;
    if (g < 4) {
        scale = s[g] & 63;
        min = s[g + 4] & 63;
    } else {
        scale = (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
        min = s[g + 4] >> 4 | (s[g] >> 6) << 4;
    }
    return (scale_min){load_f16(p) * (float)scale, load_f16(p + 2) * (float)min};
}

static void q4_k_block(const uint8_t *p, float *out) {
    const uint8_t *nibbles = p + 16; /* [4][32] */
    for (int g = 0; g < 8; g++) {
        const scale_min s = group_scale(p, g);
        const uint8_t *q = nibbles + 32 * (g / 2);
        const int shift = 4 * (g % 2);
        for (int i = 0; i < 32; i++) *out++ = s.scale * (float)(q[i] >> shift & 15) - s.min;
    }
}

static void q5_k_block(const uint8_t *p, float *out) {
    const uint8_t *fifth = p + 16;   /* [32]    */
    const uint8_t *nibbles = p + 48; /* [4][32] */
    for (int g = 0; g < 8; g++) {
        const scale_min s = group_scale(p, g);
        const uint8_t *q = nibbles + 32 * (g / 2);
        const int shift = 4 * (g % 2);
        for (int i = 0; i < 32; i++) {
            const int level = (q[i] >> shift & 15) | (fifth[i] >> g & 1) << 4;
            *out++ = s.scale * (float)level - s.min;
        }
    }
}

static void q6_k_block(const uint8_t *p, float *out) {
    const int8_t *scales = (const int8_t *)p + 192; /* [16] */
    const float d = load_f16(p + 208);
    for (int part = 0; part < 8; part++) { /* 32 weights each */
        const int half = part / 4, k = part % 4;
        const uint8_t *low = p + 64 * half + 32 * (k % 2);
        const uint8_t *top = p + 128 + 32 * half;
        for (int i = 0; i < 32; i++) {
            const int level = (low[i] >> 4 * (k / 2) & 15) | (top[i] >> 2 * k & 3) << 4;
            *out++ = d * (float)scales[2 * part + i / 16] * (float)(level - 32);
        }
    }
}

/* ---- rows */

typedef void block_fn(const uint8_t *block, float *out);

static block_fn *const block_fns[TENSOR_N_TYPES] = {
    [TENSOR_Q8_0] = q8_0_block, [TENSOR_Q4_0] = q4_0_block, [TENSOR_Q4_1] = q4_1_block,
    [TENSOR_Q5_0] = q5_0_block, [TENSOR_Q5_1] = q5_1_block, [TENSOR_Q4_K] = q4_k_block,
    [TENSOR_Q5_K] = q5_k_block, [TENSOR_Q6_K] = q6_k_block,
};

void tensor_row_to_float(tensor_type type, const void *row, float *out, int64_t n) {
    assert(type < TENSOR_N_TYPES && n % types[type].block == 0);
    const uint8_t *p = row;
    if (type == TENSOR_F32) {
        memcpy(out, p, (size_t)n * sizeof *out);
    } else if (type == TENSOR_F16) {
        f16_row(p, out, n);
    } else if (type == TENSOR_BF16) {
        bf16_row(p, out, n);
    } else if (type == TENSOR_FP8) {
        for (int64_t i = 0; i < n; i++) out[i] = e4m3_to_float(p[i]);
    } else {
        block_fn *const decode = block_fns[type];
        const int64_t block = types[type].block;
        for (int64_t at = 0; at < n; at += block, p += types[type].bytes) decode(p, out + at);
    }
}
