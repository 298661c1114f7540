/* test_plan.c - a plan computes what its graph says: every fusion, in memory that never collides.
 *
 * Each forward function here is written to make one rule fire, or to stand in its way; check_plan
 * (support/plans.h) runs graph and plan and compares.
 *
 * SPDX-License-Identifier: MIT */
#include "nn/plan.h"

#include "support/check.h"
#include "support/fake.h"
#include "support/plans.h"

enum { DIM = 8, FFN = 20, VOCAB = 10, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 2 };

typedef struct model {
    nn_embedding embed;
    nn_linear q, k, v, o, gate, up, down, square, half, head;
    nn_norm norm, heads;
    nn_attention attn;
} model;

static nn_config config(void) {
    return (nn_config){.architecture = "Test",
                       .dim = DIM,
                       .n_layers = 1,
                       .n_heads = HEADS,
                       .n_kv_heads = KV_HEADS,
                       .head_dim = HEAD_DIM,
                       .vocab = VOCAB,
                       .rope = {.dims = HEAD_DIM, .theta = 10000}};
}

static void make(void *out, const nn_scope *root, const nn_config *c) {
    model *m = out;
    const int kv_dim = KV_HEADS * HEAD_DIM;
    m->embed = nn_make_embedding(root, "embed", VOCAB, DIM);
    m->q = nn_make_linear(root, "q", DIM, DIM);
    m->k = nn_make_linear(root, "k", DIM, kv_dim);
    m->v = nn_make_linear(root, "v", DIM, kv_dim);
    m->o = nn_make_linear(root, "o", DIM, DIM);
    m->gate = nn_make_linear(root, "gate", DIM, FFN);
    m->up = nn_make_linear(root, "up", DIM, FFN);
    m->down = nn_make_linear(root, "down", FFN, DIM);
    m->square = nn_make_linear(root, "square", DIM, DIM);
    m->half = nn_make_linear(root, "half", DIM, DIM);
    m->head = nn_make_head(root, "head", m->embed, DIM, VOCAB);
    m->norm = nn_make_norm(root, "norm", DIM, 1e-5f);
    m->heads = nn_make_layer_norm(root, "heads", HEAD_DIM, 1e-5f);
    m->attn = nn_make_attention(root, c);
}

static void open_fake(fake *f) {
    const nn_config c = config();
    fake_open(f, &c);
    fake_add(f, "embed.weight", VOCAB, DIM);
    fake_add(f, "q.weight", DIM, DIM);
    fake_add(f, "k.weight", KV_HEADS * HEAD_DIM, DIM);
    fake_add(f, "v.weight", KV_HEADS * HEAD_DIM, DIM);
    fake_add(f, "k.bias", 0, KV_HEADS * HEAD_DIM);
    fake_add(f, "o.weight", DIM, DIM);
    fake_add(f, "o.bias", 0, DIM);
    fake_add(f, "gate.weight", FFN, DIM);
    fake_add(f, "up.weight", FFN, DIM);
    fake_add(f, "down.weight", DIM, FFN);
    fake_add(f, "square.weight", DIM, DIM);
    fake_add_bf16(f, "half.weight", DIM, DIM);
    fake_add(f, "norm.weight", 0, DIM);
    fake_add(f, "heads.weight", 0, HEAD_DIM);
    fake_add(f, "heads.bias", 0, HEAD_DIM);
}

typedef nn_tensor *forward_fn(const void *model, nn_graph *g, nn_tensor *ids);

static nn_tensor *attend(const model *m, nn_graph *g, nn_tensor *x) {
    nn_tensor *q = nn_project(g, &m->q, x), *k = nn_project(g, &m->k, x);
    return nn_attend(g, &m->attn, q, k, nn_project(g, &m->v, x));
}

static nn_tensor *mlp(const model *m, nn_graph *g, nn_tensor *x) {
    nn_tensor *gate = nn_project(g, &m->gate, x), *up = nn_project(g, &m->up, x);
    return nn_project(g, &m->down, nn_gate(g, NN_SILU, gate, up));
}

