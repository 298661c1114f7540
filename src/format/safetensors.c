/* safetensors.c - the safetensors container.
 *
 *   file   := u64:header_size header data
 *   header := JSON object { name: {"dtype": "BF16", "shape": [out, in], "data_offsets": [a, b]},
 *                           ..., "__metadata__": {...} }, may be padded with spaces
 *   data   := the tensors' bytes, row-major, little-endian; offsets count from its first byte
 *
 * As the reference reader does, this one wants every byte of the data to belong to exactly one
 * tensor: that finds truncated, oversized and overlapping files at once.  Buffers that old
 * checkpoints carry along and no model reads (causal masks, rotary tables) are checked and left
 * out, so that their odd types do not matter.
 *
 * Fuzz: fuzz/fuzz_safetensors.c; test: tests/format/test_safetensors.c.
 * SPDX-License-Identifier: MIT */
#include "format/loading.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER_BYTES = 100 * 1000 * 1000 };

typedef struct span { /* bytes of the data that a tensor has claimed */
    const char *name;
    uint64_t begin, end;
} span;

typedef struct reader {
    checkpoint *checkpoint;
    const uint8_t *data; /* behind the header, [size] */
    size_t size;
    span *spans; /* [n], one per tensor */
    size_t n;
    const char *path;
    weir_error *err;
} reader;

/* Element types with their sizes; type -1: known, but nothing weir computes with. */
static const struct {
    const char *name;
    int type;
    unsigned bytes;
} dtypes[] = {
    {"F32", TENSOR_F32, 4},
    {"F16", TENSOR_F16, 2},
    {"BF16", TENSOR_BF16, 2},
    {"F64", -1, 8},
    {"I64", -1, 8},
    {"U64", -1, 8},
    {"I32", -1, 4},
    {"U32", -1, 4},
    {"I16", -1, 2},
    {"U16", -1, 2},
    {"I8", -1, 1},
    {"U8", -1, 1},
    {"BOOL", -1, 1},
    {"F8_E4M3", TENSOR_FP8, 1},
    {"F8_E5M2", -1, 1},
};

static bool ends_with(const char *name, const char *tail) {
    const size_t n = strlen(name), m = strlen(tail);
    return n >= m && strcmp(name + n - m, tail) == 0;
}

bool safetensors_is_ignored(const char *name) {
    return ends_with(name, ".attention.bias") || ends_with(name, ".attention.masked_bias") ||
           ends_with(name, ".rotary_emb.inv_freq");
}

static weir_status bad(reader *r, const char *name, const char *what) {
    return weir_fail(r->err, WEIR_ERR_FORMAT, "%s: tensor %.100s: %s", r->path, name, what);
}

