"""Statistics of the features, gathered from the rows as they come."""

from __future__ import annotations

import numpy as np

from softline import _kernels
from softline._typing import Array
from softline.rows import Rows


class ColumnStats:
    """Weighted mean and variance, smallest and largest value of each feature of all rows taken in.

    Batches are merged as Chan, Golub and LeVeque do ("Updating formulae and a pairwise algorithm for
    computing sample variances", 1979): one pass, no cancellation.

    Attributes
    ----------
    weight : float
        Sum of the weights of the rows.
    mean, squares : (D,) float64 arrays
        `squares` are sums of squared deviations from the mean.
    low, high : (D,) float64 arrays
    """

    mean: Array
    squares: Array
    low: Array
    high: Array

    def __init__(self, n_features: int) -> None:
        self.weight: float = 0.0
        self.mean, self.squares = np.zeros(n_features), np.zeros(n_features)
        self.low, self.high = np.full(n_features, np.inf), np.full(n_features, -np.inf)

    def update(self, X: Rows, rows: Array, weight: Array | None, n_threads: int | None = None) -> None:
        """Take in the rows `rows` of X as they came, weighted by `weight`, (len(rows),) or None."""
        mean, squares, low, high = _kernels.column_stats(Rows(X.array), rows, weight, n_threads)
        added = len(rows) if weight is None else weight.sum(dtype=float)
        self.weight += added
        share = added / self.weight if self.weight > 0 else 0
        delta = mean - self.mean
        self.mean += share * delta
        self.squares += squares + (self.weight - added) * share * delta**2
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    def standardization(self, center: bool) -> tuple[Array | None, Array]:
        """(shift, scale) so that (x - shift) * scale has mean 0 (if `center`) and variance 1.

        As scikit-learn's StandardScaler: a constant feature becomes 0, or stays what it is if not centred.

        Raises
        ------
        ValueError
            If the squares of a feature overflow.
        """
        if not np.isfinite(self.squares).all():
            raise ValueError(
                f"X spans {np.max(self.high - self.low):.3g}, too much to standardise; divide it by a "
                "constant, or pass float64 if it is of another type"
            )
        varies = (self.high > self.low) & (self.squares > 0)
        deviation = np.sqrt(self.squares / self.weight, where=varies, out=np.ones_like(self.mean))
        if not center:
            return None, 1 / deviation
        return self.mean, np.where(varies, 1 / deviation, 0)
