/* test_cuda_engine_file.c - engine files: built for GPUs that are not here, run without a compiler,
 * refused with the reason when they do not fit, whatever bytes they are.
 *
 * On the emulated GPU of cuda_fake.c, which loads code for sm_90a only and counts how often
 * something was compiled; with another libcuda.so.1 these tests skip.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/engine_file.h"
#include "support/sessions.h"
#include "support/tiny.h"

#include <dlfcn.h>
#include <elf.h>
#include <unistd.h>

static struct { /* of cuda_fake.c */
    int (*calls)(const char *name);
    void (*fail_at)(const char *name, int in, int with);
} fake;

static char *model, *file; /* a tiny model and a path for its engine file */

static int set_up(void **state) {
    (void)state;
    void *library = dlopen("libcuda.so.1", RTLD_NOW), *found[2];
    model = tiny_make(&(tiny_model){.seed = 3});
    file = tiny_path();
    if (!library || !(found[0] = dlsym(library, "fake_calls"))) return 0;
    found[1] = dlsym(library, "fake_fail");
    memcpy(&fake, found, sizeof fake);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(file);
    mem_free(file);
    tiny_remove(model);
    return 0;
}

static void need_fake(void) {
    if (fake.calls) return;
    print_message("skipped: libcuda.so.1 is not the emulated one\n");
    skip();
}

static weir_engine_options options_of(const char *engine_file) {
    return (weir_engine_options){.threads = 1, .window = 16, .engine_file = engine_file};
}

static void build_for(const char *targets) {
    OK(weir_engine_build(file, model, targets, NULL, &err));
}

static void refuse(const weir_engine_options *o, const char *path, weir_status status,
                   const char *words) {
    weir_engine *e;
    REFUSED(weir_engine_open(&e, path, o, &err), status, words);
    assert_null(e);
}

static buffer bytes_of(const char *path) {
    buffer out = {0};
    mapped_file f;
    OK(file_map(&f, path, &err));
    assert_true(buffer_append(&out, f.data, f.size));
    file_unmap(&f);
    return out;
}

/* The bytes of an engine file built for targets, and its header. */
static buffer built_for(const char *targets, engine_header *header) {
    build_for(targets);
    buffer out = bytes_of(file);
    assert_true(out.size >= sizeof *header);
    memcpy(header, out.data, sizeof *header);
    return out;
}

/* Hashes as they should be, so that what a test changed is all that is wrong. */
static void write_sealed(buffer *b, engine_header *h) {
    for (int i = 0; i < h->n_images && i < ENGINE_TARGETS; i++) {
        engine_image *image = &h->images[i];
        if (image->at > b->size || image->bytes > b->size - image->at) continue;
        image->hash = cuda_hash(image->made_from, b->data + image->at, image->bytes);
    }
    h->hash = cuda_engine_hash(h);
    memcpy(b->data, h, sizeof *h);
    FILE *f = fopen(file, "wb");
    assert_true(f && fwrite(b->data, 1, b->size, f) == b->size);
    fclose(f);
}

/* ---- what it is for */

static void an_engine_file_runs_without_a_compiler_and_gives_the_same_logits(void **state) {
    (void)state;
    need_fake();
    const weir_engine_options plain = {.backend = "cuda", .threads = 1, .window = 16};
    const weir_engine_options with = options_of(file);
    build_for("sm_80,sm_90a");
    weir_engine *compiled = engine_of(model, &plain);
    const int before = fake.calls("nvrtcCreateProgram");
    weir_engine *taken = engine_of(model, &with);
    assert_int_equal(fake.calls("nvrtcCreateProgram"), before);
    assert_string_equal(taken->backend->api->name, "cuda");
    weir_session *a = session_of(compiled, NULL), *b = session_of(taken, NULL);
    feed(a, (const int32_t[]){1, 2, 3}, 3);
    feed(b, (const int32_t[]){1, 2, 3}, 3);
    assert_same_logits(a, b);
    weir_session_close(a), weir_session_close(b);
    weir_engine_close(compiled), weir_engine_close(taken);
}

static void one_file_serves_any_window_chunk_and_number_of_sessions(void **state) {
    (void)state;
    need_fake();
    build_for("sm_90a");
    const weir_engine_options others[] = {
        {.threads = 1, .window = 100, .engine_file = file},
        {.threads = 1, .window = 8, .chunk = 3, .max_sinks = 1, .engine_file = file},
        {.threads = 1, .window = 16, .sessions = 9, .engine_file = file}};
    for (size_t i = 0; i < COUNT_OF(others); i++) weir_engine_close(engine_of(model, &others[i]));
}

