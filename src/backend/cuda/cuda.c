/* cuda.c - opens, steps and closes the CUDA back end.  cuda.h has the picture.
 *
 * Test: tests/backend/test_cuda.c, on a driver that runs the kernels on the CPU.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"

#include "base/arena.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
    N_THREADS = 256,
    SHARED_ATTRIBUTE = 8 /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */
};

static const cuda *cuda_of_const(const backend *b) {
    return (const cuda *)(const void *)b;
}

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
    const size_t rows = (size_t)p->max_rows * sizeof(cuda_row);
    c->wanted_at = (rows + 255) / 256 * 256;
    c->logits_at = (c->wanted_at + (size_t)p->max_wanted * sizeof(int) + 255) / 256 * 256;
    const size_t logits =
        size_mul((size_t)p->max_wanted, (size_t)p->tensors[p->logits].stride * sizeof(float));
    c->host_bytes = size_add(c->logits_at, logits);
    void *at;
    WEIR_TRY(CUDA_CALL(&c->device, allocate_host, err, &at, c->host_bytes, 0));
    c->host = at;
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

static weir_status load_kernels(cuda *c, const backend_options *o, weir_error *err) {
    cuda_device *d = &c->device;
    char target[16];
    cuda_target(target, d->major, d->minor);
    const cuda_options options = {.target = target,
                                  .formats = c->layout.formats,
                                  .acts = c->layout.acts,
                                  .share = c->layout.world.n_heads / c->layout.world.n_kv_heads,
                                  .head_dim = c->layout.plan->attention.head_dim,
                                  .kv_type = c->layout.world.kv_type,
                                  .pin_type = c->layout.world.pin_type};
    cuda_image image;
    WEIR_TRY(cuda_compile(&image, &options, o->cache, err));
    weir_status status = CUDA_CALL(d, module_open, err, &c->module, image.code.data);
    cuda_image_clear(&image);
    WEIR_TRY(status);
    WEIR_TRY(CUDA_CALL(d, function, err, &c->walk, c->module, "walk"));
    WEIR_TRY(CUDA_CALL(d, function, err, &c->many, c->module, "many"));
    WEIR_TRY(CUDA_CALL(d, function, err, &c->copy_rows, c->module, "copy_rows"));
    WEIR_TRY(CUDA_CALL(d, function, err, &c->pin_row, c->module, "pin_row"));
    const int shared = c->layout.world.shared.bytes;
    WEIR_TRY(CUDA_CALL(d, set_attribute, err, c->walk, SHARED_ATTRIBUTE, shared));
    return CUDA_CALL(d, set_attribute, err, c->many, SHARED_ATTRIBUTE, shared);
}

/* Small vectors and the stages; the store and the work space start as zeros. */
static weir_status upload_vectors(cuda *c, weir_error *err) {
    cuda_device *d = &c->device;
    WEIR_TRY(CUDA_CALL(d, fill, err, c->memory, 0, c->layout.bytes, d->stream));
    for (int i = 0; i < c->layout.n_uploads; i++) {
        const cuda_upload *u = &c->layout.uploads[i];
        WEIR_TRY(CUDA_CALL(d, write, err, u->to, u->from, u->bytes, d->stream));
    }
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
    c->sizes.activation_bytes = c->layout.bytes - c->sizes.weight_bytes - c->sizes.kv_bytes;
}

