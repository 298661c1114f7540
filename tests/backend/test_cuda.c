/* test_cuda.c - the CUDA back end gives the logits of the reference.
 *
 * Runs on the GPU that libcuda.so.1 knows: in CI one that is emulated (cuda_fake.c), by hand a real
 * one.  Random models of every weight type, store type and trait go through the same batches on
 * both back ends: prompts in chunks, then single tokens of several sessions, long enough for rings
 * to go round.  Errors are relative to the largest logit of a row.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "backend/backend.h"
#include "backend/cuda/stage.h"

#include "base/compiler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "made_model.h"

enum { SLOTS = 2, MOST_SLOTS = 6, MAX_ROWS = 300, PROMPT = 17, STEPS = 14, PINS = 3 };

static const made_shape LLAMA = {.type = TENSOR_BF16,
                                 .dim = 64,
                                 .ffn_dim = 96,
                                 .n_layers = 2,
                                 .n_heads = 4,
                                 .n_kv_heads = 2,
                                 .head_dim = 16,
                                 .vocab = 72,
                                 .rope_dims = 16};

/* f32 sums in another order, and inputs of products as two 16-bit numbers: f16 has 22 bits of
 * them, bf16 16; as two bytes, where weights are levels, 16 bits of the largest of 32.  A store of
 * 16 bits or 8 rounds a key the other way now and then.  Steps of more than CUDA_TOKENS rows round
 * inputs to 16 bits, f16 has 11 bits of them, bf16 8, and levels times scales, which here have
 * minima larger than weights, to f16.  A key that is off by 1e-3 is rounded the other way by fp8,
 * whose numbers are 6 to 12 % apart, one time in a hundred. */
static const double CLOSE = 2e-5, CLOSE_BF16 = 2e-4, CLOSE_LEVELS = 3e-4, CLOSE_STORE = 2e-3;
static const double CLOSE_MANY = 1e-2, CLOSE_MANY_BF16 = 2e-2, CLOSE_MANY_FP8 = 4e-2;

typedef struct rig {
    made *model;
    kv_shape store;
    int window;
    uint64_t start;  /* stream position of a session's first token behind the pins */
    int prompt, end; /* tokens fed in chunks, tokens in all */
    int salt;        /* of the tokens of all sessions but the first */
    backend *a, *b;
    batch_row rows[MAX_ROWS];
    batch_group groups[MOST_SLOTS];
    int wanted[MAX_ROWS];
    double worst;
} rig;

