/* machine.c - asks the system what machine.h promises.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE

#include "base/machine.h"

#include "base/compiler.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* The limit a control group file states; UINT64_MAX where there is none ("max") or no file. */
static uint64_t group_limit(const char *path) {
    FILE *file = fopen(path, "re");
    if (!file) return UINT64_MAX;
    uint64_t limit;
    const bool found = fscanf(file, "%" SCNu64, &limit) == 1;
    fclose(file);
    return found ? limit : UINT64_MAX;
}

uint64_t machine_memory(void) {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t most = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
    most = MIN_OF(most, group_limit("/sys/fs/cgroup/memory.max"));
    return MIN_OF(most, group_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
}

double machine_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
