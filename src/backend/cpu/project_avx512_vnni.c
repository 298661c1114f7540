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

    #include "backend/cpu/tiles.h"
    #include "base/compiler.h"

    #include <immintrin.h>

/* What the loop over groups must know of a format; constant in every instance. */
typedef struct levels {
    int bits;        /* 8 or 4 */
    int per_block;   /* groups in a block */
    int block_bytes; /* of all 16 rows */
    int at;          /* of the first group's levels */
    bool has_min, is_k, has_halves;
} levels;

enum { UNIT = 64, QUADS = 8, D8 = 16 * UNIT, D4 = 8 * UNIT };

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
 * they ask for the line three ahead: on Zen 4 that is worth 10 % with 8 bits and 15 % with 4. */
WEIR_INLINE __m512i quad_levels(const levels f, const char *units, int quad, const int rows) {
    const char *line = units + (f.bits == 8 ? quad : quad % 4) * UNIT;
    if (rows <= 4 && (f.bits == 8 || quad < 4)) _mm_prefetch(line + 3 * UNIT, _MM_HINT_NTA);
    if (f.bits == 8) return _mm512_load_si512(line);
    const __m512i both = _mm512_load_si512(line);
    return _mm512_and_si512(quad < 4 ? both : _mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
}

/* The scale of group g (K6: of its half h), [16]. */
WEIR_INLINE __m512 scale_of(const levels f, const char *block, int g, int h) {
    if (f.has_halves) {
        return _mm512_mul_ps(load_f16(block), load_s8(block + 64 + (2 * g + h) * 16));
    }
    if (f.is_k) return _mm512_mul_ps(load_f16(block), load_u8(block + 64 + g * 16));
    return load_f16(block + (f.bits == 8 ? D8 : D4) + g * 32);
}

/* What sum_x is multiplied by, [16]. */
WEIR_INLINE __m512 min_of(const levels f, const char *block, int g) {
    if (f.is_k) {
        const __m512 dmin = _mm512_sub_ps(_mm512_setzero_ps(), load_f16(block + 32));
        return _mm512_mul_ps(dmin, load_u8(block + 64 + 128 + g * 16));
    }
    return load_f16(block + (f.bits == 8 ? D8 : D4) + 64 + g * 32);
}

/* Adds one group to acc; h selects half of it, -1 is all. */
WEIR_INLINE void add_group(const levels f, const project_tile *t, const int8_parts at, int g, int h,
                           const int rows, const int panels, __m512 *acc) {
    const int32_t *xi = (const int32_t *)(const void *)t->x;
    const float *xf = (const float *)(const void *)t->x;
    const int block = g / f.per_block, in_block = g % f.per_block;
    const size_t w_at = (size_t)block * (size_t)f.block_bytes;
    const size_t units = w_at + (size_t)(f.at + in_block * (f.bits == 8 ? 512 : 256));
    const int first = h == 1 ? QUADS / 2 : 0, last = h == 0 ? QUADS / 2 : QUADS;
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
            const __m512i x = _mm512_set1_epi32(xi[QUADS * row + (size_t)(quad * rows + r)]);
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

    #define Q8  ((levels){.bits = 8, .per_block = 2, .block_bytes = D8 + 64})
    #define Q8M ((levels){.bits = 8, .per_block = 2, .block_bytes = D8 + 128, .has_min = true})
    #define Q4  ((levels){.bits = 4, .per_block = 2, .block_bytes = D4 + 64})
    #define Q4M ((levels){.bits = 4, .per_block = 2, .block_bytes = D4 + 128, .has_min = true})
    #define K4                                 \
        ((levels){.bits = 4,                   \
                  .per_block = 8,              \
                  .block_bytes = 320 + 4 * D4, \
                  .at = 320,                   \
                  .has_min = true,             \
                  .is_k = true})
    #define K5                                 \
        ((levels){.bits = 8,                   \
                  .per_block = 8,              \
                  .block_bytes = 320 + 4 * D8, \
                  .at = 320,                   \
                  .has_min = true,             \
                  .is_k = true})
    #define K6                                 \
        ((levels){.bits = 8,                   \
                  .per_block = 8,              \
                  .block_bytes = 320 + 4 * D8, \
                  .at = 320,                   \
                  .is_k = true,                \
                  .has_halves = true})

    #define RUN(name, FORMAT)                                           \
        static void name(const project_tile *t, int rows, int panels) { \
            TILES_NARROW(FORMAT##_TILE)                                 \
        }
    #define Q8_TILE(rows, panels)  tile(Q8, t, rows, panels)
    #define Q8M_TILE(rows, panels) tile(Q8M, t, rows, panels)
    #define Q4_TILE(rows, panels)  tile(Q4, t, rows, panels)
    #define Q4M_TILE(rows, panels) tile(Q4M, t, rows, panels)
    #define K4_TILE(rows, panels)  tile(K4, t, rows, panels)
    #define K5_TILE(rows, panels)  tile(K5, t, rows, panels)
    #define K6_TILE(rows, panels)  tile(K6, t, rows, panels)

RUN(run_q8, Q8)
RUN(run_q8m, Q8M)
RUN(run_q4, Q4)
RUN(run_q4m, Q4M)
RUN(run_k4, K4)
RUN(run_k5, K5)
RUN(run_k6, K6)

const project_table cpu_avx512_vnni_table = {
    .kernels =
        {
            [PACK_Q8] = {run_q8, INPUT_INT8, 1, 1, 1},
            [PACK_Q8M] = {run_q8m, INPUT_INT8, 1, 1, 1},
            [PACK_Q4] = {run_q4, INPUT_INT8, 1, 1, 1},
            [PACK_Q4M] = {run_q4m, INPUT_INT8, 1, 1, 1},
            [PACK_K4] = {run_k4, INPUT_INT8, 1, 1, 1},
            [PACK_K5] = {run_k5, INPUT_INT8, 1, 1, 1},
            [PACK_K6] = {run_k6, INPUT_INT8, 1, 1, 1},
        },
};

#else

const project_table cpu_avx512_vnni_table; /* built for another processor: offers nothing */

#endif
