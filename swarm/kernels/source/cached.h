/* Keys and values as caches hold them: fp32 or bf16, or bytes with a step for each head of a position. */
#pragma once
#include "path.h"
#include "quantise.h"

/* What one head of a position takes, in the numbers that the kind is of. Bytes stand in tiles of 16 positions, and their steps behind
   each tile: [16] binary32. */
INLINE int64_t head_numbers(int kind, int dim) { return kind == CACHE_INT8 ? dim + (int64_t)sizeof(float) : dim; }
INLINE float *steps_of_tile(const void *cached, int64_t tile_at, int dim) { return (float *)((int8_t *)cached + tile_at + (int64_t)LANES * dim); }

INLINE lanes load_cached(int kind, const void *p, int64_t at, int count) {
    if (kind == CACHE_FP32) return count == LANES ? load((const float *)p + at) : load_some((const float *)p + at, count);
    if (kind == CACHE_INT8) {
        int8_t bytes[LANES] = {0};
        if (count == LANES) return load_bytes((const int8_t *)p + at);
        memcpy(bytes, (const int8_t *)p + at, (size_t)count);
        return load_bytes(bytes);
    }
    if (count == LANES) return load_bf16((const uint16_t *)p + at);
    float numbers[LANES] = {0};
    for (int i = 0; i < count; i++) numbers[i] = float_of_bf16(((const uint16_t *)p)[at + i]);
    return load(numbers);
}

/* A head's key and value of a position, into a cache of which the head begins at `head`: the key as a column of its tile. */
static void store_head(int kind, int dim, const struct cached *cached, int64_t head, int64_t position, const float *key, const float *value) {
    const int64_t row = position % LANES, tile = head + (position - row) * head_numbers(kind, dim), at = tile + row * dim;
    if (kind == CACHE_INT8) {
        int8_t bytes[MAX_HEAD_DIM];
        quantise(key, dim, bytes, steps_of_tile(cached->keys, tile, dim) + row);
        for (int d = 0; d < dim; d++) ((int8_t *)cached->keys)[tile + d * LANES + row] = bytes[d];
        quantise(value, dim, (int8_t *)cached->values + at, steps_of_tile(cached->values, tile, dim) + row);
        return;
    }
    for (int d = 0; d < dim; d++) {
        if (kind == CACHE_FP32) {
            ((float *)cached->keys)[tile + d * LANES + row] = key[d];
            ((float *)cached->values)[at + d] = value[d];
        } else {
            ((uint16_t *)cached->keys)[tile + d * LANES + row] = bf16_of_float(key[d]);
            ((uint16_t *)cached->values)[at + d] = bf16_of_float(value[d]);
        }
    }
}
