/* attend.c - attention under the streaming rule, shared out among the team.
 *
 *   q [n, n_heads * hd], k, v [n, n_kv_heads * hd] -> y [n, n_heads * hd]
 *
 *   1  every member stores its share of the rows' keys (rotated) and values; barrier
 *   2  members take items until there are none:
 *
 *        item = a block of rows of one slot  x  the query heads of one KV head  [x  a part of
 *               the spans, when there are fewer items than threads would like]
 *
 *        rotate the queries twice, at p for the pins and at pos for the ring
 *        for each span of 256 pins, then of 256 stream positions, oldest first:
 *            few() or many() -> a partial result -> merged into the running one
 *        y = acc / sum
 *
 * With parts, partial results of all spans go to shared memory, and whoever finishes the last part
 * of an item merges them in the same order.  So the bits of a row depend on its own keys and on
 * nothing else: spans start at multiples of 256, and `few` or `many` is chosen by how many rows of
 * the row's own slot are in the step.
 *
 * Workspace: | shared: counters | partial results [queries][spans] | scratch of each member |
 *
 * Twin: ref/attend.c.  Test: tests/backend/test_attend.c.  Bench: bench/attend.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/attend.h"

#include "backend/cpu/simd_levels.h"
#include "base/arena.h"

#include <assert.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum {
    EAGER = 4,           /* items each member should find */
    MAX_SPLIT_ROWS = 16, /* a step of more rows is never cut into parts */
};

static const double LOG2_E = 1.4426950408889634074;

const attend_kernels *cpu_attend_kernels(int level) {
    static const attend_kernels *const tables[CPU_N_LEVELS] = SIMD_TABLES(cpu_attend);
    return tables[level] ? tables[level] : tables[CPU_PORTABLE];
}

/* ---- sizes */

typedef struct shape { /* of the attention of one step; the same for all members */
    int head_dim, stride, n_kv_heads;
    int group;       /* query heads of a KV head */
    int cuts, heads; /* an item has `heads` of them, or fewer in the last of `cuts` */
    int spans;       /* that a row can see, at most */
} shape;

static shape shape_of(int n_heads, const kv_shape *kv) {
    shape s = {.head_dim = kv->head_dim,
               .stride = attend_stride(kv->head_dim),
               .n_kv_heads = kv->n_kv_heads,
               .group = n_heads / kv->n_kv_heads};
    s.cuts = (s.group + ATTEND_QUERIES - 1) / ATTEND_QUERIES;
    s.heads = (s.group + s.cuts - 1) / s.cuts;
    s.spans = (kv->pins + ATTEND_SPAN - 1) / ATTEND_SPAN + (kv->ring - 1) / ATTEND_SPAN + 2;
    return s;
}

typedef struct shared { /* at the start of the workspace */
    atomic_int next;    /* item to be taken */
    atomic_int done[];  /* [split items] parts finished */
} shared;

/* Query slots of partial results: only steps of few rows are split. */
static size_t split_rows(const shape *s, int max_rows, int nth) {
    const int few = EAGER * nth / (s->n_kv_heads * s->cuts);
    return nth == 1 ? 0 : (size_t)MIN_OF(MIN_OF(few, MAX_SPLIT_ROWS), max_rows);
}

static size_t round_up(size_t bytes) {
    return size_add(bytes, 63) & ~(size_t)63;
}

static size_t shared_bytes(const shape *s, size_t rows) {
    const size_t items = rows * (size_t)s->n_kv_heads * (size_t)s->cuts;
    return round_up(sizeof(shared) + items * sizeof(atomic_int));
}

static size_t partial_floats(const shape *s) { /* of one item and span: acc, most, sum */
    return (size_t)s->heads * ((size_t)s->stride + 2);
}

static size_t partial_bytes(const shape *s, size_t rows) {
    const size_t items = rows * (size_t)s->n_kv_heads * (size_t)s->cuts;
    return round_up(size_mul(items * (size_t)s->spans, partial_floats(s) * sizeof(float)));
}

