/* progress.c - a line on the terminal that says how far a long step is, and numbers for people.
 *
 *     packing weights [########........]  52 %  1.3 of 2.5 GB  1.9 GB/s  1 s left
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/term.h"

#include "base/machine.h"

#include <math.h>
#include <string.h>

enum { BAR = 16 };

#define FIRST_AFTER 0.3 /* seconds: what is quicker shows nothing  */
#define REDRAW      0.1 /* seconds between two drawings            */
#define TRUST_AFTER 1.0 /* seconds until a speed can be believed   */

const char *format_count(char out[NUMBER_SIZE], uint64_t n) {
    char digits[NUMBER_SIZE];
    const int size = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    int at = 0;
    for (int i = 0; i < size && at < NUMBER_SIZE - 2; i++) {
        if (i && (size - i) % 3 == 0) out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
    return out;
}

const char *format_bytes(char out[NUMBER_SIZE], double bytes) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    int i = 0;
    while (bytes >= 999.5 && i < 5) {
        bytes /= 1000;
        i++;
    }
    snprintf(out, NUMBER_SIZE, i && bytes < 99.95 ? "%.3g %s" : "%.0f %s", bytes, units[i]);
    return out;
}

const char *format_seconds(char out[NUMBER_SIZE], double s) {
    const long whole = (long)(s + 0.5);
    if (s < 1) {
        snprintf(out, NUMBER_SIZE, "%.0f ms", s * 1e3);
    } else if (s < 9.95) {
        snprintf(out, NUMBER_SIZE, "%.1f s", s);
    } else if (whole < 60) {
        snprintf(out, NUMBER_SIZE, "%ld s", whole);
    } else if (whole < 3600) {
        snprintf(out, NUMBER_SIZE, "%ld:%02ld", whole / 60, whole % 60);
    } else {
        snprintf(out, NUMBER_SIZE, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
    }
    return out;
}

/* "1.3 of 2.5 GB  1.9 GB/s  1 s left", as much of it as is known. */
static void describe(char *out, size_t size, uint64_t done, uint64_t total, bool is_bytes,
                     double seconds) {
    char a[NUMBER_SIZE], b[NUMBER_SIZE], c[NUMBER_SIZE];
    if (is_bytes) {
        snprintf(out, size, "%s of %s", format_bytes(a, (double)done),
                 format_bytes(b, (double)total));
    } else {
        snprintf(out, size, "%s of %s tokens", format_count(a, done), format_count(b, total));
    }
    if (seconds < TRUST_AFTER || !done) return;
    const double speed = (double)done / seconds;
    const size_t n = strlen(out);
    snprintf(out + n, size - n, is_bytes ? "  %s/s  %s left" : "  %s tok/s  %s left",
             is_bytes ? format_bytes(a, speed) : format_count(a, (uint64_t)(speed + 0.5)),
             format_seconds(c, ceil((double)(total - done) / speed)));
}

void progress_show(progress *p, const char *what, uint64_t done, uint64_t total, bool is_bytes,
                   const char *note) {
    if (p->off || !total || !term_is(stderr)) return;
    const double now = machine_clock();
    if (!p->what || strcmp(p->what, what) != 0) {
        progress_end(p);
        p->what = what;
        p->start = now;
    }
    if (now - p->start < FIRST_AFTER || now - p->last < REDRAW) return;
    if (done > total) done = total;
    char bar[BAR + 1], text[160], line[320];
    const int filled = (int)((double)done / (double)total * BAR);
    memset(bar, '.', BAR);
    memset(bar, '#', (size_t)filled);
    bar[BAR] = 0;
    describe(text, sizeof text, done, total, is_bytes, now - p->start);
    snprintf(line, sizeof line, "%s [%s] %3d %%  %s%s%s", what, bar,
             (int)(100 * ((double)done / (double)total)), note ? note : "", note ? "  " : "", text);
    /* One column stays free: a full line would wrap and could not be wiped. */
    fprintf(stderr, "\r\033[K%.*s", term_width(stderr) - 1, line);
    fflush(stderr);
    p->last = now;
    p->shown = true;
}

void progress_end(progress *p) {
    if (p->shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    *p = (progress){.off = p->off};
}
