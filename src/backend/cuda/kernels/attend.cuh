/* attend.cuh - attention under the streaming rule; ref/attend.c is the definition.
 *
 *   q [n, n_heads * hd], keys and values in the store -> y [n, n_heads * hd]
 *
 *   score(pin s)     = scale * rot(q, p) . K_pin[s]              - slope * (p - s)
 *   score(recent j)  = scale * rot(q, pos) . K_ring[j mod ring]  - slope * (pos - j)
 *
 * Up to CUDA_HEADS query heads of one K/V head look at its keys together.  The keys of a row are
 * cut at fixed places, whatever the batch: split i has pins [i * split, ..) and the recent keys
 * whose stream position lies in the i-th stretch of `split` positions.  A split's keys are dealt
 * to the warps, each keeps a running softmax, the warps' are merged in order, and the splits' are
 * merged in order: by the same block when there are rows enough to keep all blocks busy, by the
 * block that comes last otherwise.  So a row's result has the same bits either way.
 *
 * Moves each key and value once per row and group of heads: for one token the bytes of the window.
 * Shared memory: queries twice, the warps' sums.  CPU twin: cpu/attend.c.
 * Test: tests/backend/test_cuda_attend.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

enum { KEYS = 4 }; /* that a warp has in flight */

#define NO_SCORE (-3.0e38f)

typedef struct look { /* a warp at the keys of a split: running softmax of each head */
    float most[CUDA_HEADS], total[CUDA_HEADS];
    float sum[CUDA_HEADS][WEIR_LANE_PAIRS][2];
} look;

typedef struct attend_item { /* one row, some heads of one K/V head */
    const cuda_row *row;
    int r, kv_head, head, heads; /* query heads [head, head + heads) */
    int n_splits, own;           /* own: the split that has the row's own key */
    u64 first_stretch;           /* of recent keys */
} attend_item;

/* In shared memory; layout.c counts the bytes. */
typedef struct attend_space {
    float *q_pos, *q_pin; /* [CUDA_HEADS][hd] */
    float *warps;         /* [warps][CUDA_HEADS][hd + 2]: sums, most, total */
    float *split;         /* [CUDA_HEADS][hd + 2]: the warps merged */
    float *all;           /* [CUDA_HEADS][hd + 2]: the splits merged */
} attend_space;

DEVICE attend_space attend_space_of(const cuda_world *w) {
    const int hd = WEIR_HEAD_DIM(w);
    attend_space out;
    out.q_pos = (float *)(shared_bytes + w->shared.input);
    out.q_pin = out.q_pos + CUDA_HEADS * hd;
    out.warps = out.q_pin + CUDA_HEADS * hd;
    out.split = out.warps + N_WARPS * CUDA_HEADS * (hd + 2);
    out.all = out.split + CUDA_HEADS * (hd + 2);
    return out;
}

DEVICE int groups_of_heads(const cuda_world *w) { /* of one K/V head */
    return (w->n_heads / w->n_kv_heads + CUDA_HEADS - 1) / CUDA_HEADS;
}

DEVICE attend_item attend_item_of(const cuda_world *w, int i) {
    const int share = w->n_heads / w->n_kv_heads, groups = groups_of_heads(w);
    attend_item out;
    out.r = i / (groups * w->n_kv_heads);
    out.row = (const cuda_row *)w->rows + out.r;
    out.kv_head = i / groups % w->n_kv_heads;
    out.head = out.kv_head * share + i % groups * CUDA_HEADS;
    out.heads = share - i % groups * CUDA_HEADS;
    if (out.heads > CUDA_HEADS) out.heads = CUDA_HEADS;
    out.n_splits = (out.row->pins + w->split - 1) / w->split;
    out.own = out.n_splits - 1; /* of a pinned row */
    out.first_stretch = 0;
    if (out.row->recent > 0) {
        const u64 oldest = out.row->pos - (u64)(out.row->recent - 1);
        out.first_stretch = oldest / (u64)w->split;
        const int stretches = (int)(out.row->pos / (u64)w->split - out.first_stretch) + 1;
        out.own = stretches - 1;
        if (stretches > out.n_splits) out.n_splits = stretches;
    }
    return out;
}

