// Sums within a warp, numbers sent from block to block, and Adam's step of one weight.

// Sum each of N values over the lanes of a warp. Lane l returns the sum of value l / (32 / N): with every exchange a
// lane gives away half of its values, and has the other half for twice as many lanes.
template <int N, int WIDTH = 16> __device__ __forceinline__ float sum_over_lanes(float (&values)[N]) {
    if constexpr (N == 1) {
        float sum = values[0];
#pragma unroll
        for (int width = WIDTH; width; width /= 2) sum += __shfl_xor_sync(~0u, sum, width);
        return sum;
    } else {
        float sums[N / 2];
        bool upper = threadIdx.x & WIDTH;
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            float one = values[i], other = values[i + N / 2];
            sums[i] = (upper ? other : one) + __shfl_xor_sync(~0u, upper ? one : other, WIDTH);
        }
        return sum_over_lanes<N / 2, WIDTH / 2>(sums);
    }
}

// Over lanes that hold N values between them, each in 32 / N lanes.
template <int N> __device__ __forceinline__ float total(float value) {
#pragma unroll
    for (int width = 16; width >= 32 / N; width /= 2) value += __shfl_xor_sync(~0u, value, width);
    return value;
}

template <int N> __device__ __forceinline__ float largest(float value) {
#pragma unroll
    for (int width = 16; width >= 32 / N; width /= 2) value = fmaxf(value, __shfl_xor_sync(~0u, value, width));
    return value;
}

// Unlike fmaxf, it keeps NaN.
__device__ __forceinline__ float relu(float value) { return value < 0 ? 0.0f : value; }

// Adam's step, with its moments' corrections and the learning rate in `rate`: one root and one division.
__device__ __forceinline__ float stepped(const Task &task, float4 rate, float weight, float gradient, float &mean,
                                         float &square) {
    gradient = __fmaf_rn(task.decay, weight, gradient);
    mean = __fmaf_rn(task.one_minus_beta1, __fsub_rn(gradient, mean), mean);
    square = __fmaf_rn(task.beta2, square, __fmul_rn(__fmul_rn(task.one_minus_beta2, gradient), gradient));
    float below = __fmaf_rn(rate.x, __fsqrt_rn(square), rate.y);
    return __fsub_rn(__fmul_rn(weight, rate.z), __fdiv_rn(mean, below));
}

__device__ __forceinline__ void send(unsigned long long *to, float value, unsigned step) {
    unsigned long long both = (unsigned long long)step << 32 | __float_as_uint(value);
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(both) : "memory");
}

// Wait for the units of this lane: value 4 i + e is unit 128 i + 4 lane + e.
__device__ __forceinline__ void receive(const unsigned long long *from, unsigned step, float (&values)[OWN]) {
#pragma unroll
    for (int i = 0; i < OWN; i += 2) {
        int unit = 32 * (i / 4 * 4) + 4 * (threadIdx.x % 32) + i % 4;
        unsigned long long one = 0, other = 0;
        bool of_one = unit < SENT, of_other = unit + 1 < SENT;
        while (of_one) {
            asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(one), "=l"(other) : "l"(from + unit)
                         : "memory");
            if (one >> 32 == step && (!of_other || other >> 32 == step)) break;
        }
        values[i] = __uint_as_float((unsigned)one);
        values[i + 1] = of_other ? __uint_as_float((unsigned)other) : 0.0f;
    }
}
