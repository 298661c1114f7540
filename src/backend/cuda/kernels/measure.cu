/* measure.cu - the yardsticks: how fast this GPU reads its memory and multiplies matrices.
 *
 *   measure_read       every warp copies its chunks of `memory` into shared memory, slots in a
 *                      ring of its own, the next copies in flight.  Nobody reads them.  Moves
 *                      passes * bytes of DRAM; 95 % of the data sheet's is the roof.
 *   measure_multiply   every warp adds products by a stage of bf16 in shared memory, whatever is
 *                      there, to its sums: wgmma where wide.cuh uses it.  No memory at all.
 *
 * Times are the host's.  CPU twins: cpu/bandwidth.c, cpu/peak.c.
 * Test: tests/backend/test_cuda_host.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WEIR_EMULATED
    #include "machine.cuh"
#endif
#include "stage.h"

typedef struct reader { /* of a warp */
    char *slots;
    u64 *gates;
    const char *first, *from; /* its first chunk of a pass, and the next one */
    u64 stride;               /* bytes to its next chunk */
    u64 left, chunks;         /* of this pass; of a pass */
    int passes;
    int fill; /* slot of the next copy */
} reader;

DEVICE void reader_feed(const cuda_measure *m, reader *r) {
    if (r->left == 0 && r->passes > 1) {
        r->passes--;
        r->left = r->chunks;
        r->from = r->first;
    }
    if (r->left == 0) {
        copy_nothing();
        return;
    }
    copy_start(r->slots + r->fill * m->slot_bytes, r->from, m->slot_bytes, r->gates + r->fill);
    r->fill = r->fill + 1 == m->slots ? 0 : r->fill + 1;
    r->from += r->stride;
    r->left--;
}

KERNEL measure_read(PARAM cuda_measure measure) {
    const cuda_measure *m = &measure;
    const u64 slot_bytes = (u64)m->slot_bytes;
    const int warps = N_BLOCKS * N_WARPS;
    const char *memory = (const char *)m->memory;
    reader r;
    r.slots = shared_bytes + WARP * m->slots * m->slot_bytes;
    r.gates = (u64 *)(shared_bytes + m->gates) + WARP * m->slots;
    r.first = r.from = memory + (u64)(BLOCK * N_WARPS + WARP) * slot_bytes;
    r.stride = (u64)warps * slot_bytes;
    r.left = r.chunks = m->bytes / r.stride;
    r.passes = m->passes;
    r.fill = 0;
    for (int i = 0; i < m->slots; i++) gate_open(r.gates + i);
    for (int i = 0; i < m->slots; i++) reader_feed(m, &r);
    const u64 total = r.chunks * (u64)m->passes;
    int slot = 0;
    unsigned round = 0;
    for (u64 i = 0; i < total; i++) {
        copy_wait(r.gates + slot, round, m->slots);
        warp_sync();
        reader_feed(m, &r);
        if (++slot == m->slots) slot = 0, round++;
    }
}

KERNEL measure_multiply(PARAM cuda_measure measure) {
    u32 a[4];
    float c[MEASURE_TOKENS / 2]; /* of the lane */
    UNROLL for (int i = 0; i < 4; i++) {
        a[i] = 0x3f803f80u ^ (u32)(LANE * 5 + i); /* bf16 near 1, so that bits change as in life */
    }
    UNROLL for (int i = 0; i < MEASURE_TOKENS / 2; i++) c[i] = 0;
    for (int r = 0; r < measure.rounds; r++) {
        wide_begin();
        UNROLL for (int i = 0; i < MEASURE_STEPS; i++) {
            wide_multiply(c, MEASURE_TOKENS, a, shared_bytes, i % 4, true);
        }
        wide_end();
        wide_wait(0);
    }
    wide_settle(c, MEASURE_TOKENS);
    float sum = 0;
    UNROLL for (int i = 0; i < MEASURE_TOKENS / 2; i++) sum += c[i];
    if (measure.rounds < 0) *(float *)measure.memory = sum; /* never: so that sums are wanted */
}
