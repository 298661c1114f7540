/* project.c - y = [residual +] pre(x) W^T [+ b] on panels; project.h has the picture.
 *
 *   prologue   a member makes whole rows ready: norm, gate or activation in f32, then the words
 *              its kernel takes.  One row is made by every member for itself (a few microseconds,
 *              and no barrier); more rows are shared out, and a barrier follows.
 *   product    members take consecutive panels.  For many rows, panels go in groups that stay in
 *              the second cache while the tiles of inputs pass by.
 *   epilogue   bias and residual are added as a tile of sums leaves.
 *
 *   unit       steps of many rows go through a matrix unit where there is one, with the same bits.
 *
 * Work space: [nth members: float row, ready row][nth members: ready panels][tiles of all rows].
 *
 * Twin: ref/project.c.  Test: tests/backend/test_project.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/project.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/rows.h"

#include "base/arena.h"

#include <assert.h>
#include <string.h>

enum {
    GROUP_BYTES = 512 << 10, /* of weights kept in the second cache: half of it, or less */
    WIDE_SUMS = 8192,        /* of the tiles of a group, in floats */
    N_TABLES = 7,
};

size_t input_row_bytes(input_kind kind, int k) {
    const size_t n = (size_t)k;
    if (kind == INPUT_F32) return n * 4;
    if (kind == INPUT_BF16) return (n + 1) / 2 * 4;
    return n + n / PACK_GROUP * 24;
}

/* Tables from the narrowest hardware to the widest; a later one that runs here wins. */
static int tables_of(const cpu_features *f, const project_table *out[N_TABLES]) {
    int n = 0;
    out[n++] = &cpu_portable_table;
    if (f->level == CPU_NEON) out[n++] = &cpu_neon_table;
    if (f->level >= CPU_AVX2) out[n++] = &cpu_avx2_table;
    if (f->level == CPU_AVX512) out[n++] = &cpu_avx512_table;
    if (f->vnni) out[n++] = &cpu_avx512_vnni_table;
    if (f->bf16) out[n++] = &cpu_avx512_bf16_table;
    if (f->amx) out[n++] = &cpu_amx_table;
    return n;
}

const project_kernel *cpu_kernel_find(const cpu_features *f, pack_format format) {
    const project_table *tables[N_TABLES];
    int i = tables_of(f, tables) - 1;
    while (i > 0 && !tables[i]->kernels[format].run) i--;
    assert(tables[i]->kernels[format].run);
    return &tables[i]->kernels[format];
}

const project_wide *cpu_wide_find(const cpu_features *f, pack_format format, int depth) {
    const project_wide *wide = f->amx ? &cpu_amx_table.wides[format] : NULL;
    return wide && wide->run && depth % PACK_GROUP == 0 ? wide : NULL;
}

input_fn *cpu_input_find(const cpu_features *f, input_kind kind) {
    const project_table *tables[N_TABLES];
    int i = tables_of(f, tables) - 1;
    while (i > 0 && !tables[i]->inputs[kind]) i--;
    assert(tables[i]->inputs[kind]);
    return tables[i]->inputs[kind];
}

read_fn *cpu_read_find(const cpu_features *f) {
    const project_table *tables[N_TABLES];
    int i = tables_of(f, tables) - 1;
    while (i > 0 && !tables[i]->read) i--;
    return tables[i]->read;
}

/* ---- product */

/* y = sums [+ bias] [+ residual] of one row and panel; n is a constant where it matters. */
static inline void write_panel(const project_job *j, const float *sums, size_t row, int at,
                               const int n) {
    float *y = j->y + row * j->y_stride + at;
    float x[PACK_ROWS];
    for (int i = 0; i < n; i++) x[i] = sums[i];
    if (j->bias) {
        for (int i = 0; i < n; i++) x[i] += j->bias[at + i];
    }
    if (j->residual) {
        const float *residual = j->residual + row * j->residual_stride + at;
        for (int i = 0; i < n; i++) x[i] += residual[i];
    }
    for (int i = 0; i < n; i++) y[i] = x[i];
}

/* Adds bias and residual to the sums of one tile, [rows][panels][16], and writes them out. */
static void write_tile(const project_job *j, const float *sums, int first_row, int rows,
                       int first_panel, int panels) {
    for (int r = 0; r < rows; r++) {
        for (int p = 0; p < panels; p++, sums += PACK_ROWS) {
            const int at = (first_panel + p) * PACK_ROWS, n = j->m->rows - at;
            if (n >= PACK_ROWS) {
                write_panel(j, sums, (size_t)(first_row + r), at, PACK_ROWS);
            } else {
                write_panel(j, sums, (size_t)(first_row + r), at, n);
            }
        }
    }
}

