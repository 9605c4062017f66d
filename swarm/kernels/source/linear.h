/* Linear layers. Lanes are outputs, so a row's bits depend on that row alone, however many are computed together. */
#pragma once
#include "lanes.h"
#include "path.h"

#define AHEAD 4096 /* bytes that weights are asked for before they are needed */

static int slice_start(int slice, int groups) { return slice * groups / SLICES; }

/* ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)), for `each` sums side by side. */
INLINE void add_slices(lanes *sums, int each) {
    for (int width = 1; width < SLICES; width *= 2)
        for (int slice = 0; slice < SLICES; slice += 2 * width)
            for (int i = 0; i < each; i++) sums[slice * each + i] = add(sums[slice * each + i], sums[(slice + width) * each + i]);
}

/* Rows as they are computed with, in the room that came with the work: integers, their steps and their sums; or floats whose last group
   is padded with zeros. */
struct prepared {
    float *steps;    /* [count][groups] */
    int32_t *sums;   /* [count][groups], of the integers */
    int8_t *bytes;   /* [count][groups][32] */
    const float *floats; /* [count][ld], whole groups */
    int64_t ld;
};

/* Bytes that `count` rows take when they are prepared. */
static int64_t linear_room(const struct weight *weight, int count) {
    const int64_t groups = (int64_t)weight->groups * count;
    if (weight->kind >= WEIGHT_INT8) return groups * (int64_t)(GROUP + sizeof(float) + sizeof(int32_t));
    return weight->inputs % GROUP ? groups * GROUP * (int64_t)sizeof(float) : 0;
}

static struct prepared prepared_of(const struct linear *work) {
    const struct weight *weight = work->weight;
    const int64_t groups = (int64_t)weight->groups * work->count;
    if (weight->kind < WEIGHT_INT8) {
        if (weight->inputs % GROUP) return (struct prepared){.floats = work->room, .ld = (int64_t)weight->groups * GROUP};
        return (struct prepared){.floats = work->rows, .ld = work->ld_rows};
    }
    float *steps = work->room;
    int32_t *sums = (int32_t *)(steps + groups);
    return (struct prepared){.steps = steps, .sums = sums, .bytes = (int8_t *)(sums + groups)};
}

INLINE void emit(const struct linear *work, int row, int tile, lanes sum) {
    const struct weight *weight = work->weight;
    float *out = work->out + row * work->ld_out + tile * LANES;
    int left = weight->outputs - tile * LANES;
    if (work->bias) sum = add(sum, left >= LANES ? load(work->bias + tile * LANES) : load_some(work->bias + tile * LANES, left));
    if (left >= LANES) store(out, sum);
    else store_some(out, sum, left);
}

/* `inputs` inputs of R rows, ascending, against T tiles that lie `stride` numbers apart. */
INLINE void float_dot(int kind, int R, int T, const void *numbers, int64_t at, int64_t stride, const float *const *rows, int from, int inputs,
                      lanes *sums) {
    if (kind == WEIGHT_BF16) {
        const uint16_t *w = (const uint16_t *)numbers + at;
        for (int k = 0; k < inputs; k += 2) {
            lanes even[4], odd[4];
            UNROLL for (int t = 0; t < T; t++) load_bf16_pairs(w + t * stride + k * LANES, even + t, odd + t);
            UNROLL for (int r = 0; r < R; r++) {
                lanes x = set(rows[r][from + k]), y = set(rows[r][from + k + 1]);
                UNROLL for (int t = 0; t < T; t++) sums[r * T + t] = fma3(even[t], x, sums[r * T + t]);
                UNROLL for (int t = 0; t < T; t++) sums[r * T + t] = fma3(odd[t], y, sums[r * T + t]);
            }
        }
        return;
    }
    for (int k = 0; k < inputs; k++) {
        lanes w[4];
        UNROLL for (int t = 0; t < T; t++) w[t] = kind == WEIGHT_FP32
                                                      ? load((const float *)numbers + at + t * stride + k * LANES)
                                                      : load_half((const uint16_t *)numbers + at + t * stride + k * LANES);
        UNROLL for (int r = 0; r < R; r++) {
            lanes x = set(rows[r][from + k]);
            UNROLL for (int t = 0; t < T; t++) sums[r * T + t] = fma3(w[t], x, sums[r * T + t]);
        }
    }
}

