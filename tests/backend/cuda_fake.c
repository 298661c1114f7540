/* cuda_fake.c - libcuda.so.1 and libnvrtc.so.13 for tests: a GPU of two small multiprocessors.
 *
 * Built as those libraries into a folder that LD_LIBRARY_PATH names, so that everything above runs
 * as it does on a GPU: device memory is heap memory, filled with a pattern, and kernels run in
 * cuda_emulator.c.  Every call is counted, and a test can have any call fail:
 *
 *     fake_calls("cuMemAlloc_v2")              how often it was called
 *     fake_fail("cuLaunchKernelEx", 3, 700)    its third call from now on returns 700, once
 *     fake_free_bytes(n)                       what the device has free
 *
 * The environment says how large the GPU is: FAKE_GPU_BLOCKS multiprocessors, blocks of up to
 * FAKE_GPU_THREADS threads, up to 1024.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda_emulator.h"

#include "backend/cuda/stage.h"

#include <elf.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))

typedef unsigned long long address;
typedef void *handle;

enum { N_BLOCKS_HERE = 2, THREADS_HERE = 96, SHARED_HERE = 227 << 10, MAX_COUNTERS = 64 };

static int number_here(const char *name, int otherwise) {
    const char *wanted = getenv(name);
    return wanted ? atoi(wanted) : otherwise;
}

static int blocks_here(void) {
    return number_here("FAKE_GPU_BLOCKS", N_BLOCKS_HERE);
}

static int threads_here(void) {
    return number_here("FAKE_GPU_THREADS", THREADS_HERE);
}

typedef struct counter {
    char name[48];
    int calls, fail_in, fail_with;
} counter;

/* What a stream records is launches of kernels that take a cuda_world. */
typedef struct recorded {
    handle function;
    unsigned grid[3], block[3], shared;
    int cluster;
    cuda_world world;
} recorded;

enum { MAX_RECORDED = 512 };

typedef struct graph {
    int n;
    recorded launches[MAX_RECORDED];
} graph;

static graph *recording;

static counter counters[MAX_COUNTERS];
static size_t free_bytes = (size_t)1 << 30;
static size_t allocated;

static counter *counter_of(const char *name) {
    int i = 0;
    while (i < MAX_COUNTERS - 1 && counters[i].name[0] && strcmp(counters[i].name, name) != 0) i++;
    if (!counters[i].name[0]) snprintf(counters[i].name, sizeof counters[i].name, "%s", name);
    return &counters[i];
}

static int called(const char *name) {
    counter *c = counter_of(name);
    c->calls++;
    if (c->fail_in > 0 && --c->fail_in == 0) return c->fail_with;
    return 0;
}

EXPORT int fake_calls(const char *name);
EXPORT int fake_calls(const char *name) {
    return counter_of(name)->calls;
}

EXPORT void fake_fail(const char *name, int in, int with);
EXPORT void fake_fail(const char *name, int in, int with) {
    counter_of(name)->fail_in = in;
    counter_of(name)->fail_with = with;
}

EXPORT void fake_free_bytes(size_t bytes);
EXPORT void fake_free_bytes(size_t bytes) {
    free_bytes = bytes;
}

/* Bytes of the device and pinned memory that nobody has given back. */
EXPORT size_t fake_allocated(void);
EXPORT size_t fake_allocated(void) {
    return allocated;
}

#define CALLED                           \
    const int result = called(__func__); \
    if (result) return result

#define API(name, arguments)   \
    EXPORT int name arguments; \
    EXPORT int name arguments

API(cuInit, (unsigned flags)) {
    CALLED;
    return flags ? 1 : 0;
}

API(cuGetErrorName, (int result, const char **out)) {
    *out = result == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_FAKE";
    return 0;
}

API(cuDriverGetVersion, (int *out)) {
    CALLED;
    *out = 13000;
    return 0;
}

API(cuDeviceGetCount, (int *out)) {
    CALLED;
    *out = 1;
    return 0;
}

API(cuDeviceGet, (int *out, int ordinal)) {
    CALLED;
    *out = ordinal;
    return ordinal ? 101 : 0;
}

API(cuDeviceGetName, (char *out, int size, int device)) {
    CALLED;
    snprintf(out, (size_t)size, "emulated %d", device);
    return 0;
}

