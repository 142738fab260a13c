/* The whole C contract: one table of kernels per dtype.
 *
 * A kernel runs on the calling thread, allocates nothing, and never fails: its caller has checked
 * every shape, row number and label. Matrices are row-major, rows `ld*` elements apart. Sums run in
 * an order fixed by the shapes alone, so however the caller splits the rows (of scores) or the
 * parameters (of gradients) over threads, the bits of the result are the same.
 *
 * N rows, D features, C classes; W is (C, D); `idx` holds n row numbers of X, NULL means 0..n-1. */
#ifndef SOFTLINE_H
#define SOFTLINE_H

#include <stddef.h>
#include <stdint.h>

/* Elements in a virtual vector of 64 bytes: the same on every ISA, so that lanes sum alike. */
#define SOFTLINE_LANES(real) (64 / sizeof(real))

/* Features per block: `scores` sums a block by itself and then adds the blocks in order, so that
 * they may be computed apart. A block of W stays in L1 while rows pass by. Equal blocks, to share
 * them out evenly. */
static inline ptrdiff_t softline_block(ptrdiff_t D, ptrdiff_t lanes) {
    const ptrdiff_t most = 512, blocks = (D + most - 1) / most;
    return blocks ? ((D + blocks - 1) / blocks + lanes - 1) / lanes * lanes : lanes;
}

#define SOFTLINE_DECLARE(real, table)                                                              \
    typedef struct table {                                                                         \
        /* S[i] = W X[idx[i]] + b; b may be NULL. Meanwhile half of the rows `next` (n row         \
         * numbers, or NULL) come into the cache. */                                               \
        void (*scores)(const real *X /* (N, D) */, ptrdiff_t ldx, const ptrdiff_t *idx /* (n) */,  \
                       const ptrdiff_t *next, ptrdiff_t n, ptrdiff_t D,                            \
                       const real *W /* (C, D) */, ptrdiff_t ldw, const real *b /* (C) */,         \
                       ptrdiff_t C, real *S /* (n, C) */, ptrdiff_t lds);                          \
        /* rows of S become probabilities, or their logarithms */                                  \
        void (*softmax)(real * S /* (n, C) */, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C, int log);  \
        /* losses[i] = -log softmax(S[i])[y[i]] */                                                 \
        void (*cross_entropy)(const real *S /* (n, C) */, ptrdiff_t lds, ptrdiff_t n, ptrdiff_t C, \
                              const int32_t *y /* (n) */, real *losses /* (n) */);                 \
        /* the same, and S[i] = weight[i] (softmax(S[i]) - onehot(y[i])) in place */               \
        void (*cross_entropy_gradient)(real * S /* (n, C) */, ptrdiff_t lds, ptrdiff_t n,          \
                                       ptrdiff_t C, const int32_t *y /* (n) */,                    \
                                       const real *weight /* (n) */, real *losses /* (n) */);      \
        /* dW = dS^T X[idx], added to what dW holds if `add`; the other half of `next` comes */    \
        void (*gradient)(const real *X /* (N, D) */, ptrdiff_t ldx,                                \
                         const ptrdiff_t *idx /* (n) */, const ptrdiff_t *next, ptrdiff_t n,       \
                         ptrdiff_t D, const real *dS /* (n, C) */, ptrdiff_t lds, ptrdiff_t C,     \
                         real *dW /* (C, D) */, ptrdiff_t ldw, int add);                           \
        /* db = column sums of dS, added to what db holds if `add` */                              \
        void (*bias_gradient)(const real *dS /* (n, C) */, ptrdiff_t lds, ptrdiff_t n,             \
                              ptrdiff_t C, real *db /* (C) */, int add);                           \
        /* W -= step * metric * (dW - db shift^T + alpha W); drift = the change of W, times shift. \
         * shift and metric may be NULL (zeros, ones); drift may be NULL only if shift is */       \
        void (*sgd_update)(real * W /* (C, D) */, ptrdiff_t ldw, const real *dW /* (C, D) */,      \
                           ptrdiff_t lddw, const real *db /* (C) */, ptrdiff_t C, ptrdiff_t D,     \
                           real step, real alpha, const real *shift /* (D) */,                     \
                           const real *metric /* (D) */, real *drift /* (C) */);                   \
        /* sum, minimum and maximum of each column, weighted sum if weight is not NULL;            \
         * added to what they hold */                                                              \
        void (*column_stats)(const real *X /* (N, D) */, ptrdiff_t ldx, const ptrdiff_t *idx,      \
                             ptrdiff_t n, ptrdiff_t D, const real *weight /* (n) */,               \
                             real *sum /* (D) */, real *low /* (D) */, real *high /* (D) */);      \
    } table;

SOFTLINE_DECLARE(float, softline_f32)
SOFTLINE_DECLARE(double, softline_f64)

/* The ISA in use, chosen once by softline_dispatch, and its tables. */
typedef struct softline_isa {
    const char *name;
    const softline_f32 *f32;
    const softline_f64 *f64;
} softline_isa;

/* The best ISA of this processor, or the one asked for; NULL if it was not built or cannot run. */
const softline_isa *softline_dispatch(const char *name);

/* The i-th ISA that was built, best first, NULL past the last; `*runs` tells whether it can run. */
const softline_isa *softline_built(int i, int *runs);

#endif
