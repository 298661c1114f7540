/* attend_many.cuh - attention of many rows, each alone in its slot; ref/attend.c is the definition.
 *
 * An item is a row and a K/V head; a line is a query head of it.  The keys of an item are cut into
 * rounds, 16 keys for each warp of a block: first its pins, then its recent keys.  The rounds
 * of all items, laid end to end, are cut into equal stretches, one a block, so that all end
 * together:
 *
 *     item 0                    item 1                    item 2
 *     r r r r r r r r r r r r   r r r r r r r r r r r r   r r r r ...
 *     '--- block 0 ---''---- block 1 ----''---- block 2 ----''--- ...
 *
 * A warp's keys are on their way into its slots, `slots` - 1 rounds ahead, across the ends of items
 * and, at first, before the launch before has ended: older keys are there, and a row's own, which
 * its last round has, is stored by the block that has that round.  Where several blocks have parts
 * of an item, who comes last merges them, in their order.
 *
 *   slot:  K [keys][hd], V [keys][hd] as they are in the store, rows 16 bytes apart so that the
 * eight rows of a matrix lie in different banks; of stores of 8 bits their scales
 *
 * Four lines are the eight columns of an m16n8k16, each as what 16 bits have of it and as what is
 * left, so that a lane has both halves of one line's results:
 *
 *     scores [16 keys][line hi, lo ..] = keys [16][hd] * queries [hd][line hi, lo ..]
 *     sums [hd][line hi, lo ..]       += values^T [hd][16 keys] * weights [16][line hi, lo ..]
 *
 * A row sees the pins [0, pins) with its query rotated at p, then the positions (pos - recent, pos]
 * with its query rotated at pos.  Queries are times log2(e).  Levels of 8 bits are multiplied as
 * f16, exactly; scales of keys go to scores, those of values to weights.
 *
 * Moves: keys and values once, at the speed of memory.
 * Test: tests/backend/test_cuda_attend.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#ifdef WEIR_EMULATED
    #define LINE_STEPS (CUDA_MANY_DIM / 16)
#else
    #define LINE_STEPS (4 * WEIR_LANE_PAIRS)
#endif
#define PART_GROUPS (CUDA_LINES / 4)

#define LEAST_SCORE (-1.0e30f) /* NO_SCORE less than this is still far below it */
#define LOG2_E      1.4426950408889634f
#define SUM_FACTOR  1024.0f /* of weights times scales of values, which may be small */

/* A warp's lines, by groups of four: a lane has parts of line LANE % 4 of each. */
typedef struct part_lines {
    u32 query[PART_GROUPS][LINE_STEPS][2];       /* as B */
    float sum[PART_GROUPS][LINE_STEPS][4];       /* of weighted values, as C */
    float most[PART_GROUPS], total[PART_GROUPS]; /* total: of this lane's keys */
    float slope[PART_GROUPS], distance;          /* ALiBi: of key 0 */
    int keys;                                    /* of the run */
} part_lines;

typedef struct line_set { /* lines that a block looks with */
    int first, rows;      /* of the batch */
    int kv_head, n;       /* lines: rows * share */
} line_set;

typedef struct line_place {
    int r, head;
} line_place;

DEVICE int key_stride(const cuda_world *w) {
    return 2 * WEIR_HEAD_DIM(w) + 16;
}

DEVICE bool is_bf16(const cuda_world *w) {
    return WEIR_KV_TYPE(w) == CUDA_KV_BF16;
}

DEVICE bool is_scaled(const cuda_world *w) {
    return store_is_scaled(WEIR_KV_TYPE(w));
}

DEVICE line_place line_at(const cuda_world *w, const line_set *set, int i) {
    const int share = w->n_heads / w->n_kv_heads;
    line_place out;
    out.r = set->first + i / share;
    out.head = set->kv_head * share + i % share;
    return out;
}

DEVICE u32 pack_two(const cuda_world *w, float a, float b) {
    return is_bf16(w) ? bf16_of_floats(a, b) : f16_of_floats(a, b);
}

