/* Float weights of a few tiles as many rows read them, as binary32. */
#pragma once
#include "linear_floats.h"

#define PANEL 4 /* tiles at a time: sums that do not wait for each other */
#define ALIGNED __attribute__((aligned(64)))

#if PATH == PATH_PLAIN
#define FETCH_FAR(place) ((void)(place))
#else
#define FETCH_FAR(place) __builtin_prefetch(place, 0, 2) /* into the second cache */
#endif

INLINE int group_size(int kind) { return GROUP * LANES * (kind == WEIGHT_FP32 ? 4 : 2); } /* bytes of a tile's group */

/* What several rows share: some groups of PANEL tiles side by side, so that a block of rows reads them as one stream. */
struct opened {
    ALIGNED float floats[STEP][GROUP][PANEL][LANES];
    int count; /* groups */
};

/* Groups `group` to `group` + `count` - 1 of some tiles. */
static void open_groups(const struct weight *weight, int tile, int tiles, int group, int count, struct opened *opened) {
    opened->count = count;
    for (int t = 0; t < tiles; t++) {
        const int64_t first = (int64_t)(tile + t) * weight->groups + group;
        const uint8_t *numbers = (const uint8_t *)weight->numbers + first * group_size(weight->kind);
        spread_floats(weight->kind, numbers, count * GROUP, PANEL * LANES, opened->floats[0][0][t]);
    }
}
