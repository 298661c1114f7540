/* gpu.c - how fast the CUDA back end decodes, on random weights of known shapes.
 *
 *     bench_gpu [-j] [-l LEVEL] [-n STEPS] [-s STREAMS | -c CHUNK [-p PROMPT]] [-w WINDOW]
 *               [-d TEMPERATURE] SHAPE:TYPE...
 *
 * SHAPE:TYPE is 1b:bf16, 7b:q4_0, ...; with -c steps are chunks of a prompt.  With -d, and with -s
 * anyhow, the device draws the tokens (0: the likeliest, else top-k 40 and top-p 0.9), reads them,
 * and the host sees them while the next step is under way; without, logits go to the host.
 *
 * A stream that decodes also takes turns with itself 10^7 tokens later, 10 tokens each.
 *
 * The ring is full: every token sees WINDOW keys.  With -p what is timed is a whole prompt, read in
 * chunks from nothing.  For each shape: median, p99 and the most of a step by the host's clock,
 * bytes a step must read (weights and the keys and values it sees) and the rate that makes, then
 * where the time of one step went, by kind of stage, by the clock of block 0.  -j: one line of JSON
 * instead.
 *
 * All matrices of a model hold the same random bytes; on the device each has its own copy.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "backend/cuda/cuda.h"

#include <stdlib.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "backend/made_model.h"

enum { SINKS = 4, MAX_STREAMS = 256, MAX_ROWS = 8192, MAX_STEPS = 1 << 17 };

static const struct {
    const char *name;
    made_shape shape;
} shapes[] = {
    {"1b",
     {.dim = 2048,
      .ffn_dim = 8192,
      .n_layers = 16,
      .n_heads = 32,
      .n_kv_heads = 8,
      .head_dim = 64,
      .vocab = 128256,
      .rope_dims = 64,
      .tied = true}},
    {"7b",
     {.dim = 4096,
      .ffn_dim = 11008,
      .n_layers = 32,
      .n_heads = 32,
      .n_kv_heads = 32,
      .head_dim = 128,
      .vocab = 32000,
      .rope_dims = 128}},
    {"8b",
     {.dim = 4096,
      .ffn_dim = 14336,
      .n_layers = 32,
      .n_heads = 32,
      .n_kv_heads = 8,
      .head_dim = 128,
      .vocab = 128256,
      .rope_dims = 128}},
};

typedef struct settings {
    const char *level;
    int steps, streams, window;
    int chunk;  /* 0: decode; tokens of one prompt in a step */
    int prompt; /* 0: chunks see the full ring; tokens of a prompt read from nothing */
    bool json, draws;
    float temperature;    /* of draws */
    const backend *ahead; /* has drawn a token for every stream already */
} settings;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const weir_error *err) {
    fprintf(stderr, "bench_gpu: %s\n", err->message);
    exit(1);
}

static bool find_shape(const char *text, made_shape *out) {
    const char *colon = strchr(text, ':');
    if (!colon) return false;
    bool found = false;
    for (size_t i = 0; i < COUNT_OF(shapes); i++) {
        if (strncmp(text, shapes[i].name, (size_t)(colon - text)) != 0) continue;
        *out = shapes[i].shape;
        found = true;
    }
    for (int type = 0; type < TENSOR_N_TYPES; type++) {
        if (strcasecmp(colon + 1, tensor_type_name((tensor_type)type)) != 0) continue;
        out->type = (tensor_type)type;
        out->pool = tensor_row_bytes(out->type, out->dim) *
                    (size_t)MAX_OF(out->vocab, MAX_OF(out->ffn_dim, out->dim) * 4);
        return found;
    }
    return false;
}

/* Rings full of random 16-bit numbers below 2. */
static void fill_store(backend *b, const kv_shape *store) {
    const size_t bytes = b->api->row_bytes(b, false);
    rng r = {99};
    char *rows = mem_alloc(bytes * 64);
    for (size_t i = 0; i + 2 <= bytes * 64; i += 2) {
        const uint16_t half = float_to_f16((float)(2 * rng_uniform(&r) - 1));
        memcpy(rows + i, &half, 2);
    }
    weir_error err;
    for (int slot = 0; slot < store->slots; slot++) {
        for (int row = 0; row < store->ring; row += 64) {
            if (b->api->import_rows(b, slot, false, row, MIN_OF(64, store->ring - row), rows, &err))
                die(&err);
        }
        if (b->api->import_rows(b, slot, true, 0, store->pins, rows, &err)) die(&err);
    }
    mem_free(rows);
}

