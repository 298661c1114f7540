/* draw.cu - logits to tokens: the sampler of the engine on the device, number for number.
 *
 *     logits -> bias -> penalties -> temperature -> top-k -> top-p -> min-p -> token
 *
 * Blocks share a row, each looks at its part of the tokens; where there are many rows a block has
 * one alone.  A candidate's key is its distance below the best one in octaves, a 28-bit integer,
 * its weight an integer too (base/octave.h), so every sum is exact in any order and the token is
 * the one that engine/draw.c draws with the same number.
 *
 * Filters keep the best candidates, equal ones by their ids, so what they leave is a cut: keys
 * below `key`, and those equal to it up to `id`.  A radix select finds the cut digit by digit.
 * Once few candidates are left they are gathered, in the order of their ids, in shared memory:
 * every block of the row has them all then, and goes on as if alone.  All blocks of a row know the
 * same and so do the same; the first of them tells the token.
 *
 * Logits that bias and penalties change are put back afterwards: somebody may ask for them.  128 k
 * tokens are 0.5 MB in the second-level cache, but what they cost is arithmetic: conversions to
 * doubles, two loads from tables, additions in shared memory.
 *
 * CPU twin: engine/draw.c, sampler.c.  Test: tests/engine/test_cuda_draw.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WEIR_EMULATED
    #include "machine.cuh"
#endif
#include "stage.h"

enum { ALL_KEYS = 0x7fffffff, BATCH = 4 };

typedef struct table { /* a block's shared memory */
    u64 mass[CUDA_DIGITS];
    u64 parts[32]; /* of a block: one for each warp */
    u64 missing;
    u32 coarse[CUDA_DIGITS], fine[CUDA_DIGITS];
    u32 keys[CUDA_DECK];
    int ids[CUDA_DECK];
    int recent[CUDA_RECENT];
    float penalized[CUDA_RECENT], biased[CUDA_BIASES]; /* logits as they were */
    u32 digit;
    int id;
} table;

static_assert(sizeof(table) <= CUDA_DRAW_BYTES, "a block's shared memory");

typedef struct deck { /* the candidates; the same in every thread */
    table *t;
    const cuda_world *w;
    const float *logits;
    int row, share; /* this block's, of w->shares */
    int from, to;   /* its part: ids, or places in t->keys once they are gathered */
    bool is_whole;  /* they are not */
    bool is_shared; /* other blocks have other parts */
    int turn;       /* of the places where blocks tell each other */
    float best;
    double scale;
    u32 key; /* the cut */
    int id;
    float floor; /* logits below are behind it, for sure */
} deck;

/* ---- logits */

/* As draw_load_copy reads them: NaN is -infinity, +infinity the largest float. */
DEVICE float clean(float x) {
    const float least = -float_of_bits(0x7f800000u), most = float_of_bits(0x7f7fffffu);
    const float number = x > least ? x : least;
    return number < most ? number : most;
}

DEVICE float put_logit(float *p, double x) {
    const float most = float_of_bits(0x7f7fffffu);
    const float y = x < -(double)most  ? -float_of_bits(0x7f800000u)
                    : x < (double)most ? (float)x
                                       : most;
    *p = y;
    return y;
}

DEVICE bool is_first(const int *ids, int i) {
    for (int k = 0; k < i; k++) {
        if (ids[k] == ids[i]) return false;
    }
    return true;
}

/* One thread for each biased token, whose biases are added one after the other. */
DEVICE void add_bias(const cuda_draw *d, table *t, float *logits) {
    const int *ids = (const int *)d->ids;
    const float *values = (const float *)d->values;
    for (int i = THREAD; i < d->n_bias; i += N_THREADS) {
        if (!is_first(ids, i)) continue;
        float *p = logits + ids[i], x = load_float(p);
        t->biased[i] = x;
        x = clean(x);
        for (int k = i; k < d->n_bias; k++) {
            if (ids[k] == ids[i]) x = put_logit(p, (double)x + (double)values[k]);
        }
    }
}

