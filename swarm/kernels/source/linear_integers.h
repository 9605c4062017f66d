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

/* Whether a sum of bytes begins with more than 0: where integers are stored without their sign, and with the low bytes. */
INLINE int begins(int kind, int wide, int n) { return !with_minimum(kind) && !(wide && n % 2); }
INLINE int32_t start_of(int kind, int half, int wide, int n, const int32_t *starts) {
    const int r = wide ? n / 2 : n;
    return starts[by_halves(kind) ? r * 2 + half : r];
}

/* A tile's group as it is stored: sums of 32 products for R rows, of 16 where each half has a scale of its own. x is [R][32]; starts are
   [R], or [R][2]. Wide rows are [R][2][32]: they are summed as N = 2R rows of bytes, and what their high bytes come to is RADIX times as
   much. A sum of integers of 16 bits may take 27, so that rounding it to binary32 is a step of its own. */
#if PATH == PATH_AVX512
INLINE void sum_group(int kind, int half, int wide, int R, const uint8_t *w, const int8_t *x, const int32_t *starts, lanes *sums) {
    const int halves = by_halves(kind), nibbles = !whole_bytes(kind), from = halves && half ? 4 : 0;
    const int loads = nibbles || halves ? 4 : 8, N = wide ? 2 * R : R;
    __m512i total[INTEGER_ROWS];
    UNROLL for (int n = 0; n < N; n++) total[n] = begins(kind, wide, n) ? _mm512_set1_epi32(start_of(kind, half, wide, n, starts)) : _mm512_setzero_si512();
    UNROLL for (int i = from; i < from + loads; i++) {
        const __m512i low = unpack(kind, w, i);
        UNROLL for (int n = 0; n < N; n++) total[n] = _mm512_dpbusd_epi32(total[n], low, _mm512_set1_epi32(four(x + n * GROUP + i * 4)));
        if (!nibbles || halves) continue;
        const __m512i high = unpack(kind, w, i + 4);
        UNROLL for (int n = 0; n < N; n++) total[n] = _mm512_dpbusd_epi32(total[n], high, _mm512_set1_epi32(four(x + n * GROUP + 16 + i * 4)));
    }
    UNROLL for (int r = 0; r < R; r++) {
        __m512i sum = total[wide ? 2 * r : r];
        if (wide) sum = _mm512_add_epi32(sum, _mm512_sub_epi32(_mm512_slli_epi32(total[2 * r + 1], 8), total[2 * r + 1]));
        sums[r] = _mm512_cvtepi32_ps(sum);
    }
}
#elif PATH == PATH_AVX2
/* Pairs of products are added up in 16 bits as long as they fit: of nibbles eight (2 * 15 * 127 each), of five bits four, of six bits two;
   of bytes, as |w| times x with w's sign, one (2 * 128 * 127). */
