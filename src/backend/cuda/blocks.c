/* blocks.c - what a block of each kernel has: threads, and what lies where in its shared memory.
 *
 *     walk            a ring of weights, inputs and sums of a pass    one row, a few
 *     wide, few       stages of inputs, rings or stages of weights    products of many
 *     attend_tiles    queries, slots of keys and values               rows of a slot
 *     attend_parts    slots of each warp, queries, sums               rows alone in their slots
 *
 * Test: tests/backend/test_cuda_host.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cuda/layout.h"

#include <assert.h>

enum { MIN_SLOTS = 2, MAX_SLOTS = 16, WIDE_THREADS = 384 };

/* ---- walk */

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

/* Parts of blocks of weights that a warp multiplies in one go. */
static int parts_at_once(int format) {
    switch (format) {
    case CUDA_F16:
    case CUDA_BF16: return 4;
    case CUDA_Q8:
    case CUDA_Q8M:
    case CUDA_Q4:
    case CUDA_Q4M: return 2;
    default: return 1;
    }
}

/* Blocks of a matrix that are copied together: the same share for every warp, where a slot has room
 * for that; and that share. */
static int chunk_of(const cuda_matrix *m, int slot_bytes, int n_warps) {
    const int parts = CUDA_PARTS_OF_BLOCK(m->format), most = slot_bytes / m->block_bytes;
    return most * parts < n_warps ? most : most * parts / n_warps * n_warps / parts;
}

static int share_of(const cuda_matrix *m, int chunk, int n_warps) {
    return (chunk * CUDA_PARTS_OF_BLOCK(m->format) + n_warps - 1) / n_warps;
}

/* What a slot size is worth: weights on their way while the slots but one are full, less where
 * warps have no share, or one that is not what they multiply in one go.  Stages count by what they
 * read. */
static double worth(const cuda_layout *l, int slots, int slot_bytes, int n_warps) {
    const plan *p = l->plan;
    double sum = 0, all = 0;
    for (int i = 0; i < p->n_ops; i++) {
        if (p->ops[i].kind != NN_PROJECT) continue;
        const cuda_matrix *m = &l->weights[p->ops[i].matrix].matrix;
        const int chunk = chunk_of(m, slot_bytes, n_warps);
        if (chunk == 0) return 0;
        const double bytes = (double)m->n_tiles * (double)m->tile_bytes;
        const int chunks = (m->n_blocks + chunk - 1) / chunk;
        const double each = (double)m->n_blocks / chunks * m->block_bytes;
        const int share = share_of(m, chunk, n_warps);
        const double busy = (double)(chunk * CUDA_PARTS_OF_BLOCK(m->format)) / (share * n_warps);
        sum += bytes * (slots - 1) * each * busy * (share % parts_at_once(m->format) ? 0.9 : 1);
        all += bytes;
    }
    return all > 0 ? sum / all : 1;
}

