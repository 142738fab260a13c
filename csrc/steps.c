/* Steps: what a gradient makes of weights, and what keeps both in bounds. */
#include <math.h>

#include "elements.h"
#include "simd.h"
#include "softline.h"

/* A step of W -= rate * metric * (dW - db shift^T + alpha W), or as the rule has it. shift and
 * metric may be NULL (zeros, ones); with shift, `drift` (K * L) receives the change of W times
 * shift, summed by lane. W begins with feature `col` of the layer, whose state the rule has. */
typedef struct step {
    real *W; /* (K, D) */
    ptrdiff_t ldw;
    const real *db, *shift, *metric; /* (K), (D), (D) */
    real *drift;
    const softline_rule *rule;
    ptrdiff_t col;
} step;

/* The numbers of a step of one model. */
typedef struct numbers {
    real rate, alpha, l1, decay, beta, follow, keep, take, root, eps, share;
} numbers;

INLINE numbers numbers_of(const softline_rule *rule, ptrdiff_t model) {
    const softline_rates *of = rule->of + model;
    return (numbers){.rate = (real)of->rate,
                     .alpha = (real)of->alpha,
                     .l1 = (real)of->l1,
                     .decay = (real)of->decay,
                     .beta = (real)rule->beta,
                     .follow = (real)(1 - rule->beta),
                     .keep = (real)rule->keep,
                     .take = (real)rule->take,
                     .root = (real)rule->root,
                     .eps = (real)rule->eps,
                     .share = (real)rule->share};
}

/* The model of output k. */
INLINE ptrdiff_t model_of(const softline_rule *rule, ptrdiff_t k) {
    return rule->models > 1 ? k / rule->outputs : 0;
}

/* What weights w with gradient g become by a rule; its state m and v follow. `metric` may be NULL:
 * gradients to features divided by 1/sqrt(metric) are g sqrt(metric), and steps are back. */
INLINE vec step_by(const int kind, const numbers *by_rule, vec w, vec g, const vec *metric, vec *m,
                   vec *v) {
    const vec learning_rate = vset1(by_rule->rate);
    const real l1 = by_rule->l1;
    vec rate = metric ? vmul(learning_rate, *metric) : learning_rate, by = rate;
    if (kind == SOFTLINE_MOMENTUM || kind == SOFTLINE_NESTEROV) {
        const vec beta = vset1(by_rule->beta);
        *m = vfma(beta, *m, g);
        g = kind == SOFTLINE_NESTEROV ? vfma(beta, *m, g) : *m;
    }
    if (kind == SOFTLINE_SCALED || kind == SOFTLINE_ADAM) {
        const vec root = metric ? vsqrt(*metric) : vset1(1);
        g = vmul(g, root);
        *v = vfma(vset1(by_rule->take), vmul(g, g), vmul(vset1(by_rule->keep), *v));
        const vec size = vfma(vset1(by_rule->root), vsqrt(*v), vset1(by_rule->eps));
        if (kind == SOFTLINE_ADAM) {
            *m = vfma(vset1(by_rule->follow), vsub(g, *m), *m);
            g = *m;
        }
        g = vdiv(g, size);
        by = vmul(learning_rate, root);
        if (l1 > 0) rate = vdiv(rate, size);
    }
    w = vfma(vsub(vset1(0), by), g, kind == SOFTLINE_ADAM ? vmul(vset1(by_rule->decay), w) : w);
    if (l1 > 0) {
        const vec most = vmul(rate, vset1(l1));
        w = vsub(w, vmin(vmax(w, vsub(vset1(0), most)), most));
    }
    return w;
}

INLINE int has_m(const int kind) { return kind != SOFTLINE_SGD && kind != SOFTLINE_SCALED; }
INLINE int has_v(const int kind) { return kind == SOFTLINE_SCALED || kind == SOFTLINE_ADAM; }

