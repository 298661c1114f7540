/* backend.c - back ends by name.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/backend.h"

#include <string.h>

const backend_api *backend_find(const char *name, const char **level) {
    *level = NULL;
    if (!name || strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0) return &backend_cpu;
    if (strcmp(name, "ref") == 0) return &backend_ref;
    if (strncmp(name, "cpu-", 4) == 0) {
        *level = name + 4; /* checked where it is used */
        return &backend_cpu;
    }
    return NULL;
}
