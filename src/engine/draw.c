/* draw.c - integer softmax and filters by radix select; draw.h says why.
 *
 * The weight of a candidate at o octaves below the best is a product of two table entries, as
 * base/octave.h draws it.  Its twin on a GPU is backend/cuda/kernels/draw.cu.  No expression in
 * this file adds to a rounded product, so a compiler that fuses multiply-adds changes no bit.
 *
 * The typical filter (Meister et al. 2022, arXiv 2202.00666) ranks by | surprisal - entropy |.  In
 * octaves, surprisal is o + c and entropy is mean(o) + c with the same c (the logarithm of the
 * sum), so the rank is simply | o - mean(o) |.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/draw.h"

#include "base/arena.h"
#include "base/compiler.h"

#include <assert.h>
#include <float.h>
#include <math.h>

enum { FRACTION_BITS = OCTAVE_FRACTION_BITS, KEY_BITS = OCTAVE_BITS };
enum { MAX_WHOLE = OCTAVE_MAX_WHOLE, WEIGHT_BITS = OCTAVE_WEIGHT_BITS };

/* What a filter keeps: the candidates of lowest rank, the distance of their key from center, until
 * they are k or, when k is 0, have the share p of the mass. */
typedef struct ranking {
    uint32_t center;
    int k;
    float p;
} ranking;

bool draw_init(draw *d, int vocab) {
    assert(vocab > 0 && vocab <= DRAW_MAX_VOCAB);
    *d = (draw){.vocab = vocab};
    d->ids = mem_array((size_t)vocab, sizeof *d->ids);
    d->keys = mem_array((size_t)vocab, sizeof *d->keys);
    d->copy = mem_array((size_t)vocab, sizeof *d->copy);
    if (!d->ids || !d->keys || !d->copy) {
        draw_clear(d);
        return false;
    }
    octave_tables(d->coarse, d->fine);
    return true;
}

void draw_clear(draw *d) {
    mem_free(d->ids);
    mem_free(d->keys);
    mem_free(d->copy);
    *d = (draw){0};
}

void draw_load(draw *d, const float *logits) {
    d->n = d->vocab;
    d->logits = logits;
}

void draw_load_copy(draw *d, const float *logits) {
    for (int i = 0; i < d->vocab; i++) {
        const float x = logits[i] > -INFINITY ? logits[i] : -INFINITY; /* NaN compares false */
        d->copy[i] = x < FLT_MAX ? x : FLT_MAX;
    }
    draw_load(d, d->copy);
}

void draw_set(draw *d, int32_t id, double logit) {
    assert(d->logits == d->copy && id >= 0 && id < d->vocab);
    const double most = (double)FLT_MAX;
    d->copy[id] = logit < -most ? -INFINITY : logit < most ? (float)logit : FLT_MAX;
}

/* The largest of n numbers, -infinity when there is none, in 16 lanes so that it vectorises. */
static float largest(const float *x, int n) {
    float lanes[16];
    for (int j = 0; j < 16; j++) lanes[j] = -INFINITY;
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int j = 0; j < 16; j++) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
    }
    for (; i < n; i++) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    for (int j = 1; j < 16; j++) lanes[0] = lanes[j] > lanes[0] ? lanes[j] : lanes[0];
    return lanes[0];
}

/* One pass in blocks that stay in the L1 cache; only the block of the winner is read again. */
int32_t draw_argmax(const float *logits, int n) {
    enum { BLOCK = 1024 };
    float best = -INFINITY;
    int at = -1;
    for (int start = 0; start < n; start += BLOCK) {
        const float x = largest(logits + start, MIN_OF(n - start, BLOCK));
        if (x > best) {
            best = x;
            at = start;
        }
    }
    while (at >= 0 && logits[at] != best) at++;
    return at;
}

WEIR_INLINE uint64_t weigh(const draw *d, uint32_t octaves) {
    const uint32_t mask = OCTAVE_DIGITS - 1;
    const uint64_t product =
        (uint64_t)d->coarse[octaves >> OCTAVE_DIGIT_BITS & mask] * d->fine[octaves & mask];
    return product >> ((62 - WEIGHT_BITS) + (octaves >> FRACTION_BITS));
}

WEIR_INLINE uint32_t rank_of(const ranking *r, uint32_t key) {
    return key > r->center ? key - r->center : r->center - key;
}

/* The share p of all mass, rounded down, at least 1. */
static uint64_t share(uint64_t total, float p) {
    const uint64_t target = (uint64_t)((double)total * (double)p);
    return target < 1 ? 1 : MIN_OF(target, total);
}

/* While every token is a candidate, ids are not written: ids[i] would be i. */
static bool is_whole(const draw *d) {
    return d->n == d->vocab;
}

/* Sums the candidates whose rank begins with prefix by the digit that follows, bits high to low
 * of the rank.  Returns the sum of all. */
WEIR_INLINE uint64_t sum_digits(draw *d, const ranking *r, uint32_t prefix, int high, int low) {
    const uint32_t digits = 1u << (high - low);
    const uint32_t *keys = d->keys;
    for (uint32_t digit = 0; digit < digits; digit++) d->mass[digit] = 0;
    for (int i = 0, n = d->n; i < n; i++) {
        const uint32_t rank = rank_of(r, keys[i]);
        if (rank >> high != prefix) continue;
        d->mass[rank >> low & (digits - 1)] += r->k ? 1 : weigh(d, keys[i]);
    }
    uint64_t sum = 0;
    for (uint32_t digit = 0; digit < digits; digit++) sum += d->mass[digit];
    return sum;
}

/* Drops what begins with more than prefix.  Writes before it decides: which candidates stay is
 * hard to predict. */
