/* attend_simd.c - the kernels of attention, compiled once for each level (see simd.h).
 *
 *   few    scores   DOTS dot products at once (keys x queries), summed across lanes in one tree
 *          values   4 queries x 4 vectors of the head in registers, key after key
 *   many   scores   S = Q K^T, K a transposed tile [head_dim][64]
 *          values   O += P V, V a tile [64][head_dim]; both products by the same small gemm
 *
 * The order in which a query's products are added depends only on its keys, never on the number of
 * queries beside it: sums over features run front to back in each lane, sums over keys oldest
 * first.  A key that a query does not see has weight exactly 0, so it may be in or out.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/cpu/attend_kernels.h"

#include "backend/cpu/simd_levels.h"
#include "backend/cpu/vmath.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

enum {
    DOTS = VF_REGISTERS / 2, /* sums of products held at once */
    WIDE = VF_REGISTERS / 8, /* vectors of a row held at once */
    AHEAD = 4096,            /* bytes of keys or values asked for before they are needed */
    ROWS = 6,                /* of a gemm tile: ROWS * WIDE sums, WIDE operands, one broadcast */
};

static const float NOTHING = -1e30f; /* the maximum of no scores: finite, so differences are too */

/* Features d .. of a stored row; `type` is a constant where this is used. */
WEIR_INLINE vf load(weir_type type, const char *row, int d) {
    switch ((int)type) {
    case WEIR_F32: return vf_load((const float *)(const void *)row + d);
    case WEIR_BF16: return vf_load_bf16((const uint16_t *)(const void *)row + d);
    case WEIR_INT8: return vf_load_i8((const int8_t *)(const void *)row + d);
    case WEIR_FP8: return vf_load_e4m3((const uint8_t *)(const void *)row + d);
    default: return vf_load_f16((const uint16_t *)(const void *)row + d);
    }
}

WEIR_INLINE vf load_part(weir_type type, const char *row, int d, int n) {
    switch ((int)type) {
    case WEIR_F32: return vf_load_part((const float *)(const void *)row + d, n);
    case WEIR_BF16: return vf_load_bf16_part((const uint16_t *)(const void *)row + d, n);
    case WEIR_INT8: return vf_load_i8_part((const int8_t *)(const void *)row + d, n);
    case WEIR_FP8: return vf_load_e4m3_part((const uint8_t *)(const void *)row + d, n);
    default: return vf_load_f16_part((const uint16_t *)(const void *)row + d, n);
    }
}

/* Asks for the line that feature d is on, AHEAD bytes further: rows of a head lie in order. */
WEIR_INLINE void look_ahead(weir_type type, const char *row, int d) {
    const int bytes = type == WEIR_F32 ? 4 : kv_is_scaled(type) ? 1 : 2;
    if (d * bytes % 64 == 0) WEIR_PREFETCH(row + d * bytes + AHEAD);
}

WEIR_INLINE const char *key_row(const attend_keys *k, const char *const pieces[2], int c) {
    return c < k->wrap ? pieces[0] + (size_t)(c - k->first) * k->row_bytes
                       : pieces[1] + (size_t)(c - k->wrap) * k->row_bytes;
}

/* ---- softmax of a span */

/* Lanes of x, keys c .., that lie outside [from, to) become -inf. */
WEIR_INLINE vf hide(vf x, int c, int from, int to) {
    const vf at = vf_add(vf_iota(), vf_all((float)c)), none = vf_all(-INFINITY);
    x = vf_pick_less(at, vf_all((float)from), none, x);
    return vf_pick_less(at, vf_all((float)to), x, none);
}

/* Weights below 2^-100 of the largest are nothing.  That is far below what a float sum can hold,
 * and keeps denormals, which take a hundred times as long, out of this loop and those behind it. */
static const float LEAST = -100;

/* Query i: scores s, valid in [k->first, k->last), become weights there and zeros around up to
 * whole vectors; most and sum are set. */
