/* The whole C contract: one table of kernels per dtype.
 *
 * A kernel runs on the calling thread, allocates nothing, and never fails: its caller has checked
 * every shape, row number and label. Sums run in an order fixed by the shapes alone, so however the
 * caller splits rows and parameters over threads, the bits of the result are the same.
 *
 * N rows, D features, C classes, L = SOFTLINE_LANES elements in a virtual vector of 64 bytes: the
 * same on every ISA, so that lanes sum alike. Two layouts, both by strips of L rows:
 *   X, packed:  for each strip (`strip` elements apart) tiles of L features, in a tile L rows of L,
 *               and a vector to spare (see softline_packed);
 *   S, scores:  for each strip C vectors of L rows, a row a lane (C * L elements).
 * W and dW are plain (C, D) matrices, rows `ldw` elements apart. */
#ifndef SOFTLINE_H
#define SOFTLINE_H

#include <stddef.h>
#include <stdint.h>

#define SOFTLINE_LANES(real) (64 / sizeof(real))

/* Features per block: `scores` of a block are sums by themselves, and the blocks are then added in
 * order, so that they may be computed apart. Equal blocks, to share them out evenly. */
static inline ptrdiff_t softline_block(ptrdiff_t D, ptrdiff_t lanes) {
    const ptrdiff_t most = 512, blocks = (D + most - 1) / most;
    return blocks ? ((D + blocks - 1) / blocks + lanes - 1) / lanes * lanes : lanes;
}

/* Elements of a packed strip of D features, and where a tile begins: that of feature D, a multiple
 * of the lanes. Without the vector to spare a row's vectors would lie 1 KiB apart, and share four
 * sets of the level-1 cache. */
static inline ptrdiff_t softline_packed(ptrdiff_t D, ptrdiff_t lanes) {
    return (D + lanes - 1) / lanes * lanes * (lanes + 1);
}

/* What the elements of X may be; a bool is a U8. */
enum { SOFTLINE_F32, SOFTLINE_F64, SOFTLINE_F16, SOFTLINE_BF16, SOFTLINE_U8, SOFTLINE_I8 };
#define SOFTLINE_DTYPE_BYTES {4, 8, 2, 2, 1, 1}

/* X as it came: element (i, d) is at data + i * row_bytes + d * column_bytes. It is read as
 * (x - shift[d]) * scale[d]; shift and scale are `real`, or NULL. */
typedef struct softline_rows {
    const char *data;
    ptrdiff_t row_bytes, column_bytes;
    const void *shift, *scale;
    int dtype;
} softline_rows;

/* Rows that come into the cache while a kernel computes: features col to col + D of the n rows idx
 * of X. */
typedef struct softline_ahead {
    const softline_rows *X;
    const ptrdiff_t *idx;
    ptrdiff_t n, col, D;
} softline_ahead;

/* How a step is made of the gradient, where that is not plain descent. Its state is laid out as W:
 * m and v (C, D) with rows `ld` apart, mb and vb (C) for the bias. */
enum {
    SOFTLINE_SGD,      /* w -= step g */
    SOFTLINE_MOMENTUM, /* m = beta m + g;  w -= step m */
    SOFTLINE_NESTEROV, /* m = beta m + g;  w -= step (g + beta m) */
    SOFTLINE_SCALED,   /* v = keep v + take g^2;  w -= step g / (sqrt(v) + eps) */
    SOFTLINE_ADAM,     /* m = beta m + (1 - beta) g, v as above;
                          w = decay w - step m / (root sqrt(v) + eps) */
    SOFTLINE_AVERAGE   /* w -= step g;  m += share (w - m) */
};
typedef struct softline_rule {
    int kind;
    void *m, *v, *mb, *vb; /* real, or NULL */
    ptrdiff_t ld;
    double beta, keep, take, eps, root, decay, share;
    double l1; /* of the proximal step that follows: weights shrink by l1 times their rate */
} softline_rule;

