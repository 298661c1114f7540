/* layout.c - places what the device holds, resolves the plan into stages.
 *
 * What a block of each kernel has is arranged in blocks.c, which values are tagged in tags.c.
 *
 * Test: tests/backend/test_cuda_host.c (no two regions overlap, nothing is left out).
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/layout.h"

#include "base/arena.h"

#include <assert.h>
#include <limits.h>
#include <math.h>

enum { ALIGN = 256, RECORD_BYTES = 8 << 20 };

_Static_assert((int)CUDA_KV_F32 == (int)WEIR_F32 && (int)CUDA_KV_F16 == (int)WEIR_F16 &&
                   (int)CUDA_KV_BF16 == (int)WEIR_BF16 && (int)CUDA_KV_INT8 == (int)WEIR_INT8 &&
                   (int)CUDA_KV_FP8 == (int)WEIR_FP8,
               "types of stage.h and weir.h");
_Static_assert((int)CUDA_SILU == (int)NN_SILU && (int)CUDA_GELU == (int)NN_GELU &&
                   (int)CUDA_GELU_TANH == (int)NN_GELU_TANH && (int)CUDA_RELU == (int)NN_RELU,
               "activations of stage.h and nn.h");
_Static_assert(sizeof(cuda_stage) % 16 == 0, "stages are copied by 16 bytes");
_Static_assert((int)CUDA_PLAIN == (int)PLAN_PLAIN && (int)CUDA_NORM == (int)PLAN_NORM &&
                   (int)CUDA_GATE == (int)PLAN_GATE && (int)CUDA_ACT == (int)PLAN_ACT,
               "prologues of stage.h and plan.h");

/* ---- placing */

static cuda_address place(cuda_layout *l, const char *name, size_t bytes) {
    const size_t padded = size_add(bytes, ALIGN - 1) / ALIGN * ALIGN;
    const cuda_address at = l->base + l->bytes;
    assert(l->n_regions < l->most_regions);
    l->regions[l->n_regions++] = (cuda_region){.name = name, .at = at, .bytes = bytes};
    l->bytes = size_add(l->bytes, padded);
    return at;
}

/* A vector of floats or integers that the host has; 0 when it has none. */
static cuda_address place_vector(cuda_layout *l, const char *name, const void *from, size_t bytes) {
    if (!from || !bytes) return 0;
    const cuda_address at = place(l, name, bytes);
    assert(l->n_uploads < l->most_uploads);
    l->uploads[l->n_uploads++] = (cuda_upload){.to = at, .from = from, .bytes = bytes};
    return at;
}

/* ---- matrices */

/* What matrix i is packed from: as cpu/matrix.c chooses, so that options mean the same. */
static tensor_type packed_type(const plan *p, int root, weir_type wanted) {
    const plan_matrix *m = &p->matrices[root];
    bool is_product = false, is_head = false;
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != NN_PROJECT || plan_owner(p, p->ops[i].matrix) != root) continue;
        is_product = true;
        if (p->ops[i].out == p->logits) is_head = true;
    }
    if (wanted == WEIR_TYPE_DEFAULT || !is_product || !tensor_type_is_float(m->type))
        return m->type;
    if (m->cols % PACK_GROUP) return m->type;
    return wanted == WEIR_Q8 || is_head ? TENSOR_Q8_0 : TENSOR_Q4_0;
}

int cuda_gated_product(const plan *p, const plan_op *op) {
    assert(op >= p->ops && op < p->ops + p->n_ops);
    if (op->kind != NN_PROJECT || op->prologue != PLAN_GATE) return -1;
    const plan_tensor *g = &p->tensors[op->in[0]], *u = &p->tensors[op->in[1]];
    for (int i = (int)(op - p->ops) - 1; i >= 0; i--) {
        const plan_op *from = &p->ops[i];
        if (from->out < 0 || p->tensors[from->out].base != g->base) continue;
        const plan_tensor *out = &p->tensors[from->out];
        const bool is_whole = out->features == 2 * g->features && g->column == out->column &&
                              u->base == g->base && u->column == g->column + g->features;
        const bool fits = from->kind == NN_PROJECT && from->residual < 0 && is_whole &&
                          g->features % (CUDA_TILE / 2) == 0;
        return fits ? i : -1;
    }
    return -1;
}

