/* build.c - makes engine files: a plan's kernels, compiled for GPUs that need not be here.
 *
 * What kernels are compiled for comes from the layout, as it does when a model is opened
 * (cuda_options_of), laid out for a GPU of the target: what would not fit there is refused here.
 *
 * Test: tests/engine/test_cuda_engine_file.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"
#include "backend/cuda/engine_file.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

typedef struct build {
    const plan *plan;
    const kv_shape *kv;
    const backend_options *options;
    char targets[ENGINE_TARGETS][16];
    int capabilities[ENGINE_TARGETS], n;
    engine_header header;
    cuda_image images[ENGINE_TARGETS];
} build;

/* ---- targets */

/* What a block of a GPU of compute capability 10 * major + minor may have.  The number of
 * multiprocessors is no matter of compilation. */
static cuda_device device_of(int capability, const char *target) {
    const bool is_large = capability >= 90 && capability < 120;
    cuda_device d = {.major = capability / 10,
                     .minor = capability % 10,
                     .n_blocks = 108,
                     .most_threads = 1024,
                     .shared_bytes = (is_large                               ? 227
                                      : capability == 80 || capability == 87 ? 163
                                                                             : 99)
                                     << 10};
    snprintf(d.name, sizeof d.name, "%s", target);
    return d;
}

/* The names of what NVRTC compiles for and weir runs on. */
static void list_targets(char *out, size_t size, const cuda_compiler *c) {
    out[0] = 0;
    for (int i = 0; i < c->n_targets; i++) {
        const size_t n = strlen(out);
        char name[16];
        if (c->targets[i] < 10 * CUDA_OLDEST_MAJOR) continue;
        cuda_target(name, c->targets[i] / 10, c->targets[i] % 10);
        snprintf(out + n, size - n, "%s%s", n ? ", " : "", name);
    }
}

/* The compute capability behind a target's name; 0: there is none of that name. */
static int find_target(const cuda_compiler *c, const char *target) {
    for (int i = 0; i < c->n_targets; i++) {
        char name[16];
        if (c->targets[i] < 10 * CUDA_OLDEST_MAJOR) continue;
        cuda_target(name, c->targets[i] / 10, c->targets[i] % 10);
        if (strcmp(name, target) == 0) return c->targets[i];
    }
    return 0;
}

static weir_status add_target(build *b, const char *name, size_t length, const cuda_compiler *c,
                              weir_error *err) {
    char target[16], known[160];
    snprintf(target, sizeof target, "%.*s", (int)MIN_OF(length, sizeof target - 1), name);
    const int capability = length < sizeof target ? find_target(c, target) : 0;
    if (!capability) {
        list_targets(known, sizeof known, c);
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "target \"%s\": NVRTC %d.%d has no such, it has %s", target, c->version[0],
                         c->version[1], known);
    }
    for (int i = 0; i < b->n; i++) {
        if (b->capabilities[i] == capability) return WEIR_OK;
    }
    if (b->n == ENGINE_TARGETS) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "targets: at most %d in an engine file",
                         ENGINE_TARGETS);
    }
    memcpy(b->targets[b->n], target, sizeof target);
    b->capabilities[b->n++] = capability;
    return WEIR_OK;
}

static weir_status find_here(char out[16], weir_error *err) {
    cuda_driver driver;
    cuda_device device = {0};
    weir_error why = {0};
    weir_status status = cuda_driver_open(&driver, &why);
    if (status == WEIR_OK) status = cuda_device_open(&device, &driver, &why);
    if (status == WEIR_OK) cuda_target(out, device.major, device.minor);
    cuda_device_close(&device);
    cuda_driver_close(&driver);
    if (status == WEIR_OK) return WEIR_OK;
    return weir_fail(err, status, "%s; name the target to build for (sm_80, sm_90a, ...)",
                     why.message);
}

/* list: names with commas between; NULL: the GPU of this machine. */
static weir_status find_targets(build *b, const char *list, weir_error *err) {
    char here[16];
    cuda_compiler compiler;
    if (!list) WEIR_TRY(find_here(here, err));
    WEIR_TRY(cuda_compiler_find(&compiler, err));
    memcpy(b->header.nvrtc, compiler.version, sizeof b->header.nvrtc);
    const char *at = list ? list : here;
    for (;; at++) {
        const size_t length = strcspn(at, ",");
        WEIR_TRY(add_target(b, at, length, &compiler, err));
        at += length;
        if (!*at) return WEIR_OK;
    }
}

