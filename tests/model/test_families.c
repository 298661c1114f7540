/* test_families.c - the plan of every family computes what its graph says.
 *
 * The models are those of tests/data/golden, whose logits test_golden.c compares; here it is fusion
 * and memory alone, with a few loops for back end (support/plans.h).
 *
 * SPDX-License-Identifier: MIT */
#include "model/registry.h"

#include "support/check.h"
#include "support/plans.h"

static const char *const models[] = {
    "llama", "llama3", "llama_linear", "llama_bf16",      "mistral",
    "qwen2", "qwen3",  "neox",         "neox_sequential", "neox_f16",
    "mpt",   "falcon", "falcon_alibi", "falcon_one_norm", "falcon_two_norms",
};

static void plans_of_all_families_compute_what_their_graphs_say(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(models); i++) {
        char path[512];
        checkpoint *c;
        snprintf(path, sizeof path, "%s/golden/%s", TEST_DATA, models[i]);
        OK(checkpoint_open(&c, path, &err));
        const nn_arch *arch = model_find(c->config.architecture);
        assert_non_null(arch);
        arena *a = arena_new();
        plan *p = check_plan(a, arch, c);
        int fused = 0;
        for (int k = 0; k < p->n_ops; k++) {
            fused += p->ops[k].kind == NN_PROJECT && p->ops[k].residual >= 0;
            assert_int_not_equal(p->ops[k].kind, NN_ADD); /* every addition found a projection */
        }
        assert_true(fused >= c->config.n_layers);
        plan_free(p);
        arena_free(a);
        checkpoint_close(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_of_all_families_compute_what_their_graphs_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
