/* test_tokenizer_vectors.c - real tokenizers give the ids that others recorded for them.
 *
 * Reads WEIR_SHARED_DATA/tokenizers and books, and skips without them:
 *
 *   gguf_vocab/NAME.gguf.inp, .out    texts and llama.cpp's ids
 *   vectors/transformersjs/FAMILY.json    texts, ids with BOS, and decoded text
 *   tiktoken/NAME                     ranks, turned into a tokenizer.json as transformers does it
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L /* popen, clock_gettime */

#include "text/tokenizer_parts.h"

#include "base/file.h"
#include "base/unicode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define TOKENIZERS SHARED_DATA "/tokenizers/"

static void need(const char *path) {
    if (file_exists(path) || file_is_folder(path)) return;
    print_message("%s is not there\n", path);
    skip();
}

static weir_tokenizer *open_at(const char *path) {
    weir_tokenizer *t;
    weir_error err;
    if (weir_tokenizer_open(&t, path, &err) == WEIR_OK) return t;
    print_error("%s\n", err.message);
    fail();
    return NULL;
}

/* ---- tiktoken's ranks as a tokenizer.json */

static size_t decode_base64(char *out, const char *text, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    int held = 0;
    size_t n = 0;
    for (size_t i = 0; i < size && text[i] != '='; i++) {
        const char *digit = strchr(digits, text[i]);
        assert_true(digit && *digit);
        bits = bits << 6 | (uint32_t)(digit - digits);
        held += 6;
        if (held < 8) continue;
        held -= 8;
        out[n++] = (char)(bits >> held);
    }
    return n;
}

/* "aGVsbG8= 123" lines become {"hello": 123}, spelled in the byte alphabet. */
static json_t *read_ranks(const char *path) {
    mapped_file file;
    assert_int_equal(file_map(&file, path, NULL), WEIR_OK);
    json_t *ranks = json_object();
    const char *at = (const char *)file.data, *end = at + file.size;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at)), *space = memchr(at, ' ', 400);
        if (!stop) stop = end;
        char bytes[400];
        assert_true(space && space < stop && space - at < 400);
        buffer text = {0};
        const size_t n = decode_base64(bytes, at, (size_t)(space - at));
        assert_true(bytes_to_text(&text, bytes, n));
        json_object_set_new(ranks, text.data, json_integer(atol(space + 1)));
        buffer_clear(&text);
        at = stop + 1;
    }
    file_unmap(&file);
    return ranks;
}

typedef struct pair {
    json_int_t rank, left, right;
    char texts[2][800];
} pair;

static int by_parts(const void *a, const void *b) {
    const pair *p = a, *q = b;
    if (p->left != q->left) return p->left < q->left ? -1 : 1;
    return (p->right > q->right) - (p->right < q->right);
}

/* All ways to cut a piece into two other pieces, in order of their ranks. */
static void add_merges(json_t *merges, const json_t *ranks, const char *text) {
    static pair pairs[400];
    size_t n = 0;
    const size_t size = strlen(text);
    for (size_t cut = utf8_length(text[0]); cut < size; cut += utf8_length(text[cut])) {
        pair *p = &pairs[n];
        assert_true(n < COUNT_OF(pairs) && size < sizeof(p->texts[0]));
        snprintf(p->texts[0], sizeof(p->texts[0]), "%.*s", (int)cut, text);
        snprintf(p->texts[1], sizeof(p->texts[1]), "%s", text + cut);
        const json_t *left = json_object_get(ranks, p->texts[0]);
        const json_t *right = json_object_get(ranks, p->texts[1]);
        if (!left || !right) continue;
        p->left = json_integer_value(left);
        p->right = json_integer_value(right);
        n++;
    }
    qsort(pairs, n, sizeof(*pairs), by_parts);
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(merges, json_pack("[s,s]", pairs[i].texts[0], pairs[i].texts[1]));
    }
}

typedef struct ranked {
    json_int_t rank;
    const char *text;
} ranked;

