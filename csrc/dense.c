/* The dense kernels, written once over `real`, compiled once per ISA and dtype (see simd.h).
 *
 * Every accumulator belongs to one output and takes its terms in an order fixed by the shapes, so
 * neither tile sizes nor the split over threads can change a bit. */
#include <string.h>

#include "elements.h"
#include "simd.h"
#include "softline.h"

#ifdef SOFTLINE_DOUBLE
typedef softline_f64 table;
typedef softline_f64_update update;
#else
typedef softline_f32 table;
typedef softline_f32_update update;
#endif

#define PREFETCH(p) __builtin_prefetch(p, 0, 2)
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define STEPS(n, size) (((n) + (size) - 1) / (size))

/* ---- pack: rows as they come become tiles of `real` ------------------------------------------ */

INLINE void pack_as(const int dtype, const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n,
                    ptrdiff_t col, ptrdiff_t D, const real *shift, const real *scale, real *out) {
    const char *data = X->data + col * X->column_bytes;
    for (ptrdiff_t d = 0; d < D; d += LANES, out += TILE) {
        const ptrdiff_t width = MIN(LANES, D - d);
        const vec mu = shift ? vload_n(shift + d, width, 0) : vset1(0);
        const vec by = scale ? vload_n(scale + d, width, 0) : vset1(1);
        for (ptrdiff_t r = 0; r < n; r++) {
            const char *x = data + idx[r] * X->row_bytes + d * X->column_bytes;
            vec v = vload_elements(dtype, x, X->column_bytes, width);
            if (shift) v = vsub(v, mu);
            if (scale) v = vmul(v, by);
            vstore(out + r * LANES, v);
        }
    }
}

static void pack(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col,
                 ptrdiff_t D, real *out, ptrdiff_t strip) {
    const real *shift = X->shift ? (const real *)X->shift + col : NULL;
    const real *scale = X->scale ? (const real *)X->scale + col : NULL;
#define PACK_AS(dtype)                                                                             \
    case dtype: pack_as(dtype, X, idx + i, MIN(LANES, n - i), col, D, shift, scale, out); break
    for (ptrdiff_t i = 0; i < n; i += LANES, out += strip) switch (X->dtype) {
            PACK_AS(SOFTLINE_F32);
            PACK_AS(SOFTLINE_F64);
            PACK_AS(SOFTLINE_F16);
            PACK_AS(SOFTLINE_BF16);
            PACK_AS(SOFTLINE_U8);
            PACK_AS(SOFTLINE_I8);
        default: break;
        }
}

/* ---- prefetch: rows to come, while others are computed with -----------------------------------
 */

/* The lines of some rows, row by row, asked for a few at a time: memory takes only so many requests
 * at once, and long runs of lines are what processors are made for. */
typedef struct fetch {
    const char *data;
    ptrdiff_t row_bytes, bytes, at, at_once;
    const ptrdiff_t *row, *end;
} fetch;

/* All that is `ahead`, in `steps` calls of fetch_some; nothing where it is NULL, or where rows are
 * spread over too many lines. */
INLINE fetch fetch_of(const softline_ahead *ahead, ptrdiff_t steps) {
    if (!ahead || ahead->X->column_bytes < 1 || ahead->X->column_bytes > 16) return (fetch){0};
    const softline_rows *X = ahead->X;
    const ptrdiff_t bytes = ahead->D * X->column_bytes, lines = STEPS(bytes, 64) * ahead->n;
    return (fetch){.data = X->data + ahead->col * X->column_bytes,
                   .row_bytes = X->row_bytes,
                   .bytes = bytes,
                   .at_once = STEPS(lines, MAX(steps, 1)),
                   .row = ahead->idx,
                   .end = ahead->idx + ahead->n};
}

INLINE void fetch_some(fetch *f) {
    for (ptrdiff_t i = 0; i < f->at_once && f->row < f->end; i++) {
        PREFETCH(f->data + *f->row * f->row_bytes + f->at);
        f->at += 64;
        if (f->at >= f->bytes) {
            f->at = 0;
            f->row++;
        }
    }
}

/* ---- scores ---------------------------------------------------------------------------------- */

/* S[k, r] = W[k] . x[r] for `classes` x `rows` (constants once inlined), x packed; or the
 * rows are at `from` and are packed into x on the way. Meanwhile, rows come that are wanted `soon`.
 */
