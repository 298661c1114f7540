/* embedded.h - the model inside this library, when it was built with one.
 *
 * models/weir.gguf becomes read-only data of the library (embedded.S); without that file there is
 * no embedded model and everything else works.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/* The GGUF image, aligned to 64 bytes; NULL: none. */
const void *model_embedded(size_t *size);
