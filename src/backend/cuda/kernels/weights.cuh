/* weights.cuh - packed weights: one at a time, and a block at a time on the matrix units.
 *
 *   tile [16 rows, depth]: blocks along k.  Levels lie in units of 512 bytes, 16 for each lane, so
 *   that what a lane loads is its part of the instruction m16n8k16: rows r = lane / 4 and r + 8,
 *   four k from 4c on, c = lane % 4 (fragment slots 2c, 2c+1, 2c+8, 2c+9 stand for k 4c .. 4c+3,
 *   for weights and inputs alike).
 *
 *     unit     k    words of a lane
 *     halves   16   r: k 4c,+1 | r+8: the same | r: k 4c+2,+3 | r+8: the same
 *     bytes    32   r: k 4c..+3 | r+8 | r: k 16+4c..+3 | r+8
 *     nibbles  64   r: k 4c..+3 low, 16+4c..+3 high, bytes in order 0 2 1 3 | r+8 | the same of the
 *                   second 32 k
 *
 *   format       block: k, bytes   what
 *   F32          16, 1024          f32 [16 k][16 rows]
 *   F16, BF16    16, 512           a unit of halves
 *   Q8, Q8M      64, 1088, 1152    2 units of bytes (Q8: level + 128), f16 d [2][16], M: m [2][16]
 *   Q4, Q4M      64, 576, 640      1 unit of nibbles (Q4: level + 8), f16 d [2][16], M: m [2][16]
 *   K4           256, 2368         f16 d [16], dmin [16], u8 sc [8][16], mn [8][16], 4 of nibbles
 *   K5           256, 4416         the same, 8 units of bytes
 *   K6           256, 4416         f16 d [16], 32 bytes, s8 sc [16][16], 8 of bytes (level + 32)
 *   FP8          64, 1088          2 units of bytes (e4m3), f32 d [16]
 *
 * Levels are whole numbers, exact in a byte, and so is an input of 32 k: scale * (256 * hi + lo),
 * two bytes in neighbouring columns, scale by the largest of the 32.  The matrix units sum their
 * products over one group exactly, then they are scaled and added in f32.  So packed weights lose
 * nothing, and an input is within 1.6e-5 of the largest of its 32.  Halves meet inputs of two
 * halves, hi + lo: what is left of 22 (bf16: 16) bits of them.  FP8 becomes halves, exactly, and a
 * block's sums are scaled as those of levels.
 *
 * CPU twin: cpu/pack.c.  Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#ifndef WEIR_FORMATS
    #define WEIR_FORMATS 0xffff /* formats that this model has */
#endif
#define HAS_FORMAT(f) (WEIR_FORMATS >> (f)&1)

/* The format of a product's matrix: known where the model has one alone. */
#ifdef WEIR_ONE_FORMAT
    #define FORMAT_OF(m) WEIR_ONE_FORMAT
#else
    #define FORMAT_OF(m) ((m)->format)
#endif

enum { UNIT = 512, K_LEVELS = 320 };

/* ---- one weight */

DEVICE float half_at(const char *p, int format) {
    const u32 half = *(const u16 *)p;
    return format == CUDA_BF16 ? float_of_bf16(half) : float_of_f16(half);
}

/* Level of row r, k < 32 of a unit of bytes. */
DEVICE int byte_at(const char *unit, int r, int k) {
    const int lane = r % 8 * 4 + k % 16 / 4, word = k / 16 * 2 + r / 8;
    return ((const u8 *)unit)[lane * 16 + word * 4 + k % 4];
}

/* Level of row r, k < 64 of a unit of nibbles. */
DEVICE int nibble_at(const char *unit, int r, int k) {
    const int lane = r % 8 * 4 + k % 16 / 4, word = k / 32 * 2 + r / 8;
    const int byte = k % 4 == 1 ? 2 : k % 4 == 2 ? 1 : k % 4;
    const int pair = ((const u8 *)unit)[lane * 16 + word * 4 + byte];
    return k % 32 < 16 ? pair & 15 : pair >> 4;
}

/* Row r, k < 256 of a K block. */
DEVICE float super_at(const char *block, int format, int r, int k) {
    const float d = half_at(block + 2 * r, CUDA_F16);
    if (format == CUDA_K6) {
        const float scale = d * (float)((const s8 *)block)[64 + k / 16 * 16 + r];
        return scale * (float)(byte_at(block + K_LEVELS + k / 32 * UNIT, r, k % 32) - 32);
    }
    const float low = half_at(block + 32 + 2 * r, CUDA_F16);
    const float scale = d * (float)((const u8 *)block)[64 + k / 32 * 16 + r];
    const float least = low * (float)((const u8 *)block)[192 + k / 32 * 16 + r];
    const int level = format == CUDA_K4 ? nibble_at(block + K_LEVELS + k / 64 * UNIT, r, k % 64)
                                        : byte_at(block + K_LEVELS + k / 32 * UNIT, r, k % 32);
    return scale * (float)level - least;
}