API(cuDeviceGetAttribute, (int *out, int attribute, int device)) {
    CALLED;
    (void)device;
    switch (attribute) {
    case 1: *out = threads_here(); return 0;
    case 16: *out = blocks_here(); return 0;
    case 75: *out = 9; return 0;
    case 76: *out = 0; return 0;
    case 95: *out = 1; return 0;
    case 97: *out = SHARED_HERE; return 0;
    default: return 1;
    }
}

API(cuDevicePrimaryCtxRetain, (handle * out, int device)) {
    CALLED;
    (void)device;
    *out = counters;
    return 0;
}

API(cuDevicePrimaryCtxRelease_v2, (int device)) {
    CALLED;
    return device;
}

API(cuCtxSetCurrent, (handle context)) {
    CALLED;
    return context == counters ? 0 : 201;
}

API(cuMemGetInfo_v2, (size_t * free_now, size_t *total)) {
    CALLED;
    *free_now = *total = free_bytes;
    return 0;
}

/* A block knows its size; what is behind it belongs to nobody. */
static void *take(size_t bytes, int value) {
    char *p = aligned_alloc(256, (bytes + 256 + 255) / 256 * 256);
    if (!p) return NULL;
    memcpy(p, &bytes, sizeof bytes);
    memset(p + 256, value, bytes);
    allocated += bytes;
    return p + 256;
}

static void give_back(void *p) {
    size_t bytes;
    memcpy(&bytes, (char *)p - 256, sizeof bytes);
    allocated -= bytes;
    free((char *)p - 256);
}

API(cuMemAlloc_v2, (address * out, size_t bytes)) {
    CALLED;
    *out = bytes <= free_bytes ? (address)(uintptr_t)take(bytes, 0xff) : 0;
    return *out ? 0 : 2;
}

API(cuMemFree_v2, (address at)) {
    CALLED;
    give_back((void *)(uintptr_t)at);
    return 0;
}

API(cuMemHostAlloc, (void **out, size_t bytes, unsigned flags)) {
    CALLED;
    (void)flags;
    *out = take(bytes, 0xff);
    return *out ? 0 : 2;
}

API(cuMemFreeHost, (void *at)) {
    CALLED;
    give_back(at);
    return 0;
}

API(cuMemcpyHtoDAsync_v2, (address to, const void *from, size_t bytes, handle stream)) {
    CALLED;
    if (recording) return 900; /* not while a stream records */
    (void)stream;
    memcpy((void *)(uintptr_t)to, from, bytes);
    return 0;
}

API(cuMemcpyDtoHAsync_v2, (void *to, address from, size_t bytes, handle stream)) {
    CALLED;
    if (recording) return 900; /* not while a stream records */
    (void)stream;
    memcpy(to, (const void *)(uintptr_t)from, bytes);
    return 0;
}

API(cuMemsetD8Async, (address to, unsigned char value, size_t bytes, handle stream)) {
    CALLED;
    if (recording) return 900; /* not while a stream records */
    (void)stream;
    memset((void *)(uintptr_t)to, value, bytes);
    return 0;
}

API(cuStreamCreate, (handle * out, unsigned flags)) {
    CALLED;
    (void)flags;
    *out = &allocated;
    return 0;
}

API(cuStreamDestroy_v2, (handle stream)) {
    CALLED;
    return stream == &allocated ? 0 : 400;
}

API(cuStreamWaitEvent, (handle stream, handle event, unsigned flags)) {
    CALLED;
    return event == &free_bytes && stream == &allocated && flags == 0 && !recording ? 0 : 400;
}

API(cuStreamSynchronize, (handle stream)) {
    CALLED;
    if (recording) return 900; /* not while a stream records */
    return stream == &allocated ? 0 : 400;
}

API(cuEventCreate, (handle * out, unsigned flags)) {
    CALLED;
    (void)flags;
    *out = &free_bytes;
    return 0;
}

API(cuEventDestroy_v2, (handle event)) {
    CALLED;
    return event == &free_bytes ? 0 : 400;
}

API(cuEventRecord, (handle event, handle stream)) {
    CALLED;
    return event == &free_bytes && stream == &allocated ? 0 : 400;
}

API(cuEventSynchronize, (handle event)) {
    CALLED;
    return event == &free_bytes ? 0 : 400;
}

