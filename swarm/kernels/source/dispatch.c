/* Which path computes, and the functions that are called from outside. */
#include <stdlib.h>
#include <string.h>
#include "path.h"
#include "processor.h"
#include "stored_blocks.h"

#define SMALL 20000 /* products of numbers below which one thread is quicker than several */

void swarm_set_threads(int count);

static const struct path *chosen;

static int runs_here(const struct path *path) {
#if defined(__x86_64__)
    if (path == &path_avx512) return has_avx512_vnni();
    if (path == &path_avx2) return has_avx2();
#elif defined(__aarch64__)
    if (path == &path_neon) return has_dot_products();
#endif
    return path == &path_plain;
}

static const struct path *const paths[] = {
#if defined(__x86_64__)
    &path_avx512, &path_avx2,
#elif defined(__aarch64__)
    &path_neon,
#endif
    &path_plain,
};
#define PATHS ((int)(sizeof paths / sizeof *paths))

/* Bytes of the structs of portable.h, in the order of RECORDS in library.py, for a caller that was written for others. */
int64_t swarm_record_bytes(int record) {
    static const size_t bytes[] = {
        sizeof(struct weight), sizeof(struct seen), sizeof(struct attention), sizeof(struct delta), sizeof(struct passage),
        sizeof(struct operation), sizeof(struct attends), sizeof(struct recurs), sizeof(struct parted), sizeof(struct expert),
        sizeof(struct experts), sizeof(struct program), sizeof(struct turning), sizeof(struct given), sizeof(struct passing),
    };
    return record < (int)(sizeof bytes / sizeof *bytes) ? (int64_t)bytes[record] : 0;
}

/* The paths that run here, best first, as names with a space between. */
int swarm_paths(char *names, int room) {
    int used = 0;
    for (int i = 0; i < PATHS; i++) {
        if (!runs_here(paths[i])) continue;
        int length = (int)strlen(paths[i]->name);
        if (used + length + 2 > room) return -1;
        if (used) names[used++] = ' ';
        memcpy(names + used, paths[i]->name, (size_t)length + 1);
        used += length;
    }
    return used;
}

/* 0, or -1 where there is no such path here. */
int swarm_choose_path(const char *name) {
    for (int i = 0; i < PATHS; i++)
        if (!strcmp(paths[i]->name, name) && runs_here(paths[i])) {
            chosen = paths[i];
            return 0;
        }
    return -1;
}

static int threads_for(int64_t products) { return products < SMALL ? 1 : swarm_threads(); }

/* -1 where memory cannot be had. */
int swarm_linear(const struct weight *weight, const float *rows, int64_t ld_rows, int count, const float *bias, float *out, int64_t ld_out) {
    const int64_t room = chosen->linear_room(weight, count);
    struct linear work = {weight, rows, bias, out, ld_rows, ld_out, count, room ? malloc((size_t)room) : NULL};
    if (room && !work.room) return -1;
    run_job(chosen->linear, &work, threads_for((int64_t)weight->outputs * weight->inputs * count));
    free(work.room);
    return 0;
}

void swarm_norm(const float *rows, int64_t ld_rows, int count, int width, const float *weight, const float *bias, float eps, int centred, float *out,
                int64_t ld_out) {
    struct norm work = {rows, weight, bias, out, ld_rows, ld_out, count, width, centred, eps};
    run_job(chosen->norm, &work, threads_for((int64_t)count * width));
}

void swarm_activation(const float *rows, int64_t ld_rows, int count, int width, int kind, int gated, float limit, float slope, float offset, float *out) {
    struct activation work = {rows, out, ld_rows, count, width, kind, gated, limit, slope, offset};
    run_job(chosen->activation, &work, threads_for((int64_t)count * width * 8));
}

void swarm_softmax(const float *rows, int64_t ld_rows, int count, int width, float *out) {
    struct softmax work = {rows, out, ld_rows, count, width};
    run_job(chosen->softmax, &work, threads_for((int64_t)count * width * 8));
}

