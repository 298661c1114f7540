/* file.h - read-only mapped files, and files written whole or not at all.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/status.h"

typedef struct mapped_file { /* all-zero: nothing mapped */
    const uint8_t *data;     /* [size]; NULL when size is 0 */
    size_t size;
} mapped_file;

/* Maps a regular file read-only.  A folder or a device is refused with its name. */
weir_status file_map(mapped_file *out, const char *path, weir_error *err);
void file_unmap(mapped_file *file);

/* Gives the memory of bytes that will not be read soon back to the system: they stay mapped and are
 * read from the file again when touched.  Does nothing for bytes outside the file. */
void file_release(const mapped_file *file, const void *data, size_t bytes);

bool file_exists(const char *path);
bool file_is_folder(const char *path);

/* An atomic writer: bytes go to a file beside the target, file_commit flushes it to disk and
 * renames it into place, file_abandon removes it.  Either ends the writer.  A target that exists
 * keeps its permissions. */
typedef struct file_writer {
    int fd;
    char *target, *temporary; /* heap */
} file_writer;

weir_status file_create(file_writer *out, const char *path, weir_error *err);
weir_status file_write(file_writer *w, const void *data, size_t size, weir_error *err);
weir_status file_commit(file_writer *w, weir_error *err);
void file_abandon(file_writer *w); /* accepts an all-zero or ended writer */