INLINE void float_block(int kind, int R, int T, const struct linear *work, const struct prepared *prepared, int row, int tile) {
    const struct weight *weight = work->weight;
    const int64_t stride = (int64_t)weight->groups * GROUP * LANES, at = tile * stride;
    lanes sums[SLICES * 16];
    const float *rows[4];
    UNROLL for (int r = 0; r < R; r++) rows[r] = prepared->floats + (row + r) * prepared->ld;
    for (int slice = 0; slice < SLICES; slice++) {
        int from = slice_start(slice, weight->groups) * GROUP, to = slice_start(slice + 1, weight->groups) * GROUP;
        lanes part[16];
        UNROLL for (int i = 0; i < R * T; i++) part[i] = set(0);
        float_dot(kind, R, T, weight->numbers, at + (int64_t)from * LANES, stride, rows, from, to - from, part);
        UNROLL for (int i = 0; i < R * T; i++) sums[slice * R * T + i] = part[i];
    }
    add_slices(sums, R * T);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int t = 0; t < T; t++) emit(work, row + r, tile + t, sums[r * T + t]);
}

/* Rows as integers: for each group of 32 a step and 32 bytes from -127 to 127. */
static void quantise_group(const float *x, int count, int8_t *bytes, float *step, int32_t *sum) {
    uint32_t most = 0; /* the largest magnitude, as bits: infinities and what is no number are above all numbers */
    for (int i = 0; i < count; i++) {
        uint32_t bits = bits_of_float(x[i]) & 0x7fffffff;
        most = bits > most ? bits : most;
    }
    *sum = 0;
    if (most < 0x0d800000u || most >= 0x7f800000u) { /* below 2^-100; or no finite step exists */
        memset(bytes, 0, GROUP);
        *step = most < 0x0d800000u ? 0.0f : float_of_bits(0x7fc00000u);
        return;
    }
    float inverse = 127.0f / float_of_bits(most);
    *step = float_of_bits(most) * (1.0f / 127.0f);
    int32_t total = 0;
    for (int i = 0; i < count; i++) {
        /* adding 1.5 * 2^23 rounds to the nearest whole number, ties to even */
        int32_t q = (int32_t)(bits_of_float(x[i] * inverse + 12582912.0f) - 0x4b400000u);
        bytes[i] = (int8_t)q;
        total += q;
    }
    if (count < GROUP) memset(bytes + count, 0, (size_t)(GROUP - count));
    *sum = total;
}