/* Names the format that most bytes have. */
static void describe(cuda *c) {
    const plan *p = c->layout.plan;
    size_t bytes[PACK_N_FORMATS] = {0}, total = 0;
    int most = 0;
    for (int i = 0; i < p->n_matrices; i++) {
        const cuda_matrix *m = &c->layout.weights[i].matrix;
        if (!c->layout.weights[i].is_owner) continue;
        bytes[m->format] += (size_t)m->n_tiles * (size_t)m->tile_bytes;
        total += (size_t)m->n_tiles * (size_t)m->tile_bytes;
        if (bytes[m->format] > bytes[most]) most = m->format;
    }
    snprintf(c->weight_type, sizeof c->weight_type, "%s%s", pack_format_name((pack_format)most),
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
    c->n_threads = MIN_OF(N_THREADS, d->most_threads / 32 * 32);
    WEIR_TRY(cuda_layout_make(&c->layout, p, kv, d, o, c->n_threads, 0, err));
    WEIR_TRY(allocate(c, err));
    cuda_layout_clear(&c->layout);
    WEIR_TRY(cuda_layout_make(&c->layout, p, kv, d, o, c->n_threads, c->memory, err));
    c->n_threads = 32 * c->layout.n_warps;
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
        if (c->module) driver->module_close(c->module);
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

/* ---- steps */

weir_status cuda_launch(cuda *c, cuda_handle kernel, bool together, size_t shared_bytes,
                        void **arguments, weir_error *err) {
    cuda_device *d = &c->device;
    const unsigned blocks = (unsigned)d->n_blocks, threads = (unsigned)c->n_threads;
    if (together) {
        return CUDA_CALL(d, launch_together, err, kernel, blocks, 1, 1, threads, 1, 1,
                         (unsigned)shared_bytes, d->stream, arguments);
    }
    return CUDA_CALL(d, launch, err, kernel, blocks, 1, 1, threads, 1, 1, (unsigned)shared_bytes,
                     d->stream, arguments, NULL);
}

/* Every row is the only one of its slot. */
static bool is_alone(const batch *b) {
    for (int i = 0; i < b->n_groups; i++) {
        if (b->groups[i].n != 1) return false;
    }
    return true;
}

/* A row of the batch with what can be said of its keys once for all layers. */
static cuda_row row_of(const batch_row *r, const cuda_world *w) {
    const uint64_t split = (uint64_t)w->split;
    cuda_row row = {.pos = r->pos,
                    .token = r->token,
                    .slot = r->slot,
                    .p = (int)r->p,
                    .pins = r->pins,
                    .recent = r->recent,
                    .is_pin = r->is_pin,
                    .at = r->is_pin ? (int)r->p : (int)(r->pos % (uint64_t)w->ring),
                    .n_splits = (r->pins + w->split - 1) / w->split};
    row.own = row.n_splits - 1; /* of a pinned row */
    if (r->recent > 0) {
        const uint64_t stretch = (r->pos - (uint64_t)(r->recent - 1)) / split;
        row.first = stretch * split;
        row.own = (int)(r->pos / split - stretch);
        row.n_splits = MAX_OF(row.n_splits, row.own + 1);
    }
    assert(row.n_splits > 0 && row.n_splits <= w->max_splits);
    return row;
}

static weir_status upload_step(cuda *c, const batch *b, cuda_world *w, weir_error *err) {
    cuda_device *d = &c->device;
    cuda_row *rows = (cuda_row *)(void *)(c->host + c->rows_at);
    for (int i = 0; i < b->n; i++) {
        const batch_row *r = &b->rows[i];
        assert(r->token >= 0 && r->token < c->layout.plan->vocab);
        rows[i] = row_of(r, w);
    }
    w->n = b->n;
    w->n_wanted = b->n_wanted;
    w->alone = is_alone(b);
    w->plain = c->plain;
    w->pass = w->shared.pass;
    WEIR_TRY(CUDA_CALL(d, write, err, w->rows, rows, (size_t)b->n * sizeof *rows, d->stream));
    if (b->n_wanted == 0) return WEIR_OK;
    int *wanted = (int *)(void *)(c->host + c->wanted_at);
    memcpy(wanted, b->wanted, (size_t)b->n_wanted * sizeof *wanted);
    return CUDA_CALL(d, write, err, w->wanted, wanted, (size_t)b->n_wanted * sizeof *wanted,
                     d->stream);
}

/* Barriers of a launch over stages [first, last), as walk.cu counts them. */
static unsigned count_barriers(const cuda_layout *l, const cuda_world *w) {
    unsigned n = 0;
    for (int i = w->first + 1; i < w->last; i++) {
        if (l->stages[i].kind == CUDA_STORE && w->alone) continue;
        n += l->stages[i].barrier != 0;
    }
    return n;
}

static weir_status walk(cuda *c, cuda_world *w, int first, int last, weir_error *err) {
    w->first = first;
    w->last = last;
    w->barrier_base = c->barrier_count;
    void *arguments[] = {w};
    WEIR_TRY(cuda_launch(c, c->walk, last - first > 1, (size_t)w->shared.bytes, arguments, err));
    c->barrier_count += count_barriers(&c->layout, w) * (unsigned)c->device.n_blocks;
    return WEIR_OK;
}

/* One stage by itself; a product of many tokens in two launches. */
static weir_status walk_stage(cuda *c, cuda_world *w, int i, weir_error *err) {
    const cuda_stage *s = &c->layout.stages[i];
    const int rows = s->out.selected ? w->n_wanted : w->n;
    const bool is_many =
        s->kind == NN_PROJECT && rows > CUDA_TOKENS && !w->plain && s->matrix.format != CUDA_F32;
    if (s->kind == CUDA_STORE && w->alone) return WEIR_OK;
    if (!is_many) return walk(c, w, i, i + 1, err);
    void *arguments[] = {w};
    w->first = i;
    w->last = i + 1;
    w->pass = CUDA_MANY;
    w->preparing = 1;
    WEIR_TRY(cuda_launch(c, c->many, false, (size_t)w->shared.bytes, arguments, err));
    w->preparing = 0;
    WEIR_TRY(cuda_launch(c, c->many, false, (size_t)w->shared.bytes, arguments, err));
    w->pass = w->shared.pass;
    return WEIR_OK;
}

static weir_status download_logits(cuda *c, const batch *b, weir_error *err) {
    const plan *p = c->layout.plan;
    const plan_tensor *t = &p->tensors[p->logits];
    if (b->n_wanted == 0) return WEIR_OK;
    const cuda_address from =
        c->layout.arena_at + p->tensors[t->base].offset + (cuda_address)t->column * sizeof(float);
    const size_t floats = (size_t)(b->n_wanted - 1) * (size_t)t->stride + (size_t)t->features;
    return CUDA_CALL(&c->device, read, err, c->host + c->logits_at, from, floats * sizeof(float),
                     c->device.stream);
}

static weir_status step(backend *base, const batch *b, weir_error *err) {
    cuda *c = cuda_of(base);
    assert(b->n > 0 && b->n <= c->layout.plan->max_rows);
    assert(b->n_wanted <= c->layout.plan->max_wanted);
    WEIR_TRY(cuda_device_enter(&c->device, err));
    cuda_world w = c->layout.world;
    WEIR_TRY(upload_step(c, b, &w, err));
    const int n_stages = c->layout.n_stages;
    if (b->n <= CUDA_TOKENS && !c->by_stage) {
        WEIR_TRY(walk(c, &w, 0, n_stages, err));
    } else {
        for (int i = 0; i < n_stages; i++) WEIR_TRY(walk_stage(c, &w, i, err));
    }
    WEIR_TRY(download_logits(c, b, err));
    return CUDA_CALL(&c->device, synchronize, err, c->device.stream);
}

/* ---- what it says of itself */

void cuda_take_times(backend *b) {
    cuda *c = cuda_of(b);
    c->layout.world.times = c->layout.times;
}

/* Skipped stages keep what they had before; the times are those at which stages begin. */
weir_status cuda_stage_times(backend *b, uint64_t *out, uint64_t marks[CUDA_MARKS],
                             weir_error *err) {
    cuda *c = cuda_of(b);
    const size_t n = (size_t)c->layout.n_stages;
    assert((n + 1 + CUDA_MARKS) * sizeof *out <= c->staging_bytes);
    const uint64_t *times = (const uint64_t *)(const void *)c->staging[0];
    WEIR_TRY(cuda_device_enter(&c->device, err));
    WEIR_TRY(CUDA_CALL(&c->device, read, err, c->staging[0], c->layout.times,
                       (n + 1 + CUDA_MARKS) * sizeof *times, c->device.stream));
    WEIR_TRY(CUDA_CALL(&c->device, synchronize, err, c->device.stream));
    uint64_t end = times[n];
    for (size_t i = n; i-- > 0;) {
        const bool skipped = times[i] == 0 || times[i] > end;
        out[i] = skipped ? 0 : end - times[i];
        if (!skipped) end = times[i];
    }
    memcpy(marks, times + n + 1, CUDA_MARKS * sizeof *marks);
    return WEIR_OK;
}

static const float *logits(const backend *b, int i) {
    const cuda *c = cuda_of_const(b);
    const plan *p = c->layout.plan;
    assert(i >= 0 && i < p->max_wanted);
    return (const float *)(const void *)(c->host + c->logits_at) +
           (size_t)i * (size_t)p->tensors[p->tensors[p->logits].base].stride;
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
                                  .step = step,
                                  .logits = logits,
                                  .kernels = kernels,
                                  .weight_type = weight_type,
                                  .threads = threads,
                                  .sizes = sizes,
                                  .pin_row = cuda_pin_row,
                                  .row_bytes = cuda_row_bytes,
                                  .export_rows = cuda_export_rows,
                                  .import_rows = cuda_import_rows};
