/* stage.h - what the host tells the kernels: the plan as a table of stages, and one step.
 *
 * Read by C and by CUDA C; plain types only.  A stage is an operation of the plan with every
 * address resolved, so a kernel needs nothing else.  layout.c writes it, kernels/walk.cu reads it.
 *
 *   plan:    lookup   project [norm; q|k|v]   attend          project [o; + residual] ...
 *   stages:  phases lookup | project | (store |) attend | project | ...       | is a grid barrier
 *
 * A matrix lies on the device as tiles of 16 output rows; a tile is one stream of blocks along k,
 * as pack.h draws them.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "nn/ops.h"

typedef unsigned long long cuda_address; /* of device memory */

enum {
    CUDA_TILE = 16,         /* output rows of a tile                                           */
    CUDA_WORKERS = 16,      /* warps of a block of `walk` that work, at most                   */
    CUDA_FEEDERS = 4,       /* and that do not, one of which copies, at most                   */
    CUDA_GROUP = 8,         /* tiles whose sums they leave together, at most                   */
    CUDA_TOKENS = 4,        /* tokens of one pass of `walk`: a token takes two columns of a
                               matrix instruction that has eight                               */
    CUDA_WIDTHS = 5,        /* tokens of a tile of wide.cu: 16 << 0 .. 4                         */
    CUDA_FEW = 64,          /* of those, made by few.cuh                                       */
    CUDA_CLUSTER = 8,       /* blocks of a cluster of few.cuh, at most                            */
    CUDA_HEADS = 4,         /* query heads that look at the same keys together, at most        */
    CUDA_KEYS = 8,          /* that a warp of `walk` looks at together */
    CUDA_PLACE_BYTES = 512, /* of a ring_place, at most */
    CUDA_MARKS = 15,        /* places in the code whose time is added up                       */
    CUDA_RECENT = 1024,     /* tokens that penalties look back on, at most                     */
    CUDA_BIASES = 256,      /* biased tokens, at most                                          */
    /* a distance in octaves, as base/octave.h draws it; draw.c asserts that they agree */
    CUDA_DIGIT_BITS = 11,
    CUDA_DIGITS = 1 << CUDA_DIGIT_BITS,
    CUDA_FRACTION_BITS = 2 * CUDA_DIGIT_BITS,
    CUDA_KEY_BITS = CUDA_FRACTION_BITS + 6,
    CUDA_MAX_OCTAVES = 43, /* weighs nothing */
    CUDA_WEIGHT_SHIFT = 20,
    CUDA_DECK = 4096, /* candidates that a block keeps in its shared memory              */
    CUDA_SHARES = 16, /* blocks that draw for a row together, at most                   */
    CUDA_DRAW_BYTES = 80 << 10, /* shared memory of a block that draws                     */
    CUDA_LINES = 16,            /* query heads of rows that a warp looks with (attend_many.cuh) */
    CUDA_GROUP_LINES = 64,      /* of the warps that look together (attend_tiles.cuh)            */
    CUDA_TILE_MOST_KEYS = 128,  /* keys that they look at together, at most                     */
    CUDA_PART_KEYS = 16,        /* keys that a warp looks at with a row alone in its slot        */
    CUDA_PART_SUMS = 2048,      /* its query heads times their features, at most                 */
    CUDA_MANY_DIM = 256,        /* features of a head there at most                             */
    CUDA_MAX_PAIRS = 16 /* pairs of features of a head per lane: head_dim / 64             */
};

/* The formats of cpu/pack.h, by the same numbers, and those that only GPUs have. */
typedef enum cuda_format {
    CUDA_F32,
    CUDA_F16,
    CUDA_BF16,
    CUDA_Q8,
    CUDA_Q8M,
    CUDA_Q4,
    CUDA_Q4M,
    CUDA_K4,
    CUDA_K5,
    CUDA_K6,
    CUDA_FP8,
    CUDA_N_FORMATS
} cuda_format;

/* Parts of a block of weights, the least that a warp of `walk` multiplies. */
#define CUDA_PARTS_OF_BLOCK(format) ((format) >= CUDA_K4 && (format) <= CUDA_K6 ? 2 : 1)

