# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""The ground that all kernels stand on: the ISA, checked arrays, threads, and the one parallel region."""

import os

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES, PyBuffer_Release, PyObject_GetBuffer
from cython.parallel cimport parallel, threadid
from libc.stdint cimport int32_t, uintptr_t
from libc.string cimport memset

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
    """How these modules were built."""
    import re

    return {
        "compiler": SOFTLINE_COMPILER.decode(),
        "openmp": int(_OPENMP),
        "cython": re.sub("_", ".", CYTHON_ABI.decode()),
    }


cdef ptrdiff_t real_bytes(dtype) except -1:
    if dtype == np.float32:
        return 4
    if dtype == np.float64:
        return 8
    raise TypeError(f"weights must be float32 or float64; got {dtype}")


cdef const softline_kernels *table(ptrdiff_t real) noexcept nogil:
    return isa.f32 if real == 4 else isa.f64


# ---- checked arrays ------------------------------------------------------------------------------------

cdef int check_length(str name, ptrdiff_t given, ptrdiff_t wanted, str why) except -1:
    if given != wanted:
        raise ValueError(f"{name} has {given} {why}, expected {wanted}")
    return 0


cdef type ndarray = np.ndarray


# A view of the memory of an array, released at once: callers hold the array. Elements are floats of `item`
# bytes, or else integers.
cdef int view_of(Py_buffer *view, A, str name, bint floats, ptrdiff_t item, int ndim, bint written) except -1:
    if not isinstance(A, ndarray):
        raise TypeError(f"{name} must be a NumPy array; got {type(A).__name__}")
    PyObject_GetBuffer(A, view, PyBUF_STRIDES | PyBUF_FORMAT)
    PyBuffer_Release(view)
    if view.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension{'s' if ndim > 1 else ''}; got shape {A.shape}")
    if <uintptr_t>view.buf % <uintptr_t>item != 0:
        raise ValueError(f"{name} is not aligned to its item size; pass {name}.copy()")
    cdef char code = view.format[0]  # of another byte order a sign stands first
    cdef bint right = code == b"f" or code == b"d"
    if not floats:
        right = code == b"i" or code == b"l" or code == b"q"
    if not right or view.format[1] != 0 or view.itemsize != item:
        raise ValueError(f"{name} must be of native {'float' if floats else 'int'}{8 * item}; got {A.dtype}")
    if written and view.readonly:
        raise ValueError(f"{name} is read-only, and would be written to")
    return 0


# A matrix of `rows` x `columns` (-1: any), rows contiguous; if it is `written`, its rows do not overlap.
cdef softline_matrix matrix(A, str name, ptrdiff_t real, ptrdiff_t rows, ptrdiff_t columns,
                            bint written=False) except *:
    cdef Py_buffer view
    view_of(&view, A, name, True, real, 2, written)
    cdef softline_matrix found
    found.at = view.buf
    found.rows, found.columns = view.shape[0], view.shape[1]
    if rows >= 0:
        check_length(name, found.rows, rows, "rows")
    if columns >= 0:
        check_length(name, found.columns, columns, "columns")
    if found.columns > 1 and view.strides[1] != real:
        raise ValueError(f"the rows of {name} must be contiguous; pass np.ascontiguousarray({name})")
    found.ld = found.columns
    if found.rows > 1 and found.columns > 0:
        if view.strides[0] % real != 0:
            raise ValueError(f"the row stride of {name} must be a multiple of its item size; "
                             f"pass np.ascontiguousarray({name})")
        found.ld = view.strides[0] // real
        if written and found.ld < found.columns:
            raise ValueError(f"the rows of {name} must lie one after the other, without overlap; "
                             f"pass np.ascontiguousarray({name})")
    return found


cdef void *contiguous(a, str name, bint floats, ptrdiff_t item, ptrdiff_t n, bint written) except? NULL:
    cdef Py_buffer view
    view_of(&view, a, name, floats, item, 1, written)
    if n >= 0:
        check_length(name, view.shape[0], n, "elements")
    if view.shape[0] > 1 and view.strides[0] != item:
        raise ValueError(f"{name} must be contiguous; pass np.ascontiguousarray({name})")
    return view.buf


# The n elements of a vector (-1: any number).
cdef void *vector(a, str name, ptrdiff_t real, ptrdiff_t n, bint written=False) except? NULL:
    return contiguous(a, name, True, real, n, written)


# The same, or NULL for None.
cdef void *optional(a, str name, ptrdiff_t real, ptrdiff_t n, bint written=False) except? NULL:
    return NULL if a is None else contiguous(a, name, True, real, n, written)


cdef double *doubles(a, str name, ptrdiff_t n, bint written=False) except? NULL:
    return <double *>contiguous(a, name, True, 8, n, written)


# Labels (n), all of them below n_classes.
cdef const int32_t *labels_of(y, ptrdiff_t n, ptrdiff_t n_classes) except? NULL:
    cdef const int32_t *labels = <const int32_t *>contiguous(y, "y", False, 4, n, False)
    cdef ptrdiff_t i, count = len(y)
    cdef int32_t low = 0, high = -1
    for i in range(count):
        low = min(low, labels[i])
        high = max(high, labels[i])
    if low < 0 or high >= n_classes:
        raise ValueError(f"labels must be in [0, {n_classes}), found {low if low < 0 else high}")
    return labels


