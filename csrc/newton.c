/* Newton's method for few weights: what one thread of a team does.
 *
 * The threads share out a pass over the rows, which makes the loss, its gradient and its Hessian at
 * a trial point along the tree of blocks. One thread then decides: whether the trial is a step, how
 * far the minimum may be, where to try next.
 *
 * The M weights are R rows of `width` = D + 1, the last of them for the intercept: R is the number
 * of classes, or 1 for two classes, whose only score is the log-odds of the second. A node is the
 * loss, the gradient (R, width), and for each pair of rows a <= b a matrix (width, width) of the
 * Hessian, right of and on the diagonal blocks of L: the rest follows by symmetry. */
#include <float.h>
#include <math.h>

#include "elements.h"
#include "simd.h"
#include "softline.h"

#ifdef SOFTLINE_DOUBLE

/* ---- the pass ----------------------------------------------------------------------------------
 */

/* What a thread needs for a chunk of a block. */
typedef struct newton_room {
    real *packed, *turned, *probs, *dS, *weighted, *weight;
    ptrdiff_t strip;
} newton_room;

static newton_room newton_room_of(const softline_newton *p, int thread) {
    const ptrdiff_t rows = SOFTLINE_NEWTON_ROWS, width = p->D + 1;
    newton_room m = {.strip = softline_packed(width + LANES, LANES)};
    m.packed = (real *)p->room + thread * p->room_size;
    m.turned = m.packed + rows / LANES * m.strip;
    m.probs = m.turned + rows * STEPS(width, LANES) * LANES;
    m.dS = m.probs + rows * p->C;
    m.weighted = m.dS + rows * p->R;
    m.weight = m.weighted + rows * LANES;
    return m;
}

/* Loss and probabilities of a strip, and the gradient to its scores, which are in dS. */
static double probs_of_strip(const softline_newton *p, const newton_room *m, ptrdiff_t i,
                             ptrdiff_t count, const int32_t *y) {
    const ptrdiff_t C = p->C, R = p->R, skip = C - R;
    const vec labels = strip_labels(y, count), weight = vload_n(m->weight + i, count, 0);
    real *probs = m->probs + i * C, *dS = m->dS + i * R;
    /* Two classes: the score of the first is 0. */
    for (ptrdiff_t c = 0; c < skip; c++) vstore(probs + c * LANES, vset1(0));
    for (ptrdiff_t c = 0; c < R; c++) vstore(probs + (skip + c) * LANES, vload(dS + c * LANES));
    const double loss = strip_probs(probs, C, labels, weight);
    for (ptrdiff_t c = 0; c < R; c++) {
        const vec p_c = vload(probs + (skip + c) * LANES);
        vstore(dS + c * LANES, vmul(weight, vsub(p_c, is_label(labels, skip + c))));
    }
    return loss;
}

/* The same of n rows from `first`, and their features, packed and `turned`: vectors of rows. */
static double chunk_probs(const softline_newton *p, const newton_room *m, ptrdiff_t first,
                          ptrdiff_t n) {
    const ptrdiff_t D = p->D, width = D + 1;
    double loss = 0;
    pack(p->X, p->idx + first, n, 0, D, m->packed, m->strip);
    append_constant(m->packed, m->strip, n, D, p->fit_intercept);
    scores(NULL, NULL, n, 0, width, m->packed, m->strip, p->trial, width, p->R, m->dS, NULL);
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        const ptrdiff_t count = MIN(LANES, n - i);
        loss += probs_of_strip(p, m, i, count, p->labels + first + i);
        for (ptrdiff_t k = 0; k < width; k += LANES)
            load_strip(m->packed + i / LANES * m->strip + softline_packed(k, LANES), LANES, NULL,
                       count, MIN(LANES, width - k),
                       m->turned + (i * STEPS(width, LANES) + k) * LANES);
    }
    return loss;
}