DEVICE float weight_at(const cuda_matrix *m, int of, int k) {
    const int row = CUDA_PACKED_ROW(m->gated, of);
    const char *block = (const char *)m->tiles + (u64)(row / CUDA_TILE) * m->tile_bytes +
                        (u64)(k / m->block_span) * (u64)m->block_bytes;
    const int r = row % CUDA_TILE, at = k % m->block_span;
    float d, low = 0;
    switch (m->format) {
    case CUDA_F32: return ((const float *)block)[at * CUDA_TILE + r];
    case CUDA_F16:
    case CUDA_BF16: {
        const int lane = r % 8 * 4 + at / 4, word = at % 4 / 2 * 2 + r / 8;
        return half_at(block + lane * 16 + word * 4 + at % 2 * 2, m->format);
    }
    case CUDA_Q8:
    case CUDA_Q8M:
        d = half_at(block + 2 * UNIT + at / 32 * 32 + 2 * r, CUDA_F16);
        if (m->format == CUDA_Q8M)
            low = half_at(block + 2 * UNIT + 64 + at / 32 * 32 + 2 * r, CUDA_F16);
        return d * (float)(byte_at(block + at / 32 * UNIT, r, at % 32) -
                           (m->format == CUDA_Q8 ? 128 : 0)) +
               low;
    case CUDA_Q4:
    case CUDA_Q4M:
        d = half_at(block + UNIT + at / 32 * 32 + 2 * r, CUDA_F16);
        if (m->format == CUDA_Q4M)
            low = half_at(block + UNIT + 64 + at / 32 * 32 + 2 * r, CUDA_F16);
        return d * (float)(nibble_at(block, r, at) - (m->format == CUDA_Q4 ? 8 : 0)) + low;
    case CUDA_FP8: {
        const u32 code = (u32)byte_at(block + at / 32 * UNIT, r, at % 32);
        return ((const float *)(block + 2 * UNIT))[r] * float_of_f16(f16_of_e4m3(code) & 0xffff);
    }
    default: return super_at(block, m->format, r, at);
    }
}

/* ---- inputs of a product, made by input.cuh */

typedef struct input_view {
    const u32 *words; /* [depth / 16][stride][16]; input.cuh draws them */
    int tokens;       /* valid ones, from the first */
    int stride;
} input_view;

/* Columns of tokens that are not there repeat the last one; nobody reads their sums. */
DEVICE const u32 *input_at(const input_view *x, int k16, int token) {
    const int last = x->tokens - 1;
    return x->words + ((u64)k16 * (u64)x->stride + (u64)(token < last ? token : last)) * 16;
}

/* This lane's part of B: k of step k16 (bytes: 32 k from there). */
DEVICE void load_input(u32 b[2], const input_view *x, int k16) {
    load_8(b, input_at(x, k16, LANE / 8) + LANE / 4 % 2 * 8 + LANE % 4 * 2);
}

/* Of token `token` and the 32 k from step k16 on: scale and sum of inputs. */
DEVICE void load_group(float out[2], const input_view *x, int k16, int token) {
    u32 words[2];
    load_8(words, input_at(x, k16 + 1, token));
    out[0] = float_of_bits(words[0]);
    out[1] = float_of_bits(words[1]);
}

/* ---- a block on the matrix units; sums [4]: hi and lo columns of a token, rows r, r+8;
 * of levels hi and lo are one sum, the first */

typedef struct group_scale { /* of rows r and r + 8 */
    float d[2], low[2];
} group_scale;

/* all [2]: rows r and r + 8.  in: scale and sum of inputs; of biased levels the sum is times the
 * bias, of K6 it is not read. */
DEVICE void add_scaled(int format, float all[2], const int now[4], const group_scale *s,
                       const float in[2]) {
    UNROLL for (int i = 0; i < 2; i++) {
        const float sum = (float)(now[2 * i] * 256 + now[2 * i + 1]);
        if (format == CUDA_Q8 || format == CUDA_Q4) {
            all[i] += s->d[i] * (sum * in[0] - in[1]);
        } else if (format == CUDA_K6) {
            all[i] += s->d[i] * (sum * in[0]);
        } else {
            all[i] += s->d[i] * (sum * in[0]) - s->low[i] * in[1];
        }
    }
}

