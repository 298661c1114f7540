/* test_project.c - packed matrices keep their values and every kernel multiplies them right.
 *
 * The reference is a double sum over the stored weights and the inputs as the kernel takes them
 * (as they are, rounded to bf16, or as int8 times scale), so what is left is the rounding of f32
 * sums: errors are measured against the sum of |w x|.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"
#include "base/arena.h"
#include "base/half.h"
#include "base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_N = 64 };

typedef struct fixture { /* a matrix of one type, packed for one level; rows of inputs */
    tensor_type type;
    int rows, cols;
    char *stored;  /* [rows][row_bytes] */
    float *floats; /* [rows, cols] */
    cpu_matrix m;
    float *x;    /* [MAX_N, cols] */
    char *ready; /* [MAX_N] ready rows, each as a tile of one */
    char *tiles; /* the tiles of a step */
    char *scratch;
} fixture;

static float uniform(rng *r) {
    return (float)(2 * rng_uniform(r) - 1);
}

static void put_f16(char *p, float x) {
    const uint16_t h = float_to_f16(x);
    memcpy(p, &h, 2);
}

/* One stored row of random weights: float types of random floats, blocks of random bytes with
 * modest scales. */
static void random_row(rng *r, tensor_type type, char *row, int cols) {
    const int block = tensor_type_block(type);
    const size_t bytes = tensor_type_block_bytes(type);
    for (int i = 0; i < cols / block; i++, row += bytes) {
        const float x = uniform(r);
        const uint16_t bf16 = float_to_bf16(x);
        for (size_t b = 0; b < bytes; b++) row[b] = (char)rng_next(r);
        switch (type) {
        case TENSOR_F32: memcpy(row, &x, 4); break;
        case TENSOR_BF16: memcpy(row, &bf16, 2); break;
        case TENSOR_Q4_1:
        case TENSOR_Q5_1:
        case TENSOR_Q4_K:
        case TENSOR_Q5_K:
            put_f16(row + 2, uniform(r));
            put_f16(row, x);
            break;
        case TENSOR_Q6_K: put_f16(row + 208, x); break;
        case TENSOR_F16:
        case TENSOR_Q8_0:
        case TENSOR_Q4_0:
        case TENSOR_Q5_0:
        case TENSOR_FP8:
        case TENSOR_N_TYPES: put_f16(row, x); break;
        }
    }
}

static void open_fixture(fixture *f, const cpu_features *features, tensor_type type, int rows,
                         int cols) {
    rng r = {(uint64_t)type * 1000 + (uint64_t)cols};
    const size_t row_bytes = tensor_row_bytes(type, cols);
    *f = (fixture){.type = type, .rows = rows, .cols = cols};
    f->stored = mem_array((size_t)rows, row_bytes);
    f->floats = mem_array((size_t)rows * (size_t)cols, sizeof(float));
    cpu_matrix_shape(&f->m, rows, cols, pack_format_of(type), features);
    f->m.panels = mem_map((size_t)f->m.n_panels * f->m.panel_bytes);
    for (int i = 0; i < rows; i++) {
        char *row = f->stored + (size_t)i * row_bytes;
        random_row(&r, type, row, cols);
        tensor_row_to_float(type, row, f->floats + (size_t)i * (size_t)cols, cols);
    }
    for (int p = 0; p < f->m.n_panels; p++) {
        const void *lanes[PACK_ROWS];
        const int n = MIN_OF(PACK_ROWS, rows - p * PACK_ROWS);
        for (int i = 0; i < n; i++) lanes[i] = f->stored + (size_t)(p * PACK_ROWS + i) * row_bytes;
        pack_panel(type, lanes, n, cols, f->m.panels + (size_t)p * f->m.panel_bytes);
    }
    const size_t ready_bytes = input_row_bytes(f->m.kernel->input, f->m.depth);
    f->x = mem_array((size_t)MAX_N * (size_t)cols, sizeof(float));
    f->ready = mem_map(MAX_N * ready_bytes);
    f->tiles = mem_map(cpu_inputs_bytes(&f->m, MAX_N));
    f->scratch = mem_map(cpu_wide_scratch(&f->m) + 64);
    for (int i = 0; i < MAX_N * cols; i++) f->x[i] = uniform(&r);
    for (int i = 0; i < MAX_N; i++) {
        f->m.make_input(f->x + (size_t)i * (size_t)cols, cols, f->m.depth,
                        f->ready + (size_t)i * ready_bytes);
    }
}

