/* The dense kernels, written once over `real`, compiled once per ISA and dtype (see simd.h).
 *
 * Every accumulator belongs to one output and takes its terms in an order fixed by the shapes, so
 * neither tile sizes nor the split over threads can change a bit. */
#include <string.h>

#include "simd.h"
#include "softline.h"

/* Rows per block of `scores` and of `gradient`. */
#define BLOCK_ROWS 32
#define PREFETCH(p) __builtin_prefetch(p, 0, 3)

#define ROW(X, ldx, idx, i) ((X) + ((idx) ? (idx)[i] : (i)) * (ldx))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

/* S[r, k] += x[r] . W[k] for `rows` x `classes` (constants once inlined), over `width` features. */
INLINE void dot_tile(const int rows, const int classes, const real *const *x,
                     const real *const *next, const real *W, ptrdiff_t ldw, ptrdiff_t width,
                     real *S, ptrdiff_t lds) {
    vec sum[TILE_ROWS * TILE_CLASSES];
    UNROLL(i, rows * classes) sum[i] = vset1(0);
    ptrdiff_t d = 0;
    for (; d + LANES <= width; d += LANES) {
        vec xr[TILE_ROWS];
        UNROLL(r, rows) xr[r] = vload(x[r] + d);
        if (next)
            UNROLL(r, rows / 2) PREFETCH(next[2 * r] + d);
        UNROLL(k, classes) {
            vec w = vload(W + k * ldw + d);
            UNROLL(r, rows) sum[r * classes + k] = vfma(xr[r], w, sum[r * classes + k]);
        }
    }
    if (d < width) {
        UNROLL(k, classes) {
            vec w = vload_n(W + k * ldw + d, width - d, 0);
            UNROLL(r, rows)
                sum[r * classes + k] =
                    vfma(vload_n(x[r] + d, width - d, 0), w, sum[r * classes + k]);
        }
    }
    real sums[TILE_ROWS * TILE_CLASSES];
    vsums(sum, rows * classes, sums);
    UNROLL(r, rows)
        UNROLL(k, classes) S[r * lds + k] += sums[r * classes + k];
}

/* All classes of a tile of rows; meanwhile the rows `next` come into the cache. */
INLINE void dot_tiles(const int rows, const real *const *x, const real *const *next, const real *W,
                      ptrdiff_t ldw, ptrdiff_t width, ptrdiff_t C, real *S, ptrdiff_t lds) {
    ptrdiff_t c = 0;
    for (; c + TILE_CLASSES <= C; c += TILE_CLASSES) {
        if (c == 0 && next)
            dot_tile(rows, TILE_CLASSES, x, next, W + c * ldw, ldw, width, S + c, lds);
        else
            dot_tile(rows, TILE_CLASSES, x, NULL, W + c * ldw, ldw, width, S + c, lds);
    }
    switch (C - c) {
#if TILE_CLASSES > 4
    case 4: dot_tile(rows, 4, x, NULL, W + c * ldw, ldw, width, S + c, lds); break;
    case 3: dot_tile(rows, 3, x, NULL, W + c * ldw, ldw, width, S + c, lds); break;
#endif
#if TILE_CLASSES > 2
    case 2: dot_tile(rows, 2, x, NULL, W + c * ldw, ldw, width, S + c, lds); break;
#endif
    case 1: dot_tile(rows, 1, x, NULL, W + c * ldw, ldw, width, S + c, lds); break;
    default: break;
    }
}

static void scores(const real *X, ptrdiff_t ldx, const ptrdiff_t *idx, const ptrdiff_t *next,
                   ptrdiff_t n, ptrdiff_t D, const real *W, ptrdiff_t ldw, const real *b,
                   ptrdiff_t C, real *S, ptrdiff_t lds) {
    const ptrdiff_t block = softline_block(D, LANES);
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t c = 0; c < C; c++) S[i * lds + c] = b ? b[c] : 0;
    for (ptrdiff_t first = 0; first < n; first += BLOCK_ROWS) {
        const ptrdiff_t last = MIN(first + BLOCK_ROWS, n);
        for (ptrdiff_t d = 0; d < D; d += block) {
            const ptrdiff_t width = MIN(block, D - d);
            ptrdiff_t i = first;
            for (; i + TILE_ROWS <= last; i += TILE_ROWS) {
                const real *x[TILE_ROWS], *soon[TILE_ROWS];
                for (int r = 0; r < TILE_ROWS; r++) {
                    x[r] = ROW(X, ldx, idx, i + r) + d;
                    if (next) soon[r] = X + next[i + r] * ldx + d;
                }
                dot_tiles(TILE_ROWS, x, next ? soon : NULL, W + d, ldw, width, C, S + i * lds, lds);
            }
            for (; i < last; i++) {
                const real *x = ROW(X, ldx, idx, i) + d;
                dot_tiles(1, &x, NULL, W + d, ldw, width, C, S + i * lds, lds);
            }
        }
    }
}

