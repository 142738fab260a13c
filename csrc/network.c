/* What a network does between its layers, compiled as dense.c is. Hidden layers are strips, as
 * scores are: units in vectors, a row a lane, so that nothing is summed across lanes. */
#include "simd.h"
#include "softline.h"

#ifdef SOFTLINE_DOUBLE
typedef softline_network_f64 table;
#else
typedef softline_network_f32 table;
#endif

#define LEAK ((real)SOFTLINE_LEAK)

/* out[k] = b[k] + sum over d of W(k, d) S[d], for `outputs` x `strips` (constants once inlined). */
INLINE void affine_tile(const int outputs, const int strips, const real *S, ptrdiff_t n_in,
                        const real *W, ptrdiff_t by_output, ptrdiff_t by_input, const real *b,
                        ptrdiff_t n_out, real *out) {
    vec sum[GRADIENT_CLASSES][GRADIENT_VECS];
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

/* Weights of a few outputs stay in L1 while the strips pass by. */
static void affine(const real *S, ptrdiff_t n, ptrdiff_t n_in, const real *W, ptrdiff_t by_output,
                   ptrdiff_t by_input, const real *b, ptrdiff_t n_out, real *out) {
    const ptrdiff_t strips = (n + LANES - 1) / LANES;
    ptrdiff_t k = 0, s;
#define TILE(outputs, strips)                                                                      \
    affine_tile(outputs, strips, S + s * n_in * LANES, n_in, W + k * by_output, by_output,         \
                by_input, b ? b + k : NULL, n_out, out + (s * n_out + k) * LANES)
#define OUTPUTS(outputs)                                                                           \
    for (; k + (outputs) <= n_out; k += (outputs)) {                                               \
        for (s = 0; s + GRADIENT_VECS <= strips; s += GRADIENT_VECS) TILE(outputs, GRADIENT_VECS); \
        for (; s < strips; s++) TILE(outputs, 1);                                                  \
    }
    OUTPUTS(GRADIENT_CLASSES)
#if GRADIENT_CLASSES > 5
    OUTPUTS(5)
#endif
#if GRADIENT_CLASSES > 2
    OUTPUTS(2)
#endif
    OUTPUTS(1)
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

/* ---- dropout ---------------------------------------------------------------------------------
 */

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

const table SOFTLINE_NETWORK = {affine, activate, activation_gradient, dropout};