static void soften(const attend_queries *q, int i, const attend_keys *k, float *s) {
    const int from = MAX_OF(q->from[i], k->first), to = MIN_OF(q->to[i], k->last);
    const int start = from / VF_WIDTH * VF_WIDTH;
    int c = k->first / VF_WIDTH * VF_WIDTH;
    if (from >= to) {
        for (; c < k->last; c += VF_WIDTH) vf_store(s + c, vf_zero());
        q->most[i] = NOTHING;
        q->sum[i] = 0;
        return;
    }
    const vf slope = vf_all(q->slope ? q->slope[i] : 0);
    const vf back = vf_sub(vf_iota(), vf_all(q->slope ? q->distance[i] : 0));
    vf most = vf_all(NOTHING);
    for (c = start; c < to; c += VF_WIDTH) {
        vf x = vf_load(s + c);
        if (q->slope) x = vf_fma(slope, vf_add(back, vf_all((float)c)), x);
        if (c < from || c + VF_WIDTH > to) x = hide(x, c, from, to);
        most = vf_max(most, x);
        vf_store(s + c, x);
    }
    q->most[i] = vf_most(most);
    const vf top = vf_all(q->most[i]);
    vf sum = vf_zero();
    for (c = k->first / VF_WIDTH * VF_WIDTH; c < start; c += VF_WIDTH) vf_store(s + c, vf_zero());
    for (; c < to; c += VF_WIDTH) {
        const vf x = vf_sub(vf_load(s + c), top), least = vf_all(LEAST);
        const vf e = vf_pick_less(x, least, vf_zero(), vm_exp2(vf_max(least, x)));
        sum = vf_add(sum, e);
        vf_store(s + c, e);
    }
    for (; c < k->last; c += VF_WIDTH) vf_store(s + c, vf_zero());
    q->sum[i] = vf_sum(sum);
}

/* s[c] *= scale of key c, for the keys of both pieces. */
static void scale_keys(const attend_keys *k, const float *const scales[2], float *s) {
    const float unit = k->type == WEIR_FP8 ? 256 : 1; /* what vf_load_e4m3 leaves out */
    for (int c = k->first; c < k->wrap; c++) s[c] *= unit * scales[0][c - k->first];
    for (int c = k->wrap; c < k->last; c++) s[c] *= unit * scales[1][c - k->wrap];
}

/* ---- few queries: keys and values as they lie */

/* Scores of H queries, `stride` floats apart, with n keys from `row` on: s[h][c]. */
WEIR_INLINE void dots(weir_type type, int H, const float *q, int stride, const char *row,
                      size_t row_bytes, int n, int head_dim, float *s) {
    const int keys = DOTS / H;
    for (int c = 0; c < n; c += keys) {
        const char *at[DOTS];
        vf x[DOTS], kx[DOTS];
        float sums[DOTS];
        WEIR_UNROLL for (int j = 0; j < keys; j++) {
            at[j] = row + (size_t)MIN_OF(c + j, n - 1) * row_bytes;
        }
        WEIR_UNROLL for (int i = 0; i < DOTS; i++) x[i] = vf_zero();
        int d = 0;
        for (; d + VF_WIDTH <= head_dim; d += VF_WIDTH) {
            WEIR_UNROLL for (int j = 0; j < keys; j++) {
                look_ahead(type, at[j], d);
                kx[j] = load(type, at[j], d);
            }
            WEIR_UNROLL for (int h = 0; h < H; h++) {
                const vf qx = vf_load(q + h * stride + d);
                WEIR_UNROLL for (int j = 0; j < keys; j++) {
                    x[h * keys + j] = vf_fma(qx, kx[j], x[h * keys + j]);
                }
            }
        }
        if (d < head_dim) {
            WEIR_UNROLL for (int h = 0; h < H; h++) {
                const vf qx = vf_load(q + h * stride + d);
                WEIR_UNROLL for (int j = 0; j < keys; j++) {
                    const vf k = load_part(type, at[j], d, head_dim - d);
                    x[h * keys + j] = vf_fma(qx, k, x[h * keys + j]);
                }
            }
        }
        WEIR_UNROLL for (int i = 0; i < DOTS; i += VF_WIDTH) vf_store(sums + i, vf_sums(x + i));
        WEIR_UNROLL for (int h = 0; h < H; h++) {
            memcpy(s + h * ATTEND_STRIDE + c, sums + h * keys, (size_t)keys * sizeof *s);
        }
    }
}

