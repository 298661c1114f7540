/* thread.h - a team: a fixed set of threads that all run the same function.
 *
 *     team *t = team_new(4);                 three workers and the caller
 *     team_run(t, work, &job);               work(&job, ith, nth) on each; waits for all
 *       ... inside work: team_barrier(t);    wait for the others
 *     team_free(t);
 *
 * Between runs the workers sleep; inside a run a barrier spins for a few microseconds first and
 * sleeps then, because a decode step crosses some hundred barriers.  What the last arriver wrote
 * before a barrier is visible to everyone behind it.
 *
 * A team belongs to one caller at a time.  Test: tests/base/test_thread.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

typedef struct team team;

typedef void team_fn(void *user, int ith, int nth);

int cpu_count(void);           /* processors this process may run on */
team *team_new(int n_threads); /* 0: cpu_count(); NULL when threads cannot be made */
void team_free(team *t);       /* accepts NULL */
int team_size(const team *t);
void team_run(team *t, team_fn *fn, void *user);
/* The same by the caller alone, for work too small to share: fn(user, 0, 1). */
void team_run_alone(team *t, team_fn *fn, void *user);
void team_barrier(team *t); /* called by every member, inside team_run only */
