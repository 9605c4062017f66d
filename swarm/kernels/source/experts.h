/* Several MLPs, of which each row goes through some. Rows are grouped by expert; what a row is given is added in the order of the
   experts' numbers, whoever shares them. */
#pragma once
#include "frame.h"
#include "parts.h"
#include "rows.h"

static int is_larger(float a, float b) { return a > b || (a != a && b == b); } /* what is no number is largest */

/* The numbers of the largest, largest first, of equal ones the first. */
static void largest(const float *x, int count, int used, float *numbers) {
    for (int i = 0, held = 0; i < count; i++) {
        int place = held;
        while (place > 0 && is_larger(x[i], x[(int)numbers[place - 1]])) place--;
        if (place == used) continue;
        for (int after = held < used ? held : used - 1; after > place; after--) numbers[after] = numbers[after - 1];
        numbers[place] = (float)i;
        held += held < used;
    }
}

/* `out`: the numbers of those chosen, their shares, and behind these room for all. */
static void route_row(const struct experts *experts, const float *logits, float *out) {
    const int used = experts->used;
    float *shares = out + used, *all = shares + used;
    if (experts->sum_to_one) {
        largest(logits, experts->count, used, out);
        for (int i = 0; i < used; i++) shares[i] = logits[(int)out[i]];
        softmax_row(shares, shares, used);
    } else {
        softmax_row(logits, all, experts->count);
        largest(all, experts->count, used, out);
        for (int i = 0; i < used; i++) shares[i] = all[(int)out[i]];
    }
    if (experts->scales)
        for (int i = 0; i < used; i++) shares[i] = shares[i] * experts->scales[(int)out[i]];
}

struct pairs {             /* of rows and experts, by expert */
    int32_t *starts;       /* [experts + 1] */
    int32_t *rows;
    float *shares;
    float *gathered;       /* [rows][hidden] */
    char *room;            /* of a linear layer */
};

static int64_t pairs_scratch(const struct experts *experts, int64_t count) {
    const int64_t pairs = count * experts->used;
    int64_t up = 0, down = 0;
    for (int i = 0; i < experts->count; i++) {
        const int64_t one = parts_room(&experts->experts[i].up, (int)count), other = parts_room(&experts->experts[i].down, (int)count);
        up = one > up ? one : up;
        down = other > down ? other : down;
    }
    return rounded(sizeof(int32_t) * (experts->count + 1)) + 2 * rounded(sizeof(int32_t) * pairs) +
           rounded(sizeof(float) * count * experts->hidden) + (up > down ? up : down);
}

static int64_t pairs_bytes(const struct experts *experts, int64_t count) {
    const int64_t wide = (experts->gated ? 2 : 1) * (int64_t)experts->inner;
    return rounded(sizeof(float) * count * experts->used * (wide + experts->inner + experts->hidden));
}

static struct pairs pairs_of(const struct frame *frame, const struct operation *todo) {
    const struct experts *experts = todo->more;
    const int64_t count = frame->work->count, pairs = count * experts->used;
    struct pairs found;
    char *place = frame->scratch;
    found.starts = (int32_t *)place;
    found.rows = (int32_t *)(place += rounded(sizeof(int32_t) * (experts->count + 1)));
    found.shares = (float *)(place += rounded(sizeof(int32_t) * pairs));
    found.gathered = (float *)(place += rounded(sizeof(int32_t) * pairs));
    found.room = place + rounded(sizeof(float) * count * experts->hidden);
    memset(found.starts, 0, sizeof(int32_t) * (size_t)(experts->count + 1));
    for (int64_t row = 0; row < count; row++)
        for (int i = 0; i < experts->used; i++) found.starts[(int)at_register(frame, todo->other, row, 0)[i] + 1]++;
    for (int i = 0; i < experts->count; i++) found.starts[i + 1] += found.starts[i];
    for (int64_t row = 0; row < count; row++) {
        const float *routes = at_register(frame, todo->other, row, 0);
        for (int i = 0; i < experts->used; i++) {
            const int32_t place_of = found.starts[(int)routes[i]]++;
            found.rows[place_of] = (int32_t)row;
            found.shares[place_of] = routes[experts->used + i];
        }
    }
    for (int i = experts->count; i > 0; i--) found.starts[i] = found.starts[i - 1];
    found.starts[0] = 0;
    return found;
}

static void add_experts(const struct frame *frame, const struct operation *todo, const struct pairs *pairs, const float *answers) {
    const struct experts *experts = todo->more;
    int64_t from, to;
    share_of(frame->work->count, frame->thread, frame->team, &from, &to);
    for (int64_t row = from; row < to; row++) memset(at_register(frame, todo->to, row, todo->to_at), 0, sizeof(float) * (size_t)experts->hidden);
    for (int pair = 0; pair < pairs->starts[experts->count]; pair++) {
        if (pairs->rows[pair] < from || pairs->rows[pair] >= to) continue;
        float *out = at_register(frame, todo->to, pairs->rows[pair], todo->to_at);
        const float *answer = answers + (int64_t)pair * experts->hidden;
        EACH_LANES(experts->hidden) WRITE(out + at, add(READ(out + at), mul(READ(answer + at), set(pairs->shares[pair]))));
    }
}

static void experts_together(const struct frame *frame, const struct operation *todo) {
    const struct experts *experts = todo->more;
    const int64_t all = (int64_t)frame->work->count * experts->used, wide = (experts->gated ? 2 : 1) * (int64_t)experts->inner;
    float *ups = (float *)frame->experts, *inner = ups + all * wide, *answers = inner + all * experts->inner;
    struct pairs pairs = pairs_of(frame, todo);
    for (int i = 0; i < experts->count; i++) {
        const int first = pairs.starts[i], count = pairs.starts[i + 1] - first;
        const struct expert *expert = experts->experts + i;
        for (int pair = 0; pair < count; pair++)
            memcpy(pairs.gathered + (int64_t)pair * experts->hidden, at_register(frame, todo->from, pairs.rows[first + pair], todo->from_at),
                   sizeof(float) * (size_t)experts->hidden);
        if (count) linear_parts(frame, &expert->up, 0, pairs.gathered, experts->hidden, count, ups + first * wide, wide, pairs.room);
    }
    team_wait(frame->team);
    const struct activation activation = {.width = experts->inner,
                                          .kind = experts->activation,
                                          .gated = experts->gated,
                                          .limit = experts->limit,
                                          .slope = experts->slope,
                                          .offset = experts->offset};
    int64_t from, to;
    share_of(all, frame->thread, frame->team, &from, &to);
    for (int64_t pair = from; pair < to; pair++)
        activate_row(&activation, ups + pair * wide, ups + pair * wide + experts->inner, inner + pair * experts->inner);
    team_wait(frame->team);
    for (int i = 0; i < experts->count; i++) {
        const int first = pairs.starts[i], count = pairs.starts[i + 1] - first;
        const struct expert *expert = experts->experts + i;
        if (count)
            linear_parts(frame, &expert->down, 0, inner + (int64_t)first * experts->inner, experts->inner, count,
                         answers + (int64_t)first * experts->hidden, experts->hidden, pairs.room);
    }
    team_wait(frame->team);
    add_experts(frame, todo, &pairs, answers);
}
