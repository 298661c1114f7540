/* images.h - model files made in memory, and small assertions, for the tests of this folder.
 *
 *     image m = {0};
 *     image_gguf(&m, 3, 1, 2);                version, tensors, keys
 *     image_key_string(&m, "general.architecture", "llama");
 *     image_key_u32(&m, "llama.block_count", 1);
 *     image_tensor(&m, "t", 2, (uint64_t[]){4, 8}, 0, 0);      dims innermost first, type, offset
 *     image_data(&m, 128);                    pads to 32, then that many bytes
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef buffer image;

static inline void image_bytes(image *m, const void *data, size_t size) {
    assert_true(buffer_append(m, data, size));
}

static inline void image_u32(image *m, uint32_t x) {
    image_bytes(m, &x, sizeof x);
}

static inline void image_u64(image *m, uint64_t x) {
    image_bytes(m, &x, sizeof x);
}

static inline void image_string(image *m, const char *text) {
    image_u64(m, strlen(text));
    image_bytes(m, text, strlen(text));
}

static inline void image_gguf(image *m, uint32_t version, uint64_t n_tensors, uint64_t n_keys) {
    image_bytes(m, "GGUF", 4);
    image_u32(m, version);
    image_u64(m, n_tensors);
    image_u64(m, n_keys);
}

/* A key of a scalar type, its value given by its bytes. */
static inline void image_key(image *m, const char *key, uint32_t type, const void *value,
                             size_t size) {
    image_string(m, key);
    image_u32(m, type);
    image_bytes(m, value, size);
}

static inline void image_key_u32(image *m, const char *key, uint32_t x) {
    image_key(m, key, 4, &x, sizeof x);
}

static inline void image_key_f32(image *m, const char *key, float x) {
    image_key(m, key, 6, &x, sizeof x);
}

static inline void image_key_string(image *m, const char *key, const char *text) {
    image_string(m, key);
    image_u32(m, 8);
    image_string(m, text);
}

static inline void image_tensor(image *m, const char *name, uint32_t n_dims, const uint64_t *dims,
                                uint32_t type, uint64_t offset) {
    image_string(m, name);
    image_u32(m, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) image_u64(m, dims[i]);
    image_u32(m, type);
    image_u64(m, offset);
}

static inline void image_data(image *m, size_t bytes) {
    static const char zeros[4096];
    while (m->size % 32) image_bytes(m, "", 1);
    assert_true(bytes <= sizeof zeros);
    image_bytes(m, zeros, bytes);
}

/* The whole of a file of the tests' data, on the heap: exactly its bytes, so that the address
 * sanitizer sees every read behind them. */
static inline uint8_t *read_data(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot open", path);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = malloc(*size ? *size : 1);
    assert_int_equal(fread(p, 1, *size, f), *size);
    fclose(f);
    return p;
}

/* The message is one line that contains the words. */
static inline void assert_says(const weir_error *err, const char *words) {
    if (!strstr(err->message, words)) fail_msg("\"%s\" lacks \"%s\"", err->message, words);
    assert_null(strchr(err->message, '\n'));
    assert_int_not_equal(err->status, WEIR_OK);
}