/* The slot size that is worth most; 0: not even the fewest slots fit. */
static int choose_slot(const cuda_layout *l, size_t bytes, int n_warps) {
    enum { LEAST_SLOT = 4096, MOST_SLOT = 48 << 10 };
    double most = 0;
    int best = 0;
    for (int slot = LEAST_SLOT; slot <= MOST_SLOT; slot += 64) {
        const size_t slots = bytes / ((size_t)slot + 2 * sizeof(uint64_t));
        if (slots < MIN_SLOTS) break; /* larger ones are fewer */
        const double x = worth(l, (int)MIN_OF(slots, MAX_SLOTS), slot, n_warps);
        if (x < most * 1.02 || x == 0) continue; /* larger copies when as good */
        most = x;
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

/* False when not even the fewest slots fit, or when a ring has less than `least` bytes. */
static bool arrange(cuda_layout *l, size_t bytes, int pass, int n_warps, size_t least) {
    cuda_shared *s = &l->world.shared;
    const size_t input = input_bytes(l, pass, n_warps);
    const size_t group = (size_t)MIN_OF(n_warps, CUDA_GROUP);
    const size_t parts = 2 * group * (size_t)(n_warps * pass) * CUDA_TILE * sizeof(float);
    const size_t scales = up_to((CUDA_TOKENS + (1 + CUDA_TOKENS) * CUDA_WORKERS) * 4, 128);
    const size_t tables = 2 * sizeof(cuda_stage) + (CUDA_MARKS + 1) * sizeof(uint64_t) +
                          CUDA_PLACE_BYTES + CUDA_TOKENS * sizeof(cuda_row);
    const size_t fixed = parts + input + scales + tables + 1024 + 4 * 128;
    if (fixed + least >= bytes) return false;
    s->slot_bytes = choose_slot(l, bytes - fixed, n_warps);
    if (s->slot_bytes == 0) return false;
    const size_t slot = (size_t)s->slot_bytes + 2 * sizeof(uint64_t);
    s->slots = (int)MIN_OF((bytes - fixed) / slot, MAX_SLOTS);
    s->pass = pass;
    s->keys_fit = keys_fit(l, l->world.kv_type) && keys_fit(l, l->world.pin_type);
    s->parts = s->slots * s->slot_bytes;
    s->input = s->parts + (int)parts;
    s->scales = s->input + up_to(input, 128);
    s->gates = s->scales + (int)scales;
    s->stages = s->gates + up_to(2 * (size_t)s->slots * sizeof(uint64_t), 128);
    s->marks = s->stages + (int)(2 * sizeof(cuda_stage));
    s->place = s->marks + (CUDA_MARKS + 1) * (int)sizeof(uint64_t);
    s->rows = s->place + CUDA_PLACE_BYTES;
    s->bytes = s->stages + up_to(tables, 128);
    assert((size_t)s->bytes <= bytes && s->slots >= MIN_SLOTS);
    l->n_warps = n_warps;
    for (int i = 0; i < l->plan->n_matrices; i++) {
        cuda_matrix *m = &l->weights[i].matrix;
        m->chunk_blocks = MAX_OF(1, chunk_of(m, s->slot_bytes, n_warps)); /* lookup: unused */
        m->share = share_of(m, m->chunk_blocks, n_warps);
    }
    return true;
}

/* Whether a block of `walk` has as many warps as machine_wide.cuh gives it on GPUs whose warp
 * groups share out registers. */
static bool is_large(const cuda_device *device) {
    return device->major == 9 && device->most_threads >= 32 * (CUDA_WORKERS + CUDA_FEEDERS);
}

/* As many tokens in a pass as leave the ring deep enough, with as many warps as there may be: a
 * power of two, since attend.cuh counts turns so, and whole warp groups where those share out
 * registers. */
weir_status cuda_arrange_walk(cuda_layout *l, const cuda_device *device, weir_error *err) {
    const size_t bytes = (size_t)device->shared_bytes;
    int n_warps = is_large(device) ? CUDA_WORKERS : CUDA_WORKERS / 2;
    l->n_feeders = is_large(device) ? CUDA_FEEDERS : 1;
    while (n_warps > 1 && 32 * (n_warps + l->n_feeders) > device->most_threads) n_warps /= 2;
    const int least = is_large(device) ? 4 : 1;
    for (; n_warps >= least; n_warps /= 2) {
        for (int pass = CUDA_TOKENS; pass > 0; pass /= 2) {
            if (arrange(l, bytes, pass, n_warps, pass > 1 ? bytes / 5 * 3 : 0)) return WEIR_OK;
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
    const int warps = l->multipliers = l->wide_threads / 32 - copiers_of(device);
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

/* ---- attention of many rows */

/* Shared memory of attention of rows of a slot: queries, as many slots as fit, gates. */
static void arrange_tiles(cuda_layout *l, const kv_shape *kv, const cuda_device *device) {
    enum { TILE_SLOTS = 8, GATES = 16 * TILE_SLOTS };
    cuda_world *w = &l->world;
    cuda_look *look = &w->look;
    const int hd = w->head_dim, share = w->n_heads / w->n_kv_heads, dim = CUDA_TILE_DIM(hd);
    const int warps = l->multipliers, groups = (warps + 3) / 4;
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
    look->part_lines = share <= 4 ? 4 : share <= 8 ? 8 : CUDA_LINES;
    if (share > CUDA_LINES || look->part_lines * hd > CUDA_PART_SUMS) return;
    const int sums = warps * share * (hd + 2) * (int)sizeof(float);
    const int rest = 2 * 2 * share * stride + sums + 16;
    const int slots = (device->shared_bytes / 2 - RESERVED - rest) / slot;
    look->part_slots = MAX_OF(LEAST_SLOTS, MIN_OF(PART_SLOTS, slots));
    const int each = slots < LEAST_SLOTS ? 1 : 2; /* of a multiprocessor */
    look->part_bytes = rest + look->part_slots * slot;
    look->part_blocks = each * device->n_blocks;
    /* a third one would find room where the launch before has ended early, and leave others idle */
    look->part_bytes =
        MAX_OF(look->part_bytes, up_to((size_t)device->shared_bytes / (size_t)(each + 1), 16));
    if (look->part_bytes <= device->shared_bytes) look->part_warps = warps;
    assert(look->part_bytes % 16 == 0 && look->part_blocks > 0);
}

void cuda_arrange_many(cuda_layout *l, const kv_shape *kv, const cuda_device *device) {
    assert(l->world.n_heads % l->world.n_kv_heads == 0 && l->world.split > 0);
    l->wide_depth = (widest(l) + 255) / 256 * 256; /* whole chunks */
    arrange_wide(l, device);
    if (l->plan->max_rows <= CUDA_TOKENS) return;
    arrange_tiles(l, kv, device);
    if (l->world.look.tile_rows) arrange_parts(l, kv, device);
}
