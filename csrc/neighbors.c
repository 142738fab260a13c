/* The kernels of neighbors.h: compiled for float32, the filter; for float64, the distances. */
#include "neighbors.h"

#include "elements.h"
#include "simd.h"

/* ---- sums of differences, register tile by register tile ------------------------------------- */

INLINE reg r_add_difference(const int metric, reg x, reg q, reg sum) {
    const reg d = x - q;
    if (metric == SOFTLINE_L1) return sum + r_abs(d);
    return r_fma(d, d, sum);
}

INLINE vec vadd_difference(const int metric, vec x, vec q, vec sum) {
    LANEWISE(r_add_difference(metric, x.r[i], q.r[i], sum.r[i]));
}

/* S[c, r] for `queries` x `rows` (constants once inlined). */
INLINE void difference_tile(const int metric, const int rows, const int queries, const real *x,
                            const real *Q, ptrdiff_t ldq, ptrdiff_t D, real *S, int add) {
    vec sum[TILE_ROWS * TILE_OUTPUTS];
    UNROLL(i, rows * queries) sum[i] = vset1(0);
    ptrdiff_t d = 0;
    for (; d + LANES <= D; d += LANES, x += TILE)
        UNROLL(g, REGS) {
            reg xr[TILE_ROWS];
            UNROLL(r, rows) xr[r] = r_keep(r_load(x + r * LANES + g * REG_LANES));
            UNROLL(c, queries) {
                const reg q = r_keep(r_load(Q + c * ldq + d + g * REG_LANES));
                UNROLL(r, rows) {
                    reg *s = &sum[c * rows + r].r[g];
                    *s = r_add_difference(metric, xr[r], q, *s);
                }
            }
        }
    if (d < D)
        UNROLL(c, queries) {
            const vec q = vload_n(Q + c * ldq + d, D - d, 0);
            UNROLL(r, rows) {
                vec *s = &sum[c * rows + r];
                *s = vadd_difference(metric, vload(x + r * LANES), q, *s);
            }
        }
    real sums[TILE_ROWS * TILE_OUTPUTS + REG_LANES];
    vsums(sum, rows * queries, sums);
    UNROLL(c, queries)
        UNROLL(r, rows) {
            real *s = &S[c * LANES + r];
            *s = (add ? *s : 0) + sums[c * rows + r];
        }
}

/* Calls TILE_OF(rows, queries) for whole tiles, and for single rows and queries at the edges. Tiles
 * of some queries meet all rows, then those of the next. */
#define FOR_PAIRS(n, C, tile_rows, tile_queries)                                                   \
    for (ptrdiff_t c = 0, queries; c < (C); c += queries) {                                        \
        queries = c + (tile_queries) <= (C) ? (tile_queries) : 1;                                  \
        for (ptrdiff_t first = 0; first < (n); first += LANES) {                                   \
            const ptrdiff_t end = MIN(first + LANES, n);                                           \
            for (ptrdiff_t r = first, rows; r < end; r += rows) {                                  \
                rows = r + (tile_rows) <= end ? (tile_rows) : 1;                                   \
                if (rows == (tile_rows) && queries == (tile_queries))                              \
                    TILE_OF(tile_rows, tile_queries);                                              \
                else if (rows == (tile_rows))                                                      \
                    TILE_OF(tile_rows, 1);                                                         \
                else if (queries == (tile_queries))                                                \
                    TILE_OF(1, tile_queries);                                                      \
                else                                                                               \
                    TILE_OF(1, 1);                                                                 \
            }                                                                                      \
        }                                                                                          \
    }

INLINE void differences_of(const int metric, const real *packed, ptrdiff_t strip, ptrdiff_t n,
                           ptrdiff_t D, const real *Q, ptrdiff_t ldq, ptrdiff_t C, real *S,
                           int add) {
#define TILE_OF(rows, queries)                                                                     \
    difference_tile(metric, rows, queries, packed + r / LANES * strip + r % LANES * LANES,         \
                    Q + c * ldq, ldq, D, S + first * C + c * LANES + r % LANES, add)
    FOR_PAIRS(n, C, TILE_ROWS, TILE_OUTPUTS)
#undef TILE_OF
}

static void differences(int metric, const real *packed, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D,
                        const real *Q, ptrdiff_t ldq, ptrdiff_t C, real *S, int add) {
    if (metric == SOFTLINE_L1)
        differences_of(SOFTLINE_L1, packed, strip, n, D, Q, ldq, C, S, add);
    else
        differences_of(SOFTLINE_L2, packed, strip, n, D, Q, ldq, C, S, add);
}