static void a_file_is_built_where_there_is_no_gpu(void **state) {
    (void)state;
    need_fake();
    weir_engine_file_info info;
    fake.fail_at("cuInit", 1, 100);
    REFUSED(weir_engine_build(file, model, NULL, NULL, &err), WEIR_ERR_DEVICE, "name the target");
    fake.fail_at("cuInit", 1, 100);
    build_for("sm_120,sm_80,sm_80");
    fake.fail_at("cuInit", 0, 0);
    OK(weir_engine_read_file_info(&info, file, &err));
    assert_string_equal(info.targets, "sm_120, sm_80");
    assert_string_equal(info.made_by, weir_version());
    assert_string_equal(info.weight_types, "f32");
    assert_string_equal(info.kv_type, "f16");
    assert_int_equal(info.head_dim, 8);
    assert_int_equal(info.nvrtc[0], 13);
    assert_true(info.is_current);
    build_for(NULL);
    OK(weir_engine_read_file_info(&info, file, &err));
    assert_string_equal(info.targets, "sm_90a");
}

static void targets_that_the_compiler_lacks_are_refused_with_those_it_has(void **state) {
    (void)state;
    need_fake();
    static const char *const wrong[] = {"sm_75",
                                        "sm_90",
                                        "sm_81",
                                        "90a",
                                        "",
                                        "sm_80,",
                                        ",sm_80",
                                        "sm_80, sm_90a",
                                        "sm_80000000000000000"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        REFUSED(weir_engine_build(file, model, wrong[i], NULL, &err), WEIR_ERR_ARGUMENT,
                "it has sm_80, sm_90a, sm_120");
    }
}

/* ---- what does not fit */

static void what_differs_is_named(void **state) {
    (void)state;
    need_fake();
    build_for("sm_90a");
    weir_engine_options o = options_of(file);
    o.kv_type = WEIR_INT8;
    refuse(&o, model, WEIR_ERR_ARGUMENT, "keys and values in f16, this run wants int8");
    o = options_of(file);
    o.weights = WEIR_Q8;
    refuse(&o, model, WEIR_ERR_ARGUMENT, "weights in f32, this run wants f32, q8");
    o = options_of(file);
    char *wide = tiny_make(&(tiny_model){.dim = 64});
    refuse(&o, wide, WEIR_ERR_ARGUMENT, "heads of 8 features, this run wants 16");
    tiny_remove(wide);
    char *shared = tiny_make(&(tiny_model){.n_kv_heads = 1});
    refuse(&o, shared, WEIR_ERR_ARGUMENT, "for 2 query heads of a K/V head at once");
    tiny_remove(shared);
    build_for("sm_80,sm_120");
    refuse(&o, model, WEIR_ERR_ARGUMENT, "kernels for sm_80, sm_120, this GPU wants sm_90a");
}

static void files_of_another_weir_are_refused(void **state) {
    (void)state;
    need_fake();
    const weir_engine_options o = options_of(file);
    engine_header was, h;
    buffer b = built_for("sm_90a", &was);
    h = was, h.sources++, memcpy(h.weir, "0.0.9", 6);
    write_sealed(&b, &h);
    refuse(&o, model, WEIR_ERR_ARGUMENT, "another weir (0.0.9, this is ");
    h = was, h.images[0].made_from++;
    write_sealed(&b, &h);
    refuse(&o, model, WEIR_ERR_ARGUMENT, "another weir");
    h = was, h.magic[7]++;
    write_sealed(&b, &h);
    refuse(&o, model, WEIR_ERR_FORMAT, "another version of weir");
    buffer_clear(&b);
}

static void a_gpu_runs_code_of_an_older_one_of_its_generation_only(void **state) {
    (void)state;
    need_fake();
    static const struct {
        const char *gpu, *code; /* NULL: none */
    } cases[] = {{"sm_80", "sm_80"},   {"sm_86", "sm_80"},   {"sm_89", "sm_80"},
                 {"sm_90a", "sm_90a"}, {"sm_90", NULL},      {"sm_100", NULL},
                 {"sm_120", "sm_120"}, {"sm_121", "sm_120"}, {"sm_70", NULL}};
    engine_header h;
    buffer b = built_for("sm_80,sm_90a,sm_120", &h);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        cuda_image image;
        const cuda_options o = {.target = cases[i].gpu,
#define X(name, before, behind) .name = h.name,
                                CUDA_OPTIONS(X)
#undef X
        };
        if (!cases[i].code) {
            REFUSED(cuda_engine_take(&image, file, &o, &err), WEIR_ERR_ARGUMENT, "this GPU wants");
            continue;
        }
        OK(cuda_engine_take(&image, file, &o, &err));
        assert_string_equal(image.code.data + sizeof(Elf64_Ehdr), cases[i].code);
        cuda_image_clear(&image);
    }
    buffer_clear(&b);
}

