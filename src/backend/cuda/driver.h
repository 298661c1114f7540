/* driver.h - the CUDA driver, opened at run time: no toolkit, headers or library to build with.
 *
 *     cuda_driver driver;
 *     WEIR_TRY(cuda_driver_open(&driver, err));        "no GPU: libcuda.so.1 not found"
 *     WEIR_TRY(cuda_device_open(&device, &driver, err));
 *     WEIR_TRY(CUDA_CALL(&device, launch, err, ...));
 *
 * The table is all the back end knows of the driver, so tests bring a libcuda.so.1 of their own
 * that runs the kernels on the CPU (tests/backend/cuda_emulator.c).  The few types are the driver's
 * ABI: handles are pointers, devices, results and attributes ints, device addresses 64 bit.
 *
 * An error of the driver after which nothing works any more (a kernel that faulted) marks the
 * device failed, and every later call fails at once.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/cuda/stage.h"
#include "base/status.h"

enum { CUDA_OLDEST_MAJOR = 8 }; /* of compute capability */

typedef void *cuda_handle; /* context, stream, module or function */

typedef struct cuda_attribute { /* of a launch */
    int id, unused;
    int value[16];
} cuda_attribute;

typedef struct cuda_launch_shape {
    unsigned grid[3], block[3], shared;
    cuda_handle stream;
    const cuda_attribute *attributes;
    unsigned n_attributes;
} cuda_launch_shape;

/* X(name, symbol, arguments) */
#define CUDA_FUNCTIONS(X)                                                                         \
    X(init, "cuInit", (unsigned flags))                                                           \
    X(error_name, "cuGetErrorName", (int result, const char **out))                               \
    X(version, "cuDriverGetVersion", (int *out))                                                  \
    X(count, "cuDeviceGetCount", (int *out))                                                      \
    X(device, "cuDeviceGet", (int *out, int ordinal))                                             \
    X(name, "cuDeviceGetName", (char *out, int size, int device))                                 \
    X(attribute, "cuDeviceGetAttribute", (int *out, int attribute, int device))                   \
    X(retain, "cuDevicePrimaryCtxRetain", (cuda_handle * out, int device))                        \
    X(release, "cuDevicePrimaryCtxRelease_v2", (int device))                                      \
    X(set_current, "cuCtxSetCurrent", (cuda_handle context))                                      \
    X(memory_info, "cuMemGetInfo_v2", (size_t * free_bytes, size_t * total_bytes))                \
    X(allocate, "cuMemAlloc_v2", (cuda_address * out, size_t bytes))                              \
    X(free, "cuMemFree_v2", (cuda_address at))                                                    \
    X(allocate_host, "cuMemHostAlloc", (void **out, size_t bytes, unsigned flags))                \
    X(free_host, "cuMemFreeHost", (void *at))                                                     \
    X(write, "cuMemcpyHtoDAsync_v2",                                                              \
      (cuda_address to, const void *from, size_t bytes, cuda_handle stream))                      \
    X(read, "cuMemcpyDtoHAsync_v2",                                                               \
      (void *to, cuda_address from, size_t bytes, cuda_handle stream))                            \
    X(fill, "cuMemsetD8Async",                                                                    \
      (cuda_address to, unsigned char value, size_t bytes, cuda_handle stream))                   \
    X(stream_open, "cuStreamCreate", (cuda_handle * out, unsigned flags))                         \
    X(stream_close, "cuStreamDestroy_v2", (cuda_handle stream))                                   \
    X(stream_wait, "cuStreamWaitEvent", (cuda_handle stream, cuda_handle event, unsigned flags))  \
    X(synchronize, "cuStreamSynchronize", (cuda_handle stream))                                   \
    X(event_open, "cuEventCreate", (cuda_handle * out, unsigned flags))                           \
    X(event_close, "cuEventDestroy_v2", (cuda_handle event))                                      \
    X(event_record, "cuEventRecord", (cuda_handle event, cuda_handle stream))                     \
    X(event_wait, "cuEventSynchronize", (cuda_handle event))                                      \
    X(module_open, "cuModuleLoadData", (cuda_handle * out, const void *image))                    \
    X(module_close, "cuModuleUnload", (cuda_handle module))                                       \
    X(function, "cuModuleGetFunction", (cuda_handle * out, cuda_handle module, const char *name)) \
    X(set_attribute, "cuFuncSetAttribute", (cuda_handle function, int attribute, int value))      \
    X(launch, "cuLaunchKernelEx",                                                                 \
      (const cuda_launch_shape *shape, cuda_handle function, void **arguments, void **extra))     \
    X(count_clusters, "cuOccupancyMaxActiveClusters",                                             \
      (int *out, cuda_handle function, const cuda_launch_shape *shape))                           \
    X(record_begin, "cuStreamBeginCapture_v2", (cuda_handle stream, int mode))                    \
    X(record_end, "cuStreamEndCapture", (cuda_handle stream, cuda_handle * out))                  \
    X(recording_close, "cuGraphDestroy", (cuda_handle recording))                                 \
    X(graph_open, "cuGraphInstantiateWithFlags",                                                  \
      (cuda_handle * out, cuda_handle recording, unsigned long long flags))                       \
    X(graph_launch, "cuGraphLaunch", (cuda_handle graph, cuda_handle stream))                     \
    X(graph_close, "cuGraphExecDestroy", (cuda_handle graph))                                     \
    X(launch_together, "cuLaunchCooperativeKernel",                                               \
      (cuda_handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,     \
       unsigned bz, unsigned shared, cuda_handle stream, void **arguments))

typedef struct cuda_driver {
    void *library;
#define X(name, symbol, arguments) int(*name) arguments;
    CUDA_FUNCTIONS(X)
#undef X
} cuda_driver;

weir_status cuda_driver_open(cuda_driver *out, weir_error *err);
void cuda_driver_close(cuda_driver *d); /* accepts an all-zero or half-made one */

typedef struct cuda_device { /* the first GPU, its context, and a stream beside that of the work */
    const cuda_driver *driver;
    int ordinal;
    cuda_handle context, stream, copies;
    char name[96];
    int major, minor; /* compute capability */
    int n_blocks;     /* multiprocessors */
    int shared_bytes; /* a block may have */
    int most_threads; /* a block may have */
    size_t free_bytes, total_bytes;
    bool failed;
} cuda_device;

weir_status cuda_device_open(cuda_device *out, const cuda_driver *d, weir_error *err);
void cuda_device_close(cuda_device *d); /* accepts a half-open one */

/* Every thread that calls the driver must have made the context its own. */
weir_status cuda_device_enter(cuda_device *d, weir_error *err);

/* Turns a result of the driver into a status; `what` is the function's symbol. */
weir_status cuda_check(cuda_device *d, int result, const char *what, weir_error *err);

#define CUDA_CALL(device, name, err, ...) \
    cuda_check((device), (device)->driver->name(__VA_ARGS__), #name, (err))
