/* kv.c - the layout of kv.h and its scalar accessors.
 *
 * Test: tests/backend/test_kv.c.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/kv.h"

#include "base/arena.h"
#include "base/half.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { ALIGN = 64, MAX_HEAD_DIM = 1024 };

const char *kv_type_name(weir_type type) {
    static const char *const names[] = {"default", "f32", "f16", "bf16", "int8", "q8", "q4", "fp8"};
    return (size_t)type < COUNT_OF(names) ? names[type] : "unknown";
}

size_t kv_type_bytes(weir_type type) {
    switch (type) {
    case WEIR_F32: return 4;
    case WEIR_INT8:
    case WEIR_FP8: return 1;
    case WEIR_TYPE_DEFAULT:
    case WEIR_F16:
    case WEIR_BF16:
    case WEIR_Q8:
    case WEIR_Q4: break;
    }
    return 2;
}

static size_t aligned(size_t bytes) {
    const size_t up = size_add(bytes, ALIGN - 1);
    return up == SIZE_MAX ? SIZE_MAX : up / ALIGN * ALIGN;
}

weir_status kv_init(kv_store *kv, const kv_shape *s, bool allocate, weir_error *err) {
    *kv = (kv_store){.shape = *s, .pin_type = kv_is_scaled(s->type) ? WEIR_F16 : s->type};
    if (s->head_dim > MAX_HEAD_DIM) {
        return weir_fail(err, WEIR_ERR_MODEL, "heads of %d features, at most %d", s->head_dim,
                         MAX_HEAD_DIM);
    }
    const size_t hd = (size_t)s->head_dim, heads = size_mul(2, (size_t)s->n_kv_heads);
    kv->pin_head_bytes =
        aligned(size_mul(size_mul((size_t)s->pins, hd), kv_type_bytes(kv->pin_type)));
    kv->ring_head_bytes = aligned(size_mul(size_mul((size_t)s->ring, hd), kv_type_bytes(s->type)));
    kv->ring_at = size_mul(kv->pin_head_bytes, heads);
    kv->scale_at = size_add(kv->ring_at, size_mul(kv->ring_head_bytes, heads));
    const size_t scales =
        kv_is_scaled(s->type) ? size_mul(size_mul((size_t)s->ring, sizeof(float)), heads) : 0;
    kv->layer_bytes = aligned(size_add(kv->scale_at, scales));
    kv->slot_bytes = size_mul(kv->layer_bytes, (size_t)s->n_layers);
    kv->bytes = size_mul(kv->slot_bytes, (size_t)s->slots);
    if (kv->bytes == SIZE_MAX) {
        return weir_fail(err, WEIR_ERR_MEMORY, "a KV cache of %d sessions, %d + %d rows overflows",
                         s->slots, s->pins, s->ring);
    }
    if (allocate && !(kv->data = mem_map(kv->bytes))) {
        return weir_fail(err, WEIR_ERR_MEMORY, "no memory for a KV cache of %zu bytes", kv->bytes);
    }
    return WEIR_OK;
}

void kv_clear(kv_store *kv) {
    mem_unmap(kv->data, kv->bytes);
    *kv = (kv_store){0};
}

/* ---- rows */

