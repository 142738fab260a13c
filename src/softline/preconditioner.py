"""The metric in which :mod:`softline.newton` descends: the average curvature of the loss over its classes.

The Hessian of the cross-entropy is a mean over rows of (diag(p) - p p^T) kron x x^T. Its average over the
classes, mean_i h_i x_i x_i^T with h_i = mean_c p_ic (1 - p_ic), estimated on some thousand rows, centred for
the intercept's sake, plus alpha, is one matrix (D, D) for all classes. Inverted once, it costs two products
with that matrix an application.

The products are those of the kernels that train, so that the same bits come from any number of threads; BLAS
and LAPACK do not promise that.
"""

import numpy as np

from softline import _kernels

# More features than this are taken one by one: a matrix (D, D) would cost more than it saves.
MOST_FEATURES = 4096
# Rows of a block of the factorisation.
BLOCK = 64


class Preconditioner:
    """The inverse of the average curvature, for gradients to W and b.

    Parameters
    ----------
    X : (N, D) Rows
    idx : (n,) int array
        The rows that estimate the curvature.
    curvature : (n,) array of X.dtype
        h_i of these rows, times their weights.
    total : float
        Sum of the weights of these rows.
    alpha, intercept_alpha : float
        L2 penalties of W and of b.
    fit_intercept : bool
    n_threads : int or None

    Attributes
    ----------
    diagonal : (D + 1,) array
        Of the curvature, that of the intercept last.
    """

    def __init__(self, X, idx, curvature, total, alpha, intercept_alpha, fit_intercept, n_threads=None):
        D = X.shape[1]
        self.fit_intercept, self.n_threads = fit_intercept, n_threads
        mean, squares, _, _ = _kernels.column_stats(X, idx, curvature, n_threads)
        summed = curvature.sum(dtype=float)
        if not fit_intercept:
            squares, mean = squares + summed * mean**2, np.zeros(D)
        self.mean = mean
        tiny = np.finfo(X.dtype).tiny
        diagonal = np.append(squares / total + alpha, summed / total + intercept_alpha)
        self.diagonal = np.where(diagonal > tiny, diagonal, 1)
        self.scale = 1 / np.sqrt(self.diagonal[:D])
        self.inverse_root = None
        if 1 < D <= MOST_FEATURES:
            correlations = self._gram(X, idx, np.sqrt(curvature / X.dtype.type(total)))
            # So much more that features that repeat others do not amplify rounding.
            correlations[np.diag_indices(D)] = 1 + np.finfo(X.dtype).eps ** 0.625
            self.inverse_root = invert_cholesky(correlations, n_threads)

    def _gram(self, X, idx, root):
        """Upper triangle of sum_i root_i^2 z_i z_i^T, z the rows centred and scaled."""
        D, n = X.shape[1], len(idx)
        width, height = min(D, 256), min(n, 1024)
        # Padded: rows of 4 KiB apart would share cache sets.
        gram, part, z = (_kernels.padded(size, D, X.dtype) for size in (D, width, height))
        sums = np.empty(width, X.dtype)
        mean, scale = self.mean.astype(X.dtype), self.scale.astype(X.dtype)
        for first in range(0, n, height):
            rows = idx[first : first + height]
            z = z[: len(rows)]
            np.subtract(X[rows], mean, out=z)
            z *= scale
            z *= root[first : first + height, None]
            for c in range(0, D, width):
                here = slice(c, min(c + width, D))
                product = part[: here.stop - c, : D - c]
                _kernels.gradient(z[:, c:], None, z[:, here], product, sums[: here.stop - c], self.n_threads)
                gram[here, c:] += product
        return gram

    def solve(self, R):
        """The step (C, D + 1) for a gradient R (C, D + 1), whose last column is the intercept's."""
        D = R.shape[1] - 1
        out = np.zeros_like(R)
        Z = (R[:, :D] - R[:, D:] * self.mean) * self.scale
        if self.inverse_root is not None:
            V = self.inverse_root
            Z = Z.astype(V.dtype)
            turned, back = np.empty_like(Z), np.empty((D, len(Z)), V.dtype)
            _kernels.gradient(
                V, None, np.ascontiguousarray(Z.T), turned, np.empty(len(Z), V.dtype), self.n_threads
            )
            _kernels.scores(V, None, turned, None, back, self.n_threads)
            Z = back.T
        out[:, :D] = Z * self.scale
        if self.fit_intercept:
            out[:, D] = R[:, D] / self.diagonal[D] - np.einsum("cd,d->c", out[:, :D], self.mean)
        return out


def invert_cholesky(A, n_threads=None):
    """U^-1 in place of A, where A = U^T U; of A only the upper triangle is read.

    A pivot that rounding has made smaller than an ulp is taken as one: the result is that of a matrix
    nearby that is positive definite.

    Parameters
    ----------
    A : (D, D) float array with contiguous rows
    n_threads : int or None

    Returns
    -------
    A : the same array, upper triangular
    """
    D = len(A)
    out, sums = np.empty((BLOCK, D), A.dtype), np.empty(BLOCK, A.dtype)

    def multiply(left, right):
        """left^T right, by the kernel."""
        product = out[: left.shape[1], : right.shape[1]]
        _kernels.gradient(right, None, left, product, sums[: left.shape[1]], n_threads)
        return product

    blocks = [slice(k, min(k + BLOCK, D)) for k in range(0, D, BLOCK)]
    inverses = []
    for k in blocks:  # row by row of blocks, each less what the rows above explain
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


def _invert_block(A):
    """L^-1 of a small matrix A = L L^T, of which the upper triangle is read."""
    n, dtype = len(A), A.dtype
    A = np.triu(A).astype(np.float64)
    inverse = np.eye(n)
    least = np.finfo(np.float64).eps
    for i in range(n):
        pivot = np.sqrt(max(A[i, i], least))
        A[i, i:] /= pivot
        inverse[i, : i + 1] /= pivot
        A[i + 1 :, i + 1 :] -= A[i, i + 1 :, None] * A[i, i + 1 :]
        inverse[i + 1 :, : i + 1] -= A[i, i + 1 :, None] * inverse[i, : i + 1]
    return inverse.astype(dtype)
