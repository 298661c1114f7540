/* peak.c - times the chains of peak_simd.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/peak.h"

#include "backend/cpu/simd_levels.h"
#include "base/compiler.h"
#include "base/machine.h"

enum { PASSES = 6, ROUNDS = 300000 }; /* a few milliseconds each */

typedef struct timing {
    const peak_kernel *kernel;
    _Atomic float sink; /* so that nothing is optimised away */
} timing;

static void multiply(void *user, int ith, int nth) {
    timing *t = user;
    (void)ith, (void)nth;
    t->sink = t->kernel->multiply(ROUNDS);
}

double cpu_peak(team *members, cpu_level level) {
    static const peak_kernel *const tables[CPU_N_LEVELS] = SIMD_TABLES(cpu_peak);
    timing t = {.kernel = tables[level] ? tables[level] : tables[CPU_PORTABLE]};
    double rate = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        const double start = machine_clock();
        team_run(members, multiply, &t);
        const double took = machine_clock() - start;
        rate = MAX_OF(rate, (double)ROUNDS * t.kernel->flops * team_size(members) / took);
    }
    return rate;
}
