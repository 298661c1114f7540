/* test_cuda_attend.c - attention of many rows on a GPU (attend_many.cuh) is the reference's.
 *
 * Weights are f32, which every step multiplies in f32, so that what differs is attention: queries
 * and weights rounded to 16 bits.  Sessions are fed in chunks and one by one, through windows that
 * go round their ring, and every logit is compared.  Errors are relative to the largest logit of a
 * row.  Runs on the GPU that libcuda.so.1 knows, as test_cuda.c does.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "backend/backend.h"

#include "base/compiler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "made_model.h"

enum { MAX_SLOTS = 6, MAX_ROWS = 160 };

/* Tiles round queries and weights to the 16 bits of the store once, 11 or 8 of them significant;
 * parts have both as hi + lo; a store of 16 bits rounds a key the other way now and then. */
static const double CLOSE = 3e-3, CLOSE_BF16 = 1.2e-2;

/* TWINS: features turn in neighbouring pairs.  TURNS: rows see fewer pins and recent keys than they
 * could, each others. */
typedef struct rig {
    const char *name;
    int n_heads, n_kv_heads, head_dim;
    int store; /* weir_type */
    int pins, window;
    int slots;         /* sessions */
    int chunk, prompt; /* the first one is fed so many tokens a step until it has as many */
    int end;           /* then each gets one token a step, until the first one has as many */
    uint64_t start;    /* stream position of the first token behind the pins */
    enum { NONE, ALIBI, TWINS, TURNS } trait;
} rig;

static backend *open_one(const rig *g, made *model, const char *name) {
    backend *out;
    weir_error err = {0};
    char reason[BACKEND_REASON];
    const kv_shape store = {.type = (weir_type)g->store,
                            .n_layers = model->shape.n_layers,
                            .n_kv_heads = g->n_kv_heads,
                            .head_dim = g->head_dim,
                            .slots = MAX_SLOTS,
                            .pins = MAX_OF(g->pins, 1),
                            .ring = g->window - g->pins + g->chunk - 1};
    const backend_options o = {.threads = 1, .cache = BINARY_DIR "/kernels"};
    if (backend_open(&out, name, model->plan, &store, &o, reason, &err))
        fail_msg("%s", err.message);
    return out;
}

static batch_row row_of(const rig *g, int slot, int t, int vocab) {
    batch_row row = {.token = (t * 29 + slot * 11 + t * t) % vocab, .slot = slot};
    if (t < g->pins) {
        row.pos = (uint64_t)t, row.p = (uint32_t)t, row.pins = t + 1, row.is_pin = true;
        return row;
    }
    row.pos = g->start + (uint64_t)(t - g->pins);
    row.pins = g->pins;
    row.recent = MIN_OF(t - g->pins + 1, g->window - g->pins);
    if (g->trait == TURNS) row.recent = 1 + t * 37 % row.recent, row.pins = t * 5 % (g->pins + 1);
    row.p = (uint32_t)(row.pins + row.recent - 1);
    return row;
}

static double compare(const backend *a, const backend *b, int n, int vocab) {
    double worst = 0;
    for (int i = 0; i < n; i++) {
        const float *x = a->api->logits(a, i), *y = b->api->logits(b, i);
        double most = 0, off = 0;
        for (int k = 0; k < vocab; k++) {
            if (!isfinite(y[k])) return INFINITY;
            most = fmax(most, fabs((double)x[k]));
            off = fmax(off, fabs((double)x[k] - (double)y[k]));
        }
        worst = fmax(worst, off / most);
    }
    return worst;
}

/* One step of both: tokens [from, to) of the first session, one of each other. */
static double feed(const rig *g, backend *a, backend *b, int from, int to, int step, int vocab) {
    batch_row rows[MAX_ROWS];
    batch_group groups[MAX_SLOTS];
    int wanted[MAX_ROWS], n = 0;
    for (int slot = 0; slot < g->slots; slot++) {
        const int first = slot ? step : from, last = slot ? step + 1 : to;
        groups[slot] = (batch_group){.slot = slot, .first = n, .n = last - first};
        for (int t = first; t < last; t++, n++) {
            rows[n] = row_of(g, slot, t, vocab);
            wanted[n] = n;
        }
    }
    const batch all = {.rows = rows,
                       .groups = groups,
                       .wanted = wanted,
                       .n = n,
                       .n_groups = g->slots,
                       .n_wanted = n};
    weir_error err = {0};
    if (a->api->step(a, &all, &err) || b->api->step(b, &all, &err)) fail_msg("%s", err.message);
    return compare(a, b, n, vocab);
}

static void check(const rig *g) {
    const made_shape shape = {.type = TENSOR_F32,
                              .dim = 16,
                              .ffn_dim = 16,
                              .n_layers = 1,
                              .n_heads = g->n_heads,
                              .n_kv_heads = g->n_kv_heads,
                              .head_dim = g->head_dim,
                              .vocab = 16,
                              .rope_dims = g->trait == ALIBI ? 0 : g->head_dim,
                              .interleaved = g->trait == TWINS,
                              .alibi = g->trait == ALIBI};
    made *model = made_new(&shape, MAX_ROWS, MAX_ROWS);
    backend *a = open_one(g, model, "ref"), *b = open_one(g, model, "cuda");
    double worst = 0;
    for (int at = 0, next, step = 0; at < g->end; at = next, step++) {
        next = at < g->prompt ? MIN_OF(at + g->chunk, g->prompt) : at + 1;
        worst = fmax(worst, feed(g, a, b, at, next, step, shape.vocab));
    }
    printf("%-36s %.2g\n", g->name, worst), fflush(stdout);
    if (!(worst <= (g->store == WEIR_BF16 ? CLOSE_BF16 : CLOSE))) {
        fail_msg("%s: off by %g", g->name, worst);
    }
    a->api->close(a);
    b->api->close(b);
    made_free(model);
}

