# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""A whole epoch of mini-batch SGD in one call, the GIL released, in one parallel region.

A batch is taken in chunks of strips of rows that stay in cache. A chunk has three phases, whose tasks the
threads share out (see team.h):
1. rows are packed and scored, by blocks of features x strips: each thread takes its own columns of X;
2. losses and gradient to the scores, by strips;
3. gradient to W, by slabs of features (some at a time), and with the last chunk of a batch the step: a slab
   of W has one task, which sums the rows in a fixed order. Its columns of X are still in that thread's cache.
   If squared norms of the weights are asked for, a slab's is taken before its step.
What needs a whole gradient or whole rows of W has phases of its own after the last chunk of a batch: for
`clip_norm` the norm, by classes, and only then the step, by slabs; for `max_norm` the projection, by classes.
There is no per-thread gradient to reduce, so neither the number of threads nor the size of a chunk changes
a bit of the result. Phase 3 also asks memory for the rows of the next chunk.
"""

from cython.parallel cimport parallel, threadid
from libc.stdint cimport int32_t, uint8_t, uint32_t
from softline._kernels cimport (
    SOFTLINE_AVERAGE, add_scores_of, bias_gradient_of, bias_update_of, check_geometry, check_indices,
    check_labels, check_length, check_smoothing, check_targets, clip_scale, cross_entropy_gradient_of,
    gradient_norm, gradient_of, gradient_step, hinge_gradient_of, load_strip_of, matrix, next_step,
    onehot, optimizer_rule, project_of, real, region_over, row_stride, rows_of, rule_of, scores_of, slab_of,
    soft_cross_entropy_of, softline_ahead, softline_block, softline_packed, softline_rows, softline_rule,
    square_norm_of, threads_for_epoch, update_of,
)
from softline._team cimport (
    softline_come, softline_done, softline_go, softline_next, softline_take, softline_team, softline_wait,
    team_in, team_room,
)

import numpy as np

from softline.rows import as_rows

# Bytes of a chunk, of packed rows for each thread and of scores: with the next rows on their way and the
# weights, packed rows fit in a level-2 cache.
cdef ptrdiff_t PACKED_BYTES = 400 << 10
cdef ptrdiff_t SCORE_BYTES = 1 << 20


def sgd_epoch(X, y, sample_weight, order, W, b, learning_rates, batch_size, alpha, shift, metric,
              fit_intercept, n_threads=None, *, optimizer=None, state=None, l1=0.0, label_smoothing=0.0,
              clip_norm=None, max_norm=None, mean_weight=None, loss="cross_entropy", square_norms=None):
    """One pass over the rows `order`; W and b change in place; the mean loss of each batch is returned."""
    X = as_rows(X)
    update, numbers = ("sgd_update", {}) if optimizer is None else (optimizer.update, vars(optimizer))
    labels, targets = (None, y) if y.ndim == 2 else (y, None)
    if loss not in ("cross_entropy", "hinge"):
        raise ValueError(f"loss must be 'cross_entropy' or 'hinge'; got {loss!r}")
    if loss == "hinge" and (labels is None or label_smoothing > 0):
        raise ValueError("loss='hinge' needs labels y (n,) and no label_smoothing")
    args = (X, labels, targets, sample_weight, order, W, b, learning_rates, batch_size, alpha, shift, metric,
            fit_intercept, n_threads, update, numbers, state, l1, label_smoothing, clip_norm or np.inf,
            max_norm or np.inf, mean_weight or 0, loss == "hinge", square_norms)
    losses = epoch[float](*args) if W.dtype == np.float32 else epoch[double](*args)
    if state is not None:
        state.t += len(losses)
    return losses


cdef epoch(X, const int32_t[::1] y, const real[:, :] targets, const real[::1] sample_weight,
           const ptrdiff_t[::1] order, real[:, :] W, real[::1] b, const double[::1] learning_rates,
           ptrdiff_t batch_size, double alpha, const real[::1] shift, const real[::1] metric,
           bint fit_intercept, n_threads, str update, dict numbers, state, double l1, double label_smoothing,
           double clip_norm, double max_norm, double mean_weight, bint hinge, double[::1] square_norms):
    cdef ptrdiff_t N = X.shape[0], D = X.shape[1], C = W.shape[0], n = order.shape[0]
    cdef ptrdiff_t ldw = row_stride(W, "W")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    batch_size = max(1, min(batch_size, n))
    cdef ptrdiff_t n_steps = (n + batch_size - 1) // batch_size
    cdef ptrdiff_t ldt = 0
    if targets is not None:
        ldt = check_targets(targets, N, C)
    else:
        check_length("y", y.shape[0], N, "elements")
        check_labels(y, C)
    check_smoothing(label_smoothing)
    check_length("W", W.shape[1], D, "columns")
    check_length("b", b.shape[0], C, "elements")
    check_length("learning_rates", learning_rates.shape[0], n_steps, "elements")
    if square_norms is not None:
        check_length("square_norms", square_norms.shape[0], n_steps, "elements")
        square_norms[:] = 0
    if sample_weight is not None:
        check_length("sample_weight", sample_weight.shape[0], N, "elements")
    check_geometry(shift, metric, D)
    check_indices(order, N)
    cdef optimizer_rule rule
    rule_of(&rule, update, numbers, state, W, l1)
    cdef optimizer_rule *at = &rule  # what a thread assigns through it, all see
    cdef const softline_rule *by = NULL if rule.plain else &rule.now
    cdef bint averages = rule.now.kind == SOFTLINE_AVERAGE
    cdef real *average = <real *>rule.now.m if averages else NULL
    cdef real *average_b = <real *>rule.now.mb if averages else NULL
    cdef bint clips = clip_norm < np.inf, projects = max_norm < np.inf
    cdef bint norms = square_norms is not None
    cdef bint has_labels = targets is None, soft = not has_labels or label_smoothing > 0
    losses = np.zeros(n_steps)
    if n == 0 or D == 0:
        return losses
    cdef softline_rows rows = rows_of(X, <real>0)

    cdef int threads = threads_for_epoch(n_threads, n, batch_size, <double>C * D)
    cdef ptrdiff_t lanes = 64 // sizeof(real)
    cdef ptrdiff_t block = softline_block(D, lanes), n_blocks = (D + block - 1) // block
    cdef ptrdiff_t slab = slab_of(D, <real>0), n_slabs = (D + slab - 1) // slab
    cdef ptrdiff_t n_tasks = min(n_slabs, <ptrdiff_t>2 * threads) if threads > 1 else 1  # of the gradient
    # A strip: packed, with a tile to spare so that strips do not fall on the same sets of the L1 cache.
    cdef ptrdiff_t strip = softline_packed(D + lanes, lanes)
    cdef ptrdiff_t batch_strips = (batch_size + lanes - 1) // lanes
    cdef ptrdiff_t most_strips = max(<ptrdiff_t>1, min(
        threads * PACKED_BYTES // (strip * <ptrdiff_t>sizeof(real)), SCORE_BYTES // (64 * C)))
    cdef ptrdiff_t n_chunks = (batch_strips + most_strips - 1) // most_strips
    cdef ptrdiff_t chunk_strips = (batch_strips + n_chunks - 1) // n_chunks  # equal chunks
    cdef ptrdiff_t chunk = chunk_strips * lanes

    dtype = np.float32 if real is float else np.float64
    cdef real[:, :] packed = matrix(1, chunk_strips * strip, np.empty, <real>0)
    cdef ptrdiff_t part = chunk * C
    cdef real[:, :] parts = matrix(1, n_blocks * part, np.zeros, <real>0)  # scores by block of features
    cdef real[:, :] dscores = matrix(1, part, np.empty, <real>0)
    cdef real[:, :] target_strips = matrix(1, part if soft else 0, np.zeros, <real>0)
    cdef real[:, :] dW = matrix(C, D if batch_size > chunk or clips else 0, np.empty, <real>0)
    cdef double[::1] slab_squares = np.empty(n_slabs)
    cdef double[::1] squares = np.empty(C), scale_of_step = np.ones(1), share = np.zeros(1)
    cdef real[:, :] lane_db = matrix(1, C * lanes, np.empty, <real>0)
    cdef real[::1] db = np.zeros(C, dtype)
    cdef real[:, :] drift = matrix(
        1, n_slabs * C * lanes if shift is not None else 0, np.empty, <real>0)
    cdef real[::1] row_losses = np.empty(chunk, dtype)
    cdef real[::1] weight = np.empty(chunk, dtype)
    cdef int32_t[::1] labels = np.empty(chunk, np.int32)
    cdef double[::1] strip_losses = np.empty(chunk_strips), step_losses = losses
    cdef ptrdiff_t lddw = dW.strides[0] // <ptrdiff_t>sizeof(real)

    cdef real scale = 1
    cdef double total_weight = 0
    cdef ptrdiff_t i
    if sample_weight is not None:
        for i in range(n):
            total_weight += sample_weight[order[i]]
        if not total_weight > 0:
            raise ValueError(f"sample_weight must have a positive sum; it is {total_weight}")
        scale = 1 / mean_weight if mean_weight > 0 else n / total_weight

    # From here on, what a thread assigns is its own.
    cdef uint8_t[::1] room = team_room(threads)
    cdef softline_team *team = team_in(room, threads, n_threads)
    cdef const real *mean = &shift[0] if shift is not None else NULL
    cdef int thread
    cdef uint32_t phase
    cdef ptrdiff_t mine
    cdef ptrdiff_t step, batch_first, batch_last, chunk_first, n_rows, strips, s, col, count, k, r
    cdef const ptrdiff_t *idx
    cdef softline_ahead ahead
    cdef const real *mu
    cdef const real *m
    cdef bint add, last
    with nogil, parallel(num_threads=threads, use_threads_if=threads > 1):
        thread = threadid()
        softline_come(team, thread)
        phase = 0
        for step in range(n_steps):
            batch_first = step * batch_size
            batch_last = min(batch_first + batch_size, n)
            chunk_first = batch_first
            while chunk_first < batch_last:
                n_rows = min(chunk, batch_last - chunk_first)
                add = chunk_first > batch_first
                last = chunk_first + n_rows == batch_last
                strips = (n_rows + lanes - 1) // lanes
                idx = &order[chunk_first]

                mine = 0
                k = softline_take(team, thread, phase, n_blocks * strips)
                while k >= 0:
                    s = k % strips
                    col = k // strips * block
                    count = min(lanes, n_rows - s * lanes)
                    scores_of(&rows, idx + s * lanes, count, col, min(block, D - col),
                              &packed[0, s * strip + softline_packed(col, lanes)], strip, &W[0, col], ldw, C,
                              &parts[0, k // strips * part + s * lanes * C])
                    mine = mine + 1
                    k = softline_take(team, thread, phase, n_blocks * strips)
                if softline_done(team, mine, n_blocks * strips):
                    softline_next(team, thread, phase)
                softline_wait(team, thread, phase)
                phase = phase + 1

                mine = 0
                s = softline_take(team, thread, phase, strips)
                while s >= 0:
                    count = min(lanes, n_rows - s * lanes)
                    if has_labels:
                        for r in range(s * lanes, s * lanes + count):
                            labels[r] = y[idx[r]]
                    for r in range(s * lanes, s * lanes + count):
                        weight[r] = scale / (batch_last - batch_first)
                        if sample_weight is not None:
                            weight[r] = weight[r] * sample_weight[idx[r]]
                    add_scores_of(<const real *>&parts[0, s * lanes * C], part, n_blocks, &b[0], C,
                                  &dscores[0, s * lanes * C])
                    if soft:
                        if not has_labels:
                            load_strip_of(&targets[0, 0], ldt, idx + s * lanes, count, C,
                                          &target_strips[0, s * lanes * C])
                        else:
                            onehot(<const int32_t *>&labels[s * lanes], count, C,
                                   &target_strips[0, s * lanes * C])
                        soft_cross_entropy_of(
                            &dscores[0, s * lanes * C], count, C,
                            <const real *>&target_strips[0, s * lanes * C], label_smoothing,
                            <const real *>&weight[s * lanes], &row_losses[s * lanes])
                    elif hinge:
                        hinge_gradient_of(&dscores[0, s * lanes * C], count, C, &labels[s * lanes],
                                          <const real *>&weight[s * lanes], &row_losses[s * lanes])
                    else:
                        cross_entropy_gradient_of(&dscores[0, s * lanes * C], count, C, &labels[s * lanes],
                                                  <const real *>&weight[s * lanes], &row_losses[s * lanes])
                    strip_losses[s] = 0
                    for r in range(s * lanes, s * lanes + count):
                        strip_losses[s] = strip_losses[s] + <double>weight[r] * row_losses[r]
                    mine = mine + 1
                    s = softline_take(team, thread, phase, strips)
                if softline_done(team, mine, strips):
                    bias_gradient_of(<const real *>&dscores[0, 0], n_rows, C, &lane_db[0, 0], &db[0], add)
                    if last:
                        next_step(at, learning_rates[step], alpha)
                        if projects:  # before a mean takes the weights in
                            share[0], at.now.share = at.now.share, 0
                    softline_next(team, thread, phase)
                softline_wait(team, thread, phase)
                phase = phase + 1

                mine = 0
                k = softline_take(team, thread, phase, n_tasks)
                while k >= 0:
                    s = n_slabs * k // n_tasks
                    col = s * slab
                    count = min(n_slabs * (k + 1) // n_tasks * slab, D) - col
                    ahead = softline_ahead(
                        &rows, idx + n_rows, min(n_rows, n - chunk_first - n_rows), col, count)
                    if last and norms:
                        for s in range(s, n_slabs * (k + 1) // n_tasks):
                            slab_squares[s] = 0
                            for r in range(C):
                                slab_squares[s] = slab_squares[s] + square_norm_of(
                                    <const real *>&W[r, s * slab], min(slab, D - s * slab), 0,
                                    <const real *>NULL, <const real *>NULL)
                    if last and not clips:
                        mu = &shift[col] if shift is not None else NULL
                        m = &metric[col] if metric is not None else NULL
                        gradient_step(<const real *>&packed[0, softline_packed(col, lanes)], strip, n_rows,
                                      count, slab, <const real *>&dscores[0, 0], C, &dW[0, 0] + col,
                                      lddw, add, &W[0, col], ldw, <const real *>&db[0],
                                      at.first * learning_rates[step], 0 if rule.decoupled else alpha,
                                      mu, m, &drift[0, col // slab * C * lanes], by, col, &ahead)
                    else:
                        gradient_of(<const real *>&packed[0, softline_packed(col, lanes)], strip, n_rows,
                                    count, <const real *>&dscores[0, 0], C, &dW[0, 0] + col, lddw, add,
                                    &ahead)
                    mine = mine + 1
                    k = softline_take(team, thread, phase, n_tasks)
                if softline_done(team, mine, n_tasks):
                    for s in range(strips):
                        step_losses[step] = step_losses[step] + strip_losses[s]
                    ahead = softline_ahead(
                        &rows, idx + n_rows, min(n_rows, n - chunk_first - n_rows), col, count)
                    if last and norms:
                        for s in range(n_slabs):
                            square_norms[step] = square_norms[step] + slab_squares[s]
                    if last and fit_intercept and not clips:
                        bias_update_of(<const real *>&db[0], at.first * learning_rates[step], mean,
                                       &drift[0, 0], n_slabs, by, C, &b[0])
                    softline_next(team, thread, phase)
                softline_wait(team, thread, phase)
                phase = phase + 1

                if last and clips:
                    mine = 0
                    k = softline_take(team, thread, phase, C)
                    while k >= 0:
                        squares[k] = square_norm_of(
                            <const real *>&dW[k, 0], D, db[k], mean,
                            &metric[0] if metric is not None else <const real *>NULL)
                        mine = mine + 1
                        k = softline_take(team, thread, phase, C)
                    if softline_done(team, mine, C):
                        scale_of_step[0] = clip_scale(
                            gradient_norm(&squares[0], <const real *>&db[0], C), clip_norm)
                        for k in range(C):
                            db[k] = db[k] * <real>scale_of_step[0]
                        softline_next(team, thread, phase)
                    softline_wait(team, thread, phase)
                    phase = phase + 1

                    mine = 0
                    k = softline_take(team, thread, phase, n_slabs)
                    while k >= 0:
                        col = k * slab
                        mu = &shift[col] if shift is not None else NULL
                        m = &metric[col] if metric is not None else NULL
                        update_of(&W[0, col], ldw, <const real *>&dW[0, col], lddw, <const real *>&db[0],
                                  scale_of_step[0], C, min(slab, D - col), at.first * learning_rates[step],
                                  0 if rule.decoupled else alpha, mu, m, &drift[0, k * C * lanes], by, col)
                        mine = mine + 1
                        k = softline_take(team, thread, phase, n_slabs)
                    if softline_done(team, mine, n_slabs):
                        if fit_intercept:
                            bias_update_of(<const real *>&db[0], at.first * learning_rates[step], mean,
                                           &drift[0, 0], n_slabs, by, C, &b[0])
                        softline_next(team, thread, phase)
                    softline_wait(team, thread, phase)
                    phase = phase + 1

                if last and projects:
                    mine = 0
                    k = softline_take(team, thread, phase, C)
                    while k >= 0:
                        project_of(&W[k, 0], D, &b[k], max_norm, mean,
                                   average + k * rule.now.ld if average != NULL else <real *>NULL,
                                   average_b + k if average != NULL else <real *>NULL, share[0])
                        mine = mine + 1
                        k = softline_take(team, thread, phase, C)
                    if softline_done(team, mine, C):
                        softline_next(team, thread, phase)
                    softline_wait(team, thread, phase)
                    phase = phase + 1
                chunk_first = chunk_first + n_rows
        softline_go(team, thread)
    region_over(team)
    return losses
