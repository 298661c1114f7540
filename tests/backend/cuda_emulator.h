/* cuda_emulator.h - machine.cuh for a CPU: kernels run as coroutines, one for each GPU thread.
 *
 * All blocks of a launch are alive together, as those of a cooperative launch are.  A thread runs
 * until it meets others (a barrier, a shuffle, a matrix instruction, a spin); then the next one of
 * its warp goes on, when all of that wait the next warp, and when all have met, they pass.  So
 * kernels are tested where no GPU is: what they compute and how they meet, not how fast, nor that
 * what they left unordered is in order.
 *
 * cuda_emulator.c includes the kernels themselves.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/half.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WEIR_EMULATED 1

typedef uint8_t u8;
typedef int8_t s8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;

typedef struct emulated { /* the running thread */
    int thread, block, n_threads, n_blocks, block_y;
    int cluster, cluster_round; /* blocks of its cluster; the meeting it has arrived at */
    size_t shared_step;         /* from a block's shared memory to the next one's */
    char *shared;
    u32 *exchange; /* [32][8] words of its warp */
    struct {       /* copies that were started, not seen yet */
        char *to;
        const char *from;
        unsigned group;
        int bytes;
    } copies[512];
    int n_copies;
    unsigned groups;
} emulated;

extern emulated *emulator_now; /* tests only: the library has no such variable */

void emulator_meet_block(void);
void emulator_meet_warp(void);
void emulator_meet_some(int n); /* threads from 0 on of a block */
void emulator_cluster_arrive(void);
void emulator_cluster_wait(void);
void emulator_spin(void);
void emulator_fail(const char *what);

#define DEVICE        static inline
#define COLD          static
#define WALK          DEVICE
#define world_of      cuda_world
#define KERNEL        static void
#define KERNEL_WALK   static void
#define KERNEL_WIDE   static void
#define KERNEL_1024   static void
#define KERNEL_SPREAD static void
#define KERNEL_PART   static void
#define PARAM         const
#define UNROLL
#define UNROLL_NOT
#define UNROLL_4
#define UNROLL_8
#define THREAD       (emulator_now->thread)
#define LANE         (emulator_now->thread % 32)
#define WARP         (emulator_now->thread / 32)
#define N_THREADS    (emulator_now->n_threads)
#define N_WARPS      (emulator_now->n_threads / 32)
#define BLOCK        (emulator_now->block)
#define BLOCK_Y      (emulator_now->block_y)
#define N_BLOCKS     (emulator_now->n_blocks)
#define shared_bytes (emulator_now->shared)

DEVICE void know_threads(int n) {
    (void)n;
    assert(N_THREADS == n);
}

DEVICE void block_sync(void) {
    emulator_meet_block();
}

DEVICE int fresh(int x) {
    return x;
}

DEVICE void warp_sync(void) {
    emulator_meet_warp();
}

DEVICE float shuffle_xor(float x, int mask) {
    u32 *all = emulator_now->exchange;
    all[LANE * 8] = float_bits(x);
    emulator_meet_warp();
    const float other = bits_float(all[(LANE ^ mask) * 8]);
    emulator_meet_warp();
    return other;
}

DEVICE int shuffle_int(int x, int lane) {
    u32 *all = emulator_now->exchange;
    all[LANE * 8] = (u32)x;
    emulator_meet_warp();
    const int other = (int)all[lane * 8];
    emulator_meet_warp();
    return other;
}

DEVICE float shuffle_from(float x, int lane) {
    return bits_float((u32)shuffle_int((int)float_bits(x), lane));
}

DEVICE void launch_wait(void) {}
DEVICE void launch_next(void) {}

DEVICE u64 shuffle_xor_64(u64 x, int mask) {
    u32 *all = emulator_now->exchange;
    u64 other;
    memcpy(all + LANE * 8, &x, 8);
    emulator_meet_warp();
    memcpy(&other, all + (LANE ^ mask) * 8, 8);
    emulator_meet_warp();
    return other;
}

DEVICE u32 ballot(bool yes) {
    u32 *all = emulator_now->exchange, out = 0;
    all[LANE * 8] = yes;
    emulator_meet_warp();
    for (int i = 0; i < 32; i++) out |= all[i * 8] << i;
    emulator_meet_warp();
    return out;
}

