"""A network of two layers, as the course has it since 2021: a `Solver` trains it."""

from __future__ import annotations

from typing import overload

import numpy as np

from softline import _network
from softline._typing import Array
from softline.cs231n.checks import as_labels
from softline.cs231n.classifiers.linear_loss import penalised, square_norm
from softline.cs231n.layer_utils import affine_relu_backward, affine_relu_forward
from softline.cs231n.layers import (
    affine_backward,
    affine_forward,
    dtype_of,
    flat,
    relu_backward,
    relu_forward,
    softmax_loss,
    svm_loss,
)

# The course's notebooks get the layers from here, too, by `import *`.
__all__ = [
    "TwoLayerNet",
    "affine_backward",
    "affine_forward",
    "affine_relu_backward",
    "affine_relu_forward",
    "relu_backward",
    "relu_forward",
    "softmax_loss",
    "svm_loss",
]

# Names of the parameters of each layer.
LAYERS = (("W1", "b1"), ("W2", "b2"))


class TwoLayerNet:
    """Affine, relu, affine, softmax; the loss has the penalty reg/2 sum(W * W).

    Parameters
    ----------
    input_dim : int, default=3 * 32 * 32
    hidden_dim : int, default=100
    num_classes : int, default=10
    weight_scale : float, default=1e-3
        Standard deviation of the weights, drawn by np.random.randn, W1 first; biases are 0.
    reg : float, default=0.0
        L2 penalty, with 1/2, of W1 and W2.

    Attributes
    ----------
    params : dict
        "W1" (input_dim, hidden_dim), "b1", "W2" (hidden_dim, num_classes) and "b2".
    reg : float
    """

    def __init__(
        self,
        input_dim: int = 3 * 32 * 32,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
    ) -> None:
        self.reg = reg
        self.params: dict[str, Array] = {  # column-major, as the kernels read weights: no layer takes a copy
            "W1": np.asfortranarray(weight_scale * np.random.randn(input_dim, hidden_dim)),
            "b1": np.zeros(hidden_dim),
            "W2": np.asfortranarray(weight_scale * np.random.randn(hidden_dim, num_classes)),
            "b2": np.zeros(num_classes),
        }

    @overload
    def loss(self, X: Array, y: None = None) -> Array: ...

    @overload
    def loss(self, X: Array, y: Array) -> tuple[float, dict[str, Array]]: ...

    def loss(self, X: Array, y: Array | None = None) -> Array | tuple[float, dict[str, Array]]:
        """Scores of X or, with y, the loss and its gradients.

        Parameters
        ----------
        X : ndarray of shape (N, d_1, ..., d_k)
        y : ndarray of shape (N,) or None

        Returns
        -------
        scores : ndarray of shape (N, C)
            Where y is None; else
        loss : float
        grads : dict
            Gradients under the names of `params`.
        """
        return two_layer_loss(self.params, X, y, self.reg)


@overload
def two_layer_loss(params: dict[str, Array], X: Array, y: None, alpha: float) -> Array: ...


@overload
def two_layer_loss(
    params: dict[str, Array], X: Array, y: Array, alpha: float
) -> tuple[float, dict[str, Array]]: ...


def two_layer_loss(
    params: dict[str, Array], X: Array, y: Array | None, alpha: float
) -> Array | tuple[float, dict[str, Array]]:
    """What `TwoLayerNet.loss` returns, for a penalty alpha/2 sum(W * W)."""
    rows, dtype = flat(X), dtype_of(X, *params.values())
    layers = [
        (np.ascontiguousarray(params[W].T, dtype), np.ascontiguousarray(params[b], dtype)) for W, b in LAYERS
    ]
    if y is None:
        scores = np.empty((len(rows), len(layers[-1][1])), dtype)
        _network.network_scores(rows, None, layers, "relu", scores)
        return scores
    gradients = [(np.empty_like(W), np.empty_like(b)) for W, b in layers]
    loss = _network.network_gradient(rows, as_labels(y, len(rows)), None, None, layers, "relu", gradients)
    grads: dict[str, Array] = {}
    for (W, b), (dW, db) in zip(LAYERS, gradients, strict=True):
        loss += alpha / 2 * square_norm(params[W])
        grads |= {W: penalised(dW.T, params[W], alpha), b: db}
    return loss, grads
