/* cuda.c - opens and closes the CUDA back end.  cuda.h has the picture.
 *
 * Test: tests/backend/test_cuda.c, on a driver that runs the kernels on the CPU.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"

#include "backend/cuda/engine_file.h"
#include "base/arena.h"
#include "base/octave.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { N_DRAW_THREADS = 1024 };

/* ---- opening */

static weir_status allocate(cuda *c, weir_error *err) {
    const cuda_device *d = &c->device;
    const size_t bytes = c->layout.bytes;
    if (bytes > d->free_bytes) {
        return weir_fail(err, WEIR_ERR_MEMORY,
                         "GPU %s: %zu MiB are free, this model with its sessions wants %zu MiB "
                         "(fewer sessions, a smaller window, weights of 8 or 4 bits need less)",
                         d->name, d->free_bytes >> 20, bytes >> 20);
    }
    return CUDA_CALL(&c->device, allocate, err, &c->memory, bytes);
}

/* Pinned memory of steps and of staging. */
static weir_status allocate_host(cuda *c, weir_error *err) {
    const plan *p = c->layout.plan;
    const size_t wanted = (size_t)p->max_wanted;
    c->tokens_at = CUDA_TURNS * c->layout.step_bytes;
    c->logits_at = (c->tokens_at + CUDA_TURNS * wanted * sizeof(int) + 255) / 256 * 256;
    const size_t logits = size_mul(wanted, (size_t)c->layout.world.logits_stride * sizeof(float));
    c->host_bytes = size_add(c->logits_at, logits);
    void *at;
    WEIR_TRY(CUDA_CALL(&c->device, allocate_host, err, &at, c->host_bytes, 0));
    c->host = at;
    for (int i = 0; i < CUDA_TURNS; i++) {
        WEIR_TRY(CUDA_CALL(&c->device, event_open, err, &c->done[i], 2 /* no timing */));
        WEIR_TRY(CUDA_CALL(&c->device, event_open, err, &c->here[i], 2));
    }
    c->staging_bytes = c->layout.record_bytes;
    for (int i = 0; i < p->n_matrices; i++) {
        const cuda_matrix *m = &c->layout.weights[i].matrix;
        const size_t matrix = (size_t)m->n_tiles * (size_t)m->tile_bytes;
        c->staging_bytes = MAX_OF(c->staging_bytes, MIN_OF(matrix, (size_t)CUDA_STAGING_BYTES));
    }
    for (int i = 0; i < CUDA_STAGINGS; i++) {
        WEIR_TRY(CUDA_CALL(&c->device, allocate_host, err, &at, c->staging_bytes, 0));
        c->staging[i] = at;
        WEIR_TRY(CUDA_CALL(&c->device, event_open, err, &c->staged[i], 2 /* no timing */));
    }
    return WEIR_OK;
}

weir_status cuda_load(cuda *c, cuda_handle *out, const char *name, int shared_bytes,
                      weir_error *err) {
    enum { SHARED_ATTRIBUTE = 8 /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */ };
    assert(c->module && shared_bytes >= 0);
    WEIR_TRY(CUDA_CALL(&c->device, function, err, out, c->module, name));
    if (shared_bytes == 0) return WEIR_OK;
    return CUDA_CALL(&c->device, set_attribute, err, *out, SHARED_ATTRIBUTE, shared_bytes);
}

static weir_status load_wide(cuda *c, weir_error *err) {
    WEIR_TRY(cuda_load(c, &c->prepare, "prepare", 0, err));
    for (int i = 0; i < CUDA_WIDTHS; i++) {
        const cuda_wide *p = &c->layout.wide[i];
        char name[16];
        snprintf(name, sizeof name, "wide_%d", p->tokens);
        if (p->bytes == 0) continue;
        WEIR_TRY(cuda_load(c, &c->wide[i], name, p->bytes, err));
        for (int n = 1; n <= CUDA_CLUSTER && c->device.major >= 9; n++) {
            WEIR_TRY(cuda_count_clusters(c, &c->clusters[i][n], c->wide[i], n,
                                         c->layout.wide_threads, p->bytes, err));
        }
    }
    return WEIR_OK;
}

