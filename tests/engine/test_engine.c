/* test_engine.c - what an engine accepts, refuses and costs; that its hot path allocates nothing.
 *
 * SPDX-License-Identifier: MIT */
#define _XOPEN_SOURCE 700
#include "support/sessions.h"
#include "support/tiny.h"

#include "base/arena.h"
#include "base/machine.h"

#include <sys/stat.h>
#include <unistd.h>

enum { STEPS = 1000 };

static weir_engine_options small(void) {
    return (weir_engine_options){.threads = 1, .sessions = 4, .window = 24, .chunk = 8};
}

/* ---- refusals */

static void refuse(const char *path, const weir_engine_options *o, weir_status status,
                   const char *words) {
    weir_engine *engine = (weir_engine *)&engine;
    REFUSED(weir_engine_open(&engine, path, o, &err), status, words);
    assert_null(engine);
}

static void options_that_cannot_be_are_refused_with_their_bounds(void **state) {
    const char *path = *state;
    static const struct {
        weir_engine_options options;
        const char *words;
    } cases[] = {
        {{.window = -1}, "window: is -1, wanted 1 to "},
        {{.window = 1 << 25}, "window: is 33554432, wanted 1 to 16777216"},
        {{.sessions = -3}, "sessions: is -3, wanted 1 to "},
        {{.sessions = 70000}, "sessions: is 70000, wanted 1 to 65536"},
        {{.chunk = -1}, "chunk: is -1, wanted 1 to "},
        {{.chunk = 100000}, "chunk: is 100000, wanted 1 to 16384"},
        {{.threads = -1}, "threads: is -1, wanted 0 to 1024"},
        {{.window = 16, .max_sinks = 16}, "max_sinks: is 16, wanted 0 to 15"},
        {{.max_sinks = -1}, "max_sinks: is -1, wanted 0 to "},
        {{.kv_type = WEIR_Q4}, "kv_type: keys and values are f32, f16, bf16, int8 or fp8"},
        {{.kv_type = (weir_type)99}, "kv_type: "},
        {{.weights = WEIR_F16}, "weights: are kept as stored, or become q8 or q4"},
        {{.backend = "gpu9"}, "backend gpu9: not known; known are auto, cuda, cpu"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        refuse(path, &cases[i].options, WEIR_ERR_ARGUMENT, cases[i].words);
    }
    weir_engine *engine;
    const weir_engine_options level = {.backend = "cpu-mmx"};
    assert_int_not_equal(weir_engine_open(&engine, path, &level, NULL), WEIR_OK);
    assert_null(engine);
}

static void what_does_not_fit_is_refused_with_the_numbers(void **state) {
    const char *path = *state;
    const weir_engine_options o = {.sessions = 65536, .window = 1 << 24, .kv_type = WEIR_F32};
    refuse(path, &o, WEIR_ERR_MEMORY, "GB (weights ");
    refuse(path, &o, WEIR_ERR_MEMORY, "65536 sessions x ");
    refuse(path, &o, WEIR_ERR_MEMORY, "), this machine has ");
    char has[64];
    snprintf(has, sizeof has, "this machine has %.2f GB", 1e-9 * (double)machine_memory());
    refuse(path, &o, WEIR_ERR_MEMORY, has);
}

static void refuse_model(const tiny_model *model, weir_status status, const char *words) {
    char *path = tiny_make(model);
    refuse(path, NULL, status, words);
    tiny_remove(path);
}

static void tensors_that_are_missing_or_misshapen_are_named(void **state) {
    (void)state;
    refuse_model(&(tiny_model){.missing = "model.layers.1.mlp.up_proj.weight"}, WEIR_ERR_MODEL,
                 "model.layers.1.mlp.up_proj.weight: is missing, model wants [48, 32]");
    refuse_model(&(tiny_model){.missing = "model.norm.weight"}, WEIR_ERR_MODEL,
                 "model.norm.weight: is missing");
    refuse_model(&(tiny_model){.missing = "model.embed_tokens.weight"}, WEIR_ERR_MODEL,
                 "model.embed_tokens.weight: is missing");
    refuse_model(&(tiny_model){.narrow = "model.layers.0.self_attn.k_proj.weight"}, WEIR_ERR_MODEL,
                 "model.layers.0.self_attn.k_proj.weight: is [16, 31], model wants [16, 32]");
    refuse_model(&(tiny_model){.narrow = "model.layers.1.input_layernorm.weight"}, WEIR_ERR_MODEL,
                 "model.layers.1.input_layernorm.weight: is [31], model wants [32]");
    refuse_model(&(tiny_model){.narrow = "lm_head.weight"}, WEIR_ERR_MODEL, "lm_head.weight: is [");
}

static void paths_that_hold_no_model_are_refused_by_name(void **state) {
    (void)state;
    refuse("/nowhere/at/all", NULL, WEIR_ERR_IO, "/nowhere/at/all");
    char *path = tiny_path();
    assert_int_equal(mkdir(path, 0777), 0);
    refuse(path, NULL, WEIR_ERR_IO, path);
    tiny_remove(path);
    refuse(TEST_DATA "/tokenizer_llama.gguf", NULL, WEIR_ERR_MODEL, "tokenizer_llama.gguf: ");
}

/* Every beginning of the weights' file is refused, naming the file. */
static void a_file_cut_short_anywhere_is_refused(void **state) {
    (void)state;
    char *path = tiny_make(&(tiny_model){.dim = 8, .ffn_dim = 8, .n_layers = 1});
    char weights[4096];
    struct stat st;
    snprintf(weights, sizeof weights, "%s/model.safetensors", path);
    assert_int_equal(stat(weights, &st), 0);
    for (long size = (long)st.st_size - 1; size > 0; size = size > 64 ? size * 7 / 8 : size - 7) {
        assert_int_equal(truncate(weights, size), 0);
        refuse(path, NULL, WEIR_ERR_FORMAT, "model.safetensors");
    }
    tiny_remove(path);
}

static void a_model_without_a_tokenizer_serves_ids_and_says_why_not_text(void **state) {
    (void)state;
    char *path = tiny_make(&(tiny_model){.no_tokenizer = true});
    weir_engine_options o = small();
    weir_engine *e = engine_of(path, &o);
    assert_null(weir_engine_tokenizer(e));
    weir_session *s = session_of(e, NULL);
    weir_text text;
    feed(s, (const int32_t[]){1, 2, 3}, 3);
    REFUSED(weir_session_append(s, "hi", 2, &err), WEIR_ERR_MODEL, "text needs a tokenizer: ");
    REFUSED(weir_session_next(s, &text, &err), WEIR_ERR_MODEL, "has no tokenizer.json");
    REFUSED(weir_session_say(s, WEIR_USER, "hi", &err), WEIR_ERR_MODEL, "has no tokenizer.json");
    assert_non_null(weir_session_logits(s));
    weir_session_close(s);
    weir_engine_close(e);
    tiny_remove(path);
}

static void a_model_without_a_template_says_so_when_asked_to_chat(void **state) {
    weir_engine_options o = small();
    weir_engine *e = engine_of(*state, &o);
    weir_engine_info info;
    weir_engine_get_info(e, &info);
    assert_false(info.has_chat_template);
    weir_session *s = session_of(e, NULL);
    REFUSED(weir_session_say(s, WEIR_USER, "hi", &err), WEIR_ERR_MODEL, "has no chat template");
    weir_session_close(s);
    weir_engine_close(e);
}

/* ---- slots */

static void sessions_are_as_many_as_were_asked_for(void **state) {
    weir_engine_options o = small();
    weir_engine *e = engine_of(*state, &o);
    weir_session *s[4], *more = (weir_session *)&more;
    for (int i = 0; i < 4; i++) s[i] = session_of(e, NULL);
    REFUSED(weir_session_open(&more, e, NULL, &err), WEIR_ERR_MEMORY,
            "all 4 sessions of this engine are open");
    assert_null(more);
    more = (weir_session *)&more;
    REFUSED(weir_session_fork(&more, s[1], &err), WEIR_ERR_MEMORY, "all 4 sessions");
    assert_null(more);
    weir_session_close(s[2]);
    s[2] = session_of(e, NULL);
    for (int i = 0; i < 4; i++) weir_session_close(s[i]);
    weir_session_close(NULL);
    weir_engine_close(e);
    weir_engine_close(NULL);
}

static void the_costs_add_up(void **state) {
    weir_engine_options o = small();
    weir_engine_info one, two;
    static const weir_type types[] = {WEIR_TYPE_DEFAULT, WEIR_F32,  WEIR_F16,
                                      WEIR_BF16,         WEIR_INT8, WEIR_FP8};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        o.kv_type = types[i];
        o.sessions = 1;
        weir_engine *e = engine_of(*state, &o);
        weir_engine_get_info(e, &one);
        assert_string_equal(one.architecture, "LlamaForCausalLM");
        assert_int_equal(one.total_bytes,
                         one.weight_bytes + one.activation_bytes + one.session_bytes);
        assert_true(one.bytes_per_token > one.weight_bytes / 4);
        assert_int_equal(one.window, 24);
        assert_int_equal(one.max_sinks, 6);
        assert_int_equal(one.vocab, TINY_VOCAB);
        weir_engine_close(e);
        o.sessions = 3;
        e = engine_of(*state, &o);
        weir_engine_get_info(e, &two);
        assert_int_equal(two.session_bytes, one.session_bytes);
        assert_int_equal(two.total_bytes,
                         two.weight_bytes + two.activation_bytes + 3 * one.session_bytes);
        weir_engine_close(e);
    }
}

