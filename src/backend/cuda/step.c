/* step.c - one step: rows to the device, launches over the stages, logits back.
 *
 * Up to CUDA_TOKENS rows are one cooperative launch of `walk` over all stages; more are launched
 * stage by stage, products by wide.cu.  Steps take turns in the host's memory: while one runs the
 * next is packed.
 *
 * Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/cuda.h"

#include <assert.h>
#include <string.h>

enum { EARLY = 6 /* PROGRAMMATIC_STREAM_SERIALIZATION */, CLUSTER = 4 /* CLUSTER_DIMENSION */ };

enum {
    PREPARERS = 4,       /* blocks of `prepare` on a multiprocessor, at most */
    PREPARE_BYTES = 128, /* of shared memory: a float for each warp */
    SPREADERS = 4        /* blocks of `spread` on a multiprocessor */
};

/* attributes [2] */
static cuda_launch_shape shape_of(const cuda *c, int n_blocks, int cluster, int n_threads,
                                  int shared_bytes, cuda_attribute *attributes) {
    const bool has_attributes = c->device.major >= 9;
    assert(n_threads > 0 && (cluster <= 1 || (has_attributes && n_blocks % cluster == 0)));
    attributes[0] = (cuda_attribute){.id = EARLY, .value = {1}};
    attributes[1] = (cuda_attribute){.id = CLUSTER, .value = {cluster, 1, 1}};
    return (cuda_launch_shape){.grid = {(unsigned)n_blocks, 1, 1},
                               .block = {(unsigned)n_threads, 1, 1},
                               .shared = (unsigned)shared_bytes,
                               .stream = c->device.stream,
                               .attributes = attributes,
                               .n_attributes = has_attributes ? 1 + (cluster > 1) : 0};
}

weir_status cuda_launch_clusters(cuda *c, cuda_handle kernel, int n_blocks, int cluster,
                                 int n_threads, int shared_bytes, void **arguments,
                                 weir_error *err) {
    cuda_attribute attributes[2];
    const cuda_launch_shape shape =
        shape_of(c, n_blocks, cluster, n_threads, shared_bytes, attributes);
    assert(kernel);
    return CUDA_CALL(&c->device, launch, err, &shape, kernel, arguments, NULL);
}

weir_status cuda_launch(cuda *c, cuda_handle kernel, int n_blocks, int n_threads, int shared_bytes,
                        void **arguments, weir_error *err) {
    return cuda_launch_clusters(c, kernel, n_blocks, 1, n_threads, shared_bytes, arguments, err);
}

weir_status cuda_count_clusters(cuda *c, int *out, cuda_handle kernel, int cluster, int n_threads,
                                int shared_bytes, weir_error *err) {
    cuda_attribute attributes[2];
    const int n_blocks = c->device.n_blocks / cluster * cluster;
    const cuda_launch_shape shape =
        shape_of(c, n_blocks, cluster, n_threads, shared_bytes, attributes);
    *out = n_blocks / cluster;
    if (cluster == 1 || n_blocks == 0) return WEIR_OK;
    return CUDA_CALL(&c->device, count_clusters, err, out, kernel, &shape);
}

/* Every row is the only one of its slot. */
static bool is_alone(const batch *b) {
    for (int i = 0; i < b->n_groups; i++) {
        if (b->groups[i].n != 1) return false;
    }
    return true;
}

/* A row of the batch with what can be said of its keys once for all layers. */
static cuda_row row_of(const batch_row *r, const cuda_world *w) {
    cuda_row row = {.pos = r->pos,
                    .token = r->token,
                    .slot = r->slot,
                    .p = (int)r->p,
                    .pins = r->pins,
                    .recent = r->recent,
                    .is_pin = r->is_pin,
                    .at = r->is_pin ? (int)r->p : (int)(r->pos % (uint64_t)w->ring),
                    .n_splits = (r->pins + w->split - 1) / w->split};
    row.own = row.n_splits - 1; /* of a pinned row */
    if (r->recent > 0) {
        row.own = (r->recent - 1) / w->split;
        row.n_splits = MAX_OF(row.n_splits, row.own + 1);
    }
    assert(row.n_splits > 0 && row.n_splits <= w->max_splits);
    return row;
}

