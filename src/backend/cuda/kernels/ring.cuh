/* ring.cuh - weights and keys on their way: every warp's own queue of copies into shared memory.
 *
 *   stage 3, tile b, slice w | stage 3, tile b + grid, slice w | ... | stage 4, tile b, slice w ...
 *      chunk  chunk  chunk      chunk ...
 *      ^ read                   ^ being copied, at most `slots` chunks ahead
 *
 * Which weights a warp will read is known before anything is computed, so the queue runs ahead of
 * every barrier: while blocks wait for each other, the next stage's weights arrive.  A chunk is as
 * many blocks of one slice of one tile as fit a slot, or as many keys and their values.  Keys are
 * there before the step but for those of its own rows: the queue stops before a stage of attention
 * that looks at keys which the step has yet to store.  layout.c lists what is copied, in order
 * (cuda_feed); in a step of one row where that is finds itself in a few instructions (fast_seek).
 *
 * SPDX-License-Identifier: MIT */
#pragma once

typedef struct key_piece { /* keys that lie side by side, and their values */
    const char *from;
    long long twin;
    int bytes, chunk;
} key_piece;

typedef struct ring_place { /* in shared memory: where a warp's queue stands */
    cuda_feed feed;         /* what is copied now is of this */
    attend_units units;     /* of a stage of attention */
    attend_item item;       /* the block's first unit is of */
    key_run shares[2];      /* of it in layer 0: recent keys, pins */
    key_piece pieces[4];    /* they, in layer 0 */
    int n_pieces;
    /* where things are not as simple as in fast_seek: what was found, as in a ring, and where */
    const char *from;
    long long twin, jump;
    int bytes, more, chunk;
    int index; /* of the feed */
    int is_over;
    int passes, tile, slice;
    int unit, split, is_recent;
    key_run run; /* what is left of it */
} ring_place;

static_assert(sizeof(ring_place) <= CUDA_PLACE_BYTES, "layout.c counts so many");

typedef struct ring {
    char *slots; /* [n_slots][slot_bytes] of this warp */
    u64 *gates;  /* [n_slots] */
    int n_slots, slot_bytes;
    int read;       /* slot of the next chunk to be read */
    unsigned round; /* how often `read` came round */
    int fill;       /* slot of the next chunk to be copied */
    int skipped;    /* slots that wait for more to copy */
    int limit;      /* the first stage whose keys may not be copied yet */
    /* what is to be copied next: the `left` bytes from `from` on, then `more` pieces of `bytes`,
     * `jump` behind the end of the one before; with `twin`, the distance to their values, keys */
    const char *from;
    long long twin, jump;
    int left, bytes, more, chunk;
    /* what comes behind that */
    bool is_fast;
    int pieces;   /* of keys */
    u64 layer_at; /* theirs */
    int index;    /* of the next feed ... */
    u32 ahead;    /* ... and this lane's word of it: memory is slow where rings are busy */
} ring;

enum { FEED_WORDS = sizeof(cuda_feed) / sizeof(u32) };

WALK ring_place *ring_place_of(const world_of *w) {
    return (ring_place *)(shared_bytes + w->shared.places) + WARP;
}

DEVICE int slice_from(int n_blocks, int slice) {
    return (int)((u32)n_blocks * (u32)slice / CUDA_SLICES);
}

WALK const cuda_stage *stage_at(const world_of *w, int i) {
    return (const cuda_stage *)w->stages + i;
}

/* This warp's keys of a split, its row's own left out, as they are in layer `layer`. */
WALK key_run share_of(const world_of *w, const attend_item *item, int layer, bool is_pin, int unit,
                      int split) {
    if (unit != BLOCK || w->plain || !ring_place_of(w)->units.is_split) {
        return keys_of_warp(w, item, layer, is_pin, split);
    }
    key_run run = ring_place_of(w)->shares[is_pin];
    const u64 on = (u64)layer * w->layer_bytes;
    run.keys.type = run.values.type = type_of_pin(w, is_pin); /* known where kernels are made */
    run.keys.at += on;
    run.values.at += on;
    run.keys.scales += on / sizeof(float);
    run.values.scales += on / sizeof(float);
    return run;
}