/* Rows of gate of a matrix that is used so in all its products; 0: in rows as they are. */
static int gated_rows(const plan *p, int matrix) {
    assert(matrix >= 0 && matrix < p->n_matrices);
    int n = 0, gated = 0;
    for (int i = 0; i < p->n_ops; i++) {
        const plan_op *op = &p->ops[i];
        const int from = cuda_gated_product(p, op);
        if (op->matrix >= 0 && plan_owner(p, op->matrix) == plan_owner(p, matrix)) n++;
        if (from >= 0 && p->ops[from].matrix == matrix) gated++;
    }
    return n == 1 && gated == 1 ? p->matrices[matrix].rows / 2 : 0;
}

static void place_matrices(cuda_layout *l, weir_type wanted) {
    const plan *p = l->plan;
    for (int i = 0; i < p->n_matrices; i++) {
        const plan_matrix *m = &p->matrices[i];
        cuda_weights *to = &l->weights[i];
        const int root = plan_owner(p, i);
        to->type = packed_type(p, root, wanted);
        to->is_owner = root == i;
        cuda_shape(&to->matrix, cuda_format_of(to->type), m->rows, m->cols);
        to->matrix.gated = gated_rows(p, i);
        const size_t bytes = size_mul((size_t)to->matrix.n_tiles, (size_t)to->matrix.tile_bytes);
        to->matrix.tiles = to->is_owner ? place(l, m->name, bytes) : l->weights[root].matrix.tiles;
        to->matrix.bias = place_vector(l, "bias", m->bias, (size_t)m->rows * sizeof(float));
    }
}

/* ---- stages */

/* Tensor t as operation i reads it. */
static cuda_tensor tensor_of(const cuda_layout *l, int i, int t) {
    if (t < 0 || t == l->plan->ids) return (cuda_tensor){0};
    const plan_tensor *x = &l->plan->tensors[t], *base = &l->plan->tensors[x->base];
    return (cuda_tensor){
        .at = l->arena_at + base->offset + (cuda_address)x->column * sizeof(float),
        .tagged = cuda_tagged_of(l, i, t),
        .stride = base->stride,
        .features = x->features,
        .selected = x->selected,
    };
}

/* |x - mean| / deviation is at most sqrt(group). */
static float most_of(const plan_norm *n) {
    float weight = 0, bias = 0;
    for (int i = 0; i < n->group; i++) {
        weight = fmaxf(weight, fabsf(n->weight[i]));
        if (n->bias) bias = fmaxf(bias, fabsf(n->bias[i]));
    }
    return sqrtf((float)n->group) * weight + bias;
}

static cuda_norm norm_of(cuda_layout *l, const plan_norm *n) {
    const size_t bytes = (size_t)n->group * sizeof(float);
    return (cuda_norm){.most = most_of(n),
                       .weight = place_vector(l, "norm", n->weight, bytes),
                       .bias = place_vector(l, "norm", n->bias, bytes),
                       .eps = n->eps,
                       .group = n->group,
                       .is_layer = n->is_layer};
}

