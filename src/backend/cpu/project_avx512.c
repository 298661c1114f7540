/* project_avx512.c - products with f32, f16 and bf16 weights, exact in f32 (AVX-512 F, BW, VL, DQ).
 *
 *   f32    acc += w * x
 *   f16    acc += widen(w) * x             the weights are exact in f32, so is every product's
 * input bf16   acc += (w << 16) * x[even]; acc += (w & 0xffff0000) * x[odd]
 *
 * A zmm register holds the 16 outputs of one panel and row; a k-unit is one load of weights per
 * panel and one broadcast of the input per row.  2 panels x 12 rows fill 24 of the 32 registers.
 *
 * Sums run over blocks of 64 k, and block sums are added to the output: rounding errors grow with
 * the block, not with the depth, and blocks let inputs and weights of a step stay in the nearest
 * caches.  The order is the same for every tile size.
 *
 * Twins: project_portable.c, project_avx2.c, project_neon.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/project.h"

#if defined(__AVX512F__)

    #include "backend/cpu/tiles.h"
    #include "base/compiler.h"

    #include <immintrin.h>

enum {
    BLOCK = 64,   /* k per block: short, so that one block's chain hides behind the next's */
    FEW_ROWS = 8, /* a step of so many waits for memory ...                              */
    READ_AHEAD = 1024,
    AHEAD = 3072, /* ... and asks for lines so far ahead, past the 4 KiB hardware stops at */
};

/* 16 weights of k; for bf16 of k and k + 1. */
WEIR_INLINE __m512 weights_f32(const char *panel, int k) {
    return _mm512_load_ps(panel + (size_t)k * 64);
}

WEIR_INLINE __m512 weights_f16(const char *panel, int k) {
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(panel + (size_t)k * 32)));
}

WEIR_INLINE void ask_ahead(const char *line, const int rows) {
    if (rows <= FEW_ROWS) _mm_prefetch(line + AHEAD, _MM_HINT_T0);
}

WEIR_INLINE void add_out(float *out, __m512 sum, int k) {
    _mm512_storeu_ps(out, k ? _mm512_add_ps(_mm512_loadu_ps(out), sum) : sum);
}

WEIR_INLINE void tile_f32_f16(const project_tile *t, const bool is_f16, const int rows,
                              const int panels) {
    const float *x = (const float *)(const void *)t->x;
    for (int from = 0; from < t->k; from += BLOCK) {
        const int to = MIN_OF(from + BLOCK, t->k);
        __m512 acc[PROJECT_PANELS * PROJECT_ROWS];
        WEIR_UNROLL for (int i = 0; i < panels * rows; i++) acc[i] = _mm512_setzero_ps();
        for (int k = from; k < to; k++) {
            __m512 w[PROJECT_PANELS];
            WEIR_UNROLL for (int p = 0; p < panels; p++) {
                const char *panel = t->w + (size_t)p * t->panel_bytes;
                ask_ahead(panel + (size_t)k * (is_f16 ? 32 : 64), rows);
                w[p] = is_f16 ? weights_f16(panel, k) : weights_f32(panel, k);
            }
            WEIR_UNROLL for (int r = 0; r < rows; r++) {
                const __m512 b = _mm512_set1_ps(x[(size_t)k * (size_t)rows + (size_t)r]);
                WEIR_UNROLL for (int p = 0; p < panels; p++) {
                    acc[r * panels + p] = _mm512_fmadd_ps(w[p], b, acc[r * panels + p]);
                }
            }
        }
        WEIR_UNROLL for (int i = 0; i < panels * rows; i++) {
            add_out(t->out + i * PACK_ROWS, acc[i], from);
        }
    }
}

WEIR_INLINE void tile_bf16(const project_tile *t, const int rows, const int panels) {
    const float *x = (const float *)(const void *)t->x;
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    for (int from = 0; from < t->k; from += BLOCK) {
        const int to = MIN_OF(from + BLOCK, t->k);
        __m512 acc[PROJECT_PANELS * PROJECT_ROWS];
        WEIR_UNROLL for (int i = 0; i < panels * rows; i++) acc[i] = _mm512_setzero_ps();
        for (int k = from; k < to; k += 2) {
            __m512 even[PROJECT_PANELS], odd[PROJECT_PANELS];
            WEIR_UNROLL for (int p = 0; p < panels; p++) {
                const char *at = t->w + (size_t)p * t->panel_bytes + (size_t)k * 32;
                ask_ahead(at, rows);
                const __m512i w = _mm512_load_si512(at);
                even[p] = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
                odd[p] = _mm512_castsi512_ps(_mm512_and_si512(w, high));
            }
            WEIR_UNROLL for (int r = 0; r < rows; r++) {
                const float *pair = x + (size_t)k * (size_t)rows + (size_t)r;
                const __m512 x0 = _mm512_set1_ps(pair[0]), x1 = _mm512_set1_ps(pair[rows]);
                WEIR_UNROLL for (int p = 0; p < panels; p++) {
                    __m512 *a = &acc[r * panels + p];
                    *a = _mm512_fmadd_ps(odd[p], x1, _mm512_fmadd_ps(even[p], x0, *a));
                }
            }
        }
        WEIR_UNROLL for (int i = 0; i < panels * rows; i++) {
            add_out(t->out + i * PACK_ROWS, acc[i], from);
        }
    }
}

    #define TILE_F32(rows, panels)  tile_f32_f16(t, false, rows, panels)
    #define TILE_F16(rows, panels)  tile_f32_f16(t, true, rows, panels)
    #define TILE_BF16(rows, panels) tile_bf16(t, rows, panels)

