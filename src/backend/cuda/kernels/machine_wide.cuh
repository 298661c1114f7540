/* machine_wide.cuh - the wide matrix instruction: wgmma where it is, m16n8k16 elsewhere;
 * machine.cuh includes this.
 *
 * A warp multiplies 16 rows of A, in its registers as m16n8k16 has them, by a stage of B in shared
 * memory; the four warps of a warp group (aligned, by WARP) do so together.  A stage is [tokens][64
 * k] of 16 bits, a token 128 bytes, its eight 16-byte parts at places part ^ token % 8; it begins
 * at a multiple of 1024 bytes.  What is multiplied between wide_begin and wide_end runs beside the
 * threads until wide_wait: A's registers, the sums and B are not to be touched until then.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#define WIDE_COPIERS 4 /* warps of a block that multiply nothing: a warp group */

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

    #define HAS_WIDE     1
    #define WALK_WORKERS CUDA_WORKERS /* warps of a block of `walk` that work */
    #define WALK_FEEDERS CUDA_FEEDERS /* and that do not: a warp group, one of whom copies */

/* Registers go from the warps that copy to the others, which have n then, out of what the block was
 * launched with: 2 * 232 + 40 = 3 * 168, 2 * 208 + 88, and in `walk` 4 * 112 + 32 = 5 * 96. */
DEVICE void wide_take_registers(int n) {
    if (n == 232) asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    if (n == 208) asm volatile("setmaxnreg.inc.sync.aligned.u32 208;");
    if (n == 112) asm volatile("setmaxnreg.inc.sync.aligned.u32 112;");
}

DEVICE void wide_give_registers(int n) {
    if (n == 232) asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (n == 208) asm volatile("setmaxnreg.dec.sync.aligned.u32 88;");
    if (n == 112) asm volatile("setmaxnreg.dec.sync.aligned.u32 32;");
}

    #define WIDE_SUMS_8(i)                                                          \
        "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), \
            "+f"(c[i + 5]), "+f"(c[i + 6]), "+f"(c[i + 7])
    #define WIDE_SUMS_16(i)  WIDE_SUMS_8(i), WIDE_SUMS_8(i + 8)
    #define WIDE_SUMS_32(i)  WIDE_SUMS_16(i), WIDE_SUMS_16(i + 16)
    #define WIDE_SUMS_64(i)  WIDE_SUMS_32(i), WIDE_SUMS_32(i + 32)
    #define WIDE_SUMS_128(i) WIDE_SUMS_64(i), WIDE_SUMS_64(i + 64)
    #define WIDE_ASM(tokens, type, places, rest, ...)                                    \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" tokens "k16.f32." type "." type \
                     " {" places "}, " rest ", 1, 1, 1, 0;"                              \
                     : __VA_ARGS__                                                       \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
    #define WIDE_CASE(tokens, places, rest, ...)                  \
        if (is_bf16) {                                            \
            WIDE_ASM(#tokens, "bf16", places, rest, __VA_ARGS__); \
        } else {                                                  \
            WIDE_ASM(#tokens, "f16", places, rest, __VA_ARGS__);  \
        }
    #define WIDE_PLACES_16 "%0,%1,%2,%3,%4,%5,%6,%7"
    #define WIDE_PLACES_32 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
    #define WIDE_PLACES_64                                                           \
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20," \
        "%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
    #define WIDE_PLACES_128                                                            \
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,"   \
        "%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39," \
        "%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58," \
        "%59,%60,%61,%62,%63"
    #define WIDE_PLACES_256                                                            \
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,"   \
        "%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39," \
        "%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58," \
        "%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77," \
        "%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96," \
        "%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"     \
        "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,"  \
        "%127"

DEVICE void wide_begin(void) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

/* c [tokens / 8][4] += A B for the 16 k from 16 * step on, as m16n8k16 has its sums. */
DEVICE void wide_multiply(float *c, int tokens, const u32 a[4], const char *stage, int step,
                          bool is_bf16) {
    /* address / 16; 1024 bytes from 8 tokens to the next 8; parts are swizzled over 128 bytes */
    const u64 b = (u64)((shared_address(stage) + 32 * (u32)step) >> 4 & 0x3fff) | (u64)1 << 16 |
                  (u64)64 << 32 | (u64)1 << 62;
    switch (tokens) {
    case 16: WIDE_CASE(16, WIDE_PLACES_16, "{%8,%9,%10,%11}, %12", WIDE_SUMS_8(0)); break;
    case 32: WIDE_CASE(32, WIDE_PLACES_32, "{%16,%17,%18,%19}, %20", WIDE_SUMS_16(0)); break;
    case 64: WIDE_CASE(64, WIDE_PLACES_64, "{%32,%33,%34,%35}, %36", WIDE_SUMS_32(0)); break;
    case 128: WIDE_CASE(128, WIDE_PLACES_128, "{%64,%65,%66,%67}, %68", WIDE_SUMS_64(0)); break;
    case 256:
        WIDE_CASE(256, WIDE_PLACES_256, "{%128,%129,%130,%131}, %132", WIDE_SUMS_128(0));
        break;
    default: break;
    }
}

DEVICE void wide_end(void) {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* All groups are done but the youngest `left` (0 or 1). */
DEVICE void wide_wait(int left) {
    if (left == 0) asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    if (left == 1) asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
}

/* Sums are read from here on, after wide_wait(0). */
DEVICE void wide_settle(float *c, int tokens) {
    UNROLL for (int i = 0; i < tokens / 2; i++) asm volatile("" : "+f"(c[i])::"memory");
}

#else

    #define HAS_WIDE     0
    #define WALK_WORKERS (CUDA_WORKERS / 2) /* more would have too few registers */
    #define WALK_FEEDERS 1

DEVICE void wide_take_registers(int n) {}

DEVICE void wide_give_registers(int n) {}

DEVICE void wide_begin(void) {}

DEVICE void wide_multiply(float *c, int tokens, const u32 a[4], const char *stage, int step,
                          bool is_bf16) {
    UNROLL for (int j = 0; j < tokens / 8; j++) {
        const int token = 8 * j + LANE / 4;
        u32 b[2];
        UNROLL for (int i = 0; i < 2; i++) {
            const int part = (2 * step + i) ^ (LANE / 4);
            b[i] = *(const u32 *)(stage + token * 128 + part * 16 + LANE % 4 * 4);
        }
        if (is_bf16) {
            multiply_bf16(c + 4 * j, a, b);
        } else {
            multiply_f16(c + 4 * j, a, b);
        }
    }
}

DEVICE void wide_end(void) {}

DEVICE void wide_wait(int left) {}

DEVICE void wide_settle(float *c, int tokens) {}

#endif
