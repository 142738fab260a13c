/* An epoch of mini-batch descent, for any stack of layers: what one thread of a team does.
 *
 * A batch is taken in chunks of strips of rows that stay in cache. A chunk has three phases, whose
 * tasks the threads share out:
 * 1. rows are packed, and scored by the first layer: tasks are parts of the features x groups of
 *    strips;
 * 2. groups of strips go up through the other layers to the loss, and its gradient comes down: rows
 * do not meet, so a thread does all of it while they are in its cache;
 * 3. gradients to the weights, and with the last chunk of a batch the step: a task is some slabs of
 * the inputs of each layer, and sums the rows in a fixed order. Meanwhile it asks memory for the
 * rows of the next chunk. What needs a whole gradient or whole rows of W has phases of its own
 * after the last chunk of a batch: for `clip_norm` the norm, and only then the step; for `max_norm`
 * the projection. There is no gradient per thread to reduce, so neither threads nor chunks change a
 * bit of the result. */
#include "elements.h"
#include "simd.h"
#include "softline.h"

/* Some rows of a batch. */
typedef struct chunk {
    const ptrdiff_t *idx;      /* (n) */
    ptrdiff_t n, strips, left; /* rows of `order` after them */
    ptrdiff_t batch, batch_rows,
        batch_row; /* the batch, its rows, the number of the first of these */
    int add, last; /* in the batch: not the first, the last */
    uint32_t key;  /* of dropout */
} chunk;

static chunk chunk_of(const softline_epoch *e, ptrdiff_t batch, ptrdiff_t first) {
    const ptrdiff_t begin = batch * e->batch_size, end = MIN(begin + e->batch_size, e->n);
    const ptrdiff_t n = MIN(e->chunk_strips * LANES, end - first);
    return (chunk){.idx = e->order + first,
                   .n = n,
                   .strips = STEPS(n, LANES),
                   .left = e->n - first - n,
                   .batch = batch,
                   .batch_rows = end - begin,
                   .batch_row = first - begin,
                   .add = first > begin,
                   .last = first + n == end,
                   .key = softline_mix(softline_mix(e->seed) + e->t + (uint32_t)batch)};
}

/* ---- strips up and down ------------------------------------------------------------------------
 */

/* Strips first to last of a chunk, from the outputs of the first layer to the scores. The chunk
 * begins with row number `row` of its batch. */
static void forward(const softline_layer *layers, int n_layers, int activation, double rate,
                    ptrdiff_t first, ptrdiff_t last, uint32_t key, ptrdiff_t row) {
    for (int i = 0; i + 1 < n_layers; i++) {
        const softline_layer *at = layers + i, *above = at + 1;
        const ptrdiff_t K = at->n_out;
        for (ptrdiff_t s = first; s < last; s++) {
            real *out = (real *)at->out + s * LANES * K;
            activate(out, K, activation);
            if (rate > 0)
                dropout(out, K, rate, softline_mix(key + (uint32_t)i), (uint32_t)(row + s * LANES));
            for (ptrdiff_t k = 0; above->packed && k < K; k += LANES)
                store_strip(out + k * LANES, LANES, MIN(LANES, K - k),
                            (real *)above->packed + s * above->strip + softline_packed(k, LANES),
                            LANES);
        }
        affine((real *)at->out + first * LANES * K, (last - first) * LANES, K, above->W, above->ldw,
               1, above->b, above->n_out, (real *)above->out + first * LANES * above->n_out);
    }
}

/* Gradients from the scores down to the first layer. */
static void backward(const softline_epoch *e, ptrdiff_t first, ptrdiff_t last, const chunk *c) {
    for (int i = e->n_layers - 1; i > 0; i--) {
        const softline_layer *at = e->layers + i, *below = at - 1;
        const ptrdiff_t K = at->n_in;
        affine((real *)at->delta + first * LANES * at->n_out, (last - first) * LANES, at->n_out,
               at->W, 1, at->ldw, NULL, K, (real *)below->delta + first * LANES * K);
        for (ptrdiff_t s = first; s < last; s++) {
            real *delta = (real *)below->delta + s * LANES * K;
            if (e->dropout > 0)
                dropout(delta, K, e->dropout, softline_mix(c->key + (uint32_t)i - 1),
                        (uint32_t)(c->batch_row + s * LANES));
            activation_gradient((real *)below->out + s * LANES * K, K, e->activation,
                                (real)(1 - e->dropout), delta);
        }
    }
}

