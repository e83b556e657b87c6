/* An MLP trained by the formula, on a CPU. With x the images of a batch (a 1 appended, as to every h, for the bias):

       h_1 = relu(x W_1)     h_k = relu(h_{k-1} W_k)     s = h_n W     p = softmax(s), or s     loss = -log softmax(p)_y

   averaged over the B images. Its gradient with respect to p is (softmax(p) - y) / B, with y one-hot; with respect to s
   it is that, through the softmax if there is one; and then, layer by layer down (Rumelhart, Hinton and Williams 1986),

       d_{k-1} = (d_k W_k') where h_{k-1} > 0, else 0       dW_k = h_{k-1}' d_k

   Five sixths of the weights lie in W_1. One pass over its rows does all that needs them, a group of rows after the
   other, which stays in the cache meanwhile:

        this batch:  the images in which pixel i is not 0, and d_1
              |
              v  sum of pixel times d_1
        row i of W_1 ---> its gradient ---> Adam or SGD ---> new row i of W_1
                                                                   |
                                  sum of pixel times row           v
        next batch:  the pixels of an image that are not 0 ---> its h_1, before the ReLU

   The other layers are small and in the cache. A thread has some hidden units of every layer to itself: the columns of
   the weights into them, for products and for W_1's pass, and the rows of the weights out of them, for d and the step.
   No sum is ever split between threads, so the results are the same bits for any number of them. */

#include <math.h>

#include "vectors.h"
#include "team.h"
#include "layers.h"
#include "pixels.h"

struct task {
    const uint8_t *images;
    const int64_t *labels, *order;
    const float *levels; /* what a pixel's levels 0 to 255 are to the network, and 1 for the bias */
    float *losses;       /* one an iteration */
    const double *shares; /* of the rate, one an iteration */
    int64_t count, batch_size, pixels, hidden, classes, num_layers, threads, most; /* hidden: units and padding */
    int64_t squashes, dense, adam, nesterov, steps_done;
    double rate, beta1, beta2, epsilon, decay, shrinks; /* beta1: SGD's momentum too; shrinks: AdamW's decay */
    struct layer *layers;
    struct rows inputs[2]; /* the images of this chunk and of the next one, if dense */
    struct sparse sparse;  /* if not: all images, and this chunk's by row */
    struct lists lists;
    double *image_losses;
    struct rows scratch; /* a row for every thread */
    float *outputs;      /* of `predict`: a row of `classes` an image */
};

/* Some images of one batch, as many as `most`. */
struct chunk {
    int64_t from, size, batch, iteration;
    int begins, ends;
};

static struct chunk chunk_from(const struct task *task, int64_t from) {
    int64_t iteration = from / task->batch_size, start = iteration * task->batch_size;
    int64_t batch = task->count - start < task->batch_size ? task->count - start : task->batch_size;
    int64_t left = start + batch - from, size = left < task->most ? left : task->most;
    return (struct chunk){from, size, batch, iteration, from == start, size == left};
}

static struct images images_of(const struct task *task, struct chunk chunk) {
    return (struct images){task->order + chunk.from, chunk.size};
}

/* As torch's fused kernels step, with Adam's bias corrections taken out of the square root. */
static struct step step_for(const struct task *task, struct chunk chunk) {
    struct step step = {.adds = !chunk.begins, .steps = chunk.ends, .adam = task->adam, .nesterov = task->nesterov,
                        .decay = task->decay, .keep_first = task->beta1};
    double rate = chunk.size ? task->rate * task->shares[chunk.iteration] : 0;
    step.shrink = rate * task->shrinks;
    step.rate = rate;
    if (task->adam) {
        double number = task->steps_done + chunk.iteration + 1, root = sqrt(1 - pow(task->beta2, number));
        step.add_first = 1 - task->beta1;
        step.add_second = 1 - task->beta2;
        step.rate = rate / (1 - pow(task->beta1, number)) * root;
        step.epsilon = task->epsilon * root;
    }
    return step;
}

/* Return log(sum(exp(x))), and leave softmax(x) in p, which may be x. */
static double softmax(const float *x, float *p, int64_t classes) {
    float largest = x[0];
    double sum = 0;
    for (int64_t k = 1; k < classes; k++) largest = x[k] <= largest ? largest : x[k];
    for (int64_t k = 0; k < classes; k++) sum += p[k] = expf(x[k] - largest);
    for (int64_t k = 0; k < classes; k++) p[k] /= (float)sum;
    return largest + log(sum);
}

/* Return an image's loss, and leave in its scores s the gradient with respect to them; p has room for as many. */
static double head(const struct task *task, float *s, float *p, int64_t label, int64_t batch) {
    if (task->squashes) softmax(s, p, task->classes);
    const float *x = task->squashes ? p : s;
    double of_label = x[label], loss = softmax(x, s, task->classes) - of_label, sum = 0;
    for (int64_t k = 0; k < task->classes; k++) s[k] = (s[k] - (k == label)) / batch;
    if (!task->squashes) return loss;
    for (int64_t k = 0; k < task->classes; k++) sum += p[k] * s[k];
    for (int64_t k = 0; k < task->classes; k++) s[k] = p[k] * (s[k] - (float)sum);
    return loss;
}

