/* One Linear layer: its products, and the step of its weights. */

/* So many images, or rows of weights, times so many vectors of columns are computed at a time, in registers. */
#define TILE 5
#define COLUMNS 2

struct rows {
    float *at;
    int64_t stride;
};

struct layer {
    int64_t inputs, width, height; /* the weights' rows, the last of which is the bias, and columns; both padded */
    float *weights, *transposed; /* room for their columns, each in `height` places; none of the first layer's */
    float *first, *second, *gradient;
    struct rows values, delta; /* by image: what comes in, with a 1 at the end; the loss's gradient by what goes out */
};

/* One iteration's step. Of a batch in several chunks, only the last one `steps`; all but the first `add`. */
struct step {
    int adds, steps, adam, nesterov;
    float decay, shrink, keep_first, add_first, add_second, rate, epsilon;
};

/* Step `columns` vectors of weights, from index `at` on, by their gradient g.
   Every sum has one product in it: so it is rounded alike wherever the compiler makes one instruction of the two. */
INLINE void apply(int columns, struct step s, struct layer layer, int64_t at, vec *g) {
    float *w = layer.weights + at, *first = layer.first + at, *second = layer.second + at;
    if (s.adds) EACH(v, columns) g[v] += AT(layer.gradient + at, v * LANES);
    if (!s.steps) EACH(v, columns) AT(layer.gradient + at, v * LANES) = g[v];
    else if (s.adam) EACH(v, columns) {
        vec slope = g[v] + s.decay * AT(w, v * LANES), m = AT(first, v * LANES), u = AT(second, v * LANES);
        m += s.add_first * (slope - m);
        u += s.add_second * (slope * slope - u);
        AT(first, v * LANES) = m;
        AT(second, v * LANES) = u;
        vec shrunk = AT(w, v * LANES) - s.shrink * AT(w, v * LANES);
        AT(w, v * LANES) = shrunk - s.rate * m / (root(u) + s.epsilon);
    } else EACH(v, columns) {
        vec slope = g[v] + s.decay * AT(w, v * LANES), m = slope + s.keep_first * AT(first, v * LANES);
        AT(first, v * LANES) = m;
        AT(w, v * LANES) -= s.rate * (s.nesterov ? (vec)(slope + s.keep_first * m) : m);
    }
}

/* DO(images or rows, columns) with constants, which tiles need to lie in registers. */
#define TILED(DO, count, wide) \
    if ((count) == TILE) { if (wide) DO(TILE, COLUMNS) else DO(TILE, 1) } else if (wide) DO(1, COLUMNS) else DO(1, 1)

INLINE void multiply_tile(int images, int columns, struct layer layer, struct rows in, struct rows out,
                          struct rows by) {
    vec sum[TILE][COLUMNS];
    EACH(b, images) EACH(v, columns) sum[b][v] = (vec){0};
    for (int64_t i = 0; i < layer.inputs; i++)
        EACH(b, images) EACH(v, columns)
            sum[b][v] += in.at[b * in.stride + i] * AT(layer.weights, i * layer.width + v * LANES);
    EACH(b, images) EACH(v, columns) AT(out.at, b * out.stride + v * LANES) =
        by.at ? if_positive(sum[b][v], by.at == out.at ? sum[b][v] : AT(by.at, b * by.stride + v * LANES)) : sum[b][v];
}

/* Multiply `in`, images [image, end), with columns [from, to) of the weights; set to 0 where `by` is not positive. */
static void multiply(struct layer layer, struct rows in, struct rows out, struct rows by, int64_t image, int64_t end,
                     int64_t from, int64_t to) {
    float *weights = layer.weights;
    for (int64_t wide, c = from; c < to; c += (wide ? COLUMNS : 1) * LANES) {
        wide = to - c >= COLUMNS * LANES;
        layer.weights = weights + c;
        for (int64_t some, b = image; b < end; b += some) {
            struct rows x = {in.at + b * in.stride, in.stride}, y = {out.at + b * out.stride + c, out.stride};
            struct rows z = {by.at ? by.at + b * by.stride + c : 0, by.stride};
            some = end - b < TILE ? 1 : TILE;
#define MULTIPLY(rows, columns) multiply_tile(rows, columns, layer, x, y, z);
            TILED(MULTIPLY, some, wide)
        }
    }
}

/* Write rows [from, to) of the weights, in whole vectors, as columns. */
static void transpose(struct layer layer, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i += LANES) for (int64_t c = 0; c < layer.width; c += LANES) {
        vec square[LANES];
        EACH(r, LANES) square[r] = AT(layer.weights, (i + r) * layer.width + c);
        transpose_square(square);
        EACH(r, LANES) AT(layer.transposed, (c + r) * layer.height + i) = square[r];
    }
}

INLINE void update_tile(int rows, int columns, struct step step, struct layer layer, int64_t images, int64_t at) {
    vec sum[TILE][COLUMNS];
    struct rows in = layer.values, delta = layer.delta;
    EACH(r, rows) EACH(v, columns) sum[r][v] = (vec){0};
    for (int64_t b = 0; b < images; b++)
        EACH(r, rows) EACH(v, columns)
            sum[r][v] += in.at[b * in.stride + r] * AT(delta.at, b * delta.stride + v * LANES);
    EACH(r, rows) apply(columns, step, layer, at + r * layer.width, sum[r]);
}

/* Step rows [top, bottom) of the weights in columns [from, to). */
static void update(struct step step, struct layer layer, int64_t images, int64_t top, int64_t bottom, int64_t from,
                   int64_t to) {
    const struct layer whole = layer;
    for (int64_t some, i = top; i < bottom; i += some) {
        some = bottom - i < TILE ? 1 : TILE;
        layer.values.at = whole.values.at + i;
        for (int64_t wide, c = from; c < to; c += (wide ? COLUMNS : 1) * LANES) {
            wide = to - c >= COLUMNS * LANES;
            layer.delta.at = whole.delta.at + c;
#define UPDATE(rows, columns) update_tile(rows, columns, step, layer, images, i * layer.width + c);
            TILED(UPDATE, some, wide)
        }
    }
}