/* The losses of strip s for each model, from the scores in delta of the last layer; these become
 * the gradient. */
static void strip_loss(const softline_epoch *e, const chunk *c, ptrdiff_t s) {
    const softline_layer *top = e->layers + e->n_layers - 1;
    const ptrdiff_t first = s * LANES, n = MIN(LANES, c->n - first), K = top->n_out / e->models;
    const ptrdiff_t *idx = c->idx + first;
    real *weight = (real *)e->weight + first, *losses = (real *)e->row_losses + first;
    real *soft = (real *)e->soft + first * K;
    int32_t *codes = e->codes + first;
    if (e->labels && e->loss != SOFTLINE_OUTPUTS)
        for (ptrdiff_t r = 0; r < n; r++) codes[r] = e->labels[idx[r]];
    if (e->loss == SOFTLINE_TARGETS && e->labels)
        onehot(codes, n, K, soft);
    else if (e->loss == SOFTLINE_TARGETS)
        load_strip(e->targets.at, e->targets.ld, idx, n, K, soft);
    for (ptrdiff_t i = 0; i < e->models; i++) {
        const real *row_weight = e->row_weight[i];
        const real scale = ((const real *)e->scales)[c->batch * e->models + i];
        real *S = (real *)top->delta + first * top->n_out + i * K * LANES;
        for (ptrdiff_t r = 0; r < n; r++)
            weight[r] = row_weight ? scale * row_weight[idx[r]] : scale;
        switch (e->loss) {
        case SOFTLINE_OUTPUTS: outputs_gradient(S, n, K, e->labels, idx, weight, losses); break;
        case SOFTLINE_HINGE: hinge_gradient(S, n, K, codes, weight, losses); break;
        case SOFTLINE_TARGETS:
            soft_cross_entropy(S, n, K, soft, (real)e->smoothing, weight, losses);
            break;
        default: cross_entropy_gradient(S, n, K, codes, weight, losses);
        }
        double sum = 0;
        for (ptrdiff_t r = 0; r < n; r++) sum += (double)weight[r] * losses[r];
        e->strip_losses[s * e->models + i] = sum;
    }
}

/* ---- the phases --------------------------------------------------------------------------------
 */

static void score_phase(const softline_epoch *e, softline_worker *w, const chunk *c) {
    const softline_layer *bottom = e->layers;
    const ptrdiff_t D = bottom->n_in, K = bottom->n_out, part = softline_part(D, LANES);
    const ptrdiff_t size = e->chunk_strips * LANES * K, groups = STEPS(c->strips, e->group);
    const ptrdiff_t tasks = STEPS(D, part) * groups;
    for (ptrdiff_t k; softline_next_task(w, tasks, &k);) {
        const ptrdiff_t s = k % groups * e->group, i = k / groups, col = i * part;
        scores(e->X, c->idx + s * LANES, MIN(e->group * LANES, c->n - s * LANES), col,
               MIN(part, D - col),
               (real *)bottom->packed + s * bottom->strip + softline_packed(col, LANES),
               bottom->strip, (const real *)bottom->W + col, bottom->ldw, K,
               (real *)e->parts + i * size + s * LANES * K, NULL);
    }
    softline_finish(w, tasks);
    softline_go_on(w);
}