typedef struct scratch { /* of one member, for one item */
    int from[ATTEND_QUERIES], to[ATTEND_QUERIES];
    float slope[ATTEND_QUERIES], distance[ATTEND_QUERIES];
    float most[2][ATTEND_QUERIES], sum[2][ATTEND_QUERIES]; /* of the item, of a span */
    float *q_pin, *q_pos;                                  /* [ATTEND_QUERIES][stride] */
    float *acc[2];                                         /* [ATTEND_QUERIES][stride] */
    float *kernel;                                         /* attend_scratch() floats */
} scratch;

static size_t scratch_bytes(const shape *s) {
    const size_t each = (size_t)ATTEND_QUERIES * (size_t)s->stride;
    return round_up(sizeof(scratch)) + round_up((4 * each + attend_scratch(s->stride)) * 4);
}

size_t cpu_attend_workspace(const plan *p, const kv_shape *kv, int nth) {
    const shape s = shape_of(p->attention.n_heads, kv);
    const size_t rows = split_rows(&s, p->max_rows, nth);
    return size_add(size_add(shared_bytes(&s, rows), partial_bytes(&s, rows)),
                    size_mul((size_t)nth, scratch_bytes(&s)));
}

/* ---- the step, as every member sees it */

typedef struct step {
    host *h;
    const plan_op *op;
    const attend_kernels *kernels;
    shape s;
    int block; /* rows of a group in an item, at most */
    int items; /* blocks * n_kv_heads * cuts */
    int parts; /* of each item; 1: not split */
    shared *shared;
    float *partials;
    scratch *scratch;
} step;

static int count_blocks(const batch *b, int block) {
    int n = 0;
    for (int g = 0; g < b->n_groups; g++) n += (b->groups[g].n + block - 1) / block;
    return n;
}

/* Lays out member ith's part of the workspace. */
static scratch *lay_out(char *memory, const shape *s) {
    scratch *out = (scratch *)(void *)memory;
    float *f = (float *)(void *)(memory + round_up(sizeof *out));
    const size_t each = (size_t)ATTEND_QUERIES * (size_t)s->stride;
    out->q_pin = f;
    out->q_pos = f + each;
    out->acc[0] = f + 2 * each;
    out->acc[1] = f + 3 * each;
    out->kernel = f + 4 * each;
    return out;
}

static step step_of(cpu_level level, host *h, const plan_op *op, int ith, int nth) {
    step t = {.h = h, .op = op, .kernels = cpu_attend_kernels((int)level)};
    t.s = shape_of(op->attention.n_heads, &h->kv.shape);
    const int per_row = t.s.n_kv_heads * t.s.cuts, most = MAX_OF(1, ATTEND_QUERIES / t.s.heads);
    const long long wanted = (long long)h->batch->n * per_row / (EAGER * nth);
    t.block = (int)MAX_OF(1, MIN_OF(wanted, most));
    t.items = count_blocks(h->batch, t.block) * per_row;
    const size_t rows = split_rows(&t.s, h->plan->max_rows, nth);
    const bool is_split = (size_t)h->batch->n <= rows && t.items < EAGER * nth;
    t.parts = is_split ? MIN_OF(t.s.spans, (EAGER * nth + t.items - 1) / t.items) : 1;
    char *at = h->workspace;
    t.shared = (shared *)(void *)at;
    at += shared_bytes(&t.s, rows);
    t.partials = (float *)(void *)at;
    at += partial_bytes(&t.s, rows);
    t.scratch = lay_out(at + (size_t)ith * scratch_bytes(&t.s), &t.s);
    return t;
}

/* ---- keys and values into the store */

