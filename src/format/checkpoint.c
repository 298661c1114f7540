/* checkpoint.c - opens a model of any container; the readers are in folder.c and safetensors.c,
 * and here for GGUF.
 *
 *   a folder            -> folder_read
 *   "GGUF" in front     -> read_gguf
 *   *.safetensors       -> folder_read, config.json from the folder it lies in
 *
 * Tensors are collected in file order and sorted by name at the end.  The array grows on the heap;
 * everything else lies in the arena.  Test: tests/format/test_checkpoint.c.
 *
 * SPDX-License-Identifier: MIT */
#include "format/checkpoint.h"

#include "format/gguf.h"
#include "format/gguf_names.h"
#include "format/loading.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- collecting */

/* Bytes the elements of a type are aligned to where they lie. */
static size_t element_align(tensor_type type) {
    return type == TENSOR_F32 ? 4 : type == TENSOR_FP8 ? 1 : 2; /* blocks have an f16 in them */
}

/* Makes room for one more; capacities are powers of two, so the count tells when it is full. */
static bool grow(void **array, int n, size_t size) {
    if (n > 0 && (n & (n - 1)) != 0) return true;
    void *p = mem_grow(*array, n ? 2 * (size_t)n : 1, size);
    if (p) *array = p;
    return p != NULL;
}

weir_status loading_add(checkpoint *c, const tensor_view *t, const char *path, weir_error *err) {
    if ((uintptr_t)t->data % element_align(t->type) != 0) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: tensor %.100s: data is misaligned for %s", path,
                         t->name, tensor_type_name(t->type));
    }
    void *tensors = c->tensors;
    if (c->n_tensors > INT32_MAX / 2 || !grow(&tensors, c->n_tensors, sizeof *c->tensors)) {
        return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", path);
    }
    c->tensors = tensors;
    c->tensors[c->n_tensors++] = *t;
    uint64_t count = 1;
    for (int i = 0; i < t->n_dims; i++) count *= (uint64_t)t->dims[i];
    c->parameters += count;
    return WEIR_OK;
}

weir_status loading_map(checkpoint *c, mapped_file *out, const char *path, weir_error *err) {
    void *files = c->files;
    if (!grow(&files, c->n_files, sizeof *c->files)) {
        return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", path);
    }
    c->files = files;
    WEIR_TRY(file_map(out, path, err));
    c->files[c->n_files++] = *out;
    return WEIR_OK;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(((const tensor_view *)a)->name, ((const tensor_view *)b)->name);
}

weir_status loading_sort(checkpoint *c, weir_error *err) {
    if (c->n_tensors == 0) return WEIR_OK;
    qsort(c->tensors, (size_t)c->n_tensors, sizeof *c->tensors, compare_names);
    for (int i = 1; i < c->n_tensors; i++) {
        if (strcmp(c->tensors[i - 1].name, c->tensors[i].name) == 0) {
            return weir_fail(err, WEIR_ERR_FORMAT, "%s: tensor %.100s is there twice", c->path,
                             c->tensors[i].name);
        }
    }
    return WEIR_OK;
}

const tensor_view *checkpoint_find(const checkpoint *c, const char *name) {
    const tensor_view key = {.name = name};
    if (c->n_tensors == 0) return NULL;
    return bsearch(&key, c->tensors, (size_t)c->n_tensors, sizeof key, compare_names);
}

/* ---- GGUF */

static weir_status add_gguf_tensor(checkpoint *c, const gguf_tensor *from,
                                   const gguf_naming *naming, weir_error *err) {
    tensor_view t = {.n_dims = from->n_dims, .data = from->data, .bytes = from->bytes};
    t.name = gguf_translate_name(c->arena, naming, from->name);
    if (!t.name) return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", c->path);
    if (strlen(t.name) == 0 || (memchr(from->name.data, 0, from->name.size) != NULL)) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: a tensor's name is empty or not text", c->path);
    }
    if (strcmp(t.name, "rope_freqs.weight") == 0) return WEIR_OK; /* config.rope.divisors */
    if (!gguf_tensor_type(from->ggml_type, &t.type)) {
        return weir_fail(err, WEIR_ERR_MODEL,
                         "%s: tensor %.100s: type %s (%" PRIu32
                         ") is not supported; supported are F32, F16, BF16, Q8_0, Q4_0, Q4_1, "
                         "Q5_0, Q5_1, Q4_K, Q5_K, Q6_K",
                         c->path, t.name, gguf_type_name(from->ggml_type), from->ggml_type);
    }
    for (int i = 0; i < t.n_dims; i++) t.dims[i] = (int64_t)from->dims[t.n_dims - 1 - i];
    return loading_add(c, &t, c->path, err);
}