/* ---- compilation */

static weir_status compile_one(build *b, int i, weir_error *err) {
    const cuda_device device = device_of(b->capabilities[i], b->targets[i]);
    cuda_layout layout;
    WEIR_TRY(cuda_layout_make(&layout, b->plan, b->kv, &device, b->options, 0, err));
    const cuda_options o = cuda_options_of(&layout, b->targets[i]);
    cuda_layout_clear(&layout);
#define X(name, before, behind) b->header.name = o.name;
    CUDA_OPTIONS(X)
#undef X
    engine_image *image = &b->header.images[i];
    memcpy(image->target, b->targets[i], sizeof image->target);
    image->made_from = cuda_key(&o);
    const cuda_watch watch = {b->options->progress, b->options->progress_user, (uint64_t)i,
                              (uint64_t)b->n};
    return cuda_compile(&b->images[i], &o, NULL, &watch, err);
}

static weir_status compile_all(build *b, weir_error *err) {
    const backend_options *o = b->options;
    for (int i = 0;; i++) { /* asks after the last one, too: what is canceled writes no file */
        if (o->progress &&
            o->progress(o->progress_user, "compiling kernels", (uint64_t)i, (uint64_t)b->n)) {
            return weir_fail(err, WEIR_ERR_CANCELED, "canceled while kernels were compiled");
        }
        if (i == b->n) break;
        WEIR_TRY(compile_one(b, i, err));
    }
    b->header.n_images = b->n;
    return WEIR_OK;
}

/* A mistyped name must not cost a user the model that lies there. */
static weir_status check_target_file(const char *file, weir_error *err) {
    if (!file_exists(file) || cuda_engine_is(file)) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_ARGUMENT,
                     "%s: is there and is no engine file: it is not overwritten", file);
}

weir_status cuda_engine_build(const char *file, const plan *p, const char *model,
                              const char *targets, const kv_shape *kv, const backend_options *o,
                              weir_error *err) {
    WEIR_TRY(check_target_file(file, err));
    build *b = mem_alloc(sizeof *b);
    if (!b) return weir_fail(err, WEIR_ERR_MEMORY, "no memory for an engine file");
    *b = (build){.plan = p, .kv = kv, .options = o};
    b->header.sources = cuda_sources_key();
    snprintf(b->header.model, sizeof b->header.model, "%.63s", model);
    snprintf(b->header.weir, sizeof b->header.weir, "%.15s", weir_version());
    file_writer w = {0};
    weir_status status = find_targets(b, targets, err);
    if (status == WEIR_OK) status = file_create(&w, file, err); /* before minutes of work */
    if (status == WEIR_OK) status = compile_all(b, err);
    if (status == WEIR_OK) status = cuda_engine_write(&w, &b->header, b->images, err);
    if (status == WEIR_OK) status = file_commit(&w, err);
    file_abandon(&w);
    for (int i = 0; i < b->n; i++) cuda_image_clear(&b->images[i]);
    mem_free(b);
    return status;
}

/* ---- what is in one */

weir_status cuda_engine_info(weir_engine_file_info *out, const char *path, weir_error *err) {
    mapped_file file;
    engine_header h;
    *out = (weir_engine_file_info){0};
    WEIR_TRY(file_map(&file, path, err));
    const weir_status status = cuda_engine_parse(&h, file.data, file.size, path, err);
    file_unmap(&file);
    WEIR_TRY(status);
    memcpy(out->made_by, h.weir, sizeof out->made_by);
    memcpy(out->model, h.model, sizeof out->model);
    cuda_engine_targets_text(out->targets, sizeof out->targets, &h);
    cuda_engine_option_text(out->weight_types, sizeof out->weight_types, "formats", h.formats);
    cuda_engine_option_text(out->kv_type, sizeof out->kv_type, "kv_type", h.kv_type);
    memcpy(out->nvrtc, h.nvrtc, sizeof out->nvrtc);
    out->head_dim = h.head_dim;
    out->bytes = h.bytes;
    out->is_current = h.sources == cuda_sources_key();
    return WEIR_OK;
}
