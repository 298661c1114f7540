/* machine_cluster.cuh - what blocks of a cluster (sm_90) ask of the machine; machine.cuh includes
 * this.
 *
 * A cluster is so many consecutive blocks that run at once and read each other's shared memory.  On
 * older GPUs there are none, and nobody asks.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

/* All threads of a cluster arrive, and wait for each other: those that have ended are not missed.
 * What was stored before is seen behind. */
DEVICE void cluster_arrive(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}

DEVICE void cluster_wait(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

/* 16 bytes, aligned, of shared memory: what lies at p in the cluster's block `rank`. */
DEVICE void cluster_load_4(float out[4], const void *p, int rank) {
#if __CUDA_ARCH__ >= 900
    asm volatile("{\n.reg .u32 at;\n"
                 "mapa.shared::cluster.u32 at, %4, %5;\n"
                 "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [at];\n}"
                 : "=f"(out[0]), "=f"(out[1]), "=f"(out[2]), "=f"(out[3])
                 : "r"(shared_address(p)), "r"(rank)
                 : "memory");
#endif
}

/* The first n threads of a block meet, n a multiple of 32; others do not wait. */
DEVICE void some_sync(int n) {
    asm volatile("bar.sync 1, %0;" ::"r"(n) : "memory");
}
