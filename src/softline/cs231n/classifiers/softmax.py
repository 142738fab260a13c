"""The loss of `Softmax`, as a function."""

from __future__ import annotations

from softline import _kernels
from softline._typing import Array
from softline.cs231n.classifiers.linear_loss import penalised_loss

__all__ = ["softmax_loss_naive", "softmax_loss_vectorized"]


def softmax_loss_vectorized(W: Array, X: Array, y: Array, reg: float) -> tuple[float, Array]:
    """The mean cross-entropy of softmax probabilities, plus reg sum(W * W).

    Parameters
    ----------
    W : ndarray of shape (D, C)
    X : ndarray of shape (N, D)
    y : ndarray of shape (N,), int
        Labels in 0..C-1.
    reg : float
        L2 penalty, without 1/2; it takes in the row of W that is the bias.

    Returns
    -------
    loss : float
    dW : ndarray of float64, of shape (D, C)
    """
    return penalised_loss(_kernels.cross_entropy_gradient, W, X, y, reg)


def softmax_loss_naive(W: Array, X: Array, y: Array, reg: float) -> tuple[float, Array]:
    """The same as `softmax_loss_vectorized`: there are no loops to read here, only a name to call."""
    return softmax_loss_vectorized(W, X, y, reg)
