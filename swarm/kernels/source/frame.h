/* What one thread has of a pass through a program: its rows, its registers, its room. */
#pragma once
#include "lanes.h"
#include "path.h"

#define FEW_ROWS 2 /* up to which every thread does for itself what takes each row by itself */
#define MAX_REGISTERS 16

struct frame {
    const struct passing *work;
    struct team *team;
    int thread;
    int alone;                       /* it does all rows for itself */
    int64_t from, to;                /* its rows */
    float *registers[MAX_REGISTERS]; /* [rows][width] */
    char *scratch;                   /* its own */
    char *common, *experts;          /* of all threads */
};

static inline int64_t rounded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

INLINE float *at_register(const struct frame *frame, int number, int64_t row, int at) {
    return frame->registers[number] + row * frame->work->program->widths[number] + at;
}

static int64_t register_bytes(const struct passing *work, int number) {
    return rounded((int64_t)sizeof(float) * work->count * work->program->widths[number]);
}

static int64_t registers_bytes(const struct passing *work) {
    int64_t bytes = 0;
    for (int i = 0; i < work->program->registers; i++) bytes += register_bytes(work, i);
    return bytes;
}

static void enter_frame(struct frame *frame, const struct passing *work, int thread, struct team *team) {
    const int64_t registers = registers_bytes(work), own = work->scratch + (work->count <= FEW_ROWS ? registers : 0);
    char *shared = work->room, *mine;
    *frame = (struct frame){.work = work, .team = team, .thread = thread, .from = 0, .to = work->count};
    frame->alone = team_size(team) > 1 && work->count <= FEW_ROWS;
    if (!frame->alone) share_of(work->count, thread, team, &frame->from, &frame->to);
    frame->common = shared + registers;
    frame->experts = frame->common + work->scratch;
    frame->scratch = frame->experts + work->pairs + own * thread;
    mine = frame->scratch + work->scratch;
    for (int i = 0; i < work->program->registers; i++) {
        frame->registers[i] = (float *)(frame->alone && !work->program->together[i] ? mine : shared);
        shared += register_bytes(work, i);
        mine += register_bytes(work, i);
    }
}

/* After scratch and pairs are known. */
static int64_t frames_bytes(const struct passing *work, int threads) {
    const int64_t registers = registers_bytes(work), own = work->scratch + (work->count <= FEW_ROWS ? registers : 0);
    return registers + work->scratch + work->pairs + own * threads;
}