DEVICE int count_bits(u32 x) {
    return __builtin_popcount(x);
}

DEVICE void add_shared(u64 *p, u64 x) {
    *p += x;
}

/* ---- memory */

DEVICE float load_float(const float *p) {
    return *p;
}

DEVICE u64 load_64(const u64 *p) {
    return *p;
}

DEVICE void load_floats_4(float out[4], const float *p) {
    if ((uintptr_t)p % 16) emulator_fail("a load is not aligned to 16 bytes");
    memcpy(out, p, 16);
}

DEVICE void load_relaxed_4(float out[4], const float *p) {
    load_floats_4(out, p);
}

DEVICE float load_relaxed(const float *p) {
    return *p;
}

DEVICE void store_relaxed(float *p, float x) {
    *p = x;
}

DEVICE unsigned load_acquire(const unsigned *p) {
    return *p;
}

DEVICE unsigned load_counter(const unsigned *p) {
    return *p;
}

DEVICE void add_relaxed(unsigned *p, unsigned x) {
    *p += x;
}

DEVICE void add_release(unsigned *p, unsigned x) {
    *p += x;
}

DEVICE unsigned take_ticket(unsigned *p) {
    return (*p)++;
}

DEVICE int get_shared(const int *p) {
    return *p;
}

DEVICE void put_shared(int *p, int x) {
    *p = x;
}

DEVICE void fetch_ahead(const void *p) {
    (void)p;
}

DEVICE void fetch_bytes_ahead(const void *p, int bytes) {
    if ((uintptr_t)p % 16 || bytes % 16) emulator_fail("a fetch is not aligned to 16 bytes");
    if (bytes > 0) (void)*(const volatile char *)p, (void)((const volatile char *)p)[bytes - 1];
}

DEVICE u32 processor_now(void) {
    return (u32)BLOCK;
}

DEVICE u64 clock_now(void) {
    return 0;
}

DEVICE void spin(void) {
    emulator_spin();
}

DEVICE void load_16(u32 out[4], const void *p) {
    if ((uintptr_t)p % 16) emulator_fail("a load is not aligned to 16 bytes");
    memcpy(out, p, 16);
}

DEVICE void load_8(u32 out[2], const void *p) {
    memcpy(out, p, 8);
}

DEVICE void store_8(void *p, const u32 x[2]) {
    memcpy(p, x, 8);
}

DEVICE void store_16(void *p, const u32 x[4]) {
    if ((uintptr_t)p % 16) emulator_fail("a store is not aligned to 16 bytes");
    memcpy(p, x, 16);
}

DEVICE float load_any(const float *p) {
    return *p;
}

/* ---- numbers */

DEVICE float float_of_f16(u32 half) {
    return f16_to_float((u16)half);
}

DEVICE float float_of_bf16(u32 half) {
    return bf16_to_float((u16)half);
}

DEVICE u32 f16_of_float(float x) {
    return float_to_f16(x);
}

DEVICE u32 bf16_of_float(float x) {
    return float_to_bf16(x);
}

DEVICE u32 f16_of_e4m3(u32 pair) {
    const u32 low = f16_of_float(e4m3_to_float((u8)pair));
    return low | f16_of_float(e4m3_to_float((u8)(pair >> 8))) << 16;
}

DEVICE u32 e4m3_of_float(float x) {
    return float_to_e4m3(x);
}

DEVICE u32 f16_of_floats(float a, float b) {
    return f16_of_float(a) | f16_of_float(b) << 16;
}

DEVICE u32 bf16_of_floats(float a, float b) {
    return bf16_of_float(a) | bf16_of_float(b) << 16;
}

DEVICE u32 also_unlike(u32 so_far, u32 a, u32 b) {
    return so_far | (a ^ b);
}

DEVICE u32 pick_bytes(u32 a, u32 b, u32 order) {
    const u64 both = (u64)b << 32 | a;
    u32 out = 0;
    for (int i = 0; i < 4; i++) out |= (u32)(both >> (order >> 4 * i & 7) * 8 & 255) << 8 * i;
    return out;
}

DEVICE u32 bits_of_float(float x) {
    return float_bits(x);
}

DEVICE float float_of_bits(u32 x) {
    return bits_float(x);
}

DEVICE void sine_cosine(long long phase, float *sine, float *cosine) {
    const double angle = ldexp((double)(phase >> 32), -31) * 3.14159265358979323846;
    *sine = (float)sin(angle);
    *cosine = (float)cos(angle);
}

