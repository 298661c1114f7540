/* graph.h - what recording a model leaves behind: parameters, operations, tensors.
 *
 *     checkpoint --make()--> params --forward()--> graph --plan_make()--> plan
 *
 * Recording is done by the functions of weir/nn.h (graph.c, module.c); this header opens their
 * structs to plan.c.  Everything lives in one arena.  Twice as many tensors as operations are never
 * needed: every operation makes exactly one.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "format/checkpoint.h"
#include "nn/ops.h"

struct nn_param { /* rows of a checkpoint tensor; a vector is one row */
    const tensor_view *view;
    nn_rows rows; /* which rows of the stored matrix, in order */
    int n_rows, n_cols;
    const tensor_view *scale;   /* FP8: what weights are multiplied by; NULL for other types */
    int scale_rows, scale_cols; /* weights that share one: all, a stored row, or 128 x 128 */
};

struct nn_loader {
    const checkpoint *checkpoint;
    arena *arena;
    weir_error error; /* the first failure; status WEIR_OK: none so far */
};

struct nn_tensor {
    int index; /* in graph->tensors */
    int features;
    int op;        /* that makes it; -1: the token ids */
    bool selected; /* [n_wanted, features] instead of [n, features] */
};

typedef struct graph_op {
    nn_op kind;
    int in[3], n_in; /* tensors */
    int out;
    union {
        nn_embedding embedding;
        nn_linear linear;
        nn_norm norm;
        nn_attention attention;
        nn_act act;
        float bound;
    } u;
} graph_op;

struct nn_graph {
    arena *arena;
    nn_tensor *tensors; /* [n_tensors] */
    graph_op *ops;      /* [n_ops], in recording order, which is a topological order */
    int n_tensors, n_ops, capacity;
    int ids, logits;   /* tensors: the input and the result */
    weir_error error;  /* the first bad call */
    nn_tensor nowhere; /* what verbs return when the graph is full; never read */
};

/* Records arch's model for a checkpoint.  The graph and its params live in a and point into the
 * checkpoint, which must outlive them. */
weir_status graph_record(nn_graph **out, arena *a, const nn_arch *arch, const checkpoint *c,
                         weir_error *err);
