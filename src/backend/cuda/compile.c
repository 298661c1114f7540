/* compile.c - NVRTC by dlopen, and the cache of what it made.
 *
 * A cache file is a header (magic, hash of what it was made from, size and hash of the code) and
 * the code; a file that does not fit its header is made again.  Files are written beside their
 * place and renamed.
 *
 * Test: tests/backend/test_cuda_host.c, tests/backend/test_kernels.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/compile.h"

#include "backend/cuda/stage.h"
#include "base/file.h"

#include <assert.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_SOURCES = 32, MAX_PATH = 4096 };

/* X(name, symbol, arguments) */
#define NVRTC_FUNCTIONS(X)                                                                     \
    X(error, "nvrtcGetErrorString", const char *, (int result))                                \
    X(version, "nvrtcVersion", int, (int *major, int *minor))                                  \
    X(count, "nvrtcGetNumSupportedArchs", int, (int *out))                                     \
    X(targets, "nvrtcGetSupportedArchs", int, (int *out))                                      \
    X(create, "nvrtcCreateProgram", int,                                                       \
      (void **out, const char *source, const char *name, int n, const char *const *texts,      \
       const char *const *names))                                                              \
    X(compile, "nvrtcCompileProgram", int, (void *program, int n, const char *const *options)) \
    X(log_size, "nvrtcGetProgramLogSize", int, (void *program, size_t *out))                   \
    X(log, "nvrtcGetProgramLog", int, (void *program, char *out))                              \
    X(code_size, "nvrtcGetCUBINSize", int, (void *program, size_t *out))                       \
    X(code, "nvrtcGetCUBIN", int, (void *program, char *out))                                  \
    X(destroy, "nvrtcDestroyProgram", int, (void **program))

typedef struct nvrtc {
    void *library;
    int (*watch)(void *program, int (*is_over)(void *, void *), void *user); /* may be NULL */
#define X(name, symbol, result, arguments) result(*name) arguments;
    NVRTC_FUNCTIONS(X)
#undef X
} nvrtc;

static void *open_library(void) {
    static const char *const names[] = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so",
                                        "/usr/local/cuda/lib64/libnvrtc.so"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library) return library;
    }
    return NULL;
}

static weir_status nvrtc_open(nvrtc *out, weir_error *err) {
    *out = (nvrtc){.library = open_library()};
    if (!out->library) {
        return weir_fail(err, WEIR_ERR_DEVICE,
                         "GPU kernels cannot be compiled: libnvrtc.so.13 or .12 not found; install "
                         "it, or take an engine file that `weir build` made elsewhere");
    }
    void *found;
#define X(name, symbol, result, arguments)                                                  \
    if (!(found = dlsym(out->library, symbol))) {                                           \
        dlclose(out->library);                                                              \
        return weir_fail(err, WEIR_ERR_DEVICE, "libnvrtc has no %s, a newer one is needed", \
                         symbol);                                                           \
    }                                                                                       \
    memcpy(&out->name, &found, sizeof found);
    NVRTC_FUNCTIONS(X)
#undef X
    found = dlsym(out->library, "nvrtcSetFlowCallback");
    memcpy(&out->watch, &found, sizeof found);
    return WEIR_OK;
}

weir_status cuda_compiler_find(cuda_compiler *out, weir_error *err) {
    *out = (cuda_compiler){0};
    nvrtc n;
    int count = 0;
    WEIR_TRY(nvrtc_open(&n, err));
    int result = n.version(&out->version[0], &out->version[1]);
    if (result == 0) result = n.count(&count);
    if (result == 0 && count > 0 && count <= (int)COUNT_OF(out->targets)) {
        result = n.targets(out->targets);
        out->n_targets = count;
    }
    const weir_status status =
        result == 0 && out->n_targets > 0
            ? WEIR_OK
            : weir_fail(err, WEIR_ERR_DEVICE, "NVRTC does not say what it compiles for: %s",
                        n.error(result));
    dlclose(n.library);
    return status;
}

void cuda_target(char out[16], int major, int minor) {
    assert(major >= 0 && major < 100 && minor >= 0 && minor < 10);
    snprintf(out, 16, "sm_%d%d%s", major, minor, major == 9 ? "a" : "");
}

/* ---- source */

