/* Predictions: the scores of rows, and what is made of them while they are in cache. */
#include <string.h>

#include "elements.h"
#include "simd.h"
#include "softline.h"

/* ---- scores of few features ------------------------------------------------------------------ */

/* Most features of rows that are scored a row a lane, as measured with AVX2: for twice as many,
 * tiles of dot products take less time. */
#define FEW_FEATURES (6 * LANES)

static int consecutive(const ptrdiff_t *idx, ptrdiff_t n) {
    ptrdiff_t i = 1;
    while (i < n && idx[i] == idx[0] + i) i++;
    return i == n;
}

/* As load_strip, of LANES rows of D features, one after the other, with as many elements of other
 * rows behind them as a register has, which are read with the last row's. */
static void load_whole_strip(const real *x, ptrdiff_t D, real *columns) {
    for (ptrdiff_t d = 0; d < D; d += REG_LANES)
        UNROLL(g, REGS) {
            reg row[REG_LANES];
            UNROLL(i, REG_LANES) row[i] = r_load(x + (g * REG_LANES + i) * D + d);
            r_transpose(row);
            UNROLL(i, REG_LANES) r_store(columns + (d + i) * LANES + g * REG_LANES, row[i]);
        }
}

/* `count` rows as `columns` (D, L), a row a lane: transposed, if they do not lie so. Of rows in
 * order `after` is how many come after them. `packed` is room for rows of other dtypes. */
static void load_columns(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t count,
                         ptrdiff_t after, ptrdiff_t D, real *packed, real *columns) {
    const ptrdiff_t size = sizeof(real);
    const int as_is = X->dtype == REAL_DTYPE;
    if (as_is && X->row_bytes % size == 0 && X->column_bytes == size) {
        const real *x = (const real *)X->data;
        if (X->row_bytes == D * size && count == LANES && after * D >= REG_LANES)
            load_whole_strip(x + idx[0] * D, D, columns);
        else
            load_strip(x, X->row_bytes / size, idx, count, D, columns);
    } else if (as_is && X->row_bytes == size && consecutive(idx, count)) {
        const char *x = X->data + idx[0] * size;
        for (ptrdiff_t d = 0; d < D; d++, x += X->column_bytes)
            vstore(columns + d * LANES, vload_n((const real *)x, count, 0));
    } else {
        pack(X, idx, count, 0, D, packed, 0);
        for (ptrdiff_t d = 0; d < D; d += LANES)
            load_strip(packed + d / LANES * TILE, LANES, NULL, count, MIN(LANES, D - d),
                       columns + d * LANES);
        return;
    }
    const real *shift = X->shift, *scale = X->scale;
    for (ptrdiff_t d = 0; d < D && (shift || scale); d++) {
        vec x = vload(columns + d * LANES);
        if (shift) x = vsub(x, vset1(shift[d]));
        if (scale) x = vmul(x, vset1(scale[d]));
        vstore(columns + d * LANES, x);
    }
}

/* Outputs of which sums are computed at once. */
#define COLUMN_OUTPUTS 2

/* Sums of the features i, i + L, ... for some outputs. */
INLINE void sums_of_1(const int outputs, const ptrdiff_t i, const real *columns, ptrdiff_t D,
                      const real *W, ptrdiff_t ldw, vec *sum) {
    UNROLL(k, outputs) sum[k] = vset1(0);
    for (ptrdiff_t d = i; d < D; d += LANES) {
        const vec x = vload(columns + d * LANES);
        UNROLL(k, outputs) sum[k] = vfma(x, vset1(W[k * ldw + d]), sum[k]);
    }
}

/* The sum of `count` of these sums, those of i, i + L / count, ...: as vsums adds lanes up, in the
 * same tree. */
#define SUMS_OF(count, half)                                                                       \
    INLINE void sums_of_##count(const int outputs, const ptrdiff_t i, const real *columns,         \
                                ptrdiff_t D, const real *W, ptrdiff_t ldw, vec *sum) {             \
        sums_of_##half(outputs, i, columns, D, W, ldw, sum);                                       \
        if (i + LANES / count >= D) return;                                                        \
        vec other[COLUMN_OUTPUTS];                                                                 \
        sums_of_##half(outputs, i + LANES / count, columns, D, W, ldw, other);                     \
        UNROLL(k, outputs) sum[k] = vadd(sum[k], other[k]);                                        \
    }
SUMS_OF(2, 1)
SUMS_OF(4, 2)
SUMS_OF(8, 4)
#ifdef SOFTLINE_DOUBLE
#define SUMS_OF_ALL sums_of_8
#else
SUMS_OF(16, 8)
#define SUMS_OF_ALL sums_of_16
#endif

/* S = W X + b for a strip, with the bits of `scores`. */
static void column_scores(const real *columns, ptrdiff_t D, const real *W, ptrdiff_t ldw,
                          const real *b, ptrdiff_t K, real *S) {
    vec sum[COLUMN_OUTPUTS];
    ptrdiff_t k = 0;
    for (; k + COLUMN_OUTPUTS <= K; k += COLUMN_OUTPUTS) {
        SUMS_OF_ALL(COLUMN_OUTPUTS, 0, columns, D, W + k * ldw, ldw, sum);
        UNROLL(i, COLUMN_OUTPUTS) vstore(S + (k + i) * LANES, vadd(vset1(b[k + i]), sum[i]));
    }
    for (; k < K; k++) {
        SUMS_OF_ALL(1, 0, columns, D, W + k * ldw, ldw, sum);
        vstore(S + k * LANES, vadd(vset1(b[k]), sum[0]));
    }
}

