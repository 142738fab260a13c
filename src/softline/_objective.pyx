# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""What the search for a minimum needs: the loss over all rows, with its gradient or for many weights at once,
and coordinate descent.

Rows are divided into blocks, by the shape alone. A block has its own sums, which one thread makes: chunk by
chunk of rows that stay in cache, scores, what becomes of them, and the gradient to W. The sums of the blocks
are then added in float64, in order. So neither the number of threads nor who took a block changes a bit, and
threads meet only at the end.
"""

from cython.parallel cimport parallel, prange, threadid
from libc.math cimport copysign, fabs, fmax, sqrt
from libc.stdint cimport int32_t, uint8_t
from softline._kernels cimport (
    add_scores_of, bias_gradient_of, check_labels, check_length, cross_entropy_gradient_of,
    cross_entropy_of, gradient_of, indices, matrix, real, region_over, row_stride, rows_of, scores_by_blocks,
    scores_of, softline_ahead, softline_block, softline_packed, softline_rows, threads_for,
)
from softline._team cimport (
    softline_come, softline_done, softline_go, softline_next, softline_take, softline_team, softline_wait,
    team_in, team_room,
)

import numpy as np

from softline.rows import as_rows

# Bytes of a chunk: packed rows, and scores; with W and the gradient to it they share a level-2 cache.
cdef ptrdiff_t PACKED_BYTES = 384 << 10
cdef ptrdiff_t SCORE_BYTES = 256 << 10
# Blocks are at most so many, and their gradients together at most so large, but at least FEWEST_BLOCKS.
cdef ptrdiff_t MOST_BLOCKS = 32
cdef ptrdiff_t FEWEST_BLOCKS = 4
cdef ptrdiff_t GRADIENT_BYTES = 64 << 20
cdef ptrdiff_t ROWS_PER_BLOCK = 256
# Bytes of the scores of a chunk for all candidates: enough rows for each time that the weights pass by.
cdef ptrdiff_t CANDIDATE_BYTES = 2 << 20


def loss_gradient(X, y, sample_weight, W, b, dW, db, n_threads=None):
    """Mean cross-entropy of all rows; its gradient is written into dW and db, float64."""
    X = as_rows(X)
    check_length("y", len(y), X.shape[0], "elements")
    check_labels(y, W.shape[0])
    if X.dtype == np.float32:
        return pass_over[float](X, y, sample_weight, W, b, dW, db, n_threads)
    return pass_over[double](X, y, sample_weight, W, b, dW, db, n_threads)


cdef double pass_over(X, const int32_t[::1] y, const real[::1] sample_weight, const real[:, :] W,
                      const real[::1] b, double[:, :] dW, double[::1] db, n_threads) except? -1:
    cdef ptrdiff_t n = X.shape[0], D = X.shape[1], C = W.shape[0], ldw = row_stride(W, "W")
    cdef const ptrdiff_t[::1] idx = indices(None, n)
    check_length("W", W.shape[1], D, "columns")
    check_length("b", b.shape[0], C, "elements")
    check_length("dW", dW.shape[0], C, "rows")
    check_length("dW", dW.shape[1], D, "columns")
    check_length("db", db.shape[0], C, "elements")
    cdef double scale = 1 / total_weight(sample_weight, n)

    cdef softline_rows rows = rows_of(X, <real>0)
    cdef ptrdiff_t lanes = 64 // sizeof(real)
    cdef ptrdiff_t block = softline_block(D, lanes), n_parts = (D + block - 1) // block
    cdef ptrdiff_t strip = softline_packed(D + lanes, lanes)
    cdef ptrdiff_t strips = (n + lanes - 1) // lanes
    cdef ptrdiff_t n_blocks = max(FEWEST_BLOCKS, GRADIENT_BYTES // max(1, C * D * <ptrdiff_t>sizeof(real)))
    n_blocks = max(<ptrdiff_t>1, min(min(n_blocks, MOST_BLOCKS), n // ROWS_PER_BLOCK))
    cdef ptrdiff_t chunk_strips = max(<ptrdiff_t>1, min(
        PACKED_BYTES // (strip * <ptrdiff_t>sizeof(real)), SCORE_BYTES // (64 * C)))
    chunk_strips = min(chunk_strips, (strips + n_blocks - 1) // n_blocks)
    cdef ptrdiff_t chunk = chunk_strips * lanes, part = chunk * C
    cdef int threads = min(threads_for(n_threads, 2.0 * n * C * D), <int>n_blocks), thread

    cdef real[:, :] packed = matrix(threads, chunk_strips * strip, np.empty, <real>0)
    cdef real[:, :] parts = matrix(threads, n_parts * part, np.zeros, <real>0)
    cdef real[:, :] dscores = matrix(threads, part, np.empty, <real>0)
    cdef real[:, :] row_losses = matrix(threads, lanes, np.empty, <real>0)
    cdef real[:, :] weight = matrix(threads, lanes, np.empty, <real>0)
    cdef real[:, :] sums = matrix(n_blocks * C, D, np.empty, <real>0)  # gradients to W of the blocks
    cdef real[:, :] lane_sums = matrix(n_blocks, C * lanes, np.empty, <real>0)
    cdef real[:, :] bias_sums = matrix(n_blocks, C, np.empty, <real>0)
    cdef double[::1] losses = np.zeros(n_blocks)
    cdef ptrdiff_t ld = row_stride(sums, "sums")

    cdef uint8_t[::1] room = team_room(threads)
    cdef softline_team *team = team_in(room, threads, n_threads)
    cdef ptrdiff_t mine, task, first, last, n_rows, s, col, count, k, r, c, d
    cdef softline_ahead ahead
    cdef real *S
    cdef bint add
    cdef double sum
    with nogil, parallel(num_threads=threads, use_threads_if=threads > 1):
        thread = threadid()
        softline_come(team, thread)
        mine = 0
        task = softline_take(team, thread, 0, n_blocks)
        while task >= 0:
            first = strips * task // n_blocks * lanes
            last = min(n, strips * (task + 1) // n_blocks * lanes)
            add = False
            sum = 0
            while first < last:
                n_rows = min(chunk, last - first)
                for k in range(n_parts):
                    col = k * block
                    scores_of(&rows, &idx[first], n_rows, col, min(block, D - col),
                              &packed[thread, softline_packed(col, lanes)], strip, &W[0, col], ldw, C,
                              &parts[thread, k * part])
                for s in range((n_rows + lanes - 1) // lanes):
                    count = min(lanes, n_rows - s * lanes)
                    S = &dscores[thread, s * lanes * C]
                    add_scores_of(<const real *>&parts[thread, s * lanes * C], part, n_parts, &b[0], C, S)
                    for r in range(count):
                        weight[thread, r] = 1
                        if sample_weight is not None:
                            weight[thread, r] = sample_weight[first + s * lanes + r]
                    cross_entropy_gradient_of(S, count, C, &y[first + s * lanes],
                                              <const real *>&weight[thread, 0], &row_losses[thread, 0])
                    for r in range(count):
                        sum = sum + <double>weight[thread, r] * row_losses[thread, r]
                ahead = softline_ahead(
                    &rows, &idx[0] + first + n_rows, min(n_rows, last - first - n_rows), 0, D)
                gradient_of(<const real *>&packed[thread, 0], strip, n_rows, D,
                            <const real *>&dscores[thread, 0], C, &sums[task * C, 0], ld, add, &ahead)
                bias_gradient_of(<const real *>&dscores[thread, 0], n_rows, C, &lane_sums[task, 0],
                                 &bias_sums[task, 0], add)
                add = True
                first = first + n_rows
            losses[task] = sum
            mine = mine + 1
            task = softline_take(team, thread, 0, n_blocks)
        if softline_done(team, mine, n_blocks):
            softline_next(team, thread, 0)
        softline_wait(team, thread, 0)

        mine = 0
        c = softline_take(team, thread, 1, C)
        while c >= 0:
            for d in range(D):
                dW[c, d] = 0
            for k in range(n_blocks):
                for d in range(D):
                    dW[c, d] += scale * sums[k * C + c, d]
            sum = 0
            for k in range(n_blocks):
                sum = sum + bias_sums[k, c]
            db[c] = scale * sum
            mine = mine + 1
            c = softline_take(team, thread, 1, C)
        if softline_done(team, mine, C):
            softline_next(team, thread, 1)
        softline_wait(team, thread, 1)
        softline_go(team, thread)
    region_over(team)
    sum = 0
    for k in range(n_blocks):
        sum = sum + losses[k]
    return scale * sum


cdef double total_weight(const real[::1] sample_weight, ptrdiff_t n) except? -1:
    cdef double total = n
    cdef ptrdiff_t i
    if sample_weight is not None:
        check_length("sample_weight", sample_weight.shape[0], n, "elements")
        total = 0
        for i in range(n):
            total += sample_weight[i]
    if not total > 0:
        raise ValueError(f"there must be rows, and their weights have a positive sum; it is {total}")
    return total


def candidate_losses(X, y, sample_weight, Ws, bs, losses, n_threads=None):
    """Mean cross-entropy of all rows for each of K candidates, written into `losses`, float64."""
    X = as_rows(X)
    K, C = Ws.shape[:2]
    check_length("y", len(y), X.shape[0], "elements")
    check_labels(y, C)
    check_length("Ws", Ws.shape[2], X.shape[1], "columns")
    # The candidates one below the other: rows of one matrix, which is a view if the strides allow.
    W, b = Ws.reshape(K * C, Ws.shape[2]), np.ascontiguousarray(bs)
    if W.dtype == np.float32:
        losses_of[float](X, y, sample_weight, W, b, losses, n_threads)
    else:
        losses_of[double](X, y, sample_weight, W, b, losses, n_threads)


cdef int losses_of(X, const int32_t[::1] y, const real[::1] sample_weight, const real[:, :] W,
                   const real[:, ::1] b, double[::1] losses, n_threads) except -1:
    cdef ptrdiff_t n = X.shape[0], D = X.shape[1], K = b.shape[0], C = b.shape[1], rows_of_W = W.shape[0]
    cdef ptrdiff_t ldw = row_stride(W, "Ws"), k, i, r
    cdef const ptrdiff_t[::1] idx = indices(None, n)
    check_length("losses", losses.shape[0], K, "elements")
    check_length("bs", K * C, rows_of_W, "elements")
    cdef double total = total_weight(sample_weight, n)
    if K == 0 or C == 0:
        return 0

    cdef softline_rows rows = rows_of(X, <real>0)
    cdef ptrdiff_t lanes = 64 // sizeof(real)
    cdef ptrdiff_t block = softline_block(D, lanes), n_parts = (D + block - 1) // block
    cdef ptrdiff_t strip = softline_packed(block, lanes), strips = (n + lanes - 1) // lanes
    # Blocks of rows depend on their number alone, so that the loss does not depend on the other candidates.
    cdef ptrdiff_t n_blocks = max(<ptrdiff_t>1, min(MOST_BLOCKS, n // ROWS_PER_BLOCK))
    cdef ptrdiff_t chunk_strips = max(<ptrdiff_t>1, min(
        PACKED_BYTES // (strip * <ptrdiff_t>sizeof(real)), CANDIDATE_BYTES // (64 * n_parts * K * C)))
    chunk_strips = min(chunk_strips, (strips + n_blocks - 1) // n_blocks)
    cdef ptrdiff_t chunk = chunk_strips * lanes, part = chunk * K * C
    cdef int threads = min(threads_for(n_threads, 1.0 * n * K * C * D), <int>n_blocks), thread

    cdef real[:, :] packed = matrix(threads, chunk_strips * strip, np.empty, <real>0)
    cdef real[:, :] parts = matrix(threads, max(<ptrdiff_t>1, n_parts) * part, np.zeros, <real>0)
    cdef real[:, :] scores = matrix(threads, K * C * lanes, np.empty, <real>0)
    cdef real[:, :] row_losses = matrix(threads, lanes, np.empty, <real>0)
    cdef double[:, ::1] sums = np.zeros((n_blocks, K))

    cdef ptrdiff_t task, first, last, n_rows, s, count
    cdef double sum
    with nogil:
        for task in prange(n_blocks, num_threads=threads, use_threads_if=threads > 1, schedule="dynamic",
                           chunksize=1):
            thread = threadid()
            first = strips * task // n_blocks * lanes
            last = min(n, strips * (task + 1) // n_blocks * lanes)
            while first < last:
                n_rows = min(chunk, last - first)
                scores_by_blocks(&rows, &idx[first], n_rows, min(chunk, last - first - n_rows), D,
                                 &packed[thread, 0], &W[0, 0], ldw, rows_of_W, &parts[thread, 0], part)
                for s in range((n_rows + lanes - 1) // lanes):
                    i = first + s * lanes
                    count = min(lanes, last - i)
                    add_scores_of(<const real *>&parts[thread, s * lanes * rows_of_W], part, n_parts,
                                  &b[0, 0], rows_of_W, &scores[thread, 0])
                    for k in range(K):
                        cross_entropy_of(<const real *>&scores[thread, k * C * lanes], count, C, &y[i],
                                         &row_losses[thread, 0])
                        sum = 0
                        for r in range(count):
                            sum = sum + (sample_weight[i + r] if sample_weight is not None else 1) * (
                                <double>row_losses[thread, r])
                        sums[task, k] += sum
                first = first + n_rows
    for k in range(K):
        sum = 0
        for i in range(n_blocks):
            sum += sums[i, k]
        losses[k] = sum / total
    return 0


def coordinate_descent(A, double scale, T, signs, G, l1, V, double tol, ptrdiff_t most_rounds):
    """V := the minimum of G (V - Z) + (V - Z) H (V - Z)/2 + sum(l1 |V|), Z being the V given.

    H is scale A for each row, and of all elements together the sum of signs[k] T[k] T[k]^T. A (D, D) is
    symmetric, or None for the identity; G, V (C, D), T (K, C, D), signs (K,) and l1 (D,) are float64.
    Coordinates are minimised in turn, all and then those that are not zero, until none of all moves by more
    than `tol` of the farthest move of the first round; in at most so many rounds.
    """
    C, D = V.shape
    if A is not None:
        check_length("A", A.shape[0], D, "rows")
        check_length("A", A.shape[1], D, "columns")
    check_length("l1", len(l1), D, "elements")
    check_length("signs", len(signs), len(T), "elements")
    check_length("T", T.shape[1], C, "rows")
    check_length("T", T.shape[2], D, "columns")
    check_length("G", G.shape[0], C, "rows")
    check_length("G", G.shape[1], D, "columns")
    if A is not None and A.dtype == np.float32:
        descend[float](A, scale, T, signs, G, l1, V, tol, most_rounds)
    else:
        descend[double](A, scale, T, signs, G, l1, V, tol, most_rounds)


cdef int descend(const real[:, ::1] A, double scale, const double[:, :, ::1] T, const double[::1] signs,
                 const double[:, ::1] G, const double[::1] l1, double[:, ::1] V, double tol,
                 ptrdiff_t most_rounds) except -1:
    cdef ptrdiff_t C = V.shape[0], D = V.shape[1], K = T.shape[0], c, d, i, k, round
    # The gradient of the model but for its terms T, and the shares of these: signs[k] T[k] (V - Z).
    cdef double[:, ::1] slopes = np.array(G)
    cdef double[::1] shares = np.zeros(K)
    # By coordinate, so that one coordinate's are in one place.
    cdef double[:, :, ::1] turned = np.ascontiguousarray(np.moveaxis(np.asarray(T), 0, 2))
    cdef double[:, ::1] curvatures = np.einsum("k,kcd->cd", signs, np.square(T))
    cdef double slope, best, moved, farthest, enough = 0
    cdef bint every = True
    with nogil:
        for c in range(C):
            for i in range(D):
                curvatures[c, i] += scale if A is None else scale * A[i, i]
        for round in range(most_rounds):
            farthest = 0
            for c in range(C):
                for i in range(D):
                    if not every and V[c, i] == 0:
                        continue
                    slope = slopes[c, i]
                    for k in range(K):
                        slope += shares[k] * turned[c, i, k]
                    best = curvatures[c, i] * V[c, i] - slope
                    best = copysign(fmax(fabs(best) - l1[i], 0), best) / curvatures[c, i]
                    moved = best - V[c, i]
                    if moved != 0:
                        V[c, i] = best
                        if A is None:
                            slopes[c, i] += scale * moved
                        else:
                            for d in range(D):
                                slopes[c, d] += scale * moved * A[i, d]
                        for k in range(K):
                            shares[k] += signs[k] * moved * turned[c, i, k]
                        farthest = fmax(farthest, fabs(moved) * sqrt(curvatures[c, i]))
            if round == 0:
                enough = tol * farthest
            if farthest > enough:
                every = False
            elif every:
                break
            else:
                every = True
    return 0


def cholesky_solve(double[:, ::1] A, double[::1] b):
    """b := A^-1 b for a symmetric A, positive definite; its upper triangle is overwritten.

    A coordinate whose pivot is below an ulp of 1, where only rounding is left, takes no part: it becomes 0.
    """
    cdef ptrdiff_t n = A.shape[0], i, j, k
    cdef double pivot, share, least = np.finfo(np.float64).eps
    check_length("A", A.shape[1], n, "columns")
    check_length("b", b.shape[0], n, "elements")
    with nogil:
        for i in range(n):
            pivot = 1 / sqrt(A[i, i]) if A[i, i] >= least else 0
            A[i, i] = pivot  # inverted, as it is used
            for k in range(i + 1, n):
                A[i, k] *= pivot
            for j in range(i + 1, n):
                share = A[i, j]
                for k in range(j, n):
                    A[j, k] -= share * A[i, k]
        for i in range(n):
            b[i] *= A[i, i]
            for k in range(i + 1, n):
                b[k] -= A[i, k] * b[i]
        for i in range(n - 1, -1, -1):
            share = b[i]
            for k in range(i + 1, n):
                share -= A[i, k] * b[k]
            b[i] = share * A[i, i]