#ifdef SOFTLINE_DOUBLE

/* ---- one pair of rows, of any dtypes --------------------------------------------------------- */

INLINE double pair_as(const int x_dtype, const int q_dtype, const int metric,
                      const softline_rows *X, ptrdiff_t i, const softline_rows *Q, ptrdiff_t j,
                      ptrdiff_t D) {
    static const int bytes[] = SOFTLINE_DTYPE_BYTES;
    const ptrdiff_t dx = X->column_bytes, dq = Q->column_bytes, block = softline_part(D, LANES);
    const int adjacent = dx == bytes[x_dtype] && dq == bytes[q_dtype];
    const char *x = X->data + i * X->row_bytes, *q = Q->data + j * Q->row_bytes;
    double total = 0;
    for (ptrdiff_t col = 0; col < D; col += block) {
        const ptrdiff_t width = MIN(block, D - col);
        vec sum = vset1(0);
        ptrdiff_t d = col;
        for (; adjacent && d + LANES <= col + width; d += LANES)
            sum = vadd_difference(metric, vload_as(x_dtype, x + d * dx),
                                  vload_as(q_dtype, q + d * dq), sum);
        for (; d < col + width; d += LANES) {
            const ptrdiff_t n = MIN(LANES, col + width - d);
            sum = vadd_difference(metric, vload_elements(x_dtype, x + d * dx, dx, n),
                                  vload_elements(q_dtype, q + d * dq, dq, n), sum);
        }
        total += vsum(sum);
    }
    return total;
}

static double pair(int metric, const softline_rows *X, ptrdiff_t i, const softline_rows *Q,
                   ptrdiff_t j, ptrdiff_t D) {
#define PAIR_AS(dtype)                                                                             \
    case dtype: return pair_as(dtype, dtype, metric, X, i, Q, j, D)
    if (X->dtype != Q->dtype) return pair_as(X->dtype, Q->dtype, metric, X, i, Q, j, D);
    switch (X->dtype) {
        PAIR_AS(SOFTLINE_F32);
        PAIR_AS(SOFTLINE_F64);
        PAIR_AS(SOFTLINE_F16);
        PAIR_AS(SOFTLINE_BF16);
        PAIR_AS(SOFTLINE_U8);
    default: return pair_as(SOFTLINE_I8, SOFTLINE_I8, metric, X, i, Q, j, D);
    }
}

const softline_exact SOFTLINE_NEIGHBORS = {differences, pair};

#else

/* ---- the filter ------------------------------------------------------------------------------ */

static void square_norms(const float *packed, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D,
                         float *sums, int add) {
    for (ptrdiff_t r = 0; r < n; r++) {
        const float *x = packed + r / LANES * strip + r % LANES * LANES;
        vec sum = vset1(0);
        for (ptrdiff_t d = 0; d < D; d += LANES, x += TILE) sum = vfma(vload(x), vload(x), sum);
        sums[r] = (add ? sums[r] : 0) + vsum(sum);
    }
}

static ptrdiff_t candidates(const float *S, ptrdiff_t C, float scale, const float *low,
                            const float *limit, int32_t *found) {
    const vec least = vload(low), by = vset1(scale);
    ptrdiff_t n = 0;
    for (ptrdiff_t c = 0; c < C; c++) {
        const vec bound = vfma(vload(S + c * LANES), by, least);
        mask below = {0};
        UNROLL(i, REGS) below |= ~(bound.r[i] >= r_set1(limit[c]));
        found[n] = (int32_t)c;
        n += r_any(below);
    }
    return n;
}

static ptrdiff_t candidates_i32(const int32_t *S, ptrdiff_t C, const int32_t *low,
                                const int32_t *limit, int32_t *found) {
    ptrdiff_t n = 0;
    for (ptrdiff_t c = 0; c < C; c++) {
        mask below = {0};
        UNROLL(i, REGS)
            below |= r_load_bits(S + c * LANES + i * REG_LANES) + r_load_bits(low + i * REG_LANES) <
                     (mask){0} + limit[c];
        found[n] = (int32_t)c;
        n += r_any(below);
    }
    return n;
}

/* How bytes are multiplied, or subtracted. */
enum { DIFFERENCES, PRODUCTS_16, PRODUCTS_8 };

static int byte_form(int metric) {
    if (metric == SOFTLINE_L1) return DIFFERENCES;
#ifdef HAS_DOT8
    if (HAS_DOT8) return PRODUCTS_8;
#endif
    return PRODUCTS_16;
}

