/* machine.cuh - what kernels ask of the machine: one name for each instruction they need.
 *
 * Kernels are written in the C that C and C++ share, and touch the GPU through these names only.
 * tests/backend/cuda_emulator.h has the same names for a CPU, where every thread of a block is a
 * coroutine, so that kernels are tested where there is no GPU.
 *
 * Loads of activations go past the first-level cache (ld.cg): other blocks of the same launch wrote
 * them.  Weights are read once, by bulk copies on sm_90 and later, by cp.async before.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

typedef unsigned char u8;
typedef signed char s8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE static __device__ __forceinline__
#define COLD   static __device__ __noinline__ /* kept out of the way of what runs always */
/* Part of `walk` or `walk_one`: w is of a type of its own in each, so that what is known of a step
 * of one row is known when its kernel is compiled (walk.cu). */
#define WALK   template <class world_of> static __device__ __forceinline__
#define KERNEL extern "C" __global__ void __launch_bounds__(256, 1)
#define KERNEL_WALK \
    extern "C" __global__ void __launch_bounds__(32 * (WALK_WORKERS + WALK_FEEDERS), 1)
#define KERNEL_WIDE   extern "C" __global__ void __launch_bounds__(384, 1)
#define KERNEL_1024   extern "C" __global__ void __launch_bounds__(1024, 1)
#define KERNEL_SPREAD extern "C" __global__ void __launch_bounds__(256, 4)
#define KERNEL_PART   extern "C" __global__ void __launch_bounds__(128, 2)
#define PARAM         const __grid_constant__
#define UNROLL        _Pragma("unroll")
#define UNROLL_NOT    _Pragma("unroll 1")
#define UNROLL_4      _Pragma("unroll 4")
#define UNROLL_8      _Pragma("unroll 8")

#define THREAD    ((int)threadIdx.x)
#define LANE      ((int)(threadIdx.x & 31))
#define WARP      ((int)(threadIdx.x >> 5))
#define N_THREADS ((int)blockDim.x)
#define N_WARPS   ((int)(blockDim.x >> 5))
#define BLOCK     ((int)blockIdx.x)
#define BLOCK_Y   ((int)blockIdx.y)
#define N_BLOCKS  ((int)gridDim.x)

extern __shared__ __align__(1024) char shared_bytes[];

/* A kernel that is only launched with blocks of so many threads says so. */
DEVICE void know_threads(int n) {
    __builtin_assume(N_THREADS == n);
}

DEVICE void block_sync(void) {
    __syncthreads();
}

/* x, so that what is made of it is made there and not once for all stages, to lie in a register, or
 * worse, until it is wanted. */
DEVICE int fresh(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

DEVICE void warp_sync(void) {
    __syncwarp();
}

DEVICE float shuffle_xor(float x, int mask) {
    return __shfl_xor_sync(0xffffffffu, x, mask);
}

DEVICE float shuffle_from(float x, int lane) {
    return __shfl_sync(0xffffffffu, x, lane);
}

DEVICE int shuffle_int(int x, int lane) {
    return __shfl_sync(0xffffffffu, x, lane);
}

/* ---- launches: this one may begin before the one before it has ended (sm_90) */

/* Waits for all that earlier launches did; every thread, before it reads or writes any of that. */
DEVICE void launch_wait(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The next launch may begin where there is room. */
DEVICE void launch_next(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

DEVICE u64 shuffle_xor_64(u64 x, int mask) {
    return __shfl_xor_sync(0xffffffffu, x, mask);
}

/* Bit i: what lane i says. */
DEVICE u32 ballot(bool yes) {
    return __ballot_sync(0xffffffffu, yes);
}

DEVICE int count_bits(u32 x) {
    return __popc(x);
}

/* To a word of shared memory, by all threads of a block at once.  The machine adds 32 bits there;
 * of 64 it would make a loop. */
DEVICE void add_shared(u64 *p, u64 x) {
    u32 *half = (u32 *)p, low = (u32)x, high = (u32)(x >> 32);
    const u32 before = atomicAdd(half, low);
    high += before + low < before;
    if (high) atomicAdd(half + 1, high);
}

/* ---- memory */

DEVICE u32 shared_address(const void *p) {
    return (u32)__cvta_generic_to_shared(p);
}

DEVICE float load_float(const float *p) {
    float x;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(x) : "l"(p));
    return x;
}

DEVICE u64 load_64(const u64 *p) {
    u64 x;
    asm volatile("ld.global.cg.u64 %0, [%1];" : "=l"(x) : "l"(p) : "memory");
    return x;
}

/* p is aligned to 16 bytes. */
DEVICE void load_floats_4(float out[4], const float *p) {
    asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(out[0]), "=f"(out[1]), "=f"(out[2]), "=f"(out[3])
                 : "l"(p));
}

DEVICE unsigned load_acquire(const unsigned *p) {
    unsigned x;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(p) : "memory");
    return x;
}