/* acc[h][d ..] = sum over keys of p[h][c] v[c][d ..], for H queries and D vectors of features;
 * part > 0: one vector, of which so many features exist. */
WEIR_INLINE void gather(weir_type type, int H, int D, const attend_keys *k, const float *p, int d,
                        int part, float *acc, int stride) {
    vf x[4 * WIDE];
    WEIR_UNROLL for (int i = 0; i < H * D; i++) x[i] = vf_zero();
    for (int piece = 0; piece < 2; piece++) {
        const int from = piece ? k->wrap : k->first, to = piece ? k->last : k->wrap;
        const char *row = k->v[piece];
        for (int c = from; c < to; c++, row += k->row_bytes) {
            vf vx[WIDE];
            WEIR_UNROLL for (int j = 0; j < D; j++) {
                look_ahead(type, row, d + j * VF_WIDTH);
                vx[j] = part ? load_part(type, row, d, part) : load(type, row, d + j * VF_WIDTH);
            }
            WEIR_UNROLL for (int h = 0; h < H; h++) {
                const vf px = vf_all(p[h * ATTEND_STRIDE + c]);
                WEIR_UNROLL for (int j = 0; j < D; j++) {
                    x[h * D + j] = vf_fma(px, vx[j], x[h * D + j]);
                }
            }
        }
    }
    WEIR_UNROLL for (int h = 0; h < H; h++) {
        WEIR_UNROLL for (int j = 0; j < D; j++) {
            vf_store(acc + h * stride + d + j * VF_WIDTH, x[h * D + j]);
        }
    }
}

/* Scores of H queries with all keys of the span. */
WEIR_INLINE void score_few(weir_type type, int H, const attend_queries *q, int i,
                           const attend_keys *k, float *s) {
    const float *qi = q->q + i * q->stride;
    float *si = s + i * ATTEND_STRIDE;
    dots(type, H, qi, q->stride, k->k[0], k->row_bytes, k->wrap - k->first, k->head_dim,
         si + k->first);
    dots(type, H, qi, q->stride, k->k[1], k->row_bytes, k->last - k->wrap, k->head_dim,
         si + k->wrap);
}

/* Weighted values of H queries, all features. */
WEIR_INLINE void gather_few(weir_type type, int H, const attend_queries *q, int i,
                            const attend_keys *k, const float *s) {
    const float *p = s + i * ATTEND_STRIDE;
    float *acc = q->acc + i * q->stride;
    int d = 0;
    for (; d + WIDE * VF_WIDTH <= k->head_dim; d += WIDE * VF_WIDTH) {
        gather(type, H, WIDE, k, p, d, 0, acc, q->stride);
    }
    for (; d + VF_WIDTH <= k->head_dim; d += VF_WIDTH) {
        gather(type, H, 1, k, p, d, 0, acc, q->stride);
    }
    if (d < k->head_dim) gather(type, H, 1, k, p, d, k->head_dim - d, acc, q->stride);
}

WEIR_INLINE void few_of(weir_type type, const attend_queries *q, const attend_keys *k, float *s) {
    int i = 0;
    for (; i + 4 <= q->n; i += 4) score_few(type, 4, q, i, k, s);
    for (; i + 2 <= q->n; i += 2) score_few(type, 2, q, i, k, s);
    for (; i < q->n; i++) score_few(type, 1, q, i, k, s);
    for (i = 0; i < q->n; i++) {
        if (k->k_scale[0]) scale_keys(k, k->k_scale, s + i * ATTEND_STRIDE);
        soften(q, i, k, s + i * ATTEND_STRIDE);
        if (k->v_scale[0]) scale_keys(k, k->v_scale, s + i * ATTEND_STRIDE);
    }
    for (i = 0; i + 4 <= q->n; i += 4) gather_few(type, 4, q, i, k, s);
    for (; i + 2 <= q->n; i += 2) gather_few(type, 2, q, i, k, s);
    for (; i < q->n; i++) gather_few(type, 1, q, i, k, s);
}

