/* attend_many.cuh - attention of many rows on tensor cores; ref/attend.c is the definition.
 *
 * A line is a query head of a row.  A warp looks with 16 lines of one K/V head at keys in shared
 * memory by m16n8k16: scores = queries keys^T, running softmax, sums += weights values.
 *
 *   tile:  rows of one slot       8 warps x 16 lines, all at the same 64 keys
 *          line = row * share + head of the share; keys that any of its rows sees, once
 *   part:  a row alone in its slot   4 warps, the same lines at 16 keys each, in turn
 *          some splits of the row (attend.cuh); who comes last merges its parts
 *
 *   slot:  K [keys][hd], V [keys][hd] of 16 bits, rows 16 bytes apart so that the eight rows of a
 *          matrix lie in different banks; copies run slots - 1 tiles ahead
 *
 * A row sees the pins [0, pins) with its query rotated at p, then the positions (pos - recent, pos]
 * with its query rotated at pos; keys that not all lines of a warp see are masked for each line.
 * Queries times log2(e) are rounded to 16 bits, as hi + lo when PARTS is 2, and so are weights.
 *
 * Moves: a tile, the keys and values of its rows; a part, its own, at the speed of memory.
 * Test: tests/backend/test_cuda_attend.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#ifdef WEIR_EMULATED
    #define LINE_STEPS (CUDA_MANY_DIM / 16)
#else
    #define LINE_STEPS (WEIR_LANE_PAIRS < 2 ? 4 : CUDA_MANY_DIM / 16)
#endif

#define LEAST_SCORE (-1.0e30f) /* NO_SCORE less than this is still far below it */
#define LOG2_E      1.4426950408889634f

/* A warp's lines.  A lane has parts of lines LANE / 4 and LANE / 4 + 8, "half" 0 and 1. */
typedef struct lines {
    u32 q[LINE_STEPS][2][4];      /* hi, lo; as A of m16n8k16 */
    float sum[2 * LINE_STEPS][4]; /* of weighted values; as C */
    float most[2], total[2];      /* total: of this lane's keys */
    int from[2], to[2];           /* keys of the run that the line sees */
    float slope[2], distance[2];  /* ALiBi: of key 0 */
} lines;

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

/* Features a and b of line i: [position or pin][hi, lo][n + 1][stride]. */
DEVICE void put_query(const cuda_world *w, char *to, int n, int i, const int at[2], float a,
                      float b, int parts) {
    const u32 hi = pack_two(w, a, b), lo = pack_rest(w, hi, a, b);
    char *line = to + i * key_stride(w);
    UNROLL for (int e = 0; e < 2; e++) {
        *(u16 *)(line + 2 * at[e]) = (u16)(hi >> 16 * e);
        if (parts < 2) continue;
        *(u16 *)(line + (n + 1) * key_stride(w) + 2 * at[e]) = (u16)(lo >> 16 * e);
    }
}

/* Every line's query, rotated at its two places, and a line of zeros. */
DEVICE void load_lines(const cuda_world *w, const cuda_stage *s, const line_set *set, char *to,
                       int parts) {
    const int half = WEIR_HEAD_DIM(w) / 2, pairs = w->pairs;
    const int bytes = parts * (set->n + 1) * key_stride(w);
    const float scale = s->scale * LOG2_E;
    UNROLL_8 for (int k = THREAD; k < (set->n + 1) * half; k += N_THREADS) {
        const int line = k / half, i = k % half;
        const bool turns = i < pairs, apart = turns && !w->interleaved;
        const int at[2] = {apart ? i : 2 * i, apart ? i + pairs : 2 * i + 1};
        const line_place place = line_at(w, set, line < set->n ? line : 0);
        const float *q = row_of(&s->in, place.r) + place.head * 2 * half;
        const u64 phase = (u64)place.r * (u64)pairs + (u64)i;
        const float factor = line < set->n ? scale : 0;
        const float a = load_float(q + at[0]) * factor, b = load_float(q + at[1]) * factor;
        float c[2] = {1, 1}, d[2] = {0, 0};
        if (turns) {
            c[0] = load_float((const float *)w->cos_pos + phase);
            d[0] = load_float((const float *)w->sin_pos + phase);
            c[1] = load_float((const float *)w->cos_pin + phase);
            d[1] = load_float((const float *)w->sin_pin + phase);
        }
        UNROLL for (int e = 0; e < 2; e++) {
            put_query(w, to + e * bytes, set->n, line, at, a * c[e] - b * d[e], b * c[e] + a * d[e],
                      parts);
        }
    }
}

