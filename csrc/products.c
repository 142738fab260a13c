/* Products: rows packed, scores W X, gradients dS^T X.
 *
 * Every accumulator belongs to one output and takes its terms in an order fixed by the shapes, so
 * neither tile sizes nor the split over threads can change a bit. */
#include <string.h>

#include "elements.h"
#include "simd.h"
#include "softline.h"

#define PREFETCH(p) __builtin_prefetch(p, 0, 2)

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

/* Functions of pack_as, one compiled for each dtype. */
typedef void pack_function(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col,
                           ptrdiff_t D, const real *shift, const real *scale, real *out);
#define FOR_DTYPES(F) F(F32) F(F64) F(F16) F(BF16) F(U8) F(I8)
#define PACK_FUNCTION(name)                                                                        \
    static void pack_##name(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n,             \
                            ptrdiff_t col, ptrdiff_t D, const real *shift, const real *scale,      \
                            real *out) {                                                           \
        pack_as(SOFTLINE_##name, X, idx, n, col, D, shift, scale, out);                            \
    }
FOR_DTYPES(PACK_FUNCTION)
#define PACK_ENTRY(name) [SOFTLINE_##name] = pack_##name,
static pack_function *const pack_functions[] = {FOR_DTYPES(PACK_ENTRY)};

/* out = the rows idx of X, features col to col + D, packed and converted */
static void pack(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col,
                 ptrdiff_t D, void *out, ptrdiff_t strip) {
    const real *shift = X->shift ? (const real *)X->shift + col : NULL;
    const real *scale = X->scale ? (const real *)X->scale + col : NULL;
    for (ptrdiff_t i = 0; i < n; i += LANES)
        pack_functions[X->dtype](X, idx + i, MIN(LANES, n - i), col, D, shift, scale,
                                 (real *)out + i / LANES * strip);
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

/* S[k, r] = W[k] . x[r] for `outputs` x `rows` (constants once inlined), x packed; or the rows are
 * at `from` and are packed into x on the way. Meanwhile, rows come that are wanted `soon`. */
INLINE void dot_tile(const int rows, const int outputs, const real *const *from, fetch *soon,
                     real *x, const real *W, ptrdiff_t ldw, ptrdiff_t D, real *S) {
    vec sum[TILE_ROWS * TILE_OUTPUTS];
    UNROLL(i, rows * outputs) sum[i] = vset1(0);
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
            UNROLL(k, outputs) {
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
        UNROLL(k, outputs) {
            const vec w = vload_n(W + k * ldw + d, D - d, 0);
            UNROLL(r, rows) sum[k * rows + r] = vfma(vload(x + r * LANES), w, sum[k * rows + r]);
        }
    }
    real sums[TILE_ROWS * TILE_OUTPUTS + REG_LANES];
    vsums(sum, rows * outputs, sums);
    UNROLL(k, outputs) memcpy(S + k * LANES, sums + k * rows, rows * sizeof(real));
}

/* Scores of `rows` rows for K outputs. The first tile does what is done beside; the others find
 * rows packed. */
INLINE void dots(const int rows, const real *const *from, fetch *soon, real *x, const real *W,
                 ptrdiff_t ldw, ptrdiff_t D, ptrdiff_t K, real *S) {
    for (ptrdiff_t k = 0; k < K; k += TILE_OUTPUTS, from = NULL, soon = NULL) {
        switch (MIN(TILE_OUTPUTS, K - k)) {
#define DOT_CASE(outputs)                                                                          \
    case outputs:                                                                                  \
        if (from)                                                                                  \
            dot_tile(rows, outputs, from, soon, x, W + k * ldw, ldw, D, S + k * LANES);            \
        else if (soon)                                                                             \
            dot_tile(rows, outputs, NULL, soon, x, W + k * ldw, ldw, D, S + k * LANES);            \
        else                                                                                       \
            dot_tile(rows, outputs, NULL, NULL, x, W + k * ldw, ldw, D, S + k * LANES);            \
        break;
            FOR_TILE_OUTPUTS(DOT_CASE)
        }
    }
}

/* Functions of dots by rows. */
typedef void dots_function(const real *const *from, fetch *soon, real *x, const real *W,
                           ptrdiff_t ldw, ptrdiff_t D, ptrdiff_t K, real *S);
#define DOTS_FUNCTION(rows)                                                                        \
    static void dots_##rows(const real *const *from, fetch *soon, real *x, const real *W,          \
                            ptrdiff_t ldw, ptrdiff_t D, ptrdiff_t K, real *S) {                    \
        dots(rows, from, soon, x, W, ldw, D, K, S);                                                \
    }
#define DOTS_ENTRY(rows) [rows] = dots_##rows,
FOR_TILE_ROWS(DOTS_FUNCTION)
static dots_function *const dots_functions[] = {FOR_TILE_ROWS(DOTS_ENTRY)};

/* Bytes of W that stay in L1 while rows pass by. */
#define W_BYTES (20 << 10)

/* S = W X for the rows idx of X, features col to col + D, which are left `packed`; without X they
 * are there already. `ahead` may be NULL. */
static void scores(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col,
                   ptrdiff_t D, real *packed, ptrdiff_t strip, const real *W, ptrdiff_t ldw,
                   ptrdiff_t K, real *S, const softline_ahead *ahead) {
    /* Rows of `real` as they should be are packed while they are first used; short ones before, for
     * then more of them are in flight from memory at once. */
    const int as_is = X && D > 8 * LANES && X->dtype == REAL_DTYPE &&
                      X->column_bytes == sizeof(real) && !X->shift && !X->scale;
    if (X && !as_is) pack(X, idx, n, col, D, packed, strip);
    const ptrdiff_t fit = W_BYTES / (MAX(D, 1) * (ptrdiff_t)sizeof(real));
    const ptrdiff_t at_once = MAX(fit / TILE_OUTPUTS, 1) * TILE_OUTPUTS;
    const ptrdiff_t tiles = n / LANES * STEPS(LANES, TILE_ROWS) + STEPS(n % LANES, TILE_ROWS);
    fetch soon = fetch_of(ahead, tiles * (D / LANES));
    for (ptrdiff_t k0 = 0; k0 < K; k0 += at_once) {
        const ptrdiff_t k1 = MIN(k0 + at_once, K);
        for (ptrdiff_t first = 0; first < n; first += LANES) {
            const ptrdiff_t count = MIN(LANES, n - first);
            real *x = packed + first / LANES * strip, *s = S + first * K;
            for (ptrdiff_t r = 0, rows; r < count; r += rows) {
                /* 16 rows by 3: 3 3 3 3 2 2, never a tile of one row where two of two do */
                rows = MIN(TILE_ROWS, count - r);
                if (TILE_ROWS == 3 && count - r == 4) rows = 2;
                const real *from[TILE_ROWS];
                for (ptrdiff_t i = 0; as_is && i < rows; i++)
                    from[i] = (const real *)(X->data + idx[first + r + i] * X->row_bytes) + col;
                dots_functions[rows](as_is && k0 == 0 ? from : NULL,
                                     ahead && k0 == 0 ? &soon : NULL, x + r * LANES, W + k0 * ldw,
                                     ldw, D, k1 - k0, s + k0 * LANES + r);
            }
        }
    }
}

/* Scores of the first `count` rows of idx, part by part, which lie `size` elements apart in
 * `parts`; what is packed is not kept. Meanwhile the `left` rows after them come into the cache. */
static void scores_by_parts(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t count,
                            ptrdiff_t left, ptrdiff_t D, real *packed, const real *W, ptrdiff_t ldw,
                            ptrdiff_t K, real *parts, ptrdiff_t size) {
    const ptrdiff_t part = softline_part(D, LANES), n_parts = STEPS(D, part);
    for (ptrdiff_t i = 0; i < n_parts; i++) {
        const ptrdiff_t col = i * part, begin = left * i / n_parts;
        const softline_ahead ahead = {X, idx + count + begin, left * (i + 1) / n_parts - begin, 0,
                                      D};
        scores(X, idx, count, col, MIN(part, D - col), packed, softline_packed(part, LANES),
               W + col, ldw, K, parts + i * size, left > 0 ? &ahead : NULL);
    }
}

/* out = b + the sum of the `parts` of a strip, `size` elements apart */
static void add_parts(const real *S, ptrdiff_t size, ptrdiff_t parts, const real *b, ptrdiff_t K,
                      real *out) {
    for (ptrdiff_t c = 0; c < K; c++) {
        vec sum = vset1(b[c]);
        for (ptrdiff_t k = 0; k < parts; k++) sum = vadd(sum, vload(S + k * size + c * LANES));
        vstore(out + c * LANES, sum);
    }
}

/* ---- strips from plain matrices and back ------------------------------------------------------
 */

static void load_strip(const real *M, ptrdiff_t ldm, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t K,
                       real *S) {
    for (ptrdiff_t c = 0; c < K; c += REG_LANES)
        for (ptrdiff_t r = 0; r < n; r += REG_LANES) {
            reg x[REG_LANES];
            UNROLL(i, REG_LANES)
                x[i] = r + i < n ? r_load_n(M + (idx ? idx[r + i] : r + i) * ldm + c, K - c)
                                 : (reg){0};
            r_transpose(x);
            UNROLL(i, REG_LANES)
                if (c + i < K) r_store(S + (c + i) * LANES + r, x[i]);
        }
}

/* Where rows lie one after the other, whole registers are written, and what is beyond a row is
 * overwritten by the first columns of the next, which come last: masked stores are slow. */
static void store_strip(const real *S, ptrdiff_t n, ptrdiff_t K, real *M, ptrdiff_t ldm) {
    const ptrdiff_t last_whole = ldm == K ? n * K - REG_LANES : -1;
    if (K == 1 && ldm == 1) {
        vstore_n(M, vload(S), n);
        return;
    }
    for (ptrdiff_t c = (K - 1) / REG_LANES * REG_LANES; c >= 0; c -= REG_LANES)
        for (ptrdiff_t r = 0; r < n; r += REG_LANES) {
            reg x[REG_LANES];
            UNROLL(i, REG_LANES) x[i] = c + i < K ? r_load(S + (c + i) * LANES + r) : (reg){0};
            r_transpose(x);
            UNROLL(i, REG_LANES)
                if (r + i < n)
                    r_store_n(M + (r + i) * ldm + c, x[i],
                              (r + i) * K + c <= last_whole ? REG_LANES : K - c);
        }
}

/* ---- gradient ---------------------------------------------------------------------------------
 */

/* db = sums of dS over n rows, and with `add` those that `sums` (K * L) has by lane */
static void bias_gradient(const real *dS, ptrdiff_t n, ptrdiff_t K, real *sums, real *db, int add) {
    for (ptrdiff_t c = 0; c < K; c++) {
        vec sum = add ? vload(sums + c * LANES) : vset1(0);
        for (ptrdiff_t first = 0; first < n; first += LANES)
            sum = vadd(sum, vload_n(dS + first * K + c * LANES, n - first, 0));
        vstore(sums + c * LANES, sum);
        db[c] = vsum(sum);
    }
}

INLINE void prefetch_tile(const int outputs, const int vecs, const real *p, ptrdiff_t ld) {
    for (int k = 0; k < outputs; k++)
        for (int v = 0; v < vecs; v++) PREFETCH(p + k * ld + v * LANES);
}

/* The weights and the state of a tile of the step. */
INLINE void prefetch_step(const step *u, const int outputs, const int vecs, ptrdiff_t k,
                          ptrdiff_t d) {
    prefetch_tile(outputs, vecs, u->W + k * u->ldw + d, u->ldw);
    const ptrdiff_t at = k * u->rule->ld + u->col + d;
    if (u->rule->m) prefetch_tile(outputs, vecs, (const real *)u->rule->m + at, u->rule->ld);
    if (u->rule->v) prefetch_tile(outputs, vecs, (const real *)u->rule->v + at, u->rule->ld);
}

/* What a gradient is made of: packed rows X (n, D), dS (n, K); and where it goes: dW, added to what
 * that holds if `add`, or with a step u at once into W, and dW is not written. */
typedef struct product {
    const real *X, *dS;
    ptrdiff_t strip, n, D, K;
    real *dW;
    ptrdiff_t ldw;
    int add;
} product;

/* Of `outputs` from k, features d to d + width. */
INLINE void gradient_tile(const int outputs, const int vecs, const product *p, const real *X,
                          ptrdiff_t d, ptrdiff_t width, ptrdiff_t k, const step *u, fetch *soon) {
    vec sum[GRADIENT_OUTPUTS][GRADIENT_VECS];
    real *dW = p->dW ? p->dW + k * p->ldw + d : NULL;
    /* While the rows pass, what the step takes comes, and what the next outputs begin with. */
    if (u) prefetch_step(u, outputs, vecs, k, d);
    if (p->add && k + 2 * outputs <= p->K)
        prefetch_tile(outputs, vecs, dW + outputs * p->ldw, p->ldw);
    UNROLL(i, outputs)
        UNROLL(v, vecs)
            sum[i][v] =
                p->add ? vload_n(dW + i * p->ldw + v * LANES, width - v * LANES, 0) : vset1(0);
    const ptrdiff_t n = p->n, K = p->K, strip = p->strip;
    const real *dS = p->dS + k * LANES;
    for (ptrdiff_t first = 0; first < n; first += LANES, X += strip, dS += K * LANES) {
        const ptrdiff_t count = MIN(LANES, n - first);
        const real *x = X, *ds = dS;
        for (ptrdiff_t r = 0; r < count; r++, x += LANES, ds++) {
            vec xv[GRADIENT_VECS];
            if (soon) fetch_some(soon);
            UNROLL(v, vecs) xv[v] = vload(x + v * TILE);
            UNROLL(i, outputs) {
                const vec s = vset1(ds[i * LANES]);
                UNROLL(v, vecs) sum[i][v] = vfma(s, xv[v], sum[i][v]);
            }
        }
    }
    if (!u) {
        UNROLL(i, outputs)
            UNROLL(v, vecs) vstore_n(dW + i * p->ldw + v * LANES, sum[i][v], width - v * LANES);
        return;
    }
    real g[GRADIENT_OUTPUTS * GRADIENT_VECS * 64 / sizeof(real)];
    UNROLL(i, outputs)
        UNROLL(v, vecs) vstore(g + (i * vecs + v) * LANES, sum[i][v]);
    step_tile(u, k, outputs, d, width, g, vecs * LANES, 1);
}

/* Functions of gradient_tile, largest first; each with one that asks for rows beside. */
typedef void gradient_function(const product *p, const real *X, ptrdiff_t d, ptrdiff_t width,
                               ptrdiff_t k, const step *u, fetch *soon);
typedef struct gradient_form {
    int outputs;
    gradient_function *plain, *fetching;
} gradient_form;
#define GRADIENT_FUNCTIONS(outputs, vecs)                                                          \
    static void gradient_##outputs##_##vecs(const product *p, const real *X, ptrdiff_t d,          \
                                            ptrdiff_t width, ptrdiff_t k, const step *u,           \
                                            fetch *soon) {                                         \
        (void)soon;                                                                                \
        gradient_tile(outputs, vecs, p, X, d, width, k, u, NULL);                                  \
    }                                                                                              \
    static void gradient_##outputs##_##vecs##_fetching(const product *p, const real *X,            \
                                                       ptrdiff_t d, ptrdiff_t width, ptrdiff_t k,  \
                                                       const step *u, fetch *soon) {               \
        gradient_tile(outputs, vecs, p, X, d, width, k, u, soon);                                  \
    }