static nn_tensor *finish(const model *m, nn_graph *g, nn_tensor *x) {
    return nn_project(g, &m->head, nn_normalize(g, &m->norm, nn_wanted(g, x)));
}

/* What a plan has: how many operations of a kind, projections of a prologue, and so on. */
typedef struct traits {
    int n_ops, projections, norms, gates, activations, additions;
    int with_norm, with_gate, with_act, with_residual, in_place, merged;
} traits;

static traits traits_of(const plan *p) {
    traits t = {.n_ops = p->n_ops};
    for (int i = 0; i < p->n_ops; i++) {
        const plan_op *op = &p->ops[i];
        t.projections += op->kind == NN_PROJECT;
        t.norms += op->kind == NN_NORMALIZE;
        t.gates += op->kind == NN_GATE;
        t.activations += op->kind == NN_ACTIVATE;
        t.additions += op->kind == NN_ADD;
        if (op->kind != NN_PROJECT) continue;
        t.with_norm += op->prologue == PLAN_NORM;
        t.with_gate += op->prologue == PLAN_GATE;
        t.with_act += op->prologue == PLAN_ACT;
        t.with_residual += op->residual >= 0;
        t.in_place +=
            op->residual >= 0 && p->tensors[op->out].base == p->tensors[op->residual].base;
        t.merged += p->matrices[op->matrix].n_parts > 1;
    }
    return t;
}

static traits check(forward_fn *forward) {
    fake f;
    open_fake(&f);
    arena *a = arena_new();
    const nn_arch arch = {"Test", sizeof(model), make, forward};
    plan *p = check_plan(a, &arch, &f.checkpoint);
    const traits t = traits_of(p);
    plan_free(p);
    arena_free(a);
    fake_close(&f);
    return t;
}

/* ---- the rules, together and alone */

static nn_tensor *block(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    x = nn_add(g, x, nn_project(g, &m->o, attend(m, g, nn_normalize(g, &m->norm, x))));
    x = nn_add(g, x, mlp(m, g, nn_normalize(g, &m->norm, x)));
    return finish(m, g, x);
}

static void a_block_becomes_few_operations(void **state) {
    (void)state;
    const traits t = check(block);
    assert_int_equal(t.n_ops, 8); /* lookup; qkv, attend, o; gate|up, down; wanted, head */
    assert_int_equal(t.merged, 2);
    assert_int_equal(t.with_norm, 3);
    assert_int_equal(t.with_gate, 1);
    assert_int_equal(t.with_residual, 2);
    assert_int_equal(t.in_place, 2);
    assert_int_equal(t.norms + t.gates + t.additions, 0);
}

static nn_tensor *parallel(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids), *n = nn_normalize(g, &m->norm, x);
    nn_tensor *a = nn_project(g, &m->o, attend(m, g, n)), *b = mlp(m, g, n);
    return finish(m, g, nn_add(g, nn_add(g, x, a), b));
}

/* All projections of one norm, five of them, with attention between: four parts make a matrix. */
static void a_parallel_block_keeps_its_values(void **state) {
    (void)state;
    const traits t = check(parallel);
    assert_int_equal(t.with_residual, 2);
    assert_int_equal(t.additions, 0);
    assert_in_range(t.merged, 1, 2);
}

static nn_tensor *other_side(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    x = nn_add(g, nn_project(g, &m->o, attend(m, g, x)), x);
    return finish(m, g, x);
}

static void a_projection_on_either_side_takes_the_residual(void **state) {
    (void)state;
    const traits t = check(other_side);
    assert_int_equal(t.additions, 0);
    assert_int_equal(t.in_place, 1);
}

static nn_tensor *two_projections(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids), *a = attend(m, g, x);
    return finish(
        m, g,
        nn_add(g, nn_project(g, &m->o, a),
               nn_project(g, &m->down, nn_activate(g, NN_GELU, nn_project(g, &m->up, x)))));
}

