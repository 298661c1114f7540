/* host.c - opens, steps and closes back ends that run in host memory.  host.h has the picture.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/host.h"

#include "base/arena.h"
#include "base/machine.h"

#include <assert.h>

/* Steps of fewer multiplications are not worth waking anybody for: at some 10 of them a nanosecond,
 * 20 phases cost more than the others could save. */
enum { ALONE = 1 << 21 };

/* The frame of a host around its base; a backend pointer is a host pointer here. */
static host *host_of(backend *b) {
    return (host *)b;
}

static const host *host_of_const(const backend *b) {
    return (const host *)b;
}

static weir_status make_tables(host *h, weir_error *err) {
    const size_t n = size_mul((size_t)h->plan->max_rows, (size_t)MAX_OF(1, h->plan->rope.pairs));
    float **const tables[] = {&h->cos_pos, &h->sin_pos, &h->cos_pin, &h->sin_pin};
    for (size_t i = 0; i < COUNT_OF(tables); i++) {
        if (!(*tables[i] = mem_array(n, sizeof(float)))) {
            return weir_fail(err, WEIR_ERR_MEMORY, "no memory for %zu phases", n);
        }
    }
    return WEIR_OK;
}

/* What the weights will take, before they are packed. */
static size_t estimate_weights(const plan *p, weir_type type) {
    size_t bytes = 0;
    for (int i = 0; i < p->n_matrices; i++) {
        const plan_matrix *m = &p->matrices[i];
        if (m->shared_with >= 0) continue;
        const tensor_type kept = m->type == TENSOR_FP8 ? TENSOR_F16 : m->type;
        const size_t stored = size_mul((size_t)m->rows, tensor_row_bytes(kept, m->cols));
        const size_t weights = size_mul((size_t)m->rows, (size_t)m->cols);
        const size_t q8 = weights / 32 * 34, q4 = weights / 32 * 18;
        const size_t packed = type == WEIR_Q8 ? q8 : type == WEIR_Q4 ? q4 : stored;
        bytes = size_add(bytes, MIN_OF(stored, packed));
    }
    return bytes;
}

/* Refuses, with the numbers, what cannot fit into this machine. */
static weir_status check_fit(const plan *p, const kv_shape *shape, const backend_options *o,
                             weir_error *err) {
    kv_store kv;
    WEIR_TRY(kv_init(&kv, shape, false, err));
    const double gb = 1e-9;
    const uint64_t memory = machine_memory();
    const size_t weights = estimate_weights(p, o->weights);
    const size_t all = size_add(size_add(weights, p->arena_bytes), kv.bytes);
    if (all <= memory) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_MEMORY,
                     "%s: needs %.2f GB (weights %.2f, activations %.2f, %d sessions x %.3f), this "
                     "machine has %.2f GB: ask for fewer sessions, a smaller window, or kv_type "
                     "int8",
                     p->checkpoint->path, gb * (double)all, gb * (double)weights,
                     gb * (double)p->arena_bytes, shape->slots, gb * (double)kv.slot_bytes,
                     gb * (double)memory);
}

static weir_status fill(host *h, const kv_shape *kv, const backend_options *o, weir_error *err) {
    const plan *p = h->plan;
    if (!(h->team = team_new(o->threads))) {
        return weir_fail(err, WEIR_ERR_DEVICE, "cannot start %d threads", o->threads);
    }
    WEIR_TRY(kv_init(&h->kv, kv, true, err));
    WEIR_TRY(h->kind->pack(h, o, err));
    WEIR_TRY(make_tables(h, err));
    if (!(h->phases = mem_array(2 * (size_t)p->n_ops + 1, sizeof *h->phases))) {
        return weir_fail(err, WEIR_ERR_MEMORY, "no memory for %d operations", p->n_ops);
    }
    if (!(h->arena = mem_map(p->arena_bytes))) {
        return weir_fail(err, WEIR_ERR_MEMORY, "no memory for %zu bytes of activations",
                         p->arena_bytes);
    }
    if (h->workspace_bytes && !(h->workspace = mem_map(h->workspace_bytes))) {
        return weir_fail(err, WEIR_ERR_MEMORY, "no memory for %zu bytes of work space",
                         h->workspace_bytes);
    }
    for (int i = 0; i < p->n_ops; i++) {
        const plan_matrix *m = p->ops[i].kind == NN_PROJECT ? &p->matrices[p->ops[i].matrix] : NULL;
        if (m) h->row_products += (size_t)m->rows * (size_t)m->cols;
    }
    h->sizes.activation_bytes = p->arena_bytes + h->workspace_bytes;
    h->sizes.kv_bytes = h->kv.bytes;
    return WEIR_OK;
}

weir_status host_open(backend **out, const host_kind *kind, const plan *p, const kv_shape *kv,
                      const backend_options *o, weir_error *err) {
    *out = NULL;
    WEIR_TRY(check_fit(p, kv, o, err));
    host *h = mem_alloc(sizeof *h);
    if (!h) return weir_fail(err, WEIR_ERR_MEMORY, "no memory for a back end");
    h->base.api = kind->api;
    h->kind = kind;
    h->plan = p;
    const weir_status status = fill(h, kv, o, err);
    if (status != WEIR_OK) {
        host_close(&h->base);
        return status;
    }
    *out = &h->base;
    return WEIR_OK;
}

