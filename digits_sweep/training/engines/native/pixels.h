/* The first layer if most pixels are 0: one pass over its weights that skips the zeros. */

/* So many rows of the weights are stepped, and then multiplied, at a time. There are 7 bits for one of them. */
#define GROUP 128
/* What a chunk's gradients of h_1 may take of the cache at a time, in bytes. */
#define NEAR 65536

/* The pixels that are not 0, and a last one for the bias, at level 256. Those of image n in the group's rows of the
   weights lie from entries + starts[n * groups + group] up to where the next ones start: row + GROUP * level. */
struct sparse {
    uint16_t *entries;
    int64_t *starts, groups;
};

/* Those of a chunk, row by row: image + GROUP * level, from entries + room * row on. */
struct lists {
    uint16_t *entries, **ends;
    int64_t room;
};

/* Some images: their places among all. */
struct images {
    const int64_t *order;
    int64_t size;
};

/* Fill `sparse` with `count` images; there is room for as many entries as there are. */
void list_pixels(struct sparse sparse, const uint8_t *levels, int64_t count, int64_t pixels) {
    uint16_t *end = sparse.entries;
    int64_t *start = sparse.starts;
    for (; count; count--, levels += pixels) {
        for (int64_t p = 0; p < pixels; p++) {
            if (p % GROUP == 0) *start++ = end - sparse.entries;
            if (levels[p]) *end++ = p % GROUP | levels[p] * GROUP;
        }
        if (pixels % GROUP == 0) *start++ = end - sparse.entries;
        *end++ = pixels % GROUP | 256 * GROUP;
    }
    *start = end - sparse.entries;
}

/* Ask for images, which lie anywhere in memory. Inline: a compiler may leave out a call that changes nothing. */
INLINE void prefetch(struct sparse sparse, struct images images) {
    for (int64_t b = 0; b < images.size; b++) {
        const int64_t *start = sparse.starts + images.order[b] * sparse.groups;
        for (int64_t k = start[0]; k < start[sparse.groups]; k += 32) __builtin_prefetch(sparse.entries + k);
    }
}

/* List images in the rows of groups [from, to). */
INLINE void list_rows(struct lists lists, struct sparse sparse, struct images images, int64_t rows, int64_t from,
                      int64_t to) {
    for (int64_t i = from * GROUP; i < to * GROUP && i < rows; i++) lists.ends[i] = lists.entries + i * lists.room;
    for (int64_t b = 0; b < images.size; b++) for (int64_t group = from; group < to; group++) {
        const int64_t *start = sparse.starts + images.order[b] * sparse.groups + group;
        uint16_t **ends = lists.ends + group * GROUP;
        for (int64_t k = start[0]; k < start[1]; k++)
            *ends[sparse.entries[k] % GROUP]++ = b | (sparse.entries[k] & -GROUP);
    }
}

/* Step rows [top, bottom) of the weights. */
INLINE void step_rows(int columns, struct step step, struct layer layer, const float *levels, struct lists lists,
                      int64_t top, int64_t bottom) {
    for (int64_t i = top; i < bottom; i++) {
        vec g[8];
        EACH(v, columns) g[v] = (vec){0};
        for (const uint16_t *entry = lists.entries + i * lists.room, *end = lists.ends[i]; entry < end; entry++) {
            const float *delta = layer.delta.at + *entry % GROUP * layer.delta.stride, level = levels[*entry / GROUP];
            EACH(v, columns) g[v] += level * AT(delta, v * LANES);
        }
        apply(columns, step, layer, i * layer.width, g);
    }
}

/* Add to `out` the products of images with a group's rows of the weights. */
INLINE void add_products(int columns, struct layer layer, const float *levels, struct sparse sparse,
                         struct images images, int64_t group, struct rows out) {
    const float *weights = layer.weights + group * GROUP * layer.width;
    for (int64_t b = 0; b < images.size; b++) {
        vec sum[8];
        const int64_t *start = sparse.starts + images.order[b] * sparse.groups + group;
        const uint16_t *end = sparse.entries + start[1];
        EACH(v, columns) sum[v] = group ? AT(out.at, b * out.stride + v * LANES) : (vec){0};
        for (const uint16_t *entry = sparse.entries + start[0]; entry < end; entry++) {
            const float *row = weights + *entry % GROUP * layer.width, level = levels[*entry / GROUP];
            EACH(v, columns) sum[v] += level * AT(row, v * LANES);
        }
        EACH(v, columns) AT(out.at, b * out.stride + v * LANES) =
            group < sparse.groups - 1 ? sum[v] : if_positive(sum[v], sum[v]);
    }
}

/* Step columns [from, to) of the weights on the images in `lists`, if `learns`, and compute in `out` what goes out for
   the `next` ones with the new weights. */
static void pass(int learns, struct step step, struct layer layer, const float *levels, struct lists lists,
                 struct sparse sparse, struct images next, struct rows out, int64_t from, int64_t to) {
    const struct layer whole = layer;
    int64_t most = NEAR / (sizeof(vec) * lists.room);
    for (int64_t columns, c = from; c < to; c += columns * LANES) {
        int64_t left = (to - c) / LANES < most ? (to - c) / LANES : most;
        struct rows y = {out.at + c, out.stride};
        layer.weights = whole.weights + c, layer.first = whole.first + c, layer.second = whole.second + c;
        layer.gradient = whole.gradient + c, layer.delta.at = whole.delta.at + c;
        columns = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        for (int64_t group = 0; group < sparse.groups; group++) {
            int64_t top = group * GROUP, bottom = top + GROUP < layer.inputs ? top + GROUP : layer.inputs;
#define PASS(columns) \
            if (learns) step_rows(columns, step, layer, levels, lists, top, bottom); \
            add_products(columns, layer, levels, sparse, next, group, y); break;
            switch (columns) { case 8: PASS(8) case 4: PASS(4) case 2: PASS(2) default: PASS(1) }
        }
    }
}
