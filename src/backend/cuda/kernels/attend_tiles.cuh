/* attend_tiles.cuh - attention of consecutive rows of a slot, at the speed of the tensor cores.
 *
 *   block:  two groups of 64 lines of one K/V head; a line is a query head of a row
 *           line = row * share + head of the share
 *
 *     copiers    K 0 | V 0 | K 1 | V 1 | ...      into slots of shared memory, as 16 bits
 *     group 0    scores 0   scores 1, sums 0     scores 2, sums 1     ...   matrix instructions
 *                    weights 0     weights 1            weights 2           meanwhile
 *     group 1         scores 0   scores 1, sums 0     scores 2, sums 1 ...
 *
 * The keys that any row of the block sees are looked at once: the pins by queries rotated at p,
 * then positions (pos - recent, pos] by queries rotated at pos.  Keys that
 * not all lines see are masked for each line.
 *
 *   queries [2][groups][dim / 64][64 lines][128 bytes]     matrices as machine.cuh draws them;
 *   slot    [dim / 64][keys][128 bytes]                    dim: features of a head and zeros
 *
 * Queries times log2(e) and weights are rounded to the 16 bits of the store (f16 where that has 8,
 * which are multiplied by their scales on the way).  Sums fade only when a maximum has grown by
 * more than MOST_GROWTH octaves, so a weight is 2^8 at most.
 *
 * Moves: keys and values of a tile's rows once, from the second-level cache mostly.
 * Test: tests/backend/test_cuda_attend.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#define N_LOOKERS (N_WARPS - WIDE_COPIERS)

enum { GROUP_LINES = CUDA_GROUP_LINES };
#ifdef WEIR_EMULATED
    #define COPIER_ROWS 32 /* of a slot, that a copier has levels of at most */
#else
    #define COPIER_ROWS 8
#endif
#define MOST_GROWTH 8.0f

/* A warp's lines.  A lane has parts of lines LANE / 4 and LANE / 4 + 8, "half" 0 and 1. */
typedef struct lines {
    float most[2], total[2];     /* total: of this lane's keys */
    int from[2], to[2];          /* keys of the run that the line sees */
    float slope[2], distance[2]; /* ALiBi: of key 0 */
} lines;

DEVICE int tile_dim(const cuda_world *w) {
    return CUDA_TILE_DIM(WEIR_HEAD_DIM(w));
}

DEVICE int tile_keys(const cuda_world *w) {
    return CUDA_TILE_KEYS(WEIR_HEAD_DIM(w), HAS_WIDE);
}

typedef struct tile_run { /* the pins, or the recent keys, that rows of a tile see */
    int keys, n;          /* n tiles */
} tile_run;

DEVICE tile_run run_of_tile(const cuda_world *w, const line_set *set, bool is_pin) {
    const cuda_row *rows = (const cuda_row *)w->rows + set->first;
    const u64 newest = rows[set->rows - 1].pos;
    float seen = 0;
    for (int i = LANE; i < set->rows; i += 32) {
        const int behind = (int)(newest - rows[i].pos) + rows[i].recent;
        seen = fmaxf(seen, (float)(is_pin ? rows[i].pins : rows[i].recent > 0 ? behind : 0));
    }
    tile_run out;
    out.keys = (int)warp_max(seen);
    out.n = (out.keys + tile_keys(w) - 1) / tile_keys(w);
    return out;
}

/* Position of the oldest recent key. */
DEVICE u64 base_of_tile(const cuda_world *w, const line_set *set, const tile_run *recent) {
    const cuda_row *newest = (const cuda_row *)w->rows + set->first + set->rows - 1;
    return newest->pos - (u64)(recent->keys - 1);
}

/* ---- slots: keys in even ones, values in odd ones */

typedef struct slot_queue {
    char *slots;
    u64 *full, *empty;
    int n, bytes;
} slot_queue;

typedef struct slot_place { /* the next of all, of the even or of the odd slots */
    int at;
    unsigned round;
} slot_place;