/* What is left of a and b after pack_two. */
DEVICE u32 pack_rest(const cuda_world *w, u32 packed, float a, float b) {
    const u32 low = packed & 0xffff, high = packed >> 16;
    return is_bf16(w) ? bf16_of_floats(a - float_of_bf16(low), b - float_of_bf16(high))
                      : f16_of_floats(a - float_of_f16(low), b - float_of_f16(high));
}

/* ---- queries */

/* Where feature `at` goes among queries that meet keys of 8 bits: a lane has four features in a row
 * of a key, which are two of each half of a step. */
DEVICE int place_of_feature(int at, bool is_scaled) {
    return is_scaled ? at / 16 * 16 + at % 4 / 2 * 8 + at % 16 / 4 * 2 + at % 2 : at;
}

/* Every line's query, rotated at pos (0) and at p (1): [2][n][hi, lo][stride]. */
DEVICE void load_lines(const cuda_world *w, const cuda_stage *s, const line_set *set, char *to) {
    const int half = WEIR_HEAD_DIM(w) / 2, pairs = w->pairs, stride = key_stride(w);
    UNROLL_4 for (int k = THREAD; k < set->n * half; k += N_THREADS) {
        const int line = k / half, i = k % half;
        const bool turns = i < pairs, apart = turns && !w->interleaved;
        const int at[2] = {apart ? i : 2 * i, apart ? i + pairs : 2 * i + 1};
        const line_place place = line_at(w, set, line);
        const float *q = row_of(&s->in, place.r) + place.head * 2 * half;
        const int phase = place.r * pairs + (turns ? i : 0);
        const float factor = s->scale * LOG2_E;
        const float a = load_float(q + at[0]) * factor, b = load_float(q + at[1]) * factor;
        UNROLL for (int e = 0; e < 2; e++) {
            float c = load_float((const float *)(e ? w->cos_pin : w->cos_pos) + phase);
            float d = load_float((const float *)(e ? w->sin_pin : w->sin_pos) + phase);
            if (!turns) c = 1, d = 0;
            const float x = a * c - b * d, y = b * c + a * d;
            const u32 hi = pack_two(w, x, y), lo = pack_rest(w, hi, x, y);
            char *mine = to + 2 * (e * set->n + line) * stride;
            UNROLL for (int j = 0; j < 2; j++) {
                const int place_at = place_of_feature(at[j], !e && is_scaled(w));
                *(u16 *)(mine + 2 * place_at) = (u16)(hi >> 16 * j);
                *(u16 *)(mine + stride + 2 * place_at) = (u16)(lo >> 16 * j);
            }
        }
    }
}

/* A warp's queries, of n lines, as load_lines left them for one of the two. */
DEVICE void take_lines(const cuda_world *w, part_lines *l, int groups, const char *from, int n) {
    UNROLL for (int i = 0; i < 2 * LINE_STEPS * groups; i++) {
        const int column = i / (2 * LINE_STEPS) * 8 + LANE / 4, step = i / 2 % LINE_STEPS;
        const char *two = from + column * key_stride(w) + 32 * step + i % 2 * 16 + LANE % 4 * 4;
        const bool is_there = column < 2 * n && 16 * step < WEIR_HEAD_DIM(w);
        l->query[column / 8][step][i % 2] = is_there ? *(const u32 *)two : 0;
    }
}

/* ---- keys */

/* Bytes from a row of a slot to the next. */
DEVICE int slot_stride(const cuda_world *w, bool is_pin) {
    return store_type_bytes(is_pin ? WEIR_PIN_TYPE(w) : WEIR_KV_TYPE(w)) * WEIR_HEAD_DIM(w) + 16;
}

/* Scales of keys, then of values, of a slot. */
DEVICE float *slot_scales(const cuda_world *w, const char *slot) {
    return (float *)(slot + 2 * CUDA_PART_KEYS * key_stride(w));
}

