/* test_config.c - config.json to a configuration, with the defaults transformers has, and every
 * thing that is not supported refused by name.
 *
 * SPDX-License-Identifier: MIT */
#include "format/checkpoint.h"
#include "format/config.h"

#include "images.h"

#include <jansson.h>
#include <math.h>

static nn_config good(const char *json) {
    nn_config c;
    weir_error err = {0};
    if (config_from_json(&c, NULL, json, strlen(json), "config.json", &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    return c;
}

static void refused(const char *json, const char *words) {
    nn_config c;
    weir_error err = {0};
    if (config_from_json(&c, NULL, json, strlen(json), "config.json", &err) == WEIR_OK) {
        fail_msg("%s: read, wanted was \"%s\"", json, words);
    }
    assert_says(&err, words);
    assert_says(&err, "config.json: ");
    assert_int_equal(c.dim, 0);
}

#define SIZES \
    "\"hidden_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":4,\"vocab_size\":100"
#define GATED        SIZES ",\"intermediate_size\":128"
#define LLAMA(more)  "{\"architectures\":[\"LlamaForCausalLM\"]," GATED more "}"
#define QWEN2(more)  "{\"architectures\":[\"Qwen2ForCausalLM\"]," GATED more "}"
#define NEOX(more)   "{\"architectures\":[\"GPTNeoXForCausalLM\"]," GATED more "}"
#define FALCON(more) "{\"architectures\":[\"FalconForCausalLM\"]," SIZES more "}"
#define MPT(more)                                                                          \
    "{\"architectures\":[\"MPTForCausalLM\"],\"d_model\":64,\"n_layers\":2,\"n_heads\":4," \
    "\"vocab_size\":100" more "}"

static void llama_has_transformers_defaults(void **state) {
    (void)state;
    const nn_config c = good(LLAMA(""));
    assert_string_equal(c.architecture, "LlamaForCausalLM");
    assert_int_equal(c.dim, 64);
    assert_int_equal(c.ffn_dim, 128);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.context, 2048);
    assert_int_equal(c.sliding_window, 0);
    assert_int_equal(c.act, NN_SILU);
    assert_int_equal(c.rope.dims, 16);
    assert_int_equal(c.rope.scaling, NN_ROPE_PLAIN);
    assert_true(c.rope.theta == 10000.0 && c.norm_eps == 1e-6f && !c.tied_embeddings);
    assert_false(c.rope.interleaved);
}

static void what_the_file_says_wins_over_defaults(void **state) {
    (void)state;
    const nn_config c = good(LLAMA(",\"head_dim\":32,\"num_key_value_heads\":2,\"rope_theta\":5e5,"
                                   "\"rms_norm_eps\":1e-5,\"max_position_embeddings\":4096,"
                                   "\"partial_rotary_factor\":0.5,\"tie_word_embeddings\":true,"
                                   "\"hidden_act\":\"gelu_new\",\"_name_or_path\":\"me\""));
    assert_int_equal(c.head_dim, 32);
    assert_int_equal(c.n_kv_heads, 2);
    assert_int_equal(c.rope.dims, 16);
    assert_int_equal(c.context, 4096);
    assert_int_equal(c.act, NN_GELU_TANH);
    assert_true(c.rope.theta == 5e5 && c.norm_eps == 1e-5f && c.tied_embeddings);
    assert_string_equal(c.name, "me");
}

static void null_is_the_same_as_absent(void **state) {
    (void)state;
    const nn_config c = good(LLAMA(",\"head_dim\":null,\"num_key_value_heads\":null,"
                                   "\"rope_scaling\":null,\"quantization_config\":null"));
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.n_kv_heads, 4);
}

