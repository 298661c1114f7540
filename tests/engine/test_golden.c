/* test_golden.c - the engine's logits are those of an independent float64 implementation.
 *
 * tests/data/golden holds a tiny random model of every family and, for many settings, the logits
 * that tools/reference.py computes by the definition of the streaming rule: un-rotated keys, each
 * rotated at its index in the cache for every query.  Its README.md has the file formats.  Every
 * case runs with chunks of 1, 7 and 64 tokens and with streams that start at 0, 10^6 and 2^40,
 * which must change nothing; the slow back end runs each chunk from one start only.
 *
 * The error of a row is max |a - b| / max |b|; float32 arithmetic gives some 1e-6 here, and the
 * settings differ from each other by 2e-2 and more.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN TEST_DATA "/golden"

enum { MAX_TOKENS = 256, MAX_VOCAB = 128, MAX_PINS = 8, MAX_TURNS = 32, STRIDE = 11 };

static const double TOLERANCE = 1e-5;
/* 16-bit weights may meet activations rounded to bfloat16, 8 bits of mantissa, in every product. */
static const double TOLERANCE_16_BIT = 2e-2;

typedef struct golden_case { /* a line of cases.txt */
    char family[32], name[32], mode[16];
    int sinks, window, n;
    int n_pins, pins[MAX_PINS][3]; /* at, from, to */
    int n_turns, turns[MAX_TURNS]; /* n_turns -1: policy token */
    int n_rows, rows[MAX_TOKENS];
} golden_case;

typedef struct golden_run { /* one case in one setting */
    const golden_case *c;
    const char *backend;
    int chunk;
    uint64_t start;
    double tolerance;

    int vocab;
    int at;       /* index of the first token of the eval that runs */
    int compared; /* rows so far */
    double worst; /* error of them */
    float wanted[MAX_TOKENS][MAX_VOCAB];
} golden_run;

/* ---- files */

static bool read_int(FILE *file, int *out) {
    return fscanf(file, "%d", out) == 1;
}

static bool read_ints(FILE *file, int *out, int n, int most) {
    if (n > most) return false;
    for (int i = 0; i < n; i++) {
        if (!read_int(file, &out[i])) return false;
    }
    return true;
}

/* False at the end of the file; a malformed line fails the test. */
static bool read_case(FILE *file, golden_case *c) {
    *c = (golden_case){0};
    if (fscanf(file, "%31s %31s %15s", c->family, c->name, c->mode) != 3) return false;
    const bool is_whole =
        read_int(file, &c->sinks) && read_int(file, &c->window) && read_int(file, &c->n) &&
        read_int(file, &c->n_pins) && read_ints(file, c->pins[0], 3 * c->n_pins, 3 * MAX_PINS) &&
        read_int(file, &c->n_turns) && read_ints(file, c->turns, c->n_turns, MAX_TURNS) &&
        read_int(file, &c->n_rows) && read_ints(file, c->rows, c->n_rows, MAX_TOKENS);
    assert_true(is_whole);
    return true;
}

static int read_ids(int32_t *ids) {
    FILE *file = fopen(GOLDEN "/ids.txt", "r");
    assert_non_null(file);
    int n = 0;
    for (int id; n < MAX_TOKENS && read_int(file, &id);) ids[n++] = id;
    fclose(file);
    return n;
}

