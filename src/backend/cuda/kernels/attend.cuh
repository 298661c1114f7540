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
    float *q_pos, *q_pin; /* [WEIR_HEADS][hd], as put_query has it */
    float *warps;         /* [warps][WEIR_HEADS][hd + 2]: sums, most, total */
    int *is_last;
    float *own_scales; /* [2] */
    char *own;         /* [2][hd] of a type: the row's own key and its value, as they are stored */
    char *brought;     /* [warps][2][hd] of a type: those that the ring cannot copy */
} attend_space;

WALK attend_space attend_space_of(const world_of *w) {
    const int hd = WEIR_HEAD_DIM(w);
    attend_space out;
    out.q_pos = (float *)(shared_bytes + w->shared.input);
    out.q_pin = out.q_pos + WEIR_HEADS * hd;
    out.warps = out.q_pin + WEIR_HEADS * hd;
    const int floats = 2 * WEIR_HEADS * hd + WORKERS(w) * WEIR_HEADS * (hd + 2);
    out.own_scales = out.q_pos + (floats + 3) / 4 * 4; /* own is aligned to 16 bytes */
    out.is_last = (int *)(out.own_scales + 2);
    out.own = (char *)(out.own_scales + 4);
    out.brought = out.own + 2 * hd * 4;
    return out;
}

/* Features that rotate together: two of a head, or two that do not rotate, side by side. */
typedef struct couple {
    int a, b, pair; /* pair: whose phase; -1: they do not rotate */
} couple;

WALK couple couple_of(const world_of *w, int i) {
    const bool is_apart = i < w->pairs && !w->interleaved;
    const couple out = {is_apart ? i : 2 * i, is_apart ? i + w->pairs : 2 * i + 1,
                        i < w->pairs ? i : -1};
    return out;
}

DEVICE void rotate(float v[2], float cosine, float sine) {
    const float a = turned_by(v[0], -v[1], cosine, sine);
    v[1] = turned_by(v[1], v[0], cosine, sine);
    v[0] = a;
}

DEVICE void load_phase(const couple *c, cuda_address cosines, cuda_address sines, float out[2]) {
    out[0] = c->pair < 0 ? 1 : load_float((const float *)cosines + c->pair);
    out[1] = c->pair < 0 ? 0 : load_float((const float *)sines + c->pair);
}

/* A couple of the head that begins at feature `first` of row r; loaded, and there. */
WALK void load_couple(const world_of *w, const cuda_tensor *t, int r, int first, const couple *c,
                      float v[2]) {
    v[0] = load_relaxed(value_at(w, t, r, first + c->a));
    v[1] = load_relaxed(value_at(w, t, r, first + c->b));
}

WALK void settle_couple(const world_of *w, const cuda_tensor *t, int r, int first, const couple *c,
                        float v[2]) {
    v[0] = settle_value(w, t, value_at(w, t, r, first + c->a), v[0]);
    v[1] = settle_value(w, t, value_at(w, t, r, first + c->b), v[1]);
}

WALK void load_queries(const world_of *w, const cuda_stage *s, const attend_item *item,
                       const attend_space *to) {
    const int thread = fresh(THREAD);
    const int hd = WEIR_HEAD_DIM(w);
    const u64 phase = (u64)item->r * (u64)w->pairs * sizeof(float);
    const int threads = WORK_THREADS(w);
    const int makers = threads > 64 ? threads - 64 : threads; /* others make the row's own key */
    if (thread >= makers) return;
    for (int i = thread; i < WEIR_HEADS * hd / 2; i += makers) {
        const int head = i / (hd / 2), first = (item->head + head) * hd;
        const couple c = couple_of(w, i % (hd / 2));
        float v[2] = {0, 0}, at_pos[2], at_pin[2];
        if (head < item->heads) load_couple(w, &s->in, item->r, first, &c, v);
        load_phase(&c, w->cos_pos + phase, w->sin_pos + phase, at_pos);
        load_phase(&c, w->cos_pin + phase, w->sin_pin + phase, at_pin);
        if (head < item->heads) settle_couple(w, &s->in, item->r, first, &c, v);
        float pin[2] = {v[0], v[1]};
        rotate(v, at_pos[0], at_pos[1]);
        rotate(pin, at_pin[0], at_pin[1]);
        put_query(w, to->q_pos, head, c.a, v[0] * s->scale);
        put_query(w, to->q_pos, head, c.b, v[1] * s->scale);
        put_query(w, to->q_pin, head, c.a, pin[0] * s->scale);
        put_query(w, to->q_pin, head, c.b, pin[1] * s->scale);
    }
}

