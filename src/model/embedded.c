/* embedded.c - hands out the image that embedded.S includes.
 *
 * SPDX-License-Identifier: MIT */
#include "model/embedded.h"

#ifdef MODEL_EMBEDDED
extern const char model_image[], model_image_end[];

const void *model_embedded(size_t *size) {
    *size = (size_t)(model_image_end - model_image);
    return model_image;
}
#else
const void *model_embedded(size_t *size) {
    *size = 0;
    return NULL;
}
#endif