static void close_fixture(fixture *f) {
    const size_t ready_bytes = MAX_N * input_row_bytes(f->m.kernel->input, f->m.depth);
    mem_unmap(f->m.panels, (size_t)f->m.n_panels * f->m.panel_bytes);
    mem_unmap(f->ready, ready_bytes);
    mem_unmap(f->tiles, cpu_inputs_bytes(&f->m, MAX_N));
    mem_unmap(f->scratch, cpu_wide_scratch(&f->m) + 64);
    mem_free(f->stored);
    mem_free(f->floats);
    mem_free(f->x);
}

/* Rows [first, first + n) as one step; y is [n, rows]. */
static void multiply(fixture *f, int first, int n, int cut, float *y) {
    const size_t ready_bytes = input_row_bytes(f->m.kernel->input, f->m.depth);
    for (int r = 0; r < n; r++) {
        const char *words = f->ready + (size_t)(first + r) * ready_bytes;
        cpu_place_input(&f->m, (const uint32_t *)(const void *)words, r, n, f->tiles);
    }
    const project_job j = {.m = &f->m,
                           .x = f->tiles,
                           .scratch = f->scratch,
                           .n = n,
                           .y = y,
                           .y_stride = (size_t)f->rows};
    cpu_project_panels(&j, 0, cut);
    cpu_project_panels(&j, cut, f->m.n_panels);
}

/* Input k of row r as the kernel sees it. */
static double taken_input(const fixture *f, int r, int k) {
    const float x = f->x[(size_t)r * (size_t)f->cols + (size_t)k];
    if (f->m.kernel->input == INPUT_F32) return (double)x;
    if (f->m.kernel->input == INPUT_BF16) return (double)bf16_to_float(float_to_bf16(x));
    const char *words = f->ready + (size_t)r * input_row_bytes(INPUT_INT8, f->m.depth);
    const size_t at = int8_parts_of(f->m.depth, 1).d + (size_t)(k / PACK_GROUP);
    float d;
    memcpy(&d, words + at * 4, 4);
    return (double)d * ((const int8_t *)words)[k];
}

static void for_every_kernel(void (*check)(const cpu_features *f, tensor_type type)) {
    for (int level = 0; level < CPU_N_LEVELS; level++) {
        if (!cpu_level_runs((cpu_level)level)) continue;
        const cpu_features all = cpu_features_of((cpu_level)level);
        for (int without = 0; without < 3; without++) { /* nothing, the tile unit, all extras */
            cpu_features f = all;
            if (without > (all.vnni || all.bf16) + all.amx) break;
            if (without > 0) f.amx = false;
            if (without > all.amx) f.vnni = f.bf16 = false;
            for (int type = 0; type < TENSOR_FP8; type++) check(&f, (tensor_type)type);
        }
    }
}

static const int sizes[][2] = {{1, 256}, {16, 512}, {40, 768}, {200, 2048}};

static void check_values(const cpu_features *features, tensor_type type) {
    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        fixture f;
        open_fixture(&f, features, type, sizes[s][0], sizes[s][1]);
        float *y = mem_array((size_t)f.rows, sizeof *y);
        multiply(&f, 3, 1, f.m.n_panels, y);
        for (int i = 0; i < f.rows; i++) {
            double sum = 0, size = 0;
            for (int k = 0; k < f.cols; k++) {
                const double w = (double)f.floats[(size_t)i * (size_t)f.cols + (size_t)k];
                sum += w * taken_input(&f, 3, k);
                size += fabs(w * taken_input(&f, 3, k));
            }
            if (fabs((double)y[i] - sum) <= 4e-7 * size) continue;
            fail_msg("%s %s [%d, %d] row %d: is %.9g, wanted %.9g", features->text,
                     tensor_type_name(type), f.rows, f.cols, i, (double)y[i], sum);
        }
        mem_free(y);
        close_fixture(&f);
    }
}

