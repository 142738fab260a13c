"""Layers of a network, forward and backward: the course's ``layers.py`` of its first assignment."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from softline import _kernels
from softline._typing import Array
from softline.cs231n.checks import as_labels, as_rows

__all__ = [
    "affine_backward",
    "affine_forward",
    "relu_backward",
    "relu_forward",
    "softmax_loss",
    "svm_loss",
]


def affine_forward(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    """Scores of an affine layer: out = x w + b, each x[i] read as a row.

    Parameters
    ----------
    x : ndarray of shape (N, d_1, ..., d_k)
    w : ndarray of shape (D, M), D = d_1 ... d_k
    b : ndarray of shape (M,)

    Returns
    -------
    out : ndarray of shape (N, M)
        float32 if x, w and b are, else float64.
    cache : tuple
        (x, w, b), for `affine_backward`.
    """
    rows = flat(x)
    if w.ndim != 2 or w.shape[0] != rows.shape[1] or b.shape != w.shape[1:]:
        raise ValueError(
            f"x of shape {x.shape} needs w of shape ({rows.shape[1]}, M) and b of shape (M,); "
            f"got {w.shape} and {b.shape}"
        )
    dtype = dtype_of(x, w, b)
    out = np.empty((len(rows), w.shape[1]), dtype)
    _kernels.scores(rows, None, np.ascontiguousarray(w.T, dtype), np.ascontiguousarray(b, dtype), out)
    return out, (x, w, b)


def affine_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of an affine layer, from the gradient to its output.

    Parameters
    ----------
    dout : ndarray of shape (N, M)
    cache : tuple
        (x, w, b), as from `affine_forward`.

    Returns
    -------
    dx : ndarray of the shape of x
    dw : ndarray of shape (D, M)
    db : ndarray of shape (M,)
    """
    x, w, _ = cache
    rows, dtype = flat(x), dtype_of(dout, *cache)
    if dout.shape != (len(rows), w.shape[1]):
        raise ValueError(
            f"dout must have the shape of the scores, {(len(rows), w.shape[1])}; got {dout.shape}"
        )
    dx = np.empty(rows.shape, dtype)
    _kernels.scores(np.ascontiguousarray(dout, dtype), None, np.ascontiguousarray(w, dtype), None, dx)
    dtype = dtype_of(dout, x)
    dw, db = np.empty(w.shape[::-1], dtype), np.empty(w.shape[1], dtype)
    _kernels.gradient(rows, None, np.ascontiguousarray(dout, dtype), dw, db)
    return dx.reshape(x.shape), np.ascontiguousarray(dw.T), db


def relu_forward(x: Array) -> tuple[Array, Array]:
    """Output max(0, x), and x as the cache for `relu_backward`; x may have any shape."""
    return np.maximum(0, x), x


def relu_backward(dout: Array, cache: Any) -> Array:
    """Gradient to the x in `cache`: dout where x is positive, else 0."""
    return np.where(cache > 0, dout, 0)


def softmax_loss(x: Array, y: Array) -> tuple[float, Array]:
    """Mean cross-entropy of scores, and its gradient to them.

    Parameters
    ----------
    x : ndarray of shape (N, C)
        Scores.
    y : ndarray of shape (N,), int
        Labels in 0..C-1.

    Returns
    -------
    loss : float
    dx : ndarray of shape (N, C)
    """
    return _mean_loss(_kernels.cross_entropy_gradient, x, y)


def svm_loss(x: Array, y: Array) -> tuple[float, Array]:
    """Mean multiclass hinge loss of scores, sum_j max(0, x_j - x_y + 1) over j != y, and its gradient.

    Parameters and returns are those of `softmax_loss`.
    """
    return _mean_loss(_kernels.hinge_gradient, x, y)


def _mean_loss(gradient: Callable[..., None], x: Array, y: Array) -> tuple[float, Array]:
    dx = np.array(as_rows(x, "x"), dtype_of(x), order="C")
    y, losses = as_labels(y, len(dx)), np.empty(len(dx), dx.dtype)
    gradient(dx, y, np.full(len(dx), 1 / len(dx), dx.dtype), losses)
    return losses.mean(dtype=np.float64), dx


def flat(x: Array) -> Array:
    """Reshape x (N, d_1, ..., d_k) to rows (N, D)."""
    return as_rows(np.reshape(x, (len(x), math.prod(x.shape[1:]))), "x")


def dtype_of(*arrays: Array) -> type[np.floating[Any]]:
    """Dtype of the computation: float32 if all arrays are, else float64."""
    return np.float32 if all(a.dtype == np.float32 for a in arrays) else np.float64
