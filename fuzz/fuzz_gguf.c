/* fuzz_gguf.c - any bytes as a GGUF image: opened, every tensor decoded, closed.
 *
 * Corpus: tests/data/format/gguf.
 *
 * SPDX-License-Identifier: MIT */
#include "format/checkpoint.h"
#include "format/gguf.h"

enum { MAX_ROW = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void touch(const void *p) {
    (void)*(const volatile uint8_t *)p;
}

/* The first row and the last byte, so that a wrong bound is a bad read. */
static void read_tensor(const tensor_view *t) {
    static float out[MAX_ROW];
    const int64_t row = t->dims[t->n_dims - 1];
    if (row <= MAX_ROW) tensor_row_to_float(t->type, t->data, out, row);
    touch((const uint8_t *)t->data + t->bytes - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    checkpoint *c;
    weir_error err;
    if (checkpoint_open_memory(&c, data, size, &err) != WEIR_OK) return 0;
    for (int i = 0; i < c->n_tensors; i++) read_tensor(&c->tensors[i]);
    const gguf_string *strings;
    size_t n;
    if (gguf_get_strings(c->gguf, "tokenizer.ggml.tokens", &strings, &n)) {
        for (size_t i = 0; i < n; i++) {
            if (strings[i].size) touch(strings[i].data + strings[i].size - 1);
        }
    }
    checkpoint_close(c);
    return 0;
}