/* A non-negative integer; false for anything else. */
static bool get_u64(const json_t *v, uint64_t *out) {
    if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

/* Fills t's dims from the shape; *count becomes their product. */
static weir_status read_shape(reader *r, tensor_view *t, uint64_t *count, const json_t *shape) {
    const size_t n_dims = json_array_size(shape);
    if (!json_is_array(shape)) return bad(r, t->name, "shape is missing");
    if (n_dims > COUNT_OF(t->dims)) return bad(r, t->name, "has more than 4 dimensions");
    *count = 1;
    t->n_dims = n_dims ? (int)n_dims : 1; /* a scalar is a vector of one */
    t->dims[0] = 1;
    for (size_t i = 0; i < n_dims; i++) {
        uint64_t dim;
        if (!get_u64(json_array_get(shape, i), &dim)) {
            return bad(r, t->name, "a dimension is not a size");
        }
        if (dim != 0 && *count > INT64_MAX / 8 / dim) {
            return bad(r, t->name, "shape is larger than any file");
        }
        *count *= dim;
        t->dims[i] = (int64_t)dim;
    }
    return WEIR_OK;
}

static weir_status read_offsets(reader *r, span *s, uint64_t wanted, const json_t *offsets) {
    if (json_array_size(offsets) != 2 || !get_u64(json_array_get(offsets, 0), &s->begin) ||
        !get_u64(json_array_get(offsets, 1), &s->end) || s->end < s->begin) {
        return bad(r, s->name, "data_offsets are not two rising offsets");
    }
    if (s->end - s->begin != wanted) {
        return weir_fail(r->err, WEIR_ERR_FORMAT,
                         "%s: tensor %.100s: has %" PRIu64 " bytes, its shape wants %" PRIu64,
                         r->path, s->name, s->end - s->begin, wanted);
    }
    if (s->end > r->size) {
        return weir_fail(r->err, WEIR_ERR_FORMAT,
                         "%s: tensor %.100s: ends at byte %" PRIu64
                         " of the data, the file has %zu; is it truncated?",
                         r->path, s->name, s->end, r->size);
    }
    return WEIR_OK;
}

/* Reads one entry of the header and adds the tensor unless no model reads it. */
static weir_status read_tensor(reader *r, const char *name, const json_t *entry) {
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype) return bad(r, name, "dtype is missing");
    size_t i = 0;
    while (i < COUNT_OF(dtypes) && strcmp(dtypes[i].name, dtype) != 0) i++;
    const bool is_ours = i < COUNT_OF(dtypes) && dtypes[i].type >= 0;
    if (i == COUNT_OF(dtypes) || (!is_ours && !safetensors_is_ignored(name))) {
        return weir_fail(r->err, WEIR_ERR_MODEL,
                         "%s: tensor %.100s: type %.20s is not supported; supported are F32, F16, "
                         "BF16, F8_E4M3",
                         r->path, name, dtype);
    }
    tensor_view t = {.name = name};
    span *s = &r->spans[r->n++];
    s->name = name;
    uint64_t count = 0;
    WEIR_TRY(read_shape(r, &t, &count, json_object_get(entry, "shape")));
    WEIR_TRY(read_offsets(r, s, count * dtypes[i].bytes, json_object_get(entry, "data_offsets")));
    if (safetensors_is_ignored(name)) return WEIR_OK;
    if (count == 0) return bad(r, name, "has no elements");
    t.name = arena_copy(r->checkpoint->arena, name, strlen(name));
    t.type = (tensor_type)dtypes[i].type;
    t.data = r->data + s->begin;
    t.bytes = s->end - s->begin;
    if (!t.name) return weir_fail(r->err, WEIR_ERR_MEMORY, "%s: out of memory", r->path);
    return loading_add(r->checkpoint, &t, r->path, r->err);
}

static int compare_spans(const void *a, const void *b) {
    const span *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* Every byte of the data belongs to one tensor. */
static weir_status check_cover(reader *r) {
    qsort(r->spans, r->n, sizeof *r->spans, compare_spans);
    uint64_t at = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (r->spans[i].begin < at) return bad(r, r->spans[i].name, "overlaps another");
        if (r->spans[i].begin > at) return bad(r, r->spans[i].name, "leaves a gap in front of it");
        at = r->spans[i].end;
    }
    if (at == r->size) return WEIR_OK;
    return weir_fail(r->err, WEIR_ERR_FORMAT,
                     "%s: has %" PRIu64 " bytes behind the last tensor, wanted are none", r->path,
                     r->size - at);
}

static weir_status read_entries(reader *r, const json_t *root) {
    if (!json_is_object(root)) {
        return weir_fail(r->err, WEIR_ERR_FORMAT, "%s: header is not a JSON object", r->path);
    }
    r->spans = mem_array(json_object_size(root), sizeof *r->spans);
    if (!r->spans) return weir_fail(r->err, WEIR_ERR_MEMORY, "%s: out of memory", r->path);
    void *at = json_object_iter((json_t *)(uintptr_t)root);
    for (; at; at = json_object_iter_next((json_t *)(uintptr_t)root, at)) {
        const char *name = json_object_iter_key(at);
        if (strcmp(name, "__metadata__") == 0) continue;
        WEIR_TRY(read_tensor(r, name, json_object_iter_value(at)));
    }
    return check_cover(r);
}

weir_status safetensors_read(checkpoint *c, const uint8_t *data, size_t size, const char *path,
                             weir_error *err) {
    uint64_t header = 0;
    if (size >= 8) memcpy(&header, data, 8);
    if (size < 8 || header > MAX_HEADER_BYTES || header > size - 8) {
        return weir_fail(err, WEIR_ERR_FORMAT,
                         "%s: header of %" PRIu64
                         " bytes does not fit: not a safetensors file, or a truncated one",
                         path, header);
    }
    json_error_t e;
    json_t *root = json_loadb((const char *)data + 8, (size_t)header, JSON_REJECT_DUPLICATES, &e);
    if (!root) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: header is not JSON: %s", path, e.text);
    }
    reader r = {.checkpoint = c,
                .data = data + 8 + header,
                .size = size - 8 - (size_t)header,
                .path = path,
                .err = err};
    const weir_status status = read_entries(&r, root);
    mem_free(r.spans);
    json_decref(root);
    return status;
}
