#include "cases.h"

int64_t swarm_packed_bytes(int kind, int outputs, int inputs);
int64_t swarm_scale_bytes(int kind, int shift, int outputs, int inputs);
int swarm_has_minima(int kind);
void swarm_pack_floats(int kind, int from, int count, int inputs, int columns, const void *rows, void *packed);
int swarm_pack_blocks(const struct weight *weight, int from, int count, const uint8_t *rows, int64_t row_bytes);
int swarm_linear(const struct weight *weight, const float *rows, int64_t ld_rows, int count, const float *bias, float *out, int64_t ld_out);
void swarm_norm(const float *rows, int64_t ld_rows, int count, int width, const float *weight, const float *bias, float eps, int centred, float *out,
                int64_t ld_out);
void swarm_activation(const float *rows, int64_t ld_rows, int count, int width, int kind, int gated, float limit, float slope, float offset, float *out);
void swarm_softmax(const float *rows, int64_t ld_rows, int count, int width, float *out);
void swarm_rotate(float *rows, int64_t ld_rows, int count, int heads, int head_dim, const float *cos, const float *sin);
int swarm_attention(const struct attention *attention, const float *queries, int64_t ld_queries, int count, const struct seen *seen, float *out);
int swarm_delta(const struct delta *delta, const float *rows, int64_t ld_rows, const struct passage *passages, int count, float *out, int64_t ld_out);
void swarm_turns(const double *angles, const double *factors, int64_t positions, int64_t half, float *cosines, float *sines);

static struct outcome outcome_of(int64_t count) { return (struct outcome){room_for(count, 4), count}; }

static struct room floats_packed(struct seed *seed, enum values values, int kind, int outputs, int inputs, struct weight *weight) {
    struct room packed = {calloc(1, (size_t)swarm_packed_bytes(kind, outputs, inputs)), NULL}, rows;
    if (kind == WEIGHT_FP32) rows = numbers_of(seed, values, outputs, inputs);
    else {
        rows = room_for((int64_t)outputs * inputs, 2);
        fill_halves(seed, values, kind == WEIGHT_FP16, rows.items, outputs, inputs);
    }
    swarm_pack_floats(kind, 0, outputs, inputs, inputs, rows.items, packed.taken);
    give_back(rows);
    weight->numbers = packed.taken;
    return packed;
}

static void integers_packed(struct seed *seed, enum values values, int kind, int outputs, struct weight *weight, struct room packed[3]) {
    const int64_t groups = weight->groups, scales_count = (int64_t)weight->tiles * groups * 16;
    struct room rows = room_for(outputs * groups * GROUP, 1), scales = room_for(outputs * groups, 2), minima = room_for(outputs * groups, 2);
    for (int64_t i = 0; i < outputs * groups * GROUP; i++) ((uint8_t *)rows.items)[i] = (uint8_t)(draw(seed) & (kind == WEIGHT_INT8 ? 255 : 15));
    fill_halves(seed, values, 1, scales.items, outputs, groups);
    fill_halves(seed, values, 1, minima.items, outputs, groups);
    packed[0].taken = calloc(1, (size_t)swarm_packed_bytes(kind, outputs, weight->inputs));
    packed[1].taken = calloc((size_t)scales_count, 2);
    packed[2].taken = calloc((size_t)scales_count, 2);
    weight->numbers = packed[0].taken;
    weight->scales = packed[1].taken;
    weight->minima = packed[2].taken;
    const int halves = kind == WEIGHT_INT4_MINIMUM ? 2 : 1, bytes = halves * 2 + (kind == WEIGHT_INT8 ? GROUP : GROUP / 2);
    struct room blocks = room_for(outputs * groups * bytes, 1);
    for (int64_t i = 0; i < outputs * groups; i++) {
        uint8_t *block = (uint8_t *)blocks.items + i * bytes, *numbers = (uint8_t *)rows.items + i * GROUP;
        memcpy(block, (uint16_t *)scales.items + i, 2);
        if (halves == 2) memcpy(block + 2, (uint16_t *)minima.items + i, 2);
        for (int k = 0; k < (kind == WEIGHT_INT8 ? GROUP : GROUP / 2); k++)
            block[halves * 2 + k] = (uint8_t)(kind == WEIGHT_INT8 ? numbers[k] : numbers[k] | numbers[k + GROUP / 2] << 4);
    }
    swarm_pack_blocks(weight, 0, outputs, blocks.items, groups * bytes);
    give_back(blocks);
    give_back(rows);
    give_back(scales);
    give_back(minima);
}