static void every_kernel_equals_the_sum_over_stored_weights(void **state) {
    (void)state;
    for_every_kernel(check_values);
}

/* Levels all at one end, inputs all at the other: the largest integers there can be. */
static void check_limits(const cpu_features *features, tensor_type type) {
    if (tensor_type_block(type) == 1) return;
    for (int end = 0; end < 2; end++) {
        fixture f;
        open_fixture(&f, features, type, 16, 256);
        const size_t bytes = tensor_row_bytes(type, 256);
        const void *lanes[PACK_ROWS];
        for (int i = 0; i < PACK_ROWS; i++) {
            char *row = f.stored + (size_t)i * bytes;
            memset(row, type == TENSOR_Q8_0 ? (end ? 0x7f : 0x80) : (end ? 0xff : 0), bytes);
            for (size_t b = 0; b < bytes; b += tensor_type_block_bytes(type)) {
                put_f16(row + b + (type == TENSOR_Q6_K ? 208 : 0), 1.0F);
                const bool has_min = type != TENSOR_Q8_0 && type != TENSOR_Q4_0 &&
                                     type != TENSOR_Q5_0 && type != TENSOR_Q6_K;
                if (has_min) put_f16(row + b + 2, 0.5F);
            }
            tensor_row_to_float(type, row, f.floats + i * 256, 256);
            lanes[i] = row;
        }
        pack_panel(type, lanes, PACK_ROWS, 256, f.m.panels);
        for (int i = 0; i < MAX_N * 256; i++) f.x[i] = i / 256 % 2 ? -1.0F : 1.0F;
        const size_t ready = input_row_bytes(f.m.kernel->input, f.m.depth);
        for (int r = 0; r < MAX_N; r++) {
            f.m.make_input(f.x + r * 256, 256, f.m.depth, f.ready + (size_t)r * ready);
        }
        float y[4 * 16];
        multiply(&f, 0, 4, 1, y);
        for (int i = 0; i < 4 * 16; i++) {
            double sum = 0;
            for (int k = 0; k < 256; k++) sum += (double)f.floats[k] * taken_input(&f, i / 16, k);
            if (fabs((double)y[i] - sum) <= 1e-5 * fabs(sum) + 1e-3) continue;
            fail_msg("%s %s: is %.9g, wanted %.9g", features->text, tensor_type_name(type),
                     (double)y[i], sum);
        }
        close_fixture(&f);
    }
}

static void no_integer_overflows_at_the_limits(void **state) {
    (void)state;
    for_every_kernel(check_limits);
}

static void check_bits(const cpu_features *features, tensor_type type) {
    fixture f;
    open_fixture(&f, features, type, 310, 512);
    const size_t row = (size_t)f.rows;
    float *alone = mem_array(MAX_N * row, sizeof *alone);
    float *together = mem_array(MAX_N * row, sizeof *together);
    for (int r = 0; r < MAX_N; r++) multiply(&f, r, 1, f.m.n_panels, alone + (size_t)r * row);
    for (int n = 1; n <= MAX_N; n = n < 26 ? n + 1 : n + 19) {
        for (int cut = 0; cut <= f.m.n_panels; cut += 7) {
            memset(together, 0xff, MAX_N * row * sizeof *together);
            multiply(&f, 0, n, cut, together);
            if (memcmp(alone, together, (size_t)n * row * sizeof *together) == 0) continue;
            fail_msg("%s %s: %d rows, members cut at panel %d", features->text,
                     tensor_type_name(type), n, cut);
        }
    }
    mem_free(alone);
    mem_free(together);
    close_fixture(&f);
}

static void a_row_alone_and_in_a_batch_give_the_same_bits(void **state) {
    (void)state;
    for_every_kernel(check_bits);
}

static void check_packing(const cpu_features *features, tensor_type type) {
    fixture f;
    const int cols = tensor_type_block(type) == 256 ? 512 : tensor_type_block(type) * 33;
    open_fixture(&f, features, type, 37, cols);
    float *row = mem_array((size_t)cols, sizeof *row);
    for (int i = 0; i < f.rows; i++) {
        const char *panel = f.m.panels + (size_t)(i / PACK_ROWS) * f.m.panel_bytes;
        pack_panel_row(f.m.format, panel, i % PACK_ROWS, cols, row);
        const float *wanted = f.floats + (size_t)i * (size_t)cols;
        if (memcmp(row, wanted, (size_t)cols * sizeof *row) == 0) continue;
        fail_msg("%s row %d", tensor_type_name(type), i);
    }
    mem_free(row);
    close_fixture(&f);
}