static void rope_scaling_is_read_under_old_and_new_names(void **state) {
    (void)state;
    nn_rope r = good(LLAMA(",\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}")).rope;
    assert_int_equal(r.scaling, NN_ROPE_LINEAR);
    assert_true(r.factor == 4.0);
    r = good(LLAMA(",\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":1e6}")).rope;
    assert_int_equal(r.scaling, NN_ROPE_PLAIN);
    assert_true(r.theta == 1e6);
    r = good(LLAMA(",\"rope_theta\":5e5,\"max_position_embeddings\":131072,\"rope_scaling\":"
                   "{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
                   "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192}"))
            .rope;
    assert_int_equal(r.scaling, NN_ROPE_LLAMA3);
    assert_int_equal(r.original_context, 8192);
    assert_true(r.factor == 8.0 && r.low_freq_factor == 1.0 && r.high_freq_factor == 4.0);
    assert_true(r.theta == 5e5);
}

static void yarn_computes_the_attention_factor_the_file_leaves_out(void **state) {
    (void)state;
#define YARN(more)                                                                                \
    LLAMA(",\"max_position_embeddings\":4096,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4.0," \
          "\"original_max_position_embeddings\":1024" more "}")
    nn_rope r = good(YARN("")).rope;
    assert_int_equal(r.scaling, NN_ROPE_YARN);
    assert_true(fabs(r.attention_factor - 1.1386294361119891) < 1e-15);
    assert_true(r.beta_fast == 32.0 && r.beta_slow == 1.0 && !r.exact_ramp);
    assert_int_equal(r.original_context, 1024);
    r = good(YARN(",\"attention_factor\":0.5,\"beta_fast\":16,\"beta_slow\":2,\"truncate\":false"))
            .rope;
    assert_true(r.attention_factor == 0.5 && r.beta_fast == 16.0 && r.beta_slow == 2.0);
    assert_true(r.exact_ramp);
    r = good(YARN(",\"mscale\":1.0,\"mscale_all_dim\":0.5")).rope;
    assert_true(fabs(r.attention_factor - 1.1386294361119891 / 1.0693147180559945) < 1e-15);
#undef YARN
}

static void rope_that_is_not_supported_is_refused_by_name(void **state) {
    (void)state;
    refused(LLAMA(",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}"), "rope type dynamic");
    refused(LLAMA(",\"rope_scaling\":{\"type\":\"su\"}"), "rope type su");
    refused(LLAMA(",\"rope_scaling\":{\"rope_type\":\"longrope\"}"), "rope type longrope");
    refused(LLAMA(",\"rope_scaling\":{\"type\":\"mrope\"}"), "rope type mrope");
    refused(LLAMA(",\"rope_scaling\":{\"type\":\"linear\"}"), "rope scaling factor");
    refused(LLAMA(",\"rope_scaling\":7"), "rope_scaling is not an object");
    refused(LLAMA(",\"rope_parameters\":{\"full_attention\":{}}"), "differ by layer type");
    refused(LLAMA(",\"rope_theta\":0"), "rope theta");
    refused(LLAMA(",\"partial_rotary_factor\":1.5"), "partial rotary factor");
    refused(LLAMA(",\"head_dim\":15"), "wanted is an even number");
}

static void a_sliding_window_counts_only_when_all_layers_use_it(void **state) {
    (void)state;
    assert_int_equal(good(LLAMA(",\"sliding_window\":32")).sliding_window, 0);
    assert_int_equal(good(QWEN2(",\"sliding_window\":32")).sliding_window, 0);
    assert_int_equal(
        good(QWEN2(",\"sliding_window\":32,\"use_sliding_window\":false")).sliding_window, 0);
    assert_int_equal(good(QWEN2(",\"sliding_window\":32,\"use_sliding_window\":true,"
                                "\"max_window_layers\":0"))
                         .sliding_window,
                     32);
    assert_int_equal(good(QWEN2(",\"sliding_window\":32,\"use_sliding_window\":true,"
                                "\"max_window_layers\":2"))
                         .sliding_window,
                     0);
    refused(QWEN2(",\"use_sliding_window\":true,\"max_window_layers\":1"), "some layers have");
    refused(QWEN2(",\"use_sliding_window\":true,\"layer_types\":"
                  "[\"full_attention\",\"sliding_attention\"]"),
            "some layers have");
#define MISTRAL(more) "{\"model_type\":\"mistral\",\"num_key_value_heads\":2," GATED more "}"
    assert_int_equal(good(MISTRAL("")).sliding_window, 4096);
    assert_int_equal(good(MISTRAL(",\"sliding_window\":null")).sliding_window, 0);
    assert_int_equal(good(MISTRAL(",\"sliding_window\":16")).sliding_window, 16);
#undef MISTRAL
}

static void qwen3_heads_are_128_wide_unless_said(void **state) {
    (void)state;
    const nn_config c = good("{\"architectures\":[\"Qwen3ForCausalLM\"]," GATED "}");
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.rope.dims, 128);
}

