"""Loss of `LinearSVM`, as a function."""

from __future__ import annotations

from softline import _kernels
from softline._typing import Array
from softline.cs231n.classifiers.linear_loss import penalised_loss

__all__ = ["svm_loss_naive", "svm_loss_vectorized"]


def svm_loss_vectorized(W: Array, X: Array, y: Array, reg: float) -> tuple[float, Array]:
    """Mean multiclass hinge loss, sum_j max(0, s_j - s_y + 1) over j != y, plus reg sum(W * W).

    Parameters and returns are those of `linear_loss.penalised_loss`.
    """
    return penalised_loss(_kernels.hinge_gradient, W, X, y, reg)


svm_loss_naive = svm_loss_vectorized  # the course's name of the same with loops
