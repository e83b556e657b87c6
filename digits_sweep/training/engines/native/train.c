#include <math.h>
#include <string.h>
#include "vectors.h"
#include "team.h"
#include "layers.h"
#include "pixels.h"

#define CHUNK 128
#define MOST_LAYERS 64

struct task {
    const uint8_t *images;
    const int64_t *labels, *order;
    const float *levels;
    float *weights, *first, *second, *losses;
    int64_t count, batch_size, inputs, hidden_size, hidden_layers, classes, squashes, dense, adam, nesterov, threads, steps_done;
    double rate, beta1, beta2, epsilon, decay;
};

struct chunk { int64_t from, size, iteration, batch; int begins, ends; };

struct run {
    const struct task *task;
    struct team team;
    int64_t layers, most;
    struct layer layer[MOST_LAYERS + 1];
    struct lists lists[2];
    struct rows images[2];
    double *losses;
};

static double softmax(const float *scores, float *p, int64_t classes) {
    float most = scores[0];
    double sum = 0;
    for (int64_t k = 1; k < classes; k++) if (!(scores[k] <= most)) most = scores[k];
    for (int64_t k = 0; k < classes; k++) sum += p[k] = expf(scores[k] - most);
    for (int64_t k = 0; k < classes; k++) p[k] /= (float)sum;
    return most + log(sum);
}

static double head(const struct task *task, float *scores, float *p, int64_t label, int64_t batch) {
    int64_t n = task->classes;
    double loss;
    float of_label = scores[label];
    if (!task->squashes) {
        loss = softmax(scores, scores, n) - of_label;
        for (int64_t k = 0; k < n; k++) scores[k] = (scores[k] - (k == label)) / batch;
        return loss;
    }
    softmax(scores, p, n);
    loss = softmax(p, scores, n) - p[label];
    double sum = 0;
    for (int64_t k = 0; k < n; k++) sum += p[k] * (scores[k] = (scores[k] - (k == label)) / batch);
    for (int64_t k = 0; k < n; k++) scores[k] = p[k] * (scores[k] - (float)sum);
    return loss;
}

static struct chunk chunk_after(const struct run *run, struct chunk c) {
    const struct task *task = run->task;
    struct chunk n = c;
    n.from = c.from + c.size;
    n.begins = c.ends;
    if (n.begins) { n.iteration++; n.batch = task->count - n.from < task->batch_size ? task->count - n.from : task->batch_size; }
    int64_t done = n.begins ? 0 : n.from - (int64_t)n.iteration * task->batch_size;
    n.size = n.batch - done < run->most ? n.batch - done : run->most;
    n.ends = done + n.size == n.batch;
    return n;
}

static struct step step_of(const struct task *task, struct chunk chunk) {
    struct step s = {.adds = !chunk.begins, .steps = chunk.ends, .adam = task->adam, .nesterov = task->nesterov, .decay = task->decay, .keep_first = task->beta1, .rate = task->rate};
    if (task->adam) {
        double number = task->steps_done + chunk.iteration + 1;
        double first = 1 - pow(task->beta1, number), second = sqrt(1 - pow(task->beta2, number));
        s.add_first = 1 - task->beta1;
        s.keep_second = task->beta2;
        s.add_second = 1 - task->beta2;
        s.rate = task->rate / first * second;
        s.epsilon = task->epsilon * second;
    }
    return s;
}

struct member { struct run *run; int64_t number; pthread_t thread; fenv_t *environment; };

INLINE int64_t share(int64_t of, int64_t number, int64_t threads, int64_t unit) {
    int64_t units = (of + unit - 1) / unit, end = units * number / threads * unit;
    return end < of ? end : of;
}

static void read_images(struct run *run, struct chunk c, int which, int64_t from, int64_t to) {
    const struct task *task = run->task;
    if (!task->dense) list_images(run->lists[which], task->images, task->inputs, task->order + c.from, c.size, run->most, from, to);
    else for (int64_t b = 0; b < c.size; b++) for (int64_t p = from; p < to; p++)
        run->images[which].at[b * run->images[which].stride + p] = task->levels[task->images[task->order[c.from + b] * task->inputs + p]];
}

