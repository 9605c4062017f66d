/* Attention in blocks of BLOCK absolute positions, each computed by itself and joined to what came before it.

   Lanes are positions for products of queries and keys, channels for sums of values. Rows that see one cache are taken together, since
   they read the same keys; what a row gets depends on its own positions alone. */
#pragma once
#include "lanes.h"
#include "path.h"
#include <math.h>

#define TOGETHER 8 /* rows */

static int padded_dim(const struct attention *attention) { return (attention->head_dim + LANES - 1) / LANES * LANES; }

static int64_t attention_room(const struct attention *attention) {
    int64_t queries = (int64_t)TOGETHER * (attention->heads / attention->kv_heads), dim = padded_dim(attention);
    /* a tile of keys; for each query itself, its products, its sums of values, and its state */
    return dim * LANES + queries * (attention->head_dim + BLOCK + dim + 2);
}

INLINE lanes load_cached(int kind, const void *p, int64_t at, int count) {
    if (kind == CACHE_FP32) return count == LANES ? load((const float *)p + at) : load_some((const float *)p + at, count);
    if (count == LANES) return load_bf16((const uint16_t *)p + at);
    float numbers[LANES] = {0};
    for (int i = 0; i < count; i++) numbers[i] = float_of_bf16(((const uint16_t *)p)[at + i]);
    return load(numbers);
}

/* Keys of up to 16 positions as [head_dim][16]; lanes of positions that nobody sees are +0. */
static void turn_keys(const struct attention *attention, const struct seen *seen, int64_t head, int64_t position, int from, int to, float *tile) {
    memset(tile, 0, sizeof(float) * LANES * (size_t)attention->head_dim);
    for (int lane = from; lane < to; lane++) {
        int64_t at = head * seen->head_stride + (position + lane) * seen->row_stride;
        if (attention->cache == CACHE_FP32)
            for (int d = 0; d < attention->head_dim; d++) tile[d * LANES + lane] = ((const float *)seen->keys)[at + d];
        else
            for (int d = 0; d < attention->head_dim; d++) tile[d * LANES + lane] = float_of_bf16(((const uint16_t *)seen->keys)[at + d]);
    }
}

/* N queries against 16 keys, channels ascending. */
INLINE void products(int N, const float *tile, const float *queries, int dim, float *out) {
    lanes sums[8];
    UNROLL for (int n = 0; n < N; n++) sums[n] = set(0);
    for (int d = 0; d < dim; d++) {
        lanes key = load(tile + d * LANES);
        UNROLL for (int n = 0; n < N; n++) sums[n] = fma3(key, set(queries[n * dim + d]), sums[n]);
    }
    UNROLL for (int n = 0; n < N; n++) store(out + n * BLOCK, sums[n]);
}

static void all_products(const float *tile, const float *queries, int dim, int count, float *out) {
    for (; count >= 8; count -= 8, queries += 8 * dim, out += 8 * BLOCK) products(8, tile, queries, dim, out);
    for (; count >= 4; count -= 4, queries += 4 * dim, out += 4 * BLOCK) products(4, tile, queries, dim, out);
    for (; count > 0; count--, queries += dim, out += BLOCK) products(1, tile, queries, dim, out);
}

/* N x 16 channels of the values of `count` positions, weighted, positions ascending. */
INLINE void weigh(int N, int kind, const float *weights, const void *values, int64_t at, int64_t stride, int count, int last, lanes *sums) {
    UNROLL for (int n = 0; n < N; n++) sums[n] = set(0);
    for (int p = 0; p < count; p++) {
        lanes weight = set(weights[p]);
        UNROLL for (int n = 0; n < N; n++)
            sums[n] = fma3(weight, load_cached(kind, values, at + p * stride + n * LANES, n == N - 1 ? last : LANES), sums[n]);
    }
}

