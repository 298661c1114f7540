/* project_avx2.c - products in 16 registers of 8 lanes (AVX2, FMA, F16C).
 *
 * A panel is two halves of 8 rows of weights.  A tile of rows is taken a few at a time, as many as
 * the registers hold sums for; order and arithmetic are those of the AVX-512 twins.
 *
 * Integer products go through 16 bits: maddubs adds pairs of u8 x s8.  Levels of up to 15 can be
 * summed over 8 quads in 16 bits (8 * 2 * 15 * 127 = 30480), up to 31 over 4, up to 63 over 2.
 * Q8's levels could overflow even in one pair, so there the sign of each weight is moved to x:
 * |w| * (sign(w) x) <= 128 * 127 fits twice.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/project.h"

#if defined(__AVX2__)

    #include "backend/cpu/levels.h"
    #include "base/compiler.h"

    #include <immintrin.h>
    #include <stddef.h>

enum { BLOCK = 256, HALVES = 2, LANES = 8, AT_ONCE = 4 /* rows: 8 sums, 4 weights */ };

/* ---- 16 and 32 bit */

/* Adds columns [k, k + 2) of 8 rows of weights to the sums of `rows` rows; x is [k][stride]. */
WEIR_INLINE void add_columns(pack_format format, const char *panel, int k, bool has_next,
                             const float *x, size_t stride, const int rows,
                             __m256 acc[HALVES * AT_ONCE]) {
    __m256 w[2][HALVES];
    WEIR_UNROLL for (int h = 0; h < HALVES; h++) {
        if (format == PACK_BF16) {
            const char *pairs = panel + (size_t)k * 32 + h * 32;
            const __m256i both = _mm256_load_si256((const __m256i *)(const void *)pairs);
            w[0][h] = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
            w[1][h] =
                _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32((int)0xffff0000u)));
        } else if (format == PACK_F16) {
            const __m128i *p = (const __m128i *)(const void *)(panel + (size_t)k * 32 + h * 16);
            w[0][h] = _mm256_cvtph_ps(_mm_load_si128(p));
            w[1][h] = has_next ? _mm256_cvtph_ps(_mm_load_si128(p + 2)) : w[0][h];
        } else {
            const float *p = (const float *)(const void *)(panel + (size_t)k * 64) + h * LANES;
            w[0][h] = _mm256_load_ps(p);
            w[1][h] = has_next ? _mm256_load_ps(p + PACK_ROWS) : w[0][h];
        }
    }
    WEIR_UNROLL for (int c = 0; c < 2; c++) {
        if (c && !has_next) break;
        WEIR_UNROLL for (int r = 0; r < rows; r++) {
            const __m256 b = _mm256_set1_ps(x[(size_t)(k + c) * stride + (size_t)r]);
            WEIR_UNROLL for (int h = 0; h < HALVES; h++) {
                acc[r * HALVES + h] = _mm256_fmadd_ps(w[c][h], b, acc[r * HALVES + h]);
            }
        }
    }
}

/* `rows` rows of a tile with one panel; x and out point at the first of them. */
WEIR_INLINE void floats_rows(pack_format format, const char *panel, int depth, const float *x,
                             size_t stride, const int rows, float *out, size_t out_stride) {
    for (int from = 0; from < depth; from += BLOCK) {
        const int to = MIN_OF(from + BLOCK, depth);
        __m256 acc[HALVES * AT_ONCE];
        WEIR_UNROLL for (int i = 0; i < HALVES * rows; i++) acc[i] = _mm256_setzero_ps();
        int k = from;
        for (; k + 2 <= to; k += 2) add_columns(format, panel, k, true, x, stride, rows, acc);
        if (k < to) add_columns(format, panel, k, false, x, stride, rows, acc);
        WEIR_UNROLL for (int r = 0; r < rows; r++) {
            WEIR_UNROLL for (int h = 0; h < HALVES; h++) {
                float *y = out + (size_t)r * out_stride + h * LANES;
                const __m256 a = acc[r * HALVES + h];
                _mm256_storeu_ps(y, from ? _mm256_add_ps(_mm256_loadu_ps(y), a) : a);
            }
        }
    }
}

WEIR_INLINE void run_floats(pack_format format, const project_tile *t, int rows, int panels) {
    for (int p = 0; p < panels; p++) {
        const char *w = t->w + (size_t)p * t->panel_bytes;
        const size_t stride = (size_t)rows, out_stride = (size_t)panels * PACK_ROWS;
        for (int r = 0, n; r < rows; r += n) {
            const float *x = (const float *)(const void *)t->x + r;
            float *out = t->out + (size_t)r * out_stride + p * PACK_ROWS;
            n = rows - r >= AT_ONCE ? AT_ONCE : rows - r >= 2 ? 2 : 1;
            if (n == AT_ONCE) {
                floats_rows(format, w, t->k, x, stride, AT_ONCE, out, out_stride);
            } else if (n == 2) {
                floats_rows(format, w, t->k, x, stride, 2, out, out_stride);
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

enum { INT_ROWS = 3 /* 6 sums of 32 bit, 6 of 16 bit, 2 weights */ };

typedef struct group { /* of a panel: where it is, and the row of inputs it meets */
    const char *block, *units;
    const project_tile *t;
    int8_parts at;
    int g, in_block, half; /* half -1: all */
    size_t stride;         /* rows of the tile */
} group;

WEIR_INLINE __m256 load_f16(const char *p) {
    return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)p));
}

WEIR_INLINE __m256 load_bytes(const char *p, bool is_signed) {
    const __m128i v = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(v) : _mm256_cvtepu8_epi32(v));
}