/* A row's own key or value: as it is stored near by, and in the store when rows are alone; a warp.
 */
WALK void make_own(const world_of *w, const cuda_stage *s, const attend_item *item, int is_v,
                   const attend_space *space) {
    const int lane = fresh(LANE);
    const cuda_row *row = item->row;
    const cuda_tensor *from = is_v ? &s->v : &s->in2;
    const int hd = WEIR_HEAD_DIM(w), first = item->kv_head * hd;
    const u64 phase = (u64)item->r * (u64)w->pairs * sizeof(float);
    store_rows near;
    near.type = type_of_pin(w, row->is_pin);
    const int bytes = hd * store_type_bytes(near.type);
    near.at = space->own + is_v * bytes;
    near.scales = space->own_scales + is_v;
    float v[WEIR_LANE_PAIRS][2], most = 0;
    UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
        const couple c = couple_of(w, lane + 32 * e);
        v[e][0] = v[e][1] = 0;
        if (2 * (lane + 32 * e) < hd) load_couple(w, from, item->r, first, &c, v[e]);
    }
    UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
        const couple c = couple_of(w, lane + 32 * e);
        float at[2];
        if (2 * (lane + 32 * e) >= hd) continue;
        load_phase(&c, (row->is_pin ? w->cos_pin : w->cos_pos) + phase,
                   (row->is_pin ? w->sin_pin : w->sin_pos) + phase, at);
        settle_couple(w, from, item->r, first, &c, v[e]);
        if (!is_v) rotate(v[e], at[0], at[1]);
        most = fmaxf(most, fmaxf(fabsf(v[e][0]), fabsf(v[e][1])));
    }
    const float top = top_of_type(near.type);
    if (store_is_scaled(near.type)) most = warp_max(most);
    const float inverse = most > 0x1p-100f ? top / most : 0;
    UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
        const couple c = couple_of(w, lane + 32 * e);
        if (2 * (lane + 32 * e) >= hd) continue;
        store_put(&near, (u64)c.a, v[e][0], inverse);
        store_put(&near, (u64)c.b, v[e][1], inverse);
    }
    if (lane == 0 && store_is_scaled(near.type)) near.scales[0] = most / top;
    if (!w->alone) return;
    const store_rows to = store_of(w, row->slot, s->layer, row->is_pin, is_v, item->kv_head);
    warp_sync();
    copy_row(to.at + (u64)row->at * (u64)bytes, near.at, bytes);
    if (lane == 0 && store_is_scaled(to.type)) to.scales[row->at] = near.scales[0];
}