/* Kinds that files hold: any bytes are numbers of theirs, and scales are halves first. */
static void stored_packed(struct seed *seed, enum values values, int kind, int outputs, struct weight *weight, struct room packed[3]) {
    weight->shift = kind >= WEIGHT_INT4_ZERO ? (int)(draw(seed) % 3) : 0;
    const int64_t numbers = swarm_packed_bytes(kind, outputs, weight->inputs), minima = (int64_t)weight->tiles * weight->groups * 16;
    const int64_t scales = swarm_scale_bytes(kind, weight->shift, outputs, weight->inputs) / 2;
    for (int i = 0; i < 3; i++) packed[i] = room_for(i == 0 ? numbers : i == 1 ? scales : minima, i == 0 ? 1 : 2);
    for (int64_t i = 0; i < numbers; i++) ((uint8_t *)packed[0].items)[i] = (uint8_t)draw(seed);
    fill_halves(seed, values, 1, packed[1].items, 1, scales);
    fill_halves(seed, values, 1, packed[2].items, 1, minima);
    weight->numbers = packed[0].items;
    weight->scales = packed[1].items;
    weight->minima = swarm_has_minima(kind) ? packed[2].items : NULL;
}

/* kind, outputs, inputs, rows, bias, numbers between rows */
static struct outcome linear_of(int wide, const int *sizes, enum values values, struct seed seed) {
    const int kind = sizes[0], outputs = sizes[1], inputs = sizes[2], count = sizes[3], apart = sizes[5];
    struct weight weight = {kind, outputs, inputs, (inputs + GROUP - 1) / GROUP, (outputs + 15) / 16, 0, wide, NULL, NULL, NULL};
    struct room packed[3] = {{NULL, NULL}, {NULL, NULL}, {NULL, NULL}};
    if (kind >= WEIGHT_INT5) stored_packed(&seed, values, kind, outputs, &weight, packed);
    else if (kind >= WEIGHT_INT8) integers_packed(&seed, values, kind, outputs, &weight, packed);
    else packed[0] = floats_packed(&seed, values == HOSTILE && draw(&seed) % 2 ? HOSTILE : TAME, kind, outputs, inputs, &weight);
    struct room rows = numbers_of(&seed, values, count, inputs + apart), bias = numbers_of(&seed, TAME, 1, outputs);
    struct outcome out = outcome_of((int64_t)count * (outputs + apart));
    memset(out.room.items, 0, sizeof(float) * (size_t)out.count);
    if (swarm_linear(&weight, rows.items, inputs + apart, count, sizes[4] ? bias.items : NULL, out.room.items, outputs + apart)) exit(3);
    give_back(rows);
    give_back(bias);
    for (int i = 0; i < 3; i++) give_back(packed[i]);
    return out;
}

static struct outcome linear(const int *sizes, enum values values, struct seed seed) { return linear_of(0, sizes, values, seed); }
/* Of rows that become integers of 16 bits, for weights that are integers. */
static struct outcome wide(const int *sizes, enum values values, struct seed seed) { return linear_of(1, sizes, values, seed); }

