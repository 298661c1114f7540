/* ring.cuh - weights and keys on their way: a block's queue of copies into shared memory.
 *
 *   stage 3, tile b: chunk, chunk .. | stage 3, tile b + grid: chunk .. | stage 4, tile b ...
 *   ^ read by all warps that work          ^ being copied, at most `slots` chunks ahead
 *
 * Which weights a block will read is known before anything is computed, so the queue runs ahead of
 * every barrier: while blocks wait for each other, the next stage's weights arrive.  The warp
 * behind those that work fills it and does nothing else: what it copies, in which order, is the
 * loops of feed_block, and those of project.cuh and attend.cuh read the same.
 *
 *     chunk     blocks of a tile side by side, of which each warp has a share; or keys side by
 *               side, then their values, which warps look at by turns
 *     gates     of a slot: it is full; all warps are done with it
 *
 * Keys are there before the step but for those of its own rows: the queue stops before a stage of
 * attention that looks at keys which the step has yet to store (ring_allow).  layout.c lists what
 * is copied (cuda_feed).
 *
 * SPDX-License-Identifier: MIT */
#pragma once

typedef struct key_piece { /* keys that lie side by side, and their values */
    const char *from;
    u64 twin;         /* from keys to values */
    int bytes, chunk; /* of keys; of them that are copied together */
} key_piece;

typedef struct ring_place { /* in shared memory, of a block */
    cuda_feed feed;         /* what is copied now is of this */
    int limit;              /* the first stage whose keys may not be copied yet */
    int n_pieces;
    attend_units units; /* of a stage of attention ... */
    attend_item item;   /* ... and where it is split what the block's first unit is: of this item */
    int number, split;  /* its number, and which split */
    key_run runs[2];    /* of that in layer 0: recent keys, pins */
    key_piece pieces[4];
} ring_place;

static_assert(sizeof(ring_place) <= CUDA_PLACE_BYTES, "layout.c counts so many");

typedef struct ring { /* where a warp reads, or the one that copies writes */
    int slot;
    unsigned round; /* how often it came round */
} ring;

enum { FEED_WORDS = sizeof(cuda_feed) / sizeof(u32) };

static_assert(FEED_WORDS <= 32, "a lane has a word");

WALK ring_place *ring_place_of(const world_of *w) {
    return (ring_place *)(shared_bytes + w->shared.place);
}

WALK u64 *full_gate(const world_of *w, const ring *r) {
    return (u64 *)(shared_bytes + w->shared.gates) + r->slot;
}

WALK u64 *empty_gate(const world_of *w, const ring *r) {
    return full_gate(w, r) + w->shared.slots;
}

WALK char *slot_of(const world_of *w, const ring *r) {
    return shared_bytes + r->slot * w->shared.slot_bytes;
}

WALK void ring_pass(const world_of *w, ring *r) {
    r->slot++;
    if (r->slot == w->shared.slots) {
        r->slot = 0;
        r->round++;
    }
}

WALK const cuda_stage *stage_at(const world_of *w, int i) {
    return (const cuda_stage *)w->stages + i;
}

/* ---- reading; whole warps */

/* The next chunk, once it is there. */
WALK const char *ring_read(const world_of *w, const ring *r) {
    gate_pass(full_gate(w, r), r->round);
    return slot_of(w, r);
}

/* This warp is done with it. */
WALK void ring_done(const world_of *w, ring *r) {
    gate_arrive(empty_gate(w, r));
    ring_pass(w, r);
}

/* Keys of attention before stage `limit` are there; one warp says so. */
WALK void ring_allow(const world_of *w, int limit) {
    if (LANE == 0) put_shared(&ring_place_of(w)->limit, limit);
}

/* Whether all keys are there that the step looks at, but for those that attention makes itself. */
WALK bool has_keys(const world_of *w) {
    return w->alone || w->last - w->first == 1;
}

/* The rows of the step are there, and nobody copies keys yet; a warp. */
WALK void ring_know_rows(const world_of *w) {
    ring_place *p = ring_place_of(w);
    if (LANE != 0) return;
    p->units = units_of(w);
    if (p->units.is_split && BLOCK < p->units.n) {
        p->number = BLOCK / w->max_splits;
        p->split = BLOCK % w->max_splits;
        p->item = attend_item_of(w, p->number);
        for (int is_pin = 0; is_pin < 2; is_pin++) {
            p->runs[is_pin] = keys_of_split(w, &p->item, 0, is_pin, p->split);
        }
    }
}

/* ---- copying */

/* A chunk of n pieces of `bytes`, `step` apart, into the next slot, once all are done with that. */
WALK void ring_put(const world_of *w, ring *r, const char *from, u64 step, int n, int bytes) {
    if (r->round > 0) gate_pass(empty_gate(w, r), r->round - 1);
    copy_all_once(slot_of(w, r), bytes, from, step, n, n, bytes, full_gate(w, r));
    ring_pass(w, r);
}

