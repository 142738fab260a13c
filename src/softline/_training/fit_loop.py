"""The fit loop: stopping, history, validation, callbacks, progress and Ctrl-C; and epochs of a stream."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from softline._kernels.rows import Rows, Samples
from softline._training.column_stats import ColumnStats
from softline._training.hooks import Batch, CallbackSupportMixin, Epoch, IterationHooks
from softline._training.step_size import AutoStep
from softline._training.trainer import Stream, Trainer, TrainerOptions
from softline._typing import Array, EvalSet, Layer

if TYPE_CHECKING:
    from softline._training.progress import EpochProgress

# Warning of a fit that Ctrl-C ended early, in scikit-learn's words.
INTERRUPTED = "Training interrupted by user."


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and name the line of the caller: the first outside softline and scikit-learn."""
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("softline", "sklearn"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


@dataclass
class StoppingRule:
    """Rule that ends a fit once the watched value, the lower the better, has stood still for too long.

    Attributes
    ----------
    tol : float or None
        Improvements of less than this do not count. None: a fit never stands still.
    patience : float
        Number of epochs in a row without improvement that ends the fit.
    ties : bool
        Whether an improvement of exactly `tol` counts: it does in scikit-learn's MLPClassifier.
    best : float, default=inf
        The least value so far.
    stale : int, default=0
        Epochs since the last improvement.
    """

    tol: float | None
    patience: float
    ties: bool
    best: float = np.inf
    stale: int = 0

    def update(self, value: float) -> bool:
        """Count the value of an epoch; return whether it is the least so far."""
        limit = self.best - (self.tol or 0)
        improved = value < limit or (self.ties and value == limit)
        self.stale = 0 if improved else self.stale + 1
        is_best = value < self.best
        self.best = min(value, self.best)
        return is_best

    def epochs_to_end(self, values: Sequence[float]) -> int:
        """Number of epochs of these values up to the one that ends the fit; all, if none does."""
        rule = replace(self)
        for n, value in enumerate(values, 1):
            rule.update(value)
            if rule.stands_still:
                return n
        return len(values)

    @property
    def epochs_left(self) -> float:
        """Number of epochs after which the rule may end the fit, whatever their values are."""
        return np.inf if self.tol is None else self.patience - self.stale

    @property
    def stands_still(self) -> bool:
        return self.epochs_left <= 0


class FitLoop:
    """Context of the steps of a fit, which reports them, keeps their history, and ends the fit at Ctrl-C.

    Parameters
    ----------
    model : TrainsByEpochs
    given : (X, y, sample_weight)
        What `fit` was given, validated.
    samples : Samples
        Training samples.
    keep : callable
        Puts the present weights onto the model, and returns its fitted attributes.
    accuracy : callable or None
        Returns the present validation accuracy; None without rows to validate on.
    callback : callable or None
    """

    def __init__(
        self,
        model: Any,
        given: tuple[Array, Array, Any],
        samples: Samples,
        keep: Callable[[], dict[str, Any]],
        accuracy: Callable[[], float] | None,
        callback: Callable[[Epoch], object] | None,
    ) -> None:
        self.model, self.keep, self.accuracy, self.callback = model, keep, accuracy, callback
        self.stopped = False  # by a callback, or by Ctrl-C
        self.progress = model._progress(len(samples), samples.X.dtype)
        model.n_iter_ = 0
        self.hooks = IterationHooks(model, *given, model.max_iter, keep)

    def __enter__(self) -> Self:
        self.bar = self.progress.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        interrupted = exc_type is not None and issubclass(exc_type, KeyboardInterrupt)
        self.progress.__exit__(*((None,) * 3 if interrupted else (exc_type, exc_value, traceback)))
        if interrupted:
            self.stopped = True
            warn(INTERRUPTED)
        if exc_type is None or interrupted:
            self.hooks.end(self.model.n_iter_)
        return interrupted

    def tell(self, loss: float, score: float | None, seconds: float) -> None:
        """Report the end of an epoch, or of a step of all rows, to the progress bar and the callbacks."""
        model = self.model
        if self.bar is not None:
            self.bar.update(model.n_iter_, loss, score, seconds)
        self.stopped |= self.hooks.next()
        if self.callback is not None:
            self.keep()
            self.stopped |= bool(self.callback(Epoch(model, model.n_iter_, loss, score, seconds)))

    @property
    def _is_heard(self) -> bool:
        """Whether anybody asks for a report, or an accuracy, after each epoch."""
        listeners = self.bar, self.callback, self.accuracy
        return self.hooks.active or any(listener is not None for listener in listeners)

    def descend(
        self,
        trainer: Trainer,
        samples: Samples,
        rule: StoppingRule,
        batch_callback: Callable[[Batch], object] | None,
        goes_on: bool,
    ) -> bool:
        """Train epoch by epoch until the rule or a callback ends it; return whether the rule did.

        With early stopping the best epoch's weights are kept; if the fit `goes_on` from earlier weights, also
        those where no epoch is better.
        """
        model, converged, best_layers = self.model, False, None
        if model.early_stopping and self.accuracy is not None and goes_on:
            rule.best, best_layers = -self.accuracy(), trainer.copy_of_model()

        def after_batch(batch: int, loss: float, rate: float) -> bool:
            assert batch_callback is not None
            self.keep()
            told = Batch(model, model.n_iter_ + 1, batch + 1, float(loss), float(rate))
            self.stopped = bool(batch_callback(told))
            return self.stopped

        trainer.after_batch = None if batch_callback is None else after_batch
        with self:
            one_by_one = self._is_heard or not model._keeps_rate
            try:
                while model.n_iter_ < model.max_iter and not (self.stopped or converged):
                    most = 1 if one_by_one else model.max_iter - model.n_iter_
                    losses, seconds = trainer.epochs(samples, model.n_iter_, most, rule)
                    model._after_epochs(trainer, len(losses) * len(samples))
                    score = model._record(losses, seconds, self.accuracy)
                    for loss in losses:
                        watched = -score if model.early_stopping and score is not None else loss
                        is_best = rule.update(watched)
                    if is_best and model.early_stopping:
                        best_layers = trainer.copy_of_model()
                    if rule.stands_still:
                        converged = not model._goes_on(trainer)
                        rule.stale = 0
                    self.tell(losses[-1], score, seconds)
            finally:
                if best_layers is not None:
                    trainer.restore(best_layers)
                    model._summarise(-rule.best)
                self.keep()
        return converged


class TrainsByEpochs(CallbackSupportMixin):
    """Mixin of estimators trained epoch by epoch.

    They have methods `_options()`, options of the trainer; `_encode(y, name)`, labels as the kernels take
    them; `_put(layers)`, which sets the fitted attributes from layers for rows as they came; and
    `_epoch_flops(n_rows)`, floating-point operations of an epoch, None if unknown.
    """

    n_iter_: int
    loss_curve_: list[float]
    epoch_seconds_: list[float]
    # None without rows to validate on, and for solvers without a rate.
    validation_scores_: list[float] | Any
    learning_rate_: float | Any
    # State of partial_fit; None if softline has not trained the model, or if it was loaded.
    _stream: Stream | None = None

    @staticmethod
    def _check_callbacks(**given: Callable[..., Any] | None) -> None:
        for name, callback in given.items():
            if callback is not None and not callable(callback):
                raise TypeError(f"{name} must be callable or None; got {callback!r}")

    def _progress(self, n_rows: int, dtype: np.dtype[Any]) -> AbstractContextManager[EpochProgress | None]:
        """Progress bar of epochs of `n_rows` rows, computed with in `dtype`; nothing unless `verbose`."""
        if not self.verbose:
            return nullcontext()
        from softline._training.progress import EpochProgress

        flops, peak = self._epoch_flops(n_rows), None
        if self.verbose > 1 and flops is not None:
            from softline._kernels.machine_limits import fma_peak

            peak = fma_peak(dtype.name, self.n_threads)
        return EpochProgress(self.max_iter, n_rows, flops or 0, peak)

    def _shared_options(self) -> dict[str, Any]:
        """Options of the trainer that all these estimators have parameters for."""
        alpha, l1_ratio = float(self.alpha), float(self.l1_ratio)
        return {
            "max_iter": self.max_iter,
            "l2": alpha * (1 - l1_ratio),
            "l1": alpha * l1_ratio,
            "label_smoothing": self.label_smoothing,
            "clip_norm": self.clip_norm,
            "max_norm": self.max_norm,
            "shuffle": self.shuffle,
            "n_threads": self.n_threads,
        }

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Accuracy on labels y (N,), or on the most probable classes of targets y (N, C).

        Parameters
        ----------
        X : (N, D) array-like
        y : (N,) array-like or (N, C) array-like
        sample_weight : (N,) array-like or None

        Returns
        -------
        accuracy : float
        """
        if np.ndim(y) == 2 and np.shape(y)[1] > 1 and not self._several:
            y = self.classes_[self._encode(np.asarray(y), "y").argmax(axis=1)]
        return cast(Any, super()).score(X, y, sample_weight)

    # ---- rows ------------------------------------------------------------------------------------------

    def _split(
        self, samples: Samples, eval_set: EvalSet | None, rng: np.random.RandomState
    ) -> tuple[Samples, Samples | None]:
        """Samples to train on, and to validate on if there are any."""
        if eval_set is not None:
            if not (isinstance(eval_set, (tuple, list)) and len(eval_set) == 2):
                raise ValueError("eval_set must be a pair (X, y)")
            X, y = self._validate(*eval_set, reset=False)
            return samples, Samples(X, self._encode(y, "the y of eval_set"))
        if not self._stops_early:
            return samples, None
        rows, strata = samples.rows, self._strata(samples.y)
        try:
            rows, held_out = train_test_split(
                rows,
                test_size=self.validation_fraction,
                random_state=rng,
                stratify=None if strata is None else strata[rows],
            )
        except ValueError as error:
            raise ValueError(
                f"early_stopping cannot hold out validation_fraction={self.validation_fraction} of "
                f"{len(rows)} rows with {len(self.classes_)} classes ({error}); pass eval_set=(X, y) to "
                "fit, a larger validation_fraction, or early_stopping=False"
            ) from error
        X, y, weight = samples.X, samples.y, samples.row_weight
        return Samples(X, y, weight, rows), Samples(X, y, None, held_out)

    def _strata(self, y: Array) -> Array | None:
        """Codes by which the validation split is stratified, or None."""
        return y.argmax(axis=1) if y.ndim == 2 else y

    @property
    def _stops_early(self) -> bool:
        return self.early_stopping

    def _trainer(
        self,
        samples: Samples,
        layers: Sequence[Layer],
        stream: Stream,
        rng: np.random.RandomState,
        *,
        resume: bool = False,
        drawn: bool = False,
    ) -> tuple[Trainer, Samples]:
        """Trainer of a fit, or of a partial_fit that must `resume` the stream; and the samples it trains on.

        `layers` are for rows as they came or, if newly `drawn`, for rows as they are trained on.
        """
        self._stream, X = stream, samples.X
        options: TrainerOptions = self._options()
        auto = options.learning_rate == "auto"
        if self.standardize or auto:
            samples = self._standardised(samples, stream.stats, options.fit_intercept)
        if not drawn:
            layers = samples.X.layers_from_array(layers)
        trainer = Trainer(layers, options, rng, X.dtype)
        if resume:
            trainer.resume(stream.states, samples.X)
        if auto:
            from_stream = (stream.auto or AutoStep()) if resume else None
            stream.auto = trainer.find_rate(samples, stream.stats, from_stream)
        return trainer, samples

    def _standardised(self, samples: Samples, stats: ColumnStats, center: bool) -> Samples:
        """Samples, counted in `stats`, with standardised features if the model wants them."""
        X = samples.X
        stats.update(X, samples.rows, samples.weights, self.n_threads)
        if not self.standardize:
            return samples
        return samples.standardised_as(Rows(X.array, *stats.standardization(center), X.dtype))

    # ---- epochs ----------------------------------------------------------------------------------------

    def _train_on(self, trainer: Trainer, samples: Samples) -> None:
        """Train for one epoch on samples of a stream."""
        try:
            losses, seconds = trainer.epochs(samples, self.n_iter_)
            self._after_epochs(trainer, len(samples))
            self._record(losses, seconds)
        finally:
            self._keep(trainer, samples.X)

    def _record(
        self, losses: list[float], seconds: float, accuracy: Callable[[], float] | None = None
    ) -> float | None:
        """Append epochs to the history; return the last's validation accuracy, None without validation rows.

        If Ctrl-C interrupts the accuracy, it is computed anew before Ctrl-C is raised, so that the history
        ends with the epoch of the weights.
        """
        self.n_iter_ += len(losses)
        self.loss_curve_ += losses
        self.epoch_seconds_ += [seconds] * len(losses)
        try:
            if accuracy is None:
                return None
            try:
                score = accuracy()
            except KeyboardInterrupt:
                self.validation_scores_.append(accuracy())
                raise
            self.validation_scores_.append(score)
            return score
        finally:
            self._summarise()

    @property
    def _keeps_rate(self) -> bool:
        """Whether `_after_epochs` leaves the learning rate as it is."""
        return True

    def _after_epochs(self, trainer: Trainer, n_rows: int) -> None:
        """Hook after epochs of descent, which took so many rows, before their history is kept."""

    def _goes_on(self, trainer: Trainer) -> bool:
        """Change how to descend, once descent stands still; return whether there is a change left."""
        return False

    def _summarise(self, best_score: float | None = None) -> None:
        """Set what follows from the history; `best_score` is that of weights kept by early stopping."""

    def _keep(self, trainer: Trainer, X: Rows) -> dict[str, Any]:
        """Set the fitted attributes, and keep in the stream what a next call needs; X is as trained on."""
        assert self._stream is not None
        self._put(X.layers_for_array(trainer.model))
        self._stream.remember(trainer, X)
        self.learning_rate_ = self._stream.rate
        return self._fitted()

    def _warn_of_max_iter(self) -> None:
        """Warn that more epochs may do better, unless the validation accuracy has stood still."""
        scores, last = self.validation_scores_ or [], max(self.n_iter_no_change, self.max_iter // 10)
        if len(scores) > last and max(scores[-last:]) <= max(scores[:-last]):
            return
        warn(
            f"stopped after max_iter={self.max_iter} epochs while still improving; raise max_iter, or pass "
            "tol=None to train for exactly that many.",
            ConvergenceWarning,
        )
