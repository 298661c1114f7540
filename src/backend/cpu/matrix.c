/* matrix.c - packs the matrices of a plan when a back end opens.
 *
 *   matrix used by    stored as             kept as
 *   PROJECT           16 or 32 bit          as stored, or Q8 / Q4 when --weights asks for it
 *   PROJECT           FP8                   F16 of weight times scale, or Q8 / Q4
 *   PROJECT           a GGUF block type     the format of pack.h that holds it without loss
 *   LOOKUP only       anything              nothing: rows are read from the mapped file
 *   both (tied head)  anything              one copy; LOOKUP reads its rows out of the panels
 *
 * FP8 in F16 is off by 2^-12 of itself (2^-25 where it is that small), sixty times less than what
 * e4m3 rounded away; Q8 halves it for another 1/254 of the largest of 32.
 *
 * With Q4 the head, tied or not, becomes Q8: logits and embeddings suffer most from 4 bits.
 *
 * Members of the team claim panel after panel.  After each matrix the pages of the file it came
 * from are given back, so memory holds the packed weights and little else.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/attend.h"
#include "backend/cpu/cpu.h"
#include "base/arena.h"
#include "base/half.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

enum { REPORT_BYTES = 16 << 20 }; /* between two calls of progress */

typedef struct packing { /* one matrix under way */
    const plan_matrix *source;
    cpu_matrix *to;
    tensor_type type; /* packed from: the stored type, or what it is quantised to */
    char *scratch;    /* [members][scratch_bytes], for quantising */
    size_t scratch_bytes;
    const backend_options *options;
    uint64_t done, total; /* bytes of all matrices before this one; of all */
    uint64_t reported;
    atomic_int next; /* panel to claim */
    int end;         /* of the panels of this run */
    bool canceled;
} packing;

/* The type matrix i is packed from. */
static tensor_type packed_type(const plan *p, int i, weir_type wanted, bool is_head) {
    const plan_matrix *m = &p->matrices[i];
    if (wanted == WEIR_TYPE_DEFAULT || !tensor_type_is_float(m->type) || m->cols % PACK_GROUP) {
        return m->type == TENSOR_FP8 ? TENSOR_F16 : m->type;
    }
    return wanted == WEIR_Q8 || is_head ? TENSOR_Q8_0 : TENSOR_Q4_0;
}

/* The rows of a panel, quantised into scratch when the type is not the stored one. */
static int panel_rows(const packing *k, int panel, int ith, const void *rows[PACK_ROWS]) {
    const plan_matrix *m = k->source;
    const int first = panel * PACK_ROWS, n = MIN_OF(PACK_ROWS, m->rows - first);
    if (k->type == m->type) {
        for (int i = 0; i < n; i++) rows[i] = plan_matrix_bytes(m, first + i);
        return n;
    }
    char *scratch = k->scratch + (size_t)ith * k->scratch_bytes;
    float *floats = (float *)(void *)scratch;
    char *blocks = scratch + (size_t)m->cols * sizeof *floats;
    const size_t bytes = tensor_row_bytes(k->type, m->cols);
    for (int i = 0; i < n; i++, blocks += bytes) {
        plan_matrix_row(m, first + i, floats);
        if (k->type == TENSOR_F16) {
            uint16_t *halves = (uint16_t *)(void *)blocks;
            for (int j = 0; j < m->cols; j++) halves[j] = float_to_f16(floats[j]);
        } else if (k->type == TENSOR_Q8_0) {
            quantize_row_q8_0(floats, blocks, m->cols);
        } else {
            quantize_row_q4_0(floats, blocks, m->cols);
        }
        rows[i] = blocks;
    }
    return n;
}

static void report(packing *k, int panels_done) {
    const uint64_t done = k->done + (uint64_t)panels_done * k->to->panel_bytes;
    if (!k->options->progress || done < k->reported + REPORT_BYTES) return;
    k->reported = done;
    if (k->options->progress(k->options->progress_user, "packing weights", done, k->total)) {
        k->canceled = true;
    }
}

static void pack_panels(void *user, int ith, int nth) {
    (void)nth;
    packing *k = user;
    for (int p; (p = atomic_fetch_add(&k->next, 1)) < k->end;) {
        const void *rows[PACK_ROWS];
        const int n = panel_rows(k, p, ith, rows);
        pack_panel(k->type, rows, n, k->to->cols, k->to->panels + (size_t)p * k->to->panel_bytes);
    }
}

