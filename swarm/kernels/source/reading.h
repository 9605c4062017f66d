/* Reading memory and nothing else, by the threads that compute: the speed of it bounds decoding. */
#pragma once
#include "lanes.h"
#include "path.h"

#define STREAMS 4 /* places that a thread reads from at once: one alone leaves a part of the speed unused */
#if PATH == PATH_AVX512
#define WIDE 64
#elif PATH == PATH_AVX2
#define WIDE 32
#else
#define WIDE 16
#endif
#define PARTS (64 / WIDE) /* of a cache line */

typedef uint64_t wide __attribute__((vector_size(WIDE)));

static void reading_job(void *argument, int thread, struct team *team) {
    struct reading *work = argument;
    const int64_t apart = work->lines / STREAMS;
    const wide *numbers = work->numbers;
    wide sums[STREAMS] = {0};
    int64_t from, to;
    share_of(apart, thread, team, &from, &to);
    for (int64_t i = from; i < to; i++)
        for (int stream = 0; stream < STREAMS; stream++) {
            const wide *line = numbers + (stream * apart + i) * PARTS;
            wide sum = line[0];
            for (int part = 1; part < PARTS; part++) sum += line[part];
            sums[stream] += sum;
        }
    uint64_t sum = 0;
    for (int stream = 0; stream < STREAMS; stream++)
        for (int lane = 0; lane < WIDE / 8; lane++) sum += sums[stream][lane];
    work->sums[thread] = sum;
}
