"""Statistics of the features, gathered from the rows as they come."""

from __future__ import annotations

from typing import Any

import numpy as np

from softline import _kernels
from softline._kernels.rows import Rows
from softline._typing import Array


class ColumnStats:
    """Weighted mean, variance, minimum and maximum of each feature over all rows counted.

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
        """Count the rows `rows` of X as they came, weighted by `weight`, (len(rows),) or None."""
        mean, squares, low, high = _kernels.column_stats(Rows(X.array), rows, weight, n_threads)
        added = len(rows) if weight is None else weight.sum(dtype=float)
        self.weight += added
        share = added / self.weight if self.weight > 0 else 0
        delta = mean - self.mean
        # Not in place, because they are read-only in a model from a memory map.
        self.mean = self.mean + share * delta
        with np.errstate(over="ignore", invalid="ignore"):  # features may be too large to be squared
            self.squares = self.squares + (squares + (self.weight - added) * share * delta**2)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)

    def standardization(self, center: bool) -> tuple[Array | None, Array]:
        """Shift and scale so that (x - shift) * scale has mean 0 (if `center`) and variance 1.

        As in scikit-learn's StandardScaler, a constant feature becomes 0, or stays what it is if not centred.
        ValueError if the squares of a feature overflow.
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

    def is_harmless(self, dtype: np.dtype[Any], root: int = 8) -> bool:
        """Whether sums and squares in `dtype` hold these features as they are, uncentred and unscaled.

        They do if no mean is further away than 7 deviations in float32, 90 in float64 (the eighth root of
        the precision, or the given root), and no deviation is larger than 3e9, 1e77 (the fourth root of the
        range) or smaller than its inverse.
        """
        varies = self.high > self.low
        limits = np.finfo(dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            deviation = np.sqrt(self.squares[varies] / self.weight)
            offset = np.abs(self.mean) * limits.eps ** (1 / root)
        smallest = limits.tiny**0.25
        return bool(
            np.all((deviation > smallest) & (deviation < 1 / smallest) & (offset[varies] < deviation))
            and np.all(offset[~varies] < 1)
        )

    def conditioning(
        self, X: Rows, rows: Array, weight: Array | None, center: bool, n_threads: int | None = None
    ) -> tuple[Array | None, Array]:
        """Shift and scale that give each feature mean 0 (if `center`) and size 1, however large it is.

        The size is the deviation, or without centring the root of the mean square. Features that no square
        can hold, of 1e-300 or 1e300, are looked at in their own unit first.
        """
        unit = np.clip(np.maximum(np.abs(self.low), np.abs(self.high)), 1e-300, 1e300)
        scaled = Rows(X.array, None, 1 / unit, np.float64)
        mean, squares, low, high = _kernels.column_stats(
            scaled, rows, None if weight is None else weight.astype(float), n_threads
        )
        if not center:
            squares, mean = squares + self.weight * mean**2, np.zeros_like(mean)
            low = np.minimum(low, 0)
        varies = (high > low) & (squares > 0)
        size = np.sqrt(squares / self.weight, where=varies, out=np.full(mean.shape, np.inf))
        return (mean * unit if center else None), 1 / size / unit