static backend *open_one(const rig *g, const char *name, weir_type weights) {
    backend *out;
    weir_error err = {0};
    char reason[BACKEND_REASON];
    const backend_options o = {.threads = 1, .weights = weights, .cache = BINARY_DIR "/kernels"};
    if (backend_open(&out, name, g->model->plan, &g->store, &o, reason, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    return out;
}

static rig rig_open_window(const made_shape *shape, int window, weir_type store, const char *name,
                           const char *twin) {
    rig g = {.model = made_new(shape, MAX_ROWS, MAX_ROWS),
             .window = window,
             .start = 1000,
             .prompt = PROMPT,
             .end = PROMPT + STEPS};
    g.store = (kv_shape){.type = store,
                         .n_layers = shape->n_layers,
                         .n_kv_heads = shape->n_kv_heads,
                         .head_dim = shape->head_dim,
                         .slots = MOST_SLOTS,
                         .pins = PINS,
                         .ring = g.window - PINS + MAX_ROWS - 1};
    g.a = open_one(&g, twin, WEIR_TYPE_DEFAULT);
    g.b = open_one(&g, name, WEIR_TYPE_DEFAULT);
    return g;
}

static rig rig_open(const made_shape *shape, weir_type store, const char *name, const char *twin) {
    return rig_open_window(shape, 12, store, name, twin);
}

static void rig_close(rig *g) {
    g->a->api->close(g->a);
    g->b->api->close(g->b);
    made_free(g->model);
}

static batch_row row_of(const rig *g, int slot, int t) {
    batch_row row = {.token = t * 29 + slot * 11 + t * t, .slot = slot};
    row.token = (row.token + (slot ? g->salt : 0)) % g->model->shape.vocab;
    if (t < PINS) {
        row.pos = (uint64_t)t, row.p = (uint32_t)t, row.pins = t + 1, row.is_pin = true;
    } else {
        const int recent = MIN_OF(t - PINS + 1, g->window - PINS);
        row.pos = g->start + (uint64_t)(t - PINS);
        row.p = (uint32_t)(PINS + recent - 1), row.pins = PINS, row.recent = recent;
    }
    return row;
}

static void compare(rig *g, int n_wanted) {
    for (int i = 0; i < n_wanted; i++) {
        const float *a = g->a->api->logits(g->a, i), *b = g->b->api->logits(g->b, i);
        double most = 0, off = 0;
        for (int k = 0; k < g->model->shape.vocab; k++) {
            if (!isfinite(b[k])) off = INFINITY;
            most = fmax(most, fabs((double)a[k]));
            off = fmax(off, fabs((double)a[k] - (double)b[k]));
        }
        g->worst = fmax(g->worst, off / most);
    }
}

/* Tokens [from, to) of sessions [0, slots) as one step; the logits of every other row. */
static void feed(rig *g, int slots, int from, int to) {
    int n = 0, n_wanted = 0;
    for (int slot = 0; slot < slots; slot++) {
        g->groups[slot] = (batch_group){.slot = slot, .first = n, .n = to - from};
        for (int t = from; t < to; t++, n++) {
            g->rows[n] = row_of(g, slot, t);
            if (n % 2 == 0) g->wanted[n_wanted++] = n;
        }
    }
    const batch all = {.rows = g->rows,
                       .groups = g->groups,
                       .wanted = g->wanted,
                       .n = n,
                       .n_groups = slots,
                       .n_wanted = n_wanted};
    weir_error err = {0};
    if (g->a->api->step(g->a, &all, &err) || g->b->api->step(g->b, &all, &err)) {
        fail_msg("%s", err.message);
    }
    compare(g, n_wanted);
}

/* A prompt in chunks, then tokens one by one. */
static void run(rig *g, int chunk) {
    for (int at = 0; at < g->prompt; at += chunk) feed(g, SLOTS, at, MIN_OF(at + chunk, g->prompt));
    for (int t = g->prompt; t < g->end; t++) feed(g, 1 + t % SLOTS, t, t + 1);
}

static void check(const char *what, const made_shape *shape, weir_type store, const char *name,
                  int chunk, double tolerance) {
    rig g = rig_open(shape, store, name, "ref");
    if (shape->dim > 64) g.prompt = 8, g.end = 10; /* emulated kernels are slow */
    run(&g, chunk);
    printf("%-32s %-10s chunk %2d   %.2g\n", what, name, chunk, g.worst);
    if (!(g.worst <= tolerance)) fail_msg("%s: off by %g, at most %g", what, g.worst, tolerance);
    rig_close(&g);
}

static double tolerance_of(tensor_type type, int rows) {
    const bool is_many = rows > CUDA_TOKENS;
    if (type == TENSOR_F32) return CLOSE;
    if (type == TENSOR_BF16) return is_many ? CLOSE_MANY_BF16 : CLOSE_BF16;
    return is_many ? CLOSE_MANY : type == TENSOR_F16 ? CLOSE : CLOSE_LEVELS;
}

static void every_weight_type_gives_the_reference(void **state) {
    (void)state;
    for (int type = 0; type < TENSOR_N_TYPES; type++) {
        made_shape s = LLAMA;
        s.type = (tensor_type)type;
        s.dim = 256, s.ffn_dim = 256, s.n_layers = 1, s.vocab = 70;
        s.n_heads = 2, s.n_kv_heads = 1, s.head_dim = s.rope_dims = 128;
        const char *name = tensor_type_name(s.type);
        check(name, &s, WEIR_F32, "cuda", 2, tolerance_of(s.type, SLOTS * 2));
        check(name, &s, WEIR_F32, "cuda", 8, tolerance_of(s.type, SLOTS * 8));
        check(name, &s, WEIR_F32, "cuda-plain", 8, tolerance_of(s.type, 1));
    }
}

static void every_store_type_gives_the_reference(void **state) {
    (void)state;
    static const weir_type types[] = {WEIR_F32, WEIR_F16, WEIR_BF16, WEIR_INT8, WEIR_FP8};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        char what[32];
        snprintf(what, sizeof what, "store %d", (int)types[i]);
        made_shape s = LLAMA;
        s.type = TENSOR_F16;
        check(what, &s, types[i], "cuda", 1, types[i] == WEIR_F32 ? CLOSE : CLOSE_STORE);
        check(what, &s, types[i], "cuda-ops", 2, types[i] == WEIR_F32 ? CLOSE : CLOSE_STORE);
        check(what, &s, types[i], "cuda-ops", 5,
              types[i] == WEIR_FP8 ? CLOSE_MANY_FP8 : CLOSE_MANY);
        s.head_dim = s.rope_dims = i % 2 ? 64 : 32; /* keys of 16 bits as tiles */
        s.n_heads = 4, s.n_kv_heads = i % 2 ? 1 : 4;
        for (int rows = 1; rows <= 2; rows++) {
            check(what, &s, types[i], "cuda", rows, types[i] == WEIR_F32 ? CLOSE : CLOSE_STORE);
        }
    }
}

static void every_trait_of_a_family_gives_the_reference(void **state) {
    (void)state;
    made_shape s = LLAMA;
    s.type = TENSOR_F32;
    s.interleaved = true, s.rope_dims = 8, s.tied = true;
    check("interleaved, partly, tied", &s, WEIR_F32, "cuda", 7, CLOSE);
    s = LLAMA, s.type = TENSOR_F32;
    s.rope_dims = 0, s.alibi = true, s.layer_norm = s.bias = s.no_gate = s.clamp = true;
    s.act = NN_GELU;
    check("ALiBi, layer norm, clamp", &s, WEIR_F32, "cuda", 7, CLOSE);
    s.type = TENSOR_F16, s.ffn_dim = 1600; /* a row that does not stay in registers */
    check("the same in f16", &s, WEIR_F32, "cuda", 7, CLOSE_MANY);
    s = LLAMA, s.bias = true, s.ffn_dim = 128; /* tiles with rows that are not there */
    check("gate and up with biases", &s, WEIR_F32, "cuda", 9, CLOSE_MANY_BF16);
    s = LLAMA, s.type = TENSOR_F16;
    s.qk_norm = s.loose = true, s.act = NN_GELU_TANH, s.n_heads = 6, s.n_kv_heads = 1;
    check("q/k norm, loose, 6 heads on 1", &s, WEIR_F32, "cuda", 2, CLOSE);
    check("q/k norm, loose, 6 heads on 1", &s, WEIR_F32, "cuda", 7, CLOSE_MANY);
    s = LLAMA, s.type = TENSOR_F16;
    s.loose = s.no_gate = true, s.act = NN_RELU, s.n_kv_heads = 4;
    s.dim = 40, s.ffn_dim = 56, s.head_dim = 10, s.rope_dims = 10, s.vocab = 50;
    check("odd sizes, loose, ReLU", &s, WEIR_F32, "cuda", 2, CLOSE);
    check("odd sizes, loose, ReLU", &s, WEIR_F32, "cuda", 7, CLOSE_MANY);
}

/* Keys of 16 bits as tiles, whole ones and the rest; a row alone, and few. */
static void keys_enough_for_whole_tiles_give_the_reference(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        made_shape s = LLAMA;
        s.head_dim = s.rope_dims = i ? 128 : 64;
        s.n_heads = i ? 2 : 4, s.n_kv_heads = i ? 2 : 1, s.n_layers = 1;
        rig g = rig_open_window(&s, 330, i ? WEIR_BF16 : WEIR_F16, "cuda", "ref");
        for (int t = 0; t < 280; t += 4) feed(&g, 1, t, t + 4);
        for (int t = 280; t < 283; t++) feed(&g, 1, t, t + 1);
        printf("heads of %d   %.2g\n", s.head_dim, g.worst);
        assert_true(g.worst <= CLOSE_STORE);
        rig_close(&g);
    }
}