/* ---- what is made of scores ------------------------------------------------------------------ */

/* The names of the largest of K scores of each row, the first of equal ones; NaN counts as the
 * largest, as in NumPy. */
static void largest_scores(const real *S, ptrdiff_t n, ptrdiff_t K, const char *names,
                           ptrdiff_t name_bytes, char *classes) {
    bits numbers[64 / sizeof(real)];
    UNROLL(i, REGS) {
        reg largest = r_load(S + i * REG_LANES);
        mask number = {0};
        for (ptrdiff_t k = 1; k < K; k++) {
            const reg s = r_load(S + k * LANES + i * REG_LANES);
            const mask larger = ~(s <= largest) & (largest == largest);
            largest = r_select(larger, s, largest);
            number = (larger & ((mask){0} + (bits)k)) | (~larger & number);
        }
        memcpy(numbers + i * REG_LANES, &number, sizeof number);
    }
    if (name_bytes == 8) /* whose copies the compiler writes out */
        for (ptrdiff_t r = 0; r < n; r++) memcpy(classes + 8 * r, names + 8 * numbers[r], 8);
    else
        for (ptrdiff_t r = 0; r < n; r++)
            memcpy(classes + name_bytes * r, names + name_bytes * numbers[r], (size_t)name_bytes);
}

/* Write what is `wanted` of a strip of K scores, of the rows from `first` on. One output is the
 * log-odds of the second of two classes; S has room for the other. */
static void tell(const softline_call *c, real *S, ptrdiff_t K, ptrdiff_t first, ptrdiff_t n) {
    if (K == 1 && c->wanted != SOFTLINE_SCORES) {
        /* +- the log-odds have the same largest, +- half of them the probabilities */
        const vec s = vmul(vload(S), vset1(c->wanted == SOFTLINE_CLASSES ? 1 : (real)0.5));
        vstore(S, vsub(vset1(0), s));
        vstore(S + LANES, s);
        K = 2;
    }
    if (c->wanted == SOFTLINE_CLASSES) {
        largest_scores(S, n, K, c->names, c->name_bytes, c->classes + first * c->name_bytes);
        return;
    }
    if (c->wanted != SOFTLINE_SCORES) softmax_strip(S, K, c->wanted == SOFTLINE_LOGARITHMS);
    store_strip(S, n, K, (real *)c->out.at + first * c->out.ld, c->out.ld);
}

/* Rows of X idx, or without idx all of them in order. Room of a thread: packed rows of a task and
 * one strip more; the parts of its scores and 2 K vectors. `finite` tells whether all scores are.
 */
static void predictions(void *operands, softline_team *team, int thread) {
    const softline_call *c = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t D = c->D, K = c->A.rows, rows = c->strips * LANES, size = rows * K;
    const ptrdiff_t part = softline_part(D, LANES), parts = STEPS(D, part);
    real *packed = (real *)c->room + thread * c->room_size;
    real *S = packed + (c->strips + 1) * softline_packed(part, LANES), *sums = S + parts * size;
    const int few = D <= FEW_FEATURES;
    ptrdiff_t in_order[2 * SOFTLINE_TASK_STRIPS * 64 / sizeof(real)];
    for (ptrdiff_t i = 0; !c->idx && i < 2 * rows; i++) in_order[i] = i;
    vec not_finite = vset1(0);
    for (ptrdiff_t task; softline_next_task(&w, STEPS(c->n, rows), &task);) {
        const ptrdiff_t first = task * rows, count = MIN(rows, c->n - first);
        const ptrdiff_t *idx = c->idx ? c->idx + first : in_order;
        softline_rows X = *c->X;
        if (!c->idx) X.data += first * X.row_bytes;
        if (!few)
            scores_by_parts(&X, idx, count, MIN(rows, c->n - first - count), D, packed, c->A.at,
                            c->A.ld, K, S, size);
        for (ptrdiff_t i = 0; i < count; i += LANES) {
            const ptrdiff_t n = MIN(LANES, count - i);
            if (few) {
                real *columns = packed + softline_packed(D, LANES);
                const ptrdiff_t after = c->idx ? 0 : c->n - first - i - n;
                load_columns(&X, idx + i, n, after, D, packed, columns);
                column_scores(columns, D, c->A.at, c->A.ld, c->b, K, sums);
            } else {
                add_parts(S + i * K, size, parts, c->b, K, sums);
            }
            for (ptrdiff_t k = 0; k < K; k++) { /* s - s is NaN where s is not finite */
                const vec s = vload(sums + k * LANES);
                not_finite = vadd(not_finite, vsub(s, s));
            }
            tell(c, sums, K, first + i, n);
        }
    }
    c->finite[thread] = vsum(not_finite) == 0;
    softline_end(&w, STEPS(c->n, rows));
}
