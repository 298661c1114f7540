/* test_safetensors.c - the safetensors container: tensors come back, damage is refused.
 *
 * SPDX-License-Identifier: MIT */
#include "format/loading.h"

#include "images.h"

typedef struct opened {
    checkpoint c;
    weir_status status;
    weir_error err;
} opened;

/* Reads an image made of a header and zeros for data. */
static opened *read_image(const void *data, size_t size) {
    opened *o = calloc(1, sizeof *o);
    o->c.arena = arena_new();
    o->c.path = "x.safetensors";
    o->status = safetensors_read(&o->c, data, size, o->c.path, &o->err);
    if (o->status == WEIR_OK) o->status = loading_sort(&o->c, &o->err);
    return o;
}

static void close_image(opened *o) {
    mem_free(o->c.tensors);
    arena_free(o->c.arena);
    free(o);
}

static opened *read_header(const char *header, size_t data_bytes) {
    const size_t padded = (strlen(header) + 7) / 8 * 8, size = 8 + padded + data_bytes;
    uint8_t *file = calloc(1, size);
    memcpy(file, &(uint64_t){padded}, 8);
    memset(file + 8, ' ', padded);
    memcpy(file + 8, header, strlen(header));
    opened *o = read_image(file, size);
    free(file); /* nothing below reads the data */
    return o;
}

static void refused(const char *header, size_t data_bytes, const char *words) {
    opened *o = read_header(header, data_bytes);
    if (o->status == WEIR_OK) fail_msg("opened, wanted was \"%s\"", words);
    assert_says(&o->err, words);
    close_image(o);
}

static void tensors_come_back_with_type_and_shape(void **state) {
    (void)state;
    opened *o = read_header("{\"b\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
                            "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                            "\"s\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[20,22]},"
                            "\"__metadata__\":{\"format\":\"pt\"}}",
                            22);
    assert_string_equal(o->err.message, "");
    assert_int_equal(o->c.n_tensors, 3);
    assert_int_equal(o->c.parameters, 9);
    const tensor_view *b = checkpoint_find(&o->c, "b"), *s = checkpoint_find(&o->c, "s");
    assert_int_equal(b->type, TENSOR_F16);
    assert_int_equal(b->n_dims, 2);
    assert_int_equal(b->dims[0], 2);
    assert_int_equal(b->dims[1], 3);
    assert_int_equal(b->bytes, 12);
    assert_int_equal(s->n_dims, 1);
    assert_int_equal(s->dims[0], 1);
    assert_null(checkpoint_find(&o->c, "c"));
    close_image(o);
}

static void buffers_no_model_reads_are_left_out(void **state) {
    (void)state;
    opened *o = read_header("{\"gpt_neox.layers.0.attention.bias\":"
                            "{\"dtype\":\"BOOL\",\"shape\":[1,1,2,2],\"data_offsets\":[0,4]},"
                            "\"gpt_neox.layers.0.attention.masked_bias\":"
                            "{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[4,8]},"
                            "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
                            12);
    assert_int_equal(o->status, WEIR_OK);
    assert_int_equal(o->c.n_tensors, 1);
    close_image(o);
}

static void headers_that_lie_are_refused(void **state) {
    (void)state;
    refused("[]", 0, "header is not a JSON object");
    refused("{\"a\":", 0, "header is not JSON");
    refused("{\"a\":1,\"a\":1}", 0, "header is not JSON");
    uint8_t file[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    opened *o = read_image(file, sizeof file);
    assert_says(&o->err, "does not fit");
    close_image(o);
    o = read_image(file, 7);
    assert_says(&o->err, "does not fit");
    close_image(o);
}

static void deep_json_is_refused(void **state) {
    (void)state;
    enum { DEPTH = 100000 };
    char *header = malloc(DEPTH + 1);
    memset(header, '[', DEPTH);
    header[DEPTH] = 0;
    refused(header, 0, "maximum parsing depth");
    free(header);
}

static void tensors_that_lie_are_refused(void **state) {
    (void)state;
#define T(dtype, shape, from, to) \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"
    refused("{\"t\":3}", 0, "tensor t: dtype is missing");
    refused("{\"t\":{\"dtype\":\"F32\"}}", 0, "shape is missing");
    refused("{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, "data_offsets");
    refused("{\"t\":" T("F8_E5M2", "[4]", "0", "4") "}", 4, "type F8_E5M2 is not supported");
    refused("{\"t\":" T("F33", "[4]", "0", "4") "}", 4, "type F33 is not supported");
    refused("{\"t\":" T("F32", "[1,1,1,1,1]", "0", "4") "}", 4, "more than 4 dimensions");
    refused("{\"t\":" T("F32", "[-1]", "0", "4") "}", 4, "a dimension is not a size");
    refused("{\"t\":" T("F32", "[1.5]", "0", "4") "}", 4, "a dimension is not a size");
    refused("{\"t\":" T("F32", "[4294967296,4294967296]", "0", "4") "}", 4, "larger than any");
    refused("{\"t\":" T("F32", "[0]", "0", "0") "}", 0, "has no elements");
    refused("{\"t\":" T("F32", "[2]", "0", "4") "}", 4, "has 4 bytes, its shape wants 8");
    refused("{\"t\":" T("F32", "[1]", "8", "4") "}", 8, "two rising offsets");
    refused("{\"t\":" T("F32", "[2]", "0", "8") "}", 4, "is it truncated?");
    refused("{\"t\":" T("F32", "[1]", "0", "4") "}", 8, "has 4 bytes behind the last tensor");
    refused("{\"t\":" T("F32", "[1]", "4", "8") "}", 8, "leaves a gap");
    refused("{\"t\":" T("F32", "[2]", "0", "8") ",\"u\":" T("F32", "[1]", "4", "8") "}", 8,
            "tensor u: overlaps another");
    refused("{\"t\":" T("F16", "[1]", "0", "2") ",\"u\":" T("F32", "[1]", "2", "6") "}", 6,
            "tensor u: data is misaligned for F32");
#undef T
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_come_back_with_type_and_shape),
        cmocka_unit_test(buffers_no_model_reads_are_left_out),
        cmocka_unit_test(headers_that_lie_are_refused),
        cmocka_unit_test(deep_json_is_refused),
        cmocka_unit_test(tensors_that_lie_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