/* Products of two floats are exact in double: fused or not, the result is the host's. */
DEVICE void penalize(const cuda_draw *d, table *t, float *logits) {
    for (int i = THREAD; i < d->n_recent; i += N_THREADS) {
        const int id = t->recent[i];
        if (id < 0 || !is_first(t->recent, i)) continue;
        int count = 0;
        for (int k = i; k < d->n_recent; k++) count += t->recent[k] == id;
        t->penalized[i] = load_float(logits + id);
        double x = (double)clean(t->penalized[i]);
        x = x > 0 ? x / (double)d->repeat : x * (double)d->repeat;
        x -= (double)d->presence;
        x -= (double)d->frequency * count;
        put_logit(logits + id, x);
    }
}

DEVICE void change_logits(const cuda_world *w, const cuda_draw *d, table *t, float *logits) {
    for (int i = THREAD; i < d->n_recent; i += N_THREADS) {
        const int seen = ((const int *)d->recent)[i];
        const int id = seen < 0 ? ((const int *)w->drawn)[d->slot] : seen;
        t->recent[i] = id < w->vocab ? id : -1;
    }
    add_bias(d, t, logits);
    block_sync();
    penalize(d, t, logits);
    block_sync();
}

DEVICE void restore_logits(const cuda_draw *d, const table *t, float *logits) {
    block_sync();
    for (int i = THREAD; i < d->n_recent; i += N_THREADS) {
        const int id = t->recent[i];
        if (id >= 0 && is_first(t->recent, i)) logits[id] = t->penalized[i];
    }
    block_sync();
    const int *ids = (const int *)d->ids;
    for (int i = THREAD; i < d->n_bias; i += N_THREADS) {
        if (is_first(ids, i)) logits[ids[i]] = t->biased[i];
    }
}

/* ---- sums of a block; every thread gets the result */

DEVICE u64 warp_sum_64(u64 x) {
    for (int mask = 16; mask; mask /= 2) x += shuffle_xor_64(x, mask);
    return x;
}

/* Of the numbers of all warps' first lanes. */
DEVICE u64 sum_warps(table *t, u64 mine) {
    if (LANE == 0) t->parts[WARP] = mine;
    block_sync();
    u64 sum = 0;
    for (int i = 0; i < N_WARPS; i++) sum += t->parts[i];
    return sum;
}

/* ---- blocks that share a row */

/* All of them have come here, and what each wrote before all can read.  Every block of a step of
 * shared rows has a multiprocessor, so nobody waits for one that cannot begin. */
DEVICE void meet_row(const deck *d) {
    block_sync();
    if (THREAD == 0) {
        unsigned *met = (unsigned *)d->w->meetings + 2 * d->row;
        const unsigned shares = (unsigned)d->w->shares, mine = take_ticket(met);
        const unsigned all = mine - mine % shares + shares;
        while ((int)(load_acquire(met) - all) < 0) spin();
    }
    block_sync();
}

/* The last one to leave makes ready for the next launch. */
DEVICE void leave_row(const deck *d) {
    unsigned *met = (unsigned *)d->w->meetings + 2 * d->row;
    if (d->w->shares == 1 || THREAD != 0) return;
    if (take_ticket(met + 1) == (unsigned)d->w->shares - 1) met[0] = met[1] = 0;
}

/* What each block has to tell, [shares], for load_64; it stays until they tell the next but one. */
DEVICE const u64 *tell_row(deck *d, u64 mine) {
    u64 *told = (u64 *)d->w->told + (2 * d->row + d->turn) * CUDA_SHARES;
    d->turn ^= 1;
    if (THREAD == 0) told[d->share] = mine;
    meet_row(d);
    return told;
}

