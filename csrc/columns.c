/* Newton's method for more weights than rows: what a search asks of its rows, feature by feature.
 *
 * A Hessian of all weights would be large, and of a rank below the number of rows. With an L1
 * penalty few weights are not zero, so a step goes by coordinate descent: a coordinate costs O(n),
 * for the column of its feature (newGLMNET; Yuan, Ho and Lin, 2012, "An improved GLMNET for
 * L1-regularized logistic regression"). It ends exactly, by the Hessian of the weights that are not
 * zero. Columns are `ld` numbers apart, n rounded up to whole vectors with zeros; the last is of
 * ones, for the intercept. */
#include <math.h>

#include "elements.h"
#include "simd.h"
#include "softline.h"

#ifdef SOFTLINE_DOUBLE

/* Weights whose gradient is below this share of their penalty, and which are zero, stay so. */
#define LEAST_WANTED 0.9
/* Most sweeps of coordinate descent for a step, if its end is exact, and if it is not. */
enum { SWEEPS = 20, MORE_SWEEPS = 200 };

/* What a thread has for it, of `room`: see softline_columns_room. */
typedef struct columns_room {
    ptrdiff_t ld;
    real *columns;              /* (D + 1, ld) */
    real *S, *probs, *weighted; /* (R, ld); weighted: the probabilities times weights */
    real *moved;                /* (R, ld): change of the scores by the step so far */
    real *mean;                 /* (ld): its mean over the classes, by their probabilities */
    /* (ld): weight p (1 - p), by which `moved` is multiplied if there is one row of scores */
    real *curved;
    real *weight, *packed, *tile; /* (ld): weights that sum to 1; a strip; (L, L) or (C, L) */
    real *l2, *curvature;         /* (M) */
    real *A, *slopes, *V, *l1;    /* of the support: (most, most), (most) */
    real *rest;                   /* (most, most) + 4 most */
    ptrdiff_t *active, *support;  /* (M), (most) */
} columns_room;

static columns_room columns_room_of(const softline_newton *p) {
    const ptrdiff_t ld = STEPS(p->n, LANES) * LANES, R = p->R, M = R * (p->D + 1);
    const ptrdiff_t most = p->most_support;
    columns_room m = {.ld = ld, .columns = p->room};
    m.S = m.columns + (p->D + 1) * ld;
    m.probs = m.S + R * ld;
    m.weighted = m.probs + R * ld;
    m.moved = m.weighted + R * ld;
    m.mean = m.moved + R * ld;
    m.curved = m.mean + ld;
    m.weight = m.curved + ld;
    m.packed = m.weight + ld;
    m.tile = m.packed + softline_packed(p->D + LANES, LANES);
    m.l2 = m.tile + MAX(LANES, p->C) * LANES;
    m.curvature = m.l2 + M;
    m.A = m.curvature + M;
    m.slopes = m.A + most * most;
    m.V = m.slopes + most;
    m.l1 = m.V + most;
    m.rest = m.l1 + most;
    m.active = (ptrdiff_t *)(m.rest + most * most + 4 * most);
    m.support = m.active + M;
    return m;
}

/* Columns of the rows, once. */
static void turn(const softline_newton *p) {
    const columns_room room = columns_room_of(p), *m = &room;
    const ptrdiff_t D = p->D;
    for (ptrdiff_t i = 0; i < m->ld; i += LANES) {
        const ptrdiff_t n = MIN(LANES, p->n - i);
        pack(p->X, p->idx + i, n, 0, D, m->packed, softline_packed(D, LANES));
        for (ptrdiff_t k = 0; k < LANES * LANES; k++) m->tile[k] = 0;
        for (ptrdiff_t k = 0; k < D; k += LANES) {
            const ptrdiff_t count = MIN(LANES, D - k);
            load_strip(m->packed + softline_packed(k, LANES), LANES, NULL, n, count, m->tile);
            for (ptrdiff_t j = 0; j < count; j++)
                vstore(m->columns + (k + j) * m->ld + i, vload(m->tile + j * LANES));
        }
        for (ptrdiff_t r = 0; r < LANES; r++) {
            const ptrdiff_t row = i + r;
            m->columns[D * m->ld + row] = r < n && p->fit_intercept;
            m->weight[row] =
                r < n ? p->scale * (p->row_weight ? ((const real *)p->row_weight)[row] : 1) : 0;
        }
    }
}

