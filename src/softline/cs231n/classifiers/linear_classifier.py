"""Linear classifiers, trained by stochastic gradient descent: the course's ``linear_classifier.py``."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from softline import _kernels
from softline._training.fit_loop import warn
from softline._typing import Array
from softline.cs231n.checks import as_labels, as_rows, check_weights
from softline.cs231n.classifiers.linear_loss import penalty
from softline.cs231n.classifiers.linear_svm import svm_loss_vectorized
from softline.cs231n.classifiers.saving import Saved
from softline.cs231n.classifiers.softmax import softmax_loss_vectorized

__all__ = ["LinearClassifier", "LinearSVM", "Softmax"]

# Iterations from one printed loss to the next, and of one call to the kernels.
PRINT_EVERY = 100


class LinearClassifier(Saved):
    """Linear classifier with scores X W, and a loss that a subclass defines.

    Attributes
    ----------
    W : ndarray of shape (D, C) or None
        Weights, float64; None before training. They may be set, and changed in place.
    """

    def __init__(self) -> None:
        self.W: Array | Any = None

    def train(
        self,
        X: Array,
        y: Array,
        learning_rate: float = 1e-3,
        reg: float = 1e-5,
        num_iters: int = 100,
        batch_size: int = 200,
        verbose: bool = False,
    ) -> list[float]:
        """Train by stochastic gradient descent, from W as it is.

        Where W is None, it becomes 0.001 np.random.randn(D, max(y) + 1). Batches are drawn with replacement
        by np.random.choice. The losses of `Softmax` and `LinearSVM` run in the kernels, a hundred iterations
        a call; a loss that a subclass defines is called for each batch. W moves in place.

        Parameters
        ----------
        X : ndarray of shape (N, D)
            Of any real dtype; float64, float32 and uint8 among others are read as they are.
        y : ndarray of shape (N,), int
            Labels in 0..C-1.
        learning_rate : float, default=1e-3
        reg : float, default=1e-5
            L2 penalty reg sum(W * W).
        num_iters : int, default=100
        batch_size : int, default=200
        verbose : bool, default=False
            Print the loss of every hundredth iteration.

        Returns
        -------
        loss_history : list of float
            Loss of each batch, with the penalty, before its update. One that is not finite is warned of.
        """
        X, y = np.asarray(X), np.asarray(y)
        rows = as_rows(X)
        labels = as_labels(y, len(X))
        if self.W is None:
            self.W = 0.001 * np.random.randn(X.shape[1], labels.max() + 1)
        check_weights(self.W, X)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        loss = _KERNEL_LOSSES.get(getattr(self.loss, "__func__", None))
        if loss is None:
            history = self._train_by_loss(X, y, learning_rate, reg, num_iters, batch_size, verbose)
        else:
            history = self._train_in_kernels(
                loss, rows, labels, learning_rate, reg, num_iters, batch_size, verbose
            )
        diverged = np.flatnonzero(~np.isfinite(history))
        if diverged.size:
            first = diverged[0]
            warn(
                f"training diverged: the loss is {history[first]} from iteration {first} on; "
                f"lower learning_rate or reg (learning_rate * reg is {learning_rate * reg:.3g}, "
                "and the penalty alone needs less than 1)",
                ConvergenceWarning,
            )
        return history

    def _train_by_loss(
        self,
        X: Array,
        y: Array,
        learning_rate: float,
        reg: float,
        num_iters: int,
        batch_size: int,
        verbose: bool,
    ) -> list[float]:
        loss_history = []
        for it in range(num_iters):
            batch = np.random.choice(len(X), batch_size)
            loss, grad = self.loss(X[batch], y[batch], reg)
            loss_history.append(loss)
            self.W -= learning_rate * grad
            if verbose and it % PRINT_EVERY == 0:
                print(f"iteration {it} / {num_iters}: loss {loss:f}")
        return loss_history

    def _train_in_kernels(
        self,
        loss: Literal["cross_entropy", "hinge"],
        X: Array,
        y: Array,
        learning_rate: float,
        reg: float,
        num_iters: int,
        batch_size: int,
        verbose: bool,
    ) -> list[float]:
        W = _kernels.padded(self.W.shape[1], self.W.shape[0], np.float64)
        W[...] = self.W.T
        b = np.zeros(len(W))  # fit_intercept=False leaves it at 0
        loss_history = []
        try:
            for first in range(0, num_iters, PRINT_EVERY):
                n = min(PRINT_EVERY, num_iters - first)
                batches = np.random.choice(len(X), n * batch_size)  # the same rows as n draws of batch_size
                rates, norms = np.full(n, learning_rate, np.float64), np.empty(n)
                losses = _kernels.epoch(
                    X,
                    y,
                    None,
                    batches.astype(np.intp, copy=False),
                    [(W, b)],
                    rates,
                    batch_size,
                    np.full(n, 2.0 * reg),
                    np.full(n, 1 / batch_size),
                    loss=loss,
                    fit_intercept=False,
                    square_norms=norms,
                )
                losses += penalty(reg, norms)
                loss_history += losses.tolist()
                if verbose:
                    print(f"iteration {first} / {num_iters}: loss {losses[0]:f}")
        finally:  # so that Ctrl-C keeps what was learned
            self.W[...] = W.T
        return loss_history

    def predict(self, X: Array) -> Array:
        """Class of the highest score of each row of X (N, D); the first of equals."""
        X = as_rows(X)
        if self.W is None:
            raise ValueError("there are no weights yet; call train, or set W")
        check_weights(self.W, X)
        Wt = np.ascontiguousarray(self.W.T, np.float64)
        scores = np.empty((len(X), len(Wt)))
        _kernels.scores(X, None, Wt, None, scores)
        return scores.argmax(axis=1)

    @property
    def _kept(self) -> dict[str, Array]:
        return {"W": self.W}

    @_kept.setter
    def _kept(self, params: dict[str, Array]) -> None:
        self.W = params["W"]

    def loss(self, X_batch: Array, y_batch: Array, reg: float) -> tuple[float, Array]:
        """Loss and its gradient to W, of a batch. Subclasses define it.

        Parameters
        ----------
        X_batch : ndarray of shape (N, D)
        y_batch : ndarray of shape (N,), int
        reg : float

        Returns
        -------
        loss : float
        grad : ndarray of shape (D, C)
        """
        raise NotImplementedError(
            "LinearClassifier has no loss; use Softmax, LinearSVM or a subclass with a loss"
        )


class LinearSVM(LinearClassifier):
    """Linear classifier with the multiclass hinge loss: `svm_loss_vectorized`."""

    def loss(self, X_batch: Array, y_batch: Array, reg: float) -> tuple[float, Array]:
        """As `svm_loss_vectorized`."""
        return svm_loss_vectorized(self.W, X_batch, y_batch, reg)


class Softmax(LinearClassifier):
    """Linear classifier with the cross-entropy of softmax probabilities: `softmax_loss_vectorized`."""

    def loss(self, X_batch: Array, y_batch: Array, reg: float) -> tuple[float, Array]:
        """As `softmax_loss_vectorized`."""
        return softmax_loss_vectorized(self.W, X_batch, y_batch, reg)


# Losses that the kernels train with; any other `loss` is called for each batch.
_KERNEL_LOSSES: dict[Any, Literal["hinge", "cross_entropy"]] = {
    LinearSVM.loss: "hinge",
    Softmax.loss: "cross_entropy",
}
