/* Linear layers. Lanes are outputs, so a row's bits depend on that row alone, however many are computed together.

   Few rows read weights as they lie, for each of them once. Many share what is opened of a few tiles at a time, which stays in the first
   cache meanwhile. */
#pragma once
#include "opened.h"

#define AHEAD 4096     /* bytes that few rows ask for before they need them */
#define CHUNK 16       /* blocks of rows whose sums are kept meanwhile */
#define DEPTH 4        /* sums of slices that wait for their partner: 1 of 4, 1 of 2, 1 of 1, and the newest */

INLINE void emit(const struct linear *work, int row, int tile, lanes sum) {
    const struct weight *weight = work->weight;
    float *out = work->out + row * work->ld_out + tile * LANES;
    int left = weight->outputs - tile * LANES;
    if (work->bias) sum = add(sum, left >= LANES ? load(work->bias + tile * LANES) : load_some(work->bias + tile * LANES, left));
    if (left >= LANES) store(out, sum);
    else store_some(out, sum, left);
}

#if FEW
/* The R rows that there are, and PANEL tiles from `tile` on, which are read as they lie. */
INLINE void few_rows(int kind, int R, const struct linear *work, const struct prepared *x, int tile) {
    enum { T = PANEL };
    const struct weight *weight = work->weight;
    const int groups = weight->groups, size = group_size(kind);
    const int64_t stride = (int64_t)groups * size;
    const uint8_t *numbers[T];
    const uint8_t *scales[T];
    const uint16_t *minima[T];
    UNROLL for (int t = 0; t < T; t++) {
        numbers[t] = (const uint8_t *)weight->numbers + (tile + t) * stride;
        scales[t] = kind >= WEIGHT_INT8 ? scales_of(weight, tile + t) : NULL;
        minima[t] = minima_of(weight, tile + t);
    }
    lanes sums[SLICES * FEW * T];
    for (int slice = 0; slice < SLICES; slice++) {
        lanes part[FEW * T], scale[T], second[T];
        if (kind >= WEIGHT_INT8 && R * T > SUMS_KEPT) KEEP_IN_MEMORY(part);
        UNROLL for (int i = 0; i < R * T; i++) part[i] = set(0);
        for (int g = slice_start(slice, groups); g < slice_start(slice + 1, groups); g++) {
            /* behind the end of a tile comes what is read after these; processors foresee floats, which take longer to read, by themselves */
            const int64_t ahead = AHEAD + ((int64_t)g * size + AHEAD >= stride ? (T - 1) * stride : 0);
            if (kind >= WEIGHT_INT8) UNROLL for (int t = 0; t < T; t++)
                for (int byte = 0; byte < size; byte += 64) FETCH(numbers[t] + ahead + byte);
            if (kind >= WEIGHT_INT8) {
                UNROLL for (int t = 0; t < T; t++) load_scales(kind, weight->shift, scales[t], minima[t], g, scale + t, second + t);
                if (R * T > SUMS_KEPT) KEEP_IN_MEMORY(part);
                add_group(kind, 0, R, T, numbers, 64, scale, second, x->bytes + g * (R * GROUP), x->steps + g * R,
                          x->starts + g * (R * starts_of(kind)), part, T);
            } else
                for (int k = 0; k < GROUP; k += 2) add_inputs(kind, R, T, (const void *const *)numbers, k, LANES, x->floats + g * (R * GROUP), part);
            UNROLL for (int t = 0; t < T; t++) numbers[t] += size;
        }
        UNROLL for (int i = 0; i < R * T; i++) sums[slice * R * T + i] = part[i];
    }
    for (int width = 1; width < SLICES; width *= 2)
        for (int slice = 0; slice < SLICES; slice += 2 * width)
            UNROLL for (int i = 0; i < R * T; i++) sums[slice * R * T + i] = add(sums[slice * R * T + i], sums[(slice + width) * R * T + i]);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int t = 0; t < T; t++) emit(work, r, tile + t, sums[r * T + t]);
}

