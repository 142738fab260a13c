/* The whole C contract.
 *
 * Every function runs on the calling thread, allocates nothing, knows no Python, and never fails:
 * its caller has checked every shape, row number and label. A `softline_work` says what one thread
 * of a team does (team.h); the caller opens the region. Sums run in an order fixed by the shapes
 * alone, so neither threads nor cache sizes nor the ISA can change a bit of a result.
 *
 *     X, as it came            packed                       scores S, and dS
 *     D features               tiles of L features          K outputs
 *     +-----------------+      +----+----+----+             +----+
 *     | row             |      |L x |L x |L x |  strip 0    |K   |  strip 0: K vectors of L rows,
 *     | row             | ---> |L   |L   |L   |   W X       |x L |           a row a lane
 *     | ...             |      +----+----+----+ ----->      +----+
 *     |                 |      |    |    |    |  strip 1    |    |  strip 1
 *     +-----------------+      +----+----+----+             +----+
 *
 * N rows, D features, K outputs (classes, units), L = SOFTLINE_LANES elements in a virtual vector
 * of 64 bytes: the same on every ISA, so that lanes sum alike. W and dW are plain (K, D) matrices,
 * rows `ld` elements apart. Pieces of work have four names: strip   L rows; block   SOFTLINE_BLOCK
 * rows of a sum over all rows; chunk   rows that stay in cache from their scores to their gradient;
 *   slab    features that one task steps.
 * Elements behind a `void *` are `real`: float or double, as the table is. */
#ifndef SOFTLINE_H
#define SOFTLINE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "team.h"

#define SOFTLINE_LANES(real) (64 / (ptrdiff_t)sizeof(real))

/* Rows of a block. The sums of blocks are added in float64 along a fixed binary tree over the
 * numbers of the blocks, whoever has computed them. */
#define SOFTLINE_BLOCK 1024

/* Features of a part: scores are summed part by part, and the parts are then added in order, so
 * that they may be computed apart. Parts are equal, to share them out evenly. */
static inline ptrdiff_t softline_part(ptrdiff_t D, ptrdiff_t lanes) {
    const ptrdiff_t most = 512, parts = (D + most - 1) / most;
    return parts ? ((D + parts - 1) / parts + lanes - 1) / lanes * lanes : lanes;
}

/* Elements of a packed strip of D features, and where the tile of feature D begins, a multiple of
 * the lanes. A tile has a vector to spare: without it a row's vectors would lie 1 KiB apart, and
 * share four sets of the level-1 cache. */
static inline ptrdiff_t softline_packed(ptrdiff_t D, ptrdiff_t lanes) {
    return (D + lanes - 1) / lanes * lanes * (lanes + 1);
}

/* Features of a slab; depends on nothing but the shape. */
static inline ptrdiff_t softline_slab(ptrdiff_t D, ptrdiff_t lanes) {
    return D <= 64 * lanes ? 2 * lanes : 8 * lanes;
}

/* Of column_stats: rows that are summed as `real`, features packed at a time. */
enum { SOFTLINE_STATS_ROWS = 128, SOFTLINE_STATS_FEATURES = 1024 };

/* Well mixed bits of a number, by C. Wellons ("Prospecting for hash functions", lowbias32). */
static inline uint32_t softline_mix(uint32_t x) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

/* ---- data ------------------------------------------------------------------------------------ */

/* What the elements of X may be; a bool is a U8. */
enum { SOFTLINE_F32, SOFTLINE_F64, SOFTLINE_F16, SOFTLINE_BF16, SOFTLINE_U8, SOFTLINE_I8 };
#define SOFTLINE_DTYPE_BYTES {4, 8, 2, 2, 1, 1}

/* X (N, D) as it came: element (i, d) is at data + i * row_bytes + d * column_bytes. It is read as
 * (x - shift[d]) * scale[d]; shift and scale (D) may be NULL. */
