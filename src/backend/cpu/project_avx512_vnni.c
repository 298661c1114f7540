/* project_avx512_vnni.c - products with 8- and 4-bit weights (AVX-512 with VNNI).
 *
 *   per group of 32 k, row and panel:
 *       isum = offset + sum over 8 quads of dpbusd(levels u8, x s8)      exact in int32
 *       acc += float(isum) * d_x * d_w  [ + sum_x * m_w ]                one chain over the groups
 *
 * Levels are unsigned, as the instruction wants them; what their offset adds (128, 32 or 8 times
 * the sum of x) was tabulated with the inputs and is where isum starts, so signs cost nothing.
 * Per group a tile of R rows takes 8 R dot products and 3 R float operations.
 *
 * Twins: project_portable.c, project_avx2.c, project_neon.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/project.h"

#if defined(__AVX512VNNI__)

    #include "backend/cpu/levels.h"
    #include "backend/cpu/tiles.h"
    #include "base/compiler.h"

    #include <immintrin.h>

enum {
    FEW_ROWS = 8, /* a step of so many waits for memory                                 */
    AHEAD = 3072, /* bytes; asking past the second cache (NTA) halves the rate on Xeons */
};

WEIR_INLINE __m512 load_f16(const char *p) {
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)p));
}

WEIR_INLINE __m512 load_u8(const char *p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(const void *)p)));
}

WEIR_INLINE __m512 load_s8(const char *p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_load_si128((const __m128i *)(const void *)p)));
}

/* Levels of one quad of 16 rows; units points at the group.  Steps of few rows wait for memory, so
 * they ask for lines far ahead: processors that fetch ahead by themselves stop at every 4 KiB. */
