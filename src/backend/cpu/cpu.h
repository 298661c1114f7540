/* cpu.h - what the CPU back end keeps beside the frame of host.h: packed matrices and their
 * kernels.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "backend/cpu/project.h"
#include "backend/host.h"

typedef struct cpu_matrix { /* a plan_matrix, packed; an embedding that stays in its file has none
                             */
    pack_format format;
    int rows, cols;
    int depth; /* cols, padded */
    int n_panels;
    size_t panel_bytes;
    char *
        panels; /* [n_panels * panel_bytes], mem_map; of the owner when shared; NULL: in the file */
    bool is_owner;
    const project_kernel *kernel;
    const project_wide *wide; /* the same products in steps of many rows; or NULL */
    input_fn *make_input;
} cpu_matrix;

typedef struct cpu {
    cpu_features features;
    cpu_matrix *matrices; /* [plan->n_matrices] */
    size_t member_bytes;  /* of work space, for each member of the team: a row, ready and not */
    size_t wide_bytes;    /* of work space, for each member: panels made ready */
    char types[32];       /* the weight type, for people */
} cpu;

static inline const cpu *cpu_of(const host *h) {
    return h->private;
}

/* Chooses formats and kernels, allocates, packs; matrix.c. */
weir_status cpu_pack(host *h, const backend_options *o, weir_error *err);
void cpu_unpack(host *h);

/* One product over ready inputs. */
typedef struct project_job {
    const cpu_matrix *m;
    const char *x;         /* tiles, see project.h */
    char *scratch;         /* [cpu_wide_scratch(m)], of this member alone */
    int n;                 /* rows */
    const float *bias;     /* [m->rows] or NULL */
    const float *residual; /* [n], rows residual_stride floats apart, or NULL; may be y */
    float *y;              /* [n], rows y_stride floats apart */
    size_t residual_stride, y_stride;
} project_job;

/* Outputs of panels [from, to) for all rows. */
void cpu_project_panels(const project_job *j, int from, int to);

/* Format, depth, panels and kernels of a matrix; not the panels themselves. */
void cpu_matrix_shape(cpu_matrix *m, int rows, int cols, pack_format format, const cpu_features *f);
size_t cpu_wide_scratch(const cpu_matrix *m);        /* bytes, a multiple of 64; 0: none needed */
size_t cpu_inputs_bytes(const cpu_matrix *m, int n); /* of the tiles of up to n rows */

/* Puts row r's ready words into its place among n rows of tiles. */
void cpu_place_input(const cpu_matrix *m, const uint32_t *words, int r, int n, char *tiles);

void cpu_project(host *h, const plan_op *op, int ith, int nth);
host_op *cpu_project_before(const host *h, const plan_op *op); /* NULL: nothing */
void cpu_lookup(host *h, const plan_op *op, int ith, int nth);
