/* project_portable.c - every format's product in plain C, for any processor.
 *
 * One or two rows at a time, 16 lanes in step so that a compiler can use what vectors there are.
 * The order of the sums and the integer arithmetic are those of the SIMD twins.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/project.h"

#include "backend/cpu/levels.h"
#include "base/compiler.h"
#include "base/half.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { N = PACK_ROWS, BLOCK = 256, AT_ONCE = 2 };

static uint16_t load_u16(const char *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return h;
}

/* ---- 16 and 32 bit */

/* Weights of column k for the 16 rows of a panel. */
WEIR_INLINE void column(pack_format format, const char *panel, int k, float w[N]) {
    if (format == PACK_F32) {
        memcpy(w, panel + (size_t)k * 64, N * sizeof *w);
    } else if (format == PACK_F16) {
        for (int i = 0; i < N; i++) w[i] = f16_to_float(load_u16(panel + (size_t)k * 32 + i * 2));
    } else {
        const char *pairs = panel + (size_t)(k / 2) * 64 + k % 2 * 2;
        for (int i = 0; i < N; i++) w[i] = bf16_to_float(load_u16(pairs + i * 4));
    }
}

/* `rows` rows of a tile with one panel; x and out point at the first of them. */
WEIR_INLINE void floats_rows(pack_format format, const char *panel, int depth, const float *x,
                             size_t stride, const int rows, float *out, size_t out_stride) {
    for (int from = 0; from < depth; from += BLOCK) {
        float acc[AT_ONCE][N] = {{0}};
        for (int k = from; k < MIN_OF(from + BLOCK, depth); k++) {
            float w[N];
            column(format, panel, k, w);
            WEIR_UNROLL for (int r = 0; r < rows; r++) {
                const float b = x[(size_t)k * stride + (size_t)r];
                for (int i = 0; i < N; i++) acc[r][i] += w[i] * b;
            }
        }
        for (int r = 0; r < rows; r++) {
            float *y = out + (size_t)r * out_stride;
            for (int i = 0; i < N; i++) y[i] = from ? y[i] + acc[r][i] : acc[r][i];
        }
    }
}

WEIR_INLINE void run_floats(pack_format format, const project_tile *t, int rows, int panels) {
    for (int p = 0; p < panels; p++) {
        const char *w = t->w + (size_t)p * t->panel_bytes;
        const size_t stride = (size_t)rows, out_stride = (size_t)panels * N;
        for (int r = 0, n; r < rows; r += n) {
            const float *x = (const float *)(const void *)t->x + r;
            float *out = t->out + (size_t)r * out_stride + p * N;
            n = rows - r >= AT_ONCE ? AT_ONCE : 1;
            if (n == AT_ONCE) {
                floats_rows(format, w, t->k, x, stride, AT_ONCE, out, out_stride);
            } else {
                floats_rows(format, w, t->k, x, stride, 1, out, out_stride);
            }
        }
    }
}

static void run_f32(const project_tile *t, int rows, int panels) {
    run_floats(PACK_F32, t, rows, panels);
}

static void run_f16(const project_tile *t, int rows, int panels) {
    run_floats(PACK_F16, t, rows, panels);
}

static void run_bf16(const project_tile *t, int rows, int panels) {
    run_floats(PACK_BF16, t, rows, panels);
}

/* ---- 8 and 4 bit */

/* isum[i] += level * x over the quads [first, last) of a group, for the 16 rows. */
WEIR_INLINE void add_quads(const levels f, const char *units, const int8_t *x, size_t x_step,
                           int first, int last, int32_t isum[N]) {
    for (int quad = first; quad < last; quad++) {
        const uint8_t *w = (const uint8_t *)units + (f.bits == 8 ? quad : quad % 4) * LEVELS_UNIT;
        const int shift = f.bits == 4 && quad >= 4 ? 4 : 0, mask = f.bits == 8 ? 255 : 15;
        const int8_t *q = x + (size_t)quad * x_step;
        for (int i = 0; i < N; i++) {
            for (int b = 0; b < 4; b++) isum[i] += (w[i * 4 + b] >> shift & mask) * q[b];
        }
    }
}

/* Scales and minima of group g of a block (K6: of its half h). */
WEIR_INLINE void scales_of(const levels f, const char *block, int g, int h, float d[N],
                           float m[N]) {
    const char *plain = block + (f.bits == 8 ? LEVELS_D8 : LEVELS_D4) + g * 32;
    for (int i = 0; i < N; i++) {
        if (f.has_halves) {
            d[i] = f16_to_float(load_u16(block + i * 2)) *
                   (float)(int8_t)block[LEVELS_SC + (2 * g + h) * 16 + i];
        } else if (f.is_k) {
            d[i] = f16_to_float(load_u16(block + i * 2)) *
                   (float)(uint8_t)block[LEVELS_SC + g * 16 + i];
            m[i] = -f16_to_float(load_u16(block + LEVELS_DMIN + i * 2)) *
                   (float)(uint8_t)block[LEVELS_MN + g * 16 + i];
        } else {
            d[i] = f16_to_float(load_u16(plain + i * 2));
            if (f.has_min) m[i] = f16_to_float(load_u16(plain + 64 + i * 2));
        }
    }
}