DEVICE float exponential(float x) {
    return expf(x);
}

DEVICE float power_of_2(float x) {
    return exp2f(x);
}

DEVICE float quotient(float x, float y) {
    return x / y;
}

DEVICE float inverse_root(float x) {
    return 1 / sqrtf(x);
}

DEVICE u32 middle_swapped(u32 word) {
    return (word & 0xff0000ffu) | (word >> 8 & 0xff00) | (word << 8 & 0xff0000);
}

/* ---- matrix instruction */

DEVICE u32 f16_of_bytes(u32 word, int which, int bias) {
    const int a = (int)(word >> (16 * which) & 255), b = (int)(word >> (16 * which + 8) & 255);
    return f16_of_float((float)(a - bias)) | f16_of_float((float)(b - bias)) << 16;
}

DEVICE u32 f16_of_nibbles(u32 word, bool is_high, int bias) {
    const u32 low = is_high ? word >> 4 : word;
    const int a = (int)(low & 15), b = (int)(low >> 16 & 15);
    return f16_of_float((float)(a - bias)) | f16_of_float((float)(b - bias)) << 16;
}

DEVICE u32 f16_scaled(u32 levels, u32 d, u32 low) {
    u32 out = 0;
    for (int i = 0; i < 32; i += 16) {
        const float x = float_of_f16(levels >> i & 0xffff), y = float_of_f16(d >> i & 0xffff);
        out |= f16_of_float(fmaf(x, y, float_of_f16(low >> i & 0xffff))) << i;
    }
    return out;
}

/* Fragment layouts of m16n8k16 as PTX defines them. */
DEVICE void multiply(float c[4], const u32 a[4], const u32 b[2], bool is_bf16) {
    u32 *all = emulator_now->exchange;
    memcpy(all + LANE * 8, a, 16);
    memcpy(all + LANE * 8 + 4, b, 8);
    emulator_meet_warp();
    for (int i = 0; i < 4; i++) {
        const int row = LANE / 4 + i / 2 * 8, column = LANE % 4 * 2 + i % 2;
        for (int k = 0; k < 16; k++) {
            const u32 wa = all[(row % 8 * 4 + k % 8 / 2) * 8 + k / 8 * 2 + row / 8];
            const u32 wb = all[(column * 4 + k % 8 / 2) * 8 + 4 + k / 8];
            const u32 ha = wa >> (k % 2 * 16) & 0xffff, hb = wb >> (k % 2 * 16) & 0xffff;
            c[i] += is_bf16 ? float_of_bf16(ha) * float_of_bf16(hb)
                            : float_of_f16(ha) * float_of_f16(hb);
        }
    }
    emulator_meet_warp();
}

DEVICE void multiply_f16(float c[4], const u32 a[4], const u32 b[2]) {
    multiply(c, a, b, false);
}

DEVICE void multiply_bf16(float c[4], const u32 a[4], const u32 b[2]) {
    multiply(c, a, b, true);
}

/* Fragment layouts of m16n8k32 and m16n8k16 of bytes: a lane's words are four k from 4 (lane % 4)
 * on of row lane / 4 and + 8 (of b: column lane / 4), then the same of the second 16 k. */
DEVICE void multiply_some_bytes(int c[4], const u32 *a, const u32 *b, int halves, bool is_signed) {
    u32 *all = emulator_now->exchange;
    memcpy(all + LANE * 8, a, (size_t)halves * 8);
    memcpy(all + LANE * 8 + 4, b, (size_t)halves * 4);
    emulator_meet_warp();
    for (int i = 0; i < 4; i++) {
        const int row = LANE / 4 + i / 2 * 8, column = LANE % 4 * 2 + i % 2;
        for (int k = 0; k < 16 * halves; k++) {
            const u32 wa = all[(row % 8 * 4 + k % 16 / 4) * 8 + k / 16 * 2 + row / 8];
            const u32 wb = all[(column * 4 + k % 16 / 4) * 8 + 4 + k / 16];
            const u8 x = (u8)(wa >> k % 4 * 8);
            c[i] += (is_signed ? (s8)x : x) * (s8)(u8)(wb >> k % 4 * 8);
        }
    }
    emulator_meet_warp();
}

