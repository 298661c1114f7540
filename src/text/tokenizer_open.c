/* tokenizer_open.c - finding out what a path holds, and the public text functions of weir.h.
 *
 *   a folder      tokenizer.json in it, or vocab.json + merges.txt
 *   "GGUF..."     a GGUF, with or without tensors
 *   anything else a tokenizer.json by whatever name; the files beside it count when it is called so
 *
 * SPDX-License-Identifier: MIT */
#include "text/tokenizer_parts.h"

#include "base/file.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

static weir_status open_file(weir_tokenizer **out, const char *path, const char *folder,
                             weir_error *err) {
    json_t *root;
    *out = NULL;
    WEIR_TRY(json_read(&root, path, false, err));
    const weir_status status = tokenizer_parse_json(out, root, path, folder, err);
    json_decref(root);
    return status;
}

static bool join(char out[PATH_BYTES], const char *folder, const char *name) {
    const int n = snprintf(out, PATH_BYTES, "%s/%s", folder, name);
    return n >= 0 && n < PATH_BYTES;
}

static weir_status open_folder(weir_tokenizer **out, const char *folder, weir_error *err) {
    char path[PATH_BYTES];
    if (!join(path, folder, "tokenizer.json")) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "%.200s...: path is too long", folder);
    }
    if (file_exists(path)) return open_file(out, path, folder, err);
    if (join(path, folder, "vocab.json") && file_exists(path)) {
        return tokenizer_open_pair(out, folder, err);
    }
    const bool spm = join(path, folder, "tokenizer.model") && file_exists(path);
    return weir_fail(err, WEIR_ERR_IO, "%s: has no tokenizer.json%s", folder,
                     spm ? "; convert its tokenizer.model with transformers: "
                           "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
                         : "");
}

weir_status tokenizer_open_json(weir_tokenizer **out, const char *path, weir_error *err) {
    static const char name[] = "tokenizer.json";
    *out = NULL;
    if (file_is_folder(path)) return open_folder(out, path, err);
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    char folder[PATH_BYTES] = ".";
    const size_t n = slash ? (size_t)(slash - path) : 0;
    if (strcmp(base, name) != 0 || n >= sizeof folder) return open_file(out, path, NULL, err);
    if (slash) {
        memcpy(folder, n ? path : "/", n ? n : 1);
        folder[n ? n : 1] = 0;
    }
    return open_file(out, path, folder, err);
}

static weir_status open_gguf(weir_tokenizer **out, const mapped_file *file, const char *path,
                             weir_error *err) {
    arena *a = arena_new();
    if (!a) return tokenizer_no_memory(err, path);
    gguf *g;
    weir_status status = gguf_parse(&g, a, file->data, file->size, path, err);
    if (status == WEIR_OK) status = tokenizer_open_gguf(out, g, path, err);
    arena_free(a);
    return status;
}

/* Files people have beside the one that is wanted: say what they are, not where the JSON breaks. */
static const char *foreign(const mapped_file *file, const char *path) {
    const size_t n = strlen(path);
    if (n > 12 && strcmp(path + n - 12, ".safetensors") == 0) {
        return "holds weights and no tokenizer; give its folder";
    }
    const bool protobuf =
        file->size > 1 && file->data[0] == '\n' && !strchr("{ \t\r\n", file->data[1]);
    const bool ranks = n > 9 && strcmp(path + n - 9, ".tiktoken") == 0;
    if (protobuf || ranks || strstr(path, "tokenizer.model")) {
        return "looks like a SentencePiece or tiktoken model; convert it to tokenizer.json with "
               "transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)";
    }
    size_t at = 0;
    while (at < file->size && file->data[at] && strchr(" \t\r\n", file->data[at])) at++;
    if (at < file->size && file->data[at] == '{') return NULL;
    return file->size ? "is no tokenizer.json and no GGUF" : "is empty";
}

weir_status weir_tokenizer_open(weir_tokenizer **out, const char *path, weir_error *err) {
    *out = NULL;
    if (!path) return weir_fail(err, WEIR_ERR_ARGUMENT, "tokenizer: no path given");
    if (file_is_folder(path)) return open_folder(out, path, err);
    mapped_file file;
    WEIR_TRY(file_map(&file, path, err));
    weir_status status = WEIR_OK;
    const bool is_gguf = file.size >= 4 && memcmp(file.data, "GGUF", 4) == 0;
    const char *trouble = is_gguf ? NULL : foreign(&file, path);
    if (trouble) status = weir_fail(err, WEIR_ERR_MODEL, "%s: %s", path, trouble);
    if (is_gguf) status = open_gguf(out, &file, path, err);
    file_unmap(&file);
    if (is_gguf || status != WEIR_OK) return status;
    return tokenizer_open_json(out, path, err);
}

weir_status weir_tokenize(const weir_tokenizer *tokenizer, const char *text, size_t size, int flags,
                          int32_t **ids, size_t *n, weir_error *err) {
    return tokenizer_encode(tokenizer, text, size, flags, ids, n, err);
}

weir_status weir_detokenize(const weir_tokenizer *tokenizer, const int32_t *ids, size_t n,
                            char **text, size_t *size, weir_error *err) {
    *text = NULL;
    *size = 0;
    buffer out = {0};
    detokenizer d = {0};
    bool ok = buffer_append(&out, "", 0);
    for (size_t i = 0; ok && i < n; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer->vocab.n_ids) {
            buffer_clear(&out);
            return weir_fail(err, WEIR_ERR_ARGUMENT, "token %zu is %d, the vocabulary has 0 to %d",
                             i, (int)ids[i], tokenizer->vocab.n_ids - 1);
        }
        ok = detokenizer_push(&d, tokenizer, ids[i], true, &out);
    }
    if (!ok || !detokenizer_flush(&d, &out)) {
        buffer_clear(&out);
        return tokenizer_no_memory(err, "tokenizer");
    }
    *text = out.data;
    *size = out.size;
    return WEIR_OK;
}

void weir_free(void *pointer) {
    mem_free(pointer);
}
