/* pack.h - weights laid out for the vector kernels: panels of 16 output rows.
 *
 *   matrix [rows, cols] = panels one after the other; a panel is one stream of blocks along k:
 *
 *       block 0                      block 1 ...
 *       | row 0 k.. | row 1 k.. | ... | row 15 k.. |      a lane of 4 bytes per row (F16: 2 bytes)
 *
 * A vector register holds the 16 lanes of one k-unit, so every lane accumulates its own output and
 * no sum across lanes is ever needed.  Blocks by format (bytes; [16] means one per row):
 *
 *   format  k    block
 *   F32     1    f32 [16]                                                             64
 *   F16     1    f16 [16]                                                             32
 *   BF16    2    bf16 [16][2]                                                         64
 *   Q8      64   u8 [16 quads][16][4], f16 d [2][16]               d * (q - 128)     1088
 *   Q8M     64   the same, f16 d [2][16], f16 m [2][16]            d * q + m         1152
 *   Q4      64   nibbles [8][16][4], f16 d [2][16]                 d * (q - 8)        576
 *   Q4M     64   nibbles [8][16][4], f16 d [2][16], f16 m [2][16]  d * q + m          640
 *   K4      256  f16 d [16], f16 dmin [16], u8 sc [8][16], u8 mn [8][16],
 *                nibbles [4][8][16][4]                             d * sc * q - dmin * mn  2368
 *   K5      256  the same with u8 [4][16][16][4]                                     4416
 *   K6      256  f16 d [16], zeros [32], s8 sc [16][16], u8 [4][16][16][4]
 *                                                                  d * sc * (q - 32)  4416
 *
 * A quad is 4 consecutive k of one row, one byte each.  Nibbles of a group of 32: byte i of quad u
 * has weight 4u + i in its low half and weight 16 + 4u + i in its high half.  d and m above serve
 * groups of 32 weights; K6 has 16 weights per scale.
 *
 * Every stored type packs without loss: Q8_0 and Q5_0 to Q8, Q5_1 to Q8M, Q4_0 to Q4, Q4_1 to Q4M,
 * Q4_K, Q5_K, Q6_K to K4, K5, K6.  The last panel and the last block are filled with zeros that
 * contribute nothing.  The layout is the same on every processor.
 *
 * Test: tests/backend/test_project.c (a packed row is read back as the floats it was stored as).
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "format/quant.h"

#include <stddef.h>

enum { PACK_ROWS = 16, PACK_GROUP = 32 };

typedef enum pack_format {
    PACK_F32,
    PACK_F16,
    PACK_BF16,
    PACK_Q8,
    PACK_Q8M,
    PACK_Q4,
    PACK_Q4M,
    PACK_K4,
    PACK_K5,
    PACK_K6,
    PACK_N_FORMATS,
} pack_format;

pack_format pack_format_of(tensor_type type);
const char *pack_format_name(pack_format format); /* "q4_K", for people */

/* cols rounded up to whole blocks, and the bytes of one panel of that depth (a multiple of 64). */
int pack_depth(pack_format format, int cols);
size_t pack_panel_bytes(pack_format format, int cols);

/* Packs n_rows <= 16 stored rows of `type`, [cols] each, into one panel of pack_format_of(type).
 * The panel is written from end to end. */
void pack_panel(tensor_type type, const void *const rows[PACK_ROWS], int n_rows, int cols,
                char *panel);

/* Row `lane` of a panel as floats, [cols]: exactly the stored values. */
void pack_panel_row(pack_format format, const char *panel, int lane, int cols, float *out);