/* Kernels with what this model fixes written in front. */
static void write_source(char out[1024], const cuda_options *o) {
    int act = 0;
    while (act < 31 && o->acts > 1 << act) act++;
    const bool is_one_act = o->acts == 1 << act;
    char one_format[48] = "";
    for (int f = 0; f < 16; f++) {
        if (o->formats != 1 << f) continue;
        snprintf(one_format, sizeof one_format, "#define WEIR_ONE_FORMAT %d\n", f);
    }
    const int n = is_one_act ? snprintf(out, 1024, "#define WEIR_ACT(act) %d\n", act) : 0;
    snprintf(out + n, (size_t)(1024 - n),
             "#define WEIR_FORMATS 0x%x\n"
             "%s"
             "#define WEIR_HEAD_DIM(w) %d\n"
             "#define WEIR_KV_TYPE(w) %d\n"
             "#define WEIR_PIN_TYPE(w) %d\n"
             "#define WEIR_LANE_PAIRS %d\n"
             "#define WEIR_HEADS %d\n"
             "#include \"walk.cu\"\n"
             "#include \"rows.cu\"\n"
             "#include \"spread.cu\"\n"
             "#include \"wide.cu\"\n"
             "#include \"draw.cu\"\n"
             "#include \"measure.cu\"\n"
             "#include \"attend_many.cu\"\n",
             (unsigned)o->formats, one_format, o->head_dim, o->kv_type, o->pin_type,
             (o->head_dim + 63) / 64, MAX_OF(1, o->heads));
}

