// Training an MLP with two hidden layers, in one kernel: its weights and Adam's moments stay on the chip.
//
// With x a batch of images (a 1 after the last pixel), h1 = relu(W1 x), h2 = relu(W2 h1), z = W3 h2 (each h with a 1
// after it, for the biases), scores s = softmax(z) or z itself, p = softmax(s) and y the one-hot labels:
//
//     ds = (p - y) / B              dz = s (ds - <ds, s>), or ds without the first softmax
//     d2 = (W3' dz) (h2 > 0)        d1 = (W2' d2) (h1 > 0)
//     dW3 = dz h2'                  dW2 = d2 h1'              dW1 = d1 x'
//
// Each block has UNITS units of both hidden layers: their rows of W1 and W2, their columns of W2, and all of W3. What
// several blocks have is computed alike in all of them, bit for bit. Twice a step every block needs what all others
// computed:
//
//     d1 -> dW1 -> step W1 -> h1 of x(t+1) --send--> [step W2]  --receive--> h2 --send--> [step W3] --receive--> z -> d1
//
// What stands in brackets is done while the numbers are under way. A number is sent in eight bytes together with the
// number of its step, which are written and read as one: who reads the right step has the right number, so that there
// is no barrier. A block sends h1 of a step only after it has all of h2 of the step before, which every block sends
// after it has read the h1 before: so no number is overwritten unread.
//
// Defined by the compiler's options: BATCH, INPUTS, HIDDEN, CLASSES, UNITS, THREADS, SQUASHES, SHARED_BYTES.

#include "memory.cuh"
#include "lanes.cuh"
#include "weights.cuh"