static cuda_stage stage_of(cuda_layout *l, const plan_op *op) {
    const int at = (int)(op - l->plan->ops);
    cuda_stage s = {.kind = (int)op->kind,
                    .barrier = 1,
                    .in = tensor_of(l, at, op->n_in > 0 ? op->in[0] : -1),
                    .in2 = tensor_of(l, at, op->n_in > 1 ? op->in[1] : -1),
                    .v = tensor_of(l, at, op->v),
                    .residual = tensor_of(l, at, op->residual),
                    .out = tensor_of(l, at + 1, op->out),
                    .prologue = (int)op->prologue,
                    .act = (int)op->act,
                    .bound = op->bound};
    s.is_even = s.in.at % 16 == 0 && s.in.stride % 4 == 0 && s.in.features % 4 == 0;
    if (op->matrix >= 0) s.matrix = l->weights[op->matrix].matrix;
    if (op->matrix >= 0) l->formats |= 1 << s.matrix.format;
    for (int i = l->n_stages - 1; op->prologue == PLAN_GATE && i >= 0; i--) {
        cuda_stage *from = &l->stages[i];
        if (!from->matrix.gated || from->out.at != s.in.at) continue;
        from->folded = s.folded = 1;
        from->act = s.act;
        break;
    }
    if (op->kind == NN_GATE || op->kind == NN_ACTIVATE || op->prologue == PLAN_GATE ||
        op->prologue == PLAN_ACT) {
        l->acts |= 1 << op->act;
    }
    if (op->kind == NN_NORMALIZE || (op->kind == NN_PROJECT && op->prologue == PLAN_NORM)) {
        s.norm = norm_of(l, &op->norm);
    }
    if (op->kind == NN_ATTEND) {
        s.layer = op->attention.layer;
        s.scale = op->attention.scale;
    }
    return s;
}

/* Phases come first and need no barrier after them: only attention reads them. */
static void make_stages(cuda_layout *l) {
    const plan *p = l->plan;
    int met = -1; /* the last operation before which blocks meet in a tagged step */
    if (p->rope.pairs) l->stages[l->n_stages++] = (cuda_stage){.kind = CUDA_PHASES};
    for (int i = 0; i < p->n_ops; i++) {
        cuda_stage s = stage_of(l, &p->ops[i]);
        if (i == 0) s.barrier = 0;
        s.meets = cuda_reads_untagged(l, i, met);
        if (s.meets) met = i;
        if (s.kind == NN_WANTED) l->stages[l->n_stages - 1].wanted_next = s.in.tagged != 0;
        if (p->ops[i].kind == NN_ATTEND) {
            l->stages[l->n_stages - 1].store_next = 1;
            l->stages[l->n_stages] = s;
            l->stages[l->n_stages++].kind = CUDA_STORE;
        }
        l->stages[l->n_stages++] = s;
    }
}

/* What the ring of `walk` copies, in the order of the stages. */
static void make_feeds(cuda_layout *l) {
    assert(l->n_stages > 0);
    for (int i = 0; i < l->n_stages; i++) {
        cuda_stage *s = &l->stages[i];
        const cuda_matrix *m = &s->matrix;
        const bool is_keys = s->kind == NN_ATTEND;
        s->feed = l->n_feeds;
        if (s->kind != NN_PROJECT && !(is_keys && l->world.shared.keys_fit)) continue;
        l->feeds[l->n_feeds++] = (cuda_feed){.stage = i,
                                             .is_keys = is_keys,
                                             .layer = s->layer,
                                             .selected = s->out.selected,
                                             .tiles = m->tiles,
                                             .tile_bytes = m->tile_bytes,
                                             .n_tiles = m->n_tiles,
                                             .n_blocks = m->n_blocks,
                                             .block_bytes = m->block_bytes,
                                             .chunk_bytes = m->chunk_blocks * m->block_bytes,
                                             .norm = s->norm.weight,
                                             .norm_bytes = s->norm.group * (int)sizeof(float)};
    }
    for (int i = 0; i < 2; i++) l->feeds[l->n_feeds++] = (cuda_feed){.stage = INT_MAX};
    assert(l->n_feeds <= l->plan->n_ops + 2);
}

/* ---- products of many tokens */

