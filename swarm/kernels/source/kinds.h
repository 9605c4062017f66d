/* How the integers of each kind of weight are stored: bytes of a tile's group, and of the scales of a tile's block of groups. */
#pragma once
#include "portable.h"

/* A group of 16 outputs by 32 inputs: bytes; or nibbles [4][16][4], input i in the low half and i + 16 in the high half of a byte, and
   behind them the bits beyond the fourth: one [16][4], bit i of a byte that of input 4i + byte; or two [2][16][4], likewise of 16 inputs
   each. */
static inline int integer_bytes(int kind) {
    switch (kind) {
    case WEIGHT_INT8:
    case WEIGHT_INT8_SHARED: return 512;
    case WEIGHT_INT5:
    case WEIGHT_INT5_MINIMUM:
    case WEIGHT_Q5_K: return 256 + 64;
    case WEIGHT_Q6_K: return 256 + 128;
    default: return 256;
    }
}

/* 2^scale_shift groups have their scales stored together. */
static inline int scale_shift(int kind, int shift) {
    switch (kind) {
    case WEIGHT_Q4_K:
    case WEIGHT_Q5_K:
    case WEIGHT_Q6_K:
    case WEIGHT_IQ4_XS: return 3;
    case WEIGHT_INT4_ZERO:
    case WEIGHT_INT8_SHARED: return shift;
    default: return 0;
    }
}
static inline int64_t scale_blocks(int kind, int shift, int groups) { return groups ? ((groups - 1) >> scale_shift(kind, shift)) + 1 : 0; }

/* Bytes of these, of 16 outputs: scales as halves [16]; Q4_K and Q5_K then minima likewise; then rows of bytes [][16], as a block of
   llama.cpp has them one after the other, or zeros. */
static inline int scale_bytes(int kind) {
    switch (kind) {
    case WEIGHT_Q4_K:
    case WEIGHT_Q5_K: return 64 + 12 * 16;
    case WEIGHT_Q6_K: return 32 + 16 * 16;
    case WEIGHT_IQ4_XS: return 32 + 6 * 16;
    case WEIGHT_INT4_ZERO: return 32 + 16;
    default: return 32;
    }
}

/* Whether minima lie in an array of their own, as halves. */
static inline int minima_apart(int kind) { return kind == WEIGHT_INT4_MINIMUM || kind == WEIGHT_INT5_MINIMUM; }
