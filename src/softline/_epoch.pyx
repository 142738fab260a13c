# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""A whole epoch of mini-batch SGD in one call, the GIL released, in one parallel region.

A batch is taken in chunks of rows that stay in cache. A chunk has three phases, a barrier after each:
1. scores, by blocks of features x tasks of rows: each thread reads its own columns of X;
2. softmax, losses and gradient to the scores, by tasks of rows;
3. gradient to W, by slabs of features, and after the last chunk of a batch the update: each slab of W
   belongs to one thread, which sums its rows in a fixed order. Its columns of X are still in its cache.
There is no per-thread gradient to reduce, so neither the number of threads nor the size of a chunk changes
a bit of the result. Phases 1 and 3 also ask memory for the rows of the next chunk.
"""

from cython.parallel cimport parallel, threadid
from libc.stdint cimport int32_t
from softline._kernels cimport (
    TASK_ROWS, check_indices, check_labels, check_length, isa, real, row_stride, slab_of, softline_block,
    threads_for,
)

import numpy as np

from softline._kernels import padded

cdef extern from "barrier.h" nogil:
    ctypedef struct softline_barrier:
        int arrived, generation
    void softline_wait(softline_barrier *barrier, int threads)

cdef extern from "omp.h" nogil:
    int omp_get_num_threads()

# Bytes of a chunk for each thread: with the next chunk on its way, both fit in a level-2 cache.
cdef ptrdiff_t CHUNK_BYTES = 128 << 10


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

    cdef int threads = threads_for(n_threads, <double>min(batch_size, 256) * C * D)
    cdef ptrdiff_t row_bytes = (D + C) * <ptrdiff_t>sizeof(real)
    cdef ptrdiff_t chunk = min(max(threads * CHUNK_BYTES // row_bytes, TASK_ROWS * threads), 8192, batch_size)
    cdef ptrdiff_t n_tasks = (chunk + TASK_ROWS - 1) // TASK_ROWS
    chunk = n_tasks * TASK_ROWS
    cdef ptrdiff_t slab = slab_of(D, <real>0), n_slabs = (D + slab - 1) // slab
    cdef ptrdiff_t block = softline_block(D, 64 // sizeof(real)), n_blocks = (D + block - 1) // block

    dtype = np.float32 if real is float else np.float64
    cdef real[:, :] partial = padded(n_blocks * chunk, C, dtype)  # scores by block of features
    cdef real[:, :] dscores = padded(chunk, C, dtype)
    cdef real[:, :] dW = padded(C, D, dtype)
    cdef real[:, :] task_db = padded(n_tasks, C, dtype)  # by task of rows, then summed by each slab
    cdef real[:, :] db = padded(n_slabs, C, dtype)
    cdef real[:, :] drift = padded(n_slabs, C, dtype)
    cdef real[::1] row_losses = np.empty(chunk, dtype)
    cdef real[::1] weight = np.empty(chunk, dtype)
    cdef int32_t[::1] labels = np.empty(chunk, np.int32)
    cdef double[::1] task_losses = np.empty(n_tasks), step_losses = losses

    cdef const real *x = &X[0, 0]
    cdef const real *shift_at = NULL
    cdef const real *metric_at = NULL
    if shift is not None:
        shift_at = &shift[0]
    if metric is not None:
        metric_at = &metric[0]
    cdef ptrdiff_t ldp = partial.strides[0] // sizeof(real), lds = dscores.strides[0] // sizeof(real)
    cdef ptrdiff_t lddw = dW.strides[0] // sizeof(real), ldtdb = task_db.strides[0] // sizeof(real)
    cdef real scale = 1
    cdef double total_weight = 0
    cdef ptrdiff_t i
    if sample_weight is not None:
        for i in range(n):
            total_weight += sample_weight[order[i]]
        if not total_weight > 0:
            raise ValueError(f"sample_weight must have a positive sum; it is {total_weight}")
        scale = n / total_weight

    # From here on, what a thread assigns is its own.
    cdef softline_barrier barrier
    barrier.arrived = barrier.generation = 0
    cdef int thread, team
    cdef ptrdiff_t step, batch_first, batch_last, chunk_first, rows, tasks, task, row, col, count, k, c, r
    cdef const ptrdiff_t *idx
    cdef const ptrdiff_t *next_idx
    cdef const ptrdiff_t *soon
    cdef const real *mu
    cdef const real *m
    cdef real learning_rate
    cdef bint add, last
    with nogil, parallel(num_threads=threads, use_threads_if=threads > 1):
        thread = threadid()
        team = omp_get_num_threads()
        for step in range(n_steps):
            batch_first = step * batch_size
            batch_last = min(batch_first + batch_size, n)
            learning_rate = learning_rates[step]
            chunk_first = batch_first
            while chunk_first < batch_last:
                rows = min(chunk, batch_last - chunk_first)
                add = chunk_first > batch_first
                last = chunk_first + rows == batch_last
                tasks = (rows + TASK_ROWS - 1) // TASK_ROWS
                idx = &order[chunk_first]
                next_idx = idx + rows if chunk_first + 2 * rows <= n else NULL

                for k in range(n_blocks * tasks * thread // team, n_blocks * tasks * (thread + 1) // team):
                    col = k // tasks * block
                    row = k % tasks * TASK_ROWS
                    count = min(<ptrdiff_t>TASK_ROWS, rows - row)
                    soon = next_idx + row if next_idx else NULL
                    if real is float:
                        isa.f32.scores(x + col, ldx, idx + row, soon, count, min(block, D - col),
                                       &W[0, col], ldw, NULL, C, &partial[k // tasks * chunk + row, 0], ldp)
                    else:
                        isa.f64.scores(x + col, ldx, idx + row, soon, count, min(block, D - col),
                                       &W[0, col], ldw, NULL, C, &partial[k // tasks * chunk + row, 0], ldp)
                softline_wait(&barrier, team)

                for task in range(tasks * thread // team, tasks * (thread + 1) // team):
                    row = task * TASK_ROWS
                    count = min(<ptrdiff_t>TASK_ROWS, rows - row)
                    for r in range(row, row + count):
                        labels[r] = y[idx[r]]
                        weight[r] = scale / (batch_last - batch_first)
                        if sample_weight is not None:
                            weight[r] = weight[r] * sample_weight[idx[r]]
                        for c in range(C):
                            dscores[r, c] = b[c]
                        for k in range(n_blocks):
                            for c in range(C):
                                dscores[r, c] = dscores[r, c] + partial[k * chunk + r, c]
                    if real is float:
                        isa.f32.cross_entropy_gradient(&dscores[row, 0], lds, count, C, &labels[row],
                                                       &weight[row], &row_losses[row])
                        isa.f32.bias_gradient(&dscores[row, 0], lds, count, C, &task_db[task, 0], False)
                    else:
                        isa.f64.cross_entropy_gradient(&dscores[row, 0], lds, count, C, &labels[row],
                                                       &weight[row], &row_losses[row])
                        isa.f64.bias_gradient(&dscores[row, 0], lds, count, C, &task_db[task, 0], False)
                    task_losses[task] = 0
                    for r in range(row, row + count):
                        task_losses[task] = task_losses[task] + <double>weight[r] * row_losses[r]
                softline_wait(&barrier, team)

                for task in range(n_slabs * thread // team, n_slabs * (thread + 1) // team):
                    col = task * slab
                    mu = shift_at + col if shift_at else NULL
                    m = metric_at + col if metric_at else NULL
                    if real is float:
                        isa.f32.gradient(x + col, ldx, idx, next_idx, rows, min(slab, D - col),
                                         &dscores[0, 0], lds, C, &dW[0, col], lddw, add)
                        isa.f32.bias_gradient(&task_db[0, 0], ldtdb, tasks, C, &db[task, 0], add)
                        if last:
                            isa.f32.sgd_update(&W[0, col], ldw, &dW[0, col], lddw, &db[task, 0], C,
                                               min(slab, D - col), learning_rate, <real>alpha, mu, m,
                                               &drift[task, 0])
                    else:
                        isa.f64.gradient(x + col, ldx, idx, next_idx, rows, min(slab, D - col),
                                         &dscores[0, 0], lds, C, &dW[0, col], lddw, add)
                        isa.f64.bias_gradient(&task_db[0, 0], ldtdb, tasks, C, &db[task, 0], add)
                        if last:
                            isa.f64.sgd_update(&W[0, col], ldw, &dW[0, col], lddw, &db[task, 0], C,
                                               min(slab, D - col), learning_rate, <real>alpha, mu, m,
                                               &drift[task, 0])
                softline_wait(&barrier, team)

                # b and the losses are not read before the next barrier.
                if thread == 0:
                    for task in range(tasks):
                        step_losses[step] = step_losses[step] + task_losses[task]
                    if last and fit_intercept:
                        for c in range(C):
                            b[c] = b[c] - learning_rate * db[0, c]
                            if shift_at:
                                for task in range(n_slabs):
                                    b[c] = b[c] - drift[task, c]
                chunk_first = chunk_first + rows
    return losses