/* Levels of 32 k out of the nibbles of 64, the first or the second. */
DEVICE void bytes_of_nibbles(u32 a[4], const u32 words[4], int which) {
    UNROLL for (int i = 0; i < 2; i++) {
        a[i] = words[which * 2 + i] & 0x0f0f0f0fu;
        a[2 + i] = words[which * 2 + i] >> 4 & 0x0f0f0f0fu;
    }
}

/* Levels as f16 in the order of m16n8k16, 32 k. */
DEVICE void levels_of_bytes(u32 a[2][4], const u32 words[4], int bias) {
    UNROLL for (int i = 0; i < 8; i++) {
        a[i / 4][i % 4] = f16_of_bytes(words[i / 4 * 2 + i % 2], i % 4 / 2, bias);
    }
}

/* which: the first or the second 32 k. */
DEVICE void levels_of_nibbles(u32 a[2][4], const u32 words[4], int which, int bias) {
    UNROLL for (int i = 0; i < 8; i++) {
        const u32 word = words[which * 2 + i % 2] >> (i % 4 / 2 * 8);
        a[i / 4][i % 4] = f16_of_nibbles(word, i / 4, bias);
    }
}

/* d at p [2][16], with minima (-low) 64 bytes behind. */
DEVICE group_scale load_scale(const char *p, int group, bool has_low) {
    group_scale s;
    UNROLL for (int i = 0; i < 2; i++) {
        const char *at = p + group * 32 + (LANE / 4 + 8 * i) * 2;
        s.d[i] = half_at(at, CUDA_F16);
        s.low[i] = has_low ? -half_at(at + 64, CUDA_F16) : 0;
    }
    return s;
}

DEVICE group_scale load_super_scale(const char *block, int format, int group) {
    group_scale s;
    UNROLL for (int i = 0; i < 2; i++) {
        const int r = LANE / 4 + 8 * i;
        const float d = half_at(block + 2 * r, CUDA_F16);
        if (format == CUDA_K6) {
            s.d[i] = d * (float)((const s8 *)block)[64 + group * 16 + r];
            s.low[i] = 0;
        } else {
            s.d[i] = d * (float)((const u8 *)block)[64 + group * 16 + r];
            s.low[i] = half_at(block + 32 + 2 * r, CUDA_F16) *
                       (float)((const u8 *)block)[192 + group * 16 + r];
        }
    }
    return s;
}

/* F16, BF16: up to four blocks of 16 k, each to sums of its own, so that none waits for another. */
DEVICE void multiply_halves(const char *block, int format, int n, const input_view *x, int k16,
                            float all[][4]) {
    UNROLL for (int g = 0; g < 4; g++) {
        u32 a[4], b[2];
        if (g >= n) continue;
        load_16(a, block + g * UNIT + LANE * 16);
        load_input(b, x, k16 + g);
        if (format == CUDA_BF16) {
            multiply_bf16(all[g], a, b);
        } else {
            multiply_f16(all[g], a, b);
        }
    }
}

/* e4m3 as f16 in the order of m16n8k16, 32 k. */
DEVICE void halves_of_fp8(u32 a[2][4], const u32 words[4]) {
    UNROLL for (int i = 0; i < 8; i++) {
        a[i / 4][i % 4] = f16_of_e4m3(words[i / 4 * 2 + i % 2] >> i % 4 / 2 * 16 & 0xffff);
    }
}

/* FP8: 64 k. */
DEVICE void multiply_fp8(const char *block, int format, int n, const input_view *x, int k16,
                         float all[][4]) {
    const float *d = (const float *)(block + 2 * UNIT) + LANE / 4;
    (void)format;
    (void)n;
    u32 words[4], a[4][4], b[2];
    UNROLL for (int i = 0; i < 2; i++) {
        load_16(words, block + i * UNIT + LANE * 16);
        halves_of_fp8(a + 2 * i, words);
    }
    float now[4] = {0, 0, 0, 0};
    UNROLL for (int i = 0; i < 4; i++) {
        load_input(b, x, k16 + i);
        multiply_f16(now, a[i], b);
    }
    UNROLL for (int i = 0; i < 4; i++) all[0][i] += d[i / 2 * 8] * now[i];
}

/* Four groups of levels at a time, sums of the g-th to all[g].  Of one token each group has columns
 * of its own, all others of its inputs are zeros, so that all four are scaled at once: lane l has
 * the sums of group l % 4, and what it adds up goes to all[0].  The order of additions is the same.
 */

