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
