/* test_config_gguf.c - a GGUF's keys to a configuration, with what the converter changed told.
 *
 * SPDX-License-Identifier: MIT */
#include "format/checkpoint.h"
#include "format/gguf.h"

#include "images.h"

#include <math.h>

static const char *const file_of[] = {"llama", "qwen2",   "qwen3",   "gptneox",
                                      "mpt",   "falcon7", "falcon40"};

/* The configuration of a golden file; divisors are not looked at after this. */
static nn_config golden(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/format/gguf/%s.gguf", TEST_DATA, name);
    checkpoint *c;
    weir_error err = {0};
    if (checkpoint_open(&c, path, &err) != WEIR_OK) fail_msg("%s", err.message);
    nn_config config = c->config;
    config.rope.divisors = NULL;
    checkpoint_close(c);
    return config;
}

static void every_architecture_has_hugging_faces_name(void **state) {
    (void)state;
    static const char *const names[] = {
        "LlamaForCausalLM", "Qwen2ForCausalLM",  "Qwen3ForCausalLM", "GPTNeoXForCausalLM",
        "MPTForCausalLM",   "FalconForCausalLM", "FalconForCausalLM"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const nn_config c = golden(file_of[i]);
        assert_string_equal(c.architecture, names[i]);
        assert_int_equal(c.dim, 256);
        assert_int_equal(c.ffn_dim, 512);
        assert_int_equal(c.n_layers, 1);
        assert_int_equal(c.n_heads, 8);
        assert_int_equal(c.context, 64);
        assert_int_equal(c.vocab, i == 0 ? 5 : i < 3 ? 7 : 6);
    }
    assert_string_equal(golden("llama").name, "tiny llama");
}

static void only_the_llama_architecture_interleaves_its_rotation(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(file_of); i++) {
        assert_int_equal(golden(file_of[i]).rope.interleaved, i == 0);
    }
}

static void fused_qkv_is_said_to_be_concatenated(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(file_of); i++) {
        assert_int_equal(golden(file_of[i]).qkv_concatenated, i >= 3);
    }
}

static void llama_reads_its_rope_and_its_divisors(void **state) {
    (void)state;
    checkpoint *c;
    assert_int_equal(checkpoint_open(&c, TEST_DATA "/format/gguf/llama.gguf", NULL), WEIR_OK);
    const nn_config *k = &c->config;
    assert_int_equal(k->n_kv_heads, 4);
    assert_int_equal(k->head_dim, 32);
    assert_int_equal(k->rope.dims, 32);
    assert_true(k->rope.theta == 500000.0 && k->norm_eps == 1e-5f);
    assert_non_null(k->rope.divisors);
    assert_true(k->rope.divisors[0] == 1.0f && k->rope.divisors[15] == 8.0f);
    assert_false(k->tied_embeddings);
    assert_null(checkpoint_find(c, "rope_freqs.weight"));
    checkpoint_close(c);
}

static void qwen3_reads_head_size_and_yarn(void **state) {
    (void)state;
    const nn_config c = golden("qwen3");
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.n_kv_heads, 2);
    assert_int_equal(c.rope.scaling, NN_ROPE_YARN);
    assert_int_equal(c.rope.original_context, 16);
    assert_true(c.rope.factor == 4.0 && c.rope.beta_fast == 32.0);
    assert_true(fabs(c.rope.attention_factor - 1.1386294361119891) < 1e-12);
    assert_true(c.tied_embeddings);
}

static void neox_mpt_and_falcon_read_their_own_keys(void **state) {
    (void)state;
    nn_config c = golden("gptneox");
    assert_int_equal(c.rope.dims, 8);
    assert_false(c.parallel_residual);
    c = golden("mpt");
    assert_true(c.alibi && c.alibi_max_bias == 8.0f && c.clip_qkv == 6.0f);
    assert_int_equal(c.rope.dims, 0);
    c = golden("falcon7");
    assert_true(c.multi_query && !c.new_decoder && c.parallel_residual && c.n_layer_norms == 1);
    c = golden("falcon40");
    assert_true(!c.multi_query && c.new_decoder && c.n_layer_norms == 2 && c.n_kv_heads == 2);
}

