# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""A whole epoch of mini-batch SGD in one call, the GIL released, in one parallel region.

A batch is taken in chunks of strips of rows that stay in cache. A chunk has three phases, whose tasks the
threads share out (see team.h):
1. rows are packed and scored, by blocks of features x strips: each thread takes its own columns of X;
2. softmax, losses and gradient to the scores, by strips;
3. gradient to W, by slabs of features (some at a time), and with the last chunk of a batch the step: a slab
   of W has one task, which sums the rows in a fixed order. Its columns of X are still in that thread's cache.
There is no per-thread gradient to reduce, so neither the number of threads nor the size of a chunk changes
a bit of the result. Phase 3 also asks memory for the rows of the next chunk.
"""

from cython.parallel cimport parallel, threadid
from libc.stdint cimport int32_t, uint8_t, uint32_t, uintptr_t
from softline._kernels cimport (
    add_scores_of, bias_gradient_of, bias_update_of, check_indices, check_labels, check_length,
    cross_entropy_gradient_of, gradient_of, gradient_step, matrix, real, row_stride, rows_of, scores_of,
    slab_of, softline_block, softline_rows, threads_for,
)

import numpy as np

from softline.rows import as_rows

cdef extern from "team.h" nogil:
    ctypedef struct softline_share:
        pass
    ctypedef struct softline_team:
        int threads
        softline_share *shares
    ptrdiff_t softline_take(softline_team *team, int thread, uint32_t phase, ptrdiff_t total)
    bint softline_done(softline_team *team, ptrdiff_t mine, ptrdiff_t total)
    void softline_next(softline_team *team, uint32_t phase)
    void softline_wait(softline_team *team, uint32_t phase)

# Bytes of a chunk for each thread, of packed rows and of scores: with the next rows on their way and the
# weights, both fit in a level-2 cache.
cdef ptrdiff_t PACKED_BYTES = 200 << 10
cdef ptrdiff_t SCORE_BYTES = 256 << 10


# Work is worth sharing out in an epoch at a MEETING_COST-th of what threads must have to be started.
cdef double MEETING_COST = 20


def sgd_epoch(X, y, sample_weight, order, W, b, learning_rates, batch_size, alpha, shift, metric,
              fit_intercept, n_threads=None, *, mean_weight=None):
    """One pass over the rows `order`; W and b change in place; the mean loss of each batch is returned."""
    X = as_rows(X)
    if W.dtype == np.float32:
        return epoch[float](X, y, sample_weight, order, W, b, learning_rates, batch_size, alpha, shift,
                            metric, fit_intercept, n_threads, mean_weight or 0)
    return epoch[double](X, y, sample_weight, order, W, b, learning_rates, batch_size, alpha, shift,
                         metric, fit_intercept, n_threads, mean_weight or 0)


cdef epoch(X, const int32_t[::1] y, const real[::1] sample_weight, const ptrdiff_t[::1] order, real[:, :] W,
           real[::1] b, const double[::1] learning_rates, ptrdiff_t batch_size, double alpha,
           const real[::1] shift, const real[::1] metric, bint fit_intercept, n_threads, double mean_weight):
    cdef ptrdiff_t N = X.shape[0], D = X.shape[1], C = W.shape[0], n = order.shape[0]
    cdef ptrdiff_t ldw = row_stride(W, "W")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    batch_size = max(1, min(batch_size, n))
    cdef ptrdiff_t n_steps = (n + batch_size - 1) // batch_size
    check_length("y", y.shape[0], N, "elements")
    check_length("W", W.shape[1], D, "columns")
    check_length("b", b.shape[0], C, "elements")
    check_length("learning_rates", learning_rates.shape[0], n_steps, "elements")
    if sample_weight is not None:
        check_length("sample_weight", sample_weight.shape[0], N, "elements")
    if shift is not None:
        check_length("shift", shift.shape[0], D, "elements")
    if metric is not None:
        check_length("metric", metric.shape[0], D, "elements")
    check_indices(order, N)
    check_labels(y, C)
    losses = np.zeros(n_steps)
    if n == 0 or D == 0:
        return losses
    cdef softline_rows rows = rows_of(X, <real>0)
    cdef bint dense_rows = 0 < rows.column_bytes <= 16  # else a row is spread over too many cache lines

    # Threads start once an epoch; in a step they meet three times.
    cdef double operations = <double>C * D
    cdef int threads = threads_for(n_threads, min(n * operations, MEETING_COST * batch_size * operations))
    cdef ptrdiff_t lanes = 64 // sizeof(real)
    cdef ptrdiff_t block = softline_block(D, lanes), n_blocks = (D + block - 1) // block
    cdef ptrdiff_t slab = slab_of(D, <real>0), n_slabs = (D + slab - 1) // slab
    cdef ptrdiff_t n_tasks = min(n_slabs, <ptrdiff_t>2 * threads) if threads > 1 else 1  # of the gradient
    # A strip: packed, with a tile to spare so that strips do not fall on the same sets of the L1 cache.
    cdef ptrdiff_t strip = (D + 2 * lanes - 1) // lanes * lanes * lanes
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
    cdef real[:, :] dW = matrix(C, D if batch_size > chunk else 0, np.empty, <real>0)
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
    cdef uint8_t[::1] zeros = np.zeros(
        sizeof(softline_team) + (threads + 1) * sizeof(softline_share), np.uint8)
    cdef softline_team *team = <softline_team *>&zeros[0]
    team.threads = threads
    team.shares = <softline_share *>(
        (<uintptr_t>(team + 1) + sizeof(softline_share) - 1) & ~<uintptr_t>(sizeof(softline_share) - 1))
    cdef int thread
    cdef uint32_t phase
    cdef ptrdiff_t mine
    cdef ptrdiff_t step, batch_first, batch_last, chunk_first, n_rows, strips, s, col, count, k, r
    cdef const ptrdiff_t *idx
    cdef const ptrdiff_t *next_idx
    cdef const real *mu
    cdef const real *m
    cdef bint add, last
    with nogil, parallel(num_threads=threads, use_threads_if=threads > 1):
        thread = threadid()
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
                next_idx = idx + n_rows if dense_rows and chunk_first + 2 * n_rows <= n else NULL

                mine = 0
                k = softline_take(team, thread, phase, n_blocks * strips)
                while k >= 0:
                    s = k % strips
                    col = k // strips * block
                    count = min(lanes, n_rows - s * lanes)
                    scores_of(&rows, idx + s * lanes, count, col, min(block, D - col),
                              &packed[0, s * strip + col * lanes], strip, &W[0, col], ldw, C,
                              &parts[0, k // strips * part + s * lanes * C])
                    mine = mine + 1
                    k = softline_take(team, thread, phase, n_blocks * strips)
                if softline_done(team, mine, n_blocks * strips):
                    softline_next(team, phase)
                softline_wait(team, phase)
                phase = phase + 1

                mine = 0
                s = softline_take(team, thread, phase, strips)
                while s >= 0:
                    count = min(lanes, n_rows - s * lanes)
                    for r in range(s * lanes, s * lanes + count):
                        labels[r] = y[idx[r]]
                        weight[r] = scale / (batch_last - batch_first)
                        if sample_weight is not None:
                            weight[r] = weight[r] * sample_weight[idx[r]]
                    add_scores_of(<const real *>&parts[0, s * lanes * C], part, n_blocks, &b[0], C,
                                  &dscores[0, s * lanes * C])
                    cross_entropy_gradient_of(&dscores[0, s * lanes * C], count, C, &labels[s * lanes],
                                              <const real *>&weight[s * lanes], &row_losses[s * lanes])
                    strip_losses[s] = 0
                    for r in range(s * lanes, s * lanes + count):
                        strip_losses[s] = strip_losses[s] + <double>weight[r] * row_losses[r]
                    mine = mine + 1
                    s = softline_take(team, thread, phase, strips)
                if softline_done(team, mine, strips):
                    bias_gradient_of(<const real *>&dscores[0, 0], n_rows, C, &lane_db[0, 0], &db[0], add)
                    softline_next(team, phase)
                softline_wait(team, phase)
                phase = phase + 1

                mine = 0
                k = softline_take(team, thread, phase, n_tasks)
                while k >= 0:
                    s = n_slabs * k // n_tasks
                    col = s * slab
                    count = min(n_slabs * (k + 1) // n_tasks * slab, D) - col
                    if last:
                        mu = &shift[col] if shift is not None else NULL
                        m = &metric[col] if metric is not None else NULL
                        gradient_step(<const real *>&packed[0, col * lanes], strip, n_rows, count, slab,
                                      <const real *>&dscores[0, 0], C, &dW[0, 0] + col, lddw, add,
                                      &W[0, col], ldw, <const real *>&db[0], learning_rates[step], alpha,
                                      mu, m, &drift[0, s * C * lanes], &rows, next_idx, col)
                    else:
                        gradient_of(<const real *>&packed[0, col * lanes], strip, n_rows, count,
                                    <const real *>&dscores[0, 0], C, &dW[0, 0] + col, lddw, add, &rows,
                                    next_idx, col)
                    mine = mine + 1
                    k = softline_take(team, thread, phase, n_tasks)
                if softline_done(team, mine, n_tasks):
                    for s in range(strips):
                        step_losses[step] = step_losses[step] + strip_losses[s]
                    if last and fit_intercept:
                        bias_update_of(<const real *>&db[0], learning_rates[step],
                                       &shift[0] if shift is not None else <const real *>NULL, &drift[0, 0],
                                       n_slabs, C, &b[0])
                    softline_next(team, phase)
                softline_wait(team, phase)
                phase = phase + 1
                chunk_first = chunk_first + n_rows
    return losses