/* What the widest tiles need; a step of fewer rows has fewer. */
static void place_wide(cuda_layout *l, const cuda_device *device) {
    cuda_world *w = &l->world;
    size_t image = 0, parts = 0;
    const size_t rows = (size_t)l->plan->max_rows, blocks = (size_t)device->n_blocks;
    for (int i = 0; i < CUDA_WIDTHS; i++) {
        const size_t tokens = (size_t)l->wide[i].tokens;
        if (l->wide[i].bytes == 0) continue;
        image = MAX_OF(image, size_mul((rows + tokens - 1) / tokens * tokens, 2 * l->wide_depth));
        parts = tokens;
    }
    if (parts == 0) return;
    assert(l->wide_threads > 32 && l->wide_depth % 256 == 0);
    const size_t warps = size_mul(blocks, (size_t)l->wide_threads / 32);
    w->image = place(l, "inputs", image);
    w->scales = place(l, "inputs", rows * sizeof(float));
    w->squares = place(l, "squares", size_mul(l->wide_depth / CUDA_TILE, CUDA_FEW * sizeof(float)));
    w->parts = place(l, "parts of tiles", size_mul(2 * warps, parts * CUDA_TILE * sizeof(float)));
    w->tile_tickets = place(l, "tickets", warps * sizeof(unsigned));
}

/* ---- store and work space */

static void describe_store(cuda_layout *l, const kv_shape *kv) {
    cuda_world *w = &l->world;
    w->kv = place(l, "keys and values", l->kv.bytes);
    w->slot_bytes = l->kv.slot_bytes;
    w->layer_bytes = l->kv.layer_bytes;
    w->ring_at = l->kv.ring_at;
    w->scale_at = l->kv.scale_at;
    w->pin_head_bytes = l->kv.pin_head_bytes;
    w->ring_head_bytes = l->kv.ring_head_bytes;
    w->kv_type = (int)kv->type;
    w->pin_type = (int)l->kv.pin_type;
    w->ring = kv->ring;
    w->n_layers = kv->n_layers;
    w->n_kv_heads = kv->n_kv_heads;
    w->head_dim = kv->head_dim;
    w->n_heads = l->plan->attention.n_heads;
}

int cuda_heads_at_once(const cuda_layout *l) {
    assert(l->world.n_kv_heads > 0);
    const int share = l->world.n_heads / l->world.n_kv_heads;
    return share > 2 ? CUDA_HEADS : share > 1 ? 2 : 1;
}

/* How the keys of a row are cut: what takes least when one row has the whole GPU.  A split costs
 * its keys and what KEYS_OF_A_SPLIT keys would; blocks take splits in turn. */
static void choose_splits(cuda_layout *l, const kv_shape *kv, int n_blocks) {
    enum { KEYS_OF_A_SPLIT = 96, UNIT = 8 };
    cuda_world *w = &l->world;
    const int share = w->n_heads / w->n_kv_heads;
    const int64_t items = (int64_t)((share + CUDA_HEADS - 1) / CUDA_HEADS) * w->n_kv_heads;
    int64_t least = INT64_MAX;
    for (int n = 1; n <= 256; n++) {
        const int64_t keys = (kv->ring + n - 1) / n;
        const int64_t rounded = MAX_OF((keys + UNIT - 1) / UNIT * UNIT, 2 * UNIT);
        const int64_t splits = (kv->ring + rounded - 1) / rounded;
        const int64_t turns = (items * splits + n_blocks - 1) / n_blocks;
        const int64_t cost = turns * (rounded + KEYS_OF_A_SPLIT);
        if (cost >= least) continue;
        least = cost;
        w->split = (int)rounded;
    }
    w->max_splits = (MAX_OF(kv->pins, kv->ring) + w->split - 1) / w->split;
}

static void place_look(cuda_layout *l, const kv_shape *kv) {
    cuda_world *w = &l->world;
    if (w->look.part_warps == 0) return;
    const size_t items =
        size_mul((size_t)MIN_OF(kv->slots, l->plan->max_rows), (size_t)w->n_kv_heads);
    const size_t line = (size_t)(w->n_heads / w->n_kv_heads) * (size_t)(w->head_dim + 2);
    const size_t tables = size_mul(2 * (size_t)w->look.part_blocks, line * sizeof(float));
    w->look.partials = place(l, "partial sums", tables);
    w->look.tickets = place(l, "tickets", items * sizeof(unsigned));
}