WALK key_run own_run(const world_of *w, bool is_pin, const attend_space *space) {
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

/* A key of so many bytes and its value from the store to this warp's place in shared memory, where
 * they do not fit the ring. */
COLD void bring_key(const char *key, const char *value, int bytes, char *to) {
    warp_sync(); /* the key before has been looked at */
    copy_row(to, key, bytes);
    copy_row(to + bytes, value, bytes);
    warp_sync();
}

/* The keys of a split, as they are in layer `layer`. */
WALK key_run run_of_split(const world_of *w, const attend_item *item, int layer, bool is_pin,
                          int unit, int split) {
    const bool is_known =
        w->fast || (!w->plain && unit == BLOCK && ring_place_of(w)->units.is_split);
    if (!is_known) {
        return keys_of_split(w, item, layer, is_pin, split);
    }
    key_run run = ring_place_of(w)->runs[is_pin];
    const u64 on = (u64)layer * w->layer_bytes;
    run.keys.type = run.values.type = type_of_pin(w, is_pin); /* known where kernels are made */
    run.keys.at += on;
    run.values.at += on;
    run.keys.scales += on / sizeof(float);
    run.values.scales += on / sizeof(float);
    return run;
}

/* This warp's turns of a split; the last warp has the row's own key too. */
WALK void look_at_split(const world_of *w, const cuda_stage *s, const attend_item *item,
                        const attend_space *space, int unit, int i, ring *r, look *l) {
    const int hd = WEIR_HEAD_DIM(w), each = keys_of_turn(w), warps = WORKERS(w);
    char *brought = space->brought + WARP * 2 * hd * 4;
    int skip = WARP;                       /* turns of others until it is this warp's */
    for (int part = 0; part < 3; part++) { /* a loop, so that the code is there once */
        const bool is_own = part == 2, is_pin = is_own ? item->row->is_pin : part == 0;
        const bool is_copied = !is_own && (w->fast || (w->shared.keys_fit && !w->plain));
        if (is_own && (i != item->row->own || WARP != warps - 1)) break;
        key_run run =
            is_own ? own_run(w, is_pin, space) : run_of_split(w, item, s->layer, is_pin, unit, i);
        const int bytes = hd * store_type_bytes(run.keys.type);
        if (run.n <= 0) continue;
        take_queries(w, is_pin ? space->q_pin : space->q_pos, l);
        if (is_own) skip = 0;
        while (run.n > 0) {
            const int n = is_copied ? keys_of_chunk(w, &run) : 1;
            const char *keys = is_own ? space->own : brought;
            if (is_copied) keys = ring_read(w, r);
            for (int first = skip * each; first < n; first += warps * each) {
                const int left = n - first;
                key_run now = run;
                pass_keys(&now, first);
                if (!is_copied && !is_own) {
                    const u64 at = (u64)run.at * (u64)bytes;
                    bring_key(run.keys.at + at, run.values.at + at, bytes, brought);
                }
                look_at_keys(w, item, &now, left < each ? left : each, keys + first * bytes,
                             keys + (n + first) * bytes, l);
            }
            if (is_copied) ring_done(w, r);
            pass_keys(&run, n);
            skip = (skip - (n + each - 1) / each) & (warps - 1);
        }
    }
}

/* The place of a split's sums, [WEIR_HEADS][hd + 2]; in a tagged step every layer has its own. */
WALK float *split_place(const world_of *w, const cuda_stage *s, int item, int split) {
    const int floats = WEIR_HEADS * (WEIR_HEAD_DIM(w) + 2);
    const u64 at = (u64)item * (u64)w->max_splits + (u64)split;
    if (!w->tagged) return (float *)w->partials + at * (u64)floats;
    const u64 layer = (u64)s->layer * (u64)(w->n_kv_heads * groups_of_heads(w) * w->max_splits);
    return (float *)w->tagged_partials + (layer + at) * (u64)floats;
}

WALK void put_partial(const world_of *w, float *to, float x) {
    store_relaxed(to, float_of_bits((bits_of_float(x) & ~1u) | (w->tagged ? w->tag : 0)));
}

/* A split that has no keys, which a tagged step writes all the same. */
WALK void put_empty_split(const world_of *w, int heads, float *to) {
    const int thread = fresh(THREAD);
    const int row = WEIR_HEAD_DIM(w) + 2;
    for (int i = thread; i < heads * row; i += WORK_THREADS(w)) {
        put_partial(w, to + i, i % row == row - 2 ? NO_SCORE : 0);
    }
}

/* The warps' sums, added in their order, to a place in memory where other blocks can read them: a
 * warp has 32 features of a head at a time, and its lane l weighs warp l for all. */
WALK void put_split(const world_of *w, int heads, const float *warps, float *to) {
    const int lane = fresh(LANE);
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2, step = WEIR_HEADS * row, n = (hd + 31) / 32;
    for (int i = WARP; i < heads * n; i += WORKERS(w)) {
        const float *from = warps + i / n * row;
        float *head = to + i / n * row;
        const int d = i % n * 32 + lane;
        const bool is_one = lane < WORKERS(w);
        const float mine = is_one ? from[lane * step + hd] : NO_SCORE;
        const float most = warp_max(mine), weight = is_one ? exponential(mine - most) : 0;
        const float total = warp_sum(is_one ? weight * from[lane * step + hd + 1] : 0);
        float sum = 0;
        UNROLL for (int warp = 0; warp < CUDA_WORKERS; warp++) {
            if (warp >= WORKERS(w)) continue;
            const float factor = shuffle_from(weight, warp);
            if (d < hd) sum += from[warp * step + d] * factor;
        }
        if (d < hd) put_partial(w, head + d, sum);
        if (d == 0) {
            put_partial(w, head + hd, most);
            put_partial(w, head + hd + 1, total);
        }
    }
}

/* Split i of an item to `to`; the whole block. */
WALK void attend_split(const world_of *w, const cuda_stage *s, const attend_item *item,
                       const attend_space *space, int unit, int i, ring *r, float *to) {
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2;
    look l;
    look_begin(&l);
    look_at_split(w, s, item, space, unit, i, r, &l);
    work_sync(w); /* the split before has been merged */
    look_put(w, &l, space->warps + WARP * WEIR_HEADS * row);
    work_sync(w);
    put_split(w, item->heads, space->warps, to);
}

enum { SPLITS = 8 }; /* that are loaded together */

/* Feature d of what n splits made of a head, [n][WEIR_HEADS][hd + 2] from that head on, as one: a
 * lane; a warp, whose lane l weighs every l-th split for all.  Waits for tags. */
WALK float merge_feature(const world_of *w, const float *head, int d, int n) {
    const int lane = fresh(LANE);
    const int hd = WEIR_HEAD_DIM(w), step = WEIR_HEADS * (hd + 2);
    const u32 tag = w->tagged ? w->tag : 0;
    float most = NO_SCORE, total = 0, sum = 0;
    for (int first = 0; first < n; first += SPLITS, head += SPLITS * step) {
        float v[SPLITS], m, t;
        for (u32 unlike = 1; unlike & 1;) {
            m = float_of_bits((bits_of_float(NO_SCORE) & ~1u) | tag);
            t = float_of_bits(tag);
            if (lane < SPLITS && first + lane < n) {
                m = load_relaxed(head + lane * step + hd);
                t = load_relaxed(head + lane * step + hd + 1);
            }
            UNROLL for (int k = 0; k < SPLITS; k++) {
                v[k] = float_of_bits(tag);
                if (first + k < n) v[k] = load_relaxed(head + k * step + d);
            }
            unlike = also_unlike(also_unlike(0, bits_of_float(m), tag), bits_of_float(t), tag);
            UNROLL for (int k = 0; k < SPLITS; k++) {
                unlike = also_unlike(unlike, bits_of_float(v[k]), tag);
            }
            if (unlike & 1) spin();
        }
        m = without_tag(m);
        const float now = fmaxf(most, warp_max(m));
        const float fade = exponential(most - now), weight = exponential(m - now);
        total = total * fade + warp_sum(weight * without_tag(t));
        sum *= fade;
        UNROLL for (int k = 0; k < SPLITS; k++) sum += shuffle_from(weight, k) * without_tag(v[k]);
        most = now;
    }
    return quotient(sum, total);
}

/* Features [first, end) of an item's heads to the result; the whole block. */
WALK void merge_splits(const world_of *w, const cuda_stage *s, const attend_item *item,
                       const float *partials, int first, int end) {
    const int hd = WEIR_HEAD_DIM(w);
    for (int at = first + WARP * 32; at < end; at += WORK_THREADS(w)) { /* whole warps */
        const int i = at + LANE, last = (at + 32 < end ? at + 32 : end) - 1;
        for (int head = (u32)at / (u32)hd; head * hd <= last; head++) {
            const bool is_mine = i <= last && i >= head * hd && i < (head + 1) * hd;
            const float x = merge_feature(w, partials + head * (hd + 2),
                                          is_mine ? i - head * hd : 0, item->row->n_splits);
            if (is_mine) put_value(w, &s->out, item->r, item->head * hd + i, x);
        }
    }
}

/* The same of the features that are of a split: in a tagged step each block that has a split merges
 * some, and nobody waits for a last one.  All splits of its own are written before. */
WALK void merge_share(const world_of *w, const cuda_stage *s, const attend_item *item, int number,
                      int split) {
    const int n = item->row->n_splits, features = item->heads * WEIR_HEAD_DIM(w);
    const int each = (features + n - 1) / n, end = (split + 1) * each;
    if (split >= n) return;
    merge_splits(w, s, item, split_place(w, s, number, 0), split * each,
                 end < features ? end : features);
}

/* Says that this block's part of n is there; true for the block that comes last.  flag: room in
 * shared memory.  The whole block. */
WALK bool comes_last(const world_of *w, unsigned *ticket, int n, int *flag) {
    work_sync(w);
    if (THREAD == 0) {
        *flag = take_ticket(ticket) == (unsigned)n - 1;
        if (*flag) *ticket = 0; /* for the next launch */
    }
    work_sync(w);
    return *flag;
}

/* Queries of an item, and the row's own key where `makes_own`, near by; the whole block. */
WALK void make_ready(const world_of *w, const cuda_stage *s, const attend_item *item,
                     bool makes_own, const attend_space *space) {
    load_queries(w, s, item, space);
    if (makes_own) { /* the last warps: they have no queries to make */
        for (int is_v = WORKERS(w) - 1 - WARP; is_v < 2; is_v += WORKERS(w)) {
            make_own(w, s, item, is_v, space);
        }
    }
    work_sync(w);
    take_mark(w, 6);
}

/* Attention of a step of one row: a block has a unit at most, a split that it was told. */
WALK void attend_one(const world_of *w, const cuda_stage *s, ring *r, grid_wait wait) {
    const attend_space space = attend_space_of(w);
    const ring_place *p = ring_place_of(w);
    grid_await(w, wait);
    if (BLOCK >= p->units.n) return;
    if (p->split >= p->item.row->n_splits) {
        put_empty_split(w, p->item.heads, split_place(w, s, p->number, p->split));
        return;
    }
    make_ready(w, s, &p->item, p->split == p->item.row->own, &space);
    attend_split(w, s, &p->item, &space, BLOCK, p->split, r,
                 split_place(w, s, p->number, p->split));
    merge_share(w, s, &p->item, p->number, p->split);
}

/* Of others; stage `stage`. */
WALK void attend_some(const world_of *w, const cuda_stage *s, int stage, ring *r, grid_wait wait) {
    const attend_space space = attend_space_of(w);
    const attend_units units = units_of(w);
    const bool is_split = units.is_split;
    grid_await(w, wait);
    if (!has_keys(w) && WARP == 0) ring_allow(w, stage + 1);
    for (int unit = BLOCK; unit < units.n; unit += N_BLOCKS) {
        const int number = is_split ? unit / w->max_splits : unit;
        const int split = is_split ? unit % w->max_splits : 0, place = is_split ? number : BLOCK;
        const attend_item item = attend_item_of(w, number);
        const int n = item.row->n_splits;
        if (split >= n) {
            if (w->tagged) put_empty_split(w, item.heads, split_place(w, s, place, split));
            continue;
        }
        if (unit != BLOCK) work_sync(w); /* shared memory is free */
        make_ready(w, s, &item, !is_split || split == item.row->own, &space);
        for (int i = split; i < (is_split ? split + 1 : n); i++) {
            attend_split(w, s, &item, &space, unit, i, r, split_place(w, s, place, i));
            take_mark(w, 7);
        }
        const bool is_shared = w->tagged && is_split;
        if (!is_shared &&
            (!is_split || comes_last(w, (unsigned *)w->tickets + number, n, space.is_last))) {
            work_sync(w);
            merge_splits(w, s, &item, split_place(w, s, place, 0), 0,
                         item.heads * WEIR_HEAD_DIM(w));
        }
        take_mark(w, 8);
    }
    if (!w->tagged || !is_split) return;
    for (int unit = BLOCK; unit < units.n; unit += N_BLOCKS) {
        const attend_item item = attend_item_of(w, unit / w->max_splits);
        merge_share(w, s, &item, unit / w->max_splits, unit % w->max_splits);
    }
    take_mark(w, 9);
}
