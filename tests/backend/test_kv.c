/* test_kv.c - where rows lie, what they keep of their numbers, how they move.
 *
 * SPDX-License-Identifier: MIT */
#include "backend/kv.h"

#include "base/arena.h"
#include "base/half.h"
#include "base/rng.h"
#include "support/check.h"

#include <math.h>

static const weir_type types[] = {WEIR_F32, WEIR_F16, WEIR_BF16, WEIR_INT8, WEIR_FP8};

static kv_shape shape_of(weir_type type) {
    return (kv_shape){.type = type,
                      .n_layers = 3,
                      .n_kv_heads = 2,
                      .head_dim = 12,
                      .slots = 2,
                      .pins = 5,
                      .ring = 7};
}

static void open_store(kv_store *kv, weir_type type) {
    const kv_shape s = shape_of(type);
    OK(kv_init(kv, &s, true, &err));
}

static void fill(float *x, int n, float scale, rng *r) {
    for (int i = 0; i < n; i++) x[i] = scale * (float)(2 * rng_uniform(r) - 1);
}

/* ---- layout */

typedef void visit_fn(const kv_store *kv, int slot, int layer, int is_v, int head, void *user);

static void for_each_head(const kv_store *kv, visit_fn *visit, void *user) {
    const kv_shape *s = &kv->shape;
    for (int slot = 0; slot < s->slots; slot++) {
        for (int layer = 0; layer < s->n_layers; layer++) {
            for (int i = 0; i < 2 * s->n_kv_heads; i++) {
                visit(kv, slot, layer, i / s->n_kv_heads, i % s->n_kv_heads, user);
            }
        }
    }
}

/* Marks bytes in a map as large as the store: no byte belongs to two rows, none lies outside. */
static void claim(const kv_store *kv, uint8_t *map, const void *from, size_t bytes) {
    const size_t at = (size_t)((const char *)from - kv->data);
    assert_true(at <= kv->bytes && bytes <= kv->bytes - at);
    for (size_t i = 0; i < bytes; i++) assert_int_equal(map[at + i]++, 0);
}

static void claim_head(const kv_store *kv, int slot, int layer, int is_v, int head, void *user) {
    const kv_shape *s = &kv->shape;
    const size_t hd = (size_t)s->head_dim, pins = (size_t)s->pins, ring = (size_t)s->ring;
    const void *pinned = kv_pins(kv, slot, layer, is_v, head);
    const void *recent = kv_ring(kv, slot, layer, is_v, head);
    assert_int_equal((uintptr_t)pinned % 64, 0);
    assert_int_equal((uintptr_t)recent % 64, 0);
    claim(kv, user, pinned, pins * hd * kv_type_bytes(kv->pin_type));
    claim(kv, user, recent, ring * hd * kv_type_bytes(s->type));
    if (!kv_is_scaled(s->type)) return;
    claim(kv, user, kv_scales(kv, slot, layer, is_v, head), ring * sizeof(float));
}

static void rows_lie_apart_and_inside(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        kv_store kv;
        open_store(&kv, types[i]);
        uint8_t *map = mem_alloc(kv.bytes);
        for_each_head(&kv, claim_head, map);
        assert_int_equal(kv.bytes, kv.slot_bytes * 2);
        mem_free(map);
        kv_clear(&kv);
    }
}

static void pinned_rows_keep_16_bits_at_least(void **state) {
    (void)state;
    static const weir_type wanted[] = {WEIR_F32, WEIR_F16, WEIR_BF16, WEIR_F16, WEIR_F16};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        kv_store kv;
        const kv_shape s = shape_of(types[i]);
        OK(kv_init(&kv, &s, false, &err)); /* measured, not allocated */
        assert_null(kv.data);
        assert_int_equal(kv.pin_type, wanted[i]);
        kv_clear(&kv);
    }
}

static void stores_that_cannot_be_are_refused(void **state) {
    (void)state;
    kv_store kv;
    kv_shape s = shape_of(WEIR_F32);
    s.head_dim = 1025;
    REFUSED(kv_init(&kv, &s, true, &err), WEIR_ERR_MODEL, "heads of 1025 features, at most 1024");
    s = shape_of(WEIR_F32);
    s.n_layers = s.n_kv_heads = s.slots = s.ring = INT32_MAX;
    REFUSED(kv_init(&kv, &s, true, &err), WEIR_ERR_MEMORY, "overflows");
    s = shape_of(WEIR_F32);
    s.ring = 1 << 30;
    s.slots = 1 << 20;
    REFUSED(kv_init(&kv, &s, true, &err), WEIR_ERR_MEMORY, "no memory for a KV cache of ");
}