void host_close(backend *b) {
    if (!b) return;
    host *h = host_of(b);
    h->kind->unpack(h);
    kv_clear(&h->kv);
    mem_unmap(h->arena, h->plan->arena_bytes);
    mem_unmap(h->workspace, h->workspace_bytes);
    mem_free(h->phases);
    mem_free(h->cos_pos);
    mem_free(h->sin_pos);
    mem_free(h->cos_pin);
    mem_free(h->sin_pin);
    team_free(h->team);
    mem_free(h);
}

/* The phases of every row, once for all layers; the first phase of a step. */
static void tabulate(host *h, const plan_op *op, int ith, int nth) {
    const rope_table *rope = &h->plan->rope;
    int from, to;
    (void)op;
    host_share(h->batch->n, ith, nth, &from, &to);
    for (int r = from; r < to && rope->pairs; r++) {
        const batch_row *row = &h->batch->rows[r];
        const size_t at = (size_t)r * (size_t)rope->pairs;
        rope_phases(rope, row->pos, h->cos_pos + at, h->sin_pos + at);
        rope_phases(rope, row->p, h->cos_pin + at, h->sin_pin + at);
    }
}

static void list_phases(host *h) {
    int n = 0;
    h->phases[n++] = (host_phase){tabulate, NULL};
    for (int i = 0; i < h->plan->n_ops; i++) {
        const plan_op *op = &h->plan->ops[i];
        host_op *before = h->kind->before ? h->kind->before(h, op) : NULL;
        if (before) h->phases[n++] = (host_phase){before, op};
        h->phases[n++] = (host_phase){h->kind->ops[op->kind], op};
    }
    h->n_phases = n;
}

static void run_phase(void *user, int phase, int ith, int nth) {
    host *h = user;
    const host_phase *p = &h->phases[phase];
    p->run(h, p->op, ith, nth);
}

weir_status host_step(backend *b, const batch *rows, weir_error *err) {
    (void)err; /* nothing in host memory can fail */
    host *h = host_of(b);
    assert(rows->n > 0 && rows->n <= h->plan->max_rows);
    assert(rows->n_wanted <= h->plan->max_wanted);
    h->batch = rows;
    list_phases(h);
    if ((size_t)rows->n * h->row_products < ALONE) {
        for (int p = 0; p < h->n_phases; p++) run_phase(h, p, 0, 1);
    } else {
        team_phases(h->team, h->n_phases, run_phase, h);
    }
    h->batch = NULL; /* the caller's, and may be gone by now */
    h->n_shown = rows->n_wanted;
    return WEIR_OK;
}

const float *host_logits(const backend *b, int i) {
    const host *h = host_of_const(b);
    assert(i >= 0 && i < h->n_shown);
    return plan_row(h->plan, h->arena, h->plan->logits, i);
}

const char *host_kernels(const backend *b) {
    return host_of_const(b)->kernels;
}

const char *host_weight_type(const backend *b) {
    return host_of_const(b)->weight_type;
}

int host_threads(const backend *b) {
    return team_size(host_of_const(b)->team);
}

void host_sizes(const backend *b, backend_sizes *out) {
    *out = host_of_const(b)->sizes;
}

weir_status host_measure(backend *b, weir_rates *out, weir_error *err) {
    (void)err; /* nothing in host memory can fail */
    *out = (weir_rates){.read_bytes_per_second = weir_measure_bandwidth(host_threads(b))};
    return WEIR_OK;
}

weir_status host_pin_row(backend *b, int slot, uint64_t pos, int pin, weir_error *err) {
    (void)err; /* nothing in host memory can fail */
    const host *h = host_of(b);
    assert(pin >= 0 && pin < h->kv.shape.pins);
    kv_pin_row(&h->kv, &h->plan->rope, slot, pos, pin);
    return WEIR_OK;
}

size_t host_row_bytes(const backend *b, bool is_pin) {
    return kv_row_bytes(&host_of_const(b)->kv, is_pin);
}

/* Row i of those that start at `row`; the ring closes. */
static int nth_row(const kv_store *kv, bool is_pin, int row, int i) {
    assert(row >= 0 && i >= 0);
    return is_pin ? row + i : (int)(((int64_t)row + i) % kv->shape.ring);
}

weir_status host_export_rows(backend *b, int slot, bool is_pin, int row, int n, void *out,
                             weir_error *err) {
    (void)err;
    const kv_store *kv = &host_of(b)->kv;
    const size_t bytes = kv_row_bytes(kv, is_pin);
    for (int i = 0; i < n; i++) {
        kv_export_row(kv, slot, is_pin, nth_row(kv, is_pin, row, i),
                      (char *)out + (size_t)i * bytes);
    }
    return WEIR_OK;
}

weir_status host_import_rows(backend *b, int slot, bool is_pin, int row, int n, const void *in,
                             weir_error *err) {
    (void)err;
    const kv_store *kv = &host_of(b)->kv;
    const size_t bytes = kv_row_bytes(kv, is_pin);
    for (int i = 0; i < n; i++) {
        kv_import_row(kv, slot, is_pin, nth_row(kv, is_pin, row, i),
                      (const char *)in + (size_t)i * bytes);
    }
    return WEIR_OK;
}
