/* engine_file.c - reads engine files, takes nothing on trust, and says what does not fit.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/engine_file.h"

#include "backend/backend.h"
#include "backend/cuda/pack.h"

#include <assert.h>
#include <elf.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char MAGIC[8] = {'w', 'e', 'i', 'r', 'e', 'n', 'g', '1'};

enum { CUDA_MACHINE = 190 }; /* EM_CUDA */

/* ---- code */

/* A table of n entries of `each` bytes inside size bytes. */
static bool has_table(size_t size, uint64_t at, uint64_t n, uint64_t each, size_t least) {
    return n == 0 || (each >= least && at <= size && n <= (size - at) / each);
}

/* Whether all that the headers of an ELF file for GPUs point to lies inside it. */
static bool is_code(const uint8_t *code, size_t size) {
    Elf64_Ehdr file;
    if (size < sizeof file) return false;
    memcpy(&file, code, sizeof file);
    if (memcmp(file.e_ident, ELFMAG, SELFMAG) != 0 || file.e_ident[EI_CLASS] != ELFCLASS64 ||
        file.e_ident[EI_DATA] != ELFDATA2LSB || file.e_machine != CUDA_MACHINE ||
        !has_table(size, file.e_shoff, file.e_shnum, file.e_shentsize, sizeof(Elf64_Shdr)) ||
        !has_table(size, file.e_phoff, file.e_phnum, file.e_phentsize, sizeof(Elf64_Phdr))) {
        return false;
    }
    for (int i = 0; i < file.e_shnum; i++) {
        Elf64_Shdr s;
        memcpy(&s, code + file.e_shoff + (size_t)i * file.e_shentsize, sizeof s);
        if (s.sh_type != SHT_NOBITS && (s.sh_offset > size || s.sh_size > size - s.sh_offset)) {
            return false;
        }
    }
    for (int i = 0; i < file.e_phnum; i++) {
        Elf64_Phdr p;
        memcpy(&p, code + file.e_phoff + (size_t)i * file.e_phentsize, sizeof p);
        if (p.p_offset > size || p.p_filesz > size - p.p_offset) return false;
    }
    return true;
}

/* ---- the file */

uint64_t cuda_engine_hash(const engine_header *h) {
    const size_t from = offsetof(engine_header, sources);
    return cuda_hash(0xcbf29ce484222325u, (const char *)h + from, sizeof *h - from);
}

static bool is_terminated(const char *text, size_t size) {
    return memchr(text, 0, size) != NULL;
}

static weir_status fail_damaged(const char *path, const char *what, weir_error *err) {
    return weir_fail(err, WEIR_ERR_FORMAT,
                     "%s: engine file is damaged: %s; copy it or build it again", path, what);
}

static weir_status parse_head(engine_header *out, const uint8_t *data, size_t size,
                              const char *path, weir_error *err) {
    const size_t kind = sizeof MAGIC - 1;
    if (size < sizeof MAGIC || memcmp(data, MAGIC, kind) != 0) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: is no engine file; `weir build` makes them",
                         path);
    }
    if (data[kind] != MAGIC[kind]) {
        return weir_fail(err, WEIR_ERR_FORMAT,
                         "%s: is an engine file of another version of weir; build it again", path);
    }
    if (size < sizeof *out) return fail_damaged(path, "it ends inside its header", err);
    memcpy(out, data, sizeof *out);
    if (out->bytes != size) {
        return weir_fail(err, WEIR_ERR_FORMAT,
                         "%s: engine file is damaged: has %zu bytes of %" PRIu64
                         "; copy it or build it again",
                         path, size, out->bytes);
    }
    if (out->n_images < 1 || out->n_images > ENGINE_TARGETS ||
        !is_terminated(out->weir, sizeof out->weir) ||
        !is_terminated(out->model, sizeof out->model)) {
        return fail_damaged(path, "its header makes no sense", err);
    }
    return WEIR_OK;
}

