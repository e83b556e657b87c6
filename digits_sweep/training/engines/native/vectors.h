/* Vectors of floats as wide as the processor's registers, in the notation that GCC and Clang share. */
#include <stdint.h>

#if defined(__AVX512F__)
#define LANES 16
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#if !defined(__clang__) && !defined(NARROW_ROOTS)
#pragma GCC target("prefer-vector-width=512")
#endif
#elif defined(__AVX__)
#define LANES 8
#define EVEN 0, 2, 4, 6, 8, 10, 12, 14
#define ODD 1, 3, 5, 7, 9, 11, 13, 15
#else
#define LANES 4
#define EVEN 0, 2, 4, 6
#define ODD 1, 3, 5, 7
#endif

typedef float vec __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define AT(pointer, index) (*(vec *)((pointer) + (index)))
#define EACH(k, count) UNROLL for (int k = 0; k < (count); k++)

INLINE int64_t padded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

INLINE vec root(vec x) {
    vec y;
    EACH(k, LANES) y[k] = __builtin_sqrtf(x[k]);
    return y;
}

/* x if `by` is above 0 or not a number, else 0: ReLU, and its slope times x. */
INLINE vec if_positive(vec x, vec by) { return (vec)((mask)x & ~(by <= 0)); }

INLINE vec sums_of_pairs(vec x, vec y) {
#ifdef __clang__
    return __builtin_shufflevector(x, y, EVEN) + __builtin_shufflevector(x, y, ODD);
#else
    return __builtin_shuffle(x, y, (mask){EVEN}) + __builtin_shuffle(x, y, (mask){ODD});
#endif
}

/* The sum of x[0] in lane 0, that of x[1] in lane 1, and so on. */
INLINE vec sums(vec x[LANES]) {
    UNROLL for (int left = LANES / 2; left; left /= 2) EACH(k, left) x[k] = sums_of_pairs(x[2 * k], x[2 * k + 1]);
    return x[0];
}
