/* Attention within a pass: rows leave their keys and values, and ask those that they see. */
#pragma once
#include "attention.h"
#include "frame.h"

#define SPLIT_POSITIONS 1024 /* from so many on, threads share the blocks of few rows, and not only their heads */

/* Of rows [from, to) and kv heads [first, last), as the cache holds them. */
static void store_heads(const struct frame *frame, const struct operation *todo, int64_t from, int64_t to, int first, int last) {
    const struct attends *attends = todo->more;
    const int dim = attends->attention.head_dim, kv_heads = attends->attention.kv_heads;
    for (int64_t row = from; row < to; row++) {
        const struct cached *cached = frame->work->caches[frame->work->sessions[row]] + attends->layer;
        const float *keys = at_register(frame, todo->from, row, todo->other_at), *values = keys + kv_heads * dim;
        const int64_t position = frame->work->positions[row];
        for (int head = first; head < last; head++)
            store_head(attends->attention.cache, dim, cached, head * cached->head_stride, position, keys + head * dim, values + head * dim);
    }
}

static void see(const struct frame *frame, const struct operation *todo, struct seen *seen) {
    const struct passing *work = frame->work;
    const struct attends *attends = todo->more;
    for (int64_t row = 0; row < work->count; row++) {
        seen[row] = (struct seen){.biases = work->biases ? work->biases[row] : NULL};
        if (work->positions) {
            const struct cached *cached = work->caches[work->sessions[row]] + attends->layer;
            const int64_t stop = work->positions[row] + 1;
            seen[row].keys = cached->keys;
            seen[row].values = cached->values;
            seen[row].head_stride = cached->head_stride;
            seen[row].tiled = 1;
            seen[row].first = attends->window && stop > attends->window ? stop - attends->window : 0;
            seen[row].stop = stop;
        } else {
            const int64_t reach = attends->window ? attends->window / 2 : work->count;
            seen[row].keys = at_register(frame, todo->from, 0, todo->other_at);
            seen[row].values = (const float *)seen[row].keys + attends->attention.kv_heads * attends->attention.head_dim;
            seen[row].head_stride = attends->attention.head_dim;
            seen[row].row_stride = work->program->widths[todo->from];
            seen[row].first = row > reach ? row - reach : 0;
            seen[row].stop = row + reach + 1 < work->count ? row + reach + 1 : work->count;
        }
    }
}

static int64_t seen_blocks(const struct seen *seen) { return (seen->stop - 1) / BLOCK - seen->first / BLOCK + 1; }

static int is_split(const struct frame *frame, const struct seen *seen) {
    int64_t most = 0;
    for (int64_t row = 0; row < frame->work->count; row++) most = seen[row].stop - seen[row].first > most ? seen[row].stop - seen[row].first : most;
    return frame->alone && frame->work->positions && most >= SPLIT_POSITIONS;
}

/* Bytes for what each block gives each query. */
static int64_t split_room(const struct passing *work, const struct attends *attends) {
    int64_t states = 0;
    if (!work->positions || work->count > FEW_ROWS) return 0;
    for (int64_t row = 0; row < work->count; row++) states += (work->positions[row] / BLOCK + 1) * attends->attention.heads;
    return states * state_numbers(&attends->attention) * (int64_t)sizeof(float);
}

static int64_t attend_room(const struct passing *work, const struct attends *attends) {
    const int64_t own = rounded(sizeof(struct seen) * work->count) + (int64_t)sizeof(float) * attention_room(&attends->attention);
    const int64_t split = split_room(work, attends);
    return own > split ? own : split;
}

/* Blocks of all rows and kv heads go round among threads; then each joins those of some heads, in order. */
static void attend_split(const struct attending *work, const struct frame *frame, float *states) {
    const struct attention *attention = work->attention;
    const int group = attention->heads / attention->kv_heads, threads = team_size(frame->team);
    const int64_t each = state_numbers(attention);
    float *tile = work->room, *queries = tile + (int64_t)padded_dim(attention) * LANES, *weights = queries + (int64_t)group * attention->head_dim;
    float *place = states;
    int64_t number = 0;
    for (int row = 0; row < work->count; row++)
        for (int head = 0; head < attention->kv_heads; head++) {
            const struct seen *seen = work->seen + row;
            scale_queries(work, row, head, queries);
            for (int64_t block = seen->first / BLOCK * BLOCK; block < seen->stop; block += BLOCK, place += group * each)
                if (number++ % threads == frame->thread) {
                    block_products(attention, seen, head, block, seen->first, seen->stop, queries, group, tile, weights);
                    block_states(attention, seen, head, block, weights, place);
                }
        }
    team_wait(frame->team);
    place = states;
    for (int row = 0; row < work->count; row++)
        for (int head = 0; head < attention->kv_heads; head++) {
            const int64_t blocks = seen_blocks(work->seen + row);
            for (int i = 0; head % threads == frame->thread && i < group; i++) {
                float *first = place + i * each, *state = weights;
                const int begun = begin(attention, head * group + i, state);
                for (int64_t block = 0; block < blocks; block++) {
                    if (block || begun) join(attention, first + block * group * each, state);
                    else memcpy(state, first, sizeof(float) * (size_t)each);
                }
                answer(attention, state, work->out + row * work->ld_out + (int64_t)(head * group + i) * attention->head_dim);
            }
            place += blocks * group * each;
        }
}

static void attend_and_store(const struct frame *frame, const struct operation *todo) {
    const struct passing *work = frame->work;
    const struct attends *attends = todo->more;
    const int kv_heads = attends->attention.kv_heads;
    struct seen *seen = (struct seen *)frame->scratch;
    const struct attending attending = {.attention = &attends->attention,
                                        .queries = at_register(frame, todo->from, 0, todo->from_at),
                                        .seen = seen,
                                        .out = at_register(frame, todo->to, 0, todo->to_at),
                                        .ld_queries = work->program->widths[todo->from],
                                        .ld_out = work->program->widths[todo->to],
                                        .count = work->count,
                                        .room = (float *)(frame->scratch + rounded(sizeof(struct seen) * work->count))};
    see(frame, todo, seen);
    const int split = is_split(frame, seen), stores = attends->stores && work->positions;
    if (stores && frame->alone) /* a thread stores those heads that it attends to */
        for (int head = frame->thread; head < kv_heads; head += team_size(frame->team)) store_heads(frame, todo, 0, work->count, head, head + 1);
    else if (stores) store_heads(frame, todo, frame->from, frame->to, 0, kv_heads);
    if (split || (stores && !frame->alone)) team_wait(frame->team);
    if (split) attend_split(&attending, frame, (float *)frame->common);
    else attend_share(&attending, frame->thread, frame->team, frame->alone);
}