DEVICE void multiply_bytes(int c[4], const u32 a[4], const u32 b[2]) {
    multiply_some_bytes(c, a, b, 2, false);
}

DEVICE void multiply_half_bytes(int c[4], const u32 a[2], u32 b) {
    multiply_some_bytes(c, a, &b, 1, true);
}

/* Row l % 8 of matrix l / 8 lies where lane l says. */
DEVICE void load_some(u32 *out, int n, const void *p, bool is_turned) {
    u32 *all = emulator_now->exchange;
    if ((uintptr_t)p % 16) emulator_fail("a row of a matrix is not aligned to 16 bytes");
    memcpy(all + LANE * 8, &p, sizeof p);
    emulator_meet_warp();
    for (int i = 0; i < n; i++) {
        u16 two[2];
        for (int e = 0; e < 2; e++) {
            const int row = is_turned ? LANE % 4 * 2 + e : LANE / 4;
            const int column = is_turned ? LANE / 4 : LANE % 4 * 2 + e;
            const u16 *from;
            memcpy(&from, all + (8 * i + row) * 8, sizeof from);
            two[e] = from[column];
        }
        out[i] = two[0] | (u32)two[1] << 16;
    }
    emulator_meet_warp();
}

DEVICE void load_matrices(u32 out[4], const void *p) {
    load_some(out, 4, p, false);
}

DEVICE void load_matrices_turned(u32 out[4], const void *p) {
    load_some(out, 4, p, true);
}

DEVICE void load_two_turned(u32 out[2], const void *p) {
    load_some(out, 2, p, true);
}

DEVICE u32 turn_matrix(u32 x) {
    u32 *all = emulator_now->exchange, out = 0;
    all[LANE * 8] = x;
    emulator_meet_warp();
    for (int e = 0; e < 2; e++) {
        const u32 word = all[((LANE % 4 * 2 + e) * 4 + LANE / 8) * 8];
        out |= (word >> LANE / 4 % 2 * 16 & 0xffff) << 16 * e;
    }
    emulator_meet_warp();
    return out;
}

/* ---- small copies into shared memory: they are made when they are waited for, no earlier */

DEVICE void copy_small(void *to, const void *from, int bytes, bool is_there) {
    static const char zeros[16];
    emulated *e = emulator_now;
    if ((uintptr_t)to % (unsigned)bytes || (is_there && (uintptr_t)from % (unsigned)bytes)) {
        emulator_fail("a copy is not aligned to its size");
    }
    if (e->n_copies == 512) emulator_fail("too many copies on their way");
    e->copies[e->n_copies].to = to;
    e->copies[e->n_copies].from = is_there ? from : zeros;
    e->copies[e->n_copies].bytes = bytes;
    e->copies[e->n_copies++].group = e->groups;
}

DEVICE void copy_16(void *to, const void *from, bool is_there) {
    copy_small(to, from, 16, is_there);
}

DEVICE void copy_4(void *to, const void *from, bool is_there) {
    copy_small(to, from, 4, is_there);
}

DEVICE void copies_commit(void) {
    emulator_now->groups++;
}

DEVICE void copies_wait(int left) {
    emulated *e = emulator_now;
    int kept = 0;
    for (int i = 0; i < e->n_copies; i++) {
        if ((int)(e->groups - e->copies[i].group) > left) {
            memcpy(e->copies[i].to, e->copies[i].from, (size_t)e->copies[i].bytes);
        } else {
            e->copies[kept++] = e->copies[i];
        }
    }
    e->n_copies = kept;
}

/* ---- copies into shared memory.  A gate counts copies started and waited for, so that reading
 * a slot before its copy, or copying over a slot that is read later, is an error here. */

DEVICE void gate_open(u64 *gate) {
    if (LANE == 0) *gate = 0;
    emulator_meet_warp();
}

DEVICE void check_bulk_copy(const void *to, const void *from, int bytes) {
    if (bytes <= 0) emulator_fail("a bulk copy of nothing");
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16 || bytes % 16) {
        emulator_fail("a bulk copy is not aligned to 16 bytes");
    }
}

DEVICE void copy_start(void *to, const void *from, int bytes, u64 *gate) {
    if (LANE == 0) {
        check_bulk_copy(to, from, bytes);
        memcpy(to, from, (size_t)bytes);
        ++*gate;
    }
    emulator_meet_warp();
}

