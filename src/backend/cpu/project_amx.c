/* project_amx.c - products of many rows on the tile unit (AMX), and one row with the same bits.
 *
 *   8 and 4 bit   C [R][16] = x s8 [R][32] * levels s8 [32][16]    tdpbssd, exact in int32
 *                 acc += float(C) * d_x * d_w [ + sum_x * m_w ]    as project_avx512_vnni.c does it
 *   bf16          C [R][16] += x [R][32] * w [32][16]              tdpbf16ps, sums stay in tiles
 *
 * Integer sums are exact, so steps of few rows, which the kernels of project_avx512_vnni.c serve,
 * get the same bits.  For bf16 the unit adds, per 32 k, the 16 even products in one chain of fused
 * multiply-adds, the 16 odd ones in another, and then both to C, denormals taken as zero; the tile
 * kernel here does the same with vectors.  (vdpbf16ps would not, and takes longer on Xeons.)
 *
 * A panel is made ready once per group of rows: levels become signed bytes, scales become f32.
 *
 *   ready group of 32 k:   s8 [8 quads][16][4] | f32 scale [16]               [| f32 minimum [16]]
 *   K6, half a group:      s8 [4 quads][16][4] | f32 scale [16]
 *
 * A bf16 panel is a stack of B tiles as it lies.
 *
 * What bounds it, per 16 x 16 x 32: the unit 16 cycles; storing a tile, 17, which hardly overlaps
 * with the next product; 48 vector operations behind it, 24 (8 and 4 bit only).
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/project.h"

#if defined(__AMX_INT8__) && defined(__AMX_BF16__)

    #include "backend/cpu/levels.h"
    #include "backend/cpu/tiles.h"
    #include "base/compiler.h"

    #include <immintrin.h>

enum {
    G = PACK_GROUP,
    MOST_ROWS = 16, /* of a tile */
    LINE = 64,      /* bytes of a row of a B or C tile */
    CHUNK = 1024,   /* k of a call */
};

enum { /* rows of a step from which making panels ready pays, by format */
       LEAST_BF16 = 8,
       LEAST_Q4 = 12,
       LEAST_Q4M = 12,
       LEAST_K4 = 12,
       LEAST_Q8 = 16,
       LEAST_Q8M = 16,
       LEAST_K5 = 16,
       LEAST_K6 = 64,
};

