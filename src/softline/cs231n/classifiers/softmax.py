"""Loss of `Softmax`, as a function."""

from __future__ import annotations

from softline import _kernels
from softline._typing import Array
from softline.cs231n.classifiers.linear_loss import penalised_loss

__all__ = ["softmax_loss_naive", "softmax_loss_vectorized"]


def softmax_loss_vectorized(W: Array, X: Array, y: Array, reg: float) -> tuple[float, Array]:
    """Mean cross-entropy of softmax probabilities, plus reg sum(W * W).

    Parameters and returns are those of `linear_loss.penalised_loss`.
    """
    return penalised_loss(_kernels.cross_entropy_gradient, W, X, y, reg)


softmax_loss_naive = softmax_loss_vectorized  # the course's name of the same with loops
