/* test_checkpoint.c - models of every container open under Hugging Face's names, and what is not
 * a model, or not a whole one, is refused in one line.
 *
 * SPDX-License-Identifier: MIT */
#define _XOPEN_SOURCE 700 /* mkdtemp */
#include "format/checkpoint.h"

#include "format/gguf.h"
#include "images.h"

#include <sys/stat.h>
#include <unistd.h>

#define DATA TEST_DATA "/format"

static checkpoint *opened(const char *path) {
    checkpoint *c;
    weir_error err = {0};
    if (checkpoint_open(&c, path, &err) != WEIR_OK) fail_msg("%s", err.message);
    return c;
}

static void refused(const char *path, const char *words) {
    checkpoint *c;
    weir_error err = {0};
    if (checkpoint_open(&c, path, &err) == WEIR_OK) fail_msg("%s opened", path);
    assert_null(c);
    assert_says(&err, words);
}

/* ---- a folder of scratch files */

typedef struct scratch {
    char folder[64], path[128]; /* path: of the last file written */
} scratch;

static int make_scratch(void **state) {
    scratch *s = calloc(1, sizeof *s);
    strcpy(s->folder, "weir_test_XXXXXX");
    if (!mkdtemp(s->folder)) return -1;
    *state = s;
    return 0;
}

static int drop_scratch(void **state) {
    scratch *s = *state;
    static const char *const names[] = {"config.json", "model.safetensors", "a.safetensors",
                                        "model.safetensors.index.json", "model.gguf"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(s->path, sizeof s->path, "%s/%s", s->folder, names[i]);
        unlink(s->path);
    }
    rmdir(s->folder);
    free(s);
    return 0;
}