/* The step of output k over the n <= L features at d, of gradient g; `full` if n is L. */
INLINE void step_vec(const int kind, const int full, const step *u, const numbers *by, ptrdiff_t k,
                     ptrdiff_t d, ptrdiff_t n, vec g) {
#define LOAD(p) (full ? vload(p) : vload_n(p, n, 0))
#define STORE(p, a) (full ? vstore(p, a) : vstore_n(p, a, n))
    const softline_rule *rule = u->rule;
    const ptrdiff_t at = k * rule->ld + u->col + d;
    real *W = u->W + k * u->ldw + d;
    real *state_m = has_m(kind) ? (real *)rule->m + at : NULL;
    real *state_v = has_v(kind) ? (real *)rule->v + at : NULL;
    const vec w = LOAD(W);
    vec m = has_m(kind) ? LOAD(state_m) : w, v = has_v(kind) ? LOAD(state_v) : w;
    vec mu = w, metric = w;
    if (u->shift) {
        mu = LOAD(u->shift + d);
        g = vfma(vset1(-u->db[k]), mu, g);
    }
    if (u->metric) metric = LOAD(u->metric + d);
    g = vfma(vset1(by->alpha), w, g);
    const vec updated = step_by(kind, by, w, g, u->metric ? &metric : NULL, &m, &v);
    if (kind == SOFTLINE_AVERAGE) m = vfma(vset1(by->share), vsub(updated, m), m);
    if (u->shift) {
        real *moved = u->drift + k * LANES;
        vstore(moved, vfma(vsub(updated, w), mu, vload(moved)));
    }
    STORE(W, updated);
    if (has_m(kind)) STORE(state_m, m);
    if (has_v(kind)) STORE(state_v, v);
#undef LOAD
#undef STORE
}

/* Functions of a rule, one compiled for each kind. */
#define FOR_KINDS(F)                                                                               \
    F(SOFTLINE_SGD)                                                                                \
    F(SOFTLINE_MOMENTUM)                                                                           \
    F(SOFTLINE_NESTEROV) F(SOFTLINE_SCALED) F(SOFTLINE_ADAM) F(SOFTLINE_AVERAGE)

/* Steps of `outputs` from k, features d to d + width; g (outputs, width), rows ldg apart. */
typedef void step_function(const step *u, ptrdiff_t k, ptrdiff_t outputs, ptrdiff_t d,
                           ptrdiff_t width, const real *g, ptrdiff_t ldg, real scale);
#define STEP_FUNCTION(kind)                                                                        \
    static void step_##kind(const step *u, ptrdiff_t k, ptrdiff_t outputs, ptrdiff_t d,            \
                            ptrdiff_t width, const real *g, ptrdiff_t ldg, real scale) {           \
        const vec scaled = vset1(scale);                                                           \
        numbers by = numbers_of(u->rule, model_of(u->rule, k));                                    \
        for (ptrdiff_t i = 0; i < outputs; i++, g += ldg) {                                        \
            if (i > 0 && u->rule->models > 1) by = numbers_of(u->rule, model_of(u->rule, k + i));  \
            FOR_VECS(width, j, n)                                                                  \
                if (n == LANES)                                                                    \
                    step_vec(kind, 1, u, &by, k + i, d + j, n, vmul(scaled, vload(g + j)));        \
                else                                                                               \
                    step_vec(kind, 0, u, &by, k + i, d + j, n,                                     \
                             vmul(scaled, vload_n(g + j, n, 0)));                                  \
        }                                                                                          \
    }
FOR_KINDS(STEP_FUNCTION)
#define STEP_ENTRY(kind) [kind] = step_##kind,
static step_function *const step_functions[] = {FOR_KINDS(STEP_ENTRY)};

static void step_tile(const step *u, ptrdiff_t k, ptrdiff_t outputs, ptrdiff_t d, ptrdiff_t width,
                      const real *g, ptrdiff_t ldg, real scale) {
    step_functions[u->rule->kind](u, k, outputs, d, width, g, ldg, scale);
}

INLINE void clear_drift(const step *u, ptrdiff_t K) {
    if (!u->shift) return;
    for (ptrdiff_t k = 0; k < K; k++) vstore(u->drift + k * LANES, vset1(0));
}

