/* cmd_bench.c - weir bench: how fast a model runs here, beside what the memory allows.
 *
 *     rates                weir_engine_measure, before and after; the faster ones count
 *     prefill              an empty session reads --prefill tokens
 *     decode               one token at a time, the window filled to --depth before
 *     decode at POS        the same in a stream that begins at --at
 *     decode, n sessions   one token for each of n sessions in one step
 *     beside a prompt      n - 1 of them, while the last one reads --prefill tokens in the room
 *                          that their chunk has left: ms/step is what a stream waits
 *
 * Prompts are random tokens, the others the likeliest; nobody waits for one before the step that
 * reads it is under way.  Every figure is the median of --repeat repetitions; p99 is of single
 * steps. The share is bytes read per second over the measured bandwidth: what a step reads is its
 * weights once and the keys and values of every session in it.  That of prefill is operations per
 * second, of products and of attention, over the measured rate of products; on a GPU only.
 *
 * SPDX-License-Identifier: MIT */
#include "base/arena.h"
#include "base/machine.h"
#include "base/rng.h"
#include "base/status.h"
#include "cli/options.h"
#include "cli/run.h"
#include "cli/term.h"

#include <stdlib.h>
#include <string.h>

typedef struct figure {
    char name[48];
    int64_t tokens;   /* of one repetition, all sessions together     */
    int steps;        /* of one repetition                            */
    double seconds;   /* median                                       */
    double low, high; /* fastest and slowest repetition               */
    double bytes;     /* read from memory by one step; 0: not counted */
    double flops;     /* of one repetition; 0: not counted            */
    double p99;       /* of single steps; 0: not taken                */
} figure;

enum { MAX_FIGURES = 5 };

typedef struct work {
    run r;
    const options *o;
    int depth;
    rng random;
    int32_t *ids; /* [n_ids] heap */
    size_t n_ids;
    double *times;           /* [repeat] heap */
    double *took;            /* [repeat * tokens] heap: seconds of single steps */
    weir_session **sessions; /* [sessions] heap; the first is r.session */
    weir_feed *feeds;        /* [sessions] heap */
    weir_rates before, after;
    figure figures[MAX_FIGURES];
    int n_figures;
} work;

/* ------------------------------------------------------------------ pieces */

