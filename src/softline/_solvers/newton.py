"""Newton's method where the Hessian can be made, in one compiled call; L-BFGS before it, or in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from softline import _kernels
from softline._kernels.rows import Rows
from softline._solvers import lbfgs
from softline._solvers.exact_curvature import RIDGE
from softline._solvers.lbfgs import Callback, Result, largest_gap
from softline._solvers.objective import Objective
from softline._typing import Array

# Steps of L-BFGS before Newton's take their place: at least PATIENCE; then as long as they have taken less
# time than NEWTON_STEPS of Newton's would, but no more than SHARE of max_iter, so that Newton's reach the
# minimum.
PATIENCE, NEWTON_STEPS, SHARE = 30, 8, 0.75


def minimize(
    objective: Objective, Z: Array, tol: float, max_iter: int, callback: Callback | None = None
) -> Result:
    """Search from Z as :func:`softline._solvers.lbfgs.minimize` does.

    A small problem takes Newton's steps from the start. A larger one takes them where L-BFGS is slow, and
    where they cost little to make sure of its minimum.
    """
    if not objective.has_hessian:
        return lbfgs.minimize(objective, Z, tol, max_iter, callback)
    done = 0
    if not objective.is_small:
        most = max(PATIENCE, min(int(SHARE * max_iter), int(NEWTON_STEPS * objective.hessian_passes)))
        first = lbfgs.minimize(objective, Z, tol, min(most, max_iter), callback)
        Z, done = first.Z, first.n_iter
        sure = first.converged and not objective.has_cheap_hessian
        if sure or first.stopped or done == max_iter:
            return first
    at, stopped = Z.copy(), False

    def tell(weights: Callable[[], Array], value: float, n_iter: int) -> bool:
        nonlocal stopped
        stopped = callback is not None and bool(callback(weights, value, done + n_iter))
        return stopped

    X, weight = objective.X, objective.sample_weight
    value, gap, n_iter, status = _kernels.newton(
        Rows(X.array, X.shift, X.scale, np.float64),
        objective.codes,
        None if weight is None else weight.astype(float, copy=False),
        objective.l2,
        objective.l1 if objective.l1.any() else None,
        objective.fit_intercept,
        at,
        tol,
        max_iter - done,
        objective.n_threads,
        ridge=max(RIDGE * Z.size * np.finfo(float).eps, objective.precision),
        by_columns=objective.by_columns,
        callback=None if callback is None else lambda Z, *step: tell(Z.copy().copy, *step),
    )
    solver = "newton-cd" if objective.by_columns else "lbfgs, newton" if done else "newton"
    done += n_iter
    if status == "stuck":  # a Hessian of rounding, as where all probabilities are 0 or 1
        result = lbfgs.minimize(objective, at, tol, max_iter - done, None if callback is None else tell)
        return replace(result, n_iter=done + result.n_iter, solver=f"{solver}, lbfgs")
    converged = status == "converged"
    if converged and objective.precision > np.finfo(float).eps and not objective.l1.any():
        hidden = objective.hessian(at).hidden_gain(objective(at)[1])
        if hidden > largest_gap(tol, value):
            gap, converged = hidden, False
    return Result(at, value, gap, done, converged, stopped, solver, gap if objective.l1.any() else None)
