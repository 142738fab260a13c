"""Network of two layers, as in the course until 2020: it trains itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, overload

import numpy as np

from softline import _kernels
from softline._typing import Array
from softline.cs231n.checks import as_labels, as_rows
from softline.cs231n.classifiers.linear_classifier import PRINT_EVERY
from softline.cs231n.classifiers.linear_loss import penalty, square_norm
from softline.cs231n.classifiers.two_layers import LAYERS, TwoLayers

# Two functions: step(rows, learning_rate) returns a loss; store() writes the parameters back.
Steps: TypeAlias = tuple[Callable[[Array, float], float], Callable[[], None]]

__all__ = ["TwoLayerNet"]


class TwoLayerNet(TwoLayers):
    """Network of two layers, affine, relu, affine, softmax; its loss has the penalty reg sum(W * W).

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        D, H and C.
    std : float, default=1e-4
        Standard deviation of the weights, drawn by np.random.randn, W1 first; biases are 0.

    Attributes
    ----------
    params : dict
        "W1" (D, H), "b1" (H,), "W2" (H, C) and "b2" (C,).
    """

    def __init__(self, input_size: int, hidden_size: int, output_size: int, std: float = 1e-4) -> None:
        super().__init__(input_size, hidden_size, output_size, std)

    @overload
    def loss(self, X: Array, y: None = None, reg: float = 0.0) -> Array: ...

    @overload
    def loss(self, X: Array, y: Array, reg: float = 0.0) -> tuple[float, dict[str, Array]]: ...

    def loss(
        self, X: Array, y: Array | None = None, reg: float = 0.0
    ) -> Array | tuple[float, dict[str, Array]]:
        """Scores of X or, with y, the loss and its gradients.

        Parameters
        ----------
        X : ndarray of shape (N, D)
        y : ndarray of shape (N,) or None
        reg : float, default=0.0
            L2 penalty reg (sum(W1 * W1) + sum(W2 * W2)).

        Returns
        -------
        scores : ndarray of shape (N, C)
            Where y is None; else
        loss : float
        grads : dict
            Gradients under the names of `params`.
        """
        return self._scores_or_loss(X, y, 2 * reg)

    def train(
        self,
        X: Array,
        y: Array,
        X_val: Array,
        y_val: Array,
        learning_rate: float = 1e-3,
        learning_rate_decay: float = 0.95,
        reg: float = 5e-6,
        num_iters: int = 100,
        batch_size: int = 200,
        verbose: bool = False,
    ) -> dict[str, list[float]]:
        """Train by stochastic gradient descent; the parameters change in place.

        Batches are drawn with replacement by np.random.choice. Where a subclass has a `loss` of its own, that
        is called for each batch.

        Parameters
        ----------
        X, y : ndarrays of shape (N, D) and (N,)
        X_val, y_val : ndarrays of shape (n, D) and (n,)
        learning_rate : float, default=1e-3
        learning_rate_decay : float, default=0.95
            The learning rate is multiplied with it at each epoch, the first included.
        reg : float, default=5e-6
        num_iters : int, default=100
        batch_size : int, default=200
        verbose : bool, default=False
            Print the loss of every hundredth iteration.

        Returns
        -------
        history : dict
            "loss_history", the loss of each batch before its update; "train_acc_history", accuracies on a
            batch after its update, and "val_acc_history", on X_val: at the first iteration, and whenever the
            number of the iteration is a multiple of max(N / batch_size, 1).
        """
        X, y = np.asarray(X), np.asarray(y)
        rows, labels = as_rows(X), as_labels(y, len(X))
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        if getattr(self.loss, "__func__", None) is TwoLayerNet.loss:
            step, store = self._steps_in_kernels(rows, labels, reg, batch_size)
        else:
            step, store = self._steps_by_loss(X, y, reg)
        epoch = max(len(X) / batch_size, 1)
        losses, train_accs, val_accs = [], [], []
        try:
            for it in range(num_iters):
                batch = np.random.choice(len(X), batch_size).astype(np.intp, copy=False)
                losses.append(step(batch, learning_rate))
                if verbose and it % PRINT_EVERY == 0:
                    print(f"iteration {it} / {num_iters}: loss {losses[-1]:f}")
                if it % epoch == 0:
                    store()
                    train_accs.append(np.mean(self.predict(X[batch]) == y[batch]))
                    val_accs.append(np.mean(self.predict(X_val) == y_val))
                    learning_rate *= learning_rate_decay
        finally:  # so that Ctrl-C keeps what was learned
            store()
        return {"loss_history": losses, "train_acc_history": train_accs, "val_acc_history": val_accs}

    def _steps_by_loss(self, X: Array, y: Array, reg: float) -> Steps:
        """Steps by the `loss` of a subclass, which leave nothing to write back."""

        def step(batch: Array, learning_rate: float) -> float:
            loss, grads = self.loss(X[batch], y=y[batch], reg=reg)
            for name, gradient in grads.items():
                self.params[name] -= learning_rate * gradient
            return loss

        return step, lambda: None

    def _steps_in_kernels(self, X: Array, y: Array, reg: float, batch_size: int) -> Steps:
        """Steps in the kernels, with weights in their layout."""
        layers = [(_transposed(self.params[W]), np.array(self.params[b], np.float64)) for W, b in LAYERS]
        arena = _kernels.Arena()

        def step(batch: Array, learning_rate: float) -> float:
            of_weights = sum(penalty(reg, square_norm(W)) for W, _ in layers)
            rate, alpha, scale = (np.array([a], np.float64) for a in (learning_rate, 2 * reg, 1 / batch_size))
            (loss,) = _kernels.epoch(X, y, None, batch, layers, rate, batch_size, alpha, scale, arena=arena)
            return loss + of_weights

        def store() -> None:
            for (W, b), (weights, biases) in zip(LAYERS, layers, strict=True):
                self.params[W][...], self.params[b][...] = weights.T, biases

        return step, store

    def predict(self, X: Array) -> Array:
        """Class of the highest score of each row of X (N, D); the first of equals."""
        return self._scores_or_loss(X, None, 0).argmax(axis=1)


def _transposed(W: Array) -> Array:
    out = _kernels.padded(W.shape[1], W.shape[0], np.float64)
    out[...] = W.T
    return out