typedef struct softline_rows {
    const char *data;
    ptrdiff_t row_bytes, column_bytes;
    const void *shift, *scale;
    int dtype;
} softline_rows;

/* Rows that come into the cache while a kernel computes: features col to col + D of the n rows idx.
 */
typedef struct softline_ahead {
    const softline_rows *X;
    const ptrdiff_t *idx;
    ptrdiff_t n, col, D;
} softline_ahead;

/* A matrix of real, or with one column a vector: rows `ld` elements apart. */
typedef struct softline_matrix {
    void *at;
    ptrdiff_t rows, columns, ld;
} softline_matrix;

/* ---- models ---------------------------------------------------------------------------------- */

/* How a step is made of the gradient g. Its state is laid out as W: m and v (K, D) with rows `ld`
 * apart, mb and vb (K) for the bias; NULL where a kind needs none. */
enum {
    SOFTLINE_SGD,      /* w -= rate g */
    SOFTLINE_MOMENTUM, /* m = beta m + g;  w -= rate m */
    SOFTLINE_NESTEROV, /* m = beta m + g;  w -= rate (g + beta m) */
    SOFTLINE_SCALED,   /* v = keep v + take g^2;  w -= rate g / (sqrt(v) + eps) */
    SOFTLINE_ADAM,     /* m = beta m + (1 - beta) g, v as above;
                          w = decay w - rate m / (root sqrt(v) + eps) */
    SOFTLINE_AVERAGE   /* w -= rate g;  m += share (w - m) */
};
typedef struct softline_rule {
    int kind, decoupled, eps_hat;
    void *m, *v, *mb, *vb;
    ptrdiff_t ld;
    double beta, keep, take, epsilon, t0;
    double t;                  /* steps taken */
    double eps, root, share;   /* of the step at hand, see softline_next_step */
    ptrdiff_t models, outputs; /* how many models W has, and rows of W of each */
    struct softline_rates *of; /* (models) */
} softline_rule;

/* What a model steps with. l1 is of the proximal step that follows: weights shrink by l1 times
 * their rate. */
typedef struct softline_rates {
    double rate, alpha, l1, decay;
} softline_rates;

/* Step number t + 1: what depends on it. The arrays are (models); l1s may be NULL: zeros. */
static inline void softline_next_step(softline_rule *rule, const double *learning_rates,
                                      const double *alphas, const double *l1s) {
    double rise = 1, l1_rise = 1;
    rule->t += 1;
    rule->eps = rule->epsilon;
    rule->root = 1;
    if (rule->kind == SOFTLINE_ADAM) {
        rise = 1 / (1 - pow(rule->beta, rule->t));
        rule->root = 1 / sqrt(1 - pow(rule->keep, rule->t));
        if (rule->eps_hat) rule->eps = rule->root * rule->epsilon;
    } else if (rule->kind == SOFTLINE_MOMENTUM || rule->kind == SOFTLINE_NESTEROV) {
        /* The direction of steady momentum is 1/(1 - beta) gradients: the penalty keeps up with it.
         */
        l1_rise = 1 - rule->beta;
    } else if (rule->kind == SOFTLINE_AVERAGE) {
        const double averaged = rule->t - rule->t0;
        rule->share = 1 / (averaged > 1 ? averaged : 1);
    }
    for (ptrdiff_t i = 0; i < rule->models; i++)
        rule->of[i] = (softline_rates){
            .rate = rise * learning_rates[i],
            .alpha = rule->decoupled ? 0 : alphas[i],
            .l1 = l1s ? l1s[i] / l1_rise : 0,
            .decay = rule->decoupled ? 1 - learning_rates[i] * alphas[i] : 1,
        };
}

/* What hidden units do. SOFTLINE_LEAK is the slope of a leaky one below 0. */
enum { SOFTLINE_IDENTITY, SOFTLINE_RELU, SOFTLINE_LEAKY_RELU, SOFTLINE_TANH, SOFTLINE_LOGISTIC };
#define SOFTLINE_LEAK 0.01

