/* test_tokenizer.c - tokenizer.json and GGUF vocabularies give the ids their own libraries give.
 *
 * tests/data/tokenizer_golden.json, made by tools/make_tokenizer_golden.py, holds two tiny models,
 * a list of unpleasant texts, and for each of many pipelines the ids and the decoded text; the
 * small GGUF files beside it hold the same vocabularies.
 *
 * SPDX-License-Identifier: MIT */
#include "text/tokenizer_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static json_t *golden;

static int load_golden(void **state) {
    (void)state;
    weir_error err;
    return json_read(&golden, TEST_DATA "/tokenizer_golden.json", false, &err) == WEIR_OK ? 0 : -1;
}

static int drop_golden(void **state) {
    (void)state;
    json_decref(golden);
    return 0;
}

/* ---- comparing */

/* Prints where two lists of ids part, so that a failure can be read. */
static bool same_ids(const char *what, const char *text, const int32_t *ids, size_t n,
                     const json_t *wanted) {
    size_t at = 0;
    while (at < n && at < json_array_size(wanted) &&
           ids[at] == json_integer_value(json_array_get(wanted, at))) {
        at++;
    }
    if (at == n && at == json_array_size(wanted)) return true;
    print_error("%s: \"%s\": token %zu of %zu is %d, wanted %d of %zu\n", what, text, at, n,
                at < n ? ids[at] : -1, (int)json_integer_value(json_array_get(wanted, at)),
                json_array_size(wanted));
    return false;
}

/* Encodes every text with the flags and counts what differs from wanted. */
static int failures(const weir_tokenizer *t, const char *what, int flags, const json_t *wanted) {
    const json_t *texts = json_object_get(golden, "texts");
    int failed = 0;
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *text = json_array_get(texts, i);
        int32_t *ids;
        size_t n;
        weir_error err;
        assert_int_equal(tokenizer_encode(t, json_string_value(text), json_string_length(text),
                                          flags, &ids, &n, &err),
                         WEIR_OK);
        failed += !same_ids(what, json_string_value(text), ids, n, json_array_get(wanted, i));
        mem_free(ids);
    }
    return failed;
}

/* A complete tokenizer.json from a case of the golden file. */
static weir_tokenizer *open_case(const json_t *item) {
    json_t *root = json_deep_copy(json_object_get(item, "pipeline"));
    json_t *model =
        json_copy(json_object_get(json_object_get(golden, "models"), json_text(item, "model")));
    json_object_update(model, json_object_get(item, "options"));
    json_object_set_new(root, "model", model);
    weir_tokenizer *t;
    weir_error err;
    const weir_status status = tokenizer_parse_json(&t, root, json_text(item, "name"), NULL, &err);
    if (status != WEIR_OK) print_error("%s\n", err.message);
    assert_int_equal(status, WEIR_OK);
    json_decref(root);
    return t;
}

static const json_t *find_case(const char *name) {
    const json_t *cases = json_object_get(golden, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *item = json_array_get(cases, i);
        if (strcmp(json_text(item, "name"), name) == 0) return item;
    }
    return NULL;
}

/* ---- promises */

static void every_pipeline_gives_the_ids_of_the_tokenizers_package(void **state) {
    (void)state;
    const json_t *cases = json_object_get(golden, "cases");
    int failed = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *item = json_array_get(cases, i);
        weir_tokenizer *t = open_case(item);
        const char *key;
        json_t *wanted;
        json_object_foreach(json_object_get(item, "ids"), key, wanted) {
            failed += failures(t, json_text(item, "name"), key[0] - '0', wanted);
        }
        weir_tokenizer_close(t);
    }
    assert_true(json_array_size(cases) > 20);
    assert_int_equal(failed, 0);
}

static void every_decoder_gives_the_text_of_the_tokenizers_package(void **state) {
    (void)state;
    const json_t *cases = json_object_get(golden, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *item = json_array_get(cases, i);
        weir_tokenizer *t = open_case(item);
        const json_t *lists = json_object_get(json_object_get(item, "ids"), "2");
        for (size_t k = 0; k < json_array_size(lists); k++) {
            const json_t *list = json_array_get(lists, k);
            const json_t *wanted = json_array_get(json_object_get(item, "decoded"), k);
            int32_t ids[1024];
            size_t n = json_array_size(list), size;
            assert_true(n <= COUNT_OF(ids));
            for (size_t j = 0; j < n; j++) {
                ids[j] = (int32_t)json_integer_value(json_array_get(list, j));
            }
            char *text;
            assert_int_equal(weir_detokenize(t, ids, n, &text, &size, NULL), WEIR_OK);
            if (strcmp(text, json_string_value(wanted)) != 0) {
                print_error("%s: \"%s\"\n wanted \"%s\"\n", json_text(item, "name"), text,
                            json_string_value(wanted));
            }
            assert_int_equal(size, json_string_length(wanted));
            assert_memory_equal(text, json_string_value(wanted), size);
            weir_free(text);
        }
        weir_tokenizer_close(t);
    }
}

