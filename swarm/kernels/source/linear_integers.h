/* Products of integer weights: exact sums of 32, each of which one fma adds. */
#pragma once
#include "linear_rows.h"
#include "unpack.h"

/* Compilers keep more in registers than there are, and spill it: this has them read it from where it is. */
#if PATH == PATH_PLAIN
#define KEEP_IN_MEMORY(numbers) ((void)(numbers))
#else
#define KEEP_IN_MEMORY(numbers) __asm__ volatile("" ::"r"(numbers) : "memory")
#endif
#if PATH == PATH_AVX512
#define SUMS_KEPT INTEGER_ROWS /* besides as many that are being added */
#else
#define SUMS_KEPT 4
#endif
#if PATH == PATH_PLAIN
#define FETCH(place) ((void)(place))
#else
#define FETCH(place) __builtin_prefetch(place, 0, 3)
#endif
#define AHEAD 4096 /* bytes that are asked for before they are needed */

INLINE int32_t four(const int8_t *x) {
    int32_t quad;
    memcpy(&quad, x, 4);
    return quad;
}

/* A tile's group as it is stored: sums of 32 products for R rows, of 16 where each half has a scale of its own. x is [R][32]; starts are
   [R], or [R][2]. */
#if PATH == PATH_AVX512
INLINE void sum_group(int kind, int half, int R, const uint8_t *w, const int8_t *x, const int32_t *starts, lanes *sums) {
    const int halves = by_halves(kind), nibbles = !whole_bytes(kind), from = halves && half ? 4 : 0;
    const int loads = nibbles || halves ? 4 : 8;
    __m512i total[INTEGER_ROWS];
    UNROLL for (int r = 0; r < R; r++) total[r] = with_minimum(kind) ? _mm512_setzero_si512() : _mm512_set1_epi32(starts[halves ? r * 2 + half : r]);
    UNROLL for (int i = from; i < from + loads; i++) {
        const __m512i low = unpack(kind, w, i);
        UNROLL for (int r = 0; r < R; r++) total[r] = _mm512_dpbusd_epi32(total[r], low, _mm512_set1_epi32(four(x + r * GROUP + i * 4)));
        if (!nibbles || halves) continue;
        const __m512i high = unpack(kind, w, i + 4);
        UNROLL for (int r = 0; r < R; r++) total[r] = _mm512_dpbusd_epi32(total[r], high, _mm512_set1_epi32(four(x + r * GROUP + 16 + i * 4)));
    }
    UNROLL for (int r = 0; r < R; r++) sums[r] = _mm512_cvtepi32_ps(total[r]);
}
#elif PATH == PATH_AVX2
/* Pairs of products are added up in 16 bits as long as they fit: of nibbles eight (2 * 15 * 127 each), of five bits four, of six bits two;
   of bytes, as |w| times x with w's sign, one (2 * 128 * 127). */
