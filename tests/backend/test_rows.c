/* test_rows.c - norms, activations and sums of the CPU back end against double, at every level.
 *
 * Tolerances: a norm sums up to some thousand squares in short chains, 1e-6; an activation is a few
 * roundings, 1e-6 relative wherever the result is a normal float.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/rows.h"

#include "backend/cpu/cpu.h"
#include "base/arena.h"
#include "base/half.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two before it */
#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <string.h>

static float uniform(rng *r) {
    return (float)(rng_uniform(r) * 2 - 1);
}

/* ---- activations */

static double exactly(nn_act act, double x) {
    switch (act) {
    case NN_SILU: return x < 0 ? x * exp(x) / (1 + exp(x)) : x / (1 + exp(-x));
    case NN_GELU: return x * 0.5 * erfc(-x * 0.70710678118654752440);
    case NN_GELU_TANH: {
        const double u = 2 * 0.79788456080286535588 * (x + 0.044715 * x * x * x);
        return u < 0 ? x * exp(u) / (1 + exp(u)) : x / (1 + exp(-u));
    }
    case NN_RELU: return x > 0 ? x : 0;
    case NN_N_ACTS: break;
    }
    return NAN;
}

/* Error of y relative to the exact value, or where its exponential is denormal to the largest such
 * value. */
static double error_of(nn_act act, float x, float y) {
    const double e = exactly(act, (double)x);
    return fabs((double)y - e) / fmax(fabs(e), (double)FLT_MIN * (1 + fabs((double)x)));
}

/* In a negative tail the argument of the exponential, -x^2 / 2 or about -x^3 / 14, is itself
 * rounded: what that costs relative to the value grows with it, while the value falls much faster.
 */
static double allowed(nn_act act, float x) {
    const double a = x < 0 ? -(double)x : 0;
    if (act == NN_GELU) return 1e-6 + 1e-7 * a * a;
    if (act == NN_GELU_TANH) return 1e-6 + 2e-7 * (1.6 * a + a * a * a / 14);
    return 1e-6;
}

static void check_act(const row_kernels *k, nn_act act, const float *x, int n) {
    float y[64];
    assert_true(n <= 64);
    k->act(act, y, x, n);
    for (int i = 0; i < n; i++) {
        if (!(error_of(act, x[i], y[i]) <= allowed(act, x[i]))) {
            fail_msg("act %d of %.9g: %.9g, exactly %.9g", (int)act, (double)x[i], (double)y[i],
                     exactly(act, (double)x[i]));
        }
    }
}

static void activations_are_exact_over_all_magnitudes(void **state) {
    (void)state;
    for (int level = 0; level < CPU_N_LEVELS; level++) {
        if (!cpu_level_runs((cpu_level)level)) continue;
        for (int act = 0; act < NN_N_ACTS; act++) {
            /* every 4099th float of either sign up to 2^100, 57 at a time for the tails */
            float x[57];
            for (uint32_t bits = 0; bits < 0x71800000u; bits += 57 * 4099) {
                for (uint32_t i = 0; i < 57; i++) {
                    x[i] = bits_float((bits + i * 4099) | (i & 1) << 31);
                }
                check_act(cpu_rows((cpu_level)level), (nn_act)act, x, 57);
            }
            for (int i = -4000; i < 4000; i += 57) {
                for (int j = 0; j < 57; j++) x[j] = (float)(i + j) * 0.005f;
                check_act(cpu_rows((cpu_level)level), (nn_act)act, x, 57);
            }
        }
    }
}

static void activations_of_nan_are_nan_and_of_infinity_what_they_tend_to(void **state) {
    (void)state;
    for (int level = 0; level < CPU_N_LEVELS; level++) {
        if (!cpu_level_runs((cpu_level)level)) continue;
        for (int act = 0; act < NN_N_ACTS; act++) {
            const float x[5] = {NAN, INFINITY, -0.0f, 0, FLT_MAX};
            float y[5];
            cpu_act_row((cpu_level)level, (nn_act)act, y, x, 5);
            assert_true(isnan(y[0]));
            assert_true(y[1] == INFINITY && y[2] == 0 && y[3] == 0 && y[4] == FLT_MAX);
        }
    }
}

