/* What this processor and its system can do, asked of them: not every compiler's own answer is filled in. */
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>

#define BIT(number) (1u << (number))
#define FMA_AVX_F16C (BIT(12) | BIT(27) | BIT(28) | BIT(29)) /* and that the system has a say (OSXSAVE): leaf 1, ecx */
#define AVX2_BIT BIT(5)                                      /* leaf 7, ebx */
#define AVX512_BITS (BIT(16) | BIT(17) | BIT(30) | BIT(31))  /* F, DQ, BW, VL: leaf 7, ebx */
#define VNNI_BIT BIT(11)                                     /* leaf 7, ecx */
#define YMM_STATE 0x06u /* that the system keeps for each thread */
#define ZMM_STATE 0xe6u

static int has(unsigned bits, unsigned wanted) { return (bits & wanted) == wanted; }

static int x86_has(unsigned ebx, unsigned ecx, unsigned state) {
    unsigned a, b, c, d, kept, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, FMA_AVX_F16C)) return 0;
    __asm__ volatile("xgetbv" : "=a"(kept), "=d"(high) : "c"(0));
    return has(kept, state) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && has(b, ebx) && has(c, ecx);
}
static int has_avx2(void) { return x86_has(AVX2_BIT, 0, YMM_STATE); }
static int has_avx512_vnni(void) { return x86_has(AVX2_BIT | AVX512_BITS, VNNI_BIT, ZMM_STATE); }

#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
static int has_dot_products(void) { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#elif defined(__aarch64__)
#if defined(__APPLE__)
static int has_dot_products(void) { return 1; } /* every processor of theirs */
#else
static int has_dot_products(void) { return 0; } /* nobody has asked such a system yet */
#endif
#endif
