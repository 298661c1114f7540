/* thread.c - the team of thread.h: pthreads that claim shares of numbered phases.
 *
 * Phases are numbered through the life of the team.  A run is the numbers [base, end):
 *
 *     phase    the one being worked on; phase == end: nothing to do
 *     claims   claims[i] == phase: share i is free; phase + 1: somebody's.  Since every share of
 *              every phase is claimed once, a thread that comes back late with an old number in
 *              hand cannot claim anything with it.
 *     left     shares of the phase that are not done; whoever finishes the last one opens the next
 *
 * fn, user and base are read only after a claim succeeded: then the run cannot end before the share
 * is done, so they stand still.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "base/thread.h"

#include "base/arena.h"
#include "base/compiler.h"
#include "base/machine.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

/* Waking a sleeper takes some 50 us; whoever is not done by then is not running. */
static const double SPIN_SECONDS = 50e-6;

enum { LINE = 64 }; /* what different threads write lies on different cache lines */

typedef struct member {
    atomic_ullong claim; /* of the share with this index */
    team *team;
    int ith;
    pthread_t thread;
    char apart[LINE];
} member;

struct team {
    int n;
    double spin_seconds; /* 0 when there are fewer processors than members */
    phase_fn *fn;        /* of the run; written before `end` moves */
    void *user;
    unsigned long long base;
    atomic_ullong end;
    atomic_int sleepers, stopping;
    char apart_before[LINE];
    atomic_ullong phase;
    char apart_behind[LINE];
    atomic_int left;
    pthread_mutex_t mutex; /* guards nothing but sleeping */
    pthread_cond_t moved;  /* phase, end or stopping changed */
    member members[];      /* [n]; 0 is the caller */
};

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* ---- waiting */

typedef bool condition(const team *t, unsigned long long number);

static bool has_left_phase(const team *t, unsigned long long phase) {
    return atomic_load(&t->phase) != phase;
}

static bool has_run(const team *t, unsigned long long end) {
    return atomic_load(&t->end) != end || atomic_load(&t->stopping);
}

/* Looks again and again for a while; false: it did not happen in time. */
static bool spin(const team *t, condition *is_met, unsigned long long number) {
    enum { LOOKS = 64 }; /* between two looks at the clock */
    if (t->spin_seconds == 0) return false;
    for (double start = 0;;) {
        for (int i = 0; i < LOOKS; i++) {
            if (is_met(t, number)) return true;
            relax();
        }
        const double now = machine_clock();
        if (start == 0) start = now;
        if (now - start > t->spin_seconds) return false;
    }
}

static void wait_until(team *t, condition *is_met, unsigned long long number) {
    if (spin(t, is_met, number)) return;
    pthread_mutex_lock(&t->mutex);
    atomic_fetch_add(&t->sleepers, 1);
    while (!is_met(t, number)) pthread_cond_wait(&t->moved, &t->mutex);
    atomic_fetch_sub(&t->sleepers, 1);
    pthread_mutex_unlock(&t->mutex);
}

/* Called after a change: either the sleeper counted itself before it looked, or it saw the change.
 */
static void wake(team *t) {
    if (atomic_load(&t->sleepers) == 0) return;
    pthread_mutex_lock(&t->mutex);
    pthread_cond_broadcast(&t->moved);
    pthread_mutex_unlock(&t->mutex);
}

/* ---- shares */

static bool claim(team *t, int share, unsigned long long phase) {
    unsigned long long expected = phase;
    atomic_ullong *c = &t->members[share].claim;
    return atomic_load_explicit(c, memory_order_relaxed) == phase &&
           atomic_compare_exchange_strong(c, &expected, phase + 1);
}

static void finish_share(team *t, unsigned long long phase) {
    if (atomic_fetch_sub(&t->left, 1) != 1) return;
    atomic_store(&t->left, t->n);
    atomic_store(&t->phase, phase + 1);
    wake(t);
}

/* Works on phases before `end` as long as there is something to claim, and waits for the others
 * where there is not; returns when the run is over. */
static void take_part(team *t, int ith, unsigned long long end) {
    unsigned long long phase;
    while ((phase = atomic_load(&t->phase)) < end) {
        for (int i = 0; i < t->n; i++) {
            const int share = (ith + i) % t->n;
            if (!claim(t, share, phase)) continue;
            t->fn(t->user, (int)(phase - t->base), share, t->n);
            finish_share(t, phase);
        }
        wait_until(t, has_left_phase, phase);
    }
}

static void *work(void *user) {
    member *m = user;
    team *t = m->team;
    for (unsigned long long seen = 0;;) {
        wait_until(t, has_run, seen);
        if (atomic_load(&t->stopping)) return NULL;
        seen = atomic_load(&t->end);
        take_part(t, m->ith, seen);
    }
}

void team_phases(team *t, int n_phases, phase_fn *fn, void *user) {
    if (t->n == 1) {
        for (int p = 0; p < n_phases; p++) fn(user, p, 0, 1);
        return;
    }
    t->fn = fn;
    t->user = user;
    t->base = atomic_load(&t->phase);
    const unsigned long long end = t->base + (unsigned long long)n_phases;
    assert(t->base == atomic_load(&t->end));
    atomic_store(&t->end, end);
    wake(t);
    take_part(t, 0, end);
}

typedef struct single { /* a run of one phase */
    team_fn *fn;
    void *user;
} single;

static void run_single(void *user, int phase, int ith, int nth) {
    const single *s = user;
    (void)phase;
    s->fn(s->user, ith, nth);
}

void team_run(team *t, team_fn *fn, void *user) {
    team_phases(t, 1, run_single, &(single){fn, user});
}

/* ---- life */

int cpu_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return MAX_OF(1, CPU_COUNT(&set));
}

team *team_new(int n) {
    if (n <= 0) n = cpu_count();
    team *t = mem_alloc(sizeof *t + (size_t)n * sizeof t->members[0]);
    if (!t) return NULL;
    t->n = 1;
    t->spin_seconds = n <= cpu_count() ? SPIN_SECONDS : 0;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->moved, NULL);
    atomic_store(&t->left, n);
    for (int i = 1; i < n; i++) {
        t->members[i].team = t;
        t->members[i].ith = i;
        if (pthread_create(&t->members[i].thread, NULL, work, &t->members[i]) != 0) {
            team_free(t);
            return NULL;
        }
        t->n = i + 1;
    }
    return t;
}

void team_free(team *t) {
    if (!t) return;
    atomic_store(&t->stopping, 1);
    wake(t);
    for (int i = 1; i < t->n; i++) pthread_join(t->members[i].thread, NULL);
    pthread_cond_destroy(&t->moved);
    pthread_mutex_destroy(&t->mutex);
    mem_free(t);
}

int team_size(const team *t) {
    return t->n;
}
