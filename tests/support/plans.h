/* plans.h - graphs and plans run by a few loops, to be compared: what fusion and memory layout must
 * not change.
 *
 * Attention is a stand-in that reads its row of q, k and v; everything else is computed as
 * nn/ops.h says.  A plan runs in memory full of not-a-number, and writes each result as soon as it
 * has it, column after column, so that an input that lies under its own output shows.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "nn/plan.h"

/* Logits [n_wanted, vocab], of the rows wanted [n_wanted] of n tokens ids [n]; the caller's to free
 * with mem_free. */
float *graph_run(const nn_graph *g, const int32_t *ids, int n, const int *wanted, int n_wanted);
float *plan_run(const plan *p, const int32_t *ids, int n, const int *wanted, int n_wanted);

/* Ends the test unless every tensor lies inside the arena, apart from all that live with it, and
 * nothing is read before it is written. */
void check_memory(const plan *p);

/* Records and plans arch for c, checks the memory, and that the plan gives what the graph gives.
 * The plan is the caller's to free; it and the graph point into a. */
plan *check_plan(arena *a, const nn_arch *arch, const checkpoint *c);
