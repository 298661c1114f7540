/* cmd_info.c - weir info: what a model is and what it costs here.
 *
 * SPDX-License-Identifier: MIT */
#include "cli/engine_file.h"
#include "cli/options.h"
#include "cli/run.h"
#include "cli/term.h"

#include <stdlib.h>
#include <string.h>

/* MemAvailable of /proc/meminfo in bytes; 0: not known here. */
static uint64_t memory_available(void) {
    FILE *f = fopen("/proc/meminfo", "re");
    char line[256];
    unsigned long long kib = 0;
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "MemAvailable:", 13) != 0) continue;
        kib = strtoull(line + 13, NULL, 10);
        break;
    }
    if (f) fclose(f);
    return (uint64_t)kib * 1024;
}

/* Sessions that fit beside the weights in the memory that was free before the model was loaded. */
static uint64_t sessions_that_fit(const weir_engine_info *i, uint64_t available) {
    const uint64_t fixed = i->weight_bytes + i->activation_bytes;
    return available > fixed && i->session_bytes ? (available - fixed) / i->session_bytes : 0;
}

static const char *or_dash(const char *text) {
    return text && text[0] ? text : "-";
}

static void print_text(const run *r, uint64_t available) {
    const weir_engine_info *i = &r->info;
    char a[NUMBER_SIZE], b[NUMBER_SIZE];
    run_print_row("architecture", "%s", or_dash(i->architecture));
    if (i->name && i->name[0]) run_print_row("name", "%s", i->name);
    run_print_row("parameters", "%s", format_count(a, i->parameters));
    run_print_row("layers", "%d", i->n_layers);
    run_print_row("width", "%d, feed-forward %d", i->dim, i->ffn_dim);
    run_print_row("heads", "%d of %d, %d for keys and values", i->n_heads, i->head_dim,
                  i->n_kv_heads);
    run_print_row("vocabulary", "%s", format_count(a, (uint64_t)i->vocab));
    run_print_row("trained context", "%s", format_count(a, (uint64_t)i->context));
    run_print_row("tokenizer", "%s", weir_engine_tokenizer(r->engine) ? "yes" : "no");
    run_print_row("chat template", "%s", i->has_chat_template ? "yes" : "no");
    run_print_row("backend", "%s, %s, %d threads", or_dash(i->backend), or_dash(i->kernels),
                  i->threads);
    if (i->backend_reason[0]) run_print_row("not on a GPU", "%s", i->backend_reason);
    run_print_row("weights", "%s, %s", format_bytes(a, (double)i->weight_bytes),
                  or_dash(i->weight_type));
    run_print_row("window", "%s tokens, at most %s of them pinned",
                  format_count(a, (uint64_t)i->window), format_count(b, (uint64_t)i->max_sinks));
    run_print_row("step", "at most %d tokens", i->chunk);
    run_print_row("plan", "%s of activations", format_bytes(a, (double)i->activation_bytes));
    run_print_row("session", "%s, keys and values in %s", format_bytes(a, (double)i->session_bytes),
                  or_dash(i->kv_type));
    run_print_row("in all", "%s with %d session%s", format_bytes(a, (double)i->total_bytes),
                  i->sessions, i->sessions == 1 ? "" : "s");
    run_print_row("read per token", "%s with the window full",
                  format_bytes(a, (double)i->bytes_per_token));
    if (!available) return;
    run_print_row("sessions that fit", "%s in the %s available here",
                  format_count(a, sessions_that_fit(i, available)),
                  format_bytes(b, (double)available));
}

static void set_count(json_t *object, const char *key, uint64_t n) {
    json_object_set_new(object, key, json_integer((json_int_t)n));
}

/* The plan as an array of lines. */
static void append_line(void *user, const char *line) {
    json_t *text = json_string(line);
    json_array_append_new(user, text ? text : json_null());
}

/* Keys are those of weir_engine_info. */
static void print_json(const run *r, uint64_t available) {
    const weir_engine_info *i = &r->info;
    const struct {
        const char *key;
        int value;
    } sizes[] = {
        {"n_layers", i->n_layers},   {"dim", i->dim},           {"ffn_dim", i->ffn_dim},
        {"n_heads", i->n_heads},     {"head_dim", i->head_dim}, {"n_kv_heads", i->n_kv_heads},
        {"vocab", i->vocab},         {"context", i->context},   {"window", i->window},
        {"max_sinks", i->max_sinks}, {"chunk", i->chunk},       {"sessions", i->sessions},
    };
    json_t *j = run_model_json(r);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        set_count(j, sizes[k].key, (uint64_t)sizes[k].value);
    }
    set_count(j, "weight_bytes", i->weight_bytes);
    set_count(j, "activation_bytes", i->activation_bytes);
    set_count(j, "session_bytes", i->session_bytes);
    set_count(j, "total_bytes", i->total_bytes);
    set_count(j, "bytes_per_token", i->bytes_per_token);
    set_count(j, "available_bytes", available);
    set_count(j, "sessions_that_fit", sessions_that_fit(i, available));
    json_object_set_new(j, "has_tokenizer", json_boolean(weir_engine_tokenizer(r->engine) != NULL));
    json_object_set_new(j, "has_chat_template", json_boolean(i->has_chat_template));
    if (r->o->plan) {
        json_t *lines = json_array();
        weir_engine_describe_plan(r->engine, append_line, lines);
        json_object_set_new(j, "plan", lines);
    }
    run_print_json(j, false);
}

static void print_line(void *user, const char *line) {
    (void)user;
    const size_t n = strlen(line);
    out_text(line, n);
    if (!n || line[n - 1] != '\n') out_write("\n", 1);
}

/* An engine file is no model, so it is not opened as one. */
static bool info_of_engine_file(run *r, const options *o) {
    weir_engine_file_info info;
    *r = (run){.o = o};
    if (!o->model) return false;
    const weir_status status = weir_engine_read_file_info(&info, o->model, &r->err);
    if (status == WEIR_OK) engine_file_print(&info, o->model, o->json);
    return status != WEIR_ERR_ARGUMENT;
}

int cmd_info(const options *o) {
    run r;
    if (info_of_engine_file(&r, o)) return run_end(&r);
    uint64_t available = memory_available(); /* before the model takes its share */
    if (run_open(&r, o, o->sessions)) {
        const uint64_t most = r.info.memory_bytes; /* less than the machine has in a container */
        if (most && (r.info.is_on_device || most < available || !available)) available = most;
        if (o->json) {
            print_json(&r, available);
        } else {
            print_text(&r, available);
            if (o->plan) {
                out_write("\n", 1);
                weir_engine_describe_plan(r.engine, print_line, NULL);
            }
        }
    }
    return run_end(&r);
}