/* Sums t->mass over the blocks. */
DEVICE void add_masses(deck *d) {
    const int place = (d->row * d->w->shares * 2 + d->turn) * CUDA_DIGITS;
    u64 *masses = (u64 *)d->w->masses + place, *mass = d->t->mass;
    const int stride = 2 * CUDA_DIGITS;
    d->turn ^= 1;
    for (int i = THREAD; i < CUDA_DIGITS; i += N_THREADS) masses[d->share * stride + i] = mass[i];
    meet_row(d);
    for (int i = THREAD; i < CUDA_DIGITS; i += N_THREADS) {
        u64 sum = 0;
        for (int k = 0; k < d->w->shares; k++) sum += load_64(masses + k * stride + i);
        mass[i] = sum;
    }
    block_sync();
}

/* The first of the largest logits, -1 when none is above -infinity. */
DEVICE int find_best(deck *d, bool is_changed) {
    table *t = d->t;
    float best = -float_of_bits(0x7f800000u);
    int id = -1;
    for (int i = d->from + THREAD; i < d->to; i += BATCH * N_THREADS) {
        float x[BATCH];
        UNROLL for (int j = 0; j < BATCH; j++) {
            const int at = i + j * N_THREADS;
            x[j] = at < d->to ? load_float(d->logits + at) : best;
        }
        UNROLL for (int j = 0; j < BATCH; j++) {
            const float y = is_changed ? clean(x[j]) : x[j];
            if (y > best) best = y, id = i + j * N_THREADS;
        }
    }
    const u32 bits = bits_of_float(best + 0.0f); /* -0 is 0 */
    const u32 order = bits >> 31 ? ~bits : bits | 0x80000000u;
    u64 most = id < 0 ? 0 : (u64)order << 32 | (u32)~id;
    for (int mask = 16; mask; mask /= 2) {
        const u64 other = shuffle_xor_64(most, mask);
        most = other > most ? other : most;
    }
    if (LANE == 0) t->parts[WARP] = most;
    block_sync();
    for (int i = 0; i < N_WARPS; i++) most = t->parts[i] > most ? t->parts[i] : most;
    block_sync();
    if (d->is_shared) {
        const u64 *told = tell_row(d, most);
        for (int i = 0; i < d->w->shares; i++) {
            const u64 other = load_64(told + i);
            most = other > most ? other : most;
        }
    }
    return most ? (int)~(u32)most : -1;
}

/* ---- candidates */

DEVICE u32 key_of(const deck *d, float logit) {
    const double end = (double)((u32)CUDA_MAX_OCTAVES << CUDA_FRACTION_BITS);
    const double octaves = ((double)d->best - (double)clean(logit)) * d->scale;
    return (u32)(int)(octaves < end ? octaves : end);
}

DEVICE u64 weigh(const table *t, u32 key) {
    const u32 mask = CUDA_DIGITS - 1;
    const u64 product = (u64)t->coarse[key >> CUDA_DIGIT_BITS & mask] * t->fine[key & mask];
    return product >> (CUDA_WEIGHT_SHIFT + (key >> CUDA_FRACTION_BITS));
}

/* Nobody with a greater key stays, if he was left by the cut before. */
DEVICE void cut(deck *d, u32 key) {
    if (key >= d->key) return;
    d->key = key;
    d->id = ALL_KEYS;
    if (key >= (u32)CUDA_MAX_OCTAVES << CUDA_FRACTION_BITS) return; /* has no end */
    const double floor = (double)d->best - ((double)key + 2) / d->scale;
    d->floor = (float)(floor - (floor < 0 ? -floor : floor) * 1e-6 - 1e-30);
}

/* Keys of candidates from, from + step, ...; beyond end and behind the cut ALL_KEYS + 1. */
DEVICE void fetch_keys(const deck *d, u32 keys[BATCH], int from, int step, int end) {
    float logits[BATCH];
    UNROLL for (int j = 0; j < BATCH && d->is_whole; j++) {
        const int i = from + j * step;
        logits[j] = i < end ? load_float(d->logits + i) : 0;
    }
    UNROLL for (int j = 0; j < BATCH; j++) {
        const int i = from + j * step;
        keys[j] = ALL_KEYS + 1u;
        if (i >= end || (d->is_whole && logits[j] < d->floor)) continue;
        const u32 key = d->is_whole ? key_of(d, logits[j]) : d->t->keys[i];
        const int id = d->is_whole ? i : d->t->ids[i];
        if (key < d->key || (key == d->key && id <= d->id)) keys[j] = key;
    }
}

