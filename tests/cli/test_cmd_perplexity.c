/* test_cmd_perplexity.c - weir perplexity against golden logits, and the files it writes.
 *
 * tests/data/golden has, for tiny random models, the logits that an independent float64
 * implementation gives for the same ids; its README.md has the formats.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tiny_model.h"

#include <jansson.h>
#include <math.h>

#define GOLDEN TEST_DATA "/golden"
#define IDS    GOLDEN "/ids.txt"

enum { TOKENS = 150, STRIDE = 11 };

static const double TOLERANCE = 1e-5; /* of a row: max |a - b| / max |b|, float32 arithmetic */

static char folder[256], model[300], logits_path[300];

static float *read_npy(const char *path, int *rows, int *columns) {
    size_t size;
    char *data = slurp_file(path, &size);
    assert_true(size > 128);
    assert_memory_equal(data, "\x93NUMPY\x01\x00\x76\x00", 10);
    assert_int_equal(data[127], '\n');
    data[127] = 0;
    assert_int_equal(sscanf(data + 10,
                            "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", rows,
                            columns),
                     2);
    assert_int_equal(size - 128, 4 * (size_t)*rows * (size_t)*columns);
    float *values = malloc(size - 128);
    memcpy(values, data + 128, size - 128);
    free(data);
    return values;
}

static double row_error(const float *got, const float *wanted, int n) {
    double most = 0, off = 0;
    for (int i = 0; i < n; i++) {
        most = fmax(most, fabs((double)wanted[i]));
        off = fmax(off, fabs((double)got[i] - (double)wanted[i]));
    }
    return off / most;
}

/* Row i of the npy is row i of the golden file, for the first n. */
static void check_logits(const char *name, const char *golden, int n) {
    char path[512];
    int rows, columns;
    size_t size;
    float *got = read_npy(logits_path, &rows, &columns);
    snprintf(path, sizeof path, GOLDEN "/%s/%s.f32", name, golden);
    float *wanted = (float *)(void *)slurp_file(path, &size);
    assert_int_equal(rows, n);
    assert_true(4 * (size_t)n * (size_t)columns <= size);
    for (int i = 0; i < n; i++) {
        const double error = row_error(got + i * columns, wanted + i * columns, columns);
        if (!(error <= TOLERANCE)) fail_msg("%s %s, row %d: error %.1e", name, golden, i, error);
    }
    free(got);
    free(wanted);
}

static const char *const families[] = {"llama", "qwen3", "neox", "mpt", "falcon"};

static void logits_are_the_golden_ones(void **state) {
    (void)state;
    for (size_t f = 0; f < COUNT_OF(families); f++) {
        snprintf(model, sizeof model, GOLDEN "/%s", families[f]);
        ran r = weir("", "perplexity", model, "--token-ids", IDS, "--window", "24", "--sinks", "4",
                     "--kv-type", "f32", "--logits", logits_path, NULL);
        assert_status(&r, 0);
        check_logits(families[f], "s4_w24", TOKENS);
        ran_clear(&r);
        r = weir("", "perplexity", model, "--token-ids", IDS, "--window", "56", "--mode", "dense",
                 "--limit", "56", "--kv-type", "f32", "--chunk", "7", "--logits", logits_path,
                 NULL);
        assert_status(&r, 0);
        check_logits(families[f], "dense", 56);
        ran_clear(&r);
        r = weir("", "perplexity", model, "--token-ids", IDS, "--window", "24", "--mode",
                 "recompute", "--sinks", "0", "--stride", "11", "--limit", "144", "--kv-type",
                 "f32", "--logits", logits_path, NULL);
        assert_status(&r, 0);
        check_logits(families[f], "recompute", 1 + 143 / STRIDE);
        ran_clear(&r);
    }
}

static double golden_nll(const char *name, const int *ids) {
    char path[512];
    size_t size;
    snprintf(path, sizeof path, GOLDEN "/%s/s4_w24.f32", name);
    float *x = (float *)(void *)slurp_file(path, &size);
    const int vocab = (int)(size / 4 / TOKENS);
    double nll = 0;
    for (int i = 0; i + 1 < TOKENS; i++) {
        double sum = 0;
        for (int k = 0; k < vocab; k++) sum += exp((double)x[i * vocab + k]);
        nll += log(sum) - (double)x[i * vocab + ids[i + 1]];
    }
    free(x);
    return nll;
}

