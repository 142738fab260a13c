/* Passes over all rows: what one thread of a team does.
 *
 * The rows are blocks of SOFTLINE_BLOCK. A block has its own sums, which one thread makes: chunk by
 * chunk of rows that stay in cache, scores, what becomes of them, and the gradient to W. The sums
 * of blocks are added in float64 along a binary tree over their numbers,
 *
 *     ((0 + 1) + (2 + 3)) + ((4 + 5) + 6)
 *
 * so neither threads nor who holds the rows of a block changes a bit. A task is a whole subtree. */
#include <string.h>

#include "elements.h"
#include "simd.h"
#include "softline.h"

/* ---- the tree ----------------------------------------------------------------------------------
 */

/* What a pass makes of the rows of a block, and of two neighbours in the tree: `node` takes in
 * `other`. A node is `size` doubles. */
typedef void block_function(const void *pass, int thread, ptrdiff_t block, double *node);
typedef void merge_function(double *node, const double *other, ptrdiff_t size);

static void add_node(double *node, const double *other, ptrdiff_t size) {
    for (ptrdiff_t i = 0; i < size; i++) node[i] += other[i];
}

/* The blocks first to last, a whole subtree, into `node`; the stack holds the nodes that wait for
 * their neighbour. */
static void subtree(const void *pass, int thread, block_function *of_block, merge_function *merge,
                    ptrdiff_t first, ptrdiff_t last, ptrdiff_t size, double *stack, double *node) {
    ptrdiff_t height = 0;
    for (ptrdiff_t i = 0; i < last - first; i++) {
        of_block(pass, thread, first + i, stack + height++ * size);
        /* As many nodes are whole as i has ones at its end. */
        for (ptrdiff_t ones = i; ones & 1; ones >>= 1, height--)
            merge(stack + (height - 2) * size, stack + (height - 1) * size, size);
    }
    for (; height > 1; height--)
        merge(stack + (height - 2) * size, stack + (height - 1) * size, size);
    memcpy(node, stack, (size_t)size * sizeof(double));
}

/* The nodes of all subtrees, `apart` doubles apart, along the tree into the first. */
static void merge_along_tree(merge_function *merge, double *nodes, ptrdiff_t count, ptrdiff_t apart,
                             ptrdiff_t size) {
    for (ptrdiff_t level = 1; level < count; level *= 2)
        for (ptrdiff_t i = 0; i + level < count; i += 2 * level)
            merge(nodes + i * apart, nodes + (i + level) * apart, size);
}

/* ---- loss and gradient -------------------------------------------------------------------------
 */

/* The weight of row i, 1 without weights. */
INLINE real weight_of(const void *row_weight, ptrdiff_t i) {
    return row_weight ? ((const real *)row_weight)[i] : 1;
}

/* What a thread needs for a chunk of a pass. */
typedef struct pass_room {
    real *packed, *parts, *dS, *dW, *lane_db, *db, *weight, *losses;
    ptrdiff_t strip, size, ldw;
} pass_room;

static pass_room pass_room_of(const softline_pass *p, int thread) {
    const ptrdiff_t rows = p->chunk_strips * LANES, K = p->K;
    pass_room m = {.strip = softline_packed(p->D + LANES, LANES),
                   .size = rows * K,
                   .ldw = STEPS(p->D, LANES) * LANES};
    m.packed = (real *)p->room + thread * p->room_size;
    m.parts = m.packed + p->chunk_strips * m.strip;
    m.dS = m.parts + MAX(STEPS(p->D, softline_part(p->D, LANES)), 1) * m.size;
    m.dW = m.dS + m.size;
    m.lane_db = m.dW + K * m.ldw;
    m.db = m.lane_db + K * LANES;
    m.weight = m.db + STEPS(K, LANES) * LANES;
    m.losses = m.weight + LANES;
    return m;
}

