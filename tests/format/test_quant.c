/* test_quant.c - blocks become the floats, and floats the blocks, that the `gguf` package makes.
 *
 * Golden files: tools/make_format_golden.py.
 *
 * SPDX-License-Identifier: MIT */
#include "format/quant.h"

#include "images.h"

#include <math.h>

enum { WEIGHTS = 512, ENCODED = 1024 };

static uint8_t *golden(const char *name, const char *ending, size_t *size) {
    char path[512];
    snprintf(path, sizeof path, "%s/format/quant/%s.%s", TEST_DATA, name, ending);
    return read_data(path, size);
}

static void every_type_decodes_to_the_floats_of_the_gguf_package(void **state) {
    (void)state;
    for (int type = 0; type < TENSOR_FP8; type++) {
        const char *name = tensor_type_name((tensor_type)type);
        size_t size, wanted_size;
        uint8_t *blocks = golden(name, "blocks", &size);
        uint8_t *wanted = golden(name, "f32", &wanted_size);
        assert_int_equal(size, tensor_row_bytes((tensor_type)type, WEIGHTS));
        float out[WEIGHTS];
        assert_int_equal(wanted_size, sizeof out);
        tensor_row_to_float((tensor_type)type, blocks, out, WEIGHTS);
        for (int i = 0; i < WEIGHTS; i++) { /* bit for bit */
            if (memcmp(&out[i], wanted + 4 * i, 4) != 0) {
                fail_msg("%s: weight %d is %.9g", name, i, (double)out[i]);
            }
        }
        free(blocks);
        free(wanted);
    }
}

static void a_row_may_begin_at_any_address(void **state) {
    (void)state;
    for (int type = 0; type < TENSOR_FP8; type++) {
        size_t size;
        uint8_t *blocks = golden(tensor_type_name((tensor_type)type), "blocks", &size);
        uint8_t *moved = malloc(size + 1);
        memcpy(moved + 1, blocks, size);
        float a[WEIGHTS], b[WEIGHTS];
        tensor_row_to_float((tensor_type)type, blocks, a, WEIGHTS);
        tensor_row_to_float((tensor_type)type, moved + 1, b, WEIGHTS);
        assert_memory_equal(a, b, sizeof a);
        free(blocks);
        free(moved);
    }
}

static void check_encoder(const char *name, void (*encode)(const float *, void *, int64_t)) {
    size_t size, wanted_size;
    uint8_t *x = golden("encode", "f32", &size);
    uint8_t *wanted = golden(name, "row", &wanted_size);
    assert_int_equal(size, ENCODED * sizeof(float));
    uint8_t *row = malloc(wanted_size);
    encode((const float *)(const void *)x, row, ENCODED);
    for (size_t i = 0; i < wanted_size; i++) {
        if (row[i] != wanted[i]) {
            fail_msg("%s: byte %zu is %d, wanted is %d", name, i, row[i], wanted[i]);
        }
    }
    free(x);
    free(wanted);
    free(row);
}

static void floats_encode_to_the_blocks_of_the_gguf_package(void **state) {
    (void)state;
    check_encoder("Q8_0", quantize_row_q8_0);
    check_encoder("Q4_0", quantize_row_q4_0);
}

static void values_that_are_not_finite_encode_to_some_block(void **state) {
    (void)state;
    float x[32] = {1.0f, NAN, INFINITY, -INFINITY, 3e38f};
    uint8_t row[34];
    quantize_row_q8_0(x, row, 32); /* the sanitizers watch */
    quantize_row_q4_0(x, row, 32);
}

static void rows_know_their_bytes(void **state) {
    (void)state;
    assert_int_equal(tensor_row_bytes(TENSOR_F32, 3), 12);
    assert_int_equal(tensor_row_bytes(TENSOR_BF16, 3), 6);
    assert_int_equal(tensor_row_bytes(TENSOR_Q8_0, 64), 68);
    assert_int_equal(tensor_row_bytes(TENSOR_Q4_K, 512), 288);
    assert_int_equal(tensor_row_bytes(TENSOR_Q6_K, 0), 0);
    assert_int_equal(tensor_type_block(TENSOR_Q5_1), 32);
    assert_string_equal(tensor_type_name(TENSOR_Q5_K), "Q5_K");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_decodes_to_the_floats_of_the_gguf_package),
        cmocka_unit_test(a_row_may_begin_at_any_address),
        cmocka_unit_test(floats_encode_to_the_blocks_of_the_gguf_package),
        cmocka_unit_test(values_that_are_not_finite_encode_to_some_block),
        cmocka_unit_test(rows_know_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
