/* Vectors of floats as wide as the processor's registers, in the notation that GCC and Clang share. */

#include <stdint.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))
#define AT(pointer, index) (*(vec *)((pointer) + (index)))
/* Unrolled, so that an array of vectors lies in registers. */
#define EACH(k, count) _Pragma("GCC unroll 16") for (int k = 0; k < (count); k++)

INLINE vec root(vec x) {
    vec y;
    EACH(k, LANES) y[k] = __builtin_sqrtf(x[k]);
    return y;
}

/* x if `by` is above 0 or not a number, else 0: ReLU, and its slope times x. */
INLINE vec if_positive(vec x, vec by) { return (vec)((mask)x & ~(by <= 0)); }

/* Lane k of the result is lane from[k] of a, or beyond them of b. */
#ifdef __clang__
INLINE vec pick(vec a, vec b, mask from) {
    vec y;
    EACH(k, LANES) y[k] = from[k] < LANES ? a[from[k]] : b[from[k] - LANES];
    return y;
}
#else
#define pick __builtin_shuffle
#endif

/* In every square of 2 by 2 squares that are `half` wide, change the two off the diagonal over. */
INLINE void change_over(vec *x, int half) {
    EACH(r, LANES) if (half < LANES && !(r & half)) {
        vec top = x[r], bottom = x[r + half];
        mask of_top, of_bottom;
        EACH(k, LANES) of_top[k] = k & half ? k - half + LANES : k;
        EACH(k, LANES) of_bottom[k] = k & half ? k + LANES : k + half;
        x[r] = pick(top, bottom, of_top);
        x[r + half] = pick(top, bottom, of_bottom);
    }
}

/* Make the rows of a square its columns. */
INLINE void transpose_square(vec *x) {
    change_over(x, 1);
    change_over(x, 2);
    change_over(x, 4);
    change_over(x, 8);
}