static const int32_t *random_ids(work *w, size_t n) {
    for (size_t i = 0; i < n; i++) {
        w->ids[i] = (int32_t)(rng_next(&w->random) % (uint64_t)w->r.info.vocab);
    }
    return w->ids;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Adds a figure made of w->times. */
static figure *add_figure(work *w, int64_t tokens, int steps, double bytes) {
    const int n = w->o->repeat;
    figure *f = &w->figures[w->n_figures++];
    qsort(w->times, (size_t)n, sizeof *w->times, compare);
    *f = (figure){
        .tokens = tokens,
        .steps = steps,
        .seconds = n % 2 ? w->times[n / 2] : (w->times[n / 2 - 1] + w->times[n / 2]) / 2,
        .low = w->times[0],
        .high = w->times[n - 1],
        .bytes = bytes,
    };
    return f;
}

/* Operations of reading n tokens into an empty session: products, and attention, whose query heads
 * multiply with keys and with values. */
static double prompt_flops(const weir_engine_info *i, int n) {
    const double window = MIN_OF(n, i->window);
    const double keys = window * (window + 1) / 2 + (n - window) * i->window;
    return (double)i->flops_per_token * n + 4.0 * i->n_heads * i->head_dim * i->n_layers * keys;
}

/* Bytes of keys and values that one query reads with the window full. */
static double kv_bytes(const weir_engine_info *i) {
    const bool is_wide = i->kv_type && strcmp(i->kv_type, "f32") == 0;
    const bool is_narrow =
        i->kv_type && (strcmp(i->kv_type, "int8") == 0 || strcmp(i->kv_type, "fp8") == 0);
    const double row = 2.0 * i->n_layers * i->n_kv_heads *
                       (is_narrow ? i->head_dim + 4.0 : i->head_dim * (is_wide ? 4.0 : 2.0));
    return row * i->window;
}

/* What one step of n sessions reads while the window goes from depth on. */
static double step_bytes(const work *w, int n) {
    const weir_engine_info *i = &w->r.info;
    const double kv = kv_bytes(i), weights = (double)i->bytes_per_token - kv;
    double filled = (double)w->depth + (w->o->tokens - 1) / 2.0;
    if (filled > i->window) filled = i->window;
    return weights + n * kv * filled / i->window;
}

/* In repetition k, which is -1 while it warms up, done of total. */
static void show(work *w, const char *what, int k, int done, int total) {
    const uint64_t each = (uint64_t)total;
    progress_show(&w->r.progress, what, (uint64_t)MAX_OF(k, 0) * each + (uint64_t)done,
                  (uint64_t)w->o->repeat * each, false, NULL);
}

static weir_status canceled(work *w) {
    return signal_caught() ? weir_fail(&w->r.err, WEIR_ERR_CANCELED, "canceled") : WEIR_OK;
}

/* ------------------------------------------------------------------ what is timed */

static weir_status time_prefill(work *w) {
    const int n = w->o->prefill;
    for (int k = -1; k < w->o->repeat; k++) { /* the first one warms up */
        const int32_t *ids = random_ids(w, (size_t)n);
        weir_session_reset(w->r.session);
        const double start = machine_clock();
        WEIR_TRY(weir_session_feed(w->r.session, ids, (size_t)n, &w->r.err));
        if (k >= 0) w->times[k] = machine_clock() - start;
        WEIR_TRY(canceled(w));
    }
    figure *f = add_figure(w, n, 1, 0);
    f->flops = prompt_flops(&w->r.info, n);
    snprintf(f->name, sizeof f->name, "prefill %d", n);
    return WEIR_OK;
}

/* Sessions of depth tokens: filled once, then forked. */
static weir_status fill(work *w, int n) {
    weir_session_reset(w->r.session);
    const int32_t *ids = random_ids(w, (size_t)w->depth);
    WEIR_TRY(weir_session_feed(w->r.session, ids, (size_t)w->depth, &w->r.err));
    w->sessions[0] = w->r.session;
    for (int i = 1; i < n; i++) {
        WEIR_TRY(weir_session_fork(&w->sessions[i], w->r.session, &w->r.err));
        WEIR_TRY(canceled(w));
    }
    return WEIR_OK;
}

/* The next token for each of n sessions. */
static void feed_each(work *w, int n) {
    for (int i = 0; i < n; i++) w->feeds[i] = (weir_feed){.session = w->sessions[i]};
}

/* Seconds until the last step, whose tokens nobody has looked at, has ended. */
static double settle(work *w) {
    const double start = machine_clock();
    weir_session_logits(w->sessions[0]);
    return machine_clock() - start;
}

/* n sessions get --tokens tokens each; below the full window every repetition starts at depth. */
static weir_status time_decode(work *w, int n) {
    const int steps = w->o->tokens;
    const bool is_full = w->depth >= w->r.info.window;
    char what[48];
    snprintf(what, sizeof what, n == 1 ? "decoding" : "decoding %d sessions", n);
    for (int k = -1; k < w->o->repeat; k++) {
        if (k < 0 || !is_full) WEIR_TRY(fill(w, k < 0 ? n : 1));
        if (k >= 0 && !is_full) {
            for (int i = 1; i < n; i++) {
                weir_session_close(w->sessions[i]);
                w->sessions[i] = NULL;
                WEIR_TRY(weir_session_fork(&w->sessions[i], w->r.session, &w->r.err));
            }
        }
        double spent = 0;
        for (int i = 0; i < (k < 0 ? MIN_OF(steps, 8) : steps); i++) {
            const double start = machine_clock();
            feed_each(w, n);
            WEIR_TRY(weir_engine_step(w->r.engine, w->feeds, n, &w->r.err));
            const double took = machine_clock() - start;
            if (k >= 0) w->took[(size_t)k * (size_t)steps + (size_t)i] = took;
            spent += took;
            show(w, what, k, i + 1, steps);
            WEIR_TRY(canceled(w));
        }
        spent += settle(w);
        if (k >= 0) w->times[k] = spent;
    }
    figure *f = add_figure(w, (int64_t)n * steps, steps, step_bytes(w, n));
    const size_t all = (size_t)w->o->repeat * (size_t)steps;
    qsort(w->took, all, sizeof *w->took, compare);
    f->p99 = w->took[all * 99 / 100];
    snprintf(f->name, sizeof f->name, n == 1 ? "decode" : "decode, %d sessions", n);
    return WEIR_OK;
}

/* Decoding in a stream that begins at --at. */
static weir_status time_far(work *w) {
    weir_session_options far = run_session_options(&w->r);
    far.start = (uint64_t)w->o->at;
    weir_session_close(w->r.session);
    w->r.session = NULL;
    WEIR_TRY(weir_session_open(&w->r.session, w->r.engine, &far, &w->r.err));
    WEIR_TRY(time_decode(w, 1));
    figure *f = &w->figures[w->n_figures - 1];
    snprintf(f->name, sizeof f->name, "decode at %lld", (long long)w->o->at);
    return WEIR_OK;
}

/* Tokens of a prompt in one step with n - 1 streams, and the steps that a prompt takes so. */
static int room_beside(const work *w, int n) {
    return MAX_OF(w->r.info.chunk, n) - (n - 1);
}

static int steps_beside(const work *w, int n) {
    const int room = room_beside(w, n);
    return (w->o->prefill + room - 1) / room;
}

/* The last of n sessions reads a prompt; the others go on from where they are. */
static weir_status time_beside(work *w, int n) {
    const int total = w->o->prefill, room = room_beside(w, n), steps = steps_beside(w, n);
    for (int k = -1; k < w->o->repeat; k++) {
        weir_session_reset(w->sessions[n - 1]);
        double spent = 0;
        for (int at = 0; at < total;) {
            const int slice = MIN_OF(room, total - at);
            feed_each(w, n);
            w->feeds[n - 1].ids = random_ids(w, (size_t)slice);
            w->feeds[n - 1].n = slice;
            w->feeds[n - 1].is_prompt = true;
            w->feeds[n - 1].has_more = at + slice < total;
            const double start = machine_clock();
            WEIR_TRY(weir_engine_step(w->r.engine, w->feeds, n, &w->r.err));
            spent += machine_clock() - start;
            at += slice;
            show(w, "decoding beside a prompt", k, at, total);
            WEIR_TRY(canceled(w));
        }
        spent += settle(w);
        if (k >= 0) w->times[k] = spent;
    }
    figure *f = add_figure(w, total + (int64_t)(n - 1) * steps, steps, 0);
    snprintf(f->name, sizeof f->name, "%d beside a prompt", n - 1);
    return WEIR_OK;
}

/* ------------------------------------------------------------------ what is said */

static double bandwidth(const work *w) {
    return MAX_OF(w->before.read_bytes_per_second, w->after.read_bytes_per_second);
}

static double peak(const work *w) {
    return MAX_OF(w->before.flops_per_second, w->after.flops_per_second);
}

static double bytes_per_second(const figure *f) {
    return f->bytes * f->steps / f->seconds;
}

/* Of the bandwidth, or of the rate of products; 0: not known. */
static double share(const work *w, const figure *f) {
    if (f->bytes > 0) return bytes_per_second(f) / bandwidth(w);
    return f->flops > 0 && peak(w) > 0 ? f->flops / f->seconds / peak(w) : 0;
}

static void print_figure(const work *w, const figure *f) {
    char a[NUMBER_SIZE], b[NUMBER_SIZE];
    out_print("%-19s %9.1f %9.3f", f->name, (double)f->tokens / f->seconds,
              1e3 * f->seconds / f->steps);
    if (f->p99 > 0) {
        out_print(" %8.3f", 1e3 * f->p99);
    } else {
        out_print(" %8s", "");
    }
    out_print(" %5.0f %%", 100 * (f->high - f->low) / f->seconds);
    if (f->bytes > 0) {
        out_print(" %11s %10s/s", format_bytes(a, f->bytes), format_bytes(b, bytes_per_second(f)));
    } else if (share(w, f) > 0) {
        out_print(" %11s %5.1f TFLOP/s", "", 1e-12 * f->flops / f->seconds);
    }
    if (share(w, f) > 0) out_print(" %5.0f %%", 100 * share(w, f));
    out_print("\n");
}

static void print_text(const work *w) {
    const weir_engine_info *i = &w->r.info;
    char a[NUMBER_SIZE], b[NUMBER_SIZE];
    out_print("%s, %s weights, kv %s\n", run_model_name(&w->r),
              i->weight_type ? i->weight_type : "-", i->kv_type ? i->kv_type : "-");
    out_print("%s, %s, %d threads; memory reads at %s/s before, %s/s after\n",
              i->backend ? i->backend : "-", i->kernels ? i->kernels : "-", i->threads,
              format_bytes(a, w->before.read_bytes_per_second),
              format_bytes(b, w->after.read_bytes_per_second));
    if (peak(w) > 0) out_print("matrices multiply at %.1f TFLOP/s\n", 1e-12 * peak(w));
    out_print("\n%-19s %9s %9s %8s %7s %11s %12s %7s\n", "", "tok/s", "ms/step", "p99", "spread",
              "bytes/step", "rate", "share");
    for (int k = 0; k < w->n_figures; k++) print_figure(w, &w->figures[k]);
    for (int k = 0; k < w->n_figures; k++) {
        if (bytes_per_second(&w->figures[k]) <= bandwidth(w)) continue;
        out_print("\nmore than 100 %%: the model fits in the processor's caches\n");
        break;
    }
    out_print(
        "\nwindow %d, decoding from %d tokens in it; median of %d, spread is slowest - fastest\n",
        i->window, w->depth, w->o->repeat);
}

static void print_json(const work *w) {
    const weir_engine_info *i = &w->r.info;
    json_t *j = json_object(), *list = json_array();
    for (int k = 0; k < w->n_figures; k++) {
        const figure *f = &w->figures[k];
        json_t *e = json_object();
        json_object_set_new(e, "name", json_string(f->name));
        json_object_set_new(e, "tokens", json_integer(f->tokens));
        json_object_set_new(e, "steps", json_integer(f->steps));
        json_object_set_new(e, "tokens_per_second", json_number((double)f->tokens / f->seconds));
        json_object_set_new(e, "seconds", json_number(f->seconds));
        json_object_set_new(e, "seconds_fastest", json_number(f->low));
        json_object_set_new(e, "seconds_slowest", json_number(f->high));
        const bool has_bytes = f->bytes > 0;
        json_object_set_new(e, "bytes_per_step", has_bytes ? json_number(f->bytes) : json_null());
        json_object_set_new(e, "bytes_per_second",
                            has_bytes ? json_number(bytes_per_second(f)) : json_null());
        json_object_set_new(e, "share_of_bandwidth",
                            has_bytes ? json_number(bytes_per_second(f) / bandwidth(w))
                                      : json_null());
        json_object_set_new(e, "step_seconds_p99", f->p99 > 0 ? json_number(f->p99) : json_null());
        const bool has_flops = f->flops > 0;
        json_object_set_new(e, "flops_per_second",
                            has_flops ? json_number(f->flops / f->seconds) : json_null());
        json_object_set_new(e, "share_of_flops",
                            has_flops && peak(w) > 0 ? json_number(share(w, f)) : json_null());
        json_array_append_new(list, e);
    }
    json_object_set_new(j, "model", run_model_json(&w->r));
    json_object_set_new(j, "window", json_integer(i->window));
    json_object_set_new(j, "depth", json_integer(w->depth));
    json_object_set_new(j, "sessions", json_integer(w->o->sessions));
    json_object_set_new(j, "repeat", json_integer(w->o->repeat));
    json_object_set_new(j, "bandwidth_before", json_number(w->before.read_bytes_per_second));
    json_object_set_new(j, "bandwidth_after", json_number(w->after.read_bytes_per_second));
    json_object_set_new(j, "flops_per_second", peak(w) > 0 ? json_number(peak(w)) : json_null());
    json_object_set_new(j, "figures", list);
    run_print_json(j, false);
}

/* Tokens in the window when decoding begins.  Dense mode lets nothing go: it keeps room for all
 * that is decoded from there. */
static int first_depth(const work *w) {
    const options *o = w->o;
    int64_t most = w->r.info.window;
    if (o->mode - 1 == WEIR_DENSE) {
        most -= o->tokens;
        if (o->sessions > 1) most -= (int64_t)steps_beside(w, o->sessions) * (o->repeat + 1);
        most = MAX_OF(most, 1);
    }
    return o->depth == CLI_AUTO || o->depth > most ? (int)most : o->depth;
}

static weir_status bench(work *w) {
    const int n = w->o->sessions;
    w->depth = first_depth(w);
    w->n_ids = (size_t)MAX_OF(w->depth, w->o->prefill + n);
    w->ids = mem_array(w->n_ids, sizeof *w->ids);
    w->times = mem_array((size_t)w->o->repeat, sizeof *w->times);
    w->sessions = mem_array((size_t)n, sizeof *w->sessions);
    w->feeds = mem_array((size_t)n, sizeof *w->feeds);
    w->took = mem_array((size_t)w->o->repeat * (size_t)w->o->tokens, sizeof *w->took);
    if (!w->ids || !w->times || !w->sessions || !w->feeds || !w->took) {
        return weir_fail(&w->r.err, WEIR_ERR_MEMORY, "out of memory");
    }
    WEIR_TRY(weir_engine_measure(w->r.engine, &w->before, &w->r.err));
    WEIR_TRY(time_prefill(w));
    WEIR_TRY(time_decode(w, 1));
    if (w->o->at) WEIR_TRY(time_far(w));
    if (n > 1) WEIR_TRY(time_decode(w, n));
    if (n > 1) WEIR_TRY(time_beside(w, n));
    progress_end(&w->r.progress);
    WEIR_TRY(weir_engine_measure(w->r.engine, &w->after, &w->r.err));
    if (w->o->json) {
        print_json(w);
    } else {
        print_text(w);
    }
    return WEIR_OK;
}

int cmd_bench(const options *o) {
    work w = {.o = o, .random.state = (uint64_t)o->seed};
    if (run_open(&w.r, o, o->sessions) && run_open_session(&w.r)) bench(&w);
    for (int i = 1; w.sessions && i < o->sessions; i++) weir_session_close(w.sessions[i]);
    mem_free(w.sessions);
    mem_free(w.feeds);
    mem_free(w.times);
    mem_free(w.took);
    mem_free(w.ids);
    return run_end(&w.r);
}
