/* A linear layer within a pass: its outputs may be of several weights, of a kind each. */
#pragma once
#include "frame.h"
#include "linear.h"

static int64_t parts_room(const struct parted *parted, int count) {
    int64_t most = 0;
    for (int i = 0; i < parted->count; i++) {
        const int64_t room = linear_room(parted->parts + i, count);
        most = room > most ? room : most;
    }
    return most;
}

/* Each thread computes some tiles for all rows. `shared`: the threads prepare the rows together, in the same room. */
static void linear_parts(const struct frame *frame, const struct parted *parted, int shared, const float *rows, int64_t ld_rows, int count, float *out,
                         int64_t ld_out, char *room) {
    const float *bias = parted->bias;
    for (int i = 0; i < parted->count; i++) {
        const struct weight *weight = parted->parts + i;
        struct linear linear = {
            .weight = weight, .rows = rows, .bias = bias, .out = out, .ld_rows = ld_rows, .ld_out = ld_out, .count = count, .room = room};
        const int64_t units = prepare_units(&linear);
        int64_t from = 0, to = units;
        if (shared) share_of(units, frame->thread, frame->team, &from, &to);
        if (shared && i) team_wait(frame->team);
        prepare_rows(&linear, from, to);
        if (shared && units) team_wait(frame->team);
        share_of(weight->tiles, frame->thread, frame->team, &from, &to);
        some_tiles(&linear, (int)from, (int)to);
        out += weight->outputs;
        if (bias) bias += weight->outputs;
    }
}
