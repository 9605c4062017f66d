/* Products of float weights: fma in each lane, inputs ascending. */
#pragma once
#include "linear_rows.h"

/* Two inputs' numbers, the first of which lies at `at` and the second `step` on; bf16 has them in pairs. */
INLINE void load_inputs(int kind, const void *numbers, int at, int step, lanes *even, lanes *odd) {
    if (kind == WEIGHT_BF16) load_bf16_pairs((const uint16_t *)numbers + at, even, odd);
    else {
        *even = kind == WEIGHT_FP32 ? load((const float *)numbers + at) : load_half((const uint16_t *)numbers + at);
        *odd = kind == WEIGHT_FP32 ? load((const float *)numbers + at + step) : load_half((const uint16_t *)numbers + at + step);
    }
}

/* Inputs k and k + 1 of a group of T tiles, in which each input's 16 numbers follow the last one's `step` numbers on, and of a block of R
   rows [input][R]; added to sums[R][T]. */
INLINE void add_inputs(int kind, int R, int T, const void *const *w, int k, int step, const float *x, lanes *sums) {
    lanes even[4], odd[4];
    UNROLL for (int t = 0; t < T; t++) load_inputs(kind, w[t], k * step, step, even + t, odd + t);
    UNROLL for (int r = 0; r < R; r++) {
        lanes now = set(x[k * R + r]);
        UNROLL for (int t = 0; t < T; t++) sums[r * T + t] = fma3(even[t], now, sums[r * T + t]);
    }
    UNROLL for (int r = 0; r < R; r++) {
        lanes now = set(x[k * R + R + r]);
        UNROLL for (int t = 0; t < T; t++) sums[r * T + t] = fma3(odd[t], now, sums[r * T + t]);
    }
}

/* `inputs` inputs of a tile as fp32, `step` numbers from one to the next. */
static void spread_floats(int kind, const void *numbers, int inputs, int step, float *out) {
    for (int k = 0; k < inputs; k += 2, out += 2 * step) {
        lanes even, odd;
        load_inputs(kind, numbers, k * LANES, LANES, &even, &odd);
        store(out, even);
        store(out + step, odd);
    }
}
