/* The pool under ThreadSanitizer: two callers with many short jobs, while a third thread changes how many threads there are. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include "pool.h"
#include "portable.h"

#define CALLERS 2
#define ITEMS 64
#define MOST 4 /* threads */

void swarm_set_threads(int count);

struct work {
    int64_t numbers[ITEMS], sums[MAX_THREADS], total;
};

/* Each thread writes its share, waits for all, and reads the others': what the barrier has to order. */
static void job_of_two_parts(void *argument, int thread, struct team *team) {
    struct work *work = argument;
    int64_t from, to, sum = 0;
    share_of(ITEMS, thread, team, &from, &to);
    for (int64_t i = from; i < to; i++) work->numbers[i] += i;
    team_wait(team);
    for (int64_t i = 0; i < ITEMS; i++) sum += work->numbers[i];
    work->sums[thread] = sum;
    team_wait(team);
    if (thread) return;
    work->total = 0;
    for (int i = 0; i < team_size(team); i++) work->total += work->sums[i];
    work->total /= team_size(team);
}

static int jobs;
static atomic_int callers, wrong;

static void *call(void *unused) {
    struct work *work = calloc(1, sizeof *work);
    for (int64_t done = 1; done <= jobs; done++) {
        run_job(job_of_two_parts, work, 1 + (int)(done % MOST));
        if (work->total != done * ITEMS * (ITEMS - 1) / 2) atomic_fetch_add(&wrong, 1);
        if (swarm_threads() > MOST) atomic_fetch_add(&wrong, 1);
    }
    free(work);
    atomic_fetch_sub(&callers, 1);
    return unused;
}

int main(int count, char **arguments) {
    jobs = count == 2 ? atoi(arguments[1]) : 1000;
    pthread_t threads[CALLERS];
    swarm_set_threads(MOST);
    atomic_store(&callers, CALLERS);
    for (int i = 0; i < CALLERS; i++) pthread_create(&threads[i], NULL, call, NULL);
    for (int change = 0; atomic_load(&callers); change++) swarm_set_threads(1 + change % MOST);
    for (int i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
    swarm_set_threads(1);
    printf("%d wrong\n", atomic_load(&wrong));
    return atomic_load(&wrong) != 0;
}