static int by_rank(const void *a, const void *b) {
    const ranked *p = a, *q = b;
    return (p->rank > q->rank) - (p->rank < q->rank);
}

/* The pre-tokenizer is that of a case of the golden file. */
static weir_tokenizer *open_tiktoken(const char *name, const char *like) {
    char path[512];
    snprintf(path, sizeof(path), "%s%s", TOKENIZERS "tiktoken/", name);
    need(path);
    json_t *golden, *root = json_object(), *ranks = read_ranks(path), *merges = json_array();
    ranked *sorted = calloc(json_object_size(ranks), sizeof(*sorted));
    assert_non_null(sorted);
    size_t n = 0;
    const char *key;
    json_t *value;
    json_object_foreach(ranks, key, value) sorted[n++] = (ranked){json_integer_value(value), key};
    qsort(sorted, n, sizeof(*sorted), by_rank);
    for (size_t i = 0; i < n; i++) add_merges(merges, ranks, sorted[i].text);
    free(sorted);
    assert_int_equal(json_read(&golden, TEST_DATA "/tokenizer_golden.json", false, NULL), WEIR_OK);
    const json_t *cases = json_object_get(golden, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *item = json_array_get(cases, i);
        if (strcmp(json_text(item, "name"), like) != 0) continue;
        json_t *pipeline = json_object_get(item, "pipeline");
        json_object_set(root, "pre_tokenizer", json_object_get(pipeline, "pre_tokenizer"));
        json_object_set(root, "decoder", json_object_get(pipeline, "decoder"));
    }
    json_object_set_new(root, "model",
                        json_pack("{s:s,s:o,s:o,s:b}", "type", "BPE", "vocab", ranks, "merges",
                                  merges, "ignore_merges", 1));
    weir_tokenizer *t;
    weir_error err;
    const weir_status status = tokenizer_parse_json(&t, root, name, NULL, &err);
    if (status != WEIR_OK) print_error("%s\n", err.message);
    assert_int_equal(status, WEIR_OK);
    json_decref(root);
    json_decref(golden);
    return t;
}

/* ---- .inp and .out */

static bool same(const char *what, const char *text, size_t size, const int32_t *ids, size_t n,
                 const int32_t *wanted, size_t n_wanted) {
    size_t at = 0;
    while (at < n && at < n_wanted && ids[at] == wanted[at]) at++;
    if (at == n && n == n_wanted) return true;
    print_error("%s: \"%.*s\": token %zu of %zu is %d, wanted %d of %zu\n", what, (int)size, text,
                at, n, at < n ? ids[at] : -1, at < n_wanted ? wanted[at] : -1, n_wanted);
    return false;
}

/* Counts the texts whose ids differ; *n_texts is how many there are. */
static int compare_inp(const weir_tokenizer *t, const char *name, int *n_texts) {
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char path[512];
    mapped_file in, out;
    snprintf(path, sizeof(path), TOKENIZERS "gguf_vocab/ggml-vocab-%s.gguf.inp", name);
    assert_int_equal(file_map(&in, path, NULL), WEIR_OK);
    snprintf(path, sizeof(path), TOKENIZERS "gguf_vocab/ggml-vocab-%s.gguf.out", name);
    assert_int_equal(file_map(&out, path, NULL), WEIR_OK);
    buffer texts = {0}, lines = {0};
    assert_true(buffer_append(&texts, in.data, in.size));
    assert_true(buffer_append(&lines, out.data, out.size));
    file_unmap(&in);
    file_unmap(&out);
    int failed = 0;
    char *text = texts.data, *line = lines.data;
    for (char *next; text && *line; text = next, (*n_texts)++) {
        next = strstr(text, separator);
        const size_t size = next ? (size_t)(next - text) : strlen(text);
        if (next) next += sizeof(separator) - 1;
        int32_t wanted[2048], *ids;
        size_t n_wanted = 0, n;
        for (; *line && *line != '\n'; line += strspn(line, " ")) {
            char *stop;
            const long id = strtol(line, &stop, 10);
            if (stop == line) break;
            assert_true(n_wanted < COUNT_OF(wanted));
            wanted[n_wanted++] = (int32_t)id;
            line = stop;
        }
        line += *line == '\n';
        assert_int_equal(weir_tokenize(t, text, size, 0, &ids, &n, NULL), WEIR_OK);
        failed += !same(name, text, size, ids, n, wanted, n_wanted);
        weir_free(ids);
    }
    buffer_clear(&texts);
    buffer_clear(&lines);
    return failed;
}