static void of_two_projections_one_takes_the_other(void **state) {
    (void)state;
    const traits t = check(two_projections);
    assert_int_equal(t.additions, 0);
    assert_int_equal(t.with_residual, 1);
    assert_int_equal(t.with_act, 1);
    assert_int_equal(t.activations, 0);
}

static nn_tensor *doubled(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids), *y = nn_project(g, &m->o, attend(m, g, x));
    y = nn_add(g, y, y);
    return finish(m, g, nn_add(g, y, x));
}

static void a_sum_of_a_thing_with_itself_stays(void **state) {
    (void)state;
    assert_int_equal(check(doubled).additions, 2);
}

/* ---- what stands in the way */

static nn_tensor *norm_read_twice(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids), *n = nn_normalize(g, &m->norm, x);
    nn_tensor *y = nn_project(g, &m->square, n);
    return finish(m, g, nn_add(g, attend(m, g, y), n));
}

static nn_tensor *gate_read_twice(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    nn_tensor *y = nn_gate(g, NN_GELU_TANH, x, nn_project(g, &m->square, x));
    nn_tensor *z = nn_project(g, &m->o, y);
    return finish(m, g, nn_add(g, nn_add(g, attend(m, g, z), y), z));
}

static nn_tensor *norm_of_heads(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    nn_tensor *y = nn_project(g, &m->square, nn_normalize(g, &m->heads, x));
    return finish(m, g, attend(m, g, y));
}

static nn_tensor *residual_read_later(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    nn_tensor *y = nn_add(g, x, nn_project(g, &m->o, attend(m, g, x)));
    return finish(m, g, nn_add(g, y, x));
}

static nn_tensor *residual_is_input(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = attend(m, g, nn_lookup(g, &m->embed, ids));
    return finish(m, g, nn_add(g, x, nn_project(g, &m->o, x)));
}

static void what_more_than_one_reads_is_kept(void **state) {
    (void)state;
    assert_int_equal(check(norm_read_twice).norms, 1);
    assert_int_equal(check(gate_read_twice).gates, 1);
    assert_int_equal(check(norm_of_heads).norms, 1); /* by heads: no prologue */
    traits t = check(residual_read_later);
    assert_int_equal(t.with_residual, 1);
    assert_int_equal(t.in_place, 0);
    t = check(residual_is_input);
    assert_int_equal(t.with_residual, 1);
    assert_int_equal(t.in_place, 0);
}

static nn_tensor *unlike_types(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    nn_tensor *a = nn_project(g, &m->square, x), *b = nn_project(g, &m->half, x);
    return finish(m, g, attend(m, g, nn_gate(g, NN_RELU, a, b)));
}

static void weights_of_different_types_are_not_merged(void **state) {
    (void)state;
    const traits t = check(unlike_types);
    assert_int_equal(t.merged, 1); /* q|k|v */
    assert_int_equal(t.projections, 4);
}

/* Layers that share their weights, as ALBERT's do: merging one must not take from the other. */
static nn_tensor *shared(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    x = nn_add(g, x, nn_project(g, &m->o, attend(m, g, nn_normalize(g, &m->norm, x))));
    for (int i = 0; i < 3; i++) x = nn_add(g, x, mlp(m, g, nn_normalize(g, &m->norm, x)));
    nn_tensor *k = nn_project(g, &m->k, x);
    x = nn_add(g, x, nn_project(g, &m->o, nn_gate(g, NN_SILU, x, x)));
    nn_attention again = m->attn;
    again.layer = 1;
    return finish(m, g, nn_attend(g, &again, x, k, k));
}

static void weights_used_twice_are_right_both_times(void **state) {
    (void)state;
    check(shared);
}

static nn_tensor *clamped(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    nn_tensor *q = nn_clamp(g, 0.5f, nn_project(g, &m->q, x));
    nn_tensor *k = nn_clamp(g, 0.5f, nn_project(g, &m->k, x));
    nn_tensor *v = nn_clamp(g, 0, nn_project(g, &m->v, x)); /* no bound: nothing to do */
    return finish(m, g, nn_attend(g, &m->attn, q, k, v));
}

