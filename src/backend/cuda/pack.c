/* pack.c - panels to tiles.
 *
 * Test: tests/backend/test_cuda.c (a packed weight is read back as it was stored).
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/pack.h"

#include "base/compiler.h"

#include <assert.h>
#include <string.h>

enum { UNIT = 512, WORDS = 128, K_LEVELS = 320 };

_Static_assert((int)CUDA_K6 == (int)PACK_K6 && (int)CUDA_F32 == (int)PACK_F32 &&
                   (int)CUDA_Q4M == (int)PACK_Q4M && (int)CUDA_FP8 == (int)PACK_N_FORMATS &&
                   (int)CUDA_TILE == (int)PACK_ROWS,
               "formats of stage.h and pack.h");

static const struct {
    int span, bytes; /* k and bytes of a block */
    int units;       /* of levels in it */
    int levels;      /* where they begin */
} blocks[CUDA_N_FORMATS] = {
    [PACK_F32] = {16, 1024, 0, 0},
    [PACK_F16] = {16, UNIT, 1, 0},
    [PACK_BF16] = {16, UNIT, 1, 0},
    [PACK_Q8] = {64, 2 * UNIT + 64, 2, 0},
    [PACK_Q8M] = {64, 2 * UNIT + 128, 2, 0},
    [PACK_Q4] = {64, UNIT + 64, 1, 0},
    [PACK_Q4M] = {64, UNIT + 128, 1, 0},
    [PACK_K4] = {256, K_LEVELS + 4 * UNIT, 4, K_LEVELS},
    [PACK_K5] = {256, K_LEVELS + 8 * UNIT, 8, K_LEVELS},
    [PACK_K6] = {256, K_LEVELS + 8 * UNIT, 8, K_LEVELS},
    [CUDA_FP8] = {CUDA_FP8_SPAN, 2 * UNIT + 64, 2, 0},
};

cuda_format cuda_format_of(tensor_type type) {
    return type == TENSOR_FP8 ? CUDA_FP8 : (cuda_format)pack_format_of(type);
}

const char *cuda_format_name(cuda_format format) {
    return format == CUDA_FP8 ? "fp8" : pack_format_name((pack_format)format);
}

size_t cuda_pack_row_bytes(tensor_type type, int cols) {
    if (type != TENSOR_FP8) return tensor_row_bytes(type, cols);
    return ((size_t)(cols - 1) / CUDA_FP8_SPAN + 1) * CUDA_FP8_BYTES;
}

void cuda_shape(cuda_matrix *out, cuda_format format, int rows, int cols) {
    assert(format < CUDA_N_FORMATS && rows > 0 && cols > 0);
    out->format = (int)format;
    out->rows = rows;
    out->cols = cols;
    out->block_span = blocks[format].span;
    out->block_bytes = blocks[format].bytes;
    out->n_tiles = (rows - 1) / CUDA_TILE + 1;
    out->n_blocks = (cols - 1) / blocks[format].span + 1;
    out->tile_bytes = (cuda_address)out->n_blocks * (cuda_address)blocks[format].bytes;
}

/* Word of a panel's unit for word w of lane l: rows l / 4 and + 8, c = l % 4. */
static int word_of_levels(int l, int w) {
    return (w / 2 * 4 + l % 4) * CUDA_TILE + l / 4 + 8 * (w % 2);
}

static void order_levels(const uint32_t *from, uint32_t *to, bool is_nibbles) {
    for (int l = 0; l < 32; l++) {
        for (int w = 0; w < 4; w++) {
            const uint32_t x = from[word_of_levels(l, w)];
            const uint32_t middle = (x & 0xff00u) << 8 | (x >> 8 & 0xff00u);
            to[l * 4 + w] = is_nibbles ? (x & 0xff0000ffu) | middle : x;
        }
    }
}

/* bf16 [8 pairs of k][16 rows][2]. */
static void order_pairs(const uint32_t *from, uint32_t *to) {
    for (int l = 0; l < 32; l++) {
        for (int w = 0; w < 4; w++) {
            to[l * 4 + w] = from[(2 * (l % 4) + w / 2) * CUDA_TILE + l / 4 + 8 * (w % 2)];
        }
    }
}

/* f16 [16 k][16 rows]. */
static void order_halves(const uint16_t *from, uint32_t *to) {
    for (int l = 0; l < 32; l++) {
        for (int w = 0; w < 4; w++) {
            const int k = 4 * (l % 4) + w / 2 * 2, row = l / 4 + 8 * (w % 2);
            to[l * 4 + w] = from[k * CUDA_TILE + row] | (uint32_t)from[(k + 1) * CUDA_TILE + row]
                                                            << 16;
        }
    }
}

static void order_unit(pack_format format, const void *from, void *to) {
    uint32_t in[WORDS], out[WORDS];
    memcpy(in, from, UNIT);
    switch (format) {
    case PACK_BF16: order_pairs(in, out); break;
    case PACK_F16: {
        uint16_t halves[2 * WORDS];
        memcpy(halves, from, UNIT);
        order_halves(halves, out);
        break;
    }
    case PACK_Q4:
    case PACK_Q4M:
    case PACK_K4: order_levels(in, out, true); break;
    case PACK_Q8:
    case PACK_Q8M:
    case PACK_K5:
    case PACK_K6: order_levels(in, out, false); break;
    case PACK_F32:
    case PACK_N_FORMATS: assert(0); return;
    }
    memcpy(to, out, UNIT);
}

/* Blocks of 64 e4m3 with a scale: bytes in the order of levels, then f32 d [16]. */
static void pack_fp8(const cuda_matrix *m, const void *const *rows, int n_rows, char *tile) {
    memset(tile, 0, (size_t)m->tile_bytes);
    for (int b = 0; b < m->n_blocks; b++, tile += m->block_bytes) {
        uint32_t words[2 * WORDS] = {0}, ordered[2 * WORDS]; /* [16 quads][16 rows] */
        for (int r = 0; r < n_rows; r++) {
            const char *from = (const char *)rows[r] + (size_t)b * CUDA_FP8_BYTES;
            memcpy(tile + 2 * UNIT + r * 4, from, 4);
            for (int quad = 0; quad < CUDA_FP8_SPAN / 4; quad++) {
                memcpy(&words[quad * CUDA_TILE + r], from + 4 + quad * 4, 4);
            }
        }
        for (int u = 0; u < 2; u++) order_levels(words + u * WORDS, ordered + u * WORDS, false);
        memcpy(tile, ordered, sizeof ordered);
    }
}

void cuda_pack_tile(const cuda_matrix *m, tensor_type type, const void *const rows[CUDA_TILE],
                    int n_rows, char *scratch, char *tile) {
    if (type == TENSOR_FP8) {
        pack_fp8(m, rows, n_rows, tile);
        return;
    }
    const pack_format format = (pack_format)m->format;
    const size_t panel = pack_panel_bytes(format, m->cols), all = (size_t)m->tile_bytes;
    assert(format == pack_format_of(type) && panel <= all);
    char *to = format == PACK_F32 ? tile : scratch;
    pack_panel(type, rows, n_rows, m->cols, to);
    memset(to + panel, 0, all - panel);
    if (format == PACK_F32) return;
    memcpy(tile, scratch, all); /* scales */
    for (int b = 0; b < m->n_blocks; b++) {
        const size_t at = (size_t)b * (size_t)m->block_bytes + (size_t)blocks[format].levels;
        for (int u = 0; u < blocks[format].units; u++) {
            order_unit(format, scratch + at + (size_t)u * UNIT, tile + at + (size_t)u * UNIT);
        }
    }
}