/* Starts copies of a warp's keys, rows in a row of the store, and of their values. */
DEVICE void start_near_keys(const cuda_world *w, const key_run *run, bool is_pin, int row,
                            char *slot) {
    const int stride = slot_stride(w, is_pin), row_bytes = stride - 16, pieces = row_bytes / 16;
    const u64 from = (u64)row * (u64)row_bytes + (u64)(16 * LANE);
    const char *keys = run->keys.at + from, *values = run->values.at + from;
    char *to = slot + LANE / pieces * stride + LANE % pieces * 16;
    UNROLL for (int i = 0; i < CUDA_PART_KEYS; i += 32 / pieces) {
        copy_16(to + i * stride, keys + i * row_bytes, true);
        copy_16(to + (CUDA_PART_KEYS + i) * stride, values + i * row_bytes, true);
    }
}

/* The same of keys that may go on at the begin of the ring, or not be there. */
DEVICE void start_far_keys(const cuda_world *w, const key_run *run, bool is_pin, int at,
                           char *slot) {
    const int stride = slot_stride(w, is_pin), row_bytes = stride - 16, pieces = row_bytes / 16;
    for (int i = LANE; i < CUDA_PART_KEYS * pieces; i += 32) {
        const int key = at + i / pieces, part = i % pieces * 16;
        const bool is_there = key < run->n;
        const u64 from = (u64)(is_there ? row_of_key(run, key) : 0) * (u64)row_bytes + (u64)part;
        char *to = slot + i / pieces * stride + part;
        copy_16(to, run->keys.at + from, is_there);
        copy_16(to + CUDA_PART_KEYS * stride, run->values.at + from, is_there);
    }
}

/* Starts copies of a warp's keys from `at` on of a run, and of their values. */
DEVICE void start_keys(const cuda_world *w, const key_run *run, bool is_pin, int at, char *slot) {
    const int pieces = (slot_stride(w, is_pin) - 16) / 16, row = row_of_key(run, at);
    if (at >= run->n) return;
    if (at + CUDA_PART_KEYS <= run->n && row + CUDA_PART_KEYS <= run->wrap && 32 % pieces == 0 &&
        32 / pieces <= CUDA_PART_KEYS) {
        start_near_keys(w, run, is_pin, row, slot);
    } else {
        start_far_keys(w, run, is_pin, at, slot);
    }
    if (is_pin || !is_scaled(w)) return;
    UNROLL for (int i = LANE; i < 2 * CUDA_PART_KEYS; i += 32) {
        const int key = at + i % CUDA_PART_KEYS;
        const float *from = i < CUDA_PART_KEYS ? run->keys.scales : run->values.scales;
        const bool is_there = key < run->n;
        copy_4(slot_scales(w, slot) + i, from + (is_there ? row_of_key(run, key) : 0), is_there);
    }
}

DEVICE void multiply_half(const cuda_world *w, float c[4], const u32 a[4], const u32 b[2]) {
    if (is_bf16(w)) {
        multiply_bf16(c, a, b);
    } else {
        multiply_f16(c, a, b);
    }
}

/* Two times two levels that lie side by side, as f16. */
DEVICE u32 halves_of_word(const cuda_world *w, u32 word, int which) {
    return WEIR_KV_TYPE(w) == CUDA_KV_INT8 ? f16_of_bytes(word ^ 0x80808080u, which, 128)
                                           : f16_of_e4m3(word >> 16 * which & 0xffff);
}

/* Features from 16 * step on of a slot's keys as A: rows are keys. */
DEVICE void take_keys(const cuda_world *w, u32 a[4], const char *slot, bool is_pin, int step) {
    const int stride = slot_stride(w, is_pin);
    if (is_pin || !is_scaled(w)) {
        load_matrices(a, slot + LANE % 16 * stride + LANE / 16 * 16 + 32 * step);
        return;
    }
    UNROLL for (int i = 0; i < 2; i++) {
        const char *four = slot + (8 * i + LANE / 4) * stride + 16 * step + LANE % 4 * 4;
        a[i] = halves_of_word(w, *(const u32 *)four, 0);
        a[2 + i] = halves_of_word(w, *(const u32 *)four, 1);
    }
}