INLINE void sum_group(int kind, int half, int R, const uint8_t *w, const int8_t *x, const int32_t *starts, lanes *sums) {
    const __m256i top = _mm256_set1_epi8(-128), ones = _mm256_set1_epi16(1);
    const int bytes = zero_of(kind) == 128, fitting = bytes ? 1 : by_halves(kind) ? 2 : five_bits(kind) ? 4 : 8;
    const int from = by_halves(kind) && half ? 4 : 0, to = by_halves(kind) && !half ? 4 : 8;
    UNROLL for (int eight = 0; eight < 2; eight++) {
        __m256i total[INTEGER_ROWS], pairs[INTEGER_ROWS];
        KEEP_IN_MEMORY(x); /* reading the row's numbers again is cheaper than keeping them from the other half */
        UNROLL for (int i = from; i < to; i++) {
            __m256i number = unpack(kind, w, i, eight), size = number;
            if (bytes) {
                number = _mm256_xor_si256(number, top);
                size = _mm256_abs_epi8(number);
            }
            UNROLL for (int r = 0; r < R; r++) {
                __m256i other = _mm256_set1_epi32(four(x + r * GROUP + i * 4));
                if (bytes) other = _mm256_sign_epi8(other, number);
                other = _mm256_maddubs_epi16(size, other);
                pairs[r] = i % fitting ? _mm256_add_epi16(pairs[r], other) : other;
                __asm__("" : "+x"(pairs[r])); /* added now, not in a tree for which there are no registers */
                if (i % fitting < fitting - 1) continue;
                other = _mm256_madd_epi16(pairs[r], ones);
                total[r] = i - from < fitting ? other : _mm256_add_epi32(total[r], other);
                __asm__("" : "+x"(total[r]));
            }
        }
        UNROLL for (int r = 0; r < R; r++) {
            if (!bytes && !with_minimum(kind)) total[r] = _mm256_add_epi32(total[r], _mm256_set1_epi32(starts[by_halves(kind) ? r * 2 + half : r]));
            if (eight) sums[r].high = _mm256_cvtepi32_ps(total[r]);
            else sums[r].low = _mm256_cvtepi32_ps(total[r]);
        }
    }
}
#elif PATH == PATH_NEON
INLINE void sum_group(int kind, int half, int R, const uint8_t *w, const int8_t *x, const int32_t *starts, lanes *sums) {
    const int bytes = zero_of(kind) == 128, from = by_halves(kind) && half ? 4 : 0, to = by_halves(kind) && !half ? 4 : 8;
    UNROLL for (int quarter = 0; quarter < 4; quarter++) {
        int32x4_t total[INTEGER_ROWS];
        UNROLL for (int r = 0; r < R; r++) total[r] = vdupq_n_s32(bytes || with_minimum(kind) ? 0 : starts[by_halves(kind) ? r * 2 + half : r]);
        UNROLL for (int i = from; i < to; i++) {
            uint8x16_t number = unpack(kind, w, i, quarter);
            if (bytes) number = veorq_u8(number, vdupq_n_u8(128));
            UNROLL for (int r = 0; r < R; r++)
                total[r] = vdotq_s32(total[r], vreinterpretq_s8_u8(number), vreinterpretq_s8_s32(vdupq_n_s32(four(x + r * GROUP + i * 4))));
        }
        UNROLL for (int r = 0; r < R; r++) sums[r].part[quarter] = vcvtq_f32_s32(total[r]);
    }
}
#else
INLINE void sum_group(int kind, int half, int R, const uint8_t *w, const int8_t *x, const int32_t *starts, lanes *sums) {
    const int halves = by_halves(kind), from = halves && half ? GROUP / 2 : 0, to = halves && !half ? GROUP / 2 : GROUP;
    for (int r = 0; r < R; r++) {
        int32_t total[LANES];
        for (int lane = 0; lane < LANES; lane++) total[lane] = with_minimum(kind) ? 0 : starts[halves ? r * 2 + half : r];
        for (int k = from; k < to; k++)
            for (int lane = 0; lane < LANES; lane++) total[lane] += unpack(kind, w, k, lane) * x[r * GROUP + k];
        float numbers[LANES];
        for (int lane = 0; lane < LANES; lane++) numbers[lane] = (float)total[lane]; /* below 2^24: exact */
        sums[r] = load(numbers);
    }
}
#endif

/* A tile's group and a block of R rows: 16 scales, and minima or second scales where there are some, x, steps and starts of that group.
   Added to parts[R]. */
INLINE void add_group(int kind, int R, const uint8_t *w, lanes scale, lanes second, const int8_t *x, const float *steps, const int32_t *starts,
                      lanes *parts) {
    lanes sums[INTEGER_ROWS];
    sum_group(kind, 0, R, w, x, starts, sums);
    UNROLL for (int r = 0; r < R; r++) {
        const lanes step = set(steps[r]);
        parts[r] = fma3(sums[r], mul(scale, step), parts[r]);
        if (with_minimum(kind)) parts[r] = fma3(set((float)starts[r]), mul(second, step), parts[r]);
    }
    if (!by_halves(kind)) return;
    sum_group(kind, 1, R, w, x, starts, sums);
    UNROLL for (int r = 0; r < R; r++) parts[r] = fma3(sums[r], mul(second, set(steps[r])), parts[r]);
}

/* Of one tile. */
INLINE const uint8_t *scales_of(const struct weight *weight, int tile) {
    return (const uint8_t *)weight->scales + tile * scale_blocks(weight->kind, weight->shift, weight->groups) * scale_bytes(weight->kind);
}
INLINE const uint16_t *minima_of(const struct weight *weight, int tile) {
    return minima_apart(weight->kind) ? weight->minima + (int64_t)tile * weight->groups * LANES : NULL;
}

/* Whether weights are asked for ahead: processors foresee by themselves what takes longer to read than to compute with. */
INLINE int asks_ahead(int kind, int R) { return !(PATH == PATH_AVX512 && whole_bytes(kind) && R <= 2); }

/* A block of R rows with a tile, which is read as it lies: as one stream, which memory gives a third faster than the several of more tiles
   at a time. The outputs' sums go to sums[R]. */
typedef void integer_kernel(const struct weight *weight, const struct prepared *x, int tile, lanes *sums);

