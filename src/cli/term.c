/* term.c - text on standard output, messages on standard error, signals.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/term.h"

#include "base/unicode.h"

#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* ------------------------------------------------------------------ signals */

static volatile sig_atomic_t caught, caught_at; /* the signal; ms of the clock */
static void (*volatile watcher)(void *user);
static void *volatile watched;
static int out_errno; /* of the first write to standard output that failed */

/* timeout(1) sends its signal twice, to the process and to its group: what follows at once is the
 * same one. */
static void on_signal(int number) {
    enum { AT_ONCE = 250 }; /* ms */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    const int now = (int)(t.tv_sec % 1000000) * 1000 + (int)(t.tv_nsec / 1000000);
    if (!caught) {
        caught = number;
        caught_at = now;
        if (watcher) watcher(watched);
    } else if (now - caught_at > AT_ONCE || now < caught_at) { /* the first one was not enough */
        signal(number, SIG_DFL);
        raise(number);
    }
}

void signal_watch(void (*call)(void *user), void *user) {
    watcher = NULL;
    watched = user;
    watcher = call;
}

int signal_caught(void) {
    return caught;
}

void signal_clear(void) {
    caught = 0;
}

/* Writes go on after a signal; who waits for input does so in term_wait, which ends. */
static void install(int number) {
    struct sigaction old, new = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&new.sa_mask);
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler == SIG_IGN) return; /* nohup, & */
    sigaction(number, &new, NULL);
}

/* The time limit is for a signal that comes between the question and the wait. */
int term_wait(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (caught) return -1;
    const int n = poll(&p, 1, 500);
    if (caught) return -1;
    return n > 0 || (n < 0 && errno != EINTR); /* an error shows when it is read */
}

void term_init(void) {
    install(SIGINT);
    install(SIGTERM);
    install(SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    /* Characters only: numbers are written and read in one way everywhere. */
    if (!setlocale(LC_CTYPE, "") || MB_CUR_MAX == 1) setlocale(LC_CTYPE, "C.UTF-8");
}

/* ------------------------------------------------------------------ terminals */

bool term_is(FILE *f) {
    const char *kind = getenv("TERM");
    return isatty(fileno(f)) && !(kind && strcmp(kind, "dumb") == 0);
}

int term_width(FILE *f) {
    struct winsize size;
    if (!isatty(fileno(f)) || ioctl(fileno(f), TIOCGWINSZ, &size) != 0) return 80;
    return size.ws_col >= 20 ? size.ws_col : 80;
}

const char *term_set(FILE *f, term_style style) {
    static const char *const codes[] = {"\033[0m", "\033[1m", "\033[2m", "\033[31m"};
    const char *no_color = getenv("NO_COLOR");
    return (no_color && no_color[0]) || !term_is(f) ? "" : codes[style];
}

/* ------------------------------------------------------------------ standard output */

bool out_ok(void) {
    return out_errno == 0;
}

bool out_write(const char *data, size_t size) {
    if (out_errno) return false;
    if (fwrite(data, 1, size, stdout) != size) out_errno = errno ? errno : EIO;
    return !out_errno;
}

static bool flush(void) {
    if (!out_errno && fflush(stdout) != 0) out_errno = errno ? errno : EIO;
    return !out_errno;
}

/* How many bytes at the front of text a terminal may see as they are; 0: the first character is a
 * control character of *length bytes. */
static size_t harmless(const char *text, size_t size, size_t *length) {
    size_t at = 0;
    while (at < size) {
        uint32_t code;
        *length = utf8_decode(&code, text + at, size - at);
        const bool is_control = (code < 0x20 && code != '\n' && code != '\t') || code == 0x7f ||
                                (code >= 0x80 && code < 0xa0) || code > 0x10ffff;
        if (is_control) break;
        at += *length;
    }
    return at;
}

/* Writes text for a terminal: control characters as ^X, bytes that are no character as ?. */
static void write_visible(FILE *f, const char *text, size_t size) {
    while (size) {
        size_t length = 0;
        const size_t n = harmless(text, size, &length);
        fwrite(text, 1, n, f);
        text += n;
        size -= n;
        if (!size) break;
        if (length == 1 && ((uint8_t)*text < 0x20 || *text == 0x7f)) {
            fputc('^', f);
            fputc(*text ^ 0x40, f);
        } else {
            fputc('?', f);
        }
        text += length;
        size -= length;
    }
}

bool out_text(const char *data, size_t size) {
    if (out_errno) return false;
    if (!isatty(STDOUT_FILENO)) {
        out_write(data, size);
    } else {
        write_visible(stdout, data, size);
    }
    return flush();
}

bool out_print(const char *format, ...) {
    if (out_errno) return false;
    va_list args;
    va_start(args, format);
    if (vfprintf(stdout, format, args) < 0) out_errno = errno ? errno : EIO;
    va_end(args);
    return !out_errno;
}

int term_finish(const char *command, int status) {
    flush();
    if (out_errno == EPIPE) {
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    if (!out_errno) return status;
    complain(command, "standard output cannot be written: %s", strerror(out_errno));
    return status ? status : 1;
}

/* ------------------------------------------------------------------ messages */

/* The message as one line that no terminal can be harmed with. */
static void say(const char *command, const char *format, va_list args) {
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    for (char *p = text; *p; p++) {
        if (*p == '\n' || *p == '\t') *p = ' ';
    }
    fflush(stdout); /* what was printed before comes before */
    fprintf(stderr, "weir%s%s: ", command && command[0] ? " " : "", command ? command : "");
    write_visible(stderr, text, strlen(text));
    fputc('\n', stderr);
}

void complain(const char *command, const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(command, format, args);
    va_end(args);
}
