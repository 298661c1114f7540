/* kv.h - keys and values of all sessions: pinned rows and a ring, fixed at start.
 *
 *   slot 0                                    slot 1 ...
 *   | layer 0                  | layer 1 ...
 *   | pins: K head 0 [pins][hd], head 1 ..., V head 0 ...   16 bit (f32 when the ring is f32)
 *   | ring: K head 0 [ring][hd], head 1 ..., V head 0 ...   of `type`
 *   | scales (8 bit only): K head 0 [ring], ..., V head 0 [ring] ...   f32
 *
 * A key is stored rotated at its stream position, once; pinned keys are stored rotated at their
 * index.  The row of stream position j in the ring is j mod ring; the ring has W - S + chunk - 1
 * rows at least, so that a chunk can be appended before its first query has looked back W - S.
 * kv.c knows no policy: which rows a query sees is said by the batch.
 *
 * Back ends in host memory use the accessors; others copy whole slots in this layout, so that a
 * snapshot made by one back end is read by any other.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#include "base/status.h"
#include "nn/rope.h"

typedef struct kv_shape {
    weir_type type; /* WEIR_F32, F16, BF16, INT8, FP8 */
    int n_layers, n_kv_heads, head_dim;
    int slots, pins, ring; /* pins, ring: rows per slot and layer */
} kv_shape;

typedef struct kv_store {
    kv_shape shape;
    weir_type pin_type; /* WEIR_F32, F16 or BF16 */
    char *data;         /* [slots * slot_bytes], mem_map; NULL in a measured layout */
    size_t pin_head_bytes, ring_head_bytes; /* one head's rows */
    size_t ring_at, scale_at;               /* offsets in a layer */
    size_t layer_bytes, slot_bytes, bytes;
} kv_store;

/* Computes the layout; allocates when `allocate`.  Overflow is WEIR_ERR_MEMORY. */
weir_status kv_init(kv_store *kv, const kv_shape *shape, bool allocate, weir_error *err);
void kv_clear(kv_store *kv);

size_t kv_type_bytes(weir_type type); /* of one element */
const char *kv_type_name(weir_type type);

/* INT8 and FP8: one scale per head and row; pinned rows have 16 bits. */
static inline bool kv_is_scaled(weir_type type) {
    return type == WEIR_INT8 || type == WEIR_FP8;
}

/* The scale of a row of such a type, max|x| / 127 or / 448; returns its inverse. */
float kv_row_scale(weir_type type, const float *x, int n, float *scale);

static inline char *kv_layer(const kv_store *kv, int slot, int layer) {
    return kv->data + (size_t)slot * kv->slot_bytes + (size_t)layer * kv->layer_bytes;
}
/* is_v 0: keys, 1: values.  -> [pins][head_dim] of pin_type */
static inline void *kv_pins(const kv_store *kv, int slot, int layer, int is_v, int head) {
    return kv_layer(kv, slot, layer) +
           (size_t)(is_v * kv->shape.n_kv_heads + head) * kv->pin_head_bytes;
}
/* -> [ring][head_dim] of shape.type */
static inline void *kv_ring(const kv_store *kv, int slot, int layer, int is_v, int head) {
    return kv_layer(kv, slot, layer) + kv->ring_at +
           (size_t)(is_v * kv->shape.n_kv_heads + head) * kv->ring_head_bytes;
}
/* -> [ring] float, INT8 and FP8 only */
static inline float *kv_scales(const kv_store *kv, int slot, int layer, int is_v, int head) {
    return (float *)(void *)(kv_layer(kv, slot, layer) + kv->scale_at) +
           (size_t)(is_v * kv->shape.n_kv_heads + head) * (size_t)kv->shape.ring;
}

/* Stores / loads one row of head_dim floats; INT8, FP8: x = scale * q (e4m3 for FP8). */
void kv_put_pin(const kv_store *kv, int slot, int layer, int is_v, int head, int row,
                const float *x);
void kv_put_ring(const kv_store *kv, int slot, int layer, int is_v, int head, int row,
                 const float *x);
void kv_get_pin(const kv_store *kv, int slot, int layer, int is_v, int head, int row, float *x);
void kv_get_ring(const kv_store *kv, int slot, int layer, int is_v, int head, int row, float *x);

/* Copies ring row (stream position pos) of every layer and head behind the pinned rows, at index
 * pin, re-rotating the key from pos to pin once. */
void kv_pin_row(const kv_store *kv, const rope_table *rope, int slot, uint64_t pos, int pin);

/* All layers of one row, for snapshots: fixed size kv_row_bytes(kv, is_pin), heads then layers. */
size_t kv_row_bytes(const kv_store *kv, bool is_pin);
void kv_export_row(const kv_store *kv, int slot, bool is_pin, int row, void *out);
void kv_import_row(const kv_store *kv, int slot, bool is_pin, int row, const void *in);
