/* Attention in blocks of BLOCK absolute positions, each computed by itself and joined to what came before it.

   Lanes are positions for products of queries and keys, channels for sums of values. Rows that see one cache are taken together, since
   they read the same keys, and so are the query heads that share a kv head; what a row gets depends on its own positions alone. */
#pragma once
#include "cached.h"
#include "lanes.h"
#include "path.h"
#include <math.h>

#define TOGETHER 8 /* rows */
#if PATH == PATH_AVX2 || PATH == PATH_NEON
#define QUERIES 2 /* that weigh values together, and so many times 16 channels */
#define CHANNELS 2
#else
#define QUERIES 4
#define CHANNELS 4
#endif

static int padded_dim(const struct attention *attention) { return (attention->head_dim + LANES - 1) / LANES * LANES; }

/* Of a block, or of all blocks up to one: the largest product, the sum of powers, and the weighted values. */
static int64_t state_numbers(const struct attention *attention) { return 2 + padded_dim(attention); }

static int64_t attention_room(const struct attention *attention) {
    int64_t group = attention->heads / attention->kv_heads, queries = TOGETHER * group, dim = padded_dim(attention);
    /* a tile of keys; for each query itself, its products and its state; what a block gives one row's queries */
    return dim * LANES + queries * (attention->head_dim + BLOCK + state_numbers(attention)) + group * state_numbers(attention);
}

/* Keys of 16 positions as [head_dim][16], out of rows; those of positions that nobody sees are +0. */
static void turn_keys(const struct attention *attention, const struct seen *seen, int64_t head, int64_t position, int from, int to, float *tile) {
    memset(tile, 0, sizeof(float) * LANES * (size_t)attention->head_dim);
    for (int lane = from; lane < to; lane++) {
        int64_t at = head * seen->head_stride + (position + lane) * seen->row_stride;
        for (int d = 0; d < attention->head_dim; d++)
            tile[d * LANES + lane] = attention->cache == CACHE_FP32 ? ((const float *)seen->keys)[at + d] : float_of_bf16(((const uint16_t *)seen->keys)[at + d]);
    }
}

/* N queries against 16 keys, channels ascending; then times the steps of keys that have some. */
INLINE void products(int N, int kind, const void *tile, int64_t at, const float *steps, const float *queries, int dim, float *out) {
    lanes sums[8];
    UNROLL for (int n = 0; n < N; n++) sums[n] = set(0);
    for (int d = 0; d < dim; d++) {
        lanes key = load_cached(kind, tile, at + d * LANES, LANES);
        UNROLL for (int n = 0; n < N; n++) sums[n] = fma3(key, set(queries[n * dim + d]), sums[n]);
    }
    UNROLL for (int n = 0; n < N; n++) store(out + n * BLOCK, steps ? mul(sums[n], load(steps)) : sums[n]);
}

INLINE void products_of(int kind, const void *tile, int64_t at, const float *steps, const float *queries, int dim, int count, float *out) {
    for (; count >= 8; count -= 8, queries += 8 * dim, out += 8 * BLOCK) products(8, kind, tile, at, steps, queries, dim, out);
    for (; count >= 4; count -= 4, queries += 4 * dim, out += 4 * BLOCK) products(4, kind, tile, at, steps, queries, dim, out);
    if (count == 3) products(3, kind, tile, at, steps, queries, dim, out);
    else if (count == 2) products(2, kind, tile, at, steps, queries, dim, out);
    else if (count == 1) products(1, kind, tile, at, steps, queries, dim, out);
}

