/* chat.h - the parts of weir chat: where messages come from, and the commands among them.
 *
 *     cmd_chat.c       the conversation: message, reply, status line
 *     chat_input.c     a terminal with line editing, a script, a pipe
 *     chat_command.c   /help /save /pin ...
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/arena.h"
#include "cli/run.h"

/* ------------------------------------------------------------------ input */

typedef struct chat_input chat_input;

typedef enum input_result {
    INPUT_MESSAGE, /* a message or a command is in *text */
    INPUT_END,     /* end of file, Ctrl-D                */
    INPUT_CANCEL,  /* Ctrl-C: the line is gone           */
    INPUT_SIGNAL,  /* a signal asks to end               */
    INPUT_FAILED,  /* err says why                       */
} input_result;

/* From path, or standard input when it is NULL: with line editing when that is a terminal. */
chat_input *chat_input_open(const char *path, weir_error *err);
void chat_input_close(chat_input *in);
bool chat_input_is_terminal(const chat_input *in);
bool chat_input_was_empty(const chat_input *in); /* the line that Ctrl-C gave up */

/* The next message: lines joined where one ends in a backslash, or all between two """.  Empty
 * ones are skipped. */
input_result chat_input_next(chat_input *in, buffer *text, weir_error *err);

/* ------------------------------------------------------------------ conversation */

typedef struct span { /* of stream positions, [from, to) */
    uint64_t from, to;
} span;

typedef struct chat_state {
    run *r;
    options o;          /* sampling changes while the chat goes on */
    arena *memory;      /* copies of what commands said */
    const char *system; /* NULL: none                   */
    bool is_loaded;     /* the session is from a file, whose system prompt is not known */
    span user, reply;   /* of the last message of each */
    bool quit;
} chat_state;

/* Empties the session and reads the system prompt. */
weir_status chat_begin(chat_state *c);

/* ------------------------------------------------------------------ commands */

typedef struct chat_command {
    const char *name, *argument, *help;
    bool needs_argument;
    bool (*run)(chat_state *c, const char *argument); /* false: r->err says why */
} chat_command;

extern const chat_command CHAT_COMMANDS[];
extern const int N_CHAT_COMMANDS;

/* What completes the first n bytes of a command's name, up to where names differ, with a space
 * behind a whole one; false: nothing does. */
bool chat_command_complete(const char *start, size_t n, char *out, size_t size);

/* Runs "/name argument"; what goes wrong is printed and changes nothing. */
void chat_command_run(chat_state *c, const char *text);