/* Sums at the trial, as newton_block makes them, but for the Hessian. */
static void pass_by_columns(const softline_newton *p) {
    const columns_room room = columns_room_of(p), *m = &room;
    const ptrdiff_t R = p->R, C = p->C, skip = C - R, width = p->D + 1, ld = m->ld;
    double loss = 0;
    for (ptrdiff_t i = 0; i < R * ld; i++) m->S[i] = 0;
    for (ptrdiff_t i = 0; i < R * width; i++)
        if (p->trial[i] != 0)
            add_scaled(ld, p->trial[i], m->columns + i % width * ld, m->S + i / width * ld);
    for (ptrdiff_t i = 0; i < ld; i += LANES) {
        const vec labels = strip_labels(p->labels + i, MIN(LANES, p->n - i));
        const vec weight = vload(m->weight + i);
        for (ptrdiff_t c = 0; c < skip; c++) vstore(m->tile + c * LANES, vset1(0));
        for (ptrdiff_t c = 0; c < R; c++)
            vstore(m->tile + (skip + c) * LANES, vload(m->S + c * ld + i));
        loss += strip_probs(m->tile, C, labels, weight);
        for (ptrdiff_t c = 0; c < R; c++) {
            const vec probs = vload(m->tile + (skip + c) * LANES);
            vstore(m->probs + c * ld + i, probs);
            vstore(m->weighted + c * ld + i, vmul(weight, probs));
            vstore(m->S + c * ld + i, /* from here on the gradient */
                   vmul(weight, vsub(probs, is_label(labels, skip + c))));
            if (R == 1) vstore(m->curved + i, vmul(vmul(weight, probs), vsub(vset1(1), probs)));
        }
    }
    p->nodes[0] = loss / p->scale;
    for (ptrdiff_t c = 0; c < R; c++)
        for (ptrdiff_t d = 0; d < width; d++)
            p->nodes[1 + c * width + d] = inner(ld, m->columns + d * ld, m->S + c * ld) / p->scale;
}

/* The slope of the loss' quadratic model along a column of a class: what `moved` adds to it. */
static real model_slope(const columns_room *m, ptrdiff_t R, const real *x, ptrdiff_t c) {
    const real *weighted = m->weighted + c * m->ld, *moved = m->moved + c * m->ld;
    vec sum = vset1(0);
    if (R == 1) return inner(m->ld, x, moved); /* which is weighted already */
    for (ptrdiff_t i = 0; i < m->ld; i += LANES) {
        const vec off = vsub(vload(moved + i), vload(m->mean + i));
        sum = vfma(vmul(vload(x + i), vload(weighted + i)), off, sum);
    }
    return vsum(sum);
}

/* The weight of a class changes by `by`, and so do its scores. */
static void move(const columns_room *m, ptrdiff_t R, const real *x, ptrdiff_t c, real by) {
    const real *probs = m->probs + c * m->ld;
    real *moved = m->moved + c * m->ld;
    const vec all = vset1(by);
    for (ptrdiff_t i = 0; i < m->ld; i += LANES) {
        const vec change = vmul(all, vload(x + i));
        if (R == 1) {
            vstore(moved + i, vfma(vload(m->curved + i), change, vload(moved + i)));
        } else {
            vstore(moved + i, vadd(vload(moved + i), change));
            vstore(m->mean + i, vfma(vload(probs + i), change, vload(m->mean + i)));
        }
    }
}

/* Coordinate descent on the active weights, all and then those that are not zero. */
static void descend_by_columns(const softline_newton *p, const columns_room *m, ptrdiff_t count,
                               ptrdiff_t sweeps, real *V) {
    const ptrdiff_t width = p->D + 1;
    double enough = 0;
    int every = 1;
    for (ptrdiff_t sweep = 0; sweep < sweeps; sweep++) {
        double most = 0;
        for (ptrdiff_t k = 0; k < count; k++) {
            const ptrdiff_t i = m->active[k], c = i / width, d = i % width;
            const real *x = m->columns + d * m->ld;
            if (!every && V[i] == 0) continue;
            const double slope =
                p->gradient[i] + m->l2[i] * (V[i] - p->Z[i]) + model_slope(m, p->R, x, c);
            const double best = coordinate_minimum(m->curvature[i], V[i], slope, p->l1[d]);
            const double moved = best - V[i];
            if (moved == 0) continue;
            V[i] = best;
            move(m, p->R, x, c, moved);
            most = fmax(most, fabs(moved) * sqrt(m->curvature[i]));
        }
        if (sweep == 0) enough = 0.05 * most;
        if (!sweeps_on(most, enough, &every)) break;
    }
}

