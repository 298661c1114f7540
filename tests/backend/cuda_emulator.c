/* cuda_emulator.c - coroutines for threads: launches of the kernels on the CPU.
 *
 * cuda_fake.c is the driver in front of it.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "backend/cuda_emulator.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>

/* The kernels are checked by NVRTC under the rules of CUDA C. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wfloat-conversion"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wint-to-pointer-cast"
#pragma GCC diagnostic ignored "-Wstringop-overflow" /* d.most <= FEW_QUADS */
#include "backend/cuda/kernels/attend_many.cu"
#include "backend/cuda/kernels/walk.cu"

#include "backend/cuda/kernels/draw.cu"
#include "backend/cuda/kernels/rows.cu"
#include "backend/cuda/kernels/spread.cu"
#include "backend/cuda/kernels/wide.cu"

#include "backend/cuda/kernels/measure.cu"
#pragma GCC diagnostic pop

enum { STACK = 64 << 10, MAX_THREADS = 16384 };

typedef struct meeting { /* of a block, of some of its warps, of a warp or of a cluster */
    int here, ended;
    unsigned round;
} meeting;

typedef struct coroutine {
    emulated self;
    jmp_buf at;
    bool started, done, spins;
    const meeting *awaited; /* it goes on when this is no longer in round `round` */
    unsigned round;
} coroutine;

typedef struct launch {
    void (*run)(void **arguments);
    void **arguments;
    int n_blocks, cluster, n_threads, n_alive;
    coroutine *threads; /* [n_blocks * n_threads] */
    meeting *blocks;    /* [n_blocks] */
    meeting *some;      /* [n_blocks] */
    meeting *clusters;  /* [n_blocks / cluster] */
    meeting *warps;     /* [n_blocks * n_threads / 32] */
    char *stacks;
    int now;
    jmp_buf out;
} launch;

emulated *emulator_now;
static launch *running;

void emulator_fail(const char *what) {
    fprintf(stderr, "emulated GPU: block %d, thread %d: %s\n", emulator_now->block,
            emulator_now->thread, what);
    abort();
}

/* All that have not ended have arrived. */
static void settle_cluster(meeting *m) {
    if (m->here == 0 || m->here + m->ended < running->cluster * running->n_threads) return;
    m->here = 0;
    m->round++;
}

static meeting *cluster_of(int i) {
    return &running->clusters[i / running->n_threads / running->cluster];
}

static meeting *block_of(int i) {
    return &running->blocks[i / running->n_threads];
}

/* One thread less will come; those that are there wait in vain. */
static void leave(meeting *m) {
    if (m->here > 0) emulator_fail("ends where others wait for it");
    m->ended++;
}

static void body(void) {
    running->run(running->arguments);
    running->threads[running->now].done = true;
    cluster_of(running->now)->ended++;
    settle_cluster(cluster_of(running->now));
    leave(block_of(running->now));
    leave(&running->warps[running->now / 32]);
    running->n_alive--;
    _longjmp(running->out, 1);
}

/* Runs thread i until it yields or ends. */
static void resume(int i) {
    launch *l = running;
    l->now = i;
    coroutine *c = &l->threads[i];
    emulator_now = &c->self;
    if (_setjmp(l->out)) return;
    if (c->started) _longjmp(c->at, 1);
    c->started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = l->stacks + (size_t)i * STACK;
    context.uc_stack.ss_size = STACK;
    context.uc_link = NULL;
    makecontext(&context, body, 0);
    setcontext(&context);
}

static void yield_now(void) {
    if (!_setjmp(running->threads[running->now].at)) _longjmp(running->out, 1);
}

void emulator_spin(void) {
    running->threads[running->now].spins = true;
    yield_now();
}

/* Until a meeting is no longer in a round. */
static void await_round(const meeting *m, unsigned round) {
    coroutine *c = &running->threads[running->now];
    c->awaited = m;
    c->round = round;
    while (m->round == round) yield_now();
    c->awaited = NULL;
}

static bool is_held_up(const coroutine *c) {
    return c->done || (c->awaited && c->awaited->round == c->round);
}

/* Waits for the others; those that have ended would never come. */
static void meet(meeting *m, int n) {
    if (m->ended > 0) emulator_fail("waits for a thread that has ended");
    const unsigned round = m->round;
    if (++m->here == n) {
        m->here = 0;
        m->round++;
        return;
    }
    await_round(m, round);
}

void emulator_meet_block(void) {
    meet(block_of(running->now), running->n_threads);
}

void emulator_meet_some(int n) {
    if (emulator_now->thread >= n) emulator_fail("meets threads before it");
    meet(&running->some[running->now / running->n_threads], n);
}

void emulator_cluster_arrive(void) {
    meeting *m = cluster_of(running->now);
    emulator_now->cluster_round = (int)m->round;
    m->here++;
    settle_cluster(m);
}

void emulator_cluster_wait(void) {
    await_round(cluster_of(running->now), (unsigned)emulator_now->cluster_round);
}

void emulator_meet_warp(void) {
    meet(&running->warps[running->now / 32], 32);
}

static void run_walk(void **arguments) {
    walk(*(const cuda_world *)arguments[0]);
}

static void run_walk_one(void **arguments) {
    walk_one(*(const cuda_world *)arguments[0]);
}

#define RUN(kernel)                                \
    static void run_##kernel(void **arguments) {   \
        kernel(*(const cuda_world *)arguments[0]); \
    }
