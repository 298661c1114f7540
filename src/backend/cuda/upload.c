/* upload.c - weights from the checkpoint's file to their tiles on the device.
 *
 *     file (mapped) -> a team packs tiles into pinned memory -> copied while the next are packed
 *
 * Two stagings take turns.  After each matrix the pages of the file it came from are given back.
 *
 * Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"

#include "base/arena.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

typedef struct upload { /* some tiles of one matrix */
    const plan_matrix *source;
    const cuda_weights *to;
    char *staging;
    int first, n;  /* tiles */
    char *scratch; /* [members][scratch_bytes]: a panel, a row of floats, 16 quantised rows */
    size_t scratch_bytes;
    atomic_int next;
} upload;

/* The row that is packed as row i of tile `tile`. */
static int source_row(const upload *u, int tile, int i) {
    assert(tile >= 0 && tile < u->to->matrix.n_tiles && i >= 0 && i < CUDA_TILE);
    return CUDA_ROW_OF(u->to->matrix.gated, tile * CUDA_TILE + i);
}

/* A row as blocks of 64 e4m3 with their scale. */
static const void *fp8_row(const plan_matrix *m, int row, char *out) {
    const char *from = plan_matrix_bytes(m, row);
    char *block = out;
    for (int k = 0; k < m->cols; k += CUDA_FP8_SPAN, block += CUDA_FP8_BYTES) {
        const int n = MIN_OF(CUDA_FP8_SPAN, m->cols - k);
        const float scale = plan_matrix_scale(m, row, k);
        memset(block, 0, CUDA_FP8_BYTES);
        memcpy(block, &scale, sizeof scale);
        memcpy(block + sizeof scale, from + k, (size_t)n);
    }
    return out;
}

/* The rows of a tile as they are packed; quantised into scratch when that is another type. */
static int rows_of_tile(const upload *u, int tile, char *scratch, const void *rows[CUDA_TILE]) {
    const plan_matrix *m = u->source;
    const int n = MIN_OF(CUDA_TILE, m->rows - tile * CUDA_TILE);
    if (u->to->type == TENSOR_FP8) {
        const size_t bytes = cuda_pack_row_bytes(TENSOR_FP8, m->cols);
        for (int i = 0; i < n; i++) {
            rows[i] = fp8_row(m, source_row(u, tile, i), scratch + (size_t)i * bytes);
        }
        return n;
    }
    if (u->to->type == m->type) {
        for (int i = 0; i < n; i++) rows[i] = plan_matrix_bytes(m, source_row(u, tile, i));
        return n;
    }
    assert(u->to->type == TENSOR_Q8_0 || u->to->type == TENSOR_Q4_0);
    float *floats = (float *)(void *)scratch;
    char *blocks = scratch + (size_t)m->cols * sizeof *floats;
    for (int i = 0; i < n; i++, blocks += tensor_row_bytes(u->to->type, m->cols)) {
        plan_matrix_row(m, source_row(u, tile, i), floats);
        if (u->to->type == TENSOR_Q8_0) {
            quantize_row_q8_0(floats, blocks, m->cols);
        } else {
            quantize_row_q4_0(floats, blocks, m->cols);
        }
        rows[i] = blocks;
    }
    return n;
}

static void pack_tiles(void *user, int ith, int nth) {
    (void)nth;
    upload *u = user;
    const cuda_matrix *m = &u->to->matrix;
    char *scratch = u->scratch + (size_t)ith * u->scratch_bytes;
    for (int i; (i = atomic_fetch_add(&u->next, 1)) < u->n;) {
        const void *rows[CUDA_TILE];
        const int n = rows_of_tile(u, u->first + i, scratch + m->tile_bytes, rows);
        cuda_pack_tile(m, u->to->type, rows, n, scratch, u->staging + (size_t)i * m->tile_bytes);
    }
}

