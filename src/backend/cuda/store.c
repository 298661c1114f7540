/* store.c - rows of the device's store, for snapshots and for pinning.
 *
 * Rows go through the record, a region of the device laid out for them, and through pinned memory,
 * as many at a time as fit.
 *
 * Test: tests/backend/test_cuda_host.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"

#include <assert.h>
#include <string.h>

static weir_status launch_copy(cuda *c, cuda_handle kernel, cuda_copy *copy, weir_error *err) {
    void *arguments[] = {&c->layout.world, copy};
    return cuda_launch(c, kernel, c->device.n_blocks, c->n_threads, 0, arguments, err);
}

weir_status cuda_pin_row(backend *b, int slot, uint64_t pos, int pin, weir_error *err) {
    cuda *c = cuda_of(b);
    cuda_copy copy = {.slot = slot,
                      .row = (int)(pos % (uint64_t)c->layout.world.ring),
                      .pin = pin,
                      .turn = (uint64_t)pin - pos};
    assert(pin >= 0 && pin < c->layout.kv.shape.pins);
    WEIR_TRY(cuda_device_enter(&c->device, err));
    WEIR_TRY(launch_copy(c, c->pin_row, &copy, err));
    return CUDA_CALL(&c->device, synchronize, err, c->device.stream);
}

size_t cuda_row_bytes(const backend *b, bool is_pin) {
    return kv_row_bytes(&((const cuda *)(const void *)b)->layout.kv, is_pin);
}

/* Moves n rows that fit the record; `host` is pinned. */
static weir_status move_some(cuda *c, cuda_copy *copy, char *host, size_t bytes, weir_error *err) {
    cuda_device *d = &c->device;
    if (!copy->exporting) {
        WEIR_TRY(CUDA_CALL(d, write, err, c->layout.record, host, bytes, d->stream));
    }
    WEIR_TRY(launch_copy(c, c->copy_rows, copy, err));
    if (copy->exporting) {
        WEIR_TRY(CUDA_CALL(d, read, err, host, c->layout.record, bytes, d->stream));
    }
    return CUDA_CALL(d, synchronize, err, d->stream);
}

static weir_status move_rows(cuda *c, cuda_copy copy, int n, char *out, const char *in,
                             weir_error *err) {
    const size_t row_bytes = kv_row_bytes(&c->layout.kv, copy.is_pin);
    const int most = (int)MIN_OF(c->layout.record_bytes / row_bytes, 1 << 20);
    assert(most > 0);
    assert(copy.slot >= 0 && copy.slot < c->layout.kv.shape.slots && copy.row >= 0);
    WEIR_TRY(cuda_device_enter(&c->device, err));
    copy.record = c->layout.record;
    copy.exporting = out != NULL;
    for (int done = 0; done < n; done += copy.n) {
        copy.n = MIN_OF(n - done, most);
        const size_t at = (size_t)done * row_bytes, bytes = (size_t)copy.n * row_bytes;
        if (in) memcpy(c->staging[0], in + at, bytes);
        WEIR_TRY(move_some(c, &copy, c->staging[0], bytes, err));
        if (out) memcpy(out + at, c->staging[0], bytes);
        copy.row += copy.n;
        if (!copy.is_pin) copy.row %= c->layout.world.ring;
    }
    return WEIR_OK;
}

weir_status cuda_export_rows(backend *b, int slot, bool is_pin, int row, int n, void *out,
                             weir_error *err) {
    const cuda_copy copy = {.slot = slot, .is_pin = is_pin, .row = row};
    return move_rows(cuda_of(b), copy, n, out, NULL, err);
}

weir_status cuda_import_rows(backend *b, int slot, bool is_pin, int row, int n, const void *in,
                             weir_error *err) {
    const cuda_copy copy = {.slot = slot, .is_pin = is_pin, .row = row};
    return move_rows(cuda_of(b), copy, n, NULL, in, err);
}
