/* cmd_perplexity.c - weir perplexity: how well each token of a text was predicted.
 *
 *     ids -> weir_session_eval -> logits after token i -> nll of token i + 1 -> sums, CSV, npy
 *
 * The text is read in parallel; the callback sees the logits in order.  Sums are double, by tenth
 * of the text, so that a drift shows.
 *
 * SPDX-License-Identifier: MIT */
#include "base/machine.h"
#include "cli/input.h"
#include "cli/likelihood.h"
#include "cli/npy.h"
#include "cli/options.h"
#include "cli/plot.h"
#include "cli/run.h"
#include "cli/term.h"

#include <math.h>
#include <string.h>

#define LN2 0.69314718055994531

enum { TENTHS = 10, BINS = 300, CSV_PENDING = 1 << 16, LOOK_EVERY = 64 };

typedef struct tally {
    double nll; /* nats, of n tokens */
    uint64_t n;
} tally;

typedef struct work {
    run r;
    const options *o;
    buffer text;
    int32_t *encoded; /* of the library */
    id_list given;
    const int32_t *ids; /* [n] one of the two above */
    size_t n, n_front;  /* n_front: tokens in front that stand for no text */
    tally all, tenths[TENTHS], bins[BINS];
    size_t n_read; /* tokens the model has read */
    npy_writer logits;
    file_writer csv;
    bool csv_is_open;
    const char *csv_path;
    char csv_name[4096];
    buffer csv_pending;
    double start, seconds;
    weir_error callback_err; /* why the callback canceled */
} work;

/* exp of the mean; of nothing it is not a number. */
static double ppl(const tally *t) {
    return t->n ? exp(t->nll / (double)t->n) : (double)NAN;
}

/* ------------------------------------------------------------------ the text */

/* Tokens in front that no text stands for (BOS) are those an empty text gives. */
static weir_status read_text(work *w) {
    const weir_tokenizer *t = weir_engine_tokenizer(w->r.engine);
    int32_t *front = NULL;
    weir_error *err = &w->r.err;
    if (!t) {
        return weir_fail(err, WEIR_ERR_MODEL,
                         "%s: has no tokenizer, so --text cannot be read; give --token-ids",
                         run_model_name(&w->r));
    }
    const int flags = w->o->no_bos ? 0 : WEIR_ADD_BOS;
    WEIR_TRY(weir_tokenize(t, "", 0, flags, &front, &w->n_front, err));
    weir_free(front);
    WEIR_TRY(weir_tokenize(t, w->text.data ? w->text.data : "", w->text.size, flags, &w->encoded,
                           &w->n, err));
    w->ids = w->encoded;
    return WEIR_OK;
}

static weir_status read_tokens(work *w) {
    if (w->o->token_ids) {
        WEIR_TRY(input_ids(&w->given, w->o->token_ids, w->r.info.vocab, &w->r.err));
        w->ids = w->given.ids;
        w->n = w->given.n;
    } else {
        WEIR_TRY(read_text(w));
    }
    if (w->o->limit != CLI_AUTO && (size_t)w->o->limit < w->n) w->n = (size_t)w->o->limit;
    if (w->n >= 2) return WEIR_OK;
    return weir_fail(&w->r.err, WEIR_ERR_ARGUMENT,
                     "%s: %zu token%s; the first is not predicted, so two are needed",
                     w->o->token_ids ? w->o->token_ids : w->o->text, w->n, w->n == 1 ? "" : "s");
}

/* Bytes of text that the predicted ones of the first n tokens stand for; 0: not known. */
static size_t predicted_bytes(const work *w, size_t n) {
    const size_t from = w->n_front ? w->n_front : 1;
    char *text = NULL;
    size_t size = 0;
    if (!w->encoded || n <= from || w->o->stride > 1) return 0;
    weir_error err;
    const weir_tokenizer *t = weir_engine_tokenizer(w->r.engine);
    if (weir_detokenize(t, w->ids + from, n - from, &text, &size, &err) != WEIR_OK) size = 0;
    weir_free(text);
    return size;
}

/* ------------------------------------------------------------------ while it runs */

static weir_status csv_flush(work *w) {
    const size_t size = w->csv_pending.size;
    w->csv_pending.size = 0;
    return size ? file_write(&w->csv, w->csv_pending.data, size, &w->callback_err) : WEIR_OK;
}

static weir_status csv_add(work *w, size_t position, double nll) {
    char line[64];
    const int n = snprintf(line, sizeof line, "%zu,%.6f\n", position, nll);
    if (!buffer_append(&w->csv_pending, line, (size_t)n)) {
        return weir_fail(&w->callback_err, WEIR_ERR_MEMORY, "%s: out of memory", w->csv_path);
    }
    return w->csv_pending.size < CSV_PENDING ? WEIR_OK : csv_flush(w);
}