INLINE void integer_rows(int kind, int R, const struct weight *weight, const struct prepared *x, int tile, lanes *sums) {
    const int groups = weight->groups, size = integer_bytes(kind);
    const uint8_t *numbers = (const uint8_t *)weight->numbers + (int64_t)tile * groups * size, *scales = scales_of(weight, tile);
    const uint16_t *minima = minima_of(weight, tile);
    lanes slices[SLICES * INTEGER_ROWS];
    for (int slice = 0; slice < SLICES; slice++) {
        lanes part[INTEGER_ROWS], scale, second = set(0);
        if (R > SUMS_KEPT) KEEP_IN_MEMORY(part);
        UNROLL for (int r = 0; r < R; r++) part[r] = set(0);
        for (int g = slice_start(slice, groups); g < slice_start(slice + 1, groups); g++, numbers += size) {
            if (asks_ahead(kind, R)) /* behind the end of a tile comes what is read after it */
                for (int byte = 0; byte < size; byte += 64) FETCH(numbers + AHEAD + byte);
            load_scales(kind, weight->shift, scales, minima, g, &scale, &second);
            if (R > SUMS_KEPT) KEEP_IN_MEMORY(part);
            add_group(kind, R, numbers, scale, second, x->bytes + g * (R * GROUP), x->steps + g * R, x->starts + g * (R * starts_of(kind)), part);
        }
        UNROLL for (int r = 0; r < R; r++) slices[slice * R + r] = part[r];
    }
    for (int width = 1; width < SLICES; width *= 2)
        for (int slice = 0; slice < SLICES; slice += 2 * width)
            UNROLL for (int r = 0; r < R; r++) slices[slice * R + r] = add(slices[slice * R + r], slices[(slice + width) * R + r]);
    UNROLL for (int r = 0; r < R; r++) sums[r] = slices[r];
}

#define INTEGER_KERNEL(kind, R)                                                                                                        \
    static void kind##_##R(const struct weight *weight, const struct prepared *x, int tile, lanes *sums) { integer_rows(kind, R, weight, x, tile, sums); }
#if INTEGER_ROWS == 8
#define INTEGER_KERNELS(kind)                                                                                                          \
    INTEGER_KERNEL(kind, 1) INTEGER_KERNEL(kind, 2) INTEGER_KERNEL(kind, 3) INTEGER_KERNEL(kind, 4)                                    \
    INTEGER_KERNEL(kind, 5) INTEGER_KERNEL(kind, 6) INTEGER_KERNEL(kind, 7) INTEGER_KERNEL(kind, 8)
#define INTEGERS_OF(kind) {kind##_1, kind##_2, kind##_3, kind##_4, kind##_5, kind##_6, kind##_7, kind##_8}
#elif INTEGER_ROWS == 6
#define INTEGER_KERNELS(kind)                                                                                                          \
    INTEGER_KERNEL(kind, 1) INTEGER_KERNEL(kind, 2) INTEGER_KERNEL(kind, 3)                                                            \
    INTEGER_KERNEL(kind, 4) INTEGER_KERNEL(kind, 5) INTEGER_KERNEL(kind, 6)
#define INTEGERS_OF(kind) {kind##_1, kind##_2, kind##_3, kind##_4, kind##_5, kind##_6}
#else
#define INTEGER_KERNELS(kind) INTEGER_KERNEL(kind, 1) INTEGER_KERNEL(kind, 2)
#define INTEGERS_OF(kind) {kind##_1, kind##_2}
#endif
INTEGER_KERNELS(WEIGHT_INT8)
INTEGER_KERNELS(WEIGHT_INT4)
INTEGER_KERNELS(WEIGHT_INT4_MINIMUM)
INTEGER_KERNELS(WEIGHT_INT5)
INTEGER_KERNELS(WEIGHT_INT5_MINIMUM)
INTEGER_KERNELS(WEIGHT_Q4_K)
INTEGER_KERNELS(WEIGHT_Q5_K)
INTEGER_KERNELS(WEIGHT_Q6_K)
INTEGER_KERNELS(WEIGHT_IQ4_NL)
INTEGER_KERNELS(WEIGHT_IQ4_XS)
INTEGER_KERNELS(WEIGHT_INT4_ZERO)
INTEGER_KERNELS(WEIGHT_INT8_SHARED)
static integer_kernel *const integer_kernels[][INTEGER_ROWS] = {
    [WEIGHT_INT8] = INTEGERS_OF(WEIGHT_INT8),
    [WEIGHT_INT4] = INTEGERS_OF(WEIGHT_INT4),
    [WEIGHT_INT4_MINIMUM] = INTEGERS_OF(WEIGHT_INT4_MINIMUM),
    [WEIGHT_INT5] = INTEGERS_OF(WEIGHT_INT5),
    [WEIGHT_INT5_MINIMUM] = INTEGERS_OF(WEIGHT_INT5_MINIMUM),
    [WEIGHT_Q4_K] = INTEGERS_OF(WEIGHT_Q4_K),
    [WEIGHT_Q5_K] = INTEGERS_OF(WEIGHT_Q5_K),
    [WEIGHT_Q6_K] = INTEGERS_OF(WEIGHT_Q6_K),
    [WEIGHT_IQ4_NL] = INTEGERS_OF(WEIGHT_IQ4_NL),
    [WEIGHT_IQ4_XS] = INTEGERS_OF(WEIGHT_IQ4_XS),
    [WEIGHT_INT4_ZERO] = INTEGERS_OF(WEIGHT_INT4_ZERO),
    [WEIGHT_INT8_SHARED] = INTEGERS_OF(WEIGHT_INT8_SHARED),
};
