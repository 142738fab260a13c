"""Pairs of layers: the course's ``layer_utils.py``."""

from __future__ import annotations

from typing import Any

from softline._typing import Array
from softline.cs231n.absent import absent
from softline.cs231n.layers import affine_backward, affine_forward, relu_backward, relu_forward

__all__ = ["affine_relu_backward", "affine_relu_forward"]


def affine_relu_forward(x: Array, w: Array, b: Array) -> tuple[Array, Any]:
    """Output of an affine layer and a relu, and the pair of their caches."""
    scores, affine_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(scores)
    return out, (affine_cache, relu_cache)


def affine_relu_backward(dout: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients dx, dw, db of `affine_relu_forward`."""
    affine_cache, relu_cache = cache
    return affine_backward(relu_backward(dout, relu_cache), affine_cache)


def __getattr__(name: str) -> Any:
    raise absent(__name__, name)
