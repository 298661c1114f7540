/* flat.c - flat for ever: does the millionth token cost what the thousandth did?
 *
 *     build/release/bench/flat MODEL [TOKENS [WINDOW [OUT]]]      1000000 tokens, window 256
 *
 * Generates from MODEL without end and looks at every block of 10 000 tokens: the median time of a
 * token, and the resident memory at its end.  Two verdicts:
 *
 *     memory   resident pages are the same at the end of every block but the first
 *     time     the median of the last block is within 2 % of that of the block after the window
 *              first filled
 *
 * A machine that others use drifts by more than that in a minute.  So, at the end, the session as
 * it was when the window had filled (saved then, restored now) and the session as it is now take
 * turns, a block of tokens each, 10 tokens at a time, and their medians are compared too.
 *
 * OUT.csv gets the blocks, OUT.json the verdicts.  Exit status 1 when one fails.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "weir/weir.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 10000, TURN = 10, MAX_BLOCKS = 100000 };

static const double MOST_APART = 0.02;

typedef struct block { /* what one block of tokens cost */
    double median_us;
    long pages;
} block;

typedef struct bench {
    weir_engine *engine;
    weir_session *session;
    weir_session_options options;
    weir_engine_info info;
    block *blocks; /* [n_blocks] */
    long n_blocks;
    char early[64]; /* the session when its window had filled */
    double together_early_us, together_late_us;
} bench;