/* A warp's part of candidates [from, to), whole batches of a warp long. */
DEVICE int warp_share(int from, int to) {
    return ((to - from + N_WARPS - 1) / N_WARPS + 31) / 32 * 32;
}

/* Where the part of tokens of a row's block begins. */
DEVICE int share_from(const cuda_world *w, int share) {
    const int part = (w->vocab + w->shares - 1) / w->shares;
    return share * part < w->vocab ? share * part : w->vocab;
}

/* What candidate `key` counts: one of those with key `only`, or by its weight. */
DEVICE u64 value_of(const table *t, u32 key, u32 only) {
    if (key > ALL_KEYS) return 0;
    if (only <= ALL_KEYS) return key == only;
    return weigh(t, key);
}

/* The sum of the values of candidates [from, to); of each warp's part of them in t->parts. */
DEVICE u64 sum_values(const deck *d, int from, int to, u32 only) {
    const int part = warp_share(from, to), start = from + WARP * part;
    const int end = start + part < to ? start + part : to;
    u64 sum = 0;
    for (int i = start + LANE; i - LANE < end; i += BATCH * 32) {
        u32 keys[BATCH];
        fetch_keys(d, keys, i, 32, end);
        UNROLL for (int j = 0; j < BATCH; j++) sum += value_of(d->t, keys[j], only);
    }
    return sum_warps(d->t, warp_sum_64(sum));
}

/* Of all where the number drawn, from [0, 1), leads. */
DEVICE u64 lot_of(double uniform, u64 total) {
    const u64 place = (u64)(uniform * (double)total);
    return place < total ? place : total - 1; /* (double)total may have been rounded up */
}

/* The id of the candidate in which the sum of values passes `left`, in the order of ids.  With
 * uniform >= 0, `left` is that share of all. */
COLD int find_in_order(deck *d, u32 only, u64 left, double uniform) {
    table *t = d->t;
    int from = d->from, to = d->to;
    if (d->is_shared) { /* in whose part it is; then all look there */
        const u64 *told = tell_row(d, sum_values(d, from, to, only));
        u64 total = 0;
        for (int i = 0; i < d->w->shares; i++) total += load_64(told + i);
        if (uniform >= 0) left = lot_of(uniform, total);
        uniform = -1;
        int i = 0;
        for (; i < d->w->shares - 1 && left >= load_64(told + i); i++) left -= load_64(told + i);
        from = share_from(d->w, i);
        to = share_from(d->w, i + 1);
    }
    while (true) {
        const int part = warp_share(from, to);
        const u64 total = sum_values(d, from, to, only);
        if (uniform >= 0) left = lot_of(uniform, total);
        uniform = -1;
        int i = 0;
        for (; i < N_WARPS - 1 && left >= t->parts[i]; i++) left -= t->parts[i];
        from += i * part;
        to = from + part < to ? from + part : to;
        block_sync();
        if (part == 32) break;
    }
    if (WARP == 0) { /* a candidate for each lane */
        u32 keys[BATCH];
        fetch_keys(d, keys, from + LANE, 32, to);
        t->parts[LANE] = value_of(t, keys[0], only);
    }
    block_sync();
    int i = from;
    for (; i < to - 1 && left >= t->parts[i - from]; i++) left -= t->parts[i - from];
    block_sync();
    return d->is_whole ? i : t->ids[i];
}

