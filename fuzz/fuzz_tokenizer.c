/* fuzz_tokenizer.c - any bytes as tokenizer.json or as a GGUF's vocabulary, and text through them.
 *
 * Corpus: fuzz/corpus/tokenizer, tests/data/tokenizer_llama.gguf.
 *
 * SPDX-License-Identifier: MIT */
#include "text/tokenizer_parts.h"

#include "base/unicode.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static weir_tokenizer *open_bytes(const uint8_t *data, size_t size) {
    weir_tokenizer *t = NULL;
    weir_error err;
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0) {
        arena *a = arena_new();
        gguf *g;
        if (!a) return NULL;
        if (gguf_parse(&g, a, data, size, "fuzz.gguf", &err) == WEIR_OK) {
            const weir_status status = tokenizer_open_gguf(&t, g, "fuzz.gguf", &err);
            if ((status == WEIR_OK) != (t != NULL)) abort();
        }
        arena_free(a);
        return t;
    }
    json_t *root = json_loadb((const char *)data, size, JSON_ALLOW_NUL, NULL);
    if (root) {
        const weir_status status = tokenizer_parse_json(&t, root, "fuzz.json", NULL, &err);
        if ((status == WEIR_OK) != (t != NULL)) abort();
    }
    json_decref(root);
    return t;
}

/* Ids are in the vocabulary, text is UTF-8, and pieces one by one give what they give together. */
static void pass(const weir_tokenizer *t, const char *text, size_t size, int flags) {
    int32_t *ids;
    size_t n, whole_size;
    weir_error err;
    if (weir_tokenize(t, text, size, flags, &ids, &n, &err) != WEIR_OK) return;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer_vocab(t)) abort();
    }
    char *whole;
    if (weir_detokenize(t, ids, n, &whole, &whole_size, &err) == WEIR_OK) {
        buffer parts = {0};
        detokenizer d = {0};
        if (!buffer_append(&parts, "", 0)) abort();
        for (size_t i = 0; i < n; i++) {
            const size_t before = parts.size;
            if (!detokenizer_push(&d, t, ids[i], true, &parts)) abort();
            if (!utf8_is_valid(parts.data + before, parts.size - before)) abort();
        }
        if (!detokenizer_flush(&d, &parts)) abort();
        if (parts.size != whole_size) abort();
        if (whole_size && memcmp(parts.data, whole, whole_size) != 0) abort();
        buffer_clear(&parts);
        weir_free(whole);
    }
    weir_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "Hello  World's 12345 na\xc3\xafve \xe4\xb8\x96\xe7\x95\x8c\n\n\t"
                               "<s>[x]</s> \xf0\x9f\x98\x80 \xff\xc3 aaaa abab ll\r\n";
    weir_tokenizer *t = open_bytes(data, size);
    if (!t) return 0;
    pass(t, text, sizeof(text) - 1, WEIR_ADD_BOS | WEIR_PARSE_SPECIAL);
    pass(t, text, sizeof(text) - 1, 0);
    pass(t, "", 0, WEIR_ADD_BOS);
    weir_tokenizer_close(t);
    return 0;
}
