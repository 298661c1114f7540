/* test_graph.c - modules bind by name and shape, verbs check what flows, the first error stays.
 *
 * A model with a mistake is recorded to its end all the same: model code has no error checks, so
 * nothing may crash behind the first error.
 *
 * SPDX-License-Identifier: MIT */
#include "nn/graph.h"

#include "nn/plan.h"
#include "support/check.h"
#include "support/fake.h"

#include <math.h>

enum { DIM = 8, VOCAB = 10, HEADS = 2, HEAD_DIM = 4 };

typedef struct model { /* everything a forward function of these tests may want */
    nn_embedding embed;
    nn_linear square, wide, head;
    nn_norm norm, narrow_norm;
    nn_attention attn;
} model;

static nn_config config(void) {
    return (nn_config){.architecture = "Test",
                       .dim = DIM,
                       .n_layers = 1,
                       .n_heads = HEADS,
                       .n_kv_heads = HEADS,
                       .head_dim = HEAD_DIM,
                       .vocab = VOCAB,
                       .rope = {.dims = HEAD_DIM, .theta = 10000}};
}

static void make(void *out, const nn_scope *root, const nn_config *c) {
    model *m = out;
    const nn_scope s = nn_at(root, "layers", 3), inner = nn_sub(&s, "inner");
    m->embed = nn_make_embedding(root, "embed", c->vocab, c->dim);
    m->square = nn_make_linear(&inner, "square", DIM, DIM);
    m->wide = nn_make_linear(&s, "wide", DIM, 2 * DIM);
    m->head = nn_make_head(root, "head", m->embed, c->dim, c->vocab);
    m->norm = nn_make_norm(&s, "norm", DIM, 1e-5f);
    m->narrow_norm = nn_make_layer_norm(&s, "narrow", 3, 1e-5f);
    m->attn = nn_make_attention(root, c);
}

static void open_fake(fake *f) {
    const nn_config c = config();
    fake_open(f, &c);
    fake_add(f, "embed.weight", VOCAB, DIM);
    fake_add(f, "layers.3.inner.square.weight", DIM, DIM);
    fake_add(f, "layers.3.inner.square.bias", 0, DIM);
    fake_add(f, "layers.3.wide.weight", 2 * DIM, DIM);
    fake_add(f, "layers.3.norm.weight", 0, DIM);
    fake_add(f, "layers.3.narrow.weight", 0, 3);
}

static nn_tensor *finish(const model *m, nn_graph *g, nn_tensor *x) {
    return nn_project(g, &m->head, nn_wanted(g, x));
}

typedef nn_tensor *forward_fn(const void *model, nn_graph *g, nn_tensor *ids);

static weir_status record(forward_fn *forward, weir_error *err) {
    fake f;
    open_fake(&f);
    arena *a = arena_new();
    const nn_arch arch = {"Test", sizeof(model), make, forward};
    nn_graph *g = (nn_graph *)&g;
    const weir_status status = graph_record(&g, a, &arch, &f.checkpoint, err);
    assert_int_equal(g != NULL, status == WEIR_OK);
    arena_free(a);
    fake_close(&f);
    return status;
}

static void refuse(forward_fn *forward, const char *words) {
    REFUSED(record(forward, &err), WEIR_ERR_MODEL, words);
}

/* ---- modules */

static nn_tensor *good(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    nn_tensor *q = nn_project(g, &m->square, nn_normalize(g, &m->norm, x));
    return finish(m, g, nn_add(g, x, nn_attend(g, &m->attn, q, q, q)));
}