/* What is minimised: the cross-entropy of labels, or of targets (labels smoothed, too), by a
 * softmax over all outputs; the hinge loss; or the cross-entropy of each output by itself. */
enum { SOFTLINE_LABELS, SOFTLINE_TARGETS, SOFTLINE_HINGE, SOFTLINE_OUTPUTS };

/* A layer: K = n_out outputs of D = n_in inputs, and room for what an epoch makes of it. */
typedef struct softline_layer {
    ptrdiff_t n_in, n_out, ldw, lddw;
    void *W, *b; /* (n_out, n_in), (n_out) */
    softline_rule rule;
    void *dW, *db;        /* as W and b; dW is NULL where a step is taken at once */
    ptrdiff_t strip;      /* elements from one packed strip to the next */
    void *packed;         /* (strips of a chunk): its inputs, as tiles */
    void *out, *delta;    /* (strips of a chunk) * n_out * L: outputs, the gradient to them */
    void *lane_db;        /* (n_out, L): sums of db by lane */
    double *slab_squares; /* (slabs, models), where the squares of the weights are asked for */
    double share;         /* of a mean that waits for the projection */
} softline_layer;

/* ---- an epoch, and passes over all rows -------------------------------------------------------
 */

/* Steps over the rows `order`, batch by batch; or without `steps` one batch, of which the gradients
 * are written into dW and db of the layers.
 *
 * A layer without others may hold several models: as many outputs each, one below the other. A
 * model has a softmax, row weights, penalties and steps of its own, and is bit by bit what it would
 * be alone. */
typedef struct softline_epoch {
    const softline_rows *X;
    const ptrdiff_t *order; /* (n) */
    ptrdiff_t n, batch_size;
    const int32_t *labels;   /* (N); (N, K) of outputs by themselves */
    softline_matrix targets; /* (N, K), or NULL */
    ptrdiff_t models;
    const void *const *row_weight; /* (models): each (N), or NULL: ones */
    const void *scales;            /* (batches, models): what row weights are multiplied with */
    const double *rates, *alphas;  /* (batches, models): learning rate, L2 penalty */
    const double *l1s;             /* (batches, models): L1 penalty, or NULL */
    softline_layer *layers;
    int n_layers, activation, loss, steps, fit_intercept;
    double smoothing, dropout, clip_norm, max_norm;
    uint32_t seed, t;           /* of dropout: a number, and the steps taken */
    const void *shift, *metric; /* (D) of the first layer, or NULL: see softline_step */
    double *losses;             /* (batches, models) */
    double *square_norms;       /* (batches, models): sum(W * W) before each step, or NULL */
    /* how it is cut: strips of a chunk, strips of a task, tasks of the gradient */
    ptrdiff_t chunk_strips, group, tasks;
    /* room */
    void *parts; /* scores of the first layer by part: (parts, strips of a chunk, n_out, L) */
    void *soft;  /* (strips of a chunk, K, L), of targets */
    void *row_losses, *weight; /* (rows of a chunk) */
    int32_t *codes;            /* (rows of a chunk) */
    double *strip_losses;      /* (strips of a chunk, models) */
    double *squares;           /* (outputs of all layers) */
    double *clip;              /* (models): what gradients are scaled by */
    void *drift;               /* (slabs of the first layer, n_out, L), with shift */
} softline_epoch;

/* Mean cross-entropy of all rows and its gradient: sums along the tree of blocks. A node is K rows
 * of dW and db, D + 1 numbers each, and the loss. */
