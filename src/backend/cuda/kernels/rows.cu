/* rows.cu - rows of the device's store: out to a snapshot, in from one, and into the pins.
 *
 * A record holds one row of all layers as kv_export_row writes it: for each layer, for each part
 * (K heads, then V heads), head_dim elements, then INT8's or FP8's scale.  Blocks take (row, layer,
 * part) in turn.  As fast as the copy of the bytes; not part of a step.
 * CPU twin: kv.c.  Test: tests/backend/test_cuda_host.c.
 *
 * SPDX-License-Identifier: MIT */
#ifndef WEIR_EMULATED
    #include "machine.cuh"
#endif
#include "stage.h"

#include "weights.cuh"

#include "input.cuh"

#include "store.cuh"

KERNEL copy_rows(PARAM cuda_world world, PARAM cuda_copy copy) {
    const cuda_world *w = &world;
    launch_wait();
    const int parts = 2 * w->n_kv_heads, units = copy.n * w->n_layers * parts;
    const int type = copy.is_pin ? w->pin_type : w->kv_type;
    const int bytes = w->head_dim * store_type_bytes(type);
    const int record = bytes + (store_is_scaled(type) ? 4 : 0);
    for (int i = BLOCK * N_WARPS + WARP; i < units; i += N_BLOCKS * N_WARPS) {
        const int part = i % parts, layer = i / parts % w->n_layers, n = i / parts / w->n_layers;
        const store_rows rows =
            store_of(w, copy.slot, layer, copy.is_pin, part / w->n_kv_heads, part % w->n_kv_heads);
        int row = copy.row + n;
        if (!copy.is_pin && row >= w->ring) row -= w->ring;
        char *stored = rows.at + (u64)row * (u64)bytes;
        char *flat = (char *)copy.record + (u64)i * (u64)record;
        copy_row(copy.exporting ? flat : stored, copy.exporting ? stored : flat, bytes);
        if (!store_is_scaled(type)) continue;
        char *scale = (char *)(rows.scales + row);
        copy_row(copy.exporting ? flat + bytes : scale, copy.exporting ? scale : flat + bytes, 4);
    }
}

/* Feature d of a stored row, its scale in. */
DEVICE float stored_at(const store_rows *s, u64 row, int hd, int d) {
    float pair[2];
    u32 raw[2];
    load_pair(s, row * (u64)hd, d / 2, raw);
    read_pair(s->type, raw, pair);
    return pair[d % 2] * (store_is_scaled(s->type) ? s->scales[row] : 1.0f);
}

/* From phase pos to phase pin is a turn by pin - pos; the magnitude is in the key already. */
DEVICE float turned(const cuda_world *w, const store_rows *s, u64 row, int d, u64 turn) {
    const int hd = w->head_dim, pairs = w->pairs;
    const float v = stored_at(s, row, hd, d);
    float sine, cosine;
    if (d >= 2 * pairs) return v;
    const int i = w->interleaved ? d / 2 : d % pairs;
    const bool is_second = w->interleaved ? d % 2 : d >= pairs;
    const float other = stored_at(s, row, hd,
                                  w->interleaved ? d ^ 1
                                  : is_second    ? d - pairs
                                                 : d + pairs);
    sine_cosine((long long)(turn * ((const u64 *)w->turns)[i]), &sine, &cosine);
    return is_second ? v * cosine + other * sine : v * cosine - other * sine;
}

KERNEL pin_row(PARAM cuda_world world, PARAM cuda_copy copy) {
    const cuda_world *w = &world;
    launch_wait();
    const int parts = 2 * w->n_kv_heads, units = w->n_layers * parts, hd = w->head_dim;
    for (int i = BLOCK * N_WARPS + WARP; i < units; i += N_BLOCKS * N_WARPS) {
        const int part = i % parts, layer = i / parts, is_v = part / w->n_kv_heads;
        const int head = part % w->n_kv_heads;
        const store_rows from = store_of(w, copy.slot, layer, false, is_v, head);
        const store_rows to = store_of(w, copy.slot, layer, true, is_v, head);
        for (int d = LANE; d < hd; d += 32) {
            const float v = is_v ? stored_at(&from, (u64)copy.row, hd, d)
                                 : turned(w, &from, (u64)copy.row, d, copy.turn);
            store_put(&to, (u64)copy.pin * (u64)hd + (u64)d, v, 0);
        }
    }
}
