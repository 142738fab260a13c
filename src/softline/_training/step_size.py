"""Steps that suit the data: the meaning of ``learning_rate="auto"``, and which rate is stable.

Gradient descent is stable while its step is below 2/L, L being the largest curvature of the loss; 1/L is
the largest step that never increases it. The cross-entropy of a softmax has curvature at most 1/2 in the
scores (Boehning, 1992), so L = lambda/2 + alpha with lambda the largest eigenvalue of X^T X / N. A batch of
B rows sees more curvature than all N together: its expected smoothness (Gower et al., 2019, "SGD: General
analysis and improved rates", proposition 3.8) is

    L(B) = (1-q) L + q L_max,    q = (1/B - 1/N) / (1 - 1/N),    L_max = max_i |x_i|^2 / 2

Raw features make L large for reasons that have nothing to do with the classes: a common offset (pixels
around 120), unequal units, and a few rows that are much longer than the others. ``"auto"`` therefore
descends as if each feature had been centred and divided by a deviation that is typical of it, with the step
1/L(B) of those features, in which rows longer than CUT times the median count as that long. What is left of
the influence of long rows is bounded by `largest_gradient`. The data are not touched: see `shift` and
`metric` in :func:`softline.reference.sgd_update`. A penalty too strong for a narrow feature is damped in
`metric`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from softline import _kernels
from softline._kernels.rows import Samples
from softline._training.column_stats import ColumnStats
from softline._typing import Array

# Rows that estimate the curvature, and power iterations: about the cost of one epoch on wide data.
SAMPLE_ROWS = 4096
ITERATIONS = 10
# Rows from which the median of a feature, and the spread around it, are estimated.
SPREAD_ROWS = 256
# Largest divisor of a feature, in upper quartiles of its deviations.
SPREADS = 2
# Largest length of a row, in medians; longer rows count as that long.
CUT = 2


class AutoStep:
    """Geometry and step of ``learning_rate="auto"``, learned from the rows seen so far.

    Attributes
    ----------
    shift : (D,) array or None
        Mean of each feature, no further from the median than a typical value is; None without an intercept,
        which alone could absorb it.
    metric : (D,) array
        1 / (s^2 + alpha), s the largest deviation from the shift, but no more than SPREADS typical ones; 0
        for a constant feature.
    curvature, curvature_of_row : float
        L and L_max in this geometry, long rows cut.
    length : float
        Mean of sum |z| over the rows z in this geometry, 1 added for an intercept: what the scores of a row
        change by at most when no weight changes by more than 1.
    """

    shift: Array | None
    metric: Array
    curvature: float
    curvature_of_row: float
    length: float
    seen: Array | None  # some of the rows so far, as they came
    _lots: np.random.RandomState | None  # that decide which of them stay
    _center: Array  # median of each feature
    _spread: Array  # typical deviation of each feature

    def __init__(self) -> None:
        self.n_rows = self.n_rows_estimated = 0
        self.seen = self._lots = None

    def observe(
        self,
        samples: Samples,
        stats: ColumnStats,
        alpha: float,
        fit_intercept: bool,
        rng: np.random.RandomState,
        n_threads: int | None = None,
        sample: bool = True,
    ) -> None:
        """Learn from samples, which `stats` has counted; when the rows seen have doubled, estimate curvature.

        `sample` as in :func:`smoothness`. ValueError if a feature is too large to be squared in X.dtype.
        """
        X, rows, weight = samples.X, samples.rows, samples.weights
        self.n_rows += len(rows)
        doubled = self.n_rows >= 2 * self.n_rows_estimated
        new = draw(rows, weight)
        if self.seen is None:
            self.seen = X.array[new]
        else:  # reservoir sampling: every row so far is equally likely to be kept
            share = len(rows) / self.n_rows
            self._lots = self._lots or np.random.RandomState()
            self._lots.seed(self.n_rows % 2**32)  # a tenth of the time that a new RandomState takes
            taken = self._lots.random_sample(SPREAD_ROWS) < share
            seen = self.seen.copy()  # because it is read-only in a model from a memory map
            seen[taken] = X.array[new[taken]]
            self.seen = seen
        if doubled:
            self._center, self._spread = center_and_spread(self.seen)
        scale = 1 if X.scale is None else X.scale
        low, mean, high, center = (
            (a - (0 if X.shift is None else X.shift)) * scale
            for a in (stats.low, stats.mean, stats.high, self._center)
        )
        spread = self._spread * scale
        self.shift, deviation = None, np.maximum(np.abs(low), np.abs(high))
        typical = SPREADS * spread
        if fit_intercept:
            mean = np.clip(np.clip(mean, center - spread, center + spread), low, high)
            self.shift = mean.astype(X.dtype)
            deviation = np.maximum(high - mean, mean - low) * (high > low)
        else:
            typical += np.abs(center)
        tiny = float(np.finfo(X.dtype).tiny)
        largest = np.max(deviation, initial=0)
        if not largest * np.sqrt(tiny) <= 1e-2:  # NaN, too: then a sum overflowed
            with np.errstate(over="ignore"):
                span = largest if np.isfinite(largest) else np.max(high - low)
            raise ValueError(
                f"X spans {span:.3g}, too much to train on in {X.dtype}; "
                "rescale it (for example with StandardScaler) or pass float64"
            )
        deviation = np.where(spread > 0, np.minimum(deviation, typical), deviation)
        damped = np.maximum(deviation**2 + alpha, 1e3 * tiny)
        self.metric = np.where(deviation > 0, 1 / damped, 0).astype(X.dtype)

        if doubled:
            self.n_rows_estimated = self.n_rows
            self.curvature, self.curvature_of_row, self.length = smoothness(
                samples, alpha, self.shift, self.metric, fit_intercept, rng, n_threads, sample, CUT
            )


def draw(rows: Array, weight: Array | None) -> Array:
    """Sample of SPREAD_ROWS rows by weight, so that a weight of 2 is the row twice.

    Their distances are irregular, because the rows may be periodic.
    """
    at = np.arange(SPREAD_ROWS) * ((np.sqrt(5) - 1) / 2) % 1
    if weight is None:
        return rows[(at * len(rows)).astype(int)]
    total = np.cumsum(weight, dtype=float)
    return rows[np.searchsorted(total, at * total[-1], side="right")]


def center_and_spread(seen: Array) -> tuple[Array, Array]:
    """Median of each feature, and the upper quartile of the deviations from it.

    Values equal to the median do not count, because a rare feature is 0 in most rows.
    """
    n, D = seen.shape
    center, spread = np.empty(D), np.empty(D)
    for first in range(0, D, 1024):
        some = slice(first, first + 1024)
        values = np.sort(seen[:, some].astype(float), axis=0)
        center[some] = values[n // 2]
        values = np.sort(np.abs(values - center[some]), axis=0)
        equal = np.count_nonzero(values == 0, axis=0)
        quartile = np.minimum(equal + 3 * (n - equal) // 4, n - 1)
        spread[some] = values[quartile, np.arange(values.shape[1])]
    return center, spread


@functools.lru_cache(maxsize=4)
def random_start(size: int) -> Array:
    """Vector with which power iteration starts, the same each time."""
    return np.random.RandomState(0).standard_normal(size)


def smoothness(
    samples: Samples,
    alpha: float,
    shift: Array | None,
    metric: Array | None,
    fit_intercept: bool,
    rng: np.random.RandomState,
    n_threads: int | None = None,
    sample: bool = True,
    cut: float = np.inf,
) -> tuple[float, float, float]:
    """L of all rows, L_max of a single row, and the mean length, in the geometry of `shift` and `metric`.

    Rows longer than `cut` times the median, weighted, count as that long.

    L is estimated by power iteration, with the kernels that train: scores of one "class" are X v, its
    gradient is X^T u. With `sample` this takes at most SAMPLE_ROWS rows. For full batches it takes them all:
    then a weight of 2 is the row twice for the step, too, and an iteration costs no more than an epoch.
    """
    X, rows, weight = samples.X, samples.rows, samples.weights
    if sample and len(rows) > SAMPLE_ROWS:
        chosen = rng.choice(len(rows), SAMPLE_ROWS, replace=False)
        rows, weight = rows[chosen], None if weight is None else weight[chosen]
    dtype = X.dtype
    n, D = len(rows), X.shape[1]
    share = np.full((n, 1), 1 / n) if weight is None else (weight / weight.sum(dtype=float))[:, None]
    scale = np.ones(D) if metric is None else np.sqrt(metric, dtype=float)
    center = np.zeros(D) if shift is None else shift.astype(float)
    bias = float(fit_intercept)

    squares, lengths = np.empty(n), np.empty(n)
    for first in range(0, n, 128):
        some = slice(first, first + 128)
        z = (X[rows[some]] - center) * scale
        squares[some] = np.einsum("ij,ij->i", z, z) + bias
        lengths[some] = np.abs(z).sum(axis=1)
    order = np.argsort(squares)
    total = np.arange(1, n + 1) if weight is None else np.cumsum(weight[order], dtype=float)
    median = squares[order[np.searchsorted(total, total[-1] / 2)]]
    limit = cut**2 * median if median > 0 else np.inf
    kept = np.divide(limit, squares, where=squares > limit, out=np.ones(n))
    length = np.sum(share[:, 0] * np.sqrt(kept) * lengths) + bias
    longest = np.max(kept * squares)
    share *= kept[:, None]

    v = random_start(D + 1).copy()
    u, g, sum_u = np.empty((n, 1), dtype), np.empty((1, D), dtype), np.empty(1, dtype)
    # Sums by einsum, not by BLAS, because its bits depend on its threads.
    eigenvalue: Any = np.sqrt(np.einsum("d,d", v, v))
    for _ in range(ITERATIONS):
        v /= eigenvalue
        w = scale * v[:D]
        offset = bias * v[D] - np.einsum("d,d", w, center)
        _kernels.scores(X, rows, w[None].astype(dtype), np.array([offset], dtype), u, n_threads)
        u *= share
        _kernels.gradient(X, rows, u, g, sum_u, n_threads)
        v[:D] = scale * (g[0] - center * sum_u[0])
        v[D] = bias * sum_u[0]
        eigenvalue = np.sqrt(np.einsum("d,d", v, v))
        if eigenvalue == 0:
            break

    penalty = alpha * (1 if metric is None else np.max(metric, initial=0))
    return eigenvalue / 2 + penalty, longest / 2 + penalty, length


def stable_rate(
    curvature: float, curvature_of_row: float, n_rows: float, batch_size: int, momentum: float = 0.0
) -> float:
    """1/L(B): the largest step that is safe for batches of `batch_size` of `n_rows` rows (inf: a stream).

    Momentum adds up 1/(1 - momentum) steps. That is harmless along a curvature that all batches share, but
    the curvature of single rows counts as many times.
    """
    share = 1.0 if n_rows <= 1 else max(1 / batch_size - 1 / n_rows, 0) / (1 - 1 / n_rows)
    expected = (1 - share) * curvature + share * curvature_of_row / (1 - momentum)
    return 1 / expected if expected != 0 else 1.0


def largest_gradient(rate: float, n_classes: int) -> float:
    """Norm above which the gradient of a batch must come from rows too long for the stable `rate`.

    Where no curvature exceeds L the squared norm is at most 2 L (loss - least loss), and training starts at
    a loss of log(n_classes).
    """
    return float(np.sqrt(2 / rate * np.log(n_classes)))


def rate_of_change(change: float, length: float) -> float:
    """Rate that, as the change of every weight, changes the scores of an average row by `change`."""
    return change / length if length > 0 else change
