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

#define DEVICE        static __device__ __forceinline__
#define COLD          static __device__ __noinline__ /* kept out of the way of what runs always */
#define KERNEL        extern "C" __global__ void __launch_bounds__(256, 1)
#define KERNEL_WIDE   extern "C" __global__ void __launch_bounds__(384, 1)
#define KERNEL_1024   extern "C" __global__ void __launch_bounds__(1024, 1)
#define KERNEL_SPREAD extern "C" __global__ void __launch_bounds__(256, 4)
#define KERNEL_PART   extern "C" __global__ void __launch_bounds__(128, 2)
#define PARAM         const __grid_constant__
#define UNROLL        _Pragma("unroll")
#define UNROLL_SOME   _Pragma("unroll 2")
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

DEVICE void block_sync(void) {
    __syncthreads();
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

/* ---- small copies into shared memory: each thread commits its own and waits for them, then
 * threads meet */

/* 16 bytes, aligned; zeros when they are not there. */
DEVICE void copy_16(void *to, const void *from, bool is_there) {
    asm volatile(
        "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((u32)__cvta_generic_to_shared(to)),
        "l"(from), "r"(is_there ? 16 : 0)
        : "memory");
}

/* 4 bytes likewise. */
DEVICE void copy_4(void *to, const void *from, bool is_there) {
    asm volatile(
        "cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"((u32)__cvta_generic_to_shared(to)),
        "l"(from), "r"(is_there ? 4 : 0)
        : "memory");
}

DEVICE void copies_commit(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* All but the youngest `left` groups are there. */
DEVICE void copies_wait(int left) {
    switch (left) {
    case 0: asm volatile("cp.async.wait_group 0;" ::: "memory"); break;
    case 1: asm volatile("cp.async.wait_group 1;" ::: "memory"); break;
    case 2: asm volatile("cp.async.wait_group 2;" ::: "memory"); break;
    case 3: asm volatile("cp.async.wait_group 3;" ::: "memory"); break;
    default: asm volatile("cp.async.wait_group 4;" ::: "memory"); break;
    }
}

/* ---- copies into shared memory that run beside the computation; called by whole warps */

DEVICE u32 shared_address(const void *p) {
    return (u32)__cvta_generic_to_shared(p);
}

#if __CUDA_ARCH__ >= 900

DEVICE void gate_open(u64 *gate) {
    if (LANE == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(gate))
                     : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncwarp();
}

/* Starts a copy of `bytes` (a multiple of 16); the gate passes when it is there. */
DEVICE void copy_start(void *to, const void *from, int bytes, u64 *gate) {
    if (LANE == 0) {
        asm volatile(
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(gate)),
            "r"(bytes)
            : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                     "[%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
                     "l"(from), "r"(bytes), "r"(shared_address(gate))
                     : "memory");
    }
}

/* The same of what is read once in a step: it is the first to leave the second-level cache, so that
 * all else stays there. */
DEVICE void copy_start_once(void *to, const void *from, int bytes, u64 *gate) {
    if (LANE == 0) {
        asm volatile(
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(gate)),
            "r"(bytes)
            : "memory");
        asm volatile("{\n.reg .b64 policy;\n"
                     "createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
                     "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
                     ".L2::cache_hint [%0], [%1], %2, [%3], policy;\n}" ::"r"(shared_address(to)),
                     "l"(from), "r"(bytes), "r"(shared_address(gate))
                     : "memory");
    }
}

/* Two copies of `bytes` each, one behind the other, through one gate. */
DEVICE void copy_two_once(void *to, const void *first, const void *second, int bytes, u64 *gate) {
    if (LANE == 0) {
        asm volatile(
            "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(gate)),
            "r"(2 * bytes)
            : "memory");
        asm volatile("{\n.reg .b64 policy;\n"
                     "createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
                     "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
                     ".L2::cache_hint [%0], [%2], %4, [%5], policy;\n"
                     "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
                     ".L2::cache_hint [%1], [%3], %4, [%5], policy;\n}" ::"r"(shared_address(to)),
                     "r"(shared_address((char *)to + bytes)), "l"(first), "l"(second), "r"(bytes),
                     "r"(shared_address(gate))
                     : "memory");
    }
}

/* An empty copy keeps the count of copies in step where copies are counted. */
DEVICE void copy_nothing(void) {}

/* Copies started from here on see what was stored before, by this kernel too. */
DEVICE void copies_see_stores(void) {
    asm volatile("fence.proxy.async;" ::: "memory");
}

/* Waits for the copy of round `round` (0, 1, ...) through this gate. */
DEVICE void copy_wait(u64 *gate, unsigned round, int slots) {
    u32 done = 0;
    while (!done) {
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(shared_address(gate)), "r"(round & 1)
                     : "memory");
    }
}

#else

