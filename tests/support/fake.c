/* fake.c - the checkpoints of fake.h.
 *
 * SPDX-License-Identifier: MIT */
#include "support/fake.h"

#include "base/half.h"
#include "support/check.h"

void fake_open(fake *f, const nn_config *config) {
    *f = (fake){.arena = arena_new(), .rng = {5}};
    assert_non_null(f->arena);
    f->checkpoint =
        (checkpoint){.arena = f->arena, .path = "fake", .config = *config, .tensors = f->tensors};
}

static void insert(fake *f, const tensor_view *t) {
    int at = f->checkpoint.n_tensors++;
    assert_in_range(f->checkpoint.n_tensors, 1, FAKE_MAX);
    for (; at > 0 && strcmp(f->tensors[at - 1].name, t->name) > 0; at--) {
        f->tensors[at] = f->tensors[at - 1];
    }
    f->tensors[at] = *t;
}

static void add(fake *f, const char *name, int rows, int cols, bool is_bf16) {
    const size_t n = (size_t)MAX_OF(rows, 1) * (size_t)cols;
    float *x = ARENA_ARRAY(f->arena, float, n);
    uint16_t *half = ARENA_ARRAY(f->arena, uint16_t, n);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(2 * rng_uniform(&f->rng) - 1);
        half[i] = float_to_bf16(x[i]);
    }
    tensor_view t = {.name = arena_copy(f->arena, name, strlen(name)),
                     .type = is_bf16 ? TENSOR_BF16 : TENSOR_F32,
                     .n_dims = rows ? 2 : 1,
                     .data = is_bf16 ? (const void *)half : (const void *)x,
                     .bytes = n * (is_bf16 ? sizeof *half : sizeof *x)};
    t.dims[0] = rows ? rows : cols;
    t.dims[1] = rows ? cols : 0;
    insert(f, &t);
}

void fake_add(fake *f, const char *name, int rows, int cols) {
    add(f, name, rows, cols, false);
}

void fake_add_bf16(fake *f, const char *name, int rows, int cols) {
    add(f, name, rows, cols, true);
}

void fake_close(fake *f) {
    arena_free(f->arena);
}
