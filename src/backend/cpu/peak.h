/* peak.h - the yardstick of prefill: how fast this machine multiplies and adds floats.
 *
 * Chains of fused multiply-adds that stay in registers, on all members of a team at once.  The
 * yardstick of decode is weir_measure_bandwidth.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/cpu/features.h"
#include "base/thread.h"

typedef struct peak_kernel { /* of one level */
    /* Runs `rounds` times `flops` operations; the result only keeps them from being dropped. */
    float (*multiply)(long rounds);
    int flops;
} peak_kernel;

/* Operations per second, two for a multiply-add; the best of a few short passes. */
double cpu_peak(team *members, cpu_level level);