/* Tiles of 32, 64, 128 and 256 tokens, and three of 128. */
static void tiles_of_every_width_give_the_reference(void **state) {
    (void)state;
    static const int chunks[] = {20, 50, 120, 250, MAX_ROWS};
    made_shape s = LLAMA;
    s.n_layers = 1;
    for (size_t i = 0; i < COUNT_OF(chunks); i++) {
        s.type = i % 2 ? TENSOR_BF16 : TENSOR_F16;
        s.ffn_dim = i % 2 ? 256 : 160; /* BF16: act(gate) * up becomes the next image at once */
        rig g = rig_open(&s, WEIR_F32, "cuda", "ref");
        feed(&g, 1, 0, chunks[i]);
        printf("a chunk of %d   %.2g\n", chunks[i], g.worst);
        assert_true(g.worst <= (i % 2 ? CLOSE_MANY_BF16 : CLOSE_MANY));
        rig_close(&g);
    }
}

/* Of f16 weights only where values are f16 too. */
static void attention_becomes_the_next_image(void **state) {
    (void)state;
    static const weir_type stores[] = {WEIR_F16, WEIR_BF16, WEIR_INT8};
    made_shape s = LLAMA;
    s.n_layers = 1, s.n_heads = 8, s.head_dim = s.rope_dims = 32;
    for (size_t i = 0; i < 2 * COUNT_OF(stores); i++) {
        s.type = i % 2 ? TENSOR_BF16 : TENSOR_F16;
        rig g = rig_open(&s, stores[i / 2], "cuda", "ref");
        feed(&g, MOST_SLOTS, 0, 11);
        feed(&g, 2, 11, 40);
        feed(&g, MOST_SLOTS, 11, 12);
        printf("image of attention, %d in store %d   %.2g\n", (int)s.type, (int)stores[i / 2],
               g.worst);
        assert_true(g.worst <= CLOSE_MANY_BF16);
        rig_close(&g);
    }
}

