"""Arguments of the callbacks of `fit`, and a callback that keeps a history."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from softline._estimators.labels import encode
from softline._training.hooks import Batch, Epoch

__all__ = ["Batch", "Epoch", "History"]


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