typedef struct fake_image { /* an ELF file without sections, and the GPU it is for */
    Elf64_Ehdr file;
    char target[16];
} fake_image;

/* CUDA_ERROR_INVALID_IMAGE, CUDA_ERROR_NO_BINARY_FOR_GPU */
API(cuModuleLoadData, (handle * out, const void *image)) {
    CALLED;
    const fake_image *code = image;
    if (memcmp(code->file.e_ident, ELFMAG, SELFMAG) != 0 || code->file.e_shnum != 0) return 200;
    if (strcmp(code->target, "sm_90a") != 0) return 209;
    *out = counters;
    return 0;
}

API(cuModuleUnload, (handle module)) {
    CALLED;
    return module == counters ? 0 : 400;
}

/* A function is its name. */
API(cuModuleGetFunction, (handle * out, handle module, const char *name)) {
    CALLED;
    (void)module;
    *out = counter_of(name)->name;
    return 0;
}

API(cuFuncSetAttribute, (handle function, int attribute, int value)) {
    CALLED;
    (void)function;
    return attribute == 8 && value <= SHARED_HERE ? 0 : 1;
}

static int launch(handle function, const unsigned *grid, int cluster, const unsigned *block,
                  unsigned shared, void **arguments) {
    if (grid[1] != 1 || grid[2] != 1 || block[1] != 1 || block[2] != 1) return 1;
    if (shared > SHARED_HERE || (int)block[0] > threads_here()) return 1;
    return emulator_launch(function, (int)grid[0], cluster, (int)block[0], shared, arguments) ? 0
                                                                                              : 98;
}

typedef struct shape { /* CUlaunchConfig */
    unsigned grid[3], block[3], shared;
    handle stream;
    const int *attributes; /* of 18 words each */
    unsigned n_attributes;
} shape;

/* Blocks of a cluster, by the second attribute; 0: the attributes are not as they should be. */
static int cluster_of(const shape *s) {
    const int *cluster = s->attributes + 18;
    if (s->n_attributes > 0 && (s->attributes[0] != 6 || s->attributes[2] != 1)) return 0;
    if (s->n_attributes < 2) return 1;
    const bool is_right = s->n_attributes == 2 && cluster[0] == 4 && cluster[2] > 0 &&
                          cluster[2] <= 8 && cluster[3] == 1 && cluster[4] == 1 &&
                          s->grid[0] % (unsigned)cluster[2] == 0;
    return is_right ? cluster[2] : 0;
}

API(cuOccupancyMaxActiveClusters, (int *out, handle function, const shape *s)) {
    CALLED;
    const int cluster = cluster_of(s);
    *out = cluster && function ? blocks_here() / cluster : 0;
    return cluster ? 0 : 1;
}

API(cuLaunchKernelEx, (const shape *s, handle function, void **arguments, void **extra)) {
    CALLED;
    (void)extra;
    const int cluster = cluster_of(s);
    if (cluster == 0) return 1;
    if (recording) {
        if (recording->n == MAX_RECORDED) return 2;
        recorded *r = &recording->launches[recording->n++];
        r->function = function;
        r->shared = s->shared;
        r->cluster = cluster;
        memcpy(r->grid, s->grid, sizeof r->grid);
        memcpy(r->block, s->block, sizeof r->block);
        memcpy(&r->world, arguments[0], sizeof r->world);
        return 0;
    }
    return launch(function, s->grid, cluster, s->block, s->shared, arguments);
}

API(cuLaunchCooperativeKernel,
    (handle function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
     unsigned shared, handle stream, void **arguments)) {
    CALLED;
    (void)stream;
    if ((int)gx > blocks_here() || recording) return 720;
    return launch(function, (unsigned[]){gx, gy, gz}, 1, (unsigned[]){bx, by, bz}, shared,
                  arguments);
}

API(cuStreamBeginCapture_v2, (handle stream, int mode)) {
    CALLED;
    if (recording || stream != &allocated || mode != 1) return 901;
    recording = calloc(1, sizeof *recording);
    return recording ? 0 : 2;
}

