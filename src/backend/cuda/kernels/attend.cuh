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

enum { KEYS = CUDA_KEYS }; /* that a warp looks at together */

#define NO_SCORE (-3.0e38f)

/* A warp at the keys of a split: running softmax of each head.  Lane l keeps the score of key l / 4
 * of a batch for one head, head l % 4 (of four heads), l % 4 / 2 (of two) or 0. */
typedef struct look {
    float q[WEIR_HEADS][WEIR_LANE_PAIRS][2];   /* of the pins or of the ring */
    float sum[WEIR_HEADS][WEIR_LANE_PAIRS][2]; /* of weighted values */
    float most, total;                         /* total: of this lane's keys */
} look;

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
    out.own_scales = out.weights + (WEIR_HEADS * w->max_splits + 3) / 4 * 4;
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

/* Halves 2 * half values: lanes with bit `mask` go on with the upper ones, the others with the
 * lower, each pair of lanes having added what it gave. */
DEVICE void fold(float *v, int half, int mask) {
    const bool is_upper = LANE & mask;
    UNROLL for (int i = 0; i < half; i++) {
        const float given = is_upper ? v[i] : v[i + half];
        v[i] = (is_upper ? v[i + half] : v[i]) + shuffle_xor(given, mask);
    }
}

/* Sums n values (8, 16 or 32) over the lanes of a warp; lane l gets that of value l / (32 / n). */
DEVICE float sum_many(float *v, int n) {
    if (n == 32) fold(v, 16, 16);
    if (n >= 16) fold(v, 8, n == 32 ? 8 : 16);
    fold(v, 4, n == 32 ? 4 : n == 16 ? 8 : 16);
    fold(v, 2, n == 32 ? 2 : n == 16 ? 4 : 8);
    fold(v, 1, n == 32 ? 1 : n == 16 ? 2 : 4);
    if (n == 8) v[0] += shuffle_xor(v[0], 2);
    if (n <= 16) v[0] += shuffle_xor(v[0], 1);
    return v[0];
}

/* The lane that has the score of key u for head h. */
DEVICE int lane_of(int u, int h) {
    return u * 4 + h * (4 / WEIR_HEADS);
}

DEVICE float key_scale(const store_rows *rows, int at) {
    return store_is_scaled(rows->type) ? rows->scales[at] : 1.0f;
}

/* A row's own key or value: as it is stored near by, and in the store when rows are alone; a warp.
 */
DEVICE void make_own(const cuda_world *w, const cuda_stage *s, const attend_item *item, int is_v,
                     const attend_space *space) {
    const int hd = WEIR_HEAD_DIM(w),
              bytes = hd * store_type_bytes(type_of_pin(w, item->row->is_pin));
    store_rows near;
    near.type = type_of_pin(w, item->row->is_pin);
    near.at = space->own + is_v * bytes;
    near.scales = space->own_scales + is_v;
    put_row(w, s, item->r, item->kv_head, is_v, &near, 0);
    if (!w->alone) return;
    const cuda_row *row = item->row;
    const store_rows to = store_of(w, row->slot, s->layer, row->is_pin, is_v, item->kv_head);
    warp_sync();
    for (int i = 2 * LANE; i < bytes; i += 64) {
        *(u16 *)(to.at + (u64)row->at * (u64)bytes + i) = *(const u16 *)(near.at + i);
    }
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

/* Pair i of key u of those that lie at `at` in shared memory. */
DEVICE void load_near(const cuda_world *w, int type, const char *at, int u, int i, float out[2]) {
    u32 raw[2] = {0, 0};
    const char *from = at + (u * (WEIR_HEAD_DIM(w) / 2) + i) * 2 * store_type_bytes(type);
    if (type == CUDA_KV_F32) {
        load_8(raw, from);
    } else if (store_is_scaled(type)) {
        raw[0] = *(const u16 *)from;
    } else {
        raw[0] = *(const u32 *)from;
    }
    read_pair(type, raw, out);
}

/* The first n keys of a run, at most KEYS, which lie in shared memory, their values too. */
DEVICE void look_at_keys(const cuda_world *w, const attend_item *item, const key_run *run, int n,
                         const char *keys, const char *values, look *l) {
    const int key = LANE / 4, head = LANE % 4 / (4 / WEIR_HEADS), hd = WEIR_HEAD_DIM(w);
    const bool is_mine = key < n && head < item->heads;
    const int row = is_mine ? row_of_key(run, key) : 0;
    const float scale = is_mine ? key_scale(&run->keys, row) : 0;
    const float value_scale = is_mine ? key_scale(&run->values, row) : 0;
    float dots[KEYS * WEIR_HEADS];
    UNROLL for (int u = 0; u < KEYS; u++) {
        UNROLL for (int h = 0; h < WEIR_HEADS; h++) dots[u * WEIR_HEADS + h] = 0;
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            float k[2];
            if (u >= n || 2 * (LANE + 32 * e) >= hd) continue;
            load_near(w, run->keys.type, keys, u, LANE + 32 * e, k);
            UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
                dots[u * WEIR_HEADS + h] += l->q[h][e][0] * k[0] + l->q[h][e][1] * k[1];
            }
        }
    }
    float score = sum_many(dots, KEYS * WEIR_HEADS);
    if (is_mine) {
        score *= scale;
        if (w->alibi) {
            const float slope = ((const float *)w->alibi)[item->head + head];
            score -= slope * (run->distance - (float)key);
        }
    } else {
        score = NO_SCORE;
    }
    float most = fmaxf(l->most, score);
    UNROLL for (int mask = 16; mask >= 4; mask /= 2) most = fmaxf(most, shuffle_xor(most, mask));
    const float fade = exponential(l->most - most);
    float weight = is_mine ? exponential(score - most) : 0;
    l->most = most;
    l->total = l->total * fade + weight;
    weight *= value_scale;
    UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
        const float f = shuffle_from(fade, lane_of(0, h));
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS * 2; e++) l->sum[h][e / 2][e % 2] *= f;
    }
    UNROLL for (int u = 0; u < KEYS; u++) {
        float f[WEIR_HEADS];
        UNROLL for (int h = 0; h < WEIR_HEADS; h++) f[h] = shuffle_from(weight, lane_of(u, h));
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            float v[2];
            if (u >= n || 2 * (LANE + 32 * e) >= hd) continue;
            load_near(w, run->values.type, values, u, LANE + 32 * e, v);
            UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
                l->sum[h][e][0] += f[h] * v[0];
                l->sum[h][e][1] += f[h] * v[1];
            }
        }
    }
}