float kv_row_scale(weir_type type, const float *x, int n, float *scale) {
    const float top = type == WEIR_INT8 ? 127 : 448;
    float most = 0;
    for (int i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    *scale = most / top;
    return most > 0x1p-100f ? top / most : 0; /* of less than that the inverse could overflow */
}

/* Row `row` of rows of n elements; scale is INT8's and FP8's. */
static void put(weir_type type, void *rows, int row, int n, const float *x, float *scale) {
    const size_t at = (size_t)row * (size_t)n;
    if (type == WEIR_F32) {
        memcpy((float *)rows + at, x, (size_t)n * sizeof *x);
    } else if (type == WEIR_BF16) {
        uint16_t *y = (uint16_t *)rows + at;
        for (int i = 0; i < n; i++) y[i] = float_to_bf16(x[i]);
    } else if (type == WEIR_INT8) {
        int8_t *y = (int8_t *)rows + at;
        const float inverse = kv_row_scale(type, x, n, scale);
        for (int i = 0; i < n; i++) y[i] = (int8_t)lrintf(x[i] * inverse);
    } else if (type == WEIR_FP8) {
        uint8_t *y = (uint8_t *)rows + at;
        const float inverse = kv_row_scale(type, x, n, scale);
        for (int i = 0; i < n; i++) y[i] = float_to_e4m3(x[i] * inverse);
    } else {
        uint16_t *y = (uint16_t *)rows + at;
        for (int i = 0; i < n; i++) y[i] = float_to_f16(x[i]);
    }
}

static void get(weir_type type, const void *rows, int row, int n, float *x, float scale) {
    const size_t at = (size_t)row * (size_t)n;
    if (type == WEIR_F32) {
        memcpy(x, (const float *)rows + at, (size_t)n * sizeof *x);
    } else if (type == WEIR_BF16) {
        const uint16_t *y = (const uint16_t *)rows + at;
        for (int i = 0; i < n; i++) x[i] = bf16_to_float(y[i]);
    } else if (type == WEIR_INT8) {
        const int8_t *y = (const int8_t *)rows + at;
        for (int i = 0; i < n; i++) x[i] = scale * (float)y[i];
    } else if (type == WEIR_FP8) {
        const uint8_t *y = (const uint8_t *)rows + at;
        for (int i = 0; i < n; i++) x[i] = scale * e4m3_to_float(y[i]);
    } else {
        const uint16_t *y = (const uint16_t *)rows + at;
        for (int i = 0; i < n; i++) x[i] = f16_to_float(y[i]);
    }
}

void kv_put_pin(const kv_store *kv, int slot, int layer, int is_v, int head, int row,
                const float *x) {
    assert(row >= 0 && row < kv->shape.pins);
    put(kv->pin_type, kv_pins(kv, slot, layer, is_v, head), row, kv->shape.head_dim, x, NULL);
}

void kv_put_ring(const kv_store *kv, int slot, int layer, int is_v, int head, int row,
                 const float *x) {
    assert(row >= 0 && row < kv->shape.ring);
    float *scale =
        kv_is_scaled(kv->shape.type) ? kv_scales(kv, slot, layer, is_v, head) + row : NULL;
    put(kv->shape.type, kv_ring(kv, slot, layer, is_v, head), row, kv->shape.head_dim, x, scale);
}

void kv_get_pin(const kv_store *kv, int slot, int layer, int is_v, int head, int row, float *x) {
    assert(row >= 0 && row < kv->shape.pins);
    get(kv->pin_type, kv_pins(kv, slot, layer, is_v, head), row, kv->shape.head_dim, x, 1);
}

void kv_get_ring(const kv_store *kv, int slot, int layer, int is_v, int head, int row, float *x) {
    assert(row >= 0 && row < kv->shape.ring);
    const float scale =
        kv_is_scaled(kv->shape.type) ? kv_scales(kv, slot, layer, is_v, head)[row] : 1;
    get(kv->shape.type, kv_ring(kv, slot, layer, is_v, head), row, kv->shape.head_dim, x, scale);
}

/* From phase pos to phase pin is a rotation by pin - pos, exact modulo 2^64 turns; the magnitude
 * is in the key already and must not come in twice. */
void kv_pin_row(const kv_store *kv, const rope_table *rope, int slot, uint64_t pos, int pin) {
    float x[MAX_HEAD_DIM], cosines[ROPE_MAX_PAIRS], sines[ROPE_MAX_PAIRS];
    assert(slot >= 0 && slot < kv->shape.slots && pin < kv->shape.pins);
    assert(kv->shape.head_dim <= MAX_HEAD_DIM && 2 * rope->pairs <= kv->shape.head_dim);
    const int row = (int)(pos % (uint64_t)kv->shape.ring);
    rope_phases(rope, (uint64_t)pin - pos, cosines, sines);
    for (int i = 0; i < rope->pairs; i++) {
        cosines[i] /= rope->magnitude;
        sines[i] /= rope->magnitude;
    }
    for (int layer = 0; layer < kv->shape.n_layers; layer++) {
        for (int head = 0; head < kv->shape.n_kv_heads; head++) {
            kv_get_ring(kv, slot, layer, 0, head, row, x);
            rope_rotate(rope, x, cosines, sines);
            kv_put_pin(kv, slot, layer, 0, head, pin, x);
            kv_get_ring(kv, slot, layer, 1, head, row, x);
            kv_put_pin(kv, slot, layer, 1, head, pin, x);
        }
    }
}

/* ---- snapshots: the bytes as they are */

static size_t head_row_bytes(const kv_store *kv, bool is_pin) {
    const weir_type type = is_pin ? kv->pin_type : kv->shape.type;
    return (size_t)kv->shape.head_dim * kv_type_bytes(type) +
           (kv_is_scaled(type) ? sizeof(float) : 0);
}

size_t kv_row_bytes(const kv_store *kv, bool is_pin) {
    return head_row_bytes(kv, is_pin) * 2 * (size_t)kv->shape.n_kv_heads *
           (size_t)kv->shape.n_layers;
}

/* Copies one row between the store and a flat record, in one direction or the other. */
static void copy_row(const kv_store *kv, int slot, bool is_pin, int row, char *record,
                     bool exporting) {
    const weir_type type = is_pin ? kv->pin_type : kv->shape.type;
    const size_t bytes = (size_t)kv->shape.head_dim * kv_type_bytes(type);
    assert(slot >= 0 && slot < kv->shape.slots);
    assert(row >= 0 && row < (is_pin ? kv->shape.pins : kv->shape.ring));
    for (int layer = 0; layer < kv->shape.n_layers; layer++) {
        for (int i = 0; i < 2 * kv->shape.n_kv_heads; i++) {
            const int is_v = i / kv->shape.n_kv_heads, head = i % kv->shape.n_kv_heads;
            char *at = (char *)(is_pin ? kv_pins(kv, slot, layer, is_v, head)
                                       : kv_ring(kv, slot, layer, is_v, head)) +
                       (size_t)row * bytes;
            memcpy(exporting ? record : at, exporting ? at : record, bytes);
            record += bytes;
            if (!kv_is_scaled(type)) continue;
            float *scale = kv_scales(kv, slot, layer, is_v, head) + row;
            memcpy(exporting ? (void *)record : (void *)scale,
                   exporting ? (const void *)scale : (const void *)record, sizeof *scale);
            record += sizeof *scale;
        }
    }
}

void kv_export_row(const kv_store *kv, int slot, bool is_pin, int row, void *out) {
    copy_row(kv, slot, is_pin, row, out, true);
}

void kv_import_row(const kv_store *kv, int slot, bool is_pin, int row, const void *in) {
    copy_row(kv, slot, is_pin, row, (char *)(uintptr_t)in, false);
}
