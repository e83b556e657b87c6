/* One Linear layer: its products, and the step of its weights. */

/* At a time in registers: so many images, or rows of weights, times so many vectors of columns. */
#define TILE 6
#if LANES == 8 || (defined(__SSE__) && LANES == 4)
#define COLUMNS 2
#else
#define COLUMNS 4
#endif

struct rows {
    float *at;
    int64_t stride;
};

struct layer {
    int64_t inputs, width; /* the rows of its weights, before the bias's; their columns, a multiple of LANES */
    float *weights, *first, *second, *gradient;
    struct rows in, delta; /* by image: what comes in, and the loss's gradient by what goes out */
};

/* The numbers of one iteration's step. Of a batch in several chunks, the first ones only `adds` to the gradient. */
struct step {
    int adds, steps, adam, nesterov;
    float decay, keep_first, add_first, keep_second, add_second, rate, epsilon;
};

/* Step the `columns` vectors of weights from index `at` on by their gradient g, and leave in g what they are then. */
INLINE void apply(const int columns, const struct step s, const struct layer layer, int64_t at, vec *g) {
    if (s.adds) EACH(v, columns) g[v] += AT(layer.gradient, at + v * LANES);
    if (!s.steps) EACH(v, columns) {
        AT(layer.gradient, at + v * LANES) = g[v];
        g[v] = AT(layer.weights, at + v * LANES);
    } else if (s.adam) EACH(v, columns) {
        int64_t k = at + v * LANES;
        vec w = AT(layer.weights, k), slope = g[v] + s.decay * w;
        vec mean = AT(layer.first, k) += s.add_first * (slope - AT(layer.first, k));
        vec square = AT(layer.second, k) += s.add_second * (slope * slope - AT(layer.second, k));
        g[v] = AT(layer.weights, k) = w - s.rate * mean / (root(square) + s.epsilon);
    } else EACH(v, columns) {
        int64_t k = at + v * LANES;
        vec w = AT(layer.weights, k), slope = g[v] + s.decay * w;
        vec speed = AT(layer.first, k) = s.keep_first * AT(layer.first, k) + slope;
        g[v] = AT(layer.weights, k) = w - s.rate * (s.nesterov ? (vec)(slope + s.keep_first * speed) : speed);
    }
}

/* DO(count) with a constant count from 1 to TILE, so that every tile lies in registers. */
#define TILED(count) \
    switch (count) { \
    case 1: DO(1) break; case 2: DO(2) break; case 3: DO(3) break; case 4: DO(4) break; case 5: DO(5) break; \
    default: DO(TILE) \
    }

INLINE void forward_tile(const int images, const int columns, const struct layer layer, struct rows in, struct rows out, int relu) {
    vec sum[TILE][COLUMNS];
    EACH(b, images) EACH(v, columns) sum[b][v] = AT(layer.weights, layer.inputs * layer.width + v * LANES);
    for (int64_t i = 0; i < layer.inputs; i++)
        EACH(b, images) EACH(v, columns)
            sum[b][v] += in.at[b * in.stride + i] * AT(layer.weights, i * layer.width + v * LANES);
    EACH(b, images) EACH(v, columns)
        AT(out.at, b * out.stride + v * LANES) = relu ? if_positive(sum[b][v], sum[b][v]) : sum[b][v];
}

/* Columns [from, to) of what goes out for images [image, end). */
static void forward(struct layer layer, struct rows out, int64_t image, int64_t end, int64_t from, int64_t to, int relu) {
    float *weights = layer.weights;
    for (int64_t wide, c = from; c < to; c += wide * LANES) {
        wide = to - c < COLUMNS * LANES ? 1 : COLUMNS;
        layer.weights = weights + c;
        for (int64_t b = image; b < end; b += TILE) {
            struct rows x = {layer.in.at + b * layer.in.stride, layer.in.stride};
            struct rows y = {out.at + b * out.stride + c, out.stride};
#define DO(n) if (wide > 1) forward_tile(n, COLUMNS, layer, x, y, relu); else forward_tile(n, 1, layer, x, y, relu);
            TILED(end - b)
#undef DO
        }
    }
}

/* Columns [from, to) of `below`, the loss's gradient by what came in before ReLU. `block` has room for `width` vectors. */
static void backward(const struct layer layer, struct rows below, int64_t images, int64_t from, int64_t to, vec *block) {
    for (int64_t i = from; i < to; i += LANES) {
        for (int64_t c = 0; c < layer.width; c += LANES)
            EACH(k, LANES) block[c + k] = AT(layer.weights, (i + k) * layer.width + c);
        for (int64_t b = 0; b < images; b++) {
            vec sum[LANES];
            EACH(k, LANES) sum[k] = (vec){0};
            for (int64_t c = 0; c < layer.width; c += LANES) {
                vec delta = AT(layer.delta.at, b * layer.delta.stride + c);
                EACH(k, LANES) sum[k] += delta * block[c + k];
            }
            AT(below.at, b * below.stride + i) = if_positive(sums(sum), AT(layer.in.at, b * layer.in.stride + i));
        }
    }
}

INLINE void update_tile(const int rows, const int columns, const struct step step, const struct layer layer, struct rows in, int64_t images, int64_t at) {
    vec sum[TILE][COLUMNS];
    EACH(r, rows) EACH(v, columns) sum[r][v] = (vec){0};
    for (int64_t b = 0; b < images; b++)
        EACH(r, rows) EACH(v, columns)
            sum[r][v] += in.at[b * in.stride + r] * AT(layer.delta.at, b * layer.delta.stride + v * LANES);
    EACH(r, rows) apply(columns, step, layer, at + r * layer.width, sum[r]);
}

/* Step rows [top, bottom) of the weights, the last of which is the bias, in columns [from, to). */
static void update(const struct step step, struct layer layer, int64_t images, int64_t top, int64_t bottom, int64_t from, int64_t to) {
    static float one = 1;
    float *delta = layer.delta.at;
    int64_t rows, wide;
    for (int64_t i = top; i < bottom; i += rows) {
        int bias = i == layer.inputs;
        struct rows in = {bias ? &one : layer.in.at + i, bias ? 0 : layer.in.stride};
        rows = (bias ? i + 1 : bottom < layer.inputs ? bottom : layer.inputs) - i;
        if (rows > TILE) rows = TILE;
        for (int64_t c = from; c < to; c += wide * LANES) {
            wide = to - c < COLUMNS * LANES ? 1 : COLUMNS;
            layer.delta.at = delta + c;
#define DO(n) if (wide > 1) update_tile(n, COLUMNS, step, layer, in, images, i * layer.width + c); \
              else update_tile(n, 1, step, layer, in, images, i * layer.width + c);
            TILED(rows)
#undef DO
        }
    }
}
