/* The gated delta rule: a layer that keeps one state of all rows of a session. docs/NUMERICS.md defines it, row by row.

   Lanes are a state's value channels, so nothing is summed across them but the squares of norms. Rows of one session pass one after
   the other through a part of the state that stays in the cache meanwhile. A thread takes a key head with the value heads that it
   serves: channels of the window and states of others are nothing to it, so threads need not wait for each other. */
#pragma once
#include "rows.h"

#define ROWS_AT_ONCE 32   /* that pass a part of the state before the next part's turn */
#define LENGTH_EPS 1e-6f  /* added to the square of a query's or key's length */
#if PATH == PATH_AVX2 || PATH == PATH_NEON
#define STATE_LANES 2 /* that one part of a state is wide: what fits the registers beside the sums */
#else
#define STATE_LANES 4
#endif

static int whole_lanes(int width) { return (width + LANES - 1) / LANES * LANES; }

/* Where a thread's numbers lie. */
struct delta_room {
    float *inputs;                     /* [rows + taps - 1][the wider head], as they enter the convolution */
    float *queries, *keys;             /* [rows][key_dim in whole lanes] */
    float *values, *answers;           /* [rows][value_dim in whole lanes] */
    float *steps, *strengths, *left;   /* [rows in whole lanes]; left: the part of the state that a row leaves */
    float *state;                      /* [key_dim][STATE_LANES * 16] */
};

#define PLACES 9

/* Where each begins, and behind the last where all end, in numbers. */
static void delta_places(const struct delta *delta, int rows, int64_t *at) {
    const int64_t keys = whole_lanes(delta->key_dim), values = whole_lanes(delta->value_dim), wider = keys > values ? keys : values;
    const int64_t gates = whole_lanes(rows), state = (int64_t)delta->key_dim * STATE_LANES * LANES;
    const int64_t sizes[PLACES] = {(rows + delta->taps - 1) * wider, rows * keys, rows * keys, rows * values, rows * values,
                                   gates, gates, gates, state};
    at[0] = 0;
    for (int i = 0; i < PLACES; i++) at[i + 1] = at[i] + sizes[i];
}

/* Numbers for each thread, where so many rows of one passage come at most. */
static int64_t delta_room(const struct delta *delta, int rows) {
    int64_t at[PLACES + 1];
    delta_places(delta, rows < ROWS_AT_ONCE ? rows : ROWS_AT_ONCE, at);
    return at[PLACES];
}

/* `count` channels from `channel` on of a passage's row, counted from its first, as the window keeps them: rows before it are there. */
static void entered(const struct recurring *work, const struct passage *passage, int64_t row, int channel, int count, float *out) {
    const struct delta *delta = work->delta;
    const int channels = 2 * delta->key_heads * delta->key_dim + delta->value_heads * delta->value_dim;
    if (row < 0) {
        const int64_t at = (delta->taps - 1 + row) * channels + channel;
        if (delta->window == CACHE_FP32) memcpy(out, (const float *)passage->state.window + at, sizeof(float) * (size_t)count);
        else
            for (int i = 0; i < count; i++) out[i] = float_of_bf16(((const uint16_t *)passage->state.window)[at + i]);
        return;
    }
    const float *x = work->rows + (passage->first + row) * work->ld_rows + channel;
    if (delta->window == CACHE_FP32) memcpy(out, x, sizeof(float) * (size_t)count);
    else
        for (int i = 0; i < count; i++) out[i] = float_of_bf16(bf16_of_float(x[i]));
}

/* One head's channels of `rows` rows: the sum over taps, oldest row first, through silu. Behind a head's end stand zeros. */
static void convolve(const struct recurring *work, const struct passage *passage, int from, int rows, int channel, int dim, float *inputs,
                     float *out) {
    const struct delta *delta = work->delta;
    const int channels = 2 * delta->key_heads * delta->key_dim + delta->value_heads * delta->value_dim, wide = whole_lanes(dim);
    for (int i = 0; i < rows + delta->taps - 1; i++) {
        float *place = inputs + (int64_t)i * wide;
        memset(place + dim, 0, sizeof(float) * (size_t)(wide - dim));
        entered(work, passage, (int64_t)from + i - (delta->taps - 1), channel, dim, place);
    }
    for (int row = 0; row < rows; row++)
        EACH_LANES(dim) {
            lanes sum = set(0);
            for (int tap = 0; tap < delta->taps; tap++)
                sum = fma3(READ(delta->weights + (int64_t)tap * channels + channel + at), load(inputs + (int64_t)(row + tap) * wide + at), sum);
            store(out + (int64_t)row * wide + at, activated(ACTIVATION_SILU, 0, sum));
        }
}

/* To length 1, then times `scale`. */
static void to_length(float *x, int dim, float scale) {
    lanes squares = set(0);
    for (int at = 0; at < dim; at += LANES) squares = fma3(load(x + at), load(x + at), squares);
    const lanes inverse = set(1.0f / sqrtf(sum_lanes(squares) + LENGTH_EPS));
    for (int at = 0; at < dim; at += LANES) store(x + at, mul(mul(load(x + at), inverse), set(scale)));
}

