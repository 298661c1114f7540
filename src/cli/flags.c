/* flags.c - reads a command line by the table of flags.
 *
 *     --name VALUE    --name=VALUE    -n VALUE    -nVALUE    --switch    --    ARGUMENT
 *
 * Flags and the argument come in any order.  What is wrong is one line that says what, where and
 * what to do, with the nearest name when there is one.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/options.h"

#include "base/arena.h"
#include "base/compiler.h"
#include "cli/term.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool flag_has_value(const flag *f) {
    return f->kind != FLAG_SWITCH;
}

bool flag_has_words(const flag *f) {
    return f->meta && strchr(f->meta, '|');
}

bool choice_get(const char *list, int i, char *out, size_t size) {
    for (; i > 0 && list; i--) {
        list = strchr(list, '|');
        if (list) list++;
    }
    if (!list) return false;
    const size_t n = strcspn(list, "|");
    snprintf(out, size, "%.*s", (int)n, list);
    return true;
}

const flag *flag_find(const char *name, size_t length, unsigned commands) {
    for (int i = 0; i < N_FLAGS; i++) {
        const flag *f = &FLAGS[i];
        if (f->commands & commands && strlen(f->name) == length &&
            memcmp(f->name, name, length) == 0) {
            return f;
        }
    }
    return NULL;
}

static const flag *find_letter(char letter, unsigned commands) {
    for (int i = 0; i < N_FLAGS; i++) {
        if (letter && FLAGS[i].commands & commands && FLAGS[i].letter == letter) return &FLAGS[i];
    }
    return NULL;
}

/* ------------------------------------------------------------------ nearest names */

enum { LONGEST_NAME = 40 };

/* Edits from a to b: insertions, deletions, replacements and swaps of neighbours. */
static int edit_distance(const char *a, const char *b) {
    const int na = (int)strnlen(a, LONGEST_NAME), nb = (int)strnlen(b, LONGEST_NAME);
    int d[LONGEST_NAME + 1][LONGEST_NAME + 1];
    for (int i = 0; i <= na; i++) d[i][0] = i;
    for (int j = 0; j <= nb; j++) d[0][j] = j;
    for (int i = 1; i <= na; i++) {
        for (int j = 1; j <= nb; j++) {
            const int replace = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            const int edit = MIN_OF(d[i - 1][j], d[i][j - 1]) + 1;
            d[i][j] = MIN_OF(replace, edit);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                d[i][j] = MIN_OF(d[i][j], d[i - 2][j - 2] + 1);
            }
        }
    }
    return d[na][nb];
}

/* How far a wrong name is from a right one; INT32_MAX: not near.  The beginning of a right one, or
 * a right one with more behind it, is near. */
static int nearness(const char *wrong, const char *right) {
    const size_t n = strlen(wrong), common = MIN_OF(n, strlen(right));
    if (n > LONGEST_NAME || !n) return INT32_MAX;
    if (common >= 3 && strncmp(wrong, right, common) == 0) return 0;
    const int distance = edit_distance(wrong, right);
    return distance <= 1 + (int)n / 4 ? distance : INT32_MAX;
}

const command *command_find(const char *name) {
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strcmp(COMMANDS[i].name, name) == 0) return &COMMANDS[i];
    }
    return NULL;
}

const char *command_nearest(const char *name) {
    const char *best = NULL;
    int distance = INT32_MAX;
    for (int i = 0; i < N_COMMANDS; i++) {
        const int d = nearness(name, COMMANDS[i].name);
        if (d >= distance) continue;
        distance = d;
        best = COMMANDS[i].name;
    }
    return best;
}

static const char *flag_nearest(const char *name, unsigned commands) {
    const char *best = NULL;
    int distance = INT32_MAX;
    for (int i = 0; i < N_FLAGS; i++) {
        if (!(FLAGS[i].commands & commands)) continue;
        const int d = nearness(name, FLAGS[i].name);
        if (d >= distance) continue;
        distance = d;
        best = FLAGS[i].name;
    }
    return best;
}