/* width, rows, weight, bias, centred, numbers between rows */
static struct outcome norm(const int *sizes, enum values values, struct seed seed) {
    const int width = sizes[0], count = sizes[1], apart = sizes[5];
    struct room rows = numbers_of(&seed, values, count, width + apart), weight = numbers_of(&seed, values, 1, width), bias = numbers_of(&seed, values, 1, width);
    struct outcome out = outcome_of((int64_t)count * (width + apart));
    memset(out.room.items, 0, sizeof(float) * (size_t)out.count);
    swarm_norm(rows.items, width + apart, count, width, sizes[2] ? weight.items : NULL, sizes[3] ? bias.items : NULL, 1e-5f, sizes[4], out.room.items,
               width + apart);
    give_back(rows);
    give_back(weight);
    give_back(bias);
    return out;
}

/* kind, width, rows, gated, bounded, numbers between rows */
static struct outcome activation(const int *sizes, enum values values, struct seed seed) {
    const int width = sizes[1], count = sizes[2], across = width * (sizes[3] ? 2 : 1) + sizes[5];
    struct room rows = numbers_of(&seed, values, count, across);
    struct outcome out = outcome_of((int64_t)count * width);
    swarm_activation(rows.items, across, count, width, sizes[0], sizes[3], sizes[4] ? 1.5f : 0, sizes[4] ? 1.702f : 0, sizes[4] ? 1 : 0, out.room.items);
    give_back(rows);
    return out;
}

/* width, rows, numbers between rows */
static struct outcome softmax(const int *sizes, enum values values, struct seed seed) {
    const int width = sizes[0], count = sizes[1], apart = sizes[2];
    struct room rows = numbers_of(&seed, values, count, width + apart);
    struct outcome out = outcome_of((int64_t)count * width);
    swarm_softmax(rows.items, width + apart, count, width, out.room.items);
    give_back(rows);
    return out;
}

/* heads, half a head, rows, numbers between rows */
static struct outcome rotation(const int *sizes, enum values values, struct seed seed) {
    const int heads = sizes[0], half = sizes[1], count = sizes[2], across = heads * half * 2 + sizes[3];
    struct room cos = numbers_of(&seed, TAME, count, half), sin = numbers_of(&seed, TAME, count, half);
    struct outcome out = outcome_of((int64_t)count * across);
    fill(&seed, values, out.room.items, count, across);
    swarm_rotate(out.room.items, across, count, heads, half * 2, cos.items, sin.items);
    give_back(cos);
    give_back(sin);
    return out;
}

/* positions, half a head */
static struct outcome turns(const int *sizes, enum values values, struct seed seed) {
    const int64_t positions = sizes[0], half = sizes[1], all = positions * half;
    struct room angles = room_for(all, 8), factors = room_for(half, 8), numbers = numbers_of(&seed, values, positions, half);
    for (int64_t i = 0; i < all; i++) {
        float number;
        memcpy(&number, (char *)numbers.items + i * 4, 4);
        ((double *)angles.items)[i] = (double)number * (double)(1 + draw(&seed) % 100000);
    }
    for (int64_t i = 0; i < half; i++) ((double *)factors.items)[i] = 1.0 + (double)(draw(&seed) % 16) / 16;
    struct outcome out = outcome_of(all * 2);
    swarm_turns(angles.items, factors.items, positions, half, out.room.items, (float *)out.room.items + all);
    give_back(angles);
    give_back(factors);
    give_back(numbers);
    return out;
}

