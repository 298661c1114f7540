/* peak.c - times the chains of peak_simd.c.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "backend/cpu/peak.h"

#include "backend/cpu/simd_levels.h"

#include <time.h>

enum { PASSES = 6, ROUNDS = 300000 }; /* a few milliseconds each */

typedef struct timing {
    team *team;
    const peak_kernel *kernel;
    double best; /* seconds; written by member 0 */
    _Atomic float sink;
} timing;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void multiply_all(void *user, int ith, int nth) {
    timing *t = user;
    (void)nth;
    for (int pass = 0; pass < PASSES; pass++) {
        team_barrier(t->team);
        const double start = seconds();
        t->sink = t->kernel->multiply(ROUNDS);
        team_barrier(t->team);
        const double took = seconds() - start;
        if (ith == 0 && (pass == 0 || took < t->best)) t->best = took;
    }
}

double cpu_peak(team *members, cpu_level level) {
    static const peak_kernel *const tables[CPU_N_LEVELS] = SIMD_TABLES(cpu_peak);
    timing t = {.team = members, .kernel = tables[level] ? tables[level] : tables[CPU_PORTABLE]};
    team_run(members, multiply_all, &t);
    return (double)ROUNDS * t.kernel->flops * team_size(members) / t.best;
}