/* Says that there is no such flag, and what could have been meant. */
static bool unknown_flag(const command *c, const char *word, size_t length) {
    char name[LONGEST_NAME + 2];
    snprintf(name, sizeof name, "%.*s", (int)MIN_OF(length, sizeof name - 1), word);
    const flag *elsewhere = flag_find(name, strlen(name), ~0u);
    const char *near = flag_nearest(name, c->bit);
    if (elsewhere) {
        char owners[128] = "";
        for (int i = 0; i < N_COMMANDS; i++) {
            if (!(elsewhere->commands & COMMANDS[i].bit)) continue;
            const size_t n = strlen(owners);
            snprintf(owners + n, sizeof owners - n, "%s`weir %s`", n ? ", " : "", COMMANDS[i].name);
        }
        complain(c->name, "there is no --%s here; it belongs to %s", name, owners);
        return false;
    }
    if (near) {
        complain(c->name, "there is no --%s; did you mean --%s?", name, near);
    } else {
        complain(c->name, "there is no --%s; `weir %s --help` lists all", name, c->name);
    }
    return false;
}

/* ------------------------------------------------------------------ values */

/* A default that is a word, like "auto", may be given; digits make it a number. */
static bool set_int(const flag *f, const char *text, int64_t *out, char *message, size_t size) {
    if (f->fallback && strcmp(text, f->fallback) == 0 && !strpbrk(text, "0123456789")) {
        *out = CLI_AUTO;
        return true;
    }
    char *end;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end || strpbrk(text, " \t\n")) {
        snprintf(message, size, "\"%s\" is not a whole number", text);
        return false;
    }
    if (errno || (double)value < f->min || (double)value > f->max) {
        snprintf(message, size, "%s is out of range, %.0f to %.0f", text, f->min, f->max);
        return false;
    }
    *out = value;
    return true;
}

/* Infinities and NaN are no use to any flag. */
static bool set_real(const flag *f, const char *text, float *out, char *message, size_t size) {
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end || strpbrk(text, " \t\n") || !isfinite(value)) {
        snprintf(message, size, "\"%s\" is not a number", text);
        return false;
    }
    if (value < f->min || value > f->max) {
        snprintf(message, size, "%s is out of range, %g to %g", text, f->min, f->max);
        return false;
    }
    *out = (float)value;
    return true;
}

static bool set_choice(const flag *f, const char *text, int *out, char *message, size_t size) {
    char word[32];
    for (int i = 0; choice_get(f->meta, i, word, sizeof word); i++) {
        if (strcmp(word, text) != 0) continue;
        *out = i + 1;
        return true;
    }
    snprintf(message, size, "\"%s\" is none of %s", text, f->meta);
    return false;
}

static bool add_bias(const flag *f, const char *text, token_bias *bias, char *message,
                     size_t size) {
    char *end;
    errno = 0;
    const long long id = strtoll(text, &end, 10);
    float value;
    if (end == text || *end != '=' || errno || id < 0 || id > INT32_MAX) {
        snprintf(message, size, "\"%s\" is not ID=X, for example 42=-5", text);
        return false;
    }
    if (!set_real(f, end + 1, &value, message, size)) return false;
    const size_t n = (size_t)bias->n + 1;
    int32_t *ids = mem_grow(bias->ids, n, sizeof *ids);
    if (ids) bias->ids = ids;
    float *values = mem_grow(bias->values, n, sizeof *values);
    if (values) bias->values = values;
    if (!ids || !values) {
        snprintf(message, size, "out of memory");
        return false;
    }
    ids[bias->n] = (int32_t)id;
    values[bias->n++] = value;
    return true;
}

static bool add_stop(options *o, const char *text, char *message, size_t size) {
    if (!text[0]) {
        snprintf(message, size, "an empty text would stop everything");
        return false;
    }
    if (o->n_stops == WEIR_MAX_STOPS) {
        snprintf(message, size, "given more than %d times", WEIR_MAX_STOPS);
        return false;
    }
    o->stops[o->n_stops++] = text;
    return true;
}

bool flag_set(options *o, const flag *f, const char *text, char *message, size_t size) {
    void *field = (char *)o + f->field;
    int64_t number;
    switch (f->kind) {
    case FLAG_SWITCH: *(bool *)field = true; return true;
    case FLAG_INT:
        if (!set_int(f, text, &number, message, size)) return false;
        *(int *)field = (int)number;
        return true;
    case FLAG_LONG: return set_int(f, text, (int64_t *)field, message, size);
    case FLAG_REAL: return set_real(f, text, (float *)field, message, size);
    case FLAG_TEXT:
    case FLAG_PATH: *(const char **)field = text; return true;
    case FLAG_CHOICE: return set_choice(f, text, (int *)field, message, size);
    case FLAG_BIAS: return add_bias(f, text, (token_bias *)field, message, size);
    case FLAG_STOP: return add_stop(o, text, message, size);
    }
    return false;
}

