"""Newton's method for softmax regression with an L2 penalty, to a certified gradient.

A step solves H d = -g by conjugate gradients, as far as it pays (inexact Newton: Dembo, Eisenstat and Steihaug,
1982), in the metric of :mod:`softline.preconditioner`. H need not be exact where g is: far from the minimum it is
that of some rows (subsampled Newton: Byrd, Chin, Neveitt and Nocedal, 2011), whose products cost a fraction of a
pass over the data; as steps stop paying, more rows are taken, in the end all. The weights are kept in float64 and
gradients are summed in it, so that float32 data converge, too.
"""

import numpy as np

from softline import _kernels
from softline._objective import hessian_product, loss_gradient
from softline.preconditioner import Preconditioner

# Rows for the metric, and for the Hessian at first: so many, or so many for each feature.
METRIC_ROWS, METRIC_ROWS_PER_FEATURE = 4096, 2
HESSIAN_ROWS, HESSIAN_SHARE = 4096, 0.1
# A step solves its system to this share of the gradient at first, in at most so many products.
FORCING, MOST_PRODUCTS = 0.3, 200
# A step that leaves more than this share of the gradient is followed by a better one: from twice the rows, or
# where it had all, solved ten times as far.
SLOW = 0.4
# A step is not shortened below this.
LEAST_STEP = 1e-10


class Objective:
    """Mean cross-entropy + alpha/2 sum(W * W) + intercept_alpha/2 sum(b * b), as a function of Z = (W, b).

    Parameters
    ----------
    X : (N, D) Rows
    codes : (N,) int32 array
    sample_weight : (N,) array of X.dtype, or None
    n_classes : int
    alpha, intercept_alpha : float
    fit_intercept : bool
    n_threads : int or None
    """

    def __init__(
        self,
        X,
        codes,
        sample_weight,
        n_classes,
        *,
        alpha,
        intercept_alpha=0.0,
        fit_intercept=True,
        n_threads=None,
    ):
        self.X, self.codes, self.sample_weight, self.n_classes = X, codes, sample_weight, n_classes
        self.fit_intercept, self.n_threads = fit_intercept, n_threads
        self.alpha, self.intercept_alpha = alpha, intercept_alpha
        self.penalty = np.full(X.shape[1] + 1, alpha)
        self.penalty[-1] = intercept_alpha
        self.rows = np.arange(len(X)) if sample_weight is None else np.flatnonzero(sample_weight)
        self._W = _kernels.padded(n_classes, X.shape[1], X.dtype)

    def _weights(self, Z):
        """W and b of Z (C, D + 1), as the kernels take them."""
        self._W[...] = Z[:, :-1]
        return self._W, Z[:, -1].astype(self.X.dtype)

    def _penalised(self, G, Z):
        G += self.penalty * Z
        if not self.fit_intercept:
            G[:, -1] = 0
        return G

    def __call__(self, Z):
        """Value and gradient (C, D + 1) at Z (C, D + 1), both float64."""
        G, db = np.empty(Z.shape), np.empty(len(Z))
        loss = loss_gradient(
            self.X, self.codes, self.sample_weight, *self._weights(Z), G[:, :-1], db, self.n_threads
        )
        G[:, -1] = db
        return loss + np.sum(self.penalty * Z**2) / 2, self._penalised(G, Z)

    def probabilities(self, Z, idx):
        """Probabilities (n, C) of the rows `idx` (None: all) at Z."""
        probs = np.empty((len(self.X) if idx is None else len(idx), self.n_classes), self.X.dtype)
        _kernels.scores(self.X, idx, *self._weights(Z), probs, self.n_threads)
        _kernels.softmax(probs, self.n_threads)
        return probs

    def hessian(self, Z, idx):
        """The function P -> (Hessian of the rows `idx` at Z) P, for P (C, D + 1)."""
        probs = self.probabilities(Z, idx)

        def product(P):
            H, Hv = np.empty(P.shape), np.empty(len(P))
            hessian_product(
                self.X, idx, probs, self.sample_weight, *self._weights(P), H[:, :-1], Hv, self.n_threads
            )
            H[:, -1] = Hv
            return self._penalised(H, P)

        return product

    def preconditioner(self, Z, idx):
        """The metric at Z, estimated on the rows `idx`."""
        probs = self.probabilities(Z, idx)
        curvature = np.mean(probs * (1 - probs), axis=1)
        total = float(len(idx))
        if self.sample_weight is not None:
            curvature *= self.sample_weight[idx]
            total = self.sample_weight[idx].sum(dtype=float)
        return Preconditioner(
            self.X,
            idx,
            curvature,
            total,
            self.alpha,
            self.intercept_alpha,
            self.fit_intercept,
            self.n_threads,
        )