static int rows_of_step(const settings *s) {
    return s->chunk ? s->chunk : s->streams;
}

static void step(backend *b, const settings *s, uint64_t pos) {
    static batch_row rows[MAX_ROWS];
    static batch_group groups[MAX_ROWS];
    static int wanted[MAX_ROWS];
    static batch_draw draws[MAX_STREAMS];
    static int32_t tokens[MAX_STREAMS];
    const int n = rows_of_step(s);
    for (int i = 0; i < n; i++) {
        rows[i] = (batch_row){.token = (int)(pos * 31 + (uint64_t)i) % 32000,
                              .slot = s->chunk ? 0 : i,
                              .pos = s->chunk ? pos * (uint64_t)n + (uint64_t)i : pos,
                              .p = (uint32_t)s->window - 1,
                              .pins = SINKS,
                              .recent = s->window - SINKS};
        groups[i] = (batch_group){.slot = i, .first = i, .n = 1};
        wanted[i] = s->chunk ? n - 1 : i;
    }
    if (s->chunk) groups[0].n = n;
    const weir_sampling how = {.temperature = s->temperature, .top_k = 40, .top_p = 0.9f};
    for (int i = 0; i < s->streams && s->draws; i++) {
        draws[i] = (batch_draw){.how = &how, .uniform = (double)(pos % 97) / 97};
        if (b == s->ahead) rows[i].token = BATCH_DRAWN;
    }
    const batch all = {.rows = rows,
                       .groups = groups,
                       .wanted = wanted,
                       .draws = s->draws ? draws : NULL,
                       .n = n,
                       .n_groups = s->streams,
                       .n_wanted = s->streams};
    weir_error err;
    if (b->api->step(b, &all, &err) != WEIR_OK) die(&err);
    if (!s->draws || b != s->ahead) return;
    if (b->api->drawn(b, 1, tokens, s->streams, &err) != WEIR_OK) die(&err);
}

/* A prompt from nothing; the logits of its last token are wanted. */
static void read_prompt(backend *b, const settings *s) {
    static batch_row rows[MAX_ROWS];
    for (int first = 0; first < s->prompt; first += s->chunk) {
        const int n = MIN_OF(s->chunk, s->prompt - first);
        for (int i = 0; i < n; i++) {
            const int pos = first + i;
            const bool is_pin = pos < SINKS;
            rows[i] = (batch_row){.token = pos * 31 % 32000,
                                  .pos = (uint64_t)pos,
                                  .p = (uint32_t)pos,
                                  .pins = is_pin ? pos + 1 : SINKS,
                                  .recent = is_pin ? 0 : pos + 1 - SINKS,
                                  .is_pin = is_pin};
        }
        const batch_group group = {.n = n};
        const int wanted = n - 1;
        const batch all = {.rows = rows,
                           .groups = &group,
                           .wanted = &wanted,
                           .n = n,
                           .n_groups = 1,
                           .n_wanted = first + n == s->prompt};
        weir_error err;
        if (b->api->step(b, &all, &err) != WEIR_OK) die(&err);
    }
}