/* Moves what the cut leaves into shared memory, in the order of ids, if it fits. */
COLD void collect(deck *d) {
    table *t = d->t;
    const cuda_world *w = d->w;
    u32 *keys_to = d->is_shared ? (u32 *)w->deck + d->row * 2 * CUDA_DECK : t->keys;
    int *ids_to = d->is_shared ? (int *)keys_to + CUDA_DECK : t->ids;
    const int part = warp_share(d->from, d->to), start = d->from + WARP * part;
    const int end = start + part < d->to ? start + part : d->to;
    int at = 0, all = 0;
    for (int writing = 0; writing < 2; writing++) {
        int n = 0;
        for (int i = start + LANE; i - LANE < end; i += BATCH * 32) {
            u32 keys[BATCH];
            fetch_keys(d, keys, i, 32, end);
            UNROLL for (int j = 0; j < BATCH; j++) {
                const u32 kept = ballot(keys[j] <= ALL_KEYS);
                const int place = at + n + count_bits(kept & ((1u << LANE) - 1));
                if (writing && keys[j] <= ALL_KEYS) {
                    keys_to[place] = keys[j];
                    ids_to[place] = i + j * 32;
                }
                n += count_bits(kept);
            }
        }
        if (writing) break;
        all = (int)sum_warps(t, (u64)n);
        for (int i = 0; i < WARP; i++) at += (int)t->parts[i];
        block_sync();
        if (d->is_shared) {
            const u64 *told = tell_row(d, (u64)all);
            all = 0;
            for (int i = 0; i < w->shares; i++) {
                if (i == d->share) at += all;
                all += (int)load_64(told + i);
            }
        }
        if (all > CUDA_DECK) return;
    }
    if (d->is_shared) {
        meet_row(d);
        for (int i = THREAD; i < all; i += N_THREADS) {
            t->keys[i] = bits_of_float(load_float((const float *)keys_to + i));
            t->ids[i] = (int)bits_of_float(load_float((const float *)ids_to + i));
        }
    }
    block_sync();
    d->from = 0;
    d->to = all;
    d->is_whole = false;
    d->is_shared = false;
}

/* ---- filters */

/* Sums, by the digit at bits [low, high), the candidates whose key begins with prefix. */
DEVICE void sum_digits(deck *d, u32 prefix, int high, int low, bool counts) {
    table *t = d->t;
    for (int i = THREAD; i < CUDA_DIGITS; i += N_THREADS) t->mass[i] = 0;
    block_sync();
    for (int i = d->from + THREAD; i < d->to; i += BATCH * N_THREADS) {
        u32 keys[BATCH];
        fetch_keys(d, keys, i, N_THREADS, d->to);
        UNROLL for (int j = 0; j < BATCH; j++) {
            if (keys[j] > ALL_KEYS || keys[j] >> high != prefix) continue;
            const u64 x = counts ? 1 : weigh(t, keys[j]);
            if (x) add_shared(&t->mass[keys[j] >> low & ((1u << (high - low)) - 1)], x);
        }
    }
    block_sync();
    if (d->is_shared) add_masses(d);
}

/* The first digit with which the sums reach `missing`; what is missing in it. */
DEVICE u32 find_digit(table *t, int digits, u64 *missing) {
    if (WARP == 0) {
        const int each = digits / 32;
        u64 sum = 0, before = 0;
        for (int i = 0; i < each; i++) sum += t->mass[LANE * each + i];
        t->parts[LANE] = sum;
        warp_sync();
        for (int i = 0; i < LANE; i++) before += t->parts[i];
        if (before < *missing && *missing <= before + sum) {
            u64 left = *missing - before;
            int i = LANE * each;
            for (; t->mass[i] < left; i++) left -= t->mass[i];
            t->digit = (u32)i;
            t->missing = left;
        }
    }
    block_sync();
    *missing = t->missing;
    return t->digit;
}

