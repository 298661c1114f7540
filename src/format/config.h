/* config.h - what the two readers of configurations share: config.c (JSON), config_gguf.c (keys).
 *
 * Both fill an nn_config with what the file says and end with config_check, so that everything
 * behind them may multiply sizes without looking.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/status.h"
#include "weir/nn.h"

enum {
    CONFIG_MAX_SIZE = 1 << 20,    /* features of any one activation, vocabulary */
    CONFIG_MAX_CONTEXT = 1 << 30, /* tokens a model claims to have been trained on */
};

/* Refuses, by name and number, a configuration whose sizes are out of bounds or do not fit each
 * other. */
weir_status config_check(const nn_config *c, const char *path, weir_error *err);

/* YaRN's attention factor where the file gives none: 0.1 m ln(factor) + 1, or the quotient of two
 * of these when both multipliers are given (nonzero). */
double config_yarn_attention(double factor, double mscale, double mscale_all_dim);
