/* Minima of quadratic models: symmetric systems, and coordinate descent with an L1 penalty. */
#include <float.h>
#include <math.h>

#include "elements.h"
#include "simd.h"
#include "softline.h"

#ifdef SOFTLINE_DOUBLE

/* ---- vectors, matrices --------------------------------------------------------------------------
 */

/* Rows of a matrix that are factorised together. */
enum { SOLVED_ROWS = 4 };
/* Most systems for a minimum on a support. */
enum { MOST_SOLVES = 8 };

/* y += a x */
static void add_scaled(ptrdiff_t n, real a, const real *x, real *y) {
    const vec by = vset1(a);
    FOR_VECS(n, i, m) vstore_n(y + i, vfma(by, vload_n(x + i, m, 0), vload_n(y + i, m, 0)), m);
}

static real inner(ptrdiff_t n, const real *x, const real *y) {
    vec sum = vset1(0);
    FOR_VECS(n, i, m) sum = vfma(vload_n(x + i, m, 0), vload_n(y + i, m, 0), sum);
    return vsum(sum);
}

/* The largest |x - y|. */
static real farthest(ptrdiff_t n, const real *x, const real *y) {
    real most = 0;
    for (ptrdiff_t i = 0; i < n; i++) most = fmax(most, fabs(x[i] - y[i]));
    return most;
}

/* Rows j to j + rows of A, from column j on, less what the rows above have in common with them:
 * A[j, d] -= sum of A[i, j] A[i, d] over i < above. */
INLINE void less_above(const int rows, ptrdiff_t n, real *A, ptrdiff_t above, ptrdiff_t j) {
    FOR_VECS(n - j, k, m) {
        vec sum[SOLVED_ROWS];
        UNROLL(r, rows) sum[r] = vload_n(A + (j + r) * n + j + k, m, 0);
        for (ptrdiff_t i = 0; i < above; i++) {
            const real *row = A + i * n + j;
            const vec x = m == LANES ? vload(row + k) : vload_n(row + k, m, 0);
            UNROLL(r, rows) sum[r] = vfma(vset1(-row[r]), x, sum[r]);
        }
        UNROLL(r, rows) vstore_n(A + (j + r) * n + j + k, sum[r], m);
    }
}

/* x := A^-1 x for a symmetric A (n, n), of which the upper triangle is read and overwritten. A
 * coordinate whose pivot is below an ulp of 1, where only rounding is left, becomes 0. */
static void solve(ptrdiff_t n, real *A, real *x) {
    for (ptrdiff_t first = 0; first < n; first += SOLVED_ROWS) {
        const ptrdiff_t last = MIN(first + SOLVED_ROWS, n);
        if (last - first == SOLVED_ROWS)
            less_above(SOLVED_ROWS, n, A, first, first);
        else
            for (ptrdiff_t j = first; j < last; j++) less_above(1, n, A, first, j);
        for (ptrdiff_t i = first; i < last; i++) {
            real *row = A + i * n;
            const real pivot = row[i] >= DBL_EPSILON ? 1 / sqrt(row[i]) : 0;
            row[i] = pivot;
            for (ptrdiff_t k = i + 1; k < n; k++) row[k] *= pivot;
            for (ptrdiff_t j = i + 1; j < last; j++)
                add_scaled(n - j, -row[j], row + j, A + j * n + j);
            x[i] *= pivot;
            add_scaled(n - i - 1, -x[i], row + i + 1, x + i + 1);
        }
    }
    for (ptrdiff_t i = n - 1; i >= 0; i--)
        x[i] = (x[i] - inner(n - i - 1, A + i * n + i + 1, x + i + 1)) * A[i * n + i];
}

/* ---- with an L1 penalty -------------------------------------------------------------------------
 */

/* Where a coordinate v, of this curvature and slope, and its penalty l1 |v| are least. */
INLINE double coordinate_minimum(double curvature, double v, double slope, double l1) {
    const double free = curvature * v - slope;
    return copysign(fmax(fabs(free) - l1, 0), free) / curvature;
}

/* Whether coordinate descent goes on after a sweep that has moved by `most`: over what is not 0
 * until that moves no more, then over `every` coordinate. */