/* Panels at once for n rows. */
static int panel_step(const project_kernel *k, int n) {
    return n == 1 ? k->panels_one : n <= 5 ? k->panels_few : k->panels_many;
}

/* All tiles of rows through `panels` panels, a multiple of the step or less than one step. */
static void project_group(const project_job *j, int first, int panels) {
    _Alignas(64) float sums[PROJECT_ROWS * PROJECT_PANELS * PACK_ROWS];
    const cpu_matrix *m = j->m;
    const size_t row_bytes = input_row_bytes(m->kernel->input, m->depth);
    const int wide = panel_step(m->kernel, j->n);
    for (int r = 0; r < j->n; r += PROJECT_ROWS) {
        const int rows = MIN_OF(PROJECT_ROWS, j->n - r);
        for (int p = 0, step; p < panels; p += step) {
            step = panels - p >= wide ? wide : 1;
            const project_tile t = {.w = m->panels + (size_t)(first + p) * m->panel_bytes,
                                    .panel_bytes = m->panel_bytes,
                                    .x = j->x + (size_t)r * row_bytes,
                                    .k = m->depth,
                                    .out = sums};
            m->kernel->run(&t, rows, step);
            write_tile(j, sums, r, rows, first + p, step);
        }
    }
}

/* Rows of a tile of a matrix unit in a step of n: all tiles have the same.  Even, as two tiles of
 * the unit may make one of ours. */
static int wide_rows(const project_wide *w, int n) {
    const int tiles = (n + w->rows - 1) / w->rows;
    return ((n + tiles - 1) / tiles + 1) / 2 * 2;
}

static bool is_wide(const cpu_matrix *m, int n) {
    return m->wide && n >= m->wide->at_least;
}

static size_t ready_panel_bytes(const cpu_matrix *m) {
    return m->wide->ready ? m->wide->bytes(m->depth) : m->panel_bytes;
}

/* Panels at once through all rows of the step. */
static int wide_group(const cpu_matrix *m) {
    const int fit = (int)(GROUP_BYTES / ready_panel_bytes(m)), step = m->wide->panels;
    const int most = WIDE_SUMS / (m->wide->rows * PACK_ROWS);
    return MAX_OF(1, MIN_OF(fit, most) / step) * step;
}

size_t cpu_wide_scratch(const cpu_matrix *m) {
    return m->wide && m->wide->ready ? (size_t)wide_group(m) * ready_panel_bytes(m) : 0;
}

typedef struct wide_pass { /* all rows of a step through a group of panels */
    const project_job *j;
    const char *w; /* ready panels */
    int first, panels;
    int rows; /* of a tile */
    size_t tile_bytes;
    wide_ask next; /* the panels of the next group, as packed */
} wide_pass;

/* Part `i` of `n` of what is asked for. */
static wide_ask ask_part(wide_ask all, size_t i, size_t n) {
    const size_t from = all.bytes * i / n, to = all.bytes * (i + 1) / n;
    return (wide_ask){.at = all.at + from, .bytes = to - from};
}

/* Tile `tile` of the rows.  Inputs of a chunk stay in the nearest cache while the panels pass by;
 * meanwhile the next tile's inputs are asked for, and a share of the next group's panels. */
static void project_wide_tile(const wide_pass *g, int tile, float *sums) {
    const cpu_matrix *m = g->j->m;
    const project_wide *wide = m->wide;
    const size_t panel_bytes = ready_panel_bytes(m);
    const int tiles = (g->j->n + g->rows - 1) / g->rows;
    const int chunks = (m->depth + wide->chunk - 1) / wide->chunk;
    const int steps = (g->panels + wide->panels - 1) / wide->panels;
    const size_t calls = (size_t)chunks * (size_t)steps;
    const wide_ask inputs = {g->j->x + (size_t)((tile + 1) % tiles) * g->tile_bytes, g->tile_bytes};
    for (size_t call = 0; call < calls; call++) {
        const int p = (int)(call % (size_t)steps) * wide->panels;
        const int from = (int)(call / (size_t)steps) * wide->chunk;
        const wide_tile t = {
            .w = g->w + (size_t)p * panel_bytes,
            .panel_bytes = panel_bytes,
            .x = g->j->x + (size_t)tile * g->tile_bytes,
            .depth = m->depth,
            .from = from,
            .to = MIN_OF(from + wide->chunk, m->depth),
            .ask = {ask_part(inputs, call, calls),
                    ask_part(g->next, (size_t)tile * calls + call, (size_t)tiles * calls)},
            .out = sums + (size_t)p * (size_t)g->rows * PACK_ROWS};
        wide->run(&t, g->rows, MIN_OF(wide->panels, g->panels - p));
    }
}