/* The same of values, turned: rows are features, in a row, or of stores of 8 bits (which of two
 * bytes make a number to turn) the even ones and then the odd ones. */
DEVICE void take_values(const cuda_world *w, u32 a[4], const char *slot, bool is_pin, int step) {
    const int stride = slot_stride(w, is_pin);
    const char *v = slot + CUDA_PART_KEYS * stride;
    if (!is_scaled(w)) {
        const int key = LANE % 8 + LANE / 16 * 8;
        load_matrices_turned(a, v + key * stride + LANE / 8 % 2 * 16 + 32 * step);
    } else if (is_pin) {
        UNROLL for (int i = 0; i < 2; i++) {
            const char *two = v + (8 * i + LANE % 4 * 2) * stride + 32 * step + LANE / 4 * 4;
            const u32 x = *(const u32 *)two, y = *(const u32 *)(two + stride);
            a[2 * i] = (x & 0xffff) | y << 16;
            a[2 * i + 1] = x >> 16 | (y & 0xffff0000u);
        }
    } else {
        u32 pairs[2];
        load_two_turned(pairs, v + LANE % 16 * stride + 16 * step);
        UNROLL for (int i = 0; i < 2; i++) {
            const u32 word = middle_swapped(pairs[i]);
            a[2 * i] = halves_of_word(w, word, 0);
            a[2 * i + 1] = halves_of_word(w, word, 1);
        }
    }
}

/* Scores of a slot's keys LANE / 4 and 8 more, of this lane's lines. */
DEVICE void score_slot(const cuda_world *w, const part_lines *l, int groups, const char *slot,
                       bool is_pin, float score[][2]) {
    float c[PART_GROUPS][2][4]; /* even and odd steps apart: sums wait for each other */
    UNROLL for (int i = 0; i < 8 * groups; i++) c[i / 8][i / 4 % 2][i % 4] = 0;
    UNROLL for (int step = 0; step < LINE_STEPS; step++) {
        if (16 * step >= WEIR_HEAD_DIM(w)) continue;
        u32 a[4];
        take_keys(w, a, slot, is_pin, step);
        UNROLL for (int g = 0; g < groups; g++) {
            multiply_half(w, c[g][step % 2], a, l->query[g][step]);
        }
    }
    UNROLL for (int i = 0; i < 2 * groups; i++) {
        const float *even = &c[i / 2][0][i % 2 * 2], *odd = &c[i / 2][1][i % 2 * 2];
        float *x = &score[i / 2][i % 2];
        *x = (even[0] + odd[0]) + (even[1] + odd[1]);
        if (!is_pin && is_scaled(w)) *x *= slot_scales(w, slot)[LANE / 4 + i % 2 * 8];
    }
}

/* Scores become weights; sums fade to the new maximum.  at: of the slot's first key in its run. */
DEVICE void weigh_keys(const cuda_world *w, part_lines *l, int groups, float score[][2], int at) {
    UNROLL for (int g = 0; g < groups; g++) {
        float *x = score[g];
        UNROLL for (int i = 0; i < 2; i++) {
            const int key = at + LANE / 4 + 8 * i;
            if (w->alibi) x[i] -= l->slope[g] * (l->distance - (float)key);
            if (key >= l->keys) x[i] = NO_SCORE;
        }
        float most = fmaxf(l->most[g], fmaxf(x[0], x[1]));
        UNROLL for (int mask = 4; mask < 32; mask *= 2) most = fmaxf(most, shuffle_xor(most, mask));
        const float fade = power_of_2(l->most[g] - most);
        UNROLL for (int i = 0; i < 2; i++) x[i] = power_of_2(x[i] - most);
        l->most[g] = most;
        l->total[g] = l->total[g] * fade + (x[0] + x[1]);
        UNROLL for (int i = 0; i < 4 * LINE_STEPS; i++) l->sum[g][i / 4][i % 4] *= fade;
    }
}