WEIR_INLINE void drop_beyond(draw *d, const ranking *r, uint32_t prefix, int low) {
    const bool whole = is_whole(d);
    int32_t *ids = d->ids;
    uint32_t *keys = d->keys;
    int kept = 0;
    for (int i = 0, n = d->n; i < n; i++) {
        const uint32_t key = keys[i];
        ids[kept] = whole ? i : ids[i];
        keys[kept] = key;
        kept += rank_of(r, key) >> low <= prefix;
    }
    d->n = kept;
}

/* Of the candidates with the last rank kept, drops all but the first, which still need to add
 * missing to the sum. */
static void drop_ties(draw *d, const ranking *r, uint32_t last, uint64_t missing) {
    const bool whole = is_whole(d);
    uint64_t sum = 0;
    int kept = 0;
    for (int i = 0; i < d->n; i++) {
        const uint32_t key = d->keys[i];
        if (rank_of(r, key) == last) {
            if (sum >= missing) continue;
            sum += r->k ? 1 : weigh(d, key);
        }
        d->ids[kept] = whole ? i : d->ids[i];
        d->keys[kept++] = key;
    }
    d->n = kept;
}

/* Radix select: finds the last rank kept digit by digit, from the highest down.  Each pass walks
 * the sums by digit until they reach the target and drops the candidates beyond that digit, so
 * the first pass is the only one over the whole vocabulary unless most of it is kept. */
WEIR_INLINE void keep_ranked(draw *d, const ranking *r) {
    uint32_t last = 0;
    uint64_t missing = 0;
    for (int high = KEY_BITS, low; high > 0; high = low) {
        low = high > OCTAVE_DIGIT_BITS ? high - OCTAVE_DIGIT_BITS : 0;
        const uint64_t sum = sum_digits(d, r, last, high, low);
        if (high == KEY_BITS) missing = r->k ? (uint64_t)r->k : share(sum, r->p);
        assert(missing > 0 && missing <= sum);
        uint32_t digit = 0;
        for (; d->mass[digit] < missing; digit++) missing -= d->mass[digit];
        last = last << (high - low) | digit;
        drop_beyond(d, r, last, low);
        if (d->mass[digit] == missing) return; /* nothing to tell apart */
    }
    drop_ties(d, r, last, missing);
}

/* A NaN compares false and so ends up at the end, with weight 0. */
void draw_weigh(draw *d, float best, float temperature) {
    assert(temperature > 0 && best >= -FLT_MAX && best <= FLT_MAX && is_whole(d));
    const double scale = octave_scale(temperature);
    const double end = (double)((uint32_t)MAX_WHOLE << FRACTION_BITS);
    for (int i = 0; i < d->n; i++) {
        const double octaves = ((double)best - (double)d->logits[i]) * scale;
        d->keys[i] = (uint32_t)(int32_t)(octaves < end ? octaves : end); /* as int32: vectorises */
    }
}

void draw_keep_best(draw *d, int k) {
    assert(k > 0);
    if (k < d->n) keep_ranked(d, &(ranking){.k = k});
}

/* The mean key of a token drawn from the candidates.  Weights are taken in two halves so that the
 * products fit in 64 bits: high * key < 2^42, low * key < 2^49, each times 2^20 candidates. */
static uint32_t mean_key(const draw *d) {
    enum { HALF = 21, SPARE = 7 };
    uint64_t high = 0, low = 0, total = 0;
    for (int i = 0; i < d->n; i++) {
        const uint64_t weight = weigh(d, d->keys[i]);
        total += weight;
        high += (weight >> HALF) * d->keys[i];
        low += (weight & ((1 << HALF) - 1)) * d->keys[i] >> SPARE;
    }
    return (uint32_t)(((double)high * 0x1p21 + (double)low * 0x1p7) / (double)total);
}

void draw_keep_typical(draw *d, float p) {
    keep_ranked(d, &(ranking){.center = mean_key(d), .p = p});
}

void draw_keep_mass(draw *d, float p) {
    keep_ranked(d, &(ranking){.p = p});
}

/* A lower key is never the less likely one, so the least weight is also a greatest key: found by
 * bisection, it turns the filter into one comparison each. */
void draw_keep_likely(draw *d, float p) {
    uint32_t likely = UINT32_MAX;
    for (int i = 0; i < d->n; i++) likely = MIN_OF(likely, d->keys[i]);
    const double least = (double)weigh(d, likely) * (double)p;
    uint32_t unlikely = (MAX_WHOLE << FRACTION_BITS) + 1; /* weighs less, likely does not */
    while (unlikely - likely > 1) {
        const uint32_t middle = likely + (unlikely - likely) / 2;
        if ((double)weigh(d, middle) >= least) {
            likely = middle;
        } else {
            unlikely = middle;
        }
    }
    drop_beyond(d, &(ranking){0}, likely, 0);
}

/* Sums runs of candidates first; only the run that the number falls into is walked. */
int32_t draw_token(draw *d, rng *generator) {
    const int run = (d->n + OCTAVE_DIGITS - 1) / OCTAVE_DIGITS;
    uint64_t total = 0;
    for (int i = 0, j = 0; i < d->n; j++) {
        const int end = MIN_OF(d->n, i + run);
        uint64_t sum = 0;
        for (; i < end; i++) sum += weigh(d, d->keys[i]);
        d->mass[j] = sum;
        total += sum;
    }
    assert(total > 0);
    uint64_t left = (uint64_t)(rng_uniform(generator) * (double)total);
    if (left >= total) left = total - 1; /* (double)total may have been rounded up */
    int j = 0;
    for (; left >= d->mass[j]; j++) left -= d->mass[j];
    for (int i = j * run;; i++) {
        const uint64_t weight = weigh(d, d->keys[i]);
        if (left < weight) return is_whole(d) ? i : d->ids[i];
        left -= weight;
    }
}
