/* engine.c - opens a model, lays out all memory, says what it costs.
 *
 *     defaults -> checkpoint -> graph -> plan -> does it fit? -> back end -> tokenizer, template
 *
 * A tokenizer or chat template that cannot be used does not stop the engine: token ids still work.
 * Why it cannot is kept and said by the first call that needs it.
 *
 * Test: tests/engine/test_engine.c.
 *
 * SPDX-License-Identifier: MIT */
#include "engine/engine.h"

#include "base/machine.h"
#include "model/embedded.h"
#include "model/registry.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    DEFAULT_WINDOW = 4096,
    DEFAULT_CHUNK = 256,
    GPU_CHUNK = 1024,
    MAX_WINDOW = 1 << 24,
    MAX_CHUNK = 1 << 14,
    MAX_SESSIONS = 1 << 16,
    LOGITS_BYTES = 64 << 20, /* most the logits of one step take */
};

/* ---- options */

static weir_status check_count(const char *name, int x, int least, int most, weir_error *err) {
    if (x >= least && x <= most) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_ARGUMENT, "%s: is %d, wanted %d to %d", name, x, least, most);
}

static weir_status check_types(const weir_engine_options *o, weir_error *err) {
    if (o->kv_type == WEIR_Q8 || o->kv_type == WEIR_Q4 || (unsigned)o->kv_type > WEIR_FP8) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "kv_type: keys and values are f32, f16, bf16, "
                         "int8 or fp8");
    }
    if (o->weights != WEIR_TYPE_DEFAULT && o->weights != WEIR_Q8 && o->weights != WEIR_Q4) {
        return weir_fail(err, WEIR_ERR_ARGUMENT, "weights: are kept as stored, or become q8 or q4");
    }
    return WEIR_OK;
}

/* The window a model gets when nobody asks: what it was trained on, within reason. */
static int default_window(const nn_config *c) {
    int size = c->context > 0 ? MIN_OF(c->context, DEFAULT_WINDOW) : DEFAULT_WINDOW;
    if (c->sliding_window > 0) size = MIN_OF(size, c->sliding_window);
    return size;
}

static weir_status fill_options(weir_engine_options *o, const nn_config *c, weir_error *err) {
    if (!o->sessions) o->sessions = 1;
    if (!o->window) o->window = default_window(c);
    if (!o->max_sinks) o->max_sinks = o->window / 4;
    if (o->kv_type == WEIR_TYPE_DEFAULT) o->kv_type = WEIR_F16;
    WEIR_TRY(check_types(o, err));
    WEIR_TRY(check_count("threads", o->threads, 0, 1024, err));
    WEIR_TRY(check_count("sessions", o->sessions, 1, MAX_SESSIONS, err));
    WEIR_TRY(check_count("window", o->window, 1, MAX_WINDOW, err));
    if (o->chunk) WEIR_TRY(check_count("chunk", o->chunk, 1, MAX_CHUNK, err));
    WEIR_TRY(check_count("max_sinks", o->max_sinks, 0, o->window - 1, err));
    return WEIR_OK;
}

/* ---- fingerprint */