/* The first key of a run and its value from the store to this warp's place in shared memory, where
 * they do not fit the ring. */
COLD void bring_key(const cuda_world *w, const key_run *run, char *to) {
    const int bytes = WEIR_HEAD_DIM(w) * store_type_bytes(run->keys.type);
    const u64 at = (u64)run->at * (u64)bytes;
    warp_sync(); /* the key before has been looked at */
    for (int i = 2 * LANE; i < bytes; i += 64) {
        *(u16 *)(to + i) = *(const u16 *)(run->keys.at + at + i);
        *(u16 *)(to + bytes + i) = *(const u16 *)(run->values.at + at + i);
    }
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
        UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
            UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
                const int d = 2 * (LANE + 32 * e);
                l->q[h][e][0] = d < hd ? q[h * hd + d] : 0;
                l->q[h][e][1] = d < hd ? q[h * hd + d + 1] : 0;
            }
        }
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
        to += i / hd * row;
        to[i % hd] = sum;
        if (i % hd == 0) {
            to[hd] = most;
            to[hd + 1] = total;
        }
        to -= i / hd * row;
    }
}

/* Split i of an item to `to`; the whole block. */
DEVICE void attend_split(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                         const attend_space *space, int unit, int i, ring *r, float *to) {
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2;
    look l;
    l.most = NO_SCORE;
    l.total = 0;
    UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS * 2; e++) l.sum[h][e / 2][e % 2] = 0;
    }
    look_at_split(w, s, item, space, unit, i, r, &l);
    UNROLL for (int mask = 16; mask >= 4; mask /= 2) l.total += shuffle_xor(l.total, mask);
    float *mine = space->warps + WARP * WEIR_HEADS * row;
    block_sync(); /* the split before has been merged */
    UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            const int d = 2 * (LANE + 32 * e);
            if (d >= hd) continue;
            mine[h * row + d] = l.sum[h][e][0];
            mine[h * row + d + 1] = l.sum[h][e][1];
        }
        if (LANE != lane_of(0, h)) continue;
        mine[h * row + hd] = l.most;
        mine[h * row + hd + 1] = l.total;
    }
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

DEVICE void attend(const cuda_world *w, const cuda_stage *s, ring *r) {
    const attend_space space = attend_space_of(w);
    const attend_units units = units_of(w);
    const bool is_split = units.is_split;
    const int floats = WEIR_HEADS * (WEIR_HEAD_DIM(w) + 2);
    for (int unit = BLOCK; unit < units.n; unit += N_BLOCKS) {
        const int number = is_split ? unit / w->max_splits : unit;
        const int split = is_split ? unit % w->max_splits : 0;
        const attend_item item = attend_item_of(w, number);
        if (split >= item.row->n_splits) continue;
        float *partials = (float *)w->partials +
                          (u64)(is_split ? number : BLOCK) * (u64)w->max_splits * (u64)floats;
        block_sync(); /* shared memory is free */
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
