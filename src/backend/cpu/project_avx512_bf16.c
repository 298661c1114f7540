/* project_avx512_bf16.c - products with bf16 weights and inputs rounded to bf16 (AVX-512 BF16).
 *
 *   acc += w[k] * x[k] + w[k+1] * x[k+1]      vdpbf16ps: two products per lane and instruction
 *
 * The inputs lose 16 bits of mantissa, as they do wherever bf16 models run in bf16; sums are f32,
 * block by block as in project_avx512.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/project.h"

#if defined(__AVX512BF16__)

    #include "backend/cpu/tiles.h"
    #include "base/compiler.h"

    #include <immintrin.h>

enum {
    BLOCK = 512,  /* k per block */
    FEW_ROWS = 8, /* a step of so many waits for memory ...                              */
    AHEAD = 3072, /* ... and asks for lines so far ahead, past the 4 KiB hardware stops at */
};

WEIR_INLINE void tile(const project_tile *t, const int rows, const int panels) {
    const int32_t *x = (const int32_t *)(const void *)t->x;
    for (int from = 0; from < t->k; from += BLOCK) {
        const int to = MIN_OF(from + BLOCK, t->k);
        __m512 acc[PROJECT_PANELS * PROJECT_ROWS];
        WEIR_UNROLL for (int i = 0; i < panels * rows; i++) acc[i] = _mm512_setzero_ps();
        for (int k = from; k < to; k += 2) {
            __m512bh w[PROJECT_PANELS];
            WEIR_UNROLL for (int p = 0; p < panels; p++) {
                const char *panel = t->w + (size_t)p * t->panel_bytes;
                if (rows <= FEW_ROWS) _mm_prefetch(panel + (size_t)k * 32 + AHEAD, _MM_HINT_T0);
                w[p] = (__m512bh)_mm512_load_si512(panel + (size_t)k * 32);
            }
            WEIR_UNROLL for (int r = 0; r < rows; r++) {
                const size_t at = (size_t)(k / 2) * (size_t)rows + (size_t)r;
                const __m512bh b = (__m512bh)_mm512_set1_epi32(x[at]);
                WEIR_UNROLL for (int p = 0; p < panels; p++) {
                    acc[r * panels + p] = _mm512_dpbf16_ps(acc[r * panels + p], w[p], b);
                }
            }
        }
        WEIR_UNROLL for (int i = 0; i < panels * rows; i++) {
            float *out = t->out + i * PACK_ROWS;
            _mm512_storeu_ps(out, from ? _mm512_add_ps(_mm512_loadu_ps(out), acc[i]) : acc[i]);
        }
    }
}

    #define TILE(rows, panels) tile(t, rows, panels)

static void run(const project_tile *t, int rows, int panels) {
    TILES_WIDE(TILE)
}

static __mmask16 first_lanes(int n) {
    return n >= 16 ? (__mmask16)0xffff : n <= 0 ? (__mmask16)0 : (__mmask16)((1u << n) - 1);
}

static void input(const float *x, int k, int depth, void *out) {
    uint16_t *y = out;
    for (int i = 0; i < depth; i += 16) {
        const __m512 v = _mm512_maskz_loadu_ps(first_lanes(k - i), x + i);
        _mm256_mask_storeu_epi16(y + i, first_lanes(depth - i), (__m256i)_mm512_cvtneps_pbh(v));
    }
}

const project_table cpu_avx512_bf16_table = {
    .kernels = {[PACK_BF16] = {run, INPUT_BF16, 1, 4, 2}},
    .inputs = {[INPUT_BF16] = input},
};

#else

const project_table cpu_avx512_bf16_table; /* built for another processor: offers nothing */

#endif
