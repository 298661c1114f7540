/* weir_run.h - runs the built weir as a user would and keeps what it printed.
 *
 *     ran r = weir("text for standard input", "tokenize", path, NULL);
 *     assert_int_equal(r.status, 0);
 *     ran_clear(&r);
 *
 * Standard input and both outputs are files, so nothing is a terminal and nothing can block.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/compiler.h"
#include "weir/weir.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct ran {
    int status; /* exit status, or 128 + signal */
    char *out;  /* [out_size], terminated       */
    size_t out_size;
    char *err; /* terminated */
} ran;

enum { MAX_ARGS = 64 };

static inline void ran_clear(ran *r) {
    free(r->out);
    free(r->err);
    *r = (ran){0};
}

static inline char *slurp(FILE *f, size_t *size) {
    fseek(f, 0, SEEK_END);
    const long n = ftell(f);
    assert_true(n >= 0);
    char *text = malloc((size_t)n + 1);
    assert_non_null(text);
    rewind(f);
    assert_int_equal(fread(text, 1, (size_t)n, f), n);
    text[n] = 0;
    if (size) *size = (size_t)n;
    fclose(f);
    return text;
}

static inline char *slurp_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: cannot be opened", path);
    return slurp(f, size);
}

/* Runs program with args, NULL-terminated; standard output goes to out_fd unless that is -1. */
static inline ran run_program(const char *program, const char *input, int out_fd,
                              char *const *args) {
    ran r = {0};
    FILE *in = tmpfile(), *out = tmpfile(), *err = tmpfile();
    assert_true(in && out && err);
    fputs(input, in);
    rewind(in);
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(fileno(in), 0);
        dup2(out_fd >= 0 ? out_fd : fileno(out), 1);
        dup2(fileno(err), 2);
        execvp(program, args);
        _exit(127);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    r.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    r.out = slurp(out, &r.out_size);
    r.err = slurp(err, NULL);
    fclose(in);
    return r;
}

static inline ran weir(const char *input, ...) {
    char program[] = BINARY_DIR "/weir";
    char *args[MAX_ARGS] = {program};
    va_list list;
    va_start(list, input);
    for (int i = 1; i < MAX_ARGS - 1; i++) {
        args[i] = va_arg(list, char *);
        if (!args[i]) break;
    }
    va_end(list);
    return run_program(program, input, -1, args);
}

/* A failure is one line that begins with "weir COMMAND: " and holds what. */
static inline void assert_one_line(const ran *r, const char *begin, const char *what) {
    const char *newline = strchr(r->err, '\n');
    if (strncmp(r->err, begin, strlen(begin)) != 0 || !strstr(r->err, what) || !newline ||
        newline[1]) {
        fail_msg("standard error is \"%s\", wanted one line \"%s...%s...\"", r->err, begin, what);
    }
}

static inline void assert_status(const ran *r, int status) {
    if (r->status != status) fail_msg("exit %d, wanted %d: %s", r->status, status, r->err);
}

static inline bool shared_data(char *out, size_t size, const char *name) {
    snprintf(out, size, SHARED_DATA "/%s", name);
    return access(out, R_OK) == 0;
}

/* A folder for what a test writes, removed by temporary_clear. */
static inline void temporary_make(char out[256]) {
    snprintf(out, 256, BINARY_DIR "/test.XXXXXX");
    assert_non_null(mkdtemp(out));
}

static inline void temporary_clear(const char *folder) {
    char program[] = "rm", option[] = "-rf", path[256];
    char *args[] = {program, option, path, NULL};
    snprintf(path, sizeof path, "%s", folder);
    ran r = run_program(program, "", -1, args);
    ran_clear(&r);
}
