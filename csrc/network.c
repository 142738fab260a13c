/* What a network does between its layers. Hidden layers are strips, as scores are: units in
 * vectors, a row a lane, so that nothing is summed across lanes. */
#include "elements.h"
#include "simd.h"
#include "softline.h"

#define LEAK ((real)SOFTLINE_LEAK)

/* out[k] = b[k] + sum over d of W(k, d) S[d], for `outputs` x `strips` (constants once inlined). */
INLINE void affine_tile(const int outputs, const int strips, const real *S, ptrdiff_t n_in,
                        const real *W, ptrdiff_t by_output, ptrdiff_t by_input, const real *b,
                        ptrdiff_t n_out, real *out) {
    vec sum[GRADIENT_OUTPUTS][GRADIENT_VECS];
    UNROLL(k, outputs)
        UNROLL(s, strips) sum[k][s] = vset1(b ? b[k] : 0);
    for (ptrdiff_t d = 0; d < n_in; d++, S += LANES, W += by_input) {
        vec x[GRADIENT_VECS];
        UNROLL(s, strips) x[s] = vload(S + s * n_in * LANES);
        UNROLL(k, outputs) {
            const vec w = vset1(W[k * by_output]);
            UNROLL(s, strips) sum[k][s] = vfma(w, x[s], sum[k][s]);
        }
    }
    UNROLL(k, outputs)
        UNROLL(s, strips) vstore(out + (s * n_out + k) * LANES, sum[k][s]);
}

/* Functions of affine_tile, most outputs first: of GRADIENT_VECS strips, and of one. */
typedef void affine_function(const real *S, ptrdiff_t n_in, const real *W, ptrdiff_t by_output,
                             ptrdiff_t by_input, const real *b, ptrdiff_t n_out, real *out);
typedef struct affine_form {
    int outputs;
    affine_function *of_strips;
} affine_form;
#define AFFINE_FUNCTION(outputs, strips)                                                           \
    static void affine_##outputs##_##strips(const real *S, ptrdiff_t n_in, const real *W,          \
                                            ptrdiff_t by_output, ptrdiff_t by_input,               \
                                            const real *b, ptrdiff_t n_out, real *out) {           \
        affine_tile(outputs, strips, S, n_in, W, by_output, by_input, b, n_out, out);              \
    }
#define AFFINE_ENTRY(outputs, strips) {outputs, affine_##outputs##_##strips},
FOR_GRADIENT_TILES(AFFINE_FUNCTION)
#if GRADIENT_VECS > 1
FOR_EDGE_TILES(AFFINE_FUNCTION)
#endif
static const affine_form affine_forms[] = {FOR_GRADIENT_TILES(AFFINE_ENTRY)};
static const affine_form affine_edge_forms[] = {FOR_EDGE_TILES(AFFINE_ENTRY)};

/* out = W S + b for n rows: n_in vectors a strip become n_out. W(k, d) lies at W + k * by_output +
 * d * by_input; b may be NULL (zeros). Weights of a few outputs stay in L1 while the strips pass
 * by. */
static void affine(const real *S, ptrdiff_t n, ptrdiff_t n_in, const real *W, ptrdiff_t by_output,
                   ptrdiff_t by_input, const real *b, ptrdiff_t n_out, real *out) {
    const ptrdiff_t strips = STEPS(n, LANES);
    int form = 0;
    for (ptrdiff_t k = 0; k < n_out; k += affine_forms[form].outputs) {
        while (k + affine_forms[form].outputs > n_out) form++;
        for (ptrdiff_t s = 0, many; s < strips; s += many) {
            many = s + GRADIENT_VECS <= strips ? GRADIENT_VECS : 1;
            const affine_form *forms = many == GRADIENT_VECS ? affine_forms : affine_edge_forms;
            forms[form].of_strips(S + s * n_in * LANES, n_in, W + k * by_output, by_output,
                                  by_input, b ? b + k : NULL, n_out, out + (s * n_out + k) * LANES);
        }
    }
}

/* ---- activations ----------------------------------------------------------------------------- */

/* 1 / (1 + exp(-z)), by exp(-|z|), which does not overflow */
INLINE vec logistic(vec z) {
    const vec one = vset1(1), e = vexp(vminus_abs(z));
    return vdiv(vselect_negative(z, e, one), vadd(one, e));
}

/* (1 - exp(-2|z|)) / (1 + exp(-2|z|)), with the sign of z; exp(x) - 1 has all its digits */
INLINE vec hyperbolic_tangent(vec z) {
    const vec below = vminus_abs(z), m = vexpm1(vadd(below, below));
    const vec t = vdiv(m, vadd(vset1(2), m)); /* of -|z| */
    return vselect_negative(z, t, vsub(vset1(0), t));
}

INLINE vec function(const int activation, vec z) {
    switch (activation) {
    case SOFTLINE_RELU: return vselect_negative(z, vset1(0), z);
    case SOFTLINE_LEAKY_RELU: return vselect_negative(z, vmul(vset1(LEAK), z), z);
    case SOFTLINE_TANH: return hyperbolic_tangent(z);
    default: return logistic(z);
    }
}