static void few(const attend_queries *q, const attend_keys *k, float *scratch) {
    assert(q->n <= ATTEND_QUERIES && k->first <= k->wrap && k->wrap <= k->last);
    switch ((int)k->type) {
    case WEIR_F32: few_of(WEIR_F32, q, k, scratch); break;
    case WEIR_BF16: few_of(WEIR_BF16, q, k, scratch); break;
    case WEIR_INT8: few_of(WEIR_INT8, q, k, scratch); break;
    case WEIR_FP8: few_of(WEIR_FP8, q, k, scratch); break;
    default: few_of(WEIR_F16, q, k, scratch); break;
    }
}

/* ---- many queries: tiles of keys as float matrices */

/* One tile of C [ROWS][WIDE vectors] (+)= A [r][k] B [k][w vectors]. */
WEIR_INLINE void gemm_tile(int r, int w, float *c, int ldc, const float *a, int lda, const float *b,
                           int ldb, int depth) {
    vf x[ROWS * WIDE], bx[WIDE];
    WEIR_UNROLL for (int i = 0; i < r; i++) {
        WEIR_UNROLL for (int j = 0; j < w; j++) x[i * w + j] = vf_load(c + i * ldc + j * VF_WIDTH);
    }
    for (int d = 0; d < depth; d++) {
        WEIR_UNROLL for (int j = 0; j < w; j++) bx[j] = vf_load(b + d * ldb + j * VF_WIDTH);
        WEIR_UNROLL for (int i = 0; i < r; i++) {
            const vf ax = vf_all(a[i * lda + d]);
            WEIR_UNROLL for (int j = 0; j < w; j++) x[i * w + j] = vf_fma(ax, bx[j], x[i * w + j]);
        }
    }
    WEIR_UNROLL for (int i = 0; i < r; i++) {
        WEIR_UNROLL for (int j = 0; j < w; j++) vf_store(c + i * ldc + j * VF_WIDTH, x[i * w + j]);
    }
}

/* All m rows of w vectors' columns. */
WEIR_INLINE void gemm_columns(int w, float *c, int ldc, const float *a, int lda, const float *b,
                              int ldb, int m, int depth) {
    for (; m >= ROWS; m -= ROWS, c += ROWS * ldc, a += ROWS * lda) {
        gemm_tile(ROWS, w, c, ldc, a, lda, b, ldb, depth);
    }
    switch (m) {
    case 5: gemm_tile(5, w, c, ldc, a, lda, b, ldb, depth); break;
    case 4: gemm_tile(4, w, c, ldc, a, lda, b, ldb, depth); break;
    case 3: gemm_tile(3, w, c, ldc, a, lda, b, ldb, depth); break;
    case 2: gemm_tile(2, w, c, ldc, a, lda, b, ldb, depth); break;
    case 1: gemm_tile(1, w, c, ldc, a, lda, b, ldb, depth); break;
    default: break;
    }
}

/* C [m][n] += A [m][depth] B [depth][n]; n is a multiple of VF_WIDTH. */
static void gemm(float *c, int ldc, const float *a, int lda, const float *b, int ldb, int m, int n,
                 int depth) {
    int j = 0;
    for (; j + WIDE * VF_WIDTH <= n; j += WIDE * VF_WIDTH) {
        gemm_columns(WIDE, c + j, ldc, a, lda, b + j, ldb, m, depth);
    }
    for (; j < n; j += VF_WIDTH) gemm_columns(1, c + j, ldc, a, lda, b + j, ldb, m, depth);
}

typedef struct tile { /* keys [from, to) of a span, and the queries [first, last) that see any */
    int from, to, first, last;
} tile;

/* The tile of keys [c, c + 64), cut to those any query sees; false: none sees any. */
static bool tile_at(tile *t, const attend_queries *q, const attend_keys *k, int c) {
    const int from = MAX_OF(c, k->first), to = MIN_OF(c + ATTEND_TILE, k->last);
    *t = (tile){.from = to, .to = from, .first = q->n, .last = 0};
    for (int i = 0; i < q->n; i++) {
        const int a = MAX_OF(from, q->from[i]), b = MIN_OF(to, q->to[i]);
        if (a >= b) continue;
        t->from = MIN_OF(t->from, a);
        t->to = MAX_OF(t->to, b);
        t->first = MIN_OF(t->first, i);
        t->last = i + 1;
    }
    return t->from < t->to;
}