/* ---- numbers */

static void check_row(const float *got, const float *wanted, int n, weir_type type) {
    float most = 0;
    for (int i = 0; i < n; i++) most = fmaxf(most, fabsf(wanted[i]));
    for (int i = 0; i < n; i++) {
        const float error = fabsf(got[i] - wanted[i]);
        if (type == WEIR_F32) assert_true(got[i] == wanted[i]);
        if (type == WEIR_F16) assert_true(got[i] == f16_to_float(float_to_f16(wanted[i])));
        if (type == WEIR_BF16) assert_true(got[i] == bf16_to_float(float_to_bf16(wanted[i])));
        /* Half a step of max / 127, and the rounding of its arithmetic. */
        if (type == WEIR_INT8) assert_true(error <= most * (0.5f / 127) * 1.0001f);
        /* Three bits behind the first one, or half of the smallest step, 2^-9 of max / 448. */
        if (type == WEIR_FP8) {
            assert_true(error <= fmaxf(fabsf(wanted[i]) / 16, most / 448 / 1024) * 1.0001f);
        }
    }
}

static void rows_come_back_as_their_type_keeps_them(void **state) {
    (void)state;
    static const float scales[] = {1, 1e-3f, 100, 1e-20f, 0};
    rng r = {1};
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        kv_store kv;
        open_store(&kv, types[i]);
        for (size_t k = 0; k < COUNT_OF(scales); k++) {
            float x[12], y[12], z[12], got[12];
            fill(x, 12, scales[k], &r);
            fill(y, 12, 1, &r);
            fill(z, 12, 1, &r);
            kv_put_ring(&kv, 1, 2, 1, 1, 6, x);
            kv_put_ring(&kv, 1, 2, 1, 1, 5, y); /* neighbours stay as they are */
            kv_put_ring(&kv, 1, 2, 1, 0, 6, y);
            kv_put_pin(&kv, 0, 1, 0, 1, 4, z);
            kv_get_ring(&kv, 1, 2, 1, 1, 6, got);
            check_row(got, x, 12, types[i]);
            kv_get_ring(&kv, 1, 2, 1, 1, 5, got);
            check_row(got, y, 12, types[i]);
            kv_get_pin(&kv, 0, 1, 0, 1, 4, got);
            check_row(got, z, 12, kv.pin_type);
        }
        kv_clear(&kv);
    }
}

/* ---- pinning */

static const nn_rope ropes[] = {
    {.dims = 12, .theta = 10000},
    {.dims = 8, .theta = 500000, .interleaved = true},
    {.dims = 12,
     .theta = 1000,
     .scaling = NN_ROPE_YARN,
     .factor = 4,
     .beta_fast = 32,
     .beta_slow = 1,
     .attention_factor = 1.14,
     .original_context = 128},
    {.dims = 0},
};

/* The key as it is stored at a position: rotated there. */
static void rotated(const rope_table *rope, const float *x, uint64_t pos, float *out) {
    float c[ROPE_MAX_PAIRS], s[ROPE_MAX_PAIRS];
    memcpy(out, x, 12 * sizeof *x);
    rope_phases(rope, pos, c, s);
    rope_rotate(rope, out, c, s);
}

typedef struct pinning { /* keys and values of all heads, before rotation */
    const rope_table *rope;
    rng rng;
    uint64_t pos;
    int pin;
    float x[2][3][2][2][12]; /* [slot][layer][is_v][head] */
} pinning;

static void put_head(const kv_store *kv, int slot, int layer, int is_v, int head, void *user) {
    pinning *p = user;
    float *x = p->x[slot][layer][is_v][head], stored[12];
    fill(x, 12, 1, &p->rng);
    rotated(p->rope, x, p->pos, stored);
    kv_put_ring(kv, slot, layer, is_v, head, (int)(p->pos % 7), is_v ? x : stored);
}

