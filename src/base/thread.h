/* thread.h - a team: a fixed set of threads that share work in phases.
 *
 *     team *t = team_new(4);                     three workers and the caller
 *     team_run(t, work, &job);                   work(&job, ith, 4) once for every ith; waits
 *     team_phases(t, 10, work, &job);            work(&job, p, ith, 4), phase after phase
 *     team_free(t);
 *
 * A phase has as many shares as the team has members; it begins when the phase before it is done,
 * and sees everything that was written there.  Shares are claimed, not assigned: member i takes
 * share i if it is there in time, and whoever has nothing left takes what nobody has begun.  So a
 * member that the system has put aside holds up nobody unless it was put aside in the middle of a
 * share, and a machine that is busy with other things costs its share of time and no more.  What a
 * share computes must not depend on which thread computes it.
 *
 * Between phases members spin for some microseconds and sleep then: a decode step has some hundred
 * phases.  A team belongs to one caller at a time.  Test: tests/base/test_thread.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

typedef struct team team;

typedef void team_fn(void *user, int ith, int nth);
typedef void phase_fn(void *user, int phase, int ith, int nth);

int cpu_count(void);           /* processors this process may run on */
team *team_new(int n_threads); /* 0: cpu_count(); NULL when threads cannot be made */
void team_free(team *t);       /* accepts NULL */
int team_size(const team *t);
void team_run(team *t, team_fn *fn, void *user);
void team_phases(team *t, int n_phases, phase_fn *fn, void *user);