typedef struct softline_pass {
    const softline_rows *X;
    const ptrdiff_t *idx; /* (n): all rows in order */
    ptrdiff_t n, D, K, ldw;
    const int32_t *labels;  /* (n) */
    const void *row_weight; /* (n), or NULL */
    const void *W, *b;      /* (K, D), (K) */
    double scale;           /* of the sums: 1 / the sum of the weights */
    double *dW, *db, *loss; /* (K, D) with rows `lddw` apart, (K), (1) */
    ptrdiff_t lddw;
    ptrdiff_t chunk_strips, task_blocks,
        depth;     /* blocks of a task, a power of 2, and nodes it needs */
    double *nodes; /* (tasks, node) */
    double *stack; /* (threads, depth, node) */
    void *room;    /* (threads, room_size): see passes.c */
    ptrdiff_t room_size;
} softline_pass;

/* Mean cross-entropy of all rows for each of `candidates` models, whose weights lie one below the
 * other: K classes each. */
typedef struct softline_candidates {
    const softline_rows *X;
    const ptrdiff_t *idx; /* (n): all rows in order */
    ptrdiff_t n, D, K, candidates, ldw;
    const int32_t *labels;
    const void *row_weight;
    const void *W, *b; /* (candidates * K, D), (candidates * K) */
    double scale;
    double *losses; /* (candidates) */
    ptrdiff_t chunk_strips;
    double *sums; /* (blocks, candidates) */
    void *room;   /* (threads, room_size) */
    ptrdiff_t room_size;
} softline_candidates;

/* Mean, squared deviations from it, least and greatest of each column of X idx, weighted: along the
 * tree of blocks. A node is the sum of the weights, and D numbers of each of the four. */
typedef struct softline_stats {
    const softline_rows *X;
    const ptrdiff_t *idx; /* (n) */
    ptrdiff_t n, D;
    const void *row_weight;       /* (n), or NULL */
    ptrdiff_t task_blocks, depth; /* as of softline_pass, and a node to spare */
    double *nodes;                /* (tasks, node); the result is the first */
    double *stack;                /* (threads, depth, node) */
    void *room;                   /* (threads, room_size): see passes.c */
    ptrdiff_t room_size;
} softline_stats;

/* Newton's method on mean cross-entropy + sum(l2 * Z^2)/2 + sum(l1 * |Z|), for few weights: see
 * newton.c. M = R * (D + 1) of them. */
enum { SOFTLINE_NEWTON_ROWS = 128, SOFTLINE_NEWTON_RECENT = 5, SOFTLINE_NEWTON_SUBSPACES = 20 };
enum { SOFTLINE_SEARCHING, SOFTLINE_CONVERGED, SOFTLINE_STUCK };
/* Doubles of a node: the loss, R rows of a gradient, a matrix for each pair of rows. */
static inline ptrdiff_t softline_newton_node(ptrdiff_t R, ptrdiff_t width) {
    return 1 + R * width + R * (R + 1) / 2 * width * width;
}
/* How often the L1 penalty halves at most in a search by columns. */
enum { SOFTLINE_MOST_HALVINGS = 20 };
/* Doubles of the room of a search by columns: see columns_room in columns.c. */
static inline ptrdiff_t softline_columns_room(ptrdiff_t n, ptrdiff_t D, ptrdiff_t R,
                                              ptrdiff_t most) {
    const ptrdiff_t ld = n + 8, M = R * (D + 1);
    return (D + 1 + 4 * R + 3) * ld + softline_packed(D + 8, 8) + 8 * (8 + R) + 3 * M +
           2 * most * most + 8 * most;
}
/* How far `value` at Z (R, width) is above the minimum at most, G being the gradient of all but the
 * L1 penalty: see duality_gap of the reference. */
