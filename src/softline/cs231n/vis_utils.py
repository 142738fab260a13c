"""Images side by side: the course's ``vis_utils.py``."""

from __future__ import annotations

import math

import numpy as np

from softline._typing import Array

__all__ = ["visualize_grid"]


def visualize_grid(Xs: Array, ubound: float = 255.0, padding: int = 1) -> Array:
    """Images in a grid without gaps, row by row, each stretched to the range 0..ubound.

    The grid is as near to a square as the number of images allows. Where that is more than two and a half
    times as wide as high, it is one of ceil(sqrt(N)) columns, whose last row may end in black.

    Parameters
    ----------
    Xs : ndarray of shape (N, H, W, C)
    ubound : float, default=255.0
    padding : int, default=1
        Pixels of 0 between images.

    Returns
    -------
    grid : ndarray of float64, of shape (rows H + (rows - 1) padding, columns W + (columns - 1) padding, C)
        An image of one value is 0.
    """
    n, height, width, channels = Xs.shape
    rows = max(rows for rows in range(1, math.isqrt(n) + 1) if n % rows == 0)
    columns = n // rows
    if columns > 2.5 * rows:
        columns = math.ceil(math.sqrt(n))
        rows = math.ceil(n / columns)
    low, high = (extreme(Xs, axis=(1, 2, 3), keepdims=True).astype(float) for extreme in (np.min, np.max))
    cells = np.zeros((rows * columns, height + padding, width + padding, channels))
    cells[:n, :height, :width] = ubound * (Xs - low) / np.where(high > low, high - low, 1)
    grid = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    grid = grid.reshape(rows * (height + padding), columns * (width + padding), channels)
    return grid[: len(grid) - padding, : grid.shape[1] - padding]
