/* plan_describe.c - a plan as text: what runs, on what shapes, where in memory.
 *
 *   op  what                          shape                  reads    writes
 *    1  project norm q|k|v            [n, 288] x [384, 288]  t1       t7
 *
 * SPDX-License-Identifier: MIT */
#include "nn/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 256 };

typedef struct sink { /* where lines go */
    void (*write)(void *user, const char *line);
    void *user;
} sink;

static const char *const op_names[] = {
#define OP(NAME, name, formula) #name,
    NN_OPS(OP)
#undef OP
};

/* The last two words of a tensor's name that say which module it is. */
static const char *short_name(const char *name) {
    const char *found = name;
    int dots = 0;
    for (const char *c = name + strlen(name); c > name; c--) {
        if (*c == '.' && ++dots == 3) {
            found = c + 1;
            break;
        }
    }
    return found;
}

static void describe_op(const plan *p, int i, sink s) {
    static const char *const prologues[] = {"", " norm", " gate", " act"};
    const plan_op *op = &p->ops[i];
    char line[LINE_BYTES], what[64], shape[64] = "", reads[48];
    snprintf(what, sizeof what, "%s%s%s", op_names[op->kind], prologues[op->prologue],
             op->residual >= 0 ? " +residual" : "");
    const char *name = "";
    if (op->matrix >= 0) {
        const plan_matrix *m = &p->matrices[op->matrix];
        name = short_name(m->name);
        snprintf(shape, sizeof shape, "%s [%d, %d] %d part%s", tensor_type_name(m->type), m->rows,
                 m->cols, m->n_parts, m->n_parts == 1 ? "" : "s");
    } else if (op->kind == NN_ATTEND) {
        snprintf(shape, sizeof shape, "layer %d, %d heads, %d K/V, %d wide", op->attention.layer,
                 op->attention.n_heads, op->attention.n_kv_heads, op->attention.head_dim);
    }
    int at = 0;
    for (int k = 0; k < op->n_in; k++) {
        at += snprintf(reads + at, sizeof reads - (size_t)at, "%st%d", k ? "," : "", op->in[k]);
    }
    if (op->v >= 0) at += snprintf(reads + at, sizeof reads - (size_t)at, ",t%d", op->v);
    if (op->residual >= 0) snprintf(reads + at, sizeof reads - (size_t)at, ",t%d", op->residual);
    snprintf(line, sizeof line, "%4d  %-24s %-34s %-18s -> t%-4d %s", i, what, shape, reads,
             op->out, name);
    s.write(s.user, line);
}

static void describe_tensor(const plan *p, int i, sink s) {
    const plan_tensor *t = &p->tensors[i];
    const plan_tensor *b = &p->tensors[t->base];
    char line[LINE_BYTES];
    if (t->base == i) {
        snprintf(line, sizeof line, "  t%-5d [%s, %d] live %d to %d  at %zu, %zu bytes", i,
                 t->selected ? "wanted" : "n", t->features, t->first, t->last, t->offset, t->bytes);
    } else {
        snprintf(line, sizeof line, "  t%-5d [%s, %d] columns %d to %d of t%d", i,
                 t->selected ? "wanted" : "n", t->features, t->column, t->column + t->features - 1,
                 t->base);
    }
    if (b->first >= 0) s.write(s.user, line);
}

void plan_describe(const plan *p, void (*write)(void *user, const char *line), void *user) {
    const sink s = {write, user};
    char line[LINE_BYTES];
    size_t unshared = 0;
    snprintf(line, sizeof line,
             "plan: %d operations, %d matrices, steps of at most %d tokens, %d shown", p->n_ops,
             p->n_matrices, p->max_rows, p->max_wanted);
    s.write(s.user, line);
    for (int i = 0; i < p->n_ops; i++) describe_op(p, i, s);
    s.write(s.user, "tensors:");
    for (int i = 0; i < p->n_tensors; i++) {
        if (i == p->ids) continue;
        describe_tensor(p, i, s);
        unshared += p->tensors[i].bytes;
    }
    snprintf(line, sizeof line, "activations: %zu bytes (%zu without sharing)", p->arena_bytes,
             unshared);
    s.write(s.user, line);
}