/* The queries of lines [line, line + 16) of the set into registers. */
DEVICE void take_lines(const cuda_world *w, const line_set *set, const char *from, int line,
                       bool is_pin, lines *l, int parts) {
    const int hd = WEIR_HEAD_DIM(w), stride = key_stride(w), n = set->n + 1;
    int mine = line + LANE % 16;
    if (mine > set->n) mine = set->n; /* zeros */
    UNROLL for (int part = 0; part < parts; part++) {
        const char *q = from + ((is_pin * parts + part) * n + mine) * stride + LANE / 16 * 16;
        UNROLL for (int step = 0; step < LINE_STEPS; step++) {
            if (16 * step < hd) load_matrices(l->q[step][part], q + 32 * step);
        }
    }
}

/* ---- keys */

/* Starts copies of keys [at, at + keys) of a run and their values; threads of `step` share them. */
DEVICE void start_keys(const cuda_world *w, const key_run *run, int at, int keys, char *slot,
                       int thread, int step) {
    const int hd = WEIR_HEAD_DIM(w), stride = key_stride(w), pieces = hd / 8;
    UNROLL_4 for (int i = thread; i < keys * pieces; i += step) {
        const int key = at + i / pieces, part = i % pieces * 16;
        const bool is_there = key < run->n;
        const u64 from = (u64)(is_there ? row_of_key(run, key) : 0) * (u64)(2 * hd) + (u64)part;
        char *to = slot + i / pieces * stride + part;
        copy_16(to, run->keys.at + from, is_there);
        copy_16(to + keys * stride, run->values.at + from, is_there);
    }
}

DEVICE void multiply_half(const cuda_world *w, float c[4], const u32 a[4], const u32 b[2]) {
    if (is_bf16(w)) {
        multiply_bf16(c, a, b);
    } else {
        multiply_f16(c, a, b);
    }
}

/* Scores become weights; sums fade to the new maximum. */
DEVICE void weigh_keys(const cuda_world *w, lines *l, float score[][4], int keys, int at) {
    UNROLL for (int half = 0; half < 2; half++) {
        const int from = l->from[half] - at, to = l->to[half] - at, mine = LANE % 4 * 2;
        const float far = l->distance[half] - (float)at;
        float most = l->most[half], total = 0;
        if (w->alibi) {
            UNROLL for (int j = 0; j < keys / 4; j++) {
                const int key = j / 2 * 8 + mine + j % 2;
                score[j / 2][2 * half + j % 2] -= l->slope[half] * (far - (float)key);
            }
        }
        if (from > 0 || to < keys) {
            UNROLL for (int j = 0; j < keys / 4; j++) {
                const int key = j / 2 * 8 + mine + j % 2;
                if (key < from || key >= to) score[j / 2][2 * half + j % 2] = NO_SCORE;
            }
        }
        UNROLL for (int j = 0; j < keys / 4; j++) {
            most = fmaxf(most, score[j / 2][2 * half + j % 2]);
        }
        most = fmaxf(most, shuffle_xor(most, 1));
        most = fmaxf(most, shuffle_xor(most, 2));
        const float fade = power_of_2(l->most[half] - most);
        UNROLL for (int j = 0; j < keys / 4; j++) {
            float *x = &score[j / 2][2 * half + j % 2];
            *x = power_of_2(*x - most);
            total += *x;
        }
        l->most[half] = most;
        l->total[half] = l->total[half] * fade + total;
        UNROLL for (int j = 0; j < 4 * LINE_STEPS; j++) l->sum[j / 2][2 * half + j % 2] *= fade;
    }
}

