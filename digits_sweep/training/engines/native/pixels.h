/* The first layer if most pixels are 0: one pass over its weights that skips the zeros. */

/* What the gradients and sums of a chunk may take of the nearest cache at a time, in bytes. */
#define NEAR 65536

/* For every pixel, the images of a chunk in which it is not 0: image + 128 * level, from entries + room * pixel on.
   The bias is one more pixel, at level 256 in all images. */
struct lists {
    uint16_t *entries, **ends;
    int64_t room;
};

INLINE void list_pixels(int count, const uint8_t *images, int64_t pixels, const int64_t *order, int64_t size,
                        uint16_t **ends) {
    uint16_t *end[8];
    EACH(k, count) end[k] = ends[k];
    for (int64_t b = 0; b < size; b++) {
        const uint8_t *levels = images + order[b] * pixels;
        uint64_t any = 0;
        __builtin_memcpy(&any, levels, count);
        /* No branch for each pixel: the processor could not guess it. What is written for a 0 is written over. */
        if (any) EACH(k, count) {
            int level = levels[k];
            *end[k] = b | level << 7;
            end[k] += level != 0;
        }
    }
    EACH(k, count) ends[k] = end[k];
}

/* List pixels [from, to) of the `size` images at `order`. */
static void list_images(struct lists lists, const uint8_t *images, int64_t pixels, const int64_t *order, int64_t size,
                        int64_t from, int64_t to) {
    for (int64_t b = 0; b < size; b++)
        for (int64_t p = from; p < to; p += 64) __builtin_prefetch(images + order[b] * pixels + p);
    int64_t p = from;
    for (int64_t k = from; k < to; k++) lists.ends[k] = lists.entries + k * lists.room;
    for (; p + 8 <= to; p += 8) list_pixels(8, images + p, pixels, order, size, lists.ends + p);
    for (; p < to; p++) list_pixels(1, images + p, pixels, order, size, lists.ends + p);
    if (to == pixels) lists.ends[pixels] = lists.entries + pixels * lists.room + size;
}

INLINE void pass_columns(int columns, struct step step, struct layer layer, const float *levels, struct lists now,
                         int64_t images, struct lists next, int64_t next_images, struct rows out) {
    vec g[8];
    for (int64_t b = 0; b < next_images; b++) EACH(v, columns) AT(out.at, b * out.stride + v * LANES) = (vec){0};
    for (int64_t i = 0; i < layer.inputs; i++) {
        EACH(v, columns) g[v] = images ? (vec){0} : AT(layer.weights, i * layer.width + v * LANES);
        if (images) {
            for (const uint16_t *entry = now.entries + i * now.room, *end = now.ends[i]; entry < end; entry++) {
                const float *delta = layer.delta.at + (*entry & 127) * layer.delta.stride, level = levels[*entry >> 7];
                EACH(v, columns) g[v] += level * AT(delta, v * LANES);
            }
            apply(columns, step, layer, i * layer.width, g);
        }
        if (next_images)
            for (const uint16_t *entry = next.entries + i * next.room, *end = next.ends[i]; entry < end; entry++) {
                float *sum = out.at + (*entry & 127) * out.stride, level = levels[*entry >> 7];
                EACH(v, columns) AT(sum, v * LANES) += level * g[v];
            }
    }
    for (int64_t b = 0; b < next_images; b++) EACH(v, columns) {
        vec sum = AT(out.at, b * out.stride + v * LANES);
        AT(out.at, b * out.stride + v * LANES) = if_positive(sum, sum);
    }
}

/* Step columns [from, to) of the weights on the images in `now`, and compute in `out` what goes out for those in `next`
   with the new weights. Either may be empty. */
static void pass(struct step step, struct layer layer, const float *levels, struct lists now, int64_t images,
                 struct lists next, int64_t next_images, struct rows out, int64_t from, int64_t to) {
    const struct layer whole = layer;
    int64_t most = NEAR / (2 * sizeof(vec) * now.room);
    for (int64_t columns, c = from; c < to; c += columns * LANES) {
        int64_t left = (to - c) / LANES < most ? (to - c) / LANES : most;
        struct rows y = {out.at + c, out.stride};
        layer.weights = whole.weights + c, layer.first = whole.first + c, layer.second = whole.second + c;
        layer.gradient = whole.gradient + c, layer.delta.at = whole.delta.at + c;
        columns = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
#define PASS(columns) pass_columns(columns, step, layer, levels, now, images, next, next_images, y); break;
        switch (columns) { case 8: PASS(8) case 4: PASS(4) case 2: PASS(2) default: PASS(1) }
    }
}
