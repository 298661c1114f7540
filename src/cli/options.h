/* options.h - what a command line says, and the two tables it is read, explained and completed by.
 *
 *     FLAGS[]     name, letter, kind, field, default, range, commands, group, help
 *     COMMANDS[]  name, arguments, summary, description, examples, function
 *
 * The parser (flags.c), --help (help.c), the man page (man.c) and the completions of bash, zsh and
 * fish (completion.c) are all made from them, so a flag is added in one place: a field of options
 * and a row of FLAGS.
 *
 * A default is written as the user would write it and read by the same parser, so what --help
 * prints is what happens.  A default that is no number ("auto", "random") is a word the user may
 * write, too; it is stored as CLI_AUTO.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "weir/weir.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLI_AUTO = -1 }; /* an int or int64_t whose default is a word */

/* Exit statuses; a signal that ended the run gives 128 + its number, as a shell does. */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

typedef struct token_bias { /* --logit-bias ID=V, growing */
    int32_t *ids;           /* [n] heap */
    float *values;          /* [n] heap */
    int n;
} token_bias;

/* Choices are 1-based in the order of their flag's list; 0: not given. */
typedef struct options {
    const char *command; /* its name, for messages               */
    const char *model;   /* the positional argument; NULL: none  */
    bool help;

    /* the model and the machine */
    const char *backend; /* the engine knows the names */
    const char *engine;  /* an engine file             */
    int threads, chunk;
    int kv_type, quantize;

    /* streaming */
    int mode, evict;
    int window, sinks, max_sinks;

    /* choosing tokens */
    int64_t seed;
    float temp, top_p, min_p, typical_p;
    int top_k;
    bool greedy;
    float repeat_penalty, presence_penalty, frequency_penalty;
    int penalty_last;
    token_bias bias;
    const char *stops[WEIR_MAX_STOPS];
    int n_stops;
    bool no_loop_guard, ignore_eos;

    /* output */
    bool quiet, json;

    /* single commands */
    const char *prompt, *file, *token_ids, *text;
    const char *load, *save, *system, *script;
    int tokens;
    bool echo;
    int stride, limit;
    bool no_bos, decode, special;
    const char *logits, *csv, *plot;
    int prefill, depth, sessions, repeat;
    int64_t at;
    bool plan;
    const char *output, *target;

    /* help */
    bool man;
    int completion;
} options;

/* ------------------------------------------------------------------ flags */

typedef enum flag_kind {
    FLAG_SWITCH, /* bool                                     */
    FLAG_INT,    /* int                                      */
    FLAG_LONG,   /* int64_t                                  */
    FLAG_REAL,   /* float                                    */
    FLAG_TEXT,   /* const char *; words in meta, "a|b", are suggested only */
    FLAG_PATH,   /* const char *, completed with files       */
    FLAG_CHOICE, /* int, 1-based index into meta, "a|b|c"    */
    FLAG_BIAS,   /* token_bias, may be given again and again */
    FLAG_STOP,   /* stops, n_stops                           */
} flag_kind;

typedef enum flag_group {
    GROUP_COMMAND,
    GROUP_MACHINE,
    GROUP_STREAM,
    GROUP_SAMPLING,
    GROUP_OUTPUT,
    GROUP_COUNT
} flag_group;

/* Commands as bits, so that a flag can say where it belongs. */
enum {
    IN_CHAT = 1 << 0,
    IN_GENERATE = 1 << 1,
    IN_PERPLEXITY = 1 << 2,
    IN_BENCH = 1 << 3,
    IN_INFO = 1 << 4,
    IN_TOKENIZE = 1 << 5,
    IN_HELP = 1 << 6,
    IN_BUILD = 1 << 7,
};

typedef struct flag {
    const char *name; /* without the dashes                                     */
    char letter;      /* 0: none                                                */
    flag_kind kind;
    size_t field;         /* offset in options                                  */
    const char *meta;     /* what the value is called; the list of a CHOICE     */
    const char *fallback; /* the default as the user would write it; NULL: none */
    double min, max;      /* of numbers                                         */
    unsigned commands;    /* IN_...                                             */
    flag_group group;
    const char *help; /* one sentence, no capital, no full stop             */
} flag;

extern const flag FLAGS[];
extern const int N_FLAGS;
extern const char *const GROUP_TITLES[GROUP_COUNT];

/* ------------------------------------------------------------------ commands */

typedef struct example {
    const char *line, *what;
} example;

typedef enum argument_rule { ARGUMENT_NONE, ARGUMENT_OPTIONAL, ARGUMENT_REQUIRED } argument_rule;

enum { MAX_EXAMPLES = 6 };

typedef struct command {
    const char *name;
    unsigned bit;
    const char *argument; /* "MODEL"; NULL: none                              */
    argument_rule rule;
    const char *usage;       /* what follows it in the synopsis               */
    const char *summary;     /* one line                                      */
    const char *description; /* paragraphs, separated by an empty line        */
    example examples[MAX_EXAMPLES];
    int (*run)(const options *o); /* returns the exit status                  */
} command;

extern const command COMMANDS[];
extern const int N_COMMANDS;

int cmd_chat(const options *o);
int cmd_generate(const options *o);
int cmd_perplexity(const options *o);
int cmd_bench(const options *o);
int cmd_info(const options *o);
int cmd_build(const options *o);
int cmd_tokenize(const options *o);
int cmd_help(const options *o);

/* ------------------------------------------------------------------ parsing */

/* Sets every default of the command's flags. */
void options_init(options *o, const command *c);
void options_clear(options *o);

/* Reads argv[0, argc): flags and at most one argument.  On failure the usage error is printed. */
bool options_parse(options *o, const command *c, int argc, char *const *argv);

/* Sets one flag from text; false with the reason in message (without the flag's name). */
bool flag_set(options *o, const flag *f, const char *text, char *message, size_t size);

const flag *flag_find(const char *name, size_t length, unsigned commands); /* NULL: none */
bool flag_has_value(const flag *f);
bool flag_has_words(const flag *f); /* meta lists them */

/* Writes the i-th word of "a|b|c" to out; false when there are fewer. */
bool choice_get(const char *list, int i, char *out, size_t size);

/* The command of that name, and for a name that is none the nearest one; NULL: nothing near. */
const command *command_find(const char *name);
const char *command_nearest(const char *name);
int command_unknown(const char *word); /* says so; EXIT_USAGE */

/* ------------------------------------------------------------------ generated texts */

void help_print(const command *c);        /* weir COMMAND --help */
void help_print_overview(bool to_stderr); /* weir help           */
void man_print(void);                     /* weir help --man     */
bool completion_print(int shell);         /* 1 bash, 2 zsh, 3 fish */