/* Rounds of keys of rows that are alone, as attend_many.cuh counts them. */
static void deal_rounds(const cuda_world *w, int n, cuda_row *rows) {
    const int keys = CUDA_PART_KEYS * w->look.part_warps;
    for (int i = 0, at = 0; i < n; at += rows[i++].tile_rows) {
        rows[i].tile_first = at;
        rows[i].tile_rows = (rows[i].pins + keys - 1) / keys + (rows[i].recent + keys - 1) / keys;
        assert(rows[i].tile_rows > 0);
    }
}

/* How attention of a step of many rows is launched: rows alone in their slots by parts of their
 * keys, others in tiles of consecutive rows of a slot. */
static void deal_tiles(const batch *b, cuda_world *w, cuda_row *rows) {
    if (w->plain || b->n <= CUDA_TOKENS) w->look.tile_rows = 0;
    if (w->look.tile_rows == 0) return;
    if (w->alone && w->look.part_warps) {
        deal_rounds(w, b->n, rows);
        return;
    }
    w->alone = 0; /* their keys are stored before */
    for (int i = 0; i < b->n_groups; i++) {
        const int first = b->groups[i].first, end = first + b->groups[i].n;
        assert(b->groups[i].n > 0 && end <= b->n);
        for (int at = first; at < end; at += w->look.tile_rows) {
            rows[w->look.tiles].tile_first = at;
            rows[w->look.tiles++].tile_rows = MIN_OF(w->look.tile_rows, end - at);
        }
    }
}

/* A walk of all stages, as opposed to a launch for each. */
static bool is_one_launch(const cuda *c, const batch *b) {
    return b->n <= CUDA_TOKENS && !c->by_stage;
}

/* Before one launch in its own stream; a graph begins 30 us later behind a copy than behind an
 * event, so there it is copied while the step before runs. */
static weir_status copy_step(cuda *c, const batch *b, const void *from, size_t bytes,
                             weir_error *err) {
    cuda_device *d = &c->device;
    const cuda_handle here = c->here[c->turn];
    if (is_one_launch(c, b)) {
        return CUDA_CALL(d, write, err, cuda_step_at(c), from, bytes, d->stream);
    }
    WEIR_TRY(CUDA_CALL(d, write, err, cuda_step_at(c), from, bytes, d->copies));
    WEIR_TRY(CUDA_CALL(d, event_record, err, here, d->copies));
    return CUDA_CALL(d, stream_wait, err, d->stream, here, 0);
}

/* Packs rows, wanted and draws and copies them as one; w says where they are. */
static weir_status upload_step(cuda *c, const batch *b, cuda_world *w, weir_error *err) {
    const cuda_layout *l = &c->layout;
    char *to = c->host + (size_t)c->turn * l->step_bytes;
    cuda_row *rows = (cuda_row *)(void *)to;
    size_t at = (size_t)b->n * sizeof *rows;
    for (int i = 0; i < b->n; i++) {
        assert(b->rows[i].token >= BATCH_DRAWN && b->rows[i].token < l->plan->vocab);
        rows[i] = row_of(&b->rows[i], w);
    }
    w->rows = cuda_step_at(c);
    w->n = b->n;
    w->n_wanted = b->n_wanted;
    w->alone = is_alone(b);
    w->plain = c->plain;
    w->folds = !c->plain;
    w->pass = w->shared.pass;
    deal_tiles(b, w, rows);
    w->wanted = w->rows + at;
    if (b->n_wanted) memcpy(to + at, b->wanted, (size_t)b->n_wanted * sizeof *b->wanted);
    at += (size_t)b->n_wanted * sizeof *b->wanted;
    if (b->draws) cuda_pack_draws(c, b, to, &at, w);
    assert(at <= l->step_bytes);
    return copy_step(c, b, to, at, err);
}

