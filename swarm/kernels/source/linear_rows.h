/* Rows as linear layers compute with them, in the order in which they are read: a block of rows side by side, and for float weights
   one step after another, in each block by block.

   A step is some groups of one slice. A block of R rows is of floats [input][R], of integers [group][R][32] bytes, or [group][R][2][32]
   where they are wide, low bytes first; [group][R] steps of the integers and [group][R] starts. */
#pragma once
#include "lanes.h"
#include "path.h"
#include "quantise.h"
#include "unpack.h"

#if PATH == PATH_AVX512
#define ROWS 6         /* of a block of floats, at most: with four tiles 24 sums, of 32 registers */
#define INTEGER_ROWS 8 /* likewise of integers: 8 sums of a group, and 8 of a slice */
#define TALL_FLOATS 4  /* tiles against a block of rows */
#define FEW_FLOATS 4   /* rows at most that read float weights as they lie */
#elif PATH == PATH_AVX2 || PATH == PATH_NEON
#define ROWS 6 /* with one tile 12 sums, of 16 registers; with NEON 24 of 32 */
#define INTEGER_ROWS 6
#define TALL_FLOATS 1
#define FEW_FLOATS 1
#else
#define ROWS 2
#define INTEGER_ROWS 2
#define TALL_FLOATS 1
#define FEW_FLOATS 0
#endif

#define WIDE_ROWS (INTEGER_ROWS / 2) /* of integers whose numbers take two bytes */
#define STEP 2 /* groups of floats at a time: with PANEL tiles 16 KiB of the first cache */

static int slice_start(int slice, int groups) { return slice * groups / SLICES; }
static int steps_of_slice(const struct weight *weight) { /* at most */
    const int most = (weight->groups + SLICES - 1) / SLICES;
    return weight->kind >= WEIGHT_INT8 ? 1 : (most + STEP - 1) / STEP;
}

INLINE int is_wide(const struct weight *weight) { return weight->kind >= WEIGHT_INT8 && weight->wide; }
/* Bytes of a row's group of integers. */
INLINE int group_bytes(const struct weight *weight) { return is_wide(weight) ? 2 * GROUP : GROUP; }

static int blocks_of(const struct weight *weight, int count) {
    const int most = is_wide(weight) ? WIDE_ROWS : weight->kind >= WEIGHT_INT8 ? INTEGER_ROWS : ROWS;
    return (count + most - 1) / most;
}
/* Blocks differ by one row at most, so that the last is no slow remainder; the larger ones come first. */
static int block_start(const struct weight *weight, int block, int count) {
    const int blocks = blocks_of(weight, count), more = count % blocks;
    return block * (count / blocks) + (block < more ? block : more);
}

/* Where the block that begins with row `first` has its `count` groups from `start` on, which are a step: in groups of rows. */
INLINE int64_t place_of(int start, int count, int rows, int first) { return (int64_t)start * rows + (int64_t)first * count; }

struct prepared {
    float *steps;        /* of integers */
    int32_t *starts;     /* what a sum of products starts from, since weights are stored without their sign (`zero_of`); the sums of the
                            rows' integers where there are minima; two for a group where each half has a scale of its own */
    int8_t *bytes;
    const float *floats; /* of float weights */
};

/* For each group of a row. */
INLINE int starts_of(int kind) { return by_halves(kind) ? 2 : 1; }

static int as_they_are(const struct weight *weight, int count) { return weight->kind < WEIGHT_INT8 && count == 1 && weight->inputs % GROUP == 0; }

/* Bytes that `count` rows take when they are prepared. */
static int64_t linear_room(const struct weight *weight, int count) {
    const int64_t groups = (int64_t)weight->groups * count;
    if (weight->kind >= WEIGHT_INT8) return groups * (int64_t)((size_t)group_bytes(weight) + sizeof(float) + sizeof(int32_t) * (size_t)starts_of(weight->kind));
    return as_they_are(weight, count) ? 0 : groups * GROUP * (int64_t)sizeof(float);
}

static struct prepared prepared_of(const struct linear *work) {
    const int64_t groups = (int64_t)work->weight->groups * work->count;
    if (as_they_are(work->weight, work->count)) return (struct prepared){.floats = work->rows};
    if (work->weight->kind < WEIGHT_INT8) return (struct prepared){.floats = work->room};
    float *steps = work->room;
    int32_t *starts = (int32_t *)(steps + groups);
    return (struct prepared){.steps = steps, .starts = starts, .bytes = (int8_t *)(starts + groups * starts_of(work->weight->kind))};
}

/* In how many parts rows are prepared; 0 where they are used as they are. */
static int64_t prepare_units(const struct linear *work) {
    return as_they_are(work->weight, work->count) ? 0 : (int64_t)blocks_of(work->weight, work->count) * steps_of_slice(work->weight) * SLICES;
}

/* Group `group` of R rows from `first` on; `at` is its place among all groups of rows. */
static void prepare_group(const struct linear *work, const struct prepared *prepared, int first, int R, int group, int64_t at) {
    const int kind = work->weight->kind, left = work->weight->inputs - group * GROUP, some = left < GROUP ? left : GROUP;
    for (int row = 0; row < R; row++) {
        const float *x = work->rows + (first + row) * work->ld_rows + (int64_t)group * GROUP;
        float padded[GROUP] = {0};
        if (some < GROUP) x = memcpy(padded, x, sizeof(float) * (size_t)some);
        if (kind < WEIGHT_INT8) {
            float *floats = (float *)work->room + at * GROUP + row;
            for (int i = 0; i < GROUP; i++) floats[i * R] = x[i];
        } else {
            const int wide = is_wide(work->weight);
            int8_t *bytes = prepared->bytes + (at + row) * group_bytes(work->weight);
            int32_t *starts = prepared->starts + (at + row) * starts_of(kind);
            float *step = prepared->steps + at + row;
            starts[0] = wide ? quantise_wide(x, GROUP, bytes, step) : quantise(x, GROUP, bytes, step);
            if (by_halves(kind)) {
                starts[1] = 0;
                for (int i = GROUP / 2; i < GROUP; i++) starts[1] += bytes[i] + (wide ? RADIX * bytes[GROUP + i] : 0);
                starts[0] -= starts[1];
                starts[1] *= -zero_of(kind);
            }
            starts[0] *= with_minimum(kind) ? 1 : -zero_of(kind);
        }
    }
}

/* Parts `from` to `to` - 1. All must be done, by whichever threads, before the first tile is computed. */
static void prepare_rows(const struct linear *work, int64_t from, int64_t to) {
    const struct weight *weight = work->weight;
    const struct prepared prepared = prepared_of(work);
    const int kind = weight->kind, blocks = blocks_of(weight, work->count), steps = steps_of_slice(weight);
    for (int64_t unit = from; unit < to; unit++) {
        const int block = (int)(unit % blocks), slice = (int)(unit / blocks) / steps;
        const int start = slice_start(slice, weight->groups) + (int)(unit / blocks) % steps * STEP;
        const int left = slice_start(slice + 1, weight->groups) - start, count = steps == 1 || left < STEP ? left : STEP;
        const int first = block_start(weight, block, work->count), R = block_start(weight, block + 1, work->count) - first;
        const int64_t at = kind >= WEIGHT_INT8 ? place_of(0, weight->groups, work->count, first) + (int64_t)start * R
                                               : place_of(start, count, work->count, first);
        for (int g = 0; g < count; g++) prepare_group(work, &prepared, first, R, start + g, at + (int64_t)g * R);
    }
}