typedef struct tile_config { /* the operand of ldtilecfg */
    uint8_t palette, start, zeros[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* The tables are constants because GCC 12 drops stores to a configuration on the stack. */
    #define ROWS_1_TO_16(X)                                                                      \
        X(1), X(2), X(3), X(4), X(5), X(6), X(7), X(8), X(9), X(10), X(11), X(12), X(13), X(14), \
            X(15), X(16)

/* 8 and 4 bit: tile 0 is C; 1 and 2 are A and B of a group, 3 and 4 of half a group. */
    #define LEVELS_CONFIG(R)                                                           \
        {                                                                              \
            .palette = 1, .row_bytes = {64, 32, 64, 16, 64}, .rows = { R, R, 8, R, 4 } \
        }
/* bf16: tiles 0 to 3 are C, 4 and 5 A, 6 and 7 B. */
    #define BF16_CONFIG(R)                                               \
        {                                                                \
            .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, \
            .rows = {R, R, R, R, R, R, 16, 16},                          \
        }

static _Alignas(64) const tile_config levels_configs[] = {ROWS_1_TO_16(LEVELS_CONFIG)};
static _Alignas(64) const tile_config bf16_configs[] = {ROWS_1_TO_16(BF16_CONFIG)};

static void begin_levels(int rows) {
    assert(rows >= 1 && rows <= MOST_ROWS);
    _tile_loadconfig(&levels_configs[rows - 1]);
}

static void begin_bf16(int rows) {
    assert(rows >= 2 && rows <= 2 * MOST_ROWS && rows % 2 == 0);
    _tile_loadconfig(&bf16_configs[rows / 2 - 1]);
}

static void end(void) {
    _tile_release();
}

/* ---- what later calls read */

typedef struct asking { /* both regions of a call, spread over its steps */
    const char *at[2], *end[2];
    size_t bytes[2]; /* of a step */
} asking;

WEIR_INLINE asking start_asking(const wide_tile *t, int steps) {
    asking a;
    for (int i = 0; i < 2; i++) {
        a.at[i] = t->ask[i].at;
        a.end[i] = a.at[i] + t->ask[i].bytes;
        a.bytes[i] = (t->ask[i].bytes / (size_t)steps / LINE + 1) * LINE;
    }
    return a;
}

WEIR_INLINE void ask_more(asking *a) {
    for (int i = 0; i < 2; i++) {
        if (a->at[i] >= a->end[i]) continue;
        for (size_t b = 0; b < a->bytes[i]; b += LINE) _mm_prefetch(a->at[i] + b, _MM_HINT_T1);
        a->at[i] += a->bytes[i];
    }
}

/* ---- 8 and 4 bit: panels made ready */

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

/* Bytes of a ready group. */
WEIR_INLINE int ready_bytes(const levels f) {
    return LEVELS_QUADS * LINE + LINE + (f.has_min || f.has_halves ? LINE : 0);
}

/* Levels of a group, signed, to where B tiles will be. */
WEIR_INLINE void ready_levels(const levels f, const char *units, char *out) {
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i offset = _mm512_set1_epi8((char)(f.has_min      ? 0
                                                   : f.has_halves ? 32
                                                   : f.bits == 8  ? -128
                                                                  : 8));
    WEIR_UNROLL for (int quad = 0; quad < LEVELS_QUADS; quad++) {
        const int unit = f.bits == 8 ? quad : quad % 4;
        __m512i q = _mm512_load_si512(units + unit * LEVELS_UNIT);
        if (f.bits == 4) q = _mm512_and_si512(quad < 4 ? q : _mm512_srli_epi16(q, 4), low);
        if (!f.has_min) q = _mm512_sub_epi8(q, offset);
        /* halves of K6 are tiles of their own, each before its scale */
        const int line = f.has_halves && quad >= LEVELS_QUADS / 2 ? quad + 1 : quad;
        _mm512_store_si512(out + line * LINE, q);
    }
}

WEIR_INLINE void ready_scales(const levels f, const char *block, int g, char *out) {
    const char *plain = block + (f.bits == 8 ? LEVELS_D8 : LEVELS_D4) + g * 32;
    float *scale = (float *)(void *)(out + LEVELS_QUADS * LINE);
    if (f.has_halves) {
        const __m512 d = load_f16(block);
        float *first = (float *)(void *)(out + LEVELS_QUADS / 2 * LINE);
        float *second = (float *)(void *)(out + (LEVELS_QUADS + 1) * LINE);
        _mm512_store_ps(first, _mm512_mul_ps(d, load_s8(block + LEVELS_SC + 2 * g * 16)));
        _mm512_store_ps(second, _mm512_mul_ps(d, load_s8(block + LEVELS_SC + (2 * g + 1) * 16)));
    } else if (f.is_k) {
        const __m512 dmin = _mm512_sub_ps(_mm512_setzero_ps(), load_f16(block + LEVELS_DMIN));
        _mm512_store_ps(scale, _mm512_mul_ps(load_f16(block), load_u8(block + LEVELS_SC + g * 16)));
        _mm512_store_ps(scale + 16, _mm512_mul_ps(dmin, load_u8(block + LEVELS_MN + g * 16)));
    } else {
        _mm512_store_ps(scale, load_f16(plain));
        if (f.has_min) _mm512_store_ps(scale + 16, load_f16(plain + 64));
    }
}

WEIR_INLINE void ready_panel(const levels f, const char *panel, int depth, char *out) {
    for (int g = 0; g < depth / G; g++, out += ready_bytes(f)) {
        const char *block = panel + (size_t)(g / f.per_block) * (size_t)f.block_bytes;
        const int in_block = g % f.per_block;
        ready_levels(f, block + f.first + in_block * (f.bits == 8 ? 512 : 256), out);
        ready_scales(f, block, in_block, out);
    }
}

/* ---- 8 and 4 bit: products */

/* One C tile of `rows` rows into c: a group, or half of one. */
WEIR_INLINE void multiply_tile(bool is_half, const char *x, size_t stride, const char *w,
                               int32_t *c) {
    _tile_zero(0);
    if (is_half) {
        _tile_loadd(3, x, stride);
        _tile_loadd(4, w, LINE);
        _tile_dpbssd(0, 3, 4);
    } else {
        _tile_loadd(1, x, stride);
        _tile_loadd(2, w, LINE);
        _tile_dpbssd(0, 1, 2);
    }
    _tile_stored(0, c, LINE);
}

/* The i-th tile of a panel: a group, or half of one for K6. */
WEIR_INLINE const char *tile_at(const levels f, const char *w, int i) {
    if (!f.has_halves) return w + (size_t)i * (size_t)ready_bytes(f);
    return w + (size_t)i * (LEVELS_QUADS / 2 + 1) * LINE;
}

/* acc += C * d_x * d_w [+ sum_x * m_w] of a tile. */
WEIR_INLINE void add_tile(const levels f, const int32_t *c, const char *tile, const float *d,
                          const float *sum, const int rows, __m512 *acc) {
    const int lines = f.has_halves ? LEVELS_QUADS / 2 : LEVELS_QUADS;
    const float *scales = (const float *)(const void *)(tile + lines * LINE);
    const __m512 scale = _mm512_load_ps(scales);
    const __m512 min = f.has_min ? _mm512_load_ps(scales + 16) : _mm512_setzero_ps();
    WEIR_UNROLL for (int r = 0; r < rows; r++) {
        const __m512 v = _mm512_cvtepi32_ps(_mm512_load_si512(c + r * 16));
        acc[r] = _mm512_fmadd_ps(_mm512_mul_ps(v, _mm512_set1_ps(d[r])), scale, acc[r]);
        if (f.has_min) acc[r] = _mm512_fmadd_ps(_mm512_set1_ps(sum[r]), min, acc[r]);
    }
}

/* Tiles are multiplied AHEAD_TILES before they are added: the unit takes that long. */
WEIR_INLINE void levels_tile(const levels f, const wide_tile *t, const int rows) {
    enum { AHEAD_TILES = 2, RING = 4 };
    const wide_parts at = wide_parts_of(INPUT_INT8, t->depth, rows);
    const float *d = (const float *)(const void *)(t->x + at.d);
    const float *sum = (const float *)(const void *)(t->x + at.sum);
    const int halves = f.has_halves ? 2 : 1, span = G / halves;
    const int first = t->from / span, last = t->to / span;
    _Alignas(64) int32_t c[RING][MOST_ROWS * 16];
    __m512 acc[MOST_ROWS];
    for (int i = first; i < first + AHEAD_TILES && i < last; i++) {
        multiply_tile(f.has_halves, t->x + i * span, at.stride, tile_at(f, t->w, i), c[i % RING]);
    }
    WEIR_UNROLL for (int r = 0; r < rows; r++) {
        acc[r] = t->from ? _mm512_loadu_ps(t->out + r * PACK_ROWS) : _mm512_setzero_ps();
    }
    asking ask = start_asking(t, last - first);
    for (int i = first; i < last; i++) {
        const int next = i + AHEAD_TILES;
        ask_more(&ask);
        if (next < last) {
            multiply_tile(f.has_halves, t->x + next * span, at.stride, tile_at(f, t->w, next),
                          c[next % RING]);
        }
        const int row = i / halves * rows;
        add_tile(f, c[i % RING], tile_at(f, t->w, i), d + row, sum + row, rows, acc);
    }
    WEIR_UNROLL for (int r = 0; r < rows; r++) _mm512_storeu_ps(t->out + r * PACK_ROWS, acc[r]);
}

    #define ROWS_CASE(rows)      \
    case rows:                   \
        levels_tile(f, t, rows); \
        break;
    #define WIDE(FORMAT, name, ...)                                         \
        static size_t bytes_##name(int depth) {                             \
            const levels f = {__VA_ARGS__};                                 \
            return (size_t)(depth / G) * (size_t)ready_bytes(f);            \
        }                                                                   \
        static void ready_##name(const char *panel, int depth, char *out) { \
            ready_panel((levels){__VA_ARGS__}, panel, depth, out);          \
        }                                                                   \
        static void wide_##name(const wide_tile *t, int rows, int panels) { \
            const levels f = {__VA_ARGS__};                                 \
            assert(panels == 1);                                            \
            (void)panels;                                                   \
            switch (rows) {                                                 \
                ROWS_CASES                                                  \
            default: assert(!"no kernel for this tile"); break;             \
            }                                                               \
        }
    #define ROWS_CASES \
        ROWS_CASE(1)   \
        ROWS_CASE(2)   \
        ROWS_CASE(3)   \
        ROWS_CASE(4)   \
        ROWS_CASE(5)   \
        ROWS_CASE(6)   \
        ROWS_CASE(7)   \
        ROWS_CASE(8)   \
        ROWS_CASE(9)   \
        ROWS_CASE(10)  \
        ROWS_CASE(11)  \
        ROWS_CASE(12)  \
        ROWS_CASE(13)  \
        ROWS_CASE(14)  \
        ROWS_CASE(15)  \
        ROWS_CASE(16)
    #define WIDE_ENTRY(FORMAT, name, ...)              \
        [PACK_##FORMAT] = {.run = wide_##name,         \
                           .rows = MOST_ROWS,          \
                           .panels = 1,                \
                           .at_least = LEAST_##FORMAT, \
                           .chunk = CHUNK,             \
                           .bytes = bytes_##name,      \
                           .ready = ready_##name,      \
                           .begin = begin_levels,      \
                           .end = end},

