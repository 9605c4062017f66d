/* Products of integer weights: exact sums of 32, each of which one fma adds. */
#pragma once
#include "linear_rows.h"

/* How the integers of a group lie: as they are stored, or nibbles that were unpacked, one to a byte. */
enum layout { LAYOUT_BYTES, LAYOUT_NIBBLES, LAYOUT_UNPACKED };

INLINE int group_bytes(int layout) { return layout == LAYOUT_NIBBLES ? GROUP * LANES / 2 : GROUP * LANES; }

/* Sums of 32 products for R rows and T tiles, in which 64 bytes hold four inputs and the next four follow `step` bytes on; x [R][32] and
   starts [R] of this group. */
#if PATH == PATH_AVX512
INLINE void sum_group(int layout, int minimum, int R, int T, const uint8_t *const *w, int step, const int8_t *x, const int32_t *starts,
                      lanes *sums) {
    const __m512i nibble = _mm512_set1_epi8(15);
    const int loads = layout == LAYOUT_NIBBLES ? 4 : 8;
    __m512i total[ROWS * 4];
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int t = 0; t < T; t++) total[r * T + t] = minimum ? _mm512_setzero_si512() : _mm512_set1_epi32(starts[r]);
    UNROLL for (int i = 0; i < loads; i++) {
        __m512i low[4], high[4];
        UNROLL for (int t = 0; t < T; t++) {
            low[t] = _mm512_loadu_si512(w[t] + i * step);
            if (layout == LAYOUT_NIBBLES) {
                high[t] = _mm512_and_si512(_mm512_srli_epi16(low[t], 4), nibble);
                low[t] = _mm512_and_si512(low[t], nibble);
            }
        }
        UNROLL for (int r = 0; r < R; r++) {
            int32_t quad;
            memcpy(&quad, x + r * GROUP + i * 4, 4);
            UNROLL for (int t = 0; t < T; t++) total[r * T + t] = _mm512_dpbusd_epi32(total[r * T + t], low[t], _mm512_set1_epi32(quad));
        }
        if (layout == LAYOUT_NIBBLES) UNROLL for (int r = 0; r < R; r++) {
            int32_t quad;
            memcpy(&quad, x + r * GROUP + 16 + i * 4, 4);
            UNROLL for (int t = 0; t < T; t++) total[r * T + t] = _mm512_dpbusd_epi32(total[r * T + t], high[t], _mm512_set1_epi32(quad));
        }
    }
    UNROLL for (int i = 0; i < R * T; i++) sums[i] = _mm512_cvtepi32_ps(total[i]);
}
#elif PATH == PATH_AVX2
/* A pair of products fits 16 bits: nibbles reach 2 * 15 * 127 and eight pairs 30480; bytes, as |w| times x with w's sign, 2 * 128 * 127. */
INLINE void sum_group(int layout, int minimum, int R, int T, const uint8_t *const *w, int step, const int8_t *x, const int32_t *starts,
                      lanes *sums) {
    const __m256i nibble = _mm256_set1_epi8(15), top = _mm256_set1_epi8(-128), ones = _mm256_set1_epi16(1);
    UNROLL for (int half = 0; half < T * 2; half++) {
        const uint8_t *p = w[half / 2] + half % 2 * 32;
        __m256i total[ROWS];
        UNROLL for (int r = 0; r < R; r++) total[r] = _mm256_setzero_si256();
        UNROLL for (int i = 0; i < 8; i++) {
            __m256i number = _mm256_loadu_si256((const void *)(p + (layout == LAYOUT_NIBBLES ? i & 3 : i) * step)), size = number;
            if (layout == LAYOUT_BYTES) {
                number = _mm256_xor_si256(number, top);
                size = _mm256_abs_epi8(number);
            }
            if (layout == LAYOUT_NIBBLES) size = _mm256_and_si256(i < 4 ? number : _mm256_srli_epi16(number, 4), nibble);
            UNROLL for (int r = 0; r < R; r++) {
                int32_t quad;
                memcpy(&quad, x + r * GROUP + i * 4, 4);
                __m256i other = _mm256_set1_epi32(quad);
                if (layout == LAYOUT_BYTES)
                    total[r] = _mm256_add_epi32(total[r], _mm256_madd_epi16(_mm256_maddubs_epi16(size, _mm256_sign_epi8(other, number)), ones));
                else total[r] = _mm256_add_epi16(total[r], _mm256_maddubs_epi16(size, other));
            }
        }
        UNROLL for (int r = 0; r < R; r++) {
            if (layout != LAYOUT_BYTES) {
                total[r] = _mm256_madd_epi16(total[r], ones);
                if (!minimum) total[r] = _mm256_add_epi32(total[r], _mm256_set1_epi32(starts[r]));
            }
            if (half % 2) sums[r * T + half / 2].high = _mm256_cvtepi32_ps(total[r]);
            else sums[r * T + half / 2].low = _mm256_cvtepi32_ps(total[r]);
        }
    }
}
#elif PATH == PATH_NEON
INLINE void sum_group(int layout, int minimum, int R, int T, const uint8_t *const *w, int step, const int8_t *x, const int32_t *starts,
                      lanes *sums) {
    UNROLL for (int t = 0; t < T; t++)
        UNROLL for (int part = 0; part < 4; part++) {
            const uint8_t *p = w[t] + part * 16; /* of 4 outputs, 4 inputs of each */
            int32x4_t total[ROWS];
            UNROLL for (int r = 0; r < R; r++) total[r] = vdupq_n_s32(layout == LAYOUT_BYTES || minimum ? 0 : starts[r]);
            UNROLL for (int i = 0; i < 8; i++) {
                uint8x16_t number = vld1q_u8(p + (layout == LAYOUT_NIBBLES ? i & 3 : i) * step);
                if (layout == LAYOUT_BYTES) number = veorq_u8(number, vdupq_n_u8(128));
                if (layout == LAYOUT_NIBBLES) number = i < 4 ? vandq_u8(number, vdupq_n_u8(15)) : vshrq_n_u8(number, 4);
                UNROLL for (int r = 0; r < R; r++) {
                    int32_t quad;
                    memcpy(&quad, x + r * GROUP + i * 4, 4);
                    total[r] = vdotq_s32(total[r], vreinterpretq_s8_u8(number), vreinterpretq_s8_s32(vdupq_n_s32(quad)));
                }
            }
            UNROLL for (int r = 0; r < R; r++) sums[r * T + t].part[part] = vcvtq_f32_s32(total[r]);
        }
}
#else
INLINE void sum_group(int layout, int minimum, int R, int T, const uint8_t *const *w, int step, const int8_t *x, const int32_t *starts,
                      lanes *sums) {
    for (int t = 0; t < T; t++)
        for (int r = 0; r < R; r++) {
            int32_t total[LANES];
            for (int lane = 0; lane < LANES; lane++) total[lane] = minimum ? 0 : starts[r];
            for (int k = 0; k < GROUP; k++)
                for (int lane = 0; lane < LANES; lane++) {
                    int byte = w[t][(layout == LAYOUT_NIBBLES ? k % 16 : k) / 4 * step + lane * 4 + k % 4];
                    total[lane] += (layout != LAYOUT_NIBBLES ? byte : k < 16 ? byte & 15 : byte >> 4) * x[r * GROUP + k];
                }
            float numbers[LANES];
            for (int lane = 0; lane < LANES; lane++) numbers[lane] = (float)total[lane]; /* below 2^24: exact */
            sums[r * T + t] = load(numbers);
        }
}
#endif