/* ------------------------------------------------------------------ the line */

void options_init(options *o, const command *c) {
    char message[128];
    *o = (options){.command = c->name};
    for (int i = 0; i < N_FLAGS; i++) {
        const flag *f = &FLAGS[i];
        if (!(f->commands & c->bit) || !f->fallback) continue;
        if (!flag_set(o, f, f->fallback, message, sizeof message)) {
            complain(c->name, "the default of --%s: %s", f->name, message); /* a broken table */
        }
    }
}

void options_clear(options *o) {
    mem_free(o->bias.ids);
    mem_free(o->bias.values);
    o->bias = (token_bias){0};
}

typedef struct line {
    int argc, at; /* at: the word being read */
    char *const *argv;
} line;

/* Sets f from value, or from the next word when value is NULL. */
static bool take_value(options *o, const command *c, const flag *f, const char *value, line *l) {
    char message[256];
    if (!flag_has_value(f)) {
        if (value) {
            complain(c->name, "--%s takes no value, found \"%s\"", f->name, value);
            return false;
        }
    } else if (!value) {
        if (l->at + 1 >= l->argc) {
            complain(c->name, "--%s wants a value: --%s %s", f->name, f->name, f->meta);
            return false;
        }
        value = l->argv[++l->at];
    }
    if (flag_set(o, f, value, message, sizeof message)) return true;
    complain(c->name, "--%s: %s", f->name, message);
    return false;
}

/* --name VALUE or --name=VALUE. */
static bool take_long(options *o, const command *c, line *l) {
    const char *word = l->argv[l->at] + 2;
    const size_t length = strcspn(word, "=");
    const flag *f = flag_find(word, length, c->bit);
    if (!f) return unknown_flag(c, word, length);
    return take_value(o, c, f, word[length] ? word + length + 1 : NULL, l);
}

/* -n 5, -n5, and switches in one word: -qh. */
static bool take_short(options *o, const command *c, line *l) {
    for (const char *p = l->argv[l->at] + 1; *p; p++) {
        const flag *f = find_letter(*p, c->bit);
        if (!f) {
            complain(c->name, "there is no -%c; `weir %s --help` lists all", *p, c->name);
            return false;
        }
        if (flag_has_value(f)) return take_value(o, c, f, p[1] ? p + 1 : NULL, l);
        if (!take_value(o, c, f, NULL, l)) return false;
    }
    return true;
}

/* A word that is no flag: MODEL or FILE. */
static bool take_argument(options *o, const command *c, const char *word) {
    if (c->rule == ARGUMENT_NONE) {
        complain(c->name, "\"%s\" is one word too many", word);
        return false;
    }
    if (o->model) {
        complain(c->name, "two %ss, \"%s\" and \"%s\": quote names with spaces", c->argument,
                 o->model, word);
        return false;
    }
    if (!word[0]) {
        complain(c->name, "%s is an empty word", c->argument);
        return false;
    }
    o->model = word;
    return true;
}

bool options_parse(options *o, const command *c, int argc, char *const *argv) {
    line l = {.argc = argc, .argv = argv};
    bool flags_end = false;
    for (; l.at < l.argc; l.at++) {
        const char *word = l.argv[l.at];
        bool ok;
        if (!flags_end && strcmp(word, "--") == 0) {
            flags_end = true;
            continue;
        }
        if (flags_end || word[0] != '-' || !word[1]) {
            ok = take_argument(o, c, word);
        } else {
            ok = word[1] == '-' ? take_long(o, c, &l) : take_short(o, c, &l);
        }
        if (!ok) return false;
        if (o->help) return true; /* whatever else is missing */
    }
    if (c->rule == ARGUMENT_REQUIRED && !o->model) {
        complain(c->name, "%s is missing: weir %s %s", c->argument, c->name, c->usage);
        return false;
    }
    return true;
}