INLINE void dot_tile(const int rows, const int classes, const real *const *from, fetch *soon,
                     real *x, const real *W, ptrdiff_t ldw, ptrdiff_t D, real *S) {
    vec sum[TILE_ROWS * TILE_CLASSES];
    UNROLL(i, rows * classes) sum[i] = vset1(0);
    ptrdiff_t d = 0;
    for (; d + LANES <= D; d += LANES, x += TILE) {
        /* register by register of the vectors, so that few registers hold operands */
        if (soon) fetch_some(soon);
        UNROLL(g, REGS) {
            reg xr[TILE_ROWS];
            UNROLL(r, rows) {
                real *packed = x + r * LANES + g * REG_LANES;
                xr[r] = r_keep(r_load(from ? from[r] + d + g * REG_LANES : packed));
                if (from) r_store(packed, xr[r]);
            }
            UNROLL(k, classes) {
                const reg w = r_keep(r_load(W + k * ldw + d + g * REG_LANES));
                UNROLL(r, rows) {
                    reg *s = &sum[k * rows + r].r[g];
                    *s = r_fma(xr[r], w, *s);
                }
            }
        }
    }
    if (d < D) {
        if (from)
            UNROLL(r, rows) vstore(x + r * LANES, vload_n(from[r] + d, D - d, 0));
        UNROLL(k, classes) {
            const vec w = vload_n(W + k * ldw + d, D - d, 0);
            UNROLL(r, rows) sum[k * rows + r] = vfma(vload(x + r * LANES), w, sum[k * rows + r]);
        }
    }
    real sums[TILE_ROWS * TILE_CLASSES + REG_LANES];
    vsums(sum, rows * classes, sums);
    UNROLL(k, classes) memcpy(S + k * LANES, sums + k * rows, rows * sizeof(real));
}

/* A panel of classes for a tile of rows; fewer of either at the edges. */
INLINE void dot_panel(const int rows, ptrdiff_t classes, const real *const *from, fetch *soon,
                      real *x, const real *W, ptrdiff_t ldw, ptrdiff_t D, real *S) {
#define DOT(classes)                                                                               \
    case classes: dot_tile(rows, classes, from, soon, x, W, ldw, D, S); break
    switch (classes) {
#if TILE_CLASSES > 4
        DOT(5);
#endif
#if TILE_CLASSES > 3
        DOT(4);
#endif
#if TILE_CLASSES > 2
        DOT(3);
#endif
        DOT(2);
        DOT(1);
    default: break;
    }
}

/* Bytes of W that stay in L1 while rows pass by. */
#define CLASS_BLOCK_BYTES (20 << 10)

static void scores(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col,
                   ptrdiff_t D, real *packed, ptrdiff_t strip, const real *W, ptrdiff_t ldw,
                   ptrdiff_t C, real *S, const softline_ahead *ahead) {
    /* Rows of `real` as they should be are packed while they are first used; short ones before, for
     * then more of them are in flight from memory at once. */
    const int as_is = D > 8 * LANES &&
                      X->dtype == (sizeof(real) == 4 ? SOFTLINE_F32 : SOFTLINE_F64) &&
                      X->column_bytes == sizeof(real) && !X->shift && !X->scale;
    if (!as_is) pack(X, idx, n, col, D, packed, strip);
    const ptrdiff_t fit = CLASS_BLOCK_BYTES / (MAX(D, 1) * (ptrdiff_t)sizeof(real));
    const ptrdiff_t class_block = MAX(fit / TILE_CLASSES, 1) * TILE_CLASSES;
    const char *data = X->data + col * X->column_bytes;
    const ptrdiff_t tiles = n / LANES * STEPS(LANES, TILE_ROWS) + STEPS(n % LANES, TILE_ROWS);
    fetch soon = fetch_of(ahead, tiles * (D / LANES));
    for (ptrdiff_t c0 = 0; c0 < C; c0 += class_block) {
        const ptrdiff_t c1 = MIN(c0 + class_block, C);
        for (ptrdiff_t first = 0; first < n; first += LANES) {
            const ptrdiff_t count = MIN(LANES, n - first);
            real *x = packed + first / LANES * strip, *s = S + first * C;
            for (ptrdiff_t r = 0, rows; r < count; r += rows) {
                /* 16 rows by 3: 3 3 3 3 2 2, never a tile of one row where two of two do */
                rows = MIN(TILE_ROWS, count - r);
                if (TILE_ROWS == 3 && count - r == 4) rows = 2;
                const real *from[TILE_ROWS];
                for (ptrdiff_t i = 0; i < rows; i++)
                    from[i] = (const real *)(data + idx[first + r + i] * X->row_bytes);
                for (ptrdiff_t c = c0; c < c1; c += TILE_CLASSES) {
#define PANEL(rows, from, soon)                                                                    \
    dot_panel(rows, MIN(TILE_CLASSES, c1 - c), from, soon, x + r * LANES, W + c * ldw, ldw, D,     \
              s + c * LANES + r)
#define PANELS(rows)                                                                               \
    case rows:                                                                                     \
        if (c == 0 && as_is && ahead)                                                              \
            PANEL(rows, from, &soon);                                                              \
        else if (c == 0 && as_is)                                                                  \
            PANEL(rows, from, NULL);                                                               \
        else if (c == 0 && ahead)                                                                  \
            PANEL(rows, NULL, &soon);                                                              \
        else                                                                                       \
            PANEL(rows, NULL, NULL);                                                               \
        break
                    switch (rows) {
#if TILE_ROWS > 3
                        PANELS(4);
#endif
#if TILE_ROWS > 2
                        PANELS(3);
#endif
#if TILE_ROWS > 1
                        PANELS(2);
#endif
                        PANELS(1);
                    default: break;
                    }
                }
            }
        }
    }
}

