/* The kernels of one ISA and dtype: written once over `real`, compiled as one piece for each
 * (simd.h). */
#include "elements.h"
#include "simd.h"
#include "softline.h"

#include "steps.c"

#include "products.c"

#include "losses.c"

#include "predictions.c"

#include "network.c"

#include "epoch.c"

#include "passes.c"

#include "descent.c"

#include "columns.c"

#include "lbfgs.c"

#include "newton.c"

static void part_scores(const softline_rows *X, const ptrdiff_t *idx, ptrdiff_t n, ptrdiff_t col,
                        ptrdiff_t D, void *packed, ptrdiff_t strip, const void *W, ptrdiff_t ldw,
                        ptrdiff_t K, void *S) {
    scores(X, idx, n, col, D, packed, strip, W, ldw, K, S, NULL);
}

static void add_any_parts(const void *S, ptrdiff_t part, ptrdiff_t parts, const void *b,
                          ptrdiff_t K, void *out) {
    add_parts(S, part, parts, b, K, out);
}

const softline_kernels SOFTLINE_TABLE = {
    .epoch = epoch,
    .pass = pass,
    .candidates = candidate_losses,
    .column_stats = column_stats,
#ifdef SOFTLINE_DOUBLE
    .newton = newton,
    .first_loop = first_loop,
    .second_loop = second_loop,
#endif
    .predictions = predictions,
    .softmax = softmax_all,
    .losses = losses_all,
    .gradient = gradient_all,
    .gram = gram_all,
    .precondition = precondition,
    .step = step_all,
    .squares = all_squares,
    .project = project_all,
    .affine = affine_all,
    .activate = activate_all,
    .activation_gradient = activation_gradient_all,
    .dropout = dropout_all,
    .network_scores = network_scores,
    .pack = pack,
    .part_scores = part_scores,
    .add_parts = add_any_parts,
};