static void run_f32(const project_tile *t, int rows, int panels) {
    TILES_WIDE(TILE_F32)
}

static void run_f16(const project_tile *t, int rows, int panels) {
    TILES_WIDE(TILE_F16)
}

static void run_bf16(const project_tile *t, int rows, int panels) {
    TILES_WIDE(TILE_BF16)
}

/* ---- inputs */

static __mmask16 first_lanes(int n) {
    return n >= 16 ? (__mmask16)0xffff : n <= 0 ? (__mmask16)0 : (__mmask16)((1u << n) - 1);
}

static void input_f32(const float *x, int k, int depth, void *out) {
    float *y = out;
    for (int i = 0; i < depth; i += 16) {
        _mm512_mask_storeu_ps(y + i, first_lanes(depth - i),
                              _mm512_maskz_loadu_ps(first_lanes(k - i), x + i));
    }
}

static void input_int8(const float *x, int k, int depth, void *out) {
    const int8_parts at = int8_parts_of(depth, 1);
    int8_t *q = out;
    float *f = out;
    int32_t *s = out;
    for (int g = 0; g < depth / PACK_GROUP; g++) {
        const int i = g * PACK_GROUP;
        const __m512 a = _mm512_maskz_loadu_ps(first_lanes(k - i), x + i);
        const __m512 b = _mm512_maskz_loadu_ps(first_lanes(k - i - 16), x + i + 16);
        const float max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
        const __m512 inverse = _mm512_set1_ps(max > 0 ? 127.0F / max : 0);
        const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse));
        const __m512i qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
        _mm_storeu_si128((__m128i *)(q + i), _mm512_cvtepi32_epi8(qa));
        _mm_storeu_si128((__m128i *)(q + i + 16), _mm512_cvtepi32_epi8(qb));
        const int sum_a = _mm512_reduce_add_epi32(qa), sum_b = _mm512_reduce_add_epi32(qb);
        f[at.d + g] = max / 127.0F;
        s[at.by128 + g] = -128 * (sum_a + sum_b);
        s[at.by8 + g] = -8 * (sum_a + sum_b);
        f[at.sum + g] = f[at.d + g] * (float)(sum_a + sum_b);
        s[at.by32 + 2 * g] = -32 * sum_a;
        s[at.by32 + 2 * g + 1] = -32 * sum_b;
    }
}

/* One stream, lines asked for far ahead: nothing is faster on Xeons, see docs/speed.md. */
static uint64_t read_all(const char *data, size_t bytes) {
    __m512i sums[4];
    WEIR_UNROLL for (int s = 0; s < 4; s++) sums[s] = _mm512_setzero_si512();
    for (size_t at = 0; at < bytes; at += 256) {
        WEIR_UNROLL for (int s = 0; s < 4; s++) {
            const char *p = data + at + s * 64;
            if (s % 2 == 0) _mm_prefetch(p + READ_AHEAD, _MM_HINT_T0);
            sums[s] = _mm512_xor_si512(sums[s], _mm512_load_si512(p));
        }
    }
    sums[0] =
        _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3]));
    return (uint64_t)_mm512_reduce_add_epi64(sums[0]);
}

const project_table cpu_avx512_table = {
    .kernels =
        {
            [PACK_F32] = {run_f32, INPUT_F32, 1, 2, 2},
            [PACK_F16] = {run_f16, INPUT_F32, 1, 2, 2},
            [PACK_BF16] = {run_bf16, INPUT_F32, 1, 2, 2},
        },
    .inputs = {[INPUT_F32] = input_f32, [INPUT_INT8] = input_int8},
    .read = read_all,
};

#else

const project_table cpu_avx512_table; /* built for another processor: offers nothing */

#endif