static void store_one(const step *t, int r, int head) {
    const host *h = t->h;
    const batch_row *row = &h->batch->rows[r];
    const rope_table *rope = &h->plan->rope;
    const kv_store *kv = &h->kv;
    const int hd = t->s.head_dim, layer = t->op->attention.layer;
    const size_t phase = (size_t)r * (size_t)rope->pairs;
    const float *x[2] = {host_row(h, t->op->in[1], r) + head * hd,
                         host_row(h, t->op->v, r) + head * hd};
    float *key = t->scratch->q_pin;
    t->kernels->rotate(rope, key, x[0], (row->is_pin ? h->cos_pin : h->cos_pos) + phase,
                       (row->is_pin ? h->sin_pin : h->sin_pos) + phase, 1, hd);
    x[0] = key;
    const weir_type type = row->is_pin ? kv->pin_type : kv->shape.type;
    const size_t at = row->is_pin ? row->p : row->pos % (uint64_t)kv->shape.ring;
    for (int is_v = 0; is_v < 2; is_v++) {
        char *rows = row->is_pin ? kv_pins(kv, row->slot, layer, is_v, head)
                                 : kv_ring(kv, row->slot, layer, is_v, head);
        float *scale = kv_is_scaled(type) ? kv_scales(kv, row->slot, layer, is_v, head) + at : NULL;
        t->kernels->store(type, rows + at * (size_t)hd * kv_type_bytes(type), x[is_v], hd, scale);
    }
}

/* ---- an item */

typedef struct item {
    int index; /* of items; parts of one item share it */
    int slot, kv_head;
    int first, n_rows; /* rows of the batch */
    int head, n_heads; /* query heads */
    bool is_few;
    int pin_spans; /* 0 .. pin_spans - 1: spans of pins; then those of the ring */
    int spans;
    uint64_t ring_span; /* stream position of the first ring span */
} item;

/* The i-th item; the last blocks, which see most keys, come first. */
static item item_at(const step *t, int i) {
    const batch *b = t->h->batch;
    const int per_row = t->s.n_kv_heads * t->s.cuts;
    int block = count_blocks(b, t->block) - 1 - i / per_row, g = 0;
    const int kv_head = i % per_row / t->s.cuts, cut = i % t->s.cuts;
    for (;; g++) {
        const int blocks = (b->groups[g].n + t->block - 1) / t->block;
        if (block < blocks) break;
        block -= blocks;
    }
    const batch_group *group = &b->groups[g];
    item m = {.index = i, .slot = group->slot, .kv_head = kv_head};
    m.first = group->first + block * t->block;
    m.n_rows = MIN_OF(t->block, group->n - block * t->block);
    m.head = kv_head * t->s.group + cut * t->s.heads;
    m.n_heads = MIN_OF(t->s.heads, t->s.group - cut * t->s.heads);
    m.is_few = group->n * t->s.group <= ATTEND_FEW;
    int pins = 0;
    uint64_t from = UINT64_MAX, to = 0;
    for (int r = m.first; r < m.first + m.n_rows; r++) {
        const batch_row *row = &b->rows[r];
        pins = MAX_OF(pins, row->pins);
        if (row->recent == 0) continue;
        from = MIN_OF(from, row->pos + 1 - (uint64_t)row->recent);
        to = MAX_OF(to, row->pos + 1);
    }
    m.pin_spans = m.spans = (pins + ATTEND_SPAN - 1) / ATTEND_SPAN;
    if (from < to) {
        m.ring_span = from / ATTEND_SPAN * ATTEND_SPAN;
        m.spans += (int)((to - 1) / ATTEND_SPAN - from / ATTEND_SPAN + 1);
    }
    assert(m.spans <= t->s.spans && m.n_heads > 0);
    return m;
}

/* Rotates the item's queries for both kinds of keys, ordered row by row. */
static void rotate_queries(const step *t, const item *m) {
    const host *h = t->h;
    const rope_table *rope = &h->plan->rope;
    const float factor = (float)((double)t->op->attention.scale * LOG2_E);
    scratch *w = t->scratch;
    for (int i = 0; i < m->n_rows * m->n_heads; i++) {
        const int r = m->first + i / m->n_heads, head = m->head + i % m->n_heads;
        const size_t phase = (size_t)r * (size_t)rope->pairs;
        const float *x = host_row(h, t->op->in[0], r) + head * t->s.head_dim;
        float *pin = w->q_pin + i * t->s.stride, *pos = w->q_pos + i * t->s.stride;
        if (h->batch->rows[r].pins > 0) {
            t->kernels->rotate(rope, pin, x, h->cos_pin + phase, h->sin_pin + phase, factor,
                               t->s.head_dim);
        }
        if (h->batch->rows[r].recent > 0) {
            t->kernels->rotate(rope, pos, x, h->cos_pos + phase, h->sin_pos + phase, factor,
                               t->s.head_dim);
        }
        for (int d = t->s.head_dim; d < t->s.stride; d++) pin[d] = pos[d] = 0;
        if (h->plan->alibi) w->slope[i] = h->plan->alibi[head] * (float)LOG2_E;
    }
}