/* The sums of a block, as a node: K rows of dW and db, and the loss. */
static void block_sums(const void *pass, int thread, ptrdiff_t block, double *node) {
    const softline_pass *p = pass;
    const pass_room room = pass_room_of(p, thread), *m = &room;
    const ptrdiff_t D = p->D, K = p->K, part = softline_part(D, LANES), parts = STEPS(D, part);
    const ptrdiff_t end = MIN((block + 1) * SOFTLINE_BLOCK, p->n);
    double loss = 0;
    int add = 0;
    for (ptrdiff_t first = block * SOFTLINE_BLOCK, n; first < end; first += n, add = 1) {
        n = MIN(p->chunk_strips * LANES, end - first);
        for (ptrdiff_t i = 0; i < parts; i++) {
            const ptrdiff_t col = i * part;
            scores(p->X, p->idx + first, n, col, MIN(part, D - col),
                   m->packed + softline_packed(col, LANES), m->strip, (const real *)p->W + col,
                   p->ldw, K, m->parts + i * m->size, NULL);
        }
        for (ptrdiff_t i = 0; i < n; i += LANES) {
            const ptrdiff_t count = MIN(LANES, n - i);
            for (ptrdiff_t r = 0; r < count; r++)
                m->weight[r] = weight_of(p->row_weight, first + i + r);
            add_parts(m->parts + i * K, m->size, parts, p->b, K, m->dS + i * K);
            cross_entropy_gradient(m->dS + i * K, count, K, p->labels + first + i, m->weight,
                                   m->losses);
            for (ptrdiff_t r = 0; r < count; r++) loss += (double)m->weight[r] * m->losses[r];
        }
        const softline_ahead ahead = {p->X, p->idx + first + n, MIN(n, end - first - n), 0, D};
        const product g = {m->packed, m->dS, m->strip, n, D, K, m->dW, m->ldw, add};
        gradient(&g, D, NULL, &ahead);
        bias_gradient(m->dS, n, K, m->lane_db, m->db, add);
    }
    for (ptrdiff_t k = 0; k < K; k++, node += D + 1) {
        for (ptrdiff_t d = 0; d < D; d++) node[d] = m->dW[k * m->ldw + d];
        node[D] = m->db[k];
    }
    *node = loss;
}

static void pass(void *operands, softline_team *team, int thread) {
    const softline_pass *p = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t blocks = STEPS(p->n, SOFTLINE_BLOCK), tasks = STEPS(blocks, p->task_blocks);
    const ptrdiff_t D = p->D, K = p->K, size = K * (D + 1) + 1;
    for (ptrdiff_t task; softline_next_task(&w, tasks, &task);) {
        const ptrdiff_t first = task * p->task_blocks, last = MIN(first + p->task_blocks, blocks);
        subtree(p, thread, block_sums, add_node, first, last, size,
                p->stack + thread * p->depth * size, p->nodes + task * size);
    }
    softline_finish(&w, tasks);
    softline_go_on(&w);

    for (ptrdiff_t k; softline_next_task(&w, K, &k);) {
        double *sums = p->nodes + k * (D + 1);
        merge_along_tree(add_node, sums, tasks, size, D + 1);
        for (ptrdiff_t d = 0; d < D; d++) p->dW[k * p->lddw + d] = p->scale * sums[d];
        p->db[k] = p->scale * sums[D];
    }
    if (softline_finish(&w, K)) {
        merge_along_tree(add_node, p->nodes + size - 1, tasks, size, 1);
        *p->loss = p->scale * p->nodes[size - 1];
    }
    softline_go_on(&w);
    softline_leave(&w);
}

/* ---- losses of many models ---------------------------------------------------------------------
 */

/* Room of a thread: packed rows of a chunk, parts of its scores, scores of a strip, losses of rows.
 */
