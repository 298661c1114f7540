/* keep.cuh - keys, turned, and values of a product of many tokens, from its sums to the store.
 *
 *     a tile of k, of 16 rows      row r and row r + 8 are turned together (cuda_order of stage.h)
 *     a tile of v, of k not turned rows as they are
 *
 *     before   a lane has of 16 tokens 2 groups of 2, and 2 features, LANE / 4 and its other
 *     then     one token, and 4 features and their others: neighbours swap values twice
 *
 * Stores of 16 bits; the same rounding as spread.cu and store.cuh.  Bytes moved: half of what the
 * product would leave, where the store would read it and write as much again.
 * Test: tests/backend/test_cuda.c.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

/* What a warp's tile is of: features [d, d + 16) of one head, as they are packed. */
typedef struct keep_place {
    char *rows[2];  /* of the head in slot 0: ring, pins */
    bool is_turned; /* its rows are pairs ... */
    bool is_mixed;  /* ... that are neighbours */
    int feature[2]; /* of this lane's four and of their others, in the head */
    int pair;       /* the first of this lane's four */
    float bias[2][4];
} keep_place;

DEVICE keep_place keep_place_of(const cuda_world *w, const cuda_stage *s, int tile) {
    const cuda_order o = s->matrix.order;
    const float *bias = (const float *)s->matrix.bias;
    const int quad = LANE / 16 * 4, hd = WEIR_HEAD_DIM(w);
    keep_place p;
    const bool is_v = tile * CUDA_TILE >= o.end;
    const int first = is_v ? o.end : o.first, at = tile * CUDA_TILE - first, d = at % hd;
    UNROLL for (int i = 0; i < 2; i++) p.rows[i] = store_of(w, 0, s[1].layer, i, is_v, at / hd).at;
    p.is_turned = !is_v && d < o.paired;
    p.is_mixed = p.is_turned && o.apart == 1;
    p.pair = d / 2 + quad;
    p.feature[0] = !p.is_turned ? d + quad : p.is_mixed ? 2 * p.pair : p.pair;
    p.feature[1] = p.feature[0] + (p.is_turned ? o.apart : 8);
    UNROLL for (int i = 0; i < 8; i++) {
        const int k = p.feature[i / 4] + (p.is_mixed ? 2 : 1) * (i % 4);
        p.bias[i / 4][i % 4] = bias ? bias[first + at / hd * hd + k] : 0;
    }
    return p;
}

/* Sums of 16 tokens [4 group + 2 half + token] to the values of one of them; a warp. */
DEVICE void swap_to_token(const float *all, float v[2][4]) {
    const bool is_odd = LANE / 4 % 2, is_high = LANE / 8 % 2;
    UNROLL for (int half = 0; half < 2; half++) {
        float two[2][2];
        UNROLL for (int i = 0; i < 2; i++) { /* groups of tokens */
            const float a = all[4 * i + 2 * half], b = all[4 * i + 2 * half + 1];
            const float other = shuffle_xor(is_odd ? a : b, 4);
            two[i][0] = is_odd ? other : a;
            two[i][1] = is_odd ? b : other;
        }
        UNROLL for (int k = 0; k < 2; k++) {
            const float other = shuffle_xor(is_high ? two[0][k] : two[1][k], 8);
            v[half][k] = is_high ? other : two[0][k];
            v[half][2 + k] = is_high ? two[1][k] : other;
        }
    }
}

/* What a token's features want. */
typedef struct keep_token {
    char *to; /* the row of the head */
    bool is_bf16;
    float scale, c[4], s[4];
} keep_token;

DEVICE keep_token keep_token_of(const cuda_world *w, const keep_place *p, int r, bool is_scaled,
                                bool is_turned) {
    const cuda_row *row = (const cuda_row *)w->rows + r;
    const bool is_pin = row->is_pin;
    const u64 phase = (u64)r * (u64)w->pairs + (u64)p->pair;
    const u64 in_head = (u64)row->at * (u64)(2 * WEIR_HEAD_DIM(w));
    keep_token t;
    t.to = (is_pin ? p->rows[1] : p->rows[0]) + (u64)row->slot * w->slot_bytes + in_head;
    t.is_bf16 = type_of_pin(w, is_pin) == CUDA_KV_BF16;
    t.scale = is_scaled ? load_float((const float *)w->scales + r) : 1;
    if (!is_turned) return t;
    load_floats_4(t.c, (const float *)(is_pin ? w->cos_pin : w->cos_pos) + phase);
    load_floats_4(t.s, (const float *)(is_pin ? w->sin_pin : w->sin_pos) + phase);
    return t;
}

/* Sums of 16 tokens; those of this lane's, which is to be kept, into its row. */
DEVICE void keep_values(const keep_place *p, const keep_token *t, const float *all, bool is_in,
                        bool is_turned) {
    float v[2][4];
    u32 words[4];
    swap_to_token(all, v);
    UNROLL for (int i = 0; i < 8; i++) {
        v[i / 4][i % 4] = v[i / 4][i % 4] * t->scale + p->bias[i / 4][i % 4];
    }
    UNROLL for (int i = 0; i < 4 && is_turned; i++) {
        const float x = v[0][i], y = v[1][i];
        v[0][i] = turned_by(x, y, t->c[i], -t->s[i]);
        v[1][i] = turned_by(y, x, t->c[i], t->s[i]);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        const float a = p->is_mixed ? v[0][i] : v[i / 2][i % 2 * 2];
        const float b = p->is_mixed ? v[1][i] : v[i / 2][i % 2 * 2 + 1];
        words[i] = t->is_bf16 ? bf16_of_floats(a, b) : f16_of_floats(a, b);
    }
    UNROLL for (int i = 0; i < 2 && is_in; i++) {
        const int feature = i && p->is_mixed ? p->feature[0] + 4 : p->feature[i];
        store_8(t->to + 2 * feature, words + 2 * i);
    }
}

/* Tokens [first, first + tokens) of those that are there.  What is
 * loaded for the next ones is under way while these are kept. */
DEVICE void keep_tokens(const cuda_world *w, const cuda_stage *s, const keep_place *p,
                        const float *all, int first, int tokens, bool is_turned) {
    const int left = rows_of(w, &s->out) - first;
    const int mine = LANE / 8 % 2 * 8 + LANE % 4 * 2 + LANE / 4 % 2; /* token of 16 */
    const bool is_scaled = FORMAT_OF(&s->matrix) != CUDA_BF16;
    keep_token next = keep_token_of(w, p, first + (mine < left ? mine : 0), is_scaled, is_turned);
    keep_token last = next;
    if (tokens > 16) {
        const int t = mine + 16;
        last = keep_token_of(w, p, first + (t < left ? t : 0), is_scaled, is_turned);
    }
    UNROLL for (int i = 0; i < tokens / 16; i++) {
        const keep_token now = next;
        const int t = (i + 2) * 16 + mine;
        next = last;
        if (i + 2 < tokens / 16) {
            last = keep_token_of(w, p, first + (t < left ? t : 0), is_scaled, is_turned);
        }
        keep_values(p, &now, all + 8 * i, i * 16 + mine < left, is_turned);
    }
}

/* A warp's tile of keys or values. */
DEVICE void keep_tile(const cuda_world *w, const cuda_stage *s, const float *all, int tile,
                      int first, int tokens) {
    const keep_place p = keep_place_of(w, s, tile);
    if (p.is_turned) {
        keep_tokens(w, s, &p, all, first, tokens, true);
    } else {
        keep_tokens(w, s, &p, all, first, tokens, false);
    }
}
