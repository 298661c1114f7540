/* graph.c - the launches of a step, recorded when its shape comes again and then replayed as one.
 *
 *     world of a step --not seen--> launch
 *                     --seen------> record the launches, replay
 *                     --recorded--> replay
 *                     --failed----> launch: a driver without memory for a graph stops nobody
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

/* Nothing runs while a stream records, and it records until it is told to stop.  Where anything
 * fails the shape has no launches, and is launched from then on. */
static void record(cuda *c, cuda_graph *g, const batch *b, cuda_world *w) {
    cuda_device *d = &c->device;
    cuda_handle recorded = NULL;
    g->failed = true;
    if (d->driver->record_begin(d->stream, THREAD_LOCAL) != 0) return;
    const weir_status status = cuda_run_stages(c, b, w, NULL);
    const int ended = d->driver->record_end(d->stream, &recorded);
    if (status == WEIR_OK && ended == 0) {
        g->failed = d->driver->graph_open(&g->launches, recorded, 0) != 0;
    }
    if (g->failed) g->launches = NULL;
    if (recorded) d->driver->recording_close(recorded);
}

weir_status cuda_replay(cuda *c, const batch *b, cuda_world *w, weir_error *err) {
    cuda_graph *g = find(c, w);
    const bool is_new = g->used == 0;
    g->used = ++c->n_replays;
    if (is_new) {
        memcpy(&g->world, w, sizeof *w); /* with what lies between its members */
        return cuda_run_stages(c, b, w, err);
    }
    if (!g->launches && !g->failed) {
        record(c, g, b, w);
        memcpy(w, &g->world, sizeof *w); /* launches set some of it */
    }
    if (g->failed) return cuda_run_stages(c, b, w, err);
    return CUDA_CALL(&c->device, graph_launch, err, g->launches, c->device.stream);
}