INLINE void sum_group(int kind, int half, int wide, int R, const uint8_t *w, const int8_t *x, const int32_t *starts, lanes *sums) {
    const __m256i top = _mm256_set1_epi8(-128), ones = _mm256_set1_epi16(1);
    const int bytes = zero_of(kind) == 128, fitting = bytes ? 1 : by_halves(kind) ? 2 : five_bits(kind) ? 4 : 8;
    const int from = by_halves(kind) && half ? 4 : 0, to = by_halves(kind) && !half ? 4 : 8, N = wide ? 2 * R : R;
    UNROLL for (int eight = 0; eight < 2; eight++) {
        __m256i total[INTEGER_ROWS], pairs[INTEGER_ROWS];
        KEEP_IN_MEMORY(x); /* reading the row's numbers again is cheaper than keeping them from the other half */
        UNROLL for (int i = from; i < to; i++) {
            __m256i number = unpack(kind, w, i, eight), size = number;
            if (bytes) {
                number = _mm256_xor_si256(number, top);
                size = _mm256_abs_epi8(number);
            }
            UNROLL for (int n = 0; n < N; n++) {
                __m256i other = _mm256_set1_epi32(four(x + n * GROUP + i * 4));
                if (bytes) other = _mm256_sign_epi8(other, number);
                other = _mm256_maddubs_epi16(size, other);
                pairs[n] = i % fitting ? _mm256_add_epi16(pairs[n], other) : other;
                __asm__("" : "+x"(pairs[n])); /* added now, not in a tree for which there are no registers */
                if (i % fitting < fitting - 1) continue;
                other = _mm256_madd_epi16(pairs[n], ones);
                total[n] = i - from < fitting ? other : _mm256_add_epi32(total[n], other);
                __asm__("" : "+x"(total[n]));
            }
        }
        UNROLL for (int r = 0; r < R; r++) {
            __m256i sum = total[wide ? 2 * r : r];
            if (wide) sum = _mm256_add_epi32(sum, _mm256_sub_epi32(_mm256_slli_epi32(total[2 * r + 1], 8), total[2 * r + 1]));
            if (!bytes && !with_minimum(kind)) sum = _mm256_add_epi32(sum, _mm256_set1_epi32(starts[by_halves(kind) ? r * 2 + half : r]));
            if (eight) sums[r].high = _mm256_cvtepi32_ps(sum);
            else sums[r].low = _mm256_cvtepi32_ps(sum);
        }
    }
}
#elif PATH == PATH_NEON
INLINE void sum_group(int kind, int half, int wide, int R, const uint8_t *w, const int8_t *x, const int32_t *starts, lanes *sums) {
    const int bytes = zero_of(kind) == 128, from = by_halves(kind) && half ? 4 : 0, to = by_halves(kind) && !half ? 4 : 8;
    const int N = wide ? 2 * R : R;
    UNROLL for (int quarter = 0; quarter < 4; quarter++) {
        int32x4_t total[INTEGER_ROWS];
        UNROLL for (int n = 0; n < N; n++) total[n] = vdupq_n_s32(bytes || !begins(kind, wide, n) ? 0 : start_of(kind, half, wide, n, starts));
        UNROLL for (int i = from; i < to; i++) {
            uint8x16_t number = unpack(kind, w, i, quarter);
            if (bytes) number = veorq_u8(number, vdupq_n_u8(128));
            UNROLL for (int n = 0; n < N; n++)
                total[n] = vdotq_s32(total[n], vreinterpretq_s8_u8(number), vreinterpretq_s8_s32(vdupq_n_s32(four(x + n * GROUP + i * 4))));
        }
        UNROLL for (int r = 0; r < R; r++) {
            int32x4_t sum = total[wide ? 2 * r : r];
            if (wide) sum = vmlaq_n_s32(sum, total[2 * r + 1], RADIX);
            sums[r].part[quarter] = vcvtq_f32_s32(sum);
        }
    }
}
#else
INLINE void sum_group(int kind, int half, int wide, int R, const uint8_t *w, const int8_t *x, const int32_t *starts, lanes *sums) {
    const int halves = by_halves(kind), from = halves && half ? GROUP / 2 : 0, to = halves && !half ? GROUP / 2 : GROUP;
    for (int r = 0; r < R; r++) {
        int32_t total[LANES];
        for (int lane = 0; lane < LANES; lane++) total[lane] = with_minimum(kind) ? 0 : starts[halves ? r * 2 + half : r];
        for (int k = from; k < to; k++)
            for (int lane = 0; lane < LANES; lane++) total[lane] += unpack(kind, w, k, lane) * (wide ? x[2 * r * GROUP + k] + RADIX * x[(2 * r + 1) * GROUP + k] : x[r * GROUP + k]);
        float numbers[LANES];
        for (int lane = 0; lane < LANES; lane++) numbers[lane] = (float)total[lane]; /* of integers of 8 bits below 2^24: exact */
        sums[r] = load(numbers);
    }
}
#endif

/* A tile's group and a block of R rows: 16 scales, and minima or second scales where there are some, x, steps and starts of that group.
   Added to parts[R]. */