/* Of a strip: weight p_a (1 - p_a), or for a < b -p_a p_b. */
INLINE vec pair_weight(const softline_newton *p, const newton_room *m, ptrdiff_t i, ptrdiff_t n,
                       ptrdiff_t a, ptrdiff_t b) {
    const real *probs = m->probs + i * p->C + (p->C - p->R) * LANES;
    const vec weight = vload_n(m->weight + i, n - i, 0);
    const vec pa = vload(probs + a * LANES), pb = vload(probs + b * LANES);
    return vmul(weight, vmul(pa, a == b ? vsub(vset1(1), pa) : vsub(vset1(0), pb)));
}

/* weighted = features k to k + L of n rows, times the weight of a pair. */
static void weigh(const softline_newton *p, const newton_room *m, ptrdiff_t n, ptrdiff_t k,
                  ptrdiff_t count, ptrdiff_t a, ptrdiff_t b) {
    const ptrdiff_t vecs = STEPS(p->D + 1, LANES);
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        const real *z = m->turned + (i * vecs + k) * LANES;
        const vec h = pair_weight(p, m, i, n, a, b);
        for (ptrdiff_t j = 0; j < count; j++)
            vstore(m->weighted + (i / LANES * count + j) * LANES, vmul(h, vload(z + j * LANES)));
    }
}

/* ---- few features: a row a lane ---- */

/* Most weights of a score for which this takes less time than tiles of features, as measured with
 * AVX2. */
#define NARROW (6 * LANES)

/* The inner products, over strips that lie so far apart, of TILE_ROWS columns and TILE_OUTPUTS
 * weighted ones. */
static void column_products(ptrdiff_t strips, const real *columns, ptrdiff_t apart,
                            const real *weighted, ptrdiff_t weighted_apart, real *sums) {
    vec sum[TILE_ROWS * TILE_OUTPUTS];
    UNROLL(i, TILE_ROWS * TILE_OUTPUTS) sum[i] = vset1(0);
    for (ptrdiff_t s = 0; s < strips; s++, columns += apart, weighted += weighted_apart)
        UNROLL(g, REGS) {
            reg x[TILE_ROWS];
            UNROLL(r, TILE_ROWS) x[r] = r_keep(r_load(columns + r * LANES + g * REG_LANES));
            UNROLL(k, TILE_OUTPUTS) {
                const reg w = r_keep(r_load(weighted + k * LANES + g * REG_LANES));
                UNROLL(r, TILE_ROWS) {
                    reg *to = &sum[k * TILE_ROWS + r].r[g];
                    *to = r_fma(x[r], w, *to);
                }
            }
        }
    vsums(sum, TILE_ROWS * TILE_OUTPUTS, sums);
}

/* out (K, width) = the inner products of K weighted columns and `width` columns, or of K = width
 * the upper triangle of them; with `add` they are added. What a tile has beyond is not used. */
static void column_gram(ptrdiff_t strips, const real *columns, ptrdiff_t width, ptrdiff_t apart,
                        const real *weighted, ptrdiff_t K, ptrdiff_t weighted_apart, int upper,
                        int add, double *out) {
    real sums[TILE_ROWS * TILE_OUTPUTS + REG_LANES];
    for (ptrdiff_t k = 0; k < K; k += TILE_OUTPUTS)
        for (ptrdiff_t d = upper ? k : 0; d < width; d += TILE_ROWS) {
            column_products(strips, columns + d * LANES, apart, weighted + k * LANES,
                            weighted_apart, sums);
            for (ptrdiff_t i = 0; i < MIN(TILE_OUTPUTS, K - k); i++)
                for (ptrdiff_t j = 0; j < MIN(TILE_ROWS, width - d); j++) {
                    double *to = out + (k + i) * width + d + j;
                    *to = sums[i * TILE_ROWS + j] + (add ? *to : 0);
                }
        }
}

/* scores of a strip of columns */
static void scores_of_columns(const real *columns, ptrdiff_t width, const real *W, ptrdiff_t R,
                              real *S) {
    for (ptrdiff_t c = 0; c < R; c++, W += width) {
        vec sum[2] = {vset1(0), vset1(0)};
        ptrdiff_t d = 0;
        for (; d + 2 <= width; d += 2)
            UNROLL(i, 2) sum[i] = vfma(vset1(W[d + i]), vload(columns + (d + i) * LANES), sum[i]);
        if (d < width) sum[0] = vfma(vset1(W[d]), vload(columns + d * LANES), sum[0]);
        vstore(S + c * LANES, vadd(sum[0], sum[1]));
    }
}

