/* pack.c - stored rows to panels and back; pack.h draws the blocks.
 *
 * A block is filled lane by lane: the stored block of one row is taken apart into levels and
 * scales, and these are put into the row's lane.  GGML's stored blocks are drawn in
 * format/quant.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/pack.h"

#include "base/arena.h"
#include "base/compiler.h"
#include "base/half.h"

#include <assert.h>
#include <string.h>

enum {
    G = PACK_GROUP,
    SUPER = 256,                      /* weights of a K block                     */
    LANE = 4,                         /* bytes of a quad                          */
    UNIT = PACK_ROWS * LANE,          /* bytes of one quad of all rows            */
    D8 = 16 * UNIT,                   /* scales behind the levels of a Q8 block   */
    D4 = 8 * UNIT,                    /* ... of a Q4 block                        */
    K_SC = 64,                        /* scales behind d and dmin of a K block    */
    K_MN = K_SC + 8 * PACK_ROWS,      /* minima                                   */
    K_LEVELS = K_SC + 16 * PACK_ROWS, /* levels                                   */
};

static const struct {
    const char *name;
    int span;     /* k per block */
    size_t bytes; /* per block   */
} formats[PACK_N_FORMATS] = {
    [PACK_F32] = {"f32", 1, 64},
    [PACK_F16] = {"f16", 1, 32},
    [PACK_BF16] = {"bf16", 2, 64},
    [PACK_Q8] = {"q8", 2 * G, D8 + 64},
    [PACK_Q8M] = {"q8 with minima", 2 * G, D8 + 128},
    [PACK_Q4] = {"q4", 2 * G, D4 + 64},
    [PACK_Q4M] = {"q4 with minima", 2 * G, D4 + 128},
    [PACK_K4] = {"q4_K", SUPER, K_LEVELS + 4 * D4},
    [PACK_K5] = {"q5_K", SUPER, K_LEVELS + 4 * D8},
    [PACK_K6] = {"q6_K", SUPER, K_LEVELS + 4 * D8},
};

pack_format pack_format_of(tensor_type type) {
    static const pack_format table[TENSOR_N_TYPES] = {
        [TENSOR_F32] = PACK_F32,   [TENSOR_F16] = PACK_F16,
        [TENSOR_BF16] = PACK_BF16, [TENSOR_Q8_0] = PACK_Q8,
        [TENSOR_Q4_0] = PACK_Q4,   [TENSOR_Q4_1] = PACK_Q4M,
        [TENSOR_Q5_0] = PACK_Q8,   [TENSOR_Q5_1] = PACK_Q8M,
        [TENSOR_Q4_K] = PACK_K4,   [TENSOR_Q5_K] = PACK_K5,
        [TENSOR_Q6_K] = PACK_K6,   [TENSOR_FP8] = PACK_F16, /* once scaled: matrix.c */
    };
    assert(type < TENSOR_N_TYPES);
    return table[type];
}

const char *pack_format_name(pack_format format) {
    assert(format < PACK_N_FORMATS);
    return formats[format].name;
}

int pack_depth(pack_format format, int cols) {
    const int span = formats[format].span;
    assert(cols > 0 && cols <= INT32_MAX - span);
    return (cols + span - 1) / span * span;
}

size_t pack_panel_bytes(pack_format format, int cols) {
    const size_t blocks = (size_t)(pack_depth(format, cols) / formats[format].span);
    return (blocks * formats[format].bytes + 63) / 64 * 64;
}

static uint16_t load_u16(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return h;
}

static void store_u16(char *p, uint16_t h) {
    memcpy(p, &h, 2);
}

static float load_f16(const char *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return f16_to_float(h);
}

/* ---- 16 and 32 bit: words of one row, PACK_ROWS apart */

static void pack_words(const void *const *rows, int n_rows, int n, char *panel) {
    enum { STRIP = 64 }; /* so that a strip of the panel stays in the nearest cache */
    for (int from = 0; from < n; from += STRIP) {
        const int to = MIN_OF(from + STRIP, n);
        for (int lane = 0; lane < n_rows; lane++) {
            const char *row = rows[lane];
            for (int i = from; i < to; i++) {
                memcpy(panel + (size_t)(i * PACK_ROWS + lane) * 4, row + (size_t)i * 4, 4);
            }
        }
    }
}

