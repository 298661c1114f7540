/* machine_look.cuh - what attention of tiles asks of the machine beside machine.cuh.
 *
 * Matrices lie in shared memory as stages of inputs do, [rows][64] of 16 bits: a row 128 bytes, its
 * eight 16-byte parts at places part ^ row % 8; wider ones are several of these, one behind the
 * other.  They begin at multiples of 1024 bytes.  As wide_multiply does, these run between
 * wide_begin and wide_end beside the threads.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

/* The gate has an arrival of every thread. */
DEVICE void gate_arrive_each(u64 *gate) {
    asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(
                     shared_address(gate))
                 : "memory");
}

#if HAS_WIDE

/* Of matrices [rows][64] of 16 bits as a stage has them: 8 rows are 1024 bytes from the next 8;
 * turned ones go on after 64 columns `far` bytes on. */
DEVICE u64 wide_matrix(const char *p, u32 far) {
    return (u64)(shared_address(p) >> 4 & 0x3fff) | (u64)(far >> 4) << 16 | (u64)64 << 32 |
           (u64)1 << 62;
}

    #define WIDE_PAIR_ASM(n, type, places, i, j, k, ...)                                        \
        asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, %" #k ", 0;\n"                           \
                     "wgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type " {" places \
                     "}, %" #i ", %" #j ", p, 1, 1, 0, 0;\n}"                                   \
                     : __VA_ARGS__                                                              \
                     : "l"(a), "l"(b), "r"((int)is_first))
    #define WIDE_PAIR(n, places, i, j, k, ...)                       \
        if (is_bf16) {                                               \
            WIDE_PAIR_ASM(#n, "bf16", places, i, j, k, __VA_ARGS__); \
        } else {                                                     \
            WIDE_PAIR_ASM(#n, "f16", places, i, j, k, __VA_ARGS__);  \
        }
    #define WIDE_TURNED_ASM(n, type, places, rest, ...)                                         \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type " {" places \
                     "}, " rest ", 1, 1, 1, 1;"                                                 \
                     : __VA_ARGS__                                                              \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
    #define WIDE_TURNED(n, places, rest, ...)                       \
        if (is_bf16) {                                              \
            WIDE_TURNED_ASM(#n, "bf16", places, rest, __VA_ARGS__); \
        } else {                                                    \
            WIDE_TURNED_ASM(#n, "f16", places, rest, __VA_ARGS__);  \
        }

/* c [keys / 8][4] = or += queries keys^T of 16 features from 16 * step on.  queries: the first of
 * this warp's 16 lines in a matrix of its group's 64; keys: a matrix of so many rows.  Both have
 * one after the other, 64 features each. */
DEVICE void wide_scores(float *c, int keys, const char *queries, const char *k, int step,
                        bool is_first, bool is_bf16) {
    const u64 a = wide_matrix(queries - WARP % 4 * 2048 + step / 4 * 8192 + step % 4 * 32, 16);
    const u64 b = wide_matrix(k + step / 4 * keys * 128 + step % 4 * 32, 16);
    switch (keys) {
    case 32: WIDE_PAIR(32, WIDE_PLACES_32, 16, 17, 18, WIDE_SUMS_16(0)); break;
    case 64: WIDE_PAIR(64, WIDE_PLACES_64, 32, 33, 34, WIDE_SUMS_32(0)); break;
    case 128: WIDE_PAIR(128, WIDE_PLACES_128, 64, 65, 66, WIDE_SUMS_64(0)); break;
    default: break;
    }
}

/* c [dim / 8][4] += weights values of 16 keys from 16 * step on; values: matrices of `keys` rows,
 * 64 features each. */
DEVICE void wide_values(float *c, int dim, const u32 a[4], const char *values, int keys, int step,
                        bool is_bf16) {
    const u64 b = wide_matrix(values + step * 2048, (u32)keys * 128);
    switch (dim) {
    case 64: WIDE_TURNED(64, WIDE_PLACES_64, "{%32,%33,%34,%35}, %36", WIDE_SUMS_32(0)); break;
    case 128: WIDE_TURNED(128, WIDE_PLACES_128, "{%64,%65,%66,%67}, %68", WIDE_SUMS_64(0)); break;
    case 256:
        WIDE_TURNED(256, WIDE_PLACES_256, "{%128,%129,%130,%131}, %132", WIDE_SUMS_128(0));
        break;
    default: break;
    }
}

/* The four warps of a warp group meet; what they put into shared memory is there for the wide
 * instruction. */
DEVICE void wide_meet(void) {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    asm volatile("bar.sync %0, 128;" ::"r"(1 + WARP / 4) : "memory");
}

/* Two warp groups take turns: one waits for its turn, then passes it on.  The first has the first.
 */
DEVICE void wide_turn_open(void) {
    if (WARP / 4 == 1) asm volatile("bar.arrive 3, 256;" ::: "memory");
}

DEVICE void wide_turn_wait(void) {
    asm volatile("bar.sync %0, 256;" ::"r"(3 + WARP / 4) : "memory");
}

DEVICE void wide_turn_pass(void) {
    asm volatile("bar.arrive %0, 256;" ::"r"(4 - WARP / 4) : "memory");
}

/* What small copies brought is there for the wide instruction. */
DEVICE void wide_see(void) {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

#else

/* Where a part of 16 bytes of a row of such matrices [rows][64] lies. */
DEVICE const char *wide_part(const char *p, int rows, int row, int part) {
    return p + part / 8 * rows * 128 + row * 128 + ((part ^ row) & 7) * 16;
}

DEVICE void wide_scores(float *c, int keys, const char *queries, const char *k, int step,
                        bool is_first, bool is_bf16) {
    u32 a[4], b[4];
    load_matrices(a, wide_part(queries, 64, LANE % 16, 2 * step + LANE / 16));
    UNROLL for (int j = 0; j < keys / 16; j++) {
        load_matrices(
            b, wide_part(k, keys, 16 * j + LANE / 16 * 8 + LANE % 8, 2 * step + LANE / 8 % 2));
        UNROLL for (int i = 0; i < 2; i++) {
            float *to = c + 8 * j + 4 * i;
            UNROLL for (int e = 0; e < 4; e++) to[e] = is_first ? 0 : to[e];
            if (is_bf16) {
                multiply_bf16(to, a, b + 2 * i);
            } else {
                multiply_f16(to, a, b + 2 * i);
            }
        }
    }
}

DEVICE void wide_values(float *c, int dim, const u32 a[4], const char *values, int keys, int step,
                        bool is_bf16) {
    UNROLL for (int j = 0; j < dim / 16; j++) {
        u32 b[4];
        load_matrices_turned(b, wide_part(values, keys, 16 * step + LANE % 16, 2 * j + LANE / 16));
        UNROLL for (int i = 0; i < 2; i++) {
            if (is_bf16) {
                multiply_bf16(c + 8 * j + 4 * i, a, b + 2 * i);
            } else {
                multiply_f16(c + 8 * j + 4 * i, a, b + 2 * i);
            }
        }
    }
}

DEVICE void wide_meet(void) {
    __syncwarp();
}

DEVICE void wide_see(void) {}

DEVICE void wide_turn_open(void) {}

DEVICE void wide_turn_wait(void) {}

DEVICE void wide_turn_pass(void) {}

#endif
