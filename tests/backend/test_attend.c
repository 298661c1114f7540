/* test_attend.c - attention of the CPU back end against the streaming rule in double.
 *
 * The definition here is the one of the paper: un-rotated keys and values are remembered, and for
 * every query the keys it sees are rotated at their index in the cache.  The back end stores keys
 * rotated once and rotates queries twice; both must agree.
 *
 * Tolerances are relative to the largest output of a head and hold for the worst of some thousand:
 * against the values as stored 1e-6 for every type; against the definition 2e-6 for f32, since key,
 * query, sines and cosines are rounded too, and for the others what their last bit amounts to.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/attend.h"
#include "base/arena.h"
#include "base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka.h wants the two before it */
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TOKENS = 700, MAX_SLOTS = 4 };

static const double F32_ERROR = 2e-6, STORED_ERROR = 1e-6;

typedef struct setup {
    int n_heads, n_kv_heads, head_dim;
    int rope_dims;
    bool interleaved, alibi;
    weir_type type;
    int pins, window, slots, tokens, chunk; /* window: pins and recent rows together */
    uint64_t start;                         /* stream position of the first ring row */
    int threads;
    cpu_level level;
} setup;

static const setup LLAMA = {.n_heads = 8,
                            .n_kv_heads = 2,
                            .head_dim = 64,
                            .rope_dims = 64,
                            .type = WEIR_F32,
                            .pins = 4,
                            .window = 60,
                            .slots = 1,
                            .tokens = 200,
                            .chunk = 7,
                            .threads = 1};

typedef struct stream {   /* of one slot: what was fed and what came out, all heads of a token */
    float *q, *k, *v, *y; /* [tokens][n_heads or n_kv_heads][head_dim] */
} stream;

typedef struct rig { /* a host made by hand around one attention operation */
    setup s;
    host h;
    plan plan;
    plan_tensor tensors[4]; /* q, k, v, y */
    plan_op op;
    float alibi[64];
    stream streams[MAX_SLOTS];
    batch batch;
    batch_row rows[MAX_SLOTS * MAX_TOKENS];
    batch_group groups[MAX_SLOTS];
} rig;

static float normal(rng *r) {
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += rng_uniform(r);
    return (float)(sum - 6);
}