uint64_t engine_hash(uint64_t hash, const void *data, size_t size) {
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

/* Two models with the same names and shapes differ in the first bytes of some tensor. */
static uint64_t fingerprint(const checkpoint *c) {
    enum { SAMPLE = 64 };
    const nn_config *k = &c->config;
    uint64_t hash = engine_hash(ENGINE_HASH, k->architecture, strlen(k->architecture));
    const double numbers[] = {k->n_layers,
                              k->n_heads,
                              k->n_kv_heads,
                              k->head_dim,
                              k->vocab,
                              k->rope.theta,
                              k->rope.factor,
                              (double)k->norm_eps,
                              (double)k->alibi_max_bias,
                              k->rope.scaling,
                              k->rope.dims};
    hash = engine_hash(hash, numbers, sizeof numbers);
    for (int i = 0; i < c->n_tensors; i++) {
        const tensor_view *t = &c->tensors[i];
        const int32_t type = (int32_t)t->type;
        hash = engine_hash(hash, t->name, strlen(t->name));
        hash = engine_hash(hash, &type, sizeof type);
        hash = engine_hash(hash, t->dims, (size_t)t->n_dims * sizeof *t->dims);
        hash = engine_hash(hash, t->data, (size_t)MIN_OF(t->bytes, SAMPLE));
    }
    return hash;
}

/* ---- memory */

static kv_shape shape_of(const weir_engine *e) {
    const weir_engine_options *o = &e->options;
    return (kv_shape){.type = o->kv_type,
                      .n_layers = e->plan->n_layers,
                      .n_kv_heads = e->plan->attention.n_kv_heads,
                      .head_dim = e->plan->attention.head_dim,
                      .slots = o->sessions,
                      .pins = o->max_sinks,
                      .ring = engine_ring(e)};
}

static size_t session_bytes(const weir_engine *e, const kv_store *kv) {
    const size_t ids = size_mul((size_t)(e->options.window + e->options.max_sinks), 4);
    return kv->slot_bytes + ids + (size_t)e->plan->vocab * 18 + sizeof(weir_session);
}

/* ---- open */

static weir_status make_plan(weir_engine *e, weir_error *err) {
    const weir_engine_options *o = &e->options;
    const checkpoint *c = e->checkpoint;
    const nn_arch *arch = o->arch ? o->arch : model_find(c->config.architecture);
    if (!arch) {
        return weir_fail(err, WEIR_ERR_MODEL, "%s: no family for architecture %s; known are %s",
                         c->path, c->config.architecture, model_names());
    }
    if (c->n_tensors == 0) {
        return weir_fail(err, WEIR_ERR_MODEL,
                         "%s: holds no weights (a vocabulary alone serves weir tokenize only)",
                         c->path);
    }
    nn_graph *g;
    WEIR_TRY(graph_record(&g, e->arena, arch, c, err));
    const int max_rows = MAX_OF(o->chunk, o->sessions);
    const int shown = LOGITS_BYTES / (int)sizeof(float) / MAX_OF(1, c->config.vocab);
    const int max_wanted = MIN_OF(max_rows, MAX_OF(o->sessions, MAX_OF(1, shown)));
    return plan_make(&e->plan, g, c, max_rows, max_wanted, err);
}

static backend_options options_of(const weir_engine *e) {
    const weir_engine_options *o = &e->options;
    return (backend_options){.threads = o->threads,
                             .cache = o->kernel_cache,
                             .engine_file = o->engine_file,
                             .weights = o->weights,
                             .progress = o->progress,
                             .progress_user = o->progress_user};
}

static weir_status open_backend(weir_engine *e, const char *name, weir_error *err) {
    const kv_shape shape = shape_of(e);
    const backend_options options = options_of(e);
    kv_store kv;
    WEIR_TRY(kv_init(&kv, &shape, false, err));
    e->session_bytes = session_bytes(e, &kv);
    WEIR_TRY(backend_open(&e->backend, name, e->plan, &shape, &options, e->backend_reason, err));
    e->backend->api->sizes(e->backend, &e->sizes);
    return WEIR_OK;
}

static weir_status open_with_chunk(weir_engine *e, const char *name, int chunk, weir_error *err) {
    plan_free(e->plan);
    e->plan = NULL;
    e->options.chunk = chunk;
    WEIR_TRY(make_plan(e, err));
    return open_backend(e, name, err);
}

/* A GPU likes steps of more rows, but every session's ring has room for a chunk: a quarter of the
 * window, and what fits. */
static weir_status open_plan(weir_engine *e, const char *name, weir_error *err) {
    if (e->options.chunk) return open_with_chunk(e, name, e->options.chunk, err);
    const char *gpu = backend_gpu(name);
    int chunk = gpu ? GPU_CHUNK : DEFAULT_CHUNK;
    while (chunk > DEFAULT_CHUNK && chunk > e->options.window / 4) chunk /= 2;
    for (; chunk > DEFAULT_CHUNK; chunk /= 2) {
        weir_error why = {0};
        const weir_status status = open_with_chunk(e, gpu, chunk, &why);
        if (status == WEIR_OK) return WEIR_OK;
        if (status == WEIR_ERR_CANCELED) return weir_fail(err, status, "%s", why.message);
        if (status != WEIR_ERR_MEMORY) break;
    }
    return open_with_chunk(e, name, DEFAULT_CHUNK, err);
}

static void keep_problem(char out[ENGINE_PROBLEM], const char *what) {
    snprintf(out, ENGINE_PROBLEM, "%.*s", ENGINE_PROBLEM - 1, what);
}

static void open_tokenizer(weir_engine *e) {
    const checkpoint *c = e->checkpoint;
    weir_error problem = {0};
    weir_status status;
    if (c->gguf) {
        status = tokenizer_open_gguf(&e->tokenizer, c->gguf, c->path, &problem);
    } else {
        status = weir_tokenizer_open(&e->tokenizer, c->folder, &problem);
    }
    if (status != WEIR_OK) {
        e->tokenizer = NULL;
        keep_problem(e->tokenizer_problem, problem.message);
        keep_problem(e->template_problem, problem.message);
        return;
    }
    const char *source = tokenizer_chat_template(e->tokenizer);
    if (!source) {
        snprintf(e->template_problem, ENGINE_PROBLEM,
                 "%.150s: has no chat template; give it plain text instead", c->path);
    } else if (template_compile(&e->chat_template, source, strlen(source), &problem) != WEIR_OK) {
        e->chat_template = NULL;
        keep_problem(e->template_problem, problem.message);
    }
}

static weir_status make_tables(weir_engine *e, weir_error *err) {
    const size_t rows = (size_t)e->plan->max_rows, sessions = (size_t)e->options.sessions;
    e->rows = ARENA_ARRAY(e->arena, batch_row, rows);
    e->groups = ARENA_ARRAY(e->arena, batch_group, rows);
    e->wanted = ARENA_ARRAY(e->arena, int, rows);
    e->draws = ARENA_ARRAY(e->arena, batch_draw, rows);
    e->drawn = ARENA_ARRAY(e->arena, int32_t, rows);
    e->slots = ARENA_ARRAY(e->arena, weir_session *, sessions);
    if (e->rows && e->groups && e->wanted && e->draws && e->drawn && e->slots) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_MEMORY, "no memory for the tables of %d sessions",
                     e->options.sessions);
}

