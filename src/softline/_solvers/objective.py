"""Penalised cross-entropy over all rows as a function of the weights, for searches of its minimum.

The weights are float64 and gradients are summed in it, so that float32 data converge, too.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from softline import _kernels
from softline._kernels.rows import Rows, Samples
from softline._solvers.average_curvature import AverageCurvature, dot
from softline._solvers.exact_curvature import ExactCurvature
from softline._training.column_stats import ColumnStats
from softline._training.trainer import Trainer, TrainerOptions
from softline._typing import Array, Differentiable, Layer

# Rows of a batch of the gradient descent before the first step, and fewest batches for it.
START_BATCH, START_BATCHES = 256, 32
# Number of rows from which the metric is estimated, and that number for each feature: the larger counts.
METRIC_ROWS, METRIC_ROWS_PER_FEATURE = 2048, 4
# Bytes of probabilities computed at a time.
CHUNK_BYTES = 4 << 20
# Newton's steps, of a Hessian that takes so many multiply-adds, take less time than those of L-BFGS from the
# start if a problem is small, with at most so many weights; with an L1 penalty larger ones do. Then they are
# also worth their time to make sure of the minimum, and up to the last limits where L-BFGS is slow.
SMALL_WEIGHTS, SMALL_HESSIAN = 256, 2e7
SMALL_WEIGHTS_OF_L1, SMALL_HESSIAN_OF_L1 = 384, 1e8
MOST_WEIGHTS, MOST_HESSIAN = 1024, 1e9
# Multiply-adds that take as long as what a step of L-BFGS costs beside its pass over a small problem.
PASS_OVERHEAD = 1e6
# With an L1 penalty a search goes by columns where there are fewer rows than features, or more weights than
# for the Hessian, and no more than so many products of a row's element and a class.
MOST_BY_COLUMNS = 8e6
# Largest penalty: under it, or any larger one, a weight is zero.
LARGEST_PENALTY = 1e150


class Objective:
    """Mean cross-entropy + sum(l2 * Z^2)/2 + sum(l1 * |Z|), as a function of Z = (W, b).

    Z is (C, D + 1); for two classes (1, D + 1), the log-odds of the second: the scores are -Z x/2 and Z x/2.
    It acts on features about their mean and in units of their deviation where that matters, see
    :meth:`ColumnStats.conditioning`; `expand` and `collapse` translate.

    Parameters
    ----------
    X : (N, D) Rows
    codes : (N,) int32 array
    sample_weight : (N,) array of X.dtype, or None
    n_classes : int
    l2, l1 : float
        Penalties on W; :attr:`SoftmaxClassifier.alpha` times 1 - l1_ratio, and times l1_ratio.
    intercept_penalty : float, default=0
        Share of these penalties (of l2; its root of l1) that is on b.
    fit_intercept : bool
    condition : bool, default=True
        Whether features may be centred and scaled.
    n_threads : int or None

    Attributes
    ----------
    X : (N, D) Rows
        As Z acts on them; float64 if the problem is small.
    result_dtype : dtype
        What holds the weights of the rows given: that of X, or float64 if offsets and scales are too much
        for float32.
    is_small, has_cheap_hessian, has_hessian : bool
        Whether Newton's steps are used from the start; to make sure of the minimum; where L-BFGS is slow.
    hessian_passes : float
        Cost of a step of Newton's, in those of L-BFGS.
    by_columns : bool
        Whether they go by coordinate descent, for sparse weights.
    """

    def __init__(
        self,
        X: Rows,
        codes: Array,
        sample_weight: Array | None,
        n_classes: int,
        *,
        l2: float,
        l1: float = 0.0,
        intercept_penalty: float = 0.0,
        fit_intercept: bool = True,
        condition: bool = True,
        n_threads: int | None = None,
    ) -> None:
        self.codes, self.n_classes = codes, n_classes
        self.fit_intercept, self.n_threads = fit_intercept, n_threads
        D = X.shape[1]
        self._set_size(len(X), D, l1 > 0)
        self.rows = np.arange(len(X)) if sample_weight is None else np.flatnonzero(sample_weight)
        self.precision = float(np.finfo(X.dtype).eps)
        dtype = np.dtype(np.float64) if self.is_small else X.dtype
        self.sample_weight = None if sample_weight is None else sample_weight.astype(dtype, copy=False)
        weight = None if sample_weight is None else sample_weight[self.rows]
        self.stats = ColumnStats(D)
        self.stats.update(X, self.rows, weight, n_threads)
        shift, scale, self.result_dtype = X.shift, X.scale, X.dtype
        centred = fit_intercept and intercept_penalty == 0
        harmless = self.stats.is_harmless(X.dtype)
        changes = condition and shift is None and scale is None and (self.is_small or not harmless)
        if changes:
            shift, scale = self.stats.conditioning(X, self.rows, weight, centred, n_threads)
            holds = self.stats.is_harmless(X.dtype, root=4)
            self.result_dtype = X.dtype if holds else np.dtype(np.float64)
        self.X = Rows(X.array, shift, scale, dtype)
        # In float64, but by the numbers that the kernels use, which are rounded to `dtype`.
        self._change = Rows(X.array, self.X.shift, self.X.scale, np.float64) if changes else None
        units: Any = 1.0 if self._change is None else self._change.scale
        units = np.broadcast_to(units, D)
        with np.errstate(over="ignore"):
            of_W = np.minimum(l2 * units * units, LARGEST_PENALTY), np.minimum(l1 * units, LARGEST_PENALTY)
        self.l2 = np.append(of_W[0], l2 * intercept_penalty)
        self.l1 = np.append(of_W[1], l1 * np.sqrt(intercept_penalty))
        self._W = _kernels.padded(n_classes, D, dtype)
        self._design_matrix: Array | None = None

    def _set_size(self, n: int, D: int, has_l1: bool) -> None:
        self.shape = (1 if self.n_classes == 2 else self.n_classes, D + 1)
        n_weights = self.shape[0] * (D + 1)
        pairs = self.shape[0] * (self.shape[0] + 1) / 2
        cost = n * pairs * (D + 1) ** 2 / 2  # half of a matrix for each pair of classes
        most, cheap = SMALL_WEIGHTS, SMALL_HESSIAN
        if has_l1:
            most, cheap = SMALL_WEIGHTS_OF_L1, SMALL_HESSIAN_OF_L1
        products = self.shape[0] * n * (D + 1)
        self.by_columns = has_l1 and (n <= D or n_weights > most) and products <= MOST_BY_COLUMNS
        self.is_small = self.by_columns or (n_weights <= most and cost <= cheap)
        self.has_hessian = self.by_columns or (n_weights <= MOST_WEIGHTS and cost <= MOST_HESSIAN)
        self.has_cheap_hessian = self.has_hessian and cost <= cheap
        self.hessian_passes = (cost + n_weights**3 / 6) / (2 * products + PASS_OVERHEAD)

    def restricted(self, features: Array) -> Objective:
        """Objective of the weights of `features` alone, where Z is (C, len(features) + 1)."""
        shift, scale = (None if a is None else a[features] for a in (self.X.shift, self.X.scale))
        X = Rows(np.ascontiguousarray(self.X.array[:, features]), shift, scale, self.X.dtype)
        columns = np.append(features, self.shape[1] - 1)
        return self.with_rows(X, self.l2[columns], self.l1[columns])

    def with_rows(self, X: Rows, l2: Array, l1: Array | None = None) -> Objective:
        """Objective of other features of the same rows."""
        other = copy.copy(self)
        other._set_size(len(X), X.shape[1], l1 is not None)
        dtype = np.dtype(np.float64) if other.is_small else X.dtype
        other.X = Rows(X.array, X.shift, X.scale, dtype)
        if self.sample_weight is not None:
            other.sample_weight = self.sample_weight.astype(dtype, copy=False)
        other.l2, other.l1 = l2, np.zeros(len(l2)) if l1 is None else l1
        other._W, other._design_matrix = _kernels.padded(self.n_classes, X.shape[1], dtype), None
        return other

    def expand(self, Z: Array) -> Layer:
        """Weights W (C, D) and b (C,) of Z, for the rows given; for two classes -Z/2 and Z/2."""
        W, b = self._layer(Z)
        return (W, b) if self._change is None else self._change.weights_for_array(W, b)

    def collapse(self, W: Array, b: Array) -> Array:
        """Z, float64, of W and b for the rows given; for two classes these have one row or two."""
        W, b = W.astype(float), b.astype(float)
        if self._change is not None:
            W, b = self._change.weights_from_array(W, b)
        return self._joined(W, b)

    def _joined(self, W: Array, b: Array) -> Array:
        """Z, float64, of W and b for the rows of `self.X`."""
        Z = np.column_stack([W, b]).astype(float)
        return Z[1:] - Z[:1] if len(Z) == 2 else Z

    def _layer(self, Z: Array) -> Layer:
        """Weights W (C, D) and b (C,) of Z, for the rows of `self.X`."""
        if self.n_classes == 2:
            Z = np.vstack([-Z / 2, Z / 2])
        return Z[:, :-1], Z[:, -1]

    def _weights(self, Z: Array) -> Layer:
        """Weights W and b of Z, as the kernels take them."""
        self._W[...], b = self._layer(Z)
        return self._W, b.astype(self.X.dtype)

    def _gradient(self, dW: Array, db: Array, Z: Array) -> Array:
        G = np.column_stack([dW, db])[-len(Z) :]
        G += self.l2 * Z
        if not self.fit_intercept:
            G[:, -1] = 0
        return G

    def __call__(self, Z: Array) -> tuple[float, Array]:
        """Value at Z, and the gradient of all but the L1 penalty, float64."""
        dW, db = np.empty((self.n_classes, self.shape[1] - 1)), np.empty(self.n_classes)
        loss = _kernels.loss_gradient(
            self.X, self.codes, self.sample_weight, *self._weights(Z), dW, db, self.n_threads
        )
        value = loss + np.sum(self.l2 * Z**2) / 2 + np.sum(self.l1 * np.abs(Z))
        return value, self._gradient(dW, db, Z)

    def pseudo_gradient(self, Z: Array, G: Array) -> Array:
        """Element of least size of the subdifferential at Z; zero if and only if Z is a minimum."""
        if not self.l1.any():
            return G
        return np.where(Z == 0, soft_threshold(G, self.l1), G + self.l1 * np.sign(Z))

    def duality_gap(self, Z: Array, value: float, G: Array) -> float:
        """How far the value at Z is above the minimum at most; G is the gradient there."""
        return _kernels.duality_gap(Z, value, G, self.l2, self.l1)

    def slope(self, Z: Array, G: Array, step: Array) -> float:
        """Slope at Z along a step that has led there; G is the gradient at Z."""
        l1 = self.l1 * np.where(Z == 0, -np.abs(step), np.sign(Z) * step)
        return dot(G, step) + float(np.sum(l1))

    def differentiable(self, Z: Array) -> Differentiable:
        """Parameters and gradient at Z for :mod:`softline.gradient_check`; the slope of |0| is 0."""
        columns = {"coef_": np.s_[:, :-1]} | ({"intercept_": np.s_[:, -1]} if self.fit_intercept else {})

        def evaluate() -> tuple[float, dict[str, Array]]:
            value, G = self(Z)
            G += self.l1 * np.sign(Z)
            return value, {name: G[of] for name, of in columns.items()}

        return {name: Z[of] for name, of in columns.items()}, evaluate

    def _probabilities(self, Z: Array, idx: Array) -> Array:
        """Probabilities of the classes at Z of the rows `idx`."""
        probs = np.empty((len(idx), self.n_classes), self.X.dtype)
        _kernels.scores(self.X, idx, *self._weights(Z), probs, self.n_threads)
        _kernels.softmax(probs, self.n_threads)
        return probs

    def _design(self) -> Array:
        """Rows with a column of ones for the intercept: (N, D + 1), float64; made once."""
        if self._design_matrix is None:
            n, D = self.X.shape
            self._design_matrix = _kernels.padded(n, D + 1, np.float64)
            self._design_matrix[:, :D], self._design_matrix[:, D] = self.X[:], float(self.fit_intercept)
        return self._design_matrix

    def curvature(self, Z: Array) -> Array:
        """Mean over the classes of p (1 - p) at Z, times the weight of the row: (N,) of X.dtype."""
        out = np.zeros(len(self.X), self.X.dtype)
        chunk = max(1, CHUNK_BYTES // (self.n_classes * self.X.dtype.itemsize))
        for first in range(0, len(self.rows), chunk):
            idx = self.rows[first : first + chunk]
            probs = self._probabilities(Z, idx)
            out[idx] = np.mean(probs * (1 - probs), axis=1)
        if self.sample_weight is not None:
            out *= self.sample_weight
        return out

    @property
    def sample_size(self) -> int:
        """Number of rows from which the metric is estimated."""
        return min(len(self.rows), max(METRIC_ROWS, METRIC_ROWS_PER_FEATURE * self.X.shape[1]))

    @property
    def metric_passes(self) -> float:
        """Cost of a metric, in evaluations of the objective."""
        return self.sample_size * self.X.shape[1] / (4 * len(self.rows) * self.n_classes)

    def hessian(self, Z: Array) -> ExactCurvature:
        """Hessian of the loss at Z."""
        probs = self._probabilities(Z, np.arange(len(self.X)))
        return ExactCurvature(
            self._design(), probs, self.sample_weight, self.l2, self.precision, self.n_threads
        )

    def metric(self, Z: Array, *, correlations: bool = True) -> AverageCurvature:
        """Average curvature over the classes at Z, or its diagonal."""
        sample = self.rows
        if self.sample_size < len(self.rows):
            sample = np.sort(np.random.RandomState(0).choice(self.rows, self.sample_size, replace=False))
        total = len(self.rows) if self.sample_weight is None else self.sample_weight.sum(dtype=float)
        return AverageCurvature(
            self.X,
            self.rows,
            sample,
            self.curvature(Z),
            float(total),
            self.l2,
            fit_intercept=self.fit_intercept,
            centred=self.fit_intercept and not self.l1[-1],
            correlations=correlations,
            keep_correlations=bool(self.l1.any()),
            n_threads=self.n_threads,
        )

    def first_guess(self) -> Array:
        """Start of a search: an epoch of gradient descent if that is many steps, else zero.

        No other pass over the data gains as much, and the metric at its end serves the whole search.
        """
        zero = np.zeros(self.shape)
        if self.is_small or len(self.rows) < START_BATCH * START_BATCHES:
            return zero
        samples = Samples(self.X, self.codes, self.sample_weight, self.rows)
        # Two classes have weights -Z/2 and Z/2: their squares sum to half those of Z.
        l2 = float(np.median(self.l2[:-1])) * (2 if self.n_classes == 2 else 1)
        options = TrainerOptions(
            "auto",
            batch_size=START_BATCH,
            l2=l2,
            fit_intercept=self.fit_intercept,
            n_threads=self.n_threads,
        )
        try:
            trainer = Trainer(
                [(np.zeros((self.n_classes, self.X.shape[1])), np.zeros(self.n_classes))],
                options,
                np.random.RandomState(0),
                self.X.dtype,
            )
            trainer.find_rate(samples, self.stats)
            [loss], _ = trainer.epochs(samples, 0)
        except ValueError:  # the features are too large to descend
            return zero
        return self._joined(*trainer.layers[0]) if loss < np.log(self.n_classes) else zero


def soft_threshold(Z: Array, by: Array | float) -> Array:
    """Z moved towards zero by `by`, and no further."""
    return np.sign(Z) * np.maximum(np.abs(Z) - by, 0)
