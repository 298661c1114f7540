/* rng.h - a small generator whose whole state fits in a snapshot.
 *
 * SplitMix64 (Steele, Lea, Flood 2014): one 64-bit word of state, passes BigCrush, and any seed is
 * a good seed.  Sampling draws one number per token, so speed does not matter here.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include <stdint.h>

typedef struct rng {
    uint64_t state;
} rng;

static inline uint64_t rng_next(rng *r) {
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in [0, 1), 53 bits. */
static inline double rng_uniform(rng *r) {
    return (double)(rng_next(r) >> 11) * 0x1p-53;
}
