/* plot.c - a child process that draws.
 *
 * gnuplot reads its script from a pipe and writes the picture to standard output, which is a file
 * beside the target: no name of ours passes through a shell or through gnuplot's syntax.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/plot.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Asked before the work, so that nobody waits an hour to learn it. */
bool plot_is_possible(void) {
    const char *path = getenv("PATH");
    while (path && *path) {
        char name[4096];
        const size_t n = strcspn(path, ":");
        snprintf(name, sizeof name, "%.*s/gnuplot", (int)n, path);
        if (n && access(name, X_OK) == 0) return true;
        path += n + (path[n] == ':');
    }
    return false;
}

static bool add(buffer *out, const char *format, ...) WEIR_PRINTF(2, 3);

static bool add(buffer *out, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return n >= 0 && (size_t)n < sizeof text && buffer_append(out, text, (size_t)n);
}

/* Quotes would end gnuplot's string. */
static void plain(char *out, size_t size, const char *text) {
    snprintf(out, size, "%s", text);
    for (char *p = out; *p; p++) {
        if (*p == '"' || *p == '\\' || *p == '`' || (unsigned char)*p < 0x20) *p = ' ';
    }
}

bool plot_script(buffer *out, const char *title, const char *x_label, const char *y_label,
                 const double *x, const double *y, int n) {
    char safe[200];
    plain(safe, sizeof safe, title);
    bool ok = add(out,
                  "set terminal svg size 900,420 dynamic background rgb 'white'\n"
                  "set title \"%s\" noenhanced\n",
                  safe) &&
              add(out, "set xlabel '%s'\nset ylabel '%s'\n", x_label, y_label) &&
              add(out, "set grid\nunset key\nset logscale y\nset format x '%%.0s%%c'\n"
                       "set yrange [*:*]\n$data << EOD\n");
    for (int i = 0; i < n && ok; i++) ok = add(out, "%.9g %.9g\n", x[i], y[i]);
    return ok && add(out, "EOD\nplot $data using 1:2 with lines lw 1.5 lc rgb '#1f5fa8'\n");
}

/* Feeds the script through a pipe; SIGPIPE is ignored, so a gnuplot that died is just an error. */
static bool feed(int fd, const char *script, size_t size) {
    while (size) {
        const ssize_t n = write(fd, script, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        script += n;
        size -= (size_t)n;
    }
    return true;
}

/* Starts gnuplot; it gets back the SIGPIPE that weir ignores. */
static bool spawn(pid_t *child, int in, int out) {
    char name[] = "gnuplot";
    char *const argv[] = {name, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    if (posix_spawn_file_actions_init(&actions) != 0) return false;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return false;
    }
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    const bool ok = posix_spawnp(child, name, &actions, &attributes, argv, environ) == 0;
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return ok;
}

weir_status plot_run(const char *path, const char *script, size_t size, weir_error *err) {
    file_writer file;
    int ends[2], result = 0;
    pid_t child;
    WEIR_TRY(file_create(&file, path, err));
    if (pipe2(ends, O_CLOEXEC) != 0) {
        file_abandon(&file);
        return weir_fail(err, WEIR_ERR_IO, "%s: no pipe to gnuplot: %s", path, strerror(errno));
    }
    const bool started = spawn(&child, ends[0], file.fd);
    close(ends[0]);
    const bool fed = started && feed(ends[1], script, size);
    close(ends[1]);
    while (started && waitpid(child, &result, 0) < 0 && errno == EINTR) continue;
    if (!fed || result != 0) {
        file_abandon(&file);
        return weir_fail(err, WEIR_ERR_IO, "%s: gnuplot %s", path,
                         started ? "failed to draw it" : "cannot be run");
    }
    return file_commit(&file, err);
}
