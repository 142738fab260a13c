"""Average curvature of the loss over its classes: the preconditioner of `lbfgs`.

The Hessian of the cross-entropy is a mean over rows of (diag(p) - p p^T) kron x x^T. Its average over the
classes, mean_i h_i x_i x_i^T with h_i = mean_c p_ic (1 - p_ic), centred for the sake of b, plus alpha, is one
matrix (D, D) for all classes. Its diagonal is that of all rows, as a sample may lack the few in which a
feature is not 0; the correlations are estimated on some thousand rows. Inverted once, it costs two products
with that matrix an application.

The products are those of the kernels that train, so that the same bits come from any number of threads; BLAS
and LAPACK do not promise that.
"""

from __future__ import annotations

import numpy as np

from softline import _kernels
from softline._kernels.rows import Rows
from softline._typing import Array

# With more features than this only the diagonal is used: a matrix (D, D) would cost more than it saves.
MOST_FEATURES = 4096
# Rows of a block of the factorisation.
BLOCK = 64


class AverageCurvature:
    """Average curvature of the loss as a function of Z = (W, b), and its inverse.

    Parameters
    ----------
    X : (N, D) Rows
    rows, sample : int arrays
        The rows that count, and those of them that estimate the correlations.
    curvature : (N,) array of X.dtype
        h_i, times the weight of the row.
    total : float
        Sum of the weights.
    l2 : (D + 1,) array
        L2 penalties of W and of b.
    fit_intercept : bool
    centred : bool
        Whether features are taken about their mean, which leaves nothing that they share with the intercept.
    correlations : bool
        Whether features are taken together; else one by one, as where there are too many of them.
    keep_correlations : bool
        For `product` and coordinate descent.
    n_threads : int or None

    Attributes
    ----------
    mean : (D,) array
        Of the features; 0 if not `centred`.
    roots : (D + 1,) array
        Of the curvature along each feature about its mean, and along the intercept.
    correlations : (D + 1, D + 1) array of X.dtype, or None
        The curvature in the coordinates U = (W, b + W mean) * roots, the same for each row of U. None is the
        identity, of features taken one by one, or that they are not kept.
    """

    mean: Array
    roots: Array
    correlations: Array | None
    inverse_root: Array | None

    def __init__(
        self,
        X: Rows,
        rows: Array,
        sample: Array,
        curvature: Array,
        total: float,
        l2: Array,
        *,
        fit_intercept: bool = True,
        centred: bool = True,
        correlations: bool = True,
        keep_correlations: bool = False,
        n_threads: int | None = None,
    ) -> None:
        D, dtype = X.shape[1], X.dtype
        self.n_threads = n_threads
        of_rows = curvature[rows]
        self.mean, squares, _, _ = _kernels.column_stats(X, rows, of_rows, n_threads)
        summed = of_rows.sum(dtype=float)
        if not centred:
            squares, self.mean = squares + summed * self.mean**2, np.zeros(D)
        diagonal = np.append(squares, summed) / total + l2
        self.roots = np.sqrt(np.where(diagonal > np.finfo(dtype).tiny, diagonal, 1))
        self.correlations = self.inverse_root = None
        if correlations and D <= MOST_FEATURES:
            of_sample = curvature[sample].astype(float)
            of_sample *= summed / total / max(of_sample.sum(), np.finfo(dtype).tiny)
            shared = 1 / self.roots[D] if fit_intercept and not centred else 0
            upper = _kernels.padded(D + 1, D + 1, dtype)
            _kernels.gram(self._scaled(X), sample, of_sample.astype(dtype), shared, upper, n_threads)
            # At least that of all rows, and a little more, so that repeated features do not amplify rounding.
            diagonal = np.maximum(np.diagonal(upper) + l2 / self.roots**2, 1)
            upper[np.diag_indices(D + 1)] = diagonal * (1 + np.finfo(dtype).eps ** 0.625)
            if keep_correlations:
                self.correlations = mirrored(upper)
            self.inverse_root = invert_cholesky(upper, n_threads)

    def _scaled(self, X: Rows) -> Rows:
        """Features about their mean, and in units in which their curvature is 1."""
        mean, scale = self.mean, 1 / self.roots[:-1]
        if X.scale is not None:  # 0 for a constant feature, which is 0 as it is read
            scale = scale * X.scale
            mean = np.divide(mean, X.scale, out=np.zeros(len(mean)), where=X.scale != 0)
        if X.shift is not None:
            mean = mean + X.shift
        return Rows(X.array, mean, scale, X.dtype)

    def solve(self, G: Array) -> Array:
        """Product of the inverse curvature and G (C, D + 1)."""
        out = np.empty(G.shape)
        _kernels.precondition(G, self.mean, self.roots, self.inverse_root, out, self.n_threads)
        return out

    def to_coordinates(self, Z: Array) -> Array:
        """Coordinates U of Z."""
        U = Z * self.roots
        U[:, -1] += np.einsum("cd,d->c", Z[:, :-1], self.mean) * self.roots[-1]
        return U

    def from_coordinates(self, U: Array) -> Array:
        """Weights Z of coordinates U."""
        Z = U / self.roots
        Z[:, -1] -= np.einsum("cd,d->c", Z[:, :-1], self.mean)
        return Z

    def gradient(self, G: Array) -> Array:
        """Gradient to U, for a gradient G to Z."""
        out = G.copy()
        out[:, :-1] -= G[:, -1:] * self.mean
        return out / self.roots

    def penalty(self, l1: Array) -> Array:
        """L1 penalties of U, for those of Z, (D + 1,)."""
        return l1 / self.roots

    def product(self, U: Array) -> Array:
        """Product of the curvature and U, in these coordinates."""
        if self.correlations is None:
            return U
        dtype = self.correlations.dtype
        out = np.empty(U.T.shape, dtype)
        _kernels.scores(self.correlations, None, U.astype(dtype), None, out, self.n_threads)
        return out.T.astype(float)