/* A warp's lines at the keys of a slot; at: the first one's index in its run. */
DEVICE void look_at_slot(const cuda_world *w, lines *l, const char *slot, int keys, int at,
                         int parts) {
    const int hd = WEIR_HEAD_DIM(w), stride = key_stride(w);
    const char *k = slot + (LANE / 16 * 8 + LANE % 8) * stride + LANE / 8 % 2 * 16;
    const char *v = slot + (keys + LANE % 16) * stride + LANE / 16 * 16;
    float score[CUDA_PART_KEYS / 8][4];
    UNROLL for (int j = 0; j < keys / 2; j++) score[j / 4][j % 4] = 0;
    UNROLL for (int step = 0; step < LINE_STEPS; step++) {
        if (16 * step >= hd) continue;
        UNROLL for (int t = 0; t < keys / 16; t++) {
            u32 b[4];
            load_matrices(b, k + 16 * t * stride + 32 * step);
            UNROLL for (int part = 0; part < parts; part++) {
                multiply_half(w, score[2 * t], l->q[step][part], b);
                multiply_half(w, score[2 * t + 1], l->q[step][part], b + 2);
            }
        }
    }
    weigh_keys(w, l, score, keys, at);
    UNROLL for (int t = 0; t < keys / 16; t++) {
        u32 a[2][4];
        UNROLL for (int i = 0; i < 4; i++) {
            const float *x = &score[2 * t + i / 2][i % 2 * 2];
            a[0][i] = pack_two(w, x[0], x[1]);
            a[1][i] = parts == 2 ? pack_rest(w, a[0][i], x[0], x[1]) : 0;
        }
        UNROLL for (int step = 0; step < LINE_STEPS; step++) {
            if (16 * step >= hd) continue;
            u32 b[4];
            load_matrices_turned(b, v + 16 * t * stride + 32 * step);
            UNROLL for (int part = 0; part < parts; part++) {
                multiply_half(w, l->sum[2 * step], a[part], b);
                multiply_half(w, l->sum[2 * step + 1], a[part], b + 2);
            }
        }
    }
}

DEVICE void open_lines(lines *l) {
    UNROLL for (int half = 0; half < 2; half++) l->most[half] = LEAST_SCORE, l->total[half] = 0;
    UNROLL for (int j = 0; j < 8 * LINE_STEPS; j++) l->sum[j / 4][j % 4] = 0;
}

/* The lanes that have parts of a line add their totals. */
DEVICE void close_lines(lines *l) {
    UNROLL for (int half = 0; half < 2; half++) {
        l->total[half] += shuffle_xor(l->total[half], 1);
        l->total[half] += shuffle_xor(l->total[half], 2);
    }
}

/* ---- a row alone in its slot */

enum { PART_HALVES = 2 }; /* of queries and weights: hi and lo */

/* Lines see all keys of a run. */
DEVICE void view_run(const cuda_world *w, const line_set *set, const key_run *run, lines *l) {
    UNROLL for (int half = 0; half < 2; half++) {
        const int i = LANE / 4 + 8 * half;
        l->from[half] = 0;
        l->to[half] = run->n;
        l->distance[half] = run->distance;
        l->slope[half] = 0;
        if (!w->alibi || i >= set->n) continue;
        l->slope[half] = ((const float *)w->alibi)[line_at(w, set, i).head] * LOG2_E;
    }
}

/* The warps' keys in turn: warp i looks at batches i, i + warps, ... of 16. */
DEVICE void look_at_part(const cuda_world *w, const line_set *set, const key_run runs[2],
                         const char *queries, char *slots, lines *l) {
    const int slot_bytes = 2 * CUDA_PART_KEYS * key_stride(w), n_slots = w->look.part_slots;
    const int n_pins = (runs[1].n + CUDA_PART_KEYS - 1) / CUDA_PART_KEYS;
    const int n = n_pins + (runs[0].n + CUDA_PART_KEYS - 1) / CUDA_PART_KEYS;
    int kind = -1;
    for (int turn = 1 - n_slots; WARP + turn * N_WARPS < n; turn++) {
        const int ahead = turn + n_slots - 1, next = WARP + ahead * N_WARPS;
        const int i = WARP + turn * N_WARPS;
        if (turn >= 0) copies_wait(n_slots - 2);
        warp_sync();
        if (next < n) {
            const bool is_pin = next < n_pins;
            start_keys(w, &runs[is_pin], (is_pin ? next : next - n_pins) * CUDA_PART_KEYS,
                       CUDA_PART_KEYS, slots + ahead % n_slots * slot_bytes, LANE, 32);
        }
        copies_commit();
        if (turn < 0) continue;
        const bool is_pin = i < n_pins;
        if (kind != is_pin) {
            kind = is_pin;
            take_lines(w, set, queries, 0, is_pin, l, PART_HALVES);
            view_run(w, set, &runs[is_pin], l);
        }
        look_at_slot(w, l, slots + turn % n_slots * slot_bytes, CUDA_PART_KEYS,
                     (is_pin ? i : i - n_pins) * CUDA_PART_KEYS, PART_HALVES);
    }
    copies_wait(0);
}