static float *random_floats(rng *r, size_t n) {
    float *x = mem_array(n, sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = normal(r);
    return x;
}

static void make_streams(rig *g) {
    const setup *s = &g->s;
    const size_t q = (size_t)s->tokens * (size_t)s->n_heads * (size_t)s->head_dim;
    const size_t k = (size_t)s->tokens * (size_t)s->n_kv_heads * (size_t)s->head_dim;
    for (int i = 0; i < s->slots; i++) {
        rng r = {.state = 77 + (uint64_t)i};
        g->streams[i] = (stream){.q = random_floats(&r, q),
                                 .k = random_floats(&r, k),
                                 .v = random_floats(&r, k),
                                 .y = mem_array(q, sizeof(float))};
    }
}

static void make_plan(rig *g) {
    const setup *s = &g->s;
    plan *p = &g->plan;
    p->tensors = g->tensors;
    p->n_tensors = 4;
    p->max_rows = s->slots * s->chunk;
    p->attention = (nn_attention){.layer = 1,
                                  .n_heads = s->n_heads,
                                  .n_kv_heads = s->n_kv_heads,
                                  .head_dim = s->head_dim,
                                  .scale = 1 / sqrtf((float)s->head_dim)};
    p->n_layers = 2;
    const nn_rope rope = {.dims = s->rope_dims, .theta = 10000, .interleaved = s->interleaved};
    assert_true(rope_make(&p->rope, &rope));
    for (int i = 0; i < 4; i++) {
        const int heads = i == 1 || i == 2 ? s->n_kv_heads : s->n_heads;
        const int features = heads * s->head_dim, stride = (features + 15) / 16 * 16;
        g->tensors[i] = (plan_tensor){.features = features, .stride = stride, .base = i};
        g->tensors[i].offset = p->arena_bytes;
        p->arena_bytes += (size_t)stride * (size_t)p->max_rows * sizeof(float);
    }
    for (int i = 0; s->alibi && i < s->n_heads; i++)
        g->alibi[i] = exp2f(-(float)(i + 1) * 8 / (float)s->n_heads);
    p->alibi = s->alibi ? g->alibi : NULL;
    g->op = (plan_op){
        .kind = NN_ATTEND, .in = {0, 1}, .n_in = 2, .v = 2, .out = 3, .attention = p->attention};
}

static rig *rig_new(setup s) {
    rig *g = mem_alloc(sizeof *g);
    g->s = s;
    make_streams(g);
    make_plan(g);
    const kv_shape kv = {.type = s.type,
                         .n_layers = 2,
                         .n_kv_heads = s.n_kv_heads,
                         .head_dim = s.head_dim,
                         .slots = s.slots,
                         .pins = s.pins,
                         .ring = s.window - s.pins + s.chunk - 1};
    host *h = &g->h;
    h->plan = &g->plan;
    h->team = team_new(s.threads);
    assert_int_equal(kv_init(&h->kv, &kv, true, NULL), WEIR_OK);
    h->arena = mem_map(g->plan.arena_bytes);
    h->workspace_bytes = cpu_attend_workspace(&g->plan, &kv, s.threads);
    h->workspace = mem_map(h->workspace_bytes);
    memset(h->workspace, 0x7f, h->workspace_bytes); /* others use it too */
    const size_t phases = (size_t)g->plan.max_rows * ROPE_MAX_PAIRS;
    float **tables[] = {&h->cos_pos, &h->sin_pos, &h->cos_pin, &h->sin_pin};
    for (int i = 0; i < 4; i++) *tables[i] = mem_array(phases, sizeof(float));
    return g;
}

static void rig_free(rig *g) {
    host *h = &g->h;
    for (int i = 0; i < g->s.slots; i++) {
        mem_free(g->streams[i].q), mem_free(g->streams[i].k);
        mem_free(g->streams[i].v), mem_free(g->streams[i].y);
    }
    float *tables[] = {h->cos_pos, h->sin_pos, h->cos_pin, h->sin_pin};
    for (int i = 0; i < 4; i++) mem_free(tables[i]);
    mem_unmap(h->arena, g->plan.arena_bytes);
    mem_unmap(h->workspace, h->workspace_bytes);
    kv_clear(&h->kv);
    team_free(h->team);
    mem_free(g);
}

/* Token t of a slot: the first are pinned, the others follow from stream position start on. */
static batch_row row_of(const setup *s, int slot, int t) {
    if (t < s->pins) {
        return (batch_row){
            .slot = slot, .pos = (uint64_t)t, .p = (uint32_t)t, .pins = t + 1, .is_pin = true};
    }
    const int recent = (int)fmin(t - s->pins + 1, s->window - s->pins);
    return (batch_row){.slot = slot,
                       .pos = s->start + (uint64_t)(t - s->pins),
                       .p = (uint32_t)(s->pins + recent - 1),
                       .pins = s->pins,
                       .recent = recent};
}

static void work(void *user, int phase, int ith, int nth) {
    rig *g = user;
    (phase ? cpu_attend_at : cpu_attend_before_at)(g->s.level, &g->h, &g->op, ith, nth);
}

/* Feeds tokens [from, to) of all slots as one step; outputs go to the streams. */
static void feed(rig *g, int from, int to) {
    const setup *s = &g->s;
    host *h = &g->h;
    const int hd = s->head_dim;
    const size_t q = (size_t)(s->n_heads * hd), k = (size_t)(s->n_kv_heads * hd);
    const int pairs = g->plan.rope.pairs;
    int n = 0;
    for (int slot = 0; slot < s->slots; slot++) {
        g->groups[slot] = (batch_group){.slot = slot, .first = n, .n = to - from};
        for (int t = from; t < to; t++, n++) {
            const stream *x = &g->streams[slot];
            g->rows[n] = row_of(s, slot, t);
            memcpy(host_row(h, 0, n), x->q + (size_t)t * q, q * sizeof(float));
            memcpy(host_row(h, 1, n), x->k + (size_t)t * k, k * sizeof(float));
            memcpy(host_row(h, 2, n), x->v + (size_t)t * k, k * sizeof(float));
            rope_phases(&g->plan.rope, g->rows[n].pos, h->cos_pos + n * pairs,
                        h->sin_pos + n * pairs);
            rope_phases(&g->plan.rope, g->rows[n].p, h->cos_pin + n * pairs,
                        h->sin_pin + n * pairs);
        }
    }
    g->batch = (batch){.rows = g->rows, .groups = g->groups, .n = n, .n_groups = s->slots};
    h->batch = &g->batch;
    team_phases(h->team, 2, work, g);
    n = 0;
    for (int slot = 0; slot < s->slots; slot++) {
        for (int t = from; t < to; t++, n++) {
            memcpy(g->streams[slot].y + (size_t)t * q, host_row(h, 3, n), q * sizeof(float));
        }
    }
}

static void run(rig *g) {
    for (int t = 0; t < g->s.tokens; t += g->s.chunk) {
        feed(g, t, t + g->s.chunk < g->s.tokens ? t + g->s.chunk : g->s.tokens);
    }
}

/* ---- the definition */

/* x of one head at position p, in double. */
static void rotate(const rig *g, const float *x, uint64_t p, double *out) {
    const rope_table *r = &g->plan.rope;
    for (int d = 0; d < g->s.head_dim; d++) out[d] = (double)x[d];
    for (int i = 0; i < r->pairs; i++) {
        const double angle = ldexp((double)(int64_t)(p * r->turns[i]), -64) * 6.283185307179586477;
        const int a = r->interleaved ? 2 * i : i, b = r->interleaved ? a + 1 : i + r->pairs;
        out[a] = (double)x[a] * cos(angle) - (double)x[b] * sin(angle);
        out[b] = (double)x[b] * cos(angle) + (double)x[a] * sin(angle);
    }
}

/* Key or value of the i-th row a token sees, un-rotated as fed, or as the store has it. */
static const float *seen(const rig *g, const batch_row *row, int kv_head, int i, int is_v,
                         bool stored, float *space) {
    const setup *s = &g->s;
    const bool is_pin = i < row->pins;
    const uint64_t j = row->pos - (uint64_t)(row->pins + row->recent - 1 - i);
    if (stored && is_pin) kv_get_pin(&g->h.kv, row->slot, 1, is_v, kv_head, i, space);
    if (stored && !is_pin) {
        kv_get_ring(&g->h.kv, row->slot, 1, is_v, kv_head, (int)(j % (uint64_t)g->h.kv.shape.ring),
                    space);
    }
    if (stored) return space;
    const int t = is_pin ? i : s->pins + (int)(j - s->start);
    const stream *x = &g->streams[row->slot];
    return (is_v ? x->v : x->k) +
           ((size_t)t * (size_t)s->n_kv_heads + (size_t)kv_head) * (size_t)s->head_dim;
}

/* Token t of a slot, one query head: the largest error against the definition, relative to the
 * largest output. */
static double error_of(const rig *g, int slot, int t, int head, bool stored) {
    const setup *s = &g->s;
    const batch_row row = row_of(s, slot, t);
    const int keys = row.pins + row.recent, hd = s->head_dim,
              kv_head = head / (s->n_heads / s->n_kv_heads);
    const size_t at = ((size_t)t * (size_t)s->n_heads + (size_t)head) * (size_t)hd;
    double q[1024], q_recent[1024], k[1024], score[MAX_TOKENS], most = -INFINITY, total = 0,
                                                                y[1024] = {0};
    float space[1024];
    rotate(g, g->streams[slot].q + at, row.p, q);
    rotate(g, g->streams[slot].q + at, row.pos, q_recent);
    for (int i = 0; i < keys; i++) {
        const float *x = seen(g, &row, kv_head, i, 0, stored, space);
        const double *with = stored && i >= row.pins ? q_recent : q;
        rotate(g, x, stored ? 0 : (uint64_t)i, k);
        score[i] = 0;
        for (int d = 0; d < hd; d++) score[i] += with[d] * k[d];
        score[i] *= 1 / sqrt(hd);
        if (s->alibi) score[i] -= (double)g->alibi[head] * (double)((int64_t)row.p - i);
        most = fmax(most, score[i]);
    }
    for (int i = 0; i < keys; i++) {
        const double p = exp(score[i] - most);
        const float *v = seen(g, &row, kv_head, i, 1, stored, space);
        total += p;
        for (int d = 0; d < hd; d++) y[d] += p * (double)v[d];
    }
    double worst = 0, largest = 0;
    for (int d = 0; d < hd; d++) {
        worst = fmax(worst, fabs(y[d] / total - (double)g->streams[slot].y[at + (size_t)d]));
        largest = fmax(largest, fabs(y[d] / total));
    }
    return worst / largest;
}

/* The worst error over some forty tokens of every slot; `stored`: of the last, whose keys are still
 * in the store. */
static double worst_error(const rig *g, bool stored) {
    double worst = 0;
    for (int slot = 0; slot < g->s.slots; slot++) {
        for (int t = stored ? g->s.tokens - 1 : 0; t < g->s.tokens; t += 1 + g->s.tokens / 40) {
            for (int head = 0; head < g->s.n_heads; head++) {
                const double e = error_of(g, slot, t, head, stored);
                if (!isnan(worst) && !(e <= worst)) worst = e;
            }
        }
    }
    return worst;
}

/* Runs a setup at every level; fails beyond the tolerances. */
static void check(setup s, double tolerance, double stored_tolerance) {
    for (int level = 0; level < CPU_N_LEVELS; level++) {
        if (!cpu_level_runs((cpu_level)level)) continue;
        s.level = (cpu_level)level;
        rig *g = rig_new(s);
        run(g);
        const double by_definition = worst_error(g, false), by_store = worst_error(g, true);
        if (!(by_definition <= tolerance) || !(by_store <= stored_tolerance)) {
            fail_msg("level %d, %d/%d heads of %d, chunk %d, threads %d: errors %.3g and %.3g",
                     level, s.n_heads, s.n_kv_heads, s.head_dim, s.chunk, s.threads, by_definition,
                     by_store);
        }
        rig_free(g);
    }
}

static void every_chunk_size_gives_the_definition(void **state) {
    (void)state;
    const int chunks[] = {1, 7, 64, 200};
    for (size_t i = 0; i < 4; i++) {
        setup s = LLAMA;
        s.chunk = chunks[i];
        check(s, F32_ERROR, STORED_ERROR);
    }
}

static void every_number_of_sinks_gives_the_definition(void **state) {
    (void)state;
    const int pins[] = {0, 1, 37, 59};
    for (size_t i = 0; i < 4; i++) {
        setup s = LLAMA;
        s.pins = pins[i];
        check(s, F32_ERROR, STORED_ERROR);
        s.chunk = 1;
        check(s, F32_ERROR, STORED_ERROR);
    }
}

static void windows_of_many_spans_give_the_definition(void **state) {
    (void)state;
    for (int chunk = 1; chunk <= 130; chunk += 43) {
        setup s = LLAMA;
        s.n_heads = 4, s.n_kv_heads = 1, s.head_dim = 32, s.rope_dims = 32;
        s.pins = 270, s.window = 600, s.tokens = 650, s.chunk = chunk;
        check(s, F32_ERROR, STORED_ERROR);
    }
}

static void every_head_shape_gives_the_definition(void **state) {
    (void)state;
    static const int shapes[][3] = {{1, 1, 8},   {2, 2, 16},  {5, 1, 20},  {14, 2, 48},
                                    {3, 3, 80},  {6, 2, 96},  {4, 4, 100}, {4, 1, 128},
                                    {2, 1, 256}, {20, 1, 64}, {130, 1, 16}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        setup s = LLAMA;
        s.n_heads = shapes[i][0], s.n_kv_heads = shapes[i][1], s.head_dim = shapes[i][2];
        s.rope_dims = s.head_dim, s.tokens = 90;
        check(s, F32_ERROR, STORED_ERROR);
        s.chunk = 1;
        check(s, F32_ERROR, STORED_ERROR);
    }
}

static void every_rotation_gives_the_definition(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        setup s = LLAMA;
        s.rope_dims = i % 3 == 0 ? 0 : i % 3 == 1 ? 16 : 64;
        s.interleaved = i >= 3;
        check(s, F32_ERROR, STORED_ERROR);
    }
}

