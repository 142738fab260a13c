"""Mini-batch gradient descent on a linear model or a network, epoch by epoch: what the estimators run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from softline import _kernels, optimizers, schedules
from softline._kernels.rows import Rows, Samples
from softline._training import step_size
from softline._training.column_stats import ColumnStats
from softline._typing import Activation, Array, Layer

if TYPE_CHECKING:
    from softline._training.fit_loop import StoppingRule

# Python hears Ctrl-C only between calls to the kernels: an epoch of more flops than these, which take a tenth
# of a second or so, is several.
CALL_FLOPS = 2e10

# The automatic rate of mini-batches is lowered by LOWER after an epoch whose loss was RISEN times the least.
RISEN, LOWER = 1.01, 0.7
# Below this share of its first value it tells of rows that the steps could not follow.
LOW = 0.25

# Epochs, and their flops, that are run without a look at their losses: small ones take less time than Python
# between them, and a few may turn out to be in vain. Beyond the first epoch after which a fit may end, only
# so few flops that they take no longer than a call.
MOST_AT_ONCE = 32
FLOPS_AT_ONCE = 4e7
FLOPS_IN_VAIN = 1e6

# Rows of which a pass over all of them holds the scores at a time, and bytes of scores where rows are judged.
ROWS_AT_ONCE = 8192
SCORES_BYTES = 4 << 20


class DivergenceError(FloatingPointError, ValueError):
    """Training met a loss or a weight that is not finite; the estimator keeps the weights before it."""


def epoch_flops(n_rows: int, *sizes: int) -> int:
    """Floating-point operations of an epoch: the matrix products of layers with these numbers of weights.

    They are scores and gradient of each layer, and the gradient of what goes into all but the first.
    """
    first, *others = sizes
    return n_rows * (4 * first + 6 * sum(others))


@dataclass(frozen=True)
class TrainerOptions:
    """How a trainer steps, whatever rows it steps on.

    Attributes
    ----------
    learning_rate : float or "auto"
    optimizer : Optimizer
    schedule : callable
    max_iter : int
        Epochs planned, for the schedule.
    batch_size : int or None
        Rows of a step; None for all.
    l2, l1 : float
        Penalties on the weights.
    penalty_of_batch : bool
        Whether `l2` and `l1` are divided by the weight of each batch, as `alpha` of scikit-learn's
        MLPClassifier is.
    label_smoothing, clip_norm, max_norm, fit_intercept, shuffle, n_threads
        As in :class:`softline.SoftmaxClassifier`.
    reshuffle : bool
        Whether an epoch shuffles the order of the one before, as in scikit-learn's MLPClassifier, instead of
        the order of the rows.
    activation : str or None
        Of the hidden layers of a network; None for a linear model.
    dropout : float
        As in :class:`softline.neural_network.MLPClassifier`.
    """

    learning_rate: float | Literal["auto"]
    optimizer: optimizers.Optimizer = optimizers.BY_NAME["sgd"]
    schedule: schedules.Schedule = schedules.BY_NAME["constant"]
    max_iter: int = 1
    batch_size: int | None = None
    l2: float = 0.0
    l1: float = 0.0
    penalty_of_batch: bool = False
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    max_norm: float | None = None
    fit_intercept: bool = True
    shuffle: bool = True
    reshuffle: bool = False
    activation: Activation | None = None
    dropout: float = 0.0
    n_threads: int | None = None

    def batch_of(self, n_rows: int) -> int:
        """Rows of a step where there are `n_rows`."""
        return min(self.batch_size or n_rows, n_rows)


class Seen:
    """Counts of the rows that a fit, or a stream of rows, has weighed.

    Attributes
    ----------
    n_rows : int
        Rows of a weight above 0.
    weight : float
        Sum of their weights.
    of_classes : (C,) array
        Sums of the sample weights of each class, if "balanced" class weights need them.
    """

    def __init__(self, n_classes: int) -> None:
        self.n_rows, self.weight, self.of_classes = 0, 0.0, np.zeros(n_classes)

    @property
    def mean_weight(self) -> float:
        return self.weight / self.n_rows


class Stream:
    """What training on a stream of rows goes on from, call by call.

    Attributes
    ----------
    stats : ColumnStats
        Of the features of all rows so far.
    seen : Seen
        Counts of the rows and their weights.
    auto : AutoStep or None
        What ``learning_rate="auto"`` has learned.
    states : list of State
        What the optimizer remembers of each layer; an averaging one also the last step's weights, `iterate`,
        for rows as they came.
    rate : float or None
        The learning rate.
    """

    def __init__(self, n_features: int, n_classes: int) -> None:
        self.stats, self.seen = ColumnStats(n_features), Seen(n_classes)
        self.auto: step_size.AutoStep | None = None
        self.states: list[optimizers.State] = []
        self.rate: float | None = None

    def remember(self, trainer: Trainer, X: Rows) -> None:
        """Go on from where a trainer is, on rows standardised as X is."""
        self.states, self.rate = trainer.states, float(trainer.rate)
        if trainer.options.optimizer.averages:
            for state, layer in zip(self.states, X.layers_for_array(trainer.layers), strict=True):
                state.iterate = layer


@dataclass(frozen=True)
class BatchNumbers:
    """Numbers of each batch of some epochs, one after the other, as the kernels take them.

    Attributes
    ----------
    rows, alphas, l1s, scales : (number of batches,) arrays
    """

    rows: Array
    alphas: Array
    l1s: Array
    scales: Array


class Trainer:
    """Layers of weights, W (n_out, n_in) and b (n_out,), and the epochs that move them.

    Parameters
    ----------
    layers : list of (W, b)
        Where to start; copied.
    options : TrainerOptions
    rng : RandomState
        Orders the rows and draws dropout.
    dtype : dtype
        What is computed in.

    Attributes
    ----------
    states : list of State
        What the optimizer remembers of each layer.
    rate : float
        The learning rate before its schedule; "auto" lowers it where the loss of mini-batches rises.
    after_batch : callable or None, default=None
        Called after each batch with its number (from 0), loss and learning rate; a true result ends the
        epoch. An epoch then takes a call to the kernels for each batch, and gives the same bits.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        options: TrainerOptions,
        rng: np.random.RandomState,
        dtype: np.dtype[Any],
    ) -> None:
        self.options, self.rng = options, rng
        self.layers = [(_kernels.padded(W.shape[0], W.shape[1], dtype), b.astype(dtype)) for W, b in layers]
        _write(self.layers, layers)
        self.states = [optimizers.State(options.optimizer, W) for W, _ in self.layers]
        if options.optimizer.averages:
            for state, (W, b) in zip(self.states, self.layers, strict=True):
                state.W[0], state.b[0] = W, b
        self.rate = self.first_rate = np.nan if options.learning_rate == "auto" else options.learning_rate
        self.clip_norm = options.clip_norm
        self.shift: Array | None = None
        self.metric: Array | None = None
        self.noisy, self.least_loss = False, np.inf
        self.seed = int(rng.randint(2**32, dtype=np.uint32)) if options.dropout > 0 else 0
        self.arena = _kernels.Arena()
        self.at_once = MOST_AT_ONCE  # epochs, fewer after the rate had to be lowered
        self.runs_together = options.schedule in schedules.BY_NAME.values()
        self.numbers: dict[tuple[int, int], BatchNumbers] = {}
        self.last_order: Array | None = None
        self.after_batch: Callable[[int, float, float], object] | None = None

    def resume(self, states: Sequence[optimizers.State], X: Rows) -> None:
        """Go on with what the optimizer remembers of a stream, if it fits, on rows standardised as X is."""
        if len(states) != len(self.states) or not all(map(optimizers.State.fits, states, self.states)):
            return
        mean = self.copy_of_model()
        for state, past in zip(self.states, states, strict=True):
            state.copy_from(past)
        if self.options.optimizer.averages:  # the mean was kept for rows as they came, as the last step was
            _write(self.model, mean)
            _write(self.layers, X.layers_from_array([past.iterate for past in states]))

    def find_rate(
        self, samples: Samples, stats: ColumnStats, stream: step_size.AutoStep | None = None
    ) -> step_size.AutoStep:
        """Find the rate and the geometry that ``learning_rate="auto"`` stands for; return what is known now.

        `stats` are of these rows as they came or, with what earlier rows of a `stream` have taught, of all of
        its rows.
        """
        options, n = self.options, len(samples)
        auto, batch_size = stream or step_size.AutoStep(), options.batch_of(n)
        sample = stream is not None or batch_size < n
        auto.observe(samples, stats, options.l2, options.fit_intercept, self.rng, options.n_threads, sample)
        if stream is None:
            auto.seen = None  # a stream alone goes on with them
        self.shift, self.metric = auto.shift, auto.metric
        n_rows = n if stream is None else np.inf
        noise = max(1 / batch_size - 1 / n_rows, 0)  # a full batch has none
        self.noisy = noise > 0
        curvatures = auto.curvature, auto.curvature_of_row
        stable = step_size.stable_rate(*curvatures, n_rows, batch_size)
        largest = step_size.largest_gradient(stable, len(self.layers[-1][1]))
        self.clip_norm = min(options.clip_norm or np.inf, largest)
        change = options.optimizer.auto_change(1 / noise if noise > 0 else np.inf)
        if change is None:
            self.rate = self._stable_rate(*curvatures, n_rows, batch_size)
        else:
            self.rate = step_size.rate_of_change(change, auto.length)
        self.first_rate = self.rate
        return auto

    def _stable_rate(
        self, curvature: float, curvature_of_row: float, n_rows: float, batch_size: int
    ) -> float:
        momentum = getattr(self.options.optimizer, "momentum", 0.0)
        return step_size.stable_rate(curvature, curvature_of_row, n_rows, batch_size, momentum)

    @property
    def model(self) -> list[Layer]:
        """The layers to predict with: those of the last step, or their means over all steps."""
        if self.options.optimizer.averages:
            return [(state.W[0], state.b[0]) for state in self.states]
        return self.layers

    @property
    def finite(self) -> bool:
        """Whether all weights are finite."""
        layers = [*self.layers, *self.model] if self.options.optimizer.averages else self.layers
        return all(all_finite(a) for layer in layers for a in layer)

    def copy_of_model(self) -> list[Layer]:
        """Copies of the layers to predict with, for `restore`."""
        return [(W.copy(), b.copy()) for W, b in self.model]

    def restore(self, layers: Sequence[Layer]) -> None:
        """Make these the layers, of the model as of the next step."""
        _write(self.layers, layers)
        _write(self.model, layers)

    def epochs(
        self, samples: Samples, first: int, most: int = 1, rule: StoppingRule | None = None
    ) -> tuple[list[float], float]:
        """Run up to `most` epochs, from number `first` (from 0); return their losses, and seconds for each.

        They are fewer if they take long, if the learning rate is lowered after one of them, or if a `rule` of
        their losses ends the fit. The loss is the mean over an epoch, each batch before its update, and the
        penalty of the weights that the epoch began with: exact for full batches. The seconds are those of
        the kernels.

        Raises
        ------
        DivergenceError
            If a loss or a weight of the first epoch is not finite. Whatever is raised, layers and states are
            as before.
        """
        rate, count = self.rate, self._count(samples, most, rule)
        go_back = self._way_back(count)
        try:
            losses, seconds = self._batches(samples, first, count)
            well = all_finite(losses) and self.finite
            if not well and count == 1:
                bad = losses[~np.isfinite(losses)]
                what = f"the loss became {bad[0]}" if bad.size else "a weight became infinite"
                raise DivergenceError(f"{what} in epoch {first + 1}: {self.advice(samples)}")
        except BaseException:  # KeyboardInterrupt, too: the weights go with the history
            go_back()
            raise
        # Means not by BLAS, whose bits depend on its threads.
        sizes = self._numbers(samples, 1).rows[: len(losses)]
        means = (np.add.reduce(losses.reshape(count, -1) * sizes, axis=1) / np.add.reduce(sizes)).tolist()
        done = self._follow(means) if well else 1
        if rule is not None and count > 1:
            done = min(done, rule.epochs_to_end(means))
        if done < count:  # the others would have been at another rate, or are not wanted
            go_back()
            self.at_once = done
            return self.epochs(samples, first, done)
        self.at_once = 1 if self.rate < rate else max(self.at_once, 2 * count)
        return means, seconds / count

    def _count(self, samples: Samples, most: int, rule: StoppingRule | None) -> int:
        """Number of epochs, up to `most`, that are run without a look at their losses."""
        if most == 1 or self.after_batch is not None or not self.runs_together:
            return 1
        flops = epoch_flops(len(samples), *(W.size for W, _ in self.layers))
        if rule is not None:
            most = min(most, max(rule.epochs_left, FLOPS_IN_VAIN // flops))
        return int(max(1, min(most, self.at_once, MOST_AT_ONCE, min(FLOPS_AT_ONCE, CALL_FLOPS) // flops)))

    def _way_back(self, count: int) -> Callable[[], None]:
        """Function that undoes `count` epochs; what one has drawn at random, it leaves drawn."""
        layers = [(W.copy(), b.copy()) for W, b in self.layers]
        states = [(state.t, state.W.copy(), state.b.copy()) for state in self.states]
        rate, least_loss, last_order = self.rate, self.least_loss, self.last_order
        drawn = self.rng.get_state(legacy=False) if count > 1 and self.options.shuffle else None

        def go_back() -> None:
            _write(self.layers, layers)
            for state, (t, W, b) in zip(self.states, states, strict=True):
                state.t, state.W[...], state.b[...] = t, W, b
            self.rate, self.least_loss, self.last_order = rate, least_loss, last_order
            if drawn is not None:
                self.rng.set_state(drawn)

        return go_back

    def _follow(self, losses: list[float]) -> int:
        """Lower the rate after the first epoch whose loss has risen; return the number of epochs to it."""
        for done, loss in enumerate(losses, 1):
            risen = self.noisy and loss > RISEN * self.least_loss
            self.least_loss = min(loss, self.least_loss)
            if risen:
                self.rate *= LOWER
                return done
        return len(losses)

    def _numbers(self, samples: Samples, count: int) -> BatchNumbers:
        """Numbers of the batches of `count` epochs; with `penalty_of_batch`, for batches of weight 1."""
        n, options = len(samples), self.options
        if (n, count) not in self.numbers:
            batch_size = options.batch_of(n)
            rows = np.tile(np.minimum(batch_size, np.arange(n, 0, -batch_size)), count)
            alphas, l1s = np.full(len(rows), float(options.l2)), np.full(len(rows), float(options.l1))
            scales = samples.X.dtype.type(1 / (samples.mean_weight or 1)) / rows.astype(samples.X.dtype)
            self.numbers[n, count] = BatchNumbers(rows, alphas, l1s, scales)
        return self.numbers[n, count]

    def _next_orders(self, rows: Array, count: int) -> Array:
        """Orders of the rows of the next epochs, one after the other."""
        orders = np.repeat(rows[None], count, axis=0)
        for order in orders if self.options.shuffle else ():
            if self.options.reshuffle and self.last_order is not None:
                order[:] = self.last_order
            self.rng.shuffle(order)
            self.last_order = order
        return orders.ravel()

    def _rates(self, n_rows: int, first: int, count: int) -> Array:
        """Learning rates of the batches of epochs."""
        options = self.options
        starts = np.arange(0, n_rows, options.batch_of(n_rows)) / n_rows
        if options.schedule == schedules.BY_NAME["constant"]:
            return np.full(count * len(starts), self.rate)
        times = np.add.outer(np.arange(first, first + count), starts).ravel()
        return self.rate * schedules.multipliers(options.schedule, times, options.max_iter)

    def _batches(self, samples: Samples, first: int, count: int) -> tuple[Array, float]:
        """Losses of the batches of epochs, with the penalty, fewer if one is ended early; and the seconds."""
        options, n, dtype = self.options, len(samples), samples.X.dtype
        batch_size, order = options.batch_of(n), self._next_orders(samples.rows, count)
        rates, numbers = self._rates(n, first, count), self._numbers(samples, count)
        if options.penalty_of_batch:
            totals = batch_weights(samples.row_weight, order, batch_size, count)
            scales = (1 / totals).astype(dtype)
            numbers = BatchNumbers(numbers.rows, numbers.alphas / totals, numbers.l1s / totals, scales)
        sizes = [W.size for W, _ in self.layers]
        starts = np.empty((count, sum(sizes)), self.layers[0][0].dtype)
        n_calls = len(rates)
        if self.after_batch is None:
            n_calls = math.ceil(epoch_flops(len(order), *sizes) / CALL_FLOPS)
        n_batches = math.ceil(len(rates) / n_calls)  # of a call
        losses = []
        start = time.perf_counter()
        for batch in range(0, len(rates), n_batches):
            some = slice(batch, batch + n_batches)
            rows = order if n_calls == 1 else order[some.start * batch_size : some.stop * batch_size]
            found = self._descend(samples, rows, rates[some], numbers, some, starts)
            if batch == 0:
                penalties = np.repeat(self._penalties(starts), len(rates) // count)
                if options.penalty_of_batch:
                    penalties /= totals
            losses.append(penalties[some] + found)
            if self.after_batch is not None and self.after_batch(batch, losses[-1][0], rates[batch]):
                break
        seconds = time.perf_counter() - start
        return losses[0] if n_calls == 1 else np.concatenate(losses), seconds

    def _penalties(self, starts: Array) -> Array:
        """Penalties of weights, those of all layers in each row of `starts`."""
        l2, l1, at = self.options.l2, self.options.l1, 0
        squares = sizes = np.zeros(len(starts))
        with np.errstate(over="ignore"):
            for W, _ in self.layers:
                of_layer = starts[:, at : at + W.size]
                at += W.size
                squares = squares + np.add.reduce(np.square(of_layer, dtype=float), axis=1)
                if l1:
                    sizes = sizes + np.array([np.sum(np.abs(weights), dtype=float) for weights in of_layer])
        return l2 / 2 * squares + l1 * sizes if l1 else l2 / 2 * squares

    def _descend(
        self,
        samples: Samples,
        order: Array,
        rates: Array,
        numbers: BatchNumbers,
        some: slice,
        starts: Array,
    ) -> Array:
        """Step on some of the batches; return the loss of each before its step, without penalty.

        They are of an epoch for each row of `starts`, which becomes its first weights.
        """
        options = self.options
        return _kernels.epoch(
            samples.X,
            samples.y,
            samples.row_weight,
            order,
            self.layers,
            rates,
            options.batch_of(len(samples)),
            numbers.alphas[some],
            numbers.scales[some],
            options.n_threads,
            loss=loss_of(samples.y),
            label_smoothing=options.label_smoothing,
            optimizer=options.optimizer,
            states=self.states,
            l1s=numbers.l1s[some],
            clip_norm=self.clip_norm,
            max_norm=options.max_norm,
            shift=self.shift,
            metric=self.metric,
            fit_intercept=options.fit_intercept,
            activation=options.activation or "identity",
            dropout=options.dropout,
            seed=self.seed,
            starts=starts,
            arena=self.arena,
        )

    def accuracy(self, samples: Samples) -> float:
        """Share of the rows that the model gives the right class, or all the right ones; X is not copied."""
        X, y, activation, n_threads = samples.X, samples.y, self.options.activation, self.options.n_threads
        layers, hits = self.model, 0
        n_outputs = len(layers[-1][1])
        block = max(256, SCORES_BYTES // (8 * n_outputs))
        for first in range(0, len(samples), block):
            idx = samples.rows[first : first + block]
            scores = np.empty((len(idx), n_outputs), X.dtype)
            if activation is None:
                _kernels.scores(X, idx, *layers[0], scores, n_threads)
            else:
                _kernels.network_scores(X, idx, layers, activation, scores, n_threads)
            truth = y[idx].argmax(axis=1) if y.dtype.kind == "f" else y[idx]
            one = truth.ndim == 1  # label a row
            right = scores.argmax(axis=1) == truth if one else ((scores > 0) == truth).all(axis=1)
            hits += np.count_nonzero(right)
        return float(hits / len(samples))

    def disturbance(self, samples: Samples, tolerated: float) -> str:
        """What to say if long rows have kept the rate low, and the loss `tolerated` above its least."""
        if self.rate > LOW * self.first_rate or (excess := self.excess(samples)) <= tolerated:
            return ""
        return (
            f"the loss may be {excess:.2g} above its least: some rows are so much longer than the others "
            f"that learning_rate='auto' went down from {self.first_rate:.2g} to {self.rate:.2g}. Clip or "
            "transform the features that make them long (for example with PowerTransformer), or pass "
            "solver='lbfgs'."
        )

    def excess(self, samples: Samples) -> float:
        """Roughly how far the loss is above its least: half the Newton decrement, feature by feature.

        The curvature of a feature is that of all classes together, no less than that of one.
        """
        options, X, y, [(W, b)] = self.options, samples.X, samples.y, self.model
        l1, l2, smoothing, n_threads = options.l1, options.l2, options.label_smoothing, options.n_threads
        n_classes, weight = len(b), samples.weights
        share = np.ones(len(samples)) if weight is None else weight.astype(float)
        share /= share.sum()
        shift = np.zeros(X.shape[1]) if self.shift is None else self.shift.astype(float)
        dW, db, curvature, curvature_b = np.zeros(W.shape), np.zeros(n_classes), np.zeros(X.shape[1]), 0.0
        for first in range(0, len(samples), ROWS_AT_ONCE):
            some = slice(first, first + ROWS_AT_ONCE)
            rows, shares = samples.rows[some], share[some, None]
            probs = np.empty((len(rows), n_classes), X.dtype)
            _kernels.scores(X, rows, W, b, probs, n_threads)
            _kernels.softmax(probs, n_threads)
            targets = y[rows] if y.ndim == 2 else np.eye(n_classes)[y[rows]]
            targets = (1 - smoothing) * targets + smoothing / n_classes
            g, sums = np.empty(W.shape, X.dtype), np.empty(n_classes, X.dtype)
            dscores = (shares * (probs - targets)).astype(X.dtype)
            _kernels.gradient(X, rows, dscores, g, sums, n_threads)
            dW, db = dW + g, db + sums
            curved = np.sum(shares * probs * (1 - probs), axis=1)
            if curved.any():
                mean, squares, _, _ = _kernels.column_stats(X, rows, curved.astype(X.dtype), n_threads)
                curvature += squares + curved.sum() * (mean - shift) ** 2
                curvature_b += curved.sum()
        dW += l2 * W - db[:, None] * shift
        # Of the penalty's subgradients the one that leaves least: where weights are 0 it takes what it can.
        dW = np.where(W != 0, dW + l1 * np.sign(W), np.sign(dW) * np.maximum(np.abs(dW) - l1, 0))
        curvature += l2
        decrement = np.sum(np.divide(dW**2, curvature, where=curvature > 0, out=np.zeros(dW.shape)))
        if options.fit_intercept and curvature_b > 0:
            decrement += np.sum(db**2) / curvature_b
        return float(decrement / 2)

    def stable_rate(self, samples: Samples) -> float:
        """The largest constant learning rate that is safe on these rows."""
        options, n = self.options, len(samples)
        with np.errstate(over="ignore", invalid="ignore"):
            curvature, curvature_of_row, _ = step_size.smoothness(
                samples, options.l2, None, None, options.fit_intercept, self.rng, options.n_threads
            )
            return self._stable_rate(curvature, curvature_of_row, n, options.batch_of(n))

    def advice(self, samples: Samples) -> str:
        """What is wrong with the learning rate, and which would do."""
        too_large = f"={self.rate:.3g} is too large for these data. "
        if self.options.activation is not None:
            return f"learning_rate_init{too_large}A smaller one helps, and so does standardize=True."
        wrong, by_itself = f"learning_rate{too_large}", "learning_rate='auto' finds one by itself."
        batch_size = self.options.batch_of(len(samples))
        if self.options.optimizer.auto_change(batch_size):  # no curvature makes such steps unstable
            return f"{wrong}A smaller one helps; {by_itself}"
        stable = self.stable_rate(samples)
        if self.options.learning_rate == "auto" or self.rate <= 1.05 * stable:  # as rounded below
            return (
                f"learning_rate={self.rate:.3g} suits these data, but batches of {batch_size} are too "
                "noisy for it, or the schedule raises it; raise batch_size, or let the schedule lower it."
            )
        if not stable > 0:
            return wrong + "The features are too large for any; scale them (for example with StandardScaler)."
        return f"{wrong}Up to {stable:.2g} is stable; {by_itself}"


def all_finite(a: Array) -> bool:
    """Whether all elements are finite; by ufuncs, because `all` of a small array costs more."""
    return bool(np.logical_and.reduce(np.isfinite(a), axis=None))


def loss_of(y: Array) -> Literal["cross_entropy", "outputs"]:
    """What is minimised, as the kernels name it: 0 or 1 for each output is a class by itself."""
    return "outputs" if y.ndim == 2 and y.dtype.kind == "i" else "cross_entropy"


def batch_weights(row_weight: Array | None, order: Array, batch_size: int, n_epochs: int = 1) -> Array:
    """Sums of the weights of the rows of each batch of epochs; without weights, the numbers of its rows.

    Raises
    ------
    ValueError
        If a sum is not positive.
    """
    weight = np.ones(len(order)) if row_weight is None else row_weight[order].astype(float)
    n = len(order) // n_epochs
    totals = np.add.reduceat(
        weight, np.add.outer(np.arange(n_epochs) * n, np.arange(0, n, batch_size)).ravel()
    )
    if not (totals > 0).all():
        batch = int(np.argmin(totals > 0))
        raise ValueError(
            f"sample_weight must have a positive sum in each batch; in batch {batch} it is {totals[batch]}"
        )
    return totals


def _write(layers: Sequence[Layer], new: Sequence[Layer]) -> None:
    """Copy the weights of new layers into these."""
    for (W, b), (new_W, new_b) in zip(layers, new, strict=True):
        W[...], b[...] = new_W, new_b