static void read_ids(int ids[TOKENS]) {
    char *text = slurp_file(IDS, NULL), *p = text;
    for (int i = 0; i < TOKENS; i++) ids[i] = (int)strtol(p, &p, 10);
    free(text);
}

static void the_perplexity_is_that_of_the_golden_logits(void **state) {
    (void)state;
    int ids[TOKENS];
    read_ids(ids);
    for (size_t f = 0; f < COUNT_OF(families); f++) {
        snprintf(model, sizeof model, GOLDEN "/%s", families[f]);
        ran r = weir("", "perplexity", model, "--token-ids", IDS, "-w", "24", "--sinks", "4",
                     "--kv-type=f32", "--json", NULL);
        assert_status(&r, 0);
        json_t *j = json_loads(r.out, 0, NULL);
        assert_non_null(j);
        const double want = exp(golden_nll(families[f], ids) / (TOKENS - 1));
        const double got = json_number_value(json_object_get(j, "perplexity"));
        assert_true(fabs(got - want) < 1e-4 * want);
        assert_int_equal(json_integer_value(json_object_get(j, "tokens")), TOKENS);
        assert_int_equal(json_integer_value(json_object_get(j, "predicted")), TOKENS - 1);
        assert_int_equal(json_array_size(json_object_get(j, "tenths")), 10);
        assert_true(json_is_null(json_object_get(j, "bits_per_byte")));
        json_decref(j);
        ran_clear(&r);
    }
}

/* All are read, every STRIDE-th one shows what it predicts. */
static void a_stride_reads_every_token(void **state) {
    (void)state;
    ran r = weir("", "perplexity", GOLDEN "/llama", "--token-ids", IDS, "-w", "24", "--mode",
                 "recompute", "--stride", "11", "--json", NULL);
    assert_status(&r, 0);
    json_t *j = json_loads(r.out, 0, NULL);
    assert_non_null(j);
    assert_int_equal(json_integer_value(json_object_get(j, "tokens")), TOKENS);
    assert_int_equal(json_integer_value(json_object_get(j, "predicted")),
                     (TOKENS - 2) / STRIDE + 1);
    json_decref(j);
    ran_clear(&r);
}

/* Every predicted token is a line, and the lines add up to what is printed. */
static void the_csv_adds_up(void **state) {
    (void)state;
    char path[300];
    snprintf(path, sizeof path, "%s/nll.csv", folder);
    ran r = weir("", "perplexity", GOLDEN "/llama", "--token-ids", IDS, "-w", "24", "--csv", path,
                 NULL);
    assert_status(&r, 0);
    char *text = slurp_file(path, NULL), *p = strchr(text, '\n');
    assert_int_equal(strncmp(text, "position,nll\n", 13), 0);
    double sum = 0;
    for (int i = 1; i < TOKENS; i++) {
        assert_int_equal(strtol(p, &p, 10), i);
        assert_int_equal(*p, ',');
        sum += strtod(p + 1, &p);
    }
    assert_string_equal(p, "\n");
    char line[64];
    snprintf(line, sizeof line, "perplexity      %.2f", exp(sum / (TOKENS - 1)));
    assert_non_null(strstr(r.out, line));
    free(text);
    ran_clear(&r);
}

static void a_plot_leaves_its_data_beside_it(void **state) {
    (void)state;
    char svg[300], csv[300];
    snprintf(svg, sizeof svg, "%s/it's \"ppl\".svg", folder);
    snprintf(csv, sizeof csv, "%s/it's \"ppl\".csv", folder);
    ran r = weir("", "perplexity", GOLDEN "/llama", "--token-ids", IDS, "-w", "24", "--plot", svg,
                 NULL);
    assert_status(&r, 0);
    assert_int_equal(access(csv, R_OK), 0);
    if (access(svg, R_OK) == 0) {
        char *picture = slurp_file(svg, NULL);
        assert_non_null(strstr(picture, "<svg"));
        assert_non_null(strstr(picture, "</svg>"));
        free(picture);
        assert_string_equal(r.err, "");
    } else {
        print_message("no gnuplot: no picture\n");
        assert_one_line(&r, "weir perplexity: ", "gnuplot is not installed");
    }
    ran_clear(&r);
}

