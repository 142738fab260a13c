# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""Loops of the solvers over features: coordinate descent, and Cholesky's factorisation in a fixed order."""

from libc.math cimport INFINITY, copysign, fabs, fmax, sqrt
from softline._kernels.core cimport check_length, rows_in, softline_duality_gap, table

import numpy as np

ctypedef fused real:
    float
    double


def coordinate_descent(A, double scale, T, signs, G, l1, V, double tol, most_rounds):
    """V := the minimum of G (V - Z) + (V - Z) H (V - Z)/2 + sum(l1 |V|), Z being the V given.

    H is scale A for each row, and of all elements together the sum of signs[k] T[k] T[k]^T. A (D, D) is
    symmetric, or None for the identity; G, V (C, D), T (K, C, D), signs (K,) and l1 (D,) are float64.
    Coordinates are minimised in turn, all and then those that are not zero, until none of all moves by more
    than `tol` of the farthest move of the first round; in at most so many rounds.
    """
    for name, array in (("A", A), ("T", T), ("signs", signs), ("G", G), ("l1", l1), ("V", V)):
        if not (isinstance(array, np.ndarray) or (name == "A" and A is None)):
            raise TypeError(f"{name} must be a NumPy array; got {type(array).__name__}")
    if V.ndim != 2 or T.ndim != 3 or G.ndim != 2 or (A is not None and A.ndim != 2):
        raise ValueError("V, G and A must have 2 dimensions, T 3")
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
        descend[float](A, scale, T, signs, G, l1, V, tol, max(0, min(most_rounds, 2**62)))
    else:
        descend[double](A, scale, T, signs, G, l1, V, tol, max(0, min(most_rounds, 2**62)))


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


def duality_gap(const double[:, ::1] Z not None, double value, const double[:, ::1] G not None,
                const double[::1] l2 not None, const double[::1] l1 not None):
    """How far `value`, the objective of `newton` at Z, is above its minimum at most; G is its gradient."""
    cdef ptrdiff_t R = Z.shape[0], width = Z.shape[1]
    check_length("G", G.shape[0], R, "rows")
    check_length("G", G.shape[1], width, "columns")
    check_length("l2", l2.shape[0], width, "elements")
    check_length("l1", l1.shape[0], width, "elements")
    if R * width == 0:
        return 0.0
    return softline_duality_gap(R, width, &Z[0, 0], value, &G[0, 0], &l2[0], &l1[0])


def invert_factor(double[:, ::1] A not None, double[:, ::1] out not None, double least):
    """out := the inverse of L, for a symmetric A = L L^T, whose upper triangle is overwritten.

    Of a coordinate with a pivot below `least` the row and the column are 0.
    """
    cdef ptrdiff_t n = A.shape[0], i, j, k
    cdef double pivot, share
    check_length("A", A.shape[1], n, "columns")
    check_length("out", out.shape[0], n, "rows")
    check_length("out", out.shape[1], n, "columns")
    with nogil:
        for i in range(n):
            for k in range(n):
                out[i, k] = i == k
        for i in range(n):
            pivot = sqrt(A[i, i]) if A[i, i] >= least else INFINITY
            for k in range(i, n):
                A[i, k] /= pivot
            for k in range(i + 1):
                out[i, k] /= pivot
            for j in range(i + 1, n):
                share = A[i, j]
                for k in range(j, n):
                    A[j, k] -= share * A[i, k]
                for k in range(i + 1):
                    out[j, k] -= share * out[i, k]


def first_loop(double[:, ::1] G not None, const double[:, :, ::1] steps not None,
               const double[:, :, ::1] changes not None, const double[::1] slopes not None, order,
               double[::1] shares not None):
    """The first loop of L-BFGS over the pairs `order`, newest first: G and the shares follow."""
    cdef const ptrdiff_t *pairs = pairs_in(G, steps, changes, slopes, order, shares)
    if G.size == 0:
        shares[:] = 0
    else:
        table(8).first_loop(G.size, shares.size, &steps[0, 0, 0], &changes[0, 0, 0], &slopes[0], pairs,
                            &G[0, 0], &shares[0])


def second_loop(double[:, ::1] D not None, const double[:, :, ::1] steps not None,
                const double[:, :, ::1] changes not None, const double[::1] slopes not None, order,
                double[::1] shares not None):
    """The second loop of L-BFGS over the pairs `order`, oldest first: D follows."""
    cdef const ptrdiff_t *pairs = pairs_in(D, steps, changes, slopes, order, shares)
    if D.size:
        table(8).second_loop(D.size, shares.size, &steps[0, 0, 0], &changes[0, 0, 0], &slopes[0], pairs,
                             &D[0, 0], &shares[0])


# The checked numbers of pairs.
cdef const ptrdiff_t *pairs_in(double[:, ::1] G, const double[:, :, ::1] steps,
                               const double[:, :, ::1] changes, const double[::1] slopes, order,
                               double[::1] shares) except? NULL:
    cdef ptrdiff_t most = steps.shape[0]
    for name, pairs in (("steps", steps), ("changes", changes)):
        check_length(name, pairs.shape[0], most, "pairs")
        check_length(name, pairs.shape[1], G.shape[0], "rows")
        check_length(name, pairs.shape[2], G.shape[1], "columns")
    check_length("slopes", slopes.shape[0], most, "elements")
    cdef const ptrdiff_t *found = rows_in(order, most)
    check_length("shares", shares.shape[0], len(order), "elements")
    return found