WALK void feed_weights(const world_of *w, ring *r, const cuda_feed *f) {
    const int rows = f->selected ? w->n_wanted : w->n, all = f->n_blocks * f->block_bytes;
    for (int first = 0; first < rows; first += w->pass) {
        for (int tile = BLOCK; tile < f->n_tiles; tile += N_BLOCKS) {
            const char *from = (const char *)f->tiles + (u64)tile * f->tile_bytes;
            for (int at = 0; at < all; at += f->chunk_bytes) {
                const int left = all - at;
                ring_put(w, r, from + at, 0, 1, left < f->chunk_bytes ? left : f->chunk_bytes);
            }
        }
    }
}

/* The keys of a run as pieces; a lane. */
WALK int cut_run(const world_of *w, key_run run, key_piece *out) {
    int n = 0;
    while (run.n > 0) {
        const int near = keys_side_by_side(&run);
        const int each = WEIR_HEAD_DIM(w) * store_type_bytes(run.keys.type);
        out[n].from = run.keys.at + (u64)run.at * (u64)each;
        out[n].twin = (u64)(run.values.at - run.keys.at);
        out[n].bytes = near * each;
        out[n++].chunk = keys_of_slot(w, run.keys.type) * each;
        pass_keys(&run, near);
    }
    return n;
}

/* Pins, then recent keys, to p->pieces. */
WALK void cut_runs(const world_of *w, const key_run *recent, const key_run *pins) {
    ring_place *p = ring_place_of(w);
    warp_sync(); /* all have read what was there */
    if (LANE == 0) {
        const int n = cut_run(w, *pins, p->pieces);
        p->n_pieces = n + cut_run(w, *recent, p->pieces + n);
    }
    warp_sync();
}

/* What p->pieces says, `on` bytes behind. */
WALK void feed_pieces(const world_of *w, ring *r, u64 on) {
    const ring_place *p = ring_place_of(w);
    for (int i = 0; i < p->n_pieces; i++) {
        const key_piece piece = p->pieces[i];
        for (int at = 0; at < piece.bytes; at += piece.chunk) {
            const int left = piece.bytes - at;
            ring_put(w, r, piece.from + on + at, piece.twin, 2,
                     left < piece.chunk ? left : piece.chunk);
        }
    }
}

/* Of every split that attend.cuh looks at.  Where a block has one at most, as in a step of one row,
 * its pieces are the same in all layers. */
WALK void feed_keys(const world_of *w, ring *r, const cuda_feed *f, bool is_first) {
    ring_place *p = ring_place_of(w);
    while (get_shared(&p->limit) <= f->stage) spin();
    launch_wait();
    copies_see_stores();
    if (w->fast) {
        if (is_first) cut_runs(w, &p->runs[0], &p->runs[1]);
        feed_pieces(w, r, (u64)f->layer * w->layer_bytes);
        return;
    }
    const attend_units units = p->units;
    for (int unit = BLOCK; unit < units.n; unit += N_BLOCKS) {
        const attend_item item = attend_item_of(w, units.is_split ? unit / w->max_splits : unit);
        const int n = item.row->n_splits, first = units.is_split ? unit % w->max_splits : 0;
        for (int i = first; i < n && (i == first || !units.is_split); i++) {
            const key_run recent = keys_of_split(w, &item, f->layer, false, i);
            const key_run pins = keys_of_split(w, &item, f->layer, true, i);
            cut_runs(w, &recent, &pins);
            feed_pieces(w, r, 0);
        }
    }
}

/* Before the threads of the block meet first. */
WALK void ring_open(const world_of *w) {
    u64 *gates = (u64 *)(shared_bytes + w->shared.gates);
    ring_place *p = ring_place_of(w);
    gates_open_for(gates, w->shared.slots, COPY_ARRIVALS);
    gates_open_for(gates + w->shared.slots, w->shared.slots, WORKERS(w));
    if (LANE == 0) p->limit = p->units.n = p->runs[0].n = p->runs[1].n = 0;
}

/* The warp that copies. */
WALK void feed_block(const world_of *w) {
    const cuda_feed *feeds = (const cuda_feed *)w->feeds + stage_at(w, w->first)->feed;
    ring_place *p = ring_place_of(w);
    ring r = {0, 0};
    bool is_first = true; /* keys */
    u32 ahead = LANE < FEED_WORDS ? ((const u32 *)feeds)[LANE] : 0;
    for (;;) {
        warp_sync();
        if (LANE < FEED_WORDS) {
            ((u32 *)&p->feed)[LANE] = ahead;
            ahead = ((const u32 *)++feeds)[LANE]; /* on its way: memory is slow where it is busy */
        }
        warp_sync();
        const cuda_feed *f = &p->feed;
        if (f->stage >= w->last) break;
        /* to the second-level cache, long before the input is read */
        for (int at = LANE * 128; at < f->norm_bytes; at += 32 * 128) {
            fetch_ahead((const char *)f->norm + at);
        }
        if (f->is_keys) {
            feed_keys(w, &r, f, is_first);
            is_first = false;
        } else {
            feed_weights(w, &r, f);
        }
    }
    copies_commit();
    copies_wait(0); /* where threads copy themselves they stay until that is done */
}
