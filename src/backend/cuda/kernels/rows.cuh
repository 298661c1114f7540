/* rows.cuh - what happens to a row at a time: embeddings, norms, activations, additions.
 *
 *   lookup     y[r] = E[id[r]]            normalize  y = norm(x) by groups of features
 *   gate       y = act(g) * u             activate   y = act(x)
 *   clamp      y = min(max(x, -c), c)     add        y = a + b
 *   wanted     y[i] = x[wanted[i]]        phases     cos, sin of every row's two positions
 *
 * Elements are dealt to all threads of the grid, groups of a norm to all warps.  A few kilobytes a
 * token: what counts is that a stage of them ends soon.
 *
 * A phase is pos * turns mod 2^64 in integer arithmetic, exact for 2^64 tokens; its upper half
 * becomes a float.  CPU twins: cpu/rows.c, cpu/lookup.c.  Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

WALK const cuda_row *batch_row_at(const world_of *w, int r) {
    return (const cuda_row *)w->rows + r;
}

WALK void tabulate(const world_of *w) {
    const u64 *turns = (const u64 *)w->turns;
    const int block = N_BLOCKS - 1 - BLOCK; /* the first ones have embeddings to read */
    const int threads = WORK_THREADS(w);
    for (int i = block * threads + THREAD; i < w->n * w->pairs; i += N_BLOCKS * threads) {
        const cuda_row *row = batch_row_at(w, i / w->pairs);
        const u64 turn = turns[i % w->pairs];
        float sine, cosine;
        sine_cosine((long long)(row->pos * turn), &sine, &cosine);
        ((float *)w->cos_pos)[i] = cosine * w->magnitude;
        ((float *)w->sin_pos)[i] = sine * w->magnitude;
        sine_cosine((long long)((u64)row->p * turn), &sine, &cosine);
        ((float *)w->cos_pin)[i] = cosine * w->magnitude;
        ((float *)w->sin_pin)[i] = sine * w->magnitude;
    }
}

WALK void normalize(const world_of *w, const cuda_stage *s) {
    const cuda_norm *m = &s->norm;
    const int groups = s->out.features / m->group, warps = WORKERS(w);
    for (int i = BLOCK * warps + WARP; i < rows_of(w, &s->out) * groups; i += N_BLOCKS * warps) {
        const int at = i % groups * m->group;
        const float *x = row_of(&s->in, i / groups) + at;
        float *y = row_of(&s->out, i / groups) + at;
        row_norm row = {0, 0};
        float sum = 0, squares = 0;
        for (int k = LANE; m->is_layer && k < m->group; k += 32) sum += load_float(x + k);
        row.mean = warp_sum(sum) / (float)m->group;
        for (int k = LANE; k < m->group; k += 32) {
            const float d = load_float(x + k) - row.mean;
            squares += d * d;
        }
        row.scale = 1 / sqrtf(warp_sum(squares) / (float)m->group + m->eps);
        for (int k = LANE; k < m->group; k += 32) y[k] = normed(m, row, load_float(x + k), k);
    }
}

/* Tokens the host has not seen yet are where `draw` left them; one that is none reads as 0. */
WALK int token_of(const world_of *w, const cuda_row *row) {
    const int token = row->token < 0 ? ((const int *)w->drawn)[row->slot] : row->token;
    return token < 0 ? 0 : token;
}

/* Element k of row r of the result of an operation that works on elements. */
WALK float element(const world_of *w, const cuda_stage *s, int r, int k) {
    switch (s->kind) {
    case NN_LOOKUP: return weight_at(&s->matrix, token_of(w, batch_row_at(w, r)), k);
    case NN_WANTED: return load_float(row_of(&s->in, ((const int *)w->wanted)[r]) + k);
    case NN_GATE:
        return act_of(s->act, load_float(row_of(&s->in, r) + k)) *
               load_float(row_of(&s->in2, r) + k);
    case NN_ACTIVATE: return act_of(s->act, load_float(row_of(&s->in, r) + k));
    case NN_CLAMP: return fminf(fmaxf(load_float(row_of(&s->in, r) + k), -s->bound), s->bound);
    case NN_ADD: return load_float(row_of(&s->in, r) + k) + load_float(row_of(&s->in2, r) + k);
    default: return 0;
    }
}

WALK void each_element(const world_of *w, const cuda_stage *s) {
    const int features = s->out.features, threads = WORK_THREADS(w);
    const long long n = (long long)rows_of(w, &s->out) * features;
    for (long long i = (long long)BLOCK * threads + THREAD; i < n; i += N_BLOCKS * threads) {
        const int r = (int)(i / features), k = (int)(i % features);
        row_of(&s->out, r)[k] = element(w, s, r, k);
    }
}