/* out[d][key - base] = keys [from, to) of the tile that starts at base; zeros up to whole vectors
 * on both sides. */
WEIR_INLINE void transpose_keys(weir_type type, const attend_keys *k, const tile *t, int base,
                                float *out) {
    const int hd = k->head_dim;
    for (int c = t->from / VF_WIDTH * VF_WIDTH; c < t->to; c += VF_WIDTH) {
        for (int d = 0; d < hd; d += VF_WIDTH) {
            vf x[VF_WIDTH];
            for (int i = 0; i < VF_WIDTH; i++) {
                if (c + i < t->from || c + i >= t->to) {
                    x[i] = vf_zero();
                    continue;
                }
                const char *row = key_row(k, k->k, c + i);
                x[i] = d + VF_WIDTH <= hd ? load(type, row, d) : load_part(type, row, d, hd - d);
            }
            vf_transpose(x);
            float *at = out + (size_t)d * ATTEND_TILE + (c - base);
            for (int i = 0; i < VF_WIDTH; i++) vf_store(at + i * ATTEND_TILE, x[i]);
        }
    }
}

/* out[key - base][d] = values [from, to) of the tile. */
WEIR_INLINE void expand_values(weir_type type, const attend_keys *k, const tile *t, int base,
                               int stride, float *out) {
    const int hd = k->head_dim;
    for (int c = t->from; c < t->to; c++) {
        const char *row = key_row(k, k->v, c);
        float *at = out + (size_t)(c - base) * (size_t)stride;
        int d = 0;
        for (; d + VF_WIDTH <= hd; d += VF_WIDTH) vf_store(at + d, load(type, row, d));
        if (d < hd) vf_store(at + d, load_part(type, row, d, hd - d));
    }
}

WEIR_INLINE void many_of(weir_type type, const attend_queries *q, const attend_keys *k,
                         float *scratch) {
    const int stride = q->stride, width = (k->head_dim + VF_WIDTH - 1) / VF_WIDTH * VF_WIDTH;
    float *s = scratch;                                    /* [n][ATTEND_STRIDE] */
    float *m = s + (size_t)ATTEND_QUERIES * ATTEND_STRIDE; /* a tile, either way */
    tile t;
    for (int c = k->first / ATTEND_TILE * ATTEND_TILE; c < k->last; c += ATTEND_TILE) {
        if (!tile_at(&t, q, k, c)) continue;
        const int at = t.from / VF_WIDTH * VF_WIDTH;
        const int n = (t.to - at + VF_WIDTH - 1) / VF_WIDTH * VF_WIDTH;
        float *si = s + (size_t)t.first * ATTEND_STRIDE + at;
        transpose_keys(type, k, &t, c, m);
        for (int i = t.first; i < t.last; i++, si += ATTEND_STRIDE) {
            for (int j = 0; j < n; j += VF_WIDTH) vf_store(si + j, vf_zero());
        }
        gemm(s + (size_t)t.first * ATTEND_STRIDE + at, ATTEND_STRIDE, q->q + t.first * stride,
             stride, m + (at - c), ATTEND_TILE, t.last - t.first, n, k->head_dim);
    }
    for (int i = 0; i < q->n; i++) {
        if (k->k_scale[0]) scale_keys(k, k->k_scale, s + (size_t)i * ATTEND_STRIDE);
        soften(q, i, k, s + (size_t)i * ATTEND_STRIDE);
        if (k->v_scale[0]) scale_keys(k, k->v_scale, s + (size_t)i * ATTEND_STRIDE);
    }
    memset(q->acc, 0, (size_t)q->n * (size_t)stride * sizeof *q->acc);
    for (int c = k->first / ATTEND_TILE * ATTEND_TILE; c < k->last; c += ATTEND_TILE) {
        if (!tile_at(&t, q, k, c)) continue;
        expand_values(type, k, &t, c, stride, m);
        gemm(q->acc + t.first * stride, stride, s + (size_t)t.first * ATTEND_STRIDE + t.from,
             ATTEND_STRIDE, m + (size_t)(t.from - c) * (size_t)stride, stride, t.last - t.first,
             width, t.to - t.from);
    }
}

