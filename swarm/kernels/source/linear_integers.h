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
#define SUMS_KEPT 12 /* besides as many that are being added */
#else
#define SUMS_KEPT 4
#endif

/* Of a kind as it is stored, or `opened`, one integer to a byte: sums of 32 products for R rows and T tiles, of 16 where each half has a
   scale of its own. Of what is opened 64 bytes hold four inputs and the next four follow `step` bytes on; x is [R][32]; starts are [R], or
   [R][2]. */
#if PATH == PATH_AVX512
INLINE void sum_group(int kind, int opened, int half, int R, int T, const uint8_t *const *w, int step, const int8_t *x, const int32_t *starts,
                      lanes *sums) {
    const int halves = by_halves(kind), nibbles = !opened && !whole_bytes(kind), from = halves && half ? 4 : 0;
    const int loads = nibbles || halves ? 4 : 8;
    __m512i total[ROWS * 4];
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int t = 0; t < T; t++)
            total[r * T + t] = with_minimum(kind) ? _mm512_setzero_si512() : _mm512_set1_epi32(starts[halves ? r * 2 + half : r]);
    UNROLL for (int i = from; i < from + loads; i++) {
        __m512i low[4], high[4];
        UNROLL for (int t = 0; t < T; t++) {
            low[t] = opened ? _mm512_loadu_si512(w[t] + i * step) : unpack(kind, w[t], i);
            if (nibbles && !halves) high[t] = unpack(kind, w[t], i + 4);
        }
        UNROLL for (int r = 0; r < R; r++) {
            int32_t quad;
            memcpy(&quad, x + r * GROUP + i * 4, 4);
            UNROLL for (int t = 0; t < T; t++) total[r * T + t] = _mm512_dpbusd_epi32(total[r * T + t], low[t], _mm512_set1_epi32(quad));
        }
        if (nibbles && !halves) UNROLL for (int r = 0; r < R; r++) {
            int32_t quad;
            memcpy(&quad, x + r * GROUP + 16 + i * 4, 4);
            UNROLL for (int t = 0; t < T; t++) total[r * T + t] = _mm512_dpbusd_epi32(total[r * T + t], high[t], _mm512_set1_epi32(quad));
        }
    }
    UNROLL for (int i = 0; i < R * T; i++) sums[i] = _mm512_cvtepi32_ps(total[i]);
}
#elif PATH == PATH_AVX2
/* Pairs of products are added up in 16 bits as long as they fit: of nibbles eight (2 * 15 * 127 each), of five bits four, of six bits two;
   of bytes, as |w| times x with w's sign, one (2 * 128 * 127). */
