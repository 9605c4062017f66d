/* A pool of threads that spin briefly for the next job and then sleep, so that several workers can share a machine's cores.

   One job at a time has the pool; a second caller meanwhile computes alone. A job sets the float mode itself, in each thread: round
   to nearest, subnormals kept, whatever the caller had, and what the caller had is put back. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include "pool.h"
#include "portable.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#define PAUSE() _mm_pause()
typedef unsigned float_mode;
static float_mode enter_mode(void) {
    unsigned before = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return before;
}
static void leave_mode(float_mode before) { _mm_setcsr(before); }
#else
#include <fenv.h>
#define PAUSE() ((void)0)
typedef fenv_t float_mode;
static float_mode enter_mode(void) {
    fenv_t before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    return before;
}
static void leave_mode(float_mode before) { fesetenv(&before); }
#endif

#define SPINS 400 /* some 10 us: longer, and a thread that waits keeps the one it waits for from running */

struct team {
    int size;
    atomic_int arrived;
    atomic_uint passed;
};

static struct {
    pthread_mutex_t taken;   /* by the caller whose job it is */
    pthread_mutex_t lock;    /* of what follows */
    pthread_cond_t wake, done;
    pthread_t threads[MAX_THREADS];
    atomic_int count;        /* threads besides the caller; who only asks for it takes no lock */
    atomic_uint number;      /* of the job */
    atomic_int left;         /* threads that have not finished it */
    job *work;
    void *argument;
    struct team team;
    bool stop;
} pool = {.taken = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

int team_size(const struct team *team) { return team->size; }

void team_wait(struct team *team) {
    if (team->size == 1) return;
    unsigned before = atomic_load(&team->passed);
    if (atomic_fetch_add(&team->arrived, 1) == team->size - 1) {
        atomic_store(&team->arrived, 0);
        atomic_fetch_add(&team->passed, 1);
        return;
    }
    for (int turn = 0; atomic_load_explicit(&team->passed, memory_order_acquire) == before; turn++) {
        PAUSE();
        if (turn > SPINS) sched_yield();
    }
}

static void *serve(void *place) {
    int thread = (int)(intptr_t)place;
    unsigned seen = 0;
    enter_mode();
    for (;;) {
        for (int turn = 0; turn < SPINS && atomic_load_explicit(&pool.number, memory_order_acquire) == seen; turn++) PAUSE();
        if (atomic_load(&pool.number) == seen) {
            pthread_mutex_lock(&pool.lock);
            while (atomic_load(&pool.number) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
            pthread_mutex_unlock(&pool.lock);
        }
        seen++;
        if (pool.stop) return NULL;
        if (thread < pool.team.size) pool.work(pool.argument, thread, &pool.team);
        if (atomic_fetch_sub(&pool.left, 1) == 1) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_signal(&pool.done);
            pthread_mutex_unlock(&pool.lock);
        }
    }
}

static void announce(void) {
    atomic_store(&pool.left, atomic_load(&pool.count));
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.number, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
}

static void wait_for_all(void) {
    for (int turn = 0; turn < SPINS && atomic_load_explicit(&pool.left, memory_order_acquire); turn++) PAUSE();
    if (!atomic_load(&pool.left)) return;
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.left)) pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

static void in_child(void) { /* of a fork, which has none of the threads */
    atomic_store(&pool.count, 0);
    pthread_mutex_init(&pool.taken, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL); /* the parent's threads waited for these */
    pthread_cond_init(&pool.done, NULL);
}

/* How many threads compute a job, the caller among them. */
void swarm_set_threads(int count) {
    static bool watched = false;
    if (count < 1) count = 1;
    if (count > MAX_THREADS) count = MAX_THREADS;
    pthread_mutex_lock(&pool.taken);
    if (!watched) pthread_atfork(NULL, NULL, in_child);
    watched = true;
    const int before = atomic_load(&pool.count);
    int made = 0;
    if (before) {
        pool.stop = true;
        announce();
        for (int i = 0; i < before; i++) pthread_join(pool.threads[i], NULL);
        pool.stop = false;
    }
    atomic_store(&pool.number, 0);
    while (made < count - 1 && !pthread_create(&pool.threads[made], NULL, serve, (void *)(intptr_t)(made + 1))) made++;
    atomic_store(&pool.count, made);
    pthread_mutex_unlock(&pool.taken);
}

int swarm_threads(void) { return atomic_load(&pool.count) + 1; }

void run_job(job *work, void *argument, int most) {
    float_mode before = enter_mode();
    if (most > 1 && atomic_load(&pool.count) && !pthread_mutex_trylock(&pool.taken)) {
        const int threads = atomic_load(&pool.count) + 1; /* which nobody changes meanwhile */
        pool.team.size = most < threads ? most : threads;
        atomic_store(&pool.team.arrived, 0);
        pool.work = work;
        pool.argument = argument;
        announce();
        work(argument, 0, &pool.team);
        wait_for_all();
        pthread_mutex_unlock(&pool.taken);
    } else {
        struct team alone = {.size = 1};
        work(argument, 0, &alone);
    }
    leave_mode(before);
}
