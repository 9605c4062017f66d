/* Floats rounded to the nearest integers that each group of 32 inputs shares a step of, packed as packing.c says. */
#pragma once
#include "lanes.h"
#include "path.h"

/* binary16 of a binary32, to nearest even. */
static uint16_t half_of_float(float value) {
    const uint32_t bits = bits_of_float(value), size = bits & 0x7fffffff, sign = bits >> 16 & 0x8000;
    if (size > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (size >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (size < 0x38800000) /* steps of 2^-24: those of binary32 from 0.5 on */
        return (uint16_t)(sign | (bits_of_float(float_of_bits(size) + 0.5f) - 0x3f000000u));
    return (uint16_t)(sign | ((size + 0xfff + (size >> 13 & 1) - 0x38000000u) >> 13));
}

INLINE lanes load_kind(int kind, const void *rows, int64_t at) {
    if (kind == WEIGHT_FP32) return load((const float *)rows + at);
    return kind == WEIGHT_BF16 ? load_bf16((const uint16_t *)rows + at) : load_half((const uint16_t *)rows + at);
}

/* 32 inputs, of which `some` are there; the others are zeros. */
INLINE void load_group(int kind, const void *rows, int64_t at, int some, float *numbers) {
    if (some == GROUP) {
        store(numbers, load_kind(kind, rows, at));
        store(numbers + LANES, load_kind(kind, rows, at + LANES));
        return;
    }
    memset(numbers, 0, sizeof(float) * GROUP);
    for (int i = 0; i < some; i++)
        numbers[i] = kind == WEIGHT_FP32   ? ((const float *)rows)[at + i]
                     : kind == WEIGHT_BF16 ? float_of_bf16(((const uint16_t *)rows)[at + i])
                                           : float_of_half(((const uint16_t *)rows)[at + i]);
}

/* The first of those that are largest in magnitude, with its sign. */
static float peak_of(const float *numbers) {
    float peak = numbers[0];
    for (int i = 1; i < GROUP; i++) peak = fabsf(numbers[i]) > fabsf(peak) ? numbers[i] : peak;
    return peak;
}

INLINE void round_group(int kind, int from_kind, const void *rows, int64_t at, int some, uint8_t *place, uint16_t *scale) {
    float numbers[GROUP];
    uint8_t bytes[GROUP];
    load_group(from_kind, rows, at, some, numbers);
    const float peak = peak_of(numbers);
    *scale = half_of_float(kind == WEIGHT_INT8 ? fabsf(peak) / 127.0f : peak / -8.0f);
    const float step = float_of_half(*scale), least = kind == WEIGHT_INT8 ? -127.0f : -8.0f, most = kind == WEIGHT_INT8 ? 127.0f : 7.0f;
    for (int i = 0; i < GROUP; i += LANES) {
        if (step == 0) store(numbers + i, set(0));
        else store(numbers + i, greater(set(least), lesser(set(most), whole(quotient(load(numbers + i), set(step))))));
    }
    for (int i = 0; i < GROUP; i++) bytes[i] = (uint8_t)((int)numbers[i] + (kind == WEIGHT_INT8 ? 128 : 8));
    if (kind == WEIGHT_INT8)
        for (int k = 0; k < GROUP; k += 4) memcpy(place + k / 4 * 64, bytes + k, 4);
    else {
        for (int k = 0; k < GROUP / 2; k++) bytes[k] |= (uint8_t)(bytes[k + GROUP / 2] << 4);
        for (int k = 0; k < GROUP / 2; k += 4) memcpy(place + k / 4 * 64, bytes + k, 4);
    }
}

/* Threads have tiles of their own. */
static void rounding_job(void *argument, int thread, struct team *team) {
    const struct rounding *work = argument;
    const struct weight *weight = work->weight;
    const int kind = weight->kind, first_tile = work->from / LANES, tiles = (work->from + work->count + LANES - 1) / LANES - first_tile;
    const int64_t bytes = kind == WEIGHT_INT8 ? GROUP * LANES : GROUP * LANES / 2;
    int64_t from, to;
    share_of(tiles, thread, team, &from, &to);
    for (int64_t tile = first_tile + from; tile < first_tile + to; tile++)
        for (int64_t group = 0; group < weight->groups; group++)
            for (int lane = 0; lane < LANES; lane++) {
                const int64_t row = tile * LANES + lane - work->from, block = tile * weight->groups + group;
                const int left = work->columns - (int)group * GROUP, some = left < 0 ? 0 : left < GROUP ? left : GROUP;
                if (row < 0 || row >= work->count) continue;
                uint8_t *place = (uint8_t *)weight->numbers + block * bytes + lane * 4;
                uint16_t *scale = (uint16_t *)weight->scales + block * LANES + lane;
                const int64_t at = row * work->columns + group * GROUP;
                if (kind == WEIGHT_INT8) round_group(WEIGHT_INT8, work->kind, work->rows, at, some, place, scale);
                else round_group(WEIGHT_INT4, work->kind, work->rows, at, some, place, scale);
            }
}