/* Barriers of a launch over stages [first, last), as walk.cu counts them. */
static unsigned count_barriers(const cuda_layout *l, const cuda_world *w) {
    unsigned n = 0;
    for (int i = w->first + 1; i < w->last; i++) {
        if (l->stages[i].kind == CUDA_STORE && w->alone) continue;
        if (l->stages[i - 1].wanted_next && w->tagged) continue;
        n += l->stages[i].barrier != 0;
    }
    return n;
}

/* Warps that work in a block of `walk_one`, as machine_wide.cuh has it. */
static int walk_one_warps(const cuda *c) {
    return c->device.major == 9 ? CUDA_WORKERS : CUDA_WORKERS / 2;
}

/* Whether `walk_one` knows what it says it does: a tagged step whose blocks have a unit of
 * attention each at most, whose keys the ring copies, and nobody asks for times. */
static bool is_for_one(const cuda *c, const cuda_world *w) {
    const int share = w->n_heads / w->n_kv_heads, heads = cuda_heads_at_once(&c->layout);
    const int items = w->n_kv_heads * ((share + heads - 1) / heads), n_blocks = c->device.n_blocks;
    return w->tagged && w->alone && w->folds && !w->plain && !w->times && w->shared.keys_fit &&
           c->layout.n_warps == walk_one_warps(c) && items < n_blocks &&
           items * w->max_splits <= n_blocks;
}

/* One launch of `walk`, or of `walk_one`; together: its blocks wait for each other. */
static weir_status launch_walk(cuda *c, cuda_world *w, bool together, weir_error *err) {
    void *arguments[] = {w};
    w->feeders = c->layout.n_feeders;
    const int n_threads = 32 * (c->layout.n_warps + w->feeders);
    const weir_status status =
        together ? CUDA_CALL(&c->device, launch_together, err, w->fast ? c->walk_one : c->walk,
                             (unsigned)c->device.n_blocks, 1, 1, (unsigned)n_threads, 1, 1,
                             (unsigned)w->shared.bytes, c->device.stream, arguments)
                 : cuda_launch(c, c->walk, c->device.n_blocks, n_threads, w->shared.bytes,
                               arguments, err);
    w->feeders = 0; /* of other kernels */
    return status;
}

static weir_status walk(cuda *c, cuda_world *w, int first, int last, weir_error *err) {
    assert(first < last && last <= c->layout.n_stages);
    w->first = first;
    w->last = last;
    if (last - first == 1) return launch_walk(c, w, false, err);
    w->barrier_base = c->barrier_count;
    w->tagged = w->n == 1 && w->n_wanted == 1 && c->layout.tagged_bytes > 0;
    w->tag = (c->tagged_steps + 1) & 1; /* values begin as zeros */
    w->fast = is_for_one(c, w);
    WEIR_TRY(launch_walk(c, w, true, err));
    c->barrier_count += count_barriers(&c->layout, w) * (unsigned)c->device.n_blocks;
    c->tagged_steps += (unsigned)w->tagged;
    return WEIR_OK;
}

/* The narrowest tiles that take all rows, or the widest; half of those when a second one would be
 * empty by half. */
static int choose_width(const cuda_layout *l, int rows) {
    int i = 0;
    assert(rows > 0 && l->wide[0].bytes > 0);
    while (i + 1 < CUDA_WIDTHS && l->wide[i + 1].bytes && l->wide[i].tokens < rows) i++;
    const int tokens = l->wide[i].tokens;
    return i > 0 && rows > tokens && rows <= tokens + tokens / 2 ? i - 1 : i;
}

static int rows_of_stage(const cuda_world *w, const cuda_stage *s) {
    return s->out.selected ? w->n_wanted : w->n;
}

