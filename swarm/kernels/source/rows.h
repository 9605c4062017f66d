/* What is computed of a row by itself: norms, activations, softmax, rotation. */
#pragma once
#include "lanes.h"
#include "path.h"
#include <math.h>

/* For each sixteen numbers of a width, the last of which may be fewer. */
#define EACH_LANES(width) for (int at = 0, some = 0; some = (width) - at < LANES ? (width) - at : LANES, at < (width); at += LANES)
#define READ(p) (some == LANES ? load(p) : load_some(p, some))
#define WRITE(p, value)                                                                                                                \
    do {                                                                                                                               \
        if (some == LANES) store(p, value);                                                                                            \
        else store_some(p, value, some);                                                                                               \
    } while (0)

static void norm_row(const struct norm *work, const float *x, float *out) {
    const int width = work->width;
    lanes mean = set(0), squares = set(0);
    if (work->centred) {
        lanes total = set(0);
        EACH_LANES(width) total = add(total, READ(x + at));
        mean = set(sum_lanes(total) / (float)width);
    }
    EACH_LANES(width) {
        lanes value = READ(x + at);
        if (work->centred) {
            value = sub(value, mean);
            if (some < LANES) { /* what lies behind the row is no part of it */
                float held[LANES];
                store(held, value);
                value = load_some(held, some);
            }
        }
        squares = fma3(value, value, squares);
    }
    lanes inverse = set(1.0f / sqrtf(sum_lanes(squares) / (float)width + work->eps));
    EACH_LANES(width) {
        lanes value = READ(x + at);
        if (work->centred) value = sub(value, mean);
        value = mul(value, inverse);
        if (work->weight) value = mul(value, READ(work->weight + at));
        if (work->bias) value = add(value, READ(work->bias + at));
        WRITE(out + at, value);
    }
}

static void norm_job(void *argument, int thread, struct team *team) {
    const struct norm *work = argument;
    int64_t from, to;
    share_of(work->count, thread, team, &from, &to);
    for (int64_t row = from; row < to; row++) norm_row(work, work->rows + row * work->ld_rows, work->out + row * work->ld_out);
}

INLINE lanes activated(int kind, float slope, lanes x) {
    if (slope != 0) return mul(x, sigmoid(mul(x, set(slope))));
    switch (kind) {
    case ACTIVATION_SILU: return quotient(x, add(set(1.0f), exponential(negative(x))));
    case ACTIVATION_GELU: return mul(mul(set(0.5f), x), add(set(1.0f), error_function(mul(x, set(0.70710678118654752f)))));
    case ACTIVATION_GELU_TANH: {
        lanes inner = mul(set(0.79788456080286536f), fma3(mul(mul(x, x), x), set(0.044715f), x));
        return mul(mul(set(0.5f), x), add(set(1.0f), hyperbolic_tangent(inner)));
    }
    case ACTIVATION_RELU: return greater(x, mul(x, set(0.0f)));
    case ACTIVATION_SIGMOID: return sigmoid(x);
    case ACTIVATION_EXP: return exponential(x);
    case ACTIVATION_SOFTPLUS: return softplus(x);
    default: return hyperbolic_tangent(x);
    }
}

/* `x` may be `out`. */
static void activate_row(const struct activation *work, const float *x, const float *other, float *out) {
    EACH_LANES(work->width) {
        lanes gate = READ(x + at);
        if (work->limit != 0) gate = lesser(set(work->limit), gate);
        gate = activated(work->kind, work->slope, gate);
        if (work->gated) {
            lanes up = READ(other + at);
            if (work->limit != 0) up = lesser(set(work->limit), greater(set(-work->limit), up));
            if (work->offset != 0) up = add(up, set(work->offset));
            gate = mul(gate, up);
        }
        WRITE(out + at, gate);
    }
}

static void activation_job(void *argument, int thread, struct team *team) {
    const struct activation *work = argument;
    int64_t from, to;
    share_of(work->count, thread, team, &from, &to);
    for (int64_t row = from; row < to; row++) {
        const float *x = work->rows + row * work->ld_rows;
        activate_row(work, x, x + work->width, work->out + row * work->width);
    }
}

static void softmax_row(const float *x, float *out, int width) {
    float most = x[0];
    for (int i = 1; i < width; i++) most = x[i] > most ? x[i] : most;
    lanes total = set(0);
    EACH_LANES(width) {
        lanes power = exponential(sub(READ(x + at), set(most)));
        WRITE(out + at, power);
        total = add(total, READ(out + at));
    }
    lanes sum = set(sum_lanes(total));
    EACH_LANES(width) WRITE(out + at, quotient(READ(out + at), sum));
}

static void softmax_job(void *argument, int thread, struct team *team) {
    const struct softmax *work = argument;
    int64_t from, to;
    share_of(work->count, thread, team, &from, &to);
    for (int64_t row = from; row < to; row++) softmax_row(work->rows + row * work->ld_rows, work->out + row * work->width, work->width);
}

/* `out` may be `x`. */
static void rotate_head(const float *x, float *out, int half, const float *cos, const float *sin) {
    EACH_LANES(half) {
        lanes a = READ(x + at), b = READ(x + half + at), c = READ(cos + at), s = READ(sin + at);
        WRITE(out + at, fma3(a, c, negative(mul(b, s))));
        WRITE(out + half + at, fma3(b, c, mul(a, s)));
    }
}

static void rotation_job(void *argument, int thread, struct team *team) {
    const struct rotation *work = argument;
    const int half = work->head_dim / 2;
    int64_t from, to;
    share_of((int64_t)work->count * work->heads, thread, team, &from, &to);
    for (int64_t i = from; i < to; i++) {
        int64_t row = i / work->heads;
        float *x = work->rows + row * work->ld_rows + i % work->heads * work->head_dim;
        rotate_head(x, x, half, work->cos + row * half, work->sin + row * half);
    }
}
