/* driver.c - finds libcuda, fills the table, opens the first GPU.
 *
 * Test: tests/backend/test_cuda_host.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/driver.h"

#include "backend/backend.h"

#include <assert.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

enum { /* CUdevice_attribute */
       BLOCK_THREADS = 1,
       MULTIPROCESSORS = 16,
       MAJOR = 75,
       MINOR = 76,
       COOPERATIVE = 95,
       SHARED_OPTIN = 97,
};

enum { NO_DEVICE = 100 /* CUDA_ERROR_NO_DEVICE */ };

static const char LIBRARY[] = "libcuda.so.1";

weir_status cuda_driver_open(cuda_driver *out, weir_error *err) {
    *out = (cuda_driver){0};
    if (!(out->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL))) {
        return weir_fail(err, WEIR_ERR_DEVICE, "no GPU: %s not found", LIBRARY);
    }
    static const char *const symbols[] = {
#define X(name, symbol, arguments) symbol,
        CUDA_FUNCTIONS(X)
#undef X
    };
    /* the functions of the table, in the order of the list */
    void *found[COUNT_OF(symbols)];
    for (size_t i = 0; i < COUNT_OF(symbols); i++) {
        if (!(found[i] = dlsym(out->library, symbols[i]))) {
            cuda_driver_close(out);
            return weir_fail(err, WEIR_ERR_DEVICE, "no GPU: %s has no %s, a newer driver is needed",
                             LIBRARY, symbols[i]);
        }
    }
    size_t i = 0;
#define X(name, symbol, arguments) memcpy(&out->name, &found[i++], sizeof out->name);
    CUDA_FUNCTIONS(X)
#undef X
    assert(i == COUNT_OF(symbols));
    return WEIR_OK;
}

void cuda_driver_close(cuda_driver *d) {
    if (d->library) dlclose(d->library);
    *d = (cuda_driver){0};
}

bool cuda_is_here(void) {
    cuda_driver driver;
    int count = 0;
    if (cuda_driver_open(&driver, NULL) != WEIR_OK) return false;
    const bool is = driver.init(0) == 0 && driver.count(&count) == 0 && count > 0;
    cuda_driver_close(&driver);
    return is;
}

weir_status cuda_check(cuda_device *d, int result, const char *what, weir_error *err) {
    if (result == 0) return WEIR_OK;
    const char *name = NULL;
    d->driver->error_name(result, &name);
    if (result >= 700 && result < 800) d->failed = true; /* the context is lost */
    return weir_fail(err, result == 2 ? WEIR_ERR_MEMORY : WEIR_ERR_DEVICE,
                     "GPU %s: cuda %s failed: %s (%d)", d->name[0] ? d->name : "0", what,
                     name ? name : "unknown error", result);
}

static weir_status read_attributes(cuda_device *d, weir_error *err) {
    int cooperative;
    WEIR_TRY(CUDA_CALL(d, attribute, err, &d->major, MAJOR, d->ordinal));
    WEIR_TRY(CUDA_CALL(d, attribute, err, &d->minor, MINOR, d->ordinal));
    WEIR_TRY(CUDA_CALL(d, attribute, err, &d->n_blocks, MULTIPROCESSORS, d->ordinal));
    WEIR_TRY(CUDA_CALL(d, attribute, err, &d->shared_bytes, SHARED_OPTIN, d->ordinal));
    WEIR_TRY(CUDA_CALL(d, attribute, err, &d->most_threads, BLOCK_THREADS, d->ordinal));
    WEIR_TRY(CUDA_CALL(d, attribute, err, &cooperative, COOPERATIVE, d->ordinal));
    if (d->major < CUDA_OLDEST_MAJOR || !cooperative) {
        return weir_fail(err, WEIR_ERR_DEVICE,
                         "no GPU: %s has compute capability %d.%d, at least %d.0 is needed",
                         d->name, d->major, d->minor, CUDA_OLDEST_MAJOR);
    }
    return WEIR_OK;
}

weir_status cuda_device_open(cuda_device *out, const cuda_driver *driver, weir_error *err) {
    *out = (cuda_device){.driver = driver};
    int count = 0;
    const int result = driver->init(0);
    if (result == NO_DEVICE || (result == 0 && driver->count(&count) == 0 && count == 0)) {
        return weir_fail(err, WEIR_ERR_DEVICE, "no GPU: the driver knows none");
    }
    WEIR_TRY(cuda_check(out, result, "init", err));
    WEIR_TRY(CUDA_CALL(out, device, err, &out->ordinal, 0));
    WEIR_TRY(CUDA_CALL(out, name, err, out->name, (int)sizeof out->name, out->ordinal));
    WEIR_TRY(read_attributes(out, err));
    WEIR_TRY(CUDA_CALL(out, retain, err, &out->context, out->ordinal));
    WEIR_TRY(cuda_device_enter(out, err));
    WEIR_TRY(CUDA_CALL(out, memory_info, err, &out->free_bytes, &out->total_bytes));
    WEIR_TRY(CUDA_CALL(out, stream_open, err, &out->stream, 1 /* waits for no other stream */));
    return CUDA_CALL(out, stream_open, err, &out->copies, 1);
}

void cuda_device_close(cuda_device *d) {
    if (!d->driver || !d->context) return;
    d->driver->set_current(d->context);
    if (d->copies) d->driver->stream_close(d->copies);
    if (d->stream) d->driver->stream_close(d->stream);
    d->driver->release(d->ordinal);
    *d = (cuda_device){0};
}

weir_status cuda_device_enter(cuda_device *d, weir_error *err) {
    if (d->failed) {
        return weir_fail(err, WEIR_ERR_DEVICE, "GPU %s: failed before, open the model again",
                         d->name);
    }
    return CUDA_CALL(d, set_current, err, d->context);
}
