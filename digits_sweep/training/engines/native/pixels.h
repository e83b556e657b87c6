/* The first layer when most pixels are 0: one pass over its weights that skips them. */

/* Of every pixel, the images of a chunk in which it is not 0: image + 256 * level. */
struct lists {
    uint16_t *entries, **ends; /* a pixel's list starts at entries + pixel * (most + 1) */
};

INLINE void list_pixels(const int count, const uint8_t *images, int64_t inputs, const int64_t *order, int64_t size, uint16_t **ends) {
    uint16_t *end[8];
    EACH(k, count) end[k] = ends[k];
    for (int64_t b = 0; b < size; b++) {
        const uint8_t *pixels = images + order[b] * inputs;
        uint64_t any = 0;
        __builtin_memcpy(&any, pixels, count);
        /* Without a branch for each pixel, because the processor would guess it wrong. */
        if (any) EACH(k, count) {
            int level = pixels[k];
            *end[k] = b | level << 8;
            end[k] += level != 0;
        }
    }
    EACH(k, count) ends[k] = end[k];
}

/* List pixels [from, to) of the images at `order`. */
static void list_images(const struct lists lists, const uint8_t *images, int64_t inputs, const int64_t *order, int64_t size, int64_t most, int64_t from, int64_t to) {
    for (int64_t b = 0; b < size; b++)
        for (int64_t p = from; p < to + 63; p += 64) __builtin_prefetch(images + order[b] * inputs + p);
    for (int64_t p = from; p < to; p++) lists.ends[p] = lists.entries + p * (most + 1);
    int64_t p = from;
    for (; p + 8 <= to; p += 8) list_pixels(8, images + p, inputs, order, size, lists.ends + p);
    for (; p < to; p++) list_pixels(1, images + p, inputs, order, size, lists.ends + p);
}

INLINE void pixel_columns(const int columns, const struct step step, const struct layer layer, const float *levels, int64_t most, struct lists now, int64_t images, struct lists next, int64_t next_images, struct rows out) {
    vec g[8];
    int64_t bias = layer.inputs * layer.width;
    EACH(v, columns) g[v] = (vec){0};
    for (int64_t b = 0; b < images; b++) EACH(v, columns) g[v] += AT(layer.delta.at, b * layer.delta.stride + v * LANES);
    if (images) apply(columns, step, layer, bias, g); else EACH(v, columns) g[v] = AT(layer.weights, bias + v * LANES);
    for (int64_t b = 0; b < next_images; b++) EACH(v, columns) AT(out.at, b * out.stride + v * LANES) = g[v];
    for (int64_t i = 0; i < layer.inputs; i++) {
        EACH(v, columns) g[v] = (vec){0};
        if (images) {
            for (const uint16_t *entry = now.entries + i * (most + 1); entry < now.ends[i]; entry++) {
                const float *delta = layer.delta.at + (*entry & 255) * layer.delta.stride, level = levels[*entry >> 8];
                EACH(v, columns) g[v] += level * AT(delta, v * LANES);
            }
            apply(columns, step, layer, i * layer.width, g);
        } else EACH(v, columns) g[v] = AT(layer.weights, i * layer.width + v * LANES);
        if (next_images) for (const uint16_t *entry = next.entries + i * (most + 1); entry < next.ends[i]; entry++) {
            float *sum = out.at + (*entry & 255) * out.stride, level = levels[*entry >> 8];
            EACH(v, columns) AT(sum, v * LANES) += level * g[v];
        }
    }
    for (int64_t b = 0; b < next_images; b++) EACH(v, columns) {
        vec x = AT(out.at, b * out.stride + v * LANES);
        AT(out.at, b * out.stride + v * LANES) = if_positive(x, x);
    }
}

static void pixel_pass(const struct step step, struct layer layer, const float *levels, int64_t most, struct lists now, int64_t images, struct lists next, int64_t next_images, struct rows out, int64_t from, int64_t to) {
    struct layer tile = layer;
    int64_t room = 65536 / (2 * 4 * LANES * (images > next_images ? images : next_images));
    for (int64_t c = from; c < to;) {
        int64_t left = (to - c) / LANES;
        struct rows y = {out.at + c, out.stride};
        if (left > room) left = room;
        tile.weights = layer.weights + c, tile.first = layer.first + c, tile.second = layer.second + c;
        tile.gradient = layer.gradient + c, tile.delta.at = layer.delta.at + c;
#define DO(n) { pixel_columns(n, step, tile, levels, most, now, images, next, next_images, y); c += n * LANES; }
        if (left >= 8) DO(8) else if (left >= 4) DO(4) else if (left >= 2) DO(2) else DO(1)
#undef DO
    }
}
