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

weir_status backend_open(backend **out, const char *name, const plan *p, const kv_shape *kv,
                         const backend_options *o, char reason[BACKEND_REASON], weir_error *err) {
    *out = NULL;
    reason[0] = 0;
    backend_options options = *o;
    const backend_api *api = backend_find(name, &options.level);
    if (!api) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "backend %s: not known; known are auto, cpu, cpu-LEVEL, ref", name);
    }
    return api->open(out, p, kv, &options, err);
}