DEVICE slot_queue slots_of_tile(const cuda_world *w) {
    slot_queue q;
    q.n = w->look.tile_slots;
    q.bytes = tile_keys(w) * tile_dim(w) * 2;
    q.slots = shared_bytes + w->look.tile_at;
    q.full = (u64 *)(q.slots + q.n * q.bytes);
    q.empty = q.full + q.n;
    return q;
}

DEVICE const char *slot_read(const slot_queue *q, const slot_place *p) {
    gate_pass(q->full + p->at, p->round);
    wide_see();
    return q->slots + p->at * q->bytes;
}

DEVICE void slot_done(const slot_queue *q, slot_place *p) {
    gate_arrive(q->empty + p->at);
    p->at += 2;
    if (p->at >= q->n) p->at -= q->n, p->round++;
}

/* ---- the warps that copy */

typedef struct copied_rows { /* of the store: `left` from `at` on, then zeros */
    store_rows from;
    int at, wrap, left;
} copied_rows;

/* A copier has the same features of every `step`-th row: 16 bytes of them. */
typedef struct copier {
    int thread, part, first, step;
} copier;

DEVICE copier copier_of(const cuda_world *w, int type) {
    const int parts = tile_dim(w) * store_type_bytes(type) / 16;
    copier c;
    c.thread = THREAD - 32 * N_LOOKERS;
    c.part = c.thread % parts;
    c.first = c.thread / parts;
    c.step = 32 * WIDE_COPIERS / parts;
    return c;
}

DEVICE int row_copied(const copied_rows *r, int i) {
    return r->at + i < r->wrap ? r->at + i : r->at + i - r->wrap;
}

/* Where 8 features of row i go in a slot. */
DEVICE char *place_copied(const cuda_world *w, char *slot, int part, int i) {
    return slot + (part / 8 * tile_keys(w) + i) * 128 + ((part ^ i) & 7) * 16;
}

DEVICE void copy_halves(const cuda_world *w, const copied_rows *r, char *slot) {
    const int hd = WEIR_HEAD_DIM(w), keys = tile_keys(w);
    const copier c = copier_of(w, CUDA_KV_F16);
    if (r->left >= keys && r->at + keys <= r->wrap && tile_dim(w) == hd && c.step % 8 == 0) {
        /* most tiles: rows in a row, places a constant apart */
        const char *from = r->from.at + (u64)(r->at + c.first) * (u64)(2 * hd) + (u64)(16 * c.part);
        char *to = place_copied(w, slot, c.part, c.first);
        UNROLL for (int i = 0; i < keys; i += c.step) {
            copy_16(to + i * 128, from + i * 2 * hd, true);
        }
        return;
    }
    for (int i = c.first; i < keys; i += c.step) {
        const bool is_there = i < r->left && 8 * c.part < hd;
        const u64 at = (u64)row_copied(r, i) * (u64)(2 * hd) + (u64)(16 * c.part);
        copy_16(place_copied(w, slot, c.part, i), r->from.at + (is_there ? at : 0), is_there);
    }
}

/* Levels and scales of rows on their way to where the same thread will read them. */
DEVICE void fetch_levels(const cuda_world *w, const copied_rows *r, char *levels,
                         float scales[COPIER_ROWS]) {
    const int hd = WEIR_HEAD_DIM(w);
    const copier c = copier_of(w, WEIR_KV_TYPE(w));
    UNROLL for (int k = 0; k < tile_keys(w) / c.step; k++) {
        const int i = c.first + k * c.step;
        const bool is_there = i < r->left && 16 * c.part < hd;
        const int row = is_there ? row_copied(r, i) : 0;
        copy_16(levels + (k * 32 * WIDE_COPIERS + c.thread) * 16,
                r->from.at + (u64)row * (u64)hd + (u64)(is_there ? 16 * c.part : 0), is_there);
        scales[k] = load_float(r->from.scales + row);
    }
    copies_commit();
}