/* A number as two of 16 bits, what is left of it above. */
DEVICE u32 pack_whole(const cuda_world *w, float x) {
    const u32 low = pack_two(w, x, 0) & 0xffff;
    return pack_two(w, x, x - (is_bf16(w) ? float_of_bf16(low) : float_of_f16(low)));
}

/* A warp's lines at the keys of a slot; at: the first one's index in its run. */
DEVICE void look_at_slot(const cuda_world *w, part_lines *l, int groups, const char *slot,
                         bool is_pin, int at) {
    float score[PART_GROUPS][2];
    u32 weights[PART_GROUPS][2]; /* as B */
    score_slot(w, l, groups, slot, is_pin, score);
    weigh_keys(w, l, groups, score, at);
    UNROLL for (int i = 0; i < 2 * groups; i++) {
        float x = score[i / 2][i % 2];
        const float *scales = slot_scales(w, slot) + CUDA_PART_KEYS;
        if (is_scaled(w)) x *= is_pin ? SUM_FACTOR : SUM_FACTOR * scales[LANE / 4 + i % 2 * 8];
        weights[i / 2][i % 2] = turn_matrix(pack_whole(w, x));
    }
    UNROLL for (int step = 0; step < LINE_STEPS; step++) {
        if (16 * step >= WEIR_HEAD_DIM(w)) continue;
        u32 a[4];
        take_values(w, a, slot, is_pin, step);
        UNROLL for (int g = 0; g < groups; g++) {
            multiply_half(w, l->sum[g][step], a, weights[g]);
        }
    }
}

DEVICE void open_lines(part_lines *l, int groups) {
    UNROLL for (int g = 0; g < groups; g++) l->most[g] = LEAST_SCORE, l->total[g] = 0;
    UNROLL for (int i = 0; i < 4 * LINE_STEPS * groups; i++) {
        l->sum[i / (4 * LINE_STEPS)][i / 4 % LINE_STEPS][i % 4] = 0;
    }
}

/* ---- rounds */

typedef struct round_place { /* of an item */
    int r, kv_head;
    int round, pins, rounds; /* of `rounds`, of which the first `pins` are of pins */
} round_place;

DEVICE const cuda_row *look_row(const cuda_world *w, int r) {
    return (const cuda_row *)w->rows + r;
}

DEVICE int round_keys(void) {
    return CUDA_PART_KEYS * N_WARPS;
}

DEVICE void place_enter(const cuda_world *w, round_place *p) {
    p->pins = (look_row(w, p->r)->pins + round_keys() - 1) / round_keys();
    p->rounds = look_row(w, p->r)->tile_rows;
}

/* The round that is `at` of all. */
DEVICE round_place place_of_round(const cuda_world *w, int at) {
    float before = 0;
    for (int r = LANE; r < w->n; r += 32) {
        before += look_row(w, r)->tile_first * w->n_kv_heads <= at ? 1.0f : 0.0f;
    }
    round_place p;
    p.r = (int)warp_sum(before) - 1;
    place_enter(w, &p);
    at -= look_row(w, p.r)->tile_first * w->n_kv_heads;
    p.kv_head = at / p.rounds;
    p.round = at % p.rounds;
    return p;
}

DEVICE void place_next(const cuda_world *w, round_place *p) {
    if (++p->round < p->rounds) return;
    p->round = 0;
    if (++p->kv_head < w->n_kv_heads) return;
    p->kv_head = 0;
    if (++p->r < w->n) place_enter(w, p);
}

DEVICE bool place_is_last(const round_place *p) {
    return p->round == p->rounds - 1;
}

DEVICE int all_rounds(const cuda_world *w) {
    const cuda_row *last = look_row(w, w->n - 1);
    return (last->tile_first + last->tile_rows) * w->n_kv_heads;
}

