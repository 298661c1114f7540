/* ops.h - every operation a graph can hold, once.
 *
 * OP(NAME, name, "formula").  The enum, the names in printed plans, the kernel table of every back
 * end and the parity tests are made from this list, so a missing kernel is a compile error.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#define NN_OPS(OP)                                                          \
    OP(LOOKUP, lookup, "y[r] = E[id[r]]")                                   \
    OP(PROJECT, project, "y = [residual +] pre(x) W^T [+ b]")               \
    OP(NORMALIZE, normalize, "y = norm(x) by groups of features")           \
    OP(ATTEND, attend, "rotate, append to the cache, y = softmax(q k^T) v") \
    OP(GATE, gate, "y = act(g) * u")                                        \
    OP(ACTIVATE, activate, "y = act(x)")                                    \
    OP(CLAMP, clamp, "y = min(max(x, -c), c)")                              \
    OP(ADD, add, "y = a + b")                                               \
    OP(WANTED, wanted, "y[i] = x[wanted[i]]")

typedef enum nn_op {
#define OP(NAME, name, formula) NN_##NAME,
    NN_OPS(OP)
#undef OP
        NN_N_OPS
} nn_op;