static void add_scores(const real *S, ptrdiff_t part, ptrdiff_t parts, const real *b, ptrdiff_t C,
                       real *out) {
    for (ptrdiff_t c = 0; c < C; c++) {
        vec sum = vset1(b[c]);
        for (ptrdiff_t k = 0; k < parts; k++) sum = vadd(sum, vload(S + k * part + c * LANES));
        vstore(out + c * LANES, sum);
    }
}

/* ---- strips from plain matrices and back ------------------------------------------------------
 */

static void load_strip(const real *M, ptrdiff_t ldm, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t C,
                       real *S) {
    for (ptrdiff_t c = 0; c < C; c += REG_LANES)
        for (ptrdiff_t r = 0; r < n; r += REG_LANES) {
            reg x[REG_LANES];
            UNROLL(i, REG_LANES)
                x[i] = r + i < n ? r_load_n(M + (idx ? idx[r + i] : r + i) * ldm + c, C - c)
                                 : (reg){0};
            r_transpose(x);
            UNROLL(i, REG_LANES)
                if (c + i < C) r_store(S + (c + i) * LANES + r, x[i]);
        }
}

static void store_strip(const real *S, ptrdiff_t n, ptrdiff_t C, real *M, ptrdiff_t ldm) {
    for (ptrdiff_t c = 0; c < C; c += REG_LANES)
        for (ptrdiff_t r = 0; r < n; r += REG_LANES) {
            reg x[REG_LANES];
            UNROLL(i, REG_LANES) x[i] = c + i < C ? r_load(S + (c + i) * LANES + r) : (reg){0};
            r_transpose(x);
            UNROLL(i, REG_LANES)
                if (r + i < n) r_store_n(M + (r + i) * ldm + c, x[i], C - c);
        }
}

/* ---- softmax: a strip of rows, a row a lane -------------------------------------------------- */

/* The largest score and the sum of exp(S - largest) of each row; S becomes the exponentials where
 * `keep`. */
INLINE void strip_exp(real *S, ptrdiff_t C, const int keep, vec *largest, vec *sum) {
    *largest = vset1(-INFINITY);
    *sum = vset1(0);
    for (ptrdiff_t c = 0; c < C; c++) *largest = vmax(*largest, vload(S + c * LANES));
    for (ptrdiff_t c = 0; c < C; c++) {
        const vec e = vexp(vsub(vload(S + c * LANES), *largest));
        if (keep) vstore(S + c * LANES, e);
        *sum = vadd(*sum, e);
    }
}

static void softmax(real *S, ptrdiff_t C, int take_log) {
    vec largest, sum;
    if (take_log) {
        strip_exp(S, C, 0, &largest, &sum);
        const vec log_sum = vlog(sum);
        for (ptrdiff_t c = 0; c < C; c++)
            vstore(S + c * LANES, vsub(vsub(vload(S + c * LANES), largest), log_sum));
    } else {
        strip_exp(S, C, 1, &largest, &sum);
        for (ptrdiff_t c = 0; c < C; c++) vstore(S + c * LANES, vdiv(vload(S + c * LANES), sum));
    }
}

/* Losses, and with `weight` the gradient in place: log(sum of exp(s - largest)) - (s_y - largest).
 */
