/* test_cmd_measure.c - weir info and weir bench: their figures fit together.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tiny_model.h"

#include <jansson.h>
#include <math.h>

static char folder[256];

static json_t *parse(const ran *r) {
    assert_status(r, 0);
    json_t *j = json_loads(r->out, 0, NULL);
    if (!j) fail_msg("not JSON: %s", r->out);
    return j;
}

static double number(json_t *j, const char *key) {
    json_t *value = json_object_get(j, key);
    if (!json_is_number(value)) fail_msg("%s is no number", key);
    return json_number_value(value);
}

/* ------------------------------------------------------------------ info */

static void info_knows_the_model(void **state) {
    (void)state;
    ran r = weir("", "info", folder, "--json", "--window", "100", "--kv-type", "f32", NULL);
    json_t *j = parse(&r);
    assert_string_equal(json_string_value(json_object_get(j, "architecture")), "LlamaForCausalLM");
    assert_int_equal(number(j, "n_layers"), TINY_LAYERS);
    assert_int_equal(number(j, "dim"), TINY_DIM);
    assert_int_equal(number(j, "vocab"), TINY_VOCAB);
    assert_int_equal(number(j, "window"), 100);
    assert_int_equal(number(j, "context"), TINY_CONTEXT);
    /* embedding and head, the last norm, and for each layer norms, attention, feed-forward */
    assert_int_equal(number(j, "parameters"),
                     2 * TINY_VOCAB * TINY_DIM + TINY_DIM +
                         TINY_LAYERS *
                             (2 * TINY_DIM + 3 * TINY_DIM * TINY_DIM + 3 * TINY_FFN * TINY_DIM));
    assert_true(json_is_true(json_object_get(j, "has_tokenizer")));
    assert_true(json_is_true(json_object_get(j, "has_chat_template")));
    assert_true(number(j, "sessions_that_fit") > 1);
    json_decref(j);
    ran_clear(&r);
}

static void more_sessions_and_longer_windows_cost_more(void **state) {
    (void)state;
    ran a = weir("", "info", folder, "--json", "--window", "100", NULL);
    ran b = weir("", "info", folder, "--json", "--window", "100", "--sessions", "5", NULL);
    ran c = weir("", "info", folder, "--json", "--window", "200", NULL);
    json_t *one = parse(&a), *five = parse(&b), *longer = parse(&c);
    assert_int_equal(number(five, "total_bytes") - number(one, "total_bytes"),
                     4 * number(one, "session_bytes") + number(five, "activation_bytes") -
                         number(one, "activation_bytes"));
    assert_true(number(longer, "session_bytes") > number(one, "session_bytes"));
    assert_true(number(longer, "bytes_per_token") > number(one, "bytes_per_token"));
    json_decref(one);
    json_decref(five);
    json_decref(longer);
    ran_clear(&a);
    ran_clear(&b);
    ran_clear(&c);
}

static void info_says_it_in_words_and_shows_the_plan(void **state) {
    (void)state;
    ran r = weir("", "info", folder, "--plan", NULL);
    assert_status(&r, 0);
    assert_non_null(strstr(r.out, "parameters"));
    assert_non_null(strstr(r.out, "read per token"));
    assert_non_null(strstr(r.out, "attend"));
    assert_string_equal(r.err, "");
    ran_clear(&r);
}

/* ------------------------------------------------------------------ bench */

static void figures_fit_together(void **state) {
    (void)state;
    ran r = weir("", "bench", folder, "--json", "--prefill", "64", "-n", "16", "--repeat", "2",
                 "--sessions", "3", NULL);
    json_t *j = parse(&r), *figures = json_object_get(j, "figures"), *f;
    size_t i;
    const double bandwidth = fmax(number(j, "bandwidth_before"), number(j, "bandwidth_after"));
    assert_true(bandwidth > 1e8);
    assert_int_equal(json_array_size(figures), 4);
    assert_int_equal(number(j, "depth"), TINY_CONTEXT); /* the window is full */
    json_array_foreach(figures, i, f) {
        const double speed = number(f, "tokens_per_second"), seconds = number(f, "seconds");
        assert_true(fabs(speed * seconds - number(f, "tokens")) < 1e-3 * number(f, "tokens"));
        assert_true(number(f, "seconds_fastest") <= seconds);
        assert_true(number(f, "seconds_slowest") >= seconds);
        if (i == 3) assert_int_equal(number(f, "tokens"), 64 + 2 * number(f, "steps"));
        if (i == 0 || i == 3) continue; /* reading a prompt is not bound by memory */
        const double bytes = number(f, "bytes_per_second");
        assert_true(fabs(number(f, "share_of_bandwidth") - bytes / bandwidth) < 1e-3);
        assert_true(fabs(number(f, "bytes_per_step") * number(f, "steps") / seconds - bytes) <
                    1e-3 * bytes);
    }
    json_decref(j);
    ran_clear(&r);
}