static void modules_bind_under_the_names_their_weights_have(void **state) {
    (void)state;
    fake f;
    open_fake(&f);
    arena *a = arena_new();
    nn_loader loader = {.checkpoint = &f.checkpoint, .arena = a};
    const nn_scope root = {.loader = &loader, .index = -1};
    model m;
    const nn_config c = config();
    make(&m, &root, &c);
    assert_int_equal(loader.error.status, WEIR_OK);
    assert_string_equal(m.square.weight->view->name, "layers.3.inner.square.weight");
    assert_string_equal(m.square.bias->view->name, "layers.3.inner.square.bias");
    assert_null(m.wide.bias); /* the checkpoint has none */
    assert_null(m.norm.bias);
    assert_ptr_equal(m.head.weight, m.embed.weight); /* tied: there is no head.weight */
    assert_false(m.norm.is_layer);
    assert_true(m.narrow_norm.is_layer && m.narrow_norm.group == 3);
    const nn_scope s = nn_at(&root, "layers", 3), inner = nn_sub(&s, "inner");
    assert_true(nn_has(&inner, "square") && nn_has(&s, "norm"));
    assert_false(nn_has(&inner, "norm") || nn_has(&root, "square") || nn_has(&s, "inner"));
    assert_int_equal(nn_make_attention(&inner, &c).layer, 3);
    assert_true(nn_make_attention(&inner, &c).scale == 0.5f);
    arena_free(a);
    fake_close(&f);
}

static nn_linear rows_of(nn_loader *loader, nn_rows rows) {
    const nn_scope root = {.loader = loader, .index = -1};
    return nn_make_linear_rows(&root, "layers.3.inner.square", DIM, DIM, rows);
}

static void a_linear_can_take_some_rows_of_a_stored_matrix(void **state) {
    (void)state;
    fake f;
    open_fake(&f);
    arena *a = arena_new();
    nn_loader loader = {.checkpoint = &f.checkpoint, .arena = a};
    const nn_linear l =
        rows_of(&loader, (nn_rows){.first = 1, .block = 2, .stride = 3, .n_blocks = 2});
    assert_int_equal(l.weight->n_rows, 4);
    assert_int_equal(l.weight->n_cols, DIM);
    assert_int_equal(l.bias->n_cols, 4);
    static const nn_rows bad[] = {{.first = -1, .block = 2, .stride = 3, .n_blocks = 2},
                                  {.first = 4, .block = 2, .stride = 3, .n_blocks = 2},
                                  {.block = 0, .stride = 3, .n_blocks = 2},
                                  {.block = 2, .stride = 1, .n_blocks = 2},
                                  {.block = 2, .stride = 2, .n_blocks = 0},
                                  {.block = 2, .stride = INT32_MAX, .n_blocks = INT32_MAX}};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        loader.error = (weir_error){0};
        assert_null(rows_of(&loader, bad[i]).weight);
        assert_int_equal(loader.error.status, WEIR_ERR_MODEL);
        assert_non_null(strstr(loader.error.message, "layers.3.inner.square.weight: has 8 rows"));
    }
    arena_free(a);
    fake_close(&f);
}

/* A checkpoint that lacks nearly everything: the first thing missing is the one that is named. */
static void the_first_missing_tensor_is_named(void **state) {
    (void)state;
    fake f;
    const nn_config c = config();
    fake_open(&f, &c);
    fake_add(&f, "embed.weight", VOCAB, DIM);
    arena *a = arena_new();
    const nn_arch arch = {"Test", sizeof(model), make, good};
    nn_graph *g;
    REFUSED(graph_record(&g, a, &arch, &f.checkpoint, &err), WEIR_ERR_MODEL,
            "fake: layers.3.inner.square.weight: is missing, model wants [8, 8]");
    fake_add(&f, "layers.3.inner.square.weight", DIM, DIM + 1);
    REFUSED(graph_record(&g, a, &arch, &f.checkpoint, &err), WEIR_ERR_MODEL,
            "fake: layers.3.inner.square.weight: is [8, 9], model wants [8, 8]");
    arena_free(a);
    fake_close(&f);
}