/* The element of the Hessian of the loss for two weights: columns x of class a and y of b. */
static real hessian_element(const columns_room *m, const real *x, ptrdiff_t a, const real *y,
                            ptrdiff_t b) {
    const real *weighted = m->weighted + a * m->ld, *probs = m->probs + b * m->ld;
    vec sum = vset1(0);
    for (ptrdiff_t i = 0; i < m->ld; i += LANES) {
        const vec p = vload(probs + i), by = a == b ? vsub(vset1(1), p) : vsub(vset1(0), p);
        sum = vfma(vmul(vload(x + i), vload(weighted + i)), vmul(vload(y + i), by), sum);
    }
    return vsum(sum);
}

/* V, to the minimum of the model on its support; whether that is small enough. */
static int solve_on_support(const softline_newton *p, const columns_room *m, ptrdiff_t count,
                            real *V) {
    const ptrdiff_t width = p->D + 1;
    ptrdiff_t size = 0;
    for (ptrdiff_t k = 0; k < count; k++) {
        if (V[m->active[k]] == 0 && p->l1[m->active[k] % width] > 0) continue;
        if (size == p->most_support) return 0;
        m->support[size++] = m->active[k];
    }
    for (ptrdiff_t a = 0; a < size; a++) {
        const ptrdiff_t i = m->support[a], d = i % width;
        const real root = sqrt(m->curvature[i]), *x = m->columns + d * m->ld;
        m->V[a] = V[i] * root;
        m->l1[a] = p->l1[d] / root;
        m->slopes[a] =
            (p->gradient[i] + m->l2[i] * (V[i] - p->Z[i]) + model_slope(m, p->R, x, i / width)) /
            root;
        m->A[a * size + a] = 1;
        for (ptrdiff_t b = a + 1; b < size; b++) {
            const ptrdiff_t j = m->support[b];
            const real h =
                hessian_element(m, x, i / width, m->columns + j % width * m->ld, j / width);
            m->A[a * size + b] = m->A[b * size + a] = h / (root * sqrt(m->curvature[j]));
        }
    }
    minimize_on_support(size, m->A, m->l1, m->slopes, m->V, m->rest);
    for (ptrdiff_t a = 0; a < size; a++) {
        const ptrdiff_t i = m->support[a];
        const real v = m->V[a] / sqrt(m->curvature[i]), by = v - V[i];
        if (by != 0) move(m, p->R, m->columns + i % width * m->ld, i / width, by);
        V[i] = v;
    }
    return 1;
}

/* The step from Z to the minimum of the model of the objective there. */
static void step_by_columns(softline_newton *p) {
    const columns_room room = columns_room_of(p), *m = &room;
    const ptrdiff_t width = p->D + 1, M = p->R * width, ld = m->ld;
    real *V = p->vectors;
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < (p->R + 1) * ld; i++) m->moved[i] = 0; /* and mean */
    for (ptrdiff_t i = 0; i < M; i++) {
        const ptrdiff_t c = i / width, d = i % width;
        const real *x = m->columns + d * ld;
        V[i] = p->Z[i];
        if (p->Z[i] == 0 && fabs(p->gradient[i]) < LEAST_WANTED * p->l1[d]) continue;
        const real curvature = hessian_element(m, x, c, x, c) + p->l2[d];
        if (!(curvature > 0)) continue;
        m->active[count++] = i;
        m->l2[i] = p->l2[d] + p->ridge * curvature;
        m->curvature[i] = curvature * (1 + p->ridge);
    }
    descend_by_columns(p, m, count, SWEEPS, V);
    if (!solve_on_support(p, m, count, V)) descend_by_columns(p, m, count, MORE_SWEEPS, V);
    for (ptrdiff_t i = 0; i < M; i++) p->step[i] = V[i] - p->Z[i];
}

#endif