/* Blocks that have rounds: who merges an item waits for all between its first and its last. */
DEVICE int blocks_of_rounds(int rounds) {
    return rounds < N_BLOCKS ? rounds : N_BLOCKS;
}

/* The first round of block `block`. */
DEVICE int round_cut(int rounds, int block) {
    const int n = blocks_of_rounds(rounds);
    return (int)((long long)rounds * (block < n ? block : n) / n);
}

DEVICE int block_of_round(int rounds, int at) {
    int block = (int)((long long)at * blocks_of_rounds(rounds) / rounds);
    while (round_cut(rounds, block + 1) <= at) block++;
    return block;
}

/* ---- a stretch of rounds */

typedef struct part_look { /* of a warp */
    char *slots;
    round_place next; /* to be copied */
    key_run run;      /* of it */
    int from, to;     /* rounds of the block */
    int fed;          /* rounds whose copies were started, or would have been */
    int fill, look;   /* slots: of the next copies, of the next look */
} part_look;

DEVICE int part_slot_bytes(const cuda_world *w) {
    return 2 * CUDA_PART_KEYS * (key_stride(w) + (is_scaled(w) ? (int)sizeof(float) : 0));
}

DEVICE key_run run_of_round(const cuda_world *w, const cuda_stage *s, const round_place *p) {
    return keys_of_row(w, look_row(w, p->r), s->layer, p->kv_head, p->round < p->pins, 0,
                       0x40000000);
}

/* The first key of this warp's of a round. */
DEVICE int key_of_round(const round_place *p) {
    const int round = p->round < p->pins ? p->round : p->round - p->pins;
    return (round * N_WARPS + WARP) * CUDA_PART_KEYS;
}

DEVICE int next_slot(const cuda_world *w, int slot) {
    return slot + 1 == w->look.part_slots ? 0 : slot + 1;
}

/* Starts the copies of the next round, if there is one. */
DEVICE void part_feed(const cuda_world *w, const cuda_stage *s, part_look *t) {
    if (t->from + t->fed < t->to) {
        const round_place *p = &t->next;
        if (t->fed == 0 || p->round == 0 || p->round == p->pins) t->run = run_of_round(w, s, p);
        start_keys(w, &t->run, p->round < p->pins, key_of_round(p),
                   t->slots + t->fill * part_slot_bytes(w));
        place_next(w, &t->next);
    }
    t->fed++;
    t->fill = next_slot(w, t->fill);
    copies_commit();
}

/* The keys of rows whose last round this block has. */
DEVICE void store_own(const cuda_world *w, const cuda_stage *s, const part_look *t) {
    round_place p = place_of_round(w, t->from);
    int at = t->from + p.rounds - 1 - p.round;
    for (int i = 0; at < t->to; i += 2) {
        UNROLL for (int is_v = 0; is_v < 2; is_v++) {
            if ((i + is_v) % N_WARPS == WARP) store_row(w, s, p.r, p.kv_head, is_v);
        }
        p.round = p.rounds - 1;
        place_next(w, &p);
        if (p.r == w->n) break;
        at += p.rounds;
    }
}

/* Lines see all keys of a run. */
DEVICE void view_run(const cuda_world *w, const line_set *set, const key_run *run, int groups,
                     part_lines *l) {
    l->keys = run->n;
    l->distance = run->distance;
    UNROLL for (int g = 0; g < groups; g++) {
        const int i = 4 * g + LANE % 4;
        l->slope[g] = 0;
        if (!w->alibi || i >= set->n) continue;
        l->slope[g] = ((const float *)w->alibi)[line_at(w, set, i).head] * LOG2_E;
    }
}

