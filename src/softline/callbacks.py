"""What a fit tells while it runs: scikit-learn's callback protocol (since its 1.9), and plain functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from softline._estimators.labels import encode
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
        self.root: Any = None
        self.fitted = fitted
        if not hasattr(estimator, "_skl_callbacks"):
            return
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.common = dict(estimator=estimator, X=X, y=y, metadata=metadata)
        self.root = estimator._init_callback_context(max_subtasks=max(max_iter, 1) + 1)
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


class History:
    """A `callback` that keeps loss and accuracy on sets of rows after each epoch.

    Each set is predicted once an epoch, which takes about half as long as training on it.

    Parameters
    ----------
    **rows : (X, y) pairs
        Sets of rows, by the names to keep them under.

    Attributes
    ----------
    losses : dict of str to list of float
        Mean cross-entropy, without the penalty.
    scores : dict of str to list of float
        Accuracy, 0..1.

    Raises
    ------
    ValueError
        After the first epoch, if `y` has labels that the model does not know.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from softline import SoftmaxClassifier
    >>> from softline.callbacks import History
    >>> X, y = load_digits(return_X_y=True)
    >>> history = History(training=(X, y))
    >>> model = SoftmaxClassifier(max_iter=3, tol=None, random_state=0).fit(X, y, callback=history)
    >>> history.scores["training"][-1] == model.score(X, y)
    True
    """

    def __init__(self, **rows: tuple[ArrayLike, ArrayLike]) -> None:
        self.rows = {name: (X, np.asarray(y)) for name, (X, y) in rows.items()}
        self.losses: dict[str, list[float]] = {name: [] for name in rows}
        self.scores: dict[str, list[float]] = {name: [] for name in rows}

    def __call__(self, epoch: Epoch) -> None:
        classes = epoch.model.classes_
        for name, (X, y) in self.rows.items():
            codes, log_probs = encode(y, classes, name), epoch.model.predict_log_proba(X)
            self.losses[name].append(-float(np.mean(log_probs[np.arange(len(y)), codes], dtype=float)))
            self.scores[name].append(float(np.mean(log_probs.argmax(axis=1) == codes)))
