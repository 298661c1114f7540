/* attend.h - attention on the CPU under the streaming rule; attend.c has the picture.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/cpu/features.h"
#include "backend/host.h"

/* Bytes at the start of h->workspace that cpu_attend uses with a team of nth. */
size_t cpu_attend_workspace(const plan *p, const kv_shape *kv, int nth);

/* Stores the step's keys and values; then every row attends. */
void cpu_attend_before(host *h, const plan_op *op, int ith, int nth);
void cpu_attend(host *h, const plan_op *op, int ith, int nth);

/* The same with the kernels of a level, which must run here. */
void cpu_attend_before_at(cpu_level level, host *h, const plan_op *op, int ith, int nth);
void cpu_attend_at(cpu_level level, host *h, const plan_op *op, int ith, int nth);
