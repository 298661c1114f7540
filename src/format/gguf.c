/* gguf.c - parses the header of a GGUF image into tables; gguf.h has the grammar.
 *
 * One cursor walks the file once, front to back.  Every read goes through take(), which is the
 * only place that moves the cursor and the only bounds check the rest relies on.  Counts are
 * compared with the bytes that are left before anything of that size is allocated, so the tables
 * are never more than a few times larger than the file.
 *
 * Keys are sorted by name after parsing: look-ups are binary searches and duplicates are
 * neighbours.  Arrays of 32-bit numbers are copied because the file does not align them; arrays of
 * strings become arrays of slices; other arrays are checked and remembered only by their size.
 *
 * Numbers are copied as they lie in the file: a big-endian host would have to swap them.
 *
 * Fuzz: fuzz/fuzz_gguf.c; test: tests/format/test_gguf.c.
 * SPDX-License-Identifier: MIT */
#include "format/gguf.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_N_TYPES,
};

enum {
    DEFAULT_ALIGNMENT = 32,
    MAX_ALIGNMENT = 1 << 20,
    MIN_KEY_BYTES = 8 + 4 + 1,           /* empty name, type, one byte of value */
    MIN_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8 /* empty name, one dim, type, offset   */
};

/* Bytes of a scalar by value type; 0 for what has no fixed size. */
static const uint8_t scalar_bytes[GGUF_N_TYPES] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

typedef struct entry { /* one key and its value */
    gguf_string key;
    uint32_t type; /* of the value, or of the elements of an array       */
    bool is_array;
    size_t n;              /* elements of an array                               */
    const uint8_t *scalar; /* in the file, unaligned; NULL for strings, arrays   */
    gguf_string string;
    const void *elements; /* [n] gguf_string, int32_t/uint32_t or float in the arena, or NULL */
} entry;

struct gguf {
    entry *keys; /* [n_keys], sorted by name */
    size_t n_keys;
    gguf_tensor *tensors; /* [n_tensors], in file order */
    int n_tensors;
};

typedef struct cursor {
    const uint8_t *data; /* the file, [size] */
    size_t size, at;
    arena *arena;
    const char *path;
    weir_error *err;
} cursor;

/* ---- names */

/* GGML's numbering of tensor types, with the gaps of retired ones.  Only those with a tensor_type
 * can be read; the rest is listed so that a refusal can name it. */
static const struct {
    const char *name;
    int type; /* tensor_type, or -1 */
} ggml_types[] = {
    /* clang-format off */
    [0] = {"F32", TENSOR_F32},    [1] = {"F16", TENSOR_F16},    [2] = {"Q4_0", TENSOR_Q4_0},
    [3] = {"Q4_1", TENSOR_Q4_1},  [6] = {"Q5_0", TENSOR_Q5_0},  [7] = {"Q5_1", TENSOR_Q5_1},
    [8] = {"Q8_0", TENSOR_Q8_0},  [9] = {"Q8_1", -1},           [10] = {"Q2_K", -1},
    [11] = {"Q3_K", -1},          [12] = {"Q4_K", TENSOR_Q4_K}, [13] = {"Q5_K", TENSOR_Q5_K},
    [14] = {"Q6_K", TENSOR_Q6_K}, [15] = {"Q8_K", -1},          [16] = {"IQ2_XXS", -1},
    [17] = {"IQ2_XS", -1},        [18] = {"IQ3_XXS", -1},       [19] = {"IQ1_S", -1},
    [20] = {"IQ4_NL", -1},        [21] = {"IQ3_S", -1},         [22] = {"IQ2_S", -1},
    [23] = {"IQ4_XS", -1},        [24] = {"I8", -1},            [25] = {"I16", -1},
    [26] = {"I32", -1},           [27] = {"I64", -1},           [28] = {"F64", -1},
    [29] = {"IQ1_M", -1},         [30] = {"BF16", TENSOR_BF16}, [34] = {"TQ1_0", -1},
    [35] = {"TQ2_0", -1},         [39] = {"MXFP4", -1},         [40] = {"NVFP4", -1},
    [41] = {"Q1_0", -1},
    /* clang-format on */
};

const char *gguf_type_name(uint32_t ggml_type) {
    const char *name = ggml_type < COUNT_OF(ggml_types) ? ggml_types[ggml_type].name : NULL;
    return name ? name : "unknown";
}

