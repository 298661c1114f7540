/* attend.cuh - attention under the streaming rule; ref/attend.c is the definition.
 *
 *   q [n, n_heads * hd], keys and values in the store -> y [n, n_heads * hd]
 *
 *   score(pin s)     = scale * rot(q, p) . K_pin[s]              - slope * (p - s)
 *   score(recent j)  = scale * rot(q, pos) . K_ring[j mod ring]  - slope * (pos - j)
 *
 * Up to CUDA_HEADS query heads of one K/V head look at its keys together.  The keys of a row are
 * cut at places of its own, whatever the batch: split i has pins [i * split, ..) and `split` recent
 * keys from the i * split-th oldest on.  A split's keys are dealt
 * to the warps, KEYS at a time, and each warp keeps a running softmax; the warps' are merged in
 * order, and the splits' are merged in order at last: by the block that made them all when there
 * are rows enough to keep all blocks busy, by the block that comes last otherwise.  So a row's
 * result has the same bits either way.
 *
 * Moves each key and value once per row and group of heads: for one token the bytes of the window.
 * Shared memory: queries twice, the warps' sums.  CPU twin: cpu/attend.c.
 * Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

enum { KEYS = 8 }; /* that a warp has in flight */

#ifndef WEIR_HEADS
    #define WEIR_HEADS CUDA_HEADS /* query heads of an item at most */
#endif

#define NO_SCORE (-3.0e38f)

/* A warp at the keys of a split: running softmax of each head.  Lane l keeps the score of key l / 4
 * of a batch for one head, head l % 4 (of four heads), l % 4 / 2 (of two) or 0. */
typedef struct look {
    float q[WEIR_HEADS][WEIR_LANE_PAIRS][2];   /* of the pins or of the ring */
    float sum[WEIR_HEADS][WEIR_LANE_PAIRS][2]; /* of weighted values */
    float most, total;                         /* total: of this lane's keys */
} look;

typedef struct attend_item { /* one row, some heads of one K/V head */
    const cuda_row *row;
    int r, kv_head, head, heads; /* query heads [head, head + heads) */
} attend_item;

/* In shared memory; layout.c counts the bytes. */
typedef struct attend_space {
    float *q_pos, *q_pin; /* [WEIR_HEADS][hd] */
    float *warps;         /* [warps][WEIR_HEADS][hd + 2]: sums, most, total */
    float *split;         /* [WEIR_HEADS][hd + 2]: the warps merged */
    float *weights;       /* [WEIR_HEADS][max_splits] */
    int *is_last;
} attend_space;

DEVICE attend_space attend_space_of(const cuda_world *w) {
    const int hd = WEIR_HEAD_DIM(w);
    attend_space out;
    out.q_pos = (float *)(shared_bytes + w->shared.input);
    out.q_pin = out.q_pos + WEIR_HEADS * hd;
    out.warps = out.q_pin + WEIR_HEADS * hd;
    out.split = out.warps + N_WARPS * WEIR_HEADS * (hd + 2);
    out.weights = out.split + WEIR_HEADS * (hd + 2);
    out.is_last = (int *)(out.weights + WEIR_HEADS * w->max_splits);
    return out;
}

DEVICE int groups_of_heads(const cuda_world *w) { /* of one K/V head */
    return (w->n_heads / w->n_kv_heads + WEIR_HEADS - 1) / WEIR_HEADS;
}

DEVICE attend_item attend_item_of(const cuda_world *w, int i) {
    const int share = w->n_heads / w->n_kv_heads, groups = groups_of_heads(w);
    attend_item out;
    out.r = i / (groups * w->n_kv_heads);
    out.row = (const cuda_row *)w->rows + out.r;
    out.kv_head = i / groups % w->n_kv_heads;
    out.head = out.kv_head * share + i % groups * WEIR_HEADS;
    out.heads = share - i % groups * WEIR_HEADS;
    if (out.heads > WEIR_HEADS) out.heads = WEIR_HEADS;
    return out;
}