DEVICE void gate_open(u64 *gate) {}

DEVICE void copy_start(void *to, const void *from, int bytes, u64 *gate) {
    for (int i = LANE * 16; i < bytes; i += 512) {
        asm volatile(
            "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address((char *)to + i)),
            "l"((const char *)from + i)
            : "memory");
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
}

DEVICE void copy_start_once(void *to, const void *from, int bytes, u64 *gate) {
    copy_start(to, from, bytes, gate);
}

DEVICE void copies_see_stores(void) {}

DEVICE void copy_two_once(void *to, const void *first, const void *second, int bytes, u64 *gate) {
    for (int i = LANE * 16; i < bytes; i += 512) {
        copy_16((char *)to + i, (const char *)first + i, true);
        copy_16((char *)to + bytes + i, (const char *)second + i, true);
    }
    copies_commit();
}

DEVICE void copy_nothing(void) {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* All but the youngest `slots - 1` groups of copies are there. */
DEVICE void copy_wait(u64 *gate, unsigned round, int slots) {
    switch (slots) {
    case 2: asm volatile("cp.async.wait_group 1;" ::: "memory"); break;
    case 3: asm volatile("cp.async.wait_group 2;" ::: "memory"); break;
    case 4: asm volatile("cp.async.wait_group 3;" ::: "memory"); break;
    default: asm volatile("cp.async.wait_group 4;" ::: "memory"); break; /* 5 and more */
    }
    __syncwarp();
}

#endif

/* ---- the wide matrix instruction: wgmma where it is, m16n8k16 elsewhere
 *
 * A warp multiplies 16 rows of A, in its registers as m16n8k16 has them, by a stage of B in shared
 * memory; the four warps of a warp group (aligned, by WARP) do so together.  A stage is [tokens][64
 * k] of 16 bits, a token 128 bytes, its eight 16-byte parts at places part ^ token % 8; it begins
 * at a multiple of 1024 bytes.  What is multiplied between wide_begin and wide_end runs beside the
 * threads until wide_wait: A's registers, the sums and B are not to be touched until then. */

#define WIDE_COPIERS 4 /* warps of a block that multiply nothing: a warp group */

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

    #define HAS_WIDE 1

/* Registers go from the warps that copy to those that multiply, which have n then, 208 or 232:
 * 2 * 232 + 40 = 3 * 168. */
DEVICE void wide_take_registers(int n) {
    if (n == 232) asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    if (n == 208) asm volatile("setmaxnreg.inc.sync.aligned.u32 208;");
}

DEVICE void wide_give_registers(int n) {
    if (n == 232) asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (n == 208) asm volatile("setmaxnreg.dec.sync.aligned.u32 88;");
}

    #define WIDE_SUMS_8(i)                                                          \
        "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), \
            "+f"(c[i + 5]), "+f"(c[i + 6]), "+f"(c[i + 7])
    #define WIDE_SUMS_16(i)  WIDE_SUMS_8(i), WIDE_SUMS_8(i + 8)
    #define WIDE_SUMS_32(i)  WIDE_SUMS_16(i), WIDE_SUMS_16(i + 16)
    #define WIDE_SUMS_64(i)  WIDE_SUMS_32(i), WIDE_SUMS_32(i + 32)
    #define WIDE_SUMS_128(i) WIDE_SUMS_64(i), WIDE_SUMS_64(i + 64)
    #define WIDE_ASM(tokens, type, places, rest, ...)                                    \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" tokens "k16.f32." type "." type \
                     " {" places "}, " rest ", 1, 1, 1, 0;"                              \
                     : __VA_ARGS__                                                       \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
    #define WIDE_CASE(tokens, places, rest, ...)                  \
        if (is_bf16) {                                            \
            WIDE_ASM(#tokens, "bf16", places, rest, __VA_ARGS__); \
        } else {                                                  \
            WIDE_ASM(#tokens, "f16", places, rest, __VA_ARGS__);  \
        }
    #define WIDE_PLACES_16 "%0,%1,%2,%3,%4,%5,%6,%7"
    #define WIDE_PLACES_32 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
    #define WIDE_PLACES_64                                                           \
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20," \
        "%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
    #define WIDE_PLACES_128                                                            \
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,"   \
        "%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39," \
        "%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58," \
        "%59,%60,%61,%62,%63"
    #define WIDE_PLACES_256                                                            \
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,"   \
        "%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39," \
        "%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58," \
        "%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77," \
        "%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96," \
        "%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"     \
        "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,"  \
        "%127"

DEVICE void wide_begin(void) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/* c [tokens / 8][4] += A B for the 16 k from 16 * step on, as m16n8k16 has its sums. */
DEVICE void wide_multiply(float *c, int tokens, const u32 a[4], const char *stage, int step,
                          bool is_bf16) {
    /* address / 16; 1024 bytes from 8 tokens to the next 8; parts are swizzled over 128 bytes */
    const u64 b = (u64)((shared_address(stage) + 32 * (u32)step) >> 4 & 0x3fff) | (u64)1 << 16 |
                  (u64)64 << 32 | (u64)1 << 62;
    switch (tokens) {
    case 16: WIDE_CASE(16, WIDE_PLACES_16, "{%8,%9,%10,%11}, %12", WIDE_SUMS_8(0)); break;
    case 32: WIDE_CASE(32, WIDE_PLACES_32, "{%16,%17,%18,%19}, %20", WIDE_SUMS_16(0)); break;
    case 64: WIDE_CASE(64, WIDE_PLACES_64, "{%32,%33,%34,%35}, %36", WIDE_SUMS_32(0)); break;
    case 128: WIDE_CASE(128, WIDE_PLACES_128, "{%64,%65,%66,%67}, %68", WIDE_SUMS_64(0)); break;
    case 256:
        WIDE_CASE(256, WIDE_PLACES_256, "{%128,%129,%130,%131}, %132", WIDE_SUMS_128(0));
        break;
    default: break;
    }
}

DEVICE void wide_end(void) {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* All groups are done but the youngest `left` (0 or 1). */
DEVICE void wide_wait(int left) {
    if (left == 0) asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    if (left == 1) asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
}

/* Sums are read from here on, after wide_wait(0). */
DEVICE void wide_settle(float *c, int tokens) {
    UNROLL for (int i = 0; i < tokens / 2; i++) asm volatile("" : "+f"(c[i])::"memory");
}

#else

    #define HAS_WIDE 0

DEVICE void wide_take_registers(int n) {}

DEVICE void wide_give_registers(int n) {}

DEVICE void wide_begin(void) {}

DEVICE void wide_multiply(float *c, int tokens, const u32 a[4], const char *stage, int step,
                          bool is_bf16) {
    UNROLL for (int j = 0; j < tokens / 8; j++) {
        const int token = 8 * j + LANE / 4;
        u32 b[2];
        UNROLL for (int i = 0; i < 2; i++) {
            const int part = (2 * step + i) ^ (LANE / 4);
            b[i] = *(const u32 *)(stage + token * 128 + part * 16 + LANE % 4 * 4);
        }
        if (is_bf16) {
            multiply_bf16(c + 4 * j, a, b);
        } else {
            multiply_f16(c + 4 * j, a, b);
        }
    }
}

DEVICE void wide_end(void) {}

DEVICE void wide_wait(int left) {}

DEVICE void wide_settle(float *c, int tokens) {}

#endif

/* ---- gates that warps pass together.  A gate opens when `arrivals` have arrived, and closes
 * again: its rounds are counted from 0.  Copies through it count as arrivals when they are done. */

DEVICE void gate_open_for(u64 *gate, int arrivals) {
    if (LANE == 0) {
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(gate)), "r"(arrivals)
                     : "memory");
#if __CUDA_ARCH__ >= 900
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
    }
    __syncwarp();
}

/* A warp arrives: what its lanes did before is done for those that pass. */
DEVICE void gate_arrive(u64 *gate) {
    __syncwarp();
    if (LANE == 0) {
        asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(
                         shared_address(gate))
                     : "memory");
    }
}

/* Waits until round `round` is over. */
DEVICE void gate_pass(u64 *gate, unsigned round) {
    u32 done = 0;
    while (!done) {
        asm volatile("{\n.reg .pred p;\n"
#if __CUDA_ARCH__ >= 900
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
#else
                     "mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
#endif
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(shared_address(gate)), "r"(round & 1)
                     : "memory");
    }
}

/* The gate has an arrival of every thread, once its small copies so far are there. */
DEVICE void copies_arrive(u64 *gate) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(gate))
                 : "memory");
}

#if __CUDA_ARCH__ >= 900

    #define COPY_ARRIVALS 1 /* of a copy through a gate */

DEVICE void copy_through(void *to, const void *from, int bytes, u64 *gate) {
    copy_start(to, from, bytes, gate);
}

DEVICE void copy_through_once(void *to, const void *from, int bytes, u64 *gate) {
    copy_start_once(to, from, bytes, gate);
}

#else

    #define COPY_ARRIVALS 32

DEVICE void copy_through(void *to, const void *from, int bytes, u64 *gate) {
    for (int i = LANE * 16; i < bytes; i += 512) {
        asm volatile(
            "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address((char *)to + i)),
            "l"((const char *)from + i)
            : "memory");
    }
    copies_arrive(gate);
}

DEVICE void copy_through_once(void *to, const void *from, int bytes, u64 *gate) {
    copy_through(to, from, bytes, gate);
}

#endif

#include "machine_cluster.cuh"
#include "machine_walk.cuh"
