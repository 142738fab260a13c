# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""The compiled kernels: check, release the GIL, split the work over threads, call C.

Every function has a NumPy twin of the same name and argument order in :mod:`softline.reference`, which
defines what is right and documents the arguments. All take float32 or float64 (one dtype per call), write
into arrays that the caller allocated, and give the same bits for any `n_threads`. Matrices may have any
row stride; the elements of a row must be adjacent. `n_threads` None means: what the process may use, less
where the work is small.
"""

import os

from cython.parallel cimport prange
from libc.stdint cimport int32_t

import numpy as np

cdef extern from "softline.h" nogil:
    const softline_isa *softline_dispatch(const char *name)
    const softline_isa *softline_built(int i, int *runs)

cdef extern from *:
    """
    #include <omp.h>
    #ifdef __clang__
    #define SOFTLINE_COMPILER "Clang " __clang_version__
    #else
    #define SOFTLINE_COMPILER "GCC " __VERSION__
    #endif
    """
    int omp_get_max_threads() nogil
    const int _OPENMP
    const char *SOFTLINE_COMPILER
    const char *CYTHON_ABI


# ---- the ISA, chosen once ------------------------------------------------------------------------------

def isas():
    """The ISAs that were built, best first: name -> whether this processor runs it."""
    cdef int i = 0, runs = 0
    cdef const softline_isa *candidate = softline_built(0, &runs)
    found = {}
    while candidate != NULL:
        found[candidate.name.decode()] = bool(runs)
        i += 1
        candidate = softline_built(i, &runs)
    return found


def isa_name():
    """The ISA in use."""
    return isa.name.decode()


def _use_isa(wanted=None):
    """Switch to an ISA by name, or to the best one; for SOFTLINE_ISA, and for tests, which run them all."""
    global isa
    name = wanted.encode() if wanted else b""
    cdef const softline_isa *found = softline_dispatch(<const char *>name if wanted else NULL)
    if found == NULL:
        able = [known for known, runs in isas().items() if runs]
        raise ImportError(
            f"SOFTLINE_ISA={wanted} cannot run here; this build and processor offer {', '.join(able)}"
        )
    isa = found


_use_isa(os.environ.get("SOFTLINE_ISA"))


def config():
    """How this module was built."""
    import re

    return {
        "compiler": SOFTLINE_COMPILER.decode(),
        "openmp": int(_OPENMP),
        "cython": re.sub("_", ".", CYTHON_ABI.decode()),
    }


# ---- threads -------------------------------------------------------------------------------------------

# libgomp hangs in a forked child that starts threads after its parent did: children stay serial.
cdef bint forked = False
# CPUs granted to the process (affinity, cgroup quota), 0 until asked for.
cdef int usable_cpus = 0
# Least work for one thread, in multiply-adds: below about 10 us, starting threads costs more.
cdef double OPERATIONS_PER_THREAD = 250e3
# More than any machine has; OpenMP aborts the process where it cannot start what it is asked for.
MOST_THREADS = 1024


def _stay_serial():
    global forked
    forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_stay_serial)


def max_threads():
    """Threads that a kernel may use by default: OpenMP's limit and the CPUs granted to the process."""
    global usable_cpus
    if forked:
        return 1
    if usable_cpus == 0:
        from joblib import cpu_count

        usable_cpus = cpu_count()
    return max(1, min(omp_get_max_threads(), usable_cpus))


cdef int threads_for(n_threads, double operations) except -1:
    if n_threads is None:
        return max(1, min(max_threads(), <int>min(operations / OPERATIONS_PER_THREAD, 1e6)))
    if n_threads < 1:
        raise ValueError(f"n_threads must be at least 1, or None to let softline choose; got {n_threads}")
    return 1 if forked else min(n_threads, MOST_THREADS)


# Features that one thread owns at a time when parameters are split; depends on nothing but the shape.
cdef ptrdiff_t slab_of(ptrdiff_t n_features, real unused) noexcept nogil:
    cdef ptrdiff_t lanes = 64 // sizeof(real)
    return 2 * lanes if n_features <= 64 * lanes else 8 * lanes