INLINE void add_group(int kind, int wide, int R, const uint8_t *w, lanes scale, lanes second, const int8_t *x, const float *steps, const int32_t *starts,
                      lanes *parts) {
    lanes sums[INTEGER_ROWS];
    sum_group(kind, 0, wide, R, w, x, starts, sums);
    UNROLL for (int r = 0; r < R; r++) {
        const lanes step = set(steps[r]);
        parts[r] = fma3(sums[r], mul(scale, step), parts[r]);
        if (with_minimum(kind)) parts[r] = fma3(set((float)starts[r]), mul(second, step), parts[r]);
    }
    if (!by_halves(kind)) return;
    sum_group(kind, 1, wide, R, w, x, starts, sums);
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

INLINE void integer_rows(int kind, int wide, int R, const struct weight *weight, const struct prepared *x, int tile, lanes *sums) {
    const int groups = weight->groups, size = integer_bytes(kind), N = wide ? 2 * R : R;
    const uint8_t *numbers = (const uint8_t *)weight->numbers + (int64_t)tile * groups * size, *scales = scales_of(weight, tile);
    const uint16_t *minima = minima_of(weight, tile);
    lanes slices[SLICES * INTEGER_ROWS];
    for (int slice = 0; slice < SLICES; slice++) {
        lanes part[INTEGER_ROWS], scale, second = set(0);
        if (N > SUMS_KEPT) KEEP_IN_MEMORY(part);
        UNROLL for (int r = 0; r < R; r++) part[r] = set(0);
        for (int g = slice_start(slice, groups); g < slice_start(slice + 1, groups); g++, numbers += size) {
            if (asks_ahead(kind, N)) /* behind the end of a tile comes what is read after it */
                for (int byte = 0; byte < size; byte += 64) FETCH(numbers + AHEAD + byte);
            load_scales(kind, weight->shift, scales, minima, g, &scale, &second);
            if (N > SUMS_KEPT) KEEP_IN_MEMORY(part);
            add_group(kind, wide, R, numbers, scale, second, x->bytes + g * (N * GROUP), x->steps + g * R, x->starts + g * (R * starts_of(kind)), part);
        }
        UNROLL for (int r = 0; r < R; r++) slices[slice * R + r] = part[r];
    }
    for (int width = 1; width < SLICES; width *= 2)
        for (int slice = 0; slice < SLICES; slice += 2 * width)
            UNROLL for (int r = 0; r < R; r++) slices[slice * R + r] = add(slices[slice * R + r], slices[(slice + width) * R + r]);
    UNROLL for (int r = 0; r < R; r++) sums[r] = slices[r];
}

#define INTEGER_KERNEL(kind, R)                                                                                                        \
    static void kind##_##R(const struct weight *weight, const struct prepared *x, int tile, lanes *sums) { integer_rows(kind, 0, R, weight, x, tile, sums); }
#define WIDE_KERNEL(kind, R)                                                                                                           \
    static void kind##_wide_##R(const struct weight *weight, const struct prepared *x, int tile, lanes *sums) { integer_rows(kind, 1, R, weight, x, tile, sums); }
#if INTEGER_ROWS == 8
#define INTEGER_KERNELS(kind)                                                                                                          \
    INTEGER_KERNEL(kind, 1) INTEGER_KERNEL(kind, 2) INTEGER_KERNEL(kind, 3) INTEGER_KERNEL(kind, 4)                                    \
    INTEGER_KERNEL(kind, 5) INTEGER_KERNEL(kind, 6) INTEGER_KERNEL(kind, 7) INTEGER_KERNEL(kind, 8)                                    \
    WIDE_KERNEL(kind, 1) WIDE_KERNEL(kind, 2) WIDE_KERNEL(kind, 3) WIDE_KERNEL(kind, 4)
#define INTEGERS_OF(kind) {kind##_1, kind##_2, kind##_3, kind##_4, kind##_5, kind##_6, kind##_7, kind##_8}
#define WIDE_OF(kind) {kind##_wide_1, kind##_wide_2, kind##_wide_3, kind##_wide_4}
#elif INTEGER_ROWS == 6
#define INTEGER_KERNELS(kind)                                                                                                          \
    INTEGER_KERNEL(kind, 1) INTEGER_KERNEL(kind, 2) INTEGER_KERNEL(kind, 3)                                                            \
    INTEGER_KERNEL(kind, 4) INTEGER_KERNEL(kind, 5) INTEGER_KERNEL(kind, 6)                                                            \
    WIDE_KERNEL(kind, 1) WIDE_KERNEL(kind, 2) WIDE_KERNEL(kind, 3)
#define INTEGERS_OF(kind) {kind##_1, kind##_2, kind##_3, kind##_4, kind##_5, kind##_6}
#define WIDE_OF(kind) {kind##_wide_1, kind##_wide_2, kind##_wide_3}
#else
#define INTEGER_KERNELS(kind) INTEGER_KERNEL(kind, 1) INTEGER_KERNEL(kind, 2) WIDE_KERNEL(kind, 1)
#define INTEGERS_OF(kind) {kind##_1, kind##_2}
#define WIDE_OF(kind) {kind##_wide_1}
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
#define EACH_KIND(of)                                                                                                                  \
    {                                                                                                                                  \
        [WEIGHT_INT8] = of(WEIGHT_INT8),                                                                                               \
        [WEIGHT_INT4] = of(WEIGHT_INT4),                                                                                               \
        [WEIGHT_INT4_MINIMUM] = of(WEIGHT_INT4_MINIMUM),                                                                               \
        [WEIGHT_INT5] = of(WEIGHT_INT5),                                                                                               \
        [WEIGHT_INT5_MINIMUM] = of(WEIGHT_INT5_MINIMUM),                                                                               \
        [WEIGHT_Q4_K] = of(WEIGHT_Q4_K),                                                                                               \
        [WEIGHT_Q5_K] = of(WEIGHT_Q5_K),                                                                                               \
        [WEIGHT_Q6_K] = of(WEIGHT_Q6_K),                                                                                               \
        [WEIGHT_IQ4_NL] = of(WEIGHT_IQ4_NL),                                                                                           \
        [WEIGHT_IQ4_XS] = of(WEIGHT_IQ4_XS),                                                                                           \
        [WEIGHT_INT4_ZERO] = of(WEIGHT_INT4_ZERO),                                                                                     \
        [WEIGHT_INT8_SHARED] = of(WEIGHT_INT8_SHARED),                                                                                 \
    }
static integer_kernel *const integer_kernels[][INTEGER_ROWS] = EACH_KIND(INTEGERS_OF);
static integer_kernel *const wide_kernels[][WIDE_ROWS] = EACH_KIND(WIDE_OF);
