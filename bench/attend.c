/* attend.c - how fast the CPU attends, alone, beside what it reads and multiplies.
 *
 *     attend [THREADS [LEVEL [PART OF A NAME]]]
 *
 * decode: one row against a full window, all layers' keys and values in turn so that no cache
 * holds them; bytes of keys and values per second beside the measured read bandwidth.
 * prefill: a chunk of rows, per layer; multiply-adds of the two inner products that the mask leaves
 * (two operations each), beside the multiply-adds that registers alone sustain.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "backend/cpu/attend.h"
#include "backend/cpu/peak.h"
#include "base/arena.h"
#include "base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct shape {
    const char *name;
    int n_heads, n_kv_heads, head_dim, layers;
    int pins, window;  /* pins and recent rows */
    int rows, history; /* of the step; rows in the cache before it */
    weir_type type;
} shape;

static const shape SHAPES[] = {
    {"1B decode f32", 32, 8, 64, 16, 4, 2048, 1, 4096, WEIR_F32},
    {"1B decode f16", 32, 8, 64, 16, 4, 2048, 1, 4096, WEIR_F16},
    {"1B decode bf16", 32, 8, 64, 16, 4, 2048, 1, 4096, WEIR_BF16},
    {"1B decode int8", 32, 8, 64, 16, 4, 2048, 1, 4096, WEIR_INT8},
    {"1B decode fp8", 32, 8, 64, 16, 4, 2048, 1, 4096, WEIR_FP8},
    {"7B decode f16", 32, 32, 128, 8, 4, 2048, 1, 4096, WEIR_F16},
    {"8B decode f16", 32, 8, 128, 16, 4, 2048, 1, 4096, WEIR_F16},
    {"1B prefill 512 f16", 32, 8, 64, 4, 4, 2048, 512, 0, WEIR_F16},
    {"1B prefill 256 full f16", 32, 8, 64, 4, 4, 2048, 256, 4096, WEIR_F16},
    {"small chunk 256 of 512 f16", 8, 2, 64, 4, 4, 512, 256, 4096, WEIR_F16},
    {"small chunk 256 of 1024 f16", 8, 2, 64, 4, 4, 1024, 256, 4096, WEIR_F16},
    {"small chunk 256 of 1024 f32", 8, 2, 64, 4, 4, 1024, 256, 4096, WEIR_F32},
    {"small chunk 256 of 1024 int8", 8, 2, 64, 4, 4, 1024, 256, 4096, WEIR_INT8},
    {"small chunk 256 of 1024 fp8", 8, 2, 64, 4, 4, 1024, 256, 4096, WEIR_FP8},
    {"7B prefill 256 full f16", 32, 32, 128, 2, 4, 2048, 256, 4096, WEIR_F16},
};

typedef struct rig { /* a host made by hand around one attention operation */
    host h;
    plan plan;
    plan_tensor tensors[4]; /* q, k, v, y */
    plan_op op;
    batch batch;
    batch_group group;
    batch_row *rows;
    int layers;
    cpu_level level;
} rig;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void make_plan(rig *g, const shape *s) {
    plan *p = &g->plan;
    p->tensors = g->tensors;
    p->max_rows = s->rows;
    p->attention = (nn_attention){.n_heads = s->n_heads,
                                  .n_kv_heads = s->n_kv_heads,
                                  .head_dim = s->head_dim,
                                  .scale = 1 / sqrtf((float)s->head_dim)};
    rope_make(&p->rope, &(nn_rope){.dims = s->head_dim, .theta = 10000});
    for (int i = 0; i < 4; i++) {
        const int features = (i == 1 || i == 2 ? s->n_kv_heads : s->n_heads) * s->head_dim;
        g->tensors[i] = (plan_tensor){.features = features, .stride = features, .base = i};
        g->tensors[i].offset = p->arena_bytes;
        p->arena_bytes += (size_t)features * (size_t)s->rows * sizeof(float);
    }
    g->op = (plan_op){.kind = NN_ATTEND, .in = {0, 1}, .v = 2, .out = 3};
    g->op.attention = p->attention;
}

static void make_host(rig *g, const shape *s, team *members) {
    const kv_shape kv = {.type = s->type,
                         .n_layers = s->layers,
                         .n_kv_heads = s->n_kv_heads,
                         .head_dim = s->head_dim,
                         .slots = 1,
                         .pins = s->pins,
                         .ring = s->window - s->pins + s->rows - 1};
    host *h = &g->h;
    h->plan = &g->plan;
    h->team = members;
    h->arena = mem_map(g->plan.arena_bytes);
    h->workspace_bytes = cpu_attend_workspace(&g->plan, &kv, team_size(members));
    h->workspace = mem_map(h->workspace_bytes);
    h->cos_pos = mem_array((size_t)s->rows * 4, sizeof(float) * (size_t)s->head_dim);
    if (kv_init(&h->kv, &kv, true, NULL) != WEIR_OK || !h->arena || !h->workspace || !h->cos_pos) {
        fprintf(stderr, "no memory for %s\n", s->name);
        exit(1);
    }
    const size_t table = (size_t)s->rows * (size_t)g->plan.rope.pairs;
    h->sin_pos = h->cos_pos + table;
    h->cos_pin = h->sin_pos + table;
    h->sin_pin = h->cos_pin + table;
}