/* Keys [first, last) of the span that starts at pin or stream position `start`. */
static attend_keys keys_of(const step *t, const item *m, bool is_pin, uint64_t start, int first,
                           int last) {
    const kv_store *kv = &t->h->kv;
    const weir_type type = is_pin ? kv->pin_type : kv->shape.type;
    const int layer = t->op->attention.layer;
    attend_keys k = {.type = type,
                     .head_dim = t->s.head_dim,
                     .first = first,
                     .last = last,
                     .row_bytes = (size_t)t->s.head_dim * kv_type_bytes(type)};
    const uint64_t from = start + (uint64_t)first, rows = (uint64_t)kv->shape.ring;
    const int row = (int)(is_pin ? from : from % rows);
    k.wrap = is_pin ? last : MIN_OF(last, first + (kv->shape.ring - row));
    assert(is_pin ? from + (uint64_t)(last - first) <= (uint64_t)kv->shape.pins
                  : last - first <= kv->shape.ring);
    for (int is_v = 0; is_v < 2; is_v++) {
        const char *rows_at = is_pin ? kv_pins(kv, m->slot, layer, is_v, m->kv_head)
                                     : kv_ring(kv, m->slot, layer, is_v, m->kv_head);
        const char **piece = is_v ? k.v : k.k;
        piece[0] = rows_at + (size_t)row * k.row_bytes;
        piece[1] = rows_at;
        if (!kv_is_scaled(type)) continue;
        const float *scales = kv_scales(kv, m->slot, layer, is_v, m->kv_head);
        const float **scale = is_v ? k.v_scale : k.k_scale;
        scale[0] = scales + row;
        scale[1] = scales;
    }
    return k;
}

/* Keys [from, to) of the span at `start` that row sees. */
static void seen(const batch_row *row, bool is_pin, uint64_t start, int *from, int *to) {
    const uint64_t first = is_pin ? 0 : row->pos + 1 - (uint64_t)row->recent;
    const uint64_t last = is_pin ? (uint64_t)row->pins : row->pos + 1;
    *from = first > start ? (int)MIN_OF(first - start, ATTEND_SPAN) : 0;
    *to = last > start ? (int)MIN_OF(last - start, ATTEND_SPAN) : 0;
}

/* Span i of the item, as a partial result in out. */
static void attend_span(const step *t, const item *m, int i, attend_queries *out) {
    const bool is_pin = i < m->pin_spans;
    const uint64_t start = is_pin ? (uint64_t)i * ATTEND_SPAN
                                  : m->ring_span + (uint64_t)(i - m->pin_spans) * ATTEND_SPAN;
    scratch *w = t->scratch;
    int first = ATTEND_SPAN, last = 0;
    for (int r = 0; r < m->n_rows; r++) {
        const batch_row *row = &t->h->batch->rows[m->first + r];
        int from, to;
        seen(row, is_pin, start, &from, &to);
        if (from < to) {
            first = MIN_OF(first, from);
            last = MAX_OF(last, to);
        }
        /* ALiBi counts from the row's index in the cache to a pin, from its position otherwise */
        const float distance =
            is_pin ? (float)((int64_t)row->p - (int64_t)start) : (float)(int64_t)(row->pos - start);
        for (int h = r * m->n_heads; h < (r + 1) * m->n_heads; h++) {
            w->from[h] = from;
            w->to[h] = to;
            w->distance[h] = distance;
        }
    }
    out->q = is_pin ? w->q_pin : w->q_pos;
    out->from = w->from;
    out->to = w->to;
    out->slope = t->h->plan->alibi ? w->slope : NULL;
    out->distance = w->distance;
    if (first >= last) first = last = 0; /* nobody sees anything: rows between two sessions' ends */
    const attend_keys k = keys_of(t, m, is_pin, start, first, last);
    (m->is_few ? t->kernels->few : t->kernels->many)(out, &k, w->kernel);
}