static bool is_wide(const cuda *c, const cuda_world *w, const cuda_stage *s) {
    return s->kind == NN_PROJECT && rows_of_stage(w, s) > CUDA_TOKENS && !w->plain &&
           s->matrix.format != CUDA_F32 && c->layout.wide[0].bytes > 0;
}

/* Attention is that of many rows, for a product whose f16 inputs need no scale, since the values
 * that they are means of are f16, or whose inputs are bf16. */
static bool leaves_attention(const cuda_world *w, const cuda_stage *s, const cuda_stage *next) {
    const bool is_f16 = w->kv_type == CUDA_KV_F16 && w->pin_type == CUDA_KV_F16;
    return s->kind == NN_ATTEND && w->look.tile_rows && next->prologue == CUDA_PLAIN &&
           !next->folded && (next->matrix.format == CUDA_BF16 || is_f16);
}

static bool leaves_gate(const cuda *c, const cuda_world *w, const cuda_stage *s,
                        const cuda_stage *next) {
    return is_wide(c, w, s) && s->folded && s->matrix.gated && next->folded &&
           s->matrix.format == CUDA_BF16 && next->matrix.format == CUDA_BF16;
}

/* Stage i leaves its result, attention or act(gate) * up, as the image that the next one
 * multiplies, where it would be. */
static bool leaves_image(const cuda *c, const cuda_world *w, int i) {
    if (i < 0 || i + 1 >= c->layout.n_stages || !w->folds) return false;
    const cuda_stage *s = &c->layout.stages[i], *next = s + 1;
    return is_wide(c, w, next) && next->in.at == s->out.at &&
           next->matrix.cols % CUDA_WIDE_SPAN(next->matrix.format) == 0 &&
           (leaves_attention(w, s, next) || leaves_gate(c, w, s, next));
}

/* Stage i, a product of few tokens, leaves its result, times the weights of the norm that the next
 * product reads it with, as that one's image, where `prepare` would; the norm's factor is left for
 * that one's outputs.  Its own image lies elsewhere. */
static bool leaves_norm(const cuda *c, const cuda_world *w, int i) {
    if (i < 0 || i + 1 >= c->layout.n_stages || !leaves_image(c, w, i - 1)) return false;
    const cuda_stage *s = &c->layout.stages[i], *next = s + 1;
    const bool is_norm = next->prologue == CUDA_NORM && !next->norm.is_layer && !next->norm.bias &&
                         next->norm.group == next->matrix.cols;
    return w->n <= CUDA_FEW && is_wide(c, w, s) && is_wide(c, w, next) && is_norm &&
           s->matrix.format == CUDA_BF16 && next->matrix.format == CUDA_BF16 && !s->matrix.gated &&
           next->in.at == s->out.at && !s->out.selected && !next->out.selected &&
           next->matrix.cols == s->matrix.rows &&
           next->matrix.cols % CUDA_WIDE_SPAN(next->matrix.format) == 0;
}

/* Tiles of a product of so many rows. */
static int count_tiles(const cuda_layout *l, const cuda_matrix *m, int width, int rows) {
    const int warps = l->multipliers, tokens = l->wide[width].tokens;
    return (m->n_tiles + warps - 1) / warps * ((rows + tokens - 1) / tokens);
}

/* Blocks of a cluster for each tile of a product of few tokens: as many as run at once.  0 where
 * tiles are too many, or where a block would have so much more to do than if all were cut evenly
 * that sums of parts cost less. */
static int choose_cluster(const cuda *c, const cuda_matrix *m, int width, int rows) {
    enum { PARTS_COST = 4 /* chunks (H100) */ };
    const int tiles = count_tiles(&c->layout, m, width, rows);
    const int span = CUDA_WIDE_SPAN(m->format), n_blocks = c->device.n_blocks;
    const int n_chunks = (m->n_blocks * m->block_span + span - 1) / span;
    int best = 0;
    assert(tiles > 0 && n_chunks > 0);
    if (c->layout.wide[width].tokens > CUDA_FEW) return 0;
    for (int n = 1; n <= CUDA_CLUSTER && n <= n_chunks; n++) {
        if (tiles <= c->clusters[width][n]) best = n;
    }
    if (best == 0) return 0;
    assert(tiles * best <= n_blocks);
    const int even = (tiles * n_chunks + n_blocks - 1) / n_blocks;
    return (n_chunks + best - 1) / best <= even + PARTS_COST ? best : 0;
}

