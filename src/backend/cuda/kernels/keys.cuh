/* keys.cuh - which keys a step looks at.
 *
 *     unit    a row, a K/V head, up to WEIR_HEADS of its query heads; all splits of the row's keys,
 *             or one of them where there are fewer rows and heads than blocks
 *     split   pins [i * split, ..), then `split` recent keys from the i * split-th oldest on; the
 *             row's own key, which is new, is apart
 *     chunk   keys of a split side by side that fit a slot; warps look at a few of them by turns
 *
 * attend.cuh looks at them in this order, and ring.cuh copies them in the same.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#ifndef WEIR_HEADS
    #define WEIR_HEADS CUDA_HEADS /* query heads of an item at most */
#endif

typedef struct attend_item { /* one row, some heads of one K/V head */
    const cuda_row *row;
    int r, kv_head, head, heads; /* query heads [head, head + heads) */
} attend_item;

/* Row r of the step, near by in a step of few. */
WALK const cuda_row *row_in_step(const world_of *w, int r) {
    const cuda_row *rows = (const cuda_row *)w->rows;
    if (w->n <= CUDA_TOKENS) rows = (const cuda_row *)(shared_bytes + w->shared.rows);
    return rows + r;
}

WALK int groups_of_heads(const world_of *w) { /* of one K/V head */
    return (w->n_heads / w->n_kv_heads + WEIR_HEADS - 1) / WEIR_HEADS;
}

WALK attend_item attend_item_of(const world_of *w, int i) {
    const int share = w->n_heads / w->n_kv_heads, groups = groups_of_heads(w);
    attend_item out;
    out.r = i / (groups * w->n_kv_heads);
    out.row = row_in_step(w, out.r);
    out.kv_head = i / groups % w->n_kv_heads;
    out.head = out.kv_head * share + i % groups * WEIR_HEADS;
    out.heads = share - i % groups * WEIR_HEADS;
    if (out.heads > WEIR_HEADS) out.heads = WEIR_HEADS;
    return out;
}

/* n keys, row `at` of the store first; their distances fall from `distance` on by one. */
typedef struct key_run {
    store_rows keys, values;
    int at, wrap, n; /* rows go on at 0 after wrap */
    float distance;
} key_run;

DEVICE int row_of_key(const key_run *run, int key) {
    const int row = run->at + key;
    return row >= run->wrap ? row - run->wrap : row;
}

/* Of the keys that a row sees the i-th `most`: pins, or recent ones from the oldest on.  There may
 * be none. */
WALK key_run keys_of_row(const world_of *w, const cuda_row *row, int layer, int kv_head,
                         bool is_pin, int i, int most) {
    const int behind = row->recent - 1 - i * most; /* row->pos: the first recent key */
    key_run run;
    run.keys = store_of(w, row->slot, layer, is_pin, 0, kv_head);
    run.values = store_of(w, row->slot, layer, is_pin, 1, kv_head);
    run.at = is_pin ? i * most : row->at - behind;
    if (run.at < 0) run.at += w->ring;
    run.wrap = is_pin ? 0x7fffffff : w->ring;
    run.n = is_pin ? row->pins - i * most : behind + 1;
    if (run.n > most) run.n = most;
    if (run.n < 0) run.n = 0;
    run.distance = (float)(is_pin ? row->p - i * most : behind);
    return run;
}

typedef struct attend_units { /* of a stage of attention; a block has every N_BLOCKS-th */
    int n, is_split;
} attend_units;

WALK attend_units units_of(const world_of *w) {
    const int items = w->n * w->n_kv_heads * groups_of_heads(w);
    attend_units out;
    out.is_split = items < N_BLOCKS;
    out.n = out.is_split ? items * w->max_splits : items;
    return out;
}

/* The keys of a split, its row's own left out. */
WALK key_run keys_of_split(const world_of *w, const attend_item *item, int layer, bool is_pin,
                           int split) {
    key_run run = keys_of_row(w, item->row, layer, item->kv_head, is_pin, split, w->split);
    if (split == item->row->own && is_pin == (item->row->is_pin != 0)) run.n--;
    return run;
}

/* From the first key of a run on. */
DEVICE int keys_side_by_side(const key_run *run) {
    return run->n < run->wrap - run->at ? run->n : run->wrap - run->at;
}

/* Keys that are copied together, at most: they and their values fill a slot. */
WALK int keys_of_slot(const world_of *w, int type) {
    const int n = w->shared.slot_bytes / (2 * WEIR_HEAD_DIM(w) * store_type_bytes(type));
    return n < 2 * CUDA_KEYS ? n : n / (2 * CUDA_KEYS) * (2 * CUDA_KEYS);
}

/* Those of a run that are. */
WALK int keys_of_chunk(const world_of *w, const key_run *run) {
    const int n = keys_of_slot(w, run->keys.type), near = keys_side_by_side(run);
    return n < near ? n : near;
}

/* The run without its first n keys. */
DEVICE void pass_keys(key_run *run, int n) {
    run->at = row_of_key(run, n);
    run->n -= n;
    run->distance -= (float)n;
}
