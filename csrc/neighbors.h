/* Kernels of nearest neighbours, beside those of softline.h and to the same rules: a filter, which
 * finds the pairs of rows that may be near, in float32 or integers, and distances right to
 * rounding, in float64. One table each per ISA, which softline_isa has. */
#ifndef SOFTLINE_NEIGHBORS_H
#define SOFTLINE_NEIGHBORS_H

#include "softline.h"

/* Sums of absolute or of squared differences. */
enum { SOFTLINE_L1, SOFTLINE_L2 };

/* Bytes are zero-padded to this many where a kernel reads Q. */
#define SOFTLINE_BYTES_PAD 64

/* X (n, D) are training rows, packed or as they came, Q (C, D) queries, rows ldq elements apart. S
 * and packed are laid out as in softline.h. */
typedef struct softline_filter {
    /* S = L1 or L2 of x - q; or with `add`, that much more */
    void (*differences)(int metric, const float *packed, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D,
                        const float *Q, ptrdiff_t ldq, ptrdiff_t C, float *S, int add);
    /* sums[r] = x.x, or with `add`, that much more */
    void (*square_norms)(const float *packed, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D,
                         float *sums /* (n) */, int add);
    /* The queries for which a row of the strip S may be below the limit, or is not comparable: not
     * low[r] + scale S[c, r] >= limit[c]. Their numbers are written to `found`; returns how many.
     */
    ptrdiff_t (*candidates)(const float *S, ptrdiff_t C, float scale, const float *low /* (L) */,
                            const float *limit /* (C) */, int32_t *found /* (C) */);
    /* The same of integers, scale 1. */
    ptrdiff_t (*candidates_i32)(const int32_t *S, ptrdiff_t C, const int32_t *low,
                                const int32_t *limit, int32_t *found);
    /* S = sum of |x - q| for bytes q, or -2 x.q for signed q of as many bytes as told; exact below
     * 2^31. X are the rows from `first` on of unsigned bytes, adjacent in a row. */
    void (*byte_sums)(int metric, const softline_rows *X, ptrdiff_t first, ptrdiff_t n, ptrdiff_t D,
                      const void *Q, ptrdiff_t q_bytes, ptrdiff_t C, int32_t *S);
    int (*byte_query_width)(int metric);
    /* x.x - 256 (sum of x) of a row of bytes: of |x - q|^2, what depends on x alone beside
     * -2 x.(q - 128) */
    int32_t (*byte_norm)(const char *x, ptrdiff_t D);
} softline_filter;

typedef struct softline_exact {
    void (*differences)(int metric, const double *packed, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D,
                        const double *Q, ptrdiff_t ldq, ptrdiff_t C, double *S, int add);
    /* The same of row i of X and row j of Q, to the bit, for blocks of D added in order. */
    double (*pair)(int metric, const softline_rows *X, ptrdiff_t i, const softline_rows *Q,
                   ptrdiff_t j, ptrdiff_t D);
} softline_exact;

#endif
