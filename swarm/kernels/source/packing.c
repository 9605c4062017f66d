/* Weights from rows as checkpoints have them to tiles of 16 outputs, in which lanes are outputs and inputs ascend.

   fp32, fp16: [tile][input][16]; bf16: [tile][input / 2][16][2]; int8: [tile][group][8][16][4], bytes + 128; others: see kinds.h. Scales
   and minima: [tile][group][16]. Outputs and inputs that there are not are zeros. */
#include <string.h>
#include "kinds.h"
#include "pool.h"

#define PACKED_AT_ONCE 64     /* inputs of a tile */
#define PACKED_ALONE (1 << 16) /* numbers below which one thread packs them */

static int number_bytes(int kind) { return kind == WEIGHT_FP32 ? 4 : 2; }

int64_t swarm_packed_bytes(int kind, int outputs, int inputs) {
    int64_t tiles = (outputs + 15) / 16, groups = (inputs + GROUP - 1) / GROUP;
    if (kind >= WEIGHT_INT8) return tiles * groups * integer_bytes(kind);
    return tiles * groups * GROUP * 16 * number_bytes(kind);
}

int64_t swarm_scale_bytes(int kind, int shift, int outputs, int inputs) {
    return kind >= WEIGHT_INT8 ? (outputs + 15) / 16 * scale_blocks(kind, shift, (inputs + GROUP - 1) / GROUP) * scale_bytes(kind) : 0;
}

int swarm_has_minima(int kind) { return minima_apart(kind); }

struct packing {
    int kind, from, count, inputs, columns;
    const void *rows;
    void *packed;
};

/* One output's numbers from `first` to `last` - 1 into its lane. bf16 goes in pairs, whose last may be one alone. */
static void pack_lane(const struct packing *work, int row, int first, int last) {
    const int64_t groups = (work->inputs + GROUP - 1) / GROUP, output = work->from + row;
    const int64_t at = output / 16 * groups * GROUP * 16, lane = output % 16;
    if (work->kind == WEIGHT_FP32) {
        const uint32_t *x = (const uint32_t *)work->rows + row * (int64_t)work->columns;
        uint32_t *to = (uint32_t *)work->packed + at + lane;
        for (int k = first; k < last; k++) to[k * 16] = x[k];
        return;
    }
    const uint16_t *x = (const uint16_t *)work->rows + row * (int64_t)work->columns;
    uint16_t *to = (uint16_t *)work->packed + at;
    if (work->kind == WEIGHT_FP16) {
        for (int k = first; k < last; k++) to[k * 16 + lane] = x[k];
        return;
    }
    int k = first;
    for (; k + 1 < last; k += 2) memcpy(to + k * 16 + lane * 2, x + k, 4);
    if (k < last) to[k * 16 + lane * 2] = x[k];
}

/* Threads have tiles of their own; of a tile so many inputs at a time stay in the cache. */
static void packing_job(void *argument, int thread, struct team *team) {
    const struct packing *work = argument;
    const int first_tile = work->from / 16, tiles = (work->from + work->count + 15) / 16 - first_tile;
    int64_t from, to;
    share_of(tiles, thread, team, &from, &to);
    for (int64_t tile = first_tile + from; tile < first_tile + to; tile++) {
        const int64_t own = tile * 16 - work->from;
        const int first = own > 0 ? (int)own : 0, last = own + 16 < work->count ? (int)own + 16 : work->count;
        for (int at = 0; at < work->columns; at += PACKED_AT_ONCE)
            for (int row = first; row < last; row++)
                pack_lane(work, row, at, at + PACKED_AT_ONCE < work->columns ? at + PACKED_AT_ONCE : work->columns);
    }
}

/* Rows of [count][columns] numbers, as outputs `from` onwards, into packed zeros of so many inputs, which are no fewer. */
void swarm_pack_floats(int kind, int from, int count, int inputs, int columns, const void *rows, void *packed) {
    struct packing work = {kind, from, count, inputs, columns, rows, packed};
    run_job(packing_job, &work, (int64_t)count * columns < PACKED_ALONE ? 1 : swarm_threads());
}