/* Token `position` was predicted with this likelihood. */
static weir_status count(work *w, size_t position, double nll) {
    if (!isfinite(nll)) {
        return weir_fail(&w->callback_err, WEIR_ERR_DEVICE,
                         "the logits after token %zu are not finite numbers", position - 1);
    }
    tally *const tenth = &w->tenths[position * TENTHS / w->n];
    tally *const bin = &w->bins[(uint64_t)position * BINS / w->n];
    tally *const tallies[] = {&w->all, tenth, bin};
    for (int i = 0; i < 3; i++) {
        tallies[i]->nll += nll;
        tallies[i]->n++;
    }
    return w->csv_is_open ? csv_add(w, position, nll) : WEIR_OK;
}

/* Called with the logits after token i, in order; in recompute mode for every stride-th i. */
static int on_logits(void *user, size_t i, const float *logits) {
    work *w = user;
    const int vocab = w->r.info.vocab;
    w->n_read = i + 1;
    if (w->logits.is_open && npy_write(&w->logits, logits, &w->callback_err) != WEIR_OK) return 1;
    if (i + 1 < w->n && count(w, i + 1, likelihood_nll(logits, vocab, w->ids[i + 1])) != WEIR_OK) {
        return 1;
    }
    if (w->all.n % LOOK_EVERY == 0) {
        char note[48];
        snprintf(note, sizeof note, "ppl %.2f", ppl(&w->all));
        progress_show(&w->r.progress, "reading", i + 1, w->n, false, note);
    }
    return signal_caught() != 0;
}

/* A failure in the callback cancels the engine; its own message is the one that matters. */
static weir_status evaluate(work *w) {
    w->start = machine_clock();
    w->r.hides_progress = true;
    const weir_status status = weir_session_eval(w->r.session, w->ids, w->n, (size_t)w->o->stride,
                                                 on_logits, w, &w->r.err);
    w->seconds = machine_clock() - w->start;
    if (status == WEIR_OK) w->n_read = w->n; /* a stride shows not even the last ones */
    progress_end(&w->r.progress);
    if (w->callback_err.status != WEIR_OK) {
        w->r.err = w->callback_err;
        return w->callback_err.status;
    }
    return status;
}

/* ------------------------------------------------------------------ files */

static weir_status open_files(work *w) {
    const options *o = w->o;
    weir_error *err = &w->r.err;
    w->csv_path = o->csv;
    if (!o->csv && o->plot) { /* the data is always there: ppl.svg has ppl.csv beside it */
        const char *dot = strrchr(o->plot, '.'), *slash = strrchr(o->plot, '/');
        const size_t n =
            dot && (!slash || dot > slash + 1) ? (size_t)(dot - o->plot) : strlen(o->plot);
        snprintf(w->csv_name, sizeof w->csv_name, "%.*s.csv", (int)n, o->plot);
        w->csv_path = w->csv_name;
    }
    if (w->csv_path) {
        WEIR_TRY(file_create(&w->csv, w->csv_path, err));
        w->csv_is_open = true;
        WEIR_TRY(file_write(&w->csv, "position,nll\n", 13, err));
    }
    return o->logits ? npy_open(&w->logits, o->logits, w->r.info.vocab, err) : WEIR_OK;
}

static weir_status close_files(work *w) {
    if (w->csv_is_open) {
        WEIR_TRY(csv_flush(w) == WEIR_OK ? WEIR_OK : (w->r.err = w->callback_err).status);
        w->csv_is_open = false;
        WEIR_TRY(file_commit(&w->csv, &w->r.err));
    }
    return w->logits.is_open ? npy_close(&w->logits, &w->r.err) : WEIR_OK;
}

/* Each point is the perplexity of one of BINS equal stretches of the text. */
static weir_status draw_plot(work *w) {
    double x[BINS], y[BINS];
    int n = 0;
    for (int i = 0; i < BINS; i++) {
        if (!w->bins[i].n) continue;
        x[n] = ((double)i + 0.5) * (double)w->n / BINS;
        y[n++] = ppl(&w->bins[i]);
    }
    char title[256];
    snprintf(title, sizeof title, "%s: perplexity %.2f over %zu tokens", run_model_name(&w->r),
             ppl(&w->all), w->n);
    buffer script = {0};
    weir_status status = WEIR_OK;
    if (!plot_script(&script, title, "token", "perplexity", x, y, n)) {
        status = weir_fail(&w->r.err, WEIR_ERR_MEMORY, "%s: out of memory", w->o->plot);
    } else {
        status = plot_run(w->o->plot, script.data, script.size, &w->r.err);
    }
    buffer_clear(&script);
    return status;
}

/* ------------------------------------------------------------------ what is said */

static const char *mode_name(const options *o) {
    static const char *const names[] = {"streaming", "streaming", "dense", "window", "recompute"};
    return names[o->mode];
}