static void pack_halves(const void *const *rows, int n_rows, int n, char *panel) {
    enum { STRIP = 128 };
    for (int from = 0; from < n; from += STRIP) {
        const int to = MIN_OF(from + STRIP, n);
        for (int lane = 0; lane < n_rows; lane++) {
            const char *row = rows[lane];
            for (int k = from; k < to; k++) {
                memcpy(panel + (size_t)(k * PACK_ROWS + lane) * 2, row + (size_t)k * 2, 2);
            }
        }
    }
}

/* Two at a time; the last of an odd number is the first of its pair. */
static void pack_pairs(const void *const *rows, int n_rows, int n, char *panel) {
    pack_words(rows, n_rows, n / 2, panel);
    for (int lane = 0; lane < n_rows && n % 2; lane++) {
        const char *last = (const char *)rows[lane] + (size_t)(n - 1) * 2;
        memcpy(panel + (size_t)(n / 2 * PACK_ROWS + lane) * 4, last, 2);
    }
}

/* ---- groups of 32 */

typedef struct group { /* 32 weights of one row */
    uint8_t levels[G];
    uint16_t d, m; /* f16 */
} group;

static int five_bits(const uint8_t *nibbles, uint32_t fifth, int i) {
    const int low = i < G / 2 ? nibbles[i] & 15 : nibbles[i - G / 2] >> 4;
    return low | (int)(fifth >> i & 1) << 4;
}

/* Levels are what the panel's format holds: Q8 keeps its values plus 128. */
static void take_group(tensor_type type, const uint8_t *p, group *out) {
    const bool has_min = type == TENSOR_Q4_1 || type == TENSOR_Q5_1;
    out->d = load_u16(p);
    out->m = has_min ? load_u16(p + 2) : 0;
    p += has_min ? 4 : 2;
    if (type == TENSOR_Q8_0) {
        for (int i = 0; i < G; i++) out->levels[i] = p[i] ^ 0x80;
    } else if (type == TENSOR_Q4_0 || type == TENSOR_Q4_1) {
        for (int i = 0; i < G / 2; i++) {
            out->levels[i] = p[i] & 15;
            out->levels[i + G / 2] = p[i] >> 4;
        }
    } else {
        const int shift = type == TENSOR_Q5_0 ? 128 - 16 : 0;
        const uint32_t fifth = (uint32_t)load_u16(p) | (uint32_t)load_u16(p + 2) << 16;
        for (int i = 0; i < G; i++) out->levels[i] = (uint8_t)(five_bits(p + 4, fifth, i) + shift);
    }
}

/* Puts 32 levels into a lane: as bytes, quad after quad, or as nibbles. */
static void put_levels(bool is_nibbles, const uint8_t *levels, int lane, char *units) {
    units += lane * LANE;
    if (!is_nibbles) {
        for (int quad = 0; quad < G / 4; quad++) memcpy(units + quad * UNIT, levels + quad * 4, 4);
        return;
    }
    uint8_t bytes[G / 2];
    for (int i = 0; i < G / 2; i++) bytes[i] = (uint8_t)(levels[i] | levels[i + G / 2] << 4);
    for (int quad = 0; quad < G / 8; quad++) memcpy(units + quad * UNIT, bytes + quad * 4, 4);
}

static void take_levels(bool is_nibbles, const char *units, int lane, uint8_t *levels) {
    units += lane * LANE;
    for (int i = 0; i < G; i++) {
        if (is_nibbles) {
            const int j = i % (G / 2);
            const uint8_t byte = (uint8_t)units[j / 4 * UNIT + j % 4];
            levels[i] = i < G / 2 ? byte & 15 : byte >> 4;
        } else {
            levels[i] = (uint8_t)units[i / 4 * UNIT + i % 4];
        }
    }
}

static bool has_nibbles(pack_format format) {
    return format == PACK_Q4 || format == PACK_Q4M || format == PACK_K4;
}

static bool has_minima(pack_format format) {
    return format == PACK_Q8M || format == PACK_Q4M;
}