DEVICE void copies_see_stores(void) {}

DEVICE void copy_nothing(void) {}

DEVICE void copy_wait(u64 *gate, unsigned round, int slots) {
    (void)slots;
    emulator_meet_warp();
    if (*gate != (u64)round + 1) emulator_fail("a slot is read before its copy was started");
}

/* ---- the wide matrix instruction, a warp at a time, when it is started */

#define WIDE_COPIERS (N_THREADS < 384 ? 1 : 4)
#define HAS_WIDE     1
#define WALK_WORKERS CUDA_WORKERS
#define WALK_FEEDERS CUDA_FEEDERS

DEVICE void wide_take_registers(int n) {
    (void)n;
}

DEVICE void wide_give_registers(int n) {
    (void)n;
}

DEVICE void wide_begin(void) {}
DEVICE void wide_end(void) {}

DEVICE void wide_wait(int left) {
    (void)left;
}

DEVICE void wide_settle(float *c, int tokens) {
    (void)c, (void)tokens;
}

/* Element k of row `token` of B as a descriptor of 128-byte swizzled rows finds it: bits 4 to 6 of
 * an address are turned over by bits 7 to 9. */
DEVICE u32 wide_half(const char *stage, int token, int k) {
    const u32 at = (u32)(stage - shared_bytes) + (u32)(token / 8 * 1024 + token % 8 * 128 + k * 2);
    u16 half;
    memcpy(&half, shared_bytes + (at ^ (at >> 7 & 7) << 4), 2);
    return half;
}

DEVICE void wide_multiply(float *c, int tokens, const u32 a[4], const char *stage, int step,
                          bool is_bf16) {
    u32 *all = emulator_now->exchange;
    if ((stage - shared_bytes) % 1024) emulator_fail("a stage is not aligned to 1024 bytes");
    memcpy(all + LANE * 8, a, 16);
    emulator_meet_warp();
    for (int i = 0; i < tokens / 2; i++) {
        const int row = LANE / 4 + i % 4 / 2 * 8, token = i / 4 * 8 + LANE % 4 * 2 + i % 2;
        for (int k = 0; k < 16; k++) {
            const u32 wa = all[(row % 8 * 4 + k % 8 / 2) * 8 + k / 8 * 2 + row / 8];
            const u32 ha = wa >> (k % 2 * 16) & 0xffff, hb = wide_half(stage, token, 16 * step + k);
            c[i] += is_bf16 ? float_of_bf16(ha) * float_of_bf16(hb)
                            : float_of_f16(ha) * float_of_f16(hb);
        }
    }
    emulator_meet_warp();
}

DEVICE void wide_meet(void) {
    emulator_meet_warp();
}

DEVICE void wide_see(void) {}
DEVICE void wide_turn_open(void) {}
DEVICE void wide_turn_wait(void) {}
DEVICE void wide_turn_pass(void) {}

/* Of a matrix of `rows` rows of 64, and of those behind it. */
DEVICE float wide_number(const char *p, int rows, int row, int column, bool is_bf16) {
    const u32 half = wide_half(p + column / 64 * rows * 128, row, column % 64);
    return is_bf16 ? float_of_bf16(half) : float_of_f16(half);
}

DEVICE void wide_scores(float *c, int keys, const char *queries, const char *k, int step,
                        bool is_first, bool is_bf16) {
    const char *group = queries - WARP % 4 * 2048;
    if ((group - shared_bytes) % 1024 || (k - shared_bytes) % 1024) {
        emulator_fail("a matrix is not aligned to 1024 bytes");
    }
    emulator_meet_warp();
    float a[2][16];
    for (int i = 0; i < 32; i++) {
        const int line = WARP % 4 * 16 + LANE / 4 + i / 16 * 8;
        a[i / 16][i % 16] = wide_number(group, 64, line, 16 * step + i % 16, is_bf16);
    }
    for (int i = 0; i < keys / 4; i++) {
        float *to = c + i / 2 * 4 + i % 2, sums[2] = {0, 0};
        for (int d = 0; d < 16; d++) {
            const int key = i / 2 * 8 + LANE % 4 * 2 + i % 2;
            const float b = wide_number(k, keys, key, 16 * step + d, is_bf16);
            sums[0] += a[0][d] * b, sums[1] += a[1][d] * b;
        }
        to[0] = (is_first ? 0 : to[0]) + sums[0];
        to[2] = (is_first ? 0 : to[2]) + sums[1];
    }
    emulator_meet_warp();
}

