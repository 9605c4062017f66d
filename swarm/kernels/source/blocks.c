/* Weights from blocks as llama.cpp lays them to the tiles of kinds.h. Nothing is rounded. */
#include <string.h>
#include "kinds.h"
#include "pool.h"

#define LAID_ALONE (1 << 16) /* bytes below which one thread lays them */

#define WORDS (GROUP / 4) /* of a group's numbers, four in a word */
#define EACH(bits) ((bits) * 0x01010101u) /* in each byte of a word */

struct block {
    int groups, bytes;  /* of one */
    int numbers, scale; /* where the nibbles or bytes begin, and the scale in binary16 */
    int packed, count;  /* where scales of groups begin, and their bytes */
};

/* `row_bytes` matter where all groups of a row share a scale. */
static struct block block_of(int kind, int shift, int64_t row_bytes) {
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

static uint32_t word_at(const uint8_t *bytes) {
    uint32_t word;
    memcpy(&word, bytes, 4);
    return word;
}

/* Four bits, each in a byte of its own. */
static uint32_t apart(uint32_t bits) { return ((bits & 15) * 0x00204081u) & EACH(1); }

/* Word i of group g of a block: numbers 4i to 4i + 3. */
static uint32_t read_word(int kind, const uint8_t *numbers, int g, int i) {
    const uint32_t half = word_at(numbers + g * 16 + i % 4 * 4) >> i / 4 * 4 & EACH(15); /* of 16 bytes: lower halves, then upper ones */
    switch (kind) {
    case WEIGHT_INT8:
    case WEIGHT_INT8_SHARED: return word_at(numbers + g * 32 + i * 4) ^ EACH(128);
    case WEIGHT_INT5:
    case WEIGHT_INT5_MINIMUM: return half | apart(word_at(numbers - 4) >> 4 * i) << 4;
    case WEIGHT_Q4_K: return word_at(numbers + g / 2 * 32 + i * 4) >> g % 2 * 4 & EACH(15);
    case WEIGHT_Q5_K:
        return (word_at(numbers + g / 2 * 32 + i * 4) >> g % 2 * 4 & EACH(15)) | (word_at(numbers - 32 + i * 4) >> g & EACH(1)) << 4;
    case WEIGHT_Q6_K:
        return (word_at(numbers + g / 4 * 64 + g % 2 * 32 + i * 4) >> g % 4 / 2 * 4 & EACH(15)) |
               (word_at(numbers + 128 + g / 4 * 32 + i * 4) >> g % 4 * 2 & EACH(3)) << 4;
    default: return half;
    }
}

/* Group g of a block to a lane of a tile. */
static void place_numbers(int kind, const uint8_t *numbers, int g, uint8_t *place) {
    uint32_t words[WORDS], placed[WORDS] = {0};
    const int count = integer_bytes(kind) / 64;
    for (int i = 0; i < WORDS; i++) words[i] = read_word(kind, numbers, g, i);
    if (count == WORDS) memcpy(placed, words, sizeof placed);
    else for (int i = 0; i < WORDS; i++) {
        placed[i % 4] |= (words[i] & EACH(15)) << i / 4 * 4;
        if (count == 5) placed[4] |= (words[i] >> 4 & EACH(1)) << i;
        if (count == 6) placed[4 + i / 4] |= (words[i] >> 4 & EACH(3)) << i % 4 * 2;
    }
    for (int i = 0; i < count; i++) memcpy(place + i * 64, placed + i, 4);
}

struct laying {
    const struct weight *weight;
    struct block one;
    int from, count;
    const uint8_t *rows;
    int64_t row_bytes;
};

static void lay_row(const struct laying *work, int row) {
    const struct weight *weight = work->weight;
    const struct block one = work->one;
    const int kind = weight->kind, groups = weight->groups;
    const int64_t bytes = integer_bytes(kind), blocks = scale_blocks(kind, weight->shift, groups);
    const int halves = (scale_bytes(kind) - 16 * one.count) / 32; /* the scale, and perhaps the scale of minima */
    const int64_t tile = (work->from + row) / 16, lane = (work->from + row) % 16;
    const uint8_t *block = work->rows + row * work->row_bytes;
    for (int64_t b = 0; b < work->row_bytes / one.bytes; b++, block += one.bytes) {
        for (int g = 0; g < one.groups; g++)
            place_numbers(kind, block + one.numbers, g, (uint8_t *)weight->numbers + (tile * groups + b * one.groups + g) * bytes + lane * 4);
        uint8_t *place = (uint8_t *)weight->scales + (tile * blocks + b) * scale_bytes(kind);
        for (int half = 0; half < halves; half++) memcpy(place + half * 32 + lane * 2, block + one.scale + half * 2, 2);
        for (int j = 0; j < one.count; j++) place[halves * 32 + j * 16 + lane] = block[one.packed + j];
        if (minima_apart(kind)) memcpy((uint8_t *)weight->minima + (tile * groups + b) * 32 + lane * 2, block + 2, 2);
    }
}

static void laying_job(void *argument, int thread, struct team *team) {
    const struct laying *work = argument;
    int64_t from, to;
    share_of(work->count, thread, team, &from, &to); /* an output's bytes are nobody else's */
    for (int64_t row = from; row < to; row++) lay_row(work, (int)row);
}

/* Rows of blocks, `row_bytes` each, as outputs `from` onwards, into a weight of zeros. A row may have fewer groups. -1 where the kind has
   no blocks, or they do not fit. */
int swarm_pack_blocks(const struct weight *weight, int from, int count, const uint8_t *rows, int64_t row_bytes) {
    struct laying work = {weight, block_of(weight->kind, weight->shift, row_bytes), from, count, rows, row_bytes};
    if (work.one.bytes < 1 || row_bytes % work.one.bytes || row_bytes / work.one.bytes * work.one.groups > weight->groups) return -1;
    run_job(laying_job, &work, count * row_bytes < LAID_ALONE ? 1 : swarm_threads());
    return 0;
}