static const char *write_file(scratch *s, const char *name, const void *data, size_t size) {
    snprintf(s->path, sizeof s->path, "%s/%s", s->folder, name);
    FILE *f = fopen(s->path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
    return s->path;
}

/* Copies a file of the tests' data into the scratch folder, cut to its first bytes if asked. */
static const char *copy_file(scratch *s, const char *name, const char *from, size_t cut) {
    size_t size;
    uint8_t *data = read_data(from, &size);
    const char *path = write_file(s, name, data, cut && cut < size ? cut : size);
    free(data);
    return path;
}

/* ---- safetensors */

static void check_tiny_llama(const checkpoint *c) {
    assert_string_equal(c->config.architecture, "LlamaForCausalLM");
    assert_int_equal(c->n_tensors, 3); /* not the rotary table */
    assert_int_equal(c->parameters, 4 * 8 + 8 + 8 * 8);
    const tensor_view *embed = checkpoint_find(c, "model.embed_tokens.weight");
    const tensor_view *norm = checkpoint_find(c, "model.norm.weight");
    const tensor_view *q = checkpoint_find(c, "model.layers.0.self_attn.q_proj.weight");
    float x[64];
    assert_int_equal(embed->type, TENSOR_F32);
    assert_int_equal(embed->dims[0], 4);
    assert_int_equal(embed->dims[1], 8);
    assert_int_equal(norm->type, TENSOR_F16);
    assert_int_equal(q->type, TENSOR_BF16);
    const tensor_view *all[] = {embed, norm, q};
    for (size_t i = 0; i < 3; i++) { /* every tensor holds 1, 2, 3, ... */
        const int64_t n = all[i]->dims[0] * (all[i]->n_dims == 2 ? all[i]->dims[1] : 1);
        tensor_row_to_float(all[i]->type, all[i]->data, x, n);
        for (int64_t j = 0; j < n; j++) assert_true(x[j] == (float)(j + 1));
    }
    assert_null(checkpoint_find(c, "model.layers.0.self_attn.rotary_emb.inv_freq"));
    assert_null(checkpoint_find(c, ""));
}

static void a_folder_with_one_file_opens(void **state) {
    (void)state;
    checkpoint *c = opened(DATA "/folder");
    check_tiny_llama(c);
    assert_string_equal(c->folder, DATA "/folder");
    assert_null(c->gguf);
    checkpoint_close(c);
}

static void a_folder_with_shards_opens(void **state) {
    (void)state;
    checkpoint *c = opened(DATA "/sharded/");
    check_tiny_llama(c);
    assert_int_equal(c->n_files, 2);
    checkpoint_close(c);
}

static void a_lone_file_takes_the_configuration_beside_it(void **state) {
    (void)state;
    checkpoint *c = opened(DATA "/folder/model.safetensors");
    check_tiny_llama(c);
    assert_string_equal(c->folder, DATA "/folder");
    checkpoint_close(c);
    refused(DATA "/sharded/model-00001-of-00002.safetensors", "is one shard of a model");
}

static void folders_that_are_no_model_are_refused(void **state) {
    scratch *s = *state;
    refused(s->folder, "config.json: cannot open");
    copy_file(s, "config.json", DATA "/folder/config.json", 0);
    refused(s->folder, "has neither model.safetensors nor model.safetensors.index.json");
    copy_file(s, "model.safetensors", DATA "/folder/model.safetensors", 300);
    refused(s->folder, "model.safetensors: ");
    copy_file(s, "config.json", DATA "/folder/config.json", 50);
    refused(s->folder, "config.json: line");
    write_file(s, "config.json", "", 0);
    refused(s->folder, "config.json: line 1");
}

static void every_cut_of_a_safetensors_file_is_refused(void **state) {
    scratch *s = *state;
    copy_file(s, "config.json", DATA "/folder/config.json", 0);
    for (size_t cut = 1; cut < 672; cut += 7) {
        copy_file(s, "model.safetensors", DATA "/folder/model.safetensors", cut);
        refused(s->folder, "model.safetensors: ");
    }
}

static void write_index(scratch *s, const char *json) {
    write_file(s, "model.safetensors.index.json", json, strlen(json));
}

static void an_index_that_lies_is_refused(void **state) {
    scratch *s = *state;
    copy_file(s, "config.json", DATA "/folder/config.json", 0);
    copy_file(s, "a.safetensors", DATA "/folder/model.safetensors", 0);
    write_index(s, "{}");
    refused(s->folder, "weight_map is missing or empty");
    write_index(s, "{\"weight_map\":{\"w\":\"../a.safetensors\"}}");
    refused(s->folder, "is not the name of a file beside it");
    write_index(s, "{\"weight_map\":{\"w\":\"b/a.safetensors\"}}");
    refused(s->folder, "is not the name of a file beside it");
    write_index(s, "{\"weight_map\":{\"w\":7}}");
    refused(s->folder, "is not the name of a file beside it");
    write_index(s, "{\"weight_map\":{\"w\":\"b.safetensors\"}}");
    refused(s->folder, "b.safetensors: cannot open");
    write_index(s, "{\"weight_map\":{\"w\":\"a.safetensors\"}}");
    refused(s->folder, "tensor w is not in a.safetensors");
    copy_file(s, "model.safetensors", DATA "/folder/model.safetensors", 0);
    write_index(s, "{\"weight_map\":{\"w\":\"a.safetensors\",\"v\":\"model.safetensors\"}}");
    refused(s->folder, "is there twice");
}

/* ---- GGUF */

static void check_names(const char *file, const char *const *names) {
    char path[512];
    snprintf(path, sizeof path, "%s/gguf/%s.gguf", DATA, file);
    checkpoint *c = opened(path);
    int n = 0;
    for (; names[n]; n++) {
        if (!checkpoint_find(c, names[n])) fail_msg("%s: no %s", file, names[n]);
    }
    assert_int_equal(c->n_tensors, n);
    assert_null(c->folder);
    assert_non_null(c->gguf);
    checkpoint_close(c);
}

static void gguf_names_become_hugging_faces(void **state) {
    (void)state;
    check_names(
        "llama",
        (const char *const[]){
            "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
            "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.q_proj.weight",
            "model.layers.0.self_attn.k_proj.weight", "model.layers.0.self_attn.v_proj.weight",
            "model.layers.0.self_attn.o_proj.weight",
            "model.layers.0.post_attention_layernorm.weight", "model.layers.0.mlp.gate_proj.weight",
            "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight", NULL});
    check_names("qwen2", (const char *const[]){"model.embed_tokens.weight",
                                               "model.layers.0.self_attn.q_proj.bias", NULL});
    check_names("qwen3", (const char *const[]){"model.embed_tokens.weight",
                                               "model.layers.0.self_attn.q_norm.weight",
                                               "model.layers.0.self_attn.k_norm.weight", NULL});
    check_names("gptneox",
                (const char *const[]){"gpt_neox.embed_in.weight", "gpt_neox.final_layer_norm.bias",
                                      "embed_out.weight", "gpt_neox.layers.0.input_layernorm.bias",
                                      "gpt_neox.layers.0.attention.query_key_value.bias",
                                      "gpt_neox.layers.0.attention.dense.bias",
                                      "gpt_neox.layers.0.post_attention_layernorm.bias",
                                      "gpt_neox.layers.0.mlp.dense_h_to_4h.bias",
                                      "gpt_neox.layers.0.mlp.dense_4h_to_h.bias", NULL});
    check_names("mpt", (const char *const[]){"transformer.wte.weight", "transformer.norm_f.weight",
                                             "transformer.blocks.0.norm_1.weight",
                                             "transformer.blocks.0.attn.Wqkv.weight",
                                             "transformer.blocks.0.attn.out_proj.weight",
                                             "transformer.blocks.0.norm_2.weight",
                                             "transformer.blocks.0.ffn.up_proj.weight",
                                             "transformer.blocks.0.ffn.down_proj.weight", NULL});
}

static void falcons_norms_are_named_by_their_number(void **state) {
    (void)state;
    check_names("falcon7", (const char *const[]){
                               "transformer.word_embeddings.weight", "transformer.ln_f.weight",
                               "transformer.h.0.input_layernorm.weight",
                               "transformer.h.0.self_attention.query_key_value.weight",
                               "transformer.h.0.self_attention.dense.weight",
                               "transformer.h.0.mlp.dense_h_to_4h.weight",
                               "transformer.h.0.mlp.dense_4h_to_h.weight", NULL});
    check_names("falcon40", (const char *const[]){
                                "transformer.word_embeddings.weight", "transformer.ln_f.weight",
                                "transformer.h.0.ln_mlp.weight", "transformer.h.0.ln_attn.weight",
                                "transformer.h.0.self_attention.query_key_value.weight",
                                "transformer.h.0.self_attention.dense.weight",
                                "transformer.h.0.mlp.dense_h_to_4h.weight",
                                "transformer.h.0.mlp.dense_4h_to_h.weight", NULL});
}

static void gguf_matrices_have_rows_first(void **state) {
    (void)state;
    checkpoint *c = opened(DATA "/gguf/llama.gguf");
    const tensor_view *t = checkpoint_find(c, "model.layers.0.mlp.down_proj.weight");
    assert_int_equal(t->type, TENSOR_BF16);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->dims[1], 512);
    assert_int_equal(t->bytes, 2048);
    assert_int_equal(c->parameters, 7424);
    checkpoint_close(c);
}

