# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""A whole epoch of mini-batch SGD in one call, the GIL released.

A step has two phases, each split over threads without locks:
A. over rows: scores, softmax, losses, gradient to the scores, in place;
B. over slabs of features: each slab of W belongs to one thread, which sums its rows in a fixed order and
   updates in place. There is no per-thread gradient to reduce, so the thread count cannot change a bit.
A large batch is taken in chunks of rows, so that scratch memory does not grow with it.
"""

from cython.parallel cimport prange
from libc.stdint cimport int32_t
from softline._kernels cimport (
    TASK_ROWS, check_indices, check_labels, check_length, isa, real, row_stride, slab_of, threads_for,
)

import numpy as np

from softline._kernels import padded


def sgd_epoch(const real[:, :] X, const int32_t[::1] y, const real[::1] sample_weight,
              const ptrdiff_t[::1] order, real[:, :] W, real[::1] b, const double[::1] learning_rates,
              ptrdiff_t batch_size, double alpha, const real[::1] shift, const real[::1] metric,
              bint fit_intercept, n_threads=None):
    """One pass over the rows `order`; W and b change in place; the mean loss of each batch is returned."""
    cdef ptrdiff_t D = X.shape[1], C = W.shape[0], n = order.shape[0]
    cdef ptrdiff_t ldx = row_stride(X, "X"), ldw = row_stride(W, "W")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}")
    batch_size = max(1, min(batch_size, n))
    cdef ptrdiff_t n_steps = (n + batch_size - 1) // batch_size
    check_length("y", y.shape[0], X.shape[0], "elements")
    check_length("W", W.shape[1], D, "columns")
    check_length("b", b.shape[0], C, "elements")
    check_length("learning_rates", learning_rates.shape[0], n_steps, "elements")
    if sample_weight is not None:
        check_length("sample_weight", sample_weight.shape[0], X.shape[0], "elements")
    if shift is not None:
        check_length("shift", shift.shape[0], D, "elements")
    if metric is not None:
        check_length("metric", metric.shape[0], D, "elements")
    check_indices(order, X.shape[0])
    check_labels(y, C)
    losses = np.zeros(n_steps)
    if n == 0 or D == 0:
        return losses

    # Rows of a chunk: enough work between two barriers, few enough for its rows to stay in cache.
    cdef ptrdiff_t chunk = (2 << 20) // ((D + C) * <ptrdiff_t>sizeof(real)) // TASK_ROWS * TASK_ROWS
    chunk = min(max(chunk, 256), 8192, (batch_size + TASK_ROWS - 1) // TASK_ROWS * TASK_ROWS)
    cdef ptrdiff_t n_tasks = chunk // TASK_ROWS, slab = slab_of(D, <real>0), n_slabs = (D + slab - 1) // slab
    cdef int threads = threads_for(n_threads, <double>min(chunk, batch_size) * C * D)

    dtype = np.float32 if real is float else np.float64
    cdef real[:, :] dscores = padded(chunk, C, dtype)
    cdef real[:, :] dW = padded(C, D, dtype)
    cdef real[:, :] task_db = padded(n_tasks, C, dtype)  # by task of rows, then summed by each slab
    cdef real[:, :] db = padded(n_slabs, C, dtype)
    cdef real[:, :] drift = padded(n_slabs, C, dtype)
    cdef real[::1] row_losses = np.empty(chunk, dtype)
    cdef real[::1] weight = np.empty(chunk, dtype)
    cdef int32_t[::1] labels = np.empty(chunk, np.int32)
    cdef double[::1] step_losses = losses

    cdef const real *x = &X[0, 0]
    cdef const real *shift_at = NULL
    cdef const real *metric_at = NULL
    cdef const real *mu
    cdef const real *m
    cdef ptrdiff_t ldds = dscores.strides[0] // sizeof(real), lddw = dW.strides[0] // sizeof(real)
    cdef ptrdiff_t ldtdb = task_db.strides[0] // sizeof(real)
    cdef ptrdiff_t step, batch_first, batch_rows, rows_first, rows, task, first, count, i, c
    cdef real learning_rate, scale = 1
    cdef double loss, total_weight = 0
    cdef bint last
    if shift is not None:
        shift_at = &shift[0]
    if metric is not None:
        metric_at = &metric[0]
    if sample_weight is not None:
        for i in range(n):
            total_weight += sample_weight[order[i]]
        if not total_weight > 0:
            raise ValueError(f"sample_weight must have a positive sum; it is {total_weight}")
        scale = n / total_weight

    with nogil:
        for step in range(n_steps):
            batch_first = step * batch_size
            batch_rows = min(batch_size, n - batch_first)
            learning_rate = learning_rates[step]
            loss = 0
            rows_first = batch_first
            while rows_first < batch_first + batch_rows:
                rows = min(chunk, batch_first + batch_rows - rows_first)
                for task in prange((rows + TASK_ROWS - 1) // TASK_ROWS, num_threads=threads,
                                   use_threads_if=threads > 1, schedule="static"):
                    first = task * TASK_ROWS
                    count = min(<ptrdiff_t>TASK_ROWS, rows - first)
                    for i in range(first, first + count):
                        labels[i] = y[order[rows_first + i]]
                        weight[i] = scale / batch_rows
                        if sample_weight is not None:
                            weight[i] = weight[i] * sample_weight[order[rows_first + i]]
                    if real is float:
                        isa.f32.scores(x, ldx, &order[rows_first + first], count, n - rows_first - first - count, D, &W[0, 0], ldw, &b[0], C,
                                       &dscores[first, 0], ldds)
                        isa.f32.cross_entropy_gradient(&dscores[first, 0], ldds, count, C, &labels[first],
                                                       &weight[first], &row_losses[first])
                        isa.f32.bias_gradient(&dscores[first, 0], ldds, count, C, &task_db[task, 0], False)
                    else:
                        isa.f64.scores(x, ldx, &order[rows_first + first], count, n - rows_first - first - count, D, &W[0, 0], ldw, &b[0], C,
                                       &dscores[first, 0], ldds)
                        isa.f64.cross_entropy_gradient(&dscores[first, 0], ldds, count, C, &labels[first],
                                                       &weight[first], &row_losses[first])
                        isa.f64.bias_gradient(&dscores[first, 0], ldds, count, C, &task_db[task, 0], False)
                for i in range(rows):
                    loss += <double>weight[i] * row_losses[i]

                last = rows_first + rows == batch_first + batch_rows
                for task in prange(n_slabs, num_threads=threads, use_threads_if=threads > 1,
                                   schedule="static"):
                    first = task * slab
                    mu = shift_at + first if shift_at else NULL
                    m = metric_at + first if metric_at else NULL
                    if real is float:
                        isa.f32.gradient(x + first, ldx, &order[rows_first], rows, min(slab, D - first),
                                         &dscores[0, 0], ldds, C, &dW[0, first], lddw,
                                         rows_first > batch_first)
                        isa.f32.bias_gradient(&task_db[0, 0], ldtdb, (rows + TASK_ROWS - 1) // TASK_ROWS, C,
                                              &db[task, 0], rows_first > batch_first)
                        if last:
                            isa.f32.sgd_update(&W[0, first], ldw, &dW[0, first], lddw, &db[task, 0], C,
                                               min(slab, D - first), learning_rate, <real>alpha, mu, m,
                                               &drift[task, 0])
                    else:
                        isa.f64.gradient(x + first, ldx, &order[rows_first], rows, min(slab, D - first),
                                         &dscores[0, 0], ldds, C, &dW[0, first], lddw,
                                         rows_first > batch_first)
                        isa.f64.bias_gradient(&task_db[0, 0], ldtdb, (rows + TASK_ROWS - 1) // TASK_ROWS, C,
                                              &db[task, 0], rows_first > batch_first)
                        if last:
                            isa.f64.sgd_update(&W[0, first], ldw, &dW[0, first], lddw, &db[task, 0], C,
                                               min(slab, D - first), learning_rate, <real>alpha, mu, m,
                                               &drift[task, 0])
                rows_first = rows_first + rows
            if fit_intercept:
                for c in range(C):
                    b[c] -= learning_rate * db[0, c]
                    if shift_at:
                        for task in range(n_slabs):
                            b[c] -= drift[task, c]
            step_losses[step] = loss
    return losses