/* All queries against 16 keys; `tile` is room for one. */
static void all_products(const struct attention *attention, const struct seen *seen, int64_t head, int64_t position, int from, int to,
                         const float *queries, int count, float *tile, float *out) {
    const int dim = attention->head_dim, kind = attention->cache;
    const int64_t at = head * seen->head_stride + position * head_numbers(kind, dim);
    const float *steps = kind == CACHE_INT8 ? steps_of_tile(seen->keys, at, dim) : NULL;
    const int few = count <= 8; /* else it is quicker to make keys binary32 once */
    if (!seen->tiled) turn_keys(attention, seen, head, position, from, to, tile);
    else if (kind == CACHE_FP32) {
        products_of(CACHE_FP32, seen->keys, at, NULL, queries, dim, count, out);
        return;
    } else if (few && kind == CACHE_INT8) {
        products_of(CACHE_INT8, seen->keys, at, steps, queries, dim, count, out);
        return;
    } else if (few) {
        products_of(CACHE_BF16, seen->keys, at, NULL, queries, dim, count, out);
        return;
    } else if (kind == CACHE_INT8)
        for (int d = 0; d < dim; d++) store(tile + d * LANES, load_bytes((const int8_t *)seen->keys + at + d * LANES));
    else
        for (int d = 0; d < dim; d++) store(tile + d * LANES, load_bf16((const uint16_t *)seen->keys + at + d * LANES));
    products_of(CACHE_FP32, tile, 0, steps, queries, dim, count, out);
}

/* Positions of a block that are weighed, from the one that is `skipped` behind its first on. */
struct stretch {
    const void *values;
    int64_t stride; /* of positions, in numbers */
    int skipped, count;
};

/* Where position p of a stretch has its values, if the block begins at `at`: bytes have their steps behind each tile. */
INLINE int64_t value_at(int kind, const struct stretch *stretch, int64_t at, int p) {
    p += stretch->skipped;
    return at + p * stretch->stride + (kind == CACHE_INT8 ? p / LANES * (int)(LANES * sizeof(float)) : 0);
}

/* Q queries, N x 16 channels of the values of a stretch, weighted, positions ascending. */
INLINE void weigh(int Q, int N, int kind, const float *weights, const struct stretch *stretch, int64_t at, int last, float *out, int64_t ld_out) {
    lanes sums[QUERIES * CHANNELS];
    UNROLL for (int i = 0; i < Q * N; i++) sums[i] = set(0);
    for (int p = 0; p < stretch->count; p++) {
        const int64_t place = value_at(kind, stretch, at, p);
        UNROLL for (int n = 0; n < N; n++) {
            const lanes value = load_cached(kind, stretch->values, place + n * LANES, n == N - 1 ? last : LANES);
            UNROLL for (int q = 0; q < Q; q++) sums[q * N + n] = fma3(set(weights[q * BLOCK + p]), value, sums[q * N + n]);
        }
    }
    UNROLL for (int q = 0; q < Q; q++)
        UNROLL for (int n = 0; n < N; n++) store(out + q * ld_out + n * LANES, sums[q * N + n]);
}

INLINE void weigh_channels(int Q, int kind, int dim, const float *weights, const struct stretch *stretch, int64_t at, float *out, int64_t ld_out) {
    int d = 0;
    for (; dim - d >= CHANNELS * LANES; d += CHANNELS * LANES) weigh(Q, CHANNELS, kind, weights, stretch, at + d, LANES, out + d, ld_out);
    for (; dim - d >= LANES; d += LANES) weigh(Q, 1, kind, weights, stretch, at + d, LANES, out + d, ld_out);
    if (d < dim) weigh(Q, 1, kind, weights, stretch, at + d, dim - d, out + d, ld_out);
}

INLINE void weigh_queries(int kind, int queries, int dim, const float *weights, const struct stretch *stretch, int64_t at, float *out, int64_t ld_out) {
    weights += stretch->skipped;
    for (; queries >= QUERIES; queries -= QUERIES, weights += QUERIES * BLOCK, out += QUERIES * ld_out)
        weigh_channels(QUERIES, kind, dim, weights, stretch, at, out, ld_out);
    for (; queries > 0; queries--, weights += BLOCK, out += ld_out) weigh_channels(1, kind, dim, weights, stretch, at, out, ld_out);
}

/* Weights [queries][BLOCK] of values that have steps, times these. */
static void weigh_steps(int queries, int dim, float *weights, const struct stretch *stretch, int64_t at) {
    for (int t = stretch->skipped / LANES * LANES; t < stretch->skipped + stretch->count; t += LANES) {
        const lanes steps = load(steps_of_tile(stretch->values, at + t * head_numbers(CACHE_INT8, dim), dim));
        for (int q = 0; q < queries; q++) store(weights + q * BLOCK + t, mul(load(weights + q * BLOCK + t), steps));
    }
}

