"""Base of both networks of two layers: affine, relu, affine, softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from softline import _kernels
from softline._typing import Array
from softline.cs231n.checks import as_labels
from softline.cs231n.classifiers.linear_loss import penalised, penalty, square_norm
from softline.cs231n.layers import dtype_of, flat

# Names of the parameters of each layer.
LAYERS = (("W1", "b1"), ("W2", "b2"))


class TwoLayers:
    """Parameters `params` and their loss. Weights are std np.random.randn, W1 first; biases are 0."""

    def __init__(self, n_inputs: int, n_hidden: int, n_outputs: int, std: float) -> None:
        self.params: dict[str, Array] = {
            "W1": std * np.random.randn(n_inputs, n_hidden),
            "b1": np.zeros(n_hidden),
            "W2": std * np.random.randn(n_hidden, n_outputs),
            "b2": np.zeros(n_outputs),
        }

    def _scores_or_loss(self, X: Array, y: Array | None, alpha: float) -> Any:
        """Scores of X or, with y, the loss with a penalty alpha/2 sum(W * W) and a dict of gradients."""
        params, rows = self.params, flat(X)
        dtype = dtype_of(X, *params.values())
        layers = [
            (np.ascontiguousarray(params[W].T, dtype), np.ascontiguousarray(params[b], dtype))
            for W, b in LAYERS
        ]
        if y is None:
            scores = np.empty((len(rows), len(layers[-1][1])), dtype)
            _kernels.network_scores(rows, None, layers, "relu", scores)
            return scores
        gradients = [(np.empty_like(W), np.empty_like(b)) for W, b in layers]
        loss = _kernels.gradients(
            rows, as_labels(y, len(rows)), None, None, layers, gradients, 1 / max(len(rows), 1)
        )
        grads: dict[str, Array] = {}
        for (W, b), (dW, db) in zip(LAYERS, gradients, strict=True):
            loss += penalty(alpha / 2, square_norm(params[W]))
            grads |= {W: penalised(dW.T, params[W], alpha), b: db}
        return loss, grads