static weir_status refuse_split(const checkpoint *c, weir_error *err) {
    uint64_t count = 0, number = 0;
    gguf_get_u64(c->gguf, "split.count", &count);
    gguf_get_u64(c->gguf, "split.no", &number);
    if (count <= 1) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_MODEL,
                     "%s: is part %" PRIu64 " of %" PRIu64
                     " of a split GGUF; merge the parts into one file first (llama-gguf-split "
                     "--merge)",
                     c->path, number + 1, count);
}

/* A vocabulary without tensors may be of any architecture: what cannot be read stays zero. */
static void read_vocabulary_config(checkpoint *c) {
    gguf_string arch;
    if (config_from_gguf(&c->config, c->arena, c->gguf, c->path, NULL) == WEIR_OK) return;
    if (!gguf_get_string(c->gguf, "general.architecture", &arch)) return;
    const size_t size = MIN_OF(arch.size, sizeof c->config.architecture - 1);
    memcpy(c->config.architecture, arch.data, size);
}

static weir_status read_gguf(checkpoint *c, const void *data, size_t size, weir_error *err) {
    gguf *g;
    WEIR_TRY(gguf_parse(&g, c->arena, data, size, c->path, err));
    c->gguf = g;
    WEIR_TRY(refuse_split(c, err));
    if (gguf_n_tensors(g) == 0) {
        read_vocabulary_config(c);
        return WEIR_OK;
    }
    WEIR_TRY(config_from_gguf(&c->config, c->arena, g, c->path, err));
    const gguf_naming naming = gguf_naming_make(g);
    for (int i = 0; i < gguf_n_tensors(g); i++) {
        WEIR_TRY(add_gguf_tensor(c, gguf_tensor_at(g, i), &naming, err));
    }
    return WEIR_OK;
}

/* ---- opening */

static bool ends_with(const char *text, const char *tail) {
    const size_t n = strlen(text), m = strlen(tail);
    return n >= m && strcmp(text + n - m, tail) == 0;
}

/* A lone .safetensors file: its folder is what is left of the last slash. */
static weir_status read_lone_file(checkpoint *c, weir_error *err) {
    const char *slash = strrchr(c->path, '/');
    const size_t size = slash ? (size_t)(slash - c->path) : 1;
    const char *folder = size ? arena_copy(c->arena, slash ? c->path : ".", size) : "/";
    if (!folder) return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", c->path);
    return folder_read(c, folder, c->path, err);
}

static weir_status read_path(checkpoint *c, weir_error *err) {
    if (file_is_folder(c->path)) return folder_read(c, c->path, NULL, err);
    if (ends_with(c->path, ".safetensors")) return read_lone_file(c, err);
    mapped_file file;
    WEIR_TRY(loading_map(c, &file, c->path, err));
    if (ends_with(c->path, ".gguf") || (file.size >= 4 && memcmp(file.data, "GGUF", 4) == 0)) {
        return read_gguf(c, file.data, file.size, err);
    }
    return weir_fail(err, WEIR_ERR_FORMAT,
                     "%s: is not a model; wanted is a folder with config.json and "
                     "model.safetensors, a .safetensors file or a .gguf file",
                     c->path);
}

static checkpoint *new_checkpoint(const char *path) {
    arena *a = arena_new();
    checkpoint *c = a ? ARENA_NEW(a, checkpoint) : NULL;
    if (c) c->path = arena_copy(a, path, strlen(path));
    if (!c || !c->path) {
        arena_free(a);
        return NULL;
    }
    c->arena = a;
    return c;
}

/* Sorts and hands over what was read, or closes it. */
static weir_status finish(checkpoint **out, checkpoint *c, weir_status status, weir_error *err) {
    if (status == WEIR_OK) status = loading_sort(c, err);
    if (status == WEIR_OK) {
        *out = c;
    } else {
        checkpoint_close(c);
    }
    return status;
}

weir_status checkpoint_open(checkpoint **out, const char *path, weir_error *err) {
    *out = NULL;
    checkpoint *c = new_checkpoint(path);
    if (!c) return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", path);
    return finish(out, c, read_path(c, err), err);
}

weir_status checkpoint_open_memory(checkpoint **out, const void *data, size_t size,
                                   weir_error *err) {
    *out = NULL;
    checkpoint *c = new_checkpoint("built-in model");
    if (!c) return weir_fail(err, WEIR_ERR_MEMORY, "built-in model: out of memory");
    return finish(out, c, read_gguf(c, data, size, err), err);
}

void checkpoint_close(checkpoint *c) {
    if (!c) return;
    for (int i = 0; i < c->n_files; i++) file_unmap(&c->files[i]);
    mem_free(c->files);
    mem_free(c->tensors);
    arena_free(c->arena);
}
