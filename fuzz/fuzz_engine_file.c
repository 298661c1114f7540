/* fuzz_engine_file.c - any bytes as an engine file: what is taken lies inside it.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/engine_file.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    engine_header h;
    weir_error err = {0};
    if (cuda_engine_parse(&h, data, size, "fuzz.engine", &err) != WEIR_OK) {
        if (!err.message[0]) abort();
        return 0;
    }
    char text[256];
    cuda_engine_targets_text(text, sizeof text, &h);
    for (int i = 0; i < h.n_images; i++) {
        const volatile uint8_t *code = data + h.images[i].at;
        (void)code[0];
        (void)code[h.images[i].bytes - 1];
    }
    return 0;
}