static _Noreturn void die(const char *what, const char *why) {
    fprintf(stderr, "flat: %s: %s\n", what, why);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Resident pages of this process; reading them allocates nothing. */
static long resident_pages(void) {
    char text[128] = "";
    const int fd = open("/proc/self/statm", O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0) die("/proc/self/statm", "cannot be read");
    close(fd);
    const char *second = strchr(text, ' ');
    return second ? strtol(second, NULL, 10) : 0;
}

/* ---- tokens */

/* One token: chosen, then read.  Returns microseconds. */
static double step(weir_session *s) {
    weir_error err;
    int32_t id;
    const double start = now();
    if (weir_session_sample(s, &id, &err) != WEIR_OK) die("sample", err.message);
    if (weir_session_feed(s, &id, 1, &err) != WEIR_OK) die("feed", err.message);
    return 1e6 * (now() - start);
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, size_t n) {
    qsort(x, n, sizeof *x, compare);
    return x[n / 2];
}

static block run_block(weir_session *s) {
    static double took[BLOCK];
    for (int i = 0; i < BLOCK; i++) took[i] = step(s);
    return (block){median(took, BLOCK), resident_pages()};
}

static void fill_window(bench *b) {
    weir_error err;
    if (weir_session_append(b->session, "Once upon a time", 16, &err) != WEIR_OK) {
        die("prompt", err.message);
    }
    for (int i = 0; i < b->info.window; i++) step(b->session);
    snprintf(b->early, sizeof b->early, "/tmp/weir-flat.%ld", (long)getpid());
    if (weir_session_save(b->session, b->early, &err) != WEIR_OK) die("save", err.message);
}

/* Both ends of the stream under the same weather. */
static void run_together(bench *b) {
    static double early_us[BLOCK], late_us[BLOCK];
    weir_error err;
    weir_session *early;
    if (weir_session_open(&early, b->engine, &b->options, &err) != WEIR_OK ||
        weir_session_restore(early, b->early, &err) != WEIR_OK) {
        die("restore", err.message);
    }
    unlink(b->early);
    for (int i = 0; i < BLOCK; i += TURN) {
        for (int k = i; k < i + TURN; k++) early_us[k] = step(early);
        for (int k = i; k < i + TURN; k++) late_us[k] = step(b->session);
    }
    b->together_early_us = median(early_us, BLOCK);
    b->together_late_us = median(late_us, BLOCK);
    weir_session_close(early);
}

/* ---- verdicts */

static double apart(double x, double y) {
    return x / y - 1;
}

static bool is_near(double x, double y) {
    return apart(x, y) < MOST_APART && apart(x, y) > -MOST_APART;
}

/* The first block may still touch a page for the first time. */
static bool is_memory_flat(const bench *b) {
    for (long i = 2; i < b->n_blocks; i++) {
        if (b->blocks[i].pages != b->blocks[1].pages) return false;
    }
    return true;
}

static void print_verdicts(const bench *b, bool memory, bool in_time, bool together) {
    const block *first = &b->blocks[0], *last = &b->blocks[b->n_blocks - 1];
    printf("\n%-34s %12s %12s %9s\n", "", "first", "last", "");
    printf("%-34s %12ld %12ld %9s\n", "resident pages", b->blocks[b->n_blocks > 1].pages,
           last->pages, memory ? "flat" : "NOT FLAT");
    printf("%-34s %12.2f %12.2f %+8.2f%% %s\n", "us per token, as time went by", first->median_us,
           last->median_us, 100 * apart(last->median_us, first->median_us),
           in_time ? "flat" : "NOT WITHIN 2 %");
    printf("%-34s %12.2f %12.2f %+8.2f%% %s\n", "us per token, taking turns now",
           b->together_early_us, b->together_late_us,
           100 * apart(b->together_late_us, b->together_early_us),
           together ? "flat" : "NOT WITHIN 2 %");
}

static FILE *create(const char *base, const char *ending) {
    char path[4096];
    snprintf(path, sizeof path, "%s%s", base, ending);
    FILE *file = fopen(path, "w");
    if (!file) die(path, "cannot be written");
    return file;
}

/* The first line a command writes, without its end; empty when it fails. */
static void first_line(const char *command, char *out, int size) {
    FILE *pipe = popen(command, "r");
    if (!pipe || !fgets(out, size, pipe)) out[0] = 0;
    if (pipe) pclose(pipe);
    out[strcspn(out, "\n\"\\")] = 0;
}

static void record(const bench *b, const char *base, bool memory, bool in_time, bool together) {
    char commit[64], cpu[128];
    first_line("git rev-parse --short HEAD 2>/dev/null", commit, sizeof commit);
    first_line("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo", cpu, sizeof cpu);
    FILE *csv = create(base, ".csv");
    fprintf(csv, "tokens,median_us,resident_pages\n");
    for (long i = 0; i < b->n_blocks; i++) {
        fprintf(csv, "%ld,%.3f,%ld\n", (i + 1) * BLOCK, b->blocks[i].median_us, b->blocks[i].pages);
    }
    fclose(csv);
    FILE *json = create(base, ".json");
    const block *last = &b->blocks[b->n_blocks - 1];
    fprintf(json,
            "{\"bench\": \"flat\", \"commit\": \"%s\", \"cpu\": \"%s\", \"kernels\": \"%s\",\n"
            " \"parameters\": %llu, \"window\": %d, \"tokens\": %ld, \"threads\": %d,\n"
            " \"pages_first\": %ld, \"pages_last\": %ld, \"memory_is_flat\": %s,\n"
            " \"first_us\": %.3f, \"last_us\": %.3f, \"time_is_flat\": %s,\n"
            " \"turns_first_us\": %.3f, \"turns_last_us\": %.3f, \"turns_are_flat\": %s}\n",
            commit, cpu, b->info.kernels, (unsigned long long)b->info.parameters, b->info.window,
            b->n_blocks * BLOCK, b->info.threads, b->blocks[b->n_blocks > 1].pages, last->pages,
            memory ? "true" : "false", b->blocks[0].median_us, last->median_us,
            in_time ? "true" : "false", b->together_early_us, b->together_late_us,
            together ? "true" : "false");
    fclose(json);
}

static void open_all(bench *b, const char *path, int window) {
    weir_error err;
    const weir_engine_options o = {.threads = 1, .sessions = 2, .window = window};
    b->options.sampling = (weir_sampling){.temperature = 1, .seed = 1};
    if (weir_engine_open(&b->engine, path, &o, &err) != WEIR_OK ||
        weir_session_open(&b->session, b->engine, &b->options, &err) != WEIR_OK) {
        die(path, err.message);
    }
    weir_engine_get_info(b->engine, &b->info);
}

int main(int argc, char **argv) {
    static bench b;
    const long tokens = argc > 2 ? atol(argv[2]) : 1000000;
    const int window = argc > 3 ? atoi(argv[3]) : 256;
    b.n_blocks = tokens / BLOCK;
    if (argc < 2 || argc > 5 || b.n_blocks < 2 || b.n_blocks > MAX_BLOCKS || window < 1) {
        fprintf(stderr, "usage: flat MODEL [TOKENS [WINDOW [OUT]]], at least %d tokens\n",
                2 * BLOCK);
        return 2;
    }
    b.blocks = calloc((size_t)b.n_blocks, sizeof *b.blocks);
    if (!b.blocks) die("memory", "none for the blocks");
    open_all(&b, argv[1], window);
    fill_window(&b);
    printf("%12s %14s %16s\n", "tokens", "us per token", "resident pages");
    for (long i = 0; i < b.n_blocks; i++) {
        b.blocks[i] = run_block(b.session);
        if (i % 10 != 9 && i != 0 && i + 1 != b.n_blocks) continue;
        printf("%12ld %14.2f %16ld\n", (i + 1) * BLOCK, b.blocks[i].median_us, b.blocks[i].pages);
        fflush(stdout);
    }
    run_together(&b);
    const bool memory = is_memory_flat(&b);
    const bool in_time = is_near(b.blocks[b.n_blocks - 1].median_us, b.blocks[0].median_us);
    const bool together = is_near(b.together_late_us, b.together_early_us);
    print_verdicts(&b, memory, in_time, together);
    if (argc > 4) record(&b, argv[4], memory, in_time, together);
    free(b.blocks);
    weir_session_close(b.session);
    weir_engine_close(b.engine);
    return memory && in_time && together ? 0 : 1;
}
