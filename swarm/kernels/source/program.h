/* Rows through a program of operations, by a team of threads.

   Operations that take each row by itself are done by the thread that has the row; where rows are few, by every thread for all rows,
   in registers of its own, which is quicker than waiting for one that does it for all. For the others each thread does a part, and
   then they wait for each other. */
#pragma once
#include "attend.h"
#include "delta.h"
#include "experts.h"
#include "frame.h"
#include "linear.h"
#include "rows.h"

static void read_rows(const struct frame *frame) {
    const struct passing *work = frame->work;
    const int width = work->program->widths[0];
    for (int64_t row = frame->from; row < frame->to; row++) {
        float *out = at_register(frame, 0, row, 0);
        if (work->kind == CACHE_FP32) memcpy(out, (const float *)work->rows + row * work->ld_rows, sizeof(float) * (size_t)width);
        else
            EACH_LANES(width) WRITE(out + at, some == LANES ? load_bf16((const uint16_t *)work->rows + row * work->ld_rows + at)
                                                            : load_cached(CACHE_BF16, work->rows, row * work->ld_rows + at, some));
    }
}

static void write_rows(const struct frame *frame) {
    const struct passing *work = frame->work;
    const int64_t width = work->program->widths[0];
    for (int64_t row = frame->from; row < frame->to; row++) {
        const float *x = at_register(frame, 0, row, 0);
        if (work->kind == CACHE_FP32) memcpy((float *)work->out + row * width, x, sizeof(float) * (size_t)width);
        else
            for (int64_t i = 0; i < width; i++) ((uint16_t *)work->out)[row * width + i] = bf16_of_float(x[i]);
    }
}

static void round_row(const float *x, float *out, int width) {
    for (int i = 0; i < width; i++) out[i] = float_of_bits((uint32_t)bf16_of_float(x[i]) << 16);
}

static void rotate_row(const struct frame *frame, const struct operation *todo, int64_t row, const float *x, float *out) {
    const struct passing *work = frame->work;
    const struct turning *turning = work->turnings + todo->number;
    const int64_t place = (work->positions ? work->positions[row] : row) * turning->half;
    for (int head = 0; head < todo->heads; head++)
        rotate_head(x + head * todo->width, out + head * todo->width, todo->width / 2, turning->cos + place, turning->sin + place);
}

static void one_row(const struct frame *frame, const struct operation *todo, int64_t row) {
    const float *x = at_register(frame, todo->from, row, todo->from_at), *other = at_register(frame, todo->other, row, todo->other_at);
    float *out = at_register(frame, todo->to, row, todo->to_at);
    const int width = todo->width;
    switch (todo->kind) {
    case OPERATION_READ: {
        const struct given *given = frame->work->inputs + todo->number;
        memcpy(out, given->rows + row * given->ld_rows + todo->from_at, sizeof(float) * (size_t)width);
        break;
    }
    case OPERATION_NORM: {
        const struct norm norm = {.weight = todo->weight, .bias = todo->bias, .width = width, .centred = todo->option, .eps = todo->a};
        for (int head = 0; head < todo->heads; head++) norm_row(&norm, x + head * width, out + head * width);
        break;
    }
    case OPERATION_ROTATE: rotate_row(frame, todo, row, x, out); break;
    case OPERATION_ACTIVATE: {
        const struct activation activation = {
            .width = width, .kind = todo->number, .gated = todo->option, .limit = todo->a, .slope = todo->b, .offset = todo->c};
        activate_row(&activation, x, other, out);
        break;
    }
    case OPERATION_COPY: memmove(out, x, sizeof(float) * (size_t)width); break;
    case OPERATION_ADD: EACH_LANES(width) WRITE(out + at, add(READ(x + at), READ(other + at))); break;
    case OPERATION_MULTIPLY: {
        const lanes one = set(*other);
        EACH_LANES(width) WRITE(out + at, mul(READ(x + at), todo->option ? one : READ(other + at)));
        break;
    }
    case OPERATION_SCALE: EACH_LANES(width) WRITE(out + at, mul(READ(x + at), set(todo->a))); break;
    case OPERATION_ROUND: round_row(x, out, width); break;
    default: route_row(todo->more, x, out);
    }
}

