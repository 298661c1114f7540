/* measure.c - times the yardsticks of kernels/measure.cu.
 *
 * What is read is the memory that the back end has, where that is much more than the caches hold,
 * and memory borrowed for the moment otherwise.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"

#include "base/machine.h"

#include <assert.h>

enum {
    SLOTS = 3,
    SLOT_BYTES = 8 << 10,
    LAUNCHES = 6,
    MULTIPLIERS = 256,
    ROUNDS = 4, /* of the first launch that multiplies */
    STAGE_BYTES = MEASURE_TOKENS * 128,
    ROUND_FLOPS = MEASURE_STEPS * 16 * MEASURE_TOKENS * 16 * 2 /* of a warp */
};

static const size_t ENOUGH = (size_t)1 << 30, BORROWED = (size_t)2 << 30;
static const double LAUNCH_SECONDS = 0.02; /* so that starting one does not count */

/* Seconds of one launch. */
static weir_status run(cuda *c, cuda_handle kernel, cuda_measure *m, int n_threads,
                       int shared_bytes, double *seconds, weir_error *err) {
    void *arguments[] = {m};
    const double start = machine_clock();
    WEIR_TRY(cuda_launch(c, kernel, c->device.n_blocks, n_threads, shared_bytes, arguments, err));
    WEIR_TRY(CUDA_CALL(&c->device, synchronize, err, c->device.stream));
    *seconds = machine_clock() - start;
    return WEIR_OK;
}

/* How often `count` fits into a launch that is long enough. */
static int longer(int count, double seconds) {
    assert(count > 0 && seconds > 0);
    const double times = LAUNCH_SECONDS / seconds;
    return times > 1 ? (int)(count * MIN_OF(times, 1e4)) : count;
}

static weir_status read_memory(cuda *c, cuda_measure m, double *rate, weir_error *err) {
    const int warps = c->n_threads / 32;
    assert(warps > 0 && c->device.n_blocks > 0);
    const int room = c->device.shared_bytes - warps * SLOTS * 8;
    m.slots = SLOTS;
    m.slot_bytes = MIN_OF((int)SLOT_BYTES, room / (warps * SLOTS) / 1024 * 1024);
    assert(m.slot_bytes >= 1024);
    m.gates = warps * SLOTS * m.slot_bytes;
    const int shared_bytes = m.gates + warps * SLOTS * 8;
    cuda_handle kernel;
    WEIR_TRY(cuda_load(c, &kernel, "measure_read", shared_bytes, err));
    const size_t stride = (size_t)c->device.n_blocks * (size_t)warps * (size_t)m.slot_bytes;
    const size_t bytes = (size_t)m.bytes;
    m.bytes = bytes / stride * stride;
    m.passes = 1;
    if (m.bytes == 0) {
        return weir_fail(err, WEIR_ERR_MEMORY,
                         "GPU %s: %zu bytes are free, too few to measure with", c->device.name,
                         2 * bytes);
    }
    for (int i = 0; i < LAUNCHES; i++) {
        double seconds;
        WEIR_TRY(run(c, kernel, &m, c->n_threads, shared_bytes, &seconds, err));
        *rate = MAX_OF(*rate, (double)m.bytes * m.passes / seconds);
        if (i == 0) m.passes = longer(1, seconds);
    }
    return WEIR_OK;
}

static weir_status multiply(cuda *c, cuda_measure m, double *rate, weir_error *err) {
    cuda_handle kernel;
    WEIR_TRY(cuda_load(c, &kernel, "measure_multiply", STAGE_BYTES, err));
    const int n_threads = MIN_OF(MULTIPLIERS, c->device.most_threads); /* whole warp groups */
    const double warps = (double)c->device.n_blocks * (n_threads / 32);
    m.rounds = ROUNDS;
    for (int i = 0; i < LAUNCHES; i++) {
        double seconds;
        WEIR_TRY(run(c, kernel, &m, n_threads, STAGE_BYTES, &seconds, err));
        *rate = MAX_OF(*rate, warps * m.rounds * ROUND_FLOPS / seconds);
        m.rounds = longer(m.rounds, seconds);
    }
    return WEIR_OK;
}

weir_status cuda_measure_rates(backend *b, weir_rates *out, weir_error *err) {
    cuda *c = cuda_of(b);
    *out = (weir_rates){0};
    WEIR_TRY(cuda_device_enter(&c->device, err));
    cuda_measure m = {.memory = c->memory, .bytes = c->layout.bytes};
    cuda_address borrowed = 0;
    if (m.bytes < ENOUGH) {
        size_t left, total;
        WEIR_TRY(CUDA_CALL(&c->device, memory_info, err, &left, &total));
        m.bytes = MIN_OF(BORROWED, left / 2);
        WEIR_TRY(CUDA_CALL(&c->device, allocate, err, &borrowed, m.bytes));
        m.memory = borrowed;
    }
    weir_status status = read_memory(c, m, &out->read_bytes_per_second, err);
    if (status == WEIR_OK) status = multiply(c, m, &out->flops_per_second, err);
    if (borrowed) c->device.driver->free(borrowed);
    return status;
}
