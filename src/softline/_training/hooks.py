"""What a fit tells while it runs: scikit-learn's callback protocol (since its 1.9), and plain functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from softline._estimators._sklearn import callback_context
from softline._typing import Array

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupportMixin
except ImportError:  # older scikit-learn: estimators have no set_callbacks

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """No callbacks."""


class IterationHooks:
    """Tells an estimator's callbacks of its fit and of each iteration; costs nothing where there are none.

    An iteration begins as soon as the one before has ended, so the last begins in vain: as scikit-learn's
    LogisticRegression has it.

    Parameters
    ----------
    estimator : estimator
    X, y, sample_weight : what `fit` was given, validated
    max_iter : int
        Most iterations there may be.
    fitted : callable
        Returns the fitted attributes as they are at present: a dict.
    """

    def __init__(
        self,
        estimator: Any,
        X: Array,
        y: Array,
        sample_weight: Any,
        max_iter: int,
        fitted: Callable[[], dict[str, Any]],
    ) -> None:
        self.fitted = fitted
        self.root = callback_context(estimator, max(max_iter, 1) + 1)
        if self.root is None:
            return
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.common = dict(estimator=estimator, X=X, y=y, metadata=metadata)
        self.root.call_on_fit_task_begin(**self.common)
        self._begin()

    def _begin(self) -> None:
        self.iteration = self.root.subcontext(task_name="iter")
        self.iteration.call_on_fit_task_begin(**self.common, reconstruction_attributes=self.fitted())

    def next(self) -> bool:
        """An iteration has ended; true if a callback asks to stop."""
        if self.root is None:
            return False
        stop = self.iteration.call_on_fit_task_end(**self.common, reconstruction_attributes=self.fitted())
        self._begin()
        return bool(stop)

    def end(self, n_iter: int) -> None:
        """The fit has ended after `n_iter` iterations."""
        if self.root is None:
            return
        if n_iter == 0:
            self.next()
        self.iteration.call_on_fit_task_end(estimator=self.common["estimator"])
        self.root.call_on_fit_task_end(**self.common, reconstruction_attributes={})


@dataclass(frozen=True)
class Epoch:
    """What a `callback` is told after an epoch.

    Attributes
    ----------
    model : SoftmaxClassifier
        With the weights of this epoch, ready to predict.
    epoch : int
        Its number, from 1.
    loss : float
    validation_score : float or None
    seconds : float
        Wall time of the kernels.
    """

    model: Any
    epoch: int
    loss: float
    validation_score: float | None
    seconds: float


@dataclass(frozen=True)
class Batch:
    """What a `batch_callback` is told after a batch.

    Attributes
    ----------
    model : SoftmaxClassifier
        With the weights that this batch led to, ready to predict.
    epoch, batch : int
        The number of the epoch, and of the batch in it, from 1.
    loss : float
        Of this batch, before its update.
    learning_rate : float
        Of its update.
    """

    model: Any
    epoch: int
    batch: int
    loss: float
    learning_rate: float
