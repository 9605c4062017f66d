/* `fma SEED COUNT`: numbers of every kind through fused_by_doubles and the processor's own fma, or the C library's where it has none. The
   first triple that comes to something else is printed, else the count. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "fused.h"

static uint64_t state;

static uint64_t draw(void) { /* splitmix64 */
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* Any bits; few digits, so that products end in ties; the ends of each range. */
static float number(void) {
    const uint32_t bits = (uint32_t)draw();
    switch (draw() % 4) {
    case 0: return float_of(bits);
    case 1: return float_of(bits & 0xfff80000u);
    case 2: return float_of((bits & 0x807fffffu) | (uint32_t)(100 + draw() % 56) << 23);
    default: return float_of((bits & 0x80000003u) | (uint32_t)(draw() % 255) << 23);
    }
}

/* What stands near a product's other end, or half a step of it away. */
static float beside(float a, float b) {
    const double product = (double)a * b;
    const int shift = (int)(draw() % 60) - 30;
    const float near = (float)(draw() % 2 ? -product : ldexp(product, shift));
    return float_of(bits_of(near) + (uint32_t)(draw() % 5) - 2);
}

int main(int count_of, char **arguments) {
    if (count_of != 3) return 2;
    state = strtoull(arguments[1], NULL, 10);
    const long count = strtol(arguments[2], NULL, 10);
    for (long i = 0; i < count; i++) {
        const float a = number(), b = number(), c = draw() % 2 ? number() : beside(a, b);
        const float found = fused_by_doubles(a, b, c), right = fmaf(a, b, c);
        if (bits_of(found) != bits_of(right) && (found == found || right == right)) {
            printf("%a %a %a: %a, not %a\n", (double)a, (double)b, (double)c, (double)found, (double)right);
            return 1;
        }
    }
    printf("%ld\n", count);
    return 0;
}