static void release_source(const plan *p, const plan_matrix *m) {
    for (int i = 0; i < m->n_parts; i++) {
        const tensor_view *view = m->parts[i].weight->view;
        for (int f = 0; f < p->checkpoint->n_files; f++) {
            file_release(&p->checkpoint->files[f], view->data, view->bytes);
        }
    }
}

void cpu_matrix_shape(cpu_matrix *m, int rows, int cols, pack_format format,
                      const cpu_features *f) {
    m->format = format;
    m->rows = rows;
    m->cols = cols;
    m->depth = pack_depth(format, cols);
    m->n_panels = (rows + PACK_ROWS - 1) / PACK_ROWS;
    m->panel_bytes = pack_panel_bytes(format, cols);
    m->kernel = cpu_kernel_find(f, format);
    m->wide = cpu_wide_find(f, format, m->depth);
    m->make_input = cpu_input_find(f, m->kernel->input);
}

static size_t matrix_bytes(const cpu_matrix *m) {
    return size_mul((size_t)m->n_panels, m->panel_bytes);
}

/* Marks the roots that some product uses, and those that make the logits. */
static weir_status find_uses(const plan *p, arena *a, bool **products, bool **heads,
                             weir_error *err) {
    *products = ARENA_ARRAY(a, bool, (size_t)p->n_matrices);
    *heads = ARENA_ARRAY(a, bool, (size_t)p->n_matrices);
    if (!*products || !*heads) return weir_fail(err, WEIR_ERR_MEMORY, "no memory for a plan");
    for (int i = 0; i < p->n_ops; i++) {
        const plan_op *op = &p->ops[i];
        if (op->kind != NN_PROJECT) continue;
        (*products)[plan_owner(p, op->matrix)] = true;
        if (op->out == p->logits) (*heads)[plan_owner(p, op->matrix)] = true;
    }
    return WEIR_OK;
}

/* Chooses format and kernel of every matrix. */
static weir_status choose(host *h, tensor_type *types, arena *a, weir_type wanted,
                          weir_error *err) {
    const plan *p = h->plan;
    cpu *c = h->private;
    bool *products, *heads;
    WEIR_TRY(find_uses(p, a, &products, &heads, err));
    size_t row_bytes = 0, inputs_bytes = 0;
    for (int i = 0; i < p->n_matrices; i++) {
        const int root = plan_owner(p, i);
        types[i] = packed_type(p, root, wanted, heads[root]);
        cpu_matrix *m = &c->matrices[i];
        cpu_matrix_shape(m, p->matrices[i].rows, p->matrices[i].cols, pack_format_of(types[i]),
                         &c->features);
        m->is_owner = i == root && products[root];
        if (!products[root]) continue;
        const size_t ready = input_row_bytes(m->kernel->input, m->depth);
        row_bytes = MAX_OF(row_bytes, MAX_OF(ready, (size_t)m->cols * sizeof(float)));
        inputs_bytes = MAX_OF(inputs_bytes, cpu_inputs_bytes(m, p->max_rows));
        c->wide_bytes = MAX_OF(c->wide_bytes, cpu_wide_scratch(m));
    }
    /* both halves of a member's part start on a cache line */
    c->member_bytes = size_mul(2, size_add(row_bytes, 127) / 64 * 64);
    const size_t member_bytes = size_add(c->member_bytes, c->wide_bytes);
    h->workspace_bytes = size_add(size_mul(member_bytes, (size_t)team_size(h->team)), inputs_bytes);
    return WEIR_OK;
}

static weir_status pack_one(host *h, const backend_options *o, packing *k, int i, tensor_type type,
                            weir_error *err) {
    cpu *c = h->private;
    cpu_matrix *to = &c->matrices[i];
    const plan_matrix *m = &h->plan->matrices[i];
    if (!(to->panels = mem_map(matrix_bytes(to)))) {
        return weir_fail(err, WEIR_ERR_MEMORY, "%s: no memory for %zu bytes of weights", m->name,
                         matrix_bytes(to));
    }
    k->source = m;
    k->to = to;
    k->type = type;
    k->options = o;
    if (type != m->type) {
        const size_t members = (size_t)team_size(h->team);
        k->scratch_bytes =
            ((size_t)m->cols * sizeof(float) + PACK_ROWS * tensor_row_bytes(type, m->cols) + 63) /
            64 * 64;
        if (!(k->scratch = mem_array(members, k->scratch_bytes))) {
            return weir_fail(err, WEIR_ERR_MEMORY, "%s: no memory to quantise it", m->name);
        }
    }
    const int some = (int)MIN_OF((size_t)to->n_panels, REPORT_BYTES / to->panel_bytes + 1);
    for (int from = 0; from < to->n_panels && !k->canceled; from += some) {
        atomic_store(&k->next, from);
        k->end = MIN_OF(from + some, to->n_panels);
        team_run(h->team, pack_panels, k);
        report(k, k->end);
    }
    mem_free(k->scratch);
    k->scratch = NULL;
    release_source(h->plan, m);
    k->done += matrix_bytes(to);
    if (k->canceled) {
        return weir_fail(err, WEIR_ERR_CANCELED, "canceled while packing %s", m->name);
    }
    return WEIR_OK;
}

