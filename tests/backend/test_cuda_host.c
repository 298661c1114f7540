/* test_cuda_host.c - the host side of the CUDA back end: memory, failures, rows of the store.
 *
 * On the emulated GPU of cuda_fake.c, whose calls are counted and can be made to fail; with another
 * libcuda.so.1 these tests skip.
 *
 * SPDX-License-Identifier: MIT */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "backend/cuda/cuda.h"

#include <dlfcn.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "made_model.h"

static const made_shape SHAPE = {.type = TENSOR_Q8_0,
                                 .dim = 64,
                                 .ffn_dim = 96,
                                 .n_layers = 2,
                                 .n_heads = 4,
                                 .n_kv_heads = 2,
                                 .head_dim = 16,
                                 .vocab = 72,
                                 .rope_dims = 16};

enum { PINS = 3, RING = 20, SLOTS = 2 };

static struct { /* of cuda_fake.c */
    int (*calls)(const char *name);
    void (*fail_at)(const char *name, int in, int with);
    void (*free_bytes)(size_t bytes);
    size_t (*allocated)(void);
} fake;

static int find_fake(void **state) {
    (void)state;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    void *found[4];
    const char *const names[] = {"fake_calls", "fake_fail", "fake_free_bytes", "fake_allocated"};
    for (int i = 0; library && i < 4; i++) {
        if (!(found[i] = dlsym(library, names[i]))) library = NULL;
    }
    if (!library) return 0;
    memcpy(&fake, found, sizeof fake);
    return 0;
}

static void need_fake(void) {
    if (!fake.calls) {
        print_message("skipped: libcuda.so.1 is not the emulated one\n");
        skip();
    }
}

static kv_shape store_of(weir_type type) {
    return (kv_shape){.type = type,
                      .n_layers = SHAPE.n_layers,
                      .n_kv_heads = SHAPE.n_kv_heads,
                      .head_dim = SHAPE.head_dim,
                      .slots = SLOTS,
                      .pins = PINS,
                      .ring = RING};
}

static weir_status open_named(backend **out, const made *t, const char *name, weir_type type,
                              const char *cache, char reason[BACKEND_REASON], weir_error *err) {
    const kv_shape store = store_of(type);
    const backend_options o = {.threads = 1, .cache = cache};
    return backend_open(out, name, t->plan, &store, &o, reason, err);
}

/* ---- memory */

static void no_two_regions_overlap_and_all_tensors_lie_inside(void **state) {
    (void)state;
    made *t = made_new(&SHAPE, 8, 2);
    const kv_shape store = store_of(WEIR_INT8);
    const backend_options o = {0};
    const cuda_device device = {
        .major = 9, .n_blocks = 132, .shared_bytes = 227 << 10, .most_threads = 1024};
    const cuda_address base = 1 << 20;
    cuda_layout l, measured;
    assert_int_equal(cuda_layout_make(&measured, t->plan, &store, &device, &o, 0, NULL), WEIR_OK);
    assert_int_equal(cuda_layout_make(&l, t->plan, &store, &device, &o, base, NULL), WEIR_OK);
    assert_int_equal(l.bytes, measured.bytes);
    cuda_address end = base;
    for (int i = 0; i < l.n_regions; i++) {
        assert_true(l.regions[i].at >= end && l.regions[i].at % 256 == 0);
        end = l.regions[i].at + l.regions[i].bytes;
    }
    assert_true(end <= base + l.bytes);
    const cuda_address arena_end = l.arena_at + t->plan->arena_bytes;
    for (int i = 0; i < l.n_stages; i++) {
        const cuda_tensor all[] = {l.stages[i].in, l.stages[i].in2, l.stages[i].v,
                                   l.stages[i].residual, l.stages[i].out};
        for (size_t k = 0; k < COUNT_OF(all); k++) {
            const int rows = all[k].selected ? 2 : 8;
            const cuda_address last =
                all[k].at + 4 * ((cuda_address)(rows - 1) * (cuda_address)all[k].stride +
                                 (cuda_address)all[k].features);
            if (all[k].at) assert_true(all[k].at >= l.arena_at && last <= arena_end);
        }
    }
    assert_true(l.world.shared.bytes <= device.shared_bytes);
    cuda_layout_clear(&measured);
    cuda_layout_clear(&l);
    made_free(t);
}

