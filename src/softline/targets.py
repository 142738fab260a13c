"""Targets given as rows of probabilities, in place of labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from softline._typing import Array

# How far a row of targets may be from a sum of 1: what rounding to float16 does.
TARGET_TOLERANCE = 1e-3


def n_columns(y: Any) -> int:
    """Columns of a matrix, 0 of anything else."""
    shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    return shape[1] if len(shape) == 2 else 0


def check_targets(y: Array, dtype: np.dtype[Any]) -> Array:
    """Rows of probabilities as the kernels read them, copied only if they are not.

    Raises
    ------
    ValueError
        If they are no probabilities.
    """
    if y.dtype.kind not in "buif":
        raise ValueError(f"y of shape {y.shape} must hold probabilities; its dtype is {y.dtype}")
    if y.min() < 0:
        row = int(y.min(axis=1).argmin())
        raise ValueError(f"y of shape {y.shape} must hold probabilities; row {row} has {y[row].min()}")
    sums = y.sum(axis=1, dtype=float)
    row = int(np.abs(sums - 1).argmax())
    if abs(sums[row] - 1) > TARGET_TOLERANCE:
        raise ValueError(
            f"y of shape {y.shape} must hold probabilities that sum to 1 in each row, within "
            f"{TARGET_TOLERANCE}; row {row} sums to {sums[row]:.6g}"
        )
    return np.asarray(y, dtype) if y.strides[1] == y.itemsize else np.ascontiguousarray(y, dtype)
