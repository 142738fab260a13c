/* What a step of L-BFGS costs beside the passes over the rows: its preconditioner, and the two
 * loops over the steps in memory. */
#include "elements.h"
#include "simd.h"
#include "softline.h"

/* out = G times the inverse of the average curvature, row by row: U = (G - its last element times
 * the mean) / roots; U V V^T, V (n, n) being upper triangular, the rows X idx, or without X the
 * identity; then / roots, and the last element less the others times the mean. G and out are
 * float64, whatever V is. shift: mean (n - 1), metric: roots (n), both float64; shared: U in
 * strips, U V; room of a thread: packed rows of V, a strip of U V V^T. */
static void precondition(void *operands, softline_team *team, int thread) {
    const softline_call *c = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t n = c->n, R = c->A.rows, strips = STEPS(n, LANES), ld = strips * LANES;
    const ptrdiff_t slab = softline_slab(n, LANES);
    const double *mean = c->shift, *roots = c->metric;
    real *U = c->shared, *UV = U + R * ld;
    real *packed = (real *)c->room + thread * c->room_size, *S = packed + c->strips;
    for (ptrdiff_t r; softline_next_task(&w, R, &r);) {
        const double *g = (const double *)c->A.at + r * c->A.ld;
        double *out = (double *)c->out.at + r * c->out.ld;
        for (ptrdiff_t d = 0; d < n; d++) {
            out[d] = (d < n - 1 ? g[d] - g[n - 1] * mean[d] : g[d]) / roots[d];
            if (c->X) U[(d / LANES * R + r) * LANES + d % LANES] = (real)out[d];
        }
    }
    softline_finish(&w, R);
    softline_go_on(&w);
    const ptrdiff_t slabs = c->X ? STEPS(n, slab) : 0;
    if (slabs) {
        for (ptrdiff_t task; softline_next_task(&w, slabs, &task);) {
            const ptrdiff_t col = task * slab, width = MIN(slab, n - col);
            gradient_of_slab(c->X, c->idx, col + width, col, width, slab, U, R, packed, UV + col,
                             ld); /* the rows below are zeros there */
        }
        softline_finish(&w, slabs);
        softline_go_on(&w);
        for (ptrdiff_t i; softline_next_task(&w, strips, &i);) {
            const ptrdiff_t first = i * LANES, count = MIN(LANES, n - first);
            scores(c->X, c->idx + first, count, first, n - first, packed, softline_packed(n, LANES),
                   UV + first, ld, R, S, NULL);
            for (ptrdiff_t r = 0; r < R; r++)
                for (ptrdiff_t k = 0; k < count; k++)
                    ((double *)c->out.at)[r * c->out.ld + first + k] = S[r * LANES + k];
        }
        softline_finish(&w, strips);
        softline_go_on(&w);
    }
    for (ptrdiff_t r; softline_next_task(&w, R, &r);) {
        double *out = (double *)c->out.at + r * c->out.ld, sum = 0;
        for (ptrdiff_t d = 0; d < n; d++) out[d] /= roots[d];
        for (ptrdiff_t d = 0; d < n - 1; d++) sum += out[d] * mean[d];
        out[n - 1] -= sum;
    }
    softline_end(&w, R);
}

#ifdef SOFTLINE_DOUBLE

/* y += a x; then the inner product of y and z. */
static real add_then_inner(ptrdiff_t n, real a, const real *x, real *y, const real *z) {
    enum { AT_ONCE = 4 };
    const vec by = vset1(a);
    vec sum[AT_ONCE];
    ptrdiff_t i = 0;
    UNROLL(k, AT_ONCE) sum[k] = vset1(0);
    for (; i + AT_ONCE * LANES <= n; i += AT_ONCE * LANES)
        UNROLL(k, AT_ONCE) {
            const ptrdiff_t at = i + k * LANES;
            const vec new_y = vfma(by, vload(x + at), vload(y + at));
            vstore(y + at, new_y);
            sum[k] = vfma(new_y, vload(z + at), sum[k]);
        }
    FOR_VECS(n - i, j, m) {
        const ptrdiff_t at = i + j;
        const vec new_y = vfma(by, vload_n(x + at, m, 0), vload_n(y + at, m, 0));
        vstore_n(y + at, new_y, m);
        sum[0] = vfma(new_y, vload_n(z + at, m, 0), sum[0]);
    }
    return vsum(vadd(vadd(sum[0], sum[1]), vadd(sum[2], sum[3])));
}

/* The loops of Nocedal and Wright (2006), algorithm 7.4. Pair order[i] of steps and changes (any,
 * M) is the i-th of `count`, oldest first; slopes[j] is the inner product of pair j. */
static void first_loop(ptrdiff_t M, ptrdiff_t count, const double *steps, const double *changes,
                       const double *slopes, const ptrdiff_t *order, double *G, double *shares) {
    double along = count ? inner(M, steps + order[count - 1] * M, G) : 0;
    for (ptrdiff_t i = count - 1; i >= 0; i--) {
        const double *change = changes + order[i] * M;
        shares[i] = along / slopes[order[i]];
        if (i)
            along = add_then_inner(M, -shares[i], change, G, steps + order[i - 1] * M);
        else
            add_scaled(M, -shares[i], change, G);
    }
}

static void second_loop(ptrdiff_t M, ptrdiff_t count, const double *steps, const double *changes,
                        const double *slopes, const ptrdiff_t *order, double *D,
                        const double *shares) {
    double along = count ? inner(M, changes + order[0] * M, D) : 0;
    for (ptrdiff_t i = 0; i < count; i++) {
        const double *step = steps + order[i] * M;
        const double by = shares[i] - along / slopes[order[i]];
        if (i + 1 < count)
            along = add_then_inner(M, by, step, D, changes + order[i + 1] * M);
        else
            add_scaled(M, by, step, D);
    }
}

#endif
