// The weights of a block, what they are loaded from and stored to, and their steps.

struct Weights {
    const Task &task;
    Shared &shared;
    const int thread = threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32, first = blockIdx.x * UNITS;
    // This thread's pixels of W1's rows, and its moments of the others, whose weights are in shared memory.
    float w1[UNITS][4 * FOURS], mean1[UNITS][4 * FOURS], square1[UNITS][4 * FOURS];
    float mean_rows[OF_ROWS], square_rows[OF_ROWS], mean_columns[OF_COLUMNS], square_columns[OF_COLUMNS];
    float mean_output[OF_OUTPUT], square_output[OF_OUTPUT];

    // Call `with` for every weight of this thread: layer, unit, input (that of a bias is `inputs`), where it is, where
    // its moments are.
    template <class With> __device__ __forceinline__ void weights(With with) {
#pragma unroll
        for (int r = 0; r < UNITS; r++)
#pragma unroll
            for (int i = 0; i < 4 * FOURS; i++) {
                int pixel = 4 * (thread + i / 4 * THREADS) + i % 4;
                with(task.layers[0], first + r, pixel, HIDDEN, INPUTS, INPUTS, true, w1[r][i], mean1[r][i],
                     square1[r][i]);
            }
#pragma unroll
        for (int i = 0; i < OF_ROWS; i++) {
            int at = thread + i * THREADS, r = at / LONG, unit = at % LONG;
            if (r < UNITS)
                with(task.layers[1], first + r, unit, HIDDEN, HIDDEN, WIDE, true, shared.rows[r][unit], mean_rows[i],
                     square_rows[i]);
        }
#pragma unroll
        for (int i = 0; i < OF_COLUMNS; i++) {
            int at = thread + i * THREADS, r = at / WIDE, unit = at % WIDE;
            // A column's units are rows of W2; no input is a bias.
            if (r < UNITS)
                with(task.layers[1], unit, first + r, HIDDEN, HIDDEN, -1, false, shared.columns[r][unit],
                     mean_columns[i], square_columns[i]);
        }
#pragma unroll
        for (int i = 0; i < OF_OUTPUT; i++) {
            int at = thread + i * THREADS, c = at / LONG, unit = at % LONG;
            if (c < CLASSES)
                with(task.layers[2], c, unit, CLASSES, HIDDEN, WIDE, blockIdx.x == 0, shared.output[c][unit],
                     mean_output[i], square_output[i]);
        }
    }

    __device__ __forceinline__ void load() {
        weights([](const Layer &of, int unit, int input, int units, int inputs, int bias, bool, float &weight,
                   float &mean, float &square) {
            weight = mean = square = 0;
            if (unit < units && input < inputs) {
                int at = unit * inputs + input;
                weight = of.weight[at], mean = of.weight_mean[at], square = of.weight_square[at];
            } else if (unit < units && input == bias) {
                weight = of.bias[unit], mean = of.bias_mean[unit], square = of.bias_square[unit];
            }
        });
        for (int at = thread; at < BATCH * LONG; at += THREADS)
            shared.h1[at / LONG][at % LONG] = shared.h2[at / LONG][at % LONG] = at % LONG == WIDE;
    }

    __device__ __forceinline__ void store() {
        weights([](const Layer &of, int unit, int input, int units, int inputs, int bias, bool mine, float &weight,
                   float &mean, float &square) {
            if (mine && unit < units && input < inputs) {
                int at = unit * inputs + input;
                of.weight[at] = weight, of.weight_mean[at] = mean, of.weight_square[at] = square;
            } else if (mine && unit < units && input == bias) {
                of.bias[unit] = weight, of.bias_mean[unit] = mean, of.bias_square[unit] = square;
            }
        });
    }

    __device__ __forceinline__ void step_first(int step) {
        float4 rate = task.rates[step];
        float gradients[UNITS][4 * FOURS] = {};
#pragma unroll
        for (int i = 0; i < FOURS; i++) {
            int pixel = 4 * (thread + i * THREADS);
            if (pixel >= ROW) continue;
            for (int b = 0; b < BATCH; b++) {
                float4 x = *(const float4 *)&shared.images[step % 2][b][pixel];
#pragma unroll
                for (int r = 0; r < UNITS; r++) {
                    float d1 = shared.d1[b][r], *to = &gradients[r][4 * i];
                    to[0] = __fmaf_rn(d1, x.x, to[0]), to[1] = __fmaf_rn(d1, x.y, to[1]);
                    to[2] = __fmaf_rn(d1, x.z, to[2]), to[3] = __fmaf_rn(d1, x.w, to[3]);
                }
            }
#pragma unroll
            for (int r = 0; r < UNITS; r++)
#pragma unroll
                for (int e = 4 * i; e < 4 * i + 4; e++)
                    w1[r][e] = stepped(task, rate, w1[r][e], gradients[r][e], mean1[r][e], square1[r][e]);
        }
    }

    __device__ __forceinline__ void step_second(int step) {
        float4 rate = task.rates[step];
#pragma unroll
        for (int i = 0; i < OF_ROWS; i++) {
            int at = thread + i * THREADS, r = at / LONG, unit = at % LONG;
            if (r >= UNITS) continue;
            float sum = 0;
            for (int b = 0; b < BATCH; b++) sum = __fmaf_rn(shared.d2[b][first + r], shared.h1[b][unit], sum);
            shared.rows[r][unit] = stepped(task, rate, shared.rows[r][unit], sum, mean_rows[i], square_rows[i]);
        }
#pragma unroll
        for (int i = 0; i < OF_COLUMNS; i++) {
            int at = thread + i * THREADS, r = at / WIDE, unit = at % WIDE;
            if (r >= UNITS) continue;
            float sum = 0, &weight = shared.columns[r][unit];
            for (int b = 0; b < BATCH; b++) sum = __fmaf_rn(shared.d2[b][unit], shared.h1[b][first + r], sum);
            weight = stepped(task, rate, weight, sum, mean_columns[i], square_columns[i]);
        }
    }

    __device__ __forceinline__ void step_output(int step) {
        float4 rate = task.rates[step];
#pragma unroll
        for (int i = 0; i < OF_OUTPUT; i++) {
            int at = thread + i * THREADS, c = at / LONG, unit = at % LONG;
            if (c >= CLASSES) continue;
            float sum = 0, &weight = shared.output[c][unit];
            for (int b = 0; b < BATCH; b++) sum = __fmaf_rn(shared.dz[b][c], shared.h2[b][unit], sum);
            weight = stepped(task, rate, weight, sum, mean_output[i], square_output[i]);
        }
    }
};