/* One token's words for the columns of this lane, which are of group LANE / 8: 32 k each. */
DEVICE void load_own_input(u32 b[2], const input_view *x, int k16, int groups) {
    const int group = LANE / 8 < groups ? LANE / 8 : 0;
    load_8(b, x->words + (k16 + 2 * group) * 16 + LANE / 4 % 2 * 8 + LANE % 4 * 2);
}

DEVICE void load_own_group(float out[2], const input_view *x, int k16) {
    u32 words[2];
    load_8(words, x->words + (k16 + 1) * 16);
    out[0] = float_of_bits(words[0]);
    out[1] = float_of_bits(words[1]);
}

/* Q8, Q8M, Q4, Q4M: one or two blocks of 64 k. */
DEVICE void multiply_groups(const char *at, int format, int n, const input_view *x, int k16,
                            float all[][4]) {
    const bool is_byte = format == CUDA_Q8 || format == CUDA_Q8M, is_one = x->tokens == 1;
    const bool has_low = format == CUDA_Q8M || format == CUDA_Q4M;
    const int scales = is_byte ? 2 * UNIT : UNIT, bytes = scales + (has_low ? 128 : 64);
    int now[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}}; /* two, so that one need not wait for the other */
    u32 words[4], mine[2] = {0, 0};
    if (is_one) load_own_input(mine, x, k16, 2 * n);
    UNROLL for (int g = 0; g < 4; g++) {
        const char *block = at + g / 2 * bytes;
        u32 a[4], b[2];
        if (g / 2 >= n) continue;
        if (!is_byte && g % 2 == 0) load_16(words, block + LANE * 16);
        if (is_byte) {
            load_16(a, block + g % 2 * UNIT + LANE * 16);
        } else {
            bytes_of_nibbles(a, words, g % 2);
        }
        if (is_one) {
            b[0] = LANE / 8 == g ? mine[0] : 0;
            b[1] = LANE / 8 == g ? mine[1] : 0;
            multiply_bytes(now[g % 2], a, b);
        } else {
            const group_scale s = load_scale(block + scales, g % 2, has_low);
            int sums[4] = {0, 0, 0, 0};
            float in[2];
            load_input(b, x, k16 + 2 * g);
            load_group(in, x, k16 + 2 * g, LANE % 4);
            multiply_bytes(sums, a, b);
            add_scaled(format, all[g], sums, &s, in);
        }
    }
    const int g = LANE % 4;
    if (!is_one || g / 2 >= n) return;
    float in[2];
    const group_scale s = load_scale(at + g / 2 * bytes + scales, g % 2, has_low);
    load_own_group(in, x, k16 + 2 * g);
    UNROLL for (int i = 0; i < 4; i++) now[0][i] += now[1][i];
    add_scaled(format, all[0], now[0], &s, in);
}

/* Levels of a group of K4, K5 (32 k) or K6 (16 k: the first two words). */
DEVICE void levels_of_super(u32 a[4], u32 words[4], const char *block, int format, int group) {
    if (format == CUDA_K4) {
        if ((group & 1) == 0) load_16(words, block + K_LEVELS + (group >> 1) * UNIT + LANE * 16);
        bytes_of_nibbles(a, words, (group & 1));
    } else if (format == CUDA_K5) {
        load_16(a, block + K_LEVELS + group * UNIT + LANE * 16);
    } else {
        if ((group & 1) == 0) load_16(words, block + K_LEVELS + (group >> 1) * UNIT + LANE * 16);
        UNROLL for (int i = 0; i < 2; i++) { /* level + 32 < 64: no byte carries */
            a[i] = (words[(group & 1) * 2 + i] + 0x60606060u) ^ 0x80808080u;
        }
    }
}

DEVICE void multiply_super_levels(int format, int c[4], const u32 a[4], const u32 b[2]) {
    if (format == CUDA_K6) {
        multiply_half_bytes(c, a, b[0]);
    } else {
        multiply_bytes(c, a, b);
    }
}

