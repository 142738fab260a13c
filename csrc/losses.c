/* Losses of a strip of scores, a row a lane, and the gradients to the scores. */
#include <string.h>

#include "elements.h"
#include "simd.h"
#include "softline.h"

/* ---- softmax: a strip of rows, a row a lane -------------------------------------------------- */

/* The largest score and the sum of exp(S - largest) of each row; S becomes the exponentials where
 * `keep`. */
INLINE void strip_exp(real *S, ptrdiff_t K, const int keep, vec *largest, vec *sum) {
    *largest = vset1(-INFINITY);
    *sum = vset1(0);
    for (ptrdiff_t c = 0; c < K; c++) *largest = vmax(*largest, vload(S + c * LANES));
    if (K == 2) { /* the larger of two has the exponential 1, or NaN if it is infinite */
        const vec apart = vsub(vload(S + LANES), vload(S)), e = vexp(vminus_abs(apart));
        const vec one = vadd(vset1(1), vsub(*largest, *largest));
        if (keep) {
            vstore(S, vselect_positive(apart, e, one));
            vstore(S + LANES, vselect_negative(apart, e, one));
        }
        *sum = vadd(one, e);
        return;
    }
    for (ptrdiff_t c = 0; c < K; c++) {
        const vec e = vexp(vsub(vload(S + c * LANES), *largest));
        if (keep) vstore(S + c * LANES, e);
        *sum = vadd(*sum, e);
    }
}

static void softmax_strip(real *S, ptrdiff_t K, int take_log) {
    vec largest, sum;
    if (take_log) {
        strip_exp(S, K, 0, &largest, &sum);
        const vec log_sum = vlog(sum);
        for (ptrdiff_t c = 0; c < K; c++)
            vstore(S + c * LANES, vsub(vsub(vload(S + c * LANES), largest), log_sum));
    } else {
        strip_exp(S, K, 1, &largest, &sum);
        for (ptrdiff_t c = 0; c < K; c++) vstore(S + c * LANES, vdiv(vload(S + c * LANES), sum));
    }
}

/* Losses, and with `weight` the gradient in place: log(sum of exp(s - largest)) - (s_y - largest).
 */
INLINE void entropy(real *S, ptrdiff_t n, ptrdiff_t K, const int32_t *y, const real *weight,
                    real *losses) {
    real own[64 / sizeof(real)] = {0}, sums[64 / sizeof(real)];
    vec largest, sum;
    for (ptrdiff_t r = 0; r < n; r++) own[r] = S[y[r] * LANES + r];
    strip_exp(S, K, weight != NULL, &largest, &sum);
    vstore_n(losses, vsub(vlog(sum), vsub(vload(own), largest)), n);
    if (!weight) return;
    vstore(sums, sum);
    for (ptrdiff_t r = 0; r < n; r++) S[y[r] * LANES + r] -= sums[r];
    const vec scale = vdiv(vload_n(weight, n, 0), sum);
    for (ptrdiff_t c = 0; c < K; c++) vstore(S + c * LANES, vmul(vload(S + c * LANES), scale));
}

static void cross_entropy(const real *S, ptrdiff_t n, ptrdiff_t K, const int32_t *y, real *losses) {
    entropy((real *)S, n, K, y, NULL, losses); /* reads only, without weights */
}

static void cross_entropy_gradient(real *S, ptrdiff_t n, ptrdiff_t K, const int32_t *y,
                                   const real *weight, real *losses) {
    entropy(S, n, K, y, weight, losses);
}

/* The n labels of a strip as numbers, -1 beyond them; and 1 where they are c, else 0. */
INLINE vec strip_labels(const int32_t *y, ptrdiff_t n) {
    real labels[64 / sizeof(real)];
    for (ptrdiff_t r = 0; r < LANES; r++) labels[r] = r < n ? (real)y[r] : -1;
    return vload(labels);
}
INLINE vec is_label(vec labels, ptrdiff_t c) {
    return vsub(vset1(1), vmin(vset1(1), vabs(vsub(labels, vset1((real)c)))));
}

/* Probabilities of a strip of scores (C, L) in place, and the sum of the losses, weighted. */
INLINE double strip_probs(real *S, ptrdiff_t C, vec labels, vec weight) {
    vec own = vset1(0), largest, sum;
    for (ptrdiff_t c = 0; c < C; c++)
        own = vadd(own, vmul_or_0(is_label(labels, c), vload(S + c * LANES)));
    strip_exp(S, C, 1, &largest, &sum);
    for (ptrdiff_t c = 0; c < C; c++) vstore(S + c * LANES, vdiv(vload(S + c * LANES), sum));
    return vsum(vmul_or_0(weight, vsub(vlog(sum), vsub(own, largest))));
}

static void hinge_gradient(real *S, ptrdiff_t n, ptrdiff_t K, const int32_t *y, const real *weight,
                           real *losses) {
    real own[64 / sizeof(real)] = {0}, sums[64 / sizeof(real)];
    vec loss = vset1(0), sum = vset1(0);
    for (ptrdiff_t r = 0; r < n; r++) own[r] = S[y[r] * LANES + r];
    const vec correct = vload(own), by = vload_n(weight, n, 0);
    for (ptrdiff_t c = 0; c < K; c++)
        vstore(S + c * LANES, vadd(vsub(vload(S + c * LANES), correct), vset1(1)));
    for (ptrdiff_t r = 0; r < n; r++) S[y[r] * LANES + r] = 0;
    for (ptrdiff_t c = 0; c < K; c++) {
        const vec margin = vload(S + c * LANES), slope = vselect_positive(margin, by, vset1(0));
        loss = vadd(loss, vmax(vset1(0), margin)); /* in this order NaN stays */
        sum = vadd(sum, slope);
        vstore(S + c * LANES, slope);
    }
    vstore_n(losses, loss, n);
    vstore(sums, sum);
    for (ptrdiff_t r = 0; r < n; r++) S[y[r] * LANES + r] = -sums[r];
}