/* Keeps the best k, or with k 0 the best that have the share p of the mass. */
COLD void keep_best(deck *d, int k, float p) {
    table *t = d->t;
    u32 last = 0;
    u64 missing = (u64)k;
    for (int high = CUDA_KEY_BITS, low; high > 0; high = low) {
        low = high > CUDA_DIGIT_BITS ? high - CUDA_DIGIT_BITS : 0;
        sum_digits(d, last, high, low, k > 0);
        if (high == CUDA_KEY_BITS) {
            u64 mine = 0;
            for (int i = THREAD; i < CUDA_DIGITS; i += N_THREADS) mine += t->mass[i];
            const u64 total = sum_warps(t, warp_sum_64(mine));
            const u64 share = (u64)((double)total * (double)p);
            if (!k) missing = share < 1 ? 1 : share < total ? share : total;
            block_sync();
            if (k && total <= (u64)k) return;
        }
        last = last << (high - low) | find_digit(t, 1 << (high - low), &missing);
        const u32 most = (last << low) + ((1u << low) - 1);
        cut(d, most);
        const bool is_exact = t->mass[t->digit] == missing;
        block_sync();
        if (is_exact) return; /* nothing to tell apart */
        if (d->is_whole) collect(d);
    }
    const u64 each = k ? 1 : weigh(t, last);
    d->id = find_in_order(d, last, (missing + each - 1) / each - 1, -1);
}

/* A lower key is never the less likely one, so the least weight is also a greatest key. */
DEVICE void keep_likely(deck *d, float p) {
    const double least = (double)weigh(d->t, 0) * (double)p;
    const u32 end = (u32)CUDA_MAX_OCTAVES << CUDA_FRACTION_BITS;
    u32 likely = 0, unlikely = end + 1; /* weighs less, likely does not */
    while (unlikely - likely > 1) {
        const u32 middle = likely + (unlikely - likely) / 2;
        if ((double)weigh(d->t, middle) >= least) {
            likely = middle;
        } else {
            unlikely = middle;
        }
    }
    cut(d, likely);
}

DEVICE int draw_filtered(deck *d, const cuda_draw *how, int best) {
    const u32 *octaves = (const u32 *)d->w->octaves;
    d->best = clean(load_float(d->logits + best)), d->scale = how->scale;
    d->key = ALL_KEYS, d->id = ALL_KEYS, d->floor = -float_of_bits(0x7f800000u);
    for (int i = THREAD; i < CUDA_DIGITS; i += N_THREADS) {
        d->t->coarse[i] = octaves[i];
        d->t->fine[i] = octaves[CUDA_DIGITS + i];
    }
    block_sync();
    if (how->top_k > 0) keep_best(d, how->top_k, 0);
    if (how->top_p > 0) keep_best(d, 0, how->top_p);
    if (how->min_p > 0) keep_likely(d, how->min_p);
    return find_in_order(d, ALL_KEYS + 1u, 0, how->uniform);
}

KERNEL_1024 draw(PARAM cuda_world world) {
    const cuda_world *w = &world;
    table *t = (table *)shared_bytes;
    deck d;
    d.t = t, d.w = w, d.turn = 0, d.is_whole = true, d.is_shared = w->shares > 1;
    d.row = BLOCK / w->shares, d.share = BLOCK % w->shares;
    d.from = share_from(w, d.share), d.to = share_from(w, d.share + 1);
    const cuda_draw *how = (const cuda_draw *)w->draws + d.row;
    float *logits = (float *)w->logits + (u64)d.row * (u64)w->logits_stride;
    d.logits = logits;
    launch_wait();
    if (!how->is_on) return;
    const bool is_changed = how->n_bias > 0 || how->n_recent > 0;
    if (is_changed && d.share == 0) change_logits(w, how, t, logits);
    if (is_changed && w->shares > 1) meet_row(&d);
    int id = find_best(&d, is_changed);
    if (id >= 0 && how->scale > 0) id = draw_filtered(&d, how, id);
    if (is_changed && w->shares > 1) meet_row(&d);
    if (is_changed && d.share == 0) restore_logits(how, t, logits);
    leave_row(&d);
    if (THREAD == 0 && d.share == 0) {
        ((int *)w->drawn)[how->slot] = id;
        *(int *)how->token = id;
    }
}