static void loss_phase(softline_epoch *e, softline_worker *w, const chunk *c) {
    softline_layer *bottom = e->layers;
    const ptrdiff_t K = bottom->n_out,
                    parts = STEPS(bottom->n_in, softline_part(bottom->n_in, LANES));
    const ptrdiff_t size = e->chunk_strips * LANES * K, groups = STEPS(c->strips, e->group);
    for (ptrdiff_t k; softline_next_task(w, groups, &k);) {
        const ptrdiff_t first = k * e->group, last = MIN(first + e->group, c->strips);
        for (ptrdiff_t s = first; s < last; s++)
            add_parts((const real *)e->parts + s * LANES * K, size, parts, bottom->b, K,
                      (real *)bottom->out + s * LANES * K);
        forward(e->layers, e->n_layers, e->activation, e->dropout, first, last, c->key,
                c->batch_row);
        for (ptrdiff_t s = first; s < last; s++) strip_loss(e, c, s);
        backward(e, first, last, c);
    }
    if (softline_finish(w, groups)) {
        const ptrdiff_t at_batch = c->batch * e->models;
        for (ptrdiff_t s = 0; s < c->strips; s++)
            for (ptrdiff_t i = 0; i < e->models; i++)
                e->losses[at_batch + i] += e->strip_losses[s * e->models + i];
        for (softline_layer *at = e->layers; at < e->layers + e->n_layers; at++) {
            bias_gradient(at->delta, c->n, at->n_out, at->lane_db, at->db, c->add);
            if (!c->last || !e->steps) continue;
            softline_next_step(&at->rule, e->rates + at_batch, e->alphas + at_batch,
                               e->l1s ? e->l1s + at_batch : NULL);
            if (e->max_norm < INFINITY) { /* before a mean takes the weights in */
                at->share = at->rule.share;
                at->rule.share = 0;
            }
        }
    }
    softline_go_on(w);
}

/* The step for features from col on, which are slab number `slab` of a layer. */
static step step_of(const softline_epoch *e, const softline_layer *at, ptrdiff_t col) {
    const int shifted = at == e->layers && e->shift != NULL;
    const ptrdiff_t slab = col / softline_slab(at->n_in, LANES);
    return (step){.W = (real *)at->W + col,
                  .ldw = at->ldw,
                  .db = at->db,
                  .shift = shifted ? (const real *)e->shift + col : NULL,
                  .metric = at == e->layers && e->metric ? (const real *)e->metric + col : NULL,
                  .drift = shifted ? (real *)e->drift + slab * at->n_out * LANES : NULL,
                  .rule = &at->rule,
                  .col = col};
}

static void bias_steps(const softline_epoch *e) {
    for (const softline_layer *at = e->layers; at < e->layers + e->n_layers; at++)
        bias_step(&at->rule, at->db, at == e->layers && e->shift ? e->drift : NULL,
                  STEPS(at->n_in, softline_slab(at->n_in, LANES)), at->n_out, at->b);
}

/* Sums of squares of the weights of each model, features col to col + D. */
static void slab_squares(const softline_epoch *e, const softline_layer *at, ptrdiff_t col,
                         ptrdiff_t D, double *squares) {
    const ptrdiff_t K = at->n_out / e->models;
    for (ptrdiff_t i = 0; i < e->models; i++) {
        squares[i] = 0;
        for (ptrdiff_t k = i * K; k < (i + 1) * K; k++)
            squares[i] += square_norm((const real *)at->W + k * at->ldw + col, D, 0, NULL, NULL);
    }
}

static void gradient_phase(softline_epoch *e, softline_worker *w, const chunk *c) {
    const int steps = c->last && e->steps && !(e->clip_norm < INFINITY);
    for (ptrdiff_t k; softline_next_task(w, e->tasks, &k);)
        for (const softline_layer *at = e->layers; at < e->layers + e->n_layers; at++) {
            const ptrdiff_t slab = softline_slab(at->n_in, LANES), slabs = STEPS(at->n_in, slab);
            const ptrdiff_t first = slabs * k / e->tasks, last = slabs * (k + 1) / e->tasks;
            const ptrdiff_t col = first * slab, D = MIN(last * slab, at->n_in) - col;
            if (D <= 0) continue;
            for (ptrdiff_t s = first; c->last && e->square_norms && s < last; s++)
                slab_squares(e, at, s * slab, MIN(slab, at->n_in - s * slab),
                             at->slab_squares + s * e->models);
            const softline_ahead ahead = {e->X, c->idx + c->n, MIN(c->n, c->left), col, D};
            const product p = {(const real *)at->packed + softline_packed(col, LANES),
                               at->delta,
                               at->strip,
                               c->n,
                               D,
                               at->n_out,
                               at->dW ? (real *)at->dW + col : NULL,
                               at->lddw,
                               c->add};
            const step u = step_of(e, at, col);
            gradient(&p, slab, steps ? &u : NULL, at == e->layers ? &ahead : NULL);
        }
    if (softline_finish(w, e->tasks)) {
        for (int i = 0; c->last && e->square_norms && i < e->n_layers; i++) {
            const softline_layer *at = e->layers + i;
            for (ptrdiff_t s = 0; s < STEPS(at->n_in, softline_slab(at->n_in, LANES)); s++)
                for (ptrdiff_t m = 0; m < e->models; m++)
                    e->square_norms[c->batch * e->models + m] +=
                        at->slab_squares[s * e->models + m];
        }
        if (steps && e->fit_intercept) bias_steps(e);
    }
    softline_go_on(w);
}

