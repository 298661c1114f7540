/* cmd_generate.c - weir generate: goes on with a text, or with token ids.
 *
 *     prompt (-p, --file, standard input) -> weir_session_append -> weir_session_next ... -> stdout
 *     ids    (--token-ids)                -> weir_session_feed   -> weir_engine_step ...  -> stdout
 *
 * The second way needs no tokenizer, and for it the model's end tokens are ids like any other.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/input.h"
#include "cli/options.h"
#include "cli/run.h"
#include "cli/term.h"

#include <string.h>
#include <unistd.h>

typedef struct work {
    run r;
    const options *o;
    buffer prompt;
    id_list ids;      /* the prompt, then what was generated */
    buffer text;      /* what was generated, for --json      */
    int64_t produced; /* tokens of it */
    weir_end end;
    bool ends_line; /* the last byte printed was a newline */
} work;

static bool is_wanted(const work *w) {
    return w->o->tokens < 0 || w->produced < w->o->tokens;
}

/* Prints a piece, or keeps it for --json. */
static bool emit(work *w, const char *data, size_t size) {
    if (!size) return true;
    w->ends_line = data[size - 1] == '\n';
    if (!w->o->json) return out_text(data, size);
    if (buffer_append(&w->text, data, size)) return true;
    weir_fail(&w->r.err, WEIR_ERR_MEMORY, "out of memory after %zu bytes of text", w->text.size);
    return false;
}

/* Where the prompt comes from; none with --load alone. */
static weir_status read_prompt(work *w) {
    const options *o = w->o;
    weir_error *err = &w->r.err;
    if (o->prompt) {
        if (buffer_append(&w->prompt, o->prompt, strlen(o->prompt))) return WEIR_OK;
        return weir_fail(err, WEIR_ERR_MEMORY, "out of memory");
    }
    if (o->file) return input_read(&w->prompt, o->file, err);
    return o->load ? WEIR_OK : input_read(&w->prompt, "-", err);
}

/* A stream without a token has nothing that could be gone on from. */
static weir_status check_begun(work *w) {
    const options *o = w->o;
    weir_session_stats s;
    weir_session_get_stats(w->r.session, &s);
    if (s.position > 0) return WEIR_OK;
    if (o->token_ids) {
        const bool is_pipe = strcmp(o->token_ids, "-") == 0;
        return weir_fail(&w->r.err, WEIR_ERR_ARGUMENT,
                         "%s: holds no token ids, and one is needed to go on from",
                         is_pipe ? "standard input" : o->token_ids);
    }
    return weir_fail(&w->r.err, WEIR_ERR_ARGUMENT,
                     "the prompt is empty, and %s begins no text by itself: give it a word to go "
                     "on from",
                     run_model_name(&w->r));
}

/* A restored session goes on without a prompt; an empty prompt is BOS alone. */
static weir_status generate_text(work *w) {
    run *r = &w->r;
    const char *prompt = w->prompt.data ? w->prompt.data : "";
    if (!w->o->load || w->prompt.size) {
        WEIR_TRY(weir_session_append(r->session, prompt, w->prompt.size, &r->err));
    }
    progress_end(&r->progress);
    if (w->o->echo && !w->o->json) emit(w, prompt, w->prompt.size);
    if (w->o->tokens == 0) return WEIR_OK;
    WEIR_TRY(check_begun(w));
    for (weir_text t; out_ok();) {
        const bool is_text = run_next(r, &t);
        w->produced += t.tokens;
        w->end = t.end;
        if (!is_text || !emit(w, t.data, t.size)) break;
    }
    return r->err.status;
}

static weir_status emit_id(work *w, int32_t id, bool is_first) {
    char word[16];
    const int n = snprintf(word, sizeof word, is_first ? "%d" : " %d", id);
    if (!id_list_add(&w->ids, id)) {
        return weir_fail(&w->r.err, WEIR_ERR_MEMORY, "out of memory");
    }
    if (!w->o->json) out_text(word, (size_t)n);
    return WEIR_OK;
}

/* No tokenizer takes part: end tokens, stop texts and the loop guard are matters of text. */
static weir_status generate_ids(work *w) {
    run *r = &w->r;
    WEIR_TRY(input_ids(&w->ids, w->o->token_ids, r->info.vocab, &r->err));
    const size_t n_prompt = w->ids.n;
    WEIR_TRY(weir_session_feed(r->session, w->ids.ids, n_prompt, &r->err));
    progress_end(&r->progress);
    if (w->o->echo && !w->o->json) {
        for (size_t i = 0; i < n_prompt; i++) out_print(i ? " %d" : "%d", w->ids.ids[i]);
    } else {
        w->ids.n = 0;
    }
    if (is_wanted(w)) WEIR_TRY(check_begun(w));
    weir_feed next = {.session = r->session};
    for (bool is_first = !w->ids.n; is_wanted(w) && !signal_caught() && out_ok();
         is_first = false) {
        WEIR_TRY(weir_engine_step(r->engine, &next, 1, &r->err));
        w->produced++;
        WEIR_TRY(emit_id(w, next.token, is_first));
    }
    return WEIR_OK;
}

