/* One fma of binary32: the processor's own where it has one, else made of binary64, and by no library's function.

   The product is exact in 53 bits. The sum is rounded to odd, so that rounding it again to 24 bits is rounding once (Boldo and Melquiond,
   "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008). */
#pragma once
#include <stdint.h>
#include <string.h>

static inline float fused_by_doubles(float a, float b, float c) {
    const double product = (double)a * b, sum = product + c, taken = sum - product;
    const double error = (product - (sum - taken)) + (c - taken); /* exact (Knuth); none where the sum is infinite or none */
    int64_t bits;
    memcpy(&bits, &sum, 8);
    if (error != 0 && error - error == 0 && !(bits & 1)) bits += (error > 0) == (sum > 0) ? 1 : -1;
    double odd;
    memcpy(&odd, &bits, 8);
    return (float)odd;
}

static inline float fused(float a, float b, float c) {
#ifdef __FP_FAST_FMAF
    return __builtin_fmaf(a, b, c);
#else
    return fused_by_doubles(a, b, c);
#endif
}