/* x.weight [rows, cols] of codes that are all 1, with scales of some shape. */
static void add_fp8(fake *f, const char *scale, int rows, int cols, int scale_rows,
                    int scale_cols) {
    tensor_view *w, *v;
    fake_add(f, "x.weight", rows, cols);
    if (scale) fake_add(f, scale, scale_rows, scale_cols);
    w = (tensor_view *)(uintptr_t)checkpoint_find(&f->checkpoint, "x.weight");
    w->type = TENSOR_FP8;
    w->bytes = (uint64_t)rows * (uint64_t)cols;
    memset((void *)(uintptr_t)w->data, 0x38, w->bytes);
    v = scale ? (tensor_view *)(uintptr_t)checkpoint_find(&f->checkpoint, scale) : NULL;
    for (uint64_t i = 0; v && i < v->bytes / 4; i++) {
        ((float *)(uintptr_t)v->data)[i] = (float)(1 + i);
    }
}

static const nn_param *bind_fp8(fake *f, arena *a, int rows, int cols, weir_error *out) {
    nn_loader loader = {.checkpoint = &f->checkpoint, .arena = a};
    const nn_scope root = {.loader = &loader, .index = -1};
    const nn_param *p = nn_make_linear(&root, "x", cols, rows).weight;
    *out = loader.error;
    return p;
}

static void fp8_weights_have_scales_of_all_rows_or_blocks(void **state) {
    (void)state;
    weir_error problem;
    static const struct {
        const char *scale;
        int rows, cols;    /* of scales */
        float first, last; /* of rows 0 and 199, columns 0 and 129 */
    } good_ones[] = {{"x.weight_scale", 0, 1, 1, 1},
                     {"x.weight_scale", 200, 1, 1, 200},
                     {"x.weight_scale", 0, 200, 1, 200},
                     {"x.weight_scale_inv", 2, 2, 1, 4}};
    for (size_t i = 0; i < COUNT_OF(good_ones); i++) {
        fake f;
        const nn_config c = config();
        fake_open(&f, &c);
        arena *a = arena_new();
        const bool is_many = good_ones[i].last > 146; /* scales that 16 bits cannot hold */
        add_fp8(&f, good_ones[i].scale, 200, 130, good_ones[i].rows, good_ones[i].cols);
        const tensor_view *v = checkpoint_find(&f.checkpoint, good_ones[i].scale);
        for (uint64_t k = 0; is_many && k < v->bytes / 4; k++) {
            ((float *)(uintptr_t)v->data)[k] /= 256;
        }
        const float unit = is_many ? 256 : 1;
        plan_matrix m = {.rows = 200, .cols = 130, .type = TENSOR_FP8, .n_parts = 1};
        m.parts[0].weight = bind_fp8(&f, a, 200, 130, &problem);
        assert_int_equal(problem.status, WEIR_OK);
        float row[130];
        plan_matrix_row(&m, 0, row);
        assert_true(row[0] * unit == good_ones[i].first);
        plan_matrix_row(&m, 199, row);
        assert_true(row[129] * unit == good_ones[i].last);
        arena_free(a);
        fake_close(&f);
    }
}

static void fp8_weights_without_sound_scales_are_refused(void **state) {
    (void)state;
    weir_error problem;
    static const struct {
        const char *scale;
        int rows, cols;
        float value;
        const char *words;
    } bad[] = {
        {NULL, 0, 0, 1, "x.weight_scale: is missing, FP8 weights want scales"},
        {"x.weight_scale_inv", 4, 3, 1,
         "x.weight_scale_inv: is [4, 3], FP8 weights want [1], [200, 1] or [2, 2]"},
        {"x.weight_scale", 0, 7, 1, "x.weight_scale: is [7], FP8 weights want"},
        {"x.weight_scale", 0, 1, -1, "x.weight_scale: has numbers out of [0, 146]"},
        {"x.weight_scale", 0, 1, NAN, "x.weight_scale: has numbers out of [0, 146]"},
        {"x.weight_scale", 0, 1, 147, "x.weight_scale: has numbers out of [0, 146]"},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        fake f;
        const nn_config c = config();
        fake_open(&f, &c);
        arena *a = arena_new();
        add_fp8(&f, bad[i].scale, 200, 130, bad[i].rows, bad[i].cols);
        const tensor_view *v = bad[i].scale ? checkpoint_find(&f.checkpoint, bad[i].scale) : NULL;
        if (v) *(float *)(uintptr_t)v->data = bad[i].value;
        bind_fp8(&f, a, 200, 130, &problem);
        assert_int_equal(problem.status, WEIR_ERR_MODEL);
        assert_non_null(strstr(problem.message, bad[i].words));
        arena_free(a);
        fake_close(&f);
    }
}