INLINE void entropy(real *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y, const real *weight,
                    real *losses) {
    real own[64 / sizeof(real)] = {0}, sums[64 / sizeof(real)];
    vec largest, sum;
    for (ptrdiff_t r = 0; r < n; r++) own[r] = S[y[r] * LANES + r];
    strip_exp(S, C, weight != NULL, &largest, &sum);
    vstore_n(losses, vsub(vlog(sum), vsub(vload(own), largest)), n);
    if (!weight) return;
    vstore(sums, sum);
    for (ptrdiff_t r = 0; r < n; r++) S[y[r] * LANES + r] -= sums[r];
    const vec scale = vdiv(vload_n(weight, n, 0), sum);
    for (ptrdiff_t c = 0; c < C; c++) vstore(S + c * LANES, vmul(vload(S + c * LANES), scale));
}

static void cross_entropy(const real *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y, real *losses) {
    entropy((real *)S, n, C, y, NULL, losses); /* reads only, without weights */
}

static void cross_entropy_gradient(real *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y,
                                   const real *weight, real *losses) {
    entropy(S, n, C, y, weight, losses);
}

static void hinge_gradient(real *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y, const real *weight,
                           real *losses) {
    real own[64 / sizeof(real)] = {0}, sums[64 / sizeof(real)];
    vec loss = vset1(0), sum = vset1(0);
    for (ptrdiff_t r = 0; r < n; r++) own[r] = S[y[r] * LANES + r];
    const vec correct = vload(own), by = vload_n(weight, n, 0);
    for (ptrdiff_t c = 0; c < C; c++)
        vstore(S + c * LANES, vadd(vsub(vload(S + c * LANES), correct), vset1(1)));
    for (ptrdiff_t r = 0; r < n; r++) S[y[r] * LANES + r] = 0;
    for (ptrdiff_t c = 0; c < C; c++) {
        const vec margin = vload(S + c * LANES), slope = vselect_positive(margin, by, vset1(0));
        loss = vadd(loss, vmax(vset1(0), margin)); /* in this order NaN stays */
        sum = vadd(sum, slope);
        vstore(S + c * LANES, slope);
    }
    vstore_n(losses, loss, n);
    vstore(sums, sum);
    for (ptrdiff_t r = 0; r < n; r++) S[y[r] * LANES + r] = -sums[r];
}

static void soft_cross_entropy(real *S, ptrdiff_t n, ptrdiff_t C, const real *T, real smoothing,
                               const real *weight, real *losses) {
    const vec keep = vset1(1 - smoothing), spread = vset1(smoothing / C);
#define TARGET(c) vfma(keep, vload(T + (c) * LANES), spread)
    vec largest = vset1(-INFINITY), mass = vset1(0), own = vset1(0), sum;
    for (ptrdiff_t c = 0; c < C; c++) largest = vmax(largest, vload(S + c * LANES));
    for (ptrdiff_t c = 0; c < C; c++) {
        const vec t = TARGET(c);
        mass = vadd(mass, t);
        own = vadd(own, vmul_or_0(t, vsub(vload(S + c * LANES), largest)));
    }
    strip_exp(S, C, weight != NULL, &largest, &sum);
    vstore_n(losses, vsub(vmul(mass, vlog(sum)), own), n);
    if (!weight) return;
    const vec by = vload_n(weight, n, 0), scale = vdiv(by, sum);
    for (ptrdiff_t c = 0; c < C; c++)
        vstore(S + c * LANES, vsub(vmul(vload(S + c * LANES), scale), vmul(by, TARGET(c))));
#undef TARGET
}

/* ---- gradient and update --------------------------------------------------------------------- */

static void bias_gradient(const real *dS, ptrdiff_t n, ptrdiff_t C, real *sums, real *db, int add) {
    for (ptrdiff_t c = 0; c < C; c++) {
        vec sum = add ? vload(sums + c * LANES) : vset1(0);
        for (ptrdiff_t first = 0; first < n; first += LANES)
            sum = vadd(sum, vload_n(dS + first * C + c * LANES, n - first, 0));
        vstore(sums + c * LANES, sum);
        db[c] = vsum(sum);
    }
}

/* Step of class c over the n <= LANES features at d; g is the gradient without the penalty. Where
 * the flags are constants (`full`: n is LANES; whether there are shift and metric), so is the path.
 */