/* dS f'(z) from a = f(z) */
INLINE vec derivative(const int activation, vec a, vec ds) {
    switch (activation) {
    case SOFTLINE_RELU: return vselect_positive(a, ds, vset1(0));
    case SOFTLINE_LEAKY_RELU: return vselect_positive(a, ds, vmul(vset1(LEAK), ds));
    case SOFTLINE_TANH: return vmul(ds, vfma(vsub(vset1(0), a), a, vset1(1)));
    default: return vmul(ds, vmul(a, vsub(vset1(1), a)));
    }
}

#define FOR_ACTIVATION(activation)                                                                 \
    switch (activation) {                                                                          \
        CASE(SOFTLINE_RELU);                                                                       \
        CASE(SOFTLINE_LEAKY_RELU);                                                                 \
        CASE(SOFTLINE_TANH);                                                                       \
        CASE(SOFTLINE_LOGISTIC);                                                                   \
    default: break; /* identity */                                                                 \
    }

static void activate(real *S, ptrdiff_t units, int activation) {
#define CASE(activation)                                                                           \
    case activation:                                                                               \
        for (ptrdiff_t i = 0; i < units * LANES; i += LANES)                                       \
            vstore(S + i, function(activation, vload(S + i)));                                     \
        break
    FOR_ACTIVATION(activation)
#undef CASE
}

static void activation_gradient(const real *A, ptrdiff_t units, int activation, real keep,
                                real *dS) {
#define CASE(activation)                                                                           \
    case activation:                                                                               \
        for (ptrdiff_t i = 0; i < units * LANES; i += LANES)                                       \
            vstore(dS + i,                                                                         \
                   derivative(activation, vmul(vset1(keep), vload(A + i)), vload(dS + i)));        \
        break
    FOR_ACTIVATION(activation)
#undef CASE
}

/* ---- dropout ----------------------------------------------------------------------------------
 */

/* Elements of a strip become 0 with probability `rate`, and are else divided by 1 - rate, as the
 * bits of (key, unit, row + lane) have it. */

static void dropout(real *S, ptrdiff_t units, double rate, uint32_t key, uint32_t row) {
    const uint32_t below = (uint32_t)(rate * 4294967296.);
    const real scale = (real)(1 / (1 - rate));
    for (ptrdiff_t k = 0; k < units; k++, S += LANES) {
        const uint32_t of_unit = softline_mix(key + (uint32_t)k) + row;
        real factor[64 / sizeof(real)];
        for (uint32_t r = 0; r < LANES; r++)
            factor[r] = softline_mix(of_unit + r) < below ? 0 : scale;
        vstore(S, vmul(vload(factor), vload(S)));
    }
}

/* ---- by themselves ----------------------------------------------------------------------------
 */

/* Room of a thread: the inputs of a task and its outputs, as strips. */
static void affine_all(void *operands, softline_team *team, int thread) {
    const softline_call *c = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t n_in = c->A.columns, n_out = c->out.columns, rows = c->strips * LANES;
    real *S = (real *)c->room + thread * c->room_size, *T = S + rows * n_in;
    for (ptrdiff_t task; softline_next_task(&w, STEPS(c->n, rows), &task);) {
        const ptrdiff_t first = task * rows, count = MIN(rows, c->n - first);
        for (ptrdiff_t i = 0; i < count; i += LANES)
            load_strip((const real *)c->A.at + (first + i) * c->A.ld, c->A.ld, NULL,
                       MIN(LANES, count - i), n_in, S + i * n_in);
        affine(S, count, n_in, c->B.at, c->by_output, c->by_input, c->b, n_out, T);
        for (ptrdiff_t i = 0; i < count; i += LANES)
            store_strip(T + i * n_out, MIN(LANES, count - i), n_out,
                        (real *)c->out.at + (first + i) * c->out.ld, c->out.ld);
    }
    softline_end(&w, STEPS(c->n, rows));
}

enum { ACTIVATE, ACTIVATION_GRADIENT, DROPOUT };

/* Strip by strip of A, in place. */
INLINE void by_strips(const int what, const softline_call *c, softline_team *team, int thread) {
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t n = c->A.rows, K = c->A.columns;
    real *strip = (real *)c->room + thread * c->room_size, *outputs = strip + K * LANES;
    for (ptrdiff_t s; softline_next_task(&w, STEPS(n, LANES), &s);) {
        const ptrdiff_t first = s * LANES, count = MIN(LANES, n - first);
        real *rows = (real *)c->A.at + first * c->A.ld;
        load_strip(rows, c->A.ld, NULL, count, K, strip);
        if (what == ACTIVATE) activate(strip, K, c->activation);
        if (what == DROPOUT) dropout(strip, K, c->number, c->key, (uint32_t)first);
        if (what == ACTIVATION_GRADIENT) {
            load_strip((const real *)c->B.at + first * c->B.ld, c->B.ld, NULL, count, K, outputs);
            activation_gradient(outputs, K, c->activation, (real)c->number, strip);
        }
        store_strip(strip, count, K, rows, c->A.ld);
    }
    softline_end(&w, STEPS(n, LANES));
}

static void activate_all(void *operands, softline_team *team, int thread) {
    by_strips(ACTIVATE, operands, team, thread);
}

static void activation_gradient_all(void *operands, softline_team *team, int thread) {
    by_strips(ACTIVATION_GRADIENT, operands, team, thread);
}

static void dropout_all(void *operands, softline_team *team, int thread) {
    by_strips(DROPOUT, operands, team, thread);
}
