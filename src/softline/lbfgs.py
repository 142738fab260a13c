"""L-BFGS in the metric of the loss's own curvature, to a certified gradient.

Limited-memory BFGS (Liu and Nocedal, 1989), whose first guess at the Hessian is no multiple of the identity
but the average curvature over the classes (:mod:`softline.average_curvature`). What is left to learn from the
steps is how the classes differ from their average: that takes some ten steps instead of hundreds. With an L1
penalty the step is that of :mod:`softline.proximal`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softline import proximal
from softline._typing import Array
from softline.average_curvature import AverageCurvature, dot

if TYPE_CHECKING:
    from softline.objective import Objective

# Pairs of step and change of gradient that are remembered, as long as they are no larger than so many bytes.
MOST_PAIRS, PAIRS_BYTES = 30, 64 << 20
FEWEST_PAIRS = 5
# A metric of weights that knew nothing is renewed after as many steps again, but no fewer than so many times
# the evaluations that it costs.
RENEWAL = 4
# A step is not shortened below this.
LEAST_STEP = 1e-10
# Steps in vain that end the search.
MOST_STALLED = 10


@dataclass(frozen=True)
class Result:
    """Where :func:`minimize` ended.

    Attributes
    ----------
    Z : float64 array
    value : float
    gradient : float
        Largest absolute element of the (pseudo-)gradient.
    n_iter : int
        Steps.
    converged : bool
        `gradient` is at most `tol`.
    stopped : bool
        The callback ended the search.
    """

    Z: np.ndarray
    value: float
    gradient: float
    n_iter: int
    converged: bool
    stopped: bool


class Memory:
    """The last steps and what they did to the gradient.

    Parameters
    ----------
    most : int
        Pairs to remember.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.pairs: list[tuple[Array, Array, float]] = []

    def add(self, step: Array, change: Array) -> None:
        """Remember a step and the change of the gradient, if the function curves along it."""
        slope = dot(step, change)
        if slope > np.finfo(float).eps * np.sqrt(dot(step, step) * dot(change, change)):
            self.pairs = [*self.pairs, (step, change, slope)][-self.most :]


class InverseHessian:
    """That of L-BFGS: a metric, and what the steps in memory add (Nocedal and Wright, 2006, section 7.2).

    Parameters
    ----------
    metric : AverageCurvature
    memory : Memory
    """

    def __init__(self, metric: AverageCurvature, memory: Memory) -> None:
        self.metric, self.pairs, self.scale = metric, memory.pairs, 1.0
        if self.pairs:
            _, change, slope = self.pairs[-1]
            self.scale = slope / dot(change, metric.solve(change))

    def solve(self, G: Array) -> Array:
        """The inverse Hessian times G."""
        G, shares = G.copy(), []
        for step, change, slope in reversed(self.pairs):
            shares.append(dot(step, G) / slope)
            G -= shares[-1] * change
        out = self.scale * self.metric.solve(G)
        for (step, change, slope), share in zip(self.pairs, reversed(shares), strict=True):
            out += (share - dot(change, out) / slope) * step
        return out


def newton_step(objective: Objective, metric: AverageCurvature, memory: Memory, Z: Array, G: Array) -> Array:
    """From Z to the minimum of the model of the objective there."""
    if objective.l1.any():
        step = proximal.Hessian(metric, memory).minimum(Z, G, objective.l1) - Z
    else:
        step = -InverseHessian(metric, memory).solve(G)
    # What is added to all classes alike changes nothing but a penalty: where there is none, rounding must not
    # become a step.
    free = (objective.l2 == 0) & (objective.l1 == 0) & (len(Z) > 1)
    step[:, free] -= step[:, free].mean(axis=0)
    return step


def minimize(
    objective: Objective,
    Z: Array,
    tol: float,
    max_iter: int,
    callback: Callable[[Array, float, int], object] | None = None,
    change_tol: float = np.inf,
) -> Result:
    """Steps from Z until no element of the (pseudo-)gradient exceeds `tol`.

    Parameters
    ----------
    objective : Objective
    Z : float64 array, of the objective's shape
    tol : float
    max_iter : int
        Most steps.
    callback : callable or None
        Called with (Z, value, n_iter) after each step; a true result ends the search.
    change_tol : float, default=inf
        The last step, too, must not have changed a weight by more than this share of the largest.

    Returns
    -------
    Result
    """
    noise = 8 * np.finfo(objective.X.dtype).eps
    memory = Memory(max(FEWEST_PAIRS, min(MOST_PAIRS, PAIRS_BYTES // (2 * Z.nbytes))))
    metric, renewed = None, 0
    renewing = not Z.any()
    value, G = objective(Z)
    gradient = np.abs(objective.pseudo_gradient(Z, G)).max()
    best = Z, value, gradient
    n_iter, stalled, moved, stopped = 0, 0, False, False
    while n_iter < max_iter and stalled < MOST_STALLED and not stopped:
        if best[2] <= tol and not moved:
            break
        due = n_iter > 2 * renewed and n_iter - renewed > RENEWAL * objective.metric_passes
        if metric is None or (renewing and due):
            metric, renewed = objective.metric(Z), n_iter
        step = newton_step(objective, metric, memory, Z, G)
        last_Z, last_G, slack = Z, G, noise * abs(value)
        Z, value, G, expected = line_search(objective, Z, value, G, step, slack)
        gradient = np.abs(objective.pseudo_gradient(Z, G)).max()
        if not np.isfinite(value + gradient):  # features so large that numbers overflow
            break
        if expected > 0:
            memory.add(Z - last_Z, G - last_G)
        else:  # uphill, after what rounding has made of it
            memory.pairs = []
        moved = np.abs(Z - last_Z).max() > change_tol * np.abs(Z).max()
        # Where rounding hides what is left to gain, steps that do not make the gradient smaller are in vain.
        if expected < slack and gradient >= best[2]:
            stalled += 1
        else:
            best, stalled = (Z, value, gradient), 0
        n_iter += 1
        stopped = callback is not None and bool(callback(*best[:2], n_iter))
    return Result(*best, n_iter, best[2] <= tol, stopped)


def line_search(
    objective: Objective, Z: Array, value: float, G: Array, step: Array, slack: float
) -> tuple[Array, float, Array, float]:
    """A point from Z along `step` that descends enough: (Z, value, gradient, expected gain)."""
    l1 = objective.l1
    slope = dot(G, step) + np.sum(l1 * (np.abs(Z + step) - np.abs(Z)))
    t = 1.0
    while True:
        trial = Z + t * step
        new_value, new_G = objective(trial)
        if new_value - value <= 1e-4 * t * slope + slack or t < LEAST_STEP:
            return trial, new_value, new_G, -t * slope
        # the minimum of the parabola through what is known
        bend = new_value - value - t * slope
        t *= min(0.5, max(0.1, -t * slope / (2 * bend))) if np.isfinite(bend) else 0.1
