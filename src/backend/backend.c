/* backend.c - back ends by name.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/backend.h"

#include <stdio.h>
#include <string.h>

/* What may follow the name behind a dash is checked where it is used. */
const backend_api *backend_find(const char *name, const char **level) {
    static const backend_api *const all[] = {&backend_cpu, &backend_ref, &backend_cuda};
    *level = NULL;
    if (!name || strcmp(name, "auto") == 0) return &backend_cpu;
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        const size_t n = strlen(all[i]->name);
        if (strncmp(name, all[i]->name, n) != 0 || (name[n] && name[n] != '-')) continue;
        if (name[n] && all[i] == &backend_ref) return NULL;
        if (name[n]) *level = name + n + 1;
        return all[i];
    }
    return NULL;
}

const char *backend_gpu(const char *name) {
    const char *level;
    if (!name || strcmp(name, "auto") == 0) return cuda_is_here() ? backend_cuda.name : NULL;
    return backend_find(name, &level) == &backend_cuda ? name : NULL;
}

/* The GPU when there is one that takes the plan. */
static weir_status open_auto(backend **out, const plan *p, const kv_shape *kv,
                             const backend_options *o, char reason[BACKEND_REASON],
                             weir_error *err) {
    weir_error why = {0};
    const weir_status status = backend_cuda.open(out, p, kv, o, &why);
    if (status == WEIR_OK) return WEIR_OK;
    if (status == WEIR_ERR_CANCELED) return weir_fail(err, status, "%s", why.message);
    snprintf(reason, BACKEND_REASON, "%.*s", BACKEND_REASON - 1, why.message);
    return backend_cpu.open(out, p, kv, o, err);
}

weir_status backend_open(backend **out, const char *name, const plan *p, const kv_shape *kv,
                         const backend_options *o, char reason[BACKEND_REASON], weir_error *err) {
    *out = NULL;
    reason[0] = 0;
    backend_options options = *o;
    options.level = NULL;
    const bool is_auto = !name || strcmp(name, "auto") == 0;
    if (is_auto && !o->engine_file) return open_auto(out, p, kv, &options, reason, err);
    const backend_api *api = is_auto ? &backend_cuda : backend_find(name, &options.level);
    if (!api) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "backend %s: not known; known are auto, cuda, cpu, cpu-LEVEL, ref", name);
    }
    if (o->engine_file && api != &backend_cuda) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "%s: an engine file is for a GPU; back end %s has no use for it",
                         o->engine_file, name);
    }
    return api->open(out, p, kv, &options, err);
}