/* The loss of n rows from `first`; `sums` of gradient and Hessian as in a node. */
static double narrow_chunk(const softline_newton *p, const newton_room *m, ptrdiff_t first,
                           ptrdiff_t n, double *sums, int add) {
    const ptrdiff_t D = p->D, R = p->R, width = D + 1, strips = STEPS(n, LANES);
    const ptrdiff_t apart = STEPS(width, LANES) * LANES * LANES;
    double loss = 0;
    for (ptrdiff_t s = 0; s < strips; s++) {
        const ptrdiff_t i = s * LANES, count = MIN(LANES, n - i), row = first + i;
        real *columns = m->turned + s * apart;
        load_columns(p->X, p->idx + row, count, p->n - row - count, D, m->packed, columns);
        vstore(columns + D * LANES, vset1(p->fit_intercept));
        scores_of_columns(columns, width, p->trial, R, m->dS + i * R);
        loss += probs_of_strip(p, m, i, count, p->labels + row);
    }
    column_gram(strips, m->turned, width, apart, m->dS, R, R * LANES, 0, add, sums);
    sums += R * width;
    for (ptrdiff_t a = 0; a < R; a++)
        for (ptrdiff_t b = a; b < R; b++, sums += width * width) {
            for (ptrdiff_t s = 0; s < strips; s++) {
                const vec h = pair_weight(p, m, s * LANES, n, a, b);
                const real *columns = m->turned + s * apart;
                real *weighted = m->packed + s * apart;
                for (ptrdiff_t d = 0; d < width; d++)
                    vstore(weighted + d * LANES, vmul(h, vload(columns + d * LANES)));
            }
            column_gram(strips, m->turned, width, apart, m->packed, width, apart, 1, add, sums);
        }
    return loss;
}

static void newton_block(const void *pass, int thread, ptrdiff_t block, double *node) {
    const softline_newton *p = pass;
    const newton_room m = newton_room_of(p, thread);
    const ptrdiff_t R = p->R, width = p->D + 1, end = MIN((block + 1) * SOFTLINE_BLOCK, p->n);
    int add = 0;
    node[0] = 0;
    for (ptrdiff_t first = block * SOFTLINE_BLOCK, n; first < end; first += n, add = 1) {
        n = MIN(SOFTLINE_NEWTON_ROWS, end - first);
        for (ptrdiff_t r = 0; r < n; r++) m.weight[r] = weight_of(p->row_weight, first + r);
        if (width <= NARROW) {
            node[0] += narrow_chunk(p, &m, first, n, node + 1, add);
            continue;
        }
        node[0] += chunk_probs(p, &m, first, n);
        const product g = {m.packed, m.dS, m.strip, n, width, R, node + 1, width, add};
        gradient(&g, width, NULL, NULL);
        double *H = node + 1 + R * width;
        for (ptrdiff_t a = 0; a < R; a++)
            for (ptrdiff_t b = a; b < R; b++, H += width * width)
                for (ptrdiff_t k = 0; k < width; k += LANES) {
                    const ptrdiff_t count = MIN(LANES, width - k);
                    weigh(p, &m, n, k, count, a, b);
                    const product h = {m.packed + softline_packed(k, LANES),
                                       m.weighted,
                                       m.strip,
                                       n,
                                       width - k,
                                       count,
                                       H + k * width + k,
                                       width,
                                       add};
                    gradient(&h, width, NULL, NULL);
                }
    }
}

/* ---- one thread: what comes of a pass ----------------------------------------------------------
 */

/* The Hessian of the sums, in the coordinates in which its diagonal is 1; `roots` of that diagonal.
 * A ridge covers what rounding leaves undecided. */
