/* test_thread.c - phases happen in order, every share once, whatever the threads do.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "base/thread.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { MEMBERS = 4, PHASES = 3000 };

typedef struct job {
    int done[PHASES][MEMBERS]; /* how often each share was worked on */
    int failures[MEMBERS];
    _Atomic int holding; /* a share that is in no hurry */
} job;

static job j;

/* Counts its share, and what it can see of the phase before: all of it. */
static void count_shares(void *user, int phase, int ith, int nth) {
    (void)user;
    j.done[phase][ith]++;
    for (int i = 0; i < nth && phase; i++) j.failures[ith] += j.done[phase - 1][i] != 1;
}

static void assert_counted(int n) {
    for (int p = 0; p < PHASES; p++) {
        for (int i = 0; i < MEMBERS; i++) assert_int_equal(j.done[p][i], i < n);
    }
    for (int i = 0; i < MEMBERS; i++) assert_int_equal(j.failures[i], 0);
}

static void every_share_of_every_phase_is_done_once_and_seen_by_the_next(void **state) {
    (void)state;
    team *t = team_new(MEMBERS);
    assert_int_equal(team_size(t), MEMBERS);
    for (int run = 0; run < 5; run++) {
        memset(&j, 0, sizeof j);
        team_phases(t, PHASES, count_shares, NULL);
        assert_counted(MEMBERS);
    }
    team_free(t);
}

static void a_team_of_one_is_the_caller(void **state) {
    (void)state;
    team *t = team_new(1);
    memset(&j, 0, sizeof j);
    team_phases(t, PHASES, count_shares, NULL);
    assert_counted(1);
    team_free(t);
}

static void add_share(void *user, int ith, int nth) {
    atomic_int *sum = user;
    atomic_fetch_add(sum, ith + 10 * nth);
}

static void many_short_runs_lose_nothing(void **state) {
    (void)state;
    team *t = team_new(MEMBERS);
    atomic_int sum = 0;
    for (int run = 0; run < 20000; run++) team_run(t, add_share, &sum);
    assert_int_equal(sum, 20000 * (6 + 40 * MEMBERS));
    team_free(t);
}

/* Share 0 of the first phase waits until another share of it is done: some other thread did that,
 * or nobody ever will. */
static void wait_for_another(void *user, int ith, int nth) {
    (void)user;
    (void)nth;
    if (ith) {
        atomic_fetch_add(&j.holding, 1);
        return;
    }
    const struct timespec moment = {.tv_nsec = 100000};
    for (int i = 0; i < 100000 && !j.holding; i++) nanosleep(&moment, NULL);
}

static void others_go_on_while_one_is_put_aside(void **state) {
    (void)state;
    team *t = team_new(MEMBERS);
    for (int run = 0; run < 20; run++) {
        j.holding = 0;
        team_run(t, wait_for_another, NULL);
        assert_int_equal(j.holding, MEMBERS - 1);
    }
    team_free(t);
}

static void members_that_slept_between_runs_wake_up(void **state) {
    (void)state;
    team *t = team_new(MEMBERS);
    const struct timespec pause = {.tv_nsec = 2000000};
    for (int run = 0; run < 20; run++) {
        memset(&j, 0, sizeof j);
        nanosleep(&pause, NULL);
        team_phases(t, PHASES, count_shares, NULL);
        assert_counted(MEMBERS);
    }
    team_free(t);
}

/* On one processor a member that waits keeps the others from arriving: it must not spin.  Spinning
 * for 50 us in each of these phases would need more than a second. */
static void members_without_a_processor_do_not_spin(void **state) {
    (void)state;
    enum { TIMES = 8 };
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++) {
        if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
    }
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    team *t = team_new(MEMBERS);
    const clock_t start = clock();
    for (int run = 0; run < TIMES; run++) {
        memset(&j, 0, sizeof j);
        team_phases(t, PHASES, count_shares, NULL);
        assert_counted(MEMBERS);
    }
    const double took = (double)(clock() - start) / CLOCKS_PER_SEC;
    team_free(t);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_true(took < 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_share_of_every_phase_is_done_once_and_seen_by_the_next),
        cmocka_unit_test(a_team_of_one_is_the_caller),
        cmocka_unit_test(many_short_runs_lose_nothing),
        cmocka_unit_test(others_go_on_while_one_is_put_aside),
        cmocka_unit_test(members_without_a_processor_do_not_spin),
        cmocka_unit_test(members_that_slept_between_runs_wake_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