/* A group of T tiles and a block of R rows: T times 16 scales, and minima where there are some, x, steps and starts of that group. Added to
   parts[R][width]. */
INLINE void add_group(int layout, int minimum, int R, int T, const uint8_t *const *w, int step, const lanes *scales, const lanes *minima,
                      const int8_t *x, const float *steps, const int32_t *starts, lanes *parts, int width) {
    lanes sums[ROWS * 4];
    sum_group(layout, minimum, R, T, w, step, x, starts, sums);
    UNROLL for (int r = 0; r < R; r++) {
        const lanes step_of_row = set(steps[r]);
        UNROLL for (int t = 0; t < T; t++) {
            lanes part = fma3(sums[r * T + t], mul(scales[t], step_of_row), parts[r * width + t]);
            if (minimum) part = fma3(set((float)starts[r]), mul(minima[t], step_of_row), part);
            parts[r * width + t] = part;
        }
    }
}

/* `count` groups of a tile, whose next four inputs follow `step` bytes on: of bytes as they are, of nibbles one to a byte. */
static void spread_bytes(const uint8_t *restrict numbers, int count, int step, uint8_t *restrict out) {
    for (int i = 0; i < count * 8; i++) memcpy(out + i * step, numbers + i * 64, 64);
}
static void spread_nibbles(const uint8_t *restrict numbers, int count, int step, uint8_t *restrict out) {
    for (int g = 0; g < count; g++, numbers += GROUP * LANES / 2, out += 8 * step)
        for (int i = 0; i < 4; i++)
            for (int byte = 0; byte < 64; byte++) {
                out[i * step + byte] = numbers[i * 64 + byte] & 15;
                out[(i + 4) * step + byte] = numbers[i * 64 + byte] >> 4;
            }
}