INLINE void update_vec(const int full, const int shift, const int metric, const update *u,
                       ptrdiff_t c, ptrdiff_t d, ptrdiff_t n, vec g) {
#define LOAD(p) (full ? vload(p) : vload_n(p, n, 0))
    real *W = u->W + c * u->ldw + d;
    const vec w = LOAD(W), mu = shift ? LOAD(u->shift + d) : vset1(0);
    if (shift) g = vfma(vset1(-u->db[c]), mu, g);
    g = vfma(vset1(u->alpha), w, g);
    vec rate = vset1(-u->step);
    if (metric) rate = vmul(rate, LOAD(u->metric + d));
    const vec updated = vfma(rate, g, w);
    if (shift) {
        real *moved = u->drift + c * LANES;
        vstore(moved, vfma(vsub(updated, w), mu, vload(moved)));
    }
    if (full)
        vstore(W, updated);
    else
        vstore_n(W, updated, n);
#undef LOAD
}

INLINE void clear_drift(const update *u, ptrdiff_t C) {
    if (!u->shift) return;
    for (ptrdiff_t c = 0; c < C; c++) vstore(u->drift + c * LANES, vset1(0));
}

/* What weights w with gradient g become by a rule; its state m and v follow. `metric` may be NULL:
 * gradients to features divided by 1/sqrt(metric) are g sqrt(metric), and steps are back. */
INLINE vec step_by(const int kind, const softline_rule *rule, real step, real decay, real l1, vec w,
                   vec g, const vec *metric, vec *m, vec *v) {
    vec rate = metric ? vmul(vset1(step), *metric) : vset1(step), by = rate;
    if (kind == SOFTLINE_MOMENTUM || kind == SOFTLINE_NESTEROV) {
        const vec beta = vset1((real)rule->beta);
        *m = vfma(beta, *m, g);
        g = kind == SOFTLINE_NESTEROV ? vfma(beta, *m, g) : *m;
    }
    if (kind == SOFTLINE_SCALED || kind == SOFTLINE_ADAM) {
        const vec root = metric ? vsqrt(*metric) : vset1(1);
        g = vmul(g, root);
        *v = vfma(vset1((real)rule->take), vmul(g, g), vmul(vset1((real)rule->keep), *v));
        const vec size = vfma(vset1((real)rule->root), vsqrt(*v), vset1((real)rule->eps));
        if (kind == SOFTLINE_ADAM) {
            *m = vfma(vset1((real)(1 - rule->beta)), vsub(g, *m), *m);
            g = *m;
        }
        g = vdiv(g, size);
        by = vmul(vset1(step), root);
        if (l1 > 0) rate = vdiv(rate, size);
    }
    w = vfma(vsub(vset1(0), by), g, kind == SOFTLINE_ADAM ? vmul(vset1(decay), w) : w);
    if (l1 > 0) {
        const vec most = vmul(rate, vset1(l1));
        w = vsub(w, vmin(vmax(w, vsub(vset1(0), most)), most));
    }
    return w;
}

/* update_vec by a rule */
INLINE void rule_vec(const int kind, const int full, const update *u, ptrdiff_t c, ptrdiff_t d,
                     ptrdiff_t n, vec g) {
#define LOAD(p) (full ? vload(p) : vload_n(p, n, 0))
#define STORE(p, a) (full ? vstore(p, a) : vstore_n(p, a, n))
    const softline_rule *rule = u->rule;
    const ptrdiff_t at = c * rule->ld + u->col + d;
    real *W = u->W + c * u->ldw + d, *state_m = (real *)rule->m + at,
         *state_v = (real *)rule->v + at;
    const int has_m = kind != SOFTLINE_SGD && kind != SOFTLINE_SCALED;
    const int has_v = kind == SOFTLINE_SCALED || kind == SOFTLINE_ADAM;
    vec w = LOAD(W), m = has_m ? LOAD(state_m) : w, v = has_v ? LOAD(state_v) : w;
    vec mu = w, metric = w;
    if (u->shift) {
        mu = LOAD(u->shift + d);
        g = vfma(vset1(-u->db[c]), mu, g);
    }
    if (u->metric) metric = LOAD(u->metric + d);
    g = vfma(vset1(u->alpha), w, g);
    const vec updated = step_by(kind, rule, u->step, (real)rule->decay, (real)rule->l1, w, g,
                                u->metric ? &metric : NULL, &m, &v);
    if (kind == SOFTLINE_AVERAGE) m = vfma(vset1((real)rule->share), vsub(updated, m), m);
    if (u->shift) {
        real *moved = u->drift + c * LANES;
        vstore(moved, vfma(vsub(updated, w), mu, vload(moved)));
    }
    STORE(W, updated);
    if (has_m) STORE(state_m, m);
    if (has_v) STORE(state_v, v);
#undef LOAD
#undef STORE
}