static inline double softline_duality_gap(ptrdiff_t R, ptrdiff_t width, const double *Z,
                                          double value, const double *G, const double *l2,
                                          const double *l1) {
    double wanted = 1, loss = value, gap = 0;
    for (ptrdiff_t i = 0; i < R * width; i++) {
        const double first = l1[i % width], second = l2[i % width], z = Z[i];
        if (first > 0 && second == 0) wanted = fmax(wanted, fabs(G[i]) / first);
        loss -= first * fabs(z) + second * z * z / 2;
    }
    for (ptrdiff_t i = 0; i < R * width; i++) {
        const double first = l1[i % width], second = l2[i % width], z = Z[i];
        const double slope = (G[i] - second * z) / wanted, over = fmax(fabs(slope) - first, 0);
        gap += slope * z + first * fabs(z) + second * z * z / 2;
        if (second > 0)
            gap += over * over / (2 * second);
        else if (!(first > 0))
            gap += fabs(slope) * (1 + fabs(z));
    }
    return fmax(0, gap + (1 - 1 / wanted) * loss);
}
/* The search ends at this share of what it certifies. */
#define SOFTLINE_NEWTON_AIM 0.05
typedef struct softline_newton {
    const softline_rows *X;
    const ptrdiff_t *idx;     /* (n): all rows in order */
    ptrdiff_t n, D, C, R;     /* C classes; R is C, or 1 for two */
    const int32_t *labels;    /* (n) */
    const double *row_weight; /* (n), or NULL */
    double scale;             /* 1 / the sum of the weights */
    const double *l2;         /* (D + 1) */
    double *l1, boost;        /* (D + 1), or NULL; how many times as large it is for now */
    int fit_intercept, by_columns;
    ptrdiff_t most_support; /* most weights, by columns, for a Hessian of theirs */
    double ridge, slack;    /* on a diagonal of 1; how far a value of 1 may be off by rounding */
    double tol;
    ptrdiff_t max_iter, until; /* most steps, and how many may be taken before the call returns */
    /* where the search is, from call to call */
    double *Z, *best; /* (M): where it is, and the best so far */
    double value, best_value, gap;
    double lower; /* with l1: what the minimum is at least */
    double values[SOFTLINE_NEWTON_RECENT], gains[SOFTLINE_NEWTON_RECENT]; /* of the last steps */
    ptrdiff_t n_iter, stalled, trials;
    double t, slope;
    int status, done, paused;
    /* room */
    double *trial, *gradient, *trial_gradient, *step, *roots; /* (M) */
    double *hessian, *copy, *vectors;                         /* (M, M), (M, M) + 4 M, 5 M */
    ptrdiff_t task_blocks, depth;                             /* as of softline_pass */
    double *nodes;                                            /* (tasks, node) */
    double *stack;                                            /* (threads, depth, node) */
    void *room;                                               /* (threads, room_size) */
    ptrdiff_t room_size;
} softline_newton;

/* ---- single kernels ---------------------------------------------------------------------------
 */

/* What predictions tell of scores. */
enum { SOFTLINE_SCORES, SOFTLINE_PROBABILITIES, SOFTLINE_LOGARITHMS, SOFTLINE_CLASSES };

/* Most strips of a task. */
enum { SOFTLINE_TASK_STRIPS = 4 };
/* Of gram: rows at a time, rows of `out` of a task, features packed at a time. */
enum { SOFTLINE_GRAM_ROWS = 128, SOFTLINE_GRAM_OUTPUTS = 64, SOFTLINE_GRAM_FEATURES = 512 };

/* Operands of a kernel by itself; each uses what its line in the table names. */
typedef struct softline_call {
    const softline_rows *X;
    const ptrdiff_t *idx; /* (n); of predictions it may be NULL: all rows in order */
    ptrdiff_t n, D;
    softline_matrix A, B, out;
    const void *b;                 /* (K), or NULL */
    void *db;                      /* (K) */
    ptrdiff_t by_output, by_input; /* strides of B */
    const int32_t *labels;         /* (n) */
    softline_matrix targets;       /* (n, K) */
    const void *weight;            /* (n), or NULL */
    void *losses;                  /* (n) */
    double smoothing, number;
    int loss, log, activation, fit_intercept;
    uint32_t key;
    const void *shift, *metric;
    softline_rule *rule;
    softline_layer *layers;
    int n_layers;
    double *squares;
    unsigned char *finite; /* (threads) */
    int wanted;            /* of predictions */
    const char *names;     /* (K), name_bytes each: of the outputs; or of both classes of one */
    ptrdiff_t name_bytes;
    char *classes;       /* (n), as names */
    ptrdiff_t strips;    /* of a task */
    void *shared, *room; /* for all threads; (threads, room_size) */
    ptrdiff_t room_size;
} softline_call;

