/* npy.h - a numpy file written row by row: float32, C order, [rows, columns].
 *
 *     93 'NUMPY' 1 0  <u16 length>  {'descr': '<f4', 'fortran_order': False, 'shape': (r, c), }
 *     spaces, newline: 128 bytes in all, then the rows
 *
 * The number of rows is filled in at the end.  The file appears under its name when it is whole.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/file.h"

typedef struct npy_writer { /* all-zero: closed */
    file_writer file;
    bool is_open;
    int columns;
    uint64_t rows;
    buffer pending; /* rows not yet written */
} npy_writer;

weir_status npy_open(npy_writer *w, const char *path, int columns, weir_error *err);
weir_status npy_write(npy_writer *w, const float *row, weir_error *err); /* [columns] */
weir_status npy_close(npy_writer *w, weir_error *err);                   /* completes the file */
void npy_abandon(npy_writer *w);                                         /* accepts a closed one */