/* The layer that has output number *k of all, which becomes its own number. */
static const softline_layer *layer_of_output(const softline_epoch *e, ptrdiff_t *k) {
    const softline_layer *at = e->layers;
    for (; *k >= at->n_out; at++) *k -= at->n_out;
    return at;
}

static ptrdiff_t all_outputs(const softline_epoch *e) {
    ptrdiff_t outputs = 0;
    for (int i = 0; i < e->n_layers; i++) outputs += e->layers[i].n_out;
    return outputs;
}

/* Scales the gradient of each model, of all its layers, to clip_norm where it is longer: of dW by a
 * number that the step takes, of db at once. As torch.nn.utils.clip_grad_norm_ does. */
static void clip(softline_epoch *e) {
    double *total = e->clip, *square = e->squares;
    for (ptrdiff_t i = 0; i < e->models; i++) total[i] = 0;
    for (const softline_layer *at = e->layers; at < e->layers + e->n_layers; at++)
        for (ptrdiff_t k = 0; k < at->n_out; k++, square++) {
            const real g = ((const real *)at->db)[k];
            total[model_of(&at->rule, k)] += *square + (double)g * g;
        }
    for (ptrdiff_t i = 0; i < e->models; i++)
        e->clip[i] = fmin(e->clip_norm / (sqrt(total[i]) + 1e-6), 1);
    for (const softline_layer *at = e->layers; at < e->layers + e->n_layers; at++)
        for (ptrdiff_t k = 0; k < at->n_out; k++)
            ((real *)at->db)[k] *= (real)e->clip[model_of(&at->rule, k)];
}

/* The norm of the gradient, and the step of one no longer than clip_norm. */
static void clipped_step_phases(softline_epoch *e, softline_worker *w) {
    const ptrdiff_t outputs = all_outputs(e);
    for (ptrdiff_t task; softline_next_task(w, outputs, &task);) {
        ptrdiff_t k = task;
        const softline_layer *at = layer_of_output(e, &k);
        const int first = at == e->layers;
        e->squares[task] =
            square_norm((const real *)at->dW + k * at->lddw, at->n_in, ((const real *)at->db)[k],
                        first ? e->shift : NULL, first ? e->metric : NULL);
    }
    if (softline_finish(w, outputs)) clip(e);
    softline_go_on(w);

    ptrdiff_t slabs = 0;
    for (const softline_layer *at = e->layers; at < e->layers + e->n_layers; at++)
        slabs += STEPS(at->n_in, softline_slab(at->n_in, LANES));
    for (ptrdiff_t task; softline_next_task(w, slabs, &task);) {
        const softline_layer *at = e->layers;
        ptrdiff_t s = task, width;
        for (; s >= STEPS(at->n_in, softline_slab(at->n_in, LANES)); at++)
            s -= STEPS(at->n_in, softline_slab(at->n_in, LANES));
        width = softline_slab(at->n_in, LANES);
        const step u = step_of(e, at, s * width);
        clear_drift(&u, at->n_out);
        const ptrdiff_t K = at->n_out / e->models;
        for (ptrdiff_t i = 0; i < e->models; i++)
            step_tile(&u, i * K, K, 0, MIN(width, at->n_in - s * width),
                      (const real *)at->dW + i * K * at->lddw + s * width, at->lddw,
                      (real)e->clip[i]);
    }
    if (softline_finish(w, slabs) && e->fit_intercept) bias_steps(e);
    softline_go_on(w);
}

