"""Networks that a `Solver` trains: of two layers, as in the course since 2021, and of any number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, overload

import numpy as np

from softline._typing import Array
from softline.cs231n import layers
from softline.cs231n.classifiers.linear_loss import penalised, penalty, square_norm
from softline.cs231n.classifiers.saving import Saved
from softline.cs231n.classifiers.two_layers import TwoLayers
from softline.cs231n.layer_utils import affine_relu_backward, affine_relu_forward
from softline.cs231n.layers import (
    affine_backward,
    affine_forward,
    batchnorm_backward,
    batchnorm_forward,
    dropout_backward,
    dropout_forward,
    layernorm_backward,
    layernorm_forward,
    relu_backward,
    relu_forward,
    softmax_loss,
)
from softline.cs231n.layers import (
    batchnorm_backward_alt as batchnorm_backward_alt,
)
from softline.cs231n.layers import (
    svm_loss as svm_loss,
)

# The layers, too, because the course's notebooks import them from here by `import *`.
__all__ = ["FullyConnectedNet", "TwoLayerNet", "affine_relu_backward", "affine_relu_forward"]
__all__ += layers.__all__


class TwoLayerNet(Saved, TwoLayers):
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


class FullyConnectedNet(Saved):
    """Network of any depth: {affine, [normalisation], relu, [dropout]} x (L - 1), affine, softmax.

    Its loss has the penalty reg/2 sum(W * W) of all weights W; gamma, beta and biases are not penalised.

    Parameters
    ----------
    hidden_dims : sequence of int
        Units of each hidden layer.
    input_dim : int, default=3 * 32 * 32
    num_classes : int, default=10
    dropout_keep_ratio : float, default=1
        Probability of keeping a unit; 1: no dropout.
    normalization : {"batchnorm", "layernorm"} or None, default=None
    reg : float, default=0.0
    weight_scale : float, default=1e-2
        Standard deviation of the weights, drawn by np.random.randn, W1 first; biases and beta are 0, gamma 1.
    dtype : dtype, default=np.float32
        Dtype of the parameters and the computation; float64 for gradient checks.
    seed : int or None, default=None
        Seed of the dropout of each call, for gradient checks.

    Attributes
    ----------
    params : dict
        "W1", "b1", ..., "W<L>", "b<L>"; with normalisation "gamma1", "beta1", ..., "gamma<L-1>", "beta<L-1>".
    num_layers : int
        L, the number of affine layers.
    bn_params : list of dict
        Of each normalisation: mode and, of batch normalisation, running mean and variance.
    dropout_param : dict
    """

    def __init__(
        self,
        hidden_dims: Sequence[int],
        input_dim: int = 3 * 32 * 32,
        num_classes: int = 10,
        dropout_keep_ratio: float = 1,
        normalization: Literal["batchnorm", "layernorm"] | None = None,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: Any = np.float32,
        seed: int | None = None,
    ) -> None:
        if normalization not in (None, "batchnorm", "layernorm"):
            raise ValueError(f"normalization must be 'batchnorm', 'layernorm' or None; got {normalization!r}")
        self.normalization = normalization
        self.use_dropout = dropout_keep_ratio != 1
        self.reg = reg
        self.num_layers = 1 + len(hidden_dims)
        self.dtype = dtype
        self.params = {}
        for i, (n_in, n_out) in enumerate(pairwise((input_dim, *hidden_dims, num_classes)), 1):
            self.params[f"W{i}"] = (weight_scale * np.random.randn(n_in, n_out)).astype(dtype)
            self.params[f"b{i}"] = np.zeros(n_out, dtype)
            if normalization is not None and i < self.num_layers:
                self.params[f"gamma{i}"], self.params[f"beta{i}"] = (
                    np.ones(n_out, dtype),
                    np.zeros(n_out, dtype),
                )
        n_normalised = 0 if normalization is None else self.num_layers - 1
        self.bn_params: list[dict[str, Any]] = [{"mode": "train"} for _ in range(n_normalised)]
        self.dropout_param: dict[str, Any] = {}
        if self.use_dropout:
            self.dropout_param = {"mode": "train", "p": dropout_keep_ratio}
            if seed is not None:
                self.dropout_param["seed"] = seed

    @overload
    def loss(self, X: Array, y: None = None) -> Array: ...

    @overload
    def loss(self, X: Array, y: Array) -> tuple[float, dict[str, Array]]: ...

    def loss(self, X: Array, y: Array | None = None) -> Array | tuple[float, dict[str, Array]]:
        """Scores of X or, with y, the loss and its gradients, as of `TwoLayerNet`.

        With y, dropout and batch normalisation are in mode "train", else in mode "test".
        """
        for param in [*self.bn_params, self.dropout_param] if self.use_dropout else self.bn_params:
            param["mode"] = "test" if y is None else "train"
        out, caches = X.astype(self.dtype), []
        for i in range(1, self.num_layers):
            out, cache = self._hidden_forward(out, i)
            caches.append(cache)
        last = self.num_layers
        scores, cache = affine_forward(out, self.params[f"W{last}"], self.params[f"b{last}"])
        if y is None:
            return scores
        loss, dout = softmax_loss(scores, y)
        grads: dict[str, Array] = {}
        dout, grads[f"W{last}"], grads[f"b{last}"] = affine_backward(dout, cache)
        for i, cache in reversed(list(enumerate(caches, 1))):
            dout = self._hidden_backward(dout, cache, i, grads)
        for i in range(1, last + 1):
            W = self.params[f"W{i}"]
            loss += penalty(self.reg / 2, square_norm(W))
            grads[f"W{i}"] = penalised(grads[f"W{i}"], W, self.reg)
        return loss, grads

    def _hidden_forward(self, x: Array, i: int) -> tuple[Array, Any]:
        """Output of the hidden layer i, and the caches of its parts."""
        out, affine_cache = affine_forward(x, self.params[f"W{i}"], self.params[f"b{i}"])
        norm_cache = dropout_cache = None
        if self.normalization is not None:
            forward = batchnorm_forward if self.normalization == "batchnorm" else layernorm_forward
            out, norm_cache = forward(
                out, self.params[f"gamma{i}"], self.params[f"beta{i}"], self.bn_params[i - 1]
            )
        out, relu_cache = relu_forward(out)
        if self.use_dropout:
            out, dropout_cache = dropout_forward(out, self.dropout_param)
        return out, (affine_cache, norm_cache, relu_cache, dropout_cache)

    def _hidden_backward(self, dout: Array, cache: Any, i: int, grads: dict[str, Array]) -> Array:
        """Gradient to the input of the hidden layer i; those to its parameters go into `grads`."""
        affine_cache, norm_cache, relu_cache, dropout_cache = cache
        if self.use_dropout:
            dout = dropout_backward(dout, dropout_cache)
        dout = relu_backward(dout, relu_cache)
        if self.normalization is not None:
            backward = batchnorm_backward if self.normalization == "batchnorm" else layernorm_backward
            dout, grads[f"gamma{i}"], grads[f"beta{i}"] = backward(dout, norm_cache)
        dout, grads[f"W{i}"], grads[f"b{i}"] = affine_backward(dout, affine_cache)
        return dout
