/* project.h - matrix products: inputs made ready, tiles of outputs, kernels by level and format.
 *
 *   y [n, rows] = x [n, k] * W^T
 *
 *            panel 0   panel 1                       inputs, made ready once per product:
 *   tile 0   [ 12 x 16 ][ 12 x 16 ] ...                tile 0 (rows 0..11)   tile 1 ...
 *   tile 1   [ 12 x 16 ] ...                           [k-unit][row] words of 4 bytes
 *
 * A kernel computes one tile of up to 12 rows by a few panels with all sums in registers.  The
 * weights of a panel go through once per tile; a panel is used for all tiles before the next one,
 * so for any number of rows it is read from memory once.
 *
 * Every output is the sum over k in one order, whatever the number of rows, panels and threads: a
 * row alone and in a batch gives the same bits.
 *
 * Inputs of a tile of R rows, in the kind its kernel takes (k padded to the panel's depth):
 *
 *   INPUT_F32    float [k][R]
 *   INPUT_BF16   pairs of bf16 [k/2][R], rounded to nearest even
 *   INPUT_INT8   quads of int8 [k/4][R], then by groups of 32, G = k/32, x = d * q:
 *                  float d [G][R]          scale, max|x| / 127
 *                  int32 by128 [G][R]      -128 * sum of q: what Q8's offset costs
 *                  int32 by8 [G][R]          -8 * sum of q: Q4's
 *                  float sum [G][R]           d * sum of q: what minima are multiplied by
 *                  int32 by32 [G][2][R]     -32 * sum of q of each half group: K6's
 *
 * Test: tests/backend/test_project.c.  Bench: bench/kernels.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/cpu/features.h"
#include "backend/cpu/pack.h"

#include <stdint.h>

enum { PROJECT_ROWS = 12, PROJECT_PANELS = 4 }; /* the largest tile, either way */

typedef enum input_kind { INPUT_F32, INPUT_BF16, INPUT_INT8, INPUT_N_KINDS } input_kind;

/* Bytes of one ready row of depth k; a tile of R rows is R times that. */
size_t input_row_bytes(input_kind kind, int k);

typedef struct int8_parts { /* of an INPUT_INT8 tile: where they start, in words of 4 bytes */
    size_t d, by128, by8, sum, by32;
} int8_parts;

static inline int8_parts int8_parts_of(int k, int rows) {
    const size_t quads = (size_t)(k / 4) * (size_t)rows;
    const size_t groups = (size_t)(k / PACK_GROUP) * (size_t)rows;
    return (int8_parts){quads, quads + groups, quads + 2 * groups, quads + 3 * groups,
                        quads + 4 * groups};
}

typedef struct project_tile {
    const char *w;      /* first panel */
    size_t panel_bytes; /* to the next */
    const char *x;      /* the tile's ready inputs */
    int k;              /* depth of the panel, padded */
    float *out;         /* [rows][panels][16], overwritten */
} project_tile;

/* 1 <= rows <= PROJECT_ROWS; panels is 1 or what the kernel's table entry names for the step. */
typedef void project_fn(const project_tile *t, int rows, int panels);

/* One row of k floats, padded with zeros to `depth`, to the words of a tile of one row. */
typedef void input_fn(const float *x, int k, int depth, void *out);

/* Reads bytes (a multiple of 512) as fast as the level can, as kernels read panels; returns
 * something that depends on all of them.  For bandwidth.c. */
typedef uint64_t read_fn(const char *data, size_t bytes);

typedef struct project_kernel {
    project_fn *run; /* NULL: this table has none for the format */
    input_kind input;
    int panels_one;  /* panels at once for a step of one row ...  */
    int panels_few;  /* ... of 2 to 5 rows ...                    */
    int panels_many; /* ... of more                               */
} project_kernel;

/* Matrix units, which take tiles of inputs row by row and panels made ready for them:
 *
 *   INPUT_BF16   R rows of bf16 [k], stride bytes apart
 *   INPUT_INT8   R rows of int8 [k], stride bytes apart; then float d [G][R], float sum [G][R]
 *
 * Rows of a power of two bytes would all fall into the same sets of the nearest cache, so each is
 * a line longer.  The last tile of a step has R rows as well; what is behind the step's rows is
 * multiplied and thrown away. */
typedef struct wide_parts { /* of a tile of R rows, in bytes */
    size_t stride, d, sum, bytes;
} wide_parts;

static inline wide_parts wide_parts_of(input_kind kind, int k, int rows) {
    const size_t line = 64, groups = kind == INPUT_INT8 ? (size_t)(k / PACK_GROUP) : 0;
    const size_t stride = (kind == INPUT_INT8 ? (size_t)k : (size_t)k * 2) + line;
    const size_t d = (size_t)rows * stride, sum = d + groups * (size_t)rows * 4;
    return (wide_parts){stride, d, sum, (sum + groups * (size_t)rows * 4 + 63) / 64 * 64};
}

typedef struct wide_ask { /* memory to be asked for, into the second cache, during a call */
    const char *at;
    size_t bytes;
} wide_ask;

typedef struct wide_tile {
    const char *w;      /* first panel, ready */
    size_t panel_bytes; /* of a ready one */
    const char *x;      /* a tile of inputs */
    int depth;          /* of the panel */
    int from, to;       /* columns of this call; calls of one tile go from 0 to depth */
    wide_ask ask[2];    /* what later calls will read: inputs, panels as packed */
    float *out;         /* [rows][panels][16]: overwritten when from is 0, else added to */
} wide_tile;

typedef void wide_fn(const wide_tile *t, int rows, int panels);

typedef struct project_wide {   /* gives the bits of the project_kernel beside it */
    wide_fn *run;               /* NULL: this table has none for the format */
    int rows, panels;           /* of a tile, at most */
    int at_least;               /* rows of a step for which it is the faster */
    int chunk;                  /* columns of a call; the depth is a multiple of 32 */
    size_t (*bytes)(int depth); /* of a ready panel; NULL: panels are taken as they lie */
    void (*ready)(const char *panel, int depth, char *out);
    void (*begin)(int rows); /* on the thread, before tiles of so many rows ... */
    void (*end)(void);       /* ... and after */
} project_wide;

typedef struct project_table { /* what one source file offers */
    project_kernel kernels[PACK_N_FORMATS];
    project_wide wides[PACK_N_FORMATS];
    input_fn *inputs[INPUT_N_KINDS];
    read_fn *read;
} project_table;

extern const project_table cpu_portable_table, cpu_avx2_table, cpu_avx512_table,
    cpu_avx512_vnni_table, cpu_avx512_bf16_table, cpu_amx_table, cpu_neon_table;

/* The best kernel these features have for a format; there always is one. */
const project_kernel *cpu_kernel_find(const cpu_features *f, pack_format format);
/* The matrix unit's, or NULL; `depth` of the panels. */
const project_wide *cpu_wide_find(const cpu_features *f, pack_format format, int depth);
input_fn *cpu_input_find(const cpu_features *f, input_kind kind);
read_fn *cpu_read_find(const cpu_features *f);
