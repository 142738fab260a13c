"""Hessian of a problem of few weights, as NumPy makes it: what a minimum that `newton` has found may hide.

The weights of all classes lie in one row, so that coordinates U are (1, C (D + 1)).
"""

from __future__ import annotations

import numpy as np

from softline import _kernels
from softline._solvers.average_curvature import dot, invert_cholesky
from softline._typing import Array

# Ridge on the diagonal of ones, in ulps for each weight, because rounding leaves that much undecided. It is
# at least an ulp of the data.
RIDGE = 16


class ExactCurvature:
    """Hessian of the loss as a function of Z = (W, b).

    Parameters
    ----------
    z : (N, D + 1) float64 array
        The rows, and a column of ones, or of zeros without an intercept.
    probs : (N, C) array
        Probabilities of the classes at Z.
    sample_weight : (N,) array or None
    l2 : (D + 1,) array
        Penalties of W and of b.
    precision : float
        An ulp of the data: features that differ by less are the same.
    n_threads : int or None

    Attributes
    ----------
    roots : (1, M) array
        Square roots of the diagonal; M is C (D + 1), or D + 1 for two classes.
    correlations : (M, M) array
        The Hessian in the coordinates U = Z * roots.
    """

    def __init__(
        self,
        z: Array,
        probs: Array,
        sample_weight: Array | None,
        l2: Array,
        precision: float = 0.0,
        n_threads: int | None = None,
    ) -> None:
        n, width = z.shape
        probs, share = probs.astype(float, copy=False), np.full(n, 1 / n)
        if sample_weight is not None:
            share = sample_weight / sample_weight.sum(dtype=float)

        def gram(left: Array, right: Array) -> Array:
            """Product left^T right, by the kernel, because BLAS's bits depend on its threads."""
            out, sums = np.empty((left.shape[1], right.shape[1])), np.empty(left.shape[1])
            _kernels.gradient(right, None, left, out, sums, n_threads)
            return out

        if probs.shape[1] == 2:
            H = gram(z * (share * probs[:, 0] * probs[:, 1])[:, None], z)
        else:
            C = probs.shape[1]
            p_z = (probs[:, :, None] * z[:, None, :]).reshape(n, C * width)
            weighted = p_z * share[:, None]
            H = -gram(weighted, p_z)
            own = gram(weighted, z).reshape(C, width, width)
            for c in range(C):
                here = slice(c * width, (c + 1) * width)
                H[here, here] += own[c]
        self.shape = len(H) // width, width
        diagonal = np.maximum(np.diagonal(H), 0) + np.tile(l2, self.shape[0])
        self.roots = np.sqrt(np.where(diagonal > np.finfo(float).tiny, diagonal, 1))[None]
        H /= self.roots
        H /= self.roots.T
        least = RIDGE * len(H) * np.finfo(float).eps
        self.beyond_rounding = max(precision - least, 0.0)
        H[np.diag_indices_from(H)] = np.where(diagonal > 0, 1, 0) + least + self.beyond_rounding
        self.correlations, self.n_threads = H, n_threads

    def solve(self, G: Array) -> Array:
        """Product of the inverse curvature and G (C, D + 1)."""
        return self.from_coordinates(self._solved(self.correlations.copy(), self.gradient(G)))

    def _solved(self, A: Array, U: Array) -> Array:
        """Product U A^-1; A is overwritten."""
        M, out = U.shape[1], np.empty(U.shape)
        root = invert_cholesky(A, self.n_threads)
        _kernels.precondition(U, np.zeros(M - 1), np.ones(M), root, out, self.n_threads)
        return out

    def hidden_gain(self, G: Array) -> float:
        """Gain of a step, for a gradient G, without the part of the ridge that stands for an ulp of the data.

        It is more than that of `solve` where features repeat others within the precision of the data and the
        penalty hardly touches them.
        """
        if self.beyond_rounding == 0:
            return 0.0
        A, U = self.correlations.copy(), self.gradient(G)
        A[np.diag_indices_from(A)] -= self.beyond_rounding
        return dot(U, self._solved(A, U)) / 2

    def from_coordinates(self, U: Array) -> Array:
        """Weights Z of coordinates U."""
        return (U / self.roots).reshape(self.shape)

    def gradient(self, G: Array) -> Array:
        """Gradient to U, for a gradient G to Z."""
        return G.reshape(1, -1) / self.roots
