/* plan.h - a graph made ready to run: fused, laid out, fixed.
 *
 *   graph:  norm -> project q, project k, project v -> attend -> project o -> add
 *   plan:   project [norm; q|k|v] -> attend -> project [o; + residual]
 *
 * Rules, tried in this order (plan.c has one function for each):
 *   1. projections of the same input, with the same stored type, become one matrix; their outputs
 *      become column ranges (views) of one tensor
 *   2. a normalisation, gate or activation read by one projection only becomes its prologue
 *   3. an addition that is the only reader of a single projection becomes its residual
 *   4. a tensor whose residual dies there takes its place in memory
 *
 * Then every tensor gets an offset in one arena by first fit over live intervals.  All activations
 * are float32, [rows, features] with a row stride that is a multiple of 16 floats.
 *
 * Test: tests/nn/test_plan.c (no two live tensors overlap, every fusion, what is printed).
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "nn/graph.h"
#include "nn/rope.h"

enum {
    PLAN_MAX_PARTS = 4,
    PLAN_SCALED = 64, /* FP8: weights of a row, from a multiple of it on, that share a scale */
};

typedef struct plan_matrix { /* [rows, cols]: the weights of one matrix product or embedding */
    int rows, cols;
    tensor_type type; /* as stored; the same for all parts */
    int n_parts;
    struct {
        const nn_param *weight; /* [n_rows, cols] */
        int first_row;          /* in this matrix */
    } parts[PLAN_MAX_PARTS];
    const float *bias; /* [rows], zeros where a part has none; NULL: no part has one */
    int shared_with;   /* matrix with the same single param (tied head); -1: none */
    const char *name;  /* for messages and the printed plan */
} plan_matrix;

typedef struct plan_norm {
    const float *weight, *bias; /* [group]; bias may be NULL */
    float eps;
    int group;
    bool is_layer;
} plan_norm;

typedef struct plan_tensor {
    int features, stride; /* floats */
    int base;             /* the tensor whose memory this is a column range of; itself: an owner */
    int column;           /* first column in base */
    bool selected;        /* [n_wanted, ...] */
    size_t offset;        /* bytes from the arena's start; of an owner */
    size_t bytes;         /* of an owner, max_rows rows */
    int first, last;      /* operations that write it first and read it last; owners */
} plan_tensor;

typedef enum plan_prologue { PLAN_PLAIN, PLAN_NORM, PLAN_GATE, PLAN_ACT } plan_prologue;

typedef struct plan_op {
    nn_op kind;
    int in[2], n_in; /* tensors; PLAN_GATE projections: gate, up */
    int residual;    /* PROJECT: tensor added to the result; -1: none; may be out itself */
    int out;
    int matrix;             /* LOOKUP, PROJECT */
    plan_prologue prologue; /* PROJECT */
    plan_norm norm;         /* NORMALIZE, PROJECT with PLAN_NORM */
    nn_act act;             /* GATE, ACTIVATE, PROJECT with PLAN_GATE or PLAN_ACT */
    nn_attention attention; /* ATTEND; in[0] is q, in[1] is k, v is in `v` */
    int v;
    float bound; /* CLAMP */
} plan_op;

typedef struct plan {
    arena *arena; /* owns everything here; not the checkpoint */
    const checkpoint *checkpoint;
    plan_op *ops;          /* [n_ops] */
    plan_tensor *tensors;  /* [n_tensors] */
    plan_matrix *matrices; /* [n_matrices] */
    int n_ops, n_tensors, n_matrices;
    int max_rows, max_wanted; /* n and n_wanted never exceed these */
    int ids, logits;          /* tensors */
    size_t arena_bytes;
    nn_attention attention; /* what all attention layers share (n_heads, ...) */
    rope_table rope;
    const float *alibi; /* [n_heads] slopes, or NULL */
    int n_layers;
    int vocab;
} plan;

/* Plans a recorded graph for steps of at most max_rows tokens, of which at most max_wanted are
 * shown.  The plan lives in an arena of its own. */
weir_status plan_make(plan **out, const nn_graph *g, const checkpoint *c, int max_rows,
                      int max_wanted, weir_error *err);
void plan_free(plan *p); /* accepts NULL */

/* Row r of tensor t inside arena memory. */
static inline float *plan_row(const plan *p, char *memory, int t, int r) {
    const plan_tensor *x = &p->tensors[t];
    const plan_tensor *b = &p->tensors[x->base];
    return (float *)(void *)(memory + b->offset) + (size_t)r * (size_t)b->stride + x->column;
}

/* Row `row` of matrix m as floats, [cols]. */
void plan_matrix_row(const plan_matrix *m, int row, float *out);
/* Its stored bytes, in the checkpoint's file. */
const void *plan_matrix_bytes(const plan_matrix *m, int row);
/* FP8: the scale of weight k of a row. */
float plan_matrix_scale(const plan_matrix *m, int row, int k);

/* The matrix that has the weights of matrix i: itself, or the one that it shares them with. */
static inline int plan_owner(const plan *p, int i) {
    while (p->matrices[i].shared_with >= 0) i = p->matrices[i].shared_with;
    return i;
}

/* One line at a time: operations, tensors with their live intervals and offsets, totals. */
void plan_describe(const plan *p, void (*write)(void *user, const char *line), void *user);