/* Looks at rounds from *p on, to the end of its item or of the stretch. */
DEVICE void look_at_rounds(const cuda_world *w, const cuda_stage *s, const line_set *set,
                           const char *queries, part_look *t, round_place p, int n, int groups,
                           part_lines *l) {
    int kind = -1;
    for (int i = 0; i < n; i++, p.round++) {
        const bool is_pin = p.round < p.pins;
        const int at = key_of_round(&p);
        const char *slot = t->slots + t->look * part_slot_bytes(w);
        t->look = next_slot(w, t->look);
        copies_wait(w->look.part_slots - 2);
        warp_sync();
        part_feed(w, s, t);
        if (kind != is_pin) {
            const key_run run = run_of_round(w, s, &p);
            kind = is_pin;
            view_run(w, set, &run, groups, l);
            take_lines(w, l, groups, queries + 2 * is_pin * set->n * key_stride(w), set->n);
        }
        if (at >= l->keys) continue;
        if (is_pin && is_scaled(w)) { /* apart, so that no loop asks for the type of its keys */
            look_at_slot(w, l, groups, slot, true, at);
        } else {
            look_at_slot(w, l, groups, slot, false, at);
        }
    }
}

/* ---- sums */

/* A warp's lines to [n][hd + 2]: sums, most, total. */
DEVICE void put_sums(const cuda_world *w, const line_set *set, part_lines *l, int groups,
                     float *to) {
    const int hd = WEIR_HEAD_DIM(w);
    UNROLL for (int g = 0; g < groups; g++) {
        float total = l->total[g];
        UNROLL for (int mask = 4; mask < 32; mask *= 2) total += shuffle_xor(total, mask);
        float *line = to + (4 * g + LANE % 4) * (hd + 2);
        if (4 * g + LANE % 4 >= set->n) continue;
        UNROLL for (int i = 0; i < 2 * LINE_STEPS; i++) {
            if (8 * i >= hd) continue;
            const float *two = &l->sum[g][i / 2][i % 2 * 2];
            if (is_scaled(w)) {
                line[i / 2 * 16 + LANE / 4 * 2 + i % 2] = (two[0] + two[1]) * (1 / SUM_FACTOR);
            } else {
                line[8 * i + LANE / 4] = two[0] + two[1];
            }
        }
        if (LANE < 4) line[hd] = l->most[g], line[hd + 1] = total;
    }
}

/* The product that reads this attention. */
DEVICE bool next_is_bf16(const cuda_world *w) {
    return FORMAT_OF(&stage_at(w, w->first + 1)->matrix) == CUDA_BF16;
}

/* Feature d of a line, to the row's result or to the input of the next product, scale 1. */
DEVICE void put_result(const cuda_world *w, const cuda_stage *s, line_place place, int d, float x) {
    const int hd = WEIR_HEAD_DIM(w), k = place.head * hd + d;
    if (!w->image_out) {
        row_of(&s->out, place.r)[k] = x;
        return;
    }
    put_image_value(w, w->n_heads * hd, place.r, k,
                    next_is_bf16(w) ? bf16_of_float(x) : f16_of_float(x));
    if (k == 0) ((float *)w->scales)[place.r] = 1;
}

/* Merges n tables [set->n][hd + 2] that lie `step` apart, the first at `first`, in their order: to
 * such a table, or when it is the result to the rows. */
DEVICE void merge_sums(const cuda_world *w, const cuda_stage *s, const line_set *set,
                       const float *first, const float *from, int n, int step, float *to) {
    const int hd = WEIR_HEAD_DIM(w), size = hd + 2;
    for (int i = THREAD; i < set->n * hd; i += N_THREADS) {
        const int line = i / hd * size, d = i % hd;
        float most = LEAST_SCORE, sum = 0, total = 0;
        UNROLL_4 for (int k = 0; k < n; k++) {
            const float *table = (k ? from + k * step : first) + line;
            most = fmaxf(most, load_any(table + hd));
        }
        UNROLL_4 for (int k = 0; k < n; k++) {
            const float *table = (k ? from + k * step : first) + line;
            const float weight = power_of_2(load_any(table + hd) - most);
            sum += weight * load_any(table + d);
            total += weight * load_any(table + hd + 1);
        }
        if (to) {
            to[line + d] = sum;
            if (d == 0) to[line + hd] = most, to[line + hd + 1] = total;
        } else {
            put_result(w, s, line_at(w, set, i / hd), d, sum / total);
        }
    }
}