/* Makes the panels of a group ready in scratch, if its kernel wants them so. */
static const char *ready_group(const project_job *j, int first, int panels) {
    const cpu_matrix *m = j->m;
    const char *w = m->panels + (size_t)first * m->panel_bytes;
    if (!m->wide->ready) return w;
    for (int p = 0; p < panels; p++) {
        m->wide->ready(w + (size_t)p * m->panel_bytes, m->depth,
                       j->scratch + (size_t)p * ready_panel_bytes(m));
    }
    return j->scratch;
}

static void project_wide_panels(const project_job *j, int from, int to) {
    _Alignas(64) float sums[WIDE_SUMS];
    const cpu_matrix *m = j->m;
    const int group = wide_group(m), rows = wide_rows(m->wide, j->n), step = m->wide->panels;
    assert(m->depth % PACK_GROUP == 0 && (size_t)(group * rows * PACK_ROWS) <= WIDE_SUMS);
    assert(j->scratch || !m->wide->ready);
    m->wide->begin(rows);
    for (int first = from, panels; first < to; first += panels) {
        panels = MIN_OF(group, to - first);
        const int behind = MIN_OF(group, to - first - panels);
        const wide_pass g = {.j = j,
                             .w = ready_group(j, first, panels),
                             .first = first,
                             .panels = panels,
                             .rows = rows,
                             .tile_bytes = wide_parts_of(m->kernel->input, m->depth, rows).bytes,
                             .next = {m->panels + (size_t)(first + panels) * m->panel_bytes,
                                      (size_t)behind * m->panel_bytes}};
        for (int r = 0; r < j->n; r += rows) {
            project_wide_tile(&g, r / rows, sums);
            for (int p = 0; p < panels; p += step) {
                write_tile(j, sums + (size_t)p * (size_t)rows * PACK_ROWS, r,
                           MIN_OF(rows, j->n - r), first + p, MIN_OF(step, panels - p));
            }
        }
    }
    m->wide->end();
}

void cpu_project_panels(const project_job *j, int from, int to) {
    if (is_wide(j->m, j->n)) {
        project_wide_panels(j, from, to);
        return;
    }
    const int step = panel_step(j->m->kernel, j->n);
    const int fit = (int)(GROUP_BYTES / j->m->panel_bytes);
    const int group = j->n == 1 ? step : MAX_OF(1, fit / step) * step;
    for (int p = from; p < to; p += group) project_group(j, p, MIN_OF(group, to - p));
}

/* ---- inputs */

size_t cpu_inputs_bytes(const cpu_matrix *m, int n) {
    const size_t narrow = size_mul((size_t)n, input_row_bytes(m->kernel->input, m->depth));
    if (!m->wide) return narrow;
    /* n rows, fewer than a tile behind them, and a line each to round up to */
    const size_t rows = size_add((size_t)n, (size_t)m->wide->rows);
    return MAX_OF(narrow, size_mul(rows, wide_parts_of(m->kernel->input, m->depth, 1).bytes));
}

/* Row r of its tile of `rows`: int8 or bf16 in one piece, scales and sums among the others'. */
static void place_wide(const cpu_matrix *m, const uint32_t *words, int r, int rows, char *tiles) {
    const input_kind kind = m->kernel->input;
    const wide_parts at = wide_parts_of(kind, m->depth, rows);
    char *tile = tiles + (size_t)(r / rows) * at.bytes;
    r %= rows;
    memcpy(tile + (size_t)r * at.stride, words, at.stride - 64);
    if (kind != INPUT_INT8) return;
    const int8_parts from = int8_parts_of(m->depth, 1);
    uint32_t *d = (uint32_t *)(void *)(tile + at.d), *sum = (uint32_t *)(void *)(tile + at.sum);
    for (int g = 0; g < m->depth / PACK_GROUP; g++) {
        d[g * rows + r] = words[from.d + (size_t)g];
        sum[g * rows + r] = words[from.sum + (size_t)g];
    }
}