DEVICE void wide_values(float *c, int dim, const u32 a[4], const char *values, int keys, int step,
                        bool is_bf16) {
    u32 *all = emulator_now->exchange;
    if ((values - shared_bytes) % 1024) emulator_fail("a matrix is not aligned to 1024 bytes");
    memcpy(all + LANE * 8, a, 16);
    emulator_meet_warp();
    float weights[2][16];
    for (int i = 0; i < 32; i++) {
        const int row = LANE / 4 + i / 16 * 8, k = i % 16;
        const u32 word = all[(row % 8 * 4 + k % 8 / 2) * 8 + k / 8 * 2 + row / 8];
        const u32 half = word >> (k % 2 * 16) & 0xffff;
        weights[i / 16][k] = is_bf16 ? float_of_bf16(half) : float_of_f16(half);
    }
    for (int i = 0; i < dim / 4; i++) {
        float *to = c + i / 2 * 4 + i % 2;
        for (int k = 0; k < 16; k++) {
            const int d = i / 2 * 8 + LANE % 4 * 2 + i % 2;
            const float b = wide_number(values, keys, 16 * step + k, d, is_bf16);
            to[0] += weights[0][k] * b, to[2] += weights[1][k] * b;
        }
    }
    emulator_meet_warp();
}

/* ---- gates that warps pass together: arrivals still awaited, arrivals of a round, rounds */

#define COPY_ARRIVALS 1

DEVICE void gate_open_for(u64 *gate, int arrivals) {
    if (LANE == 0) *gate = (u64)arrivals | (u64)arrivals << 16;
    emulator_meet_warp();
}

DEVICE void gates_open_for(u64 *gates, int n, int arrivals) {
    for (int i = 0; i < n; i++) gate_open_for(gates + i, arrivals);
}

DEVICE void gate_arrive_each(u64 *gate) {
    if ((*gate & 0xffff) > 1) {
        --*gate;
    } else {
        *gate = (*gate >> 32 << 32) + ((u64)1 << 32) + (*gate >> 16 & 0xffff) * 0x10001;
    }
}

DEVICE void gate_arrive(u64 *gate) {
    emulator_meet_warp();
    if (LANE == 0) gate_arrive_each(gate);
}

DEVICE void copies_arrive(u64 *gate) {
    copies_commit();
    copies_wait(0);
    gate_arrive_each(gate);
}

DEVICE void gate_pass(u64 *gate, unsigned round) {
    while ((*gate >> 32 & 1) == (round & 1)) emulator_spin();
}

DEVICE void copy_through(void *to, const void *from, int bytes, u64 *gate) {
    check_bulk_copy(to, from, bytes);
    if (LANE == 0) memcpy(to, from, (size_t)bytes);
    gate_arrive(gate);
}

DEVICE void copy_all_once(void *to, int slot, const void *from, u64 step, int there, int n,
                          int bytes, u64 *gate) {
    for (int i = 0; i < n; i++) {
        const char *row = (const char *)from + (u64)(i < there ? i : there - 1) * step;
        check_bulk_copy((char *)to + i * slot, row, bytes);
        if (LANE == 0) memcpy((char *)to + i * slot, row, (size_t)bytes);
    }
    gate_arrive(gate);
}

/* ---- clusters of blocks */

DEVICE void cluster_arrive(void) {
    emulator_cluster_arrive();
}

DEVICE void cluster_wait(void) {
    emulator_cluster_wait();
}

DEVICE void cluster_load_4(float out[4], const void *p, int rank) {
    if (rank < 0 || rank >= emulator_now->cluster) emulator_fail("no such block in a cluster");
    const int away = rank - emulator_now->block % emulator_now->cluster;
    memcpy(out, (const char *)p + (ptrdiff_t)away * (ptrdiff_t)emulator_now->shared_step, 16);
}

DEVICE void some_sync(int n) {
    emulator_meet_some(n);
}

/* Runs a kernel by name; false: there is none, or the launch is too large to emulate. */
bool emulator_launch(const char *kernel, int n_blocks, int cluster, int n_threads,
                     size_t shared_size, void **arguments);
