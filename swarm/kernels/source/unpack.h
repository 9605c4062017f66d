/* Integers as they are stored, one to a byte and without a sign: what `zero_of` says is to be taken off. And their scales. */
#pragma once
#include "kinds.h"
#include "lanes.h"

/* Of the uneven types, raised by 128: the levels of llama.cpp's IQ4_NL and IQ4_XS. */
static const uint8_t levels[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

INLINE int whole_bytes(int kind) { return kind == WEIGHT_INT8 || kind == WEIGHT_INT8_SHARED; }
INLINE int uneven(int kind) { return kind == WEIGHT_IQ4_NL || kind == WEIGHT_IQ4_XS; }
INLINE int five_bits(int kind) { return kind == WEIGHT_INT5 || kind == WEIGHT_INT5_MINIMUM || kind == WEIGHT_Q5_K; }
INLINE int zero_of(int kind) {
    if (whole_bytes(kind) || uneven(kind)) return 128;
    return kind == WEIGHT_INT4 ? 8 : kind == WEIGHT_INT5 ? 16 : kind == WEIGHT_Q6_K ? 32 : 0;
}
INLINE int with_minimum(int kind) { return minima_apart(kind) || kind == WEIGHT_Q4_K || kind == WEIGHT_Q5_K || kind == WEIGHT_INT4_ZERO; }
/* Whether each sixteen inputs have a scale of their own. */
INLINE int by_halves(int kind) { return kind == WEIGHT_Q6_K; }

/* Inputs 4i to 4i + 3 of a tile's group, [16][4]; AVX2: of eight outputs, the second ones where `half` is 1; NEON: of four. */
#if PATH == PATH_AVX512
INLINE __m512i unpack(int kind, const uint8_t *group, int i) {
    if (whole_bytes(kind)) return _mm512_loadu_si512(group + i * 64);
    __m512i numbers = _mm512_loadu_si512(group + i % 4 * 64);
    numbers = _mm512_and_si512(i < 4 ? numbers : _mm512_srli_epi16(numbers, 4), _mm512_set1_epi8(15));
    if (uneven(kind)) return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const void *)levels)), numbers);
    if (five_bits(kind)) {
        __m512i high = _mm512_loadu_si512(group + 256);
        high = i < 4 ? _mm512_slli_epi16(high, 4 - i) : _mm512_srli_epi16(high, i - 4);
        return _mm512_or_si512(numbers, _mm512_and_si512(high, _mm512_set1_epi8(16)));
    }
    if (kind == WEIGHT_Q6_K) {
        __m512i high = _mm512_loadu_si512(group + 256 + i / 4 * 64);
        high = i % 4 < 2 ? _mm512_slli_epi16(high, 4 - i % 4 * 2) : _mm512_srli_epi16(high, i % 4 * 2 - 4);
        return _mm512_or_si512(numbers, _mm512_and_si512(high, _mm512_set1_epi8(48)));
    }
    return numbers;
}
#elif PATH == PATH_AVX2
INLINE __m256i unpack(int kind, const uint8_t *group, int i, int half) {
    group += half * 32;
    if (whole_bytes(kind)) return _mm256_loadu_si256((const void *)(group + i * 64));
    __m256i numbers = _mm256_loadu_si256((const void *)(group + i % 4 * 64));
    numbers = _mm256_and_si256(i < 4 ? numbers : _mm256_srli_epi16(numbers, 4), _mm256_set1_epi8(15));
    if (uneven(kind)) return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)levels)), numbers);
    if (five_bits(kind)) {
        __m256i high = _mm256_loadu_si256((const void *)(group + 256));
        high = i < 4 ? _mm256_slli_epi16(high, 4 - i) : _mm256_srli_epi16(high, i - 4);
        return _mm256_or_si256(numbers, _mm256_and_si256(high, _mm256_set1_epi8(16)));
    }
    if (kind == WEIGHT_Q6_K) {
        __m256i high = _mm256_loadu_si256((const void *)(group + 256 + i / 4 * 64));
        high = i % 4 < 2 ? _mm256_slli_epi16(high, 4 - i % 4 * 2) : _mm256_srli_epi16(high, i % 4 * 2 - 4);
        return _mm256_or_si256(numbers, _mm256_and_si256(high, _mm256_set1_epi8(48)));
    }
    return numbers;
}
#elif PATH == PATH_NEON
INLINE uint8x16_t unpack(int kind, const uint8_t *group, int i, int quarter) {
    group += quarter * 16;
    if (whole_bytes(kind)) return vld1q_u8(group + i * 64);
    uint8x16_t numbers = vld1q_u8(group + i % 4 * 64);
    numbers = i < 4 ? vandq_u8(numbers, vdupq_n_u8(15)) : vshrq_n_u8(numbers, 4);
    if (uneven(kind)) return vqtbl1q_u8(vld1q_u8(levels), numbers);
    if (five_bits(kind)) {
        const uint8x16_t high = vshlq_u8(vld1q_u8(group + 256), vdupq_n_s8((int8_t)(4 - i)));
        return vorrq_u8(numbers, vandq_u8(high, vdupq_n_u8(16)));
    }
    if (kind == WEIGHT_Q6_K) {
        const uint8x16_t high = vshlq_u8(vld1q_u8(group + 256 + i / 4 * 64), vdupq_n_s8((int8_t)(4 - i % 4 * 2)));
        return vorrq_u8(numbers, vandq_u8(high, vdupq_n_u8(48)));
    }
    return numbers;
}
#else
/* Input k of one output. */
INLINE int unpack(int kind, const uint8_t *group, int k, int lane) {
    const int i = k / 4, byte = lane * 4 + k % 4;
    if (whole_bytes(kind)) return group[i * 64 + byte];
    const int number = group[i % 4 * 64 + byte] >> i / 4 * 4 & 15;
    if (uneven(kind)) return levels[number];
    if (five_bits(kind)) return number | (group[256 + byte] >> i & 1) << 4;
    if (kind == WEIGHT_Q6_K) return number | (group[256 + i / 4 * 64 + byte] >> i % 4 * 2 & 3) << 4;
    return number;
}
#endif