/* Sums of 32 products of integers for R rows and T tiles, exact. Weights are bytes + 128 or nibbles + 8 (unsigned: the minimum's). */
#if PATH == PATH_AVX512
INLINE void int_dots(int kind, int R, int T, const uint8_t *w, int64_t stride, const int8_t *const *x, const int32_t *const *sums, int g,
                     lanes *dots) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const int loads = kind == WEIGHT_INT8 ? 8 : 4, zero = kind == WEIGHT_INT8 ? -128 : kind == WEIGHT_INT4 ? -8 : 0;
    __m512i total[8];
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int t = 0; t < T; t++) total[r * T + t] = _mm512_set1_epi32(zero * sums[r][g]);
    UNROLL for (int i = 0; i < loads; i++) {
        __m512i low[4], high[4];
        UNROLL for (int t = 0; t < T; t++) {
            low[t] = _mm512_loadu_si512(w + t * stride + i * 64);
            if (kind != WEIGHT_INT8) {
                high[t] = _mm512_and_si512(_mm512_srli_epi16(low[t], 4), nibble);
                low[t] = _mm512_and_si512(low[t], nibble);
            }
        }
        UNROLL for (int r = 0; r < R; r++) {
            int32_t quad;
            memcpy(&quad, x[r] + (int64_t)g * GROUP + i * 4, 4);
            UNROLL for (int t = 0; t < T; t++) total[r * T + t] = _mm512_dpbusd_epi32(total[r * T + t], low[t], _mm512_set1_epi32(quad));
        }
        if (kind != WEIGHT_INT8) UNROLL for (int r = 0; r < R; r++) {
            int32_t quad;
            memcpy(&quad, x[r] + (int64_t)g * GROUP + 16 + i * 4, 4);
            UNROLL for (int t = 0; t < T; t++) total[r * T + t] = _mm512_dpbusd_epi32(total[r * T + t], high[t], _mm512_set1_epi32(quad));
        }
    }
    UNROLL for (int i = 0; i < R * T; i++) dots[i] = _mm512_cvtepi32_ps(total[i]);
}
#elif PATH == PATH_AVX2
/* A pair of products fits 16 bits: nibbles reach 2 * 15 * 127 and eight pairs 30480; bytes, as |w| times x with w's sign, 2 * 128 * 127. */
INLINE void int_dots(int kind, int R, int T, const uint8_t *w, int64_t stride, const int8_t *const *x, const int32_t *const *sums, int g,
                     lanes *dots) {
    const __m256i nibble = _mm256_set1_epi8(15), top = _mm256_set1_epi8(-128), ones = _mm256_set1_epi16(1);
    UNROLL for (int half = 0; half < T * 2; half++) {
        const uint8_t *p = w + half / 2 * stride + half % 2 * 32;
        __m256i total[4];
        UNROLL for (int r = 0; r < R; r++) total[r] = _mm256_setzero_si256();
        UNROLL for (int i = 0; i < 8; i++) {
            __m256i number = _mm256_loadu_si256((const void *)(p + (kind == WEIGHT_INT8 ? i : i & 3) * 64)), size;
            if (kind == WEIGHT_INT8) {
                number = _mm256_xor_si256(number, top);
                size = _mm256_abs_epi8(number);
            } else size = _mm256_and_si256(i < 4 ? number : _mm256_srli_epi16(number, 4), nibble);
            UNROLL for (int r = 0; r < R; r++) {
                int32_t quad;
                memcpy(&quad, x[r] + (int64_t)g * GROUP + i * 4, 4);
                __m256i other = _mm256_set1_epi32(quad);
                if (kind == WEIGHT_INT8)
                    total[r] = _mm256_add_epi32(total[r], _mm256_madd_epi16(_mm256_maddubs_epi16(size, _mm256_sign_epi8(other, number)), ones));
                else total[r] = _mm256_add_epi16(total[r], _mm256_maddubs_epi16(size, other));
            }
        }
        UNROLL for (int r = 0; r < R; r++) {
            if (kind != WEIGHT_INT8) total[r] = _mm256_madd_epi16(total[r], ones);
            if (kind == WEIGHT_INT4) total[r] = _mm256_add_epi32(total[r], _mm256_set1_epi32(-8 * sums[r][g]));
            if (half % 2) dots[r * T + half / 2].high = _mm256_cvtepi32_ps(total[r]);
            else dots[r * T + half / 2].low = _mm256_cvtepi32_ps(total[r]);
        }
    }
}
#elif PATH == PATH_NEON
INLINE void int_dots(int kind, int R, int T, const uint8_t *w, int64_t stride, const int8_t *const *x, const int32_t *const *sums, int g,
                     lanes *dots) {
    UNROLL for (int t = 0; t < T; t++)
        UNROLL for (int part = 0; part < 4; part++) {
            const uint8_t *p = w + t * stride + part * 16; /* of 4 outputs, 4 inputs of each */
            int32x4_t total[4];
            UNROLL for (int r = 0; r < R; r++) total[r] = vdupq_n_s32(kind == WEIGHT_INT4 ? -8 * sums[r][g] : 0);
            UNROLL for (int i = 0; i < 4; i++) {
                const uint8x16_t number = vld1q_u8(p + i * 64);
                int8x16_t low, high;
                if (kind == WEIGHT_INT8) {
                    low = vreinterpretq_s8_u8(veorq_u8(number, vdupq_n_u8(128)));
                    high = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p + (i + 4) * 64), vdupq_n_u8(128)));
                } else {
                    low = vreinterpretq_s8_u8(vandq_u8(number, vdupq_n_u8(15)));
                    high = vreinterpretq_s8_u8(vshrq_n_u8(number, 4));
                }
                UNROLL for (int r = 0; r < R; r++) {
                    const int8_t *row = x[r] + (int64_t)g * GROUP + i * 4;
                    int32_t quads[2];
                    memcpy(quads, row, 4);
                    memcpy(quads + 1, row + 16, 4);
                    total[r] = vdotq_s32(total[r], low, vreinterpretq_s8_s32(vdupq_n_s32(quads[0])));
                    total[r] = vdotq_s32(total[r], high, vreinterpretq_s8_s32(vdupq_n_s32(quads[1])));
                }
            }
            UNROLL for (int r = 0; r < R; r++) dots[r * T + t].part[part] = vcvtq_f32_s32(total[r]);
        }
}
#else
INLINE void int_dots(int kind, int R, int T, const uint8_t *w, int64_t stride, const int8_t *const *x, const int32_t *const *sums, int g,
                     lanes *dots) {
    const int zero = kind == WEIGHT_INT8 ? -128 : kind == WEIGHT_INT4 ? -8 : 0;
    for (int t = 0; t < T; t++)
        for (int r = 0; r < R; r++) {
            const uint8_t *p = w + t * stride;
            const int8_t *row = x[r] + (int64_t)g * GROUP;
            int32_t total[LANES];
            for (int lane = 0; lane < LANES; lane++) total[lane] = zero * sums[r][g];
            for (int k = 0; k < GROUP; k++)
                for (int lane = 0; lane < LANES; lane++) {
                    int byte = p[(kind == WEIGHT_INT8 ? k : k % 16) / 4 * 64 + lane * 4 + k % 4];
                    total[lane] += (kind == WEIGHT_INT8 ? byte : k < 16 ? byte & 15 : byte >> 4) * row[k];
                }
            float numbers[LANES];
            for (int lane = 0; lane < LANES; lane++) numbers[lane] = (float)total[lane]; /* below 2^24: exact */
            dots[r * T + t] = load(numbers);
        }
}
#endif

