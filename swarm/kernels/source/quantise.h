/* Floats that share a step, as integers. */
#pragma once
#include "lanes.h"

#define MOST 127      /* of a number in a byte */
#define RADIX 255     /* of a number in two bytes, hi * RADIX + lo, of which each is from -MOST to MOST */
#define MOST_WIDE 32512 /* MOST * RADIX + MOST */

/* The step, and what numbers are multiplied by before they are rounded. 0: all integers are 0, since the largest magnitude is below
   2^-100, or no finite step exists. */
INLINE float step_of(const float *x, int count, int most, float *step) {
    uint32_t largest = 0; /* as bits: infinities and what is no number are above all numbers */
    for (int i = 0; i < count; i++) {
        const uint32_t bits = bits_of_float(x[i]) & 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    if (largest < 0x0d800000u || largest >= 0x7f800000u) {
        *step = largest < 0x0d800000u ? 0.0f : float_of_bits(0x7fc00000u);
        return 0;
    }
    *step = float_of_bits(largest) * (1.0f / (float)most);
    return (float)most / float_of_bits(largest);
}

/* To the nearest whole number, ties to even, by adding 1.5 * 2^23. */
INLINE int32_t rounded_integer(float x) { return (int32_t)(bits_of_float(x + 12582912.0f) - 0x4b400000u); }

/* Returns their sum. */
INLINE int32_t quantise(const float *x, int count, int8_t *bytes, float *step) {
    const float inverse = step_of(x, count, MOST, step);
    int32_t total = 0;
    if (inverse == 0) {
        memset(bytes, 0, (size_t)count);
        return 0;
    }
    for (int i = 0; i < count; i++) {
        const int32_t q = rounded_integer(x[i] * inverse);
        bytes[i] = (int8_t)q;
        total += q;
    }
    return total;
}

/* Integers of 16 bits, as `count` low bytes and as many high ones. Returns their sum. */
INLINE int32_t quantise_wide(const float *x, int count, int8_t *bytes, float *step) {
    const float inverse = step_of(x, count, MOST_WIDE, step);
    int32_t total = 0;
    if (inverse == 0) {
        memset(bytes, 0, 2 * (size_t)count);
        return 0;
    }
    for (int i = 0; i < count; i++) {
        const int32_t q = rounded_integer(x[i] * inverse);
        const int32_t high = (int32_t)((uint32_t)(q + MOST_WIDE) / RADIX) - MOST; /* division that rounds down */
        bytes[i] = (int8_t)(q - high * RADIX);
        bytes[count + i] = (int8_t)high;
        total += q;
    }
    return total;
}
