/* Threads that wait for one another: they spin briefly, then sleep. */

#include <fenv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct team {
    int64_t threads;
    atomic_long arrived, round;
    pthread_mutex_t lock;
    pthread_cond_t next;
};

#ifndef SPINS
#define SPINS 2000
#endif

static void meet(struct team *team) {
    if (team->threads == 1) return;
    long round = atomic_load(&team->round);
    if (atomic_fetch_add(&team->arrived, 1) == team->threads - 1) {
        atomic_store(&team->arrived, 0);
        pthread_mutex_lock(&team->lock);
        atomic_store(&team->round, round + 1);
        pthread_cond_broadcast(&team->next);
        pthread_mutex_unlock(&team->lock);
        return;
    }
    for (int spin = 0; spin < SPINS; spin++)
        if (atomic_load(&team->round) != round) return;
    pthread_mutex_lock(&team->lock);
    while (atomic_load(&team->round) == round) pthread_cond_wait(&team->next, &team->lock);
    pthread_mutex_unlock(&team->lock);
}