INLINE void int_block(int kind, int R, int T, const struct linear *work, const struct prepared *prepared, int row, int tile) {
    const struct weight *weight = work->weight;
    const int groups = weight->groups, bytes = kind == WEIGHT_INT8 ? GROUP * LANES : GROUP * LANES / 2;
    const int64_t stride = (int64_t)groups * bytes;
    const uint8_t *numbers = (const uint8_t *)weight->numbers + tile * stride;
    const uint16_t *scales = weight->scales + (int64_t)tile * groups * LANES, *minima = weight->minima + (int64_t)tile * groups * LANES;
    const int8_t *x[4];
    const int32_t *row_sums[4];
    const float *steps[4];
    UNROLL for (int r = 0; r < R; r++) {
        x[r] = prepared->bytes + (int64_t)(row + r) * groups * GROUP;
        row_sums[r] = prepared->sums + (int64_t)(row + r) * groups;
        steps[r] = prepared->steps + (int64_t)(row + r) * groups;
    }
    lanes sums[SLICES * 8];
    for (int slice = 0; slice < SLICES; slice++) {
        lanes part[8];
        UNROLL for (int i = 0; i < R * T; i++) part[i] = set(0);
        for (int g = slice_start(slice, groups); g < slice_start(slice + 1, groups); g++) {
            lanes dots[8];
#if PATH != PATH_PLAIN
            if (R == 1)
                UNROLL for (int t = 0; t < T; t++)
                    for (int b = 0; b < bytes; b += 64) __builtin_prefetch(numbers + t * stride + (int64_t)g * bytes + b + AHEAD, 0, 3);
#endif
            int_dots(kind, R, T, numbers + (int64_t)g * bytes, stride, x, row_sums, g, dots);
            UNROLL for (int t = 0; t < T; t++) {
                lanes scale = load_half(scales + ((int64_t)t * groups + g) * LANES);
                UNROLL for (int r = 0; r < R; r++) part[r * T + t] = fma3(dots[r * T + t], mul(scale, set(steps[r][g])), part[r * T + t]);
                if (kind == WEIGHT_INT4_MINIMUM) {
                    lanes minimum = load_half(minima + ((int64_t)t * groups + g) * LANES);
                    UNROLL for (int r = 0; r < R; r++)
                        part[r * T + t] = fma3(set((float)row_sums[r][g]), mul(minimum, set(steps[r][g])), part[r * T + t]);
                }
            }
        }
        UNROLL for (int i = 0; i < R * T; i++) sums[slice * R * T + i] = part[i];
    }
    add_slices(sums, R * T);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int t = 0; t < T; t++) emit(work, row + r, tile + t, sums[r * T + t]);
}

#if PATH == PATH_AVX2 || PATH == PATH_NEON
#define WIDE_FLOAT 2
#define TALL_FLOAT 1
#define TALL_INT 1
#else
#define WIDE_FLOAT 4 /* tiles at a time: several streams read memory faster than one */
#define TALL_FLOAT 4
#define TALL_INT 2
#endif
#define WIDE_INT 4