void cpu_place_input(const cpu_matrix *m, const uint32_t *words, int r, int n, char *tiles) {
    if (is_wide(m, n)) {
        place_wide(m, words, r, wide_rows(m->wide, n), tiles);
        return;
    }
    const size_t row_bytes = input_row_bytes(m->kernel->input, m->depth);
    const int first = r / PROJECT_ROWS * PROJECT_ROWS;
    const size_t rows = (size_t)MIN_OF(PROJECT_ROWS, n - first);
    uint32_t *to = (uint32_t *)(void *)(tiles + (size_t)first * row_bytes) + (r - first);
    for (size_t i = 0; i < row_bytes / 4; i++) to[i * rows] = words[i];
}

/* The row that is multiplied, [cols]: the tensor's own or one made in scratch. */
static const float *prologue(const host *h, const plan_op *op, int r, int cols, float *scratch) {
    const cpu_level level = cpu_of(h)->features.level;
    const float *x = host_row(h, op->in[0], r);
    switch (op->prologue) {
    case PLAN_PLAIN: return x;
    case PLAN_NORM: cpu_norm_row(level, scratch, x, &op->norm, cols); break;
    case PLAN_GATE:
        cpu_gate_row(level, op->act, scratch, x, host_row(h, op->in[1], r), cols);
        break;
    case PLAN_ACT: cpu_act_row(level, op->act, scratch, x, cols); break;
    }
    return scratch;
}

/* Memory of the step: each share's own row and words, each share's panels, then all tiles. */
static char *share_memory(const host *h, int ith) {
    return h->workspace + (size_t)ith * cpu_of(h)->member_bytes;
}

static char *tiles_memory(const host *h, int nth) {
    return h->workspace + (size_t)nth * (cpu_of(h)->member_bytes + cpu_of(h)->wide_bytes);
}

/* Row r as the kernel wants it, in memory of the share. */
static const uint32_t *make_words(const host *h, const plan_op *op, const cpu_matrix *m, int r,
                                  int ith) {
    char *memory = share_memory(h, ith);
    float *scratch = (float *)(void *)memory;
    uint32_t *words = (uint32_t *)(void *)(memory + cpu_of(h)->member_bytes / 2);
    m->make_input(prologue(h, op, r, m->cols, scratch), m->cols, m->depth, words);
    return words;
}

/* Makes all rows ready, before a step of several rows; of a single one every share makes its own,
 * which costs less than to wait for it. */
static void make_inputs(host *h, const plan_op *op, int ith, int nth) {
    const cpu_matrix *m = &cpu_of(h)->matrices[op->matrix];
    const int n = host_rows(h, op->out);
    /* whole tiles when there are enough, so that shares do not write into the same lines */
    const int tile = is_wide(m, n) ? wide_rows(m->wide, n) : PROJECT_ROWS;
    const int n_tiles = (n + tile - 1) / tile;
    const int unit = n_tiles >= nth ? tile : 1;
    int from, to;
    host_share((n + unit - 1) / unit, ith, nth, &from, &to);
    for (int r = from * unit; r < MIN_OF(to * unit, n); r++) {
        cpu_place_input(m, make_words(h, op, m, r, ith), r, n, tiles_memory(h, nth));
    }
}

host_op *cpu_project_before(const host *h, const plan_op *op) {
    return host_rows(h, op->out) > 1 ? make_inputs : NULL;
}

void cpu_project(host *h, const plan_op *op, int ith, int nth) {
    const cpu_matrix *m = &cpu_of(h)->matrices[op->matrix];
    const plan *p = h->plan;
    const int n = host_rows(h, op->out);
    if (n == 0) return;
    const plan_tensor *out = &p->tensors[op->out];
    assert(out->features == m->rows && p->tensors[op->in[0]].features == m->cols);
    project_job j = {.m = m,
                     .scratch = h->workspace + (size_t)nth * cpu_of(h)->member_bytes +
                                (size_t)ith * cpu_of(h)->wide_bytes,
                     .x =
                         n == 1 ? (const char *)make_words(h, op, m, 0, ith) : tiles_memory(h, nth),
                     .n = n,
                     .bias = p->matrices[op->matrix].bias,
                     .y = host_row(h, op->out, 0),
                     .y_stride = (size_t)p->tensors[out->base].stride};
    if (op->residual >= 0) {
        j.residual = host_row(h, op->residual, 0);
        j.residual_stride = (size_t)p->tensors[p->tensors[op->residual].base].stride;
    }
    int from, to;
    host_share(m->n_panels, ith, nth, &from, &to);
    cpu_project_panels(&j, from, to);
}