weir_status cuda_engine_parse(engine_header *out, const uint8_t *data, size_t size,
                              const char *path, weir_error *err) {
    WEIR_TRY(parse_head(out, data, size, path, err));
    for (int i = 0; i < out->n_images; i++) {
        const engine_image *image = &out->images[i];
        if (!is_terminated(image->target, sizeof image->target) || image->at < sizeof *out ||
            image->at % ENGINE_ALIGN || image->at > size || image->bytes > size - image->at) {
            return fail_damaged(path, "code lies outside of it", err);
        }
        if (!is_code(data + image->at, image->bytes)) {
            return fail_damaged(path, "what should be code for a GPU is not", err);
        }
        if (image->hash != cuda_hash(image->made_from, data + image->at, image->bytes)) {
            return fail_damaged(path, "code is not what was written", err);
        }
    }
    if (out->hash != cuda_engine_hash(out)) {
        return fail_damaged(path, "its header is not what was written", err);
    }
    return WEIR_OK;
}

bool cuda_engine_is(const char *path) {
    mapped_file file;
    if (file_map(&file, path, NULL) != WEIR_OK) return false;
    const bool is = file.size >= sizeof MAGIC && memcmp(file.data, MAGIC, sizeof MAGIC - 1) == 0;
    file_unmap(&file);
    return is;
}

static bool write_all(file_writer *w, const engine_header *h, const cuda_image *images,
                      weir_error *err) {
    static const char zeros[ENGINE_ALIGN];
    uint64_t at = sizeof *h;
    if (file_write(w, h, sizeof *h, err) != WEIR_OK) return false;
    for (int i = 0; i < h->n_images; i++) {
        const engine_image *image = &h->images[i];
        if (file_write(w, zeros, image->at - at, err) != WEIR_OK ||
            file_write(w, images[i].code.data, image->bytes, err) != WEIR_OK) {
            return false;
        }
        at = image->at + image->bytes;
    }
    return true;
}

weir_status cuda_engine_write(file_writer *w, engine_header *h, const cuda_image *images,
                              weir_error *err) {
    assert(h->n_images > 0 && h->n_images <= ENGINE_TARGETS);
    memcpy(h->magic, MAGIC, sizeof MAGIC);
    h->bytes = sizeof *h;
    for (int i = 0; i < h->n_images; i++) {
        engine_image *image = &h->images[i];
        image->at = (h->bytes + ENGINE_ALIGN - 1) / ENGINE_ALIGN * ENGINE_ALIGN;
        image->bytes = images[i].code.size;
        image->hash = cuda_hash(image->made_from, images[i].code.data, images[i].code.size);
        h->bytes = image->at + image->bytes;
    }
    h->hash = cuda_engine_hash(h);
    return write_all(w, h, images, err) ? WEIR_OK : err ? err->status : WEIR_ERR_IO;
}

/* ---- does it fit? */

typedef enum option_kind { OPTION_NUMBER, OPTION_FORMATS, OPTION_ACTS, OPTION_TYPE } option_kind;

static const char *bit_name(option_kind kind, int bit) {
    static const char *const acts[] = {"silu", "gelu", "gelu (tanh)", "relu"};
    if (kind == OPTION_FORMATS) {
        return bit < CUDA_N_FORMATS ? cuda_format_name((cuda_format)bit) : NULL;
    }
    return bit < (int)COUNT_OF(acts) ? acts[bit] : NULL;
}

static void name_value(char *out, size_t size, option_kind kind, int value) {
    out[0] = 0;
    if (kind == OPTION_NUMBER) {
        snprintf(out, size, "%d", value);
    } else if (kind == OPTION_TYPE) {
        snprintf(out, size, "%s", kv_type_name((weir_type)value));
    } else {
        for (int bit = 0; bit < 31; bit++) {
            const char *name = value & 1 << bit ? bit_name(kind, bit) : NULL;
            const size_t n = strlen(out);
            if (name) snprintf(out + n, size - n, "%s%s", n ? ", " : "", name);
        }
        if (!out[0]) snprintf(out, size, "none");
    }
}

