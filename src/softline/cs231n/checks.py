"""Checks of arrays that callers pass, and conversions for the kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from softline._kernels.rows import kernels_read
from softline._typing import Array


def as_rows(X: ArrayLike, name: str = "X", ndim: int = 2) -> Array:
    """Array of `ndim` axes that the kernels read; other dtypes are copied to float64."""
    X = np.asarray(X)
    if X.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes; got shape {X.shape}")
    if not (kernels_read(X.dtype) or X.dtype.kind in "iuf"):
        raise TypeError(f"{name} must hold real numbers; its dtype is {X.dtype}")
    return X if kernels_read(X.dtype) else X.astype(np.float64)


def as_labels(y: ArrayLike, n_rows: int) -> Array:
    """Labels of `n_rows` rows as the kernels read them: int32."""
    y = np.asarray(y)
    if y.shape != (n_rows,):
        raise ValueError(f"y must have one label for each of the {n_rows} rows; got shape {y.shape}")
    if n_rows == 0:
        raise ValueError("there must be rows; X has none")
    if y.dtype.kind not in "iu":
        raise ValueError(f"y must hold integers, the classes 0 to C-1; its dtype is {y.dtype}")
    if y.min() < 0 or y.max() > np.iinfo(np.int32).max:
        raise ValueError(f"y must hold the classes 0 to C-1; found {y.min() if y.min() < 0 else y.max()}")
    return y.astype(np.int32)


def check_weights(W: Array, X: Array) -> None:
    """Raise unless W (D, C) has a row for each feature of X (N, D)."""
    if W.ndim != 2 or len(W) != X.shape[1]:
        raise ValueError(f"X of shape {X.shape} needs W of shape ({X.shape[1]}, C); got {W.shape}")
    if W.dtype.kind != "f":
        raise TypeError(f"W must be of a float dtype; got {W.dtype}")