#define SOFTLINE_DECLARE(real, table)                                                              \
    /* W -= step * metric * (dW - db shift^T + alpha W). shift and metric may be NULL (zeros,      \
     * ones); with shift, `drift` (C * L) receives the change of W times shift, summed by lane.    \
     * `rule` (or NULL) says how else to step; its state is taken from feature `col` on. */        \
    typedef struct table##_update {                                                                \
        real *W; /* (C, D) */                                                                      \
        ptrdiff_t ldw;                                                                             \
        const real *db, *shift, *metric; /* (C), (D), (D) */                                       \
        real step, alpha, *drift;                                                                  \
        const softline_rule *rule;                                                                 \
        ptrdiff_t col;                                                                             \
    } table##_update;                                                                              \
    typedef struct table {                                                                         \
        /* out = the rows idx of X, features col to col + D, packed and converted */               \
        void (*pack)(const softline_rows *X, const ptrdiff_t *idx /* (n) */, ptrdiff_t n,          \
                     ptrdiff_t col, ptrdiff_t D, real *out, ptrdiff_t strip);                      \
        /* S = W X for the rows idx of X, features col to col + D, which are left `packed`;        \
         * `ahead` may be NULL */                                                                  \
        void (*scores)(const softline_rows *X, const ptrdiff_t *idx /* (n) */, ptrdiff_t n,        \
                       ptrdiff_t col, ptrdiff_t D, real *packed, ptrdiff_t strip, const real *W,   \
                       ptrdiff_t ldw, ptrdiff_t C, real *S, const softline_ahead *ahead);          \
        /* out = b + the sum of `parts` strips of scores, `part` elements apart */                 \
        void (*add_scores)(const real *S, ptrdiff_t part, ptrdiff_t parts,                         \
                           const real *b /* (C) */, ptrdiff_t C, real *out);                       \
        /* n <= L rows of a plain matrix, the first ones or those of idx, as a strip S, and back   \
         */                                                                                        \
        void (*load_strip)(const real *M, ptrdiff_t ldm, const ptrdiff_t *idx, ptrdiff_t n,        \
                           ptrdiff_t C, real *S);                                                  \
        void (*store_strip)(const real *S, ptrdiff_t n, ptrdiff_t C, real *M, ptrdiff_t ldm);      \
        /* a strip of scores becomes probabilities, or their logarithms */                         \
        void (*softmax)(real * S, ptrdiff_t C, int log);                                           \
        /* losses[r] = -log softmax(S[r])[y[r]] for the n <= L rows of a strip */                  \
        void (*cross_entropy)(const real *S, ptrdiff_t n, ptrdiff_t C, const int32_t *y /* (n) */, \
                              real *losses /* (n) */);                                             \
        /* the same, and S[r] = weight[r] (softmax(S[r]) - onehot(y[r])) in place */               \
        void (*cross_entropy_gradient)(real * S, ptrdiff_t n, ptrdiff_t C, const int32_t *y,       \
                                       const real *weight /* (n) */, real *losses /* (n) */);      \
        /* as the last, for the hinge loss: the sum of max(0, s_j - s_y + 1) over j != y */        \
        void (*hinge_gradient)(real * S, ptrdiff_t n, ptrdiff_t C, const int32_t *y,               \
                               const real *weight, real *losses);                                  \
        /* the cross-entropy for targets T, a strip, smoothed: (1 - smoothing) T + smoothing / C;  \
         * `weight` may be NULL, and S then stays as it is */                                      \
        void (*soft_cross_entropy)(real * S, ptrdiff_t n, ptrdiff_t C, const real *T,              \
                                   real smoothing, const real *weight, real *losses);              \
        /* db = sums of dS over n rows, and with `add` those that `sums` has by lane */            \
        void (*bias_gradient)(const real *dS, ptrdiff_t n, ptrdiff_t C, real *sums /* (C * L) */,  \
                              real *db /* (C) */, int add);                                        \
        /* dW = dS^T X, added to what dW holds if `add`; with an `update` the step is taken at     \
         * once, and dW not written; it has a drift for each `slab` of features. `ahead` may be    \
         * NULL. */                                                                                \
        void (*gradient)(const real *X, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D, ptrdiff_t slab, \
                         const real *dS, ptrdiff_t C, real *dW, ptrdiff_t ldw, int add,            \
                         const table##_update *update, const softline_ahead *ahead);               \
        /* the step for a gradient `scale` times dW */                                             \
        void (*update)(const table##_update *update, const real *dW, ptrdiff_t lddw, real scale,   \
                       ptrdiff_t C, ptrdiff_t D);                                                  \
        /* b -= step * db, or as the rule has it, and with shift the drifts of all slabs */        \
        void (*bias_update)(const table##_update *update, ptrdiff_t slabs, ptrdiff_t C, real *b);  \
        /* sum of metric (dW - db shift)^2 over a row of dW */                                     \
        real (*square_norm)(const real *dW, ptrdiff_t D, real db, const real *shift,               \
                            const real *metric);                                                   \
        /* A row of W longer than `most` is cut to that length, and its b moves by what the row    \
         * loses times shift. With `mean` (or NULL) it then takes its `share` in the mean. */      \
        void (*project)(real * W, ptrdiff_t D, real *b, real most, const real *shift, real *mean,  \
                        real *mean_b, real share);                                                 \
        /* Of each column: mean = `share` times the (weighted) sum, the (weighted) sum of squared  \
         * deviations from it; `low` and `high` take in minimum and maximum. */                    \
        void (*column_stats)(const real *X, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D,             \
                             const real *weight /* (n) */, double share, real *mean /* (D) */,     \
                             real *squares /* (D) */, real *low /* (D) */, real *high /* (D) */);  \
    } table;

SOFTLINE_DECLARE(float, softline_f32)
SOFTLINE_DECLARE(double, softline_f64)

/* What the hidden units of a network do. SOFTLINE_LEAK is the slope of a leaky one below 0. */
enum { SOFTLINE_IDENTITY, SOFTLINE_RELU, SOFTLINE_LEAKY_RELU, SOFTLINE_TANH, SOFTLINE_LOGISTIC };
#define SOFTLINE_LEAK 0.01

/* Well mixed bits of a number, by C. Wellons ("Prospecting for hash functions", lowbias32). */
static inline uint32_t softline_mix(uint32_t x) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

/* The kernels of a network. Its layers are strips, as scores are. */
#define SOFTLINE_DECLARE_NETWORK(real, table)                                                      \
    typedef struct table {                                                                         \
        /* out = W S + b for n rows: n_in vectors a strip become n_out. W(k, d) lies at            \
         * W + k * by_output + d * by_input; b may be NULL (zeros). */                             \
        void (*affine)(const real *S, ptrdiff_t n, ptrdiff_t n_in, const real *W,                  \
                       ptrdiff_t by_output, ptrdiff_t by_input, const real *b /* (n_out) */,       \
                       ptrdiff_t n_out, real *out);                                                \
        /* a strip of z becomes f(z) */                                                            \
        void (*activate)(real * S, ptrdiff_t units, int activation);                               \
        /* dS is multiplied with f'(z), where f(z) = keep A */                                     \
        void (*activation_gradient)(const real *A, ptrdiff_t units, int activation, real keep,     \
                                    real *dS);                                                     \
        /* Elements of a strip become 0 with probability `rate`, and are else divided by 1 - rate, \
         * as the bits of (key, unit, row + lane) have it. */                                      \
        void (*dropout)(real * S, ptrdiff_t units, double rate, uint32_t key, uint32_t row);       \
    } table;

SOFTLINE_DECLARE_NETWORK(float, softline_network_f32)
SOFTLINE_DECLARE_NETWORK(double, softline_network_f64)

/* The ISA in use, chosen once by softline_dispatch, and its tables. */
typedef struct softline_isa {
    const char *name;
    const softline_f32 *f32;
    const softline_f64 *f64;
    const softline_network_f32 *network_f32;
    const softline_network_f64 *network_f64;
    const struct softline_filter *filter; /* see neighbors.h */
    const struct softline_exact *exact;
} softline_isa;

/* The best ISA of this processor, or the one asked for; NULL if it was not built or cannot run. */
const softline_isa *softline_dispatch(const char *name);

/* The i-th ISA that was built, best first, NULL past the last; `*runs` tells whether it can run. */
const softline_isa *softline_built(int i, int *runs);

#endif
