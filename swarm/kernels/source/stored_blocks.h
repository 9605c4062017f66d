/* Blocks as llama.cpp lays them: where in one its numbers and scales lie, and its numbers four by four. */
#pragma once
#include <string.h>
#include "kinds.h"

#define WORDS (GROUP / 4) /* of a group's numbers, four in a word */
#define EACH_BYTE(bits) ((bits) * 0x01010101u) /* in each byte of a word */

struct block {
    int groups, bytes;  /* of one */
    int numbers, scale; /* where the nibbles or bytes begin, and the scale in binary16 */
    int packed, count;  /* where scales of groups begin, and their bytes */
};

/* `row_bytes` matter where all groups of a row share a scale. */
static inline struct block block_of(int kind, int shift, int64_t row_bytes) {
    const int all = shift == 31, shared = all ? 0 : 1 << shift;
    switch (kind) {
    case WEIGHT_INT4_ZERO: return (struct block){all ? (int)(row_bytes - 4) / 16 : shared, all ? (int)row_bytes : 4 + 16 * shared, 4, 0, 2, 1};
    case WEIGHT_INT8_SHARED: return (struct block){all ? (int)(row_bytes - 2) / 32 : shared, all ? (int)row_bytes : 2 + 32 * shared, 2, 0, 0, 0};
    case WEIGHT_INT8: return (struct block){1, 34, 2, 0, 0, 0};
    case WEIGHT_INT4:
    case WEIGHT_IQ4_NL: return (struct block){1, 18, 2, 0, 0, 0};
    case WEIGHT_INT4_MINIMUM: return (struct block){1, 20, 4, 0, 0, 0};
    case WEIGHT_INT5: return (struct block){1, 22, 6, 0, 0, 0};
    case WEIGHT_INT5_MINIMUM: return (struct block){1, 24, 8, 0, 0, 0};
    case WEIGHT_Q4_K: return (struct block){8, 144, 16, 0, 4, 12};
    case WEIGHT_Q5_K: return (struct block){8, 176, 48, 0, 4, 12};
    case WEIGHT_Q6_K: return (struct block){8, 210, 0, 208, 192, 16};
    case WEIGHT_IQ4_XS: return (struct block){8, 136, 8, 0, 2, 6};
    default: return (struct block){0};
    }
}

static inline uint32_t word_at(const uint8_t *bytes) {
    uint32_t word;
    memcpy(&word, bytes, 4);
    return word;
}

/* Four bits, each in a byte of its own. */
static inline uint32_t apart(uint32_t bits) { return ((bits & 15) * 0x00204081u) & EACH_BYTE(1); }

/* Word i of group g of a block: numbers 4i to 4i + 3. */
static inline __attribute__((always_inline)) uint32_t read_word(int kind, const uint8_t *numbers, int g, int i) {
    const uint32_t half = word_at(numbers + g * 16 + i % 4 * 4) >> i / 4 * 4 & EACH_BYTE(15); /* of 16 bytes: lower halves, then upper ones */
    switch (kind) {
    case WEIGHT_INT8:
    case WEIGHT_INT8_SHARED: return word_at(numbers + g * 32 + i * 4) ^ EACH_BYTE(128);
    case WEIGHT_INT5:
    case WEIGHT_INT5_MINIMUM: return half | apart(word_at(numbers - 4) >> 4 * i) << 4;
    case WEIGHT_Q4_K: return word_at(numbers + g / 2 * 32 + i * 4) >> g % 2 * 4 & EACH_BYTE(15);
    case WEIGHT_Q5_K:
        return (word_at(numbers + g / 2 * 32 + i * 4) >> g % 2 * 4 & EACH_BYTE(15)) | (word_at(numbers - 32 + i * 4) >> g & EACH_BYTE(1)) << 4;
    case WEIGHT_Q6_K:
        return (word_at(numbers + g / 4 * 64 + g % 2 * 32 + i * 4) >> g % 4 / 2 * 4 & EACH_BYTE(15)) |
               (word_at(numbers + 128 + g / 4 * 32 + i * 4) >> g % 4 * 2 & EACH_BYTE(3)) << 4;
    default: return half;
    }
}

/* Whether blocks of a kind are made floats by dequantise.h. */
static inline int becomes_floats(int kind) { return kind >= WEIGHT_INT8 && kind <= WEIGHT_IQ4_XS; }

/* Whether rows of such blocks have so many columns. */
static inline int whole_blocks(int kind, int columns, int64_t row_bytes) {
    const struct block one = block_of(kind, 0, 0);
    return row_bytes >= 0 && row_bytes % one.bytes == 0 && row_bytes / one.bytes * one.groups * GROUP == columns;
}
