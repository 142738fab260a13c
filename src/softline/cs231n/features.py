"""Features of images to train on instead of pixels: the course's ``features.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from softline._typing import Array

__all__ = ["color_histogram_hsv", "extract_features", "hog_feature", "rgb2gray"]

CELL = 8  # pixels on a side
ORIENTATIONS = 9


def extract_features(
    imgs: Array, feature_fns: Sequence[Callable[[Array], ArrayLike]], verbose: bool = False
) -> Array:
    """Extract several features of each image, side by side in one row.

    Parameters
    ----------
    imgs : ndarray of shape (N, H, W, C)
    feature_fns : list of callables
        Each makes a vector of an image (H, W, C), which has lost axes of length 1.
    verbose : bool, default=False
        Whether to print a line at every thousandth image.

    Returns
    -------
    features : ndarray of float64, of shape (N, the sum of their lengths)
    """
    rows = []
    for i, image in enumerate(imgs):
        parts = [np.asarray(feature(image.squeeze())) for feature in feature_fns]
        for feature, part in zip(feature_fns, parts, strict=True):
            if part.ndim != 1:
                raise ValueError(f"{feature!r} must return a vector; got an array of shape {part.shape}")
        rows.append(np.concatenate(parts))
        if verbose and i % 1000 == 999:
            print(f"Done extracting features for {i + 1} / {len(imgs)} images")
    return np.array(rows, dtype=np.float64)


def rgb2gray(rgb: Array) -> Array:
    """Grey image (H, W) of (H, W, 3): 0.299 red + 0.587 green + 0.144 blue, the course's weights (sic)."""
    return rgb[..., :3] @ np.array([0.299, 0.587, 0.144])


def hog_feature(im: Array) -> Array:
    """Histogram of oriented gradients of an image (H, W) or (H, W, 3) (Dalal and Triggs, 2005).

    Mean magnitude of the gradients, by forward differences, in each cell of 8x8 pixels and each of nine bins
    of 20 degrees. As in the course, the angle is atan2(dy, dx) + 90 degrees, and gradients with an angle
    outside 0..180 are in no bin.

    Returns
    -------
    feature : ndarray of shape (H // 8 * W // 8 * 9,), cells column by column
    """
    image = rgb2gray(im) if im.ndim == 3 else np.atleast_2d(im).astype(np.float64)
    dx, dy = np.zeros(image.shape), np.zeros(image.shape)
    dx[:, :-1] = np.diff(image, axis=1)
    dy[:-1] = np.diff(image, axis=0)
    angle = np.degrees(np.arctan2(dy, dx + 1e-15)) + 90
    bins = np.where(angle > 0, angle // (180 / ORIENTATIONS), -1)
    magnitude = np.where(bins == np.arange(ORIENTATIONS)[:, None, None], np.hypot(dx, dy), 0)
    rows, columns = (size // CELL for size in image.shape)
    cells = magnitude[:, : rows * CELL, : columns * CELL].reshape(ORIENTATIONS, rows, CELL, columns, CELL)
    return cells.mean(axis=(2, 4)).T.ravel()


def color_histogram_hsv(
    im: Array, nbin: int = 10, xmin: float = 0, xmax: float = 255, normalized: bool = True
) -> Array:
    """Histogram of the hue of an image (H, W, 3) of values xmin..xmax.

    Parameters
    ----------
    im : ndarray of shape (H, W, 3)
    nbin : int, default=10
    xmin, xmax : float, default=0 and 255
        Ends of the histogram; hue, 0..1, is scaled by xmax.
    normalized : bool, default=True
        Shares of the pixels, with sum 1; if not, counts times the width of a bin, as in the course.

    Returns
    -------
    histogram : ndarray of shape (nbin,)
    """
    counts, edges = np.histogram(
        _hue(im / xmax) * xmax, bins=np.linspace(xmin, xmax, nbin + 1), density=normalized
    )
    return counts * np.diff(edges)


def _hue(rgb: Array) -> Array:
    """Hue (H, W), 0..1, of colours (H, W, 3), as matplotlib.colors.rgb_to_hsv has it: 0 for grey."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    largest = rgb.max(axis=-1)
    span = largest - rgb.min(axis=-1)
    by = np.where(span > 0, span, 1)
    sector = np.select(
        [span == 0, blue == largest, green == largest],
        [0, 4 + (red - green) / by, 2 + (blue - red) / by],
        (green - blue) / by,
    )
    return sector / 6 % 1
