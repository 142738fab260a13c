"""Network of two layers, as in the course since 2021: a `Solver` trains it."""

from __future__ import annotations

from typing import overload

import numpy as np

from softline._typing import Array
from softline.cs231n.classifiers.two_layers import TwoLayers
from softline.cs231n.layer_utils import affine_relu_backward, affine_relu_forward
from softline.cs231n.layers import (
    affine_backward,
    affine_forward,
    relu_backward,
    relu_forward,
    softmax_loss,
    svm_loss,
)

# The layers, too, because the course's notebooks import them from here by `import *`.
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


class TwoLayerNet(TwoLayers):
    """Network of two layers, affine, relu, affine, softmax; its loss has the penalty reg/2 sum(W * W).

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
        super().__init__(input_dim, hidden_dim, num_classes, weight_scale)
        self.reg = reg
        # Column-major, so that the kernels read the weights without a copy.
        self.params = {name: np.asfortranarray(w) for name, w in self.params.items()}

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
        return self._scores_or_loss(X, y, self.reg)