# Row numbers, all within n_rows.
cdef const ptrdiff_t *rows_in(idx, ptrdiff_t n_rows) except? NULL:
    cdef const ptrdiff_t *rows = <const ptrdiff_t *>contiguous(
        idx, "row numbers", False, sizeof(ptrdiff_t), -1, False)
    cdef ptrdiff_t i, low = 0, high = -1, count = len(idx)
    for i in range(count):
        low = min(low, rows[i])
        high = max(high, rows[i])
    if low < 0 or high >= n_rows:
        raise IndexError(f"row numbers must be in [0, {n_rows}), found {low if low < 0 else high}")
    return rows


cdef dict DTYPE_CODES = {
    np.dtype("float32"): SOFTLINE_F32,
    np.dtype("float64"): SOFTLINE_F64,
    np.dtype("float16"): SOFTLINE_F16,
    np.dtype("uint8"): SOFTLINE_U8,
    np.dtype("bool"): SOFTLINE_U8,
    np.dtype("int8"): SOFTLINE_I8,
}


# Rows for kernels that compute in `real`, as the weights do. Borrowed: the caller keeps X.
cdef softline_rows rows_of(X, ptrdiff_t real) except *:
    cdef softline_rows rows
    cdef ptrdiff_t D = X.shape[1]
    cdef uintptr_t at
    array = X.array
    rows.dtype = DTYPE_CODES.get(array.dtype, SOFTLINE_BF16)  # Rows take nothing else, and align it
    cdef Py_buffer view
    if rows.dtype == SOFTLINE_BF16:  # which is no buffer
        at = array.__array_interface__["data"][0]
        rows.data = <const char *>at
        rows.row_bytes, rows.column_bytes = array.strides
    else:
        PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
        PyBuffer_Release(&view)
        rows.data = <const char *>view.buf
        rows.row_bytes, rows.column_bytes = view.strides[0], view.strides[1]
    rows.shift = optional(X.shift, "shift of X", real, D)
    rows.scale = optional(X.scale, "scale of X", real, D)
    return rows


# ---- memory --------------------------------------------------------------------------------------------

def padded(n_rows, n_features, dtype):
    """Zeros (n_rows, n_features) whose rows start on 64 bytes and never a multiple of 4 KiB apart.

    Rows a multiple of 4 KiB apart would share a few sets of the L1 cache and evict each other.
    """
    if n_rows < 0 or n_features < 0:
        raise ValueError(f"a matrix has no negative shape; got ({n_rows}, {n_features})")
    item = np.dtype(dtype).itemsize
    lanes = 64 // item
    stride = -(-n_features // lanes) * lanes
    if stride * item % 4096 == 0:
        stride += 2 * lanes
    flat = np.zeros(n_rows * stride + lanes, dtype)
    start = -flat.ctypes.data % 64 // item
    return flat[start:start + n_rows * stride].reshape(n_rows, stride)[:, :n_features]


# The first address of an array's memory on 64 bytes: arrays of room have 64 bytes to spare.
cdef void *aligned(room) except? NULL:
    cdef Py_buffer view
    PyObject_GetBuffer(room, &view, PyBUF_STRIDES)
    PyBuffer_Release(&view)
    return <void *>(<uintptr_t>(<char *>view.buf + 63) & ~<uintptr_t>63)


# ---- threads -------------------------------------------------------------------------------------------

# libgomp hangs in a forked child that starts threads after its parent did: children stay serial.
cdef bint forked = False
# CPUs granted to the process (affinity, cgroup quota), 0 until asked for.
cdef int usable_cpus = 0
# Least work for one thread, in multiply-adds: 50 us or so, many times what it costs to start.
cdef double OPERATIONS_PER_THREAD = 1e6
# Work of a batch is worth sharing out at a MEETING_COST-th of that.
cdef double MEETING_COST = 25
# On a busy machine, the most threads by default until a time of softline_time: BACKOFF times as long after a
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
        if most >= 2 and softline_time() < few_until:
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
    few_threads, few_until = threads, softline_time() + BACKOFF * seconds
    return 0


cpdef int members_after(int members, double lost, double seconds) noexcept:
    """Threads for what follows a region of `seconds`, of which one was without a processor for `lost`."""
    return members - 1 if members > 1 and softline_is_late(lost, seconds, members) else members


# What a region tells the next ones: how many threads have stayed, and whether its first had to wait for a
# processor, or at the end for another thread.
cdef void region_over(softline_team *team) noexcept:
    cdef double now = softline_time(), lost
    lost = now - team.begun - (softline_processor_time() - team.computed) - team.shares[0].slept
    cdef int members = members_after(team.members, max(lost, now - team.ended), now - team.begun)
    if members < team.threads:
        take_fewer_threads(members, now - team.begun)


# The one parallel region: `work` on each of the threads. Those not asked for by number may leave it.
cdef int run(softline_work *work, void *operands, int threads, n_threads) except -1:
    cdef softline_solo solo
    cdef softline_team *team
    if threads == 1:
        memset(&solo, 0, sizeof(solo))
        solo.team.threads = solo.team.members = 1
        solo.team.shares = &solo.share
        with nogil:
            work(operands, &solo.team, 0)
        return 0
    memory = np.zeros(sizeof(softline_team) + (threads + 2) * sizeof(softline_share), np.uint8)
    team = <softline_team *>aligned(memory)
    team.threads = team.members = threads
    team.may_leave = n_threads is None
    team.shares = <softline_share *>(
        <uintptr_t>(<char *>(team + 1) + 63) & ~<uintptr_t>63)
    team.begun = team.ended = softline_time()
    team.computed = softline_processor_time()
    with nogil, parallel(num_threads=threads):
        work(operands, team, threadid())
    if team.may_leave:
        region_over(team)
    return 0
