/* machine_copy.cuh - copies into shared memory that run beside the computation; machine.cuh
 * includes this.
 *
 *     copy_16         a thread's own, and it waits for it
 *     copy_start      a warp's, through a gate of its own (bulk copies on sm_90, cp.async before)
 *     copy_through    a warp's, through a gate that many pass
 *
 * SPDX-License-Identifier: MIT */
#pragma once

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

DEVICE void copies_see_stores(void) {}

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

/* n gates side by side, a lane each. */
DEVICE void gates_open_for(u64 *gates, int n, int arrivals) {
    for (int i = LANE; i < n; i += 32) {
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(gates + i)),
                     "r"(arrivals)
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

/* n copies of `bytes` each as one, the i-th from `step` behind the one before, or from where that
 * is when there are no more than i, to `slot` behind it; of what is read once, as copy_start_once.
 */
DEVICE void copy_all_once(void *to, int slot, const void *from, u64 step, int there, int n,
                          int bytes, u64 *gate) {
    u32 place = shared_address(to), is_elected;
    u64 policy;
    asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(is_elected));
    if (!is_elected) return;
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(gate)),
        "r"(n * bytes)
        : "memory");
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    UNROLL_8 for (int i = 0; i < n; i++) {
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
                     ".L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(place),
                     "l"(from), "r"(bytes), "r"(shared_address(gate)), "l"(policy)
                     : "memory");
        place += (u32)slot;
        if (i + 1 < there) from = (const char *)from + step;
    }
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

DEVICE void copy_all_once(void *to, int slot, const void *from, u64 step, int there, int n,
                          int bytes, u64 *gate) {
    for (int i = 0; i < n; i++) {
        const char *row = (const char *)from + (u64)(i < there ? i : there - 1) * step;
        for (int k = LANE * 16; k < bytes; k += 512) {
            copy_16((char *)to + i * slot + k, row + k, true);
        }
    }
    copies_arrive(gate);
}

#endif