LEVELS_MAP(WIDE)

/* ---- bf16 */

/* Two A tiles of half the rows each, one or two panels. */
WEIR_INLINE void bf16_tile(const wide_tile *t, int rows, const int panels) {
    const wide_parts at = wide_parts_of(INPUT_BF16, t->depth, rows);
    const size_t half = (size_t)(rows / 2), out_line = (size_t)panels * LINE;
    char *const out = (char *)t->out, *const below = out + half * out_line;
    const char *x = t->x, *x_below = x + half * at.stride, *w = t->w;
    if (t->from) {
        _tile_loadd(0, out, out_line);
        _tile_loadd(2, below, out_line);
        if (panels == 2) _tile_loadd(1, out + LINE, out_line);
        if (panels == 2) _tile_loadd(3, below + LINE, out_line);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    asking ask = start_asking(t, (t->to - t->from) / G);
    for (int k = t->from; k < t->to; k += G) {
        ask_more(&ask);
        _tile_loadd(6, w + (size_t)k * 32, LINE);
        if (panels == 2) _tile_loadd(7, w + t->panel_bytes + (size_t)k * 32, LINE);
        _tile_loadd(4, x + (size_t)k * 2, at.stride);
        _tile_dpbf16ps(0, 4, 6);
        if (panels == 2) _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, x_below + (size_t)k * 2, at.stride);
        _tile_dpbf16ps(2, 5, 6);
        if (panels == 2) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, out, out_line);
    _tile_stored(2, below, out_line);
    if (panels == 2) _tile_stored(1, out + LINE, out_line);
    if (panels == 2) _tile_stored(3, below + LINE, out_line);
}

