/* cmd_chat.c - weir chat: messages in, replies out, for ever.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/chat.h"

#include "base/status.h"
#include "base/unicode.h"
#include "cli/wrap.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

typedef struct reply_record { /* what one reply was */
    buffer text;              /* kept for --json    */
    int tokens;
    weir_end end;
    bool interrupted, cut;
    double seconds; /* spent generating */
} reply_record;

typedef struct work {
    chat_state c;
    run r;
    chat_input *in;
    buffer message;
    reply_record reply;
    wrapper lines; /* on a terminal */
    bool failed;   /* without a terminal a failure ends the chat */
} work;

static uint64_t position(const run *r) {
    weir_session_stats s;
    weir_session_get_stats(r->session, &s);
    return s.position;
}

weir_status chat_begin(chat_state *c) {
    weir_session_reset(c->r->session);
    c->r->seed_is_past = false;
    c->user = c->reply = (span){0};
    if (!c->system) return WEIR_OK;
    const weir_status status = weir_session_say(c->r->session, WEIR_SYSTEM, c->system, &c->r->err);
    progress_end(&c->r->progress);
    return status;
}

/* ------------------------------------------------------------------ the reply */

/* Shows a piece of the reply, wrapped on a terminal, or keeps it for --json. */
static weir_status show_piece(work *w, const weir_text *t) {
    reply_record *p = &w->reply;
    bool ok = true;
    p->tokens += t->tokens;
    p->end = t->end;
    if (!t->size) return WEIR_OK;
    if (w->c.o.json) {
        ok = buffer_append(&p->text, t->data, t->size);
    } else if (isatty(STDOUT_FILENO)) {
        ok = wrap_text(&w->lines, t->data, t->size);
    } else {
        out_text(t->data, t->size);
    }
    return ok ? WEIR_OK : weir_fail(&w->r.err, WEIR_ERR_MEMORY, "out of memory for a reply");
}

/* Generates until the model ends, -n tokens are there, or a signal comes. */
static weir_status generate(work *w) {
    run *r = &w->r;
    reply_record *p = &w->reply;
    p->cut = w->c.o.tokens == 0;
    for (weir_text t; out_ok() && !p->cut;) {
        const bool is_text = run_next(r, &t);
        WEIR_TRY(show_piece(w, &t));
        if (is_text) continue;
        p->cut = t.end == WEIR_END_LENGTH;
        p->interrupted = t.end == WEIR_END_INTERRUPT;
        break;
    }
    return r->err.status;
}

/* Reads the message.  Half of a first message, when Ctrl-C comes, is no beginning of a chat. */
static weir_status hear(work *w, const char *message, uint64_t start) {
    run *r = &w->r;
    const weir_status status = weir_session_say(r->session, WEIR_USER, message, &r->err);
    if (status == WEIR_ERR_CANCELED && start == 0) {
        const weir_error why = r->err;
        chat_begin(&w->c);
        r->err = why;
    }
    return status;
}

/* One message in, one reply out; notes where both lie in the stream. */
static weir_status answer(work *w, const char *message) {
    run *r = &w->r;
    weir_session_stats before, after;
    w->reply.text.size = 0;
    w->reply = (reply_record){.text = w->reply.text};
    const uint64_t start = position(r);
    WEIR_TRY(hear(w, message, start));
    progress_end(&r->progress);
    weir_session_get_stats(r->session, &before);
    w->c.user = (span){start, before.position};
    if (start == 0) w->c.user.from = MIN_OF((uint64_t)before.pinned, before.position);
    w->lines = wrap_begin(term_width(stdout), out_text);
    const weir_status status = generate(w);
    wrap_end(&w->lines);
    weir_session_get_stats(r->session, &after);
    w->c.reply = (span){before.position, after.position};
    w->reply.seconds = after.generate_seconds - before.generate_seconds;
    return status;
}

/* Why a reply ended other than by itself; NULL: it did. */
static const char *odd_end(const reply_record *p) {
    if (p->interrupted) return "stopped";
    if (p->cut) return "cut off by -n";
    if (p->end == WEIR_END_LOOP) return "the text repeated itself: stopped by the loop guard";
    return p->end == WEIR_END_STOP ? "a --stop text" : NULL;
}

/* The line under a reply: speed, what the window holds, what has flowed out. */
static void print_status(work *w) {
    const reply_record *p = &w->reply;
    weir_session_stats s;
    char window[160], tokens[NUMBER_SIZE];
    const char *odd = odd_end(p);
    weir_session_get_stats(w->r.session, &s);
    run_window_text(window, sizeof window, &s);
    fflush(stdout);
    fprintf(stderr, "%s%s token%s, %.1f tok/s · %s%s%s%s\n", term_set(stderr, STYLE_DIM),
            format_count(tokens, (uint64_t)p->tokens), p->tokens == 1 ? "" : "s",
            p->seconds > 0 ? p->tokens / p->seconds : 0.0, window, odd ? " · " : "", odd ? odd : "",
            term_set(stderr, STYLE_PLAIN));
}

