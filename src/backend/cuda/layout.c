/* layout.c - places what the device holds, resolves the plan into stages.
 *
 * Test: tests/backend/test_cuda_host.c (no two regions overlap, nothing is left out).
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/layout.h"

#include "base/arena.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <string.h>

enum {
    ALIGN = 256,
    RECORD_BYTES = 8 << 20,
    MIN_SLOTS = 2,
    GOOD_SLOTS = 5,
    MAX_SLOTS = 16,
    WIDE_THREADS = 384
};

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

/* What the rings of `walk` copy, in the order of the stages. */
static void make_feeds(cuda_layout *l, int n_blocks) {
    assert(n_blocks > 0 && l->n_stages > 0);
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
                                             .whole = m->n_tiles / n_blocks,
                                             .rest = m->n_tiles % n_blocks,
                                             .norm = s->norm.weight,
                                             .norm_bytes = s->norm.group * (int)sizeof(float)};
    }
    for (int i = 0; i < 2; i++) l->feeds[l->n_feeds++] = (cuda_feed){.stage = INT_MAX};
    assert(l->n_feeds <= l->plan->n_ops + 2);
}

/* ---- a block's shared memory */

/* The depth of the widest product. */
static size_t widest(const cuda_layout *l) {
    size_t depth = 0;
    for (int i = 0; i < l->plan->n_ops; i++) {
        if (l->plan->ops[i].kind != NN_PROJECT) continue;
        const cuda_matrix *m = &l->weights[l->plan->ops[i].matrix].matrix;
        depth = MAX_OF(depth, (size_t)m->n_blocks * (size_t)m->block_span);
    }
    return depth;
}

static size_t input_bytes(const cuda_layout *l, int pass, int n_warps) {
    const plan *p = l->plan;
    const size_t depth = widest(l);
    const size_t hd = (size_t)p->attention.head_dim;
    const size_t look = 2 * CUDA_HEADS * hd + (size_t)(n_warps + 1) * CUDA_HEADS * (hd + 2) + 8 +
                        2 * (size_t)(n_warps + 1) * hd;
    return MAX_OF((size_t)pass * depth, look) * sizeof(float);
}

static int up_to(size_t x, size_t unit) {
    return (int)((x + unit - 1) / unit * unit);
}

/* Weights on their way when rings of this slot size are full: chunks are whole blocks, and a slice
 * ends with a shorter one.  Stages count by what they read. */
static double in_flight(const cuda_layout *l, int slots, int slot_bytes) {
    const plan *p = l->plan;
    double sum = 0, all = 0;
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != NN_PROJECT) continue;
        const cuda_matrix *m = &l->weights[p->ops[i].matrix].matrix;
        const int chunk = slot_bytes / m->block_bytes;
        if (chunk == 0) return 0;
        const int slice = MAX_OF(1, m->n_blocks / CUDA_SLICES);
        const double bytes = (double)m->n_tiles * (double)m->tile_bytes;
        const int chunks = (slice + chunk - 1) / chunk;
        sum += bytes * slots * (double)slice / chunks * m->block_bytes;
        all += bytes;
    }
    return sum / all;
}

/* The slot size that has most weights on their way; 0: not even the fewest slots fit.  Slots of
 * 1 to 2 KiB had more on their way and read 10 % less of them a second (H100, 7B in bf16). */
static int choose_slot(const cuda_layout *l, size_t bytes, int n_warps, int least_slots) {
    enum { LEAST_SLOT = 4096 };
    double most = 0;
    int best = 0;
    for (int slot = LEAST_SLOT; slot <= 12288; slot += 64) {
        const size_t slots = bytes / ((size_t)n_warps * ((size_t)slot + sizeof(uint64_t)));
        if (slots < (size_t)least_slots) break; /* larger ones are fewer */
        const double flying = in_flight(l, (int)MIN_OF(slots, MAX_SLOTS), slot);
        if (flying < most * 1.02 || flying == 0) continue; /* fewer, larger copies when as good */
        most = flying;
        best = slot;
    }
    return best;
}