/* In a tagged step blocks meet before the first product alone, which reads the embedding. */
static void tagged_results_lie_apart_and_few_stages_meet(void **state) {
    (void)state;
    made *t = made_new(&SHAPE, 8, 2);
    const kv_shape store = store_of(WEIR_F16);
    const cuda_device device = {
        .major = 9, .n_blocks = 132, .shared_bytes = 227 << 10, .most_threads = 1024};
    cuda_layout l;
    assert_int_equal(cuda_layout_make(&l, t->plan, &store, &device, &(backend_options){0}, 0, NULL),
                     WEIR_OK);
    int n_meets = 0, n_tagged = 0;
    const cuda_stage *last = NULL;
    for (int i = 0; i < l.n_stages; i++) {
        const cuda_stage *s = &l.stages[i];
        n_meets += s->meets && s->kind != CUDA_STORE;
        if (!s->out.tagged || s->kind == CUDA_STORE || s->kind == NN_WANTED) continue;
        const size_t bytes = (size_t)s->out.features * sizeof(float);
        if (last) assert_true(s->out.tagged >= last->out.tagged + 4 * (size_t)last->out.features);
        assert_true(s->out.tagged + bytes <= l.base + l.bytes && s->out.tagged % 128 == 0);
        last = s;
        n_tagged++;
    }
    assert_int_equal(n_meets, 1);
    assert_int_equal(n_tagged, 5 * SHAPE.n_layers);
    cuda_layout_clear(&l);
    made_free(t);
}

static void rows_too_wide_for_a_block_are_refused(void **state) {
    (void)state;
    made_shape shape = SHAPE;
    shape.ffn_dim = 16384;
    made *t = made_new(&shape, 8, 2);
    const kv_shape store = store_of(WEIR_F16);
    const backend_options o = {0};
    const cuda_device device = {.n_blocks = 4, .shared_bytes = 48 << 10, .most_threads = 1024};
    cuda_layout l;
    weir_error err = {0};
    assert_int_equal(cuda_layout_make(&l, t->plan, &store, &device, &o, 0, &err), WEIR_ERR_MODEL);
    assert_non_null(strstr(err.message, "shared memory"));
    made_free(t);
}

/* Warp groups of `walk` share out registers on such a GPU, so there is no half of one. */
static void warp_groups_are_whole_however_wide_rows_are(void **state) {
    (void)state;
    static const int widths[] = {256, 49152, 53248, 54720, 55104};
    const cuda_device device = {
        .major = 9, .n_blocks = 132, .shared_bytes = 227 << 10, .most_threads = 1024};
    int n_refused = 0, least = INT_MAX;
    for (size_t i = 0; i < COUNT_OF(widths); i++) {
        made_shape shape = SHAPE;
        shape.ffn_dim = widths[i];
        made *t = made_new(&shape, 8, 2);
        const kv_shape store = store_of(WEIR_F16);
        cuda_layout l;
        const weir_status status =
            cuda_layout_make(&l, t->plan, &store, &device, &(backend_options){0}, 0, NULL);
        if (status == WEIR_OK) {
            assert_int_equal(l.n_feeders, CUDA_FEEDERS);
            assert_int_equal(l.n_warps % 4, 0);
            least = MIN_OF(least, l.n_warps);
            cuda_layout_clear(&l);
        } else {
            assert_int_equal(status, WEIR_ERR_MODEL);
            n_refused++;
        }
        made_free(t);
    }
    assert_true(n_refused > 0 && least < CUDA_WORKERS);
}

