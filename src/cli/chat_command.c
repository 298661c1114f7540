/* chat_command.c - /help, /save, /pin and the others, and /NAME VALUE for sampling options.
 *
 * SPDX-License-Identifier: MIT */
#include "base/status.h"
#include "cli/chat.h"

#include <stdarg.h>
#include <string.h>

/* What a command answers; with --json standard output is for replies alone. */
static void say(const chat_state *c, const char *format, ...) WEIR_PRINTF(2, 3);

static void say(const chat_state *c, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (c->o.json) {
        fputs(text, stderr);
    } else {
        out_text(text, strlen(text));
    }
}

/* ------------------------------------------------------------------ the session */

static bool run_save(chat_state *c, const char *argument) {
    if (weir_session_save(c->r->session, argument, &c->r->err) != WEIR_OK) return false;
    say(c, "Saved to %s.\n", argument);
    return true;
}

/* What was marked for /pin lies in another stream then. */
static bool run_load(chat_state *c, const char *argument) {
    if (weir_session_restore(c->r->session, argument, &c->r->err) != WEIR_OK) return false;
    c->user = c->reply = (span){0};
    c->system = NULL;
    c->is_loaded = true;
    c->r->seed_is_past = true;
    say(c, "Loaded %s.\n", argument);
    return true;
}

static bool run_reset(chat_state *c, const char *argument) {
    (void)argument;
    if (chat_begin(c) != WEIR_OK) return false;
    say(c, "A new conversation%s.\n",
        c->system ? ", with the same system prompt"
        : c->is_loaded
            ? " without a system prompt: that of a loaded one is not known, /system sets one"
            : "");
    c->is_loaded = false;
    return true;
}

/* A system prompt is pinned where the stream begins, so a new one begins a new stream. */
static bool run_system(chat_state *c, const char *argument) {
    char *text = arena_copy(c->memory, argument, strlen(argument));
    if (!text) {
        weir_fail(&c->r->err, WEIR_ERR_MEMORY, "out of memory");
        return false;
    }
    c->system = text[0] ? text : NULL;
    c->is_loaded = false;
    if (chat_begin(c) != WEIR_OK) return false;
    say(c, "A new conversation, %s system prompt.\n", c->system ? "with this" : "without a");
    return true;
}

/* Pins what the last message or reply put into the stream, its turn markers included. */
static bool run_pin(chat_state *c, const char *argument) {
    const bool is_reply = strcmp(argument, "reply") == 0;
    const span s = is_reply ? c->reply : c->user;
    weir_session_stats stats;
    if (argument[0] && !is_reply) {
        weir_fail(&c->r->err, WEIR_ERR_ARGUMENT, "/pin takes nothing or \"reply\"");
        return false;
    }
    if (s.from == s.to) {
        weir_fail(&c->r->err, WEIR_ERR_ARGUMENT, "there is no %s to pin yet",
                  is_reply ? "reply" : "message");
        return false;
    }
    if (weir_session_pin(c->r->session, s.from, s.to, &c->r->err) != WEIR_OK) return false;
    weir_session_get_stats(c->r->session, &stats);
    say(c, "Your last %s stays: %d tokens are pinned, %d can be.\n", is_reply ? "reply" : "message",
        stats.pinned, stats.max_pinned);
    return true;
}

static bool run_stats(chat_state *c, const char *argument) {
    (void)argument;
    weir_session_stats s;
    char window[160], seed[64], a[NUMBER_SIZE], b[NUMBER_SIZE];
    weir_session_get_stats(c->r->session, &s);
    run_window_text(window, sizeof window, &s);
    say(c, "%s\n", window);
    run_seed_text(seed, sizeof seed, c->r);
    say(c, "position %s · room for %d pinned tokens%s · loops stopped %llu\n",
        format_count(a, s.position), s.max_pinned - s.pinned, seed, (unsigned long long)s.loops);
    say(c, "read %s tokens in %s", format_count(a, s.prompt_tokens),
        format_seconds(b, s.prompt_seconds));
    say(c, " · wrote %s in %s\n", format_count(a, s.generated_tokens),
        format_seconds(b, s.generate_seconds));
    return true;
}

static bool run_quit(chat_state *c, const char *argument) {
    (void)argument;
    c->quit = true;
    return true;
}

static bool run_help(chat_state *c, const char *argument);

const chat_command CHAT_COMMANDS[] = {
    {"help", NULL, "list the commands", false, run_help},
    {"save", "FILE", "save the session, to go on another day", true, run_save},
    {"load", "FILE", "continue a saved session", true, run_load},
    {"pin", "[reply]", "keep your last message, or the last reply, for ever", false, run_pin},
    {"system", "TEXT", "begin a new conversation with this system prompt", false, run_system},
    {"reset", NULL, "begin a new conversation with the same system prompt", false, run_reset},
    {"stats", NULL, "what the session has read, written and let go", false, run_stats},
    {"quit", NULL, "leave; so does Ctrl-D", false, run_quit},
};
const int N_CHAT_COMMANDS = (int)COUNT_OF(CHAT_COMMANDS);

/* ------------------------------------------------------------------ sampling */

/* Flags that /NAME VALUE can set: those that choose tokens. */
static bool is_settable(const flag *f) {
    return f->commands & IN_CHAT && f->group == GROUP_SAMPLING && f->kind != FLAG_BIAS;
}