/* To f16, times their scale; a 256th first, since a scale may be too small for an f16. */
DEVICE void put_levels(const cuda_world *w, char *slot, const char *levels,
                       const float scales[COPIER_ROWS]) {
    const copier c = copier_of(w, WEIR_KV_TYPE(w));
    UNROLL for (int k = 0; k < tile_keys(w) / c.step; k++) {
        const u32 d = f16_of_float(256 * scales[k]), both = d | d << 16, down = 0x1c001c00u;
        u32 words[4], halves[2][4];
        load_16(words, levels + (k * 32 * WIDE_COPIERS + c.thread) * 16);
        UNROLL for (int i = 0; i < 8; i++) {
            const u32 two = halves_of_word(w, words[i / 2], i % 2);
            halves[i / 4][i % 4] = f16_scaled(f16_scaled(two, down, 0), both, 0);
        }
        UNROLL for (int i = 0; i < 2; i++) {
            store_16(place_copied(w, slot, 2 * c.part + i, c.first + k * c.step), halves[i]);
        }
    }
}

/* The next slot, once nobody looks at it. */
DEVICE char *slot_free(const slot_queue *q, const slot_place *p) {
    if (p->round > 0) gate_pass(q->empty + p->at, p->round - 1);
    return q->slots + p->at * q->bytes;
}

DEVICE void slot_filled(const slot_queue *q, slot_place *p) {
    if (++p->at == q->n) p->at = 0, p->round++;
}

/* A run of levels of 8 bits: those of the next slot are on their way while these are put. */
DEVICE void copy_levels(const cuda_world *w, const cuda_stage *s, const line_set *set, int slot,
                        copied_rows r, int n, const slot_queue *q, slot_place *p) {
    char *levels = (char *)(q->empty + q->n);
    float scales[2][COPIER_ROWS];
    r.from = store_of(w, slot, s->layer, false, 0, set->kv_head);
    fetch_levels(w, &r, levels, scales[0]);
    for (int i = 0; i < n; i++) {
        UNROLL for (int is_v = 0; is_v < 2; is_v++) {
            if (is_v) {
                r.left -= tile_keys(w);
                r.at += tile_keys(w);
                if (r.at >= r.wrap) r.at -= r.wrap;
            }
            r.from = store_of(w, slot, s->layer, false, !is_v, set->kv_head);
            fetch_levels(w, &r, levels + !is_v * (q->bytes / 2), scales[!is_v]);
            copies_wait(1);
            put_levels(w, slot_free(q, p), levels + is_v * (q->bytes / 2), scales[is_v]);
            wide_see();
            gate_arrive_each(q->full + p->at);
            slot_filled(q, p);
        }
    }
    copies_wait(0);
}

/* All tiles of a run, keys and values in turn. */
DEVICE void copy_run(const cuda_world *w, const cuda_stage *s, const line_set *set, bool is_pin,
                     const slot_queue *q, slot_place *p) {
    const tile_run run = run_of_tile(w, set, is_pin);
    const cuda_row *newest = (const cuda_row *)w->rows + set->first + set->rows - 1;
    copied_rows r;
    r.wrap = is_pin ? 0x7fffffff : w->ring;
    r.at = is_pin ? 0 : newest->at - (run.keys - 1);
    if (r.at < 0) r.at += w->ring;
    r.left = run.keys;
    if (!is_pin && is_scaled(w)) {
        copy_levels(w, s, set, newest->slot, r, run.n, q, p);
        return;
    }
    for (int i = 0; i < run.n; i++) {
        UNROLL for (int is_v = 0; is_v < 2; is_v++) {
            r.from = store_of(w, newest->slot, s->layer, is_pin, is_v, set->kv_head);
            copy_halves(w, &r, slot_free(q, p));
            copies_arrive(q->full + p->at); /* who looks sees to it that it sees them */
            slot_filled(q, p);
        }
        r.left -= tile_keys(w);
        r.at += tile_keys(w);
        if (r.at >= r.wrap) r.at -= r.wrap;
    }
}