cuda_options cuda_options_of(const cuda_layout *l, const char *target) {
    return (cuda_options){.target = target,
                          .formats = l->formats,
                          .acts = l->acts,
                          .heads = cuda_heads_at_once(l),
                          .head_dim = l->plan->attention.head_dim,
                          .kv_type = l->world.kv_type,
                          .pin_type = l->world.pin_type};
}

/* From an engine file when one is named, and from nowhere else then. */
static weir_status open_module(cuda *c, const backend_options *o, weir_error *err) {
    cuda_device *d = &c->device;
    char target[16];
    cuda_target(target, d->major, d->minor);
    const cuda_options options = cuda_options_of(&c->layout, target);
    cuda_image image;
    const cuda_watch watch = {o->progress, o->progress_user, 0, 1};
    WEIR_TRY(o->engine_file ? cuda_engine_take(&image, o->engine_file, &options, err)
                            : cuda_compile(&image, &options, o->cache, &watch, err));
    weir_error why = {0};
    const weir_status status = CUDA_CALL(d, module_open, &why, &c->module, image.code.data);
    int version = 0;
    d->driver->version(&version);
    if (status != WEIR_OK && o->engine_file) {
        weir_fail(err, status, "%s: %s; built by NVRTC %d.%d, the driver is of CUDA %d.%d",
                  o->engine_file, why.message, image.nvrtc[0], image.nvrtc[1], version / 1000,
                  version % 1000 / 10);
    } else if (status != WEIR_OK) {
        weir_fail(err, status, "%s", why.message);
    }
    cuda_image_clear(&image);
    return status;
}

static weir_status load_kernels(cuda *c, const backend_options *o, weir_error *err) {
    WEIR_TRY(open_module(c, o, err));
    const cuda_look *look = &c->layout.world.look;
    WEIR_TRY(cuda_load(c, &c->walk, "walk", c->layout.world.shared.bytes, err));
    WEIR_TRY(cuda_load(c, &c->walk_one, "walk_one", c->layout.world.shared.bytes, err));
    WEIR_TRY(cuda_load(c, &c->spread, "spread", 0, err));
    WEIR_TRY(cuda_load(c, &c->draw, "draw", CUDA_DRAW_BYTES, err));
    WEIR_TRY(cuda_load(c, &c->copy_rows, "copy_rows", 0, err));
    WEIR_TRY(cuda_load(c, &c->pin_row, "pin_row", 0, err));
    WEIR_TRY(cuda_load(c, &c->attend_tiles, "attend_tiles", look->tile_bytes, err));
    char parts[24];
    snprintf(parts, sizeof parts, "attend_parts_%d", look->part_lines);
    if (look->part_warps) WEIR_TRY(cuda_load(c, &c->attend_parts, parts, look->part_bytes, err));
    return load_wide(c, err);
}

/* Small vectors and the stages; the store and the work space start as zeros. */
static weir_status upload_vectors(cuda *c, weir_error *err) {
    cuda_device *d = &c->device;
    WEIR_TRY(CUDA_CALL(d, fill, err, c->memory, 0, c->layout.bytes, d->stream));
    for (int i = 0; i < c->layout.n_uploads; i++) {
        const cuda_upload *u = &c->layout.uploads[i];
        WEIR_TRY(CUDA_CALL(d, write, err, u->to, u->from, u->bytes, d->stream));
    }
    uint32_t octaves[2][OCTAVE_DIGITS];
    octave_tables(octaves[0], octaves[1]);
    WEIR_TRY(CUDA_CALL(d, write, err, c->layout.world.octaves, octaves, sizeof octaves, d->stream));
    return CUDA_CALL(d, synchronize, err, d->stream);
}

