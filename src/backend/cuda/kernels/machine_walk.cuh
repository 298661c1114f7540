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

/* A number in shared memory, by which a thread tells others of its block that what it and those it
 * has met did before is done. */
DEVICE int get_shared(const int *p) {
    int x;
    asm volatile("ld.acquire.cta.shared.s32 %0, [%1];"
                 : "=r"(x)
                 : "r"(shared_address(p))
                 : "memory");
    return x;
}

DEVICE void put_shared(int *p, int x) {
    asm volatile("st.release.cta.shared.s32 [%0], %1;" ::"r"(shared_address(p)), "r"(x) : "memory");
}
