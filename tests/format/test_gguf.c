/* test_gguf.c - the GGUF container: values come back, and every kind of damage is refused.
 *
 * SPDX-License-Identifier: MIT */
#include "format/gguf.h"

#include "images.h"

/* Parses an image and frees everything; the message is in err. */
static weir_status parse(const void *data, size_t size, weir_error *err) {
    arena *a = arena_new();
    gguf *g;
    *err = (weir_error){0};
    const weir_status status = gguf_parse(&g, a, data, size, "x.gguf", err);
    assert_true((g != NULL) == (status == WEIR_OK));
    arena_free(a);
    return status;
}

/* The image is refused with these words; frees it. */
static void refused(image *m, const char *words) {
    weir_error err;
    if (parse(m->data, m->size, &err) == WEIR_OK) fail_msg("opened, wanted was \"%s\"", words);
    assert_says(&err, words);
    buffer_clear(m);
}

static void keys_of_every_type_come_back(void **state) {
    (void)state;
    image m = {0};
    image_gguf(&m, 2, 0, 9);
    image_key(&m, "u8", 0, "\xff", 1);
    image_key(&m, "i8", 1, "\xff", 1);
    image_key(&m, "i16", 3, "\x00\x80", 2);
    image_key(&m, "i64", 11, "\x01\0\0\0\0\0\0\x40", 8);
    image_key(&m, "u64", 10, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    image_key(&m, "bool", 7, "\x01", 1);
    image_key_f32(&m, "f32", 0.5f);
    image_key(&m, "f64", 12, &(double){-2.25}, 8);
    image_key_string(&m, "s", "weir");
    arena *a = arena_new();
    gguf *g;
    assert_int_equal(gguf_parse(&g, a, m.data, m.size, "x", NULL), WEIR_OK);
    uint64_t u;
    double d;
    bool b;
    gguf_string s;
    assert_true(gguf_get_u64(g, "u8", &u) && u == 255);
    assert_false(gguf_get_u64(g, "i8", &u)); /* negative */
    assert_true(gguf_get_f64(g, "i8", &d) && d == -1.0);
    assert_true(gguf_get_f64(g, "i16", &d) && d == -32768.0);
    assert_true(gguf_get_u64(g, "i64", &u) && u == 0x4000000000000001u);
    assert_true(gguf_get_u64(g, "u64", &u) && u == UINT64_MAX);
    assert_true(gguf_get_bool(g, "bool", &b) && b);
    assert_true(gguf_get_u64(g, "bool", &u) && u == 1);
    assert_false(gguf_get_bool(g, "u8", &b));
    assert_true(gguf_get_f64(g, "f32", &d) && d == 0.5);
    assert_false(gguf_get_u64(g, "f32", &u));
    assert_true(gguf_get_f64(g, "f64", &d) && d == -2.25);
    assert_true(gguf_get_string(g, "s", &s) && s.size == 4 && memcmp(s.data, "weir", 4) == 0);
    assert_false(gguf_get_f64(g, "s", &d));
    assert_true(gguf_has(g, "s") && !gguf_has(g, "t") && !gguf_has(g, ""));
    arena_free(a);
    buffer_clear(&m);
}

static void the_gguf_packages_file_reads_back(void **state) {
    (void)state;
    size_t size, n;
    uint8_t *data = read_data(TEST_DATA "/format/gguf/llama.gguf", &size);
    arena *a = arena_new();
    gguf *g;
    weir_error err;
    assert_int_equal(gguf_parse(&g, a, data, size, "llama.gguf", &err), WEIR_OK);
    const gguf_string *tokens;
    const float *scores;
    const int32_t *types;
    assert_true(gguf_get_strings(g, "tokenizer.ggml.tokens", &tokens, &n) && n == 5);
    assert_memory_equal(tokens[2].data, "</s>", 4);
    assert_true(gguf_get_f32s(g, "tokenizer.ggml.scores", &scores, &n) && n == 5);
    assert_true(scores[4] == -2.0f);
    assert_true(gguf_get_i32s(g, "tokenizer.ggml.token_type", &types, &n) && n == 5);
    assert_int_equal(types[1], 3);
    assert_false(gguf_get_i32s(g, "tokenizer.ggml.scores", &types, &n));
    assert_int_equal(gguf_n_tensors(g), 13);
    const gguf_tensor *t = gguf_tensor_at(g, 5);
    assert_memory_equal(t->name.data, "blk.0.attn_q.weight", t->name.size);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 256);
    assert_int_equal(t->dims[1], 2);
    assert_int_equal(t->bytes, 2 * 8 * 18);
    arena_free(a);
    free(data);
}