/* Where the levels of group g lie in a panel, and d of one lane (m: 64 bytes on). */
static size_t units_at(pack_format format, int g) {
    return (size_t)(g / 2) * formats[format].bytes +
           (size_t)(g % 2) * (has_nibbles(format) ? D4 : D8) / 2;
}

static size_t scale_at(pack_format format, int g, int lane) {
    return (size_t)(g / 2) * formats[format].bytes + (has_nibbles(format) ? D4 : D8) +
           (size_t)(g % 2 * PACK_ROWS + lane) * 2;
}

static void pack_groups(tensor_type type, const void *const *rows, int n_rows, int cols,
                        char *panel) {
    const pack_format format = pack_format_of(type);
    const size_t bytes = tensor_type_block_bytes(type);
    for (int g = 0; g < cols / G; g++) {
        for (int lane = 0; lane < n_rows; lane++) {
            group one;
            take_group(type, (const uint8_t *)rows[lane] + (size_t)g * bytes, &one);
            put_levels(has_nibbles(format), one.levels, lane, panel + units_at(format, g));
            char *scale = panel + scale_at(format, g, lane);
            store_u16(scale, one.d);
            if (has_minima(format)) store_u16(scale + 64, one.m);
        }
    }
}

/* ---- super blocks of 256 */

typedef struct super { /* 256 weights of one row */
    uint8_t levels[SUPER];
    uint8_t scales[16], minima[8]; /* K6: 16 signed scales; K4, K5: 8 of each */
    uint16_t d, dmin;
} super;

/* The 6-bit scales and minima of Q4_K and Q5_K, packed into 12 bytes. */
static void take_scales(const uint8_t *s, super *out) {
    for (int g = 0; g < 4; g++) {
        out->scales[g] = s[g] & 63;
        out->minima[g] = s[g + 4] & 63;
        out->scales[g + 4] = (uint8_t)((s[g + 8] & 15) | s[g] >> 6 << 4);
        out->minima[g + 4] = (uint8_t)(s[g + 8] >> 4 | s[g + 4] >> 6 << 4);
    }
}

static void take_super(tensor_type type, const uint8_t *p, super *out) {
    if (type == TENSOR_Q6_K) {
        for (int g = 0; g < SUPER / G; g++) {
            const uint8_t *low = p + 64 * (g / 4) + 32 * (g % 2), *top = p + 128 + 32 * (g / 4);
            const int k = g % 4;
            for (int j = 0; j < G; j++) {
                out->levels[g * G + j] =
                    (uint8_t)((low[j] >> 4 * (k / 2) & 15) | (top[j] >> 2 * k & 3) << 4);
            }
        }
        memcpy(out->scales, p + 192, 16);
        out->d = load_u16(p + 208);
        out->dmin = 0;
        return;
    }
    const uint8_t *fifth = p + 16, *nibbles = type == TENSOR_Q5_K ? p + 48 : p + 16;
    out->d = load_u16(p);
    out->dmin = load_u16(p + 2);
    take_scales(p + 4, out);
    for (int g = 0; g < SUPER / G; g++) {
        uint8_t *levels = out->levels + g * G;
        const uint8_t *low = nibbles + 32 * (g / 2);
        const int shift = 4 * (g % 2);
        for (int j = 0; j < G; j++) levels[j] = low[j] >> shift & 15;
        if (type != TENSOR_Q5_K) continue;
        for (int j = 0; j < G; j++) levels[j] |= (uint8_t)((fifth[j] >> g & 1) << 4);
    }
}

/* Where the levels of group g lie in a K block. */
static size_t super_units_at(pack_format format, int g) {
    return K_LEVELS + (size_t)g * (has_nibbles(format) ? D4 : D8) / 2;
}

static void pack_supers(tensor_type type, const void *const *rows, int n_rows, int cols,
                        char *panel) {
    const pack_format format = pack_format_of(type);
    const size_t bytes = tensor_type_block_bytes(type);
    for (int b = 0; b < cols / SUPER; b++) {
        char *block = panel + (size_t)b * formats[format].bytes;
        for (int lane = 0; lane < n_rows; lane++) {
            super one = {0};
            take_super(type, (const uint8_t *)rows[lane] + (size_t)b * bytes, &one);
            store_u16(block + lane * 2, one.d);
            if (format == PACK_K6) {
                for (int i = 0; i < 16; i++) block[K_SC + i * 16 + lane] = (char)one.scales[i];
            } else {
                store_u16(block + 32 + lane * 2, one.dmin);
                for (int i = 0; i < 8; i++) block[K_SC + i * 16 + lane] = (char)one.scales[i];
                for (int i = 0; i < 8; i++) block[K_MN + i * 16 + lane] = (char)one.minima[i];
            }
            for (int g = 0; g < SUPER / G; g++) {
                put_levels(has_nibbles(format), one.levels + g * G, lane,
                           block + super_units_at(format, g));
            }
        }
    }
}