/* ---- two engines */

/* Logits of the first engine are what they were, whatever the second one does in between. */
static void two_engines_do_not_know_of_each_other(void **state) {
    char *other = tiny_make(&(tiny_model){.seed = 99, .dim = 64, .n_layers = 3});
    weir_engine_options o = small();
    int32_t ids[100];
    random_ids(ids, 100, TINY_VOCAB, 5);
    weir_engine *a = engine_of(*state, &o);
    weir_session *alone = session_of(a, NULL), *beside = session_of(a, NULL);
    for (int i = 0; i < 100; i++) feed(alone, &ids[i], 1);
    o.window = 16;
    weir_engine *b = engine_of(other, &o);
    weir_session *noise = session_of(b, NULL);
    for (int i = 0; i < 100; i++) {
        feed(noise, &ids[99 - i], 1);
        feed(beside, &ids[i], 1);
        feed(noise, &ids[i], 1);
    }
    assert_same_logits(alone, beside);
    weir_session_close(noise);
    weir_engine_close(b);
    feed(alone, ids, 1);
    feed(beside, ids, 1);
    assert_same_logits(alone, beside);
    weir_session_close(alone);
    weir_session_close(beside);
    weir_engine_close(a);
    tiny_remove(other);
}

/* ---- no allocation */

