/* image.cuh - where the inputs of a product of many tokens lie, as wide.cuh multiplies them.
 *
 *   image [tiles of tokens][depth / 64][tokens][128 bytes]    parts of 16 bytes swizzled, k of each
 *                                                             16 in the order of weights.cuh:
 *                                                             0 1 4 5 8 9 12 13 | 2 3 6 7 10 ...
 *
 * Whoever makes an input leaves it so: prepare.cuh, the product before (wide.cuh), attention.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

/* The half-th part of k [16 k16, 16 k16 + 16) of row r. */
DEVICE char *image_part(const cuda_world *w, cuda_address image, int depth, int r, int k16,
                        int half) {
    const int tokens = w->wide.tokens, t = r & (tokens - 1); /* a power of two */
    char *tile = (char *)image + (u64)(r - t) * (u64)(2 * depth);
    char *row = tile + (u64)(k16 / 4 * tokens + t) * 128;
    return row + ((k16 % 4 * 2 + half) ^ (t & 7)) * 16;
}

/* Two words of this lane and of lane ^ mask: the low lane gets the first of both, the high lane the
 * second; the low lane's comes first. */
DEVICE void swap_words(u32 pair[2], const u32 words[2], bool is_high, int mask) {
    const u32 mine = is_high ? words[0] : words[1];
    const u32 other = bits_of_float(shuffle_xor(float_of_bits(mine), mask));
    pair[0] = is_high ? other : words[0];
    pair[1] = is_high ? words[1] : other;
}

/* Feature k of row r alone. */
DEVICE void put_image_value(const cuda_world *w, int depth, int r, int k, u32 bits) {
    const int pair = k % 16 / 2;
    char *part = image_part(w, w->image_out, depth, r, k / 16, pair % 2);
    *(u16 *)(part + pair / 2 * 4 + k % 2 * 2) = (u16)bits;
}