static void place_work(cuda_layout *l, const kv_shape *kv, const cuda_device *device) {
    const plan *p = l->plan;
    cuda_world *w = &l->world;
    const size_t rows = (size_t)p->max_rows, blocks = (size_t)device->n_blocks;
    const size_t phases = rows * (size_t)p->rope.pairs * sizeof(float);
    w->pairs = p->rope.pairs;
    w->interleaved = p->rope.interleaved;
    w->magnitude = p->rope.magnitude;
    w->turns = place_vector(l, "turns", p->rope.turns, (size_t)p->rope.pairs * sizeof(uint64_t));
    w->alibi = place_vector(l, "slopes", p->alibi, (size_t)w->n_heads * sizeof(float));
    w->cos_pos = place(l, "phases", phases);
    w->sin_pos = place(l, "phases", phases);
    w->cos_pin = place(l, "phases", phases);
    w->sin_pin = place(l, "phases", phases);
    const size_t lists = (CUDA_RECENT + 2 * CUDA_BIASES) * sizeof(int);
    const size_t of_wanted = sizeof(int) + sizeof(cuda_draw) + lists;
    l->step_bytes = rows * sizeof(cuda_row) + (size_t)p->max_wanted * of_wanted + 2 * 16;
    l->step_bytes = (l->step_bytes + ALIGN - 1) / ALIGN * ALIGN;
    l->step = place(l, "steps", CUDA_TURNS * l->step_bytes);
    w->drawn = place(l, "tokens drawn", (size_t)kv->slots * sizeof(int));
    w->meetings = place(l, "meetings", (size_t)p->max_wanted * 2 * sizeof(unsigned));
    w->told = place(l, "told", (size_t)p->max_wanted * 2 * CUDA_SHARES * sizeof(uint64_t));
    w->masses = place(l, "masses", blocks * 2 * CUDA_DIGITS * sizeof(uint64_t));
    w->deck = place(l, "candidates", (blocks / 2 + 1) * 2 * CUDA_DECK * sizeof(unsigned));
    w->octaves = place(l, "octaves", 2 * CUDA_DIGITS * sizeof(unsigned));
    const plan_tensor *logits = &p->tensors[p->logits], *base = &p->tensors[logits->base];
    w->logits = l->arena_at + base->offset + (cuda_address)logits->column * sizeof(float);
    w->logits_stride = base->stride;
    w->vocab = p->vocab;
    place_wide(l, device);
    place_look(l, kv);
    w->barrier = place(l, "barrier", sizeof(unsigned));
    const size_t times = 2 * (size_t)p->n_ops + 2 + blocks * (CUDA_MARKS + 1);
    l->times = place(l, "times", times * sizeof(uint64_t));
    w->tickets = place(l, "tickets", blocks * sizeof(unsigned));
    const size_t partial = CUDA_HEADS * (size_t)(w->head_dim + 2) * sizeof(float);
    w->partials =
        place(l, "partial sums", size_mul(size_mul(blocks, (size_t)w->max_splits), partial));
    const size_t share = (size_t)(w->n_heads / w->n_kv_heads);
    const size_t items = (share + CUDA_HEADS - 1) / CUDA_HEADS * (size_t)w->n_kv_heads;
    const size_t splits = size_mul(size_mul(items, (size_t)w->max_splits), (size_t)w->n_layers);
    w->tagged_partials = place(l, "partial sums", size_mul(splits, partial));
    const size_t row = MAX_OF(kv_row_bytes(&l->kv, false), kv_row_bytes(&l->kv, true));
    const size_t all = size_mul(row, (size_t)MAX_OF(kv->ring, kv->pins));
    l->record_bytes = MAX_OF(row, MIN_OF(all, (size_t)RECORD_BYTES));
    l->record = place(l, "rows on their way", l->record_bytes);
}