/* K4, K5, K6: 128 k, the first half of a block or the second. */
DEVICE void multiply_super(const char *block, int format, int half, const input_view *x, int k16,
                           float all[][4]) {
    const int per_32 = format == CUDA_K6 ? 2 : 1; /* groups of 32 k */
    const bool is_one = x->tokens == 1;
    UNROLL_NOT for (int i = 0; i < per_32; i++) {
        const int first = 4 * (per_32 * half + i), at = k16 + 2 * first / per_32;
        int now[4] = {0, 0, 0, 0};
        u32 words[4], mine[2] = {0, 0};
        if (is_one && per_32 == 1) load_own_input(mine, x, at, 4);
        if (is_one && per_32 == 2) {
            mine[0] = x->words[(at + LANE / 16 * 2) * 16 + LANE / 4 % 2 * 8 + LANE % 4 * 2 +
                               LANE / 8 % 2];
        }
        UNROLL for (int g = 0; g < 4; g++) {
            u32 a[4], b[2];
            levels_of_super(a, words, block, format, first + g);
            if (is_one) {
                b[0] = LANE / 8 == g ? mine[0] : 0;
                b[1] = LANE / 8 == g ? mine[1] : 0;
                multiply_super_levels(format, now, a, b);
            } else {
                const group_scale s = load_super_scale(block, format, first + g);
                int sums[4] = {0, 0, 0, 0};
                float in[2];
                load_input(b, x, at + g / per_32 * 2);
                load_group(in, x, at + g / per_32 * 2, LANE % 4);
                if (per_32 == 2) b[0] = b[g % 2];
                multiply_super_levels(format, sums, a, b);
                add_scaled(format, all[g], sums, &s, in);
            }
        }
        if (!is_one) continue;
        float in[2];
        const group_scale s = load_super_scale(block, format, first + LANE % 4);
        load_own_group(in, x, at + LANE % 4 / per_32 * 2);
        add_scaled(format, all[0], now, &s, in);
    }
}

/* Parts [first, first + n) of a chunk, whose block 0 is a tile's `block` along k, `each` of them at
 * a time; of K formats a part is half a block.  all [4][4]: of halves and levels as above, of FP8
 * the first. */
#define MULTIPLY_PARTS(FORMAT, span, bytes, each, multiply)                                       \
    multiply(chunk + (first + i) * (bytes), FORMAT, each, x, (block + first + i) * ((span) / 16), \
             all)

#define MULTIPLY_EACH(FORMAT, span, bytes, each, multiply)           \
    case FORMAT:                                                     \
        if (HAS_FORMAT(FORMAT)) {                                    \
            int i = 0;                                               \
            UNROLL_NOT for (; i + (each) <= n; i += (each)) {        \
                MULTIPLY_PARTS(FORMAT, span, bytes, each, multiply); \
            }                                                        \
            UNROLL_NOT for (; i < n; i++) {                          \
                MULTIPLY_PARTS(FORMAT, span, bytes, 1, multiply);    \
            }                                                        \
        }                                                            \
        break

#define MULTIPLY_HALVES(FORMAT, bytes)                                                          \
    case FORMAT:                                                                                \
        if (HAS_FORMAT(FORMAT)) {                                                               \
            UNROLL_NOT for (int i = first; i < first + n; i++) {                                \
                multiply_super(chunk + i / 2 * (bytes), FORMAT, i % 2, x, (block + i / 2) * 16, \
                               all);                                                            \
            }                                                                                   \
        }                                                                                       \
        break

DEVICE void multiply_parts(int format, const char *chunk, int block, int first, int n,
                           const input_view *x, float all[][4]) {
    switch (format) {
        MULTIPLY_EACH(CUDA_F16, 16, 512, 4, multiply_halves);
        MULTIPLY_EACH(CUDA_BF16, 16, 512, 4, multiply_halves);
        MULTIPLY_EACH(CUDA_Q8, 64, 1088, 2, multiply_groups);
        MULTIPLY_EACH(CUDA_Q8M, 64, 1152, 2, multiply_groups);
        MULTIPLY_EACH(CUDA_Q4, 64, 576, 2, multiply_groups);
        MULTIPLY_EACH(CUDA_Q4M, 64, 640, 2, multiply_groups);
        MULTIPLY_HALVES(CUDA_K4, 2368);
        MULTIPLY_HALVES(CUDA_K5, 4416);
        MULTIPLY_HALVES(CUDA_K6, 4416);
        MULTIPLY_EACH(CUDA_FP8, 64, 1088, 1, multiply_fp8);
    default: break;
    }
}

/* The same of F32: lane l sums rows 4 * (l % 4) .. + 3 over k = l / 4 (mod 8); sums [tokens][4]. */
DEVICE void multiply_floats(const char *chunk, int block, int first, int n, const input_view *x,
                            float all[CUDA_TOKENS][4]) {
    for (int i = 2 * first; i < 2 * (first + n); i++) {
        const float *w = (const float *)chunk + (i * 8 + LANE / 4) * CUDA_TILE + LANE % 4 * 4;
        const int k = block * 16 + i * 8 + LANE / 4;
        UNROLL for (int t = 0; t < CUDA_TOKENS; t++) {
            if (t >= x->tokens) continue;
            const float v = float_of_bits(x->words[(k / 16 * x->stride + t) * 16 + k % 16]);
            UNROLL for (int j = 0; j < 4; j++) all[t][j] += w[j] * v;
        }
    }
}
