/* look.cuh - a warp looks at keys that lie in shared memory: scores, a running softmax, sums of
 * values.
 *
 *   put_query, take_queries    a feature; all of an item's heads
 *   look_at_keys    up to KEYS keys [n][hd] and values [n][hd] of the store's type, or twice KEYS
 *   look_put        [WEIR_HEADS][hd + 2]: sums, the largest score, the sum of weights
 *
 * Keys of 16 bits are tiles of m16n8k16, 8 keys by 16 features: a query is two rows, hi and lo, as
 * inputs of products are two columns.  Lane l has the scores of keys 2 * (l % 4) and the next for
 * head l / 8.  Values of some heads are tiles of 16 features by 16 keys.  Others go pair by pair:
 * lane l has the score of key l / 4 for one head, head l % 4 (of four heads), l % 4 / 2 (of two) or
 * 0, and a pair of features of values.
 *
 * Features of a tile are in the order in which a lane's 16 bytes have them, for all alike.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

enum { KEYS = CUDA_KEYS }; /* that a warp looks at together */

#define NO_SCORE (-3.0e38f)

/* Whether keys and values are tiles of halves. */
#define LOOKS_BY_TILES(w)                                                   \
    (WEIR_KV_TYPE(w) == WEIR_PIN_TYPE(w) &&                                 \
     (WEIR_KV_TYPE(w) == CUDA_KV_F16 || WEIR_KV_TYPE(w) == CUDA_KV_BF16) && \
     WEIR_HEAD_DIM(w) % 32 == 0 && WEIR_HEAD_DIM(w) <= 256)

/* Whether values are tiles then: of a head alone each lane's pair of features is less work. */
#define VALUES_BY_TILES (WEIR_HEADS > 1)

typedef struct look {
    float q[WEIR_HEADS][WEIR_LANE_PAIRS][2];   /* by pairs: of the pins or of the ring */
    const float *queries;                      /* by tiles: the same, where they lie */
    float sum[WEIR_HEADS][WEIR_LANE_PAIRS][2]; /* by pairs: of weighted values */
    float tile[4 * WEIR_LANE_PAIRS][4];        /* by tiles: the same, as add_tiles has it */
    float most, total;                         /* total: of this lane's keys */
} look;

DEVICE void look_begin(look *l) {
    l->most = NO_SCORE;
    l->total = 0;
    UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS * 2; e++) l->sum[h][e / 2][e % 2] = 0;
    }
    UNROLL for (int i = 0; i < 16 * WEIR_LANE_PAIRS; i++) l->tile[i / 4][i % 4] = 0;
}

/* ---- queries */

DEVICE u32 half_of(bool is_bf16, float x) {
    return is_bf16 ? bf16_of_float(x) : f16_of_float(x);
}

DEVICE float float_of_half(bool is_bf16, u32 half) {
    return is_bf16 ? float_of_bf16(half) : float_of_f16(half);
}

/* Two features of a row of a tile: those of a query rounded, or what was left. */
DEVICE u32 row_of_query(bool is_bf16, bool is_rest, float x, float y) {
    u32 a = half_of(is_bf16, x), b = half_of(is_bf16, y);
    if (is_rest) {
        a = half_of(is_bf16, x - float_of_half(is_bf16, a));
        b = half_of(is_bf16, y - float_of_half(is_bf16, b));
    }
    return a | b << 16;
}

/* Feature d of a head's query to where take_queries finds it: floats [WEIR_HEADS][hd], or halves
 * [WEIR_HEADS][2][hd], rounded and what was left. */
WALK void put_query(const world_of *w, float *q, int head, int d, float x) {
    const int hd = WEIR_HEAD_DIM(w);
    if (!LOOKS_BY_TILES(w)) {
        q[head * hd + d] = x;
        return;
    }
    const bool is_bf16 = WEIR_KV_TYPE(w) == CUDA_KV_BF16;
    const u32 rounded = half_of(is_bf16, x);
    u16 *to = (u16 *)q + 2 * head * hd + d;
    to[0] = (u16)rounded;
    to[hd] = (u16)half_of(is_bf16, x - float_of_half(is_bf16, rounded));
}