/* Bytes kept, and bytes one step of one row reads. */
static void account(host *h) {
    const plan *p = h->plan;
    const cpu *c = h->private;
    for (int i = 0; i < p->n_matrices; i++) {
        if (c->matrices[i].is_owner) h->sizes.weight_bytes += matrix_bytes(&c->matrices[i]);
    }
    for (int i = 0; i < p->n_ops; i++) {
        const plan_op *op = &p->ops[i];
        if (op->kind == NN_PROJECT) {
            h->sizes.step_weight_bytes += matrix_bytes(&c->matrices[op->matrix]);
        } else if (op->kind == NN_LOOKUP) {
            const plan_matrix *m = &p->matrices[op->matrix];
            h->sizes.step_weight_bytes += tensor_row_bytes(m->type, m->cols);
        }
    }
}

/* Names the format that most bytes have. */
static void name_types(cpu *c, int n) {
    size_t bytes[PACK_N_FORMATS] = {0}, total = 0;
    int most = 0;
    for (int i = 0; i < n; i++) {
        if (!c->matrices[i].is_owner) continue;
        bytes[c->matrices[i].format] += matrix_bytes(&c->matrices[i]);
        total += matrix_bytes(&c->matrices[i]);
        if (bytes[c->matrices[i].format] > bytes[most]) most = c->matrices[i].format;
    }
    const char *name = pack_format_name((pack_format)most);
    const char *rest = bytes[most] < total / 100 * 99 ? " and others" : "";
    const size_t n_name = strlen(name), n_rest = strlen(rest);
    assert(n_name + n_rest < sizeof c->types);
    memcpy(c->types, name, n_name);
    memcpy(c->types + n_name, rest, n_rest + 1);
}

static weir_status pack_all(host *h, const backend_options *o, arena *a, weir_error *err) {
    cpu *c = h->private;
    const plan *p = h->plan;
    tensor_type *types = ARENA_ARRAY(a, tensor_type, (size_t)p->n_matrices);
    if (!types) return weir_fail(err, WEIR_ERR_MEMORY, "no memory for a plan");
    WEIR_TRY(choose(h, types, a, o->weights, err));
    packing k = {0};
    for (int i = 0; i < p->n_matrices; i++) {
        if (c->matrices[i].is_owner) k.total += matrix_bytes(&c->matrices[i]);
    }
    for (int i = 0; i < p->n_matrices; i++) {
        if (c->matrices[i].is_owner) WEIR_TRY(pack_one(h, o, &k, i, types[i], err));
        c->matrices[i].panels = c->matrices[plan_owner(p, i)].panels; /* roots come first */
    }
    if (o->progress) o->progress(o->progress_user, "packing weights", k.total, k.total);
    name_types(c, p->n_matrices);
    account(h);
    return WEIR_OK;
}

weir_status cpu_pack(host *h, const backend_options *o, weir_error *err) {
    const int level = cpu_level_find(o->level);
    if (level < 0) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "this processor does not run level %s (avx512, avx2, neon, portable)",
                         o->level);
    }
    cpu *c = h->private = mem_alloc(sizeof *c);
    arena *a = arena_new();
    weir_status status = WEIR_ERR_MEMORY;
    if (c && a && (c->matrices = mem_array((size_t)h->plan->n_matrices, sizeof *c->matrices))) {
        c->features = cpu_features_of((cpu_level)level);
        h->kernels = c->features.text;
        h->weight_type = c->types;
        status = pack_all(h, o, a, err);
    } else {
        weir_fail(err, status, "no memory for a back end");
    }
    arena_free(a);
    return status;
}

void cpu_unpack(host *h) {
    cpu *c = h->private;
    if (!c) return;
    for (int i = 0; c->matrices && i < h->plan->n_matrices; i++) {
        if (c->matrices[i].is_owner)
            mem_unmap(c->matrices[i].panels, matrix_bytes(&c->matrices[i]));
    }
    mem_free(c->matrices);
    mem_free(c);
    h->private = NULL;
}
