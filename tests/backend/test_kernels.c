/* test_kernels.c - where there is no GPU the reason is said; where there is NVRTC kernels compile.
 *
 * Every kernel is compiled for the oldest target, for Hopper and for the newest one that the
 * library knows, with all formats of weights and stores.  Skips, saying so, without NVRTC.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void without_a_driver_the_reason_names_the_library(void **state) {
    (void)state;
    cuda_driver driver;
    weir_error err = {0};
    if (cuda_driver_open(&driver, &err) == WEIR_OK) {
        cuda_driver_close(&driver);
        print_message("skipped: this machine has libcuda.so.1\n");
        skip();
    }
    assert_int_equal(err.status, WEIR_ERR_DEVICE);
    assert_string_equal(err.message, "no GPU: libcuda.so.1 not found");
}

static void compile_for(const char *target, int head_dim, weir_type kv_type) {
    cuda_image image;
    weir_error err = {0};
    const cuda_options o = {.target = target,
                            .formats = (1 << CUDA_N_FORMATS) - 1,
                            .head_dim = head_dim,
                            .kv_type = kv_type,
                            .pin_type = kv_is_scaled(kv_type) ? WEIR_F16 : kv_type};
    if (cuda_compile(&image, &o, NULL, NULL, &err) != WEIR_OK) fail_msg("%s", err.message);
    print_message("%s, heads of %d: %zu bytes\n", target, head_dim, image.code.size);
    assert_true(image.code.size > 1000);
    assert_memory_equal(image.code.data, "\177ELF", 4);
    cuda_image_clear(&image);
}

static void every_kernel_compiles_for_old_and_new_targets(void **state) {
    (void)state;
    cuda_compiler compiler;
    weir_error err = {0};
    if (cuda_compiler_find(&compiler, &err) != WEIR_OK) {
        print_message("skipped: %s\n", err.message);
        skip();
    }
    char target[16];
    const int newest = compiler.targets[compiler.n_targets - 1];
    cuda_target(target, newest / 10, newest % 10);
    compile_for("sm_80", 64, WEIR_FP8);
    compile_for("sm_90a", 128, WEIR_F16);
    compile_for("sm_90a", 64, WEIR_FP8);
    compile_for(target, 80, WEIR_INT8);
}

static void the_target_of_a_gpu_is_named(void **state) {
    (void)state;
    char target[16];
    cuda_target(target, 8, 6);
    assert_string_equal(target, "sm_86");
    cuda_target(target, 9, 0);
    assert_string_equal(target, "sm_90a");
    cuda_target(target, 12, 0);
    assert_string_equal(target, "sm_120");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_driver_the_reason_names_the_library),
        cmocka_unit_test(every_kernel_compiles_for_old_and_new_targets),
        cmocka_unit_test(the_target_of_a_gpu_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