/* ---- the warps that look: 16 lines each */

/* What lines [line, line + 16) see of the pins, or of positions from `base` on. */
DEVICE void take_view(const cuda_world *w, const line_set *set, int line, bool is_pin, u64 base,
                      lines *l) {
    UNROLL for (int half = 0; half < 2; half++) {
        const int i = line + LANE / 4 + 8 * half;
        l->from[half] = -0x40000000; /* a line that is none may see all: it is not kept */
        l->to[half] = 0x40000000;
        l->slope[half] = l->distance[half] = 0;
        if (i >= set->n) continue;
        const line_place place = line_at(w, set, i);
        const cuda_row *row = (const cuda_row *)w->rows + place.r;
        const int seen = is_pin ? row->pins : row->recent;
        l->to[half] = is_pin || !seen ? seen : (int)(row->pos - base) + 1;
        l->from[half] = l->to[half] - seen;
        l->distance[half] = (float)(is_pin ? row->p : l->to[half] - 1);
        if (w->alibi) l->slope[half] = ((const float *)w->alibi)[place.head] * LOG2_E;
    }
}

/* Feature `at` of line `line` of a warp's queries. */
DEVICE u16 *query_at(char *to, int line, int at) {
    const int part = at / 8;
    char *row = to + part / 8 * GROUP_LINES * 128 + line * 128;
    return (u16 *)(row + ((part ^ line) & 7) * 16) + at % 8;
}

/* This warp's queries, rotated at pos and, `apart` bytes on, at p.  A lane turns pair i of each
 * line; all of them are on their way at once, and nothing is loaded to find out where they are. */
DEVICE void put_queries(const cuda_world *w, const cuda_stage *s, const line_set *set, int line,
                        char *to, int apart) {
    const int hd = WEIR_HEAD_DIM(w), pairs = w->pairs;
    const float scale = s->scale * LOG2_E, *in = row_of(&s->in, 0);
    const line_place mine = line_at(w, set, line + LANE < set->n ? line + LANE : 0);
    const int query = mine.r * s->in.stride + mine.head * hd;
    /* rows that see as many keys are turned alike at p */
    const cuda_row *rows = (const cuda_row *)w->rows;
    const int like = rows[mine.r].p == rows[set->first].p ? set->first : mine.r;
    for (int i = LANE; i < tile_dim(w) / 2; i += 32) {
        const bool is_in = i < hd / 2, turns = i < pairs, is_far = turns && !w->interleaved;
        const int at[2] = {is_far ? i : 2 * i, is_far ? i + pairs : 2 * i + 1};
        float q[CUDA_LINES][2], c[CUDA_LINES][2], d[CUDA_LINES][2];
        UNROLL for (int k = 0; k < CUDA_LINES; k++) {
            const float *from = in + shuffle_int(query, k);
            UNROLL for (int e = 0; e < 2; e++) {
                const int phase = shuffle_int(e ? like : mine.r, k) * pairs + (turns ? i : 0);
                q[k][e] = load_float(from + (is_in ? at[e] : 0));
                c[k][e] = ((const float *)(e ? w->cos_pin : w->cos_pos))[phase];
                d[k][e] = ((const float *)(e ? w->sin_pin : w->sin_pos))[phase];
            }
        }
        UNROLL for (int k = 0; k < CUDA_LINES; k++) {
            const float factor = is_in && line + k < set->n ? scale : 0;
            const float x = q[k][0] * factor, y = q[k][1] * factor;
            UNROLL for (int e = 0; e < 2; e++) {
                const float cosine = turns ? c[k][e] : 1, sine = turns ? d[k][e] : 0;
                const u32 two = pack_two(w, x * cosine - y * sine, y * cosine + x * sine);
                *query_at(to + e * apart, k, at[0]) = (u16)two;
                *query_at(to + e * apart, k, at[1]) = (u16)(two >> 16);
            }
        }
    }
}