static void neox_rotates_a_quarter_and_adds_in_parallel(void **state) {
    (void)state;
    nn_config c = good(NEOX(""));
    assert_int_equal(c.rope.dims, 4);
    assert_true(c.parallel_residual && c.act == NN_GELU && c.norm_eps == 1e-5f);
    assert_false(c.qkv_concatenated);
    c = good(NEOX(",\"rotary_pct\":1.0,\"rotary_emb_base\":5000,\"use_parallel_residual\":false"));
    assert_int_equal(c.rope.dims, 16);
    assert_true(c.rope.theta == 5000.0 && !c.parallel_residual);
}

static void falcons_three_generations_are_told_apart(void **state) {
    (void)state;
    nn_config c = good(FALCON("")); /* 7B */
    assert_true(c.multi_query && !c.new_decoder && c.parallel_residual && c.tied_embeddings);
    assert_int_equal(c.n_kv_heads, 1);
    assert_int_equal(c.ffn_dim, 256);
    assert_int_equal(c.rope.dims, 16);
    c = good(FALCON(",\"new_decoder_architecture\":true,\"num_kv_heads\":2")); /* 40B */
    assert_true(c.new_decoder && !c.multi_query && c.n_layer_norms == 2);
    assert_int_equal(c.n_kv_heads, 2);
    c = good(FALCON(",\"new_decoder_architecture\":true,\"num_kv_heads\":2,"
                    "\"num_ln_in_parallel_attn\":1,\"ffn_hidden_size\":100"));
    assert_int_equal(c.n_layer_norms, 1);
    assert_int_equal(c.ffn_dim, 100);
    c = good(FALCON(",\"alibi\":true,\"multi_query\":false,\"parallel_attn\":false")); /* RW */
    assert_true(c.alibi && c.alibi_max_bias == 8.0f && !c.parallel_residual);
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.rope.dims, 0);
    c = good("{\"architectures\":[\"RWForCausalLM\"],\"hidden_size\":64,\"n_layer\":2,"
             "\"n_head\":4,\"n_head_kv\":2,\"vocab_size\":100}");
    assert_string_equal(c.architecture, "FalconForCausalLM");
    assert_true(c.new_decoder && c.n_kv_heads == 2);
}

static void mpt_reads_its_attention_object(void **state) {
    (void)state;
    nn_config c = good(MPT(""));
    assert_true(c.alibi && c.alibi_max_bias == 8.0f && c.tied_embeddings);
    assert_int_equal(c.ffn_dim, 256);
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.rope.dims, 0);
    c = good(MPT(",\"expansion_ratio\":2,\"attn_config\":{\"clip_qkv\":6,\"softmax_scale\":0.25,"
                 "\"alibi_bias_max\":16,\"alibi\":true,\"kv_n_heads\":2}"));
    assert_true(c.clip_qkv == 6.0f && c.attention_scale == 0.25f && c.alibi_max_bias == 16.0f);
    assert_int_equal(c.ffn_dim, 128);
    assert_int_equal(c.n_kv_heads, 2);
    c = good(MPT(",\"attn_config\":{\"attn_type\":\"multiquery_attention\"}"));
    assert_int_equal(c.n_kv_heads, 1);
    refused(MPT(",\"attn_config\":{\"qk_ln\":true}"), "qk_ln");
    refused(MPT(",\"attn_config\":{\"rope\":true}"), "rope");
    refused(MPT(",\"attn_config\":{\"alibi\":false}"), "learned embeddings");
    refused(MPT(",\"logit_scale\":\"inv_sqrt_d_model\""), "logit_scale");
}

static void an_unknown_architecture_is_refused_with_the_list(void **state) {
    (void)state;
    refused("{\"architectures\":[\"MixtralForCausalLM\"]}", "MixtralForCausalLM is not known");
    refused("{\"architectures\":[\"MixtralForCausalLM\"]}", "FalconForCausalLM");
    refused("{\"model_type\":\"bert\"}", "architecture bert");
    refused("{}", "(none given)");
}

static void an_unknown_architecture_with_llamas_keys_is_read_under_its_name(void **state) {
    (void)state;
    nn_config c = good("{\"architectures\":[\"OwnForCausalLM\"]," GATED ",\"sliding_window\":64}");
    assert_string_equal(c.architecture, "OwnForCausalLM");
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.sliding_window, 64);
    refused("{\"architectures\":[\"OwnForCausalLM\"]," GATED ",\"hidden_act\":\"x\"}",
            "activation x is not supported");
}

