/* plan_fuse.h - between plan.c and plan_fuse.c only: the rules that rewrite a plan's operations.
 *
 * A removed operation keeps its place with kind NN_N_OPS until plan.c compacts the list.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "nn/plan.h"

/* Applies rules 1 to 4 of plan.h; p->tensors has room for one more tensor per operation. */
void plan_fuse(plan *p);

/* True when operation op reads tensor t. */
bool plan_op_reads(const plan_op *op, int t);