/* Scores of keys [at, at + keys) become weights; whether sums are to fade, by `fade`. */
DEVICE bool weigh_tile(const cuda_world *w, lines *l, float *score, int keys, int at,
                       float fade[2]) {
    bool grew = false;
    UNROLL for (int half = 0; half < 2; half++) {
        const int from = l->from[half] - at, to = l->to[half] - at, mine = LANE % 4 * 2;
        const float far = l->distance[half] - (float)at;
        float *x = score + 2 * half, most[2] = {LEAST_SCORE, LEAST_SCORE}, total[2] = {0, 0};
        if (w->alibi) {
            UNROLL for (int j = 0; j < keys / 4; j++) {
                const int key = j / 2 * 8 + mine + j % 2;
                x[j / 2 * 4 + j % 2] -= l->slope[half] * (far - (float)key);
            }
        }
        if (from > 0 || to < keys) {
            UNROLL for (int j = 0; j < keys / 4; j++) {
                const int key = j / 2 * 8 + mine + j % 2;
                if (key < from || key >= to) x[j / 2 * 4 + j % 2] = NO_SCORE;
            }
        }
        UNROLL for (int j = 0; j < keys / 4; j++) {
            most[j % 2] = fmaxf(most[j % 2], x[j / 2 * 4 + j % 2]);
        }
        float now = fmaxf(most[0], most[1]);
        now = fmaxf(now, shuffle_xor(now, 1));
        now = fmaxf(now, shuffle_xor(now, 2));
        const bool has_grown = now > l->most[half] + MOST_GROWTH;
        if (!has_grown) now = l->most[half];
        fade[half] = power_of_2(l->most[half] - now);
        grew = grew || has_grown;
        UNROLL for (int j = 0; j < keys / 4; j++) {
            float *y = x + j / 2 * 4 + j % 2;
            *y = power_of_2(*y - now);
            total[j % 2] += *y;
        }
        l->most[half] = now;
        l->total[half] = l->total[half] * fade[half] + (total[0] + total[1]);
    }
    return ballot(grew) != 0;
}

DEVICE void fade_sums(float *sum, int dim, const float fade[2]) {
    UNROLL for (int j = 0; j < dim / 2; j++) sum[j] *= fade[j / 2 % 2];
}

DEVICE void pack_weights(const cuda_world *w, u32 packed[][4], const float *score, int keys) {
    UNROLL for (int i = 0; i < keys / 4; i++) {
        packed[i / 4][i % 4] = pack_two(w, score[2 * i], score[2 * i + 1]);
    }
}

typedef struct tile_look { /* of a warp */
    slot_place keys, values;
    const char *queries; /* its first line, at pos; `apart` bytes on at p */
    int apart;
    int line; /* its first one */
} tile_look;

/* Scores of tile i, of which n_pins are of pins: as soon as its keys are there. */
DEVICE void start_tile(const cuda_world *w, const slot_queue *q, const tile_look *t, float *score,
                       bool is_pin) {
    const char *k = slot_read(q, &t->keys);
    wide_begin();
    UNROLL for (int step = 0; step < tile_dim(w) / 16; step++) {
        wide_scores(score, tile_keys(w), t->queries + (is_pin ? t->apart : 0), k, step, step == 0,
                    is_bf16(w));
    }
    wide_end();
}

DEVICE void start_sums(const cuda_world *w, const slot_queue *q, const tile_look *t, float *sum,
                       const u32 weights[][4]) {
    const char *v = slot_read(q, &t->values);
    wide_begin();
    UNROLL for (int step = 0; step < tile_keys(w) / 16; step++) {
        wide_values(sum, tile_dim(w), weights[step], v, tile_keys(w), step, is_bf16(w));
    }
    wide_end();
}

/* All tiles of keys: the scores of one are made while the one before is added up, and its weights
 * while that goes on. */