/* Bytes one step of one row reads. */
static void account(cuda *c) {
    const plan *p = c->layout.plan;
    for (int i = 0; i < p->n_matrices; i++) {
        const cuda_matrix *m = &c->layout.weights[i].matrix;
        const size_t bytes = (size_t)m->n_tiles * (size_t)m->tile_bytes;
        if (c->layout.weights[i].is_owner) c->sizes.weight_bytes += bytes;
    }
    for (int i = 0; i < p->n_ops; i++) {
        const plan_op *op = &p->ops[i];
        if (op->matrix < 0) continue;
        const cuda_matrix *m = &c->layout.weights[op->matrix].matrix;
        c->sizes.step_weight_bytes += op->kind == NN_LOOKUP
                                          ? (size_t)m->tile_bytes / CUDA_TILE
                                          : (size_t)m->n_tiles * (size_t)m->tile_bytes;
    }
    c->sizes.kv_bytes = c->layout.kv.bytes;
    c->sizes.memory_bytes = c->device.free_bytes;
    c->sizes.activation_bytes = c->layout.bytes - c->sizes.weight_bytes - c->sizes.kv_bytes;
}

/* Names the format that most bytes have. */
static void describe(cuda *c) {
    const plan *p = c->layout.plan;
    size_t bytes[CUDA_N_FORMATS] = {0}, total = 0;
    int most = 0;
    for (int i = 0; i < p->n_matrices; i++) {
        const cuda_matrix *m = &c->layout.weights[i].matrix;
        if (!c->layout.weights[i].is_owner) continue;
        bytes[m->format] += (size_t)m->n_tiles * (size_t)m->tile_bytes;
        total += (size_t)m->n_tiles * (size_t)m->tile_bytes;
        if (bytes[m->format] > bytes[most]) most = m->format;
    }
    snprintf(c->weight_type, sizeof c->weight_type, "%s%s", cuda_format_name((cuda_format)most),
             bytes[most] < total / 100 * 99 ? " and others" : "");
    snprintf(c->kernels, sizeof c->kernels, "%s%s", c->device.name,
             c->plain      ? ", plain"
             : c->by_stage ? ", by stage"
                           : "");
}

static weir_status set_level(cuda *c, const char *level, weir_error *err) {
    c->plain = level && strcmp(level, "plain") == 0;
    c->by_stage = c->plain || (level && strcmp(level, "ops") == 0);
    if (!level || c->by_stage) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_ARGUMENT, "back end cuda has no level %s (ops, plain)", level);
}

static weir_status fill(cuda *c, const plan *p, const kv_shape *kv, const backend_options *o,
                        weir_error *err) {
    WEIR_TRY(set_level(c, o->level, err));
    WEIR_TRY(cuda_driver_open(&c->driver, err));
    cuda_device *d = &c->device;
    WEIR_TRY(cuda_device_open(d, &c->driver, err));
    c->n_threads = MIN_OF(CUDA_THREADS, d->most_threads / 32 * 32);
    c->n_draw_threads = MIN_OF(N_DRAW_THREADS, d->most_threads / 32 * 32);
    WEIR_TRY(cuda_layout_make(&c->layout, p, kv, d, o, 0, err));
    WEIR_TRY(allocate(c, err));
    cuda_layout_clear(&c->layout);
    WEIR_TRY(cuda_layout_make(&c->layout, p, kv, d, o, c->memory, err));
    WEIR_TRY(load_kernels(c, o, err));
    WEIR_TRY(allocate_host(c, err));
    WEIR_TRY(upload_vectors(c, err));
    WEIR_TRY(cuda_upload_weights(c, o, err));
    account(c);
    describe(c);
    return WEIR_OK;
}