static void less_depth_reads_less(void **state) {
    (void)state;
    double bytes[2];
    static const char *const depths[] = {"10", "full"};
    for (int i = 0; i < 2; i++) {
        ran r = weir("", "bench", folder, "--json", "--prefill", "8", "-n", "4", "-r", "1",
                     "--depth", depths[i], NULL);
        json_t *j = parse(&r);
        bytes[i] = number(json_array_get(json_object_get(j, "figures"), 1), "bytes_per_step");
        json_decref(j);
        ran_clear(&r);
    }
    /* f16 keys and values of the slots that are not read; the window holds 11.5 on average */
    const double row = 2.0 * TINY_LAYERS * 2 * (TINY_DIM / 4) * 2;
    assert_true(fabs(bytes[1] - bytes[0] - row * (TINY_CONTEXT - 11.5)) < 1);
}

/* The tokens of both are the same work; how fast they are is the weather's. */
static void decoding_far_along_a_stream_is_a_figure_of_its_own(void **state) {
    (void)state;
    ran r = weir("", "bench", folder, "--json", "--prefill", "8", "-n", "4", "-r", "2", "--at",
                 "10000000", NULL);
    json_t *j = parse(&r), *figures = json_object_get(j, "figures");
    assert_int_equal(json_array_size(figures), 3);
    json_t *near = json_array_get(figures, 1), *far = json_array_get(figures, 2);
    assert_string_equal(json_string_value(json_object_get(far, "name")), "decode at 10000000");
    assert_true(number(far, "bytes_per_step") == number(near, "bytes_per_step"));
    assert_true(number(far, "step_seconds_p99") * 4 >= number(far, "seconds_fastest"));
    json_decref(j);
    ran_clear(&r);
}

/* Dense mode ends when the window is full, so decoding begins before. */
static void dense_mode_has_room_for_what_is_decoded(void **state) {
    (void)state;
    ran r = weir("", "bench", folder, "--json", "--prefill", "20", "-n", "16", "-r", "2", "--mode",
                 "dense", NULL);
    json_t *j = parse(&r);
    assert_int_equal(number(j, "depth"), TINY_CONTEXT - 16);
    json_decref(j);
    ran_clear(&r);
    r = weir("", "bench", folder, "--json", "--prefill", "20", "-n", "16", "-r", "2", "--mode",
             "dense", "--sessions", "3", "--chunk", "12", NULL); /* 10 beside 2: in 2 steps */
    j = parse(&r);
    assert_int_equal(number(j, "depth"), TINY_CONTEXT - 16 - 3 * 2);
    assert_int_equal(json_array_size(json_object_get(j, "figures")), 4);
    json_decref(j);
    ran_clear(&r);
}

static void bench_is_a_table(void **state) {
    (void)state;
    ran r = weir("", "bench", folder, "--prefill", "8", "-n", "4", "-r", "1", NULL);
    assert_status(&r, 0);
    assert_non_null(strstr(r.out, "prefill 8 "));
    assert_non_null(strstr(r.out, "decode "));
    assert_non_null(strstr(r.out, "memory reads at "));
    assert_null(strchr(r.out, '\033'));
    assert_string_equal(r.err, "");
    ran_clear(&r);
}

static int setup(void **state) {
    (void)state;
    temporary_make(folder);
    tiny_model_make(folder, TINY_TEMPLATE);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    temporary_clear(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info_knows_the_model),
        cmocka_unit_test(more_sessions_and_longer_windows_cost_more),
        cmocka_unit_test(info_says_it_in_words_and_shows_the_plan),
        cmocka_unit_test(figures_fit_together),
        cmocka_unit_test(less_depth_reads_less),
        cmocka_unit_test(decoding_far_along_a_stream_is_a_figure_of_its_own),
        cmocka_unit_test(dense_mode_has_room_for_what_is_decoded),
        cmocka_unit_test(bench_is_a_table),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