static weir_status open_checkpoint(weir_engine *e, const char *path, weir_error *err) {
    if (path && cuda_engine_is(path)) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "%s: is an engine file, which has kernels and no weights: name the model, "
                         "and the engine file with it",
                         path);
    }
    if (path) return checkpoint_open(&e->checkpoint, path, err);
    size_t size;
    const void *data = model_embedded(&size);
    if (!data) {
        return weir_fail(err, WEIR_ERR_ARGUMENT,
                         "no model is built into this library: name a folder, a .safetensors or a "
                         ".gguf file");
    }
    return checkpoint_open_memory(&e->checkpoint, data, size, err);
}

static weir_status fill(weir_engine *e, const char *path, weir_error *err) {
    const char *name = e->options.backend;
    e->options.backend = NULL; /* the caller's string */
    WEIR_TRY(open_checkpoint(e, path, err));
    WEIR_TRY(fill_options(&e->options, &e->checkpoint->config, err));
    WEIR_TRY(open_plan(e, name, err));
    WEIR_TRY(make_tables(e, err));
    e->fingerprint = fingerprint(e->checkpoint);
    open_tokenizer(e);
    return WEIR_OK;
}

static weir_engine *engine_new(const weir_engine_options *options, weir_error *err) {
    weir_engine *e = mem_alloc(sizeof *e);
    if (e) e->arena = arena_new();
    if (!e || !e->arena) {
        mem_free(e);
        weir_fail(err, WEIR_ERR_MEMORY, "no memory for an engine");
        return NULL;
    }
    if (options) e->options = *options;
    return e;
}

weir_status weir_engine_open(weir_engine **out, const char *path,
                             const weir_engine_options *options, weir_error *err) {
    *out = NULL;
    weir_engine *e = engine_new(options, err);
    if (!e) return WEIR_ERR_MEMORY;
    const weir_status status = fill(e, path, err);
    if (status != WEIR_OK) {
        weir_engine_close(e);
        return status;
    }
    *out = e;
    return WEIR_OK;
}

/* ---- engine files */

static weir_status build(weir_engine *e, const char *file, const char *path, const char *targets,
                         weir_error *err) {
    WEIR_TRY(open_checkpoint(e, path, err));
    const nn_config *c = &e->checkpoint->config;
    WEIR_TRY(fill_options(&e->options, c, err));
    if (!e->options.chunk) e->options.chunk = DEFAULT_CHUNK;
    WEIR_TRY(make_plan(e, err));
    const kv_shape shape = shape_of(e);
    const backend_options options = options_of(e);
    const char *name = c->name[0] ? c->name : c->architecture;
    return cuda_engine_build(file, e->plan, name, targets, &shape, &options, err);
}

weir_status weir_engine_build(const char *file, const char *path, const char *targets,
                              const weir_engine_options *options, weir_error *err) {
    weir_engine *e = engine_new(options, err);
    if (!e) return WEIR_ERR_MEMORY;
    const weir_status status = build(e, file, path, targets, err);
    weir_engine_close(e);
    return status;
}