static nn_tensor *wanted_early(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    nn_tensor *a = nn_wanted(g, nn_project(g, &m->o, attend(m, g, x)));
    nn_tensor *y = nn_add(g, nn_wanted(g, x), a);
    y = nn_add(g, y, mlp(m, g, nn_normalize(g, &m->norm, y)));
    return nn_project(g, &m->head, y);
}

static void clamps_and_early_choices_keep_their_values(void **state) {
    (void)state;
    check(clamped);
    check(wanted_early);
}

/* ---- what is printed */

typedef struct printed {
    char text[8192];
    size_t size;
} printed;

static void print_line(void *user, const char *line) {
    printed *p = user;
    assert_null(strchr(line, '\n'));
    p->size += (size_t)snprintf(p->text + p->size, sizeof p->text - p->size, "%s\n", line);
}

static void the_printed_plan_says_what_runs_and_where(void **state) {
    (void)state;
    fake f;
    open_fake(&f);
    arena *a = arena_new();
    const nn_arch arch = {"Test", sizeof(model), make, block};
    plan *p = check_plan(a, &arch, &f.checkpoint);
    static printed out;
    out.size = 0;
    plan_describe(p, print_line, &out);
    char wanted[sizeof out.text];
    FILE *file = fopen(TEST_DATA "/plan.txt", "r");
    assert_non_null(file);
    wanted[fread(wanted, 1, sizeof wanted - 1, file)] = 0;
    fclose(file);
    if (strcmp(out.text, wanted) != 0) {
        file = fopen(BINARY_DIR "/plan.txt", "w");
        fputs(out.text, file);
        fclose(file);
        fail_msg("%s is not %s", BINARY_DIR "/plan.txt", TEST_DATA "/plan.txt");
    }
    plan_free(p);
    arena_free(a);
    fake_close(&f);
}

/* ---- what cannot be planned */

static nn_tensor *no_attention(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    return finish(m, g, nn_lookup(g, &m->embed, ids));
}

static nn_tensor *wrong_layer(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids), *k = nn_project(g, &m->k, x);
    nn_attention second = m->attn;
    second.layer = 2;
    return finish(m, g, nn_attend(g, &second, x, k, k));
}

static nn_tensor *unlike_layers(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = attend(m, g, nn_lookup(g, &m->embed, ids));
    const nn_attention other = {
        .layer = 1, .n_heads = 2, .n_kv_heads = 2, .head_dim = 4, .scale = 1};
    return finish(m, g, nn_attend(g, &other, x, x, x));
}

static void refuse(forward_fn *forward, const char *words) {
    fake f;
    open_fake(&f);
    arena *a = arena_new();
    const nn_arch arch = {"Test", sizeof(model), make, forward};
    nn_graph *g;
    plan *p = (plan *)&p;
    OK(graph_record(&g, a, &arch, &f.checkpoint, &err));
    REFUSED(plan_make(&p, g, &f.checkpoint, 4, 1, &err), WEIR_ERR_MODEL, words);
    assert_null(p);
    plan_free(NULL);
    arena_free(a);
    fake_close(&f);
}

static void models_without_sound_attention_are_refused(void **state) {
    (void)state;
    refuse(no_attention, "fake: has no attention");
    refuse(wrong_layer, "fake: attention of layer 2 comes as number 0");
    refuse(unlike_layers, "fake: attention differs between layers");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_becomes_few_operations),
        cmocka_unit_test(a_parallel_block_keeps_its_values),
        cmocka_unit_test(a_projection_on_either_side_takes_the_residual),
        cmocka_unit_test(of_two_projections_one_takes_the_other),
        cmocka_unit_test(a_sum_of_a_thing_with_itself_stays),
        cmocka_unit_test(what_more_than_one_reads_is_kept),
        cmocka_unit_test(weights_of_different_types_are_not_merged),
        cmocka_unit_test(weights_used_twice_are_right_both_times),
        cmocka_unit_test(clamps_and_early_choices_keep_their_values),
        cmocka_unit_test(the_printed_plan_says_what_runs_and_where),
        cmocka_unit_test(models_without_sound_attention_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