def padded(n_rows, n_features, dtype):
    """Zeros (n_rows, n_features) whose rows start on 64 bytes and never a multiple of 4 KiB apart.

    Rows a multiple of 4 KiB apart would share a few sets of the L1 cache and evict each other.
    """
    lanes = 64 // np.dtype(dtype).itemsize
    stride = -(-n_features // lanes) * lanes
    if stride * np.dtype(dtype).itemsize % 4096 == 0:
        stride += 2 * lanes
    flat = np.zeros(n_rows * stride + lanes, dtype)
    start = -flat.ctypes.data % 64 // flat.itemsize
    return flat[start:start + n_rows * stride].reshape(n_rows, stride)[:, :n_features]


# ---- checks: C trusts what passes these ----------------------------------------------------------------

cdef ptrdiff_t row_stride(const real[:, :] A, str name) except? -1:
    if A.shape[1] > 1 and A.strides[1] != sizeof(real):
        raise ValueError(f"the rows of {name} must be contiguous; pass np.ascontiguousarray({name})")
    if A.shape[0] > 1 and A.strides[0] % <ptrdiff_t>sizeof(real) != 0:
        raise ValueError(f"the row stride of {name} must be a multiple of its item size; "
                         f"pass np.ascontiguousarray({name})")
    return A.strides[0] // <ptrdiff_t>sizeof(real)


cdef int check_length(str name, ptrdiff_t given, ptrdiff_t wanted, str why) except -1:
    if given != wanted:
        raise ValueError(f"{name} has {given} {why}, expected {wanted}")
    return 0


cdef int check_indices(const ptrdiff_t[::1] idx, ptrdiff_t n_rows) except -1:
    cdef ptrdiff_t i, low = 0, high = -1
    for i in range(idx.shape[0]):
        low = min(low, idx[i])
        high = max(high, idx[i])
    if low < 0 or high >= n_rows:
        raise IndexError(f"row numbers must be in [0, {n_rows}), found {low if low < 0 else high}")
    return 0


cdef int check_labels(const int32_t[::1] y, ptrdiff_t n_classes) except -1:
    cdef ptrdiff_t i
    cdef int32_t low = 0, high = -1
    for i in range(y.shape[0]):
        low = min(low, y[i])
        high = max(high, y[i])
    if low < 0 or high >= n_classes:
        raise ValueError(f"labels must be in [0, {n_classes}), found {low if low < 0 else high}")
    return 0


# ---- kernels -------------------------------------------------------------------------------------------

def scores(const real[:, :] X, const ptrdiff_t[::1] idx, const real[:, :] W, const real[::1] b,
           real[:, :] out, n_threads=None):
    """out = X[idx] W^T + b; idx None means all rows, b None means 0."""
    cdef ptrdiff_t D = X.shape[1], C = W.shape[0], n = X.shape[0] if idx is None else idx.shape[0]
    cdef ptrdiff_t ldx = row_stride(X, "X"), ldw = row_stride(W, "W"), lds = row_stride(out, "out")
    check_length("W", W.shape[1], D, "columns")
    check_length("out", out.shape[0], n, "rows")
    check_length("out", out.shape[1], C, "columns")
    if b is not None:
        check_length("b", b.shape[0], C, "elements")
    if idx is not None:
        check_indices(idx, X.shape[0])
    if n == 0 or C == 0:
        return
    if D == 0:
        np.asarray(out)[...] = 0 if b is None else np.asarray(b)
        return
    cdef int threads = threads_for(n_threads, <double>n * C * D)
    cdef const ptrdiff_t *rows = NULL
    if idx is not None:
        rows = &idx[0]
    cdef const real *bias = NULL
    if b is not None:
        bias = &b[0]
    cdef const real *x = &X[0, 0]
    cdef ptrdiff_t task, first, count
    with nogil:
        for task in prange((n + TASK_ROWS - 1) // TASK_ROWS, num_threads=threads,
                           use_threads_if=threads > 1, schedule="static"):
            first = task * TASK_ROWS
            count = min(<ptrdiff_t>TASK_ROWS, n - first)
            if real is float:
                isa.f32.scores(x if rows else x + first * ldx, ldx, rows + first if rows else NULL,
                               NULL, count, D, &W[0, 0], ldw, bias, C, &out[first, 0], lds)
            else:
                isa.f64.scores(x if rows else x + first * ldx, ldx, rows + first if rows else NULL,
                               NULL, count, D, &W[0, 0], ldw, bias, C, &out[first, 0], lds)


cdef int softmax_rows(real[:, :] S, bint log, n_threads) except -1:
    cdef ptrdiff_t n = S.shape[0], C = S.shape[1], lds = row_stride(S, "scores"), task, first, count
    if n == 0 or C == 0:
        return 0
    # exp and its sums cost about 20 multiply-adds an element
    cdef int threads = threads_for(n_threads, 20.0 * n * C)
    with nogil:
        for task in prange((n + TASK_ROWS - 1) // TASK_ROWS, num_threads=threads,
                           use_threads_if=threads > 1, schedule="static"):
            first = task * TASK_ROWS
            count = min(<ptrdiff_t>TASK_ROWS, n - first)
            if real is float:
                isa.f32.softmax(&S[first, 0], lds, count, C, log)
            else:
                isa.f64.softmax(&S[first, 0], lds, count, C, log)
    return 0


def softmax(real[:, :] scores, n_threads=None):
    """Rows of scores become probabilities, in place."""
    softmax_rows(scores, False, n_threads)


def log_softmax(real[:, :] scores, n_threads=None):
    """Rows of scores become logarithms of probabilities, in place."""
    softmax_rows(scores, True, n_threads)


def cross_entropy(const real[:, :] scores, const int32_t[::1] y, real[::1] losses, n_threads=None):
    """losses[i] = -log softmax(scores[i])[y[i]]."""
    cdef ptrdiff_t n = scores.shape[0], C = scores.shape[1], lds = row_stride(scores, "scores")
    cdef ptrdiff_t task, first, count
    check_length("y", y.shape[0], n, "elements")
    check_length("losses", losses.shape[0], n, "elements")
    check_labels(y, C)
    if n == 0:
        return
    cdef int threads = threads_for(n_threads, 20.0 * n * C)
    with nogil:
        for task in prange((n + TASK_ROWS - 1) // TASK_ROWS, num_threads=threads,
                           use_threads_if=threads > 1, schedule="static"):
            first = task * TASK_ROWS
            count = min(<ptrdiff_t>TASK_ROWS, n - first)
            if real is float:
                isa.f32.cross_entropy(&scores[first, 0], lds, count, C, &y[first], &losses[first])
            else:
                isa.f64.cross_entropy(&scores[first, 0], lds, count, C, &y[first], &losses[first])


def cross_entropy_gradient(real[:, :] scores, const int32_t[::1] y, const real[::1] weight,
                           real[::1] losses, n_threads=None):
    """The same losses, and scores[i] = weight[i] (softmax(scores[i]) - onehot(y[i])) in place."""
    cdef ptrdiff_t n = scores.shape[0], C = scores.shape[1], lds = row_stride(scores, "scores")
    cdef ptrdiff_t task, first, count
    check_length("y", y.shape[0], n, "elements")
    check_length("weight", weight.shape[0], n, "elements")
    check_length("losses", losses.shape[0], n, "elements")
    check_labels(y, C)
    if n == 0:
        return
    cdef int threads = threads_for(n_threads, 20.0 * n * C)
    with nogil:
        for task in prange((n + TASK_ROWS - 1) // TASK_ROWS, num_threads=threads,
                           use_threads_if=threads > 1, schedule="static"):
            first = task * TASK_ROWS
            count = min(<ptrdiff_t>TASK_ROWS, n - first)
            if real is float:
                isa.f32.cross_entropy_gradient(&scores[first, 0], lds, count, C, &y[first],
                                               &weight[first], &losses[first])
            else:
                isa.f64.cross_entropy_gradient(&scores[first, 0], lds, count, C, &y[first],
                                               &weight[first], &losses[first])


def gradient(const real[:, :] X, const ptrdiff_t[::1] idx, const real[:, :] dscores, real[:, :] dW,
             real[::1] db, n_threads=None):
    """dW = dscores^T X[idx] and db = column sums of dscores; idx None means all rows."""
    cdef ptrdiff_t D = X.shape[1], C = dW.shape[0], n = X.shape[0] if idx is None else idx.shape[0]
    cdef ptrdiff_t ldx = row_stride(X, "X"), lds = row_stride(dscores, "dscores")
    cdef ptrdiff_t ldw = row_stride(dW, "dW")
    check_length("dW", dW.shape[1], D, "columns")
    check_length("dscores", dscores.shape[0], n, "rows")
    check_length("dscores", dscores.shape[1], C, "columns")
    check_length("db", db.shape[0], C, "elements")
    if idx is not None:
        check_indices(idx, X.shape[0])
    if n == 0 or C == 0:
        np.asarray(dW)[...] = 0
        np.asarray(db)[...] = 0
        return
    cdef int threads = threads_for(n_threads, <double>n * C * D)
    cdef const ptrdiff_t *rows = NULL
    if idx is not None:
        rows = &idx[0]
    cdef ptrdiff_t slab = slab_of(D, <real>0), task, first
    with nogil:
        for task in prange((D + slab - 1) // slab, num_threads=threads, use_threads_if=threads > 1,
                           schedule="static"):
            first = task * slab
            if real is float:
                isa.f32.gradient(&X[0, first], ldx, rows, NULL, n, min(slab, D - first), &dscores[0, 0],
                                 lds, C, &dW[0, first], ldw, False)
            else:
                isa.f64.gradient(&X[0, first], ldx, rows, NULL, n, min(slab, D - first), &dscores[0, 0],
                                 lds, C, &dW[0, first], ldw, False)
        if real is float:
            isa.f32.bias_gradient(&dscores[0, 0], lds, n, C, &db[0], False)
        else:
            isa.f64.bias_gradient(&dscores[0, 0], lds, n, C, &db[0], False)


def sgd_update(real[:, :] W, real[::1] b, const real[:, :] dW, const real[::1] db, double learning_rate,
               double alpha, const real[::1] shift, const real[::1] metric, bint fit_intercept,
               n_threads=None):
    """One step of (preconditioned) gradient descent on W and b, in place."""
    cdef ptrdiff_t C = W.shape[0], D = W.shape[1]
    cdef ptrdiff_t ldw = row_stride(W, "W"), lddw = row_stride(dW, "dW")
    check_length("dW", dW.shape[0], C, "rows")
    check_length("dW", dW.shape[1], D, "columns")
    check_length("b", b.shape[0], C, "elements")
    check_length("db", db.shape[0], C, "elements")
    if shift is not None:
        check_length("shift", shift.shape[0], D, "elements")
    if metric is not None:
        check_length("metric", metric.shape[0], D, "elements")
    if C == 0 or D == 0:
        if fit_intercept:
            np.asarray(b)[...] -= <real>learning_rate * np.asarray(db)
        return
    cdef int threads = threads_for(n_threads, <double>C * D)
    cdef ptrdiff_t slab = slab_of(D, <real>0), task, first, c, n_slabs = (D + slab - 1) // slab
    cdef real[:, ::1] drift = np.zeros((n_slabs, C), dtype=np.asarray(W).dtype)
    cdef const real *shift_at = NULL
    cdef const real *metric_at = NULL
    cdef const real *mu
    cdef const real *m
    if shift is not None:
        shift_at = &shift[0]
    if metric is not None:
        metric_at = &metric[0]
    with nogil:
        for task in prange(n_slabs, num_threads=threads, use_threads_if=threads > 1, schedule="static"):
            first = task * slab
            mu = shift_at + first if shift_at else NULL
            m = metric_at + first if metric_at else NULL
            if real is float:
                isa.f32.sgd_update(&W[0, first], ldw, &dW[0, first], lddw, &db[0], C, min(slab, D - first),
                                   <real>learning_rate, <real>alpha, mu, m, &drift[task, 0])
            else:
                isa.f64.sgd_update(&W[0, first], ldw, &dW[0, first], lddw, &db[0], C, min(slab, D - first),
                                   <real>learning_rate, <real>alpha, mu, m, &drift[task, 0])
        if fit_intercept:
            for c in range(C):
                b[c] -= <real>learning_rate * db[c]
                if shift is not None:
                    for task in range(n_slabs):
                        b[c] -= drift[task, c]


def column_stats(const real[:, :] X, const ptrdiff_t[::1] idx, const real[::1] weight, n_threads=None):
    """(sum, minimum, maximum) of the columns of X[idx], the sum weighted; float64, real, real arrays."""
    cdef ptrdiff_t D = X.shape[1], n = X.shape[0] if idx is None else idx.shape[0]
    cdef ptrdiff_t ldx = row_stride(X, "X")
    if weight is not None:
        check_length("weight", weight.shape[0], n, "elements")
    if idx is not None:
        check_indices(idx, X.shape[0])
    dtype = np.float32 if real is float else np.float64
    total, low, high = np.zeros(D), np.full(D, np.inf, dtype), np.full(D, -np.inf, dtype)
    cdef double[::1] totals = total
    cdef real[::1] lows = low, highs = high, partial = np.zeros(D, dtype)
    if n == 0 or D == 0:
        return total, low, high
    cdef int threads = threads_for(n_threads, 4.0 * n * D)
    cdef const ptrdiff_t *rows = NULL
    if idx is not None:
        rows = &idx[0]
    cdef const real *w = NULL
    if weight is not None:
        w = &weight[0]
    cdef const real *x = &X[0, 0]
    cdef ptrdiff_t slab = slab_of(D, <real>0), task, first, width, i, d, count
    # Few rows at a time: a long sum in float32 would lose the last ones.
    cdef ptrdiff_t block = 256, blocks = (n + block - 1) // block, k
    with nogil:
        for task in prange((D + slab - 1) // slab, num_threads=threads, use_threads_if=threads > 1,
                           schedule="static"):
            first = task * slab
            width = min(slab, D - first)
            for k in range(blocks):
                i = k * block
                count = min(block, n - i)
                for d in range(first, first + width):
                    partial[d] = 0
                if real is float:
                    isa.f32.column_stats((x if rows else x + i * ldx) + first, ldx,
                                         rows + i if rows else NULL, count, width,
                                         w + i if w else NULL,
                                         &partial[first], &lows[first], &highs[first])
                else:
                    isa.f64.column_stats((x if rows else x + i * ldx) + first, ldx,
                                         rows + i if rows else NULL, count, width,
                                         w + i if w else NULL,
                                         &partial[first], &lows[first], &highs[first])
                for d in range(first, first + width):
                    totals[d] += partial[d]
    return total, low, high