static void a_model_larger_than_the_gpu_is_refused_with_both_sizes(void **state) {
    (void)state;
    need_fake();
    made *t = made_new(&SHAPE, 8, 2);
    backend *b;
    char reason[BACKEND_REASON];
    weir_error err = {0};
    fake.free_bytes(1 << 15);
    assert_int_equal(open_named(&b, t, "cuda", WEIR_F16, NULL, reason, &err), WEIR_ERR_MEMORY);
    assert_non_null(strstr(err.message, "0 MiB are free"));
    assert_int_equal(open_named(&b, t, "auto", WEIR_F16, NULL, reason, &err), WEIR_OK);
    assert_string_equal(b->api->name, "cpu");
    assert_non_null(strstr(reason, "0 MiB are free"));
    b->api->close(b);
    fake.free_bytes((size_t)1 << 30);
    made_free(t);
}

/* ---- failures */

static weir_status one_step(backend *b, weir_error *err) {
    const batch_row row = {.token = 1, .pos = 9, .p = 0, .recent = 1};
    const batch_group group = {.n = 1};
    const int wanted = 0;
    const batch all = {
        .rows = &row, .groups = &group, .wanted = &wanted, .n = 1, .n_groups = 1, .n_wanted = 1};
    return b->api->step(b, &all, err);
}

static void every_call_that_fails_is_reported_and_nothing_leaks(void **state) {
    (void)state;
    need_fake();
    static const char *const names[] = {"cuInit",
                                        "cuDeviceGet",
                                        "cuDevicePrimaryCtxRetain",
                                        "cuMemGetInfo_v2",
                                        "cuStreamCreate",
                                        "cuMemAlloc_v2",
                                        "cuMemHostAlloc",
                                        "cuEventCreate",
                                        "cuModuleLoadData",
                                        "cuModuleGetFunction",
                                        "cuFuncSetAttribute",
                                        "cuMemcpyHtoDAsync_v2",
                                        "cuMemsetD8Async",
                                        "cuEventRecord",
                                        "cuStreamSynchronize",
                                        "nvrtcCreateProgram",
                                        "nvrtcCompileProgram",
                                        "nvrtcGetCUBIN"};
    made *t = made_new(&SHAPE, 8, 2);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        for (int in = 1; in <= 2; in++) {
            backend *b = NULL;
            char reason[BACKEND_REASON];
            weir_error err = {0};
            fake.fail_at(names[i], in, 1);
            if (open_named(&b, t, "cuda", WEIR_F16, NULL, reason, &err) == WEIR_OK) {
                assert_true(in == 2); /* called once only */
                fake.fail_at(names[i], 0, 0);
                b->api->close(b);
            } else {
                assert_true(err.message[0] && !b);
            }
            assert_int_equal(fake.allocated(), 0);
        }
    }
    made_free(t);
}

static void a_lost_context_fails_every_later_step_at_once(void **state) {
    (void)state;
    need_fake();
    made *t = made_new(&SHAPE, 8, 2);
    backend *b;
    char reason[BACKEND_REASON];
    weir_error err = {0};
    assert_int_equal(open_named(&b, t, "cuda", WEIR_F16, NULL, reason, &err), WEIR_OK);
    assert_int_equal(one_step(b, &err), WEIR_OK);
    fake.fail_at("cuStreamSynchronize", 1, 700);
    assert_int_equal(one_step(b, &err), WEIR_ERR_DEVICE);
    const int launches = fake.calls("cuLaunchCooperativeKernel");
    assert_int_equal(one_step(b, &err), WEIR_ERR_DEVICE);
    assert_non_null(strstr(err.message, "failed before"));
    assert_int_equal(fake.calls("cuLaunchCooperativeKernel"), launches);
    b->api->close(b);
    made_free(t);
}

static void a_step_allocates_nothing_and_is_one_launch(void **state) {
    (void)state;
    need_fake();
    made *t = made_new(&SHAPE, 8, 2);
    backend *b;
    char reason[BACKEND_REASON];
    assert_int_equal(open_named(&b, t, "cuda", WEIR_F16, NULL, reason, NULL), WEIR_OK);
    const int allocations = fake.calls("cuMemAlloc_v2") + fake.calls("cuMemHostAlloc");
    const int launches = fake.calls("cuLaunchCooperativeKernel");
    const uint64_t heap = mem_count();
    for (int i = 0; i < 3; i++) assert_int_equal(one_step(b, NULL), WEIR_OK);
    assert_int_equal(fake.calls("cuMemAlloc_v2") + fake.calls("cuMemHostAlloc"), allocations);
    assert_int_equal(fake.calls("cuLaunchCooperativeKernel"), launches + 3);
    assert_int_equal(mem_count(), heap);
    b->api->close(b);
    made_free(t);
}