static void a_gate_is_an_activation_times_the_other_half(void **state) {
    (void)state;
    rng r = {3};
    float g[83], u[83], y[83], a[83];
    for (int i = 0; i < 83; i++) g[i] = 8 * uniform(&r), u[i] = uniform(&r);
    for (int level = 0; level < CPU_N_LEVELS; level++) {
        if (!cpu_level_runs((cpu_level)level)) continue;
        for (int act = 0; act < NN_N_ACTS; act++) {
            cpu_act_row((cpu_level)level, (nn_act)act, a, g, 83);
            cpu_gate_row((cpu_level)level, (nn_act)act, y, g, u, 83);
            for (int i = 0; i < 83; i++) assert_true(y[i] == a[i] * u[i]);
        }
    }
}

/* ---- norms */

enum { WIDEST = 5000 };

typedef struct norm_case {
    plan_norm m;
    int n;
    float x[WIDEST], weight[WIDEST], bias[WIDEST];
} norm_case;

static norm_case *make_case(int group, int groups, bool is_layer, bool has_bias) {
    norm_case *c = mem_alloc(sizeof *c);
    rng r = {(uint64_t)group};
    c->n = group * groups;
    for (int i = 0; i < c->n; i++) c->x[i] = uniform(&r) + 0.5f;
    for (int i = 0; i < group; i++) c->weight[i] = uniform(&r), c->bias[i] = uniform(&r);
    c->m = (plan_norm){.weight = c->weight, .eps = 1e-5f, .group = group, .is_layer = is_layer};
    if (has_bias) c->m.bias = c->bias;
    return c;
}

/* The largest error of y in group g, relative to the largest value there. */
static double norm_error(const norm_case *c, int g, const float *y) {
    const int n = c->m.group;
    const float *x = c->x + g * n;
    double mean = 0, squares = 0, worst = 0, most = 0;
    for (int i = 0; i < n && c->m.is_layer; i++) mean += (double)x[i] / n;
    for (int i = 0; i < n; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean) / n;
    for (int i = 0; i < n; i++) {
        double e = ((double)x[i] - mean) / sqrt(squares + (double)c->m.eps) * (double)c->weight[i];
        if (c->m.bias) e += (double)c->bias[i];
        worst = fmax(worst, fabs(e - (double)y[g * n + i]));
        most = fmax(most, fabs(e));
    }
    return worst / most;
}

static void norms_are_exact_for_every_width_and_group(void **state) {
    (void)state;
    static const int shapes[][2] = {{1, 3},  {7, 2},   {16, 4},   {64, 8},  {65, 1},
                                    {80, 3}, {288, 1}, {2048, 2}, {4999, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int kind = 0; kind < 3; kind++) {
            norm_case *c = make_case(shapes[i][0], shapes[i][1], kind > 0, kind > 1);
            for (int level = 0; level < CPU_N_LEVELS; level++) {
                if (!cpu_level_runs((cpu_level)level)) continue;
                float y[WIDEST];
                cpu_norm_row((cpu_level)level, y, c->x, &c->m, c->n);
                for (int g = 0; g < shapes[i][1]; g++) {
                    if (c->m.group == 1 && kind > 0) continue; /* 0 / 0 variance: eps decides */
                    assert_true(norm_error(c, g, y) <= 1e-6);
                }
                float in_place[WIDEST];
                memcpy(in_place, c->x, sizeof in_place);
                cpu_norm_row((cpu_level)level, in_place, in_place, &c->m, c->n);
                assert_memory_equal(in_place, y, (size_t)c->n * sizeof *y);
            }
            mem_free(c);
        }
    }
}

/* ---- operations of a plan */

enum { ROWS = 5, FEATURES = 1100, WANTED = 3 };

typedef struct rig { /* a host with two inputs and an output */
    host h;
    cpu cpu;
    plan plan;
    plan_tensor tensors[3];
    batch batch;
    plan_op op;
} rig;

static const int wanted[WANTED] = {0, 3, 4};

static rig *rig_new(nn_op kind, int threads) {
    rig *g = mem_alloc(sizeof *g);
    rng r = {9};
    g->plan.tensors = g->tensors;
    for (int i = 0; i < 3; i++) {
        const int stride = (FEATURES + 15) / 16 * 16;
        g->tensors[i] = (plan_tensor){.features = FEATURES, .stride = stride, .base = i};
        g->tensors[i].offset = (size_t)i * ROWS * (size_t)stride * sizeof(float);
    }
    g->tensors[2].selected = kind == NN_WANTED;
    g->plan.arena_bytes = 3 * g->tensors[1].offset;
    g->cpu.features = cpu_features_of(cpu_level_best());
    g->h = (host){.plan = &g->plan, .private = &g->cpu, .batch = &g->batch};
    g->h.arena = mem_alloc(g->plan.arena_bytes);
    g->h.team = team_new(threads);
    g->batch = (batch){.n = ROWS, .wanted = wanted, .n_wanted = WANTED};
    g->op = (plan_op){.kind = kind, .in = {0, 1}, .n_in = 2, .out = 2};
    float *x = (float *)(void *)g->h.arena;
    for (size_t i = 0; i < g->plan.arena_bytes / sizeof *x; i++) x[i] = 4 * uniform(&r);
    return g;
}

