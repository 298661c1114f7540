/* run.h - an engine and its session as the command line asks for them.
 *
 *     run r;
 *     if (!run_open(&r, o, 1) || !run_open_session(&r)) return run_end(&r);
 *     ...
 *     return run_end(&r);         closes all; the exit status, and the message when r.err has one
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "cli/options.h"
#include "cli/term.h"

#include <jansson.h>

typedef struct run {
    const options *o;
    weir_engine *engine;
    weir_session *session;
    weir_engine_info info;
    int64_t seed;            /* --seed, or the one drawn */
    bool seed_is_past;       /* the generator is a saved session's: no seed tells where it is */
    char kernel_cache[3072]; /* folder of compiled GPU kernels; empty: none */
    progress progress;
    bool hides_progress; /* the command draws its own line */
    weir_error err;      /* status WEIR_OK: nothing went wrong */
} run;

/* sessions: how many the engine is made for.  run_open also keeps compiled kernels. */
weir_engine_options run_engine_options(run *r, const options *o, int sessions);
bool run_open(run *r, const options *o, int sessions);
bool run_open_session(run *r);
weir_session_options run_session_options(const run *r);
const char *run_model_name(const run *r); /* as the user wrote it, or that it is the built-in one */
int64_t run_seed(const options *o);       /* --seed, or one drawn now */
weir_sampling run_sampling(const options *o, int64_t seed);

/* Restores a saved session.  Its generator goes on, unless --seed is given: then from there. */
weir_status run_restore(run *r, const char *path);

/* The next piece of a reply; false: it is over, or r->err says what went wrong.  A signal cuts the
 * reply, after the token at hand; so does a full window, with r->err, after what was held back. */
bool run_next(run *r, weir_text *out);

/* Closes the session and the engine, prints r->err with what could be done about it.  Returns
 * EXIT_OK, EXIT_FAILED, or 128 + the number of the signal that ended the run. */
int run_end(run *r);

/* Makes sure, before any work, that --save can be written; path may be NULL. */
bool run_check_save(run *r, const char *path);

/* A line of two columns. */
void run_print_row(const char *name, const char *format, ...) WEIR_PRINTF(2, 3);

/* Prints one JSON object, indented or on one line; takes the reference. */
void run_print_json(json_t *object, bool on_one_line);
json_t *json_number(double x); /* null when it is not finite */

/* ------------------------------------------------------------------ statistics */

/* "window 312 of 512 (24 pinned) · evicted 0 tokens", with turns when there are some. */
void run_window_text(char *out, size_t size, const weir_session_stats *s);

/* " · seed 5", or nothing when the seed is past. */
void run_seed_text(char *out, size_t size, const run *r);

/* The keys every command that ran a session reports. */
json_t *run_stats_json(const run *r);
json_t *run_model_json(const run *r);

const char *end_word(weir_end end); /* for JSON: "turn", "stop", "loop", "none" */
