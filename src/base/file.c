/* file.c - mapped files and atomic writes, POSIX.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "base/file.h"

#include "base/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static weir_status fail_io(weir_error *err, const char *path, const char *verb) {
    return weir_fail(err, WEIR_ERR_IO, "%s: cannot %s: %s", path, verb, strerror(errno));
}

bool file_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool file_is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

weir_status file_map(mapped_file *out, const char *path, weir_error *err) {
    *out = (mapped_file){0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_io(err, path, "open");
    struct stat st;
    if (fstat(fd, &st) != 0) {
        const weir_status status = fail_io(err, path, "read");
        close(fd);
        return status;
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return weir_fail(err, WEIR_ERR_IO, "%s: is not a regular file", path);
    }
    if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            const weir_status status = fail_io(err, path, "map");
            close(fd);
            return status;
        }
        out->data = p;
        out->size = (size_t)st.st_size;
    }
    close(fd);
    return WEIR_OK;
}

void file_unmap(mapped_file *file) {
    if (file->data) munmap((void *)(uintptr_t)file->data, file->size);
    *file = (mapped_file){0};
}

weir_status file_create(file_writer *out, const char *path, weir_error *err) {
    *out = (file_writer){.fd = -1};
    const size_t n = strlen(path);
    out->target = mem_alloc(n + 1);
    out->temporary = mem_alloc(n + 8);
    if (!out->target || !out->temporary) {
        file_abandon(out);
        return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", path);
    }
    memcpy(out->target, path, n);
    snprintf(out->temporary, n + 8, "%s.XXXXXX", path);
    out->fd = mkostemp(out->temporary, O_CLOEXEC);
    if (out->fd < 0) {
        out->temporary[0] = 0; /* nothing to remove */
        const weir_status status = fail_io(err, path, "create a file beside it");
        file_abandon(out);
        return status;
    }
    const mode_t mask = umask(0);
    umask(mask);
    fchmod(out->fd, 0666 & ~mask); /* mkostemp makes it 0600 */
    return WEIR_OK;
}

weir_status file_write(file_writer *w, const void *data, size_t size, weir_error *err) {
    const char *p = data;
    while (size) {
        const ssize_t n = write(w->fd, p, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return fail_io(err, w->target, "write");
        p += n;
        size -= (size_t)n;
    }
    return WEIR_OK;
}

weir_status file_commit(file_writer *w, weir_error *err) {
    if (fsync(w->fd) != 0 || rename(w->temporary, w->target) != 0) {
        const weir_status status = fail_io(err, w->target, "write");
        file_abandon(w);
        return status;
    }
    w->temporary[0] = 0;
    file_abandon(w);
    return WEIR_OK;
}

void file_abandon(file_writer *w) {
    if (w->target && w->fd >= 0) close(w->fd);
    if (w->temporary && w->temporary[0]) unlink(w->temporary);
    mem_free(w->target);
    mem_free(w->temporary);
    *w = (file_writer){.fd = -1};
}
