/* ref.h - the readable definition of every operation, scalar C, one thread.
 *
 * ref/ is the oracle of the other back ends' tests: it keeps weights as they are stored, expands a
 * row at a time, and accumulates in double where a sum is long.  Speed is no aim.  Twins: cpu/.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/host.h"

#define OP(NAME, name, formula) void ref_##name(host *h, const plan_op *op, int ith, int nth);
NN_OPS(OP)
#undef OP

/* y = norm(x) over n features, by groups; y may be x. */
void ref_norm_row(float *y, const float *x, const plan_norm *m, int n);
float ref_act(nn_act act, float x);