DEVICE void load_queries(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                         const attend_space *to) {
    const int hd = WEIR_HEAD_DIM(w);
    const u64 phase = (u64)item->r * (u64)w->pairs;
    for (int i = THREAD; i < CUDA_HEADS * hd; i += N_THREADS) {
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

DEVICE float key_scale(const store_rows *rows, int at) {
    return rows->type == CUDA_KV_INT8 ? load_float(rows->scales + at) : 1.0f;
}

/* Up to KEYS keys: their scores, then what they add. i: the first one's index in the run. */
DEVICE void look_at_keys(const cuda_world *w, const attend_item *item, const key_run *run,
                         const float *q, int i, look *l) {
    const int hd = WEIR_HEAD_DIM(w);
    float kept[KEYS][WEIR_LANE_PAIRS][2], score[KEYS][CUDA_HEADS];
    int at[KEYS];
    UNROLL for (int u = 0; u < KEYS; u++) {
        const int key = i + u * N_WARPS;
        at[u] = -1;
        if (key >= run->n) continue;
        at[u] = run->at + key >= run->wrap ? run->at + key - run->wrap : run->at + key;
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            const int pair = LANE + 32 * e;
            if (2 * pair < hd) store_pair(&run->keys, (u64)at[u] * (u64)hd, pair, kept[u][e]);
        }
    }
    UNROLL for (int u = 0; u < KEYS; u++) {
        const float scale = at[u] < 0 ? 0 : key_scale(&run->keys, at[u]);
        UNROLL for (int h = 0; h < CUDA_HEADS; h++) {
            float dot = 0;
            if (h >= item->heads || at[u] < 0) {
                score[u][h] = NO_SCORE;
                continue;
            }
            UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
                const int d = 2 * (LANE + 32 * e);
                if (d < hd)
                    dot += q[h * hd + d] * kept[u][e][0] + q[h * hd + d + 1] * kept[u][e][1];
            }
            score[u][h] = warp_sum(dot) * scale;
            if (w->alibi) {
                const float slope = ((const float *)w->alibi)[item->head + h];
                score[u][h] -= slope * (run->distance - (float)(i + u * N_WARPS));
            }
        }
    }
    UNROLL for (int h = 0; h < CUDA_HEADS; h++) {
        float most = l->most[h];
        UNROLL for (int u = 0; u < KEYS; u++) most = fmaxf(most, score[u][h]);
        const float fade = expf(l->most[h] - most);
        l->most[h] = most;
        l->total[h] *= fade;
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            l->sum[h][e][0] *= fade;
            l->sum[h][e][1] *= fade;
        }
        UNROLL for (int u = 0; u < KEYS; u++) {
            score[u][h] = score[u][h] > NO_SCORE ? expf(score[u][h] - most) : 0;
            l->total[h] += score[u][h];
        }
    }
    UNROLL for (int u = 0; u < KEYS; u++) {
        if (at[u] < 0) continue;
        const float scale = key_scale(&run->values, at[u]);
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            const int pair = LANE + 32 * e;
            float v[2];
            if (2 * pair >= hd) continue;
            store_pair(&run->values, (u64)at[u] * (u64)hd, pair, v);
            UNROLL for (int h = 0; h < CUDA_HEADS; h++) {
                l->sum[h][e][0] += score[u][h] * scale * v[0];
                l->sum[h][e][1] += score[u][h] * scale * v[1];
            }
        }
    }
}

DEVICE void look_at_run(const cuda_world *w, const attend_item *item, const key_run *run,
                        const float *q, look *l) {
    for (int i = WARP; i < run->n; i += KEYS * N_WARPS) look_at_keys(w, item, run, q, i, l);
}

/* Pins and recent keys of split i. */
DEVICE void look_at_split(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                          const attend_space *space, int i, look *l) {
    const cuda_row *row = item->row;
    key_run run;
    if (i * w->split < row->pins) {
        run.keys = store_of(w, row->slot, s->layer, true, 0, item->kv_head);
        run.values = store_of(w, row->slot, s->layer, true, 1, item->kv_head);
        run.at = i * w->split;
        run.wrap = 0x7fffffff;
        run.n = row->pins - run.at < w->split ? row->pins - run.at : w->split;
        run.distance = (float)(row->p - run.at);
        look_at_run(w, item, &run, space->q_pin, l);
    }
    if (row->recent == 0) return;
    const u64 oldest = row->pos - (u64)(row->recent - 1), stretch = item->first_stretch + (u64)i;
    u64 from = stretch * (u64)w->split, to = from + (u64)(w->split - 1); /* both seen */
    if (stretch > row->pos / (u64)w->split) return;
    if (from < oldest) from = oldest;
    if (to > row->pos || to < from) to = row->pos;
    run.keys = store_of(w, row->slot, s->layer, false, 0, item->kv_head);
    run.values = store_of(w, row->slot, s->layer, false, 1, item->kv_head);
    run.at = (int)(from % (u64)w->ring);
    run.wrap = w->ring;
    run.n = (int)(to - from) + 1;
    run.distance = (float)(row->pos - from);
    look_at_run(w, item, &run, space->q_pos, l);
}

/* all = all merged with one more: rows of hd sums, most, total; the whole block.  A thread has a
 * feature; most and total are written when all have read them. */
DEVICE void merge(const cuda_world *w, int heads, const float *more, float *all, bool is_first) {
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2;
    for (int i = THREAD; i < heads * hd; i += N_THREADS) {
        const int h = i / hd * row;
        const float a = is_first ? NO_SCORE : all[h + hd], b = more[h + hd], most = fmaxf(a, b);
        const float sum = more[h + i % hd] * expf(b - most);
        all[h + i % hd] = is_first ? sum : all[h + i % hd] * expf(a - most) + sum;
    }
    block_sync();
    for (int i = THREAD; i < heads; i += N_THREADS) {
        const int h = i * row;
        const float a = is_first ? NO_SCORE : all[h + hd], b = more[h + hd], most = fmaxf(a, b);
        const float total = more[h + hd + 1] * expf(b - most);
        all[h + hd + 1] = is_first ? total : all[h + hd + 1] * expf(a - most) + total;
        all[h + hd] = most;
    }
    block_sync();
}

