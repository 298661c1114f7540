/* features.c - asks the processor; the compiler's run-time library has read CPUID at start.
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "backend/cpu/features.h"

#include "base/compiler.h"

#include <assert.h>
#include <string.h>

#if defined(__aarch64__) && defined(__linux__)
    #include <sys/auxv.h>
enum { HWCAP_DOT_PRODUCT = 1 << 20 }; /* ASIMDDP of asm/hwcap.h */
#endif

#if defined(__x86_64__)
    #include <cpuid.h>

    #if defined(__linux__)
        #include <sys/syscall.h>
        #include <unistd.h>
enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* arch_prctl of asm/prctl.h */
    #endif

/* The tile unit with int8 and bf16 products.  Its registers are 8 KiB a thread, so Linux saves
 * them only for a process that has asked. */
static bool has_amx(void) {
    #if defined(__linux__)
    enum { BF16 = 1 << 22, TILE = 1 << 24, INT8 = 1 << 25 };
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if ((~d & (BF16 | TILE | INT8)) != 0) return false;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
    #else
    return false;
    #endif
}

static bool has_avx2(void) {
    unsigned a, b, c, d; /* clang's __builtin_cpu_supports knows no "f16c" */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

#endif

bool cpu_level_runs(cpu_level level) {
    if (level == CPU_PORTABLE) return true;
#if defined(__x86_64__)
    if (level == CPU_AVX2) return has_avx2();
    if (level == CPU_AVX512) return has_avx512();
#elif defined(__aarch64__) && defined(__linux__)
    if (level == CPU_NEON) return (getauxval(AT_HWCAP) & HWCAP_DOT_PRODUCT) != 0;
#endif
    return false;
}

cpu_level cpu_level_best(void) {
    for (int level = CPU_N_LEVELS - 1; level > CPU_PORTABLE; level--) {
        if (cpu_level_runs((cpu_level)level)) return (cpu_level)level;
    }
    return CPU_PORTABLE;
}

int cpu_level_find(const char *name) {
    static const char *const names[CPU_N_LEVELS] = {
        [CPU_PORTABLE] = "portable",
        [CPU_NEON] = "neon",
        [CPU_AVX2] = "avx2",
        [CPU_AVX512] = "avx512",
    };
    if (!name) return cpu_level_best();
    for (int level = 0; level < CPU_N_LEVELS; level++) {
        if (strcmp(name, names[level]) == 0) return cpu_level_runs((cpu_level)level) ? level : -1;
    }
    return -1;
}

cpu_features cpu_features_of(cpu_level level) {
    assert(cpu_level_runs(level));
    cpu_features f = {.level = level, .text = "portable"};
    if (level == CPU_NEON) f.text = "neon dot";
    if (level == CPU_AVX2) f.text = "avx2";
#if defined(__x86_64__)
    if (level == CPU_AVX512) {
        static const char *const texts[] = {"avx512", "avx512 vnni", "avx512 bf16",
                                            "avx512 vnni bf16"};
        f.vnni = __builtin_cpu_supports("avx512vnni") != 0;
        f.bf16 = __builtin_cpu_supports("avx512bf16") != 0;
        f.text = texts[f.vnni + 2 * f.bf16];
        f.amx = f.vnni && f.bf16 && has_amx();
        if (f.amx) f.text = "avx512 vnni bf16 amx";
    }
#endif
    return f;
}
