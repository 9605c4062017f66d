/* Cosines and sines by fixed polynomials in binary64: no library's, whose last digits differ. */
#include <math.h>
#include <stdint.h>

/* [positions][half] each, of angles [positions][half] in radians, times a factor for each column, rounded once to binary32. The angle is
   brought into a quarter turn around 0 by three constants whose sum is pi / 2 (Cody and Waite, 1980); the series are Taylor's, whose first
   term left out is below 2^-53 there. */
void swarm_turns(const double *angles, const double *factors, int64_t positions, int64_t half, float *cosines, float *sines) {
    for (int64_t i = 0; i < positions * half; i++) {
        double x = angles[i], n = floor(x * 0x1.45f306dc9c883p-1 + 0.5);
        double r = ((x - n * 0x1.921fb544p+0) - n * 0x1.0b4611a6p-34) - n * 0x1.3198a2e037073p-69, z = r * r;
        double sine = 1.0 / 355687428096000.0, cosine = 1.0 / 20922789888000.0;
        static const double odd[] = {-1.0 / 1307674368000.0, 1.0 / 6227020800.0, -1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6, 1.0};
        static const double even[] = {-1.0 / 87178291200.0, 1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24, -0.5, 1.0};
        for (int term = 0; term < 8; term++) {
            sine = odd[term] + z * sine;
            cosine = even[term] + z * cosine;
        }
        sine = r * sine;
        double turned = n - 4.0 * floor(n * 0.25); /* exact: 0 to 3, or no number of angles that are none */
        int quarter = turned == turned ? (int)turned : 0;
        double c = quarter == 0 ? cosine : quarter == 1 ? -sine : quarter == 2 ? -cosine : sine;
        double s = quarter == 0 ? sine : quarter == 1 ? cosine : quarter == 2 ? -sine : -cosine;
        cosines[i] = (float)(c * factors[i % half]);
        sines[i] = (float)(s * factors[i % half]);
    }
}
