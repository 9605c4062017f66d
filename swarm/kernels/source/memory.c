/* Reading memory and nothing else, by the threads that compute: the speed of it bounds decoding. */
#include "pool.h"
#include "portable.h"

#define STREAMS 4 /* places that a thread reads from at once: one alone leaves a part of the speed unused */

typedef uint64_t line __attribute__((vector_size(64), aligned(64)));

struct reading {
    const line *lines;
    int64_t count;
    uint64_t sums[MAX_THREADS]; /* so that nothing is left out as unused */
};

static void read_share(void *argument, int thread, struct team *team) {
    struct reading *work = argument;
    int64_t from, to;
    share_of(work->count / STREAMS, thread, team, &from, &to);
    const int64_t apart = work->count / STREAMS;
    line sums[STREAMS] = {0};
    for (int64_t i = from; i < to; i++)
        for (int stream = 0; stream < STREAMS; stream++) sums[stream] += work->lines[stream * apart + i];
    uint64_t sum = 0;
    for (int stream = 0; stream < STREAMS; stream++)
        for (int lane = 0; lane < 8; lane++) sum += sums[stream][lane];
    work->sums[thread] = sum;
}

/* The sum of 64-bit numbers, a multiple of 32 of them, from an address that is a multiple of 64. */
uint64_t swarm_read(const void *numbers, int64_t count) {
    struct reading work = {numbers, count / 8, {0}};
    run_job(read_share, &work, MAX_THREADS);
    uint64_t sum = 0;
    for (int thread = 0; thread < MAX_THREADS; thread++) sum += work.sums[thread];
    return sum;
}