weir_status weir_engine_read_file_info(weir_engine_file_info *out, const char *path,
                                       weir_error *err) {
    if (cuda_engine_is(path)) return cuda_engine_info(out, path, err);
    return weir_fail(err, WEIR_ERR_ARGUMENT, "%s: is no engine file", path);
}

void weir_engine_close(weir_engine *e) {
    if (!e) return;
    template_free(e->chat_template);
    weir_tokenizer_close(e->tokenizer);
    if (e->backend) e->backend->api->close(e->backend);
    plan_free(e->plan);
    checkpoint_close(e->checkpoint);
    arena_free(e->arena);
    mem_free(e);
}

weir_status engine_check(const weir_engine *e, weir_error *err) {
    if (!e->is_lost) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_DEVICE, "the device failed earlier: open the engine again");
}

weir_status engine_check_text(const weir_engine *e, weir_error *err) {
    WEIR_TRY(engine_check(e, err));
    if (e->tokenizer) return WEIR_OK;
    return weir_fail(err, WEIR_ERR_MODEL, "text needs a tokenizer: %s", e->tokenizer_problem);
}

/* ---- what it is */

/* Bytes of keys and values that one token reads from a full window. */
static uint64_t window_bytes(const weir_engine *e) {
    const nn_attention *a = &e->plan->attention;
    const size_t row = (size_t)a->head_dim * kv_type_bytes(e->options.kv_type) +
                       (kv_is_scaled(e->options.kv_type) ? sizeof(float) : 0);
    return (uint64_t)e->options.window * row * 2 * (size_t)a->n_kv_heads *
           (size_t)e->plan->n_layers;
}

/* Of the products that every token of a prompt goes through; the head is for those that are shown.
 */
static uint64_t token_flops(const plan *p) {
    uint64_t flops = 0;
    for (int i = 0; i < p->n_ops; i++) {
        const plan_op *op = &p->ops[i];
        if (op->kind != NN_PROJECT || p->tensors[op->out].selected) continue;
        const plan_matrix *m = &p->matrices[op->matrix];
        flops += 2 * (uint64_t)m->rows * (uint64_t)m->cols;
    }
    return flops;
}

void weir_engine_get_info(const weir_engine *e, weir_engine_info *out) {
    const nn_config *c = &e->checkpoint->config;
    const weir_engine_options *o = &e->options;
    const backend_api *api = e->backend->api;
    *out = (weir_engine_info){
        .architecture = c->architecture,
        .name = c->name,
        .backend = api->name,
        .backend_reason = e->backend_reason,
        .kernels = api->kernels(e->backend),
        .weight_type = api->weight_type(e->backend),
        .kv_type = kv_type_name(o->kv_type),
        .dim = c->dim,
        .ffn_dim = c->ffn_dim,
        .n_layers = c->n_layers,
        .n_heads = c->n_heads,
        .n_kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .vocab = c->vocab,
        .context = c->context,
        .window = o->window,
        .max_sinks = o->max_sinks,
        .chunk = o->chunk,
        .sessions = o->sessions,
        .threads = api->threads(e->backend),
        .parameters = e->checkpoint->parameters,
        .weight_bytes = e->sizes.weight_bytes,
        .activation_bytes = e->sizes.activation_bytes,
        .session_bytes = e->session_bytes,
        .total_bytes = e->sizes.weight_bytes + e->sizes.activation_bytes +
                       (uint64_t)o->sessions * e->session_bytes,
        .bytes_per_token = e->sizes.step_weight_bytes + window_bytes(e),
        .memory_bytes = e->sizes.memory_bytes ? e->sizes.memory_bytes : machine_memory(),
        .flops_per_token = token_flops(e->plan),
        .is_on_device = e->sizes.memory_bytes > 0,
        .has_chat_template = e->chat_template != NULL,
    };
}

weir_status weir_engine_measure(weir_engine *e, weir_rates *out, weir_error *err) {
    *out = (weir_rates){0};
    WEIR_TRY(engine_check(e, err));
    return e->backend->api->measure(e->backend, out, err);
}

void weir_engine_describe_plan(const weir_engine *e, void (*write)(void *user, const char *line),
                               void *user) {
    plan_describe(e->plan, write, user);
}

const weir_tokenizer *weir_engine_tokenizer(const weir_engine *e) {
    return e->tokenizer;
}