static void a_gguf_image_in_memory_opens(void **state) {
    (void)state;
    size_t size;
    uint8_t *data = read_data(DATA "/gguf/qwen2.gguf", &size);
    void *aligned = aligned_alloc(32, (size + 31) / 32 * 32);
    memcpy(aligned, data, size);
    checkpoint *c;
    weir_error err;
    assert_int_equal(checkpoint_open_memory(&c, aligned, size, &err), WEIR_OK);
    assert_int_equal(c->n_tensors, 2);
    checkpoint_close(c);
    assert_int_not_equal(checkpoint_open_memory(&c, aligned, size - 100, &err), WEIR_OK);
    assert_null(c);
    assert_says(&err, "built-in model: ");
    free(aligned);
    free(data);
}

static void a_tensor_type_that_cannot_be_read_is_refused_by_name(void **state) {
    scratch *s = *state;
    size_t size;
    uint8_t *data = read_data(DATA "/gguf/llama.gguf", &size);
    static const char name[] = "blk.0.attn_q.weight";
    size_t at = 0;
    while (memcmp(data + at, name, sizeof name - 1) != 0) at++;
    data[at + sizeof name - 1 + 4 + 16] = 21; /* behind the number of dimensions and two of them */
    refused(write_file(s, "model.gguf", data, size),
            "tensor model.layers.0.self_attn.q_proj.weight: type IQ3_S (21) is not supported");
    free(data);
}

