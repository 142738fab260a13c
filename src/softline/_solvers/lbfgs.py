"""L-BFGS preconditioned by the curvature of the loss, to a certified distance from the minimum.

Limited-memory BFGS (Liu and Nocedal, 1989) with the average curvature over the classes
(`average_curvature`) as its first guess at the Hessian, not a multiple of the identity. The steps then need
to learn only how the classes differ from their average: that takes some ten steps instead of hundreds. With
an L1 penalty they are those of `proximal`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from softline import _kernels
from softline._solvers import proximal
from softline._solvers.average_curvature import AverageCurvature, dot
from softline._typing import Array

if TYPE_CHECKING:
    from softline._solvers.objective import Objective

# Number of pairs (step, change of gradient) to remember, and largest size of all of them in bytes.
MOST_PAIRS, PAIRS_BYTES = 30, 64 << 20
FEWEST_PAIRS = 5
# A preconditioner from weights of zero is renewed when the number of steps has doubled, but not before
# RENEWAL times the number of evaluations that it costs.
RENEWAL = 4
# A metric that costs more evaluations than this has no correlations at first: see `DiagonalTrial`.
MOST_PASSES = 4
# Number of trial points along one step.
MOST_TRIALS = 30
# Number of steps without gain that ends the search.
MOST_STALLED = 10
# Number of recent steps by which the estimate of the gap is corrected.
RECENT = 5
# The search ends at this share of the gap that it certifies, because the gap is an estimate.
AIM = 0.05
# A step may end where the slope is this share of the first slope, uphill, if rounding hides the gain.
MOST_UPHILL = 0.8


# What is told of a step: (weights, value, number of steps), where weights() gives Z: of a smaller problem's
# they cost something. A true result ends the search.
Callback = Callable[[Callable[[], Array], float, int], object]


@dataclass(frozen=True)
class Result:
    """Result of :func:`minimize`.

    Attributes
    ----------
    Z : float64 array
    value : float
    gap : float
        Estimate of how far `value` is above the minimum.
    n_iter : int
        Number of steps.
    converged : bool
        Whether `gap` is at most :func:`largest_gap`.
    stopped : bool
        Whether the callback ended the search.
    solver : str
        What took the steps: "lbfgs"; "newton"; "lbfgs, newton", one after the other; "newton-cd", Newton's by
        coordinate descent. After it the smaller problem, "of working sets" or "of row space", if any.
    dual_gap : float or None
        Largest that the gap can be, of an L1 penalty, where the search knows it.
    """

    Z: np.ndarray
    value: float
    gap: float
    n_iter: int
    converged: bool
    stopped: bool
    solver: str = "lbfgs"
    dual_gap: float | None = None

    def shortfall(self, tol: float) -> str:
        """Sentence about the gap."""
        if not np.isfinite(self.value + self.gap):
            return "The loss is not finite."
        allowed = largest_gap(tol, self.value)
        return (
            f"The objective, {self.value:.4g}, may be {self.gap:.2g} above its minimum; tol={tol:.2g} asks "
            f"for {allowed:.2g}."
        )


def largest_gap(tol: float, value: float) -> float:
    """Largest gap that `tol` allows: 1000 tol^2 of the objective, or of `tol` if that is more.

    At tol = 1e-4 that is one part in 100,000; for larger ones it is tol/10. The square makes `tol` a bound on
    lengths, as a bound on the gradient would be. The floor is for separable classes: their loss has no
    minimum, only the infimum 0.
    """
    return min(1000 * tol, 0.1) * tol * max(value, tol)


class Memory:
    """The last `most` steps, and the changes of the gradient by them.

    Attributes
    ----------
    steps, changes : (most, C, D + 1) arrays
    slopes : (most,) array
        Inner products of a step and its change.
    order : list of int
        Numbers of the pairs that are known, the oldest first.
    """

    def __init__(self, most: int, shape: tuple[int, ...]) -> None:
        self.steps, self.changes = np.empty((most, *shape)), np.empty((most, *shape))
        self.slopes, self.order = np.empty(most), list[int]()

    def add(self, step: Array, change: Array) -> None:
        """Remember a step and the change of the gradient, if the function curves along it."""
        slope = dot(step, change)
        if slope > np.finfo(float).eps * np.sqrt(dot(step, step) * dot(change, change)):
            full = len(self.order) == len(self.slopes)
            at = self.order.pop(0) if full else len(self.order)
            self.steps[at], self.changes[at], self.slopes[at] = step, change, slope
            self.order.append(at)

    def forget(self) -> None:
        """Forget all pairs."""
        self.order = []

    @property
    def pairs(self) -> list[tuple[Array, Array, float]]:
        """Steps, changes and slopes, the oldest first."""
        return [(self.steps[i], self.changes[i], self.slopes[i]) for i in self.order]


class InverseHessian:
    """Inverse Hessian of L-BFGS: preconditioner and memory (Nocedal and Wright, 2006, section 7.2)."""

    def __init__(self, metric: AverageCurvature, memory: Memory) -> None:
        self.metric, self.memory = metric, memory

    def solve(self, G: Array) -> Array:
        """Product of the inverse Hessian and G."""
        memory = self.memory
        if not memory.order:
            return self.metric.solve(G)
        order, last = np.array(memory.order), memory.order[-1]
        of_memory = memory.steps, memory.changes, memory.slopes, order, np.empty(len(order))
        C, change = len(G), memory.changes[last]
        G = np.concatenate([G, change])
        _kernels.first_loop(G[:C], *of_memory)
        # The last pair says how large the curvature is; both in one product.
        solved = self.metric.solve(G)
        out = solved[:C] * (memory.slopes[last] / dot(change, solved[C:]))
        _kernels.second_loop(out, *of_memory)
        return out


class DiagonalTrial:
    """First steps of a search without correlations in its metric, where these cost more than many steps.

    A strong L2 penalty on more rows than features needs none: a few steps then bring the duality gap, which
    is certain, below what is allowed. The trial ends as soon as that gap falls too slowly to be there in less
    time than the correlations would take.

    Attributes
    ----------
    goes_on : bool
    gap : float
        Duality gap of the last point.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective, self.gaps = objective, list[float]()
        n, D = objective.X.shape
        sure = not objective.l1.any() and bool(objective.l2[:-1].all())
        self.goes_on = sure and n > D and objective.metric_passes > MOST_PASSES

    @property
    def gap(self) -> float:
        """Duality gap of the last point."""
        return self.gaps[-1]

    def pays(self, Z: Array, value: float, G: Array, tol: float) -> bool:
        """Whether the trial goes on from Z."""
        self.gaps.append(self.objective.duality_gap(Z, value, G))
        taken, first = len(self.gaps) - 1, self.gaps[0]
        wanted = np.log(max(first / largest_gap(tol, value), 1))
        fallen = np.log(max(first / self.gap, 1)) if self.gap > 0 else np.inf
        # at the same rate it takes taken wanted / fallen steps
        self.goes_on = not taken or taken * wanted <= self.objective.metric_passes * fallen
        return self.goes_on


