/* graph.c - the launches of a step, recorded when its shape comes again and then replayed as one.
 *
 *     world of a step --not seen--> launch
 *                     --seen------> record the launches, replay
 *                     --recorded--> replay
 *
 * What differs between steps of a shape lies in device memory, in the block that upload_step
 * copies, so kernels get the same argument, and the world before the first launch is the key.  A
 * few shapes are kept, the one unused for longest goes.
 *
 * Test: tests/backend/test_cuda_host.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"

#include <assert.h>
#include <string.h>

enum { THREAD_LOCAL = 1 /* CU_STREAM_CAPTURE_MODE_THREAD_LOCAL */ };

static void forget(cuda *c, cuda_graph *g) {
    if (g->launches) c->device.driver->graph_close(g->launches);
    *g = (cuda_graph){0};
}

void cuda_forget_graphs(cuda *c) {
    for (int i = 0; i < CUDA_GRAPHS; i++) forget(c, &c->graphs[i]);
}

/* The place of this shape: it has its world when it was seen before. */
static cuda_graph *find(cuda *c, const cuda_world *w) {
    cuda_graph *oldest = &c->graphs[0];
    for (int i = 0; i < CUDA_GRAPHS; i++) {
        cuda_graph *g = &c->graphs[i];
        if (g->used && memcmp(&g->world, w, sizeof *w) == 0) return g;
        if (g->used < oldest->used) oldest = g;
    }
    forget(c, oldest);
    return oldest;
}

/* Nothing runs while a stream records, and it records until it is told to stop. */
static weir_status record(cuda *c, cuda_graph *g, const batch *b, cuda_world *w, weir_error *err) {
    cuda_device *d = &c->device;
    cuda_handle recorded = NULL;
    WEIR_TRY(CUDA_CALL(d, record_begin, err, d->stream, THREAD_LOCAL));
    weir_status status = cuda_run_stages(c, b, w, err);
    const int ended = d->driver->record_end(d->stream, &recorded);
    if (status == WEIR_OK) status = cuda_check(d, ended, "record_end", err);
    if (status == WEIR_OK) status = CUDA_CALL(d, graph_open, err, &g->launches, recorded, 0);
    if (recorded) d->driver->recording_close(recorded);
    return status;
}

weir_status cuda_replay(cuda *c, const batch *b, cuda_world *w, weir_error *err) {
    cuda_graph *g = find(c, w);
    const bool is_new = g->used == 0;
    g->used = ++c->n_replays;
    if (is_new) {
        memcpy(&g->world, w, sizeof *w); /* with what lies between its members */
        return cuda_run_stages(c, b, w, err);
    }
    if (!g->launches) WEIR_TRY(record(c, g, b, w, err));
    return CUDA_CALL(&c->device, graph_launch, err, g->launches, c->device.stream);
}
