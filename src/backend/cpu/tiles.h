/* tiles.h - from a tile size known at run time to a kernel compiled for it.
 *
 * A kernel is one inline function of (rows, panels); its loops over both must be unrolled so that
 * the sums stay in registers.  These switches name the sizes a step can ask for, so the compiler
 * makes one body for each.  They expand inside a function with parameters `rows` and `panels`.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include <assert.h>

#define TILE_CASE(TILE, rows, panels) \
    case (panels)*16 + (rows): TILE(rows, panels); break;

/* Any number of rows with one panel. */
#define TILE_CASES_ROWS(TILE, panels) \
    TILE_CASE(TILE, 1, panels)        \
    TILE_CASE(TILE, 2, panels)        \
    TILE_CASE(TILE, 3, panels)        \
    TILE_CASE(TILE, 4, panels)        \
    TILE_CASE(TILE, 5, panels)        \
    TILE_CASE(TILE, 6, panels)        \
    TILE_CASE(TILE, 7, panels)        \
    TILE_CASE(TILE, 8, panels)        \
    TILE_CASE(TILE, 9, panels)        \
    TILE_CASE(TILE, 10, panels)       \
    TILE_CASE(TILE, 11, panels)       \
    TILE_CASE(TILE, 12, panels)

/* Few rows: more panels at once, so that enough sums are under way to hide their latency. */
#define TILE_CASES_FEW(TILE) \
    TILE_CASE(TILE, 1, 4)    \
    TILE_CASE(TILE, 2, 4)    \
    TILE_CASE(TILE, 3, 4)    \
    TILE_CASE(TILE, 4, 4)    \
    TILE_CASE(TILE, 5, 4)

/* Kernels that keep 2 panels x 12 rows of sums. */
#define TILES_WIDE(TILE)                                \
    switch (panels * 16 + rows) {                       \
        TILE_CASES_FEW(TILE)                            \
        TILE_CASES_ROWS(TILE, 2)                        \
        TILE_CASES_ROWS(TILE, 1)                        \
    default: assert(!"no kernel for this tile"); break; \
    }

/* Kernels that keep 1 panel x 12 rows. */
#define TILES_NARROW(TILE)                              \
    switch (panels * 16 + rows) {                       \
        TILE_CASES_ROWS(TILE, 1)                        \
    default: assert(!"no kernel for this tile"); break; \
    }