/* Where block `block` leaves its part of the item whose first round is `start`: [2] for each block,
 * of the item that it begins with and of the one it ends with. */
DEVICE float *partial_of(const cuda_world *w, int rounds, int block, int start) {
    const int table = w->n_heads / w->n_kv_heads * (WEIR_HEAD_DIM(w) + 2);
    const int is_second = start > round_cut(rounds, block);
    return (float *)w->look.partials + (u64)(2 * block + is_second) * (u64)table;
}

/* The sums of the warps, of `n` rounds from *p on of an item that begins with round `start`. */
DEVICE void finish_part(const cuda_world *w, const cuda_stage *s, const line_set *set,
                        const round_place *p, int start, int n, float *warps, int groups,
                        part_lines *l) {
    const int table = set->n * (WEIR_HEAD_DIM(w) + 2), rounds = all_rounds(w);
    unsigned *tickets = (unsigned *)w->look.tickets + p->r * w->n_kv_heads + p->kv_head;
    int *is_last = (int *)(shared_bytes + w->look.part_bytes - 16);
    put_sums(w, set, l, groups, warps + WARP * table);
    block_sync();
    if (n == p->rounds) {
        merge_sums(w, s, set, warps, warps, N_WARPS, table, 0);
        return;
    }
    const int first = block_of_round(rounds, start);
    const int last = block_of_round(rounds, start + p->rounds - 1);
    merge_sums(w, s, set, warps, warps, N_WARPS, table, partial_of(w, rounds, BLOCK, start));
    if (!comes_last(w, tickets, last - first + 1, is_last)) return;
    merge_sums(w, s, set, partial_of(w, rounds, first, start),
               (const float *)w->look.partials + (u64)(2 * first) * (u64)table, last - first + 1,
               2 * table, 0);
}

/* ---- a block */

DEVICE void attend_stretch(const cuda_world *w, const cuda_stage *s, int groups, part_look *t) {
    const int share = w->n_heads / w->n_kv_heads, ahead = w->look.part_slots - 1;
    char *queries = shared_bytes + N_WARPS * w->look.part_slots * part_slot_bytes(w);
    float *warps = (float *)(queries + 4 * share * key_stride(w));
    round_place p = t->next;
    while (t->fed < ahead && t->from + t->fed < t->to && !place_is_last(&t->next)) {
        part_feed(w, s, t);
    }
    launch_wait();
    store_own(w, s, t);
    block_sync();
    while (t->fed < ahead) part_feed(w, s, t);
    for (int at = t->from; at < t->to;) {
        const int left = p.rounds - p.round, n = left < t->to - at ? left : t->to - at;
        const line_set set = {p.r, 1, p.kv_head, share};
        part_lines l;
        load_lines(w, s, &set, queries);
        block_sync();
        open_lines(&l, groups);
        look_at_rounds(w, s, &set, queries, t, p, n, groups, &l);
        finish_part(w, s, &set, &p, at - p.round, n, warps, groups, &l);
        block_sync(); /* queries and sums may be written again */
        at += n;
        p.round += n - 1;
        place_next(w, &p);
    }
    copies_wait(0);
}

/* groups: of four query heads of a K/V head. */
DEVICE void attend_all_parts(const cuda_world *w, const cuda_stage *s, int groups) {
    const int rounds = all_rounds(w);
    part_look t;
    t.from = round_cut(rounds, BLOCK);
    t.to = round_cut(rounds, BLOCK + 1);
    t.fed = t.fill = t.look = 0;
    launch_next();
    if (t.from == t.to) return;
    t.slots = shared_bytes + WARP * w->look.part_slots * part_slot_bytes(w);
    t.next = place_of_round(w, t.from);
    attend_stretch(w, s, groups, &t);
}
