/* Passes over all rows: what one thread of a team does.
 *
 * The rows are blocks of SOFTLINE_BLOCK. A block has its own sums, which one thread makes: chunk by
 * chunk of rows that stay in cache, scores, what becomes of them, and the gradient to W. The sums
 * of blocks are added in float64 along a binary tree over their numbers,
 *
 *     ((0 + 1) + (2 + 3)) + ((4 + 5) + 6)
 *
 * so neither threads nor who holds the rows of a block changes a bit. A task is a whole subtree. */
#include "elements.h"
#include "simd.h"
#include "softline.h"

/* node += other, element by element */
static void add_node(double *node, const double *other, ptrdiff_t size) {
    for (ptrdiff_t i = 0; i < size; i++) node[i] += other[i];
}

/* The sum of nodes `apart` elements apart along the tree, which is left in the first. */
static void sum_along_tree(double *nodes, ptrdiff_t count, ptrdiff_t apart, ptrdiff_t size) {
    for (ptrdiff_t level = 1; level < count; level *= 2)
        for (ptrdiff_t i = 0; i + level < count; i += 2 * level)
            add_node(nodes + i * apart, nodes + (i + level) * apart, size);
}

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
static void block_sums(const softline_pass *p, const pass_room *m, ptrdiff_t block, double *node) {
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

/* The sums of the blocks first to last, a subtree, into `node`. */
static void subtree_sums(const softline_pass *p, const pass_room *m, ptrdiff_t first,
                         ptrdiff_t last, double *stack, double *node) {
    const ptrdiff_t size = p->K * (p->D + 1) + 1;
    ptrdiff_t height = 0;
    for (ptrdiff_t i = 0; i < last - first; i++) {
        block_sums(p, m, first + i, stack + height++ * size);
        /* As many nodes are whole as i has ones at its end. */
        for (ptrdiff_t ones = i; ones & 1; ones >>= 1, height--)
            add_node(stack + (height - 2) * size, stack + (height - 1) * size, size);
    }
    for (; height > 1; height--)
        add_node(stack + (height - 2) * size, stack + (height - 1) * size, size);
    for (ptrdiff_t i = 0; i < size; i++) node[i] = stack[i];
}

static void pass(void *operands, softline_team *team, int thread) {
    const softline_pass *p = operands;
    softline_worker w = softline_join(team, thread);
    const ptrdiff_t blocks = STEPS(p->n, SOFTLINE_BLOCK), tasks = STEPS(blocks, p->task_blocks);
    const ptrdiff_t D = p->D, K = p->K, size = K * (D + 1) + 1;
    const pass_room m = pass_room_of(p, thread);
    for (ptrdiff_t task; softline_next_task(&w, tasks, &task);) {
        const ptrdiff_t first = task * p->task_blocks, last = MIN(first + p->task_blocks, blocks);
        subtree_sums(p, &m, first, last, p->stack + thread * p->depth * size,
                     p->nodes + task * size);
    }
    softline_finish(&w, tasks);
    softline_go_on(&w);

    for (ptrdiff_t k; softline_next_task(&w, K, &k);) {
        double *sums = p->nodes + k * (D + 1);
        sum_along_tree(sums, tasks, size, D + 1);
        for (ptrdiff_t d = 0; d < D; d++) p->dW[k * p->lddw + d] = p->scale * sums[d];
        p->db[k] = p->scale * sums[D];
    }
    if (softline_finish(&w, K)) {
        sum_along_tree(p->nodes + size - 1, tasks, size, 1);
        *p->loss = p->scale * p->nodes[size - 1];
    }
    softline_go_on(&w);
    softline_leave(&w);
}

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
        sum_along_tree(p->sums, blocks, models, models);
        for (ptrdiff_t k = 0; k < models; k++) p->losses[k] = p->scale * p->sums[k];
    }
    softline_go_on(&w);
    softline_leave(&w);
}
