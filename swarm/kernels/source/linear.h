/* Linear layers. Lanes are outputs, so a row's bits depend on that row alone, however many are computed together.

   Integers are read as they lie by each block of rows, and floats by few rows; many rows share floats that are opened of a few tiles at a
   time, which stay in the first cache meanwhile. */
#pragma once
#include "linear_integers.h"
#include "opened.h"

#define CHUNK 16 /* blocks of rows whose sums are kept meanwhile */
#define DEPTH 4  /* sums of slices that wait for their partner: 1 of 4, 1 of 2, 1 of 1, and the newest */

INLINE void emit(const struct linear *work, int row, int tile, lanes sum) {
    const struct weight *weight = work->weight;
    float *out = work->out + row * work->ld_out + tile * LANES;
    int left = weight->outputs - tile * LANES;
    if (work->bias) sum = add(sum, left >= LANES ? load(work->bias + tile * LANES) : load_some(work->bias + tile * LANES, left));
    if (left >= LANES) store(out, sum);
    else store_some(out, sum, left);
}

/* All rows, which must be prepared, with a tile of integers. */
static void integer_tile(const struct linear *work, const struct prepared *prepared, int tile) {
    const struct weight *weight = work->weight;
    const int kind = weight->kind, blocks = blocks_of(weight, work->count);
    for (int block = 0; block < blocks; block++) {
        const int first = block_start(weight, block, work->count), R = block_start(weight, block + 1, work->count) - first;
        const int64_t at = place_of(0, weight->groups, work->count, first);
        const struct prepared x = {
            .steps = prepared->steps + at, .starts = prepared->starts + at * starts_of(kind), .bytes = prepared->bytes + at * group_bytes(weight)};
        lanes sums[INTEGER_ROWS];
        if (is_wide(weight)) wide_kernels[kind][R - 1](weight, &x, tile, sums);
        else integer_kernels[kind][R - 1](weight, &x, tile, sums);
        for (int r = 0; r < R; r++) emit(work, first + r, tile, sums[r]);
    }
}

#if FEW_FLOATS
/* The R rows that there are, and PANEL tiles from `tile` on, which are read as they lie. */
INLINE void few_rows(int kind, int R, const struct linear *work, const struct prepared *x, int tile) {
    const struct weight *weight = work->weight;
    const int groups = weight->groups, size = group_size(kind);
    const uint8_t *numbers[PANEL];
    UNROLL for (int t = 0; t < PANEL; t++) numbers[t] = (const uint8_t *)weight->numbers + (int64_t)(tile + t) * groups * size;
    lanes sums[SLICES * FEW_FLOATS * PANEL];
    for (int slice = 0; slice < SLICES; slice++) {
        lanes part[FEW_FLOATS * PANEL];
        UNROLL for (int i = 0; i < R * PANEL; i++) part[i] = set(0);
        for (int g = slice_start(slice, groups); g < slice_start(slice + 1, groups); g++) {
            for (int k = 0; k < GROUP; k += 2) add_inputs(kind, R, PANEL, (const void *const *)numbers, k, LANES, x->floats + g * (R * GROUP), part);
            UNROLL for (int t = 0; t < PANEL; t++) numbers[t] += size;
        }
        UNROLL for (int i = 0; i < R * PANEL; i++) sums[slice * R * PANEL + i] = part[i];
    }
    for (int width = 1; width < SLICES; width *= 2)
        for (int slice = 0; slice < SLICES; slice += 2 * width)
            UNROLL for (int i = 0; i < R * PANEL; i++)
                sums[slice * R * PANEL + i] = add(sums[slice * R * PANEL + i], sums[(slice + width) * R * PANEL + i]);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int t = 0; t < PANEL; t++) emit(work, r, tile + t, sums[r * PANEL + t]);
}

typedef void few_kernel(const struct linear *work, const struct prepared *x, int tile);
#define FEW_KERNEL(kind, R) static void kind##_##R(const struct linear *work, const struct prepared *x, int tile) { few_rows(kind, R, work, x, tile); }
#if FEW_FLOATS == 4
#define FEW_KERNELS(kind) FEW_KERNEL(kind, 1) FEW_KERNEL(kind, 2) FEW_KERNEL(kind, 3) FEW_KERNEL(kind, 4)
#define FEW_OF(kind) {kind##_1, kind##_2, kind##_3, kind##_4}
#else
#define FEW_KERNELS(kind) FEW_KERNEL(kind, 1)
#define FEW_OF(kind) {kind##_1}
#endif
FEW_KERNELS(WEIGHT_FP32)
FEW_KERNELS(WEIGHT_BF16)
FEW_KERNELS(WEIGHT_FP16)
static few_kernel *const few_kernels[][FEW_FLOATS] = {FEW_OF(WEIGHT_FP32), FEW_OF(WEIGHT_BF16), FEW_OF(WEIGHT_FP16)};
#endif