void pack_panel(tensor_type type, const void *const rows[PACK_ROWS], int n_rows, int cols,
                char *panel) {
    assert(n_rows > 0 && n_rows <= PACK_ROWS && cols % tensor_type_block(type) == 0);
    assert(type != TENSOR_FP8);
    const pack_format format = pack_format_of(type);
    memset(panel, 0, pack_panel_bytes(format, cols));
    if (format == PACK_F32) {
        pack_words(rows, n_rows, cols, panel);
    } else if (format == PACK_F16) {
        pack_halves(rows, n_rows, cols, panel);
    } else if (format == PACK_BF16) {
        pack_pairs(rows, n_rows, cols, panel);
    } else if (formats[format].span == SUPER) {
        pack_supers(type, rows, n_rows, cols, panel);
    } else {
        pack_groups(type, rows, n_rows, cols, panel);
    }
}

/* ---- back to floats */

static void read_groups(pack_format format, const char *panel, int lane, int cols, float *out) {
    const int shift = format == PACK_Q8 ? 128 : format == PACK_Q4 ? 8 : 0;
    for (int g = 0; g < cols / G; g++) {
        uint8_t levels[G];
        take_levels(has_nibbles(format), panel + units_at(format, g), lane, levels);
        const char *scale = panel + scale_at(format, g, lane);
        const float d = load_f16(scale);
        for (int i = 0; i < G; i++) *out++ = d * (float)(levels[i] - shift);
        if (!has_minima(format)) continue;
        const float m = load_f16(scale + 64);
        for (int i = -G; i < 0; i++) out[i] += m;
    }
}

/* A group of a K block to floats, in the order of operations of format/quant.c. */
static void read_super_group(pack_format format, const char *block, int g, int lane, float *out) {
    uint8_t levels[G];
    take_levels(has_nibbles(format), block + super_units_at(format, g), lane, levels);
    const float d = load_f16(block + lane * 2);
    if (format == PACK_K6) {
        for (int i = 0; i < G; i++) {
            const int8_t scale = (int8_t)block[K_SC + (2 * g + i / 16) * 16 + lane];
            out[i] = d * (float)scale * (float)(levels[i] - 32);
        }
        return;
    }
    const float scale = d * (float)(uint8_t)block[K_SC + g * 16 + lane];
    const float min = load_f16(block + 32 + lane * 2) * (float)(uint8_t)block[K_MN + g * 16 + lane];
    for (int i = 0; i < G; i++) out[i] = scale * (float)levels[i] - min;
}

void pack_panel_row(pack_format format, const char *panel, int lane, int cols, float *out) {
    assert(lane >= 0 && lane < PACK_ROWS);
    const int span = formats[format].span;
    if (format == PACK_F32) {
        for (int k = 0; k < cols; k++) memcpy(out + k, panel + (k * PACK_ROWS + lane) * 4, 4);
    } else if (format == PACK_F16) {
        for (int k = 0; k < cols; k++) out[k] = load_f16(panel + (k * PACK_ROWS + lane) * 2);
    } else if (format == PACK_BF16) {
        for (int k = 0; k < cols; k++) {
            const char *p = panel + (k / 2 * PACK_ROWS + lane) * 4 + k % 2 * 2;
            out[k] = bf16_to_float(load_u16((const uint8_t *)p));
        }
    } else if (span == SUPER) {
        for (int g = 0; g < cols / G; g++) {
            const char *block = panel + (size_t)(g / 8) * formats[format].bytes;
            read_super_group(format, block, g % 8, lane, out + g * G);
        }
    } else {
        read_groups(format, panel, lane, cols, out);
    }
}