static void rig_free(rig *g) {
    team_free(g->h.team);
    mem_free(g->h.arena);
    mem_free(g);
}

static void work(void *user, int ith, int nth) {
    static host_op *const ops[NN_N_OPS] = {
        [NN_NORMALIZE] = cpu_normalize, [NN_GATE] = cpu_gate, [NN_ACTIVATE] = cpu_activate,
        [NN_CLAMP] = cpu_clamp,         [NN_ADD] = cpu_add,   [NN_WANTED] = cpu_wanted};
    rig *g = user;
    ops[g->op.kind](&g->h, &g->op, ith, nth);
}

static void sums_and_clamps_are_exact_on_any_team(void **state) {
    (void)state;
    for (int threads = 1; threads <= 7; threads += 3) {
        rig *add = rig_new(NN_ADD, threads), *clamp = rig_new(NN_CLAMP, threads);
        clamp->op.bound = 1.5f;
        team_run(add->h.team, work, add);
        team_run(clamp->h.team, work, clamp);
        for (int r = 0; r < ROWS; r++) {
            for (int i = 0; i < FEATURES; i++) {
                const float a = host_row(&add->h, 0, r)[i], b = host_row(&add->h, 1, r)[i];
                assert_true(host_row(&add->h, 2, r)[i] == a + b);
                assert_true(host_row(&clamp->h, 2, r)[i] == fmaxf(-1.5f, fminf(1.5f, a)));
            }
        }
        rig_free(add);
        rig_free(clamp);
    }
}

static void wanted_takes_the_rows_asked_for(void **state) {
    (void)state;
    rig *g = rig_new(NN_WANTED, 2);
    team_run(g->h.team, work, g);
    for (int i = 0; i < WANTED; i++) {
        assert_memory_equal(host_row(&g->h, 2, i), host_row(&g->h, 0, wanted[i]),
                            FEATURES * sizeof(float));
    }
    rig_free(g);
}

static void operations_are_the_row_kernels_on_any_team(void **state) {
    (void)state;
    const cpu_level level = cpu_level_best();
    norm_case *c = make_case(FEATURES / 10, 10, true, true);
    for (int threads = 1; threads <= 7; threads += 3) {
        rig *norm = rig_new(NN_NORMALIZE, threads), *gate = rig_new(NN_GATE, threads);
        rig *act = rig_new(NN_ACTIVATE, threads);
        norm->op.norm = c->m;
        gate->op.act = NN_SILU, act->op.act = NN_GELU;
        rig *const all[3] = {norm, gate, act};
        for (int i = 0; i < 3; i++) team_run(all[i]->h.team, work, all[i]);
        for (int r = 0; r < ROWS; r++) {
            float y[FEATURES];
            const float *x = host_row(&norm->h, 0, r);
            cpu_norm_row(level, y, x, &c->m, FEATURES);
            assert_memory_equal(y, host_row(&norm->h, 2, r), sizeof y);
            cpu_gate_row(level, NN_SILU, y, x, host_row(&norm->h, 1, r), FEATURES);
            assert_memory_equal(y, host_row(&gate->h, 2, r), sizeof y);
            cpu_act_row(level, NN_GELU, y, x, FEATURES);
            assert_memory_equal(y, host_row(&act->h, 2, r), sizeof y);
        }
        for (int i = 0; i < 3; i++) rig_free(all[i]);
    }
    mem_free(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_are_exact_over_all_magnitudes),
        cmocka_unit_test(activations_of_nan_are_nan_and_of_infinity_what_they_tend_to),
        cmocka_unit_test(a_gate_is_an_activation_times_the_other_half),
        cmocka_unit_test(norms_are_exact_for_every_width_and_group),
        cmocka_unit_test(sums_and_clamps_are_exact_on_any_team),
        cmocka_unit_test(wanted_takes_the_rows_asked_for),
        cmocka_unit_test(operations_are_the_row_kernels_on_any_team),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
