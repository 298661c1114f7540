/* attend.cuh - attention under the streaming rule; ref/attend.c is the definition.
 *
 *   q [n, n_heads * hd], keys and values in the store -> y [n, n_heads * hd]
 *
 *   score(pin s)     = scale * rot(q, p) . K_pin[s]              - slope * (p - s)
 *   score(recent j)  = scale * rot(q, pos) . K_ring[j mod ring]  - slope * (pos - j)
 *
 * Up to CUDA_HEADS query heads of one K/V head look at its keys together.  The keys of a row are
 * cut at places of its own, whatever the batch (keys.cuh).  Each warp has a share of a split's
 * keys, which the ring copies, and keeps a running softmax; the warps' are merged in order, and the
 * splits' are merged in order at last: by the block that made them all when there are rows enough
 * to keep all blocks busy, by the block that comes last otherwise.  So a row's result has the same
 * bits either way.
 *
 * Moves each key and value once per row and group of heads: for one token the bytes of the window.
 * Shared memory: queries twice, the warps' sums.  CPU twin: cpu/attend.c.
 * Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

/* In shared memory; layout.c counts the bytes. */
typedef struct attend_space {
    float *q_pos, *q_pin; /* [WEIR_HEADS][hd] */
    float *warps;         /* [warps][WEIR_HEADS][hd + 2]: sums, most, total */
    float *weights;       /* [WEIR_HEADS][max_splits] */
    int *is_last;
    float *own_scales; /* [2] */
    char *own;         /* [2][hd] of a type: the row's own key and its value, as they are stored */
    char *brought;     /* [warps][2][hd] of a type: those that the ring cannot copy */
} attend_space;

DEVICE attend_space attend_space_of(const cuda_world *w) {
    const int hd = WEIR_HEAD_DIM(w);
    attend_space out;
    out.q_pos = (float *)(shared_bytes + w->shared.input);
    out.q_pin = out.q_pos + WEIR_HEADS * hd;
    out.warps = out.q_pin + WEIR_HEADS * hd;
    out.weights = out.warps + N_WARPS * WEIR_HEADS * (hd + 2);
    const int floats = (int)(out.weights - out.q_pos) + WEIR_HEADS * w->max_splits;
    out.own_scales = out.q_pos + (floats + 3) / 4 * 4; /* own is aligned to 16 bytes */
    out.is_last = (int *)(out.own_scales + 2);
    out.own = (char *)(out.own_scales + 4);
    out.brought = out.own + 2 * hd * 4;
    return out;
}

DEVICE void load_queries(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                         const attend_space *to) {
    const int hd = WEIR_HEAD_DIM(w);
    const u64 phase = (u64)item->r * (u64)w->pairs;
    const int makers = N_WARPS > 2 ? N_THREADS - 64 : N_THREADS; /* others make the row's own key */
    if (THREAD >= makers) return;
    UNROLL_4 for (int i = THREAD; i < WEIR_HEADS * hd; i += makers) {
        const int head = i / hd, d = i % hd;
        float pos = 0, pin = 0;
        if (head < item->heads) {
            const float *q = row_of(&s->in, item->r) + (item->head + head) * hd;
            pos = rotated(w, q, d, (const float *)w->cos_pos + phase,
                          (const float *)w->sin_pos + phase);
            pin = rotated(w, q, d, (const float *)w->cos_pin + phase,
                          (const float *)w->sin_pin + phase);
        }
        to->q_pos[i] = pos * s->scale;
        to->q_pin[i] = pin * s->scale;
    }
}

/* A row's own key or value: as it is stored near by, and in the store when rows are alone; a warp.
 */
DEVICE void make_own(const cuda_world *w, const cuda_stage *s, const attend_item *item, int is_v,
                     const attend_space *space) {
    store_rows near;
    near.type = type_of_pin(w, item->row->is_pin);
    const int bytes = WEIR_HEAD_DIM(w) * store_type_bytes(near.type);
    near.at = space->own + is_v * bytes;
    near.scales = space->own_scales + is_v;
    put_row(w, s, item->r, item->kv_head, is_v, &near, 0);
    if (!w->alone) return;
    const cuda_row *row = item->row;
    const store_rows to = store_of(w, row->slot, s->layer, row->is_pin, is_v, item->kv_head);
    warp_sync();
    copy_row(to.at + (u64)row->at * (u64)bytes, near.at, bytes);
    if (LANE == 0 && store_is_scaled(to.type)) to.scales[row->at] = near.scales[0];
}