/* k of a chunk of weights of wide.cuh. */
#define CUDA_WIDE_SPAN(format) ((format) == CUDA_F16 || (format) == CUDA_BF16 ? 128 : 256)

/* Features of a head and zeros, and keys of a tile, of attend_tiles.cuh. */
#define CUDA_TILE_DIM(hd)           ((hd) <= 64 ? 64 : (hd) <= 128 ? 128 : 256)
#define CUDA_TILE_KEYS(hd, is_wide) ((hd) > 128 ? 32 : (is_wide) ? 128 : 64)

/* Stages that are no operation of the graph. */
enum { CUDA_PHASES = NN_N_OPS, CUDA_STORE };

/* weir_type and nn_act and plan_prologue by their numbers; layout.c asserts that they agree. */
enum { CUDA_KV_F32 = 1, CUDA_KV_F16, CUDA_KV_BF16, CUDA_KV_INT8, CUDA_KV_FP8 = 7 };
enum { CUDA_SILU, CUDA_GELU, CUDA_GELU_TANH, CUDA_RELU };
enum { CUDA_PLAIN, CUDA_NORM, CUDA_GATE, CUDA_ACT };

typedef struct cuda_tensor {
    cuda_address at; /* [rows, stride] float, its first column; 0: none */
    cuda_address
        tagged; /* [features] float: where it lies in a tagged step; 0: where it always does */
    int stride, features;
    int selected; /* [n_wanted, ...] */
    int unused;
} cuda_tensor;

typedef struct cuda_matrix {
    cuda_address tiles; /* [n_tiles][tile_bytes] */
    cuda_address bias;  /* [rows] float; 0: none */
    cuda_address tile_bytes;
    int format, rows, cols;
    int n_tiles;
    int n_blocks;     /* of a tile */
    int block_bytes;  /* of a block */
    int block_span;   /* k of a block */
    int chunk_blocks; /* blocks that are copied together */
    int share;        /* parts of those, a warp's: warp i has those from i * share on */
    int gated;        /* of [gate; up]: rows of gate, in packed order 8 by 8; 0: rows as they are */
} cuda_matrix;

/* The row of a matrix that is packed as its row i.  Where a product is wanted as act(gate) * up
 * only, a tile has 8 rows of each, and whoever finishes row r of it finishes row r + 8. */
#define CUDA_ROW_OF(gated, i) \
    ((gated) ? (i) / 16 * 8 + (i) % 8 + ((i) % 16 < 8 ? 0 : (gated)) : (i))
/* The other way round. */
#define CUDA_PACKED_ROW(gated, row)                 \
    (!(gated)          ? (row)                      \
     : (row) < (gated) ? (row) / 8 * 16 + (row) % 8 \
                       : ((row) - (gated)) / 8 * 16 + 8 + ((row) - (gated)) % 8)

typedef struct cuda_norm {
    cuda_address weight, bias; /* [group] float; bias may be 0 */
    float eps;
    float most; /* that |y| can be */
    int group, is_layer;
} cuda_norm;

typedef struct cuda_stage {
    int kind;
    int barrier; /* blocks wait for each other before it */
    int meets;   /* ... and nobody goes on before all that was written is there, tagged or not */
    cuda_tensor in, in2, v, residual, out;
    cuda_matrix matrix;
    cuda_norm norm;
    int prologue, act;
    int layer;
    float scale, bound;
    int store_next;  /* the next stage is CUDA_STORE, which is left out when rows are alone */
    int feed;        /* the first cuda_feed of this stage or of those behind it */
    int is_even;     /* a row of `in` is aligned to 16 bytes, and has a multiple of 4 features */
    int wanted_next; /* it is NN_WANTED, which a tagged step leaves out: its one row is wanted */
    int unused;
    int folded; /* act(gate) * up is left where gate is meant to be: product of a gated matrix,
                   and who reads it */
} cuda_stage;

typedef struct cuda_feed { /* what the ring of `walk` copies for a stage */
    int stage;             /* that reads it; there are two behind the last, of no stage */
    int is_keys;           /* of attention: keys and values; or weights of a product */
    int layer;             /* of keys */
    int selected;          /* the product's rows are the wanted ones */
    cuda_address tiles, tile_bytes;
    int n_tiles, n_blocks, block_bytes, chunk_bytes;
    int norm_bytes; /* of the weights of the norm that its input is read with */
    int unused;
    cuda_address norm;
} cuda_feed;