/* ---- launches recorded */

/* n rows of a prompt, which are launched stage by stage. */
static weir_status chunk(backend *b, int n, weir_error *err) {
    batch_row rows[8];
    for (int i = 0; i < n; i++) {
        rows[i] =
            (batch_row){.token = 1 + i, .pos = (uint64_t)i, .p = (uint32_t)i, .recent = i + 1};
    }
    const batch_group group = {.n = n};
    const int wanted = n - 1;
    const batch all = {
        .rows = rows, .groups = &group, .wanted = &wanted, .n = n, .n_groups = 1, .n_wanted = 1};
    return b->api->step(b, &all, err);
}

static void a_shape_that_comes_again_is_recorded_and_replayed_to_the_bit(void **state) {
    (void)state;
    need_fake();
    made *t = made_new(&SHAPE, 8, 2);
    backend *b;
    char reason[BACKEND_REASON];
    float launched[72];
    assert_int_equal(open_named(&b, t, "cuda", WEIR_F16, NULL, reason, NULL), WEIR_OK);
    const int recorded = fake.calls("cuStreamBeginCapture_v2");
    const int replayed = fake.calls("cuGraphLaunch");
    for (int n = 5; n <= 8; n++) assert_int_equal(chunk(b, n, NULL), WEIR_OK);
    memcpy(launched, b->api->logits(b, 0), sizeof launched);
    assert_int_equal(fake.calls("cuStreamBeginCapture_v2"), recorded);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(chunk(b, 7 + i % 2, NULL), WEIR_OK);
        if (i % 2) assert_memory_equal(launched, b->api->logits(b, 0), sizeof launched);
    }
    assert_int_equal(fake.calls("cuStreamBeginCapture_v2"), recorded + 2);
    assert_int_equal(fake.calls("cuGraphLaunch"), replayed + 6);
    b->api->close(b);
    assert_int_equal(fake.allocated(), 0);
    made_free(t);
}

static void what_cannot_be_recorded_is_launched_and_nothing_leaks(void **state) {
    (void)state;
    need_fake();
    static const struct {
        const char *name;
        int in;
        bool is_reported;
    } cases[] = {{"cuStreamBeginCapture_v2", 1, false},
                 {"cuLaunchKernelEx", 3, false},
                 {"cuStreamEndCapture", 1, false},
                 {"cuGraphInstantiateWithFlags", 1, false},
                 {"cuGraphLaunch", 1, true}};
    float launched[72];
    made *t = made_new(&SHAPE, 8, 2);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        backend *b;
        char reason[BACKEND_REASON];
        weir_error err = {0};
        assert_int_equal(open_named(&b, t, "cuda", WEIR_F16, NULL, reason, NULL), WEIR_OK);
        for (int k = 0; k < CUDA_TURNS; k++) assert_int_equal(chunk(b, 6, NULL), WEIR_OK);
        memcpy(launched, b->api->logits(b, 0), sizeof launched);
        fake.fail_at(cases[i].name, cases[i].in, 1);
        const weir_status status = chunk(b, 6, &err);
        assert_int_equal(status, cases[i].is_reported ? WEIR_ERR_DEVICE : WEIR_OK);
        assert_int_equal(err.message[0] != 0, cases[i].is_reported);
        for (int k = 0; k < 4; k++) { /* the stream records no more */
            assert_int_equal(chunk(b, 6, NULL), WEIR_OK);
            assert_memory_equal(launched, b->api->logits(b, 0), sizeof launched);
        }
        b->api->close(b);
        assert_int_equal(fake.allocated(), 0);
    }
    made_free(t);
}