static void print_text(const work *w, size_t bytes) {
    char a[NUMBER_SIZE], b[NUMBER_SIZE];
    weir_session_stats s;
    weir_session_get_stats(w->r.session, &s);
    out_print("%s, %s, window %s, %d pinned\n\n", run_model_name(&w->r), mode_name(w->o),
              format_count(a, (uint64_t)s.window), s.pinned);
    out_print("  %25s %12s\n", "tokens", "perplexity");
    for (size_t i = 0; i < TENTHS; i++) {
        const size_t from = (i * w->n + TENTHS - 1) / TENTHS;
        const size_t to = ((i + 1) * w->n + TENTHS - 1) / TENTHS;
        if (!w->tenths[i].n) continue;
        out_print("  %11s - %11s %12.4f\n", format_count(a, from), format_count(b, to - 1),
                  ppl(&w->tenths[i]));
    }
    out_print("  %25s %12.4f\n\n", "all", ppl(&w->all));
    out_print("tokens          %s, %s predicted\n", format_count(a, w->n_read),
              format_count(b, w->all.n));
    out_print("perplexity      %.4f\n", ppl(&w->all));
    out_print("bits per token  %.4f\n", w->all.nll / (double)w->all.n / LN2);
    if (bytes) out_print("bits per byte   %.4f\n", w->all.nll / LN2 / (double)bytes);
    out_print("time            %s, %s tok/s\n", format_seconds(a, w->seconds),
              format_count(b, (uint64_t)((double)w->n_read / w->seconds + 0.5)));
}

static void print_json(const work *w, size_t bytes) {
    json_t *j = json_object(), *tenths = json_array();
    for (int i = 0; i < TENTHS; i++) json_array_append_new(tenths, json_number(ppl(&w->tenths[i])));
    json_object_set_new(j, "model", run_model_json(&w->r));
    json_object_set_new(j, "mode", json_string(mode_name(w->o)));
    json_object_set_new(j, "tokens", json_integer((json_int_t)w->n_read));
    json_object_set_new(j, "predicted", json_integer((json_int_t)w->all.n));
    json_object_set_new(j, "perplexity", json_number(ppl(&w->all)));
    json_object_set_new(j, "nats_per_token", json_number(w->all.nll / (double)w->all.n));
    json_object_set_new(j, "bits_per_byte",
                        bytes ? json_number(w->all.nll / LN2 / (double)bytes) : json_null());
    json_object_set_new(j, "bytes", bytes ? json_integer((json_int_t)bytes) : json_null());
    json_object_set_new(j, "tenths", tenths);
    json_object_set_new(j, "seconds", json_number(w->seconds));
    json_object_set_new(j, "tokens_per_second", json_number((double)w->n_read / w->seconds));
    json_object_set_new(j, "stats", run_stats_json(&w->r));
    run_print_json(j, false);
}

/* bytes: token n_read was predicted, though not read, when the run was cut short. */
static void report(const work *w) {
    if (!w->all.n) return;
    const size_t bytes = predicted_bytes(w, w->n_read < w->n ? w->n_read + 1 : w->n);
    if (w->o->json) {
        print_json(w, bytes);
    } else {
        print_text(w, bytes);
    }
}

static weir_status perplexity(work *w) {
    const bool plots = w->o->plot && plot_is_possible();
    WEIR_TRY(read_tokens(w));
    WEIR_TRY(open_files(w));
    if (w->o->plot && !plots) {
        complain(w->o->command,
                 "%s: gnuplot is not installed, so there will be no picture; its "
                 "data goes to %s",
                 w->o->plot, w->csv_path);
    }
    const weir_status status = evaluate(w);
    if (status == WEIR_ERR_CANCELED && signal_caught()) { /* what there is so far */
        complain(w->o->command, "interrupted after %zu of %zu tokens", w->n_read, w->n);
        report(w);
        w->r.err = (weir_error){0}; /* said */
    }
    WEIR_TRY(status);
    report(w);
    WEIR_TRY(close_files(w));
    return plots ? draw_plot(w) : WEIR_OK;
}

/* What can be told without the model is told before it is loaded. */
static bool check_options(const options *o) {
    if (!o->text == !o->token_ids) {
        complain(o->command, "give --text FILE or --token-ids FILE%s", o->text ? ", not both" : "");
        return false;
    }
    if (o->stride > 1 && o->mode - 1 != WEIR_RECOMPUTE) {
        complain(o->command,
                 "--stride %d needs --mode recompute: the other modes read every "
                 "token anyway",
                 o->stride);
        return false;
    }
    return true;
}

int cmd_perplexity(const options *o) {
    work w = {.o = o, .r.o = o};
    if (!check_options(o)) return EXIT_USAGE;
    if (!o->text || input_read(&w.text, o->text, &w.r.err) == WEIR_OK) {
        if (run_open(&w.r, o, 1) && run_open_session(&w.r)) perplexity(&w);
    }
    npy_abandon(&w.logits);
    if (w.csv_is_open) file_abandon(&w.csv);
    buffer_clear(&w.csv_pending);
    buffer_clear(&w.text);
    weir_free(w.encoded);
    id_list_clear(&w.given);
    return run_end(&w.r);
}