DEVICE void add_release(unsigned *p, unsigned x) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(x) : "memory");
}

/* Adds 1 and returns what was there; orders what this thread, and those it has met in its block,
 * did before with what it and those it meets do after. */
DEVICE unsigned take_ticket(unsigned *p) {
    unsigned x;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(x) : "l"(p) : "memory");
    return x;
}

/* Has 128 bytes brought to the second-level cache. */
DEVICE void fetch_ahead(const void *p) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

/* Has bytes, a multiple of 16, brought there; sm_90. */
DEVICE void fetch_bytes_ahead(const void *p, int bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes) : "memory");
#endif
}

/* The number of this multiprocessor. */
DEVICE u32 processor_now(void) {
    u32 x;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(x));
    return x;
}

/* Cycles of this multiprocessor. */
DEVICE u64 clock_now(void) {
    return (u64)clock64();
}

DEVICE void spin(void) {
    /* the load that spins is slow enough */
}

DEVICE void load_16(u32 out[4], const void *p) {
    const uint4 x = *(const uint4 *)p;
    out[0] = x.x, out[1] = x.y, out[2] = x.z, out[3] = x.w;
}

DEVICE void load_8(u32 out[2], const void *p) {
    const uint2 x = *(const uint2 *)p;
    out[0] = x.x, out[1] = x.y;
}

DEVICE void store_8(void *p, const u32 x[2]) {
    *(uint2 *)p = make_uint2(x[0], x[1]);
}

DEVICE void store_16(void *p, const u32 x[4]) {
    *(uint4 *)p = make_uint4(x[0], x[1], x[2], x[3]);
}

/* From global memory, past the first-level cache, or from shared memory. */
DEVICE float load_any(const float *p) {
    float x;
    asm volatile("ld.volatile.f32 %0, [%1];" : "=f"(x) : "l"(p));
    return x;
}

/* ---- numbers */

DEVICE float float_of_f16(u32 half) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((u16)half));
    return x;
}

DEVICE float float_of_bf16(u32 half) {
    return __uint_as_float(half << 16);
}

DEVICE u32 f16_of_float(float x) {
    u16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
}

DEVICE u32 bf16_of_float(float x) {
    u16 half;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(x));
    return half;
}

/* Two e4m3 as two f16: exact. */
DEVICE u32 f16_of_e4m3(u32 pair) {
    u32 out;
#if __CUDA_ARCH__ >= 890
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(out) : "h"((u16)pair));
#else /* sign, exponent and fraction go where f16 has them; the biases differ by 8 */
    const u32 x = __byte_perm(pair, 0, 0x1404), both = (x & 0x80008000u) | (x & 0x7f007f00u) >> 1;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(out) : "r"(both), "r"(0x5c005c00u));
#endif
    return out;
}

/* To nearest even; what is larger than 448 becomes 448. */
DEVICE u32 e4m3_of_float(float x) {
#if __CUDA_ARCH__ >= 890
    u16 pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.0f), "f"(x));
    return pair;
#else /* as half.h */
    const u32 u = __float_as_uint(x), sign = u >> 24 & 0x80, em = u & 0x7fffffffu;
    if (em > 0x7f800000u) return sign | 0x7f;
    if (em >= 0x43e00000u) return sign | 0x7e;
    if (em >= 0x3c800000u) return sign | (em + 0x7ffffu + (em >> 20 & 1) - (120u << 23)) >> 20;
    return sign | (__float_as_uint(__uint_as_float(em) + 16384.0f) - 0x46800000u);
#endif
}

/* Two of them in a word, a below. */
DEVICE u32 f16_of_floats(float a, float b) {
    u32 both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(b), "f"(a));
    return both;
}

DEVICE u32 bf16_of_floats(float a, float b) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(b), "f"(a));
    return both;
}

/* Bytes of a (0 to 3) and b (4 to 7), by the hexadecimal digits of order. */
DEVICE u32 pick_bytes(u32 a, u32 b, u32 order) {
    return __byte_perm(a, b, order);
}