static int byte_query_width(int metric) { return byte_form(metric) == PRODUCTS_16 ? 2 : 1; }

INLINE mask r_row_bytes(const int form, const char *x) {
    return form == PRODUCTS_16 ? r_bytes16(x) : r_load_bits(x);
}

INLINE mask r_add_bytes(const int form, mask x, mask q, mask sum) {
#ifdef HAS_DOT8
    if (form == PRODUCTS_8) return r_dot8(x, q, sum);
#endif
    return form == DIFFERENCES ? r_sad(x, q, sum) : r_dot16(x, q, sum);
}

/* As difference_tile. The last bytes of rows are read from a copy with zeros after them. */
INLINE void byte_tile(const int form, const int rows, const int queries, const char *x,
                      ptrdiff_t x_bytes, const char *Q, ptrdiff_t q_bytes, ptrdiff_t D,
                      int32_t *S) {
    mask sum[TILE_ROWS * TILE_OUTPUTS * REGS];
    UNROLL(i, rows * queries) sum[i] = (mask){0};
    const ptrdiff_t step = form == PRODUCTS_16 ? REG_BYTES / 2 : REG_BYTES;
    ptrdiff_t d = 0;
    for (; d + step <= D; d += step, x += step, Q += REG_BYTES) {
        mask xr[TILE_ROWS];
        UNROLL(r, rows) xr[r] = r_row_bytes(form, x + r * x_bytes);
        UNROLL(c, queries) {
            const mask q = r_load_bits(Q + c * q_bytes);
            UNROLL(r, rows) sum[c * rows + r] = r_add_bytes(form, xr[r], q, sum[c * rows + r]);
        }
    }
    if (d < D)
        UNROLL(r, rows) {
            char last[REG_BYTES] = {0};
            memcpy(last, x + r * x_bytes, D - d);
            const mask xr = r_row_bytes(form, last);
            UNROLL(c, queries) {
                mask *s = &sum[c * rows + r];
                *s = r_add_bytes(form, xr, r_load_bits(Q + c * q_bytes), *s);
            }
        }
    UNROLL(c, queries) {
        UNROLL(r, rows) {
            const int32_t total = r_sum_bits(sum[c * rows + r]);
            S[c * LANES + r] = form == DIFFERENCES ? total : -2 * total;
        }
    }
}

INLINE void byte_sums_of(const int form, const char *x, ptrdiff_t x_bytes, ptrdiff_t n, ptrdiff_t D,
                         const char *Q, ptrdiff_t q_bytes, ptrdiff_t C, int32_t *S) {
#define TILE_OF(rows, queries)                                                                     \
    byte_tile(form, rows, queries, x + r * x_bytes, x_bytes, Q + c * q_bytes, q_bytes, D,          \
              S + first * C + c * LANES + r % LANES)
    FOR_PAIRS(n, C, TILE_ROWS, TILE_OUTPUTS * REGS)
#undef TILE_OF
}

static void byte_sums(int metric, const softline_rows *X, ptrdiff_t first, ptrdiff_t n, ptrdiff_t D,
                      const void *Q, ptrdiff_t q_bytes, ptrdiff_t C, int32_t *S) {
    const char *x = X->data + first * X->row_bytes;
#define BYTE_SUMS(form)                                                                            \
    case form: byte_sums_of(form, x, X->row_bytes, n, D, Q, q_bytes, C, S); break
    switch (byte_form(metric)) {
        BYTE_SUMS(DIFFERENCES);
#ifdef HAS_DOT8
        BYTE_SUMS(PRODUCTS_8);
#endif
        BYTE_SUMS(PRODUCTS_16);
    default: break;
    }
}

static int32_t byte_norm(const char *x, ptrdiff_t D) {
    const ptrdiff_t step = REG_BYTES / 2;
    const mask ones = (mask){0} + 0x00010001;
    mask squares = {0}, sum = {0};
    for (ptrdiff_t d = 0; d < D; d += step, x += step) {
        char last[REG_BYTES] = {0};
        if (d + step > D) memcpy(last, x, D - d);
        const mask wide = r_bytes16(d + step > D ? last : x);
        squares = r_dot16(wide, wide, squares);
        sum = r_dot16(wide, ones, sum);
    }
    return r_sum_bits(squares) - 256 * r_sum_bits(sum);
}

const softline_filter SOFTLINE_NEIGHBORS = {
    differences, square_norms, candidates, candidates_i32, byte_sums, byte_query_width, byte_norm,
};

#endif
