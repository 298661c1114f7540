/* fuzz_session.c - any bytes as a saved session: restored, and if that works, used.
 *
 *   input    := how change*            how: byte, low 3 bits the sound file to begin with,
 *                                      bit 3: the rest of the input is the file, bit 4: the
 *                                      checksum is left as it is
 *   change   := u16 u8 u64             at, kind, value: a number, a byte, a sum, another length
 *
 * Random bytes are never a session, and even a good one has a checksum; so the sound files are made
 * here, with a model of fuzz/model (written by tests/support/tiny.c), and the checksum is made
 * right after the changes.
 *
 * Corpus: fuzz/corpus/session.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { N_KINDS = 8, N_ENGINES = 3, WINDOW = 12, MAX_FILE = 1 << 16, STEPS = 40, CHANGE = 11 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct sound_file { /* what a session of some kind saves */
    weir_session_options options;
    int engine, tokens; /* read before it is saved */
    bool is_replying, is_pinning;
    uint8_t data[MAX_FILE];
    size_t size;
} sound_file;

#define SAMPLING                                            \
    {                                                       \
        .temperature = 1.2f, .stops = { "ab", "\xc3\xa9x" } \
    }

static sound_file files[N_KINDS] = {
    {.options = {.sampling = SAMPLING}},
    {.options = {.sampling = SAMPLING}, .tokens = 50, .is_replying = true, .is_pinning = true},
    {.options = {.sampling = SAMPLING, .policy = WEIR_EVICT_TURN},
     .tokens = 30,
     .is_replying = true},
    {.options = {.sampling = SAMPLING, .mode = WEIR_RECOMPUTE, .sinks = 2}, .tokens = 20},
    {.options = {.sampling = SAMPLING, .mode = WEIR_DENSE}, .tokens = 5, .is_replying = true},
    {.options = {.sampling = SAMPLING, .mode = WEIR_WINDOW}, .tokens = 40},
    {.options = {.sampling = SAMPLING, .start = (uint64_t)1 << 40}, .engine = 2, .tokens = 30},
    {.options = {.sampling = SAMPLING}, .engine = 1, .tokens = 70, .is_pinning = true},
};
static weir_engine *engines[N_ENGINES];
static int memory = -1;      /* a file in memory */
static char memory_path[64]; /* its name */

/* What must work or the fuzzer itself is broken. */
static void must(bool is_ok, const char *what) {
    if (is_ok) return;
    fprintf(stderr, "fuzz_session: %s\n", what);
    abort();
}

/* Reads tokens by their low bits, whatever the vocabulary. */
static void feed(weir_session *s, int n) {
    for (int i = 0; i < n; i++) {
        const int32_t id = i * 37 % s->engine->plan->vocab;
        if (i % 5 == 4) window_mark_turn(&s->window);
        if (weir_session_feed(s, &id, 1, NULL) != WEIR_OK) return; /* dense is full */
    }
}

static void make_file(sound_file *f) {
    weir_session *s;
    char path[] = "/tmp/fuzz_session.XXXXXX";
    const int fd = mkstemp(path);
    must(fd >= 0, "no temporary file");
    close(fd);
    must(weir_session_open(&s, engines[f->engine], &f->options, NULL) == WEIR_OK, "no session");
    feed(s, f->tokens);
    if (f->is_pinning) {
        const uint64_t pos = s->window.pos;
        must(weir_session_pin(s, pos - 2, pos, NULL) == WEIR_OK, "cannot pin");
    }
    weir_text text;
    if (f->is_replying) must(weir_session_next(s, &text, NULL) == WEIR_OK, "no reply");
    must(weir_session_save(s, path, NULL) == WEIR_OK, "cannot save");
    FILE *file = fopen(path, "rb");
    must(file != NULL, "cannot read what was saved");
    f->size = fread(f->data, 1, MAX_FILE, file);
    fclose(file);
    unlink(path);
    weir_session_close(s);
}