static bool run_help(chat_state *c, const char *argument) {
    (void)argument;
    for (int i = 0; i < N_CHAT_COMMANDS; i++) {
        const chat_command *k = &CHAT_COMMANDS[i];
        char left[32];
        snprintf(left, sizeof left, "/%s %s", k->name, k->argument ? k->argument : "");
        say(c, "  %-16s %s\n", left, k->help);
    }
    say(c, "  /NAME VALUE      choose tokens another way, as --NAME VALUE would:\n");
    int column = 0;
    for (int i = 0; i < N_FLAGS; i++) {
        if (!is_settable(&FLAGS[i])) continue;
        const int n = (int)strlen(FLAGS[i].name) + 2;
        if (!column || column + n > 76) {
            say(c, "%s%19s", column ? "\n" : "", "");
            column = 19;
        }
        column += n;
        say(c, "/%s ", FLAGS[i].name);
    }
    say(c, "\n"
           "  A line that ends in \\ goes on in the next; \"\"\" opens and closes many lines.\n"
           "  //text sends a message that begins with /. Ctrl-C stops a reply.\n");
    return true;
}

/* Sets a sampling option from now on. */
static bool set_sampling(chat_state *c, const flag *f, const char *value) {
    char message[256] = "";
    const options before = c->o;
    const int64_t seed_before = c->r->seed;
    char *copy = arena_copy(c->memory, value, strlen(value)); /* texts are kept by pointer */
    if (!copy) {
        weir_fail(&c->r->err, WEIR_ERR_MEMORY, "out of memory");
        return false;
    }
    if (f->kind == FLAG_SWITCH) {
        const bool is_off = strcmp(value, "off") == 0;
        if (value[0] && !is_off && strcmp(value, "on") != 0) {
            weir_fail(&c->r->err, WEIR_ERR_ARGUMENT, "/%s: \"%.40s\" is neither on nor off",
                      f->name, value);
            return false;
        }
        *(bool *)((char *)&c->o + f->field) = !is_off;
    } else if (!flag_set(&c->o, f, copy, message, sizeof message)) {
        weir_fail(&c->r->err, WEIR_ERR_ARGUMENT, "/%s: %s", f->name, message);
        c->o = before;
        return false;
    }
    if (f->field == offsetof(options, temp)) c->o.greedy = false;
    if (f->field == offsetof(options, seed)) c->r->seed = run_seed(&c->o);
    const weir_sampling s = run_sampling(&c->o, c->r->seed);
    if (weir_session_set_sampling(c->r->session, &s, &c->r->err) != WEIR_OK) {
        c->o = before;
        c->r->seed = seed_before;
        return false;
    }
    c->r->seed_is_past = false;
    say(c, "%s: %s\n", f->name, f->kind == FLAG_SWITCH && !value[0] ? "on" : value);
    return true;
}

/* ------------------------------------------------------------------ completion */

/* The i-th name that may follow a slash; NULL: there are no more. */
static const char *name_at(int i) {
    if (i < N_CHAT_COMMANDS) return CHAT_COMMANDS[i].name;
    for (int k = 0, n = N_CHAT_COMMANDS; k < N_FLAGS; k++) {
        if (is_settable(&FLAGS[k]) && n++ == i) return FLAGS[k].name;
    }
    return NULL;
}

bool chat_command_complete(const char *start, size_t n, char *out, size_t size) {
    const char *first = NULL;
    size_t common = 0;
    int matches = 0;
    for (int i = 0; name_at(i); i++) {
        const char *name = name_at(i);
        if (strncmp(name, start, n) != 0) continue;
        if (matches++ == 0) {
            first = name;
            common = strlen(name);
        }
        for (size_t k = n; k < common; k++) common = name[k] == first[k] ? common : k;
    }
    if (!matches || (matches > 1 && common == n)) return false;
    snprintf(out, size, "%.*s%s", (int)(common - n), first + n, matches == 1 ? " " : "");
    return true;
}

/* ------------------------------------------------------------------ dispatch */

/* The command of that name; /exit and /bye are what other programs call /quit. */
static const chat_command *find(const char *name, size_t n) {
    for (int i = 0; i < N_CHAT_COMMANDS; i++) {
        const chat_command *k = &CHAT_COMMANDS[i];
        if (strlen(k->name) == n && memcmp(k->name, name, n) == 0) return k;
    }
    if (n == 4 && memcmp(name, "exit", 4) == 0) return find("quit", 4);
    if (n == 3 && memcmp(name, "bye", 3) == 0) return find("quit", 4);
    return NULL;
}

/* Commands first, then flags: no flag that can be set here has the name of a command. */
static bool run_one(chat_state *c, const char *text) {
    const char *name = text + 1;
    const size_t n = strcspn(name, " \t\n");
    const char *argument = name + n + strspn(name + n, " \t\n");
    const chat_command *k = find(name, n);
    if (k && k->needs_argument && !argument[0]) {
        weir_fail(&c->r->err, WEIR_ERR_ARGUMENT, "/%s wants a %s", k->name, k->argument);
        return false;
    }
    if (k) return k->run(c, argument);
    const flag *f = flag_find(name, n, IN_CHAT);
    if (!f || !is_settable(f)) {
        weir_fail(&c->r->err, WEIR_ERR_ARGUMENT, "there is no /%.*s; /help lists what there is",
                  (int)MIN_OF(n, 40), name);
        return false;
    }
    if (flag_has_value(f) && !argument[0]) {
        weir_fail(&c->r->err, WEIR_ERR_ARGUMENT, "/%s wants a value: /%s %s", f->name, f->name,
                  f->meta);
        return false;
    }
    return set_sampling(c, f, argument);
}

void chat_command_run(chat_state *c, const char *text) {
    if (!run_one(c, text)) {
        complain(c->r->o->command, "%s", c->r->err.message);
        c->r->err = (weir_error){0}; /* said; the chat goes on */
    }
}