/* Whether keys and their values can be copied into a slot. */
static bool keys_fit(const cuda_layout *l, int type) {
    assert(l->world.shared.slot_bytes > 0 && l->world.head_dim > 0);
    const int bytes = l->world.head_dim * (int)kv_type_bytes((weir_type)type);
    return bytes % 16 == 0 && 2 * bytes <= l->world.shared.slot_bytes;
}

/* False when not even the fewest slots fit. */
static bool arrange(cuda_layout *l, size_t bytes, int pass, int n_warps, int least_slots) {
    cuda_shared *s = &l->world.shared;
    const size_t input = input_bytes(l, pass, n_warps);
    const size_t parts = 2 * (size_t)(n_warps * pass) * CUDA_SLICES * CUDA_TILE * sizeof(float);
    const size_t tables = 2 * sizeof(cuda_stage) + (CUDA_MARKS + 1) * sizeof(uint64_t) +
                          (size_t)n_warps * CUDA_PLACE_BYTES + CUDA_TOKENS * sizeof(cuda_row);
    const size_t fixed = parts + input + 256 + tables + 1024 + 4 * 128;
    if (fixed >= bytes) return false;
    s->slot_bytes = choose_slot(l, bytes - fixed, n_warps, least_slots);
    if (s->slot_bytes == 0) return false;
    const size_t slot = (size_t)n_warps * ((size_t)s->slot_bytes + sizeof(uint64_t));
    s->slots = (int)MIN_OF((bytes - fixed) / slot, MAX_SLOTS);
    s->pass = pass;
    s->keys_fit = keys_fit(l, l->world.kv_type) && keys_fit(l, l->world.pin_type);
    s->parts = n_warps * s->slots * s->slot_bytes;
    s->input = s->parts + (int)parts;
    s->scales = s->input + up_to(input, 128);
    s->gates = s->scales + 256;
    s->stages = s->gates + up_to((size_t)n_warps * (size_t)s->slots * sizeof(uint64_t), 128);
    s->marks = s->stages + (int)(2 * sizeof(cuda_stage));
    s->places = s->marks + (CUDA_MARKS + 1) * (int)sizeof(uint64_t);
    s->rows = s->places + n_warps * CUDA_PLACE_BYTES;
    s->bytes = s->stages + up_to(tables, 128);
    assert((size_t)s->bytes <= bytes);
    l->n_warps = n_warps;
    for (int i = 0; i < l->plan->n_matrices; i++) {
        cuda_matrix *m = &l->weights[i].matrix;
        m->chunk_blocks = MAX_OF(1, s->slot_bytes / m->block_bytes); /* lookup alone: unused */
    }
    return true;
}

/* As many tokens in a pass as leave the rings deep enough, with as many warps as there may be. */
static weir_status arrange_shared(cuda_layout *l, const cuda_device *device, int n_threads,
                                  weir_error *err) {
    const size_t bytes = (size_t)device->shared_bytes;
    for (int warps = n_threads / 32; warps > 0; warps /= 2) {
        for (int pass = CUDA_TOKENS; pass > 0; pass /= 2) {
            const int least = pass > 1 ? GOOD_SLOTS : MIN_SLOTS;
            if (arrange(l, bytes, pass, warps, least)) return WEIR_OK;
        }
    }
    return weir_fail(
        err, WEIR_ERR_MODEL,
        "GPU %s: %zu bytes of shared memory of a block do not hold a row of this model",
        device->name, bytes);
}

/* ---- products of many tokens */

/* The weights of a warp's tile that are copied together: wide.cuh's chunk. */
static int wide_slot(const cuda_layout *l) {
    int most = 0;
    for (int i = 0; i < l->plan->n_ops; i++) {
        if (l->plan->ops[i].kind != NN_PROJECT) continue;
        const cuda_matrix *m = &l->weights[l->plan->ops[i].matrix].matrix;
        if (m->format == CUDA_F32) continue;
        most = MAX_OF(most, CUDA_WIDE_SPAN(m->format) / m->block_span * m->block_bytes);
    }
    return most;
}