#define FOR_KIND(rule)                                                                             \
    switch ((rule)->kind) {                                                                        \
        KIND(SOFTLINE_SGD);                                                                        \
        KIND(SOFTLINE_MOMENTUM);                                                                   \
        KIND(SOFTLINE_NESTEROV);                                                                   \
        KIND(SOFTLINE_SCALED);                                                                     \
        KIND(SOFTLINE_ADAM);                                                                       \
        KIND(SOFTLINE_AVERAGE);                                                                    \
    default: break;                                                                                \
    }

/* Steps of `classes` from c, features d to d + width; g (classes, width), rows ldg apart. */
static void rule_tile(const update *u, ptrdiff_t c, ptrdiff_t classes, ptrdiff_t d, ptrdiff_t width,
                      const real *g, ptrdiff_t ldg, real scale) {
#define KIND(kind)                                                                                 \
    case kind:                                                                                     \
        for (ptrdiff_t k = 0; k < classes; k++)                                                    \
            FOR_VECS(width, i, n)                                                                  \
                if (n == LANES)                                                                    \
                    rule_vec(kind, 1, u, c + k, d + i, n,                                          \
                             vmul(vset1(scale), vload(g + k * ldg + i)));                          \
                else                                                                               \
                    rule_vec(kind, 0, u, c + k, d + i, n,                                          \
                             vmul(vset1(scale), vload_n(g + k * ldg + i, n, 0)));                  \
        break
    FOR_KIND(u->rule)
#undef KIND
}

static void update_all(const update *u, const real *dW, ptrdiff_t lddw, real scale, ptrdiff_t C,
                       ptrdiff_t D) {
    clear_drift(u, C);
    if (u->rule) {
        rule_tile(u, 0, C, 0, D, dW, lddw, scale);
        return;
    }
    FOR_VECS(D, d, n)
        for (ptrdiff_t c = 0; c < C; c++)
            update_vec(0, u->shift != NULL, u->metric != NULL, u, c, d, n,
                       vmul(vset1(scale), vload_n(dW + c * lddw + d, n, 0)));
}

/* The bias by a rule: a row of C weights without penalty. */
static void rule_bias(const update *u, ptrdiff_t C, real *b) {
    const softline_rule *rule = u->rule;
    real *mb = rule->mb, *vb = rule->vb;
#define KIND(kind)                                                                                 \
    case kind:                                                                                     \
        FOR_VECS(C, c, n) {                                                                        \
            vec m = mb ? vload_n(mb + c, n, 0) : vset1(0), v = vb ? vload_n(vb + c, n, 0) : m;     \
            const vec g = vload_n(u->db + c, n, 0), w = vload_n(b + c, n, 0);                      \
            vstore_n(b + c, step_by(kind, rule, u->step, 1, 0, w, g, NULL, &m, &v), n);            \
            if (mb) vstore_n(mb + c, m, n);                                                        \
            if (vb) vstore_n(vb + c, v, n);                                                        \
        }                                                                                          \
        break
    FOR_KIND(rule)
#undef KIND
}

static void bias_update(const update *u, ptrdiff_t slabs, ptrdiff_t C, real *b) {
    const softline_rule *rule = u->rule;
    if (rule) rule_bias(u, C, b);
    for (ptrdiff_t c = 0; c < C; c++) {
        if (!rule) b[c] -= u->step * u->db[c];
        if (!u->shift) continue;
        vec sum = vset1(0);
        for (ptrdiff_t k = 0; k < slabs; k++)
            sum = vadd(sum, vload(u->drift + (k * C + c) * LANES));
        b[c] -= vsum(sum);
    }
    if (!rule || rule->kind != SOFTLINE_AVERAGE) return;
    real *mean = rule->mb;
    for (ptrdiff_t c = 0; c < C; c++) mean[c] += (real)rule->share * (b[c] - mean[c]);
}

static real square_norm(const real *dW, ptrdiff_t D, real db, const real *shift,
                        const real *metric) {
    vec sum = vset1(0);
    FOR_VECS(D, d, n) {
        vec g = vload_n(dW + d, n, 0), by = g;
        if (shift) by = g = vfma(vset1(-db), vload_n(shift + d, n, 0), g);
        if (metric) by = vmul(g, vload_n(metric + d, n, 0));
        sum = vfma(g, by, sum);
    }
    return vsum(sum);
}