/* What one thread of a team does. */
typedef void softline_work(void *operands, softline_team *team, int thread);

/* The kernels of one ISA and dtype. X idx stands for the rows idx of X. */
typedef struct softline_kernels {
    softline_work *epoch;        /* softline_epoch */
    softline_work *pass;         /* softline_pass */
    softline_work *candidates;   /* softline_candidates */
    softline_work *column_stats; /* softline_stats */
    softline_work *newton; /* softline_newton; of doubles alone, as the next two: see lbfgs.c */
    void (*first_loop)(ptrdiff_t M, ptrdiff_t count, const double *steps, const double *changes,
                       const double *slopes, const ptrdiff_t *order, double *G, double *shares);
    void (*second_loop)(ptrdiff_t M, ptrdiff_t count, const double *steps, const double *changes,
                        const double *slopes, const ptrdiff_t *order, double *D,
                        const double *shares);
    /* of a softline_call: */
    softline_work *predictions; /* out, or classes, from the scores X idx A^T + b; finite; room */
    softline_work *softmax;     /* A in place, its logarithm if `log`; room K * L */
    softline_work *losses;   /* losses of scores A; with weight, out = the gradient; room 2 K L */
    softline_work *gradient; /* out = A^T X idx, db = column sums of A; shared: A in strips */
    softline_work *gram;     /* out = sum of weight z z^T: see products.c */
    softline_work *precondition; /* out = A by the inverse of a curvature: see lbfgs.c */
    softline_work *step;         /* A and b (db) by the gradient B, b; shared: drift */
    softline_work *squares;  /* squares[k] = |row k of A|^2 in the geometry of shift and metric */
    softline_work *project;  /* rows of A longer than `number` are cut; db follows by shift */
    softline_work *affine;   /* out = A B^T + b; room */
    softline_work *activate; /* A in place; room K * L */
    softline_work *activation_gradient; /* A *= f'(z), where f(z) = number * B; room 2 K L */
    softline_work *dropout;             /* A in place, rate `number`, key; room K * L */
    softline_work *network_scores;      /* out = scores of X idx; finite; room */
    /* pieces for neighbors.h: rows packed; a part of the scores; parts added */
    void (*pack)(const softline_rows *X, const ptrdiff_t *idx /* (n) */, ptrdiff_t n, ptrdiff_t col,
                 ptrdiff_t D, void *out, ptrdiff_t strip);
    void (*part_scores)(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col,
                        ptrdiff_t D, void *packed, ptrdiff_t strip, const void *W, ptrdiff_t ldw,
                        ptrdiff_t K, void *S);
    void (*add_parts)(const void *S, ptrdiff_t part, ptrdiff_t parts, const void *b /* (K) */,
                      ptrdiff_t K, void *out);
} softline_kernels;

/* ---- the ISA -----------------------------------------------------------------------------------
 */

/* An ISA and its tables. */
typedef struct softline_isa {
    const char *name;
    const softline_kernels *f32, *f64;
    const struct softline_filter *filter; /* see neighbors.h */
    const struct softline_exact *exact;
    const struct softline_machine *machine_f32, *machine_f64; /* see machine.h */
} softline_isa;

/* The best ISA of this processor, or the one asked for; NULL if it was not built or cannot run. */
const softline_isa *softline_dispatch(const char *name);

/* The i-th ISA that was built, best first, NULL past the last; `*runs` tells whether it can run. */
const softline_isa *softline_built(int i, int *runs);

#endif
