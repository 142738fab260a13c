"""Mini-batch gradient descent, epoch by epoch: what the estimators run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from softline import _kernels, optimizers, schedules, step_size
from softline._epoch import sgd_epoch
from softline._typing import Array, Layer
from softline.rows import Rows

# Python hears Ctrl-C only between calls to the kernels: an epoch of more flops than these, which take a tenth
# of a second or so, is several.
CALL_FLOPS = 2e10

# The automatic rate of mini-batches is lowered by LOWER after an epoch whose loss was RISEN times the least.
RISEN, LOWER = 1.01, 0.7
# Below this share of its first value it tells of rows that the steps could not follow.
LOW = 0.25

# Rows of which a pass over all of them holds the scores at a time.
ROWS_AT_ONCE = 8192


class DivergenceError(FloatingPointError, ValueError):
    """Training met a loss or a weight that is not finite; the estimator keeps the weights before it."""


def epoch_flops(n_rows: int, *sizes: int) -> int:
    """Floating-point operations of an epoch: the matrix products of layers of so many weights.

    They are scores and gradient of each layer, and the gradient of what goes into all but the first.
    """
    first, *others = sizes
    return n_rows * (4 * first + 6 * sum(others))


class Trainer:
    """Weights W (C, D) and b (C,), and the epochs that move them.

    Parameters
    ----------
    X : (N, D) Rows
    y : (N,) int32 array or (N, C) array
        Labels 0..C-1, or targets of the dtype of X.
    sample_weight : (N,) float array or None
    rows : (n,) int array
        The rows to train on.
    W, b : (C, D) and (C,) arrays
        Where to start; copied.
    alpha, l1_ratio, label_smoothing, clip_norm, max_norm, batch_size, fit_intercept, shuffle, n_threads
        As in :class:`softline.SoftmaxClassifier`, resolved.
    optimizer : Optimizer or str
    learning_rate : float or "auto"
    schedule : callable or str
    max_iter : int
        Epochs planned, for the schedule.
    rng : RandomState
    stats : ColumnStats or None
        Of the rows trained on, for "auto".
    auto : AutoStep or None
        What "auto" knows from earlier rows of a stream.
    past : State or None
        Of earlier rows of a stream, to go on from if it fits. Of an averaging optimizer it has the weights
        of the last step as `iterate`, for rows as they came, and W and b are their mean.
    mean_weight : float or None
        What sample weights are divided by; None for their mean over `rows`.

    Attributes
    ----------
    rate : float
        The learning rate before its schedule; "auto" lowers it where the loss of mini-batches rises.
    state : State
        What the optimizer remembers.
    after_batch : callable or None, default=None
        Called after each batch with its number (from 0), loss and learning rate; a true result ends the
        epoch. An epoch then takes a call for each batch, and gives the same bits.
    """

    def __init__(
        self,
        X: Rows,
        y: Array,
        sample_weight: Array | None,
        rows: Array,
        W: Array,
        b: Array,
        *,
        alpha: float,
        learning_rate: float | Literal["auto"],
        batch_size: int | None,
        max_iter: int,
        fit_intercept: bool,
        rng: np.random.RandomState,
        n_threads: int | None,
        l1_ratio: float = 0.0,
        label_smoothing: float = 0.0,
        clip_norm: float | None = None,
        max_norm: float | None = None,
        optimizer: str | optimizers.Optimizer = "sgd",
        schedule: str | schedules.Schedule = "constant",
        shuffle: bool = True,
        stats: Any = None,
        auto: step_size.AutoStep | None = None,
        past: optimizers.State | None = None,
        mean_weight: float | None = None,
    ) -> None:
        self.X, self.y, self.sample_weight, self.rows = X, y, sample_weight, rows
        self.W = _kernels.padded(W.shape[0], W.shape[1], X.dtype)
        self.W[...] = W
        self.b = b.astype(X.dtype)
        self.l2, self.l1, self.fit_intercept = alpha * (1 - l1_ratio), alpha * l1_ratio, fit_intercept
        self.optimizer = optimizer = optimizers.get(optimizer)
        self.state = optimizers.State(optimizer, self.W)
        if optimizer.averages:
            self.state.W[0], self.state.b[0] = self.W, self.b
        if past is not None and past.fits(self.state):
            if optimizer.averages:
                self.state.t = past.t
                self.W[...], self.b[...] = X.weights_from_array(*past.iterate)
            else:
                self.state.copy_from(past)
        if mean_weight is None and sample_weight is not None:
            mean_weight = float(sample_weight[rows].mean(dtype=float))
        self.options: dict[str, Any] = {
            "label_smoothing": label_smoothing,
            "clip_norm": clip_norm,
            "max_norm": max_norm,
            "mean_weight": mean_weight,
        }
        self.schedule, self.max_iter = schedules.get(schedule), max_iter
        self.after_batch: Callable[[int, float, float], object] | None = None
        self.batch_size = min(batch_size or len(rows), len(rows))
        self.shuffle, self.rng, self.n_threads = shuffle, rng, n_threads
        self.auto, self.shift, self.metric = None, None, None
        self.noisy, self.least_loss = False, np.inf
        if learning_rate != "auto":
            self.rate = learning_rate
        else:
            self.auto = auto or step_size.AutoStep()
            full_batch = auto is None and self.batch_size == len(rows)
            self.auto.observe(
                X, rows, self._weights(), stats, self.l2, fit_intercept, rng, n_threads, sample=not full_batch
            )
            if auto is None:
                self.auto.seen = None  # a stream alone goes on with them
            self.shift, self.metric = self.auto.shift, self.auto.metric
            n_rows = np.inf if auto else len(rows)
            noise = max(1 / self.batch_size - 1 / n_rows, 0)  # a full batch has none
            self.noisy = noise > 0
            change = optimizer.auto_change(1 / noise if noise > 0 else np.inf)
            curvatures = self.auto.curvature, self.auto.curvature_of_row
            stable = step_size.stable_rate(*curvatures, n_rows, self.batch_size)
            largest = step_size.largest_gradient(stable, len(b))
            self.options["clip_norm"] = min(clip_norm or np.inf, largest)
            if change is None:
                self.rate = self._stable_rate(*curvatures, n_rows)
            else:
                self.rate = step_size.rate_of_change(change, self.auto.length)
        self.first_rate = self.rate

    def _weights(self) -> Array | None:
        return None if self.sample_weight is None else self.sample_weight[self.rows]

    def _stable_rate(self, curvature: float, curvature_of_row: float, n_rows: float) -> float:
        momentum = getattr(self.optimizer, "momentum", 0.0)
        return step_size.stable_rate(curvature, curvature_of_row, n_rows, self.batch_size, momentum)

    def stable_rate(self) -> float:
        """The largest constant learning rate that is safe on these data."""
        with np.errstate(over="ignore", invalid="ignore"):
            curvature, curvature_of_row, _ = step_size.smoothness(
                self.X,
                self.rows,
                self._weights(),
                self.l2,
                None,
                None,
                self.fit_intercept,
                self.rng,
                self.n_threads,
            )
            return self._stable_rate(curvature, curvature_of_row, len(self.rows))

    @property
    def model(self) -> Layer:
        """The weights and the bias to predict with: those of the last step, or the mean of all."""
        return (self.state.W[0], self.state.b[0]) if self.optimizer.averages else (self.W, self.b)

    def copy_of_model(self) -> Layer:
        """A copy of them, for `restore`."""
        W, b = self.model
        return W.copy(), b.copy()

    def restore(self, W: Array, b: Array) -> None:
        """Make these the weights and the bias, of the model as of the next step."""
        for weights, bias in ((self.W, self.b), self.model):
            weights[...], bias[...] = W, b

    @property
    def flops(self) -> int:
        """Floating-point operations of an epoch."""
        return epoch_flops(len(self.rows), self.W.size)

    @property
    def penalty(self) -> float:
        """Of the weights of the next step."""
        with np.errstate(over="ignore"):
            squares = np.sum(np.square(self.W, dtype=float))
            return self.l2 / 2 * squares + (self.l1 and self.l1 * np.sum(np.abs(self.W), dtype=float))

    def epoch(self, epoch: int) -> tuple[float, float]:
        """Run epoch number `epoch` (from 0); return its loss and the seconds that the kernel took.

        The loss is the mean over the epoch, each batch before its update, and the penalty of the weights
        that the epoch began with: exact for full batches.

        Raises
        ------
        DivergenceError
            If a loss or a weight is not finite. Whatever is raised, W, b and state are as before the epoch.
        """
        order = self.rng.permutation(self.rows) if self.shuffle else self.rows
        n, B = len(order), self.batch_size
        times = epoch + np.arange(0, n, B) / n
        rates = self.rate * schedules.multipliers(self.schedule, times, self.max_iter)
        before = self.W.copy(), self.b.copy()
        state = optimizers.State(self.optimizer, self.W)
        state.copy_from(self.state)
        try:
            loss, seconds = self._epoch(order, rates, epoch)
        except BaseException:  # KeyboardInterrupt, too: the weights go with the history
            self.W[...], self.b[...] = before
            self.state.copy_from(state)
            raise
        if self.noisy and loss > RISEN * self.least_loss:
            self.rate *= LOWER
        self.least_loss = min(loss, self.least_loss)
        return loss, seconds

    def _epoch(self, order: Array, rates: Array, epoch: int) -> tuple[float, float]:
        B = self.batch_size
        penalty = self.penalty
        start = time.perf_counter()
        penalties = np.full(len(rates), penalty)
        losses = batch_losses(self._descend, order, rates, B, penalties, self.flops, self.after_batch)
        seconds = time.perf_counter() - start
        finite = np.isfinite(losses)
        if not (finite.all() and np.isfinite(self.W).all() and np.isfinite(self.b).all()):
            bad = losses[~finite]
            what = f"the loss became {bad[0]}" if bad.size else "a weight became infinite"
            raise DivergenceError(f"{what} in epoch {epoch + 1}: {self.advice()}")
        return mean_loss(losses, len(order), B), seconds

    def _descend(self, order: Array, rates: Array) -> Array:
        return sgd_epoch(
            self.X,
            self.y,
            self.sample_weight,
            order,
            self.W,
            self.b,
            rates,
            self.batch_size,
            self.l2,
            self.shift,
            self.metric,
            self.fit_intercept,
            self.n_threads,
            optimizer=self.optimizer,
            state=self.state,
            l1=self.l1,
            **self.options,
        )

    def disturbance(self, tolerated: float) -> str:
        """What to say if long rows have kept the rate low, and the loss `tolerated` above its least."""
        if self.rate > LOW * self.first_rate or (excess := self.excess()) <= tolerated:
            return ""
        return (
            f"the loss may be {excess:.2g} above its least: some rows are so much longer than the others "
            f"that learning_rate='auto' went down from {self.first_rate:.2g} to {self.rate:.2g}. Clip or "
            "transform the features that make them long (for example with PowerTransformer), or pass "
            "solver='lbfgs'."
        )

    def excess(self) -> float:
        """Roughly how far the loss is above its least: half the Newton decrement, feature by feature.

        The curvature of a feature is that of all classes together, no less than that of one.
        """
        X, (W, b), n_classes = self.X, self.model, len(self.b)
        smoothing, weight = self.options["label_smoothing"], self._weights()
        share = np.ones(len(self.rows)) if weight is None else weight.astype(float)
        share /= share.sum()
        shift = np.zeros(X.shape[1]) if self.shift is None else self.shift.astype(float)
        dW, db, curvature, curvature_b = np.zeros(W.shape), np.zeros(n_classes), np.zeros(X.shape[1]), 0.0
        for first in range(0, len(self.rows), ROWS_AT_ONCE):
            some = slice(first, first + ROWS_AT_ONCE)
            rows, shares = self.rows[some], share[some, None]
            probs = np.empty((len(rows), n_classes), X.dtype)
            _kernels.scores(X, rows, W, b, probs, self.n_threads)
            _kernels.softmax(probs, self.n_threads)
            targets = self.y[rows] if self.y.ndim == 2 else np.eye(n_classes)[self.y[rows]]
            targets = (1 - smoothing) * targets + smoothing / n_classes
            g, sums = np.empty(W.shape, X.dtype), np.empty(n_classes, X.dtype)
            dscores = (shares * (probs - targets)).astype(X.dtype)
            _kernels.gradient(X, rows, dscores, g, sums, self.n_threads)
            dW, db = dW + g, db + sums
            curved = np.sum(shares * probs * (1 - probs), axis=1)
            if curved.any():
                mean, squares, _, _ = _kernels.column_stats(X, rows, curved.astype(X.dtype), self.n_threads)
                curvature += squares + curved.sum() * (mean - shift) ** 2
                curvature_b += curved.sum()
        dW += self.l2 * W - db[:, None] * shift
        # Of the penalty's subgradients the one that leaves least: where weights are 0 it takes what it can.
        dW = np.where(W != 0, dW + self.l1 * np.sign(W), np.sign(dW) * np.maximum(np.abs(dW) - self.l1, 0))
        curvature += self.l2
        decrement = np.sum(np.divide(dW**2, curvature, where=curvature > 0, out=np.zeros(dW.shape)))
        if self.fit_intercept and curvature_b > 0:
            decrement += np.sum(db**2) / curvature_b
        return float(decrement / 2)

    def advice(self) -> str:
        """What is wrong with the learning rate, and which would do."""
        if self.optimizer.auto_change(self.batch_size):  # no curvature makes such steps unstable
            return (
                f"learning_rate={self.rate:.3g} is too large for these data. A smaller one helps; "
                "learning_rate='auto' finds one by itself."
            )
        stable = self.stable_rate()
        if self.auto is not None or self.rate <= 1.05 * stable:  # as rounded below
            return (
                f"learning_rate={self.rate:.3g} suits these data, but batches of {self.batch_size} are too "
                "noisy for it, or the schedule raises it; raise batch_size, or let the schedule lower it."
            )
        wrong = f"learning_rate={self.rate:.3g} is too large for these data. "
        if not stable > 0:
            return wrong + "The features are too large for any; scale them (for example with StandardScaler)."
        return wrong + f"Up to {stable:.2g} is stable; learning_rate='auto' finds one by itself."

    def accuracy(self, X: Rows, rows: Array, codes: Array) -> float:
        """Share of X[rows] whose largest score is that of codes[rows]; no copy of X is made."""
        W, b = self.model
        block = max(256, (4 << 20) // b.nbytes)
        hits = 0
        for first in range(0, len(rows), block):
            idx = rows[first : first + block]
            out = np.empty((len(idx), len(b)), b.dtype)
            _kernels.scores(X, idx, W, b, out, self.n_threads)
            hits += np.count_nonzero(out.argmax(axis=1) == codes[idx])
        return float(hits / len(rows))


def batch_losses(
    descend: Callable[[Array, Array], Array],
    order: Array,
    rates: Array,
    batch_size: int,
    penalties: Array,
    flops: int,
    after_batch: Callable[[int, float, float], object] | None,
) -> Array:
    """Losses of an epoch's batches, each before its update and with its penalty; fewer if it is ended early.

    Parameters
    ----------
    descend : callable
        Trains on rows, given their numbers and the learning rate of each batch; returns losses without
        penalty.
    order : (n,) int array
    rates, penalties : (number of batches,) float arrays
    batch_size : int
    flops : int
        Of the whole epoch, which is one call of `descend` unless they are many.
    after_batch : callable or None
        See :class:`Trainer`. With it there is a call of `descend` for each batch, to come back in between.
    """
    if after_batch is None:
        n = math.ceil(len(rates) / math.ceil(flops / CALL_FLOPS))  # batches of a call
        return penalties + np.concatenate(
            [
                descend(order[first * batch_size : (first + n) * batch_size], rates[first : first + n])
                for first in range(0, len(rates), n)
            ]
        )
    losses = []
    for batch, rate in enumerate(rates):
        rows = order[batch * batch_size : (batch + 1) * batch_size]
        (loss,) = descend(rows, rates[batch : batch + 1])
        losses.append(penalties[batch] + loss)
        if after_batch(batch, losses[-1], rate):
            break
    return np.array(losses)


def mean_loss(losses: Array, n_rows: int, batch_size: int) -> float:
    """The mean over the rows of losses of batches: the first ones of an epoch of `n_rows`."""
    sizes = np.full(len(losses), batch_size)
    sizes[-1] = min(n_rows, batch_size * len(losses)) - batch_size * (len(losses) - 1)
    return float(np.sum(losses * sizes) / sizes.sum())  # not by BLAS, whose bits depend on its threads