static void close(backend *b) {
    if (!b) return;
    cuda *c = cuda_of(b);
    const cuda_driver *driver = c->device.driver;
    if (driver && c->device.context) {
        driver->set_current(c->device.context);
        if (c->device.stream) driver->synchronize(c->device.stream);
        cuda_forget_graphs(c);
        if (c->module) driver->module_close(c->module);
        for (int i = 0; i < CUDA_TURNS; i++) {
            if (c->done[i]) driver->event_close(c->done[i]);
            if (c->here[i]) driver->event_close(c->here[i]);
        }
        for (int i = 0; i < CUDA_STAGINGS; i++) {
            if (c->staged[i]) driver->event_close(c->staged[i]);
            if (c->staging[i]) driver->free_host(c->staging[i]);
        }
        if (c->host) driver->free_host(c->host);
        if (c->memory) driver->free(c->memory);
    }
    cuda_layout_clear(&c->layout);
    cuda_device_close(&c->device);
    cuda_driver_close(&c->driver);
    mem_free(c);
}

static weir_status open(backend **out, const plan *p, const kv_shape *kv, const backend_options *o,
                        weir_error *err) {
    *out = NULL;
    cuda *c = mem_alloc(sizeof *c);
    if (!c) return weir_fail(err, WEIR_ERR_MEMORY, "no memory for a back end");
    c->base.api = &backend_cuda;
    const weir_status status = fill(c, p, kv, o, err);
    if (status != WEIR_OK) {
        close(&c->base);
        return status;
    }
    *out = &c->base;
    return WEIR_OK;
}

/* ---- what it says of itself */

void cuda_take_times(backend *b) {
    cuda *c = cuda_of(b);
    c->layout.world.times = c->layout.times;
}

/* Skipped stages keep what they had before; the times are those at which stages begin. */
weir_status cuda_stage_times(backend *b, uint64_t *out, uint64_t *marks, weir_error *err) {
    cuda *c = cuda_of(b);
    const size_t n = (size_t)c->layout.n_stages;
    const size_t n_marks = (size_t)c->device.n_blocks * (CUDA_MARKS + 1);
    assert((n + 1 + n_marks) * sizeof *out <= c->staging_bytes);
    const uint64_t *times = (const uint64_t *)(const void *)c->staging[0];
    WEIR_TRY(cuda_device_enter(&c->device, err));
    WEIR_TRY(CUDA_CALL(&c->device, read, err, c->staging[0], c->layout.times,
                       (n + 1 + n_marks) * sizeof *times, c->device.stream));
    WEIR_TRY(CUDA_CALL(&c->device, synchronize, err, c->device.stream));
    uint64_t end = times[n];
    for (size_t i = n; i-- > 0;) {
        const bool skipped = times[i] == 0 || times[i] > end;
        out[i] = skipped ? 0 : end - times[i];
        if (!skipped) end = times[i];
    }
    memcpy(marks, times + n + 1, n_marks * sizeof *marks);
    return WEIR_OK;
}

static const char *kernels(const backend *b) {
    return cuda_of_const(b)->kernels;
}

static const char *weight_type(const backend *b) {
    return cuda_of_const(b)->weight_type;
}

static int threads(const backend *b) {
    (void)b;
    return 1; /* of the host */
}

static void sizes(const backend *b, backend_sizes *out) {
    *out = cuda_of_const(b)->sizes;
}

const backend_api backend_cuda = {.name = "cuda",
                                  .open = open,
                                  .close = close,
                                  .step = cuda_step,
                                  .logits = cuda_logits,
                                  .drawn = cuda_drawn,
                                  .fetch = cuda_fetch,
                                  .kernels = kernels,
                                  .weight_type = weight_type,
                                  .threads = threads,
                                  .sizes = sizes,
                                  .measure = cuda_measure_rates,
                                  .pin_row = cuda_pin_row,
                                  .row_bytes = cuda_row_bytes,
                                  .export_rows = cuda_export_rows,
                                  .import_rows = cuda_import_rows};