/* n keys of a run, row `at` of the store first. */
WALK key_piece piece_of(const world_of *w, const key_run *run, bool is_pin, int at, int n) {
    const int type = type_of_pin(w, is_pin), each = WEIR_HEAD_DIM(w) * store_type_bytes(type);
    key_piece out;
    out.from = run->keys.at + (u64)at * (u64)each;
    out.twin = run->values.at - run->keys.at;
    out.bytes = n * each;
    out.chunk = keys_of_slot(w, type) * each;
    return out;
}

/* ---- a step of one row, mostly: a block has one unit of attention, a warp a slice of each tile */

/* The next feed to p->feed; the one behind it is on its way. */
WALK void take_feed(const world_of *w, ring *r) {
    ring_place *p = ring_place_of(w);
    warp_sync();
    if (LANE < FEED_WORDS) {
        ((u32 *)&p->feed)[LANE] = r->ahead;
        r->ahead = ((const u32 *)((const cuda_feed *)w->feeds + r->index + 1))[LANE];
    }
    r->index++;
    warp_sync();
    /* to the second-level cache, long before the input is read: later memory is busy */
    for (int at = (WARP * 32 + LANE) * 128; at < p->feed.norm_bytes; at += N_WARPS * 32 * 128) {
        fetch_ahead((const char *)p->feed.norm + at);
    }
}

WALK void fast_seek(const world_of *w, ring *r) {
    const ring_place *p = ring_place_of(w);
    const cuda_feed *f = &p->feed;
    for (r->left = 0; r->left == 0;) {
        if (r->pieces > 0) {
            const key_piece *piece = &p->pieces[p->n_pieces - r->pieces--];
            r->from = piece->from + r->layer_at;
            r->twin = piece->twin;
            r->left = piece->bytes;
            r->chunk = piece->chunk;
            r->more = 0;
            return;
        }
        const int stage = shuffle_int((int)r->ahead, 0);
        if (stage >= w->last || (stage >= r->limit && shuffle_int((int)r->ahead, 1))) return;
        take_feed(w, r);
        if (f->is_keys) {
            r->pieces = p->n_pieces;
            r->layer_at = (u64)f->layer * w->layer_bytes;
            continue;
        }
        const int first = slice_from(f->n_blocks, WARP), end = slice_from(f->n_blocks, WARP + 1);
        r->more = first < end ? f->whole + (BLOCK < f->rest) - 1 : -1;
        if (r->more < 0) continue;
        r->left = r->bytes = (end - first) * f->block_bytes;
        r->from =
            (const char *)f->tiles + (u64)BLOCK * f->tile_bytes + (u64)first * (u64)f->block_bytes;
        r->jump = (long long)N_BLOCKS * (long long)f->tile_bytes - r->bytes;
        r->chunk = f->chunk_bytes;
        r->twin = 0;
    }
}

/* ---- other steps */

/* Stands before the first piece of the feed. */
WALK void enter_feed(const world_of *w, ring_place *p) {
    const int rows = p->feed.selected ? w->n_wanted : w->n;
    p->is_over = 0;
    p->tile = p->unit = BLOCK;
    p->slice = WARP - N_WARPS;
    p->split = -1;
    p->is_recent = 1;
    p->run.n = p->more = 0;
    p->passes = (rows + w->pass - 1) / w->pass;
}

/* This warp's slices of a tile; of all tiles, where it has one of each. */
DEVICE void find_slices(ring_place *p) {
    const cuda_feed *f = &p->feed;
    p->slice += N_WARPS;
    if (p->slice >= CUDA_SLICES) {
        p->slice = WARP;
        p->tile += N_BLOCKS * (1 + p->more);
    }
    if (p->passes == 0) {
        p->is_over = 1;
    } else if (p->tile >= f->n_tiles) {
        p->passes--;
        p->tile = BLOCK;
        p->slice = WARP - N_WARPS;
    } else {
        const int first = slice_from(f->n_blocks, p->slice);
        p->bytes = (slice_from(f->n_blocks, p->slice + 1) - first) * f->block_bytes;
        p->from = (const char *)f->tiles + (u64)p->tile * f->tile_bytes +
                  (u64)first * (u64)f->block_bytes;
        p->chunk = f->chunk_bytes;
        p->more = N_WARPS == CUDA_SLICES ? (f->n_tiles - 1 - p->tile) / N_BLOCKS : 0;
        p->jump = (long long)N_BLOCKS * (long long)f->tile_bytes - p->bytes;
        p->twin = 0;
    }
}