struct Block : Weights {
    const int steps = (task.count + BATCH - 1) / BATCH;
    // Start copying this thread's pixels of a batch. Images that a smaller last batch lacks are zeros.
    __device__ __forceinline__ void fetch(int step) {
        for (int b = 0; b < BATCH && step < steps; b++) {
            int number = step * BATCH + b;
            long long image = number < task.count ? task.order[number] : -1;
#pragma unroll
            for (int i = 0; i < FOURS; i++) {
                int pixel = 4 * (thread + i * THREADS);
                if (pixel >= ROW) continue;
                float *to = &shared.images[step % 2][b][pixel];
                if (image < 0)
                    *(float4 *)to = make_float4(0, 0, 0, 0);
                else
                    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(
                                     to)), "l"(task.images + image * ROW + pixel) : "memory");
            }
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    }

    // Compute and send h1 of this block's units for a batch.
    __device__ __forceinline__ void first_layer(int step) {
        constexpr int N = power_of_two(GROUP * UNITS);
        asm volatile("cp.async.wait_group 0;" ::: "memory");
#pragma unroll 1
        for (int start = 0; start < BATCH; start += GROUP) {
            float sums[N] = {};
#pragma unroll
            for (int i = 0; i < FOURS; i++) {
                int pixel = 4 * (thread + i * THREADS);
                if (pixel >= ROW) continue;
#pragma unroll
                for (int b = 0; b < GROUP; b++) {
                    if (BATCH % GROUP && start + b >= BATCH) continue;
                    float4 x = *(const float4 *)&shared.images[step % 2][start + b][pixel];
#pragma unroll
                    for (int r = 0; r < UNITS; r++) {
                        float &sum = sums[b * UNITS + r];
                        sum = __fmaf_rn(w1[r][4 * i], x.x, sum), sum = __fmaf_rn(w1[r][4 * i + 1], x.y, sum);
                        sum = __fmaf_rn(w1[r][4 * i + 2], x.z, sum), sum = __fmaf_rn(w1[r][4 * i + 3], x.w, sum);
                    }
                }
            }
            float sum = sum_over_lanes<N>(sums);
            int of = lane / (32 / N), at = start * UNITS + of;
            if (lane % (32 / N) == 0 && of < GROUP * UNITS && at < BATCH * UNITS) shared.sums[warp][at] = sum;
        }
        __syncthreads();
        for (int at = thread; at < BATCH * UNITS; at += THREADS) {
            float sum = 0;
            for (int w = 0; w < WARPS; w++) sum += shared.sums[w][at];
            send(task.sent + at / UNITS * WIDE + first + at % UNITS, relu(sum), step + 1);
        }
    }

    // Receive h1, compute and send h2 of this block's units; a warp for an image.
    __device__ __forceinline__ void second_layer(int step) {
        constexpr int N = power_of_two(UNITS);
        for (int b = warp; b < BATCH; b += WARPS) {
            float h1[OWN], sums[N] = {};
            receive(task.sent + b * WIDE, step + 1, h1);
            keep(shared.h1[b], h1);
            products<UNITS>(shared.rows, h1, sums);
            float sum = sum_over_lanes<N>(sums);
            int r = lane / (32 / N);
            if (lane % (32 / N) == 0)
                send(task.sent + (BATCH + b) * WIDE + first + r, relu(sum + shared.rows[r][WIDE]), step + 1);
        }
    }

    // Receive h2, compute scores, loss and the gradient down to this block's units of h1; a warp for an image.
    __device__ __forceinline__ void head(int step) {
        constexpr int N = power_of_two(CLASSES), OF_UNITS = power_of_two(UNITS);
        int present = min(BATCH, task.count - step * BATCH);
        for (int b = warp; b < BATCH; b += WARPS) {
            int label = b < present ? (int)task.labels[step * BATCH + b] : 0;
            float h2[OWN], d2[OWN] = {}, sums[N] = {}, of_units[OF_UNITS] = {};
            receive(task.sent + (BATCH + b) * WIDE, step + 1, h2);
            keep(shared.h2[b], h2);
            products<CLASSES>(shared.output, h2, sums);
            float z = sum_over_lanes<N>(sums), loss;
            int c = lane / (32 / N);
            z = c < CLASSES ? z + shared.output[c][WIDE] : -__int_as_float(0x7f800000);
            float dz = gradient<N>(z, c, label, 1.0f / present, loss);
            if (lane % (32 / N) == 0 && c < OUT) shared.dz[b][c] = b < present && c < CLASSES ? dz : 0.0f;
            if (c == label && lane % (32 / N) == 0) shared.losses[b] = b < present ? loss : 0.0f;
            __syncwarp();
            for (int c = 0; c < CLASSES; c++) {
                float of_class = shared.dz[b][c];
                each_unit([&](int i, int unit) {
                    d2[i] = __fmaf_rn(of_class, shared.output[c][unit], d2[i]);
                });
            }
#pragma unroll
            for (int i = 0; i < OWN; i++) d2[i] = h2[i] > 0 ? d2[i] : 0.0f;
            keep(shared.d2[b], d2);
            products<UNITS>(shared.columns, d2, of_units);
            float d1 = sum_over_lanes<OF_UNITS>(of_units);
            int r = lane / (32 / OF_UNITS);
            if (lane % (32 / OF_UNITS) == 0) shared.d1[b][r] = shared.h1[b][first + r] > 0 ? d1 : 0.0f;
        }
    }

    // Return the gradient with respect to z, of which this lane has class c.
    template <int N>
    __device__ __forceinline__ float gradient(float z, int c, int label, float share, float &loss) {
        float below = z - largest<N>(z), e = expf(below), sum = total<N>(e), y = c == label;
        if (!SQUASHES) {
            loss = logf(sum) - below;
            return (e / sum - y) * share;
        }
        float s = e / sum, top = largest<N>(s);
        float of_s = c < CLASSES ? expf(s - top) : 0.0f, sum_of_s = total<N>(of_s);
        loss = logf(sum_of_s) - (s - top);
        float ds = c < CLASSES ? (of_s / sum_of_s - y) * share : 0.0f;
        return s * (ds - total<N>(ds * s));
    }

    template <class With> __device__ __forceinline__ void each_unit(With with) {
#pragma unroll
        for (int i = 0; i < OWN; i++) with(i, 32 * (i / 4 * 4) + 4 * lane + i % 4);
    }

    __device__ __forceinline__ void keep(float *row, float (&values)[OWN]) {
        each_unit([&](int i, int unit) { row[unit] = values[i]; });
    }

    template <int ROWS, int STRIDE, int N>
    __device__ __forceinline__ void products(float (&rows)[ROWS][STRIDE], float (&values)[OWN], float (&sums)[N]) {
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            each_unit([&](int i, int unit) { sums[r] = __fmaf_rn(values[i], rows[r][unit], sums[r]); });
    }

    __device__ __forceinline__ void train() {
        load();
        __syncthreads();
        fetch(0);
        first_layer(0);
        for (int step = 0; step < steps; step++) {
            fetch(step + 1);
            if (step) step_second(step - 1);
            __syncthreads();
            second_layer(step);
            if (step) step_output(step - 1);
            __syncthreads();
            head(step);
            __syncthreads();
            if (blockIdx.x == 0 && thread == THREADS - 1) {
                float sum = 0;
                for (int b = 0; b < BATCH; b++) sum += shared.losses[b];
                task.losses[step] = sum / min(BATCH, task.count - step * BATCH);
            }
            step_first(step);
            if (step + 1 < steps) first_layer(step + 1);
        }
        step_second(steps - 1);
        step_output(steps - 1);
        __syncthreads();
        store();
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) train(const __grid_constant__ Task task) {
    extern __shared__ float4 room[];
    Block{{task, *(Shared *)room}}.train();
}