DEVICE u32 bits_of_float(float x) {
    return __float_as_uint(x);
}

DEVICE float float_of_bits(u32 x) {
    return __uint_as_float(x);
}

/* Sine and cosine of phase / 2^63 half turns. */
DEVICE void sine_cosine(long long phase, float *sine, float *cosine) {
    const float half_turns = (float)(phase >> 32) * 4.656612873077393e-10f; /* 2^-31 */
    sincospif(half_turns, sine, cosine);
}

/* e^x and x / y within a few units of the last place. */
DEVICE float exponential(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.4426950408889634f));
    return y;
}

/* 2^x likewise. */
DEVICE float power_of_2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float quotient(float x, float y) {
    return __fdividef(x, y);
}

DEVICE float inverse_root(float x) {
    return __frsqrt_rn(x);
}

/* Bytes 0, 2, 1, 3 of a word. */
DEVICE u32 middle_swapped(u32 word) {
    return __byte_perm(word, 0, 0x3120);
}

/* ---- matrix instruction */

/* Two bytes of a word as two f16, each less `bias`; which: bytes 0 and 1, or 2 and 3.  Exact: 1024
 * and a byte have one spelling, and so have their differences from 1024 + bias. */
DEVICE u32 f16_of_bytes(u32 word, int which, int bias) {
    const u32 both = __byte_perm(word, 0x64646464u, which ? 0x4342 : 0x4140);
    const u32 less = (0x6400u + (u32)bias) * 0x10001u;
    u32 out;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(out) : "r"(both), "r"(less));
    return out;
}

/* Nibbles of a word as two f16, each less `bias`: those at bits 0 and 16, or with is_high at 4 and
 * 20.  Those are 16 times as large where they lie, so they are divided: all is exact. */
DEVICE u32 f16_of_nibbles(u32 word, bool is_high, int bias) {
    const u32 mask = is_high ? 0x00f000f0u : 0x000f000fu, magic = 0x64006400u;
    u32 both, out;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(both) : "r"(word), "r"(mask), "r"(magic));
    if (is_high) { /* (1024 + 16 q) / 16 - 64 - bias */
        const u32 sixteenth = 0x2c002c00u;
        const u32 less = (0xd400u + (u32)bias * 16) * 0x10001u; /* -(64 + bias) */
        asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(both), "r"(sixteenth), "r"(less));
    } else {
        const u32 less = (0x6400u + (u32)bias) * 0x10001u;
        asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(out) : "r"(both), "r"(less));
    }
    return out;
}

/* levels * d + low, for both f16 of a word. */
DEVICE u32 f16_scaled(u32 levels, u32 d, u32 low) {
    u32 out;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(levels), "r"(d), "r"(low));
    return out;
}

/* c [16][8] += a [16][16] b [16][8], lanes hold what PTX says for m16n8k16. */
DEVICE void multiply_f16(float c[4], const u32 a[4], const u32 b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

DEVICE void multiply_bf16(float c[4], const u32 a[4], const u32 b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* c [16][8] += a [16][32] b [32][8] of bytes, a without sign: m16n8k32. */
DEVICE void multiply_bytes(int c[4], const u32 a[4], const u32 b[2]) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* The same of 16 k and signed bytes: m16n8k16. */
DEVICE void multiply_half_bytes(int c[4], const u32 a[2], u32 b) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b));
}

/* Four matrices [8][8] of 16 bits from shared memory; lane l gives the place of row l % 8 of matrix
 * l / 8, and gets of each what A and B of m16n8k16 want: elements l % 4 * 2 and the next of row
 * l / 4.  Turned: of column l / 4. */
DEVICE void load_matrices(u32 out[4], const void *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"((u32)__cvta_generic_to_shared(p)));
}

DEVICE void load_matrices_turned(u32 out[4], const void *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"((u32)__cvta_generic_to_shared(p)));
}

/* Two of them; lanes 0 to 15 say where rows are. */
DEVICE void load_two_turned(u32 out[2], const void *p) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(out[0]), "=r"(out[1])
                 : "r"((u32)__cvta_generic_to_shared(p)));
}

/* A matrix [8][8] of 16 bits, lanes hold what load_matrices gives, turned. */
DEVICE u32 turn_matrix(u32 x) {
    u32 out;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(x));
    return out;
}

#include "machine_cluster.cuh"
#include "machine_copy.cuh"
#include "machine_walk.cuh"
#include "machine_wide.cuh"
