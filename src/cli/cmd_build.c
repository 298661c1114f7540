/* cmd_build.c - weir build: the kernels of a model in an engine file, and what is in one.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/engine_file.h"

#include "cli/run.h"
#include "cli/term.h"

#include <string.h>

/* A target takes as long as a cup of tea: which one it is is said when it begins. */
static int on_target(void *user, const char *what, uint64_t done, uint64_t total) {
    const options *o = user;
    if (!o->quiet && done < total && term_is(stderr)) {
        fprintf(stderr, "\r\033[K%s, target %d of %d ...", what, (int)done + 1, (int)total);
        fflush(stderr);
    }
    return signal_caught() != 0;
}

static bool build(run *r, const options *o) {
    weir_engine_options wanted = run_engine_options(r, o, 1);
    const bool is_here = strcmp(o->target, "here") == 0;
    wanted.progress = on_target;
    wanted.progress_user = (void *)(uintptr_t)o;
    const weir_status status =
        weir_engine_build(o->output, o->model, is_here ? NULL : o->target, &wanted, &r->err);
    if (!o->quiet && term_is(stderr)) fputs("\r\033[K", stderr);
    return status == WEIR_OK;
}

int cmd_build(const options *o) {
    if (!o->output) {
        complain(o->command, "-o FILE is missing: where the engine file goes");
        return EXIT_USAGE;
    }
    run r = {.o = o};
    weir_engine_file_info info;
    if (build(&r, o) && weir_engine_read_file_info(&info, o->output, &r.err) == WEIR_OK) {
        engine_file_print(&info, o->output, o->json);
    }
    return run_end(&r);
}

/* "a, b" as an array. */
static json_t *list_of(const char *text) {
    json_t *list = json_array();
    while (*text) {
        const size_t n = strcspn(text, ",");
        json_array_append_new(list, json_stringn(text, n));
        text += n;
        text += strspn(text, ", ");
    }
    return list;
}

static json_t *as_object(const weir_engine_file_info *i, const char *path) {
    return json_pack("{s:o?, s:s, s:s, s:o, s:o, s:s, s:i, s:[i, i], s:I, s:b}", "path",
                     json_string(path), "made_by", i->made_by, "model", i->model, "targets",
                     list_of(i->targets), "weight_types", list_of(i->weight_types), "kv_type",
                     i->kv_type, "head_dim", i->head_dim, "nvrtc", i->nvrtc[0], i->nvrtc[1],
                     "bytes", (json_int_t)i->bytes, "is_current", i->is_current);
}

void engine_file_print(const weir_engine_file_info *i, const char *path, bool as_json) {
    if (as_json) {
        run_print_json(as_object(i, path), false);
        return;
    }
    char bytes[NUMBER_SIZE];
    const char *use = i->is_current ? "this weir takes it" : "not by this weir: build it again";
    run_print_row("engine file", "%s, %s", path, format_bytes(bytes, (double)i->bytes));
    run_print_row("kernels for", "%s", i->targets);
    run_print_row("made for", "%s and models like it: heads of %d, weights in %s", i->model,
                  i->head_dim, i->weight_types);
    run_print_row("keys and values", "%s", i->kv_type);
    run_print_row("made by", "weir %s, NVRTC %d.%d", i->made_by, i->nvrtc[0], i->nvrtc[1]);
    run_print_row("use", "%s", use);
}