bool gguf_tensor_type(uint32_t ggml_type, tensor_type *out) {
    if (ggml_type >= COUNT_OF(ggml_types) || !ggml_types[ggml_type].name) return false;
    if (ggml_types[ggml_type].type < 0) return false;
    *out = (tensor_type)ggml_types[ggml_type].type;
    return true;
}

/* Bytes of a name that a message shows; the rest is cut. */
static int shown(gguf_string s) {
    return (int)MIN_OF(s.size, (size_t)80);
}

static int compare_strings(gguf_string a, gguf_string b) {
    const int order = memcmp(a.data, b.data, MIN_OF(a.size, b.size));
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* ---- reading */

/* The next bytes of the file, or NULL when it ends before. */
static const uint8_t *take(cursor *c, uint64_t bytes) {
    if (bytes > c->size - c->at) return NULL;
    const uint8_t *p = c->data + c->at;
    c->at += (size_t)bytes;
    return p;
}

static weir_status cut_off(cursor *c, const char *what) {
    return weir_fail(c->err, WEIR_ERR_FORMAT,
                     "%s: file ends inside %s at byte %zu; is it truncated?", c->path, what, c->at);
}

static weir_status no_memory(cursor *c) {
    return weir_fail(c->err, WEIR_ERR_MEMORY, "%s: out of memory", c->path);
}

static weir_status read_u32(cursor *c, uint32_t *out, const char *what) {
    const uint8_t *p = take(c, 4);
    *out = 0;
    if (!p) return cut_off(c, what);
    memcpy(out, p, 4);
    return WEIR_OK;
}

static weir_status read_u64(cursor *c, uint64_t *out, const char *what) {
    const uint8_t *p = take(c, 8);
    *out = 0;
    if (!p) return cut_off(c, what);
    memcpy(out, p, 8);
    return WEIR_OK;
}

static weir_status read_string(cursor *c, gguf_string *out, const char *what) {
    uint64_t size;
    WEIR_TRY(read_u64(c, &size, what));
    const uint8_t *p = take(c, size);
    if (!p) return cut_off(c, what);
    *out = (gguf_string){(const char *)p, (size_t)size};
    return WEIR_OK;
}

/* ---- keys */

static weir_status read_strings(cursor *c, entry *e) {
    if (e->n > (c->size - c->at) / 8) return cut_off(c, "an array of strings");
    gguf_string *strings = ARENA_ARRAY(c->arena, gguf_string, e->n);
    if (!strings) return no_memory(c);
    for (size_t i = 0; i < e->n; i++) {
        WEIR_TRY(read_string(c, &strings[i], "an array of strings"));
    }
    e->elements = strings;
    return WEIR_OK;
}

static weir_status read_array(cursor *c, entry *e) {
    uint64_t n;
    WEIR_TRY(read_u32(c, &e->type, "an array"));
    WEIR_TRY(read_u64(c, &n, "an array"));
    if (e->type != GGUF_STRING && (e->type >= GGUF_N_TYPES || scalar_bytes[e->type] == 0)) {
        return weir_fail(c->err, WEIR_ERR_FORMAT,
                         "%s: key %.*s is an array of type %" PRIu32 ", which GGUF does not have",
                         c->path, shown(e->key), e->key.data, e->type);
    }
    if (n > c->size - c->at) return cut_off(c, "an array"); /* an element is a byte at least */
    e->is_array = true;
    e->n = (size_t)n;
    if (e->type == GGUF_STRING) return read_strings(c, e);
    const size_t bytes = size_mul(e->n, scalar_bytes[e->type]);
    const uint8_t *p = take(c, bytes);
    if (!p) return cut_off(c, "an array");
    if (e->type == GGUF_I32 || e->type == GGUF_U32 || e->type == GGUF_F32) {
        void *copy = arena_array(c->arena, e->n, 4);
        if (!copy) return no_memory(c);
        memcpy(copy, p, bytes);
        e->elements = copy;
    }
    return WEIR_OK;
}

static weir_status read_key(cursor *c, entry *e) {
    WEIR_TRY(read_string(c, &e->key, "a key"));
    WEIR_TRY(read_u32(c, &e->type, "a key"));
    if (e->type == GGUF_ARRAY) return read_array(c, e);
    if (e->type == GGUF_STRING) return read_string(c, &e->string, "a value");
    if (e->type >= GGUF_N_TYPES) {
        return weir_fail(c->err, WEIR_ERR_FORMAT,
                         "%s: key %.*s has type %" PRIu32 ", GGUF has 0 to %d", c->path,
                         shown(e->key), e->key.data, e->type, GGUF_N_TYPES - 1);
    }
    e->scalar = take(c, scalar_bytes[e->type]);
    return e->scalar ? WEIR_OK : cut_off(c, "a value");
}

static int compare_keys(const void *a, const void *b) {
    return compare_strings(((const entry *)a)->key, ((const entry *)b)->key);
}

/* Some converters wrote a scalar twice; that does no harm when both say the same. */
static bool is_repeated(const entry *a, const entry *b) {
    return a->scalar && b->scalar && a->type == b->type &&
           memcmp(a->scalar, b->scalar, scalar_bytes[a->type]) == 0;
}

static weir_status read_keys(cursor *c, gguf *g, uint64_t n) {
    if (n > (c->size - c->at) / MIN_KEY_BYTES) {
        return weir_fail(c->err, WEIR_ERR_FORMAT,
                         "%s: has %" PRIu64 " keys, more than fit in its %zu bytes", c->path, n,
                         c->size);
    }
    g->n_keys = (size_t)n;
    g->keys = ARENA_ARRAY(c->arena, entry, g->n_keys);
    if (!g->keys) return no_memory(c);
    for (size_t i = 0; i < g->n_keys; i++) WEIR_TRY(read_key(c, &g->keys[i]));
    qsort(g->keys, g->n_keys, sizeof *g->keys, compare_keys);
    for (size_t i = 1; i < g->n_keys; i++) {
        const entry *before = &g->keys[i - 1];
        const gguf_string key = g->keys[i].key;
        if (compare_strings(before->key, key) == 0 && !is_repeated(before, &g->keys[i])) {
            return weir_fail(c->err, WEIR_ERR_FORMAT,
                             "%s: key %.*s is there twice with different values", c->path,
                             shown(key), key.data);
        }
    }
    return WEIR_OK;
}

/* ---- tensors */

/* Checks the shape and computes the bytes; a type that cannot be read gets 0. */
static weir_status measure(cursor *c, gguf_tensor *t) {
    uint64_t n = 1;
    for (int i = 0; i < t->n_dims; i++) {
        if (t->dims[i] == 0 || t->dims[i] > INT64_MAX / 8 / n) {
            return weir_fail(c->err, WEIR_ERR_FORMAT,
                             "%s: tensor %.*s: dimension %d is %" PRIu64 ", out of bounds", c->path,
                             shown(t->name), t->name.data, i, t->dims[i]);
        }
        n *= t->dims[i];
    }
    tensor_type type;
    if (!gguf_tensor_type(t->ggml_type, &type)) return WEIR_OK;
    const uint64_t block = (uint64_t)tensor_type_block(type);
    if (t->dims[0] % block != 0) {
        return weir_fail(c->err, WEIR_ERR_FORMAT,
                         "%s: tensor %.*s: rows of %" PRIu64 " weights, %s needs a multiple of %d",
                         c->path, shown(t->name), t->name.data, t->dims[0], tensor_type_name(type),
                         (int)block);
    }
    t->bytes = n / block * tensor_type_block_bytes(type);
    return WEIR_OK;
}

/* One record; *offset is from the start of the data, which is not known yet. */
static weir_status read_tensor(cursor *c, gguf_tensor *t, uint64_t *offset) {
    uint32_t n_dims;
    WEIR_TRY(read_string(c, &t->name, "the table of tensors"));
    WEIR_TRY(read_u32(c, &n_dims, "the table of tensors"));
    if (n_dims < 1 || n_dims > COUNT_OF(t->dims)) {
        return weir_fail(c->err, WEIR_ERR_FORMAT,
                         "%s: tensor %.*s has %" PRIu32 " dimensions, GGUF has 1 to %zu", c->path,
                         shown(t->name), t->name.data, n_dims, COUNT_OF(t->dims));
    }
    t->n_dims = (int)n_dims;
    for (int i = 0; i < t->n_dims; i++) {
        WEIR_TRY(read_u64(c, &t->dims[i], "the table of tensors"));
    }
    WEIR_TRY(read_u32(c, &t->ggml_type, "the table of tensors"));
    WEIR_TRY(read_u64(c, offset, "the table of tensors"));
    return measure(c, t);
}

static weir_status place(cursor *c, gguf_tensor *t, uint64_t start, uint64_t offset,
                         uint64_t alignment) {
    if (offset % alignment != 0) {
        return weir_fail(c->err, WEIR_ERR_FORMAT,
                         "%s: tensor %.*s: offset %" PRIu64 " is not a multiple of %" PRIu64,
                         c->path, shown(t->name), t->name.data, offset, alignment);
    }
    if (start > c->size || offset > c->size - start || t->bytes > c->size - start - offset) {
        return weir_fail(c->err, WEIR_ERR_FORMAT,
                         "%s: tensor %.*s: %" PRIu64 " bytes at %" PRIu64
                         " of the data, the file has %zu bytes; is it truncated?",
                         c->path, shown(t->name), t->name.data, t->bytes, offset, c->size);
    }
    t->data = c->data + start + offset;
    return WEIR_OK;
}

static int compare_places(const void *a, const void *b) {
    const uint8_t *x = (*(const gguf_tensor *const *)a)->data;
    const uint8_t *y = (*(const gguf_tensor *const *)b)->data;
    return (x > y) - (x < y);
}

/* No byte belongs to two tensors, and behind the last there is no more than padding: sorted by
 * place, each ends before the next begins.  What a type that cannot be read needs is not known. */
static weir_status check_cover(cursor *c, const gguf *g, uint64_t alignment) {
    const gguf_tensor **order = ARENA_ARRAY(c->arena, const gguf_tensor *, (size_t)g->n_tensors);
    if (!order) return no_memory(c);
    for (int i = 0; i < g->n_tensors; i++) order[i] = &g->tensors[i];
    qsort(order, (size_t)g->n_tensors, sizeof *order, compare_places);
    for (int i = 1; i < g->n_tensors; i++) {
        const gguf_tensor *t = order[i - 1], *next = order[i];
        if (t->bytes > (uint64_t)(next->data - t->data)) {
            return weir_fail(c->err, WEIR_ERR_FORMAT, "%s: tensors %.*s and %.*s overlap", c->path,
                             shown(t->name), t->name.data, shown(next->name), next->name.data);
        }
    }
    const gguf_tensor *last = g->n_tensors ? order[g->n_tensors - 1] : NULL;
    if (!last || last->bytes == 0) return WEIR_OK;
    const uint64_t rest = c->size - (uint64_t)(last->data - c->data) - last->bytes;
    if (rest < alignment) return WEIR_OK;
    return weir_fail(c->err, WEIR_ERR_FORMAT,
                     "%s: has %" PRIu64 " bytes behind the last tensor, wanted is only padding",
                     c->path, rest);
}

static weir_status read_tensors(cursor *c, gguf *g, uint64_t n) {
    if (n > (c->size - c->at) / MIN_TENSOR_BYTES || n > INT32_MAX) {
        return weir_fail(c->err, WEIR_ERR_FORMAT,
                         "%s: has %" PRIu64 " tensors, more than fit in its %zu bytes", c->path, n,
                         c->size);
    }
    g->n_tensors = (int)n;
    g->tensors = ARENA_ARRAY(c->arena, gguf_tensor, (size_t)n);
    uint64_t *offsets = ARENA_ARRAY(c->arena, uint64_t, (size_t)n);
    if (!g->tensors || !offsets) return no_memory(c);
    for (int i = 0; i < g->n_tensors; i++) {
        WEIR_TRY(read_tensor(c, &g->tensors[i], &offsets[i]));
    }
    uint64_t alignment = DEFAULT_ALIGNMENT;
    if (gguf_has(g, "general.alignment") &&
        (!gguf_get_u64(g, "general.alignment", &alignment) || alignment == 0 ||
         alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)) != 0)) {
        return weir_fail(c->err, WEIR_ERR_FORMAT,
                         "%s: general.alignment is not a power of two up to %d", c->path,
                         MAX_ALIGNMENT);
    }
    const uint64_t start = (c->at + alignment - 1) / alignment * alignment;
    for (int i = 0; i < g->n_tensors; i++) {
        WEIR_TRY(place(c, &g->tensors[i], start, offsets[i], alignment));
    }
    return check_cover(c, g, alignment);
}

