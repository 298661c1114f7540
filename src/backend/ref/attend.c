/* attend.c - attention under the streaming rule, as docs/streaming.md writes it.
 *
 *   q [n, n_heads * hd], k, v [n, n_kv_heads * hd] -> y [n, n_heads * hd]
 *
 * First every row's key and value are stored (keys rotated once, at their stream position, or at
 * their index when pinned).  Then each row's query is rotated twice:
 *
 *   score(pin s)     = scale * rot(q, p) . K_pin[s]              - slope * (p - s)
 *   score(recent j)  = scale * rot(q, pos) . K_ring[j mod ring]  - slope * (pos - j)
 *
 * and the softmax runs over both together.  Scores are made twice, so nothing is stored.
 * CPU twin: cpu/attend.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/ref/ref.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { MAX_HEAD_DIM = 1024 };

static void store_row(const host *h, const plan_op *op, int r) {
    const nn_attention *a = &op->attention;
    const batch_row *row = &h->batch->rows[r];
    const rope_table *rope = &h->plan->rope;
    const size_t phase = (size_t)r * (size_t)rope->pairs;
    float key[MAX_HEAD_DIM];
    for (int head = 0; head < a->n_kv_heads; head++) {
        const float *k = host_row(h, op->in[1], r) + (size_t)head * (size_t)a->head_dim;
        const float *v = host_row(h, op->v, r) + (size_t)head * (size_t)a->head_dim;
        memcpy(key, k, (size_t)a->head_dim * sizeof *key);
        if (row->is_pin) {
            rope_rotate(rope, key, h->cos_pin + phase, h->sin_pin + phase);
            kv_put_pin(&h->kv, row->slot, a->layer, 0, head, (int)row->p, key);
            kv_put_pin(&h->kv, row->slot, a->layer, 1, head, (int)row->p, v);
        } else {
            const int at = (int)(row->pos % (uint64_t)h->kv.shape.ring);
            rope_rotate(rope, key, h->cos_pos + phase, h->sin_pos + phase);
            kv_put_ring(&h->kv, row->slot, a->layer, 0, head, at, key);
            kv_put_ring(&h->kv, row->slot, a->layer, 1, head, at, v);
        }
    }
}

typedef struct view { /* one query head looking at its keys */
    const host *h;
    const nn_attention *a;
    const batch_row *row;
    int kv_head;
    float q_pos[MAX_HEAD_DIM], q_pin[MAX_HEAD_DIM];
    double slope;
} view;

/* Key i of those a row sees: the pins first, then the recent ones, oldest first. */
static void load(const view *v, int i, int is_v, float *out) {
    const batch_row *row = v->row;
    assert(i >= 0 && i < row->pins + row->recent);
    if (i < row->pins) {
        kv_get_pin(&v->h->kv, row->slot, v->a->layer, is_v, v->kv_head, i, out);
        return;
    }
    const uint64_t j = row->pos - (uint64_t)(row->recent - 1) + (uint64_t)(i - row->pins);
    const int at = (int)(j % (uint64_t)v->h->kv.shape.ring);
    kv_get_ring(&v->h->kv, row->slot, v->a->layer, is_v, v->kv_head, at, out);
}

static double score(const view *v, int i) {
    float key[MAX_HEAD_DIM];
    load(v, i, 0, key);
    const bool is_pin = i < v->row->pins;
    const float *q = is_pin ? v->q_pin : v->q_pos;
    double dot = 0;
    for (int d = 0; d < v->a->head_dim; d++) dot += (double)q[d] * (double)key[d];
    const double distance = is_pin ? (double)v->row->p - i : v->row->pins + v->row->recent - 1 - i;
    return dot * (double)v->a->scale - v->slope * distance;
}

static void attend_head(const view *v, float *y) {
    const int keys = v->row->pins + v->row->recent, hd = v->a->head_dim;
    assert(keys > 0 && v->row->recent <= v->h->kv.shape.ring);
    double most = -INFINITY, total = 0, sum[MAX_HEAD_DIM] = {0};
    float value[MAX_HEAD_DIM];
    for (int i = 0; i < keys; i++) most = fmax(most, score(v, i));
    for (int i = 0; i < keys; i++) {
        const double weight = exp(score(v, i) - most);
        load(v, i, 1, value);
        total += weight;
        for (int d = 0; d < hd; d++) sum[d] += weight * (double)value[d];
    }
    for (int d = 0; d < hd; d++) y[d] = (float)(sum[d] / total);
}

void ref_attend(host *h, const plan_op *op, int ith, int nth) {
    (void)ith, (void)nth;
    const nn_attention *a = &op->attention;
    const rope_table *rope = &h->plan->rope;
    assert(a->head_dim <= MAX_HEAD_DIM);
    for (int r = 0; r < h->batch->n; r++) store_row(h, op, r);
    for (int r = 0; r < h->batch->n; r++) {
        const size_t phase = (size_t)r * (size_t)rope->pairs;
        view v = {.h = h, .a = a, .row = &h->batch->rows[r]};
        for (int head = 0; head < a->n_heads; head++) {
            const size_t at = (size_t)head * (size_t)a->head_dim;
            const float *q = host_row(h, op->in[0], r) + at;
            memcpy(v.q_pos, q, (size_t)a->head_dim * sizeof *q);
            memcpy(v.q_pin, q, (size_t)a->head_dim * sizeof *q);
            rope_rotate(rope, v.q_pos, h->cos_pos + phase, h->sin_pos + phase);
            rope_rotate(rope, v.q_pin, h->cos_pin + phase, h->sin_pin + phase);
            v.kv_head = head / (a->n_heads / a->n_kv_heads);
            v.slope = h->plan->alibi ? (double)h->plan->alibi[head] : 0;
            attend_head(&v, host_row(h, op->out, r) + at);
        }
    }
}