static void without_gnuplot_one_line_says_so(void **state) {
    (void)state;
    char program[] = "/usr/bin/env", path[] = "PATH=/nowhere", weir_path[] = BINARY_DIR "/weir";
    char word[] = "perplexity", name[] = GOLDEN "/llama", option[] = "--token-ids", ids[] = IDS;
    char plot[] = "--plot", svg[300];
    char *args[] = {program, path, weir_path, word, name, option, ids, plot, svg, NULL};
    snprintf(svg, sizeof svg, "%s/none.svg", folder);
    ran r = run_program(program, "", -1, args);
    assert_status(&r, 0);
    assert_one_line(&r, "weir perplexity: ", "none.csv");
    assert_int_not_equal(access(svg, R_OK), 0);
    ran_clear(&r);
}

static void a_text_gives_bits_per_byte(void **state) {
    (void)state;
    char tiny[300];
    snprintf(tiny, sizeof tiny, "%s", folder);
    tiny_model_make(tiny, NULL);
    ran r = weir("Ten bytes.", "perplexity", tiny, "--text", "-", "--json", NULL);
    assert_status(&r, 0);
    json_t *j = json_loads(r.out, 0, NULL);
    /* BOS in front, then a token for each byte: all ten are predicted */
    assert_int_equal(json_integer_value(json_object_get(j, "tokens")), 11);
    assert_int_equal(json_integer_value(json_object_get(j, "bytes")), 10);
    const double nats = json_number_value(json_object_get(j, "nats_per_token"));
    const double bits = json_number_value(json_object_get(j, "bits_per_byte"));
    assert_true(fabs(nats / log(2) - bits) < 1e-6);
    json_decref(j);
    ran_clear(&r);
    r = weir("Ten bytes.", "perplexity", tiny, "--text", "-", "--no-bos", "--limit=6", "--json",
             NULL);
    assert_status(&r, 0);
    j = json_loads(r.out, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(j, "tokens")), 6);
    assert_int_equal(json_integer_value(json_object_get(j, "bytes")), 5);
    json_decref(j);
    ran_clear(&r);
}

static void what_cannot_be_read_is_one_line(void **state) {
    (void)state;
    static const struct {
        const char *ids, *what;
    } cases[] = {
        {"", "0 tokens"},       {"7", "1 token;"},  {"1 2 three", "word 3, \"three\""},
        {"1 2 97", "token 97"}, {"1 -1", "word 2"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        ran r = weir(cases[i].ids, "perplexity", GOLDEN "/llama", "--token-ids", "-", NULL);
        assert_status(&r, 1);
        assert_one_line(&r, "weir perplexity: ", cases[i].what);
        assert_int_equal(r.out_size, 0);
        ran_clear(&r);
    }
    ran r = weir("text", "perplexity", GOLDEN "/llama", "--text", "-", NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir perplexity: ", "no tokenizer");
    ran_clear(&r);
    r = weir("", "perplexity", GOLDEN "/llama", "--token-ids", IDS, "--mode", "dense", "-w", "99",
             NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir perplexity: ", "larger --window");
    ran_clear(&r);
}

/* A file that was asked for is whole or not there. */
static void a_failure_leaves_no_files(void **state) {
    (void)state;
    char csv[300], npy[300];
    snprintf(csv, sizeof csv, "%s/failed.csv", folder);
    snprintf(npy, sizeof npy, "%s/failed.npy", folder);
    ran r = weir("", "perplexity", GOLDEN "/llama", "--token-ids", IDS, "--mode", "dense", "-w",
                 "99", "--csv", csv, "--logits", npy, NULL);
    assert_status(&r, 1);
    assert_int_not_equal(access(csv, F_OK), 0);
    assert_int_not_equal(access(npy, F_OK), 0);
    ran_clear(&r);
    r = weir("", "perplexity", GOLDEN "/llama", "--token-ids", IDS, "--csv", "/no/such/x.csv",
             NULL);
    assert_status(&r, 1);
    assert_one_line(&r, "weir perplexity: ", "/no/such/x.csv");
    ran_clear(&r);
}

static int setup(void **state) {
    (void)state;
    temporary_make(folder);
    snprintf(logits_path, sizeof logits_path, "%s/logits.npy", folder);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    temporary_clear(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_the_golden_ones),
        cmocka_unit_test(the_perplexity_is_that_of_the_golden_logits),
        cmocka_unit_test(a_stride_reads_every_token),
        cmocka_unit_test(the_csv_adds_up),
        cmocka_unit_test(a_plot_leaves_its_data_beside_it),
        cmocka_unit_test(without_gnuplot_one_line_says_so),
        cmocka_unit_test(a_text_gives_bits_per_byte),
        cmocka_unit_test(what_cannot_be_read_is_one_line),
        cmocka_unit_test(a_failure_leaves_no_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