/* Products [BLOCK] of one query become powers, and the beginning of a state. */
static void soften(const struct attention *attention, const struct seen *seen, int query_head, int64_t block, float *weights, float *state) {
    const int64_t from = seen->first > block ? seen->first : block, to = seen->stop < block + BLOCK ? seen->stop : block + BLOCK;
    if (attention->softcap != 0)
        for (int i = 0; i < BLOCK; i += LANES)
            store(weights + i, mul(set(attention->softcap), hyperbolic_tangent(quotient(load(weights + i), set(attention->softcap)))));
    if (seen->biases)
        for (int64_t p = from; p < to; p++)
            weights[p - block] = weights[p - block] + seen->biases[query_head * (seen->stop - seen->first) + p - seen->first];
    for (int64_t p = block; p < from; p++) weights[p - block] = -INFINITY;
    for (int64_t p = to; p < block + BLOCK; p++) weights[p - block] = -INFINITY;
    lanes top = load(weights), total = set(0);
    for (int i = LANES; i < BLOCK; i += LANES) top = greater(load(weights + i), top);
    state[0] = largest_lane(top);
    for (int i = 0; i < BLOCK; i += LANES) {
        lanes power = exponential(sub(load(weights + i), set(state[0])));
        store(weights + i, power);
        total = add(total, power);
    }
    state[1] = sum_lanes(total);
}

/* What one block gives the queries of one row and kv head, whose products are `weights` [group][BLOCK]: [group] states. */
static void block_states(const struct attention *attention, const struct seen *seen, int kv_head, int64_t block, float *weights, float *states) {
    const int64_t from = seen->first > block ? seen->first : block, to = seen->stop < block + BLOCK ? seen->stop : block + BLOCK;
    const int64_t stride = seen->tiled ? attention->head_dim : seen->row_stride, each = state_numbers(attention);
    const int kind = attention->cache, dim = attention->head_dim, group = attention->heads / attention->kv_heads;
    const int64_t at = kv_head * seen->head_stride + block * (seen->tiled ? head_numbers(kind, dim) : stride);
    const struct stretch stretch = {seen->values, stride, (int)(from - block), (int)(to - from)};
    for (int i = 0; i < group; i++) soften(attention, seen, kv_head * group + i, block, weights + i * BLOCK, states + i * each);
    if (kind == CACHE_INT8) {
        weigh_steps(group, dim, weights, &stretch, at);
        weigh_queries(CACHE_INT8, group, dim, weights, &stretch, at, states + 2, each);
    } else if (kind == CACHE_FP32) weigh_queries(CACHE_FP32, group, dim, weights, &stretch, at, states + 2, each);
    else weigh_queries(CACHE_BF16, group, dim, weights, &stretch, at, states + 2, each);
}

/* A block's state joined to that of the blocks before it. */
static void join(const struct attention *attention, const float *block, float *state) {
    const float higher = state[0] > block[0] ? state[0] : block[0];
    float before[LANES], now[LANES];
    store(before, exponential(set(state[0] - higher)));
    store(now, exponential(set(block[0] - higher)));
    state[1] = fused(block[1], now[0], state[1] * before[0]);
    state[0] = higher;
    for (int d = 0; d < attention->head_dim; d += LANES)
        store(state + 2 + d, fma3(load(block + 2 + d), set(now[0]), mul(load(state + 2 + d), set(before[0]))));
}

/* Whether a state has begun: with a sink, one more product, which answers nothing. */
static int begin(const struct attention *attention, int head, float *state) {
    if (!attention->sinks) return 0;
    memset(state, 0, sizeof(float) * (size_t)state_numbers(attention));
    state[0] = attention->sinks[head];
    state[1] = 1;
    return 1;
}

