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
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block us */
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

void file_release(const mapped_file *file, const void *data, size_t bytes) {
    const uintptr_t start = (uintptr_t)file->data, at = (uintptr_t)data;
    if (!file->data || at < start || at - start > file->size) return;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t from = at / page * page; /* neighbours are only read again */
    const size_t left = file->size - (from - start);
    const size_t size = at - from + bytes;
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): rounding down to a page */
    madvise((void *)from, size < left ? size : left, MADV_DONTNEED);
}

/* Opens a new file beside path and writes its name, path.PID-N, to name: O_EXCL makes it ours, and
 * open (unlike mkstemp) applies the umask. */
static int create_beside(const char *path, char *name, size_t size) {
    int fd = -1;
    for (int i = 0; i < 1000; i++) {
        snprintf(name, size, "%s.%ld-%d", path, (long)getpid(), i);
        fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST) break;
    }
    if (fd < 0) name[0] = 0; /* nothing to remove */
    return fd;
}

weir_status file_create(file_writer *out, const char *path, weir_error *err) {
    *out = (file_writer){.fd = -1};
    if (!path[0]) return weir_fail(err, WEIR_ERR_IO, "an empty file name cannot be written");
    struct stat st;
    const bool is_there = stat(path, &st) == 0;
    if (is_there && !S_ISREG(st.st_mode)) { /* rename would replace a device */
        return weir_fail(err, WEIR_ERR_IO, "%s: exists and is not a regular file", path);
    }
    const size_t n = strlen(path), room = n + sizeof ".9223372036854775807-999";
    out->target = mem_alloc(n + 1);
    out->temporary = mem_alloc(room);
    if (!out->target || !out->temporary) {
        file_abandon(out);
        return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", path);
    }
    memcpy(out->target, path, n);
    out->fd = create_beside(path, out->temporary, room);
    if (out->fd >= 0 && is_there) fchmod(out->fd, st.st_mode & 0777); /* who kept it private */
    if (out->fd >= 0) return WEIR_OK;
    const weir_status status = fail_io(err, path, "create a file beside it");
    file_abandon(out);
    return status;
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

/* The rename is on disk when the folder is; a folder that cannot be opened is no failure, the
 * file is in place. */
static void flush_folder(char *path) {
    char *slash = strrchr(path, '/');
    if (slash) *slash = 0;
    const int fd = open(!slash ? "." : path[0] ? path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

weir_status file_commit(file_writer *w, weir_error *err) {
    if (fsync(w->fd) != 0 || rename(w->temporary, w->target) != 0) {
        const weir_status status = fail_io(err, w->target, "write");
        file_abandon(w);
        return status;
    }
    w->temporary[0] = 0; /* nothing to remove */
    flush_folder(w->target);
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