typedef void block(const struct linear *work, const struct prepared *prepared, int row, int tile);
#define ONE(name, core, kind, R, T)                                                                                                    \
    static void name(const struct linear *work, const struct prepared *prepared, int row, int tile) {                                  \
        core(kind, R, T, work, prepared, row, tile);                                                                                   \
    }
#define BLOCKS(kind, core, wide, tall)                                                                                                 \
    ONE(kind##_1, core, kind, 1, 1)                                                                                                    \
    ONE(kind##_2, core, kind, 2, 1)                                                                                                    \
    ONE(kind##_4, core, kind, 4, 1)                                                                                                    \
    ONE(kind##_1_wide, core, kind, 1, wide)                                                                                            \
    ONE(kind##_4_wide, core, kind, 4, tall)
BLOCKS(WEIGHT_FP32, float_block, WIDE_FLOAT, TALL_FLOAT)
BLOCKS(WEIGHT_BF16, float_block, WIDE_FLOAT, TALL_FLOAT)
BLOCKS(WEIGHT_FP16, float_block, WIDE_FLOAT, TALL_FLOAT)
BLOCKS(WEIGHT_INT8, int_block, WIDE_INT, TALL_INT)
BLOCKS(WEIGHT_INT4, int_block, WIDE_INT, TALL_INT)
BLOCKS(WEIGHT_INT4_MINIMUM, int_block, WIDE_INT, TALL_INT)
#define ROW_OF(kind) {kind##_1, kind##_2, kind##_4, kind##_1_wide, kind##_4_wide}
static block *const blocks[6][5] = {ROW_OF(WEIGHT_FP32), ROW_OF(WEIGHT_BF16), ROW_OF(WEIGHT_FP16),
                                    ROW_OF(WEIGHT_INT8), ROW_OF(WEIGHT_INT4), ROW_OF(WEIGHT_INT4_MINIMUM)};

/* Tiles `from` to `to` - 1 of outputs, of all rows, which must be prepared. */
static void some_tiles(const struct linear *work, int from, int to) {
    const struct prepared prepared = prepared_of(work);
    const int integers = work->weight->kind >= WEIGHT_INT8, wide = integers ? WIDE_INT : WIDE_FLOAT, tall = integers ? TALL_INT : TALL_FLOAT;
    block *const *of = blocks[work->weight->kind];
    for (int tile = from, tiles; tile < to; tile += tiles) {
        tiles = to - tile >= WIDE_INT ? WIDE_INT : 1;
        for (int row = 0, rows; row < work->count; row += rows) {
            int left = work->count - row;
            rows = left >= 4 ? 4 : left >= 2 ? 2 : 1;
            int step = tiles == 1 || rows == 2 ? 1 : rows == 1 ? wide : tall;
            block *one = rows == 2 ? of[1] : step == 1 ? of[rows == 1 ? 0 : 2] : of[rows == 1 ? 3 : 4];
            for (int t = 0; t < tiles; t += step) one(work, &prepared, row, tile + t);
        }
    }
}

/* In how many parts rows are prepared; 0 where they are used as they are. */
static int64_t prepare_units(const struct linear *work) {
    return linear_room(work->weight, 1) ? (int64_t)work->count * work->weight->groups : 0;
}

/* Parts `from` to `to` - 1. All must be done, by whichever threads, before the first tile is computed. */
static void prepare_rows(const struct linear *work, int64_t from, int64_t to) {
    const struct weight *weight = work->weight;
    const struct prepared prepared = prepared_of(work);
    for (int64_t unit = from; unit < to; unit++) {
        const int64_t row = unit / weight->groups, group = unit % weight->groups;
        const int left = weight->inputs - (int)group * GROUP, some = left < GROUP ? left : GROUP;
        const float *x = work->rows + row * work->ld_rows + group * GROUP;
        if (weight->kind >= WEIGHT_INT8) quantise_group(x, some, prepared.bytes + unit * GROUP, prepared.steps + unit, prepared.sums + unit);
        else {
            float *padded = (float *)work->room + unit * GROUP;
            memcpy(padded, x, sizeof(float) * (size_t)some);
            memset(padded + some, 0, sizeof(float) * (size_t)(GROUP - some));
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