static void linear_together(const struct frame *frame, const struct operation *todo) {
    const int32_t *widths = frame->work->program->widths;
    const struct parted parted = {.parts = todo->weight, .count = todo->number, .bias = todo->bias};
    linear_parts(frame, &parted, !frame->alone, at_register(frame, todo->from, 0, todo->from_at), widths[todo->from], frame->work->count,
                 at_register(frame, todo->to, 0, todo->to_at), widths[todo->to], frame->alone ? frame->scratch : frame->common);
}

/* Rows beside each other of one session pass through its state together; returns how many such passages there are. */
static int passages_of(const struct passing *work, const struct recurs *recurs, struct passage *passages) {
    int count = 0;
    for (int64_t row = 0; row < work->count; row++) {
        if (row && work->sessions[row] == work->sessions[row - 1]) passages[count - 1].count++;
        else passages[count++] = (struct passage){work->states[work->sessions[row]][recurs->layer], row, 1};
    }
    return count;
}

static void recur_together(const struct frame *frame, const struct operation *todo) {
    const struct passing *work = frame->work;
    const struct recurs *recurs = todo->more;
    struct passage *passages = (struct passage *)frame->scratch;
    const struct recurring recurring = {.delta = &recurs->delta,
                                        .rows = at_register(frame, todo->from, 0, todo->from_at),
                                        .passages = passages,
                                        .out = at_register(frame, todo->to, 0, todo->to_at),
                                        .ld_rows = work->program->widths[todo->from],
                                        .ld_out = work->program->widths[todo->to],
                                        .count = passages_of(work, recurs, passages),
                                        .room = (float *)(frame->scratch + rounded(sizeof(struct passage) * work->count))};
    recur_share(&recurring, frame->thread, frame->team);
}

/* Bytes of `work->room`; sets what parts of it there are. */
static int64_t program_room(struct passing *work, int threads) {
    const struct program *program = work->program;
    work->scratch = work->pairs = 0;
    for (int i = 0; i < program->count; i++) {
        const struct operation *todo = program->operations + i;
        int64_t scratch = 0, pairs = 0;
        if (todo->kind == OPERATION_LINEAR) {
            const struct parted parted = {.parts = todo->weight, .count = todo->number};
            scratch = parts_room(&parted, work->count);
        }
        if (todo->kind == OPERATION_ATTEND) scratch = attend_room(work, todo->more);
        if (todo->kind == OPERATION_RECUR)
            scratch = rounded(sizeof(struct passage) * work->count) +
                      (int64_t)sizeof(float) * delta_room(&((const struct recurs *)todo->more)->delta, work->count);
        if (todo->kind == OPERATION_EXPERTS) {
            scratch = pairs_scratch(todo->more, work->count);
            pairs = pairs_bytes(todo->more, work->count);
        }
        if (rounded(scratch) > work->scratch) work->scratch = rounded(scratch);
        if (pairs > work->pairs) work->pairs = pairs;
    }
    return frames_bytes(work, threads);
}

static void program_job(void *argument, int thread, struct team *team) {
    const struct passing *work = argument;
    const struct program *program = work->program;
    struct frame frame;
    enter_frame(&frame, work, thread, team);
    read_rows(&frame);
    int unread = !frame.alone; /* rows that other threads have not seen yet */
    for (int i = 0; i < program->count; i++) {
        const struct operation *todo = program->operations + i;
        if (todo->kind < FIRST_TOGETHER) {
            for (int64_t row = frame.from; row < frame.to; row++) one_row(&frame, todo, row);
            unread = !frame.alone;
            continue;
        }
        if (unread) team_wait(team);
        unread = 0;
        if (todo->kind == OPERATION_LINEAR) linear_together(&frame, todo);
        else if (todo->kind == OPERATION_ATTEND) attend_and_store(&frame, todo);
        else if (todo->kind == OPERATION_EXPERTS) experts_together(&frame, todo);
        else recur_together(&frame, todo);
        team_wait(team);
    }
    if (!frame.alone || thread == 0) write_rows(&frame);
}