/* One head's strengths, and what its rows leave of the state. */
static void gates_of(const struct recurring *work, const struct passage *passage, int from, int rows, int head, const struct delta_room *room) {
    const struct delta *delta = work->delta;
    const int values = delta->value_heads * delta->value_dim, at_strengths = 2 * delta->key_heads * delta->key_dim + 2 * values;
    for (int row = 0; row < rows; row++) {
        const float *x = work->rows + (int64_t)(passage->first + from + row) * work->ld_rows + at_strengths + head;
        room->strengths[row] = x[0];
        room->steps[row] = x[delta->value_heads];
    }
    EACH_LANES(rows) {
        WRITE(room->strengths + at, sigmoid(READ(room->strengths + at)));
        lanes step = softplus(add(READ(room->steps + at), set(delta->step_bias[head])));
        WRITE(room->left + at, exponential(mul(set(delta->rates[head]), step)));
    }
}

/* N x 16 value channels of a state, the last of which may be fewer. */
INLINE void from_memory(int N, const float *memory, int last, lanes *part) {
    UNROLL for (int n = 0; n < N; n++) part[n] = n < N - 1 || last == LANES ? load(memory + n * LANES) : load_some(memory + n * LANES, last);
}
INLINE void to_memory(int N, float *memory, int last, const lanes *part) {
    UNROLL for (int n = 0; n < N; n++)
        if (n < N - 1 || last == LANES) store(memory + n * LANES, part[n]);
        else store_some(memory + n * LANES, part[n], last);
}

/* N x 16 value channels of one head's state, through which `rows` rows pass. For each the state fades, then its key finds what is
   remembered for it, then a part of the difference from its value is written, then its query is answered; what of the next row
   reads the state is done while that is at hand. */
INLINE void pass_part(int N, const struct delta *delta, const struct delta_room *room, int rows, int channel, int last, const float *before,
                      float *after) {
    const int dim = delta->key_dim, keys_wide = whole_lanes(dim), values_wide = whole_lanes(delta->value_dim), wide = N * LANES;
    const int64_t stride = delta->value_dim;
    const lanes first = set(room->left[0]);
    float *state = room->state;
    lanes recalled[4], part[4];
    before += channel;
    after += channel;
    UNROLL for (int n = 0; n < N; n++) recalled[n] = set(0);
    for (int k = 0; k < dim; k++) {
        from_memory(N, before + k * stride, last, part);
        const lanes key = set(room->keys[k]);
        UNROLL for (int n = 0; n < N; n++) {
            part[n] = mul(part[n], first);
            recalled[n] = fma3(key, part[n], recalled[n]);
            store(state + k * wide + n * LANES, part[n]);
        }
    }
    for (int row = 0; row < rows; row++) {
        const float *key = room->keys + (int64_t)row * keys_wide, *query = room->queries + (int64_t)row * keys_wide, *next = key + keys_wide;
        const float *value = room->values + (int64_t)row * values_wide + channel;
        lanes written[4], answer[4];
        UNROLL for (int n = 0; n < N; n++) {
            written[n] = mul(sub(load(value + n * LANES), recalled[n]), set(room->strengths[row]));
            answer[n] = recalled[n] = set(0);
        }
        if (row < rows - 1) {
            const lanes left = set(room->left[row + 1]);
            for (int k = 0; k < dim; k++) {
                const lanes own = set(key[k]), asked = set(query[k]), other = set(next[k]);
                UNROLL for (int n = 0; n < N; n++) {
                    float *place = state + k * wide + n * LANES;
                    lanes now = fma3(own, written[n], load(place));
                    answer[n] = fma3(asked, now, answer[n]);
                    now = mul(now, left);
                    recalled[n] = fma3(other, now, recalled[n]);
                    store(place, now);
                }
            }
        } else
            for (int k = 0; k < dim; k++) {
                const lanes own = set(key[k]), asked = set(query[k]);
                UNROLL for (int n = 0; n < N; n++) {
                    part[n] = fma3(own, written[n], load(state + k * wide + n * LANES));
                    answer[n] = fma3(asked, part[n], answer[n]);
                }
                to_memory(N, after + k * stride, last, part);
            }
        UNROLL for (int n = 0; n < N; n++) store(room->answers + (int64_t)row * values_wide + channel + n * LANES, answer[n]);
    }
}

static void pass_wide(const struct delta *delta, const struct delta_room *room, int rows, int channel, const float *before, float *after) {
    pass_part(STATE_LANES, delta, room, rows, channel, LANES, before, after);
}
static void pass_narrow(const struct delta *delta, const struct delta_room *room, int rows, int channel, const float *before, float *after) {
    const int last = delta->value_dim - channel;
    pass_part(1, delta, room, rows, channel, last < LANES ? last : LANES, before, after);
}

