/* input.c - reads files, pipes and standard input to their end.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/input.h"

#include "cli/term.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READ_SIZE = 1 << 18 };

/* A pipe has no size: the buffer grows as bytes come. */
static weir_status read_all(buffer *out, int fd, const char *name, weir_error *err) {
    for (;;) {
        if (!buffer_reserve(out, READ_SIZE)) {
            return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory after %zu bytes", name,
                             out->size);
        }
        int is_ready;
        while ((is_ready = term_wait(fd)) == 0) continue;
        if (is_ready < 0) return weir_fail(err, WEIR_ERR_CANCELED, "canceled");
        const ssize_t n = read(fd, out->data + out->size, READ_SIZE);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            return weir_fail(err, WEIR_ERR_IO, "%s: cannot be read: %s", name, strerror(errno));
        }
        if (n == 0) break;
        out->size += (size_t)n;
    }
    out->data[out->size] = 0;
    return WEIR_OK;
}

weir_status input_read(buffer *out, const char *path, weir_error *err) {
    if (strcmp(path, "-") == 0) return read_all(out, STDIN_FILENO, "standard input", err);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return weir_fail(err, WEIR_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    }
    const weir_status status = read_all(out, fd, path, err);
    close(fd);
    return status;
}

/* The list doubles, so a million ids cost some ten moves. */
bool id_list_add(id_list *l, int32_t id) {
    if (l->n == l->capacity) {
        const size_t capacity = l->capacity ? 2 * l->capacity : 1024;
        int32_t *ids = mem_grow(l->ids, capacity, sizeof *ids);
        if (!ids) return false;
        l->ids = ids;
        l->capacity = capacity;
    }
    l->ids[l->n++] = id;
    return true;
}

void id_list_clear(id_list *l) {
    mem_free(l->ids);
    *l = (id_list){0};
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Digits are read by hand: strtol would take signs, and what follows a number. */
weir_status input_ids(id_list *out, const char *path, int vocab, weir_error *err) {
    buffer text = {0};
    const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
    weir_status status = input_read(&text, path, err);
    const char *p = text.data, *end = p + text.size;
    while (status == WEIR_OK) {
        while (p < end && is_space(*p)) p++;
        if (p == end) break;
        const char *word = p;
        int64_t id = 0;
        while (p < end && *p >= '0' && *p <= '9' && id <= INT32_MAX) id = 10 * id + (*p++ - '0');
        if (p == word || (p < end && !is_space(*p)) || id > INT32_MAX) {
            size_t n = 0;
            while (word + n < end && n < 20 && !is_space(word[n])) n++;
            status = weir_fail(err, WEIR_ERR_FORMAT,
                               "%s: word %zu, \"%.*s\", is not a token id; ids are whole numbers "
                               "separated by white space",
                               name, out->n + 1, (int)n, word);
        } else if (vocab && id >= vocab) {
            status = weir_fail(err, WEIR_ERR_FORMAT,
                               "%s: word %zu is token %lld, the model's vocabulary ends at %d",
                               name, out->n + 1, (long long)id, vocab - 1);
        } else if (!id_list_add(out, (int32_t)id)) {
            status = weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", name);
        }
    }
    buffer_clear(&text);
    return status;
}
