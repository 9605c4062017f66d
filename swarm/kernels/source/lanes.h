/* Sixteen binary32 lanes. Every operation is one IEEE 754 operation in each lane, rounded to nearest even, subnormals kept.

   Compiled once for each path (PATH): plain C, which is the definition; AVX2 with FMA; AVX-512; NEON with dot products. A path answers to plain C in the
   tests, bit by bit. Only the bits of a NaN may differ between paths, never whether a number is one. */
#pragma once
#include <stdint.h>
#include <string.h>
#include "fused.h"

#define PATH_PLAIN 0
#define PATH_AVX2 1
#define PATH_AVX512 2
#define PATH_NEON 3

#ifdef __FAST_MATH__
#error "portable numerics need IEEE arithmetic: compile without -ffast-math and -Ofast"
#endif

#if PATH == PATH_NEON
#include <arm_neon.h>
#if defined(__clang__) /* compilers name the processors that have dot products each in its own way; path.c ends this */
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#elif PATH != PATH_PLAIN
#include <immintrin.h>
#endif

#define LANES 16
#ifndef INLINE /* a build that checks every access inlines and unrolls nothing, or it would take minutes */
#define INLINE static inline __attribute__((always_inline))
#endif
#if defined(UNROLL)
#elif PATH == PATH_PLAIN
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