static void projection_phase(softline_epoch *e, softline_worker *w) {
    const ptrdiff_t outputs = all_outputs(e);
    for (ptrdiff_t task; softline_next_task(w, outputs, &task);) {
        ptrdiff_t k = task;
        const softline_layer *at = layer_of_output(e, &k);
        const int averages = at->rule.kind == SOFTLINE_AVERAGE;
        project((real *)at->W + k * at->ldw, at->n_in, (real *)at->b + k, (real)e->max_norm,
                at == e->layers ? e->shift : NULL,
                averages ? (real *)at->rule.m + k * at->rule.ld : NULL,
                averages ? (real *)at->rule.mb + k : NULL, (real)at->share);
    }
    softline_finish(w, outputs);
    softline_go_on(w);
}

static void epoch(void *operands, softline_team *team, int thread) {
    softline_epoch *e = operands;
    softline_worker w = softline_join(team, thread);
    for (ptrdiff_t batch = 0; batch * e->batch_size < e->n; batch++) {
        const ptrdiff_t end = MIN((batch + 1) * e->batch_size, e->n);
        for (ptrdiff_t first = batch * e->batch_size; first < end;
             first += e->chunk_strips * LANES) {
            const chunk c = chunk_of(e, batch, first);
            score_phase(e, &w, &c);
            loss_phase(e, &w, &c);
            gradient_phase(e, &w, &c);
            if (!c.last || !e->steps) continue;
            if (e->clip_norm < INFINITY) clipped_step_phases(e, &w);
            if (e->max_norm < INFINITY) projection_phase(e, &w);
        }
    }
    softline_leave(&w);
}

/* ---- prediction --------------------------------------------------------------------------------
 */

/* Room of a thread: packed rows of a task, parts of the first layer's scores, outputs of all
 * layers. `finite` tells whether all scores of the first layer were: an activation may hide NaN and
 * infinity.
 */
static void network_scores(void *operands, softline_team *team, int thread) {
    const softline_call *c = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t rows = c->strips * LANES, H = c->layers[0].n_out;
    const ptrdiff_t part = softline_part(c->D, LANES), parts = STEPS(c->D, part), size = rows * H;
    const softline_layer *top = c->layers + c->n_layers - 1;
    real *packed = (real *)c->room + thread * c->room_size;
    real *S = packed + c->strips * softline_packed(part, LANES), *free = S + parts * size;
    /* Each thread has layers of its own, of the same weights. */
    softline_layer *layers = (softline_layer *)c->shared + thread * c->n_layers;
    for (int i = 0; i < c->n_layers; i++) {
        layers[i] = c->layers[i];
        layers[i].out = free;
        free += rows * layers[i].n_out;
    }
    for (ptrdiff_t task; softline_next_task(&w, STEPS(c->n, rows), &task);) {
        const ptrdiff_t first = task * rows, count = MIN(rows, c->n - first);
        scores_by_parts(c->X, c->idx + first, count, MIN(rows, c->n - first - count), c->D, packed,
                        layers[0].W, layers[0].ldw, H, S, size);
        for (ptrdiff_t i = 0; i < count; i += LANES) {
            real *out = (real *)layers[0].out + i * H;
            add_parts(S + i * H, size, parts, layers[0].b, H, out);
            for (ptrdiff_t k = 0; k < H; k++)
                for (ptrdiff_t r = 0; r < MIN(LANES, count - i); r++)
                    if (!isfinite(out[k * LANES + r])) c->finite[thread] = 0;
        }
        forward(layers, c->n_layers, c->activation, 0, 0, STEPS(count, LANES), 0, 0);
        for (ptrdiff_t i = 0; i < count; i += LANES)
            store_strip((const real *)layers[c->n_layers - 1].out + i * top->n_out,
                        MIN(LANES, count - i), top->n_out,
                        (real *)c->out.at + (first + i) * c->out.ld, c->out.ld);
    }
    softline_end(&w, STEPS(c->n, rows));
}
