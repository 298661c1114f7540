/* flat.c - flat for ever: does the millionth token cost what the thousandth did?
 *
 *     build/release/bench/flat MODEL [TOKENS [WINDOW [OUT]]]      1000000 tokens, window 256
 *
 * Generates from MODEL without end and looks at every block of 10 000 tokens: the median time of a
 * token, and the memory at its end.  Verdicts:
 *
 *     memory   resident pages, and on a GPU what it has free, are the same at the end of every
 *              block but the first; a GPU's driver has threads of its own, so there resident
 *              memory is within 64 KiB
 *     time     the median of the last block is within 2 % of that of the block after the window
 *              first filled
 *     even     p99 of all tokens is within 1.1 times their median; on a GPU, which is nobody else's
 *     far      a token at stream position 10^7 takes what one at 10^4 takes, within 1 %
 *
 * A machine that others use drifts by more than that in a minute.  So, at the end, the session as
 * it was when the window had filled (saved then, restored now) and the session as it is now take
 * turns, 4000 tokens each, 10 tokens at a time, and their medians are compared too.  The two
 * of the last verdict do the same.
 *
 * OUT.csv gets the blocks, OUT.json the verdicts.  Exit status 1 when one fails.
 *
 * SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "weir/weir.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 10000, TURNS = 4000, TURN = 10, MAX_BLOCKS = 100000, OCTAVES = 40, PARTS = 256 };
enum { MOST_DRIVER_BYTES = 64 << 10 };

static const double MOST_APART = 0.02, MOST_FAR = 0.01, MOST_UNEVEN = 1.1;

typedef struct block { /* what one block of tokens cost */
    double median_us;
    long pages;
    size_t device_free; /* bytes; 0: no GPU */
} block;

typedef struct turns { /* medians of two sessions that took turns */
    double first_us, second_us;
} turns;

