"""Callbacks of a fit: scikit-learn's protocol (since its 1.9), and the arguments of plain functions."""

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
        """Mixin without any effect."""


class IterationHooks:
    """Calls of an estimator's callbacks at its fit and at each iteration; no cost where there are none.

    As in scikit-learn's LogisticRegression, an iteration begins when the one before ends, so that the last
    one begins in vain.

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

    @property
    def active(self) -> bool:
        """Whether there are callbacks to tell."""
        return self.root is not None

    def _begin(self) -> None:
        self.iteration = self.root.subcontext(task_name="iter")
        self.iteration.call_on_fit_task_begin(**self.common, reconstruction_attributes=self.fitted())

    def next(self) -> bool:
        """End an iteration; return whether a callback asks to stop."""
        if self.root is None:
            return False
        stop = self.iteration.call_on_fit_task_end(**self.common, reconstruction_attributes=self.fitted())
        self._begin()
        return bool(stop)

    def end(self, n_iter: int) -> None:
        """End the fit after `n_iter` iterations."""
        if self.root is None:
            return
        if n_iter == 0:
            self.next()
        self.iteration.call_on_fit_task_end(estimator=self.common["estimator"])
        self.root.call_on_fit_task_end(**self.common, reconstruction_attributes={})


@dataclass(frozen=True)
class Epoch:
    """Argument of a `callback`, after an epoch.

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
    """Argument of a `batch_callback`, after a batch.

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
