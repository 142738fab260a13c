"""Step of L-BFGS with an L1 penalty: to the minimum of a quadratic model of the loss plus the penalty.

A proximal Newton method (Lee, Sun and Saunders, 2014) that passes over the data once a step: its Hessian is
the average curvature and what the steps in memory add to that, and coordinate descent finds the minimum
(Scheinberg and Tang, 2016, "Practical inexact proximal quasi-Newton method").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softline._kernels import coordinate_descent
from softline._solvers.average_curvature import AverageCurvature, dot
from softline._typing import Array

if TYPE_CHECKING:
    from softline._solvers.lbfgs import Memory

# Number of steps in memory that the Hessian uses.
MOST_PAIRS = 10
# Coordinate descent ends when no coordinate moves by more than DESCENT_TOL of the largest move of the first
# round, or after a number of rounds that falls with the number of features.
DESCENT_TOL = 0.05
FEWEST_ROUNDS, MOST_ROUNDS, ROUNDS_TIMES_FEATURES = 100, 1000, 100_000


class Hessian:
    """Hessian of L-BFGS: preconditioner and memory (Nocedal and Wright, 2006, section 7.2)."""

    def __init__(self, metric: AverageCurvature, memory: Memory) -> None:
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
        rounds = min(MOST_ROUNDS, max(FEWEST_ROUNDS, ROUNDS_TIMES_FEATURES // V.shape[1]))
        coordinate_descent(*curvature, G, l1, V, DESCENT_TOL, rounds)
        return metric.from_coordinates(V)