/* A warp's lines to [n][hd + 2]: sums, most, total. */
DEVICE void put_sums(const cuda_world *w, const line_set *set, lines *l, float *to) {
    const int hd = WEIR_HEAD_DIM(w);
    close_lines(l);
    UNROLL for (int half = 0; half < 2; half++) {
        const int i = LANE / 4 + 8 * half;
        float *line = to + i * (hd + 2);
        if (i >= set->n) continue;
        UNROLL for (int j = 0; j < 4 * LINE_STEPS; j++) {
            if (8 * (j / 2) >= hd) continue;
            line[j / 2 * 8 + LANE % 4 * 2 + j % 2] = l->sum[j / 2][2 * half + j % 2];
        }
        if (LANE % 4 == 0) line[hd] = l->most[half], line[hd + 1] = l->total[half];
    }
}

/* Merges n tables [set->n][hd + 2] that lie `step` apart, in their order: to such a table, or when
 * it is the result to the rows. */
DEVICE void merge_sums(const cuda_world *w, const cuda_stage *s, const line_set *set,
                       const float *from, int n, int step, float *to) {
    const int hd = WEIR_HEAD_DIM(w), size = hd + 2;
    for (int i = THREAD; i < set->n * hd; i += N_THREADS) {
        const int line = i / hd * size, d = i % hd;
        float most = LEAST_SCORE, sum = 0, total = 0;
        UNROLL_4 for (int k = 0; k < n; k++) {
            most = fmaxf(most, load_any(from + k * step + line + hd));
        }
        UNROLL_4 for (int k = 0; k < n; k++) {
            const float *table = from + k * step + line;
            const float weight = power_of_2(load_any(table + hd) - most);
            sum += weight * load_any(table + d);
            total += weight * load_any(table + hd + 1);
        }
        if (to) {
            to[line + d] = sum;
            if (d == 0) to[line + hd] = most, to[line + hd + 1] = total;
        } else {
            const line_place place = line_at(w, set, i / hd);
            row_of(&s->out, place.r)[place.head * hd + d] = sum / total;
        }
    }
}

DEVICE void attend_part(const cuda_world *w, const cuda_stage *s, const line_set *set, int item,
                        int part) {
    const cuda_row *row = (const cuda_row *)w->rows + set->first;
    const int table = set->n * (WEIR_HEAD_DIM(w) + 2);
    const int ring_bytes = w->look.part_slots * 2 * CUDA_PART_KEYS * key_stride(w);
    const int n_parts = (row->n_splits + w->look.splits - 1) / w->look.splits;
    const int most = w->look.splits * w->split; /* keys of a part */
    char *queries = shared_bytes + N_WARPS * ring_bytes;
    float *warps = (float *)shared_bytes;
    float *partials = (float *)w->look.partials + (u64)item * (u64)w->look.max_parts * (u64)table;
    int *is_last = (int *)(shared_bytes + w->look.part_bytes - 16);
    key_run runs[2];
    lines l;
    if (part >= n_parts) return;
    block_sync(); /* shared memory is free */
    open_lines(&l);
    if (part == row->own / w->look.splits) {
        for (int is_v = WARP; is_v < 2; is_v += N_WARPS) {
            store_row(w, s, set->first, set->kv_head, is_v);
        }
    }
    UNROLL for (int is_pin = 0; is_pin < 2; is_pin++) {
        runs[is_pin] = keys_of_row(w, row, s->layer, set->kv_head, is_pin, part, most);
    }
    load_lines(w, s, set, queries, PART_HALVES);
    block_sync();
    look_at_part(w, set, runs, queries, shared_bytes + WARP * ring_bytes, &l);
    block_sync(); /* all have looked: the rings take the sums */
    put_sums(w, set, &l, warps + WARP * table);
    block_sync();
    merge_sums(w, s, set, warps, N_WARPS, table, n_parts > 1 ? partials + part * table : 0);
    if (n_parts == 1) return;
    if (!comes_last((unsigned *)w->look.tickets + item, n_parts, is_last)) return;
    merge_sums(w, s, set, partials, n_parts, table, 0);
}

DEVICE void attend_all_parts(const cuda_world *w, const cuda_stage *s) {
    const int share = w->n_heads / w->n_kv_heads, parts = w->look.max_parts;
    for (int unit = BLOCK; unit < w->n * w->n_kv_heads * parts; unit += N_BLOCKS) {
        const int item = unit / parts;
        const line_set set = {item / w->n_kv_heads, 1, item % w->n_kv_heads, share};
        attend_part(w, s, &set, item, unit % parts);
    }
}
