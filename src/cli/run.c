/* run.c - options to engines and sessions, and how a run ends.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/run.h"

#include "base/file.h"
#include "base/status.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/random.h>

/* Bytes are counted while weights load, tokens while prompts are read. */
static int on_progress(void *user, const char *what, uint64_t done, uint64_t total) {
    run *r = user;
    const bool is_bytes = strstr(what, "weights") != NULL;
    if (!r->hides_progress) progress_show(&r->progress, what, done, total, is_bytes, NULL);
    return signal_caught() != 0;
}

/* A seed short enough to be typed again. */
static int64_t draw_seed(void) {
    uint32_t seed;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (uint32_t)time(NULL);
    return seed;
}

const char *run_model_name(const run *r) {
    return r->o->model ? r->o->model : "the built-in model";
}

int64_t run_seed(const options *o) {
    return o->seed == CLI_AUTO ? draw_seed() : o->seed;
}

static int or_zero(int value) {
    return value == CLI_AUTO ? 0 : value;
}

/* --sinks beyond the default of --max-sinks, a quarter of the window, makes room for itself. */
static int most_sinks(const options *o) {
    const bool is_more = o->sinks != CLI_AUTO && o->window != CLI_AUTO && o->sinks > o->window / 4;
    return o->max_sinks == CLI_AUTO && is_more ? o->sinks : or_zero(o->max_sinks);
}

/* $XDG_CACHE_HOME/weir or ~/.cache/weir; "": there is none. */
static void find_kernel_cache(char *path, size_t size) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (cache && cache[0] == '/') {
        n = snprintf(path, size, "%s/weir", cache);
    } else if (home && home[0] == '/') {
        n = snprintf(path, size, "%s/.cache/weir", home);
    }
    if (n <= 0 || (size_t)n >= size) path[0] = 0;
}

/* Choices are 1-based, so their tables begin with what was not given. */
weir_engine_options run_engine_options(run *r, const options *o, int sessions) {
    static const weir_type kv_types[] = {WEIR_TYPE_DEFAULT, WEIR_F32,  WEIR_F16,
                                         WEIR_BF16,         WEIR_INT8, WEIR_FP8};
    static const weir_type weights[] = {WEIR_TYPE_DEFAULT, WEIR_Q8, WEIR_Q4};
    return (weir_engine_options){
        .backend = o->backend,
        .engine_file = o->engine,
        .threads = or_zero(o->threads),
        .sessions = sessions,
        .window = or_zero(o->window),
        .max_sinks = most_sinks(o),
        .chunk = or_zero(o->chunk),
        .kv_type = kv_types[o->kv_type],
        .weights = weights[o->quantize],
        .progress = on_progress,
        .progress_user = r,
    };
}

bool run_open(run *r, const options *o, int sessions) {
    *r = (run){.o = o, .seed = run_seed(o), .progress.off = o->quiet};
    find_kernel_cache(r->kernel_cache, sizeof r->kernel_cache);
    weir_engine_options wanted = run_engine_options(r, o, sessions);
    wanted.kernel_cache = r->kernel_cache[0] ? r->kernel_cache : NULL;
    const weir_status status = weir_engine_open(&r->engine, o->model, &wanted, &r->err);
    progress_end(&r->progress);
    if (status != WEIR_OK) return false;
    weir_engine_get_info(r->engine, &r->info);
    return true;
}

weir_sampling run_sampling(const options *o, int64_t seed) {
    weir_sampling s = {
        .temperature = o->greedy ? 0 : o->temp,
        .top_k = o->top_k,
        .top_p = o->top_p,
        .min_p = o->min_p,
        .typical_p = o->typical_p,
        .repeat_penalty = o->repeat_penalty,
        .presence_penalty = o->presence_penalty,
        .frequency_penalty = o->frequency_penalty,
        .penalty_last = o->penalty_last,
        .seed = (uint64_t)seed,
        .max_tokens = MAX_OF(o->tokens, 0),
        .bias_ids = o->bias.ids,
        .bias_values = o->bias.values,
        .n_bias = o->bias.n,
        .no_loop_guard = o->no_loop_guard,
        .ignore_eos = o->ignore_eos,
    };
    for (int i = 0; i < o->n_stops; i++) s.stops[i] = o->stops[i];
    return s;
}

weir_session_options run_session_options(const run *r) {
    const options *o = r->o;
    return (weir_session_options){
        .mode = o->mode ? (weir_mode)(o->mode - 1) : WEIR_STREAMING,
        .policy = o->evict ? (weir_policy)(o->evict - 1) : WEIR_EVICT_TOKEN,
        .sinks = o->sinks == CLI_AUTO ? 0
                 : o->sinks           ? o->sinks
                                      : WEIR_NO_SINKS,
        .sampling = run_sampling(o, r->seed),
    };
}

bool run_open_session(run *r) {
    const weir_session_options wanted = run_session_options(r);
    return weir_session_open(&r->session, r->engine, &wanted, &r->err) == WEIR_OK;
}

weir_status run_restore(run *r, const char *path) {
    WEIR_TRY(weir_session_restore(r->session, path, &r->err));
    r->seed_is_past = r->o->seed == CLI_AUTO;
    if (r->seed_is_past) return WEIR_OK;
    const weir_sampling s = run_sampling(r->o, r->seed);
    return weir_session_set_sampling(r->session, &s, &r->err);
}

static void interrupt(void *session) {
    weir_session_interrupt(session);
}

