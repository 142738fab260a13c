"""Newton's method where the Hessian is cheap, in one compiled call; L-BFGS where it is not, or gets stuck."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from softline import _kernels
from softline._solvers import lbfgs
from softline._solvers.exact_curvature import RIDGE, ExactCurvature
from softline._solvers.lbfgs import Callback, Result, largest_gap
from softline._solvers.objective import Objective
from softline._typing import Array


def minimize(
    objective: Objective, Z: Array, tol: float, max_iter: int, callback: Callback | None = None
) -> Result:
    """Search from Z as :func:`softline._solvers.lbfgs.minimize` does."""
    if not objective.is_small:
        return lbfgs.minimize(objective, Z, tol, max_iter, callback)
    at, done, stopped = Z.copy(), 0, False

    def tell(Z: Array, value: float, n_iter: int) -> bool:
        nonlocal stopped
        stopped = callback is not None and bool(callback(Z.copy(), value, done + n_iter))
        return stopped

    told = None if callback is None else tell
    value, gap, n_iter, status = _kernels.newton(
        objective.X,
        objective.codes,
        objective.sample_weight,
        objective.l2,
        objective.l1 if objective.l1.any() else None,
        objective.fit_intercept,
        at,
        tol,
        max_iter,
        objective.n_threads,
        ridge=max(RIDGE * Z.size * np.finfo(float).eps, objective.precision),
        callback=told,
    )
    if status == "stuck":  # a Hessian of rounding, as where all probabilities are 0 or 1
        done = n_iter
        result = lbfgs.minimize(objective, at, tol, max_iter - done, told)
        return replace(result, n_iter=done + result.n_iter)
    converged = status == "converged"
    if converged and objective.precision > np.finfo(float).eps and not objective.l1.any():
        hessian = objective.metric(at, exact=True)
        assert isinstance(hessian, ExactCurvature)
        hidden = hessian.hidden_gain(objective(at)[1])
        if hidden > largest_gap(tol, value):
            gap, converged = hidden, False
    return Result(at, value, gap, n_iter, converged, stopped)
