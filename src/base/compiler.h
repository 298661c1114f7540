/* compiler.h - the few things that are spelled differently from compiler to compiler.
 *
 * Every GNU extension the project uses has its name here and nowhere else.
 *
 * SPDX-License-Identifier: MIT */
#pragma once

#if defined(__GNUC__)
    #define WEIR_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
    #define WEIR_LIKELY(x)         __builtin_expect(!!(x), 1)
    #define WEIR_UNLIKELY(x)       __builtin_expect(!!(x), 0)
    #define WEIR_PREFETCH(p)       __builtin_prefetch(p)
    #define WEIR_INLINE            static inline __attribute__((always_inline))
    #define WEIR_NOINLINE          __attribute__((noinline))
#else
    #define WEIR_PRINTF(fmt, args)
    #define WEIR_LIKELY(x)   (x)
    #define WEIR_UNLIKELY(x) (x)
    #define WEIR_PREFETCH(p) ((void)0)
    #define WEIR_INLINE      static inline
    #define WEIR_NOINLINE
#endif

/* Before a loop of few, constant rounds over vectors that must stay in registers. */
#if defined(__clang__)
    #define WEIR_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
    #define WEIR_UNROLL _Pragma("GCC unroll 32")
#else
    #define WEIR_UNROLL
#endif

#define COUNT_OF(a)  (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))
