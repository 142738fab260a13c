"""Step of L-BFGS with an L1 penalty: to the minimum of a quadratic model of the loss plus the penalty.

A proximal Newton method (Lee, Sun and Saunders, 2014) that passes over the data once a step: its Hessian is
the average curvature and what the steps in memory add to that, and coordinate descent finds the minimum
(Scheinberg and Tang, 2016, "Practical inexact proximal quasi-Newton method").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softline._kernels import cholesky_solve, coordinate_descent
from softline._solvers.average_curvature import AverageCurvature, dot
from softline._solvers.exact_curvature import ExactCurvature
from softline._typing import Array

if TYPE_CHECKING:
    from softline._solvers.lbfgs import Memory

# Number of steps in memory that the Hessian uses.
MOST_PAIRS = 10
# Coordinate descent ends when no coordinate moves by more than DESCENT_TOL of the largest move of the first
# round, or after a number of rounds that falls with the number of features.
DESCENT_TOL = 0.05
FEWEST_ROUNDS, MOST_ROUNDS, ROUNDS_TIMES_FEATURES = 100, 1000, 100_000
# With the exact Hessian, descent and steps on its support alternate until no coordinate moves by more than
# SUBSPACE_TOL of the largest move in all, at most MOST_SUBSPACES times.
SUBSPACE_TOL, MOST_SUBSPACES = 1e-3, 20


class Hessian:
    """Hessian of L-BFGS: preconditioner and memory (Nocedal and Wright, 2006, section 7.2)."""

    def __init__(self, metric: AverageCurvature | ExactCurvature, memory: Memory) -> None:
        self.metric, self.scale, self.terms = metric, 1.0, []
        pairs = memory.pairs[-MOST_PAIRS:]
        if pairs:
            _, change, slope = pairs[-1]
            self.scale = dot(change, metric.solve(change)) / slope
        for step, change, slope in pairs:
            step = metric.to_coordinates(step)
            explained = self._product(step)
            explained /= np.sqrt(dot(step, explained))
            self.terms += [(1.0, metric.gradient(change) / np.sqrt(slope)), (-1.0, explained)]

    def _product(self, U: Array) -> Array:
        """Product of the Hessian and U, in the coordinates of the preconditioner."""
        out = self.scale * self.metric.product(U)
        for sign, term in self.terms:
            out += sign * dot(term, U) * term
        return out

    def minimum(self, Z: Array, G: Array, l1: Array) -> Array:
        """Approximate minimum V of G (V - Z) + (V - Z) H (V - Z)/2 + sum(l1 |V|)."""
        metric = self.metric
        V, G, l1 = metric.to_coordinates(Z), metric.gradient(G), metric.penalty(l1)
        terms = np.array([term for _, term in self.terms]).reshape(-1, *V.shape)
        signs = np.array([sign for sign, _ in self.terms])
        curvature = metric.correlations, self.scale, terms, signs
        if not isinstance(metric, ExactCurvature):
            rounds = min(MOST_ROUNDS, max(FEWEST_ROUNDS, ROUNDS_TIMES_FEATURES // V.shape[1]))
            coordinate_descent(*curvature, G, l1, V, DESCENT_TOL, rounds)
            return metric.from_coordinates(V)
        first = V.copy()
        for _ in range(MOST_SUBSPACES):
            # The slope of the model at V, from which descent goes on.
            slope = G + metric.product(V - first)
            before = V.copy()
            coordinate_descent(*curvature, slope, l1, V, DESCENT_TOL, FEWEST_ROUNDS)
            slope += metric.product(V - before)
            minimize_on_support(metric.correlations, slope[0], l1, V[0])
            if np.abs(V - before).max() <= SUBSPACE_TOL * np.abs(V - first).max():
                break
        return metric.from_coordinates(V)


def minimize_on_support(A: Array, slope: Array, l1: Array, v: Array) -> None:
    """Move what is not zero in v to the minimum of slope d + d A d/2 + sum(l1 |v + d|), a function of d.

    Where features are nearly the same, coordinate descent would take thousands of rounds for this. A
    coordinate that would change its sign becomes zero. Nothing moves if rounding prevents descent.
    """
    before, first, slope = v.copy(), slope, slope.copy()
    while len(support := np.flatnonzero(v)):
        within = A[np.ix_(support, support)]
        step = -(slope[support] + l1[support] * np.sign(v[support]))
        cholesky_solve(within.copy(), step)
        crossing = np.sign(step) * np.sign(v[support]) < 0
        reach = np.divide(-v[support], step, where=crossing, out=np.full(len(step), np.inf))
        t = min(1.0, reach.min())
        v[support] += t * step
        if t == 1:
            break
        v[support[reach == t]] = 0
        slope += np.einsum("ij,j->i", A[:, support], t * step)  # BLAS's bits depend on its threads
    d = v - before
    gain = np.einsum("i,i", first + np.einsum("ij,j->i", A, d) / 2, d) + np.sum(
        l1 * (np.abs(v) - np.abs(before))
    )
    if not gain <= 0:
        v[:] = before