def mirrored(A: Array) -> Array:
    """Symmetric matrix with the upper triangle of A."""
    return np.triu(A) + np.triu(A, 1).T


def dot(A: Array, B: Array) -> float:
    """Sum of A * B; not by BLAS, because its bits depend on its threads."""
    return float(np.einsum("ij,ij->", A, B))


def invert_cholesky(A: Array, n_threads: int | None = None) -> Array:
    """Replace A (D, D), with contiguous rows, by U^-1, where A = U^T U; only its upper triangle is read.

    A coordinate with a pivot below an ulp of 1 is left out, because only rounding remains of it: its row and
    its column of the inverse are 0.
    """
    D = len(A)
    out, sums = np.empty((BLOCK, D), A.dtype), np.empty(BLOCK, A.dtype)

    def multiply(left: Array, right: Array) -> Array:
        """Product left^T right, by the kernel."""
        product = out[: left.shape[1], : right.shape[1]]
        _kernels.gradient(right, None, left, product, sums[: left.shape[1]], n_threads)
        return product

    blocks = [slice(k, min(k + BLOCK, D)) for k in range(0, D, BLOCK)]
    inverses = []
    for k in blocks:  # each row of blocks, less the part that the rows above explain
        if k.start:
            A[k, k.start :] -= multiply(A[: k.start, k], A[: k.start, k.start :])
        inverses.append(_invert_block(A[k, k]))
        A[k, k] = inverses[-1].T
        if k.stop < D:
            A[k, k.stop :] = multiply(np.ascontiguousarray(inverses[-1].T), A[k, k.stop :])
    for k, inverse in zip(reversed(blocks), reversed(inverses), strict=True):
        A[k, : k.start] = 0
        if k.stop < D:
            right = multiply(np.ascontiguousarray(A[k, k.stop :].T), A[k.stop :, k.stop :]).copy()
            A[k, k.stop :] = -multiply(inverse, right)
    return A


def _invert_block(A: Array) -> Array:
    """Inverse of L for a small matrix A = L L^T; only its upper triangle is read."""
    out = np.empty(A.shape)
    _kernels.invert_factor(A.astype(np.float64, order="C"), out, float(np.finfo(A.dtype).eps))
    return out.astype(A.dtype)