INLINE void sum_group(int kind, int opened, int half, int R, int T, const uint8_t *const *w, int step, const int8_t *x, const int32_t *starts,
                      lanes *sums) {
    const __m256i top = _mm256_set1_epi8(-128), ones = _mm256_set1_epi16(1);
    const int bytes = zero_of(kind) == 128, fitting = bytes ? 1 : by_halves(kind) ? 2 : five_bits(kind) ? 4 : 8;
    const int from = by_halves(kind) && half ? 4 : 0, to = by_halves(kind) && !half ? 4 : 8;
    UNROLL for (int eight = 0; eight < T * 2; eight++) {
        __m256i total[ROWS], pairs[ROWS];
        KEEP_IN_MEMORY(x); /* reading the row's numbers again is cheaper than keeping them from the other half */
        UNROLL for (int i = from; i < to; i++) {
            const uint8_t *p = w[eight / 2];
            __m256i number = opened ? _mm256_loadu_si256((const void *)(p + eight % 2 * 32 + i * step)) : unpack(kind, p, i, eight % 2);
            __m256i size = number;
            if (bytes) {
                number = _mm256_xor_si256(number, top);
                size = _mm256_abs_epi8(number);
            }
            UNROLL for (int r = 0; r < R; r++) {
                int32_t quad;
                memcpy(&quad, x + r * GROUP + i * 4, 4);
                __m256i other = _mm256_set1_epi32(quad);
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
            if (eight % 2) sums[r * T + eight / 2].high = _mm256_cvtepi32_ps(total[r]);
            else sums[r * T + eight / 2].low = _mm256_cvtepi32_ps(total[r]);
        }
    }
}
#elif PATH == PATH_NEON
INLINE void sum_group(int kind, int opened, int half, int R, int T, const uint8_t *const *w, int step, const int8_t *x, const int32_t *starts,
                      lanes *sums) {
    const int bytes = zero_of(kind) == 128, from = by_halves(kind) && half ? 4 : 0, to = by_halves(kind) && !half ? 4 : 8;
    UNROLL for (int t = 0; t < T; t++)
        UNROLL for (int quarter = 0; quarter < 4; quarter++) {
            int32x4_t total[ROWS];
            UNROLL for (int r = 0; r < R; r++) total[r] = vdupq_n_s32(bytes || with_minimum(kind) ? 0 : starts[by_halves(kind) ? r * 2 + half : r]);
            UNROLL for (int i = from; i < to; i++) {
                uint8x16_t number = opened ? vld1q_u8(w[t] + quarter * 16 + i * step) : unpack(kind, w[t], i, quarter);
                if (bytes) number = veorq_u8(number, vdupq_n_u8(128));
                UNROLL for (int r = 0; r < R; r++) {
                    int32_t quad;
                    memcpy(&quad, x + r * GROUP + i * 4, 4);
                    total[r] = vdotq_s32(total[r], vreinterpretq_s8_u8(number), vreinterpretq_s8_s32(vdupq_n_s32(quad)));
                }
            }
            UNROLL for (int r = 0; r < R; r++) sums[r * T + t].part[quarter] = vcvtq_f32_s32(total[r]);
        }
}
#else
INLINE void sum_group(int kind, int opened, int half, int R, int T, const uint8_t *const *w, int step, const int8_t *x, const int32_t *starts,
                      lanes *sums) {
    const int halves = by_halves(kind), from = halves && half ? GROUP / 2 : 0, to = halves && !half ? GROUP / 2 : GROUP;
    for (int t = 0; t < T; t++)
        for (int r = 0; r < R; r++) {
            int32_t total[LANES];
            for (int lane = 0; lane < LANES; lane++) total[lane] = with_minimum(kind) ? 0 : starts[halves ? r * 2 + half : r];
            for (int k = from; k < to; k++)
                for (int lane = 0; lane < LANES; lane++)
                    total[lane] += (opened ? w[t][k / 4 * step + lane * 4 + k % 4] : unpack(kind, w[t], k, lane)) * x[r * GROUP + k];
            float numbers[LANES];
            for (int lane = 0; lane < LANES; lane++) numbers[lane] = (float)total[lane]; /* below 2^24: exact */
            sums[r * T + t] = load(numbers);
        }
}
#endif

/* A group of T tiles and a block of R rows: T times 16 scales, and minima or second scales where there are some, x, steps and starts of
   that group. Added to parts[R][width]. */
INLINE void add_group(int kind, int opened, int R, int T, const uint8_t *const *w, int step, const lanes *scales, const lanes *seconds,
                      const int8_t *x, const float *steps, const int32_t *starts, lanes *parts, int width) {
    lanes sums[ROWS * 4];
    sum_group(kind, opened, 0, R, T, w, step, x, starts, sums);
    UNROLL for (int r = 0; r < R; r++) {
        const lanes step_of_row = set(steps[r]);
        UNROLL for (int t = 0; t < T; t++) {
            lanes part = fma3(sums[r * T + t], mul(scales[t], step_of_row), parts[r * width + t]);
            if (with_minimum(kind)) part = fma3(set((float)starts[r]), mul(seconds[t], step_of_row), part);
            parts[r * width + t] = part;
        }
    }
    if (!by_halves(kind)) return;
    sum_group(kind, opened, 1, R, T, w, step, x, starts, sums);
    UNROLL for (int r = 0; r < R; r++) {
        const lanes step_of_row = set(steps[r]);
        UNROLL for (int t = 0; t < T; t++)
            parts[r * width + t] = fma3(sums[r * T + t], mul(seconds[t], step_of_row), parts[r * width + t]);
    }
}

/* `count` groups of a tile, one integer to a byte; the next four inputs follow `step` bytes on. */
INLINE void open_numbers(int kind, const uint8_t *numbers, int count, int step, uint8_t *out) {
    for (int g = 0; g < count; g++, numbers += integer_bytes(kind), out += 8 * step)
        UNROLL for (int i = 0; i < 8; i++) {
#if PATH == PATH_AVX512
            _mm512_storeu_si512(out + i * step, unpack(kind, numbers, i));
#elif PATH == PATH_AVX2
            _mm256_storeu_si256((void *)(out + i * step), unpack(kind, numbers, i, 0));
            _mm256_storeu_si256((void *)(out + i * step + 32), unpack(kind, numbers, i, 1));
#elif PATH == PATH_NEON
            UNROLL for (int quarter = 0; quarter < 4; quarter++) vst1q_u8(out + i * step + quarter * 16, unpack(kind, numbers, i, quarter));
#else
            for (int byte = 0; byte < 64; byte++) out[i * step + byte] = (uint8_t)unpack(kind, numbers, i * 4 + byte % 4, byte / 4);
#endif
        }
}
