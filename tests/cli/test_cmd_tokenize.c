/* test_cmd_tokenize.c - weir tokenize: ids on one line and back, of any size, and hostile input.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "weir_run.h"

#include <jansson.h>

#define LLAMA TEST_DATA "/tokenizer_llama.gguf"
#define GPT2  TEST_DATA "/tokenizer_gpt2.gguf"

/* Two tokenizers in the repository, one that wants BOS. */
static const char *const files[] = {LLAMA, GPT2};

static void text_comes_back(void **state) {
    (void)state;
    static const char *const texts[] = {"", "a", "Hello, world\n", "two\nlines\n\n\ttab",
                                        "gr\xc3\xbc\xc3\x9f dich \xf0\x9f\x98\x80 \xe4\xbd\xa0"};
    for (size_t f = 0; f < COUNT_OF(files); f++) {
        for (size_t i = 0; i < COUNT_OF(texts); i++) {
            ran ids = weir(texts[i], "tokenize", files[f], "--no-bos", NULL);
            assert_status(&ids, 0);
            assert_ptr_equal(strchr(ids.out, '\n'), ids.out + ids.out_size - 1);
            assert_int_equal(strspn(ids.out, "0123456789 \n"), ids.out_size);
            ran text = weir(ids.out, "tokenize", "-d", files[f], NULL);
            assert_status(&text, 0);
            assert_string_equal(text.out, texts[i]);
            ran_clear(&text);
            ran_clear(&ids);
        }
    }
}

static void the_library_and_the_command_agree(void **state) {
    (void)state;
    static const char text[] = "It was the best of times, it was the worst of times.";
    for (size_t f = 0; f < COUNT_OF(files); f++) {
        for (int bos = 0; bos < 2; bos++) {
            weir_tokenizer *t;
            int32_t *ids;
            size_t n;
            char want[1024] = "";
            assert_int_equal(weir_tokenizer_open(&t, files[f], NULL), WEIR_OK);
            assert_int_equal(
                weir_tokenize(t, text, sizeof text - 1, bos ? WEIR_ADD_BOS : 0, &ids, &n, NULL),
                WEIR_OK);
            for (size_t i = 0, at = 0; i < n; i++) {
                at += (size_t)snprintf(want + at, sizeof want - at, i ? " %d" : "%d", ids[i]);
            }
            strcat(want, "\n");
            ran r = weir(text, "tokenize", files[f], bos ? NULL : "--no-bos", NULL);
            assert_status(&r, 0);
            assert_string_equal(r.out, want);
            ran_clear(&r);
            weir_free(ids);
            weir_tokenizer_close(t);
        }
    }
}

static void json_is_json(void **state) {
    (void)state;
    ran r = weir("Hello", "tokenize", LLAMA, "--json", NULL);
    json_t *j = json_loads(r.out, 0, NULL);
    assert_non_null(j);
    assert_int_equal(json_integer_value(json_object_get(j, "tokens")),
                     json_array_size(json_object_get(j, "ids")));
    assert_int_equal(json_integer_value(json_object_get(j, "bytes")), 5);
    json_decref(j);
    ran_clear(&r);
}

static void a_large_text_is_read_to_its_end(void **state) {
    (void)state;
    const size_t n = 3 << 20;
    char *text = malloc(n + 1);
    for (size_t i = 0; i < n; i++) text[i] = i % 7 == 6 ? ' ' : (char)('a' + i % 5);
    text[n] = 0;
    ran ids = weir(text, "tokenize", GPT2, NULL);
    assert_status(&ids, 0);
    ran back = weir(ids.out, "tokenize", GPT2, "--decode", NULL);
    assert_int_equal(back.out_size, n);
    assert_memory_equal(back.out, text, n);
    ran_clear(&back);
    ran_clear(&ids);
    free(text);
}

static void words_that_are_no_ids_are_named(void **state) {
    (void)state;
    static const struct {
        const char *input, *what;
    } cases[] = {
        {"1 2 x", "word 3, \"x\""},
        {"1 -2", "word 2, \"-2\""},
        {"1.5", "\"1.5\""},
        {"99999999999999999999999", "is not a token id"},
        {"2147483648", "not a token id"},
        {"2147483647", "2147483647"},
        {"5 123456789", "123456789"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        ran r = weir(cases[i].input, "tokenize", LLAMA, "--decode", NULL);
        assert_status(&r, 1);
        assert_one_line(&r, "weir tokenize: ", cases[i].what);
        ran_clear(&r);
    }
}

static void stories_tokenizer_gives_the_known_ids(void **state) {
    (void)state;
    char path[512];
    if (!shared_data(path, sizeof path, "models/stories260K")) {
        print_message("no %s: skipped\n", path);
        skip();
    }
    ran r = weir("Once upon a time", "tokenize", path, NULL);
    assert_status(&r, 0);
    assert_string_equal(r.out, "1 403 407 261 378\n");
    ran_clear(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_comes_back),
        cmocka_unit_test(the_library_and_the_command_agree),
        cmocka_unit_test(json_is_json),
        cmocka_unit_test(a_large_text_is_read_to_its_end),
        cmocka_unit_test(words_that_are_no_ids_are_named),
        cmocka_unit_test(stories_tokenizer_gives_the_known_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
