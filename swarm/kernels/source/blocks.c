/* Weights from blocks as llama.cpp lays them to the tiles of kinds.h. Nothing is rounded. */
#include "pool.h"
#include "stored_blocks.h"

#define LAID_ALONE (1 << 16) /* bytes below which one thread lays them */

/* Group g of a block to a lane of a tile. */
static void place_numbers(int kind, const uint8_t *numbers, int g, uint8_t *place) {
    uint32_t words[WORDS], placed[WORDS] = {0};
    const int count = integer_bytes(kind) / 64;
    for (int i = 0; i < WORDS; i++) words[i] = read_word(kind, numbers, g, i);
    if (count == WORDS) memcpy(placed, words, sizeof placed);
    else for (int i = 0; i < WORDS; i++) {
        placed[i % 4] |= (words[i] & EACH_BYTE(15)) << i / 4 * 4;
        if (count == 5) placed[4] |= (words[i] >> 4 & EACH_BYTE(1)) << i;
        if (count == 6) placed[4 + i / 4] |= (words[i] >> 4 & EACH_BYTE(3)) << i % 4 * 2;
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