/* What one block gives one query, joined to its state: the largest product, the sum of powers, and the weighted values. */
static void join_block(const struct attention *attention, const struct seen *seen, int query_head, int64_t block, float *weights, float *state,
                       float *sums, int begun) {
    const int64_t from = seen->first > block ? seen->first : block, to = seen->stop < block + BLOCK ? seen->stop : block + BLOCK;
    const int group = attention->heads / attention->kv_heads;
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
    const float most = largest_lane(top);
    for (int i = 0; i < BLOCK; i += LANES) {
        lanes power = exponential(sub(load(weights + i), set(most)));
        store(weights + i, power);
        total = add(total, power);
    }
    float sum = sum_lanes(total), before = 0, now = 1;
    if (begun) {
        float higher = state[0] > most ? state[0] : most, powers[LANES];
        store(powers, exponential(set(state[0] - higher)));
        before = powers[0];
        store(powers, exponential(set(most - higher)));
        now = powers[0];
        state[1] = __builtin_fmaf(sum, now, state[1] * before);
        state[0] = higher;
    } else {
        state[0] = most;
        state[1] = sum;
    }
    const int dim = attention->head_dim;
    for (int d = 0, n; d < dim; d += n * LANES) {
        int left = dim - d, last = left >= LANES ? LANES : left;
        lanes part[4];
        n = left >= 4 * LANES ? 4 : 1;
        int64_t at = (int64_t)(query_head / group) * seen->head_stride + from * seen->row_stride + d;
        if (n == 4 && attention->cache == CACHE_BF16) weigh(4, CACHE_BF16, weights + (from - block), seen->values, at, seen->row_stride, (int)(to - from), LANES, part);
        else if (n == 4) weigh(4, CACHE_FP32, weights + (from - block), seen->values, at, seen->row_stride, (int)(to - from), LANES, part);
        else weigh(1, attention->cache, weights + (from - block), seen->values, at, seen->row_stride, (int)(to - from), last, part);
        for (int i = 0; i < n; i++) {
            float *place = sums + d + i * LANES;
            store(place, begun ? fma3(part[i], set(now), mul(load(place), set(before))) : part[i]);
        }
    }
}

/* Rows `row` to row + count - 1, which see one cache, and the query heads of one kv head. */
static void attend_together(const struct attending *work, int row, int count, int kv_head, float *room) {
    const struct attention *attention = work->attention;
    const int dim = attention->head_dim, group = attention->heads / attention->kv_heads, wide = padded_dim(attention), all = count * group;
    float *tile = room, *queries = tile + (int64_t)wide * LANES, *weights = queries + (int64_t)all * dim, *sums = weights + (int64_t)all * BLOCK,
          *states = sums + (int64_t)all * wide;
    int begun[TOGETHER] = {0};
    int64_t first = INT64_MAX, stop = 0;
    for (int r = 0; r < count; r++) {
        const struct seen *seen = work->seen + row + r;
        first = seen->first < first ? seen->first : first;
        stop = seen->stop > stop ? seen->stop : stop;
        for (int i = 0; i < group; i++) {
            const float *query = work->queries + (row + r) * work->ld_queries + (int64_t)(kv_head * group + i) * dim;
            for (int d = 0; d < dim; d++) queries[(r * group + i) * dim + d] = query[d] * attention->scale;
            if (attention->sinks) { /* one more product, which answers nothing */
                states[(r * group + i) * 2] = attention->sinks[kv_head * group + i];
                states[(r * group + i) * 2 + 1] = 1;
                memset(sums + (int64_t)(r * group + i) * wide, 0, sizeof(float) * (size_t)wide);
                begun[r] = 1;
            }
        }
    }
    for (int64_t block = first / BLOCK * BLOCK; block < stop; block += BLOCK) {
        for (int t = 0; t < BLOCK; t += LANES) {
            int64_t position = block + t;
            if (position + LANES <= first || position >= stop) continue;
            int from = first > position ? (int)(first - position) : 0, to = stop - position < LANES ? (int)(stop - position) : LANES;
            turn_keys(attention, work->seen + row, kv_head, position, from, to, tile);
            all_products(tile, queries, dim, all, weights + t);
        }
        for (int r = 0; r < count; r++) {
            const struct seen *seen = work->seen + row + r;
            if (seen->first >= block + BLOCK || seen->stop <= block) continue;
            for (int i = 0; i < group; i++) {
                int q = r * group + i;
                join_block(attention, seen, kv_head * group + i, block, weights + (int64_t)q * BLOCK, states + q * 2, sums + (int64_t)q * wide, begun[r]);
            }
            begun[r] = 1;
        }
    }
    for (int q = 0; q < all; q++) {
        float *out = work->out + (row + q / group) * work->ld_out + (kv_head * group + q % group) * dim;
        lanes inverse = set(1.0f / states[q * 2 + 1]);
        for (int d = 0; d < dim; d += LANES) {
            lanes answer = mul(load(sums + (int64_t)q * wide + d), inverse);
            if (dim - d >= LANES) store(out + d, answer);
            else store_some(out + d, answer, dim - d);
        }
    }
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
