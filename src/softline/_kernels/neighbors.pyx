# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""Distances between rows, and nearest neighbours by brute force: fused distance and running top k.

Distances are defined in float64, as sums of differences of the rows as they came. `nearest` finds out in
float32 (or, for bytes, in integers, exactly) which pairs may be among the nearest: where
|x|^2 + |q|^2 - 2 x.q, less a bound of all that rounding can have done to it, is below the distance of the
query's k-th neighbour so far. Those few distances are then computed in full. So the result is that of all
distances in float64, in order, whatever the filter let pass, and the same for any number of threads.

The functions have twins in :mod:`softline.reference`.
"""

from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY, NAN, fabs, nextafterf, sqrt
from libc.stdint cimport INT32_MAX, PTRDIFF_MAX, int32_t, uint8_t
from softline._kernels.core cimport (
    SOFTLINE_BYTES_PAD, SOFTLINE_L1, SOFTLINE_L2, check_length, isa, matrix, rows_of, softline_exact,
    softline_filter, softline_packed, softline_part, softline_rows, threads_for,
)

import numpy as np

from softline._kernels.core import padded
from softline._kernels.rows import Rows

METRICS = ("manhattan", "euclidean", "sqeuclidean")

# Rows of a chunk, whose packed features and scores share the level-2 cache with a block of queries.
cdef enum:
    CHUNK = 64
    MOST_QUERIES = 128  # of a block
# Bytes of queries converted at a time: as many as the rows take, between these.
cdef ptrdiff_t LEAST_BYTES = 1 << 20, MOST_QUERY_BYTES = 12 << 20
# Elements of queries converted at a time, whose copies stay in cache.
cdef ptrdiff_t CONVERTED = 1 << 14


cdef int check_pair(Q, X, str metric) except -1:
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}; got {metric!r}")
    Rows(Q), Rows(X)  # refuse what kernels do not read
    check_length("Q", Q.shape[1], X.shape[1], "columns")
    return SOFTLINE_L1 if metric == "manhattan" else SOFTLINE_L2


cdef ptrdiff_t queries_at_a_time(ptrdiff_t n, ptrdiff_t N, ptrdiff_t D, ptrdiff_t item_bytes):
    cdef ptrdiff_t each = max(D, <ptrdiff_t>1) * item_bytes
    return max(<ptrdiff_t>1, min(n, min(max(LEAST_BYTES, N * each), MOST_QUERY_BYTES) // each))


# ---- all distances -------------------------------------------------------------------------------------

def distances(Q, X, str metric, double[:, :] out not None, n_threads=None):
    """out[i, j] = the distance of Q[i] from X[j]."""
    cdef int kind = check_pair(Q, X, metric)
    matrix(out.base, "out", 8, len(Q), len(X), True)
    if kind == SOFTLINE_L2 and _are_bytes(Q) and _are_bytes(X) and X.shape[1] <= MOST_BYTES:
        byte_distances(Search(Q, X, kind), metric == "euclidean", out, n_threads)
        return
    rows = Rows(X, dtype=np.float64)
    step = queries_at_a_time(len(Q), len(X), X.shape[1], 8)
    for first in range(0, len(Q), step):
        block = padded(min(step, len(Q) - first), X.shape[1], np.float64)
        block[...] = Q[first:first + step]
        distances_of(block, rows, kind, metric == "euclidean", out[first:first + step], n_threads)


cdef int distances_of(const double[:, :] Q, X, int metric, bint root, double[:, :] out,
                      n_threads) except -1:
    cdef softline_rows rows = rows_of(X, 8)
    cdef const softline_exact *exact = isa.exact
    cdef ptrdiff_t n = X.shape[0], D = X.shape[1], C = Q.shape[0], ldq = Q.strides[0] // 8, lanes = 8
    cdef ptrdiff_t block = softline_part(D, lanes), strip = softline_packed(block, lanes)
    cdef int threads = threads_for(n_threads, 2.0 * n * C * D), thread
    cdef double[:, :] packed = padded(threads, CHUNK // lanes * strip, np.float64)
    cdef double[:, :] S = padded(threads, CHUNK * C, np.float64)
    cdef ptrdiff_t[:, ::1] idx = np.empty((threads, CHUNK), np.intp)
    cdef ptrdiff_t task, first, count, col, width, i, c
    cdef double value
    with nogil:
        for task in prange((n + CHUNK - 1) // CHUNK, num_threads=threads, use_threads_if=threads > 1,
                           schedule="static"):
            thread = threadid()
            first = task * CHUNK
            count = min(<ptrdiff_t>CHUNK, n - first)
            for i in range(count):
                idx[thread, i] = first + i
            col = 0
            while col < D:
                width = min(block, D - col)
                isa.f64.pack(&rows, &idx[thread, 0], count, col, width, &packed[thread, 0], strip)
                exact.differences(metric, &packed[thread, 0], strip, count, width, &Q[0, col], ldq, C,
                                  &S[thread, 0], col > 0)
                col = col + block
            for c in range(C):
                for i in range(count):
                    value = S[thread, i // lanes * lanes * C + c * lanes + i % lanes]
                    out[c, first + i] = sqrt(value) if root else value
    return 0


# ---- the k nearest -------------------------------------------------------------------------------------

# The k best so far: a heap whose first element is the worst, by distance and then by row.
cdef inline bint worse(double d, ptrdiff_t i, double than_d, ptrdiff_t than_i) noexcept nogil:
    return d > than_d or (d == than_d and i > than_i)


# (d, i) takes the place of the worst, and moves down to where it belongs.
cdef inline void replace_worst(double *heap_d, ptrdiff_t *heap_i, ptrdiff_t k, double d,
                               ptrdiff_t i) noexcept nogil:
    cdef ptrdiff_t at = 0, child
    while 2 * at + 1 < k:
        child = 2 * at + 1
        if child + 1 < k and worse(heap_d[child + 1], heap_i[child + 1], heap_d[child], heap_i[child]):
            child += 1
        if not worse(heap_d[child], heap_i[child], d, i):
            break
        heap_d[at] = heap_d[child]
        heap_i[at] = heap_i[child]
        at = child
    heap_d[at] = d
    heap_i[at] = i


# k elements in any order become such a heap: the worst first.
cdef inline void make_heap(double *heap_d, ptrdiff_t *heap_i, ptrdiff_t k) noexcept nogil:
    cdef ptrdiff_t i, j, row
    cdef double d
    for i in range(1, k):
        d, row, j = heap_d[i], heap_i[i], i
        while j > 0 and worse(d, row, heap_d[j - 1], heap_i[j - 1]):
            heap_d[j] = heap_d[j - 1]
            heap_i[j] = heap_i[j - 1]
            j -= 1
        heap_d[j] = d
        heap_i[j] = row


cdef inline void sort_heap(double *heap_d, ptrdiff_t *heap_i, ptrdiff_t k) noexcept nogil:
    cdef double d
    cdef ptrdiff_t i
    while k > 1:
        k -= 1
        d = heap_d[k]
        i = heap_i[k]
        heap_d[k] = heap_d[0]
        heap_i[k] = heap_i[0]
        replace_worst(heap_d, heap_i, k, d, i)


def nearest(Q, X, str metric, double[:, ::1] neigh_dist not None, ptrdiff_t[:, ::1] neigh_ind not None,
            n_threads=None, tree=None):
    """Row i of `neigh_dist` and `neigh_ind` (n, k): the rows of X nearest to Q[i], by distance and number."""
    cdef int kind = check_pair(Q, X, metric)
    cdef ptrdiff_t k = neigh_dist.shape[1], first, step
    check_length("neigh_dist", neigh_dist.shape[0], len(Q), "rows")
    check_length("neigh_ind", neigh_ind.shape[0], len(Q), "rows")
    check_length("neigh_ind", neigh_ind.shape[1], k, "columns")
    if k > len(X):
        raise ValueError(f"there are {len(X)} rows, of which {k} cannot be the nearest")
    if k == 0:
        return
    cdef Search search = Search(Q, X, kind) if tree is None else None
    cdef Boxes boxes = None if tree is None else Boxes(tree, X, kind)
    step = queries_at_a_time(len(Q), len(X), X.shape[1], 4 if tree is None else 8)
    for first in range(0, len(Q), step):
        last = min(first + step, len(Q))
        if tree is None:
            search.run(first, last - first, neigh_dist[first:last], neigh_ind[first:last], n_threads)
        else:
            boxes.run(Q[first:last], neigh_dist[first:last], neigh_ind[first:last], n_threads)
    if np.max(neigh_ind, initial=0) >= len(X):
        raise ValueError("Q and X must be finite: fewer than k distances from a query are numbers")
    if metric == "euclidean":
        np.sqrt(neigh_dist, out=np.asarray(neigh_dist))


def _are_bytes(A):
    return A.dtype in (np.uint8, np.bool_) and (A.strides[1] == 1 or A.shape[1] == 1)


# Products of bytes add up to less than 2^30 in as many features.
cdef ptrdiff_t MOST_BYTES = (1 << 30) // (255 * 255)
# Of the filter, in float32: half an ulp of 1; squared norms from which a row is left to float64.
cdef double UNIT = 2.0 ** -24
cdef double MOST_NORM = 2.0 ** 60


# The rows of a chunk that the filter holds for the k nearest of a query, in a heap that is empty as yet:
# where these come first, few others remain to be computed in full. False, and nothing, where rounding or NaN
# leave fewer than k that can be compared.
cdef bint nearest_by_filter(const float *S, ptrdiff_t strip, float by, const float *low, ptrdiff_t count,
                            ptrdiff_t lanes, double *heap_d, ptrdiff_t *heap_i, ptrdiff_t k) noexcept nogil:
    cdef ptrdiff_t r
    cdef float bound
    for r in range(count):
        bound = by * S[r // lanes * strip + r % lanes] + low[r]
        if bound < heap_d[0]:
            replace_worst(heap_d, heap_i, k, bound, r)
    if heap_d[0] < INFINITY:
        return True
    for r in range(k):
        heap_d[r] = INFINITY
        heap_i[r] = PTRDIFF_MAX
    return False


# The filter's lower bound of the distance of row r from query c: low(r) + by S[c, r] - high[c], with S the
# sums x.q (L2) or of |x - q| (L1) of rows as the filter sees them.
cdef class Search:
    cdef int metric
    cdef bint bytes
    cdef object Q, X, seen
    cdef double keep   # 1 less the relative error of norms and sums
    cdef double by
    cdef double loss   # L1 of what rounding to float32 takes from a row, relative to its norm
    cdef double slack  # absolute error of a distance

    def __init__(self, Q, X, metric):
        cdef ptrdiff_t D = X.shape[1], block = softline_part(D, 16)
        self.metric, self.Q, self.X = metric, Q, X
        self.bytes = _are_bytes(Q) and _are_bytes(X) and D <= MOST_BYTES
        if self.bytes:
            return
        # Any shift is right; that by the mean of a sample makes norms small, and the bounds tight.
        shift = None
        if metric == SOFTLINE_L2:
            shift = X[::max(1, len(X) // 64)].mean(axis=0, dtype=float)
        with np.errstate(over="ignore"):
            self.seen = Rows(X, shift, dtype=np.float32)
        # Roundings on the way to a sum: 16 lanes of a block, their tree, the blocks. Rounding x and q, once
        # shifted, to float32 moves the difference by up to UNIT (|x| + |q|); and rounding float64 before, by
        # as much of what they were. The rest is room for second order, for `low` and for the limits.
        cdef double terms = block / 16.0 + 5 + (D + block - 1) // block
        rounded = np.float64 in (X.dtype, Q.dtype)
        self.slack = D * 2.0 ** -100  # underflow
        if metric == SOFTLINE_L2:
            self.by = -2
            self.keep = 1 - (2 * terms + (32 if rounded else 20)) * UNIT
            if rounded:
                self.slack += 4 * UNIT * np.sum(np.square(shift))
        else:
            self.by = self.keep = 1 - (terms + 8) * UNIT
            self.loss = 2 * UNIT * sqrt(D) if rounded else 0

    # The neighbours of the n queries from `from_query` on; distances are sums, without a root.
    cdef int run(self, ptrdiff_t from_query, ptrdiff_t n, double[:, ::1] distances,
                 ptrdiff_t[:, ::1] indices, n_threads) except -1:
        cdef ptrdiff_t N = self.X.shape[0], D = self.X.shape[1], k = distances.shape[1], lanes = 16
        cdef const softline_filter *filter = isa.filter
        cdef const softline_exact *exact = isa.exact
        cdef softline_rows rows = rows_of(Rows(self.X), 4)
        cdef softline_rows queries = rows_of(Rows(self.Q), 4)
        cdef softline_rows seen = rows if self.bytes else rows_of(self.seen, 4)
        cdef int metric = self.metric, threads = threads_for(n_threads, <double>n * N * D), thread
        cdef bint bytes = self.bytes

        # Tasks are blocks of queries and, where these are few, ranges of rows for each.
        cdef ptrdiff_t n_blocks = (n + MOST_QUERIES - 1) // MOST_QUERIES, n_ranges = 1
        if n_blocks >= threads:
            n_blocks = (n_blocks + threads - 1) // threads * threads
        else:
            n_ranges = max(<ptrdiff_t>1, min((threads + n_blocks - 1) // n_blocks, N // CHUNK))
        cdef ptrdiff_t width = (n + n_blocks - 1) // n_blocks
        n_blocks = (n + width - 1) // width
        cdef double[:, :, ::1] other_distances = np.empty((n_ranges - 1, n, k))
        cdef ptrdiff_t[:, :, ::1] other_indices = np.empty((n_ranges - 1, n, k), np.intp)

        # What the filter takes for q, and what it adds to the limits of q.
        cdef const float[:, :] Q
        cdef const uint8_t[:, ::1] byte_Q
        cdef const double[::1] high
        converted, high = self.converted_queries(from_query, n)
        if bytes:
            byte_Q = converted
        else:
            Q = converted
        cdef ptrdiff_t ldq = 0 if bytes else Q.strides[0] // 4

        cdef ptrdiff_t block = softline_part(D, lanes), n_parts = 1
        if not bytes and metric == SOFTLINE_L2:
            n_parts = max(<ptrdiff_t>1, (D + block - 1) // block)
        cdef ptrdiff_t strip = softline_packed(block, lanes), part = CHUNK * width
        cdef float[:, :] packed = padded(threads, CHUNK // lanes * strip, np.float32)
        cdef float[:, :] parts = padded(threads, n_parts * part, np.float32)
        cdef float[:, :] sums = padded(threads, CHUNK * width, np.float32)
        cdef float[:, :] low = padded(threads, CHUNK, np.float32)
        cdef float[:, :] limits = padded(threads, width, np.float32)
        cdef int32_t[:, ::1] found = np.empty((threads, width), np.int32)
        cdef ptrdiff_t[:, ::1] idx = np.empty((threads, CHUNK), np.intp)
        cdef float[::1] no_bias = np.zeros(width, np.float32)
        cdef float by = self.by

        cdef ptrdiff_t task, q, C, c, r, row, begin, first, last, count, s, n_rows, col, n_found, f, i
        cdef double d
        cdef float *S
        cdef int32_t *S_bytes
        cdef int32_t *low_bytes
        cdef int32_t *limit_bytes
        cdef double *heap_d
        cdef ptrdiff_t *heap_i
        with nogil:
            for task in prange(n_blocks * n_ranges, num_threads=threads, use_threads_if=threads > 1,
                               schedule="dynamic", chunksize=1):
                thread = threadid()
                q = task // n_ranges * width
                C = min(width, n - q)
                i = task % n_ranges
                first = begin = N * i // n_ranges
                last = N * (i + 1) // n_ranges
                heap_d = &other_distances[i - 1, q, 0] if i > 0 else &distances[q, 0]
                heap_i = &other_indices[i - 1, q, 0] if i > 0 else &indices[q, 0]
                for i in range(C * k):
                    heap_d[i] = INFINITY
                    heap_i[i] = PTRDIFF_MAX
                low_bytes = <int32_t *>&low[thread, 0]
                limit_bytes = <int32_t *>&limits[thread, 0]
                for c in range(C):
                    if bytes:
                        limit_bytes[c] = INT32_MAX
                    else:
                        limits[thread, c] = <float>(INFINITY + high[q + c])
                while first < last:
                    count = min(<ptrdiff_t>CHUNK, last - first)
                    if bytes:
                        for r in range(count):
                            low_bytes[r] = 0
                            if metric == SOFTLINE_L2:
                                low_bytes[r] = filter.byte_norm(rows.data + (first + r) * rows.row_bytes, D)
                        filter.byte_sums(metric, &rows, first, count, D, &byte_Q[q, 0], byte_Q.shape[1], C,
                                         <int32_t *>&parts[thread, 0])
                    else:
                        for r in range(count):
                            idx[thread, r] = first + r
                            low[thread, r] = 0
                        col = 0
                        while col < D:
                            i = min(block, D - col)
                            if metric == SOFTLINE_L2:
                                isa.f32.part_scores(&seen, &idx[thread, 0], count, col, i, &packed[thread, 0],
                                                    strip, &Q[q, col], ldq, C,
                                                    &parts[thread, col // block * part])
                            else:
                                isa.f32.pack(&seen, &idx[thread, 0], count, col, i, &packed[thread, 0], strip)
                                filter.differences(metric, &packed[thread, 0], strip, count, i, &Q[q, col],
                                                   ldq, C, &parts[thread, 0], col > 0)
                            filter.square_norms(&packed[thread, 0], strip, count, i, &low[thread, 0], True)
                            col = col + block
                        for r in range(count):
                            low[thread, r] = self.low(low[thread, r])
                        for s in range((count + lanes - 1) // lanes):
                            isa.f32.add_parts(&parts[thread, s * lanes * C], part, n_parts, &no_bias[0], C,
                                              &sums[thread, s * lanes * C])
                        if first == begin and k <= count:
                            for c in range(C):
                                if not nearest_by_filter(&sums[thread, c * lanes], lanes * C, by,
                                                         &low[thread, 0], count, lanes, heap_d + c * k,
                                                         heap_i + c * k, k):
                                    continue
                                for i in range(k):
                                    row = heap_i[c * k + i]
                                    # `by` times it is infinite: not to be found again
                                    sums[thread, row // lanes * lanes * C + c * lanes + row % lanes] = (
                                        by * INFINITY)
                                    heap_i[c * k + i] = first + row
                                    heap_d[c * k + i] = exact.pair(metric, &rows, first + row, &queries,
                                                                   from_query + q + c, D)
                                make_heap(heap_d + c * k, heap_i + c * k, k)
                                limits[thread, c] = nextafterf(
                                    <float>(heap_d[c * k] + high[q + c]), INFINITY)
                    for s in range((count + lanes - 1) // lanes):
                        n_rows = min(lanes, count - s * lanes)
                        S_bytes = <int32_t *>&parts[thread, s * lanes * C]
                        S = &sums[thread, s * lanes * C]
                        if bytes:
                            n_found = filter.candidates_i32(S_bytes, C, low_bytes + s * lanes, limit_bytes,
                                                            &found[thread, 0])
                        else:
                            n_found = filter.candidates(S, C, by, &low[thread, s * lanes],
                                                        &limits[thread, 0], &found[thread, 0])
                        for f in range(n_found):
                            c = found[thread, f]
                            for r in range(n_rows):
                                row = first + s * lanes + r
                                if bytes:
                                    i = S_bytes[c * lanes + r] + low_bytes[s * lanes + r]
                                    if i >= limit_bytes[c]:
                                        continue
                                    d = <double>i - high[q + c]
                                else:
                                    if by * S[c * lanes + r] + low[thread, s * lanes + r] >= (
                                            limits[thread, c]):
                                        continue
                                    d = exact.pair(metric, &rows, row, &queries, from_query + q + c, D)
                                if not worse(heap_d[c * k], heap_i[c * k], d, row):
                                    continue
                                replace_worst(heap_d + c * k, heap_i + c * k, k, d, row)
                                d = heap_d[c * k]
                                if not bytes:
                                    limits[thread, c] = nextafterf(
                                        <float>(d + high[q + c]), INFINITY)
                                elif d < INFINITY:
                                    limit_bytes[c] = <int32_t>(d + high[q + c])
                    first = first + count
            for c in prange(n, num_threads=threads, use_threads_if=threads > 1, schedule="static"):
                for i in range((n_ranges - 1) * k):
                    d = other_distances[i // k, c, i % k]
                    row = other_indices[i // k, c, i % k]
                    if worse(distances[c, 0], indices[c, 0], d, row):
                        replace_worst(&distances[c, 0], &indices[c, 0], k, d, row)
                sort_heap(&distances[c, 0], &indices[c, 0], k)

    # What is added to by S for a row whose squared norm is as computed; NaN where it is too large to know.
    cdef inline float low(self, double norm) noexcept nogil:
        if not norm <= MOST_NORM:
            return NAN
        if self.metric == SOFTLINE_L2:
            norm = self.keep * norm - self.slack
        else:
            norm = -self.loss * sqrt(norm) - self.slack
        return nextafterf(<float>norm, -INFINITY)

    # n queries as the filter reads them, and what is added to the limit of each.
    cdef tuple converted_queries(self, ptrdiff_t first, ptrdiff_t n):
        Q = self.Q[first:first + n]
        D = Q.shape[1]
        if self.bytes:
            pad = SOFTLINE_BYTES_PAD
            shape = n, (D + pad) // pad * pad
            if self.metric == SOFTLINE_L1:
                converted, high = np.zeros(shape, np.uint8), np.zeros(n)
                converted[:, :D] = Q
                return converted, high
            width = isa.filter.byte_query_width(self.metric)
            converted = np.zeros(shape, np.int8 if width == 1 else np.int16)
            converted[:, :D] = Q.astype(np.int16) - 128
            high = -np.einsum("ij,ij->i", Q, Q, dtype=float)
            return converted.view(np.uint8), high
        converted, norms = padded(n, D, np.float32), np.empty(n)
        shift, step = self.seen.shift, max(1, CONVERTED // max(D, 1))
        with np.errstate(over="ignore", invalid="ignore"):
            for at in range(0, n, step):
                block = converted[at:at + step]
                queries = Q[at:at + step].astype(np.float32, copy=False)
                np.subtract(queries, 0 if shift is None else shift, out=block)
                np.einsum("ij,ij->i", block, block, out=norms[at:at + step], dtype=float)
        norms[~(norms <= MOST_NORM)] = np.nan
        return converted, (-self.keep * norms if self.metric == SOFTLINE_L2 else self.loss * np.sqrt(norms))


# ---- the k nearest, by a tree --------------------------------------------------------------------------

# Queries of a task, which a thread searches one by one.
cdef enum:
    TASK_QUERIES = 64
    MOST_DEPTH = 64  # of a tree, whose nodes have numbers of so many bits

# scikit-learn's node: its rows are order[first:last].
cdef struct Node:
    ptrdiff_t first, last, is_leaf
    double radius


# scikit-learn's KDTree of X. Each node is a box, and no row in it is nearer than the box itself. Differences
# are rounded monotonically, and sums of them, in whatever order, within a share of themselves: what exceeds
# the k-th distance by more than that share cannot be among the nearest. The distances of all others are those
# of `pair`, as by brute force.
cdef class Boxes:
    cdef int metric
    cdef object rows
    cdef const double[:, ::1] data
    cdef const ptrdiff_t[::1] order
    cdef const Node[::1] nodes
    cdef const double[:, :, ::1] bounds

    def __init__(self, tree, X, metric):
        from sklearn.neighbors import KDTree  # here, because it takes a second
        if not isinstance(tree, KDTree):
            raise TypeError(f"tree must be a KDTree of scikit-learn; got {type(tree).__name__}")
        self.metric = metric
        self.data, self.order, self.nodes, self.bounds = tree.get_arrays()
        if self.data.shape[0] != X.shape[0] or self.data.shape[1] != X.shape[1]:
            raise ValueError(f"tree must be that of X, {X.shape}; got one of {np.shape(self.data)}")
        self.rows = Rows(np.asarray(self.data), dtype=np.float64)

    cdef int run(self, Q, double[:, ::1] distances, ptrdiff_t[:, ::1] indices, n_threads) except -1:
        cdef ptrdiff_t n = len(Q), D = self.data.shape[1], k = distances.shape[1], task, j
        queries = np.ascontiguousarray(Q, np.float64)
        cdef const double[:, ::1] q = queries
        cdef softline_rows Q_rows = rows_of(Rows(queries, dtype=np.float64), 8)
        cdef softline_rows X_rows = rows_of(self.rows, 8)
        cdef double visited = min(<double>self.data.shape[0], 100.0 + 4 * k)  # a guess
        cdef int threads = threads_for(n_threads, n * visited * D)
        with nogil:
            for task in prange((n + TASK_QUERIES - 1) // TASK_QUERIES, num_threads=threads,
                               use_threads_if=threads > 1, schedule="dynamic", chunksize=1):
                for j in range(task * TASK_QUERIES, min(n, (task + 1) * TASK_QUERIES)):
                    self.search(&X_rows, &Q_rows, j, &q[j, 0], D, &distances[j, 0], &indices[j, 0], k)
        return 0

    # The k rows nearest to query j.
    cdef void search(self, const softline_rows *X, const softline_rows *Q, ptrdiff_t j, const double *q,
                     ptrdiff_t D, double *heap_d, ptrdiff_t *heap_i, ptrdiff_t k) noexcept nogil:
        cdef const softline_exact *exact = isa.exact
        cdef const Node *nodes = &self.nodes[0]
        cdef const ptrdiff_t *order = &self.order[0]
        cdef const double *data = &self.data[0, 0]
        cdef const double *lower = &self.bounds[0, 0, 0]
        cdef const double *upper = &self.bounds[1, 0, 0]
        cdef int metric = self.metric
        cdef ptrdiff_t[MOST_DEPTH] waiting
        cdef double[MOST_DEPTH] from_waiting
        cdef ptrdiff_t depth = 1, node, other, i, row
        cdef double near, far, d, limit = INFINITY
        cdef double more = 1 + (D + 4) * 2.0 ** -52, slack = D * 2.0 ** -1073  # squares may underflow
        for i in range(k):
            heap_d[i] = INFINITY
            heap_i[i] = PTRDIFF_MAX
        waiting[0] = 0
        from_waiting[0] = 0
        while depth > 0:
            depth -= 1
            node = waiting[depth]
            near = from_waiting[depth]
            while not near > limit and not nodes[node].is_leaf:
                node = 2 * node + 1
                other = node + 1
                near = from_box(metric, q, lower + node * D, upper + node * D, D)
                far = from_box(metric, q, lower + other * D, upper + other * D, D)
                if far < near:
                    near, far = far, near
                    node, other = other, node
                waiting[depth] = other
                from_waiting[depth] = far
                depth += 1
            if near > limit:
                continue
            for i in range(nodes[node].first, nodes[node].last):
                row = order[i]
                d = from_row(metric, q, data + row * D, D)
                if d > limit:
                    continue
                if D > 2:  # the order of terms matters
                    d = exact.pair(metric, X, row, Q, j, D)
                if worse(heap_d[0], heap_i[0], d, row):
                    replace_worst(heap_d, heap_i, k, d, row)
                    limit = heap_d[0] * more + slack
        sort_heap(heap_d, heap_i, k)


cdef inline double from_row(int metric, const double *q, const double *x, ptrdiff_t D) noexcept nogil:
    cdef double total = 0
    cdef ptrdiff_t d
    for d in range(D):
        total += fabs(q[d] - x[d]) if metric == SOFTLINE_L1 else (q[d] - x[d]) * (q[d] - x[d])
    return total


cdef inline double from_box(int metric, const double *q, const double *lower, const double *upper,
                            ptrdiff_t D) noexcept nogil:
    cdef double total = 0, gap
    cdef ptrdiff_t d
    for d in range(D):
        gap = max(lower[d] - q[d], 0.0) + max(q[d] - upper[d], 0.0)
        total += gap if metric == SOFTLINE_L1 else gap * gap
    return total


# ---- all distances of bytes -----------------------------------------------------------------------------

# Squares in integers: the same numbers, for they are exact.
cdef int byte_distances(Search search, bint root, double[:, :] out, n_threads) except -1:
    cdef ptrdiff_t N = search.X.shape[0], D = search.X.shape[1], n = search.Q.shape[0], lanes = 16
    cdef const softline_filter *filter = isa.filter
    cdef softline_rows rows = rows_of(Rows(search.X), 4)
    cdef const uint8_t[:, ::1] Q
    cdef const double[::1] high  # the squared norms of the queries, negative
    Q, high = search.converted_queries(0, n)
    cdef int threads = threads_for(n_threads, <double>n * N * D / 8), thread
    cdef int32_t[:, ::1] S = np.empty((threads, CHUNK * MOST_QUERIES), np.int32)
    cdef int32_t[:, ::1] norms = np.empty((threads, CHUNK), np.int32)
    cdef ptrdiff_t task, first, count, q, C, c, r
    cdef double value
    with nogil:
        for task in prange((N + CHUNK - 1) // CHUNK, num_threads=threads, use_threads_if=threads > 1,
                           schedule="static"):
            thread = threadid()
            first = task * CHUNK
            count = min(<ptrdiff_t>CHUNK, N - first)
            for r in range(count):
                norms[thread, r] = filter.byte_norm(rows.data + (first + r) * rows.row_bytes, D)
            q = 0
            while q < n:
                C = min(<ptrdiff_t>MOST_QUERIES, n - q)
                filter.byte_sums(SOFTLINE_L2, &rows, first, count, D, &Q[q, 0], Q.shape[1], C, &S[thread, 0])
                for c in range(C):
                    for r in range(count):
                        value = S[thread, (r // lanes * C + c) * lanes + r % lanes] + norms[thread, r]
                        value = value - high[q + c]
                        out[q + c, first + r] = sqrt(value) if root else value
                q = q + C
    return 0
