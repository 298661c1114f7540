/* test_cuda_chunk.c - how many rows a step has when nobody says: more on a GPU, if they fit.
 *
 * On the emulated GPU of cuda_fake.c; with another libcuda.so.1 these tests skip.
 *
 * SPDX-License-Identifier: MIT */
#include "support/sessions.h"
#include "support/tiny.h"

#include <dlfcn.h>

static struct { /* of cuda_fake.c */
    void (*free_bytes)(size_t bytes);
    void (*fail_at)(const char *name, int in, int with);
} fake;

static int find_fake(void **state) {
    (void)state;
    void *library = dlopen("libcuda.so.1", RTLD_NOW), *found[2];
    if (!library || !(found[0] = dlsym(library, "fake_free_bytes"))) return 0;
    found[1] = dlsym(library, "fake_fail");
    memcpy(&fake, found, sizeof fake);
    return 0;
}

static void need_fake(void) {
    if (fake.free_bytes) return;
    print_message("skipped: libcuda.so.1 is not the emulated one\n");
    skip();
}

static weir_engine_info info_of(const char *path, const char *name, int w, int chunk) {
    const weir_engine_options o = {.backend = name, .threads = 1, .window = w, .chunk = chunk};
    weir_engine *e = engine_of(path, &o);
    weir_engine_info info;
    weir_engine_get_info(e, &info);
    assert_string_equal(info.backend, e->backend->api->name);
    info.backend = e->backend->api->name; /* outlives the engine */
    weir_engine_close(e);
    return info;
}

static void a_gpu_takes_a_quarter_of_the_window_a_processor_256(void **state) {
    (void)state;
    need_fake();
    char *path = tiny_make(&(tiny_model){.seed = 1});
    static const struct {
        const char *backend;
        int window, chunk, wanted;
    } cases[] = {{NULL, 8192, 0, 1024},  {"auto", 4096, 0, 1024}, {"cuda", 4095, 0, 512},
                 {"cuda", 2048, 0, 512}, {"cuda", 2047, 0, 256},  {"cuda", 16, 0, 256},
                 {"cpu", 8192, 0, 256},  {"ref", 8192, 0, 256},   {"cuda", 8192, 100, 100},
                 {NULL, 64, 2000, 2000}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const weir_engine_info info =
            info_of(path, cases[i].backend, cases[i].window, cases[i].chunk);
        assert_int_equal(info.chunk, cases[i].wanted);
    }
    tiny_remove(path);
}

static void
a_chunk_that_does_not_fit_is_halved_and_one_that_was_asked_for_is_refused(void **state) {
    (void)state;
    need_fake();
    char *path = tiny_make(&(tiny_model){.seed = 1});
    size_t least[3] = {0}; /* bytes with 1024, 512, 256 rows */
    for (int i = 0; i < 3; i++) {
        const weir_engine_info info = info_of(path, "cuda", 4096, 1024 >> i);
        least[i] = info.total_bytes;
    }
    assert_true(least[0] > least[1] && least[1] > least[2]);
    for (int i = 0; i < 2; i++) {
        fake.free_bytes((least[i] + least[i + 1]) / 2);
        const weir_engine_info info = info_of(path, NULL, 4096, 0);
        assert_string_equal(info.backend, "cuda");
        assert_int_equal(info.chunk, 1024 >> (i + 1));
        assert_true(info.total_bytes < least[i]);
    }
    const weir_engine_options o = {.backend = "cuda", .threads = 1, .window = 4096, .chunk = 1024};
    weir_engine *e;
    REFUSED(weir_engine_open(&e, path, &o, &err), WEIR_ERR_MEMORY, "MiB are free");
    fake.free_bytes(1 << 12);
    weir_engine_info info = info_of(path, NULL, 4096, 0);
    assert_string_equal(info.backend, "cpu");
    assert_int_equal(info.chunk, 256);
    fake.free_bytes((size_t)1 << 30);
    fake.fail_at("cuModuleLoadData", 1, 200); /* once: auto tries again with 256 */
    info = info_of(path, NULL, 4096, 0);
    assert_int_equal(info.chunk, 256);
    tiny_remove(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gpu_takes_a_quarter_of_the_window_a_processor_256),
        cmocka_unit_test(a_chunk_that_does_not_fit_is_halved_and_one_that_was_asked_for_is_refused),
    };
    return cmocka_run_group_tests(tests, find_fake, NULL);
}