/* A panel, a row of floats and the quantised rows of the largest matrix. */
static size_t scratch_bytes(const cuda *c) {
    const plan *p = c->layout.plan;
    size_t most = 0;
    for (int i = 0; i < p->n_matrices; i++) {
        const cuda_weights *to = &c->layout.weights[i];
        const size_t cols = (size_t)p->matrices[i].cols;
        const size_t rows = CUDA_TILE * cuda_pack_row_bytes(to->type, p->matrices[i].cols);
        most = MAX_OF(most, (size_t)to->matrix.tile_bytes + cols * sizeof(float) + rows);
    }
    return (most + 63) / 64 * 64;
}

static void release_source(const plan *p, const plan_matrix *m) {
    for (int i = 0; i < m->n_parts; i++) {
        const tensor_view *view = m->parts[i].weight->view;
        for (int f = 0; f < p->checkpoint->n_files; f++) {
            file_release(&p->checkpoint->files[f], view->data, view->bytes);
        }
    }
}

typedef struct progress {
    const backend_options *options;
    uint64_t done, total;
    int turn; /* staging to fill next */
} progress;

static weir_status upload_matrix(cuda *c, team *members, upload *u, progress *all,
                                 weir_error *err) {
    cuda_device *d = &c->device;
    const cuda_matrix *m = &u->to->matrix;
    const int most = (int)MIN_OF(c->staging_bytes / m->tile_bytes, 1 << 20);
    if (most == 0) {
        return weir_fail(err, WEIR_ERR_MODEL, "%s: rows of %d weights are too long for a GPU",
                         u->source->name, m->cols);
    }
    assert(u->to->is_owner && m->tiles);
    for (u->first = 0; u->first < m->n_tiles; u->first += u->n) {
        u->n = MIN_OF(most, m->n_tiles - u->first);
        u->staging = c->staging[all->turn];
        WEIR_TRY(CUDA_CALL(d, event_wait, err, c->staged[all->turn]));
        atomic_store(&u->next, 0);
        team_run(members, pack_tiles, u);
        const size_t bytes = (size_t)u->n * (size_t)m->tile_bytes;
        WEIR_TRY(CUDA_CALL(d, write, err, m->tiles + (cuda_address)u->first * m->tile_bytes,
                           u->staging, bytes, d->stream));
        WEIR_TRY(CUDA_CALL(d, event_record, err, c->staged[all->turn], d->stream));
        all->turn = (all->turn + 1) % CUDA_STAGINGS;
        all->done += bytes;
        const backend_options *o = all->options;
        if (o->progress &&
            o->progress(o->progress_user, "packing weights", all->done, all->total)) {
            return weir_fail(err, WEIR_ERR_CANCELED, "canceled while packing %s", u->source->name);
        }
    }
    return WEIR_OK;
}

static weir_status upload_all(cuda *c, team *members, upload *u, progress *all, weir_error *err) {
    const plan *p = c->layout.plan;
    for (int i = 0; i < p->n_matrices; i++) {
        const cuda_matrix *m = &c->layout.weights[i].matrix;
        if (c->layout.weights[i].is_owner) all->total += (uint64_t)m->n_tiles * m->tile_bytes;
    }
    for (int i = 0; i < p->n_matrices; i++) {
        if (!c->layout.weights[i].is_owner) continue;
        u->source = &p->matrices[i];
        u->to = &c->layout.weights[i];
        WEIR_TRY(upload_matrix(c, members, u, all, err));
        release_source(p, u->source);
    }
    return CUDA_CALL(&c->device, synchronize, err, c->device.stream);
}

weir_status cuda_upload_weights(cuda *c, const backend_options *o, weir_error *err) {
    team *members = team_new(o->threads);
    if (!members) {
        return weir_fail(err, WEIR_ERR_DEVICE, "cannot start %d threads", o->threads);
    }
    upload u = {.scratch_bytes = scratch_bytes(c)};
    progress all = {.options = o};
    u.scratch = mem_array((size_t)team_size(members), u.scratch_bytes);
    const weir_status status = u.scratch
                                   ? upload_all(c, members, &u, &all, err)
                                   : weir_fail(err, WEIR_ERR_MEMORY, "no memory to pack weights");
    mem_free(u.scratch);
    team_free(members);
    return status;
}