static void vocabularies_give_the_ids_of_llama_cpp(void **state) {
    (void)state;
    /* where the GGUF is not there, another file holds the same vocabulary */
    static const char *const pairs[][2] = {
        {"phi-3", NULL},
        {"mpt", NULL},
        {"falcon", NULL},
        {"deepseek-llm", NULL},
        {"gpt-2", NULL},
        {"llama-spm", NULL},
        {"qwen2", "hf/qwen2"},
        {"gpt-2", "hf/gpt2"},
        {"deepseek-r1-qwen", "hf/qwen2"},
        {"falcon", "hf/falcon"},
        {"llama-spm", "hf/llama2"},
    };
    need(TOKENIZERS "gguf_vocab");
    int failed = 0, n = 0;
    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        char path[512];
        if (pairs[i][1])
            snprintf(path, sizeof(path), TOKENIZERS "%s", pairs[i][1]);
        else
            snprintf(path, sizeof(path), TOKENIZERS "gguf_vocab/ggml-vocab-%s.gguf", pairs[i][0]);
        weir_tokenizer *t = open_at(path);
        failed += compare_inp(t, pairs[i][0], &n);
        weir_tokenizer_close(t);
    }
    weir_tokenizer *t = open_tiktoken("llama3_tokenizer.model", "llama3");
    failed += compare_inp(t, "llama-bpe", &n);
    weir_tokenizer_close(t);
    print_message("%d texts\n", n);
    assert_true(n > 400);
    assert_int_equal(failed, 0);
}

/* ---- vectors/transformersjs */