static void a_vector_is_no_matrix(void **state) {
    (void)state;
    fake f;
    const nn_config c = config();
    fake_open(&f, &c);
    fake_add(&f, "v.weight", 0, DIM);
    fake_add(&f, "m.weight", 1, DIM);
    arena *a = arena_new();
    nn_loader loader = {.checkpoint = &f.checkpoint, .arena = a};
    const nn_scope root = {.loader = &loader, .index = -1};
    assert_null(nn_make_linear(&root, "v", DIM, 1).weight);
    assert_non_null(strstr(loader.error.message, "v.weight: is [8], model wants [1, 8]"));
    loader.error = (weir_error){0};
    assert_null(nn_make_norm(&root, "m", DIM, 1e-5f).weight);
    assert_non_null(strstr(loader.error.message, "m.weight: is [1, 8], model wants [8]"));
    arena_free(a);
    fake_close(&f);
}

/* ---- verbs */

static void a_good_model_is_recorded(void **state) {
    (void)state;
    fake f;
    open_fake(&f);
    arena *a = arena_new();
    const nn_arch arch = {"Test", sizeof(model), make, good};
    nn_graph *g;
    OK(graph_record(&g, a, &arch, &f.checkpoint, &err));
    static const nn_op wanted[] = {NN_LOOKUP, NN_NORMALIZE, NN_PROJECT, NN_ATTEND,
                                   NN_ADD,    NN_WANTED,    NN_PROJECT};
    assert_int_equal(g->n_ops, COUNT_OF(wanted));
    assert_int_equal(g->n_tensors, g->n_ops + 1);
    for (int i = 0; i < g->n_ops; i++) {
        assert_int_equal(g->ops[i].kind, wanted[i]);
        assert_int_equal(g->ops[i].out, i + 1);
        assert_int_equal(g->tensors[i + 1].selected, i >= 5);
    }
    assert_int_equal(g->tensors[g->logits].features, VOCAB);
    arena_free(a);
    fake_close(&f);
}

static nn_tensor *wide_into_square(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_project(g, &m->wide, nn_lookup(g, &m->embed, ids));
    nn_tensor *y = nn_project(g, &m->square, x);
    nn_project(g, &m->head, x); /* a second mistake, which nobody hears of */
    return finish(m, g, y);
}

static nn_tensor *add_unlike(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    return finish(m, g, nn_add(g, x, nn_project(g, &m->wide, x)));
}

static nn_tensor *gate_unlike(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    return finish(m, g, nn_gate(g, NN_SILU, x, nn_project(g, &m->wide, x)));
}

static nn_tensor *norm_that_does_not_divide(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    return finish(m, g, nn_normalize(g, &m->narrow_norm, nn_lookup(g, &m->embed, ids)));
}

static nn_tensor *wide_query(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids), *w = nn_project(g, &m->wide, x);
    return finish(m, g, nn_attend(g, &m->attn, w, x, x));
}

static nn_tensor *wide_key(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids), *w = nn_project(g, &m->wide, x);
    return finish(m, g, nn_attend(g, &m->attn, x, w, x));
}

static nn_tensor *wide_value(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids), *w = nn_project(g, &m->wide, x);
    return finish(m, g, nn_attend(g, &m->attn, x, x, w));
}

