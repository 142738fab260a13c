"""Smaller problems with the same minimum, where there are more features than needed.

With an L1 penalty most features end without weight: the search goes on working sets. With L2 and fewer rows
than features the weights lie in the space that the rows span: the search goes on its coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from softline import _kernels
from softline._kernels.rows import Rows
from softline._solvers import newton
from softline._solvers.average_curvature import invert_cholesky, mirrored
from softline._solvers.lbfgs import Callback, Result
from softline._solvers.objective import Objective
from softline._typing import Array

# Number of features in the first working set. A gradient that exceeds its penalty by less than the share
# SLIGHT does not count.
FIRST_FEATURES, SLIGHT = 128, 1e-6
# Most steps on a set while other features want to join.
MOST_STEPS = 15
# With an L1 penalty and no more features than this, all are searched at once.
NARROW = 256
# Most rows for a search in their space, which must also halve the number of features. And the largest ratio
# of the squares of two features, in units of their penalties: smaller features would be lost in rounding.
MOST_ROWS, MOST_SPREAD = 2048, 1e8
# Number of features in a block of the products of rows.
BLOCK = 1024


def minimize(
    objective: Objective, Z: Array, tol: float, max_iter: int, callback: Callback | None = None
) -> Result:
    """Minimize as :func:`lbfgs.minimize` does, by a smaller problem where there is one."""
    n, D = objective.X.shape
    if D > NARROW and objective.l1[:-1].all() and not objective.by_columns:
        return _on_working_sets(objective, Z, tol, max_iter, callback)
    if 2 * n <= D and n <= MOST_ROWS and not objective.l1.any() and _of_one_size(objective):
        return _in_row_space(objective, Z, tol, max_iter, callback)
    return newton.minimize(objective, Z, tol, max_iter, callback)


def _of_one_size(objective: Objective) -> bool:
    """Whether no feature, in units of its penalty, is lost in the products of rows."""
    if not objective.l2[:-1].all():
        return False
    squares = objective.stats.squares if objective.X.scale is None else np.ones(objective.X.shape[1])
    sizes = squares / objective.l2[:-1]
    sizes = sizes[squares > 0]
    return bool(len(sizes) and sizes.max() <= MOST_SPREAD * sizes.min())


def _on_working_sets(
    objective: Objective, Z: Array, tol: float, max_iter: int, callback: Callback | None
) -> Result:
    """Search on the features that have weights and those that most want one, up to twice as many each time.

    When a set is done, features outside join if their gradient exceeds their penalty. Once none does, the
    minimum of the set is that of all (Tibshirani et al., 2012, "Strong rules for discarding predictors in
    lasso-type problems", section 7).
    """
    n_iter, size, result, ended = 0, FIRST_FEATURES, None, False
    inside = np.any(Z[:, :-1] != 0, axis=0)
    while True:
        G = objective.pseudo_gradient(Z, objective(Z)[1])[:, :-1]
        wanted = np.max(np.abs(G) / objective.l1[:-1], axis=0)
        violating = np.flatnonzero(~inside & (wanted > SLIGHT))
        settled = not len(violating)
        if result is not None and (result.stopped or n_iter == max_iter or (settled and ended)):
            return replace(
                result,
                Z=Z,
                n_iter=n_iter,
                converged=result.converged and settled,
                solver=f"{result.solver} of working sets",
                dual_gap=None,
            )
        inside[violating[np.argsort(-wanted[violating], kind="stable")[:size]]] = True
        features = np.flatnonzero(inside)
        columns = np.append(features, objective.shape[1] - 1)
        tell = _telling_all(callback, Z, columns, n_iter)
        start = np.ascontiguousarray(Z[:, columns])
        most = max_iter - n_iter if settled else min(MOST_STEPS, max_iter - n_iter)
        result = newton.minimize(objective.restricted(features), start, tol, most, tell)
        ended = result.n_iter < most  # by itself
        Z, n_iter, size = Z.copy(), n_iter + result.n_iter, 2 * size
        Z[:, columns] = result.Z


def _telling_all(callback: Callback | None, Z: Array, columns: Array, done: int) -> Callback:
    """Callback of a search on some columns of Z, `done` steps from the start, that reports all of Z."""

    def tell(part: Callable[[], Array], value: float, n_iter: int) -> object:
        def of_all() -> Array:
            out = Z.copy()
            out[:, columns] = part()
            return out

        return callback is not None and callback(of_all, value, done + n_iter)

    return tell


def _in_row_space(
    objective: Objective, Z: Array, tol: float, max_iter: int, callback: Callback | None
) -> Result:
    """Search for V, where W = V F^-1 X: the scores are V F^T, and |W| is |V|, if F F^T = X X^T.

    A part of W that is orthogonal to all rows would change no score, only the penalty (the representer
    theorem; Hastie and Tibshirani, 2004, "Efficient quadratic regularization for expression arrays").
    """
    space = RowSpace(objective)

    def tell(V: Callable[[], Array], value: float, n_iter: int) -> object:
        return callback is not None and callback(lambda: space.weights(V()), value, n_iter)

    told = None if callback is None else tell
    result = newton.minimize(space.objective, space.coordinates(Z), tol, max_iter, told)
    return replace(result, Z=space.weights(result.Z), solver=f"{result.solver} of row space")


class RowSpace:
    """Coordinates of the space that the rows of an objective span, in units of its penalty.

    Attribute `objective` is the objective as a function of these coordinates, of rows F (N, N).
    """

    def __init__(self, objective: Objective) -> None:
        self.X = Rows(objective.X.array, objective.X.shift, objective.X.scale, np.float64)
        n, D = self.X.shape
        least = objective.l2[:-1].min()
        self.units = least / objective.l2[:-1]
        gram, part = np.zeros((2, n + 1, n + 1))
        for first in range(0, D, BLOCK):
            here = slice(first, first + BLOCK)
            columns = np.ascontiguousarray(self._columns(here).T)
            _kernels.gram(columns, None, self.units[here], 0.0, part, objective.n_threads)
            gram += part
        gram = mirrored(gram[:n, :n])
        lengths = np.sqrt(np.where(np.diagonal(gram) > 0, np.diagonal(gram), 1))
        gram /= lengths
        gram /= lengths[:, None]
        # gram = U^T U, so F = lengths U^T.
        inverse_root = invert_cholesky(gram.copy(), objective.n_threads)
        self.inverse = inverse_root / lengths[:, None]
        F = _kernels.padded(n, n, np.float64)
        _kernels.gradient(inverse_root, None, gram, F, np.empty(n), objective.n_threads)
        F *= lengths[:, None]
        self.objective = objective.with_rows(Rows(F), np.append(np.full(n, least), objective.l2[-1]))

    def _columns(self, here: slice) -> Array:
        X = self.X
        shift, scale = (None if a is None else a[here] for a in (X.shift, X.scale))
        return Rows(X.array[:, here], shift, scale, np.float64)[:]

    def coordinates(self, Z: Array) -> Array:
        """Coordinates V, and b, of weights W, and b."""
        scores = np.empty((len(self.X), len(Z)))
        _kernels.scores(self.X, None, np.ascontiguousarray(Z[:, :-1]), None, scores, self.objective.n_threads)
        V = np.empty((len(Z), len(scores)))
        _kernels.gradient(self.inverse, None, scores, V, np.empty(len(Z)), self.objective.n_threads)
        return np.column_stack([V, Z[:, -1]])

    def weights(self, Z: Array) -> Array:
        """Weights W, and b, of coordinates V, and b."""
        shares, n_threads = np.empty((len(self.X), len(Z))), self.objective.n_threads
        _kernels.scores(self.inverse, None, np.ascontiguousarray(Z[:, :-1]), None, shares, n_threads)
        W = np.empty((len(Z), self.X.shape[1]))
        _kernels.gradient(self.X, None, shares, W, np.empty(len(Z)), n_threads)
        return np.column_stack([W * self.units, Z[:, -1]])
