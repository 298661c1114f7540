/* replay.c - runs a fuzzer's corpus without libFuzzer, as an ordinary test.
 *
 *     replay_gguf FILE-OR-FOLDER...
 *
 * Every file is given to the fuzzer as it is, then a few hundred times with damage: cut short, bits
 * flipped, bytes replaced, pieces repeated.  The damage comes from a fixed seed, so a failure comes
 * back; what fails is named first, because the fuzzer may well abort.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* scandir */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { N_DAMAGED = 300, MAX_PATH = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Damages a copy in place and returns its new size. */
static size_t damage(uint8_t *data, size_t size, uint64_t *state) {
    const int n = 1 + (int)(next_random(state) % 4);
    for (int i = 0; i < n && size > 0; i++) {
        const size_t at = next_random(state) % size;
        switch (next_random(state) % 5) {
        case 0: size = at; break;
        case 1: data[at] ^= (uint8_t)(1u << (next_random(state) & 7)); break;
        case 2: data[at] = (uint8_t)next_random(state); break;
        case 3: data[at] = next_random(state) & 1 ? 0xFF : 0; break;
        default: {
            const size_t from = next_random(state) % size;
            const size_t longest = size - (at > from ? at : from);
            memmove(data + at, data + from, next_random(state) % (longest + 1));
        }
        }
    }
    return size;
}

/* Exactly as many bytes as there are, on the heap, so that reading on is seen. */
static void give(const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) {
        fprintf(stderr, "replay: out of memory\n");
        exit(1);
    }
    if (size) memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void run_file(const char *path, int *n_files) {
    FILE *f = fopen(path, "rb");
    uint8_t *data = NULL;
    long size = -1;
    if (f && fseek(f, 0, SEEK_END) == 0) size = ftell(f);
    if (size >= 0) data = malloc(2 * (size_t)size + 2);
    if (!data || fseek(f, 0, SEEK_SET) != 0 || fread(data, 1, (size_t)size, f) != (size_t)size) {
        fprintf(stderr, "replay: %s: cannot be read\n", path);
        exit(1);
    }
    fclose(f);
    printf("%s\n", path);
    fflush(stdout);
    give(data, (size_t)size);
    uint8_t *const scratch = data + size + 1;
    uint64_t state = 0x9E3779B97F4A7C15u ^ (uint64_t)size;
    for (int i = 0; i < N_DAMAGED; i++) {
        if (size) memcpy(scratch, data, (size_t)size);
        give(scratch, damage(scratch, (size_t)size, &state));
    }
    free(data);
    ++*n_files;
}

static void run(const char *path, int *n_files) {
    struct stat s;
    if (stat(path, &s) != 0) {
        fprintf(stderr, "replay: %s: is not there\n", path);
        exit(1);
    }
    if (!S_ISDIR(s.st_mode)) {
        run_file(path, n_files);
        return;
    }
    struct dirent **entries;
    const int n = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char inside[MAX_PATH];
        const int length = snprintf(inside, sizeof inside, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && length < MAX_PATH) run(inside, n_files);
        free(entries[i]);
    }
    if (n >= 0) free(entries);
}

int main(int argc, char **argv) {
    int n_files = 0;
    for (int i = 1; i < argc; i++) run(argv[i], &n_files);
    if (n_files == 0) {
        fprintf(stderr, "replay: no files given\n");
        return 1;
    }
    printf("replay: %d files, each whole and %d times damaged\n", n_files, N_DAMAGED);
    return 0;
}
