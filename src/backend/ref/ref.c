/* ref.c - the reference back end's frame: nothing to pack, a row of floats for work.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"

static host_op *const ops[NN_N_OPS] = {
#define OP(NAME, name, formula) [NN_##NAME] = ref_##name,
    NN_OPS(OP)
#undef OP
};

/* Two rows of the widest matrix: one of weights, one of inputs; and one of scores. */
static weir_status pack(host *h, const backend_options *o, weir_error *err) {
    if (o->weights != WEIR_TYPE_DEFAULT) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "back end ref keeps weights as they are stored");
    }
    int widest = 0;
    for (int i = 0; i < h->plan->n_matrices; i++) {
        const plan_matrix *m = &h->plan->matrices[i];
        const size_t bytes = size_mul((size_t)m->rows, tensor_row_bytes(m->type, m->cols));
        widest = MAX_OF(widest, m->cols);
        if (m->shared_with < 0) h->sizes.weight_bytes += bytes;
        h->sizes.step_weight_bytes += bytes;
    }
    h->kernels = "scalar";
    h->weight_type = "as stored";
    h->workspace_bytes = size_mul((size_t)widest, 2 * sizeof(float));
    return WEIR_OK;
}

static void unpack(host *h) {
    (void)h;
}

static const host_kind kind = {.api = &backend_ref, .ops = ops, .pack = pack, .unpack = unpack};

static weir_status open(backend **out, const plan *p, const kv_shape *kv, const backend_options *o,
                        weir_error *err) {
    backend_options one = *o;
    one.threads = 1;
    return host_open(out, &kind, p, kv, &one, err);
}

const backend_api backend_ref = {.name = "ref", .open = open, HOST_API};