/* For the vectors of a row of n elements: `i` is the first element, `count` how many there are. */
#define FOR_VECS(n, i, count)                                                                      \
    for (ptrdiff_t i = 0, count = MIN(LANES, n); i < (n); i += LANES, count = MIN(LANES, (n) - i))

/* Softmax of a strip of LANES rows and C <= FEW_CLASSES classes, one row a lane: T[c] holds class
 * c. Few classes would leave most lanes of a row idle. */
#define FEW_CLASSES 32
#define STRIP [FEW_CLASSES * 64 / sizeof(real)] __attribute__((aligned(64)))

INLINE void strip_load(const real *S, ptrdiff_t lds, ptrdiff_t rows, ptrdiff_t C, real *T) {
    for (ptrdiff_t r = 0; r < LANES; r++)
        for (ptrdiff_t c = 0; c < C; c++) T[c * LANES + r] = r < rows ? S[r * lds + c] : 0;
}

INLINE void strip_store(real *S, ptrdiff_t lds, ptrdiff_t rows, ptrdiff_t C, const real *T) {
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t c = 0; c < C; c++) S[r * lds + c] = T[c * LANES + r];
}

/* T becomes exp(T - largest); the largest scores and the sums, row by row. */
INLINE void strip_exp(real *T, ptrdiff_t C, vec *largest, vec *sum) {
    *largest = vset1(-INFINITY);
    *sum = vset1(0);
    for (ptrdiff_t c = 0; c < C; c++) *largest = vmax(*largest, vload(T + c * LANES));
    for (ptrdiff_t c = 0; c < C; c++) {
        const vec e = vexp(vsub(vload(T + c * LANES), *largest));
        vstore(T + c * LANES, e);
        *sum = vadd(*sum, e);
    }
}

/* The same for a row of many classes, a class a lane; e may be s, or NULL. */
INLINE void row_exp(const real *s, ptrdiff_t C, real *e, real *largest, real *sum) {
    vec high = vset1(-INFINITY), total = vset1(0);
    FOR_VECS(C, c, n) high = vmax(high, vload_n(s + c, n, -INFINITY));
    *largest = vlargest(high);
    FOR_VECS(C, c, n) {
        const vec p = vexp(vsub(vload_n(s + c, n, -INFINITY), vset1(*largest)));
        total = vadd(total, p);
        if (e) vstore_n(e + c, p, n);
    }
    *sum = vsum(total);
}

INLINE real log_of(real a) {
    real lanes[64 / sizeof(real)];
    vstore(lanes, vlog(vset1(a)));
    return lanes[0];
}

INLINE void row_scale(real *s, ptrdiff_t C, real factor) {
    FOR_VECS(C, c, n) vstore_n(s + c, vmul(vload_n(s + c, n, 0), vset1(factor)), n);
}

static void softmax(real *S, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C, int take_log) {
    if (C <= FEW_CLASSES) {
        real T STRIP, L STRIP;
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            const ptrdiff_t rows = MIN(LANES, n - i);
            vec largest, sum;
            strip_load(S + i * lds, lds, rows, C, T);
            if (take_log) memcpy(L, T, C * LANES * sizeof(real));
            strip_exp(T, C, &largest, &sum);
            const vec log_sum = vlog(sum);
            for (ptrdiff_t c = 0; c < C; c++)
                vstore(T + c * LANES, take_log ? vsub(vsub(vload(L + c * LANES), largest), log_sum)
                                               : vdiv(vload(T + c * LANES), sum));
            strip_store(S + i * lds, lds, rows, C, T);
        }
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        real *s = S + i * lds, largest, sum;
        row_exp(s, C, take_log ? NULL : s, &largest, &sum);
        if (!take_log) {
            row_scale(s, C, 1 / sum);
            continue;
        }
        const real log_sum = log_of(sum);
        for (ptrdiff_t c = 0; c < C; c++) s[c] = (s[c] - largest) - log_sum;
    }
}