static void alibi_gives_the_definition(void **state) {
    (void)state;
    setup s = LLAMA;
    s.rope_dims = 0, s.alibi = true;
    check(s, F32_ERROR, STORED_ERROR);
    s.chunk = 1;
    check(s, F32_ERROR, STORED_ERROR);
}

static void far_positions_give_the_definition(void **state) {
    (void)state;
    const uint64_t starts[] = {1000000, (uint64_t)1 << 40, ((uint64_t)1 << 40) + 213};
    for (size_t i = 0; i < 3; i++) {
        setup s = LLAMA;
        s.start = starts[i];
        check(s, F32_ERROR, STORED_ERROR);
        s.chunk = 64;
        check(s, F32_ERROR, STORED_ERROR);
    }
}

/* The definition tolerance is the type's own rounding: 2^-11, 2^-8, 1/254 of a row's
 * largest, and 2^-4 of a key or value. */
static void every_stored_type_is_as_near_as_its_bits(void **state) {
    (void)state;
    const weir_type types[] = {WEIR_F16, WEIR_BF16, WEIR_INT8, WEIR_FP8};
    const double tolerances[] = {2e-3, 1.5e-2, 2.5e-2, 1.5e-1};
    const int shapes[][2] = {{8, 64}, {2, 20}};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        for (int j = 0; j < 4; j++) {
            setup s = LLAMA;
            s.type = types[i], s.chunk = j / 2 ? 64 : 1;
            s.n_heads = shapes[j % 2][0], s.head_dim = s.rope_dims = shapes[j % 2][1];
            check(s, tolerances[i], STORED_ERROR);
        }
    }
}