static void what_is_not_a_model_is_refused(void **state) {
    scratch *s = *state;
    refused("no such file", "no such file: cannot open");
    refused(TEST_DATA "/format/quant/Q4_0.f32", "is not a model; wanted is a folder");
    refused(write_file(s, "model.gguf", "", 0), "is not a GGUF file");
    refused(write_file(s, "model.gguf", "GGML1234", 8), "is not a GGUF file");
    refused(write_file(s, "model.gguf", "GGUF", 4), "is it truncated?");
}

/* Vocabularies are GGUFs without tensors, of architectures weir need not know. */
static void vocabularies_open_whatever_their_architecture(void **state) {
    (void)state;
    static const struct {
        const char *name, *architecture;
        int vocab;
    } files[] = {
        {"llama-spm", "LlamaForCausalLM", 32000},
        {"falcon", "FalconForCausalLM", 65024},
        {"gpt-neox", "GPTNeoXForCausalLM", 50432},
        {"mpt", "MPTForCausalLM", 50432},
        {"deepseek-llm", "LlamaForCausalLM", 102400},
        {"gpt-2", "gpt2", 0},
        {"baichuan", "baichuan", 0},
        {"phi-3", "phi3", 0},
        {"dbrx", "dbrx", 0},
    };
    const char *folder = SHARED_DATA "/tokenizers/gguf_vocab";
    if (!file_is_folder(folder)) {
        print_message("no shared data: skipped\n");
        skip();
    }
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/ggml-vocab-%s.gguf", folder, files[i].name);
        checkpoint *c = opened(path);
        assert_int_equal(c->n_tensors, 0);
        assert_string_equal(c->config.architecture, files[i].architecture);
        assert_int_equal(c->config.vocab, files[i].vocab);
        assert_true(gguf_has(c->gguf, "tokenizer.ggml.tokens"));
        checkpoint_close(c);
    }
}

static void a_real_model_opens(void **state) {
    (void)state;
    const char *path = SHARED_DATA "/models/stories260K";
    if (!file_is_folder(path)) {
        print_message("no shared data: skipped\n");
        skip();
    }
    checkpoint *c = opened(path);
    assert_int_equal(c->parameters, 260032);
    assert_int_equal(c->n_tensors, 47);
    checkpoint_close(c);
}

int main(void) {
#define SCRATCH_TEST(f) cmocka_unit_test_setup_teardown(f, make_scratch, drop_scratch)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_with_one_file_opens),
        cmocka_unit_test(a_folder_with_shards_opens),
        cmocka_unit_test(a_lone_file_takes_the_configuration_beside_it),
        SCRATCH_TEST(folders_that_are_no_model_are_refused),
        SCRATCH_TEST(every_cut_of_a_safetensors_file_is_refused),
        SCRATCH_TEST(an_index_that_lies_is_refused),
        cmocka_unit_test(gguf_names_become_hugging_faces),
        cmocka_unit_test(falcons_norms_are_named_by_their_number),
        cmocka_unit_test(gguf_matrices_have_rows_first),
        cmocka_unit_test(a_gguf_image_in_memory_opens),
        SCRATCH_TEST(a_tensor_type_that_cannot_be_read_is_refused_by_name),
        SCRATCH_TEST(what_is_not_a_model_is_refused),
        cmocka_unit_test(vocabularies_open_whatever_their_architecture),
        cmocka_unit_test(a_real_model_opens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