/* The bias by a rule: for each model a row of weights without penalty. */
#define BIAS_FUNCTION(kind)                                                                        \
    static void bias_##kind(const softline_rule *rule, const real *db, real *b) {                  \
        real *mb = rule->mb, *vb = rule->vb;                                                       \
        for (ptrdiff_t i = 0; i < rule->models; i++) {                                             \
            numbers by = numbers_of(rule, i);                                                      \
            const int plain = kind == SOFTLINE_SGD && by.l1 == 0;                                  \
            by.decay = 1, by.l1 = 0;                                                               \
            FOR_VECS(rule->outputs, j, n) {                                                        \
                const ptrdiff_t k = i * rule->outputs + j;                                         \
                vec m = has_m(kind) ? vload_n(mb + k, n, 0) : vset1(0);                            \
                vec v = has_v(kind) ? vload_n(vb + k, n, 0) : vset1(0);                            \
                const vec g = vload_n(db + k, n, 0), w = vload_n(b + k, n, 0);                     \
                const vec moved = vsub(w, vmul(vset1(by.rate), g));                                \
                vstore_n(b + k, plain ? moved : step_by(kind, &by, w, g, NULL, &m, &v), n);        \
                if (has_m(kind)) vstore_n(mb + k, m, n);                                           \
                if (has_v(kind)) vstore_n(vb + k, v, n);                                           \
            }                                                                                      \
        }                                                                                          \
    }
FOR_KINDS(BIAS_FUNCTION)
#define BIAS_ENTRY(kind) [kind] = bias_##kind,
static void (*const bias_functions[])(const softline_rule *, const real *,
                                      real *) = {FOR_KINDS(BIAS_ENTRY)};

/* b by the rule; with drift, less the drifts of all slabs. */
static void bias_step(const softline_rule *rule, const real *db, const real *drift, ptrdiff_t slabs,
                      ptrdiff_t K, real *b) {
    bias_functions[rule->kind](rule, db, b);
    for (ptrdiff_t k = 0; drift && k < K; k++) {
        vec sum = vset1(0);
        for (ptrdiff_t i = 0; i < slabs; i++) sum = vadd(sum, vload(drift + (i * K + k) * LANES));
        b[k] -= vsum(sum);
    }
    if (rule->kind != SOFTLINE_AVERAGE) return;
    real *mean = rule->mb;
    for (ptrdiff_t k = 0; k < K; k++) mean[k] += (real)rule->share * (b[k] - mean[k]);
}

/* Sum of metric (dW - db shift)^2 over a row of dW. */
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

/* A row of W longer than `most` is cut to that length, and its b moves by what the row loses times
 * shift. With `mean` (or NULL) it then takes its `share` in the mean. */
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

/* ---- by themselves ----------------------------------------------------------------------------
 */

static void step_all(void *operands, softline_team *team, int thread) {
    const softline_call *c = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t K = c->A.rows, D = c->A.columns, width = softline_slab(D, LANES);
    const ptrdiff_t slabs = D > 0 ? (D + width - 1) / width : 0;
    const real *shift = c->shift, *metric = c->metric;
    real *drift = shift ? c->shared : NULL;
    for (ptrdiff_t i; slabs && softline_next_task(&w, slabs, &i);) {
        const ptrdiff_t col = i * width;
        const step u = {.W = (real *)c->A.at + col,
                        .ldw = c->A.ld,
                        .db = c->b,
                        .shift = shift ? shift + col : NULL,
                        .metric = metric ? metric + col : NULL,
                        .drift = drift ? drift + i * K * LANES : NULL,
                        .rule = c->rule,
                        .col = col};
        clear_drift(&u, K);
        step_tile(&u, 0, K, 0, MIN(width, D - col), (const real *)c->B.at + col, c->B.ld, 1);
    }
    if ((slabs ? softline_finish(&w, slabs) : thread == 0) && c->fit_intercept)
        bias_step(c->rule, c->b, drift, slabs, K, c->db);
    if (slabs) softline_go_on(&w);
    softline_leave(&w);
}

static void all_squares(void *operands, softline_team *team, int thread) {
    const softline_call *c = operands;
    softline_worker w = softline_join(team, thread);
    for (ptrdiff_t k; softline_next_task(&w, c->A.rows, &k);)
        c->squares[k] = square_norm((const real *)c->A.at + k * c->A.ld, c->A.columns,
                                    ((const real *)c->b)[k], c->shift, c->metric);
    softline_end(&w, c->A.rows);
}

static void project_all(void *operands, softline_team *team, int thread) {
    const softline_call *c = operands;
    softline_worker w = softline_join(team, thread);
    for (ptrdiff_t k; softline_next_task(&w, c->A.rows, &k);)
        project((real *)c->A.at + k * c->A.ld, c->A.columns, (real *)c->db + k, (real)c->number,
                c->shift, NULL, NULL, 0);
    softline_end(&w, c->A.rows);
}