INLINE float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
INLINE uint32_t bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}
INLINE float float_of_bf16(uint16_t bits) { return float_of_bits((uint32_t)bits << 16); }
INLINE uint16_t bf16_of_float(float value) { /* to nearest even; what is no number stays none */
    uint32_t bits = bits_of_float(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
INLINE float float_of_half(uint16_t bits) { /* exact */
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, rest = bits & 0x7fff;
    if (rest >= 0x7c00) return float_of_bits(sign | ((rest << 13) + 0x70000000u));
    if (rest >= 0x0400) return float_of_bits(sign | ((rest << 13) + 0x38000000u));
    float small = (float)rest * 0x1p-24f;
    return sign ? -small : small;
}

#if PATH == PATH_AVX512
typedef __m512 lanes;
INLINE lanes set(float a) { return _mm512_set1_ps(a); }
INLINE lanes load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void store(float *p, lanes a) { _mm512_storeu_ps(p, a); }
INLINE lanes add(lanes a, lanes b) { return _mm512_add_ps(a, b); }
INLINE lanes sub(lanes a, lanes b) { return _mm512_sub_ps(a, b); }
INLINE lanes mul(lanes a, lanes b) { return _mm512_mul_ps(a, b); }
INLINE lanes quotient(lanes a, lanes b) { return _mm512_div_ps(a, b); }
INLINE lanes fma3(lanes a, lanes b, lanes c) { return _mm512_fmadd_ps(a, b, c); }
INLINE lanes lesser(lanes a, lanes b) { return _mm512_min_ps(a, b); }
INLINE lanes greater(lanes a, lanes b) { return _mm512_max_ps(a, b); }
INLINE lanes whole(lanes a) { return _mm512_roundscale_ps(a, 8); }
INLINE lanes power_of_two(lanes n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
INLINE lanes zero_where_less(lanes a, lanes limit, lanes b) {
    return _mm512_mask_mov_ps(b, _mm512_cmp_ps_mask(a, limit, _CMP_LT_OQ), _mm512_setzero_ps());
}
INLINE lanes load_bf16(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)), 16));
}
INLINE lanes load_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p)); }
INLINE lanes load_bytes(const int8_t *p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p))); }
INLINE void load_bf16_pairs(const uint16_t *p, lanes *even, lanes *odd) {
    __m512i both = _mm512_loadu_si512(p);
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32((int)0xffff0000u)));
}
#elif PATH == PATH_AVX2
typedef struct {
    __m256 low, high;
} lanes;
#define BOTH(operation) ((lanes){operation(low), operation(high)})
INLINE lanes set(float a) { return (lanes){_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
INLINE lanes load(const float *p) { return (lanes){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE void store(float *p, lanes a) {
    _mm256_storeu_ps(p, a.low);
    _mm256_storeu_ps(p + 8, a.high);
}
INLINE lanes add(lanes a, lanes b) { return (lanes){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
INLINE lanes sub(lanes a, lanes b) { return (lanes){_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
INLINE lanes mul(lanes a, lanes b) { return (lanes){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
INLINE lanes quotient(lanes a, lanes b) { return (lanes){_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
INLINE lanes fma3(lanes a, lanes b, lanes c) {
    return (lanes){_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
INLINE lanes lesser(lanes a, lanes b) { return (lanes){_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
INLINE lanes greater(lanes a, lanes b) { return (lanes){_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
INLINE lanes whole(lanes a) { return (lanes){_mm256_round_ps(a.low, 8), _mm256_round_ps(a.high, 8)}; }
INLINE __m256 power_of_two_8(__m256 n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
INLINE lanes power_of_two(lanes n) { return (lanes){power_of_two_8(n.low), power_of_two_8(n.high)}; }
INLINE lanes zero_where_less(lanes a, lanes limit, lanes b) {
    return (lanes){_mm256_andnot_ps(_mm256_cmp_ps(a.low, limit.low, _CMP_LT_OQ), b.low),
                   _mm256_andnot_ps(_mm256_cmp_ps(a.high, limit.high, _CMP_LT_OQ), b.high)};
}
INLINE __m256 load_bf16_8(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)), 16));
}
INLINE lanes load_bf16(const uint16_t *p) { return (lanes){load_bf16_8(p), load_bf16_8(p + 8)}; }
INLINE lanes load_half(const uint16_t *p) {
    return (lanes){_mm256_cvtph_ps(_mm_loadu_si128((const void *)p)), _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 8)))};
}
INLINE __m256 load_bytes_8(const int8_t *p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p))); }
INLINE lanes load_bytes(const int8_t *p) { return (lanes){load_bytes_8(p), load_bytes_8(p + 8)}; }
INLINE void load_bf16_pairs(const uint16_t *p, lanes *even, lanes *odd) {
    __m256i low = _mm256_loadu_si256((const void *)p), high = _mm256_loadu_si256((const void *)(p + 16));
    __m256i upper = _mm256_set1_epi32((int)0xffff0000u);
    *even = (lanes){_mm256_castsi256_ps(_mm256_slli_epi32(low, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(high, 16))};
    *odd = (lanes){_mm256_castsi256_ps(_mm256_and_si256(low, upper)), _mm256_castsi256_ps(_mm256_and_si256(high, upper))};
}
#elif PATH == PATH_NEON
typedef struct {
    float32x4_t part[4];
} lanes;
#define FOUR(expression)                                                                                                               \
    lanes result;                                                                                                                      \
    UNROLL for (int i = 0; i < 4; i++) result.part[i] = (expression);                                                                  \
    return result
INLINE lanes set(float a) { FOUR(vdupq_n_f32(a)); }
INLINE lanes load(const float *p) { FOUR(vld1q_f32(p + 4 * i)); }
INLINE void store(float *p, lanes a) { UNROLL for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, a.part[i]); }
INLINE lanes add(lanes a, lanes b) { FOUR(vaddq_f32(a.part[i], b.part[i])); }
INLINE lanes sub(lanes a, lanes b) { FOUR(vsubq_f32(a.part[i], b.part[i])); }
INLINE lanes mul(lanes a, lanes b) { FOUR(vmulq_f32(a.part[i], b.part[i])); }
INLINE lanes quotient(lanes a, lanes b) { FOUR(vdivq_f32(a.part[i], b.part[i])); }
INLINE lanes fma3(lanes a, lanes b, lanes c) { FOUR(vfmaq_f32(c.part[i], a.part[i], b.part[i])); }
/* The instructions for a minimum and a maximum order zeros and spread what is no number: these compare and choose. */
INLINE lanes lesser(lanes a, lanes b) { FOUR(vbslq_f32(vcltq_f32(a.part[i], b.part[i]), a.part[i], b.part[i])); }
INLINE lanes greater(lanes a, lanes b) { FOUR(vbslq_f32(vcgtq_f32(a.part[i], b.part[i]), a.part[i], b.part[i])); }
INLINE lanes whole(lanes a) { FOUR(vrndnq_f32(a.part[i])); }
INLINE lanes power_of_two(lanes n) {
    FOUR(vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n.part[i]), vdupq_n_s32(127)), 23)));
}
INLINE lanes zero_where_less(lanes a, lanes limit, lanes b) {
    FOUR(vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(b.part[i]), vcltq_f32(a.part[i], limit.part[i]))));
}
INLINE lanes load_bf16(const uint16_t *p) { FOUR(vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16))); }
INLINE lanes load_half(const uint16_t *p) { FOUR(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)))); }
INLINE lanes load_bytes(const int8_t *p) {
    const int16x8_t low = vmovl_s8(vld1_s8(p)), high = vmovl_s8(vld1_s8(p + 8));
    return (lanes){{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                    vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
INLINE void load_bf16_pairs(const uint16_t *p, lanes *even, lanes *odd) {
    UNROLL for (int i = 0; i < 4; i++) {
        uint32x4_t both = vreinterpretq_u32_u16(vld1q_u16(p + 8 * i));
        even->part[i] = vreinterpretq_f32_u32(vshlq_n_u32(both, 16));
        odd->part[i] = vreinterpretq_f32_u32(vandq_u32(both, vdupq_n_u32(0xffff0000u)));
    }
}
#else
typedef struct {
    float lane[LANES];
} lanes;
#define EACH(expression)                                                                                                               \
    lanes result;                                                                                                                      \
    for (int i = 0; i < LANES; i++) result.lane[i] = (expression);                                                                     \
    return result
INLINE lanes set(float a) { EACH(a); }
INLINE lanes load(const float *p) { EACH(p[i]); }
INLINE void store(float *p, lanes a) { memcpy(p, a.lane, sizeof a.lane); }
INLINE lanes add(lanes a, lanes b) { EACH(a.lane[i] + b.lane[i]); }
INLINE lanes sub(lanes a, lanes b) { EACH(a.lane[i] - b.lane[i]); }
INLINE lanes mul(lanes a, lanes b) { EACH(a.lane[i] * b.lane[i]); }
INLINE lanes quotient(lanes a, lanes b) { EACH(a.lane[i] / b.lane[i]); }
INLINE lanes fma3(lanes a, lanes b, lanes c) { EACH(fused(a.lane[i], b.lane[i], c.lane[i])); }
INLINE lanes lesser(lanes a, lanes b) { EACH(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); } /* what is no number in b stays */
INLINE lanes greater(lanes a, lanes b) { EACH(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
INLINE lanes whole(lanes a) { EACH(__builtin_rintf(a.lane[i])); }
INLINE lanes power_of_two(lanes n) { /* of whole numbers from -126 to 127 */
    EACH(float_of_bits((uint32_t)((n.lane[i] == n.lane[i] ? (int)n.lane[i] : 0) + 127) << 23));
}
INLINE lanes zero_where_less(lanes a, lanes limit, lanes b) { EACH(a.lane[i] < limit.lane[i] ? 0.0f : b.lane[i]); }
INLINE lanes load_bf16(const uint16_t *p) { EACH(float_of_bf16(p[i])); }
INLINE lanes load_half(const uint16_t *p) { EACH(float_of_half(p[i])); }
INLINE lanes load_bytes(const int8_t *p) { EACH(p[i]); }
INLINE void load_bf16_pairs(const uint16_t *p, lanes *even, lanes *odd) { /* [16][2] */
    for (int i = 0; i < LANES; i++) {
        even->lane[i] = float_of_bf16(p[2 * i]);
        odd->lane[i] = float_of_bf16(p[2 * i + 1]);
    }
}
#endif

/* The first `count` lanes; the others are +0. */
INLINE lanes load_some(const float *p, int count) {
    float padded[LANES] = {0};
    memcpy(padded, p, sizeof(float) * (size_t)count);
    return load(padded);
}
INLINE void store_some(float *p, lanes a, int count) {
    float all[LANES];
    store(all, a);
    memcpy(p, all, sizeof(float) * (size_t)count);
}
/* tree16 of docs/NUMERICS.md: lanes i and i + 8, then 4, 2, 1. */
INLINE float sum_lanes(lanes a) {
    float part[LANES];
    store(part, a);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) part[i] = part[i] + part[i + width];
    return part[0];
}
/* The largest lane; order does not matter. */
INLINE float largest_lane(lanes a) {
    float part[LANES];
    store(part, a);
    float most = part[0];
    for (int i = 1; i < LANES; i++) most = part[i] > most ? part[i] : most;
    return most;
}

/* exp: n = rint(x log2 e), the rest by two constants whose sum is log 2, a polynomial of degree 5 (Moshier, Cephes). 0 below -87,
   e^88 above 88. Within one unit in the last place. */
INLINE lanes exponential(lanes x) {
    lanes held = greater(set(-88.0f), lesser(set(88.0f), x));
    lanes n = whole(mul(held, set(0x1.715476p+0f)));
    lanes rest = fma3(n, set(2.12194440e-4f), fma3(n, set(-0.693359375f), held));
    lanes p = fma3(set(1.9875691500e-4f), rest, set(1.3981999507e-3f));
    p = fma3(p, rest, set(8.3334519073e-3f));
    p = fma3(p, rest, set(4.1665795894e-2f));
    p = fma3(p, rest, set(1.6666665459e-1f));
    p = fma3(p, rest, set(5.0000001201e-1f));
    p = add(fma3(p, mul(rest, rest), rest), set(1.0f));
    return zero_where_less(x, set(-87.0f), mul(p, power_of_two(n)));
}
INLINE lanes negative(lanes x) { return mul(x, set(-1.0f)); }
INLINE lanes sigmoid(lanes x) { return quotient(set(1.0f), add(set(1.0f), exponential(negative(x)))); }
/* 1 - 2 / (exp(2x) + 1) */
INLINE lanes hyperbolic_tangent(lanes x) {
    return sub(set(1.0f), quotient(set(2.0f), add(exponential(add(x, x)), set(1.0f))));
}
/* erf by formula 7.1.26 of Abramowitz and Stegun (1964), |error| <= 1.5e-7, for |x|; the sign is put back. */
INLINE lanes error_function(lanes x) {
    lanes size = greater(x, negative(x));
    lanes t = quotient(set(1.0f), fma3(set(0.3275911f), size, set(1.0f)));
    lanes p = fma3(set(1.061405429f), t, set(-1.453152027f));
    p = fma3(p, t, set(1.421413741f));
    p = fma3(p, t, set(-0.284496736f));
    p = fma3(p, t, set(0.254829592f));
    lanes value = sub(set(1.0f), mul(mul(p, t), exponential(negative(mul(size, size)))));
    return sub(value, zero_where_less(negative(x), set(0.0f), add(value, value)));
}
/* log(1 + exp(x)): the greater of x and 0, and log(1 + u) of u = exp(-|x|), which is 2 artanh(u / (2 + u)) by a polynomial whose own
   error is below 2^-27. Within three units in the last place. */
INLINE lanes softplus(lanes x) {
    lanes u = exponential(negative(greater(x, negative(x))));
    lanes z = quotient(u, add(u, set(2.0f))), square = mul(z, z);
    lanes p = fma3(set(0x1.1ed7c2p-3f), square, set(0x1.1ebd0cp-3f));
    p = fma3(p, square, set(0x1.99d208p-3f));
    p = fma3(p, square, set(0x1.555502p-2f));
    z = add(z, z);
    return add(greater(set(0.0f), x), fma3(mul(z, square), p, z));
}