static void candidate_losses(void *operands, softline_team *team, int thread) {
    const softline_candidates *p = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t D = p->D, K = p->K, models = p->candidates, outputs = models * K;
    const ptrdiff_t part = softline_part(D, LANES), parts = STEPS(D, part);
    const ptrdiff_t rows = p->chunk_strips * LANES, size = rows * outputs;
    const ptrdiff_t blocks = STEPS(p->n, SOFTLINE_BLOCK);
    real *packed = (real *)p->room + thread * p->room_size;
    real *S = packed + p->chunk_strips * softline_packed(part, LANES);
    real *sums = S + MAX(parts, 1) * size, *losses = sums + outputs * LANES;
    for (ptrdiff_t block; softline_next_task(&w, blocks, &block);) {
        const ptrdiff_t end = MIN((block + 1) * SOFTLINE_BLOCK, p->n);
        double *of_block = p->sums + block * models;
        for (ptrdiff_t k = 0; k < models; k++) of_block[k] = 0;
        for (ptrdiff_t first = block * SOFTLINE_BLOCK, n; first < end; first += n) {
            n = MIN(rows, end - first);
            scores_by_parts(p->X, p->idx + first, n, MIN(rows, end - first - n), D, packed, p->W,
                            p->ldw, outputs, S, size);
            for (ptrdiff_t i = 0; i < n; i += LANES) {
                const ptrdiff_t count = MIN(LANES, n - i);
                add_parts(S + i * outputs, size, parts, p->b, outputs, sums);
                for (ptrdiff_t k = 0; k < models; k++) {
                    double sum = 0;
                    cross_entropy(sums + k * K * LANES, count, K, p->labels + first + i, losses);
                    for (ptrdiff_t r = 0; r < count; r++)
                        sum += (double)weight_of(p->row_weight, first + i + r) * losses[r];
                    of_block[k] += sum;
                }
            }
        }
    }
    if (softline_finish(&w, blocks)) {
        merge_along_tree(add_node, p->sums, blocks, models, models);
        for (ptrdiff_t k = 0; k < models; k++) p->losses[k] = p->scale * p->sums[k];
    }
    softline_go_on(&w);
    softline_leave(&w);
}

/* ---- statistics of columns --------------------------------------------------------------------
 */

/* Of each column of packed rows: mean = `share` times the (weighted) sum, the (weighted) sum of
 * squared deviations from it; `low` and `high` take in minimum and maximum. */
static void stats_of(const real *X, ptrdiff_t strip, ptrdiff_t n, ptrdiff_t D, const real *weight,
                     double share, real *mean, real *squares, real *low, real *high) {
    for (ptrdiff_t d = 0; d < D; d += LANES, X += TILE) {
        const ptrdiff_t width = MIN(LANES, D - d);
        vec sum = vset1(0), sum2 = vset1(0), least = vload_n(low + d, width, 0),
            most = vload_n(high + d, width, 0);
        for (ptrdiff_t i = 0; i < n; i++) {
            const vec x = vload(X + i / LANES * strip + i % LANES * LANES);
            sum = vfma(vset1(weight ? weight[i] : 1), x, sum);
            least = vmin(x, least);
            most = vmax(x, most);
        }
        /* about a mean that is rounded, then corrected for that */
        const vec m = vmul(sum, vset1((real)share));
        vec rest = vset1(0);
        for (ptrdiff_t i = 0; i < n; i++) {
            const vec x = vsub(vload(X + i / LANES * strip + i % LANES * LANES), m);
            const vec weighted = vmul(vset1(weight ? weight[i] : 1), x);
            rest = vadd(rest, weighted);
            sum2 = vfma(weighted, x, sum2);
        }
        const vec off = vmul(rest, vset1((real)share));
        vstore_n(mean + d, vadd(m, off), width);
        vstore_n(squares + d, vsub(sum2, vmul(rest, off)), width);
        vstore_n(low + d, least, width);
        vstore_n(high + d, most, width);
    }
}

