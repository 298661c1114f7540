/* gguf.h - the GGUF container, versions 2 and 3, little-endian.
 *
 *   file   := "GGUF" u32:version u64:n_tensors u64:n_keys key* tensor* padding data
 *   key    := string u32:type value          value of type 9 (array) := u32:type u64:n value*
 *   tensor := string u32:n_dims u64:dims[n_dims] u32:ggml_type u64:offset   innermost dim first
 *   string := u64:size byte*                 not terminated
 *
 * The header is parsed once into tables that point into the mapped file; every length and offset
 * is checked against the file before it is used.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "format/quant.h"

typedef struct gguf gguf;

typedef struct gguf_string {
    const char *data; /* not terminated */
    size_t size;
} gguf_string;

typedef struct gguf_tensor {
    gguf_string name;
    int n_dims;
    uint64_t dims[4]; /* innermost first, as stored */
    uint32_t ggml_type;
    const uint8_t *data; /* [bytes], checked to lie in the file and to overlap no other */
    uint64_t bytes;      /* what the type needs; 0: a type that gguf_tensor_type refuses */
} gguf_tensor;

/* Parses an image of a GGUF file; tables live in a, strings and data in the image.  path is for
 * messages. */
weir_status gguf_parse(gguf **out, arena *a, const void *data, size_t size, const char *path,
                       weir_error *err);

int gguf_n_tensors(const gguf *g);
const gguf_tensor *gguf_tensor_at(const gguf *g, int i); /* in file order */

const char *gguf_type_name(uint32_t ggml_type);              /* "IQ4_XS", "unknown" */
bool gguf_tensor_type(uint32_t ggml_type, tensor_type *out); /* false: cannot be read */

/* Values by key; false, and *out as it was, when the key is absent or of another kind. */
bool gguf_has(const gguf *g, const char *key);
bool gguf_get_u64(const gguf *g, const char *key,
                  uint64_t *out);                               /* any integer or bool type, >= 0 */
bool gguf_get_f64(const gguf *g, const char *key, double *out); /* any number type */
bool gguf_get_bool(const gguf *g, const char *key, bool *out);
bool gguf_get_string(const gguf *g, const char *key, gguf_string *out);

/* Arrays of n elements; valid as long as the arena. */
bool gguf_get_strings(const gguf *g, const char *key, const gguf_string **out, size_t *n);
bool gguf_get_i32s(const gguf *g, const char *key, const int32_t **out, size_t *n); /* i32 or u32 */
bool gguf_get_f32s(const gguf *g, const char *key, const float **out, size_t *n);
