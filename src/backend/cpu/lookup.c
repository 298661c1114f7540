/* lookup.c - rows of the embedding: out of the packed head when it is tied, else from the file.
 *
 * Twin: ref/project.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"

#include <assert.h>

void cpu_lookup(host *h, const plan_op *op, int ith, int nth) {
    const cpu_matrix *m = &cpu_of(h)->matrices[op->matrix];
    int from, to;
    host_share(h->batch->n, ith, nth, &from, &to);
    for (int r = from; r < to; r++) {
        const int id = h->batch->rows[r].token;
        assert(id >= 0 && id < h->plan->matrices[op->matrix].rows);
        float *y = host_row(h, op->out, r);
        if (m->panels) {
            const char *panel = m->panels + (size_t)(id / PACK_ROWS) * m->panel_bytes;
            pack_panel_row(m->format, panel, id % PACK_ROWS, m->cols, y);
        } else {
            plan_matrix_row(&h->plan->matrices[op->matrix], id, y);
        }
    }
}