static void print_json(work *w) {
    const reply_record *p = &w->reply;
    json_t *j = json_object();
    json_t *text = json_stringn(p->text.data ? p->text.data : "", p->text.size);
    const char *end = p->interrupted ? "signal" : p->cut ? "length" : end_word(p->end);
    json_object_set_new(j, "role", json_string("assistant"));
    json_object_set_new(j, "content", text ? text : json_null());
    json_object_set_new(j, "tokens", json_integer(p->tokens));
    json_object_set_new(j, "end", json_string(end));
    json_object_set_new(j, "seconds", json_number(p->seconds));
    json_object_set_new(j, "stats", run_stats_json(&w->r));
    run_print_json(j, true);
    fflush(stdout);
}

/* One message and its reply.  Ctrl-C, on a terminal, ends the reply only. */
static void exchange(work *w) {
    const weir_status status = answer(w, w->message.data);
    progress_end(&w->r.progress);
    if (!w->c.o.json) out_write("\n", 1);
    if (status == WEIR_OK) {
        if (w->c.o.json) {
            print_json(w);
        } else if (!w->c.o.quiet) {
            print_status(w);
        }
    }
    if (!chat_input_is_terminal(w->in)) {
        w->failed = status != WEIR_OK;
        return;
    }
    if (signal_caught() == SIGINT) signal_clear();
    if (status == WEIR_OK) {
        out_write("\n", 1);
        return;
    }
    complain(w->r.o->command, "%s%s", w->r.err.message,
             status == WEIR_ERR_FULL ? "; /reset begins a new conversation" : "");
    w->r.err = (weir_error){0};
}

/* ------------------------------------------------------------------ the conversation */

/* Said to a person only: a script wants replies. */
static void greet(const work *w) {
    const weir_engine_info *i = &w->r.info;
    char a[NUMBER_SIZE], b[NUMBER_SIZE];
    if (!chat_input_is_terminal(w->in) || w->c.o.quiet || w->c.o.json) return;
    const char *name = i->name && i->name[0] ? i->name : run_model_name(&w->r);
    fputs(term_set(stdout, STYLE_DIM), stdout);
    out_text(name, strlen(name));
    out_print(": %s parameters, window %s. /help lists commands, Ctrl-D quits.%s\n\n",
              format_count(a, i->parameters), format_count(b, (uint64_t)i->window),
              term_set(stdout, STYLE_PLAIN));
}

/* A script's messages are shown, so that what is printed reads as a conversation. */
static void handle_message(work *w) {
    char *text = w->message.data;
    if (w->c.o.script && !w->c.o.json) {
        out_print("%s> ", term_set(stdout, STYLE_BOLD));
        out_text(text, strlen(text));
        out_print("%s\n", term_set(stdout, STYLE_PLAIN));
    }
    if (text[0] == '/' && text[1] != '/') {
        chat_command_run(&w->c, text);
        fflush(stdout);
        return;
    }
    if (text[0] == '/') { /* //text */
        w->message.size--;
        memmove(text, text + 1, w->message.size + 1);
    }
    exchange(w);
}

/* Messages until the input ends, /quit, a signal, or output that nobody reads. */
static void converse(work *w) {
    greet(w);
    while (!w->c.quit && !w->failed && out_ok()) {
        switch (chat_input_next(w->in, &w->message, &w->r.err)) {
        case INPUT_MESSAGE: handle_message(w); break;
        case INPUT_CANCEL:
            signal_clear();
            if (chat_input_was_empty(w->in)) out_print("(Ctrl-D or /quit leaves)\n");
            break;
        case INPUT_END:
        case INPUT_SIGNAL:
        case INPUT_FAILED: return;
        }
        if (signal_caught()) return;
    }
}

static weir_status begin(work *w) {
    run *r = &w->r;
    if (r->o->load) return run_restore(r, r->o->load);
    return chat_begin(&w->c);
}

static weir_status chat(work *w) {
    run *r = &w->r;
    if (!r->info.has_chat_template) {
        return weir_fail(&r->err, WEIR_ERR_MODEL,
                         "%s: has no chat template, so it was not made to talk; `weir generate` "
                         "continues texts with it",
                         run_model_name(r));
    }
    WEIR_TRY(begin(w));
    converse(w);
    if (!r->o->save || r->err.status != WEIR_OK) return r->err.status;
    return weir_session_save(r->session, r->o->save, &r->err);
}

/* The system prompt as UTF-8: what is none becomes U+FFFD, as in messages. */
static bool take_system(work *w, const char *text) {
    buffer whole = {0};
    if (!text) return true;
    if (utf8_repair(&whole, text, strlen(text))) {
        w->c.system = arena_copy(w->c.memory, whole.data ? whole.data : "", whole.size);
    }
    buffer_clear(&whole);
    if (w->c.system) return true;
    weir_fail(&w->r.err, WEIR_ERR_MEMORY, "out of memory for the system prompt");
    return false;
}

int cmd_chat(const options *o) {
    work w = {.c.o = *o, .c.is_loaded = o->load != NULL, .r.o = o};
    w.c.r = &w.r;
    if (o->load && o->system) {
        complain(o->command, "--load brings its own system prompt; give --load or --system");
        return EXIT_USAGE;
    }
    w.c.memory = arena_new();
    w.in = w.c.memory ? chat_input_open(o->script, &w.r.err) : NULL;
    if (w.in && take_system(&w, o->system) && run_check_save(&w.r, o->save) &&
        run_open(&w.r, o, 1) && run_open_session(&w.r))
        chat(&w);
    chat_input_close(w.in);
    arena_free(w.c.memory);
    buffer_clear(&w.message);
    buffer_clear(&w.reply.text);
    return run_end(&w.r);
}
