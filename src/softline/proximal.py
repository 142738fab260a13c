"""The step of L-BFGS with an L1 penalty: to the minimum of its quadratic model of the loss, with the penalty.

A proximal Newton method (Lee, Sun and Saunders, 2014) that passes over the data once a step: its Hessian is
the average curvature and what the steps in memory add to that, and coordinate descent finds the minimum
(Scheinberg and Tang, 2016, "Practical inexact proximal quasi-Newton method").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softline._objective import coordinate_descent
from softline._typing import Array
from softline.average_curvature import AverageCurvature, dot

if TYPE_CHECKING:
    from softline.lbfgs import Memory

# Steps in memory that add to the Hessian.
MOST_PAIRS = 10
# Coordinate descent ends when no coordinate moves by more than this share of the farthest move of the first
# round, or after so many rounds: the more features, the dearer, and the fewer.
DESCENT_TOL = 0.05
FEWEST_ROUNDS, MOST_ROUNDS, ROUNDS_TIMES_FEATURES = 100, 1000, 100_000


class Hessian:
    """That of L-BFGS: a metric, and what the steps in memory add (Nocedal and Wright, 2006, section 7.2).

    Parameters
    ----------
    metric : AverageCurvature
    memory : Memory
    """

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
        """The Hessian times U, in the coordinates of the metric."""
        out = self.scale * self.metric.product(U)
        for sign, term in self.terms:
            out += sign * dot(term, U) * term
        return out

    def minimum(self, Z: Array, G: Array, l1: Array) -> Array:
        """The minimum V of G (V - Z) + (V - Z) H (V - Z)/2 + sum(l1 |V|), about."""
        metric = self.metric
        V = metric.to_coordinates(Z)
        rounds = min(MOST_ROUNDS, max(FEWEST_ROUNDS, ROUNDS_TIMES_FEATURES // Z.shape[1]))
        coordinate_descent(
            metric.correlations,
            self.scale,
            np.array([term for _, term in self.terms]).reshape(-1, *Z.shape),
            np.array([sign for sign, _ in self.terms]),
            metric.gradient(G),
            l1 / metric.roots,
            V,
            DESCENT_TOL,
            rounds,
        )
        return metric.from_coordinates(V)