typedef void few_kernel(const struct linear *work, const struct prepared *x, int tile);
#define FEW_KERNEL(kind, R) static void kind##_##R(const struct linear *work, const struct prepared *x, int tile) { few_rows(kind, R, work, x, tile); }
#if FEW == 4
#define FEW_KERNELS(kind) FEW_KERNEL(kind, 1) FEW_KERNEL(kind, 2) FEW_KERNEL(kind, 3) FEW_KERNEL(kind, 4)
#define FEW_OF(kind) {kind##_1, kind##_2, kind##_3, kind##_4}
#else
#define FEW_KERNELS(kind) FEW_KERNEL(kind, 1) FEW_KERNEL(kind, 2)
#define FEW_OF(kind) {kind##_1, kind##_2}
#endif
#if FEW_FLOATS == FEW
#define FLOAT_KERNELS(kind) FEW_KERNELS(kind)
#define FLOATS_OF(kind) FEW_OF(kind)
#else
#define FLOAT_KERNELS(kind) FEW_KERNEL(kind, 1)
#define FLOATS_OF(kind) {kind##_1}
#endif
FLOAT_KERNELS(WEIGHT_FP32)
FLOAT_KERNELS(WEIGHT_BF16)
FLOAT_KERNELS(WEIGHT_FP16)
FEW_KERNELS(WEIGHT_INT8)
FEW_KERNELS(WEIGHT_INT4)
FEW_KERNELS(WEIGHT_INT4_MINIMUM)
FEW_KERNELS(WEIGHT_INT5)
FEW_KERNELS(WEIGHT_INT5_MINIMUM)
FEW_KERNELS(WEIGHT_Q4_K)
FEW_KERNELS(WEIGHT_Q5_K)
FEW_KERNELS(WEIGHT_Q6_K)
FEW_KERNELS(WEIGHT_IQ4_NL)
FEW_KERNELS(WEIGHT_IQ4_XS)
FEW_KERNELS(WEIGHT_INT4_ZERO)
FEW_KERNELS(WEIGHT_INT8_SHARED)
static few_kernel *const few_kernels[][FEW] = {FLOATS_OF(WEIGHT_FP32), FLOATS_OF(WEIGHT_BF16), FLOATS_OF(WEIGHT_FP16),
                                               FEW_OF(WEIGHT_INT8), FEW_OF(WEIGHT_INT4), FEW_OF(WEIGHT_INT4_MINIMUM),
                                               FEW_OF(WEIGHT_INT5), FEW_OF(WEIGHT_INT5_MINIMUM), FEW_OF(WEIGHT_Q4_K), FEW_OF(WEIGHT_Q5_K),
                                               FEW_OF(WEIGHT_Q6_K), FEW_OF(WEIGHT_IQ4_NL), FEW_OF(WEIGHT_IQ4_XS),
                                               FEW_OF(WEIGHT_INT4_ZERO),
                                               FEW_OF(WEIGHT_INT8_SHARED)};
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

INLINE void integers_block(int kind, int R, int T, const struct opened *opened, int tile, const struct prepared *x, int64_t at,
                           int blocks, struct ahead *ahead, lanes *parts) {
    const int8_t *bytes = x->bytes + at * GROUP;
    const float *steps = x->steps + at;
    const int32_t *starts = x->starts + at * starts_of(kind);
    const int count = opened->count;
    for (int block = 0; block < blocks; block++, parts += R * PANEL)
        for (int g = 0; g < count; g++, bytes += R * GROUP, steps += R, starts += R * starts_of(kind)) {
            const uint8_t *numbers[4];
            UNROLL for (int t = 0; t < T; t++) numbers[t] = opened->bytes[g][0][tile + t];
            if (R * T > SUMS_KEPT) KEEP_IN_MEMORY(parts); /* registers do not suffice for them as well */
            add_group(kind, 1, R, T, numbers, PANEL * 64, &opened->scales[g][tile], &opened->seconds[g][tile], bytes, steps, starts, parts, PANEL);
            fetch_ahead(ahead);
        }
}

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