WEIR_INLINE __m256 scale_of(const levels f, const group *g, int h) {
    if (f.has_halves) {
        const char *sc = g->block + LEVELS_SC + (2 * g->in_block + g->half) * 16 + h * LANES;
        return _mm256_mul_ps(load_f16(g->block + h * 16), load_bytes(sc, true));
    }
    if (f.is_k) {
        const char *sc = g->block + LEVELS_SC + g->in_block * 16 + h * LANES;
        return _mm256_mul_ps(load_f16(g->block + h * 16), load_bytes(sc, false));
    }
    return load_f16(g->block + (f.bits == 8 ? LEVELS_D8 : LEVELS_D4) + g->in_block * 32 + h * 16);
}

WEIR_INLINE __m256 min_of(const levels f, const group *g, int h) {
    if (f.is_k) {
        const __m256 dmin = load_f16(g->block + LEVELS_DMIN + h * 16);
        const char *mn = g->block + LEVELS_MN + g->in_block * 16 + h * LANES;
        return _mm256_mul_ps(_mm256_sub_ps(_mm256_setzero_ps(), dmin), load_bytes(mn, false));
    }
    const char *m = g->block + (f.bits == 8 ? LEVELS_D8 : LEVELS_D4) + 64;
    return load_f16(m + g->in_block * 32 + h * 16);
}

WEIR_INLINE __m256i quad_levels(const levels f, const char *units, int quad, int h) {
    const char *p = units + (f.bits == 8 ? quad : quad % 4) * LEVELS_UNIT + h * 32;
    const __m256i v = _mm256_load_si256((const __m256i *)(const void *)p);
    if (f.bits == 8) return v;
    return _mm256_and_si256(quad < 4 ? v : _mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
}

/* Pairs of products of 4 levels of 8 rows with one quad of inputs, in 16 bits. */
WEIR_INLINE __m256i multiply_quad(const levels f, __m256i w, __m256i x) {
    if (f.top < 128) return _mm256_maddubs_epi16(w, x);
    const __m256i value = _mm256_xor_si256(w, _mm256_set1_epi8((char)0x80));
    return _mm256_maddubs_epi16(_mm256_abs_epi8(value), _mm256_sign_epi8(x, value));
}

/* isum [rows][HALVES] = products of the group's quads, exactly. */
WEIR_INLINE void sum_quads(const levels f, const group *g, int first_row, const int rows,
                           __m256i isum[HALVES * INT_ROWS]) {
    const int run = f.top > 63 ? 1 : f.top > 31 ? 2 : f.top > 15 ? 4 : 8; /* quads in 16 bits */
    const int from = g->half == 1 ? 4 : 0, to = g->half == 0 ? 4 : LEVELS_QUADS;
    const int32_t *quads = (const int32_t *)(const void *)g->t->x +
                           (size_t)g->g * LEVELS_QUADS * g->stride + first_row;
    __m256i part[HALVES * INT_ROWS];
    WEIR_UNROLL for (int quad = from; quad < to; quad++) {
        WEIR_UNROLL for (int h = 0; h < HALVES; h++) {
            const __m256i w = quad_levels(f, g->units, quad, h);
            WEIR_UNROLL for (int r = 0; r < rows; r++) {
                const __m256i x = _mm256_set1_epi32(quads[(size_t)quad * g->stride + (size_t)r]);
                const __m256i p = multiply_quad(f, w, x);
                __m256i *sum = &part[r * HALVES + h];
                *sum = quad % run ? _mm256_add_epi16(*sum, p) : p;
                if (quad % run != run - 1 && quad != to - 1) continue;
                const __m256i wide = _mm256_madd_epi16(*sum, _mm256_set1_epi16(1));
                isum[r * HALVES + h] = _mm256_add_epi32(isum[r * HALVES + h], wide);
            }
        }
    }
}

/* One group (or half of one) of `rows` rows; out [rows] is where their sums are kept. */
WEIR_INLINE void add_group(const levels f, const group *g, int first_row, const int rows,
                           float *out, size_t out_stride) {
    const int32_t *xi = (const int32_t *)(const void *)g->t->x;
    const float *xf = (const float *)(const void *)g->t->x;
    const size_t row = (size_t)g->g * g->stride + (size_t)first_row;
    __m256i isum[HALVES * INT_ROWS];
    WEIR_UNROLL for (int r = 0; r < rows; r++) {
        int32_t start = 0;
        if (f.has_halves) {
            const size_t half = (2 * (size_t)g->g + (size_t)g->half) * g->stride;
            start = xi[g->at.by32 + half + (size_t)(first_row + r)];
        } else if (!f.has_min && f.bits == 4) {
            start = xi[g->at.by8 + row + (size_t)r];
        }
        WEIR_UNROLL for (int h = 0; h < HALVES; h++) {
            isum[r * HALVES + h] = _mm256_set1_epi32(start);
        }
    }
    sum_quads(f, g, first_row, rows, isum);
    WEIR_UNROLL for (int h = 0; h < HALVES; h++) {
        const __m256 scale = scale_of(f, g, h);
        const __m256 min = f.has_min ? min_of(f, g, h) : _mm256_setzero_ps();
        WEIR_UNROLL for (int r = 0; r < rows; r++) {
            float *y = out + (size_t)r * out_stride + h * LANES;
            const __m256 d = _mm256_set1_ps(xf[g->at.d + row + (size_t)r]);
            const __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(isum[r * HALVES + h]), d);
            __m256 acc = g->g == 0 && g->half <= 0 ? _mm256_setzero_ps() : _mm256_loadu_ps(y);
            acc = _mm256_fmadd_ps(v, scale, acc);
            if (f.has_min) {
                const __m256 sum = _mm256_set1_ps(xf[g->at.sum + row + (size_t)r]);
                acc = _mm256_fmadd_ps(sum, min, acc);
            }
            _mm256_storeu_ps(y, acc);
        }
    }
}

