/* cpu.c - the CPU back end: SIMD kernels chosen when it opens, a team of threads.
 *
 *   features.c   what the processor can do
 *   matrix.c     weights into panels (pack.c)
 *   project.c    products, by level: project_portable.c, project_avx512.c, ...
 *   attend.c     attention
 *   rows.c       norms, activations, additions
 *   lookup.c     embeddings
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

#include "backend/cpu/attend.h"
#include "backend/cpu/rows.h"

static host_op *const ops[NN_N_OPS] = {
#define OP(NAME, name, formula) [NN_##NAME] = cpu_##name,
    NN_OPS(OP)
#undef OP
};

cpu_level cpu_host_level(const host *h) {
    return cpu_of(h)->features.level;
}

static host_op *before(const host *h, const plan_op *op) {
    if (op->kind == NN_PROJECT) return cpu_project_before(h, op);
    return op->kind == NN_ATTEND ? cpu_attend_before : NULL;
}

/* Products and attention take turns in the work space. */
static weir_status pack(host *h, const backend_options *o, weir_error *err) {
    WEIR_TRY(cpu_pack(h, o, err));
    const size_t attend = cpu_attend_workspace(h->plan, &h->kv.shape, team_size(h->team));
    h->workspace_bytes = MAX_OF(h->workspace_bytes, attend);
    return WEIR_OK;
}

static const host_kind kind = {.api = &backend_cpu,
                               .ops = ops,
                               .before = before,
                               .pack = pack,
                               .unpack = cpu_unpack};

static weir_status open(backend **out, const plan *p, const kv_shape *kv, const backend_options *o,
                        weir_error *err) {
    return host_open(out, &kind, p, kv, o, err);
}

const backend_api backend_cpu = {.name = "cpu", .open = open, HOST_API};
