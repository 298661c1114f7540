/* machine_walk.cuh - what a row alone asks of the machine beside machine.cuh, which includes this.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

/* Four words, one word, that another block may write meanwhile: each is there as a whole. */
DEVICE void load_relaxed_4(float out[4], const float *p) {
    asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(out[0]), "=f"(out[1]), "=f"(out[2]), "=f"(out[3])
                 : "l"(p)
                 : "memory");
}

DEVICE float load_relaxed(const float *p) {
    float x;
    asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(x) : "l"(p) : "memory");
    return x;
}

DEVICE void store_relaxed(float *p, float x) {
    asm volatile("st.relaxed.gpu.global.f32 [%0], %1;" ::"l"(p), "f"(x) : "memory");
}

/* They order nothing. */
DEVICE unsigned load_counter(const unsigned *p) {
    unsigned x;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(p) : "memory");
    return x;
}

DEVICE void add_relaxed(unsigned *p, unsigned x) {
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(x) : "memory");
}

/* so_far | (a ^ b), as one instruction whichever bits are looked at later. */
DEVICE u32 also_unlike(u32 so_far, u32 a, u32 b) {
    u32 out;
    asm("lop3.b32 %0, %1, %2, %3, 0xf6;" : "=r"(out) : "r"(so_far), "r"(a), "r"(b));
    return out;
}

#if __CUDA_ARCH__ >= 900

/* Two copies, each to a place and through a gate of its own; lane i starts the i-th. */
DEVICE void copy_each_once(void *const to[2], const void *const from[2], int bytes,
                           u64 *const gate[2]) {
    if (LANE < 2) {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                         shared_address(LANE ? gate[1] : gate[0])),
                     "r"(bytes)
                     : "memory");
        asm volatile("{\n.reg .b64 policy;\n"
                     "createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
                     "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
                     ".L2::cache_hint [%0], [%1], %2, [%3], policy;\n}" ::"r"(
                         shared_address(LANE ? to[1] : to[0])),
                     "l"(LANE ? from[1] : from[0]), "r"(bytes),
                     "r"(shared_address(LANE ? gate[1] : gate[0]))
                     : "memory");
    }
}

#else

DEVICE void copy_each_once(void *const to[2], const void *const from[2], int bytes,
                           u64 *const gate[2]) {
    for (int i = 0; i < 2; i++) copy_start_once(to[i], from[i], bytes, gate[i]);
}

#endif