/* Answers normed by the root mean square and multiplied by what silu makes of the gates. */
static void give_answers(const struct recurring *work, const struct passage *passage, int from, int rows, int head, const struct delta_room *room) {
    const struct delta *delta = work->delta;
    const int dim = delta->value_dim, gates = 2 * delta->key_heads * delta->key_dim + delta->value_heads * dim;
    const struct norm norm = {.weight = delta->norm, .width = dim, .eps = delta->norm_eps};
    for (int row = 0; row < rows; row++) {
        const int64_t number = passage->first + from + row;
        const float *gate = work->rows + number * work->ld_rows + gates + head * dim;
        float *out = work->out + number * work->ld_out + head * dim;
        norm_row(&norm, room->answers + (int64_t)row * whole_lanes(dim), out);
        EACH_LANES(dim) WRITE(out + at, mul(READ(out + at), activated(ACTIVATION_SILU, 0, READ(gate + at))));
    }
}

/* The last rows of all that entered, in place of those before: oldest first, so that none is lost before it is read. */
static void keep_window(const struct recurring *work, const struct passage *passage, int channel, int count, float *room) {
    const struct delta *delta = work->delta;
    const int channels = 2 * delta->key_heads * delta->key_dim + delta->value_heads * delta->value_dim;
    for (int i = 0; i < delta->taps - 1; i++) {
        const int64_t at = (int64_t)i * channels + channel;
        entered(work, passage, (int64_t)passage->count + i - (delta->taps - 1), channel, count, room);
        if (delta->window == CACHE_FP32) memcpy((float *)passage->state.next_window + at, room, sizeof(float) * (size_t)count);
        else
            for (int c = 0; c < count; c++) ((uint16_t *)passage->state.next_window)[at + c] = bf16_of_float(room[c]);
    }
}

/* A passage through one key head and its value heads. */
static void pass_heads(const struct recurring *work, const struct passage *passage, int key_head, const struct delta_room *room, int at_once) {
    const struct delta *delta = work->delta;
    const int group = delta->value_heads / delta->key_heads, keys = delta->key_heads * delta->key_dim, dim = delta->value_dim;
    const int64_t size = (int64_t)delta->key_dim * dim;
    for (int from = 0, rows; from < passage->count; from += rows) {
        rows = passage->count - from < at_once ? passage->count - from : at_once;
        convolve(work, passage, from, rows, key_head * delta->key_dim, delta->key_dim, room->inputs, room->queries);
        convolve(work, passage, from, rows, keys + key_head * delta->key_dim, delta->key_dim, room->inputs, room->keys);
        for (int row = 0; row < rows; row++) {
            const int64_t at = (int64_t)row * whole_lanes(delta->key_dim);
            to_length(room->queries + at, delta->key_dim, 1.0f / sqrtf((float)delta->key_dim));
            to_length(room->keys + at, delta->key_dim, 1.0f);
        }
        for (int head = key_head * group; head < (key_head + 1) * group; head++) {
            const float *before = (from ? passage->state.next_memory : passage->state.memory) + head * size;
            convolve(work, passage, from, rows, 2 * keys + head * dim, dim, room->inputs, room->values);
            gates_of(work, passage, from, rows, head, room);
            int channel = 0;
            for (; dim - channel >= STATE_LANES * LANES; channel += STATE_LANES * LANES)
                pass_wide(delta, room, rows, channel, before, passage->state.next_memory + head * size);
            for (; channel < dim; channel += LANES) pass_narrow(delta, room, rows, channel, before, passage->state.next_memory + head * size);
            give_answers(work, passage, from, rows, head, room);
        }
    }
    keep_window(work, passage, key_head * delta->key_dim, delta->key_dim, room->inputs);
    keep_window(work, passage, keys + key_head * delta->key_dim, delta->key_dim, room->inputs);
    for (int head = key_head * group; head < (key_head + 1) * group; head++)
        keep_window(work, passage, 2 * keys + head * dim, dim, room->inputs);
}

/* What one thread does, with room of its own: some key heads of some passages. */
static void recur_share(const struct recurring *work, int thread, struct team *team) {
    const int64_t key_heads = work->delta->key_heads, items = work->count * key_heads;
    int most = 1;
    for (int i = 0; i < work->count; i++) most = work->passages[i].count > most ? (int)work->passages[i].count : most;
    const int at_once = most < ROWS_AT_ONCE ? most : ROWS_AT_ONCE;
    int64_t at[PLACES + 1];
    delta_places(work->delta, at_once, at);
    float *own = work->room;
    const struct delta_room room = {own + at[0], own + at[1], own + at[2], own + at[3], own + at[4],
                                    own + at[5], own + at[6], own + at[7], own + at[8]};
    for (int64_t item = thread; item < items; item += team_size(team))
        pass_heads(work, work->passages + item / key_heads, (int)(item % key_heads), &room, at_once);
}

static void delta_job(void *argument, int thread, struct team *team) {
    struct recurring work = *(const struct recurring *)argument;
    work.room += thread * work.room_each;
    recur_share(&work, thread, team);
}