static void answer(const struct attention *attention, const float *state, float *out) {
    const lanes inverse = set(1.0f / state[1]);
    for (int d = 0; d < attention->head_dim; d += LANES) {
        const lanes value = mul(load(state + 2 + d), inverse);
        if (attention->head_dim - d >= LANES) store(out + d, value);
        else store_some(out + d, value, attention->head_dim - d);
    }
}

static void scale_queries(const struct attending *work, int row, int kv_head, float *queries) {
    const struct attention *attention = work->attention;
    const int group = attention->heads / attention->kv_heads, width = group * attention->head_dim;
    const float *query = work->queries + row * work->ld_queries + (int64_t)kv_head * width;
    for (int i = 0; i < width; i++) queries[i] = query[i] * attention->scale;
}

/* Products of queries with the keys of a block that lie from `first` to `stop` - 1. */
static void block_products(const struct attention *attention, const struct seen *seen, int kv_head, int64_t block, int64_t first, int64_t stop,
                           const float *queries, int count, float *tile, float *weights) {
    for (int t = 0; t < BLOCK; t += LANES) {
        const int64_t position = block + t;
        if (position + LANES <= first || position >= stop) continue;
        const int from = first > position ? (int)(first - position) : 0, to = stop - position < LANES ? (int)(stop - position) : LANES;
        all_products(attention, seen, kv_head, position, from, to, queries, count, tile, weights + t);
    }
}

/* Rows `row` to row + count - 1, which see one cache, and the query heads of one kv head. */
static void attend_together(const struct attending *work, int row, int count, int kv_head, float *room) {
    const struct attention *attention = work->attention;
    const int dim = attention->head_dim, group = attention->heads / attention->kv_heads, all = count * group;
    const int64_t each = state_numbers(attention);
    float *tile = room, *queries = tile + (int64_t)padded_dim(attention) * LANES, *weights = queries + (int64_t)all * dim,
          *states = weights + (int64_t)all * BLOCK, *part = states + all * each;
    int begun[TOGETHER];
    int64_t first = INT64_MAX, stop = 0;
    for (int r = 0; r < count; r++) {
        const struct seen *seen = work->seen + row + r;
        first = seen->first < first ? seen->first : first;
        stop = seen->stop > stop ? seen->stop : stop;
        scale_queries(work, row + r, kv_head, queries + (int64_t)r * group * dim);
        for (int i = 0; i < group; i++) begun[r] = begin(attention, kv_head * group + i, states + (r * group + i) * each);
    }
    for (int64_t block = first / BLOCK * BLOCK; block < stop; block += BLOCK) {
        block_products(attention, work->seen + row, kv_head, block, first, stop, queries, all, tile, weights);
        for (int r = 0; r < count; r++) {
            const struct seen *seen = work->seen + row + r;
            if (seen->first >= block + BLOCK || seen->stop <= block) continue;
            float *own = states + r * group * each;
            block_states(attention, seen, kv_head, block, weights + (int64_t)r * group * BLOCK, begun[r] ? part : own);
            for (int i = 0; begun[r] && i < group; i++) join(attention, part + i * each, own + i * each);
            begun[r] = 1;
        }
    }
    for (int q = 0; q < all; q++)
        answer(attention, states + q * each, work->out + (row + q / group) * work->ld_out + (kv_head * group + q % group) * dim);
}

/* What one thread does, with room of its own: some kv heads of some rows or, `by_head`, of all rows. */
static void attend_share(const struct attending *work, int thread, struct team *team, int by_head) {
    const int threads = team_size(team);
    int64_t number = 0;
    for (int row = 0, count; row < work->count; row += count) {
        for (count = 1; row + count < work->count && count < TOGETHER && work->seen[row + count].keys == work->seen[row].keys; count++) continue;
        for (int head = 0; head < work->attention->kv_heads; head++, number++)
            if ((by_head ? head : number) % threads == thread) attend_together(work, row, count, head, work->room);
    }
}

static void attention_job(void *argument, int thread, struct team *team) {
    struct attending work = *(const struct attending *)argument;
    work.room += thread * work.room_each;
    attend_share(&work, thread, team, 0);
}