static void make_batch(rig *g, const shape *s) {
    host *h = &g->h;
    const size_t pairs = (size_t)g->plan.rope.pairs;
    g->rows = mem_array((size_t)s->rows, sizeof *g->rows);
    for (int r = 0; r < s->rows; r++) {
        batch_row *row = &g->rows[r];
        row->pos = (uint64_t)(s->history + r);
        row->pins = s->history ? s->pins : 0;
        const int recent = s->history + r + 1, most = s->window - s->pins;
        row->recent = recent < most ? recent : most;
        row->p = (uint32_t)(row->pins + row->recent - 1);
        rope_phases(&g->plan.rope, row->pos, h->cos_pos + (size_t)r * pairs,
                    h->sin_pos + (size_t)r * pairs);
        rope_phases(&g->plan.rope, row->p, h->cos_pin + (size_t)r * pairs,
                    h->sin_pin + (size_t)r * pairs);
    }
    g->group = (batch_group){.n = s->rows};
    g->batch = (batch){.rows = g->rows, .groups = &g->group, .n = s->rows, .n_groups = 1};
    h->batch = &g->batch;
}

static void fill(rig *g, const shape *s) {
    rng r = {1};
    float *x = (float *)(void *)g->h.arena;
    for (size_t i = 0; i < g->plan.arena_bytes / sizeof *x; i++) {
        x[i] = (float)(rng_uniform(&r) * 2 - 1);
    }
    for (int layer = 0; layer < s->layers; layer++) {
        for (int i = 0; i < 2 * s->n_kv_heads; i++) {
            const float *row = x + (size_t)(i + layer) % 32;
            const int is_v = i / s->n_kv_heads, head = i % s->n_kv_heads;
            for (int j = 0; j < g->h.kv.shape.ring; j++) {
                kv_put_ring(&g->h.kv, 0, layer, is_v, head, j, row);
            }
            for (int j = 0; j < s->pins; j++) kv_put_pin(&g->h.kv, 0, layer, is_v, head, j, row);
        }
    }
}

static void step(void *user, int phase, int ith, int nth) {
    rig *g = user;
    plan_op op = g->op;
    op.attention.layer = phase / 2;
    (phase % 2 ? cpu_attend_at : cpu_attend_before_at)(g->level, &g->h, &op, ith, nth);
}

static double best_of(rig *g, double budget) {
    double best = 1e9;
    const double end = seconds() + budget;
    for (int i = 0; i < 5 || seconds() < end; i++) {
        const double start = seconds();
        team_phases(g->h.team, 2 * g->layers, step, g);
        const double took = seconds() - start;
        best = took < best ? took : best;
    }
    return best;
}

static void measure(const shape *s, team *members, cpu_level level, double bandwidth, double peak) {
    rig *g = mem_alloc(sizeof *g);
    g->layers = s->layers;
    g->level = level;
    make_plan(g, s);
    make_host(g, s, members);
    make_batch(g, s);
    fill(g, s);
    const double t = best_of(g, 1) / s->layers;
    double keys = 0;
    for (int r = 0; r < s->rows; r++) keys += g->rows[r].pins + g->rows[r].recent;
    if (s->rows == 1) {
        const double bytes = (keys * (double)kv_row_bytes(&g->h.kv, false)) / s->layers;
        printf("%-30s %8.3f ms a layer  %6.1f GB/s   %4.0f %% of %.1f\n", s->name, t * 1e3,
               bytes / t * 1e-9, bytes / t / bandwidth * 100, bandwidth * 1e-9);
    } else {
        const double flops = keys * s->n_heads * s->head_dim * 4;
        printf("%-30s %8.3f ms a layer  %6.1f GFLOP/s %3.0f %% of %.1f\n", s->name, t * 1e3,
               flops / t * 1e-9, flops / t / peak * 100, peak * 1e-9);
    }
    kv_clear(&g->h.kv);
    mem_unmap(g->h.arena, g->plan.arena_bytes);
    mem_unmap(g->h.workspace, g->h.workspace_bytes);
    mem_free(g->h.cos_pos);
    mem_free(g->rows);
    mem_free(g);
}

int main(int argc, char **argv) {
    const int level = cpu_level_find(argc > 2 ? argv[2] : NULL);
    team *members = team_new(argc > 1 ? atoi(argv[1]) : 0);
    if (level < 0 || !members) {
        fprintf(stderr, "usage: attend [THREADS [LEVEL [PART OF A NAME]]]\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
        if (argc > 3 && !strstr(SHAPES[i].name, argv[3])) continue;
        /* both yardsticks anew each time: neighbours come and go */
        measure(&SHAPES[i], members, (cpu_level)level, weir_measure_bandwidth(team_size(members)),
                cpu_peak(members, (cpu_level)level));
    }
    team_free(members);
    return 0;
}