static void nothing_falls_back_in_silence(void **state) {
    (void)state;
    need_fake();
    build_for("sm_90a");
    weir_engine_options o = options_of(file);
    fake.fail_at("cuInit", 2, 100); /* the first one asks whether there is a GPU */
    refuse(&o, model, WEIR_ERR_DEVICE, "no GPU");
    fake.fail_at("cuModuleLoadData", 1, 222);
    refuse(&o, model, WEIR_ERR_DEVICE, "built by NVRTC 13.0, the driver is of CUDA 13.0");
    o.engine_file = "/no/such.engine";
    refuse(&o, model, WEIR_ERR_IO, "/no/such.engine");
    o.engine_file = file;
    o.backend = "cpu";
    refuse(&o, model, WEIR_ERR_ARGUMENT, "back end cpu has no use for it");
    refuse(&(weir_engine_options){0}, file, WEIR_ERR_ARGUMENT, "kernels and no weights");
}

/* ---- any bytes */

static void a_file_cut_short_or_damaged_anywhere_is_refused(void **state) {
    (void)state;
    need_fake();
    engine_header whole, h;
    buffer b = built_for("sm_80,sm_90a", &whole);
    for (size_t n = 0; n < b.size; n++) {
        REFUSED(cuda_engine_parse(&h, (const uint8_t *)b.data, n, "x", &err), WEIR_ERR_FORMAT,
                "x: ");
    }
    for (size_t at = 0; at < b.size; at++) {
        bool matters = at < sizeof h; /* what lies between the parts does not */
        for (int i = 0; i < whole.n_images; i++) {
            const engine_image *image = &whole.images[i];
            matters |= at >= image->at && at < image->at + image->bytes;
        }
        b.data[at] ^= 0x10;
        const weir_status status =
            cuda_engine_parse(&h, (const uint8_t *)b.data, b.size, "x", NULL);
        assert_int_equal(status, matters ? WEIR_ERR_FORMAT : WEIR_OK);
        b.data[at] ^= 0x10;
    }
    buffer_clear(&b);
}

static void places_outside_of_the_file_are_refused_though_hashes_are_right(void **state) {
    (void)state;
    need_fake();
    const weir_engine_options o = options_of(file);
    engine_header was;
    buffer b = built_for("sm_90a", &was);
    const uint64_t places[] = {
        0, 64, 1, was.images[0].at + 1, b.size, b.size + 64, UINT64_MAX - 63};
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        engine_header h = was;
        h.images[0].at = places[i];
        write_sealed(&b, &h);
        refuse(&o, model, WEIR_ERR_FORMAT, "damaged");
        h = was;
        h.images[0].bytes = i == 0 ? 0 : was.images[0].bytes + places[i];
        write_sealed(&b, &h);
        refuse(&o, model, WEIR_ERR_FORMAT, "damaged");
    }
    for (int n = -1; n <= ENGINE_TARGETS + 1; n++) {
        engine_header h = was;
        h.n_images = n;
        if (n == was.n_images) continue;
        write_sealed(&b, &h);
        refuse(&o, model, WEIR_ERR_FORMAT, "damaged");
    }
    engine_header h = was;
    memset(h.images[0].target, 'x', sizeof h.images[0].target);
    write_sealed(&b, &h);
    refuse(&o, model, WEIR_ERR_FORMAT, "damaged");
    buffer_clear(&b);
}