/* Whether stage i is a product of few tokens that is cut evenly: the launch before it brings some
 * of its weights near. */
static bool wants_weights(const cuda *c, const cuda_world *w, int i) {
    if (w->n > CUDA_FEW || i >= c->layout.n_stages) return false;
    const cuda_stage *s = &c->layout.stages[i];
    const int rows = rows_of_stage(w, s);
    return is_wide(c, w, s) &&
           choose_cluster(c, &s->matrix, choose_width(&c->layout, rows), rows) == 0;
}

/* A product of many tokens: its inputs, then the product. */
static weir_status multiply(cuda *c, cuda_world *w, int i, int rows, weir_error *err) {
    const int width = choose_width(&c->layout, rows);
    const bool is_made = leaves_image(c, w, i - 1), is_normed = leaves_norm(c, w, i - 1);
    const cuda_world *l = &c->layout.world;
    void *arguments[] = {w};
    w->first = i;
    w->last = i + 1;
    w->wide = c->layout.wide[width];
    const cuda_matrix *m = &c->layout.stages[i].matrix;
    const int cluster = w->wide.cluster = choose_cluster(c, m, width, rows);
    const int tiles = count_tiles(&c->layout, m, width, rows);
    w->image = is_made ? c->layout.stages[i].in.at : l->image;
    w->image_out = leaves_image(c, w, i) ? c->layout.stages[i].out.at : 0;
    w->squares = is_normed ? l->squares : 0;
    w->squares_out = 0;
    if (leaves_norm(c, w, i)) w->image_out = l->image, w->squares_out = l->squares;
    w->ahead = wants_weights(c, w, i + 1) ? i + 1 : 0;
    assert(w->image && w->image != w->image_out && w->wide.tokens > 0);
    if (!is_made && !is_normed) {
        WEIR_TRY(cuda_launch(c, c->prepare, MIN_OF(rows, PREPARERS * c->device.n_blocks),
                             c->n_threads, PREPARE_BYTES, arguments, err));
    }
    return cuda_launch_clusters(c, c->wide[width], cluster ? tiles * cluster : c->device.n_blocks,
                                cluster, c->layout.wide_threads, w->wide.bytes, arguments, err);
}

/* Attention of many rows, by tiles or by parts. */
static weir_status attend(cuda *c, cuda_world *w, int i, weir_error *err) {
    const cuda_look *look = &w->look;
    const int blocks = MIN_OF(look->tiles * w->n_kv_heads, c->device.n_blocks);
    void *arguments[] = {w};
    assert(c->layout.stages[i].kind == NN_ATTEND && w->n > CUDA_TOKENS);
    w->wide = c->layout.wide[choose_width(&c->layout, w->n)];
    w->image_out = leaves_image(c, w, i) ? c->layout.stages[i].out.at : 0;
    assert(!w->image_out || w->wide.tokens > 0);
    w->first = i;
    w->last = i + 1;
    if (w->alone) {
        assert(look->partials && w->n <= c->layout.kv.shape.slots);
        return cuda_launch(c, c->attend_parts, look->part_blocks, 32 * look->part_warps,
                           look->part_bytes, arguments, err);
    }
    assert(look->tiles > 0 && look->tile_bytes > 0);
    return cuda_launch(c, c->attend_tiles, blocks, c->layout.wide_threads, look->tile_bytes,
                       arguments, err);
}

/* A stage of many rows that is no product and no attention. */
static weir_status spread(cuda *c, cuda_world *w, int i, weir_error *err) {
    void *arguments[] = {w};
    assert(w->n > CUDA_TOKENS && c->layout.stages[i].kind != NN_PROJECT);
    w->first = i;
    w->last = i + 1;
    return cuda_launch(c, c->spread, SPREADERS * c->device.n_blocks, c->n_threads, 0, arguments,
                       err);
}

