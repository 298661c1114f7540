/* term.h - what a command shows and hears: text, messages, progress, signals.
 *
 * Standard output carries results, standard error everything else.  Colours and progress appear on
 * a terminal only, colours not when NO_COLOR is set.  On a terminal control characters in the text
 * of models and files are shown as ^X instead of obeyed.
 *
 * A reader that goes away (weir ... | head) ends a command quietly: writing returns false, the
 * command cleans up, and term_finish dies by SIGPIPE as any Unix tool does.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ------------------------------------------------------------------ terminals */

typedef enum term_style { STYLE_PLAIN, STYLE_BOLD, STYLE_DIM, STYLE_RED } term_style;

bool term_is(FILE *f);                           /* a terminal that knows cursor keys   */
int term_width(FILE *f);                         /* columns, 80 when it is no terminal  */
const char *term_set(FILE *f, term_style style); /* the escape sequence, "" without one */

/* ------------------------------------------------------------------ standard output */

void term_init(void);                          /* signals and locale; once, first     */
bool out_write(const char *data, size_t size); /* raw bytes                           */
bool out_text(const char *data, size_t size);  /* the text of a model, flushed        */
bool out_print(const char *format, ...) WEIR_PRINTF(1, 2);
bool out_ok(void);                                /* everything so far was written       */
int term_finish(const char *command, int status); /* flushes; returns the exit status    */

/* ------------------------------------------------------------------ messages */

/* weir COMMAND: message, one line on standard error. */
void complain(const char *command, const char *format, ...) WEIR_PRINTF(2, 3);

/* ------------------------------------------------------------------ signals */

/* The number of the signal that asked to end (INT, TERM, HUP), 0 while there is none.  A second
 * one, a moment later and while the first was not cleared, kills at once. */
int signal_caught(void);

/* Waits a moment for input: 1 when read will not block, 0 when there is none yet (or the process
 * was stopped and goes on), -1 when a signal was caught. */
int term_wait(int fd);
void signal_clear(void);

/* What a signal calls from now on, besides; NULL: nothing.  It must do as little as a handler may.
 */
void signal_watch(void (*call)(void *user), void *user);

/* ------------------------------------------------------------------ progress */

/* A line on standard error that is redrawn in place; nothing without a terminal.  All-zero and
 * off: nothing either. */
typedef struct progress {
    bool off;
    bool shown;
    const char *what;
    double start, last;
} progress;

/* Draws "what  [####....]  40 %  1.2 of 3.0 GB  2.1 GB/s  1 s left" at most ten times a second. */
void progress_show(progress *p, const char *what, uint64_t done, uint64_t total, bool is_bytes,
                   const char *note);
void progress_end(progress *p); /* wipes it */

/* ------------------------------------------------------------------ numbers for people */

enum { NUMBER_SIZE = 32 };
const char *format_count(char out[NUMBER_SIZE], uint64_t n);   /* 1,234,567         */
const char *format_bytes(char out[NUMBER_SIZE], double bytes); /* 1.23 GB           */
const char *format_seconds(char out[NUMBER_SIZE], double s);   /* 420 ms, 3.2 s, 2:05 */
