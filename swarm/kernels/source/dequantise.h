/* Blocks to floats: the package gguf's operations, one by one, so that the numbers are the same to the last bit. */
#pragma once
#include "lanes.h"
#include "stored_blocks.h"
#include "unpack.h"

INLINE float half_at(const uint8_t *bytes) {
    uint16_t bits;
    memcpy(&bits, bytes, 2);
    return float_of_half(bits);
}

/* Group g of eight: its scale and its scale of least values, of 6 bits each in twelve bytes. */
INLINE void six_bits(const uint8_t *packed, int g, float *scale, float *least) {
    const uint8_t *low = packed + (g < 4 ? g : g + 4), *top = packed + (g < 4 ? g : g - 4);
    *scale = (float)(g < 4 ? low[0] & 63 : (low[0] & 15) | (top[0] >> 6) << 4);
    *least = (float)(g < 4 ? low[4] & 63 : low[0] >> 4 | (top[4] >> 6) << 4);
}

/* Group g of a block of a kind that is known when this is compiled. */
INLINE void dequantise_kind(int kind, const uint8_t *block, int g, float *numbers) {
    const struct block one = block_of(kind, 0, 0);
    float scale = half_at(block + one.scale), second = scale, least = 0;
    int8_t bytes[GROUP];
    if (kind == WEIGHT_INT8) memcpy(bytes, block + one.numbers, GROUP);
    else if (kind == WEIGHT_INT4 || kind == WEIGHT_INT4_MINIMUM) /* as read_word says, for vectors */
        for (int k = 0; k < GROUP / 2; k++) {
            const uint8_t both = block[one.numbers + k];
            bytes[k] = (int8_t)((both & 15) - zero_of(kind));
            bytes[k + GROUP / 2] = (int8_t)((both >> 4) - zero_of(kind));
        }
    else
        for (int k = 0; k < GROUP; k++) {
            const int number = read_word(kind, block + one.numbers, g, k / 4) >> k % 4 * 8 & 255;
            bytes[k] = (int8_t)((uneven(kind) ? levels[number] : number) - zero_of(kind));
        }
    if (kind == WEIGHT_INT4_MINIMUM || kind == WEIGHT_INT5_MINIMUM) least = half_at(block + 2);
    if (kind == WEIGHT_Q4_K || kind == WEIGHT_Q5_K) {
        float steps, leasts;
        six_bits(block + one.packed, g, &steps, &leasts);
        scale = second = scale * steps;
        least = -(half_at(block + 2) * leasts);
    }
    if (kind == WEIGHT_Q6_K) {
        second = scale * (float)(int8_t)block[one.packed + g * 2 + 1];
        scale = scale * (float)(int8_t)block[one.packed + g * 2];
    }
    if (kind == WEIGHT_IQ4_XS)
        scale = second = scale * (float)(((block[4 + g / 2] >> g % 2 * 4 & 15) | (block[2 + g / 4] >> g % 4 * 2 & 3) << 4) - 32);
    for (int half = 0; half < 2; half++) {
        const lanes product = mul(load_bytes(bytes + half * LANES), set(half ? second : scale));
        store(numbers + half * LANES, with_minimum(kind) ? add(product, set(least)) : product);
    }
}

static void dequantise(int kind, const uint8_t *block, int g, float *numbers) {
    switch (kind) {
    case WEIGHT_INT8: dequantise_kind(WEIGHT_INT8, block, g, numbers); return;
    case WEIGHT_INT4: dequantise_kind(WEIGHT_INT4, block, g, numbers); return;
    case WEIGHT_INT4_MINIMUM: dequantise_kind(WEIGHT_INT4_MINIMUM, block, g, numbers); return;
    case WEIGHT_INT5: dequantise_kind(WEIGHT_INT5, block, g, numbers); return;
    case WEIGHT_INT5_MINIMUM: dequantise_kind(WEIGHT_INT5_MINIMUM, block, g, numbers); return;
    case WEIGHT_Q4_K: dequantise_kind(WEIGHT_Q4_K, block, g, numbers); return;
    case WEIGHT_Q5_K: dequantise_kind(WEIGHT_Q5_K, block, g, numbers); return;
    case WEIGHT_Q6_K: dequantise_kind(WEIGHT_Q6_K, block, g, numbers); return;
    case WEIGHT_IQ4_NL: dequantise_kind(WEIGHT_IQ4_NL, block, g, numbers); return;
    case WEIGHT_IQ4_XS: dequantise_kind(WEIGHT_IQ4_XS, block, g, numbers); return;
    }
}