/* The driver is told where code begins and nothing else. */
static void code_that_points_outside_of_itself_is_refused(void **state) {
    (void)state;
    need_fake();
    const weir_engine_options o = options_of(file);
    engine_header h;
    buffer b = built_for("sm_90a", &h);
    char *const code = b.data + h.images[0].at;
    Elf64_Ehdr elf, was;
    memcpy(&was, code, sizeof was);
    for (int i = 0; i < 7; i++) {
        elf = was;
        if (i == 0) elf.e_shnum = 1, elf.e_shoff = 17, elf.e_shentsize = sizeof(Elf64_Shdr);
        if (i == 1) elf.e_shnum = 1, elf.e_shoff = 8, elf.e_shentsize = sizeof(Elf64_Shdr) - 1;
        if (i == 2) elf.e_shnum = 2, elf.e_shoff = 0, elf.e_shentsize = sizeof(Elf64_Shdr);
        if (i == 3) elf.e_phnum = 1, elf.e_phoff = UINT64_MAX, elf.e_phentsize = 64;
        if (i == 4) elf.e_phnum = 0xffff, elf.e_phentsize = 0xffff;
        if (i == 5) elf.e_machine = EM_X86_64;
        if (i == 6) { /* the file as its own section: garbage for offset and size */
            elf.e_shnum = 1, elf.e_shoff = 0, elf.e_shentsize = sizeof(Elf64_Shdr);
            elf.e_version = 1, elf.e_entry = UINT64_MAX;
        }
        memcpy(code, &elf, sizeof elf);
        write_sealed(&b, &h);
        refuse(&o, model, WEIR_ERR_FORMAT, "code for a GPU");
    }
    buffer_clear(&b);
}

/* ---- writing */

static void a_build_that_fails_leaves_what_was_there(void **state) {
    (void)state;
    need_fake();
    build_for("sm_90a");
    buffer before = bytes_of(file);
    for (int in = 1; in <= 2; in++) {
        fake.fail_at("nvrtcCompileProgram", in, 6);
        REFUSED(weir_engine_build(file, model, "sm_80,sm_90a", NULL, &err), WEIR_ERR_DEVICE,
                "do not compile for");
    }
    buffer after = bytes_of(file);
    assert_int_equal(before.size, after.size);
    assert_memory_equal(before.data, after.data, after.size);
    buffer_clear(&before), buffer_clear(&after);
    const int compiled = fake.calls("nvrtcCompileProgram");
    REFUSED(weir_engine_build("/no/such/folder/x", model, "sm_80", NULL, &err), WEIR_ERR_IO,
            "/no/such/folder/x");
    assert_int_equal(fake.calls("nvrtcCompileProgram"), compiled);
}

static void what_is_no_engine_file_is_not_overwritten(void **state) {
    (void)state;
    need_fake();
    char path[512];
    snprintf(path, sizeof path, "%s/model.safetensors", model);
    buffer before = bytes_of(path);
    REFUSED(weir_engine_build(path, model, "sm_90a", NULL, &err), WEIR_ERR_ARGUMENT,
            "not overwritten");
    REFUSED(weir_engine_build(model, model, "sm_90a", NULL, &err), WEIR_ERR_ARGUMENT, model);
    buffer after = bytes_of(path);
    assert_int_equal(before.size, after.size);
    assert_memory_equal(before.data, after.data, after.size);
    buffer_clear(&before), buffer_clear(&after);
    weir_engine_file_info info;
    REFUSED(weir_engine_read_file_info(&info, path, &err), WEIR_ERR_ARGUMENT, "no engine file");
}

static int cancel(void *user, const char *what, uint64_t done, uint64_t total) {
    (void)what, (void)total;
    return done == *(const uint64_t *)user;
}

static void a_build_canceled_before_or_after_any_target_writes_nothing(void **state) {
    (void)state;
    need_fake();
    unlink(file);
    for (uint64_t at = 0; at <= 2; at++) {
        const weir_engine_options o = {.progress = cancel, .progress_user = &at};
        REFUSED(weir_engine_build(file, model, "sm_80,sm_90a", &o, &err), WEIR_ERR_CANCELED,
                "canceled");
        assert_false(file_exists(file));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_engine_file_runs_without_a_compiler_and_gives_the_same_logits),
        cmocka_unit_test(one_file_serves_any_window_chunk_and_number_of_sessions),
        cmocka_unit_test(a_file_is_built_where_there_is_no_gpu),
        cmocka_unit_test(targets_that_the_compiler_lacks_are_refused_with_those_it_has),
        cmocka_unit_test(what_differs_is_named),
        cmocka_unit_test(files_of_another_weir_are_refused),
        cmocka_unit_test(a_gpu_runs_code_of_an_older_one_of_its_generation_only),
        cmocka_unit_test(nothing_falls_back_in_silence),
        cmocka_unit_test(a_file_cut_short_or_damaged_anywhere_is_refused),
        cmocka_unit_test(places_outside_of_the_file_are_refused_though_hashes_are_right),
        cmocka_unit_test(code_that_points_outside_of_itself_is_refused),
        cmocka_unit_test(a_build_that_fails_leaves_what_was_there),
        cmocka_unit_test(what_is_no_engine_file_is_not_overwritten),
        cmocka_unit_test(a_build_canceled_before_or_after_any_target_writes_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
