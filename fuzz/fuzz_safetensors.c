/* fuzz_safetensors.c - any bytes as a .safetensors file: read, the ends of every tensor touched.
 *
 * Corpus: tests/data/format/folder, tests/data/format/sharded.
 *
 * SPDX-License-Identifier: MIT */
#include "format/loading.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void touch(const void *p) {
    (void)*(const volatile uint8_t *)p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    checkpoint c = {.arena = arena_new(), .path = "fuzz.safetensors"};
    weir_error err;
    if (safetensors_read(&c, data, size, c.path, &err) == WEIR_OK &&
        loading_sort(&c, &err) == WEIR_OK) {
        for (int i = 0; i < c.n_tensors; i++) {
            const uint8_t *p = c.tensors[i].data;
            touch(p);
            touch(p + c.tensors[i].bytes - 1);
        }
    }
    mem_free(c.tensors);
    arena_free(c.arena);
    return 0;
}