/* Which weights to ask memory for meanwhile: those of the next groups, `each` lines of 64 bytes with each group of a
   block of integers and each two inputs of floats. */
struct ahead {
    const uint8_t *line, *end; /* of a tile's */
    int64_t size, stride;      /* of a tile's, and from tile to tile, in bytes */
    int tiles, each;
};

INLINE void fetch_ahead(struct ahead *ahead) {
    for (int i = 0; i < ahead->each; i++, ahead->line += 64) {
        if (ahead->line == ahead->end) {
            if (!--ahead->tiles) ahead->each = 0;
            ahead->line = ahead->end += ahead->stride - ahead->size;
            ahead->end += ahead->size;
        }
        FETCH_FAR(ahead->line);
    }
}

/* What `blocks` blocks of R rows and T tiles from `tile` of the panel come to; `at` is the place of the first block's first opened group. */
typedef void block_kernel(const struct opened *opened, int tile, const struct prepared *x, int64_t at, int blocks, struct ahead *ahead, lanes *parts);

INLINE void floats_block(int R, int T, const struct opened *opened, int tile, const struct prepared *x, int64_t at, int blocks, struct ahead *ahead,
                         lanes *parts) {
    const int count = opened->count;
    const float *floats = x->floats + at * GROUP;
    for (int block = 0; block < blocks; block++, parts += R * PANEL) {
        lanes sums[ROWS * 4];
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int t = 0; t < T; t++) sums[r * T + t] = parts[r * PANEL + t];
        for (int g = 0; g < count; g++, floats += R * GROUP) {
            const void *numbers[4];
            UNROLL for (int t = 0; t < T; t++) numbers[t] = opened->floats[g][0][tile + t];
            for (int k = 0; k < GROUP; k += 2) {
                add_inputs(WEIGHT_FP32, R, T, numbers, k, PANEL * LANES, floats, sums);
                fetch_ahead(ahead);
            }
        }
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int t = 0; t < T; t++) parts[r * PANEL + t] = sums[r * T + t];
    }
}

#define BLOCK_KERNEL(R, T)                                                                                                             \
    static void floats_##R##_##T(const struct opened *opened, int tile, const struct prepared *x, int64_t at, int blocks,              \
                                 struct ahead *ahead, lanes *parts) {                                                                  \
        floats_block(R, T, opened, tile, x, at, blocks, ahead, parts);                                                                 \
    }
#if ROWS == 6
#define EACH_ROWS(T) {floats_1_##T, floats_2_##T, floats_3_##T, floats_4_##T, floats_5_##T, floats_6_##T}
#define FOR_ROWS(T) BLOCK_KERNEL(1, T) BLOCK_KERNEL(2, T) BLOCK_KERNEL(3, T) BLOCK_KERNEL(4, T) BLOCK_KERNEL(5, T) BLOCK_KERNEL(6, T)
#else
#define EACH_ROWS(T) {floats_1_##T, floats_2_##T}
#define FOR_ROWS(T) BLOCK_KERNEL(1, T) BLOCK_KERNEL(2, T)
#endif
FOR_ROWS(1)
#if TALL_FLOATS == 4
FOR_ROWS(4)
static block_kernel *const block_kernels[2][ROWS] = {EACH_ROWS(1), EACH_ROWS(4)};
#else
static block_kernel *const block_kernels[2][ROWS] = {EACH_ROWS(1)};
#endif

/* Some blocks of rows, and some tiles. */
struct band {
    int from, to, first, rows; /* blocks, and their rows */
    int tile, tiles;
    const uint8_t *next;       /* weights that are read after these, or null */
};