static void wide_bf16(const wide_tile *t, int rows, int panels) {
    if (panels == 2) {
        bf16_tile(t, rows, 2);
    } else {
        bf16_tile(t, rows, 1);
    }
}

enum {
    FEW_ROWS = 8, /* a step of so many waits for memory ...                              */
    AHEAD = 3072, /* ... and asks for lines so far ahead, past the 4 KiB hardware stops at */
    MXCSR_NO_DENORMALS = 0x8040,
};

/* The sums of the tile unit in vectors: 32 k at a time, even and odd products apart. */
WEIR_INLINE void bf16_vectors(const project_tile *t, const int rows, const int panels) {
    const int32_t *x = (const int32_t *)(const void *)t->x;
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    for (int from = 0; from < t->k; from += G) {
        __m512 even[PROJECT_PANELS * PROJECT_ROWS], odd[PROJECT_PANELS * PROJECT_ROWS];
        WEIR_UNROLL for (int i = 0; i < panels * rows; i++) even[i] = odd[i] = _mm512_setzero_ps();
        for (int k = from; k < MIN_OF(from + G, t->k); k += 2) {
            const int32_t *pairs = x + (size_t)(k / 2) * (size_t)rows;
            WEIR_UNROLL for (int p = 0; p < panels; p++) {
                const char *line = t->w + (size_t)p * t->panel_bytes + (size_t)k * 32;
                if (rows <= FEW_ROWS) _mm_prefetch(line + AHEAD, _MM_HINT_T0);
                const __m512i w = _mm512_load_si512(line);
                const __m512 w0 = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
                const __m512 w1 = _mm512_castsi512_ps(_mm512_and_si512(w, high));
                WEIR_UNROLL for (int r = 0; r < rows; r++) {
                    const __m512i pair = _mm512_set1_epi32(pairs[r]);
                    const __m512 x0 = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
                    const __m512 x1 = _mm512_castsi512_ps(_mm512_and_si512(pair, high));
                    even[r * panels + p] = _mm512_fmadd_ps(w0, x0, even[r * panels + p]);
                    odd[r * panels + p] = _mm512_fmadd_ps(w1, x1, odd[r * panels + p]);
                }
            }
        }
        WEIR_UNROLL for (int i = 0; i < panels * rows; i++) {
            float *out = t->out + i * PACK_ROWS;
            const __m512 sum = _mm512_add_ps(even[i], odd[i]);
            const __m512 before = from ? _mm512_loadu_ps(out) : _mm512_setzero_ps();
            _mm512_storeu_ps(out, _mm512_add_ps(before, sum));
        }
    }
}

    #define TILE_BF16(rows, panels) bf16_vectors(t, rows, panels)

static void run_bf16(const project_tile *t, int rows, int panels) {
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | MXCSR_NO_DENORMALS);
    TILES_NARROW(TILE_BF16)
    _mm_setcsr(before);
}

const project_table cpu_amx_table = {
    .kernels = {[PACK_BF16] = {run_bf16, INPUT_BF16, 1, 1, 1}},
    .wides = {LEVELS_MAP(WIDE_ENTRY)[PACK_BF16] = {.run = wide_bf16,
                                                   .rows = 2 * MOST_ROWS,
                                                   .panels = 2,
                                                   .at_least = LEAST_BF16,
                                                   .chunk = CHUNK,
                                                   .begin = begin_bf16,
                                                   .end = end}},
};

#else

const project_table cpu_amx_table; /* built for another processor: offers nothing */

#endif