/* Warps of a block of wide.cu and attend_tiles that copy; as machine.cuh has it. */
static int copiers_of(const cuda_device *device) {
    return device->most_threads >= WIDE_THREADS ? 4 : 1;
}

/* A stage of few.cuh: a chunk of inputs and of all warps' weights. */
static int few_stage(const cuda_layout *l, int warps, int tokens) {
    int most = 0;
    for (int i = 0; i < l->plan->n_ops; i++) {
        if (l->plan->ops[i].kind != NN_PROJECT) continue;
        const cuda_matrix *m = &l->weights[l->plan->ops[i].matrix].matrix;
        const int span = CUDA_WIDE_SPAN(m->format);
        if (m->format == CUDA_F32) continue;
        most = MAX_OF(most, tokens * 2 * span + warps * (span / m->block_span) * m->block_bytes);
    }
    return up_to((size_t)most, 1024);
}

/* Few tokens: as many stages as fit, at most 8.  More: four stages of inputs where they fit beside
 * rings of two slots; what is left goes to the rings. */
static void arrange_wide(cuda_layout *l, const cuda_device *device) {
    enum { MIN_STAGES = 2, MAX_STAGES = 4, MAX_FEW = 8, GATES = 2048, MOST_TOKENS = 128 };
    const int bytes = device->shared_bytes - GATES, slot = wide_slot(l);
    l->wide_threads = MIN_OF(WIDE_THREADS, device->most_threads / 32 * 32);
    const int warps = l->wide_threads / 32 - copiers_of(device);
    for (int i = 0; i < CUDA_WIDTHS && slot > 0 && l->plan->max_rows > CUDA_TOKENS; i++) {
        cuda_wide *w = &l->wide[i];
        const int stage = (16 << i) * 128, ring = warps * slot;
        w->tokens = 16 << i;
        if (i > 0 && l->wide[i - 1].tokens >= l->plan->max_rows) break; /* one tile has all */
        if (device->major != 9 && w->tokens > MOST_TOKENS) break;       /* too few registers */
        if (w->tokens <= CUDA_FEW) {
            w->stage_bytes = few_stage(l, warps, w->tokens);
            w->n_stages = MIN_OF(MAX_FEW, bytes / w->stage_bytes);
            if (w->n_stages < MIN_STAGES) break;
            w->gates = w->n_stages * w->stage_bytes;
            w->bytes = w->gates + GATES;
            continue;
        }
        w->n_stages = MIN_OF(MAX_STAGES, (bytes - MIN_SLOTS * ring) / stage);
        if (w->n_stages < MIN_STAGES) break;
        w->slot_bytes = slot;
        w->n_slots = MIN_OF((bytes - w->n_stages * stage) / ring, MAX_SLOTS);
        w->slots = w->n_stages * stage;
        w->gates = w->slots + w->n_slots * ring;
        w->bytes = w->gates + GATES;
    }
}

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

/* Shared memory of attention of rows of a slot: queries, as many slots as fit, gates. */
static void arrange_tiles(cuda_layout *l, const kv_shape *kv, const cuda_device *device) {
    enum { TILE_SLOTS = 8, GATES = 16 * TILE_SLOTS };
    cuda_world *w = &l->world;
    cuda_look *look = &w->look;
    const int hd = w->head_dim, share = w->n_heads / w->n_kv_heads, dim = CUDA_TILE_DIM(hd);
    const int warps = l->wide_threads / 32 - copiers_of(device), groups = (warps + 3) / 4;
    assert(warps > 0 && groups > 0);
    const int slot = CUDA_TILE_KEYS(hd, device->major == 9) * dim * 2;
    if (kv->type == WEIR_F32 || hd % 16 || hd > CUDA_MANY_DIM || share > CUDA_LINES * warps) return;
    look->tile_at = 2 * groups * CUDA_GROUP_LINES * dim * 2;
    const int levels = kv_is_scaled(kv->type) ? slot : 0; /* of two slots, on their way */
    const int left = device->shared_bytes - look->tile_at - GATES - levels;
    look->tile_slots = MIN_OF(TILE_SLOTS, left / (2 * slot) * 2);
    look->tile_bytes = look->tile_at + look->tile_slots * slot + GATES + levels;
    if (look->tile_slots < 2) return;
    look->tile_rows = CUDA_LINES * warps / share;
    assert(look->tile_at % 1024 == 0 && slot % 1024 == 0); /* swizzled by address */
    assert(look->tile_rows > 0 && look->tile_bytes <= device->shared_bytes);
}