/* Tiles enough that a block finishes several groups of them. */
static void blocks_with_many_tiles_give_the_reference(void **state) {
    (void)state;
    static const tensor_type types[] = {TENSOR_BF16, TENSOR_Q8_0, TENSOR_Q4_0};
    setenv("FAKE_GPU_BLOCKS", "2", 1);
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        made_shape s = LLAMA;
        s.n_layers = 1, s.type = types[i], s.vocab = 400;
        s.dim = i == 0 ? 128 : 512; /* a block of k for every warp */
        rig g = rig_open(&s, WEIR_F16, "cuda", "ref");
        for (int t = 0; t < 3; t++) feed(&g, 1, t, t + 1);
        printf("%-8s %.2g\n", tensor_type_name(types[i]), g.worst);
        assert_true(g.worst <= CLOSE_LEVELS);
        rig_close(&g);
    }
    unsetenv("FAKE_GPU_BLOCKS");
}

/* Blocks with as many warps as on real GPUs, so that a row alone has its own kernel, where a block
 * has a unit of attention at most.  The store's ring goes round meanwhile, amid a split. */
static void all_warps_of_a_block_give_the_reference(void **state) {
    (void)state;
    enum { FEW = CUDA_TOKENS, ALONE = 6 };
    static const tensor_type types[] = {TENSOR_BF16, TENSOR_Q8_0, TENSOR_Q4_0};
    static const struct {
        const char *blocks;
        int dim, n_kv_heads, window;
        weir_type store;
    } cases[] = {{"9", 512, 1, 48, WEIR_F16},  /* keys in splits */
                 {"2", 64, 1, 16, WEIR_INT8},  /* some warps have no share */
                 {"2", 64, 2, 16, WEIR_BF16}}; /* as many heads as blocks: `walk` */
    setenv("FAKE_GPU_THREADS", "640", 1);
    for (size_t i = 0; i < COUNT_OF(types) * COUNT_OF(cases); i++) {
        const size_t k = i % COUNT_OF(cases);
        const int few = cases[k].window + FEW;
        made_shape s = LLAMA;
        s.type = types[i / COUNT_OF(cases)], s.n_layers = k ? 2 : 1;
        s.dim = cases[k].dim, s.ffn_dim = 512, s.vocab = 400;
        s.n_heads = 2, s.n_kv_heads = cases[k].n_kv_heads, s.head_dim = s.rope_dims = 64;
        setenv("FAKE_GPU_BLOCKS", cases[k].blocks, 1);
        rig g = rig_open_window(&s, cases[k].window, cases[k].store, "cuda", "ref");
        g.start = 3 * (uint64_t)g.store.ring - (uint64_t)(few - PINS) + 3;
        for (int t = 0; t < few; t += FEW) feed(&g, 1, t, t + FEW);
        for (int t = few; t < few + ALONE; t++) feed(&g, 1, t, t + 1);
        printf("%-8s %3d wide, %d heads   %.2g\n", tensor_type_name(s.type), s.dim, s.n_kv_heads,
               g.worst);
        assert_true(g.worst <= (cases[k].store == WEIR_INT8 ? CLOSE_MANY : CLOSE_STORE));
        rig_close(&g);
    }
    unsetenv("FAKE_GPU_BLOCKS");
    unsetenv("FAKE_GPU_THREADS");
}