/* The keys of p->run that lie side by side. */
WALK void find_keys_of_run(const world_of *w, ring_place *p) {
    const int n = keys_side_by_side(&p->run);
    const key_piece piece = piece_of(w, &p->run, !p->is_recent, p->run.at, n);
    p->from = piece.from;
    p->twin = piece.twin;
    p->bytes = piece.bytes;
    p->chunk = piece.chunk;
    p->more = 0;
    pass_keys(&p->run, n);
}

/* This warp's keys of a split, pins, then recent ones; of all splits of a unit, then of the next.
 */
WALK void find_keys(const world_of *w, ring_place *p) {
    const attend_units units = p->units;
    const int splits = units.is_split ? w->max_splits : 1;
    if (p->is_recent) { /* the next split */
        if (units.is_split && p->split >= 0) p->unit += N_BLOCKS;
        p->is_over = p->unit >= units.n;
        if (p->is_over) return;
        p->split = units.is_split ? p->unit % splits : p->split + 1;
    }
    p->is_recent ^= 1;
    const attend_item item = attend_item_of(w, p->unit / splits);
    if (p->split >= item.row->n_splits) {
        p->is_recent = 1;
        if (units.is_split) return;
        p->unit += N_BLOCKS;
        p->split = -1;
        return;
    }
    p->run = share_of(w, &item, p->feed.layer, !p->is_recent, p->unit, p->split);
}

/* The next piece of the feed that is not empty. */
WALK void find_in_feed(const world_of *w, ring_place *p) {
    while (p->bytes == 0 && !p->is_over) {
        if (!p->feed.is_keys) {
            find_slices(p);
        } else if (p->run.n > 0) {
            find_keys_of_run(w, p);
        } else {
            find_keys(w, p);
        }
    }
}

/* The next piece that is not empty, of whatever feed before the limit. */
COLD void find_piece(const cuda_world *w, int limit) {
    ring_place *p = ring_place_of(w);
    warp_sync(); /* all have read what was found before */
    if (LANE == 0) {
        const cuda_feed *feeds = (const cuda_feed *)w->feeds;
        p->bytes = 0;
        while (p->feed.stage < w->last && !(p->feed.is_keys && p->feed.stage >= limit)) {
            find_in_feed(w, p);
            if (!p->is_over) break;
            p->feed = feeds[++p->index];
            enter_feed(w, p);
        }
    }
    warp_sync();
}

WALK void ring_seek(const world_of *w, ring *r) {
    if (r->is_fast) {
        fast_seek(w, r);
        return;
    }
    find_piece(w, r->limit);
    const ring_place *p = ring_place_of(w);
    r->from = p->from;
    r->twin = p->twin;
    r->jump = p->jump;
    r->left = r->bytes = p->bytes;
    r->more = p->more;
    r->chunk = p->chunk;
}

/* Starts the copy of the next chunk into slot `fill`, which nobody reads any more. */
WALK void ring_feed(const world_of *w, ring *r) {
    if (r->left == 0) {
        r->skipped++;
        copy_nothing();
        return;
    }
    const int n = r->left < r->chunk ? r->left : r->chunk;
    char *slot = r->slots + r->fill * r->slot_bytes;
    if (r->twin) {
        copy_two_once(slot, r->from, r->from + r->twin, n, r->gates + r->fill);
    } else {
        copy_start_once(slot, r->from, n, r->gates + r->fill);
    }
    r->fill = r->fill + 1 == r->n_slots ? 0 : r->fill + 1;
    r->from += n;
    r->left -= n;
    if (r->left > 0) return;
    if (r->more > 0) {
        r->more--;
        r->from += r->jump;
        r->left = r->bytes;
    } else {
        ring_seek(w, r);
    }
}

/* Fills the slots that wait. */
WALK void ring_go_on(const world_of *w, ring *r) {
    ring_seek(w, r);
    for (int n = r->skipped; n > 0; n--) {
        r->skipped--;
        ring_feed(w, r);
    }
}

