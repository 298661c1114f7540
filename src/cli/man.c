/* man.c - the man page weir(1), made from the tables of commands and flags.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/chat.h"
#include "cli/options.h"
#include "cli/term.h"

#include <ctype.h>
#include <string.h>

#define MAN_DATE "2026-11-25" /* when what it says was last changed */

/* Text as troff wants it: no line begins with a control character, a dash is a dash. */
static void put(const char *text) {
    bool at_start = true;
    for (; *text; text++) {
        if (at_start && (*text == '.' || *text == '\'')) out_print("\\&");
        at_start = false;
        switch (*text) {
        case '\\': out_print("\\e"); break;
        case '-': out_print("\\-"); break;
        case '\'': out_print("\\(aq"); break;
        case '`': out_print("\\(ga"); break;
        case '^': out_print("\\(ha"); break;
        case '~': out_print("\\(ti"); break;
        case '\n': out_print(" "); break;
        default: out_write(text, 1);
        }
    }
}

/* A description of a command: paragraphs are separated by an empty line. */
static void paragraphs(const char *text) {
    while (*text) {
        const char *end = strstr(text, "\n\n");
        const size_t n = end ? (size_t)(end - text) : strlen(text);
        char part[2048];
        snprintf(part, sizeof part, "%.*s", (int)n, text);
        put(part);
        text += n + (end ? 2 : 0);
        out_print(*text ? "\n.PP\n" : "\n");
    }
}

/* A tagged paragraph: the flag, then its help as a sentence. */
static void put_flag(const flag *f) {
    out_print(".TP\n");
    if (f->letter) out_print("\\fB\\-%c\\fR, ", f->letter);
    out_print("\\fB\\-\\-");
    put(f->name);
    out_print("\\fR");
    if (f->meta) {
        out_print(" \\fI");
        put(f->meta);
        out_print("\\fR");
    }
    out_print("\n");
    char help[512];
    snprintf(help, sizeof help, f->fallback ? "%s. Default: %s." : "%s.", f->help, f->fallback);
    help[0] = (char)toupper((unsigned char)help[0]);
    put(help);
    out_print("\n");
}

/* A flag is common when more than one command has it. */
static bool is_common(const flag *f) {
    return f->group != GROUP_COMMAND;
}

/* What only this command takes; the rest is under COMMON OPTIONS. */
static void put_command(const command *c) {
    out_print(".SS \"weir %s\"\n", c->name);
    out_print("\\fBweir %s\\fR ", c->name);
    put(c->usage);
    out_print("\n.PP\n");
    paragraphs(c->description);
    for (int i = 0; i < N_FLAGS; i++) {
        if (FLAGS[i].commands & c->bit && !is_common(&FLAGS[i])) put_flag(&FLAGS[i]);
    }
}

static void put_common(void) {
    out_print(".SH \"COMMON OPTIONS\"\nMost commands take these; "
              "\\fBweir\\fR \\fICOMMAND\\fR \\fB\\-\\-help\\fR lists exactly which.\n");
    for (int g = GROUP_COMMAND + 1; g < GROUP_COUNT; g++) {
        out_print(".SS \"%s\"\n", GROUP_TITLES[g]);
        for (int i = 0; i < N_FLAGS; i++) {
            if (FLAGS[i].group == (flag_group)g && is_common(&FLAGS[i])) put_flag(&FLAGS[i]);
        }
    }
}

static void put_chat_commands(void) {
    out_print(".SH \"COMMANDS WITHIN A CHAT\"\n");
    for (int i = 0; i < N_CHAT_COMMANDS; i++) {
        const chat_command *c = &CHAT_COMMANDS[i];
        out_print(".TP\n\\fB/%s\\fR", c->name);
        if (c->argument) {
            out_print(" \\fI");
            put(c->argument);
            out_print("\\fR");
        }
        out_print("\n");
        put(c->help);
        out_print("\n");
    }
    out_print(".TP\n\\fB/\\fINAME VALUE\\fR\nSets a sampling option, as \\fB\\-\\-\\fINAME "
              "VALUE\\fR does on the command line: /temp 0.5.\n");
}

static void put_examples(void) {
    out_print(".SH EXAMPLES\n");
    for (int i = 0; i < N_COMMANDS; i++) {
        for (int k = 0; k < MAX_EXAMPLES && COMMANDS[i].examples[k].line; k++) {
            out_print(".TP\n\\fB");
            put(COMMANDS[i].examples[k].line);
            out_print("\\fR\n");
            put(COMMANDS[i].examples[k].what);
            out_print("\n");
        }
    }
}

void man_print(void) {
    out_print(".\\\" Made by `weir help --man`; do not edit.\n"
              ".TH WEIR 1 \"" MAN_DATE "\" \"weir %s\" \"User Commands\"\n"
              ".SH NAME\nweir \\- endless conversations with a language model\n"
              ".SH SYNOPSIS\n.B weir\n.I COMMAND\n.RI [ MODEL ]\n.RI [ options ]\n"
              ".SH DESCRIPTION\n",
              weir_version());
    put("weir runs language models for conversations that never end: it keeps the first tokens of "
        "a stream and the most recent ones, and lets the middle flow out, so that the millionth "
        "token costs what the thousandth cost.");
    out_print("\n.PP\n\\fIMODEL\\fR is a Hugging Face folder, a .safetensors or a .gguf file; "
              "without it, the model "
              "inside weir.\n"
              ".SH COMMANDS\n");
    for (int i = 0; i < N_COMMANDS; i++) put_command(&COMMANDS[i]);
    put_common();
    put_chat_commands();
    out_print(
        ".SH \"EXIT STATUS\"\n"
        ".TP\n0\nSuccess.\n"
        ".TP\n1\nSomething failed; a line on standard error says what.\n"
        ".TP\n2\nThe command line was wrong.\n"
        ".TP\n128 + \\fIn\\fR\nSignal \\fIn\\fR ended the run, for example 130 after Ctrl\\-C.\n"
        ".SH ENVIRONMENT\n"
        ".TP\n\\fBNO_COLOR\\fR\nWhen set and not empty, no colours.\n"
        ".TP\n\\fBXDG_STATE_HOME\\fR\nWhere the history of chat is kept.\n"
        ".SH FILES\n"
        ".TP\n\\fI$XDG_STATE_HOME/weir/history\\fR, \\fI\\(ti/.local/state/weir/history\\fR\n"
        "Lines typed in chat.\n");
    put_examples();
}