WALK void take_queries(const world_of *w, const float *q, look *l) {
    const int hd = WEIR_HEAD_DIM(w);
    l->queries = q;
    UNROLL for (int h = 0; h < WEIR_HEADS && !LOOKS_BY_TILES(w); h++) {
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            const int d = 2 * (LANE + 32 * e);
            l->q[h][e][0] = d < hd ? q[h * hd + d] : 0;
            l->q[h][e][1] = d < hd ? q[h * hd + d + 1] : 0;
        }
    }
}

/* ---- values */

/* Pair i of key u of those that lie at `at` in shared memory. */
WALK void load_near(const world_of *w, int type, const char *at, int u, int i, float out[2]) {
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

/* Values of key u, weighted; `lane` is this one. */
WALK void add_values(const world_of *w, int type, const char *values, int u, int lane,
                     const float f[WEIR_HEADS], look *l) {
    UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
        float v[2];
        if (2 * (lane + 32 * e) >= WEIR_HEAD_DIM(w)) continue;
        load_near(w, type, values, u, lane + 32 * e, v);
        UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
            l->sum[h][e][0] += f[h] * v[0];
            l->sum[h][e][1] += f[h] * v[1];
        }
    }
}

/* Sums so far, times what a larger score leaves of them: head h's is in lane h * lanes_of_head. */
DEVICE void weaken_sums(float fade, int lanes_of_head, look *l) {
    UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
        const float f = shuffle_from(fade, h * lanes_of_head);
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS * 2; e++) l->sum[h][e / 2][e % 2] *= f;
    }
}

/* ---- keys by tiles */

DEVICE void multiply_tile(bool is_bf16, float c[4], const u32 q[2], const u32 k[2]) {
    const u32 a[4] = {q[0], 0, q[1], 0};
    if (is_bf16) {
        multiply_bf16(c, a, k);
    } else {
        multiply_f16(c, a, k);
    }
}