/* A row alone from its first token on, with blocks as large: every split but one is empty, and some
 * inputs are made the long way round. */
static void young_rows_alone_give_the_reference(void **state) {
    (void)state;
    static const struct {
        tensor_type type;
        weir_type store;
    } cases[] = {{TENSOR_F16, WEIR_F16},  {TENSOR_Q4_K, WEIR_INT8}, {TENSOR_Q5_K, WEIR_F16},
                 {TENSOR_Q6_K, WEIR_F32}, {TENSOR_F32, WEIR_FP8},   {TENSOR_Q4_1, WEIR_BF16}};
    setenv("FAKE_GPU_THREADS", "640", 1);
    setenv("FAKE_GPU_BLOCKS", "4", 1);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        made_shape s = LLAMA;
        s.type = cases[i].type, s.n_layers = 1, s.dim = s.ffn_dim = 512;
        s.n_heads = 4, s.n_kv_heads = 1, s.head_dim = s.rope_dims = 64;
        rig g = rig_open(&s, cases[i].store, "cuda", "ref");
        for (int t = 0; t < PINS + 5; t++) feed(&g, 1, t, t + 1);
        printf("%-8s alone, store %d   %.2g\n", tensor_type_name(s.type), (int)cases[i].store,
               g.worst);
        assert_true(g.worst <= (cases[i].store == WEIR_FP8    ? CLOSE_MANY_FP8
                                : cases[i].store == WEIR_INT8 ? CLOSE_MANY
                                                              : CLOSE_STORE));
        rig_close(&g);
    }
    unsetenv("FAKE_GPU_BLOCKS");
    unsetenv("FAKE_GPU_THREADS");
}

/* Blocks of twelve warps, as real GPUs have for many rows: four of them copy, whole tiles of keys
 * by rows that lie side by side. */
static void warps_that_copy_together_give_the_reference(void **state) {
    (void)state;
    static const weir_type stores[] = {WEIR_F16, WEIR_BF16, WEIR_INT8};
    setenv("FAKE_GPU_THREADS", "384", 1);
    setenv("FAKE_GPU_BLOCKS", "5", 1);
    for (size_t i = 0; i < COUNT_OF(stores); i++) {
        made_shape s = LLAMA;
        s.n_layers = 1, s.n_heads = 2, s.head_dim = s.rope_dims = 64;
        s.type = i == 1 ? TENSOR_BF16 : TENSOR_F16;
        if (i == 1) s.dim = s.ffn_dim = 128; /* whole chunks: norms are folded, and others scale */
        rig g = rig_open_window(&s, 330, stores[i], "cuda", "ref");
        feed(&g, MOST_SLOTS, 0, 2);
        feed(&g, 1, 2, 140);
        feed(&g, 1, 140, 150);
        printf("four copy, store %d   %.2g\n", (int)stores[i], g.worst);
        assert_true(g.worst <= (i == 1 ? CLOSE_MANY_BF16 : CLOSE_MANY));
        rig_close(&g);
    }
    unsetenv("FAKE_GPU_BLOCKS");
    unsetenv("FAKE_GPU_THREADS");
}