#define GRADIENT_ENTRY(outputs, vecs)                                                              \
    {outputs, gradient_##outputs##_##vecs, gradient_##outputs##_##vecs##_fetching},
FOR_GRADIENT_TILES(GRADIENT_FUNCTIONS)
#if GRADIENT_VECS > 1
FOR_EDGE_TILES(GRADIENT_FUNCTIONS)
#endif
static const gradient_form whole_forms[] = {FOR_GRADIENT_TILES(GRADIENT_ENTRY)};
static const gradient_form edge_forms[] = {FOR_EDGE_TILES(GRADIENT_ENTRY)};

/* The gradient; a step has a drift for each `slab` of features. `ahead` may be NULL. */
static void gradient(const product *p, ptrdiff_t slab, const step *u, const softline_ahead *ahead) {
    const real *X = p->X;
    step own = u ? *u : (step){0};
    if (u) u = &own;
    fetch rows = fetch_of(ahead, p->n * STEPS(p->D, GRADIENT_VECS * LANES));
    for (ptrdiff_t first = 0; first < p->D; first += slab) {
        const ptrdiff_t end = MIN(first + slab, p->D);
        if (u) clear_drift(u, p->K);
        int vecs;
        for (ptrdiff_t d = first; d < end; d += vecs * LANES, X += vecs * TILE) {
            vecs = d + GRADIENT_VECS * LANES <= end ? GRADIENT_VECS : 1;
            const ptrdiff_t width = MIN(vecs * LANES, end - d);
            const gradient_form *form = vecs == GRADIENT_VECS ? whole_forms : edge_forms;
            for (ptrdiff_t k = 0; k < p->K; k += form->outputs) {
                while (k + form->outputs > p->K) form++;
                /* While the first outputs pass, the next rows come. */
                if (k == 0 && ahead)
                    form->fetching(p, X, d, width, k, u, &rows);
                else
                    form->plain(p, X, d, width, k, u, NULL);
            }
        }
        if (u && u->shift) own.drift += p->K * LANES;
    }
}

/* ---- by themselves ----------------------------------------------------------------------------
 */

/* out = dS^T X idx for the features col to col + width of a slab; dS is in strips of K. `packed` is
 * room for SOFTLINE_TASK_STRIPS strips of a slab. */
static void gradient_of_slab(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n,
                             ptrdiff_t col, ptrdiff_t width, ptrdiff_t slab, const real *dS,
                             ptrdiff_t K, real *packed, real *out, ptrdiff_t ld) {
    const ptrdiff_t rows = SOFTLINE_TASK_STRIPS * LANES, strip = softline_packed(slab, LANES);
    for (ptrdiff_t first = 0; first < n; first += rows) {
        const ptrdiff_t count = MIN(rows, n - first);
        pack(X, idx + first, count, col, width, packed, strip);
        const product p = {packed, dS + first * K, strip, count, width, K, out, ld, first > 0};
        gradient(&p, slab, NULL, NULL);
    }
}

/* Room of a thread: packed rows of a task. */
static void gradient_all(void *operands, softline_team *team, int thread) {
    const softline_call *c = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t K = c->A.columns, slab = softline_slab(c->D, LANES);
    real *packed = (real *)c->room + thread * c->room_size, *dS = c->shared;
    const ptrdiff_t strips = STEPS(c->n, LANES), slabs = STEPS(c->D, slab);
    for (ptrdiff_t s; softline_next_task(&w, strips, &s);)
        load_strip((const real *)c->A.at + s * LANES * c->A.ld, c->A.ld, NULL,
                   MIN(LANES, c->n - s * LANES), K, dS + s * K * LANES);
    if (softline_finish(&w, strips)) bias_gradient(dS, c->n, K, dS + strips * K * LANES, c->db, 0);
    softline_go_on(&w);
    for (ptrdiff_t task; slabs && softline_next_task(&w, slabs, &task);) {
        const ptrdiff_t col = task * slab, width = MIN(slab, c->D - col);
        gradient_of_slab(c->X, c->idx, c->n, col, width, slab, dS, K, packed,
                         (real *)c->out.at + col, c->out.ld);
    }
    if (slabs) softline_end(&w, slabs);
}

/* Feature D of n packed rows becomes `value`. */
static void append_constant(real *packed, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D, real value) {
    for (ptrdiff_t r = 0; r < n; r++) {
        real *x = packed + r / LANES * strip + D / LANES * TILE + r % LANES * LANES;
        if (D % LANES == 0) vstore(x, vset1(0));
        x[D % LANES] = value;
    }
}

/* The upper triangle of out (D + 1, D + 1) = the sum of weight[i] z z^T, z being row idx[i] of X,
 * then `number`; what is below it is nobody's. Room of a thread: weighted features of the rows of
 * out, packed rows. */
static void gram_all(void *operands, softline_team *team, int thread) {
    const softline_call *c = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t width = c->D + 1, tasks = STEPS(width, SOFTLINE_GRAM_OUTPUTS);
    const ptrdiff_t strip = softline_packed(SOFTLINE_GRAM_FEATURES, LANES);
    real *weighted = (real *)c->room + thread * c->room_size;
    real *packed = weighted + SOFTLINE_GRAM_ROWS * SOFTLINE_GRAM_OUTPUTS;
    for (ptrdiff_t task; softline_next_task(&w, tasks, &task);) {
        const ptrdiff_t begin = task * SOFTLINE_GRAM_OUTPUTS;
        const ptrdiff_t K = MIN(SOFTLINE_GRAM_OUTPUTS, width - begin);
        for (ptrdiff_t first = 0, n; first < c->n; first += n) {
            n = MIN(SOFTLINE_GRAM_ROWS, c->n - first);
            for (ptrdiff_t col = begin, count; col < width; col += count) {
                count = MIN(SOFTLINE_GRAM_FEATURES, width - col);
                pack(c->X, c->idx + first, n, col, MIN(count, c->D - col), packed, strip);
                if (col + count == width)
                    append_constant(packed, strip, n, c->D - col, (real)c->number);
                for (ptrdiff_t i = 0; col == begin && i < n; i += LANES) {
                    const ptrdiff_t left = MIN(LANES, n - i);
                    const vec weight = vload_n((const real *)c->weight + first + i, left, 0);
                    real *of_strip = weighted + i * K;
                    for (ptrdiff_t k = 0; k < K; k += LANES)
                        load_strip(packed + i / LANES * strip + softline_packed(k, LANES), LANES,
                                   NULL, left, MIN(LANES, K - k), of_strip + k * LANES);
                    for (ptrdiff_t k = 0; k < K; k++)
                        vstore(of_strip + k * LANES, vmul(weight, vload(of_strip + k * LANES)));
                }
                const product p = {packed,
                                   weighted,
                                   strip,
                                   n,
                                   count,
                                   K,
                                   (real *)c->out.at + begin * c->out.ld + col,
                                   c->out.ld,
                                   first > 0};
                gradient(&p, count, NULL, NULL);
            }
        }
    }
    softline_end(&w, tasks);
}