/* Losses, and with `weight` the gradient in place: log(sum of exp(s - largest)) - (s_y - largest).
 */
INLINE void entropy(real *S, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C, const int32_t *y,
                    const real *weight, real *losses) {
    if (C <= FEW_CLASSES) {
        real T STRIP;
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            const ptrdiff_t rows = MIN(LANES, n - i);
            real *s = S + i * lds, own[64 / sizeof(real)] = {0}, sums[64 / sizeof(real)];
            vec largest, sum;
            strip_load(s, lds, rows, C, T);
            for (ptrdiff_t r = 0; r < rows; r++) own[r] = s[r * lds + y[i + r]];
            strip_exp(T, C, &largest, &sum);
            vstore_n(losses + i, vsub(vlog(sum), vsub(vload(own), largest)), rows);
            if (!weight) continue;
            vstore(sums, sum);
            for (ptrdiff_t r = 0; r < rows; r++) T[y[i + r] * LANES + r] -= sums[r];
            const vec scale = vdiv(vload_n(weight + i, rows, 0), sum);
            for (ptrdiff_t c = 0; c < C; c++)
                vstore(T + c * LANES, vmul(vload(T + c * LANES), scale));
            strip_store(s, lds, rows, C, T);
        }
        return;
    }
    for (ptrdiff_t i = 0; i < n; i++) {
        real *s = S + i * lds, largest, sum;
        const real own = s[y[i]];
        row_exp(s, C, weight ? s : NULL, &largest, &sum);
        losses[i] = log_of(sum) - (own - largest);
        if (!weight) continue;
        s[y[i]] -= sum;
        row_scale(s, C, weight[i] / sum);
    }
}

static void cross_entropy(const real *S, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C, const int32_t *y,
                          real *losses) {
    entropy((real *)S, lds, n, C, y, NULL, losses); /* reads only, without weights */
}

static void cross_entropy_gradient(real *S, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C,
                                   const int32_t *y, const real *weight, real *losses) {
    entropy(S, lds, n, C, y, weight, losses);
}

/* dW[k, 0:vecs] += sum over rows of dS[i, k] X[i, 0:vecs]; `n` elements of the last vector. */
INLINE void gradient_tile(const int classes, const int vecs, const int whole, ptrdiff_t tail,
                          const real *X, ptrdiff_t ldx, const ptrdiff_t *idx, const ptrdiff_t *next,
                          ptrdiff_t first, ptrdiff_t last, const real *dS, ptrdiff_t lds, real *dW,
                          ptrdiff_t ldw, int add) {
    vec sum[GRADIENT_CLASSES][GRADIENT_VECS];
    UNROLL(k, classes)
        UNROLL(v, vecs) {
            const real *p = dW + k * ldw + v * LANES;
            sum[k][v] = !add ? vset1(0) : whole ? vload(p) : vload_n(p, tail, 0);
        }
    for (ptrdiff_t i = first; i < last; i++) {
        const real *x = ROW(X, ldx, idx, i);
        const real *ds = dS + i * lds;
        vec xv[GRADIENT_VECS];
        UNROLL(v, vecs) xv[v] = whole ? vload(x + v * LANES) : vload_n(x, tail, 0);
        if (next && i % 2) {
            const real *soon = X + next[i] * ldx;
            UNROLL(v, vecs) PREFETCH(soon + v * LANES);
        }
        UNROLL(k, classes) {
            const vec s = vset1(ds[k]);
            UNROLL(v, vecs) sum[k][v] = vfma(s, xv[v], sum[k][v]);
        }
    }
    UNROLL(k, classes)
        UNROLL(v, vecs) {
            real *p = dW + k * ldw + v * LANES;
            if (whole)
                vstore(p, sum[k][v]);
            else
                vstore_n(p, sum[k][v], tail);
        }
}