static void what_does_not_fit_is_named_with_both_sizes(void **state) {
    (void)state;
    refuse(wide_into_square,
           "fake: layers.3.inner.square.weight: the input has 16 features, wanted 8");
    refuse(add_unlike, "fake: addition: b has 16 features, wanted 8");
    refuse(gate_unlike, "fake: gate: up has 16 features, wanted 8");
    refuse(norm_that_does_not_divide, "layers.3.narrow.weight: the input has 8 features, wanted 3");
    refuse(wide_query, "attention: q has 16 features, wanted 8");
    refuse(wide_key, "attention: k has 16 features, wanted 8");
    refuse(wide_value, "attention: v has 16 features, wanted 8");
}

static nn_tensor *all_plus_wanted(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    return nn_project(g, &m->head, nn_add(g, nn_wanted(g, x), x));
}

static nn_tensor *gate_of_all_and_wanted(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    return nn_project(g, &m->head, nn_gate(g, NN_RELU, nn_wanted(g, x), x));
}

static nn_tensor *wanted_twice(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    return finish(m, g, nn_wanted(g, nn_lookup(g, &m->embed, ids)));
}

static nn_tensor *attend_wanted(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids), *w = nn_wanted(g, x);
    return finish(m, g, nn_attend(g, &m->attn, x, w, x));
}

static nn_tensor *look_up_activations(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    return finish(m, g, nn_lookup(g, &m->embed, nn_lookup(g, &m->embed, ids)));
}

static nn_tensor *add_to_ids(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    return finish(m, g, nn_activate(g, NN_RELU, ids));
}

/* Rows of all tokens and rows of the wanted ones are not the same rows. */
static void rows_of_different_tokens_do_not_mix(void **state) {
    (void)state;
    refuse(all_plus_wanted, "fake: addition: mixes all rows with the wanted ones");
    refuse(gate_of_all_and_wanted, "fake: gate: mixes all rows with the wanted ones");
    refuse(wanted_twice, "fake: nn_wanted: comes a second time");
    refuse(attend_wanted, "fake: attention: needs all rows, not the wanted ones");
    refuse(look_up_activations, "fake: embed.weight: looks up what is no token ids");
    refuse(add_to_ids, "token ids can only be looked up");
}

static nn_tensor *no_wanted(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    return nn_project(g, &m->head, nn_lookup(g, &m->embed, ids));
}

static nn_tensor *no_logits(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    return nn_wanted(g, nn_lookup(g, &m->embed, ids));
}

static nn_tensor *endless(const void *model_, nn_graph *g, nn_tensor *ids) {
    const model *m = model_;
    nn_tensor *x = nn_lookup(g, &m->embed, ids);
    for (int i = 0; i < 10000; i++) x = nn_add(g, x, x);
    return finish(m, g, x);
}

static void a_model_ends_in_logits_of_the_wanted_rows(void **state) {
    (void)state;
    refuse(no_wanted, "fake: Test must end in nn_wanted rows of 10 logits, gives 10");
    refuse(no_logits, "fake: Test must end in nn_wanted rows of 10 logits, gives 8");
    refuse(endless, "more than ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modules_bind_under_the_names_their_weights_have),
        cmocka_unit_test(a_linear_can_take_some_rows_of_a_stored_matrix),
        cmocka_unit_test(the_first_missing_tensor_is_named),
        cmocka_unit_test(fp8_weights_have_scales_of_all_rows_or_blocks),
        cmocka_unit_test(fp8_weights_without_sound_scales_are_refused),
        cmocka_unit_test(a_vector_is_no_matrix),
        cmocka_unit_test(a_good_model_is_recorded),
        cmocka_unit_test(what_does_not_fit_is_named_with_both_sizes),
        cmocka_unit_test(rows_of_different_tokens_do_not_mix),
        cmocka_unit_test(a_model_ends_in_logits_of_the_wanted_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