DEVICE key_run own_run(const cuda_world *w, bool is_pin, const attend_space *space) {
    key_run run;
    run.keys.type = run.values.type = type_of_pin(w, is_pin);
    run.keys.at = run.values.at = space->own;
    run.keys.scales = space->own_scales;
    run.values.scales = space->own_scales + 1;
    run.at = 0;
    run.wrap = run.n = 1;
    run.distance = 0;
    return run;
}

/* The first key of a run and its value from the store to this warp's place in shared memory, where
 * they do not fit the ring. */
COLD void bring_key(const cuda_world *w, const key_run *run, char *to) {
    const int bytes = WEIR_HEAD_DIM(w) * store_type_bytes(run->keys.type);
    const u64 at = (u64)run->at * (u64)bytes;
    warp_sync(); /* the key before has been looked at */
    copy_row(to, run->keys.at + at, bytes);
    copy_row(to + bytes, run->values.at + at, bytes);
    warp_sync();
}

/* A warp's share of a split; the last warp has the row's own key too. */
DEVICE void look_at_split(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                          const attend_space *space, int unit, int i, ring *r, look *l) {
    const int hd = WEIR_HEAD_DIM(w);
    char *brought = space->brought + WARP * 2 * hd * 4;
    for (int part = 0; part < 3; part++) { /* a loop, so that the code is there once */
        const bool is_own = part == 2, is_pin = is_own ? item->row->is_pin : part == 0;
        const bool is_copied = !is_own && w->shared.keys_fit && !w->plain;
        if (is_own && (i != item->row->own || WARP != N_WARPS - 1)) break;
        key_run run =
            is_own ? own_run(w, is_pin, space) : share_of(w, item, s->layer, is_pin, unit, i);
        const int bytes = hd * store_type_bytes(run.keys.type);
        const float *q = is_pin ? space->q_pin : space->q_pos;
        if (run.n <= 0) continue;
        take_queries(w, q, l);
        while (run.n > 0) {
            const int n = is_copied ? keys_of_chunk(w, &run) : 1;
            const char *keys = is_own ? space->own : brought;
            if (is_copied) keys = ring_read(r);
            if (!is_copied && !is_own) bring_key(w, &run, brought);
            const char *values = keys + n * bytes;
            for (int left = n; left > 0; left -= KEYS) {
                const int now = left < KEYS ? left : KEYS;
                look_at_keys(w, item, &run, now, keys, values, l);
                keys += KEYS * bytes;
                values += KEYS * bytes;
                pass_keys(&run, now);
            }
            if (is_copied) ring_done(w, r);
        }
    }
}

/* The warps' sums, added in their order, to a place in memory where other blocks can read them. */
DEVICE void put_split(const cuda_world *w, int heads, const float *warps, float *to) {
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2, step = WEIR_HEADS * row;
    for (int i = THREAD; i < heads * hd; i += N_THREADS) {
        const float *from = warps + i / hd * row;
        float *head = to + i / hd * row;
        float factor[CUDA_SLICES], most = NO_SCORE, sum = 0, total = 0;
        UNROLL for (int warp = 0; warp < CUDA_SLICES; warp++) {
            factor[warp] = warp < N_WARPS ? from[warp * step + hd] : NO_SCORE;
            most = fmaxf(most, factor[warp]);
        }
        UNROLL for (int warp = 0; warp < CUDA_SLICES; warp++) {
            if (warp >= N_WARPS) continue;
            factor[warp] = exponential(factor[warp] - most);
            sum += from[warp * step + i % hd] * factor[warp];
            total += from[warp * step + hd + 1] * factor[warp];
        }
        head[i % hd] = sum;
        if (i % hd == 0) {
            head[hd] = most;
            head[hd + 1] = total;
        }
    }
}

/* Split i of an item to `to`; the whole block. */
DEVICE void attend_split(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                         const attend_space *space, int unit, int i, ring *r, float *to) {
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2;
    look l;
    look_begin(&l);
    look_at_split(w, s, item, space, unit, i, r, &l);
    block_sync(); /* the split before has been merged */
    look_put(w, &l, space->warps + WARP * WEIR_HEADS * row);
    block_sync();
    put_split(w, item->heads, space->warps, to);
}

enum { SPLITS = 16 }; /* that are loaded together */