static void project(real *W, ptrdiff_t D, real *b, real most, const real *shift, real *mean,
                    real *mean_b, real share) {
    const real norm = (real)sqrt(square_norm(W, D, 0, NULL, NULL));
    if (norm > most) {
        const vec by = vset1(most / norm);
        vec moved = vset1(0);
        FOR_VECS(D, d, n) {
            const vec w = vload_n(W + d, n, 0), cut = vmul(by, w);
            if (shift) moved = vfma(vsub(cut, w), vload_n(shift + d, n, 0), moved);
            vstore_n(W + d, cut, n);
        }
        if (shift) *b -= vsum(moved);
    }
    if (!mean) return;
    FOR_VECS(D, d, n) {
        const vec m = vload_n(mean + d, n, 0);
        vstore_n(mean + d, vfma(vset1(share), vsub(vload_n(W + d, n, 0), m), m), n);
    }
    *mean_b += share * (*b - *mean_b);
}

INLINE void prefetch_tile(const int classes, const int vecs, const real *p, ptrdiff_t ld) {
    for (int k = 0; k < classes; k++)
        for (int v = 0; v < vecs; v++) PREFETCH(p + k * ld + v * LANES);
}

/* The weights and the state of a tile of the step. */
INLINE void prefetch_step(const update *u, const int classes, const int vecs, ptrdiff_t c,
                          ptrdiff_t d) {
    prefetch_tile(classes, vecs, u->W + c * u->ldw + d, u->ldw);
    if (!u->rule) return;
    const ptrdiff_t at = c * u->rule->ld + u->col + d;
    if (u->rule->m) prefetch_tile(classes, vecs, (const real *)u->rule->m + at, u->rule->ld);
    if (u->rule->v) prefetch_tile(classes, vecs, (const real *)u->rule->v + at, u->rule->ld);
}

/* dW[c..c+classes, d..d+width] += sum over rows of dS X, then the step if there is one to take. */
INLINE void gradient_tile(const int classes, const int vecs, const real *X, ptrdiff_t strip,
                          ptrdiff_t n, ptrdiff_t d, ptrdiff_t width, const real *dS, ptrdiff_t C,
                          ptrdiff_t c, real *dW, ptrdiff_t ldw, int add, const update *u,
                          fetch *soon) {
    vec sum[GRADIENT_CLASSES][GRADIENT_VECS];
    /* While the rows pass, what the step takes comes, and what the next classes begin with. */
    if (u) prefetch_step(u, classes, vecs, c, d);
    if (add && c + 2 * classes <= C)
        prefetch_tile(classes, vecs, dW + (c + classes) * ldw + d, ldw);
    UNROLL(k, classes)
        UNROLL(v, vecs)
            sum[k][v] =
                add ? vload_n(dW + (c + k) * ldw + d + v * LANES, width - v * LANES, 0) : vset1(0);
    for (ptrdiff_t first = 0; first < n; first += LANES, X += strip) {
        const real *ds = dS + first * C + c * LANES;
        const ptrdiff_t count = MIN(LANES, n - first);
        const real *x = X;
        for (ptrdiff_t r = 0; r < count; r++, x += LANES, ds++) {
            vec xv[GRADIENT_VECS];
            if (soon) fetch_some(soon);
            UNROLL(v, vecs) xv[v] = vload(x + v * TILE);
            UNROLL(k, classes) {
                const vec s = vset1(ds[k * LANES]);
                UNROLL(v, vecs) sum[k][v] = vfma(s, xv[v], sum[k][v]);
            }
        }
    }
    if (!u) {
        UNROLL(k, classes)
            UNROLL(v, vecs)
                vstore_n(dW + (c + k) * ldw + d + v * LANES, sum[k][v], width - v * LANES);
        return;
    }
    const int full = width == vecs * LANES, shift = u->shift != NULL, metric = u->metric != NULL;
#define STEP(full, shift, metric)                                                                  \
    UNROLL(k, classes)                                                                             \
        UNROLL(v, vecs)                                                                            \
    update_vec(full, shift, metric, u, c + k, d + v * LANES, width - v * LANES, sum[k][v])
    const int plain = full && !u->rule;
    if (plain && !shift && !metric) {
        STEP(1, 0, 0);
    } else if (plain && shift && metric) {
        STEP(1, 1, 1);
    } else {
        real g[GRADIENT_CLASSES * GRADIENT_VECS * 64 / sizeof(real)];
        UNROLL(k, classes)
            UNROLL(v, vecs) vstore(g + (k * vecs + v) * LANES, sum[k][v]);
        if (u->rule) {
            rule_tile(u, c, classes, d, width, g, vecs * LANES, 1);
            return;
        }
        for (int k = 0; k < classes; k++)
            for (int v = 0; v < vecs; v++)
                update_vec(0, shift, metric, u, c + k, d + v * LANES, width - v * LANES,
                           vload(g + (k * vecs + v) * LANES));
    }
}