/* All features for a panel of classes, over the rows of one block. */
INLINE void gradient_panel(const int classes, const real *X, ptrdiff_t ldx, const ptrdiff_t *idx,
                           const ptrdiff_t *next, ptrdiff_t first, ptrdiff_t last, ptrdiff_t D,
                           const real *dS, ptrdiff_t lds, real *dW, ptrdiff_t ldw, int add) {
    ptrdiff_t d = 0;
    for (; d + GRADIENT_VECS * LANES <= D; d += GRADIENT_VECS * LANES)
        gradient_tile(classes, GRADIENT_VECS, 1, 0, X + d, ldx, idx, next, first, last, dS, lds,
                      dW + d, ldw, add);
    for (; d + LANES <= D; d += LANES)
        gradient_tile(classes, 1, 1, 0, X + d, ldx, idx, next, first, last, dS, lds, dW + d, ldw,
                      add);
    if (d < D)
        gradient_tile(classes, 1, 0, D - d, X + d, ldx, idx, next, first, last, dS, lds, dW + d,
                      ldw, add);
}

static void gradient(const real *X, ptrdiff_t ldx, const ptrdiff_t *idx, const ptrdiff_t *next,
                     ptrdiff_t n, ptrdiff_t D, const real *dS, ptrdiff_t lds, ptrdiff_t C, real *dW,
                     ptrdiff_t ldw, int add) {
    ptrdiff_t first = 0;
    do { /* once even without rows: dW must then become 0 */
        const ptrdiff_t last = MIN(first + BLOCK_ROWS, n);
        ptrdiff_t c = 0;
#define PANEL(classes)                                                                             \
    for (; c + (classes) <= C; c += (classes))                                                     \
    gradient_panel(classes, X, ldx, idx, c == 0 ? next : NULL, first, last, D, dS + c, lds,        \
                   dW + c * ldw, ldw, add)
        PANEL(GRADIENT_CLASSES);
#if GRADIENT_CLASSES > 5
        PANEL(5);
#endif
#if GRADIENT_CLASSES > 3
        PANEL(3);
#endif
        PANEL(1);
        add = 1;
        first = last;
    } while (first < n);
}

static void bias_gradient(const real *dS, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C, real *db,
                          int add) {
    FOR_VECS(C, c, width) {
        vec sum = add ? vload_n(db + c, width, 0) : vset1(0);
        for (ptrdiff_t i = 0; i < n; i++) sum = vadd(sum, vload_n(dS + i * lds + c, width, 0));
        vstore_n(db + c, sum, width);
    }
}

static void sgd_update(real *W, ptrdiff_t ldw, const real *dW, ptrdiff_t lddw, const real *db,
                       ptrdiff_t C, ptrdiff_t D, real step, real alpha, const real *shift,
                       const real *metric, real *drift) {
    for (ptrdiff_t c = 0; c < C; c++) {
        vec moved = vset1(0);
        FOR_VECS(D, d, n) {
            const vec w = vload_n(W + c * ldw + d, n, 0);
            const vec mu = shift ? vload_n(shift + d, n, 0) : vset1(0);
            vec g = vload_n(dW + c * lddw + d, n, 0);
            if (shift) g = vfma(vset1(-db[c]), mu, g);
            g = vfma(vset1(alpha), w, g);
            vec rate = vset1(-step);
            if (metric) rate = vmul(rate, vload_n(metric + d, n, 0));
            const vec updated = vfma(rate, g, w);
            if (shift) moved = vfma(vsub(updated, w), mu, moved);
            vstore_n(W + c * ldw + d, updated, n);
        }
        if (shift) drift[c] = vsum(moved);
    }
}

static void column_stats(const real *X, ptrdiff_t ldx, const ptrdiff_t *idx, ptrdiff_t n,
                         ptrdiff_t D, const real *weight, real *sum, real *low, real *high) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const real *x = ROW(X, ldx, idx, i);
        const vec w = vset1(weight ? weight[i] : 1);
        FOR_VECS(D, d, n_d) {
            const vec v = vload_n(x + d, n_d, 0);
            vstore_n(sum + d, vfma(w, v, vload_n(sum + d, n_d, 0)), n_d);
            vstore_n(low + d, vmin(v, vload_n(low + d, n_d, 0)), n_d);
            vstore_n(high + d, vmax(v, vload_n(high + d, n_d, 0)), n_d);
        }
    }
}

#ifdef SOFTLINE_DOUBLE
#define TABLE softline_f64
#else
#define TABLE softline_f32
#endif

const TABLE SOFTLINE_TABLE = {
    scores,   softmax,       cross_entropy, cross_entropy_gradient,
    gradient, bias_gradient, sgd_update,    column_stats,
};
