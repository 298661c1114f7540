/* folder.c - a Hugging Face folder: config.json and its .safetensors, in one file or in shards.
 *
 *   model.safetensors                              all tensors
 *   model.safetensors.index.json                   {"weight_map": {tensor: shard, ...}, ...}
 *   model-00001-of-00003.safetensors ...           the shards it names
 *
 * Shards are looked for beside the index only: a name with a slash is refused.  Every tensor of
 * the index must be in the checkpoint afterwards.  Test: tests/format/test_checkpoint.c.
 *
 * SPDX-License-Identifier: MIT */
#include "format/loading.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SHARDS = 4096 };

static const char config_name[] = "config.json", single_name[] = "model.safetensors",
                  index_name[] = "model.safetensors.index.json";

/* folder/name in the arena, NULL when out of memory. */
static char *join(arena *a, const char *folder, const char *name) {
    const size_t n = strlen(folder), m = strlen(name);
    char *path = arena_alloc(a, size_add(size_add(n, m), 2), 1);
    if (!path) return NULL;
    memcpy(path, folder, n);
    path[n] = '/';
    memcpy(path + n + 1, name, m);
    return path;
}

static weir_status no_memory(const checkpoint *c, weir_error *err) {
    return weir_fail(err, WEIR_ERR_MEMORY, "%s: out of memory", c->path);
}

static weir_status read_config(checkpoint *c, const char *folder, weir_error *err) {
    const char *path = join(c->arena, folder, config_name);
    if (!path) return no_memory(c, err);
    mapped_file file;
    WEIR_TRY(file_map(&file, path, err));
    const weir_status status =
        config_from_json(&c->config, c->arena, (const char *)file.data, file.size, path, err);
    file_unmap(&file);
    return status;
}

static weir_status read_file(checkpoint *c, const char *path, weir_error *err) {
    mapped_file file;
    if (!path) return no_memory(c, err);
    WEIR_TRY(loading_map(c, &file, path, err));
    return safetensors_read(c, file.data, file.size, path, err);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct shard names of a weight map, sorted, in the arena; they point into the JSON. */
static weir_status list_shards(checkpoint *c, const char ***out, size_t *n, json_t *map,
                               const char *path, weir_error *err) {
    const char **names = ARENA_ARRAY(c->arena, const char *, json_object_size(map));
    if (!names) return no_memory(c, err);
    size_t count = 0;
    for (void *at = json_object_iter(map); at; at = json_object_iter_next(map, at)) {
        const char *name = json_string_value(json_object_iter_value(at));
        if (!name || !*name || name[0] == '.' || strchr(name, '/')) {
            return weir_fail(err, WEIR_ERR_FORMAT,
                             "%s: tensor %.100s: \"%.60s\" is not the name of a file beside it",
                             path, json_object_iter_key(at), name ? name : "");
        }
        names[count++] = name;
    }
    qsort(names, count, sizeof *names, compare_names);
    *n = 0;
    for (size_t i = 0; i < count; i++) {
        if (*n == 0 || strcmp(names[*n - 1], names[i]) != 0) names[(*n)++] = names[i];
    }
    *out = names;
    if (*n <= MAX_SHARDS) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_FORMAT, "%s: names %zu shards, wanted are at most %d", path, *n,
                     MAX_SHARDS);
}

/* Every tensor that the index names was in some shard. */
static weir_status check_index(const checkpoint *c, json_t *map, const char *path,
                               weir_error *err) {
    for (void *at = json_object_iter(map); at; at = json_object_iter_next(map, at)) {
        const char *name = json_object_iter_key(at);
        if (checkpoint_find(c, name) || safetensors_is_ignored(name)) continue;
        const char *shard = json_string_value(json_object_iter_value(at));
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: tensor %.100s is not in %.100s", path, name,
                         shard ? shard : "its shard");
    }
    return WEIR_OK;
}

static weir_status read_shards(checkpoint *c, const char *folder, json_t *map, const char *path,
                               weir_error *err) {
    const char **names = NULL;
    size_t n = 0;
    if (!json_is_object(map) || json_object_size(map) == 0) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: weight_map is missing or empty", path);
    }
    WEIR_TRY(list_shards(c, &names, &n, map, path, err));
    for (size_t i = 0; i < n; i++) {
        WEIR_TRY(read_file(c, join(c->arena, folder, names[i]), err));
    }
    WEIR_TRY(loading_sort(c, err));
    return check_index(c, map, path, err);
}

static weir_status read_index(checkpoint *c, const char *folder, const char *path,
                              weir_error *err) {
    mapped_file file;
    WEIR_TRY(file_map(&file, path, err));
    json_error_t e;
    json_t *root =
        json_loadb(file.size ? (const char *)file.data : "", file.size, JSON_REJECT_DUPLICATES, &e);
    file_unmap(&file);
    if (!root) {
        return weir_fail(err, WEIR_ERR_FORMAT, "%s: line %d: %s", path, e.line, e.text);
    }
    const weir_status status =
        read_shards(c, folder, json_object_get(root, "weight_map"), path, err);
    json_decref(root);
    return status;
}

weir_status folder_read(checkpoint *c, const char *folder, const char *file, weir_error *err) {
    c->folder = arena_copy(c->arena, folder, strlen(folder));
    if (!c->folder) return no_memory(c, err);
    const char *single = join(c->arena, folder, single_name);
    const char *index = join(c->arena, folder, index_name);
    if (!single || !index) return no_memory(c, err);
    WEIR_TRY(read_config(c, folder, err));
    if (file && strstr(file, "-of-") && file_exists(index)) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "%s: is one shard of a model, wanted is its folder", file);
    }
    if (file) return read_file(c, file, err);
    if (file_exists(index)) return read_index(c, folder, index, err);
    if (file_exists(single)) return read_file(c, single, err);
    return weir_fail(err, WEIR_ERR_IO, "%s: has neither %s nor %s", folder, single_name,
                     index_name);
}