DEVICE void load_queries(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                         const attend_space *to) {
    const int hd = WEIR_HEAD_DIM(w);
    const u64 phase = (u64)item->r * (u64)w->pairs;
    UNROLL_4 for (int i = THREAD; i < WEIR_HEADS * hd; i += N_THREADS) {
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

/* n keys, row `at` of the store first; their distances fall from `distance` on by one. */
typedef struct key_run {
    store_rows keys, values;
    int at, wrap, n; /* rows go on at 0 after wrap */
    float distance;
} key_run;

typedef struct key_batch { /* KEYS keys and values on their way to a warp */
    u32 keys[KEYS][WEIR_LANE_PAIRS][2], values[KEYS][WEIR_LANE_PAIRS][2];
} key_batch;

DEVICE int row_of_key(const key_run *run, int key) {
    const int row = run->at + key;
    return row >= run->wrap ? row - run->wrap : row;
}

/* Keys i, i + warps, ... of a run: all loads before the first use.  Zeros where there is none. */
DEVICE void load_keys(const cuda_world *w, const key_run *run, int i, key_batch *b) {
    const int hd = WEIR_HEAD_DIM(w);
    UNROLL for (int u = 0; u < KEYS; u++) {
        const int key = i + u * N_WARPS;
        const u64 at = (u64)row_of_key(run, key) * (u64)hd;
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            const int pair = LANE + 32 * e;
            b->keys[u][e][0] = b->keys[u][e][1] = b->values[u][e][0] = b->values[u][e][1] = 0;
            if (key >= run->n || 2 * pair >= hd) continue;
            load_pair(&run->keys, at, pair, b->keys[u][e]);
            load_pair(&run->values, at, pair, b->values[u][e]);
        }
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
    return store_is_scaled(rows->type) ? load_float(rows->scales + at) : 1.0f;
}

/* Up to KEYS keys, loaded; i: the first one's index in the run. */
DEVICE void look_at_keys(const cuda_world *w, const attend_item *item, const key_run *run, int i,
                         const key_batch *b, look *l) {
    const int key = i + LANE / 4 * N_WARPS, head = LANE % 4 / (4 / WEIR_HEADS);
    const bool is_mine = key < run->n && head < item->heads;
    float dots[KEYS * WEIR_HEADS];
    UNROLL for (int u = 0; u < KEYS * WEIR_HEADS; u++) {
        dots[u] = 0;
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            float k[2];
            read_pair(run->keys.type, b->keys[u / WEIR_HEADS][e], k);
            const float *q = l->q[u % WEIR_HEADS][e];
            dots[u] += q[0] * k[0] + q[1] * k[1];
        }
    }
    float score = sum_many(dots, KEYS * WEIR_HEADS);
    if (is_mine) {
        score *= key_scale(&run->keys, row_of_key(run, key));
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
    if (is_mine) weight *= key_scale(&run->values, row_of_key(run, key));
    UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
        const float f = shuffle_from(fade, lane_of(0, h));
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS * 2; e++) l->sum[h][e / 2][e % 2] *= f;
    }
    UNROLL for (int u = 0; u < KEYS * WEIR_HEADS; u++) {
        const float f = shuffle_from(weight, lane_of(u / WEIR_HEADS, u % WEIR_HEADS));
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            float v[2];
            read_pair(run->values.type, b->values[u / WEIR_HEADS][e], v);
            l->sum[u % WEIR_HEADS][e][0] += f * v[0];
            l->sum[u % WEIR_HEADS][e][1] += f * v[1];
        }
    }
}

DEVICE void look_at_run(const cuda_world *w, const attend_item *item, const key_run *run,
                        const float *q, look *l) {
    const int hd = WEIR_HEAD_DIM(w);
    UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            const int d = 2 * (LANE + 32 * e);
            l->q[h][e][0] = d < hd ? q[h * hd + d] : 0;
            l->q[h][e][1] = d < hd ? q[h * hd + d + 1] : 0;
        }
    }
    /* one is on its way while the other is looked at, where registers hold both */
    key_batch now, next;
    const bool is_ahead = WEIR_HEAD_DIM(w) <= 128;
    if (is_ahead) load_keys(w, run, WARP, &now);
    for (int i = WARP; i < run->n; i += KEYS * N_WARPS) {
        if (is_ahead) {
            load_keys(w, run, i + KEYS * N_WARPS, &next);
        } else {
            load_keys(w, run, i, &now);
        }
        look_at_keys(w, item, run, i, &now, l);
        if (is_ahead) now = next;
    }
}

/* Of the keys that a row sees the i-th `most`: pins, or recent ones from the oldest on.  There may
 * be none. */
DEVICE key_run keys_of_row(const cuda_world *w, const cuda_stage *s, const cuda_row *row,
                           int kv_head, bool is_pin, int i, int most) {
    const int behind = row->recent - 1 - i * most; /* row->pos: the first recent key */
    key_run run;
    run.keys = store_of(w, row->slot, s->layer, is_pin, 0, kv_head);
    run.values = store_of(w, row->slot, s->layer, is_pin, 1, kv_head);
    run.at = is_pin ? i * most : row->at - behind;
    if (run.at < 0) run.at += w->ring;
    run.wrap = is_pin ? 0x7fffffff : w->ring;
    run.n = is_pin ? row->pins - i * most : behind + 1;
    if (run.n > most) run.n = most;
    if (run.n < 0) run.n = 0;
    run.distance = (float)(is_pin ? row->p - i * most : behind);
    return run;
}

DEVICE void look_at_split(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                          const attend_space *space, int i, look *l) {
    for (int part = 0; part < 2; part++) { /* a loop, so that the code is there once */
        const key_run run = keys_of_row(w, s, item->row, item->kv_head, !part, i, w->split);
        if (run.n > 0) look_at_run(w, item, &run, part ? space->q_pos : space->q_pin, l);
    }
}

