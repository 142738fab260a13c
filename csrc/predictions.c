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

/* `count` rows as `columns` (D, L), a row a lane: transposed, if they do not lie so. `packed` is
 * room for rows of other dtypes. */
static void load_columns(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t count, ptrdiff_t D,
                         real *packed, real *columns) {
    const ptrdiff_t size = sizeof(real);
    const int as_is = X->dtype == (size == 4 ? SOFTLINE_F32 : SOFTLINE_F64) && !X->shift &&
                      !X->scale && X->row_bytes % size == 0;
    if (as_is && X->column_bytes == size) {
        load_strip((const real *)X->data, X->row_bytes / size, idx, count, D, columns);
        return;
    }
    if (as_is && X->row_bytes == size && consecutive(idx, count)) {
        const char *x = X->data + idx[0] * size;
        for (ptrdiff_t d = 0; d < D; d++, x += X->column_bytes)
            vstore(columns + d * LANES, vload_n((const real *)x, count, 0));
        return;
    }
    pack(X, idx, count, 0, D, packed, 0);
    for (ptrdiff_t d = 0; d < D; d += LANES)
        load_strip(packed + d / LANES * TILE, LANES, NULL, count, MIN(LANES, D - d),
                   columns + d * LANES);
}

/* S = W X for a strip. Features d, d + L, ... add up as in lane d of a vector, and these sums as
 * the lanes do in vsums: the bits are those of `scores`. */
static void column_scores(const real *columns, ptrdiff_t D, const real *W, ptrdiff_t ldw,
                          ptrdiff_t K, real *S) {
    const ptrdiff_t n_sums = MAX(MIN(D, LANES), 1);
    vec sum[64 / sizeof(real)];
    for (ptrdiff_t k = 0; k < K; k++, W += ldw) {
        for (ptrdiff_t i = 0; i < n_sums; i++) {
            sum[i] = vset1(0);
            for (ptrdiff_t d = i; d < D; d += LANES)
                sum[i] = vfma(vload(columns + d * LANES), vset1(W[d]), sum[i]);
        }
        for (ptrdiff_t half = LANES / 2; half; half /= 2)
            for (ptrdiff_t i = 0; i < half && i + half < n_sums; i++)
                sum[i] = vadd(sum[i], sum[i + half]);
        vstore(S + k * LANES, sum[0]);
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
                load_columns(&X, idx + i, n, D, packed, columns);
                column_scores(columns, D, c->A.at, c->A.ld, K, S + i * K);
            }
            add_parts(S + i * K, size, parts, c->b, K, sums);
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