static void soft_cross_entropy(real *S, ptrdiff_t n, ptrdiff_t K, const real *T, real smoothing,
                               const real *weight, real *losses) {
    const vec keep = vset1(1 - smoothing), spread = vset1(smoothing / K);
#define TARGET(c) vfma(keep, vload(T + (c) * LANES), spread)
    vec largest = vset1(-INFINITY), mass = vset1(0), own = vset1(0), sum;
    for (ptrdiff_t c = 0; c < K; c++) largest = vmax(largest, vload(S + c * LANES));
    for (ptrdiff_t c = 0; c < K; c++) {
        const vec t = TARGET(c);
        mass = vadd(mass, t);
        own = vadd(own, vmul_or_0(t, vsub(vload(S + c * LANES), largest)));
    }
    strip_exp(S, K, weight != NULL, &largest, &sum);
    vstore_n(losses, vsub(vmul(mass, vlog(sum)), own), n);
    if (!weight) return;
    const vec by = vload_n(weight, n, 0), scale = vdiv(by, sum);
    for (ptrdiff_t c = 0; c < K; c++)
        vstore(S + c * LANES, vsub(vmul(vload(S + c * LANES), scale), vmul(by, TARGET(c))));
#undef TARGET
}

/* Each of the outputs is a class by itself: a softmax over 0 and its score. */
static void outputs_gradient(real *S, ptrdiff_t n, ptrdiff_t K, const int32_t *y /* (N, K) */,
                             const ptrdiff_t *idx, const real *weight, real *losses) {
    real pair[2 * 64 / sizeof(real)], loss[64 / sizeof(real)];
    int32_t labels[64 / sizeof(real)];
    for (ptrdiff_t r = 0; r < n; r++) losses[r] = 0;
    for (ptrdiff_t k = 0; k < K; k++, S += LANES) {
        vstore(pair, vset1(0));
        vstore(pair + LANES, vload(S));
        for (ptrdiff_t r = 0; r < n; r++) labels[r] = y[idx[r] * K + k];
        cross_entropy_gradient(pair, n, 2, labels, weight, loss);
        for (ptrdiff_t r = 0; r < n; r++) losses[r] += loss[r];
        vstore(S, vload(pair + LANES));
    }
}

/* The targets of labels, as a strip. */
static void onehot(const int32_t *y, ptrdiff_t n, ptrdiff_t K, real *T) {
    memset(T, 0, (size_t)(K * LANES) * sizeof(real));
    for (ptrdiff_t r = 0; r < n; r++) T[y[r] * LANES + r] = 1;
}

/* ---- by themselves ----------------------------------------------------------------------------
 */

static void softmax_all(void *operands, softline_team *team, int thread) {
    const softline_call *c = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t n = c->A.rows, K = c->A.columns;
    real *strip = (real *)c->room + thread * c->room_size;
    for (ptrdiff_t s; softline_next_task(&w, STEPS(n, LANES), &s);) {
        real *rows = (real *)c->A.at + s * LANES * c->A.ld;
        load_strip(rows, c->A.ld, NULL, MIN(LANES, n - s * LANES), K, strip);
        softmax_strip(strip, K, c->log);
        store_strip(strip, MIN(LANES, n - s * LANES), K, rows, c->A.ld);
    }
    softline_end(&w, STEPS(n, LANES));
}

static void losses_all(void *operands, softline_team *team, int thread) {
    const softline_call *c = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t n = c->A.rows, K = c->A.columns;
    real *strip = (real *)c->room + thread * c->room_size, *soft = strip + K * LANES;
    for (ptrdiff_t s; softline_next_task(&w, STEPS(n, LANES), &s);) {
        const ptrdiff_t first = s * LANES, count = MIN(LANES, n - first);
        const real *weight = c->weight ? (const real *)c->weight + first : NULL;
        const int32_t *labels = c->labels ? c->labels + first : NULL;
        real *losses = (real *)c->losses + first;
        load_strip((const real *)c->A.at + first * c->A.ld, c->A.ld, NULL, count, K, strip);
        if (c->loss == SOFTLINE_TARGETS) {
            if (labels)
                onehot(labels, count, K, soft);
            else
                load_strip((const real *)c->targets.at + first * c->targets.ld, c->targets.ld, NULL,
                           count, K, soft);
            soft_cross_entropy(strip, count, K, soft, (real)c->smoothing, weight, losses);
        } else if (c->loss == SOFTLINE_HINGE) {
            hinge_gradient(strip, count, K, labels, weight, losses);
        } else if (weight) {
            cross_entropy_gradient(strip, count, K, labels, weight, losses);
        } else {
            cross_entropy(strip, count, K, labels, losses);
        }
        if (weight) store_strip(strip, count, K, (real *)c->out.at + first * c->out.ld, c->out.ld);
    }
    softline_end(&w, STEPS(n, LANES));
}