static void start(void) {
    static const weir_type types[N_ENGINES] = {WEIR_F16, WEIR_INT8, WEIR_FP8};
    for (int i = 0; i < N_ENGINES; i++) {
        const weir_engine_options o = {.threads = 1,
                                       .sessions = 2,
                                       .window = WINDOW,
                                       .max_sinks = 6,
                                       .chunk = 4,
                                       .kv_type = types[i]};
        weir_error err = {0};
        if (weir_engine_open(&engines[i], SOURCE_DIR "/fuzz/model", &o, &err) != WEIR_OK) {
            must(false, err.message);
        }
    }
    for (int i = 0; i < N_KINDS; i++) make_file(&files[i]);
    memory = memfd_create("session", 0);
    must(memory >= 0, "no file in memory");
    snprintf(memory_path, sizeof memory_path, "/proc/self/fd/%d", memory);
}

/* One change of the sound file in `out`; returns its length. */
static size_t change(uint8_t *out, size_t size, const uint8_t how[CHANGE]) {
    uint16_t at;
    uint64_t value, number;
    memcpy(&at, how, sizeof at);
    memcpy(&value, how + 3, sizeof value);
    if (how[2] % 4 == 3) return value % MAX_FILE;
    const size_t place = at % MAX_FILE;
    if (how[2] % 4 == 1) {
        out[place] = (uint8_t)value;
    } else { /* numbers of the head lie at multiples of eight */
        const size_t word = place % (MAX_FILE / 8) * 8;
        memcpy(&number, out + word, sizeof number);
        number = how[2] % 4 == 2 ? number + value : value;
        memcpy(out + word, &number, sizeof number);
    }
    return size;
}

static size_t make_input(uint8_t *out, const sound_file *f, const uint8_t *data, size_t size) {
    const bool is_raw = data[0] & 8, is_sealed = !(data[0] & 16);
    size_t n = f->size;
    memset(out, 0, MAX_FILE);
    if (is_raw) {
        n = size - 1 < MAX_FILE ? size - 1 : MAX_FILE;
        memcpy(out, data + 1, n);
    } else {
        memcpy(out, f->data, f->size);
        for (size_t at = 1; at + CHANGE <= size; at += CHANGE) n = change(out, n, data + at);
    }
    if (is_sealed && n > sizeof(uint64_t)) {
        const uint64_t hash = engine_hash(ENGINE_HASH, out, n - sizeof hash);
        memcpy(out + n - sizeof hash, &hash, sizeof hash);
    }
    return n;
}

/* A session that came out of it is a session: it generates, forks, pins, reads. */
static void use(weir_session *s) {
    weir_session_stats stats;
    weir_session *fork;
    if (weir_session_fork(&fork, s, NULL) == WEIR_OK) weir_session_close(fork);
    for (int i = 0; i < STEPS; i++) {
        weir_text text;
        if (weir_session_next(s, &text, NULL) != WEIR_OK) break;
        weir_session_get_stats(s, &stats);
        must(stats.in_window <= WINDOW && stats.pinned <= 6, "the window has overflowed");
        const uint64_t pos = stats.position;
        if (i == STEPS / 2 && weir_session_pin(s, pos - 1, pos, NULL) != WEIR_OK) continue;
    }
    feed(s, 2 * WINDOW);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t file[MAX_FILE];
    if (size == 0) return 0;
    if (memory < 0) start();
    const sound_file *f = &files[data[0] % N_KINDS];
    const size_t n = make_input(file, f, data, size);
    must(ftruncate(memory, 0) == 0 && pwrite(memory, file, n, 0) == (ssize_t)n, "cannot write");
    weir_session *s;
    must(weir_session_open(&s, engines[f->engine], &f->options, NULL) == WEIR_OK, "no session");
    feed(s, 3);
    weir_error err = {0};
    if (weir_session_restore(s, memory_path, &err) == WEIR_OK) {
        use(s);
    } else {
        must(err.status != WEIR_OK && err.message[0], "refused without a word");
        must(s->window.pos == s->window.start + 3, "a refused file has moved the session");
    }
    weir_session_close(s);
    return 0;
}