static void several_slots_give_the_definition(void **state) {
    (void)state;
    setup s = LLAMA;
    s.slots = 3;
    check(s, F32_ERROR, STORED_ERROR);
    s.chunk = 1;
    check(s, F32_ERROR, STORED_ERROR);
}

/* ---- bits */

static void a_row_has_the_same_bits_on_any_number_of_threads(void **state) {
    (void)state;
    for (int chunk = 1; chunk <= 64; chunk += 63) {
        setup s = LLAMA;
        s.pins = 5, s.window = 280, s.tokens = 300, s.chunk = chunk, s.level = cpu_level_best();
        s.threads = 1;
        rig *one = rig_new(s);
        run(one);
        const size_t bytes =
            (size_t)s.tokens * (size_t)s.n_heads * (size_t)s.head_dim * sizeof(float);
        for (int threads = 2; threads <= 8; threads += 3) {
            s.threads = threads;
            rig *many = rig_new(s);
            run(many);
            assert_memory_equal(one->streams[0].y, many->streams[0].y, bytes);
            rig_free(many);
        }
        rig_free(one);
    }
}

static void a_row_has_the_same_bits_alone_and_in_company(void **state) {
    (void)state;
    for (int chunk = 1; chunk <= 50; chunk += 7) {
        setup s = LLAMA;
        s.chunk = chunk, s.level = cpu_level_best();
        rig *alone = rig_new(s);
        run(alone);
        s.slots = MAX_SLOTS;
        rig *company = rig_new(s);
        run(company);
        const size_t bytes =
            (size_t)s.tokens * (size_t)s.n_heads * (size_t)s.head_dim * sizeof(float);
        assert_memory_equal(alone->streams[0].y, company->streams[0].y, bytes);
        rig_free(alone);
        rig_free(company);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_chunk_size_gives_the_definition),
        cmocka_unit_test(every_number_of_sinks_gives_the_definition),
        cmocka_unit_test(windows_of_many_spans_give_the_definition),
        cmocka_unit_test(every_head_shape_gives_the_definition),
        cmocka_unit_test(every_rotation_gives_the_definition),
        cmocka_unit_test(alibi_gives_the_definition),
        cmocka_unit_test(far_positions_give_the_definition),
        cmocka_unit_test(every_stored_type_is_as_near_as_its_bits),
        cmocka_unit_test(several_slots_give_the_definition),
        cmocka_unit_test(a_row_has_the_same_bits_on_any_number_of_threads),
        cmocka_unit_test(a_row_has_the_same_bits_alone_and_in_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