static void read_wanted(golden_run *run) {
    char path[512];
    snprintf(path, sizeof path, GOLDEN "/%.31s/%.31s.f32", run->c->family, run->c->name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    for (int i = 0; i < run->c->n_rows; i++) {
        assert_int_equal(fread(run->wanted[i], sizeof(float), (size_t)run->vocab, file),
                         run->vocab);
    }
    assert_int_equal(fgetc(file), EOF);
    fclose(file);
}

/* ---- running a case */

static double row_error(const float *got, const float *wanted, int n) {
    double difference = 0, largest = 0;
    for (int i = 0; i < n; i++) {
        if (!isfinite(got[i])) return INFINITY;
        difference = fmax(difference, fabs((double)got[i] - (double)wanted[i]));
        largest = fmax(largest, fabs((double)wanted[i]));
    }
    return difference / largest;
}

static int compare_row(void *user, size_t i, const float *logits) {
    golden_run *run = user;
    const golden_case *c = run->c;
    const int row = run->at + (int)i;
    for (int r = 0; r < c->n_rows; r++) {
        if (c->rows[r] != row) continue;
        run->worst = fmax(run->worst, row_error(logits, run->wanted[r], run->vocab));
        run->compared++;
    }
    return 0;
}

static weir_mode mode_of(const char *name) {
    if (!strcmp(name, "dense")) return WEIR_DENSE;
    if (!strcmp(name, "window")) return WEIR_WINDOW;
    if (!strcmp(name, "recompute")) return WEIR_RECOMPUTE;
    assert_string_equal(name, "streaming");
    return WEIR_STREAMING;
}

/* The next token, from `at`, before which something must happen. */
static int next_event(const golden_case *c, int at) {
    int next = c->n;
    for (int i = 0; i < c->n_pins; i++) {
        if (c->pins[i][0] > at) next = MIN_OF(next, c->pins[i][0]);
    }
    for (int i = 0; i < c->n_turns; i++) {
        if (c->turns[i] > at) next = MIN_OF(next, c->turns[i]);
    }
    return next;
}

static weir_status events_at(weir_session *s, const golden_case *c, int at, uint64_t start,
                             weir_error *err) {
    for (int i = 0; i < c->n_pins; i++) {
        const int *pin = c->pins[i];
        if (pin[0] != at) continue;
        WEIR_TRY(weir_session_pin(s, start + (uint64_t)pin[1], start + (uint64_t)pin[2], err));
    }
    for (int i = 0; i < c->n_turns; i++) {
        if (c->turns[i] == at) window_mark_turn(&s->window);
    }
    return WEIR_OK;
}

/* Rows that are looked at: all stored ones, in recompute mode those that a stride reaches. */
static int rows_to_compare(const golden_case *c, size_t stride) {
    int n = 0;
    for (int r = 0; r < c->n_rows; r++) n += c->rows[r] % (int)stride == 0;
    return n;
}

static weir_status feed_case(golden_run *run, weir_session *s, const int32_t *ids,
                             weir_error *err) {
    const golden_case *c = run->c;
    const size_t stride = mode_of(c->mode) == WEIR_RECOMPUTE ? STRIDE : 1;
    run->compared = 0;
    for (int at = 0; at < c->n;) {
        WEIR_TRY(events_at(s, c, at, run->start, err));
        const int end = next_event(c, at);
        run->at = at;
        WEIR_TRY(weir_session_eval(s, ids + at, (size_t)(end - at), stride, compare_row, run, err));
        at = end;
    }
    if (run->compared != rows_to_compare(c, stride)) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "%d rows shown, wanted %d", run->compared,
                         rows_to_compare(c, stride));
    }
    return WEIR_OK;
}

static weir_status run_session(golden_run *run, weir_engine *engine, const int32_t *ids,
                               weir_error *err) {
    const golden_case *c = run->c;
    const weir_session_options options = {.mode = mode_of(c->mode),
                                          .policy =
                                              c->n_turns < 0 ? WEIR_EVICT_TOKEN : WEIR_EVICT_TURN,
                                          .sinks = c->sinks ? c->sinks : WEIR_NO_SINKS,
                                          .start = run->start};
    weir_session *s;
    WEIR_TRY(weir_session_open(&s, engine, &options, err));
    run->worst = 0;
    const weir_status status = feed_case(run, s, ids, err);
    weir_session_close(s);
    return status;
}

/* Runs one case in one chunk size, from every start unless only_start >= 0; returns how often it
 * failed. */
static int run_engine(golden_run *run, const int32_t *ids, int only_start) {
    static const uint64_t starts[] = {0, 1000000, (uint64_t)1 << 40};
    const golden_case *c = run->c;
    char path[512];
    snprintf(path, sizeof path, GOLDEN "/%.31s", c->family);
    const weir_engine_options options = {.backend = run->backend,
                                         .threads = 1,
                                         .window = c->window,
                                         .max_sinks = MIN_OF(c->window - 1, 40),
                                         .chunk = run->chunk,
                                         .kernel_cache = BINARY_DIR "/kernels",
                                         .kv_type = WEIR_F32};
    weir_engine *engine;
    weir_error err = {0};
    if (weir_engine_open(&engine, path, &options, &err) != WEIR_OK) {
        print_error("%s on %s: %s\n", path, run->backend, err.message);
        return 1;
    }
    weir_engine_info info;
    weir_engine_get_info(engine, &info);
    assert_in_range(info.vocab, 1, MAX_VOCAB);
    run->vocab = info.vocab;
    read_wanted(run);

    int failures = 0;
    for (size_t i = 0; i < COUNT_OF(starts); i++) {
        if (only_start >= 0 && (int)i != only_start) continue;
        run->start = starts[i];
        if (run_session(run, engine, ids, &err) != WEIR_OK) {
            run->worst = INFINITY;
            print_error("%s\n", err.message);
        }
        if (run->worst <= run->tolerance) continue;
        failures++;
        print_error("%s %s on %s, chunk %d, start %" PRIu64 ": error %.2e, at most %.0e wanted\n",
                    c->family, c->name, run->backend, run->chunk, run->start, run->worst,
                    run->tolerance);
    }
    weir_engine_close(engine);
    return failures;
}

static bool is_16_bit(const golden_case *c) {
    return !strcmp(c->family, "llama_bf16") || !strcmp(c->family, "neox_f16");
}

static bool is_fp8(const golden_case *c) {
    return !strncmp(c->family, "fp8_", 4);
}

static bool is_whole(const golden_case *c) { /* weights of 32 bits */
    return !is_16_bit(c) && !is_fp8(c);
}