/* ---- the cache of compiled kernels */

static void kernels_are_compiled_once_and_a_damaged_file_is_made_again(void **state) {
    (void)state;
    need_fake();
    char top[] = "/tmp/weir_cache_XXXXXX", folder[64], command[128];
    assert_non_null(mkdtemp(top));
    snprintf(folder, sizeof folder, "%s/cache/weir", top); /* neither is there */
    const cuda_options o = {
        .target = "sm_90a", .formats = 1, .head_dim = 64, .kv_type = 2, .pin_type = 2};
    const cuda_options other = {
        .target = "sm_90a", .formats = 1, .head_dim = 96, .kv_type = 2, .pin_type = 2};
    for (int i = 0; i < 4; i++) {
        cuda_image image;
        const int before = fake.calls("nvrtcCompileProgram");
        assert_int_equal(cuda_compile(&image, i == 3 ? &other : &o, folder, NULL, NULL), WEIR_OK);
        assert_int_equal(image.cached, i == 1);
        assert_int_equal(fake.calls("nvrtcCompileProgram") - before, i != 1);
        assert_memory_equal(image.code.data, "\177ELF", 4);
        cuda_image_clear(&image);
        snprintf(command, sizeof command, "for f in %s/*; do printf x >>$f; done", folder);
        if (i == 1) assert_int_equal(system(command), 0);
    }
    snprintf(command, sizeof command, "rm -r %s", top);
    assert_int_equal(system(command), 0);
}

/* Cancels when it is asked for the `at`-th time. */
typedef struct canceler {
    int asked, at;
} canceler;

static int cancel(void *user, const char *what, uint64_t done, uint64_t total) {
    canceler *c = user;
    assert_string_equal(what, "compiling kernels");
    assert_true(done == 1 && total == 3);
    return ++c->asked >= c->at;
}

static void a_compilation_can_be_canceled_while_it_runs(void **state) {
    (void)state;
    need_fake();
    const cuda_options o = {
        .target = "sm_90a", .formats = 1, .head_dim = 64, .kv_type = 2, .pin_type = 2};
    for (int at = 1; at <= 12; at++) {
        canceler c = {0, at};
        const cuda_watch watch = {cancel, &c, 1, 3};
        cuda_image image;
        weir_error err = {0};
        const weir_status status = cuda_compile(&image, &o, NULL, &watch, &err);
        assert_int_equal(status, at <= 11 ? WEIR_ERR_CANCELED : WEIR_OK);
        if (status == WEIR_OK) cuda_image_clear(&image);
    }
}

/* ---- rows of the store */

static char *random_bytes(size_t n, bool finite) {
    rng r = {7};
    char *p = mem_alloc(n);
    for (size_t i = 0; i < n; i++) p[i] = (char)(rng_next(&r) & (finite && i % 2 ? 0x3f : 0xff));
    return p;
}