static void scaled_hessian(softline_newton *p, const double *sums) {
    const ptrdiff_t R = p->R, width = p->D + 1, M = R * width;
    const double *H = sums + 1 + R * width;
    double *A = p->hessian, *roots = p->roots;
    for (ptrdiff_t a = 0; a < R; a++)
        for (ptrdiff_t b = a; b < R; b++, H += width * width)
            for (ptrdiff_t k = 0; k < width; k++)
                for (ptrdiff_t d = k; d < width; d++) {
                    const double h = p->scale * H[k * width + d];
                    const ptrdiff_t ak = a * width + k, bd = b * width + d;
                    const ptrdiff_t ad = a * width + d, bk = b * width + k;
                    A[ak * M + bd] = A[bd * M + ak] = h;
                    A[ad * M + bk] = A[bk * M + ad] = h;
                }
    for (ptrdiff_t i = 0; i < M; i++) {
        const double diagonal = fmax(A[i * M + i], 0) + p->l2[i % width];
        A[i * M + i] = diagonal > 0;
        roots[i] = diagonal > DBL_MIN ? sqrt(diagonal) : 1;
    }
    for (ptrdiff_t i = 0; i < M; i++)
        for (ptrdiff_t j = 0; j < M; j++)
            if (j == i)
                A[i * M + i] += p->ridge;
            else
                A[i * M + j] /= roots[i] * roots[j];
}

/* The step from Z to the minimum of the model of the objective there. */
static void newton_step(softline_newton *p) {
    const ptrdiff_t width = p->D + 1, M = p->R * width;
    real *U = p->vectors, *V = U + M, *first = V + M, *before = first + M, *l1 = before + M;
    real *room = p->copy;
    for (ptrdiff_t i = 0; i < M; i++) U[i] = p->gradient[i] / p->roots[i];
    if (!p->l1) {
        for (ptrdiff_t i = 0; i < M * M; i++) room[i] = p->hessian[i];
        solve(M, room, U);
        for (ptrdiff_t i = 0; i < M; i++) p->step[i] = -U[i] / p->roots[i];
    } else {
        for (ptrdiff_t i = 0; i < M; i++) {
            l1[i] = p->l1[i % width] / p->roots[i];
            V[i] = first[i] = p->Z[i] * p->roots[i];
        }
        for (int round = 0; round < SOFTLINE_NEWTON_SUBSPACES; round++) {
            for (ptrdiff_t i = 0; i < M; i++) before[i] = V[i];
            descend(M, p->hessian, l1, U, V, 0.05, 100);
            minimize_on_support(M, p->hessian, l1, U, V, room);
            if (farthest(M, V, before) <= 1e-3 * farthest(M, V, first)) break;
        }
        for (ptrdiff_t i = 0; i < M; i++) p->step[i] = V[i] / p->roots[i] - p->Z[i];
    }
}

/* What is added to all classes alike changes nothing but a penalty: where there is none, rounding
 * must not become a step. */
static void without_common_step(softline_newton *p) {
    const ptrdiff_t width = p->D + 1;
    for (ptrdiff_t d = 0; d < width && p->R > 1; d++) {
        if (p->l2[d] > 0 || (p->l1 && p->l1[d] > 0)) continue;
        double mean = 0;
        for (ptrdiff_t c = 0; c < p->R; c++) mean += p->step[c * width + d] / p->R;
        for (ptrdiff_t c = 0; c < p->R; c++) p->step[c * width + d] -= mean;
    }
}

/* What the L1 penalty adds along a step from Z. */
static double l1_along(const softline_newton *p, const real *Z, const real *step) {
    const ptrdiff_t width = p->D + 1;
    double sum = 0;
    for (ptrdiff_t i = 0; p->l1 && i < p->R * width; i++)
        sum += p->l1[i % width] * (fabs(Z[i] + step[i]) - fabs(Z[i]));
    return sum;
}

/* The slope of the objective where a step has led, as seen from where it came. */
static double slope_at_trial(const softline_newton *p) {
    const ptrdiff_t width = p->D + 1, M = p->R * width;
    double slope = inner(M, p->trial_gradient, p->step);
    for (ptrdiff_t i = 0; p->l1 && i < M; i++)
        slope += p->l1[i % width] * (p->trial[i] == 0  ? -fabs(p->step[i])
                                     : p->trial[i] > 0 ? p->step[i]
                                                       : -p->step[i]);
    return slope;
}