/* Rows that a block of 256 threads reads in two turns, a few of them in a step. */
static void rows_of_two_turns_give_the_reference(void **state) {
    (void)state;
    static const tensor_type types[] = {TENSOR_BF16, TENSOR_Q8_0, TENSOR_Q4_0};
    setenv("FAKE_GPU_THREADS", "256", 1);
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        made_shape s = LLAMA;
        s.n_layers = 1, s.type = types[i], s.dim = 4160;
        rig g = rig_open(&s, WEIR_F32, "cuda", "ref");
        feed(&g, 1, 0, 4);
        feed(&g, 2, 4, 5);
        feed(&g, 1, 5, 6);
        feed(&g, 1, 6, 9);
        printf("%-8s two turns   %.2g\n", tensor_type_name(s.type), g.worst);
        assert_true(g.worst <= CLOSE_LEVELS);
        rig_close(&g);
    }
    unsetenv("FAKE_GPU_THREADS");
}

/* On a GPU with more multiprocessors than a product has chunks, as real ones are. */
static void blocks_without_work_do_no_harm(void **state) {
    (void)state;
    static const int chunks[] = {1, 7, 20};
    made_shape s = LLAMA;
    s.n_layers = 1, s.ffn_dim = 320, s.type = TENSOR_F16;
    setenv("FAKE_GPU_BLOCKS", "9", 1);
    for (size_t i = 0; i < COUNT_OF(chunks); i++) {
        rig g = rig_open(&s, WEIR_F32, "cuda", "ref");
        feed(&g, 1, 0, chunks[i]);
        printf("a chunk of %d on 9 blocks   %.2g\n", chunks[i], g.worst);
        assert_true(g.worst <= CLOSE_MANY);
        rig_close(&g);
    }
    unsetenv("FAKE_GPU_BLOCKS");
}

/* Blocks that share a tile, of widths with one, two, four and eight groups of tokens; rows of k
 * that do not divide evenly. */
static void clusters_of_blocks_give_the_reference(void **state) {
    (void)state;
    static const int chunks[] = {3, 8, 10};
    setenv("FAKE_GPU_BLOCKS", "11", 1);
    for (size_t i = 0; i < 2 * COUNT_OF(chunks); i++) {
        made_shape s = LLAMA;
        s.n_layers = 2, s.n_heads = 8, s.dim = i < 2 ? 320 : 384;
        s.ffn_dim = i % 4 < 2 ? 640 : 128;
        s.type = i % 2 ? TENSOR_BF16 : TENSOR_Q8_0;
        rig g = rig_open(&s, WEIR_F16, "cuda", "ref");
        feed(&g, MOST_SLOTS, 0, chunks[i / 2]);
        feed(&g, MOST_SLOTS, chunks[i / 2], chunks[i / 2] + 1);
        printf("%-8s clusters, %2d rows   %.2g\n", tensor_type_name(s.type),
               MOST_SLOTS * chunks[i / 2], g.worst);
        assert_true(g.worst <= (i % 2 ? CLOSE_MANY_BF16 : CLOSE_MANY));
        rig_close(&g);
    }
    unsetenv("FAKE_GPU_BLOCKS");
}

/* Weights whose products meet at barriers, and those whose values are tagged. */
static const tensor_type both_ways[] = {TENSOR_F32, TENSOR_BF16, TENSOR_Q4_0};

/* The whole step as one kernel and stage by stage: the same code, so the same bits.  Tagged steps
 * come one after the other and with others between. */
