/* npy.c - numpy's file format, version 1.0.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/npy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { HEADER = 128, PENDING = 1 << 20 };

_Static_assert(sizeof(float) == 4, "'<f4' is this machine's float");

/* 128 bytes whatever the shape, so that it can be written again when the rows are known. */
static void make_header(char out[HEADER], uint64_t rows, int columns) {
    memset(out, ' ', HEADER);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (char)(HEADER - 10);
    out[9] = 0;
    char text[HEADER];
    const int n = snprintf(text, sizeof text,
                           "{'descr': '<f4', 'fortran_order': False, 'shape': (%llu, %d), }",
                           (unsigned long long)rows, columns);
    memcpy(out + 10, text, (size_t)n);
    out[HEADER - 1] = '\n';
}

weir_status npy_open(npy_writer *w, const char *path, int columns, weir_error *err) {
    char header[HEADER];
    *w = (npy_writer){.columns = columns};
    WEIR_TRY(file_create(&w->file, path, err));
    w->is_open = true;
    make_header(header, 0, columns);
    return file_write(&w->file, header, sizeof header, err);
}

static weir_status flush(npy_writer *w, weir_error *err) {
    const size_t size = w->pending.size;
    w->pending.size = 0;
    return size ? file_write(&w->file, w->pending.data, size, err) : WEIR_OK;
}

weir_status npy_write(npy_writer *w, const float *row, weir_error *err) {
    if (!buffer_append(&w->pending, row, (size_t)w->columns * sizeof *row)) {
        return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", w->file.target);
    }
    w->rows++;
    return w->pending.size < PENDING ? WEIR_OK : flush(w, err);
}

/* The header first, then the rename: a reader never sees a wrong shape. */
weir_status npy_close(npy_writer *w, weir_error *err) {
    char header[HEADER];
    weir_status status = flush(w, err);
    make_header(header, w->rows, w->columns);
    if (status == WEIR_OK && pwrite(w->file.fd, header, HEADER, 0) != HEADER) {
        status = weir_fail(err, WEIR_ERR_IO, "%s: cannot write the header: %s", w->file.target,
                           strerror(errno));
    }
    if (status == WEIR_OK) {
        status = file_commit(&w->file, err);
        w->is_open = false; /* either way the file's writer has ended */
    }
    npy_abandon(w);
    return status;
}

void npy_abandon(npy_writer *w) {
    if (w->is_open) file_abandon(&w->file);
    buffer_clear(&w->pending);
    *w = (npy_writer){0};
}
