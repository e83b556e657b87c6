/* Threads that work side by side and meet. Who comes first spins briefly, then sleeps. */

#include <fenv.h>
#include <pthread.h>
#include <stdatomic.h>

/* Some ten microseconds: longer than the others take, unless another program has their core. */
#ifdef __x86_64__
#define SPINS 300
#define PAUSE() __builtin_ia32_pause()
#else
#define SPINS 20000
#define PAUSE()
#endif

struct team {
    int threads;
    atomic_int joined, arrived, meetings;
    pthread_mutex_t lock;
    pthread_cond_t all_are_here;
    fenv_t environment; /* the caller's: it says whether denormals are flushed */
    void (*work)(const void *task, struct team *team, int member);
    const void *task;
};

/* Return when all have called this. What one wrote before, all can read then. */
static void meet(struct team *team) {
    if (team->threads == 1) return;
    int meetings = atomic_load(&team->meetings);
    if (atomic_fetch_add(&team->arrived, 1) == team->threads - 1) {
        atomic_store(&team->arrived, 0);
        pthread_mutex_lock(&team->lock);
        atomic_store(&team->meetings, meetings + 1);
        pthread_cond_broadcast(&team->all_are_here);
        pthread_mutex_unlock(&team->lock);
        return;
    }
    for (int spin = 0; spin < SPINS && atomic_load(&team->meetings) == meetings; spin++) PAUSE();
    if (atomic_load(&team->meetings) != meetings) return;
    pthread_mutex_lock(&team->lock);
    while (atomic_load(&team->meetings) == meetings) pthread_cond_wait(&team->all_are_here, &team->lock);
    pthread_mutex_unlock(&team->lock);
}

static void *join(void *argument) {
    struct team *team = argument;
    fesetenv(&team->environment);
    /* How many there are is known when the lock is free. */
    pthread_mutex_lock(&team->lock);
    pthread_mutex_unlock(&team->lock);
    team->work(team->task, team, 1 + atomic_fetch_add(&team->joined, 1));
    return 0;
}

/* Call `work` in so many threads, the caller's included, or in as many as can be had; return when all are done. */
static void work_together(int threads, void (*work)(const void *, struct team *, int), const void *task) {
    struct team team = {.threads = 1, .work = work, .task = task};
    pthread_t others[threads];
    pthread_mutex_init(&team.lock, 0);
    pthread_cond_init(&team.all_are_here, 0);
    fegetenv(&team.environment);
    pthread_mutex_lock(&team.lock);
    while (team.threads < threads && !pthread_create(&others[team.threads], 0, join, &team)) team.threads++;
    pthread_mutex_unlock(&team.lock);
    work(task, &team, 0);
    for (int k = 1; k < team.threads; k++) pthread_join(others[k], 0);
    pthread_cond_destroy(&team.all_are_here);
    pthread_mutex_destroy(&team.lock);
}

/* The part of `count`, in whole units, that a member does: from share(..., member) to share(..., member + 1). */
INLINE int64_t share(const struct team *team, int64_t count, int64_t unit, int member) {
    int64_t end = (count + unit - 1) / unit * member / team->threads * unit;
    return end < count ? end : count;
}