def newton_step(
    objective: Objective, metric: AverageCurvature, memory: Memory, Z: Array, G: Array
) -> tuple[Array, float]:
    """Step from Z to the minimum of a quadratic model of the objective, and the slope along it."""
    if objective.l1.any():
        step = proximal.Hessian(metric, memory).minimum(Z, G, objective.l1) - Z
    else:
        step = -InverseHessian(metric, memory).solve(G)
    # A step that is the same for all classes changes only the penalty. Where there is none, it is rounding.
    free = (objective.l2 == 0) & (objective.l1 == 0) & (len(Z) > 1)
    step[:, free] -= step[:, free].mean(axis=0)
    return step, dot(G, step) + float(np.sum(objective.l1 * (np.abs(Z + step) - np.abs(Z))))


def minimize(
    objective: Objective,
    Z: Array,
    tol: float,
    max_iter: int,
    callback: Callback | None = None,
) -> Result:
    """Step from Z until the estimated gap above the minimum is at most :func:`largest_gap`.

    A step minimises a quadratic model of the objective, and the model promises a gain: half the squared
    Newton decrement (Boyd and Vandenberghe, 2004, section 9.5.1). That is the estimate of the gap. It is
    corrected by the last steps: if one gained more than the model had promised, the estimate grows by the
    same factor. After the first step, a model that no step has confirmed ends no search.

    Parameters
    ----------
    objective : Objective
    Z : float64 array, of the objective's shape
    tol : float
    max_iter : int
        Most steps.
    callback : callable or None
        Called with (weights, value, n_iter) after each step, where weights() is Z; a true result ends the
        search.

    Returns
    -------
    Result
    """
    slack = 8 * np.finfo(objective.X.dtype).eps
    most = max(FEWEST_PAIRS, min(MOST_PAIRS, PAIRS_BYTES // (2 * Z.nbytes)))
    memory = Memory(most, Z.shape)
    trial = DiagonalTrial(objective)
    metric, renewed, renewing = objective.metric(Z, correlations=not trial.goes_on), 0, not Z.any()
    value, G = objective(Z)
    first = best = Z, value, np.inf
    promises: list[tuple[float, float]] = []  # values before the last steps, and the gains promised
    n_iter, stalled, stopped, converged = 0, 0, False, False
    while np.isfinite(value):
        due = renewing and n_iter > 2 * renewed and n_iter - renewed > RENEWAL * objective.metric_passes
        if trial.goes_on and not trial.pays(Z, value, G, tol):
            metric, promises = objective.metric(first[0]), []
        elif due:
            metric, renewed = objective.metric(Z), n_iter
        step, slope = newton_step(objective, metric, memory, Z, G)
        promised = abs(slope) / 2
        gap = trial.gap if trial.goes_on else promised * underestimated(promises, value, promised)
        # Where rounding hides the gain, a step that does not lower the gap is in vain.
        if gap < best[2] or value < best[1] - slack * abs(best[1]):
            best, stalled = (Z, value, gap), 0
        else:
            stalled += 1
        confirmed = bool(promises) or n_iter == 0 or trial.goes_on
        allowed = largest_gap(tol, best[1])
        # A gap below rounding counts as none, unless tol = 0 or the search ends by max_iter.
        hidden = slack * abs(best[1]) if tol > 0 and n_iter < max_iter else 0.0
        converged = confirmed and best[2] <= max(allowed, hidden)
        enough = confirmed and best[2] <= (1 if trial.goes_on else AIM) * allowed
        if enough or stopped or n_iter == max_iter or stalled == MOST_STALLED:
            break
        found = None
        if slope < 0:
            found = line_search(objective, Z, value, G, step, slope, slack * abs(value))
        if found is None and memory.order:  # the memory misleads here
            memory.forget()
            promises = []
            continue
        if found is None:
            break
        promises = [*promises, (value, promised)][-RECENT:]
        last_Z, last_G = Z, G
        Z, value, G = found
        memory.add(Z - last_Z, G - last_G)
        n_iter += 1
        stopped = callback is not None and bool(callback(partial(np.copy, Z), value, n_iter))
    if not best[1] <= first[1]:  # the gain was rounding
        best = first
    return Result(*best, n_iter, converged, stopped)


def underestimated(promises: list[tuple[float, float]], value: float, promised: float) -> float:
    """Factor, at least 1, by which the model's promises were too small, in the light of the present one."""
    factors = [(before - value + promised) / gain for before, gain in promises if gain > 0]
    return max([1.0, *factors])


def line_search(
    objective: Objective, Z: Array, value: float, G: Array, step: Array, slope: float, slack: float
) -> tuple[Array, float, Array] | None:
    """Point along `step` from Z that descends enough: (Z, value, gradient); None if there is none.

    Gains below `slack` are lost in rounding. There a point is accepted if its slope is not much uphill (the
    approximate Wolfe conditions of Hager and Zhang, 2005).
    """
    t = 1.0
    for _ in range(MOST_TRIALS):
        trial = Z + t * step
        new_value, new_G = objective(trial)
        gain = value - new_value
        if gain >= -1e-4 * t * slope and gain > 0:
            return trial, new_value, new_G
        if abs(gain) <= slack and objective.slope(trial, new_G, step) <= -MOST_UPHILL * slope:
            return trial, new_value, new_G
        # the minimum of the parabola through both values and the first slope
        bend = -gain - t * slope
        t *= min(0.5, max(0.25, -t * slope / (2 * bend))) if np.isfinite(bend) and bend > 0 else 0.25
    return None