/* The groups from `group` on that are opened, added to parts[rows][PANEL] of the band. `after`: the weights of as many that come next. */
static void add_opened(const struct linear *work, const struct prepared *x, const struct band *band, const struct opened *opened, int group,
                       const uint8_t *after, lanes *parts) {
    const struct weight *weight = work->weight;
    const int T = band->tiles == PANEL ? TALL_FLOATS : 1, count = opened->count;
    const int64_t size = group_size(weight->kind), stride = weight->groups * size;
    const int calls = (band->to - band->from) * (band->tiles / T) * count * (GROUP / 2);
    struct ahead ahead = {after, after + count * size, count * size, stride, band->tiles};
    if (after) ahead.each = (int)((band->tiles * ahead.size / 64 + calls - 1) / calls);
    for (int block = band->from, run; block < band->to; block += run) {
        const int row = block_start(weight, block, work->count), R = block_start(weight, block + 1, work->count) - row;
        const int larger = work->count % blocks_of(weight, work->count); /* so many blocks have one row more */
        run = block < larger && larger < band->to ? larger - block : band->to - block;
        for (int t = 0; t < band->tiles; t += T)
            block_kernels[T > 1][R - 1](opened, t, x, place_of(group, count, work->count, row), run, &ahead, parts + (row - band->first) * PANEL + t);
    }
}

static void many_rows(const struct linear *work, const struct prepared *x, const struct band *band) {
    const struct weight *weight = work->weight;
    const int groups = weight->groups, size = group_size(weight->kind);
    const int rows = band->rows;
    const uint8_t *stored = (const uint8_t *)weight->numbers + (int64_t)band->tile * groups * size;
    struct opened opened;
    ALIGNED lanes parts[DEPTH][CHUNK * ROWS * PANEL];
    int depth = 0;
    for (int slice = 0; slice < SLICES; slice++) {
        memset(parts[depth], 0, sizeof(lanes) * (size_t)(rows * PANEL));
        const int stop = slice_start(slice + 1, groups);
        for (int g = slice_start(slice, groups); g < stop; g += STEP) {
            const int count = stop - g < STEP ? stop - g : STEP;
            open_groups(weight, band->tile, band->tiles, g, count, &opened);
            add_opened(work, x, band, &opened, g, g + count < groups ? stored + (int64_t)(g + count) * size : band->next, parts[depth]);
        }
        depth++;
        for (int done = slice + 1; done % 2 == 0; done /= 2, depth--)
            for (int i = 0; i < rows * PANEL; i++) parts[depth - 2][i] = add(parts[depth - 2][i], parts[depth - 1][i]);
    }
    for (int row = 0; row < rows; row++)
        for (int t = 0; t < band->tiles; t++) emit(work, band->first + row, band->tile + t, parts[0][row * PANEL + t]);
}

/* Tiles `from` to `to` - 1 of outputs, of all rows, which must be prepared. */
static void float_tiles(const struct linear *work, const struct prepared *prepared, int from, int to) {
    const struct weight *weight = work->weight;
    const int64_t panel = (int64_t)weight->groups * group_size(weight->kind) * PANEL;
    const int blocks = blocks_of(weight, work->count), chunks = (blocks + CHUNK - 1) / CHUNK;
#if FEW_FLOATS
    if (work->count <= FEW_FLOATS)
        for (; to - from >= PANEL; from += PANEL) few_kernels[weight->kind][work->count - 1](work, prepared, from);
#endif
    const uint8_t *numbers = (const uint8_t *)weight->numbers + from * (panel / PANEL);
    for (int tile = from; tile < to; tile += PANEL, numbers += panel) {
        struct band band = {.tile = tile, .tiles = to - tile < PANEL ? to - tile : PANEL};
        for (int chunk = 0; chunk < chunks; chunk++) {
            band.from = blocks * chunk / chunks;
            band.to = blocks * (chunk + 1) / chunks;
            band.first = block_start(weight, band.from, work->count);
            band.rows = block_start(weight, band.to, work->count) - band.first;
            band.next = chunk + 1 < chunks ? numbers : tile + 2 * PANEL <= to ? numbers + panel : NULL;
            many_rows(work, prepared, &band);
        }
    }
}

static void some_tiles(const struct linear *work, int from, int to) {
    const struct prepared prepared = prepared_of(work);
    if (work->weight->kind < WEIGHT_INT8) float_tiles(work, &prepared, from, to);
    else
        for (; from < to; from++) integer_tile(work, &prepared, from);
}

static void linear_job(void *argument, int thread, struct team *team) {
    const struct linear *work = argument;
    const int64_t units = prepare_units(work);
    int64_t from, to;
    if (units) {
        share_of(units, thread, team, &from, &to);
        prepare_rows(work, from, to);
        team_wait(team);
    }
    share_of(work->weight->tiles, thread, team, &from, &to);
    some_tiles(work, (int)from, (int)to);
}