/* Runs the cases that `is_wanted` picks, which must not be none. */
static void run_cases(const char *name, bool (*is_wanted)(const golden_case *)) {
    static const int chunks[] = {1, 7, 64};
    int32_t ids[MAX_TOKENS];
    const int n_ids = read_ids(ids);
    FILE *file = fopen(GOLDEN "/cases.txt", "r");
    assert_non_null(file);
    const bool is_slow = !strcmp(name, "ref");
    int cases = 0, failures = 0;
    for (golden_case c; read_case(file, &c);) {
        if (!is_wanted(&c)) continue;
        assert_in_range(c.n, 1, n_ids);
        cases++;
        for (size_t i = 0; i < COUNT_OF(chunks); i++) {
            static golden_run run; /* 128 KiB: too much for a stack under a sanitizer */
            run = (golden_run){.c = &c, .backend = name, .chunk = chunks[i]};
            run.tolerance =
                is_16_bit(&c) || (is_fp8(&c) && !is_slow) ? TOLERANCE_16_BIT : TOLERANCE;
            failures += run_engine(&run, ids, is_slow ? (int)i : -1);
        }
    }
    fclose(file);
    assert_true(cases > 0);
    assert_int_equal(failures, 0);
}

/* ---- promises */

static bool is_dense(const golden_case *c) {
    return is_whole(c) && !strcmp(c->mode, "dense");
}

static bool is_streaming(const golden_case *c) {
    return is_whole(c) && !strcmp(c->mode, "streaming") && !c->n_pins && c->n_turns < 0;
}

static bool is_other_mode(const golden_case *c) {
    return is_whole(c) && (!strcmp(c->mode, "window") || !strcmp(c->mode, "recompute"));
}

static bool is_pinning(const golden_case *c) {
    return c->n_pins && c->n_turns < 0;
}

static bool is_by_turns(const golden_case *c) {
    return c->n_turns >= 0;
}

static void dense_logits_are_those_of_transformers(void **state) {
    run_cases(*state, is_dense);
}

static void streaming_logits_are_those_of_the_definition(void **state) {
    run_cases(*state, is_streaming);
}

static void window_and_recompute_logits_are_those_of_the_definition(void **state) {
    run_cases(*state, is_other_mode);
}

static void spans_pinned_later_are_seen_as_the_definition_sees_them(void **state) {
    run_cases(*state, is_pinning);
}

static void turns_leave_whole_as_in_the_definition(void **state) {
    run_cases(*state, is_by_turns);
}

static void weights_of_16_bits_give_the_same_logits_within_their_precision(void **state) {
    run_cases(*state, is_16_bit);
}

static void fp8_weights_are_codes_times_scales_by_every_convention(void **state) {
    run_cases(*state, is_fp8);
}

/* test_golden ['cpu*']: all, or the tests of one back end.  test_golden --on cuda: on another. */
int main(int argc, char **argv) {
    static char ref[] = "ref", cpu[] = "cpu";
#define ON(backend, promise) \
    { #backend ": " #promise, promise, NULL, NULL, backend }
#define ON_BOTH(promise) ON(ref, promise), ON(cpu, promise)
    const struct CMUnitTest tests[] = {
        ON_BOTH(dense_logits_are_those_of_transformers),
        ON_BOTH(streaming_logits_are_those_of_the_definition),
        ON_BOTH(window_and_recompute_logits_are_those_of_the_definition),
        ON_BOTH(spans_pinned_later_are_seen_as_the_definition_sees_them),
        ON_BOTH(turns_leave_whole_as_in_the_definition),
        ON_BOTH(weights_of_16_bits_give_the_same_logits_within_their_precision),
        ON_BOTH(fp8_weights_are_codes_times_scales_by_every_convention),
    };
    if (argc == 3 && !strcmp(argv[1], "--on")) {
        weir_engine *held; /* a device stays open between the many engines */
        const weir_engine_options options = {.backend = argv[2]};
        weir_error err;
        if (weir_engine_open(&held, GOLDEN "/llama", &options, &err) != WEIR_OK) {
            print_error("%s\n", err.message);
            return 1;
        }
        const struct CMUnitTest alone[] = {
            {"dense", dense_logits_are_those_of_transformers, NULL, NULL, argv[2]},
            {"streaming", streaming_logits_are_those_of_the_definition, NULL, NULL, argv[2]},
            {"window, recompute", window_and_recompute_logits_are_those_of_the_definition, NULL,
             NULL, argv[2]},
            {"pins", spans_pinned_later_are_seen_as_the_definition_sees_them, NULL, NULL, argv[2]},
            {"turns", turns_leave_whole_as_in_the_definition, NULL, NULL, argv[2]},
            {"16 bit", weights_of_16_bits_give_the_same_logits_within_their_precision, NULL, NULL,
             argv[2]},
            {"fp8", fp8_weights_are_codes_times_scales_by_every_convention, NULL, NULL, argv[2]},
        };
        return cmocka_run_group_tests(alone, NULL, NULL);
    }
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