RUN(draw)
RUN(attend_tiles)
RUN(attend_parts_4)
RUN(attend_parts_8)
RUN(attend_parts_16)
RUN(prepare)
RUN(spread)
RUN(wide_16)
RUN(wide_32)
RUN(wide_64)
RUN(wide_128)
RUN(wide_256)
#undef RUN

static void run_copy_rows(void **arguments) {
    copy_rows(*(const cuda_world *)arguments[0], *(const cuda_copy *)arguments[1]);
}

static void run_pin_row(void **arguments) {
    pin_row(*(const cuda_world *)arguments[0], *(const cuda_copy *)arguments[1]);
}

static void run_measure_read(void **arguments) {
    measure_read(*(const cuda_measure *)arguments[0]);
}

static void run_measure_multiply(void **arguments) {
    measure_multiply(*(const cuda_measure *)arguments[0]);
}

static void (*find(const char *kernel))(void **) {
    if (strcmp(kernel, "walk") == 0) return run_walk;
    if (strcmp(kernel, "walk_one") == 0) return run_walk_one;
    if (strcmp(kernel, "attend_tiles") == 0) return run_attend_tiles;
    if (strcmp(kernel, "attend_parts_4") == 0) return run_attend_parts_4;
    if (strcmp(kernel, "attend_parts_8") == 0) return run_attend_parts_8;
    if (strcmp(kernel, "attend_parts_16") == 0) return run_attend_parts_16;
    if (strcmp(kernel, "prepare") == 0) return run_prepare;
    if (strcmp(kernel, "spread") == 0) return run_spread;
    if (strcmp(kernel, "wide_16") == 0) return run_wide_16;
    if (strcmp(kernel, "wide_32") == 0) return run_wide_32;
    if (strcmp(kernel, "wide_64") == 0) return run_wide_64;
    if (strcmp(kernel, "wide_128") == 0) return run_wide_128;
    if (strcmp(kernel, "wide_256") == 0) return run_wide_256;
    if (strcmp(kernel, "draw") == 0) return run_draw;
    if (strcmp(kernel, "copy_rows") == 0) return run_copy_rows;
    if (strcmp(kernel, "pin_row") == 0) return run_pin_row;
    if (strcmp(kernel, "measure_read") == 0) return run_measure_read;
    if (strcmp(kernel, "measure_multiply") == 0) return run_measure_multiply;
    return NULL;
}

/* Runs a warp until its threads have ended, wait for others, or ask whether others are done. False:
 * all have ended or wait, so none ran. */
static bool run_warp(int first) {
    bool ran = false;
    for (bool goes_on = true; goes_on;) {
        goes_on = false;
        for (int i = first; i < first + 32; i++) {
            coroutine *c = &running->threads[i];
            if (is_held_up(c)) continue;
            c->spins = false;
            resume(i);
            ran = true;
            if (!c->spins) goes_on = true;
        }
    }
    return ran;
}

/* The first warp runs first and last by turns, so that what a barrier is missing for comes before
 * as well as behind. */
static void run_all(void) {
    const int last = running->n_blocks * running->n_threads - 32;
    for (bool turn = false; running->n_alive > 0; turn = !turn) {
        bool ran = false;
        for (int i = 0; i <= last; i += 32) ran |= run_warp(turn ? last - i : i);
        if (!ran) emulator_fail("all threads wait for each other");
    }
}

bool emulator_launch(const char *kernel, int n_blocks, int cluster, int n_threads,
                     size_t shared_size, void **arguments) {
    const int n = n_blocks * n_threads;
    const size_t shared_step = (shared_size + 127) / 128 * 128;
    launch l = {.run = find(kernel),
                .arguments = arguments,
                .n_blocks = n_blocks,
                .cluster = cluster,
                .n_threads = n_threads,
                .n_alive = n};
    if (!l.run || n > MAX_THREADS || n_threads % 32 || n_blocks % cluster) return false;
    l.threads = calloc((size_t)n, sizeof *l.threads);
    l.blocks = calloc((size_t)n_blocks, sizeof *l.blocks);
    l.some = calloc((size_t)n_blocks, sizeof *l.some);
    l.clusters = calloc((size_t)(n_blocks / cluster), sizeof *l.clusters);
    l.warps = calloc((size_t)n / 32, sizeof *l.warps);
    l.stacks = mmap(NULL, (size_t)n * STACK, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *shared = aligned_alloc(128, (size_t)n_blocks * shared_step);
    u32 *exchange = calloc((size_t)n * 8, sizeof *exchange);
    memset(shared, 0x7f, (size_t)n_blocks * shared_step);
    for (int i = 0; i < n; i++) {
        l.threads[i].self = (emulated){.thread = i % n_threads,
                                       .block = i / n_threads,
                                       .n_threads = n_threads,
                                       .n_blocks = n_blocks,
                                       .cluster = cluster,
                                       .shared_step = shared_step,
                                       .shared = shared + (size_t)(i / n_threads) * shared_step,
                                       .exchange = exchange + (size_t)(i / 32) * 256};
    }
    running = &l;
    run_all();
    running = NULL;
    free(l.threads);
    free(l.blocks);
    free(l.some);
    free(l.clusters);
    free(l.warps);
    munmap(l.stacks, (size_t)n * STACK);
    free(shared);
    free(exchange);
    return true;
}
