/* Threads that compute one job together. Which of them does what never decides a bit. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct team;
typedef void job(void *argument, int thread, struct team *team);

/* Runs `job` on 1 to `most` threads, the caller among them, and returns when all are done. */
void run_job(job *work, void *argument, int most);
int swarm_threads(void); /* at most, the caller among them */
int team_size(const struct team *team);
void team_wait(struct team *team); /* until all threads of the team are here */
/* From which item to which a thread of the team works. */
static inline void share_of(int64_t items, int thread, const struct team *team, int64_t *from, int64_t *to) {
    int threads = team_size(team);
    *from = items * thread / threads;
    *to = items * (thread + 1) / threads;
}