/* ---- the file */

static weir_status read_version(cursor *c) {
    const uint8_t *magic = take(c, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0) {
        return weir_fail(c->err, WEIR_ERR_FORMAT, "%s: is not a GGUF file", c->path);
    }
    uint32_t version;
    WEIR_TRY(read_u32(c, &version, "the header"));
    if (version == 2 || version == 3) return WEIR_OK;
    const bool is_swapped = version != 0 && (version & 0xffff) == 0;
    return weir_fail(c->err, WEIR_ERR_FORMAT,
                     is_swapped ? "%s: is a big-endian GGUF, wanted is a little-endian one"
                                : "%s: is GGUF version %" PRIu32 ", wanted is 2 or 3",
                     c->path, version);
}

weir_status gguf_parse(gguf **out, arena *a, const void *data, size_t size, const char *path,
                       weir_error *err) {
    *out = NULL;
    cursor c = {.data = data, .size = size, .arena = a, .path = path, .err = err};
    gguf *g = ARENA_NEW(a, gguf);
    if (!g) return no_memory(&c);
    uint64_t n_tensors, n_keys;
    WEIR_TRY(read_version(&c));
    WEIR_TRY(read_u64(&c, &n_tensors, "the header"));
    WEIR_TRY(read_u64(&c, &n_keys, "the header"));
    WEIR_TRY(read_keys(&c, g, n_keys));
    WEIR_TRY(read_tensors(&c, g, n_tensors));
    *out = g;
    return WEIR_OK;
}