void swarm_rotate(float *rows, int64_t ld_rows, int count, int heads, int head_dim, const float *cos, const float *sin) {
    struct rotation work = {rows, cos, sin, ld_rows, count, heads, head_dim};
    run_job(chosen->rotation, &work, threads_for((int64_t)count * heads * head_dim));
}

/* -1 where memory cannot be had. */
int swarm_attention(const struct attention *attention, const float *queries, int64_t ld_queries, int count, const struct seen *seen, float *out) {
    struct attending work = {attention, queries, seen, out, ld_queries, (int64_t)attention->heads * attention->head_dim, count, NULL,
                             chosen->attention_room(attention)};
    int64_t positions = 0;
    for (int row = 0; row < count; row++) positions += seen[row].stop - seen[row].first;
    int threads = threads_for(positions * attention->heads * attention->head_dim);
    work.room = malloc(sizeof(float) * (size_t)(work.room_each * threads));
    if (!work.room) return -1;
    run_job(chosen->attention, &work, threads);
    free(work.room);
    return 0;
}

/* Bytes that `work->room` takes. */
int64_t swarm_program_room(struct passing *work) {
    work->threads = swarm_threads();
    return chosen->program_room(work, (int)work->threads);
}

/* `products`: how many a linear layer has of one row. */
void swarm_pass(struct passing *work, int64_t products) {
    const int threads = threads_for(products * work->count);
    run_job(chosen->program, work, threads < work->threads ? threads : (int)work->threads);
}

/* -1 where memory cannot be had. */
int swarm_delta(const struct delta *delta, const float *rows, int64_t ld_rows, const struct passage *passages, int count, float *out, int64_t ld_out) {
    struct recurring work = {.delta = delta, .rows = rows, .passages = passages, .out = out, .ld_rows = ld_rows, .ld_out = ld_out, .count = count};
    int64_t all = 0;
    int most = 0;
    for (int i = 0; i < count; i++) {
        all += passages[i].count;
        most = passages[i].count > most ? (int)passages[i].count : most;
    }
    int threads = threads_for(all * delta->value_heads * delta->key_dim * delta->value_dim);
    work.room_each = chosen->delta_room(delta, most);
    work.room = malloc(sizeof(float) * (size_t)(work.room_each * threads));
    if (!work.room) return -1;
    run_job(chosen->delta, &work, threads);
    free(work.room);
    return 0;
}

/* The sum of 64-bit numbers, a multiple of 32 of them, from an address that is a multiple of 64. */
uint64_t swarm_read(const void *numbers, int64_t count) {
    struct reading work = {numbers, count / 8, {0}};
    run_job(chosen->reading, &work, MAX_THREADS);
    uint64_t sum = 0;
    for (int thread = 0; thread < MAX_THREADS; thread++) sum += work.sums[thread];
    return sum;
}

/* Rows of `columns` numbers, fp32, bf16, fp16 or llama.cpp's blocks, rounded to a weight's kind, as outputs `from` onwards, into packed
   zeros; columns that there are not are zeros. Blocks become bf16 before they become integers. Floats become integers only. -1 where
   this is not how such a weight is made, or rows do not fit. */
int swarm_pack_rounded(const struct weight *weight, int kind, int from, int count, int columns, const void *rows, int64_t row_bytes) {
    struct rounding work = {weight, rows, kind, from, count, columns, row_bytes};
    const int integers = weight->kind == WEIGHT_INT8 || weight->kind == WEIGHT_INT4, floats = kind >= WEIGHT_FP32 && kind <= WEIGHT_FP16;
    if (floats ? !integers || row_bytes != (int64_t)columns * (kind == WEIGHT_FP32 ? 4 : 2) : !becomes_floats(kind)) return -1;
    if (!floats && !integers && weight->kind > WEIGHT_FP16) return -1;
    if (!floats && !whole_blocks(kind, columns, row_bytes)) return -1;
    if (columns > weight->groups * GROUP) return -1;
    run_job(chosen->rounding, &work, threads_for((int64_t)count * columns));
    return 0;
}