static void gguf_vocabularies_give_the_ids_of_llama_cpp(void **state) {
    (void)state;
    const char *name, *flags;
    json_t *runs, *wanted;
    json_object_foreach(json_object_get(golden, "gguf"), name, runs) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", TEST_DATA, name);
        weir_tokenizer *t;
        assert_int_equal(weir_tokenizer_open(&t, path, NULL), WEIR_OK);
        json_object_foreach(runs, flags, wanted) {
            assert_int_equal(failures(t, name, flags[0] - '0', wanted), 0);
        }
        weir_tokenizer_close(t);
    }
}

static void bytes_that_are_no_text_become_replacement_characters(void **state) {
    (void)state;
    weir_tokenizer *t = open_case(find_case("gpt2"));
    int32_t *a, *b;
    size_t n, m;
    assert_int_equal(weir_tokenize(t, "a\xff\xe2\x82z", 5, 0, &a, &n, NULL), WEIR_OK);
    assert_int_equal(weir_tokenize(t, "a\xef\xbf\xbd\xef\xbf\xbdz", 8, 0, &b, &m, NULL), WEIR_OK);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n * sizeof *a);
    weir_free(a);
    weir_free(b);
    weir_tokenizer_close(t);
}

static void bos_is_added_only_when_asked_for(void **state) {
    (void)state;
    weir_tokenizer *t = open_case(find_case("llama2_0"));
    int32_t *ids;
    size_t n;
    assert_true(tokenizer_adds_bos(t));
    assert_int_equal(weir_tokenize(t, "", 0, WEIR_ADD_BOS, &ids, &n, NULL), WEIR_OK);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], tokenizer_find(t, "<s>"));
    weir_free(ids);
    assert_int_equal(weir_tokenize(t, "", 0, 0, &ids, &n, NULL), WEIR_OK);
    assert_int_equal(n, 0);
    weir_free(ids);
    weir_tokenizer_close(t);
}

static void special_tokens_in_text_are_text_unless_asked_for(void **state) {
    (void)state;
    weir_tokenizer *t = open_case(find_case("gpt2"));
    const int32_t end = tokenizer_find(t, "<|end|>");
    int32_t *ids;
    size_t n;
    assert_true(end >= 0);
    assert_int_equal(weir_tokenize(t, "<|end|>", 7, WEIR_PARSE_SPECIAL, &ids, &n, NULL), WEIR_OK);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], end);
    weir_free(ids);
    assert_int_equal(weir_tokenize(t, "<|end|>", 7, 0, &ids, &n, NULL), WEIR_OK);
    for (size_t i = 0; i < n; i++) assert_int_not_equal(ids[i], end);
    weir_free(ids);
    assert_true(tokenizer_is_end(t, end));
    assert_false(tokenizer_is_end(t, tokenizer_find(t, "code")));
    assert_false(tokenizer_is_end(t, -1));
    assert_false(tokenizer_is_end(t, tokenizer_vocab(t)));
    weir_tokenizer_close(t);
}

static void a_long_word_and_the_cache_change_nothing(void **state) {
    (void)state;
    weir_tokenizer *t = open_case(find_case("gpt2"));
    enum { COPIES = 400 };
    const char line[] = " The river's weir, 12345 times: \xe6\xb2\xb3\xe3\x81\xaf!";
    buffer text = {0};
    for (int i = 0; i < COPIES; i++) assert_true(buffer_append(&text, line, sizeof line - 1));
    int32_t *one, *all;
    size_t n, m;
    assert_int_equal(weir_tokenize(t, line, sizeof line - 1, 0, &one, &n, NULL), WEIR_OK);
    assert_int_equal(weir_tokenize(t, text.data, text.size, 0, &all, &m, NULL), WEIR_OK);
    assert_int_equal(m, n * COPIES);
    for (size_t i = 0; i < m; i++) assert_int_equal(all[i], one[i % n]);
    weir_free(one);
    weir_free(all);
    buffer_clear(&text);
    weir_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pipeline_gives_the_ids_of_the_tokenizers_package),
        cmocka_unit_test(every_decoder_gives_the_text_of_the_tokenizers_package),
        cmocka_unit_test(gguf_vocabularies_give_the_ids_of_llama_cpp),
        cmocka_unit_test(bytes_that_are_no_text_become_replacement_characters),
        cmocka_unit_test(bos_is_added_only_when_asked_for),
        cmocka_unit_test(special_tokens_in_text_are_text_unless_asked_for),
        cmocka_unit_test(a_long_word_and_the_cache_change_nothing),
    };
    return cmocka_run_group_tests(tests, load_golden, drop_golden);
}