/* A file of the cache is only as trusted as its folder. */
uint64_t cuda_hash(uint64_t h, const void *data, size_t size) {
    const uint8_t *p = data;
    for (size_t i = 0; i < size; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static uint64_t hash_text(uint64_t h, const char *text) {
    return cuda_hash(h, text, strlen(text) + 1);
}

static uint64_t hash_all(const char *source, const char *target) {
    uint64_t h = hash_text(0xcbf29ce484222325u, source);
    h = hash_text(h, target);
    for (const cuda_source *s = cuda_sources; s->name; s++) {
        h = hash_text(hash_text(h, s->name), s->text);
    }
    return h;
}

uint64_t cuda_key(const cuda_options *o) {
    char source[1024];
    write_source(source, o);
    return hash_all(source, o->target);
}

uint64_t cuda_sources_key(void) {
    return hash_all("", "");
}

/* ---- cache */

typedef struct cache_header {
    char magic[8];
    uint64_t made_from, size, code_hash;
} cache_header;

static const char MAGIC[8] = {'w', 'e', 'i', 'r', 'c', 'u', 'b', '1'};

static bool cache_path(char out[MAX_PATH], const char *folder, uint64_t key) {
    const int n = snprintf(out, MAX_PATH, "%s/weir-%016" PRIx64 ".cubin", folder, key);
    return n > 0 && n < MAX_PATH;
}

static bool read_cache(cuda_image *out, const char *folder, uint64_t key) {
    char path[MAX_PATH];
    mapped_file file;
    cache_header header;
    if (!cache_path(path, folder, key) || file_map(&file, path, NULL) != WEIR_OK) return false;
    bool fits = file.size > sizeof header;
    if (fits) {
        memcpy(&header, file.data, sizeof header);
        const uint8_t *code = file.data + sizeof header;
        fits = memcmp(header.magic, MAGIC, sizeof MAGIC) == 0 && header.made_from == key &&
               header.size == file.size - sizeof header &&
               header.code_hash == cuda_hash(key, code, header.size) &&
               buffer_append(&out->code, code, header.size);
    }
    file_unmap(&file);
    return out->cached = fits;
}

/* A folder and the one it is in; what fails shows as a cache that keeps nothing. */
static void make_folder(const char *path) {
    char parent[MAX_PATH];
    const char *last = strrchr(path, '/');
    const size_t n = last ? (size_t)(last - path) : 0;
    if (n > 0 && n < sizeof parent) {
        memcpy(parent, path, n);
        parent[n] = 0;
        mkdir(parent, 0700);
    }
    mkdir(path, 0700);
}

static void write_cache(const cuda_image *image, const char *folder, uint64_t key) {
    char path[MAX_PATH];
    file_writer w;
    cache_header header = {.made_from = key,
                           .size = image->code.size,
                           .code_hash = cuda_hash(key, image->code.data, image->code.size)};
    memcpy(header.magic, MAGIC, sizeof MAGIC);
    make_folder(folder);
    if (!cache_path(path, folder, key) || file_create(&w, path, NULL) != WEIR_OK) return;
    if (file_write(&w, &header, sizeof header, NULL) == WEIR_OK &&
        file_write(&w, image->code.data, image->code.size, NULL) == WEIR_OK) {
        (void)file_commit(&w, NULL);
    } else {
        file_abandon(&w);
    }
}

/* ---- compilation */

/* The first line of the log that says "error". */
static weir_status fail_with_log(const nvrtc *n, void *program, int result, const char *target,
                                 weir_error *err) {
    size_t size = 0;
    char *log = NULL;
    if (n->log_size(program, &size) == 0 && size > 0) log = mem_alloc(size + 1);
    if (log) n->log(program, log);
    const char *line = log ? strstr(log, "error") : NULL;
    const int length = line ? (int)strcspn(line, "\n") : 0;
    const weir_status status =
        weir_fail(err, WEIR_ERR_DEVICE, "GPU kernels do not compile for %s: %s: %.*s", target,
                  n->error(result), MIN_OF(length, 300), line ? line : "");
    mem_free(log);
    return status;
}

static weir_status take_code(const nvrtc *n, void *program, cuda_image *out, weir_error *err) {
    size_t size = 0;
    int result = n->code_size(program, &size);
    if (result == 0 && !buffer_reserve(&out->code, size)) {
        return weir_fail(err, WEIR_ERR_MEMORY, "no memory for %zu bytes of GPU code", size);
    }
    if (result == 0) result = n->code(program, out->code.data);
    if (result != 0) {
        return weir_fail(err, WEIR_ERR_DEVICE, "NVRTC gives no code: %s", n->error(result));
    }
    out->code.size = size;
    return WEIR_OK;
}

typedef struct flow { /* of a compilation; NVRTC wants the same answer from its first yes on */
    const cuda_watch *watch;
    atomic_flag is_asking;
    atomic_bool is_canceled;
} flow;

static int is_over(void *user, void *unused) {
    flow *f = user;
    (void)unused;
    const cuda_watch *w = f->watch;
    if (w && w->progress && !atomic_flag_test_and_set(&f->is_asking)) {
        if (w->progress(w->user, "compiling kernels", w->done, w->total)) {
            atomic_store(&f->is_canceled, true);
        }
        atomic_flag_clear(&f->is_asking);
    }
    return atomic_load(&f->is_canceled);
}

static weir_status compile(const nvrtc *n, cuda_image *out, const char *source, const char *target,
                           flow *f, weir_error *err) {
    const char *names[MAX_SOURCES], *texts[MAX_SOURCES];
    int n_sources = 0;
    for (const cuda_source *s = cuda_sources; s->name; s++, n_sources++) {
        assert(n_sources < MAX_SOURCES);
        names[n_sources] = s->name;
        texts[n_sources] = s->text;
    }
    void *program = NULL;
    int result = n->create(&program, source, "weir.cu", n_sources, texts, names);
    if (result != 0) {
        return weir_fail(err, WEIR_ERR_DEVICE, "NVRTC makes no program: %s", n->error(result));
    }
    char architecture[48];
    snprintf(architecture, sizeof architecture, "--gpu-architecture=%s", target);
    const char *const options[] = {architecture, "--std=c++17"};
    if (n->watch) n->watch(program, is_over, f);
    result = n->compile(program, 2, options);
    weir_status status;
    if (atomic_load(&f->is_canceled)) {
        status = weir_fail(err, WEIR_ERR_CANCELED, "canceled while kernels were compiled");
    } else if (result == 0) {
        status = take_code(n, program, out, err);
    } else {
        status = fail_with_log(n, program, result, target, err);
    }
    n->destroy(&program);
    return status;
}

weir_status cuda_compile(cuda_image *out, const cuda_options *o, const char *folder,
                         const cuda_watch *watch, weir_error *err) {
    *out = (cuda_image){0};
    char source[1024];
    write_source(source, o);
    const uint64_t key = hash_all(source, o->target);
    if (folder && read_cache(out, folder, key)) return WEIR_OK;
    buffer_clear(&out->code);
    nvrtc n;
    flow f = {.watch = watch, .is_asking = ATOMIC_FLAG_INIT};
    WEIR_TRY(nvrtc_open(&n, err));
    (void)n.version(&out->nvrtc[0], &out->nvrtc[1]);
    (void)is_over(&f, NULL);
    const weir_status status = compile(&n, out, source, o->target, &f, err);
    dlclose(n.library);
    if (status != WEIR_OK) cuda_image_clear(out);
    if (status == WEIR_OK && folder) write_cache(out, folder, key);
    return status;
}

void cuda_image_clear(cuda_image *image) {
    buffer_clear(&image->code);
    *image = (cuda_image){0};
}
