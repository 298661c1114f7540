/* thread.c - the team of thread.h: pthreads, a generation counter, a sense-reversing barrier.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "base/thread.h"

#include "base/arena.h"
#include "base/compiler.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { SPINS = 20000 }; /* some 20 us; beyond that the others are not running */

typedef struct member {
    team *team;
    int ith;
    pthread_t thread;
} member;

struct team {
    int n;
    bool is_alone; /* the current run is the caller's only                              */
    team_fn *fn;   /* of the current run; written before generation moves */
    void *user;
    _Alignas(64) atomic_uint generation; /* runs started                                    */
    _Alignas(64) atomic_int arrived;     /* at the current barrier                          */
    _Alignas(64) atomic_uint phase;      /* barriers passed                                 */
    atomic_int stopping;
    pthread_mutex_t mutex; /* guards nothing but the two sleeps below                       */
    pthread_cond_t moved;  /* generation or phase moved                                     */
    member members[];      /* [n]; 0 is the caller                                          */
};

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Waits until *counter is no longer old: spins, then sleeps. */
static void wait_moved(team *t, atomic_uint *counter, unsigned old) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(counter, memory_order_acquire) != old) return;
        relax();
    }
    pthread_mutex_lock(&t->mutex);
    while (atomic_load_explicit(counter, memory_order_acquire) == old) {
        pthread_cond_wait(&t->moved, &t->mutex);
    }
    pthread_mutex_unlock(&t->mutex);
}

/* The mutex is taken so that a waiter cannot miss the move between its check and its sleep. */
static void move(team *t, atomic_uint *counter) {
    pthread_mutex_lock(&t->mutex);
    atomic_fetch_add_explicit(counter, 1, memory_order_release);
    pthread_cond_broadcast(&t->moved);
    pthread_mutex_unlock(&t->mutex);
}

void team_barrier(team *t) {
    if (t->n == 1 || t->is_alone) return;
    const unsigned phase = atomic_load_explicit(&t->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&t->arrived, 1, memory_order_acq_rel) == t->n - 1) {
        atomic_store_explicit(&t->arrived, 0, memory_order_relaxed);
        move(t, &t->phase);
    } else {
        wait_moved(t, &t->phase, phase);
    }
}

static void *work(void *user) {
    member *m = user;
    team *t = m->team;
    for (unsigned seen = 0;; seen++) {
        wait_moved(t, &t->generation, seen);
        if (atomic_load_explicit(&t->stopping, memory_order_acquire)) return NULL;
        t->fn(t->user, m->ith, t->n);
        team_barrier(t);
    }
}

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
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->moved, NULL);
    for (int i = 1; i < n; i++) {
        t->members[i] = (member){.team = t, .ith = i};
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
    atomic_store_explicit(&t->stopping, 1, memory_order_release);
    move(t, &t->generation);
    for (int i = 1; i < t->n; i++) pthread_join(t->members[i].thread, NULL);
    pthread_cond_destroy(&t->moved);
    pthread_mutex_destroy(&t->mutex);
    mem_free(t);
}

int team_size(const team *t) {
    return t->n;
}

void team_run(team *t, team_fn *fn, void *user) {
    t->fn = fn;
    t->user = user;
    if (t->n > 1) move(t, &t->generation);
    fn(user, 0, t->n);
    team_barrier(t);
}

void team_run_alone(team *t, team_fn *fn, void *user) {
    t->is_alone = true;
    fn(user, 0, 1);
    t->is_alone = false;
}