static attend_queries result_in(const step *t, const item *m, int which) {
    scratch *w = t->scratch;
    return (attend_queries){.n = m->n_rows * m->n_heads,
                            .stride = t->s.stride,
                            .most = w->most[which],
                            .sum = w->sum[which],
                            .acc = w->acc[which]};
}

/* The place of span i of a split item. */
static attend_queries partial_of(const step *t, const item *m, int i) {
    const size_t at = (size_t)m->index * (size_t)t->s.spans + (size_t)i;
    float *acc = t->partials + at * partial_floats(&t->s);
    float *most = acc + (size_t)t->s.heads * (size_t)t->s.stride;
    return (attend_queries){
        .n = m->n_heads, .stride = t->s.stride, .acc = acc, .most = most, .sum = most + t->s.heads};
}

static void write_out(const step *t, const item *m, const attend_queries *x) {
    for (int i = 0; i < x->n; i++) {
        const int r = m->first + i / m->n_heads, head = m->head + i % m->n_heads;
        float *y = host_row(t->h, t->op->out, r) + head * t->s.head_dim;
        t->kernels->scale(y, x->acc + i * x->stride, x->sum[i] == 0 ? 0 : 1 / x->sum[i],
                          t->s.head_dim);
    }
}

static void attend_whole(const step *t, const item *m) {
    attend_queries all = result_in(t, m, 0), one = result_in(t, m, 1);
    rotate_queries(t, m);
    for (int i = 0; i < m->spans; i++) {
        attend_span(t, m, i, i ? &one : &all);
        if (i) t->kernels->merge(&all, &one);
    }
    if (m->spans > 0) write_out(t, m, &all);
}

/* The part-th part of an item of one row; whoever is last merges the spans. */
static void attend_part(const step *t, const item *m, int part) {
    int from, to;
    host_share(m->spans, part, t->parts, &from, &to);
    if (from < to) rotate_queries(t, m);
    for (int i = from; i < to; i++) {
        attend_queries one = partial_of(t, m, i);
        attend_span(t, m, i, &one);
    }
    if (atomic_fetch_add(&t->shared->done[m->index], 1) != t->parts - 1) return;
    attend_queries all = partial_of(t, m, 0);
    for (int i = 1; i < m->spans; i++) {
        const attend_queries one = partial_of(t, m, i);
        t->kernels->merge(&all, &one);
    }
    if (m->spans > 0) write_out(t, m, &all);
}

void cpu_attend_before_at(cpu_level level, host *h, const plan_op *op, int ith, int nth) {
    const step t = step_of(level, h, op, ith, nth);
    if (ith == 0) {
        atomic_init(&t.shared->next, 0);
        for (int i = 0; t.parts > 1 && i < t.items; i++) atomic_init(&t.shared->done[i], 0);
    }
    int from, to;
    host_share(h->batch->n * t.s.n_kv_heads, ith, nth, &from, &to);
    for (int i = from; i < to; i++) store_one(&t, i / t.s.n_kv_heads, i % t.s.n_kv_heads);
}

void cpu_attend_at(cpu_level level, host *h, const plan_op *op, int ith, int nth) {
    const step t = step_of(level, h, op, ith, nth);
    for (int i; (i = atomic_fetch_add(&t.shared->next, 1)) < t.items * t.parts;) {
        const item m = item_at(&t, i / t.parts);
        if (t.parts == 1) {
            attend_whole(&t, &m);
        } else {
            attend_part(&t, &m, i % t.parts);
        }
    }
}

void cpu_attend_before(host *h, const plan_op *op, int ith, int nth) {
    cpu_attend_before_at(cpu_host_level(h), h, op, ith, nth);
}

void cpu_attend(host *h, const plan_op *op, int ith, int nth) {
    cpu_attend_at(cpu_host_level(h), h, op, ith, nth);
}