static void gradient(const real *X, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D, ptrdiff_t slab,
                     const real *dS, ptrdiff_t C, real *dW, ptrdiff_t ldw, int add, const update *u,
                     const softline_ahead *ahead) {
    update own = u ? *u : (update){0};
    if (u) u = &own;
    fetch rows = fetch_of(ahead, n * STEPS(D, GRADIENT_VECS * LANES));
    for (ptrdiff_t first = 0; first < D; first += slab) {
        const ptrdiff_t end = MIN(first + slab, D);
        if (u) clear_drift(u, C);
        int vecs;
        for (ptrdiff_t d = first; d < end; d += vecs * LANES, X += vecs * TILE) {
            vecs = d + GRADIENT_VECS * LANES <= end ? GRADIENT_VECS : 1;
            const ptrdiff_t width = MIN(vecs * LANES, end - d);
            /* While the first classes pass, the next rows come. */
            fetch *soon = ahead ? &rows : NULL;
            ptrdiff_t c = 0;
#define CLASSES(classes)                                                                           \
    for (; c + (classes) <= C; c += (classes), soon = NULL) {                                      \
        if (vecs == GRADIENT_VECS)                                                                 \
            gradient_tile(classes, GRADIENT_VECS, X, strip, n, d, width, dS, C, c, dW, ldw, add,   \
                          u, soon);                                                                \
        else                                                                                       \
            gradient_tile(classes, 1, X, strip, n, d, width, dS, C, c, dW, ldw, add, u, soon);     \
    }
            CLASSES(GRADIENT_CLASSES)
#if GRADIENT_CLASSES > 5
            CLASSES(5)
#endif
#if GRADIENT_CLASSES > 3
            CLASSES(3)
#endif
#if GRADIENT_CLASSES > 2
            CLASSES(2)
#endif
            CLASSES(1)
        }
        if (u) own.drift += C * LANES;
    }
}

/* ---- statistics ------------------------------------------------------------------------------ */

static void column_stats(const real *X, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D,
                         const real *weight, double share, real *mean, real *squares, real *low,
                         real *high) {
    for (ptrdiff_t d = 0; d < D; d += LANES, X += TILE) {
        const ptrdiff_t width = MIN(LANES, D - d);
        vec sum = vset1(0), sum2 = vset1(0), least = vload_n(low + d, width, 0),
            most = vload_n(high + d, width, 0);
        for (ptrdiff_t i = 0; i < n; i++) {
            const vec x = vload(X + i / LANES * strip + i % LANES * LANES);
            sum = vfma(vset1(weight ? weight[i] : 1), x, sum);
            least = vmin(x, least);
            most = vmax(x, most);
        }
        /* about a mean that is rounded, then corrected for that */
        const vec m = vmul(sum, vset1((real)share));
        vec rest = vset1(0);
        for (ptrdiff_t i = 0; i < n; i++) {
            const vec x = vsub(vload(X + i / LANES * strip + i % LANES * LANES), m);
            const vec weighted = vmul(vset1(weight ? weight[i] : 1), x);
            rest = vadd(rest, weighted);
            sum2 = vfma(weighted, x, sum2);
        }
        const vec off = vmul(rest, vset1((real)share));
        vstore_n(mean + d, vadd(m, off), width);
        vstore_n(squares + d, vsub(sum2, vmul(rest, off)), width);
        vstore_n(low + d, least, width);
        vstore_n(high + d, most, width);
    }
}

const table SOFTLINE_TABLE = {
    .pack = pack,
    .scores = scores,
    .add_scores = add_scores,
    .load_strip = load_strip,
    .store_strip = store_strip,
    .softmax = softmax,
    .cross_entropy = cross_entropy,
    .cross_entropy_gradient = cross_entropy_gradient,
    .hinge_gradient = hinge_gradient,
    .soft_cross_entropy = soft_cross_entropy,
    .bias_gradient = bias_gradient,
    .gradient = gradient,
    .update = update_all,
    .bias_update = bias_update,
    .square_norm = square_norm,
    .project = project,
    .column_stats = column_stats,
};