/* Whether the trial is a step: it descends enough, or where gains are lost in rounding, its slope
 * is not much uphill (the approximate Wolfe conditions of Hager and Zhang, 2005). */
static int accepts(const softline_newton *p, double value, double slack) {
    const double gain = p->value - value;
    if (gain >= -1e-4 * p->t * p->slope && gain > 0) return 1;
    return fabs(gain) <= slack && slope_at_trial(p) <= -0.8 * p->slope;
}

static void try_at(softline_newton *p, double t) {
    p->t = t;
    for (ptrdiff_t i = 0; i < p->R * (p->D + 1); i++) p->trial[i] = p->Z[i] + t * p->step[i];
}

static void give_up(softline_newton *p) {
    p->done = 1;
    if (p->status == SOFTLINE_SEARCHING) p->status = SOFTLINE_STUCK;
}

/* By what factor the model has promised too little, at least 1: before a step it promised a gain;
 * since then the value fell, and another gain is promised now. */
static double underestimated(const softline_newton *p, double promised) {
    double factor = 1;
    for (ptrdiff_t i = 0; i < SOFTLINE_NEWTON_RECENT; i++)
        if (p->gains[i] > 0)
            factor = fmax(factor, (p->values[i] - p->value + promised) / p->gains[i]);
    return factor;
}

/* The state that a step has led to: whether the search is over, else where to try next. */
static void plan(softline_newton *p) {
    const ptrdiff_t M = p->R * (p->D + 1);
    if (p->by_columns)
        step_by_columns(p);
    else
        newton_step(p);
    without_common_step(p);
    p->slope = inner(M, p->gradient, p->step) + l1_along(p, p->Z, p->step);
    const double promised = fabs(p->slope) / 2;
    const double dual_gap =
        p->l1 ? softline_duality_gap(p->R, p->D + 1, p->Z, p->value, p->gradient, p->l2, p->l1)
              : INFINITY;
    if (p->boost == 1) p->lower = fmax(p->lower, p->value - dual_gap);
    const double gap = p->by_columns ? p->value - p->lower : promised * underestimated(p, promised);
    if (!isfinite(p->value + promised)) {
        give_up(p);
        return;
    }
    if (p->boost > 1) {
        p->trials = 0;
        try_at(p, 1);
        return;
    }
    /* Where rounding hides what is left to gain, steps that leave as much to gain are in vain. */
    p->stalled++;
    if (gap < p->gap || p->value < p->best_value - p->slack * fabs(p->best_value)) {
        for (ptrdiff_t i = 0; i < M; i++) p->best[i] = p->Z[i];
        p->best_value = p->value, p->gap = gap, p->stalled = 0;
    }
    const double allowed = fmin(1000 * p->tol, 0.1) * p->tol * fmax(p->best_value, p->tol);
    const int more = p->n_iter < p->max_iter, was_converged = p->status == SOFTLINE_CONVERGED;
    /* A gap that rounding hides is none; tol = 0 asks for all. */
    const double hidden = p->tol > 0 && more ? p->slack * fabs(p->best_value) : 0;
    p->status = p->gap <= fmax(allowed, hidden) ? SOFTLINE_CONVERGED : SOFTLINE_SEARCHING;
    /* A duality gap is certain. Else Newton's last step is there: it is taken, too. */
    const int enough = p->by_columns ? p->gap <= allowed
                                     : p->gap <= SOFTLINE_NEWTON_AIM * allowed &&
                                           (was_converged || p->n_iter == 0);
    p->done = enough || !more || p->stalled == 10;
    if (p->done) return;
    if (!(p->slope < 0)) {
        give_up(p);
        return;
    }
    p->trials = 0;
    try_at(p, 1);
}

/* The objective at the trial. */
static double value_at_trial(const softline_newton *p, const double *sums) {
    const ptrdiff_t width = p->D + 1;
    double value = p->scale * sums[0];
    for (ptrdiff_t i = 0; i < p->R * width; i++) {
        const real z = p->trial[i];
        value += p->l2[i % width] * z * z / 2 + (p->l1 ? p->l1[i % width] * fabs(z) : 0);
    }
    return value;
}