/* The warps' sums to out, in their order.  out is none of theirs. */
DEVICE void merge_warps(const cuda_world *w, int heads, const float *warps, float *out) {
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2, step = WEIR_HEADS * row;
    for (int i = THREAD; i < heads * (hd + 1); i += N_THREADS) {
        const int head = i / (hd + 1) * row, d = i % (hd + 1);
        const int from = d == hd ? hd + 1 : d; /* the last adds the totals */
        float most = NO_SCORE, sum = 0;
        for (int warp = 0; warp < N_WARPS; warp++) {
            most = fmaxf(most, warps[warp * step + head + hd]);
        }
        for (int warp = 0; warp < N_WARPS; warp++) {
            sum += warps[warp * step + head + from] *
                   exponential(warps[warp * step + head + hd] - most);
        }
        out[head + from] = sum;
        if (d == hd) out[head + hd] = most;
    }
    block_sync();
}

/* Split i of an item into space->split; the whole block. */
DEVICE void attend_split(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                         const attend_space *space, int i) {
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2;
    look l;
    l.most = NO_SCORE;
    l.total = 0;
    UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS * 2; e++) l.sum[h][e / 2][e % 2] = 0;
    }
    look_at_split(w, s, item, space, i, &l);
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
    merge_warps(w, item->heads, space->warps, space->split);
}

/* What the splits of an item made, [n_splits][WEIR_HEADS][hd + 2] past the first-level cache, to
 * the result; the whole block.  */
DEVICE void merge_splits(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                         const attend_space *space, const float *partials) {
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2, n = item->row->n_splits, step = WEIR_HEADS * row;
    for (int h = WARP; h < item->heads; h += N_WARPS) {
        float most = NO_SCORE, total = 0;
        float *weights = space->weights + h * w->max_splits;
        for (int i = LANE; i < n; i += 32)
            most = fmaxf(most, load_float(partials + i * step + h * row + hd));
        most = warp_max(most);
        for (int i = LANE; i < n; i += 32) {
            const float weight = exponential(load_float(partials + i * step + h * row + hd) - most);
            weights[i] = weight;
            total += weight * load_float(partials + i * step + h * row + hd + 1);
        }
        total = warp_sum(total);
        warp_sync();
        for (int i = LANE; i < n; i += 32) weights[i] /= total;
    }
    block_sync();
    for (int i = THREAD; i < item->heads * hd; i += N_THREADS) {
        const int h = i / hd;
        const float *weights = space->weights + h * w->max_splits;
        const float *from = partials + h * row + i % hd;
        float sum = 0;
        UNROLL_8 for (int k = 0; k < n; k++) sum += weights[k] * load_float(from + k * step);
        row_of(&s->out, item->r)[item->head * hd + i] = sum;
    }
}

/* space->split to a place in memory where other blocks can read it. */
DEVICE void put_split(const cuda_world *w, const attend_space *space, float *to) {
    for (int i = THREAD; i < WEIR_HEADS * (WEIR_HEAD_DIM(w) + 2); i += N_THREADS) {
        to[i] = space->split[i];
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

DEVICE void attend(const cuda_world *w, const cuda_stage *s) {
    const attend_space space = attend_space_of(w);
    const int items = w->n * w->n_kv_heads * groups_of_heads(w);
    const bool is_split = items < N_BLOCKS;
    const int units = is_split ? items * w->max_splits : items;
    const int floats = WEIR_HEADS * (WEIR_HEAD_DIM(w) + 2);
    for (int unit = BLOCK; unit < units; unit += N_BLOCKS) {
        const int number = is_split ? unit / w->max_splits : unit;
        const int split = is_split ? unit % w->max_splits : 0;
        const attend_item item = attend_item_of(w, number);
        if (split >= item.row->n_splits) continue;
        float *partials = (float *)w->partials +
                          (u64)(is_split ? number : BLOCK) * (u64)w->max_splits * (u64)floats;
        block_sync(); /* shared memory is free */
        load_queries(w, s, &item, &space);
        if (w->alone && (!is_split || split == item.row->own)) {
            for (int is_v = WARP; is_v < 2; is_v += N_WARPS) {
                store_row(w, s, item.r, item.kv_head, is_v);
            }
        }
        block_sync();
        take_mark(w, 6);
        for (int i = split; i < (is_split ? split + 1 : item.row->n_splits); i++) {
            attend_split(w, s, &item, &space, i);
            take_mark(w, 7);
            put_split(w, &space, partials + (u64)i * (u64)floats);
        }
        const bool is_merging =
            !is_split ||
            comes_last((unsigned *)w->tickets + number, item.row->n_splits, space.is_last);
        take_mark(w, 8);
        if (!is_merging) continue;
        block_sync();
        merge_splits(w, s, &item, &space, partials);
        take_mark(w, 9);
    }
}
