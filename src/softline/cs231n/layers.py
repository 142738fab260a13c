"""Layers of a fully connected network, forward and backward: the course's ``layers.py``.

Affine layers and losses run in the kernels; normalisation and dropout are plain NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from softline import _kernels
from softline._typing import Array
from softline.cs231n.absent import absent
from softline.cs231n.checks import as_labels, as_rows

__all__ = [
    "affine_backward",
    "affine_forward",
    "batchnorm_backward",
    "batchnorm_backward_alt",
    "batchnorm_forward",
    "dropout_backward",
    "dropout_forward",
    "layernorm_backward",
    "layernorm_forward",
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


def batchnorm_forward(x: Array, gamma: Array, beta: Array, bn_param: dict[str, Any]) -> tuple[Array, Any]:
    """Batch normalisation: each feature with mean 0 and variance 1 over the rows, then gamma x + beta.

    Ioffe and Szegedy, "Batch Normalization", 2015.

    Parameters
    ----------
    x : ndarray of shape (N, D)
    gamma, beta : ndarrays of shape (D,)
    bn_param : dict
        "mode": "train" takes mean and variance from the rows and adds them to the running ones, which "test"
        takes. "eps" = 1e-5 is added to the variance. "momentum" = 0.9: running = momentum running +
        (1 - momentum) found. "running_mean" and "running_var" (D,) are kept here, zeros at first.

    Returns
    -------
    out : ndarray of shape (N, D)
    cache : tuple or None
        For `batchnorm_backward`; None in mode "test".
    """
    eps, momentum = bn_param.get("eps", 1e-5), bn_param.get("momentum", 0.9)
    running_mean = bn_param.get("running_mean", np.zeros(x.shape[1], x.dtype))
    running_var = bn_param.get("running_var", np.zeros(x.shape[1], x.dtype))
    match bn_param["mode"]:
        case "train":
            out, cache, mean, variance = _normalise(x, gamma, beta, eps, axis=0)
            running_mean = momentum * running_mean + (1 - momentum) * mean
            running_var = momentum * running_var + (1 - momentum) * variance
        case "test":
            out, cache = gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta, None
        case mode:
            raise ValueError(f'Invalid forward batchnorm mode "{mode}"')
    bn_param["running_mean"], bn_param["running_var"] = running_mean, running_var
    return out, cache


def layernorm_forward(x: Array, gamma: Array, beta: Array, ln_param: dict[str, Any]) -> tuple[Array, Any]:
    """Layer normalisation: each row with mean 0 and variance 1 over its features, then gamma x + beta.

    Ba, Kiros and Hinton, "Layer Normalization", 2016.

    Parameters
    ----------
    x : ndarray of shape (N, D)
    gamma, beta : ndarrays of shape (D,)
    ln_param : dict
        "eps" = 1e-5 is added to the variance.

    Returns
    -------
    out : ndarray of shape (N, D)
    cache : tuple
        For `layernorm_backward`.
    """
    out, cache, _, _ = _normalise(x, gamma, beta, ln_param.get("eps", 1e-5), axis=1)
    return out, cache


def _normalise(x: Array, gamma: Array, beta: Array, eps: float, axis: int) -> tuple[Array, Any, Array, Array]:
    """Output, cache, mean and variance of a normalisation along an axis."""
    mean, variance = x.mean(axis=axis), x.var(axis=axis)
    scale = 1 / np.sqrt(np.expand_dims(variance, axis) + eps)
    normal = (x - np.expand_dims(mean, axis)) * scale
    return gamma * normal + beta, (normal, scale, gamma, axis), mean, variance


def layernorm_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients dx (N, D), dgamma (D,) and dbeta (D,) of a normalisation, from that to its output (N, D).

    With x' = (x - mean) / sigma, where mean and sigma depend on x, too:
    dx = (dx' - mean(dx') - x' mean(dx' x')) / sigma, means along the axis that was normalised.
    """
    normal, scale, gamma, axis = cache
    dnormal = dout * gamma
    along = dnormal.mean(axis=axis, keepdims=True)
    of_scale = normal * (dnormal * normal).mean(axis=axis, keepdims=True)
    return scale * (dnormal - along - of_scale), (dout * normal).sum(axis=0), dout.sum(axis=0)


# The course's name of the derivation by a graph, and that of the one on paper: the one on paper, both.
batchnorm_backward = batchnorm_backward_alt = layernorm_backward


def dropout_forward(x: Array, dropout_param: dict[str, Any]) -> tuple[Array, Any]:
    """Inverted dropout: values are kept with probability p and divided by it, or become 0.

    Srivastava et al., "Dropout", 2014.

    Parameters
    ----------
    x : ndarray of any shape
    dropout_param : dict
        "p": probability of keeping a value. "mode": "train" drops, "test" hands x on. "seed", if there: seeds
        NumPy's global generator, so that a gradient check sees the same mask each time.

    Returns
    -------
    out : ndarray of the shape and dtype of x
    cache : tuple
        (dropout_param, mask); the mask is None in mode "test".
    """
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    p, mask, out = dropout_param["p"], None, x
    if dropout_param["mode"] == "train":
        mask = (np.random.rand(*x.shape) < p) / p
        out = x * mask
    return out.astype(x.dtype, copy=False), (dropout_param, mask)


def dropout_backward(dout: Array, cache: Any) -> Array:
    """Gradient to the x of `dropout_forward`: dout where a value was kept, divided by p."""
    _, mask = cache
    return dout if mask is None else (dout * mask).astype(dout.dtype, copy=False)


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


def __getattr__(name: str) -> Any:
    raise absent(__name__, name)


def flat(x: Array) -> Array:
    """Reshape x (N, d_1, ..., d_k) to rows (N, D)."""
    return as_rows(np.reshape(x, (len(x), math.prod(x.shape[1:]))), "x")


def dtype_of(*arrays: Array) -> type[np.floating[Any]]:
    """Dtype of the computation: float32 if all arrays are, else float64."""
    return np.float32 if all(a.dtype == np.float32 for a in arrays) else np.float64
