/* bandwidth.c - the yardstick of decode: how fast this machine reads memory.
 *
 * Every thread reads its own part of a buffer much larger than the last cache, in the way weights
 * are read: forward, in several streams, in the widest words the processor has.  The best of a few
 * passes counts.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/project.h"
#include "base/arena.h"
#include "base/compiler.h"
#include "base/machine.h"
#include "base/thread.h"
#include "weir/weir.h"

#include <stdatomic.h>
#include <string.h>

enum { PASSES = 6, PART = 512 /* a thread reads a multiple of this */ };

static const size_t buffer_bytes = (size_t)512 << 20;

typedef struct reading {
    read_fn *read;
    char *data;
    atomic_ullong sum; /* so that nothing is optimised away */
} reading;

static char *part_of(const reading *r, int ith, int nth, size_t *bytes) {
    *bytes = buffer_bytes / (size_t)nth / PART * PART;
    return r->data + *bytes * (size_t)ith;
}

static void touch_part(void *user, int ith, int nth) {
    size_t bytes;
    char *part = part_of(user, ith, nth, &bytes);
    memset(part, ith + 1, bytes); /* pages are there before the clock runs */
}

static void read_part(void *user, int ith, int nth) {
    reading *r = user;
    size_t bytes;
    const char *part = part_of(r, ith, nth, &bytes);
    atomic_fetch_add(&r->sum, r->read(part, bytes));
}

double weir_measure_bandwidth(int threads) {
    const cpu_features f = cpu_features_of(cpu_level_best());
    reading r = {.read = cpu_read_find(&f), .data = mem_map(buffer_bytes)};
    team *readers = team_new(threads);
    double rate = 0;
    if (readers && r.data) {
        size_t bytes;
        part_of(&r, 0, team_size(readers), &bytes);
        team_run(readers, touch_part, &r);
        for (int pass = 0; pass < PASSES; pass++) {
            const double start = machine_clock();
            team_run(readers, read_part, &r);
            const double took = machine_clock() - start;
            rate = MAX_OF(rate, (double)(bytes * (size_t)team_size(readers)) / took);
        }
    }
    mem_unmap(r.data, buffer_bytes);
    team_free(readers);
    return rate;
}
