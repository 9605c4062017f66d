/* Numbers to compute with, from a seed: the same on every machine. */
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum values { TAME, HOSTILE };
enum mood { CALM, HUGE_ONES, SUBNORMAL, ZEROS, ANY_FINITE, ONE_NO_NUMBER, ONE_INFINITY, ANY_BITS, MOODS };

struct seed {
    uint64_t state;
};

/* Marsaglia's xorshift64*. */
static inline uint32_t draw(struct seed *seed) {
    seed->state ^= seed->state >> 12;
    seed->state ^= seed->state << 25;
    seed->state ^= seed->state >> 27;
    return (uint32_t)(seed->state * 0x2545f4914f6cdd1dull >> 32);
}

static inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* `count` items of `size` bytes, whose first lies at no rounder address than it must; what is behind the last belongs to nobody. */
struct room {
    void *taken, *items;
};
static inline struct room room_for(int64_t count, size_t size) {
    char *taken = malloc((size_t)(count + 1) * size);
    if (!taken) {
        fprintf(stderr, "driver: no memory for %lld items of %zu bytes\n", (long long)count, size);
        exit(3);
    }
    return (struct room){taken, taken + size};
}
static inline void give_back(struct room room) { free(room.taken); }

/* The bits of binary32 numbers [rows][width]; each row of hostile ones is in a mood of its own. */
static inline void fill(struct seed *seed, enum values values, uint32_t *numbers, int64_t rows, int64_t width) {
    for (int64_t row = 0; row < rows; row++, numbers += width) {
        const enum mood mood = values == TAME ? CALM : (enum mood)(draw(seed) % MOODS);
        for (int64_t i = 0; i < width; i++) {
            const uint32_t drawn = draw(seed), sign = drawn & 0x80000000u;
            const float calm = (float)((int32_t)(drawn & 0xffff) - 32768) / 16384.0f;
            switch (mood) {
            case HUGE_ONES: numbers[i] = bits_of(calm * 0x1p126f); break;
            case SUBNORMAL: numbers[i] = sign | (drawn & 0x007fffff); break;
            case ZEROS: numbers[i] = sign; break;
            case ANY_FINITE: numbers[i] = (drawn & 0x7f800000u) == 0x7f800000u ? drawn & 0xff7fffffu : drawn; break;
            case ANY_BITS: numbers[i] = drawn; break;
            default: numbers[i] = bits_of(calm);
            }
        }
        if (width && mood == ONE_NO_NUMBER) numbers[draw(seed) % width] = 0x7fc00000u | (draw(seed) & 0x803fffffu);
        if (width && mood == ONE_INFINITY) numbers[draw(seed) % width] = 0x7f800000u | (draw(seed) & 0x80000000u);
    }
}

/* [rows][width] numbers of 16 bits: the upper half of binary32, or binary16 of like size. */
static inline void fill_halves(struct seed *seed, enum values values, int binary16, uint16_t *numbers, int64_t rows, int64_t width) {
    struct room wide = room_for(width, 4);
    uint32_t *row_of = wide.items;
    for (int64_t row = 0; row < rows; row++)  {
        fill(seed, values, row_of, 1, width);
        for (int64_t i = 0; i < width; i++) {
            const uint32_t bits = row_of[i], exponent = bits >> 23 & 0xff;
            if (!binary16) numbers[row * width + i] = (uint16_t)(bits >> 16);
            else { /* exponents far from 1 become subnormals, infinities and what is no number */
                const uint32_t held = exponent < 112 ? 0 : exponent > 143 ? 31 : exponent - 112;
                numbers[row * width + i] = (uint16_t)(bits >> 16 & 0x8000) | (uint16_t)(held << 10) | (uint16_t)(bits >> 13 & 0x3ff);
            }
        }
    }
    give_back(wide);
}

static inline struct room numbers_of(struct seed *seed, enum values values, int64_t rows, int64_t width) {
    struct room room = room_for(rows * width, 4);
    fill(seed, values, room.items, rows, width);
    return room;
}