/* A node of column_stats: the sum of the weights, and mean, squares, low and high of D features. */
static void merge_stats(double *node, const double *other, ptrdiff_t size) {
    const ptrdiff_t D = (size - 1) / 4;
    double *mean = node + 1, *squares = mean + D, *low = squares + D, *high = low + D;
    const double here = node[0], there = other[0], total = here + there, *its = other + 1;
    const double share = total > 0 ? there / total : 0;
    for (ptrdiff_t d = 0; d < D; d++) {
        const double delta = its[d] - mean[d];
        mean[d] += delta * share;
        squares[d] += its[D + d];
        squares[d] += delta * delta * here * share;
        low[d] = its[2 * D + d] < low[d] ? its[2 * D + d] : low[d];
        high[d] = its[3 * D + d] > high[d] ? its[3 * D + d] : high[d];
    }
    node[0] = total;
}

/* Statistics of a block: those of some rows, each about its own mean, merged in float64 (Chan,
 * Golub and LeVeque, 1983). A long sum in float32 would lose the last rows, a sum of squares all
 * digits of a variance beside a large mean. Room of a thread: packed rows; mean, squares, low,
 * high; a node. */
static void block_stats(const void *pass, int thread, ptrdiff_t block, double *node) {
    const softline_stats *p = pass;
    const ptrdiff_t D = p->D, ld = STEPS(D, LANES) * LANES, size = 4 * D + 1;
    const ptrdiff_t slab = MIN(ld, SOFTLINE_STATS_FEATURES), strip = softline_packed(slab, LANES);
    const ptrdiff_t end = MIN((block + 1) * SOFTLINE_BLOCK, p->n);
    real *packed = (real *)p->room + thread * p->room_size;
    real *found = packed + SOFTLINE_STATS_ROWS / LANES * strip;
    double *into = node;
    for (ptrdiff_t first = block * SOFTLINE_BLOCK, n; first < end; first += n) {
        const real *weight = p->row_weight ? (const real *)p->row_weight + first : NULL;
        n = MIN(SOFTLINE_STATS_ROWS, end - first);
        *into = 0;
        for (ptrdiff_t r = 0; r < n; r++) *into += weight ? weight[r] : 1;
        const double share = *into > 0 ? 1 / *into : 0;
        for (ptrdiff_t d = 0; d < ld; d++) {
            found[2 * ld + d] = INFINITY;
            found[3 * ld + d] = -INFINITY;
        }
        for (ptrdiff_t col = 0; col < D; col += slab) {
            const ptrdiff_t width = MIN(slab, D - col);
            pack(p->X, p->idx + first, n, col, width, packed, strip);
            stats_of(packed, strip, n, width, weight, share, found + col, found + ld + col,
                     found + 2 * ld + col, found + 3 * ld + col);
        }
        for (ptrdiff_t i = 0; i < 4; i++)
            for (ptrdiff_t d = 0; d < D; d++) into[1 + i * D + d] = found[i * ld + d];
        if (into != node) merge_stats(node, into, size);
        into = p->stack + (thread * p->depth + p->depth - 1) * size;
    }
}

static void column_stats(void *operands, softline_team *team, int thread) {
    const softline_stats *p = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t blocks = STEPS(p->n, SOFTLINE_BLOCK), tasks = STEPS(blocks, p->task_blocks);
    const ptrdiff_t size = 4 * p->D + 1;
    for (ptrdiff_t task; softline_next_task(&w, tasks, &task);) {
        const ptrdiff_t first = task * p->task_blocks, last = MIN(first + p->task_blocks, blocks);
        subtree(p, thread, block_stats, merge_stats, first, last, size,
                p->stack + thread * p->depth * size, p->nodes + task * size);
    }
    if (softline_finish(&w, tasks)) merge_along_tree(merge_stats, p->nodes, tasks, size, size);
    softline_go_on(&w);
    softline_leave(&w);
}