DEVICE void look_at_tiles(const cuda_world *w, const line_set *set, const slot_queue *q,
                          tile_look *t, lines *l, float *sum) {
    const int keys = tile_keys(w), n_pins = run_of_tile(w, set, true).n;
    const tile_run recent = run_of_tile(w, set, false);
    const int n = n_pins + recent.n;
    float score[CUDA_TILE_MOST_KEYS / 2], fade[2];
    u32 weights[CUDA_TILE_MOST_KEYS / 16][4];
    take_view(w, set, t->line, n_pins > 0, base_of_tile(w, set, &recent), l);
    start_tile(w, q, t, score, n_pins > 0);
    wide_wait(0);
    wide_settle(score, keys);
    slot_done(q, &t->keys);
    weigh_tile(w, l, score, keys, 0, fade);
    pack_weights(w, weights, score, keys);
    for (int i = 1; i < n; i++) {
        if (i == n_pins) take_view(w, set, t->line, false, base_of_tile(w, set, &recent), l);
        wide_turn_wait();
        start_tile(w, q, t, score, i < n_pins);
        start_sums(w, q, t, sum, weights);
        wide_turn_pass();
        wide_wait(1);
        wide_settle(score, keys);
        slot_done(q, &t->keys);
        const bool fades =
            weigh_tile(w, l, score, keys, (i < n_pins ? i : i - n_pins) * keys, fade);
        if (fades) { /* a branch: else compilers put half of the weights behind the wait */
            wide_wait(0);
            wide_settle(sum, tile_dim(w));
            fade_sums(sum, tile_dim(w), fade);
        } else {
            wide_wait(0);
            wide_settle(sum, tile_dim(w));
        }
        slot_done(q, &t->values);
        pack_weights(w, weights, score, keys);
    }
    start_sums(w, q, t, sum, weights);
    wide_wait(0);
    wide_settle(sum, tile_dim(w));
    slot_done(q, &t->values);
}

/* A line as its part of the next product's input, as image.cuh draws it, scale 1; the lanes of
 * a warp.  Two lanes swap words until each has 8 bytes of one part. */
DEVICE void put_line_image(const cuda_world *w, line_place place, bool is_in, const float *sum,
                           float share) {
    const int hd = WEIR_HEAD_DIM(w), depth = w->n_heads * hd;
    const bool is_high = LANE & 2, is_bf16 = next_is_bf16(w);
    UNROLL for (int j = 0; j < tile_dim(w) / 8; j += 2) {
        if (8 * j >= hd) continue;
        u32 words[2];
        UNROLL for (int i = 0; i < 2; i++) {
            const float a = sum[4 * (j + i)] * share, b = sum[4 * (j + i) + 1] * share;
            words[i] = is_bf16 ? bf16_of_floats(a, b) : f16_of_floats(a, b);
        }
        u32 pair[2];
        swap_words(pair, words, is_high, 2);
        char *part =
            image_part(w, w->image_out, depth, place.r, (place.head * hd + 8 * j) / 16, LANE % 2);
        if (is_in) store_8(part + is_high * 8, pair);
    }
    if (is_in && place.head == 0 && LANE % 4 == 0) ((float *)w->scales)[place.r] = 1;
}

DEVICE void put_lines(const cuda_world *w, const cuda_stage *s, const line_set *set, int line,
                      lines *l, const float *sum) {
    const int hd = WEIR_HEAD_DIM(w);
    UNROLL for (int half = 0; half < 2; half++) {
        l->total[half] += shuffle_xor(l->total[half], 1);
        l->total[half] += shuffle_xor(l->total[half], 2);
        const int i = line + LANE / 4 + 8 * half;
        const line_place place = line_at(w, set, i < set->n ? i : 0);
        const float share = 1 / l->total[half];
        if (w->image_out) {
            put_line_image(w, place, i < set->n, sum + 2 * half, share);
            continue;
        }
        if (i >= set->n) continue;
        char *y = (char *)(row_of(&s->out, place.r) + place.head * hd + LANE % 4 * 2);
        UNROLL for (int j = 0; j < tile_dim(w) / 8; j++) {
            if (8 * j >= hd) continue;
            const u32 two[2] = {bits_of_float(sum[4 * j + 2 * half] * share),
                                bits_of_float(sum[4 * j + 2 * half + 1] * share)};
            store_8(y + 32 * j, two);
        }
    }
}