/* Group g of a tile whose scales, and minima that lie apart, begin there. `second` are minima or, by halves, the scales of the second. */
INLINE void load_scales(int kind, int shift, const void *scales, const uint16_t *minima, int g, lanes *scale, lanes *second) {
    const uint8_t *block = (const uint8_t *)scales + (int64_t)(g >> scale_shift(kind, shift)) * scale_bytes(kind);
    const int j = g % 8; /* of eight that are stored together */
    *scale = load_half((const uint16_t *)block);
    if (minima_apart(kind)) *second = load_half(minima + (int64_t)g * LANES);
    if (kind == WEIGHT_Q4_K || kind == WEIGHT_Q5_K) { /* 6 bits each: of the first four groups as they are, of the others in pieces */
        const uint8_t *low = block + 64 + (j < 4 ? j : j + 4) * LANES, *top = block + 64 + (j < 4 ? j : j - 4) * LANES;
        int8_t steps[LANES], least[LANES];
        for (int lane = 0; lane < LANES; lane++) {
            steps[lane] = (int8_t)(j < 4 ? low[lane] & 63 : (low[lane] & 15) | (top[lane] >> 6) << 4);
            least[lane] = (int8_t)(j < 4 ? low[4 * LANES + lane] & 63 : low[lane] >> 4 | (top[4 * LANES + lane] >> 6) << 4);
        }
        *second = negative(mul(load_half((const uint16_t *)block + LANES), load_bytes(least)));
        *scale = mul(*scale, load_bytes(steps));
    }
    if (kind == WEIGHT_INT4_ZERO) *second = negative(mul(*scale, load_bytes((const int8_t *)block + 32)));
    if (kind == WEIGHT_Q6_K) {
        const int8_t *steps = (const int8_t *)block + 32 + j * 2 * LANES;
        *second = mul(*scale, load_bytes(steps + LANES));
        *scale = mul(*scale, load_bytes(steps));
    }
    if (kind == WEIGHT_IQ4_XS) {
        const uint8_t *top = block + 32 + j / 4 * LANES, *low = block + 64 + j / 2 * LANES;
        int8_t steps[LANES];
        for (int lane = 0; lane < LANES; lane++)
            steps[lane] = (int8_t)(((low[lane] >> j % 2 * 4 & 15) | (top[lane] >> j % 4 * 2 & 3) << 4) - 32);
        *scale = mul(*scale, load_bytes(steps));
    }
}