static void the_whole_step_equals_its_stages_bit_for_bit(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(both_ways); i++) {
        made_shape s = LLAMA;
        s.type = both_ways[i];
        rig g = rig_open(&s, WEIR_F16, "cuda", "cuda-ops");
        run(&g, 3);
        for (int t = g.end; t < g.end + 4; t++) feed(&g, 1, t, t + 1);
        assert_true(g.worst == 0);
        rig_close(&g);
    }
}

/* A row alone and the same row among others, in a step that is one kernel. */
static void a_row_of_few_does_not_depend_on_the_others(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(both_ways); i++) {
        made_shape s = LLAMA;
        s.type = both_ways[i];
        rig g = rig_open(&s, WEIR_F16, "cuda", "cuda");
        float alone[STEPS][128];
        for (int at = 0; at < PROMPT; at += 3) feed(&g, 1, at, MIN_OF(at + 3, PROMPT));
        for (int t = PROMPT; t < PROMPT + STEPS; t++) {
            feed(&g, 1, t, t + 1);
            memcpy(alone[t - PROMPT], g.a->api->logits(g.a, 0),
                   (size_t)LLAMA.vocab * sizeof(float));
        }
        for (int at = 0; at < PROMPT; at += 2) feed(&g, 2, at, MIN_OF(at + 2, PROMPT));
        for (int t = PROMPT; t < PROMPT + STEPS; t++) {
            feed(&g, 2, t, t + 1);
            assert_memory_equal(alone[t - PROMPT], g.a->api->logits(g.a, 0),
                                (size_t)LLAMA.vocab * sizeof(float));
        }
        rig_close(&g);
    }
}

/* The same row in steps of as many rows, whose other rows differ. */
static void a_row_of_many_depends_on_how_many_there_are_alone(void **state) {
    (void)state;
    rig g = rig_open(&LLAMA, WEIR_F16, "cuda", "cuda");
    float first[STEPS][128];
    for (g.salt = 0; g.salt < 2; g.salt++) {
        for (int at = 0; at < PROMPT; at += 4) feed(&g, MOST_SLOTS, at, MIN_OF(at + 4, PROMPT));
        for (int t = PROMPT; t < PROMPT + STEPS; t++) {
            feed(&g, MOST_SLOTS, t, t + 1);
            const float *logits = g.a->api->logits(g.a, 0);
            const size_t bytes = (size_t)LLAMA.vocab * sizeof(float);
            if (g.salt) assert_memory_equal(first[t - PROMPT], logits, bytes);
            memcpy(first[t - PROMPT], logits, bytes);
        }
    }
    rig_close(&g);
}

static void far_along_a_stream_nothing_changes(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        rig g = rig_open(&LLAMA, WEIR_F32, i ? "cuda" : "cuda-ops", "ref");
        g.start = ((uint64_t)1 << 40) + 7;
        run(&g, 2);
        assert_true(g.worst <= CLOSE_BF16);
        rig_close(&g);
    }
}

/* test_cuda [PATTERN]: all, or those whose names fit. */
int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_weight_type_gives_the_reference),
        cmocka_unit_test(every_store_type_gives_the_reference),
        cmocka_unit_test(every_trait_of_a_family_gives_the_reference),
        cmocka_unit_test(the_whole_step_equals_its_stages_bit_for_bit),
        cmocka_unit_test(a_row_of_few_does_not_depend_on_the_others),
        cmocka_unit_test(a_row_of_many_depends_on_how_many_there_are_alone),
        cmocka_unit_test(keys_enough_for_whole_tiles_give_the_reference),
        cmocka_unit_test(tiles_of_every_width_give_the_reference),
        cmocka_unit_test(attention_becomes_the_next_image),
        cmocka_unit_test(blocks_with_many_tiles_give_the_reference),
        cmocka_unit_test(all_warps_of_a_block_give_the_reference),
        cmocka_unit_test(young_rows_alone_give_the_reference),
        cmocka_unit_test(warps_that_copy_together_give_the_reference),
        cmocka_unit_test(rows_of_two_turns_give_the_reference),
        cmocka_unit_test(blocks_without_work_do_no_harm),
        cmocka_unit_test(clusters_of_blocks_give_the_reference),
        cmocka_unit_test(far_along_a_stream_nothing_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