static void quantised_checkpoints_are_refused_by_method(void **state) {
    (void)state;
    refused(LLAMA(",\"quantization_config\":{\"quant_method\":\"gptq\"}"), "quantised by gptq");
    refused(LLAMA(",\"quantization_config\":{\"quant_method\":\"compressed-tensors\","
                  "\"format\":\"pack-quantized\"}"),
            "quantised by compressed-tensors");
}

static void files_that_are_no_configuration_are_refused(void **state) {
    (void)state;
    refused("", "line 1");
    refused("[1]", "not a JSON object");
    refused("{\"a\":1,\"a\":2}", "duplicate");
    refused("{\"architectures\":[\"LlamaForCausalLM\"]}", "hidden_size, which the model needs");
    refused(LLAMA(",\"vocab\":"), "line 1");
    char *deep = malloc(100001);
    memset(deep, '[', 100000);
    deep[100000] = 0;
    refused(deep, "maximum parsing depth");
    free(deep);
}

static void sizes_out_of_bounds_are_refused(void **state) {
    (void)state;
    refused(LLAMA(",\"head_dim\":0"), "head size is 0, wanted is 1 to 4096");
    refused(LLAMA(",\"num_key_value_heads\":3"), "4 attention heads cannot share 3");
    refused(LLAMA(",\"max_position_embeddings\":-1"), "context length is -1");
    refused(LLAMA(",\"max_position_embeddings\":1e12"), "is not a 32-bit integer");
    refused(LLAMA(",\"max_position_embeddings\":\"4096\""), "is not a 32-bit integer");
    refused(LLAMA(",\"rms_norm_eps\":-1"), "epsilon");
    refused("{\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":257,"
            "\"num_attention_heads\":4,\"vocab_size\":100,\"intermediate_size\":128}",
            "number of layers is 257, wanted is 1 to 256");
    refused("{\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":2,"
            "\"num_attention_heads\":5,\"vocab_size\":100,\"intermediate_size\":128}",
            "not a multiple");
    refused("{\"model_type\":\"falcon\",\"hidden_size\":2000000000,\"num_hidden_layers\":2,"
            "\"num_attention_heads\":4,\"vocab_size\":100}",
            "hidden size is 2000000000");
}

/* Every configuration of a list of released models opens or names its unknown architecture. */
static void configurations_of_released_models_open(void **state) {
    (void)state;
    json_t *presets = json_load_file(SHARED_DATA "/configs/mlc_model_presets.json", 0, NULL);
    if (!presets) {
        print_message("no shared data: skipped\n");
        skip();
    }
    int opened = 0;
    for (void *at = json_object_iter(presets); at; at = json_object_iter_next(presets, at)) {
        char *text = json_dumps(json_object_iter_value(at), 0);
        nn_config c;
        weir_error err;
        if (config_from_json(&c, NULL, text, strlen(text), "x", &err) == WEIR_OK) {
            opened++;
        } else if (!strstr(err.message, "is not known")) {
            fail_msg("%s: %s", json_object_iter_key(at), err.message);
        }
        free(text);
    }
    json_decref(presets);
    assert_true(opened >= 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_has_transformers_defaults),
        cmocka_unit_test(what_the_file_says_wins_over_defaults),
        cmocka_unit_test(null_is_the_same_as_absent),
        cmocka_unit_test(rope_scaling_is_read_under_old_and_new_names),
        cmocka_unit_test(yarn_computes_the_attention_factor_the_file_leaves_out),
        cmocka_unit_test(rope_that_is_not_supported_is_refused_by_name),
        cmocka_unit_test(a_sliding_window_counts_only_when_all_layers_use_it),
        cmocka_unit_test(qwen3_heads_are_128_wide_unless_said),
        cmocka_unit_test(neox_rotates_a_quarter_and_adds_in_parallel),
        cmocka_unit_test(falcons_three_generations_are_told_apart),
        cmocka_unit_test(mpt_reads_its_attention_object),
        cmocka_unit_test(an_unknown_architecture_is_refused_with_the_list),
        cmocka_unit_test(an_unknown_architecture_with_llamas_keys_is_read_under_its_name),
        cmocka_unit_test(quantised_checkpoints_are_refused_by_method),
        cmocka_unit_test(files_that_are_no_configuration_are_refused),
        cmocka_unit_test(sizes_out_of_bounds_are_refused),
        cmocka_unit_test(configurations_of_released_models_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
