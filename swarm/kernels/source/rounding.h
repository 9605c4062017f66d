/* Rows rounded to the nearest integers that each group of 32 inputs shares a step of, or to floats, packed as packing.c says. */
#pragma once
#include "dequantise.h"
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

/* Inputs of a group of floats, of which `some` are there; the others are zeros. */
INLINE void load_group(int kind, const uint8_t *row, int64_t first, int some, float *numbers) {
    const float *floats = (const float *)row + first;
    const uint16_t *halves = (const uint16_t *)row + first;
    if (some == GROUP) {
        for (int i = 0; i < GROUP; i += LANES)
            store(numbers + i, kind == WEIGHT_FP32 ? load(floats + i) : kind == WEIGHT_BF16 ? load_bf16(halves + i) : load_half(halves + i));
        return;
    }
    memset(numbers, 0, sizeof(float) * GROUP);
    for (int i = 0; i < some; i++)
        numbers[i] = kind == WEIGHT_FP32 ? floats[i] : kind == WEIGHT_BF16 ? float_of_bf16(halves[i]) : float_of_half(halves[i]);
}

/* Likewise of blocks, which are whole groups. What becomes no float of their own precision is rounded to bf16 first. */
INLINE void load_blocks(int kind, int to_kind, const uint8_t *row, int64_t row_bytes, int64_t group, float *numbers) {
    const struct block one = block_of(kind, 0, 0);
    const int64_t block = group / one.groups;
    if ((block + 1) * one.bytes > row_bytes) {
        memset(numbers, 0, sizeof(float) * GROUP);
        return;
    }
    dequantise(kind, row + block * one.bytes, (int)(group % one.groups), numbers);
    if (to_kind == WEIGHT_FP32 || to_kind == WEIGHT_FP16) return;
    for (int i = 0; i < GROUP; i++) {
        const uint32_t bits = bits_of_float(numbers[i]), none = (bits & 0x7fffffff) > 0x7f800000;
        numbers[i] = float_of_bits((none ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u);
    }
}

/* The first of those that are largest in magnitude, with its sign; what is no number counts where it is the first of all. */
INLINE float peak_of(const float *numbers) {
    int32_t sizes[GROUP], most = 0, at = GROUP - 1;
    for (int i = 0; i < GROUP; i++) {
        const int32_t size = (int32_t)(bits_of_float(numbers[i]) & 0x7fffffff);
        sizes[i] = size > 0x7f800000 ? 0 : size;
    }
    for (int i = 0; i < GROUP; i++) most = sizes[i] > most ? sizes[i] : most;
    for (int i = 0; i < GROUP; i++) {
        const int32_t here = sizes[i] == most ? i : GROUP - 1;
        at = here < at ? here : at;
    }
    return numbers[0] != numbers[0] ? numbers[0] : numbers[at];
}

INLINE void round_group(int kind, float *numbers, uint8_t *place, uint16_t *scale) {
    const float least = kind == WEIGHT_INT8 ? -127.0f : -8.0f, most = kind == WEIGHT_INT8 ? 127.0f : 7.0f, peak = peak_of(numbers);
    uint8_t bytes[GROUP];
    uint32_t words[GROUP / 4];
    *scale = half_of_float(kind == WEIGHT_INT8 ? fabsf(peak) / 127.0f : peak / -8.0f);
    const float step = float_of_half(*scale);
    for (int i = 0; i < GROUP; i += LANES)
        store(numbers + i, step == 0 ? set(0) : greater(set(least), lesser(set(most), whole(quotient(load(numbers + i), set(step))))));
    for (int i = 0; i < GROUP; i++) numbers[i] = numbers[i] == numbers[i] ? numbers[i] : 0; /* which is no integer */
    for (int i = 0; i < GROUP; i++) bytes[i] = (uint8_t)((int)numbers[i] + (kind == WEIGHT_INT8 ? 128 : 8));
    memcpy(words, bytes, sizeof words);
    if (kind == WEIGHT_INT4)
        for (int i = 0; i < 4; i++) words[i] |= words[i + 4] << 4; /* whose bytes are below 16 */
    for (int i = 0; i < (kind == WEIGHT_INT8 ? 8 : 4); i++) memcpy(place + i * 64, words + i, 4);
}

/* A group of floats to a lane of a tile, whose numbers begin at `place`. */
INLINE void place_floats(int kind, const float *numbers, void *place, int lane) {
    for (int k = 0; k < GROUP; k++) {
        if (kind == WEIGHT_FP32) ((float *)place)[k * LANES + lane] = numbers[k];
        if (kind == WEIGHT_FP16) ((uint16_t *)place)[k * LANES + lane] = half_of_float(numbers[k]);
    }
    if (kind != WEIGHT_BF16) return;
    for (int i = 0; i < GROUP / 2; i++) /* which are bf16 by now, and go in pairs */
        ((uint32_t *)place)[i * LANES + lane] = bits_of_float(numbers[2 * i]) >> 16 | bits_of_float(numbers[2 * i + 1]);
}

INLINE void pack_group(int kind, const struct rounding *work, const uint8_t *row, int64_t tile, int64_t group, int lane) {
    const struct weight *weight = work->weight;
    const int left = work->columns - (int)group * GROUP, some = left < 0 ? 0 : left < GROUP ? left : GROUP;
    const int64_t block = tile * weight->groups + group;
    float numbers[GROUP];
    if (work->kind >= WEIGHT_INT8) load_blocks(work->kind, kind, row, work->row_bytes, group, numbers);
    else load_group(work->kind, row, group * GROUP, some, numbers);
    if (kind == WEIGHT_INT8 || kind == WEIGHT_INT4)
        round_group(kind, numbers, (uint8_t *)weight->numbers + block * integer_bytes(kind) + lane * 4, (uint16_t *)weight->scales + block * LANES + lane);
    else place_floats(kind, numbers, (uint8_t *)weight->numbers + block * GROUP * LANES * (kind == WEIGHT_FP32 ? 4 : 2), lane);
}

/* Threads have tiles of their own. */
static void rounding_job(void *argument, int thread, struct team *team) {
    const struct rounding *work = argument;
    const struct weight *weight = work->weight;
    const int first_tile = work->from / LANES, tiles = (work->from + work->count + LANES - 1) / LANES - first_tile;
    int64_t from, to;
    share_of(tiles, thread, team, &from, &to);
    for (int64_t tile = first_tile + from; tile < first_tile + to; tile++)
        for (int64_t group = 0; group < weight->groups; group++)
            for (int lane = 0; lane < LANES; lane++) {
                const int64_t number = tile * LANES + lane - work->from;
                if (number < 0 || number >= work->count) continue;
                const uint8_t *row = (const uint8_t *)work->rows + number * work->row_bytes;
                switch (weight->kind) {
                case WEIGHT_INT8: pack_group(WEIGHT_INT8, work, row, tile, group, lane); break;
                case WEIGHT_INT4: pack_group(WEIGHT_INT4, work, row, tile, group, lane); break;
                case WEIGHT_FP32: pack_group(WEIGHT_FP32, work, row, tile, group, lane); break;
                case WEIGHT_BF16: pack_group(WEIGHT_BF16, work, row, tile, group, lane); break;
                default: pack_group(WEIGHT_FP16, work, row, tile, group, lane);
                }
            }
}
