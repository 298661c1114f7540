/* test_cuda_build.c - weir build, and a machine that has a driver and no compiler.
 *
 * On the emulated GPU of cuda_fake.c; with another libcuda.so.1 these tests skip.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tiny_model.h"

#include <dlfcn.h>
#include <jansson.h>

static char folder[256], file[300];

static int set_up(void **state) {
    (void)state;
    temporary_make(folder);
    tiny_model_make(folder, TINY_TEMPLATE);
    snprintf(file, sizeof file, "%s/x.engine", folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    temporary_clear(folder);
    return 0;
}

static void need_fake(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library && dlsym(library, "fake_calls")) return;
    print_message("skipped: libcuda.so.1 is not the emulated one\n");
    skip();
}

static void build_says_what_it_made_and_info_says_the_same(void **state) {
    (void)state;
    need_fake();
    ran a = weir("", "build", folder, "-o", file, "--target", "sm_80,sm_90a", NULL);
    ran b = weir("", "info", file, NULL);
    assert_status(&a, 0);
    assert_status(&b, 0);
    assert_string_equal(a.out, b.out);
    assert_string_equal(a.err, "");
    assert_non_null(strstr(a.out, "sm_80, sm_90a"));
    assert_non_null(strstr(a.out, "this weir takes it"));
    ran_clear(&a);
    ran_clear(&b);
    ran c = weir("", "info", file, "--json", NULL);
    json_t *j = json_loads(c.out, 0, NULL);
    const json_t *targets = json_object_get(j, "targets");
    assert_int_equal(json_array_size(targets), 2);
    assert_string_equal(json_string_value(json_array_get(targets, 1)), "sm_90a");
    assert_true(json_is_true(json_object_get(j, "is_current")));
    json_decref(j);
    ran_clear(&c);
}

/* Where NVRTC should be lies a library that is none, which cannot be taken for it. */
static void make_driver_folder(const char *libraries) {
    char link[330];
    Dl_info other;
    assert_true(dladdr(__extension__(void *) json_loads, &other));
    assert_int_equal(mkdir(libraries, 0700), 0);
    snprintf(link, sizeof link, "%s/libcuda.so.1", libraries);
    assert_int_equal(symlink(BINARY_DIR "/fake_gpu/libcuda.so.1", link), 0);
    snprintf(link, sizeof link, "%s/libnvrtc.so.13", libraries);
    assert_int_equal(symlink(other.dli_fname, link), 0);
}

static void a_driver_alone_runs_an_engine_file(void **state) {
    (void)state;
    need_fake();
    ran r = weir("", "build", folder, "-o", file, "--target", "sm_90a", NULL);
    assert_status(&r, 0);
    ran_clear(&r);
    char libraries[300], cache[300];
    snprintf(libraries, sizeof libraries, "%s/driver", folder);
    snprintf(cache, sizeof cache, "%s/cache", folder);
    make_driver_folder(libraries);
    char *old = strdup(getenv("LD_LIBRARY_PATH"));
    setenv("LD_LIBRARY_PATH", libraries, 1);
    setenv("XDG_CACHE_HOME", cache, 1);
    r = weir("", "generate", folder, "-p", "x", "-n", "1", "--json", "--engine", file, NULL);
    assert_status(&r, 0);
    assert_non_null(strstr(r.out, "\"backend\": \"cuda\""));
    ran_clear(&r);
    r = weir("", "generate", folder, "-p", "x", "-n", "1", "--backend", "cuda", NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir generate: ", "libnvrtc has no nvrtc");
    ran_clear(&r);
    setenv("LD_LIBRARY_PATH", old, 1);
    free(old);
}

static void what_does_not_fit_is_one_clear_line(void **state) {
    (void)state;
    need_fake();
    ran r = weir("", "build", folder, "-o", file, "--kv-type", "int8", "--target", "sm_90a", NULL);
    assert_status(&r, 0);
    ran_clear(&r);
    r = weir("", "generate", folder, "-p", "x", "--engine", file, NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir generate: ", "keys and values in int8, this run wants f16");
    ran_clear(&r);
    r = weir("", "chat", file, NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir chat: ", "kernels and no weights");
    ran_clear(&r);
    r = weir("", "build", folder, "-o", file, "--target", "sm_75", NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir build: ", "it has sm_80, sm_90a, sm_120");
    ran_clear(&r);
    FILE *f = fopen(file, "r+b");
    assert_true(f && fseek(f, 1000, SEEK_SET) == 0 && fputs("damage", f) >= 0);
    fclose(f);
    r = weir("", "info", file, NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir info: ", "damaged");
    ran_clear(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(build_says_what_it_made_and_info_says_the_same),
        cmocka_unit_test(a_driver_alone_runs_an_engine_file),
        cmocka_unit_test(what_does_not_fit_is_one_clear_line),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