INLINE int sweeps_on(double most, double enough, int *every) {
    const int was_every = *every;
    *every = !(most > enough);
    return !(was_every && *every);
}

/* V becomes the minimum of slope (V - Z) + (V - Z) A (V - Z)/2 + sum(l1 |V|), one coordinate at a
 * time; slopes follow. As coordinate_descent of the reference. */
static void descend(ptrdiff_t M, const real *A, const real *l1, real *slope, real *V, double tol,
                    ptrdiff_t most_rounds) {
    double enough = 0;
    int every = 1;
    for (ptrdiff_t round = 0; round < most_rounds; round++) {
        double most = 0;
        for (ptrdiff_t i = 0; i < M; i++) {
            if (!every && V[i] == 0) continue;
            const double curvature = A[i * M + i];
            const double best = coordinate_minimum(curvature, V[i], slope[i], l1[i]);
            const double moved = best - V[i];
            if (moved == 0) continue;
            V[i] = best;
            add_scaled(M, moved, A + i * M, slope);
            most = fmax(most, fabs(moved) * sqrt(curvature));
        }
        if (round == 0) enough = tol * most;
        if (!sweeps_on(most, enough, &every)) break;
    }
}

/* What V + change gains over V in the model slope V + V A V/2 + sum(l1 |V|), if it is below 0. */
static double change_of_model(ptrdiff_t M, const real *l1, const real *slope, const real *new_slope,
                              const real *V, const real *new_V) {
    double change = 0;
    for (ptrdiff_t i = 0; i < M; i++)
        change += (slope[i] + new_slope[i]) / 2 * (new_V[i] - V[i]) +
                  l1[i] * (fabs(new_V[i]) - fabs(V[i]));
    return change;
}

/* Moves what is not 0 in V towards the minimum of slope d + d A d/2 + sum(l1 |V + d|), a function
 * of d: where features are nearly the same, coordinate descent would take thousands of rounds for
 * it. A coordinate that would change its sign becomes 0; where so many do that nothing is gained,
 * a shorter step is tried. `slope` follows; room: M * M + 4 M. */
static void minimize_on_support(ptrdiff_t M, const real *A, const real *l1, real *slope, real *V,
                                real *room) {
    real *within = room, *step = within + M * M, *new_V = step + M, *new_slope = new_V + M;
    ptrdiff_t *support = (ptrdiff_t *)(new_slope + M), count;
    for (int crossed = 1, round = 0; crossed && round < MOST_SOLVES; round++) {
        count = 0;
        for (ptrdiff_t i = 0; i < M; i++)
            if (V[i] != 0) support[count++] = i;
        for (ptrdiff_t i = 0; i < count; i++) {
            const ptrdiff_t at = support[i];
            for (ptrdiff_t j = i; j < count; j++) within[i * count + j] = A[at * M + support[j]];
            step[i] = -(slope[at] + copysign(l1[at], V[at]));
        }
        solve(count, within, step);
        /* how far until the first becomes 0 */
        double nearest = 1, change = INFINITY;
        for (ptrdiff_t i = 0; i < count; i++)
            if (l1[support[i]] > 0 && step[i] * V[support[i]] < 0)
                nearest = fmin(nearest, -V[support[i]] / step[i]);
        for (double t = 1; !(change < 0); t = t > 0.3 && t > nearest ? t / 2 : nearest) {
            crossed = 0;
            for (ptrdiff_t i = 0; i < M; i++) new_V[i] = V[i], new_slope[i] = slope[i];
            for (ptrdiff_t i = 0; i < count; i++) {
                const ptrdiff_t at = support[i];
                const double v = V[at] + t * step[i];
                const int crosses = l1[at] > 0 && step[i] * V[at] < 0 && -V[at] / step[i] <= t;
                new_V[at] = crosses ? 0 : v;
                crossed |= crosses;
                add_scaled(M, new_V[at] - V[at], A + at * M, new_slope);
            }
            change = change_of_model(M, l1, slope, new_slope, V, new_V);
            if (t <= nearest) break;
        }
        if (!(change < 0)) return;
        for (ptrdiff_t i = 0; i < M; i++) V[i] = new_V[i], slope[i] = new_slope[i];
    }
}

#endif
