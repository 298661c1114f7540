/* kernels.c - how fast the CPU's matrix products run, alone, beside the memory they read.
 *
 *     kernels [THREADS [LEVEL]]
 *
 * Shapes of Llama-3.2-1B, random panels of every format.  For one row: bytes of weights per second
 * and the share of the measured read bandwidth.  For 512 rows: multiply-adds per second, and what
 * that is in tokens per second for all 16 layers.  Best of a few passes: other programs only ever
 * make it slower.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "backend/cpu/cpu.h"
#include "base/arena.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MANY = 512, N_SHAPES = 5, LAYERS = 16, SCRATCH = 2 << 20 };

static const size_t READ_BYTES = (size_t)1 << 30;

static const struct shape {
    const char *name;
    int rows, cols, per_layer; /* 0: the head, once per token */
} shapes[N_SHAPES] = {
    {"qkv", 3072, 2048, 1},  {"o", 2048, 2048, 1},      {"gate|up", 16384, 2048, 1},
    {"down", 2048, 8192, 1}, {"head", 128256, 2048, 0},
};

/* weir_measure_bandwidth by this program's clock. */
typedef struct reading {
    team *team;
    read_fn *read;
    char *data;
    _Atomic uint64_t sum;
} reading;

typedef struct bench {
    team *team;
    cpu_matrix matrices[LAYERS][N_SHAPES]; /* layers so that no cache holds a token's weights */
    int layers;
    char *x, *scratch; /* inputs; SCRATCH bytes of each member */
    float *y;
    int n;
    int from, to; /* shapes */
    reading reading;
} bench;

/* One thread is timed by the processor time it got, so that other programs hardly matter. */
static clockid_t which_clock = CLOCK_MONOTONIC;

static double seconds(void) {
    struct timespec t;
    clock_gettime(which_clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Random bits that are modest numbers in every format: no NaN, no denormals. */
static void fill(char *data, size_t bytes) {
    rng r = {bytes};
    for (size_t i = 0; i + 8 <= bytes; i += 8) {
        const uint64_t word = (rng_next(&r) & 0x83ff83ff83ff83ffu) | 0x3000300030003000u;
        memcpy(data + i, &word, 8);
    }
}

static void step(void *user, int phase, int ith, int nth) {
    const bench *b = user;
    const int per_layer = b->to - b->from;
    const cpu_matrix *m = &b->matrices[phase / per_layer][b->from + phase % per_layer];
    const project_job j = {.m = m,
                           .x = b->x,
                           .scratch = b->scratch + (size_t)ith * SCRATCH,
                           .n = b->n,
                           .y = b->y,
                           .y_stride = (size_t)m->rows};
    int from, to;
    host_share(m->n_panels, ith, nth, &from, &to);
    cpu_project_panels(&j, from, to);
}

static double best_of(bench *b, int passes) {
    double best = 1e9;
    for (int i = 0; i < passes; i++) {
        const double start = seconds();
        team_phases(b->team, b->layers * (b->to - b->from), step, b);
        const double took = seconds() - start;
        if (took < best) best = took;
    }
    return best;
}

static void read_part(void *user, int ith, int nth) {
    reading *r = user;
    const size_t part = READ_BYTES / (size_t)nth / 512 * 512;
    r->sum += r->read(r->data + (size_t)ith * part, part);
}

static double bandwidth_of(reading *r) {
    double best = 0;
    for (int i = 0; i < 3; i++) {
        const double start = seconds();
        team_run(r->team, read_part, r);
        const double rate = (double)READ_BYTES / (seconds() - start);
        if (rate > best) best = rate;
    }
    return best;
}

static cpu_matrix make_matrix(const cpu_features *f, pack_format format, const struct shape *s) {
    cpu_matrix m = {0};
    cpu_matrix_shape(&m, s->rows, s->cols, format, f);
    m.panels = mem_map((size_t)m.n_panels * m.panel_bytes);
    if (!m.panels) exit(1);
    fill(m.panels, (size_t)m.n_panels * m.panel_bytes);
    return m;
}

static void run_format(bench *b, const cpu_features *f, pack_format format) {
    double bytes = 0, macs = 0;
    for (int l = 0; l < b->layers; l++) {
        for (int s = 0; s < N_SHAPES - 1; s++) {
            b->matrices[l][s] = make_matrix(f, format, &shapes[s]);
            bytes += (double)b->matrices[l][s].panel_bytes * b->matrices[l][s].n_panels;
            macs += (double)shapes[s].rows * shapes[s].cols;
        }
    }
    b->from = 0;
    b->to = N_SHAPES - 1;
    b->n = 1;
    double one = 1e9, bandwidth = 0;
    for (int i = 0; i < 3; i++) { /* side by side: both change from second to second */
        const double rate = bandwidth_of(&b->reading), took = best_of(b, 6);
        if (rate > bandwidth) bandwidth = rate;
        if (took < one) one = took;
    }
    printf("%-16s %6.2f of %6.2f GB/s %5.1f %%", pack_format_name(format), bytes / one * 1e-9,
           bandwidth * 1e-9, 100 * bytes / one / bandwidth);
    for (int n = 4; n <= 16; n *= 4) {
        b->n = n;
        printf("  x%d %5.1f %%", n, 100 * bytes / best_of(b, 4) / bandwidth);
    }
    b->n = MANY;
    const double many = best_of(b, 3);
    const double rate = macs * MANY / many;
    printf("  %7.1f GMAC/s  %6.1f tok/s", rate * 1e-9, rate / (macs / b->layers * LAYERS));
    for (int s = 0; s < N_SHAPES - 1; s++) {
        b->from = s;
        b->to = s + 1;
        const double t = best_of(b, 2);
        printf("  %s %.0f", shapes[s].name,
               (double)shapes[s].rows * shapes[s].cols * b->layers * MANY / t * 1e-9);
    }
    printf("\n");
    fflush(stdout);
    for (int l = 0; l < b->layers; l++) {
        for (int s = 0; s < N_SHAPES - 1; s++) {
            const cpu_matrix *m = &b->matrices[l][s];
            mem_unmap(m->panels, (size_t)m->n_panels * m->panel_bytes);
        }
    }
}

int main(int argc, char **argv) {
    const int threads = argc > 1 ? atoi(argv[1]) : 0;
    const int level = cpu_level_find(argc > 2 ? argv[2] : NULL);
    if (level < 0) return 2;
    if (threads == 1) which_clock = CLOCK_THREAD_CPUTIME_ID;
    const cpu_features f = cpu_features_of((cpu_level)level);
    static bench b;
    b.team = team_new(threads);
    if (!b.team) return 1;
    b.layers = 4;
    const size_t x_bytes = (size_t)(MANY + 64) * 8192 * 5;
    b.x = mem_map(x_bytes);
    b.scratch = mem_map((size_t)team_size(b.team) * SCRATCH);
    b.y = mem_map((size_t)MANY * 16384 * sizeof(float));
    if (!b.x || !b.scratch || !b.y) return 1;
    fill(b.x, x_bytes);
    b.reading = (reading){.team = b.team, .read = cpu_read_find(&f), .data = mem_map(READ_BYTES)};
    if (!b.reading.data) return 1;
    memset(b.reading.data, 1, READ_BYTES);
    for (int format = 0; format < PACK_N_FORMATS; format++) {
        if (argc > 3 && strcmp(argv[3], pack_format_name((pack_format)format)) != 0) continue;
        run_format(&b, &f, (pack_format)format);
    }
    printf("%s\n", f.text);
    team_free(b.team);
    return 0;
}