/* Feature i of an item's heads, of splits [first, first + SPLITS) of n. */
DEVICE void load_splits(const cuda_world *w, float v[SPLITS], const float *partials, int i,
                        int first, int n) {
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2, step = WEIR_HEADS * row;
    const float *from = partials + i / hd * row + i % hd;
    UNROLL for (int k = 0; k < SPLITS; k++) {
        v[k] = first + k < n ? load_float(from + (first + k) * step) : 0;
    }
}

/* What the splits of an item made, [n_splits][WEIR_HEADS][hd + 2] past the first-level cache, to
 * the result; the whole block.  What is loaded first is there when its weights are. */
DEVICE void merge_splits(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                         const attend_space *space, const float *partials) {
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2, n = item->row->n_splits, step = WEIR_HEADS * row;
    float v[SPLITS] = {0};
    if (THREAD < item->heads * hd) load_splits(w, v, partials, THREAD, 0, n);
    for (int h = WARP; h < item->heads; h += N_WARPS) {
        const float *from = partials + h * row + hd;
        float most = NO_SCORE, total = 0;
        float *weights = space->weights + h * w->max_splits;
        for (int i = LANE; i < n; i += 32) most = fmaxf(most, load_float(from + i * step));
        most = warp_max(most);
        for (int i = LANE; i < n; i += 32) {
            const float weight = exponential(load_float(from + i * step) - most);
            weights[i] = weight;
            total += weight * load_float(from + i * step + 1);
        }
        total = warp_sum(total);
        warp_sync();
        for (int i = LANE; i < n; i += 32) weights[i] /= total;
    }
    block_sync();
    for (int i = THREAD; i < item->heads * hd; i += N_THREADS) {
        const float *weights = space->weights + i / hd * w->max_splits;
        float sum = 0;
        for (int first = 0; first < n; first += SPLITS) {
            if (first > 0 || i != THREAD) load_splits(w, v, partials, i, first, n);
            UNROLL for (int k = 0; k < SPLITS; k++) {
                if (first + k < n) sum += weights[first + k] * v[k];
            }
        }
        row_of(&s->out, item->r)[item->head * hd + i] = sum;
    }
}

/* Says that this block's part of n is there; true for the block that comes last.  flag: room in
 * shared memory.  The whole block. */
DEVICE bool comes_last(unsigned *ticket, int n, int *flag) {
    block_sync();
    if (THREAD == 0) {
        *flag = take_ticket(ticket) == (unsigned)n - 1;
        if (*flag) *ticket = 0; /* for the next launch */
    }
    block_sync();
    return *flag;
}

/* Stage `stage`, which is s. */
DEVICE void attend(const cuda_world *w, const cuda_stage *s, int stage, ring *r, grid_wait wait) {
    const attend_space space = attend_space_of(w);
    const attend_units units = w->plain ? units_of(w) : ring_place_of(w)->units;
    const bool is_split = units.is_split;
    const int floats = WEIR_HEADS * (WEIR_HEAD_DIM(w) + 2);
    attend_item item;
    if (is_split && !w->plain) item = ring_place_of(w)->item;
    grid_await(w, wait);
    if (!w->plain) ring_allow(w, r, stage + 1);
    for (int unit = BLOCK; unit < units.n; unit += N_BLOCKS) {
        const int number = is_split ? unit / w->max_splits : unit;
        const int split = is_split ? unit % w->max_splits : 0;
        if (unit != BLOCK || !is_split || w->plain) item = attend_item_of(w, number);
        if (split >= item.row->n_splits) continue;
        float *partials = (float *)w->partials +
                          (u64)(is_split ? number : BLOCK) * (u64)w->max_splits * (u64)floats;
        if (unit != BLOCK) block_sync(); /* shared memory is free */
        load_queries(w, s, &item, &space);
        if (!is_split ||
            split == item.row->own) { /* the last warps: they have no queries to make */
            for (int is_v = N_WARPS - 1 - WARP; is_v < 2; is_v += N_WARPS) {
                make_own(w, s, &item, is_v, &space);
            }
        }
        block_sync();
        take_mark(w, 6);
        for (int i = split; i < (is_split ? split + 1 : item.row->n_splits); i++) {
            attend_split(w, s, &item, &space, unit, i, r, partials + (u64)i * (u64)floats);
            take_mark(w, 7);
        }
        const bool is_merging = !is_split || comes_last((unsigned *)w->tickets + number,
                                                        item.row->n_splits, space.is_last);
        take_mark(w, 8);
        if (!is_merging) continue;
        block_sync();
        merge_splits(w, s, &item, &space, partials);
        take_mark(w, 9);
    }
}