/* A llama of one small tensor, with more keys from the caller, who gives their number. */
static image begin_llama(uint64_t more_keys) {
    image m = {0};
    image_gguf(&m, 3, 1, 6 + more_keys);
    image_key_string(&m, "general.architecture", "llama");
    image_key_u32(&m, "llama.embedding_length", 64);
    image_key_u32(&m, "llama.feed_forward_length", 128);
    image_key_u32(&m, "llama.block_count", 2);
    image_key_u32(&m, "llama.attention.head_count", 4);
    image_key_u32(&m, "llama.context_length", 512);
    return m;
}

static weir_status open_llama(image *m, nn_config *config, weir_error *err) {
    image_tensor(m, "token_embd.weight", 2, (uint64_t[]){1, 10}, 0, 0);
    image_data(m, 64);
    void *aligned = aligned_alloc(32, (m->size + 31) / 32 * 32);
    memcpy(aligned, m->data, m->size);
    checkpoint *c;
    *err = (weir_error){0};
    const weir_status status = checkpoint_open_memory(&c, aligned, m->size, err);
    if (status == WEIR_OK) *config = c->config;
    checkpoint_close(c);
    free(aligned);
    buffer_clear(m);
    return status;
}

static void refused(image m, const char *words) {
    nn_config c;
    weir_error err;
    if (open_llama(&m, &c, &err) == WEIR_OK) fail_msg("opened, wanted was \"%s\"", words);
    assert_says(&err, words);
}

static void defaults_fill_what_is_not_said(void **state) {
    (void)state;
    nn_config c;
    weir_error err;
    image m = begin_llama(0);
    assert_int_equal(open_llama(&m, &c, &err), WEIR_OK);
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.rope.dims, 16);
    assert_int_equal(c.vocab, 10);
    assert_true(c.rope.theta == 10000.0 && c.tied_embeddings);
    m = begin_llama(2);
    image_key_string(&m, "llama.rope.scaling.type", "linear");
    image_key_f32(&m, "llama.rope.scaling.factor", 2.0f);
    assert_int_equal(open_llama(&m, &c, &err), WEIR_OK);
    assert_true(c.rope.scaling == NN_ROPE_LINEAR && c.rope.factor == 2.0);
}

static void keys_that_do_not_fit_are_refused(void **state) {
    (void)state;
    image m = begin_llama(1);
    image_key_u32(&m, "llama.expert_count", 8);
    refused(m, "mixtures of experts");
    m = begin_llama(1);
    image_key_string(&m, "llama.rope.scaling.type", "longrope");
    refused(m, "rope.scaling.type is not supported");
    m = begin_llama(1);
    image_key_string(&m, "llama.attention.head_count_kv", "4");
    refused(m, "llama.attention.head_count_kv is not one 32-bit integer");
    m = begin_llama(1);
    image_key_u32(&m, "llama.attention.head_count_kv", 3);
    refused(m, "cannot share");
    m = begin_llama(1);
    image_key_u32(&m, "llama.attention.value_length", 8);
    refused(m, "values have another length");
    m = begin_llama(1);
    image_key_f32(&m, "llama.rope.freq_base", NAN);
    refused(m, "rope theta");
    m = begin_llama(1);
    image_key_u32(&m, "split.count", 3);
    refused(m, "is part 1 of 3 of a split GGUF");
    m = (image){0};
    image_gguf(&m, 3, 1, 1);
    image_key_string(&m, "general.architecture", "bert");
    refused(m, "architecture bert is not known; known are llama");
    m = (image){0};
    image_gguf(&m, 3, 1, 1);
    image_key_string(&m, "general.architecture", "llama");
    refused(m, "llama.embedding_length, which the model needs, is missing");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_has_hugging_faces_name),
        cmocka_unit_test(only_the_llama_architecture_interleaves_its_rotation),
        cmocka_unit_test(fused_qkv_is_said_to_be_concatenated),
        cmocka_unit_test(llama_reads_its_rope_and_its_divisors),
        cmocka_unit_test(qwen3_reads_head_size_and_yarn),
        cmocka_unit_test(neox_mpt_and_falcon_read_their_own_keys),
        cmocka_unit_test(defaults_fill_what_is_not_said),
        cmocka_unit_test(keys_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
