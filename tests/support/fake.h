/* fake.h - checkpoints that exist in memory only, for tests of graphs and plans.
 *
 *     fake f;
 *     fake_open(&f, &(nn_config){.dim = 8, .n_layers = 1, ...});
 *     fake_add(&f, "embed.weight", 10, 8);      [10, 8], random float32
 *     fake_add(&f, "norm.weight", 0, 8);        [8]
 *     ... &f.checkpoint
 *     fake_close(&f);
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/rng.h"
#include "format/checkpoint.h"

enum { FAKE_MAX = 64 };

typedef struct fake {
    checkpoint checkpoint;
    tensor_view tensors[FAKE_MAX]; /* sorted by name */
    arena *arena;
    rng rng;
} fake;

void fake_open(fake *f, const nn_config *config);
void fake_add(fake *f, const char *name, int rows, int cols);
void fake_add_bf16(fake *f, const char *name, int rows, int cols);
void fake_close(fake *f);