int gguf_n_tensors(const gguf *g) {
    return g->n_tensors;
}

const gguf_tensor *gguf_tensor_at(const gguf *g, int i) {
    assert(i >= 0 && i < g->n_tensors);
    return &g->tensors[i];
}

/* ---- look-ups */

static const entry *find(const gguf *g, const char *key) {
    const gguf_string wanted = {key, strlen(key)};
    size_t low = 0, high = g->n_keys;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        const int order = compare_strings(g->keys[mid].key, wanted);
        if (order == 0) return &g->keys[mid];
        if (order < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return NULL;
}

/* A key whose value is a scalar, or NULL. */
static const entry *find_scalar(const gguf *g, const char *key) {
    const entry *e = find(g, key);
    return e && e->scalar ? e : NULL;
}

static const entry *find_array(const gguf *g, const char *key) {
    const entry *e = find(g, key);
    return e && e->is_array ? e : NULL;
}

/* A little-endian integer of 1 to 8 bytes, sign-extended when its type is signed. */
static uint64_t load_integer(const entry *e) {
    uint64_t bits = 0;
    const unsigned bytes = scalar_bytes[e->type];
    for (unsigned i = 0; i < bytes; i++) bits |= (uint64_t)e->scalar[i] << 8 * i;
    const bool is_signed = e->type == GGUF_I8 || e->type == GGUF_I16 || e->type == GGUF_I32;
    const uint64_t sign = (uint64_t)1 << (8 * bytes - 1);
    return is_signed ? (bits ^ sign) - sign : bits;
}

bool gguf_has(const gguf *g, const char *key) {
    return find(g, key) != NULL;
}

bool gguf_get_u64(const gguf *g, const char *key, uint64_t *out) {
    const entry *e = find_scalar(g, key);
    if (!e || e->type == GGUF_F32 || e->type == GGUF_F64) return false;
    const uint64_t bits = load_integer(e);
    if (e->type != GGUF_U64 && bits > INT64_MAX) return false; /* negative */
    *out = bits;
    return true;
}

bool gguf_get_f64(const gguf *g, const char *key, double *out) {
    const entry *e = find_scalar(g, key);
    if (!e) return false;
    if (e->type == GGUF_F32) {
        float x;
        memcpy(&x, e->scalar, 4);
        *out = (double)x;
    } else if (e->type == GGUF_F64) {
        memcpy(out, e->scalar, 8);
    } else if (e->type == GGUF_U64) {
        *out = (double)load_integer(e);
    } else {
        *out = (double)(int64_t)load_integer(e);
    }
    return true;
}

bool gguf_get_bool(const gguf *g, const char *key, bool *out) {
    const entry *e = find_scalar(g, key);
    if (!e || e->type != GGUF_BOOL) return false;
    *out = e->scalar[0] != 0;
    return true;
}

bool gguf_get_string(const gguf *g, const char *key, gguf_string *out) {
    const entry *e = find(g, key);
    if (!e || e->is_array || e->type != GGUF_STRING) return false;
    *out = e->string;
    return true;
}

bool gguf_get_strings(const gguf *g, const char *key, const gguf_string **out, size_t *n) {
    const entry *e = find_array(g, key);
    if (!e || e->type != GGUF_STRING) return false;
    *out = e->elements;
    *n = e->n;
    return true;
}

bool gguf_get_i32s(const gguf *g, const char *key, const int32_t **out, size_t *n) {
    const entry *e = find_array(g, key);
    if (!e || (e->type != GGUF_I32 && e->type != GGUF_U32)) return false;
    *out = e->elements;
    *n = e->n;
    return true;
}

bool gguf_get_f32s(const gguf *g, const char *key, const float **out, size_t *n) {
    const entry *e = find_array(g, key);
    if (!e || e->type != GGUF_F32) return false;
    *out = e->elements;
    *n = e->n;
    return true;
}