static bool make_arrays(cuda_layout *l) {
    const size_t ops = (size_t)l->plan->n_ops, matrices = (size_t)l->plan->n_matrices;
    l->most_regions = (int)(2 * ops + 2 * matrices + 27);
    l->most_uploads = (int)(2 * ops + matrices + 5);
    l->arena = arena_new();
    if (!l->arena) return false;
    l->regions = ARENA_ARRAY(l->arena, cuda_region, (size_t)l->most_regions);
    l->uploads = ARENA_ARRAY(l->arena, cuda_upload, (size_t)l->most_uploads);
    l->stages = ARENA_ARRAY(l->arena, cuda_stage, 2 * ops + 1);
    l->feeds = ARENA_ARRAY(l->arena, cuda_feed, ops + 2);
    l->weights = ARENA_ARRAY(l->arena, cuda_weights, matrices);
    l->tagged = ARENA_ARRAY(l->arena, cuda_address, ops);
    return l->regions && l->uploads && l->stages && l->feeds && l->weights && l->tagged;
}

static weir_status make(cuda_layout *l, const kv_shape *kv, const cuda_device *device,
                        const backend_options *o, weir_error *err) {
    const plan *p = l->plan;
    if (p->attention.head_dim % 2 || p->attention.head_dim > 64 * CUDA_MAX_PAIRS) {
        return weir_fail(err, WEIR_ERR_MODEL,
                         "back end cuda: heads of %d features, wants an even "
                         "number, at most %d",
                         p->attention.head_dim, 64 * CUDA_MAX_PAIRS);
    }
    WEIR_TRY(kv_init(&l->kv, kv, false, err));
    const cuda_address stages = place(l, "stages", (2 * (size_t)p->n_ops + 1) * sizeof(cuda_stage));
    const cuda_address feeds = place(l, "feeds", ((size_t)p->n_ops + 2) * sizeof(cuda_feed));
    l->arena_at = place(l, "activations", p->arena_bytes);
    place_matrices(l, o->weights);
    describe_store(l, kv);
    choose_splits(l, kv, device->n_blocks);
    WEIR_TRY(cuda_arrange_walk(l, device, err));
    cuda_arrange_many(l, kv, device);
    place_work(l, kv, device);
    l->tagged_bytes = cuda_choose_tagged(l, l->base + l->bytes);
    place(l, "tagged values", l->tagged_bytes);
    make_stages(l);
    make_feeds(l);
    l->world.feeds = feeds;
    assert(l->n_uploads < l->most_uploads);
    l->uploads[l->n_uploads++] = (cuda_upload){
        .to = feeds, .from = l->feeds, .bytes = (size_t)l->n_feeds * sizeof(cuda_feed)};
    l->world.stages = stages;
    assert(l->n_uploads < l->most_uploads);
    l->uploads[l->n_uploads++] = (cuda_upload){
        .to = stages, .from = l->stages, .bytes = (size_t)l->n_stages * sizeof(cuda_stage)};
    if (l->bytes == SIZE_MAX) {
        return weir_fail(err, WEIR_ERR_MEMORY, "back end cuda: the sizes of this model overflow");
    }
    return WEIR_OK;
}

weir_status cuda_layout_make(cuda_layout *out, const plan *p, const kv_shape *kv,
                             const cuda_device *device, const backend_options *o, cuda_address base,
                             weir_error *err) {
    assert(base % ALIGN == 0 && device->most_threads >= 64);
    *out = (cuda_layout){.plan = p, .base = base};
    const weir_status status =
        make_arrays(out) ? make(out, kv, device, o, err)
                         : weir_fail(err, WEIR_ERR_MEMORY, "no memory for a table of stages");
    if (status != WEIR_OK) cuda_layout_clear(out);
    return status;
}

void cuda_layout_clear(cuda_layout *l) {
    arena_free(l->arena);
    *l = (cuda_layout){0};
}