/* Attention of rows alone: two blocks of a multiprocessor share its memory, where slots are enough.
 */
static void arrange_parts(cuda_layout *l, const kv_shape *kv, const cuda_device *device) {
    enum { PART_SLOTS = 6, LEAST_SLOTS = 3, PART_WARPS = 4, RESERVED = 1024 };
    cuda_world *w = &l->world;
    cuda_look *look = &w->look;
    const int hd = w->head_dim, share = w->n_heads / w->n_kv_heads, stride = 2 * hd + 16;
    const int scale = kv_is_scaled(kv->type) ? (int)sizeof(float) : 0;
    const int warps = MIN_OF(PART_WARPS, l->n_warps);
    const int slot = 2 * CUDA_PART_KEYS * (stride + scale) * warps;
    assert(look->tile_rows > 0 && look->part_warps == 0);
    if (share > CUDA_LINES) return;
    const int sums = warps * share * (hd + 2) * (int)sizeof(float);
    const int rest = 2 * 2 * (share + 1) * stride + sums + 16;
    const int slots = (device->shared_bytes / 2 - RESERVED - rest) / slot;
    look->part_slots = MAX_OF(LEAST_SLOTS, MIN_OF(PART_SLOTS, slots));
    look->part_bytes = rest + look->part_slots * slot;
    look->part_blocks = (slots < LEAST_SLOTS ? 1 : 2) * device->n_blocks;
    if (look->part_bytes <= device->shared_bytes) look->part_warps = warps;
    assert(look->part_bytes % 16 == 0 && look->part_blocks > 0);
}

static void arrange_look(cuda_layout *l, const kv_shape *kv, const cuda_device *device) {
    assert(l->world.n_heads % l->world.n_kv_heads == 0 && l->world.split > 0);
    if (l->plan->max_rows <= CUDA_TOKENS) return;
    arrange_tiles(l, kv, device);
    if (l->world.look.tile_rows) arrange_parts(l, kv, device);
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
                        const backend_options *o, int n_threads, weir_error *err) {
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
    WEIR_TRY(arrange_shared(l, device, n_threads, err));
    l->wide_depth = (widest(l) + 255) / 256 * 256; /* whole chunks */
    arrange_wide(l, device);
    arrange_look(l, kv, device);
    place_work(l, kv, device);
    l->tagged_bytes = cuda_choose_tagged(l, l->base + l->bytes);
    place(l, "tagged values", l->tagged_bytes);
    make_stages(l);
    make_feeds(l, device->n_blocks);
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
                             const cuda_device *device, const backend_options *o, int n_threads,
                             cuda_address base, weir_error *err) {
    assert(n_threads >= 32 && n_threads <= 32 * CUDA_SLICES && base % ALIGN == 0);
    *out = (cuda_layout){.plan = p, .base = base};
    const weir_status status =
        make_arrays(out) ? make(out, kv, device, o, n_threads, err)
                         : weir_fail(err, WEIR_ERR_MEMORY, "no memory for a table of stages");
    if (status != WEIR_OK) cuda_layout_clear(out);
    return status;
}

void cuda_layout_clear(cuda_layout *l) {
    arena_free(l->arena);
    *l = (cuda_layout){0};
}
