/* Weights of a few tiles as many rows read them: floats as binary32, integers one to a byte, with their scales as binary32. */
#pragma once
#include "linear_floats.h"
#include "linear_integers.h"

#define PANEL 4        /* tiles at a time: several streams read memory faster than one */
#define ALIGNED __attribute__((aligned(64)))

#if PATH == PATH_PLAIN
#define FETCH(place) ((void)(place))
#define FETCH_FAR(place) ((void)(place))
#else
#define FETCH(place) __builtin_prefetch(place, 0, 3)
#define FETCH_FAR(place) __builtin_prefetch(place, 0, 2) /* into the second cache */
#endif

/* Of one tile. */
INLINE const uint8_t *scales_of(const struct weight *weight, int tile) {
    return (const uint8_t *)weight->scales + tile * scale_blocks(weight->kind, weight->shift, weight->groups) * scale_bytes(weight->kind);
}
INLINE const uint16_t *minima_of(const struct weight *weight, int tile) {
    return minima_apart(weight->kind) ? weight->minima + (int64_t)tile * weight->groups * LANES : NULL;
}

INLINE int group_size(int kind) { /* bytes of a tile's group */
    return kind >= WEIGHT_INT8 ? integer_bytes(kind) : GROUP * LANES * (kind == WEIGHT_FP32 ? 4 : 2);
}

/* What several rows share: some groups of PANEL tiles side by side, so that a block of rows reads them as one stream. */
struct opened {
    union {
        ALIGNED uint8_t bytes[STEP][8][PANEL][64];
        ALIGNED float floats[FLOAT_STEP][GROUP][PANEL][LANES];
    };
    ALIGNED lanes scales[STEP][PANEL];
    ALIGNED lanes seconds[STEP][PANEL]; /* minima, or scales of second halves */
    int count; /* groups */
};

/* Groups `group` to `group` + `count` - 1 of some tiles. */
INLINE void open_integers(int kind, const struct weight *weight, int tile, int tiles, int group, int count, struct opened *opened) {
    const int size = scale_bytes(kind), shift = scale_shift(kind, weight->shift);
    for (int t = 0; t < tiles; t++) {
        const uint8_t *numbers = (const uint8_t *)weight->numbers + ((int64_t)(tile + t) * weight->groups + group) * integer_bytes(kind);
        open_numbers(kind, numbers, count, PANEL * 64, opened->bytes[0][0][t]);
        const uint8_t *scales = scales_of(weight, tile + t);
        const uint16_t *minima = minima_of(weight, tile + t);
        /* what is opened next: the groups behind these or, at a tile's end, the first ones of the next tiles */
        const int tiles_on = group + count < weight->groups ? 0 : PANEL - 1, then = group + count;
        const uint8_t *next = scales + (tiles_on * scale_blocks(kind, weight->shift, weight->groups) + (then >> shift)) * size;
        for (int byte = 0; byte < count * size >> shift; byte += 64) FETCH_FAR(next + byte);
        if (minima_apart(kind))
            for (int g = 0; g < count; g += 2) FETCH_FAR(minima + ((int64_t)tiles_on * weight->groups + then + g) * LANES);
        for (int g = 0; g < count; g++) load_scales(kind, weight->shift, scales, minima, group + g, &opened->scales[g][t], &opened->seconds[g][t]);
    }
}

#define OPEN(kind) case kind: open_integers(kind, weight, tile, tiles, group, count, opened); break
static void open_groups(const struct weight *weight, int tile, int tiles, int group, int count, struct opened *opened) {
    opened->count = count;
    switch (weight->kind) {
    OPEN(WEIGHT_INT8);
    OPEN(WEIGHT_INT4);
    OPEN(WEIGHT_INT4_MINIMUM);
    OPEN(WEIGHT_INT5);
    OPEN(WEIGHT_INT5_MINIMUM);
    OPEN(WEIGHT_Q4_K);
    OPEN(WEIGHT_Q5_K);
    OPEN(WEIGHT_Q6_K);
    OPEN(WEIGHT_IQ4_NL);
    OPEN(WEIGHT_IQ4_XS);
    OPEN(WEIGHT_INT4_ZERO);
    OPEN(WEIGHT_INT8_SHARED);
    default:
        for (int t = 0; t < tiles; t++) {
            const int64_t first = (int64_t)(tile + t) * weight->groups + group;
            const uint8_t *numbers = (const uint8_t *)weight->numbers + first * group_size(weight->kind);
            spread_floats(weight->kind, numbers, count * GROUP, PANEL * LANES, opened->floats[0][0][t]);
        }
    }
}