/* One group (or half of one) of one panel and row. */
WEIR_INLINE void add_group(const levels f, const project_tile *t, const char *panel, int g, int h,
                           int rows, int r, float acc[N]) {
    const int8_parts at = int8_parts_of(t->k, rows);
    const float *xf = (const float *)(const void *)t->x;
    const char *block = panel + (size_t)(g / f.per_block) * (size_t)f.block_bytes;
    const int in_block = g % f.per_block;
    const size_t row = (size_t)g * (size_t)rows + (size_t)r;
    const int8_t *x =
        (const int8_t *)t->x + ((size_t)g * LEVELS_QUADS * (size_t)rows + (size_t)r) * 4;
    const char *units = block + f.first + in_block * (f.bits == 8 ? LEVELS_D8 : LEVELS_D4) / 2;
    float d[N], m[N] = {0};
    int32_t isum[N] = {0};
    add_quads(f, units, x, (size_t)rows * 4, h == 1 ? 4 : 0, h == 0 ? 4 : LEVELS_QUADS, isum);
    scales_of(f, block, in_block, h, d, m);
    int32_t start = 0;
    const char *word = t->x;
    if (f.has_halves) {
        word += (at.by32 + (2 * (size_t)g + (size_t)h) * (size_t)rows + (size_t)r) * 4;
    } else {
        word += ((f.bits == 8 ? at.by128 : at.by8) + row) * 4;
    }
    if (!f.has_min) memcpy(&start, word, 4);
    for (int i = 0; i < N; i++) {
        acc[i] += (float)(start + isum[i]) * xf[at.d + row] * d[i];
        if (f.has_min) acc[i] += xf[at.sum + row] * m[i];
    }
}

WEIR_INLINE void run_levels(const levels f, const project_tile *t, int rows, int panels) {
    for (int p = 0; p < panels; p++) {
        const char *panel = t->w + (size_t)p * t->panel_bytes;
        for (int r = 0; r < rows; r++) {
            float acc[N] = {0};
            for (int g = 0; g < t->k / PACK_GROUP; g++) {
                add_group(f, t, panel, g, f.has_halves ? 0 : -1, rows, r, acc);
                if (f.has_halves) add_group(f, t, panel, g, 1, rows, r, acc);
            }
            memcpy(t->out + (r * panels + p) * N, acc, sizeof acc);
        }
    }
}

#define RUN(FORMAT, name, ...)                                            \
    static void run_##name(const project_tile *t, int rows, int panels) { \
        run_levels((levels){__VA_ARGS__}, t, rows, panels);               \
    }
#define ENTRY(FORMAT, name, ...) [PACK_##FORMAT] = {run_##name, INPUT_INT8, 1, 1, 1},

LEVELS_MAP(RUN)

/* ---- inputs */

static void input_f32(const float *x, int k, int depth, void *out) {
    float *y = out;
    memcpy(y, x, (size_t)k * sizeof *y);
    for (int i = k; i < depth; i++) y[i] = 0;
}

/* 32 floats, fewer at the end of the row, to int8; returns the scale. */
static float quantize_group(const float *x, int n, int8_t *q, int32_t sums[2]) {
    float max = 0;
    for (int i = 0; i < n; i++) max = fmaxf(max, fabsf(x[i]));
    const float inverse = max > 0 ? 127.0F / max : 0;
    sums[0] = sums[1] = 0;
    for (int i = 0; i < PACK_GROUP; i++) {
        q[i] = i < n ? (int8_t)lrintf(x[i] * inverse) : 0;
        sums[i / 16] += q[i];
    }
    return max / 127.0F;
}

static void input_int8(const float *x, int k, int depth, void *out) {
    const int8_parts at = int8_parts_of(depth, 1);
    float *f = out;
    int32_t *s = out;
    for (int g = 0; g < depth / PACK_GROUP; g++) {
        const int i = g * PACK_GROUP, n = MAX_OF(0, MIN_OF(PACK_GROUP, k - i));
        int32_t sums[2];
        f[at.d + (size_t)g] = quantize_group(x + i, n, (int8_t *)out + i, sums);
        s[at.by128 + (size_t)g] = -128 * (sums[0] + sums[1]);
        s[at.by8 + (size_t)g] = -8 * (sums[0] + sums[1]);
        f[at.sum + (size_t)g] = f[at.d + (size_t)g] * (float)(sums[0] + sums[1]);
        s[at.by32 + 2 * (size_t)g] = -32 * sums[0];
        s[at.by32 + 2 * (size_t)g + 1] = -32 * sums[1];
    }
}

static uint64_t read_all(const char *data, size_t bytes) {
    uint64_t sums[8] = {0};
    for (size_t at = 0; at < bytes; at += sizeof sums) {
        uint64_t words[8];
        memcpy(words, data + at, sizeof words);
        for (int i = 0; i < 8; i++) sums[i] ^= words[i];
    }
    uint64_t sum = 0;
    for (int i = 0; i < 8; i++) sum ^= sums[i];
    return sum;
}

const project_table cpu_portable_table = {
    .kernels = {[PACK_F32] = {run_f32, INPUT_F32, 1, 1, 1},
                [PACK_F16] = {run_f16, INPUT_F32, 1, 1, 1},
                [PACK_BF16] = {run_bf16, INPUT_F32, 1, 1, 1},
                LEVELS_MAP(ENTRY)},
    .inputs = {[INPUT_F32] = input_f32, [INPUT_INT8] = input_int8},
    .read = read_all,
};