#define BLOCK_KERNEL(name, call, ...)                                                                                                  \
    static void name(const struct opened *opened, int tile, const struct prepared *x, int64_t at, int blocks, struct ahead *ahead,     \
                     lanes *parts) {                                                                                                   \
        call(__VA_ARGS__, opened, tile, x, at, blocks, ahead, parts);                                                                  \
    }
#define FLOATS(R, T) BLOCK_KERNEL(floats_##R##_##T, floats_block, R, T)
#define INTEGERS(R, T)                                                                                                                 \
    BLOCK_KERNEL(bytes_##R##_##T, integers_block, WEIGHT_INT8, R, T)                                                                   \
    BLOCK_KERNEL(minimum_##R##_##T, integers_block, WEIGHT_INT4_MINIMUM, R, T)                                                         \
    BLOCK_KERNEL(halves_##R##_##T, integers_block, WEIGHT_Q6_K, R, T)
#if ROWS == 6
#define EACH_ROWS(name, T) {name##_1_##T, name##_2_##T, name##_3_##T, name##_4_##T, name##_5_##T, name##_6_##T}
#define FOR_ROWS(kernels, T) kernels(1, T) kernels(2, T) kernels(3, T) kernels(4, T) kernels(5, T) kernels(6, T)
#else
#define EACH_ROWS(name, T) {name##_1_##T, name##_2_##T}
#define FOR_ROWS(kernels, T) kernels(1, T) kernels(2, T)
#endif
FOR_ROWS(FLOATS, 1)
FOR_ROWS(INTEGERS, 1)
#if TALL_FLOATS == 4
FOR_ROWS(FLOATS, 4)
FOR_ROWS(INTEGERS, 2)
#define EACH_WIDTH(name) {EACH_ROWS(name, 1), EACH_ROWS(name, 2)}
static block_kernel *const float_kernels[2][ROWS] = {EACH_ROWS(floats, 1), EACH_ROWS(floats, 4)};
#else
#define EACH_WIDTH(name) {EACH_ROWS(name, 1)}
static block_kernel *const float_kernels[2][ROWS] = {EACH_ROWS(floats, 1)};
#endif
#if PATH == PATH_AVX2 || PATH == PATH_NEON /* whose sums of bytes and of few bits are not alike */
#define FEW_BITS(R)                                                                                                                    \
    BLOCK_KERNEL(nibbles_##R##_1, integers_block, WEIGHT_INT4, R, 1)                                                                   \
    BLOCK_KERNEL(five_##R##_1, integers_block, WEIGHT_INT5, R, 1)                                                                      \
    BLOCK_KERNEL(five_minimum_##R##_1, integers_block, WEIGHT_INT5_MINIMUM, R, 1)
FEW_BITS(1)
FEW_BITS(2)
FEW_BITS(3)
FEW_BITS(4)
FEW_BITS(5)
FEW_BITS(6)
#define NIBBLES EACH_WIDTH(nibbles)
#define FIVE EACH_WIDTH(five)
#define FIVE_MINIMUM EACH_WIDTH(five_minimum)
#else
#define NIBBLES EACH_WIDTH(bytes)
#define FIVE EACH_WIDTH(bytes)
#define FIVE_MINIMUM EACH_WIDTH(minimum)
#endif
/* Opened, several kinds are one. */
static block_kernel *const integer_kernels[][2][ROWS] = {
    [WEIGHT_INT8] = EACH_WIDTH(bytes),
    [WEIGHT_INT4] = NIBBLES,
    [WEIGHT_INT4_MINIMUM] = EACH_WIDTH(minimum),
    [WEIGHT_INT5] = FIVE,
    [WEIGHT_INT5_MINIMUM] = FIVE_MINIMUM,
    [WEIGHT_Q4_K] = EACH_WIDTH(minimum),
    [WEIGHT_Q5_K] = FIVE_MINIMUM,
    [WEIGHT_Q6_K] = EACH_WIDTH(halves),
    [WEIGHT_IQ4_NL] = EACH_WIDTH(bytes),
    [WEIGHT_IQ4_XS] = EACH_WIDTH(bytes),
    [WEIGHT_INT4_ZERO] = EACH_WIDTH(minimum),
    [WEIGHT_INT8_SHARED] = EACH_WIDTH(bytes),
};

/* Some blocks of rows, and some tiles. */
struct band {
    int from, to, first, rows; /* blocks, and their rows */
    int tile, tiles;
    const uint8_t *next;       /* weights that are read after these, or null */
};

/* The groups from `group` on that are opened, added to parts[rows][PANEL] of the band. `after`: the weights of as many that come next. */
static void add_opened(const struct linear *work, const struct prepared *x, const struct band *band, const struct opened *opened, int group,
                       const uint8_t *after, lanes *parts) {
    const int kind = work->weight->kind, tall = kind >= WEIGHT_INT8 ? TALL_INTEGERS : TALL_FLOATS;
    const int T = band->tiles == PANEL ? tall : 1, count = opened->count;
    const int64_t size = group_size(kind), stride = work->weight->groups * size;
    block_kernel *const *kernels = kind >= WEIGHT_INT8 ? integer_kernels[kind][T > 1] : float_kernels[T > 1];
    const int calls = (band->to - band->from) * (band->tiles / T) * count * (kind >= WEIGHT_INT8 ? 1 : GROUP / 2);
    struct ahead ahead = {after, after + count * size, count * size, stride, band->tiles};
    if (after) ahead.each = (int)((band->tiles * ahead.size / 64 + calls - 1) / calls);
    for (int block = band->from, run; block < band->to; block += run) {
        const int row = block_start(block, work->count), R = block_start(block + 1, work->count) - row;
        const int larger = work->count % blocks_of(work->count); /* so many blocks have one row more */
        run = block < larger && larger < band->to ? larger - block : band->to - block;
        for (int t = 0; t < band->tiles; t += T)
            kernels[R - 1](opened, t, x, place_of(group, count, work->count, row), run, &ahead, parts + (row - band->first) * PANEL + t);
    }
}

static void many_rows(const struct linear *work, const struct prepared *x, const struct band *band) {
    const struct weight *weight = work->weight;
    const int groups = weight->groups, step = step_of(weight->kind), size = group_size(weight->kind);
    const int rows = band->rows;
    const uint8_t *stored = (const uint8_t *)weight->numbers + (int64_t)band->tile * groups * size;
    struct opened opened;
    ALIGNED lanes parts[DEPTH][CHUNK * ROWS * PANEL];
    int depth = 0;
    for (int slice = 0; slice < SLICES; slice++) {
        memset(parts[depth], 0, sizeof(lanes) * (size_t)(rows * PANEL));
        const int stop = slice_start(slice + 1, groups);
        for (int g = slice_start(slice, groups); g < stop; g += step) {
            const int count = stop - g < step ? stop - g : step;
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
static void some_tiles(const struct linear *work, int from, int to) {
    const struct weight *weight = work->weight;
    const struct prepared prepared = prepared_of(work);
    const int64_t panel = (int64_t)weight->groups * group_size(weight->kind) * PANEL;
    const int blocks = blocks_of(work->count), chunks = (blocks + CHUNK - 1) / CHUNK;
    const uint8_t *numbers = (const uint8_t *)weight->numbers + from * (panel / PANEL);
    for (int tile = from; tile < to; tile += PANEL, numbers += panel) {
#if FEW
        if (work->count <= (weight->kind >= WEIGHT_INT8 ? FEW : FEW_FLOATS) && to - tile >= PANEL) {
            few_kernels[weight->kind][work->count - 1](work, &prepared, tile);
            continue;
        }
#endif
        struct band band = {.tile = tile, .tiles = to - tile < PANEL ? to - tile : PANEL};
        for (int chunk = 0; chunk < chunks; chunk++) {
            band.from = blocks * chunk / chunks;
            band.to = blocks * (chunk + 1) / chunks;
            band.first = block_start(band.from, work->count);
            band.rows = block_start(band.to, work->count) - band.first;
            band.next = chunk + 1 < chunks ? numbers : tile + 2 * PANEL <= to ? numbers + panel : NULL;
            many_rows(work, &prepared, &band);
        }
    }
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