static void run(backend *b, const settings *s, uint64_t pos) {
    if (s->prompt) {
        read_prompt(b, s);
    } else {
        step(b, s, pos);
    }
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Where blocks spend a step: block 0, and the least, the middle and the most of all; then which
 * multiprocessors multiply fastest and slowest. */
static void print_marks(uint64_t (*marks)[CUDA_MARKS + 1], int n_blocks, double us) {
    enum { MULTIPLY = 3, SHOWN = 6 };
    static const char *const places[CUDA_MARKS] = {
        "end of stage",   "barrier",         "project: input",  "project: multiply",
        "project: meet",  "project: finish", "attend: queries", "attend: split",
        "attend: ticket", "attend: merge"};
    double *of = mem_array((size_t)n_blocks, sizeof *of);
    printf("      %-18s %8s %8s %8s %8s us\n", "", "block 0", "least", "middle", "most");
    for (int i = 0; i < CUDA_MARKS && places[i]; i++) {
        for (int k = 0; k < n_blocks; k++) of[k] = us * (double)marks[k][i];
        qsort(of, (size_t)n_blocks, sizeof *of, compare);
        printf("      %-18s %8.1f %8.1f %8.1f %8.1f\n", places[i], us * (double)marks[0][i], of[0],
               of[n_blocks / 2], of[n_blocks - 1]);
        if (i != MULTIPLY) continue;
        for (int k = 0; k < n_blocks; k++) {
            const double time = us * (double)marks[k][i];
            if (time > of[SHOWN - 1] && time < of[n_blocks - SHOWN]) continue;
            printf("        block %3d on %3d: %8.1f\n", k, (int)marks[k][CUDA_MARKS], time);
        }
    }
    mem_free(of);
}

static void print_stages(backend *b, double seconds) {
    static const char *const names[] = {
#define OP(NAME, name, formula) #name,
        NN_OPS(OP)
#undef OP
            "phases",
        "store"};
    const cuda_layout *l = &cuda_of(b)->layout;
    uint64_t *times = mem_array((size_t)l->n_stages, sizeof *times), all = 0, of[16] = {0};
    double bytes[16] = {0};
    int n[16] = {0};
    const int n_blocks = cuda_of(b)->device.n_blocks;
    uint64_t(*marks)[CUDA_MARKS + 1] = mem_array((size_t)n_blocks, sizeof *marks);
    weir_error err;
    if (cuda_stage_times(b, times, marks[0], &err) != WEIR_OK) die(&err);
    for (int i = 0; i < l->n_stages; i++) {
        const cuda_stage *s = &l->stages[i];
        all += times[i];
        of[s->kind] += times[i];
        n[s->kind]++;
        if (s->kind == NN_PROJECT) {
            bytes[s->kind] += (double)s->matrix.tile_bytes * s->matrix.n_tiles;
        }
    }
    for (int k = 0; k < (int)COUNT_OF(names); k++) {
        if (!n[k]) continue;
        const double part = seconds * (double)of[k] / (double)all;
        printf("    %-10s %4d  %8.1f us", names[k], n[k], 1e6 * part);
        if (bytes[k] > 0) printf("  %5.2f TB/s", 1e-12 * bytes[k] / part);
        printf("\n");
    }
    for (int i = 3; i < l->n_stages; i++) { /* the products of a layer, and the head */
        const cuda_stage *s = &l->stages[i];
        if (s->kind != NN_PROJECT || (i > 9 && i + 1 < l->n_stages)) continue;
        const double part = seconds * (double)times[i] / (double)all;
        printf("      %6d x %6d  %8.1f us  %5.2f TB/s\n", s->matrix.rows, s->matrix.cols,
               1e6 * part, 1e-12 * (double)s->matrix.tile_bytes * s->matrix.n_tiles / part);
    }
    print_marks(marks, n_blocks, 1e6 * seconds / (double)all);
    mem_free(marks);
    mem_free(times);
}

typedef struct figures { /* seconds of a step; bytes the device has free before and after them */
    double median, p99, most, far; /* far: of what it is at 10^4, at 10^7; 0: not taken */
    size_t free_before, free_after;
} figures;

static size_t free_bytes(backend *b) {
    cuda_device *d = &cuda_of(b)->device;
    size_t now_free, all;
    weir_error err;
    if (CUDA_CALL(d, memory_info, &err, &now_free, &all) != WEIR_OK) die(&err);
    return now_free;
}

static void time_steps(backend *b, const settings *s, double *times, int n, uint64_t pos) {
    for (int i = 0; i < n; i++) {
        const double from = now();
        run(b, s, pos + (uint64_t)i);
        times[i] = now() - from;
    }
}

/* Steps at position 10^4 and 10^7 in turns: what the later ones take of what the earlier take. */
static double compare_far(backend *b, const settings *s) {
    enum { EACH = 400, TURN = 10 };
    double near[EACH], far[EACH];
    for (int i = 0; i < EACH; i += TURN) {
        time_steps(b, s, near + i, TURN, 10000 + (uint64_t)i);
        time_steps(b, s, far + i, TURN, 10000000 + (uint64_t)i);
    }
    qsort(near, EACH, sizeof *near, compare);
    qsort(far, EACH, sizeof *far, compare);
    return far[EACH / 2] / near[EACH / 2];
}

static void report(backend *b, const char *text, const made_shape *shape, const settings *s,
                   const figures *f, double opened) {
    const double tokens = s->prompt ? s->prompt : rows_of_step(s);
    backend_sizes sizes;
    b->api->sizes(b, &sizes);
    const double kv = 4.0 * shape->head_dim * shape->n_kv_heads * shape->n_layers * s->window;
    const double bytes = (double)sizes.step_weight_bytes + kv * s->streams;
    if (s->json) {
        printf("{\"shape\": \"%s\", \"device\": \"%s\", \"streams\": %d, \"tok_s\": %.6g, "
               "\"step_s\": %.6g, \"p99_s\": %.6g, \"max_s\": %.6g, \"steps\": %d, "
               "\"device_free_first\": %zu, \"device_free_last\": %zu",
               text, b->api->kernels(b), s->streams, tokens / f->median, f->median, f->p99, f->most,
               s->steps, f->free_before, f->free_after);
        if (f->far > 0) printf(", \"at_1e7_to_at_1e4\": %.5g", f->far);
        if (!s->chunk) {
            printf(", \"bytes\": %.6g, \"bytes_s\": %.6g", bytes, bytes / f->median);
        }
        printf("}\n");
        return;
    }
    printf("%-10s %s%s: %.1f tok/s, step %.1f us (p99 %.1f, most %.1f), %.2f GB, %.2f TB/s, opened "
           "in %.1f s\n",
           text, b->api->kernels(b),
           s->chunk         ? ", prompt"
           : s->streams > 1 ? ", streams"
                            : "",
           tokens / f->median, 1e6 * f->median, 1e6 * f->p99, 1e6 * f->most, 1e-9 * bytes,
           1e-12 * bytes / f->median, opened);
    if (f->far > 0) printf("    at position 10^7 %+.2f %%\n", 100 * (f->far - 1));
}

static void measure(const char *text, const made_shape *shape, settings *s) {
    const double begin = now();
    const int n = rows_of_step(s);
    made *m = made_new(shape, n, s->streams);
    const kv_shape store = {.type = WEIR_F16,
                            .n_layers = shape->n_layers,
                            .n_kv_heads = shape->n_kv_heads,
                            .head_dim = shape->head_dim,
                            .slots = s->streams,
                            .pins = SINKS,
                            .ring = s->window - SINKS + s->chunk};
    const backend_options o = {.level = s->level, .cache = "/tmp/weir_kernels"};
    backend *b;
    weir_error err;
    if (backend_cuda.open(&b, m->plan, &store, &o, &err) != WEIR_OK) die(&err);
    fill_store(b, &store);
    const double opened = now();
    static double times[MAX_STEPS];
    uint64_t pos = 10000;
    for (int i = 0; i < (s->prompt ? 2 : 10); i++) {
        run(b, s, pos++);
        s->ahead = b;
    }
    figures f = {.free_before = free_bytes(b)};
    time_steps(b, s, times, s->steps, pos);
    pos += (uint64_t)s->steps;
    f.free_after = free_bytes(b);
    qsort(times, (size_t)s->steps, sizeof *times, compare);
    f.median = times[s->steps / 2];
    f.p99 = times[(int64_t)s->steps * 99 / 100];
    f.most = times[s->steps - 1];
    if (!s->chunk) f.far = compare_far(b, s);
    report(b, text, shape, s, &f, opened - begin);
    if (!s->level && !s->json && n <= CUDA_TOKENS) {
        cuda_take_times(b);
        step(b, s, pos++);
        print_stages(b, times[s->steps / 2]);
    }
    fflush(stdout);
    b->api->close(b);
    made_free(m);
}

int main(int argc, char **argv) {
    settings s = {.steps = 200, .streams = 1, .window = 2048};
    for (int c; (c = getopt(argc, argv, "jd:l:n:s:w:c:p:")) != -1;) {
        switch (c) {
        case 'd': s.draws = true, s.temperature = (float)atof(optarg); break;
        case 'j': s.json = true; break;
        case 'p': s.prompt = atoi(optarg); break;
        case 'l': s.level = optarg; break;
        case 'n': s.steps = atoi(optarg); break;
        case 's': s.draws = true, s.streams = atoi(optarg); break;
        case 'w': s.window = atoi(optarg); break;
        case 'c': s.chunk = atoi(optarg); break;
        default: return 2;
        }
    }
    if (s.steps < 1 || s.steps > MAX_STEPS || s.streams < 1 || s.streams > MAX_STREAMS) return 2;
    if (s.chunk < 0 || s.chunk > MAX_ROWS || (s.chunk && s.streams > 1)) return 2;
    if (s.draws && s.chunk) return 2;
    if (s.prompt < 0 || s.prompt > s.window || (s.prompt && !s.chunk)) return 2;
    for (int i = optind; i < argc; i++) {
        made_shape shape;
        if (!find_shape(argv[i], &shape)) {
            fprintf(stderr, "bench_gpu: %s: wants 1b, 7b or 8b, a colon and a type\n", argv[i]);
            return 2;
        }
        measure(argv[i], &shape, &s);
    }
    return 0;
}
