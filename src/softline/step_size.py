"""The step that suits the data: what ``learning_rate="auto"`` means, and which rate is stable.

Gradient descent is stable while its step is below 2/L, L being the largest curvature of the loss; 1/L is
the largest step that never increases it. The cross-entropy of a softmax has curvature at most 1/2 in the
scores (Boehning, 1992), so L = lambda/2 + alpha with lambda the largest eigenvalue of X^T X / N. A batch of
B rows sees more curvature than all N together: its expected smoothness (Gower et al., 2019, "SGD: General
analysis and improved rates", proposition 3.8) is

    L(B) = (1-q) L + q L_max,    q = (1/B - 1/N) / (1 - 1/N),    L_max = max_i |x_i|^2 / 2

Raw features make L large for reasons that have nothing to do with the classes: a common offset (pixels
around 120) and unequal units. ``"auto"`` therefore descends as if each feature had been centred on its mean
and divided by its largest deviation from it - no row gets long, so no batch blows up - with the step
1/L(B) of those features. The data are not touched: see `shift` and `metric` in
:func:`softline.reference.sgd_update`. A penalty too strong for a narrow feature is damped in `metric`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from softline import _kernels
from softline._typing import Array
from softline.column_stats import ColumnStats
from softline.rows import Rows

# Rows that estimate the curvature, and power iterations: about the cost of one epoch on wide data.
SAMPLE_ROWS = 4096
# Rows of which the longest gives L_max.
LONGEST_ROWS = 1024
ITERATIONS = 10


class AutoStep:
    """The geometry and the step of ``learning_rate="auto"``, learned from the rows seen so far.

    Attributes
    ----------
    shift : (D,) array or None
        Mean of each feature; None without an intercept, which alone could absorb it.
    metric : (D,) array
        1 / (s^2 + alpha), s the largest deviation from the shift; 0 for a constant feature.
    curvature, curvature_of_row : float
        L and L_max in this geometry.
    length : float
        Mean of sum |z| over the rows z in this geometry, 1 added for an intercept: what the scores of a row
        change by at most when no weight changes by more than 1.
    """

    shift: Array | None
    metric: Array
    curvature: float
    curvature_of_row: float
    length: float

    def __init__(self) -> None:
        self.n_rows = self.n_rows_estimated = 0

    def observe(
        self,
        X: Rows,
        rows: Array,
        weight: Array | None,
        stats: ColumnStats,
        alpha: float,
        fit_intercept: bool,
        rng: np.random.RandomState,
        n_threads: int | None = None,
        sample: bool = True,
    ) -> None:
        """Take in the rows `rows` of X, which `stats` has seen; now and then estimate the curvature anew.

        That is whenever the rows seen have doubled. `sample` as in :func:`smoothness`.

        Raises
        ------
        ValueError
            If a feature is too large to be squared in the dtype of X.
        """
        self.n_rows += len(rows)
        low, mean, high = (
            (a - (0 if X.shift is None else X.shift)) * (1 if X.scale is None else X.scale)
            for a in (stats.low, stats.mean, stats.high)
        )
        self.shift, deviation = None, np.maximum(np.abs(low), np.abs(high))
        if fit_intercept:
            mean = np.clip(mean, low, high)
            self.shift = mean.astype(X.dtype)
            deviation = np.maximum(high - mean, mean - low) * (high > low)
        tiny = float(np.finfo(X.dtype).tiny)
        largest = np.max(deviation, initial=0)
        if not largest * np.sqrt(tiny) <= 1e-2:  # NaN, too: then a sum overflowed
            with np.errstate(over="ignore"):
                span = largest if np.isfinite(largest) else np.max(high - low)
            raise ValueError(
                f"X spans {span:.3g}, too much to train on in {X.dtype}; "
                "rescale it (for example with StandardScaler) or pass float64"
            )
        damped = np.maximum(deviation**2 + alpha, 1e3 * tiny)
        self.metric = np.where(deviation > 0, 1 / damped, 0).astype(X.dtype)

        if self.n_rows >= 2 * self.n_rows_estimated:
            self.n_rows_estimated = self.n_rows
            self.curvature, self.curvature_of_row, self.length = smoothness(
                X, rows, weight, alpha, self.shift, self.metric, fit_intercept, rng, n_threads, sample
            )


def smoothness(
    X: Rows,
    rows: Array,
    weight: Array | None,
    alpha: float,
    shift: Array | None,
    metric: Array | None,
    fit_intercept: bool,
    rng: np.random.RandomState,
    n_threads: int | None = None,
    sample: bool = True,
) -> tuple[float, float, float]:
    """L of all rows, L_max of a single one, and the mean length, in the geometry of `shift` and `metric`.

    L is estimated by power iteration, with the kernels that train: scores of one "class" are X v, its
    gradient is X^T u. With `sample` this takes at most SAMPLE_ROWS rows. For full batches it takes them all:
    then a weight of 2 is the row twice for the step, too, and an iteration costs no more than an epoch.
    """
    every = -(-len(rows) // LONGEST_ROWS)  # rows may be sorted
    if sample and len(rows) > SAMPLE_ROWS:
        every = 1  # a sample is not
        chosen = rng.choice(len(rows), SAMPLE_ROWS, replace=False)
        rows, weight = rows[chosen], None if weight is None else weight[chosen]
    dtype = X.dtype
    n, D = len(rows), X.shape[1]
    share = np.full((n, 1), 1 / n) if weight is None else (weight / weight.sum(dtype=float))[:, None]
    scale = np.ones(D) if metric is None else np.sqrt(metric, dtype=float)
    center = np.zeros(D) if shift is None else shift.astype(float)
    bias = float(fit_intercept)

    v: Array = np.random.RandomState(0).standard_normal(D + 1)
    u, g, sum_u = np.empty((n, 1), dtype), np.empty((1, D), dtype), np.empty(1, dtype)
    eigenvalue: Any = 0.0
    for _ in range(ITERATIONS):
        # Sums by einsum, not by BLAS, whose bits depend on its threads.
        v /= np.sqrt(np.einsum("d,d", v, v))
        w = scale * v[:D]
        offset = bias * v[D] - np.einsum("d,d", w, center)
        _kernels.scores(X, rows, w[None].astype(dtype), np.array([offset], dtype), u, n_threads)
        u *= share
        _kernels.gradient(X, rows, u, g, sum_u, n_threads)
        v = np.append(scale * (g[0] - center * sum_u[0]), bias * sum_u[0])
        eigenvalue = np.sqrt(np.einsum("d,d", v, v))
        if eigenvalue == 0:
            break

    longest, lengths = 0.0, 0.0
    looked_at, shares = (a[::every][:LONGEST_ROWS] for a in (rows, share[:, 0]))
    for first in range(0, len(looked_at), 128):
        some = slice(first, first + 128)
        z = (X[looked_at[some]] - center) * scale
        longest = max(longest, np.einsum("ij,ij->i", z, z).max())
        lengths += shares[some] @ np.abs(z).sum(axis=1)
    penalty = alpha * (1 if metric is None else np.max(metric, initial=0))
    length = lengths / shares.sum() + bias
    return eigenvalue / 2 + penalty, (longest + bias) / 2 + penalty, length


def stable_rate(
    curvature: float, curvature_of_row: float, n_rows: float, batch_size: int, momentum: float = 0.0
) -> float:
    """1/L(B): the largest step that is safe for batches of `batch_size` of `n_rows` rows (inf: a stream).

    Momentum adds up steps to 1/(1 - momentum) of them: harmless along a curvature that all batches share, for
    there they turn when it does, but what single rows add to it counts so many times.
    """
    share = 1.0 if n_rows <= 1 else max(1 / batch_size - 1 / n_rows, 0) / (1 - 1 / n_rows)
    expected = (1 - share) * curvature + share * curvature_of_row / (1 - momentum)
    return 1 / expected if expected != 0 else 1.0


def rate_of_change(change: float, length: float) -> float:
    """The rate at which a step that moves no weight further changes the average row's scores by `change`."""
    return change / length if length > 0 else change