/* Scores of keys 2 * (lane % 4) and the next.  What lies behind the last key is read, not used. */
WALK void score_tile(const world_of *w, const char *keys, const look *l, float score[2]) {
    const int lane = fresh(LANE), hd = WEIR_HEAD_DIM(w);
    const bool is_bf16 = WEIR_KV_TYPE(w) == CUDA_KV_BF16;
    const u16 *queries = (const u16 *)l->queries + lane / 4 * hd + lane % 4 * 8;
    float c[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    UNROLL for (int j = 0; j < 2 * WEIR_LANE_PAIRS; j++) {
        u32 k[4], q[4] = {0, 0, 0, 0};
        if (32 * j >= hd) continue;
        if (lane / 8 < WEIR_HEADS) load_16(q, queries + 32 * j);
        load_16(k, keys + lane / 4 * 2 * hd + j * 64 + lane % 4 * 16);
        multiply_tile(is_bf16, c[0], q, k);
        multiply_tile(is_bf16, c[1], q + 2, k + 2);
    }
    UNROLL for (int i = 0; i < 2; i++) {
        const float part = c[0][i] + c[1][i];
        score[i] = part + shuffle_xor(part, 4);
    }
}

/* Values of up to 16 keys, weighted: a tile is 16 features by 16 keys, columns are those of
 * weights, hi and lo of a head.  Lane l has features 8 * (l / 4) .. + 7 of each 64, for head l % 4.
 */
WALK void add_tiles(const world_of *w, const char *values, int n, const u32 weights[2], look *l) {
    const int lane = fresh(LANE);
    const int hd = WEIR_HEAD_DIM(w);
    const char *at = values + lane % 4 * 4 * hd + lane / 4 * 16;
    UNROLL for (int c = 0; c < WEIR_LANE_PAIRS; c++) {
        u32 v[4][4], a[4];
        UNROLL for (int i = 0; i < 4; i++) {
            const int key = lane % 4 * 2 + i / 2 * 8 + i % 2;
            UNROLL for (int j = 0; j < 4; j++) v[i][j] = 0;
            if (key >= n || 64 * c + lane / 4 * 8 >= hd) continue;
            load_16(v[i], at + (i / 2 * 8 + i % 2) * 2 * hd + 128 * c);
        }
        UNROLL for (int j = 0; j < 4; j++) {
            UNROLL for (int i = 0; i < 4; i++) {
                a[i] = pick_bytes(v[i / 2 * 2][j], v[i / 2 * 2 + 1][j], i % 2 ? 0x7632 : 0x5410);
            }
            if (WEIR_KV_TYPE(w) == CUDA_KV_BF16) {
                multiply_bf16(l->tile[4 * c + j], a, weights);
            } else {
                multiply_f16(l->tile[4 * c + j], a, weights);
            }
        }
    }
}

/* The first n of KEYS values a pair of features a lane, with the weights of this lane's keys. */
WALK void add_half(const world_of *w, const char *values, int n, const float weight[2], look *l) {
    const int lane = fresh(LANE);
    float f[WEIR_HEADS];
    UNROLL for (int u = 0; u < KEYS; u++) {
        UNROLL for (int h = 0; h < WEIR_HEADS; h++) f[h] =
            shuffle_from(weight[u % 2], h * 8 + u / 2);
        if (u < n) add_values(w, WEIR_KV_TYPE(w), values, u, lane, f, l);
    }
}

WALK void look_by_tiles(const world_of *w, const attend_item *item, const key_run *run, int n,
                        const char *keys, const char *values, look *l) {
    const int lane = fresh(LANE);
    const int head = lane / 8, type = WEIR_KV_TYPE(w);
    float score[4], most = l->most;
    score_tile(w, keys, l, score);
    if (n > KEYS) score_tile(w, keys + KEYS * 2 * WEIR_HEAD_DIM(w), l, score + 2);
    UNROLL for (int i = 0; i < 4; i++) {
        const int key = lane % 4 * 2 + i / 2 * KEYS + i % 2;
        if (w->alibi && head < item->heads) {
            const float slope = ((const float *)w->alibi)[item->head + head];
            score[i] -= slope * (run->distance - (float)key);
        }
        if (key >= n) score[i] = NO_SCORE;
        most = fmaxf(most, score[i]);
    }
    most = fmaxf(most, shuffle_xor(most, 1));
    most = fmaxf(most, shuffle_xor(most, 2));
    const float fade = exponential(l->most - most);
    UNROLL for (int i = 0; i < 4; i++) {
        const int key = lane % 4 * 2 + i / 2 * KEYS + i % 2;
        score[i] = key < n ? exponential(score[i] - most) : 0;
    }
    l->most = most;
    l->total = l->total * fade + ((score[0] + score[1]) + (score[2] + score[3]));
    if (!VALUES_BY_TILES) {
        weaken_sums(fade, 8, l);
        add_half(w, values, n, score, l);
        if (n > KEYS) {
            add_half(w, values + KEYS * 2 * WEIR_HEAD_DIM(w), n - KEYS, score + 2, l);
        }
        return;
    }
    const float fade_here = shuffle_from(fade, lane % 4 * 8);
    UNROLL for (int i = 0; i < 16 * WEIR_LANE_PAIRS; i++) l->tile[i / 4][i % 4] *= fade_here;
    u32 weights[2];
    UNROLL for (int i = 0; i < 2; i++) {
        weights[i] =
            row_of_query(type == CUDA_KV_BF16, lane / 4 % 2, score[2 * i], score[2 * i + 1]);
    }
    add_tiles(w, values, n, weights, l);
}

/* ---- keys by pairs */

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

/* The first n keys of a run, at most KEYS, a pair of features after the other. */
WALK void look_by_pairs(const world_of *w, const attend_item *item, const key_run *run, int n,
                        const char *keys, const char *values, look *l) {
    const int lane = fresh(LANE), key = lane / 4, head = lane % 4 / (4 / WEIR_HEADS),
              hd = WEIR_HEAD_DIM(w);
    const bool is_mine = key < n && head < item->heads;
    const int row = is_mine ? row_of_key(run, key) : 0;
    const float scale = is_mine ? key_scale(&run->keys, row) : 0;
    const float value_scale = is_mine ? key_scale(&run->values, row) : 0;
    float dots[KEYS * WEIR_HEADS];
    UNROLL for (int u = 0; u < KEYS; u++) {
        UNROLL for (int h = 0; h < WEIR_HEADS; h++) dots[u * WEIR_HEADS + h] = 0;
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            float k[2];
            if (u >= n || 2 * (lane + 32 * e) >= hd) continue;
            load_near(w, run->keys.type, keys, u, lane + 32 * e, k);
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
    weaken_sums(fade, 4 / WEIR_HEADS, l);
    for (int u = 0; u < n; u++) {
        float f[WEIR_HEADS];
        UNROLL for (int h = 0; h < WEIR_HEADS; h++) f[h] = shuffle_from(weight, lane_of(u, h));
        add_values(w, run->values.type, values, u, lane, f, l);
    }
}

/* ---- */

/* Keys that look_at_keys takes at most. */
WALK int keys_of_round(const world_of *w) {
    return LOOKS_BY_TILES(w) ? 2 * KEYS : KEYS;
}

/* Keys that a warp looks at before it is the next one's turn: fewer where a split would not do for
 * all. */
WALK int keys_of_turn(const world_of *w) {
    const int most = keys_of_round(w);
    return w->split >= most * WORKERS(w) ? most : KEYS;
}

/* The first n keys of a run, which lie in shared memory, their values too. */
WALK void look_at_keys(const world_of *w, const attend_item *item, const key_run *run, int n,
                       const char *keys, const char *values, look *l) {
    if (LOOKS_BY_TILES(w)) {
        look_by_tiles(w, item, run, n, keys, values, l);
    } else {
        look_by_pairs(w, item, run, n, keys, values, l);
    }
}

WALK void look_put(const world_of *w, const look *l, float *to) {
    const int lane = fresh(LANE);
    const int hd = WEIR_HEAD_DIM(w), row = hd + 2;
    float total = l->total;
    if (LOOKS_BY_TILES(w)) {
        total += shuffle_xor(total, 1);
        total += shuffle_xor(total, 2);
    } else {
        UNROLL for (int mask = 16; mask >= 4; mask /= 2) total += shuffle_xor(total, mask);
    }
    UNROLL for (int i = 0; i < 4 * WEIR_LANE_PAIRS && LOOKS_BY_TILES(w) && VALUES_BY_TILES; i++) {
        const float *c = l->tile[i];
        const int d = i / 4 * 64 + lane / 4 * 8 + i % 4 * 2;
        const u32 pair[2] = {bits_of_float(c[0] + c[1]), bits_of_float(c[2] + c[3])};
        if (lane % 4 < WEIR_HEADS && d < hd) store_8(to + lane % 4 * row + d, pair);
    }
    UNROLL for (int h = 0; h < WEIR_HEADS; h++) {
        UNROLL for (int e = 0; e < WEIR_LANE_PAIRS; e++) {
            const int d = 2 * (lane + 32 * e);
            if (d >= hd || (LOOKS_BY_TILES(w) && VALUES_BY_TILES)) continue;
            to[h * row + d] = l->sum[h][e][0];
            to[h * row + d + 1] = l->sum[h][e][1];
        }
        if (lane != (LOOKS_BY_TILES(w) ? 8 * h : lane_of(0, h))) continue;
        to[h * row + hd] = l->most;
        to[h * row + hd + 1] = total;
    }
}