void cuda_engine_option_text(char *out, size_t size, const char *name, int value) {
    static const struct {
        const char *name;
        option_kind kind;
    } kinds[] = {{"formats", OPTION_FORMATS},
                 {"acts", OPTION_ACTS},
                 {"kv_type", OPTION_TYPE},
                 {"pin_type", OPTION_TYPE}};
    option_kind kind = OPTION_NUMBER;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (strcmp(kinds[i].name, name) == 0) kind = kinds[i].kind;
    }
    name_value(out, size, kind, value);
}

static weir_status compare_option(const char *path, const char *name, int has, int wanted,
                                  const char *before, const char *behind, weir_error *err) {
    char was[64], wants[64];
    if (has == wanted) return WEIR_OK;
    cuda_engine_option_text(was, sizeof was, name, has);
    cuda_engine_option_text(wants, sizeof wants, name, wanted);
    return weir_fail(err, WEIR_ERR_ARGUMENT,
                     "%s: was built for %s%s%s%s, this run wants %s; build it again for this model "
                     "and these options",
                     path, before, before[0] ? " " : "", was, behind, wants);
}

static weir_status compare(const engine_header *h, const char *path, const cuda_options *want,
                           weir_error *err) {
    if (h->sources != cuda_sources_key()) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "%s: was built by another weir (%s, this is %s; its kernels differ); "
                         "build it again",
                         path, h->weir, weir_version());
    }
#define X(name, before, behind) \
    WEIR_TRY(compare_option(path, #name, h->name, want->name, before, behind, err));
    CUDA_OPTIONS(X)
#undef X
    return WEIR_OK;
}

/* How well a GPU runs code of a target: not at all is 0, its own is best.  It also runs that of an
 * older GPU of its generation, unless a letter says that the code is for one kind alone. */
static int fitness(const char *code, const char *gpu) {
    enum { OWN = 100 };
    if (strcmp(code, gpu) == 0) return OWN;
    const size_t n = strlen(code);
    if (n < 5 || n != strlen(gpu) || strncmp(code, gpu, n - 1) != 0) return 0;
    const int minor = code[n - 1] - '0', most = gpu[n - 1] - '0';
    return minor >= 0 && minor <= 9 && most <= 9 && minor < most ? 1 + minor : 0;
}

void cuda_engine_targets_text(char *out, size_t size, const engine_header *h) {
    out[0] = 0;
    for (int i = 0; i < h->n_images; i++) {
        const size_t n = strlen(out);
        snprintf(out + n, size - n, "%s%s", i ? ", " : "", h->images[i].target);
    }
}

static const engine_image *choose(const engine_header *h, const char *gpu) {
    const engine_image *out = NULL;
    int best = 0;
    for (int i = 0; i < h->n_images; i++) {
        const int fits = fitness(h->images[i].target, gpu);
        if (fits <= best) continue;
        best = fits;
        out = &h->images[i];
    }
    return out;
}

static weir_status take(cuda_image *out, const engine_header *h, const uint8_t *data,
                        const char *path, const cuda_options *want, weir_error *err) {
    WEIR_TRY(compare(h, path, want, err));
    const engine_image *image = choose(h, want->target);
    if (!image) {
        char targets[128];
        cuda_engine_targets_text(targets, sizeof targets, h);
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "%s: has kernels for %s, this GPU wants %s; build it with --target %s",
                         path, targets, want->target, want->target);
    }
    cuda_options made = *want;
    made.target = image->target;
    if (image->made_from != cuda_key(&made)) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "%s: was built by another weir (%s, this is %s); build it again", path,
                         h->weir, weir_version());
    }
    memcpy(out->nvrtc, h->nvrtc, sizeof out->nvrtc);
    if (buffer_append(&out->code, data + image->at, image->bytes)) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_MEMORY, "%s: no memory for its code", path);
}

weir_status cuda_engine_take(cuda_image *out, const char *path, const cuda_options *want,
                             weir_error *err) {
    mapped_file file;
    engine_header h;
    *out = (cuda_image){0};
    WEIR_TRY(file_map(&file, path, err));
    weir_status status = cuda_engine_parse(&h, file.data, file.size, path, err);
    if (status == WEIR_OK) status = take(out, &h, file.data, path, want, err);
    file_unmap(&file);
    if (status != WEIR_OK) cuda_image_clear(out);
    return status;
}