static bool compare_vector(const weir_tokenizer *t, const char *what, const json_t *v, int flags) {
    const json_t *text = json_object_get(v, "text"), *list = json_object_get(v, "ids");
    int32_t wanted[2048], *ids;
    size_t n_wanted = json_array_size(list), n;
    assert_true(n_wanted <= COUNT_OF(wanted));
    for (size_t i = 0; i < n_wanted; i++) {
        wanted[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    assert_int_equal(
        weir_tokenize(t, json_string_value(text), json_string_length(text), flags, &ids, &n, NULL),
        WEIR_OK);
    const bool equal =
        same(what, json_string_value(text), json_string_length(text), ids, n, wanted, n_wanted);
    weir_free(ids);
    return equal;
}

/* The text that the ids become again; transformers may tidy it up (" ," to ","), weir never does.
 */
static bool compare_decoded(const weir_tokenizer *t, const char *what, const json_t *v) {
    const json_t *list = json_object_get(v, "ids"), *wanted = json_object_get(v, "decoded");
    int32_t ids[2048];
    size_t n = json_array_size(list), size;
    assert_true(n <= COUNT_OF(ids));
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    char *text;
    assert_int_equal(weir_detokenize(t, ids, n, &text, &size, NULL), WEIR_OK);
    const bool equal =
        size == json_string_length(wanted) && strcmp(text, json_string_value(wanted)) == 0;
    if (!equal) print_error("%s: \"%s\", wanted \"%s\"\n", what, text, json_string_value(wanted));
    weir_free(text);
    return equal;
}

/* spaces: false leaves out texts with a no-break space. */
static int compare_vectors(const weir_tokenizer *t, const char *file, const char *model, int flags,
                           bool spaces, int *n) {
    char path[512];
    json_t *root;
    snprintf(path, sizeof(path), TOKENIZERS "vectors/transformersjs/%s.json", file);
    assert_int_equal(json_read(&root, path, false, NULL), WEIR_OK);
    json_t *vectors = json_object_get(root, model), *v;
    int failed = 0;
    const char *key;
    assert_true(json_object_size(vectors) > 0);
    json_object_foreach(vectors, key, v) {
        if (!spaces && strstr(json_text(v, "text"), "\xc2\xa0")) continue;
        failed += !compare_vector(t, model, v, flags);
        if (!strstr(json_text(v, "text"), " !!")) failed += !compare_decoded(t, model, v);
        (*n)++;
    }
    json_decref(root);
    return failed;
}

static void vocabularies_give_the_ids_of_transformers(void **state) {
    (void)state;
    static const struct {
        const char *path, *file, *model;
    } sets[] = {
        {"hf/gpt2", "gpt2", "Xenova/gpt2"},
        {"hf/gpt2", "gpt2", "openai-community/gpt2"},
        {"gguf_vocab/ggml-vocab-gpt-2.gguf", "gpt2", "Xenova/gpt2"},
        {"hf/gpt2", "falcon", "tiiuae/falcon-rw-1b"},
        {"hf/falcon", "falcon", "tiiuae/falcon-7b"},
        {"hf/qwen2", "qwen2", "Xenova/Qwen1.5-0.5B-Chat"},
        {"hf/llama2", "llama", "Xenova/llama-tokenizer"},
        {"gguf_vocab/ggml-vocab-llama-spm.gguf", "llama", "Xenova/llama-tokenizer"},
    };
    static const char *const ranks[][4] = {
        {"cl100k_base.tiktoken", "llama3", "gpt2", "Xenova/gpt-4"},
        {"o200k_base.tiktoken", "gpt4o", "gpt2", "Xenova/gpt-4o"},
        {"llama3_tokenizer.model", "llama3", "llama", "Xenova/llama3-tokenizer"},
    };
    need(TOKENIZERS "vectors");
    int failed = 0, n = 0;
    for (size_t i = 0; i < COUNT_OF(sets); i++) {
        char path[512];
        snprintf(path, sizeof(path), TOKENIZERS "%s", sets[i].path);
        weir_tokenizer *t = open_at(path);
        const int flags = WEIR_ADD_BOS | WEIR_PARSE_SPECIAL;
        /* somebody's editor made plain spaces of the no-break spaces in this copy of the file */
        const bool spaces = strcmp(sets[i].path, "hf/llama2") != 0;
        failed += compare_vectors(t, sets[i].file, sets[i].model, flags, spaces, &n);
        weir_tokenizer_close(t);
    }
    for (size_t i = 0; i < COUNT_OF(ranks); i++) {
        weir_tokenizer *t = open_tiktoken(ranks[i][0], ranks[i][1]);
        failed += compare_vectors(t, ranks[i][2], ranks[i][3], 0, true, &n);
        weir_tokenizer_close(t);
    }
    print_message("%d texts\n", n);
    assert_true(n > 200);
    assert_int_equal(failed, 0);
}

/* ---- books */

static buffer read_book(const char *name) {
    char command[600];
    buffer text = {0};
    snprintf(command, sizeof(command), "xz -dc '" SHARED_DATA "/books/%s.txt.xz'", name);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    static char block[1 << 16];
    for (size_t n; (n = fread(block, 1, sizeof(block), pipe)) > 0;) {
        assert_true(buffer_append(&text, block, n));
    }
    if (pclose(pipe) != 0 || text.size == 0) {
        print_message("xz cannot unpack %s\n", name);
        skip();
    }
    return text;
}

/* Encodes, and decodes token by token; each step gives whole characters. */
static double round_trip(const weir_tokenizer *t, const char *what, const buffer *text) {
    struct timespec from, to;
    int32_t *ids;
    size_t n;
    clock_gettime(CLOCK_MONOTONIC, &from);
    assert_int_equal(weir_tokenize(t, text->data, text->size, 0, &ids, &n, NULL), WEIR_OK);
    clock_gettime(CLOCK_MONOTONIC, &to);
    buffer back = {0};
    detokenizer d = {0};
    for (size_t i = 0; i < n; i++) {
        const size_t before = back.size;
        assert_true(detokenizer_push(&d, t, ids[i], true, &back));
        assert_true(utf8_is_valid(back.data + before, back.size - before));
    }
    assert_true(detokenizer_flush(&d, &back));
    weir_free(ids);
    if (back.size != text->size || memcmp(back.data, text->data, back.size) != 0) {
        size_t at = 0;
        while (at < back.size && at < text->size && back.data[at] == text->data[at]) at++;
        print_error("%s: byte %zu of %zu: \"%.40s\", wanted \"%.40s\"\n", what, at, text->size,
                    back.data + at, text->data + at);
        fail();
    }
    buffer_clear(&back);
    return (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
}

static void books_come_back_as_they_went_in(void **state) {
    (void)state;
    static const char *const books[] = {
        "bleak_house",         "dracula",
        "huckleberry_finn",    "moby_dick",
        "pride_and_prejudice", "origin_of_species_6th",
        "railway_children",    "return_of_sherlock_holmes",
    };
    static const char *const paths[] = {
        "hf/gpt2",
        "hf/falcon",
        "hf/qwen2",
        "hf/llama2",
        "hf/phi-3-mini",
        "hf/gpt-neox-20b_pythia",
        "hf/phi-2",
        "gguf_vocab/ggml-vocab-llama-spm.gguf",
        "gguf_vocab/ggml-vocab-mpt.gguf",
        "gguf_vocab/ggml-vocab-deepseek-llm.gguf",
        "gguf_vocab/ggml-vocab-baichuan.gguf",
        "gguf_vocab/ggml-vocab-dbrx.gguf",
        "gguf_vocab/ggml-vocab-falcon.gguf",
    };
    need(SHARED_DATA "/books");
    buffer texts[COUNT_OF(books)];
    for (size_t i = 0; i < COUNT_OF(books); i++) texts[i] = read_book(books[i]);
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        char path[512];
        snprintf(path, sizeof(path), TOKENIZERS "%s", paths[i]);
        weir_tokenizer *t = open_at(path);
        double seconds = 0;
        size_t bytes = 0;
        for (size_t k = 0; k < COUNT_OF(books); k++) {
            seconds += round_trip(t, paths[i], &texts[k]);
            bytes += texts[k].size;
        }
        print_message("%-44s %6.1f MB/s\n", paths[i], 1e-6 * (double)bytes / seconds);
        assert_true(seconds < 1e-6 * (double)bytes); /* a megabyte well under a second */
        weir_tokenizer_close(t);
    }
    for (size_t i = 0; i < COUNT_OF(books); i++) buffer_clear(&texts[i]);
}

/* ---- what is not for weir */

static void other_kinds_are_refused_by_name(void **state) {
    (void)state;
    static const char *const files[][2] = {
        {"spm/llama2_tokenizer.model", "SentencePiece"},
        {"spm/llama2_tokenizer.bin", "no tokenizer.json"},
        {"tiktoken/cl100k_base.tiktoken", "tiktoken"},
        {"tiktoken/llama3_tokenizer.model", "tiktoken"},
        {"spm/mistral", "has no tokenizer.json"},
        {"nowhere", "nowhere"},
    };
    need(TOKENIZERS "spm");
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        char path[512];
        weir_tokenizer *t;
        weir_error err;
        snprintf(path, sizeof(path), TOKENIZERS "%s", files[i][0]);
        assert_int_not_equal(weir_tokenizer_open(&t, path, &err), WEIR_OK);
        assert_null(t);
        if (!strstr(err.message, files[i][1])) print_error("%s\n", err.message);
        assert_non_null(strstr(err.message, files[i][1]));
        assert_non_null(strstr(err.message, path));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocabularies_give_the_ids_of_llama_cpp),
        cmocka_unit_test(vocabularies_give_the_ids_of_transformers),
        cmocka_unit_test(books_come_back_as_they_went_in),
        cmocka_unit_test(other_kinds_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