/* ------------------------------------------------------------------ the end */

/* Why it ended, for people and for JSON. */
static const char *why(const work *w, bool for_json) {
    if (w->r.err.status != WEIR_OK) return for_json ? "error" : "an error";
    if (signal_caught()) return for_json ? "signal" : "interrupted";
    switch (w->end) {
    case WEIR_END_TURN: return for_json ? "turn" : "the model ended its text";
    case WEIR_END_STOP: return for_json ? "stop" : "a --stop text";
    case WEIR_END_LOOP: return for_json ? "loop" : "the text repeated itself (loop guard)";
    case WEIR_END_NONE:
    case WEIR_END_LENGTH:
    case WEIR_END_INTERRUPT: break;
    }
    return for_json ? "length" : "-n reached";
}

static void print_json(work *w) {
    json_t *j = json_object();
    json_object_set_new(j, "model", run_model_json(&w->r));
    if (w->o->token_ids) {
        json_t *list = json_array();
        for (size_t i = 0; i < w->ids.n; i++) {
            json_array_append_new(list, json_integer(w->ids.ids[i]));
        }
        json_object_set_new(j, "ids", list);
    } else {
        json_t *text = json_stringn(w->text.data ? w->text.data : "", w->text.size);
        json_object_set_new(j, "text", text ? text : json_null());
    }
    json_object_set_new(j, "tokens", json_integer(w->produced));
    json_object_set_new(j, "end", json_string(why(w, true)));
    json_object_set_new(j, "stats", run_stats_json(&w->r));
    run_print_json(j, false);
}

/* Two lines on standard error. */
static void print_stats(work *w) {
    weir_session_stats s;
    char window[160], seed[64], prompt[NUMBER_SIZE], made[NUMBER_SIZE];
    weir_session_get_stats(w->r.session, &s);
    run_window_text(window, sizeof window, &s);
    run_seed_text(seed, sizeof seed, &w->r);
    const double read_speed = s.prompt_seconds > 0 ? (double)s.prompt_tokens / s.prompt_seconds : 0;
    const double speed =
        s.generate_seconds > 0 ? (double)s.generated_tokens / s.generate_seconds : 0;
    fprintf(stderr, "%sprompt %s token%s, %.1f tok/s · generated %s, %.1f tok/s · ended: %s\n",
            term_set(stderr, STYLE_DIM), format_count(prompt, s.prompt_tokens),
            s.prompt_tokens == 1 ? "" : "s", read_speed, format_count(made, s.generated_tokens),
            speed, why(w, false));
    fprintf(stderr, "%s%s%s\n", window, seed, term_set(stderr, STYLE_PLAIN));
}

/* Also after a signal: an endless run ends no other way. */
static void save(work *w) {
    if (!w->o->save || w->r.err.status != WEIR_OK) return;
    if (weir_session_save(w->r.session, w->o->save, &w->r.err) != WEIR_OK) return;
    if (!w->o->quiet) fprintf(stderr, "session saved: %s\n", w->o->save);
}

/* Statistics also when a dense window is full: the text up to there is whole. */
static weir_status generate(work *w) {
    run *r = &w->r;
    if (w->o->load) WEIR_TRY(run_restore(r, w->o->load));
    const weir_status status = w->o->token_ids ? generate_ids(w) : generate_text(w);
    if (!w->o->json && out_ok() && w->produced && !w->ends_line) out_write("\n", 1);
    if (status != WEIR_OK && status != WEIR_ERR_FULL) return status;
    fflush(stdout);
    if (w->o->json) {
        print_json(w);
    } else if (!w->o->quiet) {
        print_stats(w);
    }
    return status;
}

/* What can be told without the model is told before it is loaded. */
static bool check_options(const options *o) {
    const int sources = !!o->prompt + !!o->file + !!o->token_ids;
    if (sources > 1) {
        complain(o->command, "give one of --prompt, --file and --token-ids, not %d", sources);
        return false;
    }
    if (!sources && !o->load && isatty(STDIN_FILENO)) {
        complain(o->command, "no prompt: give -p TEXT or --file FILE, or pipe a text in");
        return false;
    }
    return true;
}

int cmd_generate(const options *o) {
    work w = {.o = o};
    if (!check_options(o)) return EXIT_USAGE;
    w.r.o = o;
    if (run_check_save(&w.r, o->save) && (o->token_ids || read_prompt(&w) == WEIR_OK)) {
        if (run_open(&w.r, o, 1) && run_open_session(&w.r)) {
            generate(&w);
            save(&w);
        }
    }
    buffer_clear(&w.prompt);
    buffer_clear(&w.text);
    id_list_clear(&w.ids);
    return run_end(&w.r);
}