typedef struct bench {
    weir_engine *engine;
    weir_session *session;
    weir_session_options options;
    weir_engine_info info;
    block *blocks;                /* [n_blocks] */
    long counts[OCTAVES * PARTS]; /* of tokens that took 2^(i / PARTS) ns and more */
    long n_blocks;
    char early[64];                   /* the session when its window had filled */
    double median_us, p99_us, max_us; /* of all tokens */
    turns together, far;
    int (*memory_info)(size_t *free_bytes, size_t *total_bytes);
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

/* Makes pages resident that are written later: the first token that takes as long as none before is
 * counted in a page of its own, which is not memory of the engine's. */
static void touch(void *data, size_t size) {
    volatile char *bytes = data;
    for (size_t i = 0; i < size; i++) bytes[i] = 0;
}

/* What the GPU has free; the back end has made its context this thread's. */
static size_t device_free(const bench *b) {
    size_t free_bytes = 0, total_bytes;
    if (!b->memory_info || b->memory_info(&free_bytes, &total_bytes) != 0) return 0;
    return free_bytes;
}

static void find_device(bench *b) {
    void *library = b->info.is_on_device ? dlopen("libcuda.so.1", RTLD_NOW) : NULL;
    void *found = library ? dlsym(library, "cuMemGetInfo_v2") : NULL;
    memcpy(&b->memory_info, &found, sizeof found);
}

/* ---- tokens */

/* One token more, which the session chooses.  Returns microseconds. */
static double step(weir_session *s, weir_engine *e) {
    weir_error err;
    weir_feed next = {.session = s};
    const double start = now();
    if (weir_engine_step(e, &next, 1, &err) != WEIR_OK) die("step", err.message);
    return 1e6 * (now() - start);
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts them. */
static double median(double *x, size_t n) {
    qsort(x, n, sizeof *x, compare);
    return x[n / 2];
}

static block run_block(bench *b) {
    static double took[BLOCK];
    for (int i = 0; i < BLOCK; i++) {
        took[i] = step(b->session, b->engine);
        if (took[i] > b->max_us) b->max_us = took[i];
        b->counts[(int)(PARTS * log2(1e3 * took[i] + 1)) % (OCTAVES * PARTS)]++;
    }
    return (block){median(took, BLOCK), resident_pages(), device_free(b)};
}

/* What so many of a hundred tokens took at most, to 0.3 %. */
static double percentile(const bench *b, int percent) {
    long left = b->n_blocks * BLOCK / 100 * percent;
    int i = 0;
    while (left >= b->counts[i]) left -= b->counts[i++];
    return 1e-3 * exp2((i + 1.0) / PARTS);
}

static void fill_window(const bench *b, weir_session *s) {
    weir_error err;
    if (weir_session_append(s, "Once upon a time", 16, &err) != WEIR_OK) die("prompt", err.message);
    for (int i = 0; i < b->info.window; i++) step(s, b->engine);
}

static void save_early(bench *b) {
    weir_error err;
    snprintf(b->early, sizeof b->early, "/tmp/weir-flat.%ld", (long)getpid());
    if (weir_session_save(b->session, b->early, &err) != WEIR_OK) die("save", err.message);
}

static turns take_turns(const bench *b, weir_session *first, weir_session *second) {
    static double first_us[TURNS], second_us[TURNS];
    for (int i = 0; i < TURNS; i += TURN) {
        for (int k = i; k < i + TURN; k++) first_us[k] = step(first, b->engine);
        for (int k = i; k < i + TURN; k++) second_us[k] = step(second, b->engine);
    }
    return (turns){median(first_us, TURNS), median(second_us, TURNS)};
}

/* Both ends of the stream under the same weather. */
static void run_together(bench *b) {
    weir_error err;
    weir_session *early;
    if (weir_session_open(&early, b->engine, &b->options, &err) != WEIR_OK ||
        weir_session_restore(early, b->early, &err) != WEIR_OK) {
        die("restore", err.message);
    }
    unlink(b->early);
    b->together = take_turns(b, early, b->session);
    weir_session_close(early);
    weir_session_close(b->session);
}

static void run_far(bench *b) {
    static const uint64_t starts[] = {10000, 10000000};
    weir_session *s[2];
    weir_error err;
    for (int i = 0; i < 2; i++) {
        weir_session_options o = b->options;
        o.start = starts[i];
        if (weir_session_open(&s[i], b->engine, &o, &err) != WEIR_OK) die("open", err.message);
        fill_window(b, s[i]);
    }
    b->far = take_turns(b, s[0], s[1]);
    for (int i = 0; i < 2; i++) weir_session_close(s[i]);
}

/* ---- verdicts */

typedef struct verdicts {
    bool memory, time, together, even, far;
} verdicts;

static double apart(double x, double y) {
    return x / y - 1;
}

static bool is_near(double x, double y, double most) {
    return apart(x, y) < most && apart(x, y) > -most;
}

/* The first block may still touch a page for the first time. */
static bool is_memory_flat(const bench *b) {
    const long most = b->info.is_on_device ? MOST_DRIVER_BYTES / sysconf(_SC_PAGESIZE) : 0;
    for (long i = 2; i < b->n_blocks; i++) {
        if (labs(b->blocks[i].pages - b->blocks[1].pages) > most) return false;
        if (b->blocks[i].device_free != b->blocks[1].device_free) return false;
    }
    return true;
}

static verdicts judge(bench *b) {
    b->median_us = percentile(b, 50);
    b->p99_us = percentile(b, 99);
    return (verdicts){
        .memory = is_memory_flat(b),
        .time = is_near(b->blocks[b->n_blocks - 1].median_us, b->blocks[0].median_us, MOST_APART),
        .together = is_near(b->together.second_us, b->together.first_us, MOST_APART),
        .even = !b->info.is_on_device || b->p99_us <= MOST_UNEVEN * b->median_us,
        .far = is_near(b->far.second_us, b->far.first_us, MOST_FAR)};
}

static void print_pair(const char *what, double first, double last, bool holds,
                       const char *if_not) {
    printf("%-34s %12.2f %12.2f %+8.2f%% %s\n", what, first, last, 100 * apart(last, first),
           holds ? "flat" : if_not);
}

static void print_verdicts(const bench *b, const verdicts *v) {
    const block *first = &b->blocks[0], *last = &b->blocks[b->n_blocks - 1];
    const block *second = &b->blocks[b->n_blocks > 1];
    printf("\n%-34s %12s %12s %9s\n", "", "first", "last", "");
    printf("%-34s %12ld %12ld %9s\n", "resident pages", second->pages, last->pages,
           v->memory ? "flat" : "NOT FLAT");
    if (b->info.is_on_device) {
        printf("%-34s %12zu %12zu\n", "bytes the GPU has free", second->device_free,
               last->device_free);
    }
    print_pair("us per token, as time went by", first->median_us, last->median_us, v->time,
               "NOT WITHIN 2 %");
    print_pair("us per token, taking turns now", b->together.first_us, b->together.second_us,
               v->together, "NOT WITHIN 2 %");
    print_pair("us per token at 10^4 and 10^7", b->far.first_us, b->far.second_us, v->far,
               "NOT WITHIN 1 %");
    printf("us per token of all: median %.2f, p99 %.2f, most %.2f%s\n", b->median_us, b->p99_us,
           b->max_us, v->even ? "" : " NOT EVEN");
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

static const char *truth(bool x) {
    return x ? "true" : "false";
}

static void record(const bench *b, const char *base, const verdicts *v) {
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
    const block *second = &b->blocks[b->n_blocks > 1], *last = &b->blocks[b->n_blocks - 1];
    fprintf(json,
            "{\"bench\": \"flat\", \"commit\": \"%s\", \"cpu\": \"%s\", \"kernels\": \"%s\",\n"
            " \"parameters\": %llu, \"window\": %d, \"tokens\": %ld, \"threads\": %d,\n"
            " \"pages_first\": %ld, \"pages_last\": %ld, \"device_free_first\": %zu,\n"
            " \"device_free_last\": %zu, \"memory_is_flat\": %s,\n"
            " \"median_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f, \"time_is_even\": %s,\n"
            " \"first_us\": %.3f, \"last_us\": %.3f, \"time_is_flat\": %s,\n"
            " \"turns_first_us\": %.3f, \"turns_last_us\": %.3f, \"turns_are_flat\": %s,\n"
            " \"at_1e4_us\": %.3f, \"at_1e7_us\": %.3f, \"far_is_flat\": %s}\n",
            commit, cpu, b->info.kernels, (unsigned long long)b->info.parameters, b->info.window,
            b->n_blocks * BLOCK, b->info.threads, second->pages, last->pages, second->device_free,
            last->device_free, truth(v->memory), b->median_us, b->p99_us, b->max_us, truth(v->even),
            b->blocks[0].median_us, last->median_us, truth(v->time), b->together.first_us,
            b->together.second_us, truth(v->together), b->far.first_us, b->far.second_us,
            truth(v->far));
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
    find_device(b);
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
    b.blocks = malloc((size_t)b.n_blocks * sizeof *b.blocks);
    if (!b.blocks) die("memory", "none for the blocks");
    touch(b.blocks, (size_t)b.n_blocks * sizeof *b.blocks);
    touch(b.counts, sizeof b.counts);
    open_all(&b, argv[1], window);
    fill_window(&b, b.session);
    save_early(&b);
    printf("%12s %14s %16s\n", "tokens", "us per token", "resident pages");
    for (long i = 0; i < b.n_blocks; i++) {
        b.blocks[i] = run_block(&b);
        if (i % 10 != 9 && i != 0 && i + 1 != b.n_blocks) continue;
        printf("%12ld %14.2f %16ld\n", (i + 1) * BLOCK, b.blocks[i].median_us, b.blocks[i].pages);
        fflush(stdout);
    }
    run_together(&b);
    run_far(&b);
    const verdicts v = judge(&b);
    print_verdicts(&b, &v);
    if (argc > 4) record(&b, argv[4], &v);
    free(b.blocks);
    weir_engine_close(b.engine);
    return v.memory && v.time && v.together && v.even && v.far ? 0 : 1;
}
