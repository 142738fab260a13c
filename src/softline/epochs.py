"""What estimators that train by epochs share: callbacks, progress, rows to validate on, streams of rows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import train_test_split

from softline._typing import Array, EvalSet
from softline.callbacks import CallbackSupportMixin
from softline.rows import Rows

if TYPE_CHECKING:
    from softline.progress import EpochProgress

# What a fit that Ctrl-C ended early warns of, in scikit-learn's words.
INTERRUPTED = "Training interrupted by user."


class TrainsByEpochs(CallbackSupportMixin):
    """A mixin, for estimators with `max_iter`, `verbose`, `early_stopping` and `validation_fraction`.

    They have a method `_epoch_flops(n_rows)`: floating-point operations of an epoch, None if nobody counts.
    """

    n_iter_: int
    loss_curve_: list[float]
    epoch_seconds_: list[float]
    # None without rows to validate on, and for solvers without a rate.
    validation_scores_: list[float] | Any
    learning_rate_: float | Any

    @staticmethod
    def _check_callbacks(**given: Callable[..., Any] | None) -> None:
        for name, callback in given.items():
            if callback is not None and not callable(callback):
                raise TypeError(f"{name} must be callable or None; got {callback!r}")

    def _progress(self, n_rows: int, dtype: np.dtype[Any]) -> AbstractContextManager[EpochProgress | None]:
        """The progress of epochs of so many rows, computed with in `dtype`."""
        if not self.verbose:
            return nullcontext()
        from softline.progress import EpochProgress

        flops, peak = self._epoch_flops(n_rows), None
        if self.verbose > 1 and flops is not None:
            from softline.bench import fma_peak

            peak = fma_peak(dtype.name, self.n_threads)
        return EpochProgress(self.max_iter, n_rows, flops or 0, peak)

    def _score_epoch(
        self, accuracy: Callable[..., float], validation: tuple[Any, ...] | None
    ) -> float | None:
        """The validation accuracy of an epoch, put into the history; None without rows to validate on.

        If Ctrl-C comes meanwhile it is computed anew before that is raised: as the weights are of this epoch,
        so is the history.
        """
        if validation is None:
            return None
        try:
            score = accuracy(*validation)
        except KeyboardInterrupt:
            self.validation_scores_.append(accuracy(*validation))
            raise
        self.validation_scores_.append(score)
        return score

    def _hold_out(
        self, rows: Array, stratify: Array | None, rng: np.random.RandomState
    ) -> tuple[Array, Array]:
        """Rows to train on and rows to validate on; of `stratify`, codes or None, each has its share."""
        try:
            return train_test_split(
                rows, test_size=self.validation_fraction, random_state=rng, stratify=stratify
            )
        except ValueError as error:
            raise ValueError(
                f"early_stopping cannot hold out validation_fraction={self.validation_fraction} of "
                f"{len(rows)} rows with {len(self.classes_)} classes ({error}); pass eval_set=(X, y) to "
                "fit, a larger validation_fraction, or early_stopping=False"
            ) from error

    def _validate_eval_set(self, eval_set: EvalSet) -> tuple[Rows, Array, Array]:
        """X, its rows, and their codes."""
        if not (isinstance(eval_set, (tuple, list)) and len(eval_set) == 2):
            raise ValueError("eval_set must be a pair (X, y)")
        X, y = self._validate(*eval_set, reset=False)
        return X, np.arange(len(X)), self._encode(y, "the y of eval_set")