/* Steps of one, of all, and replies, far past the window: no call asks for memory. */
static void count_steps(weir_engine *e, const weir_session_options *o) {
    weir_session *s[3];
    for (int i = 0; i < 3; i++) {
        s[i] = session_of(e, o);
        feed(s[i], (const int32_t[]){1, 2, 3, 4, 5, 6, 7}, 7);
    }
    int32_t ids[STEPS];
    random_ids(ids, STEPS, 256, 3);
    const uint64_t before = mem_count();
    for (int i = 0; i < STEPS; i++) feed(s[0], &ids[i], 1);
    assert_int_equal(mem_count(), before);
    for (int i = 0; i + 3 <= STEPS; i++) {
        if (o->policy == WEIR_EVICT_TURN && i % 9 == 0) window_mark_turn(&s[1]->window);
        weir_feed feeds[3];
        for (int k = 0; k < 3; k++) {
            feeds[k] = (weir_feed){.session = s[k], .ids = &ids[i + k], .n = 1};
        }
        OK(weir_engine_step(e, feeds, 3, &err));
    }
    assert_int_equal(mem_count(), before);
    for (int tokens = 0; tokens < STEPS;) {
        weir_text text;
        OK(weir_session_next(s[1], &text, &err));
        tokens += text.tokens;
    }
    assert_int_equal(mem_count(), before);
    if (o->mode != WEIR_DENSE) assert_true(stats_of(s[1]).evicted_tokens > STEPS);
    for (int i = 0; i < 3; i++) weir_session_close(s[i]);
}

static void no_token_costs_an_allocation(void **state) {
    static const weir_session_options options[] = {
        {.sampling = {.stops = {"zz", "never"}}},
        {.policy = WEIR_EVICT_TURN, .sampling = {.temperature = 0.9f, .top_p = 0.9f, .top_k = 40}},
        {.mode = WEIR_WINDOW,
         .sampling = {.temperature = 1.5f, .min_p = 0.01f, .repeat_penalty = 1.2f}},
        {.mode = WEIR_RECOMPUTE},
    };
    for (size_t i = 0; i < COUNT_OF(options); i++) {
        weir_engine_options o = small();
        o.kv_type = (weir_type)(WEIR_F32 + i);
        weir_engine *e = engine_of(*state, &o);
        count_steps(e, &options[i]);
        weir_engine_close(e);
    }
}

static int make_model(void **state) {
    *state = tiny_make(&(tiny_model){.seed = 1});
    return 0;
}

static int remove_model(void **state) {
    tiny_remove(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_that_cannot_be_are_refused_with_their_bounds),
        cmocka_unit_test(what_does_not_fit_is_refused_with_the_numbers),
        cmocka_unit_test(tensors_that_are_missing_or_misshapen_are_named),
        cmocka_unit_test(paths_that_hold_no_model_are_refused_by_name),
        cmocka_unit_test(a_file_cut_short_anywhere_is_refused),
        cmocka_unit_test(a_model_without_a_tokenizer_serves_ids_and_says_why_not_text),
        cmocka_unit_test(a_model_without_a_template_says_so_when_asked_to_chat),
        cmocka_unit_test(sessions_are_as_many_as_were_asked_for),
        cmocka_unit_test(the_costs_add_up),
        cmocka_unit_test(two_engines_do_not_know_of_each_other),
        cmocka_unit_test(no_token_costs_an_allocation),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