/* A recording that is ended with an error is gone. */
API(cuStreamEndCapture, (handle stream, handle *out)) {
    graph *ended = recording;
    recording = NULL;
    *out = NULL;
    const int failed = called(__func__);
    if (failed || !ended || stream != &allocated) {
        free(ended);
        return failed ? failed : 901;
    }
    *out = ended;
    return 0;
}

API(cuGraphDestroy, (handle recorded_graph)) {
    CALLED;
    free(recorded_graph);
    return 0;
}

API(cuGraphInstantiateWithFlags, (handle * out, handle recorded_graph, unsigned long long flags)) {
    CALLED;
    const graph *from = recorded_graph;
    const size_t bytes = offsetof(graph, launches) + (size_t)from->n * sizeof from->launches[0];
    *out = flags ? NULL : take(bytes, 0);
    if (!*out) return 2;
    memcpy(*out, from, bytes);
    return 0;
}

API(cuGraphLaunch, (handle executable, handle stream)) {
    CALLED;
    const graph *g = executable;
    if (recording || stream != &allocated) return 901;
    for (int i = 0; i < g->n; i++) {
        const recorded *r = &g->launches[i];
        cuda_world world = r->world; /* a kernel may change its copy */
        void *arguments[] = {&world};
        const int failed = launch(r->function, r->grid, r->cluster, r->block, r->shared, arguments);
        if (failed) return failed;
    }
    return 0;
}

API(cuGraphExecDestroy, (handle executable)) {
    CALLED;
    give_back(executable);
    return 0;
}

/* ---- libnvrtc: takes any program and gives a name for it */

static char compiled_for[16];

API(nvrtcVersion, (int *major, int *minor)) {
    *major = 13;
    *minor = 0;
    return 0;
}

API(nvrtcGetNumSupportedArchs, (int *out)) {
    *out = 4;
    return 0;
}

API(nvrtcGetSupportedArchs, (int *out)) {
    memcpy(out, (const int[]){75, 80, 90, 120}, 4 * sizeof *out);
    return 0;
}

EXPORT const char *nvrtcGetErrorString(int result);
EXPORT const char *nvrtcGetErrorString(int result) {
    return result == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR_FAKE";
}

API(nvrtcCreateProgram, (void **out, const char *source, const char *name, int n,
                         const char *const *texts, const char *const *names)) {
    CALLED;
    (void)source, (void)name, (void)texts, (void)names;
    *out = counters;
    return n > 0 ? 0 : 3;
}

static int (*is_over)(void *, void *);
static void *over_user;

API(nvrtcSetFlowCallback, (void *program, int (*callback)(void *, void *), void *user)) {
    (void)program;
    is_over = callback;
    over_user = user;
    return 0;
}

API(nvrtcCompileProgram, (void *program, int n, const char *const *options)) {
    CALLED;
    (void)program;
    for (int i = 0; i < 10; i++) {
        if (is_over && is_over(over_user, NULL)) return 13;
    }
    static const char option[] = "--gpu-architecture=";
    if (n < 1 || strncmp(options[0], option, sizeof option - 1) != 0) return 5;
    snprintf(compiled_for, sizeof compiled_for, "%s", options[0] + sizeof option - 1);
    return 0;
}

static const char LOG[] = "weir.cu(3): error: the test wants it so\nmore\n";

API(nvrtcGetProgramLogSize, (void *program, size_t *out)) {
    (void)program;
    *out = sizeof LOG;
    return 0;
}

API(nvrtcGetProgramLog, (void *program, char *out)) {
    (void)program;
    memcpy(out, LOG, sizeof LOG);
    return 0;
}

API(nvrtcGetCUBINSize, (void *program, size_t *out)) {
    CALLED;
    (void)program;
    *out = sizeof(fake_image);
    return 0;
}

API(nvrtcGetCUBIN, (void *program, char *out)) {
    CALLED;
    (void)program;
    fake_image image = {.file = {.e_type = ET_EXEC, .e_machine = 190}};
    memcpy(image.file.e_ident, ELFMAG, SELFMAG);
    image.file.e_ident[EI_CLASS] = ELFCLASS64;
    image.file.e_ident[EI_DATA] = ELFDATA2LSB;
    memcpy(image.target, compiled_for, sizeof image.target);
    memcpy(out, &image, sizeof image);
    return 0;
}

API(nvrtcDestroyProgram, (void **program)) {
    CALLED;
    *program = NULL;
    return 0;
}
