"""Images side by side: the course's ``vis_utils.py``."""

from __future__ import annotations

import math

import numpy as np

from softline._typing import Array

__all__ = ["visualize_grid"]


def visualize_grid(Xs: Array, ubound: float = 255.0, padding: int = 1) -> Array:
    """Images in a square grid, row by row, each stretched to the range 0..ubound.

    Parameters
    ----------
    Xs : ndarray of shape (N, H, W, C)
    ubound : float, default=255.0
    padding : int, default=1
        Pixels of 0 between images.

    Returns
    -------
    grid : ndarray of float64, of shape (G H + (G - 1) padding, G W + (G - 1) padding, C), G = ceil(sqrt(N))
        An image of one value is 0.
    """
    n, height, width, channels = Xs.shape
    side = math.ceil(math.sqrt(n))
    low, high = (extreme(Xs, axis=(1, 2, 3), keepdims=True).astype(float) for extreme in (np.min, np.max))
    cells = np.zeros((side * side, height + padding, width + padding, channels))
    cells[:n, :height, :width] = ubound * (Xs - low) / np.where(high > low, high - low, 1)
    grid = cells.reshape(side, side, *cells.shape[1:]).swapaxes(1, 2)
    grid = grid.reshape(side * (height + padding), side * (width + padding), channels)
    return grid[: len(grid) - padding, : grid.shape[1] - padding]
