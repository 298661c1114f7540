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
    char *slots; /* [n_slots][slot_bytes] of this warp */
    u64 *gates;  /* [n_slots] */
    int n_slots, slot_bytes;
    int read;       /* slot of the next chunk to be read */
    unsigned round; /* how often `read` came round */
    int fill;       /* slot of the next chunk to be copied */
    /* what is to be copied next, and the rest of its slice; left 0: there is no more */
    const char *from;
    int left;
    /* where that is, and what its matrix is like */
    int stage, passes, tile, slice;
    const char *tiles;
    u64 tile_bytes;
    int n_tiles, n_blocks, block_bytes, chunk_bytes;
    int slice_bytes;
} ring;

DEVICE int slice_from(int n_blocks, int slice) {
    return (int)((long long)n_blocks * slice / CUDA_SLICES);
}

DEVICE const cuda_stage *stage_at(const cuda_world *w, int i) {
    return (const cuda_stage *)w->stages + i;
}

DEVICE int passes_of(const cuda_world *w, const cuda_stage *s) {
    return (rows_of(w, &s->out) + w->pass - 1) / w->pass;
}

/* Takes what it needs to know of stage i; a stage without weights has no passes. */
DEVICE void ring_enter(const cuda_world *w, ring *r, int i) {
    r->stage = i;
    r->tile = BLOCK;
    r->passes = 0;
    if (i >= w->last) return;
    const cuda_stage *s = stage_at(w, i);
    if (s->kind != NN_PROJECT) return;
    r->passes = passes_of(w, s);
    r->tiles = (const char *)s->matrix.tiles;
    r->tile_bytes = s->matrix.tile_bytes;
    r->n_tiles = s->matrix.n_tiles;
    r->n_blocks = s->matrix.n_blocks;
    r->block_bytes = s->matrix.block_bytes;
    r->chunk_bytes = s->matrix.chunk_blocks * s->matrix.block_bytes;
}

/* Stands at slice `slice` of tile `tile`, if that is one; false otherwise. */
DEVICE bool ring_stand(ring *r) {
    if (r->tile >= r->n_tiles) return false;
    const int first = slice_from(r->n_blocks, r->slice);
    r->slice_bytes = (slice_from(r->n_blocks, r->slice + 1) - first) * r->block_bytes;
    r->left = r->slice_bytes;
    r->from = r->tiles + (u64)r->tile * r->tile_bytes + (u64)first * (u64)r->block_bytes;
    return true;
}

/* The slice after this one, in whatever stage; empty ones are passed over. */
DEVICE void ring_seek(const cuda_world *w, ring *r) {
    do {
        r->slice += N_WARPS;
        if (r->slice >= CUDA_SLICES) {
            r->slice = WARP;
            r->tile += N_BLOCKS;
        }
        while (r->stage < w->last && (r->passes == 0 || !ring_stand(r))) {
            r->tile = BLOCK;
            if (r->passes == 0 || --r->passes == 0) ring_enter(w, r, r->stage + 1);
        }
    } while (r->stage < w->last && r->left == 0);
}

/* Starts the copy of the next chunk into slot `fill`, which nobody reads any more. */
DEVICE void ring_feed(const cuda_world *w, ring *r) {
    if (r->left == 0) {
        copy_nothing();
        return;
    }
    const int n = r->left < r->chunk_bytes ? r->left : r->chunk_bytes;
    copy_start_once(r->slots + r->fill * r->slot_bytes, r->from, n, r->gates + r->fill);
    r->fill = r->fill + 1 == r->n_slots ? 0 : r->fill + 1;
    r->from += n;
    r->left -= n;
    if (r->left > 0) return;
    if (N_WARPS == CUDA_SLICES && r->tile + N_BLOCKS < r->n_tiles) { /* the same slice of a tile */
        r->tile += N_BLOCKS;
        r->from += (u64)N_BLOCKS * r->tile_bytes - (u64)r->slice_bytes;
        r->left = r->slice_bytes;
    } else {
        ring_seek(w, r);
    }
}

DEVICE void ring_open(const cuda_world *w, ring *r) {
    r->n_slots = w->shared.slots;
    r->slot_bytes = w->shared.slot_bytes;
    r->slots = shared_bytes + WARP * r->n_slots * r->slot_bytes;
    r->gates = (u64 *)(shared_bytes + w->shared.gates) + WARP * r->n_slots;
    r->read = r->fill = r->left = 0;
    r->round = 0;
    r->slice = WARP - N_WARPS;
    ring_enter(w, r, w->first);
    for (int i = 0; i < r->n_slots; i++) gate_open(r->gates + i);
    ring_seek(w, r);
    for (int i = 0; i < r->n_slots; i++) ring_feed(w, r);
}

/* The chunk that is next, once it is there.  All lanes of the warp. */
DEVICE const char *ring_read(ring *r) {
    copy_wait(r->gates + r->read, r->round, r->n_slots);
    return r->slots + r->read * r->slot_bytes;
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