static void rows_come_out_as_they_went_in_and_equal_those_of_the_cpu(void **state) {
    (void)state;
    static const weir_type types[] = {WEIR_F16, WEIR_INT8, WEIR_FP8};
    made *t = made_new(&SHAPE, 8, 2);
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        backend *b[2];
        char reason[BACKEND_REASON];
        assert_int_equal(open_named(&b[0], t, "cuda", types[i], NULL, reason, NULL), WEIR_OK);
        assert_int_equal(open_named(&b[1], t, "ref", types[i], NULL, reason, NULL), WEIR_OK);
        const size_t ring = b[0]->api->row_bytes(b[0], false),
                     pin = b[0]->api->row_bytes(b[0], true);
        assert_int_equal(ring, b[1]->api->row_bytes(b[1], false));
        assert_int_equal(pin, b[1]->api->row_bytes(b[1], true));
        char *in = random_bytes(ring * RING, types[i] == WEIR_F16), *out = mem_alloc(ring * RING);
        char *pins[2] = {mem_alloc(PINS * pin), mem_alloc(PINS * pin)};
        for (int k = 0; k < 2; k++) {
            assert_int_equal(b[k]->api->import_rows(b[k], 1, false, 17, RING, in, NULL), WEIR_OK);
            assert_int_equal(b[k]->api->export_rows(b[k], 1, false, 17, RING, out, NULL), WEIR_OK);
            assert_memory_equal(in, out, ring * RING);
            assert_int_equal(b[k]->api->export_rows(b[k], 1, false, 0, 3, out, NULL), WEIR_OK);
            assert_memory_equal(out, in + 3 * ring, 3 * ring);
        }
        if (types[i] == WEIR_F16) {
            for (int k = 0; k < 2; k++) {
                assert_int_equal(b[k]->api->pin_row(b[k], 1, 1000003, 1, NULL), WEIR_OK);
                assert_int_equal(b[k]->api->export_rows(b[k], 1, true, 0, PINS, pins[k], NULL),
                                 WEIR_OK);
            }
            for (size_t at = 0; at + 2 <= PINS * pin; at += 2) {
                uint16_t x, y;
                memcpy(&x, pins[0] + at, 2), memcpy(&y, pins[1] + at, 2);
                const double off = fabs((double)f16_to_float(x) - (double)f16_to_float(y));
                assert_true(off <= 2e-3 * fmax(fabs((double)f16_to_float(x)), 0.05));
            }
        }
        mem_free(in), mem_free(out), mem_free(pins[0]), mem_free(pins[1]);
        b[0]->api->close(b[0]), b[1]->api->close(b[1]);
    }
    made_free(t);
}

/* ---- yardsticks */

static void yardsticks_borrow_memory_and_give_it_back(void **state) {
    (void)state;
    need_fake();
    made *t = made_new(&SHAPE, 8, 2);
    backend *b;
    char reason[BACKEND_REASON];
    weir_error err = {0};
    assert_int_equal(open_named(&b, t, "cuda", WEIR_F16, NULL, reason, &err), WEIR_OK);
    const size_t before = fake.allocated();
    weir_rates rates;
    fake.free_bytes(8 << 20);
    assert_int_equal(b->api->measure(b, &rates, &err), WEIR_OK);
    assert_true(rates.read_bytes_per_second > 1e5 && rates.flops_per_second > 1e3);
    assert_int_equal(fake.allocated(), before);
    fake.fail_at("cuLaunchKernelEx", 2, 1);
    assert_int_equal(b->api->measure(b, &rates, &err), WEIR_ERR_DEVICE);
    assert_int_equal(fake.allocated(), before);
    fake.free_bytes(1 << 10);
    assert_int_equal(b->api->measure(b, &rates, &err), WEIR_ERR_MEMORY);
    assert_non_null(strstr(err.message, "1024 bytes are free"));
    fake.free_bytes((size_t)1 << 30);
    b->api->close(b);
    made_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_two_regions_overlap_and_all_tensors_lie_inside),
        cmocka_unit_test(tagged_results_lie_apart_and_few_stages_meet),
        cmocka_unit_test(rows_too_wide_for_a_block_are_refused),
        cmocka_unit_test(warp_groups_are_whole_however_wide_rows_are),
        cmocka_unit_test(a_model_larger_than_the_gpu_is_refused_with_both_sizes),
        cmocka_unit_test(every_call_that_fails_is_reported_and_nothing_leaks),
        cmocka_unit_test(a_lost_context_fails_every_later_step_at_once),
        cmocka_unit_test(a_step_allocates_nothing_and_is_one_launch),
        cmocka_unit_test(a_shape_that_comes_again_is_recorded_and_replayed_to_the_bit),
        cmocka_unit_test(what_cannot_be_recorded_is_launched_and_nothing_leaks),
        cmocka_unit_test(kernels_are_compiled_once_and_a_damaged_file_is_made_again),
        cmocka_unit_test(a_compilation_can_be_canceled_while_it_runs),
        cmocka_unit_test(yardsticks_borrow_memory_and_give_it_back),
        cmocka_unit_test(rows_come_out_as_they_went_in_and_equal_those_of_the_cpu),
    };
    return cmocka_run_group_tests(tests, find_fake, NULL);
}