bool run_next(run *r, weir_text *out) {
    weir_error why;
    signal_watch(interrupt, r->session);
    if (signal_caught()) interrupt(r->session);
    const weir_status status = weir_session_next(r->session, out, r->err.status ? &why : &r->err);
    signal_watch(NULL, NULL);
    if (status != WEIR_ERR_FULL) return status == WEIR_OK && out->size;
    interrupt(r->session);
    return weir_session_next(r->session, out, &why) == WEIR_OK && out->size;
}

bool run_check_save(run *r, const char *path) {
    file_writer probe;
    if (!path) return true;
    if (file_create(&probe, path, &r->err) != WEIR_OK) return false;
    file_abandon(&probe);
    return true;
}

/* A signal is no failure to explain: who sent it knows. */
int run_end(run *r) {
    progress_end(&r->progress);
    const int number = signal_caught();
    int status = EXIT_OK;
    if (number) {
        status = 128 + number;
    } else if (r->err.status != WEIR_OK) {
        status = EXIT_FAILED;
    }
    if (r->err.status != WEIR_OK && !(number && r->err.status == WEIR_ERR_CANCELED)) {
        const bool is_full = r->err.status == WEIR_ERR_FULL;
        complain(r->o->command, "%s%s", r->err.message,
                 is_full ? "; or take a larger --window" : "");
    } else if (r->err.status == WEIR_ERR_CANCELED) {
        complain(r->o->command, "interrupted");
    }
    weir_session_close(r->session);
    weir_engine_close(r->engine);
    r->session = NULL;
    r->engine = NULL;
    return status;
}

/* ------------------------------------------------------------------ statistics */

void run_window_text(char *out, size_t size, const weir_session_stats *s) {
    char in[NUMBER_SIZE], window[NUMBER_SIZE], pinned[NUMBER_SIZE], gone[NUMBER_SIZE];
    int n = snprintf(out, size, "window %s of %s (%s pinned) · evicted %s token%s",
                     format_count(in, (uint64_t)s->in_window),
                     format_count(window, (uint64_t)s->window),
                     format_count(pinned, (uint64_t)s->pinned),
                     format_count(gone, s->evicted_tokens), s->evicted_tokens == 1 ? "" : "s");
    if (s->evicted_turns && n > 0 && (size_t)n < size) {
        snprintf(out + n, size - (size_t)n, ", %s turn%s", format_count(gone, s->evicted_turns),
                 s->evicted_turns == 1 ? "" : "s");
    }
}

void run_print_row(const char *name, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    out_print("%-20s", name);
    out_text(text, strlen(text)); /* names come from files */
    out_print("\n");
}

json_t *json_number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}

void run_print_json(json_t *object, bool on_one_line) {
    const size_t layout = on_one_line ? JSON_COMPACT : JSON_INDENT(2);
    char *text = json_dumps(object, layout | JSON_REAL_PRECISION(9));
    json_decref(object);
    if (!text) {
        complain(NULL, "out of memory while JSON was written");
        return;
    }
    out_write(text, strlen(text));
    out_write("\n", 1);
    free(text);
}

const char *end_word(weir_end end) {
    switch (end) {
    case WEIR_END_TURN: return "turn";
    case WEIR_END_STOP: return "stop";
    case WEIR_END_LOOP: return "loop";
    case WEIR_END_LENGTH: return "length";
    case WEIR_END_INTERRUPT: return "signal";
    case WEIR_END_NONE: break;
    }
    return "none";
}

void run_seed_text(char *out, size_t size, const run *r) {
    out[0] = 0;
    if (!r->seed_is_past) snprintf(out, size, " · seed %lld", (long long)r->seed);
}

static void set_count(json_t *object, const char *key, uint64_t n) {
    json_object_set_new(object, key, json_integer((json_int_t)n));
}

/* Keys are those of weir_session_stats. */
json_t *run_stats_json(const run *r) {
    weir_session_stats s;
    weir_session_get_stats(r->session, &s);
    json_t *j = json_object();
    set_count(j, "prompt_tokens", s.prompt_tokens);
    set_count(j, "generated_tokens", s.generated_tokens);
    json_object_set_new(j, "prompt_seconds", json_number(s.prompt_seconds));
    json_object_set_new(j, "generate_seconds", json_number(s.generate_seconds));
    set_count(j, "position", s.position);
    set_count(j, "window", (uint64_t)s.window);
    set_count(j, "in_window", (uint64_t)s.in_window);
    set_count(j, "pinned", (uint64_t)s.pinned);
    set_count(j, "evicted_tokens", s.evicted_tokens);
    set_count(j, "evicted_turns", s.evicted_turns);
    set_count(j, "loops", s.loops);
    json_object_set_new(j, "seed", r->seed_is_past ? json_null() : json_integer(r->seed));
    return j;
}

static json_t *text_or_null(const char *text) {
    json_t *j = text ? json_string(text) : NULL; /* NULL also when it is not UTF-8 */
    return j ? j : json_null();
}

json_t *run_model_json(const run *r) {
    const weir_engine_info *i = &r->info;
    json_t *j = json_object();
    json_object_set_new(j, "path", text_or_null(r->o->model));
    json_object_set_new(j, "name", text_or_null(i->name));
    json_object_set_new(j, "architecture", text_or_null(i->architecture));
    json_object_set_new(j, "backend", text_or_null(i->backend));
    if (i->backend_reason[0]) {
        json_object_set_new(j, "backend_reason", text_or_null(i->backend_reason));
    }
    json_object_set_new(j, "kernels", text_or_null(i->kernels));
    json_object_set_new(j, "weight_type", text_or_null(i->weight_type));
    json_object_set_new(j, "kv_type", text_or_null(i->kv_type));
    set_count(j, "parameters", i->parameters);
    set_count(j, "threads", (uint64_t)i->threads);
    return j;
}
