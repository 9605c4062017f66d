/* Weights from blocks as llama.cpp lays them (Q8_0, Q4_0, Q4_1) to the tiles of packing.c. Nothing is rounded. */
#include <string.h>
#include "portable.h"

#define WORDS (GROUP / 4) /* of a group's numbers, four in a word */

static uint32_t word_at(const uint8_t *bytes, int number) {
    uint32_t word;
    memcpy(&word, bytes + 4 * number, 4);
    return word;
}

/* Bytes of a block of 32 numbers; 0 where a kind has none. */
static int block_bytes(int kind) {
    switch (kind) {
    case WEIGHT_INT8: return 34;
    case WEIGHT_INT4: return 18;
    case WEIGHT_INT4_MINIMUM: return 20;
    default: return 0;
    }
}

/* One group's numbers to its lane of a tile. */
static void place_numbers(int kind, const uint8_t *block, uint8_t *place) {
    const uint8_t *numbers = block + (kind == WEIGHT_INT4_MINIMUM ? 4 : 2);
    const int words = kind == WEIGHT_INT8 ? WORDS : WORDS / 2;
    for (int i = 0; i < words; i++) {
        uint32_t word = word_at(numbers, i); /* of nibbles the file's order is the tile's */
        if (kind == WEIGHT_INT8) word ^= 0x80808080u;
        memcpy(place + i * 64, &word, 4);
    }
}

/* Rows of blocks, `row_bytes` each, as outputs `from` onwards of `groups` groups, into packed zeros. A row may have fewer groups. -1
   where the kind has no blocks. */
int swarm_pack_blocks(int kind, int from, int count, int groups, const uint8_t *rows, int64_t row_bytes, uint8_t *packed, uint16_t *scales,
                      uint16_t *minima) {
    const int size = block_bytes(kind);
    if (!size || row_bytes % size || row_bytes / size > groups) return -1;
    const int64_t bytes = kind == WEIGHT_INT8 ? GROUP * 16 : GROUP * 8;
    for (int i = 0; i < count; i++) {
        const int64_t tile = (from + i) / 16, lane = (from + i) % 16;
        const uint8_t *block = rows + i * row_bytes;
        for (int64_t g = 0; g < row_bytes / size; g++, block += size) {
            const int64_t group = tile * groups + g;
            place_numbers(kind, block, packed + group * bytes + lane * 4);
            memcpy(scales + group * 16 + lane, block, 2);
            if (kind == WEIGHT_INT4_MINIMUM) memcpy(minima + group * 16 + lane, block + 2, 2);
        }
    }
    return 0;
}
