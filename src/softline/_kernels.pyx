# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""The compiled kernels: check, release the GIL, split the work over threads, call C.

Every function has a NumPy twin of the same name and argument order in :mod:`softline.reference`, which
defines what is right and documents the arguments. All compute in float32 or float64 (one per call), write
into arrays that the caller allocated, and give the same bits for any `n_threads`. X is anything that
:class:`softline.rows.Rows` takes, or such rows themselves: it is packed piece by piece, never copied as a
whole. `n_threads` None means: what the process may use, less where the work is small.
"""

import os

from cython.parallel cimport parallel, prange, threadid
from libc.math cimport INFINITY, pow, sqrt
from libc.stdint cimport int32_t, uintptr_t
from softline._team cimport (
    omp_get_wtime, region_begins, softline_go, softline_is_late, softline_processor_time, softline_team,
)

import numpy as np

from softline.rows import as_rows

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
# Least work for one thread, in multiply-adds: 50 us or so, many times what it costs to start.
cdef double OPERATIONS_PER_THREAD = 1e6
# Work of a batch is worth sharing out at a MEETING_COST-th of that.
cdef double MEETING_COST = 25
# On a busy machine, the most threads by default until a time of omp_get_wtime: BACKOFF times as long after a
# region as it took, so that trying costs little.
cdef int few_threads = 1
cdef double few_until = 0
cdef double BACKOFF = 10
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
    cdef double most
    if n_threads is None:
        most = min(max_threads(), operations / OPERATIONS_PER_THREAD)
        if most >= 2 and omp_get_wtime() < few_until:
            most = min(most, few_threads)
        return max(1, <int>most)
    if n_threads < 1:
        raise ValueError(f"n_threads must be at least 1, or None to let softline choose; got {n_threads}")
    return 1 if forked else min(n_threads, MOST_THREADS)


cpdef int threads_for_epoch(n_threads, double n_rows, double batch_size, double operations) except -1:
    """Threads for an epoch of so many operations a row: they start once, but meet for each batch."""
    return threads_for(n_threads, min(n_rows, MEETING_COST * batch_size) * operations)


cpdef int take_fewer_threads(int threads, double seconds) noexcept:
    """Take at most so many by default for a while, because more held each other up for `seconds`."""
    global few_threads, few_until
    few_threads, few_until = threads, omp_get_wtime() + BACKOFF * seconds
    return 0


cpdef int members_after(int members, double lost, double seconds) noexcept:
    """Threads for what follows a region of `seconds`, of which one was without a processor for `lost`."""
    return members - 1 if members > 1 and softline_is_late(lost, seconds, members) else members


# What a region tells the next ones: how many threads have stayed, and whether its first had to wait for a
# processor, or at the end for another thread.
cdef void region_over(softline_team *team) noexcept:
    cdef double now, lost
    cdef int members
    if team.may_leave:
        now = omp_get_wtime()
        lost = now - team.begun - (softline_processor_time() - team.computed)
        if team.shares != NULL:
            lost -= team.shares[0].slept
        members = members_after(team.members, max(lost, now - team.ended), now - team.begun)
        if members < team.threads:
            take_fewer_threads(members, now - team.begun)


# Features that one thread owns at a time when parameters are split; depends on nothing but the shape.
cdef ptrdiff_t slab_of(ptrdiff_t n_features, real unused) noexcept nogil:
    cdef ptrdiff_t lanes = 64 // sizeof(real)
    return 2 * lanes if n_features <= 64 * lanes else 8 * lanes


def padded(ptrdiff_t n_rows, ptrdiff_t n_features, dtype):
    """Zeros (n_rows, n_features) whose rows start on 64 bytes and never a multiple of 4 KiB apart.

    Rows a multiple of 4 KiB apart would share a few sets of the L1 cache and evict each other.
    """
    if dtype == np.float32:
        return np.asarray(matrix[float](n_rows, n_features, np.zeros, 0))
    return np.asarray(matrix[double](n_rows, n_features, np.zeros, 0))


# Elements from one such row to the next.
cdef ptrdiff_t padded_stride(ptrdiff_t n_features, real unused) noexcept:
    cdef ptrdiff_t lanes = 64 // sizeof(real), stride = (n_features + lanes - 1) // lanes * lanes
    return stride + 2 * lanes if stride * <ptrdiff_t>sizeof(real) % 4096 == 0 else stride


# Room for n elements on 64 bytes: from `aligned` on.
cdef real[::1] room(ptrdiff_t n, make, real unused):
    return make(n + 64 // sizeof(real), np.float32 if real is float else np.float64)


cdef real *aligned(real[::1] room) noexcept:
    cdef ptrdiff_t past = <ptrdiff_t>(<uintptr_t>&room[0] % 64)
    return &room[0] + (64 - past) % 64 // <ptrdiff_t>sizeof(real)


# A matrix so laid out, made with np.zeros or, for scratch that is written before it is read, np.empty.
cdef real[:, :] matrix(ptrdiff_t n_rows, ptrdiff_t n_features, make, real unused):
    cdef ptrdiff_t stride = padded_stride(n_features, <real>0)
    cdef real[::1] flat = room(n_rows * stride, make, <real>0)
    cdef ptrdiff_t start = aligned(flat) - &flat[0]
    return np.asarray(flat)[start:start + n_rows * stride].reshape(n_rows, stride)[:, :n_features]


# ---- X, and the scratch it is packed into --------------------------------------------------------------

DTYPE_CODES = {
    np.dtype("float32"): SOFTLINE_F32,
    np.dtype("float64"): SOFTLINE_F64,
    np.dtype("float16"): SOFTLINE_F16,
    np.dtype("uint8"): SOFTLINE_U8,
    np.dtype("bool"): SOFTLINE_U8,
    np.dtype("int8"): SOFTLINE_I8,
}


cdef const void *address(A) except? NULL:
    cdef uintptr_t at = A.__array_interface__["data"][0]
    return <const void *>at


# Rows for kernels that compute in `real`. Borrowed: the caller keeps X.
cdef softline_rows rows_of(X, real unused) except *:
    cdef softline_rows rows
    dtype = np.float32 if real is float else np.float64
    for name in ("shift", "scale"):
        a = getattr(X, name)
        if a is not None and (a.dtype != dtype or a.shape != X.shape[1:]):
            raise ValueError(f"{name} of X must be {np.dtype(dtype)} of shape {X.shape[1:]}; "
                             f"got {a.dtype} of shape {a.shape}")
    array = X.array
    rows.data = <const char *>address(array)
    rows.row_bytes, rows.column_bytes = array.strides
    rows.shift = NULL if X.shift is None else address(X.shift)
    rows.scale = NULL if X.scale is None else address(X.scale)
    rows.dtype = DTYPE_CODES.get(array.dtype, SOFTLINE_BF16)  # Rows take nothing else
    return rows


# Most strips of one task, and bytes of their rows: packed, with the next rows on their way and a block of W,
# they share the level-2 cache.
cdef enum:
    TASK_STRIPS = 4
    TASK_BYTES = 400 << 10


# ---- checks: C trusts what passes these ----------------------------------------------------------------

cdef ptrdiff_t row_stride(const real[:, :] A, str name) except? -1:
    if A.shape[1] > 1 and A.strides[1] != sizeof(real):
        raise ValueError(f"the rows of {name} must be contiguous; pass np.ascontiguousarray({name})")
    if A.shape[0] > 1 and A.strides[0] % <ptrdiff_t>sizeof(real) != 0:
        raise ValueError(f"the row stride of {name} must be a multiple of its item size; "
                         f"pass np.ascontiguousarray({name})")
    return A.strides[0] // <ptrdiff_t>sizeof(real)


# idx, or all the rows, as the kernels want them.
cdef const ptrdiff_t[::1] indices(const ptrdiff_t[::1] idx, ptrdiff_t n_rows) except *:
    if idx is None:
        return np.arange(n_rows)
    check_indices(idx, n_rows)
    return idx


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


cdef int check_geometry(const real[::1] shift, const real[::1] metric, ptrdiff_t D) except -1:
    if shift is not None:
        check_length("shift", shift.shape[0], D, "elements")
    if metric is not None:
        check_length("metric", metric.shape[0], D, "elements")
    return 0


cdef ptrdiff_t check_targets(const real[:, :] targets, ptrdiff_t n, ptrdiff_t C) except -1:
    check_length("y", targets.shape[0], n, "rows")
    check_length("y", targets.shape[1], C, "columns")
    return row_stride(targets, "y")


cdef int check_smoothing(double label_smoothing) except -1:
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1]; got {label_smoothing}")
    return 0


# ---- optimizers ----------------------------------------------------------------------------------------

# Names of update kernels: the kind of their rule, and how many moments it needs.
UPDATES = {
    "sgd_update": (SOFTLINE_SGD, 0),
    "momentum_update": (SOFTLINE_MOMENTUM, 1),
    "nesterov_update": (SOFTLINE_NESTEROV, 1),
    "adam_update": (SOFTLINE_ADAM, 2),
    "adamw_update": (SOFTLINE_ADAM, 2),
    "rmsprop_update": (SOFTLINE_SCALED, 1),
    "adagrad_update": (SOFTLINE_SCALED, 1),
    "asgd_update": (SOFTLINE_AVERAGE, 1),
}


# The rule of an update kernel. `numbers` are its hyper-parameters by name; the caller keeps `state`.
cdef int rule_of(optimizer_rule *rule, str update, dict numbers, state, const real[:, :] W,
                 double l1) except -1:
    cdef int kind = UPDATES[update][0]
    cdef ptrdiff_t n_moments = UPDATES[update][1], k
    cdef real[:, :] m
    cdef real[::1] mb
    cdef void *at[2]
    cdef void *at_b[2]
    rule.plain = kind == SOFTLINE_SGD and l1 == 0
    rule.decoupled = update == "adamw_update"
    rule.now.kind = kind
    rule.now.beta = numbers.get("beta1", numbers.get("momentum", 0))
    rule.now.keep = numbers.get("beta2", numbers.get("rho", 1))
    rule.now.take = 1 if update == "adagrad_update" else 1 - rule.now.keep
    rule.now.eps = rule.eps = numbers.get("eps", 0)
    rule.eps_hat = numbers.get("eps_hat", False)
    # The direction of steady momentum is 1/(1 - momentum) gradients: the penalty keeps up with it.
    rule.now.l1 = l1 / (1 - rule.now.beta) if kind in (SOFTLINE_MOMENTUM, SOFTLINE_NESTEROV) else l1
    rule.now.root = rule.now.decay = rule.first = 1
    rule.now.share = rule.t = rule.now.ld = 0
    rule.t0 = numbers.get("t0", 0)
    at[0] = at[1] = at_b[0] = at_b[1] = NULL
    if n_moments > 0:
        if state is None:
            raise ValueError(f"{update} needs a state; got None")
        check_length("state.W", len(state.W), n_moments, "matrices")
        check_length("state.b", len(state.b), n_moments, "vectors")
        for k in range(n_moments):
            m, mb = state.W[k], state.b[k]
            check_length("state.W", m.shape[0], W.shape[0], "rows")
            check_length("state.W", m.shape[1], W.shape[1], "columns")
            check_length("state.b", mb.shape[0], W.shape[0], "elements")
            rule.now.ld = row_stride(m, "state.W")
            if W.shape[0] > 0 and W.shape[1] > 0:
                at[k], at_b[k] = &m[0, 0], &mb[0]
    if state is not None:
        rule.t = state.t
    cdef bint squares_only = kind == SOFTLINE_SCALED
    rule.now.m = NULL if squares_only else at[0]
    rule.now.mb = NULL if squares_only else at_b[0]
    rule.now.v = at[0] if squares_only else at[1]
    rule.now.vb = at_b[0] if squares_only else at_b[1]
    return 0


# Step number t + 1: what depends on it.
cdef void next_step(optimizer_rule *rule, double learning_rate, double alpha) noexcept nogil:
    rule.t += 1
    if rule.now.kind == SOFTLINE_ADAM:
        rule.first = 1 / (1 - pow(rule.now.beta, rule.t))
        rule.now.root = 1 / sqrt(1 - pow(rule.now.keep, rule.t))
        if rule.eps_hat:
            rule.now.eps = rule.now.root * rule.eps
        if rule.decoupled:
            rule.now.decay = 1 - learning_rate * alpha
    elif rule.now.kind == SOFTLINE_AVERAGE:
        rule.now.share = 1 / max(1.0, rule.t - rule.t0)


# ---- kernels -------------------------------------------------------------------------------------------

def scores(X, const ptrdiff_t[::1] idx, const real[:, :] W, const real[::1] b, real[:, :] out,
           n_threads=None):
    """out = X[idx] W^T + b; idx None means all rows, b None means 0."""
    X = as_rows(X)
    idx = indices(idx, X.shape[0])
    cdef ptrdiff_t D = X.shape[1], C = W.shape[0], n = idx.shape[0]
    cdef ptrdiff_t ldw = row_stride(W, "W"), ldo = row_stride(out, "out")
    check_length("W", W.shape[1], D, "columns")
    check_length("out", out.shape[0], n, "rows")
    check_length("out", out.shape[1], C, "columns")
    if b is None:
        b = np.zeros(C, np.asarray(W).dtype)
    check_length("b", b.shape[0], C, "elements")
    if n == 0 or C == 0:
        return
    if D == 0:
        np.asarray(out)[...] = b
        return
    cdef softline_rows rows = rows_of(X, <real>0)
    cdef ptrdiff_t lanes = 64 // sizeof(real)
    cdef ptrdiff_t block = softline_block(D, lanes), n_blocks = (D + block - 1) // block
    cdef int threads = threads_for(n_threads, <double>n * C * D)
    cdef ptrdiff_t strip_bytes = lanes * D * <ptrdiff_t>X.array.itemsize
    cdef ptrdiff_t strips = max(<ptrdiff_t>1, min(<ptrdiff_t>TASK_STRIPS, TASK_BYTES // strip_bytes))
    strips = min(strips, (n + lanes - 1) // lanes)
    cdef ptrdiff_t strip = softline_packed(block, lanes), part = strips * C * lanes
    # Not two matrices: making those takes longer than the scores of a row.
    cdef ptrdiff_t ldp = padded_stride(strips * strip, <real>0)
    cdef ptrdiff_t lds = padded_stride((n_blocks + 1) * part, <real>0)
    cdef real[::1] scratch = room(threads * (ldp + lds), np.empty, <real>0)
    cdef real *packed = aligned(scratch)
    cdef real *parts = packed + threads * ldp
    memset(parts, 0, threads * lds * sizeof(real))
    cdef real *sums
    cdef ptrdiff_t task, first, count, k, i
    cdef int thread
    cdef softline_team room_of_team
    cdef softline_team *team = region_begins(&room_of_team, threads, n_threads)
    with nogil:
        for task in prange((n + strips * lanes - 1) // (strips * lanes), num_threads=threads,
                           use_threads_if=threads > 1, schedule="static"):
            thread = threadid()
            first = task * strips * lanes
            count = min(strips * lanes, n - first)
            scores_by_blocks(&rows, &idx[first], count, min(strips * lanes, n - first - count), D,
                             packed + thread * ldp, &W[0, 0], ldw, C, parts + thread * lds, part)
            sums = parts + thread * lds + n_blocks * part
            for k in range((count + lanes - 1) // lanes):
                i = k * lanes
                add_scores_of(<const real *>(parts + thread * lds + i * C), part, n_blocks, &b[0], C, sums)
                store_strip_of(<const real *>sums, min(lanes, count - i), C, &out[first + i, 0], ldo)
            softline_go(team, thread)
    region_over(team)


cdef int softmax_rows(real[:, :] S, bint log, n_threads) except -1:
    cdef ptrdiff_t n = S.shape[0], C = S.shape[1], lanes = 64 // sizeof(real), task, first, count
    cdef ptrdiff_t lds = row_stride(S, "scores")
    if n == 0 or C == 0:
        return 0
    # exp and its sums cost about 20 multiply-adds an element
    cdef int threads = threads_for(n_threads, 20.0 * n * C)
    cdef ptrdiff_t stride = padded_stride(C * lanes, <real>0)
    cdef real[::1] scratch = room(threads * stride, np.zeros, <real>0)
    cdef real *strips = aligned(scratch)
    cdef real *strip
    with nogil:
        for task in prange((n + lanes - 1) // lanes, num_threads=threads, use_threads_if=threads > 1,
                           schedule="static"):
            strip = strips + threadid() * stride
            first = task * lanes
            count = min(lanes, n - first)
            load_strip_of(<const real *>&S[first, 0], lds, NULL, count, C, strip)
            softmax_of(strip, C, log)
            store_strip_of(<const real *>strip, count, C, &S[first, 0], lds)
    return 0


def softmax(real[:, :] scores, n_threads=None):
    """Rows of scores become probabilities, in place."""
    softmax_rows(scores, False, n_threads)


def log_softmax(real[:, :] scores, n_threads=None):
    """Rows of scores become logarithms of probabilities, in place."""
    softmax_rows(scores, True, n_threads)


def cross_entropy(const real[:, :] scores, y, real[::1] losses, n_threads=None, *,
                  double label_smoothing=0.0):
    """losses[i] = -log softmax(scores[i])[y[i]], or the cross-entropy with targets y (n, C)."""
    losses_by_strips[real](scores, None, y, None, losses, n_threads, label_smoothing, False)


def cross_entropy_gradient(real[:, :] scores, y, const real[::1] weight, real[::1] losses, n_threads=None, *,
                           double label_smoothing=0.0):
    """The same losses, and scores[i] = weight[i] (softmax(scores[i]) - onehot(y[i])) in place."""
    check_length("weight", weight.shape[0], scores.shape[0], "elements")
    losses_by_strips[real](scores, scores, y, weight, losses, n_threads, label_smoothing, False)


def hinge_gradient(real[:, :] scores, const int32_t[::1] y, const real[::1] weight, real[::1] losses,
                   n_threads=None):
    """losses[i] = sum_j max(0, s_j - s_y + 1) over j != y[i], and scores[i] = weight[i] dL_i/ds in place."""
    check_length("weight", weight.shape[0], scores.shape[0], "elements")
    losses_by_strips[real](scores, scores, y, weight, losses, n_threads, 0, True)


# The losses and, with `out` and `weight`, the gradient.
cdef int losses_by_strips(const real[:, :] scores, real[:, :] out, y, const real[::1] weight,
                          real[::1] losses, n_threads, double label_smoothing, bint hinge) except -1:
    cdef ptrdiff_t n = scores.shape[0], C = scores.shape[1], lanes = 64 // sizeof(real)
    cdef ptrdiff_t task, first, count, lds = row_stride(scores, "scores"), ldt = 0
    cdef const int32_t[::1] labels = None
    cdef const real[:, :] targets = None
    if y.ndim == 2:
        targets = y
        ldt = check_targets(targets, n, C)
    else:
        labels = y
        check_length("y", labels.shape[0], n, "elements")
        check_labels(labels, C)
    check_length("losses", losses.shape[0], n, "elements")
    check_smoothing(label_smoothing)
    if n == 0:
        return 0
    cdef int threads = threads_for(n_threads, 20.0 * n * C), thread
    cdef real[:, :] strips = matrix(threads, C * lanes, np.zeros, <real>0)
    cdef real[:, :] soft = matrix(
        threads, C * lanes if targets is not None or label_smoothing > 0 else 0, np.zeros, <real>0)
    with nogil:
        for task in prange((n + lanes - 1) // lanes, num_threads=threads, use_threads_if=threads > 1,
                           schedule="static"):
            thread = threadid()
            first = task * lanes
            count = min(lanes, n - first)
            load_strip_of(&scores[first, 0], lds, NULL, count, C, &strips[thread, 0])
            if targets is not None:
                load_strip_of(&targets[first, 0], ldt, NULL, count, C, &soft[thread, 0])
            elif label_smoothing > 0:
                onehot(&labels[first], count, C, &soft[thread, 0])
            if targets is not None or label_smoothing > 0:
                soft_cross_entropy_of(
                    &strips[thread, 0], count, C, <const real *>&soft[thread, 0], label_smoothing,
                    &weight[first] if weight is not None else <const real *>NULL, &losses[first])
            elif hinge:
                hinge_gradient_of(&strips[thread, 0], count, C, &labels[first], &weight[first],
                                  &losses[first])
            elif weight is not None:
                cross_entropy_gradient_of(&strips[thread, 0], count, C, &labels[first], &weight[first],
                                          &losses[first])
            else:
                cross_entropy_of(<const real *>&strips[thread, 0], count, C, &labels[first], &losses[first])
            if weight is not None:
                store_strip_of(<const real *>&strips[thread, 0], count, C, &out[first, 0], lds)
    return 0


def gradient(X, const ptrdiff_t[::1] idx, const real[:, :] dscores, real[:, :] dW, real[::1] db,
             n_threads=None):
    """dW = dscores^T X[idx] and db = column sums of dscores; idx None means all rows."""
    X = as_rows(X)
    idx = indices(idx, X.shape[0])
    cdef ptrdiff_t D = X.shape[1], C = dW.shape[0], n = idx.shape[0], ldw = row_stride(dW, "dW")
    check_length("dW", dW.shape[1], D, "columns")
    check_length("dscores", dscores.shape[0], n, "rows")
    check_length("dscores", dscores.shape[1], C, "columns")
    check_length("db", db.shape[0], C, "elements")
    if n == 0 or C == 0:
        np.asarray(dW)[...] = 0
        np.asarray(db)[...] = 0
        return
    cdef softline_rows rows = rows_of(X, <real>0)
    cdef ptrdiff_t lanes = 64 // sizeof(real), slab = slab_of(D, <real>0), n_strips = (n + lanes - 1) // lanes
    cdef int threads = threads_for(n_threads, <double>n * C * D), thread
    cdef ptrdiff_t lds = row_stride(dscores, "dscores")
    cdef ptrdiff_t strip = softline_packed(slab, lanes)
    cdef real[:, :] packed = matrix(threads, TASK_STRIPS * strip, np.empty, <real>0)
    cdef real[:, :] dS = matrix(1, n_strips * C * lanes, np.empty, <real>0)
    cdef real[:, :] sums = matrix(1, C * lanes, np.empty, <real>0)
    cdef ptrdiff_t task, col, width, first, count, k
    cdef softline_team room_of_team
    cdef softline_team *team = region_begins(&room_of_team, threads, n_threads)
    with nogil:
        for task in prange(n_strips, num_threads=threads, use_threads_if=threads > 1, schedule="static"):
            load_strip_of(&dscores[task * lanes, 0], lds, NULL, min(lanes, n - task * lanes), C,
                          &dS[0, task * C * lanes])
        for task in prange((D + slab - 1) // slab, num_threads=threads, use_threads_if=threads > 1,
                           schedule="static"):
            thread = threadid()
            col = task * slab
            width = min(slab, D - col)
            for k in range((n_strips + TASK_STRIPS - 1) // TASK_STRIPS):
                first = k * TASK_STRIPS * lanes
                count = min(TASK_STRIPS * lanes, n - first)
                pack_of(&rows, &idx[first], count, col, width, &packed[thread, 0], strip)
                gradient_of(<const real *>&packed[thread, 0], strip, count, width,
                            <const real *>&dS[0, first * C], C, &dW[0, col], ldw, k > 0, NULL)
            softline_go(team, thread)
    region_over(team)
    bias_gradient_of(<const real *>&dS[0, 0], n, C, &sums[0, 0], &db[0], False)


def sgd_update(real[:, :] W, real[::1] b, const real[:, :] dW, const real[::1] db, double learning_rate,
               double alpha, const real[::1] shift, const real[::1] metric, bint fit_intercept,
               n_threads=None, *, double l1=0.0):
    """One step of (preconditioned) gradient descent on W and b, in place."""
    update("sgd_update", {}, None, W, b, dW, db, learning_rate, alpha, shift, metric, fit_intercept,
           n_threads, l1)


def momentum_update(W, b, dW, db, learning_rate, alpha, shift, metric, fit_intercept, n_threads=None, *,
                    state, l1=0.0, momentum=0.9):
    """A step along the decaying sum of gradients."""
    step("momentum_update", {"momentum": momentum}, state, W, b, dW, db, learning_rate, alpha, shift, metric,
         fit_intercept, n_threads, l1)


def nesterov_update(W, b, dW, db, learning_rate, alpha, shift, metric, fit_intercept, n_threads=None, *,
                    state, l1=0.0, momentum=0.9):
    """A step of momentum that looks one step ahead."""
    step("nesterov_update", {"momentum": momentum}, state, W, b, dW, db, learning_rate, alpha, shift, metric,
         fit_intercept, n_threads, l1)


def adam_update(W, b, dW, db, learning_rate, alpha, shift, metric, fit_intercept, n_threads=None, *,
                state, l1=0.0, beta1=0.9, beta2=0.999, eps=1e-8, eps_hat=False):
    """A step of the mean gradient over its root mean square."""
    step("adam_update", {"beta1": beta1, "beta2": beta2, "eps": eps, "eps_hat": eps_hat}, state, W, b, dW, db,
         learning_rate, alpha, shift, metric, fit_intercept, n_threads, l1)


def adamw_update(W, b, dW, db, learning_rate, alpha, shift, metric, fit_intercept, n_threads=None, *,
                 state, l1=0.0, beta1=0.9, beta2=0.999, eps=1e-8, eps_hat=False):
    """The same, with alpha shrinking the weights directly."""
    step("adamw_update", {"beta1": beta1, "beta2": beta2, "eps": eps, "eps_hat": eps_hat}, state, W, b, dW,
         db, learning_rate, alpha, shift, metric, fit_intercept, n_threads, l1)


def rmsprop_update(W, b, dW, db, learning_rate, alpha, shift, metric, fit_intercept, n_threads=None, *,
                   state, l1=0.0, rho=0.99, eps=1e-8):
    """A step of the gradient over its root mean square."""
    step("rmsprop_update", {"rho": rho, "eps": eps}, state, W, b, dW, db, learning_rate, alpha, shift, metric,
         fit_intercept, n_threads, l1)


def adagrad_update(W, b, dW, db, learning_rate, alpha, shift, metric, fit_intercept, n_threads=None, *,
                   state, l1=0.0, eps=1e-10):
    """A step of the gradient over the root of its summed squares."""
    step("adagrad_update", {"eps": eps}, state, W, b, dW, db, learning_rate, alpha, shift, metric,
         fit_intercept, n_threads, l1)


def asgd_update(W, b, dW, db, learning_rate, alpha, shift, metric, fit_intercept, n_threads=None, *,
                state, l1=0.0, t0=0):
    """A step of gradient descent, and the mean of the weights."""
    step("asgd_update", {"t0": t0}, state, W, b, dW, db, learning_rate, alpha, shift, metric, fit_intercept,
         n_threads, l1)


def step(name, numbers, state, W, *arguments):
    """One step by the update kernel `name`, whose hyper-parameters are `numbers`, counted in `state`."""
    if W.dtype == np.float32:
        update[float](name, numbers, state, W, *arguments)
    else:
        update[double](name, numbers, state, W, *arguments)
    state.t += 1


cdef int update(str name, dict numbers, state, real[:, :] W, real[::1] b, const real[:, :] dW,
                const real[::1] db, double learning_rate, double alpha, const real[::1] shift,
                const real[::1] metric, bint fit_intercept, n_threads, double l1) except -1:
    cdef ptrdiff_t C = W.shape[0], D = W.shape[1], lanes = 64 // sizeof(real)
    cdef ptrdiff_t ldw = row_stride(W, "W"), lddw = row_stride(dW, "dW")
    check_length("dW", dW.shape[0], C, "rows")
    check_length("dW", dW.shape[1], D, "columns")
    check_length("b", b.shape[0], C, "elements")
    check_length("db", db.shape[0], C, "elements")
    check_geometry(shift, metric, D)
    cdef optimizer_rule rule
    rule_of(&rule, name, numbers, state, W, l1)
    next_step(&rule, learning_rate, alpha)
    cdef const softline_rule *by = NULL if rule.plain else &rule.now
    if C == 0:
        return 0
    cdef int threads = threads_for(n_threads, <double>C * D)
    cdef ptrdiff_t slab = slab_of(D, <real>0), task, first, n_slabs = (D + slab - 1) // slab
    cdef real[:, :] drift = matrix(1, n_slabs * C * lanes, np.empty, <real>0)
    cdef const real *mu
    cdef const real *m
    with nogil:
        for task in prange(n_slabs, num_threads=threads, use_threads_if=threads > 1, schedule="static"):
            first = task * slab
            mu = &shift[first] if shift is not None else NULL
            m = &metric[first] if metric is not None else NULL
            update_of(&W[0, first], ldw, &dW[0, first], lddw, &db[0], 1, C, min(slab, D - first),
                      rule.first * learning_rate, 0 if rule.decoupled else alpha, mu, m,
                      &drift[0, task * C * lanes], by, first)
        if fit_intercept:
            bias_update_of(&db[0], rule.first * learning_rate,
                           &shift[0] if shift is not None else <const real *>NULL, &drift[0, 0], n_slabs, by,
                           C, &b[0])
    return 0


def clip_gradient(real[:, :] dW, real[::1] db, double clip_norm, const real[::1] shift,
                  const real[::1] metric, n_threads=None):
    """A gradient longer than clip_norm is scaled down to it, in place; returns its norm."""
    cdef ptrdiff_t C = dW.shape[0], D = dW.shape[1], c
    check_length("db", db.shape[0], C, "elements")
    check_geometry(shift, metric, D)
    row_stride(dW, "dW")
    cdef double[::1] squares = np.zeros(C)
    cdef int threads = threads_for(n_threads, <double>C * D)
    cdef double norm
    with nogil:
        for c in prange(C if D > 0 else 0, num_threads=threads, use_threads_if=threads > 1,
                        schedule="static"):
            squares[c] = square_norm_of(<const real *>&dW[c, 0], D, db[c],
                                        &shift[0] if shift is not None else <const real *>NULL,
                                        &metric[0] if metric is not None else <const real *>NULL)
    norm = gradient_norm(&squares[0], <const real *>&db[0], C) if C > 0 else 0
    cdef double scale = clip_scale(norm, clip_norm)
    if scale < 1:
        np.asarray(dW)[...] *= <real>scale
        np.asarray(db)[...] *= <real>scale
    return norm


def project_rows(real[:, :] W, real[::1] b, double max_norm, const real[::1] shift, n_threads=None):
    """Rows of W longer than max_norm are scaled down to it, in place; scores of `shift` stay."""
    cdef ptrdiff_t C = W.shape[0], D = W.shape[1], c
    check_length("b", b.shape[0], C, "elements")
    check_geometry[real](shift, None, D)
    row_stride(W, "W")
    cdef int threads = threads_for(n_threads, <double>C * D)
    with nogil:
        for c in prange(C if D > 0 else 0, num_threads=threads, use_threads_if=threads > 1,
                        schedule="static"):
            project_of(&W[c, 0], D, &b[c], max_norm, &shift[0] if shift is not None else <const real *>NULL,
                       <real *>NULL, <real *>NULL, 0)


def column_stats(X, const ptrdiff_t[::1] idx, weight, n_threads=None):
    """(mean, squared deviations from it, minimum, maximum) of the columns of X[idx], in one pass."""
    X = as_rows(X)
    n = X.shape[0] if idx is None else idx.shape[0]
    if weight is not None:
        check_length("weight", len(weight), n, "elements")
    mean, squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    low, high = np.full(X.shape[1], np.inf, X.dtype), np.full(X.shape[1], -np.inf, X.dtype)
    if n > 0 and X.shape[1] > 0:
        if X.dtype == np.float32:
            _column_stats[float](X, indices(idx, X.shape[0]), weight, mean, squares, low, high, n_threads)
        else:
            _column_stats[double](X, indices(idx, X.shape[0]), weight, mean, squares, low, high, n_threads)
    return mean, squares, low, high


cdef int _column_stats(X, const ptrdiff_t[::1] idx, const real[::1] weight, double[::1] mean,
                       double[::1] squares, real[::1] low, real[::1] high, n_threads) except -1:
    cdef softline_rows rows = rows_of(X, <real>0)
    cdef ptrdiff_t D = X.shape[1], n = idx.shape[0], lanes = 64 // sizeof(real)
    cdef int threads = threads_for(n_threads, 8.0 * n * D), thread
    # By blocks of rows, each about its own mean, merged in float64 (Chan, Golub and LeVeque, 1983): a long
    # sum in float32 would lose the last rows, a sum of squares all digits of a variance beside a large mean.
    # Threads share the blocks of a wave, and then the features of the merging.
    cdef ptrdiff_t block = 128, wave = 32, blocks = (n + block - 1) // block, slots = min(wave, blocks)
    cdef ptrdiff_t slab = min((D + lanes - 1) // lanes * lanes, <ptrdiff_t>1024), width, first
    cdef ptrdiff_t task, w, begin, end, k, i, d, count
    cdef ptrdiff_t strip = softline_packed(slab, lanes), strips = (min(block, n) + lanes - 1) // lanes
    cdef real[:, :] packed = matrix(threads, strips * strip, np.empty, <real>0)
    cdef real[:, :] means = matrix(slots, D, np.empty, <real>0)
    cdef real[:, :] deviations = matrix(slots, D, np.empty, <real>0)
    cdef real[:, :] lows = matrix(threads, D, np.empty, <real>0)
    cdef real[:, :] highs = matrix(threads, D, np.empty, <real>0)
    cdef double[::1] weights = np.empty(blocks), totals = np.empty(blocks)
    cdef double total = 0, share, delta
    lows[...] = INFINITY
    highs[...] = -INFINITY
    for k in range(blocks):
        weights[k] = count = min(block, n - k * block)
        if weight is not None:
            weights[k] = 0
            for i in range(count):
                weights[k] += weight[k * block + i]
        total += weights[k]
        totals[k] = total
    with nogil, parallel(num_threads=threads, use_threads_if=threads > 1):
        for w in range((blocks + wave - 1) // wave):
            begin = w * wave
            end = min(begin + wave, blocks)
            for task in prange(begin, end, schedule="dynamic", chunksize=1):
                thread = threadid()
                count = min(block, n - task * block)
                share = 1 / weights[task] if weights[task] > 0 else 0
                for k in range((D + slab - 1) // slab):
                    first = k * slab
                    width = min(slab, D - first)
                    pack_of(&rows, &idx[task * block], count, first, width, &packed[thread, 0], strip)
                    column_stats_of(<const real *>&packed[thread, 0], strip, count, width,
                                    &weight[task * block] if weight is not None else <const real *>NULL,
                                    share, &means[task - begin, first], &deviations[task - begin, first],
                                    &lows[thread, first], &highs[thread, first])
            for d in prange(D, schedule="static"):
                for k in range(begin, end):
                    if totals[k] > 0:
                        share = weights[k] / totals[k]
                        delta = means[k - begin, d] - mean[d]
                        mean[d] += delta * share
                        squares[d] += deviations[k - begin, d]
                        squares[d] += delta * delta * (totals[k] - weights[k]) * share
    for thread in range(threads):
        for d in range(D):
            low[d] = min(low[d], lows[thread, d])
            high[d] = max(high[d], highs[thread, d])
    return 0