/* Keys of attention before stage `limit` are there. */
WALK void ring_allow(const world_of *w, ring *r, int limit) {
    if (limit <= r->limit) return;
    r->limit = limit;
    if (r->left > 0) return;
    copies_see_stores();
    ring_go_on(w, r);
}

/* The rows of the step are there. */
WALK void ring_know_rows(const world_of *w) {
    ring_place *p = ring_place_of(w);
    if (LANE == 0 && p->units.is_split && BLOCK < p->units.n) {
        const attend_item item = attend_item_of(w, BLOCK / w->max_splits);
        p->item = item;
        for (int is_pin = 1; is_pin >= 0; is_pin--) {
            const key_run run = keys_of_warp(w, &item, 0, is_pin, BLOCK % w->max_splits);
            const int near = keys_side_by_side(&run);
            p->shares[is_pin] = run;
            if (near > 0) p->pieces[p->n_pieces++] = piece_of(w, &run, is_pin, run.at, near);
            if (near < run.n) p->pieces[p->n_pieces++] = piece_of(w, &run, is_pin, 0, run.n - near);
        }
    }
    warp_sync();
}

WALK void ring_open(const world_of *w, ring *r) {
    ring_place *p = ring_place_of(w);
    const attend_units units = units_of(w);
    r->n_slots = w->shared.slots;
    r->slot_bytes = w->shared.slot_bytes;
    r->slots = shared_bytes + WARP * r->n_slots * r->slot_bytes;
    r->gates = (u64 *)(shared_bytes + w->shared.gates) + WARP * r->n_slots;
    r->read = r->fill = r->left = r->limit = r->pieces = 0;
    r->round = 0;
    r->skipped = r->n_slots;
    r->is_fast = w->fast || (N_WARPS == CUDA_SLICES && w->n <= w->pass && units.is_split &&
                             units.n <= N_BLOCKS);
    for (int i = 0; i < r->n_slots; i++) gate_open(r->gates + i);
    const cuda_feed *feeds = (const cuda_feed *)w->feeds;
    r->index = stage_at(w, w->first)->feed;
    r->ahead = LANE < FEED_WORDS ? ((const u32 *)(feeds + r->index))[LANE] : 0;
    if (LANE == 0) {
        p->units = units;
        p->n_pieces = 0;
        p->index = r->index;
        p->feed = feeds[r->index];
        enter_feed(w, p);
    }
    warp_sync();
    ring_go_on(w, r);
}

/* The chunk that is next, once it is there.  All lanes of the warp. */
DEVICE const char *ring_read(ring *r) {
    copy_wait(r->gates + r->read, r->round, r->n_slots);
    return r->slots + r->read * r->slot_bytes;
}

/* The one behind it, where there are more slots than two. */
DEVICE const char *ring_read_second(ring *r) {
    const bool is_last = r->read + 1 == r->n_slots;
    const int slot = is_last ? 0 : r->read + 1;
    copy_wait(r->gates + slot, r->round + is_last, r->n_slots - 1);
    return r->slots + slot * r->slot_bytes;
}

DEVICE void ring_pass(ring *r) {
    r->read++;
    if (r->read == r->n_slots) {
        r->read = 0;
        r->round++;
    }
}

/* Gives the chunk back and has its slot filled again. */
WALK void ring_done(const world_of *w, ring *r) {
    warp_sync();
    ring_pass(r);
    ring_feed(w, r);
}

/* The same of two; mostly their slots get whole pieces that are a chunk each. */
WALK void ring_done_two(const world_of *w, ring *r) {
    warp_sync();
    ring_pass(r);
    ring_pass(r);
    if (r->twin || r->left != r->bytes || r->bytes > r->chunk || r->more < 2) {
        ring_feed(w, r);
        ring_feed(w, r);
        return;
    }
    const int first = r->fill, second = first + 1 == r->n_slots ? 0 : first + 1;
    const long long step = r->bytes + r->jump;
    void *const to[2] = {r->slots + first * r->slot_bytes, r->slots + second * r->slot_bytes};
    const void *const from[2] = {r->from, r->from + step};
    u64 *const gate[2] = {r->gates + first, r->gates + second};
    copy_each_once(to, from, r->bytes, gate);
    r->fill = second + 1 == r->n_slots ? 0 : second + 1;
    r->from += 2 * step;
    r->more -= 2;
}
