/* test_thread.c - a team runs a function on every member and barriers order what they write.
 *
 * SPDX-License-Identifier: MIT */
#include "base/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { ROUNDS = 2000, MEMBERS = 3 };

typedef struct job {
    team *team;
    int slots[MEMBERS];
    int failures[MEMBERS];
} job;

static void every_member_sees_every_write(void *user, int ith, int nth) {
    job *j = user;
    for (int round = 1; round <= ROUNDS; round++) {
        j->slots[ith] = round;
        team_barrier(j->team);
        for (int i = 0; i < nth; i++) j->failures[ith] += j->slots[i] != round;
        team_barrier(j->team);
    }
}

static void barriers_order_what_members_write(void **state) {
    (void)state;
    job j = {.team = team_new(MEMBERS)};
    assert_int_equal(team_size(j.team), MEMBERS);
    for (int run = 0; run < 3; run++) team_run(j.team, every_member_sees_every_write, &j);
    for (int i = 0; i < MEMBERS; i++) assert_int_equal(j.failures[i], 0);
    team_free(j.team);
}

static void a_team_of_one_is_the_caller(void **state) {
    (void)state;
    job j = {.team = team_new(1)};
    team_run(j.team, every_member_sees_every_write, &j);
    assert_int_equal(j.slots[0], ROUNDS);
    team_free(j.team);
}

static void work_for_one_wakes_nobody_and_waits_for_nobody(void **state) {
    (void)state;
    job j = {.team = team_new(MEMBERS)};
    team_run_alone(j.team, every_member_sees_every_write, &j);
    assert_int_equal(j.slots[0], ROUNDS);
    for (int i = 1; i < MEMBERS; i++) assert_int_equal(j.slots[i], 0);
    team_run(j.team, every_member_sees_every_write, &j);
    for (int i = 0; i < MEMBERS; i++) assert_int_equal(j.slots[i], ROUNDS);
    team_free(j.team);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(barriers_order_what_members_write),
        cmocka_unit_test(a_team_of_one_is_the_caller),
        cmocka_unit_test(work_for_one_wakes_nobody_and_waits_for_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