typedef struct cuda_draw { /* how the token behind a wanted row is chosen: a batch_draw */
    double scale;          /* octave_scale of the temperature; 0: greedy */
    double uniform;        /* from [0, 1) */
    cuda_address recent;   /* [n_recent] int; negative: the token drawn last for this slot */
    cuda_address ids;      /* [n_bias] int ... */
    cuda_address values;   /* [n_bias] float, added to their logits */
    cuda_address token;    /* int, in memory of the host: the token drawn */
    float top_p, min_p;    /* 0: off */
    float repeat, presence, frequency;
    int top_k; /* 0: off */
    int n_recent, n_bias, slot;
    int is_on;
} cuda_draw;

typedef struct cuda_row { /* a batch_row, and what attention needs to know of it */
    unsigned long long pos;
    int token; /* negative: the token drawn last for its slot */
    int slot;
    int p, pins, recent, is_pin;
    int at;                    /* row of the ring (or pin) where its key lies */
    int n_splits, own;         /* splits of its keys; the one that has its own key */
    int tile_first, tile_rows; /* of row i: rows of the i-th tile of the step; of rows that are
                                  alone: rounds of keys before, and of this one */
    int unused;
} cuda_row;

/* Where things lie in a block's shared memory: the ring [slots][slot_bytes] from 0, then these. */
typedef struct cuda_shared {
    int parts;  /* [2][tiles of a group][warps][pass][CUDA_TILE] float: sums of shares  */
    int input;  /* inputs of a pass; attention's queries and sums                      */
    int scales; /* [CUDA_TOKENS] float, of outputs; then [1 + CUDA_TOKENS][warps] float
                   for reductions and sums of squares                                  */
    int gates;  /* [2][slots] mbarriers: full, empty                                   */
    int stages; /* [2] cuda_stage: the one that runs and the next                      */
    int marks;  /* [CUDA_MARKS + 1] 64 bit, when times are taken                       */
    int place;  /* ring_place                                                          */
    int rows;   /* [CUDA_TOKENS] cuda_row, in a step of no more                        */
    int bytes;
    int slots, slot_bytes; /* of the ring */
    int pass;              /* tokens of a pass, at most CUDA_TOKENS */
    int keys_fit;          /* keys and values can be copied into slots */
} cuda_shared;

/* A block of wide.cu: in its shared memory stages of inputs from 0, then these. */
typedef struct cuda_wide {
    int tokens;   /* of a tile                                                       */
    int n_stages; /* of inputs, tokens * 128 bytes each                              */
    int slots;    /* [multipliers][n_slots][slot_bytes]: weights                       */
    int gates;    /* [2][n_stages], then [multipliers][n_slots] mbarriers              */
    int bytes;    /* 0: tiles of so many tokens do not fit                           */
    int n_slots, slot_bytes;
    int stage_bytes; /* of few tokens: inputs, then the weights of all multipliers; no slots then */
    int cluster;     /* blocks that make a tile together; 0: all tiles, cut evenly */
    int unused;
} cuda_wide;

typedef struct cuda_look {   /* attention of many rows; attend_many.cuh, attend_tiles.cuh */
    cuda_address partials;   /* [blocks][2][share][head_dim + 2] float */
    cuda_address tickets;    /* [rows alone][n_kv_heads] */
    int tiles;               /* of this step */
    int tile_rows;           /* of a tile at most; 0: these kernels are not for this model */
    int tile_at, tile_slots; /* in shared memory: where slots begin, slots */
    int tile_bytes;          /* of shared memory */
    int part_warps;          /* 0: not for so many heads */
    int part_slots;          /* of a warp */
    int part_bytes;          /* of shared memory */
    int part_blocks;         /* of a launch */
    int part_lines;          /* query heads of a K/V head, at most: 4, 8, 16 */
} cuda_look;