/* A cache [kv heads][positions][head_dim], or with heads inside positions; of bytes always [kv heads][tiles], see cached.h. */
struct cache {
    struct room keys, values;
    int64_t head_stride, row_stride;
};
static struct room tiles_of_bytes(struct seed *seed, enum values values, int64_t tiles, int head_dim) {
    const int64_t size = 16 * (head_dim + 4);
    struct room room = room_for(tiles * size / 4, 4);
    for (int64_t tile = 0; tile < tiles; tile++) {
        uint8_t *place = (uint8_t *)room.items + tile * size;
        for (int i = 0; i < 16 * head_dim; i++) place[i] = (uint8_t)(draw(seed) % 255 - 127);
        fill(seed, values, (uint32_t *)(void *)(place + 16 * head_dim), 1, 16);
    }
    return room;
}
static struct cache cache_of(struct seed *seed, enum values values, int kind, int kv_heads, int head_dim, int positions, int heads_inside) {
    const int64_t rows = (int64_t)kv_heads * positions;
    struct cache cache = {.head_stride = heads_inside ? head_dim : (int64_t)positions * head_dim,
                          .row_stride = heads_inside ? (int64_t)kv_heads * head_dim : head_dim};
    if (kind == CACHE_INT8) {
        const int64_t tiles = (positions + 15) / 16;
        cache.head_stride = tiles * 16 * (head_dim + 4);
        cache.keys = tiles_of_bytes(seed, values, kv_heads * tiles, head_dim);
        cache.values = tiles_of_bytes(seed, values, kv_heads * tiles, head_dim);
        return cache;
    }
    if (kind == CACHE_FP32) {
        cache.keys = numbers_of(seed, values, rows, head_dim);
        cache.values = numbers_of(seed, values, rows, head_dim);
        return cache;
    }
    cache.keys = room_for(rows * head_dim, 2);
    cache.values = room_for(rows * head_dim, 2);
    fill_halves(seed, values, 0, cache.keys.items, rows, head_dim);
    fill_halves(seed, values, 0, cache.values.items, rows, head_dim);
    return cache;
}

/* cache kind, kv heads, query heads of each, head_dim, rows, positions, caches, capped, sinks, biases, heads inside positions */
static struct outcome attention(const int *sizes, enum values values, struct seed seed) {
    enum { CACHES = 4 };
    const int kv_heads = sizes[1], heads = kv_heads * sizes[2], head_dim = sizes[3], count = sizes[4], positions = sizes[5], caches = sizes[6];
    const enum values stored = values == HOSTILE && draw(&seed) % 2 ? HOSTILE : TAME;
    struct cache cache[CACHES];
    for (int i = 0; i < caches && i < CACHES; i++) cache[i] = cache_of(&seed, stored, sizes[0], kv_heads, head_dim, positions, sizes[10]);
    struct room queries = numbers_of(&seed, values, count, (int64_t)heads * head_dim), sinks = numbers_of(&seed, values, 1, heads);
    struct seen *seen = calloc((size_t)count, sizeof *seen);
    struct room *biases = calloc((size_t)count, sizeof *biases);
    for (int row = 0; row < count; row++) {
        const struct cache *own = cache + row * caches / count % CACHES;
        const int stop = 1 + (int)(draw(&seed) % (unsigned)positions), first = draw(&seed) % 2 ? 0 : (int)(draw(&seed) % (unsigned)stop);
        biases[row] = numbers_of(&seed, stored, heads, stop - first);
        seen[row] = (struct seen){.keys = own->keys.items, .values = own->values.items, .head_stride = own->head_stride, .row_stride = own->row_stride, .tiled = sizes[0] == CACHE_INT8, .first = first, .stop = stop, .biases = sizes[9] ? biases[row].items : NULL};
    }
    const struct attention shape = {heads, kv_heads, head_dim, sizes[0], 0.25f, sizes[7] ? 5.0f : 0, sizes[8] ? sinks.items : NULL};
    struct outcome out = outcome_of((int64_t)count * heads * head_dim);
    if (swarm_attention(&shape, queries.items, (int64_t)heads * head_dim, count, seen, out.room.items)) exit(3);
    for (int row = 0; row < count; row++) give_back(biases[row]);
    for (int i = 0; i < caches && i < CACHES; i++) {
        give_back(cache[i].keys);
        give_back(cache[i].values);
    }
    free(biases);
    free(seen);
    give_back(queries);
    give_back(sinks);
    return out;
}