static void many(const attend_queries *q, const attend_keys *k, float *scratch) {
    assert(q->n <= ATTEND_QUERIES && k->first <= k->wrap && k->wrap <= k->last);
    switch ((int)k->type) {
    case WEIR_F32: many_of(WEIR_F32, q, k, scratch); break;
    case WEIR_BF16: many_of(WEIR_BF16, q, k, scratch); break;
    case WEIR_INT8: many_of(WEIR_INT8, q, k, scratch); break;
    case WEIR_FP8: many_of(WEIR_FP8, q, k, scratch); break;
    default: many_of(WEIR_F16, q, k, scratch); break;
    }
}

/* ---- rows in and out */

static void merge(const attend_queries *a, const attend_queries *b) {
    for (int i = 0; i < a->n; i++) {
        const float most = MAX_OF(a->most[i], b->most[i]);
        float by[VF_WIDTH] = {a->most[i] - most, b->most[i] - most};
        vf_store(by, vm_exp2(vf_load(by)));
        const vf fa = vf_all(by[0]), fb = vf_all(by[1]);
        float *x = a->acc + i * a->stride;
        const float *y = b->acc + i * b->stride;
        for (int d = 0; d < a->stride; d += VF_WIDTH) {
            vf_store(x + d, vf_fma(vf_load(x + d), fa, vf_mul(vf_load(y + d), fb)));
        }
        a->sum[i] = a->sum[i] * by[0] + b->sum[i] * by[1];
        a->most[i] = most;
    }
}

static void scale(float *y, const float *x, float factor, int n) {
    for (int i = 0; i < n; i++) y[i] = x[i] * factor;
}

static void rotate(const rope_table *rope, float *y, const float *x, const float *cosines,
                   const float *sines, float factor, int head_dim) {
    const int pairs = rope->pairs;
    if (rope->interleaved) {
        for (int i = 0; i < pairs; i++) {
            const float u = x[2 * i], v = x[2 * i + 1];
            y[2 * i] = (u * cosines[i] - v * sines[i]) * factor;
            y[2 * i + 1] = (v * cosines[i] + u * sines[i]) * factor;
        }
    } else {
        for (int i = 0; i < pairs; i++) {
            const float u = x[i], v = x[i + pairs];
            y[i] = (u * cosines[i] - v * sines[i]) * factor;
            y[i + pairs] = (v * cosines[i] + u * sines[i]) * factor;
        }
    }
    scale(y + 2 * pairs, x + 2 * pairs, factor, head_dim - 2 * pairs);
}

/* Four vectors' worth at a time would be no faster: a row is a few cache lines. */
static void store(weir_type type, void *row, const float *x, int n, float *scale_out) {
    uint16_t half[VF_WIDTH];
    int8_t byte[VF_WIDTH];
    float factor = 0;
    if (type == WEIR_F32) {
        memcpy(row, x, (size_t)n * sizeof *x);
        return;
    }
    if (kv_is_scaled(type)) factor = kv_row_scale(type, x, n, scale_out);
    if (type == WEIR_FP8) {
        for (int i = 0; i < n; i++) ((uint8_t *)row)[i] = float_to_e4m3(x[i] * factor);
        return;
    }
    for (int i = 0; i < n; i += VF_WIDTH) {
        const int count = MIN_OF(VF_WIDTH, n - i);
        const vf v = count < VF_WIDTH ? vf_load_part(x + i, count) : vf_load(x + i);
        if (type == WEIR_INT8) {
            vf_store_i8(byte, vf_mul(v, vf_all(factor)));
            memcpy((int8_t *)row + i, byte, (size_t)count);
        } else if (type == WEIR_BF16) {
            vf_store_bf16(half, v);
            memcpy((uint16_t *)row + i, half, (size_t)count * sizeof *half);
        } else {
            vf_store_f16(half, v);
            memcpy((uint16_t *)row + i, half, (size_t)count * sizeof *half);
        }
    }
}

const attend_kernels SIMD_NAME(cpu_attend) =
    {.few = few, .many = many, .merge = merge, .rotate = rotate, .store = store, .scale = scale};