/* The warps' sums to out, in their order.  out is none of theirs. */
DEVICE void merge_warps(const cuda_world *w, int heads, const float *warps, float *out) {
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2, step = CUDA_HEADS * row;
    for (int i = THREAD; i < heads * (hd + 1); i += N_THREADS) {
        const int head = i / (hd + 1) * row, d = i % (hd + 1);
        const int from = d == hd ? hd + 1 : d; /* the last adds the totals */
        float most = NO_SCORE, sum = 0;
        for (int warp = 0; warp < N_WARPS; warp++) {
            most = fmaxf(most, warps[warp * step + head + hd]);
        }
        for (int warp = 0; warp < N_WARPS; warp++) {
            sum += warps[warp * step + head + from] * expf(warps[warp * step + head + hd] - most);
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
    UNROLL for (int h = 0; h < CUDA_HEADS; h++) {
        l.most[h] = NO_SCORE;
        l.total[h] = 0;
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS * 2; e++) l.sum[h][e / 2][e % 2] = 0;
    }
    look_at_split(w, s, item, space, i, &l);
    float *mine = space->warps + WARP * CUDA_HEADS * row;
    block_sync(); /* the split before has been merged */
    UNROLL for (int h = 0; h < CUDA_HEADS; h++) {
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            const int d = 2 * (LANE + 32 * e);
            if (d >= hd) continue;
            mine[h * row + d] = l.sum[h][e][0];
            mine[h * row + d + 1] = l.sum[h][e][1];
        }
        if (LANE == 0) mine[h * row + hd] = l.most[h];
        if (LANE == 0) mine[h * row + hd + 1] = l.total[h];
    }
    block_sync();
    merge_warps(w, item->heads, space->warps, space->split);
}

DEVICE void put_result(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                       const float *all) {
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2;
    for (int i = THREAD; i < item->heads * hd; i += N_THREADS) {
        const int h = i / hd * row;
        row_of(&s->out, item->r)[item->head * hd + i] = all[h + i % hd] / all[h + hd + 1];
    }
}

/* The last block to come merges the splits of an item. */
DEVICE void merge_splits(const cuda_world *w, const cuda_stage *s, const attend_item *item,
                         const attend_space *space, int number, int split) {
    const int floats = CUDA_HEADS * (WEIR_HEAD_DIM(w) + 2);
    float *partials = (float *)w->partials + (u64)number * (u64)w->max_splits * (u64)floats;
    unsigned *ticket = (unsigned *)w->tickets + number;
    int *is_last = (int *)space->q_pos; /* the queries are not needed any more */
    for (int i = THREAD; i < floats; i += N_THREADS) {
        partials[(u64)split * (u64)floats + (u64)i] = space->split[i];
    }
    memory_fence();
    block_sync();
    if (THREAD == 0) {
        *is_last = take_ticket(ticket) == (unsigned)item->n_splits - 1;
        if (*is_last) *ticket = 0;
    }
    block_sync();
    if (!*is_last) return;
    memory_fence();
    for (int i = 0; i < item->n_splits; i++) {
        for (int k = THREAD; k < floats; k += N_THREADS) {
            space->split[k] = load_float(partials + (u64)i * (u64)floats + (u64)k);
        }
        block_sync();
        merge(w, item->heads, space->split, space->all, i == 0);
    }
    put_result(w, s, item, space->all);
}

DEVICE void attend(const cuda_world *w, const cuda_stage *s) {
    const attend_space space = attend_space_of(w);
    const int items = w->n * w->n_kv_heads * groups_of_heads(w);
    const bool is_split = items < N_BLOCKS;
    const int units = is_split ? items * w->max_splits : items;
    for (int unit = BLOCK; unit < units; unit += N_BLOCKS) {
        const int number = is_split ? unit / w->max_splits : unit;
        const int split = is_split ? unit % w->max_splits : 0;
        const attend_item item = attend_item_of(w, number);
        if (split >= item.n_splits) continue;
        block_sync(); /* shared memory is free */
        load_queries(w, s, &item, &space);
        if (w->alone && WARP == 0 && (!is_split || split == item.own)) {
            store_row(w, s, item.r, item.kv_head);
        }
        block_sync();
        if (is_split) {
            attend_split(w, s, &item, &space, split);
            merge_splits(w, s, &item, &space, number, split);
            continue;
        }
        for (int i = 0; i < item.n_splits; i++) {
            attend_split(w, s, &item, &space, i);
            merge(w, item.heads, space.split, space.all, i == 0);
        }
        put_result(w, s, &item, space.all);
    }
}