static void a_packed_row_reads_back_as_stored(void **state) {
    (void)state;
    const cpu_features f = cpu_features_of(CPU_PORTABLE);
    for (int type = 0; type < TENSOR_FP8; type++) check_packing(&f, (tensor_type)type);
}

static void odd_depths_are_padded_with_nothing(void **state) {
    (void)state;
    static const int depths[] = {1, 3, 17, 31, 257};
    const cpu_features f = cpu_features_of(cpu_level_best());
    for (int type = TENSOR_F32; type <= TENSOR_BF16; type++) {
        for (size_t i = 0; i < COUNT_OF(depths); i++) {
            fixture x;
            open_fixture(&x, &f, (tensor_type)type, 18, depths[i]);
            float y[3 * 18];
            multiply(&x, 0, 3, 1, y);
            for (int r = 0; r < 3; r++) {
                for (int row = 0; row < 18; row++) {
                    double sum = 0;
                    for (int k = 0; k < depths[i]; k++) {
                        sum += (double)x.floats[row * depths[i] + k] * taken_input(&x, r, k);
                    }
                    assert_true(fabs((double)y[r * 18 + row] - sum) < 1e-5);
                }
            }
            close_fixture(&x);
        }
    }
}

static void inputs_are_rounded_to_the_nearest_int8(void **state) {
    (void)state;
    for (int level = 0; level < CPU_N_LEVELS; level++) {
        if (!cpu_level_runs((cpu_level)level)) continue;
        const cpu_features f = cpu_features_of((cpu_level)level);
        fixture x;
        open_fixture(&x, &f, TENSOR_Q8_0, 1, 96);
        for (int r = 0; r < MAX_N; r++) {
            for (int g = 0; g < 3; g++) {
                const float *group = x.x + r * 96 + g * 32;
                float max = 0;
                for (int k = 0; k < 32; k++) max = fmaxf(max, fabsf(group[k]));
                for (int k = 0; k < 32; k++) {
                    const double error = (double)group[k] - taken_input(&x, r, g * 32 + k);
                    assert_true(fabs(error) <= 0.5001 * (double)max / 127);
                }
            }
        }
        close_fixture(&x);
    }
}

static void bias_and_residual_are_added_even_in_place(void **state) {
    (void)state;
    const cpu_features features = cpu_features_of(cpu_level_best());
    fixture f;
    open_fixture(&f, &features, TENSOR_F32, 37, 64);
    float plain[5 * 37], bias[37], both[5 * 48];
    for (int i = 0; i < 37; i++) bias[i] = (float)i;
    for (int i = 0; i < 5 * 48; i++) both[i] = 1000.0F;
    multiply(&f, 0, 5, 3, plain);
    const project_job j = {.m = &f.m,
                           .x = f.tiles,
                           .n = 5,
                           .bias = bias,
                           .residual = both,
                           .residual_stride = 48,
                           .y = both,
                           .y_stride = 48};
    cpu_project_panels(&j, 0, 3);
    for (int r = 0; r < 5; r++) {
        for (int i = 0; i < 48; i++) {
            const float wanted = i < 37 ? plain[r * 37 + i] + bias[i] + 1000.0F : 1000.0F;
            assert_true(both[r * 48 + i] == wanted);
        }
    }
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_packed_row_reads_back_as_stored),
        cmocka_unit_test(every_kernel_equals_the_sum_over_stored_weights),
        cmocka_unit_test(no_integer_overflows_at_the_limits),
        cmocka_unit_test(a_row_alone_and_in_a_batch_give_the_same_bits),
        cmocka_unit_test(odd_depths_are_padded_with_nothing),
        cmocka_unit_test(inputs_are_rounded_to_the_nearest_int8),
        cmocka_unit_test(bias_and_residual_are_added_even_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