/* The L1 penalty is `boost` times as large as it will be, a power of 2: large first, so that few
 * weights are not zero on the way to the minimum. It halves from step to step, by a quarter of
 * max_iter. */
static void lower_penalty(softline_newton *p) {
    const ptrdiff_t width = p->D + 1, M = p->R * width;
    double boost = fmax(1, p->boost / 2);
    if (p->n_iter == 0) {
        double wanted = 1;
        int begun = 0; /* from weights that may be near the minimum */
        for (ptrdiff_t i = 0; i < M; i++) {
            begun |= p->Z[i] != 0;
            if (p->l1[i % width] > 0)
                wanted = fmax(wanted, fabs(p->gradient[i]) / p->l1[i % width]);
        }
        for (ptrdiff_t i = 0; !begun && i < MIN(SOFTLINE_MOST_HALVINGS, p->max_iter / 4); i++)
            if (4 * boost <= wanted) boost *= 2;
    }
    for (ptrdiff_t d = 0; d < width; d++) p->l1[d] *= boost / p->boost;
    p->boost = boost;
}

/* What a pass at the trial has found. */
static void decide(softline_newton *p, double *sums) {
    const ptrdiff_t width = p->D + 1, M = p->R * width;
    for (ptrdiff_t i = 0; i < M; i++) {
        const ptrdiff_t d = i % width;
        p->trial_gradient[i] = p->scale * sums[1 + i] + p->l2[d] * p->trial[i];
        if (d == p->D && !p->fit_intercept) p->trial_gradient[i] = 0;
    }
    double value = value_at_trial(p, sums);
    if (p->trials >= 0 && !accepts(p, value, p->slack * fabs(p->value))) {
        /* the minimum of the parabola through what is known */
        const double bend = value - p->value - p->t * p->slope;
        const double by = isfinite(bend) && bend > 0 ? -p->t * p->slope / (2 * bend) : 0.25;
        if (++p->trials == 30)
            give_up(p);
        else
            try_at(p, p->t * fmin(0.5, fmax(0.25, by)));
        return;
    }
    if (p->trials >= 0) { /* a step */
        p->values[p->n_iter % SOFTLINE_NEWTON_RECENT] = p->value;
        p->gains[p->n_iter % SOFTLINE_NEWTON_RECENT] = fabs(p->slope) / 2;
        p->n_iter++;
    }
    p->value = value;
    for (ptrdiff_t i = 0; i < M; i++) p->Z[i] = p->trial[i], p->gradient[i] = p->trial_gradient[i];
    if (p->n_iter == p->until) {                          /* the next call goes on from here */
        for (ptrdiff_t i = 0; p->boost > 1 && i < M; i++) /* by the penalty as it will be */
            p->value -= (1 - 1 / p->boost) * p->l1[i % width] * fabs(p->Z[i]);
        p->done = 1;
        p->paused = 1;
        return;
    }
    if (p->by_columns && (p->n_iter == 0 || p->boost > 1)) {
        lower_penalty(p);
        p->value = value_at_trial(p, sums);
    }
    if (!p->by_columns) scaled_hessian(p, sums);
    plan(p);
}

static void newton(void *operands, softline_team *team, int thread) {
    softline_newton *p = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t blocks = STEPS(p->n, SOFTLINE_BLOCK), tasks = STEPS(blocks, p->task_blocks);
    const ptrdiff_t size = softline_newton_node(p->R, p->D + 1);
    if (p->by_columns) { /* one thread */
        turn(p);
        while (!p->done) {
            pass_by_columns(p);
            decide(p, p->nodes);
        }
    }
    while (!p->done) {
        for (ptrdiff_t task; softline_next_task(&w, tasks, &task);) {
            const ptrdiff_t first = task * p->task_blocks,
                            last = MIN(first + p->task_blocks, blocks);
            subtree(p, thread, newton_block, add_node, first, last, size,
                    p->stack + thread * p->depth * size, p->nodes + task * size);
        }
        if (softline_finish(&w, tasks)) {
            merge_along_tree(add_node, p->nodes, tasks, size, size);
            decide(p, p->nodes);
        }
        softline_go_on(&w);
    }
    softline_leave(&w);
}

#endif