/* A warp's lines of a tile. */
DEVICE void attend_lines(const cuda_world *w, const cuda_stage *s, const line_set *set,
                         const slot_queue *q, tile_look *t) {
    lines l;
    float sum[CUDA_TILE_DIM(256) / 2];
    wide_meet(); /* nobody looks with the queries before */
    put_queries(w, s, set, t->line, (char *)t->queries, t->apart);
    wide_meet();
    UNROLL for (int half = 0; half < 2; half++) l.most[half] = LEAST_SCORE, l.total[half] = 0;
    UNROLL for (int i = 0; i < tile_dim(w) / 2; i++) sum[i] = 0;
    look_at_tiles(w, set, q, t, &l, sum);
    put_lines(w, s, set, t->line, &l, sum);
}

/* Of the tiles of all K/V heads this block's turn-th; no rows where it has none.  The last rows of
 * a prompt see most: theirs come first, and blocks are dealt to there and back. */
DEVICE line_set lines_of_turn(const cuda_world *w, int turn) {
    const int i = turn * N_BLOCKS + (turn % 2 ? N_BLOCKS - 1 - BLOCK : BLOCK);
    const int unit = w->look.tiles * w->n_kv_heads - 1 - i;
    line_set out = {0, 0, 0, 0};
    if (unit < 0) return out;
    const cuda_row *tile = (const cuda_row *)w->rows + unit / w->n_kv_heads;
    out.first = tile->tile_first;
    out.rows = tile->tile_rows;
    out.kv_head = unit % w->n_kv_heads;
    out.n = out.rows * (w->n_heads / w->n_kv_heads);
    return out;
}

DEVICE int turns_of_tiles(const cuda_world *w) {
    return (w->look.tiles * w->n_kv_heads + N_BLOCKS - 1) / N_BLOCKS;
}

DEVICE void copy_all_tiles(const cuda_world *w, const cuda_stage *s, const slot_queue *q) {
    slot_place place = {0, 0};
    for (int turn = 0; turn < turns_of_tiles(w); turn++) {
        const line_set set = lines_of_turn(w, turn);
        /* a loop, so that the code is there once */
        for (int part = 0; part < 2 && set.rows > 0; part++) {
            copy_run(w, s, &set, !part, q, &place);
        }
    }
}

DEVICE void attend_all_tiles(const cuda_world *w, const cuda_stage *s) {
    const slot_queue q = slots_of_tile(w);
    const int group = GROUP_LINES * tile_dim(w) * 2, groups = (N_LOOKERS + 3) / 4;
    const int n_registers = store_is_scaled(WEIR_KV_TYPE(w)) ? 208 : 232; /* of those that look */
    for (int i = 0; WARP == N_LOOKERS && i < q.n; i++) {
        gate_open_for(q.full + i, 32 * WIDE_COPIERS);
        gate_open_for(q.empty + i, N_LOOKERS);
    }
    block_sync();
    launch_next();
    if (WARP >= N_LOOKERS) {
        wide_give_registers(n_registers);
        launch_wait();
        copy_all_tiles(w, s, &q);
        copies_wait(0);
        return;
    }
    wide_take_registers(n_registers);
    launch_wait();
    wide_turn_open();
    tile_look t;
    t.keys.at = 0, t.values.at = 1;
    t.keys.round = t.values.round = 0;
    t.line = WARP * CUDA_LINES;
    t.queries = shared_bytes + WARP / 4 * group + WARP % 4 * CUDA_LINES * 128;
    t.apart = groups * group;
    for (int turn = 0; turn < turns_of_tiles(w); turn++) {
        const line_set set = lines_of_turn(w, turn);
        if (set.rows > 0) attend_lines(w, s, &set, &q, &t);
    }
}
