/* fuzz_config.c - any bytes as config.json.
 *
 * Corpus: tests/data/format/folder/config.json and real configurations.
 *
 * SPDX-License-Identifier: MIT */
#include "format/checkpoint.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is read must keep the bounds that everything behind relies on. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nn_config c;
    weir_error err;
    if (config_from_json(&c, NULL, (const char *)data, size, "config.json", &err) != WEIR_OK) {
        return 0;
    }
    if (c.n_layers < 1 || c.n_layers > NN_MAX_LAYERS || c.n_heads % c.n_kv_heads != 0) abort();
    if ((int64_t)c.n_heads * c.head_dim > 1 << 20 || c.rope.dims > c.head_dim) abort();
    return 0;
}
