"""Loss of a linear classifier, by the kernel of any loss of scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from softline import _kernels
from softline._typing import Array
from softline.cs231n.checks import as_labels, as_rows, check_weights


def penalised_loss(
    gradient: Callable[..., None], W: Array, X: Array, y: Array, reg: float
) -> tuple[float, Array]:
    """Mean loss of the scores X W, plus reg sum(W * W), and its gradient to W.

    Parameters
    ----------
    gradient : callable
        Kernel of the loss, which turns scores into their gradient, in place.
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
    X = as_rows(X)
    y = as_labels(y, len(X))
    check_weights(W, X)
    Wt = np.ascontiguousarray(W.T, np.float64)
    scores, losses, dWt, unused = (
        np.empty(shape) for shape in ((len(X), len(Wt)), len(X), Wt.shape, len(Wt))
    )
    _kernels.scores(X, None, Wt, None, scores)
    gradient(scores, y, np.full(len(X), 1 / len(X)), losses)
    _kernels.gradient(X, None, scores, dWt, unused)
    return losses.mean() + penalty(reg, square_norm(W)), penalised(dWt.T, W, 2 * reg)


@np.errstate(over="ignore", invalid="ignore")
def penalty(reg: float, square_norms: Any) -> Any:
    """Products of reg and sums of squares; inf where they are too large for a float64."""
    return reg * square_norms


def square_norm(W: Array) -> float:
    """Sum of W * W, without a copy."""
    return np.einsum("ij,ij->", W, W)


@np.errstate(over="ignore", invalid="ignore")
def penalised(dW: Array, W: Array, alpha: float) -> Array:
    """Sum dW + alpha W, in the layout of W."""
    out = alpha * W
    out += dW
    return out
