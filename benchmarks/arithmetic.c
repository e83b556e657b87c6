/* How fast this processor divides and multiplies: the throughput of one thread on operands in its registers and nearest
   cache. Each function returns seconds for one element. */

#include <math.h>
#include <time.h>

#define ELEMENTS 2048
#define CHAINS 12

#if defined __AVX512F__
#define LANES 16
#elif defined __AVX__
#define LANES 8
#else
#define LANES 4
#endif

typedef float lanes __attribute__((vector_size(4 * LANES)));

/* What is stored here is computed, whatever the compiler thinks of it. */
static volatile float sink;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* What Adam cannot do without, for one parameter: a root and a division. */
double root_and_division(long repetitions) {
    static float second[ELEMENTS], first[ELEMENTS];
    for (int i = 0; i < ELEMENTS; i++) second[i] = 1 + (float)i, first[i] = 1;
    double started = now();
    for (long r = 0; r < repetitions; r++) {
        for (int i = 0; i < ELEMENTS; i++) first[i] = second[i] / (sqrtf(first[i]) + 1e-8f);
        sink = first[r % ELEMENTS];
    }
    return (now() - started) / ((double)repetitions * ELEMENTS);
}

/* A product that is added to a sum, with enough sums at once that none waits for another. */
double multiply_add(long repetitions) {
    lanes sums[CHAINS], factor, term;
    for (int lane = 0; lane < LANES; lane++) factor[lane] = 0.5f, term[lane] = 1;
    for (int chain = 0; chain < CHAINS; chain++) sums[chain] = term;
    double started = now();
    for (long r = 0; r < repetitions; r++)
        for (int chain = 0; chain < CHAINS; chain++) sums[chain] = sums[chain] * factor + term;
    double seconds = now() - started;
    for (int chain = 0; chain < CHAINS; chain++) sink = sums[chain][0];
    return seconds / ((double)repetitions * CHAINS * LANES);
}