static void a_file_cut_anywhere_is_refused(void **state) {
    (void)state;
    size_t size;
    uint8_t *data = read_data(TEST_DATA "/format/gguf/llama.gguf", &size);
    weir_error err;
    assert_int_equal(parse(data, size, &err), WEIR_OK);
    /* the last tensor is padded to 32 bytes, which may be missing */
    for (size_t cut = 0; cut + 32 <= size; cut = cut < 2048 ? cut + 1 : cut + 97) {
        uint8_t *part = malloc(cut ? cut : 1); /* exact, for the address sanitizer */
        memcpy(part, data, cut);
        if (parse(part, cut, &err) == WEIR_OK) fail_msg("%zu of %zu bytes opened", cut, size);
        assert_says(&err, "x.gguf: ");
        free(part);
    }
    free(data);
}

static void a_flipped_bit_anywhere_does_no_harm(void **state) {
    (void)state;
    size_t size;
    uint8_t *data = read_data(TEST_DATA "/format/gguf/llama.gguf", &size);
    for (size_t bit = 0; bit < 8 * MIN_OF(size, (size_t)2048); bit++) {
        weir_error err;
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (parse(data, size, &err) != WEIR_OK) assert_says(&err, "x.gguf: ");
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(data);
}

static void bytes_behind_the_last_tensor_are_refused(void **state) {
    (void)state;
    size_t size;
    uint8_t *data = read_data(TEST_DATA "/format/gguf/llama.gguf", &size);
    image m = {0};
    image_bytes(&m, data, size);
    image_data(&m, 64);
    refused(&m, "behind the last tensor");
    free(data);
}

static void headers_that_lie_are_refused(void **state) {
    (void)state;
    image m = {0};
    image_bytes(&m, "GGML", 4);
    refused(&m, "is not a GGUF file");
    image_gguf(&m, 1, 0, 0);
    refused(&m, "version 1, wanted is 2 or 3");
    image_gguf(&m, 3u << 24, 0, 0);
    refused(&m, "big-endian");
    image_gguf(&m, 3, 0, UINT64_MAX);
    refused(&m, "18446744073709551615 keys, more than fit");
    image_gguf(&m, 3, UINT64_MAX / 2, 0);
    refused(&m, "tensors, more than fit");
}

static void keys_that_lie_are_refused(void **state) {
    (void)state;
    image m = {0};
    image_gguf(&m, 3, 0, 1);
    image_u64(&m, UINT64_MAX); /* length of the key */
    image_data(&m, 32);
    refused(&m, "ends inside a key");
    image_gguf(&m, 3, 0, 1);
    image_key(&m, "k", 99, "", 1);
    refused(&m, "key k has type 99");
    image_gguf(&m, 3, 0, 1);
    image_key(&m, "k", 9, "\x09\0\0\0\x01\0\0\0\0\0\0\0", 12); /* array of arrays */
    refused(&m, "array of type 9");
    image_gguf(&m, 3, 0, 1);
    image_key(&m, "k", 9, "\x08\0\0\0\xff\xff\xff\xff\0\0\0\0", 12); /* 2^32 - 1 strings */
    refused(&m, "ends inside an array");
    image_gguf(&m, 3, 0, 1);
    image_key(&m, "k", 9, "\x0a\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0", 16); /* 2 u64, room for 1/2 */
    refused(&m, "ends inside an array");
}

static void a_key_twice_is_refused_unless_both_say_the_same(void **state) {
    (void)state;
    weir_error err;
    image m = {0};
    image_gguf(&m, 3, 0, 2);
    image_key_u32(&m, "k", 7);
    image_key_u32(&m, "k", 7);
    assert_int_equal(parse(m.data, m.size, &err), WEIR_OK);
    buffer_clear(&m);
    image_gguf(&m, 3, 0, 2);
    image_key_u32(&m, "k", 7);
    image_key_u32(&m, "k", 8);
    refused(&m, "key k is there twice");
}

/* One tensor of F32 [4, 2] in a file with so many bytes of data. */
static void one_tensor(image *m, uint32_t n_dims, uint64_t inner, uint32_t type, uint64_t offset) {
    image_gguf(m, 3, 1, 0);
    image_tensor(m, "t", n_dims, (uint64_t[5]){inner, 2, 1, 1, 1}, type, offset);
    image_data(m, 64);
}

static void tensors_that_lie_are_refused(void **state) {
    (void)state;
    image m = {0};
    one_tensor(&m, 0, 4, 0, 0);
    refused(&m, "has 0 dimensions");
    one_tensor(&m, 5, 4, 0, 0);
    refused(&m, "has 5 dimensions");
    one_tensor(&m, 2, 0, 0, 0);
    refused(&m, "dimension 0 is 0");
    one_tensor(&m, 2, UINT64_MAX, 0, 0);
    refused(&m, "out of bounds");
    one_tensor(&m, 2, UINT64_MAX / 16, 0, 0);
    refused(&m, "out of bounds");
    one_tensor(&m, 2, 33, 8, 0);
    refused(&m, "rows of 33 weights, Q8_0 needs a multiple of 32");
    one_tensor(&m, 2, 4, 0, 4);
    refused(&m, "offset 4 is not a multiple of 32");
    one_tensor(&m, 2, 4, 0, 64);
    refused(&m, "is it truncated?");
    one_tensor(&m, 2, 4, 0, UINT64_MAX - 31);
    refused(&m, "is it truncated?");
    image_gguf(&m, 3, 2, 0);
    image_tensor(&m, "a", 1, (uint64_t[]){9}, 0, 0);
    image_tensor(&m, "b", 1, (uint64_t[]){8}, 0, 32);
    image_data(&m, 64);
    refused(&m, "tensors a and b overlap");
    image_gguf(&m, 3, 0, 1);
    image_key_u32(&m, "general.alignment", 24);
    refused(&m, "general.alignment is not a power of two");
}

static void a_type_that_cannot_be_read_parses_and_has_a_name(void **state) {
    (void)state;
    weir_error err;
    image m = {0};
    one_tensor(&m, 2, 256, 23, 0);
    assert_int_equal(parse(m.data, m.size, &err), WEIR_OK);
    buffer_clear(&m);
    tensor_type type;
    assert_false(gguf_tensor_type(23, &type));
    assert_string_equal(gguf_type_name(23), "IQ4_XS");
    assert_string_equal(gguf_type_name(4), "unknown");
    assert_string_equal(gguf_type_name(UINT32_MAX), "unknown");
    assert_true(gguf_tensor_type(14, &type) && type == TENSOR_Q6_K);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_every_type_come_back),
        cmocka_unit_test(the_gguf_packages_file_reads_back),
        cmocka_unit_test(a_file_cut_anywhere_is_refused),
        cmocka_unit_test(a_flipped_bit_anywhere_does_no_harm),
        cmocka_unit_test(bytes_behind_the_last_tensor_are_refused),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(keys_that_lie_are_refused),
        cmocka_unit_test(a_key_twice_is_refused_unless_both_say_the_same),
        cmocka_unit_test(tensors_that_lie_are_refused),
        cmocka_unit_test(a_type_that_cannot_be_read_parses_and_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