static void check_head(const kv_store *kv, int slot, int layer, int is_v, int head, void *user) {
    static const float tolerance[] = {[WEIR_F32] = 1e-6f,
                                      [WEIR_F16] = 2e-3f,
                                      [WEIR_BF16] = 2e-2f,
                                      [WEIR_INT8] = 2e-2f,
                                      [WEIR_FP8] = 1.3e-1f};
    const pinning *p = user;
    float got[12], wanted[12];
    kv_get_pin(kv, slot, layer, is_v, head, p->pin, got);
    memset(wanted, 0, sizeof wanted); /* the other slot's pins stay empty */
    if (slot == 1)
        rotated(p->rope, p->x[slot][layer][is_v][head], is_v ? 0 : (uint64_t)p->pin, wanted);
    if (slot == 1 && is_v) memcpy(wanted, p->x[slot][layer][is_v][head], sizeof wanted);
    for (int i = 0; i < 12; i++) {
        assert_true(fabsf(got[i] - wanted[i]) <= 2 * tolerance[kv->shape.type]);
    }
}

static void a_pinned_key_is_what_it_would_be_at_its_index(void **state) {
    (void)state;
    static const uint64_t positions[] = {3, 12345, ((uint64_t)1 << 40) + 5,
                                         ((uint64_t)1 << 62) + 1};
    for (size_t i = 0; i < COUNT_OF(types) * COUNT_OF(ropes) * COUNT_OF(positions); i++) {
        rope_table rope;
        assert_true(rope_make(&rope, &ropes[i / COUNT_OF(types) % COUNT_OF(ropes)]));
        static pinning p;
        p = (pinning){.rope = &rope,
                      .rng = {i},
                      .pos = positions[i / COUNT_OF(types) / COUNT_OF(ropes)],
                      .pin = (int)(i % 5)};
        kv_store kv;
        open_store(&kv, types[i % COUNT_OF(types)]);
        for_each_head(&kv, put_head, &p);
        kv_pin_row(&kv, &rope, 1, p.pos, p.pin);
        for_each_head(&kv, check_head, &p);
        kv_clear(&kv);
    }
}

/* ---- moving */

static void fill_all(kv_store *kv, uint64_t seed) {
    rng r = {seed};
    for (size_t i = 0; i < kv->bytes; i++) kv->data[i] = (char)rng_next(&r);
}

static void rows_move_bit_for_bit_and_alone(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        for (int is_pin = 0; is_pin < 2; is_pin++) {
            kv_store from, to, before;
            open_store(&from, types[i]);
            open_store(&to, types[i]);
            open_store(&before, types[i]);
            fill_all(&from, 1);
            fill_all(&to, 2);
            memcpy(before.data, to.data, to.bytes);
            const size_t bytes = kv_row_bytes(&from, is_pin);
            uint8_t *row = mem_alloc(bytes + 1), *again = mem_alloc(bytes + 1);
            row[bytes] = again[bytes] = 0x5a;
            kv_export_row(&from, 0, is_pin, 3, row);
            assert_int_equal(row[bytes], 0x5a); /* exactly as long as it says */
            kv_import_row(&to, 1, is_pin, 2, row);
            kv_export_row(&to, 1, is_pin, 2, again);
            assert_memory_equal(row, again, bytes + 1);
            size_t changed = 0;
            for (size_t k = 0; k < to.bytes; k++) changed += to.data[k] != before.data[k];
            assert_true(changed > bytes / 2 && changed <= bytes);
            kv_export_row(&before, 1, is_pin, 2, again);
            kv_import_row(&to, 1, is_pin, 2, again); /* and back */
            assert_memory_equal(to.data, before.data, to.bytes);
            mem_free(row);
            mem_free(again);
            kv_clear(&from);
            kv_clear(&to);
            kv_clear(&before);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_lie_apart_and_inside),
        cmocka_unit_test(pinned_rows_keep_16_bits_at_least),
        cmocka_unit_test(stores_that_cannot_be_are_refused),
        cmocka_unit_test(rows_come_back_as_their_type_keeps_them),
        cmocka_unit_test(a_pinned_key_is_what_it_would_be_at_its_index),
        cmocka_unit_test(rows_move_bit_for_bit_and_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