static void *work(void *argument) {
    struct member *me = argument;
    struct run *run = me->run;
    const struct task *task = run->task;
    int64_t t = me->number, T = run->team.threads, last = run->layers - 1;
    struct layer *layer = run->layer;
    if (t) fesetenv(me->environment);
    int64_t hidden = padded(task->hidden_size);
    int64_t from = share(hidden, t, T, LANES), to = share(hidden, t + 1, T, LANES);
    int64_t pixel = share(task->inputs, t, T, 64), pixel_end = share(task->inputs, t + 1, T, 64);
    int64_t bottom = t == T - 1 ? task->hidden_size + 1 : to < task->hidden_size ? to : task->hidden_size;
    float *p = malloc(task->classes * sizeof *p);
    int64_t widest = padded(task->classes > task->hidden_size ? task->classes : task->hidden_size);
    vec *block = aligned_alloc(64, widest * sizeof *block);
    struct chunk chunk = {.ends = 1, .iteration = -1}, next = chunk_after(run, chunk);
    struct step step = {0};
    double loss = 0;
    for (int which = 1;; which = !which) {
        /* chunk.size 0: nothing but the forward pass of the first */
        if (chunk.size) {
            step = step_of(task, chunk);
            meet(&run->team);
        }
        read_images(run, next, !which, pixel, pixel_end);
        if (!chunk.size) meet(&run->team);
        if (chunk.size) {
            for (int64_t l = 1; l < last; l++) {
                forward(layer[l], layer[l + 1].in, 0, chunk.size, from, to, 1);
                meet(&run->team);
            }
            int64_t image = share(chunk.size, t, T, 1), image_end = share(chunk.size, t + 1, T, 1);
            forward(layer[last], layer[last].delta, image, image_end, 0, layer[last].width, 0);
            for (int64_t b = image; b < image_end; b++)
                run->losses[b] = head(task, layer[last].delta.at + b * layer[last].delta.stride, p, task->labels[task->order[chunk.from + b]], chunk.batch);
            for (int64_t l = last; l > 0; l--) {
                meet(&run->team);
                backward(layer[l], layer[l - 1].delta, chunk.size, from, to, block);
            }
            if (!t) {
                for (int64_t b = 0; b < chunk.size; b++) loss += run->losses[b];
                if (chunk.ends) { task->losses[chunk.iteration] = loss / chunk.batch; loss = 0; }
            }
            for (int64_t l = last; l > 0; l--) update(step, layer[l], chunk.size, from, bottom, 0, layer[l].width);
        }
        if (!task->dense) pixel_pass(step, layer[0], task->levels, run->most, run->lists[which], chunk.size, run->lists[!which], next.size, layer[1].in, from, to);
        else {
            layer[0].in = run->images[which];
            if (chunk.size) update(step, layer[0], chunk.size, 0, task->inputs + 1, from, to);
            struct layer first = layer[0];
            first.in = run->images[!which];
            forward(first, layer[1].in, 0, next.size, from, to, 1);
        }
        if (!next.size) break;
        chunk = next; next = chunk_after(run, chunk);
    }
    free(p); free(block);
    return 0;
}

int64_t lanes(void) { return LANES; }

static void *zeros(int64_t bytes) {
    bytes = (bytes + 63) / 64 * 64;
    void *p = aligned_alloc(64, bytes);
    memset(p, 0, bytes);
    return p;
}

static struct rows new_rows(int64_t count, int64_t width) {
    int64_t stride = (padded(width) + 15) / 16 * 16;
    stride = (stride / 16 | 1) * 16;
    return (struct rows){zeros(count * stride * 4), stride};
}

int64_t train(const struct task *task) {
    struct run *run = calloc(1, sizeof *run);
    run->task = task;
    run->layers = task->hidden_layers + 1;
    run->most = task->batch_size < CHUNK ? task->batch_size : CHUNK;
    int64_t threads = padded(task->hidden_size) / LANES;
    run->team.threads = task->threads < threads ? task->threads : threads;
    pthread_mutex_init(&run->team.lock, 0);
    pthread_cond_init(&run->team.next, 0);
    int64_t at = 0, units = task->inputs;
    float *gradient = 0;
    for (int64_t l = 0; l < run->layers; l++) {
        int64_t outputs = l == run->layers - 1 ? task->classes : task->hidden_size;
        run->layer[l] = (struct layer){units, padded(outputs), task->weights + at, task->first + at, task->second + at, (float *)0 + at, {0}, {0}};
        run->layer[l].delta = new_rows(run->most, padded(outputs));
        if (l) run->layer[l].in = new_rows(run->most, padded(units));
        at += padded(units + 1) * padded(outputs);
        units = outputs;
    }
    if (task->batch_size > run->most) {
        gradient = zeros(at * 4);
        for (int64_t l = 0; l < run->layers; l++) run->layer[l].gradient = gradient + (run->layer[l].weights - task->weights);
    }
    for (int k = 0; k < 2; k++) {
        if (task->dense) run->images[k] = new_rows(run->most, task->inputs);
        else run->lists[k] = (struct lists){zeros((run->most + 1) * task->inputs * 2), zeros(task->inputs * 8)};
    }
    run->losses = zeros(run->most * 8);
    struct member *members = calloc(run->team.threads, sizeof *members);
    fenv_t environment;
    fegetenv(&environment);
    for (int64_t t = run->team.threads - 1; t >= 0; t--) {
        members[t] = (struct member){run, t, 0, &environment};
        if (t) pthread_create(&members[t].thread, 0, work, members + t);
    }
    work(members);
    for (int64_t t = 1; t < run->team.threads; t++) pthread_join(members[t].thread, 0);
    for (int64_t l = 0; l < run->layers; l++) { free(run->layer[l].delta.at); if (l) free(run->layer[l].in.at); }
    for (int k = 0; k < 2; k++) { free(run->images[k].at); free(run->lists[k].entries); free(run->lists[k].ends); }
    free(gradient); free(run->losses); free(members); free(run);
    return 0;
}
