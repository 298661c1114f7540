/* ring.cuh - weights on their way: every warp's own queue of copies into shared memory.
 *
 *   stage 3, tile b, slice w | stage 3, tile b + grid, slice w | ... | stage 4, tile b, slice w ...
 *      chunk  chunk  chunk      chunk ...
 *      ^ read                   ^ being copied, at most `slots` chunks ahead
 *
 * Which weights a warp will read is known before anything is computed, so the queue runs ahead of
 * every barrier: while blocks wait for each other, the next stage's weights arrive.  A chunk is as
 * many blocks of one slice of one tile as fit a slot.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

typedef struct ring {
    char *slots; /* [n_slots][CUDA_SLOT] of this warp */
    u64 *gates;  /* [n_slots] */
    int n_slots;
    int read;       /* slot of the next chunk to be read */
    unsigned round; /* how often `read` came round */
    int fill;       /* slot of the next chunk to be copied */
    /* the next chunk to be copied */
    int stage, passes, tile, slice, block, end;
} ring;

DEVICE int slice_from(int n_blocks, int slice) {
    return (int)((long long)n_blocks * slice / CUDA_SLICES);
}

DEVICE const cuda_stage *stage_at(const cuda_world *w, int i) {
    return (const cuda_stage *)w->stages + i;
}

DEVICE int passes_of(const cuda_world *w, const cuda_stage *s) {
    return (rows_of(w, &s->out) + w->shared.pass - 1) / w->shared.pass;
}

/* Moves to the next slice of a tile of this warp; false behind the last. */
DEVICE bool ring_next_slice(const cuda_world *w, ring *r) {
    r->slice += N_WARPS;
    if (r->slice >= CUDA_SLICES) {
        r->slice = WARP;
        r->tile += N_BLOCKS;
    }
    while (r->stage < w->last) {
        const cuda_stage *s = stage_at(w, r->stage);
        if (s->kind == NN_PROJECT && r->passes > 0) {
            if (r->tile < s->matrix.n_tiles) {
                r->block = slice_from(s->matrix.n_blocks, r->slice);
                r->end = slice_from(s->matrix.n_blocks, r->slice + 1);
                return true;
            }
            r->tile = BLOCK;
            if (--r->passes > 0) continue;
        }
        if (++r->stage < w->last) r->passes = passes_of(w, stage_at(w, r->stage));
        r->tile = BLOCK;
    }
    return false;
}

/* Starts the copy of the next chunk into slot `fill`, which nobody reads any more. */
DEVICE void ring_feed(const cuda_world *w, ring *r) {
    while (r->block >= r->end && r->stage < w->last) {
        if (!ring_next_slice(w, r)) break;
    }
    if (r->stage >= w->last) {
        copy_nothing();
        return;
    }
    const cuda_matrix *m = &stage_at(w, r->stage)->matrix;
    const int n = r->end - r->block < m->chunk_blocks ? r->end - r->block : m->chunk_blocks;
    copy_start(r->slots + r->fill * CUDA_SLOT,
               (const char *)m->tiles + (u64)r->tile * m->tile_bytes +
                   (u64)r->block * (u64)m->block_bytes,
               n * m->block_bytes, r->gates + r->fill);
    r->block += n;
    r->fill = r->fill + 1 == r->n_slots ? 0 : r->fill + 1;
}

DEVICE void ring_open(const cuda_world *w, ring *r) {
    r->n_slots = w->shared.slots;
    r->slots = shared_bytes + WARP * r->n_slots * CUDA_SLOT;
    r->gates = (u64 *)(shared_bytes + w->shared.gates) + WARP * r->n_slots;
    r->read = r->fill = 0;
    r->round = 0;
    r->stage = w->first - 1;
    r->passes = 1;
    r->block = r->end = 0;
    r->slice = WARP - N_WARPS;
    r->tile = BLOCK;
    for (int i = 0; i < r->n_slots; i++) gate_open(r->gates + i);
    /* the first stage is entered as every other one is */
    if (++r->stage < w->last) r->passes = passes_of(w, stage_at(w, r->stage));
    for (int i = 0; i < r->n_slots; i++) ring_feed(w, r);
}

/* The chunk that is next, once it is there.  All lanes of the warp. */
DEVICE const char *ring_read(ring *r) {
    copy_wait(r->gates + r->read, r->round, r->n_slots);
    return r->slots + r->read * CUDA_SLOT;
}

/* Gives the chunk back and has its slot filled again. */
DEVICE void ring_done(const cuda_world *w, ring *r) {
    warp_sync();
    r->read++;
    if (r->read == r->n_slots) {
        r->read = 0;
        r->round++;
    }
    ring_feed(w, r);
}
