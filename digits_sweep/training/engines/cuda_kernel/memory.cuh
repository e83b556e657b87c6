// What a block computes with: the sizes of everything, what the host hands over, and the memory that a block shares.

__device__ constexpr int min_of(int one, int other) { return one < other ? one : other; }

constexpr int WARPS = THREADS / 32;
// Floats in an image's row: its pixels, the 1, and zeros up to a multiple of 16 bytes.
constexpr int ROW = (INPUTS + 4) / 4 * 4;
// Units up to a multiple of four for every lane of a warp; beyond it is the 1.
constexpr int WIDE = (HIDDEN + 127) / 128 * 128, LONG = WIDE + 4;
constexpr int BLOCKS = (HIDDEN + UNITS - 1) / UNITS, SENT = BLOCKS * UNITS;
constexpr int OUT = (CLASSES + 3) / 4 * 4;
// Units of a lane; fours of pixels of a thread; elements of W2's rows, W2's columns and W3 of a thread.
constexpr int OWN = WIDE / 32;
constexpr int FOURS = (ROW / 4 + THREADS - 1) / THREADS;
constexpr int OF_ROWS = (UNITS * LONG + THREADS - 1) / THREADS;
constexpr int OF_COLUMNS = (UNITS * WIDE + THREADS - 1) / THREADS;
constexpr int OF_OUTPUT = (CLASSES * LONG + THREADS - 1) / THREADS;
// Images whose products with W1 are summed at a time.
constexpr int GROUP = min_of(BATCH, min_of(8, 32 / UNITS));

__device__ constexpr int power_of_two(int least) { return least <= 1 ? 1 : 2 * power_of_two((least + 1) / 2); }

struct Layer {
    float *weight, *bias, *weight_mean, *bias_mean, *weight_square, *bias_square;
};

struct Task {
    Layer layers[3];
    const float *images;        // (n, ROW)
    const long long *labels;    // (count), in the order
    const long long *order;     // (count)
    const float4 *rates;        // of every step: what the root is multiplied by, what is added, what shrinks a weight
    float *losses;              // of every step
    unsigned long long *sent;   // (2, BATCH, WIDE), zero
    int count;
    float decay, one_minus_beta1, beta2, one_minus_beta2;
};

struct Shared {
    float images[2][BATCH][ROW];
    float h1[BATCH][LONG], h2[BATCH][LONG], d2[BATCH][WIDE], dz[BATCH][OUT], d1[BATCH][UNITS];
    float rows[UNITS][LONG], columns[UNITS][WIDE], output[CLASSES][LONG];
    float sums[WARPS][BATCH * UNITS], losses[BATCH];
};
static_assert(sizeof(Shared) == SHARED_BYTES, "Layout in __init__.py counts it too");
