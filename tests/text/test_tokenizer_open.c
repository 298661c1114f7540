/* test_tokenizer_open.c - finding the tokenizer and the chat template, and refusing what is
 * neither.
 *
 * Folders are made under TMPDIR from a case of tests/data/tokenizer_golden.json.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L /* mkdtemp */

#include "text/tokenizer_parts.h"

#include "format/images.h"

#include <unistd.h>

static char folder[256];
static json_t *pipeline; /* a complete tokenizer.json */

static int make_folder(void **state) {
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof(folder), "%s/weir-test-XXXXXX", tmp ? tmp : "/tmp");
    json_t *golden;
    if (!mkdtemp(folder)) return -1;
    if (json_read(&golden, TEST_DATA "/tokenizer_golden.json", false, NULL) != WEIR_OK) return -1;
    const json_t *item = json_array_get(json_object_get(golden, "cases"), 0);
    json_t *model = json_object_get(json_object_get(golden, "models"), json_text(item, "model"));
    pipeline = json_deep_copy(json_object_get(item, "pipeline"));
    json_object_set(pipeline, "model", model);
    json_decref(golden);
    return 0;
}

static const char *path_of(const char *name) {
    static char path[512];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static void write_text(const char *name, const char *text) {
    FILE *f = fopen(path_of(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
}

static void remove_files(void) {
    static const char *const names[] = {
        "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
        "vocab.gguf",     "chat_template.json",    "other.json",
        "config.json",    "tokenizer.model",
    };
    for (size_t i = 0; i < COUNT_OF(names); i++) unlink(path_of(names[i]));
}

static int remove_folder(void **state) {
    (void)state;
    remove_files();
    rmdir(folder);
    json_decref(pipeline);
    return 0;
}

static void write_tokenizer(const char *name, const json_t *root) {
    char *text = json_dumps(root, JSON_COMPACT);
    assert_non_null(text);
    write_text(name, text);
    free(text);
}

static weir_tokenizer *open_at(const char *path) {
    weir_tokenizer *t;
    weir_error err;
    if (weir_tokenizer_open(&t, path, &err) != WEIR_OK) fail_msg("%s", err.message);
    return t;
}

static void assert_template(const char *path, const char *wanted) {
    weir_tokenizer *t = open_at(path);
    const char *text = tokenizer_chat_template(t);
    if (wanted)
        assert_string_equal(text, wanted);
    else
        assert_null(text);
    weir_tokenizer_close(t);
}

static void assert_refused(const char *path, const char *words) {
    weir_tokenizer *t;
    weir_error err;
    assert_int_not_equal(weir_tokenizer_open(&t, path, &err), WEIR_OK);
    assert_null(t);
    assert_says(&err, words);
    assert_says(&err, path);
}

/* ---- places */

static void assert_ids(const char *path, size_t n_wanted, const int32_t *wanted) {
    weir_tokenizer *t = open_at(path);
    int32_t *ids;
    size_t n, size;
    char *text;
    assert_int_equal(weir_tokenize(t, "The river", 9, 0, &ids, &n, NULL), WEIR_OK);
    if (wanted) {
        assert_int_equal(n, n_wanted);
        assert_memory_equal(ids, wanted, n * sizeof(*ids));
    }
    assert_int_equal(weir_detokenize(t, ids, n, &text, &size, NULL), WEIR_OK);
    assert_int_equal(size, 9);
    assert_string_equal(text, "The river");
    weir_free(text);
    weir_free(ids);
    weir_tokenizer_close(t);
}

static void folders_files_and_ggufs_open(void **state) {
    (void)state;
    remove_files();
    write_tokenizer("tokenizer.json", pipeline);
    write_tokenizer("other.json", pipeline);
    weir_tokenizer *t = open_at(folder);
    int32_t *ids;
    size_t n;
    assert_int_equal(weir_tokenize(t, "The river", 9, 0, &ids, &n, NULL), WEIR_OK);
    assert_ids(folder, n, ids);
    assert_ids(path_of("tokenizer.json"), n, ids);
    assert_ids(path_of("other.json"), n, ids);
    weir_free(ids);
    weir_tokenizer_close(t);
    assert_ids(TEST_DATA "/tokenizer_gpt2.gguf", 0, NULL);
    assert_ids(TEST_DATA "/tokenizer_llama.gguf", 0, NULL);
}

static void ids_out_of_range_are_refused(void **state) {
    (void)state;
    weir_tokenizer *t = open_at(TEST_DATA "/tokenizer_gpt2.gguf");
    char *text;
    size_t size;
    weir_error err;
    const int32_t ids[][1] = {{-1}, {tokenizer_vocab(t)}};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(weir_detokenize(t, ids[i], 1, &text, &size, &err), WEIR_ERR_ARGUMENT);
        assert_null(text);
        assert_says(&err, "the vocabulary has 0 to");
    }
    weir_tokenizer_close(t);
    weir_free(NULL);
}

static void the_chat_template_is_found_wherever_models_keep_it(void **state) {
    (void)state;
    remove_files();
    write_tokenizer("tokenizer.json", pipeline);
    assert_template(folder, NULL);
    write_text("chat_template.json", "{\"chat_template\": \"from processor\"}");
    assert_template(folder, "from processor");
    write_text("tokenizer_config.json", "{\"chat_template\": \"from config\"}");
    assert_template(folder, "from config");
    assert_template(path_of("tokenizer.json"), "from config");
    write_text("tokenizer_config.json",
               "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"tools\"},"
               " {\"name\": \"default\", \"template\": \"named default\"}]}");
    assert_template(folder, "named default");
    write_text("tokenizer_config.json",
               "{\"chat_template\": [{\"name\": \"only\", \"template\": \"the only one\"}]}");
    assert_template(folder, "the only one");
    write_text("chat_template.jinja", "from a file of its own\n");
    assert_template(folder, "from a file of its own\n");
    write_text("chat_template.json", "{");
    write_text("tokenizer_config.json", "{");
    assert_refused(folder, "tokenizer_config.json: line 1");
}

/* ---- GGUF */

static void strings(image *m, const char *key, const char *const *texts, uint64_t n) {
    image_string(m, key);
    image_u32(m, 9);
    image_u32(m, 8);
    image_u64(m, n);
    for (uint64_t i = 0; i < n; i++) image_string(m, texts[i]);
}

static void write_gguf(const char *model, const char *pre, const char *chat_template) {
    static const char *const tokens[] = {"a", "b", "ab"}, *const merges[] = {"a b"};
    image m = {0};
    image_gguf(&m, 3, 0, 5);
    image_key_string(&m, "tokenizer.ggml.model", model);
    image_key_string(&m, "tokenizer.ggml.pre", pre);
    image_key_string(&m, chat_template ? "tokenizer.chat_template" : "x",
                     chat_template ? chat_template : "x");
    strings(&m, "tokenizer.ggml.tokens", tokens, COUNT_OF(tokens));
    strings(&m, "tokenizer.ggml.merges", merges, COUNT_OF(merges));
    FILE *f = fopen(path_of("vocab.gguf"), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(m.data, 1, m.size, f), m.size);
    fclose(f);
    buffer_clear(&m);
}

static void ggufs_without_tensors_open(void **state) {
    (void)state;
    remove_files();
    write_gguf("gpt2", "qwen2", NULL);
    assert_template(path_of("vocab.gguf"), NULL);
    write_gguf("gpt2", "llama-bpe", "{{ messages }}");
    assert_template(path_of("vocab.gguf"), "{{ messages }}");
    weir_tokenizer *t = open_at(path_of("vocab.gguf"));
    int32_t *ids;
    size_t n;
    assert_int_equal(weir_tokenize(t, "abb", 3, 0, &ids, &n, NULL), WEIR_OK);
    assert_int_equal(n, 2);
    assert_int_equal(ids[0], 2);
    assert_int_equal(ids[1], 1);
    weir_free(ids);
    weir_tokenizer_close(t);
}

static void unknown_vocabularies_of_ggufs_are_refused(void **state) {
    (void)state;
    remove_files();
    write_gguf("gpt2", "frobnicate", NULL);
    assert_refused(path_of("vocab.gguf"), "\"frobnicate\"");
    write_gguf("bert", "default", NULL);
    assert_refused(path_of("vocab.gguf"), "\"bert\"");
    write_gguf("t5", "default", NULL);
    assert_refused(path_of("vocab.gguf"), "\"t5\"");
    write_gguf("llama", "default", NULL);
    assert_refused(path_of("vocab.gguf"), "tokenizer.ggml.scores");
}

/* ---- tokenizer.json */

/* The file with one node replaced. */
static void refuses(const char *key, const char *node, const char *words) {
    json_t *root = json_copy(pipeline);
    json_t *value = json_loads(node, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    json_object_set_new(root, key, value);
    write_tokenizer("tokenizer.json", root);
    json_decref(root);
    weir_tokenizer *t;
    weir_error err;
    assert_int_not_equal(weir_tokenizer_open(&t, folder, &err), WEIR_OK);
    assert_null(t);
    assert_says(&err, words);
    assert_says(&err, "tokenizer.json");
}

static void what_is_not_known_is_refused_by_name(void **state) {
    (void)state;
    remove_files();
    refuses("model", "{\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}", "WordPiece");
    refuses("model", "{\"type\": \"Unigram\", \"vocab\": [[\"a\", 0]]}", "Unigram");
    refuses("model", "{\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}}", "WordLevel");
    refuses("model", "{\"type\": \"BPE\", \"vocab\": {\"a\": 0}}", "merges");
    refuses("model", "{\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}",
            "not in the vocabulary");
    refuses("model", "{\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}", "vocab");
    refuses("model", "{\"type\": \"BPE\", \"vocab\": {\"a\": 999999999}, \"merges\": []}", "vocab");
    refuses("model", "[]", "model");
    refuses("normalizer", "{\"type\": \"Frobnicate\"}", "Frobnicate");
    refuses("normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"\"}",
            "Precompiled");
    refuses("normalizer", "{\"type\": \"BertNormalizer\"}", "BertNormalizer");
    refuses("pre_tokenizer", "{\"type\": \"Frobnicate\"}", "Frobnicate");
    refuses("pre_tokenizer", "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"}}",
            "missing closing");
    refuses("decoder", "{\"type\": \"Frobnicate\"}", "Frobnicate");
    refuses("post_processor", "{\"type\": \"Frobnicate\"}", "Frobnicate");
}

static void files_of_other_kinds_are_refused(void **state) {
    (void)state;
    remove_files();
    assert_refused(folder, "has no tokenizer.json");
    write_text("tokenizer.model", "\n\x0e\n\x05<unk>");
    assert_refused(folder, "convert its tokenizer.model");
    assert_refused(path_of("tokenizer.model"), "SentencePiece");
    write_text("other.json", "");
    assert_refused(path_of("other.json"), "is empty");
    write_text("other.json", "hello");
    assert_refused(path_of("other.json"), "is no tokenizer.json");
    write_text("other.json", "{\"model\": ");
    assert_refused(path_of("other.json"), "line 1");
    write_text("other.json", "{}");
    assert_refused(path_of("other.json"), "model");
    assert_refused(path_of("absent"), "absent");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_files_and_ggufs_open),
        cmocka_unit_test(ids_out_of_range_are_refused),
        cmocka_unit_test(the_chat_template_is_found_wherever_models_keep_it),
        cmocka_unit_test(ggufs_without_tensors_open),
        cmocka_unit_test(unknown_vocabularies_of_ggufs_are_refused),
        cmocka_unit_test(what_is_not_known_is_refused_by_name),
        cmocka_unit_test(files_of_other_kinds_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