static void check_all(const rig *all, size_t n) {
    for (size_t i = 0; i < n; i++) check(&all[i]);
}

enum { F16 = WEIR_F16, BF16 = WEIR_BF16, INT8 = WEIR_INT8, FP8 = WEIR_FP8 };
#define FAR (1ull << 40)

/* name, heads, K/V heads, features, store, pins, window, sessions, chunk, prompt, end, start */
static void chunks_of_a_prompt_give_the_reference(void **state) {
    (void)state;
    // clang-format off
    static const rig all[] = {
        {"chunks of 5",                  2, 2,  16, F16,   4,   12, 1,   5,   40,   40, 1000, NONE},
        {"chunks of 7, no pins",         2, 1,  32, F16,   0,   30, 1,   7,   63,   63, 1000, NONE},
        {"chunks of 64, 4 heads on 1",   4, 1,  16, F16,   1,   30, 1,  64,  200,  200, 1000, NONE},
        {"chunks of 150, 37 pins",       2, 2,  16, F16,  37,  100, 1, 150,  300,  300, 999, NONE},
        {"chunks of 33, 70 pins",        2, 1,  16, F16,  70,  170, 1,  33,  231,  231, 50, NONE},
        {"6 heads on 2, other sessions", 6, 2,  48, F16,   4,   30, 3,  21,   63,   63, 7, NONE},
        {"8 heads on 1, heads of 128",   8, 1, 128, F16,   4,   20, 1,  15,   30,   30, 7, NONE},
        {"bf16",                         2, 1,  80, BF16,  4,   70, 1,  30,  120,  120, 7, NONE},
        {"int8, 37 pins",                2, 1,  64, INT8, 37,   90, 1,  40,  120,  120, 7, NONE},
        {"fp8",                          2, 2,  80, FP8,   4,   40, 1,  25,   75,   75, 7, NONE},
        {"heads of 256",                 2, 1, 256, F16,   4,   40, 1,  25,   50,   50, 7, NONE},
        {"int8, heads of 192",           4, 2, 192, INT8,  4,   20, 1,  15,   30,   30, 7, NONE},
        {"ALiBi",                        4, 2,  16, F16,   4,   70, 1,  40,  120,  120, 7, ALIBI},
        {"interleaved",                  4, 2,  16, F16,   4,   40, 1,  40,   80,   80, 7, TWINS},
        {"rows that see less",           2, 1,  16, F16,   9,  100, 1, 100,  300,  300, 7, TURNS},
        {"position 2^40",                2, 1,  16, F16,   4,   80, 1,  50,  200,  200, FAR, NONE},
    };
    // clang-format on
    check_all(all, COUNT_OF(all));
}

static void many_sessions_give_the_reference(void **state) {
    (void)state;
    // clang-format off
    static const rig all[] = {
        {"6 sessions",                   2, 2,  16, F16,   4,   20, 6,   1,    0,   30, 1000, NONE},
        {"8 heads on 1, no pins",        8, 1,  32, F16,   0,   40, 6,  20,   40,   50, 30, NONE},
        {"6 heads on 2, 37 pins",        6, 2,  64, F16,  37,   60, 6,  40,   80,   90, 30, NONE},
        {"bf16, heads of 128",           2, 2, 128, BF16,  1,   20, 5,  20,   20,   30, 5, NONE},
        {"parts",                        2, 1,  16, F16,   4, 1300, 5, 150, 1295, 1310, 77, NONE},
        {"int8",                         4, 2,  64, INT8, 20,   60, 5,  40,   50,   70, 7, NONE},
        {"fp8, interleaved",             2, 2,  80, FP8,   4,   40, 5,  20,   20,   50, 7, TWINS},
        {"int8 alone",                   2, 1, 192, INT8,  1,   20, 5,   1,    0,   30, 7, NONE},
        {"heads of 256",                 4, 1, 256, F16,   4,   20, 5,   1,    0,   30, 7, NONE},
        {"ALiBi",                        4, 2,  16, F16,   4,   30, 5,  30,   30,   40, 7, ALIBI},
        {"rows that see less",           2, 1,  16, F16,   9,   50, 6,  50,  100,  120, 7, TURNS},
        {"position 2^40",                2, 1,  16, F16,   4,   50, 5,  50,  100,  110, FAR, NONE},
    };
    // clang-format on
    check_all(all, COUNT_OF(all));
}

/* A step of few keys has fewer rounds than a real GPU has blocks. */
static void few_keys_on_many_blocks_give_the_reference(void **state) {
    (void)state;
    static const rig few = {"6 sessions of 5 tokens", 4, 2, 16, F16, 2, 20, 6, 1, 0, 5, 30, NONE};
    setenv("FAKE_GPU_BLOCKS", "20", 1);
    check(&few);
    unsetenv("FAKE_GPU_BLOCKS");
}

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_of_a_prompt_give_the_reference),
        cmocka_unit_test(many_sessions_give_the_reference),
        cmocka_unit_test(few_keys_on_many_blocks_give_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