/* All rows of a tile through one group, a few at a time. */
WEIR_INLINE void add_group_all(const levels f, const group *g, int rows, float *out,
                               size_t out_stride) {
    int r = 0;
    for (; r + INT_ROWS <= rows; r += INT_ROWS) {
        add_group(f, g, r, INT_ROWS, out + (size_t)r * out_stride, out_stride);
    }
    for (; r < rows; r++) add_group(f, g, r, 1, out + (size_t)r * out_stride, out_stride);
}

WEIR_INLINE void run_levels(const levels f, const project_tile *t, int rows, int panels) {
    const size_t out_stride = (size_t)panels * PACK_ROWS;
    for (int p = 0; p < panels; p++) {
        float *out = t->out + p * PACK_ROWS;
        group g = {.t = t, .at = int8_parts_of(t->k, rows), .stride = (size_t)rows};
        for (g.g = 0; g.g < t->k / PACK_GROUP; g.g++) {
            g.in_block = g.g % f.per_block;
            g.block = t->w + (size_t)p * t->panel_bytes +
                      (size_t)(g.g / f.per_block) * (size_t)f.block_bytes;
            g.units = g.block + f.first + g.in_block * (f.bits == 8 ? LEVELS_D8 : LEVELS_D4) / 2;
            g.half = f.has_halves ? 0 : -1;
            add_group_all(f, &g, rows, out, out_stride);
            if (!f.has_halves) continue;
            g.half = 1;
            add_group_all(f, &g, rows, out, out_stride);
        }
    }
}

    #define RUN(FORMAT, name, ...)                                            \
        static void run_##name(const project_tile *t, int rows, int panels) { \
            run_levels((levels){__VA_ARGS__}, t, rows, panels);               \
        }
    #define ENTRY(FORMAT, name, ...) [PACK_##FORMAT] = {run_##name, INPUT_INT8, 1, 1, 1},

LEVELS_MAP(RUN)

static uint64_t read_all(const char *data, size_t bytes) {
    const size_t stream = bytes / 4;
    __m256i sums[4];
    WEIR_UNROLL for (int s = 0; s < 4; s++) sums[s] = _mm256_setzero_si256();
    for (size_t at = 0; at < stream; at += 64) {
        WEIR_UNROLL for (int s = 0; s < 4; s++) {
            const __m256i *p = (const __m256i *)(const void *)(data + (size_t)s * stream + at);
            sums[s] = _mm256_xor_si256(sums[s], _mm256_load_si256(p));
            sums[s] = _mm256_xor_si256(sums[s], _mm256_load_si256(p + 1));
        }
    }
    sums[0] =
        _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
    return (uint64_t)(_mm256_extract_epi64(sums[0], 0) ^ _mm256_extract_epi64(sums[0], 1) ^
                      _mm256_extract_epi64(sums[0], 2) ^ _mm256_extract_epi64(sums[0], 3));
}

const project_table cpu_avx2_table = {
    .kernels = {[PACK_F32] = {run_f32, INPUT_F32, 1, 1, 1},
                [PACK_F16] = {run_f16, INPUT_F32, 1, 1, 1},
                [PACK_BF16] = {run_bf16, INPUT_F32, 1, 1, 1},
                LEVELS_MAP(ENTRY)},
    .read = read_all,
};

#else

const project_table cpu_avx2_table; /* built for another processor: offers nothing */

#endif
