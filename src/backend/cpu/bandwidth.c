/* bandwidth.c - the yardstick of decode: how fast this machine reads memory.
 *
 * Every thread reads its own part of a buffer much larger than the last cache, in the way weights
 * are read: forward, in several streams, in the widest words the processor has.  The best of a few
 * passes counts.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "backend/cpu/project.h"
#include "base/arena.h"
#include "base/compiler.h"
#include "base/thread.h"
#include "weir/weir.h"

#include <string.h>
#include <time.h>

enum { PASSES = 6, LINE = 64, PART = 512 /* a thread reads a multiple of this */ };

static const size_t buffer_bytes = (size_t)512 << 20;

typedef struct reading {
    team *team;
    read_fn *read;
    char *data;
    double best;    /* seconds; written by member 0 */
    uint64_t *sums; /* [members], so that nothing is optimised away */
} reading;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void read_all(void *user, int ith, int nth) {
    reading *r = user;
    const size_t part = buffer_bytes / (size_t)nth / PART * PART;
    char *mine = r->data + part * (size_t)ith;
    memset(mine, ith + 1, part); /* pages are there before the clock runs */
    for (int pass = 0; pass < PASSES; pass++) {
        team_barrier(r->team);
        const double start = seconds();
        r->sums[ith * 8] += r->read(mine, part);
        team_barrier(r->team);
        const double took = seconds() - start;
        if (ith == 0 && (pass == 0 || took < r->best)) r->best = took;
    }
}

double weir_measure_bandwidth(int threads) {
    const cpu_features f = cpu_features_of(cpu_level_best());
    reading r = {
        .read = cpu_read_find(&f), .team = team_new(threads), .data = mem_map(buffer_bytes)};
    double rate = 0;
    if (r.team && r.data) {
        const int n = team_size(r.team);
        r.sums = mem_array((size_t)n, LINE);
        if (r.sums) {
            team_run(r.team, read_all, &r);
            const size_t part = buffer_bytes / (size_t)n / PART * PART;
            rate = (double)(part * (size_t)n) / r.best;
        }
        mem_free(r.sums);
    }
    mem_unmap(r.data, buffer_bytes);
    team_free(r.team);
    return rate;
}