/* One stage by itself. */
static weir_status walk_stage(cuda *c, cuda_world *w, int i, weir_error *err) {
    const cuda_stage *s = &c->layout.stages[i];
    const int rows = rows_of_stage(w, s);
    if (s->kind == CUDA_STORE && w->alone) return WEIR_OK;
    if (s->kind == NN_ATTEND && w->look.tile_rows) return attend(c, w, i, err);
    if (is_wide(c, w, s)) return multiply(c, w, i, rows, err);
    const bool is_spread = s->kind != NN_PROJECT && s->kind != NN_ATTEND;
    return is_spread && w->n > CUDA_TOKENS && !w->plain ? spread(c, w, i, err)
                                                        : walk(c, w, i, i + 1, err);
}

weir_status cuda_run_stages(cuda *c, const batch *b, cuda_world *w, weir_error *err) {
    const int n_stages = c->layout.n_stages;
    for (int i = 0; i < n_stages; i++) WEIR_TRY(walk_stage(c, w, i, err));
    return b->draws ? cuda_launch_draws(c, w, err) : WEIR_OK;
}

static weir_status run(cuda *c, const batch *b, cuda_world *w, weir_error *err) {
    if (!is_one_launch(c, b)) return cuda_replay(c, b, w, err);
    WEIR_TRY(walk(c, w, 0, c->layout.n_stages, err));
    return b->draws ? cuda_launch_draws(c, w, err) : WEIR_OK;
}

/* Logits of wanted rows [first, first + n) to the host. */
static weir_status read_logits(cuda *c, int first, int n, weir_error *err) {
    const size_t stride = (size_t)c->layout.world.logits_stride * sizeof(float);
    const size_t at = (size_t)first * stride;
    const size_t bytes = (size_t)(n - 1) * stride + (size_t)c->layout.plan->vocab * sizeof(float);
    WEIR_TRY(CUDA_CALL(&c->device, read, err, c->host + c->logits_at + at,
                       c->layout.world.logits + at, bytes, c->device.stream));
    return CUDA_CALL(&c->device, synchronize, err, c->device.stream);
}

weir_status cuda_fetch(backend *base, int i, weir_error *err) {
    cuda *c = cuda_of(base);
    assert(i >= 0 && i < c->n_wanted);
    WEIR_TRY(cuda_device_enter(&c->device, err));
    return read_logits(c, i, 1, err);
}

/* Returns when the logits are here; with draws, or where none are wanted, at once. */
weir_status cuda_step(backend *base, const batch *b, weir_error *err) {
    cuda *c = cuda_of(base);
    assert(b->n > 0 && b->n <= c->layout.plan->max_rows);
    assert(b->n_wanted <= c->layout.plan->max_wanted);
    WEIR_TRY(cuda_device_enter(&c->device, err));
    c->turn = (c->turn + 1) % CUDA_TURNS;
    WEIR_TRY(CUDA_CALL(&c->device, event_wait, err, c->done[c->turn]));
    cuda_world w;
    memcpy(&w, &c->layout.world, sizeof w);
    c->n_wanted = b->n_wanted;
    WEIR_TRY(upload_step(c, b, &w, err));
    WEIR_TRY(run(c, b, &w, err));
    WEIR_TRY(CUDA_CALL(&c->device, event_record, err, c->done[c->turn], c->device.stream));
    return b->draws || b->n_wanted == 0 ? WEIR_OK : read_logits(c, 0, b->n_wanted, err);
}

const float *cuda_logits(const backend *b, int i) {
    const cuda *c = cuda_of_const(b);
    assert(i >= 0 && i < c->layout.plan->max_wanted);
    return (const float *)(const void *)(c->host + c->logits_at) +
           (size_t)i * (size_t)c->layout.world.logits_stride;
}