/* Bring in the next chunk's images, each member its share of the pixels. */
static void read_images(const struct task *task, struct team *team, int me, struct chunk next, struct rows in) {
    const int64_t *order = task->order + next.from;
    int64_t from = share(team, task->pixels, 64, me), to = share(team, task->pixels, 64, me + 1);
    for (int64_t b = 0; b < next.size; b++) for (int64_t p = from; p < to; p++)
        in.at[b * in.stride + p] = task->levels[task->images[order[b] * task->pixels + p]];
}

/* List the pixels of this chunk's images by row, each member its share of the groups; and ask for the next chunk's. */
static void list_images(const struct task *task, struct team *team, int me, struct chunk now, struct chunk next) {
    struct sparse sparse = task->sparse;
    int64_t from = share(team, sparse.groups, 1, me), to = share(team, sparse.groups, 1, me + 1);
    prefetch(sparse, images_of(task, next));
    list_rows(task->lists, sparse, images_of(task, now), task->pixels + 1, from, to);
}

/* Leave the scores of images [image, end) of a chunk, whose h_1 is there, in the last layer's delta. */
static void score(const struct task *task, struct team *team, int64_t size, int64_t image, int64_t end, int64_t from,
                  int64_t to) {
    struct layer *last = task->layers + task->num_layers - 1;
    for (struct layer *l = task->layers + 1; l < last; l++) {
        multiply(*l, l->values, l[1].values, l[1].values, 0, size, from, to);
        meet(team);
    }
    multiply(*last, last->values, last->delta, (struct rows){0}, image, end, 0, last->width);
}

/* All of a step but the first layer, whose outputs h_1 are there. Returns the sum of the losses to member 0. */
static double learn(const struct task *task, struct team *team, int me, struct chunk chunk, struct step step,
                    int64_t from, int64_t to) {
    struct layer *first = task->layers, *last = first + task->num_layers - 1;
    float *scratch = task->scratch.at + me * task->scratch.stride;
    double loss = 0;
    int64_t image = share(team, chunk.size, 1, me), end = share(team, chunk.size, 1, me + 1);
    score(task, team, chunk.size, image, end, from, to);
    for (int64_t b = image; b < end; b++)
        task->image_losses[b] = head(task, last->delta.at + b * last->delta.stride, scratch,
                                     task->labels[task->order[chunk.from + b]], chunk.batch);
    for (struct layer *l = last; l > first; l--) {
        meet(team);
        transpose(*l, from, to);
        struct layer back = {.inputs = l->width, .width = l->height, .weights = l->transposed};
        multiply(back, l->delta, l[-1].delta, l->values, 0, chunk.size, from, to);
    }
    for (struct layer *l = last; l > first; l--)
        update(step, *l, chunk.size, from, me == team->threads - 1 ? l->inputs : to, 0, l->width);
    if (!me) for (int64_t b = 0; b < chunk.size; b++) loss += task->image_losses[b];
    return loss;
}

static void work(const void *argument, struct team *team, int me) {
    const struct task *task = argument;
    int64_t from = share(team, task->hidden, LANES, me), to = share(team, task->hidden, LANES, me + 1);
    struct chunk now = {0}, next = chunk_from(task, 0);
    struct rows h_1 = task->layers[1].values;
    double loss = 0;
    for (int side = 0; now.size || next.size; side = !side, now = next, next = chunk_from(task, now.from + now.size)) {
        struct step step = step_for(task, now);
        meet(team);
        if (task->dense) read_images(task, team, me, next, task->inputs[side]);
        else list_images(task, team, me, now, next);
        if (now.size) loss += learn(task, team, me, now, step, from, to);
        else meet(team);
        if (!me && now.size && now.ends) {
            task->losses[now.iteration] = loss / now.batch;
            loss = 0;
        }
        if (task->dense) {
            struct layer first = task->layers[0];
            first.values = task->inputs[!side];
            if (now.size) update(step, first, now.size, 0, first.inputs, from, to);
            first.values = task->inputs[side];
            multiply(first, first.values, h_1, h_1, 0, next.size, from, to);
        } else pass(now.size > 0, step, task->layers[0], task->levels, task->lists, task->sparse, images_of(task, next),
                    h_1, from, to);
    }
}

/* Only what comes out for sparse images: forward, as in training, with the weights as they are. */
static void work_forward(const void *argument, struct team *team, int me) {
    const struct task *task = argument;
    const struct layer *last = task->layers + task->num_layers - 1;
    int64_t from = share(team, task->hidden, LANES, me), to = share(team, task->hidden, LANES, me + 1);
    for (struct chunk now = chunk_from(task, 0); now.size; now = chunk_from(task, now.from + now.size)) {
        int64_t image = share(team, now.size, 1, me), end = share(team, now.size, 1, me + 1);
        pass(0, (struct step){0}, task->layers[0], task->levels, task->lists, task->sparse, images_of(task, now),
             task->layers[1].values, from, to);
        meet(team);
        score(task, team, now.size, image, end, from, to);
        for (int64_t b = image; b < end; b++) {
            const float *scores = last->delta.at + b * last->delta.stride;
            float *out = task->outputs + (now.from + b) * task->classes;
            for (int64_t k = 0; k < task->classes; k++) out[k] = scores[k];
            if (task->squashes) softmax(out, out, task->classes);
        }
        meet(team);
    }
}

/* What a caller must know to lay out the weights. */
int64_t lanes(void) { return LANES; }

void train(const struct task *task) { work_together(task->threads, work, task); }

void predict(const struct task *task) { work_together(task->threads, work_forward, task); }