typedef struct cuda_world { /* the argument of every kernel */
    cuda_address stages;    /* [..] cuda_stage */
    cuda_address feeds;     /* [..] cuda_feed */
    int first, last;        /* this launch runs stages [first, last) */
    int n, n_wanted;
    int alone;           /* every row is the only one of its slot: attend stores it */
    int tagged;          /* a step of one row whose values say by themselves that they are there */
    unsigned tag;        /* their lowest bit in this step */
    int folds;           /* stages that are folded do so: not the readable way */
    int plain;           /* products the readable way */
    int feeders;         /* warps of a block of `walk` behind those that work; else 0 */
    int fast;            /* it is for `walk_one`: a tagged row alone, a unit of attention a block */
    int pass;            /* tokens of a pass of products */
    cuda_address rows;   /* [n] cuda_row */
    cuda_address wanted; /* [n_wanted] int */
    cuda_address barrier;
    unsigned barrier_base;
    int pairs, interleaved;
    float magnitude;
    cuda_address turns;                              /* [pairs] 64 bit */
    cuda_address cos_pos, sin_pos, cos_pin, sin_pin; /* [max_rows][pairs] float */

    cuda_address kv; /* kv.h draws it */
    cuda_address slot_bytes, layer_bytes, ring_at, scale_at, pin_head_bytes, ring_head_bytes;
    int kv_type, pin_type, ring, n_layers;
    int n_heads, n_kv_heads, head_dim;
    int split;                    /* keys of a split of the window */
    int max_splits;               /* of a row */
    cuda_address alibi;           /* [n_heads] float; 0: none */
    cuda_address partials;        /* [items][max_splits][CUDA_HEADS][head_dim + 2] float */
    cuda_address tickets;         /* [items] */
    cuda_address tagged_partials; /* [n_layers][items of a row][max_splits][CUDA_HEADS]
                                     [head_dim + 2] float */

    cuda_look look;

    /* A product of many tokens; prepare.cuh draws the image. */
    cuda_wide wide;
    cuda_address image;
    cuda_address image_out;   /* where attention or act(gate) * up is left as the next product's;
                                 0: nowhere */
    cuda_address scales;      /* [n] float, of outputs */
    cuda_address squares;     /* [features / 16][CUDA_FEW] float: sums of squares of rows that are
                                 not normed yet, for outputs to be scaled by; 0: they are */
    cuda_address squares_out; /* where a product leaves such sums, and rows that are not normed at
                                 image_out; 0: it does not */
    cuda_address parts; /* [blocks][2][multipliers][16][tokens] float: sums of parts of tiles */
    cuda_address tile_tickets; /* [blocks][multipliers] */

    int ahead,
        unused_also; /* the next stage, when its weights are fetched ahead; 0: they are not */

    cuda_address times; /* [n_stages + 1] clock of block 0 when a stage begins, then of each block
                           [CUDA_MARKS] cycles up to each mark and its multiprocessor; 0: not
                           taken */

    cuda_address logits; /* [n_wanted][logits_stride] float, of vocab tokens */
    int logits_stride, vocab;
    cuda_address draws;     /* [n_wanted] cuda_draw */
    cuda_address drawn;     /* [slots] int: the last token drawn for each */
    int shares, unused_too; /* blocks that draw for a row together */
    cuda_address meetings;  /* [max_wanted][2] unsigned: times they met, how many have left */
    cuda_address told;      /* [max_wanted][2][CUDA_SHARES] 64 bit: what each told the others */
    cuda_address masses;    /* [blocks][2][CUDA_DIGITS] 64 bit */
    cuda_address deck;      /* [blocks / 2][2][CUDA_DECK]: keys and ids of a row's candidates */
    cuda_address octaves;   /* [2][CUDA_DIGITS] unsigned: coarse and fine, base/octave.h */

    cuda_shared shared;
} cuda_world;

enum { MEASURE_TOKENS = 128, MEASURE_STEPS = 8 }; /* of a round of products */

typedef struct cuda_measure { /* the yardsticks of measure.cu */
    cuda_address memory, bytes;
    int passes;            /* over the memory */
    int slots, slot_bytes; /* of a warp's ring */
    int gates;             /* place in shared memory */
    int rounds;            /* of products */
    int unused;
} cuda_measure;

typedef struct cuda_copy { /* rows of the store to or from a flat record */
    cuda_address record;   /* [n] rows as kv_export_row writes them */
    int slot, is_pin, row, n, exporting;
    int pin;                 /* pin_row: where to; row is its ring row then */
    unsigned long long turn; /* pin_row: positions to turn the keys by */
} cuda_copy;