/* A session's window and memory before some rows and, unless they lie in place, after. Both are of `window` and `memory` numbers. */
struct kept {
    struct room before[2], after[2];
};
static struct kept kept_of(struct seed *seed, enum values values, int kind, int64_t window, int64_t memory, int in_place) {
    struct kept kept = {.before = {room_for(window, kind == CACHE_FP32 ? 4 : 2), numbers_of(seed, values, 1, memory)}};
    if (kind == CACHE_FP32) fill(seed, values, kept.before[0].items, 1, window);
    else fill_halves(seed, values, 0, kept.before[0].items, 1, window);
    if (in_place) return kept;
    kept.after[0] = room_for(window, kind == CACHE_FP32 ? 4 : 2);
    kept.after[1] = room_for(memory, 4);
    return kept;
}

/* Answers, then of each session the memory and the window as binary32: whole numbers of 16 bits for bf16. */
static void tell(const struct kept *kept, int kind, int64_t window, int64_t memory, uint32_t *out) {
    const struct room *last = kept->after[0].taken ? kept->after : kept->before;
    memcpy(out, last[1].items, sizeof *out * (size_t)memory);
    for (int64_t i = 0; i < window; i++) {
        uint32_t bits = 0;
        if (kind == CACHE_FP32) memcpy(&bits, (char *)last[0].items + i * 4, 4);
        else {
            uint16_t half;
            memcpy(&half, (char *)last[0].items + i * 2, 2);
            bits = (uint32_t)half << 16;
        }
        out[memory + i] = bits;
    }
}

/* window kind, key heads, value heads of each, key_dim, value_dim, taps, rows of each session, sessions, in place, numbers between rows */
static struct outcome delta(const int *sizes, enum values values, struct seed seed) {
    enum { SESSIONS = 4 };
    const int kind = sizes[0], key_heads = sizes[1], heads = key_heads * sizes[2], each = sizes[6], sessions = sizes[7] < SESSIONS ? sizes[7] : SESSIONS;
    const int64_t channels = 2 * key_heads * sizes[3] + heads * sizes[4], width = channels + heads * (sizes[4] + 2) + sizes[9];
    const int64_t window = channels * (sizes[5] - 1), memory = (int64_t)heads * sizes[3] * sizes[4], answers = (int64_t)heads * sizes[4];
    const enum values stored = values == HOSTILE && draw(&seed) % 2 ? HOSTILE : TAME;
    struct room weights = numbers_of(&seed, stored, sizes[5], channels), gates = numbers_of(&seed, stored, 2, heads), norm = numbers_of(&seed, stored, 1, sizes[4]);
    struct room rows = numbers_of(&seed, values, (int64_t)each * sessions, width);
    const struct delta shape = {key_heads, heads, sizes[3], sizes[4], sizes[5], kind, 1e-5f, weights.items, gates.items, (float *)gates.items + heads, norm.items};
    struct outcome out = outcome_of((int64_t)each * sessions * answers + sessions * (memory + window));
    struct kept kept[SESSIONS];
    struct passage passages[SESSIONS];
    for (int i = 0; i < sessions; i++) {
        kept[i] = kept_of(&seed, stored, kind, window, memory, sizes[8]);
        const struct room *last = sizes[8] ? kept[i].before : kept[i].after;
        passages[i] = (struct passage){{kept[i].before[0].items, kept[i].before[1].items, last[0].items, last[1].items}, (int64_t)i * each, each};
    }
    if (swarm_delta(&shape, rows.items, width, passages, sessions, out.room.items, answers)) exit(3);
    for (int i = 0; i < sessions; i++) {
        tell(kept + i, kind, window, memory, (uint32_t *)out.room.items + (int64_t)each * sessions * answers + i * (memory + window));
        for (int k = 0; k < 2; k++) {
            give_back(kept[i].before[k]);
            give_back(kept[i].after[k]);
        }
    }
    give_back(weights);
    give_back(gates);
    give_back(norm);
    give_back(rows);
    return out;
}

const struct computation computations[] = {
    {"linear", 6, linear}, {"wide", 6, wide}, {"norm", 6, norm}, {"activation", 6, activation}, {"softmax", 3, softmax},
    {"rotation", 4, rotation}, {"turns", 2, turns}, {"attention", 11, attention}, {"delta", 10, delta},
};
const int computation_count = (int)(sizeof computations / sizeof *computations);