WEIR_INLINE __m512i quad_levels(const levels f, const char *units, int quad, const int rows) {
    const char *line = units + (f.bits == 8 ? quad : quad % 4) * LEVELS_UNIT;
    if (rows <= FEW_ROWS && (f.bits == 8 || quad < 4)) _mm_prefetch(line + AHEAD, _MM_HINT_T0);
    if (f.bits == 8) return _mm512_load_si512(line);
    const __m512i both = _mm512_load_si512(line);
    return _mm512_and_si512(quad < 4 ? both : _mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
}

/* The scale of group g (K6: of its half h), [16]. */
WEIR_INLINE __m512 scale_of(const levels f, const char *block, int g, int h) {
    if (f.has_halves) {
        return _mm512_mul_ps(load_f16(block), load_s8(block + LEVELS_SC + (2 * g + h) * 16));
    }
    if (f.is_k) return _mm512_mul_ps(load_f16(block), load_u8(block + LEVELS_SC + g * 16));
    return load_f16(block + (f.bits == 8 ? LEVELS_D8 : LEVELS_D4) + g * 32);
}

/* What sum_x is multiplied by, [16]. */
WEIR_INLINE __m512 min_of(const levels f, const char *block, int g) {
    if (f.is_k) {
        const __m512 dmin = _mm512_sub_ps(_mm512_setzero_ps(), load_f16(block + LEVELS_DMIN));
        return _mm512_mul_ps(dmin, load_u8(block + LEVELS_MN + g * 16));
    }
    return load_f16(block + (f.bits == 8 ? LEVELS_D8 : LEVELS_D4) + 64 + g * 32);
}

/* Adds one group to acc; h selects half of it, -1 is all. */
WEIR_INLINE void add_group(const levels f, const project_tile *t, const int8_parts at, int g, int h,
                           const int rows, const int panels, __m512 *acc) {
    const int32_t *xi = (const int32_t *)(const void *)t->x;
    const float *xf = (const float *)(const void *)t->x;
    const int block = g / f.per_block, in_block = g % f.per_block;
    const size_t w_at = (size_t)block * (size_t)f.block_bytes;
    const size_t units = w_at + (size_t)(f.first + in_block * (f.bits == 8 ? 512 : 256));
    const int first = h == 1 ? LEVELS_QUADS / 2 : 0,
              last = h == 0 ? LEVELS_QUADS / 2 : LEVELS_QUADS;
    const size_t row = (size_t)g * (size_t)rows;

    __m512i isum[PROJECT_PANELS * PROJECT_ROWS];
    WEIR_UNROLL for (int r = 0; r < rows; r++) {
        const int32_t *start = f.has_halves  ? xi + at.by32 + 2 * row + h * rows
                               : f.has_min   ? NULL
                               : f.bits == 8 ? xi + at.by128 + row
                                             : xi + at.by8 + row;
        const __m512i s = start ? _mm512_set1_epi32(start[r]) : _mm512_setzero_si512();
        WEIR_UNROLL for (int p = 0; p < panels; p++) isum[r * panels + p] = s;
    }
    WEIR_UNROLL for (int quad = first; quad < last; quad++) {
        __m512i w[PROJECT_PANELS];
        WEIR_UNROLL for (int p = 0; p < panels; p++) {
            w[p] = quad_levels(f, t->w + (size_t)p * t->panel_bytes + units, quad, rows);
        }
        WEIR_UNROLL for (int r = 0; r < rows; r++) {
            const __m512i x = _mm512_set1_epi32(xi[LEVELS_QUADS * row + (size_t)(quad * rows + r)]);
            WEIR_UNROLL for (int p = 0; p < panels; p++) {
                isum[r * panels + p] = _mm512_dpbusd_epi32(isum[r * panels + p], w[p], x);
            }
        }
    }
    WEIR_UNROLL for (int p = 0; p < panels; p++) {
        const char *b = t->w + (size_t)p * t->panel_bytes + w_at;
        const __m512 scale = scale_of(f, b, in_block, h);
        const __m512 min = f.has_min ? min_of(f, b, in_block) : _mm512_setzero_ps();
        WEIR_UNROLL for (int r = 0; r < rows; r++) {
            __m512 *a = &acc[r * panels + p];
            const __m512 d = _mm512_set1_ps(xf[at.d + row + (size_t)r]);
            const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(isum[r * panels + p]), d);
            *a = _mm512_fmadd_ps(v, scale, *a);
            if (f.has_min) {
                *a = _mm512_fmadd_ps(_mm512_set1_ps(xf[at.sum + row + (size_t)r]), min, *a);
            }
        }
    }
}

WEIR_INLINE void tile(const levels f, const project_tile *t, const int rows, const int panels) {
    const int8_parts at = int8_parts_of(t->k, rows);
    __m512 acc[PROJECT_PANELS * PROJECT_ROWS];
    WEIR_UNROLL for (int i = 0; i < panels * rows; i++) acc[i] = _mm512_setzero_ps();
    for (int g = 0; g < t->k / PACK_GROUP; g++) {
        if (f.has_halves) {
            add_group(f, t, at, g, 0, rows, panels, acc);
            add_group(f, t, at, g, 1, rows, panels, acc);
        } else {
            add_group(f, t, at, g, -1, rows, panels, acc);
        }
    }
    WEIR_UNROLL for (int i = 0; i < panels * rows; i++) {
        _mm512_storeu_ps(t->out + i * PACK_ROWS, acc[i]);
    }
}

    #define TILE(rows, panels) tile(f, t, rows, panels)
    #define RUN(FORMAT, name, ...)                                            \
        static void run_##name(const project_tile *t, int rows, int panels) { \
            const levels f = {__VA_ARGS__};                                   \
            TILES_NARROW(TILE)                                                \
        }
    #define ENTRY(FORMAT, name, ...) [PACK_##FORMAT] = {run_##name, INPUT_INT8, 1, 1, 1},

LEVELS_MAP(RUN)

const project_table cpu_avx512_vnni_table = {.kernels = {LEVELS_MAP(ENTRY)}};

#else

const project_table cpu_avx512_vnni_table; /* built for another processor: offers nothing */

#endif