class Result:
    """Where :func:`minimize` ended: `Z`, its `value`, largest absolute `gradient`, `n_iter`, `converged`."""

    def __init__(self, Z, value, gradient, n_iter, converged):
        self.Z, self.value, self.gradient = Z, value, gradient
        self.n_iter, self.converged = n_iter, converged


def minimize(objective, Z, tol, max_iter, callback=None):
    """Newton steps from Z until no element of the gradient exceeds `tol`.

    Parameters
    ----------
    objective : Objective
    Z : (C, D + 1) float64 array
    tol : float
    max_iter : int
        Most steps.
    callback : callable or None
        Called with (Z, value) after each step; a true result ends the search.

    Returns
    -------
    Result
    """
    rng = np.random.RandomState(0)
    rows, D = objective.rows, objective.X.shape[1]
    sample = _sample(rng, rows, max(METRIC_ROWS, METRIC_ROWS_PER_FEATURE * D))
    n_hessian = max(HESSIAN_ROWS, int(HESSIAN_SHARE * len(rows)))
    value, G = objective(Z)
    metric, size, n_iter, stalled, forcing = None, np.inf, 0, 0, FORCING
    noise = 8 * np.finfo(objective.X.dtype).eps
    while np.abs(G).max() > tol and n_iter < max_iter and stalled < 3:
        if metric is None:
            metric = objective.preconditioner(Z, sample)
            size = _dot(G, metric.solve(G))
        idx = None if n_hessian >= len(objective.X) else _sample(rng, rows, n_hessian)
        step = conjugate_gradients(objective.hessian(Z, idx), metric.solve, -G, forcing, MOST_PRODUCTS)
        slope, t = _dot(G, step), 1.0
        while True:
            trial = Z + t * step
            new_value, new_G = objective(trial)
            if new_value <= value + 1e-4 * t * slope + noise * abs(value) or t < LEAST_STEP:
                break
            # the minimum of the parabola through what is known
            bend = new_value - value - slope * t
            t *= min(0.5, max(0.1, -slope * t / (2 * bend))) if np.isfinite(bend) else 0.1
        new_size = _dot(new_G, metric.solve(new_G))
        # Rounding hides what is left to gain: steps that do not make the gradient smaller are in vain.
        within_noise = -slope < noise * abs(value)
        if within_noise and new_size >= size:
            stalled += 1
        else:
            stalled = 0
            Z, value, G = trial, new_value, new_G
        if new_size > SLOW**2 * size:
            if idx is None:
                forcing *= 0.1
            n_hessian *= 2
        size = min(size, new_size) if within_noise else new_size
        n_iter += 1
        if callback is not None and callback(Z, value):
            break
    gradient = np.abs(G).max()
    return Result(Z, value, gradient, n_iter, gradient <= tol)


def conjugate_gradients(product, solve, R, share, most):
    """The solution d of H d = R, to `share` of R in the metric, by preconditioned conjugate gradients.

    Parameters
    ----------
    product, solve : callables
        P -> H P, and the preconditioner R -> M^-1 R.
    R : (C, D + 1) array
    share : float
    most : int
        Most products.
    """
    d = np.zeros_like(R)
    Y = solve(R)
    P, size = Y, _dot(R, Y)
    enough = share**2 * size
    for _ in range(most):
        HP = product(P)
        curvature = _dot(P, HP)
        if not curvature > 0:  # a direction without any, or none left
            return d if d.any() else Y
        length = size / curvature
        d += length * P
        R = R - length * HP
        Y = solve(R)
        last, size = size, _dot(R, Y)
        if size <= enough:
            break
        P = Y + size / last * P
    return d


def _sample(rng, rows, n):
    """n of the rows, in order."""
    return rows if n >= len(rows) else np.sort(rng.choice(rows, n, replace=False))


def _dot(A, B):
    """Sum of the products of the elements; not by BLAS, whose bits depend on its threads."""
    return float(np.einsum("ij,ij->", A, B))
